// SPDX-License-Identifier: Apache-2.0
// Dynamic weighted ordinary least squares for staged treatments (Wallace & Moodie 2015), as in
// Grolleau et al. 2024 (J Am Med Inform Assoc 31:1074) for when to start renal replacement therapy;
// Q-learning and G-estimation beside it. A step is one imputation: its designs, the sample itself
// and all its resamples, sixteen side by side, each with all its stages from the last one back:
//
//   e_k by logistic regression; w = |a - e|;
//   (beta_k, psi_k) = argmin sum w (y_k - x'beta - a h'psi)^2;
//   y_(k-1) = y_k + max(h'psi_k, 0) - a h'psi_k for those in stage k.
//
// Estimates of the imputations are pooled by Rubin's rules, with the bootstrap's covariances as
// what varies within them.

#include "algorithms/dwols.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define KEY(member) offsetof(dwols_keys, member)

static const char *const methods[] = {"dwols", "qlearning", "gest", NULL};
static const char *const weights[] = {"overlap", "ipw",        "capped", "none",
                                      "user",    "stabilised", "bins",   NULL};
static const char *const kinds[] = {"binary", "multinomial", "ordinal", "continuous", NULL};
static const char *const families[] = {"normal", "gamma", NULL};
static const char *const hierarchies[] = {"add", "as_published", NULL};
static const char *const resamples[] = {"philox", "splitmix", NULL};
static const char *const intervals[] = {"normal", "t", NULL};
static const char *const exports[] = {"none", "csv", "hdf5", "both", NULL};

