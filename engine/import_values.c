// SPDX-License-Identifier: Apache-2.0
// A table by a column map onto the hourly grid of the hospital importers: with one row for each
// measured value (id, time, name or code, value, unit; columns.variable), or wide, where a row's
// cells are its values. Read twice in bounded memory: first doses, ends, outcomes and what a stay
// has once, which settle the cohort; then what was measured. Both forms of the same values give
// the same data set, in any order of rows.

#include "engine/import.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { OUTCOMES = 16, LONGEST = IMPORT_NAME_SIZE };

// What a value may be of: a variable's number, or one of these.
enum { DOSE = IMPORT_VARIABLES, BOLUS, DEATH, DISCHARGE, OUTCOME, TARGETS = OUTCOME + OUTCOMES };

typedef struct values {
  import *m;
  rgm_csv *csv;
  int table;
  bool second;                                           // the second pass
  int id, episode, time, end, name, value, unit, status; // columns, -1: none
  int of[TARGETS];                                       // a wide table's column of each, or -1
  import_names names;
  import_texts keys; // id, NUL, episode
  // of each key: variables | outcomes | their times | death, discharge; NaN: not told
  double *fact;
  int64_t fact_room;
  int width, outcomes;
  int64_t *rank; // of a key in the order of ids
  int64_t unnamed, dropped;
  import_clock clock;
} values;


// ---- names and columns -------------------------------------------------------------------------

// a target by its names in a long table, by its column in a wide one
static rgm_status add_target(values *t, const char *names, int target, const char *key) {
  t->of[target] = -1;
  if (names[0] == '\0') {
    return RGM_OK;
  }
  return t->name >= 0 ? rgm_import_names_add(&t->names, names, target, key)
                      : rgm_csv_need(t->csv, names, &t->of[target]);
}


rgm_status rgm_import_find_outcome(const char **at, char name[64]) {
  *at += strspn(*at, " ");
  const size_t size = strcspn(*at, " ,");
  if (size == 0 || size > 63) {
    return rgm_fail(RGM_ECONFIG, "columns.outcomes: names of at most 63 letters, by commas");
  }
  memcpy(name, *at, size);
  name[size] = '\0';
  *at += strcspn(*at, ",");
  *at += **at == ',';
  return RGM_OK;
}


static rgm_status add_outcomes(values *t) {
  t->outcomes = 0;
  for (const char *at = t->m->rules.key.outcome_columns; *at != '\0';) {
    char *name = t->m->panel.outcome_name[t->outcomes];
    if (t->outcomes == OUTCOMES) {
      return rgm_fail(RGM_ECONFIG, "columns.outcomes: more than %d", OUTCOMES);
    }
    RGM_TRY(rgm_import_find_outcome(&at, name));
    RGM_TRY(add_target(t, name, OUTCOME + t->outcomes++, "columns.outcomes"));
  }
  t->m->panel.outcome_count = t->outcomes;
  return RGM_OK;
}


// what the rules must and must not say for this form
static rgm_status check_rules(const values *t) {
  const import_rules *r = &t->m->rules;
  const import_keys *key = &r->key;
  if (key->dose_column[0] == '\0' || key->action_column[0] != '\0' ||
      key->reward_column[0] != '\0' || key->terminated_column[0] != '\0' ||
      key->truncated_column[0] != '\0') {
    return rgm_fail(RGM_ECONFIG, "columns.steps: hours goes with columns.dose, and without "
                                 "columns.action, reward, terminated and truncated");
  }
  if (key->unit_column[0] != '\0' && r->dose_unit_count == 0) {
    return rgm_fail(RGM_ECONFIG, "dose.units: list how the column %s spells the unit of rates",
                    key->unit_column);
  }
  for (int v = 0; v < r->variable_count; v++) {
    if (r->variable[v].how == HOW_GCS || r->variable[v].how == HOW_WEIGHT) {
      return rgm_fail(RGM_ECONFIG,
                      "variable.%s.how: last, static, age, male or admission in a table of csv",
                      r->variable[v].name);
    }
  }
  return RGM_OK;
}


