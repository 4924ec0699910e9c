// SPDX-License-Identifier: Apache-2.0
// Whether off-policy evaluation tells the truth, where the truth is known (as Voloshin et al. 2021
// do for toy problems): for every amount of noise and unmeasured confounding in what clinicians do
// and every number of patients, data sets are simulated, policies learned from them, all of them
// valued on the data set's held-out patients by every method (values.c), and tried out in the
// simulator on patients of whom no data set has any. By method: how often intervals hold the truth,
// errors, how well policies are ranked; by policy: regret.

#include "algorithms/values.h"
#include "engine/keep.h"
#include "engine/load.h"
#include "engine/regimen.h"
#include "engine/trial.h"

#include <errno.h>
#include <math.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

typedef struct honesty_keys {
  char simulate[RGM_STRING_SIZE], clone[RGM_STRING_SIZE], learners[RGM_STRING_SIZE];
  char values[RGM_STRING_SIZE], model[RGM_STRING_SIZE];
  rgm_list noise, kappa, patients;
  int64_t seeds, first;
} honesty_keys;

#define KEY(member) offsetof(honesty_keys, member)

static const rgm_field fields[] = {
    RGM_TEXT("simulate", KEY(simulate), NULL, 0, "Config of `regimen simulate` for a data set."),
    RGM_TEXT("clone", KEY(clone), NULL, 0, "Config of the clone, which is a learner too."),
    RGM_TEXT("learners", KEY(learners), "", 0, "Configs of the other learners, between commas."),
    RGM_TEXT("values", KEY(values), NULL, 0,
             "Config of their valuation, whose runs and clone are "
             "set from here."),
    RGM_TEXT(
        "model", KEY(model), "", 0,
        "run.name of the learner in whose learned model policies are rolled out; empty: none."),
    {"noise", RGM_LIST, KEY(noise), "1", "[0.15]", 0, 3, NULL, 0,
     "Values of env.noise: how differently clinicians follow the nomogram."},
    {"kappa", RGM_LIST, KEY(kappa), "s", "[0]", -100, 100, NULL, 0,
     "Values of env.kappa: unmeasured confounding."},
    {"patients", RGM_LIST, KEY(patients), "1", "[1000]", 10, 1e6, NULL, 0,
     "Values of simulate.patients."},
    {"seeds", RGM_INT, KEY(seeds), "1", "20", 1, 10000, NULL, 0, "Data sets of each cell."},
    {"first", RGM_INT, KEY(first), "1", "1", 0, 1e9, NULL, 0, "The first one's seed."},
    {0},
};

enum { MOST_LEARNERS = 8, MOST_SETS = 16, MOST_CELLS = 256 };

// One policy on one data set.
typedef struct outcome {
  char name[64];
  bool learned;
  double truth, regret, measured; // return, regret, % of measured aPTTs within range
  rgm_interval of[RGM_ESTIMATES];
  bool reliable[RGM_ESTIMATES];
} outcome;

// All policies of one data set.
typedef struct trialled {
  int count;
  outcome policy[VALUES_POLICIES];
} trialled;

typedef struct cell {
  double noise, kappa;
  int64_t patients;
} cell;

typedef struct bench {
  rgm_run *run;
  const honesty_keys *k;
  char folder[2048]; // of data sets and runs
  int learners;
  char learner[MOST_LEARNERS][RGM_STRING_SIZE]; // configs, the clone first
  char name[MOST_LEARNERS][64];                 // run.name of each
  double best;                                  // mean optimum of the test patients
} bench;


// ---- a command of the program, from within -----------------------------------------------------

typedef struct command {
  char text[MOST_SETS][2400];
  const char *set[MOST_SETS];
  int count;
} command;


static void set(command *c, const char *format, ...) RGM_PRINTF(2, 3);
static void set(command *c, const char *format, ...) {
  va_list args;
  RGM_ASSERT(c->count < MOST_SETS);
  va_start(args, format);
  vsnprintf(c->text[c->count], sizeof c->text[0], format, args);
  va_end(args);
  c->set[c->count] = c->text[c->count];
  c->count++;
}


