// Operations without weights, row by row. Where a tensor holds codes they are moved as they are.
#include "pixel_epilogue.h"

namespace pseg::PSEG_ISA {
namespace {

uint64_t one_pixel(const Instruction& it) { return 4 * uint64_t(padded(it.channels)); }

// Whether pixels are moved as bytes: codes, and of bits whole bytes, or f32 that nothing follows.
bool as_bytes(const Program& program, const Instruction& it) {
    const Type type = program.type(it.reads[0]);
    if (type == Type::bits && it.channels % 8) return false;
    if (type != Type::f32) return true;
    for (const View& view : it.writes)
        if (program.grid(view)) return false;
    return it.steps.empty();
}

// Moves pixels as bytes, plane by plane.
struct Mover {
    size_t bytes, from_plane = 0, to_plane, tail;
    uint32_t planes = 1;

    Mover(const Tensor& from, const Tensor& to) : bytes(from.channels), to_plane(to.plane), tail(to.tail) {
        const Type type = from.grid ? from.grid->type() : Type::f32;
        if (type == Type::bits)
            bytes = from.channels / 8, planes = uint32_t(from.grid->planes), from_plane = from.plane;
        else if (type == Type::s32 || type == Type::f32)
            bytes *= 4;
    }
    // Whether a pixel is one piece of so many bytes.
    template <size_t SIZE>
    bool is_a() const {
        return bytes == SIZE && planes == 1 && !tail;
    }

