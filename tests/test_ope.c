// SPDX-License-Identifier: Apache-2.0
// Off-policy evaluation of staged starts against ref_ope.json: R's and Python's values on the
// simulated validation cohort, with given folds; resamples, clones and imputed sets against tables
// that say the same at length; and the imputation's laws on invented tables.

#include "algorithms/adr.h"
#include "algorithms/dwols.h"
#include "algorithms/mice_private.h"
#include "kernels/logistic.h"
#include "tests/dwols_util.h"

#include <unistd.h>

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


// ref_ope.json, adr_cluster_se: sums over patients of what their rows say, from the mean
Test(ope, errors_over_patients) {
  static const struct {
    const char *policy;
    double whole, cut, against;
  } rows[] = {
      {"crude", 2.11219550902544, 2.11219588333962, 3.15977842571127},
      {"stringent", 1.16372584195175, 1.16372584195175, 3.47077923326071},
      {"treat_all", 2.22692252234597, 2.22694164036711, 3.17733538123105},
      {"observed", 3.6270657367385, 3.6270657367385, 0},
  };
  char path[512];
  need_data("rrt/val_cohort.csv", path);
  const char *whole[] = {"algorithm.replicates=0", "algorithm.rows=published",
                         "algorithm.observed=published", "algorithm.clip=0", NULL};
  const char *cut[] = {"algorithm.replicates=0", "algorithm.rows=published",
                       "algorithm.observed=published", "algorithm.clip=0.01", NULL};
  char *a = evaluate("configs/rrt_evaluate.yaml", whole);
  char *b = evaluate("configs/rrt_evaluate.yaml", cut);
  for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
    const double got[] = {figure(a, rows[i].policy, NULL, "cluster_se"),
                          figure(b, rows[i].policy, NULL, "cluster_se"),
                          figure(b, rows[i].policy, NULL, "minus_observed_cluster_se")};
    close_to(got, &rows[i].whole, 3, 1e-9, rows[i].policy);
  }
  free(a);
  free(b);
}


// ref_ope.json, wis with nine covariates, as published
Test(ope, nine_covariates) {
#define NINE "age + male + weight + immuno + sofa + "
  static const struct {
    const char *policy;
    double hmor, hfd, starts, ess;
  } rows[] = {
      {"crude", 0.228510310767687, 28.814627632084, 0.588133863632783, 177.14922710265},
      {"stringent", 0.283023822852356, 25.4252109380789, 0.178280718783461, 392.778074706586},
      {"treat_all", 0.219872914655715, 32.8611254611985, 1, 150.993224242985},
      {"observed", 0.224572375694011, 28.1249959256071, 0.739961418974546, 478.827242415113},
  };
  char path[512];
  need_data("rrt/val_cohort.csv", path);
  const char *sets[] = {"algorithm.replicates=0",
                        "algorithm.rows=published",
                        "algorithm.observed=published",
                        "algorithm.stage1.propensity=" NINE "bun_k1 + uo_k1 + pot_k1 + ph_k1",
                        "algorithm.stage2.propensity=" NINE "bun_k2 + uo_k2 + pot_k2 + ph_k2",
                        "algorithm.stage3.propensity=" NINE "bun_k3 + uo_k3 + pot_k3 + ph_k3",
                        NULL};
  const char *plain[] = {"algorithm.replicates=0", NULL};
  char *json = evaluate("configs/rrt_wis.yaml", sets);
  for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
    const double got[] = {
        figure(json, rows[i].policy, "hmor", "wis"), figure(json, rows[i].policy, "hfd", "wis"),
        figure(json, rows[i].policy, "starts", "wis"), figure(json, rows[i].policy, NULL, "ess")};
    close_to(got, &rows[i].hmor, 4, 1e-9, rows[i].policy);
  }
  free(json);
  // corrected, what was observed is its mean: 280 of 1,068 died (by awk)
  json = evaluate("configs/rrt_wis.yaml", plain);
  cr_assert_float_eq(figure(json, "observed", "hmor", "wis"), 280.0 / 1068.0, 1e-12);
  free(json);
}


