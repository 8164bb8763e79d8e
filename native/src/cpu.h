// What the processor can do and the operating system lets it: by CPUID and XGETBV, since what compilers offer for it
// needs a start-up of their own run-time library, without which it says that there is nothing.
#pragma once

#if defined(POCKETSEG_X86)
namespace pseg {

struct Cpu {
    bool avx2 = false;    // with FMA and POPCNT
    bool avx512 = false;  // F, BW, DQ, VL, VNNI and VPOPCNTDQ
};

Cpu cpu();

}  // namespace pseg
#endif
