// SPDX-License-Identifier: Apache-2.0
// `regimen eval` of values: clinical quantities where there is a simulator, the clone's
// calibration, and then what every policy is worth by every estimate, with what speaks against
// believing it. As a table, as JSON, and as values.csv in the run folder. See values.h.

#include "algorithms/values.h"
#include "engine/trial.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

// How often what the clone gives a probability to is done, in bins of that probability.
typedef struct calibration {
  double rows, likely, right;                                      // log-likelihood a row, accuracy
  double count[VALUES_BINS], said[VALUES_BINS], done[VALUES_BINS]; // means of a bin
  double error;                                                    // mean |said - done|
} calibration;


// ---- the clone ---------------------------------------------------------------------------------

static rgm_status calibrate(const rgm_run *run, calibration *c) {
  const rgm_values *s = run->self;
  const int64_t rows = s->held.rows, A = run->transitions->choices;
  double *mu = malloc((size_t)(rows * A + 1) * sizeof *mu);
  *c = (calibration){.rows = (double)rows};
  rgm_status status = mu != NULL ? RGM_OK : rgm_fail(RGM_EMEMORY, "no memory for the clone");
  if (status == RGM_OK && A > 0) {
    status = rgm_values_log_pi(run, -1, s->held.of, rows, false, mu);
  }
  for (int64_t i = 0; i < rows && status == RGM_OK; i++) {
    int64_t best = 0;
    c->likely += s->held.behaviour[i] / (double)rows;
    for (int64_t a = 0; a < A; a++) {
      const double p = exp(mu[i * A + a]);
      const int bin = p < 1.0 ? (int)(p * VALUES_BINS) : VALUES_BINS - 1;
      best = mu[i * A + a] > mu[i * A + best] ? a : best;
      c->count[bin] += 1.0;
      c->said[bin] += p;
      c->done[bin] += (double)s->held.act[i] == (double)a;
    }
    c->right += A > 0 && (double)s->held.act[i] == (double)best ? 1.0 / (double)rows : 0.0;
  }
  for (int b = 0; b < VALUES_BINS && A > 0; b++) {
    c->error += fabs(c->said[b] - c->done[b]) / (double)(rows * A);
    c->said[b] /= c->count[b];
    c->done[b] /= c->count[b];
  }
  free(mu);
  return status;
}


static void write_calibration(const rgm_run *run, const calibration *c, rgm_json *json,
                              FILE *text) {
  const bool classes = run->transitions->choices > 0;
  rgm_json_open(json, "clone", '{');
  rgm_json_number(json, "log_likelihood", c->likely);
  if (classes) {
    rgm_json_number(json, "accuracy", c->right);
    rgm_json_number(json, "calibration_error", c->error);
    rgm_json_open(json, "calibration", '[');
    for (int b = 0; b < VALUES_BINS; b++) {
      rgm_json_open(json, NULL, '{');
      rgm_json_number(json, "n", c->count[b]);
      rgm_json_number(json, "said", c->said[b]);
      rgm_json_number(json, "done", c->done[b]);
      rgm_json_close(json, '}');
    }
    rgm_json_close(json, ']');
  }
  rgm_json_close(json, '}');
  if (text == NULL) {
    return;
  }
  fprintf(text, "\nWhat clinicians do, by the clone on these rows: log-likelihood %.3f a row",
          c->likely);
  if (classes) {
    fprintf(text,
            ", accuracy %.3f,\ncalibration error %.3f; probability said / share done:", c->right,
            c->error);
    for (int b = 0; b < VALUES_BINS; b++) {
      if (c->count[b] > 0.0) {
        fprintf(text, " %.2f/%.2f", c->said[b], c->done[b]);
      }
    }
  }
  fprintf(text, "\n");
}


// ---- in the simulator --------------------------------------------------------------------------

static void print_simulated(const rgm_trial *t, FILE *text) {
  const rgm_env *env = t->run->env;
  fprintf(text, "\nIn the simulator %s, %lld patients, seed %lld: means\n  %-16s", env->name,
          (long long)t->patients, (long long)t->run->eval.seed, "");
  for (int m = 0; m < env->metric_count; m++) {
    fprintf(text, " %*s", (int)strlen(env->metrics[m].name), env->metrics[m].name);
  }
  fprintf(text, "%s\n", t->best != NULL ? "  regret" : "");
  for (int i = 0; i < t->count; i += rgm_trial_replicas(t, i)) {
    double regret, error;
    fprintf(text, "  %-16s", t->scores[i].name);
    for (int m = 0; m < env->metric_count; m++) {
      fprintf(text, " %*.1f", (int)strlen(env->metrics[m].name),
              rgm_trial_summary(t, &t->scores[i], m).mean);
    }
    if (t->best != NULL) {
      rgm_trial_regret(t, i, 1, &regret, &error);
      fprintf(text, "  %.1f +- %.1f", regret, error);
    }
    fprintf(text, "\n");
  }
}


