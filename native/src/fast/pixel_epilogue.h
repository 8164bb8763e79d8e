// Any epilogue, pixel by pixel, from y on: steps in vectors, and codes (5. in epilogue.h). What vectors do not know
// goes through apply_epilogue().
#pragma once

#include "epilogue.h"

namespace pseg::PSEG_ISA {
namespace {

constexpr uint32_t CHUNK = 32;  // channels at a time: their signs are whole bytes
constexpr int CHUNK_VECTORS = CHUNK / LANES;

// f32 of a pixel, with room for a whole last chunk.
inline uint32_t padded(uint32_t channels) { return (channels + CHUNK - 1) / CHUNK * CHUNK; }

inline bool all_zero(F32 x) {
    bool zero = true;
    for (uint32_t l = 0; l < LANES; ++l) zero &= x[l] == 0;
    return zero;
}

class PixelEpilogue {
public:
    explicit PixelEpilogue(Job& job)
        : job_(job), it_(job.it), known_(it_.writes.size() <= MAX_WRITES && it_.steps.size() <= MAX_STEPS) {
        for (const Step& step : it_.steps) known_ &= knows(step);
        for (const View& view : it_.writes) {
            const Quantization* grid = job.frame.program.grid(view);
            known_ &= !grid || is_bytes(grid) || grid->kind == QuantizationKind::binary_planes;
        }
        if (!known_) return;
        for (const View& view : it_.writes) {
            targets_[writes_] = job.frame.tensor(view);
            if (is_bytes(targets_[writes_].grid)) codes_[writes_] = codes_of(*targets_[writes_].grid);
            ++writes_;
        }
        for (size_t i = 0; i < it_.steps.size(); ++i)
            if (has_operand(it_.steps[i])) others_[i] = job.frame.tensor(it_.steps[i].view);
    }

    ~PixelEpilogue() { job_.finite &= all_zero(trace_); }

    // `values` have room for padded(channels) numbers, which may change.
    void operator()(uint32_t y, uint32_t x, float* values) {
        if (!known_) {
            apply_epilogue(job_, y, x, values);
            return;
        }
        for (uint32_t c = 0; c < it_.channels; c += CHUNK) chunk(y, x, c, values + c);
    }

private:
    static constexpr uint32_t MAX_STEPS = 8;

    static bool knows(const Step& step) {
        return step.kind == StepKind::affine || step.kind == StepKind::relu || step.kind == StepKind::clip ||
               has_operand(step) || (step.kind == StepKind::fake_quantize && is_bytes(step.grid));
    }

    void chunk(uint32_t y, uint32_t x, uint32_t first, const float* values) {
        const uint32_t count = it_.channels - first < CHUNK ? it_.channels - first : CHUNK;
        F32 v[CHUNK_VECTORS];
        for (uint32_t k = 0; k < CHUNK_VECTORS; ++k)
            v[k] = partial_load(values + k * LANES, k * LANES < count ? count - k * LANES : 0);
        for (size_t i = 0; i < it_.steps.size(); ++i)
            for (uint32_t k = 0; k * LANES < count; ++k)
                v[k] = after(i, y, x, first + k * LANES, count - k * LANES, v[k]);
        // 5. Codes, or as they are.
        for (uint32_t t = 0; t < writes_; ++t) {
            const Tensor& to = targets_[t];
            uint8_t* pixel = to.at(y, x);
            if (!to.grid) {
                std::memcpy(pixel + 4 * size_t(first), v, 4 * size_t(count));
                continue;
            }
            for (uint32_t k = 0; k * LANES < count; ++k) trace_ += v[k] * 0;
            if (to.grid->kind == QuantizationKind::binary_planes)
                put_signs<CHUNK_VECTORS>(to, pixel, first, count, v);
            else
                put_codes(codes_[t], pixel + first, count, v);
        }
    }

    static void put_codes(const Codes& codes, uint8_t* to, uint32_t count, const F32* v) {
        for (uint32_t k = 0; k < count; k += BYTES) {
            const F32* now = v + k / LANES;
            I32 four[4];
            for (int i = 0; i < 4; ++i) four[i] = code(codes, now[i < CHUNK_VECTORS ? i : 0]);
            alignas(BYTES) uint8_t each[BYTES];
            store(each, pack(four[0], four[1], four[2], four[3], codes.zero) ^ codes.flip);
            std::memcpy(to + k, each, count - k < BYTES ? count - k : BYTES);
        }
    }

    F32 after(size_t i, uint32_t y, uint32_t x, uint32_t channel, uint32_t count, F32 v) {
        const Step& step = it_.steps[i];
        switch (step.kind) {
            case StepKind::affine:
                return v * partial_load(step.m.data() + channel, count) + partial_load(step.b.data() + channel, count);
            case StepKind::relu:
                return v < 0 ? F32{} : v;
            case StepKind::clip:
                return v < step.low ? broadcast<F32>(step.low) : v > step.high ? broadcast<F32>(step.high) : v;
            case StepKind::fake_quantize: {
                trace_ += v * 0;
                const Quantization& grid = *step.grid;
                const Codes codes = codes_of(grid);
                return to_float(round_to_int(min(max(v * codes.inverse, codes.low), codes.high))) * grid.scale;
            }
            default: {
                const Tensor& other = others_[i];
                const float* with =
                    (other.height == 1 && other.width == 1 ? other.floats(0, 0) : other.floats(y, x)) + channel;
                return step.kind == StepKind::add ? v + partial_load(with, count) : v * partial_load(with, count);
            }
        }
    }

    Job& job_;
    const Instruction& it_;
    bool known_;
    uint32_t writes_ = 0;
    Tensor targets_[MAX_WRITES];
    Codes codes_[MAX_WRITES];
    Tensor others_[MAX_STEPS];
    F32 trace_ = {};  // nan where a value that becomes a code is not finite
};

}  // namespace
}  // namespace pseg::PSEG_ISA
