// SPDX-License-Identifier: Apache-2.0
// The model of a staged treatment rule: formulas and eligibility from the config, rows and designs
// from the data.

#include "algorithms/dwols.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { PROPENSITY, FREE, BLIP, SQUARE };

static const char *const parts[] = {"propensity", "free", "blip", "square"};


// "config.yaml:12:3: algorithm.stage2.blip"
static void where(const rgm_run *run, int stage, const char *key, char *text, size_t size) {
  char name[64];
  if (stage >= 0) {
    snprintf(name, sizeof name, "algorithm.stage%d.%s", stage + 1, key);
  } else {
    snprintf(name, sizeof name, "algorithm.%s", key);
  }
  snprintf(text, size, "%s: %s", rgm_config_where(run->config, name), name);
}


static void *take(size_t count, size_t size) {
  return calloc(count > 0 ? count : 1, size);
}


// ---- formulas ----------------------------------------------------------------------------------

// adds to the list of what the treatment-free model lacks
static void list_missing(dwols_stage *s, const rgm_formula *of) {
  for (int j = 1; j < of->columns; j++) {
    const size_t used = strlen(s->missing_main);
    bool found = false;
    for (int i = 0; i < s->free.columns; i++) {
      found = found || strcmp(s->free.name[i], of->name[j]) == 0;
    }
    for (int i = 0; of == &s->square && i < s->blip.columns; i++) {
      found = found || strcmp(s->blip.name[i], of->name[j]) == 0;
    }
    if (!found && used + RGM_FORMULA_NAME + 4 < sizeof s->missing_main) {
      char part[RGM_FORMULA_NAME + 4];
      snprintf(part, sizeof part, "%s%s", used > 0 ? ", " : "", of->name[j]);
      memcpy(s->missing_main + used, part, strlen(part) + 1);
    }
  }
}


// terms of the blip that the treatment-free model lacks: told, and added unless as published
static rgm_status complete_free(const rgm_run *run, dwols_model *m, int k) {
  dwols_stage *s = &m->stage[k];
  const dwols_stage_keys *keys = &m->keys->stage[k];
  char what[512], text[3 * RGM_STRING_SIZE + 16];
  list_missing(s, &s->blip);
  list_missing(s, &s->square);
  if (s->missing_main[0] == '\0' || m->keys->hierarchy == HIERARCHY_PUBLISHED) {
    return RGM_OK;
  }
  where(run, k, "free", what, sizeof what);
  snprintf(text, sizeof text, "%s%s%s%s%s", keys->free, keys->free[0] != '\0' ? " + " : "",
           keys->blip, keys->blip[0] != '\0' && keys->square[0] != '\0' ? " + " : "", keys->square);
  return rgm_formula_parse(what, text, &m->frame, false, &s->free);
}


// keys that a kind of treatment has no use for, and weights that it does not have
static rgm_status check_kind(const rgm_run *run, const dwols_model *m, int k) {
  const dwols_stage_keys *keys = &m->keys->stage[k];
  const bool dose = keys->kind == TREAT_CONTINUOUS;
  char what[512];
  if (!dose && (keys->square[0] != '\0' || keys->range[0] != '\0')) {
    const char *key = keys->square[0] != '\0' ? "square" : "range";
    where(run, k, key, what, sizeof what);
    return rgm_fail(RGM_ECONFIG, "%s: stage %d: only a dose has one; set stage%d.kind: continuous",
                    what, k + 1, k + 1);
  }
  if (!dose && m->keys->weight == WEIGHT_BINS) {
    where(run, -1, "weight", what, sizeof what);
    return rgm_fail(RGM_ECONFIG, "%s: bins are of doses, stage %d has levels; use ipw", what,
                    k + 1);
  }
  return RGM_OK;
}


