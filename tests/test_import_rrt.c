// SPDX-License-Identifier: Apache-2.0
// `regimen import mimic3-rrt`: invented tables with a trap a patient and rows worked out by hand;
// the demo's counts; tables that are wrong.

#include "engine/import_rrt.h"
#include "tests/dwols_util.h"

#include <unistd.h>

TestSuite(import_rrt, .timeout = 60);

// Patients: 1 the plain one, who gets therapy after 30 h and is readmitted on day 40 (two stays of
// one admission); 2 a child; 3 end-stage disease; 4 dialysis before; 5 support only afterwards; 6
// has a first stay without support and dies after two days; 7 two eligible stays, the later id is
// the earlier one; values at the ends of windows.
typedef struct invented {
  const char *name, *text;
} invented;

static const invented tables[] = {
    {"icustay_detail",
     "SUBJECT_ID,HADM_ID,ICUSTAY_ID,GENDER,DOD,ADMITTIME,DISCHTIME,admission_age,"
     "ethnicity_grouped,HOSPITAL_EXPIRE_FLAG\n"
     "1,11,101,M,,2100-01-01 00:00:00,2100-01-21 00:00:00,300,white,0\n"
     "1,12,102,M,,2100-02-10 00:00:00,2100-02-12 12:00:00,300,white,0\n"
     "1,12,103,M,,2100-02-10 00:00:00,2100-02-12 12:00:00,300,white,0\n"
     "2,21,201,F,,2100-01-01 00:00:00,2100-01-21 00:00:00,17,white,0\n"
     "3,31,301,F,,2100-01-01 00:00:00,2100-01-21 00:00:00,50,white,0\n"
     "4,41,401,F,,2100-01-01 00:00:00,2100-01-21 00:00:00,50,white,0\n"
     "5,51,501,F,,2100-01-01 00:00:00,2100-01-21 00:00:00,50,white,0\n"
     "6,61,601,F,2100-01-04 00:00:00,2100-01-01 00:00:00,2100-01-04 00:00:00,60,black,1\n"
     "6,61,602,F,2100-01-04 00:00:00,2100-01-01 00:00:00,2100-01-04 00:00:00,60,black,1\n"
     "7,72,701,M,,2100-03-01 00:00:00,2100-03-03 00:00:00,70,asian,0\n"
     "7,71,702,M,,2100-01-01 00:00:00,2100-01-11 00:00:00,70,asian,0\n"},
    {"kdigo_stages", "ICUSTAY_ID,CHARTTIME,creat,uo_rt_24hr,aki_stage\n"
                     "101,2100-01-03 00:00:00,,0.3,3\n"
                     "101,2100-01-02 00:00:00,,-0.2,3\n"
                     "101,2100-01-01 12:00:00,,0.9,2\n"
                     "101,2100-01-03 12:00:00,,-0.1,3\n"
                     "201,2100-01-02 00:00:00,,,3\n"
                     "301,2100-01-02 00:00:00,,,3\n"
                     "401,2100-01-02 00:00:00,,,3\n"
                     "501,2100-01-02 00:00:00,,,3\n"
                     "601,2100-01-01 06:00:00,,,3\n"
                     "602,2100-01-02 00:00:00,,0.5,3\n"
                     "701,2100-03-02 00:00:00,,,3\n"
                     "702,2100-01-02 00:00:00,,,3\n"
                     "999,2100-01-02 00:00:00,,,3\n"},
    {"ventilation_durations", "ICUSTAY_ID,ventnum,starttime,endtime\n"
                              "101,1,2100-01-01 23:59:59,2100-01-05 00:00:00\n"
                              "201,1,2100-01-01 01:00:00,2100-01-05 00:00:00\n"
                              "301,1,2100-01-01 01:00:00,2100-01-05 00:00:00\n"
                              "501,1,2100-01-02 00:00:00,2100-01-05 00:00:00\n"
                              "701,1,2100-03-01 01:00:00,2100-03-02 00:00:00\n"},
    {"vasopressor_durations", "ICUSTAY_ID,vasonum,starttime,endtime\n"
                              "401,1,2100-01-01 01:00:00,2100-01-05 00:00:00\n"
                              "602,1,2100-01-01 01:00:00,2100-01-05 00:00:00\n"
                              "702,1,2100-01-01 01:00:00,2100-01-05 00:00:00\n"},
    {"esrd_patients", "SUBJECT_ID\n3\n8\n"},
    {"pivoted_rrt", "ICUSTAY_ID,CHARTTIME,dialysis_present,dialysis_active\n"
                    "101,2100-01-02 04:00:00,1,0\n"
                    "101,2100-01-03 06:00:00,1,1\n"
                    "401,2100-01-02 00:00:00,1,1\n"},
    {"crrt_durations", "ICUSTAY_ID,num,starttime,endtime\n"
                       "101,1,2100-01-03 08:00:00,2100-01-03 09:00:00\n"},
    {"pivoted_lab", "ICUSTAY_ID,CHARTTIME,BUN,CREATININE,POTASSIUM\n"
                    "101,2100-01-01 10:00:00,40,2.5,5.1\n"
                    "101,2100-01-02 00:00:00,41,,\n"
                    "101,2100-01-02 23:59:59,50,9,5.5\n"
                    "101,2100-01-03 00:00:00,99,9,9.9\n"
                    "101,2100-01-03 00:00:01,60,9,\n"
                    "101,2100-01-04 00:00:00,98,9,9.8\n"
                    ",2100-01-01 10:00:00,1,1,1\n"},
    {"pivoted_bg", "ICUSTAY_ID,CHARTTIME,ph\n"
                   "101,2100-01-02 12:00:00,7.21\n"
                   "101,2100-01-02 06:00:00,7.11\n"},
    {"weight_durations", "ICUSTAY_ID,starttime,endtime,weight\n"
                         "101,2100-01-01 00:00:00,2100-01-02 00:00:00,80\n"
                         "101,2100-01-01 12:00:00,2100-01-03 00:00:00,501\n"
                         "101,2100-01-02 12:00:00,2100-01-03 00:00:00,70\n"
                         "702,2100-01-03 12:00:00,2100-01-04 00:00:00,66\n"
                         "702,2100-01-04 12:00:00,2100-01-05 00:00:00,65\n"},
    {"pivoted_sofa", "ICUSTAY_ID,hr,starttime,endtime,sofa_24hours\n"
                     "101,1,2100-01-01 22:00:00,2100-01-01 23:00:00,8\n"
                     "101,2,2100-01-01 23:00:00,2100-01-02 00:00:00,9\n"
                     "101,3,2100-01-02 00:00:00,2100-01-02 01:00:00,10\n"},
};

