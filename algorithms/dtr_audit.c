// SPDX-License-Identifier: Apache-2.0
// Are staged rules and their values estimated without bias, and do their intervals cover? Cohorts
// are simulated from a world whose truth is known; each is given to dwols, adr and wis as their
// configs say, just as a file would be; what they find is compared with the true blips, and with
// what every policy earns in patients who follow it. Trains nothing.

#include "algorithms/dwols.h"
#include "algorithms/ope.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

typedef struct audit_keys {
  int64_t cohorts, patients, truth;
  char rule[RGM_STRING_SIZE], advantage[RGM_STRING_SIZE], sampling[RGM_STRING_SIZE];
} audit_keys;

#define KEY(member) offsetof(audit_keys, member)

static const rgm_field fields[] = {
    {"cohorts", RGM_INT, KEY(cohorts), "1", "2000", 2, 1e6, NULL, 0, "Cohorts that are simulated."},
    {"patients", RGM_INT, KEY(patients), "1", "1068", 10, 1e6, NULL, 0, "Patients of each."},
    {"truth", RGM_INT, KEY(truth), "1", "400000", 1000, 1e8, NULL, 0,
     "Patients who follow each policy, for what it is worth."},
    RGM_TEXT("rule", KEY(rule), "", 0, "Config of dwols; its data are the cohorts. Empty: none."),
    RGM_TEXT("advantage", KEY(advantage), "", 0, "Config of adr, likewise."),
    RGM_TEXT("sampling", KEY(sampling), "", 0, "Config of wis, likewise."),
    {0},
};

// Estimands; the first cohorts without a fit that do not make a config wrong.
enum { MOST = 64, TRIES = 10 };

// What is estimated: its truth, and over cohorts {value, low, high}. A truth that is itself a mean
// over patients is uncertain: what each of them has to do with it.
typedef struct estimand {
  char name[64];
  double truth;
  double *patient; // (truth) less their mean, NULL: the truth is exact
  bool apart;      // not part of all biases at once: it follows from others
  double *of;      // (cohorts, 3)
} estimand;

// The estimands of one config.
typedef struct suite {
  const char *name, *config;
  int count;
  int64_t lost; // cohorts without a fit
  estimand item[MOST];
} suite;

// What is told of an estimand.
typedef struct verdict {
  double mean, error, sd, width, coverage;
} verdict;


// ---- one cohort --------------------------------------------------------------------------------

// a run of a config on the cohort that is lent
static rgm_status open_child(const rgm_run *run, const char *path, rgm_run **out) {
  char threads[64], seed[64];
  snprintf(threads, sizeof threads, "run.threads=%lld", (long long)run->keys.threads);
  snprintf(seed, sizeof seed, "run.seed=%lld", (long long)rgm_run_seed(run, 0));
  const char *sets[] = {"data.path=memory:cohort", "run.backend=cpu", threads, seed};
  rgm_config *config = NULL;
  *out = NULL;
  RGM_TRY(rgm_config_load(path, sets, 4, &config));
  RGM_TRY(rgm_run_create(config, out));
  return rgm_metrics_memory(&(*out)->metrics);
}


static const double *find_tensor(const rgm_run *run, const char *name, int64_t *count) {
  for (int i = 0; i < rgm_arena_count(run->arena); i++) {
    const rgm_entry *e = rgm_arena_entry(run->arena, i);
    if (strcmp(e->name, name) == 0) {
      *count = rgm_elements(e->tensor);
      return e->tensor.data;
    }
  }
  return NULL;
}


static estimand *add(suite *s, const char *name, double truth, int64_t cohorts) {
  if (s->count == MOST) {
    return NULL;
  }
  estimand *e = &s->item[s->count];
  snprintf(e->name, sizeof e->name, "%s", name);
  e->truth = truth;
  e->of = malloc((size_t)(3 * cohorts) * sizeof *e->of);
  for (int64_t i = 0; i < 3 * cohorts && e->of != NULL; i++) {
    e->of[i] = NAN;
  }
  s->count += e->of != NULL;
  return e->of != NULL ? e : NULL;
}


