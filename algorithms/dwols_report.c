// SPDX-License-Identifier: Apache-2.0
// What a run of dwols says: pooled estimates, the three methods side by side, diagnostics, what the
// rules advise; as text or JSON, and as tables (CSV, LaTeX), data of the paper's figures 2 and 3,
// traces of imputations and completed tables in the folder of the evaluation.

#include "algorithms/dwols.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { RULE_CRUDE, RULE_STRINGENT, RULE_ALL, RULE_NEVER, RULE_OBSERVED, RULES, TABLES = 16 };
static const char *const rule_names[] = {"crude", "stringent", "treat_all", "never", "observed"};
static const char *const method_names[] = {"dwols", "qlearning", "gest"};

// What an evaluation gathers.
typedef struct report {
  rgm_run *run;
  dwols *d;
  const dwols_model *m;
  rgm_json *json;
  FILE *text;
  int64_t done, tables; // imputations; completed tables that the rules are tried on
  double *theta, *sandwich, *diag, *failures; // means over imputations, (all), (K, ...)
  dwols_pool pool;
  double methods[3][DWOLS_PSI]; // psi of the first table by each method
  double covers[DWOLS_STAGES];  // share of eligible rows whose interval covers 0
  double share[RULES], value[RULES], started[RULES][DWOLS_STAGES];
  // rows by advice (stringent) and treatment received: levels, or quarters of a dose's range
  double flow[DWOLS_STAGES][DWOLS_LEVELS][DWOLS_LEVELS];
  double dose[RULES][DWOLS_STAGES];                // mean dose
  double given[RULES][DWOLS_STAGES][DWOLS_LEVELS]; // shares of those classes
  dwols_boot boot;                                 // resampled, then imputed; sets 0: not asked for
} report;


static dwols_form form_of(const report *p, int k, const double *h) {
  const dwols_stage *s = &p->m->stage[k];
  return dwols_pool_form(&p->pool, h, s->first, s->h, (double)(s->n - s->q), p->m->keys->interval,
                         p->m->keys->level);
}


static dwols_form coefficient(const report *p, int k, int j) {
  double unit[RGM_FORMULA_COLUMNS] = {0};
  unit[j] = 1.0;
  return form_of(p, k, unit);
}


// ---- gathering ---------------------------------------------------------------------------------

static void add_mean(double *to, const double *from, int64_t size, int64_t count) {
  for (int64_t i = 0; i < count; i++) {
    for (int64_t j = 0; j < size; j++) {
      to[j] += from[i * size + j] / (double)count;
    }
  }
}


static rgm_status read_mean(report *p, rgm_tensor t, int64_t size, double *to) {
  double *all = malloc(rgm_bytes(t));
  rgm_status status = all != NULL ? rgm_read_back(p->run, t, all)
                                  : rgm_fail(RGM_EMEMORY, "no memory for the report");
  if (status == RGM_OK) {
    add_mean(to, all, size, p->done);
  }
  free(all);
  return status;
}


static rgm_status gather(report *p) {
  const dwols_model *m = p->m;
  const int64_t K = m->stages;
  p->pool.imputations = p->done;
  p->pool.count = m->psi;
  RGM_TRY(rgm_read_back(p->run, p->d->psi, p->pool.psi));
  RGM_TRY(rgm_read_back(p->run, p->d->total, p->pool.total));
  RGM_TRY(rgm_read_back(p->run, p->d->within, p->pool.within));
  RGM_TRY(rgm_read_back(p->run, p->d->between, p->pool.between));
  p->theta = calloc((size_t)(2 * m->all + K * (DIAG_COUNT + 4)), sizeof *p->theta);
  if (p->theta == NULL) {
    return rgm_fail(RGM_EMEMORY, "no memory for the report");
  }
  p->sandwich = p->theta + m->all;
  p->diag = p->sandwich + m->all;
  p->failures = p->diag + K * DIAG_COUNT;
  RGM_TRY(read_mean(p, p->d->theta, m->all, p->theta));
  RGM_TRY(read_mean(p, p->d->sandwich, m->all, p->sandwich));
  RGM_TRY(read_mean(p, p->d->diagnostics, K * DIAG_COUNT, p->diag));
  return read_mean(p, p->d->failures, K * 4, p->failures);
}


