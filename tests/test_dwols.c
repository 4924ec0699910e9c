// SPDX-License-Identifier: Apache-2.0
// Staged treatment rules against R: the reference fits of the simulated cohort (R 4.2.2, glm with
// epsilon 1e-13 and lm by QR), every bootstrap replicate, Rubin's rules, what DTRreg 2.4 prints,
// and the pooling of mice; formulas; bits; messages for bad inputs.

#include "algorithms/dwols.h"
#include "algorithms/mice_private.h"
#include "kernels/rng.h"
#include "tests/dwols_util.h"

#include <unistd.h>

TestSuite(dwols, .timeout = 300);

#define COMPLETE "configs/rrt_dwols_complete.yaml"
#define PUBLISHED "algorithm.hierarchy=as_published"
#define PORTABLE "algorithm.resample=splitmix"

// the published formulas, from spec and ref_dwols.json
static const double published[12] = {-22.4324124284279,    0.126918040124197, 0.670689802313881,
                                     2.01417482668534,     -1.53727762410104, 0.681061237440384,
                                     -0.00327455995546127, -26.1910813817674, -11.2424229856215,
                                     4.32836544453904,     -13.6571064586227, 6.70802905022096};
static const double hierarchical[12] = {-22.4324022418595,    0.126914232900227, 0.6706167805682,
                                        2.01434382686702,     -1.56040002823028, 0.681270576944312,
                                        -0.00328202336258776, -25.8023951563685, -11.2427994137324,
                                        4.32836544453904,     -13.6571064586227, 6.70802905022096};
static const double boot_se[12] = {9.26353533767641,   0.0772096824560393, 0.515236289355266,
                                   1.79928307145647,   6.99701997461701,   0.510458179480816,
                                   0.0507452525787686, 43.6556350978616,   4.43167627748368,
                                   8.95092323050279,   4.48161060481183,   6.53399530140306};


Test(dwols, reference_cohort) {
  char path[512];
  need_data("rrt/dev_complete.csv", path);
  const char *sets[] = {PUBLISHED, PORTABLE, NULL};
  rgm_run *run = make_run(COMPLETE, sets);
  train(run, 1);
  close_to(tensor(run, "psi"), published, 12, 1e-9, "psi");

  // deviances, sums of weights, mean pseudo-outcomes, sandwich of the last stage's blip
  static const double deviance[] = {1303.14547543192, 933.412459763837, 739.153272309637};
  static const double weight[] = {315.099091345194, 211.716606264724, 165.031223972651};
  static const double pseudo[] = {40.2864921768026, 39.987502428766};
  static const double sandwich[] = {8.74525043099012, 4.2850707535435, 6.46507712823773};
  const double *diag = tensor(run, "diagnostics"), *total = tensor(run, "total");
  for (int k = 0; k < 3; k++) {
    close_to(&diag[k * DIAG_COUNT + DIAG_DEVIANCE], &deviance[k], 1, 1e-10, "deviance");
    close_to(&diag[k * DIAG_COUNT + DIAG_WEIGHT_SUM], &weight[k], 1, 1e-10, "weights");
    if (k < 2) {
      close_to(&diag[k * DIAG_COUNT + DIAG_PSEUDO_MEAN], &pseudo[k], 1, 1e-10, "pseudo-outcome");
    }
  }
  close_to(tensor(run, "sandwich") + 16 + 17 + 5 + 8, sandwich, 3, 1e-9, "sandwich");
  for (int i = 0; i < 12; i++) {
    const double se = sqrt(total[i * 12 + i]);
    close_to(&se, &boot_se[i], 1, 1e-9, "bootstrap se");
  }

  // every replicate; the file has 12 digits
  rgm_frame reference;
  need_data("rrt/ref_dwols_boot999_authors.csv", path);
  cr_assert_eq(rgm_frame_read(path, &reference), RGM_OK, "%s", rgm_last_error());
  cr_assert_eq(reference.rows, 999);
  const double *replicate = tensor(run, "replicates");
  for (int64_t b = 0; b < 999; b++) {
    for (int i = 0; i < 12; i++) {
      const double want = reference.value[b * 13 + i + 1], got = replicate[b * 12 + i];
      cr_assert_leq(fabs(got - want), 1e-9 * fmax(fabs(want), boot_se[i]),
                    "replicate %d of %d: %.15g, not %.15g", (int)b, i, got, want);
    }
  }
  rgm_frame_free(&reference);
  rgm_run_free(run);
}


