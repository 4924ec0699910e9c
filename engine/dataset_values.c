// SPDX-License-Identifier: Apache-2.0
// Checks of a data set that look at the values of a column: missing, constant, out of range, in
// another unit, out of step with the time since they were measured, identifying. The table of
// checks is in dataset_check.c.

#include "engine/dataset_audit.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

enum { MANY = 20 }; // rows from which on a column can be said to be always so


// ---- all of a column ---------------------------------------------------------------------------

bool rgm_audit_constant(const rgm_audit *a, int column) {
  double first = NAN;
  for (int64_t r = 0; r < a->rows; r++) {
    const double x = rgm_audit_get(a, column, r);
    first = isnan(first) ? x : first;
    if (!isnan(x) && x != first) {
      return false;
    }
  }
  return true;
}


static int64_t count_missing(const rgm_audit *a, int column) {
  int64_t n = 0;
  for (int64_t r = 0; r < a->rows; r++) {
    n += isnan(rgm_audit_get(a, column, r));
  }
  return n;
}


int64_t rgm_audit_sorted(rgm_audit *a, int column) {
  int64_t n = 0;
  for (int64_t r = 0; r < a->rows; r++) {
    const double x = rgm_audit_get(a, column, r);
    if (!isnan(x)) {
      a->scratch[n++] = x;
    }
  }
  if (n > 0) {
    rgm_summarise(a->scratch, n);
  }
  return n;
}


// the columns of some roles
#define EACH(c, roles)                         \
  for (int c = 0; c < a->d->column_count; c++) \
    if (rgm_audit_is(a, c, roles))


static bool is_whole(const rgm_audit *a, int column) {
  for (int64_t r = 0; r < a->rows; r++) {
    const double x = rgm_audit_get(a, column, r);
    if (!isnan(x) && x != floor(x)) {
      return false;
    }
  }
  return true;
}


// ---- missing, infinite, constant ---------------------------------------------------------------

void rgm_audit_infinite(rgm_audit *a, unsigned arg) {
  EACH(c, arg) {
    for (int64_t r = 0; r < a->rows; r++) {
      if (isinf(rgm_audit_get(a, c, r))) {
        rgm_audit_hit(a, r, c);
      }
    }
  }
}


void rgm_audit_all_missing(rgm_audit *a, unsigned arg) {
  EACH(c, arg) {
    if (a->rows > 0 && count_missing(a, c) == a->rows) {
      rgm_audit_hit(a, 0, c);
    }
  }
}


void rgm_audit_mostly_missing(rgm_audit *a, unsigned arg) {
  EACH(c, arg) {
    const int64_t n = count_missing(a, c);
    if (a->rows >= MANY && n < a->rows && 20 * n > 19 * a->rows) {
      rgm_audit_hit(a, -1, c);
    }
  }
}


// The column that another one is about, or -1.
static int about(const rgm_audit *a, int column) {
  const rgm_column *c = &a->d->column[column];
  return c->of[0] != '\0' ? rgm_dataset_find(a->d, c->of) : -1;
}


static void compare_flag(rgm_audit *a, unsigned roles, double flag, bool missing) {
  EACH(c, roles) {
    const int of = about(a, c);
    for (int64_t r = 0; of >= 0 && r < a->rows; r++) {
      if (rgm_audit_get(a, c, r) == flag && isnan(rgm_audit_get(a, of, r)) == missing) {
        rgm_audit_hit(a, r, c);
      }
    }
  }
}


void rgm_audit_flag_on_missing(rgm_audit *a, unsigned arg) {
  compare_flag(a, arg, 0, true);
}


void rgm_audit_flag_on_value(rgm_audit *a, unsigned arg) {
  compare_flag(a, arg, 1, false);
}


void rgm_audit_missing_unflagged(rgm_audit *a, unsigned arg) {
  EACH(c, arg) {
    bool flagged = count_missing(a, c) == a->rows; // which is told apart
    for (int i = 0; i < a->d->column_count; i++) {
      flagged = flagged || (a->d->column[i].role == RGM_ROLE_MISSING && about(a, i) == c);
    }
    for (int64_t r = 0; !flagged && r < a->rows; r++) {
      if (isnan(rgm_audit_get(a, c, r))) {
        rgm_audit_hit(a, r, c);
      }
    }
  }
}


