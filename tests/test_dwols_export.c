// SPDX-License-Identifier: Apache-2.0
// What an evaluation of staged rules leaves in its folder: completed tables in CSV and HDF5, traces
// of chains and R-hat, Table 1; each recomputed here from the data in another way.

#include "algorithms/dwols.h"
#include "engine/dataset.h"
#include "engine/frame.h"
#include "tests/dwols_util.h"

#include <unistd.h>

TestSuite(dwols_export, .timeout = 120);

enum { SETS = 3 };

// A trained run and the folder and JSON of its evaluation.
typedef struct evaluated {
  rgm_run *run;
  char folder[64], json[96];
  rgm_frame data; // as observed
} evaluated;


static evaluated *evaluate(void) {
  static const char *const sets[] = {"algorithm.imputations=3", "run.steps=3",
                                     "algorithm.replicates=0", "algorithm.export=both", NULL};
  evaluated *e = calloc(1, sizeof *e);
  char path[512];
  need_data("rrt/imputed_cells_m10.csv", path);
  cr_assert_not_null(e);
  snprintf(e->folder, sizeof e->folder, "/tmp/rgm_export_%d", (int)getpid());
  snprintf(e->json, sizeof e->json, "%s/result.json", e->folder);
  cr_assert_eq(mkdir(e->folder, 0700), 0);
  e->run = make_run("configs/rrt_dwols.yaml", sets);
  train(e->run, SETS);
  snprintf(e->run->out, sizeof e->run->out, "%s", e->folder);
  FILE *file = fopen(e->json, "w");
  rgm_json json = {.out = file};
  cr_assert_eq(e->run->algorithm->evaluate(e->run, &json, NULL), RGM_OK, "%s", rgm_last_error());
  fclose(file);
  return e;
}


static void clean(evaluated *e) {
  char command[128];
  snprintf(command, sizeof command, "rm -rf %s", e->folder);
  cr_assert_eq(system(command), 0);
  rgm_run_free(e->run);
  free(e);
}


static void read_file(const evaluated *e, const char *name, rgm_frame *out) {
  char path[512];
  snprintf(path, sizeof path, "%s/%s", e->folder, name);
  cr_assert_eq(rgm_frame_read(path, out), RGM_OK, "%s", rgm_last_error());
}


// observed cells are as they were, the others are filled; CSV and HDF5 hold the same; nobody else
// may read them
static void check_tables(const evaluated *e, const rgm_frame *all, const rgm_frame *data) {
  char path[512];
  struct stat info;
  rgm_dataset *d = NULL;
  const int64_t N = data->rows;
  int64_t missing = 0, filled = 0;
  snprintf(path, sizeof path, "%s/imputed.h5", e->folder);
  cr_assert_eq(rgm_dataset_read(path, &d), RGM_OK, "%s", rgm_last_error());
  cr_assert_eq(stat(path, &info), 0);
  cr_assert_eq(info.st_mode & 0777, 0600);
  snprintf(path, sizeof path, "%s/imputed.csv", e->folder);
  cr_assert_eq(stat(path, &info), 0);
  cr_assert_eq(info.st_mode & 0777, 0600);
  cr_assert_eq(all->rows, (SETS + 1) * N);
  cr_assert_eq(d->rows, (SETS + 1) * N);
  cr_assert_eq(all->columns, data->columns + 2);
  for (int64_t row = 0; row < all->rows; row++) {
    const double *x = all->value + row * all->columns;
    const double *base = all->value + row % N * all->columns;
    cr_assert(x[0] == (double)(row / N) && x[1] == (double)(row % N + 1));
    for (int c = 0; c < all->columns; c++) {
      const double cell = rgm_cell_get(&d->column[c], row);
      cr_assert(cell == x[c] || (isnan(cell) && isnan(x[c])), "row %d column %d", (int)row, c);
      if (c >= 2 && !isnan(base[c])) {
        cr_assert_eq(x[c], base[c]);
        cr_assert_eq(x[c], data->value[row % N * data->columns + c - 2]);
      }
      missing += c >= 2 && isnan(base[c]) && row >= N;
      filled += c >= 2 && isnan(base[c]) && row >= N && isfinite(x[c]);
    }
  }
  // 6,409 cells lack a value (data/rrt/README.md)
  cr_assert_eq(missing, 6409 * SETS);
  cr_assert_eq(filled, missing);
  rgm_dataset_free(d);
}


