// SPDX-License-Identifier: Apache-2.0
// The rules of an import: a YAML file read by the engine's typed config, one section per concern
// and one `variable.NAME` per variable; units with conversions; item ids as a lookup table.

#include "engine/config_private.h"
#include "engine/import.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#define AT(member) offsetof(import_keys, member)
#define OF(member) offsetof(import_variable, member)
#define TEXT(key, at, fallback, doc) \
  { key, RGM_STRING, at, "", fallback, 0, 0, NULL, 0, doc }
#define REAL(key, at, unit, fallback, min, max, doc) \
  { key, RGM_FLOAT, at, unit, fallback, min, max, NULL, 0, doc }
#define WHOLE(key, at, fallback, min, max, doc) \
  { key, RGM_INT, at, "1", fallback, min, max, NULL, 0, doc }
#define FLAG(key, at, fallback, doc) \
  { key, RGM_BOOL, at, "", fallback, 0, 0, NULL, 0, doc }
#define ITEMS(key, at, doc) \
  { key, RGM_LIST, at, "1", "[]", 0, IMPORT_ITEMS - 1, NULL, 0, doc }
#define PICK(key, at, fallback, choices, doc) \
  { key, RGM_CHOICE, at, "", fallback, 0, 0, choices, 0, doc }

static const char *const ages[] = {"all", "monitor", "none", NULL};
static const char *const hours_rules[] = {"paper", "landmark", "all", NULL};
static const char *const unknown_units[] = {"exclude", "refuse", NULL};
static const char *const imputations[] = {"knn", "none", NULL};
static const char *const hows[] = {"last", "gcs",       "weight", "age",
                                   "male", "admission", "static", NULL};
static const char *const steps[] = {"rows", "hours", NULL};
static const char *const value_units[] = {"drop", "refuse", NULL};
static const char *const tubes[] = {"normal", "missing", NULL};

static const rgm_field import_fields[] = {
    TEXT("title", AT(title), "", "What the data set is, in a line."),
    TEXT("licence", AT(licence), "", "Licence of the data, noted in the data set."),
    TEXT("warning", AT(warning), "", "Printed with every report."),
    TEXT("variables", AT(variables), NULL, "State variables in their order, by commas."),
    PICK("ages", AT(see_ages), "monitor", ages,
         "Which times since measurement the policy sees; all are stored."),
    FLAG("missing", AT(see_missing), "false", "The policy sees the missing flags."),
    FLAG("digests", AT(digests), "true", "Take the SHA-256 of the tables read."),
    FLAG("ids", AT(ids), "false", "Ids in the CSV copy; the data set never has them."),
    WHOLE("cells", AT(cells), "5", 0, 1000, "Counts below this are hidden in Table 1."),
    {0},
};

static const rgm_field cohort_fields[] = {
    REAL("age_min", AT(age_min), "a", "18", 0, 150, "Age from which patients are included."),
    REAL("age_over_89", AT(age_over_89), "a", "90", 89, 120,
         "Stands for ages over 89, whose dates of birth are shifted or hidden."),
    REAL("hours_min", AT(hours_min), "h", "7", 0, 10000, "Shortest course of treatment."),
    REAL("hours_max", AT(hours_max), "h", "72", 1, 10000, "Courses are cut after these hours."),
    PICK("hours_rule", AT(hours_rule), "paper", hours_rules,
         "paper: courses shorter than hours_min are left out, which looks into the future; "
         "landmark: learning begins at hours_min, on who is still treated; all: no such rule."),
    FLAG("stop_terminates", AT(stop_terminates), "true",
         "A course that was stopped ends by itself (terminated), not by the recording."),
    {0},
};

static const rgm_field dose_fields[] = {
    TEXT("name", AT(name), "dose", "The drug's name."),
    TEXT("unit", AT(unit), "units", "Unit of amounts."),
    TEXT("units", AT(units), "",
         "Units of rates with conversions: \"units/hour, ml/hr = per_ml\"."),
    TEXT("bolus_units", AT(bolus_units), "", "Units of single amounts."),
    TEXT("drop_status", AT(drop_status), "", "Statuses whose rows do not count, by |."),
    TEXT("drug", AT(drug), "", "Text that drug names contain."),
    ITEMS("interval_items", AT(interval_items), "Items charted with start, end and rate."),
    ITEMS("point_items", AT(point_items), "Items charted with a rate from a time on."),
    REAL("hold", AT(hold), "h", "2", 0, 1000, "A charted rate holds until the next one, at most."),
    REAL("last_hold", AT(last_hold), "h", "1", 0, 1000, "How long the last charted rate holds."),
    REAL("concentration", AT(concentration), "1/ml", "0", 0, 1e6,
         "Units in a ml where rows do not say it; 0: not known."),
    REAL("rate_max", AT(rate_max), "1/h", "1e300", 0, 1e300,
         "A higher rate is not believed: the stay is excluded."),
    PICK("unknown_unit", AT(unknown_unit), "exclude", unknown_units,
         "Stays with a dose in a unit that is not listed are excluded, or the import stops."),
    FLAG("per_kg", AT(per_kg), "true", "Actions are doses per kg and hour."),
    FLAG("bolus", AT(with_bolus), "false", "Boluses count for the actions."),
    {0},
};