static rgm_status parse_stage(const rgm_run *run, dwols_model *m, int k) {
  dwols_stage *s = &m->stage[k];
  const dwols_stage_keys *keys = &m->keys->stage[k];
  const struct {
    const char *key, *text;
    rgm_formula *formula;
    bool expression;
  } all[] = {
      {"treatment", keys->treatment, &s->treatment, true},
      {"eligible", keys->eligible[0] != '\0' ? keys->eligible : "1", &s->eligible, true},
      {"propensity", keys->propensity, &s->propensity, false},
      {"free", keys->free, &s->free, false},
      {"blip", keys->blip, &s->blip, false},
      {"square", keys->square, &s->square, false},
  };
  RGM_TRY(check_kind(run, m, k));
  s->arms.kind = keys->kind;
  s->family = keys->family;
  m->general = m->general || keys->kind != TREAT_BINARY || m->keys->weight == WEIGHT_STABILISED;
  for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
    char what[512];
    where(run, k, all[i].key, what, sizeof what);
    if (all[i].text[0] == '\0' && all[i].expression) {
      return rgm_fail(RGM_ECONFIG, "%s: stage %d needs one; algorithm.stages says there are %d",
                      what, k + 1, m->stages);
    }
    if (all[i].text[0] == '\0' && all[i].formula == &s->square) {
      continue;
    }
    RGM_TRY(rgm_formula_parse(what, all[i].text, &m->frame, all[i].expression, all[i].formula));
  }
  return RGM_OK;
}


// ---- rows --------------------------------------------------------------------------------------

// a dose, or one of two or several levels: what is wrong with it, NULL: nothing
static const char *wrong_treatment(const dwols_stage *s, double a) {
  if (isnan(a)) {
    return "missing; leave the row out by algorithm.stageK.eligible";
  }
  if (s->arms.kind == TREAT_BINARY) {
    return a == 0 || a == 1 ? NULL : "neither 0 nor 1";
  }
  if (!isfinite(a)) {
    return "infinite";
  }
  return s->arms.kind == TREAT_CONTINUOUS && s->family == FAMILY_GAMMA && !(a > 0)
             ? "not above 0, as doses of a gamma distribution are; family: normal"
             : NULL;
}


// the rows of a stage and their treatments
static rgm_status find_rows(dwols_model *m, int k, uint8_t *keep) {
  dwols_stage *s = &m->stage[k];
  const int64_t N = m->frame.rows;
  s->rows = take((size_t)N, sizeof *s->rows);
  s->label = take((size_t)N, sizeof *s->label);
  if (s->rows == NULL || s->label == NULL) {
    return rgm_fail(RGM_EMEMORY, "no memory for the rows of stage %d", k + 1);
  }
  for (int64_t row = 0; row < N; row++) {
    const double *values = m->frame.value + row * m->frame.columns;
    const double eligible = rgm_formula_value(&s->eligible, values);
    keep[row] = eligible != 0;
    if (isnan(eligible)) {
      return rgm_fail(
          RGM_EDATA,
          "%s:%lld: stage %d: a value that algorithm.stage%d.eligible reads is missing; "
          "who may be treated must be known",
          m->path, (long long)row + 2, k + 1, k + 1);
    }
    if (!keep[row]) {
      continue;
    }
    const double a = rgm_formula_value(&s->treatment, values);
    const char *wrong = wrong_treatment(s, a);
    if (wrong != NULL) {
      return rgm_fail(RGM_EDATA, "%s:%lld: stage %d: the treatment %s is %s", m->path,
                      (long long)row + 2, k + 1, m->keys->stage[k].treatment, wrong);
    }
    s->label[s->n] = a;
    s->rows[s->n++] = (uint32_t)row;
  }
  return RGM_OK;
}


// two levels, both seen
static rgm_status find_two(dwols_model *m, int k) {
  dwols_stage *s = &m->stage[k];
  int64_t treated = 0;
  for (int64_t i = 0; i < s->n; i++) {
    treated += s->label[i] == 1;
  }
  s->arms.levels = 2;
  s->arms.level[1] = 1;
  snprintf(s->arms.name[0], sizeof s->arms.name[0], "0");
  snprintf(s->arms.name[1], sizeof s->arms.name[1], "1");
  if (s->n == 0 || treated == 0 || treated == s->n) {
    return rgm_fail(RGM_EDATA,
                    "%s: stage %d: of %lld eligible rows %s is treated: too few to learn "
                    "from",
                    m->path, k + 1, (long long)s->n, treated == 0 ? "none" : "every one");
  }
  return RGM_OK;
}


