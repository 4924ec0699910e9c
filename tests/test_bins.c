// SPDX-License-Identifier: Apache-2.0
// Tests of agents that learned bins of a dose and act in a simulator: states picked by name, doses
// of bins and their edges against a sort in double, who has been trained on what, what is refused.

#include "engine/regimen.h"
#include "engine/transitions.h"
#include "kernels/rng.h"
#include "tests/cuda_module.h"
#include "tests/dataset_files.h"

TestSuite(bins, .timeout = 120, .init = make_folder, .fini = remove_folder);

// of heparin's observations, in another order than it shows them, and where it shows them
enum { PATIENTS = 20, EACH = 12, ROWS = PATIENTS * EACH, BINS = 4, STATES = 4, SHOWN = 20 };
enum { STATE_APTT = 2, SHOWN_APTT = 16 };

static const struct {
  const char *name, *unit;
  int shown;
} states[STATES] = {
    {"aptt_age", "h", 17}, {"weight", "kg", 2}, {"aptt", "s", SHOWN_APTT}, {"male", "1", 1}};

// What a data set has that does not fit.
typedef struct flaw {
  const char *rename; // of column `aptt`
  const char *unit;   // of it
  const char *dose;   // unit of the doses, "" where there is no such column
  int unused;         // a bin that no row has
  double factor;      // of all doses
} flaw;

static const flaw sound = {"aptt", "s", "units/kg/h", -1, 1.0};


// ---- a data set --------------------------------------------------------------------------------

static double value(int64_t row, int column) {
  return (double)((row * 7919 + column * 104729) % 9973) / 9973.0;
}


// doses of bin b lie in [15 b, 15 b + 14), the last ones above the largest infusion rate
static double dose_at(int64_t row, const flaw *f, int *bin) {
  *bin = (int)(BINS * value(row, 50));
  *bin = *bin == f->unused ? 0 : *bin;
  return f->factor * (15.0 * *bin + 14.0 * value(row, 51));
}


static void add(rgm_dataset *d, const char *name, rgm_role role, const char *unit, int k,
                const flaw *f) {
  rgm_column *c = rgm_dataset_add(d, name, role, RGM_CELL_F64, unit);
  cr_assert(c != NULL);
  c->choices = role == RGM_ROLE_ACTION ? BINS : 0;
  snprintf(c->of, sizeof c->of, "%s",
           role == RGM_ROLE_DOSE  ? "action"
           : role == RGM_ROLE_AGE ? f->rename
                                  : "");
  for (int64_t r = 0; r < ROWS; r++) {
    int bin;
    const double dose = dose_at(r, f, &bin);
    rgm_cell_set(c, r,
                 role == RGM_ROLE_PATIENT || role == RGM_ROLE_EPISODE ? (double)(r / EACH)
                 : role == RGM_ROLE_TRUNCATED                         ? r % EACH == EACH - 1
                 : role == RGM_ROLE_TERMINATED                        ? 0.0
                 : role == RGM_ROLE_ACTION                            ? bin
                 : role == RGM_ROLE_DOSE                              ? dose
                                                                      : 40.0 + 60.0 * value(r, k));
  }
}


static const char *plant(const char *name, const flaw *f) {
  const char *path = in_folder(name);
  rgm_dataset *d = rgm_dataset_new(ROWS);
  add(d, "patient", RGM_ROLE_PATIENT, "1", 0, f);
  add(d, "episode", RGM_ROLE_EPISODE, "1", 0, f);
  for (int k = 0; k < STATES; k++) {
    const bool aptt = k == STATE_APTT;
    add(d, aptt ? f->rename : states[k].name, k == 0 ? RGM_ROLE_AGE : RGM_ROLE_STATE,
        aptt ? f->unit : states[k].unit, k, f);
  }
  add(d, "action", RGM_ROLE_ACTION, "1", 0, f);
  if (f->dose[0] != '\0') {
    add(d, "heparin_dose", RGM_ROLE_DOSE, f->dose, 0, f);
  }
  add(d, "reward", RGM_ROLE_REWARD, "1", 9, f);
  add(d, "terminated", RGM_ROLE_TERMINATED, "1", 0, f);
  add(d, "truncated", RGM_ROLE_TRUNCATED, "1", 0, f);
  cr_assert_eq(rgm_dataset_note(d, "actions.edges", "14.5 29.5 44.5"), RGM_OK);
  cr_assert_eq(rgm_dataset_write(path, d), RGM_OK, "%s", rgm_last_error());
  rgm_dataset_free(d);
  return path;
}


