// SPDX-License-Identifier: Apache-2.0
// Importers: raw hospital tables in, one typed data set out. A front end (import_mimic.c,
// import_eicu.c, import_long.c and import_values.c) reads tables by the rules of a YAML file and
// fills a cohort; the rest is shared: hourly grid with the last value held and its age
// (import_grid.c), split, imputation, actions and data set (import_data.c), flow chart and tables
// (import_report.c).
//
// Nothing here prints a patient's value or id. Times are seconds, without a time zone.

#ifndef RGM_IMPORT_H
#define RGM_IMPORT_H

#include "engine/csv.h"
#include "engine/dataset.h"
#include "engine/regimen.h"

enum {
  IMPORT_VARIABLES = 48,
  IMPORT_PARTS = 3,  // series that one variable may be made of: motor, verbal, eyes
  IMPORT_UNITS = 16, // spellings of a unit
  IMPORT_ITEMS = 1 << 18,
  IMPORT_STAYS = 1 << 24,
  IMPORT_FLOW = 24,
  IMPORT_DROPS = 256,
  IMPORT_TABLES = 8,
  HOUR = 3600,
};


// ---- rules -------------------------------------------------------------------------------------

// How a variable comes from its rows.
typedef enum import_how {
  HOW_LAST,      // the last value charted; values of the same time are averaged
  HOW_GCS,       // motor + verbal + eyes, from the parts charted within 6 h
  HOW_WEIGHT,    // daily weights; the first admission weight counts from 2 h before admission
  HOW_AGE,       // years at admission
  HOW_MALE,      // 1 or 0
  HOW_ADMISSION, // the weight at admission, once for a stay
  HOW_STATIC,    // any other value that a stay has once
} import_how;

// One spelling of a unit: (value + offset) * factor is in the variable's unit.
typedef struct import_unit {
  char spelling[48];
  double factor, offset;
  bool per_kg, per_ml; // of doses: times weight, times concentration
} import_unit;

// What a rule lets through and what not, of one variable.
typedef struct import_count {
  int64_t used, no_number, out_of_range, unknown_unit, marked_wrong;
} import_count;

typedef struct import_variable {
  char name[64];
  // keys
  int how, table;
  rgm_list items, admit, motor, verbal, eyes;
  char names[RGM_STRING_SIZE], units[RGM_STRING_SIZE], unit[RGM_STRING_SIZE];
  char tube[RGM_STRING_SIZE], column[RGM_STRING_SIZE], aperiodic[RGM_STRING_SIZE];
  char doc[RGM_STRING_SIZE];
  double above, below, lookback;
  int tube_score;
  bool optional, backfill;
  // made of them
  bool state;  // named in import.variables
  bool absent; // optional, and never measured: no column
  int slot;    // of its first part
  int unit_count;
  import_unit accepted[IMPORT_UNITS];
  import_count count;
} import_variable;

typedef struct import_keys {
  // import.*
  char variables[RGM_STRING_SIZE], title[RGM_STRING_SIZE], warning[RGM_STRING_SIZE];
  char licence[RGM_STRING_SIZE];
  bool digests, ids, see_missing;
  int see_ages;
  int64_t cells;
  // cohort.*
  double age_min, age_over_89, hours_min, hours_max;
  int hours_rule;
  bool stop_terminates;
  // dose.*
  char name[RGM_STRING_SIZE], unit[RGM_STRING_SIZE], units[RGM_STRING_SIZE];
  char drop_status[RGM_STRING_SIZE], drug[RGM_STRING_SIZE], bolus_units[RGM_STRING_SIZE];
  rgm_list interval_items, point_items;
  double hold, last_hold, concentration, rate_max;
  int unknown_unit;
  bool per_kg, with_bolus;
  // split.*, impute.*, actions.*, outcome.*
  int64_t seed, k, donors, bins;
  double validation, test;
  int impute;
  bool zero_bin;
  char outcome[RGM_STRING_SIZE];
  double low, high;
  // tables.*
  char table[IMPORT_TABLES][RGM_STRING_SIZE];
  // columns.* of long tables
  char id[RGM_STRING_SIZE], episode[RGM_STRING_SIZE], time[RGM_STRING_SIZE];
  char dose_column[RGM_STRING_SIZE], action_column[RGM_STRING_SIZE];
  char reward_column[RGM_STRING_SIZE], terminated_column[RGM_STRING_SIZE];
  char truncated_column[RGM_STRING_SIZE];
  char outcome_columns[RGM_STRING_SIZE], time_unit[RGM_STRING_SIZE];
  int steps, unknown_value_unit;
  // columns.* of tables with a row for each value
  char variable_column[RGM_STRING_SIZE], value_column[RGM_STRING_SIZE];
  char unit_column[RGM_STRING_SIZE], end_column[RGM_STRING_SIZE];
  char status_column[RGM_STRING_SIZE], keep_rows[RGM_STRING_SIZE], drop_rows[RGM_STRING_SIZE];
  char bolus_column[RGM_STRING_SIZE], death_column[RGM_STRING_SIZE];
  char discharge_column[RGM_STRING_SIZE];
} import_keys;

