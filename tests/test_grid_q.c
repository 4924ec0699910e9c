// SPDX-License-Identifier: Apache-2.0
// Q-learning on a grid of observations: every update recomputed here from what the patients showed,
// packs, threads, stopping, refusals; and backward induction for patients of a table against trying
// every plan.

#include "engine/engine.h"

#include <criterion/criterion.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

TestSuite(grid_q, .timeout = 120);

static const char config[] =
    "run: {steps: 60, threads: 1}\nenv: {name: propofol, steps: 40}\n"
    "algorithm: {name: grid_q, environments: 3, hold: 2, span: 50, gamma: 0.8, lr: 0.5, "
    "lr_last: 0.05, explore: 0.7, first_edges: [-0.1, 0, 0.1], second_edges: [0, 0.1], "
    "doses: [0, 0.1, 0.4]}\n";


static rgm_status make(const char *text, const char *const *sets, int count, rgm_run **run) {
  rgm_config *parsed = NULL;
  *run = NULL;
  const rgm_status status = rgm_config_parse("test", text, sets, count, &parsed);
  return status == RGM_OK ? rgm_run_create(parsed, run) : status;
}


static rgm_run *made(const char *text, const char *set) {
  rgm_run *run;
  cr_assert_eq(make(text, &set, set != NULL, &run), RGM_OK, "%s", rgm_last_error());
  return run;
}


static void steps(rgm_run *run, int count) {
  for (int i = 0; i < count; i++) {
    cr_assert_eq(run->algorithm->step(run), RGM_OK, "%s", rgm_last_error());
    run->step++;
  }
}


static rgm_tensor tensor(const rgm_run *run, const char *name) {
  for (int i = 0; i < rgm_arena_count(run->arena); i++) {
    if (strcmp(rgm_arena_entry(run->arena, i)->name, name) == 0) {
      return rgm_arena_entry(run->arena, i)->tensor;
    }
  }
  cr_assert(false, "no tensor %s", name);
  return (rgm_tensor){0};
}


// the cell of an observation of three by two edges, written out
static int cell_of(const float *obs) {
  const int first = (obs[0] >= -0.1f) + (obs[0] >= 0.0f) + (obs[0] >= 0.1f);
  const int second = (obs[1] >= 0.0f) + ((double)obs[1] >= 0.1);
  return first * 3 + second;
}


Test(grid_q, updates) {
  rgm_run *run = made(config, NULL);
  const double *q = tensor(run, "q").data;
  const float *obs = tensor(run, "environment/obs").data, *act = tensor(run, "decision/dose").data;
  const float *reward = tensor(run, "step/reward").data, *next = tensor(run, "step/next").data;
  double own[12 * 3] = {0.0}, sum[3] = {0.0};
  int cell[3] = {0}, action[3] = {0}, greedy = 0;
  for (int t = 0; t < 60; t++) {
    for (int e = 0; e < 3 && t % 2 == 0; e++) {
      cell[e] = cell_of(obs + 4 * e);
      sum[e] = 0.0;
    }
    steps(run, 1);
    const double part = t < 50 ? t / 50.0 : 1.0, lr = 0.5 * pow(0.1, part);
    for (int e = 0; e < 3; e++) {
      if (t % 2 == 0) {
        action[e] = act[e] == 0.0f ? 0 : act[e] == 0.1f ? 1 : 2;
        const double *row = own + cell[e] * 3;
        greedy += row[action[e]] >= fmax(row[0], fmax(row[1], row[2]));
      }
      sum[e] += (double)reward[e];
      if (t % 2 == 1) {
        const double *row = own + cell_of(next + 4 * e) * 3;
        const double goal = sum[e] + 0.8 * fmax(row[0], fmax(row[1], row[2]));
        own[cell[e] * 3 + action[e]] += lr * (goal - own[cell[e] * 3 + action[e]]);
      }
    }
    for (int i = 0; i < 36; i++) {
      cr_assert_float_eq(q[i], own[i], 1e-6, "step %d, pair %d: %g, %g", t, i, q[i], own[i]);
    }
  }
  cr_expect(greedy > 45 && greedy < 85, "%d of 90 actions were greedy", greedy);
  rgm_run_free(run);
}


