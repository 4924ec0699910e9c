// SPDX-License-Identifier: Apache-2.0
// A vector of lanes of the instruction set that the file is compiled for: 16 on AVX-512, 8 on AVX2,
// 1 elsewhere and on CUDA (a thread is a lane). Every operation is the single IEEE operation of a
// scalar, lane by lane, so results do not depend on the width. (AVX2 adds +0 in add_where if m is
// clear: the same but for a sum of -0, which a sum that starts at +0 never is.)

#ifndef RGM_LANES_H
#define RGM_LANES_H

#include "kernels/scalar.h"

#if defined(__AVX512F__) && !defined(__CUDACC__)
#include <immintrin.h>
enum { RGM_LANE_WIDTH = 16 };
#define RGM_LANE_PAIRS 1 // registers enough to work on two vectors at a time
#define RGM_LANES_ALONE 0
typedef __m512 rgm_lanes;
#define rgm_lanes_load(p) _mm512_loadu_ps(p)
#define rgm_lanes_store(p, a) _mm512_storeu_ps(p, a)
#define rgm_lanes_set(x) _mm512_set1_ps(x)
#define rgm_lanes_add(a, b) _mm512_add_ps(a, b)
#define rgm_lanes_mul(a, b) _mm512_mul_ps(a, b)
#define rgm_lanes_fma(a, b, c) _mm512_fmadd_ps(a, b, c)
#define rgm_lanes_relu(a) _mm512_max_ps(a, _mm512_setzero_ps())
#define rgm_lanes_sub(a, b) _mm512_sub_ps(a, b)
#define rgm_lanes_div(a, b) _mm512_div_ps(a, b)
// the second one where either is NaN
#define rgm_lanes_min(a, b) _mm512_min_ps(a, b)
#define rgm_lanes_max(a, b) _mm512_max_ps(a, b)
// -|a|; x where a is below 0, else y; 2^n of the integer in the low bits of t; bytes as numbers
#define rgm_lanes_minus(a) _mm512_or_ps(a, _mm512_set1_ps(-0.0f))
#define rgm_lanes_below(a, x, y) \
  _mm512_mask_blend_ps(_mm512_cmp_ps_mask(a, _mm512_setzero_ps(), _CMP_LT_OQ), y, x)
#define rgm_lanes_power(t)                                                            \
  _mm512_castsi512_ps(_mm512_add_epi32(_mm512_slli_epi32(_mm512_castps_si512(t), 23), \
                                       _mm512_set1_epi32(127 << 23)))
#define rgm_lanes_bytes(p) \
  _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(_mm_loadu_si128((const __m128i *)(p))))
// doubles as floats, and the other way (narrow)
#define rgm_lanes_from64(p)                                                       \
  _mm512_insertf32x8(_mm512_castps256_ps512(_mm512_cvtpd_ps(_mm512_loadu_pd(p))), \
                     _mm512_cvtpd_ps(_mm512_loadu_pd((p) + 8)), 1)
typedef __mmask16 rgm_lanes_mask;
#define rgm_lanes_positive(a) _mm512_cmp_ps_mask(a, _mm512_setzero_ps(), _CMP_GT_OQ)
#define rgm_lanes_add_where(a, m, b) _mm512_mask_add_ps(a, m, a, b)
#define rgm_lanes_where(m, a) _mm512_maskz_mov_ps(m, a)
typedef __m512i rgm_lanes_u32;
#define rgm_lanes_u32_load(p) _mm512_loadu_si512(p)
#define rgm_lanes_u32_store(p, a) _mm512_storeu_si512(p, a)
#define rgm_lanes_u32_set(x) _mm512_set1_epi32((int)(x))
#define rgm_lanes_u32_xor3(a, b, c) _mm512_ternarylogic_epi32(a, b, c, 0x96)
// products of the low words of 8 pairs of words, and their high words
#define rgm_lanes_u32_mul(a, b) _mm512_mul_epu32(a, b)
#define rgm_lanes_u32_high(a) _mm512_shuffle_epi32(a, _MM_PERM_DDBB)
#define rgm_lanes_u32_odd(a) _mm512_srli_epi64(a, 32)
#define rgm_lanes_u32_join(even, odd) \
  _mm512_mask_blend_epi32(0xAAAA, even, _mm512_slli_epi64(odd, 32))
