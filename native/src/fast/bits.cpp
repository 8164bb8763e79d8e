// Signs over signs, plane by plane: acc = n − 2 · ones(w xor x). Words of 32 channels, whose other bits are 0 in both.
#include "dense.h"

namespace pseg::PSEG_ISA {
namespace bits {
namespace {

uint32_t words_of(const Instruction& it) { return (it.reads[0].channels + 31u) / 32; }

// 1. `start` − 2 · ones, of plane q of the input and the plane of the weights at w.
template <int V, int P>
INLINE inline void sum(const Dense& d, const Line& line, uint32_t x, const uint8_t* w, const int32_t* start, uint32_t q,
                       I32 (&acc)[P][V]) {
    I32 counts[P][V];
    unroll<P>([&](auto p) INLINE { unroll<V>([&](auto v) INLINE { acc[p][v] = I32{}, counts[p][v] = I32{}; }); });
    const auto carry = [&]() INLINE {
        unroll<P>([&](auto p) INLINE {
            unroll<V>([&](auto v) INLINE { acc[p][v] = acc[p][v] + widen_counts(counts[p][v]), counts[p][v] = I32{}; });
        });
    };
    const size_t step = line.step;
    const uint32_t words = words_of(d.it);
    [[maybe_unused]] uint32_t left = MAX_COUNTS;
    for (uint32_t i = 0; i < d.window.kernel[0]; ++i) {
        const uint8_t* from = line.from[i] + q * line.plane + x * step;
        for (uint32_t j = 0; j < d.window.kernel[1]; ++j, from += line.column) {
            const uint8_t* at = from;
            for (uint32_t k = 0; k < words; ++k, w += V * BYTES, at += 4) {
                I32 s[V];
                unroll<V>([&](auto v) INLINE { s[v] = load<I32>(w + v * BYTES); });
                unroll<P>([&](auto p) INLINE {
                    const I32 u = broadcast<I32>(load<int32_t>(at + p * step));
                    unroll<V>([&](auto v) INLINE { counts[p][v] = add_counts(counts[p][v], popcount(u ^ s[v])); });
                });
                if constexpr (MAX_COUNTS < 256) {
                    if (--left == 0) carry(), left = MAX_COUNTS;
                }
            }
        }
    }
    carry();
    unroll<V>([&](auto v) INLINE {
        const I32 begin = load<I32>(start + v * LANES);
        unroll<P>([&](auto p) INLINE { acc[p][v] = begin - acc[p][v] - acc[p][v]; });
    });
}

template <int V, int P>
void tile(const Dense& d, const Line& line, uint32_t x, uint32_t first, const uint8_t* w, size_t plane) {
    F32 y[P][V];
    for (uint32_t pair = 0; pair < d.pairs; ++pair) {
        I32 acc[P][V], sums[P][V];
        sum<V, P>(d, line, x, w + pair / d.inputs * plane,
                  d.constants.start + size_t(pair) * d.constants.outputs + first, pair % d.inputs, acc);
        if (d.pairs == 1) {
            // 2. Back-transformation; + b is done where results are written.
            unroll<V>([&](auto v) INLINE {
                const F32 m = load<F32>(d.constants.m + first + v * LANES);
                unroll<P>([&](auto p) INLINE { y[p][v] = to_float(acc[p][v]) * m; });
            });
            break;
        }
        unroll<P>([&](auto p) INLINE { unroll<V>([&](auto v) INLINE { sums[p][v] = acc[p][v]; }); });
        add_pair(d, pair, first, P, V, &sums[0][0], &y[0][0]);
    }
    write_others<V>(d, line, x, first, P, &y[0][0]);
}

template <int V>
struct Tiles {
    static const uint8_t* run(const Dense& d, const Rows& rows, uint32_t begin, uint32_t count, uint32_t first,
                              const uint8_t* w) {
        const size_t plane = size_t(d.window.kernel[0]) * d.window.kernel[1] * words_of(d.it) * V * BYTES;
        for (uint32_t row = 0; row < count; ++row) {
            const Line line(d, rows, begin + row, row * d.job.shape.width, first);
            tiles<4>(d.job.shape.width, [&](auto p, uint32_t x) { tile<V, p>(d, line, x, first, w, plane); });
        }
        return w + d.it.weights.planes * plane;
    }
};

}  // namespace
}  // namespace bits

namespace convolution_bits {
using namespace bits;

bool fits(const Program& program, const Instruction& it) {
    return fast::is_byte_convolution(program, it) && program.type(it.reads[0]) == Type::bits &&
           it.weights.kind == WeightKind::signs && it.groups == 1 && it.reads[0].first % 32 == 0 &&
           it.window.kernel[0] <= MAX_ROWS;
}
void prepare(const Program& program, const Instruction& it, Packed& packed) {
    fast::dense_bits(program, it, MACHINE, packed);
}
uint64_t scratch(const Program& program, const Operator& op, Shape in, Shape out) {
    return dense_scratch(program, op, in, out, 4 * words_of(*op.it), false);
}
void run(Job& job) { run_dense<Tiles>(job, 4 * words_of(job.it), false, true); }
}  // namespace convolution_bits

}  // namespace pseg::PSEG_ISA
