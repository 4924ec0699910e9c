// SPDX-License-Identifier: Apache-2.0
// Damaged tables (bytes and fields changed at random, seeded; plain and gzip) given to the
// importers in turn: MIMIC-III, eICU, a wide table, a table with a row for each value. None may
// crash or hang, and what is refused is refused as bad data. 1,000 of them; IMPORT_MUTANTS sets
// another number (tools/show import_mutants).

#include "tests/import_tables.h"

#include <sys/wait.h>

TestSuite(import_mutants, .timeout = 3600);

enum { BATCH = 100, SECONDS = 60 };

static const char *const eicu_name[] = {"patient", "infusiondrug", "lab", "vitalPeriodic",
                                        "vitalAperiodic"};
static const char *const eicu_text[] = {
    "patientunitstayid,uniquepid,gender,age,admissionweight,unitdischargeoffset,"
    "hospitaldischargestatus,hospitaldischargeoffset\n"
    "1,002-1,Male,> 89,80,9000,Alive,9000\n2,002-2,Female,50,70,9000,Alive,9000\n"
    "3,002-2,Female,50,70,9000,Expired,900\n4,003-1,Male,60,80,9000,,\n",
    "patientunitstayid,infusionoffset,drugname,drugrate,drugamount,volumeoffluid,patientweight\n"
    "1,-30,Heparin (units/hr),1000,,,\n1,400,Heparin (units/hr),1200,,,\n"
    "2,0,heparin (units/kg/hr),10,,,71\n2,430,heparin (units/kg/hr),12,,,\n"
    "3,10,Heparin (ml/hr),12,25000,250,\n3,450,Heparin (ml/hr),14,25000,500,\n"
    "4,10,Heparin (),1000,,,\n4,20,Insulin (units/hr),5,,,\n",
    "patientunitstayid,labresultoffset,labname,labresult,labmeasurenamesystem\n"
    "1,-100,PTT,40,sec\n1,90,PTT,70,sec\n2,90,PTT,80,sec\n3,90,PTT,>150,sec\n"
    "3,100,PT,14,sec\n2,5,Hgb,10,g/dL\n",
    "patientunitstayid,observationoffset,temperature,respiration,systemicsystolic,"
    "systemicdiastolic\n1,5,37,18,120,60\n2,65,,22,,\n3,70,98.6,20,130,70\n",
    "patientunitstayid,observationoffset,noninvasivesystolic,noninvasivediastolic\n"
    "1,35,100,50\n2,65,110,55\n"};

static const char *const wide_name[] = {"My_Table"};
static const char *const wide_text[] = {
    "patient,hour,lactate_mmol,map,norepinephrine,died\np1,0,2,60,0.1,0\np1,1,,70,0.2,0\n"
    "p2,0,4,55,0.3,1\np2,1.5,3,NA,0,1\n10,0,3,75,0.4,\n10,2,3,75,0.15,1\n10,1,9,,0.5,1\n"};

static const char *const long_name[] = {"my_values"};
static const char *const long_text[] = {
    "patient,hour,what,value,unit,until,status\nb,6.5,225152,0,units/h,,\n"
    "b,0.5,heparin,1000,units/h,,\nb,3.5,Heparin,1200,units/h,,final\nb,,age,50,years,,\n"
    "b,9,sex,F,,,\nb,,weight,176,lb,,\na,2,heparin,10,units/kg/h,5,\n"
    "a,2.5,heparin bolus,4000,units,,\na,,weight,70,kg,,\na,,age,> 89,,,\na,3,sex,1,,,\n"
    "a,4.5,death,,,,\na,1,readmitted,0,,,\nc,1,heparin,7,mg/h,,\nc,,age,40,a,,\n"
    "b,-1,lactate,2,mmol/L,,\nb,1,50813,9,mg/dL,,\nb,2.25,lactate,>10,mmol/L,,\n"
    "b,4.1,lactate,3,mmol/L,,cancelled\nb,0,map,70,mmHg,,\nb,4.5,aptt,55,sec,,\n"
    "a,0,aptt,80,s,,\n"};

// What is imported, and by which rules.
static const struct hospital {
  const char *kind, *rules;
  int tables;
  const char *const *name, *const *text;
  const char *bins;
} hospitals[] = {
    {"mimic3-heparin", NULL, TABLES, table_name, table_text, NULL},
    {"eicu-heparin", NULL, COUNT(eicu_name), eicu_name, eicu_text, "actions.bins=3"},
    {"csv", "configs/import/long_table.yaml", 1, wide_name, wide_text, "actions.bins=3"},
    {"csv", "configs/import/long_values.yaml", 1, long_name, long_text, "actions.bins=2"},
};


static uint64_t draw(uint64_t *state) {
  *state = *state * 6364136223846793005u + 1442695040888963407u;
  uint64_t x = *state ^ *state >> 33;
  x *= 0xff51afd7ed558ccdu;
  return x ^ x >> 33;
}


// puts `word` in the place of `length` bytes at `at`
static size_t splice(char *data, size_t size, size_t at, size_t length, const char *word) {
  const size_t n = strlen(word);
  length = at + length > size ? size - at : length;
  if (size - length + n >= TABLE_ROOM) {
    return size;
  }
  memmove(data + at + n, data + at + length, size - at - length);
  memcpy(data + at, word, n);
  return size - length + n;
}


