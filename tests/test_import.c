// SPDX-License-Identifier: Apache-2.0
// Tests of the importers: the reference extraction of the MIMIC-III demo row by row (where the data
// are there), every trap seen in real rows on invented tables, digests that do not depend on the
// order of rows or on gzip, long tables by a column map, rules, messages without patients' values.

#include "tests/import_tables.h"

TestSuite(import, .timeout = 240);

#define DEMO "../shared/data/mimic3-demo"
#define EICU "../shared/data/eicu-demo"
#define NEAR(a, b) cr_assert(fabs((a) - (b)) < 1e-9, "%.17g is not %.17g", (double)(a), (double)(b))

static import *m; // of the test that runs

static void setup(void) {
  make_folder();
  put_tables();
}


static void teardown(void) {
  rgm_import_free(m);
  remove_folder();
}


// imports the folder, which must do
static void take(const char *a, const char *b, const char *c) {
  rgm_import_free(m);
  cr_assert_eq(run_import("mimic3-heparin", NULL, a, b, c, &m), RGM_OK, "%s", rgm_last_error());
}


// imports the folder, which must fail with this in the message
static void refuse(rgm_status status, const char *text, const char *a, const char *b) {
  rgm_import_free(m);
  const rgm_status got = run_import("mimic3-heparin", NULL, a, b, NULL, &m);
  cr_assert_eq(got, status, "%d: %s", got, rgm_last_error());
  cr_assert_not_null(strstr(rgm_last_error(), text), "%s", rgm_last_error());
}


// ---- the demo ----------------------------------------------------------------------------------

// a field of the reference against a value of ours; the reference was printed and rounded
static bool agrees(const char *name, rgm_csv_field f, double ours) {
  double x;
  if (rgm_csv_number(f, &x) == RGM_CSV_EMPTY) {
    return isnan(ours);
  }
  const double tolerance = strcmp(name, "age") == 0           ? 0.00501
                           : strncmp(name, "heparin", 7) == 0 ? 6e-4
                                                              : 1e-6 * fmax(1, fabs(x));
  return fabs(x - ours) <= tolerance;
}


static double ours_of(const char *name, int64_t row) {
  const import_panel *p = &m->panel;
  if (strcmp(name, "aptt_new") == 0) {
    return p->fresh[row];
  }
  if (strcmp(name, "heparin_units") == 0) {
    return p->dose[row];
  }
  if (strcmp(name, "heparin_bolus_units") == 0) {
    return p->bolus[row];
  }
  const char *variable = strcmp(name, "aptt_last") == 0 ? "aptt" : name;
  return p->value[row * m->rules.variable_count + variable_index(m, variable)];
}


Test(import, demo_reference_row_by_row) {
  rgm_csv *csv;
  rgm_csv_field *f;
  if (access(DEMO "/CHARTEVENTS.csv.gz", R_OK) != 0) {
    cr_skip_test("no " DEMO);
  }
  const import_kind *kind = rgm_import_find_kind("mimic3-heparin");
  cr_assert_eq(rgm_import_run(kind, DEMO, kind->rules, NULL, 0, NULL, &m), RGM_OK, "%s",
               rgm_last_error());
  cr_assert_eq(rgm_csv_open(DEMO "/derived/heparin_hourly_reference.csv.gz", false, &csv), RGM_OK);
  int64_t row = 0, fresh = 0, episodes = 0, cells = 0, last = -1;
  while (rgm_csv_next(csv, &f) == RGM_OK && f != NULL) {
    cr_assert_lt(row, m->panel.rows);
    const import_stay *s = &m->stay[m->panel.episode[row]];
    int64_t id, patient;
    double hour;
    rgm_csv_id(f[0], &id);
    rgm_csv_id(f[1], &patient);
    rgm_csv_number(f[2], &hour);
    cr_assert(s->id == id && s->patient_id == patient && m->panel.time[row] == hour, "row %lld",
              (long long)row);
    cr_assert_str_eq(s->source, f[3].text);
    for (int c = 4; c < rgm_csv_columns(csv); c++) {
      cr_assert(agrees(rgm_csv_name(csv, c), f[c], ours_of(rgm_csv_name(csv, c), row)),
                "row %lld, %s", (long long)row, rgm_csv_name(csv, c));
      cells++;
    }
    fresh += !isnan(m->panel.fresh[row]);
    episodes += id != last;
    last = id;
    row++;
  }
  rgm_csv_close(csv);
  cr_assert(row == 940 && m->panel.rows == 940 && episodes == 25 && fresh == 99 && cells == 18800,
            "%lld rows, %lld episodes, %lld aPTT", (long long)row, (long long)episodes,
            (long long)fresh);
  cr_assert(m->flow[0].stays == 136 && m->flow[0].patients == 100);
  cr_assert(m->flow[1].stays == 26 && m->flow[1].patients == 23);
  cr_assert(m->flow[m->flow_count - 1].stays == 25 && m->flow[m->flow_count - 1].patients == 23);

  // ids stay out of the data set
  for (int c = 0; c < m->data->column_count; c++) {
    for (int64_t i = 0; i < m->data->rows; i++) {
      const double x = rgm_cell_get(&m->data->column[c], i);
      cr_assert(!(x >= 200000 && x < 300000), "%s", m->data->column[c].name);
    }
  }
  rgm_import_free(m);
  m = NULL;
}


