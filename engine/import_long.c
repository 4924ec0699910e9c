// SPDX-License-Identifier: Apache-2.0
// Any table with one row for each patient and time: columns for id, episode, time, variables, dose
// or action, reward, ends and outcomes, by the column map of a rules file. Rows are sorted; a
// missing value is the last one of the episode, as long as `lookback` allows, with its age.

#include "engine/import.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { TABLE, OUTCOMES = 16 };

static const char *const long_tables[] = {"table", NULL};

// A row as read; `cells` has variables, then dose, reward, outcomes.
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


static rgm_status find_columns(long_table *t) {
  import_rules *r = &t->m->rules;
  const import_keys *key = &r->key;
  RGM_TRY(rgm_csv_need(t->csv, key->id, &t->id));
  RGM_TRY(rgm_csv_need(t->csv, key->time, &t->time));
  RGM_TRY(optional_column(t->csv, key->episode, &t->episode));
  RGM_TRY(optional_column(t->csv, key->dose_column, &t->dose));
  RGM_TRY(optional_column(t->csv, key->action_column, &t->action));
  RGM_TRY(optional_column(t->csv, key->reward_column, &t->reward));
  RGM_TRY(optional_column(t->csv, key->terminated_column, &t->terminated));
  RGM_TRY(optional_column(t->csv, key->truncated_column, &t->truncated));
  if (t->dose < 0 && t->action < 0) {
    return rgm_fail(RGM_ECONFIG, "columns.dose or columns.action: one of them is needed");
  }
  for (int v = 0; v < r->variable_count; v++) {
    const import_variable *var = &r->variable[v];
    RGM_TRY(
        rgm_csv_need(t->csv, var->column[0] != '\0' ? var->column : var->name, &t->variable[v]));
  }
  for (const char *at = key->outcome_columns; *at != '\0';) {
    const size_t size = strcspn(at, ",");
    char name[64];
    at += strspn(at, " ");
    snprintf(name, sizeof name, "%.*s", (int)(size < 63 ? size : 63), at);
    name[strcspn(name, " ,")] = '\0';
    if (t->outcome_count == OUTCOMES) {
      return rgm_fail(RGM_ECONFIG, "columns.outcomes: more than %d", OUTCOMES);
    }
    RGM_TRY(rgm_csv_need(t->csv, name, &t->outcome[t->outcome_count]));
    snprintf(t->m->panel.outcome_name[t->outcome_count++], 64, "%s", name);
    at += strcspn(at, ",");
    at += *at == ',';
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


static rgm_status read_row(long_table *t, const rgm_csv_field *f) {
  import_rules *r = &t->m->rules;
  if (t->count == t->room) {
    const int64_t room = t->room == 0 ? 1024 : 2 * t->room;
    long_row *larger = realloc(t->row, (size_t)room * sizeof *larger);
    if (larger == NULL) {
      return rgm_fail(RGM_EMEMORY, "%s: no memory for its rows", rgm_csv_path(t->csv));
    }
    t->row = larger;
    t->room = room;
  }
  long_row row = {.row = rgm_csv_row(t->csv)};
  if (f[t->id].size == 0) {
    return rgm_import_bad(t->csv, t->id, "empty where an id is expected");
  }
  RGM_TRY(keep_text(t, f[t->id].text, &row.id));
  RGM_TRY(keep_text(t, t->episode < 0 ? "" : f[t->episode].text, &row.episode));
  RGM_TRY(rgm_import_time(t->m, t->csv, f, t->time, &t->clock, &row.time));
  RGM_TRY(flag_of(t, f, t->terminated, &row.terminated));
  RGM_TRY(flag_of(t, f, t->truncated, &row.truncated));
  row.cell = malloc((size_t)t->cells * sizeof *row.cell);
  if (row.cell == NULL) {
    return rgm_fail(RGM_EMEMORY, "%s: no memory for its rows", rgm_csv_path(t->csv));
  }
  t->row[t->count++] = row; // from here on it is freed with the table
  const int n = r->variable_count;
  for (int v = 0; v < n; v++) {
    const rgm_csv_field field = f[t->variable[v]];
    row.cell[v] = NAN;
    if (field.size > 0 && strcmp(field.text, "NA") != 0 &&
        !rgm_import_value(&r->variable[v], field, "", &row.cell[v])) {
      row.cell[v] = NAN;
    }
  }
  row.cell[n] = row.cell[n + 1] = NAN;
  RGM_TRY(number_of(t, f, t->dose >= 0 ? t->dose : t->action, t->dose < 0, &row.cell[n]));
  if (t->dose >= 0 && row.cell[n] < 0) {
    return rgm_import_bad(t->csv, t->dose, "a dose below 0");
  }
  RGM_TRY(number_of(t, f, t->reward, false, &row.cell[n + 1]));
  for (int k = 0; k < t->outcome_count; k++) {
    rgm_csv_number(f[t->outcome[k]], &row.cell[n + 2 + k]);
  }
  return RGM_OK;
}


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


// fills the panel's row i from row i of the sorted table, `first` being its episode's first
static void fill_row(long_table *t, int64_t i, int64_t first) {
  const import_rules *r = &t->m->rules;
  import_panel *p = &t->m->panel;
  const int n = r->variable_count;
  const long_row *row = &t->row[i];
  p->time[i] = row->time - t->row[first].time;
  for (int v = 0; v < n; v++) {
    const int64_t cell = i * n + v;
    p->value[cell] = row->cell[v];
    p->age[cell] = isnan(row->cell[v]) ? NAN : 0;
    const double step = i > first ? p->time[i] - p->time[i - 1] : 0;
    if (isnan(row->cell[v]) && i > first && p->age[cell - n] + step <= r->variable[v].lookback) {
      p->value[cell] = p->value[cell - n];
      p->age[cell] = p->age[cell - n] + step;
    }
  }
  if (r->monitor >= 0) {
    p->fresh[i] = row->cell[r->monitor];
  }
  p->dose[i] = t->dose >= 0 ? row->cell[n] : 0;
  if (p->action != NULL) {
    p->action[i] = (int32_t)row->cell[n];
  }
  if (p->reward != NULL) {
    p->reward[i] = row->cell[n + 1];
  }
  for (int k = 0; k < t->outcome_count; k++) {
    p->outcome[i * t->outcome_count + k] = row->cell[n + 2 + k];
  }
}


static rgm_status fill_panel(long_table *t) {
  import *m = t->m;
  import_panel *p = &m->panel;
  p->outcome_count = t->outcome_count;
  RGM_TRY(rgm_import_panel_alloc(m, t->count));
  p->reward = t->reward >= 0 ? calloc((size_t)t->count, sizeof *p->reward) : NULL;
  p->action = t->dose < 0 ? calloc((size_t)t->count, sizeof *p->action) : NULL;
  if ((t->reward >= 0 && p->reward == NULL) || (t->dose < 0 && p->action == NULL)) {
    return rgm_fail(RGM_EMEMORY, "no memory for %lld rows", (long long)t->count);
  }
  int32_t episode = -1, patient = -1;
  int64_t first = 0;
  for (int64_t i = 0; i < t->count; i++) {
    patient += i == 0 || !same(t, i, i - 1, false);
    if (i == 0 || !same(t, i, i - 1, true)) {
      episode++;
      first = i;
      RGM_TRY(spread_constants(t, first));
    } else if (t->row[i].time == t->row[i - 1].time) {
      return rgm_fail(RGM_EDATA, "%s: rows %lld and %lld: the same patient, episode and time",
                      rgm_csv_path(t->csv), (long long)t->row[i - 1].row, (long long)t->row[i].row);
    }
    p->episode[i] = episode;
    p->patient[i] = patient;
    fill_row(t, i, first);
    const bool last = i + 1 == t->count || !same(t, i, i + 1, true);
    const bool told = t->terminated >= 0 || t->truncated >= 0;
    const bool ends = told ? t->row[i].terminated : m->rules.key.stop_terminates;
    p->terminated[i] = last ? ends && !t->row[i].truncated : t->row[i].terminated;
    p->truncated[i] = last ? !p->terminated[i] : t->row[i].truncated;
  }
  return RGM_OK;
}


static rgm_status read_rows(long_table *t) {
  RGM_TRY(find_columns(t));
  rgm_csv_field *f;
  for (;;) {
    RGM_TRY(rgm_csv_next(t->csv, &f));
    if (f == NULL) {
      break;
    }
    RGM_TRY(read_row(t, f));
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
  const import_keys *key = &m->rules.key;
  if (key->steps == STEPS_HOURS) {
    return rgm_import_values(m, TABLE);
  }
  if (key->variable_column[0] != '\0') {
    return rgm_fail(RGM_ECONFIG,
                    "columns.variable: a table with a row for each value goes onto the "
                    "hourly grid; set columns.steps: hours");
  }
  RGM_TRY(rgm_import_open(m, TABLE, &t.csv));
  rgm_status status = read_rows(&t);
  for (int64_t i = 0; i < t.count; i++) {
    free(t.row[i].cell);
  }
  free(t.row);
  free(t.text);
  if (status != RGM_OK) {
    rgm_csv_close(t.csv);
    return status;
  }
  return rgm_import_close(m, TABLE, t.csv);
}


const import_kind rgm_import_long = {
    .name = "csv",
    .doc = "any table with one row for each patient and time, by a column map",
    .rules = NULL,
    .tables = long_tables,
    .read = read_long,
    .hourly = false,
};
