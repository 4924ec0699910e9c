// SPDX-License-Identifier: Apache-2.0
// Trained controllers compared on groups of test patients that they were not trained on: every run
// that is named, and the environment's baselines, meet the environment's scenarios one after the
// other, with the same patients, targets and noise. Trains nothing. A controller brings its own
// configuration from its checkpoint; what this file's env section sets, and then the scenario's own
// keys, go before it.
//
// Per controller: median over seeds of each figure over patients, with the range of the medians.

#include "engine/engine.h"
#include "engine/load.h"
#include "engine/trial.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_ITEMS = 16, MAX_OVERRIDES = 128 };

typedef struct compare_keys {
  char runs[RGM_STRING_SIZE], scenarios[RGM_STRING_SIZE];
} compare_keys;

static const rgm_field fields[] = {
    {"runs", RGM_STRING, offsetof(compare_keys, runs), "", NULL, 0, 0, NULL, RGM_PROVENANCE,
     "Run folders or checkpoints of the controllers, separated by commas."},
    {"scenarios", RGM_STRING, offsetof(compare_keys, scenarios), "", NULL, 0, 0, NULL, 0,
     "Groups of test patients that the environment knows by name, separated by commas."},
    {0},
};

// A key's text cut at its commas, without the spaces around.
typedef struct items {
  char text[RGM_STRING_SIZE];
  char *item[MAX_ITEMS];
  int count;
} items;

// "a.b=3" overrides of a run, in order.
typedef struct overrides {
  char *set[MAX_OVERRIDES];
  int count;
} overrides;

typedef struct comparison {
  const rgm_run *run; // of this config
  rgm_json *json;
  FILE *text;
  const rgm_algorithm *seen[MAX_ITEMS]; // of the runs of this scenario so far
  int count;
} comparison;


static rgm_status split(const rgm_run *run, const char *key, const char *text, items *out) {
  snprintf(out->text, sizeof out->text, "%s", text);
  char *rest = NULL;
  for (char *word = strtok_r(out->text, ",", &rest); word != NULL;
       word = strtok_r(NULL, ",", &rest)) {
    word += strspn(word, " ");
    size_t length = strlen(word);
    while (length > 0 && word[length - 1] == ' ') {
      word[--length] = '\0';
    }
    if (length == 0 || out->count == MAX_ITEMS) {
      return rgm_fail(RGM_ECONFIG, "%s: %s: expected up to %d names separated by commas",
                      rgm_config_where(run->config, key), key, MAX_ITEMS);
    }
    out->item[out->count++] = word;
  }
  return out->count > 0 ? RGM_OK
                        : rgm_fail(RGM_ECONFIG, "%s: %s: names nothing",
                                   rgm_config_where(run->config, key), key);
}


static rgm_status find_scenario(const rgm_run *run, const char *name, const rgm_scenario **out) {
  const char *names[64] = {NULL};
  const rgm_scenario *all = run->env->scenarios;
  for (int i = 0; all != NULL && all[i].name != NULL && i < 63; i++) {
    names[i] = all[i].name;
    if (strcmp(name, names[i]) == 0) {
      *out = &all[i];
      return RGM_OK;
    }
  }
  const char *nearest = rgm_nearest(name, names);
  return rgm_fail(RGM_ECONFIG, "%s: algorithm.scenarios: %s has no scenario \"%s\"%s%s%s",
                  rgm_config_where(run->config, "algorithm.scenarios"), run->env->name, name,
                  nearest != NULL ? "; did you mean " : "", nearest != NULL ? nearest : "",
                  nearest != NULL ? "?" : "");
}


static rgm_status compare_check(const rgm_run *run) {
  const compare_keys *k = rgm_algorithm_keys(run, 0);
  items scenarios = {.count = 0}, runs = {.count = 0};
  RGM_TRY(split(run, "algorithm.runs", k->runs, &runs));
  RGM_TRY(split(run, "algorithm.scenarios", k->scenarios, &scenarios));
  for (int i = 0; i < scenarios.count; i++) {
    const rgm_scenario *found;
    RGM_TRY(find_scenario(run, scenarios.item[i], &found));
  }
  return RGM_OK;
}


// ---- overrides ---------------------------------------------------------------------------------

static rgm_status override(overrides *o, const char *key, const char *value) {
  RGM_ASSERT(o->count < MAX_OVERRIDES);
  const size_t size = strlen(key) + strlen(value) + 2;
  char *text = malloc(size);
  if (text == NULL) {
    return rgm_fail(RGM_EMEMORY, "no memory for an override");
  }
  snprintf(text, size, "%s=%s", key, value);
  o->set[o->count++] = text;
  return RGM_OK;
}


