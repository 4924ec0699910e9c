// SPDX-License-Identifier: Apache-2.0
// Weighted importance sampling of staged starts (Precup, Sutton & Singh 2000): those who were
// treated as a policy would, weighted by how unlikely that was. Trains nothing.
//
//   V = sum R match / prod l / sum match / prod l,  l_k = e_k^a_k (1 - e_k)^(1 - a_k) of those
//   alive and untreated before k, match = 1 where treatment and policy agree while alive.

#include "algorithms/adr.h"
#include "kernels/scalar.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

static const char *const observed_names[] = {"corrected", "published", NULL};

static const rgm_field fields[] = {
    {"outcomes", RGM_STRING, OPE_KEY(outcomes), "", NULL, 0, 0, NULL, 0,
     "Expressions of outcomes, by commas."},
    RGM_TEXT(
        "value", OPE_KEY(value), "", RGM_ADDED,
        "Which of the outcomes is a strategy's value in `strategies` and figure4_strategies.csv."),
    RGM_TEXT("mortality", OPE_KEY(mortality), "", RGM_ADDED,
             "Which of the outcomes is mortality there."),
    {"observed", RGM_CHOICE, OPE_KEY(observed), "", "corrected", 0, 0, observed_names, RGM_ADDED,
     "Weights of the observed starts: 1; published: as of any policy (biased)."},
    OPE_FIELDS,
    {0},
};

// Values of every policy: outcomes, share that starts, ordinary importance sampling of them.
enum { MOST = OPE_OUTCOMES + 1 };
typedef struct wis_value {
  double wis[MOST], is[MOST], match, ess, most;
} wis_value;

typedef struct wis_job {
  const ope_data *d;
  const adr_fits *f;
  int64_t first, replicates;
  double *value; // (policies, outcomes + 1, replicates)
} wis_job;


// probabilities of what happened (N), 0 where a fit failed
static bool probabilities(const ope_data *d, const double *count, double *l) {
  const int64_t N = d->N;
  double *label = malloc(2 * (size_t)N * sizeof *label), *weight = label + N;
  bool good = label != NULL;
  for (int64_t i = 0; i < N; i++) {
    l[i] = 1.0;
  }
  for (int k = 0; k < d->K && good; k++) {
    double beta[RGM_FORMULA_COLUMNS];
    for (int64_t i = 0; i < N; i++) {
      // as published: those who died before stage 2 count as untreated there, but not later
      const bool dead_too = d->keys->rows == COMPAT_PUBLISHED && k == 1;
      const bool alive = d->alive[(dead_too ? 0 : k) * N + i];
      label[i] = d->a[k * N + i];
      weight[i] = alive && (k == 0 || !d->a[(k - 1) * N + i]) ? count[i] : 0.0;
    }
    good = ope_logistic(d, &d->e[k], label, weight, beta);
    for (int64_t i = 0; i < N && good; i++) {
      if (d->alive[k * N + i] && (k == 0 || !d->a[(k - 1) * N + i])) {
        const double e = rgm_sigmoid64(ope_score(&d->e[k], beta, i));
        l[i] *= label[i] != 0 ? e : 1.0 - e;
      }
    }
  }
  free(label);
  return good;
}


// whether what was done is what a policy says while alive; *starts under it
static bool is_match(const ope_data *d, const ope_policy *p, int64_t i, bool *starts) {
  bool match = true;
  *starts = false;
  for (int k = 0; k < d->K; k++) {
    const bool alive = d->alive[k * d->N + i];
    match = match && (!alive || p->start[k * d->N + i] == d->a[k * d->N + i]);
    *starts = *starts || (alive && p->start[k * d->N + i]);
  }
  return match;
}


static void weigh(const ope_data *d, const ope_policy *p, const double *count, const double *l,
                  wis_value *v) {
  const int64_t N = d->N;
  double sum = 0.0, square = 0.0, all = 0.0;
  *v = (wis_value){.match = 0};
  for (int64_t i = 0; i < N; i++) {
    bool starts;
    all += count[i];
    if (!is_match(d, p, i, &starts) || !(count[i] > 0)) {
      continue;
    }
    // what was done is what the observed policy does, however unlikely
    const bool certain = p->is_observed && d->keys->observed == COMPAT_CORRECTED;
    const double w = certain ? count[i] : count[i] / l[i];
    v->match += count[i];
    sum += w;
    square += w * w;
    v->most = fmax(v->most, w);
    for (int j = 0; j <= d->outcomes; j++) {
      v->is[j] += w * (j < d->outcomes ? d->outcome[j][i] : starts);
    }
  }
  for (int j = 0; j <= d->outcomes; j++) {
    v->wis[j] = v->is[j] / sum;
    v->is[j] /= all;
  }
  v->ess = sum * sum / square;
  v->most /= sum;
}


