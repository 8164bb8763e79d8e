// What a kernel is, what it sees when it runs, and how one is chosen.
//
// A kernel computes some rows of the result of one instruction. kernels.inc lists all of them, best first; the first
// one of an instruction set (ISA) that the machine has, and that fits the instruction, is taken. Scalar kernels stand
// last, fit everything, and are the specification: every other one gives their bytes. Files of fast/ are compiled once
// for each other ISA.
#pragma once

#include <cstddef>
#include <cstdint>

#include "operators.h"
#include "plan.h"
#include "program.h"
#include "shapes.h"

namespace pseg {

// In order: what one has no kernel for is done by those before it that the machine has.
enum class Isa : uint8_t { scalar, wasm, neon, dotprod, sse41, avx2, avxvnni, avx512, amx };

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
    const Operator& op;
    const Instruction& it;  // of op
    Shape shape;            // of the whole result
    uint32_t first, last;
    uint8_t* scratch;  // aligned, as many bytes as the kernel asked for
    bool finite;       // turned off where nan or inf would become a code
};

struct Kernel {
    const char* name;  // isa/name
    Isa isa;
    bool (*fits)(const Program&, const Instruction&);
    // Lays weights and constants out as run reads them.
    void (*prepare)(const Program&, const Instruction&, Packed& packed);
    // Bytes that run needs for itself, for one thread; the shapes of the first input and of the result.
    uint64_t (*scratch)(const Program&, const Operator&, Shape in, Shape out);
    void (*run)(Job&);
};

// An operator for each instruction: the kernel that the file asks for, if it is tuned for this ISA and it fits, else
// the best one, with its packed weights; the program's own weights are released, one instruction after the other. Pairs
// that one kernel does at once are joined: what lies between them is never stored. Throws Fault.
Operators choose_kernels(Program& program, const KernelHints& hints, Isa isa);

// The kernels of the library, as kernels.inc lists them; null behind the last.
const Kernel* kernel_at(size_t number);

// The ISA that POCKETSEG_ISA asks for, else the best one of this machine. Throws Fault.
Isa chosen_isa();
const char* isa_name(Isa isa);

// Sends the f32 values of one pixel through the steps, in place, and writes them wherever the instruction says.
void apply_epilogue(Job& job, uint32_t y, uint32_t x, float* values);

}  // namespace pseg
