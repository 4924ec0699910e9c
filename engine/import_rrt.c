// SPDX-License-Identifier: Apache-2.0
// `regimen import mimic3-rrt`: the cohort of Grolleau et al. 2024 (J Am Med Inform Assoc 31:1074)
// from the tables that mimic-code derives from MIMIC-III (icustay_detail, kdigo_stages, ...), as a
// table for dwols: a row for each patient, with what was known 0, 24 and 48 hours after the first
// stage 3 of acute kidney injury, whether renal replacement therapy had begun 24, 48 and 72 hours
// after it, and days out of hospital within 60. And a flow chart.

#include "engine/csv.h"
#include "engine/engine.h"
#include "engine/import_rrt.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { STAGES = 3, DAY = 86400, LEAST_STARTS = 10, MOST_FIELDS = 12 };
enum { CREAT, BUN, POTASSIUM, PH, URINE, VARIABLES };
static const char *const variable_names[] = {"creat", "bun", "pot", "ph", "uo"};

// The last value of a variable in a stage's window.
typedef struct latest {
  int64_t time;
  double value; // NaN: none
} latest;

// A stay in intensive care. Times in seconds; INT64_MAX: never.
typedef struct stay {
  int64_t id, patient, admission;
  double age;
  bool male, died_here, organ_support, esrd, rrt_before, kept;
  char ethnicity[24];
  int64_t admitted, left, death, stage3, rrt;
  latest last[VARIABLES][STAGES], weight, sofa;
} stay;

typedef struct cohort {
  const char *folder;
  stay *stay;
  int64_t count, room;
  rrt_flow flow;
} cohort;


// ---- tables ------------------------------------------------------------------------------------

// What is done with a record: its fields in the order of the columns.
typedef rgm_status (*take_row)(cohort *c, const rgm_csv *csv, rgm_csv_field *f);


// reads NAME.csv or NAME.csv.gz of the folder
static rgm_status read_table(cohort *c, const char *name, const char *const *columns,
                             take_row take) {
  char path[4096];
  int at[MOST_FIELDS], count = 0;
  rgm_csv *csv = NULL;
  snprintf(path, sizeof path, "%s/%s.csv.gz", c->folder, name);
  if (access(path, R_OK) != 0) {
    snprintf(path, sizeof path, "%s/%s.csv", c->folder, name);
  }
  if (access(path, R_OK) != 0) {
    return rgm_fail(RGM_EDATA,
                    "%s: no table %s.csv or %s.csv.gz; export the concepts of mimic-code there",
                    c->folder, name, name);
  }
  rgm_status status = rgm_csv_open(path, false, &csv);
  for (; status == RGM_OK && columns[count] != NULL; count++) {
    status = rgm_csv_need(csv, columns[count], &at[count]);
  }
  while (status == RGM_OK) {
    rgm_csv_field *fields, wanted[MOST_FIELDS];
    status = rgm_csv_next(csv, &fields);
    if (status != RGM_OK || fields == NULL) {
      break;
    }
    for (int i = 0; i < count; i++) {
      wanted[i] = fields[at[i]];
    }
    status = take(c, csv, wanted);
  }
  rgm_csv_close(csv);
  return status;
}


// a field that must be what it is said to be; the value itself is never told
static rgm_status bad(const rgm_csv *csv, const char *column, const char *what) {
  return rgm_fail(RGM_EDATA, "%s:%lld: column %s: no %s", rgm_csv_path(csv),
                  (long long)rgm_csv_row(csv), column, what);
}


static rgm_status need_id(const rgm_csv *csv, const char *column, rgm_csv_field f, int64_t *id) {
  return rgm_csv_id(f, id) == RGM_CSV_NUMBER ? RGM_OK : bad(csv, column, "whole number");
}