// levels in order of their values, labels their numbers
static rgm_status find_levels(dwols_model *m, int k) {
  dwols_stage *s = &m->stage[k];
  dwols_arms *arms = &s->arms;
  const char *text = m->keys->stage[k].treatment;
  for (int64_t i = 0; i < s->n; i++) {
    int at = 0;
    while (at < arms->levels && arms->level[at] < s->label[i]) {
      at++;
    }
    if (at < arms->levels && arms->level[at] == s->label[i]) {
      continue;
    }
    if (arms->levels == DWOLS_LEVELS) {
      return rgm_fail(RGM_EDATA,
                      "%s: stage %d: the treatment %s has more than %d levels; is it a dose (kind: "
                      "continuous)?",
                      m->path, k + 1, text, DWOLS_LEVELS);
    }
    memmove(arms->level + at + 1, arms->level + at,
            (size_t)(arms->levels++ - at) * sizeof *arms->level);
    arms->level[at] = s->label[i];
  }
  if (arms->levels < 2) {
    return rgm_fail(RGM_EDATA,
                    "%s: stage %d: the treatment %s has %d level%s in %lld eligible rows", m->path,
                    k + 1, text, arms->levels, arms->levels == 1 ? "" : "s", (long long)s->n);
  }
  for (int64_t i = 0; i < s->n; i++) {
    int at = 0;
    while (arms->level[at] < s->label[i]) {
      at++;
    }
    s->label[i] = at;
  }
  const rgm_op *op = s->treatment.op;
  const rgm_variable *words =
      s->treatment.op_count == 1 && op->code == RGM_OP_COLUMN && m->frame.column[op->column].levels
          ? &m->frame.column[op->column]
          : NULL;
  for (int l = 0; l < arms->levels; l++) {
    snprintf(arms->name[l], sizeof arms->name[l], "%.31s",
             words != NULL ? words->level[(int)arms->level[l]] : "");
    if (words == NULL) {
      snprintf(arms->name[l], sizeof arms->name[l], "%.9g", arms->level[l]);
    }
  }
  return RGM_OK;
}


typedef struct ranked {
  double dose;
  uint32_t row;
} ranked;


static int by_dose(const void *a, const void *b) {
  const ranked *x = a, *y = b;
  return x->dose != y->dose ? (x->dose > y->dose) - (x->dose < y->dose)
                            : (x->row > y->row) - (x->row < y->row);
}


// doses: their order, size, the range that rules may choose from
static rgm_status find_doses(const rgm_run *run, dwols_model *m, int k) {
  dwols_stage *s = &m->stage[k];
  const char *range = m->keys->stage[k].range;
  double square = 0.0;
  ranked *all = take((size_t)s->n, sizeof *all);
  s->order = take((size_t)s->n, sizeof *s->order);
  if (all == NULL || s->order == NULL) {
    free(all);
    return rgm_fail(RGM_EMEMORY, "no memory for the doses of stage %d", k + 1);
  }
  for (int64_t i = 0; i < s->n; i++) {
    all[i] = (ranked){s->label[i], (uint32_t)i};
    square += s->label[i] * s->label[i] / (double)s->n;
  }
  qsort(all, (size_t)s->n, sizeof *all, by_dose);
  for (int64_t i = 0; i < s->n; i++) {
    s->order[i] = all[i].row;
  }
  const double least = s->n > 0 ? all[0].dose : 0, most = s->n > 0 ? all[s->n - 1].dose : 0;
  s->split = s->n > 0 ? all[s->n / 2].dose : 0;
  free(all);
  s->dose = sqrt(square);
  s->arms.least = least;
  s->arms.most = most;
  if (!(most > least)) {
    return rgm_fail(RGM_EDATA, "%s: stage %d: the dose %s is the same in all %lld eligible rows",
                    m->path, k + 1, m->keys->stage[k].treatment, (long long)s->n);
  }
  if (range[0] != '\0') {
    char what[512], rest;
    where(run, k, "range", what, sizeof what);
    if (sscanf(range, " %lf , %lf %c", &s->arms.least, &s->arms.most, &rest) != 2 ||
        !(isfinite(s->arms.least) && isfinite(s->arms.most) && s->arms.least < s->arms.most)) {
      return rgm_fail(RGM_ECONFIG,
                      "%s: stage %d: expected the least and the largest dose, as 0, 10", what,
                      k + 1);
    }
  }
  return RGM_OK;
}


