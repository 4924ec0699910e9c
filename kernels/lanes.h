// SPDX-License-Identifier: Apache-2.0
// A vector of lanes of the instruction set that the file is compiled for: 16 on AVX-512, 8 on AVX2,
// 1 elsewhere and on CUDA (a thread is a lane). Every operation is the single IEEE operation of a
// scalar, lane by lane, so results do not depend on the width.

#ifndef RGM_LANES_H
#define RGM_LANES_H

#include "kernels/scalar.h"

#if defined(__AVX512F__) && !defined(__CUDACC__)
#include <immintrin.h>
enum { RGM_LANE_WIDTH = 16 };
#define RGM_LANE_PAIRS 1 // registers enough to work on two vectors at a time
typedef __m512 rgm_lanes;
#define rgm_lanes_load(p) _mm512_loadu_ps(p)
#define rgm_lanes_store(p, a) _mm512_storeu_ps(p, a)
#define rgm_lanes_set(x) _mm512_set1_ps(x)
#define rgm_lanes_add(a, b) _mm512_add_ps(a, b)
#define rgm_lanes_mul(a, b) _mm512_mul_ps(a, b)
#define rgm_lanes_fma(a, b, c) _mm512_fmadd_ps(a, b, c)
#define rgm_lanes_relu(a) _mm512_max_ps(a, _mm512_setzero_ps())
#define rgm_lanes_gate(a, b) \
  _mm512_maskz_mov_ps(_mm512_cmp_ps_mask(a, _mm512_setzero_ps(), _CMP_GT_OQ), b)
typedef __m512i rgm_lanes_u32;
#define rgm_lanes_u32_load(p) _mm512_loadu_si512(p)
#define rgm_lanes_u32_store(p, a) _mm512_storeu_si512(p, a)
#define rgm_lanes_u32_set(x) _mm512_set1_epi32((int)(x))
#define rgm_lanes_u32_xor3(a, b, c) _mm512_ternarylogic_epi32(a, b, c, 0x96)
// high and low words of the products of 16 words with a constant: even words, odd words, blend
static inline void rgm_lanes_u32_mul(__m512i a, uint32_t b, __m512i *high, __m512i *low) {
  const __m512i factor = _mm512_set1_epi64((long long)b);
  const __m512i even = _mm512_mul_epu32(a, factor);
  const __m512i odd = _mm512_mul_epu32(_mm512_srli_epi64(a, 32), factor);
  *high = _mm512_mask_blend_epi32(0xAAAA, _mm512_srli_epi64(even, 32), odd);
  *low = _mm512_mask_blend_epi32(0xAAAA, even, _mm512_slli_epi64(odd, 32));
}
#elif defined(__AVX2__) && defined(__FMA__) && !defined(__CUDACC__)
#include <immintrin.h>
enum { RGM_LANE_WIDTH = 8 };
#define RGM_LANE_PAIRS 0
typedef __m256 rgm_lanes;
#define rgm_lanes_load(p) _mm256_loadu_ps(p)
#define rgm_lanes_store(p, a) _mm256_storeu_ps(p, a)
#define rgm_lanes_set(x) _mm256_set1_ps(x)
#define rgm_lanes_add(a, b) _mm256_add_ps(a, b)
#define rgm_lanes_mul(a, b) _mm256_mul_ps(a, b)
#define rgm_lanes_fma(a, b, c) _mm256_fmadd_ps(a, b, c)
#define rgm_lanes_relu(a) _mm256_max_ps(a, _mm256_setzero_ps())
#define rgm_lanes_gate(a, b) _mm256_and_ps(_mm256_cmp_ps(a, _mm256_setzero_ps(), _CMP_GT_OQ), b)
typedef __m256i rgm_lanes_u32;
#define rgm_lanes_u32_load(p) _mm256_loadu_si256((const __m256i *)(p))
#define rgm_lanes_u32_store(p, a) _mm256_storeu_si256((__m256i *)(p), a)
#define rgm_lanes_u32_set(x) _mm256_set1_epi32((int)(x))
#define rgm_lanes_u32_xor3(a, b, c) _mm256_xor_si256(_mm256_xor_si256(a, b), c)
static inline void rgm_lanes_u32_mul(__m256i a, uint32_t b, __m256i *high, __m256i *low) {
  const __m256i factor = _mm256_set1_epi64x((long long)b);
  const __m256i even = _mm256_mul_epu32(a, factor);
  const __m256i odd = _mm256_mul_epu32(_mm256_srli_epi64(a, 32), factor);
  *high = _mm256_blend_epi32(_mm256_srli_epi64(even, 32), odd, 0xAA);
  *low = _mm256_blend_epi32(even, _mm256_slli_epi64(odd, 32), 0xAA);
}
#else
enum { RGM_LANE_WIDTH = 1 };
#define RGM_LANE_PAIRS 0
typedef float rgm_lanes;
#define rgm_lanes_load(p) (*(p))
#define rgm_lanes_store(p, a) (*(p) = (a))
#define rgm_lanes_set(x) (x)
#define rgm_lanes_add(a, b) ((a) + (b))
#define rgm_lanes_mul(a, b) ((a) * (b))
#define rgm_lanes_fma(a, b, c) rgm_fma(a, b, c)
#define rgm_lanes_relu(a) ((a) > 0.0f ? (a) : 0.0f)
#define rgm_lanes_gate(a, b) ((a) > 0.0f ? (b) : 0.0f)
typedef uint32_t rgm_lanes_u32;
#define rgm_lanes_u32_load(p) (*(p))
#define rgm_lanes_u32_store(p, a) (*(p) = (a))
#define rgm_lanes_u32_set(x) ((uint32_t)(x))
#define rgm_lanes_u32_xor3(a, b, c) ((a) ^ (b) ^ (c))
RGM_FN void rgm_lanes_u32_mul(uint32_t a, uint32_t b, uint32_t *high, uint32_t *low) {
  const uint64_t product = (uint64_t)a * b;
  *high = (uint32_t)(product >> 32);
  *low = (uint32_t)product;
}
#endif

#endif
