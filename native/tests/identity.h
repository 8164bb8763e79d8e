// The smallest net there is, which gives its image back: with it every image goes through a pipeline in no time.
#pragma once

#include <cstdint>
#include <cstring>
#include <string>
#include <vector>

#include "../src/sha256.h"

// The bytes of a file (docs/format.md) with a card, for images of 1 to 16 channels.
static std::vector<uint8_t> identity_net(uint16_t channels, const std::string& card) {
    std::vector<uint8_t> program;
    const auto u16 = [&](std::initializer_list<uint16_t> numbers) {
        for (const uint16_t number : numbers)
            program.push_back(uint8_t(number)), program.push_back(uint8_t(number >> 8));
    };
    u16({channels, channels, 1, 0, 1, 2});        // multiple 1; no grid, one buffer, two instructions
    u16({channels, 0});                           // the buffer, f32
    program.insert(program.end(), {0, 0, 0, 1});  // input: one view is written
    u16({0, 0, channels});
    program.insert(program.end(), {1, 1, 0, 0});  // output: one view is read
    u16({0, 0, channels});
    std::vector<uint8_t> file = {0x89, 'p', 's', 'e', 'g', '\r', '\n', 0x1a, 1, 0, 0, 0, 0, 0, 0, 0};
    for (const uint64_t size : {80 + card.size() + program.size(), card.size(), program.size(), size_t(0)})
        for (int i = 0; i < 8; ++i) file.push_back(uint8_t(size >> (8 * i)));
    pseg::Sha256 sum;
    sum.add(file.data(), file.size());
    sum.add(reinterpret_cast<const uint8_t*>(card.data()), card.size());
    sum.add(program.data(), program.size());
    const auto digest = sum.digest();
    file.insert(file.end(), digest.begin(), digest.end());
    file.insert(file.end(), card.begin(), card.end());
    file.insert(file.end(), program.begin(), program.end());
    return file;
}