// the last iteration's mean and deviation are those of the completed cells
static void check_traces(const rgm_frame *all, const rgm_frame *traces, int64_t N) {
  const int column = rgm_frame_find(traces, "column"), mean = rgm_frame_find(traces, "mean");
  cr_assert_eq(traces->rows, SETS * 5 * 14);
  for (int64_t row = 0; row < traces->rows; row++) {
    const double *t = traces->value + row * traces->columns;
    const int c = rgm_frame_find(all, traces->column[column].level[(int)t[column]]);
    long double sum = 0, square = 0, count = 0;
    if (t[1] != 5) {
      continue;
    }
    for (int64_t i = 0; i < N; i++) {
      const double x = all->value[((int64_t)t[0] * N + i) * all->columns + c];
      if (isnan(all->value[i * all->columns + c])) {
        sum += x;
        square += (long double)x * x;
        count += 1;
      }
    }
    const double want = (double)(sum / count);
    const double sd = (double)sqrtl((square - sum * sum / count) / (count - 1));
    cr_assert_float_eq(t[mean], want, 1e-9 * fabs(want));
    cr_assert_float_eq(t[mean + 1], sd, 1e-7 * sd);
  }
}


// a number of the JSON object, after some keys one after the other
static double number_after(const char *text, const char *const *keys) {
  for (; *keys != NULL; keys++) {
    text = strstr(text, *keys);
    cr_assert_not_null(text, "%s", *keys);
    text += strlen(*keys);
  }
  return strtod(text + strspn(text, "\": \n"), NULL);
}


// R-hat of pH at stage 1 from the file of traces: pooled variances as in coda's gelman.diag without
// its correction for degrees of freedom
static void check_rhat(const rgm_frame *traces, const char *json) {
  static const char *const keys[] = {"\"imputation_rhat\"", "\"ph_k1\"", "\"mean\"", NULL};
  const int column = rgm_frame_find(traces, "column"), mean = rgm_frame_find(traces, "mean");
  const int level = rgm_frame_level(&traces->column[column], "ph_k1");
  double sum[SETS] = {0}, square[SETS] = {0}, within = 0, all = 0, all2 = 0;
  for (int64_t row = 0; row < traces->rows; row++) {
    const double *t = traces->value + row * traces->columns;
    if (t[column] == level) {
      sum[(int)t[0] - 1] += t[mean] - 7.3;
      square[(int)t[0] - 1] += (t[mean] - 7.3) * (t[mean] - 7.3);
    }
  }
  for (int i = 0; i < SETS; i++) {
    within += (square[i] - sum[i] * sum[i] / 5) / 4 / SETS;
    all += sum[i] / 5;
    all2 += sum[i] / 5 * sum[i] / 5;
  }
  const double between = (all2 - all * all / SETS) / (SETS - 1);
  cr_assert_float_eq(number_after(json, keys), sqrt(0.8 + between / within), 1e-6);
}


