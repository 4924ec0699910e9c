// SPDX-License-Identifier: Apache-2.0
// Forests that predict while they grow. A node's histogram of a column costs its rows, not its
// bins: a map of 256 bits remembers which bins were met, and only those are gone through.

#include "algorithms/forest.h"

#include <stdlib.h>
#include <string.h>

// Weight and weighed outcome side by side, so that they are added at one time.
typedef double pair __attribute__((vector_size(16)));

// What a row, a bin or a node has: {w, w y}, and how many draws.
typedef struct cell {
  pair sum;
  int64_t draws, unused;
} cell;

// A tree on its way. Rows of the sample and rows to predict are two orders, of which a node has a
// part each.
typedef struct tree {
  const forest_keys *keys;
  const forest_task *task;
  rgm_key key;
  int64_t n;              // rows drawn, each once
  uint32_t *row, *spare;  // (n) places in the task's rows; for parting
  cell *of;               // (task n) what each row has
  uint32_t *held, *aside; // (m) places in the task's held rows
  uint8_t *seen, *asked;  // (features, n), (features, m) their bins
  cell *cells;            // (256) zero but in use
  uint32_t nodes;         // so far: random numbers of a node
} tree;

typedef struct node {
  int64_t first, end, held_first, held_end;
} node;

typedef struct split {
  int feature; // -1: none
  uint8_t bin; // up to it to the left
  double gain;
} split;


// ---- bins --------------------------------------------------------------------------------------

static int by_value(const void *a, const void *b) {
  const double x = *(const double *)a, y = *(const double *)b;
  return (x > y) - (x < y);
}


// upper edges of all bins but the last, from sorted values
static int find_edges(const double *sorted, int64_t n, int64_t bins, double *edge) {
  int64_t values = 0;
  int count = 0;
  for (int64_t i = 0; i < n; i++) {
    values += i == 0 || sorted[i] != sorted[i - 1];
  }
  for (int64_t i = 1; i < n && values <= bins; i++) {
    if (sorted[i] != sorted[i - 1]) {
      edge[count++] = sorted[i - 1];
    }
  }
  for (int64_t b = 1; b < bins && values > bins; b++) {
    const double value = sorted[b * n / bins - 1];
    if (count == 0 || value > edge[count - 1]) {
      edge[count++] = value;
    }
  }
  return count;
}


static uint8_t find_bin(const double *edge, int count, double x) {
  int low = 0, high = count;
  while (low < high) {
    const int middle = (low + high) / 2;
    if (x <= edge[middle]) {
      high = middle;
    } else {
      low = middle + 1;
    }
  }
  return (uint8_t)low;
}


rgm_status forest_bin(const double *x, int64_t rows, int columns, int first, const uint8_t *keep,
                      int64_t bins, forest_data *out) {
  double edge[FOREST_BINS], *sorted = malloc((size_t)(rows + 1) * sizeof *sorted);
  *out = (forest_data){.rows = rows, .features = columns - first};
  out->bin = calloc((size_t)(rows * out->features) + 1, 1);
  if (sorted == NULL || out->bin == NULL) {
    free(sorted);
    return rgm_fail(RGM_EMEMORY, "no memory for the bins of a forest");
  }
  for (int j = 0; j < out->features; j++) {
    int64_t n = 0;
    for (int64_t i = 0; i < rows; i++) {
      if (keep[i]) {
        sorted[n++] = x[i * columns + first + j];
      }
    }
    qsort(sorted, (size_t)n, sizeof *sorted, by_value);
    const int count = find_edges(sorted, n, bins < FOREST_BINS ? bins : FOREST_BINS, edge);
    for (int64_t i = 0; i < rows; i++) {
      out->bin[j * rows + i] = keep[i] ? find_bin(edge, count, x[i * columns + first + j]) : 0;
    }
  }
  free(sorted);
  return RGM_OK;
}


void forest_free(forest_data *d) {
  free(d->bin);
  *d = (forest_data){0};
}


// ---- a split -----------------------------------------------------------------------------------

