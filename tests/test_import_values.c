// SPDX-License-Identifier: Apache-2.0
// Tables by a column map with one row for each measured value: onto the hourly grid and as steps,
// with traps, against hours worked out by hand; the same values in a long and in a wide table, in
// any order, as dates; static variables; rules and tables that are wrong; eICU's vital signs on
// invented tables.

#include "tests/import_tables.h"

TestSuite(import_values, .timeout = 240);

#define NEAR(a, b) cr_assert(fabs((a) - (b)) < 1e-9, "%.17g is not %.17g", (double)(a), (double)(b))

enum { ROOM = 1 << 16 };

static import *m; // of the test that runs

static void setup(void) {
  make_folder();
}


static void teardown(void) {
  rgm_import_free(m);
  remove_folder();
}


// imports a table by the map that users copy
static rgm_status take(const char *table, const char *a, const char *b, const char *c) {
  static const char *const few[] = {"split.validation=0", "actions.bins=3", "impute.k=1"};
  const char *sets[] = {few[0], few[1], few[2], a, b, c};
  int count = 3;
  while (count < COUNT(sets) && sets[count] != NULL) {
    count++;
  }
  put("my_values.csv", table);
  rgm_import_free(m);
  const rgm_status status =
      rgm_import_run(rgm_import_find_kind("csv"), folder, "configs/import/long_values.yaml", sets,
                     count, NULL, &m);
  return status;
}


static const import_count *count_of(const char *name) {
  return &m->rules.variable[variable_index(m, name)].count;
}


// ---- by hand -----------------------------------------------------------------------------------

#define HEAD "patient,hour,what,value,unit,until,status\n"

// b: charted rates. a: an interval and a bolus per kg, each there twice. c: a rate in milligrams.
// d: no dose. e: a child
static const char by_hand[] = HEAD
    "b,6.5,225152,0,units/h,,\nb,0.5,heparin,1000,units/h,,\nb,3.5, Heparin ,1200,UNITS/H,,\n"
    "b,,age,50,years,,\nb,9,sex,F,,,\nb,,weight,176.36980974790,lb,,\n"
    "a,2,heparin,10,units/kg/h,5,\na,2,heparin,10,units/kg/h,5,\na,2.5,heparin bolus,4000,units,,\n"
    "a,2.5,heparin bolus,4000,units,,\na,,weight,70,kg,,\na,,age,> 89,,,\na,3,sex,1,,,\n"
    "a,4.5,death,,,,\na,1,death,0,,,\na,5,readmitted,1,,,\na,1,readmitted,0,,,\n"
    "c,1,heparin,7,mg/h,,\nc,,age,40,a,,\nd,1,lactate,2,mmol/L,,\nd,,age,40,a,,\n"
    "e,1,heparin,100,units/h,,\ne,,age,9,a,,\n"
    "b,-1,lactate,2,mmol/L,,\nb,1,50813,9,mg/dL,,\nb,2.25,lactate,4,mmol/L,,\n"
    "b,2.25,lactate,6,mmol/L,,final\nb,3,lactate,7,g/L,,\nb,3,lactate,>10,mmol/L,,\n"
    "b,3,lactate,99,mmol/L,,\nb,4.1,lactate,3,mmol/L,,Cancelled\nb,4.1,lactate,3,,,\n"
    "b,-5,map,70,mmHg,,\nb,2.5,map,75,mmHg,,\nb,4.5,aptt,55,sec,,\nb,4.75,aptt,65,s,,\na,0,aptt,80,"
    "s,,\n"
    "b,5,temperature,37,C,,\nb,5,map,12,kPa,,\nb,5,pulse,70,,,entered in error\n";