static rgm_status find_arms(const rgm_run *run, dwols_model *m, int k) {
  dwols_stage *s = &m->stage[k];
  const int weight = m->keys->weight;
  s->dose = 1.0;
  switch (s->arms.kind) {
  case TREAT_BINARY:
    return find_two(m, k);
  case TREAT_CONTINUOUS:
    s->bins = weight == WEIGHT_OVERLAP || weight == WEIGHT_BINS ? (int)m->keys->bins : 0;
    return find_doses(run, m, k);
  default:
    return find_levels(m, k);
  }
}


static rgm_status size_stage(const rgm_run *run, dwols_model *m, int k, const uint8_t *keep) {
  dwols_stage *s = &m->stage[k];
  rgm_formula *formulas[] = {&s->propensity, &s->free, &s->blip, &s->square};
  const bool squared = m->keys->stage[k].square[0] != '\0';
  char what[512];
  for (int part = squared ? SQUARE : BLIP; part >= 0; part--) {
    where(run, k, parts[part], what, sizeof what);
    RGM_TRY(rgm_formula_learn(what, formulas[part], &m->frame, keep));
    if (part == FREE) {
      RGM_TRY(complete_free(run, m, k));
      RGM_TRY(rgm_formula_learn(what, formulas[part], &m->frame, keep));
    }
  }
  s->p = s->propensity.columns;
  s->f = s->free.columns;
  const bool fits = dwols_arms_make(&s->arms, s->blip.columns, squared ? s->square.columns : 0);
  s->h = s->arms.terms;
  s->q = s->f + s->h;
  s->e = dwols_treat_size(s);
  where(run, k, "free", what, sizeof what);
  if (!fits || s->q > RGM_FORMULA_COLUMNS || s->n <= s->q || s->n <= s->e || s->e > DWOLS_TREAT) {
    return rgm_fail(RGM_EDATA,
                    "%s: stage %d: %d columns of outcome and blip, %d of the propensity, for %lld "
                    "eligible rows; at most %d and %d, and fewer than rows",
                    what, k + 1, s->q, s->e, (long long)s->n, RGM_FORMULA_COLUMNS, DWOLS_TREAT);
  }
  s->first = m->psi;
  s->first_all = m->all;
  m->psi += s->h;
  m->all += s->e + s->q;
  const size_t n = (size_t)s->n, columns = (size_t)(s->arms.blip + s->arms.square);
  s->x = take(n * (size_t)s->p, sizeof *s->x);
  s->z = take(n * (size_t)s->q, sizeof *s->z);
  s->blips = take(n * columns, sizeof *s->blips);
  if (s->x == NULL || s->z == NULL || s->blips == NULL) {
    return rgm_fail(RGM_EMEMORY, "no memory for the designs of stage %d", k + 1);
  }
  return m->psi <= DWOLS_PSI
             ? RGM_OK
             : rgm_fail(RGM_EDATA, "%s: more than %d blip columns in all stages", what, DWOLS_PSI);
}