void rgm_audit_missing_value(rgm_audit *a, unsigned arg) {
  EACH(c, arg) {
    const bool some = count_missing(a, c) < a->rows;
    for (int64_t r = 0; some && r < a->rows; r++) {
      if (isnan(rgm_audit_get(a, c, r))) {
        rgm_audit_hit(a, r, c);
      }
    }
  }
}


void rgm_audit_constant_column(rgm_audit *a, unsigned arg) {
  EACH(c, arg) {
    if (a->rows >= MANY && count_missing(a, c) < a->rows && rgm_audit_constant(a, c)) {
      rgm_audit_hit(a, -1, c);
    }
  }
}


// ---- values that cannot be ---------------------------------------------------------------------

void rgm_audit_out_of_range(rgm_audit *a, unsigned arg) {
  EACH(c, arg) {
    const rgm_column *column = &a->d->column[c];
    for (int64_t r = 0; r < a->rows; r++) {
      const double x = rgm_audit_get(a, c, r);
      if (isfinite(x) && (x < column->low || x > column->high)) {
        rgm_audit_hit(a, r, c);
      }
    }
  }
}


void rgm_audit_negative(rgm_audit *a, unsigned arg) {
  EACH(c, arg) {
    for (int64_t r = 0; r < a->rows; r++) {
      const double x = rgm_audit_get(a, c, r);
      if (x < 0 && isfinite(x)) {
        rgm_audit_hit(a, r, c);
      }
    }
  }
}


void rgm_audit_extreme(rgm_audit *a, unsigned arg) {
  EACH(c, arg) {
    const int64_t n = rgm_audit_sorted(a, c);
    if (n < MANY) {
      continue;
    }
    const double middle = rgm_quantile_sorted(a->scratch, n, 0.5);
    const double low = rgm_quantile_sorted(a->scratch, n, 0.05);
    const double width = rgm_quantile_sorted(a->scratch, n, 0.95) - low;
    for (int64_t r = 0; isfinite(width) && width > 0 && r < a->rows; r++) {
      const double x = rgm_audit_get(a, c, r);
      if (isfinite(x) && fabs(x - middle) > 1e6 * width) {
        rgm_audit_hit(a, r, c);
      }
    }
  }
}


// A code that is the least or greatest value, there twice at least, and far from all the others.
void rgm_audit_sentinel(rgm_audit *a, unsigned arg) {
  static const double codes[] = {-9, -99, -999, -9999, -99999, 99, 999, 9999, 99999, 999999};
  EACH(c, arg) {
    const int64_t n = rgm_audit_sorted(a, c);
    for (size_t k = 0; k < sizeof codes / sizeof *codes && n >= MANY; k++) {
      int64_t below = 0, equal = 0;
      for (int64_t i = 0; i < n; i++) {
        below += a->scratch[i] < codes[k];
        equal += a->scratch[i] == codes[k];
      }
      const int64_t above = n - below - equal;
      if (equal < 2 || (below > 0 && above > 0) || below + above < MANY) {
        continue;
      }
      const double near = below > 0 ? a->scratch[below - 1] : a->scratch[equal];
      const double far = below > 0 ? a->scratch[0] : a->scratch[n - 1];
      if (fabs(codes[k] - near) <= 3 * fabs(far - near) || far == near) {
        continue;
      }
      for (int64_t r = 0; r < a->rows; r++) {
        if (rgm_audit_get(a, c, r) == codes[k]) {
          rgm_audit_hit(a, r, c);
        }
      }
    }
  }
}


// ---- units -------------------------------------------------------------------------------------

static bool one_of(const char *text, const char *const *names) {
  for (int i = 0; names[i] != NULL; i++) {
    if (strcasecmp(text, names[i]) == 0) {
      return true;
    }
  }
  return false;
}


void rgm_audit_impossible_age(rgm_audit *a, unsigned arg) {
  static const char *const years[] = {"y", "yr", "yrs", "year", "years", "a", NULL};
  EACH(c, arg) {
    const bool is_age =
        one_of(a->d->column[c].unit, years) && strncasecmp(a->d->column[c].name, "age", 3) == 0;
    for (int64_t r = 0; is_age && r < a->rows; r++) {
      const double x = rgm_audit_get(a, c, r);
      if (isfinite(x) && x > 120) {
        rgm_audit_hit(a, r, c);
      }
    }
  }
}


