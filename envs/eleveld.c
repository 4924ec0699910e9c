// SPDX-License-Identifier: Apache-2.0
// Eleveld's patients on the host: test cohorts from files. The individual estimates come as two
// tables joined by ID, PK (ID, V1, V2, V3 [L], CL, Q2, Q3 [L/min], AGE [years], WGT [kg], HGT [cm],
// M1F2, A1V2) and PD (ID, E50 [mg/L], KE0 [1/min], GAM and GAM1 [above and up to E50], ALAG1 [min],
// AGE); covariates as one (AGE, WGT, HGT, M1F2). Adults only. Messages name file, row and column,
// never a value.

#include "envs/propofol_keys.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define ADULT 18.0 // years

// clang-format off
const rgm_scenario eleveld_scenarios[] = {
    {"schnider", "the training distribution: Schnider's model, uniform covariates",
     {"env.model=schnider", "env.cohort=drawn", "env.delay=false"}},
    {"individuals", "individual PK and PD estimates of Eleveld's adults",
     {"env.model=eleveld", "env.cohort=individuals", "env.delay=false"}},
    {"individual_pk", "individual PK estimates of Eleveld's adults, typical PD of their age",
     {"env.model=eleveld", "env.cohort=individual_pk", "env.delay=false"}},
    {"nhanes", "NHANES adults, Eleveld's population model, its published figures as variances",
     {"env.model=eleveld", "env.cohort=nhanes", "env.eta=variance", "env.delay=false"}},
    {"nhanes_sd", "the same, the published figures as standard deviations",
     {"env.model=eleveld", "env.cohort=nhanes", "env.eta=sd", "env.delay=false"}},
    {"individuals_delay", "individuals behind the BIS monitor's delay",
     {"env.model=eleveld", "env.cohort=individuals", "env.delay=true"}},
    {"nhanes_delay", "nhanes behind the BIS monitor's delay",
     {"env.model=eleveld", "env.cohort=nhanes", "env.eta=variance", "env.delay=true"}},
    {"nhanes_sd_delay", "nhanes_sd behind the BIS monitor's delay",
     {"env.model=eleveld", "env.cohort=nhanes", "env.eta=sd", "env.delay=true"}},
    {0},
};
// clang-format on


// ---- tables ------------------------------------------------------------------------------------

enum { COL_ID, COL_AGE, COL_WEIGHT, COL_HEIGHT, COL_SEX, COL_SITE, COL_BODY };
enum { COL_V1 = COL_BODY, COL_V2, COL_V3, COL_CL, COL_Q2, COL_Q3, COLS_PK };
enum { COL_PD_AGE = 1, COL_E50, COL_KE0, COL_HIGH, COL_LOW, COL_LAG, COLS_PD };

static const char *const pk_names[COLS_PK] = {"ID", "AGE", "WGT", "HGT", "M1F2", "A1V2",
                                              "V1", "V2",  "V3",  "CL",  "Q2",   "Q3"};
static const char *const pd_names[COLS_PD] = {"ID", "AGE", "E50", "KE0", "GAM", "GAM1", "ALAG1"};

// A file with the columns that are needed.
typedef struct source {
  const char *path;
  rgm_table table;
  const char *const *names;
  int column[COLS_PK];
} source;


static double at(const source *s, int64_t row, int column) {
  return s->table.value[row * s->table.columns + s->column[column]];
}


// opens the table of a path key and finds columns `first` to `last`
static rgm_status open_source(source *s, const rgm_config *where, const char *key, const char *path,
                              const char *const *names, int first, int last) {
  if (path[0] == '\0') {
    return rgm_fail(RGM_ECONFIG, "%s: %s: env.cohort needs this file; set %s",
                    rgm_config_where(where, key), key, key);
  }
  s->path = path;
  s->names = names;
  RGM_TRY(rgm_table_read_csv(path, &s->table));
  for (int i = first; i < last; i++) {
    s->column[i] = rgm_table_column(&s->table, names[i]);
    if (s->column[i] < 0) {
      return rgm_fail(RGM_EDATA, "%s:1: no column %s (%s)", path, names[i], key);
    }
  }
  return RGM_OK;
}


