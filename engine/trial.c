// SPDX-License-Identifier: Apache-2.0
// Trials: rollouts of controllers on test patients, metrics per patient, their summaries.

#include "engine/trial.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { CHUNK = 512, WINDOW = 1 << 24 }; // patients at a time; records that wait on the device


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


// test patients first ... first + n - 1, to be drawn
static rgm_cohort cohort_of(const rgm_trial *t, int64_t first, int64_t n) {
  rgm_cohort cohort = {
      .patients = t->cohort,
      .config = t->config,
      .seeds = t->seeds,
      .clock = t->clock,
      .active = t->active,
      .random = RGM_RANDOM_PATIENT + RGM_RANDOM_EVAL,
      .first = first,
  };
  cohort.patients.dims[1] = n;
  return cohort;
}


// a chunk of patients: draw them or take them from the data, run them, bring the signals back
static rgm_status roll_chunk(rgm_trial *t, const rgm_contender *c, int64_t first, int64_t n) {
  rgm_run *run = t->run;
  const rgm_cohort cohort = cohort_of(t, first, n);
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
  rollout.patients.dims[1] = rollout.returns.dims[1] = n;
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
  const float *signals; // (n, T, S)
  int64_t first;
} measuring;

static void measure_task(void *arg, int64_t i) {
  const measuring *job = arg;
  const rgm_trial *t = job->t;
  const rgm_env *env = t->run->env;
  double metrics[RGM_TRIAL_METRICS];
  env->measure(job->signals + i * t->steps * env->signal_dim, t->steps, metrics);
  for (int m = 0; m < env->metric_count; m++) {
    job->s->value[m * t->patients + job->first + i] = metrics[m];
  }
}


// once for each patient, whoever controls; with the constants of the first replica
static rgm_status count_unreachable(rgm_trial *t, rgm_tensor cohort, int64_t n) {
  const rgm_env *env = t->run->env;
  if (env->reachable == NULL) {
    return RGM_OK;
  }
  const size_t words = (size_t)env->patient_words;
  uint8_t *config = malloc(env->config_size);
  float *people = malloc((size_t)n * words * sizeof *people);
  rgm_status status = RGM_OK;
  if (config == NULL || people == NULL) {
    status = rgm_fail(RGM_EMEMORY, "no memory for the environment");
  } else {
    rgm_copy(t->run->stream, config, t->run->env_config.data, env->config_size);
    rgm_copy(t->run->stream, people, cohort.data, (size_t)n * words * sizeof *people);
    status = rgm_sync(t->run->stream);
  }
  for (int64_t i = 0; i < n && status == RGM_OK; i++) {
    t->unreachable += !env->reachable(config, people + (size_t)i * words);
  }
  free(config);
  free(people);
  return status;
}


static rgm_status new_score(rgm_trial *t, const char *name, rgm_score **out) {
  const rgm_env *env = t->run->env;
  rgm_score *s = &t->scores[t->count];
  s->name = name;
  s->value = malloc((size_t)(env->metric_count * t->patients) * sizeof *s->value);
  s->first = malloc((size_t)(t->steps * env->signal_dim) * sizeof *s->first);
  if (s->value == NULL || s->first == NULL) {
    free(s->value);
    free(s->first);
    return rgm_fail(RGM_EMEMORY, "no memory for %lld patients", (long long)t->patients);
  }
  t->count++;
  *out = s;
  return RGM_OK;
}


// metrics of `n` patients from `first` on, whose signals are these (n, T, S)
static void measure(rgm_trial *t, const rgm_score *s, const float *signals, int64_t first,
                    int64_t n) {
  if (first == 0) {
    memcpy(s->first, signals, (size_t)(t->steps * t->run->env->signal_dim) * sizeof *signals);
  }
  measuring job = {t, s, signals, first};
  rgm_cpu_parallel(rgm_host(t->run->stream), n, measure_task, &job);
}


