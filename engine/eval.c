// SPDX-License-Identifier: Apache-2.0
// `regimen eval`: every controller of a run and the environment's baselines on the same test
// patients with the same noise, each replica by itself; metrics per patient, their summaries, and
// paired differences to the first baseline with Monte-Carlo error.

#include "engine/engine.h"
#include "engine/load.h"
#include "engine/picture.h"
#include "engine/regimen.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

enum { MAX_CONTENDERS = 16, CHUNK = 512, MAX_EVAL_METRICS = 16 };

// One controller with one set of parameters, evaluated: metric m of patient i is value[m * n + i].
typedef struct score {
  const char *name;
  double *value;
  float *first; // signals of the first patient, for the picture
} score;

typedef struct evaluation {
  rgm_run *run;
  int64_t patients, steps, chunk;
  rgm_arena *arena;
  rgm_tensor config, cohort, seeds, clock, active, returns, act, signals, params; // one replica
  float *host;                                                                    // signals back
  rgm_stream *threads; // a CPU stream for work on the host; the run's own where that is one
  score *scores;
  int count, baseline; // scores; index of the first baseline's score
} evaluation;


// ---- rollouts ----------------------------------------------------------------------------------

static void plan(evaluation *e, int64_t widest) {
  const rgm_env *env = e->run->env;
  rgm_arena *a = e->arena;
  const int64_t n = e->chunk, T = e->steps;
  e->config = rgm_plan(a, "config", RGM_U8, RGM_BLOCK, "replica, byte", "", 1,
                       (int64_t)env->config_size, 0, 0);
  e->cohort = rgm_plan(a, "cohort", RGM_F32, RGM_SCRATCH, "replica, patient, word", "", 1, n,
                       env->patient_words, 0);
  e->seeds = rgm_plan(a, "seeds", RGM_U32, RGM_SCRATCH, "replica, word", "", 1, 2, 0, 0);
  e->clock = rgm_plan(a, "clock", RGM_U32, RGM_SCRATCH, "one", "", 1, 0, 0, 0);
  e->active = rgm_plan(a, "active", RGM_U32, RGM_SCRATCH, "replica", "", 1, 0, 0, 0);
  e->returns = rgm_plan(a, "returns", RGM_F32, RGM_SCRATCH, "replica, episode", "1", 1, n, 0, 0);
  e->act = rgm_plan(a, "act", RGM_F32, RGM_SCRATCH, "replica, episode, step, act", "1", 1, n, T,
                    env->act_dim);
  e->signals = rgm_plan(a, "signals", RGM_F32, RGM_SCRATCH, "replica, episode, step, signal", "", 1,
                        n, T, env->signal_dim);
  e->params =
      rgm_plan(a, "params", RGM_F32, RGM_SCRATCH, "replica, parameter", "1", 1, widest, 0, 0);
}


// a chunk of patients: draw them, run them, bring the signals back
static rgm_status roll_chunk(evaluation *e, const rgm_contender *c, int64_t first, int64_t n) {
  rgm_run *run = e->run;
  rgm_cohort cohort = {
      .patients = e->cohort,
      .config = e->config,
      .seeds = e->seeds,
      .clock = e->clock,
      .active = e->active,
      .random = RGM_RANDOM_PATIENT + RGM_RANDOM_EVAL,
      .first = first,
  };
  rgm_rollout rollout = {
      .returns = e->returns,
      .signals = e->signals,
      .act = e->act,
      .patients = e->cohort,
      .config = e->config,
      .params = e->params,
      .seeds = e->seeds,
      .clock = e->clock,
      .active = e->active,
      .control = c->control,
      .hidden = c->hidden,
      .random = RGM_RANDOM_NOISE + RGM_RANDOM_EVAL,
      .first = first,
      .steps = e->steps,
  };
  cohort.patients.dims[1] = rollout.patients.dims[1] = rollout.returns.dims[1] = n;
  rollout.signals.dims[1] = rollout.act.dims[1] = n;
  run->env_kernels->sample(run->stream, &cohort);
  run->env_kernels->rollout(run->stream, &rollout);
  rgm_copy(run->stream, e->host, e->signals.data, rgm_bytes(rollout.signals));
  return rgm_sync(run->stream);
}


// metrics of one patient of a chunk
typedef struct measuring {
  const evaluation *e;
  const score *s;
  int64_t first;
} measuring;