    void operator()(uint8_t* to, const uint8_t* from) const {
        for (uint32_t q = 0; q < planes; ++q, to += to_plane, from += from_plane) {
            copy_bytes(to, from, bytes);
            if (tail) std::memset(to + bytes, 0, tail);
        }
    }
};

template <size_t SIZE>
INLINE inline void moved(uint8_t* to, const uint8_t* from) {
    __builtin_memcpy(to, from, SIZE);
}

// A row of pixels, each `right` times.
template <class Move>
INLINE inline void repeated(const Tensor& in, const uint8_t* from, uint32_t right, size_t step, uint8_t* to,
                            Move move) {
    for (uint32_t x = 0; x < in.width; ++x, from += in.pixel)
        for (uint32_t k = 0; k < right; ++k, to += step) move(to, from);
}

uint32_t factor(const Instruction& it, int side) { return it.kind == Kind::nearest ? it.factor[side] : 1; }

// Pixels that change between planes and channels side by side at a time, so that both stay in the nearest cache.
constexpr uint32_t TRANSPOSE_BLOCK = 16;

float* row_of(const Job& job) { return reinterpret_cast<float*>(job.scratch); }

}  // namespace

// The image: one channel is done many pixels at a time, where it becomes bytes.
namespace image {
bool fits(const Program&, const Instruction& it) { return it.kind == Kind::input; }
void prepare(const Program&, const Instruction&, Packed&) {}
uint64_t scratch(const Program&, const Operator& op, Shape, Shape) { return TRANSPOSE_BLOCK * one_pixel(*op.it); }

void run(Job& job) {
    const size_t plane = size_t(job.shape.height) * job.shape.width;
    PixelEpilogue per_pixel(job);
    F32 trace = {};
    const Instruction& it = job.it;
    const uint32_t pixel = padded(it.channels);
    const bool one = it.channels == 1 && it.steps.empty() && it.writes.size() == 1;
    for (uint32_t y = job.first; y < job.last; ++y) {
        const float* from = job.frame.image + size_t(y) * job.shape.width;
        uint32_t x = 0;
        if (one) {
            const Tensor to = job.frame.tensor(it.writes[0]);
            const bool bytes = is_bytes(to.grid);
            const Codes codes = bytes ? codes_of(*to.grid) : Codes{};
            for (; !to.grid && to.pixel == 4 && x + LANES <= job.shape.width; x += LANES) {
                const F32 v = load<F32>(from + x);
                trace += v * 0;
                store(to.at(y, x), v);
            }
            for (; bytes && to.pixel == 1 && x + BYTES <= job.shape.width; x += BYTES) {
                I32 four[4];
                for (uint32_t i = 0; i < 4; ++i) {
                    const F32 v = load<F32>(from + x + i * LANES);
                    trace += v * 0;
                    four[i] = code(codes, v);
                }
                store(to.at(y, x), pack(four[0], four[1], four[2], four[3], codes.zero) ^ codes.flip);
            }
        }
        for (uint32_t count; x < job.shape.width; x += count) {
            count = job.shape.width - x < TRANSPOSE_BLOCK ? job.shape.width - x : TRANSPOSE_BLOCK;
            for (uint32_t c = 0; c < it.channels; ++c) {
                const float* row = from + c * plane + x;
                for (uint32_t i = 0; i < count; ++i) row_of(job)[i * pixel + c] = row[i];
                for (uint32_t i = 0; i < count; i += LANES) trace += partial_load(row + i, count - i) * 0;
            }
            for (uint32_t i = 0; i < count; ++i) per_pixel(y, x + i, row_of(job) + i * pixel);
        }
    }
    job.finite &= all_zero(trace);
}
}  // namespace image

namespace logits {
bool fits(const Program&, const Instruction& it) { return it.kind == Kind::output && it.steps.empty(); }
void prepare(const Program&, const Instruction&, Packed&) {}
uint64_t scratch(const Program&, const Operator&, Shape, Shape) { return 0; }

void run(Job& job) {
    const Tensor in = job.frame.tensor(job.it.reads[0]);
    const size_t plane = size_t(job.shape.height) * job.shape.width;
    for (uint32_t y = job.first; y < job.last; ++y) {
        float* to = job.frame.logits + size_t(y) * job.shape.width;
        if (in.pixel == 4) {
            std::memcpy(to, in.floats(y, 0), 4 * size_t(job.shape.width));
            continue;
        }
        for (uint32_t x = 0, count; x < job.shape.width; x += count) {
            count = job.shape.width - x < TRANSPOSE_BLOCK ? job.shape.width - x : TRANSPOSE_BLOCK;
            for (uint32_t c = 0; c < in.channels; ++c)
                for (uint32_t i = 0; i < count; ++i) to[c * plane + x + i] = in.floats(y, x + i)[c];
        }
    }
}
}  // namespace logits

// As it is, or every pixel repeated.
namespace nearest {
bool fits(const Program& program, const Instruction& it) {
    return (it.kind == Kind::nearest || it.kind == Kind::copy) && (as_bytes(program, it) || !program.grid(it.reads[0]));
}
void prepare(const Program&, const Instruction&, Packed&) {}
uint64_t scratch(const Program&, const Operator& op, Shape, Shape) { return one_pixel(*op.it); }

void run(Job& job) {
    const Instruction& it = job.it;
    const Tensor in = job.frame.tensor(it.reads[0]);
    const uint32_t down = factor(it, 0), right = factor(it, 1);
    if (as_bytes(job.frame.program, it)) {
        for (const View& view : it.writes) {
            const Tensor to = job.frame.tensor(view);
            const Mover mover(in, to);
            for (uint32_t y = job.first; y < job.last; ++y) {
                const uint8_t* from = in.at(y / down, 0);
                if (mover.is_a<16>())
                    repeated(in, from, right, to.pixel, to.at(y, 0), moved<16>);
                else if (mover.is_a<32>())
                    repeated(in, from, right, to.pixel, to.at(y, 0), moved<32>);
                else if (mover.is_a<64>())
                    repeated(in, from, right, to.pixel, to.at(y, 0), moved<64>);
                else if (mover.is_a<128>())
                    repeated(in, from, right, to.pixel, to.at(y, 0), moved<128>);
                else
                    repeated(in, from, right, to.pixel, to.at(y, 0), mover);
            }
        }
        return;
    }
    PixelEpilogue per_pixel(job);
    for (uint32_t y = job.first; y < job.last; ++y)
        for (uint32_t x = 0; x < job.shape.width; ++x) {
            std::memcpy(row_of(job), in.floats(y / down, x / right), 4 * size_t(in.channels));
            per_pixel(y, x, row_of(job));
        }
}
}  // namespace nearest

namespace {

// The rows and columns of the input that a window sees.
struct Seen {
    uint32_t top, bottom, left, right;

