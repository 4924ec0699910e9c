// SPDX-License-Identifier: Apache-2.0
// Simulated patients with acute kidney injury against formulas of their own, published marginals,
// and what their strategies earn; the audit of estimators on worlds where the answer is known.

#include "algorithms/ope.h"
#include "engine/regimen.h"
#include "tests/dwols_util.h"

#include <unistd.h>

TestSuite(aki, .timeout = 120);

extern const rgm_env rgm_aki;

// a cohort with keys of its own
static rgm_run *open_world(const char *const *sets, const char *policy, int64_t patients,
                           uint32_t number, rgm_frame *out) {
  rgm_run *run = make_run("configs/rrt_audit.yaml", sets);
  const rgm_cohort_of which = {7, number, patients, policy};
  cr_assert_eq(run->env->cohort(run->env_keys, run->config, &which, out), RGM_OK, "%s",
               rgm_last_error());
  return run;
}


static double cell(const rgm_frame *f, int64_t row, const char *name) {
  const int column = rgm_frame_find(f, name);
  cr_assert_geq(column, 0, "no column %s", name);
  return f->value[row * f->columns + column];
}


// the documented blips
static double blip(const rgm_frame *f, int64_t i, int k) {
  return k == 0 ? -22 + 0.12 * cell(f, i, "age") + 1.2 * cell(f, i, "creat_k1") +
                      2 * cell(f, i, "pot_k1")
         : k == 1 ? -2 + 0.3 * cell(f, i, "sofa") + 0.08 * cell(f, i, "bun_k2") -
                        40 * fabs(cell(f, i, "ph_k2") - cell(f, i, "ph_k1")) -
                        6 * (cell(f, i, "uo_k1") + cell(f, i, "uo_k2"))
                  : 2 - 10 * cell(f, i, "uo_k3") + 5 * cell(f, i, "bun_k3") / cell(f, i, "bun_k1");
}


// Patients are the same whoever decides: strategies differ by the regrets of the stages at which
// they wait or start, patient by patient; nobody earns more than by the rule of positive blips.
Test(aki, what_strategies_earn) {
  enum { N = 2000 };
  static const char *const policies[] = {"crude", "never", "treat_all", "clinician", "stringent"};
  const char *none[] = {NULL};
  rgm_frame best, f;
  rgm_run_free(open_world(none, "crude", N, 3, &best));
  for (int p = 0; p < 5; p++) {
    rgm_run_free(open_world(none, policies[p], N, 3, &f));
    for (int64_t i = 0; i < N; i++) {
      static const char *const starts[] = {"a1", "a2", "a3"};
      static const char *const rules[] = {"r_1", "r_2", "r_3"};
      double regret = 0.0;
      bool open = true, ruled = false;
      for (int k = 0; k < 3; k++) {
        const double gain = blip(&f, i, k), a = cell(&f, i, starts[k]);
        // what the rule says, kept once said, and after a start
        ruled = ruled || !open || gain > 0;
        cr_assert_eq(cell(&f, i, rules[k]), ruled);
        regret += open ? fmax(gain, 0) - a * gain : 0;
        cr_assert(a == 1 || open, "a start is undone");
        cr_assert(p != 0 || !open || a == (gain > 0));
        cr_assert(p != 1 || a == 0);
        cr_assert(p != 2 || a == 1);
        cr_assert(p != 4 || !open || a == (gain > 5));
        open = open && a == 0;
      }
      const double lost = cell(&best, i, "hfd") - cell(&f, i, "hfd");
      cr_assert_float_eq(lost, regret, 1e-9, "%s, patient %d", policies[p], (int)i);
    }
    rgm_frame_free(&f);
  }
  rgm_frame_free(&best);
}


// Table 1 of the publication, and what is told beside it; the world comes near, not exactly
Test(aki, marginals_of_the_publication) {
  enum { N = 20000 };
  static const char *const development[] = {"env.bounded=true", NULL};
  static const char *const validation[] = {"env.bounded=true", "env.population=validation",
                                           "env.deaths=1", NULL};
  static const struct {
    const char *column;
    char what; // m: mean, 1 2 3: quartiles
    double want[2], near;
  } rows[] = {
      {"male", 'm', {0.548, 0.678}, 0.01}, {"age", '1', {57, 58}, 1.5},
      {"age", '2', {69, 67}, 1.5},         {"age", '3', {79, 75}, 1.5},
      {"sofa", '1', {6, 9}, 0.5},          {"sofa", '2', {9, 11}, 0.5},
      {"sofa", '3', {12, 13}, 0.5},        {"creat_k1", '1', {0.9, 2.57}, 0.1},
      {"creat_k1", '2', {1.4, 3.39}, 0.1}, {"creat_k1", '3', {2.4, 4.33}, 0.2},
      {"uo_k1", '1', {0.22, 0.04}, 0.02},  {"uo_k1", '2', {0.28, 0.12}, 0.02},
      {"uo_k1", '3', {0.29, 0.34}, 0.02},  {"a3", 'm', {0.107, 0.38}, 0.02},
      {"phi_3", 'm', {0, 0.0927}, 0.01},   {"hmor", 'm', {0.238, 0.451}, 0.02},
      {"hfd", 'm', {33.6, 14.2}, 1.5},     {"hfd", '2', {42.9, 0}, 2.5},
      {"hfd", '3', {51.7, 30.3}, 2.5},
  };
  for (int k = 0; k < 2; k++) {
    rgm_frame f;
    double x[N];
    rgm_run_free(open_world(k == 0 ? development : validation, "clinician", N, 0, &f));
    for (size_t r = 0; r < sizeof rows / sizeof *rows; r++) {
      for (int64_t i = 0; i < N; i++) {
        x[i] = cell(&f, i, rows[r].column);
      }
      const rgm_summary s = rgm_summarise(x, N);
      const double got = rows[r].what == 'm'   ? s.mean
                         : rows[r].what == '1' ? s.q25
                         : rows[r].what == '2' ? s.median
                                               : s.q75;
      cr_assert_float_eq(got, rows[r].want[k], rows[r].near, "%s %c of cohort %d: %g, not %g",
                         rows[r].column, rows[r].what, k, got, rows[r].want[k]);
    }
    rgm_frame_free(&f);
  }
}


