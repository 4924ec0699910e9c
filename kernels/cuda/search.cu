// SPDX-License-Identifier: Apache-2.0
// Search over parameters without gradients: candidates drawn from a Gaussian, the Gaussian refitted
// to weighted candidates, and exponentials, since searches run in log space.

#include "kernels/cuda/cuda.cuh"
#include "kernels/optim.h"
#include "kernels/rng.h"

enum { THREADS = 128, BLOCKS = 1024 };

typedef struct search_args {
  rgm_tensor x, mean, log_sd, weight, rate, floor, seeds, clock, active;
  uint32_t random;
} search_args;


// a thread makes the four dims of one philox call; told how many blocks share a processor, nvcc
// spills nothing (sm_120)
RGM_KERNEL_RESIDENT(THREADS, 8) gaussian_draw_kernel(search_args a) {
  const int64_t dims = a.x.dims[2], fours = (dims + 3) / 4;
  RGM_REPLICAS (r, a.x.dims[0]) {
    if (rgm_u32(a.active, r)[0] == 0) {
      continue;
    }
    const rgm_key key = rgm_stream_key(rgm_u32(a.seeds, r), a.random);
    const uint32_t step = rgm_u32(a.clock, r)[0];
    const float *mean = rgm_f32(a.mean, r), *log_sd = rgm_f32(a.log_sd, r);
    RGM_ELEMENTS (k, a.x.dims[1] * fours) {
      const int64_t m = k / fours, d = k % fours * 4;
      const rgm_words words = rgm_philox(key, step, (uint32_t)m, (uint32_t)(d / 4), 0);
      float normal[4];
      rgm_normals(words.w0, words.w1, &normal[0], &normal[1]);
      rgm_normals(words.w2, words.w3, &normal[2], &normal[3]);
      float *x = rgm_f32(a.x, r) + m * dims + d;
#pragma unroll
      for (int i = 0; i < 4; i++) {
        if (d + i < dims) {
          x[i] = rgm_fma(rgm_exp(log_sd[d + i]), normal[i], mean[d + i]);
        }
      }
    }
  }
}


void rgm_cuda_gaussian_draw(rgm_stream *s, rgm_tensor x, rgm_tensor mean, rgm_tensor log_sd,
                            rgm_tensor seeds, rgm_tensor clock, uint32_t random,
                            rgm_tensor active) {
  search_args a = {};
  a.x = x;
  a.mean = mean;
  a.log_sd = log_sd;
  a.seeds = seeds;
  a.clock = clock;
  a.random = random;
  a.active = active;
  const int64_t fours = x.dims[1] * ((x.dims[2] + 3) / 4);
  const dim3 grid(rgm_blocks(fours, THREADS, BLOCKS), rgm_replica_blocks(x.dims[0]));
  RGM_LAUNCH(gaussian_draw_kernel, grid, THREADS, 0, s, a);
}


// a thread takes a dim: weighted mean and variance of the candidates in order, then a step towards
// them
RGM_KERNEL(THREADS) gaussian_refit_kernel(search_args a) {
  const int64_t candidates = a.x.dims[1], dims = a.x.dims[2];
  RGM_REPLICAS (r, a.x.dims[0]) {
    const float *weight = rgm_f32(a.weight, r);
    bool any = false;
    for (int64_t m = 0; m < candidates && !any; m++) {
      any = weight[m] != 0.0f;
    }
    if (rgm_u32(a.active, r)[0] == 0 || !any) {
      continue;
    }
    const float rate = rgm_f32(a.rate, r)[0], floor = rgm_f32(a.floor, r)[0];
    RGM_ELEMENTS (d, dims) {
      rgm_refit_one(rgm_f32(a.mean, r) + d, rgm_f32(a.log_sd, r) + d, rgm_f32(a.x, r) + d, weight,
                    candidates, dims, rate, floor);
    }
  }
}


void rgm_cuda_gaussian_refit(rgm_stream *s, rgm_tensor mean, rgm_tensor log_sd, rgm_tensor x,
                             rgm_tensor weight, rgm_tensor rate, rgm_tensor floor,
                             rgm_tensor active) {
  search_args a = {};
  a.x = x;
  a.mean = mean;
  a.log_sd = log_sd;
  a.weight = weight;
  a.rate = rate;
  a.floor = floor;
  a.active = active;
  const dim3 grid(rgm_blocks(x.dims[2], THREADS, BLOCKS), rgm_replica_blocks(x.dims[0]));
  RGM_LAUNCH(gaussian_refit_kernel, grid, THREADS, 0, s, a);
}


RGM_KERNEL(THREADS) exponential_kernel(rgm_tensor y, rgm_tensor x, rgm_tensor active) {
  RGM_REPLICAS (r, x.dims[0]) {
    if (rgm_u32(active, r)[0] == 0) {
      continue;
    }
    const float *from = rgm_f32(x, r);
    float *to = rgm_f32(y, r);
    RGM_ELEMENTS (i, rgm_per_replica(x)) {
      to[i] = rgm_exp(from[i]);
    }
  }
}


void rgm_cuda_exponential(rgm_stream *s, rgm_tensor y, rgm_tensor x, rgm_tensor active) {
  const dim3 grid(rgm_blocks(rgm_per_replica(x), THREADS, BLOCKS), rgm_replica_blocks(x.dims[0]));
  RGM_LAUNCH(exponential_kernel, grid, THREADS, 0, s, y, x, active);
}
