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

// Rows first … last − 1.
struct Span {
    uint32_t first = 0, last = 0;
};

constexpr size_t MAX_FUSED_OPS = 16;

// Instructions that are done together (fusion.h), or one alone.
struct FusionGroup {
    // Whose result one op needs for its own; `window`: the rows that its window sees, else the same rows.
    struct Edge {
        uint8_t from, to;
        bool window;
    };
    std::vector<uint32_t> ops;  // instructions, in order
    std::vector<Edge> edges;
    uint32_t rows = 0;        // of the last one's result, at a time
    uint64_t ring_bytes = 0;  // of one thread
};

struct Plan {
    uint32_t threads = 0;
    std::vector<Shape> results;  // of each instruction
    std::vector<Shape> buffers;  // of each buffer
    std::vector<FusionGroup> fusion_groups;
    std::vector<uint32_t> rings;  // rows that are kept of each buffer, a power of two; 0: all
    std::vector<size_t> offsets;  // of each buffer in the arena; of rings in the memory of a thread
    size_t scratch_offset = 0;    // memory of the first thread: rings, then what kernels need
    size_t scratch_bytes = 0;     // of one thread
    size_t arena_bytes = 0;       // with what aligning the caller's pointer may cost
};

// The rows that one of several threads does.
Span part_of(uint32_t rows, uint32_t part, uint32_t parts);

// Throws Fault where the size does not fit the net, or needs too much memory.
Plan make_plan(const Program& program, uint32_t height, uint32_t width, uint32_t threads);

}  // namespace pseg