Test(import, eicu_demo_and_its_four_units) {
  if (access(EICU "/infusiondrug.csv.gz", R_OK) != 0) {
    cr_skip_test("no " EICU);
  }
  const char *sets[] = {"tables.lab=lab_subset_169stays", "dose.concentration=50"};
  const import_kind *kind = rgm_import_find_kind("eicu-heparin");
  cr_assert_eq(rgm_import_run(kind, EICU, kind->rules, sets, 1, NULL, &m), RGM_OK, "%s",
               rgm_last_error());
  cr_assert_eq(dropped(m, "rate in (ml/hr): concentration"), 1431);
  cr_assert_eq(dropped(m, "rate in (): unit not known"), 277 + 1);
  cr_assert_eq(m->flow[1].stays, 92);
  cr_assert_eq(m->flow[2].stays, 36);
  rgm_import_free(m);

  // with a concentration told, ml/hr counts; a rate without a unit never does
  cr_assert_eq(rgm_import_run(kind, EICU, kind->rules, sets, 2, NULL, &m), RGM_OK, "%s",
               rgm_last_error());
  cr_assert(dropped(m, "(ml/hr)") == 0 && dropped(m, "rate in ()") == 278);
  cr_assert_gt(m->flow[2].stays, 36);
  rgm_import_free(m);
  m = NULL;
}


