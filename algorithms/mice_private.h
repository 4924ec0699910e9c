// SPDX-License-Identifier: Apache-2.0
// What the two files of mice share: the plan of its chains, and their random numbers.

#ifndef RGM_MICE_PRIVATE_H
#define RGM_MICE_PRIVATE_H

#include "algorithms/mice.h"
#include "kernels/rng.h"

enum { MICE_WIDTH = 96, MICE_TARGETS = 64, MICE_ARMS = 16 };
enum { MICE_PMM, MICE_NORM, MICE_LOGREG, MICE_POLYREG };

// A column of the design: a column of the table, or an indicator of one of its levels.
typedef struct mice_column {
  int column;
  bool is_level;
  double level, centre, scale;
} mice_column;

// A column that is imputed.
typedef struct mice_target {
  int column, method;
  int place;                             // in the design; of its first level where it has some
  int predictors, predictor[MICE_WIDTH]; // columns of the design, the constant first
  int written, write[MICE_WIDTH];        // its own there, and all that are derived
  int levels;
  double level[RGM_LEVELS];
  int64_t missing, *row; // rows that lack it
  int64_t missing_in[MICE_ARMS];
  uint8_t *lacks; // (N)
} mice_target;

typedef struct mice_derived {
  int column;
  rgm_formula formula;
} mice_derived;

struct mice_plan {
  const mice_keys *keys;
  const char *path;
  rgm_frame frame; // a copy, NaN where missing
  int64_t imputations;
  rgm_key key;
  int width; // P
  mice_column wide[MICE_WIDTH];
  int target_count;
  mice_target target[MICE_TARGETS]; // in the order of visits
  int derived_count;
  mice_derived *derived;
  int arms;
  int *arm; // (N)
  // imputations of a file: (cells, sets)
  int64_t given_count, given_sets, *given_cell;
  double *given;
  double *traces; // (imputations, iterations, columns, 2) of chains that have run; NULL: given
  double *block;  // completed tables block_first ...
  int64_t block_first;
};

// Random numbers in a sequence: philox counters {imputation, iteration, draw, column and arm}.
typedef struct mice_draws {
  rgm_key key;
  uint32_t step, item, member, draw, word[4];
  int left;
  bool has_normal;
  double normal;
} mice_draws;

void mice_start(mice_draws *d, const mice_plan *p, int64_t imputation, int64_t iteration,
                int column, int arm);
double mice_unit(mice_draws *d);                    // in (0, 1)
uint32_t mice_below(mice_draws *d, uint32_t count); // 0 ... count - 1, without bias
double mice_normal(mice_draws *d);
double mice_chi_square(mice_draws *d, double df);

// order[i] = which of `count` numbers, fewer than 2^32, is the i-th in ascending order; equal ones
// stay in theirs. `spare` holds as much.
void mice_sort(const double *x, int64_t count, uint64_t *order, uint64_t *spare);

#endif
