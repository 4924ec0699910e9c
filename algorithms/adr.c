// SPDX-License-Identifier: Apache-2.0
// The advantage of a staged policy over never treating, doubly robust and cross-fitted (Nie,
// Brunskill & Wager 2021, algorithm 2), with death as a terminal state (Grolleau et al. 2024).
// Trains nothing.
//
//   D(pi) = 1/n sum_i sum_k 1{alive at k} 1{k >= tau_pi} 1{a_1 .. a_(k-1) = 0} psi_k
//           / prod_(s<k) (1 - e_s)
//   psi_k = mu_k - (1 - rho_k) U_k + 1{a_k = 1} (Y - mu_k) / e_k
//           - 1{a_k = 0, a_(k+1) = 1, alive at k + 1} (Y - U_k) / ((1 - e_k) e_(k+1)),   k < K
//   psi_K = mu_K - U_K + 1{a_K = 1} (Y - mu_K) / e_K - 1{a_K = 0} (Y - U_K) / (1 - e_K)
//
// The observed policy depends on the treatments themselves, so that its 1{k >= tau} is not known at
// k: its expectation 1 - prod_(s<=k) (1 - e_s) stands in its place (`observed: published`: it does
// not, which is biased). The outcome is 0 for the dead.

#include "algorithms/ope.h"
#include "kernels/scalar.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static const char *const observed_names[] = {"corrected", "published", NULL};
static const char *const split_names[] = {"patient", "row", NULL};

static const rgm_field fields[] = {
    {"outcome", RGM_STRING, OPE_KEY(outcome), "", NULL, 0, 0, NULL, 0,
     "Expression of the outcome, 0 for the dead; more of it is better."},
    {"folds", RGM_INT, OPE_KEY(folds), "1", "2", 2, 20, NULL, 0, "Folds of the cross-fitting."},
    {"fold", RGM_STRING, OPE_KEY(fold), "", "", 0, 0, NULL, 0,
     "Column of given folds, from 1 on; empty: drawn."},
    {"split", RGM_CHOICE, OPE_KEY(split), "", "patient", 0, 0, split_names, 0,
     "Folds are drawn by patient; by row, copies of a patient lie in several (leakage)."},
    {"observed", RGM_CHOICE, OPE_KEY(observed), "", "corrected", 0, 0, observed_names, 0,
     "How the observed policy enters; published: by the starts themselves (biased)."},
    {"clip", RGM_FLOAT, OPE_KEY(clip), "1", "0.01", 0, 0.4, NULL, 0,
     "Propensities are kept within clip and 1 - clip; sensitivity rows come along."},
    {"cure", RGM_BOOL, OPE_KEY(cure), "", "false", 0, 0, NULL, 0,
     "Augment the death model too: - 1{a_k = 0} (1{alive} - (1 - rho)) U / (1 - e)."},
    {"normalise", RGM_BOOL, OPE_KEY(normalise), "", "false", 0, 0, NULL, 0,
     "Each of the three terms is divided by its own sum of weights at every stage."},
    OPE_FIELDS,
    {0},
};

static const double clips[] = {0.0, 0.005, 0.01, 0.02, 0.05};
enum { CLIPS = 5 };

// What the models of all stages predict for every row, each from folds other than its own.
typedef struct nuisances {
  double *e, *mu, *u, *rho; // (K, N)
} nuisances;

typedef struct adr_job {
  const ope_data *d;
  int64_t seed, replicates;
  double *value; // (policies, replicates)
} adr_job;


static bool is_open(const ope_data *d, int k, int64_t i) {
  return k == 0 || !d->a[(k - 1) * d->N + i];
}


// which rows a propensity is fitted on
static bool is_at_risk(const ope_data *d, int k, int64_t i) {
  const bool newly_dead = d->keys->rows == COMPAT_PUBLISHED;
  return is_open(d, k, i) &&
         (newly_dead ? k == 0 || d->alive[(k - 1) * d->N + i] : d->alive[k * d->N + i]);
}