// clang-format off
#define STAGE(n)                                                                                   \
  RGM_TEXT("stage" #n ".treatment", KEY(stage[n - 1].treatment), "", 0,                            \
    "Expression: 1 where stage " #n " is treated, 0 where not; or a level, or a dose (kind)."),    \
  RGM_TEXT("stage" #n ".eligible", KEY(stage[n - 1].eligible), "", 0,                              \
    "Expression: who may be treated at stage " #n "; empty: all."),                                \
  RGM_TEXT("stage" #n ".propensity", KEY(stage[n - 1].propensity), "", 0,                          \
    "Formula of the logistic model of its treatment."),                                            \
  RGM_TEXT("stage" #n ".free", KEY(stage[n - 1].free), "", 0,                                      \
    "Formula of its treatment-free model."),                                                       \
  RGM_TEXT("stage" #n ".blip", KEY(stage[n - 1].blip), "", 0,                                      \
    "Formula of its blip: what changes with the effect of treatment; one for each level."),        \
  {"stage" #n ".kind", RGM_CHOICE, KEY(stage[n - 1].kind), "", "binary", 0, 0, kinds, RGM_ADDED,   \
    "Treatment: 0 or 1; levels whose shares are multinomial logistic or have proportional odds, "  \
    "the least is the reference; or a dose."},                                                     \
  {"stage" #n ".family", RGM_CHOICE, KEY(stage[n - 1].family), "", "normal", 0, 0, families,       \
    RGM_ADDED, "A dose given the propensity's columns: normal, or gamma with a log link."},        \
  RGM_TEXT("stage" #n ".square", KEY(stage[n - 1].square), "", RGM_ADDED,                          \
    "Formula of what a dose's square is multiplied by; 1: a constant; empty: none."),              \
  RGM_TEXT("stage" #n ".range", KEY(stage[n - 1].range), "", RGM_ADDED,                            \
    "Doses that rules may choose from, as 0, 10; empty: the range of the data.")
// clang-format on

static const rgm_field fields[] = {
    {"outcome", RGM_STRING, KEY(outcome), "", NULL, 0, 0, NULL, 0,
     "Expression of the outcome; more of it is better."},
    {"stages", RGM_INT, KEY(stages), "1", NULL, 1, DWOLS_STAGES, NULL, RGM_SHAPE,
     "How many stages there are, K; the first is the earliest."},
    {"method", RGM_CHOICE, KEY(method), "", "dwols", 0, 0, methods, 0,
     "dWOLS, Q-learning (no weights) or G-estimation; `eval` compares all three."},
    {"weight", RGM_CHOICE, KEY(weight), "", "overlap", 0, 0, weights, 0,
     "Weights of dWOLS: 1 / P(a) over its sum over all levels (|a - e| of two), 1 / P(a), the same "
     "cut at its 99th percentile, 1, weights, P(a) / P(a | x), 1 / P(bin of a dose)."},
    {"bins", RGM_INT, KEY(bins), "1", "5", 2, DWOLS_LEVELS, NULL, RGM_ADDED,
     "Quantile bins of a dose for weights overlap and bins, by proportional odds."},
    {"weights", RGM_STRING, KEY(weights), "", "", 0, 0, NULL, RGM_ADDED,
     "Expression of further weights, factors of the above."},
    {"hierarchy", RGM_CHOICE, KEY(hierarchy), "", "add", 0, 0, hierarchies, 0,
     "Terms of a blip that the treatment-free model lacks are added to it, or not (biased)."},
    {"cluster", RGM_STRING, KEY(cluster), "", "", 0, 0, NULL, RGM_ADDED,
     "Expression by which rows are resampled together (sites, patients); empty: each row."},
    {"imputations", RGM_INT, KEY(imputations), "1", "1", 1, 10000, NULL, RGM_SHAPE,
     "Imputations, m: as many as run.steps."},
    {"replicates", RGM_INT, KEY(replicates), "1", "999", 0, 1e6, NULL, RGM_SHAPE,
     "Resamples of each imputation, B."},
    {"draw", RGM_INT, KEY(draw), "1", "0", 0, 1e9, NULL, RGM_ADDED,
     "Rows (or clusters) that a resample draws, M of an m-out-of-n bootstrap; 0: as many as "
     "there."},
    {"adaptive", RGM_FLOAT, KEY(adaptive), "1", "0", 0, 10, NULL, RGM_ADDED,
     "Kappa of M = n^((1 + kappa (1 - p)) / (1 + kappa)), p the share of blips near 0; 0: off."},
    {"resample", RGM_CHOICE, KEY(resample), "", "philox", 0, 0, resamples, 0,
     "Generator of the draws; splitmix is portable: a formula of replicate and row."},
    {"shared", RGM_BOOL, KEY(shared), "", "false", 0, 0, NULL, 0,
     "All imputations share their draws (splitmix always does)."},
    {"single", RGM_BOOL, KEY(single), "", "false", 0, 0, NULL, RGM_SHAPE,
     "Resamples in single precision: standard errors to 1e-4; estimates stay in double."},
    {"interval", RGM_CHOICE, KEY(interval), "", "normal", 0, 0, intervals, 0,
     "Intervals by the normal distribution, as published, or by t (Barnard & Rubin 1999)."},
    {"boot_first", RGM_INT, KEY(boot_first), "1", "0", 0, 1e5, NULL, RGM_ADDED,
     "Resamples that `eval` imputes one by one: bootstrap, then imputation; 0: none."},
    {"boot_sets", RGM_INT, KEY(boot_sets), "1", "2", 2, 100, NULL, RGM_ADDED,
     "Imputations of each of them."},
    {"export", RGM_CHOICE, KEY(export), "", "none", 0, 0, exports, RGM_ADDED,
     "Completed tables that `eval` writes into its folder, with rows of patients: imputed.csv, "
     "imputed.h5."},
    {"level", RGM_FLOAT, KEY(level), "1", "0.95", 0.5, 0.9999, NULL, 0, "Level of intervals."},
    STAGE(1),
    STAGE(2),
    STAGE(3),
    STAGE(4),
    MICE_FIELDS(KEY),
    {0},
};


static rgm_status dwols_check(const rgm_run *run) {
  const dwols_keys *k = rgm_algorithm_keys(run, 0);
  if (run->replicas != 1) {
    return rgm_fail(RGM_ECONFIG,
                    "%s: run.replicas: dwols has an axis of its own for resamples: set 1",
                    rgm_config_where(run->config, "run.replicas"));
  }
  if (run->keys.steps != k->imputations) {
    return rgm_fail(RGM_ECONFIG,
                    "%s: run.steps: a step is an imputation: set it to algorithm.imputations, %lld",
                    rgm_config_where(run->config, "run.steps"), (long long)k->imputations);
  }
  if (k->weight == WEIGHT_USER && k->weights[0] == '\0') {
    return rgm_fail(RGM_ECONFIG, "%s: algorithm.weight: user needs algorithm.weights",
                    rgm_config_where(run->config, "algorithm.weight"));
  }
  if (k->single && k->method == METHOD_GEST) {
    return rgm_fail(RGM_ECONFIG, "%s: algorithm.single: G-estimation is in double",
                    rgm_config_where(run->config, "algorithm.single"));
  }
  return RGM_OK;
}


// ---- planning ----------------------------------------------------------------------------------

static rgm_tensor scratch(rgm_run *run, int k, const char *name, const char *axes, rgm_dtype dtype,
                          int64_t d0, int64_t d1, int64_t d2) {
  char full[64];
  snprintf(full, sizeof full, "stage%d/%s", k + 1, name);
  return rgm_plan(run->arena, full, dtype, RGM_SCRATCH, axes, "1", d0, d1, d2, 0);
}


static void plan_stage(rgm_run *run, int k) {
  dwols *d = run->self;
  const dwols_stage *s = &d->model->stage[k];
  const int64_t n = s->n, G = d->groups, L = RGM_FIT_LANES;
  if (d->model->general) {
    d->stage[k].coef = scratch(run, k, "coef", "group, column, lane", RGM_F64, G, s->q, L);
    d->stage[k].status = scratch(run, k, "status", "group, lane", RGM_U32, G, L, 0);
    d->stage[k].fitted = scratch(run, k, "propensity_status", "group, lane", RGM_U32, G, L, 0);
    return;
  }
  d->stage[k].x = scratch(run, k, "propensity", "one, column, row", RGM_F64, 1, s->p, n);
  d->stage[k].x32 = scratch(run, k, "propensity_f32", "one, column, row", RGM_F32, 1, s->p, n);
  d->stage[k].z = scratch(run, k, "outcome", "one, column, row", RGM_F64, 1, s->q, n);
  d->stage[k].h = scratch(run, k, "blip", "one, column, row", RGM_F64, 1, s->h, n);
  d->stage[k].label = scratch(run, k, "treatment", "one, row", RGM_F64, 1, n, 0);
  d->stage[k].rows = scratch(run, k, "rows", "one, row", RGM_U32, 1, n, 0);
  d->stage[k].start = scratch(run, k, "start", "one, column", RGM_F64, 1, s->p, 0);
  if (s->given != NULL) {
    d->stage[k].given = scratch(run, k, "weights", "one, row", RGM_F64, 1, n, 0);
  }
  if (d->model->keys->single) {
    d->stage[k].z32 = scratch(run, k, "outcome_f32", "one, column, row", RGM_F32, 1, s->q, n);
  }
  d->stage[k].beta = scratch(run, k, "beta", "group, column, lane", RGM_F64, G, s->p, L);
  d->stage[k].coef = scratch(run, k, "coef", "group, column, lane", RGM_F64, G, s->q, L);
  d->stage[k].status = scratch(run, k, "status", "group, lane", RGM_U32, G, L, 0);
  d->stage[k].fitted = scratch(run, k, "propensity_status", "group, lane", RGM_U32, G, L, 0);
  d->stage[k].steps = scratch(run, k, "newton_steps", "group, lane", RGM_U32, G, L, 0);
}


static rgm_tensor state(rgm_run *run, const char *name, const char *axes, rgm_dtype dtype,
                        int64_t d1, int64_t d2, int64_t d3) {
  return rgm_plan(run->arena, name, dtype, RGM_STATE, axes, "1", 1, d1, d2, d3);
}


static rgm_status dwols_plan(rgm_run *run) {
  dwols *d = run->self;
  if (run->stream->backend->irls == NULL) {
    return rgm_fail(RGM_EDEVICE, "run.backend: %s has no kernels of regressions; use cpu",
                    run->stream->backend->name);
  }
  if (d->model == NULL) {
    d->model = calloc(1, sizeof *d->model);
    if (d->model == NULL) {
      return rgm_fail(RGM_EMEMORY, "no memory for the model");
    }
    RGM_TRY(dwols_model_load(run, d->model));
    memcpy(run->data_digest, d->model->frame.digest, sizeof run->data_digest);
  }
  const dwols_model *m = d->model;
  if (m->general && m->keys->single) {
    return rgm_fail(RGM_ECONFIG,
                    "%s: algorithm.single: treatments of several levels, doses and stabilised "
                    "weights are in double",
                    rgm_config_where(run->config, "algorithm.single"));
  }
  const int64_t M = m->keys->imputations, B = m->keys->replicates, N = m->frame.rows;
  const int64_t K = m->stages, P = m->psi, inputs = m->input_count > 0 ? m->input_count : 1;
  d->groups = (B + 1 + RGM_FIT_LANES - 1) / RGM_FIT_LANES;
  d->slots = rgm_is_cpu(run->stream) ? rgm_cpu_threads(run->stream) : d->groups;
  d->slots = d->slots < d->groups ? d->slots : d->groups;

  // what is found
  d->theta = state(run, "coefficients", "replica, imputation, coefficient", RGM_F64, M, m->all, 0);
  d->covariance = state(run, "covariance", "replica, imputation, psi, psi", RGM_F64, M, P, P);
  d->sandwich = state(run, "sandwich", "replica, imputation, coefficient", RGM_F64, M, m->all, 0);
  d->diagnostics = state(run, "diagnostics", "replica, imputation, stage, diagnostic", RGM_F64, M,
                         K, DIAG_COUNT);
  d->failures = state(run, "failures", "replica, imputation, stage, kind", RGM_F64, M, K, 4);
  d->drawn = state(run, "drawn", "replica, imputation", RGM_F64, M, 0, 0);
  d->replicates = state(run, "replicates", "replica, resample, psi", RGM_F64, B > 0 ? B : 1, P, 0);
  d->psi = state(run, "psi", "replica, psi", RGM_F64, P, 0, 0);
  d->total = state(run, "total", "replica, psi, psi", RGM_F64, P, P, 0);
  d->within = state(run, "within", "replica, psi, psi", RGM_F64, P, P, 0);
  d->between = state(run, "between", "replica, psi, psi", RGM_F64, P, P, 0);

  // what advice needs beside it
  d->numbers = state(run, "numbers", "replica, stage, number", RGM_F64, K, RGM_FORMULA_NUMBERS, 0);
  if (m->general) {
    d->squares =
        state(run, "squares", "replica, stage, number", RGM_F64, K, RGM_FORMULA_NUMBERS, 0);
    d->levels = state(run, "levels", "replica, stage, level", RGM_F64, K, DWOLS_LEVELS + 4, 0);
    d->words = state(run, "words", "replica, stage, level, letter", RGM_U8, K, DWOLS_LEVELS,
                     sizeof m->stage->arms.name[0]);
  }
  d->ranges = state(run, "ranges", "replica, input, end", RGM_F64, inputs, 2, 0);
  d->freedom = state(run, "freedom", "replica, stage", RGM_F64, K, 0, 0);

  // what a step works with
  d->counts = rgm_plan(run->arena, "resamples/counts", RGM_U8, RGM_SCRATCH, "group, row, lane", "1",
                       d->groups, N, RGM_FIT_LANES, 0);
  d->y = rgm_plan(run->arena, "resamples/outcome", RGM_F64, RGM_SCRATCH, "group, row, lane", "1",
                  d->slots, N, RGM_FIT_LANES, 0);
  if (m->keys->cluster[0] != '\0') {
    d->first = rgm_plan(run->arena, "clusters/first", RGM_U32, RGM_SCRATCH, "one, cluster", "1", 1,
                        m->clusters + 1, 0, 0);
    d->members =
        rgm_plan(run->arena, "clusters/rows", RGM_U32, RGM_SCRATCH, "one, row", "1", 1, N, 0, 0);
  }
  d->base =
      rgm_plan(run->arena, "outcome", RGM_F64, RGM_SCRATCH, "one, row, lane", "1", 1, N, 1, 0);
  for (int k = 0; k < K; k++) {
    plan_stage(run, k);
  }
  return RGM_OK;
}


static void dwols_release(rgm_run *run) {
  dwols *d = run->self;
  dwols_samples_free(d);
  if (d->model != NULL) {
    dwols_model_free(d->model);
    free(d->model);
  }
}


static void put(rgm_run *run, rgm_tensor t, const void *from) {
  rgm_copy(run->stream, t.data, from, rgm_bytes(t));
}


// rows of clusters onto the device
static rgm_status put_clusters(rgm_run *run) {
  dwols *d = run->self;
  const dwols_model *m = d->model;
  const int64_t N = m->frame.rows, U = m->clusters;
  uint32_t *first = malloc((size_t)(U + 1 + N) * sizeof *first), *members = first + U + 1;
  if (first == NULL) {
    return rgm_fail(RGM_EMEMORY, "no memory for the clusters");
  }
  for (int64_t i = 0; i <= U; i++) {
    first[i] = (uint32_t)m->cluster_first[i];
  }
  for (int64_t i = 0; i < N; i++) {
    members[i] = (uint32_t)m->cluster_row[i];
  }
  put(run, d->first, first);
  put(run, d->members, members);
  const rgm_status status = rgm_sync(run->stream);
  free(first);
  return status;
}


// what advice must know of a stage's treatments
static rgm_status put_arms(rgm_run *run, int k) {
  dwols *d = run->self;
  const dwols_stage *s = &d->model->stage[k];
  const dwols_arms *arms = &s->arms;
  double levels[DWOLS_LEVELS + 4] = {arms->levels, arms->least, arms->most, arms->square};
  memcpy(levels + 4, arms->level, sizeof arms->level);
  rgm_copy(run->stream, (double *)d->levels.data + k * (DWOLS_LEVELS + 4), levels, sizeof levels);
  rgm_copy(run->stream, (uint8_t *)d->words.data + (size_t)k * sizeof arms->name, arms->name,
           sizeof arms->name);
  rgm_copy(run->stream, (double *)d->squares.data + k * RGM_FORMULA_NUMBERS, s->square.number,
           sizeof s->square.number);
  return rgm_sync(run->stream);
}


static rgm_status dwols_init(rgm_run *run) {
  dwols *d = run->self;
  const dwols_model *m = d->model;
  double ranges[DWOLS_INPUTS][2], freedom[DWOLS_STAGES];
  for (int i = 0; i < m->input_count; i++) {
    const int column = rgm_frame_find(&m->frame, m->inputs[i]);
    ranges[i][0] = INFINITY;
    ranges[i][1] = -INFINITY;
    for (int64_t row = 0; row < m->frame.rows; row++) {
      const double x = m->frame.value[row * m->frame.columns + column];
      ranges[i][0] = x < ranges[i][0] ? x : ranges[i][0];
      ranges[i][1] = x > ranges[i][1] ? x : ranges[i][1];
    }
  }
  for (int k = 0; k < m->stages; k++) {
    const dwols_stage *s = &m->stage[k];
    freedom[k] = (double)(s->n - s->q);
    rgm_copy(run->stream, (double *)d->numbers.data + k * RGM_FORMULA_NUMBERS, s->blip.number,
             sizeof s->blip.number);
    if (m->general) {
      RGM_TRY(put_arms(run, k));
      continue;
    }
    put(run, d->stage[k].label, s->label);
    put(run, d->stage[k].rows, s->rows);
    if (s->given != NULL) {
      put(run, d->stage[k].given, s->given);
    }
  }
  put(run, d->freedom, freedom);
  if (d->first.data != NULL) {
    RGM_TRY(put_clusters(run));
  }
  if (m->input_count > 0) {
    put(run, d->ranges, ranges);
  }
  return rgm_sync(run->stream);
}


// ---- what is reported --------------------------------------------------------------------------

static rgm_status report_psi(rgm_run *run, const dwols_pool *pool) {
  const dwols_model *m = ((dwols *)run->self)->model;
  for (int k = 0; k < m->stages; k++) {
    for (int j = 0; j < m->stage[k].h && m->stage[k].first + j < RGM_MAX_METRICS / 2; j++) {
      const int i = m->stage[k].first + j;
      char name[48], term[RGM_FORMULA_NAME + 40];
      const float value = (float)pool->psi[i];
      const float se = (float)sqrt(pool->total[i * m->psi + i]);
      dwols_psi_name(&m->stage[k], j, term);
      snprintf(name, sizeof name, "psi%d/%.28s", k + 1, term);
      RGM_TRY(rgm_report(run, name, "outcome", &value));
      snprintf(name, sizeof name, "psi%d/%.28s/se", k + 1, term);
      RGM_TRY(rgm_report(run, name, "outcome", &se));
    }
  }
  return RGM_OK;
}


static rgm_status dwols_report(rgm_run *run) {
  dwols *d = run->self;
  const dwols_model *m = d->model;
  const int64_t done = (int64_t)run->step, P = m->psi;
  const size_t size = (size_t)done * (size_t)(m->all + P + P * P);
  double *theta = malloc(size * sizeof *theta);
  dwols_pool *pool = malloc(sizeof *pool);
  rgm_status status =
      theta != NULL && pool != NULL ? RGM_OK : rgm_fail(RGM_EMEMORY, "no memory for the report");
  if (status == RGM_OK) {
    double *psi = theta + done * m->all, *within = psi + done * P;
    rgm_copy(run->stream, theta, d->theta.data, (size_t)(done * m->all) * sizeof *theta);
    rgm_copy(run->stream, within, d->covariance.data, (size_t)(done * P * P) * sizeof *theta);
    status = rgm_sync(run->stream);
    for (int64_t i = 0; i < done; i++) {
      for (int k = 0; k < m->stages; k++) {
        const dwols_stage *s = &m->stage[k];
        memcpy(psi + i * P + s->first, theta + i * m->all + s->first_all + s->e + s->f,
               (size_t)s->h * sizeof *psi);
      }
    }
    dwols_pool_make(done, (int)P, psi, within, pool);
    put(run, d->psi, pool->psi);
    put(run, d->total, pool->total);
    put(run, d->within, pool->within);
    put(run, d->between, pool->between);
    status = status == RGM_OK ? rgm_sync(run->stream) : status;
  }
  status = status == RGM_OK ? report_psi(run, pool) : status;
  free(theta);
  free(pool);
  return status;
}


static double dwols_work(const rgm_run *run) {
  const dwols_keys *k = rgm_algorithm_keys(run, 0);
  return (double)(k->replicates + 1) * (double)k->stages;
}


const rgm_algorithm rgm_dwols = {
    .name = "dwols",
    .paper = "Wallace & Moodie 2015; Grolleau et al. 2024",
    .doc = "Staged treatment rules by dWOLS, Q-learning or G-estimation, imputed and bootstrapped.",
    .fields = fields,
    .keys_size = sizeof(dwols_keys),
    .self_size = sizeof(dwols),
    .needs = RGM_NEEDS_TABLE | RGM_NEEDS_FRAME,
    .work_unit = "fits",
    .work = dwols_work,
    .check = dwols_check,
    .plan = dwols_plan,
    .init = dwols_init,
    .step = dwols_step,
    .report = dwols_report,
    .evaluate = dwols_evaluate,
    .recommend = dwols_recommend,
    .release = dwols_release,
};
