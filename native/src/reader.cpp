// Bytes to a checked program: after this, no number of a file can make a kernel leave its memory.
//
// Counts are bounded before they are used, the data section is consumed in order and to its last byte, and a channel of
// a buffer is written exactly once, before it is read.
#include "reader.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <iterator>
#include <limits>
#include <map>
#include <string_view>

#include "fault.h"
#include "sha256.h"
#include "shapes.h"

namespace pseg {
namespace {

constexpr uint8_t MAGIC[8] = {0x89, 'p', 's', 'e', 'g', '\r', '\n', 0x1a};
constexpr size_t DIGEST_AT = 48, HEADER_BYTES = 80;

// A section that is read from its start; numbers are little-endian on every machine.
class Cursor {
public:
    Cursor(const uint8_t* bytes, size_t length) : at_(bytes), left_(length) {}

    const uint8_t* take(uint64_t count) {
        if (count > left_) throw Fault(PSEG_DAMAGED, "the file is damaged: a section ends too soon");
        const uint8_t* found = at_;
        at_ += count, left_ -= size_t(count);
        return found;
    }
    uint64_t number(int bytes) {
        const uint8_t* from = take(uint64_t(bytes));
        uint64_t value = 0;
        for (int i = 0; i < bytes; ++i) value |= uint64_t(from[i]) << (8 * i);
        return value;
    }
    uint8_t u8() { return uint8_t(number(1)); }
    uint16_t u16() { return uint16_t(number(2)); }
    uint32_t u32() { return uint32_t(number(4)); }
    float f32() {
        const uint32_t bits = u32();
        float value;
        std::memcpy(&value, &bits, 4);
        if (!std::isfinite(value)) throw Fault(PSEG_DAMAGED, "the file is damaged: a constant is nan or inf");
        return value;
    }
    size_t left() const { return left_; }

private:
    const uint8_t* at_;
    size_t left_;
};

[[noreturn]] void damaged(const char* what) { throw Fault(PSEG_DAMAGED, "the file is damaged: %s", what); }

void require(bool good, const char* what) {
    if (!good) damaged(what);
}

// Which channels of a tensor are written: spans from first to end that neither touch nor overlap, so that a file takes
// a time in proportion to its bytes and not to the channels that it names.
class Written {
public:
    bool all(uint32_t first, uint32_t end) const {
        const auto next = spans_.upper_bound(first);
        return next != spans_.begin() && end <= std::prev(next)->second;
    }

    // False where one of them was written before.
    bool add(uint32_t first, uint32_t end) {
        auto next = spans_.lower_bound(first);
        if (next != spans_.end() && next->first < end) return false;
        if (next != spans_.begin() && std::prev(next)->second > first) return false;
        if (next != spans_.end() && next->first == end) end = next->second, next = spans_.erase(next);
        if (next != spans_.begin() && std::prev(next)->second == first)
            std::prev(next)->second = end;
        else
            spans_.emplace_hint(next, first, end);
        return true;
    }

private:
    std::map<uint32_t, uint32_t> spans_;
};

class Reader {
public:
    Reader(Cursor program, Cursor data, uint32_t version) : in_(program), data_(data), version_(version) {}

    ModelFile read() {
        program_.in_channels = in_.u16(), program_.out_channels = in_.u16(), program_.multiple = in_.u16();
        require(program_.in_channels && program_.out_channels && program_.multiple, "a net without channels");
        const size_t grids = in_.u16(), buffers = in_.u16(), instructions = in_.u16();
        // What is reserved is in proportion to the bytes that are there.
        require(3 * grids + 4 * buffers + 4 * instructions <= in_.left(), "a section ends too soon");
        if (version_ > 1) hints(instructions);
        // Pointers to grids are kept: the vector does not grow later.
        program_.grids.reserve(grids);
        for (size_t i = 0; i < grids; ++i) program_.grids.push_back(grid());
        program_.exact = grids > 0;
        if (buffers > MAX_BUFFERS)
            throw Fault(PSEG_TOO_LARGE, "the net has more than %llu tensors", (unsigned long long)MAX_BUFFERS);
        program_.buffers.reserve(buffers);
        for (size_t i = 0; i < buffers; ++i) program_.buffers.push_back(buffer());
        uint64_t channels = 0;
        for (const Buffer& each : program_.buffers) channels += each.channels;
        if (channels > MAX_CHANNELS)
            throw Fault(PSEG_TOO_LARGE, "the net has more than %llu channels", (unsigned long long)MAX_CHANNELS);
        written_.resize(buffers);
        program_.instructions.reserve(instructions);
        for (size_t i = 0; i < instructions; ++i) instruction(i, instructions);
        require(in_.left() == 0 && data_.left() == 0, "bytes are left over");
        require(instructions > 0 && program_.instructions.back().kind == Kind::output, "a net without an end");
        return {std::move(program_), std::move(hints_), {}};
    }

private:
    void hints(size_t instructions) {
        hints_.machine = name();
        const size_t names = in_.u8();
        require(names > 0, "no kernel is asked for");
        std::string_view named[256];  // by their numbers, from 1 on; 0 asks for none
        for (size_t i = 1; i <= names; ++i) named[i] = name();
        const uint8_t* numbers = in_.take(instructions);
        hints_.kernels = std::vector<std::string_view>(instructions);
        for (size_t i = 0; i < instructions; ++i) {
            require(numbers[i] <= names, "a kernel that is not there");
            hints_.kernels[i] = named[numbers[i]];
        }
    }

