// SPDX-License-Identifier: Apache-2.0
// The table of all checks of a data set, and those of its structure: roles, names, patients,
// episodes, time, flags, splits. A kind of defect is a row; a check hits rows and columns. No check
// tells a value.

#include "engine/dataset_audit.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>


void rgm_audit_hit(rgm_audit *a, int64_t row, int column) {
  rgm_finding *last = a->count > 0 ? &a->found[a->count - 1] : NULL;
  if (last != NULL && last->kind == a->check->kind && last->column == column) {
    last->count++;
    last->row = row >= 0 && row < last->row ? row : last->row;
    return;
  }
  if (a->count == a->room) {
    const int room = a->room > 0 ? 2 * a->room : 64;
    rgm_finding *more = realloc(a->found, (size_t)room * sizeof *more);
    if (more == NULL) {
      a->failed = true;
      return;
    }
    a->found = more;
    a->room = room;
  }
  a->found[a->count++] = (rgm_finding){.kind = a->check->kind,
                                       .text = a->check->text,
                                       .severity = a->check->severity,
                                       .row = row,
                                       .column = column,
                                       .count = 1};
}


// files of other programs say nothing of units and sources, tables from CSV nothing of roles
static bool is_own(const rgm_audit *a) {
  return strcmp(a->d->format, "regimen") == 0;
}


static bool has_roles(const rgm_audit *a) {
  return strcmp(a->d->format, "csv") != 0;
}


// ---- roles, names, notes -----------------------------------------------------------------------

static void no_role(rgm_audit *a, unsigned roles) {
  if (has_roles(a) && rgm_dataset_width(a->d, roles) == 0) {
    rgm_audit_hit(a, -1, -1);
  }
}


static void role_twice(rgm_audit *a, unsigned roles) {
  for (int i = 0; i < a->d->column_count; i++) {
    if (rgm_audit_is(a, i, roles) && rgm_dataset_role(a->d, a->d->column[i].role) != i) {
      rgm_audit_hit(a, -1, i);
    }
  }
}


static void name_twice(rgm_audit *a, unsigned arg) {
  (void)arg;
  for (int i = 0; i < a->d->column_count; i++) {
    for (int k = 0; k < i; k++) {
      // a CSV file without a header line has values for names
      if (strcasecmp(a->d->column[i].name, a->d->column[k].name) == 0 &&
          (has_roles(a) || strspn(a->d->column[i].name, "0123456789.-+eE") == 0)) {
        rgm_audit_hit(a, -1, i);
        break;
      }
    }
  }
}


// `arg` 0: is about a column that is not there; else the roles that must be about one
static void wrong_of(rgm_audit *a, unsigned arg) {
  for (int i = 0; i < a->d->column_count; i++) {
    const rgm_column *c = &a->d->column[i];
    const bool wrong = arg == 0 ? c->of[0] != '\0' && rgm_dataset_find(a->d, c->of) < 0
                                : rgm_audit_is(a, i, arg) && c->of[0] == '\0';
    if (wrong) {
      rgm_audit_hit(a, -1, i);
    }
  }
}


static void no_unit(rgm_audit *a, unsigned roles) {
  for (int i = 0; is_own(a) && i < a->d->column_count; i++) {
    if (rgm_audit_is(a, i, roles) && a->d->column[i].unit[0] == '\0') {
      rgm_audit_hit(a, -1, i);
    }
  }
}


// `arg` 0: no source; 1: no licence
static void no_note(rgm_audit *a, unsigned arg) {
  static const char *const heads[] = {"source", "licence"};
  bool has = false;
  for (int i = 0; i < a->d->note_count; i++) {
    has = has || strncmp(a->d->note[i].name, heads[arg], strlen(heads[arg])) == 0;
  }
  if (is_own(a) && !has) {
    rgm_audit_hit(a, -1, -1);
  }
}


static void no_rows(rgm_audit *a, unsigned arg) {
  (void)arg;
  if (a->rows == 0) {
    rgm_audit_hit(a, -1, -1);
  }
}


// ---- patients and episodes ---------------------------------------------------------------------