void rgm_import_need_units(import_rules *rules) {
  for (int v = 0; v < rules->variable_count; v++) {
    import_variable *var = &rules->variable[v];
    if (var->unit_count == 0) {
      var->accepted[var->unit_count++] = (import_unit){.factor = 1};
      const size_t room = sizeof var->accepted[0].spelling - 1;
      memcpy(var->accepted[0].spelling, var->unit, strnlen(var->unit, room)); // zeroed before
      if (strcmp(var->unit, "1") == 0) {
        var->accepted[var->unit_count++] = (import_unit){.factor = 1}; // an empty cell
      }
    }
  }
}


bool rgm_import_keeps(const import_keys *key, const char *status) {
  return !rgm_import_in_list(key->drop_rows, status) &&
         (key->keep_rows[0] == '\0' || rgm_import_in_list(key->keep_rows, status));
}


static rgm_status optional_column(const rgm_csv *csv, const char *name, int *column) {
  *column = -1;
  return name[0] == '\0' ? RGM_OK : rgm_csv_need(csv, name, column);
}


static rgm_status find_columns(values *t) {
  const import_rules *r = &t->m->rules;
  const import_keys *key = &r->key;
  RGM_TRY(check_rules(t));
  RGM_TRY(rgm_csv_need(t->csv, key->id, &t->id));
  RGM_TRY(rgm_csv_need(t->csv, key->time, &t->time));
  RGM_TRY(optional_column(t->csv, key->episode, &t->episode));
  RGM_TRY(optional_column(t->csv, key->variable_column, &t->name));
  RGM_TRY(optional_column(t->csv, t->name >= 0 ? key->value_column : "", &t->value));
  RGM_TRY(optional_column(t->csv, t->name >= 0 ? key->unit_column : "", &t->unit));
  RGM_TRY(optional_column(t->csv, key->end_column, &t->end));
  RGM_TRY(optional_column(t->csv, key->status_column, &t->status));
  for (int v = 0; v < r->variable_count; v++) {
    const import_variable *var = &r->variable[v];
    const char *column = var->column[0] != '\0' ? var->column : var->name;
    RGM_TRY(
        add_target(t, t->name >= 0 && var->names[0] != '\0' ? var->names : column, v, var->name));
  }
  RGM_TRY(add_target(t, key->dose_column, DOSE, "columns.dose"));
  RGM_TRY(add_target(t, key->bolus_column, BOLUS, "columns.bolus"));
  RGM_TRY(add_target(t, key->death_column, DEATH, "columns.death"));
  RGM_TRY(add_target(t, key->discharge_column, DISCHARGE, "columns.discharge"));
  RGM_TRY(add_outcomes(t));
  if (t->unit >= 0) {
    rgm_import_need_units(&t->m->rules);
  }
  t->width = r->variable_count + 2 * t->outcomes + 2;
  return RGM_OK;
}


// ---- the first pass ----------------------------------------------------------------------------

// the number of a row's patient and episode; in the second pass -1 for those not known
static rgm_status key_of(values *t, const rgm_csv_field *f, int64_t *key) {
  char text[2 * LONGEST];
  const size_t id = f[t->id].size, episode = t->episode < 0 ? 0 : f[t->episode].size;
  if (id == 0 || id >= LONGEST || episode >= LONGEST) {
    return rgm_import_bad(t->csv, id == 0 || id >= LONGEST ? t->id : t->episode,
                          id == 0 ? "empty where an id is expected" : "an id of over 255 letters");
  }
  memcpy(text, f[t->id].text, id + 1);
  memcpy(text + id + 1, t->episode < 0 ? "" : f[t->episode].text, episode);
  if (t->second) {
    *key = rgm_import_text_find(&t->keys, text, id + 1 + episode);
    return RGM_OK;
  }
  RGM_TRY(rgm_import_text_add(&t->keys, text, id + 1 + episode, key));
  if (t->keys.count > t->fact_room) {
    const int64_t room = 2 * t->fact_room + 64;
    double *larger = realloc(t->fact, (size_t)room * (size_t)t->width * sizeof *larger);
    if (larger == NULL) {
      return rgm_fail(RGM_EMEMORY, "%s: no memory for its ids", rgm_csv_path(t->csv));
    }
    for (int64_t i = t->fact_room * t->width; i < room * t->width; i++) {
      larger[i] = NAN;
    }
    t->fact = larger;
    t->fact_room = room;
  }
  return RGM_OK;
}


