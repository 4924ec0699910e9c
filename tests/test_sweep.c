// SPDX-License-Identifier: Apache-2.0
// Sweeps: spaces and their points, refused sweeps, what is decided at rungs, summaries over seeds.

#include "tests/sweep_util.h"

TestSuite(sweep, .timeout = 300);

// ---- spaces ------------------------------------------------------------------------------------

// a point as "a|b|", with - for what does not count
static const char *point(const rgm_space *space, int64_t index) {
  static char text[4][512];
  static int turn;
  char *values[RGM_MAX_DIMENSIONS] = {NULL}, *out = text[turn = (turn + 1) % 4];
  size_t at = 0;
  cr_assert_eq(rgm_space_point(space, index, values), RGM_OK);
  out[0] = '\0';
  for (int d = 0; d < space->dim_count; d++) {
    at += (size_t)snprintf(out + at, 512 - at, "%s|", values[d] != NULL ? values[d] : "-");
    free(values[d]);
  }
  return out;
}


static double number_at(const rgm_space *space, int64_t index, int dim) {
  char *values[RGM_MAX_DIMENSIONS] = {NULL};
  cr_assert_eq(rgm_space_point(space, index, values), RGM_OK);
  const double x = values[dim] != NULL ? strtod(values[dim], NULL) : NAN;
  for (int d = 0; d < space->dim_count; d++) {
    free(values[d]);
  }
  return x;
}


#define RANDOM_DIMENSIONS                                                    \
  "  algorithm.lr: {min: 1e-3, max: 0.1, log: true}\n"                       \
  "  algorithm.evaluate: [last, ema]\n"                                      \
  "  algorithm.ema: {min: 0.1, max: 0.5, when: {algorithm.evaluate: ema}}\n" \
  "  algorithm.hidden: {min: 16, max: 25}\n"

Test(sweep, random_points_depend_on_seed_and_index_alone) {
  rgm_space *few = space_of(SWEEP "  trials: 3\n" RANDOM_DIMENSIONS);
  rgm_space *many = space_of(SWEEP "  trials: 40\n  seeds: 2\n  bracket: 7\n" RANDOM_DIMENSIONS);
  rgm_space *other = space_of(SWEEP "  trials: 40\n  seed: 2\n" RANDOM_DIMENSIONS);
  int equal = 0, conditions = 0;
  cr_assert(!many->grid && many->points == 40 && few->points == 3);
  for (int i = 0; i < 40; i++) {
    if (i < 3) {
      cr_expect_str_eq(point(few, i), point(many, i));
    }
    for (int k = 0; k < i; k++) {
      equal += strcmp(point(many, k), point(many, i)) == 0;
    }
    equal += strcmp(point(other, i), point(many, i)) == 0;

    // ema counts where evaluate is ema, and only there
    const char *text = point(many, i);
    const bool ema = strstr(text, "|ema|") != NULL;
    cr_expect(ema == (strstr(text, "|-|") == NULL), "%s", text);
    conditions += ema;
  }
  cr_expect_eq(equal, 0);
  cr_expect(conditions > 8 && conditions < 32, "%d of 40", conditions);
  rgm_space_free(few);
  rgm_space_free(many);
  rgm_space_free(other);
}


static int by_value(const void *a, const void *b) {
  const double x = *(const double *)a, y = *(const double *)b;
  return (x > y) - (x < y);
}


// largest distance between the distribution of dimension `dim` and the uniform or log-uniform one
static double distance(const rgm_space *space, int dim, bool logs, double min, double max) {
  enum { N = 10000 };
  static double x[N];
  double most = 0;
  for (int i = 0; i < N; i++) {
    x[i] = number_at(space, i, dim);
    cr_assert(x[i] >= min && x[i] <= max, "%g", x[i]);
  }
  qsort(x, N, sizeof *x, by_value);
  for (int i = 0; i < N; i++) {
    const double p = logs ? log(x[i] / min) / log(max / min) : (x[i] - min) / (max - min);
    most = fmax(most, fmax(fabs(p - i / (double)N), fabs(p - (i + 1) / (double)N)));
  }
  return most;
}


