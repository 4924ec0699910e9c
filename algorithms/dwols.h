// SPDX-License-Identifier: Apache-2.0
// Staged treatment rules by dynamic weighted ordinary least squares: what the files of dwols share.
// Private to the algorithms.
//
// N patients, K stages; stage k has n_k eligible rows, a propensity of p, a treatment-free model of
// f and a blip of h columns, q = f + h. psi of all stages is one vector of P numbers, stage 1
// first. m imputations, B resamples; resample 0 is the sample itself.

#ifndef RGM_DWOLS_H
#define RGM_DWOLS_H

#include "engine/formula.h"
#include "algorithms/mice.h"

enum {
  DWOLS_STAGES = 4,
  DWOLS_PSI = DWOLS_STAGES * 16, // of all stages together, at most
  DWOLS_INPUTS = 48,             // columns that blips read
};

enum { METHOD_DWOLS, METHOD_QLEARNING, METHOD_GEST };
enum { WEIGHT_OVERLAP, WEIGHT_IPW, WEIGHT_CAPPED, WEIGHT_NONE, WEIGHT_USER };
enum { HIERARCHY_ADD, HIERARCHY_PUBLISHED };
enum { RESAMPLE_PHILOX, RESAMPLE_SPLITMIX };
enum { INTERVAL_NORMAL, INTERVAL_T };
enum { EXPORT_NONE, EXPORT_CSV, EXPORT_HDF5, EXPORT_BOTH };

typedef struct dwols_stage_keys {
  char treatment[RGM_STRING_SIZE], eligible[RGM_STRING_SIZE], propensity[RGM_STRING_SIZE];
  char free[RGM_STRING_SIZE], blip[RGM_STRING_SIZE];
} dwols_stage_keys;

typedef struct dwols_keys {
  char outcome[RGM_STRING_SIZE], cluster[RGM_STRING_SIZE], weights[RGM_STRING_SIZE];
  int64_t stages, imputations, replicates, draw, boot_first, boot_sets;
  double adaptive;
  int method, weight, hierarchy, resample, interval, export;
  bool shared, single;
  double level;
  dwols_stage_keys stage[DWOLS_STAGES];
  mice_keys mice;
} dwols_keys;

// A stage's model. Columns are standardised over the eligible rows: x = (raw - centre) / scale, the
// constant left alone, and the treatment times the blip's columns.
typedef struct dwols_stage {
  rgm_formula treatment, eligible, propensity, free, blip;
  int64_t n;
  uint32_t *rows; // (n) of the frame
  double *label;  // (n) treatment, 0 or 1
  double *given;  // (n) user weights, NULL: none
  int p, f, h, q;
  int first;             // of its psi
  int first_all;         // of its p + q coefficients among those of all stages
  double *x, *z, *blips; // (n, p), (n, q), (n, h), standardised
  double centre[3][RGM_FORMULA_COLUMNS], scale[3][RGM_FORMULA_COLUMNS]; // propensity, free, blip
  char missing_main[512]; // blip terms that the treatment-free model lacks as written, "" none
} dwols_stage;

// What the config and the data say.
typedef struct dwols_model {
  const dwols_keys *keys;
  const char *path; // of the data, for messages
  rgm_frame frame;  // as read, NaN where missing
  rgm_formula outcome;
  double *y; // (N) of the imputation at hand
  dwols_stage stage[DWOLS_STAGES];
  int stages, psi, all;                 // K, P, all coefficients
  int64_t *cluster_first, *cluster_row; // clusters in order of appearance: rows of each
  int64_t clusters;
  char inputs[DWOLS_INPUTS][64]; // what blips read
  int input_count;
  mice_plan *mice; // NULL: nothing is missing
} dwols_model;

// Reads the data, parses all formulas, finds the rows of each stage. Errors: RGM_ECONFIG, RGM_EDATA
// with stage and column. dwols_model_free also after a failure.
rgm_status dwols_model_load(const rgm_run *run, dwols_model *m);
void dwols_model_free(dwols_model *m);

// The same from a frame that is there, with its imputations planned: keys, path, frame and mice of
// m are set.
rgm_status dwols_model_build(const rgm_run *run, dwols_model *m);

// Designs and outcome of a completed table (N, columns): fills x, z, blips and y.
rgm_status dwols_model_design(dwols_model *m, const double *values);

// A stage's coefficients on the standardised columns as those on the raw ones: (p + q) numbers.
void dwols_raw(const dwols_stage *s, const double *beta, const double *coef, double *out);

// ---- on the host, for the sample itself or one resample

// Solves the square system a x = b (n, n) by LU with partial pivoting; a and b are destroyed, b
// becomes x. False where it is singular; *column is then the one that depends on those before.
bool dwols_solve(double *a, double *b, int n, int *column);

// Which column of a design (n, q) depends on those before it; -1: none.
int dwols_dependent(const double *z, int64_t n, int q);

// G-estimation of a stage (Robins 2004, as in DTRreg): solves sum c [H_beta; (a - e) H_psi] (y -
// H_beta beta - a H_psi psi) = 0 for counts c (n) (NULL: 1) and propensities e (n).
bool dwols_gest(const dwols_stage *s, const double *y, const double *e, const double *count,
                double *coef);