Test(dwols, hierarchy_and_single_precision) {
  char path[512];
  need_data("rrt/dev_complete.csv", path);
  const char *full[] = {PORTABLE, NULL}, *single[] = {PORTABLE, "algorithm.single=true", NULL};
  rgm_run *a = make_run(COMPLETE, full), *b = make_run(COMPLETE, single);
  train(a, 1);
  train(b, 1);
  close_to(tensor(a, "psi"), hierarchical, 12, 1e-9, "psi");
  close_to(tensor(b, "psi"), hierarchical, 12, 1e-9, "psi of single");
  for (int i = 0; i < 12; i++) {
    const double wide = sqrt(tensor(a, "total")[i * 12 + i]);
    const double narrow = sqrt(tensor(b, "total")[i * 12 + i]);
    close_to(&narrow, &wide, 1, 1e-4, "se in single");
    for (int r = 0; r < 999; r++) {
      const double error =
          fabs(tensor(a, "replicates")[r * 12 + i] - tensor(b, "replicates")[r * 12 + i]);
      cr_assert_leq(error, 1e-3 * boot_se[i], "replicate %d of %d in single", r, i);
    }
  }
  rgm_run_free(a);
  rgm_run_free(b);
}


// golden_dtrreg_2.4.csv: estimates and sandwich errors that DTRreg printed; its glm stops at a
// change of 1e-8 of the deviance, which moves them by up to some 1e-8
Test(dwols, what_dtrreg_prints) {
  static const struct {
    const char *set;
    double psi[4], se[4];
  } rows[] = {
      {"algorithm.weight=overlap",
       {1.13347389382157, 1.50206510988836, 0.830845491071051, 1.97554129081527},
       {0.228829620594874, 0.257704356380943, 0.253598837746127, 0.296558260558111}},
      {"algorithm.weight=ipw",
       {1.24164618568726, 1.62798220140939, 0.830845491071053, 1.97554129081527},
       {0.233845578725407, 0.299929213335047, 0.253598837746127, 0.296558260558111}},
      // not DTRreg's: R's glm and lm with weights P(A1) / P(A1 | X1)
      {"algorithm.weight=stabilised",
       {1.241646190044, 1.627982160202, 0.830845491071052, 1.97554129081527},
       {0.2338455788754, 0.2999292172087, 0.253598837746127, 0.296558260558111}},
      {"algorithm.weight=none",
       {1.09065314242255, 2.729681260759, 0.830845491071052, 1.97554129081527},
       {0.235674438575304, 0.266422002621623, 0.253598837746127, 0.296558260558111}},
      {"algorithm.method=qlearning",
       {1.09065314242255, 2.729681260759, 0.830845491071052, 1.97554129081527},
       {0.235674438575304, 0.266422002621623, 0.253598837746127, 0.296558260558111}},
      {"algorithm.method=gest",
       {1.13426463728626, 1.5337215238698, 0.83084549107105, 1.97554129081527},
       {0.229995438694423, 0.256629611429272, 0.253598837746126, 0.296558260558111}},
  };
  char path[512];
  need_data("dtr-two-stage/twoStageCont.csv", path);
  for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
    const char *sets[] = {rows[i].set, "algorithm.replicates=40", NULL};
    rgm_run *run = make_run("configs/dtr_two_stage.yaml", sets);
    train(run, 1);
    close_to(tensor(run, "psi"), rows[i].psi, 4, 1e-7, rows[i].set);
    // coefficients of a stage: p of the propensity (2, then 1), 2 of the free model, 2 of the blip
    close_to(tensor(run, "sandwich") + 4, rows[i].se, 2, 1e-7, rows[i].set);
    close_to(tensor(run, "sandwich") + 6 + 3, rows[i].se + 2, 2, 1e-7, rows[i].set);
    rgm_run_free(run);
  }
}