Test(sweep, random_points_have_the_distribution_asked_for) {
  rgm_space *space = space_of(SWEEP "  trials: 1\n"
                                    "  algorithm.lr: {min: 1e-4, max: 0.1, log: true}\n"
                                    "  algorithm.percentile: {min: 0.5, max: 0.9}\n"
                                    "  algorithm.hidden: {min: 16, max: 25}\n"
                                    "  algorithm.evaluate: [last, ema, last, ema]\n");
  // Kolmogorov-Smirnov at 1 % for n = 10,000: 1.628 / sqrt(n) (Smirnov 1948)
  const double lr = distance(space, 0, true, 1e-4, 0.1);
  const double percentile = distance(space, 1, false, 0.5, 0.9);
  cr_expect(lr < 0.01628, "lr %g", lr);
  cr_expect(percentile < 0.01628, "percentile %g", percentile);

  // ten whole numbers, chi-square at 1 % with 9 degrees of freedom: 21.67; no correlation
  int count[10] = {0}, both[2][2] = {{0}};
  for (int i = 0; i < 10000; i++) {
    const double x = number_at(space, i, 2);
    cr_assert(x == floor(x) && x >= 16 && x <= 25, "%g", x);
    count[(int)x - 16]++;
    both[number_at(space, i, 1) > 0.7][strstr(point(space, i), "ema") != NULL]++;
  }
  double square = 0, corners = 0;
  for (int i = 0; i < 10; i++) {
    square += (count[i] - 1000.0) * (count[i] - 1000.0) / 1000.0;
  }
  for (int i = 0; i < 4; i++) {
    corners += (both[i / 2][i % 2] - 2500.0) * (both[i / 2][i % 2] - 2500.0) / 2500.0;
  }
  cr_expect(square < 21.67, "%g", square);
  cr_expect(corners < 11.34, "%g", corners); // 3 degrees of freedom, 1 %
  rgm_space_free(space);
}


Test(sweep, grids_by_hand) {
  static const struct {
    const char *keys;
    const char *points[16];
  } rows[] = {
      {"  algorithm.evaluate: [last, ema]\n"
       "  algorithm.ema: {values: [0.1, 0.2], when: {algorithm.evaluate: ema}}\n"
       "  algorithm.lr: {min: 0.01, max: 0.03, count: 3}\n",
       {"last|-|0.01|", "last|-|0.02|", "last|-|0.03|", "ema|0.1|0.01|", "ema|0.1|0.02|",
        "ema|0.1|0.03|", "ema|0.2|0.01|", "ema|0.2|0.02|", "ema|0.2|0.03|"}},
      {"  algorithm.lr: {min: 0.001, max: 0.1, log: true, count: 3}\n",
       {"0.001|", "0.01|", "0.1|"}},
      {"  algorithm: {hidden: {min: 16, max: 19, count: 4}}\n", {"16|", "17|", "18|", "19|"}},
      {"  algorithm.lr: {min: 1, max: 3, count: 1}\n", {"2|"}},
      {"  algorithm.lr: 0.5\n  env.noise_sd: [0, 0.1]\n", {"0.5|0|", "0.5|0.1|"}},
      // a condition on a key of the base, and one on a condition
      {"  algorithm.lr: {values: [1, 2], when: {algorithm.optimizer: [adam, sgd]}}\n",
       {"1|", "2|"}},
      {"  algorithm.lr: {values: [1, 2], when: {algorithm.optimizer: sgd}}\n", {"-|"}},
      {"  algorithm.hidden: [16, 32]\n"
       "  algorithm.evaluate: {values: [last, ema], when: {algorithm.hidden: 32}}\n"
       "  algorithm.ema: {values: [0.1, 0.2], when: {algorithm.evaluate: ema}}\n",
       // where evaluate does not count it is the config's, ema
       {"16|-|0.1|", "16|-|0.2|", "32|last|-|", "32|ema|0.1|", "32|ema|0.2|"}},
      {"  seeds: 4\n", {""}},
  };
  for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
    char text[1024];
    snprintf(text, sizeof text, SWEEP "%s", rows[i].keys);
    rgm_space *space = space_of(text);
    int64_t n = 0;
    for (; n < 16 && rows[i].points[n] != NULL; n++) {
      if (n < space->points) {
        cr_expect_str_eq(point(space, n), rows[i].points[n], "row %zu: %s", i, point(space, n));
      }
    }
    cr_expect(space->grid && space->points == n, "row %zu: %d points", i, (int)space->points);
    rgm_space_free(space);
  }
}


