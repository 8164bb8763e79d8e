// What dense convolutions over codes have in common, whatever multiplies: quads of inputs, and results as bytes. Steps
// are numbered as in epilogue.h.
#pragma once

#include "dense.h"

namespace pseg::PSEG_ISA {
namespace {

inline uint32_t quads_of(const Instruction& it) { return (it.reads[0].channels + 3u) / 4; }

// Whether pixels can be read where they lie.
inline bool reads_in_place(const Program& program, const Instruction& it) {
    return program.type(it.reads[0]) == Type::u8 && it.reads[0].channels % 4 == 0 && is_pointwise(it.window);
}

// 5. A tile as bytes, `valid` channels of it.
template <int V, int P>
INLINE inline void put_bytes(const Codes codes, uint8_t* to, size_t pixel, uint32_t valid, const F32 (&y)[P][V]) {
    constexpr uint32_t PART = V * LANES;
    unroll<(P * V + 3) / 4>([&](auto g) INLINE {
        constexpr int LAST = P * V - 1, FIRST = 4 * g, PARTS = P * V >= 4 ? 4 / V : P;
        const auto at = [&](auto i) INLINE {
            constexpr int k = FIRST + i < LAST ? FIRST + i : LAST;
            return code<true>(codes, y[k / V][k % V]);
        };
        const U8 bytes = pack(at(std::integral_constant<int, 0>{}), at(std::integral_constant<int, 1>{}),
                              at(std::integral_constant<int, 2>{}), at(std::integral_constant<int, 3>{}), codes.zero) ^
                         codes.flip;
        uint8_t* each[4] = {};
        unroll<PARTS>([&](auto part) INLINE { each[part] = to + (FIRST / V + part) * pixel; });
        if (valid >= PART && PARTS == 4 / V) {
            split(bytes, each, 4 / V);
        } else {
            alignas(BYTES) uint8_t memory[BYTES];
            store(memory, bytes);
            for (int part = 0; part < PARTS; ++part)
                copy_bytes(each[part], memory + part * PART, valid < PART ? valid : PART);
        }
    });
}

template <int V, int P>
INLINE inline void write_bytes(const Dense& d, const Line& line, uint32_t x, uint32_t first, F32 (&y)[P][V]) {
    // 3. Bound.
    if (d.epilogue.bound) {
        const F32 low = d.epilogue.low, high = d.epilogue.high;
        unroll<P>([&](auto p) INLINE { unroll<V>([&](auto v) INLINE { y[p][v] = min(max(y[p][v], low), high); }); });
    }
    // 4. Affine.
    if (d.epilogue.second)
        unroll<V>([&](auto v) INLINE {
            const F32 m = load<F32>(d.constants.second_m + first + v * LANES),
                      b = load<F32>(d.constants.second_b + first + v * LANES);
            unroll<P>([&](auto p) INLINE { y[p][v] = y[p][v] * m + b; });
        });
    // 5. Codes, for all that is written.
    for (uint32_t t = 0; t < d.targets.count; ++t) {
        const Codes& codes = d.targets.codes[t];
        const size_t pixel = d.targets.tensors[t].pixel;
        uint8_t* to = line.to[t] + x * pixel;
        put_bytes<V, P>(codes, to, pixel, d.it.channels - first, y);
    }
}

}  // namespace
}  // namespace pseg::PSEG_ISA
