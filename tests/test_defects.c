// SPDX-License-Identifier: Apache-2.0
// Defects of a data set, each planted in a clean table of patients: the check finds it with row and
// column, and nothing else. Every kind has a row here.

#include "engine/dataset.h"

#include <criterion/criterion.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

TestSuite(defects, .timeout = 120);

enum { EPISODES = 30, STEPS = 12, ROWS = EPISODES * STEPS, BINS = 6 };


// a number in [0, 1) for a place
static double unit(int64_t a, int64_t b) {
  uint64_t x = (uint64_t)a * 0x9E3779B97F4A7C15u + (uint64_t)b * 0xD1B54A32D192ED03u;
  x ^= x >> 32;
  x *= 0xD6E8FEB86659FD93u;
  x ^= x >> 32;
  return (double)(x >> 11) * 0x1p-53;
}


static rgm_column *col(rgm_dataset *d, const char *name) {
  const int i = rgm_dataset_find(d, name);
  cr_assert(i >= 0, "%s", name);
  return &d->column[i];
}


static double get(rgm_dataset *d, const char *name, int64_t row) {
  return rgm_cell_get(col(d, name), row);
}


static void set(rgm_dataset *d, const char *name, int64_t row, double value) {
  rgm_cell_set(col(d, name), row, value);
}


// aPTT is measured at steps 3, 7 and 11; before, there is an old value or none
static void fill(rgm_dataset *d) {
  for (int64_t r = 0; r < ROWS; r++) {
    const int64_t e = r / STEPS, i = r % STEPS, p = e < 24 ? e : e - 24;
    const bool last = i == STEPS - 1, none = e % 2 == 1 && i < 3;
    const double bin = floor(unit(r, 1) * BINS);
    set(d, "patient", r, (double)p);
    set(d, "episode", r, (double)e);
    set(d, "time", r, (double)i);
    set(d, "aptt", r, none ? NAN : 40 + 60 * unit(e, 50 + (i + 1) / 4));
    set(d, "aptt_missing", r, none);
    set(d, "aptt_age", r, none ? NAN : i < 3 ? 5 + (double)i : (double)((i + 1) % 4));
    set(d, "lactate", r, 1 + 3 * unit(r, 2));
    set(d, "next_lactate", r, 1 + 3 * unit(last ? r + ROWS : r + 1, 2));
    set(d, "weight", r, 50 + 50 * unit(p, 3) + unit(r, 4));
    set(d, "temperature", r, 36 + 3 * unit(r, 5));
    set(d, "spo2", r, 85 + 15 * unit(r, 6));
    set(d, "age", r, 30 + floor(60 * unit(p, 7)));
    set(d, "creatinine", r, 0.7 + 0.5 * unit(p, 8) + 0.1 * unit(r, 9));
    set(d, "extra", r, unit(r, 10));
    set(d, "action", r, bin);
    set(d, "dose", r, 100 * bin + 90 * unit(r, 11));
    set(d, "reward", r, unit(r, 12) - 0.5);
    set(d, "died", r, unit(p, 13) < 0.5);
    set(d, "terminated", r, last && e % 3 != 0);
    set(d, "truncated", r, last && e % 3 == 0);
  }
}