Test(import_values, hours_by_hand, .init = setup, .fini = teardown) {
  cr_assert_eq(take(by_hand, NULL, NULL, NULL), RGM_OK, "%s", rgm_last_error());

  // five episodes; d has no dose, c one in an unknown unit, e is a child
  cr_assert(m->flow[0].stays == 5 && m->flow[1].stays == 4 && m->flow[2].stays == 3 &&
            m->flow[3].stays == 2 && m->stay_count == 2 && m->panel.rows == 3 + 7);
  cr_assert_eq(dropped(m, "rate in an unknown unit"), 1);
  cr_assert_eq(dropped(m, "there twice"), 2);
  cr_assert_eq(dropped(m, "status"), 2);
  cr_assert_eq(dropped(m, "do not name"), 1);

  // rates until the next one, weighted by time; the last one, 0, ends the course at 6.5 h
  static const double rate[] = {500, 1000, 1000, 1100, 1200, 1200, 600};
  for (int h = 0; h < COUNT(rate); h++) {
    NEAR(dose_at(m, 1, h), rate[h]);
  }
  for (int h = 0; h < 3; h++) {
    NEAR(dose_at(m, 0, h), 700); // per kg of 70 kg
    NEAR(m->panel.bolus[row_of(m, 0, h)], h == 0 ? 4000 : 0);
  }
  cr_assert(m->stay[0].end == END_DEATH && m->stay[1].end == END_STOPPED);
  NEAR(m->panel.outcome[0], 1); // the later one
  cr_assert(isnan(m->panel.outcome[3]));

  // the last value with its age; units converted, unknown ones dropped, two of one time averaged
  static const double lactate[] = {2, 0.999, 0.999, 5, 5, 5, 5};
  static const double age[] = {1, 0, 1, 0.75, 1.75, 2.75, 3.75};
  for (int h = 0; h < COUNT(lactate); h++) {
    NEAR(held(m, 1, h, "lactate"), lactate[h]);
    NEAR(age_of(m, 1, h, "lactate"), age[h]);
    NEAR(held(m, 1, h, "age"), 50);
    NEAR(held(m, 1, h, "male"), 0);
    NEAR(held(m, 1, h, "weight"), 80);
  }
  const import_count *c = count_of("lactate");
  cr_assert(c->used == 4 && c->unknown_unit == 2 && c->no_number == 1 && c->out_of_range == 1);
  cr_assert_eq(count_of("map")->unknown_unit, 1, "kPa is not mmHg, which is the only one listed");
  cr_assert(isnan(held(m, 1, 2, "map")) && held(m, 1, 6, "map") == 75); // 5 h before is too old
  NEAR(held(m, 0, 0, "age"), 90);
  NEAR(held(m, 0, 2, "male"), 1);
  NEAR(held(m, 0, 0, "aptt"), 80); // of 2 h before the course
  NEAR(age_of(m, 0, 0, "aptt"), 2);
  NEAR(m->panel.fresh[row_of(m, 1, 4)], 65);
  cr_assert(isnan(m->panel.fresh[row_of(m, 1, 3)]));
  cr_assert_eq(rgm_dataset_find(m->data, "weight_age"), -1, "a constant has no age");
}


Test(import_values, order_dates_and_gzip, .init = setup, .fini = teardown) {
  static char text[ROOM], dated[ROOM];
  char digest[65];
  cr_assert_eq(take(by_hand, NULL, NULL, NULL), RGM_OK, "%s", rgm_last_error());
  snprintf(digest, sizeof digest, "%s", m->data->digest);
  reverse_rows(by_hand, text);
  cr_assert_eq(take(text, NULL, NULL, NULL), RGM_OK, "%s", rgm_last_error());
  cr_assert_str_eq(m->data->digest, digest, "rows in reverse");
  drop("my_values.csv");
  put_gzip("MY_VALUES.csv.gz", by_hand);
  rgm_import_free(m);
  const char *sets[] = {"split.validation=0", "actions.bins=3", "impute.k=1"};
  cr_assert_eq(rgm_import_run(rgm_import_find_kind("csv"), folder,
                              "configs/import/long_values.yaml", sets, 3, NULL, &m),
               RGM_OK, "%s", rgm_last_error());
  cr_assert_str_eq(m->data->digest, digest, "gzip");
  drop("MY_VALUES.csv.gz");

  // hour x of day 2 as a date: times in minutes and as dates give the same hours
  size_t size = 0;
  int column = 0;
  for (const char *at = by_hand; *at != '\0';) {
    const size_t n = strcspn(at, ",\n");
    double x;
    rgm_csv_field f = {text, n};
    memcpy(text, at, n);
    text[n] = '\0';
    const bool time = column == 1 || column == 5;
    if (time && rgm_csv_number(f, &x) == RGM_CSV_NUMBER) {
      const int minutes = 24 * 60 + (int)lround(60 * x);
      size += (size_t)snprintf(dated + size, sizeof dated - size, "2100-01-%02d %02d:%02d",
                               1 + minutes / 1440, minutes / 60 % 24, minutes % 60);
    } else {
      size += (size_t)snprintf(dated + size, sizeof dated - size, "%s", text);
    }
    column = at[n] == '\n' ? 0 : column + 1;
    dated[size++] = at[n];
    at += n + 1;
  }
  dated[size] = '\0';
  cr_assert_eq(take(dated, NULL, NULL, NULL), RGM_OK, "%s", rgm_last_error());
  cr_assert_str_eq(m->data->digest, digest, "dates");
}