// the three methods on the first completed table, with its propensities
static rgm_status compare_methods(report *p) {
  const dwols_model *m = p->m;
  double *theta = malloc(rgm_bytes(p->d->theta));
  double *y = malloc((size_t)m->frame.rows * sizeof *y);
  rgm_status status = theta != NULL && y != NULL ? rgm_read_back(p->run, p->d->theta, theta)
                                                 : rgm_fail(RGM_EMEMORY, "no memory for methods");
  for (int method = 0; method < 3 && status == RGM_OK; method++) {
    memcpy(y, m->y, (size_t)m->frame.rows * sizeof *y);
    for (int k = m->stages - 1; k >= 0 && status == RGM_OK; k--) {
      const dwols_stage *s = &m->stage[k];
      double beta[DWOLS_TREAT], coef[RGM_FORMULA_COLUMNS], raw[DWOLS_ALL];
      dwols_standard(s, theta + s->first_all, beta);
      status = dwols_fit_stage(m, k, method, m->keys->weight, beta, y, coef, NULL, NULL);
      dwols_raw(s, beta, coef, raw);
      memcpy(p->methods[method] + s->first, raw + s->e + s->f, (size_t)s->h * sizeof *raw);
      dwols_add_regret(s, coef + s->f, y);
    }
  }
  free(theta);
  free(y);
  return status;
}


// What is said of a row of a stage: what another treatment than the reference gains over it, at
// best, and what each rule gives.
typedef struct advice {
  dwols_form form;
  double best, given[RULES];
} advice;


// Stringent: the reference, unless the interval of what the best treatment gains lies above 0; all
// are treated: with the last level, or the largest dose.
static advice advise(const report *p, int k, int64_t i, const double *values, double row[]) {
  const dwols_stage *s = &p->m->stage[k];
  const dwols_arms *arms = &s->arms;
  const double none = dwols_reference(arms);
  double sums[DWOLS_LEVELS], h[RGM_FORMULA_COLUMNS];
  rgm_formula_row(&s->blip, values + (int64_t)s->rows[i] * p->m->frame.columns, row);
  if (arms->square > 0) {
    rgm_formula_row(&s->square, values + (int64_t)s->rows[i] * p->m->frame.columns,
                    row + arms->blip);
  }
  dwols_sums(arms, row, p->pool.psi + s->first, sums);
  advice a = {.best = dwols_best(arms, sums, true)};
  dwols_contrast(arms, row, a.best, none, h);
  a.form = form_of(p, k, h);
  a.given[RULE_CRUDE] = a.form.value > 0 ? a.best : none;
  a.given[RULE_STRINGENT] = a.form.value - a.form.half > 0 ? a.best : none;
  a.given[RULE_ALL] = arms->kind == TREAT_CONTINUOUS ? arms->most : arms->levels - 1;
  a.given[RULE_NEVER] = none;
  a.given[RULE_OBSERVED] = s->label[i];
  return a;
}


// the class of a treatment in the flow of figure 3
static int flow_class(const dwols_arms *arms, double a) {
  if (arms->kind != TREAT_CONTINUOUS) {
    return (int)a;
  }
  const double quarter = floor(4.0 * (a - arms->least) / (arms->most - arms->least));
  return (int)fmin(fmax(quarter, 0.0), 3.0);
}