static void measure_task(void *arg, int64_t i) {
  const measuring *job = arg;
  const evaluation *e = job->e;
  const rgm_env *env = e->run->env;
  double metrics[MAX_EVAL_METRICS];
  env->measure(e->host + i * e->steps * env->signal_dim, e->steps, metrics);
  for (int m = 0; m < env->metric_count; m++) {
    job->s->value[m * e->patients + job->first + i] = metrics[m];
  }
}


static rgm_status add_score(evaluation *e, const rgm_contender *c) {
  const rgm_env *env = e->run->env;
  score *s = &e->scores[e->count];
  s->name = c->name;
  const size_t episode = (size_t)(e->steps * env->signal_dim) * sizeof *s->first;
  s->value = malloc((size_t)(env->metric_count * e->patients) * sizeof *s->value);
  s->first = malloc(episode);
  if (s->value == NULL || s->first == NULL) {
    free(s->value);
    free(s->first);
    return rgm_fail(RGM_EMEMORY, "no memory for %lld patients", (long long)e->patients);
  }
  e->count++;
  for (int64_t first = 0; first < e->patients; first += e->chunk) {
    const int64_t n = e->patients - first < e->chunk ? e->patients - first : e->chunk;
    RGM_TRY(roll_chunk(e, c, first, n));
    if (first == 0) {
      memcpy(s->first, e->host, episode);
    }
    measuring job = {e, s, first};
    rgm_cpu_parallel(e->threads, n, measure_task, &job);
  }
  return RGM_OK;
}


// the constants of a replica's environment, the test seed, and a controller's parameters
static rgm_status load_replica(evaluation *e, const rgm_contender *c, int64_t r) {
  rgm_run *run = e->run;
  const uint64_t seed = (uint64_t)run->eval.seed;
  const uint32_t words[2] = {(uint32_t)seed, (uint32_t)(seed >> 32)}, zero = 0, one = 1;
  const rgm_tensor config = run->env_config;
  rgm_copy(run->stream, e->config.data, (const uint8_t *)config.data + r * config.stride0,
           run->env->config_size);
  rgm_copy(run->stream, e->seeds.data, words, sizeof words);
  rgm_copy(run->stream, e->clock.data, &zero, sizeof zero);
  rgm_copy(run->stream, e->active.data, &one, sizeof one);
  rgm_copy(run->stream, e->params.data, (const float *)c->params.data + r * c->params.stride0,
           (size_t)c->params.stride0 * sizeof(float));
  return rgm_sync(run->stream);
}


static rgm_status run_all(evaluation *e, const rgm_contender *contenders, int count) {
  rgm_run *run = e->run;
  for (int i = 0; i < count; i++) {
    for (int64_t r = 0; r < run->replicas; r++) {
      RGM_TRY(load_replica(e, &contenders[i], r));
      RGM_TRY(add_score(e, &contenders[i]));
    }
  }
  e->baseline = e->count;
  for (const rgm_baseline *b = run->env->baselines; b->name != NULL; b++) {
    float params[64];
    RGM_ASSERT(b->param_count <= 64);
    RGM_TRY(b->params(run->env_keys, params));
    const rgm_contender c = {
        .name = b->name,
        .control = b->control,
        .params = rgm_view(params, RGM_F32, 1, b->param_count, 0, 0),
    };
    RGM_TRY(load_replica(e, &c, 0));
    RGM_TRY(add_score(e, &c));
  }
  return RGM_OK;
}


// ---- results -----------------------------------------------------------------------------------

static rgm_summary summary_of(const evaluation *e, const score *s, int metric, double *work) {
  const double *value = s->value + metric * e->patients;
  int64_t n = 0;
  for (int64_t i = 0; i < e->patients; i++) {
    // an episode may lack a metric, maintenance dose say
    if (isfinite(value[i])) {
      work[n++] = value[i];
    }
  }
  if (n == 0) {
    return (rgm_summary){NAN, NAN, NAN, NAN, NAN, NAN, NAN, NAN};
  }
  return rgm_summarise(work, n);
}


