// SPDX-License-Identifier: Apache-2.0
// How good can a policy be? The environment's own dynamic programming (Bellman 1957) for every test
// patient as if all about it were known, which bounds every policy from above, and what each of the
// environment's controllers leaves: its regret. Nothing is trained.

#include "engine/engine.h"
#include "engine/trial.h"

#include <math.h>
#include <stdlib.h>

typedef struct oracle_keys {
  int64_t grid;
} oracle_keys;

#define KEY(member) offsetof(oracle_keys, member)

static const rgm_field fields[] = {
    {"grid", RGM_INT, KEY(grid), "1", "240", 8, 4000, NULL, 0,
     "Points of the dynamic programming; half as many tell its error."},
    {0},
};

// Programmes of a patient: all actions or the first alone, on the whole grid or half of it.
enum { WHOLE, WHOLE_HALF, FIRST, FIRST_HALF, PROGRAMMES };

static rgm_status oracle_check(const rgm_run *run) {
  return run->env->optimum != NULL
             ? RGM_OK
             : rgm_fail(RGM_ECONFIG, "%s: algorithm.name: nobody knows the optimum of %s",
                        rgm_config_where(run->config, "algorithm.name"), run->env->name);
}


static rgm_status oracle_plan(rgm_run *run) {
  (void)run;
  return RGM_OK;
}


static int oracle_contenders(rgm_run *run, rgm_contender *out, int max) {
  (void)run;
  (void)out;
  (void)max;
  return 0;
}


// mean and its Monte-Carlo standard error over patients of x - y (y may be NULL)
static void mean_of(const double *x, const double *y, int64_t n, double *mean, double *error) {
  double square = 0.0;
  *mean = 0.0;
  for (int64_t i = 0; i < n; i++) {
    const double d = x[i] - (y != NULL ? y[i] : 0.0);
    square += (d - *mean) * (d - *mean) * (double)i / (double)(i + 1);
    *mean += (d - *mean) / (double)(i + 1);
  }
  *error = n > 1 ? sqrt(square / (double)(n - 1) / (double)n) : NAN;
}


static void write_row(rgm_json *json, FILE *text, const char *name, const double *value,
                      const double *best, int64_t n) {
  double mean, error, regret, regret_error;
  mean_of(value, NULL, n, &mean, &error);
  mean_of(best, value, n, &regret, &regret_error);
  rgm_json_open(json, name, '{');
  rgm_json_number(json, "return", mean);
  rgm_json_number(json, "return_error", error);
  rgm_json_number(json, "regret", regret);
  rgm_json_number(json, "regret_error", regret_error);
  rgm_json_close(json, '}');
  if (text != NULL) {
    fprintf(text, "  %-18s %9.3f +- %-7.3f %9.3f +- %.3f\n", name, mean, error, regret,
            regret_error);
  }
}


static void write_all(const rgm_trial *t, const double *value, rgm_json *json, FILE *text) {
  const rgm_env *env = t->run->env;
  const int64_t n = t->patients;
  double change[2], error;
  rgm_json_open(json, NULL, '{');
  rgm_json_number(json, "n", (double)n);
  if (text != NULL) {
    fprintf(text, "%lld test patients\n  %-18s %9s %10s %9s\n", (long long)n, "", "return", "",
            "regret");
  }
  rgm_json_open(json, "controllers", '{');
  write_row(json, text, "optimum", value + WHOLE * n, value + WHOLE * n, n);
  write_row(json, text, "optimum_first", value + FIRST * n, value + WHOLE * n, n);
  for (int i = t->baseline; i < t->count; i++) {
    write_row(json, text, t->scores[i].name, t->scores[i].value + env->return_metric * n,
              value + WHOLE * n, n);
  }
  rgm_json_close(json, '}');
  for (int k = 0; k < 2; k++) {
    double mean;
    mean_of(value + 2 * k * n, NULL, n, &mean, &error);
    mean_of(value + 2 * k * n, value + (2 * k + 1) * n, n, &change[k], &error);
    change[k] = 100.0 * fabs(change[k] / mean);
  }
  rgm_json_number(json, "half_grid_percent", change[0]);
  rgm_json_number(json, "half_grid_percent_first", change[1]);
  rgm_json_close(json, '}');
  if (text != NULL) {
    fprintf(text, "Half the grid changes the optimum by %.4f %%, that of %s alone by %.4f %%.\n",
            change[0], env->act[0].name, change[1]);
  }
}


static rgm_status oracle_evaluate(rgm_run *run, rgm_json *json, FILE *text) {
  const oracle_keys *k = rgm_algorithm_keys(run, 0);
  rgm_trial t = {0};
  double *value = NULL;
  rgm_status status = rgm_trial_run(&t, run, true);
  if (status == RGM_OK) {
    value = calloc((size_t)(PROGRAMMES * t.patients), sizeof *value);
    status = value != NULL ? RGM_OK : rgm_fail(RGM_EMEMORY, "no memory for the patients");
  }
  for (int i = 0; i < PROGRAMMES && status == RGM_OK; i++) {
    status = rgm_trial_optimum(&t, i % 2 == 0 ? k->grid : k->grid / 2, i < FIRST,
                               value + i * t.patients);
  }
  if (status == RGM_OK) {
    write_all(&t, value, json, text);
  }
  free(value);
  rgm_trial_free(&t);
  return status;
}


const rgm_algorithm rgm_oracle = {
    .name = "oracle",
    .paper = "Bellman 1957",
    .doc =
        "The optimum of patients who are known, and the regret of the environment's controllers.",
    .fields = fields,
    .keys_size = sizeof(oracle_keys),
    .self_size = 1,
    .needs = RGM_NEEDS_ENV | RGM_TRAINS_NOT,
    .check = oracle_check,
    .plan = oracle_plan,
    .contenders = oracle_contenders,
    .evaluate = oracle_evaluate,
};
