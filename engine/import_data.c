// SPDX-License-Identifier: Apache-2.0
// A panel becomes a data set: split by patient, missing values filled from the nearest training
// rows, doses cut into actions at quantiles of the training rows, rewards, and the columns with
// names, units and roles.

#include "engine/import.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

rgm_status rgm_import_panel_alloc(import *m, int64_t rows) {
  import_panel *p = &m->panel;
  const size_t n = (size_t)rows, v = (size_t)m->rules.variable_count;
  const size_t outcomes = (size_t)(p->outcome_count > 0 ? p->outcome_count : 1);
  p->rows = rows;
  p->episode = calloc(n, sizeof *p->episode);
  p->patient = calloc(n, sizeof *p->patient);
  p->time = calloc(n, sizeof *p->time);
  p->value = malloc(n * v * sizeof *p->value);
  p->age = malloc(n * v * sizeof *p->age);
  p->dose = calloc(n, sizeof *p->dose);
  p->bolus = calloc(n, sizeof *p->bolus);
  p->fresh = malloc(n * sizeof *p->fresh);
  p->next = malloc(n * sizeof *p->next);
  p->terminated = calloc(n, 1);
  p->truncated = calloc(n, 1);
  p->end = calloc(n, 1);
  p->outcome = malloc(n * outcomes * sizeof *p->outcome);
  if (p->episode == NULL || p->patient == NULL || p->time == NULL || p->value == NULL ||
      p->age == NULL || p->dose == NULL || p->bolus == NULL || p->fresh == NULL ||
      p->next == NULL || p->terminated == NULL || p->truncated == NULL || p->end == NULL ||
      p->outcome == NULL) {
    return rgm_fail(RGM_EMEMORY, "no memory for %lld rows of %zu variables", (long long)rows, v);
  }
  for (size_t i = 0; i < n * v; i++) {
    p->value[i] = p->age[i] = NAN;
  }
  for (size_t i = 0; i < n; i++) {
    p->fresh[i] = p->next[i] = NAN;
  }
  for (size_t i = 0; i < n * outcomes; i++) {
    p->outcome[i] = NAN;
  }
  return RGM_OK;
}


// 2 / (1 + exp(low - x)) - 2 / (1 + exp(high - x)) - 1 in a form that does not overflow: about 1
// within [low, high], -1 outside, 0 at its ends
double rgm_import_reward(double value, double low, double high) {
  return tanh((value - low) / 2) - tanh((value - high) / 2) - 1;
}


// ---- imputation --------------------------------------------------------------------------------

// Mean and sd of every variable over the training rows, and its donors.
typedef struct knn {
  int variables, k;
  const double *value;  // (rows, variables) as measured
  double *mean, *scale; // (variables)
  bool absent[IMPORT_VARIABLES];
  int64_t *donor;   // rows
  double *distance; // (k), ascending
  int64_t *nearest; // (k)
} knn;


static bool train_moments(knn *n, int64_t rows, const uint8_t *train, const import_rules *rules) {
  for (int v = 0; v < n->variables; v++) {
    double sum = 0, squares = 0;
    int64_t count = 0;
    for (int64_t i = 0; i < rows; i++) {
      const double x = n->value[i * n->variables + v];
      if (train[i] && !isnan(x)) {
        sum += x;
        count++;
      }
    }
    n->mean[v] = count > 0 ? sum / (double)count : NAN;
    for (int64_t i = 0; i < rows; i++) {
      const double x = n->value[i * n->variables + v];
      squares += train[i] && !isnan(x) ? (x - n->mean[v]) * (x - n->mean[v]) : 0;
    }
    const double sd = count > 1 ? sqrt(squares / (double)(count - 1)) : 0;
    n->scale[v] = sd > 0 ? 1 / sd : 1;
    n->absent[v] = count == 0;
    if (count == 0 && !rules->variable[v].optional) {
      rgm_fail(RGM_EDATA,
               "%s is never measured in the training rows: take it out of import.variables, or "
               "check variable.%s",
               rules->variable[v].name, rules->variable[v].name);
      return false;
    }
  }
  return true;
}


