// SPDX-License-Identifier: Apache-2.0
// A trial: the controllers of a run, and the environment's baselines, on the same test patients
// with the same noise, each replica by itself. Shared by `regimen eval` and the algorithms that
// compare runs.

#ifndef RGM_TRIAL_H
#define RGM_TRIAL_H

#include "engine/engine.h"

enum { RGM_TRIAL_CONTENDERS = 16, RGM_TRIAL_METRICS = 16 };

// One controller with one set of parameters, evaluated: metric m of patient i is value[m * n + i].
typedef struct rgm_score {
  const char *name;
  double *value;
  float *first; // signals of the first patient, for the picture
} rgm_score;

// Scores of one controller stand in a row, one for each replica; baselines come last.
typedef struct rgm_trial {
  rgm_run *run;
  int64_t patients, steps, chunk;
  int64_t unreachable; // patients whom the largest action does not bring to the highest target
  rgm_score *scores;
  int count, baseline; // scores; index of the first baseline's score
  double *work;        // (patients)
  double *best;        // (patients) the optimum of each, where eval.optimum asks; else NULL

  // what a rollout needs
  rgm_patients given; // patients of data, count 0 where they are drawn
  rgm_arena *arena;
  rgm_tensor config, cohort, seeds, clock, active, returns, act, signals, params; // one replica
  float *host;                                                                    // signals back
  float *words; // room for a chunk of patients
} rgm_trial;

// Runs everything. `run` must outlive the trial, which is to be freed whatever comes back. Errors:
// RGM_EMEMORY, RGM_EDATA and what the environment says of its patients.
rgm_status rgm_trial_run(rgm_trial *trial, rgm_run *run, bool baselines);
void rgm_trial_free(rgm_trial *trial);

// The optimum of every patient of a trial that has run, by the environment's dynamic programming on
// `grid` points, of all actions or (`whole` false) the first one: value (patients).
rgm_status rgm_trial_optimum(rgm_trial *trial, int64_t grid, bool whole, double *value);

// Mean over patients of best - return, and its Monte-Carlo standard error; of the score in the
// middle where there are many. NAN where no optimum was asked for.
void rgm_trial_regret(const rgm_trial *trial, int first, int replicas, double *mean, double *error);

// How many scores from `first` on belong to the same controller.
int rgm_trial_replicas(const rgm_trial *trial, int first);

// The summary of a metric over the patients that have it, and the median over `replicas` scores of
// each of its figures.
rgm_summary rgm_trial_summary(const rgm_trial *trial, const rgm_score *score, int metric);
rgm_summary rgm_trial_pooled(const rgm_trial *trial, int first, int replicas, int metric);

// Every metric of scores first ... first + replicas - 1, pooled, into the open JSON object; the
// bare name of a metric is its mean over patients. _controller writes those of a whole controller,
// then of each replica.
void rgm_trial_write_metrics(const rgm_trial *trial, rgm_json *json, int first, int replicas);
void rgm_trial_write_controller(const rgm_trial *trial, rgm_json *json, int first);

#endif
