// SPDX-License-Identifier: Apache-2.0
// Trials: rollouts of controllers on test patients, metrics per patient, their summaries.

#include "engine/trial.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { CHUNK = 512 };


// ---- rollouts ----------------------------------------------------------------------------------

static void plan(rgm_trial *t, int64_t widest) {
  const rgm_env *env = t->run->env;
  rgm_arena *a = t->arena;
  const int64_t n = t->chunk, T = t->steps;
  t->config = rgm_plan(a, "config", RGM_U8, RGM_BLOCK, "replica, byte", "", 1,
                       (int64_t)env->config_size, 0, 0);
  t->cohort = rgm_plan(a, "cohort", RGM_F32, RGM_SCRATCH, "replica, patient, word", "", 1, n,
                       env->patient_words, 0);
  t->seeds = rgm_plan(a, "seeds", RGM_U32, RGM_SCRATCH, "replica, word", "", 1, 2, 0, 0);
  t->clock = rgm_plan(a, "clock", RGM_U32, RGM_SCRATCH, "replica", "", 1, 0, 0, 0);
  t->active = rgm_plan(a, "active", RGM_U32, RGM_SCRATCH, "replica", "", 1, 0, 0, 0);
  t->returns = rgm_plan(a, "returns", RGM_F32, RGM_SCRATCH, "replica, episode", "1", 1, n, 0, 0);
  t->act = rgm_plan(a, "act", RGM_F32, RGM_SCRATCH, "replica, episode, step, act", "1", 1, n, T,
                    env->act_dim);
  t->signals = rgm_plan(a, "signals", RGM_F32, RGM_SCRATCH, "replica, episode, step, signal", "", 1,
                        n, T, env->signal_dim);
  t->params =
      rgm_plan(a, "params", RGM_F32, RGM_SCRATCH, "replica, parameter", "1", 1, widest, 0, 0);
}


// a chunk of patients: draw them or take them from the data, run them, bring the signals back
static rgm_status roll_chunk(rgm_trial *t, const rgm_contender *c, int64_t first, int64_t n) {
  rgm_run *run = t->run;
  rgm_cohort cohort = {
      .patients = t->cohort,
      .config = t->config,
      .seeds = t->seeds,
      .clock = t->clock,
      .active = t->active,
      .random = RGM_RANDOM_PATIENT + RGM_RANDOM_EVAL,
      .first = first,
  };
  rgm_rollout rollout = {
      .returns = t->returns,
      .signals = t->signals,
      .act = t->act,
      .patients = t->cohort,
      .config = t->config,
      .params = t->params,
      .seeds = t->seeds,
      .clock = t->clock,
      .active = t->active,
      .control = c->control,
      .hidden = c->hidden,
      .random = RGM_RANDOM_NOISE + RGM_RANDOM_EVAL,
      .first = first,
      .steps = t->steps,
  };
  cohort.patients.dims[1] = rollout.patients.dims[1] = rollout.returns.dims[1] = n;
  rollout.signals.dims[1] = rollout.act.dims[1] = n;
  const int64_t words = run->env->patient_words;
  if (t->given.count > 0) {
    rgm_copy(run->stream, t->cohort.data, t->given.words + first * words,
             (size_t)(n * words) * sizeof(float));
  } else {
    rgm_env_sample(run->env_kernels, run->stream, &cohort);
  }
  rgm_env_rollout(run->env_kernels, run->stream, &rollout);
  rgm_copy(run->stream, t->host, t->signals.data, rgm_bytes(rollout.signals));
  return rgm_sync(run->stream);
}


// metrics of one patient of a chunk
typedef struct measuring {
  const rgm_trial *t;
  const rgm_score *s;
  int64_t first;
} measuring;

static void measure_task(void *arg, int64_t i) {
  const measuring *job = arg;
  const rgm_trial *t = job->t;
  const rgm_env *env = t->run->env;
  double metrics[RGM_TRIAL_METRICS];
  env->measure(t->host + i * t->steps * env->signal_dim, t->steps, metrics);
  for (int m = 0; m < env->metric_count; m++) {
    job->s->value[m * t->patients + job->first + i] = metrics[m];
  }
}


// once for each patient, whoever controls
static rgm_status count_unreachable(rgm_trial *t, int64_t n) {
  const rgm_env *env = t->run->env;
  if (env->reachable == NULL) {
    return RGM_OK;
  }
  const size_t words = (size_t)env->patient_words;
  uint8_t *config = malloc(env->config_size);
  if (config == NULL) {
    return rgm_fail(RGM_EMEMORY, "no memory for the environment");
  }
  rgm_copy(t->run->stream, config, t->config.data, env->config_size);
  rgm_copy(t->run->stream, t->words, t->cohort.data, (size_t)n * words * sizeof *t->words);
  const rgm_status status = rgm_sync(t->run->stream);
  for (int64_t i = 0; i < n && status == RGM_OK; i++) {
    t->unreachable += !env->reachable(config, t->words + (size_t)i * words);
  }
  free(config);
  return status;
}