// mean squared difference of two rows over the variables that both have; infinite: none
static double row_distance(const knn *n, int64_t a, int64_t b) {
  const double *x = n->value + a * n->variables, *y = n->value + b * n->variables;
  double sum = 0;
  int shared = 0;
  for (int v = 0; v < n->variables; v++) {
    if (!isnan(x[v]) && !isnan(y[v])) {
      const double d = (x[v] - y[v]) * n->scale[v];
      sum += d * d;
      shared++;
    }
  }
  return shared > 0 ? sum / shared : INFINITY;
}


// the mean of variable v over the k donors nearest to a row, ties to the earlier donor
static double borrow(knn *n, int64_t row, int v, int64_t donors) {
  int found = 0;
  for (int64_t i = 0; i < donors; i++) {
    const double d = row_distance(n, row, n->donor[i]);
    if (isinf(d) || (found == n->k && d >= n->distance[found - 1])) {
      continue;
    }
    int at = found < n->k ? found++ : found - 1;
    for (; at > 0 && n->distance[at - 1] > d; at--) {
      n->distance[at] = n->distance[at - 1];
      n->nearest[at] = n->nearest[at - 1];
    }
    n->distance[at] = d;
    n->nearest[at] = n->donor[i];
  }
  double sum = 0;
  for (int i = 0; i < found; i++) {
    sum += n->value[n->nearest[i] * n->variables + v];
  }
  return found > 0 ? sum / found : n->mean[v];
}


// the rows that may lend variable v: at most `most` training rows that have it, evenly spaced
static int64_t find_donors(knn *n, int64_t rows, const uint8_t *train, int v, int64_t most) {
  int64_t all = 0, seen = 0, count = 0;
  for (int64_t i = 0; i < rows; i++) {
    all += train[i] && !isnan(n->value[i * n->variables + v]);
  }
  const int64_t wanted = all < most ? all : most;
  for (int64_t i = 0; i < rows && count < wanted; i++) {
    if (train[i] && !isnan(n->value[i * n->variables + v])) {
      if (seen * wanted / all >= count) {
        n->donor[count++] = i;
      }
      seen++;
    }
  }
  return count;
}


// fills `filled`, a copy of the panel's values, where they are NaN
static rgm_status impute(import *m, const uint8_t *train, double *filled) {
  const import_keys *key = &m->rules.key;
  const int variables = m->rules.variable_count;
  const size_t k = (size_t)key->k;
  knn n = {.variables = variables, .k = (int)key->k, .value = m->panel.value};
  n.mean = calloc((size_t)variables, sizeof *n.mean);
  n.scale = calloc((size_t)variables, sizeof *n.scale);
  n.donor = calloc((size_t)key->donors, sizeof *n.donor);
  n.distance = calloc(k, sizeof *n.distance);
  n.nearest = calloc(k, sizeof *n.nearest);
  rgm_status status = RGM_OK;
  if (n.mean == NULL || n.scale == NULL || n.donor == NULL || n.distance == NULL ||
      n.nearest == NULL) {
    status = rgm_fail(RGM_EMEMORY, "no memory for %lld donors", (long long)key->donors);
  } else if (!train_moments(&n, m->panel.rows, train, &m->rules)) {
    status = RGM_EDATA;
  }
  for (int v = 0; v < variables && status == RGM_OK && key->impute == IMPUTE_KNN; v++) {
    const int64_t donors = find_donors(&n, m->panel.rows, train, v, key->donors);
    for (int64_t i = 0; i < m->panel.rows; i++) {
      const int64_t cell = i * variables + v;
      if (isnan(filled[cell]) && !n.absent[v]) {
        filled[cell] = borrow(&n, i, v, donors);
      }
    }
  }
  for (int v = 0; v < variables; v++) {
    m->rules.variable[v].absent = n.absent[v];
  }
  free(n.mean);
  free(n.scale);
  free(n.donor);
  free(n.distance);
  free(n.nearest);
  return status;
}


