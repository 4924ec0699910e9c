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

#include "algorithms/adr.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static const char *const observed_names[] = {"corrected", "published", NULL};
static const char *const split_names[] = {"patient", "row", NULL};
static const char *const nuisance_names[] = {"linear", "forest", NULL};

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
    {"nuisance", RGM_CHOICE, OPE_KEY(nuisance), "", "linear", 0, 0, nuisance_names, RGM_ADDED,
     "Models of outcomes and deaths: regressions, or random forests; propensities are logistic."},
    {"trees", RGM_INT, OPE_KEY(trees), "1", "100", 1, 100000, NULL, RGM_ADDED,
     "Trees of a forest."},
    {"leaf", RGM_INT, OPE_KEY(leaf), "1", "5", 1, 1e6, NULL, RGM_ADDED,
     "Draws of a tree's leaf, at least."},
    {"tries", RGM_INT, OPE_KEY(tries), "1", "0", 0, FOREST_FEATURES, NULL, RGM_ADDED,
     "Covariates looked at for a split; 0: a third of them for outcomes, the root for deaths."},
    {"bins", RGM_INT, OPE_KEY(bins), "1", "256", 2, FOREST_BINS, NULL, RGM_ADDED,
     "Bins of a covariate, at most."},
    {"share", RGM_FLOAT, OPE_KEY(share), "1", "1", 0, 4, NULL, RGM_ADDED,
     "Rows that a tree draws with replacement, over those there are; 0: it takes each once."},
    OPE_FIELDS,
    {0},
};

static const double clips[] = {0.0, 0.005, 0.01, 0.02, 0.05};
enum { CLIPS = 5, WAVE = 4 }; // groups of resamples at a time, of each thread

// A policy in one table: against never treating, and against the observed starts.
typedef struct figure {
  double clip[CLIPS];
  ope_estimate never, usual;
} figure;

// A table's figures (policies) and how far its propensities go.
typedef struct answer {
  figure policy[OPE_POLICIES];
  double e_min, e_max, cut;
  int64_t separated; // resamples
} answer;

typedef struct adr_job {
  adr_fits *f;
  int64_t first, replicates;
  double *value; // (policies, replicates)
} adr_job;


// ---- a table -----------------------------------------------------------------------------------

// standard error of a mean over rows, which patients share: sqrt(sum over patients of the square
// of their sum of x - mean) / n
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


// how far propensities go, and what clipping takes
static void look_at_overlap(const adr_fits *f, answer *out) {
  const ope_data *d = f->d;
  double cut = 0.0, all = 0.0;
  out->e_min = 1.0;
  out->e_max = 0.0;
  for (int k = 0; k < d->K; k++) {
    for (int64_t i = 0; i < d->N; i++) {
      const double e = ((const double *)f->of[k].e.data)[i * RGM_FIT_LANES];
      if (d->alive[k * d->N + i] && (k == 0 || !d->a[(k - 1) * d->N + i])) {
        out->e_min = fmin(out->e_min, e);
        out->e_max = fmax(out->e_max, e);
        cut += e < d->keys->clip || e > 1.0 - d->keys->clip;
        all += 1.0;
      }
    }
  }
  out->cut = cut / all;
}


// the sample's figures; scores (2 policies + 1, N) is scratch
static void score_sample(const adr_fits *f, double *scores, answer *out) {
  const ope_data *d = f->d;
  const int64_t N = d->N;
  const int observed = d->policies - 1;
  double value[OPE_POLICIES * RGM_FIT_LANES];
  look_at_overlap(f, out);
  for (int c = 0; c < CLIPS; c++) {
    adr_score(f, 0, clips[c], value, NULL);
    for (int p = 0; p < d->policies; p++) {
      out->policy[p].clip[c] = value[p * RGM_FIT_LANES];
    }
  }
  adr_score(f, 0, d->keys->clip, value, scores);
  for (int p = 0; p < d->policies; p++) {
    figure *fig = &out->policy[p];
    double *against = scores + d->policies * N;
    for (int64_t i = 0; i < N; i++) {
      against[i] = scores[p * N + i] - scores[observed * N + i];
    }
    fig->never.value = value[p * RGM_FIT_LANES];
    fig->never.cluster_se = clustered_error(d, scores + p * N);
    fig->usual.value = fig->never.value - value[observed * RGM_FIT_LANES];
    fig->usual.cluster_se = clustered_error(d, against);
  }
}


