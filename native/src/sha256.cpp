#include "sha256.h"

#include <algorithm>
#include <cstring>

namespace pseg {
namespace {

constexpr uint32_t ROUND[64] = {
    0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5,
    0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174,
    0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da,
    0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967,
    0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
    0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070,
    0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
    0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2};

uint32_t rotate_right(uint32_t x, int by) { return (x >> by) | (x << (32 - by)); }

}  // namespace

void Sha256::block(const uint8_t* bytes) {
    uint32_t w[64];
    for (int i = 0; i < 16; ++i)
        w[i] = uint32_t(bytes[4 * i]) << 24 | uint32_t(bytes[4 * i + 1]) << 16 | uint32_t(bytes[4 * i + 2]) << 8 |
               bytes[4 * i + 3];
    for (int i = 16; i < 64; ++i) {
        const uint32_t a = rotate_right(w[i - 15], 7) ^ rotate_right(w[i - 15], 18) ^ (w[i - 15] >> 3);
        const uint32_t b = rotate_right(w[i - 2], 17) ^ rotate_right(w[i - 2], 19) ^ (w[i - 2] >> 10);
        w[i] = w[i - 16] + a + w[i - 7] + b;
    }
    uint32_t s[8];
    std::copy(state_, state_ + 8, s);
    for (int i = 0; i < 64; ++i) {
        const uint32_t choice = (s[4] & s[5]) ^ (~s[4] & s[6]),
                       majority = (s[0] & s[1]) ^ (s[0] & s[2]) ^ (s[1] & s[2]);
        const uint32_t first =
            s[7] + (rotate_right(s[4], 6) ^ rotate_right(s[4], 11) ^ rotate_right(s[4], 25)) + choice + ROUND[i] + w[i];
        const uint32_t second = (rotate_right(s[0], 2) ^ rotate_right(s[0], 13) ^ rotate_right(s[0], 22)) + majority;
        std::copy_backward(s, s + 7, s + 8);
        s[4] += first;
        s[0] = first + second;
    }
    for (int i = 0; i < 8; ++i) state_[i] += s[i];
}

void Sha256::add(const uint8_t* bytes, size_t count) {
    size_t held = size_t(count_ % 64);
    count_ += count;
    while (count) {
        if (held == 0 && count >= 64) {
            block(bytes);
            bytes += 64, count -= 64;
            continue;
        }
        const size_t part = std::min(count, 64 - held);
        std::memcpy(waiting_ + held, bytes, part);
        bytes += part, count -= part, held += part;
        if (held == 64) block(waiting_), held = 0;
    }
}

std::array<uint8_t, 32> Sha256::digest() {
    const uint64_t bits = 8 * count_;
    const uint8_t one = 0x80, zero = 0;
    add(&one, 1);
    while (count_ % 64 != 56) add(&zero, 1);
    uint8_t length[8];
    for (int i = 0; i < 8; ++i) length[i] = uint8_t(bits >> (56 - 8 * i));
    add(length, 8);
    std::array<uint8_t, 32> out{};
    for (int i = 0; i < 32; ++i) out[size_t(i)] = uint8_t(state_[i / 4] >> (24 - 8 * (i % 4)));
    return out;
}

}  // namespace pseg
