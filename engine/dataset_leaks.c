// SPDX-License-Identifier: Apache-2.0
// Checks of a data set that compare columns: copies, values of the next row that do not fit, and
// leaks of what is not known yet (outcome, reward, action, the future). The table of checks is in
// dataset_check.c.

#include "engine/dataset_audit.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { MANY = 20 }; // pairs from which on likeness is no chance


// Two values that are the same, or both missing. A copy may have been rounded to f32.
static bool alike(double x, double y) {
  return x == y || (float)x == (float)y || (isnan(x) && isnan(y));
}


// Whether column p of every row equals column q `ahead` rows later in the same episode; *pairs: how
// many could be compared, *news: how many q differs from what it was in p's own row.
static bool equal_ahead(const rgm_audit *a, int p, int q, int64_t ahead, int64_t *pairs,
                        int64_t *news) {
  *pairs = *news = 0;
  for (int64_t e = 0; e < a->episodes; e++) {
    for (int64_t r = a->start[e]; r + ahead < a->start[e + 1]; r++) {
      const double x = rgm_audit_get(a, p, r), y = rgm_audit_get(a, q, r + ahead);
      if (!alike(x, y)) {
        return false;
      }
      *pairs += !isnan(x);
      *news += ahead > 0 && !alike(y, rgm_audit_get(a, q, r));
    }
  }
  return true;
}


void rgm_audit_next_mismatch(rgm_audit *a, unsigned arg) {
  for (int c = 0; c < a->d->column_count; c++) {
    const int of = rgm_audit_is(a, c, arg) && a->d->column[c].of[0] != '\0'
                       ? rgm_dataset_find(a->d, a->d->column[c].of)
                       : -1;
    for (int64_t e = 0; of >= 0 && e < a->episodes; e++) {
      for (int64_t r = a->start[e]; r + 1 < a->start[e + 1]; r++) {
        if (!alike(rgm_audit_get(a, c, r), rgm_audit_get(a, of, r + 1))) {
          rgm_audit_hit(a, r, c);
        }
      }
    }
  }
}


void rgm_audit_duplicate_column(rgm_audit *a, unsigned arg) {
  int64_t pairs, news;
  for (int c = 0; c < a->d->column_count; c++) {
    for (int k = 0; rgm_audit_is(a, c, arg) && k < c; k++) {
      if (rgm_audit_is(a, k, arg) && equal_ahead(a, c, k, 0, &pairs, &news) && pairs >= MANY &&
          !rgm_audit_constant(a, c)) {
        rgm_audit_hit(a, -1, c);
        break;
      }
    }
  }
}


// A state that is the same as a column of the roles in every row.
void rgm_audit_leak_equal(rgm_audit *a, unsigned arg) {
  int64_t pairs, news;
  for (int c = 0; c < a->d->column_count; c++) {
    for (int k = 0; a->d->column[c].role == RGM_ROLE_STATE && k < a->d->column_count; k++) {
      if (rgm_audit_is(a, k, arg) && equal_ahead(a, c, k, 0, &pairs, &news) && pairs >= MANY &&
          !rgm_audit_constant(a, c)) {
        rgm_audit_hit(a, -1, c);
        break;
      }
    }
  }
}


void rgm_audit_leak_future(rgm_audit *a, unsigned arg) {
  int64_t pairs, news;
  for (int c = 0; c < a->d->column_count; c++) {
    for (int k = 0; a->d->column[c].role == RGM_ROLE_STATE && k < a->d->column_count; k++) {
      // a column that hardly changes is its own future
      if (k != c && rgm_audit_is(a, k, arg) && equal_ahead(a, c, k, 1, &pairs, &news) &&
          pairs >= MANY && 20 * news >= pairs) {
        rgm_audit_hit(a, -1, c);
        break;
      }
    }
  }
}


// ---- a state that all but tells the outcome ----------------------------------------------------

// Pearson's correlation over the rows in which both are there; 0 for few rows or a constant.
static double correlation(const rgm_audit *a, int p, int q) {
  double n = 0, mx = 0, my = 0, xx = 0, yy = 0, xy = 0;
  for (int64_t r = 0; r < a->rows; r++) {
    const double x = rgm_audit_get(a, p, r), y = rgm_audit_get(a, q, r);
    if (isfinite(x) && isfinite(y)) {
      // Welford's update: means first seen stay small
      n += 1;
      const double dx = x - mx, dy = y - my;
      mx += dx / n;
      my += dy / n;
      xx += dx * (x - mx);
      yy += dy * (y - my);
      xy += dx * (y - my);
    }
  }
  return n >= MANY && xx > 0 && yy > 0 ? xy / sqrt(xx * yy) : 0;
}


// Whether a threshold of the last value that an episode has tells an outcome of 0 and 1 without an
// error, ten episodes at least on either side.
static bool separates(const rgm_audit *a, int state, int outcome) {
  double low[2] = {INFINITY, INFINITY}, high[2] = {-INFINITY, -INFINITY};
  int64_t count[2] = {0, 0};
  for (int64_t e = 0; e < a->episodes; e++) {
    const int64_t last = a->start[e + 1] - 1;
    const double y = rgm_audit_get(a, outcome, last), x = rgm_audit_get(a, state, last);
    if (!(y == 0 || y == 1)) {
      return false;
    }
    const int k = y == 1;
    low[k] = x < low[k] ? x : low[k];
    high[k] = x > high[k] ? x : high[k];
    count[k] += !isnan(x);
  }
  return count[0] >= 10 && count[1] >= 10 && (high[0] < low[1] || high[1] < low[0]);
}


void rgm_audit_leak_near(rgm_audit *a, unsigned arg) {
  int64_t pairs, news;
  for (int c = 0; c < a->d->column_count; c++) {
    for (int k = 0; a->d->column[c].role == RGM_ROLE_STATE && k < a->d->column_count; k++) {
      if (!rgm_audit_is(a, k, arg) || (equal_ahead(a, c, k, 0, &pairs, &news) && pairs >= MANY)) {
        continue; // equal ones are told apart
      }
      if (fabs(correlation(a, c, k)) > 0.999 || separates(a, c, k)) {
        rgm_audit_hit(a, -1, c);
        break;
      }
    }
  }
}
