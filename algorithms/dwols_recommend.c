// SPDX-License-Identifier: Apache-2.0
// Advice for a patient from what a checkpoint of dwols holds: the pooled estimates and their
// covariance, levels and knots of the blips, the range of every input in training.
//
//   crude: start where h'psi > 0; stringent: where its interval lies above 0.
//
// Of several levels or a dose: the best treatment, if it gains over the reference, or surely does.

#include "algorithms/dwols.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

// The rule of a checkpoint.
typedef struct rule {
  const rgm_recommendation *r;
  const dwols_keys *keys;
  rgm_frame frame; // of the inputs, without rows
  rgm_formula blip[DWOLS_STAGES], square[DWOLS_STAGES];
  dwols_arms arms[DWOLS_STAGES];
  uint8_t used[DWOLS_STAGES][DWOLS_INPUTS];
  dwols_pool pool;
  double ranges[DWOLS_INPUTS][2], freedom[DWOLS_STAGES];
  int first[DWOLS_STAGES];
} rule;


static rgm_status read_typed(const rule *u, const char *name, rgm_dtype dtype, void *out,
                             size_t bytes) {
  const rgm_record *record = rgm_checkpoint_record(u->r->checkpoint, name);
  size_t size = dtype == RGM_F64 ? sizeof(double) : 1;
  for (int i = 0; record != NULL && i < record->rank; i++) {
    size *= (size_t)record->dims[i];
  }
  if (record == NULL || record->dtype != dtype || size > bytes) {
    return rgm_fail(RGM_EDATA, "the checkpoint has no tensor %s of this model; train again", name);
  }
  memcpy(out, record->data, size);
  return RGM_OK;
}


static rgm_status read_tensor(const rule *u, const char *name, void *out, size_t bytes) {
  return read_typed(u, name, RGM_F64, out, bytes);
}


// treatments of a stage; of two levels nothing is kept
static rgm_status read_arms(rule *u, int k, bool general) {
  dwols_arms *arms = &u->arms[k];
  double levels[DWOLS_STAGES][DWOLS_LEVELS + 4] = {{0}};
  char words[DWOLS_STAGES][DWOLS_LEVELS][sizeof arms->name[0]] = {{{0}}};
  arms->kind = u->keys->stage[k].kind;
  levels[k][0] = 2;
  if (general) {
    RGM_TRY(read_tensor(u, "levels", levels, sizeof levels));
    RGM_TRY(read_typed(u, "words", RGM_U8, words, sizeof words));
  }
  if (!(levels[k][0] >= 0 && levels[k][0] <= DWOLS_LEVELS)) {
    return rgm_fail(RGM_EDATA, "the checkpoint has more levels than this program knows");
  }
  arms->levels = (int)levels[k][0];
  arms->least = levels[k][1];
  arms->most = levels[k][2];
  memcpy(arms->level, levels[k] + 4, sizeof arms->level);
  memcpy(arms->name, words[k], sizeof arms->name);
  for (int l = 0; l < DWOLS_LEVELS; l++) {
    arms->name[l][sizeof arms->name[l] - 1] = '\0';
  }
  if (!dwols_arms_make(arms, u->blip[k].columns, u->square[k].columns)) {
    return rgm_fail(RGM_EDATA, "the checkpoint has more coefficients than this program knows");
  }
  return RGM_OK;
}


// a formula with the levels and knots that it had in training
static rgm_status read_formula(rule *u, int k, const char *text, const double *numbers,
                               rgm_formula *f) {
  RGM_TRY(rgm_formula_parse("blip", text, &u->frame, false, f));
  memcpy(f->number, numbers, sizeof f->number);
  RGM_TRY(rgm_formula_name_columns("blip", f, &u->frame));
  rgm_formula_uses(f, u->used[k]);
  return RGM_OK;
}