// ---- actions -----------------------------------------------------------------------------------

static int ascending(const void *a, const void *b) {
  const double x = *(const double *)a, y = *(const double *)b;
  return x < y ? -1 : x > y;
}


// Action of a dose: how many edges lie below it; with a zero bin, 0 for none and 1 + that for some.
static int64_t action_of(const import *m, double dose) {
  int64_t action = m->rules.key.zero_bin && dose > 0;
  if (m->rules.key.zero_bin && dose <= 0) {
    return 0;
  }
  for (int i = 0; i < m->edge_count; i++) {
    action += dose > m->edges[i];
  }
  return action;
}


// edges at quantiles of the sorted training doses; `count` of them are cut into `bins`
static rgm_status cut(import *m, const double *dose, int64_t count, int64_t bins) {
  const import_keys *key = &m->rules.key;
  if (count < bins) {
    return rgm_fail(RGM_EDATA, "actions.bins: %lld doses in the training rows for %lld bins",
                    (long long)count, (long long)bins);
  }
  for (int64_t b = 1; b < bins; b++) {
    m->edges[b - 1] = rgm_quantile_sorted(dose, count, (double)b / (double)bins);
  }
  m->edge_count = (int)bins - 1;
  for (int i = 0; i < m->edge_count; i++) {
    const bool merged =
        i == 0 ? !key->zero_bin && m->edges[0] <= 0 : m->edges[i] <= m->edges[i - 1];
    if (merged || (i == m->edge_count - 1 && m->edges[i] >= dose[count - 1])) {
      int64_t zeros = 0;
      for (int64_t k = 0; k < count; k++) {
        zeros += dose[k] <= 0;
      }
      return rgm_fail(RGM_EDATA,
                      "actions: equal doses merge edges %d and %d of %lld bins (%.0f %% of the "
                      "training hours are without the drug); set actions.zero_bin=true, or fewer "
                      "actions.bins",
                      i, i + 1, (long long)bins, 100.0 * (double)zeros / (double)count);
    }
  }
  return RGM_OK;
}


// edges and each bin's median dose, from the training rows
static rgm_status find_actions(import *m, const uint8_t *train, const double *dose) {
  const import_keys *key = &m->rules.key;
  const int64_t rows = m->panel.rows;
  double *sorted = malloc(((size_t)rows + 1) * sizeof *sorted);
  m->edges = calloc((size_t)key->bins + 1, sizeof *m->edges);
  m->typical = calloc((size_t)key->bins + 1, sizeof *m->typical);
  if (sorted == NULL || m->edges == NULL || m->typical == NULL) {
    free(sorted);
    return rgm_fail(RGM_EMEMORY, "no memory for %lld doses", (long long)rows);
  }
  int64_t count = 0;
  for (int64_t i = 0; i < rows; i++) {
    if (train[i] && (!key->zero_bin || dose[i] > 0)) {
      sorted[count++] = dose[i];
    }
  }
  qsort(sorted, (size_t)count, sizeof *sorted, ascending);
  const rgm_status status = cut(m, sorted, count, key->bins - key->zero_bin);
  for (int64_t b = 0; b < key->bins && status == RGM_OK; b++) {
    int64_t n = 0;
    for (int64_t i = 0; i < rows; i++) {
      if (train[i] && action_of(m, dose[i]) == b) {
        sorted[n++] = dose[i];
      }
    }
    qsort(sorted, (size_t)n, sizeof *sorted, ascending);
    m->typical[b] = n > 0 ? rgm_quantile_sorted(sorted, n, 0.5) : NAN;
  }
  free(sorted);
  return status;
}


// ---- columns -----------------------------------------------------------------------------------

static rgm_status add(import *m, const char *name, rgm_role role, rgm_cell cell, const char *unit,
                      const char *of, const char *doc, rgm_column **out) {
  rgm_column *c = rgm_dataset_add(m->data, name, role, cell, unit);
  if (c == NULL) {
    return RGM_EMEMORY;
  }
  snprintf(c->of, sizeof c->of, "%s", of);
  snprintf(c->doc, sizeof c->doc, "%s", doc);
  *out = c;
  return RGM_OK;
}