// deaths, missing values, clones, and a world without effects; cohorts differ by number alone
Test(aki, deaths_gaps_and_clones) {
  enum { N = 5000 };
  const char *sets[] = {"env.population=validation",
                        "env.deaths=1",
                        "env.missing=1",
                        "env.clones=0.2",
                        "env.effect=0",
                        NULL};
  rgm_frame f, again, other;
  rgm_run_free(open_world(sets, "clinician", N, 0, &f));
  rgm_run_free(open_world(sets, "clinician", N, 0, &again));
  rgm_run_free(open_world(sets, "clinician", N, 1, &other));
  cr_assert_eq(f.rows, N + N / 5);
  const size_t bytes = (size_t)(f.rows * f.columns) * sizeof *f.value;
  cr_assert_eq(memcmp(f.value, again.value, bytes), 0);
  cr_assert_neq(memcmp(f.value, other.value, bytes), 0);
  double gaps = 0.0, seen = 0.0, off[2] = {0}, square[2] = {0};
  for (int64_t i = 0; i < f.rows; i++) {
    const bool dead = cell(&f, i, "phi_3") == 1;
    cr_assert(cell(&f, i, "phi_2") <= cell(&f, i, "phi_3"));
    cr_assert(!dead || (cell(&f, i, "hfd") == 0 && cell(&f, i, "hmor") == 1 &&
                        cell(&f, i, "a3") == 0 && isnan(cell(&f, i, "ph_k3"))));
    // the treated do not die before the last decision
    cr_assert(!dead || cell(&f, i, "a1") == 0);
    cr_assert(cell(&f, i, "r_1") == 0, "nothing helps");
    gaps += !dead && isnan(cell(&f, i, "ph_k3"));
    seen += !dead;
    // at random by age and SOFA, 11 at the centre: what is more than expected goes with neither
    const double by[] = {cell(&f, i, "age") - 66, cell(&f, i, "sofa") - 11};
    const double odds = 0.44 / 0.56 * exp(0.02 * by[0] - 0.1 * by[1]);
    for (int j = 0; j < 2 && !dead; j++) {
      const double more = (isnan(cell(&f, i, "ph_k3")) - odds / (1 + odds)) * by[j];
      off[j] += more;
      square[j] += more * more;
    }
    if (i >= N) {
      cr_assert_eq(cell(&f, i, "id"), cell(&f, i - N, "id"));
      cr_assert_eq(cell(&f, i, "clone"), 1);
      cr_assert_eq(cell(&f, i, "standard"), 1);
      cr_assert_eq(cell(&f, i, "hfd"), cell(&f, i - N, "hfd"));
    }
  }
  cr_assert_float_eq(gaps / seen, 0.44, 0.03, "%g of pH at stage 3 missing", gaps / seen);
  for (int j = 0; j < 2; j++) {
    cr_assert_lt(fabs(off[j]) / sqrt(square[j]), 4, "gaps go with %s", j == 0 ? "age" : "SOFA");
  }
  rgm_frame_free(&f);
  rgm_frame_free(&again);
  rgm_frame_free(&other);
}


// a table goes to a file and back without a change of a bit
Test(aki, a_table_as_a_file) {
  char name[] = "/tmp/regimen_aki_XXXXXX.csv";
  const char *sets[] = {"env.missing=1", NULL};
  rgm_frame f, back;
  rgm_run_free(open_world(sets, "clinician", 300, 0, &f));
  close(mkstemps(name, 4));
  cr_assert_eq(rgm_frame_write(name, &f), RGM_OK, "%s", rgm_last_error());
  cr_assert_eq(rgm_frame_read(name, &back), RGM_OK, "%s", rgm_last_error());
  cr_assert(back.rows == f.rows && back.columns == f.columns);
  for (int64_t i = 0; i < f.rows * f.columns; i++) {
    cr_assert(f.value[i] == back.value[i] || (isnan(f.value[i]) && isnan(back.value[i])));
  }
  rgm_frame_lend("mine", &f);
  rgm_frame_free(&back);
  cr_assert_eq(rgm_frame_read("memory:mine", &back), RGM_OK);
  rgm_frame_lend("mine", NULL);
  rgm_frame none;
  cr_assert_neq(rgm_frame_read("memory:mine", &none), RGM_OK);
  rgm_frame_free(&none);
  rgm_frame_free(&back);
  rgm_frame_free(&f);
  unlink(name);
}


