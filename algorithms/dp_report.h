// SPDX-License-Identifier: Apache-2.0
// The state of algorithms/dp.c, and what is told of it. Private to algorithms/dp*.c.

#ifndef ALGORITHMS_DP_REPORT_H
#define ALGORITHMS_DP_REPORT_H

#include "algorithms/dp.h"

enum {
  DP_MODIFIED,
  DP_VALUE_ITERATION,
  DP_POLICY_ITERATION,
  DP_GAUSS_SEIDEL,
  DP_PRIORITISED,
  DP_RELATIVE,
  DP_FINITE_HORIZON,
  DP_EVALUATE
};
enum { DP_GIVEN, DP_UNIFORM };

typedef struct dp_keys {
  double gamma, tolerance, tie, soften, near;
  int64_t sweeps, horizon;
  int method, policy, start, layout;
} dp_keys;

typedef struct dp {
  dp_tensors t;
  rgm_tensor value;      // (R, S) f64
  rgm_tensor action;     // (R, H, S) i32, H stages of a finite horizon, else 1
  rgm_tensor bounds;     // (R, 2) f64: least and largest change of the last sweep over all actions
  rgm_tensor other;      // (R, S)
  rgm_tensor partial;    // (R, B, 2)
  rgm_tensor settle;     // (R, 2): the same of sweeps of evaluation
  rgm_tensor gamma, tie; // (R) f64
  rgm_mdp *chain;        // of the policy that is evaluated, NULL: none is
  int32_t *given;        // (S) the environment's policy, counted in the allowed actions
  double longest;        // expected way to an end, where gamma is 1
  int64_t reference;     // of relative value iteration
} dp;

// The problem that is swept: the environment's, or a policy's chain.
const rgm_mdp *dp_problem(const rgm_run *run);

// The action that is number `choice` of the allowed ones, -1: the state has none.
int64_t dp_action_of(const rgm_mdp *m, int64_t s, int32_t choice);

// Whether a policy's rows are copied and swept on between improvements.
bool dp_copies_rows(const dp_keys *k);

// The change below which replica r is done, INFINITY where one sweep is enough.
double dp_stop(const rgm_run *run, int64_t r);
bool dp_is_active(const rgm_run *run, int64_t r);

// value = out for the replicas that are active.
void dp_keep(rgm_run *run, rgm_tensor value, rgm_tensor out);

double dp_work(const rgm_run *run);
rgm_status dp_report(rgm_run *run);
// Advice for new patients of a problem that was counted from trajectories.
rgm_status dp_recommend(const rgm_recommendation *r);

rgm_status dp_print(rgm_run *run, rgm_json *json, FILE *text);

#endif
