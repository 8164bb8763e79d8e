#include "kernels.h"

#include <cstdlib>
#include <cstring>

#include "fault.h"

namespace pseg {

#define KERNEL(set, name)                                    \
    namespace set::name {                                    \
    bool fits(const Program&, const Instruction&);           \
    void prepare(const Program&, Instruction&);              \
    uint64_t scratch(const Program&, const Instruction&);    \
    void run(Job&);                                          \
    }
#include "kernels.inc"
#undef KERNEL

namespace {

constexpr Kernel KERNELS[] = {
#define KERNEL(set, name) {#name "__" #set, Isa::set, set::name::fits, set::name::prepare, set::name::scratch, set::name::run},
#include "kernels.inc"
#undef KERNEL
};

}  // namespace

void choose_kernel(const Program& program, Instruction& it, Isa isa) {
    for (const Kernel& kernel : KERNELS) {
        if (kernel.isa > isa || !kernel.fits(program, it)) continue;
        it.kernel = &kernel;
        kernel.prepare(program, it);
        it.weights.f32 = {}, it.weights.whole = {};
        return;
    }
    throw Fault(PSEG_DAMAGED, "the file is damaged: an operation of unknown form");
}

Isa chosen_isa() {
    const char* wanted = std::getenv("POCKETSEG_ISA");
    if (!wanted || !*wanted || std::strcmp(wanted, "scalar") == 0) return Isa::scalar;
    throw Fault(PSEG_BAD_ARGUMENT, "POCKETSEG_ISA=%.40s is not offered here; scalar is", wanted);
}

const char* isa_name(Isa) { return "scalar"; }

Tensor Frame::tensor(const View& view) const {
    const Storage& storage = program.storages[view.storage];
    const Shape shape = plan.storages[view.storage];
    Tensor out{arena + plan.offsets[view.storage], storage.grid, shape.height, shape.width, view.channels, 0, 0, 0, 0};
    out.pixel = size_t(pixel_bytes(storage));
    out.row = out.pixel * shape.width;
    const Type type = program.type(view);
    if (type == Type::bits) {
        out.plane = size_t(plane_bytes(storage.channels));
        const uint32_t end = uint32_t(view.first) + view.channels;
        out.tail = end == storage.channels ? out.plane - (end + 7) / 8 : 0;
        out.data += view.first / 8;
    } else {
        out.data += view.first * size_t(type == Type::f32 || type == Type::s32 ? 4 : 1);
    }
    return out;
}

}  // namespace pseg
