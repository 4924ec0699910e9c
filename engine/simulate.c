// SPDX-License-Identifier: Apache-2.0
// `regimen simulate`: a data set of simulated patients, each under one of the environment's
// controllers. Patients and noise come from `simulate.seed`, by the streams of training: none of
// them is a test patient of `regimen eval`.

#include "engine/dataset.h"
#include "engine/frame.h"
#include "engine/load.h"
#include "engine/regimen.h"
#include "engine/simulate.h"

#include <stdlib.h>
#include <string.h>

typedef struct simulate_keys {
  int64_t patients, seed, bins;
  double validation, test;
  bool history;
  char controller[RGM_STRING_SIZE];
} simulate_keys;

#define KEY(member) offsetof(simulate_keys, member)

const rgm_field rgm_simulate_fields[] = {
    {"patients", RGM_INT, KEY(patients), "1", "1000", 1, 1e6, NULL, 0,
     "Patients, one episode each."},
    {"seed", RGM_INT, KEY(seed), "1", "1", 0, 9e15, NULL, 0, "Seed of patients, noise and split."},
    {"controller", RGM_STRING, KEY(controller), "", "clinician", 0, 0, NULL, 0,
     "Who doses: one of the environment's baselines."},
    {"bins", RGM_INT, KEY(bins), "1", "6", 2, 100, NULL, 0,
     "Actions: quantiles of the dose in the training part."},
    {"validation", RGM_FLOAT, KEY(validation), "1", "0.2", 0, 1, NULL, 0,
     "Share of patients kept for validation."},
    {"history", RGM_BOOL, KEY(history), "", "false", 0, 0, NULL, RGM_ADDED,
     "Whether the dose of the hour before is a state, which imports leave out."},
    {"test", RGM_FLOAT, KEY(test), "1", "0", 0, 1, NULL, 0, "Share kept for tests."},
    {0},
};

// What the rollout of a chunk of patients needs.
typedef struct simulation {
  rgm_run *run;
  const rgm_baseline *controller;
  int64_t chunk, steps;
  rgm_arena *arena;
  rgm_tensor config, patients, seeds, clock, active, returns, obs, act, signals, params;
} simulation;

enum { CHUNK = 256, MOST_PARAMS = 64 };


static const rgm_baseline *find(const rgm_env *env, const char *name) {
  const char *names[64];
  int count = 0;
  for (const rgm_baseline *b = env->baselines; b != NULL && b->name != NULL && count < 63; b++) {
    if (strcmp(b->name, name) == 0) {
      return b;
    }
    names[count++] = b->name;
  }
  names[count] = NULL;
  const char *near = rgm_nearest(name, names);
  rgm_fail(RGM_ECONFIG, "simulate.controller: %s has no controller \"%s\"%s%s", env->name, name,
           near != NULL ? "; did you mean " : "", near != NULL ? near : "");
  return NULL;
}


static void plan(simulation *s) {
  const rgm_env *env = s->run->env;
  const int64_t n = s->chunk, T = s->steps;
  rgm_arena *a = s->arena;
  s->config = rgm_plan(a, "config", RGM_U8, RGM_BLOCK, "replica, byte", "", 1,
                       (int64_t)env->config_size, 0, 0);
  s->patients = rgm_plan(a, "patients", RGM_F32, RGM_SCRATCH, "replica, patient, word", "", 1, n,
                         env->patient_words, 0);
  s->seeds = rgm_plan(a, "seeds", RGM_U32, RGM_SCRATCH, "replica, word", "", 1, 2, 0, 0);
  s->clock = rgm_plan(a, "clock", RGM_U32, RGM_SCRATCH, "replica", "", 1, 0, 0, 0);
  s->active = rgm_plan(a, "active", RGM_U32, RGM_SCRATCH, "replica", "", 1, 0, 0, 0);
  s->returns = rgm_plan(a, "returns", RGM_F32, RGM_SCRATCH, "replica, episode", "1", 1, n, 0, 0);
  s->obs = rgm_plan(a, "obs", RGM_F32, RGM_SCRATCH, "replica, episode, step, obs", "", 1, n, T,
                    env->obs_dim);
  s->act = rgm_plan(a, "act", RGM_F32, RGM_SCRATCH, "replica, episode, step, act", "", 1, n, T,
                    env->act_dim);
  s->signals = rgm_plan(a, "signals", RGM_F32, RGM_SCRATCH, "replica, episode, step, signal", "", 1,
                        n, T, env->signal_dim);
  s->params =
      rgm_plan(a, "params", RGM_F32, RGM_SCRATCH, "replica, parameter", "1", 1, MOST_PARAMS, 0, 0);
}