static const rgm_field split_fields[] = {
    WHOLE("seed", AT(seed), "1", 0, 9e15, "Seed of the split by patient."),
    REAL("validation", AT(validation), "1", "0.2", 0, 0.9, "Share of patients."),
    REAL("test", AT(test), "1", "0", 0, 0.9, "Share of patients."),
    {0},
};

static const rgm_field impute_fields[] = {
    PICK("method", AT(impute), "knn", imputations, "How missing values are filled, if at all."),
    WHOLE("k", AT(k), "5", 1, 1000, "Neighbours."),
    WHOLE("donors", AT(donors), "4096", 1, 1e6,
          "At most so many training rows, evenly spaced, are looked at for each variable."),
    {0},
};

static const rgm_field action_fields[] = {
    WHOLE("bins", AT(bins), "6", 2, 1000, "Number of actions, at quantiles of the training doses."),
    FLAG("zero_bin", AT(zero_bin), "true", "Action 0 is no drug; quantiles of the rest."),
    {0},
};

static const rgm_field outcome_fields[] = {
    TEXT("variable", AT(outcome), "", "The variable that rewards are about."),
    REAL("low", AT(low), "", "60", -1e9, 1e9, "Lower end of its target range."),
    REAL("high", AT(high), "", "100", -1e9, 1e9, "Upper end of its target range."),
    {0},
};

static const rgm_field column_fields[] = {
    TEXT("id", AT(id), "id", "Column of the patient."),
    TEXT("episode", AT(episode), "", "Column of the episode; none: one for each patient."),
    TEXT("time", AT(time), "time", "Column of the time, a number or a date with time."),
    TEXT("time_unit", AT(time_unit), "h", "Unit of a numeric time: s, min, h or d."),
    PICK(
        "steps", AT(steps), "rows", steps,
        "rows: every row of a wide table is a step, or every time with a dose or an action; hours: "
        "the hourly grid of the hospital importers, under cohort.*, with charted rates held as "
        "dose.hold says."),
    TEXT("variable", AT(variable_column), "",
         "Column that names what a row measures: the table has a row for each value, and dose, "
         "bolus, death, discharge and outcomes are names or codes in it, by |. None: a wide table, "
         "where they are columns."),
    TEXT("value", AT(value_column), "value", "Column of the value, of a row for each value."),
    TEXT("unit", AT(unit_column), "", "Column of its unit; none: no unit is looked at."),
    TEXT("end", AT(end_column), "", "Column of the time at which a row's dose rate ended."),
    TEXT("status", AT(status_column), "", "Column of the row's status."),
    TEXT("keep_status", AT(keep_rows), "", "Statuses whose rows count, by |; none: all others."),
    TEXT("drop_status", AT(drop_rows), "", "Statuses whose rows do not count, by |."),
    PICK("unknown_unit", AT(unknown_value_unit), "drop", value_units,
         "Values in a unit that is not listed are dropped and counted, or the import stops."),
    TEXT("dose", AT(dose_column), "", "The dose; its unit is dose.unit, on the grid per hour."),
    TEXT("bolus", AT(bolus_column), "", "Amounts given at once; on the grid."),
    TEXT("action", AT(action_column), "", "Column of an action that is a number from 0 on."),
    TEXT("reward", AT(reward_column), "", "Column of the reward."),
    TEXT("terminated", AT(terminated_column), "", "Column: 1 where the episode ended by itself."),
    TEXT("truncated", AT(truncated_column), "", "Column: 1 where only the recording ended."),
    TEXT("death", AT(death_column), "", "What is charted at the time of death; on the grid."),
    TEXT("discharge", AT(discharge_column), "", "What is charted on leaving; on the grid."),
    TEXT("outcomes", AT(outcome_columns), "", "Outcomes, by commas."),
    {0},
};

