// SPDX-License-Identifier: Apache-2.0
// Bins of a dose in a simulator. See bins.h. Picking columns and looking up doses are products with
// matrices of zeros and one number a row: sums of zeros and that number, and so exact.

#include "algorithms/bins.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { MOST_BINS = 256, MOST_ACTIONS = 16 };


// the observation that is column k of the data set's states, -1 for none
static int find(const rgm_env *env, const rgm_feature *column) {
  for (int i = 0; i < env->obs_dim; i++) {
    if (strcmp(env->obs[i].name, column->name) == 0) {
      return i;
    }
  }
  return -1;
}


static bool takes_doses(const rgm_run *run) {
  return run->env != NULL && run->env->give_dose != NULL && run->transitions != NULL;
}


// ---- what does not fit -------------------------------------------------------------------------

static rgm_status check_columns(const rgm_run *run, const char *where) {
  const rgm_transitions *t = run->transitions;
  const rgm_env *env = run->env;
  const char *names[64];
  RGM_ASSERT(env->obs_dim < 64);
  for (int i = 0; i < env->obs_dim; i++) {
    names[i] = env->obs[i].name;
  }
  names[env->obs_dim] = NULL;
  for (int k = 0; k < t->states; k++) {
    const int i = find(env, &t->state[k]);
    if (i < 0) {
      const char *near = rgm_nearest(t->state[k].name, names);
      return rgm_fail(RGM_ECONFIG,
                      "%s: env.name: %s shows no \"%s\", which is a state of %s%s%s; give the "
                      "column another role, or leave env out",
                      where, env->name, t->state[k].name, t->path,
                      near != NULL ? "; the nearest is " : "", near != NULL ? near : "");
    }
    if (strcmp(env->obs[i].unit, t->state[k].unit) != 0) {
      return rgm_fail(RGM_ECONFIG,
                      "%s: env.name: %s shows %s in %s, and %s has it in %s; convert the column, "
                      "or leave env out",
                      where, env->name, t->state[k].name, env->obs[i].unit, t->path,
                      t->state[k].unit);
    }
  }
  return RGM_OK;
}


static rgm_status check_doses(const rgm_run *run, const char *where) {
  const rgm_transitions *t = run->transitions;
  const rgm_env *env = run->env;
  if (t->choices == 0 || t->dose == NULL) {
    return rgm_fail(RGM_ECONFIG,
                    "%s: env.name: %s takes doses, and the actions of %s are not bins of one: it "
                    "needs an action with choices and a column of role dose about it; leave env "
                    "out, or learn from data that it wrote",
                    where, env->name, t->path);
  }
  if (t->choices > MOST_BINS) {
    return rgm_fail(RGM_ECONFIG, "%s: env.name: %lld bins of dose; %d are the most", where,
                    (long long)t->choices, MOST_BINS);
  }
  if (strcmp(t->dose_unit, env->dose_unit) != 0) {
    return rgm_fail(RGM_ECONFIG,
                    "%s: env.name: %s takes doses in %s, and those of %s are in %s; import them "
                    "per kg of weight, or leave env out",
                    where, env->name, env->dose_unit, t->path, t->dose_unit);
  }
  for (int64_t a = 0; a < t->choices; a++) {
    if (!isfinite(t->dose[a])) {
      return rgm_fail(RGM_ECONFIG,
                      "%s: env.name: no training row of %s has action %lld, so nobody knows its "
                      "dose; use fewer bins, or leave env out",
                      where, t->path, (long long)a);
    }
  }
  return check_columns(run, where);
}


rgm_status rgm_bins_check(const rgm_run *run) {
  return takes_doses(run) ? check_doses(run, rgm_config_where(run->config, "env.name")) : RGM_OK;
}


// ---- planning ----------------------------------------------------------------------------------

// one copy for all replicas
static rgm_tensor plan_matrix(rgm_run *run, const char *name, int64_t rows, int64_t columns) {
  rgm_tensor t =
      rgm_plan(run->arena, name, RGM_F32, RGM_BLOCK, "one, row, column", "1", 1, rows, columns, 0);
  t.dims[0] = run->replicas;
  t.stride0 = 0;
  return t;
}


static void plan_rows(rgm_run *run, rgm_bins *b, int64_t V) {
  const rgm_transitions *t = run->transitions;
  const int64_t R = run->replicas, S = t->states, A = t->choices, P = rgm_padded(S);
  const struct {
    rgm_tensor *tensor;
    const char *name;
    int64_t width;
  } rows[] = {
      {&b->wide, "bins/wide", P},          {&b->state, "bins/state", S},
      {&b->choice, "bins/choice", 1},      {&b->x, "bins/x", S + A},
      {&b->wider, "bins/action", RGM_PAD},
  };
  b->pick = plan_matrix(run, "bins/pick", run->env->obs_dim, P);
  b->same = plan_matrix(run, "bins/same", S, P);
  b->share = plan_matrix(run, "bins/share", run->env->act_dim, RGM_PAD);
  b->zero = rgm_plan(run->arena, "bins/zero", RGM_F32, RGM_BLOCK, "replica, column", "1", R,
                     P > RGM_PAD ? P : RGM_PAD, 0, 0);
  b->table = rgm_plan(run->arena, "bins/table", RGM_F32, RGM_BLOCK, "replica, row, column", "1", R,
                      S + A, RGM_PAD, 0);
  for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
    *rows[i].tensor = rgm_plan(run->arena, rows[i].name, RGM_F32, RGM_BLOCK,
                               "replica, episode, ...", "1", R, V, rows[i].width, 0);
  }
}