Test(sweep, emitted_sweep_loads_to_the_same) {
  static const char *const keys[] = {
      "  trials: 20\n" RANDOM_DIMENSIONS,
      "  seeds: 3\n  algorithm.evaluate: [last, ema]\n"
      "  algorithm.ema: {values: [0.1, 0.2], when: {algorithm.evaluate: ema}}\n"
      "  algorithm.lr: {min: 0.01, max: 0.03, count: 3}\n",
      "  seeds: 7\n",
      "  metric: mean_return\n  mode: min\n  scheduler: pbt\n  trials: 9\n  factor: 1.7\n"
      "  env.noise_sd: {min: 0.01, max: 0.02}\n",
  };
  for (size_t i = 0; i < sizeof keys / sizeof *keys; i++) {
    char text[1024];
    snprintf(text, sizeof text, SWEEP "%s", keys[i]);
    rgm_space *space = space_of(text);
    char *once = rgm_space_emit(space);
    rgm_space *again = space_of(once);
    char *twice = rgm_space_emit(again);
    cr_expect_str_eq(once, twice);
    cr_expect_str_eq(space->digest, again->digest);
    cr_assert_eq(space->points, again->points);
    for (int64_t k = 0; k < space->points; k++) {
      cr_expect_str_eq(point(space, k), point(again, k));
    }
    rgm_space_free(space);
    rgm_space_free(again);
    free(once);
    free(twice);
  }
}


Test(sweep, digest_is_of_what_decides_the_results) {
  static const struct {
    const char *text;
    bool same;
  } rows[] = {
      {SWEEP "  trials: 4\n  algorithm.lr: {min: 1, max: 2}\n", true},
      {SWEEP "  algorithm.lr: {max: 2, min: 1}\n  trials: 4\n", true},
      {SWEEP "  trials: 4\n  pack: 3\n  keep: 2\n  lease: 5\n  memory: 10\n"
             "  algorithm.lr: {min: 1, max: 2}\n",
       true},
      {SWEEP "  trials: 5\n  algorithm.lr: {min: 1, max: 2}\n", false},
      {SWEEP "  trials: 4\n  seed: 2\n  algorithm.lr: {min: 1, max: 2}\n", false},
      {SWEEP "  trials: 4\n  seeds: 2\n  algorithm.lr: {min: 1, max: 2}\n", false},
      {SWEEP "  trials: 4\n  bracket: 2\n  algorithm.lr: {min: 1, max: 2}\n", false},
      {SWEEP "  trials: 4\n  algorithm.lr: {min: 1, max: 2.5}\n", false},
      {SWEEP "  trials: 4\n  algorithm.lr: {min: 1, max: 2, log: true}\n", false},
      {SWEEP "  trials: 4\n  env.noise_sd: {min: 0.1, max: 0.2}\n", false},
      {"env: {name: propofol, steps: 21}\nsweep: {trials: 4, algorithm.lr: {min: 1, max: 2}}\n"
       "algorithm: {name: cem, episodes: 4, hidden: 16}\nrun: {steps: 12}\n",
       false},
      {"env: {name: propofol, steps: 20}\nsweep: {trials: 4, algorithm.lr: {min: 1, max: 2}}\n"
       "algorithm: {name: cem, episodes: 4, hidden: 16}\nrun: {steps: 12, name: other}\n",
       true}, // names decide nothing
      {"run: {seed: 2}\nsweep: {trials: 4, algorithm.lr: {min: 1, max: 2}}\n"
       "algorithm: {name: cem}\nenv: {name: propofol}\n",
       false},
  };
  char first[65] = "";
  for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
    rgm_space *space = space_of(rows[i].text);
    if (i == 0) {
      snprintf(first, sizeof first, "%s", space->digest);
    }
    cr_expect_eq(strcmp(first, space->digest) == 0, rows[i].same, "row %zu", i);
    rgm_space_free(space);
  }
}


