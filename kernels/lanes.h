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
#elif defined(__AVX2__) && defined(__FMA__) && !defined(__CUDACC__)
#include <immintrin.h>
enum { RGM_LANE_WIDTH = 8 };
typedef __m256 rgm_lanes;
#define rgm_lanes_load(p) _mm256_loadu_ps(p)
#define rgm_lanes_store(p, a) _mm256_storeu_ps(p, a)
#define rgm_lanes_set(x) _mm256_set1_ps(x)
#define rgm_lanes_add(a, b) _mm256_add_ps(a, b)
#define rgm_lanes_mul(a, b) _mm256_mul_ps(a, b)
#define rgm_lanes_fma(a, b, c) _mm256_fmadd_ps(a, b, c)
#define rgm_lanes_relu(a) _mm256_max_ps(a, _mm256_setzero_ps())
#define rgm_lanes_gate(a, b) _mm256_and_ps(_mm256_cmp_ps(a, _mm256_setzero_ps(), _CMP_GT_OQ), b)
#else
enum { RGM_LANE_WIDTH = 1 };
typedef float rgm_lanes;
#define rgm_lanes_load(p) (*(p))
#define rgm_lanes_store(p, a) (*(p) = (a))
#define rgm_lanes_set(x) (x)
#define rgm_lanes_add(a, b) ((a) + (b))
#define rgm_lanes_mul(a, b) ((a) * (b))
#define rgm_lanes_fma(a, b, c) rgm_fma(a, b, c)
#define rgm_lanes_relu(a) ((a) > 0.0f ? (a) : 0.0f)
#define rgm_lanes_gate(a, b) ((a) > 0.0f ? (b) : 0.0f)
#endif

#endif