static rgm_dataset *clean(void) {
  static const struct {
    const char *name, *unit, *of;
    rgm_role role;
    rgm_cell cell;
  } columns[] = {{"patient", "", "", RGM_ROLE_PATIENT, RGM_CELL_I32},
                 {"episode", "", "", RGM_ROLE_EPISODE, RGM_CELL_I64},
                 {"time", "h", "", RGM_ROLE_TIME, RGM_CELL_F64},
                 {"aptt", "s", "", RGM_ROLE_STATE, RGM_CELL_F32},
                 {"aptt_missing", "", "aptt", RGM_ROLE_MISSING, RGM_CELL_U8},
                 {"aptt_age", "h", "aptt", RGM_ROLE_AGE, RGM_CELL_F32},
                 {"lactate", "mmol/L", "", RGM_ROLE_STATE, RGM_CELL_F32},
                 {"weight", "kg", "", RGM_ROLE_STATE, RGM_CELL_F32},
                 {"temperature", "degC", "", RGM_ROLE_STATE, RGM_CELL_F32},
                 {"spo2", "%", "", RGM_ROLE_STATE, RGM_CELL_F32},
                 {"age", "years", "", RGM_ROLE_STATE, RGM_CELL_F32},
                 {"creatinine", "mg/dL", "", RGM_ROLE_STATE, RGM_CELL_F32},
                 {"extra", "1", "", RGM_ROLE_OTHER, RGM_CELL_F64},
                 {"action", "", "", RGM_ROLE_ACTION, RGM_CELL_F32},
                 {"dose", "units/h", "action", RGM_ROLE_DOSE, RGM_CELL_F32},
                 {"reward", "1", "", RGM_ROLE_REWARD, RGM_CELL_F64},
                 {"next_lactate", "mmol/L", "lactate", RGM_ROLE_NEXT, RGM_CELL_F32},
                 {"died", "", "", RGM_ROLE_OUTCOME, RGM_CELL_U8},
                 {"terminated", "", "", RGM_ROLE_TERMINATED, RGM_CELL_U8},
                 {"truncated", "", "", RGM_ROLE_TRUNCATED, RGM_CELL_U8}};
  rgm_dataset *d = rgm_dataset_new(ROWS);
  cr_assert(d != NULL);
  for (size_t i = 0; i < sizeof columns / sizeof *columns; i++) {
    rgm_column *c =
        rgm_dataset_add(d, columns[i].name, columns[i].role, columns[i].cell, columns[i].unit);
    cr_assert(c != NULL);
    snprintf(c->of, sizeof c->of, "%s", columns[i].of);
  }
  fill(d);
  col(d, "aptt")->low = 10;
  col(d, "aptt")->high = 300;
  col(d, "action")->choices = BINS;
  cr_assert_eq(rgm_dataset_note(d, "source.LABS.sha256", "00"), RGM_OK);
  cr_assert_eq(rgm_dataset_note(d, "licence", "none"), RGM_OK);
  cr_assert_eq(rgm_dataset_split(d, 1, 0.2, 0.2), RGM_OK);
  return d;
}


// ---- how defects come about --------------------------------------------------------------------

typedef struct defect defect;
struct defect {
  const char *kind, *column; // where it is found, NULL: nowhere in particular
  int64_t row;
  void (*plant)(rgm_dataset *d, const defect *x);
  double value;
  const char *other; // a column, text or name
};

static const char *target(const defect *x) {
  return x->other != NULL ? x->other : x->column;
}

static void put(rgm_dataset *d, const defect *x) {
  set(d, target(x), x->row, x->value);
}

static void put_all(rgm_dataset *d, const defect *x) {
  for (int64_t r = 0; r < ROWS; r++) {
    set(d, x->column, r, x->value);
  }
}

// every row of the episode that row x->row lies in, and of no other one of the same patient
static void put_episode(rgm_dataset *d, const defect *x) {
  for (int64_t r = x->row; r < x->row + STEPS; r++) {
    set(d, x->column, r, x->value);
  }
}

static void multiply(rgm_dataset *d, const defect *x) {
  const int64_t first = x->row >= 0 ? x->row : 0, count = x->row >= 0 ? 5 * STEPS : ROWS;
  for (int64_t r = first; r < first + count; r++) {
    set(d, x->column, r, get(d, x->column, r) * x->value);
  }
}

static void no_role(rgm_dataset *d, const defect *x) {
  for (int i = 0; i < d->column_count; i++) {
    const char *at = strstr(x->other, rgm_role_name(d->column[i].role));
    d->column[i].role = at != NULL ? RGM_ROLE_OTHER : d->column[i].role;
  }
}

static void no_unit(rgm_dataset *d, const defect *x) {
  col(d, x->column)->unit[0] = '\0';
}

static void set_of(rgm_dataset *d, const defect *x) {
  snprintf(col(d, x->column)->of, 64, "%s", x->other);
}