// What the rules advise the rows of a completed table. Advice is kept: who was advised to start, or
// has started, is not asked again. The value is apparent: the outcome plus the blips that the rule
// changes, for the stages in which a row was eligible.
static void try_rules(report *p, const double *values, FILE *figure) {
  const dwols_model *m = p->m;
  const int64_t N = m->frame.rows;
  for (int k = 0; k < m->stages; k++) {
    const dwols_stage *s = &m->stage[k];
    const double none = dwols_reference(&s->arms);
    for (int64_t i = 0; i < s->n; i++) {
      double row[2 * RGM_FORMULA_COLUMNS], h[RGM_FORMULA_COLUMNS];
      const advice a = advise(p, k, i, values, row);
      const double part = 1.0 / (double)(N * p->tables), share = 1.0 / (double)(s->n * p->tables);
      for (int rule = 0; rule < RULES; rule++) {
        dwols_contrast(&s->arms, row, a.given[rule], s->label[i], h);
        p->started[rule][k] += (a.given[rule] != none) * share;
        p->dose[rule][k] += a.given[rule] * share;
        p->given[rule][k][flow_class(&s->arms, a.given[rule])] += share;
        for (int j = 0; j < s->h; j++) {
          p->value[rule] += h[j] * p->pool.psi[s->first + j] * part;
        }
      }
      p->covers[k] += (fabs(a.form.value) <= a.form.half) * share;
      p->flow[k][flow_class(&s->arms, a.given[RULE_STRINGENT])]
             [flow_class(&s->arms, s->label[i])] += 1.0 / (double)p->tables;
      if (figure != NULL) {
        fprintf(figure, "%d,%.6g,%.6g\n", k + 1, a.form.value, a.form.se);
      }
    }
  }
  for (int rule = 0; rule < RULES; rule++) {
    for (int64_t row = 0; row < N; row++) {
      p->value[rule] += m->y[row] / (double)(N * p->tables);
    }
  }
}


// who ever starts under each rule, with persistence, among all rows
static rgm_status count_starts(report *p, const double *values) {
  const dwols_model *m = p->m;
  const int64_t N = m->frame.rows;
  uint8_t *ever = calloc((size_t)N, RULES);
  if (ever == NULL) {
    return rgm_fail(RGM_EMEMORY, "no memory for the rules");
  }
  for (int k = 0; k < m->stages; k++) {
    const dwols_stage *s = &m->stage[k];
    for (int64_t i = 0; i < s->n; i++) {
      double row[2 * RGM_FORMULA_COLUMNS];
      const advice a = advise(p, k, i, values, row);
      for (int rule = 0; rule < RULES; rule++) {
        ever[s->rows[i] * RULES + rule] |= a.given[rule] != dwols_reference(&s->arms);
      }
    }
  }
  for (int64_t row = 0; row < N; row++) {
    for (int rule = 0; rule < RULES; rule++) {
      p->share[rule] += ever[row * RULES + rule] / (double)(N * p->tables);
    }
  }
  free(ever);
  return RGM_OK;
}


static rgm_status open_file(const report *p, const char *name, FILE **out) {
  char path[4096];
  *out = NULL;
  if (p->run->out[0] == '\0') {
    return RGM_OK;
  }
  snprintf(path, sizeof path, "%s/%s", p->run->out, name);
  *out = fopen(path, "w");
  return *out != NULL ? RGM_OK : rgm_fail(RGM_EIO, "%s: %s", path, strerror(errno));
}


static rgm_status close_file(FILE *file, const char *name) {
  return file == NULL || fclose(file) == 0
             ? RGM_OK
             : rgm_fail(RGM_EIO, "%s: %s; free space and evaluate again", name, strerror(errno));
}


static rgm_status try_tables(report *p) {
  dwols_model *m = p->d->model;
  FILE *figure = NULL;
  p->tables = m->mice == NULL ? 1 : p->done < TABLES ? p->done : TABLES;
  RGM_TRY(open_file(p, "figure2_blips.csv", &figure));
  if (figure != NULL) {
    fprintf(figure, "stage,blip,se\n");
  }
  rgm_status status = RGM_OK;
  for (int64_t i = 0; i < p->tables && status == RGM_OK; i++) {
    const double *values = m->frame.value;
    if (m->mice != NULL) {
      status = mice_values(m->mice, p->run->stream, i, &values, NULL);
    }
    status = status == RGM_OK ? dwols_model_design(m, values) : status;
    if (status == RGM_OK && i == 0) {
      status = compare_methods(p);
    }
    if (status == RGM_OK) {
      try_rules(p, values, i == 0 ? figure : NULL);
      status = count_starts(p, values);
    }
  }
  const rgm_status closed = close_file(figure, "figure2_blips.csv");
  return status != RGM_OK ? status : closed;
}


// ---- imputations -------------------------------------------------------------------------------

// a path in the folder of the evaluation
static const char *in_folder(const report *p, const char *name, char path[4096]) {
  snprintf(path, 4096, "%s/%s", p->run->out, name);
  return path;
}