enum { TABLES = sizeof tables / sizeof *tables };


// writes the tables, one of them changed or (text NULL) left out
static void write_tables(const char *folder, const char *changed, const char *text) {
  for (int i = 0; i < TABLES; i++) {
    char path[512];
    const bool other = changed != NULL && strcmp(changed, tables[i].name) == 0;
    snprintf(path, sizeof path, "%s/%s.csv", folder, tables[i].name);
    unlink(path);
    if (!other || text != NULL) {
      FILE *file = fopen(path, "w");
      cr_assert_not_null(file);
      fputs(other ? text : tables[i].text, file);
      fclose(file);
    }
  }
}


// runs the import; the table and what was told, to be freed
static rgm_status import(const char *folder, const char *set, bool json, char **table,
                         char **told) {
  char path[128];
  size_t size;
  *told = *table = NULL;
  snprintf(path, sizeof path, "/tmp/rgm_rrt_%d.csv", (int)getpid());
  FILE *result = open_memstream(told, &size);
  const rgm_options options = {.path = "mimic3-rrt",
                               .dir = folder,
                               .out = path,
                               .set = &set,
                               .set_count = set != NULL ? 1 : 0,
                               .json = json,
                               .result = result};
  const rgm_status status = rgm_import(&options);
  fclose(result);
  FILE *file = fopen(path, "r");
  if (status == RGM_OK) {
    struct stat info;
    cr_assert_eq(stat(path, &info), 0);
    cr_assert_eq(info.st_mode & 0777, 0600);
    *table = calloc(1, 1 << 16);
    cr_assert_gt(fread(*table, 1, (1 << 16) - 1, file), 0);
  }
  if (file != NULL) {
    fclose(file);
  }
  unlink(path);
  return status;
}