// user weights of a stage's rows
static rgm_status read_weights(const rgm_run *run, dwols_model *m) {
  char what[512];
  rgm_formula formula;
  if (m->keys->weights[0] == '\0') {
    return RGM_OK;
  }
  where(run, -1, "weights", what, sizeof what);
  RGM_TRY(rgm_formula_parse(what, m->keys->weights, &m->frame, true, &formula));
  for (int k = 0; k < m->stages; k++) {
    dwols_stage *s = &m->stage[k];
    s->given = take((size_t)s->n, sizeof *s->given);
    if (s->given == NULL) {
      return rgm_fail(RGM_EMEMORY, "no memory for the weights of stage %d", k + 1);
    }
    for (int64_t i = 0; i < s->n; i++) {
      s->given[i] = rgm_formula_value(&formula, m->frame.value + s->rows[i] * m->frame.columns);
      if (!(s->given[i] >= 0 && s->given[i] < INFINITY)) {
        return rgm_fail(RGM_EDATA, "%s:%lld: stage %d: the weight %s is missing or negative",
                        m->path, (long long)s->rows[i] + 2, k + 1, m->keys->weights);
      }
    }
  }
  return RGM_OK;
}


// ---- clusters ----------------------------------------------------------------------------------

typedef struct member {
  double id;
  int64_t row;
} member;


static int by_id(const void *a, const void *b) {
  const member *x = a, *y = b;
  return x->id != y->id ? (x->id > y->id) - (x->id < y->id) : (x->row > y->row) - (x->row < y->row);
}


// resampling takes whole clusters: the rows of each, by its number; without one every row by itself
static rgm_status find_clusters(const rgm_run *run, dwols_model *m) {
  const int64_t N = m->frame.rows;
  member *all = take((size_t)N, sizeof *all);
  m->cluster_first = take((size_t)N + 1, sizeof *m->cluster_first);
  m->cluster_row = take((size_t)N, sizeof *m->cluster_row);
  rgm_status status = all != NULL && m->cluster_first != NULL && m->cluster_row != NULL
                          ? RGM_OK
                          : rgm_fail(RGM_EMEMORY, "no memory for the clusters");
  rgm_formula formula;
  if (status == RGM_OK && m->keys->cluster[0] != '\0') {
    char what[512];
    where(run, -1, "cluster", what, sizeof what);
    status = rgm_formula_parse(what, m->keys->cluster, &m->frame, true, &formula);
  }
  for (int64_t row = 0; row < N && status == RGM_OK; row++) {
    const double *values = m->frame.value + row * m->frame.columns;
    all[row] = (member){
        m->keys->cluster[0] != '\0' ? rgm_formula_value(&formula, values) : (double)row, row};
    if (isnan(all[row].id)) {
      status = rgm_fail(RGM_EDATA, "%s:%lld: the cluster %s is missing", m->path,
                        (long long)row + 2, m->keys->cluster);
    }
  }
  if (status == RGM_OK) {
    qsort(all, (size_t)N, sizeof *all, by_id);
    for (int64_t i = 0; i < N; i++) {
      if (i == 0 || all[i].id != all[i - 1].id) {
        m->cluster_first[m->clusters++] = i;
      }
      m->cluster_row[i] = all[i].row;
    }
    m->cluster_first[m->clusters] = N;
    if (m->clusters < 2) {
      status = rgm_fail(RGM_EDATA, "%s: column %s has one cluster; at least two are needed",
                        m->path, m->keys->cluster);
    }
  }
  free(all);
  return status;
}


// ---- the whole ---------------------------------------------------------------------------------