enum { HOURS_PAPER, HOURS_LANDMARK, HOURS_ALL };
enum { UNKNOWN_EXCLUDE, UNKNOWN_REFUSE };
enum { IMPUTE_KNN, IMPUTE_NONE };
enum { TUBE_NORMAL, TUBE_MISSING };
enum { AGES_ALL, AGES_MONITOR, AGES_NONE };
enum { STEPS_ROWS, STEPS_HOURS };
enum { VALUE_DROP, VALUE_REFUSE };

// The sections of a rules file; `variable` stands for variable.NAME. Ended by a NULL name.
typedef struct import_section {
  const char *name;
  const rgm_field *fields;
} import_section;
extern const import_section rgm_import_sections[];

typedef struct import_rules {
  import_keys key;
  int variable_count;
  import_variable variable[IMPORT_VARIABLES];
  int dose_unit_count, bolus_unit_count;
  import_unit dose_unit[IMPORT_UNITS], bolus_unit[IMPORT_UNITS];
  int monitor;      // the variable that rewards are about, -1: none
  int weight;       // the variable that doses are divided by, -1: none
  uint8_t *slot_of; // (IMPORT_ITEMS) 1 + slot of an item id, 0: none
  int slot_count;
  uint8_t slot_variable[256], slot_part[256];
  rgm_field table_field[IMPORT_TABLES + 1], variable_field[24]; // with the front end's tables
  char *text;                                                   // all keys, as YAML
  char digest[65];                                              // SHA-256 of it
} import_rules;


// ---- a cohort ----------------------------------------------------------------------------------

// A dose as charted. Interval: rate from start to end. Point: rate from start on, until the next
// point. Bolus: amount at start.
typedef enum import_dose_kind { DOSE_INTERVAL, DOSE_POINT, DOSE_BOLUS } import_dose_kind;
typedef struct import_dose {
  int64_t stay_id; // later the stay's index
  int64_t start, end;
  double value; // units/h, units; NaN where the unit is not known
  uint8_t kind;
  bool per_kg; // value is per kg
} import_dose;

// A measured value of a stay. 16 bytes: there may be millions.
typedef struct import_event {
  double value;
  int32_t time;  // s from the stay's t0
  uint32_t what; // stay << 8 | slot
} import_event;

// Why a course ended.
typedef enum import_end { END_STOPPED, END_DEATH, END_LEFT, END_CUT } import_end;

typedef struct import_stay {
  int64_t id, patient_id, admission_id;
  int32_t patient;        // 0.. in order of patient_id
  int64_t in, out, death; // INT64_MIN: not known
  int64_t born;
  double age, admission_weight; // years; kg
  int8_t male, died;            // -1: not known
  char source[24];
  int64_t t0;
  int first, hours; // rows first..hours - 1 of the grid
  double total;     // h from t0 to the end of the last rate above 0
  bool unknown_unit, used;
  int end;
  int64_t dose_at, dose_count; // its doses
  int64_t event_at, event_count;
} import_stay;

// One row of the flow chart: what was left after a rule.
typedef struct import_flow {
  char rule[128];
  int64_t stays, patients;
} import_flow;

// Rows that a rule dropped.
typedef struct import_drop {
  char table[32], why[96];
  int64_t rows;
} import_drop;

typedef struct import_source {
  char table[32], digest[65];
  int64_t rows;
  uint64_t bytes, text_bytes;
} import_source;

// The rows of the data set before imputation.
typedef struct import_panel {
  int64_t rows;
  int32_t *episode, *patient;
  double *time;         // h
  double *value, *age;  // (rows, variables); NaN: missing
  double *dose, *bolus; // units in the hour
  double *fresh, *next; // the monitor: measured in the hour; held at its end
  uint8_t *terminated, *truncated, *end;
  double *reward;  // of long tables, else NULL
  int32_t *action; // of long tables, else NULL
  int outcome_count;
  char outcome_name[16][64];
  double *outcome; // (rows, outcome_count)
} import_panel;

typedef struct import {
  const char *folder;
  import_rules rules;
  FILE *progress;
  int64_t dose_count, dose_room;
  import_dose *dose;
  int64_t stay_count; // in order of id
  import_stay *stay;
  int64_t *by_patient; // stays in order of patient_id, for tables without stays
  double *constant;    // (stay ids, variables + outcomes) of tables by a column map, else NULL
  bool ageless;        // no variable says how old a patient is: no rule of age
  int64_t event_count, event_room;
  import_event *event;
  int flow_count, drop_count, source_count;
  import_flow flow[IMPORT_FLOW];
  import_drop drop[IMPORT_DROPS];
  import_source source[16];
  import_panel panel;
  double *edges, *typical; // of actions
  int edge_count;
  rgm_dataset *data;
} import;