// blips of a cohort, with normal intervals of the pooled covariance
static rgm_status audit_rule(rgm_run *run, rgm_run *child, int64_t cohort, suite *s) {
  const audit_keys *keys = rgm_algorithm_keys(run, 0);
  int64_t psi_count = 0, total_count = 0;
  double known[MOST];
  while (child->step < (uint64_t)child->keys.steps) {
    RGM_TRY(child->algorithm->step(child));
    child->step++;
  }
  RGM_TRY(child->algorithm->report(child));
  const double *psi = find_tensor(child, "psi", &psi_count);
  const double *total = find_tensor(child, "total", &total_count);
  const int count = run->env->known(rgm_env_keys(run, 0), known, MOST);
  if (psi == NULL || psi_count != count || total_count != psi_count * psi_count) {
    return rgm_fail(RGM_ECONFIG, "%s: %lld blip coefficients, but %s has %d", s->config,
                    (long long)psi_count, run->env->name, count);
  }
  for (int i = 0; i < count && s->count < count; i++) {
    char name[32];
    snprintf(name, sizeof name, "psi %d", i + 1);
    if (add(s, name, known[i], keys->cohorts) == NULL) {
      return rgm_fail(RGM_EMEMORY, "no memory for estimates");
    }
  }
  for (int i = 0; i < count; i++) {
    const double half = dwols_quantile(0.95, INFINITY) * sqrt(total[i * count + i]);
    const double three[] = {psi[i], psi[i] - half, psi[i] + half};
    memcpy(s->item[i].of + 3 * cohort, three, sizeof three);
  }
  return RGM_OK;
}


// what patients earn who follow a policy, by outcomes of the child's config: out (outcomes, truth)
static rgm_status find_truth(rgm_run *run, const char *what, const char *policy,
                             const char *outcomes, double *out) {
  const audit_keys *keys = rgm_algorithm_keys(run, 0);
  const bool observed = strcmp(policy, "observed") == 0;
  // other patients than the cohorts', the same for all policies
  const rgm_cohort_of which = {(uint64_t)rgm_run_seed(run, 0) + 1, 0, keys->truth,
                               observed ? "clinician" : policy};
  char text[RGM_STRING_SIZE], *rest = NULL;
  rgm_frame table;
  rgm_formula f;
  snprintf(text, sizeof text, "%s", outcomes);
  RGM_TRY(run->env->cohort(rgm_env_keys(run, 0), run->config, &which, &table));
  rgm_status status = RGM_OK;
  for (char *item = strtok_r(text, ",", &rest); item != NULL && status == RGM_OK;
       item = strtok_r(NULL, ",", &rest), out += keys->truth) {
    status = rgm_formula_parse(what, item, &table, true, &f);
    // of clones the first row
    for (int64_t i = 0; i < keys->truth && status == RGM_OK; i++) {
      out[i] = rgm_formula_value(&f, table.value + i * table.columns);
    }
  }
  rgm_frame_free(&table);
  return status;
}


// an estimand whose truth is the mean of x less that of y (NULL: 0), patient by patient
static rgm_status add_mean(rgm_run *run, suite *s, const char *name, const double *x,
                           const double *y, bool apart) {
  const audit_keys *keys = rgm_algorithm_keys(run, 0);
  const int64_t n = keys->truth;
  double *patient = malloc((size_t)n * sizeof *patient), mean = 0.0;
  for (int64_t i = 0; i < n && patient != NULL; i++) {
    patient[i] = x[i] - (y != NULL ? y[i] : 0.0);
    mean += patient[i] / (double)n;
  }
  for (int64_t i = 0; i < n && patient != NULL; i++) {
    patient[i] -= mean;
  }
  estimand *e = patient != NULL ? add(s, name, mean, keys->cohorts) : NULL;
  if (e == NULL) {
    free(patient);
    return rgm_fail(RGM_EMEMORY, "no memory for the truth of %lld patients", (long long)n);
  }
  e->patient = patient;
  e->apart = apart;
  return RGM_OK;
}


