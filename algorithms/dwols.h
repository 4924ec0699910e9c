// SPDX-License-Identifier: Apache-2.0
// Staged treatment rules by dynamic weighted ordinary least squares: what the files of dwols share.
// Private to the algorithms.
//
// N patients, K stages; stage k has n_k eligible rows, a model of treatment with p columns and e
// coefficients (a logistic one: e = p), a treatment-free model of f columns and h blip
// coefficients, q = f + h. psi of all stages is one vector of P numbers, stage 1 first. m
// imputations, B resamples; resample 0 is the sample itself.
//
// A treatment a is 0 or 1, one of several levels, or a dose. Its blip, what it gains over the
// reference (no treatment, the first level, dose 0), is gamma(a) = sum_t b_t(a) x_t'psi_t: one
// function b(a) = a for two levels; 1{a = l} for each other level l; a and, if there is a formula
// of the square, a^2 for a dose (Wallace & Moodie 2015; Schulz & Moodie 2021, J Am Stat Assoc
// 116:256).

#ifndef RGM_DWOLS_H
#define RGM_DWOLS_H

#include "engine/formula.h"
#include "kernels/regression.h"
#include "algorithms/mice.h"
#include "algorithms/wide.h"

enum {
  DWOLS_STAGES = 4,
  DWOLS_PSI = DWOLS_STAGES * 16,                 // of all stages together, at most
  DWOLS_INPUTS = 48,                             // columns that blips read
  DWOLS_LEVELS = 8,                              // of a treatment, or bins of a dose
  DWOLS_TREAT = 64,                              // coefficients of a stage's models of treatment
  DWOLS_ALL = DWOLS_TREAT + RGM_FORMULA_COLUMNS, // and of its outcome and blip
};

enum { METHOD_DWOLS, METHOD_QLEARNING, METHOD_GEST };
enum {
  WEIGHT_OVERLAP,
  WEIGHT_IPW,
  WEIGHT_CAPPED,
  WEIGHT_NONE,
  WEIGHT_USER,
  WEIGHT_STABILISED,
  WEIGHT_BINS
};
enum { TREAT_BINARY, TREAT_MULTINOMIAL, TREAT_ORDINAL, TREAT_CONTINUOUS };
enum { FAMILY_NORMAL, FAMILY_GAMMA };
enum { HIERARCHY_ADD, HIERARCHY_PUBLISHED };
enum { RESAMPLE_PHILOX, RESAMPLE_SPLITMIX };
enum { INTERVAL_NORMAL, INTERVAL_T };
enum { EXPORT_NONE, EXPORT_CSV, EXPORT_HDF5, EXPORT_BOTH };

typedef struct dwols_stage_keys {
  char treatment[RGM_STRING_SIZE], eligible[RGM_STRING_SIZE], propensity[RGM_STRING_SIZE];
  char free[RGM_STRING_SIZE], blip[RGM_STRING_SIZE], square[RGM_STRING_SIZE];
  char range[RGM_STRING_SIZE];
  int kind, family;
} dwols_stage_keys;

typedef struct dwols_keys {
  char outcome[RGM_STRING_SIZE], cluster[RGM_STRING_SIZE], weights[RGM_STRING_SIZE];
  int64_t stages, imputations, replicates, draw, boot_first, boot_sets, bins;
  double adaptive;
  int method, weight, hierarchy, resample, interval, export;
  bool shared, single;
  double level;
  dwols_stage_keys stage[DWOLS_STAGES];
  mice_keys mice;
} dwols_keys;

// Which treatments a stage has, and how its psi belong to them.
typedef struct dwols_arms {
  int kind, levels;                    // 2 of a binary one, 0 of a dose
  double level[DWOLS_LEVELS];          // their values in the data, the reference first
  char name[DWOLS_LEVELS][32];         // words, or those values
  double least, most;                  // of a dose, the reference among them or not
  int blip, square;                    // columns of the blip, of a dose's square
  int functions, terms;                // b_t; psi
  uint8_t of[RGM_FORMULA_COLUMNS];     // psi j: its function
  uint8_t column[RGM_FORMULA_COLUMNS]; // its column of [blip, square]
} dwols_arms;

