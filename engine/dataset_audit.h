// SPDX-License-Identifier: Apache-2.0
// Between the checks of a data set: dataset_check.c (table of checks, structure), dataset_values.c
// (values of columns) and dataset_leaks.c (columns against each other).

#ifndef RGM_DATASET_AUDIT_H
#define RGM_DATASET_AUDIT_H

#include "engine/dataset_private.h"

#define RGM_ROLE_BIT(role) (1u << RGM_ROLE_##role)

typedef struct rgm_audit rgm_audit;

// A kind of defect. `arg` is for checks that serve several kinds: mostly a set of roles.
typedef struct rgm_check_row {
  const char *kind;
  rgm_severity severity;
  void (*run)(rgm_audit *a, unsigned arg);
  unsigned arg;
  const char *text;
} rgm_check_row;

// What the checks look at, and what they found.
struct rgm_audit {
  const rgm_dataset *d;
  int patient, time, terminated, truncated, split; // columns, or -1
  int64_t rows, episodes;
  int64_t *start;             // (episodes + 1)
  double *scratch;            // (rows)
  const rgm_check_row *check; // at work
  rgm_finding *found;
  int count, room;
  bool failed; // memory was short
};

// A defect at a row (-1: none) of a column (-1: none); rows of one column are counted together.
void rgm_audit_hit(rgm_audit *a, int64_t row, int column);

static inline double rgm_audit_get(const rgm_audit *a, int column, int64_t row) {
  return rgm_cell_get(&a->d->column[column], row);
}

static inline bool rgm_audit_is(const rgm_audit *a, int column, unsigned roles) {
  return (roles >> a->d->column[column].role & 1) != 0;
}

// Whether all values that are not missing are the same.
bool rgm_audit_constant(const rgm_audit *a, int column);

// The values of a column that are not missing, sorted in a->scratch; their number.
int64_t rgm_audit_sorted(rgm_audit *a, int column);

// The checks of dataset_values.c and dataset_leaks.c.
#define RGM_AUDIT_CHECKS(X) \
  X(infinite)               \
  X(all_missing)            \
  X(mostly_missing)         \
  X(flag_on_missing)        \
  X(flag_on_value)          \
  X(missing_unflagged)      \
  X(missing_value)          \
  X(constant_column)        \
  X(out_of_range)           \
  X(negative)               \
  X(extreme)                \
  X(sentinel)               \
  X(impossible_age)         \
  X(fraction_as_percent)    \
  X(fahrenheit)             \
  X(unit_mix)               \
  X(age_too_old)            \
  X(age_changed)            \
  X(age_without_value)      \
  X(value_without_age)      \
  X(action_fraction)        \
  X(action_range)           \
  X(action_unused)          \
  X(action_gap)             \
  X(bin_overlap)            \
  X(date)                   \
  X(identifier)             \
  X(next_mismatch)          \
  X(duplicate_column)       \
  X(leak_equal)             \
  X(leak_near)              \
  X(leak_future)
#define RGM_AUDIT_DECLARE(name) void rgm_audit_##name(rgm_audit *a, unsigned arg);
RGM_AUDIT_CHECKS(RGM_AUDIT_DECLARE)
#undef RGM_AUDIT_DECLARE

#endif
