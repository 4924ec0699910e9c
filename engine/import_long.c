// SPDX-License-Identifier: Apache-2.0
// Any table with one row for each patient and time: columns for id, episode, time, variables, dose
// or action, reward, ends and outcomes, by the column map of a rules file; or with one row for each
// value, whose steps are the times with a dose or an action. Rows are sorted; a missing value is
// the last one of the episode, as long as `lookback` allows, with its age.

#include "engine/import.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { TABLE, OUTCOMES = 16 };

static const char *const long_tables[] = {"table", NULL};

// What a value of a long table may be of: a variable's number, or one of these.
enum { DOSE = IMPORT_VARIABLES, REWARD, TERMINATED, TRUNCATED, OUTCOME };

// A row as read; `cells` has variables, then dose or action, reward, outcomes. Of a long table: all
// values of a time; those that an episode has once may be without one (-infinity).
typedef struct long_row {
  uint32_t id, episode; // offsets into the table's text
  const char *text;     // that text, once it stays where it is
  int64_t row;          // in the file
  double time;          // h
  int8_t terminated, truncated;
  double *cell;
} long_row;

typedef struct long_table {
  import *m;
  rgm_csv *csv;
  int id, episode, time, dose, action, reward, terminated, truncated;
  int variable[IMPORT_VARIABLES], outcome[OUTCOMES];
  int outcome_count, cells;
  int name, value, unit, status; // of a long table; name -1: a wide one
  import_names names;
  import_texts keys; // of a long table's rows: id, episode, time
  import_clock clock;
  int64_t count, room;
  long_row *row;
  char *text;
  size_t text_size, text_room;
} long_table;

static rgm_status optional_column(const rgm_csv *csv, const char *name, int *column) {
  *column = -1;
  return name[0] == '\0' ? RGM_OK : rgm_csv_need(csv, name, column);
}


// a column of a wide table; of a long one, names in columns.variable, whose column is the value's
static rgm_status find_target(long_table *t, const char *name, int target, const char *key,
                              int *column) {
  *column = -1;
  if (name[0] == '\0' || t->name < 0) {
    return optional_column(t->csv, name, column);
  }
  *column = t->value;
  return rgm_import_names_add(&t->names, name, target, key);
}


static rgm_status find_form(long_table *t) {
  import_rules *r = &t->m->rules;
  const import_keys *key = &r->key;
  RGM_TRY(optional_column(t->csv, key->variable_column, &t->name));
  RGM_TRY(optional_column(t->csv, t->name >= 0 ? key->value_column : "", &t->value));
  RGM_TRY(optional_column(t->csv, t->name >= 0 ? key->unit_column : "", &t->unit));
  RGM_TRY(optional_column(t->csv, key->status_column, &t->status));
  if (key->bolus_column[0] != '\0' || key->death_column[0] != '\0' ||
      key->discharge_column[0] != '\0' || key->end_column[0] != '\0') {
    return rgm_fail(RGM_ECONFIG, "columns.bolus, death, discharge and end go with columns.steps: "
                                 "hours");
  }
  if (t->unit >= 0) {
    rgm_import_need_units(r);
  }
  return RGM_OK;
}


