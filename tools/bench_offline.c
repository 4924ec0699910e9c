// SPDX-License-Identifier: Apache-2.0
// `regimen bench offline`: whole updates of agents that learn from a data set, as training runs
// them, the drawing of batches included; updates of an ensemble of models, and what it imagines;
// the policy and reward phase of OMG-RL at its authors' scale, 200 epochs.
// The data set is invented and written to a temporary file. COMBO's update over classes has the
// arithmetic of CQL's (rows of a model are rows), so one case stands for both.
//
// Floors of an update, from its nets alone: operations are 2 for each multiply-add of the products
// (no padding, no Adam, no losses); bytes: parameters, moments and targets, read and written once.

#include "tools/bench.h"
#include "engine/dataset.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { ROWS = 20000, EPISODE = 100, CRITICS = 2, DRAWN = 10 };
enum { NETS = 7, EPOCH = 4, ROLLOUTS = 1000, HORIZON = 20, MODEL_WIDTH = 200, MODEL_LAYERS = 4 };

enum { PHASE_EPOCHS = 200, PHASE_UPDATES = 2, DREAMS = 10, REWARD_STEPS = 10, REWARD_ROWS = 200 };

typedef enum offline_kind { UPDATE, ENSEMBLE_STEP, ROLLOUT, PHASE } offline_kind;

typedef struct offline_shape {
  const char *name;
  offline_kind kind;
  int64_t states, actions; // actions: classes, or dims where `box`
  bool box;
  int64_t batch;
  int layers; // hidden ones of 256
  int64_t packs[3];
} offline_shape;

static const offline_shape shapes[] = {
    {"sac_cql_combo_b256", UPDATE, 16, 6, false, 256, 2, {1, 8, 64}},
    {"sac_cql_combo_b64", UPDATE, 16, 6, false, 64, 2, {1, 8, 64}},
    {"cql_continuous", UPDATE, 17, 6, true, 256, 2, {1, 8, 0}},
    {"cql_continuous_3_layers", UPDATE, 17, 6, true, 256, 3, {1, 0, 0}},
    {"ensemble_step", ENSEMBLE_STEP, 16, 6, false, 256, 2, {1, 8, 0}},
    {"rollout_model", ROLLOUT, 16, 6, false, 1, 2, {1, 8, 0}},
    {"omgrl_phase_paper", PHASE, 16, 6, false, 64, 2, {1, 8, 0}},
};


// ---- data --------------------------------------------------------------------------------------

// uniform in [0, 1), from a counter
static double unit(uint64_t *state) {
  *state = *state * 6364136223846793005u + 1442695040888963407u;
  return (double)(*state >> 40) * 0x1p-24;
}


static rgm_status add_columns(rgm_dataset *d, const offline_shape *shape) {
  static const struct {
    const char *name;
    rgm_role role;
    rgm_cell cell;
  } fixed[] = {
      {"patient", RGM_ROLE_PATIENT, RGM_CELL_I32},
      {"episode", RGM_ROLE_EPISODE, RGM_CELL_I32},
      {"time", RGM_ROLE_TIME, RGM_CELL_F32},
      {"terminated", RGM_ROLE_TERMINATED, RGM_CELL_U8},
      {"truncated", RGM_ROLE_TRUNCATED, RGM_CELL_U8},
      {"reward", RGM_ROLE_REWARD, RGM_CELL_F32},
  };
  for (size_t i = 0; i < sizeof fixed / sizeof *fixed; i++) {
    if (rgm_dataset_add(d, fixed[i].name, fixed[i].role, fixed[i].cell, "1") == NULL) {
      return RGM_EMEMORY;
    }
  }
  char name[32];
  for (int64_t k = 0; k < shape->states; k++) {
    snprintf(name, sizeof name, "state_%lld", (long long)k);
    if (rgm_dataset_add(d, name, RGM_ROLE_STATE, RGM_CELL_F32, "1") == NULL) {
      return RGM_EMEMORY;
    }
  }
  for (int64_t k = 0; k < (shape->box ? shape->actions : 1); k++) {
    snprintf(name, sizeof name, "action_%lld", (long long)k);
    rgm_column *c = rgm_dataset_add(d, name, RGM_ROLE_ACTION, RGM_CELL_F32, "1");
    if (c == NULL) {
      return RGM_EMEMORY;
    }
    c->low = shape->box ? -1.0 : 0.0;
    c->high = shape->box ? 1.0 : (double)(shape->actions - 1);
    c->choices = shape->box ? 0 : shape->actions;
  }
  return RGM_OK;
}