// the best threshold of a column among a node's rows, if it is better than `best`
static void try_feature(const tree *t, const node *at, const cell *all, int feature, split *best) {
  const uint8_t *bin = t->seen + feature * t->task->n;
  const int64_t least = t->keys->leaf;
  uint64_t met[4] = {0};
  for (int64_t i = at->first; i < at->end; i++) {
    const uint32_t p = t->row[i];
    const uint8_t b = bin[p];
    cell *c = &t->cells[b];
    c->sum += t->of[p].sum;
    c->draws += t->of[p].draws;
    met[b >> 6] |= (uint64_t)1 << (b & 63);
  }
  cell left = {{0.0, 0.0}, 0, 0};
  int before = -1;
  const double base = all->sum[1] * all->sum[1] / all->sum[0];
  for (int word = 0; word < 4; word++) {
    for (uint64_t rest = met[word]; rest != 0; rest &= rest - 1) {
      const int b = word * 64 + __builtin_ctzll(rest);
      // between the bins before and this one
      if (left.draws >= least && all->draws - left.draws >= least) {
        const pair right = all->sum - left.sum;
        const double l = left.sum[1] * left.sum[1], r = right[1] * right[1];
        const double gain = (l * right[0] + r * left.sum[0]) / (left.sum[0] * right[0]) - base;
        if (gain > best->gain) {
          *best = (split){feature, (uint8_t)((before + b) / 2), gain};
        }
      }
      before = b;
      left.sum += t->cells[b].sum;
      left.draws += t->cells[b].draws;
      t->cells[b] = (cell){{0.0, 0.0}, 0, 0};
    }
  }
}


// columns in random order, until `tries` were looked at and one of them splits
static split find_split(tree *t, const node *at, const cell *all, double scale) {
  const int features = t->task->data->features;
  uint8_t order[FOREST_FEATURES];
  split best = {-1, 0, 1e-12 * scale};
  rgm_words words = {0, 0, 0, 0};
  for (int j = 0; j < features; j++) {
    order[j] = (uint8_t)j;
  }
  for (int j = 0; j < features && (j < t->keys->tries || best.feature < 0); j++) {
    if (j % 4 == 0) {
      words = rgm_philox(t->key, 1, t->nodes, (uint32_t)(j / 4), 0);
    }
    const uint32_t word[4] = {words.w0, words.w1, words.w2, words.w3};
    const int k = j + (int)(((uint64_t)word[j % 4] * (uint64_t)(features - j)) >> 32);
    const uint8_t feature = order[k];
    order[k] = order[j];
    try_feature(t, at, all, feature, &best);
  }
  t->nodes++;
  return best;
}


// parts order[first ... end) by a split, keeping the order on both sides; returns where the right
// side begins
static int64_t part(const uint8_t *bin, uint8_t threshold, uint32_t *order, uint32_t *spare,
                    int64_t first, int64_t end) {
  int64_t left = first, right = 0;
  for (int64_t i = first; i < end; i++) {
    const uint32_t p = order[i];
    const bool goes_left = bin[p] <= threshold;
    order[left] = p;
    spare[right] = p;
    left += goes_left;
    right += !goes_left;
  }
  memcpy(order + left, spare, (size_t)right * sizeof *order);
  return left;
}


// ---- a tree ------------------------------------------------------------------------------------

// draws of the sample with replacement
static bool draw(tree *t, const uint32_t *expanded, int64_t size) {
  const forest_task *task = t->task;
  const int64_t draws = (int64_t)(t->keys->share * (double)size + 0.5);
  memset(t->of, 0, (size_t)task->n * sizeof *t->of);
  if (t->keys->share <= 0.0) {
    for (int64_t i = 0; i < size; i++) {
      t->of[expanded[i]].draws++;
    }
  }
  for (int64_t j = 0; j < draws; j += 4) {
    const rgm_words words = rgm_philox(t->key, 0, (uint32_t)(j / 4), 0, 0);
    const uint32_t word[4] = {words.w0, words.w1, words.w2, words.w3};
    for (int64_t k = 0; k < 4 && j + k < draws; k++) {
      t->of[expanded[((uint64_t)word[k] * (uint64_t)size) >> 32]].draws++;
    }
  }
  t->n = 0;
  for (int64_t i = 0; i < task->n; i++) {
    if (t->of[i].draws > 0) {
      const double w = (double)t->of[i].draws * (task->weight != NULL ? task->weight[i] : 1.0);
      t->of[i].sum = (pair){w, w * task->y[i]};
      t->row[t->n++] = (uint32_t)i;
    }
  }
  return t->n > 0;
}


// a leaf's mean joins what its rows are predicted
static void settle(const tree *t, const node *at, const cell *all, double *out) {
  const double mean = all->sum[1] / all->sum[0];
  for (int64_t i = at->held_first; i < at->held_end; i++) {
    out[t->held[i]] += mean;
  }
}