// every key of a table that this config sets
static rgm_status forward(overrides *o, const rgm_run *run, const char *section,
                          const rgm_field *table) {
  for (const rgm_field *f = table; f->key != NULL; f++) {
    char key[128];
    snprintf(key, sizeof key, "%s.%s", section, f->key);
    const char *value = rgm_config_text(run->config, key);
    if (value != NULL) {
      RGM_TRY(override(o, key, value));
    }
  }
  return RGM_OK;
}


static rgm_status override_run(overrides *o, const rgm_run *run, const rgm_scenario *scenario) {
  char number[32];
  RGM_TRY(forward(o, run, "env", run->env->fields));
  for (int i = 0; scenario->set[i] != NULL; i++) {
    char key[128];
    const char *equals = strchr(scenario->set[i], '=');
    snprintf(key, sizeof key, "%.*s", (int)(equals - scenario->set[i]), scenario->set[i]);
    RGM_TRY(override(o, key, equals + 1));
  }
  snprintf(number, sizeof number, "%lld", (long long)run->eval.patients);
  RGM_TRY(override(o, "eval.patients", number));
  snprintf(number, sizeof number, "%lld", (long long)run->eval.seed);
  RGM_TRY(override(o, "eval.seed", number));
  snprintf(number, sizeof number, "%lld", (long long)run->keys.threads);
  RGM_TRY(override(o, "run.threads", number));
  RGM_TRY(override(o, "run.isa", run->keys.isa));
  return override(o, "run.backend", rgm_backend_names[run->keys.backend]);
}


// ---- results -----------------------------------------------------------------------------------

static int metric_width(const rgm_env *env, int metric) {
  const size_t width = strlen(env->metrics[metric].name);
  return width > 8 ? (int)width : 8;
}


// the line above the rows: the loss in full, the mean of the other metrics
static void write_head(const rgm_env *env, FILE *out) {
  const rgm_quantity *loss = &env->metrics[env->loss_metric];
  char name[64];
  snprintf(name, sizeof name, "%s, %s:", loss->name, loss->unit);
  fprintf(out, "  %-19s %-24s%8s%7s%7s%8s%8s |", name, "median (range of seeds)", "mean", "q25",
          "q75", "p95", "worst");
  for (int m = 0; m < env->metric_count; m++) {
    if (m != env->loss_metric) {
      fprintf(out, " %*s", metric_width(env, m), env->metrics[m].name);
    }
  }
  fprintf(out, "\n");
}


static void write_row(const rgm_trial *t, const char *name, int first, FILE *out) {
  const rgm_env *env = t->run->env;
  const int replicas = rgm_trial_replicas(t, first), loss = env->loss_metric;
  const rgm_summary s = rgm_trial_pooled(t, first, replicas, loss);
  double low = INFINITY, high = -INFINITY;
  for (int r = 0; r < replicas; r++) {
    const double median = rgm_trial_summary(t, &t->scores[first + r], loss).median;
    low = fmin(low, median);
    high = fmax(high, median);
  }
  char range[48] = "";
  if (replicas > 1) {
    snprintf(range, sizeof range, " (%.2f to %.2f)", low, high);
  }
  fprintf(out, "  %-19s %7.2f%-17s%8.2f%7.2f%7.2f%8.2f%8.2f |", name, s.median, range, s.mean,
          s.q25, s.q75, s.p95, s.max);
  for (int m = 0; m < env->metric_count; m++) {
    if (m != loss) {
      fprintf(out, " %*.2f", metric_width(env, m), rgm_trial_pooled(t, first, replicas, m).mean);
    }
  }
  fprintf(out, "\n");
}


static void write_group(const comparison *c, const rgm_scenario *scenario, const rgm_trial *t) {
  rgm_json_number(c->json, "n", (double)t->patients);
  rgm_json_number(c->json, "unreachable", (double)t->unreachable);
  rgm_json_string(c->json, "data_digest", t->given.digest);
  rgm_json_open(c->json, "controllers", '{');
  if (c->text != NULL) {
    fprintf(c->text, "\n%s: %lld patients, %s\n", scenario->name, (long long)t->patients,
            scenario->doc);
    fprintf(c->text,
            "  the largest action for a whole phase does not reach the highest target in "
            "%lld of them\n",
            (long long)t->unreachable);
    write_head(t->run->env, c->text);
  }
}


// Every controller: all figures as JSON, a row of the table. Where an earlier run of the scenario
// had the same algorithm, the run's path tells the two apart.
static void write_controllers(comparison *c, const rgm_trial *t, const char *path) {
  const rgm_run *run = t->run;
  bool again = false;
  for (int i = 0; i < c->count; i++) {
    again = again || c->seen[i] == run->algorithm;
  }
  c->seen[c->count++] = run->algorithm;
  for (int i = 0; i < t->count; i += rgm_trial_replicas(t, i)) {
    char name[RGM_STRING_SIZE + 64];
    snprintf(name, sizeof name, "%s%s%s", t->scores[i].name, again ? "@" : "", again ? path : "");
    rgm_json_open(c->json, name, '{');
    if (i < t->baseline) {
      rgm_json_string(c->json, "run", path);
      rgm_json_string(c->json, "run_digest", run->parent_digest);
    }
    rgm_trial_write_controller(t, c->json, i);
    rgm_json_close(c->json, '}');
    if (c->text != NULL) {
      write_row(t, name, i, c->text);
    }
  }
}