static rgm_status find_columns(long_table *t) {
  import_rules *r = &t->m->rules;
  const import_keys *key = &r->key;
  RGM_TRY(find_form(t));
  RGM_TRY(rgm_csv_need(t->csv, key->id, &t->id));
  RGM_TRY(rgm_csv_need(t->csv, key->time, &t->time));
  RGM_TRY(optional_column(t->csv, key->episode, &t->episode));
  RGM_TRY(find_target(t, key->dose_column, DOSE, "columns.dose", &t->dose));
  RGM_TRY(
      find_target(t, t->dose >= 0 ? "" : key->action_column, DOSE, "columns.action", &t->action));
  RGM_TRY(find_target(t, key->reward_column, REWARD, "columns.reward", &t->reward));
  RGM_TRY(find_target(t, key->terminated_column, TERMINATED, "columns.terminated", &t->terminated));
  RGM_TRY(find_target(t, key->truncated_column, TRUNCATED, "columns.truncated", &t->truncated));
  if (t->dose < 0 && t->action < 0) {
    return rgm_fail(RGM_ECONFIG, "columns.dose or columns.action: one of them is needed");
  }
  for (int v = 0; v < r->variable_count; v++) {
    const import_variable *var = &r->variable[v];
    const char *column = var->column[0] != '\0' ? var->column : var->name;
    RGM_TRY(find_target(t, t->name >= 0 && var->names[0] != '\0' ? var->names : column, v,
                        var->name, &t->variable[v]));
  }
  for (const char *at = key->outcome_columns; *at != '\0';) {
    char *name = t->m->panel.outcome_name[t->outcome_count];
    if (t->outcome_count == OUTCOMES) {
      return rgm_fail(RGM_ECONFIG, "columns.outcomes: more than %d", OUTCOMES);
    }
    RGM_TRY(rgm_import_find_outcome(&at, name));
    RGM_TRY(find_target(t, name, OUTCOME + t->outcome_count, "columns.outcomes",
                        &t->outcome[t->outcome_count]));
    t->outcome_count++;
  }
  t->cells = r->variable_count + 2 + t->outcome_count;
  return RGM_OK;
}


// keeps a text; its offset
static rgm_status keep_text(long_table *t, const char *text, uint32_t *at) {
  const size_t size = strlen(text) + 1;
  if (t->text_size + size > t->text_room) {
    const size_t room = 2 * t->text_room + size + 4096;
    char *larger = room < UINT32_MAX ? realloc(t->text, room) : NULL;
    if (larger == NULL) {
      return rgm_fail(RGM_EMEMORY, "%s: no memory for its ids", rgm_csv_path(t->csv));
    }
    t->text = larger;
    t->text_room = room;
  }
  memcpy(t->text + t->text_size, text, size);
  *at = (uint32_t)t->text_size;
  t->text_size += size;
  return RGM_OK;
}


static rgm_status flag_of(const long_table *t, const rgm_csv_field *f, int column, int8_t *flag) {
  double x = 0;
  if (column < 0) {
    return RGM_OK;
  }
  if (rgm_csv_number(f[column], &x) == RGM_CSV_TEXT || (!isnan(x) && x != 0 && x != 1)) {
    return rgm_import_bad(t->csv, column, "0 or 1 is expected");
  }
  *flag = x == 1;
  return RGM_OK;
}


// a number that must be there where the column is
static rgm_status number_of(const long_table *t, const rgm_csv_field *f, int column, bool whole,
                            double *out) {
  if (column < 0) {
    return RGM_OK;
  }
  if (rgm_csv_number(f[column], out) != RGM_CSV_NUMBER ||
      (whole && (*out < 0 || *out != floor(*out) || *out > 1e6))) {
    return rgm_import_bad(t->csv, column,
                          whole ? "a whole number from 0 on is expected" : "a number is expected");
  }
  return RGM_OK;
}


// a row without values; *out holds until the next one is made
static rgm_status new_row(long_table *t, const rgm_csv_field *f, double time, long_row **out) {
  if (t->count == t->room) {
    const int64_t room = t->room == 0 ? 1024 : 2 * t->room;
    long_row *larger = realloc(t->row, (size_t)room * sizeof *larger);
    if (larger == NULL) {
      return rgm_fail(RGM_EMEMORY, "%s: no memory for its rows", rgm_csv_path(t->csv));
    }
    t->row = larger;
    t->room = room;
  }
  long_row row = {.row = rgm_csv_row(t->csv), .time = time};
  RGM_TRY(keep_text(t, f[t->id].text, &row.id));
  RGM_TRY(keep_text(t, t->episode < 0 ? "" : f[t->episode].text, &row.episode));
  row.cell = malloc((size_t)t->cells * sizeof *row.cell);
  if (row.cell == NULL) {
    return rgm_fail(RGM_EMEMORY, "%s: no memory for its rows", rgm_csv_path(t->csv));
  }
  for (int k = 0; k < t->cells; k++) {
    row.cell[k] = NAN;
  }
  *out = &t->row[t->count];
  t->row[t->count++] = row; // from here on it is freed with the table
  return RGM_OK;
}


