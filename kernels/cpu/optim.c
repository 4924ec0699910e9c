// SPDX-License-Identifier: Apache-2.0
// Optimisers over the parameter blocks of all replicas; finished replicas are left alone.

#include "kernels/cpu/cpu.h"

enum { PIECE = 8192 }; // parameters of a unit of parallel work

typedef struct optim_args {
  rgm_tensor p, m, v, count, g, lr, beta1, beta2, eps, active;
  int64_t pieces; // of a replica
} optim_args;


static int64_t pieces_of(rgm_tensor p) {
  return (rgm_elements(p) / p.dims[0] + PIECE - 1) / PIECE;
}


void RGM_CPU(schedule)(rgm_stream *s, rgm_tensor y, rgm_tensor base, rgm_tensor clock,
                       rgm_tensor warmup, rgm_tensor total, rgm_decay decay) {
  (void)s;
  for (int64_t r = 0; r < y.dims[0]; r++) {
    rgm_f32(y, r)[0] =
        rgm_f32(base, r)[0] * rgm_rate_left((float)rgm_u32(clock, r)[0], rgm_f32(warmup, r)[0],
                                            rgm_f32(total, r)[0], decay);
  }
}


static void adam_task(void *arg, int64_t index) {
  const optim_args *a = arg;
  const int64_t r = index / a->pieces, begin = index % a->pieces * PIECE;
  if (rgm_u32(a->active, r)[0] == 0) {
    return;
  }
  const int64_t all = rgm_elements(a->p) / a->p.dims[0];
  const int64_t n = all - begin < PIECE ? all - begin : PIECE;
  const rgm_adam_rates rates =
      rgm_adam_rates_of(rgm_f32(a->lr, r)[0], rgm_f32(a->beta1, r)[0], rgm_f32(a->beta2, r)[0],
                        rgm_f32(a->eps, r)[0], rgm_u32(a->count, r)[0] + 1);
  rgm_adam_apply(rgm_f32(a->p, r) + begin, rgm_f32(a->m, r) + begin, rgm_f32(a->v, r) + begin,
                 rgm_f32(a->g, r) + begin, n, rates);
}


void RGM_CPU(adam)(rgm_stream *s, rgm_tensor p, rgm_tensor m, rgm_tensor v, rgm_tensor count,
                   rgm_tensor g, rgm_tensor lr, rgm_tensor beta1, rgm_tensor beta2, rgm_tensor eps,
                   rgm_tensor active) {
  optim_args a = {p, m, v, count, g, lr, beta1, beta2, eps, active, pieces_of(p)};
  rgm_cpu_parallel(s, p.dims[0] * a.pieces, adam_task, &a);
  RGM_CPU(advance)(s, count, active);
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
    rgm_sgd_one(&p[i], &velocity[i], g[i], lr, momentum);
  }
}


void RGM_CPU(sgd)(rgm_stream *s, rgm_tensor p, rgm_tensor velocity, rgm_tensor g, rgm_tensor lr,
                  rgm_tensor momentum, rgm_tensor active) {
  optim_args a = {.p = p, .v = velocity, .g = g, .lr = lr, .beta1 = momentum, .active = active};
  rgm_cpu_parallel(s, p.dims[0], sgd_task, &a);
}


static void ema_task(void *arg, int64_t index) {
  const optim_args *a = arg;
  const int64_t r = index / a->pieces, begin = index % a->pieces * PIECE;
  if (rgm_u32(a->active, r)[0] == 0) {
    return;
  }
  const int64_t all = rgm_elements(a->p) / a->p.dims[0];
  rgm_ema_apply(rgm_f32(a->m, r) + begin, rgm_f32(a->p, r) + begin,
                all - begin < PIECE ? all - begin : PIECE, rgm_f32(a->lr, r)[0]);
}


void RGM_CPU(ema)(rgm_stream *s, rgm_tensor target, rgm_tensor p, rgm_tensor rate,
                  rgm_tensor active) {
  optim_args a = {.p = p, .m = target, .lr = rate, .active = active, .pieces = pieces_of(p)};
  rgm_cpu_parallel(s, p.dims[0] * a.pieces, ema_task, &a);
}
