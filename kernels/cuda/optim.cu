// SPDX-License-Identifier: Apache-2.0
// Optimisers over the parameter blocks of all replicas; finished replicas are left alone. Bound by
// memory: a thread takes one parameter after the other, neighbours side by side.

#include "kernels/cuda/cuda.cuh"

enum { THREADS = 256, BLOCKS = 1024 };

// Everything that adam, sgd and ema read: v is velocity, m is target, lr is rate where they have
// those instead.
typedef struct optim_args {
  rgm_tensor p, m, v, count, g, lr, beta1, beta2, eps, active;
} optim_args;


static dim3 grid_of(rgm_tensor p) {
  return dim3(rgm_blocks(rgm_per_replica(p), THREADS, BLOCKS), rgm_replica_blocks(p.dims[0]));
}


typedef struct schedule_args {
  rgm_tensor y, base, clock, warmup, total;
  rgm_decay decay;
} schedule_args;


RGM_KERNEL(THREADS) schedule_kernel(schedule_args a) {
  RGM_ELEMENTS (r, a.y.dims[0]) {
    rgm_f32(a.y, r)[0] = rgm_f32(a.base, r)[0] * rgm_rate_left((float)rgm_u32(a.clock, r)[0],
                                                               rgm_f32(a.warmup, r)[0],
                                                               rgm_f32(a.total, r)[0], a.decay);
  }
}


void rgm_cuda_schedule(rgm_stream *s, rgm_tensor y, rgm_tensor base, rgm_tensor clock,
                       rgm_tensor warmup, rgm_tensor total, rgm_decay decay) {
  const schedule_args a = {y, base, clock, warmup, total, decay};
  RGM_LAUNCH(schedule_kernel, dim3(rgm_blocks(y.dims[0], THREADS, BLOCKS)), THREADS, 0, s, a);
}


RGM_KERNEL(THREADS) adam_kernel(optim_args a) {
  // bias corrections need double precision, once for a block
  RGM_SHARED(rgm_adam_rates, shared, [1]);
  RGM_REPLICAS (r, a.p.dims[0]) {
    if (rgm_u32(a.active, r)[0] == 0) {
      continue;
    }
    if (threadIdx.x == 0) {
      shared[0] =
          rgm_adam_rates_of(rgm_f32(a.lr, r)[0], rgm_f32(a.beta1, r)[0], rgm_f32(a.beta2, r)[0],
                            rgm_f32(a.eps, r)[0], rgm_u32(a.count, r)[0] + 1);
    }
    __syncthreads();
    const rgm_adam_rates rates = shared[0];
    float *p = rgm_f32(a.p, r), *m = rgm_f32(a.m, r), *v = rgm_f32(a.v, r);
    const float *g = rgm_f32(a.g, r);
    RGM_ELEMENTS (i, rgm_per_replica(a.p)) {
      rgm_adam_one(&p[i], &m[i], &v[i], g[i], rates);
    }
    __syncthreads();
  }
}


void rgm_cuda_adam(rgm_stream *s, rgm_tensor p, rgm_tensor m, rgm_tensor v, rgm_tensor count,
                   rgm_tensor g, rgm_tensor lr, rgm_tensor beta1, rgm_tensor beta2, rgm_tensor eps,
                   rgm_tensor active) {
  const optim_args a = {p, m, v, count, g, lr, beta1, beta2, eps, active};
  RGM_LAUNCH(adam_kernel, grid_of(p), THREADS, 0, s, a);
  rgm_cuda_advance(s, count, active);
}


RGM_KERNEL(THREADS) sgd_kernel(optim_args a) {
  RGM_REPLICAS (r, a.p.dims[0]) {
    if (rgm_u32(a.active, r)[0] == 0) {
      continue;
    }
    float *p = rgm_f32(a.p, r), *velocity = rgm_f32(a.v, r);
    const float *g = rgm_f32(a.g, r);
    const float lr = rgm_f32(a.lr, r)[0], momentum = rgm_f32(a.beta1, r)[0];
    RGM_ELEMENTS (i, rgm_per_replica(a.p)) {
      rgm_sgd_one(&p[i], &velocity[i], g[i], lr, momentum);
    }
  }
}


void rgm_cuda_sgd(rgm_stream *s, rgm_tensor p, rgm_tensor velocity, rgm_tensor g, rgm_tensor lr,
                  rgm_tensor momentum, rgm_tensor active) {
  optim_args a = {};
  a.p = p;
  a.v = velocity;
  a.g = g;
  a.lr = lr;
  a.beta1 = momentum;
  a.active = active;
  RGM_LAUNCH(sgd_kernel, grid_of(p), THREADS, 0, s, a);
}


RGM_KERNEL(THREADS) ema_kernel(optim_args a) {
  RGM_REPLICAS (r, a.p.dims[0]) {
    if (rgm_u32(a.active, r)[0] == 0) {
      continue;
    }
    float *target = rgm_f32(a.m, r);
    const float *p = rgm_f32(a.p, r), rate = rgm_f32(a.lr, r)[0];
    RGM_ELEMENTS (i, rgm_per_replica(a.p)) {
      target[i] = rgm_ema_one(target[i], p[i], rate);
    }
  }
}


void rgm_cuda_ema(rgm_stream *s, rgm_tensor target, rgm_tensor p, rgm_tensor rate,
                  rgm_tensor active) {
  optim_args a = {};
  a.p = p;
  a.m = target;
  a.lr = rate;
  a.active = active;
  RGM_LAUNCH(ema_kernel, grid_of(p), THREADS, 0, s, a);
}
