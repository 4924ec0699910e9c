// SPDX-License-Identifier: Apache-2.0
// Bootstrap, then imputation, of staged rules: patients are drawn with their missing values, and
// every resample is imputed anew, a few times, and fitted. Valid where imputation and analysis are
// uncongenial, which Rubin's rules are not (Bartlett & Hughes 2020, Stat Methods Med Res 29:3533);
// its variance by the components of a one-way layout (von Hippel & Bartlett 2021, Stat Sci 36:400).

#include "algorithms/dwols.h"
#include "kernels/rng.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

// Counters of philox far from those of the run's own resamples, whose step is an imputation.
enum { STEP = 1 << 30 };

// All resamples at work; psi (B, M, P), failed (B).
typedef struct boot_job {
  const rgm_run *run;
  const dwols_model *m;
  mice_keys mice;
  int64_t sets;
  rgm_key key;
  double *psi;
  uint8_t *failed;
} boot_job;


// ---- one resample ------------------------------------------------------------------------------

// rows of drawn units, with what they lack
static rgm_status draw_rows(const boot_job *job, int64_t b, rgm_frame *out) {
  const dwols_model *m = job->m;
  const int64_t U = m->clusters, C = m->frame.columns;
  int64_t rows = 0, *unit = malloc((size_t)U * sizeof *unit);
  rgm_status status = unit != NULL ? rgm_frame_copy(&m->frame, out)
                                   : rgm_fail(RGM_EMEMORY, "no memory for a resample");
  for (int64_t j = 0; j < U && status == RGM_OK; j++) {
    unit[j] = rgm_below(job->key, STEP, (uint32_t)b, (uint32_t)j, (uint32_t)U);
    rows += m->cluster_first[unit[j] + 1] - m->cluster_first[unit[j]];
  }
  if (status == RGM_OK) {
    free(out->value);
    out->rows = rows;
    out->value = malloc((size_t)(rows * C) * sizeof *out->value);
    status = out->value != NULL ? RGM_OK : rgm_fail(RGM_EMEMORY, "no memory for a resample");
  }
  double *to = out->value;
  for (int64_t j = 0; j < U && status == RGM_OK; j++) {
    for (int64_t i = m->cluster_first[unit[j]]; i < m->cluster_first[unit[j] + 1]; i++, to += C) {
      memcpy(to, m->frame.value + m->cluster_row[i] * C, (size_t)C * sizeof *to);
    }
  }
  free(unit);
  return status;
}


// psi (P) of a completed resample
static rgm_status fit_table(dwols_model *m, const double *values, double *psi) {
  RGM_TRY(dwols_model_design(m, values));
  for (int k = m->stages - 1; k >= 0; k--) {
    const dwols_stage *s = &m->stage[k];
    double beta[DWOLS_TREAT], coef[RGM_FORMULA_COLUMNS], raw[DWOLS_ALL];
    if (dwols_treat_fit(s, NULL, NULL, beta) != RGM_FIT_DONE) {
      return rgm_fail(RGM_ENUMERIC, "stage %d: the propensity has no fit", k + 1);
    }
    RGM_TRY(dwols_fit_stage(m, k, m->keys->method, m->keys->weight, beta, m->y, coef, NULL, NULL));
    dwols_raw(s, beta, coef, raw);
    memcpy(psi + s->first, raw + s->e + s->f, (size_t)s->h * sizeof *psi);
    dwols_add_regret(s, coef + s->f, m->y);
  }
  return RGM_OK;
}


// imputed so often, and fitted
static rgm_status fit_resample(const boot_job *job, int64_t b, dwols_model *m, double *psi) {
  const uint64_t seed =
      (uint64_t)rgm_run_seed(job->run, 0) + (uint64_t)(b + 1) * 0x9E3779B97F4A7C15u;
  *m = (dwols_model){.keys = job->m->keys, .path = job->m->path};
  RGM_TRY(draw_rows(job, b, &m->frame));
  RGM_TRY(mice_prepare(job->run->config, "algorithm", &job->mice, m->path, &m->frame, job->sets,
                       (int64_t)(seed >> 1), &m->mice));
  RGM_TRY(dwols_model_build(job->run, m));
  if (m->psi != job->m->psi) {
    return rgm_fail(RGM_ENUMERIC, "a level of a factor does not occur in a resample");
  }
  const int64_t cells = m->frame.rows * m->frame.columns;
  double *values = malloc((size_t)(job->sets * cells) * sizeof *values);
  rgm_status status = values != NULL ? RGM_OK : rgm_fail(RGM_EMEMORY, "no memory for a resample");
  if (status == RGM_OK && m->mice != NULL) {
    status = mice_complete(m->mice, NULL, 0, job->sets, values);
  }
  for (int64_t i = 0; i < job->sets && status == RGM_OK; i++) {
    status = fit_table(m, m->mice != NULL ? values + i * cells : m->frame.value, psi + i * m->psi);
  }
  free(values);
  return status;
}