// A stage's model. Columns are standardised over the eligible rows: x = (raw - centre) / scale, the
// constant left alone, and the functions of treatment times the blip's columns; a dose is divided
// by `dose` there.
typedef struct dwols_stage {
  rgm_formula treatment, eligible, propensity, free, blip, square;
  dwols_arms arms;
  int64_t n;
  uint32_t *rows;   // (n) of the frame
  uint32_t *order;  // (n) rows of the stage by dose, NULL: levels
  double *label;    // (n) treatment: the number of its level, or the dose
  double *given;    // (n) user weights, NULL: none
  double dose;      // root mean square of doses, else 1
  double split;     // labels above are "treated" in tables: 0, or the median dose
  int family, bins; // of a dose: its distribution; quantile bins for weights, 0: none
  int p, e, f, h, q;
  int first;             // of its psi
  int first_all;         // of its e + q coefficients among those of all stages
  double *x, *z, *blips; // (n, p), (n, q), (n, blip + square), standardised
  // of the propensity, the treatment-free model, blip, square
  double centre[4][RGM_FORMULA_COLUMNS], scale[4][RGM_FORMULA_COLUMNS];
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
  int stages, psi, all; // K, P, all coefficients
  bool general; // not all stages binary, or weights that the kernels lack: fitted on the host
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

// A stage's coefficients on the standardised columns as those on the raw ones: (e + q) numbers; and
// those of the models of treatment back: (e).
void dwols_raw(const dwols_stage *s, const double *beta, const double *coef, double *out);
void dwols_standard(const dwols_stage *s, const double *raw, double *beta);

// ---- treatments: dwols_treat.c

// Lays out psi for so many columns of blip and square; kind and levels are set. False: too many.
bool dwols_arms_make(dwols_arms *arms, int blip, int square);

// b_t(a) of a treatment (number of its level, or dose).
double dwols_function(const dwols_arms *arms, int t, double a);

// The treatment that blips are told against: 0, or the dose nearest to it in the range.
double dwols_reference(const dwols_arms *arms);

// The factors h (terms) of psi in gamma(a) - gamma(b), of a row [blip, square].
void dwols_contrast(const dwols_arms *arms, const double *row, double a, double b, double *h);

// The best treatment where gamma(a) = sum_t b_t(a) sums_t; `other`: but the reference, if levels.
double dwols_best(const dwols_arms *arms, const double *sums, bool other);
double dwols_gamma(const dwols_arms *arms, const double *sums, double a);

// sums (functions) at a row [blip, square] with psi, both raw.
void dwols_sums(const dwols_arms *arms, const double *row, const double *psi, double *sums);

// "ns(x)" of two levels; "2: x" of several, "a: x" and "a^2: x" of a dose.
void dwols_psi_name(const dwols_stage *s, int j, char out[RGM_FORMULA_NAME + 40]);

// The name of coefficient j of a stage's models of treatment.
void dwols_treat_name(const dwols_stage *s, int j, char out[RGM_FORMULA_NAME + 40]);

// sums (functions) at row i of a stage, raw, with psi (h) on standardised columns.
void dwols_stage_sums(const dwols_stage *s, int64_t i, const double *psi, double *sums);

// Adds to y (N) what each row of a stage lost to its best treatment, by psi (h) on standardised
// columns.
void dwols_add_regret(const dwols_stage *s, const double *psi, double *y);

// How many coefficients a stage's models of treatment have.
int dwols_treat_size(const dwols_stage *s);

// Fits them by maximum likelihood for counts c (n) (NULL: 1), Newton's method from `start` (NULL:
// no effects): beta (e) on standardised columns. Logistic, multinomial logistic; proportional odds
// (McCullagh 1980) of levels or of a dose's quantile bins; normal with identity or gamma with log
// link, dispersion by Pearson's residuals.
rgm_fit dwols_treat_fit(const dwols_stage *s, const double *count, const double *start,
                        double *beta);

// Probabilities of the levels in row i (or of a dose's bins): how many, 0: a dose without bins.
int dwols_treat_shares(const dwols_stage *s, const double *beta, int64_t i, double *shares);

void dwols_treat_expected(const dwols_stage *s, const double *beta, double *expected);

// P(a = 1) of each row (n) where there are two levels.
void dwols_propensities(const dwols_stage *s, const double *beta, double *e);

// The deviance of the model of treatment.
double dwols_treat_deviance(const dwols_stage *s, const double *beta);

// Weights (n) of a sample with counts (NULL: 1), neither cut nor times user weights; of doses over
// the largest. False: no memory.
bool dwols_treat_weights(const dwols_stage *s, int weight, const double *beta, const double *count,
                         double *w);

// Cuts weights w (n) at `cap`, their 99th percentile (R's type 7) in a sample with counts (NULL:
// 1), as DTRreg does. False: no memory.
bool dwols_cap(int64_t n, const double *count, double *w, double *cap);

// ---- on the host, for the sample itself or one resample

// Solves the square system a x = b (n, n) by LU with partial pivoting; a and b are destroyed, b
// becomes x. False where it is singular; *column is then the one that depends on those before.
bool dwols_solve(double *a, double *b, int n, int *column);

// Sums of w x x' over rows in their order, which wait until there are four: begin, then write each
// row (width <= DWOLS_GRAM) where dwols_gram_row says, then end: the lower triangle of `sum`.
enum { DWOLS_GRAM = (RGM_FORMULA_COLUMNS + 1 + RGM_WIDE_UNIT - 1) / RGM_WIDE_UNIT * RGM_WIDE_UNIT };
typedef struct dwols_gram {
  int width, held;
  double x[RGM_WIDE_ROWS][DWOLS_GRAM], w[RGM_WIDE_ROWS];
  double sum[DWOLS_GRAM][DWOLS_GRAM];
} dwols_gram;
void dwols_gram_begin(dwols_gram *g, int width);
double *dwols_gram_row(dwols_gram *g, double w);
void dwols_gram_end(dwols_gram *g);

// Which column of a design (n, q) depends on those before it; -1: none.
int dwols_dependent(const double *z, int64_t n, int q);

// Solves sum c w v (y - z'coef) = 0 for counts c and weights w (n). v is z, or for
// G-estimation (Robins 2004, as in DTRreg) (b_t - E[b_t]) times the blip's columns in place of b_t
// times them, with expected (n, functions).
bool dwols_equations(const dwols_stage *s, const double *w, const double *count,
                     const double *expected, const double *y, double *coef);

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
// stages, as DTRreg); diag unless NULL. beta (e) standardised.
rgm_status dwols_fit_stage(const dwols_model *m, int stage, int method, int weight,
                           const double *beta, const double *y, double *coef, double *sandwich,
                           double *diag);

// The weights of a stage in a sample with counts (NULL: 1): (n) numbers; cap is what they were cut
// at (infinite: not cut). False: no memory.
bool dwols_weights(const dwols_stage *s, int weight, const double *beta, const double *count,
                   double *w, double *cap);

// E[b_t(a)] of each row, a dose divided by `dose`: (n, functions).
void dwols_expected(const dwols_stage *s, const double *beta, double *expected);

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

// An imputation before its resamples: its designs, and the fit of the sample itself.
typedef struct dwols_sample {
  dwols_model model; // the run's, with y, x, z and blips of its own
  double beta[DWOLS_STAGES][DWOLS_TREAT], coef[DWOLS_STAGES][RGM_FORMULA_COLUMNS]; // standardised
  double caps[DWOLS_STAGES], near_zero;
  double theta[DWOLS_STAGES * DWOLS_ALL], sandwich[DWOLS_STAGES * DWOLS_ALL]; // raw
  double diag[DWOLS_STAGES * DIAG_COUNT];
  rgm_status status;
  char why[512];
} dwols_sample;

// The sample of an imputation, valid until the next call; some are made at a time, on the host's
// threads. dwols_sample.c
rgm_status dwols_sample_of(rgm_run *run, int64_t imputation, const dwols_sample **out);

// Resamples fitted one by one on the host: G-estimation, and models that the kernels lack, which
// begin at the sample's beta. Fills coef and status of all stages; dwols_loop.c
rgm_status dwols_loop(rgm_run *run, const dwols_sample *sample);

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
  dwols_sample *ahead; // imputations made already, of which
  int64_t ahead_first, ahead_count, ahead_most;
  rgm_tensor theta;                       // (1, m, all) coefficients on raw columns
  rgm_tensor covariance;                  // (1, m, P, P) of psi, by the bootstrap
  rgm_tensor sandwich;                    // (1, m, all) standard errors
  rgm_tensor diagnostics;                 // (1, m, K, DIAG_COUNT)
  rgm_tensor failures;                    // (1, m, K, 4) resamples by rgm_fit
  rgm_tensor replicates;                  // (1, B, P) of the newest imputation
  rgm_tensor psi, total, within, between; // (1, P), (1, P, P)
  rgm_tensor numbers;                     // (1, K, 64) levels and knots of the blips
  rgm_tensor squares;                     // (1, K, 64) those of the squares; unless all is binary
  rgm_tensor levels, words;               // (1, K, 8 + 4), (1, K, 8, 32) u8: likewise
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

void dwols_samples_free(dwols *d);

#endif
