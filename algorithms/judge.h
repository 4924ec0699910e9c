// SPDX-License-Identifier: Apache-2.0
// How an agent does in its environment while it learns: V whole episodes per replica with the
// policy's mean, always the same ones, drawn from random streams that training never uses.

#ifndef RGM_JUDGE_H
#define RGM_JUDGE_H

#include "algorithms/bins.h"

typedef struct rgm_judge {
  int64_t episodes;                         // V; 0: there is nothing to judge in
  rgm_tensor state, obs, act, log_pi, seen; // (R, V, ...)
  rgm_tensor reward, terminated, truncated; // (R, V)
  rgm_tensor total[2];                      // (R, V) sums of rewards, one after the other
  rgm_tensor zero, mean;                    // (R) u32 clock, (R) f32
  rgm_pass pass;
  rgm_bins bins; // of an agent that learned from a data set
} rgm_judge;

// What an agent sees and does in run->env. Classes where the environment has them.
rgm_problem rgm_env_problem(const rgm_run *run);

void rgm_judge_plan(rgm_run *run, rgm_judge *judge, const rgm_agent *agent, int64_t episodes);
rgm_status rgm_judge_init(rgm_run *run, rgm_judge *judge);

// The policy's mean at what the environment shows, obs (R, V, O), for evaluation (rgm_contender): V
// is judge->episodes.
void rgm_judge_act(rgm_run *run, rgm_judge *judge, const rgm_agent *agent, rgm_stream *s,
                   rgm_tensor act, rgm_tensor obs);

// Runs the episodes and reports "return", their mean per replica.
rgm_status rgm_judge_report(rgm_run *run, rgm_judge *judge, const rgm_agent *agent);

#endif
