// SPDX-License-Identifier: Apache-2.0
// Weighted importance sampling of staged starts (Precup, Sutton & Singh 2000): those who were
// treated as a policy would, weighted by how unlikely that was. Trains nothing.
//
//   V = sum R match / prod l / sum match / prod l,  l_k = e_k^a_k (1 - e_k)^(1 - a_k) of those
//   alive and untreated before k, match = 1 where treatment and policy agree while alive.

#include "algorithms/ope.h"
#include "kernels/scalar.h"

#include <math.h>
#include <stdlib.h>

static const rgm_field fields[] = {
    {"outcomes", RGM_STRING, OPE_KEY(outcomes), "", NULL, 0, 0, NULL, 0,
     "Expressions of outcomes, by commas."},
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
  int64_t seed, replicates;
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


static void weigh(const ope_data *d, const ope_policy *p, const double *count, const double *l,
                  wis_value *v) {
  const int64_t N = d->N;
  double sum = 0.0, square = 0.0, all = 0.0;
  *v = (wis_value){.match = 0};
  for (int64_t i = 0; i < N; i++) {
    bool match = true, starts = false;
    for (int k = 0; k < d->K; k++) {
      const bool alive = d->alive[k * N + i];
      match = match && (!alive || p->start[k * N + i] == d->a[k * N + i]);
      starts = starts || (alive && p->start[k * N + i]);
    }
    all += count[i];
    if (!match || !(count[i] > 0)) {
      continue;
    }
    const double w = count[i] / l[i];
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


static void resample_task(void *arg, int64_t b) {
  const wis_job *job = arg;
  const ope_data *d = job->d;
  double *count = malloc(2 * (size_t)d->N * sizeof *count), *l = count + d->N;
  bool good = count != NULL;
  if (good) {
    ope_draw(d, job->seed, b + 1, count);
    good = probabilities(d, count, l);
  }
  for (int p = 0; p < d->policies; p++) {
    wis_value v;
    if (good) {
      weigh(d, &d->policy[p], count, l, &v);
    }
    for (int j = 0; j <= d->outcomes; j++) {
      job->value[(p * (d->outcomes + 1) + j) * job->replicates + b] = good ? v.wis[j] : NAN;
    }
  }
  free(count);
}


static void write_policy(const ope_data *d, int p, const wis_value *v, const wis_job *job,
                         rgm_json *json, FILE *text) {
  rgm_json_open(json, d->policy[p].name, '{');
  rgm_json_number(json, "match", v->match);
  rgm_json_number(json, "ess", v->ess);
  rgm_json_number(json, "max_share", v->most);
  for (int j = 0; j <= d->outcomes; j++) {
    const char *name = j < d->outcomes ? d->outcome_name[j] : "starts";
    const ope_spread s = ope_summarise(job->value + (p * (d->outcomes + 1) + j) * job->replicates,
                                       job->replicates, d->keys->level);
    rgm_json_open(json, name, '{');
    rgm_json_number(json, "wis", v->wis[j]);
    rgm_json_number(json, "is", v->is[j]);
    rgm_json_number(json, "se", s.se);
    rgm_json_open(json, "ci", '[');
    rgm_json_number(json, NULL, s.low);
    rgm_json_number(json, NULL, s.high);
    rgm_json_close(json, ']');
    rgm_json_number(json, "resamples_without_fit", (double)s.lost);
    rgm_json_close(json, '}');
    if (text != NULL) {
      fprintf(text,
              "  %-12s %-16s %9.4f  (%.4f, %.4f)  match %.0f, effective %.0f, largest %.1f "
              "%%\n",
              d->policy[p].name, name, v->wis[j], s.low, s.high, v->match, v->ess, 100 * v->most);
    }
  }
  rgm_json_close(json, '}');
}


static rgm_status wis_evaluate(rgm_run *run, rgm_json *json, FILE *text) {
  ope_data d;
  rgm_status status = ope_load(run, true, false, &d);
  const int64_t B = status == RGM_OK ? d.keys->replicates : 0;
  const size_t size = (size_t)(OPE_POLICIES * MOST * B);
  double *count = malloc((2 * (size_t)d.N + size + 1) * sizeof *count);
  if (status == RGM_OK && count == NULL) {
    status = rgm_fail(RGM_EMEMORY, "no memory for resamples");
  }
  if (status == RGM_OK) {
    wis_job job = {&d, rgm_run_seed(run, 0), B, count + 2 * d.N};
    ope_draw(&d, 0, 0, count);
    if (!probabilities(&d, count, count + d.N)) {
      status = rgm_fail(RGM_ENUMERIC,
                        "%s: a propensity has no fit: its terms separate the "
                        "treatments, or repeat each other",
                        d.path);
    } else {
      ope_parallel(run, B, resample_task, &job);
      rgm_json_open(json, NULL, '{');
      rgm_json_number(json, "n", (double)d.N);
      rgm_json_number(json, "patients", (double)d.clusters);
      rgm_json_string(json, "propensity_rows", ope_rows[d.keys->rows]);
      rgm_json_open(json, "policies", '{');
      for (int p = 0; p < d.policies; p++) {
        wis_value v;
        weigh(&d, &d.policy[p], count, count + d.N, &v);
        write_policy(&d, p, &v, &job, json, text);
      }
      rgm_json_close(json, '}');
      rgm_json_close(json, '}');
    }
  }
  free(count);
  ope_free(&d);
  return status;
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
