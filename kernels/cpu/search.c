// SPDX-License-Identifier: Apache-2.0
// Search over parameters without gradients: candidates drawn from a Gaussian, the Gaussian refitted
// to weighted candidates, and exponentials, since searches run in log space.

#include "kernels/cpu/cpu.h"
#include "kernels/optim.h"
#include "kernels/rng.h"

typedef struct search_args {
  rgm_tensor x, mean, log_sd, weight, rate, floor, seeds, clock, active;
  uint32_t random;
} search_args;


// four normals of one philox call, which dims 4 k to 4 k + 3 of a candidate take
static void four_normals(rgm_key key, uint32_t step, uint32_t item, uint32_t draw, float *normal) {
  const rgm_words words = rgm_philox(key, step, item, draw, 0);
  rgm_normals(words.w0, words.w1, &normal[0], &normal[1]);
  rgm_normals(words.w2, words.w3, &normal[2], &normal[3]);
}


static void gaussian_draw_task(void *arg, int64_t r) {
  const search_args *a = arg;
  if (rgm_u32(a->active, r)[0] == 0) {
    return;
  }
  const int64_t candidates = a->x.dims[1], dims = a->x.dims[2];
  const rgm_key key = rgm_stream_key(rgm_u32(a->seeds, r), a->random);
  const uint32_t step = rgm_u32(a->clock, r)[0];
  const float *mean = rgm_f32(a->mean, r), *log_sd = rgm_f32(a->log_sd, r);
  float *x = rgm_f32(a->x, r);
  for (int64_t m = 0; m < candidates; m++) {
    for (int64_t d = 0; d < dims; d += 4) {
      float normal[4];
      four_normals(key, step, (uint32_t)m, (uint32_t)(d / 4), normal);
      for (int64_t i = 0; i < 4 && d + i < dims; i++) {
        x[m * dims + d + i] = rgm_fma(rgm_exp(log_sd[d + i]), normal[i], mean[d + i]);
      }
    }
  }
}


void RGM_CPU(gaussian_draw)(rgm_stream *s, rgm_tensor x, rgm_tensor mean, rgm_tensor log_sd,
                            rgm_tensor seeds, rgm_tensor clock, uint32_t random,
                            rgm_tensor active) {
  search_args a = {.x = x,
                   .mean = mean,
                   .log_sd = log_sd,
                   .seeds = seeds,
                   .clock = clock,
                   .random = random,
                   .active = active};
  rgm_cpu_parallel(s, x.dims[0], gaussian_draw_task, &a);
}


static void gaussian_refit_task(void *arg, int64_t r) {
  const search_args *a = arg;
  const int64_t candidates = a->x.dims[1], dims = a->x.dims[2];
  const float *weight = rgm_f32(a->weight, r);
  bool any = false;
  for (int64_t m = 0; m < candidates; m++) {
    any = any || weight[m] != 0.0f;
  }
  if (rgm_u32(a->active, r)[0] == 0 || !any) {
    return;
  }
  const float rate = rgm_f32(a->rate, r)[0], floor = rgm_f32(a->floor, r)[0];
  for (int64_t d = 0; d < dims; d++) {
    rgm_refit_one(rgm_f32(a->mean, r) + d, rgm_f32(a->log_sd, r) + d, rgm_f32(a->x, r) + d, weight,
                  candidates, dims, rate, floor);
  }
}


void RGM_CPU(gaussian_refit)(rgm_stream *s, rgm_tensor mean, rgm_tensor log_sd, rgm_tensor x,
                             rgm_tensor weight, rgm_tensor rate, rgm_tensor floor,
                             rgm_tensor active) {
  search_args a = {.x = x,
                   .mean = mean,
                   .log_sd = log_sd,
                   .weight = weight,
                   .rate = rate,
                   .floor = floor,
                   .active = active};
  rgm_cpu_parallel(s, x.dims[0], gaussian_refit_task, &a);
}


static void exponential_task(void *arg, int64_t r) {
  const search_args *a = arg;
  if (rgm_u32(a->active, r)[0] == 0) {
    return;
  }
  const int64_t n = rgm_elements(a->x) / a->x.dims[0];
  const float *x = rgm_f32(a->x, r);
  float *y = rgm_f32(a->mean, r);
  for (int64_t i = 0; i < n; i++) {
    y[i] = rgm_exp(x[i]);
  }
}


void RGM_CPU(exponential)(rgm_stream *s, rgm_tensor y, rgm_tensor x, rgm_tensor active) {
  search_args a = {.x = x, .mean = y, .active = active};
  rgm_cpu_parallel(s, x.dims[0], exponential_task, &a);
}