// Numbers 0..P-1, first seen in any order: one that is none, or larger than there are patients.
static void patient_not_index(rgm_audit *a, unsigned arg) {
  (void)arg;
  if (a->patient < 0) {
    return;
  }
  unsigned char *seen = calloc((size_t)a->rows + 1, 1);
  int64_t patients = 0;
  a->failed = a->failed || seen == NULL;
  for (int64_t r = 0; seen != NULL && r < a->rows; r++) {
    const double who = rgm_audit_get(a, a->patient, r);
    if (who >= 0 && who < (double)a->rows && who == floor(who)) {
      patients += seen[(int64_t)who] == 0;
      seen[(int64_t)who] = 1;
    } else {
      rgm_audit_hit(a, r, a->patient);
    }
  }
  for (int64_t r = 0; seen != NULL && r < a->rows; r++) {
    const double who = rgm_audit_get(a, a->patient, r);
    if (who >= (double)patients && who < (double)a->rows && who == floor(who)) {
      rgm_audit_hit(a, r, a->patient);
    }
  }
  free(seen);
}


static void episode_order(rgm_audit *a, unsigned back) {
  const int c = rgm_dataset_role(a->d, RGM_ROLE_EPISODE);
  double last = -1;
  for (int64_t e = 0; c >= 0 && e < a->episodes; e++) {
    const double number = rgm_audit_get(a, c, a->start[e]);
    const bool wrong = !(number > last);
    if (back ? wrong : !wrong && number != last + 1) {
      rgm_audit_hit(a, a->start[e], c);
    }
    last = number;
  }
}


static void episode_patients(rgm_audit *a, unsigned arg) {
  (void)arg;
  for (int64_t e = 0; a->patient >= 0 && e < a->episodes; e++) {
    for (int64_t r = a->start[e] + 1; r < a->start[e + 1]; r++) {
      if (rgm_audit_get(a, a->patient, r) != rgm_audit_get(a, a->patient, r - 1)) {
        rgm_audit_hit(a, r, a->patient);
      }
    }
  }
}


static void one_row(rgm_audit *a, unsigned arg) {
  (void)arg;
  for (int64_t e = 0; has_roles(a) && e < a->episodes; e++) {
    if (a->start[e + 1] - a->start[e] == 1) {
      rgm_audit_hit(a, a->start[e], rgm_dataset_role(a->d, RGM_ROLE_EPISODE));
    }
  }
}


// Two values that are the same, or both missing.
static bool same(const rgm_audit *a, int column, int64_t p, int64_t q) {
  const double x = rgm_audit_get(a, column, p), y = rgm_audit_get(a, column, q);
  return x == y || (isnan(x) && isnan(y));
}


static bool same_row(const rgm_audit *a, int64_t p, int64_t q) {
  for (int i = 0; i < a->d->column_count; i++) {
    if (!same(a, i, p, q)) {
      return false;
    }
  }
  return true;
}


static void duplicate_row(rgm_audit *a, unsigned arg) {
  (void)arg;
  for (int64_t e = 0; a->time >= 0 && e < a->episodes; e++) {
    for (int64_t r = a->start[e] + 1; r < a->start[e + 1]; r++) {
      if (same_row(a, r, r - 1)) {
        rgm_audit_hit(a, r, -1);
      }
    }
  }
}


enum {
  STAY = RGM_ROLE_BIT(STATE) | RGM_ROLE_BIT(ACTION) | RGM_ROLE_BIT(DOSE) | RGM_ROLE_BIT(REWARD) |
         RGM_ROLE_BIT(AGE),
};

typedef struct stay {
  uint64_t hash;
  int64_t episode;
} stay;


static int by_hash(const void *a_, const void *b_) {
  const stay *a = a_, *b = b_;
  return a->hash != b->hash ? (a->hash > b->hash) - (a->hash < b->hash)
                            : (a->episode > b->episode) - (a->episode < b->episode);
}