// every policy, then the environment's own controllers, on the same test patients; replicas are
// seeds of critics, which do not act
static rgm_status write_simulated(rgm_run *run, rgm_json *json, FILE *text) {
  rgm_trial t = {0};
  const rgm_status status = rgm_trial_run(&t, run, true);
  rgm_json_open(json, "simulated", '{');
  for (int i = 0; i < t.count && status == RGM_OK; i += rgm_trial_replicas(&t, i)) {
    rgm_json_open(json, t.scores[i].name, '{');
    rgm_trial_write_metrics(&t, json, i, 1);
    rgm_json_close(json, '}');
  }
  rgm_json_close(json, '}');
  if (status == RGM_OK && text != NULL) {
    print_simulated(&t, text);
  }
  rgm_trial_free(&t);
  return status;
}


// ---- worth -------------------------------------------------------------------------------------

// Why estimates are not to be believed, "" where nothing speaks against it. Critics and models that
// no weights support only extrapolate.
static void why_not(const rgm_worth *w, char out[96]) {
  snprintf(out, 96, "%s%s%s", w->few_patients ? " few patients" : "",
           w->few_weights ? " few weights" : "", w->far ? " outside support" : "");
}


static void write_worth(const rgm_valued *v, const rgm_worth *w, rgm_json *json, FILE *csv) {
  rgm_json_open(json, v->name, '{');
  rgm_json_number(json, "ess", w->estimates.ess);
  rgm_json_number(json, "step_ess", w->estimates.step_ess);
  rgm_json_number(json, "weightless", w->estimates.zero);
  rgm_json_number(json, "outside", w->outside);
  rgm_json_number(json, "fqe_sd_of_seeds", w->fqe_sd);
  for (int m = 0; m < RGM_ESTIMATES; m++) {
    const rgm_interval *x = &w->estimates.of[m];
    char why[96];
    why_not(w, why);
    rgm_json_open(json, rgm_estimate_names[m], '{');
    rgm_json_number(json, "value", x->value);
    rgm_json_number(json, "low", x->low);
    rgm_json_number(json, "high", x->high);
    rgm_json_number(json, "error", x->error);
    rgm_json_string(json, "not_reliable", why[0] == ' ' ? why + 1 : why);
    rgm_json_close(json, '}');
    if (csv != NULL) {
      fprintf(csv, "%s,%s,%.9g,%.9g,%.9g,%.9g,%.9g,%.9g,%s\n", v->name, rgm_estimate_names[m],
              x->value, x->low, x->high, x->error, w->estimates.ess, w->outside,
              why[0] == ' ' ? why + 1 : why);
    }
  }
  rgm_json_close(json, '}');
}


static void print_worth(const rgm_valued *v, const rgm_worth *w, FILE *text) {
  static const int shown[] = {RGM_ESTIMATE_FQE, RGM_ESTIMATE_MODEL, RGM_ESTIMATE_WDR,
                              RGM_ESTIMATE_WIS};
  fprintf(text, "  %-16s", v->name);
  for (size_t i = 0; i < sizeof shown / sizeof *shown; i++) {
    const rgm_interval *x = &w->estimates.of[shown[i]];
    char why[96], cell[64];
    why_not(w, why);
    if (isnan(x->value)) {
      snprintf(cell, sizeof cell,
               shown[i] == RGM_ESTIMATE_MODEL ? "-"
               : w->estimates.zero == 1.0     ? "no weight"
                                              : "no density");
    } else if (why[0] != '\0') {
      snprintf(cell, sizeof cell, "not reliable (%.1f)", x->value);
    } else {
      snprintf(cell, sizeof cell, "%.1f (%.1f to %.1f)", x->value, x->low, x->high);
    }
    fprintf(text, " %-24s", cell);
  }
  fprintf(text, " %7.1f %7.1f %%\n", w->estimates.ess, 100.0 * w->outside);
}