// words as levels, an expression as outcome: golden_dtrreg_2.4.csv, bmiData
Test(dwols, words_and_expressions) {
  static const double psi[] = {30.6794355631622, -0.971872421143559, -14.2073110061953,
                               0.421955646365649};
  char path[512], data[600];
  need_data("dtr-two-stage/bmiData.csv", path);
  snprintf(data, sizeof data, "data.path=%s", path);
  const char *sets[] = {data,
                        "algorithm.outcome=-100 * (month12BMI - baselineBMI) / baselineBMI",
                        "algorithm.stage1.treatment=A1 == \"MR\"",
                        "algorithm.stage1.propensity=parentBMI",
                        "algorithm.stage1.free=gender + parentBMI + baselineBMI",
                        "algorithm.stage1.blip=parentBMI",
                        "algorithm.stage2.treatment=A2 == \"MR\"",
                        "algorithm.stage2.propensity=month4BMI",
                        "algorithm.stage2.free=gender + parentBMI + month4BMI",
                        "algorithm.stage2.blip=month4BMI",
                        "algorithm.replicates=0",
                        NULL};
  rgm_run *run = make_run("configs/dtr_two_stage.yaml", sets);
  train(run, 1);
  close_to(tensor(run, "psi"), psi, 4, 1e-8, "bmiData");
  rgm_run_free(run);
}


// ref_rubin.json: ten imputations made by R's mice, 199 resamples each; `recommend` at the inputs
// of the published app
Test(dwols, pooled_over_given_imputations) {
  static const double psi[] = {3.141806868, -11.60425603, 6.645382261};
  static const double se[] = {9.42401, 4.65697, 6.85107};
  static const struct {
    double h[5];
    int first, count;
    double value, low, high;
  } forms[] = {
      {{1, 70, 2.5, 5}, 0, 4, -1.85912697263727, -5.03111365785718, 1.31285971258264},
      {{1, 10, 65, 0.05, 0.1}, 4, 5, 2.47170573718182, -4.57932567400243, 9.52273714836607},
      {{1, 0, 1.23636363636364}, 9, 3, 11.3579158451998, 5.682724609904, 17.0331070804957},
  };
  char path[512];
  need_data("rrt/imputed_cells_m10.csv", path);
  const char *sets[] = {PUBLISHED,
                        PORTABLE,
                        "algorithm.imputations=10",
                        "run.steps=10",
                        "algorithm.replicates=199",
                        "algorithm.impute.given=true",
                        NULL};
  rgm_run *run = make_run("configs/rrt_dwols.yaml", sets);
  train(run, 10);
  close_to(tensor(run, "psi") + 9, psi, 3, 1e-9, "pooled psi");
  dwols_pool *pool = calloc(1, sizeof *pool);
  pool->imputations = 10;
  pool->count = 12;
  memcpy(pool->psi, tensor(run, "psi"), 12 * sizeof(double));
  memcpy(pool->total, tensor(run, "total"), 144 * sizeof(double));
  memcpy(pool->between, tensor(run, "between"), 144 * sizeof(double));
  for (int i = 0; i < 3; i++) {
    const double got = sqrt(pool->total[(9 + i) * 12 + 9 + i]);
    close_to(&got, &se[i], 1, 1e-6, "pooled se");
    const dwols_form f = dwols_pool_form(pool, forms[i].h, forms[i].first, forms[i].count, INFINITY,
                                         INTERVAL_NORMAL, 0.95);
    const double limits[] = {f.value, f.value - f.half, f.value + f.half};
    close_to(limits, &forms[i].value, 3, 1e-9, "advice");
  }
  free(pool);
  rgm_run_free(run);
}