// a column that formulas read and that lacks values, where nothing imputes them
static rgm_status look_for_missing(const dwols_model *m) {
  uint8_t *used = take((size_t)m->frame.columns, 1);
  rgm_status status = used != NULL ? RGM_OK : rgm_fail(RGM_EMEMORY, "no memory for columns");
  for (int k = 0; k < m->stages && used != NULL; k++) {
    rgm_formula_uses(&m->stage[k].propensity, used);
    rgm_formula_uses(&m->stage[k].free, used);
    rgm_formula_uses(&m->stage[k].blip, used);
    rgm_formula_uses(&m->stage[k].square, used);
  }
  if (used != NULL) {
    rgm_formula_uses(&m->outcome, used);
  }
  for (int c = 0; c < m->frame.columns && status == RGM_OK; c++) {
    int64_t missing = 0;
    for (int64_t row = 0; row < m->frame.rows; row++) {
      missing += isnan(m->frame.value[row * m->frame.columns + c]) != 0;
    }
    // a row that is in no stage may lack what it likes: the designs tell the others
    if (used[c] && missing == m->frame.rows) {
      status = rgm_fail(RGM_EDATA, "%s: column %s is empty", m->path, m->frame.column[c].name);
    }
  }
  free(used);
  return status;
}


rgm_status dwols_model_load(const rgm_run *run, dwols_model *m) {
  *m = (dwols_model){.keys = rgm_algorithm_keys(run, 0), .path = run->data.path};
  const dwols_keys *keys = m->keys;
  RGM_TRY(rgm_frame_read(m->path, &m->frame));
  RGM_TRY(mice_prepare(run->config, "algorithm", &keys->mice, m->path, &m->frame, keys->imputations,
                       rgm_run_seed(run, 0), &m->mice));
  return dwols_model_build(run, m);
}


rgm_status dwols_model_build(const rgm_run *run, dwols_model *m) {
  const dwols_keys *keys = m->keys;
  char what[512];
  m->stages = (int)keys->stages;
  where(run, -1, "outcome", what, sizeof what);
  RGM_TRY(rgm_formula_parse(what, keys->outcome, &m->frame, true, &m->outcome));
  m->y = take((size_t)m->frame.rows, sizeof *m->y);
  uint8_t *keep = take((size_t)m->frame.rows, 1);
  rgm_status status = m->y != NULL && keep != NULL
                          ? RGM_OK
                          : rgm_fail(RGM_EMEMORY, "no memory for %s", keys->outcome);
  for (int k = 0; k < m->stages && status == RGM_OK; k++) {
    status = parse_stage(run, m, k);
    if (status == RGM_OK) {
      status = find_rows(m, k, keep);
    }
    if (status == RGM_OK) {
      status = find_arms(run, m, k);
    }
    if (status == RGM_OK) {
      status = size_stage(run, m, k, keep);
    }
    if (status == RGM_OK) {
      where(run, k, "blip", what, sizeof what);
      status =
          rgm_formula_inputs(what, keys->stage[k].blip, m->inputs, &m->input_count, DWOLS_INPUTS);
    }
    if (status == RGM_OK) {
      where(run, k, "square", what, sizeof what);
      status =
          rgm_formula_inputs(what, keys->stage[k].square, m->inputs, &m->input_count, DWOLS_INPUTS);
    }
  }
  free(keep);
  RGM_TRY(status);
  RGM_TRY(look_for_missing(m));
  RGM_TRY(read_weights(run, m));
  return find_clusters(run, m);
}


void dwols_model_free(dwols_model *m) {
  for (int k = 0; k < DWOLS_STAGES; k++) {
    free(m->stage[k].rows);
    free(m->stage[k].order);
    free(m->stage[k].label);
    free(m->stage[k].given);
    free(m->stage[k].x);
    free(m->stage[k].z);
    free(m->stage[k].blips);
  }
  free(m->y);
  free(m->cluster_first);
  free(m->cluster_row);
  mice_free(m->mice);
  rgm_frame_free(&m->frame);
}


// ---- designs -----------------------------------------------------------------------------------

// evaluates a formula in the rows of a stage: raw columns, `stride` apart
static rgm_status fill(const dwols_model *m, int k, int part, const rgm_formula *formula,
                       const double *values, double *out, int stride) {
  const dwols_stage *s = &m->stage[k];
  for (int64_t i = 0; i < s->n; i++) {
    double row[RGM_FORMULA_COLUMNS];
    rgm_formula_row(formula, values + (int64_t)s->rows[i] * m->frame.columns, row);
    for (int j = 0; j < formula->columns; j++) {
      if (!isfinite(row[j])) {
        return rgm_fail(RGM_EDATA, "%s:%lld: stage %d: %s: the term %s is %s", m->path,
                        (long long)s->rows[i] + 2, k + 1, parts[part], formula->name[j],
                        isnan(row[j]) ? "missing or not defined; impute it (algorithm.imputations) "
                                        "or leave the row out"
                                      : "infinite");
      }
      out[i * stride + j] = row[j];
    }
  }
  return RGM_OK;
}