    std::string_view name() {
        const size_t length = in_.u8();
        const char* text = reinterpret_cast<const char*>(in_.take(length));
        require(length > 0, "a name of no length");
        require(length <= MAX_NAME_BYTES, "a name of too many bytes");
        for (size_t i = 0; i < length; ++i) require(text[i] > ' ' && text[i] <= '~', "a name that cannot be read");
        return {text, length};
    }

    Quantization grid() {
        Quantization grid;
        grid.kind = QuantizationKind(in_.u8());
        switch (grid.kind) {
            case QuantizationKind::uniform: {
                grid.zero_point = int32_t(in_.u32()), grid.lowest = int32_t(in_.u32()),
                grid.highest = int32_t(in_.u32());
                grid.scale = in_.f32(), grid.inverse_scale = in_.f32();
                const int32_t most = 1 << 24;  // whole numbers up to here are exact in f32
                require(-most <= grid.lowest && grid.lowest <= grid.zero_point && grid.zero_point <= grid.highest &&
                            grid.highest <= most && grid.scale > 0 && grid.inverse_scale > 0,
                        "a grid without order");
                break;
            }
            case QuantizationKind::powers_of_two:
                grid.i = in_.u8(), grid.f = in_.u8();
                require(grid.i + grid.f >= 1 && grid.i + grid.f <= 16, "a grid of too many powers");
                grid.scale = std::ldexp(1.0f, -grid.f);
                break;
            case QuantizationKind::binary_planes: {
                grid.planes = in_.u8();
                require(grid.planes >= 1 && grid.planes <= MAX_PLANES, "too many planes");
                float rest = 0;
                for (int q = 0; q < grid.planes; ++q) {
                    grid.gammas[q] = in_.f32();
                    require(grid.gammas[q] >= 0, "a negative gamma");
                    const bool plus = rest >= 0;
                    grid.zero_planes = uint8_t(grid.zero_planes | plus << q);
                    rest -= plus ? grid.gammas[q] : -grid.gammas[q];
                }
                break;
            }
            default:
                damaged("an unknown grid");
        }
        return grid;
    }

    const Quantization* grid_number() {
        const size_t number = in_.u16();
        require(number <= program_.grids.size(), "a grid that is not there");
        return number ? &program_.grids[number - 1] : nullptr;
    }

    Buffer buffer() {
        Buffer buffer;
        buffer.channels = in_.u16();
        buffer.grid = grid_number();
        require(buffer.channels > 0, "a tensor without channels");
        return buffer;
    }

    View view() {
        View view;
        view.buffer = in_.u16(), view.first = in_.u16(), view.channels = in_.u16();
        require(view.buffer < program_.buffers.size(), "a tensor that is not there");
        const Buffer& whole = program_.buffers[view.buffer];
        const uint32_t end = uint32_t(view.first) + view.channels;
        require(view.channels && end <= whole.channels, "channels that are not there");
        // Bits are written byte by byte.
        if (program_.type(view) == Type::bits)
            require(view.first % 8 == 0 && (end % 8 == 0 || end == whole.channels), "bits within a byte");
        return view;
    }

    View read_view() {
        const View found = view();
        require(written_[found.buffer].all(found.first, uint32_t(found.first) + found.channels),
                "a tensor is read before it is written");
        return found;
    }

