// SPDX-License-Identifier: Apache-2.0
// The two-class policy of kernels/policy.h in shared memory, for loops in which a thread has an
// episode or two, or eight lanes of a warp share one. The same operations in the same order as
// policy_logits, so the same bits.
//
// Eight hidden units at a time, as the eight partials take them: an octet is a row of 8 floats for
// each input's weights, the bias, v, and the bias with the last input folded in, which is valid
// while a block's episodes share that input. A thread that has a whole episode loads rows as two
// float4 that the warp shares; of eight lanes, lane k loads word k of each row.

#ifndef RGM_CUDA_POLICY_CUH
#define RGM_CUDA_POLICY_CUH

#include "kernels/cuda/cuda.cuh"
#include "kernels/policy.h"

// Rows of an octet after those of the inputs.
enum { POLICY_BIAS, POLICY_V, POLICY_FOLDED, POLICY_MORE };

static inline int64_t policy_octets(int64_t hidden) {
  return (hidden + RGM_POLICY_PARTS - 1) / RGM_POLICY_PARTS;
}

// Floats of shared memory of a policy: its octets, then c, padded to 16 bytes.
static inline int64_t policy_floats(int inputs, int64_t hidden) {
  return policy_octets(hidden) * RGM_POLICY_PARTS * (inputs + POLICY_MORE) + 4;
}


RGM_DEVICE float policy_relu(float x) {
#ifdef __CUDA_ARCH__
  return fmaxf(x, 0.0f); // one instruction: NaN gives 0, and -0 gives +0
#else
  return x > 0.0f ? x : 0.0f;
#endif
}


// The parameters of a replica (rgm_mlp layout), by all threads of the block; without barriers.
template <int INPUTS> RGM_DEVICE void policy_load(float *policy, const float *params, int hidden) {
  const int padded = (hidden + 15) / 16 * 16, octets = (hidden + 7) / 8;
  const float *b1 = params + INPUTS * padded, *w2 = b1 + padded, *b2 = w2 + padded * 16;
  for (int h = (int)threadIdx.x; h < octets * 8; h += (int)blockDim.x) {
    float *unit = policy + h / 8 * 8 * (INPUTS + POLICY_MORE) + h % 8;
    for (int i = 0; i < INPUTS; i++) {
      unit[i * 8] = h < hidden ? params[i * padded + h] : 0.0f;
    }
    unit[(INPUTS + POLICY_BIAS) * 8] = h < hidden ? b1[h] : 0.0f;
    unit[(INPUTS + POLICY_V) * 8] = h < hidden ? w2[h * 16 + 1] - w2[h * 16] : 0.0f;
  }
  if (threadIdx.x == 0) {
    policy[octets * 8 * (INPUTS + POLICY_MORE)] = b2[1] - b2[0];
  }
}


// Folds the last input into the biases, by all threads; without barriers.
template <int INPUTS> RGM_DEVICE void policy_share_last(float *policy, int hidden, float last) {
  for (int h = (int)threadIdx.x; h < (hidden + 7) / 8 * 8; h += (int)blockDim.x) {
    float *unit = policy + h / 8 * 8 * (INPUTS + POLICY_MORE) + h % 8;
    unit[(INPUTS + POLICY_FOLDED) * 8] =
        rgm_fma(unit[(INPUTS - 1) * 8], last, unit[(INPUTS + POLICY_BIAS) * 8]);
  }
}


// Four units of an octet, from `at` on, for the observations of n episodes.
template <int INPUTS, int N, bool FOLDED>
RGM_DEVICE void policy_four(const float *at, const float x[][INPUTS], float part[][8], int first) {
  float a[N][4];
  const float4 b =
      *reinterpret_cast<const float4 *>(at + (INPUTS + (FOLDED ? POLICY_FOLDED : POLICY_BIAS)) * 8);
#pragma unroll
  for (int n = 0; n < N; n++) {
    a[n][0] = b.x, a[n][1] = b.y, a[n][2] = b.z, a[n][3] = b.w;
  }
  // the last input first: folded in, it is the first to be added to the bias
#pragma unroll
  for (int k = FOLDED ? 0 : -1; k < INPUTS - 1; k++) {
    const int i = k < 0 ? INPUTS - 1 : k;
    const float4 w = *reinterpret_cast<const float4 *>(at + i * 8);
#pragma unroll
    for (int n = 0; n < N; n++) {
      a[n][0] = rgm_fma(w.x, x[n][i], a[n][0]), a[n][1] = rgm_fma(w.y, x[n][i], a[n][1]);
      a[n][2] = rgm_fma(w.z, x[n][i], a[n][2]), a[n][3] = rgm_fma(w.w, x[n][i], a[n][3]);
    }
  }
  const float4 v = *reinterpret_cast<const float4 *>(at + (INPUTS + POLICY_V) * 8);
#pragma unroll
  for (int n = 0; n < N; n++) {
    float *p = part[n] + first;
    p[0] = rgm_fma(v.x, policy_relu(a[n][0]), p[0]),
    p[1] = rgm_fma(v.y, policy_relu(a[n][1]), p[1]);
    p[2] = rgm_fma(v.z, policy_relu(a[n][2]), p[2]),
    p[3] = rgm_fma(v.w, policy_relu(a[n][3]), p[3]);
  }
}


// Logits of N episodes of a thread.
template <int INPUTS, int N, bool FOLDED>
RGM_DEVICE void policy_think(float *z, const float *policy, int hidden, const float x[][INPUTS]) {
  float part[N][8];
#pragma unroll
  for (int k = 0; k < N * 8; k++) {
    part[k / 8][k % 8] = 0.0f;
  }
  const float *octet = policy, *end = policy + (hidden + 7) / 8 * 8 * (INPUTS + POLICY_MORE);
#pragma unroll 1
  for (; octet < end; octet += 8 * (INPUTS + POLICY_MORE)) {
    policy_four<INPUTS, N, FOLDED>(octet, x, part, 0);
    policy_four<INPUTS, N, FOLDED>(octet + 4, x, part, 4);
  }
#pragma unroll
  for (int n = 0; n < N; n++) {
    const float *p = part[n];
    const float low = (p[0] + p[1]) + (p[2] + p[3]), high = (p[4] + p[5]) + (p[6] + p[7]);
    z[n] = (low + high) + *end;
  }
}


// The logit of the one episode of eight lanes; all of them get it.
template <int INPUTS, bool FOLDED>
RGM_DEVICE float policy_think_together(const float *policy, int hidden, const float *x) {
  const int octets = (hidden + 7) / 8;
  const float *end = policy + octets * 8 * (INPUTS + POLICY_MORE);
  float part = 0.0f;
#pragma unroll 4
  for (int octet = 0; octet < octets; octet++) {
    const float *unit = policy + octet * 8 * (INPUTS + POLICY_MORE) + threadIdx.x % 8;
    float a = unit[(INPUTS + (FOLDED ? POLICY_FOLDED : POLICY_BIAS)) * 8];
#pragma unroll
    for (int k = FOLDED ? 0 : -1; k < INPUTS - 1; k++) {
      const int i = k < 0 ? INPUTS - 1 : k;
      a = rgm_fma(unit[i * 8], x[i], a);
    }
    part = rgm_fma(unit[(INPUTS + POLICY_V) * 8], policy_relu(a), part);
  }
  // the tree: at each distance both lanes add the same two numbers
  part = part + __shfl_xor_sync(0xffffffffu, part, 1);
  part = part + __shfl_xor_sync(0xffffffffu, part, 2);
  part = part + __shfl_xor_sync(0xffffffffu, part, 4);
  return part + *end;
}

#endif