static rgm_status run_command(const bench *b, rgm_status (*what)(const rgm_options *),
                              const char *path, command *c, const char *out) {
  char *said = NULL;
  size_t size = 0;
  FILE *result = open_memstream(&said, &size);
  if (result == NULL) {
    return rgm_fail(RGM_EMEMORY, "no memory for a command's answer");
  }
  set(c, "run.threads=%lld", (long long)b->run->keys.threads);
  set(c, "run.isa=%s", b->run->keys.isa);
  set(c, "run.backend=%s", rgm_backend_names[b->run->keys.backend]);
  const rgm_options options = {
      .path = path, .set = c->set, .set_count = c->count, .out = out, .result = result};
  const rgm_status status = what(&options);
  fclose(result);
  free(said);
  return status;
}


// removes a run folder's files and itself: what is in it came from here
static void remove_run(const char *folder) {
  static const char *const files[] = {"config.yaml", "metrics.jsonl",      "metrics.csv", "log.txt",
                                      "lock",        "checkpoint-best.h5", "values.csv"};
  char path[2400];
  for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
    snprintf(path, sizeof path, "%s/%s", folder, files[i]);
    unlink(path);
  }
  rgm_checkpoint_prune(folder, 0, true);
  rmdir(folder);
}


// ---- one data set ------------------------------------------------------------------------------

static rgm_status learn_all(const bench *b, const char *data, int64_t seed) {
  for (int i = 0; i < b->learners; i++) {
    command c = {.count = 0};
    char folder[2200];
    snprintf(folder, sizeof folder, "%s/%s", b->folder, b->name[i]);
    remove_run(folder);
    set(&c, "data.path=%s", data);
    set(&c, "run.seed=%lld", (long long)seed);
    RGM_TRY(run_command(b, rgm_train, b->learner[i], &c, folder));
  }
  return RGM_OK;
}


// what was estimated, beside what happened on the test patients
static rgm_status compare(bench *b, rgm_run *valued, trialled *out) {
  const rgm_values *s = valued->self;
  const rgm_env *env = valued->env;
  rgm_worth worth[VALUES_POLICIES];
  rgm_trial t = {0};
  int64_t patients;
  int measured = -1;
  for (int m = 0; m < env->metric_count; m++) {
    measured = strcmp(env->metrics[m].name, "measured_in_range") == 0 ? m : measured;
  }
  rgm_status status = rgm_values_worth(valued, worth, &patients);
  status = status == RGM_OK ? rgm_trial_run(&t, valued, true) : status;
  if (status == RGM_OK && isnan(b->best)) {
    double *best = malloc((size_t)t.patients * sizeof *best);
    status = best != NULL ? rgm_trial_optimum(&t, b->run->eval.optimum, true, best)
                          : rgm_fail(RGM_EMEMORY, "no memory for the optimum");
    b->best = status == RGM_OK ? rgm_summarise(best, t.patients).mean : NAN;
    free(best);
  }
  out->count = 0;
  for (int n = 0; n < s->count && status == RGM_OK; n++) {
    outcome *o = &out->policy[out->count++];
    *o = (outcome){.learned = n >= s->count - s->trained};
    snprintf(o->name, sizeof o->name, "%s", s->valued[n].name);
    for (int i = 0; i < t.count; i++) {
      if (strcmp(t.scores[i].name, o->name) == 0) {
        o->truth = rgm_trial_summary(&t, &t.scores[i], env->return_metric).mean;
        o->measured = measured >= 0 ? rgm_trial_summary(&t, &t.scores[i], measured).mean : NAN;
      }
    }
    o->regret = b->best - o->truth;
    for (int m = 0; m < RGM_ESTIMATES; m++) {
      o->of[m] = worth[n].estimates.of[m];
      o->reliable[m] = !worth[n].few_patients && !worth[n].far && !worth[n].few_weights &&
                       isfinite(o->of[m].value);
    }
  }
  rgm_trial_free(&t);
  return status;
}