// truths of all policies for an evaluation's figures, in the order of the estimands: of adr against
// never and against the observed starts; of wis outcomes, not starts
static rgm_status add_truths(rgm_run *run, const rgm_run *child, const ope_values *v, suite *s) {
  const audit_keys *keys = rgm_algorithm_keys(run, 0);
  const ope_keys *ope = rgm_algorithm_keys(child, 0);
  const bool advantage = strcmp(child->algorithm->name, "adr") == 0;
  const char *outcomes = advantage ? ope->outcome : ope->outcomes;
  const int64_t n = keys->truth, each = advantage ? n : (v->figures - 1) * n;
  double *of = malloc((size_t)((v->policies + 1) * each) * sizeof *of);
  double *never = of + v->policies * each, *usual = of + (v->policies - 1) * each;
  rgm_status status = of != NULL ? find_truth(run, s->config, "never", outcomes, never)
                                 : rgm_fail(RGM_EMEMORY, "no memory for truths");
  for (int p = 0; p < v->policies && status == RGM_OK; p++) {
    status = find_truth(run, s->config, v->policy[p], outcomes, of + p * each);
  }
  for (int p = 0; p < v->policies && status == RGM_OK; p++) {
    char name[64];
    snprintf(name, sizeof name, "%s%s", v->policy[p], advantage ? " - never" : "");
    status = add_mean(run, s, name, of + p * each, advantage ? never : NULL, false);
    snprintf(name, sizeof name, "%s - observed", v->policy[p]);
    if (status == RGM_OK && advantage && p < v->policies - 1) {
      status = add_mean(run, s, name, of + p * each, usual, true);
    }
    for (int j = 1; j < v->figures - 1 && status == RGM_OK && !advantage; j++) {
      snprintf(name, sizeof name, "%s %d", v->policy[p], j + 1);
      status = add_mean(run, s, name, of + p * each + j * n, NULL, false);
    }
  }
  free(of);
  return status;
}


static rgm_status audit_values(rgm_run *run, rgm_run *child, int64_t cohort, suite *s) {
  const bool advantage = strcmp(child->algorithm->name, "adr") == 0;
  ope_values v;
  RGM_TRY(advantage ? adr_values(child, &v) : wis_values(child, &v));
  if (s->count == 0) {
    RGM_TRY(add_truths(run, child, &v, s));
  }
  int at = 0;
  for (int p = 0; p < v.policies; p++) {
    for (int j = 0; j < v.figures; j++) {
      if (advantage ? j == 0 || p < v.policies - 1 : j < v.figures - 1) {
        memcpy(s->item[at++].of + 3 * cohort, v.of[p][j], sizeof v.of[p][j]);
      }
    }
  }
  return RGM_OK;
}


static rgm_status audit_cohort(rgm_run *run, int64_t cohort, suite *s) {
  const audit_keys *keys = rgm_algorithm_keys(run, 0);
  rgm_run *child = NULL;
  rgm_status status = open_child(run, s->config, &child);
  if (status == RGM_OK) {
    const char *name = child->algorithm->name;
    status = strcmp(name, s->name) != 0
                 ? rgm_fail(RGM_ECONFIG, "%s: a config of %s, not of %s", s->config, name, s->name)
             : strcmp(name, "dwols") == 0 ? audit_rule(run, child, cohort, s)
                                          : audit_values(run, child, cohort, s);
  }
  rgm_run_free(child);
  // a cohort may have too few starts; a config is right or wrong for all
  const bool some = s->count > 0 || (s->lost + 1 < keys->cohorts && s->lost + 1 < TRIES);
  if (status == RGM_ENUMERIC || (status == RGM_EDATA && some)) {
    s->lost++;
    return RGM_OK;
  }
  return status;
}


// ---- verdicts ----------------------------------------------------------------------------------

// the covariance of two truths
static double shared_error(const estimand *a, const estimand *b, int64_t n) {
  double sum = 0.0;
  for (int64_t i = 0; i < n && a->patient != NULL && b->patient != NULL; i++) {
    sum += a->patient[i] * b->patient[i];
  }
  return sum / ((double)n * (double)n);
}


static verdict judge(const estimand *e, int64_t cohorts, int64_t truth) {
  verdict v = {0};
  double n = 0.0, square = 0.0;
  for (int64_t i = 0; i < cohorts; i++) {
    const double *x = e->of + 3 * i;
    if (isfinite(x[0])) {
      n += 1.0;
      v.mean += x[0];
      v.width += 0.5 * (x[2] - x[1]) / dwols_quantile(0.95, INFINITY);
      v.coverage += x[1] <= e->truth && e->truth <= x[2];
    }
  }
  v.mean /= n;
  v.width /= n;
  v.coverage /= n;
  for (int64_t i = 0; i < cohorts; i++) {
    const double t = e->of[3 * i] - v.mean;
    square += isfinite(t) ? t * t : 0.0;
  }
  v.sd = sqrt(square / (n - 1.0));
  v.error = sqrt(v.sd * v.sd / n + shared_error(e, e, truth));
  return v;
}


// P(chi-square of df > x), by Wilson and Hilferty's cube root
static double chi_tail(double x, double df) {
  const double z = (cbrt(x / df) - (1.0 - 2.0 / (9.0 * df))) / sqrt(2.0 / (9.0 * df));
  return 0.5 * erfc(z * sqrt(0.5));
}


