#include "tiles.h"

#include <cpuid.h>
#include <sys/syscall.h>
#include <unistd.h>

namespace pseg {

bool tiles_are_granted() {
    unsigned a, b, c, d;
    if (!__get_cpuid_count(7, 0, &a, &b, &c, &d)) return false;
    constexpr unsigned AMX_TILE = 1u << 24, AMX_INT8 = 1u << 25;
    constexpr long ARCH_REQ_XCOMP_PERM = 0x1023, XFEATURE_XTILEDATA = 18;
    return (d & AMX_TILE) && (d & AMX_INT8) && syscall(SYS_arch_prctl, ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA) == 0;
}

}  // namespace pseg