static rgm_status seconds_of(values *t, const rgm_csv_field *f, int column, int64_t *seconds) {
  double hours;
  RGM_TRY(rgm_import_time(t->m, t->csv, f, column, &t->clock, &hours));
  *seconds = (int64_t)llround(hours * HOUR);
  return RGM_OK;
}


// a rate or an amount in its unit; NaN where that is not known
static rgm_status convert_dose(values *t, const char *unit, import_dose *d) {
  const import_rules *r = &t->m->rules;
  const bool bolus = d->kind == DOSE_BOLUS;
  const import_unit *units = bolus ? r->bolus_unit : r->dose_unit;
  const int count = bolus ? r->bolus_unit_count : r->dose_unit_count;
  if (count == 0 && t->unit < 0) {
    return RGM_OK;
  }
  const import_unit *u = rgm_import_find_unit(units, count, unit);
  if (u != NULL && !(u->per_ml && r->key.concentration <= 0)) {
    d->value = (d->value + u->offset) * u->factor * (u->per_ml ? r->key.concentration : 1);
    d->per_kg = u->per_kg;
    return RGM_OK;
  }
  if (r->key.unknown_unit == UNKNOWN_REFUSE) {
    return rgm_import_bad(t->csv, t->unit >= 0 ? t->unit : t->of[bolus ? BOLUS : DOSE],
                          "a dose in a unit that is not known; see dose.units, dose.bolus_units, "
                          "dose.concentration");
  }
  d->value = NAN;
  return rgm_import_drop_rows(t->m, r->key.table[t->table],
                              bolus ? "bolus in an unknown unit" : "rate in an unknown unit", 1);
}


static rgm_status take_dose(values *t, const rgm_csv_field *f, int64_t key, int target, int column,
                            const char *unit) {
  import_dose d = {.stay_id = key, .kind = target == BOLUS ? DOSE_BOLUS : DOSE_POINT};
  const char *table = t->m->rules.key.table[t->table];
  const rgm_csv_kind kind = rgm_csv_number(f[column], &d.value);
  if (kind != RGM_CSV_NUMBER) {
    return rgm_import_drop_rows(
        t->m, table, kind == RGM_CSV_EMPTY ? "dose without a number" : "dose that is no number", 1);
  }
  if (d.value < 0) {
    return rgm_import_bad(t->csv, column, "a dose below 0");
  }
  RGM_TRY(seconds_of(t, f, t->time, &d.start));
  d.end = d.start;
  if (d.kind == DOSE_POINT && t->end >= 0 && f[t->end].size > 0) {
    d.kind = DOSE_INTERVAL;
    RGM_TRY(seconds_of(t, f, t->end, &d.end));
    if (d.end < d.start) {
      return rgm_import_drop_rows(t->m, table, "ends before it begins", 1);
    }
  }
  RGM_TRY(convert_dose(t, unit, &d));
  if (d.kind != DOSE_BOLUS && !d.per_kg && d.value > t->m->rules.key.rate_max) {
    d.value = NAN;
    RGM_TRY(rgm_import_drop_rows(t->m, table, "rate above dose.rate_max", 1));
  }
  return d.kind == DOSE_BOLUS && isnan(d.value) ? RGM_OK : rgm_import_add_dose(t->m, &d);
}


// a variable's value by its rules; *used: whether it counts
static rgm_status value_of(values *t, rgm_csv_field f, int v, const char *unit, double *value,
                           bool *used) {
  import_variable *var = &t->m->rules.variable[v];
  const int64_t unknown = var->count.unknown_unit;
  if (var->how == HOW_AGE && f.text[0] == '>') {
    *value = t->m->rules.key.age_over_89; // "> 89"
    *used = true;
    var->count.used++;
    return RGM_OK;
  }
  *used = rgm_import_value(var, f, unit, value);
  if (var->count.unknown_unit > unknown && t->m->rules.key.unknown_value_unit == VALUE_REFUSE) {
    return rgm_import_bad(t->csv, t->unit >= 0 ? t->unit : t->of[v],
                          "a unit that is not known; see variable.*.units, columns.unknown_unit");
  }
  return RGM_OK;
}


