// SPDX-License-Identifier: Apache-2.0
// The clinician of the pole on a cart, and its episodes as a data set: every row against the
// equations of motion and the linear rule in double, how much is random, where episodes end, the
// same bytes whoever simulates.

#include "engine/regimen.h"
#include "engine/transitions.h"
#include "tests/cuda_module.h"
#include "tests/dataset_files.h"

TestSuite(cartpole, .timeout = 240, .init = make_folder, .fini = remove_folder);


static const char config_text[] = "run: {name: x, backend: cpu}\n"
                                  "env: {name: cartpole}\n"
                                  "algorithm: {name: pid}\n"
                                  "simulate: {patients: 150, seed: 3, validation: 0.2}\n";


// FOLDER/name by `regimen simulate` with settings
static rgm_status simulate(const char *name, int count, const char *const *sets) {
  char path[300], out[300], text[65536];
  snprintf(path, sizeof path, "%s", in_folder("simulate.yaml"));
  snprintf(out, sizeof out, "%s", in_folder(name));
  FILE *file = fopen(path, "w");
  cr_assert(file != NULL && fputs(config_text, file) >= 0 && fclose(file) == 0);
  FILE *result = fmemopen(text, sizeof text, "w");
  const rgm_options options = {
      .path = path, .out = out, .set = sets, .set_count = count, .result = result};
  const rgm_status status = rgm_simulate(&options);
  fclose(result);
  return status;
}


static rgm_dataset *data_of(const char *name, int count, const char *const *sets) {
  rgm_dataset *d = NULL;
  cr_assert_eq(simulate(name, count, sets), RGM_OK, "%s", rgm_last_error());
  cr_assert_eq(rgm_dataset_read(in_folder(name), &d), RGM_OK, "%s", rgm_last_error());
  return d;
}


static double cell(const rgm_dataset *d, const char *name, int64_t row) {
  return rgm_cell_get(&d->column[rgm_dataset_find(d, name)], row);
}


// Barto, Sutton & Anderson's equations with Gymnasium's constants, one step of Euler in double
static void move(double s[4], int push) {
  const double force = push ? 10.0 : -10.0, total = 1.1, arm = 0.05, sine = sin(s[2]);
  const double cosine = cos(s[2]), w = (force + arm * s[3] * s[3] * sine) / total;
  const double turn =
      (9.8 * sine - cosine * w) / (0.5 * (4.0 / 3.0 - 0.1 * cosine * cosine / total));
  const double pull = w - arm * turn * cosine / total;
  s[0] += 0.02 * s[1];
  s[2] += 0.02 * s[3];
  s[1] += 0.02 * pull;
  s[3] += 0.02 * turn;
}


static bool is_out(const double s[4]) {
  return fabs(s[0]) > 2.4 || fabs(s[2]) > 12.0 * M_PI / 180.0;
}


static const char *const names[] = {"x", "speed", "angle", "rate"};
static const double gain[] = {0.05, 0.1, 1.0, 0.25}; // the defaults of env.gain_*


// Rows follow from each other, and end where the equations say; pushes are the rule's but where
// they are random: half of these are the rule's, too.
Test(cartpole, episodes_follow_equations_and_rule) {
  rgm_dataset *d = data_of("a.h5", 0, NULL);
  int64_t count, truncated = 0, *start = rgm_dataset_episodes(d, &count);
  double against = 0.0, rows = 0.0, worst = 0.0, short_ = 0.0;
  cr_assert_eq(count, 150);
  for (int64_t e = 0; e < count; e++) {
    const int64_t length = start[e + 1] - start[e];
    double differ = 0.0;
    cr_expect(length <= 500);
    for (int64_t r = start[e]; r < start[e + 1]; r++) {
      double s[4], lean = 0.0;
      const bool last = r == start[e + 1] - 1;
      const int push = (int)cell(d, "push", r);
      for (int k = 0; k < 4; k++) {
        s[k] = cell(d, names[k], r);
        lean += gain[k] * s[k];
        cr_expect(r > start[e] || fabs(s[k]) <= 0.05);
      }
      differ += push != (lean > 0.0);
      move(s, push);
      for (int k = 0; k < 4 && !last; k++) {
        worst = fmax(worst, fabs(s[k] - cell(d, names[k], r + 1)));
      }
      cr_expect_eq(cell(d, "terminated", r) == 1.0, is_out(s), "row %d", (int)r);
      cr_expect_eq(cell(d, "truncated", r) == 1.0, last && length == 500 && !is_out(s));
      cr_expect(!last || is_out(s) || length == 500);
      cr_expect_eq(cell(d, "reward", r), 1.0);
      cr_expect_eq(cell(d, "time", r), (double)(r - start[e]));
      truncated += cell(d, "truncated", r) == 1.0;
    }
    // an episode's share of random pushes is uniform in [0, 1], so a quarter of its first 20 steps
    // differs from the rule on average
    against += differ / (double)length;
    rows += 1.0;
    short_ += length < 60;
  }
  cr_expect(worst < 2e-6, "%g", worst);
  cr_expect_float_eq(against / rows, 0.25, 5.0 * 0.16 / sqrt(150.0), "%g", against / rows);
  cr_expect(truncated > 20 && short_ > 20, "from random to expert: %d whole, %g short",
            (int)truncated, short_);
  free(start);
  rgm_dataset_free(d);
}