// golden_pool_chl_age_bmi.csv: lm(chl ~ age + bmi) over 20 sets, pooled by R's mice 3.15.0
Test(dwols, pooled_as_mice_does) {
  static const double want[3][5] = {
      // estimate, standard error, lambda, df, riv
      {-59.0084819856938, 59.9257038770884, 0.375177392303232, 11.5630802461614},
      {47.0735130192608, 12.3678658656887, 0.546094804282854, 8.0292432410598},
      {6.45296446050344, 1.82402230476936, 0.354440655079173, 12.0270632709815},
  };
  char path[512];
  rgm_frame f;
  need_data("mice-pool/nhanes_norm_m20_completed.csv", path);
  cr_assert_eq(rgm_frame_read(path, &f), RGM_OK, "%s", rgm_last_error());
  double psi[20][3], within[20][9];
  for (int set = 0; set < 20; set++) {
    double gram[9] = {0}, right[3] = {0}, inverse[9], rss = 0.0, n = 0.0;
    int column;
    for (int pass = 0; pass < 2; pass++) {
      for (int64_t i = 0; i < f.rows; i++) {
        const double *row = f.value + i * f.columns, x[3] = {1.0, row[1], row[2]};
        if ((int)row[0] != set + 1) {
          continue;
        }
        double residual = row[4];
        for (int a = 0; a < 3; a++) {
          residual -= pass == 1 ? psi[set][a] * x[a] : 0.0;
          for (int b = 0; b < 3; b++) {
            gram[a * 3 + b] += pass == 0 ? x[a] * x[b] : 0.0;
          }
          right[a] += pass == 0 ? x[a] * row[4] : 0.0;
        }
        rss += pass == 1 ? residual * residual : 0.0;
        n += pass;
      }
      if (pass == 0) {
        double copy[9];
        memcpy(copy, gram, sizeof copy);
        memcpy(psi[set], right, sizeof right);
        cr_assert(dwols_solve(copy, psi[set], 3, &column));
      }
    }
    for (int j = 0; j < 3; j++) {
      double copy[9], unit[3] = {j == 0, j == 1, j == 2};
      memcpy(copy, gram, sizeof copy);
      cr_assert(dwols_solve(copy, unit, 3, &column));
      for (int i = 0; i < 3; i++) {
        inverse[i * 3 + j] = unit[i];
      }
    }
    for (int i = 0; i < 9; i++) {
      within[set][i] = inverse[i] * rss / (n - 3.0);
    }
  }
  dwols_pool *pool = malloc(sizeof *pool);
  dwols_pool_make(20, 3, psi[0], within[0], pool);
  for (int i = 0; i < 3; i++) {
    const double h[1] = {1.0};
    const dwols_form form = dwols_pool_form(pool, h, i, 1, 22.0, INTERVAL_T, 0.95);
    const double got[] = {form.value, form.se, form.lambda, form.df};
    close_to(got, want[i], 4, 1e-9, "mice");
  }
  free(pool);
  rgm_frame_free(&f);
}


// ---- truth by simulation -----------------------------------------------------------------------

enum { COHORTS = 80, PATIENTS = 500 };

// Two stages whose regrets are known: y = f(x1) + x2 + noise less what each stage loses to the best
// treatment, blips 1 + 1.5 x1 and -0.5 + 2 x2; treatment depends on x1 and x2.
static void simulate(const char *path, uint32_t cohort) {
  FILE *file = fopen(path, "w");
  rgm_rng rng = {.key = {cohort, 99}};
  cr_assert_not_null(file);
  fprintf(file, "x1,a1,x2,a2,y\n");
  for (int i = 0; i < PATIENTS; i++) {
    float n0, n1;
    rgm_normals(rgm_rng_next(&rng), rgm_rng_next(&rng), &n0, &n1);
    const double x1 = rgm_rng_range(&rng, -1.7, 1.7), x2 = 0.5 * x1 + 0.7 * (double)n0;
    const bool a1 = rgm_rng_range(&rng, 0, 1) < 1 / (1 + exp(-0.2 - 1.2 * x1));
    const bool a2 = rgm_rng_range(&rng, 0, 1) < 1 / (1 + exp(0.3 - 1.2 * x2));
    const double blip1 = 1 + 1.5 * x1, blip2 = -0.5 + 2 * x2;
    const double lost = fmax(blip1, 0) - a1 * blip1 + fmax(blip2, 0) - a2 * blip2;
    fprintf(file, "%.9g,%d,%.9g,%d,%.9g\n", x1, a1, x2, a2,
            3 + 2 * exp(x1) + x2 - lost + (double)n1);
  }
  fclose(file);
}