void rgm_bins_plan(rgm_run *run, rgm_bins *b, int64_t rows) {
  const rgm_transitions *t = run->transitions;
  const unsigned shown = RGM_STATE | RGM_EXPORTED;
  char unit[16];
  b->translates = takes_doses(run) && rows > 0;
  if (t == NULL || t->dose == NULL) {
    return;
  }
  snprintf(unit, sizeof unit, "%.15s", t->dose_unit);
  b->dose = rgm_plan(run->arena, "action/dose", RGM_F32, shown, "replica, bin", unit, run->replicas,
                     t->choices, 0, 0);
  b->edge = rgm_plan(run->arena, "action/edge", RGM_F32, shown, "replica, edge", unit,
                     run->replicas, t->choices - 1, 0, 0);
  if (b->translates) {
    plan_rows(run, b, rows);
  }
}


// ones where columns of the states are in what the environment shows, and on diagonals
static rgm_status put_matrices(rgm_run *run, rgm_bins *b) {
  const rgm_transitions *t = run->transitions;
  const int64_t S = t->states, P = rgm_padded(S), O = run->env->obs_dim, D = run->env->act_dim;
  float *pick = calloc((size_t)(O * P + S * P + D * RGM_PAD), sizeof *pick);
  if (pick == NULL) {
    return rgm_fail(RGM_EMEMORY, "no memory for %lld states", (long long)S);
  }
  float *same = pick + O * P, *share = same + S * P;
  for (int64_t k = 0; k < S; k++) {
    const int from = find(run->env, &t->state[k]);
    RGM_ASSERT(from >= 0);
    pick[from * P + k] = same[k * P + k] = 1.0f;
  }
  for (int64_t d = 0; d < D; d++) {
    share[d * RGM_PAD + d] = 1.0f;
  }
  rgm_copy(run->stream, b->pick.data, pick, (size_t)(O * P) * sizeof *pick);
  rgm_copy(run->stream, b->same.data, same, (size_t)(S * P) * sizeof *pick);
  rgm_copy(run->stream, b->share.data, share, (size_t)(D * RGM_PAD) * sizeof *pick);
  const rgm_status status = rgm_sync(run->stream);
  free(pick);
  return status;
}


rgm_status rgm_bins_init(rgm_run *run, rgm_bins *b) {
  const rgm_transitions *t = run->transitions;
  float dose[RGM_MAX_CLASSES], edge[RGM_MAX_CLASSES];
  b->loaded = false;
  if (b->dose.data == NULL) {
    return RGM_OK;
  }
  // what no training row shows is 0 in a checkpoint, and refused by an environment
  for (int64_t a = 0; a < t->choices; a++) {
    dose[a] = isfinite(t->dose[a]) ? (float)t->dose[a] : 0.0f;
    edge[a] = a + 1 < t->choices && isfinite(t->edge[a]) ? (float)t->edge[a] : 0.0f;
  }
  RGM_TRY(rgm_put_rows(run, b->dose, dose));
  RGM_TRY(rgm_put_rows(run, b->edge, edge));
  return b->translates ? put_matrices(run, b) : RGM_OK;
}


// ---- acting ------------------------------------------------------------------------------------

// the actions of the doses of a checkpoint, or of a run that has just begun
static void load(rgm_run *run, rgm_bins *b, rgm_stream *s) {
  const int64_t S = run->transitions->states, A = run->transitions->choices;
  const int64_t width = (S + A) * RGM_PAD;
  float dose[MOST_BINS], act[MOST_ACTIONS], row[RGM_PAD] = {0};
  RGM_ASSERT(A <= MOST_BINS && run->env->act_dim <= MOST_ACTIONS);
  for (int64_t r = 0; r < run->replicas; r++) {
    rgm_copy(s, dose, (const float *)b->dose.data + r * A, (size_t)A * sizeof *dose);
    // an error of the device comes up where the caller waits for it
    if (rgm_sync(s) != RGM_OK) {
      return;
    }
    for (int64_t a = 0; a < A; a++) {
      run->env->give_dose(rgm_env_keys(run, r), (double)dose[a], act);
      memcpy(row, act, (size_t)run->env->act_dim * sizeof *row);
      rgm_copy(s, (float *)b->table.data + r * width + (S + a) * RGM_PAD, row, sizeof row);
      if (rgm_sync(s) != RGM_OK) {
        return;
      }
    }
  }
  b->loaded = true;
}


rgm_tensor rgm_bins_see(rgm_run *run, rgm_bins *b, rgm_stream *s, rgm_tensor obs) {
  if (!b->translates) {
    return obs;
  }
  if (!b->loaded) {
    load(run, b, s);
  }
  const rgm_tensor zero = rgm_view(b->zero.data, RGM_F32, b->zero.dims[0], b->wide.dims[2], 0, 0);
  rgm_linear(s, b->wide, obs, b->pick, zero, RGM_LINEAR);
  rgm_linear_dx(s, b->state, b->wide, b->same, (rgm_tensor){0}, RGM_LINEAR);
  return b->state;
}


rgm_tensor rgm_bins_choice(const rgm_bins *b, rgm_tensor act) {
  return b->translates ? b->choice : act;
}


void rgm_bins_give(const rgm_bins *b, rgm_stream *s, rgm_tensor act) {
  if (!b->translates) {
    return;
  }
  const int bins = (int)b->dose.dims[1];
  const rgm_tensor zero = rgm_view(b->zero.data, RGM_F32, b->zero.dims[0], RGM_PAD, 0, 0);
  rgm_concat(s, b->x, b->state, b->choice, bins);
  rgm_linear(s, b->wider, b->x, b->table, zero, RGM_LINEAR);
  rgm_linear_dx(s, act, b->wider, b->share, (rgm_tensor){0}, RGM_LINEAR);
}
