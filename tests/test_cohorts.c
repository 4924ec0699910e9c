// SPDX-License-Identifier: Apache-2.0
// Tests of test patients from files (individual estimates, covariates; plain and gzipped), of what
// bad files get for an answer, of the real tables where they are there, and of the program's
// comparison of runs.

#include "engine/engine.h"
#include "envs/eleveld.h"

#include <criterion/criterion.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

TestSuite(cohorts, .timeout = 120);

#define COUNT(array) ((int)(sizeof(array) / sizeof((array)[0])))

enum { KEY = RGM_RANDOM_PATIENT + RGM_RANDOM_EVAL, SEED = 20260101 };

static char folder[64];
static char output[1 << 18]; // of the last call of the program

#define PK_HEAD "ID,V1,V2,V3,CL,Q2,Q3,AGE,WGT,HGT,M1F2,PMA,TECH,BMI,FFM,A1V2\n"
#define PK_7 "7,6.5,20.25,150,1.5,1.25,0.75,40,71,172,2,80,1,24,50,1\n"
#define PK_9 "9,4.5,30,200.5,2.5,0.5,1.75,65,83,181,1,100,2,25,60,2\n"
#define PK_3 "3,2,8,40,0.5,0.75,0.25,6,20,115,1,7,1,15,16,1\n"
#define PD_HEAD "ID,E50,KE0,EMAX,GAM,GAM1,RESD,ALAG1,AGE,WGT,HGT,M1F2,A1V2,PMA,TECH\n"
#define PD_9 "9,3.5,0.25,93,1.5,2,8,0.75,65,83,181,1,2,100,2\n"
#define PD_3 "3,2.5,2,93,1.5,2,8,0.28,6,20,115,1,1,7,1\n"
#define PD_7 "7,2.75,0.125,93,1.25,1.75,8,0.4,40,71,172,2,1,80,1\n"
#define PEOPLE "ID age wgt hgt m1f2 bmi\n1 50 80 180 1 25\n2 0 9 70 2 18\n3 30 60 165 2 22\n"


static void setup(void) {
  snprintf(folder, sizeof folder, "/tmp/rgm_cohorts_%s", "XXXXXX");
  cr_assert_not_null(mkdtemp(folder));
}


static void teardown(void) {
  char command[128];
  snprintf(command, sizeof command, "rm -rf '%s'", folder);
  cr_assert_eq(system(command), 0);
}


static void put(const char *name, const char *text) {
  char path[128];
  snprintf(path, sizeof path, "%s/%s", folder, name);
  FILE *file = fopen(path, "wb");
  cr_assert_not_null(file);
  cr_assert(fputs(text, file) >= 0 && fclose(file) == 0);
}


// the patients of a cohort with the files of the folder (or of `from`) under further overrides
static rgm_status gather(const char *cohort, const char *from, const char *const *more, int count,
                         int64_t wanted, propofol_config *config, rgm_patients *out) {
  static const char text[] = "algorithm:\n  name: pid\nenv:\n  name: propofol\n  model: eleveld\n";
  char sets[4][256];
  const char *all[12];
  snprintf(sets[0], sizeof sets[0], "env.cohort=%s", cohort);
  snprintf(sets[1], sizeof sets[1], "env.pk_path=%s/%s", from != NULL ? from : folder,
           from != NULL ? "propofol-eleveld2018/eleveld_pk.csv" : "pk.csv");
  snprintf(sets[2], sizeof sets[2], "env.pd_path=%s/%s", from != NULL ? from : folder,
           from != NULL ? "propofol-eleveld2018/eleveld_pd.csv" : "pd.csv");
  snprintf(sets[3], sizeof sets[3], "env.covariates_path=%s/%s", from != NULL ? from : folder,
           from != NULL ? "nhanes-covariates/nhanes.txt.gz" : "people.txt");
  for (int i = 0; i < 4; i++) {
    all[i] = sets[i];
  }
  for (int i = 0; i < count; i++) {
    all[4 + i] = more[i];
  }
  rgm_config *parsed;
  rgm_run *run = NULL;
  *out = (rgm_patients){0};
  rgm_status status = rgm_config_parse("test.yaml", text, all, 4 + count, &parsed);
  if (status == RGM_OK) {
    status = rgm_run_plan_only(parsed, &run);
  }
  if (status == RGM_OK) {
    const void *keys = rgm_env_keys(run, 0);
    cr_assert(rgm_envs[0]->prepare(keys, run->config, config) == RGM_OK);
    status = rgm_envs[0]->patients(keys, run->config, config, SEED, wanted, out);
  }
  rgm_run_free(run);
  return status;
}