// The bias of a method over cohorts, in Monte-Carlo standard errors: the largest of the four psi.
static double bias_of(const char *method, const char *propensity1, const char *propensity2,
                      const char *free1, const char *free2) {
  static const double truth[] = {1, 1.5, -0.5, 2};
  double sum[4] = {0}, square[4] = {0}, worst = 0.0;
  char path[64], data[128], text[5][256];
  snprintf(path, sizeof path, "/tmp/rgm_truth_%d.csv", (int)getpid());
  snprintf(data, sizeof data, "data.path=%s", path);
  snprintf(text[0], sizeof text[0], "algorithm.method=%s", method);
  snprintf(text[1], sizeof text[1], "algorithm.stage1.propensity=%s", propensity1);
  snprintf(text[2], sizeof text[2], "algorithm.stage2.propensity=%s", propensity2);
  snprintf(text[3], sizeof text[3], "algorithm.stage1.free=%s", free1);
  snprintf(text[4], sizeof text[4], "algorithm.stage2.free=%s", free2);
  const char *sets[] = {data,
                        "run.steps=1",
                        "run.threads=1",
                        "algorithm.name=dwols",
                        "algorithm.outcome=y",
                        "algorithm.stages=2",
                        "algorithm.replicates=0",
                        "algorithm.stage1.treatment=a1",
                        "algorithm.stage1.blip=x1",
                        "algorithm.stage2.treatment=a2",
                        "algorithm.stage2.blip=x2",
                        text[0],
                        text[1],
                        text[2],
                        text[3],
                        text[4],
                        NULL};
  for (uint32_t cohort = 0; cohort < COHORTS; cohort++) {
    simulate(path, cohort);
    rgm_run *run = make_run(NULL, sets);
    train(run, 1);
    for (int i = 0; i < 4; i++) {
      const double error = tensor(run, "psi")[i] - truth[i];
      sum[i] += error / COHORTS;
      square[i] += error * error / COHORTS;
    }
    rgm_run_free(run);
  }
  for (int i = 0; i < 4; i++) {
    worst = fmax(worst, fabs(sum[i]) / sqrt((square[i] - sum[i] * sum[i]) / COHORTS));
  }
  unlink(path);
  return worst;
}


// Either model may be wrong, not both: with a right propensity or a right outcome model the bias is
// within its Monte-Carlo error; without weights and with a wrong outcome model it is far outside.
typedef struct numbered {
  double x;
  uint64_t which;
} numbered;

static int by_number(const void *a_, const void *b_) {
  const numbered *a = a_, *b = b_;
  if (a->x != b->x) {
    return a->x < b->x ? -1 : 1;
  }
  if (signbit(a->x) != signbit(b->x)) {
    return signbit(a->x) ? -1 : 1;
  }
  return a->which < b->which ? -1 : 1;
}


// predictions in order: those that differ in their last digits alone, few and many, and equal ones
Test(dwols, order_of_predictions) {
  enum { MOST = 3000 };
  static const struct {
    const char *name;
    int64_t count;
    double step, span; // x = start + step * (a number below span)
  } cases[] = {
      {"none", 0, 1.0, 1.0},           {"one", 1, 1.0, 1.0},
      {"spread", MOST, 0.37, 1e9},     {"with equal ones", MOST, 0.5, 40.0},
      {"last digits", 20, 0x1p-52, 9}, {"many last digits", MOST, 0x1p-52, 2000.0},
      {"all equal", MOST, 0.0, 1.0},   {"around 0", MOST, 0x1p-1070, 50.0},
  };
  for (size_t k = 0; k < sizeof cases / sizeof *cases; k++) {
    static double x[MOST];
    static uint64_t order[MOST], spare[MOST];
    static numbered want[MOST];
    const double start = strcmp(cases[k].name, "around 0") == 0 ? -0x1p-1070 * 25.0 : 1.0;
    uint64_t state = 7;
    for (int64_t i = 0; i < cases[k].count; i++) {
      state = state * 6364136223846793005u + 1442695040888963407u;
      x[i] = start + cases[k].step * floor((double)(state >> 33) * 0x1p-31 * cases[k].span);
      x[i] = i % 3 == 0 && x[i] == 0.0 ? -0.0 : i % 2 == 0 && k == 2 ? -x[i] : x[i];
      want[i] = (numbered){x[i], (uint64_t)i};
    }
    qsort(want, (size_t)cases[k].count, sizeof *want, by_number);
    mice_sort(x, cases[k].count, order, spare);
    for (int64_t i = 0; i < cases[k].count; i++) {
      cr_assert_eq(order[i], want[i].which, "%s: place %d", cases[k].name, (int)i);
    }
  }
}


