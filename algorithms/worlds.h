// SPDX-License-Identifier: Apache-2.0
// A learned model of the world (ensemble.h) read from a checkpoint and stepped on the host: what
// dynamics, mopo and combo learned, for policies that are valued in it. The arithmetic is that of
// rgm_model (kernels/dynamics.h), but for an elite's place in a batch.

#ifndef RGM_WORLDS_H
#define RGM_WORLDS_H

#include "algorithms/policies.h"

enum { WORLD_ELITES = 16, WORLD_ROWS = 32 };

typedef struct rgm_world {
  int states, dims, elites;         // S, D, E
  int64_t choices, inputs, outputs; // A; I; K = S + 1
  rgm_host_net elite[WORLD_ELITES]; // (I) -> (2 K)
  float *bounds;                    // (E, 2, K) of log-variances: greatest, least
  float *mean, *sd;                 // (I)
  float *scale, *range;             // (2, K) mean and sd; low and high
  float *hold;                      // (S) 1: a static covariate
  float *work;                      // room for WORLD_ROWS of a step
} rgm_world;

// The elite of a trained run or checkpoint, for the states and actions of `t`. RGM_EDATA.
rgm_status rgm_world_read(const char *path, const rgm_transitions *t, rgm_world *out);
void rgm_world_free(rgm_world *world);

// A step: next (rows, S) and the reward (rows) from state (rows, S) and action (rows, D), by the
// elite (rows) of each; noise (rows, N) standard normals, N the least multiple of four that is not
// less than K. A row is as if alone. Not for several threads at a time.
void rgm_world_step(const rgm_world *world, int64_t rows, const int *elite, const float *state,
                    const float *act, const float *noise, float *next, float *reward);
int64_t rgm_world_noise(const rgm_world *world);

#endif