static void good_files(void) {
  put("pk.csv", PK_HEAD PK_7 PK_3 PK_9);
  put("pd.csv", PD_HEAD PD_9 PD_3 PD_7);
  put("people.txt", PEOPLE);
}


// the words of a patient with these numbers, the i-th of a cohort
static void expect_words(const propofol_config *c, const float *got, int i, const eleveld_person *p,
                         const eleveld_body *b) {
  const uint32_t seed[2] = {SEED, 0};
  const rgm_rng rng = {.key = rgm_stream_key(seed, KEY), .item = (uint32_t)i};
  float want[PROPOFOL_WORDS] = {0};
  eleveld_describe(want, c, b, p);
  eleveld_targets(want, c, rng);
  cr_expect_arr_eq(got + i * PROPOFOL_WORDS, want, sizeof want, "patient %d", i);
}


// ---- files -------------------------------------------------------------------------------------

Test(cohorts, individuals_are_joined_by_id, .init = setup, .fini = teardown) {
  // the adults of the PD table in its order, each with the PK of the same ID; the child is left out
  const eleveld_body nine = {65, 0, 83, 181, 1, 0, 1}, seven = {40, 0, 71, 172, 0, 0, 0};
  const eleveld_person nines = {4.5, 30, 200.5, 2.5, 0.5, 1.75, 0.25, 3.5, 2, 1.5, 45};
  const eleveld_person sevens = {6.5, 20.25, 150, 1.5, 1.25, 0.75, 0.125, 2.75, 1.75, 1.25, 24};
  static const char *const delay[] = {"env.delay=true"};
  propofol_config c;
  rgm_patients got;
  good_files();
  for (int late = 0; late < 2; late++) {
    cr_assert(gather("individuals", NULL, delay, late, 5, &c, &got) == RGM_OK, "%s",
              rgm_last_error());
    cr_assert(got.count == 2 && strlen(got.digest) == 64);
    expect_words(&c, got.words, 0, &nines, &nine);
    expect_words(&c, got.words, 1, &sevens, &seven);
    cr_expect(got.words[ELEVELD_DELAY] == (late ? 9.0f : 0.0f), "0.75 min are nine steps");
    cr_expect(got.words[ELEVELD_LOW] == 2.0f && got.words[ELEVELD_HIGH] == 1.5f);
    free(got.words);
  }

  // PK alone: every adult in the order of the file, with the PD typical of age, weight and vessel
  cr_assert(gather("individual_pk", NULL, NULL, 0, 5, &c, &got) == RGM_OK, "%s", rgm_last_error());
  cr_assert(got.count == 2);
  const double e50[] = {exp(1.12475 - 0.00634837 * 5), exp(1.12475 - 0.00634837 * 30)};
  for (int i = 0; i < 2; i++) {
    cr_expect(fabs(exp(got.words[i * PROPOFOL_WORDS + ELEVELD_LOG_E50]) / e50[i] - 1) <= 1e-6);
  }
  free(got.words);
}