// ---- both forms --------------------------------------------------------------------------------

static uint64_t draw(uint64_t *state) {
  *state = *state * 6364136223846793005u + 1442695040888963407u;
  return *state >> 33;
}


// The same values twice: a row for each, and side by side in rows by patient and time, both in an
// order of their own; some cells are empty, ids are numbers and texts.
static void both_forms(uint64_t seed, char *many, char *wide) {
  static const char *const names[] = {"age",   "sex",       "weight",    "lactate",
                                      "map",   "aptt",      "heparin",   "heparin bolus",
                                      "death", "discharge", "readmitted"};
  static const char *const units[] = {"a", "", "kg", "mmol/L", "mmHg", "s", "units/h", "units"};
  static char line[512][128];
  int lines = 0;
  uint64_t state = seed;
  size_t size = (size_t)sprintf(wide, "patient,hour,until,status");
  for (int k = 0; k < COUNT(names); k++) {
    size += (size_t)sprintf(wide + size, ",%s", names[k]);
  }
  size += (size_t)sprintf(wide + size, "\n");
  for (int p = 0; p < 8; p++) {
    char id[16];
    snprintf(id, sizeof id, p % 2 == 0 ? "%d" : "p%d", 15 - p);
    for (int h = 0; h < 12; h++) {
      const double time = h + (double)(draw(&state) % 60) / 60;
      size += (size_t)sprintf(wide + size, "%s,%.17g,,", id, time);
      for (int k = 0; k < COUNT(names); k++) {
        const double x = k == 0   ? 30 + 5 * p
                         : k == 1 ? p % 2
                         : k == 2 ? 60 + 3 * p
                         : k == 3 ? 1 + (double)(draw(&state) % 90) / 10
                         : k < 6  ? 50 + (double)(draw(&state) % 60)
                         : k < 8  ? 100 * (double)(draw(&state) % 15)
                                  : 1;
        const bool once = k < 3 || k > 7;
        const bool there = once ? h == (p + k) % 12 && (k < 8 || p % 3 == k % 3)
                                : draw(&state) % (k == 6 ? 2 : 3) == 0;
        size += there ? (size_t)sprintf(wide + size, ",%g", x) : (size_t)sprintf(wide + size, ",");
        if (there) {
          snprintf(line[lines++], 128, "%s,%.17g,%s,%g,%s,,\n", id, time, names[k], x,
                   k < COUNT(units) ? units[k] : "");
        }
      }
      size += (size_t)sprintf(wide + size, "\n");
    }
  }
  size = (size_t)sprintf(many, HEAD);
  for (; lines > 0; lines--) {
    const int i = (int)(draw(&state) % (uint64_t)lines);
    size += (size_t)sprintf(many + size, "%s", line[i]);
    memmove(line[i], line[lines - 1], sizeof line[0]);
  }
}


