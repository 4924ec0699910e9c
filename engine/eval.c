// SPDX-License-Identifier: Apache-2.0
// `regimen eval`: every controller of a run and the environment's baselines on the same test
// patients with the same noise, each replica by itself; metrics per patient, their summaries, and
// paired differences to the first baseline with Monte-Carlo error.

#include "engine/engine.h"
#include "engine/keep.h"
#include "engine/load.h"
#include "engine/picture.h"
#include "engine/regimen.h"
#include "engine/trial.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

// ---- results -----------------------------------------------------------------------------------

// Paired differences score - baseline of the metrics: mean, its Monte-Carlo standard error over
// patients, and the two-sided t-test, Bonferroni-adjusted over the comparisons that are printed.
static void write_difference(const rgm_trial *e, rgm_json *json, const rgm_score *s, int tests) {
  const rgm_env *env = e->run->env;
  const rgm_score *b = &e->scores[e->baseline];
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


// index of the replica whose mean loss is the median one
static int typical(const rgm_trial *e, int first, int replicas) {
  int best = first;
  double nearest = INFINITY;
  const int metric = e->run->env->loss_metric;
  const double centre = rgm_trial_pooled(e, first, replicas, metric).median;
  for (int i = first; i < first + replicas; i++) {
    const double distance = fabs(rgm_trial_summary(e, &e->scores[i], metric).median - centre);
    if (distance < nearest) {
      nearest = distance;
      best = i;
    }
  }
  return best;
}


// an environment may bring nothing to compare with
static bool has_baseline(const rgm_trial *e) {
  return e->baseline < e->count;
}


// how many differences are tested: every metric of every controller
static int comparisons(const rgm_trial *e) {
  int controllers = 0;
  for (int i = 0; i < e->baseline; i += rgm_trial_replicas(e, i)) {
    controllers++;
  }
  return controllers * e->run->env->metric_count;
}


static void write_json(const rgm_trial *e, rgm_json *json) {
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
  for (int i = 0; i < e->count; i += rgm_trial_replicas(e, i)) {
    rgm_json_open(json, e->scores[i].name, '{');
    rgm_trial_write_controller(e, json, i);
    rgm_json_close(json, '}');
  }
  rgm_json_close(json, '}');
  rgm_json_open(json, "differences", '{');
  for (int i = 0; i < e->baseline && has_baseline(e); i += rgm_trial_replicas(e, i)) {
    char key[96];
    snprintf(key, sizeof key, "%s_minus_%s", e->scores[i].name, e->scores[e->baseline].name);
    rgm_json_open(json, key, '{');
    write_difference(e, json, &e->scores[typical(e, i, rgm_trial_replicas(e, i))], comparisons(e));
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
static void write_text(const rgm_trial *e, FILE *out) {
  const rgm_env *env = e->run->env;
  fprintf(out, "%lld test patients, seed %lld, %lld step%s of training\n", (long long)e->patients,
          (long long)e->run->eval.seed, (long long)e->run->step, e->run->step == 1 ? "" : "s");
  for (int i = 0; i < e->count; i += rgm_trial_replicas(e, i)) {
    const int replicas = rgm_trial_replicas(e, i);
    fprintf(out, "\n%s", e->scores[i].name);
    if (replicas > 1) {
      fprintf(out, " (median of %d seeds)", replicas);
    }
    fprintf(out, "\n  %-19s %-7s %9s %8s %9s %9s %9s %9s %9s  %s\n", "", "unit", "mean", "sd",
            "median", "q25", "q75", "p95", "max", "paper");
    for (int m = 0; m < env->metric_count; m++) {
      const rgm_quantity *q = &env->metrics[m];
      const rgm_summary s = rgm_trial_pooled(e, i, replicas, m);
      fprintf(out, "  %-19s %-7s %9.2f %8.2f %9.2f %9.2f %9.2f %9.2f %9.2f  %s\n", q->name, q->unit,
              s.mean, s.sd, s.median, s.q25, s.q75, s.p95, s.max,
              published(env, e->scores[i].name, q->name));
    }
    if (e->best != NULL) {
      double mean, error;
      rgm_trial_regret(e, i, replicas, &mean, &error);
      fprintf(out, "  %-19s %-7s %9.2f +- %.2f from the optimum of patients who are known\n",
              "regret", "1", mean, error);
    }
  }
  if (!has_baseline(e)) {
    return;
  }
  const int loss = env->loss_metric, tests = comparisons(e);
  fprintf(out, "\nPaired differences in %s to %s (mean +- Monte-Carlo standard error",
          env->metrics[loss].name, e->scores[e->baseline].name);
  fprintf(out, "; t-test, Bonferroni over %d)\n", tests);
  for (int i = 0; i < e->baseline; i += rgm_trial_replicas(e, i)) {
    const rgm_score *s = &e->scores[typical(e, i, rgm_trial_replicas(e, i))];
    const rgm_score *b = &e->scores[e->baseline];
    double mean = 0.0, square = 0.0, *work = e->work;
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
static rgm_status write_picture(const rgm_trial *e, const char *folder) {
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

static rgm_status evaluate_controllers(rgm_trial *e, rgm_run *run, const char *folder,
                                       rgm_json *json, FILE *text) {
  RGM_TRY(rgm_trial_run(e, run, true));
  if (text != NULL) {
    write_text(e, text);
  }
  write_json(e, json);
  return folder != NULL ? write_picture(e, folder) : RGM_OK;
}


static rgm_status evaluate(rgm_trial *e, rgm_run **out, const rgm_options *options,
                           rgm_config *config, const rgm_checkpoint *checkpoint) {
  RGM_TRY(rgm_run_create(config, out));
  rgm_run *run = *out;
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
  // a run folder gets files, and so does --out
  struct stat info;
  const bool folder = stat(options->path, &info) == 0 && S_ISDIR(info.st_mode);
  if (options->out != NULL) {
    RGM_TRY(rgm_make_folder(options->out));
  }
  snprintf(run->out, sizeof run->out, "%s",
           options->out != NULL ? options->out
           : folder             ? options->path
                                : "");
  run->resume = options->resume;
  rgm_contender one[8];
  const bool acts = (run->algorithm->needs & RGM_EVALUATES_ENV) != 0 && run->env != NULL &&
                    run->algorithm->contenders(run, one, 8) > 0;
  if (run->algorithm->evaluate != NULL && !acts) {
    return run->algorithm->evaluate(run, &json, text);
  }
  if (run->env == NULL) {
    return rgm_fail(RGM_EUSAGE,
                    "%s was trained without env.name: there is no simulator to evaluate %s in; "
                    "its figures on held-out rows are in metrics.csv",
                    options->path, run->algorithm->name);
  }
  return evaluate_controllers(e, run,
                              options->out != NULL ? options->out
                              : folder             ? options->path
                                                   : NULL,
                              &json, text);
}


rgm_status rgm_evaluate(const rgm_options *options) {
  rgm_trial e = {0};
  rgm_run *run = NULL;
  rgm_config *config = NULL;
  rgm_checkpoint *checkpoint = NULL;
  rgm_status status = rgm_load_config(options, &config, &checkpoint);
  if (status == RGM_OK) {
    status = evaluate(&e, &run, options, config, checkpoint);
  }
  rgm_trial_free(&e);
  rgm_run_free(run);
  rgm_checkpoint_free(checkpoint);
  return status;
}