Test(dwols, truth_by_simulation) {
  const char *right1 = "x1 + exp(x1) + max(1 + 1.5 * x1, 0)";
  const char *right2 =
      "x1 + exp(x1) + x2 + a1 + a1:x1 + max(1 + 1.5 * x1, 0) + max(2 * x2 - 0.5, 0)";
  const char *wrong2 = "x1 + x2 + a1 + a1:x1";
  cr_expect_lt(bias_of("dwols", "x1", "x2", "x1", wrong2), 3.5, "outcome models wrong");
  cr_expect_lt(bias_of("dwols", "\"\"", "\"\"", right1, right2), 3.5, "propensities wrong");
  cr_expect_lt(bias_of("gest", "x1", "x2", "x1", wrong2), 3.5, "G-estimation");
  cr_expect_gt(bias_of("qlearning", "x1", "x2", "x1", wrong2), 6.0, "no weights, wrong outcome");
}


// ---- bits --------------------------------------------------------------------------------------

// chains and resamples by threads; stopped and resumed; an imputation alone
Test(dwols, same_bits) {
  char path[512], one[65], other[65];
  need_data("rrt/imputed_cells_m10.csv", path);
  const char *base[] = {"algorithm.imputations=3", "run.steps=3", "algorithm.replicates=40",
                        "run.threads=1", NULL};
  const char *two[] = {"algorithm.imputations=3", "run.steps=3",  "algorithm.replicates=40",
                       "run.threads=3",           "run.isa=avx2", NULL};
  rgm_run *a = make_run("configs/rrt_dwols.yaml", base);
  rgm_run *b = make_run("configs/rrt_dwols.yaml", two);
  train(a, 3);
  train(b, 2);
  rgm_checkpoint *stopped = NULL;
  cr_assert_eq(rgm_run_snapshot(b, &stopped), RGM_OK);
  rgm_run *c = make_run("configs/rrt_dwols.yaml", two);
  cr_assert_eq(rgm_run_restore(c, stopped, true), RGM_OK, "%s", rgm_last_error());
  train(c, 1);
  digest_of(a, one);
  digest_of(c, other);
  cr_assert_str_eq(one, other);
  rgm_checkpoint_free(stopped);

  // the third imputation by itself
  rgm_run *d = make_run("configs/rrt_dwols.yaml", base);
  d->step = 2;
  cr_assert_eq(d->algorithm->step(d), RGM_OK, "%s", rgm_last_error());
  const int all = 4 + 12 + 5 + 13 + 5 + 11; // with |dpH| in the free model of stage 2
  cr_assert_eq(memcmp(tensor(d, "coefficients") + 2 * all, tensor(a, "coefficients") + 2 * all,
                      (size_t)all * sizeof(double)),
               0);
  rgm_run_free(a);
  rgm_run_free(b);
  rgm_run_free(c);
  rgm_run_free(d);
}


// ---- formulas ----------------------------------------------------------------------------------

static const double row_values[] = {2.0, 3.0, -4.0, 1.0};

Test(dwols, formulas) {
  static const char names[4][64] = {"a", "b", "c", "g"};
  static const struct {
    const char *text;
    int columns;
    double want[8];
  } designs[] = {
      {"", 1, {1}},
      {"1 + a", 2, {1, 2}},
      {"a + b + a:b", 4, {1, 2, 3, 6}},
      {"a * b * c", 8, {1, 2, 3, 6, -4, -8, -12, -24}},
      {"abs(c) + I(a^2 - b / c) + log(a)", 4, {1, 4, 4.75, 0.693147180559945309}},
      {"a + a + b:a + a:b", 3, {1, 2, 6}},
  };
  static const struct {
    const char *text;
    double want;
  } values[] = {{"a == 2 & !(b < 1)", 1}, {"2^3^2 - -c", 508}, {"min(a, b) * max(a, b)", 6},
                {"a - b - c", 3},         {"(a >= 3) | 0", 0}, {"1e2 / a", 50}};
  rgm_frame f;
  rgm_formula *formula = malloc(sizeof *formula);
  cr_assert_eq(rgm_frame_names(names, 4, &f), RGM_OK);
  for (size_t i = 0; i < sizeof designs / sizeof *designs; i++) {
    double out[RGM_FORMULA_COLUMNS];
    cr_assert_eq(rgm_formula_parse("test", designs[i].text, &f, false, formula), RGM_OK, "%s",
                 rgm_last_error());
    cr_assert_eq(rgm_formula_learn("test", formula, &f, NULL), RGM_OK, "%s", rgm_last_error());
    cr_assert_eq(formula->columns, designs[i].columns, "%s", designs[i].text);
    rgm_formula_row(formula, row_values, out);
    close_to(out, designs[i].want, designs[i].columns, 1e-14, designs[i].text);
  }
  for (size_t i = 0; i < sizeof values / sizeof *values; i++) {
    cr_assert_eq(rgm_formula_parse("test", values[i].text, &f, true, formula), RGM_OK, "%s",
                 rgm_last_error());
    cr_assert_eq(rgm_formula_value(formula, row_values), values[i].want, "%s", values[i].text);
  }
  free(formula);
  rgm_frame_free(&f);
}