// traces of the chains that the rules were tried on; all completed tables where they are asked for
static rgm_status write_imputations(const report *p) {
  mice_plan *mice = p->m->mice;
  const int export = p->m->keys->export;
  char csv[4096], hdf5[4096], traces[4096];
  if (export != EXPORT_NONE && (p->run->out[0] == '\0' || mice == NULL)) {
    return rgm_fail(RGM_EUSAGE, "algorithm.export: %s",
                    mice == NULL ? "nothing is imputed" : "there is no folder to write into");
  }
  if (p->run->out[0] == '\0' || mice == NULL) {
    return RGM_OK;
  }
  if (mice_has_traces(mice)) {
    RGM_TRY(mice_write_traces(mice, p->tables, in_folder(p, "traces.csv", traces)));
  }
  if (export == EXPORT_NONE) {
    return RGM_OK;
  }
  return mice_export(mice, p->run->stream,
                     export != EXPORT_HDF5 ? in_folder(p, "imputed.csv", csv) : NULL,
                     export != EXPORT_CSV ? in_folder(p, "imputed.h5", hdf5) : NULL);
}


// R-hat of every imputed column; needs two chains and two iterations
static bool has_rhat(const report *p) {
  return mice_has_traces(p->m->mice) && p->tables > 1 && p->m->keys->mice.iterations > 1;
}


static void json_rhat(const report *p) {
  rgm_json *j = p->json;
  rgm_json_open(j, "imputation_rhat", '{');
  for (int i = 0; has_rhat(p) && i < mice_targets(p->m->mice); i++) {
    int column;
    rgm_json_open(j, mice_target_name(p->m->mice, i, &column), '{');
    rgm_json_number(j, "mean", mice_rhat(p->m->mice, p->tables, column, 0));
    rgm_json_number(j, "sd", mice_rhat(p->m->mice, p->tables, column, 1));
    rgm_json_close(j, '}');
  }
  rgm_json_close(j, '}');
}


static void write_rhat(const report *p) {
  if (!has_rhat(p)) {
    return;
  }
  fprintf(p->text, "\nR-hat of %lld chains over %lld iterations, of means (deviations):",
          (long long)p->tables, (long long)p->m->keys->mice.iterations);
  double most = 0.0;
  for (int i = 0; i < mice_targets(p->m->mice); i++) {
    int column;
    const char *name = mice_target_name(p->m->mice, i, &column);
    const double mean = mice_rhat(p->m->mice, p->tables, column, 0);
    most = fmax(most, mean);
    fprintf(p->text, "%s %s %.2f (%.2f)", i > 0 ? "," : "", name, mean,
            mice_rhat(p->m->mice, p->tables, column, 1));
  }
  fprintf(p->text, "\n");
  if (most > 1.2) {
    fprintf(p->text, "  ! chains have not met: raise algorithm.impute.iterations (traces.csv)\n");
  }
}


// ---- bootstrap, then imputation ----------------------------------------------------------------

// half the width of an interval of resamples that were imputed one by one
static double boot_half(const report *p, int i) {
  const double df = p->boot.df[i];
  return dwols_quantile(p->m->keys->level, isfinite(df) ? df : INFINITY) * p->boot.se[i];
}


static void json_boot(const report *p) {
  rgm_json *j = p->json;
  if (p->boot.sets == 0) {
    return;
  }
  const char *const keys[] = {"psi", "se", "df"};
  const double *const all[] = {p->boot.psi, p->boot.se, p->boot.df};
  rgm_json_open(j, "bootstrap_then_imputation", '{');
  rgm_json_number(j, "resamples", (double)p->boot.resamples);
  rgm_json_number(j, "failed", (double)p->boot.failed);
  rgm_json_number(j, "imputations", (double)p->boot.sets);
  for (int what = 0; what < 3; what++) {
    rgm_json_open(j, keys[what], '[');
    for (int i = 0; i < p->m->psi; i++) {
      rgm_json_number(j, NULL, all[what][i]);
    }
    rgm_json_close(j, ']');
  }
  rgm_json_close(j, '}');
}


