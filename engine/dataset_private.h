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

#endif
