// SPDX-License-Identifier: Apache-2.0
// A tabular problem as the kernels read it (kernels/tabular.h): blocks of states, slices of eight
// rows sorted by length within a block, entry k of the eight rows side by side.

#include "engine/mdp.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

// Sizes of a layout, counted before memory is taken.
typedef struct sizes {
  int64_t rows, blocks, slices, units;     // of all allowed rows
  int64_t own_rows, own_slices, own_units; // of a row a state
} sizes;

// A row of a block while it is laid out.
typedef struct place {
  int64_t row; // of the problem
  int64_t length;
  int32_t state, lane;
} place;

// What is walked through: with `out` NULL it only counts.
typedef struct walk {
  const rgm_mdp *m;
  rgm_mdp_layout *out;
  bool compact;
  sizes at;
  place *places, *longest; // of a block
  double *rest;            // of a row, compact
  const char *fault;
  int64_t fault_state;
} walk;


static int by_length(const void *x, const void *y) {
  const place *a = x, *b = y;
  return a->length != b->length ? (a->length < b->length) - (a->length > b->length)
                                : (a->lane > b->lane) - (a->lane < b->lane);
}


static uint32_t *u32(rgm_tensor t) {
  return t.data;
}


// The parts of 65535 of a row: rounded down, then the largest remainders get one more each.
static void round_row(const rgm_mdp *m, int64_t row, double *rest, uint32_t *part) {
  const int64_t begin = m->start[row], count = m->start[row + 1] - begin;
  int64_t left = RGM_MDP_UNIT;
  for (int64_t k = 0; k < count; k++) {
    const double x = m->p[begin + k] * RGM_MDP_UNIT, whole = floor(x);
    part[k] = whole < RGM_MDP_UNIT ? (uint32_t)whole : RGM_MDP_UNIT;
    rest[k] = x - whole;
    left -= part[k];
  }
  for (; left > 0; left--) {
    int64_t most = 0;
    for (int64_t k = 1; k < count; k++) {
      most = rest[k] > rest[most] ? k : most;
    }
    part[most]++;
    rest[most] -= 1.0;
  }
}


// entries of slice n, whose rows are places[0 ... 7] (row -1: none); `length` is its longest
static void put_slice(walk *w, const place *places, int64_t length) {
  const rgm_mdp *m = w->m;
  const rgm_mdp_rows *to = &w->out->rows;
  const int64_t n = w->at.slices;
  double *p = to->p.data;
  int32_t *next = to->next.data;
  uint32_t *packed = to->p.data;
  uint32_t part[RGM_BLOCK_ROWS]; // a row of more entries is never compact: see lay_block
  for (int i = 0; i < RGM_SLICE; i++) {
    const place *x = &places[i];
    const int64_t count = x->row >= 0 ? x->length : 0, begin = x->row >= 0 ? m->start[x->row] : 0;
    ((int32_t *)to->lane.data)[RGM_SLICE * n + i] = x->row >= 0 ? x->lane : RGM_MDP_LANE;
    if (w->compact) {
      ((int32_t *)to->home.data)[RGM_SLICE * n + i] = x->state;
      if (count > 0) {
        round_row(m, x->row, w->rest, part);
      }
    }
    for (int64_t k = 0; k < length; k++) {
      const int64_t at = RGM_SLICE * (w->at.units + k) + i;
      if (w->compact) {
        const int32_t apart = k < count ? m->next[begin + k] - x->state : 0;
        packed[at] = (k < count ? part[k] : 0u) | (uint32_t)apart << 16;
      } else {
        p[at] = k < count ? m->p[begin + k] : 0.0;
        next[at] = k < count ? m->next[begin + k] : x->state;
      }
    }
  }
}


// Slices of `count` places; `all`: of all rows, else of the longest row of each state.
static void lay_slices(walk *w, place *places, int64_t count, bool all) {
  qsort(places, (size_t)count, sizeof *places, by_length);
  for (int64_t i = 0; i < count; i += RGM_SLICE) {
    const int64_t length = places[i].length;
    if (w->out != NULL && all) {
      place eight[RGM_SLICE];
      for (int k = 0; k < RGM_SLICE; k++) {
        eight[k] = i + k < count ? places[i + k] : (place){-1, 0, places[i].state, 0};
      }
      u32(w->out->rows.start)[w->at.slices] = (uint32_t)w->at.units;
      u32(w->out->rows.length)[w->at.slices] = (uint32_t)length;
      put_slice(w, eight, length);
    } else if (w->out != NULL) {
      u32(w->out->chosen.start)[w->at.own_slices] = (uint32_t)w->at.own_units;
    }
    *(all ? &w->at.slices : &w->at.own_slices) += 1;
    *(all ? &w->at.units : &w->at.own_units) += length;
  }
}


// Whether the row of a compact layout fits.
static bool is_near(walk *w, int64_t row, int64_t s) {
  const rgm_mdp *m = w->m;
  bool near = m->start[row + 1] - m->start[row] <= RGM_BLOCK_ROWS;
  for (int64_t i = m->start[row]; i < m->start[row + 1] && near; i++) {
    const int64_t apart = m->next[i] - s;
    near = apart >= INT16_MIN && apart <= INT16_MAX;
  }
  return near;
}