static void score_task(void *arg, int64_t g) {
  const adr_job *job = arg;
  double value[OPE_POLICIES * RGM_FIT_LANES];
  adr_score(job->f, g, job->f->d->keys->clip, value, NULL);
  for (int p = 0; p < job->f->d->policies; p++) {
    for (int l = 0; l < RGM_FIT_LANES; l++) {
      const int64_t b = job->first + g * RGM_FIT_LANES + l;
      if (b < job->replicates) {
        job->value[p * job->replicates + b] = value[p * RGM_FIT_LANES + l];
      }
    }
  }
}


static void summarise(const ope_data *d, const adr_job *job, double *copy, answer *out) {
  const int64_t B = job->replicates;
  const double *usual = job->value + (d->policies - 1) * B;
  for (int p = 0; p < d->policies; p++) {
    memcpy(copy, job->value + p * B, (size_t)B * sizeof *copy);
    out->policy[p].never.spread = ope_summarise(copy, B, d->keys->level);
    for (int64_t b = 0; b < B; b++) {
      copy[b] = job->value[p * B + b] - usual[b];
    }
    out->policy[p].usual.spread = ope_summarise(copy, B, d->keys->level);
  }
}


static rgm_status answer_table(rgm_run *run, rgm_stream *stream, const ope_data *d, answer *out) {
  const int64_t B = d->keys->replicates, threads = run->keys.threads;
  const int64_t all = (B + RGM_FIT_LANES - 1) / RGM_FIT_LANES;
  const int64_t wave = WAVE * (threads > 0 ? threads : 1), G = all < wave ? all : wave;
  adr_fits f;
  double *value = malloc((size_t)((d->policies + 1) * (B + d->N)) * sizeof *value);
  rgm_status status = adr_open(d, stream, rgm_run_seed(run, 0), G > 0 ? G : 1, &f);
  if (status == RGM_OK && value == NULL) {
    status = rgm_fail(RGM_EMEMORY, "no memory for resamples");
  }
  if (status == RGM_OK) {
    adr_job job = {&f, 0, B, value + (d->policies + 1) * d->N};
    out->separated = 0;
    score_sample(&f, value, out);
    for (; job.first < B; job.first += G * RGM_FIT_LANES) {
      const int64_t left = (B - job.first + RGM_FIT_LANES - 1) / RGM_FIT_LANES;
      const int64_t n = left < G ? left : G;
      adr_fit(&f, job.first + 1, n);
      rgm_cpu_parallel(stream, n, score_task, &job);
      for (int64_t i = 0; i < n * RGM_FIT_LANES && job.first + i < B; i++) {
        out->separated += f.separated[i] > 0;
      }
    }
    summarise(d, &job, job.value + d->policies * B, out);
  }
  adr_close(&f);
  free(value);
  return status;
}


// ---- results -----------------------------------------------------------------------------------

static void write_policy(const ope_data *d, int p, const answer *a, int64_t tables, rgm_json *json,
                         FILE *text) {
  const int64_t stride = sizeof *a, n = d->clusters;
  const ope_pooled never = ope_pool(d->keys, &a[0].policy[p].never, stride, tables, n);
  const ope_pooled usual = ope_pool(d->keys, &a[0].policy[p].usual, stride, tables, n);
  double cut[CLIPS] = {0};
  rgm_json_open(json, d->policy[p].name, '{');
  rgm_json_open(json, "clip", '{');
  for (int c = 0; c < CLIPS; c++) {
    char at[16];
    snprintf(at, sizeof at, "%g", clips[c]);
    for (int64_t t = 0; t < tables; t++) {
      cut[c] += a[t].policy[p].clip[c] / (double)tables;
    }
    rgm_json_number(json, at, cut[c]);
  }
  rgm_json_close(json, '}');
  rgm_json_number(json, "value", never.value);
  rgm_json_number(json, "cluster_se", never.cluster_se);
  ope_write_spread(json, "", &never);
  rgm_json_number(json, "minus_observed", usual.value);
  rgm_json_number(json, "minus_observed_cluster_se", usual.cluster_se);
  ope_write_spread(json, "minus_observed_", &usual);
  rgm_json_close(json, '}');
  if (text != NULL) {
    fprintf(text,
            "  %-12s %9.3f  cluster se %.3f  (%.2f, %.2f)   minus observed %8.3f (%.2f, %.2f)  "
            "clip 0: %.3f  0.05: %.3f\n",
            d->policy[p].name, never.value, never.cluster_se, never.low, never.high, usual.value,
            usual.low, usual.high, cut[0], cut[CLIPS - 1]);
  }
}


