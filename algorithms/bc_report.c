// SPDX-License-Identifier: Apache-2.0
// How well a cloned policy does on rows that it has seen and on those held out: reports of a
// training, and its evaluation. See bc.h.

#include "algorithms/bc.h"
#include "engine/trial.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>


// How a policy does on a part: sums over its rows, per replica.
typedef struct score {
  double *log_pi; // (R) sum of log-densities
  double *error;  // (R, D) sum of |mean - action| in its unit; of classes, how many are wrong
} score;


// the truth of the i-th rows of a part
static void add_rows(const rgm_run *run, int part, int64_t at, int64_t rows, int64_t r,
                     const float *act, const float *log_pi, score *out) {
  const rgm_transitions *t = run->transitions;
  const int64_t D = t->actions;
  for (int64_t i = 0, k = 0; i < t->rows && k < at + rows; i++) {
    if (t->split[i] != part || k++ < at) {
      continue;
    }
    const int64_t row = k - 1 - at;
    out->log_pi[r] += (double)log_pi[row];
    for (int64_t d = 0; d < D; d++) {
      const double gap = (double)act[row * D + d] - (double)t->action[i * D + d];
      out->error[r * D + d] += t->choices > 0 ? gap != 0.0 : fabs(gap);
    }
  }
}


// a chunk of rows of n replicas from `first` on: scored, then answered by the policy itself
static rgm_status score_chunk(rgm_run *run, const rgm_nets *actor, int part, int64_t at,
                              int64_t rows, int64_t first, int64_t n, float *host, score *out) {
  const rgm_bc_self *s = run->self;
  const int64_t D = run->transitions->actions;
  const size_t size = sizeof(float);
  float *log_pi = host, *act = host + n * rows;
  rgm_policy_draw look = rgm_bc_look(run, run->stream, actor, part, at, rows, first, n);
  look.log_pi = rgm_rows(rgm_slice(s->look_log, 0, n), 0, rows);
  rgm_action_score(run->stream, (rgm_tensor){0}, &look);
  for (int64_t r = 0; r < n; r++) {
    rgm_copy(run->stream, log_pi + r * rows,
             (const float *)look.log_pi.data + r * look.log_pi.stride0, (size_t)rows * size);
  }
  look.act = rgm_rows(rgm_slice(s->look_act, 0, n), 0, rows);
  rgm_action_draw(run->stream, &look);
  for (int64_t r = 0; r < n; r++) {
    rgm_copy(run->stream, act + r * rows * D, (const float *)look.act.data + r * look.act.stride0,
             (size_t)(rows * D) * size);
  }
  RGM_TRY(rgm_sync(run->stream));
  for (int64_t r = 0; r < n; r++) {
    add_rows(run, part, at, rows, first + r, act + r * rows * D, log_pi + r * rows, out);
  }
  return RGM_OK;
}


// means over the rows of a part; out's memory is one block, from log_pi on
static rgm_status score_part(rgm_run *run, int part, bool best, score *out) {
  rgm_bc_self *s = run->self;
  const rgm_transitions *t = run->transitions;
  const int64_t R = run->replicas, D = t->actions, V = t->part[part], group = s->obs.dims[0];
  float *host = malloc((size_t)(group * RGM_BC_ROWS * (D + 1)) * sizeof *host);
  out->log_pi = calloc((size_t)(R * (D + 1)), sizeof(double));
  if (host == NULL || out->log_pi == NULL) {
    free(host);
    return rgm_fail(RGM_EMEMORY, "no memory for %lld replicas", (long long)R);
  }
  out->error = out->log_pi + R;
  rgm_nets nets = s->actor;
  nets.net[0] = best ? s->best : nets.net[0];
  rgm_status status = RGM_OK;
  for (int64_t first = 0; first < R; first += group) {
    const int64_t n = R - first < group ? R - first : group;
    rgm_nets actor;
    rgm_slice_nets(&nets, first, n, &actor);
    for (int64_t at = 0; at < V && status == RGM_OK; at += RGM_BC_ROWS) {
      const int64_t rows = V - at < RGM_BC_ROWS ? V - at : RGM_BC_ROWS;
      status = score_chunk(run, &actor, part, at, rows, first, n, host, out);
    }
  }
  for (int64_t i = 0; i < R * (D + 1); i++) {
    out->log_pi[i] /= (double)V;
  }
  free(host);
  return status;
}


