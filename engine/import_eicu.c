// SPDX-License-Identifier: Apache-2.0
// eICU: heparin infusions and what was measured around them. Times are minutes from admission to
// the unit. A rate's unit is what stands in parentheses at the end of the drug's name; ml/hr needs
// the concentration that its row, or the rules, give. Rates in other units exclude the stay.

#include "engine/import.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

enum { PATIENT, INFUSION, LAB, VITAL, APERIODIC };

static const char *const eicu_tables[] = {"patient",       "infusiondrug",   "lab",
                                          "vitalperiodic", "vitalaperiodic", NULL};


// ---- helpers -----------------------------------------------------------------------------------

// whether a text contains a word, in any case
static bool contains(const char *text, size_t size, const char *word) {
  const size_t n = strlen(word);
  for (size_t i = 0; i + n <= size; i++) {
    if (strncasecmp(text + i, word, n) == 0) {
      return true;
    }
  }
  return false;
}


static bool keep_drug(void *arg, const char *text, size_t size) {
  const import *m = arg;
  return contains(text, size, m->rules.key.drug);
}


static int variable_of(const import_rules *r, const char *name) {
  for (int v = 0; v < r->variable_count; v++) {
    if (r->variable[v].table == LAB && rgm_import_in_list(r->variable[v].names, name)) {
      return v;
    }
  }
  return -1;
}


static bool keep_lab(void *arg, const char *text, size_t size) {
  const import *m = arg;
  char name[RGM_STRING_SIZE];
  if (size >= sizeof name) {
    return false;
  }
  memcpy(name, text, size);
  name[size] = '\0';
  return variable_of(&m->rules, name) >= 0;
}


// the unit in parentheses at a name's end; "" where there is none
static void unit_of(const char *name, char unit[48]) {
  const size_t size = strlen(name);
  const char *open = size > 0 && name[size - 1] == ')' ? strrchr(name, '(') : NULL;
  unit[0] = '\0';
  if (open != NULL && (size_t)(name + size - 2 - open) < 47) {
    memcpy(unit, open + 1, (size_t)(name + size - 2 - open));
    unit[name + size - 2 - open] = '\0';
  }
}


// minutes, also negative ones, as seconds
static bool offset_of(rgm_csv_field f, int64_t *seconds) {
  double minutes;
  if (rgm_csv_number(f, &minutes) != RGM_CSV_NUMBER || fabs(minutes) > 1e8) {
    return false;
  }
  *seconds = (int64_t)(minutes * 60);
  return true;
}


// "002-1039": two numbers as one, in their order
static bool person_of(const char *text, int64_t *id) {
  char *end;
  const long long hospital = strtoll(text, &end, 10);
  if (end == text || hospital < 0 || hospital > 1000000) {
    return false;
  }
  long long number = 0;
  if (*end == '-') {
    const char *from = end + 1;
    number = strtoll(from, &end, 10);
    if (end == from) {
      return false;
    }
  }
  *id = hospital * 1000000000000 + number;
  return *end == '\0' && number >= 0 && number < 1000000000000;
}


// ---- tables ------------------------------------------------------------------------------------

typedef struct infusion_columns {
  int stay, time, name, rate, amount, volume, weight;
} infusion_columns;

// A rate in units/h; NaN where its unit, or what it needs, is not known.
static double convert(const import_rules *r, const rgm_csv_field *f, const infusion_columns *c,
                      double rate, bool *per_kg) {
  char unit[48];
  unit_of(f[c->name].text, unit);
  const import_unit *u = rgm_import_find_unit(r->dose_unit, r->dose_unit_count, unit);
  if (u == NULL || rate < 0) {
    return NAN;
  }
  double value = (rate + u->offset) * u->factor, amount, volume, weight;
  if (u->per_ml) {
    const bool given = rgm_csv_number(f[c->amount], &amount) == RGM_CSV_NUMBER &&
                       rgm_csv_number(f[c->volume], &volume) == RGM_CSV_NUMBER && amount > 0 &&
                       volume > 0;
    const double concentration = given                      ? amount / volume
                                 : r->key.concentration > 0 ? r->key.concentration
                                                            : NAN;
    value *= concentration;
  }
  *per_kg = u->per_kg;
  if (u->per_kg && rgm_csv_number(f[c->weight], &weight) == RGM_CSV_NUMBER && weight > 0) {
    value *= weight;
    *per_kg = false;
  }
  return *per_kg || value <= r->key.rate_max ? value : NAN;
}