enum { RGM_LANE64_WIDTH = 8 };
typedef __m512d rgm_lanes64;
#define rgm_lanes64_load(p) _mm512_loadu_pd(p)
#define rgm_lanes64_store(p, a) _mm512_storeu_pd(p, a)
#define rgm_lanes64_set(x) _mm512_set1_pd(x)
#define rgm_lanes64_fma(a, b, c) _mm512_fmadd_pd(a, b, c)
#define rgm_lanes64_add(a, b) _mm512_add_pd(a, b)
#define rgm_lanes64_sub(a, b) _mm512_sub_pd(a, b)
#define rgm_lanes64_mul(a, b) _mm512_mul_pd(a, b)
#define rgm_lanes64_div(a, b) _mm512_div_pd(a, b)
#define rgm_lanes64_min(a, b) _mm512_min_pd(a, b)
#define rgm_lanes64_max(a, b) _mm512_max_pd(a, b)
#define rgm_lanes64_minus(a) _mm512_or_pd(a, _mm512_set1_pd(-0.0))
#define rgm_lanes64_below(a, x, y) \
  _mm512_mask_blend_pd(_mm512_cmp_pd_mask(a, _mm512_setzero_pd(), _CMP_LT_OQ), y, x)
#define rgm_lanes64_power(t)                                                          \
  _mm512_castsi512_pd(_mm512_add_epi64(_mm512_slli_epi64(_mm512_castpd_si512(t), 52), \
                                       _mm512_set1_epi64((long long)1023 << 52)))
#define rgm_lanes64_bytes(p) \
  _mm512_cvtepi32_pd(_mm256_cvtepu8_epi32(_mm_loadl_epi64((const __m128i *)(p))))
#define rgm_lanes64_narrow(p, a) _mm256_storeu_ps(p, _mm512_cvtpd_ps(a))
#elif defined(__AVX2__) && defined(__FMA__) && !defined(__CUDACC__)
#include <immintrin.h>
enum { RGM_LANE_WIDTH = 8 };
#define RGM_LANE_PAIRS 0
#define RGM_LANES_ALONE 0
typedef __m256 rgm_lanes;
#define rgm_lanes_load(p) _mm256_loadu_ps(p)
#define rgm_lanes_store(p, a) _mm256_storeu_ps(p, a)
#define rgm_lanes_set(x) _mm256_set1_ps(x)
#define rgm_lanes_add(a, b) _mm256_add_ps(a, b)
#define rgm_lanes_mul(a, b) _mm256_mul_ps(a, b)
#define rgm_lanes_fma(a, b, c) _mm256_fmadd_ps(a, b, c)
#define rgm_lanes_relu(a) _mm256_max_ps(a, _mm256_setzero_ps())
#define rgm_lanes_sub(a, b) _mm256_sub_ps(a, b)
#define rgm_lanes_div(a, b) _mm256_div_ps(a, b)
#define rgm_lanes_min(a, b) _mm256_min_ps(a, b)
#define rgm_lanes_max(a, b) _mm256_max_ps(a, b)
#define rgm_lanes_minus(a) _mm256_or_ps(a, _mm256_set1_ps(-0.0f))
#define rgm_lanes_below(a, x, y) \
  _mm256_blendv_ps(y, x, _mm256_cmp_ps(a, _mm256_setzero_ps(), _CMP_LT_OQ))
#define rgm_lanes_power(t)                                                            \
  _mm256_castsi256_ps(_mm256_add_epi32(_mm256_slli_epi32(_mm256_castps_si256(t), 23), \
                                       _mm256_set1_epi32(127 << 23)))
#define rgm_lanes_bytes(p) \
  _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(_mm_loadl_epi64((const __m128i *)(p))))
#define rgm_lanes_from64(p) \
  _mm256_set_m128(_mm256_cvtpd_ps(_mm256_loadu_pd((p) + 4)), _mm256_cvtpd_ps(_mm256_loadu_pd(p)))