// ---- wrong sweeps ------------------------------------------------------------------------------

Test(sweep, wrong_sweeps_are_refused_by_place_and_name) {
  static const struct {
    const char *keys;
    const char *where, *what, *todo; // all in the message
  } rows[] = {
      {"  algorithm.lrr: [1]\n", "sweep.yaml:5:18: ", "sweep.algorithm.lrr: unknown key",
       "did you mean algorithm.lr?"},
      {"  trails: 5\n  algorithm.lr: [1]\n", "sweep.yaml:5:3: ", "sweep.trails: unknown key",
       "did you mean sweep.trials?"},
      {"  zzzzzzzzzz: 5\n  algorithm.lr: [1]\n", "sweep.yaml:5:3: ", "unknown key",
       "a swept key has its section"},
      {"  scheduler: pbd\n  algorithm.lr: [1]\n", "sweep.yaml:5:14: ", "sweep.scheduler",
       "none, halving, asha, pbt"},
      {"  trials: -1\n  algorithm.lr: [1]\n", "sweep.yaml:5:11: ", "sweep.trials", "[0, 1000000]"},
      {"  trials: 3\n  algorithm.lr: {min: 2, max: 1}\n", "sweep.yaml:6:17: ", "sweep.algorithm.lr",
       "min is not below max"},
      {"  trials: 3\n  algorithm.lr: {min: 2, max: 2}\n", "sweep.yaml:6:17: ", "an empty range",
       "min is not below max"},
      {"  trials: 3\n  algorithm.lr: {min: 2}\n", "sweep.yaml:6:17: ", "sweep.algorithm.lr",
       "needs min and max"},
      {"  trials: 3\n  algorithm.lr: {max: 2}\n", "sweep.yaml:6:17: ", "sweep.algorithm.lr",
       "needs min and max"},
      {"  trials: 3\n  algorithm.lr: {}\n", "sweep.yaml:6:17: ", "sweep.algorithm.lr",
       "needs min and max"},
      {"  trials: 3\n  algorithm.lr: {min: 0, max: 1, log: true}\n",
       "sweep.yaml:6:17: ", "sweep.algorithm.lr", "log needs a min above 0"},
      {"  trials: 3\n  algorithm.lr: {min: 0, max: 1, log: maybe}\n",
       "sweep.yaml:6:17: ", "sweep.algorithm.lr", "log is true or false"},
      {"  trials: 3\n  algorithm.lr: {min: x, max: 1}\n", "sweep.yaml:6:17: ", "sweep.algorithm.lr",
       "min is a number"},
      {"  trials: 3\n  algorithm.hidden: {min: 16.5, max: 20}\n",
       "sweep.yaml:6:21: ", "sweep.algorithm.hidden", "whole number"},
      {"  trials: 3\n  algorithm.evaluate: {min: 0, max: 1}\n",
       "sweep.yaml:6:23: ", "sweep.algorithm.evaluate", "give a list of values"},
      {"  algorithm.lr: []\n", "sweep.yaml:5:17: ", "sweep.algorithm.lr", "an empty list"},
      {"  algorithm.lr: {values: [1, 2], count: 5}\n", "sweep.yaml:5:17: ", "sweep.algorithm.lr",
       "a list of values and parts of a range"},
      {"  algorithm.lr: {values: [1, 2], min: 0}\n", "sweep.yaml:5:17: ", "sweep.algorithm.lr",
       "a list of values and parts of a range"},
      {"  algorithm.lr: [1, -2]\n", "sweep.yaml:5:17: ", "sweep.algorithm.lr", "[0, 100]"},
      {"  algorithm.lr: [1, x]\n", "sweep.yaml:5:17: ", "sweep.algorithm.lr", "got \"x\""},
      {"  trials: 3\n  algorithm.lr: {min: 1, max: 1e3}\n",
       "sweep.yaml:6:17: ", "sweep.algorithm.lr", "[0, 100]"},
      {"  algorithm.evaluate: [last, first]\n", "sweep.yaml:5:23: ", "sweep.algorithm.evaluate",
       "last, ema"},
      {"  algorithm.lr: {min: 0, max: 1}\n", "sweep.yaml:5:17: ", "sweep.algorithm.lr",
       "give it a count for a grid, or trials: N"},
      {"  search: grid\n  trials: 3\n  algorithm.lr: [0, 1]\n",
       "sweep.yaml:6:11: ", "the grid has 2 points", "leave trials out"},
      {"  search: random\n  algorithm.lr: [0, 1]\n", "sweep.yaml:5:3: ", "sweep.trials",
       "needs trials: N"},
      {"  run.seed: [1, 2]\n", "sweep.yaml:5:13: ", "sweep.run.seed", "seeds: N"},
      {"  run.steps: [1, 2]\n", "sweep.yaml:5:14: ", "sweep.run.steps", "cannot be swept"},
      {"  algorithm.name: [cem]\n", "sweep.yaml:5:19: ", "sweep.algorithm.name", "cannot be swept"},
      {"  algorithm.lr: {values: [1], when: {algorithm.optimzer: sgd}}\n",
       "sweep.yaml:5:17: ", "unknown key algorithm.optimzer", "did you mean algorithm.optimizer?"},
      {"  algorithm.lr: {values: [1], when: {env.sex: male, env.steps: 1}}\n",
       "sweep.yaml:5:17: ", "sweep.algorithm.lr", "one condition is enough"},
      {"  algorithm.lr: {values: [1], when: {env.noise_sd: 0}}\n  env.noise_sd: [0]\n",
       "sweep.yaml:5:17: ", "sweep.algorithm.lr", "stands below it"},
      {"  pack: one\n  algorithm.hidden: [16, 32]\n", "sweep.yaml:6:21: ", "sweep.algorithm.hidden",
       "use pack: auto"},
      {"  scheduler: pbt\n  algorithm.hidden: [16, 32]\n",
       "sweep.yaml:6:21: ", "sweep.algorithm.hidden", "use another scheduler"},
      {"  trials: 3\n", "sweep.yaml:5:3: ", "nothing is swept", "or seeds"},
  };
  for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
    char text[1024];
    rgm_space *space;
    snprintf(text, sizeof text, SWEEP "%s", rows[i].keys);
    cr_expect_eq(try_space(text, &space), RGM_ECONFIG, "accepted:\n%s", rows[i].keys);
    cr_expect(strstr(rgm_last_error(), rows[i].where) != NULL &&
                  strstr(rgm_last_error(), rows[i].what) != NULL &&
                  strstr(rgm_last_error(), rows[i].todo) != NULL,
              "row %zu: %s", i, rgm_last_error());
    rgm_space_free(space);
  }
}


