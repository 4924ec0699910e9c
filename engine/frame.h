// SPDX-License-Identifier: Apache-2.0
// A table of patients in memory: named columns of doubles, NaN where a cell is missing; a column of
// words is a factor, whose values are the places of its levels in alphabetical order.

#ifndef RGM_FRAME_H
#define RGM_FRAME_H

#include "engine/engine.h"

enum { RGM_LEVELS = 16, RGM_LEVEL_SIZE = 32 };

typedef struct rgm_variable {
  char name[64];
  int levels; // of a factor; 0: numbers
  char level[RGM_LEVELS][RGM_LEVEL_SIZE];
} rgm_variable;

typedef struct rgm_frame {
  int64_t rows;
  int columns;
  rgm_variable *column;
  double *value;   // (rows, columns)
  char digest[65]; // SHA-256 of the file, "" where there is none
} rgm_frame;

// Reads a CSV file (csv.h); empty cells, NA, NaN and "." are missing. Errors: RGM_EIO, RGM_EDATA
// with file, row and column, never a value.
rgm_status rgm_frame_read(const char *path, rgm_frame *out);

// Writes a CSV file: numbers so that they read back the same, words, empty cells where missing.
// Errors: RGM_EIO.
rgm_status rgm_frame_write(const char *path, const rgm_frame *frame);

// Lends a table to whoever reads the path "memory:NAME" in this thread from now on, one at a time;
// NULL: none. The caller keeps it, and must take it back before it goes.
void rgm_frame_lend(const char *name, const rgm_frame *frame);

// A copy with memory of its own; and one without rows, of columns by these names.
rgm_status rgm_frame_copy(const rgm_frame *from, rgm_frame *out);
rgm_status rgm_frame_names(const char (*names)[64], int count, rgm_frame *out);
void rgm_frame_free(rgm_frame *frame);

// The index of a column by its exact name, or -1; of a level of a factor, or -1.
int rgm_frame_find(const rgm_frame *frame, const char *name);
int rgm_frame_level(const rgm_variable *column, const char *level);

// The name of the column nearest to `name`, NULL if none is close.
const char *rgm_frame_nearest(const rgm_frame *frame, const char *name);

#endif
