// SPDX-License-Identifier: Apache-2.0
// Episodes of the pole on a cart as a data set: what is seen, the push as one of two classes,
// reward, ends. From random to expert where the clinician's share of random pushes goes from 1 to
// 0: the mixed set of offline learning.

#include "envs/cartpole.h"
#include "engine/dataset.h"

#include <stdlib.h>

static const struct {
  const char *name, *unit, *doc;
  rgm_role role;
  rgm_cell cell;
} columns[] = {
    {"patient", "1", "one episode each", RGM_ROLE_PATIENT, RGM_CELL_I32},
    {"episode", "1", "", RGM_ROLE_EPISODE, RGM_CELL_I32},
    {"time", "step", "", RGM_ROLE_TIME, RGM_CELL_I32},
    {"x", "m", "place of the cart", RGM_ROLE_STATE, RGM_CELL_F32},
    {"speed", "m/s", "its speed", RGM_ROLE_STATE, RGM_CELL_F32},
    {"angle", "rad", "angle of the pole from upright", RGM_ROLE_STATE, RGM_CELL_F32},
    {"rate", "rad/s", "its rate", RGM_ROLE_STATE, RGM_CELL_F32},
    {"push", "1", "0 to the left, 1 to the right", RGM_ROLE_ACTION, RGM_CELL_I32},
    {"reward", "1", "1 while the episode runs", RGM_ROLE_REWARD, RGM_CELL_F32},
    {"terminated", "1", "the cart or the pole left its bounds", RGM_ROLE_TERMINATED, RGM_CELL_U8},
    {"truncated", "1", "the time was over", RGM_ROLE_TRUNCATED, RGM_CELL_U8},
};
enum { COLUMNS = sizeof columns / sizeof *columns, PUSH = 7 };


// whether a step's end is out of bounds, as cartpole_step finds
static bool ends(const cartpole_config *c, const float *obs) {
  const float x = rgm_fma(c->dt, obs[CARTPOLE_SPEED], obs[CARTPOLE_X]);
  const float angle = rgm_fma(c->dt, obs[CARTPOLE_RATE], obs[CARTPOLE_ANGLE]);
  return rgm_abs(x) > c->limit_x || rgm_abs(angle) > c->limit_angle;
}


// row `to` of the data set from step t of episode e
static void put_row(rgm_dataset *d, int64_t to, const rgm_episodes *e, const cartpole_config *c,
                    int64_t episode, int64_t t) {
  const int64_t row = episode * e->steps + t;
  const float *obs = e->obs + row * CARTPOLE_OBS;
  const bool ended = ends(c, obs);
  const double values[COLUMNS] = {(double)episode,
                                  (double)episode,
                                  (double)t,
                                  (double)obs[CARTPOLE_X],
                                  (double)obs[CARTPOLE_SPEED],
                                  (double)obs[CARTPOLE_ANGLE],
                                  (double)obs[CARTPOLE_RATE],
                                  (double)e->act[row * CARTPOLE_ACT],
                                  1.0,
                                  ended,
                                  !ended && t == e->steps - 1};
  for (int k = 0; k < COLUMNS; k++) {
    rgm_cell_set(&d->column[k], to, values[k]);
  }
}


static bool lives(const rgm_episodes *e, int64_t row) {
  return e->signals[row * CARTPOLE_SIGNALS + CARTPOLE_SIGNAL_REWARD] > 0.0f;
}


rgm_status cartpole_fill(const cartpole_config *c, const rgm_episodes *e, rgm_dataset **out);
rgm_status cartpole_fill(const cartpole_config *c, const rgm_episodes *e, rgm_dataset **out) {
  int64_t rows = 0, to = 0;
  *out = NULL;
  for (int64_t i = 0; i < e->count * e->steps; i++) {
    rows += lives(e, i);
  }
  rgm_dataset *d = rgm_dataset_new(rows);
  rgm_status status = d != NULL ? RGM_OK : RGM_EMEMORY;
  for (int k = 0; k < COLUMNS && status == RGM_OK; k++) {
    rgm_column *column =
        rgm_dataset_add(d, columns[k].name, columns[k].role, columns[k].cell, columns[k].unit);
    status = column != NULL ? RGM_OK : RGM_EMEMORY;
    if (column != NULL) {
      snprintf(column->doc, sizeof column->doc, "%s", columns[k].doc);
      column->choices = k == PUSH ? CARTPOLE_CHOICES : 0;
    }
  }
  for (int64_t i = 0; i < e->count * e->steps && status == RGM_OK; i++) {
    if (lives(e, i)) {
      put_row(d, to++, e, c, i / e->steps, i % e->steps);
    }
  }
  status = status == RGM_OK ? rgm_dataset_split(d, e->seed, e->validation, e->test) : status;
  if (status == RGM_OK) {
    *out = d;
  } else {
    rgm_dataset_free(d);
  }
  return status;
}