static rgm_status add_score(rgm_trial *t, const rgm_contender *c) {
  rgm_score *s = NULL;
  RGM_TRY(new_score(t, c->name, &s));
  for (int64_t first = 0; first < t->patients; first += t->chunk) {
    const int64_t n = t->patients - first < t->chunk ? t->patients - first : t->chunk;
    RGM_TRY(roll_chunk(t, c, first, n));
    if (t->count == 1) {
      RGM_TRY(count_unreachable(t, t->cohort, n));
    }
    measure(t, s, t->host, first, n);
  }
  return RGM_OK;
}


// ---- policies that the fused loop does not know ------------------------------------------------

// All replicas side by side, each with the same patients, stepped in blocks of `rows` of them.
typedef struct stepped {
  rgm_trial *t;
  const rgm_contender *c;
  int64_t rows, window; // patients of a block; steps whose records wait on the device
  rgm_arena *arena;
  rgm_tensor seeds, clock, active;          // (R, 2), (R), (R) u32
  rgm_tensor patients, state, obs, act;     // (R, rows, ...)
  rgm_tensor reward, terminated, truncated; // (R, rows)
  rgm_tensor record;                        // (window, R, rows, S)
  float *slab, *signals;                    // the same back; (R, rows, T, S)
} stepped;


static void plan_stepped(stepped *p) {
  const rgm_run *run = p->t->run;
  const rgm_env *env = run->env;
  const int64_t R = run->replicas, n = p->rows;
  rgm_arena *a = p->arena;
  p->seeds = rgm_plan(a, "seeds", RGM_U32, RGM_SCRATCH, "replica, word", "", R, 2, 0, 0);
  p->clock = rgm_plan(a, "clock", RGM_U32, RGM_SCRATCH, "replica", "", R, 0, 0, 0);
  p->active = rgm_plan(a, "active", RGM_U32, RGM_SCRATCH, "replica", "", R, 0, 0, 0);
  p->patients = rgm_plan(a, "patients", RGM_F32, RGM_SCRATCH, "replica, patient, word", "", R, n,
                         env->patient_words, 0);
  p->state = rgm_plan(a, "state", RGM_F32, RGM_SCRATCH, "replica, patient, word", "", R, n,
                      run->env_kernels->words, 0);
  p->obs = rgm_plan(a, "obs", RGM_F32, RGM_SCRATCH, "replica, patient, observation", "", R, n,
                    env->obs_dim, 0);
  p->act =
      rgm_plan(a, "act", RGM_F32, RGM_SCRATCH, "replica, patient, act", "", R, n, env->act_dim, 0);
  p->reward = rgm_plan(a, "reward", RGM_F32, RGM_SCRATCH, "replica, patient", "1", R, n, 0, 0);
  p->terminated =
      rgm_plan(a, "terminated", RGM_F32, RGM_SCRATCH, "replica, patient", "1", R, n, 0, 0);
  p->truncated =
      rgm_plan(a, "truncated", RGM_F32, RGM_SCRATCH, "replica, patient", "1", R, n, 0, 0);
  p->record = rgm_plan(a, "record", RGM_F32, RGM_SCRATCH, "step, replica, patient, signal", "",
                       p->window, R, n, env->signal_dim);
}


