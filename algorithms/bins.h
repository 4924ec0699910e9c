// SPDX-License-Identifier: Apache-2.0
// Agents that learned bins of a dose from a data set, in a simulator of such patients: states are
// picked from what the simulator shows, by name and unit, and a bin is given as its representative
// dose, the median of the training rows. Doses and the edges between bins are part of checkpoints.

#ifndef RGM_BINS_H
#define RGM_BINS_H

#include "algorithms/agent.h"
#include "engine/transitions.h"

typedef struct rgm_bins {
  bool translates;              // the environment takes doses; else it has the data's own actions
  bool loaded;                  // the matrices are those of the doses
  rgm_tensor dose, edge;        // (R, A), (R, A - 1) in the data's unit; data NULL: there are none
  rgm_tensor pick, same, share; // matrices of 0 and 1: (R, O, P), (R, S, P), (R, D, 16)
  rgm_tensor table;             // (R, S + A, 16): the action of each bin
  rgm_tensor zero;              // (R, P)
  rgm_tensor wide, state;       // (R, V, P), (R, V, S)
  rgm_tensor choice, x, wider;  // (R, V, 1), (R, V, S + A), (R, V, 16)
} rgm_bins;

// Whether the environment of an offline run, where it takes doses, shows what the data set has and
// knows what its actions are. RGM_ECONFIG names the column or the bin that does not fit.
rgm_status rgm_bins_check(const rgm_run *run);

// Names doses and edges, where the data set has them, and what V rows in the environment need.
void rgm_bins_plan(rgm_run *run, rgm_bins *bins, int64_t rows);
rgm_status rgm_bins_init(rgm_run *run, rgm_bins *bins);

// The agent's states (R, V, S) at what the environment shows, obs (R, V, O); where an agent's
// actions go, before rgm_bins_give turns them into the environment's, act (R, V, D).
rgm_tensor rgm_bins_see(rgm_run *run, rgm_bins *bins, rgm_stream *s, rgm_tensor obs);
rgm_tensor rgm_bins_choice(const rgm_bins *bins, rgm_tensor act);
void rgm_bins_give(const rgm_bins *bins, rgm_stream *s, rgm_tensor act);

#endif