Test(sweep, wrong_sweeps_are_refused_where_they_start, .init = make_folder, .fini = remove_folder) {
  static const struct {
    const char *keys;
    const char *where, *what, *todo;
  } rows[] = {
      {"  metric: nonsense\n", "a.yaml:5:11: ", "sweep.metric", "return_smoothed"},
      {"  pack: many\n", "a.yaml:5:9: ", "sweep.pack", "auto, one, or a number"},
      {"  pack: 0\n", "a.yaml:5:9: ", "sweep.pack", "auto, one, or a number"},
      {"  scheduler: halving\n  first: 12\n", "a.yaml:6:10: ", "sweep.first", "lower it"},
  };
  for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
    char text[1024];
    snprintf(text, sizeof text, SWEEP "%s  algorithm.lr: [0.1, 1]\n", rows[i].keys);
    write_file("a.yaml", text);
    cr_expect_eq(run_sweep("out", NULL), RGM_ECONFIG, "accepted:\n%s", rows[i].keys);
    cr_expect(strstr(rgm_last_error(), rows[i].where) != NULL &&
                  strstr(rgm_last_error(), rows[i].what) != NULL &&
                  strstr(rgm_last_error(), rows[i].todo) != NULL,
              "row %zu: %s", i, rgm_last_error());
  }

  // commands that do not fit
  write_file("a.yaml", SWEEP "  algorithm.lr: [0.1, 1]\n");
  char path[512], out[512];
  snprintf(path, sizeof path, "%s/a.yaml", folder);
  snprintf(out, sizeof out, "%s/out", folder);
  cr_expect_neq(access(out, F_OK), 0, "a refused sweep left its folder");
  const rgm_options train = {.path = path, .out = out};
  cr_expect_eq(rgm_train(&train), RGM_ECONFIG);
  cr_expect(strstr(rgm_last_error(), "a.yaml:4:1: a sweep is run by `regimen sweep`") != NULL, "%s",
            rgm_last_error());
  cr_assert_eq(run_sweep("out", NULL), RGM_OK, "%s", rgm_last_error());
  cr_expect_eq(run_sweep("out", NULL), RGM_EUSAGE);
  cr_expect(strstr(rgm_last_error(), "--resume") != NULL, "%s", rgm_last_error());
  cr_expect_eq(run_sweep("out", (const char *const[]){"run.steps=13", NULL}), RGM_EUSAGE);
  cr_expect(strstr(rgm_last_error(), "holds another sweep") != NULL, "%s", rgm_last_error());
  snprintf(path, sizeof path, "%s/out/work", folder);
  cr_expect_neq(access(path, F_OK), 0);
  write_file("a.yaml", BASE);
  cr_expect_eq(run_sweep("out2", NULL), RGM_ECONFIG);
  cr_expect(strstr(rgm_last_error(), "no sweep section; `regimen train`") != NULL, "%s",
            rgm_last_error());
}


