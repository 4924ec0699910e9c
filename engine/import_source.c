// SPDX-License-Identifier: Apache-2.0
// Tables of a folder by name, and what front ends put into a cohort: doses, stays, events, counts
// of what was dropped.

#include "engine/import.h"

#include <dirent.h>
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

// ---- tables ------------------------------------------------------------------------------------

// the file's name without .csv or .csv.gz; false for other files
static bool stem_of(const char *file, char *stem, size_t room) {
  const size_t size = strlen(file);
  size_t ending = size > 7 && strcasecmp(file + size - 7, ".csv.gz") == 0 ? 7
                  : size > 4 && strcasecmp(file + size - 4, ".csv") == 0  ? 4
                                                                          : 0;
  if (ending == 0 || size - ending >= room) {
    return false;
  }
  memcpy(stem, file, size - ending);
  stem[size - ending] = '\0';
  return true;
}


// The file of a table: NAME.csv or NAME.csv.gz in any case. Two of them are one too many; `nearest`
// gets the most similar name where there is none (*found empty).
static rgm_status find_table(const char *folder, const char *name, char found[512],
                             char nearest[256]) {
  found[0] = nearest[0] = '\0';
  if (strchr(name, '/') != NULL) {
    return rgm_fail(RGM_ECONFIG, "tables: %s: a name without folders is expected", name);
  }
  DIR *dir = opendir(folder);
  if (dir == NULL) {
    return rgm_fail(RGM_EIO, "%s: %s; --dir is the folder with the tables", folder,
                    strerror(errno));
  }
  enum { MOST = 256 };
  static const char *const none[] = {NULL};
  char(*stems)[256] = malloc(MOST * sizeof *stems);
  const char *names[MOST + 1] = {NULL};
  int count = 0;
  rgm_status status = stems != NULL ? RGM_OK : rgm_fail(RGM_EMEMORY, "no memory for file names");
  for (struct dirent *entry; status == RGM_OK && (entry = readdir(dir)) != NULL;) {
    char stem[256];
    if (!stem_of(entry->d_name, stem, sizeof stem)) {
      continue;
    }
    if (strcasecmp(stem, name) == 0 && found[0] != '\0') {
      status = rgm_fail(RGM_EDATA, "%s: the table %s is there twice, also as %s; remove one",
                        folder, name, entry->d_name);
    } else if (strcasecmp(stem, name) == 0) {
      snprintf(found, 512, "%.255s/%.255s", folder, entry->d_name);
    } else if (count < MOST) {
      memcpy(stems[count], stem, sizeof stem);
      names[count] = stems[count];
      count++;
    }
  }
  closedir(dir);
  const char *close_by = rgm_nearest(name, stems != NULL ? names : none);
  if (close_by != NULL) {
    snprintf(nearest, 256, "%s", close_by);
  }
  free(stems);
  return status;
}


rgm_status rgm_import_open_optional(import *m, int table, rgm_csv **out) {
  char path[512], nearest[256];
  *out = NULL;
  RGM_TRY(find_table(m->folder, m->rules.key.table[table], path, nearest));
  if (path[0] == '\0') {
    return RGM_OK;
  }
  if (m->progress != NULL) {
    fprintf(m->progress, "reading %s\n", path);
  }
  return rgm_csv_open(path, m->rules.key.digests, out);
}


rgm_status rgm_import_open(import *m, int table, rgm_csv **out) {
  RGM_TRY(rgm_import_open_optional(m, table, out));
  if (*out != NULL) {
    return RGM_OK;
  }
  const char *name = m->rules.key.table[table];
  char path[512], nearest[256];
  RGM_TRY(find_table(m->folder, name, path, nearest));
  return rgm_fail(RGM_EDATA, "%s: no table %s.csv or %s.csv.gz%s%s%s; --set tables.* renames",
                  m->folder, name, name, nearest[0] != '\0' ? "; did you mean " : "", nearest,
                  nearest[0] != '\0' ? "?" : "");
}


rgm_status rgm_import_close(import *m, int table, rgm_csv *csv) {
  RGM_ASSERT(m->source_count < 16);
  import_source *s = &m->source[m->source_count++];
  const char *name = m->rules.key.table[table];
  memcpy(s->table, name, strnlen(name, sizeof s->table - 1)); // zeroed before
  s->rows = rgm_csv_row(csv) - 1;
  s->bytes = rgm_csv_bytes(csv);
  s->text_bytes = rgm_csv_text_bytes(csv);
  rgm_csv_digest(csv, s->digest);
  rgm_csv_close(csv);
  return RGM_OK;
}


rgm_status rgm_import_bad(const rgm_csv *csv, int column, const char *what) {
  return rgm_fail(RGM_EDATA, "%s: row %lld: column %s: %s", rgm_csv_path(csv),
                  (long long)rgm_csv_row(csv), rgm_csv_name(csv, column), what);
}


// ---- what was read -----------------------------------------------------------------------------