Test(import, eicu_rates_in_their_spellings, .init = setup, .fini = teardown) {
  // 1 units/hr, 2 units/kg/hr by the admission weight, 3 ml/hr with amount and volume, 4 ml/hr
  // without, 5 without a unit; 6 is units/hr of another drug
  put("patient.csv", "patientunitstayid,uniquepid,gender,age,admissionweight,unitdischargeoffset,"
                     "hospitaldischargestatus,hospitaldischargeoffset\n"
                     "1,002-1,Male,> 89,80,9000,Alive,9000\n2,002-2,Female,50,70,9000,Alive,9000\n"
                     "3,002-2,Female,50,70,9000,Expired,9000\n4,003-1,Male,60,80,9000,Alive,9000\n"
                     "5,003-2,Male,60,80,9000,,\n6,003-3,Male,60,80,9000,,\n");
  char text[4096] = "PatientUnitStayID,infusionoffset,drugname,drugrate,drugamount,volumeoffluid,"
                    "patientweight\n";
  static const char *const rows[] = {
      "Heparin (units/hr),1000,,,", "heparin (units/kg/hr),10,,,", "Heparin (ml/hr),12,25000,250,",
      "Heparin (ml/hr),12,,,",      "Heparin (),1000,,,",          "Insulin (units/hr),5,,,"};
  for (int i = 0; i < COUNT(rows); i++) {
    for (int h = 0; h < 8; h += 7) {
      const size_t size = strlen(text);
      snprintf(text + size, sizeof text - size, "%d,%d,%s\n", i + 1, 60 * h - 30, rows[i]);
    }
  }
  put("infusiondrug.csv", text);
  put("lab.csv", "patientunitstayid,labresultoffset,labname,labresult,labmeasurenamesystem\n"
                 "1,-100,PTT,40,sec\n1,90,PTT,70,sec\n2,90,PTT,70,min\n3,90,PT,70,sec\n");
  rgm_import_free(m);
  m = NULL;
  cr_assert_eq(run_import("eicu-heparin", NULL, "split.validation=0", "actions.bins=2",
                          "dose.concentration=0", &m),
               RGM_OK, "%s", rgm_last_error());
  cr_assert(m->flow[1].stays == 5 && m->flow[2].stays == 3 && m->stay_count == 3);
  cr_assert(dropped(m, "(ml/hr): concentration") == 2 && dropped(m, "(): unit") == 2);
  NEAR(dose_at(m, 0, 1), 1000);
  NEAR(dose_at(m, 1, 1), 700);
  NEAR(dose_at(m, 2, 1), 1200);
  NEAR(dose_at(m, 0, 0), 500); // from half past
  NEAR(held(m, 0, 0, "age"), 90);
  cr_assert(m->stay[1].patient == m->stay[2].patient && m->stay[0].patient == 0);
  NEAR(held(m, 0, 0, "aptt"), 40);
  NEAR(held(m, 0, 3, "aptt"), 70);
  cr_assert(isnan(held(m, 1, 3, "aptt")) && isnan(held(m, 2, 3, "aptt")));
}


// ---- traps seen in real rows -------------------------------------------------------------------

Test(import, courses_and_doses, .init = setup, .fini = teardown) {
  take(NULL, NULL, NULL);
  cr_assert(m->stay_count == 2 && m->panel.rows == 10 + 21, "%lld rows", (long long)m->panel.rows);

  // CareVue: a rate in Uhr holds until the next, at most 2 h; a row without a rate is none; the
  // last one holds for 1 h
  static const double charted[] = {1000, 1200, 1200, 0, 0, 800, 0, 600, 300 + 450, 450};
  for (int h = 0; h < COUNT(charted); h++) {
    NEAR(dose_at(m, 0, h), charted[h]);
  }
  cr_assert_eq(dropped(m, "charted without a rate"), 1);

  // MetaVision: rewritten rows do not count, units/kg/hour takes the row's weight, a row without a
  // rate is a bolus and lasts no minute
  NEAR(dose_at(m, 1, 0), 500);
  NEAR(m->panel.bolus[row_of(m, 1, 0)], 4000);
  NEAR(dose_at(m, 1, 9), 1000);
  NEAR(dose_at(m, 1, 10), 700);
  NEAR(dose_at(m, 1, 20), 350);
  cr_assert_eq(dropped(m, "status"), 1);

  // the child and the short course
  cr_assert(m->flow[0].stays == 4 && m->flow[1].stays == 4 && m->flow[2].stays == 4 &&
            m->flow[3].stays == 3 && m->flow[4].stays == 2);
  cr_assert(m->stay[0].end == END_STOPPED && m->stay[1].end == END_DEATH);
  cr_assert(m->panel.terminated[9] == 1 && m->panel.truncated[9] == 0 && !m->panel.terminated[8]);
}


Test(import, labs_without_admission_and_as_text, .init = setup, .fini = teardown) {
  take(NULL, NULL, NULL);
  const import_count *c = &m->rules.variable[variable_index(m, "aptt")].count;
  cr_assert(c->no_number == 2 && c->unknown_unit == 1 && c->used == 5, "%lld %lld %lld",
            (long long)c->no_number, (long long)c->unknown_unit, (long long)c->used);
  cr_assert_eq(dropped(m, "no hadm_id"), 1);
  NEAR(held(m, 0, 0, "aptt"), 30);
  NEAR(age_of(m, 0, 0, "aptt"), 1);
  NEAR(held(m, 0, 3, "aptt"), 70); // the one without an admission, charted on the hour
  NEAR(age_of(m, 0, 3, "aptt"), 0);
  NEAR(held(m, 0, 7, "aptt"), 70); // neither >150 nor the text
  NEAR(age_of(m, 0, 7, "aptt"), 4);
  NEAR(m->panel.fresh[row_of(m, 0, 3)], 70);
  cr_assert(isnan(m->panel.fresh[row_of(m, 0, 5)]) && isnan(m->panel.fresh[row_of(m, 0, 6)]));
  NEAR(m->panel.fresh[row_of(m, 0, 7)], 90); // the last one within the hour
  NEAR(held(m, 0, 8, "aptt"), 90);
  NEAR(held(m, 1, 15, "aptt"), 65); // 9 min is no unit of the rules
}