static rgm_status read_rule(rule *u) {
  char names[DWOLS_INPUTS][64];
  double numbers[DWOLS_STAGES][RGM_FORMULA_NUMBERS], squares[DWOLS_STAGES][RGM_FORMULA_NUMBERS];
  const bool general = rgm_checkpoint_record(u->r->checkpoint, "levels") != NULL;
  int count = 0;
  for (int k = 0; k < u->keys->stages; k++) {
    RGM_TRY(rgm_formula_inputs("blip", u->keys->stage[k].blip, names, &count, DWOLS_INPUTS));
    RGM_TRY(rgm_formula_inputs("square", u->keys->stage[k].square, names, &count, DWOLS_INPUTS));
  }
  if (general) {
    RGM_TRY(read_tensor(u, "squares", squares, sizeof squares));
  }
  RGM_TRY(rgm_frame_names((const char(*)[64])names, count, &u->frame));
  RGM_TRY(read_tensor(u, "numbers", numbers, sizeof numbers));
  RGM_TRY(read_tensor(u, "ranges", u->ranges, sizeof u->ranges));
  RGM_TRY(read_tensor(u, "freedom", u->freedom, sizeof u->freedom));
  for (int k = 0; k < u->keys->stages; k++) {
    const dwols_stage_keys *keys = &u->keys->stage[k];
    RGM_TRY(read_formula(u, k, keys->blip, numbers[k], &u->blip[k]));
    if (keys->square[0] != '\0') {
      RGM_TRY(read_formula(u, k, keys->square, squares[k], &u->square[k]));
    }
    RGM_TRY(read_arms(u, k, general));
    u->first[k] = u->pool.count;
    u->pool.count += u->arms[k].terms;
  }
  if (u->pool.count > DWOLS_PSI) {
    return rgm_fail(RGM_EDATA, "the checkpoint has more coefficients than this program knows");
  }
  u->pool.imputations = u->keys->imputations;
  RGM_TRY(read_tensor(u, "psi", u->pool.psi, sizeof u->pool.psi));
  RGM_TRY(read_tensor(u, "total", u->pool.total, sizeof u->pool.total));
  RGM_TRY(read_tensor(u, "within", u->pool.within, sizeof u->pool.within));
  return read_tensor(u, "between", u->pool.between, sizeof u->pool.between);
}


// ---- a patient ---------------------------------------------------------------------------------

static bool has_inputs(const rule *u, int k, const double *values, char *lacks, size_t size) {
  lacks[0] = '\0';
  for (int i = 0; i < u->frame.columns; i++) {
    if (u->used[k][i] && isnan(values[i])) {
      const size_t used = strlen(lacks);
      snprintf(lacks + used, size - used, "%s%s", used > 0 ? ", " : "", u->frame.column[i].name);
    }
  }
  return lacks[0] == '\0';
}


// what psi of treatment a less treatment b say of a row [blip, square]
static dwols_form gain_of(const rule *u, int k, const double *row, double a, double b) {
  double h[RGM_FORMULA_COLUMNS];
  dwols_contrast(&u->arms[k], row, a, b, h);
  return dwols_pool_form(&u->pool, h, u->first[k], u->arms[k].terms, u->freedom[k],
                         u->keys->interval, u->keys->level);
}


static void write_form(rgm_json *j, const dwols_form *f) {
  rgm_json_number(j, "blip", f->value);
  rgm_json_number(j, "se", f->se);
  rgm_json_number(j, "low", f->value - f->half);
  rgm_json_number(j, "high", f->value + f->half);
}


static void write_stage(const rule *u, int k, const double *h, const dwols_form *f) {
  const bool crude = f->value > 0, stringent = f->value - f->half > 0;
  rgm_json *j = u->r->json;
  rgm_json_open(j, "design", '{');
  for (int i = 0; i < u->blip[k].columns; i++) {
    rgm_json_number(j, u->blip[k].name[i], h[i]);
  }
  rgm_json_close(j, '}');
  write_form(j, f);
  rgm_json_string(j, "crude", crude ? "start" : "wait");
  rgm_json_string(j, "stringent", stringent ? "start" : "wait");
  if (u->r->text != NULL) {
    fprintf(u->r->text, "  stage %d: blip %8.3f (%.3f, %.3f)  crude: %-5s  stringent: %-5s  h = (",
            k + 1, f->value, f->value - f->half, f->value + f->half, crude ? "start" : "wait",
            stringent ? "start" : "wait");
    for (int i = 0; i < u->blip[k].columns; i++) {
      fprintf(u->r->text, "%s%g", i > 0 ? ", " : "", h[i]);
    }
    fprintf(u->r->text, ")\n");
  }
}


static void name_treatment(const dwols_arms *arms, double a, char out[32]) {
  if (arms->kind == TREAT_CONTINUOUS) {
    snprintf(out, 32, "%.6g", a);
  } else {
    snprintf(out, 32, "%s", arms->name[(int)a]);
  }
}