static rgm_status try_run(const char *algorithm, const char *path, const char *how, rgm_run **out) {
  char text[1024];
  const bool clone = strcmp(algorithm, "bc") == 0;
  snprintf(text, sizeof text,
           "run: {name: a, replicas: 2, %s}\ndata: {path: %s}\nenv: {name: heparin}\n"
           "algorithm: {name: %s, %s}\n",
           how, path, algorithm,
           clone ? "hidden: [16]" : "judged: 8, actor_hidden: [16], critic_hidden: [16]");
  rgm_config *config = NULL;
  cr_assert_eq(rgm_config_parse("test.yaml", text, NULL, 0, &config), RGM_OK, "%s",
               rgm_last_error());
  return rgm_run_create(config, out);
}


static rgm_tensor find(const rgm_run *run, const char *name) {
  for (int i = 0; i < rgm_arena_count(run->arena); i++) {
    if (strcmp(rgm_arena_entry(run->arena, i)->name, name) == 0) {
      return rgm_arena_entry(run->arena, i)->tensor;
    }
  }
  cr_assert_fail("no tensor %s", name);
  return (rgm_tensor){0};
}


// ---- what bins are worth -----------------------------------------------------------------------

static int ascending(const void *a, const void *b) {
  const double x = *(const double *)a, y = *(const double *)b;
  return (x > y) - (x < y);
}


// the median dose of a bin over the training rows of a run: the last hour of an episode has no next
// one and is none
static double median_of(const rgm_run *run, int bin, const flaw *f) {
  double found[ROWS];
  int64_t n = 0;
  for (int64_t i = 0; i < run->transitions->rows; i++) {
    int is;
    const double dose = dose_at(run->transitions->row[i], f, &is);
    if (run->transitions->split[i] == RGM_TRAIN && is == bin) {
      found[n++] = dose;
    }
  }
  qsort(found, (size_t)n, sizeof *found, ascending);
  return n % 2 == 1 ? found[n / 2] : 0.5 * (found[n / 2 - 1] + found[n / 2]);
}


static void put(rgm_run *run, const char *net, const char *part, int r, const float *values) {
  char name[64];
  snprintf(name, sizeof name, "%s/%s", net, part);
  const rgm_tensor t = rgm_slice(find(run, name), r, 1);
  rgm_copy(run->stream, t.data, values, rgm_bytes(t));
  cr_assert_eq(rgm_sync(run->stream), RGM_OK);
}


// replica 0 takes bin 1 where aPTT is above its training mean by half its sd, else 2; replica 1
// bin 3, else 0
static void plant_policy(rgm_run *run, const char *net) {
  for (int r = 0; r < 2; r++) {
    float w0[STATES * 16] = {0}, w1[16 * 16] = {0}, b0[16] = {0}, b1[16] = {-9, -9, -9, -9};
    w0[STATE_APTT * 16] = 1.0f;
    w1[r == 0 ? 1 : 3] = 1.0f;
    b1[r == 0 ? 1 : 3] = 0.0f;
    b1[r == 0 ? 2 : 0] = 0.5f;
    put(run, net, "0/weight", r, w0);
    put(run, net, "0/bias", r, b0);
    put(run, net, "1/weight", r, w1);
    put(run, net, "1/bias", r, b1);
  }
}


// asks the policy about `count` sets of observations: act (2, count, 2)
static void ask(rgm_run *run, int64_t count, float *obs, float *act) {
  rgm_contender c;
  cr_assert_eq(run->algorithm->contenders(run, &c, 1), 1);
  cr_assert_geq(c.rows, count);
  float *shown = calloc((size_t)(2 * c.rows * SHOWN), sizeof *shown), *all, *device;
  all = calloc((size_t)(2 * c.rows * 2), sizeof *all);
  const size_t bytes = (size_t)(2 * c.rows) * (SHOWN + 2) * sizeof(float);
  cr_assert_eq(run->stream->backend->alloc(run->stream, bytes, (void **)&device), RGM_OK);
  for (int64_t i = 0; i < 2 * count; i++) {
    memcpy(shown + (i / count * c.rows + i % count) * SHOWN, obs + i * SHOWN,
           SHOWN * sizeof *shown);
  }
  float *answer = device + 2 * c.rows * SHOWN;
  rgm_copy(run->stream, device, shown, (size_t)(2 * c.rows * SHOWN) * sizeof *shown);
  c.act(run, run->stream, rgm_view(answer, RGM_F32, 2, c.rows, 2, 0),
        rgm_view(device, RGM_F32, 2, c.rows, SHOWN, 0));
  rgm_copy(run->stream, all, answer, (size_t)(4 * c.rows) * sizeof *all);
  cr_assert_eq(rgm_sync(run->stream), RGM_OK);
  for (int64_t i = 0; i < 2 * count; i++) {
    memcpy(act + 2 * i, all + 2 * (i / count * c.rows + i % count), 2 * sizeof *act);
  }
  run->stream->backend->release(run->stream, device);
  free(shown);
  free(all);
}


enum { ASKED = 8 };