static rgm_status need_time(const rgm_csv *csv, const char *column, rgm_csv_field f,
                            int64_t *time) {
  return rgm_csv_time(f, time) == RGM_CSV_NUMBER ? RGM_OK
                                                 : bad(csv, column, "time like 2101-10-20 19:08");
}


static int by_id(const void *a, const void *b) {
  const stay *x = a, *y = b;
  return (x->id > y->id) - (x->id < y->id);
}


// the stay of a record, NULL where it is not one of ours
static stay *find_stay(const cohort *c, rgm_csv_field f) {
  stay key = {.id = 0};
  return rgm_csv_id(f, &key.id) == RGM_CSV_NUMBER
             ? bsearch(&key, c->stay, (size_t)c->count, sizeof *c->stay, by_id)
             : NULL;
}


// ---- who is there ------------------------------------------------------------------------------

static const char *const detail_columns[] = {"ICUSTAY_ID",
                                             "SUBJECT_ID",
                                             "HADM_ID",
                                             "GENDER",
                                             "DOD",
                                             "ADMITTIME",
                                             "DISCHTIME",
                                             "admission_age",
                                             "ethnicity_grouped",
                                             "HOSPITAL_EXPIRE_FLAG",
                                             NULL};


static rgm_status take_detail(cohort *c, const rgm_csv *csv, rgm_csv_field *f) {
  double died = 0.0;
  if (c->count == c->room) {
    const int64_t room = c->room > 0 ? 2 * c->room : 1024;
    stay *more = realloc(c->stay, (size_t)room * sizeof *more);
    if (more == NULL) {
      return rgm_fail(RGM_EMEMORY, "no memory for %lld stays", (long long)room);
    }
    c->stay = more;
    c->room = room;
  }
  stay *s = &c->stay[c->count++];
  *s = (stay){.death = INT64_MAX, .stage3 = INT64_MAX, .rrt = INT64_MAX, .age = NAN};
  s->weight = s->sofa = (latest){INT64_MIN, NAN};
  for (int i = 0; i < VARIABLES * STAGES; i++) {
    s->last[i / STAGES][i % STAGES] = (latest){INT64_MIN, NAN};
  }
  RGM_TRY(need_id(csv, "ICUSTAY_ID", f[0], &s->id));
  RGM_TRY(need_id(csv, "SUBJECT_ID", f[1], &s->patient));
  RGM_TRY(need_id(csv, "HADM_ID", f[2], &s->admission));
  s->male = f[3].text[0] == 'M';
  if (f[4].size > 0) {
    RGM_TRY(need_time(csv, "DOD", f[4], &s->death));
  }
  RGM_TRY(need_time(csv, "ADMITTIME", f[5], &s->admitted));
  RGM_TRY(need_time(csv, "DISCHTIME", f[6], &s->left));
  if (rgm_csv_number(f[7], &s->age) != RGM_CSV_NUMBER) {
    return bad(csv, "admission_age", "number");
  }
  if (rgm_csv_number(f[9], &died) == RGM_CSV_TEXT) {
    return bad(csv, "HOSPITAL_EXPIRE_FLAG", "number");
  }
  s->died_here = died != 0.0;
  snprintf(s->ethnicity, sizeof s->ethnicity, "%.23s", f[8].text);
  return RGM_OK;
}


static const char *const kdigo_columns[] = {"ICUSTAY_ID", "CHARTTIME", "aki_stage", NULL};

static rgm_status take_kdigo(cohort *c, const rgm_csv *csv, rgm_csv_field *f) {
  stay *s = find_stay(c, f[0]);
  double grade;
  int64_t time;
  if (s == NULL || rgm_csv_number(f[2], &grade) != RGM_CSV_NUMBER || grade != 3.0) {
    return RGM_OK;
  }
  RGM_TRY(need_time(csv, "CHARTTIME", f[1], &time));
  s->stage3 = time < s->stage3 ? time : s->stage3;
  return RGM_OK;
}


static const char *const begin_columns[] = {"ICUSTAY_ID", "starttime", NULL};