static uint64_t hash_stay(const rgm_audit *a, int64_t e, bool *measured) {
  uint64_t hash = 0xcbf29ce484222325u;
  for (int i = 0; i < a->d->column_count; i++) {
    for (int64_t r = a->start[e]; rgm_audit_is(a, i, STAY) && r < a->start[e + 1]; r++) {
      double x = rgm_audit_get(a, i, r);
      uint64_t bits;
      *measured = *measured || (x != floor(x) && a->d->column[i].role == RGM_ROLE_STATE);
      x = isnan(x) ? NAN : x;
      memcpy(&bits, &x, sizeof bits);
      hash = (hash ^ bits) * 0x100000001b3u;
      hash ^= hash >> 29;
    }
  }
  return hash;
}


static bool same_stay(const rgm_audit *a, int64_t e, int64_t f) {
  const int64_t n = a->start[e + 1] - a->start[e];
  bool equal = a->start[f + 1] - a->start[f] == n;
  for (int i = 0; i < a->d->column_count && equal; i++) {
    for (int64_t r = 0; rgm_audit_is(a, i, STAY) && equal && r < n; r++) {
      equal = same(a, i, a->start[e] + r, a->start[f] + r);
    }
  }
  return equal;
}


// Stays of patients: with measured values that are no whole numbers; a game may well repeat itself.
static void duplicate_episode(rgm_audit *a, unsigned arg) {
  (void)arg;
  stay *all = malloc(((size_t)a->episodes + 1) * sizeof *all);
  int64_t n = 0;
  a->failed = a->failed || all == NULL;
  for (int64_t e = 0; all != NULL && has_roles(a) && e < a->episodes; e++) {
    bool measured = false;
    all[n] = (stay){hash_stay(a, e, &measured), e};
    n += measured && a->start[e + 1] - a->start[e] > 1;
  }
  if (all != NULL) {
    qsort(all, (size_t)n, sizeof *all, by_hash);
  }
  for (int64_t k = 1; k < n; k++) {
    if (all[k].hash == all[k - 1].hash && same_stay(a, all[k].episode, all[k - 1].episode)) {
      rgm_audit_hit(a, a->start[all[k].episode], rgm_dataset_role(a->d, RGM_ROLE_EPISODE));
    }
  }
  free(all);
}


// ---- time --------------------------------------------------------------------------------------

enum { MISSING_TIME, BACK, AGAIN };

static void time_order(rgm_audit *a, unsigned what) {
  for (int64_t e = 0; a->time >= 0 && e < a->episodes; e++) {
    for (int64_t r = a->start[e]; r < a->start[e + 1]; r++) {
      const double now = rgm_audit_get(a, a->time, r);
      const double before = r > a->start[e] ? rgm_audit_get(a, a->time, r - 1) : -INFINITY;
      // rows that are alike altogether are told as such
      const bool hit = what == MISSING_TIME ? isnan(now)
                       : what == BACK       ? now < before
                                            : now == before && !same_row(a, r, r - 1);
      if (hit) {
        rgm_audit_hit(a, r, a->time);
      }
    }
  }
}


// Where nine steps of ten are alike, the others are told.
static void time_step(rgm_audit *a, unsigned arg) {
  (void)arg;
  int64_t n = 0, alike = 0;
  for (int64_t e = 0; a->time >= 0 && e < a->episodes; e++) {
    for (int64_t r = a->start[e] + 1; r < a->start[e + 1]; r++) {
      a->scratch[n++] = rgm_audit_get(a, a->time, r) - rgm_audit_get(a, a->time, r - 1);
    }
  }
  const double usual = n > 0 ? rgm_median(a->scratch, n) : NAN, slack = 1e-4 * fabs(usual);
  for (int64_t i = 0; i < n; i++) {
    alike += fabs(a->scratch[i] - usual) <= slack;
  }
  if (n < 10 || !(usual > 0) || 10 * alike < 9 * n) {
    return;
  }
  for (int64_t e = 0; e < a->episodes; e++) {
    for (int64_t r = a->start[e] + 1; r < a->start[e + 1]; r++) {
      const double step = rgm_audit_get(a, a->time, r) - rgm_audit_get(a, a->time, r - 1);
      if (step > 0 && fabs(step - usual) > slack) {
        rgm_audit_hit(a, r, a->time);
      }
    }
  }
}