static rgm_status prepare(simulation *s, uint64_t seed) {
  rgm_run *run = s->run;
  const uint32_t words[2] = {(uint32_t)seed, (uint32_t)(seed >> 32)}, zero = 0, one = 1;
  float params[MOST_PARAMS] = {0};
  RGM_ASSERT(s->controller->param_count <= MOST_PARAMS);
  RGM_TRY(s->controller->params(run->env_keys, params));
  rgm_copy(run->stream, s->config.data, run->env_config.data, run->env->config_size);
  rgm_copy(run->stream, s->seeds.data, words, sizeof words);
  rgm_copy(run->stream, s->clock.data, &zero, sizeof zero);
  rgm_copy(run->stream, s->active.data, &one, sizeof one);
  rgm_copy(run->stream, s->params.data, params, sizeof params);
  return rgm_sync(run->stream);
}


// n patients from `first` on; their records into host memory
static rgm_status roll(simulation *s, int64_t first, int64_t n, float *obs, float *act,
                       float *signals) {
  const rgm_run *run = s->run;
  rgm_cohort cohort = {
      .patients = s->patients,
      .config = s->config,
      .seeds = s->seeds,
      .clock = s->clock,
      .active = s->active,
      .random = RGM_RANDOM_PATIENT,
      .first = first,
  };
  rgm_rollout rollout = {
      .returns = s->returns,
      .obs = s->obs,
      .act = s->act,
      .signals = s->signals,
      .patients = s->patients,
      .config = s->config,
      .params = s->params,
      .seeds = s->seeds,
      .clock = s->clock,
      .active = s->active,
      .control = s->controller->control,
      .random = RGM_RANDOM_NOISE,
      .first = first,
      .steps = s->steps,
  };
  cohort.patients.dims[1] = rollout.patients.dims[1] = rollout.returns.dims[1] = n;
  rollout.obs.dims[1] = rollout.act.dims[1] = rollout.signals.dims[1] = n;
  rgm_env_sample(run->env_kernels, run->stream, &cohort);
  rgm_env_rollout(run->env_kernels, run->stream, &rollout);
  rgm_copy(run->stream, obs, s->obs.data, rgm_bytes(rollout.obs));
  rgm_copy(run->stream, act, s->act.data, rgm_bytes(rollout.act));
  rgm_copy(run->stream, signals, s->signals.data, rgm_bytes(rollout.signals));
  return rgm_sync(run->stream);
}


static rgm_status roll_all(simulation *s, int64_t patients, float *obs, float *act,
                           float *signals) {
  const rgm_env *env = s->run->env;
  for (int64_t first = 0; first < patients; first += s->chunk) {
    const int64_t n = patients - first < s->chunk ? patients - first : s->chunk;
    const int64_t rows = first * s->steps;
    RGM_TRY(roll(s, first, n, obs + rows * env->obs_dim, act + rows * env->act_dim,
                 signals + rows * env->signal_dim));
  }
  return RGM_OK;
}


// what the file says about where it comes from
static rgm_status annotate(const rgm_run *run, rgm_dataset *d) {
  char *text = rgm_config_emit(run->config, true);
  rgm_status status = text != NULL ? rgm_dataset_note(d, "config", text)
                                   : rgm_fail(RGM_EMEMORY, "no memory for the config");
  free(text);
  RGM_TRY(status);
  RGM_TRY(rgm_dataset_note(d, "source", "simulated patients: no person's data"));
  RGM_TRY(rgm_dataset_note(d, "licence", "as the program's: made by it"));
  return rgm_dataset_note(d, "version", rgm_version_text());
}