static void *grown(void *array, int64_t count, int64_t *room, size_t size) {
  if (count < *room) {
    return array;
  }
  const int64_t wanted = *room == 0 ? 1024 : 2 * *room;
  void *larger = realloc(array, (size_t)wanted * size);
  if (larger == NULL) {
    rgm_fail(RGM_EMEMORY, "no memory for %lld records; narrow the cohort", (long long)wanted);
    return NULL;
  }
  *room = wanted;
  return larger;
}


rgm_status rgm_import_add_dose(import *m, const import_dose *dose) {
  import_dose *all = grown(m->dose, m->dose_count, &m->dose_room, sizeof *all);
  if (all == NULL) {
    return RGM_EMEMORY;
  }
  m->dose = all;
  m->dose[m->dose_count++] = *dose;
  return RGM_OK;
}


// keeps what the grid can need: not older than the variable's lookback, not after the last hour
rgm_status rgm_import_add_event(import *m, int64_t stay, int slot, int64_t time, double value) {
  const import_stay *s = &m->stay[stay];
  const import_variable *v = &m->rules.variable[m->rules.slot_variable[slot]];
  const int64_t t = time - s->t0;
  // a sum of parts needs the parts of 6 h before
  const double back = (v->lookback + (v->how == HOW_GCS ? 6 : 0)) * HOUR;
  const bool later = t >= (int64_t)(s->hours + 1) * HOUR && !(v->how == HOW_WEIGHT && v->backfill);
  if ((double)t < -back || later || t < INT32_MIN || t > INT32_MAX) {
    return RGM_OK;
  }
  import_event *all = grown(m->event, m->event_count, &m->event_room, sizeof *all);
  if (all == NULL) {
    return RGM_EMEMORY;
  }
  m->event = all;
  m->event[m->event_count++] =
      (import_event){value, (int32_t)t, (uint32_t)stay << 8 | (uint32_t)slot};
  return RGM_OK;
}


rgm_status rgm_import_drop_rows(import *m, const char *table, const char *why, int64_t rows) {
  if (rows == 0) {
    return RGM_OK;
  }
  int i = 0;
  while (i < m->drop_count &&
         (strcmp(m->drop[i].table, table) != 0 || strcmp(m->drop[i].why, why) != 0)) {
    i++;
  }
  if (i == IMPORT_DROPS) {
    return RGM_OK;
  }
  if (i == m->drop_count) {
    snprintf(m->drop[i].table, sizeof m->drop[i].table, "%.31s", table);
    snprintf(m->drop[i].why, sizeof m->drop[i].why, "%.95s", why);
    m->drop_count++;
  }
  m->drop[i].rows += rows;
  return RGM_OK;
}


// the sex as a word or as 1 and 0; an age that was hidden as above 89
static bool said(const import_variable *v, rgm_csv_field f, double *value) {
  const char first = f.text[strspn(f.text, " ")];
  if (v->how == HOW_MALE && strchr("MmFf", first) != NULL && first != '\0') {
    *value = first == 'M' || first == 'm';
    return true;
  }
  return false;
}


rgm_status rgm_import_time(const import *m, const rgm_csv *csv, const rgm_csv_field *fields,
                           int column, import_clock *clock, double *hours) {
  static const struct {
    const char *name;
    double hours;
  } units[] = {{"s", 1.0 / 3600}, {"min", 1.0 / 60}, {"h", 1}, {"d", 24}};
  int64_t seconds;
  double x;
  const rgm_csv_kind kind = rgm_csv_number(fields[column], &x);
  if (!clock->known) {
    *clock = (import_clock){true, kind != RGM_CSV_NUMBER};
  }
  if (clock->dated && rgm_csv_time(fields[column], &seconds) == RGM_CSV_NUMBER) {
    *hours = (double)seconds / HOUR;
    return RGM_OK;
  }
  if (clock->dated || kind != RGM_CSV_NUMBER || !(fabs(x) < 1e9)) {
    return rgm_import_bad(csv, column, "no time; all are numbers or all are like 2101-10-20 19:08");
  }
  for (size_t i = 0; i < sizeof units / sizeof *units; i++) {
    if (strcmp(m->rules.key.time_unit, units[i].name) == 0) {
      *hours = x * units[i].hours;
      return RGM_OK;
    }
  }
  return rgm_fail(RGM_ECONFIG, "columns.time_unit: s, min, h or d");
}


bool rgm_import_value(import_variable *v, rgm_csv_field number, const char *unit, double *value) {
  if (said(v, number, value)) {
    v->count.used++;
    return true;
  }
  if (rgm_csv_number(number, value) != RGM_CSV_NUMBER) {
    v->count.no_number++;
    return false;
  }
  if (v->unit_count > 0) {
    const import_unit *u = rgm_import_find_unit(v->accepted, v->unit_count, unit);
    if (u == NULL) {
      v->count.unknown_unit++;
      return false;
    }
    *value = (*value + u->offset) * u->factor;
  }
  if (!(*value > v->above && *value < v->below)) {
    v->count.out_of_range++;
    return false;
  }
  v->count.used++;
  return true;
}