static rgm_status add_score(rgm_trial *t, const rgm_contender *c) {
  const rgm_env *env = t->run->env;
  rgm_score *s = &t->scores[t->count];
  s->name = c->name;
  const size_t episode = (size_t)(t->steps * env->signal_dim) * sizeof *s->first;
  s->value = malloc((size_t)(env->metric_count * t->patients) * sizeof *s->value);
  s->first = malloc(episode);
  if (s->value == NULL || s->first == NULL) {
    free(s->value);
    free(s->first);
    return rgm_fail(RGM_EMEMORY, "no memory for %lld patients", (long long)t->patients);
  }
  t->count++;
  for (int64_t first = 0; first < t->patients; first += t->chunk) {
    const int64_t n = t->patients - first < t->chunk ? t->patients - first : t->chunk;
    RGM_TRY(roll_chunk(t, c, first, n));
    if (t->count == 1) {
      RGM_TRY(count_unreachable(t, n));
    }
    if (first == 0) {
      memcpy(s->first, t->host, episode);
    }
    measuring job = {t, s, first};
    rgm_cpu_parallel(t->threads, n, measure_task, &job);
  }
  return RGM_OK;
}


// the constants of a replica's environment, the test seed, and a controller's parameters
static rgm_status load_replica(rgm_trial *t, const rgm_contender *c, int64_t r) {
  rgm_run *run = t->run;
  const uint64_t seed = (uint64_t)run->eval.seed;
  const uint32_t words[2] = {(uint32_t)seed, (uint32_t)(seed >> 32)}, zero = 0, one = 1;
  const rgm_tensor config = run->env_config;
  rgm_copy(run->stream, t->config.data, (const uint8_t *)config.data + r * config.stride0,
           run->env->config_size);
  rgm_copy(run->stream, t->seeds.data, words, sizeof words);
  rgm_copy(run->stream, t->clock.data, &zero, sizeof zero);
  rgm_copy(run->stream, t->active.data, &one, sizeof one);
  rgm_copy(run->stream, t->params.data, (const float *)c->params.data + r * c->params.stride0,
           (size_t)c->params.stride0 * sizeof(float));
  return rgm_sync(run->stream);
}


static rgm_status run_all(rgm_trial *t, const rgm_contender *contenders, int count,
                          bool baselines) {
  rgm_run *run = t->run;
  for (int i = 0; i < count; i++) {
    for (int64_t r = 0; r < run->replicas; r++) {
      RGM_TRY(load_replica(t, &contenders[i], r));
      RGM_TRY(add_score(t, &contenders[i]));
    }
  }
  t->baseline = t->count;
  for (const rgm_baseline *b = run->env->baselines; baselines && b->name != NULL; b++) {
    float params[64];
    RGM_ASSERT(b->param_count <= 64);
    RGM_TRY(b->params(run->env_keys, params));
    const rgm_contender c = {
        .name = b->name,
        .control = b->control,
        .params = rgm_view(params, RGM_F32, 1, b->param_count, 0, 0),
    };
    RGM_TRY(load_replica(t, &c, 0));
    RGM_TRY(add_score(t, &c));
  }
  return RGM_OK;
}


// ---- summaries ---------------------------------------------------------------------------------

rgm_summary rgm_trial_summary(const rgm_trial *t, const rgm_score *s, int metric) {
  const double *value = s->value + metric * t->patients;
  int64_t n = 0;
  for (int64_t i = 0; i < t->patients; i++) {
    // an episode may lack a metric, maintenance dose say
    if (isfinite(value[i])) {
      t->work[n++] = value[i];
    }
  }
  if (n == 0) {
    return (rgm_summary){NAN, NAN, NAN, NAN, NAN, NAN, NAN, NAN};
  }
  return rgm_summarise(t->work, n);
}


// the summary of a controller: the median over its replicas of each figure
rgm_summary rgm_trial_pooled(const rgm_trial *t, int first, int replicas, int metric) {
  enum { FIGURES = sizeof(rgm_summary) / sizeof(double) };
  rgm_summary out;
  double *figures = malloc((size_t)replicas * FIGURES * sizeof *figures), result[FIGURES];
  RGM_ASSERT(figures != NULL);
  for (int r = 0; r < replicas; r++) {
    const rgm_summary s = rgm_trial_summary(t, &t->scores[first + r], metric);
    double values[FIGURES];
    memcpy(values, &s, sizeof s);
    for (int f = 0; f < FIGURES; f++) {
      figures[f * replicas + r] = values[f];
    }
  }
  for (int f = 0; f < FIGURES; f++) {
    result[f] = rgm_median(figures + f * replicas, replicas);
  }
  free(figures);
  memcpy(&out, result, sizeof out);
  return out;
}


static void write_figures(rgm_json *json, const char *metric, const rgm_summary *s) {
  static const char *const suffix[] = {"mean", "sd", "median", "q25", "q75", "p95", "max", "min"};
  double value[sizeof suffix / sizeof *suffix];
  char key[96];
  memcpy(value, s, sizeof value);
  for (size_t f = 0; f < sizeof suffix / sizeof *suffix; f++) {
    snprintf(key, sizeof key, "%s_%s", metric, suffix[f]);
    rgm_json_number(json, key, value[f]);
  }
}


