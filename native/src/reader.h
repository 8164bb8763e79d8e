#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

#include "program.h"

namespace pseg {

constexpr uint32_t FORMAT_VERSION = 2;

// What a file says. It is the same on every machine.
struct ModelFile {
    Program program;
    KernelHints hints;      // as long as the bytes are there
    std::string_view card;  // the same
};

// Throws Fault; reads nothing outside of the bytes and allocates nothing above the limits.
ModelFile read_model(const uint8_t* bytes, size_t length);

}  // namespace pseg