static void rename_column(rgm_dataset *d, const defect *x) {
  snprintf(col(d, "weight")->name, 64, "%s", x->other);
}

static void second_reward(rgm_dataset *d, const defect *x) {
  (void)x;
  col(d, "weight")->role = RGM_ROLE_REWARD;
}

static void rename_note(rgm_dataset *d, const defect *x) {
  for (int i = 0; i < d->note_count; i++) {
    d->note[i].name[0] = d->note[i].name[0] == x->other[0] ? 'X' : d->note[i].name[0];
  }
}

static void no_rows(rgm_dataset *d, const defect *x) {
  (void)x;
  d->rows = 0;
}

// another patient of the same split in one row
static void other_patient(rgm_dataset *d, const defect *x) {
  for (int64_t r = 0; r < ROWS; r++) {
    if (get(d, "patient", r) != get(d, "patient", x->row) &&
        get(d, "split", r) == get(d, "split", x->row)) {
      set(d, "patient", x->row, get(d, "patient", r));
      return;
    }
  }
}

static void cut_last_row(rgm_dataset *d, const defect *x) {
  set(d, "episode", x->row, EPISODES);
  set(d, "terminated", x->row - 1, 1);
}

static void copy_row(rgm_dataset *d, int64_t from, int64_t to) {
  for (int i = 0; i < d->column_count; i++) {
    rgm_cell_set(&d->column[i], to, rgm_cell_get(&d->column[i], from));
  }
}

// the row before the last one of an episode twice, the last one moving up
static void repeat_row(rgm_dataset *d, const defect *x) {
  const double lactate = get(d, "lactate", x->row - 1);
  set(d, "lactate", x->row + 1, lactate);
  set(d, "next_lactate", x->row - 1, lactate);
  copy_row(d, x->row - 1, x->row);
  set(d, "time", x->row + 1, get(d, "time", x->row) + 1);
}

static void repeat_episode(rgm_dataset *d, const defect *x) {
  static const char *const own[] = {"patient", "episode", "split", "died"};
  for (int64_t i = 0; i < STEPS; i++) {
    double keep[4];
    for (int k = 0; k < 4; k++) {
      keep[k] = get(d, own[k], x->row + i);
    }
    copy_row(d, 3 * STEPS + i, x->row + i);
    for (int k = 0; k < 4; k++) {
      set(d, own[k], x->row + i, keep[k]);
    }
  }
}

static void shift_time(rgm_dataset *d, const defect *x) {
  set(d, "time", x->row, get(d, "time", x->row - 1) + x->value);
}

static void mostly_missing(rgm_dataset *d, const defect *x) {
  (void)x;
  for (int64_t r = 5; r < ROWS; r++) {
    set(d, "aptt", r, NAN);
    set(d, "aptt_age", r, NAN);
    set(d, "aptt_missing", r, 1);
  }
}

static void one_bin(rgm_dataset *d, const defect *x) {
  put_all(d, x);
  col(d, "action")->choices = 1;
}

static void add(rgm_dataset *d, const defect *x) {
  set(d, target(x), x->row, get(d, target(x), x->row) + x->value);
}

static void twice(rgm_dataset *d, const defect *x) {
  put(d, x);
  set(d, x->column, x->row + 50, x->value);
}

static void merge_bins(rgm_dataset *d, const defect *x) {
  for (int64_t r = 0; r < ROWS; r++) {
    set(d, "action", r, get(d, "action", r) == 5 ? x->value : get(d, "action", r));
  }
}

static void gap_in_numbers(rgm_dataset *d, const defect *x) {
  rgm_column *c = col(d, "action");
  c->choices = 0;
  for (int64_t r = 0; r < ROWS; r++) {
    const double bin = get(d, "action", r);
    ((int32_t *)c->data)[r] = bin == 3 ? (int32_t)x->value : (int32_t)bin;
  }
  c->cell = RGM_CELL_I32;
}

