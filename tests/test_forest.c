// SPDX-License-Identifier: Apache-2.0
// Forests: a tree against an exhaustive search of its own, weights and counts against copies, bins,
// held-out errors against scikit-learn's.

#include "algorithms/forest.h"
#include "tests/dwols_util.h"

#include "engine/frame.h"

TestSuite(forest, .timeout = 60);

enum { SIDE = 20, POINTS = SIDE * SIDE, LEARNED = 60 };

// A table of all pairs of 0 ... 19, of which some are learned from.
typedef struct world {
  double x[POINTS * 2], y[POINTS], weight[LEARNED];
  uint8_t keep[POINTS], count[LEARNED];
  uint32_t rows[LEARNED], held[POINTS];
  forest_data data;
  forest_task task;
} world;


static world *make_world(bool classes) {
  world *w = calloc(1, sizeof *w);
  rgm_rng rng = {.key = {1, 2}};
  double y[POINTS];
  for (int i = 0; i < POINTS; i++) {
    const int a = i / SIDE, b = i % SIDE;
    const double noise = rgm_rng_range(&rng, -1, 1);
    w->x[2 * i] = a;
    w->x[2 * i + 1] = b;
    w->keep[i] = 1;
    w->held[i] = (uint32_t)i;
    y[i] = a > 7 ? 3 + noise : b > 12 ? -2 + noise : noise;
    y[i] = classes ? y[i] > 0.5 : y[i];
  }
  for (int i = 0; i < LEARNED; i++) {
    w->rows[i] = (uint32_t)(rgm_rng_next(&rng) % POINTS);
    w->y[i] = y[w->rows[i]];
    w->count[i] = (uint8_t)(rgm_rng_next(&rng) % 3);
    w->weight[i] = rgm_rng_range(&rng, 0.5, 2);
  }
  cr_assert_eq(forest_bin(w->x, POINTS, 2, 0, w->keep, 256, &w->data), RGM_OK);
  w->task = (forest_task){.data = &w->data,
                          .rows = w->rows,
                          .n = LEARNED,
                          .y = w->y,
                          .weight = w->weight,
                          .count = w->count,
                          .held = w->held,
                          .m = POINTS,
                          .key = {5, 6}};
  return w;
}


static void free_world(world *w) {
  forest_free(&w->data);
  free(w);
}


// sums of the learned rows in a box of bins
static void sum_box(const world *w, const int *low, const int *high, double *draws, double *weight,
                    double *wy, double *wyy) {
  *draws = *weight = *wy = *wyy = 0.0;
  for (int i = 0; i < LEARNED; i++) {
    const double *x = w->x + 2 * w->rows[i], c = w->count[i], v = c * w->weight[i];
    if (x[0] >= low[0] && x[0] <= high[0] && x[1] >= low[1] && x[1] <= high[1]) {
      *draws += c;
      *weight += v;
      *wy += v * w->y[i];
      *wyy += v * w->y[i] * w->y[i];
    }
  }
}


// The tree that splits boxes where the squared error falls most, both sides of at least `leaf`
// draws, by trying every value; thresholds in the middle of the values on both sides. (Where two
// columns split a small node alike, the forest may take either: leaves are of four draws and more.)
static void search(const world *w, const int *low, const int *high, double leaf, double *out) {
  double all[4], best = 1e-9, left[4], right[4];
  int feature = -1, at = 0;
  sum_box(w, low, high, all, all + 1, all + 2, all + 3);
  for (int f = 0; f < 2; f++) {
    int before = -1;
    for (int v = low[f]; v <= high[f]; v++) {
      int to[2] = {high[0], high[1]}, from[2] = {low[0], low[1]}, here[2] = {low[0], low[1]};
      double there[4];
      int upto[2] = {high[0], high[1]};
      here[f] = upto[f] = v;
      sum_box(w, here, upto, there, there + 1, there + 2, there + 3);
      if (there[0] == 0) {
        continue;
      }
      to[f] = v - 1;
      from[f] = v;
      sum_box(w, low, to, left, left + 1, left + 2, left + 3);
      sum_box(w, from, high, right, right + 1, right + 2, right + 3);
      const double error =
          left[3] - left[2] * left[2] / left[1] + right[3] - right[2] * right[2] / right[1];
      const double gain = all[3] - all[2] * all[2] / all[1] - error;
      if (before >= 0 && left[0] >= leaf && right[0] >= leaf && gain > best + 1e-9) {
        best = gain;
        feature = f;
        at = (before + v) / 2;
      }
      before = v;
    }
  }
  if (feature < 0) {
    for (int a = low[0]; a <= high[0]; a++) {
      for (int b = low[1]; b <= high[1]; b++) {
        out[a * SIDE + b] = all[2] / all[1];
      }
    }
    return;
  }
  int to[2] = {high[0], high[1]}, from[2] = {low[0], low[1]};
  to[feature] = at;
  from[feature] = at + 1;
  search(w, low, to, leaf, out);
  search(w, from, high, leaf, out);
}