// ---- nuisances ---------------------------------------------------------------------------------

// the propensities of a fold's rows from the others; beta of every stage
static bool fit_propensities(const ope_data *d, int fold, const double *count, double *label,
                             double *weight, double (*beta)[RGM_FORMULA_COLUMNS], nuisances *v) {
  bool good = true;
  for (int k = 0; k < d->K && good; k++) {
    for (int64_t i = 0; i < d->N; i++) {
      label[i] = d->a[k * d->N + i];
      weight[i] = d->fold[i] != fold && is_at_risk(d, k, i) ? count[i] : 0.0;
    }
    good = ope_logistic(d, &d->e[k], label, weight, beta[k]);
    for (int64_t i = 0; i < d->N && good; i++) {
      if (d->fold[i] == fold) {
        v->e[k * d->N + i] = rgm_sigmoid64(ope_score(&d->e[k], beta[k], i));
      }
    }
  }
  return good;
}


// outcome models and death of a stage
static bool fit_outcomes(const ope_data *d, int fold, int k, const double *count, double *label,
                         double *weight, double (*beta)[RGM_FORMULA_COLUMNS], nuisances *v) {
  const int64_t N = d->N;
  const uint8_t *a = d->a + k * N, *alive = d->alive + k * N;
  const bool last = k == d->K - 1;
  double coef[3][RGM_FORMULA_COLUMNS] = {{0}};
  for (int64_t i = 0; i < N; i++) {
    const bool used = d->fold[i] != fold && alive[i] && is_open(d, k, i);
    weight[i] = used && a[i] ? count[i] : 0.0;
  }
  bool good = ope_linear(d, &d->mu[k], d->y, weight, coef[0]);
  for (int64_t i = 0; i < N; i++) {
    const bool used = d->fold[i] != fold && !a[i];
    if (last) {
      weight[i] = used && alive[i] ? count[i] : 0.0;
    } else {
      // those who start next stand for those who might have
      const bool next = used && alive[N + i] && a[N + i];
      const double eta = next ? ope_score(&d->e[k + 1], beta[k + 1], i) : 0.0;
      weight[i] = next ? count[i] / rgm_sigmoid64(eta) : 0.0;
    }
  }
  good = good && ope_linear(d, &d->mu[k], d->y, weight, coef[1]);
  int64_t deaths = 0;
  for (int64_t i = 0; i < N && !last; i++) {
    const bool used = d->fold[i] != fold && alive[i] && !a[i];
    label[i] = !alive[N + i];
    weight[i] = used ? count[i] : 0.0;
    deaths += weight[i] > 0 && label[i] != 0;
  }
  const bool mortal = !last && deaths > 0;
  good = good && (!mortal || ope_logistic(d, &d->mu[k], label, weight, coef[2]));
  for (int64_t i = 0; i < N && good; i++) {
    if (d->fold[i] == fold) {
      v->mu[k * N + i] = ope_score(&d->mu[k], coef[0], i);
      v->u[k * N + i] = ope_score(&d->mu[k], coef[1], i);
      v->rho[k * N + i] = mortal ? rgm_sigmoid64(ope_score(&d->mu[k], coef[2], i)) : 0.0;
    }
  }
  return good;
}


static bool fit(const ope_data *d, const double *count, nuisances *v) {
  double *label = malloc(2 * (size_t)d->N * sizeof *label), *weight = label + d->N;
  bool good = label != NULL;
  for (int fold = 0; fold < (int)d->keys->folds && good; fold++) {
    double beta[OPE_STAGES][RGM_FORMULA_COLUMNS];
    good = fit_propensities(d, fold, count, label, weight, beta, v);
    for (int k = 0; k < d->K && good; k++) {
      good = fit_outcomes(d, fold, k, count, label, weight, beta, v);
    }
  }
  free(label);
  return good;
}


// ---- scores ------------------------------------------------------------------------------------

static double clip(double e, double c) {
  return e < c ? c : e > 1.0 - c ? 1.0 - c : e;
}