static double cell_of(const rgm_column *c, int64_t row, uint64_t *state) {
  const bool last = row % EPISODE == EPISODE - 1;
  switch (c->role) {
  case RGM_ROLE_PATIENT:
  case RGM_ROLE_EPISODE:
    return (double)(row / EPISODE);
  case RGM_ROLE_TIME:
    return (double)(row % EPISODE);
  case RGM_ROLE_TERMINATED:
    return last && row / EPISODE % 2 == 0;
  case RGM_ROLE_TRUNCATED:
    return last && row / EPISODE % 2 == 1;
  case RGM_ROLE_ACTION:
    return c->choices > 0 ? (double)(int)(unit(state) * (double)c->choices)
                          : 1.8 * unit(state) - 0.9;
  default:
    return 2.0 * unit(state) - 1.0;
  }
}


static rgm_status write_data(const char *path, const offline_shape *shape) {
  rgm_dataset *d = rgm_dataset_new(ROWS);
  uint64_t state = 1;
  rgm_status status = d != NULL ? add_columns(d, shape) : RGM_EMEMORY;
  for (int i = 0; status == RGM_OK && i < d->column_count; i++) {
    for (int64_t row = 0; row < ROWS; row++) {
      rgm_cell_set(&d->column[i], row, cell_of(&d->column[i], row, &state));
    }
  }
  status = status == RGM_OK ? rgm_dataset_write(path, d) : status;
  rgm_dataset_free(d);
  return status;
}


// ---- floors ------------------------------------------------------------------------------------

// multiply-adds of a row forwards (the first layer's into *first), and parameters
static double row_of(int64_t inputs, double width, int layers, int64_t outputs, double *first,
                     double *parameters) {
  *first = width * (double)inputs;
  const double inner = width * width * (layers - 1) + width * (double)outputs;
  *parameters = *first + inner + width * layers + (double)outputs;
  return *first + inner;
}


// What an epoch of the authors' phase needs beside its updates: trajectories of the policy in one
// net of 128, 128, 64 for each row, steps of a reward net of 128, 64 that sees the action as one
// number.
static double phase_of(const offline_shape *o, double pi) {
  const double in = (double)(o->states + o->actions), out = 2.0 * (double)(o->states + 1);
  const double model = 128.0 * in + 128.0 * 128.0 + 128.0 * 64.0 + 64.0 * out;
  const double first = 128.0 * (double)(o->states + 1), reward = first + 128.0 * 64.0 + 64.0;
  return DREAMS * HORIZON * (pi + model) + REWARD_STEPS * REWARD_ROWS * (3.0 * reward - first);
}


