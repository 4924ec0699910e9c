// SPDX-License-Identifier: Apache-2.0
// Heparin's episodes as a data set, with the columns that imports of hospital tables have
// (`regimen import mimic3-heparin`): states, the age of the last aPTT, six quantile bins of the
// hourly dose, reward, ends. What only a simulator knows has the role outcome or other: true aPTT,
// concentration, the hidden severity, events.

#include "envs/heparin.h"
#include "engine/dataset.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

// A column that is an observation, or a signal, as it is.
typedef struct source {
  const char *name, *unit, *doc;
  rgm_role role;
  int index; // of an observation; of a signal where `signal`
  bool signal;
} source;

static const source sources[] = {
    {"age", "a", "age", RGM_ROLE_STATE, HEPARIN_SEE_AGE, false},
    {"male", "1", "1 male, 0 female", RGM_ROLE_STATE, HEPARIN_SEE_MALE, false},
    {"weight", "kg", "weight", RGM_ROLE_STATE, HEPARIN_SEE_WEIGHT, false},
    {"gcs", "1", "Glasgow coma scale", RGM_ROLE_STATE, HEPARIN_SEE_GCS, false},
    {"sbp", "mmHg", "systolic blood pressure", RGM_ROLE_STATE, HEPARIN_SEE_SBP, false},
    {"dbp", "mmHg", "diastolic blood pressure", RGM_ROLE_STATE, HEPARIN_SEE_DBP, false},
    {"rr", "1/min", "respiratory rate", RGM_ROLE_STATE, HEPARIN_SEE_RR, false},
    {"tempc", "degC", "temperature", RGM_ROLE_STATE, HEPARIN_SEE_TEMPC, false},
    {"hgb", "g/dL", "haemoglobin", RGM_ROLE_STATE, HEPARIN_SEE_HGB, false},
    {"wbc", "K/uL", "white cells", RGM_ROLE_STATE, HEPARIN_SEE_WBC, false},
    {"platelet", "K/uL", "platelets", RGM_ROLE_STATE, HEPARIN_SEE_PLATELET, false},
    {"creatinine", "mg/dL", "creatinine", RGM_ROLE_STATE, HEPARIN_SEE_CREATININE, false},
    {"bilirubin", "mg/dL", "bilirubin", RGM_ROLE_STATE, HEPARIN_SEE_BILIRUBIN, false},
    {"inr", "1", "international normalised ratio", RGM_ROLE_STATE, HEPARIN_SEE_INR, false},
    {"pt", "s", "prothrombin time", RGM_ROLE_STATE, HEPARIN_SEE_PT, false},
    {"pco2", "mmHg", "carbon dioxide", RGM_ROLE_STATE, HEPARIN_SEE_PCO2, false},
    {"aptt", "s", "last known aPTT", RGM_ROLE_STATE, HEPARIN_SEE_APTT, false},
    {"aptt_age", "h", "time since it was drawn", RGM_ROLE_AGE, HEPARIN_SEE_APTT_AGE, false},
    {"heparin_before", "units/kg", "given in the hour before", RGM_ROLE_OTHER, HEPARIN_SEE_HEPARIN,
     false},
    {"heparin_infused", "units/kg", "infused in this hour", RGM_ROLE_OTHER, HEPARIN_SIGNAL_RATE,
     true},
    {"heparin_bolus", "units/kg", "given at once", RGM_ROLE_OTHER, HEPARIN_SIGNAL_BOLUS, true},
    {"reward", "1", "r_p of the true aPTT at the end of the hour, less penalties", RGM_ROLE_REWARD,
     HEPARIN_SIGNAL_REWARD, true},
    {"aptt_true", "s", "true aPTT at the end of the hour", RGM_ROLE_OUTCOME, HEPARIN_SIGNAL_NEXT,
     true},
    {"concentration", "U/mL", "of heparin, at the start of the hour", RGM_ROLE_OUTCOME,
     HEPARIN_SIGNAL_CONC, true},
    {"severity", "1", "hidden", RGM_ROLE_OUTCOME, HEPARIN_SIGNAL_SEVERITY, true},
    {"bleed", "1", "1 in the hour of a major bleed", RGM_ROLE_OUTCOME, HEPARIN_SIGNAL_BLEED, true},
    {"clot", "1", "1 in the hour of the first thrombosis", RGM_ROLE_OUTCOME, HEPARIN_SIGNAL_CLOT,
     true},
    {"death", "1", "1 in the hour of death", RGM_ROLE_OUTCOME, HEPARIN_SIGNAL_DEATH, true},
};

