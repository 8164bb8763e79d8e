// The epilogue of a convolution in vectors, from the accumulator to what is stored. For each output:
//
// 1. Accumulator. acc = Σ (x − z) · w over the window, exact in 32 bits; x is a code and z the zero point of its grid.
//    Kernels sum unsigned bytes u = (x − z) + zero_byte as they are, and begin with what that is too much:
//    acc = start + Σ u · w with start = −zero_byte · Σ w, modulo 2³² (layout.cpp; NEON multiplies u − 128 and begins
//    with 128 · Σ w more). Of bits, x − z is ±1 and u is 0 or 2; or they are counted: acc = n − 2 · popcount(w xor x),
//    start = n.
// 2. Back-transformation. y = f32(acc) · m + b, each rounded. acc counts products of a step of the input's grid and a
//    step of the weights': m is the product of both scales, times the factor of a norm that is folded in, and b its
//    shift. Of several planes y = Σ f32(acc_pq) · m_pq + b, weight planes p in turn, input planes q in turn for each.
// 3. Bound. y = min(max(y, low), high): a ReLU, or clips; several in a row are one.
// 4. Affine. y = y · m₂ + b₂, each rounded: a norm after the ReLU.
// 5. Codes. code = clip(rint(y · inverse_scale) + zero, lowest, highest), half to even. Rounding is monotone and bounds
//    are whole numbers, so that clipping first gives the same, and what is rounded fits 16 bits:
//    code − zero = rint(clip(y · inverse_scale, lowest − zero, highest − zero)). Packing adds zero and saturates to
//    bytes.
//
// Work is left out where it changes nothing, as is proved at load: of 5 the clip, where every byte is a code and no
// |y · inverse_scale| leaves 32 bits (Codes::whole); of 3 a ReLU, where the codes end at that of 0. Epilogues with
// other steps, or in another order, begin at 3 with PixelEpilogue.
#pragma once

#include <cmath>
#include <limits>

#include "layout.h"
#include "simd.h"