// ---- resamples, sixteen at a time --------------------------------------------------------------

enum { L = RGM_FIT_LANES, WAVE = 4 };

// probabilities of what a row did, in lanes
static void row_probabilities(const adr_fits *f, int64_t g, int64_t i, double l[L]) {
  const ope_data *d = f->d;
  for (int lane = 0; lane < L; lane++) {
    l[lane] = 1.0;
  }
  for (int k = 0; k < d->K && d->alive[k * d->N + i]; k++) {
    const double *e = (const double *)f->of[k].e.data + g * f->of[k].e.stride0 + i * L;
    const bool started = d->a[k * d->N + i];
    for (int lane = 0; lane < L; lane++) {
      l[lane] *= started ? e[lane] : 1.0 - e[lane];
    }
    if (started) {
      break;
    }
  }
}


// values of all policies in the lanes of a group
static void resample_task(void *arg, int64_t g) {
  const wis_job *job = arg;
  const ope_data *d = job->d;
  const adr_fits *f = job->f;
  const uint8_t *counts = (const uint8_t *)f->counts.data + g * f->counts.stride0;
  double sum[OPE_POLICIES][L] = {{0}}, of[OPE_POLICIES][MOST][L] = {{{0}}};
  for (int64_t i = 0; i < d->N; i++) {
    double l[L];
    row_probabilities(f, g, i, l);
    for (int p = 0; p < d->policies; p++) {
      const bool certain = d->policy[p].is_observed && d->keys->observed == COMPAT_CORRECTED;
      bool starts;
      if (!is_match(d, &d->policy[p], i, &starts)) {
        continue;
      }
      for (int lane = 0; lane < L; lane++) {
        const double count = counts[i * L + lane], w = certain ? count : count / l[lane];
        sum[p][lane] += w;
        for (int j = 0; j <= d->outcomes; j++) {
          of[p][j][lane] += w * (j < d->outcomes ? d->outcome[j][i] : starts);
        }
      }
    }
  }
  for (int p = 0; p < d->policies; p++) {
    for (int j = 0; j <= d->outcomes; j++) {
      for (int lane = 0; lane < L; lane++) {
        const int64_t b = job->first + g * L + lane;
        if (b < job->replicates) {
          job->value[(p * (d->outcomes + 1) + j) * job->replicates + b] =
              f->lost[g * L + lane] ? NAN : of[p][j][lane] / sum[p][lane];
        }
      }
    }
  }
}


static rgm_status resample(rgm_run *run, rgm_stream *stream, wis_job *job) {
  const int64_t threads = run->keys.threads > 0 ? run->keys.threads : 1;
  const int64_t all = (job->replicates + L - 1) / L, most = WAVE * threads;
  const int64_t G = all < most ? all : most;
  adr_fits f;
  if (job->replicates == 0) {
    return RGM_OK;
  }
  job->f = &f;
  const rgm_status status = adr_open_propensities(job->d, stream, rgm_run_seed(run, 0), G, &f);
  for (; job->first < job->replicates && status == RGM_OK; job->first += G * L) {
    const int64_t left = (job->replicates - job->first + L - 1) / L, n = left < G ? left : G;
    adr_fit_propensities(&f, job->first + 1, n);
    rgm_cpu_parallel(stream, n, resample_task, job);
  }
  adr_close(&f);
  return status;
}


// ---- results -----------------------------------------------------------------------------------

// Every policy in one table: its values, and the estimates that are pooled.
typedef struct answer {
  wis_value of[OPE_POLICIES];
  ope_estimate estimate[OPE_POLICIES][MOST];
} answer;