static rgm_status take_support(cohort *c, const rgm_csv *csv, rgm_csv_field *f) {
  stay *s = find_stay(c, f[0]);
  int64_t time;
  if (s != NULL) {
    RGM_TRY(need_time(csv, "starttime", f[1], &time));
    s->organ_support = s->organ_support || time < s->stage3;
  }
  return RGM_OK;
}


static const char *const esrd_columns[] = {"SUBJECT_ID", NULL};

static rgm_status take_esrd(cohort *c, const rgm_csv *csv, rgm_csv_field *f) {
  int64_t patient;
  RGM_TRY(need_id(csv, "SUBJECT_ID", f[0], &patient));
  for (int64_t i = 0; i < c->count; i++) {
    c->stay[i].esrd = c->stay[i].esrd || c->stay[i].patient == patient;
  }
  return RGM_OK;
}


static void begin_rrt(stay *s, int64_t time) {
  if (time <= s->stage3) {
    s->rrt_before = true;
  } else {
    s->rrt = time < s->rrt ? time : s->rrt;
  }
}


static rgm_status take_crrt(cohort *c, const rgm_csv *csv, rgm_csv_field *f) {
  stay *s = find_stay(c, f[0]);
  int64_t time;
  if (s != NULL) {
    RGM_TRY(need_time(csv, "starttime", f[1], &time));
    begin_rrt(s, time);
  }
  return RGM_OK;
}


static const char *const dialysis_columns[] = {"ICUSTAY_ID", "CHARTTIME", "dialysis_active", NULL};

static rgm_status take_dialysis(cohort *c, const rgm_csv *csv, rgm_csv_field *f) {
  stay *s = find_stay(c, f[0]);
  double active;
  int64_t time;
  if (s != NULL && rgm_csv_number(f[2], &active) == RGM_CSV_NUMBER && active == 1.0) {
    RGM_TRY(need_time(csv, "CHARTTIME", f[1], &time));
    begin_rrt(s, time);
  }
  return RGM_OK;
}


// ---- what was measured -------------------------------------------------------------------------

// up to stage 3; within the day after it; within the second
static void put_latest(stay *s, int variable, int64_t time, double value) {
  const int64_t after = time - s->stage3;
  const int k = after <= 0 ? 0 : after < DAY ? 1 : after > DAY && after < 2 * DAY ? 2 : -1;
  latest *l = k >= 0 ? &s->last[variable][k] : NULL;
  if (l != NULL && time >= l->time) {
    *l = (latest){time, value};
  }
}


static rgm_status take_values(cohort *c, const rgm_csv *csv, rgm_csv_field *f, int first,
                              int count) {
  stay *s = find_stay(c, f[0]);
  int64_t time;
  if (s == NULL || !s->kept) {
    return RGM_OK;
  }
  RGM_TRY(need_time(csv, "CHARTTIME", f[1], &time));
  for (int i = 0; i < count; i++) {
    double value;
    if (rgm_csv_number(f[2 + i], &value) == RGM_CSV_NUMBER) {
      put_latest(s, first + i, time, value);
    }
  }
  return RGM_OK;
}


static const char *const lab_columns[] = {"ICUSTAY_ID", "CHARTTIME", "CREATININE",
                                          "BUN",        "POTASSIUM", NULL};
static const char *const gas_columns[] = {"ICUSTAY_ID", "CHARTTIME", "ph", NULL};
static const char *const urine_columns[] = {"ICUSTAY_ID", "CHARTTIME", "uo_rt_24hr", NULL};
static const char *const weight_columns[] = {"ICUSTAY_ID", "starttime", "weight", NULL};
static const char *const sofa_columns[] = {"ICUSTAY_ID", "endtime", "sofa_24hours", NULL};

static rgm_status take_labs(cohort *c, const rgm_csv *csv, rgm_csv_field *f) {
  return take_values(c, csv, f, CREAT, 3);
}