static void dates(rgm_dataset *d, const defect *x) {
  for (int64_t r = 0; r < ROWS; r++) {
    set(d, "extra", r, x->value + floor(28 * unit(r, 14)));
  }
}

static void identifiers(rgm_dataset *d, const defect *x) {
  for (int64_t r = 0; r < ROWS; r++) {
    set(d, "extra", r, x->value + 37 * get(d, "patient", r));
  }
}

// the column becomes another one, `value` rows ahead, with noise where it is told
static void become(rgm_dataset *d, const defect *x) {
  const int64_t ahead = (int64_t)x->value;
  for (int64_t r = 0; r < ROWS; r++) {
    const bool inside = r % STEPS + ahead < STEPS;
    const double noise = x->value - (double)ahead;
    set(d, x->column, r,
        (inside ? get(d, x->other, r + ahead) : unit(r, 15)) + noise * unit(r, 16));
  }
}


static const defect defects[] = {
    {"no_rows", NULL, -1, no_rows, 0, NULL},
    {"no_patient", NULL, -1, no_role, 0, "patient"},
    {"no_episode", NULL, -1, no_role, 0, "episode"},
    {"no_time", NULL, -1, no_role, 0, "time"},
    {"no_state", NULL, -1, no_role, 0, "state"},
    {"no_action", NULL, -1, no_role, 0, "action"},
    {"no_reward", NULL, -1, no_role, 0, "reward outcome"},
    {"no_flags", NULL, -1, no_role, 0, "terminated truncated"},
    {"role_twice", "reward", -1, second_reward, 0, NULL},
    {"name_twice", "LACTATE", -1, rename_column, 0, "LACTATE"},
    {"of_unknown", "dose", -1, set_of, 0, "nothing"},
    {"of_missing", "aptt_age", -1, set_of, 0, ""},
    {"no_unit", "lactate", -1, no_unit, 0, NULL},
    {"dose_no_unit", "dose", -1, no_unit, 0, NULL},
    {"no_source", NULL, -1, rename_note, 0, "s"},
    {"no_licence", NULL, -1, rename_note, 0, "l"},
    {"patient_not_index", "patient", 23 * STEPS, put_episode, 100200, NULL},
    {"episode_unsorted", "episode", 29 * STEPS, put_episode, 5, NULL},
    {"episode_gap", "episode", 29 * STEPS, put_episode, 35, NULL},
    {"episode_patients", "patient", 8 * STEPS + 4, other_patient, 0, NULL},
    {"one_row_episode", "episode", ROWS - 1, cut_last_row, 0, NULL},
    {"duplicate_row", NULL, 4 * STEPS + 10, repeat_row, 0, NULL},
    {"duplicate_episode", "episode", 7 * STEPS, repeat_episode, 0, NULL},
    {"time_missing", "time", 5 * STEPS + 2, put, NAN, NULL},
    {"time_unsorted", "time", 5 * STEPS + 11, shift_time, -0.5, NULL},
    {"time_repeated", "time", 5 * STEPS + 11, shift_time, 0, NULL},
    {"time_step", "time", 5 * STEPS + 11, shift_time, 4, NULL},
    {"flag_value", "terminated", 5 * STEPS + 11, put, 2, NULL},
    {"terminated_inside", "terminated", 5 * STEPS + 6, put, 1, NULL},
    {"truncated_inside", "truncated", 5 * STEPS + 6, put, 1, NULL},
    {"both_flags", "truncated", 5 * STEPS + 11, put, 1, NULL},
    {"no_end", "terminated", 5 * STEPS + 11, put, 0, NULL},
    {"split_value", "split", 10 * STEPS, put_episode, 3, NULL},
    {"split_patient", "split", 9 * STEPS + 7, put, 1, NULL},
    {"split_empty", "split", -1, put_all, RGM_TEST, NULL},
    {"infinite", "weight", 77, put, INFINITY, NULL},
    {"all_missing", "extra", 0, put_all, NAN, NULL},
    {"mostly_missing", "aptt", -1, mostly_missing, 0, NULL},
    {"missing_flag_0", "aptt_missing", 3 * STEPS + 1, put, 0, NULL},
    {"missing_flag_1", "aptt_missing", 3 * STEPS + 5, put, 1, NULL},
    {"missing_unflagged", "weight", 78, put, NAN, NULL},
    {"missing_action", "action", 79, put, NAN, NULL},
    {"missing_dose", "dose", 80, put, NAN, NULL},
    {"missing_reward", "reward", 81, put, NAN, NULL},
    {"constant_state", "weight", -1, put_all, 70, NULL},
    {"constant_action", "action", -1, one_bin, 0, NULL},
    {"constant_reward", "reward", -1, put_all, -1, NULL},
    {"out_of_range", "aptt", 6 * STEPS + 11, put, 350, NULL},
    {"negative_dose", "dose", 0, put, -5, NULL}, // the row is the first one of bin 0
    {"negative_age", "aptt_age", 6 * STEPS + 11, put, -1, NULL},
    {"extreme_value", "reward", 82, put, 1e9, NULL},
    {"sentinel", "weight", 83, twice, 999, NULL},
    {"impossible_age", "age", 23 * STEPS, put_episode, 300, NULL},
    {"fraction_as_percent", "spo2", -1, multiply, 0.01, NULL},
    {"fahrenheit", "temperature", 84, put, 98.6, NULL},
    {"unit_mix", "creatinine", 8 * STEPS, multiply, 88.42, NULL},
    {"age_too_old", "aptt_age", 6 * STEPS + 11, put, 40, NULL},
    {"age_changed", "aptt_age", 6 * STEPS + 6, add, 5, "aptt"},
    {"age_without_value", "aptt_age", 7 * STEPS, put, 3, NULL},
    {"value_without_age", "aptt_age", 7 * STEPS + 5, put, NAN, NULL},
    {"action_fraction", "action", 2, add, 0.5, NULL}, // the row is the first one below bin 5
    {"action_range", "action", 85, put, 7, NULL},
    {"action_unused", "action", -1, merge_bins, 4, NULL},
    {"action_gap", "action", -1, gap_in_numbers, 7, NULL},
    {"bin_overlap", "dose", 3, put, 10, NULL}, // the row is the first one of bin 4
    {"date", "extra", 0, dates, 20200101, NULL},
    {"identifier", "extra", 0, identifiers, 10006, NULL},
    {"next_mismatch", "next_lactate", 86, add, 1, NULL},
    {"duplicate_column", "creatinine", -1, become, 0, "weight"},
    {"leak_outcome", "weight", -1, become, 0, "died"},
    {"leak_outcome_near", "weight", -1, become, 1e-3, "died"},
    {"leak_reward", "weight", -1, become, 0, "reward"},
    {"leak_action", "weight", -1, become, 0, "action"},
    {"leak_future_action", "weight", -1, become, 1, "action"},
    {"leak_future_state", "weight", -1, become, 1, "creatinine"},
};

