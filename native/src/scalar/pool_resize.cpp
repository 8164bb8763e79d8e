// Operations without weights, plain. Where a tensor holds codes they are moved as they are.
#include <cmath>
#include <cstring>

#include "../kernels.h"
#include "../shapes.h"

namespace pseg::scalar {
namespace {

uint64_t one_pixel(const Operator& op) { return 4 * uint64_t(op.it->channels); }

float* row_of(const Job& job) { return reinterpret_cast<float*>(job.scratch); }

// One pixel of codes, to everything that is written.
void put_codes(const Job& job, const Tensor& from, const uint8_t* pixel, uint32_t y, uint32_t x) {
    const bool bits = from.grid->type() == Type::bits;
    const size_t whole = bits ? (from.channels + 7) / 8 : size_t(from.channels) * bytes_of(from.grid->type());
    for (const View& view : job.it.writes) {
        const Tensor to = job.frame.tensor(view);
        for (int q = 0; q < (bits ? from.grid->planes : 1); ++q) {
            uint8_t* out = to.at(y, x) + size_t(q) * to.plane;
            std::memcpy(out, pixel + size_t(q) * from.plane, whole);
            // The source may go on behind its last channel.
            if (bits && from.channels % 8) out[whole - 1] = uint8_t(out[whole - 1] & ((1 << from.channels % 8) - 1));
            if (bits) std::memset(out + whole, 0, to.tail);
        }
    }
}

// One pixel as it is, f32 or codes.
void put_pixel(Job& job, const Tensor& from, uint32_t from_y, uint32_t from_x, uint32_t y, uint32_t x) {
    if (from.grid) {
        put_codes(job, from, from.at(from_y, from_x), y, x);
        return;
    }
    std::memcpy(row_of(job), from.floats(from_y, from_x), 4 * size_t(from.channels));
    apply_epilogue(job, y, x, row_of(job));
}

template <class Each>
void each_pixel(const Job& job, Each each) {
    for (uint32_t y = job.first; y < job.last; ++y)
        for (uint32_t x = 0; x < job.shape.width; ++x) each(y, x);
}

// Calls each(row, column) for the pixels of the image that a window sees, row by row.
template <class Each>
void each_tap(const Window& window, const Tensor& in, uint32_t y, uint32_t x, Each each) {
    for (int64_t i = 0; i < window.kernel[0]; ++i)
        for (int64_t j = 0; j < window.kernel[1]; ++j) {
            const int64_t row = int64_t(y) * window.stride[0] - window.padding[0] + i * window.dilation[0];
            const int64_t column = int64_t(x) * window.stride[1] - window.padding[1] + j * window.dilation[1];
            if (row >= 0 && row < in.height && column >= 0 && column < in.width) each(uint32_t(row), uint32_t(column));
        }
}

template <class Number>
void max_into(const uint8_t* from, uint8_t* to, uint32_t count) {
    for (uint32_t c = 0; c < count; ++c) {
        Number a, b;
        std::memcpy(&a, to + c * sizeof(Number), sizeof(Number));
        std::memcpy(&b, from + c * sizeof(Number), sizeof(Number));
        if (b > a) std::memcpy(to + c * sizeof(Number), &b, sizeof(Number));
    }
}

}  // namespace

namespace image {
bool fits(const Program&, const Instruction& it) { return it.kind == Kind::input; }
void prepare(const Program&, const Instruction&, Packed&) {}
uint64_t scratch(const Program&, const Operator& op, Shape, Shape) { return one_pixel(op); }
void run(Job& job) {
    const size_t plane = size_t(job.shape.height) * job.shape.width;
    each_pixel(job, [&](uint32_t y, uint32_t x) {
        for (uint32_t c = 0; c < job.it.channels; ++c)
            row_of(job)[c] = job.frame.image[c * plane + size_t(y) * job.shape.width + x];
        for (uint32_t c = 0; c < job.it.channels; ++c) job.finite &= std::isfinite(row_of(job)[c]);
        apply_epilogue(job, y, x, row_of(job));
    });
}
}  // namespace image

namespace logits {
bool fits(const Program&, const Instruction& it) { return it.kind == Kind::output; }
void prepare(const Program&, const Instruction&, Packed&) {}
uint64_t scratch(const Program&, const Operator& op, Shape, Shape) { return one_pixel(op); }
void run(Job& job) {
    const Tensor in = job.frame.tensor(job.it.reads[0]);
    const size_t plane = size_t(job.shape.height) * job.shape.width;
    each_pixel(job, [&](uint32_t y, uint32_t x) {
        std::memcpy(row_of(job), in.floats(y, x), 4 * size_t(in.channels));
        apply_epilogue(job, y, x, row_of(job));
        for (uint32_t c = 0; c < in.channels; ++c)
            job.frame.logits[c * plane + size_t(y) * job.shape.width + x] = row_of(job)[c];
    });
}
}  // namespace logits

namespace copy {
bool fits(const Program&, const Instruction& it) { return it.kind == Kind::copy; }
void prepare(const Program&, const Instruction&, Packed&) {}
uint64_t scratch(const Program&, const Operator& op, Shape, Shape) { return one_pixel(op); }
void run(Job& job) {
    const Tensor in = job.frame.tensor(job.it.reads[0]);
    each_pixel(job, [&](uint32_t y, uint32_t x) { put_pixel(job, in, y, x, y, x); });
}
}  // namespace copy

namespace nearest {
bool fits(const Program&, const Instruction& it) { return it.kind == Kind::nearest; }
void prepare(const Program&, const Instruction&, Packed&) {}
uint64_t scratch(const Program&, const Operator& op, Shape, Shape) { return one_pixel(op); }
void run(Job& job) {
    const Tensor in = job.frame.tensor(job.it.reads[0]);
    each_pixel(job,
               [&](uint32_t y, uint32_t x) { put_pixel(job, in, y / job.it.factor[0], x / job.it.factor[1], y, x); });
}
}  // namespace nearest

namespace max_pool {
bool fits(const Program&, const Instruction& it) { return it.kind == Kind::max_pool; }
void prepare(const Program&, const Instruction&, Packed&) {}
uint64_t scratch(const Program&, const Operator& op, Shape, Shape) { return one_pixel(op); }
void run(Job& job) {
    const Tensor in = job.frame.tensor(job.it.reads[0]);
    const Type type = job.frame.program.type(job.it.reads[0]);
    const size_t bytes = type == Type::bits ? (in.channels + 7) / 8 : size_t(in.channels) * bytes_of(type);
    each_pixel(job, [&](uint32_t y, uint32_t x) {
        bool first = true;
        std::memset(job.scratch, 0, bytes);
        each_tap(job.it.window, in, y, x, [&](uint32_t row, uint32_t column) {
            const uint8_t* from = in.at(row, column);
            if (first)
                std::memcpy(job.scratch, from, bytes);
            else if (type == Type::f32)
                max_into<float>(from, job.scratch, in.channels);
            else if (type == Type::s32)
                max_into<int32_t>(from, job.scratch, in.channels);
            else if (type == Type::s8)
                max_into<int8_t>(from, job.scratch, in.channels);
            else if (type == Type::u8)
                max_into<uint8_t>(from, job.scratch, in.channels);
            else
                for (size_t i = 0; i < bytes; ++i) job.scratch[i] |= from[i];  // one plane: +1 wins
            first = false;
        });
        if (in.grid)
            put_codes(job, in, job.scratch, y, x);
        else
            apply_epilogue(job, y, x, row_of(job));
    });
}
}  // namespace max_pool

namespace average_pool {
bool fits(const Program&, const Instruction& it) { return it.kind == Kind::average_pool; }
void prepare(const Program&, const Instruction&, Packed&) {}
uint64_t scratch(const Program&, const Operator& op, Shape, Shape) { return one_pixel(op); }
void run(Job& job) {
    const Tensor in = job.frame.tensor(job.it.reads[0]);
    const float count = float(job.it.window.kernel[0] * job.it.window.kernel[1]);
    float* sum = row_of(job);
    each_pixel(job, [&](uint32_t y, uint32_t x) {
        std::memset(sum, 0, 4 * size_t(in.channels));
        each_tap(job.it.window, in, y, x, [&](uint32_t row, uint32_t column) {
            for (uint32_t c = 0; c < in.channels; ++c) sum[c] += in.floats(row, column)[c];
        });
        for (uint32_t c = 0; c < in.channels; ++c) sum[c] /= count;
        apply_epilogue(job, y, x, sum);
    });
}
}  // namespace average_pool

namespace mean {
bool fits(const Program&, const Instruction& it) { return it.kind == Kind::mean; }
void prepare(const Program&, const Instruction&, Packed&) {}
uint64_t scratch(const Program&, const Operator& op, Shape, Shape) { return one_pixel(op); }
void run(Job& job) {
    const Tensor in = job.frame.tensor(job.it.reads[0]);
    each_pixel(job, [&](uint32_t, uint32_t) {
        for (uint32_t c = 0; c < in.channels; ++c) {
            double sum = 0;
            for (uint32_t y = 0; y < in.height; ++y)
                for (uint32_t x = 0; x < in.width; ++x) sum += double(in.floats(y, x)[c]);
            row_of(job)[c] = float(sum / (double(in.height) * in.width));
        }
        apply_epilogue(job, 0, 0, row_of(job));
    });
}
}  // namespace mean

namespace bilinear {
bool fits(const Program&, const Instruction& it) { return it.kind == Kind::bilinear; }
void prepare(const Program&, const Instruction&, Packed&) {}
uint64_t scratch(const Program&, const Operator& op, Shape, Shape) { return one_pixel(op); }
void run(Job& job) {
    const Tensor in = job.frame.tensor(job.it.reads[0]);
    each_pixel(job, [&](uint32_t y, uint32_t x) {
        const Between v = between(y, in.height, job.shape.height, job.it.factor[0], job.it.align_corners);
        const Between u = between(x, in.width, job.shape.width, job.it.factor[1], job.it.align_corners);
        const float *a = in.floats(v.low, u.low), *b = in.floats(v.low, u.high);
        const float *c = in.floats(v.high, u.low), *d = in.floats(v.high, u.high);
        for (uint32_t i = 0; i < in.channels; ++i) {
            const float upper = a[i] * (1 - u.way) + b[i] * u.way, lower = c[i] * (1 - u.way) + d[i] * u.way;
            row_of(job)[i] = upper * (1 - v.way) + lower * v.way;
        }
        apply_epilogue(job, y, x, row_of(job));
    });
}
}  // namespace bilinear

namespace pad {
bool fits(const Program&, const Instruction& it) { return it.kind == Kind::pad; }
void prepare(const Program&, const Instruction&, Packed&) {}

// A pixel of f32 or of codes.
uint64_t scratch(const Program& program, const Operator& op, Shape, Shape) {
    const Instruction& it = *op.it;
    const Quantization* grid = program.grid(it.reads[0]);
    const uint64_t bits = grid && grid->kind == QuantizationKind::binary_planes
                              ? uint64_t(grid->planes) * plane_bytes(program.buffers[it.reads[0].buffer].channels)
                              : 0;
    return bits > 4 * uint64_t(it.channels) ? bits : 4 * uint64_t(it.channels);
}

void run(Job& job) {
    const Tensor in = job.frame.tensor(job.it.reads[0]);
    const uint8_t above = job.it.window.padding[0], left = job.it.window.padding[1];
    each_pixel(job, [&](uint32_t y, uint32_t x) {
        if (y >= above && y - above < in.height && x >= left && x - left < in.width) {
            put_pixel(job, in, y - above, x - left, y, x);
            return;
        }
        if (!in.grid) {
            std::memset(job.scratch, 0, 4 * size_t(in.channels));
            apply_epilogue(job, y, x, row_of(job));
            return;
        }
        const int32_t zero = in.grid->zero_point;
        const Type type = in.grid->type();
        if (type == Type::bits)
            for (int q = 0; q < in.grid->planes; ++q)
                std::memset(job.scratch + size_t(q) * in.plane, in.grid->zero_planes >> q & 1 ? 255 : 0,
                            (in.channels + 7) / 8);
        else if (type == Type::s32)
            for (uint32_t c = 0; c < in.channels; ++c) std::memcpy(job.scratch + 4 * size_t(c), &zero, 4);
        else
            std::memset(job.scratch, uint8_t(zero), in.channels);
        put_codes(job, in, job.scratch, y, x);
    });
}
}  // namespace pad

}  // namespace pseg::scalar
