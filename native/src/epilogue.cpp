// What follows an operation, pixel by pixel: steps on f32 values, then codes. It is the specification of steps 3 to 5
// in fast/epilogue.h, for any steps and grids.
#include <cmath>
#include <cstring>

#include "kernels.h"

namespace pseg {
namespace {

// codes = clip(rint(x · inverse_scale) + zero_point), half to even, whole numbers held in f32.
float uniform(const Quantization& grid, float x) {
    const float code = std::nearbyint(x * grid.inverse_scale) + float(grid.zero_point);
    const float low = float(grid.lowest), high = float(grid.highest);
    // In this order nan becomes a code as well.
    return !(code > low) ? low : code < high ? code : high;
}

// ±2^rint(log₂|x|) in steps of 2^-f. √½ is not an f32: the mantissa is above it exactly where it is above its nearest
// f32.
int32_t power(const Quantization& grid, float x) {
    int exponent;
    const float mantissa = std::frexp(x, &exponent);
    if (x == 0 || !std::isfinite(x)) return 0;
    const int power = exponent - 1 + (std::fabs(mantissa) > 0.70710677f);
    if (power < -grid.f) return 0;
    const int shift = power + grid.f < grid.i + grid.f - 1 ? power + grid.f : grid.i + grid.f - 1;
    return x < 0 ? -(int32_t(1) << shift) : int32_t(1) << shift;
}

// The value of the code of x.
float fake_quantized(const Quantization& grid, float x) {
    switch (grid.kind) {
        case QuantizationKind::uniform:
            return (uniform(grid, x) - float(grid.zero_point)) * grid.scale;
        case QuantizationKind::powers_of_two:
            return float(power(grid, x)) * grid.scale;
        default: {
            float rest = x, total = 0;
            for (int q = 0; q < grid.planes; ++q) {
                const float part = rest >= 0 ? grid.gammas[q] : -grid.gammas[q];
                rest -= part;
                total = q == 0 ? part : total + part;
            }
            return total;
        }
    }
}

template <class Code>
void put(const Quantization& grid, const float* values, uint32_t count, uint8_t* to) {
    for (uint32_t c = 0; c < count; ++c) {
        const Code code = Code(grid.kind == QuantizationKind::powers_of_two ? power(grid, values[c])
                                                                            : int32_t(uniform(grid, values[c])));
        std::memcpy(to + c * sizeof(Code), &code, sizeof(Code));
    }
}

// Bit c of a plane is channel c; the bits behind the last channel are 0.
void put_bits(const Quantization& grid, const float* values, const Tensor& to, uint8_t* pixel) {
    const size_t whole = (to.channels + 7) / 8;
    for (int q = 0; q < grid.planes; ++q) std::memset(pixel + size_t(q) * to.plane, 0, whole + to.tail);
    for (uint32_t c = 0; c < to.channels; ++c) {
        float rest = values[c];
        for (int q = 0; q < grid.planes; ++q) {
            const bool plus = rest >= 0;
            if (plus) pixel[size_t(q) * to.plane + c / 8] |= uint8_t(1 << c % 8);
            rest -= plus ? grid.gammas[q] : -grid.gammas[q];
        }
    }
}

bool all_finite(const float* values, uint32_t count) {
    bool finite = true;
    for (uint32_t c = 0; c < count; ++c) finite &= std::isfinite(values[c]);
    return finite;
}

void softmax(float* values, uint32_t count) {
    float most = values[0], sum = 0;
    for (uint32_t c = 1; c < count; ++c) most = values[c] > most ? values[c] : most;
    for (uint32_t c = 0; c < count; ++c) sum += values[c] = std::exp(values[c] - most);
    for (uint32_t c = 0; c < count; ++c) values[c] /= sum;
}

void apply(const Job& job, const Step& step, uint32_t y, uint32_t x, float* values) {
    const uint32_t count = job.it.channels;
    switch (step.kind) {
        case StepKind::affine:
            for (uint32_t c = 0; c < count; ++c) values[c] = values[c] * step.m[c] + step.b[c];
            break;
        case StepKind::relu:
            for (uint32_t c = 0; c < count; ++c) values[c] = values[c] < 0 ? 0 : values[c];
            break;
        case StepKind::clip:
            for (uint32_t c = 0; c < count; ++c)
                values[c] = values[c] < step.low ? step.low : values[c] > step.high ? step.high : values[c];
            break;
        case StepKind::sigmoid:
            for (uint32_t c = 0; c < count; ++c) values[c] = 1 / (1 + std::exp(-values[c]));
            break;
        case StepKind::ternary_tanh:
            for (uint32_t c = 0; c < count; ++c) {
                const float up = std::tanh(step.beta * (2 * values[c] + 1)),
                            down = std::tanh(step.beta * (2 * values[c] - 1));
                values[c] = (down + up) / 2;
            }
            break;
        case StepKind::add:
        case StepKind::multiply: {
            const Tensor other = job.frame.tensor(step.view);
            const float* with = other.height == 1 && other.width == 1 ? other.floats(0, 0) : other.floats(y, x);
            for (uint32_t c = 0; c < count; ++c)
                values[c] = step.kind == StepKind::add ? values[c] + with[c] : values[c] * with[c];
            break;
        }
        case StepKind::fake_quantize:
            for (uint32_t c = 0; c < count; ++c) values[c] = fake_quantized(*step.grid, values[c]);
            break;
        case StepKind::softmax:
            softmax(values, count);
            break;
    }
}

}  // namespace

void apply_epilogue(Job& job, uint32_t y, uint32_t x, float* values) {
    const uint32_t count = job.it.channels;
    // 3, 4. A bound, an affine and others, as the file has them.
    for (const Step& step : job.it.steps) {
        if (step.kind == StepKind::fake_quantize) job.finite &= all_finite(values, count);
        apply(job, step, y, x, values);
    }
    // 5. Codes.
    for (const View& view : job.it.writes) {
        const Tensor to = job.frame.tensor(view);
        uint8_t* pixel = to.at(y, x);
        if (!to.grid) {
            std::memcpy(pixel, values, 4 * size_t(count));
            continue;
        }
        job.finite &= all_finite(values, count);
        switch (to.grid->type()) {
            case Type::u8:
                put<uint8_t>(*to.grid, values, count, pixel);
                break;
            case Type::s8:
                put<int8_t>(*to.grid, values, count, pixel);
                break;
            case Type::bits:
                put_bits(*to.grid, values, to, pixel);
                break;
            default:
                put<int32_t>(*to.grid, values, count, pixel);
        }
    }
}

}  // namespace pseg