Test(forest, a_tree_is_the_best_one) {
  const int low[] = {0, 0}, high[] = {SIDE - 1, SIDE - 1};
  double got[POINTS], want[POINTS];
  for (int k = 0; k < 6; k++) {
    world *w = make_world(k % 2 == 1);
    const forest_keys keys = {.trees = 1, .leaf = 4 + k, .tries = 2, .share = 0.0};
    search(w, low, high, 4 + k, want);
    cr_assert(forest_predict(&keys, &w->task, got));
    for (int i = 0; i < POINTS; i++) {
      cr_assert_float_eq(got[i], want[i], 1e-12, "leaf %d, point %d: %g, not %g", 4 + k, i, got[i],
                         want[i]);
    }
    free_world(w);
  }
}


// counts are copies; a forest is the mean of its blocks; nobody to learn from
Test(forest, counts_blocks_nobody) {
  world *w = make_world(false);
  const forest_keys keys = {.trees = 60, .leaf = 3, .tries = 1, .share = 1.0};
  uint32_t rows[2 * LEARNED];
  double y[2 * LEARNED], weight[2 * LEARNED], got[POINTS], want[POINTS], blocks[POINTS] = {0};
  uint8_t count[2 * LEARNED];
  forest_task copies = w->task;
  copies.n = 0;
  for (int i = 0; i < LEARNED; i++) {
    for (int c = 0; c < w->count[i]; c++, copies.n++) {
      rows[copies.n] = w->rows[i];
      y[copies.n] = w->y[i];
      weight[copies.n] = w->weight[i];
      count[copies.n] = 1;
    }
  }
  copies.rows = rows;
  copies.y = y;
  copies.weight = weight;
  copies.count = count;
  cr_assert(forest_predict(&keys, &w->task, got) && forest_predict(&keys, &copies, want));
  for (int b = 0; b < 3; b++) {
    double part[POINTS];
    cr_assert(forest_block(&keys, &w->task, b, part));
    for (int i = 0; i < POINTS; i++) {
      blocks[i] += part[i] / 60.0;
    }
  }
  for (int i = 0; i < POINTS; i++) {
    // the same draws; sums in another order
    cr_assert_float_eq(got[i], want[i], 1e-9, "point %d", i);
    cr_assert_eq(got[i], blocks[i], "blocks at point %d", i);
  }
  memset(w->count, 0, sizeof w->count);
  cr_assert_not(forest_predict(&keys, &w->task, got));
  free_world(w);
}