// beside imputation, then bootstrap
static void write_boot(const report *p) {
  if (p->boot.sets == 0) {
    return;
  }
  fprintf(p->text,
          "\nBootstrap, then imputation (%lld resamples%s, %lld imputations of each) beside "
          "imputation, then bootstrap\n  %-31s %10s %9s %7s %22s | %10s %9s\n",
          (long long)p->boot.resamples, p->boot.failed > 0 ? " with a fit" : "",
          (long long)p->boot.sets, "blip", "psi", "se", "df", "interval", "psi", "se");
  for (int k = 0; k < p->m->stages; k++) {
    for (int j = 0; j < p->m->stage[k].h; j++) {
      const int i = p->m->stage[k].first + j;
      const double half = boot_half(p, i), value = p->boot.psi[i];
      const dwols_form f = coefficient(p, k, j);
      char interval[48], name[RGM_FORMULA_NAME + 56], term[RGM_FORMULA_NAME + 40];
      snprintf(interval, sizeof interval, "(%.3f, %.3f)", value - half, value + half);
      dwols_psi_name(&p->m->stage[k], j, term);
      snprintf(name, sizeof name, "%d: %s", k + 1, term);
      fprintf(p->text, "  %-31s %10.4f %9.4f %7.1f %22s | %10.4f %9.4f\n", name, value,
              p->boot.se[i], p->boot.df[i], interval, f.value, f.se);
    }
  }
}


// ---- JSON --------------------------------------------------------------------------------------

// which treatments a stage has, unless two levels
static void json_arms(rgm_json *j, const dwols_arms *arms) {
  static const char *const kinds[] = {"binary", "multinomial", "ordinal", "continuous"};
  if (arms->kind == TREAT_BINARY) {
    return;
  }
  rgm_json_string(j, "kind", kinds[arms->kind]);
  rgm_json_open(j, arms->levels > 0 ? "levels" : "range", '[');
  for (int l = 0; l < arms->levels; l++) {
    rgm_json_string(j, NULL, arms->name[l]);
  }
  if (arms->levels == 0) {
    rgm_json_number(j, NULL, arms->least);
    rgm_json_number(j, NULL, arms->most);
  }
  rgm_json_close(j, ']');
}


static void json_stage(const report *p, int k) {
  const dwols_stage *s = &p->m->stage[k];
  rgm_json *j = p->json;
  const double *diag = p->diag + k * DIAG_COUNT, *failures = p->failures + k * 4;
  char name[RGM_FORMULA_NAME + 40];
  rgm_json_open(j, NULL, '{');
  rgm_json_number(j, "stage", k + 1);
  json_arms(j, &s->arms);
  const char *const keys[] = {"psi", "se", "ci", "lambda", "df", "sandwich_se"};
  rgm_json_open(j, "terms", '[');
  for (int i = 0; i < s->h; i++) {
    dwols_psi_name(s, i, name);
    rgm_json_string(j, NULL, name);
  }
  rgm_json_close(j, ']');
  for (int what = 0; what < 6; what++) {
    rgm_json_open(j, keys[what], '[');
    for (int i = 0; i < s->h; i++) {
      const dwols_form f = coefficient(p, k, i);
      if (what == 2) {
        rgm_json_open(j, NULL, '[');
        rgm_json_number(j, NULL, f.value - f.half);
        rgm_json_number(j, NULL, f.value + f.half);
        rgm_json_close(j, ']');
      } else {
        rgm_json_number(j, NULL,
                        what == 0   ? f.value
                        : what == 1 ? f.se
                        : what == 3 ? f.lambda
                        : what == 4 ? f.df
                                    : p->sandwich[s->first_all + s->e + s->f + i]);
      }
    }
    rgm_json_close(j, ']');
  }
  for (int i = 0; i < 3; i++) {
    rgm_json_open(j, method_names[i], '[');
    for (int c = 0; c < s->h; c++) {
      rgm_json_number(j, NULL, p->methods[i][s->first + c]);
    }
    rgm_json_close(j, ']');
  }
  rgm_json_open(j, "propensity", '{');
  for (int i = 0; i < s->e; i++) {
    dwols_treat_name(s, i, name);
    rgm_json_number(j, name, p->theta[s->first_all + i]);
  }
  rgm_json_close(j, '}');
  rgm_json_open(j, "treatment_free", '{');
  for (int i = 0; i < s->f; i++) {
    rgm_json_number(j, s->free.name[i], p->theta[s->first_all + s->e + i]);
  }
  rgm_json_close(j, '}');
  rgm_json_number(j, "ess", diag[DIAG_ESS_TREATED] + diag[DIAG_ESS_UNTREATED]);
  rgm_json_open(j, "diagnostics", '{');
  for (int i = 0; i < DIAG_COUNT; i++) {
    rgm_json_number(j, dwols_diag_names[i], diag[i]);
  }
  rgm_json_number(j, "interval_covers_0", p->covers[k]);
  rgm_json_close(j, '}');
  rgm_json_open(j, "degenerate", '{');
  rgm_json_number(j, "separated", failures[RGM_FIT_SEPARATED]);
  rgm_json_number(j, "singular", failures[RGM_FIT_SINGULAR]);
  rgm_json_number(j, "one_treatment", failures[RGM_FIT_EMPTY]);
  rgm_json_close(j, '}');
  rgm_json_string(j, "missing_from_treatment_free", s->missing_main);
  rgm_json_close(j, '}');
}