static rgm_status bad_cell(const source *s, int64_t row, int column, const char *what) {
  return rgm_fail(RGM_EDATA, "%s:%lld: column %s %s", s->path, (long long)row + 2, s->names[column],
                  what);
}


// a row's columns are there and positive (infants have age 0); the sex and the site are 1 or 2
static rgm_status check_row(const source *s, int64_t row, int first, int last) {
  for (int i = first; i < last; i++) {
    const double value = at(s, row, i);
    if (!isfinite(value)) {
      return bad_cell(s, row, i, "is empty or not finite");
    }
    if (value < 0.0 || (value == 0.0 && i != COL_AGE)) {
      return bad_cell(s, row, i, i == COL_AGE ? "is negative" : "must be positive");
    }
    const bool code = s->names == pk_names && (i == COL_SEX || i == COL_SITE);
    if (code && value != 1.0 && value != 2.0) {
      return bad_cell(s, row, i,
                      i == COL_SEX ? "must be 1 (man) or 2 (woman)"
                                   : "must be 1 (artery) or 2 (vein)");
    }
  }
  if (at(s, row, COL_AGE) > ELEVELD_OLDEST) {
    return bad_cell(s, row, COL_AGE, "is above 100 years");
  }
  return RGM_OK;
}


static eleveld_body body_of(const source *s, int64_t row, const propofol_config *c, bool site) {
  eleveld_body b = {
      .age = at(s, row, COL_AGE),
      .weight = at(s, row, COL_WEIGHT),
      .height = at(s, row, COL_HEIGHT),
      .male = at(s, row, COL_SEX) == 1.0,
      .opiates = c->opiates,
      .venous = site ? at(s, row, COL_SITE) == 2.0 : c->venous,
  };
  b.pma = eleveld_pma(b.age);
  return b;
}


// ---- individuals -------------------------------------------------------------------------------

// The rows of a table in the order of their IDs, so that a join takes a search.
typedef struct by_id {
  double id;
  int64_t row;
} by_id;


static int compare_ids(const void *a_, const void *b_) {
  const by_id *a = a_, *b = b_;
  return (a->id > b->id) - (a->id < b->id);
}


static rgm_status index_rows(const source *s, by_id **out) {
  const int64_t n = s->table.rows;
  by_id *index = *out = malloc((size_t)n * sizeof *index);
  if (index == NULL) {
    return rgm_fail(RGM_EMEMORY, "no memory for %lld rows", (long long)n);
  }
  for (int64_t i = 0; i < n; i++) {
    RGM_TRY(check_row(s, i, COL_ID, COLS_PK));
    index[i] = (by_id){at(s, i, COL_ID), i};
  }
  qsort(index, (size_t)n, sizeof *index, compare_ids);
  for (int64_t i = 1; i < n; i++) {
    if (index[i].id == index[i - 1].id) {
      const int64_t a = index[i].row, b = index[i - 1].row;
      return bad_cell(s, a > b ? a : b, COL_ID, "repeats an earlier row's");
    }
  }
  return RGM_OK;
}


static eleveld_person person_of(const source *pk, int64_t row, const eleveld_body *b) {
  const double typical[ELEVELD_ETAS] = {0.0};
  eleveld_person p = eleveld_of(b, typical);
  p.v1 = at(pk, row, COL_V1);
  p.v2 = at(pk, row, COL_V2);
  p.v3 = at(pk, row, COL_V3);
  p.cl = at(pk, row, COL_CL);
  p.q2 = at(pk, row, COL_Q2);
  p.q3 = at(pk, row, COL_Q3);
  return p;
}


// appends a patient, whose number in the cohort draws the targets
static void append(rgm_patients *out, const propofol_config *c, rgm_key key, const eleveld_body *b,
                   const eleveld_person *p) {
  float *words = out->words + out->count * PROPOFOL_WORDS;
  const rgm_rng rng = {.key = key, .item = (uint32_t)out->count};
  memset(words, 0, PROPOFOL_WORDS * sizeof *words);
  eleveld_describe(words, c, b, p);
  eleveld_targets(words, c, rng);
  out->count++;
}