// intervals do not depend on threads
Test(ope, same_resamples) {
  static const char *const nuisances[] = {"algorithm.nuisance=linear", "algorithm.nuisance=forest"};
  char path[512];
  need_data("rrt/val_cohort.csv", path);
  for (int k = 0; k < 2; k++) {
    const char *one[] = {"algorithm.replicates=6", "run.threads=1", nuisances[k], NULL};
    const char *three[] = {"algorithm.replicates=6", "run.threads=3", "run.isa=avx2", nuisances[k],
                           NULL};
    char *a = evaluate("configs/rrt_evaluate.yaml", one);
    char *b = evaluate("configs/rrt_evaluate.yaml", three);
    cr_assert_str_eq(a, b);
    free(a);
    free(b);
  }
}


// ---- tables ------------------------------------------------------------------------------------

// Writes rows of a frame as often as `count` says (NULL: once), one column more before them unless
// `extra` is NULL: its value in every row.
static void write_rows(FILE *out, const rgm_frame *f, const uint8_t *count, const char *extra,
                       int value, bool header) {
  for (int j = 0; header && j < f->columns; j++) {
    fprintf(out, "%s%s%s", j == 0 && extra != NULL ? extra : "", j == 0 && extra == NULL ? "" : ",",
            f->column[j].name);
  }
  for (int64_t i = -1; i < f->rows; i++) {
    for (int c = 0; i >= 0 && c < (count != NULL ? count[i] : 1); c++) {
      if (extra != NULL) {
        fprintf(out, "%d,", value);
      }
      for (int j = 0; j < f->columns; j++) {
        fprintf(out, "%s%.17g", j > 0 ? "," : "", f->value[i * f->columns + j]);
      }
      fprintf(out, "\n");
    }
    if (i < 0 && header) {
      fprintf(out, "\n");
    }
  }
}


// A resample in a lane is the table with its rows as often as they were drawn, clones with their
// patients.
Test(ope, a_resample_is_its_rows) {
  char path[512], name[] = "/tmp/regimen_ope_XXXXXX", set[128];
  uint8_t count[1068];
  double value[OPE_POLICIES * RGM_FIT_LANES];
  adr_fits f;
  ope_tables t;
  ope_data d;
  need_data("rrt/val_cohort.csv", path);
  const char *none[] = {"algorithm.replicates=0", NULL};
  rgm_run *run = make_run("configs/rrt_evaluate.yaml", none);
  cr_assert_eq(ope_open(run, &t), RGM_OK, "%s", rgm_last_error());
  cr_assert_eq(ope_load(run, &t, 0, false, true, &d), RGM_OK, "%s", rgm_last_error());
  cr_assert_eq(adr_open(&d, run->stream, 5, 2, &f), RGM_OK, "%s", rgm_last_error());
  adr_fit(&f, 1, 2);
  adr_score(&f, 1, 0.01, value, NULL);
  int lane = 0;
  while (lane < RGM_FIT_LANES - 1 && f.separated[RGM_FIT_LANES + lane] > 0) {
    lane++;
  }
  int64_t patients = 0;
  cr_assert(ope_draw(&d, 5, 1 + RGM_FIT_LANES + lane, count, 1));
  for (int64_t i = 0; i < d.N; i++) {
    const double clone = d.frame.value[i * d.frame.columns + rgm_frame_find(&d.frame, "clone")];
    patients += clone == 0 ? count[i] : 0;
  }
  cr_assert_eq(patients, 931, "%d drawn", (int)patients);
  FILE *out = fdopen(mkstemp(name), "w");
  write_rows(out, &d.frame, count, "copy", 0, true);
  fclose(out);
  snprintf(set, sizeof set, "data.path=%s", name);
  const char *sets[] = {"algorithm.replicates=0", set, NULL};
  char *json = evaluate("configs/rrt_evaluate.yaml", sets);
  for (int p = 0; p < d.policies; p++) {
    const double got = value[p * RGM_FIT_LANES + lane];
    const double want = figure(json, d.policy[p].name, NULL, "value");
    close_to(&got, &want, 1, 1e-8, d.policy[p].name);
  }
  free(json);
  unlink(name);
  adr_close(&f);
  ope_free(&d);
  ope_close(&t);
  rgm_run_free(run);
}