// ---- the command -------------------------------------------------------------------------------

// a trained run under a scenario; `first` of the scenario brings the baselines along
static rgm_status try_run(comparison *c, const rgm_scenario *scenario, const char *path,
                          const overrides *o, bool first) {
  const rgm_options options = {
      .path = path, .set = (const char *const *)o->set, .set_count = o->count};
  rgm_config *config = NULL;
  rgm_checkpoint *checkpoint = NULL;
  rgm_run *trained = NULL;
  rgm_trial trial = {0};
  rgm_status status = rgm_load_config(&options, &config, &checkpoint);
  if (status != RGM_OK) {
    char why[512];
    snprintf(why, sizeof why, "%s", rgm_last_error());
    return rgm_fail(status, "%s (algorithm.runs: train it first, or name another)", why);
  }
  status = rgm_run_create(config, &trained);
  if (status == RGM_OK && checkpoint != NULL) {
    status = rgm_run_restore(trained, checkpoint, false);
  } else if (status == RGM_OK && (trained->algorithm->needs & RGM_TRAINS_NOT) == 0) {
    status = rgm_fail(RGM_EUSAGE, "algorithm.runs: %s is a config, not a trained run", path);
  }
  if (status == RGM_OK && (trained->env != c->run->env || trained->algorithm->contenders == NULL)) {
    status = rgm_fail(RGM_ECONFIG, "algorithm.runs: %s has no controllers of env.name: %s", path,
                      c->run->env->name);
  }
  if (status == RGM_OK) {
    status = rgm_trial_run(&trial, trained, first);
  }
  if (status == RGM_OK) {
    if (first) {
      write_group(c, scenario, &trial);
    }
    write_controllers(c, &trial, path);
  }
  rgm_trial_free(&trial);
  rgm_run_free(trained);
  rgm_checkpoint_free(checkpoint);
  return status;
}


static rgm_status try_scenario(comparison *c, const rgm_scenario *scenario, const items *runs) {
  overrides o = {.count = 0};
  rgm_status status = override_run(&o, c->run, scenario);
  c->count = 0;
  rgm_json_open(c->json, scenario->name, '{');
  for (int i = 0; i < runs->count && status == RGM_OK; i++) {
    status = try_run(c, scenario, runs->item[i], &o, i == 0);
  }
  rgm_json_close(c->json, '}');
  rgm_json_close(c->json, '}');
  for (int i = 0; i < o.count; i++) {
    free(o.set[i]);
  }
  return status;
}


static rgm_status compare_evaluate(rgm_run *run, rgm_json *json, FILE *text) {
  const compare_keys *k = rgm_algorithm_keys(run, 0);
  comparison c = {.run = run, .json = json, .text = text};
  items runs = {.count = 0}, scenarios = {.count = 0};
  RGM_TRY(split(run, "algorithm.runs", k->runs, &runs));
  RGM_TRY(split(run, "algorithm.scenarios", k->scenarios, &scenarios));
  rgm_json_open(json, NULL, '{');
  rgm_json_number(json, "seed", (double)run->eval.seed);
  rgm_json_open(json, "scenarios", '{');
  for (int i = 0; i < scenarios.count; i++) {
    const rgm_scenario *scenario = NULL;
    RGM_TRY(find_scenario(run, scenarios.item[i], &scenario));
    RGM_TRY(try_scenario(&c, scenario, &runs));
  }
  rgm_json_close(json, '}');
  rgm_json_close(json, '}');
  if (text != NULL) {
    fprintf(text,
            "\nLeft of the bar: %s over patients, median over seeds of each figure; right: "
            "means over patients of\n",
            run->env->metrics[run->env->loss_metric].name);
    for (int m = 0; m < run->env->metric_count; m++) {
      const rgm_quantity *q = &run->env->metrics[m];
      fprintf(text, "  %-18s %-7s %s\n", q->name, q->unit, q->doc);
    }
  }
  return RGM_OK;
}


const rgm_algorithm rgm_compare = {
    .name = "compare",
    .paper = "Eleveld et al. 2018 for the patients of propofol",
    .doc = "Trained runs on groups of test patients that they were not trained on; trains nothing.",
    .fields = fields,
    .keys_size = sizeof(compare_keys),
    .needs = RGM_NEEDS_ENV | RGM_TRAINS_NOT,
    .check = compare_check,
    .evaluate = compare_evaluate,
};