// what a node has, its squares, and whether it may be split: enough draws, and outcomes that differ
static bool look_at(const tree *t, const node *at, cell *all, double *scale) {
  const double first = t->task->y[t->row[at->first]];
  bool differ = false;
  *all = (cell){{0.0, 0.0}, 0, 0};
  *scale = 0.0;
  for (int64_t i = at->first; i < at->end; i++) {
    const uint32_t p = t->row[i];
    const double y = t->task->y[p];
    all->sum += t->of[p].sum;
    all->draws += t->of[p].draws;
    differ = differ || y != first;
    *scale += t->of[p].sum[1] * y;
  }
  return differ && all->draws >= 2 * t->keys->leaf;
}


static void grow(tree *t, double *out) {
  const forest_task *task = t->task;
  node stack[64 + FOREST_BINS] = {{0, t->n, 0, task->m}};
  int depth = 1;
  t->nodes = 0;
  while (depth > 0) {
    node at = stack[--depth];
    cell all;
    double scale;
    if (at.held_first == at.held_end) {
      continue;
    }
    const bool open = look_at(t, &at, &all, &scale) && depth + 2 < 64 + FOREST_BINS;
    const split s = open ? find_split(t, &at, &all, scale) : (split){.feature = -1};
    if (s.feature < 0) {
      settle(t, &at, &all, out);
      continue;
    }
    const int64_t middle =
        part(t->seen + s.feature * task->n, s.bin, t->row, t->spare, at.first, at.end);
    const int64_t held =
        part(t->asked + s.feature * task->m, s.bin, t->held, t->aside, at.held_first, at.held_end);
    stack[depth++] = (node){middle, at.end, held, at.held_end};
    stack[depth++] = (node){at.first, middle, at.held_first, held};
  }
}


// ---- forests -----------------------------------------------------------------------------------

// rows of the sample as often as they count
static int64_t expand(const forest_task *task, uint32_t *out) {
  int64_t size = 0;
  for (int64_t i = 0; i < task->n; i++) {
    for (int c = 0; c < task->count[i]; c++) {
      if (out != NULL) {
        out[size] = (uint32_t)i;
      }
      size++;
    }
  }
  return size;
}


// the bins of a task's rows side by side
static void gather(const forest_data *d, const uint32_t *rows, int64_t n, uint8_t *out) {
  for (int j = 0; j < d->features; j++) {
    for (int64_t i = 0; i < n; i++) {
      out[j * n + i] = d->bin[j * d->rows + rows[i]];
    }
  }
}


bool forest_block(const forest_keys *keys, const forest_task *task, int64_t block, double *out) {
  const size_t n = (size_t)task->n, m = (size_t)task->m, p = (size_t)task->data->features;
  const int64_t size = expand(task, NULL);
  memset(out, 0, m * sizeof *out);
  // aligned as malloc does, which is enough for pairs
  cell *memory = malloc((n + FOREST_BINS) * sizeof *memory +
                        (2 * n + 2 * m + (size_t)size) * sizeof(uint32_t) + p * (n + m));
  if (memory == NULL || size == 0) {
    free(memory);
    return false;
  }
  tree t = {.keys = keys, .task = task, .cells = memory, .of = memory + FOREST_BINS};
  memset(t.cells, 0, FOREST_BINS * sizeof *t.cells);
  t.row = (uint32_t *)(t.of + n);
  t.spare = t.row + n;
  t.held = t.spare + n;
  t.aside = t.held + m;
  uint32_t *expanded = t.aside + m;
  expand(task, expanded);
  t.seen = (uint8_t *)(expanded + size);
  t.asked = t.seen + p * n;
  gather(task->data, task->rows, task->n, t.seen);
  gather(task->data, task->held, task->m, t.asked);
  const int64_t end = (block + 1) * FOREST_BLOCK;
  for (int64_t k = block * FOREST_BLOCK; k < keys->trees && k < end; k++) {
    const rgm_words words = rgm_philox(task->key, (uint32_t)k, 0, 0, 0);
    t.key = (rgm_key){words.w0, words.w1};
    for (size_t i = 0; i < m; i++) {
      t.held[i] = (uint32_t)i;
    }
    if (draw(&t, expanded, size)) {
      grow(&t, out);
    }
  }
  free(memory);
  return true;
}


bool forest_predict(const forest_keys *keys, const forest_task *task, double *out) {
  double *part_of = malloc((size_t)task->m * sizeof *part_of + 1);
  bool good = part_of != NULL;
  memset(out, 0, (size_t)task->m * sizeof *out);
  for (int64_t block = 0; block * FOREST_BLOCK < keys->trees && good; block++) {
    good = forest_block(keys, task, block, part_of);
    for (int64_t i = 0; i < task->m && good; i++) {
      out[i] += part_of[i] / (double)keys->trees;
    }
  }
  free(part_of);
  return good;
}
