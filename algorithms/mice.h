// SPDX-License-Identifier: Apache-2.0
// Multiple imputation by chained equations (van Buuren & Groothuis-Oudshoorn 2011): what mice.c
// offers to the other algorithms. Private to the algorithms.

#ifndef RGM_MICE_H
#define RGM_MICE_H

#include "engine/formula.h"

typedef struct mice_keys {
  char cells[RGM_STRING_SIZE], exclude[RGM_STRING_SIZE];
  char arms[RGM_STRING_SIZE], methods[RGM_STRING_SIZE], predictors[RGM_STRING_SIZE];
  char derived[RGM_STRING_SIZE], visit[RGM_STRING_SIZE];
  int64_t iterations, donors;
  bool given;
} mice_keys;

typedef struct mice_plan mice_plan;

// Sets the cells missing that `cells` lists, reads imputations made elsewhere, or plans chains.
// *out is NULL where nothing is missing; `config` and `section` say where keys stand ("algorithm").
// Errors: RGM_ECONFIG, RGM_EDATA with column.
rgm_status mice_prepare(const rgm_config *config, const char *section, const mice_keys *keys,
                        const char *path, rgm_frame *frame, int64_t imputations, int64_t seed,
                        mice_plan **out);
void mice_free(mice_plan *plan);

// Completed tables of imputations first ... first + count - 1, counted from 0: values[count, N,
// columns]. With a stream the chains run on the host's threads, without one (NULL) one after the
// other; an imputation's bits depend on its number and the seed alone. Errors: RGM_ENUMERIC where a
// column cannot be imputed.
rgm_status mice_complete(mice_plan *plan, rgm_stream *stream, int64_t first, int64_t count,
                         double *values);

// A completed table (N, columns), and how many there are from it on one behind the other (count
// may be NULL), valid until the next call; chains are made some at a time.
rgm_status mice_values(mice_plan *plan, rgm_stream *stream, int64_t imputation,
                       const double **values, int64_t *count);

// All completed tables in files (mode 0600), one under the other, as R's mice has them: .imp counts
// imputations, 0 is the table as observed; .id counts its rows from 1. NULL: not wanted. Errors:
// RGM_EIO.
rgm_status mice_export(mice_plan *plan, rgm_stream *stream, const char *csv, const char *hdf5);

// Traces of the first `chains` imputations, which must have been completed: mean and standard
// deviation of the imputed values of every column that is imputed, after each iteration. As CSV;
// and as the factor by which the spread of a column's means (what 0) or deviations (1) may still
// shrink, R-hat, near 1 where chains have met. None where imputations are given.
bool mice_has_traces(const mice_plan *plan);
rgm_status mice_write_traces(const mice_plan *plan, int64_t chains, const char *path);
double mice_rhat(const mice_plan *plan, int64_t chains, int column, int what);
int mice_targets(const mice_plan *plan);
const char *mice_target_name(const mice_plan *plan, int target, int *column);

// Rows of the field table, for the algorithms that impute; AT(member) is an offset.
// clang-format off
#define MICE_FIELDS(AT)                                                                            \
  RGM_TEXT("impute.cells", AT(mice.cells), "", RGM_ADDED,                                          \
    "CSV of cells that are missing (row from 0, col), and, as X1, X2, ..., imputations of them."), \
  {"impute.given", RGM_BOOL, AT(mice.given), "", "false", 0, 0, NULL, RGM_ADDED,                   \
    "Take the imputations of impute.cells instead of making some."},                               \
  RGM_TEXT("impute.exclude", AT(mice.exclude), "", RGM_ADDED,                                      \
    "Columns that neither are imputed nor predict, by commas: ids, dates."),                       \
  RGM_TEXT("impute.methods", AT(mice.methods), "", RGM_ADDED,                                      \
    "Methods by column where not the default (pmm; logreg, polyreg of factors): \"bmi = "          \
    "norm\"."),                                                                                    \
  RGM_TEXT("impute.predictors", AT(mice.predictors), "", RGM_ADDED,                                \
    "Predictors by column where not all: \"bmi = age + chl, chl = age\"."),                        \
  RGM_TEXT("impute.derived", AT(mice.derived), "", RGM_ADDED,                                      \
    "Columns computed from others after each of them: \"bmi = wgt / (hgt / 100)^2\"."),            \
  RGM_TEXT("impute.visit", AT(mice.visit), "", RGM_ADDED,                                          \
    "Order of the columns, by commas; empty: from left to right."),                                \
  RGM_TEXT("impute.arms", AT(mice.arms), "", RGM_ADDED,                                            \
    "A column by whose values imputations are made apart, since blips are interactions."),         \
  {"impute.iterations", RGM_INT, AT(mice.iterations), "1", "5", 1, 1000, NULL, RGM_ADDED,          \
    "Iterations of a chain."},                                                                     \
  {"impute.donors", RGM_INT, AT(mice.donors), "1", "5", 1, 100, NULL, RGM_ADDED,                   \
    "Donors of predictive mean matching."}
// clang-format on

#endif
