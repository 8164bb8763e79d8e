// Arithmetic of shapes and sizes that several files need.
//
// The functions are in an unnamed namespace: each file compiles its own, so that none that was compiled for one
// instruction set can be linked into code for another.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "program.h"

namespace pseg {

constexpr size_t ALIGNMENT = 64;  // of tensors, and of what kernels have for themselves

struct Shape {
    uint32_t height = 0, width = 0;
};

// Rows first … last − 1.
struct Span {
    uint32_t first = 0, last = 0;
};

// For an image of one size.
struct Shapes {
    std::vector<Shape> results;  // of each instruction
    std::vector<Shape> buffers;  // of each buffer
};

namespace {

inline uint32_t round_up(uint32_t number, uint32_t multiple) { return (number + multiple - 1) / multiple * multiple; }
inline uint64_t align_up(uint64_t bytes) { return (bytes + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT; }

// The rows that one of several threads does.
inline Span part_of(uint32_t rows, uint32_t part, uint32_t parts) {
    return {uint32_t(uint64_t(rows) * part / parts), uint32_t(uint64_t(rows) * (part + 1) / parts)};
}

// Rows (side 0) or columns (side 1) from the first tap of a window to its last.
inline uint32_t reach(const Window& window, int side) {
    return uint32_t(window.dilation[side]) * uint32_t(window.kernel[side] - 1) + 1;
}

inline bool has_padding(const Window& window) {
    return window.padding[0] | window.padding[1] | window.padding[2] | window.padding[3];
}

// Places of a kernel: its height times its width.
inline uint32_t taps(const Instruction& it) { return uint32_t(it.window.kernel[0]) * it.window.kernel[1]; }

// Channels of one group of a convolution, of the input and of the output.
inline uint32_t group_inputs(const Instruction& it) { return it.reads[0].channels / it.groups; }
inline uint32_t group_outputs(const Instruction& it) { return it.channels / it.groups; }

// Bit planes of a tensor; 1 of all that are not bits.
inline uint32_t planes_of(const Quantization* grid) { return grid ? uint32_t(grid->planes) : 1; }

// Bytes of a number that is not a bit.
inline uint32_t bytes_of(Type type) { return type == Type::f32 || type == Type::s32 ? 4 : 1; }

// Whether a step takes a second tensor.
inline bool has_operand(const Step& step) { return step.kind == StepKind::add || step.kind == StepKind::multiply; }

// Two rows or columns of the input, and how far from the first to the second a row or column of a result lies.
struct Between {
    uint32_t low, high;
    float way;
};

// Where row or column `at` of a bilinear result lies. As torch computes it, in f32: at · (in − 1) / (out − 1) with
// aligned corners, else (at + ½) / factor − ½, and no less than 0.
[[maybe_unused]] Between between(uint32_t at, uint32_t in, uint32_t out, uint8_t factor, bool align_corners) {
    const float step = align_corners ? (out > 1 ? float(in - 1) / float(out - 1) : 0.0f) : 1.0f / float(factor);
    const float exact = align_corners ? step * float(at) : step * (float(at) + 0.5f) - 0.5f;
    const float place = exact > 0 ? exact : 0;
    uint32_t low = uint32_t(place);
    if (low > in - 1) low = in - 1;
    return {low, low + 1 < in ? low + 1 : low, place - float(low)};
}

}  // namespace
}  // namespace pseg
