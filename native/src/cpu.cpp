#include "cpu.h"

#if defined(POCKETSEG_X86)
#include <cpuid.h>

#include <cstdint>

namespace pseg {

namespace {

struct Leaf {
    unsigned a = 0, b = 0, c = 0, d = 0;  // all 0 where the processor has no such leaf
};

Leaf leaf(unsigned number) {
    Leaf found;
    __get_cpuid_count(number, 0, &found.a, &found.b, &found.c, &found.d);
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
constexpr unsigned FMA = bit(12), POPCNT = bit(23), OSXSAVE = bit(27), AVX = bit(28);
// Leaf 7, EBX and ECX.
constexpr unsigned AVX2 = bit(5), AVX512F = bit(16), AVX512DQ = bit(17), AVX512BW = bit(30), AVX512VL = bit(31);
constexpr unsigned AVX512VNNI = bit(11), AVX512VPOPCNTDQ = bit(14);
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
    if (!has(first.c, FMA | POPCNT | OSXSAVE | AVX)) return found;
    const uint64_t kept = kept_registers();
    found.avx2 = has(unsigned(kept), YMM) && has(seventh.b, AVX2);
    found.avx512 = found.avx2 && has(unsigned(kept), ZMM) && has(seventh.b, AVX512F | AVX512DQ | AVX512BW | AVX512VL) &&
                   has(seventh.c, AVX512VNNI | AVX512VPOPCNTDQ);
    return found;
}

}  // namespace pseg
#endif