// a row of a wide table
static rgm_status read_row(long_table *t, const rgm_csv_field *f) {
  import_rules *r = &t->m->rules;
  const int n = r->variable_count;
  long_row *row;
  double time;
  RGM_TRY(rgm_import_time(t->m, t->csv, f, t->time, &t->clock, &time));
  RGM_TRY(new_row(t, f, time, &row));
  RGM_TRY(flag_of(t, f, t->terminated, &row->terminated));
  RGM_TRY(flag_of(t, f, t->truncated, &row->truncated));
  for (int v = 0; v < n; v++) {
    const rgm_csv_field field = f[t->variable[v]];
    if (field.size > 0 && strcmp(field.text, "NA") != 0 &&
        !rgm_import_value(&r->variable[v], field, "", &row->cell[v])) {
      row->cell[v] = NAN;
    }
  }
  RGM_TRY(number_of(t, f, t->dose >= 0 ? t->dose : t->action, t->dose < 0, &row->cell[n]));
  if (t->dose >= 0 && row->cell[n] < 0) {
    return rgm_import_bad(t->csv, t->dose, "a dose below 0");
  }
  RGM_TRY(number_of(t, f, t->reward, false, &row->cell[n + 1]));
  for (int k = 0; k < t->outcome_count; k++) {
    rgm_csv_number(f[t->outcome[k]], &row->cell[n + 2 + k]);
  }
  return RGM_OK;
}


// ---- one row for each value --------------------------------------------------------------------

// the row of a patient, an episode and a time, made where there is none yet
static rgm_status find_row(long_table *t, const rgm_csv_field *f, double time, long_row **row) {
  char key[2 * IMPORT_NAME_SIZE + sizeof time];
  const size_t id = f[t->id].size, episode = t->episode < 0 ? 0 : f[t->episode].size;
  if (id >= IMPORT_NAME_SIZE || episode >= IMPORT_NAME_SIZE) {
    return rgm_import_bad(t->csv, id >= IMPORT_NAME_SIZE ? t->id : t->episode,
                          "an id of over 255 letters");
  }
  time += 0.0; // no -0
  memcpy(key, f[t->id].text, id + 1);
  memcpy(key + id + 1, t->episode < 0 ? "" : f[t->episode].text, episode + 1);
  memcpy(key + id + episode + 2, &time, sizeof time);
  int64_t number;
  RGM_TRY(rgm_import_text_add(&t->keys, key, id + episode + 2 + sizeof time, &number));
  if (number == t->count) {
    return new_row(t, f, time, row);
  }
  *row = &t->row[number];
  return RGM_OK;
}


static rgm_status convert_dose(const long_table *t, const char *unit, double *dose) {
  const import_rules *r = &t->m->rules;
  if (r->dose_unit_count == 0 && t->unit < 0) {
    return RGM_OK;
  }
  const import_unit *u = rgm_import_find_unit(r->dose_unit, r->dose_unit_count, unit);
  if (u == NULL || u->per_kg || u->per_ml) {
    return rgm_import_bad(t->csv, t->unit >= 0 ? t->unit : t->dose,
                          "a dose in a unit that is not known; see dose.units (per kg and ml go "
                          "with columns.steps: hours)");
  }
  *dose = (*dose + u->offset) * u->factor;
  return RGM_OK;
}


// what a row says, as a number; NaN where it says nothing that counts
static rgm_status value_of(long_table *t, const rgm_csv_field *f, int target, double *value) {
  const char *unit = t->unit >= 0 ? f[t->unit].text : "";
  *value = NAN;
  if (target < IMPORT_VARIABLES) {
    import_variable *v = &t->m->rules.variable[target];
    const int64_t unknown = v->count.unknown_unit;
    if (!rgm_import_value(v, f[t->value], unit, value)) {
      *value = NAN;
    }
    return v->count.unknown_unit > unknown && t->m->rules.key.unknown_value_unit == VALUE_REFUSE
               ? rgm_import_bad(t->csv, t->unit >= 0 ? t->unit : t->value,
                                "a unit that is not known; see variable.*.units")
               : RGM_OK;
  }
  RGM_TRY(number_of(t, f, t->value, target == DOSE && t->dose < 0, value));
  if (target != DOSE || t->dose < 0) {
    return RGM_OK;
  }
  return *value < 0 ? rgm_import_bad(t->csv, t->value, "a dose below 0")
                    : convert_dose(t, unit, value);
}


