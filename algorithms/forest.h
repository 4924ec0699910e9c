// SPDX-License-Identifier: Apache-2.0
// Random forests (Breiman 2001) on binned columns, for regression and for the probability of one of
// two classes: both split where w_l m_l^2 + w_r m_r^2 is largest (m: mean of y), which is the least
// squared error and, of classes 0 and 1, Gini's impurity. Trees are not kept: the rows to predict
// go down a tree while it grows, and branches that nobody goes down do not grow. Private to the
// algorithms.

#ifndef RGM_FOREST_H
#define RGM_FOREST_H

#include "kernels/kernels.h"
#include "kernels/rng.h"

enum { FOREST_BINS = 256, FOREST_FEATURES = 32, FOREST_BLOCK = 25 };

// Columns as bins, one byte a cell: a bin for each value where they are few, else quantiles. A
// threshold lies in the middle of the bins on its two sides.
typedef struct forest_data {
  int64_t rows;
  int features;
  uint8_t *bin; // (features, rows)
} forest_data;

// Bins of columns `first` ... columns - 1 of x (rows, columns), by the values of rows with keep[i]
// != 0. Errors: RGM_EMEMORY. To be freed.
rgm_status forest_bin(const double *x, int64_t rows, int columns, int first, const uint8_t *keep,
                      int64_t bins, forest_data *out);
void forest_free(forest_data *d);

typedef struct forest_keys {
  int64_t trees;
  int64_t leaf;  // draws of a leaf, at least
  int64_t tries; // columns looked at for a split; more where none of them splits
  double share;  // draws of a tree over those of the sample, with replacement; 0: the sample itself
} forest_keys;

// What is learned and what is asked: rows are numbers of d's rows.
typedef struct forest_task {
  const forest_data *data;
  const uint32_t *rows; // (n) learned from
  int64_t n;
  const double *y, *weight; // (n) outcome; weight beside the count, NULL: 1
  const uint8_t *count;     // (n) how often each row is in the sample
  const uint32_t *held;     // (m) to be predicted
  int64_t m;
  rgm_key key; // philox, of this forest alone: counters are its own
} forest_task;

// Sums over trees FOREST_BLOCK * block ... of what each predicts, in their order: out (m). False
// without memory, or where no row counts.
bool forest_block(const forest_keys *keys, const forest_task *task, int64_t block, double *out);

// Means over all trees: out (m), by blocks in their order, so that blocks computed apart give the
// same bits.
bool forest_predict(const forest_keys *keys, const forest_task *task, double *out);

#endif