// ---- ends and splits ---------------------------------------------------------------------------

static void flag_value(rgm_audit *a, unsigned roles) {
  for (int i = 0; i < a->d->column_count; i++) {
    for (int64_t r = 0; rgm_audit_is(a, i, roles) && r < a->rows; r++) {
      const double flag = rgm_audit_get(a, i, r);
      if (flag != 0 && flag != 1) {
        rgm_audit_hit(a, r, i);
      }
    }
  }
}


static bool is_set(const rgm_audit *a, int column, int64_t row) {
  return column >= 0 && rgm_audit_get(a, column, row) != 0;
}


static void end_inside(rgm_audit *a, unsigned role) {
  const int c = rgm_dataset_role(a->d, (rgm_role)role);
  for (int64_t e = 0; c >= 0 && e < a->episodes; e++) {
    for (int64_t r = a->start[e]; r < a->start[e + 1] - 1; r++) {
      if (is_set(a, c, r)) {
        rgm_audit_hit(a, r, c);
      }
    }
  }
}


static void both_flags(rgm_audit *a, unsigned arg) {
  (void)arg;
  for (int64_t r = 0; r < a->rows; r++) {
    if (is_set(a, a->terminated, r) && is_set(a, a->truncated, r)) {
      rgm_audit_hit(a, r, a->truncated);
    }
  }
}


static void no_end(rgm_audit *a, unsigned arg) {
  (void)arg;
  for (int64_t e = 0; (a->terminated >= 0 || a->truncated >= 0) && e < a->episodes; e++) {
    const int64_t last = a->start[e + 1] - 1;
    if (!is_set(a, a->terminated, last) && !is_set(a, a->truncated, last)) {
      rgm_audit_hit(a, last, a->terminated >= 0 ? a->terminated : a->truncated);
    }
  }
}


static void split_value(rgm_audit *a, unsigned arg) {
  (void)arg;
  for (int64_t r = 0; a->split >= 0 && r < a->rows; r++) {
    const double s = rgm_audit_get(a, a->split, r);
    if (!(s == RGM_TRAIN || s == RGM_VALIDATION || s == RGM_TEST)) {
      rgm_audit_hit(a, r, a->split);
    }
  }
}


static void split_patient(rgm_audit *a, unsigned arg) {
  (void)arg;
  if (a->split < 0 || a->patient < 0) {
    return;
  }
  // the split of each patient as first seen
  for (int64_t r = 0; r < a->rows; r++) {
    a->scratch[r] = NAN;
  }
  for (int64_t r = 0; r < a->rows; r++) {
    const double who = rgm_audit_get(a, a->patient, r), part = rgm_audit_get(a, a->split, r);
    if (!(who >= 0 && who < (double)a->rows)) {
      continue;
    }
    double *first = &a->scratch[(int64_t)who];
    if (isnan(*first)) {
      *first = part;
    } else if (*first != part) {
      rgm_audit_hit(a, r, a->split);
    }
  }
}


static void split_empty(rgm_audit *a, unsigned arg) {
  (void)arg;
  bool any = a->split < 0 || a->rows == 0;
  for (int64_t r = 0; !any && r < a->rows; r++) {
    any = rgm_audit_get(a, a->split, r) == RGM_TRAIN;
  }
  if (!any) {
    rgm_audit_hit(a, -1, a->split);
  }
}


// ---- the table ---------------------------------------------------------------------------------

#define BIT RGM_ROLE_BIT
#define ALL ((1u << RGM_ROLES) - 1)

