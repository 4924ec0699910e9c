// SPDX-License-Identifier: Apache-2.0
// A hospital of four invented people in MIMIC-III's tables, for tests of the importers: a stay
// charted by CareVue, one by MetaVision with a hidden age, a child, and a short course. Writes them
// as they are, with lines in another order, or gzipped; and runs an import.

#ifndef RGM_TESTS_IMPORT_TABLES_H
#define RGM_TESTS_IMPORT_TABLES_H

#include "engine/import.h"

#include <criterion/criterion.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <zlib.h>

#define COUNT(array) ((int)(sizeof(array) / sizeof((array)[0])))

enum { TABLES = 7, TABLE_ROOM = 1 << 14 };

static const char *const table_name[TABLES] = {"PATIENTS",       "ADMISSIONS",     "ICUSTAYS",
                                               "INPUTEVENTS_CV", "INPUTEVENTS_MV", "LABEVENTS",
                                               "CHARTEVENTS"};

static const char *const table_text[TABLES] = {
    // 20 is older than 89: born 300 years before
    "row_id,SUBJECT_ID,GENDER,DOB\n"
    "1,10,M,2050-01-01 00:00:00\n2,20,F,1810-01-01 00:00:00\n"
    "3,30,M,2100-01-01 00:00:00\n4,40,F,2060-01-01 00:00:00\n",
    "HADM_ID,DEATHTIME,HOSPITAL_EXPIRE_FLAG\n"
    "100,,0\n200,2110-01-02 06:00:00,1\n300,,0\n400,,0\n",
    "ICUSTAY_ID,SUBJECT_ID,HADM_ID,INTIME,OUTTIME,DBSOURCE\n"
    "1000,10,100,2110-01-01 08:00:00,2110-01-09 08:00:00,carevue\n"
    "2000,20,200,2110-01-01 08:00:00,2110-01-09 08:00:00,metavision\n"
    "3000,30,300,2110-01-01 08:00:00,2110-01-09 08:00:00,metavision\n"
    "4000,40,400,2110-01-01 08:00:00,2110-01-09 08:00:00,metavision\n",
    "ICUSTAY_ID,CHARTTIME,ITEMID,AMOUNT,RATE,RATEUOM\n"
    "1000,2110-01-01 10:00:00,30025,,1000,Uhr\n1000,2110-01-01 11:00:00,30025,,1200,Uhr\n"
    "1000,2110-01-01 15:00:00,30025,,800,Uhr\n1000,2110-01-01 16:00:00,30025,,0,Uhr\n"
    "1000,2110-01-01 17:00:00,30025,,600,Uhr\n1000,2110-01-01 18:00:00,30025,500,,\n"
    "1000,2110-01-01 18:30:00,30025,,900,Uhr\n1000,2110-01-01 12:00:00,30056,400,,\n",
    "ICUSTAY_ID,STARTTIME,ENDTIME,ITEMID,AMOUNT,AMOUNTUOM,RATE,RATEUOM,PATIENTWEIGHT,"
    "STATUSDESCRIPTION\n"
    "2000,2110-01-01 10:30:00,2110-01-01 20:00:00,225152,9500,units,1000,units/hour,70,Changed\n"
    "2000,2110-01-01 20:00:00,2110-01-02 06:30:00,225152,7000,units,10,units/kg/hour,70,Stopped\n"
    "2000,2110-01-01 12:00:00,2110-01-01 22:00:00,225152,9,units,5000,units/hour,70,Rewritten\n"
    "2000,2110-01-01 10:29:00,2110-01-01 10:30:00,225152,4000,units,,,70,FinishedRunning\n"
    "2000,2110-01-01 11:00:00,2110-01-01 11:01:00,225975,1,dose,,,70,FinishedRunning\n"
    "3000,2110-01-01 10:30:00,2110-01-01 20:00:00,225152,9,units,100,units/hour,9,Stopped\n"
    "4000,2110-01-01 10:30:00,2110-01-01 13:00:00,225152,9,units,700,units/hour,9,Stopped\n",
    "SUBJECT_ID,HADM_ID,ITEMID,CHARTTIME,VALUE,VALUENUM,VALUEUOM\n"
    "10,100,51275,2110-01-01 09:00:00,30,30,sec\n10,,51275,2110-01-01 13:00:00,70,70,sec\n"
    "10,100,51275,2110-01-01 15:20:00,>150,,sec\n"
    "10,100,51275,2110-01-01 16:10:00,150 IS HIGHEST MEASURED PTT,,\n"
    "10,100,51275,2110-01-01 17:30:00,80,80,sec\n10,100,51275,2110-01-01 17:45:00,90,90,sec\n"
    "20,200,51275,2110-01-01 12:00:00,65,65,SECONDS\n20,200,51275,2110-01-01 18:00:00,9,9,min\n"
    "10,100,50912,2110-01-01 07:00:00,1.1,1.1,mg/dL\n20,200,50912,2110-01-01 07:00:00,2,2,mg/dL\n"
    "20,200,50912,2110-01-01 09:00:00,900,900,mg/dL\n99,,50912,2110-01-01 07:00:00,1,1,mg/dL\n",
    "ICUSTAY_ID,ITEMID,CHARTTIME,VALUE,VALUENUM,VALUEUOM,ERROR\n"
    "1000,763,2110-01-01 09:00:00,80,80,kg,\n2000,226512,2110-01-01 14:00:00,70,70,kg,0\n"
    "1000,678,2110-01-01 09:30:00,98.6,98.6,Deg. F,\n2000,223762,2110-01-01 09:30:00,38,38,?C,0\n"
    "2000,223762,2110-01-01 10:00:00,12,12,?C,1\n2000,223761,2110-01-01 11:30:00,37,37,?F,0\n"
    "1000,454,2110-01-01 09:00:00,6 Obeys,6,,\n1000,723,2110-01-01 09:00:00,1.0 ET/Trach,1,,\n"
    "1000,184,2110-01-01 09:00:00,3 To speech,3,,\n1000,454,2110-01-01 12:00:00,5,5,,\n"
    "1000,723,2110-01-01 13:30:00,4 Confused,4,,\n1000,184,2110-01-01 14:30:00,2,2,,\n"
    "2000,220739,2110-01-01 09:00:00,\"Spontaneously, \"\"open\"\"\",4,,0\n"
    "2000,223900,2110-01-01 09:00:00,No Response,1,,0\n"
    ",763,2110-01-01 09:00:00,80,80,kg,\n2000,1,2110-01-01 09:00:00,33%,,,\n"};