Test(import_values, long_and_wide_are_one, .init = setup, .fini = teardown) {
  static const char wide_map[] =
      "extends: %s\ncolumns: {variable: \"\", unit: \"\", dose: heparin, bolus: heparin bolus}\n"
      "dose: {units: \"\", bolus_units: \"\"}\nvariable:\n  age: {units: \"\"}\n"
      "  male: {column: sex}\n  weight: {units: \"\"}\n  lactate: {units: \"\"}\n"
      "  aptt: {units: \"\"}\n";
  static char many[ROOM], wide[ROOM], reversed[ROOM], map[2048], path[128], cwd[512];
  cr_assert_not_null(getcwd(cwd, sizeof cwd - 40));
  strcat(cwd, "/configs/import/long_values.yaml");
  snprintf(map, sizeof map, wide_map, cwd);
  snprintf(path, sizeof path, "%s/wide.yaml", folder);
  put("wide.yaml", map);
  const char *sets[] = {"split.validation=0", "actions.bins=3", "impute.k=1"};
  for (uint64_t seed = 1; seed <= 20; seed++) {
    char digest[65];
    both_forms(seed, many, wide);
    cr_assert_eq(take(many, NULL, NULL, NULL), RGM_OK, "%s", rgm_last_error());
    snprintf(digest, sizeof digest, "%s", m->data->digest);
    const int64_t rows = m->panel.rows, stays = m->flow[0].stays;
    reverse_rows(wide, reversed);
    for (int turn = 0; turn < 2; turn++) {
      put("my_values.csv", turn == 0 ? wide : reversed);
      rgm_import_free(m);
      cr_assert_eq(rgm_import_run(rgm_import_find_kind("csv"), folder, path, sets, 3, NULL, &m),
                   RGM_OK, "%s", rgm_last_error());
      cr_assert(m->panel.rows == rows && rows > 20 && stays == 8 && m->flow[0].stays == 8);
      cr_assert_str_eq(m->data->digest, digest, "seed %d", (int)seed);
    }
  }
}


// ---- what is wrong -----------------------------------------------------------------------------

Test(import_values, rules_and_tables_that_are_wrong, .init = setup, .fini = teardown) {
  static const struct {
    rgm_status status;
    const char *rows, *set, *text;
  } bad[] = {
      {RGM_EDATA, "a,1,heparin,5,mg/h,,\n", "dose.unknown_unit=refuse",
       "row 2: column unit: a dose in a unit that is not known"},
      {RGM_EDATA, "a,,age,40,a,,\na,1,heparin,5,units/h,,\na,1,lactate,5,g/L,,\n",
       "columns.unknown_unit=refuse", "row 4: column unit: a unit that is not known"},
      {RGM_EDATA, "a,1,heparin,-5,units/h,,\n", NULL, "row 2: column value: a dose below 0"},
      {RGM_EDATA, "a,soon,heparin,5,units/h,,\n", NULL, "row 2: column hour: no time"},
      {RGM_EDATA, "a,,heparin,5,units/h,,\n", NULL, "row 2: column hour: no time"},
      {RGM_EDATA, "a,1,heparin,5,units/h,later,\n", NULL, "row 2: column until: no time"},
      {RGM_EDATA, ",1,heparin,5,units/h,,\n", NULL, "row 2: column patient: empty"},
      {RGM_EDATA, "a,,age,50,a,,\na,,age,51,a,,\n", NULL, "row 3: column value: another value"},
      {RGM_EDATA, "a,1,pulse,50,,,\n", NULL, "no rows of the variables of the rules"},
      {RGM_EDATA, "a,1,lactate,5,mmol/L,,\n", NULL, "no stay is left"},
      {RGM_EDATA, "a,1,heparin,5,units/h,,\n", "columns.variable=name", "no column name among 7"},
      {RGM_ECONFIG, "", "columns.action=what", "columns.steps: hours goes with columns.dose"},
      {RGM_ECONFIG, "", "columns.dose=\"\"", "columns.steps: hours goes with columns.dose"},
      {RGM_ECONFIG, "", "dose.units=\"\"", "dose.units: list how the column unit spells"},
      {RGM_ECONFIG, "", "variable.map.how=gcs", "variable.map.how: last, static"},
      {RGM_ECONFIG, "", "variable.map.names=lactate", "stands for something else too"},
      {RGM_ECONFIG, "", "columns.steps=rows", "columns.bolus, death, discharge and end go with"},
      {RGM_ECONFIG, "", "columns.step=rows", "did you mean columns.steps?"},
      {RGM_ECONFIG, "a,1,heparin,5,units/h,,\n", "columns.time_unit=w", "s, min, h or d"},
  };
  for (int i = 0; i < COUNT(bad); i++) {
    char table[256];
    snprintf(table, sizeof table, HEAD "%s", bad[i].rows);
    const rgm_status got = take(table, bad[i].set, NULL, NULL);
    cr_assert_eq(got, bad[i].status, "%d: %d %s", i, got, rgm_last_error());
    cr_assert_not_null(strstr(rgm_last_error(), bad[i].text), "%d: %s", i, rgm_last_error());
  }
}