static rgm_status write_table(rgm_run *run, const rgm_worth *worth, rgm_json *json, FILE *text) {
  const rgm_values *s = run->self;
  const rgm_values_keys *k = rgm_algorithm_keys(run, 0);
  char path[2200];
  FILE *csv = NULL;
  if (run->out[0] != '\0') {
    snprintf(path, sizeof path, "%s/values.csv", run->out);
    csv = fopen(path, "w");
    if (csv == NULL) {
      return rgm_fail(RGM_EIO, "%s: %s", path, strerror(errno));
    }
    fprintf(csv, "policy,method,value,low,high,error,ess,outside,not_reliable\n");
  }
  if (text != NULL) {
    fprintf(
        text,
        "\nWorth on held-out patients: sum of rewards of %lld steps at most, discount %g; %.0f %% "
        "intervals by patients\n  %-16s %-24s %-24s %-24s %-24s %7s %9s\n",
        (long long)s->longest, k->gamma, 100.0 * k->level, "", "fitted Q (fqe)", "learned model",
        "doubly robust (wdr)", "weighted (wis)", "ESS", "outside");
  }
  rgm_json_open(json, "policies", '{');
  for (int n = 0; n < s->count; n++) {
    write_worth(&s->valued[n], &worth[n], json, csv);
    if (text != NULL) {
      print_worth(&s->valued[n], &worth[n], text);
    }
  }
  rgm_json_close(json, '}');
  if (text != NULL) {
    fprintf(text,
            "  not reliable: ESS below %g episodes, fewer than %lld patients, or "
            "more than %.0f %%\n  of the policy's actions where clinicians as good as never act "
            "(probability below %g)\n",
            k->least_ess, (long long)k->least_patients, 100.0 * k->most_outside, k->support);
  }
  return csv == NULL || fclose(csv) == 0 ? RGM_OK
                                         : rgm_fail(RGM_EIO, "%s: %s", path, strerror(errno));
}


// the critics belong to policies that may have been trained again since
static rgm_status check_digests(rgm_run *run) {
  const rgm_values *s = run->self;
  uint32_t *words = malloc(rgm_bytes(s->digest));
  if (words == NULL) {
    return rgm_fail(RGM_EMEMORY, "no memory for digests");
  }
  rgm_status status = rgm_read_back(run, s->digest, words);
  for (int n = 0; n < s->count && status == RGM_OK; n++) {
    char hex[65] = "";
    for (int i = 0; i < 8; i++) {
      snprintf(hex + 8 * i, 9, "%08x", words[8 * n + i]);
    }
    const char *now = s->valued[n].policy->digest;
    if (now[0] != '\0' && strcmp(hex, now) != 0) {
      status = rgm_fail(RGM_EDATA,
                        "algorithm.runs: %s is another policy than the one that these critics were "
                        "fitted to: train them again",
                        s->valued[n].name);
    }
  }
  free(words);
  return status;
}


rgm_status rgm_values_evaluate(rgm_run *run, rgm_json *json, FILE *text) {
  const rgm_values *s = run->self;
  rgm_worth worth[VALUES_POLICIES];
  calibration clone;
  int64_t patients = 0;
  RGM_TRY(check_digests(run));
  RGM_TRY(calibrate(run, &clone));
  RGM_TRY(rgm_values_worth(run, worth, &patients));
  if (text != NULL) {
    rgm_transitions_print(run->transitions, text);
    fprintf(text, "held out     %lld rows of %lld patients\n", (long long)s->held.rows,
            (long long)patients);
  }
  rgm_json_open(json, NULL, '{');
  rgm_json_number(json, "step", (double)run->step);
  rgm_json_number(json, "replicas", (double)run->replicas);
  rgm_json_string(json, "run_digest", run->restored_digest);
  rgm_json_string(json, "data_digest", run->data_digest);
  rgm_json_number(json, "patients", (double)patients);
  rgm_json_number(json, "rows", (double)s->held.rows);
  rgm_json_number(json, "steps_of_an_episode", (double)s->longest);
  rgm_status status = run->env != NULL ? write_simulated(run, json, text) : RGM_OK;
  if (status == RGM_OK) {
    write_calibration(run, &clone, json, text);
    status = write_table(run, worth, json, text);
  }
  rgm_json_close(json, '}');
  return status;
}