// The rows that are data: hours before the end. row[k] is one of the rollout's N x T.
typedef struct rows {
  const rgm_episodes *e;
  int64_t count, *row;
} rows;


static rgm_column *add(rgm_dataset *d, const char *name, rgm_role role, rgm_cell cell,
                       const char *unit, const char *of, const char *doc) {
  rgm_column *c = rgm_dataset_add(d, name, role, cell, unit);
  if (c != NULL) {
    snprintf(c->of, sizeof c->of, "%s", of);
    snprintf(c->doc, sizeof c->doc, "%s", doc);
  }
  return c;
}


static rgm_status add_order(rgm_dataset *d, const rows *r) {
  static const struct {
    const char *name, *unit;
    rgm_role role;
    rgm_cell cell;
  } order[] = {{"patient", "1", RGM_ROLE_PATIENT, RGM_CELL_I32},
               {"episode", "1", RGM_ROLE_EPISODE, RGM_CELL_I32},
               {"time", "h", RGM_ROLE_TIME, RGM_CELL_F64}};
  for (int k = 0; k < 3; k++) {
    rgm_column *c = add(d, order[k].name, order[k].role, order[k].cell, order[k].unit, "", "");
    if (c == NULL) {
      return RGM_EMEMORY;
    }
    for (int64_t i = 0; i < r->count; i++) {
      const int64_t steps = r->e->steps, row = r->row[i];
      rgm_cell_set(c, i, (double)(k < 2 ? row / steps : row % steps));
    }
  }
  return rgm_dataset_split(d, r->e->seed, r->e->validation, r->e->test);
}


static rgm_status add_sources(rgm_dataset *d, const rows *r) {
  for (size_t k = 0; k < sizeof sources / sizeof *sources; k++) {
    const source *s = &sources[k];
    const bool given = !s->signal && s->index == HEPARIN_SEE_HEPARIN && r->e->history;
    rgm_column *c = add(d, s->name, given ? RGM_ROLE_STATE : s->role, RGM_CELL_F32, s->unit,
                        s->role == RGM_ROLE_AGE ? "aptt" : "", s->doc);
    if (c == NULL) {
      return RGM_EMEMORY;
    }
    for (int64_t i = 0; i < r->count; i++) {
      ((float *)c->data)[i] = s->signal ? r->e->signals[r->row[i] * HEPARIN_SIGNALS + s->index]
                                        : r->e->obs[r->row[i] * HEPARIN_OBS + s->index];
    }
  }
  return RGM_OK;
}


static double dose_of(const rows *r, int64_t i) {
  const float *s = r->e->signals + r->row[i] * HEPARIN_SIGNALS;
  return (double)s[HEPARIN_SIGNAL_RATE] + (double)s[HEPARIN_SIGNAL_BOLUS];
}


static int ascending(const void *a, const void *b) {
  const double x = *(const double *)a, y = *(const double *)b;
  return x < y ? -1 : x > y;
}


// edges between the bins: quantiles of the doses of the training part
static rgm_status find_edges(rgm_dataset *d, const rows *r, double *edges) {
  const rgm_column *split = &d->column[rgm_dataset_role(d, RGM_ROLE_SPLIT)];
  const int64_t bins = r->e->bins;
  double *sorted = malloc((size_t)(r->count + 1) * sizeof *sorted);
  int64_t n = 0;
  char text[4096] = "";
  if (sorted == NULL) {
    return rgm_fail(RGM_EMEMORY, "no memory for %lld doses", (long long)r->count);
  }
  for (int64_t i = 0; i < r->count; i++) {
    if (rgm_cell_get(split, i) == RGM_TRAIN) {
      sorted[n++] = dose_of(r, i);
    }
  }
  qsort(sorted, (size_t)n, sizeof *sorted, ascending);
  bool apart = n >= bins;
  for (int64_t b = 1; b < bins && apart; b++) {
    edges[b - 1] = rgm_quantile_sorted(sorted, n, (double)b / (double)bins);
    apart = edges[b - 1] > (b > 1 ? edges[b - 2] : sorted[0] - 1.0) && edges[b - 1] < sorted[n - 1];
    const size_t used = strlen(text);
    snprintf(text + used, sizeof text - used, "%s%.9g", b > 1 ? " " : "", edges[b - 1]);
  }
  free(sorted);
  return apart ? rgm_dataset_note(d, "actions.edges", text)
               : rgm_fail(RGM_EDATA,
                          "simulate.bins: equal doses merge two of %lld bins of the "
                          "training part; fewer bins, or env.noise above 0",
                          (long long)bins);
}


