// SPDX-License-Identifier: Apache-2.0
// Between the files of behaviour cloning: bc.c learns, bc_report.c says how well.

#ifndef RGM_BC_H
#define RGM_BC_H

#include "algorithms/bins.h"

enum { RGM_BC_LIKELIHOOD, RGM_BC_MSE };
enum { RGM_BC_BEST, RGM_BC_LAST };
enum { RGM_BC_ROWS = 1024 }; // of a look

typedef struct rgm_bc_keys {
  rgm_list hidden;
  int64_t batch, updates, patience;
  int loss, activation, decay, evaluate;
  double lr, beta1, beta2, eps, warmup, decay_steps, clip, log_sd_low, log_sd_high;
} rgm_bc_keys;

typedef struct rgm_bc_self {
  rgm_nets actor;                      // states -> hidden -> logits, or mu and log sigma
  rgm_mlp best;                        // its weights of the least validation loss
  rgm_ring train, held[RGM_SPLITS];    // rows of each part: obs, action; of no columns where none
  rgm_tensor mean, sd;                 // (R, S) of states
  rgm_tensor scale, shift;             // (R, D) of continuous actions
  rgm_tensor loss, valid;              // (R) of the last batch, of validation rows
  rgm_tensor shown;                    // (R, 2) both as they were after a replica's last step
  rgm_tensor least;                    // (R) least validation loss so far, FLT_MAX at first
  rgm_tensor stale;                    // (R) u32 steps since then
  rgm_tensor lr, beta1, beta2, eps;    // (R)
  rgm_tensor warmup, decay_steps;      // (R)
  rgm_tensor clip, low, high, rate;    // (R), rate of this update
  rgm_tensor everyone;                 // (R) u32 1: looks mask nobody
  rgm_tensor obs, act, log_pi, dhead;  // (G, B, S), (G, B, D), (G, B), (G, 1, B, O)
  rgm_tensor mu, unit, padding;        // mse: (G, B, D) twice, (G, B, O - D) zeros
  rgm_tensor wide_mu, wide_unit;       // (G, B, O) the same, padded
  rgm_tensor zero, half;               // (G, O) zeros, B D / 2
  rgm_tensor seen, look_act, look_log; // (G, C, S), (G, C, D), (G, C) of a look at C rows
  rgm_tensor held_log;                 // (G, V) of all validation rows
  rgm_tensor held_mu, held_unit, held_error; // mse: (G, V, D) twice, (G, 1, D)
  rgm_pass pass, look;                       // (G, B), (G, C)
  rgm_bins bins;                             // in a simulator
  bool over;                                 // all replicas have been retired
} rgm_bc_self;

// The policy of n replicas from `first` on at rows at, at + 1, ... of a part, with their actions in
// act, if it is to score them; log_pi is the caller's to set. Enqueues. All replicas are looked at,
// retired ones too. At most RGM_BC_ROWS rows.
rgm_policy_draw rgm_bc_look(const rgm_run *run, rgm_stream *stream, const rgm_nets *actor, int part,
                            int64_t at, int64_t rows, int64_t first, int64_t n);

// Rows of metrics, and `regimen eval`: held-out log-likelihood, accuracy of classes or mean
// absolute error of each continuous action in its unit.
rgm_status rgm_bc_report(rgm_run *run);
rgm_status rgm_bc_evaluate(rgm_run *run, rgm_json *json, FILE *text);

#endif
