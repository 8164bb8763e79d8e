// The tile instructions that kernels use, in plain C++, in place of the compiler's: for machines without AMX. The build
// includes this before the kernels' source (POCKETSEG_EMULATE_AMX), which is the same in both builds.
//
// What Intel's manual (Software Developer's Manual, volume 2: LDTILECFG, TILELOADD, TILESTORED, TDPBUSD, TILERELEASE) has as a
// fault, ends the process here; so does a thread that ends without having released its tiles.
#pragma once

#include <immintrin.h>

#include <cstddef>

namespace emulated_amx {

void configure(const void* memory);
void release();
void load(int tile, const void* base, size_t stride);
void store(int tile, void* base, size_t stride);
// Each sum of `sums` += four unsigned bytes of `a` · four signed bytes of `b`, for every four.
void multiply_unsigned_signed(int sums, int a, int b);

}  // namespace emulated_amx

#undef _tile_loadd
#undef _tile_stored
#undef _tile_dpbusd
#define _tile_loadconfig(memory) emulated_amx::configure(memory)
#define _tile_release() emulated_amx::release()
#define _tile_loadd(tile, base, stride) emulated_amx::load(tile, base, stride)
#define _tile_stored(tile, base, stride) emulated_amx::store(tile, base, stride)
#define _tile_dpbusd(sums, a, b) emulated_amx::multiply_unsigned_signed(sums, a, b)