Test(import_rrt, invented_tables) {
  static const char head[] = "patient,age,male,weight,sofa,eth,creat_k1,bun_k1,pot_k1,ph_k1,uo_k1,"
                             "bun_k2,pot_k2,ph_k2,uo_k2,bun_k3,pot_k3,ph_k3,uo_k3,a1,a2,a3,"
                             "dead_k2,dead_k3,hmor,hfd\n";
  // of 60 days from January 2 the first patient is at home from the 21st: 41 less 2.5; the second
  // of patient 7's stays lies beyond them, that one is out from the 11th: 51 less 2
  static const char first[] = "0,90,1,100,9,\"white\",2.5,41,5.1,,0,50,5.5,7.21,,60,,,-0.1,0,1,1,"
                              "0,0,0,38.5\n";
  static const char early[] = "1,60,0,,,\"black\",,,,,0.5,,,,,,,,,0,0,0,0,1,1,0\n";
  char folder[64], *table, *told, want[4096], command[96];
  snprintf(folder, sizeof folder, "/tmp/rgm_rrt_tables_%d", (int)getpid());
  cr_assert_eq(mkdir(folder, 0700), 0);
  write_tables(folder, NULL, NULL);
  cr_assert_eq(import(folder, "deaths=keep", true, &table, &told), RGM_OK, "%s", rgm_last_error());
  snprintf(want, sizeof want, "%s%s%s2,70,1,66,,\"asian\",,,,,,,,,,,,,,0,0,0,0,0,0,49\n", head,
           first, early);
  cr_assert_str_eq(table, want);
  const char *const counts[] = {"\"stays\": 11",    "\"adults\": 10",       "\"stage3\": 8",
                                "\"supported\": 6", "\"no_esrd\": 5",       "\"no_rrt\": 4",
                                "\"first\": 3",     "\"rrt_after\": 1",     "\"early_deaths\": 1",
                                "\"patients\": 3",  "too few to learn from"};
  for (size_t i = 0; i < sizeof counts / sizeof *counts; i++) {
    cr_assert_not_null(strstr(told, counts[i]), "%s in %s", counts[i], told);
  }
  free(table);
  free(told);
  cr_assert_eq(import(folder, NULL, false, &table, &told), RGM_OK);
  cr_assert_null(strstr(table, "black"), "deaths within three days are left out");
  cr_assert_not_null(strstr(told, "too few to learn from"));
  free(table);
  free(told);
  snprintf(command, sizeof command, "rm -r %s", folder);
  cr_assert_eq(system(command), 0);
}


// data/mimic3-demo/README.md: 14 patients, 2 with therapy afterwards, both within 48 h, 4 dead
// within 72 h
Test(import_rrt, the_demo) {
  char path[512], *table, *told;
  need_data("mimic3-demo/derived", path);
  cr_assert_eq(import(path, "deaths=keep", true, &table, &told), RGM_OK, "%s", rgm_last_error());
  const char *const counts[] = {"\"first\": 14", "\"rrt_after\": 2", "\"early_deaths\": 4",
                                "\"patients\": 14"};
  for (size_t i = 0; i < sizeof counts / sizeof *counts; i++) {
    cr_assert_not_null(strstr(told, counts[i]), "%s in %s", counts[i], told);
  }
  free(table);
  free(told);
}


// what is wrong is told with table, row and column, and no value
Test(import_rrt, bad_tables) {
  static const struct {
    const char *table, *text, *message;
  } cases[] = {
      {"pivoted_sofa", NULL, "no table pivoted_sofa.csv or pivoted_sofa.csv.gz"},
      {"pivoted_bg", "ICUSTAY_ID,CHARTTIME,pH_value\n", "pivoted_bg.csv: no column ph"},
      {"kdigo_stages", "ICUSTAY_ID,CHARTTIME,uo_rt_24hr,aki_stage\n101,yesterday,,3\n",
       "kdigo_stages.csv:2: column CHARTTIME: no time like"},
      {"esrd_patients", "SUBJECT_ID\nnone\n", "esrd_patients.csv:2: column SUBJECT_ID: no whole"},
      {"icustay_detail",
       "SUBJECT_ID,HADM_ID,ICUSTAY_ID,GENDER,DOD,ADMITTIME,DISCHTIME,admission_age,"
       "ethnicity_grouped,HOSPITAL_EXPIRE_FLAG\n"
       "1,11,101,M,,2100-01-01 00:00:00,2100-01-21 00:00:00,old,white,0\n",
       "icustay_detail.csv:2: column admission_age: no number"},
      {"icustay_detail",
       "SUBJECT_ID,HADM_ID,ICUSTAY_ID,GENDER,DOD,ADMITTIME,DISCHTIME,admission_age,"
       "ethnicity_grouped,HOSPITAL_EXPIRE_FLAG\n"
       "1,11,101,M,,2100-01-01 00:00:00,2100-01-21 00:00:00,30,white,0\n"
       "1,11,101,M,,2100-01-01 00:00:00,2100-01-21 00:00:00,30,white,0\n",
       "icustay_detail: a stay is there twice"},
  };
  char folder[64], command[96], *table, *told;
  snprintf(folder, sizeof folder, "/tmp/rgm_rrt_bad_%d", (int)getpid());
  cr_assert_eq(mkdir(folder, 0700), 0);
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
    write_tables(folder, cases[i].table, cases[i].text);
    cr_assert_eq(import(folder, NULL, true, &table, &told), RGM_EDATA, "case %d", (int)i);
    cr_assert_not_null(strstr(rgm_last_error(), cases[i].message), "case %d says: %s", (int)i,
                       rgm_last_error());
    free(told);
  }
  cr_assert_eq(import(folder, "deaths=maybe", true, &table, &told), RGM_ECONFIG);
  free(told);
  snprintf(command, sizeof command, "rm -r %s", folder);
  cr_assert_eq(system(command), 0);
}
