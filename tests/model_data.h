// SPDX-License-Identifier: Apache-2.0
// A small planted world for tests of learned models: linear changes of two states, a static
// covariate, a reward, Gaussian noise of known size; and runs that learn from it.

#ifndef RGM_TESTS_MODEL_DATA_H
#define RGM_TESTS_MODEL_DATA_H

// not every program that includes this uses all of it
#pragma GCC diagnostic ignored "-Wunused-function"

#include "algorithms/ensemble.h"
#include "engine/regimen.h"
#include "tests/dataset_files.h"

enum { WORLD_STATES = 3, WORLD_LENGTH = 20 };

// the noise of the changes of x and y, of the static w, of the reward, in units of the data
static const double world_noise[WORLD_STATES + 1] = {5.0, 0.05, 0.0, 0.2};

static double world_uniform(uint64_t *state) {
  *state = *state * 6364136223846793005u + 1442695040888963407u;
  return ((double)(*state >> 11) + 0.5) * 0x1p-53;
}


static double world_normal(uint64_t *state) {
  const double radius = sqrt(-2.0 * log(world_uniform(state)));
  return radius * cos(2.0 * acos(-1.0) * world_uniform(state));
}


// Episodes of 20 rows, one a patient, each fifth one terminated. x' = x - 0.2 (x - 100) + 15 u + noise, y' = y + 0.002 (x -
// 100) - 0.3 y + noise, r = (x - 100) / 50 - u / 2 + w / 10 + noise, with u the class less one, or
// the action.
static const char *write_world(const char *name, int episodes, int choices) {
  static const struct {
    const char *name, *unit;
    rgm_role role;
  } columns[] = {{"episode", "", RGM_ROLE_EPISODE},
                 {"x", "mmHg", RGM_ROLE_STATE},
                 {"y", "mmol/L", RGM_ROLE_STATE},
                 {"w", "kg", RGM_ROLE_STATE},
                 {"u", "1", RGM_ROLE_ACTION},
                 {"r", "1", RGM_ROLE_REWARD},
                 {"terminated", "1", RGM_ROLE_TERMINATED}};
  enum { COLUMNS = sizeof columns / sizeof *columns };
  const int64_t rows = (int64_t)episodes * WORLD_LENGTH;
  const char *path = in_folder(name);
  rgm_dataset *d = rgm_dataset_new(rows);
  for (int k = 0; k < COLUMNS; k++) {
    rgm_column *c =
        rgm_dataset_add(d, columns[k].name, columns[k].role, RGM_CELL_F64, columns[k].unit);
    c->choices = columns[k].role == RGM_ROLE_ACTION ? choices : 0;
  }
  uint64_t seed = 77;
  double x = 0.0, y = 0.0, w = 0.0;
  for (int64_t i = 0; i < rows; i++) {
    if (i % WORLD_LENGTH == 0) {
      x = 100.0 + 30.0 * world_normal(&seed);
      y = 0.3 * world_normal(&seed);
      w = 50.0 + floor(40.0 * world_uniform(&seed));
    }
    const double draw = world_uniform(&seed);
    const double action = choices > 0 ? floor(draw * choices) : 2.0 * draw - 1.0;
    const double u = choices > 0 ? action - 1.0 : action;
    const double r = (x - 100.0) / 50.0 - 0.5 * u + 0.1 * w + world_noise[3] * world_normal(&seed);
    const bool over = i % (5 * WORLD_LENGTH) == 5 * WORLD_LENGTH - 1;
    const double row[COLUMNS] = {(double)(i / WORLD_LENGTH), x, y, w, action, r, over ? 1.0 : 0.0};
    for (int k = 0; k < COLUMNS; k++) {
      rgm_cell_set(&d->column[k], i, row[k]);
    }
    const double before = x;
    x += -0.2 * (x - 100.0) + 15.0 * u + world_noise[0] * world_normal(&seed);
    y += 0.002 * (before - 100.0) - 0.3 * y + world_noise[1] * world_normal(&seed);
  }
  cr_assert_eq(rgm_dataset_write(path, d), RGM_OK, "%s", rgm_last_error());
  rgm_dataset_free(d);
  return path;
}


static rgm_status try_model(const char *text, rgm_run **out) {
  rgm_config *config = NULL;
  cr_assert_eq(rgm_config_parse("test.yaml", text, NULL, 0, &config), RGM_OK, "%s",
               rgm_last_error());
  return rgm_run_create(config, out);
}


static rgm_run *make_model(const char *text) {
  rgm_run *run = NULL;
  cr_assert_eq(try_model(text, &run), RGM_OK, "%s", rgm_last_error());
  return run;
}


static void steps_of(rgm_run *run, int count) {
  for (int i = 0; i < count; i++) {
    cr_assert_eq(run->algorithm->step(run), RGM_OK, "%s", rgm_last_error());
    run->step++;
  }
  cr_assert_eq(rgm_sync(run->stream), RGM_OK, "%s", rgm_last_error());
  cr_assert_eq(rgm_arena_check(run->arena), RGM_OK, "%s", rgm_last_error());
  cr_assert_eq(rgm_guard(run), RGM_OK, "%s", rgm_last_error());
}


static rgm_tensor tensor_of(const rgm_run *run, const char *name) {
  for (int i = 0; i < rgm_arena_count(run->arena); i++) {
    if (strcmp(rgm_arena_entry(run->arena, i)->name, name) == 0) {
      return rgm_arena_entry(run->arena, i)->tensor;
    }
  }
  cr_assert_fail("no tensor %s", name);
  return (rgm_tensor){0};
}


// a tensor in memory of the test's own, to be freed
static void *read_tensor(rgm_run *run, const char *name) {
  const rgm_tensor t = tensor_of(run, name);
  void *values = malloc(rgm_bytes(t));
  cr_assert(values != NULL && rgm_read_back(run, t, values) == RGM_OK, "%s", rgm_last_error());
  return values;
}


// everything that a run is, private state too
static void state_digest(rgm_run *run, char hex[65]) {
  rgm_checkpoint *c = NULL, *state = NULL;
  cr_assert_eq(rgm_run_snapshot_pair(run, false, &c, &state), RGM_OK, "%s", rgm_last_error());
  rgm_checkpoint_digest(c, hex);
  rgm_checkpoint_free(c);
  rgm_checkpoint_free(state);
}


// every record of `alone` is that of replica r of `pack`
static void expect_replica(rgm_run *pack, rgm_run *alone, int64_t r) {
  rgm_checkpoint *a = NULL, *b = NULL;
  int compared = 0;
  cr_assert_eq(rgm_run_take(pack, r, 1, &a), RGM_OK, "%s", rgm_last_error());
  cr_assert_eq(rgm_run_take(alone, 0, 1, &b), RGM_OK, "%s", rgm_last_error());
  for (int i = 0; i < b->record_count; i++) {
    const rgm_record *one = &b->records[i], *other = rgm_checkpoint_record(a, one->name);
    size_t bytes = rgm_dtype_size(one->dtype);
    for (int k = 0; k < one->rank; k++) {
      bytes *= (size_t)one->dims[k];
    }
    cr_assert(other != NULL && memcmp(one->data, other->data, bytes) == 0,
              "%s of replica %d differs from the run alone", one->name, (int)r);
    compared++;
  }
  cr_assert_gt(compared, 10);
  rgm_checkpoint_free(a);
  rgm_checkpoint_free(b);
}

#endif