// age at stage 1 and a share at stage 3
static void check_table1(const rgm_frame *all, const rgm_frame *data, const char *json) {
  static const char *const smd[] = {"\"table1\"", "\"age\"", "\"smd\"", NULL};
  static const char *const median[] = {"\"table1\"", "\"age\"", "\"treated\"", "\"median\"", NULL};
  static const char *const male[] = {"\"table1\"", "\"age\"",       "\"age\"",   "\"age\"",
                                     "\"male\"",   "\"untreated\"", "\"share\"", NULL};
  const int age = rgm_frame_find(data, "age"), a1 = rgm_frame_find(data, "a1");
  const int is_male = rgm_frame_find(data, "male");
  long double n[2] = {0}, sum[2] = {0}, square[2] = {0}, men = 0, last = 0;
  int64_t below = 0, equal = 0;
  const double middle = number_after(json, median);
  for (int64_t row = 0; row < data->rows; row++) {
    const double *x = data->value + row * data->columns;
    const int a = x[a1] != 0;
    n[a] += 1;
    sum[a] += x[age];
    square[a] += (long double)x[age] * x[age];
    below += a && x[age] < middle;
    equal += a && x[age] == middle;
    last += x[a1 + 1] == 0 && x[a1 + 2] == 0;
    men += x[a1 + 1] == 0 && x[a1 + 2] == 0 && x[is_male] == 1;
  }
  // what was not measured: rows of set 0 without a pH
  static const char *const gaps[] = {"\"table1\"", "\"ph_k1\"", "\"all\"", "\"missing\"", NULL};
  const int ph = rgm_frame_find(all, "ph_k1");
  double missing = 0.0;
  for (int64_t row = 0; row < data->rows; row++) {
    missing += isnan(all->value[row * all->columns + ph]) != 0;
  }
  cr_assert(missing > 0 && number_after(json, gaps) == missing);
  long double variance = 0;
  for (int a = 0; a < 2; a++) {
    variance += (square[a] - sum[a] * sum[a] / n[a]) / (n[a] - 1) / 2;
  }
  const double want = (double)((sum[1] / n[1] - sum[0] / n[0]) / sqrtl(variance));
  cr_assert_float_eq(number_after(json, smd), want, 1e-9);
  cr_assert(2 * below <= 171 && 2 * (below + equal) >= 171, "median %g", middle);
  cr_assert_float_eq(number_after(json, male), (double)(men / last), 1e-12);
}


Test(dwols_export, files_of_an_evaluation) {
  evaluated *e = evaluate();
  char path[512], *json = calloc(1, 1 << 20);
  rgm_frame all, traces, data;
  need_data("rrt/dev_complete.csv", path);
  cr_assert_eq(rgm_frame_read(path, &data), RGM_OK);
  read_file(e, "imputed.csv", &all);
  read_file(e, "traces.csv", &traces);
  FILE *file = fopen(e->json, "r");
  cr_assert_gt(fread(json, 1, (1 << 20) - 1, file), 0);
  fclose(file);
  check_tables(e, &all, &data);
  check_traces(&all, &traces, data.rows);
  check_rhat(&traces, json);
  check_table1(&all, &data, json);
  rgm_frame_free(&all);
  rgm_frame_free(&traces);
  rgm_frame_free(&data);
  free(json);
  clean(e);
}


// small counts are hidden in every form
Test(dwols_export, small_counts_are_hidden) {
  char path[64], set[96], *text = NULL;
  size_t size;
  snprintf(path, sizeof path, "/tmp/rgm_table1_%d.csv", (int)getpid());
  snprintf(set, sizeof set, "data.path=%s", path);
  FILE *file = fopen(path, "w");
  fprintf(file, "y,a,x,rare,half\n");
  for (int i = 0; i < 60; i++) {
    fprintf(file, "%d,%d,%d,%d,%d\n", i % 7, i % 2, i % 11, i < 8, i % 4 < 2);
  }
  fclose(file);
  const char *sets[] = {set,
                        "run.steps=1",
                        "algorithm.name=dwols",
                        "algorithm.outcome=y",
                        "algorithm.stages=1",
                        "algorithm.replicates=0",
                        "algorithm.stage1.treatment=a",
                        "algorithm.stage1.propensity=x",
                        "algorithm.stage1.free=x",
                        NULL};
  rgm_run *run = make_run(NULL, sets);
  train(run, 1);
  file = open_memstream(&text, &size);
  rgm_json json = {.out = file};
  cr_assert_eq(run->algorithm->evaluate(run, &json, NULL), RGM_OK, "%s", rgm_last_error());
  fclose(file);
  const char *rare = strstr(strstr(text, "\"table1\""), "\"rare\"");
  const char *half = strstr(rare, "\"half\"");
  const char *share = strstr(rare, "\"share\": null");
  cr_assert(share != NULL && share < half, "four of a kind in each arm are shown");
  cr_assert_null(strstr(half, "\"share\": null"), "thirty are not");
  rgm_run_free(run);
  free(text);
  unlink(path);
}