static rgm_status add_variable(import *m, int v, const double *filled) {
  const import_keys *key = &m->rules.key;
  const import_panel *p = &m->panel;
  const import_variable *var = &m->rules.variable[v];
  const int variables = m->rules.variable_count;
  const bool constant = rgm_import_is_constant(var);
  char name[64];
  rgm_column *c;
  RGM_TRY(add(m, var->name, var->state ? RGM_ROLE_STATE : RGM_ROLE_OTHER, RGM_CELL_F32, var->unit,
              "", var->doc, &c));
  c->low = var->above > -1e299 ? var->above : NAN;
  c->high = var->below < 1e299 ? var->below : NAN;
  for (int64_t i = 0; i < p->rows; i++) {
    rgm_cell_set(c, i, filled[i * variables + v]);
  }
  if (!constant) {
    const bool seen = var->state && (key->see_ages == AGES_ALL ||
                                     (key->see_ages == AGES_MONITOR && v == m->rules.monitor));
    snprintf(name, sizeof name, "%.50s_age", var->name);
    RGM_TRY(add(m, name, seen ? RGM_ROLE_AGE : RGM_ROLE_OTHER, RGM_CELL_F32, "h",
                seen ? var->name : "", "time since it was measured", &c));
    c->fill = key->hours_max + (var->lookback < 1e4 ? var->lookback : 0);
    // what was filled in counts as old as a value can be
    for (int64_t i = 0; i < p->rows; i++) {
      const double age = p->age[i * variables + v];
      rgm_cell_set(c, i, isnan(age) && key->impute == IMPUTE_KNN ? c->fill : age);
    }
  }

  // a flag of role missing says that the value itself is missing, which an imputed one is not
  const bool imputed = key->impute == IMPUTE_KNN, seen = key->see_missing && var->state;
  snprintf(name, sizeof name, "%.50s_missing", var->name);
  RGM_TRY(add(m, name,
              !seen     ? RGM_ROLE_OTHER
              : imputed ? RGM_ROLE_STATE
                        : RGM_ROLE_MISSING,
              RGM_CELL_U8, "1", seen && !imputed ? var->name : "",
              imputed ? "1 where the value was filled in" : "1 where there is no value", &c));
  for (int64_t i = 0; i < p->rows; i++) {
    rgm_cell_set(c, i, isnan(p->value[i * variables + v]));
  }
  return RGM_OK;
}