Test(import_values, constants_of_a_wide_table, .init = setup, .fini = teardown) {
  static const char rules[] =
      "import: {variables: \"age, x\"}\ncolumns: {id: who, time: t, dose: d}\n"
      "dose: {per_kg: false}\nsplit: {validation: 0}\nactions: {bins: 3}\n"
      "variable:\n  age: {how: static, unit: a}\n  x: {unit: s}\n";
  char path[128];
  snprintf(path, sizeof path, "%s/rules.yaml", folder);
  put("rules.yaml", rules);
  put("table.csv", "who,t,d,age,x\n1,2,3,,1\n1,0,1,,1\n1,1,2,44,1\n2,0,4,50,1\n");
  cr_assert_eq(run_import("csv", path, NULL, NULL, NULL, &m), RGM_OK, "%s", rgm_last_error());
  for (int h = 0; h < 3; h++) {
    NEAR(held(m, 0, h, "age"), 44);
  }
  rgm_import_free(m);
  put("table.csv", "who,t,d,age,x\n1,0,1,44,1\n1,1,2,45,1\n");
  cr_assert_eq(run_import("csv", path, NULL, NULL, NULL, &m), RGM_EDATA);
  cr_assert_not_null(strstr(rgm_last_error(), "rows 2 and 3: two values of age"), "%s",
                     rgm_last_error());
}


// ---- steps of a long table ---------------------------------------------------------------------

static const char step_rules[] =
    "import: {variables: \"age, x, y\"}\n"
    "columns: {id: who, episode: visit, time: t, variable: what, value: v, unit: u, status: s, "
    "drop_status: void, action: given, reward: score, terminated: over, outcomes: dead}\n"
    "split: {validation: 0}\nimpute: {method: none}\ndose: {per_kg: false}\n"
    "outcome: {variable: x, low: 1, high: 3}\nvariable:\n  age: {how: static, unit: a}\n"
    "  x: {unit: mmol/L, names: x | 17, units: \"mmol/L, mol/L = 1000\"}\n"
    "  y: {unit: s, lookback: 2}\n";

static rgm_status take_steps(const char *table, const char *a, const char *b, const char *c) {
  char path[128];
  snprintf(path, sizeof path, "%s/rules.yaml", folder);
  put("rules.yaml", step_rules);
  put("table.csv", table);
  rgm_import_free(m);
  return run_import("csv", path, a, b, c, &m);
}