    View written_view(uint32_t channels) {
        const View found = view();
        require(found.channels == channels, "a result in a tensor of other channels");
        require(written_[found.buffer].add(found.first, uint32_t(found.first) + channels), "a tensor is written twice");
        return found;
    }

    void instruction(size_t index, size_t count) {
        program_.instructions.emplace_back();
        Instruction& it = program_.instructions.back();
        const uint8_t kind = in_.u8();
        require(kind < KINDS, "an unknown operation");
        it.kind = Kind(kind);
        const size_t reads = in_.u8(), steps = in_.u8(), writes = in_.u8();
        require(reads == (it.kind == Kind::input ? 0 : 1), "an operation of other inputs");
        for (size_t i = 0; i < reads; ++i) it.reads.push_back(read_view());
        it.channels = reads ? it.reads[0].channels : program_.in_channels;
        const Type from = reads ? program_.type(it.reads[0]) : Type::f32;
        operation(it, from);
        require(steps == 0 || computes(it, from), "a step on codes");
        it.steps.reserve(steps);
        for (size_t i = 0; i < steps; ++i) it.steps.push_back(step(it));
        it.writes.reserve(writes);
        for (size_t i = 0; i < writes; ++i) it.writes.push_back(written_view(it.channels));
        if (it.kind == Kind::output) {
            require(index + 1 == count && writes == 0 && it.channels == program_.out_channels, "an end in the middle");
            return;
        }
        require(writes > 0, "a result that goes nowhere");
        for (const View& to : it.writes)
            require(computes(it, from) || program_.grid(to) == program_.grid(it.reads[0]), "codes of two grids");
    }

    // Whether it makes f32, or only moves codes.
    static bool computes(const Instruction& it, Type from) {
        const bool moves =
            it.kind == Kind::copy || it.kind == Kind::max_pool || it.kind == Kind::nearest || it.kind == Kind::pad;
        return !moves || from == Type::f32;
    }

    void operation(Instruction& it, Type from) {
        switch (it.kind) {
            case Kind::convolution:
            case Kind::transposed:
                convolution(it, from);
                return;
            case Kind::max_pool:
                it.window = window();
                for (int side = 0; side < 2; ++side) {
                    const uint32_t reached = reach(it.window, side);
                    require(it.window.padding[side] < reached && it.window.padding[side + 2] < reached,
                            "a pooling of padding only");
                }
                if (from == Type::bits) require(program_.grid(it.reads[0])->planes == 1, "a pooling of planes");
                return;
            case Kind::average_pool:
                it.window = window();
                for (int i = 0; i < 4; ++i) require(it.window.padding[i] == 0, "an average of padding");
                require(it.window.dilation[0] == 1 && it.window.dilation[1] == 1, "a spread average");
                break;
            case Kind::nearest:
            case Kind::bilinear:
                it.factor[0] = in_.u8(), it.factor[1] = in_.u8();
                require(it.factor[0] && it.factor[1], "a resize by 0");
                if (it.kind == Kind::nearest) return;
                it.align_corners = in_.u8();
                require(it.align_corners <= 1, "a switch that is neither on nor off");
                break;
            case Kind::pad:
                for (int i = 0; i < 4; ++i) it.window.padding[i] = in_.u8();
                return;
            case Kind::copy:
                return;
            default:
                break;
        }
        require(from == Type::f32, "an operation on codes");
    }

    Window window() {
        Window window;
        std::memcpy(&window, in_.take(10), 10);
        for (int i = 0; i < 2; ++i)
            require(window.kernel[i] && window.stride[i] && window.dilation[i], "a window of size 0");
        return window;
    }

    void convolution(Instruction& it, Type from) {
        const bool transposed = it.kind == Kind::transposed;
        it.window = window();
        if (transposed) {
            it.output_padding[0] = in_.u8(), it.output_padding[1] = in_.u8();
            require(from == Type::f32, "an operation on codes");
        }
        it.groups = in_.u16();
        it.channels = in_.u16();
        require(it.groups && it.channels && it.reads[0].channels % it.groups == 0 && it.channels % it.groups == 0,
                "groups that divide no channels");
        weights(it);
        const bool codes = it.weights.kind != WeightKind::f32 && it.weights.kind != WeightKind::bf16;
        require(codes || from == Type::f32, "f32 weights over codes");
        require(!codes || !transposed, "a transposed convolution of codes");
        const Quantization* grid = program_.grid(it.reads[0]);
        program_.exact |= codes;
        if (codes) it.m = constants(it.weights.planes * uint32_t(grid ? grid->planes : 1), it.channels);
        it.b = constants(1, it.channels);
        if (grid && it.weights.largest_sum * double(grid->largest()) > MAX_SUM)
            throw Fault(PSEG_TOO_LARGE, "the sums of a convolution do not fit 53 bits");
    }