// ---- the audit ---------------------------------------------------------------------------------

static char *audit(const char *config, const char *const *sets) {
  char *text = NULL;
  size_t size = 0;
  rgm_run *run = make_run(config, sets);
  rgm_json json = {.out = open_memstream(&text, &size)};
  cr_assert_eq(run->algorithm->evaluate(run, &json, NULL), RGM_OK, "%s", rgm_last_error());
  fclose(json.out);
  rgm_run_free(run);
  return text;
}


static double told(const char *json, const char *suite, const char *item, const char *key) {
  const char *const parts[] = {suite, item, key};
  char name[64];
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


// few cohorts show what 2,000 do: no bias of values, and that the published form has some
Test(aki, audit_of_values) {
  const char *right[] = {"algorithm.cohorts=40", "algorithm.truth=20000", "algorithm.patients=600",
                         "algorithm.sampling=\"\"", NULL};
  const char *published[] = {"algorithm.cohorts=40",
                             "algorithm.truth=20000",
                             "algorithm.patients=600",
                             "algorithm.sampling=\"\"",
                             "algorithm.advantage=configs/rrt_audit_adr_published.yaml",
                             NULL};
  char *a = audit("configs/rrt_audit_values.yaml", right);
  char *b = audit("configs/rrt_audit_values.yaml", published);
  cr_assert_gt(told(a, "adr", NULL, "bias_p"), 1e-3, "p = %g", told(a, "adr", NULL, "bias_p"));
  cr_assert_lt(told(a, "adr", NULL, "largest_z"), 4.0);
  cr_assert_float_eq(told(a, "adr", "largest_z", "coverage"), 0.95, 0.06);
  cr_assert_lt(told(b, "adr", NULL, "bias_p"), 1e-6, "the published error is not seen");
  free(a);
  free(b);
}


// few cohorts through imputation, bootstrap and pooling; the truth is the documented one
Test(aki, audit_of_rules) {
  const char *sets[] = {"algorithm.cohorts=12", "algorithm.patients=1500", NULL};
  char *a = audit("configs/rrt_audit.yaml", sets);
  cr_assert_eq(told(a, "dwols", NULL, "cohorts_without_fit"), 0);
  cr_assert_eq(told(a, "dwols", "psi 8", "truth"), -40);
  cr_assert_lt(told(a, "dwols", NULL, "largest_z"), 5.0);
  cr_assert_float_eq(told(a, "dwols", "largest_z", "coverage"), 0.95, 0.08);
  free(a);

  // cohorts too small for a fit are counted
  const char *small[] = {"algorithm.cohorts=12", "algorithm.patients=150", NULL};
  a = audit("configs/rrt_audit.yaml", small);
  const double lost = told(a, "dwols", NULL, "cohorts_without_fit");
  cr_assert(lost > 0 && lost < 12, "%g of 12 cohorts are lost", lost);
  free(a);
}


Test(aki, refused) {
  static const struct {
    const char *config, *set, *says;
  } rows[] = {
      {"configs/rrt_audit.yaml", "env.psi=[1, 2]", "12 numbers are expected, not 2"},
      {"configs/cartpole_cem.yaml", "env.name=aki", "is for simulated patients, which aki is not"},
      {"configs/rrt_audit_values.yaml", "env.population=other", "env.population"},
      {"configs/rrt_audit.yaml", "algorithm.rule=configs/rrt_audit_adr.yaml", "a config of adr"},
      {"configs/rrt_audit.yaml", "algorithm.rule=configs/none.yaml",
       "configs/none.yaml cannot be read"},
      {"configs/rrt_audit.yaml", "algorithm.rule=\"\"", "nothing to audit"},
  };
  for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
    const char *sets[] = {rows[i].set, NULL};
    rgm_run *run = NULL;
    rgm_json nowhere = {.out = NULL};
    rgm_status status = open_run(rows[i].config, sets, &run);
    status = status == RGM_OK ? run->algorithm->evaluate(run, &nowhere, NULL) : status;
    cr_assert_neq(status, RGM_OK, "row %zu", i);
    cr_assert_not_null(strstr(rgm_last_error(), rows[i].says), "row %zu: %s", i, rgm_last_error());
    rgm_run_free(run);
  }
  const rgm_options options = {.path = "configs/rrt_simulate.yaml", .out = "/tmp/x.h5"};
  cr_assert_eq(rgm_exit_code(rgm_simulate(&options)), 64);
  cr_assert_not_null(strstr(rgm_last_error(), "FILE.csv"), "%s", rgm_last_error());
}