// variables and numbers of few rows; without them a training part could be empty
static const char *const small_sets[] = {
    "import.variables=age, male, weight, gcs, tempc, creatinine, aptt", "split.validation=0",
    "actions.bins=2"};

static char folder[64];


static inline void make_folder(void) {
  snprintf(folder, sizeof folder, "/tmp/rgm_import_XXXXXX");
  cr_assert_not_null(mkdtemp(folder));
}


static inline void remove_folder(void) {
  char command[128];
  snprintf(command, sizeof command, "rm -rf '%s'", folder);
  cr_assert_eq(system(command), 0);
}


static inline void put_bytes(const char *name, const char *data, size_t size) {
  char path[160];
  snprintf(path, sizeof path, "%s/%s", folder, name);
  FILE *file = fopen(path, "wb");
  cr_assert_not_null(file);
  cr_assert(fwrite(data, 1, size, file) == size && fclose(file) == 0);
}


static inline void put(const char *name, const char *text) {
  put_bytes(name, text, strlen(text));
}


static inline void put_gzip(const char *name, const char *text) {
  char path[160];
  snprintf(path, sizeof path, "%s/%s", folder, name);
  gzFile file = gzopen(path, "wb");
  cr_assert(gzwrite(file, text, (unsigned)strlen(text)) > 0 && gzclose(file) == Z_OK);
}