void rgm_audit_fraction_as_percent(rgm_audit *a, unsigned arg) {
  EACH(c, arg) {
    const bool percent = strcmp(a->d->column[c].unit, "%") == 0;
    const int64_t n = percent ? rgm_audit_sorted(a, c) : 0;
    if (n >= MANY && a->scratch[0] >= 0 && a->scratch[n - 1] <= 1 && a->scratch[n - 1] > 0) {
      rgm_audit_hit(a, -1, c);
    }
  }
}


void rgm_audit_fahrenheit(rgm_audit *a, unsigned arg) {
  static const char *const celsius[] = {"C",
                                        "degC",
                                        "deg C",
                                        "Celsius",
                                        "\xc2\xb0"
                                        "C",
                                        NULL};
  EACH(c, arg) {
    for (int64_t r = 0; one_of(a->d->column[c].unit, celsius) && r < a->rows; r++) {
      const double x = rgm_audit_get(a, c, r);
      if (x > 50 && x < 120) {
        rgm_audit_hit(a, r, c);
      }
    }
  }
}


typedef struct person {
  double level; // log of the median
  int64_t row;  // first one
} person;


static int by_level(const void *a_, const void *b_) {
  const person *a = a_, *b = b_;
  return (a->level > b->level) - (a->level < b->level);
}


static bool is_factor(double factor) {
  // tens; creatinine, bilirubin, urea, calcium, kPa, glucose, cholesterol, triglycerides, lb
  static const double known[] = {10,  100,   1000,  1e6,   88.42, 17.1,  2.8,
                                 4.0, 7.501, 18.02, 38.67, 88.57, 2.2046};
  for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
    if (fabs(log(factor / known[i])) < 0.1) {
      return true;
    }
  }
  return false;
}


// The medians of patients in order, cut at the widest gap: both groups are narrower than the gap,
// and their centres are a factor between units apart.
static void split_levels(rgm_audit *a, int column, person *all, int64_t n) {
  qsort(all, (size_t)n, sizeof *all, by_level);
  int64_t cut = 1;
  for (int64_t i = 2; i < n; i++) {
    cut = all[i].level - all[i - 1].level > all[cut].level - all[cut - 1].level ? i : cut;
  }
  const double gap = all[cut].level - all[cut - 1].level;
  const double low = all[cut - 1].level - all[0].level, high = all[n - 1].level - all[cut].level;
  const double factor =
      exp((all[cut].level + all[n - 1].level) / 2 - (all[0].level + all[cut - 1].level) / 2);
  if (cut < 2 || n - cut < 2 || low >= gap || high >= gap || !is_factor(factor)) {
    return;
  }
  // the smaller group is the odd one
  const bool lower = cut <= n - cut;
  int64_t first = INT64_MAX;
  for (int64_t i = lower ? 0 : cut; i < (lower ? cut : n); i++) {
    first = all[i].row < first ? all[i].row : first;
  }
  rgm_audit_hit(a, first, column);
}


void rgm_audit_unit_mix(rgm_audit *a, unsigned arg) {
  person *all = a->patient >= 0 ? malloc(((size_t)a->episodes + 1) * sizeof *all) : NULL;
  if (all == NULL) {
    a->failed = a->failed || a->patient >= 0;
    return;
  }
  EACH(c, arg) {
    int64_t n = 0;
    if (a->d->column[c].cell != RGM_CELL_F32 && a->d->column[c].cell != RGM_CELL_F64) {
      continue;
    }
    for (int64_t e = 0; e < a->episodes; e++) {
      int64_t k = 0;
      for (int64_t r = a->start[e]; r < a->start[e + 1]; r++) {
        const double x = rgm_audit_get(a, c, r);
        if (x > 0 && isfinite(x)) {
          a->scratch[k++] = x;
        }
      }
      if (k > 0) {
        all[n++] = (person){log(rgm_median(a->scratch, k)), a->start[e]};
      }
    }
    if (n >= 8) {
      split_levels(a, c, all, n);
    }
  }
  free(all);
}


// ---- time since the measurement ----------------------------------------------------------------