static const rgm_field variable_fields[] = {
    PICK("how", OF(how), "last", hows, "How the variable comes from its rows."),
    {"table", RGM_INT, OF(table), "", "0", 0, 7, NULL, 0, "Set by name; see the front end."},
    ITEMS("items", OF(items), "Item ids."),
    ITEMS("admit_items", OF(admit), "Item ids of weights at admission."),
    ITEMS("motor", OF(motor), "Item ids of the motor response."),
    ITEMS("verbal", OF(verbal), "Item ids of the verbal response."),
    ITEMS("eyes", OF(eyes), "Item ids of the eye response."),
    TEXT("tube", OF(tube), "", "Texts of the verbal response under a tube, by |."),
    PICK("tube_score", OF(tube_score), "normal", tubes,
         "Under a tube the sum counts as normal (15), or as not measured."),
    TEXT("names", OF(names), "", "Names or codes of the variable, by |."),
    TEXT("column", OF(column), "", "Column of the table."),
    TEXT("aperiodic", OF(aperiodic), "", "Column of vitalaperiodic that counts as well."),
    TEXT("unit", OF(unit), NULL, "Unit of the values in the data set."),
    TEXT("units", OF(units), "", "Accepted spellings with conversions; empty: any."),
    REAL("above", OF(above), "", "-1e300", -1e300, 1e300, "Values are larger than this."),
    REAL("below", OF(below), "", "1e300", -1e300, 1e300, "Values are smaller than this."),
    REAL("lookback", OF(lookback), "h", "24", 0, 1e6,
         "Values may be this much older than the first hour."),
    TEXT("doc", OF(doc), "", "One line."),
    FLAG("backfill", OF(backfill), "true",
         "The first weight counts from admission on, also before it was charted."),
    FLAG("optional", OF(optional), "false", "May be missing as a whole."),
    {0},
};


enum { SHARED_SECTIONS = 7 }; // of all front ends; then columns, variable
const import_section rgm_import_sections[] = {
    {"import", import_fields},     {"cohort", cohort_fields},
    {"dose", dose_fields},         {"split", split_fields},
    {"impute", impute_fields},     {"actions", action_fields},
    {"outcome", outcome_fields},   {"columns", column_fields},
    {"variable", variable_fields}, {NULL, NULL}};


// ---- units -------------------------------------------------------------------------------------

// copies [from, from + size) without blanks around it
static bool copy_trimmed(char *out, size_t room, const char *from, size_t size) {
  while (size > 0 && *from == ' ') {
    from++;
    size--;
  }
  while (size > 0 && from[size - 1] == ' ') {
    size--;
  }
  if (size >= room) {
    return false;
  }
  memcpy(out, from, size);
  out[size] = '\0';
  return true;
}


static bool parse_conversion(const char *text, import_unit *unit) {
  char *end;
  unit->factor = strtod(text, &end);
  if (end != text && *end == '\0') {
    return unit->factor != 0 && isfinite(unit->factor);
  }
  unit->factor = 1;
  if (strcmp(text, "fahrenheit") == 0) {
    unit->factor = 1 / 1.8;
    unit->offset = -32;
    return true;
  }
  unit->per_kg = strcmp(text, "per_kg") == 0;
  unit->per_ml = strcmp(text, "per_ml") == 0;
  return unit->per_kg || unit->per_ml;
}


// "mmHg, () , Deg. F = fahrenheit, g/L = 0.1": () is the empty spelling
rgm_status rgm_import_parse_units(const char *text, const char *where, import_unit *out,
                                  int *count) {
  *count = 0;
  while (*text != '\0') {
    const size_t size = strcspn(text, ",");
    const char *equals = memchr(text, '=', size);
    const size_t name = equals != NULL ? (size_t)(equals - text) : size;
    import_unit unit = {.factor = 1};
    char conversion[64] = "1";
    const bool copied = copy_trimmed(unit.spelling, sizeof unit.spelling, text, name) &&
                        (equals == NULL ||
                         copy_trimmed(conversion, sizeof conversion, equals + 1, size - name - 1));
    if (*count == IMPORT_UNITS || !copied || unit.spelling[0] == '\0' ||
        !parse_conversion(conversion, &unit)) {
      return rgm_fail(RGM_ECONFIG,
                      "%s: cannot be read from \"%.60s\" on; units stand as \"mg/dL, g/L = 100, "
                      "Deg. F = fahrenheit\", at most %d",
                      where, text, IMPORT_UNITS);
    }
    if (strcmp(unit.spelling, "()") == 0) {
      unit.spelling[0] = '\0';
    }
    out[(*count)++] = unit;
    text += size + (text[size] == ',');
  }
  return RGM_OK;
}