Test(cohorts, covariates_by_spaces_and_gzip, .init = setup, .fini = teardown) {
  propofol_config c;
  rgm_patients plain, zipped, fewer;
  char command[256];
  good_files();
  cr_assert(gather("nhanes", NULL, NULL, 0, 40, &c, &plain) == RGM_OK, "%s", rgm_last_error());
  int men = 0;
  for (int i = 0; i < 40; i++) {
    const float *w = plain.words + i * PROPOFOL_WORDS;
    const bool first = w[ELEVELD_AGE] == 50.0f && w[ELEVELD_WEIGHT] == 80.0f &&
                       w[ELEVELD_HEIGHT] == 180.0f && w[ELEVELD_SEX] == 1.0f;
    const bool third = w[ELEVELD_AGE] == 30.0f && w[ELEVELD_WEIGHT] == 60.0f &&
                       w[ELEVELD_HEIGHT] == 165.0f && w[ELEVELD_SEX] == 0.0f;
    cr_expect(first || third, "patient %d is no adult of the file", i);
    men += first;
  }
  cr_expect(men > 8 && men < 32, "%d of 40 drawn evenly", men);

  // the same people from the gzipped file; a patient does not depend on how many there are
  snprintf(command, sizeof command,
           "gzip -n '%s/people.txt' && mv '%s/people.txt.gz' '%s'/people.txt", folder, folder,
           folder);
  cr_assert_eq(system(command), 0);
  cr_assert(gather("nhanes", NULL, NULL, 0, 40, &c, &zipped) == RGM_OK, "%s", rgm_last_error());
  cr_assert(gather("nhanes", NULL, NULL, 0, 7, &c, &fewer) == RGM_OK, "%s", rgm_last_error());
  cr_expect_arr_eq(zipped.words, plain.words, 40 * PROPOFOL_WORDS * sizeof(float));
  cr_expect_arr_eq(fewer.words, plain.words, 7 * PROPOFOL_WORDS * sizeof(float));
  cr_expect(strcmp(zipped.digest, plain.digest) != 0 && fewer.count == 7);
  free(plain.words);
  free(zipped.words);
  free(fewer.words);

  // cut off, and changed in the middle
  snprintf(command, sizeof command, "cd '%s' && cp people.txt all && head -c 60 all > people.txt",
           folder);
  cr_assert_eq(system(command), 0);
  cr_expect(gather("nhanes", NULL, NULL, 0, 4, &c, &plain) == RGM_EDATA);
  cr_expect_not_null(strstr(rgm_last_error(), "damaged or cut off"), "%s", rgm_last_error());
  snprintf(command, sizeof command,
           "cd '%s' && cp all people.txt && printf zzz | dd of=people.txt bs=1 seek=40 conv=notrunc"
           " 2>/dev/null",
           folder);
  cr_assert_eq(system(command), 0);
  cr_expect(gather("nhanes", NULL, NULL, 0, 4, &c, &plain) == RGM_EDATA);
}


