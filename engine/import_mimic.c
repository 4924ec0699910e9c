// SPDX-License-Identifier: Apache-2.0
// MIMIC-III: heparin infusions and what was measured around them, from the raw tables. Pass one
// reads doses, stays, patients and admissions and settles the cohort; pass two reads LABEVENTS and
// CHARTEVENTS, of which only the items and stays of the rules are kept.

#include "engine/import.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

enum { PATIENTS, ADMISSIONS, ICUSTAYS, INPUT_CV, INPUT_MV, LABS, CHART };

static const char *const mimic_tables[] = {
    "patients",       "admissions", "icustays",    "inputevents_cv",
    "inputevents_mv", "labevents",  "chartevents", NULL};

// items that a table's rows are filtered by
typedef struct wanted {
  const import_rules *rules;
  const rgm_list *items; // of doses, or NULL: of variables
  int table;
} wanted;


// ---- filters -----------------------------------------------------------------------------------

static int64_t item_of(const char *text, size_t size) {
  int64_t id = 0;
  if (size == 0 || size > 7) {
    return -1;
  }
  for (size_t i = 0; i < size; i++) {
    if (text[i] < '0' || text[i] > '9') {
      return -1;
    }
    id = 10 * id + (text[i] - '0');
  }
  return id < IMPORT_ITEMS ? id : -1;
}


static bool keep_item(void *arg, const char *text, size_t size) {
  const wanted *w = arg;
  const int64_t id = item_of(text, size);
  if (id < 0) {
    return false;
  }
  if (w->items != NULL) {
    for (int i = 0; i < w->items->count; i++) {
      if ((int64_t)w->items->value[i] == id) {
        return true;
      }
    }
    return false;
  }
  const int slot = w->rules->slot_of[id];
  return slot != 0 && w->rules->variable[w->rules->slot_variable[slot - 1]].table == w->table;
}


// columns by name, in the order of `names`, which NULL ends
static rgm_status need(const rgm_csv *csv, const char *const *names, int *column) {
  for (int i = 0; names[i] != NULL; i++) {
    RGM_TRY(rgm_csv_need(csv, names[i], &column[i]));
  }
  return RGM_OK;
}


// opens a table, finds its columns, filters by item where there are any to filter by
static rgm_status open_table(import *m, int table, const char *const *names, int *column,
                             wanted *filter, rgm_csv **csv) {
  RGM_TRY(rgm_import_open(m, table, csv));
  rgm_status status = need(*csv, names, column);
  int item;
  if (status == RGM_OK && filter != NULL) {
    status = rgm_csv_need(*csv, "itemid", &item);
    if (status == RGM_OK) {
      rgm_csv_filter(*csv, item, keep_item, filter);
    }
  }
  if (status != RGM_OK) {
    rgm_csv_close(*csv);
    *csv = NULL;
  }
  return status;
}


// reads a table row by row
typedef rgm_status (*row_reader)(import *m, rgm_csv *csv, const rgm_csv_field *f,
                                 const int *column);

static rgm_status read_table(import *m, int table, const char *const *names, wanted *filter,
                             row_reader each) {
  int column[16];
  rgm_csv *csv;
  rgm_csv_field *fields;
  RGM_TRY(open_table(m, table, names, column, filter, &csv));
  rgm_status status;
  while ((status = rgm_csv_next(csv, &fields)) == RGM_OK && fields != NULL) {
    status = each(m, csv, fields, column);
    if (status != RGM_OK) {
      break;
    }
  }
  if (status != RGM_OK) {
    rgm_csv_close(csv);
    return status;
  }
  return rgm_import_close(m, table, csv);
}


// a time that must be there
static rgm_status time_of(const rgm_csv *csv, const rgm_csv_field *f, int column, int64_t *time) {
  if (rgm_csv_time(f[column], time) != RGM_CSV_NUMBER) {
    return rgm_import_bad(csv, column, "no time like 2101-10-20 19:08:00");
  }
  return RGM_OK;
}


static rgm_status id_of(const rgm_csv *csv, const rgm_csv_field *f, int column, int64_t *id) {
  if (rgm_csv_id(f[column], id) != RGM_CSV_NUMBER) {
    return rgm_import_bad(csv, column, "no whole number where an id is expected");
  }
  return RGM_OK;
}


// ---- doses -------------------------------------------------------------------------------------

