// SPDX-License-Identifier: Apache-2.0
// The arithmetic of optimisers, one parameter at a time: one source for the CPU and for CUDA, so
// that both give the same bits.

#ifndef RGM_OPTIM_H
#define RGM_OPTIM_H

#include "kernels/kernels.h"
#include "kernels/scalar.h"


// beta^n in double by repeated squaring, so that every device gets the same bits.
RGM_FN double rgm_power(double beta, uint32_t n) {
  double result = 1.0;
  for (; n > 0; n >>= 1) {
    if (n & 1) {
      result = result * beta;
    }
    beta = beta * beta;
  }
  return result;
}


// Adam's step number n of one replica: bias corrections are folded into it, so that
// p -= scale * m / (sqrt(v) * root + eps).
typedef struct rgm_adam_rates {
  float beta1, beta2, eps, scale, root;
} rgm_adam_rates;

RGM_FN rgm_adam_rates rgm_adam_rates_of(float lr, float beta1, float beta2, float eps, uint32_t n) {
  rgm_adam_rates a;
  a.beta1 = beta1;
  a.beta2 = beta2;
  a.eps = eps;
  a.scale = (float)((double)lr / (1.0 - rgm_power((double)beta1, n)));
  a.root = (float)(1.0 / rgm_sqrt64(1.0 - rgm_power((double)beta2, n)));
  return a;
}


// x, or 0 where it is nearer to 0 than `least`. What a dead unit leaves behind (its moments, its
// weights under decay, a target whose net has come to rest) shrinks by a factor a step and would
// stay below the normal range for ever, where a processor takes a hundred times as long.
RGM_FN float rgm_or_zero(float x, float least) {
  return rgm_abs(x) < least ? 0.0f : x;
}

#define RGM_LEAST 0x1p-100f        // of a parameter or a mean: products with it are normal
#define RGM_LEAST_SQUARE 0x1p-126f // of a mean square: what is below has lost its digits


// The step on one parameter.
RGM_FN void rgm_adam_one(float *p, float *m, float *v, float g, rgm_adam_rates a) {
  *m = rgm_or_zero(rgm_fma(a.beta1, *m, (1.0f - a.beta1) * g), RGM_LEAST);
  *v = rgm_or_zero(rgm_fma(a.beta2, *v, (1.0f - a.beta2) * (g * g)), RGM_LEAST_SQUARE);
  *p = rgm_or_zero(rgm_fma(-a.scale, *m / rgm_fma(rgm_sqrt(*v), a.root, a.eps), *p), RGM_LEAST);
}


// The share of a rate that is left at time t, after `warmup` updates of growth, until `total`.
RGM_FN float rgm_rate_left(float t, float warmup, float total, rgm_decay decay) {
  const float rise = t + 1.0f < warmup ? (t + 1.0f) / warmup : 1.0f;
  const float span = total - warmup;
  const float p = span > 0.0f ? rgm_clamp((t - warmup) / span, 0.0f, 1.0f) : 0.0f;
  float sine = 0.0f, cosine = 1.0f;
  rgm_sincos2pi(0.5f * p, &sine, &cosine);
  const float left = decay == RGM_DECAY_LINEAR   ? 1.0f - p
                     : decay == RGM_DECAY_COSINE ? rgm_fma(0.5f, cosine, 0.5f)
                                                 : 1.0f;
  return rise * left;
}


// velocity = momentum * velocity + g; p -= lr * velocity.
RGM_FN void rgm_sgd_one(float *p, float *velocity, float g, float lr, float momentum) {
  *velocity = rgm_or_zero(rgm_fma(momentum, *velocity, g), RGM_LEAST);
  *p = rgm_or_zero(rgm_fma(-lr, *velocity, *p), RGM_LEAST);
}


// target + rate * (p - target).
RGM_FN float rgm_ema_one(float target, float p, float rate) {
  return rgm_or_zero(rgm_fma(rate, p - target, target), RGM_LEAST);
}


// One dim of a search: weighted mean and variance of the candidates in order, then a step towards
// them; dims stand `stride` apart.
RGM_FN void rgm_refit_one(float *mean, float *log_sd, const float *x, const float *weight,
                          int64_t candidates, int64_t stride, float rate, float floor) {
  float centre = 0.0f, variance = 0.0f;
  for (int64_t m = 0; m < candidates; m++) {
    centre = rgm_fma(weight[m], x[m * stride], centre);
  }
  for (int64_t m = 0; m < candidates; m++) {
    const float apart = x[m * stride] - centre;
    variance = rgm_fma(weight[m] * apart, apart, variance);
  }
  const float sd = rgm_exp(*log_sd), next = rgm_fma(rate, rgm_sqrt(variance) - sd, sd);
  *mean = rgm_fma(rate, centre - *mean, *mean);
  *log_sd = rgm_log(rgm_max(next, floor));
}

#endif
