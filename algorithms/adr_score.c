// SPDX-License-Identifier: Apache-2.0
// Scores of the advantage: what every row says about every policy, for sixteen resamples in lanes.
// Treatments and policies are the same in all lanes, so that a row's terms are found once and
// policies only choose from which stage on they count.

#include "algorithms/adr.h"

#include <math.h>
#include <string.h>

enum { L = RGM_FIT_LANES };

// What the three terms of a stage are multiplied by (self-normalised: per resample).
typedef struct factors {
  double of[OPE_STAGES][3][L];
} factors;


static double clip(double e, double c) {
  return e < c ? c : e > 1.0 - c ? 1.0 - c : e;
}


static const double *at(rgm_tensor t, int64_t group, int64_t row) {
  return (const double *)t.data + group * t.stride0 + row * L;
}


// at how many stages a row is alive and untreated before
static int open_stages(const ope_data *d, int64_t i) {
  int k = 0;
  while (k < d->K && d->alive[k * d->N + i] && (k == 0 || !d->a[(k - 1) * d->N + i])) {
    k++;
  }
  return k;
}


// Weights and terms of psi_k of a row, each of the three without the weight of its history.
typedef struct adr_terms {
  double weight[3][L], term[3][L], stay[L]; // 1 - e
} adr_terms;

static void find_terms(const adr_fits *f, int64_t group, int k, int64_t i, double c,
                       adr_terms *out) {
  const ope_data *d = f->d;
  const int64_t N = d->N;
  const bool last = k == d->K - 1, started = d->a[k * N + i];
  const bool alive = last || d->alive[(k + 1) * N + i];
  const bool next = !last && alive && d->a[(k + 1) * N + i];
  const double *e = at(f->of[k].e, group, i), *mu = at(f->of[k].mu, group, i);
  const double *u = at(f->of[k].u, group, i), *rho = at(f->of[k].rho, group, i);
  const double *after = next ? at(f->of[k + 1].e, group, i) : NULL, y = d->y[i];
  const bool cured = d->keys->cure && !last && !started;
  memset(out->weight, 0, sizeof out->weight);
  for (int l = 0; l < L; l++) {
    const double p = clip(e[l], c), survival = last ? 1.0 : 1.0 - rho[l];
    out->stay[l] = 1.0 - p;
    out->weight[0][l] = 1.0;
    out->term[0][l] = mu[l] - survival * u[l];
    out->term[1][l] = y - mu[l];
    out->term[2][l] = u[l] - y;
    out->weight[1][l] = started ? 1.0 / p : 0.0;
    if (cured) {
      out->term[0][l] -= ((alive ? 1.0 : 0.0) - survival) * u[l] / (1.0 - p);
    }
  }
  for (int l = 0; l < L && !started && (last || next); l++) {
    out->weight[2][l] = last ? 1.0 / out->stay[l] : 1.0 / (out->stay[l] * clip(after[l], c));
  }
}


// the sums of each term's weights, over which it is divided (sums over all that the first has)
static void normalise(const adr_fits *f, int64_t group, double c, factors *out) {
  const ope_data *d = f->d;
  const uint8_t *counts = (const uint8_t *)f->counts.data + group * f->counts.stride0;
  double all[L] = {0};
  memset(out, 0, sizeof *out);
  for (int64_t i = 0; i < d->N; i++) {
    const int open = open_stages(d, i);
    double history[L];
    for (int l = 0; l < L; l++) {
      history[l] = counts[i * L + l];
      all[l] += history[l];
    }
    for (int k = 0; k < open; k++) {
      adr_terms t;
      find_terms(f, group, k, i, c, &t);
      for (int l = 0; l < L; l++) {
        for (int j = 0; j < 3; j++) {
          out->of[k][j][l] += history[l] * t.weight[j][l];
        }
        history[l] /= t.stay[l];
      }
    }
  }
  for (int k = 0; k < d->K; k++) {
    for (int l = 0; l < L; l++) {
      for (int j = 0; j < 3; j++) {
        const double sum = out->of[k][j][l];
        out->of[k][j][l] = sum > 0 ? all[l] / sum : 0.0;
      }
    }
  }
}


// a row's part of every stage, (K, 16), and how likely its treatment had begun by then
static void find_parts(const adr_fits *f, int64_t group, int open, int64_t i, double c,
                       const factors *scale, double (*part)[L], double (*begun)[L]) {
  double history[L], waiting[L];
  for (int l = 0; l < L; l++) {
    history[l] = waiting[l] = 1.0;
  }
  for (int k = 0; k < open; k++) {
    adr_terms t;
    find_terms(f, group, k, i, c, &t);
    for (int l = 0; l < L; l++) {
      double sum = 0.0;
      for (int j = 0; j < 3; j++) {
        const double factor = scale != NULL ? scale->of[k][j][l] : 1.0;
        sum += t.weight[j][l] * factor * t.term[j][l];
      }
      part[k][l] = history[l] * sum;
      waiting[l] *= t.stay[l];
      begun[k][l] = 1.0 - waiting[l];
    }
    for (int l = 0; l < L && k + 1 < open; l++) {
      history[l] /= t.stay[l];
    }
  }
}


// a row's score under a policy
static void find_score(const ope_data *d, const ope_policy *p, int open, int64_t i,
                       double (*part)[L], double (*begun)[L], double *out) {
  const bool expected = p->is_observed && d->keys->observed == COMPAT_CORRECTED;
  bool started = false;
  memset(out, 0, L * sizeof *out);
  for (int k = 0; k < open; k++) {
    started = started || p->start[k * d->N + i];
    for (int l = 0; l < L && expected; l++) {
      out[l] += begun[k][l] * part[k][l];
    }
    for (int l = 0; l < L && !expected && started; l++) {
      out[l] += part[k][l];
    }
  }
}


void adr_score(const adr_fits *f, int64_t group, double c, double *value, double *rows) {
  const ope_data *d = f->d;
  const uint8_t *counts = (const uint8_t *)f->counts.data + group * f->counts.stride0;
  double all[L] = {0}, part[OPE_STAGES][L], begun[OPE_STAGES][L], score[L];
  factors scale;
  if (d->keys->normalise) {
    normalise(f, group, c, &scale);
  }
  memset(value, 0, (size_t)(d->policies * L) * sizeof *value);
  for (int64_t i = 0; i < d->N; i++) {
    const int open = open_stages(d, i);
    const uint8_t *count = counts + i * L;
    find_parts(f, group, open, i, c, d->keys->normalise ? &scale : NULL, part, begun);
    for (int p = 0; p < d->policies; p++) {
      find_score(d, &d->policy[p], open, i, part, begun, score);
      for (int l = 0; l < L; l++) {
        value[p * L + l] += count[l] * score[l];
      }
      if (rows != NULL) {
        rows[p * d->N + i] = score[0];
      }
    }
    for (int l = 0; l < L; l++) {
      all[l] += count[l];
    }
  }
  for (int p = 0; p < d->policies; p++) {
    for (int l = 0; l < L; l++) {
      value[p * L + l] = f->lost[group * L + l] ? NAN : value[p * L + l] / all[l];
    }
  }
}