Test(cohorts, bad_files_name_the_place, .init = setup, .fini = teardown) {
  // one file that is not what it should be: cohort, file, text, and what the message must have; no
  // message may hold a patient's value (4242)
  static const struct {
    const char *cohort, *file, *text, *want[2];
  } rows[] = {
      {"individuals", "pk.csv", "ID,V1\n1,2\n", {"pk.csv:1", "no column AGE"}},
      {"individuals", "pd.csv", "ID,AGE,E50\n1,40,3\n", {"pd.csv:1", "no column KE0"}},
      {"individuals",
       "pk.csv",
       PK_HEAD "7,4242x,20,150,1,1,1,40,71,172,2,80,1,24,50,1\n",
       {"pk.csv:2", "column V1: not a number"}},
      {"individuals",
       "pk.csv",
       PK_HEAD PK_9 "7,6,-4242,150,1,1,1,40,71,172,2,80,1,24,50,1\n",
       {"pk.csv:3", "column V2 must be positive"}},
      {"individuals",
       "pk.csv",
       PK_HEAD "7,6,0,150,1,1,1,40,71,172,2,80,1,24,50,1\n",
       {"pk.csv:2", "column V2 must be positive"}},
      {"individuals",
       "pk.csv",
       PK_HEAD "7,6,20,150,1,1,NA,40,71,172,2,80,1,24,50,1\n",
       {"pk.csv:2", "column Q3 is empty"}},
      {"individuals",
       "pk.csv",
       PK_HEAD "7,6,20,150,1,1,1,40,71,172,3,80,1,24,50,1\n",
       {"pk.csv:2", "column M1F2 must be 1 (man) or 2 (woman)"}},
      {"individuals",
       "pk.csv",
       PK_HEAD "7,6,20,150,1,1,1,40,71,172,1,80,1,24,50,0.5\n",
       {"pk.csv:2", "column A1V2 must be 1"}},
      {"individuals",
       "pk.csv",
       PK_HEAD "7,6,20,150,1,1,1,101,71,172,1,80,1,24,50,1\n",
       {"pk.csv:2", "column AGE is above 100 years"}},
      {"individuals", "pk.csv", PK_HEAD PK_7 PK_9 PK_7, {"pk.csv:4", "column ID repeats"}},
      {"individuals",
       "pd.csv",
       PD_HEAD PD_9 "4242,3,0.2,93,1.5,2,8,0.3,40,71,172,2,1,80,1\n",
       {"pd.csv:3", "column ID: nobody in"}},
      {"individuals",
       "pd.csv",
       PD_HEAD "9,3,0.2,93,1.5,2,8,0.3,66,83,181,1,2,100,2\n",
       {"pd.csv:2", "column AGE is not that of"}},
      {"individuals",
       "pd.csv",
       PD_HEAD "9,3,0.2,93,1.5,2,8,4242,65,83,181,1,2,100,2\n",
       {"pd.csv:2", "column ALAG1 is longer"}},
      {"individuals",
       "pd.csv",
       PD_HEAD "9,inf,0.2,93,1.5,2,8,1,65,83,181,1,2,100,2\n",
       {"pd.csv:2", "column E50 is empty or not finite"}},
      {"individuals", "pd.csv", PD_HEAD PD_3, {"18 years", "nobody"}},
      {"individual_pk", "pk.csv", PK_HEAD PK_3, {"pk.csv", "nobody"}},
      {"individual_pk", "pk.csv", PK_HEAD, {"pk.csv", "no rows"}},
      {"nhanes", "people.txt", "ID age wgt hgt\n1 40 70 170\n", {"people.txt:1", "M1F2"}},
      {"nhanes",
       "people.txt",
       "age wgt hgt m1f2\n40 70 170 1\n40 -4242 170 1\n",
       {"people.txt:3", "column WGT must be positive"}},
      {"nhanes",
       "people.txt",
       "age wgt hgt m1f2\n-4242 70 170 1\n",
       {"people.txt:2", "column AGE is negative"}},
      {"nhanes",
       "people.txt",
       "age wgt hgt m1f2\n40 70 170 1\n40 70  1\n",
       {"people.txt:3", "column HGT is empty"}},
      {"nhanes", "people.txt", "age wgt hgt m1f2\n40 70 170\n", {"people.txt:2", "3 fields"}},
      {"nhanes", "people.txt", "age wgt hgt m1f2\n4 17 100 1\n", {"people.txt", "nobody"}},
  };
  for (int i = 0; i < COUNT(rows); i++) {
    propofol_config c;
    rgm_patients got;
    good_files();
    put(rows[i].file, rows[i].text);
    const rgm_status status = gather(rows[i].cohort, NULL, NULL, 0, 5, &c, &got);
    const char *said = rgm_last_error();
    cr_expect(status == RGM_EDATA && got.words == NULL, "row %d was taken", i);
    for (int k = 0; k < 2; k++) {
      cr_expect_not_null(strstr(said, rows[i].want[k]), "row %d: %s", i, said);
    }
    cr_expect(strstr(said, "4242") == NULL, "row %d tells a value: %s", i, said);
  }
}


Test(cohorts, keys_that_do_not_fit, .init = setup, .fini = teardown) {
  static const struct {
    const char *set, *want;
    rgm_status status;
  } rows[] = {
      {"env.model=schnider", "env.model: eleveld", RGM_ECONFIG},
      {"env.pk_path=\"\"", "env.pk_path", RGM_ECONFIG},
      {"env.pd_path=\"\"", "env.pd_path", RGM_ECONFIG},
      {"env.pd_path=none.csv", "none.csv", RGM_EIO},
      {"env.cohort=nhane", "nhanes", RGM_ECONFIG},
  };
  good_files();
  for (int i = 0; i < COUNT(rows); i++) {
    propofol_config c;
    rgm_patients got;
    cr_expect(gather("individuals", NULL, &rows[i].set, 1, 5, &c, &got) == rows[i].status, "%s",
              rows[i].set);
    cr_expect_not_null(strstr(rgm_last_error(), rows[i].want), "%s: %s", rows[i].set,
                       rgm_last_error());
  }
}