static rgm_status read_value(long_table *t, const rgm_csv_field *f) {
  const import_rules *r = &t->m->rules;
  const int target = rgm_import_names_find(&t->names, f[t->name].text, f[t->name].size);
  const int n = r->variable_count;
  double time = -INFINITY, value;
  long_row *row;
  if (target < 0) {
    return rgm_import_drop_rows(t->m, r->key.table[TABLE],
                                "of variables that the rules do not name", 1);
  }
  const bool once =
      target < IMPORT_VARIABLES ? rgm_import_is_constant(&r->variable[target]) : target >= OUTCOME;
  if (!once || f[t->time].size > 0) {
    RGM_TRY(rgm_import_time(t->m, t->csv, f, t->time, &t->clock, &time));
  }
  RGM_TRY(find_row(t, f, time, &row));
  if (target == TERMINATED || target == TRUNCATED) {
    return flag_of(t, f, t->value, target == TERMINATED ? &row->terminated : &row->truncated);
  }
  RGM_TRY(value_of(t, f, target, &value));
  double *cell = &row->cell[target < IMPORT_VARIABLES ? target
                            : target == DOSE          ? n
                            : target == REWARD        ? n + 1
                                                      : n + 2 + target - OUTCOME];
  if (!isnan(*cell) && !isnan(value) && *cell != value) {
    return rgm_import_bad(t->csv, t->value, "another value than before of the same time");
  }
  *cell = isnan(value) ? *cell : value;
  return RGM_OK;
}


// ---- the panel ---------------------------------------------------------------------------------

static int by_id_and_time(const void *a, const void *b) {
  const long_row *x = a, *y = b;
  int order = rgm_import_compare_ids(x->text + x->id, y->text + y->id);
  if (order == 0) {
    order = rgm_import_compare_ids(x->text + x->episode, y->text + y->episode);
  }
  return order != 0 ? order : x->time < y->time ? -1 : x->time > y->time;
}


static bool same(const long_table *t, int64_t a, int64_t b, bool episode) {
  const long_row *x = &t->row[a], *y = &t->row[b];
  return strcmp(t->text + x->id, t->text + y->id) == 0 &&
         (!episode || strcmp(t->text + x->episode, t->text + y->episode) == 0);
}


// what an episode has once goes from one of its rows, from `first` on, into all of them
static rgm_status spread_constants(long_table *t, int64_t first) {
  const import_rules *r = &t->m->rules;
  for (int v = 0; v < r->variable_count; v++) {
    if (!rgm_import_is_constant(&r->variable[v])) {
      continue;
    }
    int64_t from = -1, i;
    for (i = first; i < t->count && same(t, first, i, true); i++) {
      const double x = t->row[i].cell[v];
      from = from < 0 && !isnan(x) ? i : from;
      if (from >= 0 && !isnan(x) && x != t->row[from].cell[v]) {
        return rgm_fail(RGM_EDATA, "%s: rows %lld and %lld: two values of %s, which is told once",
                        rgm_csv_path(t->csv), (long long)t->row[from].row, (long long)t->row[i].row,
                        r->variable[v].name);
      }
    }
    while (from >= 0 && i-- > first) {
      t->row[i].cell[v] = t->row[from].cell[v];
    }
  }
  return RGM_OK;
}


// outcomes without a time are of all rows of their episode, which begins at `first`
static void spread_outcomes(long_table *t, int64_t first) {
  const int n = t->m->rules.variable_count + 2;
  for (int64_t i = first; i < t->count && same(t, first, i, true) && isinf(t->row[first].time);
       i++) {
    for (int k = n; k < t->cells; k++) {
      double *cell = &t->row[i].cell[k];
      *cell = isnan(*cell) ? t->row[first].cell[k] : *cell;
    }
  }
}


