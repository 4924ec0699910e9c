// SPDX-License-Identifier: Apache-2.0
// The nearest centre of each row, and backward induction on many small problems, on the GPU. A
// thread has a row and goes through the centres sixteen at a time, whose loads all threads of a
// warp share; or it has a state of a small problem.

#include "kernels/cuda/cuda.cuh"
#include "kernels/tabular.h"

#include <math.h>

enum { THREADS = 128, GROUP = 16 };


RGM_KERNEL(THREADS) nearest_kernel(rgm_nearest_centre a) {
  const int64_t rows = a.index.dims[1], features = a.centre.dims[1], centres = a.centre.dims[2];
  RGM_REPLICAS (r, a.index.dims[0]) {
    if (rgm_u32(a.active, r)[0] == 0) {
      continue;
    }
    const float *c = rgm_f32(a.centre, r);
    RGM_ELEMENTS (row, rows) {
      const float *x = rgm_f32(a.x, r) + row * features;
      float least = HUGE_VALF;
      int32_t index = 0;
      for (int64_t k = 0; k < centres; k += GROUP) {
        float sum[GROUP];
        for (int l = 0; l < GROUP; l++) {
          sum[l] = 0.0f;
        }
        for (int64_t d = 0; d < features; d++) {
          const float own = x[d];
          if (own == own) {
            for (int l = 0; l < GROUP; l++) {
              const float apart = c[d * centres + k + l] - own;
              sum[l] = rgm_fma(apart, apart, sum[l]);
            }
          }
        }
        for (int l = 0; l < GROUP; l++) {
          index = sum[l] < least ? (int32_t)(k + l) : index;
          least = sum[l] < least ? sum[l] : least;
          if (a.all.data != nullptr) {
            rgm_f32(a.all, r)[row * centres + k + l] = sum[l];
          }
        }
      }
      rgm_f32(a.least, r)[row] = least;
      ((int32_t *)a.index.data)[r * a.index.stride0 + row] = index;
    }
  }
}


void rgm_cuda_nearest(rgm_stream *s, const rgm_nearest_centre *a) {
  const dim3 grid(rgm_blocks(a->index.dims[1], THREADS, RGM_CUDA_MOST),
                  rgm_replica_blocks(a->index.dims[0]));
  RGM_LAUNCH(nearest_kernel, grid, THREADS, 0, s, *a);
}


// ---- small problems ----------------------------------------------------------------------------

// a block of threads a problem, a thread a state and action, then a thread a state
RGM_KERNEL(THREADS) induct_kernel(rgm_induction a) {
  const int64_t steps = a.value.dims[1] - 1, states = a.value.dims[2];
  const int64_t actions = a.reward.dims[3], times = a.p.dims[1];
  RGM_REPLICAS (r, a.value.dims[0]) {
    if (rgm_u32(a.active, r)[0] == 0) {
      continue;
    }
    double *value = (double *)a.value.data + r * a.value.stride0;
    int32_t *action = (int32_t *)a.action.data + r * a.action.stride0;
    const double gamma = rgm_at_f64(a.gamma, r, 0);
    for (int64_t t = steps - 1; t >= 0; t--) {
      const int64_t at = times == 1 ? 0 : t;
      const double *p = (const double *)a.p.data + r * a.p.stride0 + at * states * states * actions;
      const double *reward =
          (const double *)a.reward.data + r * a.reward.stride0 + at * states * actions;
      const double *after = value + (t + 1) * states;
      for (int64_t i = threadIdx.x; i < states; i += THREADS) {
        double q[RGM_BACKWARD_ACTIONS];
        for (int64_t k = 0; k < actions; k++) {
          double x = 0.0;
          for (int64_t n = 0; n < states; n++) {
            x = rgm_fma64(p[(i * states + n) * actions + k], after[n], x);
          }
          q[k] = rgm_fma64(gamma, x, reward[i * actions + k]);
        }
        rgm_mdp_step_back(q, reward + i * actions, actions, after[i], &value[t * states + i],
                          &action[t * states + i]);
      }
      __syncthreads();
    }
  }
}


void rgm_cuda_induct(rgm_stream *s, const rgm_induction *a) {
  RGM_LAUNCH(induct_kernel, dim3(1, rgm_replica_blocks(a->value.dims[0])), THREADS, 0, s, *a);
}