Test(import_values, steps_by_hand, .init = setup, .fini = teardown) {
  // p has two visits, the second without an action; values between steps are held, a measurement
  // after a step is its own, an end told later ends the last step; a void row does not count
  static const char table[] =
      "who,visit,t,what,v,u,s\np,1,4,given,0,1,\np,1,1,given,2,1,\np,1,1,score,0.5,,\n"
      "p,1,4,score,-1,,\np,1,0.5,x,2,mmol/L,\np,1,2,17,0.004,mol/L,\np,1,2,17,0.004,mol/L,\n"
      "p,1,3,x,3,mg/dL,\np,1,3,x,9,mmol/L,void\np,1,0.25,y,7,s,\np,1,5,x,6,mmol/L,\n"
      "p,1,5,over,1,,\np,1,,age,44,a,\np,1,,dead,1,,\np,2,1,x,5,mmol/L,\n"
      "9,1,0,given,1,1,\n9,1,0,score,2,,\n9,1,0,pulse,80,,\n8,1,0,x,1,mmol/L,\n";
  cr_assert_eq(take_steps(table, NULL, NULL, NULL), RGM_OK, "%s", rgm_last_error());
  cr_assert_eq(m->panel.rows, 3);
  const import_panel *p = &m->panel;
  cr_assert(p->action[0] == 1 && p->action[1] == 2 && p->action[2] == 0);
  cr_assert(p->reward[0] == 2 && p->reward[1] == 0.5 && p->reward[2] == -1);
  cr_assert(p->episode[1] == 1 && p->episode[2] == 1 && p->patient[0] == 0 && p->patient[1] == 1);
  cr_assert(p->time[1] == 0 && p->time[2] == 3);
  NEAR(held(m, 1, 0, "x"), 2);
  NEAR(age_of(m, 1, 0, "x"), 0.5);
  NEAR(held(m, 1, 3, "x"), 4);
  NEAR(age_of(m, 1, 3, "x"), 2);
  NEAR(held(m, 1, 0, "y"), 7);
  cr_assert(isnan(held(m, 1, 3, "y"))); // older than lookback
  NEAR(held(m, 1, 0, "age"), 44);
  NEAR(held(m, 1, 3, "age"), 44);
  NEAR(p->fresh[1], 4);
  NEAR(p->fresh[2], 6);
  cr_assert(p->outcome[1] == 1 && p->outcome[2] == 1 && isnan(p->outcome[0]));
  cr_assert(p->terminated[2] && !p->terminated[1] && p->truncated[0] && !p->truncated[2]);
  cr_assert(count_of("x")->unknown_unit == 1 && dropped(m, "status") == 1);
  cr_assert(dropped(m, "do not name") == 1 && dropped(m, "without a dose") == 2);
  char digest[65], reversed[2048];
  snprintf(digest, sizeof digest, "%s", m->data->digest);
  reverse_rows(table, reversed);
  cr_assert_eq(take_steps(reversed, NULL, NULL, NULL), RGM_OK, "%s", rgm_last_error());
  cr_assert_str_eq(m->data->digest, digest);

  // the same numbers as doses
  cr_assert_eq(take_steps(table, "columns.dose=given", "dose.units=1", "actions.bins=2"), RGM_OK,
               "%s", rgm_last_error());
  NEAR(m->panel.dose[1], 2);
}


Test(import_values, steps_long_and_wide_are_one, .init = setup, .fini = teardown) {
  static char many[ROOM], wide[ROOM], reversed[ROOM];
  for (uint64_t seed = 1; seed <= 20; seed++) {
    uint64_t state = seed;
    char digest[65];
    size_t w = (size_t)sprintf(wide, "who,visit,t,age,x,y,given,score,over,dead,s\n");
    size_t n = (size_t)sprintf(many, "who,visit,t,what,v,u,s\n");
    for (int i = 0; i < 60; i++) {
      // patient, visit, and 5 times of each
      char place[64];
      snprintf(place, sizeof place, "%d,%d,%.17g", i / 10, i / 5 % 2,
               i % 5 + (double)(draw(&state) % 10) / 11);
      static const char *const names[] = {"age", "x", "y", "given", "score", "over", "dead"};
      static const char *const units[] = {"a", "mmol/L", "s", "", "", "", ""};
      w += (size_t)sprintf(wide + w, "%s", place);
      for (int k = 0; k < COUNT(names); k++) {
        const double value = k == 0   ? 40 + i / 10
                             : k < 3  ? (double)(draw(&state) % 40) / 7
                             : k == 5 ? i % 5 == 4 && i % 3 == 0
                                      : (double)(draw(&state) % 3);
        const bool there = k >= 3 || (k == 0 ? i % 5 == 2 : draw(&state) % 2 == 0);
        w += there ? (size_t)sprintf(wide + w, ",%.17g", value) : (size_t)sprintf(wide + w, ",");
        n += there
                 ? (size_t)sprintf(many + n, "%s,%s,%.17g,%s,\n", place, names[k], value, units[k])
                 : 0;
      }
      w += (size_t)sprintf(wide + w, ",\n");
    }
    reverse_rows(many, reversed);
    cr_assert_eq(take_steps(reversed, NULL, NULL, NULL), RGM_OK, "%s", rgm_last_error());
    snprintf(digest, sizeof digest, "%s", m->data->digest);
    cr_assert_eq(m->panel.rows, 60);
    cr_assert_eq(
        take_steps(wide, "columns.variable=\"\"", "columns.unit=\"\"", "variable.x.units=\"\""),
        RGM_OK, "%s", rgm_last_error());
    cr_assert_str_eq(m->data->digest, digest, "seed %d", (int)seed);
  }
}