// ---- decisions ---------------------------------------------------------------------------------

static rgm_bracket *rest(const rgm_sweep *s, int rung, const float *scores, unsigned failed) {
  const int64_t seeds = s->space->keys.seeds;
  rgm_bracket *b = NULL;
  cr_assert_eq(rgm_bracket_blank(s, 0, &b), RGM_OK, "%s", rgm_last_error());
  for (int i = 0; i < b->count; i++) {
    rgm_entrant *e = &b->trials[i];
    e->rung = rung;
    e->step = s->rung_step[rung];
    e->status = failed >> i & 1 ? RGM_TRIAL_FAILED : RGM_TRIAL_RESTING;
    e->state = failed >> i & 1 ? NULL : make_state(s, (float)i);
    for (int64_t r = 0; r < seeds; r++) {
      e->scores[rung * seeds + r] = scores[i] + (float)(r - (seeds - 1) / 2);
    }
  }
  return b;
}


// how many trials stand before trial i: better ones, equal ones of a lower index; NaN is last
static int rank_of(const float *scores, unsigned failed, int n, int i, bool less) {
  const bool none = (failed >> i & 1) || isnan(scores[i]);
  int before = 0;
  for (int k = 0; k < n; k++) {
    const bool other = (failed >> k & 1) || isnan(scores[k]);
    if (none || other) {
      before += none && (!other || k < i);
    } else {
      before += (less ? scores[k] < scores[i] : scores[k] > scores[i]) ||
                (scores[k] == scores[i] && k < i);
    }
  }
  return before;
}


Test(sweep, halving_as_computed_otherwise) {
  static const struct {
    const char *keys;
    int n, reduction, seeds;
  } rows[] = {
      {"  trials: 16\n  reduction: 4\n", 16, 4, 1},
      {"  trials: 17\n  reduction: 4\n  mode: min\n", 17, 4, 1},
      {"  trials: 7\n  reduction: 3\n  seeds: 3\n", 7, 3, 3},
      {"  trials: 2\n  reduction: 4\n", 2, 4, 1},
      {"  trials: 1\n  reduction: 2\n", 1, 2, 1},
      {"  trials: 40\n  bracket: 13\n  reduction: 2\n  mode: min\n", 13, 2, 1},
  };
  uint64_t state = 7;
  for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
    char keys[256];
    snprintf(keys, sizeof keys, "  scheduler: halving\n%s  algorithm.lr: {min: 0.1, max: 1}\n",
             rows[i].keys);
    rgm_sweep *s = make_sweep(keys, 3);
    for (int round = 0; round < 60; round++) {
      // few different scores, so that there are ties; some are NaN, some trials failed
      float scores[32];
      unsigned failed = 0;
      for (int k = 0; k < rows[i].n; k++) {
        scores[k] = draw(&state) % 9 == 0 ? NAN : (float)(draw(&state) % 5) - 2.0f;
        failed |= (unsigned)(draw(&state) % 7 == 0) << k;
      }
      const int rung = round % 2;
      int going = 0;
      rgm_bracket *b = rest(s, rung, scores, failed);
      cr_assert_eq(b->count, rows[i].n);
      cr_assert_eq(rgm_bracket_decide(s, b), RGM_OK, "%s", rgm_last_error());
      const int keep = rows[i].n / rows[i].reduction > 1 ? rows[i].n / rows[i].reduction : 1;
      for (int k = 0; k < b->count; k++) {
        const rgm_entrant *e = &b->trials[k];
        const bool goes = rank_of(scores, failed, b->count, k, s->is_min) < keep;
        const rgm_trial_status expected = failed >> k & 1 ? RGM_TRIAL_FAILED
                                          : goes          ? RGM_TRIAL_READY
                                                          : RGM_TRIAL_STOPPED;
        cr_expect_eq(e->status, expected, "row %zu round %d trial %d: %d", i, round, k, e->status);
        cr_expect_eq(e->rung, rung + (e->status == RGM_TRIAL_READY));
        cr_expect_eq(e->state != NULL, e->status == RGM_TRIAL_READY);
        going += e->status == RGM_TRIAL_READY;
      }
      cr_expect(going <= keep && (going > 0 || rgm_bracket_ended(b)));
      rgm_bracket_free(s, b);
    }
    free_sweep(s);
  }
}