static rgm_status standardise(dwols_model *m, int k, int part, const rgm_formula *formula,
                              double *x, int stride) {
  dwols_stage *s = &m->stage[k];
  for (int j = 0; j < formula->columns; j++) {
    double mean = 0.0, square = 0.0;
    for (int64_t i = 0; i < s->n; i++) {
      mean += x[i * stride + j] / (double)s->n;
    }
    for (int64_t i = 0; i < s->n; i++) {
      square += (x[i * stride + j] - mean) * (x[i * stride + j] - mean) / (double)s->n;
    }
    const double sd = sqrt(square);
    s->centre[part][j] = j > 0 ? mean : 0.0;
    s->scale[part][j] = j > 0 ? sd : 1.0;
    if (j > 0 && !(sd > 1e-12 * (fabs(mean) + 1e-300))) {
      return rgm_fail(RGM_EDATA, "%s: stage %d: %s: the term %s is the same in all %lld rows",
                      m->path, k + 1, parts[part], formula->name[j], (long long)s->n);
    }
    for (int64_t i = 0; i < s->n && j > 0; i++) {
      x[i * stride + j] = (x[i * stride + j] - mean) / sd;
    }
  }
  return RGM_OK;
}


// a term that is a combination of others is named
static rgm_status check_rank(const dwols_model *m, int k) {
  const dwols_stage *s = &m->stage[k];
  const int outcome = dwols_dependent(s->z, s->n, s->q);
  const int propensity = outcome < 0 ? dwols_dependent(s->x, s->n, s->p) : -1;
  if (outcome < 0 && propensity < 0) {
    return RGM_OK;
  }
  char name[RGM_FORMULA_NAME + 40];
  const char *part = outcome < 0 ? "propensity" : outcome < s->f ? "free" : "blip";
  if (outcome >= s->f) {
    dwols_psi_name(s, outcome - s->f, name);
  } else {
    snprintf(name, sizeof name, "%s",
             outcome < 0 ? s->propensity.name[propensity] : s->free.name[outcome]);
  }
  return rgm_fail(RGM_EDATA,
                  "%s: stage %d: %s: the term %s follows from the terms before it; "
                  "leave it out",
                  m->path, k + 1, part, name);
}


rgm_status dwols_model_design(dwols_model *m, const double *values) {
  for (int64_t row = 0; row < m->frame.rows; row++) {
    m->y[row] = rgm_formula_value(&m->outcome, values + row * m->frame.columns);
    if (!isfinite(m->y[row])) {
      return rgm_fail(RGM_EDATA, "%s:%lld: the outcome %s is missing or infinite", m->path,
                      (long long)row + 2, m->keys->outcome);
    }
  }
  for (int k = 0; k < m->stages; k++) {
    dwols_stage *s = &m->stage[k];
    RGM_TRY(fill(m, k, PROPENSITY, &s->propensity, values, s->x, s->p));
    RGM_TRY(fill(m, k, FREE, &s->free, values, s->z, s->q));
    const int columns = s->arms.blip + s->arms.square;
    double *squares = s->blips + s->arms.blip;
    RGM_TRY(fill(m, k, BLIP, &s->blip, values, s->blips, columns));
    RGM_TRY(fill(m, k, SQUARE, &s->square, values, squares, columns));
    RGM_TRY(standardise(m, k, PROPENSITY, &s->propensity, s->x, s->p));
    RGM_TRY(standardise(m, k, FREE, &s->free, s->z, s->q));
    RGM_TRY(standardise(m, k, BLIP, &s->blip, s->blips, columns));
    RGM_TRY(standardise(m, k, SQUARE, &s->square, squares, columns));
    for (int64_t i = 0; i < s->n; i++) {
      for (int j = 0; j < s->h; j++) {
        const double b = dwols_function(&s->arms, s->arms.of[j], s->label[i] / s->dose);
        s->z[i * s->q + s->f + j] = b * s->blips[i * columns + s->arms.column[j]];
      }
    }
    RGM_TRY(check_rank(m, k));
  }
  return RGM_OK;
}