Test(import_values, steps_that_are_wrong, .init = setup, .fini = teardown) {
  static const struct {
    rgm_status status;
    const char *rows, *set, *text;
  } bad[] = {
      {RGM_EDATA, "p,1,1,x,5,mmol/L,\n", NULL, "no rows of a dose or an action"},
      {RGM_EDATA, "p,1,1,given,5,,\n", NULL, "row 2: a dose or an action without a reward"},
      {RGM_EDATA, "p,1,1,given,1,,\np,1,1,score,1,,\np,1,2,score,1,,\n", NULL,
       "row 4: a reward at a time without a dose or an action"},
      {RGM_EDATA, "p,1,1,given,1.5,,\n", NULL, "row 2: column v: a whole number"},
      {RGM_EDATA, "p,1,1,given,1,,\np,1,1,given,2,,\n", NULL, "row 3: column v: another value"},
      {RGM_EDATA, "p,1,1,over,2,,\n", NULL, "row 2: column v: 0 or 1"},
      {RGM_EDATA, "p,1,,given,2,,\n", NULL, "row 2: column t: no time"},
      {RGM_EDATA, ",1,1,given,2,,\n", NULL, "row 2: column who: empty"},
      {RGM_EDATA, "p,1,1,x,2,g/L,\n", "columns.unknown_unit=refuse", "row 2: column u: a unit"},
      {RGM_EDATA, "p,1,1,given,2,mg,\n", "columns.dose=given", "row 2: column u: a dose in a unit"},
      {RGM_ECONFIG, "", "columns.bolus=b", "go with columns.steps: hours"},
      {RGM_ECONFIG, "", "columns.action=\"\"", "columns.dose or columns.action"},
  };
  for (int i = 0; i < COUNT(bad); i++) {
    char table[256];
    snprintf(table, sizeof table, "who,visit,t,what,v,u,s\n%s", bad[i].rows);
    const rgm_status got = take_steps(table, bad[i].set, NULL, NULL);
    cr_assert_eq(got, bad[i].status, "%d: %d %s", i, got, rgm_last_error());
    cr_assert_not_null(strstr(rgm_last_error(), bad[i].text), "%d: %s", i, rgm_last_error());
  }
}


// ---- eICU's vital signs ------------------------------------------------------------------------