static rgm_status open_stepped(stepped *p) {
  rgm_run *run = p->t->run;
  const int64_t R = run->replicas, wide = R * p->rows * run->env->signal_dim;
  p->window = WINDOW / wide < 1 ? 1 : WINDOW / wide < p->t->steps ? WINDOW / wide : p->t->steps;
  RGM_TRY(rgm_arena_create(run->stream, &p->arena));
  plan_stepped(p);
  RGM_TRY(rgm_arena_bind(p->arena));
  plan_stepped(p);
  RGM_TRY(rgm_arena_seal(p->arena));
  p->slab = malloc(rgm_bytes(p->record));
  p->signals = malloc((size_t)(wide * p->t->steps) * sizeof *p->signals);
  if (p->slab == NULL || p->signals == NULL) {
    return rgm_fail(RGM_EMEMORY, "no memory for %lld patients at a time", (long long)p->rows);
  }

  // the test seed in all replicas, at clock 0
  const uint64_t seed = (uint64_t)run->eval.seed;
  const uint32_t words[2] = {(uint32_t)seed, (uint32_t)(seed >> 32)}, zero = 0, one = 1;
  for (int64_t r = 0; r < R; r++) {
    rgm_copy(run->stream, (uint32_t *)p->seeds.data + 2 * r, words, sizeof words);
    rgm_copy(run->stream, (uint32_t *)p->clock.data + r, &zero, sizeof zero);
    rgm_copy(run->stream, (uint32_t *)p->active.data + r, &one, sizeof one);
  }
  return rgm_sync(run->stream);
}


// `count` steps from the device's records into the episodes of each patient
static void sort_signals(stepped *p, int64_t first_step, int64_t count) {
  const int64_t n = p->t->run->replicas * p->rows, S = p->t->run->env->signal_dim;
  for (int64_t k = 0; k < count; k++) {
    for (int64_t i = 0; i < n; i++) {
      memcpy(p->signals + (i * p->t->steps + first_step + k) * S, p->slab + (k * n + i) * S,
             (size_t)S * sizeof *p->slab);
    }
  }
}


static rgm_status step_block(stepped *p, int64_t first, int64_t n) {
  rgm_trial *t = p->t;
  rgm_run *run = t->run;
  const int64_t words = run->env->patient_words, wide = rgm_elements(p->record) / p->window;
  rgm_stepping o = {
      .state = p->state,
      .obs = p->obs,
      .reward = p->reward,
      .terminated = p->terminated,
      .truncated = p->truncated,
      .act = p->act,
      .config = run->env_config,
      .seeds = p->seeds,
      .clock = p->clock,
      .active = p->active,
      .patient = RGM_RANDOM_PATIENT + RGM_RANDOM_EVAL,
      .noise = RGM_RANDOM_NOISE + RGM_RANDOM_EVAL,
      .first = first,
      .steps = t->steps,
      .begin = true,
      .hold = true,
  };
  const rgm_cohort cohort = {
      .patients = p->patients,
      .config = o.config,
      .seeds = o.seeds,
      .clock = o.clock,
      .active = o.active,
      .random = o.patient,
      .first = first,
  };
  // past the last of the data's patients rows stand that do not count
  rgm_env_sample(run->env_kernels, run->stream, &cohort);
  for (int64_t r = 0; r < run->replicas && t->given.count > 0; r++) {
    rgm_copy(run->stream, (float *)p->patients.data + r * p->patients.stride0,
             t->given.words + first * words, (size_t)(n * words) * sizeof(float));
  }
  o.patients = p->patients;
  rgm_env_step(run->env_kernels, run->stream, &o);
  o.begin = false;
  for (int64_t k = 0; k < t->steps; k++) {
    const int64_t row = k % p->window;
    p->c->act(run, run->stream, p->act, p->obs);
    o.signals = rgm_view((float *)p->record.data + row * wide, RGM_F32, run->replicas, p->rows,
                         run->env->signal_dim, 0);
    rgm_env_step(run->env_kernels, run->stream, &o);
    if (row == p->window - 1 || k == t->steps - 1) {
      rgm_copy(run->stream, p->slab, p->record.data, (size_t)((row + 1) * wide) * sizeof(float));
      RGM_TRY(rgm_sync(run->stream));
      sort_signals(p, k - row, row + 1);
    }
  }
  return RGM_OK;
}


