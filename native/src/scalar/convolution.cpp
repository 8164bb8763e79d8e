// Convolutions, plain: the specification of what every other kernel computes.
//
// The input is (height, width, in channels), the result (height, width, out channels). For a pixel of the result, an
// output o, plane p of the weights and plane q of the input (one each, but of bits):
//
// 1. Accumulator. acc_pq = Σ x_q[tap, i] · w_p[o, tap, i] over the taps of the window, row by row, and the inputs i of
//    o's group. Over codes x is code − zero point (of bits ±1) and the sum is exact; taps outside of the image are the
//    number 0, of bits its sign. In f32 each product and each sum is rounded; taps outside are left out.
// 2. Back-transformation. y = Σ f32(acc_pq) · m_pq + b, weight planes in turn, input planes in turn for each;
//    each product and each sum is rounded. f32 weights have no m.
// 3. to 5. What follows, up to codes: apply_epilogue (epilogue.cpp).
//
// The work goes pixel by pixel; weights are laid out so that the innermost loop runs along output channels, which keeps
// the order of each sum and lets compilers vectorize.
#include <cstring>

#include "../kernels.h"
#include "../shapes.h"

namespace pseg::scalar {
namespace {

bool is_code(const Instruction& it) {
    return it.weights.kind != WeightKind::f32 && it.weights.kind != WeightKind::bf16;
}

// (planes, o, tap, i) to (planes, tap, channel in, o of its group).
template <class To, class From>
void pack_weights(const std::vector<From>& from, const Instruction& it, Packed& packed) {
    const uint32_t in = it.reads[0].channels, outputs = group_outputs(it), inputs = group_inputs(it);
    packed.resize(from.size() * sizeof(To));
    size_t at = 0;
    for (uint32_t p = 0; p < it.weights.planes; ++p)
        for (uint32_t o = 0; o < it.channels; ++o)
            for (uint32_t t = 0; t < taps(it); ++t)
                for (uint32_t i = 0; i < inputs; ++i, ++at) {
                    const uint32_t channel = o / outputs * inputs + i;
                    const size_t place = ((size_t(p) * taps(it) + t) * in + channel) * outputs + o % outputs;
                    const To value = To(from[at]);
                    std::memcpy(packed.data() + place * sizeof(To), &value, sizeof(To));
                }
}

// One pixel's codes minus the zero point, of one plane.
void load_codes(const Tensor& from, const uint8_t* pixel, uint32_t plane, int32_t* to) {
    const Quantization& grid = *from.grid;
    switch (grid.type()) {
        case Type::u8:
            for (uint32_t c = 0; c < from.channels; ++c) to[c] = pixel[c] - grid.zero_point;
            break;
        case Type::s8:
            for (uint32_t c = 0; c < from.channels; ++c) to[c] = int8_t(pixel[c]) - grid.zero_point;
            break;
        case Type::bits:
            for (uint32_t c = 0; c < from.channels; ++c)
                to[c] = pixel[plane * from.plane + c / 8] >> (c % 8) & 1 ? 1 : -1;
            break;
        default:
            for (uint32_t c = 0; c < from.channels; ++c) {
                std::memcpy(to + c, pixel + 4 * size_t(c), 4);
                to[c] -= grid.zero_point;
            }
    }
}

// Where a tap tap_at; false outside of the image.
bool tap_at(const Window& window, uint32_t y, uint32_t x, uint32_t tap, const Tensor& in, uint32_t& row,
            uint32_t& column) {
    const int64_t r =
        int64_t(y) * window.stride[0] - window.padding[0] + int64_t(tap / window.kernel[1]) * window.dilation[0];
    const int64_t c =
        int64_t(x) * window.stride[1] - window.padding[1] + int64_t(tap % window.kernel[1]) * window.dilation[1];
    row = uint32_t(r), column = uint32_t(c);
    return r >= 0 && r < in.height && c >= 0 && c < in.width;
}

// 1. One tap of one plane: acc[o] += x[channel] · w[channel][o]
template <class Sum, class Number, class Weight>
void accumulate(const Instruction& it, const Number* x, const Weight* w, Sum* acc) {
    const uint32_t in = it.reads[0].channels, outputs = group_outputs(it), inputs = group_inputs(it);
    if (inputs == 1 && outputs == 1) {  // depthwise: one loop that compilers vectorize
        for (uint32_t c = 0; c < in; ++c) acc[c] += Sum(x[c]) * Sum(w[c]);
        return;
    }
    for (uint32_t group = 0; group < it.groups; ++group)
        for (uint32_t i = 0; i < inputs; ++i) {
            const Sum value = Sum(*x++);
            for (uint32_t o = 0; o < outputs; ++o) acc[group * outputs + o] += value * Sum(w[o]);
            w += outputs;
        }
}

// 2. Sums (weight planes, input planes, out channels) to y (out channels).
template <class Sum>
void back_transform(const Instruction& it, uint32_t inputs, const Sum* acc, float* y) {
    const uint32_t pairs = it.weights.planes * inputs, count = it.channels;
    for (uint32_t o = 0; o < count; ++o) y[o] = float(acc[o]) * it.m[o];
    for (uint32_t pair = 1; pair < pairs; ++pair)
        for (uint32_t o = 0; o < count; ++o) {
            const float part = float(acc[size_t(pair) * count + o]) * it.m[size_t(pair) * count + o];
            y[o] = y[o] + part;
        }
    for (uint32_t o = 0; o < count; ++o) y[o] = y[o] + it.b[o];
}

template <class Weight, class Sum>
uint64_t scratch_of_codes(const Program& program, const Instruction& it) {
    const uint64_t pairs = uint64_t(it.weights.planes) * planes_of(program.grid(it.reads[0]));
    return pairs * it.channels * sizeof(Sum) + 4 * uint64_t(it.channels) + 4 * uint64_t(it.reads[0].channels);
}

template <class Weight, class Sum>
void run_on_codes(Job& job) {
    const Instruction& it = job.it;
    const Tensor in = job.frame.tensor(it.reads[0]);
    const uint32_t inputs = planes_of(in.grid), count = it.channels, all = taps(it);
    const size_t sums = size_t(it.weights.planes) * inputs * count;
    Sum* acc = reinterpret_cast<Sum*>(job.scratch);
    float* y = reinterpret_cast<float*>(acc + sums);
    int32_t* x = reinterpret_cast<int32_t*>(y + count);
    const Weight* weights = reinterpret_cast<const Weight*>(job.op.packed.data());
    const size_t of_tap = size_t(in.channels) * (count / it.groups);
    for (uint32_t row = job.first; row < job.last; ++row)
        for (uint32_t column = 0; column < job.shape.width; ++column) {
            std::memset(acc, 0, sums * sizeof(Sum));
            for (uint32_t tap = 0; tap < all; ++tap) {
                uint32_t r, c;
                const bool inside = tap_at(it.window, row, column, tap, in, r, c);
                // The code of 0 is the number 0, but for signs.
                if (!inside && in.grid->kind != QuantizationKind::binary_planes) continue;
                for (uint32_t q = 0; q < inputs; ++q) {
                    if (inside)
                        load_codes(in, in.at(r, c), q, x);
                    else
                        for (uint32_t i = 0; i < in.channels; ++i) x[i] = in.grid->zero_planes >> q & 1 ? 1 : -1;
                    for (uint32_t p = 0; p < it.weights.planes; ++p)
                        accumulate(it, x, weights + (size_t(p) * all + tap) * of_tap,
                                   acc + (size_t(p) * inputs + q) * count);
                }
            }
            back_transform(it, inputs, acc, y);
            apply_epilogue(job, row, column, y);
        }
}

bool on_codes(const Program& program, const Instruction& it) {
    return it.kind == Kind::convolution && program.grid(it.reads[0]);
}

}  // namespace

// Weights of up to 8 bits over codes whose sums fit int32.
namespace convolution_codes {
bool fits(const Program& program, const Instruction& it) { return on_codes(program, it) && fits_in_bytes(program, it); }
void prepare(const Program&, const Instruction& it, Packed& packed) {
    pack_weights<int8_t>(it.weights.whole, it, packed);
}
uint64_t scratch(const Program& program, const Operator& op, Shape, Shape) {
    return scratch_of_codes<int8_t, int32_t>(program, *op.it);
}
void run(Job& job) { run_on_codes<int8_t, int32_t>(job); }
}  // namespace convolution_codes

// Any weights over any codes.
namespace convolution_wide {
bool fits(const Program& program, const Instruction& it) { return on_codes(program, it); }
void prepare(const Program&, const Instruction& it, Packed& packed) {
    pack_weights<int32_t>(it.weights.whole, it, packed);
}
uint64_t scratch(const Program& program, const Operator& op, Shape, Shape) {
    return scratch_of_codes<int32_t, int64_t>(program, *op.it);
}
void run(Job& job) { run_on_codes<int32_t, int64_t>(job); }
}  // namespace convolution_wide

// Signs over signs: acc = n − 2 · popcount(w xor x). Words of 64 channels, the bits behind the last channel 0 in both.
namespace convolution_bits_bits {
namespace {
uint32_t words(uint32_t channels) { return (channels + 63) / 64; }

// Bits of the word that are channels.
uint64_t mask(uint32_t channels, uint32_t word) {
    const uint32_t left = channels - 64 * word;
    return left >= 64 ? ~uint64_t(0) : (uint64_t(1) << left) - 1;
}

int ones(uint64_t word) { return __builtin_popcountll(word); }
}  // namespace

bool fits(const Program& program, const Instruction& it) {
    return on_codes(program, it) && program.type(it.reads[0]) == Type::bits && it.weights.kind == WeightKind::signs &&
           it.groups == 1 && it.reads[0].first % 64 == 0;
}

// (planes, o, tap, words)
void prepare(const Program&, const Instruction& it, Packed& packed) {
    const uint32_t in = it.reads[0].channels, count = words(in);
    const size_t rows = size_t(it.weights.planes) * it.channels * taps(it);
    std::vector<uint64_t> bits(rows * count);
    for (size_t row = 0; row < rows; ++row)
        for (uint32_t i = 0; i < in; ++i)
            if (it.weights.whole[row * in + i] > 0) bits[row * count + i / 64] |= uint64_t(1) << i % 64;
    packed.resize(8 * bits.size());
    std::memcpy(packed.data(), bits.data(), packed.size());
}

uint64_t scratch(const Program& program, const Operator& op, Shape, Shape) {
    return scratch_of_codes<uint64_t, int32_t>(program, *op.it);
}

void run(Job& job) {
    const Instruction& it = job.it;
    const Tensor in = job.frame.tensor(it.reads[0]);
    const uint32_t inputs = planes_of(in.grid), count = it.channels, all = taps(it), width = words(in.channels);
    const size_t sums = size_t(it.weights.planes) * inputs * count;
    int32_t* acc = reinterpret_cast<int32_t*>(job.scratch);
    float* y = reinterpret_cast<float*>(acc + sums);
    const uint64_t* weights = reinterpret_cast<const uint64_t*>(job.op.packed.data());
    for (uint32_t row = job.first; row < job.last; ++row)
        for (uint32_t column = 0; column < job.shape.width; ++column) {
            for (size_t i = 0; i < sums; ++i) acc[i] = int32_t(all * in.channels);
            for (uint32_t tap = 0; tap < all; ++tap) {
                uint32_t r, c;
                const bool inside = tap_at(it.window, row, column, tap, in, r, c);
                for (uint32_t q = 0; q < inputs; ++q)
                    for (uint32_t w = 0; w < width; ++w) {
                        uint64_t bits = in.grid->zero_planes >> q & 1 ? ~uint64_t(0) : 0;
                        if (inside) std::memcpy(&bits, in.at(r, c) + q * in.plane + 8 * size_t(w), 8);
                        bits &= mask(in.channels, w);
                        for (uint32_t p = 0; p < it.weights.planes; ++p)
                            for (uint32_t o = 0; o < count; ++o)
                                acc[(size_t(p) * inputs + q) * count + o] -=
                                    2 * ones(bits ^ weights[((size_t(p) * count + o) * all + tap) * width + w]);
                    }
            }
            back_transform(it, inputs, acc, y);
            apply_epilogue(job, row, column, y);
        }
}
}  // namespace convolution_bits_bits

// f32 input with weights of any kind: tap by tap, channel by channel, each product and each sum rounded.
namespace convolution_float {
bool fits(const Program& program, const Instruction& it) {
    return it.kind == Kind::convolution && !program.grid(it.reads[0]);
}

void prepare(const Program&, const Instruction& it, Packed& packed) {
    if (is_code(it))
        pack_weights<float>(it.weights.whole, it, packed);
    else
        pack_weights<float>(it.weights.f32, it, packed);
}

uint64_t scratch(const Program&, const Operator& op, Shape, Shape) {
    return 4 * (uint64_t(op.it->weights.planes) + 1) * op.it->channels;
}

void run(Job& job) {
    const Instruction& it = job.it;
    const Tensor in = job.frame.tensor(it.reads[0]);
    const uint32_t count = it.channels, all = taps(it), planes = it.weights.planes;
    float* acc = reinterpret_cast<float*>(job.scratch);
    float* y = acc + size_t(planes) * count;
    const float* weights = reinterpret_cast<const float*>(job.op.packed.data());
    const size_t of_tap = size_t(in.channels) * (count / it.groups);
    for (uint32_t row = job.first; row < job.last; ++row)
        for (uint32_t column = 0; column < job.shape.width; ++column) {
            std::memset(acc, 0, size_t(planes) * count * sizeof(float));
            for (uint32_t tap = 0; tap < all; ++tap) {
                uint32_t r, c;
                if (!tap_at(it.window, row, column, tap, in, r, c)) continue;
                for (uint32_t p = 0; p < planes; ++p)
                    accumulate(it, in.floats(r, c), weights + (size_t(p) * all + tap) * of_tap,
                               acc + size_t(p) * count);
            }
            if (is_code(it))
                back_transform(it, 1, acc, y);
            else
                for (uint32_t o = 0; o < count; ++o) y[o] = acc[o] + it.b[o];
            apply_epilogue(job, row, column, y);
        }
}
}  // namespace convolution_float

// The taps that reach a pixel, row by row, and the channels within a tap.
namespace transposed_float {
bool fits(const Program&, const Instruction& it) { return it.kind == Kind::transposed; }
void prepare(const Program&, const Instruction& it, Packed& packed) { pack_weights<float>(it.weights.f32, it, packed); }
uint64_t scratch(const Program&, const Operator& op, Shape, Shape) { return 4 * uint64_t(op.it->channels); }

void run(Job& job) {
    const Instruction& it = job.it;
    const Tensor in = job.frame.tensor(it.reads[0]);
    const Window& window = it.window;
    const uint32_t all = taps(it);
    float* acc = reinterpret_cast<float*>(job.scratch);
    const float* weights = reinterpret_cast<const float*>(job.op.packed.data());
    const size_t of_tap = size_t(in.channels) * (it.channels / it.groups);
    for (uint32_t row = job.first; row < job.last; ++row)
        for (uint32_t column = 0; column < job.shape.width; ++column) {
            std::memset(acc, 0, it.channels * sizeof(float));
            for (uint32_t tap = 0; tap < all; ++tap) {
                const int64_t r =
                    int64_t(row) + window.padding[0] - int64_t(tap / window.kernel[1]) * window.dilation[0];
                const int64_t c =
                    int64_t(column) + window.padding[1] - int64_t(tap % window.kernel[1]) * window.dilation[1];
                if (r < 0 || c < 0 || r % window.stride[0] || c % window.stride[1]) continue;
                const int64_t from_row = r / window.stride[0], from_column = c / window.stride[1];
                if (from_row >= in.height || from_column >= in.width) continue;
                accumulate(it, in.floats(uint32_t(from_row), uint32_t(from_column)), weights + tap * of_tap, acc);
            }
            for (uint32_t o = 0; o < it.channels; ++o) acc[o] = acc[o] + it.b[o];
            apply_epilogue(job, row, column, acc);
        }
}
}  // namespace transposed_float

}  // namespace pseg::scalar
