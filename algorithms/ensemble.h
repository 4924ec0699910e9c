// SPDX-License-Identifier: Apache-2.0
// A learned model of the world: N Gaussian nets that predict how a state changes and what reward
// comes (PETS, Chua et al. 2018; the recipe of MOPO, Yu et al. 2020, as OfflineRL-Kit has it). With
// z-scored inputs and targets, mu_k and v_k = log-variance of output k of net n,
//   L_n = mean_{b,k} ((mu - t)^2 exp(-v) + v) + c sum_k (max - min) + 1/2 sum_l wd_l |W_l|^2.
// After each epoch the mean squared error of the means on held-out patients decides: a net that
// improved by more than the margin is remembered, training stops when none did for `patience`
// epochs, and the elite are the E nets remembered with the least error. dynamics.c trains one by
// itself; mopo.c and combo.c begin with one.

#ifndef RGM_ENSEMBLE_H
#define RGM_ENSEMBLE_H

#include "algorithms/nets.h"
#include "engine/transitions.h"
#include "kernels/dynamics.h"

typedef struct rgm_ensemble_keys {
  rgm_list hidden, decay;
  int64_t nets, elites, batch, epoch, holdout;
  int activation, bootstrap;
  double lr, bounds, margin, patience;
} rgm_ensemble_keys;

extern const char *const rgm_ensemble_activations[]; // "relu", "tanh", NULL
extern const char *const rgm_ensemble_bootstraps[];  // "none", "row", "patient", NULL

// KEYS is the algorithm's struct, whose member `dynamics` is an rgm_ensemble_keys
// clang-format off
#define RGM_ENSEMBLE_FIELDS(KEYS)                                                                  \
  {"dynamics_hidden", RGM_LIST, offsetof(KEYS, dynamics.hidden), "units", "[200, 200, 200, 200]",  \
   1, 4096, NULL, RGM_SHAPE, "Widths of the hidden layers of each net of the ensemble."},          \
  {"dynamics_activation", RGM_CHOICE, offsetof(KEYS, dynamics.activation), "", "relu", 0, 0,       \
   rgm_ensemble_activations, RGM_SHAPE, "Activation of hidden layers."},                           \
  {"dynamics_nets", RGM_INT, offsetof(KEYS, dynamics.nets), "1", "7", 1, 16, NULL, RGM_SHAPE,      \
   "Nets of the ensemble."},                                                                       \
  {"dynamics_elites", RGM_INT, offsetof(KEYS, dynamics.elites), "1", "5", 1, 16, NULL, RGM_SHAPE,  \
   "Nets with the least error on held-out patients, which predict."},                              \
  {"dynamics_batch", RGM_INT, offsetof(KEYS, dynamics.batch), "rows", "256", 1, 65536, NULL,       \
   RGM_SHAPE, "Transitions of an update of a net."},                                               \
  {"dynamics_epoch", RGM_INT, offsetof(KEYS, dynamics.epoch), "updates", "0", 0, 1e9, NULL,        \
   RGM_SHAPE, "Updates of an epoch; 0: as many as the training rows fill batches."},               \
  {"dynamics_holdout", RGM_INT, offsetof(KEYS, dynamics.holdout), "rows", "5000", 1, 1e9, NULL,    \
   RGM_SHAPE, "Most validation rows that an epoch is judged by, evenly spread over all."},         \
  {"dynamics_bootstrap", RGM_CHOICE, offsetof(KEYS, dynamics.bootstrap), "", "row", 0, 0,          \
   rgm_ensemble_bootstraps, RGM_SHAPE,                                                             \
   "Whether each net learns from a resample of its own, of rows or of patients."},                 \
  {"dynamics_lr", RGM_FLOAT, offsetof(KEYS, dynamics.lr), "1", "1e-3", 0, 1, NULL, 0,              \
   "Adam's rate of the ensemble."},                                                                \
  {"dynamics_decay", RGM_LIST, offsetof(KEYS, dynamics.decay), "1",                                \
   "[2.5e-5, 5e-5, 7.5e-5, 7.5e-5, 1e-4]", 0, 1, NULL, 0,                                          \
   "Decay of weights by layer, from the input on; layers beyond the list have its last."},         \
  {"dynamics_bounds", RGM_FLOAT, offsetof(KEYS, dynamics.bounds), "1", "0.01", 0, 1e3, NULL, 0,    \
   "Weight of the distance between the learned bounds of log-variances."},                         \
  {"dynamics_margin", RGM_FLOAT, offsetof(KEYS, dynamics.margin), "1", "0.01", 0, 0.999, NULL, 0,  \
   "Share by which an error must fall to count as better."},                                       \
  {"dynamics_patience", RGM_FLOAT, offsetof(KEYS, dynamics.patience), "epochs", "5", 1, 1e9, NULL, \
   0, "Epochs without a better net after which training stops."}
