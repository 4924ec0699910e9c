// SPDX-License-Identifier: Apache-2.0
// What the machine can do, to hold other kernels against: arithmetic that never leaves the
// registers, and a stream through memory.

#include "kernels/cpu/cpu.h"

enum {
  CHAINS = RGM_LANE_WIDTH > 1 ? 12 : 16, // independent sums: latency 4 or 5, two a cycle
  PIECE = 4096,                          // elements of a unit of parallel work
};


// acc = acc * shrink + grow stays at 1; the result is stored so that nothing is left out
static void burn_task(void *arg, int64_t index) {
  const int64_t rounds = *(const int64_t *)arg;
  float start[RGM_LANE_WIDTH];
  for (int j = 0; j < RGM_LANE_WIDTH; j++) {
    start[j] = 1.0f + (float)index;
  }
  const rgm_lanes shrink = rgm_lanes_set(0.5f), grow = rgm_lanes_set(0.5f);
  rgm_lanes acc[CHAINS];
  for (int k = 0; k < CHAINS; k++) {
    acc[k] = rgm_lanes_load(start);
  }
  for (int64_t i = 0; i < rounds; i++) {
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC unroll 16
#endif
    for (int k = 0; k < CHAINS; k++) {
      acc[k] = rgm_lanes_fma(acc[k], shrink, grow);
    }
  }
  volatile float sink;
  for (int k = 0; k < CHAINS; k++) {
    rgm_lanes_store(start, acc[k]);
    sink = start[0];
  }
  (void)sink;
}


double RGM_CPU(burn)(rgm_stream *s, int64_t rounds) {
  const int threads = rgm_cpu_threads(s);
  rgm_cpu_parallel(s, threads, burn_task, &rounds);
  return 2.0 * CHAINS * RGM_LANE_WIDTH * (double)rounds * threads;
}


typedef struct triad_args {
  rgm_tensor y, x, z;
  float scale;
  int64_t pieces; // per replica
} triad_args;


static void triad_task(void *arg, int64_t index) {
  const triad_args *a = arg;
  const int64_t r = index / a->pieces, begin = index % a->pieces * PIECE;
  const int64_t n = rgm_elements(a->y) / a->y.dims[0];
  const int64_t end = begin + PIECE < n ? begin + PIECE : n;
  float *y = rgm_f32(a->y, r);
  const float *x = rgm_f32(a->x, r), *z = rgm_f32(a->z, r);
  for (int64_t i = begin; i < end; i++) {
    y[i] = rgm_fma(a->scale, z[i], x[i]);
  }
}


void RGM_CPU(triad)(rgm_stream *s, rgm_tensor y, rgm_tensor x, rgm_tensor z, float scale) {
  triad_args a = {y, x, z, scale, (rgm_elements(y) / y.dims[0] + PIECE - 1) / PIECE};
  rgm_cpu_parallel(s, y.dims[0] * a.pieces, triad_task, &a);
}
