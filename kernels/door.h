// SPDX-License-Identifier: Apache-2.0
// What the front doors share: checks of shapes, the books of a stream, the call of a row. For
// kernels.c and the files of doors beside it alone.

#ifndef RGM_DOOR_H
#define RGM_DOOR_H

#include "kernels/kernels.h"

#include <string.h>

// counts a launch; returns when it began if the stream is timed
static inline double begin(rgm_stream *s, rgm_row row, double flops, double bytes) {
  s->counts[row].launches++;
  s->counts[row].flops += flops;
  s->counts[row].bytes += bytes;
  if (!s->timed) {
    return 0.0;
  }
  (void)s->backend->sync(s);
  return rgm_seconds();
}


// an error of the device stays on the stream, for the caller's own rgm_sync
static inline void end(rgm_stream *s, rgm_row row, double begun) {
  if (s->timed) {
    (void)s->backend->sync(s);
    s->counts[row].seconds += rgm_seconds() - begun;
  }
}


// counts the work of a row, calls it, and times it where asked
#define LAUNCH(s, row, flops, bytes, ...)                        \
  do {                                                           \
    const double begun_ = begin(s, RGM_ROW_##row, flops, bytes); \
    (s)->backend->row(s, __VA_ARGS__);                           \
    end(s, RGM_ROW_##row, begun_);                               \
  } while (0)


static inline double size_of(rgm_tensor t) {
  return (double)rgm_elements(t) * (double)rgm_dtype_size(t.dtype);
}


// what a tensor that may be absent costs
static inline double size_if(rgm_tensor t) {
  return t.data != NULL ? size_of(t) : 0.0;
}


static inline bool is_vector(rgm_tensor t, rgm_dtype dtype, int64_t n) {
  return t.dtype == dtype && rgm_elements(t) == n;
}


static inline bool same_shape(rgm_tensor a, rgm_tensor b) {
  return a.dtype == b.dtype && memcmp(a.dims, b.dims, sizeof a.dims) == 0;
}


// floats of these dims; 1 for those that there are not
static inline bool is_shape(rgm_tensor t, int64_t d0, int64_t d1, int64_t d2, int64_t d3) {
  return t.data != NULL && t.dtype == RGM_F32 && t.dims[0] == d0 && t.dims[1] == d1 &&
         t.dims[2] == d2 && t.dims[3] == d3;
}


// one number for each of R replicas
static inline bool is_each(rgm_tensor t, rgm_dtype dtype, int64_t replicas) {
  return t.data != NULL && t.dtype == dtype && t.dims[0] == replicas && rgm_elements(t) == replicas;
}

#endif