// the clones of the table left out and made again; three sets by Rubin's rules, of which values and
// errors come from the tables apart
Test(ope, clones_and_imputed_sets) {
  char path[512], name[] = "/tmp/regimen_ope_XXXXXX", alone[] = "/tmp/regimen_ope_XXXXXX";
  char set[128], set_alone[128];
  rgm_frame f;
  need_data("rrt/val_cohort.csv", path);
  const char *none[] = {"algorithm.replicates=0", "algorithm.fold=\"\"", NULL};
  const char *cloned[] = {"algorithm.replicates=0", "algorithm.fold=\"\"",
                          "algorithm.drop=clone == 1", "algorithm.clone=standard == 1", NULL};
  char *a = evaluate("configs/rrt_evaluate.yaml", none);
  char *b = evaluate("configs/rrt_evaluate.yaml", cloned);
  for (int k = 0; k < 2; k++) {
    const double got = figure(b, "crude", NULL, k == 0 ? "value" : "cluster_se");
    const double want = figure(a, "crude", NULL, k == 0 ? "value" : "cluster_se");
    close_to(&got, &want, 1, 1e-10, "cloned again");
  }
  free(a);
  free(b);

  cr_assert_eq(rgm_frame_read(path, &f), RGM_OK, "%s", rgm_last_error());
  const int creatinine = rgm_frame_find(&f, "creat_k1"), bun = rgm_frame_find(&f, "bun_k1");
  FILE *all = fdopen(mkstemp(name), "w");
  close(mkstemp(alone));
  snprintf(set, sizeof set, "data.path=%s", name);
  snprintf(set_alone, sizeof set_alone, "data.path=%s", alone);
  const char *one[] = {"algorithm.replicates=0", set_alone, NULL};
  const char *three[] = {"algorithm.replicates=0", set, "algorithm.imputation=set",
                         "algorithm.interval=t", NULL};
  double value[3], within = 0.0, between = 0.0, mean = 0.0;
  for (int m = 0; m < 3; m++) {
    for (int64_t i = m; i < f.rows; i += 3) {
      f.value[i * f.columns + creatinine] *= 1.3 + 0.2 * m;
      f.value[i * f.columns + bun] *= 0.8;
    }
    write_rows(all, &f, NULL, "set", 7 - m, m == 0);
    FILE *out = fopen(alone, "w");
    write_rows(out, &f, NULL, "set", 1, true);
    fclose(out);
    char *json = evaluate("configs/rrt_evaluate.yaml", one);
    value[m] = figure(json, "crude", NULL, "value");
    const double se = figure(json, "crude", NULL, "cluster_se");
    mean += value[m] / 3;
    within += se * se / 3;
    free(json);
  }
  fclose(all);
  for (int m = 0; m < 3; m++) {
    between += (value[m] - mean) * (value[m] - mean) / 2;
  }
  // Rubin 1987; Barnard & Rubin 1999 with 930 complete-data degrees of freedom
  const double total = within + 4.0 / 3.0 * between, lambda = 4.0 / 3.0 * between / total;
  const double old = 2.0 / (lambda * lambda), seen = 931.0 / 933.0 * 930.0 * (1.0 - lambda);
  const double want[] = {mean, sqrt(total), lambda, old * seen / (old + seen)};
  char *json = evaluate("configs/rrt_evaluate.yaml", three);
  const double got[] = {figure(json, "crude", NULL, "value"), figure(json, "crude", "rubin", "se"),
                        figure(json, "crude", "rubin", "lambda"),
                        figure(json, "crude", "rubin", "df")};
  cr_assert_gt(between, 1e-4);
  close_to(got, want, 4, 1e-9, "pooled");
  free(json);
  unlink(name);
  unlink(alone);
  rgm_frame_free(&f);
}


