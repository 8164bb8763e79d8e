#include "program.h"

#include <algorithm>
#include <cstdlib>

namespace pseg {

Type Grid::type() const {
    if (kind == GridKind::signs) return Type::bits;
    const int64_t low = kind == GridKind::powers ? -largest() : lowest, high = kind == GridKind::powers ? largest() : highest;
    if (low >= 0 && high <= 255) return Type::u8;
    if (low >= -128 && high <= 127) return Type::s8;
    return Type::s32;
}

int64_t Grid::largest() const {
    switch (kind) {
        case GridKind::uniform:
            return std::max(std::llabs(int64_t(lowest) - zero_point), std::llabs(int64_t(highest) - zero_point));
        case GridKind::powers:
            return int64_t(1) << (i + f - 1);
        default:
            return 1;
    }
}

uint64_t pixel_bytes(const Storage& storage) {
    if (!storage.grid) return 4 * uint64_t(storage.channels);
    switch (storage.grid->type()) {
        case Type::u8:
        case Type::s8:
            return storage.channels;
        case Type::bits:
            return uint64_t(storage.grid->planes) * plane_bytes(storage.channels);
        default:
            return 4 * uint64_t(storage.channels);
    }
}

}  // namespace pseg