static rgm_status step_all(stepped *p) {
  rgm_trial *t = p->t;
  rgm_score *s = NULL;
  const int before = t->count;
  RGM_TRY(open_stepped(p));
  for (int64_t r = 0; r < t->run->replicas; r++) {
    RGM_TRY(new_score(t, p->c->name, &s));
  }
  for (int64_t first = 0; first < t->patients; first += p->rows) {
    const int64_t n = t->patients - first < p->rows ? t->patients - first : p->rows;
    RGM_TRY(step_block(p, first, n));
    if (before == 0) {
      RGM_TRY(count_unreachable(t, p->patients, n));
    }
    for (int64_t r = 0; r < t->run->replicas; r++) {
      measure(t, &t->scores[before + r],
              p->signals + r * p->rows * t->steps * t->run->env->signal_dim, first, n);
    }
  }
  return RGM_OK;
}


// a score for every replica
static rgm_status add_stepped_scores(rgm_trial *t, const rgm_contender *c) {
  stepped p = {.t = t, .c = c, .rows = c->rows};
  RGM_ASSERT(c->rows > 0);
  const rgm_status status = step_all(&p);
  rgm_arena_free(p.arena);
  free(p.slab);
  free(p.signals);
  return status;
}


// ---- all of them -------------------------------------------------------------------------------

// the constants of a replica's environment, and the test seed
static void load_env(rgm_trial *t, int64_t r) {
  rgm_run *run = t->run;
  const uint64_t seed = (uint64_t)run->eval.seed;
  const uint32_t words[2] = {(uint32_t)seed, (uint32_t)(seed >> 32)}, zero = 0, one = 1;
  const rgm_tensor config = run->env_config;
  rgm_copy(run->stream, t->config.data, (const uint8_t *)config.data + r * config.stride0,
           run->env->config_size);
  rgm_copy(run->stream, t->seeds.data, words, sizeof words);
  rgm_copy(run->stream, t->clock.data, &zero, sizeof zero);
  rgm_copy(run->stream, t->active.data, &one, sizeof one);
}


// the same, and a controller's parameters
static rgm_status load_replica(rgm_trial *t, const rgm_contender *c, int64_t r) {
  load_env(t, r);
  rgm_copy(t->run->stream, t->params.data, (const float *)c->params.data + r * c->params.stride0,
           (size_t)c->params.stride0 * sizeof(float));
  return rgm_sync(t->run->stream);
}