// All biases at once: Hotelling's T^2 over cohorts, as p; the truth's own error is in it. NaN where
// estimates depend on each other.
static double joint(const suite *s, int64_t cohorts, int64_t truth) {
  const estimand *of[MOST];
  int q = 0;
  for (int j = 0; j < s->count; j++) {
    of[q] = &s->item[j];
    q += !s->item[j].apart;
  }
  double *cov = calloc((size_t)(q * q + 2 * q), sizeof *cov), n = 0.0, sum = 0.0;
  if (cov == NULL) {
    return NAN;
  }
  double *bias = cov + q * q, *solved = bias + q;
  int column;
  for (int pass = 0; pass < 2; pass++) {
    for (int64_t i = 0; i < cohorts; i++) {
      bool whole = true;
      for (int j = 0; j < q; j++) {
        whole = whole && isfinite(of[j]->of[3 * i]);
      }
      n += pass == 0 && whole;
      for (int j = 0; j < q && whole; j++) {
        const double x = of[j]->of[3 * i] - of[j]->truth;
        bias[j] += pass == 0 ? x : 0.0;
        for (int k = 0; k < q && pass == 1; k++) {
          cov[j * q + k] += (x - bias[j]) * (of[k]->of[3 * i] - of[k]->truth - bias[k]);
        }
      }
    }
    for (int j = 0; j < q && pass == 0; j++) {
      bias[j] /= n;
    }
  }
  // as correlations, biases over their errors
  for (int j = 0; j < q * q; j++) {
    cov[j] = cov[j] / ((n - 1.0) * n) + shared_error(of[j / q], of[j % q], truth);
  }
  for (int j = 0; j < q; j++) {
    solved[j] = sqrt(cov[j * q + j]);
    bias[j] /= solved[j];
  }
  for (int j = 0; j < q * q; j++) {
    cov[j] /= solved[j / q] * solved[j % q];
  }
  memcpy(solved, bias, (size_t)q * sizeof *solved);
  const bool good = n > q + 1 && dwols_solve(cov, solved, q, &column);
  for (int j = 0; j < q; j++) {
    sum += bias[j] * solved[j];
  }
  free(cov);
  // T^2 (n - q) / (q (n - 1)) is F; of many cohorts q F is chi-square
  return good ? chi_tail(sum * (n - q) / (n - 1.0), q) : NAN;
}


// the mean coverage, and its error over cohorts
static void cover(const suite *s, int64_t cohorts, double *mean, double *error) {
  double n = 0.0, sum = 0.0, square = 0.0;
  for (int64_t i = 0; i < cohorts; i++) {
    double share = 0.0;
    for (int j = 0; j < s->count; j++) {
      const double *x = s->item[j].of + 3 * i;
      share += (x[1] <= s->item[j].truth && s->item[j].truth <= x[2]) / (double)s->count;
    }
    if (s->count > 0 && isfinite(s->item[0].of[3 * i])) {
      n += 1.0;
      sum += share;
      square += share * share;
    }
  }
  *mean = sum / n;
  *error = sqrt((square / n - *mean * *mean) / (n - 1.0));
}


static void write_suite(const suite *s, int64_t cohorts, int64_t truth, rgm_json *json,
                        FILE *text) {
  const double p = joint(s, cohorts, truth);
  double coverage, error, worst = 0.0;
  cover(s, cohorts, &coverage, &error);
  rgm_json_open(json, s->name, '{');
  rgm_json_open(json, "estimands", '{');
  if (text != NULL) {
    fprintf(text,
            "%s: %s, %lld cohorts, %lld without a fit\n  %-24s %10s %10s %10s %8s %10s %10s %9s\n",
            s->name, s->config, (long long)cohorts, (long long)s->lost, "", "truth", "bias",
            "its error", "z", "sd", "mean se", "coverage");
  }
  for (int j = 0; j < s->count; j++) {
    const estimand *e = &s->item[j];
    const verdict v = judge(e, cohorts, truth);
    const double bias = v.mean - e->truth, z = v.error > 0 ? bias / v.error : 0.0;
    worst = fmax(worst, fabs(z));
    rgm_json_open(json, e->name, '{');
    rgm_json_number(json, "truth", e->truth);
    rgm_json_number(json, "bias", bias);
    rgm_json_number(json, "bias_error", v.error);
    rgm_json_number(json, "z", z);
    rgm_json_number(json, "sd", v.sd);
    rgm_json_number(json, "mean_se", v.width);
    rgm_json_number(json, "coverage", v.coverage);
    rgm_json_close(json, '}');
    if (text != NULL) {
      fprintf(text, "  %-24s %10.4f %10.4f %10.4f %8.2f %10.4f %10.4f %8.1f%%\n", e->name, e->truth,
              bias, v.error, z, v.sd, v.width, 100.0 * v.coverage);
    }
  }
  rgm_json_close(json, '}');
  rgm_json_number(json, "cohorts_without_fit", (double)s->lost);
  rgm_json_number(json, "bias_p", p);
  rgm_json_number(json, "largest_z", worst);
  rgm_json_number(json, "coverage", coverage);
  rgm_json_number(json, "coverage_error", error);
  rgm_json_close(json, '}');
  if (text != NULL) {
    fprintf(text, "  all biases at once: p = %.3g; coverage %.2f %% +- %.2f\n", p, 100.0 * coverage,
            100.0 * error);
  }
}