static size_t change(char *data, size_t size, uint64_t *state) {
  static const char *const words[] = {"",
                                      "-1",
                                      "1e308",
                                      "1e999",
                                      "nan",
                                      "99999999999999999999",
                                      "\"",
                                      "\"\"",
                                      ",",
                                      ",,",
                                      "\n",
                                      "\r",
                                      "\r\n",
                                      "\"\n\"",
                                      "0",
                                      "262143",
                                      "262144",
                                      "225152",
                                      "30025",
                                      "51275",
                                      "1000",
                                      "2000",
                                      "-0",
                                      "0.0",
                                      "1.5",
                                      "Uhr",
                                      "units/kg/hour",
                                      "units/hour",
                                      "sec",
                                      "kg",
                                      ">150",
                                      "Rewritten",
                                      "M",
                                      "9999-12-31 23:59:59",
                                      "0000-01-01",
                                      "2110-01-01 10:30:00",
                                      "1800-01-01 00:00:00",
                                      "2110-01-01",
                                      "\xef\xbb\xbf",
                                      "\x1f\x8b",
                                      "\xff",
                                      "SUBJECT_ID",
                                      "ICUSTAY_ID",
                                      "1e-320",
                                      "2147483648",
                                      "4294967296",
                                      "-9e18",
                                      "NA",
                                      "heparin",
                                      "heparin bolus",
                                      "Heparin (units/hr)",
                                      "(ml/hr)",
                                      "death",
                                      "lactate",
                                      "units/kg/h",
                                      "mg/dL",
                                      "002-1",
                                      "p1",
                                      "> 89"};
  size_t at = draw(state) % (size + 1), length = draw(state) % 4;
  switch (draw(state) % 7) {
  case 0:
    data[at < size ? at : size - 1] = (char)draw(state);
    return size;
  case 1:
    data[at < size ? at : size - 1] ^= (char)(1 << draw(state) % 8);
    return size;
  case 2:
    return at > 0 ? at : 1; // cut off
  case 3:
    return splice(data, size, at, draw(state) % 60, "");
  case 4:
    return splice(data, size, at, length, words[draw(state) % COUNT(words)]);
  default: // a field as a whole
    while (at > 0 && data[at - 1] != ',' && data[at - 1] != '\n') {
      at--;
    }
    for (length = 0; at + length < size && data[at + length] != ',' && data[at + length] != '\n';) {
      length++;
    }
    return splice(data, size, at, length, words[draw(state) % COUNT(words)]);
  }
}


static void put_hospital(const struct hospital *h) {
  char name[64];
  for (int i = 0; i < h->tables; i++) {
    snprintf(name, sizeof name, "%s.csv", h->name[i]);
    put(name, h->text[i]);
  }
}


static rgm_status import_hospital(const struct hospital *h, import **m) {
  return run_import(h->kind, h->rules, h->bins, "split.validation=0", NULL, m);
}


// one mutant: a table changed once to four times; some are packed first and changed then
static void put_mutant(const struct hospital *h, uint64_t *state) {
  static char data[TABLE_ROOM];
  char name[64], path[160];
  const int table = (int)(draw(state) % (uint64_t)h->tables);
  const bool gzip = draw(state) % 8 == 0;
  put_hospital(h);
  snprintf(name, sizeof name, "%s.csv", h->name[table]);
  size_t size = strlen(h->text[table]);
  memcpy(data, h->text[table], size);
  if (gzip) {
    put_gzip(name, h->text[table]);
    snprintf(path, sizeof path, "%s/%s", folder, name);
    FILE *file = fopen(path, "rb");
    size = fread(data, 1, sizeof data, file);
    fclose(file);
  }
  for (int n = 1 + (int)(draw(state) % 4); n > 0; n--) {
    size = change(data, size, state);
  }
  put_bytes(name, data, size);
}


// exits with 0 when every mutant of a batch was imported or refused as it should be
static void run_batch(uint64_t seed, int count) {
  alarm(SECONDS);
  uint64_t state = seed * 2654435761u + 11;
  int good = 0;
  for (int i = 0; i < count; i++) {
    import *m;
    const int k = i % COUNT(hospitals);
    put_mutant(&hospitals[k], &state);
    const rgm_status status = import_hospital(&hospitals[k], &m);
    good += status == RGM_OK;
    rgm_import_free(m);
    if (status != RGM_OK && status != RGM_EDATA) {
      fprintf(stderr, "seed %llu, mutant %d of %s: %d %s\n", (unsigned long long)seed, i,
              hospitals[k].kind, status, rgm_last_error());
      _exit(1);
    }
    for (int t = 0; t < hospitals[k].tables; t++) {
      char name[64];
      snprintf(name, sizeof name, "%s.csv", hospitals[k].name[t]);
      drop(name);
    }
  }
  _exit(good > 0 && good < count ? 0 : 2);
}


Test(import_mutants, damaged_tables, .init = make_folder, .fini = remove_folder) {
  const char *asked = getenv("IMPORT_MUTANTS");
  const int mutants = asked != NULL ? atoi(asked) : 1000;
  for (int k = 0; k < COUNT(hospitals); k++) { // whole, all of them are imported
    import *m;
    put_hospital(&hospitals[k]);
    cr_assert_eq(import_hospital(&hospitals[k], &m), RGM_OK, "%d: %s", k, rgm_last_error());
    rgm_import_free(m);
  }
  for (int b = 0; b * BATCH < mutants; b++) {
    const pid_t child = fork();
    cr_assert_geq(child, 0);
    if (child == 0) {
      run_batch((uint64_t)b, BATCH);
    }
    int status;
    cr_assert_eq(waitpid(child, &status, 0), child);
    cr_assert(WIFEXITED(status), "batch %d: signal %d", b, WTERMSIG(status));
    cr_assert_eq(WEXITSTATUS(status), 0, "batch %d", b);
  }
}