    void weights(Instruction& it) {
        const uint8_t kind = in_.u8(), bits = in_.u8(), planes = in_.u8();
        require(kind <= uint8_t(WeightKind::signs), "unknown weights");
        Weights& to = it.weights;
        to.kind = WeightKind(kind), to.planes = planes;
        const int exact[] = {32, 16, 0, 0, 1};
        const int most[] = {32, 16, 24, 6, 1};
        require(bits >= (exact[kind] ? exact[kind] : 2) && bits <= most[kind], "weights of too many bits");
        require(planes >= 1 && planes <= (to.kind == WeightKind::signs ? MAX_PLANES : 1), "too many planes");
        // At most 2^16 · 2^16 · 2^16 · planes: no overflow.
        const uint64_t of_channel =
            uint64_t(it.window.kernel[0]) * it.window.kernel[1] * (it.reads[0].channels / it.groups);
        const uint64_t all = of_channel * it.channels;
        weights_ += all * planes;
        if (weights_ > MAX_WEIGHTS)
            throw Fault(PSEG_TOO_LARGE, "the net has more than %llu weights", (unsigned long long)MAX_WEIGHTS);
        const size_t count = size_t(all);
        if (to.kind == WeightKind::f32) {
            to.f32 = floats(count);
        } else if (to.kind == WeightKind::bf16) {
            const uint8_t* from = data_.take(2 * count);
            to.f32.resize(count);
            for (size_t j = 0; j < count; ++j) {
                const uint32_t wide = uint32_t(from[2 * j]) << 16 | uint32_t(from[2 * j + 1]) << 24;
                std::memcpy(&to.f32[j], &wide, 4);
                require(std::isfinite(to.f32[j]), "a weight is nan or inf");
            }
        } else {
            for (uint32_t plane = 0; plane < planes; ++plane) codes(to, bits, count);
            for (size_t first = 0; first < to.whole.size(); first += size_t(of_channel)) {
                double sum = 0;
                for (size_t j = 0; j < of_channel; ++j) sum += std::fabs(double(to.whole[first + j]));
                if (sum > to.largest_sum) to.largest_sum = sum;
            }
        }
    }

    // One plane of n-bit numbers, least significant bit first.
    void codes(Weights& to, int bits, size_t count) {
        const uint64_t size = stream_bytes(count, bits);
        const uint8_t* from = data_.take(size);
        for (uint64_t bit = count * uint64_t(bits); bit < 8 * size; ++bit)
            require(!(from[bit / 8] >> (bit % 8) & 1), "padding bits are set");
        to.whole.reserve(to.whole.size() + count);
        for (uint64_t j = 0; j < count; ++j) {
            uint32_t code = 0;
            for (int k = 0; k < bits; ++k) {
                const uint64_t bit = j * uint64_t(bits) + uint64_t(k);
                code |= uint32_t(from[bit / 8] >> (bit % 8) & 1) << k;
            }
            to.whole.push_back(meaning(to.kind, code, bits));
        }
    }

    static int32_t meaning(WeightKind kind, uint32_t code, int bits) {
        if (kind == WeightKind::signs) return code ? 1 : -1;
        const int32_t number = int32_t(code) - (code >> (bits - 1) ? int32_t(1) << bits : 0);
        if (kind == WeightKind::integers || number == 0) return number;
        const int power = number < 0 ? -number - 1 : number - 1;
        require(power < 16, "a power that is too large");
        return number < 0 ? -(int32_t(1) << power) : int32_t(1) << power;
    }

    std::vector<float> floats(size_t count) {
        Cursor values(data_.take(4 * uint64_t(count)), 4 * count);
        std::vector<float> out(count);
        for (float& value : out) value = values.f32();
        return out;
    }