namespace pseg::PSEG_ISA {
namespace {

constexpr uint32_t MAX_WRITES = 4;

// A place for codes of one grid in bytes.
struct Codes {
    F32 inverse, low, high;  // bounds of code − zero
    I32 zero;                // as unsigned byte, in 16 bits, twice
    uint8_t flip;            // 128 where bytes are signed
    bool whole;              // every byte is a code: packing keeps the bounds
};

// `most`: no number is larger; inf where that is not known.
inline Codes codes_of(const Quantization& grid, float most = std::numeric_limits<float>::infinity()) {
    const int32_t shift = grid.type() == Type::s8 ? 128 : 0, zero = grid.zero_point + shift;
    const bool whole = grid.lowest + shift == 0 && grid.highest + shift == 255 && most * grid.inverse_scale < 1e9f;
    return {broadcast<F32>(grid.inverse_scale),
            broadcast<F32>(float(grid.lowest - grid.zero_point)),
            broadcast<F32>(float(grid.highest - grid.zero_point)),
            broadcast<I32>((zero & 65535) * 65537),
            uint8_t(shift),
            whole};
}

inline bool is_bytes(const Quantization* grid) {
    if (!grid || grid->kind != QuantizationKind::uniform || (grid->type() != Type::u8 && grid->type() != Type::s8))
        return false;
    return std::abs(int64_t(grid->zero_point)) < 16000;  // code − zero fits 16 bits
}

// Step 5, before zero is added.
template <bool WHOLE = false>
inline I32 code(const Codes& to, F32 y) {
    const F32 steps = y * to.inverse;
    return round_to_int(WHOLE ? steps : min(max(steps, to.low), to.high));
}

// Steps 3 and 4 of an instruction.
struct Epilogue {
    bool plain = false;   // nothing else, and no code is made of nan or inf
    bool bound = false;   // step 3
    bool second = false;  // step 4
    F32 low, high;
};

inline Epilogue epilogue_of(const Program& program, const Operator& op) {
    Epilogue out;
    const Instruction& it = *op.it;
    const fast::Head& head = fast::head_of(op);
    float low = -std::numeric_limits<float>::infinity(), high = -low;
    size_t i = 0;
    for (; i < it.steps.size() && !out.second; ++i) {
        const Step& step = it.steps[i];
        if (step.kind == StepKind::affine)
            out.second = true;
        else if (step.kind == StepKind::relu)
            out.bound = true, low = low > 0 ? low : 0, high = high > 0 ? high : 0;
        else if (step.kind == StepKind::clip && step.low <= step.high) {
            out.bound = true;
            low = low < step.low ? step.low : low > step.high ? step.high : low;
            high = high < step.low ? step.low : high > step.high ? step.high : high;
        } else
            break;
    }
    out.low = broadcast<F32>(low), out.high = broadcast<F32>(high);
    const bool bounded = head.max_result < std::numeric_limits<float>::infinity();
    out.plain = i == it.steps.size() && it.writes.size() <= MAX_WRITES;
    // A ReLU is done by codes that end at 0.
    bool done = out.bound && !out.second && low == 0 && high == std::numeric_limits<float>::infinity();
    for (const View& view : it.writes) {
        const Quantization* grid = program.grid(view);
        done &= is_bytes(grid) && grid->lowest == grid->zero_point;
        out.plain &= !grid || (bounded && (is_bytes(grid) || grid->kind == QuantizationKind::binary_planes));
    }
    out.bound &= !(out.plain && done);
    return out;
}

// Constants of an instruction, as vectors lie.
struct Constants {
    const int32_t* start;
    const float *m, *b, *second_m, *second_b;
    uint32_t outputs;
};

inline Constants constants_of(const Operator& op) {
    const uint8_t* at = fast::start_of(op.packed);
    const fast::Head& head = fast::head_of(op);
    const auto floats = [&](uint64_t offset) { return reinterpret_cast<const float*>(at + offset); };
    return {reinterpret_cast<const int32_t*>(at + head.starts),
            floats(head.m),
            floats(head.b),
            floats(head.second_m),
            floats(head.second_b),
            head.outputs};
}

// Steps 3 and 4.
INLINE inline F32 apply_steps(const Epilogue& epilogue, const Constants& constants, size_t at, F32 y) {
    if (epilogue.bound) y = y < epilogue.low ? epilogue.low : y > epilogue.high ? epilogue.high : y;
    if (epilogue.second) y = y * load<F32>(constants.second_m + at) + load<F32>(constants.second_b + at);
    return y;
}

// Where an instruction writes, looked up once.
struct Targets {
    uint32_t count = 0;
    Tensor tensors[MAX_WRITES];
    Codes codes[MAX_WRITES];

    Targets(const Job& job, bool plain) {
        if (!plain) return;
        for (const View& view : job.it.writes) {
            tensors[count] = job.frame.tensor(view);
            if (is_bytes(tensors[count].grid))
                codes[count] = codes_of(*tensors[count].grid, fast::head_of(job.op).max_result);
            ++count;
        }
    }
};

// Bits of `count` channels from `channel` on: planes of signs, each of what is left over. No more than 32 at a time.
template <int V>
inline void put_signs(const Tensor& to, uint8_t* pixel, uint32_t channel, uint32_t count, const F32* y) {
    F32 rest[V];
    for (int v = 0; v < V; ++v) rest[v] = y[v];
    const Quantization& grid = *to.grid;
    const bool last = channel + count == to.channels;
    for (int q = 0; q < grid.planes; ++q) {
        uint64_t bits = 0;
        const F32 gamma = broadcast<F32>(grid.gammas[q]);
        for (int v = 0; v < V; ++v) {
            bits |= uint64_t(nonnegative_mask(rest[v])) << (v * LANES);
            rest[v] -= rest[v] >= 0 ? gamma : -gamma;
        }
        if (count < 64) bits &= (uint64_t(1) << count) - 1;
        uint8_t* at = pixel + size_t(q) * to.plane + channel / 8;
        std::memcpy(at, &bits, (count + 7) / 8);
        if (last && to.tail) std::memset(at + (count + 7) / 8, 0, to.tail);
    }
}

}  // namespace
}  // namespace pseg::PSEG_ISA