// the three terms of psi_k of a row, without the weight of its history; *weight of the last two
static void terms(const ope_data *d, const nuisances *v, double c, int k, int64_t i, double term[3],
                  double weight[3]) {
  const int64_t N = d->N, at = k * N + i;
  const bool last = k == d->K - 1;
  const double e = clip(v->e[at], c), y = d->y[i], u = v->u[at], mu = v->mu[at];
  const double rho = last ? 0.0 : v->rho[at];
  const bool started = d->a[at];
  const bool alive = last || d->alive[at + N], next = !last && alive && d->a[at + N];
  weight[0] = 1.0;
  weight[1] = started ? 1.0 / e : 0.0;
  weight[2] = started ? 0.0
              : last  ? 1.0 / (1.0 - e)
              : next  ? 1.0 / ((1.0 - e) * clip(v->e[at + N], c))
                      : 0.0;
  term[0] = mu - (1.0 - rho) * u;
  if (d->keys->cure && !last && !started) {
    term[0] -= ((alive ? 1.0 : 0.0) - (1.0 - rho)) * u / (1.0 - e);
  }
  term[1] = y - mu;
  term[2] = -(y - u);
}


// the score of every row under a policy: their count-weighted mean is the advantage
static void score(const ope_data *d, const nuisances *v, const ope_policy *p, double c,
                  const double *count, double *out) {
  const int64_t N = d->N;
  const bool expected = p->is_observed && d->keys->observed == COMPAT_CORRECTED;
  memset(out, 0, (size_t)N * sizeof *out);
  for (int k = 0; k < d->K; k++) {
    double sum[3] = {0}, all = 0.0, factor[3] = {1.0, 1.0, 1.0};
    for (int pass = d->keys->normalise ? 0 : 1; pass < 2; pass++) {
      for (int64_t i = 0; i < N; i++) {
        if (!d->alive[k * N + i] || !is_open(d, k, i)) {
          all += pass == 0 ? count[i] : 0.0;
          continue;
        }
        double history = 1.0, share = 1.0, term[3], weight[3];
        bool started = false;
        for (int s = 0; s <= k; s++) {
          const double stay = 1.0 - clip(v->e[s * N + i], c);
          history *= s < k ? 1.0 / stay : 1.0;
          share *= stay;
          started = started || p->start[s * N + i];
        }
        terms(d, v, c, k, i, term, weight);
        for (int j = 0; j < 3 && pass == 0; j++) {
          sum[j] += count[i] * history * weight[j];
        }
        all += pass == 0 ? count[i] : 0.0;
        const double chosen = expected ? 1.0 - share : started ? 1.0 : 0.0;
        for (int j = 0; j < 3 && pass == 1 && chosen != 0.0; j++) {
          out[i] += chosen * history * weight[j] * factor[j] * term[j];
        }
      }
      for (int j = 0; j < 3 && pass == 0; j++) {
        factor[j] = sum[j] > 0 ? sum[0] / sum[j] * all / sum[0] : 0.0;
      }
    }
  }
}


static double mean(const ope_data *d, const double *count, const double *x) {
  double sum = 0.0, all = 0.0;
  for (int64_t i = 0; i < d->N; i++) {
    sum += count[i] > 0 ? count[i] * x[i] : 0.0;
    all += count[i];
  }
  return sum / all;
}


// standard error of a mean over rows, which patients share
static double clustered_error(const ope_data *d, const double *x) {
  const double n = (double)d->N;
  double *sum = calloc((size_t)d->clusters, sizeof *sum), average = 0.0, square = 0.0;
  for (int64_t i = 0; i < d->N; i++) {
    average += x[i] / n;
  }
  for (int64_t i = 0; i < d->N && sum != NULL; i++) {
    sum[d->cluster[i]] += x[i] - average;
  }
  for (int64_t g = 0; g < d->clusters && sum != NULL; g++) {
    square += sum[g] * sum[g];
  }
  const bool any = sum != NULL;
  free(sum);
  return any ? sqrt(square) / n : NAN;
}