static rgm_status write_out(simulation *s, const simulate_keys *k, const rgm_options *options) {
  const rgm_env *env = s->run->env;
  const size_t rows = (size_t)(k->patients * s->steps);
  float *obs = malloc(rows * (size_t)env->obs_dim * sizeof *obs);
  float *act = malloc(rows * (size_t)env->act_dim * sizeof *act);
  float *signals = malloc(rows * (size_t)env->signal_dim * sizeof *signals);
  rgm_dataset *d = NULL;
  rgm_status status = obs != NULL && act != NULL && signals != NULL
                          ? roll_all(s, k->patients, obs, act, signals)
                          : rgm_fail(RGM_EMEMORY,
                                     "no memory for %lld patients; lower "
                                     "simulate.patients",
                                     (long long)k->patients);
  if (status == RGM_OK) {
    const rgm_episodes episodes = {
        k->patients, s->steps,          obs,           act,     signals,
        k->bins,     (uint64_t)k->seed, k->validation, k->test, k->history};
    status = env->record(s->run->env_keys, &episodes, &d);
  }
  status = status == RGM_OK ? annotate(s->run, d) : status;
  status = status == RGM_OK ? rgm_dataset_write(options->out, d) : status;
  if (status == RGM_OK && options->json) {
    rgm_json json = {.out = options->result};
    rgm_json_open(&json, NULL, '{');
    rgm_json_string(&json, "path", options->out);
    rgm_json_number(&json, "patients", (double)k->patients);
    rgm_json_number(&json, "rows", (double)d->rows);
    rgm_json_string(&json, "digest", d->digest);
    rgm_json_close(&json, '}');
  } else if (status == RGM_OK) {
    fprintf(options->result, "%s: %lld patients, %lld rows, digest %.16s\n", options->out,
            (long long)k->patients, (long long)d->rows, d->digest);
  }
  rgm_dataset_free(d);
  free(obs);
  free(act);
  free(signals);
  return status;
}


// environments that make tables: a CSV file
static rgm_status write_table(const rgm_run *run, const simulate_keys *k,
                              const rgm_options *options) {
  const size_t length = strlen(options->out);
  const rgm_cohort_of which = {(uint64_t)k->seed, 0, k->patients, k->controller};
  rgm_frame table = {0};
  if (length < 4 || strcmp(options->out + length - 4, ".csv") != 0) {
    return rgm_fail(RGM_EUSAGE, "-o %s: %s makes tables of patients: FILE.csv is needed",
                    options->out, run->env->name);
  }
  rgm_status status = run->env->cohort(run->env_keys, run->config, &which, &table);
  status = status == RGM_OK ? rgm_frame_write(options->out, &table) : status;
  if (status == RGM_OK && options->json) {
    rgm_json json = {.out = options->result};
    rgm_json_open(&json, NULL, '{');
    rgm_json_string(&json, "path", options->out);
    rgm_json_number(&json, "patients", (double)k->patients);
    rgm_json_number(&json, "rows", (double)table.rows);
    rgm_json_close(&json, '}');
  } else if (status == RGM_OK) {
    fprintf(options->result, "%s: %lld patients, %lld rows, %d columns\n", options->out,
            (long long)k->patients, (long long)table.rows, table.columns);
  }
  rgm_frame_free(&table);
  return status;
}


static rgm_status simulate(simulation *s, const simulate_keys *k, const rgm_options *options) {
  const rgm_env *env = s->run->env;
  if (env->cohort != NULL) {
    return write_table(s->run, k, options);
  }
  if (env->record == NULL) {
    return rgm_fail(RGM_ECONFIG, "env.name: %s writes no data sets", env->name);
  }
  s->controller = find(env, k->controller);
  if (s->controller == NULL) {
    return RGM_ECONFIG;
  }
  s->steps = env->steps(s->run->env_keys);
  s->chunk = k->patients < CHUNK ? k->patients : CHUNK;
  RGM_TRY(rgm_arena_create(s->run->stream, &s->arena));
  plan(s);
  RGM_TRY(rgm_arena_bind(s->arena));
  plan(s);
  RGM_TRY(rgm_arena_seal(s->arena));
  RGM_TRY(prepare(s, (uint64_t)k->seed));
  return write_out(s, k, options);
}


rgm_status rgm_simulate(const rgm_options *options) {
  simulation s = {0};
  simulate_keys keys;
  rgm_config *config = NULL;
  if (options->out == NULL) {
    return rgm_fail(RGM_EUSAGE, "regimen simulate CONFIG -o FILE: a file to write is needed");
  }
  RGM_TRY(rgm_load_config(options, &config, NULL));
  const char *name = rgm_config_text(config, "env.name");
  for (int i = 0; name != NULL && rgm_envs[i] != NULL; i++) {
    if (strcmp(rgm_envs[i]->name, name) == 0 && rgm_envs[i]->tabulate != NULL) {
      return rgm_simulate_stays(config, options);
    }
  }
  rgm_status status = rgm_config_read(config, "simulate", rgm_simulate_fields, &keys);
  if (status == RGM_OK) {
    status = rgm_run_create(config, &s.run); // the run's from here on
  } else {
    rgm_config_free(config);
  }
  status = status == RGM_OK ? simulate(&s, &keys, options) : status;
  rgm_arena_free(s.arena);
  rgm_run_free(s.run);
  return status;
}
