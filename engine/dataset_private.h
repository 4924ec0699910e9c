// SPDX-License-Identifier: Apache-2.0
// Between the files of the data sets (dataset_*.c).

#ifndef RGM_DATASET_PRIVATE_H
#define RGM_DATASET_PRIVATE_H

#include "engine/checkpoint_private.h"
#include "engine/dataset.h"

#define RGM_DATASET_KIND "regimen dataset"

// A column without data; NULL where there are too many or memory is short. And its data, zeros.
rgm_column *rgm_dataset_shape(rgm_dataset *d, const char *name, rgm_role role, rgm_cell cell,
                              const char *unit);
bool rgm_column_allocate(rgm_column *c, int64_t rows);

int rgm_role_index(const char *name); // -1: none

// Whether a table can be written; RGM_EINTERNAL says what is wrong with it.
rgm_status rgm_dataset_valid(const rgm_dataset *d);

// rgm_dataset_matrix of a piece, whose cells are in data[column].
void rgm_matrix_piece(const rgm_dataset *d, unsigned roles, int64_t rows, const void *const *data,
                      float *out);

// The digest of the content, piece by piece; end frees. NULL is what memory that was short leaves.
rgm_hash **rgm_digest_begin(const rgm_dataset *d);
void rgm_digest_add(const rgm_dataset *d, rgm_hash **hash, int64_t rows, const void *const *data);
rgm_status rgm_digest_end(const rgm_dataset *d, rgm_hash **hash, int64_t rows, char hex[65]);


// ---- the child that reads ----------------------------------------------------------------------

// HDF5 is a large program that a file can lead astray, so it reads in a process of its own, which
// may take little memory, open nothing more, write nothing and not take long. It tells the table
// first, then rows as asked for.
enum {
  RGM_CHILD_MEMORY = 384, // MiB that it may take beyond what the program has
  RGM_CHILD_SECONDS = 60, // that an answer may take
  RGM_CHILD_PIECE = 4,    // MiB of an answer
};

// What the parent asks: `rows` rows from `first` on, or columns (rows -1: `first` of them follow
// as int32).
typedef struct rgm_request {
  int64_t first, rows;
} rgm_request;

// What comes back: an error and its text, the table, or up to as many rows as were asked for.
typedef struct rgm_answer {
  int32_t status, columns, notes;
  int64_t rows;
  uint64_t bytes; // that follow
} rgm_answer;

typedef struct rgm_child {
  const char *path; // the caller's
  pid_t pid;
  int to, from;
} rgm_child;

// Starts the child on an open file. It answers with the table or an error.
rgm_status rgm_child_start(const char *path, int fd, bool ours, rgm_child *out);
void rgm_child_end(rgm_child *child);

// RGM_EDATA with what became of the child where it does not answer, or not in time.
rgm_status rgm_child_send(rgm_child *child, const void *data, size_t size);
rgm_status rgm_child_receive(rgm_child *child, void *data, size_t size);

// In the child: opens, then reads what is asked for, with HDF5 (dataset_format.c).
typedef struct rgm_source rgm_source;
rgm_status rgm_source_open(const char *path, int fd, bool ours, rgm_source **out);
const rgm_dataset *rgm_source_table(const rgm_source *s);

// Rows of the chosen columns, each column's cells together, in `out` of RGM_CHILD_PIECE MiB: as
// many of them as fit, in *rows.
rgm_status rgm_source_read(rgm_source *s, const int32_t *select, int count, int64_t first,
                           int64_t *rows, unsigned char *out);

#endif