// What an update needs at least. Forwards: policy at s and s', targets at s', critics at s; for a
// box also at 3 x 10 sampled actions a row, and once more at the policy's action. Back: a weight's
// gradient costs as much as forwards, the slope by inputs as much less the first layer.
static void floors_of(const offline_shape *o, double *flops, double *bytes) {
  const double B = (double)o->batch, rows = o->box ? B * (1 + 3 * DRAWN) : B;
  double first, first_q, parameters, parameters_q;
  const double pi = row_of(o->states, 256.0, o->layers, o->box ? 2 * o->actions : o->actions,
                           &first, &parameters);
  const double q = row_of(o->states + (o->box ? o->actions : 0), 256.0, o->layers,
                          o->box ? 1 : o->actions, &first_q, &parameters_q);
  if (o->kind == ENSEMBLE_STEP || o->kind == ROLLOUT) {
    double first_m, parameters_m;
    const double model = row_of(o->states + o->actions, MODEL_WIDTH, MODEL_LAYERS,
                                2 * (o->states + 1), &first_m, &parameters_m);
    const bool learns = o->kind == ENSEMBLE_STEP;
    *flops = 2.0 * (learns ? EPOCH * NETS * B * (3.0 * model - first_m)
                           : (double)ROLLOUTS * HORIZON * (pi + model));
    *bytes = 4.0 * (learns ? EPOCH * NETS * 6.0 * parameters_m : NETS * parameters_m);
    return;
  }
  double sum = B * (2 * pi + pi + pi - first);
  sum += CRITICS * (B * q + rows * (q + q + q - first_q));
  if (o->box) {
    sum += CRITICS * B * (q + q);
  }
  *flops = 2.0 * sum;
  if (o->kind == PHASE) {
    *flops = 2.0 * PHASE_EPOCHS * (PHASE_UPDATES * sum + phase_of(o, pi));
  }

  // read and write parameters and moments, and of critics the targets
  *bytes = 4.0 * (6.0 * parameters + CRITICS * 8.0 * parameters_q) *
           (o->kind == PHASE ? PHASE_EPOCHS * PHASE_UPDATES : 1);
}


// ---- the suite ---------------------------------------------------------------------------------

typedef struct learning {
  rgm_run *run;
  int steps;         // of a call
  bool counts;       // whether they go on, as a training's do
  rgm_status status; // the first failure
} learning;


static void update(void *learning_) {
  learning *l = learning_;
  for (int i = 0; i < l->steps; i++) {
    const rgm_status status = l->run->algorithm->step(l->run);
    l->status = l->status == RGM_OK ? status : l->status;
    l->run->step += l->counts ? 1 : 0;
  }
  (void)rgm_sync(l->run->stream);
}


// keys of a case beside those of its shape; the ensemble of a rollout learns for one step
static const char *const *keys_of(offline_kind kind) {
  static const char *const update[] = {"algorithm.name=cql", "algorithm.holdout=0", NULL};
  static const char *const ensemble[] = {
      "algorithm.name=dynamics",         "algorithm.dynamics_epoch=4",
      "algorithm.dynamics_batch=256",    "algorithm.dynamics_holdout=1",
      "algorithm.dynamics_patience=1e9", NULL};
  static const char *const rollout[] = {
      "algorithm.name=combo",         "algorithm.dynamics_steps=1", "algorithm.dynamics_epoch=1",
      "algorithm.dynamics_holdout=1", "algorithm.rollouts=1000",    "algorithm.horizon=20",
      "algorithm.rollout_every=1",    "algorithm.retain=1",         NULL};
  static const char *const phase[] = {"algorithm.name=omgrl",
                                      "algorithm.preset=authors-code",
                                      "algorithm.dynamics_steps=1",
                                      "algorithm.dynamics_epoch=1",
                                      "algorithm.dynamics_holdout=1",
                                      "algorithm.watched=0",
                                      NULL};
  return kind == UPDATE          ? update
         : kind == ENSEMBLE_STEP ? ensemble
         : kind == PHASE         ? phase
                                 : rollout;
}


static rgm_status open_shape(const bench *b, const offline_shape *shape, const char *path,
                             int64_t replicas, int threads, rgm_run **run) {
  enum { ROOM = 20 };
  char packed[64], batch[64], data[128], actor[96], critic[96];
  const char *all[ROOM] = {data, packed, "run.steps=1000000000", "run.report_every=1000000000"};
  const char *hidden = shape->layers == 2 ? "[256, 256]" : "[256, 256, 256]";
  int count = 4;
  snprintf(data, sizeof data, "data.path=%s", path);
  snprintf(packed, sizeof packed, "run.replicas=%lld", (long long)replicas);
  for (const char *const *key = keys_of(shape->kind); *key != NULL; key++) {
    all[count++] = *key;
  }
  if (shape->kind != ENSEMBLE_STEP) {
    snprintf(batch, sizeof batch, "algorithm.batch=%lld", (long long)shape->batch);
    snprintf(actor, sizeof actor, "algorithm.actor_hidden=%s", hidden);
    snprintf(critic, sizeof critic, "algorithm.critic_hidden=%s", hidden);
    all[count++] = batch;
    all[count++] = actor;
    all[count++] = critic;
  }
  return bench_open(b, all, threads, run);
}