Test(import, ages_weights_units_and_ranges, .init = setup, .fini = teardown) {
  take(NULL, NULL, NULL);
  NEAR(held(m, 0, 0, "age"), 21914 / 365.2425); // whole days from 2050-01-01 to 2110-01-01
  NEAR(held(m, 1, 0, "age"), 90);               // 300 years
  NEAR(held(m, 0, 0, "weight"), 80);
  NEAR(held(m, 1, 0, "weight"), 70); // at admission, although charted later
  NEAR(held(m, 0, 0, "tempc"), 37);
  NEAR(held(m, 1, 0, "tempc"), 38);     // the one marked wrong does not count
  NEAR(held(m, 1, 2, "tempc"), 38);     // 37 deg F is out of range
  NEAR(held(m, 1, 0, "creatinine"), 2); // and 900 mg/dL
  cr_assert_eq(m->rules.variable[variable_index(m, "tempc")].count.marked_wrong, 1);
  cr_assert_eq(m->rules.variable[variable_index(m, "tempc")].count.out_of_range, 1);
  cr_assert_eq(m->rules.variable[variable_index(m, "creatinine")].count.out_of_range, 1);

  // the weight does not look ahead where the rules forbid it
  take("variable.weight.backfill=false", NULL, NULL);
  cr_assert(isnan(held(m, 1, 0, "weight")) && held(m, 1, 4, "weight") == 70);
}


Test(import, coma_scale_from_its_parts, .init = setup, .fini = teardown) {
  take(NULL, NULL, NULL);
  NEAR(held(m, 0, 0, "gcs"), 15);        // under a tube
  NEAR(held(m, 0, 2, "gcs"), 15);        // verbal part of 3 h ago: still the tube
  NEAR(held(m, 0, 4, "gcs"), 5 + 4 + 4); // verbal now, motor before, eyes not charted: normal
  NEAR(held(m, 0, 5, "gcs"), 6 + 4 + 2); // eyes now, verbal before
  NEAR(held(m, 1, 0, "gcs"), 6 + 1 + 4);
  take("variable.gcs.tube_score=missing", NULL, NULL);
  cr_assert(isnan(held(m, 0, 2, "gcs")));
  NEAR(held(m, 0, 4, "gcs"), 13);
}


Test(import, doses_in_unknown_units, .init = setup, .fini = teardown) {
  // prophylaxis comes in doses: as an item of the rules, without an amount, it stays out
  take("dose.interval_items=[225152, 225975]", NULL, NULL);
  cr_assert(dropped(m, "bolus in an unknown unit") == 1 && m->stay_count == 2);
  NEAR(m->panel.bolus[row_of(m, 1, 1)], 0);

  // a rate in grams, or without a unit, is never taken for units: the stay goes
  static const char *const units[] = {"g/hour", "", "ml/hr", "mg/hour", "dose"};
  for (int i = 0; i < COUNT(units); i++) {
    char to[64];
    snprintf(to, sizeof to, "1000,%s,70,Changed", units[i]);
    put_changed(4, "1000,units/hour,70,Changed", to);
    take(NULL, NULL, NULL);
    cr_assert(m->stay_count == 1 && m->flow[2].stays == 3, "%s", units[i]);
    cr_assert_eq(dropped(m, "rate in an unknown unit"), 1);
    refuse(RGM_EDATA, "row 2: a dose in a unit that is not known", "dose.unknown_unit=refuse",
           NULL);
  }

  // a lab in grams for milligrams is not taken; with its conversion it is
  put_tables();
  put_changed(5, "1.1,1.1,mg/dL", "0.0011,0.0011,g/dL");
  take(NULL, NULL, NULL);
  cr_assert_eq(m->rules.variable[variable_index(m, "creatinine")].count.unknown_unit, 1);
  take("variable.creatinine.units=\"mg/dL, g/dL = 1000\"", NULL, NULL);
  NEAR(held(m, 0, 0, "creatinine"), 1.1);

  // negative and incredible rates
  put_tables();
  put_changed(4, "1000,units/hour,70,Changed", "-1000,units/hour,70,Changed");
  take(NULL, NULL, NULL);
  cr_assert_eq(m->stay_count, 1);
  put_tables();
  take("dose.rate_max=1100", NULL, NULL);
  cr_assert(m->stay_count == 1 && dropped(m, "rate_max") == 1);
}