    // Rows of constants: each f32, one f32 for a whole row, or halves with an exponent that the row shares.
    std::vector<float> constants(uint32_t rows, uint32_t channels) {
        const uint8_t form = in_.u8();
        const uint64_t all = uint64_t(rows) * channels;
        constants_ += all;
        if (constants_ > MAX_CONSTANTS)
            throw Fault(PSEG_TOO_LARGE, "the net has more than %llu constants", (unsigned long long)MAX_CONSTANTS);
        const size_t count = size_t(all);
        if (form == 0) return floats(count);
        std::vector<float> out(count);
        for (uint32_t row = 0; row < rows; ++row) {
            float* to = out.data() + size_t(row) * channels;
            if (form == 1) {
                std::fill(to, to + channels, data_.f32());
            } else {
                require(form == 2, "constants of unknown form");
                const int exponent = int16_t(data_.u16());
                for (uint32_t c = 0; c < channels; ++c) to[c] = half(data_.u16(), exponent);
            }
        }
        return out;
    }

    static float half(uint32_t bits, int exponent) {
        const int power = int(bits >> 10 & 31), mantissa = int(bits & 1023);
        require(power < 31, "a constant is nan or inf");
        const float value = power ? std::ldexp(float(1024 + mantissa), power - 25 + exponent)
                                  : std::ldexp(float(mantissa), exponent - 24);
        require(std::isfinite(value), "a constant is nan or inf");
        return bits >> 15 ? -value : value;
    }

    Step step(const Instruction& it) {
        Step step;
        const uint8_t kind = in_.u8();
        require(kind < STEP_KINDS, "an unknown step");
        step.kind = StepKind(kind);
        switch (step.kind) {
            case StepKind::affine:
                step.m = constants(1, it.channels), step.b = constants(1, it.channels);
                break;
            case StepKind::clip:
                step.low = in_.f32(), step.high = in_.f32();
                require(step.low <= step.high, "a clip without order");
                break;
            case StepKind::ternary_tanh:
                step.beta = in_.f32();
                break;
            case StepKind::add:
            case StepKind::multiply:
                step.view = read_view();
                require(step.view.channels == it.channels && program_.type(step.view) == Type::f32,
                        "two tensors that do not fit");
                break;
            case StepKind::fake_quantize:
                step.grid = grid_number();
                require(step.grid, "a step without its grid");
                break;
            default:
                break;
        }
        return step;
    }

    Cursor in_, data_;
    uint32_t version_;
    Program program_;
    KernelHints hints_;
    std::vector<Written> written_;  // of each buffer
    uint64_t weights_ = 0, constants_ = 0;
};

}  // namespace

ModelFile read_model(const uint8_t* bytes, size_t length) {
    if (length < sizeof MAGIC || std::memcmp(bytes, MAGIC, sizeof MAGIC) != 0)
        throw Fault(PSEG_NOT_A_MODEL, "the bytes are not a packed model");
    if (length > MAX_FILE_BYTES)
        throw Fault(PSEG_TOO_LARGE, "the file has more than %llu bytes", (unsigned long long)MAX_FILE_BYTES);
    require(length >= HEADER_BYTES, "it is truncated");
    Cursor header(bytes + sizeof MAGIC, DIGEST_AT - sizeof MAGIC);
    const uint32_t version = header.u32(), zero = header.u32();
    if (version > FORMAT_VERSION)
        throw Fault(PSEG_TOO_NEW, "the file is of version %u, newer than %u", version, FORMAT_VERSION);
    require(version > 0 && zero == 0, "its header is wrong");
    uint64_t sizes[4];
    for (uint64_t& size : sizes) size = header.number(8);
    require(sizes[0] == length, "it is truncated");
    uint64_t left = length - HEADER_BYTES;
    for (int i = 1; i < 4; ++i) {
        require(sizes[i] <= left, "its sections are longer than it is");
        left -= sizes[i];
    }
    require(left == 0, "its sections are shorter than it is");
    Sha256 digest;
    digest.add(bytes, DIGEST_AT);
    digest.add(bytes + HEADER_BYTES, length - HEADER_BYTES);
    const auto found = digest.digest();
    require(std::memcmp(found.data(), bytes + DIGEST_AT, found.size()) == 0, "its digest is wrong");
    const uint8_t* program = bytes + HEADER_BYTES + sizes[1];
    ModelFile file =
        Reader(Cursor(program, size_t(sizes[2])), Cursor(program + sizes[2], size_t(sizes[3])), version).read();
    file.card = {reinterpret_cast<const char*>(bytes) + HEADER_BYTES, size_t(sizes[1])};
    return file;
}

}  // namespace pseg