static void expect_actions(const rgm_run *run, const float *obs, const float *act, const flaw *f,
                           const char *what) {
  double mean = 0.0, square = 0.0, n = 0.0;
  for (int64_t i = 0; i < run->transitions->rows; i++) {
    const double x = 40.0 + 60.0 * value(run->transitions->row[i], STATE_APTT);
    if (run->transitions->split[i] == RGM_TRAIN) {
      n += 1.0;
      mean += x;
      square += x * x;
    }
  }
  mean /= n;
  const double sd = sqrt(square / n - mean * mean);
  for (int i = 0; i < 2 * ASKED; i++) {
    const bool above = ((double)obs[i * SHOWN + SHOWN_APTT] - mean) / sd > 0.5;
    const int bin = i < ASKED ? (above ? 1 : 2) : (above ? 3 : 0);
    const double dose = median_of(run, bin, f), rate = dose < 40.0 ? dose : 40.0;
    cr_expect_float_eq((double)act[2 * i], rate / 40.0, 1e-6, "%s, row %d: rate", what, i);
    cr_expect_float_eq((double)act[2 * i + 1], (dose - rate) / 100.0, 1e-6, "%s, row %d: bolus",
                       what, i);
  }
}


// Policies of known weights in heparin's simulator: the columns that they see, the doses that they
// give, both devices; and the doses of a checkpoint where other data are read.
Test(bins, act_as_their_doses) {
  static const char *const algorithms[] = {"bc", "cql"}, *const nets[] = {"best", "actor/0"};
  static const char *const how[] = {"backend: cpu, threads: 2", "backend: cuda"};
  const flaw doubled = {"aptt", "s", "units/kg/h", -1, 2.0};
  float obs[2 * ASKED * SHOWN], act[2][4 * ASKED];
  setenv("RGM_CUDA_MODULE", cuda_module(), 1);
  for (int i = 0; i < 2 * ASKED * SHOWN; i++) {
    obs[i] = (float)(40.0 + 60.0 * value(i, 77));
  }
  for (int k = 0; k < 2; k++) {
    for (int h = 0; h < 2; h++) {
      rgm_run *run = NULL, *other = NULL;
      rgm_checkpoint *c = NULL;
      cr_assert_eq(try_run(algorithms[k], plant("a.h5", &sound), how[h], &run), RGM_OK, "%s",
                   rgm_last_error());
      plant_policy(run, nets[k]);
      ask(run, ASKED, obs, act[h]);
      expect_actions(run, obs, act[h], &sound, algorithms[k]);
      float edge[2 * (BINS - 1)];
      cr_assert_eq(rgm_read_back(run, find(run, "action/edge"), edge), RGM_OK);
      cr_expect(edge[0] == 14.5f && edge[2] == 44.5f && edge[5] == 44.5f);

      // a data set of the same patients, all doses doubled: the run was trained on the others
      cr_assert_eq(rgm_run_snapshot(run, &c), RGM_OK);
      cr_assert_eq(try_run(algorithms[k], plant("b.h5", &doubled), how[h], &other), RGM_OK);
      cr_assert_eq(rgm_run_restore(other, c, false), RGM_OK, "%s", rgm_last_error());
      ask(other, ASKED, obs, act[h]);
      expect_actions(other, obs, act[h], &sound, "restored");
      rgm_checkpoint_free(c);
      rgm_run_free(other);
      rgm_run_free(run);
    }
    cr_expect_eq(memcmp(act[0], act[1], sizeof act[0]), 0, "%s: bits of both devices",
                 algorithms[k]);
  }
}


Test(bins, refuse_data_of_something_else) {
  static const struct {
    flaw flaw;
    const char *text;
  } cases[] = {
      {{"apt", "s", "units/kg/h", -1, 1.0}, "heparin shows no \"apt\", which is a state of"},
      {{"aptt", "min", "units/kg/h", -1, 1.0}, "heparin shows aptt in s, and"},
      {{"aptt", "s", "units/h", -1, 1.0}, "takes doses in units/kg/h, and those of"},
      {{"aptt", "s", "", -1, 1.0}, "are not bins of one"},
      {{"aptt", "s", "units/kg/h", 3, 1.0}, "has action 3, so nobody knows its dose"},
  };
  static const char *const algorithms[] = {"bc", "cql", "combo"};
  for (size_t k = 0; k < sizeof cases / sizeof *cases; k++) {
    const char *path = plant("a.h5", &cases[k].flaw);
    for (size_t a = 0; a < sizeof algorithms / sizeof *algorithms; a++) {
      rgm_run *run = NULL;
      cr_expect_eq(try_run(algorithms[a], path, "threads: 1", &run), RGM_ECONFIG, "%s",
                   cases[k].text);
      cr_expect(strstr(rgm_last_error(), cases[k].text) != NULL, "%s: %s", algorithms[a],
                rgm_last_error());
      rgm_run_free(run);
    }
  }
}
