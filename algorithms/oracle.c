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

typedef struct solving {
  const rgm_run *run;
  const void *config; // of the environment
  const float *words; // of a chunk of patients
  int64_t grid, first, patients;
  double *value; // (PROGRAMMES, patients)
  rgm_status status;
} solving;


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


static void solve_task(void *arg, int64_t i) {
  solving *job = arg;
  const rgm_env *env = job->run->env;
  const float *words = job->words + i * env->patient_words;
  for (int k = 0; k < PROGRAMMES; k++) {
    const int64_t grid = k % 2 == 0 ? job->grid : job->grid / 2;
    const rgm_status status = env->optimum(job->run->env_keys, job->config, words, grid, k < FIRST,
                                           &job->value[k * job->patients + job->first + i]);
    if (status != RGM_OK) {
      job->status = status;
    }
  }
}


// the same patients as the trial's, chunk by chunk
static rgm_status solve_all(rgm_trial *t, solving *job) {
  const rgm_run *run = t->run;
  for (job->first = 0; job->first < t->patients; job->first += t->chunk) {
    const int64_t left = t->patients - job->first, n = left < t->chunk ? left : t->chunk;
    rgm_cohort cohort = {
        .patients = t->cohort,
        .config = t->config,
        .seeds = t->seeds,
        .clock = t->clock,
        .active = t->active,
        .random = RGM_RANDOM_PATIENT + RGM_RANDOM_EVAL,
        .first = job->first,
    };
    cohort.patients.dims[1] = n;
    rgm_env_sample(run->env_kernels, run->stream, &cohort);
    rgm_copy(run->stream, t->words, t->cohort.data, rgm_bytes(cohort.patients));
    RGM_TRY(rgm_sync(run->stream));
    rgm_cpu_parallel(t->threads, n, solve_task, job);
    RGM_TRY(job->status);
  }
  return RGM_OK;
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
  void *config = malloc(run->env->config_size);
  rgm_status status = config != NULL ? rgm_trial_run(&t, run, true)
                                     : rgm_fail(RGM_EMEMORY, "no memory for the environment");
  double *value = NULL;
  if (status == RGM_OK) {
    value = calloc((size_t)(PROGRAMMES * t.patients), sizeof *value);
    status = value != NULL ? RGM_OK : rgm_fail(RGM_EMEMORY, "no memory for the patients");
  }
  if (status == RGM_OK) {
    rgm_copy(run->stream, config, t.config.data, run->env->config_size);
    solving job = {run, config, t.words, k->grid, 0, t.patients, value, RGM_OK};
    status = rgm_sync(run->stream);
    status = status == RGM_OK ? solve_all(&t, &job) : status;
  }
  if (status == RGM_OK) {
    write_all(&t, value, json, text);
  }
  free(value);
  free(config);
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