// ---- the real tables ---------------------------------------------------------------------------

static const char *data_root(void) {
  const char *root = getenv("REGIMEN_DATA");
  char path[512];
  root = root != NULL ? root : "../shared/data";
  snprintf(path, sizeof path, "%s/propofol-eleveld2018/eleveld_pk.csv", root);
  if (access(path, R_OK) != 0) {
    cr_skip("no data: %s; set REGIMEN_DATA", path);
  }
  return root;
}


static double cell(const rgm_table *t, int64_t row, const char *name) {
  const int column = rgm_table_column(t, name);
  cr_assert(column >= 0, "no column %s", name);
  return t->value[row * t->columns + column];
}


// median and standard deviation of n numbers, which are reordered
static void expect_spread(double *x, int64_t n, const char *name, double printed) {
  const rgm_summary s = rgm_summarise(x, n);
  const double error = s.sd / sqrt((double)n);
  cr_expect(fabs(s.median) <= 0.06 + 2 * error, "%s: median of log(own / typical) %g", name,
            s.median);
  // estimates shrink towards the typical person: less spread than sqrt(variance), whichever way the
  // published figure is read; E50 alone exceeds its figure read as an sd, by one standard error
  cr_expect(s.sd <= 0.75 * sqrt(printed), "%s: sd %g against %g", name, s.sd, sqrt(printed));
  cr_expect(s.sd <= 1.15 * printed && s.sd >= 0.4 * printed, "%s: sd %g, figure %g", name, s.sd,
            printed);
}


Test(cohorts, estimates_agree_with_the_population_model) {
  // log(own / typical) of the 834 adults: centred on zero with opiates (TECH 2), vessel (A1V2) and
  // the person's own V2 and V3 in Q2 and Q3; fat-free mass, delay and exponents as tabulated there
  static const char *const names[] = {"V1", "V2", "V3", "CL", "Q2", "Q3", "KE0", "E50"};
  static const double printed[] = {0.610, 0.565, 0.597, 0.265, 0.346, 0.209, 0.702, 0.242};
  static double eta[ELEVELD_ETAS][1100];
  const char *root = data_root();
  char path[512];
  rgm_table pk, pd;
  snprintf(path, sizeof path, "%s/propofol-eleveld2018/eleveld_pk.csv", root);
  cr_assert(rgm_table_read_csv(path, &pk) == RGM_OK && pk.rows == 1033);
  int64_t n = 0, m = 0;
  for (int64_t i = 0; i < pk.rows; i++) {
    double none[ELEVELD_ETAS] = {0};
    const eleveld_body b = {cell(&pk, i, "AGE"),         eleveld_pma(cell(&pk, i, "AGE")),
                            cell(&pk, i, "WGT"),         cell(&pk, i, "HGT"),
                            cell(&pk, i, "M1F2") == 1.0, cell(&pk, i, "TECH") == 2.0,
                            cell(&pk, i, "A1V2") == 2.0};
    const double lean = eleveld_fat_free(b.age, b.weight, b.height, b.male);
    cr_expect(fabs(lean / cell(&pk, i, "FFM") - 1) <= 6e-5, "fat-free mass, row %d", (int)i);
    if (b.age < 18) {
      continue;
    }
    const eleveld_person p = eleveld_of(&b, none);
    const double typical[] = {p.v1, p.v2, p.v3, p.cl};
    for (int k = 0; k < 4; k++) {
      none[k] = eta[k][n] = log(cell(&pk, i, names[k]) / typical[k]);
    }
    const eleveld_person own = eleveld_of(&b, none);
    eta[4][n] = log(cell(&pk, i, "Q2") / own.q2);
    eta[5][n++] = log(cell(&pk, i, "Q3") / own.q3);
  }
  snprintf(path, sizeof path, "%s/propofol-eleveld2018/eleveld_pd.csv", root);
  cr_assert(rgm_table_read_csv(path, &pd) == RGM_OK && pd.rows == 122);
  for (int64_t i = 0; i < pd.rows; i++) {
    const double none[ELEVELD_ETAS] = {0};
    const eleveld_body b = {.age = cell(&pd, i, "AGE"),
                            .pma = 52 * 40,
                            .height = 170,
                            .weight = cell(&pd, i, "WGT"),
                            .venous = cell(&pd, i, "A1V2") == 2.0};
    const eleveld_person p = eleveld_of(&b, none);
    cr_expect(fabs(60 * cell(&pd, i, "ALAG1") - p.delay) <= 0.01, "delay, row %d", (int)i);
    cr_expect(fabs(cell(&pd, i, "GAM") - p.gamma_high) <= 6e-5 &&
              fabs(cell(&pd, i, "GAM1") - p.gamma_low) <= 6e-5);
    if (b.age >= 18) {
      eta[6][m] = log(cell(&pd, i, "KE0") / p.ke0);
      eta[7][m++] = log(cell(&pd, i, "E50") / p.e50);
    }
  }
  cr_expect(n == 834 && m == 94, "%d and %d adults", (int)n, (int)m);
  for (int k = 0; k < ELEVELD_ETAS; k++) {
    expect_spread(eta[k], k < 6 ? n : m, names[k], printed[k]);
  }
  rgm_table_free(&pk);
  rgm_table_free(&pd);
}