// what all tables say together; d is the last one
static void write_answers(const ope_data *d, const answer *a, int64_t tables, rgm_json *json,
                          FILE *text) {
  double least = 1.0, most = 0.0, cut = 0.0, separated = 0.0;
  for (int64_t t = 0; t < tables; t++) {
    least = fmin(least, a[t].e_min);
    most = fmax(most, a[t].e_max);
    cut += a[t].cut / (double)tables;
    separated += (double)a[t].separated;
  }
  rgm_json_open(json, NULL, '{');
  rgm_json_number(json, "n", (double)d->N);
  rgm_json_number(json, "patients", (double)d->clusters);
  rgm_json_number(json, "imputations", (double)tables);
  rgm_json_string(json, "propensity_rows", ope_rows[d->keys->rows]);
  rgm_json_string(json, "nuisance", nuisance_names[d->keys->nuisance]);
  rgm_json_string(json, "observed", observed_names[d->keys->observed]);
  rgm_json_number(json, "e_min", least);
  rgm_json_number(json, "e_max", most);
  rgm_json_number(json, "clipped_share", cut);
  rgm_json_number(json, "resamples_separated", separated);
  if (text != NULL) {
    fprintf(text, "%lld rows, %lld patients", (long long)d->N, (long long)d->clusters);
    if (tables > 1) {
      fprintf(text, ", %lld imputed sets", (long long)tables);
    }
    fprintf(text, "; propensities %.2g to %.2g, %.1f %% clipped at %g\n", least, most, 100 * cut,
            d->keys->clip);
  }
  rgm_json_open(json, "policies", '{');
  for (int p = 0; p < d->policies; p++) {
    write_policy(d, p, a, tables, json, text);
  }
  rgm_json_close(json, '}');
  rgm_json_close(json, '}');
}


// the same as numbers
static void fill_values(const ope_data *d, const answer *a, int64_t tables, ope_values *out) {
  *out = (ope_values){.policies = d->policies, .figures = 2};
  for (int p = 0; p < d->policies; p++) {
    const ope_estimate *of[] = {&a[0].policy[p].never, &a[0].policy[p].usual};
    memcpy(out->policy[p], d->policy[p].name, sizeof out->policy[p]);
    for (int j = 0; j < 2; j++) {
      const ope_pooled e = ope_pool(d->keys, of[j], sizeof *a, tables, d->clusters);
      const double three[] = {e.value, e.low, e.high};
      memcpy(out->of[p][j], three, sizeof three);
    }
  }
}


static rgm_status evaluate(rgm_run *run, rgm_stream *stream, const ope_tables *t, rgm_json *json,
                           FILE *text, ope_values *values) {
  answer *answers = calloc((size_t)t->count, sizeof *answers);
  rgm_status status = answers != NULL ? RGM_OK : rgm_fail(RGM_EMEMORY, "no memory for results");
  for (int64_t i = 0; i < t->count && status == RGM_OK; i++) {
    ope_data d;
    status = ope_load(run, t, i, false, true, &d);
    if (status == RGM_OK) {
      status = answer_table(run, stream, &d, &answers[i]);
    }
    if (status == RGM_OK && i == t->count - 1 && json != NULL) {
      write_answers(&d, answers, t->count, json, text);
    }
    if (status == RGM_OK && i == t->count - 1 && values != NULL) {
      fill_values(&d, answers, t->count, values);
    }
    ope_free(&d);
  }
  free(answers);
  return status;
}


static rgm_status evaluate_all(rgm_run *run, rgm_json *json, FILE *text, ope_values *values) {
  ope_tables t;
  rgm_status status = ope_open(run, &t);
  if (status == RGM_OK) {
    status = evaluate(run, rgm_host(run->stream), &t, json, text, values);
  }
  ope_close(&t);
  return status;
}


rgm_status adr_values(rgm_run *run, ope_values *out) {
  return evaluate_all(run, NULL, NULL, out);
}


static rgm_status adr_evaluate(rgm_run *run, rgm_json *json, FILE *text) {
  return evaluate_all(run, json, text, NULL);
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
