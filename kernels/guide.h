// SPDX-License-Identifier: Apache-2.0
// The arithmetic of guided reward learning, a trajectory at a time: one source for the CPU and for
// CUDA, so that both give the same bits. guided.h has the formulas.

#ifndef RGM_GUIDE_H
#define RGM_GUIDE_H

#include "kernels/guided.h"
#include "kernels/rng.h"
#include "kernels/scalar.h"

// what a trajectory that has ended weighs in log space: exp of it is 0 beside any other
#define RGM_GUIDE_NEVER -3e38f


// the first row of window j, or 2^32 - 1
RGM_FN uint32_t rgm_window_start(rgm_key key, uint32_t clock, uint32_t j, const rgm_windows *w,
                                 const uint32_t *list, uint32_t count) {
  const uint32_t numbers = count / w->per;
  if (numbers == 0) {
    return 0xffffffffu;
  }
  const uint32_t drawn = rgm_below(key, clock, j, w->member, numbers);
  const uint32_t number = list != NULL ? list[drawn] : drawn;
  return number / w->block * w->span + number % w->block;
}


// log(exp(a) + exp(b))
RGM_FN float rgm_log_add(float a, float b) {
  const float top = rgm_max(a, b);
  return top + rgm_log1p(rgm_exp(rgm_min(a, b) - top));
}


// what is the same for all trajectories of a replica
typedef struct rgm_guide_rates {
  float log_experts, log_samples; // log(n / M), log((M - n) / M)
  float experts;                  // 1 / n
} rgm_guide_rates;

RGM_FN rgm_guide_rates rgm_guide_rates_of(int64_t experts, int64_t count) {
  rgm_guide_rates k;
  k.log_experts = rgm_log((float)experts / (float)count);
  k.log_samples = rgm_log((float)(count - experts) / (float)count);
  k.experts = 1.0f / (float)experts;
  return k;
}


// log q of what policy and clone gave it
RGM_FN float rgm_guide_density(const rgm_guide_rates *k, rgm_proposal proposal, bool expert,
                               float policy, float clone) {
  if (proposal == RGM_PROPOSAL_MIXTURE) {
    return rgm_log_add(k->log_experts + clone, k->log_samples + policy);
  }
  return !expert ? policy : proposal == RGM_PROPOSAL_CLONE ? clone : 0.0f;
}


// Trajectory j: returns R, and puts x into weights M apart for each of `groups` (one, or its
// steps). Pointers are its own first rows; clone may be NULL.
RGM_FN float rgm_guide_add(float *x, int64_t apart, int64_t groups, const float *reward,
                           int64_t columns, const float *policy, const float *clone,
                           const float *alive, int64_t steps, bool expert, rgm_proposal proposal,
                           const rgm_guide_rates *k) {
  float total = 0.0f, log_policy = 0.0f, log_clone = 0.0f;
  bool any = false;
  for (int64_t t = 0; t < steps; t++) {
    const bool lives = alive[t] != 0.0f;
    total = lives ? total + reward[t * columns] : total;
    log_policy = lives ? log_policy + policy[t] : log_policy;
    log_clone = lives && clone != NULL ? log_clone + clone[t] : log_clone;
    any = any || lives;
    if (groups > 1 || t == steps - 1) {
      const float q = rgm_guide_density(k, proposal, expert, log_policy, log_clone);
      x[groups > 1 ? t * apart : 0] = (groups > 1 ? lives : any) ? total - q : RGM_GUIDE_NEVER;
    }
  }
  return total;
}


// The slope by row t of trajectory j.
RGM_FN float rgm_guide_slope(const float *weight, int64_t apart, int64_t groups, int64_t t,
                             float alive, bool expert, const rgm_guide_rates *k) {
  const float w = weight[groups > 1 ? t * apart : 0];
  return alive != 0.0f ? w - (expert ? k->experts : 0.0f) : 0.0f;
}


// What exp(x - greatest x) is capped at by TRUNCATED, their sum given.
RGM_FN float rgm_guide_cap(float sum, int64_t count, float bend) {
  return bend * sum / (float)count;
}


// A step of mean and standard deviation towards those of n rows, whose squares about `mean` sum to
// `squares`; the first one goes all the way.
RGM_FN void rgm_settle_one(float *scale, uint32_t *count, float mean, float squares, int64_t n,
                           float rate) {
  const float sd = rgm_max(rgm_sqrt(squares / (float)(n - 1)), 1e-6f);
  scale[0] = *count == 0 ? mean : rgm_fma(rate, mean - scale[0], scale[0]);
  scale[1] = *count == 0 ? sd : rgm_fma(rate, sd - scale[1], scale[1]);
  *count = *count + 1;
}


RGM_FN float rgm_worth_of(float x, const float *scale, float limit) {
  const float y = (x - scale[0]) / scale[1];
  return limit > 0.0f ? rgm_clamp(y, -limit, limit) : y;
}


// 1 within the band, -1 far from it
RGM_FN float rgm_band_of(float v, float low, float high) {
  return rgm_tanh(0.5f * (v - low)) - rgm_tanh(0.5f * (v - high)) - 1.0f;
}

#endif