static rgm_status answer_table(rgm_run *run, rgm_stream *stream, const ope_data *d, answer *out) {
  const int64_t B = d->keys->replicates;
  double *count = malloc((2 * (size_t)d->N + (size_t)(OPE_POLICIES * MOST * B)) * sizeof *count);
  if (count == NULL) {
    return rgm_fail(RGM_EMEMORY, "no memory for resamples");
  }
  wis_job job = {d, NULL, 0, B, count + 2 * d->N};
  for (int64_t i = 0; i < d->N; i++) {
    count[i] = 1.0;
  }
  if (!probabilities(d, count, count + d->N)) {
    free(count);
    return rgm_fail(RGM_ENUMERIC,
                    "%s: a propensity has no fit: its terms separate the "
                    "treatments, or repeat each other",
                    d->path);
  }
  const rgm_status status = resample(run, stream, &job);
  for (int p = 0; p < d->policies; p++) {
    weigh(d, &d->policy[p], count, count + d->N, &out->of[p]);
    for (int j = 0; j <= d->outcomes; j++) {
      const ope_spread spread =
          ope_summarise(job.value + (p * (d->outcomes + 1) + j) * B, B, d->keys->level);
      out->estimate[p][j] = (ope_estimate){out->of[p].wis[j], NAN, spread};
    }
  }
  free(count);
  return status;
}


static void write_policy(const ope_data *d, int p, const answer *a, int64_t tables, rgm_json *json,
                         FILE *text) {
  double match = 0.0, ess = 0.0, most = 0.0;
  for (int64_t t = 0; t < tables; t++) {
    match += a[t].of[p].match / (double)tables;
    ess += a[t].of[p].ess / (double)tables;
    most = fmax(most, a[t].of[p].most);
  }
  rgm_json_open(json, d->policy[p].name, '{');
  rgm_json_number(json, "match", match);
  rgm_json_number(json, "ess", ess);
  rgm_json_number(json, "max_share", most);
  for (int j = 0; j <= d->outcomes; j++) {
    const char *name = j < d->outcomes ? d->outcome_name[j] : "starts";
    const ope_pooled e = ope_pool(d->keys, &a[0].estimate[p][j], sizeof *a, tables, d->clusters);
    double is = 0.0;
    for (int64_t t = 0; t < tables; t++) {
      is += a[t].of[p].is[j] / (double)tables;
    }
    rgm_json_open(json, name, '{');
    rgm_json_number(json, "wis", e.value);
    rgm_json_number(json, "is", is);
    ope_write_spread(json, "", &e);
    rgm_json_close(json, '}');
    if (text != NULL) {
      fprintf(text,
              "  %-12s %-16s %9.4f  (%.4f, %.4f)  match %.0f, effective %.0f, largest %.1f "
              "%%\n",
              d->policy[p].name, name, e.value, e.low, e.high, match, ess, 100 * most);
    }
  }
  rgm_json_close(json, '}');
}


// ---- strategies side by side -------------------------------------------------------------------

// What a strategy is compared by: its value, the share that starts, mortality.
enum { SHOWN = 3 };
static const char *const shown[SHOWN] = {"value", "rrt_share", "mortality"};

// which outcome each is, -1: none; a key that names no outcome is an error
static rgm_status find_shown(const rgm_run *run, const ope_data *d, int place[SHOWN]) {
  const char *const texts[SHOWN] = {d->keys->value, "", d->keys->mortality};
  for (int k = 0; k < SHOWN; k++) {
    place[k] = k == 1 ? d->outcomes : -1;
    for (int j = 0; j < d->outcomes; j++) {
      place[k] = strcmp(texts[k], d->outcome_name[j]) == 0 ? j : place[k];
    }
    if (texts[k][0] != '\0' && place[k] < 0) {
      char key[64];
      snprintf(key, sizeof key, "algorithm.%s", shown[k]);
      return rgm_fail(RGM_ECONFIG, "%s: %s: %s is none of algorithm.outcomes",
                      rgm_config_where(run->config, key), key, texts[k]);
    }
  }
  return RGM_OK;
}