// The last value of each variable in an episode, and when it was measured; h.
typedef struct holder {
  double value[IMPORT_VARIABLES], time[IMPORT_VARIABLES];
  double begin;  // of the first step
  int64_t steps; // so far
} holder;

// fills the panel's row `at` from row i of the sorted table
static void fill_row(long_table *t, int64_t i, int64_t at, const holder *h) {
  const import_rules *r = &t->m->rules;
  import_panel *p = &t->m->panel;
  const int n = r->variable_count;
  const long_row *row = &t->row[i];
  p->time[at] = row->time - h->begin;
  for (int v = 0; v < n; v++) {
    const double age = rgm_import_is_constant(&r->variable[v]) ? 0 : row->time - h->time[v];
    const bool held = !isnan(h->value[v]) && age <= r->variable[v].lookback;
    p->value[at * n + v] = held ? h->value[v] : NAN;
    p->age[at * n + v] = held ? age : NAN;
  }
  if (r->monitor >= 0) {
    p->fresh[at] = row->cell[r->monitor];
  }
  p->dose[at] = t->dose >= 0 ? row->cell[n] : 0;
  if (p->action != NULL) {
    p->action[at] = (int32_t)row->cell[n];
  }
  if (p->reward != NULL) {
    p->reward[at] = row->cell[n + 1];
  }
  p->terminated[at] = (uint8_t)row->terminated;
  p->truncated[at] = (uint8_t)row->truncated;
  for (int k = 0; k < t->outcome_count; k++) {
    p->outcome[at * t->outcome_count + k] = row->cell[n + 2 + k];
  }
}


// a row between steps: what it measures is of the step before, as is an end that it tells
static rgm_status fill_between(long_table *t, int64_t i, int64_t at, const holder *h) {
  const import_rules *r = &t->m->rules;
  import_panel *p = &t->m->panel;
  const long_row *row = &t->row[i];
  if (!isnan(row->cell[r->variable_count + 1])) {
    return rgm_fail(RGM_EDATA, "%s: row %lld: a reward at a time without a dose or an action",
                    rgm_csv_path(t->csv), (long long)row->row);
  }
  if (h->steps > 0) {
    p->terminated[at - 1] |= row->terminated == 1;
    p->truncated[at - 1] |= row->truncated == 1;
    if (r->monitor >= 0 && !isnan(row->cell[r->monitor])) {
      p->fresh[at - 1] = row->cell[r->monitor];
    }
  }
  return RGM_OK;
}


// the end of the episode whose last step is panel row `last`
static void end_episode(const long_table *t, int64_t last) {
  import_panel *p = &t->m->panel;
  const bool told = t->terminated >= 0 || t->truncated >= 0;
  const bool ends = told ? p->terminated[last] : t->m->rules.key.stop_terminates;
  p->terminated[last] = ends && !p->truncated[last];
  p->truncated[last] = !p->terminated[last];
}


static rgm_status fill_rows(long_table *t, int64_t *idle) {
  import_panel *p = &t->m->panel;
  const int n = t->m->rules.variable_count;
  int32_t episode = -1, patient = -1;
  int64_t at = 0, before = -1; // the row of the step before
  holder h = {.steps = 0};
  for (int64_t i = 0; i < t->count; i++) {
    const long_row *row = &t->row[i];
    if (i == 0 || !same(t, i, i - 1, true)) {
      RGM_TRY(spread_constants(t, i));
      spread_outcomes(t, i);
      *idle += i > 0 && h.steps == 0;
      h.steps = 0;
      for (int v = 0; v < n; v++) {
        h.value[v] = h.time[v] = NAN;
      }
    } else if (row->time == row[-1].time) {
      return rgm_fail(RGM_EDATA, "%s: rows %lld and %lld: the same patient, episode and time",
                      rgm_csv_path(t->csv), (long long)row[-1].row, (long long)row->row);
    }
    for (int v = 0; v < n; v++) {
      if (!isnan(row->cell[v])) {
        h.value[v] = row->cell[v];
        h.time[v] = row->time;
      }
    }
    if (isnan(row->cell[n])) {
      RGM_TRY(fill_between(t, i, at, &h));
      continue;
    }
    if (p->reward != NULL && isnan(row->cell[n + 1])) {
      return rgm_fail(RGM_EDATA, "%s: row %lld: a dose or an action without a reward",
                      rgm_csv_path(t->csv), (long long)row->row);
    }
    if (h.steps++ == 0) {
      episode++;
      patient += before < 0 || !same(t, i, before, false);
      h.begin = row->time;
      if (at > 0) {
        end_episode(t, at - 1);
      }
    }
    p->episode[at] = episode;
    p->patient[at] = patient;
    fill_row(t, i, at++, &h);
    before = i;
  }
  *idle += h.steps == 0;
  end_episode(t, at - 1);
  return RGM_OK;
}