Test(cohorts, real_files) {
  static const struct {
    const char *cohort;
    int64_t wanted, count;
  } rows[] = {{"individuals", 7, 94}, {"individual_pk", 7, 834}, {"nhanes", 3000, 3000}};
  const char *root = data_root();
  for (int i = 0; i < COUNT(rows); i++) {
    propofol_config c;
    rgm_patients got;
    cr_assert(gather(rows[i].cohort, root, NULL, 0, rows[i].wanted, &c, &got) == RGM_OK, "%s",
              rgm_last_error());
    cr_expect(got.count == rows[i].count, "%s: %d", rows[i].cohort, (int)got.count);
    for (int64_t k = 0; k < got.count * PROPOFOL_WORDS; k++) {
      cr_expect(isfinite(got.words[k]), "%s: word %d", rows[i].cohort, (int)k);
    }
    for (int64_t k = 0; k < got.count; k++) {
      cr_expect(got.words[k * PROPOFOL_WORDS + ELEVELD_AGE] >= 18.0f);
    }
    free(got.words);
  }
}


// ---- the program -------------------------------------------------------------------------------

static int regimen(const char *format, ...) {
  char command[2048];
  const size_t begin = (size_t)snprintf(command, sizeof command, "%s ", RGM_PROGRAM);
  va_list list;
  va_start(list, format);
  vsnprintf(command + begin, sizeof command - begin, format, list);
  va_end(list);
  strncat(command, " 2>&1", sizeof command - strlen(command) - 1);
  FILE *pipe = popen(command, "r");
  cr_assert_not_null(pipe);
  output[fread(output, 1, sizeof output - 1, pipe)] = '\0';
  const int status = pclose(pipe);
  return WIFEXITED(status) ? WEXITSTATUS(status) : 128;
}


// the first number of that name after `from` in what was printed
static double figure(const char *from, const char *name) {
  const char *at = strstr(output, from);
  at = at != NULL ? strstr(at, name) : NULL;
  cr_assert_not_null(at, "%s, %s: %s", from, name, output);
  return strtod(at + strlen(name), NULL);
}