static rgm_status read_infusion(import *m, rgm_csv *csv, const rgm_csv_field *f,
                                const infusion_columns *c) {
  const import_keys *key = &m->rules.key;
  const char *table = key->table[INFUSION];
  import_dose d = {.kind = DOSE_POINT};
  double rate;
  const rgm_csv_kind kind = rgm_csv_number(f[c->rate], &rate);
  if (kind != RGM_CSV_NUMBER) {
    return rgm_import_drop_rows(
        m, table, kind == RGM_CSV_EMPTY ? "charted without a rate" : "rate that is no number", 1);
  }
  if (rgm_csv_id(f[c->stay], &d.stay_id) != RGM_CSV_NUMBER) {
    return rgm_import_bad(csv, c->stay, "no whole number where an id is expected");
  }
  if (!offset_of(f[c->time], &d.start)) {
    return rgm_import_bad(csv, c->time, "no time in minutes");
  }
  d.end = d.start;
  d.value = convert(&m->rules, f, c, rate, &d.per_kg);
  if (isnan(d.value)) {
    if (key->unknown_unit == UNKNOWN_REFUSE) {
      return rgm_import_bad(csv, c->name, "a rate in a unit that is not known; see dose.units");
    }
    char unit[48], why[96];
    unit_of(f[c->name].text, unit);
    snprintf(why, sizeof why, "rate in (%.40s): %s", unit,
             rgm_import_find_unit(m->rules.dose_unit, m->rules.dose_unit_count, unit) != NULL
                 ? "concentration not known"
                 : "unit not known");
    rgm_import_drop_rows(m, table, why, 1);
  }
  return rgm_import_add_dose(m, &d);
}


static rgm_status read_infusions(import *m, rgm_csv *csv) {
  infusion_columns c;
  RGM_TRY(rgm_csv_need(csv, "patientunitstayid", &c.stay));
  RGM_TRY(rgm_csv_need(csv, "infusionoffset", &c.time));
  RGM_TRY(rgm_csv_need(csv, "drugname", &c.name));
  RGM_TRY(rgm_csv_need(csv, "drugrate", &c.rate));
  RGM_TRY(rgm_csv_need(csv, "drugamount", &c.amount));
  RGM_TRY(rgm_csv_need(csv, "volumeoffluid", &c.volume));
  RGM_TRY(rgm_csv_need(csv, "patientweight", &c.weight));
  rgm_csv_filter(csv, c.name, keep_drug, m);
  rgm_csv_field *f;
  for (;;) {
    RGM_TRY(rgm_csv_next(csv, &f));
    if (f == NULL) {
      return RGM_OK;
    }
    RGM_TRY(read_infusion(m, csv, f, &c));
  }
}


