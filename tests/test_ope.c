// SPDX-License-Identifier: Apache-2.0
// Off-policy evaluation of staged starts against ref_ope.json: R's and Python's values on the
// simulated validation cohort, with given folds; and the imputation's laws on invented tables.

#include "algorithms/mice_private.h"
#include "tests/dwols_util.h"

TestSuite(ope, .timeout = 300);

// what an evaluation writes as JSON, to be freed
static char *evaluate(const char *config, const char *const *sets) {
  char *text = NULL;
  size_t size = 0;
  rgm_run *run = make_run(config, sets);
  rgm_json json = {.out = open_memstream(&text, &size)};
  cr_assert_eq(run->algorithm->evaluate(run, &json, NULL), RGM_OK, "%s", rgm_last_error());
  fclose(json.out);
  rgm_run_free(run);
  return text;
}


// the number behind the first `key` after `policy`, and after `section` unless NULL
static double figure(const char *json, const char *policy, const char *section, const char *key) {
  char name[64];
  const char *parts[] = {policy, section, key};
  json = strstr(json, "\"policies\":");
  for (int i = 0; i < 3; i++) {
    if (parts[i] != NULL) {
      snprintf(name, sizeof name, "\"%s\":", parts[i]);
      json = strstr(json, name);
      cr_assert_not_null(json, "no %s", name);
      json += strlen(name);
    }
  }
  return strtod(json, NULL);
}


// ref_ope.json, adr, at two levels of clipping; the corrected observed policy of the published
// propensities is 1.0998018 (an independent implementation), 0.56 the truth
Test(ope, advantage_doubly_robust) {
  static const struct {
    const char *policy, *clip;
    double want;
  } rows[] = {
      {"crude", "0", 3.04365599246861},        {"stringent", "0", 1.29339251566285},
      {"observed", "0", -0.552978992905047},   {"treat_all", "0", 7.42334522268594},
      {"crude", "0.05", 3.14261500906879},     {"stringent", "0.02", 1.29339251566285},
      {"observed", "0.05", -0.62299777535448}, {"treat_all", "0.01", 7.4235915338073},
  };
  char path[512];
  need_data("rrt/val_cohort.csv", path);
  const char *published[] = {"algorithm.replicates=0", "algorithm.rows=published",
                             "algorithm.observed=published", "algorithm.clip=0", NULL};
  const char *corrected[] = {"algorithm.replicates=0", "algorithm.rows=published",
                             "algorithm.clip=0", NULL};
  char *json = evaluate("configs/rrt_evaluate.yaml", published);
  for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
    const double got = figure(json, rows[i].policy, "clip", rows[i].clip);
    close_to(&got, &rows[i].want, 1, 1e-9, rows[i].policy);
  }
  free(json);
  json = evaluate("configs/rrt_evaluate.yaml", corrected);
  cr_assert_float_eq(figure(json, "observed", "clip", "0"), 1.0998018, 5e-8);
  free(json);
}


// ref_ope.json, wis with four covariates; alive-only values of an independent implementation
Test(ope, weighted_importance_sampling) {
  static const struct {
    const char *policy;
    double hmor, hfd, starts, ess, alive;
  } rows[] = {
      {"crude", 0.225851738400899, 28.868835598582, 0.589514862022097, 180.919515077756,
       0.224209033},
      {"stringent", 0.28277929739826, 25.460838278188, 0.184195638164989, 386.05731417711,
       0.282450430},
      {"treat_all", 0.216604689305309, 32.6355207467294, 1, 154.517895178864, 0.216604689},
  };
  char path[512];
  need_data("rrt/val_cohort.csv", path);
  const char *published[] = {"algorithm.replicates=0", "algorithm.rows=published", NULL};
  const char *corrected[] = {"algorithm.replicates=0", NULL};
  char *json = evaluate("configs/rrt_wis.yaml", published);
  char *alive = evaluate("configs/rrt_wis.yaml", corrected);
  for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
    const double got[] = {
        figure(json, rows[i].policy, "hmor", "wis"), figure(json, rows[i].policy, "hfd", "wis"),
        figure(json, rows[i].policy, "starts", "wis"), figure(json, rows[i].policy, NULL, "ess")};
    close_to(got, &rows[i].hmor, 4, 1e-9, rows[i].policy);
    cr_assert_float_eq(figure(alive, rows[i].policy, "hmor", "wis"), rows[i].alive, 5e-10);
  }
  free(json);
  free(alive);
}