static bool has_row(const rgm_mdp *m, int64_t s) {
  bool any = false;
  for (int64_t n = m->first[s]; n < m->first[s + 1]; n++) {
    any = any || m->allowed[n] != 0;
  }
  return any;
}


// The room that any row of a state can need: its slice's length, padding included. Sorts the
// places.
static int64_t find_longest(walk *w, int64_t begin, int64_t count) {
  int64_t most[RGM_BLOCK_STATES], own = 0;
  for (int i = 0; i < RGM_BLOCK_STATES; i++) {
    most[i] = -1;
  }
  qsort(w->places, (size_t)count, sizeof *w->places, by_length);
  for (int64_t i = 0; i < count; i++) {
    const int64_t length = w->places[i - i % RGM_SLICE].length;
    int64_t *to = &most[w->places[i].state - begin];
    *to = length > *to ? length : *to;
  }
  for (int i = 0; i < RGM_BLOCK_STATES; i++) {
    if (most[i] >= 0) {
      w->longest[own] = (place){-1, most[i], (int32_t)begin + i, (int32_t)own};
      own++;
    }
  }
  return own;
}


// The block from state `begin` on; returns where the next one begins, -1 where a row does not fit.
static int64_t lay_block(walk *w, int64_t begin) {
  const rgm_mdp *m = w->m;
  int64_t count = 0, own = 0, s = begin;
  for (; s < m->states && s - begin < RGM_BLOCK_STATES; s++) {
    if (s > begin && count + (m->first[s + 1] - m->first[s]) > RGM_BLOCK_ROWS) {
      break;
    }
    if (w->out != NULL) {
      u32(w->out->rows.first)[s] = (uint32_t)(w->at.rows + count);
      u32(w->out->chosen.first)[s] = (uint32_t)(w->at.own_rows + own);
      own += has_row(m, s);
    }
    for (int64_t n = m->first[s]; n < m->first[s + 1]; n++) {
      if (m->allowed[n] == 0) {
        continue;
      }
      if (w->compact && !is_near(w, n, s)) {
        w->fault_state = s;
        return -1;
      }
      const place x = {n, m->start[n + 1] - m->start[n], (int32_t)s, (int32_t)count};
      if (w->out != NULL) {
        w->out->row[w->at.rows + count] = n;
        ((double *)w->out->rows.reward.data)[w->at.rows + count] = m->reward[n];
      }
      w->places[count++] = x;
    }
  }
  own = find_longest(w, begin, count);
  if (w->out != NULL) {
    u32(w->out->rows.block)[w->at.blocks] = (uint32_t)begin;
    u32(w->out->rows.slice)[w->at.blocks] = (uint32_t)w->at.slices;
    u32(w->out->chosen.slice)[w->at.blocks] = (uint32_t)w->at.own_slices;
  }
  lay_slices(w, w->places, count, true);
  lay_slices(w, w->longest, own, false);
  w->at.rows += count;
  w->at.own_rows += own;
  w->at.blocks++;
  return s;
}


static bool lay_all(walk *w) {
  w->at = (sizes){0};
  for (int64_t s = 0; s < w->m->states && s >= 0;) {
    s = lay_block(w, s);
    if (s < 0) {
      return false;
    }
  }
  return true;
}


// Memory that is handed out from its start; `base` NULL: only counted.
typedef struct shelf {
  char *base;
  size_t at;
} shelf;


// A broadcast tensor of `count` elements.
static rgm_tensor carve(shelf *from, rgm_dtype dtype, int64_t count) {
  void *const data = from->base != NULL ? from->base + from->at : NULL;
  rgm_tensor t = rgm_view(data, dtype, 1, count, 0, 0);
  t.stride0 = 0;
  from->at += ((size_t)count * rgm_dtype_size(dtype) + 63) / 64 * 64;
  return t;
}


static rgm_tensor carve_vector(shelf *from, int64_t count) {
  rgm_tensor t = rgm_view(carve(from, RGM_U32, count).data, RGM_U32, count, 0, 0, 0);
  t.stride0 = 0;
  return t;
}