static rgm_status read_patient(import *m, rgm_csv *csv, const rgm_csv_field *f, const int *c) {
  enum { STAY, PERSON, SEX, AGE, WEIGHT, OUT, STATUS, END };
  int64_t id;
  m->flow[0].stays++;
  if (rgm_csv_id(f[c[STAY]], &id) != RGM_CSV_NUMBER) {
    return rgm_import_bad(csv, c[STAY], "no whole number where an id is expected");
  }
  import_stay *s = rgm_import_find_stay(m, id);
  if (s == NULL) {
    return RGM_OK;
  }
  if (s->patient_id >= 0) {
    return rgm_import_bad(csv, c[STAY], "the stay is there twice");
  }
  if (!person_of(f[c[PERSON]].text, &s->patient_id)) {
    return rgm_import_bad(csv, c[PERSON], "no id like 002-1039");
  }
  const char sex = f[c[SEX]].text[0];
  s->male = sex == 'M' ? 1 : sex == 'F' ? 0 : -1;
  if (rgm_csv_number(f[c[AGE]], &s->age) == RGM_CSV_TEXT && f[c[AGE]].text[0] == '>') {
    s->age = m->rules.key.age_over_89;
  }
  rgm_csv_number(f[c[WEIGHT]], &s->admission_weight);
  s->admission_weight = s->admission_weight > 0 ? s->admission_weight : NAN;
  s->in = 0;
  if (!offset_of(f[c[OUT]], &s->out)) {
    s->out = INT64_MIN;
  }
  s->died = strcasecmp(f[c[STATUS]].text, "Expired") == 0 ? 1
            : strcasecmp(f[c[STATUS]].text, "Alive") == 0 ? 0
                                                          : -1;
  if (s->died != 1 || !offset_of(f[c[END]], &s->death)) {
    s->death = INT64_MIN;
  }
  return RGM_OK;
}


static rgm_status read_patients(import *m, rgm_csv *csv) {
  static const char *const names[] = {"patientunitstayid",
                                      "uniquepid",
                                      "gender",
                                      "age",
                                      "admissionweight",
                                      "unitdischargeoffset",
                                      "hospitaldischargestatus",
                                      "hospitaldischargeoffset"};
  int c[8];
  for (int i = 0; i < 8; i++) {
    RGM_TRY(rgm_csv_need(csv, names[i], &c[i]));
  }
  rgm_csv_field *f;
  for (;;) {
    RGM_TRY(rgm_csv_next(csv, &f));
    if (f == NULL) {
      return RGM_OK;
    }
    RGM_TRY(read_patient(m, csv, f, c));
  }
}


static rgm_status read_labs(import *m, rgm_csv *csv) {
  static const char *const names[] = {"patientunitstayid", "labresultoffset", "labname",
                                      "labresult", "labmeasurenamesystem"};
  int c[5];
  for (int i = 0; i < 5; i++) {
    RGM_TRY(rgm_csv_need(csv, names[i], &c[i]));
  }
  rgm_csv_filter(csv, c[2], keep_lab, m);
  rgm_csv_field *f;
  for (;;) {
    RGM_TRY(rgm_csv_next(csv, &f));
    if (f == NULL) {
      return RGM_OK;
    }
    int64_t id, time;
    double value;
    const import_stay *s =
        rgm_csv_id(f[c[0]], &id) == RGM_CSV_NUMBER ? rgm_import_find_stay(m, id) : NULL;
    if (s == NULL) {
      continue;
    }
    import_variable *v = &m->rules.variable[variable_of(&m->rules, f[c[2]].text)];
    if (!offset_of(f[c[1]], &time)) {
      return rgm_import_bad(csv, c[1], "no time in minutes");
    }
    if (rgm_import_value(v, f[c[3]], f[c[4]].text, &value)) {
      RGM_TRY(rgm_import_add_event(m, s - m->stay, v->slot, time, value));
    }
  }
}


// whether a row's stay is one of the cohort
static bool keep_stay(void *arg, const char *text, size_t size) {
  int64_t id = 0;
  for (size_t i = 0; i < size; i++) {
    id = size < 18 && text[i] >= '0' && text[i] <= '9' ? 10 * id + (text[i] - '0') : -1;
    if (id < 0) {
      return false;
    }
  }
  return size > 0 && rgm_import_find_stay(arg, id) != NULL;
}