void rgm_import_note_flow(import *m, const char *rule) {
  RGM_ASSERT(m->flow_count < IMPORT_FLOW);
  import_flow *f = &m->flow[m->flow_count++];
  snprintf(f->rule, sizeof f->rule, "%.127s", rule);
  f->stays = f->patients = 0;
  int64_t last = -1;
  for (int64_t i = 0; i < m->stay_count; i++) {
    const import_stay *s = &m->stay[m->by_patient != NULL ? m->by_patient[i] : i];
    f->stays += s->used;
    f->patients += s->used && s->patient_id != last;
    last = s->used ? s->patient_id : last;
  }
}


// ---- stays -------------------------------------------------------------------------------------

import_stay *rgm_import_find_stay(const import *m, int64_t id) {
  int64_t low = 0, high = m->stay_count;
  while (low < high) {
    const int64_t middle = low + (high - low) / 2;
    if (m->stay[middle].id < id) {
      low = middle + 1;
    } else {
      high = middle;
    }
  }
  return low < m->stay_count && m->stay[low].id == id ? &m->stay[low] : NULL;
}


int64_t rgm_import_find_patient(const import *m, int64_t patient_id) {
  int64_t low = 0, high = m->stay_count;
  while (low < high) {
    const int64_t middle = low + (high - low) / 2;
    if (m->stay[m->by_patient[middle]].patient_id < patient_id) {
      low = middle + 1;
    } else {
      high = middle;
    }
  }
  return low < m->stay_count && m->stay[m->by_patient[low]].patient_id == patient_id ? low : -1;
}


static int by_stay_and_time(const void *a, const void *b) {
  const import_dose *x = a, *y = b;
  const int64_t l[] = {x->stay_id, x->kind, x->start, x->end};
  const int64_t r[] = {y->stay_id, y->kind, y->start, y->end};
  for (int i = 0; i < 4; i++) {
    if (l[i] != r[i]) {
      return l[i] < r[i] ? -1 : 1;
    }
  }
  // NaN first, so that equal sets sort equally
  const double p = isnan(x->value) ? -1e308 : x->value, q = isnan(y->value) ? -1e308 : y->value;
  return p < q ? -1 : p > q;
}


// Sorts the doses and makes a stay of every stay id with a rate above 0 (or in an unknown unit,
// which may be one): `used` where there is a rate above 0.
rgm_status rgm_import_collect_stays(import *m) {
  if (m->dose_count > 0) {
    qsort(m->dose, (size_t)m->dose_count, sizeof *m->dose, by_stay_and_time);
  }
  int64_t count = 0;
  for (int64_t i = 0; i < m->dose_count; i++) {
    count += i == 0 || m->dose[i].stay_id != m->dose[i - 1].stay_id;
  }
  if (count >= IMPORT_STAYS) {
    return rgm_fail(RGM_EDATA, "%s: more than %d stays with the drug", m->folder, IMPORT_STAYS);
  }
  m->stay = calloc((size_t)count + 1, sizeof *m->stay);
  if (m->stay == NULL) {
    return rgm_fail(RGM_EMEMORY, "no memory for %lld stays", (long long)count);
  }
  for (int64_t i = 0; i < m->dose_count; i++) {
    const import_dose *d = &m->dose[i];
    if (i == 0 || d->stay_id != m->dose[i - 1].stay_id) {
      m->stay[m->stay_count++] = (import_stay){.id = d->stay_id,
                                               .patient_id = -1,
                                               .admission_id = -1,
                                               .in = INT64_MIN,
                                               .out = INT64_MIN,
                                               .death = INT64_MIN,
                                               .born = INT64_MIN,
                                               .age = NAN,
                                               .admission_weight = NAN,
                                               .male = -1,
                                               .died = -1,
                                               .dose_at = i};
    }
    import_stay *s = &m->stay[m->stay_count - 1];
    s->dose_count++;
    s->unknown_unit |= isnan(d->value);
    s->used |= d->kind != DOSE_BOLUS && (isnan(d->value) || d->value > 0);
  }
  return RGM_OK;
}


typedef struct import_pair {
  int64_t patient, stay, index;
} import_pair;

static int by_patient_id(const void *a, const void *b) {
  const import_pair *x = a, *y = b;
  if (x->patient != y->patient) {
    return x->patient < y->patient ? -1 : 1;
  }
  return x->stay < y->stay ? -1 : x->stay > y->stay;
}


rgm_status rgm_import_index_patients(import *m) {
  const size_t n = (size_t)m->stay_count;
  import_pair *pair = malloc((n + 1) * sizeof *pair);
  free(m->by_patient);
  m->by_patient = malloc((n + 1) * sizeof *m->by_patient);
  if (pair == NULL || m->by_patient == NULL) {
    free(pair);
    return rgm_fail(RGM_EMEMORY, "no memory for %zu stays", n);
  }
  for (size_t i = 0; i < n; i++) {
    pair[i] = (import_pair){m->stay[i].patient_id, m->stay[i].id, (int64_t)i};
  }
  qsort(pair, n, sizeof *pair, by_patient_id);
  for (size_t i = 0; i < n; i++) {
    m->by_patient[i] = pair[i].index;
  }
  free(pair);
  return RGM_OK;
}