Test(import, columns_in_any_case_and_more_of_them, .init = setup, .fini = teardown) {
  take(NULL, NULL, NULL);
  char digest[65];
  snprintf(digest, sizeof digest, "%s", m->data->digest);
  put_changed(5, "SUBJECT_ID,HADM_ID,ITEMID", "subject_id,Hadm_Id,itemid");
  put_changed(0, "row_id,SUBJECT_ID", "extra,subject_id");
  put_changed(6, "ERROR\n", "error,\n"); // an extra trailing column, short in the rows? no: refused
  refuse(RGM_EDATA, "fields where the header has", NULL, NULL);
  put_changed(6, "ICUSTAY_ID,ITEMID", "\"icustay_id\",\"ITEMID\"");
  take(NULL, NULL, NULL);
  cr_assert_str_eq(m->data->digest, digest);
}


Test(import, messages_name_what_is_missing, .init = setup, .fini = teardown) {
  drop("LABEVENTS.csv");
  put("LABEVENT.csv", table_text[5]);
  refuse(RGM_EDATA, "no table labevents.csv or labevents.csv.gz; did you mean LABEVENT?", NULL,
         NULL);
  take("tables.labevents=labevent", NULL, NULL);
  put("labevents.csv", table_text[5]);
  put_gzip("LABEVENTS.csv.gz", table_text[5]);
  refuse(RGM_EDATA, "there twice", NULL, NULL);
  drop("LABEVENTS.csv.gz");
  put_changed(4, "RATEUOM", "RATE_UOM");
  refuse(RGM_EDATA, "INPUTEVENTS_MV.csv: no column rateuom among 10; did you mean RATE_UOM?", NULL,
         NULL);
  put_tables();
  drop("LABEVENTS.csv");

  // what is wrong is named by file, row and column; its value is not told
  put_changed(6, "2110-01-01 13:30:00", "SECRET77");
  refuse(RGM_EDATA, "CHARTEVENTS.csv: row 12: column CHARTTIME: no time", NULL, NULL);
  cr_assert_null(strstr(rgm_last_error(), "SECRET77"));
  put_changed(6, "763,2110-01-01 09:00:00,80", "763,2110-01-01 09:00:00,SECRET78");
  put_changed(2, "1000,10,100", "1000,SECRET79,100");
  refuse(RGM_EDATA, "ICUSTAYS.csv: row 2: column SUBJECT_ID: no whole number", NULL, NULL);
  cr_assert_null(strstr(rgm_last_error(), "SECRET"));
  put_tables();
  put_changed(2, "2000,20,200", "1000,20,200");
  refuse(RGM_EDATA, "row 3: column ICUSTAY_ID: the stay is there twice", NULL, NULL);
  put_tables();
  put_changed(3, "Uhr", "l/h");
  put_changed(4, "units/hour", "l/h");
  refuse(RGM_EDATA, "no stay is left", NULL, NULL);
}


// ---- order, gzip, rules ------------------------------------------------------------------------