// what a rule gives at a stage, unless of two levels: shares of levels, or the mean dose
static void json_given(const report *p, int rule, int k) {
  const dwols_arms *arms = &p->m->stage[k].arms;
  char name[32];
  if (arms->kind == TREAT_BINARY) {
    return;
  }
  snprintf(name, sizeof name, "%s_%d", arms->kind == TREAT_CONTINUOUS ? "mean_dose" : "levels",
           k + 1);
  if (arms->kind == TREAT_CONTINUOUS) {
    rgm_json_number(p->json, name, p->dose[rule][k]);
    return;
  }
  rgm_json_open(p->json, name, '{');
  for (int l = 0; l < arms->levels; l++) {
    rgm_json_number(p->json, arms->name[l], p->given[rule][k][l]);
  }
  rgm_json_close(p->json, '}');
}


static rgm_status write_json(const report *p, FILE *csv, FILE *tex) {
  rgm_json *j = p->json;
  rgm_json_open(j, NULL, '{');
  rgm_json_number(j, "n", (double)p->m->frame.rows);
  rgm_json_number(j, "imputations", (double)p->done);
  rgm_json_number(j, "replicates", (double)p->m->keys->replicates);
  rgm_json_string(j, "data_digest", p->run->data_digest);
  rgm_json_open(j, "stages", '[');
  for (int k = 0; k < p->m->stages; k++) {
    json_stage(p, k);
  }
  rgm_json_close(j, ']');
  rgm_json_open(j, "strategies", '{');
  for (int rule = 0; rule < RULES; rule++) {
    rgm_json_open(j, rule_names[rule], '{');
    rgm_json_number(j, "treated_share", p->share[rule]);
    rgm_json_number(j, "apparent_value", p->value[rule]);
    rgm_json_open(j, "start_by_stage", '[');
    for (int k = 0; k < p->m->stages; k++) {
      rgm_json_number(j, NULL, p->started[rule][k]);
    }
    rgm_json_close(j, ']');
    for (int k = 0; k < p->m->stages; k++) {
      json_given(p, rule, k);
    }
    rgm_json_close(j, '}');
  }
  rgm_json_close(j, '}');
  json_boot(p);
  json_rhat(p);
  const rgm_status status = dwols_table1(p->m, csv, tex, j);
  rgm_json_close(j, '}');
  return status;
}


// the object, and Table 1 in files too
static rgm_status write_object(const report *p) {
  FILE *csv, *tex;
  RGM_TRY(open_file(p, "table1.csv", &csv));
  rgm_status status = open_file(p, "table1.tex", &tex);
  status = status == RGM_OK ? write_json(p, csv, tex) : status;
  const rgm_status closed = close_file(csv, "table1.csv");
  status = status == RGM_OK ? closed : status;
  const rgm_status last = close_file(tex, "table1.tex");
  return status == RGM_OK ? last : status;
}


// ---- text and tables ---------------------------------------------------------------------------

