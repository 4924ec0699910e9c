// SPDX-License-Identifier: Apache-2.0
// Optimisers over the parameter blocks of all replicas; finished replicas are left alone.

#include "kernels/cpu/cpu.h"

typedef struct optim_args {
  rgm_tensor p, m, v, count, g, lr, beta1, beta2, eps, active;
} optim_args;


// beta^n in double by repeated squaring, so that every device gets the same bits
static double power(double beta, uint32_t n) {
  double result = 1.0;
  for (; n > 0; n >>= 1) {
    if (n & 1) {
      result = result * beta;
    }
    beta = beta * beta;
  }
  return result;
}


static void adam_task(void *arg, int64_t r) {
  const optim_args *a = arg;
  if (rgm_u32(a->active, r)[0] == 0) {
    return;
  }
  const int64_t n = rgm_elements(a->p) / a->p.dims[0];
  float *p = rgm_f32(a->p, r), *m = rgm_f32(a->m, r), *v = rgm_f32(a->v, r);
  const float *g = rgm_f32(a->g, r);
  const uint32_t step = ++rgm_u32(a->count, r)[0];
  const float beta1 = rgm_f32(a->beta1, r)[0], beta2 = rgm_f32(a->beta2, r)[0];
  const float eps = rgm_f32(a->eps, r)[0];

  // bias corrections folded into the step: p -= scale * m / (sqrt(v) / root + eps)
  const float scale = (float)(rgm_f32(a->lr, r)[0] / (1.0 - power(beta1, step)));
  const float root = (float)(1.0 / rgm_sqrt64(1.0 - power(beta2, step)));
  for (int64_t i = 0; i < n; i++) {
    m[i] = rgm_fma(beta1, m[i], (1.0f - beta1) * g[i]);
    v[i] = rgm_fma(beta2, v[i], (1.0f - beta2) * (g[i] * g[i]));
    p[i] = rgm_fma(-scale, m[i] / rgm_fma(rgm_sqrt(v[i]), root, eps), p[i]);
  }
}


void RGM_CPU(adam)(rgm_stream *s, rgm_tensor p, rgm_tensor m, rgm_tensor v, rgm_tensor count,
                   rgm_tensor g, rgm_tensor lr, rgm_tensor beta1, rgm_tensor beta2, rgm_tensor eps,
                   rgm_tensor active) {
  optim_args a = {p, m, v, count, g, lr, beta1, beta2, eps, active};
  rgm_cpu_parallel(s, p.dims[0], adam_task, &a);
}


static void sgd_task(void *arg, int64_t r) {
  const optim_args *a = arg;
  if (rgm_u32(a->active, r)[0] == 0) {
    return;
  }
  const int64_t n = rgm_elements(a->p) / a->p.dims[0];
  float *p = rgm_f32(a->p, r), *velocity = rgm_f32(a->v, r);
  const float *g = rgm_f32(a->g, r);
  const float lr = rgm_f32(a->lr, r)[0], momentum = rgm_f32(a->beta1, r)[0];
  for (int64_t i = 0; i < n; i++) {
    velocity[i] = rgm_fma(momentum, velocity[i], g[i]);
    p[i] = rgm_fma(-lr, velocity[i], p[i]);
  }
}


void RGM_CPU(sgd)(rgm_stream *s, rgm_tensor p, rgm_tensor velocity, rgm_tensor g, rgm_tensor lr,
                  rgm_tensor momentum, rgm_tensor active) {
  optim_args a = {.p = p, .v = velocity, .g = g, .lr = lr, .beta1 = momentum, .active = active};
  rgm_cpu_parallel(s, p.dims[0], sgd_task, &a);
}


static void ema_task(void *arg, int64_t r) {
  const optim_args *a = arg;
  if (rgm_u32(a->active, r)[0] == 0) {
    return;
  }
  const int64_t n = rgm_elements(a->p) / a->p.dims[0];
  float *target = rgm_f32(a->m, r);
  const float *p = rgm_f32(a->p, r);
  const float rate = rgm_f32(a->lr, r)[0];
  for (int64_t i = 0; i < n; i++) {
    target[i] = rgm_fma(rate, p[i] - target[i], target[i]);
  }
}


void RGM_CPU(ema)(rgm_stream *s, rgm_tensor target, rgm_tensor p, rgm_tensor rate,
                  rgm_tensor active) {
  optim_args a = {.p = p, .m = target, .lr = rate, .active = active};
  rgm_cpu_parallel(s, p.dims[0], ema_task, &a);
}