// levels with a named reference; a spline is linear beyond its knots and has the value there
Test(dwols, factors_and_splines) {
  rgm_frame f;
  static const char names[2][64] = {"g", "x"};
  cr_assert_eq(rgm_frame_names(names, 2, &f), RGM_OK);
  f.value = realloc(f.value, 2 * 12 * sizeof *f.value);
  f.rows = 12;
  for (int i = 0; i < 12; i++) {
    f.value[2 * i] = i % 3;
    f.value[2 * i + 1] = i;
  }
  rgm_formula *formula = malloc(sizeof *formula);
  double out[8], far[3][8];
  cr_assert_eq(rgm_formula_parse("test", "factor(g, ref = 1) + ns(x, df = 3)", &f, false, formula),
               RGM_OK, "%s", rgm_last_error());
  cr_assert_eq(rgm_formula_learn("test", formula, &f, NULL), RGM_OK, "%s", rgm_last_error());
  cr_assert_eq(formula->columns, 6);
  cr_assert_str_eq(formula->name[1], "g=0");
  cr_assert_str_eq(formula->name[2], "g=2");
  rgm_formula_row(formula, (const double[]){2, 5.5}, out);
  cr_assert(out[1] == 0 && out[2] == 1 && out[3] == 5.5);
  rgm_formula_row(formula, (const double[]){7, 5.5}, out);
  cr_assert(isnan(out[1]) && isnan(out[2]), "an unknown level has no columns");
  for (int i = 0; i < 3; i++) {
    rgm_formula_row(formula, (const double[]){0, 20.0 + 10 * i}, far[i]);
  }
  for (int j = 3; j < 6; j++) {
    cr_assert_float_eq(far[2][j] - far[1][j], far[1][j] - far[0][j], 1e-9, "column %d", j);
  }
  free(formula);
  rgm_frame_free(&f);
}


// ---- bad inputs --------------------------------------------------------------------------------

static const char clean[] = "y,a,b,x,z\n1,0,0,1,5\n2,1,0,2,3\n3,0,1,4,4\n2,1,1,3,9\n5,0,0,6,1\n"
                            "4,1,1,5,2\n6,0,0,8,7\n3,1,0,7,6\n7,0,1,9,8\n5,1,1,1,2\n4,0,0,3,3\n"
                            "8,1,1,2,4\n";