#define PBT                                          \
  "  scheduler: pbt\n  trials: 8\n  seeds: 2\n"      \
  "  algorithm.lr: {min: 0.01, max: 1, log: true}\n" \
  "  algorithm.percentile: [0.5, 0.6, 0.7, 0.8]\n"   \
  "  algorithm.evaluate: [last, ema]\n"              \
  "  algorithm.ema: {min: 0.1, max: 0.5, when: {algorithm.evaluate: ema}}\n"

static int place_in(const rgm_dimension *dim, const char *text) {
  int i = 0;
  while (i < dim->count && strcmp(dim->values[i], text) != 0) {
    i++;
  }
  return i;
}


// what a trial that took over holds: its donor's state, hyperparameters one step away
static void check_heir(const rgm_sweep *s, const rgm_entrant *e, const rgm_entrant *donor) {
  const double factor = s->space->keys.factor;
  const float *mine = e->state->records[0].data, *theirs = donor->state->records[0].data;
  cr_expect(mine != theirs && memcmp(mine, theirs, 6 * sizeof *mine) == 0);
  const double from = strtod(donor->values[0], NULL), to = strtod(e->values[0], NULL);
  const double up = fmin(from * factor, 1), down = fmax(from / factor, 0.01);
  cr_expect(fabs(to / up - 1) < 1e-5 || fabs(to / down - 1) < 1e-5, "%g from %g", to, from);
  cr_expect(to >= 0.01 && to <= 1);
  const int before = place_in(&s->space->dims[1], donor->values[1]);
  const int after = place_in(&s->space->dims[1], e->values[1]);
  cr_expect(after < 4 && abs(after - before) == 1 - (after == before && (after % 3 == 0)),
            "%s from %s", e->values[1], donor->values[1]);
  const bool ema = strcmp(e->values[2], "ema") == 0;
  cr_expect_eq(e->values[3] != NULL, ema);
  if (ema) {
    const double x = strtod(e->values[3], NULL);
    cr_expect(x >= 0.1 && x <= 0.5, "%g", x);
  }
}