// every adult of the PD table with the PK of the same ID
static rgm_status join(const source *pk, const source *pd, const by_id *index,
                       const propofol_config *c, rgm_key key, rgm_patients *out) {
  for (int64_t row = 0; row < pd->table.rows; row++) {
    RGM_TRY(check_row(pd, row, COL_ID, COLS_PD));
    const by_id wanted = {at(pd, row, COL_ID), 0};
    const by_id *found =
        bsearch(&wanted, index, (size_t)pk->table.rows, sizeof *index, compare_ids);
    if (found == NULL) {
      return rgm_fail(RGM_EDATA, "%s:%lld: column ID: nobody in %s has it", pd->path,
                      (long long)row + 2, pk->path);
    }
    if (at(pd, row, COL_PD_AGE) != at(pk, found->row, COL_AGE)) {
      return rgm_fail(RGM_EDATA,
                      "%s:%lld: column AGE is not that of %s:%lld, which has the same ID", pd->path,
                      (long long)row + 2, pk->path, (long long)found->row + 2);
    }
    if (at(pd, row, COL_PD_AGE) < ADULT) {
      continue;
    }
    const eleveld_body b = body_of(pk, found->row, c, true);
    eleveld_person p = person_of(pk, found->row, &b);
    p.e50 = at(pd, row, COL_E50);
    p.ke0 = at(pd, row, COL_KE0);
    p.gamma_high = at(pd, row, COL_HIGH);
    p.gamma_low = at(pd, row, COL_LOW);
    p.delay = 60.0 * at(pd, row, COL_LAG);
    if (p.delay > 60.0 * PROPOFOL_STEP_MIN * (ELEVELD_LINE_STEPS - 1)) {
      return bad_cell(pd, row, COL_LAG, "is longer than the 195 s that the delay line holds");
    }
    append(out, c, key, &b, &p);
  }
  return RGM_OK;
}


static rgm_status make_room(rgm_patients *out, int64_t patients) {
  out->words = malloc((size_t)patients * PROPOFOL_WORDS * sizeof *out->words);
  return out->words != NULL
             ? RGM_OK
             : rgm_fail(RGM_EMEMORY, "no memory for %lld patients", (long long)patients);
}


static rgm_status individuals(const propofol_keys *k, const rgm_config *where,
                              const propofol_config *c, rgm_key key, source *pk, source *pd,
                              by_id **index, rgm_patients *out) {
  RGM_TRY(open_source(pk, where, "env.pk_path", k->pk_path, pk_names, COL_ID, COLS_PK));
  RGM_TRY(index_rows(pk, index));
  if (k->cohort == PROPOFOL_INDIVIDUALS) {
    RGM_TRY(open_source(pd, where, "env.pd_path", k->pd_path, pd_names, COL_ID, COLS_PD));
    RGM_TRY(make_room(out, pd->table.rows));
    RGM_TRY(join(pk, pd, *index, c, key, out));

    // the digest of both files is that of their digests
    char both[2 * sizeof pk->table.digest];
    snprintf(both, sizeof both, "%s%s", pk->table.digest, pd->table.digest);
    rgm_sha256_hex(both, strlen(both), out->digest);
    return RGM_OK;
  }
  RGM_TRY(make_room(out, pk->table.rows));
  for (int64_t row = 0; row < pk->table.rows; row++) {
    if (at(pk, row, COL_AGE) >= ADULT) {
      const eleveld_body b = body_of(pk, row, c, true);
      const eleveld_person p = person_of(pk, row, &b);
      append(out, c, key, &b, &p);
    }
  }
  memcpy(out->digest, pk->table.digest, sizeof out->digest);
  return RGM_OK;
}


// ---- covariates --------------------------------------------------------------------------------

