#include "cpu.h"

#if defined(POCKETSEG_X86)
#include <cpuid.h>

#include <cstdint>

namespace pseg {

namespace {

struct Leaf {
    unsigned a = 0, b = 0, c = 0, d = 0;  // all 0 where the processor has no such leaf
};

Leaf leaf(unsigned number, unsigned part = 0) {
    Leaf found;
    __get_cpuid_count(number, part, &found.a, &found.b, &found.c, &found.d);
    return found;
}

constexpr bool has(unsigned word, unsigned bits) { return (word & bits) == bits; }

// Which registers the system keeps for each process: XCR0.
uint64_t kept_registers() {
    unsigned low, high;
    __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    return uint64_t(high) << 32 | low;
}

constexpr unsigned bit(unsigned place) { return 1u << place; }

// Leaf 1, ECX.
constexpr unsigned SSSE3 = bit(9), FMA = bit(12), SSE41 = bit(19), POPCNT = bit(23), OSXSAVE = bit(27), AVX = bit(28);
// Leaf 7, EBX and ECX.
constexpr unsigned AVX2 = bit(5), AVX512F = bit(16), AVX512DQ = bit(17), AVX512BW = bit(30), AVX512VL = bit(31);
constexpr unsigned AVX512VNNI = bit(11), AVX512VPOPCNTDQ = bit(14);
// Leaf 7, part 1, EAX.
constexpr unsigned AVXVNNI = bit(4);
// XCR0: halves of 256-bit registers; masks, and the rest of 512-bit ones, which macOS keeps from their first use on.
constexpr unsigned YMM = bit(1) | bit(2);
#if defined(__APPLE__)
constexpr unsigned ZMM = YMM;
#else
constexpr unsigned ZMM = YMM | bit(5) | bit(6) | bit(7);
#endif

}  // namespace

Cpu cpu() {
    const Leaf first = leaf(1), seventh = leaf(7);
    Cpu found;
    found.sse41 = has(first.c, SSSE3 | SSE41);
    if (!has(first.c, FMA | POPCNT | OSXSAVE | AVX)) return found;
    const uint64_t kept = kept_registers();
    found.avx2 = has(unsigned(kept), YMM) && has(seventh.b, AVX2);
    found.avx512 = found.avx2 && has(unsigned(kept), ZMM) && has(seventh.b, AVX512F | AVX512DQ | AVX512BW | AVX512VL) &&
                   has(seventh.c, AVX512VNNI | AVX512VPOPCNTDQ);
#if defined(POCKETSEG_EVEX)
    found.avxvnni = found.avx512;  // for tests: its kernels are written in instructions of AVX-512
#else
    found.avxvnni = found.avx2 && seventh.a > 0 && has(leaf(7, 1).a, AVXVNNI);  // seventh.a: the last part
#endif
    return found;
}

}  // namespace pseg

#elif defined(POCKETSEG_ARM)
#if defined(__linux__)
#include <sys/auxv.h>
#elif defined(_WIN32)
#include <windows.h>
#if !defined(PF_ARM_V82_DP_INSTRUCTIONS_AVAILABLE)  // older headers have no name for it
#define PF_ARM_V82_DP_INSTRUCTIONS_AVAILABLE 43
#endif
#endif

namespace pseg {

Cpu cpu() {
    Cpu found;
#if defined(__linux__)
    found.dot_products = getauxval(AT_HWCAP) & HWCAP_ASIMDDP;
#elif defined(_WIN32)
    found.dot_products = IsProcessorFeaturePresent(PF_ARM_V82_DP_INSTRUCTIONS_AVAILABLE);
#elif defined(__APPLE__)
    found.dot_products = true;  // every ARM64 Mac has them
#endif
    return found;
}

}  // namespace pseg
#endif