const import_unit *rgm_import_find_unit(const import_unit *units, int count, const char *text) {
  text += strspn(text, " ");
  size_t size = strlen(text);
  while (size > 0 && text[size - 1] == ' ') {
    size--;
  }
  for (int i = 0; i < count; i++) {
    if (strncasecmp(units[i].spelling, text, size) == 0 && units[i].spelling[size] == '\0') {
      return &units[i];
    }
  }
  return NULL;
}


bool rgm_import_in_list(const char *list, const char *text) {
  while (*list != '\0') {
    const size_t size = strcspn(list, "|");
    char word[RGM_STRING_SIZE];
    if (copy_trimmed(word, sizeof word, list, size) && word[0] != '\0' &&
        strcasecmp(word, text) == 0) {
      return true;
    }
    list += size + (list[size] == '|');
  }
  return false;
}


// ---- loading -----------------------------------------------------------------------------------

static rgm_status add_items(import_rules *rules, const rgm_list *items, int slot,
                            const char *name) {
  for (int i = 0; i < items->count; i++) {
    const int64_t id = (int64_t)items->value[i];
    if (rules->slot_of[id] != 0 && rules->slot_of[id] != slot + 1) {
      return rgm_fail(RGM_ECONFIG, "variable.%s: item %lld belongs to another variable too", name,
                      (long long)id);
    }
    rules->slot_of[id] = (uint8_t)(slot + 1);
  }
  return RGM_OK;
}


// gives a variable its slots and enters its items
static rgm_status number_slots(import_rules *rules, int index) {
  import_variable *v = &rules->variable[index];
  const int parts = v->how == HOW_GCS ? 3 : v->how == HOW_WEIGHT ? 2 : 1;
  v->slot = rules->slot_count;
  for (int p = 0; p < parts; p++) {
    rules->slot_variable[rules->slot_count] = (uint8_t)index;
    rules->slot_part[rules->slot_count] = (uint8_t)p;
    rules->slot_count++;
  }
  if (v->how == HOW_GCS) {
    RGM_TRY(add_items(rules, &v->motor, v->slot, v->name));
    RGM_TRY(add_items(rules, &v->verbal, v->slot + 1, v->name));
    return add_items(rules, &v->eyes, v->slot + 2, v->name);
  }
  RGM_TRY(add_items(rules, &v->items, v->slot, v->name));
  return v->how == HOW_WEIGHT ? add_items(rules, &v->admit, v->slot + 1, v->name) : RGM_OK;
}


// reads variable.NAME
static rgm_status read_variable(import_rules *rules, rgm_config *config, const char *name,
                                size_t size) {
  char section[96], where[128];
  import_variable *v = &rules->variable[rules->variable_count];
  if (rules->variable_count == IMPORT_VARIABLES || !copy_trimmed(v->name, 40, name, size) ||
      v->name[0] == '\0') {
    return rgm_fail(RGM_ECONFIG, "%s: import.variables: at most %d names of at most 39 letters",
                    rgm_config_where(config, "import.variables"), IMPORT_VARIABLES);
  }
  for (int i = 0; i < rules->variable_count; i++) {
    if (strcmp(rules->variable[i].name, v->name) == 0) {
      return rgm_fail(RGM_ECONFIG, "%s: import.variables: %s stands there twice",
                      rgm_config_where(config, "import.variables"), v->name);
    }
  }
  snprintf(section, sizeof section, "variable.%s", v->name);

  RGM_TRY(rgm_config_read(config, section, rules->variable_field, v));
  snprintf(where, sizeof where, "%s: %s.units", rgm_config_where(config, section), section);
  RGM_TRY(rgm_import_parse_units(v->units, where, v->accepted, &v->unit_count));
  rules->variable_count++;
  return number_slots(rules, rules->variable_count - 1);
}


static int find_variable(const import_rules *rules, const char *name) {
  for (int i = 0; i < rules->variable_count; i++) {
    if (strcmp(rules->variable[i].name, name) == 0) {
      return i;
    }
  }
  return -1;
}


