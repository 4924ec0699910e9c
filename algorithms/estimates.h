// SPDX-License-Identifier: Apache-2.0
// What a policy would have earned, from episodes under another one: importance sampling (Precup,
// Sutton & Singh 2000), doubly robust (Jiang & Li 2016; Thomas & Brunskill 2016), and the values of
// a fitted critic; intervals by the bootstrap over patients. In double, on the host; nothing here
// knows where ratios and values come from.
//
// With the ratio rho_t = pi(a_t | s_t) / mu(a_t | s_t), w_t = rho_0 ... rho_t, w_-1 = 1, and G the
// discounted return of an episode, sums and means over episodes e:
//   is       mean w_L G                        wis      sum w_L G / sum w_L
//   pdis     mean sum_t g^t w_t r_t            pdwis    sum_t g^t (sum_e w_t r_t / sum_e w_t)
//   dr       mean sum_t g^t (w_t (r_t - Q(s_t, a_t)) + w_(t-1) V(s_t))
//   wdr      the same with w_t / sum_e w_t in place of w_t / n (an episode that is over keeps its
//            last weight and earns nothing)
//   fqe      mean V(s_0)                       model    mean return in a learned model

#ifndef RGM_ESTIMATES_H
#define RGM_ESTIMATES_H

#include "engine/engine.h"

enum {
  RGM_ESTIMATE_FQE,
  RGM_ESTIMATE_MODEL,
  RGM_ESTIMATE_WDR,
  RGM_ESTIMATE_DR,
  RGM_ESTIMATE_PDWIS,
  RGM_ESTIMATE_PDIS,
  RGM_ESTIMATE_WIS,
  RGM_ESTIMATE_IS,
  RGM_ESTIMATES
};
extern const char *const rgm_estimate_names[RGM_ESTIMATES];

// Episodes of patients: rows start[e] ... start[e + 1] - 1 are episode e, none is empty.
typedef struct rgm_courses {
  int64_t rows, episodes, patients;
  int64_t *start;   // (episodes + 1)
  int64_t *patient; // (episodes) 0 ... patients - 1
  double *reward;   // (rows)
  double gamma;
} rgm_courses;

typedef struct rgm_interval {
  double value, low, high, error; // percentile interval, standard error: both of the bootstrap
} rgm_interval;

typedef struct rgm_estimates {
  rgm_interval of[RGM_ESTIMATES]; // NaN where there is nothing to compute it from
  double ess;                     // (sum w_L)^2 / sum w_L^2 episodes
  double step_ess;                // the mean over steps of the same of w_t
  double zero;                    // share of episodes of weight 0
} rgm_estimates;

// log_ratio (rows): log rho, -INFINITY where the policy never does what was done; NULL: no ratios.
// q, v (rows): of what was done, and of the policy; NULL: no critic. model (episodes): the return
// that a learned model has for the policy from an episode's first state; NULL: none. `level` of the
// interval, 0.95. RGM_EMEMORY.
rgm_status rgm_estimate(const rgm_courses *courses, const double *log_ratio, const double *q,
                        const double *v, const double *model, int64_t resamples, double level,
                        uint64_t seed, rgm_estimates *out);

#endif