static void unscale(const dwols_stage *s, int part, const double *from, int columns, double *out) {
  out[0] = from[0];
  for (int j = 1; j < columns; j++) {
    out[j] = from[j] / s->scale[part][j];
    out[0] -= out[j] * s->centre[part][j];
  }
}


// of the models of treatment: one block of columns for each level, or cuts and slopes, which move
// what the cuts are of
static void raw_treat(const dwols_stage *s, const double *beta, double *out) {
  const int kind = s->arms.kind, cuts = (kind == TREAT_ORDINAL ? s->arms.levels : s->bins) - 1;
  const int blocks = kind == TREAT_ORDINAL ? 0 : kind == TREAT_CONTINUOUS ? 1 : s->arms.levels - 1;
  for (int block = 0; block < blocks; block++) {
    unscale(s, PROPENSITY, beta + block * s->p, s->p, out + block * s->p);
  }
  int at = blocks * s->p;
  if (kind == TREAT_CONTINUOUS) {
    out[at] = beta[at];
    at++;
  }
  if (at < s->e) {
    double shift = 0.0;
    for (int j = 1; j < s->p; j++) {
      out[at + cuts + j - 1] = beta[at + cuts + j - 1] / s->scale[PROPENSITY][j];
      shift += out[at + cuts + j - 1] * s->centre[PROPENSITY][j];
    }
    for (int l = 0; l < cuts; l++) {
      out[at + l] = beta[at + l] + shift;
    }
  }
}


void dwols_raw(const dwols_stage *s, const double *beta, const double *coef, double *out) {
  const double *psi = coef + s->f;
  raw_treat(s, beta, out);
  out += s->e;
  unscale(s, FREE, coef, s->f, out);
  out += s->f;
  for (int j = 0, t = 0; j < s->h; t++) {
    const bool square = s->arms.kind == TREAT_CONTINUOUS && t == 1;
    const int columns = square ? s->arms.square : s->arms.blip;
    unscale(s, square ? SQUARE : BLIP, psi + j, columns, out + j);
    for (int end = j + columns; j < end; j++) {
      out[j] /= square ? s->dose * s->dose : s->dose;
    }
  }
}


void dwols_standard(const dwols_stage *s, const double *raw, double *beta) {
  const int kind = s->arms.kind, cuts = (kind == TREAT_ORDINAL ? s->arms.levels : s->bins) - 1;
  const int blocks = kind == TREAT_ORDINAL ? 0 : kind == TREAT_CONTINUOUS ? 1 : s->arms.levels - 1;
  for (int block = 0; block < blocks; block++) {
    const double *from = raw + block * s->p;
    double *to = beta + block * s->p;
    to[0] = from[0];
    for (int j = 1; j < s->p; j++) {
      to[j] = from[j] * s->scale[PROPENSITY][j];
      to[0] += from[j] * s->centre[PROPENSITY][j];
    }
  }
  int at = blocks * s->p;
  if (kind == TREAT_CONTINUOUS) {
    beta[at] = raw[at];
    at++;
  }
  if (at < s->e) {
    double shift = 0.0;
    for (int j = 1; j < s->p; j++) {
      beta[at + cuts + j - 1] = raw[at + cuts + j - 1] * s->scale[PROPENSITY][j];
      shift += raw[at + cuts + j - 1] * s->centre[PROPENSITY][j];
    }
    for (int l = 0; l < cuts; l++) {
      beta[at + l] = raw[at + l] - shift;
    }
  }
}