// without random pushes every push is the rule's and nobody falls; with them alone half are, and
// episodes are as short as 20,000 of another implementation under random pushes (22.11 +- 0.08, sd
// 11.6; here are 300)
Test(cartpole, shares_of_random_pushes_are_what_was_asked) {
  static const struct {
    const char *low, *high;
    double differ, length, error;
  } cases[] = {{"env.random_low=0", "env.random_high=0", 0.0, 500.0, 0.0},
               {"env.random_low=1", "env.random_high=1", 0.5, 22.1, 3.4},
               {"env.random_low=0.3", "env.random_high=0.3", 0.15, 0.0, 0.0}};
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
    const char *const sets[] = {cases[i].low, cases[i].high, "simulate.patients=300"};
    rgm_dataset *d = data_of("b.h5", 3, sets);
    double differ = 0.0;
    for (int64_t r = 0; r < d->rows; r++) {
      double lean = 0.0;
      for (int k = 0; k < 4; k++) {
        lean += gain[k] * cell(d, names[k], r);
      }
      differ += (cell(d, "push", r) == 1.0) != (lean > 0.0);
    }
    const double n = (double)d->rows, p = cases[i].differ;
    cr_expect_float_eq(differ / n, p, 5.0 * sqrt(p * (1.0 - p) / n) + 1e-12, "case %d: %g", (int)i,
                       differ / n);
    cr_expect(cases[i].length == 0.0 || fabs(n / 300.0 - cases[i].length) <= cases[i].error,
              "case %d: %g steps", (int)i, n / 300.0);
    rgm_dataset_free(d);
  }
}


Test(cartpole, the_same_data_set_whoever_simulates) {
  static const char *const how[][2] = {{"run.threads=1", "run.isa=auto"},
                                       {"run.threads=5", "run.isa=auto"},
                                       {"run.threads=2", "run.isa=avx2"},
                                       {"run.backend=cuda", "simulate.patients=150"}};
  char first[65] = "";
  setenv("RGM_CUDA_MODULE", cuda_module(), 1);
  for (size_t i = 0; i < sizeof how / sizeof *how; i++) {
    rgm_dataset *d = data_of("c.h5", 2, how[i]);
    memcpy(first, first[0] == '\0' ? d->digest : first, sizeof first);
    cr_expect_str_eq(d->digest, first, "%s %s", how[i][0], how[i][1]);
    rgm_dataset_free(d);
  }
}


// what offline learning makes of it: no row of a whole episode but the last is left out
Test(cartpole, is_a_data_set_to_learn_from) {
  rgm_dataset *d = data_of("d.h5", 0, NULL);
  rgm_data_keys keys = {.seed = 1};
  const rgm_transitions *t = NULL;
  int64_t truncated = 0;
  snprintf(keys.path, sizeof keys.path, "%s", in_folder("d.h5"));
  cr_assert_eq(rgm_transitions_read(&keys, &t), RGM_OK, "%s", rgm_last_error());
  for (int64_t r = 0; r < d->rows; r++) {
    truncated += cell(d, "truncated", r) == 1.0;
  }
  cr_expect_eq(t->rows, d->rows - truncated);
  cr_expect(t->choices == 2 && t->states == 4 && t->part[RGM_VALIDATION] > 0);
  rgm_transitions_free(t);
  rgm_dataset_free(d);
  static const char *const sets[] = {"env.random_low=0.9", "env.random_high=0.1"};
  cr_expect_eq(simulate("e.h5", 2, sets), RGM_ECONFIG);
  cr_expect(strstr(rgm_last_error(), "random_low: 0.9 is above random_high, 0.1") != NULL, "%s",
            rgm_last_error());
}