enum { COUNT = sizeof defects / sizeof *defects };


// the first row whose action is this bin, or below 5 where bin is -1
static int64_t row_of_bin(rgm_dataset *d, int bin) {
  int64_t r = 0;
  while (bin >= 0 ? get(d, "action", r) != bin : get(d, "action", r) > 4) {
    r++;
  }
  return r;
}


static void print(const rgm_dataset *d, const rgm_finding *f, int n) {
  for (int i = 0; i < n; i++) {
    cr_log_error("  %s row %lld column %s count %lld", f[i].kind, (long long)f[i].row,
                 f[i].column >= 0 ? d->column[f[i].column].name : "-", (long long)f[i].count);
  }
}


Test(defects, a_clean_table_has_none) {
  rgm_dataset *d = clean();
  rgm_finding *f;
  int n;
  cr_assert_eq(rgm_dataset_check(d, &f, &n), RGM_OK);
  print(d, f, n);
  cr_assert_eq(n, 0);
  rgm_dataset_free(d);
}


Test(defects, each_is_found_with_row_and_column_and_no_other) {
  for (int i = 0; i < COUNT; i++) {
    rgm_dataset *d = clean();
    defect x = defects[i];
    x.row = strcmp(x.kind, "negative_dose") == 0     ? row_of_bin(d, 0)
            : strcmp(x.kind, "action_fraction") == 0 ? row_of_bin(d, -1)
            : strcmp(x.kind, "bin_overlap") == 0     ? row_of_bin(d, 4)
                                                     : x.row;
    x.plant(d, &x);
    rgm_finding *f;
    int n;
    cr_assert_eq(rgm_dataset_check(d, &f, &n), RGM_OK);
    const bool one =
        n == 1 && strcmp(f->kind, x.kind) == 0 && f->row == x.row &&
        (x.column == NULL ? f->column == -1
                          : f->column >= 0 && strcmp(d->column[f->column].name, x.column) == 0);
    if (!one) {
      cr_log_error("%s, row %lld, column %s:", x.kind, (long long)x.row,
                   x.column != NULL ? x.column : "-");
      print(d, f, n);
    }
    cr_expect(one, "%s", x.kind);
    free(f);
    d->rows = ROWS;
    rgm_dataset_free(d);
  }
}