Test(import, digest_of_content_not_of_files, .init = setup, .fini = teardown) {
  char digest[65], text[TABLE_ROOM], name[64];
  take(NULL, NULL, NULL);
  snprintf(digest, sizeof digest, "%s", m->data->digest);
  for (int i = 0; i < TABLES; i++) {
    reverse_rows(table_text[i], text);
    snprintf(name, sizeof name, "%s.csv", table_name[i]);
    put(name, text);
  }
  take(NULL, NULL, NULL);
  cr_assert_str_eq(m->data->digest, digest, "rows in reverse");
  for (int i = 0; i < TABLES; i++) {
    snprintf(name, sizeof name, "%s.csv", table_name[i]);
    drop(name);
    snprintf(name, sizeof name, "%s.CSV.gz", table_name[i]);
    put_gzip(name, table_text[i]);
  }
  take(NULL, NULL, NULL);
  cr_assert_str_eq(m->data->digest, digest, "gzip");
  take("actions.bins=3", "dose.per_kg=false", NULL);
  cr_assert_str_neq(m->data->digest, digest);
}


Test(import, hours_rules, .init = setup, .fini = teardown) {
  take("cohort.hours_rule=all", NULL, NULL);
  cr_assert(m->stay_count == 3 && m->panel.rows == 10 + 21 + 3);
  take("cohort.hours_rule=landmark", NULL, NULL);
  cr_assert(m->stay_count == 2 && m->panel.rows == 3 + 14 && m->panel.time[0] == 7);
  NEAR(dose_at(m, 0, 8), 750);
  NEAR(held(m, 0, 7, "aptt"), 70);
  take("cohort.hours_max=8", NULL, NULL);
  cr_assert(m->panel.rows == 16 && m->panel.truncated[7] && !m->panel.terminated[7]);
  cr_assert_eq(m->stay[0].end, END_CUT);
  take("cohort.stop_terminates=false", NULL, NULL);
  cr_assert(m->panel.truncated[9] && m->panel.terminated[30], "a stop cuts, a death does not");
}


Test(import, actions_and_zeros, .init = setup, .fini = teardown) {
  take("dose.per_kg=false", "actions.bins=4", NULL);
  const rgm_column *a = &m->data->column[rgm_dataset_role(m->data, RGM_ROLE_ACTION)];
  cr_assert(a->choices == 4 && m->edge_count == 2);
  int64_t counts[4] = {0};
  for (int64_t i = 0; i < m->panel.rows; i++) {
    const int bin = (int)rgm_cell_get(a, i);
    counts[bin]++;
    cr_assert_eq(bin == 0, m->panel.dose[i] == 0);
  }
  // by hand: 28 doses above 0, 350 450 500 600, ten of 700, 750 800, ten of 1000, two of 1200
  cr_assert(counts[0] == 3 && counts[1] == 14 && counts[2] == 12 && counts[3] == 2);
  cr_assert(m->edges[0] == 700 && m->edges[1] == 1000);
  cr_assert(m->typical[0] == 0 && m->typical[1] == 700 && m->typical[2] == 1000 &&
            m->typical[3] == 1200);
  refuse(RGM_EDATA, "set actions.zero_bin=true", "actions.zero_bin=false", "actions.bins=12");
  refuse(RGM_EDATA, "equal doses merge", "actions.bins=9", NULL);

  // a dose per kg of an unknown weight is no dose of 0
  refuse(RGM_EDATA, "are without a weight", "impute.method=none", "variable.weight.backfill=false");
  take("dose.bolus=true", "dose.per_kg=false", NULL);
  NEAR(m->panel.bolus[row_of(m, 1, 0)] + m->panel.dose[row_of(m, 1, 0)], 4500);
}


Test(import, rewards) {
  // by hand, from the formula as printed
  static const double at[][2] = {{40, -1}, {60, 0}, {62, 0.762}, {80, 1}, {100, 0}, {150, -1}};
  for (int i = 0; i < COUNT(at); i++) {
    cr_assert_float_eq(rgm_import_reward(at[i][0], 60, 100), at[i][1], 1e-3);
  }
  for (double x = 20; x < 200; x += 0.37) {
    const double printed = 2 / (1 + exp(-(x - 60))) - 2 / (1 + exp(-(x - 100))) - 1;
    cr_assert_float_eq(rgm_import_reward(x, 60, 100), printed, 1e-12);
  }
  cr_assert(isnan(rgm_import_reward(NAN, 60, 100)));
}