static rgm_status take_gas(cohort *c, const rgm_csv *csv, rgm_csv_field *f) {
  return take_values(c, csv, f, PH, 1);
}

static rgm_status take_urine(cohort *c, const rgm_csv *csv, rgm_csv_field *f) {
  return take_values(c, csv, f, URINE, 1);
}


// the last one up to stage 3; a weight later where there is none before
static rgm_status take_single(const cohort *c, const rgm_csv *csv, rgm_csv_field *f,
                              const char *column, latest *(*of)(stay *), bool later) {
  stay *s = find_stay(c, f[0]);
  double value;
  int64_t time;
  if (s == NULL || !s->kept || rgm_csv_number(f[2], &value) != RGM_CSV_NUMBER) {
    return RGM_OK;
  }
  RGM_TRY(need_time(csv, column, f[1], &time));
  latest *l = of(s);
  if ((time <= s->stage3 && (time >= l->time || l->time > s->stage3)) ||
      (later && isnan(l->value))) {
    *l = (latest){time, value};
  }
  return RGM_OK;
}


static latest *weight_of(stay *s) {
  return &s->weight;
}

static latest *sofa_of(stay *s) {
  return &s->sofa;
}

static rgm_status take_weight(cohort *c, const rgm_csv *csv, rgm_csv_field *f) {
  return take_single(c, csv, f, "starttime", weight_of, true);
}

static rgm_status take_sofa(cohort *c, const rgm_csv *csv, rgm_csv_field *f) {
  return take_single(c, csv, f, "endtime", sofa_of, false);
}


// ---- the cohort --------------------------------------------------------------------------------

// the first eligible stay of every patient
static void choose(cohort *c, bool keep_early_deaths) {
  rrt_flow *w = &c->flow;
  w->stays = c->count;
  for (int64_t i = 0; i < c->count; i++) {
    stay *s = &c->stay[i];
    const bool adult = s->age >= 18.0, ill = adult && s->stage3 < INT64_MAX;
    w->adults += adult;
    w->stage3 += ill;
    w->supported += ill && s->organ_support;
    w->no_esrd += ill && s->organ_support && !s->esrd;
    s->kept = ill && s->organ_support && !s->esrd && !s->rrt_before;
    w->no_rrt += s->kept;
  }
  for (int64_t i = 0; i < c->count; i++) {
    for (int64_t j = 0; j < c->count && c->stay[i].kept; j++) {
      const stay *a = &c->stay[j], *b = &c->stay[i];
      if (a->kept && a->patient == b->patient && a->stage3 < b->stage3) {
        c->stay[i].kept = false;
      }
    }
    w->first += c->stay[i].kept;
  }
  for (int64_t i = 0; i < c->count; i++) {
    stay *s = &c->stay[i];
    const bool early = s->kept && s->death < INT64_MAX && s->death - s->stage3 <= 3 * DAY;
    w->early_deaths += early;
    w->rrt_after += s->kept && s->rrt < INT64_MAX;
    s->kept = s->kept && (keep_early_deaths || !early);
    w->patients += s->kept;
    for (int k = 0; k < STAGES && s->kept; k++) {
      const int64_t hours = s->rrt < INT64_MAX ? s->rrt - s->stage3 : INT64_MAX;
      w->starts[k] += hours >= k * DAY && hours < (k + 1) * DAY;
    }
  }
}


