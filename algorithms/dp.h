// SPDX-License-Identifier: Apache-2.0
// What the files of dynamic programming share: a policy's chain and exact answers about it, sweeps
// whose order matters, and the tensors of a problem on the device. Private to algorithms/dp*.c and
// tests.

#ifndef ALGORITHMS_DP_H
#define ALGORITHMS_DP_H

#include "engine/mdp.h"

// ---- on the host -------------------------------------------------------------------------------

// A stochastic policy is a weight for each row, of a state 0 where masked, else summing to 1. Of
// one action a state (rows counted within the state; -1: the state has none), of the uniform one,
// of one that is softened: epsilon of it is spread over the allowed actions. Each fills weight
// (rows).
void dp_weights_of(const rgm_mdp *m, const int32_t *choice, double *weight);
void dp_weights_uniform(const rgm_mdp *m, double *weight);
void dp_weights_soften(const rgm_mdp *m, double epsilon, double *weight);

// The environment's policy as numbers among the allowed actions. RGM_ECONFIG names a state whose
// action is masked or missing.
rgm_status dp_given(const rgm_mdp *m, int32_t *choice);

// The chain of a policy: a problem with one row a state. RGM_EMEMORY.
rgm_status dp_chain(const rgm_mdp *m, const double *weight, rgm_mdp **out);

typedef enum dp_goal { DP_VALUE, DP_SURVIVE, DP_LENGTH } dp_goal;

// Of a chain by one linear system with partial pivoting and refinement, states (S): the value, the
// probability to come to a state marked `good`, or the expected number of steps until an end
// (infinite where ends are not reached for sure). Up to DP_DIRECT states are solved by elimination,
// more by Gauss-Seidel sweeps until nothing changes. RGM_ENUMERIC where gamma is 1 and the value
// has no bound: a state that is no end is never left; RGM_EMEMORY.
enum { DP_DIRECT = 2500 };
rgm_status dp_direct(const rgm_mdp *chain, double gamma, dp_goal goal, double *x);

// The longest expected way to an end under any policy, and its largest value: w >= 1 + P w for
// every row, so that errors of sweeps at gamma 1 have a bound. RGM_EDATA names a state that a
// policy may keep from all ends for ever.
rgm_status dp_longest(const rgm_mdp *m, double *most);

// Weighted importance sampling: of n patients ratio (n) and earned (n) the estimate, how many
// patients it rests on, and the 95 % interval over `resamples` of them; work (resamples).
typedef struct dp_weighed {
  double wis, low, high, ess;
} dp_weighed;
void dp_weigh(const double *ratio, const double *earned, int64_t n, int64_t resamples,
              uint64_t seed, double *work, dp_weighed *out);

// q of a row.
double dp_row(const rgm_mdp *m, int64_t row, double gamma, const double *value);

// One sweep in place over states 0, 1, ...: each sees the newest values. Keeps an action unless the
// gain is more than `tie`. Returns the largest change.
double dp_gauss_seidel(const rgm_mdp *m, double gamma, double tie, double *value, int32_t *choice);

// Up to `updates` states, always the one whose residual has the largest bound (Moore and Atkeson
// 1993; a heap). Stops below `stop`; *residual is the largest bound that is left. RGM_EMEMORY.
rgm_status dp_prioritised(const rgm_mdp *m, double gamma, double tie, double stop, int64_t updates,
                          double *value, int32_t *choice, double *residual);


// ---- on the device -----------------------------------------------------------------------------

// A problem's tensors: `rows` for all replicas, a policy's rows for each (p.data NULL unless asked
// for).
typedef struct dp_tensors {
  rgm_mdp_layout layout; // on the host, until `dp_upload`
  rgm_mdp_rows rows, chosen;
} dp_tensors;

// Plans them: `copies` replicas of a policy's rows, 0: none. Lays the problem out in the first
// pass.
rgm_status dp_plan_rows(rgm_run *run, const rgm_mdp *m, bool compact, int64_t copies,
                        dp_tensors *t);
rgm_status dp_upload(rgm_run *run, dp_tensors *t);
void dp_release(dp_tensors *t);

// A vector (R) of doubles that is filled from the keys at `offset`.
rgm_status dp_fill(rgm_run *run, rgm_tensor t, double (*of)(const rgm_run *run, int64_t r));

#endif
