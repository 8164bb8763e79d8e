// Pieces of one block of memory, each aligned, one after the other.
#pragma once

#include <cstddef>
#include <cstdint>

#include "../shapes.h"

namespace pseg {

class Pieces {
public:
    // Of an aligned block; of none to count bytes.
    explicit Pieces(uint8_t* at) : at_(at) {}

    template <class T>
    T* take(uint64_t count) {
        T* found = at_ ? reinterpret_cast<T*>(at_ + bytes_) : nullptr;
        bytes_ += align_up(count * sizeof(T));
        return found;
    }
    uint64_t bytes() const { return bytes_; }

private:
    uint8_t* at_;
    uint64_t bytes_ = 0;
};

}  // namespace pseg
