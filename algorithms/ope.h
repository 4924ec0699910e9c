// SPDX-License-Identifier: Apache-2.0
// What off-policy evaluation of staged starts shares: wis.c and adr.c. Private to the algorithms.
//
// N rows of patients (clones share an id), K stages; treatment is absorbing, a_1 <= a_2 <= ... A
// policy says at each stage whether to start; what it says after a start or a death does not count.

#ifndef RGM_OPE_H
#define RGM_OPE_H

#include "engine/formula.h"

enum { OPE_STAGES = 4, OPE_POLICIES = 8, OPE_CLIPS = 8, OPE_OUTCOMES = 4 };
enum { COMPAT_CORRECTED, COMPAT_PUBLISHED };
enum { FOLDS_ID, FOLDS_ROW };
enum { NUISANCE_LINEAR, NUISANCE_FOREST };

typedef struct ope_stage_keys {
  char treatment[RGM_STRING_SIZE], alive[RGM_STRING_SIZE], propensity[RGM_STRING_SIZE];
  char covariates[RGM_STRING_SIZE];
} ope_stage_keys;

typedef struct ope_keys {
  char outcome[RGM_STRING_SIZE], outcomes[RGM_STRING_SIZE], policies[RGM_STRING_SIZE];
  char id[RGM_STRING_SIZE], fold[RGM_STRING_SIZE], imputation[RGM_STRING_SIZE];
  char drop[RGM_STRING_SIZE], clone[RGM_STRING_SIZE];
  char value[RGM_STRING_SIZE], mortality[RGM_STRING_SIZE];
  int64_t stages, folds, replicates, trees, leaf, tries, bins;
  int observed, rows, split, interval, nuisance;
  bool cure, normalise;
  double clip, level, share;
  ope_stage_keys stage[OPE_STAGES];
} ope_keys;

// The tables of a file: one, or one for each imputation, all with the same patients in as many
// rows, clones among them.
typedef struct ope_tables {
  rgm_frame frame;     // as read
  int64_t count, rows; // tables, rows of each
  int64_t *row;        // (count, rows) of the frame; clones come last
} ope_tables;

// A design matrix on standardised columns; NaN rows are those that lack a value.
typedef struct ope_design {
  int columns;
  double *x; // (N, columns)
} ope_design;

typedef struct ope_policy {
  char name[32];
  bool is_observed;
  uint8_t *start; // (K, N) what it says
} ope_policy;

typedef struct ope_data {
  const ope_keys *keys;
  const char *path;
  rgm_frame frame;
  const int64_t *line;                  // (N) rows of the file
  int64_t table, N, clusters, *cluster; // (N) the cluster of a row
  int K, policies, outcomes;
  char outcome_name[OPE_OUTCOMES][64];
  double *outcome[OPE_OUTCOMES]; // (N)
  double *y;                     // (N) of adr
  uint8_t *a, *alive;            // (K, N); alive at a stage
  int *fold;                     // (N)
  ope_design e[OPE_STAGES], mu[OPE_STAGES];
  ope_policy policy[OPE_POLICIES];
} ope_data;

// Reads the run's table and parts it by imputations; then one of them by what the config says.
// Errors: RGM_ECONFIG, RGM_EDATA with stage and column. To be closed and freed in any case.
rgm_status ope_open(rgm_run *run, ope_tables *t);
void ope_close(ope_tables *t);
rgm_status ope_load(rgm_run *run, const ope_tables *t, int64_t table, bool outcomes_of_wis,
                    bool nuisances, ope_data *d);
void ope_free(ope_data *d);

// Logistic regression over the rows where weight > 0; weight (N), label (N). False where there is
// no solution.
bool ope_logistic(const ope_data *d, const ope_design *x, const double *label, const double *weight,
                  double *beta);

// Least squares of y (n) on x (n, q) with weights (n); columns that depend on those before them get
// 0. False where nothing is left.
bool ope_linear(const double *x, int64_t n, int q, const double *y, const double *weight,
                double *beta);
double ope_score(const ope_design *x, const double *beta, int64_t row);

// Counts of a resample of clusters by philox, at count[row * stride]; 0: the sample. All rows of a
// patient are drawn together: clones are appended again to whoever was drawn. False without memory.
bool ope_draw(const ope_data *d, int64_t seed, int64_t replicate, uint8_t *count, int64_t stride);

// Intervals of resamples: sorts them. NaN are left out; se is their standard deviation, robust the
// interquartile range over 1.349, low and high percentiles.
typedef struct ope_spread {
  double se, robust, low, high;
  int64_t lost;
} ope_spread;
ope_spread ope_summarise(double *x, int64_t count, double level);

// An estimate from one table: its value, its standard error over patients (NaN: not known), and
// what resamples say of it.
typedef struct ope_estimate {
  double value, cluster_se;
  ope_spread spread;
} ope_estimate;