// clang-format on

// S states; I inputs: states, then actions or the one-hot code of their class; K = S + 1 outputs:
// changes of states and the reward.
typedef struct rgm_ensemble {
  rgm_ensemble_keys keys; // of replica 0: what shapes there are
  size_t offset;          // of the keys in the algorithm's
  int64_t states, dims, inputs, outputs;
  int choices;
  int64_t rows, held, tested, updates;                   // T, V, Q; updates of an epoch
  rgm_tensor bounds, bounds_m, bounds_v, bounds_updates; // (R, N, 2, K), ..., (R) u32
  rgm_tensor best_bounds, elite_bounds;                  // (R, N, 2, K), (R, E, 2, K)
  rgm_tensor input_mean, input_sd;                       // (R, I) of the data
  rgm_tensor scale, range;                               // (R, 2, K) mean and sd; low and high
  rgm_tensor hold;                                       // (R, S) 1: a static covariate
  rgm_tensor best_loss, idle;                            // (R, N), (R)
  rgm_tensor elites, training;                           // (R, E), (R) u32
  rgm_tensor lr, penalty, margin, patience;              // (R)
  rgm_tensor decay;                                      // (R, L)
  rgm_tensor beta1, beta2, eps;                          // (R), one number for all
  rgm_tensor seeds;
  rgm_ring train;                   // T rows of z-scored inputs and targets, one copy for all
  rgm_tensor resample;              // (R, N, T, 1) u32 in f32: rows of each net's resample
  rgm_tensor held_x, held_t;        // (R, V + Q, I), (R, V + Q, K), one copy for all
  rgm_tensor loss, improved, error; // (R, N), (R, N) u32, (R, P, N, K)
  rgm_tensor x, t, items;           // (G, N, B, I), (G, N, B, K), (G, B, 1)
  rgm_tensor dhead, dbounds;        // (G, N, B, O), (G, N, 2, K)
  rgm_pass pass, elite_pass;        // (G, N, B), (G, E, B)

  // large and mostly room: slices copy what precedes
  rgm_nets nets, elite; // N that learn, E copies of the best (no moments)
  rgm_mlp best[RGM_MAX_NETS];
} rgm_ensemble;

// Checks keys with each other and with the data: RGM_ECONFIG with file and line, RGM_EDATA where
// there are no rewards or no held-out patients. `offset` of the rgm_ensemble_keys.
rgm_status rgm_ensemble_check(const rgm_run *run, size_t offset);

// Names its tensors; fills them, the data's share on the device too.
void rgm_ensemble_plan(rgm_run *run, rgm_ensemble *e, size_t offset);
rgm_status rgm_ensemble_init(rgm_run *run, rgm_ensemble *e);

// Replicas first ... first + count - 1 of it; work and passes are the group's.
void rgm_slice_ensemble(const rgm_ensemble *whole, int64_t first, int64_t count, rgm_ensemble *out);

// One epoch of the replicas that still train, and its appraisal; graphs take `slot` and the next
// one. Reads back which do: where none is left nothing is computed.
rgm_status rgm_ensemble_epoch(rgm_run *run, rgm_ensemble *e, int slot);

// The elite of a trained run (a folder or a checkpoint of any algorithm with an ensemble) in place
// of training one; one replica there serves all here. RGM_ECONFIG where it is of other states,
// actions or shapes.
rgm_status rgm_ensemble_load(rgm_run *run, rgm_ensemble *e, const char *path);

// Errors of the elite on held-out rows: mean squares and negative log-likelihoods by output, means
// over elites, (R, K) each, in units of the data and nats; *rows of them, of test patients where
// there are any and `test` asks for them, else of validation.
rgm_status rgm_ensemble_errors(rgm_run *run, rgm_ensemble *e, bool test, double *mse, double *nll,
                               int64_t *rows);

// Rows of metrics: error and likelihood in standardised units, epochs since an improvement; with
// `features` the root mean square error of every output in its unit, where metrics have the room.
rgm_status rgm_ensemble_report(rgm_run *run, rgm_ensemble *e, bool features);

// A table of the errors of every output, beside its spread: for `regimen eval`; as keys of an
// object that is open, and as one of its own.
rgm_status rgm_ensemble_write(rgm_run *run, rgm_ensemble *e, rgm_json *json, FILE *text);
rgm_status rgm_ensemble_evaluate(rgm_run *run, rgm_ensemble *e, rgm_json *json, FILE *text);

#endif