// one number of each replica, `stride` apart
static rgm_status report_doubles(rgm_run *run, const char *name, const char *unit,
                                 const double *values, int64_t stride, bool complement) {
  float *row = malloc((size_t)run->replicas * sizeof *row);
  if (row == NULL) {
    return rgm_fail(RGM_EMEMORY, "no memory for the report");
  }
  for (int64_t r = 0; r < run->replicas; r++) {
    row[r] = (float)(complement ? 1.0 - values[r * stride] : values[r * stride]);
  }
  const rgm_status status = rgm_report(run, name, unit, row);
  free(row);
  return status;
}


static rgm_status report_score(rgm_run *run, const score *of) {
  const rgm_transitions *t = run->transitions;
  const rgm_bc_keys *k = rgm_algorithm_keys(run, 0);
  enum { SHOWN = 32 }; // columns of errors
  const int64_t D = t->actions;
  if (k->loss == RGM_BC_LIKELIHOOD) {
    RGM_TRY(report_doubles(run, "log_likelihood", "nat", of->log_pi, 1, false));
  }
  if (t->choices > 0) {
    return report_doubles(run, "accuracy", "1", of->error, 1, true);
  }
  for (int64_t d = 0; d < D && d < SHOWN; d++) {
    char name[48];
    snprintf(name, sizeof name, "error/%.40s", t->act[d].name);
    RGM_TRY(report_doubles(run, name, t->act[d].unit, of->error + d, D, false));
  }
  return RGM_OK;
}


rgm_status rgm_bc_report(rgm_run *run) {
  const rgm_bc_self *s = run->self;
  const int64_t R = run->replicas;
  const bool any = run->transitions->part[RGM_VALIDATION] > 0;
  float *shown = malloc((size_t)R * 3 * sizeof *shown), *row = shown != NULL ? shown + 2 * R : NULL;
  if (shown == NULL) {
    return rgm_fail(RGM_EMEMORY, "no memory for the report");
  }
  rgm_status status = rgm_read_back(run, s->shown, shown);
  for (int which = 1; which >= 0 && status == RGM_OK; which--) {
    for (int64_t r = 0; r < R; r++) {
      row[r] = which == 1 && !any ? NAN : shown[2 * r + which];
    }
    status = rgm_report(run, which == 1 ? "validation_loss" : "train_loss", "nat", row);
  }
  free(shown);
  if (status != RGM_OK || !any) {
    return status;
  }
  score of = {0};
  status = score_part(run, RGM_VALIDATION, false, &of);
  if (status == RGM_OK) {
    status = report_score(run, &of);
  }
  free(of.log_pi);
  return status;
}


// ---- evaluation --------------------------------------------------------------------------------

// what one answer for all rows would do: the commonest class, or the mean of the training rows
static double answer_for_all(const rgm_transitions *t, int part, int64_t d) {
  int64_t *count = calloc((size_t)t->choices + 1, sizeof *count);
  double answer = t->choices > 0 ? 0.0 : t->act[d].mean, error = 0.0;
  for (int64_t i = 0; i < t->rows && t->choices > 0 && count != NULL; i++) {
    count[(int64_t)t->action[i]] += t->split[i] == RGM_TRAIN;
  }
  for (int64_t c = 0; c < t->choices && count != NULL; c++) {
    answer = count[c] > count[(int64_t)answer] ? (double)c : answer;
  }
  for (int64_t i = 0; i < t->rows; i++) {
    const double gap = answer - (double)t->action[i * t->actions + d];
    error += t->split[i] != part ? 0.0 : t->choices > 0 ? gap != 0.0 : fabs(gap);
  }
  free(count);
  return error / (double)t->part[part];
}


static rgm_summary over_replicas(const rgm_run *run, const double *x, int64_t stride,
                                 double *work) {
  for (int64_t r = 0; r < run->replicas; r++) {
    work[r] = x[r * stride];
  }
  return rgm_summarise(work, run->replicas);
}