// many values: quantiles with about as many rows in each bin, in the order of the values
Test(forest, bins) {
  enum { N = 5000 };
  double *x = malloc(N * sizeof *x);
  uint8_t *keep = calloc(N, 1);
  int seen[16] = {0};
  forest_data d;
  rgm_rng rng = {.key = {8, 9}};
  for (int i = 0; i < N; i++) {
    x[i] = exp(rgm_rng_range(&rng, 0, 5));
    keep[i] = i % 5 > 0;
    x[i] = keep[i] ? x[i] : NAN;
  }
  cr_assert_eq(forest_bin(x, N, 1, 0, keep, 16, &d), RGM_OK);
  for (int i = 0; i < N; i++) {
    seen[d.bin[i]] += keep[i];
    for (int j = i % 7; j < N && keep[i]; j += 97) {
      cr_assert(!keep[j] || x[i] > x[j] || d.bin[i] <= d.bin[j], "rows %d and %d", i, j);
    }
  }
  for (int b = 0; b < 16; b++) {
    cr_assert(abs(seen[b] - N * 4 / 5 / 16) <= 1, "bin %d has %d", b, seen[b]);
  }
  forest_free(&d);
  free(x);
  free(keep);
}


// The simulated validation cohort, fold 1 learned, fold 2 predicted, ten covariates of stage 1:
// squared error and Brier score of scikit-learn 1.9.1, RandomForestRegressor and -Classifier with
// 100 trees, the mean of ten seeds (of which the standard deviations are 1.7 to 2.7 and 0.0015).
// Its leaves count rows, ours draws.
Test(forest, errors_of_scikit_learn) {
  static const char *const names[] = {"age",      "male",   "weight", "immuno", "sofa",
                                      "creat_k1", "bun_k1", "pot_k1", "ph_k1",  "uo_k1"};
  static const struct {
    const char *outcome;
    int64_t leaf, tries;
    double error, near;
  } rows[] = {
      {"hfd", 5, 3, 333.228, 6.0},
      {"hfd", 1, 10, 334.711, 6.0},
      {"hmor", 5, 3, 0.174016, 0.004},
      {"hmor", 1, 10, 0.175367, 0.004},
  };
  char path[512];
  rgm_frame f;
  need_data("rrt/val_cohort.csv", path);
  cr_assert_eq(rgm_frame_read(path, &f), RGM_OK, "%s", rgm_last_error());
  const int64_t N = f.rows;
  double *x = malloc((size_t)(10 * N) * sizeof *x), *y = malloc(2 * (size_t)N * sizeof *y);
  uint32_t *learned = malloc(2 * (size_t)N * sizeof *learned), *held = learned + N;
  uint8_t *ones = malloc((size_t)N);
  const int fold = rgm_frame_find(&f, "fold");
  forest_data d;
  memset(ones, 1, (size_t)N);
  for (int64_t i = 0; i < N; i++) {
    for (int j = 0; j < 10; j++) {
      x[i * 10 + j] = f.value[i * f.columns + rgm_frame_find(&f, names[j])];
    }
  }
  cr_assert_eq(forest_bin(x, N, 10, 0, ones, 256, &d), RGM_OK);
  for (size_t k = 0; k < sizeof rows / sizeof *rows; k++) {
    const int outcome = rgm_frame_find(&f, rows[k].outcome);
    double mean = 0.0, *out = y + N;
    for (uint32_t seed = 0; seed < 4; seed++) {
      forest_task t = {
          .data = &d, .rows = learned, .y = y, .count = ones, .held = held, .key = {seed, 77}};
      for (int64_t i = 0; i < N; i++) {
        if (f.value[i * f.columns + fold] == 1) {
          y[t.n] = f.value[i * f.columns + outcome];
          learned[t.n++] = (uint32_t)i;
        } else {
          held[t.m++] = (uint32_t)i;
        }
      }
      const forest_keys keys = {100, rows[k].leaf, rows[k].tries, 1.0};
      cr_assert(forest_predict(&keys, &t, out));
      for (int64_t i = 0; i < t.m; i++) {
        const double e = out[i] - f.value[held[i] * f.columns + outcome];
        mean += e * e / (double)(4 * t.m);
      }
    }
    cr_assert_float_eq(mean, rows[k].error, rows[k].near, "%s, leaf %d: %g, not %g",
                       rows[k].outcome, (int)rows[k].leaf, mean, rows[k].error);
  }
  forest_free(&d);
  free(x);
  free(y);
  free(learned);
  free(ones);
  rgm_frame_free(&f);
}