Test(defects, every_kind_has_a_defect_and_there_are_forty) {
  const char *const *kinds = rgm_dataset_kinds();
  int n = 0;
  for (; kinds[n] != NULL; n++) {
    bool planted = false;
    for (int i = 0; i < COUNT; i++) {
      planted = planted || strcmp(defects[i].kind, kinds[n]) == 0;
    }
    cr_expect(planted, "%s is never planted", kinds[n]);
  }
  cr_expect_eq(n, COUNT);
  cr_expect_geq(n, 40);
}


// ---- real data: no alarm -----------------------------------------------------------------------

Test(defects, no_alarm_on_real_data) {
  static const char *const files[] = {"door-human-hdf5/door-human.hdf5",
                                      "dtr-two-stage/twoStageCont.csv",
                                      "dtr-two-stage/twoStageCens.csv",
                                      "dtr-two-stage/twoStageSurv.csv",
                                      "dtr-two-stage/adhd_smart.csv",
                                      "rrt/dev_complete.csv",
                                      "rrt/val_cohort.csv",
                                      "rrt/val_nuisance.csv",
                                      "rrt/ref_dwols_boot999_authors.csv",
                                      "warfarin-pkpd/warfarin.csv",
                                      "mice-pool/nhanes.csv",
                                      "mice-pool/nhanes_norm_m20_completed.csv",
                                      "propofol-schnider1998/schnider1998.csv",
                                      "propofol-eleveld2018/eleveld_pk.csv",
                                      "propofol-eleveld2018/eleveld_pd.csv",
                                      "eicu-demo/apacheapsvar.csv.gz",
                                      "mimic3-demo/PROCEDURES_ICD.csv.gz",
                                      "mimic3-demo/derived/rrt.csv.gz",
                                      "mimic3-demo/derived/sofa.csv.gz",
                                      "mimic3-demo/derived/heightweight.csv.gz",
                                      "mimic3-demo/derived/elixhauser_quan.csv.gz",
                                      "icu-sepsis-mdp/expertPolicy.csv.gz",
                                      "icu-sepsis-mdp/transitions_sparse.csv.gz"};
  if (access("../shared/data", R_OK) != 0) {
    cr_skip_test("../shared/data is not here");
  }
  for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
    char path[256];
    rgm_dataset *d;
    rgm_finding *f;
    int n;
    snprintf(path, sizeof path, "../shared/data/%s", files[i]);
    cr_assert_eq(rgm_dataset_is_table(path) ? rgm_dataset_from_csv(path, &d)
                                            : rgm_dataset_read(path, &d),
                 RGM_OK, "%s", rgm_last_error());
    cr_assert_eq(rgm_dataset_check(d, &f, &n), RGM_OK);
    print(d, f, n);
    cr_expect_eq(n, 0, "%s", path);
    free(f);
    rgm_dataset_free(d);
  }
}