// Tables with the column names that eICU publishes: monitors every five minutes in vitalperiodic,
// cuffs in vitalaperiodic. The course begins at hour 0.
Test(import_values, eicu_vital_signs, .init = setup, .fini = teardown) {
  static const char periodic[] =
      "vitalperiodicid,patientunitstayid,observationoffset,temperature,sao2,heartrate,respiration,"
      "cvp,etco2,systemicsystolic,systemicdiastolic,systemicmean,pasystolic,padiastolic,pamean,"
      "st1,st2,st3,icp\n"
      "1,7,-10,,97,80,18,,,120,60,80,,,,,,,\n2,7,55,37.2,97,81,22,,,,,,,,,,,,\n"
      "3,7,125,98.6,97,81,0,,,130,65,,,,,,,,\n4,9,125,39,97,81,20,,,99,44,,,,,,,,\n";
  static const char cuffs[] =
      "vitalaperiodicid,patientunitstayid,observationoffset,noninvasivesystolic,"
      "noninvasivediastolic,noninvasivemean,paop,cardiacoutput,cardiacinput,svr,svri,pvr,pvri\n"
      "1,7,115,100,50,70,,,,,,,\n2,7,125,140,75,,,,,,,,\n3,7,200,900,70,,,,,,,,\n"
      "4,9,125,98,43,,,,,,,,\n";
  put("patient.csv", "patientunitstayid,uniquepid,gender,age,admissionweight,unitdischargeoffset,"
                     "hospitaldischargestatus,hospitaldischargeoffset\n"
                     "7,002-1,Male,61,80,9000,Alive,9000\n9,002-2,Female,50,70,9000,Alive,9000\n");
  put("infusiondrug.csv", "patientunitstayid,infusionoffset,drugname,drugrate,drugamount,"
                          "volumeoffluid,patientweight\n7,0,Heparin (units/hr),1000,,,\n"
                          "7,420,Heparin (units/hr),900,,,\n");
  put("lab.csv", "patientunitstayid,labresultoffset,labname,labresult,labmeasurenamesystem\n"
                 "7,-30,PTT,50,sec\n");
  put("vitalPeriodic.csv", periodic);
  put_gzip("vitalAperiodic.csv.gz", cuffs);
  static const char *const sets[] = {"split.validation=0", "actions.bins=2"};
  const import_kind *kind = rgm_import_find_kind("eicu-heparin");
  cr_assert_eq(rgm_import_run(kind, folder, kind->rules, sets, 2, NULL, &m), RGM_OK, "%s",
               rgm_last_error());
  cr_assert(m->stay_count == 1 && m->panel.rows == 8);
  static const double sbp[] = {120, 120, 100, 135, 135}; // at 125 min line and cuff are averaged
  static const double dbp[] = {60, 60, 50, 70, 70};
  static const double rr[] = {18, 22, 22, 22, 22};
  for (int h = 0; h < COUNT(sbp); h++) {
    NEAR(held(m, 0, h, "sbp"), sbp[h]);
    NEAR(held(m, 0, h, "dbp"), dbp[h]);
    NEAR(held(m, 0, h, "rr"), rr[h]); // a rate of 0 is out of range
    cr_assert(h == 0 ? isnan(held(m, 0, h, "tempc")) : held(m, 0, h, "tempc") == 37.2);
  }
  NEAR(age_of(m, 0, 3, "sbp"), 55.0 / 60);
  NEAR(age_of(m, 0, 1, "tempc"), 5.0 / 60); // and 98.6 is no temperature in C
  cr_assert(count_of("tempc")->out_of_range == 1 && count_of("sbp")->out_of_range == 1 &&
            count_of("rr")->out_of_range == 1 && count_of("sbp")->used == 4);

  // without cuffs the line alone; without both the columns are left out
  drop("vitalAperiodic.csv.gz");
  rgm_import_free(m);
  cr_assert_eq(rgm_import_run(kind, folder, kind->rules, sets, 2, NULL, &m), RGM_OK);
  NEAR(held(m, 0, 2, "sbp"), 120);
  NEAR(held(m, 0, 3, "sbp"), 130);
  drop("vitalPeriodic.csv");
  rgm_import_free(m);
  cr_assert_eq(rgm_import_run(kind, folder, kind->rules, sets, 2, NULL, &m), RGM_OK);
  cr_assert_eq(rgm_dataset_find(m->data, "sbp"), -1);

  // a column under another name is told
  put("vitalPeriodic.csv", "patientunitstayid,observationoffset,temperature,respiration\n");
  rgm_import_free(m);
  cr_assert_eq(rgm_import_run(kind, folder, kind->rules, sets, 2, NULL, &m), RGM_EDATA);
  cr_assert_not_null(strstr(rgm_last_error(), "no column systemicsystolic"), "%s",
                     rgm_last_error());
}