// Vital signs stand side by side: one column each, those of monitors in vitalperiodic, those of
// cuffs and catheters in vitalaperiodic, which add to the first.
static rgm_status read_columns(import *m, rgm_csv *csv, bool aperiodic) {
  import_rules *r = &m->rules;
  int stay, offset, column[IMPORT_VARIABLES];
  RGM_TRY(rgm_csv_need(csv, "patientunitstayid", &stay));
  RGM_TRY(rgm_csv_need(csv, "observationoffset", &offset));
  for (int v = 0; v < r->variable_count; v++) {
    const import_variable *var = &r->variable[v];
    const char *name = aperiodic ? var->aperiodic : var->column;
    column[v] = -1;
    if (var->how == HOW_LAST && var->table == VITAL && name[0] != '\0') {
      RGM_TRY(rgm_csv_need(csv, name, &column[v]));
    }
  }
  rgm_csv_filter(csv, stay, keep_stay, m);
  rgm_csv_field *f;
  for (;;) {
    RGM_TRY(rgm_csv_next(csv, &f));
    if (f == NULL) {
      return RGM_OK;
    }
    int64_t id, time;
    rgm_csv_id(f[stay], &id);
    if (!offset_of(f[offset], &time)) {
      return rgm_import_bad(csv, offset, "no time in minutes");
    }
    const import_stay *s = rgm_import_find_stay(m, id);
    for (int v = 0; v < r->variable_count; v++) {
      double value;
      if (column[v] >= 0 && f[column[v]].size > 0 &&
          rgm_import_value(&r->variable[v], f[column[v]], "", &value)) {
        RGM_TRY(rgm_import_add_event(m, s - m->stay, r->variable[v].slot, time, value));
      }
    }
  }
}


static rgm_status read_vitals(import *m, rgm_csv *csv) {
  return read_columns(m, csv, false);
}


static rgm_status read_aperiodic(import *m, rgm_csv *csv) {
  return read_columns(m, csv, true);
}


static rgm_status with_table(import *m, int table, bool optional,
                             rgm_status (*read)(import *m, rgm_csv *csv)) {
  rgm_csv *csv;
  RGM_TRY(optional ? rgm_import_open_optional(m, table, &csv) : rgm_import_open(m, table, &csv));
  if (csv == NULL) {
    return RGM_OK;
  }
  const rgm_status status = read(m, csv);
  if (status != RGM_OK) {
    rgm_csv_close(csv);
    return status;
  }
  return rgm_import_close(m, table, csv);
}


static rgm_status read_eicu(import *m) {
  bool vitals = false, cuffs = false, optional = true;
  for (int v = 0; v < m->rules.variable_count; v++) {
    const import_variable *var = &m->rules.variable[v];
    const bool asked = var->table == VITAL && var->how == HOW_LAST;
    vitals |= asked && var->column[0] != '\0';
    cuffs |= asked && var->aperiodic[0] != '\0';
    optional &= !asked || var->optional;
  }
  m->flow_count = 1;
  m->flow[0].patients = -1;
  snprintf(m->flow[0].rule, sizeof m->flow[0].rule, "all unit stays");
  RGM_TRY(with_table(m, INFUSION, false, read_infusions));
  RGM_TRY(rgm_import_collect_stays(m));
  RGM_TRY(with_table(m, PATIENT, false, read_patients));
  RGM_TRY(rgm_import_index_patients(m));
  RGM_TRY(rgm_import_courses(m));
  RGM_TRY(with_table(m, LAB, false, read_labs));
  RGM_TRY(vitals ? with_table(m, VITAL, optional, read_vitals) : RGM_OK);
  return cuffs ? with_table(m, APERIODIC, optional || vitals, read_aperiodic) : RGM_OK;
}


const import_kind rgm_import_eicu_heparin = {
    .name = "eicu-heparin",
    .doc = "heparin dosing from the tables of eICU",
    .rules = "configs/import/eicu_heparin.yaml",
    .tables = eicu_tables,
    .read = read_eicu,
    .hourly = true,
};