static const rgm_check_row checks[] = {
    {"no_rows", RGM_ERROR, no_rows, 0, "there are no rows; look at the import's flow chart"},
    {"no_patient", RGM_ERROR, no_role, BIT(PATIENT),
     "no column says whose row it is, so nothing can be split by patient; add one"},
    {"no_episode", RGM_ERROR, no_role, BIT(EPISODE), "no column numbers the episodes; add one"},
    {"no_time", RGM_ERROR, no_role, BIT(TIME), "no column has the time; add one"},
    {"no_state", RGM_ERROR, no_role, BIT(STATE), "no column is a state; give columns that role"},
    {"no_action", RGM_ERROR, no_role, BIT(ACTION), "no column is an action; give one that role"},
    {"no_reward", RGM_WARNING, no_role, BIT(REWARD) | BIT(OUTCOME),
     "neither reward nor outcome: nothing can be learned but what was done"},
    {"no_flags", RGM_ERROR, no_role, BIT(TERMINATED) | BIT(TRUNCATED),
     "neither terminated nor truncated: where episodes end, and how, is not told"},
    {"role_twice", RGM_ERROR, role_twice,
     BIT(PATIENT) | BIT(EPISODE) | BIT(TIME) | BIT(TERMINATED) | BIT(TRUNCATED) | BIT(SPLIT) |
         BIT(REWARD),
     "a second column of a role that only one can have; make it `other`"},
    {"name_twice", RGM_ERROR, name_twice, 0, "another column has this name, in some case"},
    {"of_unknown", RGM_ERROR, wrong_of, 0, "it is about (of) a column that is not there"},
    {"of_missing", RGM_ERROR, wrong_of, BIT(AGE) | BIT(MISSING) | BIT(NEXT),
     "it does not say which column it is about; set `of`"},
    {"no_unit", RGM_HINT, no_unit, BIT(STATE) | BIT(TIME) | BIT(AGE),
     "it has no unit; say \"1\" for a pure number"},
    {"dose_no_unit", RGM_ERROR, no_unit, BIT(DOSE), "a dose without a unit; never guess one"},
    {"no_source", RGM_HINT, no_note, 0, "no note about the sources (source.*) and their digests"},
    {"no_licence", RGM_HINT, no_note, 1, "no note about the licence of the data"},
    {"patient_not_index", RGM_ERROR, patient_not_index, 0,
     "patients are not numbered 0, 1, 2, ...: an identifier of a hospital must not get here"},
    {"episode_unsorted", RGM_ERROR, episode_order, 1,
     "an episode's number is not above the one before; sort rows by episode, then time"},
    {"episode_gap", RGM_WARNING, episode_order, 0, "episode numbers leave some out; number anew"},
    {"episode_patients", RGM_ERROR, episode_patients, 0, "the patient changes within an episode"},
    {"one_row_episode", RGM_WARNING, one_row, 0, "an episode of one row has no transition"},
    {"duplicate_row", RGM_ERROR, duplicate_row, 0, "the same row as the one before; drop one"},
    {"duplicate_episode", RGM_WARNING, duplicate_episode, 0,
     "another episode has the same values throughout: the same stay twice?"},
    {"time_missing", RGM_ERROR, time_order, MISSING_TIME, "the time is missing"},
    {"time_unsorted", RGM_ERROR, time_order, BACK,
     "time goes back within an episode; sort its rows by time"},
    {"time_repeated", RGM_ERROR, time_order, AGAIN,
     "two different rows of an episode at one time; merge them"},
    {"time_step", RGM_WARNING, time_step, 0,
     "a longer or shorter step than nearly all others: are rows missing?"},
    {"flag_value", RGM_ERROR, flag_value, BIT(TERMINATED) | BIT(TRUNCATED) | BIT(MISSING),
     "a flag that is neither 0 nor 1"},
    {"terminated_inside", RGM_ERROR, end_inside, RGM_ROLE_TERMINATED,
     "terminated before the last row of its episode; is the flag inverted (done = 0)?"},
    {"truncated_inside", RGM_ERROR, end_inside, RGM_ROLE_TRUNCATED,
     "truncated (a time-out) before the last row of its episode"},
    {"both_flags", RGM_ERROR, both_flags, 0, "terminated and truncated at once; choose one"},
    {"no_end", RGM_ERROR, no_end, 0,
     "the last row of an episode is neither terminated nor truncated (no terminal, no time-out)"},
    {"split_value", RGM_ERROR, split_value, 0, "a split that is not 0, 1 or 2"},
    {"split_patient", RGM_ERROR, split_patient, 0,
     "a patient in two splits: the test would know the answer; split by patient"},
    {"split_empty", RGM_WARNING, split_empty, 0, "no row is for training"},
    {"infinite", RGM_ERROR, rgm_audit_infinite, ALL, "an infinite value"},
    {"all_missing", RGM_ERROR, rgm_audit_all_missing, ALL, "all values are missing; drop it"},
    {"mostly_missing", RGM_HINT, rgm_audit_mostly_missing, BIT(STATE),
     "missing in more than 19 of 20 rows"},
    {"missing_flag_0", RGM_ERROR, rgm_audit_flag_on_missing, BIT(MISSING),
     "its flag says that the value is there, but it is missing"},
    {"missing_flag_1", RGM_ERROR, rgm_audit_flag_on_value, BIT(MISSING),
     "its flag says that the value is missing, but it is there"},
    {"missing_unflagged", RGM_WARNING, rgm_audit_missing_unflagged, BIT(STATE),
     "values are missing and no column flags them"},
    {"missing_action", RGM_ERROR, rgm_audit_missing_value, BIT(ACTION), "the action is missing"},
    {"missing_dose", RGM_ERROR, rgm_audit_missing_value, BIT(DOSE),
     "the dose is missing; no dose is 0"},
    {"missing_reward", RGM_ERROR, rgm_audit_missing_value, BIT(REWARD), "the reward is missing"},
    {"constant_state", RGM_WARNING, rgm_audit_constant_column, BIT(STATE),
     "the same in all rows, so it says nothing; drop it"},
    {"constant_action", RGM_WARNING, rgm_audit_constant_column, BIT(ACTION),
     "the same in all rows, so nothing can be learned about it"},
    {"constant_reward", RGM_WARNING, rgm_audit_constant_column, BIT(REWARD),
     "the same in all rows, so nothing can be learned"},
    {"out_of_range", RGM_ERROR, rgm_audit_out_of_range, ALL,
     "outside of the column's plausible range: a typing error or another unit"},
    {"negative_dose", RGM_ERROR, rgm_audit_negative, BIT(DOSE), "a negative dose"},
    {"negative_age", RGM_ERROR, rgm_audit_negative, BIT(AGE),
     "a negative time since the measurement: it would come from the future"},
    {"extreme_value", RGM_WARNING, rgm_audit_extreme, BIT(STATE) | BIT(DOSE) | BIT(REWARD),
     "a million times as far from the median as nearly all others"},
    {"sentinel", RGM_ERROR, rgm_audit_sentinel, BIT(STATE) | BIT(DOSE) | BIT(OUTCOME),
     "a code for `missing` (999, -99, ...) among the values; make it missing"},
    {"impossible_age", RGM_ERROR, rgm_audit_impossible_age, BIT(STATE) | BIT(OTHER),
     "an age above 120 years: a birth date that was shifted"},
    {"fraction_as_percent", RGM_WARNING, rgm_audit_fraction_as_percent, BIT(STATE),
     "the unit is %, but no value is above 1; multiply by 100?"},
    {"fahrenheit", RGM_WARNING, rgm_audit_fahrenheit, BIT(STATE),
     "the unit is degrees Celsius, but no patient is that hot; Fahrenheit?"},
    {"unit_mix", RGM_WARNING, rgm_audit_unit_mix, BIT(STATE) | BIT(DOSE),
     "patients fall into two groups apart by the factor between two units; convert one of them"},
    {"age_too_old", RGM_ERROR, rgm_audit_age_too_old, BIT(AGE),
     "the time since the measurement grew by more than the time that went by"},
    {"age_changed", RGM_ERROR, rgm_audit_age_changed, BIT(AGE),
     "the value changed, but the time since its measurement says that nothing was measured"},
    {"age_without_value", RGM_ERROR, rgm_audit_age_without_value, BIT(AGE),
     "a time since the measurement of a value that is missing"},
    {"value_without_age", RGM_ERROR, rgm_audit_value_without_age, BIT(AGE),
     "a value whose time since the measurement is missing"},
    {"action_fraction", RGM_ERROR, rgm_audit_action_fraction, BIT(ACTION),
     "a bin that is no whole number"},
    {"action_range", RGM_ERROR, rgm_audit_action_range, BIT(ACTION),
     "a bin outside of 0 ... choices - 1"},
    {"action_unused", RGM_WARNING, rgm_audit_action_unused, BIT(ACTION),
     "one of its bins was never used; its value cannot be learned"},
    {"action_gap", RGM_WARNING, rgm_audit_action_gap, BIT(ACTION),
     "action numbers leave some out or do not start at 0; number them anew or set choices"},
    {"bin_overlap", RGM_ERROR, rgm_audit_bin_overlap, BIT(DOSE),
     "doses of one bin of the action reach into those of the next"},
    {"date", RGM_WARNING, rgm_audit_date, BIT(STATE) | BIT(OTHER) | BIT(OUTCOME),
     "looks like dates, which identify patients; make them times since a start"},
    {"identifier", RGM_WARNING, rgm_audit_identifier, BIT(STATE) | BIT(OTHER),
     "a large whole number of each patient's own: an identifier? drop it"},
    {"next_mismatch", RGM_ERROR, rgm_audit_next_mismatch, BIT(NEXT),
     "not what the next row of the episode has"},
    {"duplicate_column", RGM_WARNING, rgm_audit_duplicate_column, BIT(STATE),
     "equal to another state column in all rows; drop one"},
    {"leak_outcome", RGM_ERROR, rgm_audit_leak_equal, BIT(OUTCOME),
     "a state that equals the outcome: the policy would see what is to come"},
    {"leak_outcome_near", RGM_WARNING, rgm_audit_leak_near, BIT(OUTCOME),
     "a state that all but tells the outcome: is it known at that time?"},
    {"leak_reward", RGM_ERROR, rgm_audit_leak_equal, BIT(REWARD),
     "a state that equals the reward of the same row: it is not known yet"},
    {"leak_action", RGM_ERROR, rgm_audit_leak_equal, BIT(ACTION),
     "a state that equals the action of the same row: it is not chosen yet"},
    {"leak_future_action", RGM_ERROR, rgm_audit_leak_future, BIT(ACTION),
     "a state that equals the action of the next row: shifted the wrong way?"},
    {"leak_future_state", RGM_ERROR, rgm_audit_leak_future, BIT(STATE),
     "a state that equals another one of the next row: shifted the wrong way?"},
};

