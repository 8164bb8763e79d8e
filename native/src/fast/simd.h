// Vectors of one instruction set: what its compiler flags name. Files of fast/ are compiled once for each ISA, in a
// namespace of its own, and know no other way to the machine.
//
// LANES numbers of 32 bits are a vector; a quad is four bytes that one lane multiplies and sums. Nothing here is linked
// by name from outside of its file: two ISAs never share a function.
#pragma once

#include <cstdint>
#include <cstring>
#include <utility>

#include "layout.h"

#if defined(__SSE4_1__)
#include <immintrin.h>
#elif defined(__ARM_NEON)
#include <arm_neon.h>
#elif defined(__wasm_simd128__)
#include <wasm_simd128.h>
#endif

// Whatever a compiler thinks of size: a call in a loop pushes every vector out of its register.
#define INLINE __attribute__((always_inline))

namespace pseg::PSEG_ISA {
namespace {

#if defined(__AVX512F__)
constexpr uint32_t LANES = 16;
#elif defined(__AVX2__)
constexpr uint32_t LANES = 8;
#else
constexpr uint32_t LANES = 4;
#endif
constexpr uint32_t BYTES = 4 * LANES;
#if defined(__SSE4_1__) && !defined(__AVX512F__)
constexpr bool FEW_REGISTERS = true;  // 16, else 32
#else
constexpr bool FEW_REGISTERS = false;
#endif

typedef float F32 __attribute__((vector_size(4 * LANES)));
typedef int32_t I32 __attribute__((vector_size(4 * LANES)));
typedef uint8_t U8 __attribute__((vector_size(4 * LANES)));

// Memory is of any alignment and any type.
template <class Value>
struct Unaligned {
    typedef Value Type __attribute__((aligned(1), may_alias));
};
template <class Value>
INLINE inline Value load(const void* at) {
#if defined(__AVX2__)  // gcc sends what it loads as an unaligned type through the stack
#if defined(__AVX512F__)
    if constexpr (sizeof(Value) == 64) return (Value)_mm512_loadu_si512(at);
#endif
    if constexpr (sizeof(Value) == 32) return (Value)_mm256_loadu_si256(static_cast<const __m256i*>(at));
#endif
    return *static_cast<const typename Unaligned<Value>::Type*>(at);
}
template <class Value>
INLINE inline void store(void* at, Value value) {
    *static_cast<typename Unaligned<Value>::Type*>(at) = value;
}
// Calls each(0), each(1), …, each(N − 1) with constants: what is indexed by them stays in registers.
template <class Each, int... index>
INLINE inline void unroll(Each each, std::integer_sequence<int, index...>) {
    (each(std::integral_constant<int, index>{}), ...);
}
template <int N, class Each>
INLINE inline void unroll(Each each) {
    unroll(each, std::make_integer_sequence<int, N>{});
}

// Few bytes, without a call.
INLINE inline void copy_bytes(uint8_t* to, const uint8_t* from, size_t bytes) {
    for (; bytes >= 16; bytes -= 16, to += 16, from += 16) __builtin_memcpy(to, from, 16);
    for (; bytes >= 4; bytes -= 4, to += 4, from += 4) __builtin_memcpy(to, from, 4);
    for (; bytes; --bytes) *to++ = *from++;
}

template <class Vector, class Number>
INLINE inline Vector broadcast(Number value) {
    return Vector{} + value;
}
INLINE inline F32 to_float(I32 x) { return __builtin_convertvector(x, F32); }

#if defined(__AVX512F__)

INLINE inline F32 min(F32 a, F32 b) { return (F32)_mm512_min_ps((__m512)a, (__m512)b); }
INLINE inline F32 max(F32 a, F32 b) { return (F32)_mm512_max_ps((__m512)a, (__m512)b); }
constexpr bool FUSED = true;  // fma rounds once
INLINE inline F32 fma(F32 a, F32 b, F32 c) { return (F32)_mm512_fmadd_ps((__m512)a, (__m512)b, (__m512)c); }
INLINE inline U8 max(U8 a, U8 b) { return (U8)_mm512_max_epu8((__m512i)a, (__m512i)b); }
// Half to even.
INLINE inline I32 round_to_int(F32 x) { return (I32)_mm512_cvtps_epi32((__m512)x); }
// Bit l is x[l] ≥ 0.
INLINE inline uint32_t nonnegative_mask(F32 x) {
    return _mm512_cmp_ps_mask((__m512)x, _mm512_setzero_ps(), _CMP_GE_OQ);
}
// Ones are counted in two steps: MAX_COUNTS results of popcount may be added (add_counts), and widen_counts makes a
// number of each lane of that.
constexpr uint32_t MAX_COUNTS = 1u << 24;
INLINE inline I32 popcount(I32 x) { return (I32)_mm512_popcnt_epi32((__m512i)x); }
INLINE inline I32 widen_counts(I32 counts) { return counts; }
INLINE inline I32 add_counts(I32 a, I32 b) { return a + b; }

// Four bytes, unsigned and signed, ready to be multiplied; ORDER is that of the signed ones.
struct Unsigned {
    __m512i x;
};
struct Signed {
    __m512i w;
};
constexpr fast::Order ORDER = fast::Order::quads;  // signed quads are stored as 16 bits, even ones before odd ones
constexpr int32_t OFFSET = 0;                      // what is taken from unsigned bytes before they are multiplied
constexpr uint32_t QUADS = BYTES;                  // bytes of a vector of signed quads
INLINE inline Unsigned unsigned_of(U8 x) { return {(__m512i)x}; }
INLINE inline Unsigned unsigned_four(const uint8_t* at) { return {_mm512_set1_epi32(load<int32_t>(at))}; }
INLINE inline Signed signed_of(const uint8_t* at) { return {load<__m512i>(at)}; }
INLINE inline I32 dot(I32 sum, Unsigned x, Signed w) { return (I32)_mm512_dpbusd_epi32((__m512i)sum, x.x, w.w); }

// Numbers and `zero` (16 bits, twice) to bytes, below 0 to 0, above 255 to 255; within each 128 bits, a's, b's, c's,
// d's follow one another.
INLINE inline U8 pack_by_parts(I32 a, I32 b, I32 c, I32 d, I32 zero) {
    return (U8)_mm512_packus_epi16(_mm512_adds_epi16(_mm512_packs_epi32((__m512i)a, (__m512i)b), (__m512i)zero),
                                   _mm512_adds_epi16(_mm512_packs_epi32((__m512i)c, (__m512i)d), (__m512i)zero));
}
// All of a, all of b, …
INLINE inline U8 pack(I32 a, I32 b, I32 c, I32 d, I32 zero) {
    const __m512i order = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
    return (U8)_mm512_permutexvar_epi32(order, (__m512i)pack_by_parts(a, b, c, d, zero));
}
// Quads (a, b, c, d)[i], as unsigned_of takes them; of each 128 bits, the first four bytes to[0], the next to[1], …
INLINE inline void zip(U8 a, U8 b, U8 c, U8 d, U8* to) {
    const __m512i ab = _mm512_unpacklo_epi8((__m512i)a, (__m512i)b), cd = _mm512_unpacklo_epi8((__m512i)c, (__m512i)d);
    const __m512i AB = _mm512_unpackhi_epi8((__m512i)a, (__m512i)b), CD = _mm512_unpackhi_epi8((__m512i)c, (__m512i)d);
    to[0] = (U8)_mm512_unpacklo_epi16(ab, cd), to[1] = (U8)_mm512_unpackhi_epi16(ab, cd);
    to[2] = (U8)_mm512_unpacklo_epi16(AB, CD), to[3] = (U8)_mm512_unpackhi_epi16(AB, CD);
}

// A vector of one, two or four equal parts, none under 16 bytes; and back, of any.
INLINE inline U8 concat(const uint8_t* const* at, uint32_t parts) {
    if (parts == 1) return load<U8>(at[0]);
    if (parts == 2)
        return (U8)_mm512_inserti64x4(_mm512_castsi256_si512(load<__m256i>(at[0])), load<__m256i>(at[1]), 1);
    const __m256i low = _mm256_inserti128_si256(_mm256_castsi128_si256(load<__m128i>(at[0])), load<__m128i>(at[1]), 1);
    const __m256i high = _mm256_inserti128_si256(_mm256_castsi128_si256(load<__m128i>(at[2])), load<__m128i>(at[3]), 1);
    return (U8)_mm512_inserti64x4(_mm512_castsi256_si512(low), high, 1);
}
INLINE inline void split(U8 x, uint8_t* const* to, uint32_t parts) {
    if (parts == 1) return store(to[0], x);
    const __m256i low = _mm512_castsi512_si256((__m512i)x), high = _mm512_extracti64x4_epi64((__m512i)x, 1);
    if (parts == 2) return store(to[0], low), store(to[1], high);
    store(to[0], _mm256_castsi256_si128(low)), store(to[1], _mm256_extracti128_si256(low, 1));
    store(to[2], _mm256_castsi256_si128(high)), store(to[3], _mm256_extracti128_si256(high, 1));
}

#elif defined(__AVX2__)

INLINE inline F32 min(F32 a, F32 b) { return (F32)_mm256_min_ps((__m256)a, (__m256)b); }
INLINE inline F32 max(F32 a, F32 b) { return (F32)_mm256_max_ps((__m256)a, (__m256)b); }
constexpr bool FUSED = true;
INLINE inline F32 fma(F32 a, F32 b, F32 c) { return (F32)_mm256_fmadd_ps((__m256)a, (__m256)b, (__m256)c); }
INLINE inline U8 max(U8 a, U8 b) { return (U8)_mm256_max_epu8((__m256i)a, (__m256i)b); }
INLINE inline I32 round_to_int(F32 x) { return (I32)_mm256_cvtps_epi32((__m256)x); }
INLINE inline uint32_t nonnegative_mask(F32 x) {
    return uint32_t(_mm256_movemask_ps(_mm256_cmp_ps((__m256)x, _mm256_setzero_ps(), _CMP_GE_OQ)));
}
// Bits of each half byte by table; bytes hold 31 such sums of at most 8.
constexpr uint32_t MAX_COUNTS = 31;
INLINE inline I32 popcount(I32 x) {
    const __m256i table = _mm256_setr_epi8(0, 1, 1, 2, 1, 2, 2, 3, 1, 2, 2, 3, 2, 3, 3, 4, 0, 1, 1, 2, 1, 2, 2, 3, 1, 2,
                                           2, 3, 2, 3, 3, 4);
    const __m256i low = _mm256_set1_epi8(15);
    return (I32)_mm256_add_epi8(_mm256_shuffle_epi8(table, _mm256_and_si256((__m256i)x, low)),
                                _mm256_shuffle_epi8(table, _mm256_and_si256(_mm256_srli_epi16((__m256i)x, 4), low)));
}
INLINE inline I32 widen_counts(I32 counts) {
    return (I32)_mm256_madd_epi16(_mm256_maddubs_epi16((__m256i)counts, _mm256_set1_epi8(1)), _mm256_set1_epi16(1));
}
INLINE inline I32 add_counts(I32 a, I32 b) { return (I32)_mm256_add_epi8((__m256i)a, (__m256i)b); }

#if defined(__AVXVNNI__) || defined(PSEG_EVEX)
struct Unsigned {
    __m256i x;
};
struct Signed {
    __m256i w;
};
constexpr fast::Order ORDER = fast::Order::quads;
constexpr int32_t OFFSET = 0;
constexpr uint32_t QUADS = BYTES;
INLINE inline Unsigned unsigned_of(U8 x) { return {(__m256i)x}; }
INLINE inline Unsigned unsigned_four(const uint8_t* at) { return {_mm256_set1_epi32(load<int32_t>(at))}; }
INLINE inline Signed signed_of(const uint8_t* at) { return {load<__m256i>(at)}; }
INLINE inline I32 dot(I32 sum, Unsigned x, Signed w) {
#if defined(PSEG_EVEX)  // for tests, where AVX-512 is: the same code but for how this instruction is written
    asm("%{evex%} vpdpbusd %2, %1, %0" : "+x"(sum) : "x"(x.x), "xm"(w.w));
    return sum;
#else
    return (I32)_mm256_dpbusd_avx_epi32((__m256i)sum, x.x, w.w);
#endif
}
#else
// Products of bytes would saturate in pairs: even and odd bytes go separately, as 16 bits.
struct Unsigned {
    __m256i even, odd;
};
struct Signed {
    __m256i even, odd;
};
constexpr fast::Order ORDER = fast::Order::words;
constexpr int32_t OFFSET = 0;
constexpr uint32_t QUADS = 2 * BYTES;
INLINE inline Unsigned unsigned_of(U8 x) {
    return {_mm256_and_si256((__m256i)x, _mm256_set1_epi16(255)), _mm256_srli_epi16((__m256i)x, 8)};
}
INLINE inline Unsigned unsigned_four(const uint8_t* at) {
    return unsigned_of((U8)_mm256_set1_epi32(load<int32_t>(at)));
}
INLINE inline Signed signed_of(const uint8_t* at) { return {load<__m256i>(at), load<__m256i>(at + BYTES)}; }
INLINE inline I32 dot(I32 sum, Unsigned x, Signed w) {
    const __m256i even = _mm256_add_epi32((__m256i)sum, _mm256_madd_epi16(x.even, w.even));
    return (I32)_mm256_add_epi32(even, _mm256_madd_epi16(x.odd, w.odd));
}
#endif

INLINE inline U8 pack_by_parts(I32 a, I32 b, I32 c, I32 d, I32 zero) {
    return (U8)_mm256_packus_epi16(_mm256_adds_epi16(_mm256_packs_epi32((__m256i)a, (__m256i)b), (__m256i)zero),
                                   _mm256_adds_epi16(_mm256_packs_epi32((__m256i)c, (__m256i)d), (__m256i)zero));
}
INLINE inline U8 pack(I32 a, I32 b, I32 c, I32 d, I32 zero) {
    return (U8)_mm256_permutevar8x32_epi32((__m256i)pack_by_parts(a, b, c, d, zero),
                                           _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7));
}
INLINE inline void zip(U8 a, U8 b, U8 c, U8 d, U8* to) {
    const __m256i ab = _mm256_unpacklo_epi8((__m256i)a, (__m256i)b), cd = _mm256_unpacklo_epi8((__m256i)c, (__m256i)d);
    const __m256i AB = _mm256_unpackhi_epi8((__m256i)a, (__m256i)b), CD = _mm256_unpackhi_epi8((__m256i)c, (__m256i)d);
    to[0] = (U8)_mm256_unpacklo_epi16(ab, cd), to[1] = (U8)_mm256_unpackhi_epi16(ab, cd);
    to[2] = (U8)_mm256_unpacklo_epi16(AB, CD), to[3] = (U8)_mm256_unpackhi_epi16(AB, CD);
}

INLINE inline U8 concat(const uint8_t* const* at, uint32_t parts) {
    if (parts == 1) return load<U8>(at[0]);
    return (U8)_mm256_inserti128_si256(_mm256_castsi128_si256(load<__m128i>(at[0])), load<__m128i>(at[1]), 1);
}
INLINE inline void split(U8 x, uint8_t* const* to, uint32_t parts) {
    if (parts == 1) return store(to[0], x);
    const __m128i low = _mm256_castsi256_si128((__m256i)x), high = _mm256_extracti128_si256((__m256i)x, 1);
    if (parts == 2) return store(to[0], low), store(to[1], high);
    store(to[0], _mm_cvtsi128_si64(low)), store(to[1], _mm_extract_epi64(low, 1));
    store(to[2], _mm_cvtsi128_si64(high)), store(to[3], _mm_extract_epi64(high, 1));
}

#elif defined(__SSE4_1__)

INLINE inline F32 min(F32 a, F32 b) { return (F32)_mm_min_ps((__m128)a, (__m128)b); }
INLINE inline F32 max(F32 a, F32 b) { return (F32)_mm_max_ps((__m128)a, (__m128)b); }
// There is none: f32 nets round products, as the plain kernels do.
constexpr bool FUSED = false;
INLINE inline F32 fma(F32 a, F32 b, F32 c) { return a * b + c; }
INLINE inline U8 max(U8 a, U8 b) { return (U8)_mm_max_epu8((__m128i)a, (__m128i)b); }
INLINE inline I32 round_to_int(F32 x) { return (I32)_mm_cvtps_epi32((__m128)x); }
INLINE inline uint32_t nonnegative_mask(F32 x) {
    return uint32_t(_mm_movemask_ps(_mm_cmpge_ps((__m128)x, _mm_setzero_ps())));
}
constexpr uint32_t MAX_COUNTS = 31;
INLINE inline I32 popcount(I32 x) {
    const __m128i table = _mm_setr_epi8(0, 1, 1, 2, 1, 2, 2, 3, 1, 2, 2, 3, 2, 3, 3, 4), low = _mm_set1_epi8(15);
    return (I32)_mm_add_epi8(_mm_shuffle_epi8(table, _mm_and_si128((__m128i)x, low)),
                             _mm_shuffle_epi8(table, _mm_and_si128(_mm_srli_epi16((__m128i)x, 4), low)));
}
INLINE inline I32 widen_counts(I32 counts) {
    return (I32)_mm_madd_epi16(_mm_maddubs_epi16((__m128i)counts, _mm_set1_epi8(1)), _mm_set1_epi16(1));
}
INLINE inline I32 add_counts(I32 a, I32 b) { return (I32)_mm_add_epi8((__m128i)a, (__m128i)b); }

// As AVX2 has them.
struct Unsigned {
    __m128i even, odd;
};
struct Signed {
    __m128i even, odd;
};
constexpr fast::Order ORDER = fast::Order::words;
constexpr int32_t OFFSET = 0;
constexpr uint32_t QUADS = 2 * BYTES;
INLINE inline Unsigned unsigned_of(U8 x) {
    return {_mm_and_si128((__m128i)x, _mm_set1_epi16(255)), _mm_srli_epi16((__m128i)x, 8)};
}
INLINE inline Unsigned unsigned_four(const uint8_t* at) { return unsigned_of((U8)_mm_set1_epi32(load<int32_t>(at))); }
INLINE inline Signed signed_of(const uint8_t* at) { return {load<__m128i>(at), load<__m128i>(at + BYTES)}; }
INLINE inline I32 dot(I32 sum, Unsigned x, Signed w) {
    const __m128i even = _mm_add_epi32((__m128i)sum, _mm_madd_epi16(x.even, w.even));
    return (I32)_mm_add_epi32(even, _mm_madd_epi16(x.odd, w.odd));
}

INLINE inline U8 pack(I32 a, I32 b, I32 c, I32 d, I32 zero) {
    return (U8)_mm_packus_epi16(_mm_adds_epi16(_mm_packs_epi32((__m128i)a, (__m128i)b), (__m128i)zero),
                                _mm_adds_epi16(_mm_packs_epi32((__m128i)c, (__m128i)d), (__m128i)zero));
}
INLINE inline U8 pack_by_parts(I32 a, I32 b, I32 c, I32 d, I32 zero) { return pack(a, b, c, d, zero); }
INLINE inline void zip(U8 a, U8 b, U8 c, U8 d, U8* to) {
    const __m128i ab = _mm_unpacklo_epi8((__m128i)a, (__m128i)b), cd = _mm_unpacklo_epi8((__m128i)c, (__m128i)d);
    const __m128i AB = _mm_unpackhi_epi8((__m128i)a, (__m128i)b), CD = _mm_unpackhi_epi8((__m128i)c, (__m128i)d);
    to[0] = (U8)_mm_unpacklo_epi16(ab, cd), to[1] = (U8)_mm_unpackhi_epi16(ab, cd);
    to[2] = (U8)_mm_unpacklo_epi16(AB, CD), to[3] = (U8)_mm_unpackhi_epi16(AB, CD);
}
INLINE inline U8 concat(const uint8_t* const* at, uint32_t) { return load<U8>(at[0]); }
INLINE inline void split(U8 x, uint8_t* const* to, uint32_t parts) {
    const __m128i all = (__m128i)x;
    if (parts == 1) return store(to[0], x);
    if (parts == 2) return store(to[0], _mm_cvtsi128_si64(all)), store(to[1], _mm_extract_epi64(all, 1));
    store(to[0], _mm_cvtsi128_si32(all)), store(to[1], _mm_extract_epi32(all, 1));
    store(to[2], _mm_extract_epi32(all, 2)), store(to[3], _mm_extract_epi32(all, 3));
}

#elif defined(__ARM_NEON)

INLINE inline F32 min(F32 a, F32 b) { return (F32)vminq_f32((float32x4_t)a, (float32x4_t)b); }
INLINE inline F32 max(F32 a, F32 b) { return (F32)vmaxq_f32((float32x4_t)a, (float32x4_t)b); }
constexpr bool FUSED = true;
INLINE inline F32 fma(F32 a, F32 b, F32 c) { return (F32)vfmaq_f32((float32x4_t)c, (float32x4_t)a, (float32x4_t)b); }
INLINE inline U8 max(U8 a, U8 b) { return (U8)vmaxq_u8((uint8x16_t)a, (uint8x16_t)b); }
INLINE inline I32 round_to_int(F32 x) { return (I32)vcvtnq_s32_f32((float32x4_t)x); }
INLINE inline uint32_t nonnegative_mask(F32 x) {
    const uint32x4_t places = {1, 2, 4, 8};
    return vaddvq_u32(vandq_u32(vcgeq_f32((float32x4_t)x, vdupq_n_f32(0)), places));
}
constexpr uint32_t MAX_COUNTS = 31;
INLINE inline I32 popcount(I32 x) { return (I32)vcntq_u8((uint8x16_t)x); }
INLINE inline I32 widen_counts(I32 counts) { return (I32)vpaddlq_u16(vpaddlq_u8((uint8x16_t)counts)); }
INLINE inline I32 add_counts(I32 a, I32 b) { return (I32)vaddq_u8((uint8x16_t)a, (uint8x16_t)b); }

// Products are of signed bytes: 128 is taken from unsigned ones, and comes back with the start of each sum.
struct Unsigned {
    int8x16_t x;
};
struct Signed {
    int8x16_t w;
};
constexpr int32_t OFFSET = 128;
constexpr uint32_t QUADS = BYTES;
INLINE inline Unsigned unsigned_of(U8 x) { return {vreinterpretq_s8_u8(veorq_u8((uint8x16_t)x, vdupq_n_u8(128)))}; }
INLINE inline Signed signed_of(const uint8_t* at) { return {vld1q_s8(reinterpret_cast<const int8_t*>(at))}; }
#if defined(__ARM_FEATURE_DOTPROD)
constexpr fast::Order ORDER = fast::Order::quads;
INLINE inline Unsigned unsigned_four(const uint8_t* at) { return unsigned_of((U8)vdupq_n_u32(load<uint32_t>(at))); }
INLINE inline I32 dot(I32 sum, Unsigned x, Signed w) { return (I32)vdotq_s32((int32x4_t)sum, x.x, w.w); }
#else
// A lane sums the two pairs of its quad in turn. Both products of a pair in 16 bits: |2 · 128 · 128| would not fit, so
// each goes into the sum by itself.
constexpr fast::Order ORDER = fast::Order::pairs;
INLINE inline Unsigned unsigned_four(const uint8_t* at) {
    const uint8x16_t pairs = {0, 1, 0, 1, 0, 1, 0, 1, 2, 3, 2, 3, 2, 3, 2, 3};
    return unsigned_of((U8)vqtbl1q_u8(vreinterpretq_u8_u32(vdupq_n_u32(load<uint32_t>(at))), pairs));
}
INLINE inline I32 dot(I32 sum, Unsigned x, Signed w) {
    const int32x4_t first = vpadalq_s16((int32x4_t)sum, vmull_s8(vget_low_s8(x.x), vget_low_s8(w.w)));
    return (I32)vpadalq_s16(first, vmull_high_s8(x.x, w.w));
}
#endif

INLINE inline U8 pack(I32 a, I32 b, I32 c, I32 d, I32 zero) {
    const int16x8_t low = vcombine_s16(vqmovn_s32((int32x4_t)a), vqmovn_s32((int32x4_t)b));
    const int16x8_t high = vcombine_s16(vqmovn_s32((int32x4_t)c), vqmovn_s32((int32x4_t)d));
    return (U8)vcombine_u8(vqmovun_s16(vqaddq_s16(low, (int16x8_t)zero)),
                           vqmovun_s16(vqaddq_s16(high, (int16x8_t)zero)));
}
INLINE inline U8 pack_by_parts(I32 a, I32 b, I32 c, I32 d, I32 zero) { return pack(a, b, c, d, zero); }
INLINE inline void zip(U8 a, U8 b, U8 c, U8 d, U8* to) {
    const uint8x16x2_t ab = vzipq_u8((uint8x16_t)a, (uint8x16_t)b), cd = vzipq_u8((uint8x16_t)c, (uint8x16_t)d);
#if defined(__ARM_FEATURE_DOTPROD)
    const uint16x8x2_t low = vzipq_u16(vreinterpretq_u16_u8(ab.val[0]), vreinterpretq_u16_u8(cd.val[0]));
    const uint16x8x2_t high = vzipq_u16(vreinterpretq_u16_u8(ab.val[1]), vreinterpretq_u16_u8(cd.val[1]));
    to[0] = (U8)low.val[0], to[1] = (U8)low.val[1], to[2] = (U8)high.val[0], to[3] = (U8)high.val[1];
#else
    for (int i = 0; i < 2; ++i) {
        to[2 * i] = (U8)vcombine_u8(vget_low_u8(ab.val[i]), vget_low_u8(cd.val[i]));
        to[2 * i + 1] = (U8)vcombine_u8(vget_high_u8(ab.val[i]), vget_high_u8(cd.val[i]));
    }
#endif
}
INLINE inline U8 concat(const uint8_t* const* at, uint32_t) { return load<U8>(at[0]); }
INLINE inline void split(U8 x, uint8_t* const* to, uint32_t parts) {
    if (parts == 1) return store(to[0], x);
    const uint64x2_t two = vreinterpretq_u64_u8((uint8x16_t)x);
    const uint32x4_t four = vreinterpretq_u32_u8((uint8x16_t)x);
    if (parts == 2) return store(to[0], vgetq_lane_u64(two, 0)), store(to[1], vgetq_lane_u64(two, 1));
    store(to[0], vgetq_lane_u32(four, 0)), store(to[1], vgetq_lane_u32(four, 1));
    store(to[2], vgetq_lane_u32(four, 2)), store(to[3], vgetq_lane_u32(four, 3));
}

#elif defined(__wasm_simd128__)

// pmin(b, a) is a < b ? a : b, as x86 has it.
INLINE inline F32 min(F32 a, F32 b) { return (F32)wasm_f32x4_pmin((v128_t)b, (v128_t)a); }
INLINE inline F32 max(F32 a, F32 b) { return (F32)wasm_f32x4_pmax((v128_t)b, (v128_t)a); }
// There is none: f32 nets round products, as the plain kernels do.
constexpr bool FUSED = false;
INLINE inline F32 fma(F32 a, F32 b, F32 c) { return a * b + c; }
INLINE inline U8 max(U8 a, U8 b) { return (U8)wasm_u8x16_max((v128_t)a, (v128_t)b); }
INLINE inline I32 round_to_int(F32 x) { return (I32)wasm_i32x4_trunc_sat_f32x4(wasm_f32x4_nearest((v128_t)x)); }
INLINE inline uint32_t nonnegative_mask(F32 x) {
    return uint32_t(wasm_i32x4_bitmask(wasm_f32x4_ge((v128_t)x, wasm_f32x4_const_splat(0))));
}
constexpr uint32_t MAX_COUNTS = 31;
INLINE inline I32 popcount(I32 x) { return (I32)wasm_i8x16_popcnt((v128_t)x); }
INLINE inline I32 widen_counts(I32 counts) {
    return (I32)wasm_u32x4_extadd_pairwise_u16x8(wasm_u16x8_extadd_pairwise_u8x16((v128_t)counts));
}
INLINE inline I32 add_counts(I32 a, I32 b) { return (I32)wasm_i8x16_add((v128_t)a, (v128_t)b); }

// Even and odd bytes go separately, as 16 bits: the dot product is of those.
struct Unsigned {
    v128_t even, odd;
};
struct Signed {
    v128_t even, odd;
};
constexpr fast::Order ORDER = fast::Order::words;
constexpr int32_t OFFSET = 0;
constexpr uint32_t QUADS = 2 * BYTES;
INLINE inline Unsigned unsigned_of(U8 x) {
    return {wasm_v128_and((v128_t)x, wasm_i16x8_const_splat(255)), wasm_u16x8_shr((v128_t)x, 8)};
}
INLINE inline Unsigned unsigned_four(const uint8_t* at) { return unsigned_of((U8)wasm_v128_load32_splat(at)); }
INLINE inline Signed signed_of(const uint8_t* at) { return {wasm_v128_load(at), wasm_v128_load(at + BYTES)}; }
INLINE inline I32 dot(I32 sum, Unsigned x, Signed w) {
    const v128_t even = wasm_i32x4_add((v128_t)sum, wasm_i32x4_dot_i16x8(x.even, w.even));
    return (I32)wasm_i32x4_add(even, wasm_i32x4_dot_i16x8(x.odd, w.odd));
}

INLINE inline U8 pack(I32 a, I32 b, I32 c, I32 d, I32 zero) {
    const v128_t low = wasm_i16x8_narrow_i32x4((v128_t)a, (v128_t)b);
    const v128_t high = wasm_i16x8_narrow_i32x4((v128_t)c, (v128_t)d);
    return (U8)wasm_u8x16_narrow_i16x8(wasm_i16x8_add_sat(low, (v128_t)zero), wasm_i16x8_add_sat(high, (v128_t)zero));
}
INLINE inline U8 pack_by_parts(I32 a, I32 b, I32 c, I32 d, I32 zero) { return pack(a, b, c, d, zero); }
INLINE inline v128_t zip_low(v128_t a, v128_t b) {
    return wasm_i8x16_shuffle(a, b, 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23);
}
INLINE inline v128_t zip_high(v128_t a, v128_t b) {
    return wasm_i8x16_shuffle(a, b, 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31);
}
INLINE inline void zip(U8 a, U8 b, U8 c, U8 d, U8* to) {
    // Pairs of (a, c) and of (b, d), zipped: (a, b, c, d)[i].
    const v128_t ac = zip_low((v128_t)a, (v128_t)c), bd = zip_low((v128_t)b, (v128_t)d);
    const v128_t AC = zip_high((v128_t)a, (v128_t)c), BD = zip_high((v128_t)b, (v128_t)d);
    to[0] = (U8)zip_low(ac, bd), to[1] = (U8)zip_high(ac, bd);
    to[2] = (U8)zip_low(AC, BD), to[3] = (U8)zip_high(AC, BD);
}
INLINE inline U8 concat(const uint8_t* const* at, uint32_t) { return load<U8>(at[0]); }
INLINE inline void split(U8 x, uint8_t* const* to, uint32_t parts) {
    const v128_t all = (v128_t)x;
    if (parts == 1) return store(to[0], x);
    if (parts == 2) return wasm_v128_store64_lane(to[0], all, 0), wasm_v128_store64_lane(to[1], all, 1);
    wasm_v128_store32_lane(to[0], all, 0), wasm_v128_store32_lane(to[1], all, 1);
    wasm_v128_store32_lane(to[2], all, 2), wasm_v128_store32_lane(to[3], all, 3);
}

#endif

// `count` numbers, and zeros.
INLINE inline F32 partial_load(const float* from, uint32_t count) {
    if (count >= LANES) return load<F32>(from);
    float numbers[LANES] = {};
    std::memcpy(numbers, from, 4 * size_t(count));
    return load<F32>(numbers);
}

}  // namespace
}  // namespace pseg::PSEG_ISA