static rgm_status read_variables(import_rules *rules, rgm_config *config, const import_kind *kind) {
  import_keys *key = &rules->key;

  // the table is a choice among the front end's own
  RGM_ASSERT(sizeof variable_fields <= sizeof rules->variable_field);
  memcpy(rules->variable_field, variable_fields, sizeof variable_fields);
  for (rgm_field *f = rules->variable_field; f->key != NULL; f++) {
    if (strcmp(f->key, "table") == 0) {
      *f = (rgm_field)PICK("table", OF(table), kind->tables[0], kind->tables,
                           "The table that holds its rows.");
    }
  }
  for (const char *at = key->variables; *at != '\0';) {
    const size_t size = strcspn(at, ",");
    RGM_TRY(read_variable(rules, config, at, size));
    rules->variable[rules->variable_count - 1].state = true;
    at += size + (at[size] == ',');
  }
  if (rules->variable_count == 0) {
    return rgm_fail(RGM_ECONFIG, "import.variables: name at least one variable");
  }

  // the variable of rewards and the weight are carried even where the policy does not see them
  rules->monitor = rules->weight = -1;
  if (key->outcome[0] != '\0') {
    if (find_variable(rules, key->outcome) < 0) {
      RGM_TRY(read_variable(rules, config, key->outcome, strlen(key->outcome)));
    }
    rules->monitor = find_variable(rules, key->outcome);
  }
  if (key->per_kg) {
    if (find_variable(rules, "weight") < 0) {
      RGM_TRY(read_variable(rules, config, "weight", 6));
    }
    rules->weight = find_variable(rules, "weight");
  }
  return RGM_OK;
}


// Variables that the file describes and nobody names are checked, and take no part: a list of
// variables may be shortened without editing the rest.
static rgm_status check_others(import_rules *rules, rgm_config *config) {
  static const char section[] = "variable.";
  for (int i = 0; i < config->entry_count; i++) {
    const config_entry *e = &config->entries[i];
    const char *name = e->key + sizeof section - 1;
    if (e->dropped || e->kind != CONFIG_MAP || strncmp(e->key, section, sizeof section - 1) != 0 ||
        strchr(name, '.') != NULL || find_variable(rules, name) >= 0) {
      continue;
    }
    import_variable unused = {0};
    RGM_TRY(rgm_config_read(config, e->key, rules->variable_field, &unused));
  }
  return RGM_OK;
}


static rgm_status read_tables(import_rules *rules, rgm_config *config, const import_kind *kind) {
  rgm_field *fields = rules->table_field; // the config keeps them until it is emitted
  for (int i = 0; kind->tables[i] != NULL; i++) {
    fields[i] = (rgm_field)TEXT(kind->tables[i], AT(table) + (size_t)i * RGM_STRING_SIZE,
                                kind->tables[i], "Name of the table's file, without .csv.");
  }
  return rgm_config_read(config, "tables", fields, &rules->key);
}


static rgm_status read_sections(import_rules *rules, rgm_config *config, const import_kind *kind) {
  for (int i = 0; i < SHARED_SECTIONS; i++) {
    const import_section *s = &rgm_import_sections[i];
    RGM_TRY(rgm_config_read(config, s->name, s->fields, &rules->key));
  }
  if (!kind->hourly) {
    RGM_TRY(rgm_config_read(config, "columns", column_fields, &rules->key));
  }
  RGM_TRY(read_tables(rules, config, kind));
  RGM_TRY(read_variables(rules, config, kind));
  RGM_TRY(check_others(rules, config));
  RGM_TRY(rgm_config_finish(config));

  import_keys *key = &rules->key;
  RGM_TRY(
      rgm_import_parse_units(key->units, "dose.units", rules->dose_unit, &rules->dose_unit_count));
  RGM_TRY(rgm_import_parse_units(key->bolus_units, "dose.bolus_units", rules->bolus_unit,
                                 &rules->bolus_unit_count));
  if (key->validation + key->test >= 1 || key->low >= key->high) {
    return rgm_fail(RGM_ECONFIG, key->low >= key->high
                                     ? "outcome.low must be smaller than outcome.high"
                                     : "split.validation and split.test leave nothing to train on");
  }
  if (key->hours_min > key->hours_max) {
    return rgm_fail(RGM_ECONFIG, "cohort.hours_min is larger than cohort.hours_max");
  }
  rules->text = rgm_config_emit(config, false);
  if (rules->text == NULL) {
    return RGM_EMEMORY;
  }
  rgm_sha256_hex(rules->text, strlen(rules->text), rules->digest);
  return RGM_OK;
}


rgm_status rgm_import_rules_load(const import_kind *kind, const char *path, const char *const *set,
                                 int set_count, import_rules *out) {
  *out = (import_rules){.monitor = -1, .weight = -1};
  out->slot_of = calloc(IMPORT_ITEMS, 1);
  if (out->slot_of == NULL) {
    return rgm_fail(RGM_EMEMORY, "no memory for item ids");
  }
  rgm_config *config;
  RGM_TRY(rgm_config_load(path, set, set_count, &config));
  const rgm_status status = read_sections(out, config, kind);
  rgm_config_free(config);
  return status;
}


void rgm_import_rules_free(import_rules *rules) {
  free(rules->slot_of);
  free(rules->text);
  rules->slot_of = NULL;
  rules->text = NULL;
}