// what a stay has once
static rgm_status take_constant(values *t, const rgm_csv_field *f, int64_t key, int v, int column,
                                const char *unit) {
  double value, *fact = &t->fact[key * t->width + v];
  bool used;
  RGM_TRY(value_of(t, f[column], v, unit, &value, &used));
  if (used && !isnan(*fact) && *fact != value) {
    return rgm_import_bad(t->csv, column,
                          "another value than before of what is told once; how: last changes");
  }
  *fact = used ? value : *fact;
  return RGM_OK;
}


// The time of death or discharge, the first one: a value of 0 says that it was none. Outcomes: the
// last one told, of the same time the largest; those without a time come first.
static rgm_status take_end(values *t, const rgm_csv_field *f, int64_t key, int target, int column) {
  double *fact = &t->fact[key * t->width], value = 1;
  const int variables = t->m->rules.variable_count;
  const rgm_csv_kind kind = rgm_csv_number(f[column], &value);
  int64_t time = INT64_MIN / 2;
  if (target >= OUTCOME && kind != RGM_CSV_NUMBER) {
    return rgm_import_drop_rows(t->m, t->m->rules.key.table[t->table], "outcome that is no number",
                                1);
  }
  if (target < OUTCOME && kind == RGM_CSV_NUMBER && value == 0) {
    return RGM_OK;
  }
  if (target < OUTCOME || f[t->time].size > 0) {
    RGM_TRY(seconds_of(t, f, t->time, &time));
  }
  if (target < OUTCOME) {
    double *first = &fact[variables + 2 * t->outcomes + (target == DISCHARGE)];
    *first = isnan(*first) || (double)time < *first ? (double)time : *first;
    return RGM_OK;
  }
  double *last = &fact[variables + t->outcomes + target - OUTCOME];
  double *told = &fact[variables + target - OUTCOME];
  if (isnan(*last) || (double)time > *last || ((double)time == *last && value > *told)) {
    *last = (double)time;
    *told = value;
  }
  return RGM_OK;
}


// ---- rows of both passes -----------------------------------------------------------------------

static bool is_event(const values *t, int target) {
  return target < IMPORT_VARIABLES && !rgm_import_is_constant(&t->m->rules.variable[target]);
}


static rgm_status take_event(values *t, const rgm_csv_field *f, int64_t key, int v, int column,
                             const char *unit) {
  double value;
  bool used;
  int64_t time;
  const import_stay *s = key < 0 ? NULL : rgm_import_find_stay(t->m, t->rank[key]);
  if (s == NULL) {
    return RGM_OK;
  }
  RGM_TRY(value_of(t, f[column], v, unit, &value, &used));
  if (!used) {
    return RGM_OK;
  }
  RGM_TRY(seconds_of(t, f, t->time, &time));
  return rgm_import_add_event(t->m, s - t->m->stay, t->m->rules.variable[v].slot, time, value);
}


static rgm_status take(values *t, const rgm_csv_field *f, int64_t key, int target, int column) {
  const char *unit = t->unit >= 0 ? f[t->unit].text : "";
  if (is_event(t, target) != t->second) {
    return RGM_OK;
  }
  return t->second                   ? take_event(t, f, key, target, column, unit)
         : target < IMPORT_VARIABLES ? take_constant(t, f, key, target, column, unit)
         : target <= BOLUS           ? take_dose(t, f, key, target, column, unit)
                                     : take_end(t, f, key, target, column);
}


// rows that the second pass is about
static bool keep_event(void *arg, const char *text, size_t size) {
  const values *t = arg;
  const int target = rgm_import_names_find(&t->names, text, size);
  return target >= 0 && is_event(t, target);
}