static rgm_status run_all(rgm_trial *t, const rgm_contender *contenders, int count,
                          bool baselines) {
  rgm_run *run = t->run;
  for (int i = 0; i < count; i++) {
    run->acting = i;
    if (contenders[i].act != NULL) {
      RGM_TRY(add_stepped_scores(t, &contenders[i]));
    }
    for (int64_t r = 0; r < run->replicas && contenders[i].act == NULL; r++) {
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


// ---- regret ------------------------------------------------------------------------------------

typedef struct solving {
  const rgm_run *run;
  const void *config; // of the environment
  const float *words; // of a chunk of patients
  int64_t grid;
  bool whole;
  double *value; // of these
  rgm_status status;
} solving;

static void solve_task(void *arg, int64_t i) {
  solving *job = arg;
  const rgm_env *env = job->run->env;
  const rgm_status status =
      env->optimum(job->run->env_keys, job->config, job->words + i * env->patient_words, job->grid,
                   job->whole, &job->value[i]);
  if (status != RGM_OK) {
    job->status = status;
  }
}


rgm_status rgm_trial_optimum(rgm_trial *t, int64_t grid, bool whole, double *value) {
  const rgm_run *run = t->run;
  uint8_t *config = malloc(run->env->config_size);
  if (config == NULL) {
    return rgm_fail(RGM_EMEMORY, "no memory for the environment");
  }
  load_env(t, 0);
  rgm_copy(run->stream, config, t->config.data, run->env->config_size);
  rgm_status status = rgm_sync(run->stream);
  solving job = {run, config, t->words, grid, whole, value, RGM_OK};

  // the same patients as the trial's, chunk by chunk
  for (int64_t first = 0; first < t->patients && status == RGM_OK; first += t->chunk) {
    const int64_t n = t->patients - first < t->chunk ? t->patients - first : t->chunk;
    const rgm_cohort cohort = cohort_of(t, first, n);
    rgm_env_sample(run->env_kernels, run->stream, &cohort);
    rgm_copy(run->stream, t->words, t->cohort.data, rgm_bytes(cohort.patients));
    status = rgm_sync(run->stream);
    job.value = value + first;
    if (status == RGM_OK) {
      rgm_cpu_parallel(rgm_host(t->run->stream), n, solve_task, &job);
      status = job.status;
    }
  }
  free(config);
  return status;
}


// where eval.optimum asks for it
static rgm_status find_best(rgm_trial *t) {
  const rgm_run *run = t->run;
  if (run->eval.optimum == 0) {
    return RGM_OK;
  }
  const char *where = rgm_config_where(run->config, "eval.optimum");
  if (run->env->optimum == NULL || t->given.count > 0) {
    return rgm_fail(RGM_ECONFIG, "%s: eval.optimum: nobody knows the optimum of %s; leave it out",
                    where, run->env->name);
  }
  if (run->eval.optimum < 8) {
    return rgm_fail(RGM_ECONFIG, "%s: eval.optimum: %lld points; 8 are the least, 240 is usual",
                    where, (long long)run->eval.optimum);
  }
  t->best = malloc((size_t)t->patients * sizeof *t->best);
  return t->best != NULL ? rgm_trial_optimum(t, run->eval.optimum, true, t->best)
                         : rgm_fail(RGM_EMEMORY, "no memory for the patients");
}


static void regret_of(const rgm_trial *t, const rgm_score *s, double *mean, double *error) {
  const double *value = s->value + t->run->env->return_metric * t->patients;
  double square = 0.0;
  *mean = 0.0;
  for (int64_t i = 0; i < t->patients; i++) {
    const double d = t->best[i] - value[i];
    square += (d - *mean) * (d - *mean) * (double)i / (double)(i + 1);
    *mean += (d - *mean) / (double)(i + 1);
  }
  const double n = (double)t->patients;
  *error = n > 1.0 ? sqrt(square / (n - 1.0) / n) : NAN;
}


void rgm_trial_regret(const rgm_trial *t, int first, int replicas, double *mean, double *error) {
  *mean = *error = NAN;
  double *all = t->best != NULL ? malloc((size_t)(2 * replicas) * sizeof *all) : NULL;
  if (all == NULL) {
    return;
  }
  for (int r = 0; r < replicas; r++) {
    regret_of(t, &t->scores[first + r], &all[r], &all[replicas + r]);
  }
  *mean = rgm_median(all, replicas);
  *error = rgm_median(all + replicas, replicas);
  free(all);
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
  if (t->best != NULL) {
    double mean, error;
    rgm_trial_regret(t, first, replicas, &mean, &error);
    rgm_json_number(json, "regret", mean);
    rgm_json_number(json, "regret_error", error);
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
  *t = (rgm_trial){.run = run};
  RGM_ASSERT(run->env->metric_count <= RGM_TRIAL_METRICS);
  const int count = run->algorithm->contenders(run, contenders, RGM_TRIAL_CONTENDERS);
  int64_t widest = 64;
  for (int i = 0; i < count; i++) {
    widest = contenders[i].params.stride0 > widest ? contenders[i].params.stride0 : widest;
  }
  RGM_TRY(take_patients(t));
  t->chunk = t->patients < CHUNK ? t->patients : CHUNK;
  t->steps = run->env->steps(run->env_keys);
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
  RGM_TRY(find_best(t));
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
  free(t->best);
  free(t->given.words);
  rgm_arena_free(t->arena);
  *t = (rgm_trial){0};
}