// intervals do not depend on threads
Test(ope, same_resamples) {
  char path[512];
  need_data("rrt/val_cohort.csv", path);
  const char *one[] = {"algorithm.replicates=6", "run.threads=1", NULL};
  const char *three[] = {"algorithm.replicates=6", "run.threads=3", NULL};
  char *a = evaluate("configs/rrt_evaluate.yaml", one);
  char *b = evaluate("configs/rrt_evaluate.yaml", three);
  cr_assert_str_eq(a, b);
  free(a);
  free(b);
}


// ---- imputation --------------------------------------------------------------------------------

// Two normal columns with correlation 0.8 and their thresholds as words; half of one is missing at
// random given the other. Imputed: the mean and slope of the complete law, within their errors.
static void invent(rgm_frame *f, int64_t rows) {
  static const char names[4][64] = {"x", "y", "level", "sum"};
  rgm_rng rng = {.key = {7, 7}};
  cr_assert_eq(rgm_frame_names(names, 4, f), RGM_OK);
  f->value = realloc(f->value, (size_t)(4 * rows) * sizeof *f->value);
  f->rows = rows;
  for (int64_t i = 0; i < rows; i++) {
    float n0, n1;
    rgm_normals(rgm_rng_next(&rng), rgm_rng_next(&rng), &n0, &n1);
    const double x = n0, y = 0.8 * n0 + 0.6 * n1, u = rgm_rng_range(&rng, 0, 1);
    double *row = f->value + 4 * i;
    row[0] = x;
    row[1] = u < (x > 0 ? 0.7 : 0.3) ? NAN : y;
    row[2] = rgm_rng_range(&rng, 0, 1) < 0.3 ? NAN : (y > -0.5) + (y > 0.5);
    row[3] = row[0] + row[1];
  }
}


Test(ope, imputations_have_the_law_of_the_data) {
  enum { ROWS = 4000, SETS = 8 };
  static const char *const methods[] = {"y = pmm, level = polyreg", "y = norm, level = polyreg"};
  rgm_config *config = NULL;
  rgm_stream *stream = NULL;
  char note[512];
  const rgm_device_options options = {2, "auto", 0};
  cr_assert_eq(rgm_config_parse("test", "run: {steps: 1}\n", NULL, 0, &config), RGM_OK);
  cr_assert_eq(rgm_open("cpu", &options, &stream, note, sizeof note), RGM_OK);
  for (int k = 0; k < 2; k++) {
    rgm_frame f;
    mice_plan *plan;
    mice_keys keys = {.iterations = 5, .donors = 5};
    snprintf(keys.methods, sizeof keys.methods, "%s", methods[k]);
    snprintf(keys.derived, sizeof keys.derived, "sum = x + y");
    invent(&f, ROWS);
    cr_assert_eq(mice_prepare(config, "algorithm", &keys, "test", &f, SETS, 3, &plan), RGM_OK, "%s",
                 rgm_last_error());
    double *values = malloc((size_t)(SETS * ROWS * 4) * sizeof *values);
    double *alone = malloc((size_t)(ROWS * 4) * sizeof *alone), mean = 0, cross = 0, top = 0;
    cr_assert_eq(mice_complete(plan, stream, 0, SETS, values), RGM_OK, "%s", rgm_last_error());
    for (int64_t i = 0; i < SETS * ROWS; i++) {
      const double *row = values + 4 * i;
      cr_assert(isfinite(row[1]) && isfinite(row[2]));
      cr_assert_float_eq(row[3], row[0] + row[1], 1e-12, "a derived column");
      mean += row[1] / (SETS * ROWS);
      cross += row[0] * row[1] / (SETS * ROWS);
      top += (row[2] == 2) / (double)(SETS * ROWS);
    }
    // standard errors of 2,000 seen rows: 0.02 each; P(y > 0.5) = 0.3085 (normal tables)
    cr_assert_float_eq(mean, 0.0, 0.06, "mean %g", mean);
    cr_assert_float_eq(cross, 0.8, 0.06, "slope %g", cross);
    cr_assert_float_eq(top, 0.3085, 0.04, "share %g", top);
    cr_assert_eq(mice_complete(plan, stream, 5, 1, alone), RGM_OK);
    cr_assert_eq(memcmp(alone, values + 5 * ROWS * 4, ROWS * 4 * sizeof *alone), 0, "chain 5");
    free(values);
    free(alone);
    mice_free(plan);
    rgm_frame_free(&f);
  }
  rgm_close(stream);
  rgm_config_free(config);
}