static rgm_status fill_panel(long_table *t) {
  import *m = t->m;
  import_panel *p = &m->panel;
  int64_t steps = 0, idle = 0;
  for (int64_t i = 0; i < t->count; i++) {
    steps += !isnan(t->row[i].cell[m->rules.variable_count]);
  }
  if (steps == 0) {
    return rgm_fail(RGM_EDATA, "%s: no rows of a dose or an action", rgm_csv_path(t->csv));
  }
  p->outcome_count = t->outcome_count;
  RGM_TRY(rgm_import_panel_alloc(m, steps));
  p->reward = t->reward >= 0 ? calloc((size_t)steps, sizeof *p->reward) : NULL;
  p->action = t->dose < 0 ? calloc((size_t)steps, sizeof *p->action) : NULL;
  if ((t->reward >= 0 && p->reward == NULL) || (t->dose < 0 && p->action == NULL)) {
    return rgm_fail(RGM_EMEMORY, "no memory for %lld rows", (long long)steps);
  }
  RGM_TRY(fill_rows(t, &idle));
  return rgm_import_drop_rows(m, m->rules.key.table[TABLE],
                              "(episodes) without a dose or an action", idle);
}


static rgm_status read_rows(long_table *t) {
  RGM_TRY(find_columns(t));
  rgm_csv_field *f;
  for (;;) {
    RGM_TRY(rgm_csv_next(t->csv, &f));
    if (f == NULL) {
      break;
    }
    if (t->status >= 0 && !rgm_import_keeps(&t->m->rules.key, f[t->status].text)) {
      RGM_TRY(rgm_import_drop_rows(t->m, t->m->rules.key.table[TABLE], "status that the rules drop",
                                   1));
      continue;
    }
    if (f[t->id].size == 0) {
      return rgm_import_bad(t->csv, t->id, "empty where an id is expected");
    }
    RGM_TRY(t->name >= 0 ? read_value(t, f) : read_row(t, f));
  }
  if (t->count == 0) {
    return rgm_fail(RGM_EDATA, "%s: no rows under a header line", rgm_csv_path(t->csv));
  }
  for (int64_t i = 0; i < t->count; i++) {
    t->row[i].text = t->text;
  }
  qsort(t->row, (size_t)t->count, sizeof *t->row, by_id_and_time);
  return fill_panel(t);
}


static rgm_status read_long(import *m) {
  long_table t = {.m = m};
  if (m->rules.key.steps == STEPS_HOURS) {
    return rgm_import_values(m, TABLE);
  }
  RGM_TRY(rgm_import_open(m, TABLE, &t.csv));
  rgm_status status = read_rows(&t);
  for (int64_t i = 0; i < t.count; i++) {
    free(t.row[i].cell);
  }
  free(t.row);
  free(t.text);
  rgm_import_texts_free(&t.keys);
  rgm_import_texts_free(&t.names.texts);
  if (status != RGM_OK) {
    rgm_csv_close(t.csv);
    return status;
  }
  return rgm_import_close(m, TABLE, t.csv);
}


const import_kind rgm_import_long = {
    .name = "csv",
    .doc = "any table by a column map: a row for each patient and time, or for each value",
    .rules = NULL,
    .tables = long_tables,
    .read = read_long,
    .hourly = false,
};
