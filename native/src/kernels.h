// What a kernel is, what it sees when it runs, and how one is chosen.
//
// A kernel computes some rows of the result of one instruction. kernels.inc lists all of them, best first; the first
// one of a set that the machine has, and that fits the instruction, is taken. Scalar kernels stand last, fit
// everything, and are the specification: every other one gives their bytes. Files of fast/ are compiled once for each
// other set.
#pragma once

#include <cstddef>
#include <cstdint>

#include "plan.h"
#include "program.h"

namespace pseg {

// In order: what a set has no kernel for is done by those of the sets before it.
enum class Isa : uint8_t { scalar, neon, avx2, avx512, amx };

// A view in memory. A pixel's channels lie side by side; of bits, plane by plane, `plane` bytes apart.
struct Tensor {
    uint8_t* data;
    const Quantization* grid;
    uint32_t height, width, channels;
    uint32_t ring;             // rows that are kept, a power of two; 0: all
    size_t pixel, row, plane;  // bytes from one to the next
    size_t tail;               // bytes behind the last channel's up to the end of its plane, if no other view has them

    uint8_t* at(uint32_t y, uint32_t x) const { return data + (y & (ring - 1)) * row + x * pixel; }
    float* floats(uint32_t y, uint32_t x) const { return reinterpret_cast<float*>(at(y, x)); }
};

// One run of a model, as a thread sees it.
struct Frame {
    const Program& program;
    const Plan& plan;
    uint8_t* arena;  // aligned
    uint8_t* rings;  // of this thread
    const float* image;
    float* logits;

    Tensor tensor(const View& view) const;
};

// Rows first … last − 1 of the result of an instruction.
struct Job {
    const Frame& frame;
    const Instruction& it;
    Shape shape;  // of the whole result
    uint32_t first, last;
    uint8_t* scratch;  // aligned, as many bytes as the kernel asked for
    bool finite;       // turned off where nan or inf would become a code
};

struct Kernel {
    const char* name;  // set/name
    Isa isa;
    bool (*fits)(const Program&, const Instruction&);
    // Lays weights out as run wants them, in `packed`.
    void (*prepare)(const Program&, Instruction&);
    // Bytes that run needs for itself, for one thread; the shapes of the first input and of the result.
    uint64_t (*scratch)(const Program&, const Instruction&, Shape, Shape);
    void (*run)(Job&);
};

// Sets the instruction's kernel and its packed weights. The kernel that is set beforehand is taken if it fits, and then
// runs alone: it is joined with no other. Else the best one is.
void choose_kernel(const Program& program, Instruction& it, Isa isa);

// The kernels of the library, as kernels.inc lists them; null behind the last.
const Kernel* kernel_at(size_t number);

// Pairs of instructions that one kernel does at once: what lies between them is never stored.
void join_kernels(Program& program, Isa isa);

// The set that POCKETSEG_ISA asks for, else the best one of this machine. Throws Fault.
Isa chosen_isa();
const char* isa_name(Isa isa);

// Sends the f32 values of one pixel through the steps, in place, and writes them wherever the instruction says.
void apply_epilogue(Job& job, uint32_t y, uint32_t x, float* values);

}  // namespace pseg