Test(import, rules_are_checked, .init = setup, .fini = teardown) {
  static const struct {
    const char *set, *text;
  } bad[] = {{"import.variabels=age", "did you mean import.variables?"},
             {"cohort.age_min=-1", "cohort.age_min"},
             {"cohort.hours_min=80", "hours_min is larger"},
             {"import.variables=age, age", "twice"},
             {"import.variables=\"\"", "at least one"},
             {"import.variables=age, lactate", "variable.lactate.unit"},
             {"variable.aptt.table=labs", "labevents"},
             {"variable.aptt.units=\"sec = x\"", "units stand as"},
             {"variable.aptt.units=\"sec, = 2\"", "units stand as"},
             {"variable.aptt.items=[50912]", "item 50912 belongs to another variable too"},
             {"variable.aptt.items=[999999]", "variable.aptt.items"},
             {"split.validation=0.9", ""},
             {"outcome.low=200", "outcome.low"},
             {"tables.patients=../x", "without folders"}};
  for (int i = 0; i < COUNT(bad); i++) {
    rgm_import_free(m);
    const rgm_status got =
        run_import("mimic3-heparin", NULL, bad[i].set, i == 11 ? "split.test=0.5" : NULL, NULL, &m);
    cr_assert(got == RGM_ECONFIG, "%s: %d %s", bad[i].set, got, rgm_last_error());
    cr_assert_not_null(strstr(rgm_last_error(), bad[i].text), "%s: %s", bad[i].set,
                       rgm_last_error());
  }

  // the paper's preset: no aPTT in the state, which is still there for rewards, and a warning
  rgm_import_free(m);
  const char *sets[] = {"split.validation=0", "actions.bins=4",
                        "import.variables=age, male, weight, gcs, tempc, creatinine"};
  cr_assert_eq(rgm_import_run(rgm_import_find_kind("mimic3-heparin"), folder,
                              "configs/import/mimic3_heparin_paper.yaml", sets, 3, NULL, &m),
               RGM_OK, "%s", rgm_last_error());
  cr_assert_eq(rgm_dataset_width(m->data, RGM_SEEN), 6);
  cr_assert_neq(rgm_dataset_find(m->data, "aptt_new"), -1);
  cr_assert_not_null(strstr(rgm_dataset_note_text(m->data, "warning"), "does not see the aPTT"));
  take(NULL, NULL, NULL);
  cr_assert_eq(rgm_dataset_width(m->data, RGM_SEEN), 8); // seven and the aPTT's age
}


// ---- long tables -------------------------------------------------------------------------------

static const char long_rules[] = "import:\n  variables: x, y\n"
                                 "columns: {id: who, time: t, dose: given, outcomes: dead}\n"
                                 "dose: {name: drug, unit: mg, per_kg: false}\n"
                                 "split: {validation: 0}\nimpute: {k: 1}\n"
                                 "actions: {bins: 3}\nvariable:\n  x: {unit: mmol/L}\n"
                                 "  y: {unit: s, column: why, lookback: 2}\n";

static rgm_status take_long(const char *table, const char *a, const char *b) {
  char rules[128];
  snprintf(rules, sizeof rules, "%s/rules.yaml", folder);
  put("rules.yaml", long_rules);
  put("table.csv", table);
  rgm_import_free(m);
  return run_import("csv", rules, a, b, NULL, &m);
}