static rgm_status read_cohort(cohort *c, bool keep_early_deaths) {
  RGM_TRY(read_table(c, "icustay_detail", detail_columns, take_detail));
  qsort(c->stay, (size_t)c->count, sizeof *c->stay, by_id);
  for (int64_t i = 1; i < c->count; i++) {
    if (c->stay[i].id == c->stay[i - 1].id) {
      return rgm_fail(RGM_EDATA, "%s: icustay_detail: a stay is there twice", c->folder);
    }
  }
  RGM_TRY(read_table(c, "kdigo_stages", kdigo_columns, take_kdigo));
  RGM_TRY(read_table(c, "ventilation_durations", begin_columns, take_support));
  RGM_TRY(read_table(c, "vasopressor_durations", begin_columns, take_support));
  RGM_TRY(read_table(c, "esrd_patients", esrd_columns, take_esrd));
  RGM_TRY(read_table(c, "pivoted_rrt", dialysis_columns, take_dialysis));
  RGM_TRY(read_table(c, "crrt_durations", begin_columns, take_crrt));
  choose(c, keep_early_deaths);
  RGM_TRY(read_table(c, "pivoted_lab", lab_columns, take_labs));
  RGM_TRY(read_table(c, "pivoted_bg", gas_columns, take_gas));
  RGM_TRY(read_table(c, "kdigo_stages", urine_columns, take_urine));
  RGM_TRY(read_table(c, "weight_durations", weight_columns, take_weight));
  return read_table(c, "pivoted_sofa", sofa_columns, take_sofa);
}


// days out of hospital up to day 60: none for who died in it, less later stays in hospital
static double free_days(const cohort *c, const stay *s) {
  const int64_t end = s->stage3 + 60 * (int64_t)DAY;
  double days = (double)(end - s->left) / DAY;
  if (s->died_here || days < 0.0 || days > 60.0) {
    days = 0.0;
  }
  for (int64_t i = 0; i < c->count && !s->died_here; i++) {
    const stay *o = &c->stay[i];
    bool counted = o->patient != s->patient || o->admission == s->admission ||
                   o->admitted < s->left || o->admitted >= end;
    // an admission may have several stays
    for (int64_t j = 0; j < i && !counted; j++) {
      counted = c->stay[j].admission == o->admission;
    }
    days -= counted ? 0.0 : (double)((o->left < end ? o->left : end) - o->admitted) / DAY;
  }
  return days;
}


// ---- what comes out ----------------------------------------------------------------------------

static void put_number(FILE *out, double x) {
  if (isnan(x)) {
    fputc(',', out);
  } else {
    fprintf(out, ",%.10g", x);
  }
}


static void write_patient(const cohort *c, const stay *s, int64_t number, FILE *out) {
  fprintf(out, "%lld", (long long)number);
  put_number(out, fmin(s->age, 90.0));
  put_number(out, s->male);
  put_number(out, s->weight.value > 500.0 ? 100.0 : s->weight.value);
  put_number(out, s->sofa.value);
  fprintf(out, ",\"%s\"", s->ethnicity);
  for (int k = 0; k < STAGES; k++) {
    for (int v = k > 0 ? BUN : CREAT; v < VARIABLES; v++) {
      const double x = s->last[v][k].value;
      put_number(out, v == URINE && k < 2 && x < 0.0 ? 0.0 : x);
    }
  }
  for (int k = 0; k < STAGES; k++) {
    put_number(out, s->rrt < INT64_MAX && s->rrt - s->stage3 < (k + 1) * DAY);
  }
  for (int k = 1; k < STAGES; k++) {
    put_number(out, s->death < INT64_MAX && s->death - s->stage3 <= k * DAY);
  }
  put_number(out, s->died_here);
  put_number(out, free_days(c, s));
  fputc('\n', out);
}


static rgm_status write_cohort(const cohort *c, const char *path) {
  FILE *out = fopen(path, "w");
  if (out == NULL || fchmod(fileno(out), 0600) != 0) {
    return rgm_fail(RGM_EIO, "%s: %s", path, strerror(errno));
  }
  fprintf(out, "patient,age,male,weight,sofa,eth");
  for (int k = 0; k < STAGES; k++) {
    for (int v = k > 0 ? BUN : CREAT; v < VARIABLES; v++) {
      fprintf(out, ",%s_k%d", variable_names[v], k + 1);
    }
  }
  fprintf(out, ",a1,a2,a3,dead_k2,dead_k3,hmor,hfd\n");
  int64_t number = 0;
  for (int64_t i = 0; i < c->count; i++) {
    if (c->stay[i].kept) {
      write_patient(c, &c->stay[i], number++, out);
    }
  }
  return fclose(out) == 0 ? RGM_OK : rgm_fail(RGM_EIO, "%s: %s", path, strerror(errno));
}