static rgm_status value_all(bench *b, const char *data, int64_t seed, const cell *at,
                            trialled *out) {
  command c = {.count = 0}, again = {.count = 0};
  char folder[2200], runs[2300] = "";
  snprintf(folder, sizeof folder, "%s/values", b->folder);
  remove_run(folder);
  for (int i = 0; i < b->learners; i++) {
    const size_t used = strlen(runs);
    snprintf(runs + used, sizeof runs - used, "%s%s/%s", i > 0 ? "," : "", b->folder, b->name[i]);
  }
  set(&c, "data.path=%s", data);
  set(&c, "run.seed=%lld", (long long)seed);
  set(&c, "env.noise=%.17g", at->noise);
  set(&c, "env.kappa=%.17g", at->kappa);
  set(&c, "algorithm.clone=%s/%s", b->folder, b->name[0]);
  set(&c, "algorithm.runs=%s", runs);
  if (b->k->model[0] != '\0') {
    set(&c, "algorithm.model=%s/%s", b->folder, b->k->model);
  }
  set(&c, "eval.patients=%lld", (long long)b->run->eval.patients);
  set(&c, "eval.seed=%lld", (long long)b->run->eval.seed);
  RGM_TRY(run_command(b, rgm_train, b->k->values, &c, folder));

  // the critics as they were saved
  const rgm_options options = {.path = folder, .set = again.set, .set_count = again.count};
  rgm_config *config = NULL;
  rgm_checkpoint *checkpoint = NULL;
  rgm_run *valued = NULL;
  RGM_TRY(rgm_load_config(&options, &config, &checkpoint));
  rgm_status status = rgm_run_create(config, &valued);
  status = status == RGM_OK ? rgm_run_restore(valued, checkpoint, false) : status;
  status = status == RGM_OK ? compare(b, valued, out) : status;
  rgm_run_free(valued);
  rgm_checkpoint_free(checkpoint);
  return status;
}


static rgm_status try_data(bench *b, const cell *at, int64_t seed, trialled *out) {
  command c = {.count = 0};
  char data[2200];
  snprintf(data, sizeof data, "%s/data.h5", b->folder);
  set(&c, "env.noise=%.17g", at->noise);
  set(&c, "env.kappa=%.17g", at->kappa);
  set(&c, "simulate.patients=%lld", (long long)at->patients);
  set(&c, "simulate.seed=%lld", (long long)seed);
  RGM_TRY(run_command(b, rgm_simulate, b->k->simulate, &c, data));
  RGM_TRY(learn_all(b, data, seed));
  return value_all(b, data, seed, at, out);
}


// ---- what a cell says --------------------------------------------------------------------------

// ranks with ties in the middle
static void rank(const double *x, int n, double *out) {
  for (int i = 0; i < n; i++) {
    out[i] = 0.0;
    for (int j = 0; j < n; j++) {
      out[i] += x[j] < x[i] ? 1.0 : x[j] == x[i] ? 0.5 : 0.0;
    }
  }
}


// Spearman's correlation; NaN where there are fewer than three or all are equal
static double spearman(const double *x, const double *y, int n) {
  double a[VALUES_POLICIES], b[VALUES_POLICIES], xy = 0.0, xx = 0.0, yy = 0.0;
  rank(x, n, a);
  rank(y, n, b);
  for (int i = 0; i < n; i++) {
    const double p = a[i] - 0.5 * n, q = b[i] - 0.5 * n;
    xy += p * q;
    xx += p * p;
    yy += q * q;
  }
  return n >= 3 && xx > 0.0 && yy > 0.0 ? xy / sqrt(xx * yy) : NAN;
}


// Sums over policies and data sets of one method.
typedef struct tally {
  double n, held, sum, square, reliable, reliable_held, reliable_square, rank, ranks;
} tally;


