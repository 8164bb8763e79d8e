// What the processor can do and the operating system lets it: by CPUID and XGETBV, since what compilers offer for it
// needs a start-up of their own run-time library, without which it says that there is nothing; on ARM the system says.
#pragma once

namespace pseg {

struct Cpu {
#if defined(POCKETSEG_X86)
    bool sse41 = false;    // with SSSE3
    bool avx2 = false;     // with FMA and POPCNT
    bool avxvnni = false;  // with AVX2
    bool avx512 = false;   // F, BW, DQ, VL, VNNI and VPOPCNTDQ
#elif defined(POCKETSEG_ARM)
    bool dot_products = false;
#endif
};

Cpu cpu();

}  // namespace pseg