enum { TOO_OLD, CHANGED };

static void compare_age(rgm_audit *a, unsigned roles, int what) {
  EACH(c, roles) {
    const int of = about(a, c);
    for (int64_t e = 0; a->time >= 0 && of >= 0 && e < a->episodes; e++) {
      for (int64_t r = a->start[e] + 1; r < a->start[e + 1]; r++) {
        const double step = rgm_audit_get(a, a->time, r) - rgm_audit_get(a, a->time, r - 1);
        const double grown = rgm_audit_get(a, c, r) - rgm_audit_get(a, c, r - 1);
        const double slack = 1e-3 * (1 + fabs(step));
        const double x = rgm_audit_get(a, of, r), before = rgm_audit_get(a, of, r - 1);
        // f32 ages of long stays are rounded
        const bool hit = what == TOO_OLD ? grown > step + slack
                                         : step > 0 && fabs(grown - step) <= slack && x != before &&
                                               !isnan(x) && !isnan(before);
        if (hit) {
          rgm_audit_hit(a, r, c);
        }
      }
    }
  }
}


void rgm_audit_age_too_old(rgm_audit *a, unsigned arg) {
  compare_age(a, arg, TOO_OLD);
}


void rgm_audit_age_changed(rgm_audit *a, unsigned arg) {
  compare_age(a, arg, CHANGED);
}


static void compare_presence(rgm_audit *a, unsigned roles, bool value) {
  EACH(c, roles) {
    const int of = about(a, c);
    for (int64_t r = 0; of >= 0 && r < a->rows; r++) {
      const bool has_age = !isnan(rgm_audit_get(a, c, r));
      const bool has_value = !isnan(rgm_audit_get(a, of, r));
      if (has_value == value && has_age != value) {
        rgm_audit_hit(a, r, c);
      }
    }
  }
}


void rgm_audit_age_without_value(rgm_audit *a, unsigned arg) {
  compare_presence(a, arg, false);
}


void rgm_audit_value_without_age(rgm_audit *a, unsigned arg) {
  compare_presence(a, arg, true);
}


// ---- actions -----------------------------------------------------------------------------------

void rgm_audit_action_fraction(rgm_audit *a, unsigned arg) {
  EACH(c, arg) {
    for (int64_t r = 0; a->d->column[c].choices > 0 && r < a->rows; r++) {
      const double x = rgm_audit_get(a, c, r);
      if (isfinite(x) && x != floor(x)) {
        rgm_audit_hit(a, r, c);
      }
    }
  }
}


void rgm_audit_action_range(rgm_audit *a, unsigned arg) {
  EACH(c, arg) {
    const double most = (double)a->d->column[c].choices - 1;
    for (int64_t r = 0; most >= 0 && r < a->rows; r++) {
      const double x = rgm_audit_get(a, c, r);
      if (isfinite(x) && (x < 0 || x > most)) {
        rgm_audit_hit(a, r, c);
      }
    }
  }
}


// Whether every number from 0 to `most` is among the values.
static bool all_used(rgm_audit *a, int column, double most) {
  const int64_t n = rgm_audit_sorted(a, column);
  double want = 0;
  for (int64_t i = 0; i < n && want <= most; i++) {
    want += a->scratch[i] == want;
  }
  return want > most;
}


void rgm_audit_action_unused(rgm_audit *a, unsigned arg) {
  EACH(c, arg) {
    const double most = (double)a->d->column[c].choices - 1;
    if (most >= 0 && a->rows >= MANY && !all_used(a, c, most)) {
      rgm_audit_hit(a, -1, c);
    }
  }
}


// Whole numbers without a number of choices: as they come in files of other programs.
void rgm_audit_action_gap(rgm_audit *a, unsigned arg) {
  EACH(c, arg) {
    const rgm_column *column = &a->d->column[c];
    const bool bins = column->choices == 0 && column->cell != RGM_CELL_F32 &&
                      column->cell != RGM_CELL_F64 && a->rows >= MANY;
    const int64_t n = bins ? rgm_audit_sorted(a, c) : 0;
    if (n > 0 && (a->scratch[0] < 0 || !all_used(a, c, a->scratch[n - 1]))) {
      rgm_audit_hit(a, -1, c);
    }
  }
}


