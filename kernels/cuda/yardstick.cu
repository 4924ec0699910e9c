// SPDX-License-Identifier: Apache-2.0
// What the device can do, to hold other kernels against: arithmetic that never leaves the
// registers, and a stream through memory.

#include "kernels/cuda/cuda.cuh"

enum {
  THREADS = 256,
  BLOCKS = 4096,
  CHAINS = 16,  // independent sums of a thread
  RESIDENT = 8, // blocks that a processor holds: 2,048 threads
};


// acc = acc * shrink + grow stays at 1; the result is stored, where it could be anything else, so
// that nothing is left out
RGM_KERNEL(THREADS) burn_kernel(float *sink, int64_t rounds, float shrink) {
  float acc[CHAINS];
#pragma unroll
  for (int k = 0; k < CHAINS; k++) {
    acc[k] = 1.0f + (float)k;
  }
  for (int64_t i = 0; i < rounds; i++) {
#pragma unroll
    for (int k = 0; k < CHAINS; k++) {
      acc[k] = rgm_fma(acc[k], shrink, shrink);
    }
  }
  float sum = 0.0f;
#pragma unroll
  for (int k = 0; k < CHAINS; k++) {
    sum += acc[k];
  }
  if (sum < 0.0f) {
    *sink = sum;
  }
}


double rgm_cuda_burn(rgm_stream *s, int64_t rounds) {
  const int blocks = rgm_cuda_processors(s) * RESIDENT;
  RGM_LAUNCH(burn_kernel, blocks, THREADS, 0, s, rgm_cuda_scratch(s), rounds, 0.5f);
  return 2.0 * CHAINS * (double)rounds * THREADS * blocks;
}


// 16 bytes at a time where the three lie so
RGM_KERNEL(THREADS) triad_kernel(rgm_tensor y, rgm_tensor x, rgm_tensor z, float scale, bool wide) {
  const int64_t n = rgm_per_replica(y), fours = wide ? n / 4 : 0;
  RGM_REPLICAS (r, y.dims[0]) {
    float *to = rgm_f32(y, r);
    const float *a = rgm_f32(x, r), *b = rgm_f32(z, r);
    RGM_ELEMENTS (i, fours) {
      const float4 u = reinterpret_cast<const float4 *>(a)[i];
      const float4 v = reinterpret_cast<const float4 *>(b)[i];
      reinterpret_cast<float4 *>(to)[i] =
          make_float4(rgm_fma(scale, v.x, u.x), rgm_fma(scale, v.y, u.y), rgm_fma(scale, v.z, u.z),
                      rgm_fma(scale, v.w, u.w));
    }
    RGM_ELEMENTS (i, n - 4 * fours) {
      to[4 * fours + i] = rgm_fma(scale, b[4 * fours + i], a[4 * fours + i]);
    }
  }
}


void rgm_cuda_triad(rgm_stream *s, rgm_tensor y, rgm_tensor x, rgm_tensor z, float scale) {
  const bool wide = rgm_is_wide(y) && rgm_is_wide(x) && rgm_is_wide(z);
  const dim3 grid(rgm_blocks(rgm_per_replica(y) / 4, THREADS, BLOCKS),
                  rgm_replica_blocks(y.dims[0]));
  RGM_LAUNCH(triad_kernel, grid, THREADS, 0, s, y, x, z, scale, wide);
}