enum { KINDS = sizeof checks / sizeof *checks };


const char *const *rgm_dataset_kinds(void) {
  static const char *kinds[KINDS + 1];
  for (int i = 0; i < KINDS; i++) {
    kinds[i] = checks[i].kind;
  }
  return kinds;
}


rgm_status rgm_dataset_check(const rgm_dataset *d, rgm_finding **out, int *count) {
  rgm_audit a = {.d = d,
                 .rows = d->rows,
                 .patient = rgm_dataset_role(d, RGM_ROLE_PATIENT),
                 .time = rgm_dataset_role(d, RGM_ROLE_TIME),
                 .terminated = rgm_dataset_role(d, RGM_ROLE_TERMINATED),
                 .truncated = rgm_dataset_role(d, RGM_ROLE_TRUNCATED),
                 .split = rgm_dataset_role(d, RGM_ROLE_SPLIT)};
  a.start = rgm_dataset_episodes(d, &a.episodes);
  // without episodes their order and ends cannot be judged
  a.episodes = rgm_dataset_role(d, RGM_ROLE_EPISODE) >= 0 ? a.episodes : 0;
  a.scratch = malloc(((size_t)d->rows + 1) * sizeof *a.scratch);
  a.failed = a.start == NULL || a.scratch == NULL;
  for (int i = 0; i < KINDS && !a.failed; i++) {
    a.check = &checks[i];
    a.check->run(&a, a.check->arg);
  }
  free(a.scratch);
  free(a.start);
  *out = a.found;
  *count = a.count;
  if (a.failed) {
    free(a.found);
    *out = NULL;
    *count = 0;
    return rgm_fail(RGM_EMEMORY, "no memory to check a data set of %lld rows", (long long)d->rows);
  }
  return RGM_OK;
}