// the bare name of a metric is its mean over patients
void rgm_trial_write_metrics(const rgm_trial *t, rgm_json *json, int first, int replicas) {
  for (int m = 0; m < t->run->env->metric_count; m++) {
    const char *name = t->run->env->metrics[m].name;
    const rgm_summary s = rgm_trial_pooled(t, first, replicas, m);
    rgm_json_number(json, name, s.mean);
    write_figures(json, name, &s);
  }
}


// how many scores in a row belong to the controller of score `first`
int rgm_trial_replicas(const rgm_trial *t, int first) {
  int n = 1;
  while (first + n < t->count && strcmp(t->scores[first + n].name, t->scores[first].name) == 0) {
    n++;
  }
  return n;
}


void rgm_trial_write_controller(const rgm_trial *t, rgm_json *json, int first) {
  const int replicas = rgm_trial_replicas(t, first);
  rgm_trial_write_metrics(t, json, first, replicas);
  if (replicas > 1) {
    rgm_json_open(json, "replicas", '[');
    for (int r = 0; r < replicas; r++) {
      rgm_json_open(json, NULL, '{');
      rgm_json_number(json, "seed", (double)(t->run->keys.seed + r));
      rgm_trial_write_metrics(t, json, first + r, 1);
      rgm_json_close(json, '}');
    }
    rgm_json_close(json, ']');
  }
}


// ---- the whole ---------------------------------------------------------------------------------

static rgm_status take_patients(rgm_trial *t) {
  rgm_run *run = t->run;
  t->patients = run->eval.patients;
  if (run->env->patients != NULL) {
    // one set of constants makes the data's patients: replicas differ in seed alone
    uint8_t *config = malloc(run->env->config_size);
    if (config == NULL) {
      return rgm_fail(RGM_EMEMORY, "no memory for the environment");
    }
    rgm_copy(run->stream, config, run->env_config.data, run->env->config_size);
    rgm_status status = rgm_sync(run->stream);
    if (status == RGM_OK) {
      status = run->env->patients(run->env_keys, run->config, config, (uint64_t)run->eval.seed,
                                  run->eval.patients, &t->given);
    }
    free(config);
    RGM_TRY(status);
  }
  t->patients = t->given.count > 0 ? t->given.count : t->patients;
  return RGM_OK;
}


rgm_status rgm_trial_run(rgm_trial *t, rgm_run *run, bool baselines) {
  rgm_contender contenders[RGM_TRIAL_CONTENDERS];
  *t = (rgm_trial){.run = run, .threads = run->stream};
  RGM_ASSERT(run->env->metric_count <= RGM_TRIAL_METRICS);
  const int count = run->algorithm->contenders(run, contenders, RGM_TRIAL_CONTENDERS);
  int64_t widest = 64;
  for (int i = 0; i < count; i++) {
    widest = contenders[i].params.stride0 > widest ? contenders[i].params.stride0 : widest;
  }
  RGM_TRY(take_patients(t));
  t->chunk = t->patients < CHUNK ? t->patients : CHUNK;
  t->steps = run->env->steps(run->env_keys);
  if (!rgm_is_cpu(run->stream)) {
    char note[512];
    const rgm_device_options host = {(int)run->keys.threads, "auto", 0};
    RGM_TRY(rgm_open("cpu", &host, &t->threads, note, sizeof note));
  }
  RGM_TRY(rgm_arena_create(run->stream, &t->arena));
  plan(t, widest);
  RGM_TRY(rgm_arena_bind(t->arena));
  plan(t, widest);
  RGM_TRY(rgm_arena_seal(t->arena));

  const size_t most = (size_t)(count * run->replicas + RGM_TRIAL_CONTENDERS);
  t->scores = calloc(most, sizeof *t->scores);
  t->host = malloc(rgm_bytes(t->signals));
  t->words = malloc(rgm_bytes(t->cohort));
  t->work = malloc((size_t)t->patients * sizeof *t->work);
  if (t->scores == NULL || t->host == NULL || t->words == NULL || t->work == NULL) {
    return rgm_fail(RGM_EMEMORY, "no memory for %lld patients; lower eval.patients",
                    (long long)t->patients);
  }
  RGM_TRY(run_all(t, contenders, count, baselines));
  return t->count > 0 ? RGM_OK
                      : rgm_fail(RGM_ECONFIG,
                                 "%s: algorithm.name: %s brings no controller to evaluate, and %s "
                                 "none to compare with",
                                 rgm_config_where(run->config, "algorithm.name"),
                                 run->algorithm->name, run->env->name);
}


void rgm_trial_free(rgm_trial *t) {
  for (int i = 0; i < t->count; i++) {
    free(t->scores[i].value);
    free(t->scores[i].first);
  }
  free(t->scores);
  free(t->host);
  free(t->words);
  free(t->work);
  free(t->given.words);
  rgm_arena_free(t->arena);
  if (t->run != NULL && t->threads != t->run->stream) {
    rgm_close(t->threads);
  }
  *t = (rgm_trial){0};
}