// the summary of a controller: the median over its replicas of each figure
static rgm_summary pooled(const evaluation *e, int first, int replicas, int metric, double *work) {
  enum { FIGURES = sizeof(rgm_summary) / sizeof(double) };
  rgm_summary out;
  double *figures = malloc((size_t)replicas * FIGURES * sizeof *figures), result[FIGURES];
  RGM_ASSERT(figures != NULL);
  for (int r = 0; r < replicas; r++) {
    const rgm_summary s = summary_of(e, &e->scores[first + r], metric, work);
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
static void write_metrics(const evaluation *e, rgm_json *json, int first, int replicas,
                          double *work) {
  for (int m = 0; m < e->run->env->metric_count; m++) {
    const char *name = e->run->env->metrics[m].name;
    const rgm_summary s = pooled(e, first, replicas, m, work);
    rgm_json_number(json, name, s.mean);
    write_figures(json, name, &s);
  }
}


// Paired differences score - baseline of the metrics: mean, its Monte-Carlo standard error over
// patients, and the two-sided t-test, Bonferroni-adjusted over the comparisons that are printed.
static void write_difference(const evaluation *e, rgm_json *json, const score *s, int tests) {
  const rgm_env *env = e->run->env;
  const score *b = &e->scores[e->baseline];
  for (int m = 0; m < env->metric_count; m++) {
    const double *x = s->value + m * e->patients, *y = b->value + m * e->patients;
    double mean = 0.0, square = 0.0, n = 0.0;
    for (int64_t i = 0; i < e->patients; i++) {
      const double d = x[i] - y[i];
      if (isfinite(d)) {
        n += 1.0;
        square += (d - mean) * (d - mean) * (n - 1.0) / n;
        mean += (d - mean) / n;
      }
    }
    const double error = n > 1.0 ? sqrt(square / (n - 1.0) / n) : NAN;
    const double p = error > 0.0 ? fmin(1.0, tests * rgm_t_test(mean / error, n - 1.0)) : NAN;
    rgm_json_open(json, env->metrics[m].name, '{');
    rgm_json_number(json, "difference", mean);
    rgm_json_number(json, "standard_error", error);
    rgm_json_number(json, "t", mean / error);
    rgm_json_number(json, "p_adjusted", p);
    rgm_json_close(json, '}');
  }
}


// how many scores in a row belong to the controller of score `first`
static int replicas_of(const evaluation *e, int first) {
  int n = 1;
  while (first + n < e->count && strcmp(e->scores[first + n].name, e->scores[first].name) == 0) {
    n++;
  }
  return n;
}


// index of the replica whose mean loss is the median one
static int typical(const evaluation *e, int first, int replicas, double *work) {
  int best = first;
  double nearest = INFINITY;
  const int metric = e->run->env->loss_metric;
  const double centre = pooled(e, first, replicas, metric, work).median;
  for (int i = first; i < first + replicas; i++) {
    const double distance = fabs(summary_of(e, &e->scores[i], metric, work).median - centre);
    if (distance < nearest) {
      nearest = distance;
      best = i;
    }
  }
  return best;
}


// how many differences are tested: every metric of every controller
static int comparisons(const evaluation *e) {
  int controllers = 0;
  for (int i = 0; i < e->baseline; i += replicas_of(e, i)) {
    controllers++;
  }
  return controllers * e->run->env->metric_count;
}


static void write_json(const evaluation *e, rgm_json *json, double *work) {
  const rgm_run *run = e->run;
  const rgm_env *env = run->env;
  rgm_json_open(json, NULL, '{');
  rgm_json_number(json, "n", (double)e->patients);
  rgm_json_number(json, "seed", (double)run->eval.seed);
  rgm_json_number(json, "step", (double)run->step);
  rgm_json_number(json, "replicas", (double)run->replicas);
  rgm_json_string(json, "run_digest", run->restored_digest);
  rgm_json_open(json, "parameters", '{');
  for (const rgm_baseline *b = env->baselines; b->name != NULL; b++) {
    float params[64];
    if (b->params(run->env_keys, params) == RGM_OK) {
      rgm_json_open(json, b->name, '[');
      for (int i = 0; i < b->param_count; i++) {
        rgm_json_number(json, NULL, (double)params[i]);
      }
      rgm_json_close(json, ']');
    }
  }
  rgm_json_close(json, '}');
  rgm_json_open(json, "controllers", '{');
  for (int i = 0; i < e->count; i += replicas_of(e, i)) {
    const int replicas = replicas_of(e, i);
    rgm_json_open(json, e->scores[i].name, '{');
    write_metrics(e, json, i, replicas, work);
    if (replicas > 1) {
      rgm_json_open(json, "replicas", '[');
      for (int r = 0; r < replicas; r++) {
        rgm_json_open(json, NULL, '{');
        rgm_json_number(json, "seed", (double)(run->keys.seed + r));
        write_metrics(e, json, i + r, 1, work);
        rgm_json_close(json, '}');
      }
      rgm_json_close(json, ']');
    }
    rgm_json_close(json, '}');
  }
  rgm_json_close(json, '}');
  rgm_json_open(json, "differences", '{');
  for (int i = 0; i < e->baseline; i += replicas_of(e, i)) {
    char key[96];
    snprintf(key, sizeof key, "%s_minus_%s", e->scores[i].name, e->scores[e->baseline].name);
    rgm_json_open(json, key, '{');
    write_difference(e, json, &e->scores[typical(e, i, replicas_of(e, i), work)], comparisons(e));
    rgm_json_close(json, '}');
  }
  rgm_json_close(json, '}');
  rgm_json_close(json, '}');
}


static const char *published(const rgm_env *env, const char *controller, const char *metric) {
  for (const rgm_published *p = env->published; p->controller != NULL; p++) {
    if (strcmp(p->controller, controller) == 0 && strcmp(p->metric, metric) == 0) {
      return p->text;
    }
  }
  return "";
}


// one block per controller: metric, mean, sd, median, quartiles, p95, worst, what the paper printed
static void write_text(const evaluation *e, FILE *out, double *work) {
  const rgm_env *env = e->run->env;
  fprintf(out, "%lld test patients, seed %lld, %lld step%s of training\n", (long long)e->patients,
          (long long)e->run->eval.seed, (long long)e->run->step, e->run->step == 1 ? "" : "s");
  for (int i = 0; i < e->count; i += replicas_of(e, i)) {
    const int replicas = replicas_of(e, i);
    fprintf(out, "\n%s", e->scores[i].name);
    if (replicas > 1) {
      fprintf(out, " (median of %d seeds)", replicas);
    }
    fprintf(out, "\n  %-19s %-7s %9s %8s %9s %9s %9s %9s %9s  %s\n", "", "unit", "mean", "sd",
            "median", "q25", "q75", "p95", "max", "paper");
    for (int m = 0; m < env->metric_count; m++) {
      const rgm_quantity *q = &env->metrics[m];
      const rgm_summary s = pooled(e, i, replicas, m, work);
      fprintf(out, "  %-19s %-7s %9.2f %8.2f %9.2f %9.2f %9.2f %9.2f %9.2f  %s\n", q->name, q->unit,
              s.mean, s.sd, s.median, s.q25, s.q75, s.p95, s.max,
              published(env, e->scores[i].name, q->name));
    }
  }
  const int loss = env->loss_metric, tests = comparisons(e);
  fprintf(out, "\nPaired differences in %s to %s (mean +- Monte-Carlo standard error",
          env->metrics[loss].name, e->scores[e->baseline].name);
  fprintf(out, "; t-test, Bonferroni over %d)\n", tests);
  for (int i = 0; i < e->baseline; i += replicas_of(e, i)) {
    const score *s = &e->scores[typical(e, i, replicas_of(e, i), work)];
    const score *b = &e->scores[e->baseline];
    double mean = 0.0, square = 0.0;
    for (int64_t k = 0; k < e->patients; k++) {
      work[k] = s->value[loss * e->patients + k] - b->value[loss * e->patients + k];
      mean += work[k] / (double)e->patients;
    }
    for (int64_t k = 0; k < e->patients; k++) {
      square += (work[k] - mean) * (work[k] - mean);
    }
    const double n = (double)e->patients, error = sqrt(square / (n - 1.0) / n);
    const double p = fmin(1.0, tests * rgm_t_test(mean / error, n - 1.0));
    fprintf(out, "  %-19s %8.3f +- %.3f %s   t %.1f, p %s%.2g\n", s->name, mean, error,
            env->metrics[loss].unit, mean / error, p < 1e-15 ? "< " : "", fmax(p, 1e-15));
  }
}


// the first patient under the first controller and the first baseline, beside the run
static rgm_status write_picture(const evaluation *e, const char *folder) {
  char path[4096];
  rgm_picture picture = {.env = e->run->env, .steps = e->steps};
  const int shown[] = {0, e->baseline};
  for (int i = 0; i < 2 && shown[i] < e->count && (i == 0 || e->baseline > 0); i++) {
    picture.names[picture.count] = e->scores[shown[i]].name;
    picture.signals[picture.count++] = e->scores[shown[i]].first;
  }
  snprintf(path, sizeof path, "%s/trajectory.svg", folder);
  FILE *out = fopen(path, "w");
  if (out == NULL) {
    return rgm_fail(RGM_EIO, "%s: %s", path, strerror(errno));
  }
  rgm_picture_write(&picture, out);
  return fclose(out) == 0 ? RGM_OK : rgm_fail(RGM_EIO, "%s: %s", path, strerror(errno));
}


// ---- the command -------------------------------------------------------------------------------

static rgm_status evaluate_controllers(evaluation *e, const char *folder, rgm_json *json,
                                       FILE *text) {
  rgm_run *run = e->run;
  rgm_contender contenders[MAX_CONTENDERS];
  RGM_ASSERT(run->env->metric_count <= MAX_EVAL_METRICS);
  const int count = run->algorithm->contenders(run, contenders, MAX_CONTENDERS);
  int64_t widest = 64;
  for (int i = 0; i < count; i++) {
    widest = contenders[i].params.stride0 > widest ? contenders[i].params.stride0 : widest;
  }
  e->patients = run->eval.patients;
  e->chunk = e->patients < CHUNK ? e->patients : CHUNK;
  e->steps = run->env->steps(run->env_keys);
  e->threads = run->stream;
  if (strcmp(run->stream->backend->name, "cpu") != 0) {
    char note[512];
    const rgm_device_options host = {(int)run->keys.threads, "auto"};
    RGM_TRY(rgm_open("cpu", &host, &e->threads, note, sizeof note));
  }
  RGM_TRY(rgm_arena_create(run->stream, &e->arena));
  plan(e, widest);
  RGM_TRY(rgm_arena_bind(e->arena));
  plan(e, widest);
  RGM_TRY(rgm_arena_seal(e->arena));

  const size_t most = (size_t)(count * run->replicas + MAX_CONTENDERS);
  e->scores = calloc(most, sizeof *e->scores);
  e->host = malloc(rgm_bytes(e->signals));
  double *work = malloc((size_t)e->patients * sizeof *work);
  rgm_status status =
      e->scores == NULL || e->host == NULL || work == NULL
          ? rgm_fail(RGM_EMEMORY, "no memory for %lld patients; lower eval.patients",
                     (long long)e->patients)
          : run_all(e, contenders, count);
  if (status == RGM_OK && text != NULL) {
    write_text(e, text, work);
  }
  if (status == RGM_OK) {
    write_json(e, json, work);
  }
  free(work);
  return status == RGM_OK && folder != NULL ? write_picture(e, folder) : status;
}


static rgm_status evaluate(evaluation *e, const rgm_options *options, rgm_config *config,
                           const rgm_checkpoint *checkpoint) {
  RGM_TRY(rgm_run_create(config, &e->run));
  rgm_run *run = e->run;
  if (checkpoint != NULL) {
    RGM_TRY(rgm_run_restore(run, checkpoint, false));
  } else if ((run->algorithm->needs & RGM_TRAINS_NOT) == 0) {
    return rgm_fail(RGM_EUSAGE,
                    "%s is a config of %s, which must be trained first: regimen train %s",
                    options->path, run->algorithm->name, options->path);
  }
  if (options->progress != NULL) {
    fprintf(options->progress, "%s: evaluating %s on %s\n", rgm_version_text(),
            run->algorithm->name, run->device);
  }
  rgm_json json = {.out = options->json ? options->result : NULL};
  FILE *text = options->json ? NULL : options->result;
  if (run->algorithm->evaluate != NULL) {
    return run->algorithm->evaluate(run, &json, text);
  }
  // a run folder gets a picture, and so does --out
  struct stat info;
  const bool folder = stat(options->path, &info) == 0 && S_ISDIR(info.st_mode);
  return evaluate_controllers(e,
                              options->out != NULL ? options->out
                              : folder             ? options->path
                                                   : NULL,
                              &json, text);
}


rgm_status rgm_evaluate(const rgm_options *options) {
  evaluation e = {0};
  rgm_config *config = NULL;
  rgm_checkpoint *checkpoint = NULL;
  rgm_status status = rgm_load_config(options, &config, &checkpoint);
  if (status == RGM_OK) {
    status = evaluate(&e, options, config, checkpoint);
  }
  for (int i = 0; i < e.count; i++) {
    free(e.scores[i].value);
    free(e.scores[i].first);
  }
  free(e.scores);
  free(e.host);
  rgm_arena_free(e.arena);
  if (e.run != NULL && e.threads != e.run->stream) {
    rgm_close(e.threads);
  }
  rgm_run_free(e.run);
  rgm_checkpoint_free(checkpoint);
  return status;
}