Test(cohorts, compare_runs, .init = setup, .fini = teardown) {
  static const char small[] = "--quiet --set run.steps=2 --set env.steps=120 --set run.threads=1";
  good_files();
  cr_assert_eq(regimen("train configs/propofol_cem.yaml %s --set run.replicas=2 --out %s/cem",
                       small, folder),
               0, "%s", output);
  cr_assert_eq(regimen("train configs/propofol_pid_tuned.yaml %s --out %s/tuned "
                       "--set algorithm.candidates=4 --set algorithm.patients=3",
                       small, folder),
               0, "%s", output);
  char sets[1024];
  snprintf(sets, sizeof sets,
           "configs/propofol_eleveld_test.yaml --quiet --set eval.patients=30 --set run.threads=1 "
           "--set env.pk_path=%s/pk.csv --set env.pd_path=%s/pd.csv "
           "--set env.covariates_path=%s/people.txt",
           folder, folder, folder);

  // the run's own test is the scenario schnider, figure by figure
  cr_assert_eq(regimen("eval %s/cem --json --quiet --set eval.patients=30", folder), 0);
  const double mape = figure("\"cem_stochastic\"", "\"mape_median\": ");
  const double worst = figure("\"pid_zn\": {", "\"mape_max\": ");
  cr_assert_eq(regimen("eval %s --json --set algorithm.runs=%s/cem,%s/tuned "
                       "--set algorithm.scenarios=schnider,individuals,nhanes_delay",
                       sets, folder, folder),
               0, "%s", output);
  cr_expect(figure("\"cem_stochastic\"", "\"mape_median\": ") == mape);
  cr_expect(figure("\"pid_zn\": {", "\"mape_max\": ") == worst);
  cr_expect(figure("\"individuals\"", "\"n\": ") == 2 &&
            figure("\"nhanes_delay\"", "\"n\": ") == 30);
  cr_expect(isfinite(figure("\"nhanes_delay\"", "\"mape_p95\": ")));
  cr_expect(figure("\"individuals\"", "\"mape_max\": ") > 0);

  // as text; two runs of one algorithm are told apart
  cr_assert_eq(regimen("eval %s --set algorithm.runs=%s/cem,%s/cem "
                       "--set algorithm.scenarios=individuals",
                       sets, folder, folder),
               0, "%s", output);
  cr_expect_not_null(strstr(output, "cem_continuous@"), "%s", output);
  cr_expect_not_null(strstr(output, "individuals: 2 patients"), "%s", output);

  // mistakes
  static const struct {
    const char *set, *want;
    int code;
  } rows[] = {
      {"algorithm.runs=none", "train it first", 74},
      {"algorithm.runs=configs/propofol_cem.yaml", "not a trained run", 64},
      {"algorithm.runs=,", "algorithm.runs", 64},
      {"algorithm.scenarios=individual", "did you mean individuals?", 64},
  };
  for (int i = 0; i < COUNT(rows); i++) {
    cr_expect_eq(regimen("eval %s --set %s", sets, rows[i].set), rows[i].code, "%s: %s",
                 rows[i].set, output);
    cr_expect_not_null(strstr(output, rows[i].want), "%s: %s", rows[i].set, output);
  }
}


Test(cohorts, long_tables_come_in_chunks, .init = setup, .fini = teardown) {
  // 515 adults, of whom the last one clears the drug faster than the pump gives it: patients beyond
  // the first 512 are those of the table too
  char path[128];
  snprintf(path, sizeof path, "%s/pk.csv", folder);
  FILE *file = fopen(path, "w");
  cr_assert_not_null(file);
  fputs(PK_HEAD, file);
  for (int i = 1; i <= 515; i++) {
    fprintf(file, "%d,6.5,20.25,150,%s,1.25,0.75,40,71,172,2,80,1,24,50,1\n", i,
            i == 515 ? "900" : "1.5");
  }
  cr_assert_eq(fclose(file), 0);
  cr_assert_eq(regimen("train configs/propofol_pid_tuned.yaml --quiet --set run.steps=1 "
                       "--set env.steps=400 --set algorithm.candidates=4 "
                       "--set algorithm.patients=2 --out %s/tuned",
                       folder),
               0, "%s", output);
  cr_assert_eq(regimen("eval configs/propofol_eleveld_test.yaml --json --quiet "
                       "--set algorithm.runs=%s/tuned --set env.pk_path=%s/pk.csv "
                       "--set algorithm.scenarios=individual_pk",
                       folder, folder),
               0, "%s", output);
  cr_expect(figure("\"individual_pk\"", "\"n\": ") == 515);
  cr_expect(figure("\"individual_pk\"", "\"unreachable\": ") == 1, "%s", output);
}
