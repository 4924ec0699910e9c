// SPDX-License-Identifier: Apache-2.0
// Backward induction on thousands of small problems on the CPU: a problem is a task, whose values
// never leave the level-1 cache; a lane is an action.

#include "kernels/cpu/cpu.h"
#include "kernels/tabular.h"

#include <math.h>


// q of all actions of a state: p (S, A), v (S)
static inline void sum_actions(const double *p, const double *reward, const double *v, double gamma,
                               int64_t states, int64_t actions, double *q) {
  double x[RGM_BACKWARD_ACTIONS];
  for (int64_t a = 0; a < actions; a++) {
    x[a] = 0.0;
  }
  for (int64_t n = 0; n < states; n++) {
    const double next = v[n];
    const double *row = p + n * actions;
    for (int64_t a = 0; a < actions; a++) {
      x[a] = rgm_fma64(row[a], next, x[a]);
    }
  }
  for (int64_t a = 0; a < actions; a++) {
    q[a] = rgm_fma64(gamma, x[a], reward[a]);
  }
}


static void induct_task(void *arg, int64_t r) {
  const rgm_induction *a = arg;
  const int64_t steps = a->value.dims[1] - 1, states = a->value.dims[2];
  const int64_t actions = a->reward.dims[3], times = a->p.dims[1];
  if (rgm_u32(a->active, r)[0] == 0) {
    return;
  }
  double *value = (double *)a->value.data + r * a->value.stride0;
  int32_t *action = (int32_t *)a->action.data + r * a->action.stride0;
  const double gamma = rgm_at_f64(a->gamma, r, 0);
  for (int64_t t = steps - 1; t >= 0; t--) {
    const int64_t at = times == 1 ? 0 : t;
    const double *p = (const double *)a->p.data + r * a->p.stride0 + at * states * states * actions;
    const double *reward =
        (const double *)a->reward.data + r * a->reward.stride0 + at * states * actions;
    const double *after = value + (t + 1) * states;
    for (int64_t s = 0; s < states; s++) {
      double q[RGM_BACKWARD_ACTIONS];
      sum_actions(p + s * states * actions, reward + s * actions, after, gamma, states, actions, q);
      rgm_mdp_step_back(q, reward + s * actions, actions, after[s], &value[t * states + s],
                        &action[t * states + s]);
    }
  }
}


void RGM_CPU(induct)(rgm_stream *s, const rgm_induction *induct) {
  rgm_induction a = *induct;
  rgm_cpu_parallel(s, a.value.dims[0], induct_task, &a);
}