// each with what is wrong
Test(ope, refused_tables) {
  static const struct {
    const char *text, *set, *says;
  } rows[] = {
      {"m,a\n1,0\n1,1\n2,0\n", "algorithm.imputation=m", "fewer rows than imputation 1"},
      {"m,a\n1,0\n2,1\n2,0\n", "algorithm.imputation=m", "more or fewer rows"},
      {"m,a,id\n1,0,4\n2,0,5\n", "algorithm.imputation=m", "the patient is another one"},
      {"m,a\n1,0\n,1\n", "algorithm.imputation=m", ":3: imputation: m is missing"},
      {"m,a\n1,0\n1,1\n", "algorithm.drop=m == 1", "leaves no rows"},
      {"m,a\n1,0\n2,1\n", "algorithm.clone=m", ":3: clone: m is neither 0 nor 1"},
      {"m,a\n1,0\n2,1\n", "algorithm.clone=n", "n"},
  };
  for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
    char name[] = "/tmp/regimen_ope_XXXXXX", set[128];
    FILE *out = fdopen(mkstemp(name), "w");
    fprintf(out, "%s", rows[i].text);
    fclose(out);
    snprintf(set, sizeof set, "data.path=%s", name);
    const bool has_id = strstr(rows[i].text, "id") != NULL;
    const char *sets[] = {set, rows[i].set, has_id ? "algorithm.id=id" : "algorithm.id=\"\"", NULL};
    rgm_run *run = make_run("configs/rrt_evaluate.yaml", sets);
    rgm_json nowhere = {.out = NULL};
    const rgm_status status = run->algorithm->evaluate(run, &nowhere, NULL);
    cr_assert_eq(rgm_exit_code(status), 65, "row %zu: %s", i, rgm_last_error());
    cr_assert_not_null(strstr(rgm_last_error(), rows[i].says), "row %zu: %s", i, rgm_last_error());
    rgm_run_free(run);
    unlink(name);
  }
}


// ref_rubin.json, recommend: the two cases away from the published app's inputs
Test(ope, advice_away_from_the_app) {
  static const struct {
    double h[4];
    int first, count;
    double value, se, low, high;
  } rows[] = {
      {{1, 0.05, 1.5}, 9, 3, 12.5296674577888, 2.9998049171113, 6.65015785960449, 18.4091770559731},
      {{1, 88, 6, 6.1},
       0,
       4,
       5.11452191371577,
       3.45578311829945,
       -1.65868853653267,
       11.8877323639642},
  };
  char path[512];
  need_data("rrt/imputed_cells_m10.csv", path);
  const char *sets[] = {"algorithm.hierarchy=as_published",
                        "algorithm.resample=splitmix",
                        "algorithm.imputations=10",
                        "run.steps=10",
                        "algorithm.replicates=199",
                        "algorithm.impute.given=true",
                        NULL};
  rgm_run *run = make_run("configs/rrt_dwols.yaml", sets);
  train(run, 10);
  const double *psi = tensor(run, "psi"), *total = tensor(run, "total");
  for (size_t i = 0; i < 2; i++) {
    double value = 0.0, square = 0.0;
    for (int a = 0; a < rows[i].count; a++) {
      value += rows[i].h[a] * psi[rows[i].first + a];
      for (int b = 0; b < rows[i].count; b++) {
        square += rows[i].h[a] * rows[i].h[b] * total[(rows[i].first + a) * 12 + rows[i].first + b];
      }
    }
    const double half = 1.959963984540054 * sqrt(square);
    const double got[] = {value, sqrt(square), value - half, value + half};
    close_to(got, &rows[i].value, 4, 1e-9, "advice");
  }
  rgm_run_free(run);
}


// ---- predictions in lanes ----------------------------------------------------------------------