    Seen(const Window& w, const Tensor& in, uint32_t y, uint32_t x) {
        side(y, w.stride[0], w.padding[0], w.kernel[0], in.height, top, bottom);
        side(x, w.stride[1], w.padding[1], w.kernel[1], in.width, left, right);
    }

private:
    static void side(uint32_t at, uint32_t stride, uint32_t padding, uint32_t kernel, uint32_t size, uint32_t& begin,
                     uint32_t& end) {
        const uint32_t first = at * stride, last = first + kernel < size + padding ? first + kernel : size + padding;
        begin = first < padding ? 0 : first - padding;
        end = last < padding ? 0 : last - padding;
    }
};

constexpr uint32_t WIDER = BYTES < 32 ? BYTES : 32;

// The largest of some bytes of channels.
template <class Number, uint32_t SIZE>
inline void largest_part(const Tensor& in, const Seen& seen, size_t at, uint8_t* to) {
    typedef Number Part __attribute__((vector_size(SIZE)));
    Part most = load<Part>(in.at(seen.top, seen.left) + at);
    for (uint32_t y = seen.top; y < seen.bottom; ++y) {
        const uint8_t* from = in.at(y, seen.left) + at;
        for (uint32_t x = seen.left; x < seen.right; ++x, from += in.pixel) {
            const Part now = load<Part>(from);
            most = now > most ? now : most;
        }
    }
    store(to + at, most);
}

// The largest of each channel.
template <class Number>
void largest(const Tensor& in, const Seen& seen, uint8_t* to) {
    const size_t bytes = in.channels * sizeof(Number);
    size_t at = 0;
    for (; at + WIDER <= bytes; at += WIDER) largest_part<Number, WIDER>(in, seen, at, to);
    for (; at + 16 <= bytes; at += 16) largest_part<Number, 16>(in, seen, at, to);
    for (; at < bytes; at += sizeof(Number)) largest_part<Number, sizeof(Number)>(in, seen, at, to);
}

// The commonest pooling: of two by two pixels, side by side.
template <class Number, uint32_t SIZE>
void largest_of_four(const Tensor& in, uint32_t y, uint32_t width, uint8_t* to, size_t step) {
    typedef Number Part __attribute__((vector_size(SIZE)));
    const uint8_t *upper = in.at(2 * y, 0), *lower = in.at(2 * y + 1, 0);
    const auto larger = [](Part a, Part b) INLINE { return a > b ? a : b; };
    for (uint32_t x = 0; x < width; ++x, upper += 2 * in.pixel, lower += 2 * in.pixel, to += step)
        for (uint32_t at = 0; at < in.channels * sizeof(Number); at += SIZE) {
            const Part left = larger(load<Part>(upper + at), load<Part>(lower + at));
            store(to + at, larger(left, larger(load<Part>(upper + in.pixel + at), load<Part>(lower + in.pixel + at))));
        }
}

bool is_of_four(const Window& w) {
    return w.kernel[0] == 2 && w.kernel[1] == 2 && w.stride[0] == 2 && w.stride[1] == 2 && !has_padding(w);
}

// One plane of signs: +1 wins.
void largest_signs(const Tensor& in, const Seen& seen, uint8_t* to) {
    std::memset(to, 0, in.channels / 8);
    for (uint32_t y = seen.top; y < seen.bottom; ++y)
        for (uint32_t x = seen.left; x < seen.right; ++x)
            for (uint32_t c = 0; c < in.channels / 8; ++c) to[c] |= in.at(y, x)[c];
}

bool whole(const Window& w) { return w.dilation[0] == 1 && w.dilation[1] == 1; }

// Whether every window sees a pixel.
bool sees(const Window& w) {
    return whole(w) && w.padding[0] < w.kernel[0] && w.padding[1] < w.kernel[1] && w.padding[2] < w.kernel[0] &&
           w.padding[3] < w.kernel[1];
}

}  // namespace

namespace max_pool {
bool fits(const Program& program, const Instruction& it) {
    const Type type = program.type(it.reads[0]);
    return it.kind == Kind::max_pool && sees(it.window) && type != Type::s32 &&
           (as_bytes(program, it) || type == Type::f32);
}
void prepare(const Program&, const Instruction&, Packed&) {}
uint64_t scratch(const Program&, const Operator& op, Shape, Shape) { return one_pixel(*op.it); }

void run(Job& job) {
    const Instruction& it = job.it;
    const Tensor in = job.frame.tensor(it.reads[0]);
    const Type type = job.frame.program.type(it.reads[0]);
    const auto pixel = [&](uint32_t y, uint32_t x, uint8_t* to) {
        const Seen seen(it.window, in, y, x);
        if (type == Type::u8)
            largest<uint8_t>(in, seen, to);
        else if (type == Type::s8)
            largest<int8_t>(in, seen, to);
        else if (type == Type::f32)
            largest<float>(in, seen, to);
        else
            largest_signs(in, seen, to);
    };
    if (as_bytes(job.frame.program, it)) {
        const Tensor to = job.frame.tensor(it.writes[0]);
        const bool tail = to.tail;
        const auto of_four = !is_of_four(it.window)                          ? nullptr
                             : type == Type::u8 && in.channels % WIDER == 0  ? largest_of_four<uint8_t, WIDER>
                             : type == Type::u8 && in.channels % 16 == 0     ? largest_of_four<uint8_t, 16>
                             : type == Type::f32 && in.channels % LANES == 0 ? largest_of_four<float, BYTES>
                                                                             : nullptr;
        for (uint32_t y = job.first; y < job.last; ++y) {
            if (of_four) {
                of_four(in, y, job.shape.width, to.at(y, 0), to.pixel);
                continue;
            }
            for (uint32_t x = 0; x < job.shape.width; ++x) {
                pixel(y, x, to.at(y, x));
                if (tail) std::memset(to.at(y, x) + in.channels / 8, 0, to.tail);
            }
        }
        for (size_t i = 1; i < it.writes.size(); ++i) {
            const Tensor other = job.frame.tensor(it.writes[i]);
            const Mover mover(to, other);
            for (uint32_t y = job.first; y < job.last; ++y)
                for (uint32_t x = 0; x < job.shape.width; ++x) mover(other.at(y, x), to.at(y, x));
        }
        return;
    }
    PixelEpilogue per_pixel(job);
    for (uint32_t y = job.first; y < job.last; ++y)
        for (uint32_t x = 0; x < job.shape.width; ++x) {
            pixel(y, x, job.scratch);
            per_pixel(y, x, row_of(job));
        }
}
}  // namespace max_pool

namespace average_pool {
bool fits(const Program&, const Instruction& it) { return it.kind == Kind::average_pool && whole(it.window); }
void prepare(const Program&, const Instruction&, Packed&) {}
uint64_t scratch(const Program&, const Operator& op, Shape, Shape) { return one_pixel(*op.it); }

void run(Job& job) {
    const Tensor in = job.frame.tensor(job.it.reads[0]);
    const float count = float(job.it.window.kernel[0] * job.it.window.kernel[1]);
    float* sum = row_of(job);
    PixelEpilogue per_pixel(job);
    for (uint32_t y = job.first; y < job.last; ++y)
        for (uint32_t x = 0; x < job.shape.width; ++x) {
            const Seen seen(job.it.window, in, y, x);
            std::memset(sum, 0, 4 * size_t(in.channels));
            for (uint32_t row = seen.top; row < seen.bottom; ++row)
                for (uint32_t column = seen.left; column < seen.right; ++column)
                    for (uint32_t c = 0; c < in.channels; ++c) sum[c] += in.floats(row, column)[c];
            for (uint32_t c = 0; c < in.channels; ++c) sum[c] /= count;
            per_pixel(y, x, sum);
        }
}
}  // namespace average_pool

namespace bilinear {
bool fits(const Program&, const Instruction& it) { return it.kind == Kind::bilinear; }
void prepare(const Program&, const Instruction&, Packed&) {}
uint64_t scratch(const Program&, const Operator& op, Shape, Shape) { return one_pixel(*op.it); }

void run(Job& job) {
    const Tensor in = job.frame.tensor(job.it.reads[0]);
    float* to = row_of(job);
    PixelEpilogue per_pixel(job);
    for (uint32_t y = job.first; y < job.last; ++y) {
        const Between v = between(y, in.height, job.shape.height, job.it.factor[0], job.it.align_corners);
        for (uint32_t x = 0; x < job.shape.width; ++x) {
            const Between u = between(x, in.width, job.shape.width, job.it.factor[1], job.it.align_corners);
            const float *a = in.floats(v.low, u.low), *b = in.floats(v.low, u.high);
            const float *c = in.floats(v.high, u.low), *d = in.floats(v.high, u.high);
            for (uint32_t i = 0; i < in.channels; ++i) {
                const float upper = a[i] * (1 - u.way) + b[i] * u.way, lower = c[i] * (1 - u.way) + d[i] * u.way;
                to[i] = upper * (1 - v.way) + lower * v.way;
            }
            per_pixel(y, x, to);
        }
    }
}
}  // namespace bilinear

}  // namespace pseg::PSEG_ISA