Test(sweep, pbt_worst_take_over_from_best) {
  rgm_sweep *s = make_sweep(PBT, 4);
  uint64_t state = 11;
  int heirs = 0;
  for (int round = 0; round < 50; round++) {
    float scores[8];
    for (int i = 0; i < 8; i++) {
      scores[i] = (float)(draw(&state) % 100);
    }
    const unsigned failed = round % 5 == 4 ? 1u << draw(&state) % 8 : 0;
    rgm_bracket *b = rest(s, 0, scores, failed), *twin = rest(s, 0, scores, failed);
    for (int i = 0; i < 8; i++) {
      b->trials[i].draws = twin->trials[i].draws = (uint32_t)round * 10;
    }
    cr_assert_eq(rgm_bracket_decide(s, b), RGM_OK, "%s", rgm_last_error());
    cr_assert_eq(rgm_bracket_decide(s, twin), RGM_OK, "%s", rgm_last_error());
    for (int i = 0; i < 8; i++) {
      const rgm_entrant *e = &b->trials[i];
      const int rank = rank_of(scores, failed, 8, i, false);
      cr_expect(e->status == RGM_TRIAL_READY && e->rung == 1, "trial %d: %d", i, e->status);
      cr_expect_eq(e->parent >= 0, rank >= 6, "trial %d of rank %d", i, rank);
      if (e->parent >= 0) {
        cr_expect(rank_of(scores, failed, 8, (int)e->parent, false) < 2);
        check_heir(s, e, &b->trials[e->parent]);
        heirs++;
      } else {
        cr_expect_eq(e->draws, round * 10u);
      }
      // the same again gives the same
      cr_expect(twin->trials[i].parent == e->parent && twin->trials[i].draws == e->draws);
      for (int d = 0; d < s->space->dim_count; d++) {
        const char *x = e->values[d] != NULL ? e->values[d] : "-";
        cr_expect_str_eq(x, twin->trials[i].values[d] != NULL ? twin->trials[i].values[d] : "-");
      }
    }
    rgm_bracket_free(s, b);
    rgm_bracket_free(s, twin);
  }
  cr_expect_eq(heirs, 100);
  free_sweep(s);

  // a small whole number moves too, and stays inside
  rgm_space *space = space_of(SWEEP "  trials: 2\n  algorithm.hidden: {min: 2, max: 4}\n");
  int moves = 0, ends[2] = {0};
  for (uint32_t i = 0; i < 100; i++) {
    static const char *const from[] = {"2", "3", "4"};
    char *to = NULL;
    cr_assert_eq(rgm_space_perturb(space, 0, from[i % 3], 0, i + 1, &to), RGM_OK);
    cr_expect(strlen(to) == 1 && to[0] >= '2' && to[0] <= '4', "%s", to);
    cr_expect(i % 3 != 1 || to[0] != '3');
    moves += to[0] != from[i % 3][0];
    ends[0] += to[0] == '2';
    ends[1] += to[0] == '4';
    free(to);
  }
  cr_expect(moves > 58 && ends[0] > 10 && ends[1] > 10, "%d %d %d", moves, ends[0], ends[1]);
  rgm_space_free(space);
}


Test(sweep, summary_over_seeds) {
  // mean; s.d. (n - 1) / sqrt(n); mean of the ranks from n / 4 to 3 n / 4, values at the edge by
  // their share, by hand. n = 4: scipy.stats.trim_mean(x, 0.25) gives the same 2.5; n = 9: the
  // example of the interquartile mean with 9 observations in textbooks, 9.
  static const struct {
    int n;
    float x[10];
    double mean, error, iqm;
  } rows[] = {
      {1, {2.5f}, 2.5, NAN, 2.5},
      {2, {3, 1}, 2, 1, 2},
      {4, {10, 1, 3, 2}, 4, 2.0412414523193152, 2.5},                 // sqrt(50 / 3 / 4)
      {5, {100, 7, 1, 3, 2}, 22.6, 19.376790239872030, 3.9},          // sqrt(7509.2 / 4 / 5)
      {9, {1, 3, 5, 7, 9, 11, 13, 15, 17}, 9, 1.8257418583505538, 9}, // sqrt(240 / 8 / 9)
      {10,
       {100, 81, 64, 49, 36, 25, 16, 9, 4, 1},
       38.5,
       10.806633765115450,
       32.5}, // sqrt(10510.5 / 90)
  };
  for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
    rgm_seeds over;
    rgm_seed_summary(rows[i].x, rows[i].n, &over);
    cr_expect(fabs(over.mean - rows[i].mean) < 1e-9, "row %zu: mean %.12g", i, over.mean);
    cr_expect(isnan(rows[i].error) ? isnan(over.error) : fabs(over.error - rows[i].error) < 1e-8,
              "row %zu: error %.12g", i, over.error);
    cr_expect(fabs(over.iqm - rows[i].iqm) < 1e-9, "row %zu: iqm %.12g", i, over.iqm);
  }
}