static void write_warnings(const report *p, int k) {
  const dwols_stage *s = &p->m->stage[k];
  const double *diag = p->diag + k * DIAG_COUNT, *failures = p->failures + k * 4;
  const double lost = failures[1] + failures[2] + failures[3];
  if (s->missing_main[0] != '\0') {
    fprintf(p->text, "  ! the treatment-free model as written lacks %s, which the blip has: %s\n",
            s->missing_main,
            p->m->keys->hierarchy == HIERARCHY_ADD
                ? "added"
                : "the blip is biased even where the propensity is right (hierarchy: add)");
  }
  if (lost > 0) {
    fprintf(p->text,
            "  ! %.1f of %lld resamples have no fit (%.1f separated, %.1f singular, %.1f "
            "with one treatment)\n",
            lost, (long long)p->m->keys->replicates, failures[1], failures[2], failures[3]);
  }
  if (diag[DIAG_E_OVERLAP] < 0.9) {
    fprintf(p->text,
            "  ! positivity: %.0f %% of propensities lie outside 0.05 to 0.95 (%.2g to "
            "%.2g)\n",
            100 - 100 * diag[DIAG_E_OVERLAP], diag[DIAG_E_MIN], diag[DIAG_E_MAX]);
  }
}


static void write_text(const report *p) {
  FILE *out = p->text;
  fprintf(out, "%lld patients, %lld imputation%s, %lld resamples of each\n",
          (long long)p->m->frame.rows, (long long)p->done, p->done == 1 ? "" : "s",
          (long long)p->m->keys->replicates);
  for (int k = 0; k < p->m->stages; k++) {
    const dwols_stage *s = &p->m->stage[k];
    const double *diag = p->diag + k * DIAG_COUNT;
    fprintf(out,
            "\nstage %d: %.0f eligible, %.0f %s; effective sizes %.0f and %.0f; SMD %.2f "
            "before, %.2f after weighting; residual sd %.1f, R2 %.2f; %.0f %% of intervals "
            "cover 0\n",
            k + 1, diag[DIAG_N], diag[DIAG_TREATED],
            s->arms.kind == TREAT_CONTINUOUS ? "above the median dose" : "treated",
            diag[DIAG_ESS_TREATED], diag[DIAG_ESS_UNTREATED], diag[DIAG_SMD_BEFORE],
            diag[DIAG_SMD_AFTER], diag[DIAG_RESIDUAL_SD], diag[DIAG_R2], 100 * p->covers[k]);
    write_warnings(p, k);
    fprintf(out, "  %-24s %10s %9s %22s %7s %9s | %10s %10s %10s\n", "blip", "psi", "se",
            "interval", "lambda", "sandwich", "dwols", "qlearning", "gest");
    for (int j = 0; j < s->h; j++) {
      const dwols_form f = coefficient(p, k, j);
      char interval[48], name[RGM_FORMULA_NAME + 40];
      snprintf(interval, sizeof interval, "(%.3f, %.3f)", f.value - f.half, f.value + f.half);
      dwols_psi_name(s, j, name);
      fprintf(out, "  %-24s %10.4f %9.4f %22s %7.2f %9.4f | %10.4f %10.4f %10.4f\n", name, f.value,
              f.se, interval, f.lambda, p->sandwich[s->first_all + s->e + s->f + j],
              p->methods[0][s->first + j], p->methods[1][s->first + j],
              p->methods[2][s->first + j]);
    }
  }
  fprintf(out, "\n  %-12s %14s %16s   starts by stage, of those eligible\n", "rule", "ever treated",
          "apparent value");
  for (int rule = 0; rule < RULES; rule++) {
    fprintf(out, "  %-12s %12.1f %% %16.2f  ", rule_names[rule], 100 * p->share[rule],
            p->value[rule]);
    for (int k = 0; k < p->m->stages; k++) {
      fprintf(out, " %5.1f %%", 100 * p->started[rule][k]);
    }
    for (int k = 0; k < p->m->stages; k++) {
      if (p->m->stage[k].arms.kind == TREAT_CONTINUOUS) {
        fprintf(out, "  mean dose %d: %.4g", k + 1, p->dose[rule][k]);
      }
    }
    fprintf(out, "\n");
  }
  fprintf(out, "Apparent values come from the models that chose the rule; adr and wis do not.\n");
}