typedef __m256 rgm_lanes_mask;
#define rgm_lanes_positive(a) _mm256_cmp_ps(a, _mm256_setzero_ps(), _CMP_GT_OQ)
#define rgm_lanes_add_where(a, m, b) _mm256_add_ps(a, _mm256_and_ps(m, b))
#define rgm_lanes_where(m, a) _mm256_and_ps(m, a)
typedef __m256i rgm_lanes_u32;
#define rgm_lanes_u32_load(p) _mm256_loadu_si256((const __m256i *)(p))
#define rgm_lanes_u32_store(p, a) _mm256_storeu_si256((__m256i *)(p), a)
#define rgm_lanes_u32_set(x) _mm256_set1_epi32((int)(x))
#define rgm_lanes_u32_xor3(a, b, c) _mm256_xor_si256(_mm256_xor_si256(a, b), c)
#define rgm_lanes_u32_mul(a, b) _mm256_mul_epu32(a, b)
#define rgm_lanes_u32_high(a) _mm256_shuffle_epi32(a, 0xF5)
#define rgm_lanes_u32_odd(a) _mm256_srli_epi64(a, 32)
#define rgm_lanes_u32_join(even, odd) _mm256_blend_epi32(even, _mm256_slli_epi64(odd, 32), 0xAA)
enum { RGM_LANE64_WIDTH = 4 };
typedef __m256d rgm_lanes64;
#define rgm_lanes64_load(p) _mm256_loadu_pd(p)
#define rgm_lanes64_store(p, a) _mm256_storeu_pd(p, a)
#define rgm_lanes64_set(x) _mm256_set1_pd(x)
#define rgm_lanes64_fma(a, b, c) _mm256_fmadd_pd(a, b, c)
#define rgm_lanes64_add(a, b) _mm256_add_pd(a, b)
#define rgm_lanes64_sub(a, b) _mm256_sub_pd(a, b)
#define rgm_lanes64_mul(a, b) _mm256_mul_pd(a, b)
#define rgm_lanes64_div(a, b) _mm256_div_pd(a, b)
#define rgm_lanes64_min(a, b) _mm256_min_pd(a, b)
#define rgm_lanes64_max(a, b) _mm256_max_pd(a, b)
#define rgm_lanes64_minus(a) _mm256_or_pd(a, _mm256_set1_pd(-0.0))
#define rgm_lanes64_below(a, x, y) \
  _mm256_blendv_pd(y, x, _mm256_cmp_pd(a, _mm256_setzero_pd(), _CMP_LT_OQ))
#define rgm_lanes64_power(t)                                                          \
  _mm256_castsi256_pd(_mm256_add_epi64(_mm256_slli_epi64(_mm256_castpd_si256(t), 52), \
                                       _mm256_set1_epi64x((long long)1023 << 52)))
#define rgm_lanes64_bytes(p) _mm256_cvtepi32_pd(_mm_cvtepu8_epi32(_mm_loadu_si32(p)))
#define rgm_lanes64_narrow(p, a) _mm_storeu_ps(p, _mm256_cvtpd_ps(a))
#else
enum { RGM_LANE_WIDTH = 1 };
#define RGM_LANE_PAIRS 0
#define RGM_LANES_ALONE 1 // a lane has no neighbours
typedef float rgm_lanes;
#define rgm_lanes_load(p) (*(p))
#define rgm_lanes_store(p, a) (*(p) = (a))
#define rgm_lanes_set(x) (x)
#define rgm_lanes_add(a, b) ((a) + (b))
#define rgm_lanes_mul(a, b) ((a) * (b))
#define rgm_lanes_fma(a, b, c) rgm_fma(a, b, c)
#define rgm_lanes_relu(a) ((a) > 0.0f ? (a) : 0.0f)
#define rgm_lanes_sub(a, b) ((a) - (b))
#define rgm_lanes_div(a, b) ((a) / (b))
#define rgm_lanes_min(a, b) ((a) < (b) ? (a) : (b))
#define rgm_lanes_max(a, b) ((a) > (b) ? (a) : (b))
#define rgm_lanes_minus(a) (-rgm_abs(a))
#define rgm_lanes_below(a, x, y) ((a) < 0.0f ? (x) : (y))
#define rgm_lanes_power(t) rgm_from_bits((rgm_bits(t) << 23) + (127u << 23))
#define rgm_lanes_bytes(p) ((float)*(const uint8_t *)(p))
#define rgm_lanes_from64(p) ((float)*(p))
typedef int rgm_lanes_mask;
#define rgm_lanes_positive(a) ((a) > 0.0f)
#define rgm_lanes_add_where(a, m, b) ((m) ? (a) + (b) : (a))
#define rgm_lanes_where(m, a) ((m) ? (a) : 0.0f)
typedef uint32_t rgm_lanes_u32;
#define rgm_lanes_u32_load(p) (*(p))
#define rgm_lanes_u32_store(p, a) (*(p) = (a))
enum { RGM_LANE64_WIDTH = 1 };
typedef double rgm_lanes64;
#define rgm_lanes64_load(p) (*(p))
#define rgm_lanes64_store(p, a) (*(p) = (a))
#define rgm_lanes64_set(x) (x)
#define rgm_lanes64_fma(a, b, c) rgm_fma64(a, b, c)
#define rgm_lanes64_add(a, b) ((a) + (b))
#define rgm_lanes64_sub(a, b) ((a) - (b))
#define rgm_lanes64_mul(a, b) ((a) * (b))
#define rgm_lanes64_div(a, b) ((a) / (b))
#define rgm_lanes64_min(a, b) ((a) < (b) ? (a) : (b))
#define rgm_lanes64_max(a, b) ((a) > (b) ? (a) : (b))
#define rgm_lanes64_minus(a) (-rgm_abs64(a))
#define rgm_lanes64_below(a, x, y) ((a) < 0.0 ? (x) : (y))
#define rgm_lanes64_power(t) rgm_from_bits64((rgm_bits64(t) << 52) + ((uint64_t)1023 << 52))
#define rgm_lanes64_bytes(p) ((double)*(const uint8_t *)(p))
#define rgm_lanes64_narrow(p, a) (*(p) = (float)(a))
#endif


