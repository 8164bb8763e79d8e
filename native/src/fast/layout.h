// How weights and constants lie for fast kernels. Compiled once, for any machine: it runs at load.
#pragma once

#include <cstdint>
#include <vector>

#include "../kernels.h"

namespace pseg::fast {

constexpr uint32_t NONE = UINT32_MAX;

// How the signed quads of a vector lie, as its dot product takes them: one after the other; as numbers of 16 bits, the
// even ones of all lanes before the odd ones; as pairs, the first ones of all lanes before the second ones.
enum class Order : uint8_t { quads, words, pairs };

// What of an instruction set the layout depends on.
struct Machine {
    uint32_t lanes;    // numbers of 32 bits in a vector
    uint32_t vectors;  // most vectors of outputs that one tile computes
    Order order;
    int32_t offset;  // what is taken from unsigned bytes before they are multiplied
};

// Where number j of the quad of a lane begins, in bytes.
constexpr uint32_t place_of(const Machine& machine, uint32_t lane, uint32_t j) {
    return machine.order == Order::quads   ? 4 * lane + j
           : machine.order == Order::words ? 4 * (machine.lanes * (j % 2) + lane) + j / 2 * 2
                                           : 2 * (machine.lanes * (j / 2) + lane) + j % 2;
}

// What packed begins with; offsets count from there, in bytes. Rows of constants are `outputs` long.
struct Head {
    uint64_t weights, starts, m, b, second_m, second_b;
    uint32_t outputs;  // with those that only fill vectors up
    float max_result;  // no |y| is larger, up to step 4 of the epilogue; inf where there is no such number
};

// Where packed begins: aligned.
inline const uint8_t* start_of(const Packed& packed) {
    const uintptr_t at = reinterpret_cast<uintptr_t>(packed.data());
    return packed.data() + (ALIGNMENT - at % ALIGNMENT) % ALIGNMENT;
}
inline const Head& head_of(const Operator& op) { return *reinterpret_cast<const Head*>(start_of(op.packed)); }

// Codes as unsigned bytes: the number 0, and the number of a code is code − zero.
int32_t zero_byte(const Quantization& grid);

// Whether it is a convolution over codes of a byte or bits, with weights of a byte, and sums of 32 bits.
bool is_byte_convolution(const Program& program, const Instruction& it);

// Channels of a pixel in lines that a depthwise kernel reads: 16, 32 or whole vectors.
uint32_t depthwise_pixel(const Machine& machine, uint32_t channels);

// Vectors of outputs of the tile that begins at vector `first` of `all`: as many as a tile has, or 2, or 1.
uint32_t vectors_at(const Machine& machine, uint32_t first, uint32_t all);

// How matrix tiles go through the sum of an output: in runs of quads that lie side by side (a row of the kernel, or a
// tap where taps are spread), and through each in steps of equally many quads, at most 16. The last step ends with its
// run; what it shares with the step before has weights of 0 there, so that nothing behind a run is read.
struct Steps {
    uint32_t runs, taps, quads;  // runs; taps of one, and its quads
    uint32_t length, count;      // quads of a step; steps of a run

    uint32_t begin(uint32_t step) const { return step + 1 < count ? step * length : quads - length; }
    size_t bytes() const { return size_t(runs) * count * length * 64; }  // of the weights of 16 outputs and one plane
};
Steps steps_of(const Instruction& it);

// Weights and constants as kernels read them; of the weights, the order from the outermost to the innermost:
// (tile, plane, tap, quad of inputs, vector, lane, 4)
void dense_codes(const Program& program, const Instruction& it, const Machine& machine, Packed& packed);
// (vector of 16 outputs, plane, run, step, quad of inputs, lane, 4): see Steps
void tile_codes(const Program& program, const Instruction& it, Packed& packed);
// (block of channels, plane, column of the kernel, quad of its rows, part, lane, 4)
void depthwise_codes(const Program& program, const Instruction& it, const Machine& machine, Packed& packed);
// (tile, plane, tap, word of inputs, vector, lane); words of 32 bits
void dense_bits(const Program& program, const Instruction& it, const Machine& machine, Packed& packed);
// (tile, plane, tap, input, vector, lane); f32
void dense_floats(const Program& program, const Instruction& it, const Machine& machine, Packed& packed);
// (plane, tap, channel); f32
void depthwise_floats(const Program& program, const Instruction& it, const Machine& machine, Packed& packed);

}  // namespace pseg::fast