Test(import, long_tables, .init = setup, .fini = teardown) {
  static const char table[] = "Who,T,x,why,given,dead,note\nb,2,5,,0,1,\nb,0,4,7,1,1,\n"
                              "a,0,1,2,2,0,\na,1,,,3,0,\na,2,3,,0,0,\na,5,3,NA,4,0,x\n";
  cr_assert_eq(take_long(table, NULL, NULL), RGM_OK, "%s", rgm_last_error());
  cr_assert_eq(m->panel.rows, 6);
  NEAR(held(m, 0, 1, "x"), 1); // the last value, with its age
  NEAR(age_of(m, 0, 1, "x"), 1);
  NEAR(held(m, 0, 2, "y"), 2);
  cr_assert(isnan(held(m, 0, 5, "y"))); // older than lookback

  // filled in from the nearest row that has it: x = 3 is nearest to a's rows at x = 3
  const rgm_column *y = &m->data->column[rgm_dataset_find(m->data, "y")];
  NEAR(rgm_cell_get(y, 3), 2);
  cr_assert(m->panel.patient[0] == 0 && m->panel.patient[4] == 1 && m->panel.terminated[3] &&
            m->panel.terminated[5] && !m->panel.terminated[4]);
  cr_assert_eq(rgm_cell_get(&m->data->column[rgm_dataset_find(m->data, "dead")], 4), 1);
  char digest[65], reversed[1024];
  snprintf(digest, sizeof digest, "%s", m->data->digest);
  reverse_rows(table, reversed);
  cr_assert_eq(take_long(reversed, NULL, NULL), RGM_OK);
  cr_assert_str_eq(m->data->digest, digest);

  // times as dates, actions as given
  cr_assert_eq(take_long("who,t,x,why,act,dead\n1,2100-01-01 00:00,1,1,2,0\n"
                         "1,2100-01-01 01:30,1,1,0,0\n10,2100-01-01,1,1,1,0\n",
                         "columns.dose=\"\"", "columns.action=act"),
               RGM_OK, "%s", rgm_last_error());
  NEAR(m->panel.time[1], 1.5);
  cr_assert_eq(m->data->column[rgm_dataset_role(m->data, RGM_ROLE_ACTION)].choices, 3);
}


Test(import, column_map_to_copy, .init = setup, .fini = teardown) {
  put("My_Table.csv", "patient,hour,lactate_mmol,map,norepinephrine,died\n"
                      "p1,0,2,60,0.1,0\np1,1,,70,0.2,0\np2,0,4,55,0.3,1\np2,1,3,75,0,1\n");
  rgm_import_free(m);
  cr_assert_eq(run_import("csv", "configs/import/long_table.yaml", "split.validation=0",
                          "actions.bins=3", NULL, &m),
               RGM_OK, "%s", rgm_last_error());
  cr_assert_eq(m->panel.rows, 4);
  NEAR(rgm_cell_get(&m->data->column[rgm_dataset_find(m->data, "reward")], 0),
       (float)rgm_import_reward(70, 65, 80));
}


Test(import, long_tables_that_are_wrong, .init = setup, .fini = teardown) {
  static const struct {
    const char *table, *text;
  } bad[] = {
      {"whom,t,x,why,given,dead\n1,0,1,1,1,0\n", "no column who among 6; did you mean whom?"},
      {"who,t,x,why,given\n1,0,1,1,1\n", "no column dead"},
      {"who,t,x,why,given,dead\n", "no rows"},
      {"who,t,x,why,given,dead\n,0,1,1,1,0\n", "row 2: column who: empty"},
      {"who,t,x,why,given,dead\n1,soon,1,1,1,0\n", "row 2: column t: no time"},
      {"who,t,x,why,given,dead\n1,0,1,1,much,0\n", "row 2: column given: a number"},
      {"who,t,x,why,given,dead\n1,0,1,1,-2,0\n", "row 2: column given: a dose below 0"},
      {"who,t,x,why,given,dead\n1,0,1,1,2,0\n1,1,1,1,2,0\n1,0,1,1,2,0\n",
       "rows 2 and 4: the same patient, episode and time"},
      {"who,t,x,why,given,dead\n1,0,,1,1,0\n1,1,,1,2,0\n1,2,,1,3,0\n",
       "x is never measured in the training rows"}};
  for (int i = 0; i < COUNT(bad); i++) {
    cr_assert_eq(take_long(bad[i].table, NULL, NULL), RGM_EDATA, "%d", i);
    cr_assert_not_null(strstr(rgm_last_error(), bad[i].text), "%d: %s", i, rgm_last_error());
  }
}