// The same from several tables: means of them; limits low and high, of one table its percentiles
// (without resamples by the clusters' error), of several by Rubin's rules with the bootstrap's
// variance (without resamples the clusters') within.
typedef struct ope_pooled {
  double value, cluster_se;
  ope_spread spread; // means over tables; se: root of the mean square
  double basic[2];   // mean basic limits, 2 value - percentile: the published interval
  double low, high;
  int64_t tables;
  double se, lambda, df; // by Rubin's rules, NaN of one table: total error, missing information
} ope_pooled;

// Pools `tables` estimates that lie `stride` bytes apart, of `patients` each.
ope_pooled ope_pool(const ope_keys *keys, const ope_estimate *e, int64_t stride, int64_t tables,
                    int64_t patients);

// Writes PREFIXbootstrap {se, robust_se, ci, basic, resamples_without_fit} and, of several tables,
// PREFIXrubin {se, ci, lambda, df}.
void ope_write_spread(rgm_json *json, const char *prefix, const ope_pooled *e);

// What an evaluation finds, for whoever compares it with a truth: of each policy and figure (adr:
// over never treating, over the observed starts; wis: its outcomes) {value, low, high}.
typedef struct ope_values {
  int policies, figures;
  char policy[OPE_POLICIES][32];
  double of[OPE_POLICIES][OPE_OUTCOMES + 1][3];
} ope_values;

// The evaluations of adr.c and wis.c without words; on the CPU whatever the run's device, since a
// table takes a tenth of a second.
rgm_status adr_values(rgm_run *run, ope_values *out);
rgm_status wis_values(rgm_run *run, ope_values *out);

#define OPE_KEY(member) offsetof(ope_keys, member)
// clang-format off
#define OPE_STAGE(n)                                                                               \
  RGM_TEXT("stage" #n ".treatment", OPE_KEY(stage[n - 1].treatment), "", 0,                        \
    "Expression that is 1 where treatment had started by stage " #n "."),                          \
  RGM_TEXT("stage" #n ".alive", OPE_KEY(stage[n - 1].alive), "1", 0,                               \
    "Expression that is 1 for those alive at stage " #n "."),                                      \
  RGM_TEXT("stage" #n ".propensity", OPE_KEY(stage[n - 1].propensity), "", 0,                      \
    "Formula of the logistic model of starting at stage " #n "."),                                 \
  RGM_TEXT("stage" #n ".covariates", OPE_KEY(stage[n - 1].covariates), "", 0,                      \
    "Formula of the outcome and death models of stage " #n " (adr).")
// clang-format on

// clang-format off
#define OPE_FIELDS                                                                                 \
  RGM_TEXT("policies", OPE_KEY(policies), "", 0,                                                   \
    "Policies by commas, an expression a stage: \"crude: r_1 r_2 r_3\"; treat_all, observed "      \
    "come along."),                                                                                \
  {"stages", RGM_INT, OPE_KEY(stages), "1", "3", 1, OPE_STAGES, NULL, 0, "Stages, K."},            \
  RGM_TEXT("id", OPE_KEY(id), "", 0,                                                               \
    "Column of the patient; clones share it. Folds and resamples go by it; empty: each row."),     \
  RGM_TEXT("drop", OPE_KEY(drop), "", RGM_ADDED,                                                   \
    "Expression that is 1 for rows that are left out (censored from the start)."),                 \
  RGM_TEXT("clone", OPE_KEY(clone), "", RGM_ADDED,                                                 \
    "Expression that is 1 for rows that count twice: their patients fit two arms."),               \
  RGM_TEXT("imputation", OPE_KEY(imputation), "", RGM_ADDED,                                       \
    "Column with the number of the imputed set of a row; results are pooled over sets."),          \
  {"interval", RGM_CHOICE, OPE_KEY(interval), "", "normal", 0, 0, ope_intervals, RGM_ADDED,        \
    "Intervals pooled over imputations: normal, or t with Barnard & Rubin's degrees."},            \
  {"rows", RGM_CHOICE, OPE_KEY(rows), "", "alive", 0, 0, ope_rows, 0,                              \
    "Propensities are fitted on those alive; published: the newly dead count as untreated."},      \
  {"replicates", RGM_INT, OPE_KEY(replicates), "1", "199", 0, 1e6, NULL, 0,                        \
    "Resamples of patients."},                                                                     \
  {"level", RGM_FLOAT, OPE_KEY(level), "1", "0.95", 0.5, 0.9999, NULL, 0, "Level of intervals."},  \
  OPE_STAGE(1),                                                                                    \
  OPE_STAGE(2),                                                                                    \
  OPE_STAGE(3),                                                                                    \
  OPE_STAGE(4)
// clang-format on

extern const char *const ope_rows[], *const ope_intervals[];

#endif