static inline void drop(const char *name) {
  char path[160];
  snprintf(path, sizeof path, "%s/%s", folder, name);
  unlink(path);
}


static inline void put_tables(void) {
  for (int i = 0; i < TABLES; i++) {
    char name[64];
    snprintf(name, sizeof name, "%s.csv", table_name[i]);
    put(name, table_text[i]);
  }
}


// a table with `from` replaced by `to` in its text, everywhere
static inline void put_changed(int table, const char *from, const char *to) {
  static char out[TABLE_ROOM];
  char name[64];
  size_t size = 0;
  bool found = false;
  for (const char *at = table_text[table]; *at != '\0';) {
    if (strncmp(at, from, strlen(from)) == 0) {
      size += (size_t)snprintf(out + size, sizeof out - size, "%s", to);
      at += strlen(from);
      found = true;
    } else {
      out[size++] = *at++;
    }
  }
  out[size] = '\0';
  cr_assert(found, "%s has no %s", table_name[table], from);
  snprintf(name, sizeof name, "%s.csv", table_name[table]);
  put(name, out);
}


// the rows of a text in reverse under the header
static inline void reverse_rows(const char *text, char *out) {
  const char *body = strchr(text, '\n') + 1;
  size_t size = (size_t)(body - text);
  memcpy(out, text, size);
  for (const char *end = text + strlen(text); end > body;) {
    const char *begin = end - 1;
    while (begin > body && begin[-1] != '\n') {
      begin--;
    }
    memcpy(out + size, begin, (size_t)(end - begin));
    size += (size_t)(end - begin);
    end = begin;
  }
  out[size] = '\0';
}


// imports the folder under small_sets and up to four more; *out is to be freed
static inline rgm_status run_import(const char *kind, const char *rules, const char *a,
                                    const char *b, const char *c, import **out) {
  const char *sets[8];
  int count = 0;
  if (strcmp(kind, "mimic3-heparin") == 0) {
    for (; count < COUNT(small_sets); count++) {
      sets[count] = small_sets[count];
    }
  }
  const char *const more[] = {a, b, c};
  for (int i = 0; i < 3; i++) {
    if (more[i] != NULL) {
      sets[count++] = more[i];
    }
  }
  const import_kind *k = rgm_import_find_kind(kind);
  cr_assert_not_null(k);
  return rgm_import_run(k, folder, rules != NULL ? rules : k->rules, sets, count, NULL, out);
}


static inline int variable_index(const import *m, const char *name) {
  for (int v = 0; v < m->rules.variable_count; v++) {
    if (strcmp(m->rules.variable[v].name, name) == 0) {
      return v;
    }
  }
  cr_assert_fail("no variable %s", name);
  return -1;
}


// what the panel holds of an episode at an hour of its grid
static inline int64_t row_of(const import *m, int episode, double hour) {
  for (int64_t i = 0; i < m->panel.rows; i++) {
    if (m->panel.episode[i] == episode && m->panel.time[i] == hour) {
      return i;
    }
  }
  cr_assert_fail("no row at %g", hour);
  return -1;
}


static inline double held(const import *m, int episode, double hour, const char *name) {
  return m->panel
      .value[row_of(m, episode, hour) * m->rules.variable_count + variable_index(m, name)];
}


static inline double age_of(const import *m, int episode, double hour, const char *name) {
  return m->panel.age[row_of(m, episode, hour) * m->rules.variable_count + variable_index(m, name)];
}


static inline double dose_at(const import *m, int episode, double hour) {
  return m->panel.dose[row_of(m, episode, hour)];
}


static inline int64_t dropped(const import *m, const char *why) {
  for (int i = 0; i < m->drop_count; i++) {
    if (strstr(m->drop[i].why, why) != NULL) {
      return m->drop[i].rows;
    }
  }
  return 0;
}

#endif