// A rate or amount in its unit; NaN where the unit is not one of the rules'.
static rgm_status amount_of(import *m, const rgm_csv *csv, const char *table, const char *unit,
                            bool bolus, double weight, double *value, bool *per_kg) {
  const import_rules *r = &m->rules;
  const import_unit *u = bolus ? rgm_import_find_unit(r->bolus_unit, r->bolus_unit_count, unit)
                               : rgm_import_find_unit(r->dose_unit, r->dose_unit_count, unit);
  *per_kg = false;
  if (u == NULL || u->per_ml || *value < 0) {
    if (r->key.unknown_unit == UNKNOWN_REFUSE) {
      return rgm_fail(RGM_EDATA,
                      "%s: row %lld: a dose %s; dose.units lists the units that are known, "
                      "dose.unknown_unit: exclude leaves such stays out",
                      rgm_csv_path(csv), (long long)rgm_csv_row(csv),
                      *value < 0 ? "below 0" : "in a unit that is not known");
    }
    *value = NAN;
    return rgm_import_drop_rows(m, table,
                                bolus ? "bolus in an unknown unit" : "rate in an unknown unit", 1);
  }
  *value = (*value + u->offset) * u->factor;
  if (u->per_kg && weight > 0) {
    *value *= weight;
  } else {
    *per_kg = u->per_kg;
  }
  if (!bolus && *value > r->key.rate_max) {
    *value = NAN;
    return rgm_import_drop_rows(m, table, "rate above dose.rate_max", 1);
  }
  return RGM_OK;
}


static const char *const mv_columns[] = {
    "icustay_id", "starttime", "endtime",           "amount",        "amountuom",
    "rate",       "rateuom",   "statusdescription", "patientweight", NULL};

static rgm_status read_mv(import *m, rgm_csv *csv, const rgm_csv_field *f, const int *c) {
  enum { STAY, START, END, AMOUNT, AMOUNT_UNIT, RATE, RATE_UNIT, STATUS, WEIGHT };
  const char *table = m->rules.key.table[INPUT_MV];
  if (rgm_import_in_list(m->rules.key.drop_status, f[c[STATUS]].text)) {
    return rgm_import_drop_rows(m, table, "status that the rules drop", 1);
  }
  import_dose d = {.kind = DOSE_INTERVAL};
  if (rgm_csv_id(f[c[STAY]], &d.stay_id) == RGM_CSV_EMPTY) {
    return rgm_import_drop_rows(m, table, "dose without an ICU stay", 1);
  }
  RGM_TRY(id_of(csv, f, c[STAY], &d.stay_id));
  RGM_TRY(time_of(csv, f, c[START], &d.start));
  RGM_TRY(time_of(csv, f, c[END], &d.end));
  double weight = NAN;
  rgm_csv_number(f[c[WEIGHT]], &weight);
  const rgm_csv_kind rated = rgm_csv_number(f[c[RATE]], &d.value);
  if (rated == RGM_CSV_TEXT) {
    return rgm_import_drop_rows(m, table, "rate that is no number", 1);
  }
  if (rated == RGM_CSV_EMPTY) {
    d.kind = DOSE_BOLUS;
    if (rgm_csv_number(f[c[AMOUNT]], &d.value) != RGM_CSV_NUMBER) {
      return rgm_import_drop_rows(m, table, "bolus without an amount", 1);
    }
  } else if (d.end < d.start) {
    return rgm_import_drop_rows(m, table, "ends before it begins", 1);
  }
  const bool bolus = d.kind == DOSE_BOLUS;
  RGM_TRY(amount_of(m, csv, table, f[c[bolus ? AMOUNT_UNIT : RATE_UNIT]].text, bolus, weight,
                    &d.value, &d.per_kg));
  return bolus && isnan(d.value) && !m->rules.key.with_bolus ? RGM_OK : rgm_import_add_dose(m, &d);
}


static const char *const cv_columns[] = {"icustay_id", "charttime", "rate", "rateuom", NULL};

