// SPDX-License-Identifier: Apache-2.0
// Arrays of a foreign HDF5 file, looked at before they are read. Only in the child that reads
// (dataset_child.c).

#ifndef RGM_DATASET_ARRAY_H
#define RGM_DATASET_ARRAY_H

#include "engine/dataset_private.h"
#include "engine/image.h"

enum {
  RGM_ARRAY_RANK = 8,
  RGM_ARRAY_WIDTH = 4096,        // numbers of a row
  RGM_ARRAY_CHUNK = 64,          // MiB of a chunk, at most
  RGM_ARRAY_ATTRIBUTES = 256,    // of an object
  RGM_ARRAY_ATTRIBUTE = 1 << 16, // bytes of one
  RGM_ARRAY_DEFLATE = 1032,      // times that deflate can shrink anything
};

typedef struct rgm_input {
  const char *path;
  hid_t file;
  uint64_t size; // of the file
  rgm_hdf5_reason why;
} rgm_input;

// The shape of an array: `rows` of `width` numbers. A scalar is one row.
typedef struct rgm_array {
  int rank;
  hsize_t dims[RGM_ARRAY_RANK];
  int64_t rows, width;
  rgm_cell cell;      // what it is read as
  int64_t chunk_rows; // of a chunk, 0 where it has none
  size_t band;        // bytes of all chunks side by side
} rgm_array;

// "PATH: NAME: WHAT" with HDF5's own reason where there is one: RGM_EDATA or RGM_EMEMORY.
rgm_status rgm_input_refuse(const rgm_input *in, const char *name, const char *what);

// Whether a name ("a/b") is there; links on the way that are not hard are refused.
rgm_status rgm_input_has(rgm_input *in, const char *name, bool *has);

// Refuses an object with absurd attributes.
rgm_status rgm_input_attributes(rgm_input *in, const char *name);

// Looks at an array in every respect, then opens it with a cache for `cached` bytes of chunks. Its
// values are not touched yet.
rgm_status rgm_array_open(rgm_input *in, const char *name, size_t cached, rgm_array *out,
                          hid_t *id);

// Rows of an open array as cells, (rows, width).
rgm_status rgm_array_read(rgm_input *in, const char *name, const rgm_array *a, hid_t id,
                          int64_t first, int64_t rows, void *out);

#endif
