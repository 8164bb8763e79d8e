// What this machine chose for the instructions of a file, once and for all sizes of images.
#pragma once

#include <cstdint>
#include <vector>

#include "program.h"

namespace pseg {

struct Kernel;

// Weights and constants, laid out for a kernel.
using Packed = std::vector<uint8_t>;

struct Operator {
    const Instruction* it = nullptr;  // what the file says
    const Kernel* kernel = nullptr;   // null: the operator after it does this one's work too
    Packed packed;
    bool requested = false;              // the kernel is the one that the file asks for, and is joined with no other
    const Operator* producer = nullptr;  // the operator whose work the kernel does first, row by row

    // The instruction whose input is read.
    const Instruction& reader() const { return producer ? *producer->it : *it; }
};

// In the order of the instructions. They point at one another: the vector may be moved, and does not grow.
using Operators = std::vector<Operator>;

}  // namespace pseg