// `wanted` adults drawn with replacement (draw 0), each with etas of its own
static rgm_status covariates(const propofol_keys *k, const rgm_config *where,
                             const propofol_config *c, rgm_key key, int64_t wanted, source *s,
                             int64_t **adults, rgm_patients *out) {
  RGM_TRY(open_source(s, where, "env.covariates_path", k->covariates_path, pk_names, COL_AGE,
                      COL_SITE));
  const int64_t rows = s->table.rows;
  int64_t count = 0, *rows_of = *adults = malloc((size_t)rows * sizeof **adults);
  if (rows_of == NULL) {
    return rgm_fail(RGM_EMEMORY, "no memory for %lld rows", (long long)rows);
  }
  for (int64_t row = 0; row < rows; row++) {
    RGM_TRY(check_row(s, row, COL_AGE, COL_SITE));
    if (at(s, row, COL_AGE) >= ADULT) {
      rows_of[count++] = row;
    }
  }
  if (count == 0) {
    return rgm_fail(RGM_EDATA, "%s: nobody of 18 years or more", s->path);
  }
  RGM_TRY(make_room(out, wanted));
  for (int64_t i = 0; i < wanted; i++) {
    rgm_rng rng = {.key = key, .item = (uint32_t)i};
    const int64_t pick = (int64_t)rgm_rng_range(&rng, 0.0, (double)count);
    const eleveld_body b = body_of(s, rows_of[pick < count ? pick : count - 1], c, false);
    float *words = out->words + i * PROPOFOL_WORDS;
    memset(words, 0, PROPOFOL_WORDS * sizeof *words);
    eleveld_draw(words, c, &b, rng);
  }
  out->count = wanted;
  memcpy(out->digest, s->table.digest, sizeof out->digest);
  return RGM_OK;
}


// ---- what the environment's row holds ----------------------------------------------------------

rgm_status eleveld_check(const propofol_keys *k, const rgm_config *where) {
  if (k->model != PROPOFOL_ELEVELD && k->cohort != PROPOFOL_DRAWN) {
    return rgm_fail(RGM_ECONFIG, "%s: env.cohort: these patients need env.model: eleveld",
                    rgm_config_where(where, "env.cohort"));
  }
  if (k->model != PROPOFOL_ELEVELD && k->delay) {
    return rgm_fail(RGM_ECONFIG, "%s: env.delay: only env.model: eleveld has a delay",
                    rgm_config_where(where, "env.delay"));
  }
  return RGM_OK;
}


rgm_status eleveld_patients(const void *keys, const rgm_config *where, const void *config,
                            uint64_t seed, int64_t wanted, rgm_patients *out) {
  const propofol_keys *k = keys;
  const uint32_t words[2] = {(uint32_t)seed, (uint32_t)(seed >> 32)};
  const rgm_key key = rgm_stream_key(words, RGM_RANDOM_PATIENT + RGM_RANDOM_EVAL);
  source first = {0}, second = {0};
  void *memory = NULL;
  rgm_status status = RGM_OK;
  *out = (rgm_patients){0};
  if (k->cohort == PROPOFOL_NHANES) {
    status = covariates(k, where, config, key, wanted, &first, (int64_t **)&memory, out);
  } else if (k->cohort != PROPOFOL_DRAWN) {
    status = individuals(k, where, config, key, &first, &second, (by_id **)&memory, out);
    if (status == RGM_OK && out->count == 0) {
      status = rgm_fail(RGM_EDATA, "%s: nobody of 18 years or more", first.path);
    }
  }
  free(memory);
  rgm_table_free(&first.table);
  rgm_table_free(&second.table);
  if (status != RGM_OK) {
    free(out->words);
    *out = (rgm_patients){0};
  }
  return status;
}


bool eleveld_reachable(const void *config, const float *words) {
  const propofol_config *c = config;
  double ce = 0.0, highest = 0.0;
  for (int i = 0; i < PK_MODES; i++) {
    // a mode after n steps of action 1: gain (1 - (1 + fall)^n) / -fall
    const double fall = words[i], gain = words[PK_MODES + i];
    ce += gain * expm1((double)c->phase_steps * log1p(fall)) / fall;
  }
  for (int i = 0; i < c->targets; i++) {
    highest = fmax(highest, words[PROPOFOL_TARGETS + i]);
  }
  if (!(ce > 0.0)) {
    return false;
  }
  const double level = log(ce);
  double logit = words[8] * level - words[9];
  if (c->model == PROPOFOL_ELEVELD) {
    const double x = level - words[ELEVELD_LOG_E50];
    logit = x * (x > 0.0 ? words[ELEVELD_HIGH] : words[ELEVELD_LOW]);
  }
  return 1.0 / (1.0 + exp(-logit)) >= highest;
}
