// SPDX-License-Identifier: Apache-2.0
// One data set of honesty: the program's own commands simulate it, learn from it and value what was
// learned; the policies are tried out on test patients; what came out is kept in a file. See
// honesty.h.

#include "algorithms/honesty.h"
#include "engine/keep.h"
#include "engine/load.h"
#include "engine/regimen.h"
#include "engine/trial.h"

#include <errno.h>
#include <math.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { MOST_SETS = 16, MOST_DRAWS = 9 };


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


static rgm_status run_command(const rgm_honesty_bench *b, rgm_status (*what)(const rgm_options *),
                              const char *path, command *c, const char *out) {
  char *said = NULL;
  size_t size = 0;
  FILE *result = open_memstream(&said, &size);
  if (result == NULL) {
    return rgm_fail(RGM_EMEMORY, "no memory for a command's answer");
  }
  set(c, "run.threads=1");
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

static rgm_status learn_all(const rgm_honesty_bench *b, const char *data, int64_t seed) {
  for (int i = 0; i < b->learners; i++) {
    command c = {.count = 0};
    char folder[2200];
    snprintf(folder, sizeof folder, "%s/%s", b->work, b->name[i]);
    remove_run(folder);
    set(&c, "data.path=%s", data);
    set(&c, "run.seed=%lld", (long long)seed);
    RGM_TRY(run_command(b, rgm_train, b->learner[i], &c, folder));
  }
  return RGM_OK;
}


// what was estimated, beside what happened on the test patients
static rgm_status compare(rgm_honesty_bench *b, rgm_run *valued, rgm_honesty_set *out) {
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
    rgm_honesty_outcome *o = &out->policy[out->count++];
    *o = (rgm_honesty_outcome){.learned = n >= s->count - s->trained};
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


static rgm_status value_all(rgm_honesty_bench *b, const char *data, int64_t seed,
                            const rgm_honesty_cell *at, rgm_honesty_set *out) {
  command c = {.count = 0}, again = {.count = 0};
  char folder[2200], runs[2300] = "";
  snprintf(folder, sizeof folder, "%s/values", b->work);
  remove_run(folder);
  for (int i = 0; i < b->learners; i++) {
    const size_t used = strlen(runs);
    snprintf(runs + used, sizeof runs - used, "%s%s/%s", i > 0 ? "," : "", b->work, b->name[i]);
  }
  set(&c, "data.path=%s", data);
  set(&c, "run.seed=%lld", (long long)seed);
  set(&c, "env.noise=%.17g", at->noise);
  set(&c, "env.kappa=%.17g", at->kappa);
  set(&c, "algorithm.clone=%s/%s", b->work, b->name[0]);
  set(&c, "algorithm.runs=%s", runs);
  if (b->k->model[0] != '\0') {
    set(&c, "algorithm.model=%s/%s", b->work, b->k->model);
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


// A data set whose doses are too equal for the bins that are asked for is drawn again, with a seed
// far from the others'; where none can be had something else is wrong.
static rgm_status simulate(const rgm_honesty_bench *b, const rgm_honesty_cell *at, int64_t seed,
                           const char *data, int *redrawn) {
  rgm_status status;
  *redrawn = 0;
  for (;; ++*redrawn) {
    command c = {.count = 0};
    set(&c, "env.noise=%.17g", at->noise);
    set(&c, "env.kappa=%.17g", at->kappa);
    set(&c, "simulate.patients=%lld", (long long)at->patients);
    set(&c, "simulate.seed=%lld", (long long)seed + 1000000LL * *redrawn);
    status = run_command(b, rgm_simulate, b->k->simulate, &c, data);
    if (status != RGM_EDATA || *redrawn == MOST_DRAWS) {
      break;
    }
  }
  return status;
}


rgm_status rgm_honesty_try(rgm_honesty_bench *b, int slot, const rgm_honesty_cell *at, int64_t seed,
                           rgm_honesty_set *out) {
  char data[2200];
  snprintf(b->work, sizeof b->work, "%s/work-%d", b->folder, slot);
  RGM_TRY(rgm_make_folder(b->work));
  snprintf(data, sizeof data, "%s/data.h5", b->work);
  int redrawn;
  RGM_TRY(simulate(b, at, seed, data, &redrawn));
  RGM_TRY(learn_all(b, data, seed));
  RGM_TRY(value_all(b, data, seed, at, out));
  out->redrawn = redrawn;
  out->done = true;
  return RGM_OK;
}


void rgm_honesty_clear(const rgm_honesty_bench *b, int slot) {
  char work[2100], path[2200];
  snprintf(work, sizeof work, "%s/work-%d", b->folder, slot);
  for (int i = 0; i <= b->learners; i++) {
    snprintf(path, sizeof path, "%s/%s", work, i < b->learners ? b->name[i] : "values");
    remove_run(path);
  }
  snprintf(path, sizeof path, "%s/data.h5", work);
  unlink(path);
  rmdir(work);
}


// ---- what came out, in a file ------------------------------------------------------------------

// the file of a data set, and the digest of all that decides about it
static void name_set(const rgm_honesty_bench *b, const rgm_honesty_cell *at, int64_t seed,
                     char path[2400], char digest[65]) {
  char text[512];
  const int length = snprintf(text, sizeof text, "%s %.17g %.17g %lld %lld", b->digest, at->noise,
                              at->kappa, (long long)at->patients, (long long)seed);
  rgm_sha256_hex(text, (size_t)length, digest);
  snprintf(path, 2400, "%s/sets/noise-%g-kappa-%g-patients-%lld-seed-%lld.csv", b->folder,
           at->noise, at->kappa, (long long)at->patients, (long long)seed);
}


rgm_status rgm_honesty_write(const rgm_honesty_bench *b, const rgm_honesty_cell *at, int64_t seed,
                             const rgm_honesty_set *set) {
  char path[2400], temporary[2480], digest[65];
  name_set(b, at, seed, path, digest);
  snprintf(temporary, sizeof temporary, "%s.%ld", path, (long)getpid());
  FILE *file = fopen(temporary, "w");
  if (file == NULL) {
    return rgm_fail(RGM_EIO, "%s: %s", temporary, strerror(errno));
  }
  fprintf(file, "%s,%.17g,%d,%d\n", digest, b->best, set->count, set->redrawn);
  for (int p = 0; p < set->count; p++) {
    const rgm_honesty_outcome *o = &set->policy[p];
    fprintf(file, "%s,%d,%.17g,%.17g,%.17g\n", o->name, o->learned, o->truth, o->regret,
            o->measured);
    for (int m = 0; m < RGM_ESTIMATES; m++) {
      fprintf(file, "%.17g,%.17g,%.17g,%.17g,%d\n", o->of[m].value, o->of[m].low, o->of[m].high,
              o->of[m].error, o->reliable[m]);
    }
  }
  const bool ok = fflush(file) == 0 && fsync(fileno(file)) == 0;
  if (fclose(file) != 0 || !ok || rename(temporary, path) != 0) {
    const int reason = errno;
    unlink(temporary);
    return rgm_fail(RGM_EIO, "%s: %s; free space, then go on with --resume", path,
                    strerror(reason));
  }
  return RGM_OK;
}


// policies of a file after its first line; false where it ends before
static bool read_policies(FILE *file, rgm_honesty_set *set) {
  bool ok = set->count >= 1 && set->count <= VALUES_POLICIES;
  for (int p = 0; p < set->count && ok; p++) {
    rgm_honesty_outcome *o = &set->policy[p];
    int learned;
    ok = fscanf(file, " %63[^,],%d,%lf,%lf,%lf", o->name, &learned, &o->truth, &o->regret,
                &o->measured) == 5;
    o->learned = ok && learned != 0;
    for (int m = 0; m < RGM_ESTIMATES && ok; m++) {
      rgm_interval *x = &o->of[m];
      int reliable;
      ok = fscanf(file, "%lf,%lf,%lf,%lf,%d", &x->value, &x->low, &x->high, &x->error, &reliable) ==
           5;
      o->reliable[m] = ok && reliable != 0;
    }
  }
  return ok;
}


rgm_status rgm_honesty_read(rgm_honesty_bench *b, const rgm_honesty_cell *at, int64_t seed,
                            rgm_honesty_set *out) {
  char path[2400], digest[65], its[65] = "";
  double best;
  name_set(b, at, seed, path, digest);
  *out = (rgm_honesty_set){.done = false};
  FILE *file = fopen(path, "r");
  if (file == NULL) {
    return errno == ENOENT ? RGM_OK : rgm_fail(RGM_EIO, "%s: %s", path, strerror(errno));
  }
  const bool first =
      fscanf(file, "%64[0-9a-f],%lf,%d,%d", its, &best, &out->count, &out->redrawn) >= 3;
  const bool ours = first && strcmp(its, digest) == 0;
  out->done = ours && read_policies(file, out);
  fclose(file);
  if (first && !ours) {
    return rgm_fail(RGM_EUSAGE,
                    "%s: this data set was made by other configs or for other test patients; "
                    "choose another --out, or delete it",
                    path);
  }
  b->best = out->done ? best : b->best;
  return RGM_OK;
}