static void boot_task(void *arg, int64_t b) {
  boot_job *job = arg;
  dwols_model *m = calloc(1, sizeof *m);
  job->failed[b] =
      m == NULL || fit_resample(job, b, m, job->psi + b * job->sets * job->m->psi) != RGM_OK;
  if (m != NULL) {
    dwols_model_free(m);
  }
  free(m);
}


// ---- pooling -----------------------------------------------------------------------------------

void dwols_boot_pool(int64_t resamples, int64_t sets, int count, const double *psi,
                     dwols_boot *out) {
  const double B = (double)resamples, M = (double)sets;
  for (int i = 0; i < count; i++) {
    double grand = 0.0, between = 0.0, within = 0.0;
    for (int64_t k = 0; k < resamples * sets; k++) {
      grand += psi[k * count + i] / (B * M);
    }
    for (int64_t b = 0; b < resamples; b++) {
      double mean = 0.0;
      for (int64_t k = 0; k < sets; k++) {
        mean += psi[(b * sets + k) * count + i] / M;
      }
      for (int64_t k = 0; k < sets; k++) {
        const double d = psi[(b * sets + k) * count + i] - mean;
        within += d * d / (B * (M - 1.0));
      }
      between += M * (mean - grand) * (mean - grand) / (B - 1.0);
    }
    // (1 + 1 / B) of what resamples differ by, and what imputation adds to a mean of all
    const double a = (B + 1.0) / (B * M) * between, w = within / M;
    out->psi[i] = grand;
    out->se[i] = sqrt(fmax(a - w, between / (B * M)));
    out->df[i] = (a - w) * (a - w) / (a * a / (B - 1.0) + w * w / (B * (M - 1.0)));
  }
}


rgm_status dwols_boot_first(const rgm_run *run, const dwols_model *m, dwols_boot *out) {
  const int64_t B = m->keys->boot_first, M = m->keys->boot_sets;
  const uint64_t seed = (uint64_t)rgm_run_seed(run, 0);
  const uint32_t words[2] = {(uint32_t)seed, (uint32_t)(seed >> 32)};
  *out = (dwols_boot){.sets = M};
  if (m->mice == NULL || m->keys->mice.given) {
    return rgm_fail(RGM_EUSAGE, "algorithm.boot_first: %s",
                    m->mice == NULL ? "nothing is imputed"
                                    : "imputations are given (algorithm.impute.given); resamples "
                                      "are to be imputed by chains");
  }
  boot_job job = {.run = run, .m = m, .mice = m->keys->mice, .sets = M};
  job.mice.cells[0] = '\0'; // they are missing already
  job.key = rgm_stream_key(words, RGM_RANDOM_RESAMPLE);
  job.psi = calloc((size_t)(B * M * m->psi), sizeof *job.psi);
  job.failed = calloc((size_t)B, 1);
  rgm_status status = job.psi != NULL && job.failed != NULL
                          ? RGM_OK
                          : rgm_fail(RGM_EMEMORY, "no memory for resamples");
  if (status == RGM_OK) {
    rgm_cpu_parallel(rgm_host(run->stream), B, boot_task, &job);
  }

  // those without a fit are counted and left out
  const int64_t size = M * m->psi;
  for (int64_t b = 0; b < B && status == RGM_OK; b++) {
    if (!job.failed[b]) {
      memmove(job.psi + out->resamples * size, job.psi + b * size, (size_t)size * sizeof *job.psi);
      out->resamples++;
    }
  }
  out->failed = B - out->resamples;
  if (status == RGM_OK && out->resamples < 2) {
    status = rgm_fail(RGM_ENUMERIC, "algorithm.boot_first: %lld of %lld resamples have a fit",
                      (long long)out->resamples, (long long)B);
  }
  if (status == RGM_OK) {
    dwols_boot_pool(out->resamples, M, m->psi, job.psi, out);
  }
  free(job.psi);
  free(job.failed);
  return status;
}
