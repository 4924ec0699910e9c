// SPDX-License-Identifier: Apache-2.0
// Batched regressions in double: products of design columns, weighted Gram matrices, Cholesky,
// logistic regression by IRLS, weighted least squares with weights from a propensity, and
// pseudo-outcomes. What bootstraps of staged treatment rules are made of (Wallace & Moodie 2015).
//
// G groups lead every tensor; a group has RGM_FIT_LANES = 16 resamples side by side in its last
// dim, which share one design, column by column; its n rows are few of the N of the data: `rows`
// says which. A resample is the count of each row. Entry (i, j), j <= i, of a lower triangle is at
// i (i + 1) / 2 + j. Sums over rows: in order with fma within blocks of 256 rows, then the pairwise
// tree; lane by lane, so that a resample's bits depend on nothing but its own counts. Where a
// design is f32, so are the sums within a block (and exp): standard errors need no more.

#ifndef RGM_REGRESSION_H
#define RGM_REGRESSION_H

#include "kernels/base.h"

#ifdef __cplusplus
extern "C" {
#endif

// columns of a design, at most; blocks of rows, at most 2^RGM_FIT_LEVELS
enum { RGM_FIT_LANES = 16, RGM_FIT_COLUMNS = 32, RGM_FIT_LEVELS = 12 };
enum { RGM_FIT_TRIANGLE = RGM_FIT_COLUMNS * (RGM_FIT_COLUMNS + 1) / 2 };

// Newton's method ends where no coefficient moves by more than a tolerance, whose square is about
// what is then left (of f32: 1e-5, a 10,000th of a standard error), or after so many steps; a pivot
// is none where it is at most so much of its column. First steps in float: until none moves by more
// than NEAR, with pivots that float can tell from none; then the Hessian in float and the gradient
// in double, where a step leaves 1e-5 of itself.
enum { RGM_FIT_STEPS = 25, RGM_FIT_NEAR_STEPS = 8, RGM_FIT_MIXED_STEPS = 4 };
#define RGM_FIT_TOLERANCE 1e-6
#define RGM_FIT_TOLERANCE32 3e-3
#define RGM_FIT_TOLERANCE_MIXED 1e-5
#define RGM_FIT_PIVOT 1e-12
#define RGM_FIT_NEAR 1e-3
#define RGM_FIT_NEAR_PIVOT 1e-3

// What became of a resample's fit.
typedef enum rgm_fit {
  RGM_FIT_DONE = 0,
  RGM_FIT_SEPARATED = 1, // IRLS: steps do not shrink, coefficients run away
  RGM_FIT_SINGULAR = 2,  // a pivot of at most 1e-12 of its column
  RGM_FIT_EMPTY = 3,     // IRLS: one treatment only
} rgm_fit;

// beta = argmax sum_i c_i (a_i x_i'beta - log(1 + exp(x_i'beta))) by Newton's method from `start`,
// until no coefficient moves by more than RGM_FIT_TOLERANCE, at most 25 steps. Lanes that have
// arrived keep their bits. Columns are to be of a size around 1. With `near` the first steps are in
// float, the last one or two mixed. Lanes that this does not lead to their end (a pivot of at most
// RGM_FIT_NEAR_PIVOT of its column, more than 8 and 4 steps) begin anew in double.
typedef struct rgm_irls {
  rgm_tensor beta;   // (G, P, 16) f64, written
  rgm_tensor status; // (G, 16) u32, written: rgm_fit
  rgm_tensor steps;  // (G, 16) u32, written: steps of Newton
  rgm_tensor x;      // (G, P, n), f64 or f32
  rgm_tensor near;   // (G, P, n) f32: x of f64 in float; data NULL: all in x's type
  rgm_tensor label;  // (G, n) f64: 0 or 1
  rgm_tensor rows;   // (G, n) u32: which row of the counts
  rgm_tensor counts; // (G, N, 16) u8
  rgm_tensor start;  // (G, P) f64
} rgm_irls;

// How treatments and propensities e make the weights of least squares.
typedef enum rgm_weighting {
  RGM_WEIGHT_NONE = 0,    // 1
  RGM_WEIGHT_OVERLAP = 1, // |a - e|
  RGM_WEIGHT_INVERSE = 2, // a / e + (1 - a) / (1 - e), at most `cap`
} rgm_weighting;

// coef = argmin sum_i c_i w_i (y_i - z_i'coef)^2 by Cholesky on the normal equations; the columns
// of z are to be of a size around 1. Columns from `first` on are 0 where the label is: they are
// summed over the other rows only.
typedef struct rgm_wls {
  rgm_tensor coef;   // (G, Q, 16) f64, written
  rgm_tensor status; // (G, 16) u32, written: rgm_fit
  rgm_tensor weight; // (G, 16) f64, written: sum of c w; data NULL: not wanted
  rgm_tensor z;      // (G, Q, n), f64 or f32
  rgm_tensor y;      // (G, N, 16) f64, or (G, N, 1) for all lanes
  rgm_tensor rows;   // (G, n) u32
  rgm_tensor counts; // (G, N, 16) u8
  rgm_tensor given;  // (G, n) f64: further factors of the weights; data NULL: 1
  rgm_tensor x;      // (G, P, n) of the propensity, of z's type; read unless NONE
  rgm_tensor beta;   // (G, P, 16) f64, likewise
  rgm_tensor label;  // (G, n) f64: treatment a; read unless NONE and first = Q
  rgm_weighting weighting;
  int64_t first;
  double cap;
} rgm_wls;

// y = from + max(gamma, 0) - a gamma on the rows of a stage, from elsewhere, with the blip gamma =
// h'psi: the outcome as if this stage had been treated well. psi are rows `first` ... of coef.
typedef struct rgm_pseudo {
  rgm_tensor y;     // (G, N, 16) f64, written; may be `from`
  rgm_tensor from;  // (G, N, 16) f64, or (G, N, 1) for all lanes
  rgm_tensor h;     // (G, H, n) f64
  rgm_tensor coef;  // (G, Q, 16) f64, of which H from `first` on are read
  rgm_tensor label; // (G, n) f64
  rgm_tensor rows;  // (G, n) u32
  int64_t first;
} rgm_pseudo;

// Counts of resamples: number b = 16 g + lane of G groups draws so many units with replacement, a
// unit being a row or the rows of a cluster. Number 0 and those beyond B have every row once. Draw
// j takes word j % 4 of philox counter {step, b - 1, j / 4, 0}; rgm_below's second choice where
// that one is refused (member j + 1).
typedef struct rgm_resample {
  rgm_tensor counts;  // (G, N, 16) u8, written; 255 at most
  rgm_tensor first;   // (1, U + 1) u32: where a unit begins in `members`; data NULL: rows
  rgm_tensor members; // (1, N) u32
  int64_t units, draws, replicates;
  uint32_t key[2], step; // of philox
} rgm_resample;

// All stages of every group from the last one back: irls[k], wls[k], then pseudo[k] but for the
// first. Their y is `y`, but that of the last stage's wls and of pseudo's `from` may be shared by
// all; groups take turns on its S slices.
typedef struct rgm_stages {
  int stages;
  const rgm_irls *irls;     // (stages)
  const rgm_wls *wls;       // (stages)
  const rgm_pseudo *pseudo; // (stages), [0] not used
  rgm_tensor y;             // (S, N, 16) f64, overwritten
} rgm_stages;

typedef struct rgm_stream rgm_stream;

// out[G, n, P (P + 1) / 2] = z_i z_j of each row of z[G, n, P], the lower triangle; f64 or f32.
void rgm_products(rgm_stream *s, rgm_tensor out, rgm_tensor z);

// gram[G, K, 16] f64 = sum_i weight_i products_i with products[G, n, K] f64 and weight[G, n, 16]
// f64: the Gram matrix of a design, or with the design itself in place of products its right side.
void rgm_gram(rgm_stream *s, rgm_tensor gram, rgm_tensor products, rgm_tensor weight);

// Solves gram[G, P (P + 1) / 2, 16] x = right[G, P, 16] in every lane, f64: right becomes x, gram
// its Cholesky factor L, status[G, 16] u32 whether a pivot was at most 1e-12 of its column (then x
// is NaN).
void rgm_cholesky(rgm_stream *s, rgm_tensor gram, rgm_tensor right, rgm_tensor status);

void rgm_irls_fit(rgm_stream *s, const rgm_irls *fit);
void rgm_wls_fit(rgm_stream *s, const rgm_wls *fit);
void rgm_pseudo_outcome(rgm_stream *s, const rgm_pseudo *pseudo);
void rgm_resample_counts(rgm_stream *s, const rgm_resample *resample);
void rgm_staged_fit(rgm_stream *s, const rgm_stages *staged);

#ifdef __cplusplus
}
#endif
#endif
