// Where tensors lie for an image of a given size, and how much memory a run needs.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "fusion.h"
#include "operators.h"
#include "program.h"
#include "shapes.h"

namespace pseg {

struct Plan {
    uint32_t threads = 0;
    Shapes shapes;
    Fusion fusion;                // groups in the order in which they run
    std::vector<size_t> offsets;  // of each buffer that is not a ring, in the arena
    size_t scratch_offset = 0;    // memory of the first thread: rings, then what kernels need
    size_t scratch_bytes = 0;     // of one thread
    size_t arena_bytes = 0;       // with what aligning the caller's pointer may cost
};

// Throws Fault where the size does not fit the net, or needs too much memory.
Plan make_plan(const Program& program, const Operators& operators, uint32_t height, uint32_t width, uint32_t threads);

}  // namespace pseg