// Least and greatest dose of every bin of the action.
void rgm_audit_bin_overlap(rgm_audit *a, unsigned arg) {
  EACH(c, arg) {
    const int of = about(a, c);
    const int64_t bins = of >= 0 ? a->d->column[of].choices : 0;
    double *low = bins > 0 && bins <= 1 << 20 ? malloc(2 * (size_t)bins * sizeof *low) : NULL;
    for (int64_t b = 0; low != NULL && b < bins; b++) {
      low[b] = INFINITY;
      low[bins + b] = -INFINITY;
    }
    for (int64_t r = 0; low != NULL && r < a->rows; r++) {
      const double b = rgm_audit_get(a, of, r), x = rgm_audit_get(a, c, r);
      if (b >= 0 && b < (double)bins && !isnan(x)) {
        const int64_t k = (int64_t)b;
        low[k] = x < low[k] ? x : low[k];
        low[bins + k] = x > low[bins + k] ? x : low[bins + k];
      }
    }
    // the greatest of all bins below, row by row
    double most = -INFINITY;
    for (int64_t b = 0; low != NULL && b < bins; b++) {
      const double own = low[bins + b];
      low[bins + b] = most;
      most = own > most ? own : most;
    }
    for (int64_t r = 0; low != NULL && r < a->rows; r++) {
      const double b = rgm_audit_get(a, of, r), x = rgm_audit_get(a, c, r);
      if (b >= 0 && b < (double)bins && x < low[bins + (int64_t)b]) {
        rgm_audit_hit(a, r, c);
      }
    }
    free(low);
  }
}


// ---- what identifies patients ------------------------------------------------------------------

void rgm_audit_date(rgm_audit *a, unsigned arg) {
  EACH(c, arg) {
    const int64_t n = rgm_audit_sorted(a, c);
    if (n < MANY || a->scratch[0] == a->scratch[n - 1] || !is_whole(a, c)) {
      continue;
    }
    // seconds since 1970 of the years 1980 to 2250, or year, month and day as one number
    bool days = true;
    for (int64_t i = 0; i < n; i++) {
      const double day = fmod(a->scratch[i], 100), month = fmod(floor(a->scratch[i] / 100), 100);
      days = days && a->scratch[i] >= 18000101 && a->scratch[i] <= 22501231 && day >= 1 &&
             day <= 31 && month >= 1 && month <= 12;
    }
    if (days || (a->scratch[0] > 3.15e8 && a->scratch[n - 1] < 8.9e9)) {
      rgm_audit_hit(a, 0, c);
    }
  }
}


typedef struct number {
  double value, patient;
} number;


static int by_number(const void *a_, const void *b_) {
  const number *a = a_, *b = b_;
  return (a->value > b->value) - (a->value < b->value);
}


// Large whole numbers, one for each patient and no two alike.
void rgm_audit_identifier(rgm_audit *a, unsigned arg) {
  number *all = a->patient >= 0 ? malloc(((size_t)a->rows + 1) * sizeof *all) : NULL;
  EACH(c, arg) {
    const int64_t n = all != NULL ? rgm_audit_sorted(a, c) : 0;
    if (n < MANY || a->scratch[0] < 1000 || a->scratch[0] > 3.15e8 || !is_whole(a, c) ||
        n < a->rows) {
      continue;
    }
    for (int64_t r = 0; r < a->rows; r++) {
      all[r] = (number){rgm_audit_get(a, c, r), rgm_audit_get(a, a->patient, r)};
    }
    qsort(all, (size_t)a->rows, sizeof *all, by_number);
    int64_t values = 1;
    bool own = true;
    for (int64_t r = 1; r < a->rows && own; r++) {
      own = all[r].value != all[r - 1].value || all[r].patient == all[r - 1].patient;
      values += all[r].value != all[r - 1].value;
    }
    // as many values as patients (and no more than one for each)
    double most = 0;
    for (int64_t r = 0; r < a->rows; r++) {
      const double who = rgm_audit_get(a, a->patient, r);
      most = who > most ? who : most;
    }
    if (own && values >= 8 && (double)values <= most + 1 && a->scratch[n - 1] > 10000) {
      rgm_audit_hit(a, 0, c);
    }
  }
  free(all);
}