// ---- resamples ---------------------------------------------------------------------------------

static bool allocate(const ope_data *d, double **memory, nuisances *v, double **count,
                     double **out) {
  const size_t size = (size_t)(d->K * d->N), N = (size_t)d->N;
  *memory = calloc(4 * size + 2 * N, sizeof **memory);
  if (*memory == NULL) {
    return false;
  }
  *v = (nuisances){*memory, *memory + size, *memory + 2 * size, *memory + 3 * size};
  *count = *memory + 4 * size;
  *out = *count + N;
  return true;
}


static void resample_task(void *arg, int64_t b) {
  const adr_job *job = arg;
  const ope_data *d = job->d;
  double *memory = NULL, *count, *out;
  nuisances v;
  bool good = allocate(d, &memory, &v, &count, &out);
  if (good) {
    ope_draw(d, job->seed, b + 1, count);
    good = fit(d, count, &v);
  }
  for (int p = 0; p < d->policies; p++) {
    if (good) {
      score(d, &v, &d->policy[p], d->keys->clip, count, out);
    }
    job->value[p * job->replicates + b] = good ? mean(d, count, out) : NAN;
  }
  free(memory);
}


// ---- results -----------------------------------------------------------------------------------

static void write_interval(rgm_json *json, const char *key, double *values, const adr_job *job,
                           double level, ope_spread *out) {
  *out = ope_summarise(values, job->replicates, level);
  rgm_json_open(json, key, '{');
  rgm_json_number(json, "se", out->se);
  rgm_json_number(json, "robust_se", out->robust);
  rgm_json_open(json, "ci", '[');
  rgm_json_number(json, NULL, out->low);
  rgm_json_number(json, NULL, out->high);
  rgm_json_close(json, ']');
  rgm_json_number(json, "resamples_without_fit", (double)out->lost);
  rgm_json_close(json, '}');
}


static void write_policy(const ope_data *d, int p, const nuisances *v, const double *count,
                         double *out, const adr_job *job, rgm_json *json, FILE *text) {
  const ope_policy *policy = &d->policy[p];
  const int observed = d->policies - 1;
  double *against = malloc((size_t)(job->replicates + 1) * sizeof *against), values[CLIPS];
  rgm_json_open(json, policy->name, '{');
  rgm_json_open(json, "clip", '{');
  for (int c = 0; c < CLIPS; c++) {
    char name[16];
    snprintf(name, sizeof name, "%g", clips[c]);
    score(d, v, policy, clips[c], count, out);
    values[c] = mean(d, count, out);
    rgm_json_number(json, name, values[c]);
  }
  rgm_json_close(json, '}');
  score(d, v, &d->policy[observed], d->keys->clip, count, out);
  const double other = mean(d, count, out);
  score(d, v, policy, d->keys->clip, count, out);
  const double value = mean(d, count, out), error = clustered_error(d, out);
  rgm_json_number(json, "value", value);
  rgm_json_number(json, "cluster_se", error);
  for (int64_t b = 0; b < job->replicates && against != NULL; b++) {
    against[b] = job->value[p * job->replicates + b] - job->value[observed * job->replicates + b];
  }
  ope_spread never, usual = {NAN, NAN, NAN, NAN, 0};
  rgm_json_number(json, "minus_observed", value - other);
  if (against != NULL) {
    write_interval(json, "minus_observed_bootstrap", against, job, d->keys->level, &usual);
  }
  // last, since the observed policy's values are needed until here
  if (p != observed || job->replicates == 0) {
    double *copy = malloc((size_t)(job->replicates + 1) * sizeof *copy);
    if (copy != NULL) {
      memcpy(copy, job->value + p * job->replicates, (size_t)job->replicates * sizeof *copy);
      write_interval(json, "bootstrap", copy, job, d->keys->level, &never);
      free(copy);
    }
  } else {
    write_interval(json, "bootstrap", job->value + p * job->replicates, job, d->keys->level,
                   &never);
  }
  rgm_json_close(json, '}');
  if (text != NULL) {
    fprintf(text,
            "  %-12s %9.3f  cluster se %.3f  (%.2f, %.2f)   minus observed %8.3f (%.2f, %.2f)  "
            "clip 0: %.3f  0.05: %.3f\n",
            policy->name, value, error, never.low, never.high, value - other, usual.low, usual.high,
            values[0], values[CLIPS - 1]);
  }
  free(against);
}