// doses, actions
static rgm_status add_actions(import *m, const uint8_t *train, const double *filled) {
  const import_keys *key = &m->rules.key;
  const import_panel *p = &m->panel;
  const int variables = m->rules.variable_count;
  char name[RGM_STRING_SIZE + 16], unit[RGM_STRING_SIZE + 16];
  rgm_column *c;
  if (p->action != NULL) {
    int64_t most = 0;
    RGM_TRY(add(m, "action", RGM_ROLE_ACTION, RGM_CELL_I32, "1", "", "as given", &c));
    for (int64_t i = 0; i < p->rows; i++) {
      rgm_cell_set(c, i, p->action[i]);
      most = p->action[i] > most ? p->action[i] : most;
    }
    c->choices = most + 1;
    return RGM_OK;
  }
  double *dose = malloc(((size_t)p->rows + 1) * sizeof *dose);
  if (dose == NULL) {
    return rgm_fail(RGM_EMEMORY, "no memory for %lld doses", (long long)p->rows);
  }
  int64_t unknown = 0;
  for (int64_t i = 0; i < p->rows; i++) {
    dose[i] = p->dose[i] + (key->with_bolus ? p->bolus[i] : 0);
    if (key->per_kg && dose[i] > 0) {
      dose[i] /= filled[i * variables + m->rules.weight];
    }
    unknown += isnan(dose[i]);
  }
  rgm_status status =
      unknown == 0 ? find_actions(m, train, dose)
                   : rgm_fail(RGM_EDATA,
                              "dose.per_kg: %lld rows with a dose are without a weight; "
                              "impute.method=knn fills it in, dose.per_kg=false does without",
                              (long long)unknown);
  if (status == RGM_OK) {
    status = add(m, "action", RGM_ROLE_ACTION, RGM_CELL_I32, "1", "",
                 "bin of the dose, from the training rows", &c);
  }
  for (int64_t i = 0; i < p->rows && status == RGM_OK; i++) {
    rgm_cell_set(c, i, (double)action_of(m, dose[i]));
    c->choices = key->bins;
  }
  snprintf(name, sizeof name, "%.40s_dose", key->name);
  snprintf(unit, sizeof unit, "%.20s%s%s", key->unit, key->per_kg ? "/kg" : "",
           m->dose_count > 0 ? "/h" : "");
  if (status == RGM_OK) {
    status = add(m, name, RGM_ROLE_DOSE, RGM_CELL_F64, unit, "action", "given in this step", &c);
  }
  for (int64_t i = 0; i < p->rows && status == RGM_OK; i++) {
    rgm_cell_set(c, i, dose[i]);
  }
  free(dose);
  RGM_TRY(status);
  if (m->dose_count > 0) {
    snprintf(name, sizeof name, "%.40s_infused", key->name);
    RGM_TRY(add(m, name, RGM_ROLE_OTHER, RGM_CELL_F64, key->unit, "", "infused in this hour", &c));
    memcpy(c->data, p->dose, (size_t)p->rows * sizeof(double));
    snprintf(name, sizeof name, "%.40s_bolus", key->name);
    RGM_TRY(add(m, name, RGM_ROLE_OTHER, RGM_CELL_F64, key->unit, "", "given at once", &c));
    memcpy(c->data, p->bolus, (size_t)p->rows * sizeof(double));
  }
  return RGM_OK;
}


// The reward of a row: of the monitor as the state after it shows it, held or filled in. What was
// measured in the hour is an outcome, to score policies with.
static rgm_status add_rewards(import *m, const double *filled) {
  const import_keys *key = &m->rules.key;
  const import_panel *p = &m->panel;
  const int variables = m->rules.variable_count, v = m->rules.monitor;
  char name[64];
  rgm_column *c;
  if (p->reward != NULL) {
    RGM_TRY(add(m, "reward", RGM_ROLE_REWARD, RGM_CELL_F64, "1", "", "as given", &c));
    memcpy(c->data, p->reward, (size_t)p->rows * sizeof(double));
  }
  if (v < 0) {
    return RGM_OK;
  }
  const import_variable *var = &m->rules.variable[v];
  if (p->reward == NULL) {
    RGM_TRY(add(m, "reward", RGM_ROLE_REWARD, RGM_CELL_F32, "1", "",
                "r_p: 1 within the target range, -1 outside, of the value held after this step",
                &c));
    for (int64_t i = 0; i < p->rows; i++) {
      const bool more = i + 1 < p->rows && p->episode[i + 1] == p->episode[i];
      const double next = more                ? filled[(i + 1) * variables + v]
                          : isnan(p->next[i]) ? filled[i * variables + v]
                                              : p->next[i];
      rgm_cell_set(c, i, rgm_import_reward(next, key->low, key->high));
    }
  }
  snprintf(name, sizeof name, "%.50s_new", var->name);
  RGM_TRY(add(m, name, RGM_ROLE_OUTCOME, RGM_CELL_F32, var->unit, "",
              "measured within this step, the last one", &c));
  for (int64_t i = 0; i < p->rows; i++) {
    rgm_cell_set(c, i, p->fresh[i]);
  }
  RGM_TRY(add(m, "reward_measured", RGM_ROLE_OUTCOME, RGM_CELL_F32, "1", "",
              "r_p of what was measured within this step; missing where nothing was", &c));
  for (int64_t i = 0; i < p->rows; i++) {
    rgm_cell_set(c, i, rgm_import_reward(p->fresh[i], key->low, key->high));
  }
  return RGM_OK;
}


