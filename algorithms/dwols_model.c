// SPDX-License-Identifier: Apache-2.0
// The model of a staged treatment rule: formulas and eligibility from the config, rows and designs
// from the data.

#include "algorithms/dwols.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { PROPENSITY, FREE, BLIP };

static const char *const parts[] = {"propensity", "free", "blip"};


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

// terms of the blip that the treatment-free model lacks: told, and added unless as published
static rgm_status complete_free(const rgm_run *run, dwols_model *m, int k) {
  dwols_stage *s = &m->stage[k];
  const dwols_stage_keys *keys = &m->keys->stage[k];
  char what[512], text[2 * RGM_STRING_SIZE + 8];
  size_t used = 0;
  for (int j = 1; j < s->blip.columns; j++) {
    bool found = false;
    for (int i = 0; i < s->free.columns; i++) {
      found = found || strcmp(s->free.name[i], s->blip.name[j]) == 0;
    }
    if (!found && used + RGM_FORMULA_NAME + 4 < sizeof s->missing_main) {
      char part[RGM_FORMULA_NAME + 4];
      snprintf(part, sizeof part, "%s%s", used > 0 ? ", " : "", s->blip.name[j]);
      memcpy(s->missing_main + used, part, strlen(part) + 1);
      used += strlen(part);
    }
  }
  if (used == 0 || m->keys->hierarchy == HIERARCHY_PUBLISHED) {
    return RGM_OK;
  }
  where(run, k, "free", what, sizeof what);
  snprintf(text, sizeof text, "%s%s%s", keys->free, keys->free[0] != '\0' ? " + " : "", keys->blip);
  return rgm_formula_parse(what, text, &m->frame, false, &s->free);
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
  };
  for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
    char what[512];
    where(run, k, all[i].key, what, sizeof what);
    if (all[i].text[0] == '\0' && all[i].expression) {
      return rgm_fail(RGM_ECONFIG, "%s: stage %d needs one; algorithm.stages says there are %d",
                      what, k + 1, m->stages);
    }
    RGM_TRY(rgm_formula_parse(what, all[i].text, &m->frame, all[i].expression, all[i].formula));
  }
  return RGM_OK;
}


// ---- rows --------------------------------------------------------------------------------------

// the rows of a stage and their treatments
static rgm_status find_rows(dwols_model *m, int k, uint8_t *keep) {
  dwols_stage *s = &m->stage[k];
  const int64_t N = m->frame.rows;
  s->rows = take((size_t)N, sizeof *s->rows);
  s->label = take((size_t)N, sizeof *s->label);
  if (s->rows == NULL || s->label == NULL) {
    return rgm_fail(RGM_EMEMORY, "no memory for the rows of stage %d", k + 1);
  }
  int64_t treated = 0;
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
    if (a != 0 && a != 1) {
      return rgm_fail(RGM_EDATA, "%s:%lld: stage %d: the treatment %s is %s", m->path,
                      (long long)row + 2, k + 1, m->keys->stage[k].treatment,
                      isnan(a) ? "missing; leave the row out by algorithm.stageK.eligible"
                               : "neither 0 nor 1");
    }
    treated += a == 1;
    s->label[s->n] = a;
    s->rows[s->n++] = (uint32_t)row;
  }
  if (s->n == 0 || treated == 0 || treated == s->n) {
    return rgm_fail(RGM_EDATA,
                    "%s: stage %d: of %lld eligible rows %s is treated: too few to learn "
                    "from",
                    m->path, k + 1, (long long)s->n, treated == 0 ? "none" : "every one");
  }
  return RGM_OK;
}


static rgm_status size_stage(const rgm_run *run, dwols_model *m, int k, const uint8_t *keep) {
  dwols_stage *s = &m->stage[k];
  rgm_formula *formulas[] = {&s->propensity, &s->free, &s->blip};
  char what[512];
  for (int part = 2; part >= 0; part--) {
    where(run, k, parts[part], what, sizeof what);
    RGM_TRY(rgm_formula_learn(what, formulas[part], &m->frame, keep));
    if (part == FREE) {
      RGM_TRY(complete_free(run, m, k));
      RGM_TRY(rgm_formula_learn(what, formulas[part], &m->frame, keep));
    }
  }
  s->p = s->propensity.columns;
  s->f = s->free.columns;
  s->h = s->blip.columns;
  s->q = s->f + s->h;
  where(run, k, "free", what, sizeof what);
  if (s->q > RGM_FORMULA_COLUMNS || s->n <= s->q || s->n <= s->p) {
    return rgm_fail(RGM_EDATA,
                    "%s: stage %d: %d columns of outcome and blip, %d of the propensity, for %lld "
                    "eligible rows; at most %d, and fewer than rows",
                    what, k + 1, s->q, s->p, (long long)s->n, RGM_FORMULA_COLUMNS);
  }
  s->first = m->psi;
  s->first_all = m->all;
  m->psi += s->h;
  m->all += s->p + s->q;
  const size_t n = (size_t)s->n;
  s->x = take(n * (size_t)s->p, sizeof *s->x);
  s->z = take(n * (size_t)s->q, sizeof *s->z);
  s->blips = take(n * (size_t)s->h, sizeof *s->blips);
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
      status = size_stage(run, m, k, keep);
    }
    if (status == RGM_OK) {
      where(run, k, "blip", what, sizeof what);
      status =
          rgm_formula_inputs(what, keys->stage[k].blip, m->inputs, &m->input_count, DWOLS_INPUTS);
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
  const char *name = outcome < 0      ? s->propensity.name[propensity]
                     : outcome < s->f ? s->free.name[outcome]
                                      : s->blip.name[outcome - s->f];
  const char *part = outcome < 0 ? "propensity" : outcome < s->f ? "free" : "blip";
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
    RGM_TRY(fill(m, k, BLIP, &s->blip, values, s->blips, s->h));
    RGM_TRY(standardise(m, k, PROPENSITY, &s->propensity, s->x, s->p));
    RGM_TRY(standardise(m, k, FREE, &s->free, s->z, s->q));
    RGM_TRY(standardise(m, k, BLIP, &s->blip, s->blips, s->h));
    for (int64_t i = 0; i < s->n; i++) {
      for (int j = 0; j < s->h; j++) {
        s->z[i * s->q + s->f + j] = s->label[i] * s->blips[i * s->h + j];
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


void dwols_raw(const dwols_stage *s, const double *beta, const double *coef, double *out) {
  unscale(s, PROPENSITY, beta, s->p, out);
  unscale(s, FREE, coef, s->f, out + s->p);
  unscale(s, BLIP, coef + s->f, s->h, out + s->p + s->f);
}