static rgm_status read_cv(import *m, rgm_csv *csv, const rgm_csv_field *f, const int *c) {
  enum { STAY, TIME, RATE, UNIT };
  const char *table = m->rules.key.table[INPUT_CV];
  import_dose d = {.kind = DOSE_POINT};
  const rgm_csv_kind rated = rgm_csv_number(f[c[RATE]], &d.value);
  if (rated != RGM_CSV_NUMBER) {
    return rgm_import_drop_rows(
        m, table, rated == RGM_CSV_EMPTY ? "charted without a rate" : "rate that is no number", 1);
  }
  if (rgm_csv_id(f[c[STAY]], &d.stay_id) == RGM_CSV_EMPTY) {
    return rgm_import_drop_rows(m, table, "dose without an ICU stay", 1);
  }
  RGM_TRY(id_of(csv, f, c[STAY], &d.stay_id));
  RGM_TRY(time_of(csv, f, c[TIME], &d.start));
  d.end = d.start;
  RGM_TRY(amount_of(m, csv, table, f[c[UNIT]].text, false, NAN, &d.value, &d.per_kg));
  return rgm_import_add_dose(m, &d);
}


// ---- stays, patients, admissions ---------------------------------------------------------------

static const char *const stay_columns[] = {"icustay_id", "subject_id", "hadm_id", "intime",
                                           "outtime",    "dbsource",   NULL};

static rgm_status read_stay(import *m, rgm_csv *csv, const rgm_csv_field *f, const int *c) {
  int64_t id;
  m->flow[0].stays++;
  RGM_TRY(id_of(csv, f, c[0], &id));
  import_stay *s = rgm_import_find_stay(m, id);
  if (s == NULL) {
    return RGM_OK;
  }
  if (s->patient_id >= 0) {
    return rgm_import_bad(csv, c[0], "the stay is there twice");
  }
  RGM_TRY(id_of(csv, f, c[1], &s->patient_id));
  RGM_TRY(id_of(csv, f, c[2], &s->admission_id));
  RGM_TRY(time_of(csv, f, c[3], &s->in));
  if (rgm_csv_time(f[c[4]], &s->out) != RGM_CSV_NUMBER) {
    s->out = INT64_MIN;
  }
  snprintf(s->source, sizeof s->source, "%.23s", f[c[5]].text);
  return RGM_OK;
}


static const char *const patient_columns[] = {"subject_id", "gender", "dob", NULL};

static rgm_status read_patient(import *m, rgm_csv *csv, const rgm_csv_field *f, const int *c) {
  int64_t id;
  m->flow[0].patients++;
  RGM_TRY(id_of(csv, f, c[0], &id));
  for (int64_t i = rgm_import_find_patient(m, id); i >= 0 && i < m->stay_count; i++) {
    import_stay *s = &m->stay[m->by_patient[i]];
    if (s->patient_id != id) {
      break;
    }
    const char sex = f[c[1]].text[0];
    s->male = sex == 'M' || sex == 'm' ? 1 : sex == 'F' || sex == 'f' ? 0 : -1;
    RGM_TRY(time_of(csv, f, c[2], &s->born));
    // whole days, as a date of admission minus a date of birth
    const int64_t day = (s->in - (s->in % 86400 + 86400) % 86400 - s->born) / 86400;
    s->age = (double)day / 365.2425;
    s->age = s->age > 89 + 1 ? m->rules.key.age_over_89 : s->age;
  }
  return RGM_OK;
}


static const char *const admission_columns[] = {"hadm_id", "deathtime", "hospital_expire_flag",
                                                NULL};

static rgm_status read_admission(import *m, rgm_csv *csv, const rgm_csv_field *f, const int *c) {
  int64_t id;
  RGM_TRY(id_of(csv, f, c[0], &id));
  for (int64_t i = 0; i < m->stay_count; i++) {
    import_stay *s = &m->stay[i];
    if (s->admission_id == id) {
      s->died = f[c[2]].text[0] == '1' ? 1 : f[c[2]].text[0] == '0' ? 0 : -1;
      if (rgm_csv_time(f[c[1]], &s->death) != RGM_CSV_NUMBER) {
        s->death = INT64_MIN;
      }
    }
  }
  return RGM_OK;
}


// ---- measurements ------------------------------------------------------------------------------

static const char *const lab_columns[] = {"subject_id", "hadm_id",  "itemid", "charttime",
                                          "valuenum",   "valueuom", NULL};