static void tell(const rrt_flow *w, bool keep_early_deaths, const rgm_options *options) {
  const struct {
    const char *key, *text;
    int64_t count;
  } lines[] = {
      {"stays", "stays in intensive care", w->stays},
      {"adults", "of adults", w->adults},
      {"stage3", "with acute kidney injury of stage 3", w->stage3},
      {"supported", "ventilated or on a vasopressor before it", w->supported},
      {"no_esrd", "without end-stage renal disease", w->no_esrd},
      {"no_rrt", "without renal replacement therapy before it", w->no_rrt},
      {"first", "first such stay of a patient", w->first},
      {"rrt_after", "  of them with renal replacement therapy afterwards", w->rrt_after},
      {"early_deaths", "  of them dead within three days, by date of death", w->early_deaths},
      {"patients", "patients", w->patients},
  };
  const bool few =
      w->starts[0] < LEAST_STARTS || w->starts[1] < LEAST_STARTS || w->starts[2] < LEAST_STARTS;
  rgm_json j = {.out = options->json ? options->result : NULL};
  FILE *out = options->json ? NULL : options->result;
  rgm_json_open(&j, NULL, '{');
  for (size_t i = 0; i < sizeof lines / sizeof *lines; i++) {
    rgm_json_number(&j, lines[i].key, (double)lines[i].count);
    if (out != NULL) {
      fprintf(out, "%8lld  %s\n", (long long)lines[i].count, lines[i].text);
    }
  }
  rgm_json_open(&j, "starts", '[');
  for (int k = 0; k < STAGES; k++) {
    rgm_json_number(&j, NULL, (double)w->starts[k]);
  }
  rgm_json_close(&j, ']');
  rgm_json_string(&j, "deaths", keep_early_deaths ? "keep" : "drop");
  rgm_json_string(&j, "warning", few ? "too few to learn from" : "");
  rgm_json_close(&j, '}');
  if (out == NULL) {
    return;
  }
  fprintf(out, "          %s\n",
          keep_early_deaths ? "deaths within three days are kept (deaths=keep)"
                            : "deaths within three days are left out, as published, which looks "
                              "into the future; --set deaths=keep keeps them");
  fprintf(out, "therapy began on day 1, 2, 3: %lld, %lld, %lld\n", (long long)w->starts[0],
          (long long)w->starts[1], (long long)w->starts[2]);
  if (few) {
    fprintf(out, "! too few to learn from: a day with fewer than %d starts has no model\n",
            LEAST_STARTS);
  }
}


rgm_status rgm_import_rrt(const rgm_options *options) {
  bool keep = false;
  for (int i = 0; i < options->set_count; i++) {
    keep = strcmp(options->set[i], "deaths=keep") == 0;
    if (!keep && strcmp(options->set[i], "deaths=drop") != 0) {
      return rgm_fail(RGM_ECONFIG, "--set %s: of this import deaths may be set, to keep or drop",
                      options->set[i]);
    }
  }
  if (options->dir == NULL || options->out == NULL) {
    return rgm_fail(RGM_EUSAGE, "import: %s",
                    options->dir == NULL ? "--dir names the folder with the tables of mimic-code"
                                         : "-o names the table to write, rrt.csv say");
  }
  cohort c = {.folder = options->dir};
  rgm_status status = read_cohort(&c, keep);
  status = status == RGM_OK ? write_cohort(&c, options->out) : status;
  if (status == RGM_OK) {
    tell(&c.flow, keep, options);
  }
  free(c.stay);
  return status;
}
