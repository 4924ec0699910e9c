// SPDX-License-Identifier: Apache-2.0
// Parts of a data set as rings on the device: see transitions.h. Rows of patients are in blocks of
// the arena that no checkpoint holds.

#include "engine/transitions.h"

#include <stdlib.h>
#include <string.h>


static const char *const ring_names[] = {"obs", "action", "reward", "next", "terminated"};
static const char *const ring_axes[] = {"one, row, state", "one, row, action", "one, row, one",
                                        "one, row, state", "one, row, one"};


static int64_t ring_width(const rgm_transitions *t, int column) {
  return column == RGM_RING_OBS || column == RGM_RING_NEXT ? t->states
         : column == RGM_RING_ACTION                       ? t->actions
                                                           : 1;
}


// one slice as that of every replica
static rgm_tensor for_all(rgm_tensor t, int64_t replicas) {
  t.dims[0] = replicas;
  t.stride0 = 0;
  return t;
}


rgm_ring rgm_plan_ring(rgm_run *run, const char *name, rgm_split part, unsigned columns) {
  const rgm_transitions *t = run->transitions;
  const int64_t rows = t->part[part] > 0 ? t->part[part] : 1, R = run->replicas;
  rgm_ring ring = {.columns = 0};
  char full[64];
  for (int k = 0; k < RGM_RING_ALL; k++) {
    if (columns & 1u << k) {
      snprintf(full, sizeof full, "%s/%s", name, ring_names[k]);
      const rgm_tensor column = rgm_plan(run->arena, full, RGM_F32, RGM_BLOCK, ring_axes[k], "", 1,
                                         rows, ring_width(t, k), 0);
      ring.column[ring.columns++] = for_all(column, R);
    }
  }
  snprintf(full, sizeof full, "%s/head", name);
  ring.head = for_all(rgm_plan(run->arena, full, RGM_U32, RGM_BLOCK, "one", "", 1, 0, 0, 0), R);
  snprintf(full, sizeof full, "%s/count", name);
  ring.count = for_all(rgm_plan(run->arena, full, RGM_U32, RGM_BLOCK, "one", "", 1, 0, 0, 0), R);
  if (ring.count.data != NULL) {
    RGM_ASSERT(run->ring_count < RGM_MAX_RINGS);
    run->rings[run->ring_count].ring = ring;
    run->rings[run->ring_count].part = (int)part;
    run->rings[run->ring_count++].columns = columns;
  }
  return ring;
}


rgm_ring rgm_slice_ring(const rgm_ring *ring, int64_t first, int64_t count) {
  rgm_ring slice = *ring;
  for (int k = 0; k < ring->columns; k++) {
    slice.column[k] = rgm_slice(ring->column[k], first, count);
  }
  slice.head = rgm_slice(ring->head, first, count);
  slice.count = rgm_slice(ring->count, first, count);
  return slice;
}


// the rows of a part, one after the other
static rgm_status fill_column(rgm_run *run, rgm_tensor to, const float *from, int64_t width,
                              int part) {
  const rgm_transitions *t = run->transitions;
  float *rows = malloc((size_t)(t->part[part] * width + 1) * sizeof *rows), *at = rows;
  if (rows == NULL) {
    return rgm_fail(RGM_EMEMORY, "%s: no memory for its rows", t->path);
  }
  for (int64_t i = 0; i < t->rows; i++) {
    if (t->split[i] == part) {
      memcpy(at, from + i * width, (size_t)width * sizeof *at);
      at += width;
    }
  }
  rgm_copy(run->stream, to.data, rows, (size_t)(at - rows) * sizeof *rows);
  const rgm_status status = rgm_sync(run->stream);
  free(rows);
  return status;
}


rgm_status rgm_fill_rings(rgm_run *run) {
  const rgm_transitions *t = run->transitions;
  for (int i = 0; i < run->ring_count; i++) {
    const rgm_ring *ring = &run->rings[i].ring;
    const int part = run->rings[i].part;
    const float *const from[] = {t->obs, t->action, t->reward, t->next, t->terminated};
    for (int k = 0, to = 0; k < RGM_RING_ALL; k++) {
      if (run->rings[i].columns & 1u << k) {
        RGM_TRY(fill_column(run, ring->column[to++], from[k], ring_width(t, k), part));
      }
    }
    const uint32_t count = (uint32_t)t->part[part], head = 0;
    rgm_copy(run->stream, ring->head.data, &head, sizeof head);
    rgm_copy(run->stream, ring->count.data, &count, sizeof count);
    RGM_TRY(rgm_sync(run->stream));
  }
  return RGM_OK;
}