static rgm_status read_lab(import *m, rgm_csv *csv, const rgm_csv_field *f, const int *c) {
  int64_t id, time;
  double value;
  RGM_TRY(id_of(csv, f, c[0], &id));
  const int64_t first = rgm_import_find_patient(m, id);
  if (first < 0) {
    return RGM_OK;
  }
  const int64_t item = item_of(f[c[2]].text, f[c[2]].size);
  const int slot = m->rules.slot_of[item] - 1;
  import_variable *v = &m->rules.variable[m->rules.slot_variable[slot]];
  if (!rgm_import_value(v, f[c[4]], f[c[5]].text, &value)) {
    return RGM_OK;
  }
  RGM_TRY(time_of(csv, f, c[3], &time));
  if (f[c[1]].size == 0) {
    rgm_import_drop_rows(m, m->rules.key.table[LABS],
                         "(kept) no hadm_id: linked by patient and time", 1);
  }
  for (int64_t i = first; i < m->stay_count; i++) {
    const int64_t stay = m->by_patient[i];
    if (m->stay[stay].patient_id != id) {
      break;
    }
    RGM_TRY(rgm_import_add_event(m, stay, slot, time, value));
  }
  return RGM_OK;
}


static const char *const chart_columns[] = {"icustay_id", "itemid",   "charttime", "value",
                                            "valuenum",   "valueuom", "error",     NULL};

static rgm_status read_chart(import *m, rgm_csv *csv, const rgm_csv_field *f, const int *c) {
  enum { STAY, ITEM, TIME, VALUE, NUMBER, UNIT, ERROR };
  int64_t id, time;
  double value;
  if (rgm_csv_id(f[c[STAY]], &id) == RGM_CSV_EMPTY) {
    return rgm_import_drop_rows(m, m->rules.key.table[CHART], "charted without an ICU stay", 1);
  }
  RGM_TRY(id_of(csv, f, c[STAY], &id));
  const import_stay *s = rgm_import_find_stay(m, id);
  if (s == NULL) {
    return RGM_OK;
  }
  const int slot = m->rules.slot_of[item_of(f[c[ITEM]].text, f[c[ITEM]].size)] - 1;
  import_variable *v = &m->rules.variable[m->rules.slot_variable[slot]];
  rgm_csv_id(f[c[ERROR]], &id);
  if (id == 1) {
    v->count.marked_wrong++;
    return RGM_OK;
  }
  if (v->how == HOW_GCS && m->rules.slot_part[slot] == 1 &&
      rgm_import_in_list(v->tube, f[c[VALUE]].text)) {
    value = 0;
    v->count.used++;
  } else if (!rgm_import_value(v, f[c[NUMBER]], f[c[UNIT]].text, &value)) {
    return RGM_OK;
  }
  RGM_TRY(time_of(csv, f, c[TIME], &time));
  return rgm_import_add_event(m, s - m->stay, slot, time, value);
}


static rgm_status read_mimic(import *m) {
  // pass one: doses, then the stays that have them
  const import_keys *key = &m->rules.key;
  wanted points = {.items = &key->point_items}, intervals = {.items = &key->interval_items};
  m->flow_count = 1;
  snprintf(m->flow[0].rule, sizeof m->flow[0].rule, "all ICU stays");
  if (key->point_items.count > 0) {
    RGM_TRY(read_table(m, INPUT_CV, cv_columns, &points, read_cv));
  }
  if (key->interval_items.count > 0) {
    RGM_TRY(read_table(m, INPUT_MV, mv_columns, &intervals, read_mv));
  }
  RGM_TRY(rgm_import_collect_stays(m));
  RGM_TRY(read_table(m, ICUSTAYS, stay_columns, NULL, read_stay));
  RGM_TRY(rgm_import_index_patients(m));
  RGM_TRY(read_table(m, PATIENTS, patient_columns, NULL, read_patient));
  RGM_TRY(read_table(m, ADMISSIONS, admission_columns, NULL, read_admission));
  RGM_TRY(rgm_import_courses(m));

  // pass two: what was measured
  wanted labs = {.rules = &m->rules, .table = LABS}, chart = {.rules = &m->rules, .table = CHART};
  RGM_TRY(read_table(m, LABS, lab_columns, &labs, read_lab));
  return read_table(m, CHART, chart_columns, &chart, read_chart);
}


const import_kind rgm_import_mimic3_heparin = {
    .name = "mimic3-heparin",
    .doc = "heparin dosing from the raw tables of MIMIC-III",
    .rules = "configs/import/mimic3_heparin.yaml",
    .tables = mimic_tables,
    .read = read_mimic,
    .hourly = true,
};
