// f32 inputs with weights of any kind. In a net that has codes anywhere, sums go tap by tap and channel by channel,
// each product and each sum rounded, as the specification says; else a product and a sum may be one rounding.
#include "dense.h"

namespace pseg::PSEG_ISA {
namespace floats {
namespace {

template <int V>
constexpr int PIXELS = FEW_REGISTERS ? (V == 2 ? 6 : 12)
                       : V == 4      ? 6
                       : V == 2      ? 12
                                     : 16;

// Sums of a tile, of the plane of the weights at w.
template <bool EXACT, int V, int P>
INLINE inline void sum(const Dense& d, const Line& line, uint32_t x, const uint8_t* w, F32 (&acc)[P][V]) {
    unroll<P>([&](auto p) INLINE { unroll<V>([&](auto v) INLINE { acc[p][v] = F32{}; }); });
    const size_t step = line.step;
    const uint32_t channels = d.it.reads[0].channels;
    for (uint32_t i = 0; i < d.window.kernel[0]; ++i) {
        const uint8_t* from = line.from[i] + x * step;
        for (uint32_t j = 0; j < d.window.kernel[1]; ++j, from += line.column) {
            const uint8_t* at = from;
            for (uint32_t c = 0; c < channels; ++c, w += V * BYTES, at += 4) {
                F32 s[V];
                unroll<V>([&](auto v) INLINE { s[v] = load<F32>(w + v * BYTES); });
                unroll<P>([&](auto p) INLINE {
                    const F32 u = broadcast<F32>(load<float>(at + p * step));
                    unroll<V>([&](auto v)
                                  INLINE { acc[p][v] = EXACT ? acc[p][v] + u * s[v] : fma(u, s[v], acc[p][v]); });
                });
            }
        }
    }
}

// Whether an instruction ends in nothing but f32, by what vectors know.
bool writes_only_f32(const Program& program, const Instruction& it, const Epilogue& epilogue) {
    bool floats = epilogue.plain && it.weights.planes == 1;
    for (const View& view : it.writes) floats &= !program.grid(view);
    return floats;
}

// Writes what there is of a vector of channels.
__attribute__((noinline)) void partial_store(uint8_t* to, const F32& y, uint32_t valid) {
    std::memcpy(to, &y, 4 * size_t(valid));
}

template <int V, int P>
void tile_of_floats(const Dense& d, const Line& line, uint32_t x, uint32_t first, const uint8_t* w) {
    F32 acc[P][V];
    sum<false, V, P>(d, line, x, w, acc);
    const bool scales = !d.it.m.empty();
    unroll<V>([&](auto v) INLINE {
        const size_t at = first + v * LANES;
        const F32 m = load<F32>(d.constants.m + at), b = load<F32>(d.constants.b + at);
        unroll<P>([&](auto p) INLINE {
            acc[p][v] = apply_steps(d.epilogue, d.constants, at, (scales ? acc[p][v] * m : acc[p][v]) + b);
        });
        const uint32_t valid = at < d.it.channels ? d.it.channels - uint32_t(at) : 0;
        for (uint32_t t = 0; t < d.targets.count; ++t) {
            const size_t pixel = d.targets.tensors[t].pixel;
            uint8_t* to = line.to[t] + x * pixel + v * BYTES;
            if (valid >= LANES) {
                unroll<P>([&](auto p) INLINE { store(to + p * pixel, acc[p][v]); });
                continue;
            }
            F32 some[P];
            unroll<P>([&](auto p) INLINE { some[p] = acc[p][v]; });
            for (int p = 0; p < P; ++p) partial_store(to + p * pixel, some[p], valid);
        }
    });
}

template <bool EXACT, int V, int P>
void tile(const Dense& d, const Line& line, uint32_t x, uint32_t first, const uint8_t* w, size_t plane) {
    F32 y[P][V];
    for (uint32_t k = 0; k < d.it.weights.planes; ++k) {
        F32 acc[P][V], sums[P][V];
        sum<EXACT, V, P>(d, line, x, w + k * plane, acc);
        unroll<P>([&](auto p) INLINE { unroll<V>([&](auto v) INLINE { sums[p][v] = acc[p][v]; }); });
        add_pair(d, k, first, P, V, &sums[0][0], &y[0][0]);
    }
    write_others<V>(d, line, x, first, P, &y[0][0]);
}

template <bool EXACT, int V>
const uint8_t* rows_of(const Dense& d, const Rows& rows, uint32_t begin, uint32_t count, uint32_t first,
                       const uint8_t* w) {
    const size_t plane = size_t(d.window.kernel[0]) * d.window.kernel[1] * d.it.reads[0].channels * V * BYTES;
    const uint32_t width = d.job.shape.width;
    const bool floats = !EXACT && width >= PIXELS<V> && writes_only_f32(d.job.frame.program, d.it, d.epilogue);
    for (uint32_t row = 0; row < count; ++row) {
        const Line line(d, rows, begin + row, row * width, first);
        if (floats)
            tiles<PIXELS<V>>(width, [&](auto, uint32_t x) { tile_of_floats<V, PIXELS<V>>(d, line, x, first, w); });
        else
            tiles<4>(width, [&](auto p, uint32_t x) { tile<EXACT, V, p>(d, line, x, first, w, plane); });
    }
    return w + d.it.weights.planes * plane;
}

template <int V>
struct Tiles {
    static const uint8_t* run(const Dense& d, const Rows& rows, uint32_t begin, uint32_t count, uint32_t first,
                              const uint8_t* w) {
        // A product with a sign is exact.
        if (FUSED && d.job.frame.program.exact && d.it.weights.kind != WeightKind::signs)
            return rows_of<FUSED, V>(d, rows, begin, count, first, w);
        return rows_of<false, V>(d, rows, begin, count, first, w);
    }
};

// A row of a depthwise convolution, one vector of channels: its weights stay in registers.
template <int HEIGHT, int WIDTH>
void depthwise_row(const Instruction& it, const Epilogue& epilogue, const Constants& constants,
                   const uint8_t* const* from, size_t pixel, const uint8_t* weights, uint32_t channel, uint32_t width,
                   uint8_t* to, size_t to_pixel) {
    const size_t column = it.window.dilation[1] * pixel, step = it.window.stride[1] * pixel;
    F32 w[HEIGHT][WIDTH];
    unroll<HEIGHT>([&](auto i) INLINE {
        unroll<WIDTH>([&](auto j)
                          INLINE { w[i][j] = load<F32>(weights + (i * WIDTH + j) * pixel + 4 * size_t(channel)); });
    });
    const bool scales = !it.m.empty();
    const F32 m = load<F32>(constants.m + channel), b = load<F32>(constants.b + channel);
    const uint32_t valid = it.channels - channel;
    const uint8_t* at[HEIGHT];
    unroll<HEIGHT>([&](auto i) INLINE { at[i] = from[i] + 4 * size_t(channel); });
    to += 4 * size_t(channel);
    for (size_t x = 0; x < width * step; x += step, to += to_pixel) {
        F32 acc = {};
        unroll<HEIGHT>([&](auto i) INLINE {
            unroll<WIDTH>([&](auto j) INLINE {
                const F32 u = load<F32>(at[i] + x + j * column);
                acc = fma(u, w[i][j], acc);
            });
        });
        const F32 y = apply_steps(epilogue, constants, channel, (scales ? acc * m : acc) + b);
        if (valid >= LANES)
            store(to, y);
        else
            partial_store(to, y, valid);
    }
}

uint32_t padded_channels(const Instruction& it) { return (it.channels + LANES - 1) / LANES * LANES; }

}  // namespace
}  // namespace floats

namespace convolution_float {
using namespace floats;

bool fits(const Program& program, const Instruction& it) {
    return it.kind == Kind::convolution && !program.grid(it.reads[0]) && it.groups == 1 &&
           it.window.kernel[0] <= MAX_ROWS;
}
void prepare(const Program& program, const Instruction& it, Packed& packed) {
    fast::dense_floats(program, it, MACHINE, packed);
}
uint64_t scratch(const Program& program, const Operator& op, Shape in, Shape out) {
    return dense_scratch(program, op, in, out, 4u * op.it->reads[0].channels, is_pointwise(op.it->window));
}
void run(Job& job) { run_dense<Tiles>(job, 4u * job.it.reads[0].channels, is_pointwise(job.it.window)); }
}  // namespace convolution_float

// Every channel by itself: vectors of channels.
namespace depthwise_float {
using namespace floats;

bool fits(const Program& program, const Instruction& it) {
    return it.kind == Kind::convolution && !program.grid(it.reads[0]) && it.groups == it.channels && it.channels > 1 &&
           it.reads[0].channels == it.channels && it.window.kernel[0] <= MAX_ROWS;
}
void prepare(const Program& program, const Instruction& it, Packed& packed) {
    fast::depthwise_floats(program, it, MACHINE, packed);
}

uint64_t scratch(const Program&, const Operator& op, Shape in, Shape out) {
    const uint32_t channels = padded_channels(*op.it);
    return align_up(Lines::bytes(op.it->window, 1, 4 * channels, in, out, 1)) +
           align_up(4 * uint64_t(padded(channels)));
}

void run(Job& job) {
    const Instruction& it = job.it;
    const Window& w = it.window;
    const Tensor in = job.frame.tensor(it.reads[0]);
    const uint32_t channels = padded_channels(it), places = taps(it), pixel = 4 * channels;
    Lines lines(in, w, pixel, job.shape.width, 1, job.first, job.scratch);
    float* values = reinterpret_cast<float*>(job.scratch +
                                             align_up(Lines::bytes(w, 1, pixel, {in.height, in.width}, job.shape, 1)));
    const Constants constants = constants_of(job.op);
    const uint8_t* weights = fast::start_of(job.op.packed) + fast::head_of(job.op).weights;
    const bool exact = job.frame.program.exact, scales = !it.m.empty();
    const Epilogue epilogue = epilogue_of(job.frame.program, job.op);
    const bool simple = !exact && w.kernel[0] == 3 && w.kernel[1] == 3 && it.writes.size() == 1 &&
                        writes_only_f32(job.frame.program, it, epilogue);
    PixelEpilogue per_pixel(job);
    for (uint32_t y = job.first; y < job.last; ++y) {
        const Rows& rows = lines.see(y, 1);
        const uint8_t* from[MAX_ROWS];
        for (uint32_t i = 0; i < w.kernel[0]; ++i) from[i] = rows.at(y * w.stride[0] + i * w.dilation[0]);
        if (simple) {
            const Tensor to = job.frame.tensor(it.writes[0]);
            for (uint32_t c = 0; c < it.channels; c += LANES)
                depthwise_row<3, 3>(it, epilogue, constants, from, pixel, weights, c, job.shape.width, to.at(y, 0),
                                    to.pixel);
            continue;
        }
        for (uint32_t x = 0; x < job.shape.width; ++x) {
            for (uint32_t c = 0; c < channels; c += LANES) {
                F32 result = {};
                for (uint32_t plane = 0; plane < it.weights.planes; ++plane) {
                    F32 acc = {};
                    const uint8_t* s = weights + 4 * (size_t(plane) * places * channels + c);
                    for (uint32_t i = 0; i < w.kernel[0]; ++i) {
                        const uint8_t* at = from[i] + size_t(x) * w.stride[1] * pixel + 4 * size_t(c);
                        for (uint32_t j = 0; j < w.kernel[1];
                             ++j, s += 4 * channels, at += w.dilation[1] * size_t(pixel))
                            acc = exact ? acc + load<F32>(at) * load<F32>(s) : fma(load<F32>(at), load<F32>(s), acc);
                    }
                    const F32 part =
                        scales ? acc * load<F32>(constants.m + size_t(plane) * constants.outputs + c) : acc;
                    result = plane ? result + part : part;
                }
                store(values + c, result + load<F32>(constants.b + c));
            }
            per_pixel(y, x, values);
        }
    }
}
}  // namespace depthwise_float

}  // namespace pseg::PSEG_ISA