static rgm_status read_row(values *t, const rgm_csv_field *f) {
  const import_keys *rules = &t->m->rules.key;
  int64_t key;
  if (t->status >= 0 && !rgm_import_keeps(rules, f[t->status].text)) {
    t->dropped += !t->second;
    return RGM_OK;
  }
  const int target =
      t->name < 0 ? 0 : rgm_import_names_find(&t->names, f[t->name].text, f[t->name].size);
  if (target < 0) {
    t->unnamed += !t->second;
    return RGM_OK;
  }
  RGM_TRY(key_of(t, f, &key));
  if (t->name >= 0) {
    return take(t, f, key, target, t->value);
  }
  for (int k = 0; k < OUTCOME + t->outcomes; k++) {
    const bool there = (k < t->m->rules.variable_count || k >= DOSE) && t->of[k] >= 0;
    if (there && f[t->of[k]].size > 0 && strcmp(f[t->of[k]].text, "NA") != 0) {
      RGM_TRY(take(t, f, key, k, t->of[k]));
    }
  }
  return RGM_OK;
}


static rgm_status read_rows(values *t) {
  rgm_csv_field *f;
  if (t->second && t->name >= 0) {
    rgm_csv_filter(t->csv, t->name, keep_event, t);
  }
  for (;;) {
    RGM_TRY(rgm_csv_next(t->csv, &f));
    if (f == NULL) {
      return RGM_OK;
    }
    RGM_TRY(read_row(t, f));
  }
}


// ---- the cohort --------------------------------------------------------------------------------

typedef struct person {
  const char *id, *episode;
  int64_t key;
} person;

static int by_id(const void *a, const void *b) {
  const person *x = a, *y = b;
  const int order = rgm_import_compare_ids(x->id, y->id);
  return order != 0 ? order : rgm_import_compare_ids(x->episode, y->episode);
}


// Numbers episodes in the order of their ids, and puts what each has once in that order. patient[i]
// is the number of the patient of episode i.
static rgm_status rank_keys(values *t, int64_t *patient) {
  const int64_t n = t->keys.count;
  const int kept = t->m->rules.variable_count + t->outcomes;
  person *all = malloc(((size_t)n + 1) * sizeof *all);
  t->m->constant = malloc(((size_t)n * (size_t)kept + 1) * sizeof *t->m->constant);
  t->rank = malloc(((size_t)n + 1) * sizeof *t->rank);
  if (all == NULL || t->m->constant == NULL || t->rank == NULL) {
    free(all);
    return rgm_fail(RGM_EMEMORY, "no memory for %lld ids", (long long)n);
  }
  for (int64_t i = 0; i < n; i++) {
    const char *id = t->keys.text + t->keys.at[i];
    all[i] = (person){id, id + strlen(id) + 1, i};
  }
  qsort(all, (size_t)n, sizeof *all, by_id);
  for (int64_t i = 0; i < n; i++) {
    patient[i] = i == 0 ? 0 : patient[i - 1] + (strcmp(all[i].id, all[i - 1].id) != 0);
    t->rank[all[i].key] = i;
    memcpy(t->m->constant + i * kept, t->fact + all[i].key * t->width,
           (size_t)kept * sizeof *t->fact);
  }
  free(all);
  return RGM_OK;
}


// A dose that stands in the table twice counts once. Doses are sorted: equal ones are neighbours.
static rgm_status drop_twins(values *t) {
  import_dose *d = t->m->dose;
  int64_t twins = 0;
  for (int64_t i = 1, of = 0; i < t->m->dose_count; i++) {
    const bool twin = d[i].stay_id == d[of].stay_id && d[i].kind == d[of].kind &&
                      d[i].start == d[of].start && d[i].end == d[of].end &&
                      d[i].value == d[of].value && d[i].per_kg == d[of].per_kg;
    if (twin && d[i].kind != DOSE_POINT) { // rates of a time are averaged
      d[i].value = 0;
    }
    twins += twin && d[i].kind != DOSE_POINT;
    of = twin ? of : i;
  }
  return rgm_import_drop_rows(t->m, t->m->rules.key.table[t->table],
                              "dose that is there twice: counted once", twins);
}