// how far propensities go, and what clipping takes
static void write_overlap(const ope_data *d, const nuisances *v, rgm_json *json, FILE *text) {
  double least = 1.0, most = 0.0, cut = 0.0, all = 0.0;
  for (int k = 0; k < d->K; k++) {
    for (int64_t i = 0; i < d->N; i++) {
      if (d->alive[k * d->N + i] && is_open(d, k, i)) {
        const double e = v->e[k * d->N + i];
        least = fmin(least, e);
        most = fmax(most, e);
        cut += clip(e, d->keys->clip) != e;
        all += 1.0;
      }
    }
  }
  rgm_json_number(json, "e_min", least);
  rgm_json_number(json, "e_max", most);
  rgm_json_number(json, "clipped_share", cut / all);
  if (text != NULL) {
    fprintf(text, "%lld rows, %lld patients; propensities %.2g to %.2g, %.1f %% clipped at %g\n",
            (long long)d->N, (long long)d->clusters, least, most, 100 * cut / all, d->keys->clip);
  }
}


static rgm_status evaluate(rgm_run *run, const ope_data *d, rgm_json *json, FILE *text) {
  const int64_t B = d->keys->replicates;
  double *memory = NULL, *count, *out;
  nuisances v;
  adr_job job = {d, rgm_run_seed(run, 0), B,
                 calloc((size_t)(OPE_POLICIES * (B + 1)), sizeof(double))};
  if (job.value == NULL || !allocate(d, &memory, &v, &count, &out)) {
    free(job.value);
    return rgm_fail(RGM_EMEMORY, "no memory for the nuisances");
  }
  ope_draw(d, 0, 0, count);
  if (!fit(d, count, &v)) {
    free(memory);
    free(job.value);
    return rgm_fail(RGM_ENUMERIC,
                    "%s: a nuisance model has no fit in a fold: too few starts or "
                    "deaths for its terms; take fewer terms or folds",
                    d->path);
  }
  ope_parallel(run, B, resample_task, &job);
  rgm_json_open(json, NULL, '{');
  rgm_json_number(json, "n", (double)d->N);
  rgm_json_number(json, "patients", (double)d->clusters);
  rgm_json_string(json, "propensity_rows", ope_rows[d->keys->rows]);
  rgm_json_string(json, "observed", observed_names[d->keys->observed]);
  write_overlap(d, &v, json, text);
  rgm_json_open(json, "policies", '{');
  for (int p = 0; p < d->policies; p++) {
    write_policy(d, p, &v, count, out, &job, json, text);
  }
  rgm_json_close(json, '}');
  rgm_json_close(json, '}');
  free(memory);
  free(job.value);
  return RGM_OK;
}


static rgm_status adr_evaluate(rgm_run *run, rgm_json *json, FILE *text) {
  ope_data d;
  rgm_status status = ope_load(run, false, true, &d);
  status = status == RGM_OK ? evaluate(run, &d, json, text) : status;
  ope_free(&d);
  return status;
}


const rgm_algorithm rgm_adr = {
    .name = "adr",
    .paper = "Nie, Brunskill & Wager 2021; Grolleau et al. 2024",
    .doc = "Advantage of staged policies, doubly robust and cross-fitted; trains nothing.",
    .fields = fields,
    .keys_size = sizeof(ope_keys),
    .needs = RGM_NEEDS_TABLE | RGM_NEEDS_FRAME | RGM_TRAINS_NOT,
    .evaluate = adr_evaluate,
};