// Transposes 16 x 16 floats: from[i * rows + j] goes to to[j * stride + i].
#if defined(__AVX512F__) && !defined(__CUDACC__)
static inline void rgm_transpose16(const float *from, int64_t rows, float *to, int64_t stride) {
  __m512 a[16], b[16];
  for (int i = 0; i < 16; i++) {
    a[i] = _mm512_loadu_ps(from + i * rows);
  }
  // within 128 bits: pairs of rows, then fours
  for (int i = 0; i < 16; i += 2) {
    b[i] = _mm512_unpacklo_ps(a[i], a[i + 1]);
    b[i + 1] = _mm512_unpackhi_ps(a[i], a[i + 1]);
  }
  for (int i = 0; i < 16; i += 4) {
    a[i] = _mm512_shuffle_ps(b[i], b[i + 2], 0x44);
    a[i + 1] = _mm512_shuffle_ps(b[i], b[i + 2], 0xEE);
    a[i + 2] = _mm512_shuffle_ps(b[i + 1], b[i + 3], 0x44);
    a[i + 3] = _mm512_shuffle_ps(b[i + 1], b[i + 3], 0xEE);
  }
  // 128-bit parts: a[4 q + k] holds column k + 4 p of rows 4 q ... in part p
  for (int k = 0; k < 4; k++) {
    const __m512 low = _mm512_shuffle_f32x4(a[k], a[4 + k], 0x88);
    const __m512 high = _mm512_shuffle_f32x4(a[8 + k], a[12 + k], 0x88);
    const __m512 low2 = _mm512_shuffle_f32x4(a[k], a[4 + k], 0xDD);
    const __m512 high2 = _mm512_shuffle_f32x4(a[8 + k], a[12 + k], 0xDD);
    _mm512_storeu_ps(to + k * stride, _mm512_shuffle_f32x4(low, high, 0x88));
    _mm512_storeu_ps(to + (4 + k) * stride, _mm512_shuffle_f32x4(low2, high2, 0x88));
    _mm512_storeu_ps(to + (8 + k) * stride, _mm512_shuffle_f32x4(low, high, 0xDD));
    _mm512_storeu_ps(to + (12 + k) * stride, _mm512_shuffle_f32x4(low2, high2, 0xDD));
  }
}
#elif defined(__AVX2__) && defined(__FMA__) && !defined(__CUDACC__)
static inline void rgm_transpose16(const float *from, int64_t rows, float *to, int64_t stride) {
  for (int part = 0; part < 4; part++) {
    const float *src = from + part / 2 * 8 * rows + part % 2 * 8;
    float *dst = to + part % 2 * 8 * stride + part / 2 * 8;
    __m256 a[8], b[8];
    for (int i = 0; i < 8; i++) {
      a[i] = _mm256_loadu_ps(src + i * rows);
    }
    for (int i = 0; i < 8; i += 2) {
      b[i] = _mm256_unpacklo_ps(a[i], a[i + 1]);
      b[i + 1] = _mm256_unpackhi_ps(a[i], a[i + 1]);
    }
    for (int i = 0; i < 8; i += 4) {
      a[i] = _mm256_shuffle_ps(b[i], b[i + 2], 0x44);
      a[i + 1] = _mm256_shuffle_ps(b[i], b[i + 2], 0xEE);
      a[i + 2] = _mm256_shuffle_ps(b[i + 1], b[i + 3], 0x44);
      a[i + 3] = _mm256_shuffle_ps(b[i + 1], b[i + 3], 0xEE);
    }
    for (int k = 0; k < 4; k++) {
      _mm256_storeu_ps(dst + k * stride, _mm256_permute2f128_ps(a[k], a[4 + k], 0x20));
      _mm256_storeu_ps(dst + (4 + k) * stride, _mm256_permute2f128_ps(a[k], a[4 + k], 0x31));
    }
  }
}
#else
RGM_FN void rgm_transpose16(const float *from, int64_t rows, float *to, int64_t stride) {
  for (int j = 0; j < 16; j++) {
    for (int i = 0; i < 16; i++) {
      to[j * stride + i] = from[i * rows + j];
    }
  }
}
#endif

#endif
