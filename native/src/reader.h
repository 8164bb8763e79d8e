#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels.h"
#include "program.h"

namespace pseg {

constexpr uint32_t FORMAT_VERSION = 2;

// The program of a file, with the kernels of an instruction set chosen and its weights laid out for them. Throws Fault;
// reads nothing outside of the bytes and allocates nothing above the limits.
Program read_program(const uint8_t* bytes, size_t length, Isa isa);

}  // namespace pseg