// A replica of a pack is the run alone, for any threads; stopped and resumed is never stopped.
Test(grid_q, bits) {
  rgm_run *pack = made(config, "run.replicas=3"), *alone = made(config, "run.seed=2");
  rgm_run *more = made(config, "run.threads=3"), *again = made(config, NULL);
  rgm_checkpoint *c = NULL, *state = NULL;
  steps(pack, 60);
  steps(alone, 60);
  steps(more, 31);
  cr_assert_eq(rgm_run_snapshot_pair(more, false, &c, &state), RGM_OK, "%s", rgm_last_error());
  cr_assert_eq(rgm_run_restore(again, c, true), RGM_OK, "%s", rgm_last_error());
  cr_assert_eq(rgm_run_restore_state(again, state), RGM_OK, "%s", rgm_last_error());
  again->step = 31;
  steps(again, 29);
  const rgm_tensor all = tensor(pack, "q");
  const size_t bytes = rgm_bytes(tensor(alone, "q"));
  cr_expect_arr_eq((double *)all.data + all.stride0, tensor(alone, "q").data, bytes);
  cr_expect_arr_eq(all.data, tensor(again, "q").data, bytes);
  rgm_checkpoint_free(c);
  rgm_checkpoint_free(state);
  rgm_run_free(pack);
  rgm_run_free(alone);
  rgm_run_free(more);
  rgm_run_free(again);
}


Test(grid_q, refusals) {
  static const struct {
    const char *set, *message;
  } cases[] = {
      {"algorithm.first=4", "observations 0 to 3"},
      {"algorithm.first_edges=[0, 0]", "edges ascend"},
      {"algorithm.doses=0.5", "two doses at least"},
      {"algorithm.doses=[0, 2]", "doses"},
      {"algorithm.hold=3", "whole number of decisions"},
      {"env.name=cartpole", "an environment with one dose"},
  };
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
    rgm_run *run;
    cr_expect(make(config, &cases[i].set, 1, &run) != RGM_OK &&
                  strstr(rgm_last_error(), cases[i].message) != NULL,
              "%s: %s", cases[i].set, rgm_last_error());
    rgm_run_free(run);
  }
}


// ---- patients of a table -----------------------------------------------------------------------

// the best value of a patient of the table below, by trying every plan
static double best(int patient, int year, int s) {
  if (year == 2) {
    return 0.0;
  }
  // of state 1 only action 1 is known
  double most = -INFINITY;
  for (int a = s; a < 2; a++) {
    const double p = 0.25 * (patient + 1) * (a == 1 ? 1.0 : 0.5) * (year == 1 ? 0.8 : 1.0);
    const double q =
        (s == 0 ? 1.0 : 0.2) - 0.3 * a +
        0.9 * (p * best(patient, year + 1, 0) + (1.0 - p) * best(patient, year + 1, 1));
    most = fmax(most, q);
  }
  return most;
}


Test(grid_q, patients_of_a_table) {
  char path[] = "/tmp/regimen-patients-XXXXXX", text[600];
  const int fd = mkstemp(path);
  FILE *out = fdopen(fd, "w");
  fprintf(out, "patient,year,state,action,next,p,reward\n");
  for (int patient = 2; patient >= 0; patient--) { // in no order
    for (int i = 0; i < 12; i++) {
      const int year = i / 6, s = i % 6 < 4 ? 0 : 1, a = s == 1 ? 1 : i % 6 / 2, next = i % 2;
      const double p = 0.25 * (patient + 1) * (a == 1 ? 1.0 : 0.5) * (year == 1 ? 0.8 : 1.0);
      fprintf(out, "%d,%d,%d,%d,%d,%.17g,%.17g\n", patient, year, s, a, next,
              next == 0 ? p : 1.0 - p, (s == 0 ? 1.0 : 0.2) - 0.3 * a);
    }
  }
  fclose(out);
  snprintf(text, sizeof text,
           "run: {steps: 2}\nalgorithm: {name: dp_patients, path: %s, patients: 3, years: 2, "
           "states: 2, actions: 2, gamma: 0.9, batch: 2}\n",
           path);
  rgm_run *run = made(text, NULL);
  steps(run, 2);
  const double *value = tensor(run, "value").data;
  for (int i = 0; i < 6; i++) {
    cr_expect_float_eq(value[i / 2 * 6 + i % 2], best(i / 2, 0, i % 2), 1e-14);
  }
  rgm_run_free(run);

  // what is wrong with a table
  static const struct {
    const char *rows, *message;
  } cases[] = {
      {"3,0,0,0,0,1,0\n", "row 2: column patient: whole numbers from 0 to 2"},
      {"0,2,0,0,0,1,0\n", "column year"},
      {"0,0,0,0.5,0,1,0\n", "column action"},
      {"0,0,0,0,0,1.5,0\n", "outside 0 to 1"},
      {"0,0,0,0,0,1,\n", "the reward is no number"},
      {"0,0,0,0,0,0.5,0\n", "sum to 0.5"},
      {"0,0,0,0,0,0.5,0\n0,0,0,0,0,0.5,0\n", "twice"},
  };
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
    out = fopen(path, "w");
    fprintf(out, "patient,year,state,action,next,p,reward\n%s", cases[i].rows);
    fclose(out);
    cr_expect(make(text, NULL, 0, &run) != RGM_OK &&
                  strstr(rgm_last_error(), cases[i].message) != NULL,
              "case %d: %s", (int)i, rgm_last_error());
    rgm_run_free(run);
  }
  unlink(path);
}