// a level by its name, a dose as a number
static void write_treatment(const rule *u, int k, const char *key, double a) {
  const dwols_arms *arms = &u->arms[k];
  if (arms->kind == TREAT_CONTINUOUS) {
    rgm_json_number(u->r->json, key, a);
  } else {
    rgm_json_string(u->r->json, key, arms->name[(int)a]);
  }
}


// several levels, each over the reference; or a dose and what is gained along its range
static void write_choice(const rule *u, int k, const double *row, double best,
                         const dwols_form *f) {
  const dwols_arms *arms = &u->arms[k];
  const bool dose = arms->kind == TREAT_CONTINUOUS;
  const double none = dwols_reference(arms);
  const double crude = f->value > 0 ? best : none, sure = f->value - f->half > 0 ? best : none;
  rgm_json *j = u->r->json;
  write_treatment(u, k, "reference", none);
  write_form(j, f);
  write_treatment(u, k, "crude", crude);
  write_treatment(u, k, "stringent", sure);
  rgm_json_open(j, "treatments", '[');
  for (int i = 0; i < (dose ? 11 : arms->levels); i++) {
    const double a = dose ? arms->least + 0.1 * i * (arms->most - arms->least) : i;
    const dwols_form g = gain_of(u, k, row, a, none);
    rgm_json_open(j, NULL, '{');
    write_treatment(u, k, "treatment", a);
    write_form(j, &g);
    rgm_json_close(j, '}');
  }
  rgm_json_close(j, ']');
  if (u->r->text != NULL) {
    char names[3][32];
    name_treatment(arms, none, names[0]);
    name_treatment(arms, crude, names[1]);
    name_treatment(arms, sure, names[2]);
    fprintf(u->r->text,
            "  stage %d: over %s: best other %8.3f (%.3f, %.3f)  crude: %s  stringent: %s\n", k + 1,
            names[0], f->value, f->value - f->half, f->value + f->half, names[1], names[2]);
  }
}


// inputs that no patient of the training had
static void write_flags(const rule *u, const double *values) {
  rgm_json_open(u->r->json, "outside_training", '[');
  for (int i = 0; i < u->frame.columns; i++) {
    const double low = u->ranges[i][0], high = u->ranges[i][1];
    if (isnan(values[i]) || (values[i] >= low && values[i] <= high)) {
      continue;
    }
    rgm_json_string(u->r->json, NULL, u->frame.column[i].name);
    if (u->r->text != NULL) {
      fprintf(u->r->text, "  %s lies outside of what was seen in training, %g to %g\n",
              u->frame.column[i].name, low, high);
    }
  }
  rgm_json_close(u->r->json, ']');
}


static rgm_status write_patient(const rule *u, const double *values) {
  int crude = 0, stringent = 0;
  rgm_json_open(u->r->json, NULL, '{');
  rgm_json_open(u->r->json, "stages", '[');
  for (int k = 0; k < u->keys->stages; k++) {
    char lacks[1024];
    double row[2 * RGM_FORMULA_COLUMNS], sums[DWOLS_LEVELS];
    if (!has_inputs(u, k, values, lacks, sizeof lacks)) {
      rgm_json_open(u->r->json, NULL, '{');
      rgm_json_number(u->r->json, "stage", k + 1);
      rgm_json_string(u->r->json, "needs", lacks);
      rgm_json_close(u->r->json, '}');
      if (u->r->text != NULL) {
        fprintf(u->r->text, "  stage %d: needs %s\n", k + 1, lacks);
      }
      continue;
    }
    const dwols_arms *arms = &u->arms[k];
    rgm_formula_row(&u->blip[k], values, row);
    if (arms->square > 0) {
      rgm_formula_row(&u->square[k], values, row + arms->blip);
    }
    dwols_sums(arms, row, u->pool.psi + u->first[k], sums);
    const double best = dwols_best(arms, sums, true);
    const dwols_form f = gain_of(u, k, row, best, dwols_reference(arms));
    if (!isfinite(f.value)) {
      return rgm_fail(RGM_EDATA, "stage %d: the blip is not defined for these values", k + 1);
    }
    rgm_json_open(u->r->json, NULL, '{');
    rgm_json_number(u->r->json, "stage", k + 1);
    if (arms->kind == TREAT_BINARY) {
      write_stage(u, k, row, &f);
    } else {
      write_choice(u, k, row, best, &f);
    }
    rgm_json_close(u->r->json, '}');
    crude = crude == 0 && f.value > 0 ? k + 1 : crude;
    stringent = stringent == 0 && f.value - f.half > 0 ? k + 1 : stringent;
  }
  rgm_json_close(u->r->json, ']');
  rgm_json_number(u->r->json, "start_crude", crude);
  rgm_json_number(u->r->json, "start_stringent", stringent);
  write_flags(u, values);
  rgm_json_close(u->r->json, '}');
  if (u->r->text != NULL && stringent > 0) {
    fprintf(u->r->text, "  advice: %s at stage %d (its interval lies above 0)\n",
            u->arms[stringent - 1].kind == TREAT_BINARY ? "start" : "other than the reference",
            stringent);
  } else if (u->r->text != NULL) {
    fprintf(u->r->text, "  advice: no stage at which starting is better beyond chance\n");
  }
  return RGM_OK;
}