// A call of a rollout's case has an update of one row in it, some hundredths of its time.
static rgm_status bench_shape(bench *b, const offline_shape *shape, const char *path,
                              int64_t replicas, int threads) {
  learning l = {.steps = 1};
  l.status = open_shape(b, shape, path, replicas, threads, &l.run);
  if (l.status == RGM_OK) {
    static const double units[] = {1, EPOCH, (double)ROLLOUTS * HORIZON, PHASE_EPOCHS};
    static const char *const names[] = {"updates/s", "updates/s", "steps/s", "epochs/s"};
    bench_stream s = {.stream = l.run->stream, .threads = threads, .seconds = 0.1 * b->seconds};
    bench_case c = {
        .suite = "offline",
        .name = shape->name,
        .threads = threads,
        .replicas = replicas,
        .work = units[shape->kind] * (double)replicas,
        .unit = names[shape->kind],
        .memory = (double)rgm_arena_bytes(l.run->arena),
    };
    floors_of(shape, &c.flops, &c.bytes);
    c.flops *= (double)replicas;
    c.bytes *= (double)replicas;
    update(&l);
    l.run->step++;
    l.counts = shape->kind == PHASE;
    l.steps = l.counts ? PHASE_EPOCHS * PHASE_UPDATES : 1;
    bench_peaks(&s);
    const bench_time time = bench_measure(b->seconds, update, &l);
    bench_peaks(&s);
    if (l.status == RGM_OK) {
      bench_report(b, &c, time, &s);
    }
  }
  rgm_run_free(l.run);
  return l.status;
}


// one learner on one thread, then with all threads; a learner for each thread; packs
static rgm_status bench_shapes(bench *b, const offline_shape *shape, const char *path) {
  for (int threads = 1; threads <= b->threads; threads += b->threads > 1 ? b->threads - 1 : 1) {
    for (int i = 0; i < 3 && shape->packs[i] > 0; i++) {
      RGM_TRY(bench_shape(b, shape, path, shape->packs[i], threads));
      if (i == 0 && threads > 1) {
        RGM_TRY(bench_shape(b, shape, path, threads, threads));
      }
    }
  }
  return RGM_OK;
}


rgm_status bench_offline(bench *b) {
  bool known = b->only == NULL;
  for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
    known = known || strcmp(b->only, shapes[i].name) == 0;
  }
  if (!known) {
    return rgm_fail(RGM_EUSAGE,
                    "bench offline: there is no case \"%s\"; the rows of `bench offline`"
                    " name them",
                    b->only);
  }
  char folder[] = "/tmp/regimen-bench-XXXXXX";
  if (mkdtemp(folder) == NULL) {
    return rgm_fail(RGM_EIO, "%s: %s; bench offline writes there", folder, strerror(errno));
  }
  rgm_status status = RGM_OK;
  for (size_t i = 0; i < sizeof shapes / sizeof *shapes && status == RGM_OK; i++) {
    char path[64];
    if (b->only != NULL && strcmp(b->only, shapes[i].name) != 0) {
      continue;
    }
    snprintf(path, sizeof path, "%s/%s.h5", folder, shapes[i].name);
    status = write_data(path, &shapes[i]);
    if (status == RGM_OK) {
      status = bench_shapes(b, &shapes[i], path);
    }
    unlink(path);
  }
  rmdir(folder);
  return status;
}
