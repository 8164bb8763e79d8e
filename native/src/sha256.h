#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

namespace pseg {

// SHA-256 (FIPS 180-4), fed in pieces.
class Sha256 {
public:
    void add(const uint8_t* bytes, size_t count);
    std::array<uint8_t, 32> digest();

private:
    void block(const uint8_t* bytes);

    uint32_t state_[8] = {0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a,
                          0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19};
    uint8_t waiting_[64] = {};
    uint64_t count_ = 0;
};

}  // namespace pseg