// "age=70" into its place
static rgm_status read_values(const rule *u, double *values) {
  for (int i = 0; i < u->frame.columns; i++) {
    values[i] = NAN;
  }
  for (int i = 0; i < u->r->set_count; i++) {
    char name[64] = "";
    const char *equals = strchr(u->r->set[i], '=');
    char *end = NULL;
    if (equals != NULL && equals - u->r->set[i] < 64) {
      memcpy(name, u->r->set[i], (size_t)(equals - u->r->set[i]));
    }
    const int column = rgm_frame_find(&u->frame, name);
    if (column < 0) {
      const char *nearest = rgm_frame_nearest(&u->frame, name);
      return rgm_fail(RGM_EUSAGE, "--set %s: the rule has no input \"%s\"%s%s%s", u->r->set[i],
                      name, nearest != NULL ? "; did you mean " : "",
                      nearest != NULL ? nearest : "", nearest != NULL ? "?" : "");
    }
    values[column] = strtod(equals + 1, &end);
    if (end == equals + 1 || *end != '\0' || !isfinite(values[column])) {
      return rgm_fail(RGM_EUSAGE, "--set %s: expected a number", u->r->set[i]);
    }
  }
  return RGM_OK;
}


static rgm_status advise_table(const rule *u) {
  rgm_frame table;
  double values[DWOLS_INPUTS];
  RGM_TRY(rgm_frame_read(u->r->csv, &table));
  rgm_status status = RGM_OK;
  for (int64_t row = 0; row < table.rows && status == RGM_OK; row++) {
    for (int i = 0; i < u->frame.columns; i++) {
      const int column = rgm_frame_find(&table, u->frame.column[i].name);
      values[i] = column >= 0 ? table.value[row * table.columns + column] : NAN;
    }
    if (u->r->text != NULL) {
      fprintf(u->r->text, "row %lld\n", (long long)row + 2);
    }
    status = write_patient(u, values);
  }
  rgm_frame_free(&table);
  return status;
}


rgm_status dwols_recommend(const rgm_recommendation *r) {
  rule *u = calloc(1, sizeof *u);
  if (u == NULL) {
    return rgm_fail(RGM_EMEMORY, "no memory for the rule");
  }
  *u = (rule){.r = r, .keys = r->keys};
  rgm_status status = RGM_OK;
  if (r->checkpoint->step < (uint64_t)u->keys->imputations) {
    status = rgm_fail(RGM_EDATA,
                      "the run is not done: %llu of %lld imputations; go on with "
                      "--resume",
                      (unsigned long long)r->checkpoint->step, (long long)u->keys->imputations);
  }
  status = status == RGM_OK ? read_rule(u) : status;
  if (status == RGM_OK) {
    double values[DWOLS_INPUTS];
    rgm_json_open(r->json, NULL, '[');
    if (r->csv != NULL) {
      status = advise_table(u);
    } else {
      status = read_values(u, values);
      status = status == RGM_OK ? write_patient(u, values) : status;
    }
    rgm_json_close(r->json, ']');
  }
  if (status == RGM_OK && r->text != NULL) {
    fprintf(r->text,
            "Blips in units of the outcome, %g %% intervals, %lld imputations. For "
            "research; not a medical device.\n",
            100.0 * u->keys->level, (long long)u->keys->imputations);
  }
  rgm_frame_free(&u->frame);
  free(u);
  return status;
}