// Shapes and places of all tensors; how much memory they take.
static size_t carve_all(rgm_mdp_layout *l, int64_t states, const sizes *z, bool compact,
                        char *memory) {
  shelf from = {memory, 0};
  rgm_mdp_rows *all = &l->rows, *own = &l->chosen;
  all->first = carve_vector(&from, states + 1);
  all->block = carve_vector(&from, z->blocks + 1);
  all->slice = carve_vector(&from, z->blocks + 1);
  all->start = carve_vector(&from, z->slices + 1);
  all->length = carve(&from, RGM_U32, z->slices);
  all->lane = carve(&from, RGM_I32, RGM_SLICE * z->slices);
  all->reward = carve(&from, RGM_F64, z->rows);
  own->first = carve_vector(&from, states + 1);
  own->slice = carve_vector(&from, z->blocks + 1);
  own->start = carve_vector(&from, z->own_slices + 1);
  own->block = all->block;
  all->scale = compact ? 1.0 / RGM_MDP_UNIT : 1.0;
  own->scale = 1.0;
  if (compact) {
    all->home = carve(&from, RGM_I32, RGM_SLICE * z->slices);
    all->p = carve(&from, RGM_U32, RGM_SLICE * z->units);
  } else {
    all->p = carve(&from, RGM_F64, RGM_SLICE * z->units);
    all->next = carve(&from, RGM_I32, RGM_SLICE * z->units);
  }
  // what a policy's rows are copied to: shapes alone
  own->length = rgm_view(NULL, RGM_U32, 1, z->own_slices, 0, 0);
  own->lane = rgm_view(NULL, RGM_I32, 1, RGM_SLICE * z->own_slices, 0, 0);
  own->p = rgm_view(NULL, RGM_F64, 1, RGM_SLICE * z->own_units, 0, 0);
  own->next = rgm_view(NULL, RGM_I32, 1, RGM_SLICE * z->own_units, 0, 0);
  own->reward = rgm_view(NULL, RGM_F64, 1, z->own_rows, 0, 0);
  return from.at;
}


rgm_status rgm_mdp_lay_out(const rgm_mdp *m, bool compact, rgm_mdp_layout *out) {
  *out = (rgm_mdp_layout){.memory = NULL};
  int64_t longest = 0;
  for (int64_t n = 0; n < m->rows; n++) {
    const int64_t length = m->start[n + 1] - m->start[n];
    longest = length > longest ? length : longest;
  }
  walk w = {.m = m, .compact = compact};
  w.places = malloc(RGM_BLOCK_ROWS * sizeof *w.places);
  w.longest = malloc(RGM_BLOCK_STATES * sizeof *w.longest);
  w.rest = malloc(((size_t)longest + 1) * sizeof *w.rest);
  rgm_status status = w.places != NULL && w.longest != NULL && w.rest != NULL
                          ? RGM_OK
                          : rgm_fail(RGM_EMEMORY, "no memory to lay the problem out");
  if (status == RGM_OK && !lay_all(&w)) {
    status = rgm_fail(RGM_EDATA,
                      "state %lld leads to one more than 32767 away (or to more than %d), which "
                      "the compact layout cannot say; use algorithm.layout: wide",
                      (long long)w.fault_state, RGM_BLOCK_ROWS);
  }
  if (status == RGM_OK && w.at.units > UINT32_MAX) {
    status =
        rgm_fail(RGM_EDATA, "%lld non-zeros are more than a layout holds", (long long)m->entries);
  }
  const sizes z = w.at;
  if (status == RGM_OK) {
    const size_t bytes = carve_all(out, m->states, &z, compact, NULL);
    out->row = malloc(((size_t)z.rows + 1) * sizeof *out->row);
    out->memory = aligned_alloc(64, bytes + 64);
    status = out->row != NULL && out->memory != NULL
                 ? RGM_OK
                 : rgm_fail(RGM_EMEMORY, "no memory for %.1f MiB of rows", (double)bytes / 0x1p20);
  }
  if (status == RGM_OK) {
    carve_all(out, m->states, &z, compact, out->memory);
    w.out = out;
    lay_all(&w);
    u32(out->rows.first)[m->states] = (uint32_t)z.rows;
    u32(out->chosen.first)[m->states] = (uint32_t)z.own_rows;
    u32(out->rows.block)[z.blocks] = (uint32_t)m->states;
    u32(out->rows.slice)[z.blocks] = (uint32_t)z.slices;
    u32(out->chosen.slice)[z.blocks] = (uint32_t)z.own_slices;
    u32(out->rows.start)[z.slices] = (uint32_t)z.units;
    u32(out->chosen.start)[z.own_slices] = (uint32_t)z.own_units;
  }
  free(w.places);
  free(w.longest);
  free(w.rest);
  if (status != RGM_OK) {
    rgm_mdp_layout_free(out);
  }
  return status;
}


void rgm_mdp_layout_free(rgm_mdp_layout *l) {
  free(l->memory);
  free(l->row);
  *l = (rgm_mdp_layout){.memory = NULL};
}


void rgm_mdp_alias_table(const double *weight, int64_t size, double *share, uint32_t *alias) {
  double sum = 0.0;
  for (int64_t k = 0; k < size; k++) {
    sum += weight[k];
  }
  for (int64_t k = 0; k < size; k++) {
    share[k] = weight[k] * (double)size / sum;
    alias[k] = (uint32_t)k;
  }
  // columns that lack something are filled by the first one that has too much, then by the next
  int64_t rich = 0;
  for (int64_t k = 0; k < size; k++) {
    int64_t poor = k;
    while (poor <= k && share[poor] < 1.0 && alias[poor] == (uint32_t)poor) {
      while (rich < size && (share[rich] <= 1.0 || alias[rich] != (uint32_t)rich)) {
        rich++;
      }
      if (rich == size) {
        return; // what is left is rounding
      }
      alias[poor] = (uint32_t)rich;
      share[rich] -= 1.0 - share[poor];
      // a rich one that became poor is next if it was passed already
      poor = rich < k ? rich : size;
    }
  }
}
