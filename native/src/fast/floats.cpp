// f32 inputs with weights of any kind. In a net that has codes anywhere, sums go tap by tap and channel by channel, each
// product and each sum rounded, as the specification says; else a product and a sum may be one rounding.
#include "dense.h"

namespace pseg::PSEG_SET {
namespace floats {
namespace {

// Sums of a tile, of the plane of the weights at w.
template <bool EXACT, int V, int P>
INLINE inline void sum(const Dense& d, const Line& line, uint32_t x, const uint8_t* w, F (&acc)[P][V]) {
    times<P>([&](auto p) INLINE { times<V>([&](auto v) INLINE { acc[p][v] = F{}; }); });
    const size_t step = line.step;
    const uint32_t channels = d.it.reads[0].channels;
    for (uint32_t i = 0; i < d.window.kernel[0]; ++i) {
        const uint8_t* from = line.from[i] + x * step;
        for (uint32_t j = 0; j < d.window.kernel[1]; ++j, from += line.column) {
            const uint8_t* at = from;
            for (uint32_t c = 0; c < channels; ++c, w += V * BYTES, at += 4) {
                F s[V];
                times<V>([&](auto v) INLINE { s[v] = load<F>(w + v * BYTES); });
                times<P>([&](auto p) INLINE {
                    const F u = all<F>(load<float>(at + p * step));
                    times<V>([&](auto v) INLINE { acc[p][v] = EXACT ? acc[p][v] + u * s[v] : fused(u, s[v], acc[p][v]); });
                });
            }
        }
    }
}

template <bool EXACT, int V, int P>
void tile(const Dense& d, const Line& line, uint32_t x, uint32_t first, const uint8_t* w, size_t plane) {
    F y[P][V];
    for (uint32_t k = 0; k < d.it.weights.planes; ++k) {
        F acc[P][V], sums[P][V];
        sum<EXACT, V, P>(d, line, x, w + k * plane, acc);
        times<P>([&](auto p) INLINE { times<V>([&](auto v) INLINE { sums[p][v] = acc[p][v]; }); });
        add_pair(d, k, first, P, V, &sums[0][0], &y[0][0]);
    }
    write_others<V>(d, line, x, first, P, &y[0][0]);
}

template <bool EXACT, int V>
const uint8_t* rows_of(const Dense& d, const Rows& rows, uint32_t begin, uint32_t count, uint32_t first, const uint8_t* w) {
    const size_t plane = size_t(d.window.kernel[0]) * d.window.kernel[1] * d.it.reads[0].channels * V * BYTES;
    for (uint32_t row = 0; row < count; ++row) {
        const Line line(d, rows, begin + row, row * d.job.shape.width, first);
        tiles<6>(d.job.shape.width, [&](auto p, uint32_t x) { tile<EXACT, V, p>(d, line, x, first, w, plane); });
    }
    return w + d.it.weights.planes * plane;
}

template <int V>
struct Tiles {
    static const uint8_t* run(const Dense& d, const Rows& rows, uint32_t begin, uint32_t count, uint32_t first, const uint8_t* w) {
        // A product with a sign is exact.
        if (d.job.frame.program.exact && d.it.weights.kind != WeightKind::signs) return rows_of<true, V>(d, rows, begin, count, first, w);
        return rows_of<false, V>(d, rows, begin, count, first, w);
    }
};

uint32_t padded_channels(const Instruction& it) { return (it.channels + LANES - 1) / LANES * LANES; }

}  // namespace
}  // namespace floats

namespace convolution_float {
using namespace floats;

bool fits(const Program& program, const Instruction& it) {
    return it.kind == Kind::convolution && !program.grid(it.reads[0]) && it.groups == 1 && it.window.kernel[0] <= MOST_ROWS;
}
void prepare(const Program& program, Instruction& it) { fast::dense_floats(program, it, MACHINE); }
uint64_t scratch(const Program& program, const Instruction& it, Shape in, Shape out) {
    return dense_scratch(program, it, in, out, 4u * it.reads[0].channels, is_pointwise(it.window));
}
void run(Job& job) { run_dense<Tiles>(job, 4u * job.it.reads[0].channels, is_pointwise(job.it.window)); }
}  // namespace convolution_float

// Every channel by itself: vectors of channels.
namespace depthwise_float {
using namespace floats;

bool fits(const Program& program, const Instruction& it) {
    return it.kind == Kind::convolution && !program.grid(it.reads[0]) && it.groups == it.channels && it.reads[0].channels == it.channels &&
           it.window.kernel[0] <= MOST_ROWS;
}
void prepare(const Program& program, Instruction& it) { fast::depthwise_floats(program, it, MACHINE); }

uint64_t scratch(const Program&, const Instruction& it, Shape in, Shape out) {
    return aligned(Lines::bytes(it.window, 1, 4 * padded_channels(it), in, out, 1)) + aligned(4 * uint64_t(padded(padded_channels(it))));
}

void run(Job& job) {
    const Instruction& it = job.it;
    const Window& w = it.window;
    const Tensor in = job.frame.tensor(it.reads[0]);
    const uint32_t channels = padded_channels(it), taps = uint32_t(w.kernel[0]) * w.kernel[1], pixel = 4 * channels;
    Lines lines(in, w, pixel, job.shape.width, 1, job.first, job.scratch);
    float* values = reinterpret_cast<float*>(job.scratch + aligned(Lines::bytes(w, 1, pixel, {in.height, in.width}, job.shape, 1)));
    const Constants constants = constants_of(it);
    const uint8_t* weights = fast::start_of(it) + fast::head_of(it).weights;
    const bool exact = job.frame.program.exact, scales = !it.m.empty();
    Finish finish(job);
    for (uint32_t y = job.first; y < job.last; ++y) {
        const Rows& rows = lines.see(y, 1);
        const uint8_t* from[MOST_ROWS];
        for (uint32_t i = 0; i < w.kernel[0]; ++i) from[i] = rows.at(y * w.stride[0] + i * w.dilation[0]);
        for (uint32_t x = 0; x < job.shape.width; ++x) {
            for (uint32_t c = 0; c < channels; c += LANES) {
                F result = {};
                for (uint32_t plane = 0; plane < it.weights.planes; ++plane) {
                    F acc = {};
                    const uint8_t* s = weights + 4 * (size_t(plane) * taps * channels + c);
                    for (uint32_t i = 0; i < w.kernel[0]; ++i) {
                        const uint8_t* at = from[i] + size_t(x) * w.stride[1] * pixel + 4 * size_t(c);
                        for (uint32_t j = 0; j < w.kernel[1]; ++j, s += 4 * channels, at += w.dilation[1] * size_t(pixel))
                            acc = exact ? acc + load<F>(at) * load<F>(s) : fused(load<F>(at), load<F>(s), acc);
                    }
                    const F part = scales ? acc * load<F>(constants.m + size_t(plane) * constants.outputs + c) : acc;
                    result = plane ? result + part : part;
                }
                store(values + c, result + load<F>(constants.b + c));
            }
            finish(y, x, values);
        }
    }
}
}  // namespace depthwise_float

}  // namespace pseg::PSEG_SET