static double variable_fact(const values *t, const import_stay *s, import_how how) {
  const import_rules *r = &t->m->rules;
  for (int v = 0; v < r->variable_count; v++) {
    if (r->variable[v].how == (int)how) {
      return t->m->constant[s->id * (r->variable_count + t->outcomes) + v];
    }
  }
  return NAN;
}


// stays of the episodes with doses, in the order of ids, with what the first pass found
static rgm_status make_stays(values *t, const int64_t *patient) {
  import *m = t->m;
  const int ends = m->rules.variable_count + 2 * t->outcomes;
  for (int64_t i = 0; i < m->dose_count; i++) {
    m->dose[i].stay_id = t->rank[m->dose[i].stay_id];
  }
  RGM_TRY(rgm_import_collect_stays(m));
  RGM_TRY(drop_twins(t));
  for (int64_t key = 0; key < t->keys.count; key++) {
    import_stay *s = rgm_import_find_stay(m, t->rank[key]);
    if (s == NULL) {
      continue;
    }
    const double *end = &t->fact[key * t->width + ends], male = variable_fact(t, s, HOW_MALE);
    s->patient_id = patient[s->id];
    s->age = variable_fact(t, s, HOW_AGE);
    s->male = (int8_t)(male == 1 ? 1 : male == 0 ? 0 : -1);
    s->admission_weight = variable_fact(t, s, HOW_ADMISSION);
    s->death = isnan(end[0]) ? INT64_MIN : (int64_t)end[0];
    s->out = isnan(end[1]) ? INT64_MIN : (int64_t)end[1];
  }
  m->ageless = true;
  for (int v = 0; v < m->rules.variable_count; v++) {
    m->ageless &= m->rules.variable[v].how != HOW_AGE;
  }
  return RGM_OK;
}


static rgm_status settle_cohort(values *t) {
  import *m = t->m;
  const int64_t n = t->keys.count;
  const char *table = m->rules.key.table[t->table];
  if (n == 0) {
    return rgm_fail(RGM_EDATA, "%s: no rows of the variables of the rules under a header line",
                    rgm_csv_path(t->csv));
  }
  RGM_TRY(rgm_import_drop_rows(m, table, "status that the rules drop", t->dropped));
  RGM_TRY(rgm_import_drop_rows(m, table, "of variables that the rules do not name", t->unnamed));
  int64_t *patient = malloc((size_t)n * sizeof *patient);
  rgm_status status = patient != NULL
                          ? rank_keys(t, patient)
                          : rgm_fail(RGM_EMEMORY, "no memory for %lld ids", (long long)n);
  if (status == RGM_OK) {
    m->flow_count = 1;
    m->flow[0] = (import_flow){"all episodes of the table", n, patient[n - 1] + 1};
    status = make_stays(t, patient);
  }
  free(patient);
  RGM_TRY(status);
  RGM_TRY(rgm_import_index_patients(m));
  return rgm_import_courses(m);
}


static rgm_status read_twice(values *t) {
  RGM_TRY(rgm_import_open(t->m, t->table, &t->csv));
  RGM_TRY(find_columns(t));
  RGM_TRY(read_rows(t));
  RGM_TRY(settle_cohort(t));
  rgm_csv_close(t->csv);
  t->csv = NULL;
  t->second = true;
  RGM_TRY(rgm_import_open(t->m, t->table, &t->csv));
  RGM_TRY(read_rows(t));
  rgm_csv *csv = t->csv;
  t->csv = NULL;
  return rgm_import_close(t->m, t->table, csv);
}


rgm_status rgm_import_values(import *m, int table) {
  values *t = calloc(1, sizeof *t);
  if (t == NULL) {
    return rgm_fail(RGM_EMEMORY, "no memory for a table");
  }
  t->m = m;
  t->table = table;
  const rgm_status status = read_twice(t);
  if (t->csv != NULL) {
    rgm_csv_close(t->csv);
  }
  rgm_import_texts_free(&t->names.texts);
  rgm_import_texts_free(&t->keys);
  free(t->fact);
  free(t->rank);
  free(t);
  return status;
}
