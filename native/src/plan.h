// Where tensors lie for an image of a given size, and how much memory a run needs.
#pragma once

#include <cstddef>
#include <vector>

#include "program.h"

namespace pseg {

constexpr size_t ALIGNMENT = 64;

struct Shape {
    uint32_t height = 0, width = 0;
};

struct Plan {
    uint32_t threads = 0;
    std::vector<Shape> results;   // of each instruction
    std::vector<Shape> storages;  // of each storage
    std::vector<size_t> offsets;  // of each storage in the arena
    size_t scratch_offset = 0;    // memory of the first thread's kernels
    size_t scratch_bytes = 0;     // of one thread
    size_t arena_bytes = 0;       // with what aligning the caller's pointer may cost
};

// Throws Fault where the size does not fit the net, or needs too much memory.
Plan planned(const Program& program, uint32_t height, uint32_t width, uint32_t threads);

}  // namespace pseg