// a config of two stages over the clean table, changed; or other text in its place
static const struct {
  const char *set, *table, *message;
} bad[] = {
    {"algorithm.outcome=yy", NULL, "algorithm.outcome: \"yy\": the data have no column yy"},
    {"algorithm.outcome=y +", NULL, "character 4: expected a column"},
    {"algorithm.outcome=log(y", NULL, "expected a closing bracket"},
    {"algorithm.outcome=sin(y)", NULL, "there is no function sin"},
    {"algorithm.outcome=y y", NULL, "expected an operator"},
    {"algorithm.outcome=log(y - 1)", NULL, ":2: the outcome log(y - 1) is missing or infinite"},
    {"algorithm.stage1.treatment=\"\"", NULL, "stage 1 needs one"},
    {"algorithm.stage1.treatment=x", NULL, "stage 1: the treatment x is neither 0 nor 1"},
    {"algorithm.stage2.treatment=b / 0", NULL, "stage 2: the treatment b / 0 is"},
    {"algorithm.stage2.eligible=q == 0", NULL, "algorithm.stage2.eligible: \"q == 0\": the data"},
    {"algorithm.stage2.eligible=x > 100", NULL, "stage 2: of 0 eligible rows none is treated"},
    {"algorithm.stage2.eligible=b == 1", NULL, "stage 2: of 6 eligible rows every one is treated"},
    {"algorithm.stage2.eligible=x <", NULL, "expected a column, a number"},
    {"algorithm.stage1.blip=x + nope", NULL, "algorithm.stage1.blip: \"x + nope\": the data have"},
    {"algorithm.stage1.blip=factor(a, ref = 7)", NULL, "the reference does not occur"},
    {"algorithm.stage1.blip=ns(a, df = 4)", NULL, "two knots coincide"},
    {"algorithm.stage1.blip=ns(x, df = 40)", NULL, "expected df from 1 to 8"},
    {"algorithm.stage1.blip=x:x:x:x:x", NULL, "at most four factors"},
    {"algorithm.stage1.blip=x ~ z", NULL, "expected + and another term"},
    {"algorithm.stage1.blip=factor(x, rof = 2)", NULL, "expected ref = the reference"},
    {"algorithm.stage1.free=x + I(2 * x)", NULL, "stage 1: free: the term I(2*x) follows from"},
    {"algorithm.stage1.free=x + I(0 * x)", NULL, "free: the term I(0*x) is the same in all 12"},
    {"algorithm.stage1.propensity=log(x - 1)", NULL, "propensity: the term log(x-1) is infinite"},
    {"algorithm.stage1.propensity=I(a + x * 0)", NULL, "stage 1: propensity: they separate"},
    {"algorithm.cluster=I(0)", NULL, "one cluster; at least two are needed"},
    {"algorithm.weights=x - 5", NULL, "stage 1: the weight x - 5 is missing or negative"},
    {"algorithm.weight=user", NULL, "user needs algorithm.weights"},
    {"algorithm.imputations=3", NULL, "run.steps: a step is an imputation"},
    {"run.replicas=2", NULL, "run.replicas: dwols has an axis of its own"},
    {"algorithm.impute.cells=/nonexistent.csv", NULL, "nonexistent.csv"},
    {NULL, "y,a,b,x,y\n1,0,0,1,5\n", "column y is there twice"},
    {NULL, "y,a,b,x,z\n", "no rows under a header line"},
    {NULL, "y,a,b,x,z\n1,0,0,1,5\n2,one,0,2,3\n", "column a: words and numbers are mixed"},
    {NULL, "y,a,b,x,z\n1,0,0,1,5\n2,,0,2,3\n", ":3: stage 1: the treatment a is missing"},
    {NULL, "y,a,b,x,z\n1,0,0,,5\n2,1,1,,3\n", "for 2 eligible rows"},
};

Test(dwols, bad_inputs) {
  char path[64], data[128];
  snprintf(path, sizeof path, "/tmp/rgm_dwols_%d.csv", (int)getpid());
  snprintf(data, sizeof data, "data.path=%s", path);
  for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
    FILE *file = fopen(path, "w");
    cr_assert_not_null(file);
    fputs(bad[i].table != NULL ? bad[i].table : clean, file);
    fclose(file);
    const char *sets[] = {data,
                          "run.steps=1",
                          "algorithm.name=dwols",
                          "algorithm.outcome=y",
                          "algorithm.stages=2",
                          "algorithm.replicates=0",
                          "algorithm.stage1.treatment=a",
                          "algorithm.stage1.propensity=x",
                          "algorithm.stage1.free=x",
                          "algorithm.stage2.treatment=b",
                          "algorithm.stage2.propensity=z",
                          "algorithm.stage2.free=z",
                          bad[i].set,
                          NULL};
    rgm_run *run = NULL;
    rgm_status status = open_run(NULL, sets, &run);
    if (status == RGM_OK) {
      status = run->algorithm->step(run);
    }
    cr_assert_neq(status, RGM_OK, "case %d is accepted", (int)i);
    cr_assert_not_null(strstr(rgm_last_error(), bad[i].message), "case %d says: %s", (int)i,
                       rgm_last_error());
    rgm_run_free(run);
  }
  unlink(path);
}