static void write_part(const rgm_run *run, int part, const score *of, double *work, rgm_json *json,
                       FILE *text) {
  const rgm_transitions *t = run->transitions;
  const int64_t D = t->actions;
  const bool classes = t->choices > 0;
  const rgm_summary likely = over_replicas(run, of->log_pi, 1, work);
  rgm_json_open(json, rgm_split_name((rgm_split)part), '{');
  rgm_json_number(json, "n", (double)t->part[part]);
  rgm_json_number(json, "log_likelihood", likely.mean);
  rgm_json_number(json, "log_likelihood_sd", likely.sd);
  rgm_json_open(json, classes ? "accuracy" : "error", '{');
  if (text != NULL) {
    fprintf(text, "\n%s, %lld rows\n  %-28s %12s %10s %12s\n  %-28s %12.4f %10.4f\n",
            rgm_split_name((rgm_split)part), (long long)t->part[part], "", "mean", "sd of seeds",
            "one for all", "log-likelihood", likely.mean, likely.sd);
  }
  for (int64_t d = 0; d < D; d++) {
    char name[160];
    const rgm_summary wrong = over_replicas(run, of->error + d, D, work);
    const double constant = answer_for_all(t, part, d);
    rgm_json_open(json, t->act[d].name, '{');
    rgm_json_number(json, "mean", classes ? 1.0 - wrong.mean : wrong.mean);
    rgm_json_number(json, "sd", wrong.sd);
    rgm_json_number(json, "one_for_all", classes ? 1.0 - constant : constant);
    rgm_json_close(json, '}');
    if (text != NULL) {
      snprintf(name, sizeof name, classes ? "accuracy of %s" : "|error| of %s %s", t->act[d].name,
               t->act[d].unit);
      fprintf(text, "  %-28s %12.4f %10.4f %12.4f\n", name, classes ? 1.0 - wrong.mean : wrong.mean,
              wrong.sd, classes ? 1.0 - constant : constant);
    }
  }
  rgm_json_close(json, '}');
  rgm_json_close(json, '}');
}


// its returns, and those of the simulator's own controllers, where the config names one
static rgm_status write_trial(rgm_run *run, rgm_trial *e, rgm_json *json, FILE *text) {
  const rgm_env *env = run->env;
  RGM_TRY(rgm_trial_run(e, run, true));
  rgm_json_open(json, "controllers", '{');
  if (text != NULL) {
    fprintf(text, "\n%s, %lld test patients, seed %lld; mean over them, median of seeds\n",
            env->name, (long long)e->patients, (long long)run->eval.seed);
  }
  for (int i = 0; i < e->count; i += rgm_trial_replicas(e, i)) {
    rgm_json_open(json, e->scores[i].name, '{');
    rgm_trial_write_controller(e, json, i);
    rgm_json_close(json, '}');
    for (int m = 0; m < env->metric_count && text != NULL; m++) {
      fprintf(text, "  %-14s %-13s %12.4f %s\n", m == 0 ? e->scores[i].name : "",
              env->metrics[m].name, rgm_trial_pooled(e, i, rgm_trial_replicas(e, i), m).mean,
              env->metrics[m].unit);
    }
    if (e->best != NULL && text != NULL) {
      double mean, error;
      rgm_trial_regret(e, i, rgm_trial_replicas(e, i), &mean, &error);
      fprintf(text, "  %-14s %-13s %12.4f 1, +- %.4f\n", "", "regret", mean, error);
    }
  }
  rgm_json_close(json, '}');
  return RGM_OK;
}


rgm_status rgm_bc_evaluate(rgm_run *run, rgm_json *json, FILE *text) {
  const rgm_transitions *t = run->transitions;
  const rgm_bc_keys *k = rgm_algorithm_keys(run, 0);
  const bool best = k->evaluate == RGM_BC_BEST;
  double *work = malloc((size_t)run->replicas * sizeof *work);
  rgm_status status = work != NULL ? RGM_OK : rgm_fail(RGM_EMEMORY, "no memory for the results");
  if (text != NULL) {
    rgm_transitions_print(t, text);
  }
  rgm_json_open(json, NULL, '{');
  rgm_json_number(json, "step", (double)run->step);
  rgm_json_number(json, "replicas", (double)run->replicas);
  rgm_json_string(json, "weights", best ? "best" : "last");
  rgm_json_string(json, "run_digest", run->restored_digest);
  rgm_json_string(json, "data_digest", run->data_digest);
  for (int part = RGM_TRAIN; part < RGM_SPLITS && status == RGM_OK; part++) {
    score of = {0};
    if (t->part[part] > 0) {
      status = score_part(run, part, best, &of);
    }
    if (t->part[part] > 0 && status == RGM_OK) {
      write_part(run, part, &of, work, json, text);
    }
    free(of.log_pi);
  }
  if (run->env != NULL && status == RGM_OK) {
    rgm_trial trial = {0};
    status = write_trial(run, &trial, json, text);
    rgm_trial_free(&trial);
  }
  rgm_json_close(json, '}');
  free(work);
  return status;
}