// ---- bootstrap, then imputation ----------------------------------------------------------------

// by hand: means 2, 4, 6 of three resamples of two imputations, mean squares 8 between and 4
// within; and without any difference within, where it is that of a mean
Test(dwols_export, components_of_variance) {
  static const double psi[] = {1, 7, 3, 7, 2, 8, 6, 8, 5, 9, 7, 9};
  dwols_boot boot;
  dwols_boot_pool(3, 2, 2, psi, &boot);
  cr_assert_float_eq(boot.psi[0], 4, 1e-14);
  cr_assert_float_eq(boot.se[0], sqrt(10.0 / 3.0), 1e-14);
  cr_assert_float_eq(boot.df[0], 5.0 / 7.0, 1e-14);
  cr_assert_float_eq(boot.psi[1], 8, 1e-14);
  cr_assert_float_eq(boot.se[1], sqrt(4.0 / 3.0), 1e-14);
  cr_assert_float_eq(boot.df[1], 2, 1e-14);
}


// the same for any threads, near to what the run itself has (standard errors of 5 resamples are
// good to 35 %, and more is not asked of them here); refused where nothing is to be imputed
Test(dwols_export, resampled_then_imputed) {
  static const char *const one[] = {"algorithm.imputations=3", "run.steps=3",
                                    "algorithm.replicates=40", "algorithm.boot_first=5",
                                    "run.threads=1",           NULL};
  static const char *const three[] = {"algorithm.imputations=3", "run.steps=3",
                                      "algorithm.replicates=40", "algorithm.boot_first=5",
                                      "run.threads=3",           NULL};
  static const char *const given[] = {"algorithm.imputations=3", "run.steps=3",
                                      "algorithm.boot_first=5", "algorithm.impute.given=true",
                                      NULL};
  static const char *const whole[] = {"algorithm.boot_first=5", NULL};
  char path[512];
  need_data("rrt/imputed_cells_m10.csv", path);
  dwols_boot a, b;
  rgm_run *run = make_run("configs/rrt_dwols.yaml", one);
  train(run, 3);
  cr_assert_eq(dwols_boot_first(run, ((dwols *)run->self)->model, &a), RGM_OK, "%s",
               rgm_last_error());
  cr_assert_eq(a.resamples + a.failed, 5);
  for (int i = 0; i < 12; i++) {
    const double se = sqrt(tensor(run, "total")[i * 12 + i]);
    cr_assert_leq(fabs(a.psi[i] - tensor(run, "psi")[i]), 2 * se, "psi %d: %g", i, a.psi[i]);
    cr_assert(a.se[i] > 0.15 * se && a.se[i] < 3 * se, "se %d: %g, not %g", i, a.se[i], se);
  }
  rgm_run_free(run);
  run = make_run("configs/rrt_dwols.yaml", three);
  cr_assert_eq(dwols_boot_first(run, ((dwols *)run->self)->model, &b), RGM_OK);
  cr_assert_eq(memcmp(&a, &b, sizeof a), 0);
  rgm_run_free(run);
  run = make_run("configs/rrt_dwols.yaml", given);
  cr_assert_eq(dwols_boot_first(run, ((dwols *)run->self)->model, &b), RGM_EUSAGE);
  cr_assert_not_null(strstr(rgm_last_error(), "imputations are given"));
  rgm_run_free(run);
  run = make_run("configs/rrt_dwols_complete.yaml", whole);
  cr_assert_eq(dwols_boot_first(run, ((dwols *)run->self)->model, &b), RGM_EUSAGE);
  cr_assert_not_null(strstr(rgm_last_error(), "nothing is imputed"));
  rgm_run_free(run);
}