static void count_method(const trialled *t, int seeds, int m, tally *y) {
  *y = (tally){.n = 0.0};
  for (int s = 0; s < seeds; s++) {
    double estimate[VALUES_POLICIES], truth[VALUES_POLICIES];
    int count = 0;
    for (int p = 0; p < t[s].count; p++) {
      const outcome *o = &t[s].policy[p];
      const double gap = o->of[m].value - o->truth;
      if (!isfinite(gap)) {
        continue;
      }
      const bool held = o->of[m].low <= o->truth && o->truth <= o->of[m].high;
      y->n += 1.0;
      y->held += held;
      y->sum += gap;
      y->square += gap * gap;
      y->reliable += o->reliable[m];
      y->reliable_held += o->reliable[m] && held;
      y->reliable_square += o->reliable[m] ? gap * gap : 0.0;
      estimate[count] = o->of[m].value;
      truth[count++] = o->truth;
    }
    const double rho = spearman(estimate, truth, count);
    y->rank += isfinite(rho) ? rho : 0.0;
    y->ranks += isfinite(rho);
  }
}


// a number of three digits, or a dash where there is none
static void print_figure(FILE *text, double value) {
  if (isfinite(value)) {
    fprintf(text, " %10.3g", value);
  } else {
    fprintf(text, " %10s", "-");
  }
}


static void write_methods(const trialled *t, int seeds, rgm_json *json, FILE *text) {
  rgm_json_open(json, "methods", '{');
  if (text != NULL) {
    fprintf(text, "  %-8s %10s %10s %10s %10s %10s %10s %10s\n", "method", "coverage", "bias",
            "rmse", "ranking", "reliable", "coverage*", "rmse*");
  }
  for (int m = 0; m < RGM_ESTIMATES; m++) {
    tally y;
    count_method(t, seeds, m, &y);
    const struct {
      const char *name;
      double value;
    } figures[] = {{"coverage", y.held / y.n},
                   {"bias", y.sum / y.n},
                   {"rmse", sqrt(y.square / y.n)},
                   {"ranking", y.rank / y.ranks},
                   {"reliable", y.reliable / y.n},
                   {"coverage_where_reliable", y.reliable_held / y.reliable},
                   {"rmse_where_reliable", sqrt(y.reliable_square / y.reliable)}};
    rgm_json_open(json, rgm_estimate_names[m], '{');
    rgm_json_number(json, "n", y.n);
    for (size_t i = 0; i < sizeof figures / sizeof *figures; i++) {
      rgm_json_number(json, figures[i].name, figures[i].value);
    }
    rgm_json_close(json, '}');
    if (text != NULL) {
      fprintf(text, "  %-8s", rgm_estimate_names[m]);
      for (size_t i = 0; i < sizeof figures / sizeof *figures; i++) {
        print_figure(text, figures[i].value);
      }
      fprintf(text, "\n");
    }
  }
  rgm_json_close(json, '}');
}


// policies that all data sets have, in the order of the first; a constant is named by its class
static void write_policies(const trialled *t, int seeds, rgm_json *json, FILE *text) {
  rgm_json_open(json, "policies", '{');
  if (text != NULL) {
    fprintf(text, "  %-12s %9s %9s %13s %20s\n", "policy", "return", "regret", "s.e.",
            "measured in range");
  }
  for (int p = 0; p < t[0].count; p++) {
    double regret[2] = {0.0, 0.0}, truth = 0.0, measured = 0.0;
    const bool constant = strncmp(t[0].policy[p].name, "constant", 8) == 0;
    const char *name = constant ? "constant" : t[0].policy[p].name;
    for (int s = 0; s < seeds; s++) {
      const outcome *o = &t[s].policy[p];
      regret[1] += (o->regret - regret[0]) * (o->regret - regret[0]) * s / (s + 1.0);
      regret[0] += (o->regret - regret[0]) / (s + 1.0);
      truth += o->truth / seeds;
      measured += o->measured / seeds;
    }
    const double error = seeds > 1 ? sqrt(regret[1] / (seeds - 1.0) / seeds) : NAN;
    rgm_json_open(json, name, '{');
    rgm_json_number(json, "return", truth);
    rgm_json_number(json, "regret", regret[0]);
    rgm_json_number(json, "regret_error", error);
    rgm_json_number(json, "measured_in_range", measured);
    rgm_json_close(json, '}');
    if (text != NULL) {
      fprintf(text, "  %-12s %9.1f %9.1f +-", name, truth, regret[0]);
      print_figure(text, error);
      fprintf(text, " %18.1f %%\n", measured);
    }
  }
  rgm_json_close(json, '}');
}