// What is known of a stage's fit to the sample.
enum {
  DIAG_N,
  DIAG_TREATED,
  DIAG_DEVIANCE,
  DIAG_WEIGHT_SUM,
  DIAG_WEIGHT_MAX,
  DIAG_ESS_TREATED,
  DIAG_ESS_UNTREATED,
  DIAG_E_MIN,
  DIAG_E_MAX,
  DIAG_E_OVERLAP,
  DIAG_SMD_BEFORE,
  DIAG_SMD_AFTER,
  DIAG_RESIDUAL_SD,
  DIAG_R2,
  DIAG_BLIP_POSITIVE,
  DIAG_BLIP_NEAR_ZERO,
  DIAG_PSEUDO_MEAN,
  DIAG_COUNT,
};
extern const char *const dwols_diag_names[DIAG_COUNT];

// Fits a stage to the sample with y (N) as its outcome by a method: coef (q) on standardised
// columns; sandwich (q) standard errors on raw columns (without the uncertainty of e and of later
// stages, as DTRreg); diag unless NULL. beta (p) standardised.
rgm_status dwols_fit_stage(const dwols_model *m, int stage, int method, int weight,
                           const double *beta, const double *y, double *coef, double *sandwich,
                           double *diag);

// The weights of a stage: (n) numbers; cap is what they were cut at (infinite: not cut).
void dwols_weights(const dwols_stage *s, int weight, const double *beta, double *w, double *cap);

// ---- pooling (Rubin 1987)

// The pooled covariance: T = W + (1 + 1 / m) B of estimates (m, P) and their covariances (m, P, P).
typedef struct dwols_pool {
  int64_t imputations;
  int count;
  double psi[DWOLS_PSI];
  double within[DWOLS_PSI * DWOLS_PSI], between[DWOLS_PSI * DWOLS_PSI];
  double total[DWOLS_PSI * DWOLS_PSI];
} dwols_pool;

void dwols_pool_make(int64_t imputations, int count, const double *psi, const double *within,
                     dwols_pool *out);

// Of a linear form h'psi of `count` numbers from `first` on: value, standard error, the share of
// its variance that is due to missing values, degrees of freedom (Barnard & Rubin 1999) with `n`
// residual ones of complete data (infinite: large), and half the width of its interval.
typedef struct dwols_form {
  double value, se, lambda, df, half;
} dwols_form;
dwols_form dwols_pool_form(const dwols_pool *pool, const double *h, int first, int count, double n,
                           int interval, double level);

// The t (df finite) or normal quantile of a two-sided interval.
double dwols_quantile(double level, double df);

// A step: an imputation with all its resamples; dwols_step.c
rgm_status dwols_step(rgm_run *run);

// Estimates of resamples that were imputed one by one, B with a fit and so many without, M
// imputations of each: mean, standard error and its degrees of freedom. dwols_boot.c
typedef struct dwols_boot {
  int64_t resamples, sets, failed;
  double psi[DWOLS_PSI], se[DWOLS_PSI], df[DWOLS_PSI];
} dwols_boot;
rgm_status dwols_boot_first(const rgm_run *run, const dwols_model *m, dwols_boot *out);

// The same of estimates psi (B, M, count); M > 1.
void dwols_boot_pool(int64_t resamples, int64_t sets, int count, const double *psi,
                     dwols_boot *out);

// Table 1 by stage and treatment, as observed; the files may be NULL. dwols_table1.c
rgm_status dwols_table1(const dwols_model *m, FILE *csv, FILE *tex, rgm_json *json);

// The evaluation of a run, and advice for a patient: dwols_report.c
rgm_status dwols_evaluate(rgm_run *run, rgm_json *json, FILE *text);
rgm_status dwols_recommend(const rgm_recommendation *r);

// What a run has found, for the files that tell it.
typedef struct dwols {
  dwols_model *model;
  rgm_tensor theta;                       // (1, m, all) coefficients on raw columns
  rgm_tensor covariance;                  // (1, m, P, P) of psi, by the bootstrap
  rgm_tensor sandwich;                    // (1, m, all) standard errors
  rgm_tensor diagnostics;                 // (1, m, K, DIAG_COUNT)
  rgm_tensor failures;                    // (1, m, K, 4) resamples by rgm_fit
  rgm_tensor replicates;                  // (1, B, P) of the newest imputation
  rgm_tensor psi, total, within, between; // (1, P), (1, P, P)
  rgm_tensor numbers;                     // (1, K, 64) levels and knots of the blips
  rgm_tensor ranges;                      // (1, inputs, 2) least and largest value in training
  rgm_tensor freedom;                     // (1, K) residual degrees of freedom
  rgm_tensor drawn;                       // (1, m) how many rows a resample drew
  rgm_tensor counts;                      // (G, N, 16) u8
  rgm_tensor first, members; // (1, U + 1), (1, N) u32: rows of clusters, if there are any
  int64_t groups, slots;
  rgm_tensor y, base; // (slots, N, 16), (1, N, 1)
  struct {
    rgm_tensor x, z, h, label, rows, given, start; // designs by columns, f64
    rgm_tensor x32, z32;                           // and f32
    rgm_tensor beta, coef, status, fitted, steps;  // (G, ...)
  } stage[DWOLS_STAGES];
} dwols;

#endif
