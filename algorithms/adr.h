// SPDX-License-Identifier: Apache-2.0
// What the files of the doubly robust advantage share: adr.c (keys, results), adr_fit.c (nuisance
// models), adr_score.c (scores). Private to the algorithms.
//
// Everything is computed for G groups of sixteen resamples in lanes, which share designs and differ
// in counts; the sample itself is a resample that counts every row once.

#ifndef RGM_ADR_H
#define RGM_ADR_H

#include "algorithms/forest.h"
#include "algorithms/ope.h"

// of a lane in a death model, beside rgm_fit: its Newton steps go on
enum { ADR_MOVING = 99 };

// A regression of a stage on the rows of all folds but one, n of them; n 0: there is nothing to
// fit, and what it predicts is 0.
typedef struct adr_regression {
  int64_t n;
  rgm_tensor x, rows, label;      // (1, n, P), (1, n) u32, (1, n)
  rgm_tensor products;            // (1, n, P (P + 1) / 2) of x; of deaths alone
  rgm_tensor by_column;           // (1, P, n) x again
  rgm_tensor start;               // (1, P) the sample's coefficients
  rgm_tensor beta, status, steps; // (G, P, 16), (G, 16), (G, 16)
} adr_regression;

// The models of a fold at a stage, and the rows that they predict: those of the fold who are alive
// and untreated.
typedef struct adr_stage {
  adr_regression e, mu, u, rho;
  rgm_tensor weigher; // (1, n, P) the next propensity's columns on u's rows: 1 / e weighs them
  rgm_tensor weigher_by_column;     // (1, P, n)
  rgm_tensor held, held_e, held_mu; // (1, n) u32, (1, n, P)
} adr_stage;

// What Newton's method works in, for the largest model of deaths, of M rows.
typedef struct adr_newton {
  rgm_tensor p, right;   // (G, M, 16) predictions, then weights; right sides of rows
  rgm_tensor gram, step; // (G, most products, 16), (G, most columns, 16)
  rgm_tensor solved;     // (G, 16)
  rgm_tensor places;     // (1, M) 0, 1, 2 ...
  double *before;        // (G, 16) the largest step before
} adr_newton;

typedef struct adr_fits {
  const ope_data *d;
  rgm_stream *stream; // the CPU
  int64_t groups;     // G, at a time
  adr_stage (*stage)[OPE_STAGES];
  rgm_tensor counts; // (G, N, 16) u8
  rgm_tensor y;      // (1, N, 1)
  struct {
    rgm_tensor e, mu, u, rho; // (G, N, 16) what is predicted for every row by other folds
  } of[OPE_STAGES];
  uint32_t *lost;      // (G, 16) whether a model has no fit
  uint32_t *separated; // (G, 16) how many models of deaths have no maximum
  adr_newton newton;
  forest_data bins[OPE_STAGES]; // the covariates of a stage, for forests
  int64_t seed;
  void *memory;
} adr_fits;

// Memory and designs for G groups at a time, and the sample's coefficients. Errors: RGM_EMEMORY,
// RGM_ENUMERIC where a model of the sample has no fit. adr_close in any case.
rgm_status adr_open(const ope_data *d, rgm_stream *stream, int64_t seed, int64_t groups,
                    adr_fits *f);
void adr_close(adr_fits *f);

// Fits resamples `first` ... first + 16 n - 1 (0: the sample, 1: the first resample): fills `of`
// and `lost` of n <= G groups.
void adr_fit(adr_fits *f, int64_t first, int64_t n);

// Propensities alone, fitted on all rows and predicted for all: what weighted importance sampling
// needs. Errors as above; adr_close in any case.
rgm_status adr_open_propensities(const ope_data *d, rgm_stream *stream, int64_t seed,
                                 int64_t groups, adr_fits *f);
void adr_fit_propensities(adr_fits *f, int64_t first, int64_t n);

// The same by forests, once propensities are fitted: fills mu, u and rho of n groups.
void adr_fit_forests(adr_fits *f, int64_t first, int64_t n);

// A stage's deaths among its rows in n groups: beta and status (RGM_FIT_EMPTY: none, or all, die).
void adr_fit_deaths(const adr_fits *f, const adr_regression *r, adr_newton *scratch, int64_t n);

// Values of all policies over never treating, (policies, 16) of a group, with propensities kept
// within clip and 1 - clip; rows (policies, N) unless NULL: the scores of lane 0, whose mean is the
// value.
void adr_score(const adr_fits *f, int64_t group, double clip, double *value, double *rows);

#endif
