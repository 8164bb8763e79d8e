#include "kernels.h"

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <iterator>
#include <vector>

#include "cpu.h"
#include "fault.h"
#if defined(POCKETSEG_AMX)
#include "tiles.h"
#endif

namespace pseg {

#define KERNEL(isa, name)                                            \
    namespace isa::name {                                            \
    bool fits(const Program&, const Instruction&);                   \
    void prepare(const Program&, const Instruction&, Packed&);       \
    uint64_t scratch(const Program&, const Operator&, Shape, Shape); \
    void run(Job&);                                                  \
    }
#define JOINED(isa, name, first, second)                             \
    namespace isa::name {                                            \
    bool joins(const Program&, const Operator&, const Operator&);    \
    uint64_t scratch(const Program&, const Operator&, Shape, Shape); \
    void run(Job&);                                                  \
    }
#include "kernels.inc"
#undef KERNEL
#undef JOINED

namespace {

constexpr Kernel KERNELS[] = {
#define KERNEL(isa, name) \
    {#isa "/" #name, Isa::isa, isa::name::fits, isa::name::prepare, isa::name::scratch, isa::name::run},
#define JOINED(isa, name, first, second)
#include "kernels.inc"
#undef KERNEL
#undef JOINED
};

struct Joined {
    const char *first, *second;
    bool (*joins)(const Program&, const Operator&, const Operator&);
    Kernel kernel;
};

const Joined JOINS[] = {
#define KERNEL(isa, name)
#define JOINED(isa, name, first, second) \
    {#isa "/" #first,                    \
     #isa "/" #second,                   \
     isa::name::joins,                   \
     {#isa "/" #name, Isa::isa, nullptr, nullptr, isa::name::scratch, isa::name::run}},
#include "kernels.inc"
#undef KERNEL
#undef JOINED
    {nullptr, nullptr, nullptr, {}},
};

// Whether this machine has an ISA.
bool has(Isa isa) {
    switch (isa) {
        case Isa::scalar:
            return true;
#if defined(POCKETSEG_X86)
        case Isa::sse41:
            return cpu().sse41;
        case Isa::avx2:
            return cpu().avx2;
#if defined(POCKETSEG_AVXVNNI)
        case Isa::avxvnni:
            return cpu().avxvnni;
#endif
        case Isa::avx512:
            return cpu().avx512;
#if defined(POCKETSEG_AMX)
        case Isa::amx:
            return has(Isa::avx512) && tiles_are_granted();
#endif
#elif defined(POCKETSEG_WASM)
        case Isa::wasm:
            return true;  // a machine without it refuses the whole module
#elif defined(POCKETSEG_ARM)
        case Isa::neon:
            return true;  // a part of ARM64
        case Isa::dotprod:
            return cpu().dot_products;
#endif
        default:
            return false;
    }
}

constexpr Isa ISAS[] = {Isa::amx,     Isa::avx512, Isa::avxvnni, Isa::avx2,  Isa::sse41,
                        Isa::dotprod, Isa::neon,   Isa::wasm,    Isa::scalar};

// Those whose kernels may run where `best` was chosen. A processor with AVX-512 need not have what AVX-VNNI adds.
class Sets {
public:
    explicit Sets(Isa best) {
        for (Isa isa : ISAS)
            if (isa <= best && has(isa)) sets_ |= bit(isa);
    }
    bool contains(Isa isa) const { return sets_ & bit(isa); }

private:
    static unsigned bit(Isa isa) { return 1u << unsigned(isa); }

    unsigned sets_ = 0;
};

// Who touches a buffer: how often, and the first one that reads it.
struct Use {
    size_t writes = 0, reads = 0, reader = 0;
};

std::vector<Use> uses(const Program& program) {
    std::vector<Use> of(program.buffers.size());
    for (size_t i = 0; i < program.instructions.size(); ++i) {
        const Instruction& it = program.instructions[i];
        const auto read = [&](const View& view) {
            if (of[view.buffer].reads++ == 0) of[view.buffer].reader = i;
        };
        for (const View& view : it.writes) ++of[view.buffer].writes;
        for (const View& view : it.reads) read(view);
        for (const Step& step : it.steps)
            if (has_operand(step)) read(step.view), read(step.view);  // not what a joined kernel reads
    }
    return of;
}

// The kernel that the file asks for; what this library does not know is not asked for.
const Kernel* requested(const KernelHints& hints, size_t instruction, Isa isa) {
    if (hints.kernels.empty() || hints.machine != isa_name(isa)) return nullptr;
    for (const Kernel& kernel : KERNELS)
        if (hints.kernels[instruction] == kernel.name) return &kernel;
    return nullptr;
}

void choose(const Program& program, const Instruction& it, const Kernel* requested, const Sets& sets, Operator& op) {
    const auto fits = [&](const Kernel& kernel) { return sets.contains(kernel.isa) && kernel.fits(program, it); };
    op.it = &it;
    // Of the image there is nothing that a kernel could look at.
    op.requested = requested && !it.reads.empty() && fits(*requested);
    op.kernel = op.requested ? requested : std::find_if(KERNELS, std::end(KERNELS), fits);
    if (op.kernel == std::end(KERNELS)) throw Fault(PSEG_DAMAGED, "the file is damaged: an operation of unknown form");
    op.kernel->prepare(program, it, op.packed);
}

void join_kernels(const Program& program, Operators& operators, const Sets& sets) {
    const std::vector<Use> use = uses(program);
    for (size_t i = 0; i + 1 < operators.size(); ++i) {
        Operator &first = operators[i], &second = operators[i + 1];
        if (!first.kernel || first.requested || second.requested || first.it->writes.size() != 1) continue;
        const Use& between = use[first.it->writes[0].buffer];
        if (between.writes != 1 || between.reads != 1 || between.reader != i + 1) continue;
        for (const Joined* join = JOINS; join->first; ++join) {
            if (!sets.contains(join->kernel.isa) || std::strcmp(first.kernel->name, join->first) ||
                std::strcmp(second.kernel->name, join->second))
                continue;
            if (!join->joins(program, first, second)) continue;
            first.kernel = nullptr;
            second.kernel = &join->kernel;
            second.producer = &first;
            break;
        }
    }
}

}  // namespace

Operators choose_kernels(Program& program, const KernelHints& hints, Isa isa) {
    const Sets sets(isa);
    Operators operators(program.instructions.size());
    for (size_t i = 0; i < operators.size(); ++i) {
        choose(program, program.instructions[i], requested(hints, i, isa), sets, operators[i]);
        program.instructions[i].weights.release();
    }
    join_kernels(program, operators, sets);
    return operators;
}

const Kernel* kernel_at(size_t number) { return number < std::size(KERNELS) ? &KERNELS[number] : nullptr; }

Isa chosen_isa() {
    const char* wanted = std::getenv("POCKETSEG_ISA");
    char offered[64] = "";
    for (Isa isa : ISAS) {
        if (!has(isa)) continue;
        if (!wanted || !*wanted || std::strcmp(wanted, isa_name(isa)) == 0) return isa;
        std::snprintf(offered + std::strlen(offered), sizeof offered - std::strlen(offered), "%s%s",
                      *offered ? ", " : "", isa_name(isa));
    }
    throw Fault(PSEG_BAD_ARGUMENT, "POCKETSEG_ISA=%.40s is not offered here; there is %s", wanted, offered);
}

const char* isa_name(Isa isa) {
    switch (isa) {
        case Isa::amx:
            return "amx";
        case Isa::avx512:
            return "avx512";
        case Isa::avxvnni:
            return "avxvnni";
        case Isa::avx2:
            return "avx2";
        case Isa::sse41:
            return "sse41";
        case Isa::dotprod:
            return "dotprod";
        case Isa::neon:
            return "neon";
        case Isa::wasm:
            return "wasm";
        default:
            return "scalar";
    }
}

Tensor Frame::tensor(const View& view) const {
    const Buffer& buffer = program.buffers[view.buffer];
    const Shape shape = plan.shapes.buffers[view.buffer];
    const uint32_t kept = plan.fusion.rings[view.buffer];
    Tensor out{kept ? rings + plan.fusion.offsets[view.buffer] : arena + plan.offsets[view.buffer],
               buffer.grid,
               shape.height,
               shape.width,
               view.channels,
               kept,
               0,
               0,
               0,
               0};
    out.pixel = size_t(pixel_bytes(buffer));
    out.row = out.pixel * shape.width;
    const Type type = program.type(view);
    if (type == Type::bits) {
        out.plane = size_t(plane_bytes(buffer.channels));
        const uint32_t end = uint32_t(view.first) + view.channels;
        out.tail = end == buffer.channels ? out.plane - (end + 7) / 8 : 0;
        out.data += view.first / 8;
    } else {
        out.data += size_t(view.first) * bytes_of(type);
    }
    return out;
}

}  // namespace pseg
