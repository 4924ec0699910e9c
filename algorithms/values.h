// SPDX-License-Identifier: Apache-2.0
// Between the files of values: values.c fits critics to policies, values_rows.c has what policies
// do at rows of the data, values_report.c weighs them, values_table.c prints.

#ifndef RGM_VALUES_H
#define RGM_VALUES_H

#include "algorithms/estimates.h"
#include "algorithms/nets.h"
#include "algorithms/worlds.h"

enum { VALUES_POLICIES = RGM_MAX_NETS, VALUES_ROWS = 512, VALUES_DRAWS = 8, VALUES_BINS = 10 };
enum { VALUES_LIKELIEST, VALUES_DRAWN };
enum { VALUES_ON_VALIDATION, VALUES_ON_TEST };
enum { VALUES_FIT_TRAIN, VALUES_FIT_HELD };

typedef struct rgm_values_keys {
  char runs[RGM_STRING_SIZE], clone[RGM_STRING_SIZE], baselines[RGM_STRING_SIZE];
  char model[RGM_STRING_SIZE];
  rgm_list hidden;
  int64_t batch, updates, horizon, constant, resamples, least_patients, rollouts;
  int acts, on, fit, activation;
  bool time;
  double gamma, lr, tau, level, least_ess, support, most_outside;
} rgm_values_keys;

// A policy to be valued. Its net, if it has one, may be the clone's.
typedef struct rgm_valued {
  char name[64];
  const rgm_policy *policy;
  bool likeliest, observed; // observed: the clinician, whose own rewards are in the data
} rgm_valued;

// Rows of one part as the critics see them; of `fit` and of the held-out part.
typedef struct rgm_values_rows {
  int64_t rows;
  int64_t *of;         // (rows) number of the transition
  float *x;            // (rows, X): states in units of their sd, and time
  float *next;         // (rows, X)
  float *act;          // (rows, D) as it is
  float *reward, *end; // (rows)
  double *behaviour;   // (rows) log-density of what was done, under the clone
} rgm_values_rows;

typedef struct rgm_values {
  int count, trained; // policies; those that come from runs are the last ones
  rgm_valued valued[VALUES_POLICIES];
  rgm_policy policy[VALUES_POLICIES], clone; // what `valued` points at
  rgm_world world;                           // elites 0: there is none
  int64_t inputs, outputs, longest;          // X, O of a critic before padding, steps
  float scale;                               // of rewards: critics learn reward / scale
  rgm_values_rows held;
  rgm_nets critic; // a net a policy
  rgm_pass pass, target_pass, look_pass;
  rgm_ring data, doing[VALUES_POLICIES]; // x, next, act, reward, end; what each does next
  rgm_tensor digest;                     // (R, N, 8) u32 of the checkpoints of policies
  rgm_tensor items;                      // (R, B) u32
  rgm_tensor x, next, act, reward, end, doing_next; // (R, B, ...)
  rgm_tensor in, in_next, y, dq, share; // (R, B, X + D) twice, (R, B), (R, N, B, O), (R, N, B)
  rgm_tensor look;                      // (R, C, X + D)
  rgm_tensor loss;                      // (R)
  rgm_tensor lr, beta1, beta2, eps, tau, gamma; // (R)
} rgm_values;

// What a policy is worth, as far as the data can say.
typedef struct rgm_worth {
  rgm_estimates estimates;
  double outside; // share of its actions that the clinicians as good as never take
  double fqe_sd;  // of the critics' seeds
  bool few_weights, few_patients, far; // why not to believe: ESS, patients, outside
} rgm_worth;

// Reads the policies and the rows; frees them.
rgm_status rgm_values_load(rgm_run *run, rgm_values_rows *fit);
void rgm_values_free_rows(rgm_values_rows *rows);

// What policy n does at rows `of` (rows) of the data: log pi (rows, A) of classes at states, or at
// next states; an action (rows, D) of continuous ones.
rgm_status rgm_values_log_pi(const rgm_run *run, int n, const int64_t *of, int64_t rows, bool next,
                             double *log_pi);
rgm_status rgm_values_actions(const rgm_run *run, int n, const int64_t *of, int64_t rows, bool next,
                              uint32_t draw, float *act);

// Actions (rows, D) of policy n, or classes, at states (rows, S); where it draws, from two random
// words a row.
rgm_status rgm_values_choose(const rgm_run *run, int n, int64_t rows, const float *state,
                             const uint32_t *words, float *act);

// Mean returns (episodes) of policy n in the learned model, over key `rollouts` of each episode's
// first state; the noise is the same for all policies.
rgm_status rgm_values_imagine(const rgm_run *run, int n, const rgm_courses *courses, double *value);

// Values (N, R, rows, O) of the critics at inputs (rows, X) and, where actions are continuous,
// actions of each policy (N, rows, D). In units of the reward.
rgm_status rgm_values_look(rgm_run *run, const float *x, const float *act, int64_t rows,
                           double *value);

// Every policy's worth on the held-out patients: worth (N); and how many those are.
rgm_status rgm_values_worth(rgm_run *run, rgm_worth *worth, int64_t *patients);

rgm_status rgm_values_evaluate(rgm_run *run, rgm_json *json, FILE *text);
int rgm_values_contenders(rgm_run *run, rgm_contender *out, int max);

#endif