static rgm_status add_ends(import *m) {
  const import_panel *p = &m->panel;
  rgm_column *c;
  for (int k = 0; k < p->outcome_count; k++) {
    RGM_TRY(add(m, p->outcome_name[k], RGM_ROLE_OUTCOME, RGM_CELL_F32, "1", "", "", &c));
    for (int64_t i = 0; i < p->rows; i++) {
      rgm_cell_set(c, i, p->outcome[i * p->outcome_count + k]);
    }
  }
  if (m->dose_count > 0) {
    RGM_TRY(add(m, "end", RGM_ROLE_OUTCOME, RGM_CELL_U8, "1", "",
                "why the course ended: 0 stopped, 1 death, 2 left the unit, 3 cut", &c));
    memcpy(c->data, p->end, (size_t)p->rows);
  }
  RGM_TRY(add(m, "terminated", RGM_ROLE_TERMINATED, RGM_CELL_U8, "1", "",
              "the course ended by itself after this row", &c));
  memcpy(c->data, p->terminated, (size_t)p->rows);
  RGM_TRY(add(m, "truncated", RGM_ROLE_TRUNCATED, RGM_CELL_U8, "1", "",
              "only the recording ended after this row", &c));
  memcpy(c->data, p->truncated, (size_t)p->rows);
  return RGM_OK;
}


static rgm_status add_columns(import *m, const uint8_t *train, double *filled) {
  RGM_TRY(impute(m, train, filled));
  for (int v = 0; v < m->rules.variable_count; v++) {
    if (!m->rules.variable[v].absent) {
      RGM_TRY(add_variable(m, v, filled));
    }
  }
  RGM_TRY(add_actions(m, train, filled));
  RGM_TRY(add_rewards(m, filled));
  return add_ends(m);
}


rgm_status rgm_import_dataset(import *m) {
  const import_keys *key = &m->rules.key;
  const import_panel *p = &m->panel;
  const size_t cells = (size_t)p->rows * (size_t)m->rules.variable_count;
  m->data = rgm_dataset_new(p->rows);
  rgm_column *c;
  if (m->data == NULL) {
    return RGM_EMEMORY;
  }
  RGM_TRY(add(m, "patient", RGM_ROLE_PATIENT, RGM_CELL_I32, "1", "", "an index, no id", &c));
  memcpy(c->data, p->patient, (size_t)p->rows * sizeof(int32_t));
  RGM_TRY(add(m, "episode", RGM_ROLE_EPISODE, RGM_CELL_I32, "1", "", "an index, no id", &c));
  memcpy(c->data, p->episode, (size_t)p->rows * sizeof(int32_t));
  RGM_TRY(add(m, "time", RGM_ROLE_TIME, RGM_CELL_F64, "h", "", "beginning of the step", &c));
  memcpy(c->data, p->time, (size_t)p->rows * sizeof(double));
  RGM_TRY(rgm_dataset_split(m->data, (uint64_t)key->seed, key->validation, key->test));

  const rgm_column *split = &m->data->column[rgm_dataset_role(m->data, RGM_ROLE_SPLIT)];
  uint8_t *train = malloc((size_t)p->rows);
  double *filled = malloc((cells + 1) * sizeof *filled);
  rgm_status status = RGM_OK;
  if (train == NULL || filled == NULL) {
    status = rgm_fail(RGM_EMEMORY, "no memory for %zu values", cells);
  } else {
    int64_t trained = 0;
    for (int64_t i = 0; i < p->rows; i++) {
      train[i] = rgm_cell_get(split, i) == RGM_TRAIN;
      trained += train[i];
    }
    memcpy(filled, p->value, cells * sizeof *filled);
    status = trained == 0 ? rgm_fail(RGM_EDATA, "no patient falls into the training part; change "
                                                "split.seed or split.validation")
                          : add_columns(m, train, filled);
  }
  free(train);
  free(filled);
  return status;
}