static rgm_status add_actions(rgm_dataset *d, const rows *r) {
  double edges[128];
  RGM_ASSERT(r->e->bins <= 128);
  RGM_TRY(find_edges(d, r, edges));
  rgm_column *c = add(d, "action", RGM_ROLE_ACTION, RGM_CELL_I32, "1", "",
                      "bin of the dose, from the training rows");
  if (c == NULL) {
    return RGM_EMEMORY;
  }
  c->choices = r->e->bins;
  for (int64_t i = 0; i < r->count; i++) {
    int bin = 0;
    for (int64_t b = 0; b + 1 < r->e->bins; b++) {
      bin += dose_of(r, i) > edges[b];
    }
    ((int32_t *)c->data)[i] = bin;
  }
  c = add(d, "heparin_dose", RGM_ROLE_DOSE, RGM_CELL_F64, "units/kg/h", "action",
          "given in this step");
  for (int64_t i = 0; i < r->count && c != NULL; i++) {
    ((double *)c->data)[i] = dose_of(r, i);
  }
  return c != NULL ? RGM_OK : RGM_EMEMORY;
}


// what was measured in the hour, as imports have it: missing where nothing was
static rgm_status add_measured(rgm_dataset *d, const rows *r) {
  rgm_column *c = add(d, "aptt_new", RGM_ROLE_OUTCOME, RGM_CELL_F32, "s", "",
                      "drawn at the start of this hour, known later; missing where nothing was");
  for (int64_t i = 0; i < r->count && c != NULL; i++) {
    const float new = r->e->signals[r->row[i] * HEPARIN_SIGNALS + HEPARIN_SIGNAL_NEW];
    ((float *)c->data)[i] = new > 0.0f ? new : NAN;
  }
  return c != NULL ? RGM_OK : RGM_EMEMORY;
}


static rgm_status add_ends(rgm_dataset *d, const rows *r) {
  for (int k = 0; k < 2; k++) {
    rgm_column *c = add(d, k == 0 ? "terminated" : "truncated",
                        k == 0 ? RGM_ROLE_TERMINATED : RGM_ROLE_TRUNCATED, RGM_CELL_U8, "1", "",
                        k == 0 ? "a major bleed or death in this hour" : "the recording ended");
    if (c == NULL) {
      return RGM_EMEMORY;
    }
    for (int64_t i = 0; i < r->count; i++) {
      const float *s = r->e->signals + r->row[i] * HEPARIN_SIGNALS;
      const bool ended = s[HEPARIN_SIGNAL_BLEED] > 0.0f || s[HEPARIN_SIGNAL_DEATH] > 0.0f;
      const bool last = r->row[i] % r->e->steps == r->e->steps - 1;
      ((uint8_t *)c->data)[i] = k == 0 ? ended : last && !ended;
    }
  }
  return RGM_OK;
}


rgm_status heparin_record(const void *keys, const rgm_episodes *episodes, rgm_dataset **out);
rgm_status heparin_record(const void *keys, const rgm_episodes *episodes, rgm_dataset **out) {
  const int64_t all = episodes->count * episodes->steps;
  rows r = {episodes, 0, malloc((size_t)(all + 1) * sizeof *r.row)};
  (void)keys;
  *out = NULL;
  if (r.row == NULL) {
    return rgm_fail(RGM_EMEMORY, "no memory for %lld rows", (long long)all);
  }
  for (int64_t i = 0; i < all; i++) {
    if (episodes->signals[i * HEPARIN_SIGNALS + HEPARIN_SIGNAL_VALID] > 0.0f) {
      r.row[r.count++] = i;
    }
  }
  rgm_dataset *d = rgm_dataset_new(r.count);
  rgm_status status = d != NULL ? add_order(d, &r) : RGM_EMEMORY;
  status = status == RGM_OK ? add_sources(d, &r) : status;
  status = status == RGM_OK ? add_actions(d, &r) : status;
  status = status == RGM_OK ? add_measured(d, &r) : status;
  status = status == RGM_OK ? add_ends(d, &r) : status;
  free(r.row);
  if (status == RGM_OK) {
    *out = d;
  } else {
    rgm_dataset_free(d);
  }
  return status;
}