// against long double, with odd sizes; the same bits on AVX2, AVX-512 and CUDA (on the CPU)
Test(ope, predictions_in_lanes) {
  enum { G = 3, ROWS = 67, ALL = 90, P = 7, L = RGM_FIT_LANES };
  static const char *const streams[][2] = {{"cpu", "auto"}, {"cpu", "avx2"}, {"cuda", "auto"}};
  double x[ROWS * P], beta[G * P * L], want[2][G * ALL * L], got[G * ALL * L];
  uint32_t rows[ROWS];
  rgm_rng rng = {.key = {9, 4}};
  for (int i = 0; i < ROWS * P; i++) {
    x[i] = rgm_rng_range(&rng, -2, 2);
  }
  for (int i = 0; i < G * P * L; i++) {
    beta[i] = rgm_rng_range(&rng, -1, 1);
  }
  for (int i = 0; i < ROWS; i++) {
    rows[i] = (uint32_t)(i + i / 3);
  }
  setenv("RGM_CUDA_MODULE", RGM_CUDA_HOST_MODULE, 1);
  for (int k = 0; k < 6; k++) {
    rgm_stream *s = NULL;
    char note[512];
    const rgm_device_options options = {1 + k % 3, streams[k / 2][1], 0};
    cr_assert_eq(rgm_open(streams[k / 2][0], &options, &s, note, sizeof note), RGM_OK, "%s",
                 rgm_last_error());
    rgm_predict p = {.out = rgm_view(NULL, RGM_F64, G, ALL, L, 0),
                     .x = rgm_view(NULL, RGM_F64, 1, ROWS, P, 0),
                     .beta = rgm_view(NULL, RGM_F64, G, P, L, 0),
                     .rows = rgm_view(NULL, RGM_U32, 1, ROWS, 0, 0),
                     .logistic = k % 2 == 1};
    rgm_tensor *const tensors[] = {&p.out, &p.x, &p.beta, &p.rows};
    const void *const from[] = {got, x, beta, rows};
    for (int i = 0; i < G * ALL * L; i++) {
      got[i] = -7.0;
    }
    for (int i = 0; i < 4; i++) {
      cr_assert_eq(s->backend->alloc(s, rgm_bytes(*tensors[i]), &tensors[i]->data), RGM_OK);
      rgm_copy(s, tensors[i]->data, from[i], rgm_bytes(*tensors[i]));
    }
    p.x.dims[0] = p.rows.dims[0] = G;
    p.x.stride0 = p.rows.stride0 = 0;
    rgm_predict_rows(s, &p);
    rgm_copy(s, got, p.out.data, sizeof got);
    cr_assert_eq(rgm_sync(s), RGM_OK);
    for (int i = 0; i < G * ALL * L && k < 2; i++) {
      const int g = i / L / ALL, row = i / L % ALL, lane = i % L, at = row - row / 4;
      long double eta = 0;
      want[k][i] = got[i];
      for (int j = 0; j < P; j++) {
        eta += (long double)x[at % ROWS * P + j] * beta[(g * P + j) * L + lane];
      }
      const double value = (double)(k == 1 ? 1 / (1 + expl(-eta)) : eta);
      const bool written = row % 4 != 3 && at < ROWS;
      cr_assert_float_eq(got[i], written ? value : -7.0, 1e-14, "element %d", i);
    }
    cr_assert_eq(memcmp(got, want[k % 2], sizeof got), 0, "stream %d", k / 2);
    for (int i = 0; i < 4; i++) {
      s->backend->release(s, tensors[i]->data);
    }
    rgm_close(s);
  }
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


// Cells that far predictors decide, imputed many times by the Bayesian linear model: their
// covariance is rss / (n - p - 2) (I + H), H = X0 (X'X)^-1 X0', by the posterior predictive law
// under the standard prior (Gelman et al. 2013, Bayesian Data Analysis, section 14.2).
Test(ope, draws_of_a_linear_model) {
  enum { ROWS = 22, SEEN = 20, SETS = 20000, COLUMNS = 3 };
  static const char names[COLUMNS][64] = {"x", "z", "y"};
  rgm_config *config = NULL;
  rgm_stream *stream = NULL;
  char note[512];
  const rgm_device_options options = {2, "auto", 0};
  cr_assert_eq(rgm_config_parse("test", "run: {steps: 1}\n", NULL, 0, &config), RGM_OK);
  cr_assert_eq(rgm_open("cpu", &options, &stream, note, sizeof note), RGM_OK);
  rgm_frame f;
  cr_assert_eq(rgm_frame_names(names, COLUMNS, &f), RGM_OK);
  f.value = realloc(f.value, sizeof(double) * COLUMNS * ROWS);
  f.rows = ROWS;
  rgm_rng rng = {.key = {3, 9}};
  double x[ROWS][COLUMNS], gram[COLUMNS][COLUMNS] = {{0}}, right[COLUMNS] = {0}, h[2][COLUMNS];
  for (int i = 0; i < ROWS; i++) {
    float n0, n1;
    rgm_normals(rgm_rng_next(&rng), rgm_rng_next(&rng), &n0, &n1);
    const double far = i < SEEN ? 0.0 : i == SEEN ? 3.0 : -2.0;
    x[i][0] = 1.0;
    x[i][1] = n0 + far;
    x[i][2] = 0.8 * n0 + 0.6 * n1 + 0.5 * far;
    rgm_normals(rgm_rng_next(&rng), rgm_rng_next(&rng), &n0, &n1);
    f.value[i * COLUMNS] = x[i][1];
    f.value[i * COLUMNS + 1] = x[i][2];
    f.value[i * COLUMNS + 2] = i < SEEN ? 1.0 + x[i][1] - x[i][2] + n0 : NAN;
  }
  // coefficients, rss, and H of the two cells
  double all[COLUMNS * COLUMNS], copy[COLUMNS * COLUMNS], rss = 0.0;
  int column;
  for (int i = 0; i < SEEN; i++) {
    for (int j = 0; j < COLUMNS; j++) {
      for (int k = 0; k < COLUMNS; k++) {
        gram[j][k] += x[i][j] * x[i][k];
      }
      right[j] += x[i][j] * f.value[i * COLUMNS + 2];
    }
  }
  memcpy(all, gram, sizeof all);
  cr_assert(dwols_solve(memcpy(copy, all, sizeof all), right, COLUMNS, &column));
  for (int i = 0; i < 2; i++) {
    memcpy(h[i], x[SEEN + i], sizeof h[i]);
    cr_assert(dwols_solve(memcpy(copy, all, sizeof all), h[i], COLUMNS, &column));
  }
  for (int i = 0; i < SEEN; i++) {
    double r = f.value[i * COLUMNS + 2];
    for (int j = 0; j < COLUMNS; j++) {
      r -= x[i][j] * right[j];
    }
    rss += r * r;
  }
  mice_plan *plan;
  mice_keys keys = {.iterations = 1, .donors = 5, .methods = "y = norm"};
  cr_assert_eq(mice_prepare(config, "algorithm", &keys, "test", &f, SETS, 3, &plan), RGM_OK, "%s",
               rgm_last_error());
  double *values = malloc(sizeof(double) * SETS * ROWS * COLUMNS), mean[2] = {0}, of[3] = {0};
  cr_assert_eq(mice_complete(plan, stream, 0, SETS, values), RGM_OK, "%s", rgm_last_error());
  for (int pass = 0; pass < 2; pass++) {
    for (int k = 0; k < SETS; k++) {
      const double *row = values + ((int64_t)k * ROWS + SEEN) * COLUMNS;
      const double a = row[2] - mean[0], b = row[COLUMNS + 2] - mean[1];
      of[0] += a * a / SETS;
      of[1] += b * b / SETS;
      of[2] += a * b / SETS;
      if (pass == 0) {
        mean[0] += (row[2] - mean[0]) / (k + 1);
        mean[1] += (row[COLUMNS + 2] - mean[1]) / (k + 1);
      }
    }
    if (pass == 0) {
      memset(of, 0, sizeof of);
    }
  }
  static const int pair[3][2] = {{0, 0}, {1, 1}, {0, 1}};
  for (int k = 0; k < 3; k++) {
    const int i = pair[k][0], j = pair[k][1];
    double want = i == j;
    for (int c = 0; c < COLUMNS; c++) {
      want += x[SEEN + i][c] * h[j][c];
    }
    want *= rss / (SEEN - COLUMNS - 2);
    cr_assert_float_eq(of[k], want, 0.05 * (k < 2 ? want : sqrt(of[0] * of[1])),
                       "covariance %d: %g, not %g", k, of[k], want);
  }
  for (int i = 0; i < 2; i++) {
    double want = 0.0;
    for (int c = 0; c < COLUMNS; c++) {
      want += x[SEEN + i][c] * right[c];
    }
    cr_assert_float_eq(mean[i], want, 0.03 * sqrt(of[i]), "mean %d: %g, not %g", i, mean[i], want);
  }
  free(values);
  mice_free(plan);
  rgm_frame_free(&f);
  rgm_close(stream);
  rgm_config_free(config);
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