static void write_csv(FILE *csv, const cell *at, int64_t seed, const trialled *t) {
  for (int p = 0; p < t->count; p++) {
    for (int m = 0; m < RGM_ESTIMATES; m++) {
      const outcome *o = &t->policy[p];
      fprintf(csv, "%g,%g,%lld,%lld,%s,%.6f,%.6f,%s,%.6g,%.6g,%.6g,%d\n", at->noise, at->kappa,
              (long long)at->patients, (long long)seed, o->name, o->truth, o->regret,
              rgm_estimate_names[m], o->of[m].value, o->of[m].low, o->of[m].high, o->reliable[m]);
    }
  }
  fflush(csv);
}


static void write_cell(const cell *c, const trialled *t, int seeds, rgm_json *json, FILE *text) {
  rgm_json_open(json, NULL, '{');
  rgm_json_number(json, "noise", c->noise);
  rgm_json_number(json, "kappa", c->kappa);
  rgm_json_number(json, "patients", (double)c->patients);
  if (text != NULL) {
    fprintf(text, "\nnoise %g, kappa %g s, %lld patients, %d data set%s\n", c->noise, c->kappa,
            (long long)c->patients, seeds, seeds == 1 ? "" : "s");
  }
  write_methods(t, seeds, json, text);
  write_policies(t, seeds, json, text);
  rgm_json_close(json, '}');
}


// ---- the whole ---------------------------------------------------------------------------------

// a learner's config, and the name of its runs
static rgm_status add_learner(bench *b, const char *path) {
  rgm_config *config = NULL;
  if (b->learners == MOST_LEARNERS) {
    return rgm_fail(RGM_ECONFIG, "%s: algorithm.learners: %d with the clone are the most",
                    rgm_config_where(b->run->config, "algorithm.learners"), MOST_LEARNERS);
  }
  RGM_TRY(rgm_config_load(path, NULL, 0, &config));
  const char *name = rgm_config_text(config, "run.name");
  snprintf(b->name[b->learners], sizeof b->name[0], "%.60s", name != NULL ? name : "");
  rgm_config_free(config);
  snprintf(b->learner[b->learners], sizeof b->learner[0], "%s", path);
  for (int i = 0; i <= b->learners; i++) {
    const bool same = i < b->learners && strcmp(b->name[i], b->name[b->learners]) == 0;
    if (same || b->name[i][0] == '\0' || strcmp(b->name[i], "values") == 0) {
      return rgm_fail(RGM_ECONFIG,
                      "%s: run.name: learners need names of their own, none of them "
                      "`values`",
                      path);
    }
  }
  b->learners++;
  return RGM_OK;
}


static rgm_status open_bench(rgm_run *run, bench *b) {
  *b = (bench){.run = run, .k = rgm_algorithm_keys(run, 0), .best = NAN};
  if (run->out[0] == '\0') {
    return rgm_fail(RGM_EUSAGE, "honesty keeps data sets and runs in a folder: --out DIR");
  }
  snprintf(b->folder, sizeof b->folder, "%.2000s/work", run->out);
  RGM_TRY(rgm_make_folder(b->folder));
  RGM_TRY(add_learner(b, b->k->clone));
  char text[RGM_STRING_SIZE], *rest = NULL;
  snprintf(text, sizeof text, "%s", b->k->learners);
  for (char *word = strtok_r(text, ", ", &rest); word != NULL; word = strtok_r(NULL, ", ", &rest)) {
    RGM_TRY(add_learner(b, word));
  }
  return RGM_OK;
}


static int find_cells(const honesty_keys *k, cell *cells) {
  int count = 0;
  for (int i = 0; i < k->noise.count; i++) {
    for (int j = 0; j < k->kappa.count; j++) {
      for (int n = 0; n < k->patients.count && count < MOST_CELLS; n++) {
        cells[count++] =
            (cell){k->noise.value[i], k->kappa.value[j], (int64_t)k->patients.value[n]};
      }
    }
  }
  return count;
}