// JSON: strategies.NAME.{value, ci, rrt_share, mortality, ...}; in the run's folder the data of the
// publication's figure 4, a row for each strategy and quantity
static rgm_status write_strategies(const rgm_run *run, const ope_data *d, const answer *a,
                                   int64_t tables, rgm_json *json) {
  char path[2200];
  int place[SHOWN];
  FILE *out = NULL;
  RGM_TRY(find_shown(run, d, place));
  if (run->out[0] != '\0') {
    snprintf(path, sizeof path, "%s/figure4_strategies.csv", run->out);
    out = fopen(path, "w");
    if (out == NULL) {
      return rgm_fail(RGM_EIO, "%s: %s", path, strerror(errno));
    }
    fprintf(out, "strategy,quantity,outcome,value,low,high\n");
  }
  rgm_json_open(json, "strategies", '{');
  for (int p = 0; p < d->policies; p++) {
    const char *name = d->policy[p].is_observed ? "standard" : d->policy[p].name;
    rgm_json_open(json, name, '{');
    for (int k = 0; k < SHOWN; k++) {
      if (place[k] < 0) {
        continue;
      }
      const ope_pooled e =
          ope_pool(d->keys, &a[0].estimate[p][place[k]], sizeof *a, tables, d->clusters);
      char key[64];
      rgm_json_number(json, shown[k], e.value);
      snprintf(key, sizeof key, k == 0 ? "ci" : "%s_ci", shown[k]);
      rgm_json_open(json, key, '[');
      rgm_json_number(json, NULL, e.low);
      rgm_json_number(json, NULL, e.high);
      rgm_json_close(json, ']');
      if (out != NULL) {
        fprintf(out, "%s,%s,%s,%.9g,%.9g,%.9g\n", name, shown[k],
                place[k] < d->outcomes ? d->outcome_name[place[k]] : "starts", e.value, e.low,
                e.high);
      }
    }
    rgm_json_close(json, '}');
  }
  rgm_json_close(json, '}');
  return out == NULL || fclose(out) == 0 ? RGM_OK
                                         : rgm_fail(RGM_EIO, "%s: cannot be written", path);
}


// what all tables say together; d is the last one
static rgm_status write_answers(const rgm_run *run, const ope_data *d, const answer *a,
                                int64_t tables, rgm_json *json, FILE *text) {
  rgm_json_open(json, NULL, '{');
  rgm_json_number(json, "n", (double)d->N);
  rgm_json_number(json, "patients", (double)d->clusters);
  rgm_json_number(json, "imputations", (double)tables);
  rgm_json_string(json, "propensity_rows", ope_rows[d->keys->rows]);
  rgm_json_open(json, "policies", '{');
  for (int p = 0; p < d->policies; p++) {
    write_policy(d, p, a, tables, json, text);
  }
  rgm_json_close(json, '}');
  const rgm_status status = write_strategies(run, d, a, tables, json);
  rgm_json_close(json, '}');
  return status;
}


// the same as numbers
static void fill_values(const ope_data *d, const answer *a, int64_t tables, ope_values *out) {
  *out = (ope_values){.policies = d->policies, .figures = d->outcomes + 1};
  for (int p = 0; p < d->policies; p++) {
    memcpy(out->policy[p], d->policy[p].name, sizeof out->policy[p]);
    for (int j = 0; j <= d->outcomes; j++) {
      const ope_pooled e = ope_pool(d->keys, &a[0].estimate[p][j], sizeof *a, tables, d->clusters);
      const double three[] = {e.value, e.low, e.high};
      memcpy(out->of[p][j], three, sizeof three);
    }
  }
}


static rgm_status evaluate_all(rgm_run *run, rgm_json *json, FILE *text, ope_values *values) {
  ope_tables t;
  rgm_status status = ope_open(run, &t);
  answer *answers = calloc((size_t)t.count + 1, sizeof *answers);
  if (status == RGM_OK && answers == NULL) {
    status = rgm_fail(RGM_EMEMORY, "no memory for results");
  }
  for (int64_t i = 0; i < t.count && status == RGM_OK; i++) {
    ope_data d;
    status = ope_load(run, &t, i, true, false, &d);
    if (status == RGM_OK) {
      status = answer_table(run, rgm_host(run->stream), &d, &answers[i]);
    }
    if (status == RGM_OK && i == t.count - 1 && json != NULL) {
      status = write_answers(run, &d, answers, t.count, json, text);
    }
    if (status == RGM_OK && i == t.count - 1 && values != NULL) {
      fill_values(&d, answers, t.count, values);
    }
    ope_free(&d);
  }
  free(answers);
  ope_close(&t);
  return status;
}


rgm_status wis_values(rgm_run *run, ope_values *out) {
  return evaluate_all(run, NULL, NULL, out);
}


static rgm_status wis_evaluate(rgm_run *run, rgm_json *json, FILE *text) {
  return evaluate_all(run, json, text, NULL);
}


const rgm_algorithm rgm_wis = {
    .name = "wis",
    .paper = "Precup, Sutton & Singh 2000; Grolleau et al. 2024",
    .doc = "Value of staged policies by weighted importance sampling; trains nothing.",
    .fields = fields,
    .keys_size = sizeof(ope_keys),
    .needs = RGM_NEEDS_TABLE | RGM_NEEDS_FRAME | RGM_TRAINS_NOT,
    .evaluate = wis_evaluate,
};