// A front end: which tables it reads, and how.
typedef struct import_kind {
  const char *name, *doc, *rules; // default rules file
  const char *const *tables;      // table_keys, ended by NULL
  rgm_status (*read)(import *m);
  bool hourly; // doses and events go onto a grid; else the column map says it
} import_kind;

// By its name; NULL where there is none.
const import_kind *rgm_import_find_kind(const char *name);


// ---- parts (see the files' heads) --------------------------------------------------------------

// import_rules.c
rgm_status rgm_import_rules_load(const import_kind *kind, const char *path, const char *const *set,
                                 int set_count, import_rules *out);
void rgm_import_rules_free(import_rules *rules);
rgm_status rgm_import_parse_units(const char *text, const char *where, import_unit *out,
                                  int *count);
const import_unit *rgm_import_find_unit(const import_unit *units, int count, const char *text);
bool rgm_import_in_list(const char *list, const char *text); // "a | b | c", any case

// import_source.c
rgm_status rgm_import_open(import *m, int table, rgm_csv **out);          // tables.* number `table`
rgm_status rgm_import_open_optional(import *m, int table, rgm_csv **out); // *out NULL: not there
rgm_status rgm_import_close(import *m, int table, rgm_csv *csv); // notes its digest and size
rgm_status rgm_import_add_dose(import *m, const import_dose *dose);
rgm_status rgm_import_add_event(import *m, int64_t stay, int slot, int64_t time, double value);
rgm_status rgm_import_drop_rows(import *m, const char *table, const char *why, int64_t rows);
rgm_status rgm_import_bad(const rgm_csv *csv, int column, const char *what); // RGM_EDATA
void rgm_import_note_flow(import *m, const char *rule);
import_stay *rgm_import_find_stay(const import *m, int64_t id);       // or NULL
int64_t rgm_import_find_patient(const import *m, int64_t patient_id); // first in by_patient, or -1
rgm_status rgm_import_collect_stays(import *m); // from doses with a rate above 0
rgm_status rgm_import_index_patients(import *m);

// one value of a variable after its rules: number, range, unit; true where it is used
bool rgm_import_value(import_variable *v, rgm_csv_field number, const char *unit, double *value);
bool rgm_import_is_constant(const import_variable *v); // a stay has it once

// Times by a column map, h: all are numbers in columns.time_unit, or all are dates.
typedef struct import_clock {
  bool known, dated;
} import_clock;
rgm_status rgm_import_time(const import *m, const rgm_csv *csv, const rgm_csv_field *fields,
                           int column, import_clock *clock, double *hours);

// import_texts.c: texts numbered in the order in which they are added, found by a hash
typedef struct import_texts {
  int64_t count, room, slot_room;
  size_t *at, *length; // of each in `text`, where a NUL follows it
  int64_t *slot;       // 1 + number, 0: free
  char *text;
  size_t size, text_room;
} import_texts;
rgm_status rgm_import_text_add(import_texts *t, const char *text, size_t size, int64_t *number);
int64_t rgm_import_text_find(const import_texts *t, const char *text, size_t size); // or -1
void rgm_import_texts_free(import_texts *t);
int rgm_import_compare_ids(const char *a, const char *b); // numbers by value, before texts

// Names or codes in any case, without blanks around them, each of one target.
enum { IMPORT_NAMES = 1024, IMPORT_NAME_SIZE = 256 };
typedef struct import_names {
  import_texts texts;
  int target[IMPORT_NAMES];
} import_names;
rgm_status rgm_import_names_add(import_names *n, const char *list, int target, const char *key);
int rgm_import_names_find(const import_names *n, const char *text, size_t size); // or -1

// import_values.c: a table by a column map onto the hourly grid
rgm_status rgm_import_values(import *m, int table);
rgm_status rgm_import_find_outcome(const char **at, char name[64]); // the next of columns.outcomes
void rgm_import_need_units(import_rules *rules); // each variable has some, its own at least
bool rgm_import_keeps(const import_keys *key, const char *status);

// import_grid.c
rgm_status rgm_import_courses(import *m); // doses -> t0, hours; drops stays by rule
rgm_status rgm_import_grid(import *m);    // events, doses -> panel

// import_data.c
rgm_status rgm_import_panel_alloc(import *m, int64_t rows);
rgm_status rgm_import_dataset(import *m); // panel -> split, imputed, binned data set
double rgm_import_reward(double value, double low, double high);

// import_report.c
void rgm_import_report(const import *m, FILE *out);
void rgm_import_report_json(const import *m, FILE *out);
rgm_status rgm_import_write_csv(const import *m, const char *path);
rgm_status rgm_import_notes(import *m); // report and rules as notes of the data set

// Everything: reads `folder` by the rules. *out is to be freed also on failure.
rgm_status rgm_import_run(const import_kind *kind, const char *folder, const char *rules,
                          const char *const *set, int set_count, FILE *progress, import **out);
void rgm_import_free(import *m);

#endif