// a data set of every cell, then the next one of each: what is in the table so far compares
static rgm_status try_all(bench *b, FILE *csv, rgm_json *json, FILE *text) {
  cell cells[MOST_CELLS];
  const int count = find_cells(b->k, cells), seeds = (int)b->k->seeds;
  trialled *t = calloc((size_t)(count * seeds), sizeof *t);
  rgm_status status = t != NULL ? RGM_OK : rgm_fail(RGM_EMEMORY, "no memory for the results");
  for (int s = 0; s < seeds && status == RGM_OK; s++) {
    for (int c = 0; c < count && status == RGM_OK; c++) {
      trialled *one = &t[c * seeds + s];
      status = try_data(b, &cells[c], b->k->first + s, one);
      if (status == RGM_OK) {
        write_csv(csv, &cells[c], b->k->first + s, one);
      }
    }
  }
  rgm_json_open(json, "cells", '[');
  for (int c = 0; c < count && status == RGM_OK; c++) {
    write_cell(&cells[c], t + c * seeds, seeds, json, text);
  }
  rgm_json_close(json, ']');
  free(t);
  return status;
}


static rgm_status honesty_evaluate(rgm_run *run, rgm_json *json, FILE *text) {
  bench b;
  char path[2200];
  RGM_TRY(open_bench(run, &b));
  snprintf(path, sizeof path, "%.2000s/honesty.csv", run->out);
  FILE *csv = fopen(path, "w");
  if (csv == NULL) {
    return rgm_fail(RGM_EIO, "%s: %s", path, strerror(errno));
  }
  fprintf(csv, "noise,kappa,patients,seed,policy,truth,regret,method,value,low,high,reliable\n");
  rgm_json_open(json, NULL, '{');
  rgm_json_number(json, "seeds", (double)b.k->seeds);
  rgm_json_number(json, "test_patients", (double)run->eval.patients);
  rgm_status status = try_all(&b, csv, json, text);
  rgm_json_number(json, "optimum", b.best);
  rgm_json_close(json, '}');
  if (text != NULL && status == RGM_OK) {
    fprintf(
        text,
        "\nThe optimum of patients who are known: %.1f. coverage: share of 95 %% intervals that "
        "hold the truth;\nranking: Spearman's correlation of a data set's policies; reliable: "
        "share not refused; *: of those.\n",
        b.best);
  }

  // data and runs are made again by the same command
  for (int i = 0; i < b.learners; i++) {
    snprintf(path, sizeof path, "%s/%s", b.folder, b.name[i]);
    remove_run(path);
  }
  snprintf(path, sizeof path, "%s/values", b.folder);
  remove_run(path);
  snprintf(path, sizeof path, "%s/data.h5", b.folder);
  unlink(path);
  rmdir(b.folder);
  return fclose(csv) == 0 ? status
                          : rgm_fail(RGM_EIO, "%s/honesty.csv: %s", run->out, strerror(errno));
}


static rgm_status honesty_check(const rgm_run *run) {
  if (run->env->record == NULL || run->env->optimum == NULL || run->env->give_dose == NULL) {
    return rgm_fail(RGM_ECONFIG, "%s: env.name: %s writes no data sets whose truth is known",
                    rgm_config_where(run->config, "env.name"), run->env->name);
  }
  return run->eval.optimum >= 8 ? RGM_OK
                                : rgm_fail(RGM_ECONFIG,
                                           "%s: eval.optimum: regret needs 8 points "
                                           "or more; 120 is usual",
                                           rgm_config_where(run->config, "eval.optimum"));
}


static rgm_status honesty_plan(rgm_run *run) {
  (void)run;
  return RGM_OK;
}


const rgm_algorithm rgm_honesty = {
    .name = "honesty",
    .paper = "Voloshin et al. 2021",
    .doc = "Off-policy evaluation against the truth, by noise, confounding, patients.",
    .fields = fields,
    .keys_size = sizeof(honesty_keys),
    .self_size = 1,
    .needs = RGM_NEEDS_ENV | RGM_TRAINS_NOT,
    .check = honesty_check,
    .plan = honesty_plan,
    .evaluate = honesty_evaluate,
};