// of a class of treatments: wait or start, a level, a quarter of a dose's range
static void flow_name(const dwols_arms *arms, int at, char out[64]) {
  const double quarter = 0.25 * (arms->most - arms->least);
  if (arms->kind == TREAT_BINARY) {
    snprintf(out, 64, "%s", at > 0 ? "start" : "wait");
  } else if (arms->kind != TREAT_CONTINUOUS) {
    snprintf(out, 64, "%s", arms->name[at]);
  } else {
    snprintf(out, 64, "%.4g to %.4g", arms->least + at * quarter, arms->least + (at + 1) * quarter);
  }
}


static rgm_status write_tables(const report *p) {
  FILE *csv, *tex, *flow;
  RGM_TRY(open_file(p, "psi.csv", &csv));
  if (csv == NULL) {
    return RGM_OK;
  }
  fprintf(csv, "stage,term,psi,se,low,high,lambda,df,sandwich_se\n");
  for (int k = 0; k < p->m->stages; k++) {
    for (int j = 0; j < p->m->stage[k].h; j++) {
      const dwols_form f = coefficient(p, k, j);
      const dwols_stage *s = &p->m->stage[k];
      char name[RGM_FORMULA_NAME + 40];
      dwols_psi_name(s, j, name);
      fprintf(csv, "%d,\"%s\",%.12g,%.12g,%.12g,%.12g,%.6g,%.6g,%.12g\n", k + 1, name, f.value,
              f.se, f.value - f.half, f.value + f.half, f.lambda, f.df,
              p->sandwich[s->first_all + s->e + s->f + j]);
    }
  }
  RGM_TRY(close_file(csv, "psi.csv"));
  RGM_TRY(open_file(p, "psi.tex", &tex));
  fprintf(tex,
          "\\begin{tabular}{llrrr}\nStage & Term & $\\hat\\psi$ & SE & %g\\,\\%% CI \\\\ "
          "\\hline\n",
          100.0 * p->m->keys->level);
  for (int k = 0; k < p->m->stages; k++) {
    for (int j = 0; j < p->m->stage[k].h; j++) {
      const dwols_form f = coefficient(p, k, j);
      char name[RGM_FORMULA_NAME + 40];
      dwols_psi_name(&p->m->stage[k], j, name);
      fprintf(tex, "%d & \\verb|%s| & %.3f & %.3f & (%.3f, %.3f) \\\\\n", k + 1, name, f.value,
              f.se, f.value - f.half, f.value + f.half);
    }
  }
  fprintf(tex, "\\end{tabular}\n");
  RGM_TRY(close_file(tex, "psi.tex"));
  RGM_TRY(open_file(p, "figure3_flow.csv", &flow));
  fprintf(flow, "stage,advised,received,patients\n");
  for (int k = 0; k < p->m->stages; k++) {
    const dwols_arms *arms = &p->m->stage[k].arms;
    const int classes = arms->kind == TREAT_CONTINUOUS ? 4 : arms->levels;
    for (int i = 0; i < classes * classes; i++) {
      char advised[64], received[64];
      flow_name(arms, i / classes, advised);
      flow_name(arms, i % classes, received);
      fprintf(flow, "%d,%s,%s,%.2f\n", k + 1, advised, received,
              p->flow[k][i / classes][i % classes]);
    }
  }
  return close_file(flow, "figure3_flow.csv");
}


rgm_status dwols_evaluate(rgm_run *run, rgm_json *json, FILE *text) {
  report *p = calloc(1, sizeof *p);
  if (p == NULL) {
    return rgm_fail(RGM_EMEMORY, "no memory for the report");
  }
  *p = (report){.run = run, .d = run->self, .json = json, .text = text};
  p->m = p->d->model;
  p->done = (int64_t)run->step;
  rgm_status status = p->done > 0 ? gather(p)
                                  : rgm_fail(RGM_EUSAGE, "no imputation is done; go on with "
                                                         "--resume");
  status = status == RGM_OK ? try_tables(p) : status;
  status = status == RGM_OK ? write_tables(p) : status;
  if (status == RGM_OK && p->m->keys->boot_first > 0) {
    status = dwols_boot_first(run, p->m, &p->boot);
  }
  status = status == RGM_OK ? write_imputations(p) : status;
  status = status == RGM_OK ? write_object(p) : status;
  if (status == RGM_OK && text != NULL) {
    write_text(p);
    write_boot(p);
    write_rhat(p);
  }
  free(p->theta);
  free(p);
  return status;
}