// ---- the audit ---------------------------------------------------------------------------------

static rgm_status audit_all(rgm_run *run, suite *suites, int count) {
  const audit_keys *keys = rgm_algorithm_keys(run, 0);
  rgm_status status = RGM_OK;
  for (int64_t i = 0; i < keys->cohorts && status == RGM_OK; i++) {
    const rgm_cohort_of which = {(uint64_t)rgm_run_seed(run, 0), (uint32_t)i, keys->patients,
                                 "clinician"};
    rgm_frame table;
    status = run->env->cohort(rgm_env_keys(run, 0), run->config, &which, &table);
    rgm_frame_lend("cohort", &table);
    for (int k = 0; k < count && status == RGM_OK; k++) {
      status = suites[k].config[0] != '\0' ? audit_cohort(run, i, &suites[k]) : RGM_OK;
    }
    rgm_frame_lend("cohort", NULL);
    rgm_frame_free(&table);
  }
  return status;
}


static rgm_status dtr_audit_evaluate(rgm_run *run, rgm_json *json, FILE *text) {
  const audit_keys *keys = rgm_algorithm_keys(run, 0);
  suite suites[] = {{.name = "dwols", .config = keys->rule},
                    {.name = "adr", .config = keys->advantage},
                    {.name = "wis", .config = keys->sampling}};
  const int count = sizeof suites / sizeof *suites;
  if (keys->rule[0] == '\0' && keys->advantage[0] == '\0' && keys->sampling[0] == '\0') {
    return rgm_fail(RGM_ECONFIG, "nothing to audit: set algorithm.rule, advantage or sampling to a "
                                 "config of dwols, adr or wis");
  }
  rgm_status status = audit_all(run, suites, count);
  if (status == RGM_OK) {
    rgm_json_open(json, NULL, '{');
    rgm_json_number(json, "cohorts", (double)keys->cohorts);
    rgm_json_number(json, "patients", (double)keys->patients);
    for (int k = 0; k < count; k++) {
      if (suites[k].config[0] != '\0') {
        write_suite(&suites[k], keys->cohorts, keys->truth, json, text);
      }
    }
    rgm_json_close(json, '}');
  }
  for (int k = 0; k < count; k++) {
    for (int j = 0; j < suites[k].count; j++) {
      free(suites[k].item[j].of);
      free(suites[k].item[j].patient);
    }
  }
  return status;
}


static rgm_status dtr_audit_check(const rgm_run *run) {
  const audit_keys *k = rgm_algorithm_keys(run, 0);
  const char *const keys[] = {"algorithm.rule", "algorithm.advantage", "algorithm.sampling"};
  const char *const paths[] = {k->rule, k->advantage, k->sampling};
  for (int i = 0; i < 3; i++) {
    FILE *file = paths[i][0] != '\0' ? fopen(paths[i], "r") : NULL;
    if (paths[i][0] != '\0' && file == NULL) {
      return rgm_fail(RGM_ECONFIG, "%s: %s: %s cannot be read; a config is expected, as from here",
                      rgm_config_where(run->config, keys[i]), keys[i], paths[i]);
    }
    if (file != NULL) {
      fclose(file);
    }
  }
  return RGM_OK;
}


const rgm_algorithm rgm_dtr_audit = {
    .name = "dtr_audit",
    .paper = "",
    .doc = "Staged rules and their values against a known truth, cohort by cohort; trains nothing.",
    .fields = fields,
    .keys_size = sizeof(audit_keys),
    .needs = RGM_NEEDS_ENV | RGM_NEEDS_COHORT | RGM_TRAINS_NOT,
    .check = dtr_audit_check,
    .evaluate = dtr_audit_evaluate,
};
