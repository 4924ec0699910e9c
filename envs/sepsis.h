// SPDX-License-Identifier: Apache-2.0
// The sepsis grid of Zhang Z. et al. 2021 (Ann Palliat Med 10(4):3715-3725, doi
// 10.21037/apm-20-2084): a patient moves on a table of MAP (rows, highest first) and lactate
// (columns, lowest first) under vasopressors, fluid, both or none. An action has one kernel of 3 x
// 3 moves, the same in every cell.
//
// From the article's text: fluid moves left with 0.30, stays with 0.12, goes left and up with 0.05;
// a move that would leave the grid is cancelled whole; an end is never left, each of its nine moves
// has 1/9, and pays -1 (died) or +1 (alive) each step, so that V = +-1 / (1 - gamma) there; the
// reward belongs to the cell that is left. Its matrices, gamma, ends and first policy are in
// pictures only: the keys' defaults are a documented reconstruction (configs/sepsis_grid.yaml).

#ifndef ENV_SEPSIS_H
#define ENV_SEPSIS_H

#include "kernels/base.h"

enum { SEPSIS_ACTIONS = 4, SEPSIS_MOVES = 9 };

// One cell of the grid and where its nine moves lead, the same place once: `to` ascends.
typedef struct sepsis_moves {
  int count;
  int32_t to[SEPSIS_MOVES];
  double p[SEPSIS_MOVES];
} sepsis_moves;


// Moves of an action from cell (row, column), counted from 0: `kernel` has nine probabilities, up,
// same, down by left, same, right. A NULL kernel is an end's: it stays.
RGM_FN void sepsis_move(const double *kernel, int rows, int columns, int row, int column,
                        sepsis_moves *out) {
  out->count = 0;
  for (int k = 0; k < SEPSIS_MOVES; k++) {
    const int r = row + k / 3 - 1, c = column + k % 3 - 1;
    const bool inside = kernel != NULL && r >= 0 && r < rows && c >= 0 && c < columns;
    const int32_t to = inside ? r * columns + c : row * columns + column;
    const double p = kernel != NULL ? kernel[k] : 1.0 / SEPSIS_MOVES;
    int i = 0;
    while (i < out->count && out->to[i] != to) {
      i++;
    }
    if (i == out->count) {
      out->to[out->count] = to;
      out->p[out->count++] = 0.0;
    }
    out->p[i] += p;
  }
}

#endif
