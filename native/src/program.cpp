#include "program.h"

#include <algorithm>
#include <cstdlib>
#include <limits>

namespace pseg {

Type Quantization::type() const {
    if (kind == QuantizationKind::binary_planes) return Type::bits;
    const int64_t low = kind == QuantizationKind::powers_of_two ? -largest() : lowest,
                  high = kind == QuantizationKind::powers_of_two ? largest() : highest;
    if (low >= 0 && high <= 255) return Type::u8;
    if (low >= -128 && high <= 127) return Type::s8;
    return Type::s32;
}

int64_t Quantization::largest() const {
    switch (kind) {
        case QuantizationKind::uniform:
            return std::max(std::llabs(int64_t(lowest) - zero_point), std::llabs(int64_t(highest) - zero_point));
        case QuantizationKind::powers_of_two:
            return int64_t(1) << (i + f - 1);
        default:
            return 1;
    }
}

bool fits_in_bytes(const Program& program, const Instruction& it) {
    for (int32_t weight : it.weights.whole)
        if (weight < -128 || weight > 127) return false;
    const double largest = it.weights.largest_sum * double(program.grid(it.reads[0])->largest());
    return largest <= double(std::numeric_limits<int32_t>::max());
}

uint64_t pixel_bytes(const Buffer& buffer) {
    if (!buffer.grid) return 4 * uint64_t(buffer.channels);
    switch (buffer.grid->type()) {
        case Type::u8:
        case Type::s8:
            return buffer.channels;
        case Type::bits:
            return uint64_t(buffer.grid->planes) * plane_bytes(buffer.channels);
        default:
            return 4 * uint64_t(buffer.channels);
    }
}

}  // namespace pseg
