// SPDX-License-Identifier: Apache-2.0
// A run from its config: reads the sections, opens the device, plans twice, initialises; and the
// run as a checkpoint and back.

#include "engine/mdp.h"
#include "engine/transitions.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define RUN(member) offsetof(rgm_run_keys, member)

const char *const rgm_backend_names[] = {"auto", "cpu", "cuda", NULL};

static const char *const best_modes[] = {"auto", "max", "min", NULL};

const rgm_field rgm_run_fields[] = {
    {"name", RGM_STRING, RUN(name), "", "run", 0, 0, NULL, RGM_PROVENANCE,
     "Name of the run folder under runs/."},
    {"seed", RGM_INT, RUN(seed), "1", "1", 0, 9e15, NULL, RGM_PROVENANCE,
     "Seed of the first replica; replica r has seed + r."},
    {"replicas", RGM_INT, RUN(replicas), "1", "1", 1, 65536, NULL, RGM_SHAPE | RGM_PROVENANCE,
     "How many seeds are trained side by side; each equals the run alone, bit for bit."},
    {"steps", RGM_INT, RUN(steps), "1", "1000", 0, 4e9, NULL, RGM_PROVENANCE,
     "Steps of the algorithm; a finished run can be resumed with more."},
    {"init_from", RGM_STRING, RUN(init_from), "", "", 0, 0, NULL, RGM_PROVENANCE,
     "Run folder or checkpoint whose weights a new run starts from (fine-tuning); empty: none."},
    {"backend", RGM_CHOICE, RUN(backend), "", "auto", 0, 0, rgm_backend_names, RGM_PROVENANCE,
     "Device: auto takes a GPU where there is one and says why if not."},
    {"isa", RGM_STRING, RUN(isa), "", "auto", 0, 0, NULL, RGM_PROVENANCE,
     "CPU instruction set: auto, avx512, avx2; changes speed, never bits."},
    {"devices", RGM_LIST, RUN(devices), "1", "[0]", 0, 255, NULL, RGM_PROVENANCE | RGM_ADDED,
     "Which GPUs, counted from 0: a training uses one, a sweep starts a worker on each."},
    {"threads", RGM_INT, RUN(threads), "1", "0", 0, 256, NULL, RGM_PROVENANCE,
     "CPU threads, 0 for one per processor; changes speed, never bits."},
    {"report_every", RGM_INT, RUN(report_every), "steps", "50", 1, 1e9, NULL, RGM_PROVENANCE,
     "Steps between rows of metrics."},
    {"checkpoint_every", RGM_INT, RUN(checkpoint_every), "steps", "1000", 1, 1e9, NULL,
     RGM_PROVENANCE, "Steps between checkpoints; the last step always leaves one."},
    {"keep", RGM_INT, RUN(keep), "1", "2", 1, 1e6, NULL, RGM_PROVENANCE,
     "How many of the newest checkpoints stay."},
    {"keep_best", RGM_STRING, RUN(keep_best), "", "auto", 0, 0, NULL, RGM_PROVENANCE,
     "Metric whose best report stays as checkpoint-best.h5: a name, auto (the algorithm's), none."},
    {"best_mode", RGM_CHOICE, RUN(best_mode), "", "auto", 0, 0, best_modes, RGM_PROVENANCE,
     "What is best: max, min, or auto (the algorithm's for its own metric, max for others)."},
    {0},
};

const rgm_field rgm_eval_fields[] = {
    {"patients", RGM_INT, offsetof(rgm_eval_keys, patients), "1", "1000", 1, 1e7, NULL,
     RGM_PROVENANCE, "Test patients of an evaluation."},
    {"seed", RGM_INT, offsetof(rgm_eval_keys, seed), "1", "20260101", 0, 9e15, NULL, RGM_PROVENANCE,
     "Seed of the test patients, drawn from random streams that training never uses."},
    {"optimum", RGM_INT, offsetof(rgm_eval_keys, optimum), "1", "0", 0, 4000, NULL,
     RGM_PROVENANCE | RGM_ADDED,
     "Where the environment's optimum is known: points of its dynamic programming, from which "
     "regret is told; 0: no regret."},
    {0},
};

const rgm_field rgm_data_fields[] = {
    {"path", RGM_STRING, offsetof(rgm_data_keys, path), "", NULL, 0, 0, NULL, RGM_PROVENANCE,
     "Data file, relative to the working folder; its digest goes into checkpoints."},
    {0},
};

const rgm_field rgm_dataset_fields[] = {
    {"path", RGM_STRING, offsetof(rgm_data_keys, path), "", NULL, 0, 0, NULL,
     RGM_SHAPE | RGM_PROVENANCE,
     "Data file, relative to the working folder; its digest goes into checkpoints."},
    {"seed", RGM_INT, offsetof(rgm_data_keys, seed), "1", "1", 0, 9e15, NULL, RGM_SHAPE,
     "Seed of the split of a data set that has no column of role split: by patient, or else by "
     "episode."},
    {"validation", RGM_FLOAT, offsetof(rgm_data_keys, validation), "1", "0.1", 0, 0.9, NULL,
     RGM_SHAPE, "Share of patients for validation, where the data set does not say who."},
    {"test", RGM_FLOAT, offsetof(rgm_data_keys, test), "1", "0", 0, 0.9, NULL, RGM_SHAPE,
     "Share of patients for the test, where the data set does not say who."},
    {0},
};

// the section `algorithm` or `env` by itself: which one
static const rgm_field name_field[] = {
    {"name", RGM_STRING, 0, "", NULL, 0, 0, NULL, 0, "Which one; `regimen explain` lists them."},
    {0},
};


// ---- sections ----------------------------------------------------------------------------------

static rgm_status unknown_name(const rgm_config *config, const char *key, const char *name,
                               const char *const *names) {
  char list[512] = "";
  for (int i = 0; names[i] != NULL; i++) {
    snprintf(list + strlen(list), sizeof list - strlen(list), "%s%s", i > 0 ? ", " : "", names[i]);
  }
  const char *nearest = rgm_nearest(name, names);
  return rgm_fail(RGM_ECONFIG, "%s: %s: no such %.3s \"%s\"%s%s%s; there are: %s",
                  rgm_config_where(config, key), key, key, name,
                  nearest != NULL ? "; did you mean " : "", nearest != NULL ? nearest : "",
                  nearest != NULL ? "?" : "", list);
}


static rgm_status choose_algorithm(rgm_run *run) {
  char name[RGM_STRING_SIZE];
  const char *names[64] = {NULL};
  RGM_TRY(rgm_config_read(run->config, "algorithm", name_field, name));
  for (int i = 0; rgm_algorithms[i] != NULL; i++) {
    names[i] = rgm_algorithms[i]->name;
    if (strcmp(names[i], name) == 0) {
      run->algorithm = rgm_algorithms[i];
      return RGM_OK;
    }
  }
  return unknown_name(run->config, "algorithm.name", name, names);
}


static rgm_status choose_env(rgm_run *run) {
  char name[RGM_STRING_SIZE];
  const char *names[64] = {NULL};
  RGM_TRY(rgm_config_read(run->config, "env", name_field, name));
  for (int i = 0; rgm_envs[i] != NULL; i++) {
    names[i] = rgm_envs[i]->name;
    if (strcmp(names[i], name) == 0) {
      run->env = rgm_envs[i];
      return RGM_OK;
    }
  }
  return unknown_name(run->config, "env.name", name, names);
}


// reads a section once for every replica
static rgm_status read_keys(rgm_run *run, const char *section, const rgm_field *fields, size_t size,
                            void **out) {
  uint8_t *keys = calloc((size_t)run->replicas, size);
  if (keys == NULL) {
    return rgm_fail(RGM_EMEMORY, "no memory for %lld replicas", (long long)run->replicas);
  }
  *out = keys;
  RGM_TRY(rgm_config_read(run->config, section, fields, keys));
  for (int64_t r = 1; r < run->replicas; r++) {
    memcpy(keys + (size_t)r * size, keys, size);
  }
  return RGM_OK;
}


// what algorithm.preset says of keys that nobody set
static rgm_status apply_preset(rgm_run *run) {
  const rgm_preset *preset = run->algorithm->presets;
  const char *name = rgm_config_text(run->config, "algorithm.preset");
  while (preset != NULL && preset->name != NULL &&
         (name == NULL || strcmp(preset->name, name) != 0)) {
    preset++;
  }
  if (preset == NULL || preset->name == NULL) {
    return RGM_OK; // the default; a name that is none is refused with the other keys
  }
  for (int i = 0; preset->set[i][0] != NULL; i++) {
    char key[96];
    snprintf(key, sizeof key, "algorithm.%s", preset->set[i][0]);
    if (strcmp(rgm_config_where(run->config, key), "default") == 0) {
      RGM_TRY(rgm_config_set(run->config, key, preset->set[i][1]));
    }
  }
  return RGM_OK;
}


static rgm_status read_sections(rgm_run *run) {
  if (rgm_config_has_sweep(run->config)) {
    return rgm_fail(RGM_ECONFIG, "%s: a sweep is run by `regimen sweep`",
                    rgm_config_where(run->config, "sweep"));
  }
  RGM_TRY(rgm_config_read(run->config, "run", rgm_run_fields, &run->keys));
  run->replicas = run->keys.replicas;
  RGM_TRY(choose_algorithm(run));
  RGM_TRY(apply_preset(run));
  const rgm_algorithm *algorithm = run->algorithm;
  const bool given = rgm_config_text(run->config, "env.name") != NULL;
  if ((algorithm->needs & RGM_NEEDS_ENV) || ((algorithm->needs & RGM_TAKES_ENV) && given)) {
    RGM_TRY(choose_env(run));
    RGM_TRY(read_keys(run, "env", run->env->fields, run->env->keys_size, &run->env_keys));
  }
  RGM_TRY(
      read_keys(run, "algorithm", algorithm->fields, algorithm->keys_size, &run->algorithm_keys));
  if (algorithm->needs & RGM_NEEDS_TABLE) {
    RGM_TRY(rgm_config_read(run->config, "data", rgm_data_fields, &run->data));
  }
  if (algorithm->needs & RGM_NEEDS_DATASET) {
    RGM_TRY(rgm_config_read(run->config, "data", rgm_dataset_fields, &run->data));
  }
  RGM_TRY(rgm_config_read(run->config, "eval", rgm_eval_fields, &run->eval));
  return rgm_config_finish(run->config);
}


// the data set, which the simulator, where there is one, must be able to stand in for
static rgm_status read_dataset(rgm_run *run) {
  const rgm_data_keys *data = &run->data;
  if (data->validation + data->test >= 1.0) {
    return rgm_fail(RGM_ECONFIG, "%s: data.validation and data.test leave no patient to train on",
                    rgm_config_where(run->config, "data.test"));
  }
  RGM_TRY(rgm_transitions_read(data, &run->transitions));
  snprintf(run->data_digest, sizeof run->data_digest, "%s", run->transitions->digest);
  // an environment that takes doses picks states by name: who acts in it checks them
  if (run->env == NULL || run->env->give_dose != NULL) {
    return RGM_OK;
  }
  if (run->env->obs_dim != run->transitions->states) {
    return rgm_fail(RGM_ECONFIG,
                    "%s: env.name: %s has %d observations where %s has %d: it is not what the data "
                    "are of",
                    rgm_config_where(run->config, "env.name"), run->env->name, run->env->obs_dim,
                    data->path, run->transitions->states);
  }
  const int64_t choices = run->transitions->choices;
  const int actions = run->transitions->actions;
  if (run->env->choices != choices || run->env->act_dim != actions) {
    return rgm_fail(RGM_ECONFIG,
                    "%s: env.name: %s has %d actions of %d classes (0: continuous) where %s has %d "
                    "of %lld: it is not what the data are of",
                    rgm_config_where(run->config, "env.name"), run->env->name, run->env->act_dim,
                    run->env->choices, data->path, actions, (long long)choices);
  }
  return RGM_OK;
}


rgm_status rgm_run_read(rgm_config *config, bool check, rgm_run **out) {
  rgm_run *run = *out = calloc(1, sizeof *run);
  if (run == NULL) {
    rgm_config_free(config);
    return rgm_fail(RGM_EMEMORY, "no memory for the run");
  }
  run->config = config;
  RGM_TRY(read_sections(run));
  if (!check) {
    return RGM_OK;
  }
  if (run->env != NULL) {
    const bool table = (run->algorithm->needs & RGM_NEEDS_MDP) != 0;
    const bool cohort = (run->algorithm->needs & RGM_NEEDS_COHORT) != 0;
    if (table != (run->env->tabulate != NULL) || cohort != (run->env->cohort != NULL)) {
      return rgm_fail(RGM_ECONFIG, "%s: algorithm.name: %s is for %s, which %s is not",
                      rgm_config_where(run->config, "algorithm.name"), run->algorithm->name,
                      table    ? "tabular problems (sepsis_grid, mdp)"
                      : cohort ? "tables of simulated patients (aki)"
                               : "simulated patients",
                      run->env->name);
    }
  }
  if (run->algorithm->needs & RGM_NEEDS_DATASET) {
    RGM_TRY(read_dataset(run));
  }
  if (run->algorithm->check != NULL) {
    RGM_TRY(run->algorithm->check(run));
  }
  if (run->env != NULL) {
    // a bad environment is told before anything is allocated
    void *constants = calloc(1, run->env->config_size);
    const rgm_status status = constants == NULL
                                  ? rgm_fail(RGM_EMEMORY, "no memory for the environment")
                                  : run->env->prepare(run->env_keys, config, constants);
    free(constants);
    return status;
  }
  return RGM_OK;
}


// ---- planning ----------------------------------------------------------------------------------

const void *rgm_algorithm_keys(const rgm_run *run, int64_t r) {
  return (const uint8_t *)run->algorithm_keys + (size_t)r * run->algorithm->keys_size;
}


const void *rgm_env_keys(const rgm_run *run, int64_t r) {
  return (const uint8_t *)run->env_keys + (size_t)r * run->env->keys_size;
}


rgm_tensor rgm_plan_hyper(rgm_run *run, const char *name, size_t offset) {
  char full[64];
  snprintf(full, sizeof full, "hyper/%s", name);
  const rgm_tensor tensor =
      rgm_plan(run->arena, full, RGM_F32, RGM_BLOCK, "replica", "1", run->replicas, 0, 0, 0);
  if (tensor.data != NULL) {
    RGM_ASSERT(run->hyper_count < RGM_MAX_HYPERS);
    run->hyper[run->hyper_count].tensor = tensor;
    run->hyper[run->hyper_count++].offset = offset;
  }
  return tensor;
}


static rgm_status plan(rgm_run *run) {
  run->seeds = rgm_plan(run->arena, "seeds", RGM_U32, RGM_STATE, "replica, word", "", run->replicas,
                        2, 0, 0);
  run->clock =
      rgm_plan(run->arena, "clock", RGM_U32, RGM_STATE, "replica", "steps", run->replicas, 0, 0, 0);
  run->active =
      rgm_plan(run->arena, "active", RGM_U32, RGM_STATE, "replica", "", run->replicas, 0, 0, 0);
  if (run->env != NULL) {
    run->env_config = rgm_plan(run->arena, "env", RGM_U8, RGM_BLOCK, "replica, byte", "",
                               run->replicas, (int64_t)run->env->config_size, 0, 0);
  }
  return run->algorithm->plan != NULL ? run->algorithm->plan(run) : RGM_OK;
}


// the environment's constants of every replica
static rgm_status upload_env(rgm_run *run) {
  const size_t size = run->env->config_size;
  uint8_t *config = calloc((size_t)run->replicas, size);
  if (config == NULL) {
    return rgm_fail(RGM_EMEMORY, "no memory for the environment");
  }
  rgm_status status = RGM_OK;
  for (int64_t r = 0; r < run->replicas && status == RGM_OK; r++) {
    status = run->env->prepare(rgm_env_keys(run, r), run->config, config + (size_t)r * size);
  }
  RGM_ASSERT(run->env_config.stride0 == (int64_t)size);
  rgm_copy(run->stream, run->env_config.data, config, (size_t)run->replicas * size);
  status = status == RGM_OK ? rgm_sync(run->stream) : status;
  free(config);
  return status;
}


// seeds, masks, constants and hyperparameters of every replica, a copy for each
static rgm_status upload(rgm_run *run) {
  const size_t n = (size_t)run->replicas;
  uint32_t *words = malloc(2 * n * sizeof *words);
  float *values = malloc(n * sizeof *values);
  rgm_status status = words != NULL && values != NULL
                          ? RGM_OK
                          : rgm_fail(RGM_EMEMORY, "no memory for %lld replicas", (long long)n);
  for (size_t r = 0; r < n && status == RGM_OK; r++) {
    const uint64_t seed = (uint64_t)rgm_run_seed(run, (int64_t)r);
    words[2 * r] = (uint32_t)seed;
    words[2 * r + 1] = (uint32_t)(seed >> 32);
  }
  if (status == RGM_OK) {
    rgm_copy(run->stream, run->seeds.data, words, 2 * n * sizeof *words);
    status = rgm_sync(run->stream);
  }
  for (size_t r = 0; r < n && status == RGM_OK; r++) {
    words[r] = 1;
  }
  if (status == RGM_OK) {
    rgm_copy(run->stream, run->active.data, words, n * sizeof *words);
    status = rgm_sync(run->stream);
  }
  for (int i = 0; i < run->hyper_count && status == RGM_OK; i++) {
    for (size_t r = 0; r < n; r++) {
      const uint8_t *keys = rgm_algorithm_keys(run, (int64_t)r);
      double value;
      memcpy(&value, keys + run->hyper[i].offset, sizeof value);
      values[r] = (float)value;
    }
    rgm_copy(run->stream, run->hyper[i].tensor.data, values, n * sizeof *values);
    status = rgm_sync(run->stream);
  }
  free(words);
  free(values);
  RGM_TRY(status);
  RGM_TRY(rgm_fill_rings(run));
  return run->env != NULL ? upload_env(run) : RGM_OK;
}


// a run with its keys and its stream, up to the measuring pass
static rgm_status measure(rgm_run *run) {
  run->self = calloc(1, run->algorithm->self_size > 0 ? run->algorithm->self_size : 1);
  if (run->self == NULL) {
    return rgm_fail(RGM_EMEMORY, "no memory for %s", run->algorithm->name);
  }
  if (run->env != NULL && run->env->tabulate != NULL) {
    RGM_TRY(run->env->tabulate(run->env_keys, run->config, &run->mdp));
    RGM_TRY(rgm_mdp_digest(run->mdp, run->data_digest));
  } else if (run->env != NULL && run->env->cohort == NULL) {
    const rgm_backend *set = run->stream->backend;
    run->env_kernels = run->env->kernels_of != NULL ? run->env->kernels_of(run->env_keys, set)
                                                    : run->env->kernels(set);
    for (int64_t r = 1; r < run->replicas && run->env->kernels_of != NULL; r++) {
      RGM_ASSERT(run->env->kernels_of(rgm_env_keys(run, r), set) == run->env_kernels);
    }
    if (run->env_kernels == NULL) {
      return rgm_fail(RGM_EDEVICE, "run.backend: %s has no kernels of %s; use cpu", set->name,
                      run->env->name);
    }
  }
  RGM_TRY(rgm_arena_create(run->stream, &run->arena));
  return plan(run);
}


// memory for what was measured, and the state that training starts from
static rgm_status bind(rgm_run *run) {
  RGM_TRY(rgm_arena_bind(run->arena));
  RGM_TRY(plan(run));
  RGM_TRY(rgm_arena_seal(run->arena));
  RGM_TRY(upload(run));
  return run->algorithm->init != NULL ? run->algorithm->init(run) : RGM_OK;
}


rgm_status rgm_run_open_stream(rgm_run *run, rgm_stream **out) {
  const rgm_list *devices = &run->keys.devices;
  const int first = devices->count > 0 ? (int)devices->value[0] : 0;
  const rgm_device_options options = {(int)run->keys.threads, run->keys.isa, first};
  return rgm_open(rgm_backend_names[run->keys.backend], &options, out, run->device,
                  sizeof run->device);
}


rgm_status rgm_run_plan_only(rgm_config *config, rgm_run **out) {
  RGM_TRY(rgm_run_read(config, true, out));
  if ((*out)->keys.devices.count > 1) {
    return rgm_fail(RGM_ECONFIG,
                    "%s: run.devices: a run uses one GPU; `regimen sweep` starts a worker on each "
                    "(seeds are swept over by `sweep: {seeds: N}`)",
                    rgm_config_where(config, "run.devices"));
  }
  RGM_TRY(rgm_run_open_stream(*out, &(*out)->stream));
  return measure(*out);
}


rgm_status rgm_run_create(rgm_config *config, rgm_run **out) {
  RGM_TRY(rgm_run_plan_only(config, out));
  return bind(*out);
}


// the keys of all members' replicas, one after the other
static rgm_status gather_keys(rgm_run *pack, int64_t count) {
  const int64_t each = pack->replicas / count;
  const size_t env = pack->env != NULL ? pack->env->keys_size : 0;
  const size_t algorithm = pack->algorithm->keys_size;
  pack->algorithm_keys = malloc((size_t)pack->replicas * algorithm + 1);
  pack->env_keys = env > 0 ? malloc((size_t)pack->replicas * env) : NULL;
  if (pack->algorithm_keys == NULL || (env > 0 && pack->env_keys == NULL)) {
    return rgm_fail(RGM_EMEMORY, "no memory for %lld replicas", (long long)pack->replicas);
  }
  for (int64_t m = 0; m < count; m++) {
    const rgm_run *member = pack->members[m];
    memcpy((uint8_t *)pack->algorithm_keys + (size_t)(m * each) * algorithm, member->algorithm_keys,
           (size_t)each * algorithm);
    RGM_ASSERT(member->replicas == each && member->algorithm == pack->algorithm);
    if (env > 0) {
      memcpy((uint8_t *)pack->env_keys + (size_t)(m * each) * env, member->env_keys,
             (size_t)each * env);
    }
  }
  return RGM_OK;
}


// the members' data set, of which there is one
static rgm_status share_dataset(rgm_run *pack, int64_t count) {
  const rgm_run *first = pack->members[0];
  pack->transitions = first->transitions;
  snprintf(pack->data_digest, sizeof pack->data_digest, "%s", first->data_digest);
  for (int64_t m = 1; m < count; m++) {
    if (strcmp(pack->members[m]->data_digest, first->data_digest) != 0) {
      return rgm_fail(RGM_EDATA, "%s changed while trials began: start the sweep anew",
                      first->data.path);
    }
  }
  return RGM_OK;
}


rgm_status rgm_run_pack(rgm_run *const *members, int64_t count, rgm_stream *stream, bool bound,
                        rgm_run **out) {
  rgm_run *pack = *out = calloc(1, sizeof *pack);
  if (pack == NULL) {
    return rgm_fail(RGM_EMEMORY, "no memory for a pack");
  }
  const rgm_run *first = members[0];
  pack->members = members;
  pack->config = first->config;
  pack->keys = first->keys;
  pack->eval = first->eval;
  pack->data = first->data;
  pack->env = first->env;
  pack->algorithm = first->algorithm;
  pack->stream = stream;
  pack->replicas = count * first->replicas;
  pack->keys.replicas = pack->replicas;
  snprintf(pack->device, sizeof pack->device, "%s", first->device);
  RGM_TRY(share_dataset(pack, count));
  RGM_TRY(gather_keys(pack, count));
  RGM_TRY(measure(pack));
  return bound ? bind(pack) : RGM_OK;
}


int64_t rgm_run_seed(const rgm_run *run, int64_t r) {
  const rgm_run *member = run;
  if (run->members != NULL) {
    member = run->members[r / run->members[0]->replicas];
    r %= member->replicas;
  }
  return member->keys.seed + r;
}


void rgm_run_free(rgm_run *run) {
  if (run == NULL) {
    return;
  }
  rgm_metrics_close(run->metrics);
  if (run->self != NULL && run->algorithm->release != NULL) {
    run->algorithm->release(run);
  }
  rgm_arena_free(run->arena);
  if (run->members == NULL) {
    rgm_close(run->stream);
    rgm_config_free(run->config);
    rgm_transitions_free(run->transitions);
  }
  free(run->env_keys);
  free(run->algorithm_keys);
  free(run->self);
  rgm_mdp_free(run->mdp);
  free(run);
}


// ---- what algorithms call ----------------------------------------------------------------------

rgm_status rgm_read_back(rgm_run *run, rgm_tensor t, void *out) {
  rgm_copy(run->stream, out, t.data, rgm_bytes(t));
  return rgm_sync(run->stream);
}


rgm_status rgm_report(rgm_run *run, const char *name, const char *unit, const float *values) {
  return run->metrics != NULL ? rgm_metrics_add(run->metrics, name, unit, values, run->replicas)
                              : RGM_OK;
}


rgm_status rgm_report_vector(rgm_run *run, const char *name, const char *unit, rgm_tensor t) {
  RGM_ASSERT(t.dtype == RGM_F32 && rgm_elements(t) == run->replicas);
  float *values = malloc(rgm_bytes(t));
  if (values == NULL) {
    return rgm_fail(RGM_EMEMORY, "no memory for the report");
  }
  rgm_status status = rgm_read_back(run, t, values);
  if (status == RGM_OK) {
    status = rgm_report(run, name, unit, values);
  }
  free(values);
  return status;
}


// the first bad one of n replicas of an entry from `first` on, -1 for none
static rgm_status find_nonfinite(rgm_run *run, const rgm_entry *entry, int64_t first, int64_t n,
                                 int64_t *bad) {
  const rgm_tensor t = entry->tensor;
  const int64_t size = rgm_elements(t) / t.dims[0];
  float *values = malloc((size_t)size * sizeof *values);
  if (values == NULL) {
    return rgm_fail(RGM_EMEMORY, "no memory to check %s", entry->name);
  }
  *bad = -1;
  for (int64_t r = first; r < first + n && *bad < 0; r++) {
    rgm_copy(run->stream, values, (const float *)t.data + r * t.stride0,
             (size_t)size * sizeof *values);
    if (rgm_sync(run->stream) != RGM_OK) {
      free(values);
      return RGM_EDEVICE;
    }
    for (int64_t i = 0; i < size && *bad < 0; i++) {
      *bad = isfinite(values[i]) ? -1 : r;
    }
  }
  free(values);
  return RGM_OK;
}


rgm_status rgm_guard_replicas(rgm_run *run, int64_t first, int64_t n) {
  for (int i = 0; i < rgm_arena_count(run->arena); i++) {
    const rgm_entry *entry = rgm_arena_entry(run->arena, i);
    int64_t bad = -1;
    if ((entry->flags & RGM_STATE) && entry->tensor.dtype == RGM_F32) {
      RGM_TRY(find_nonfinite(run, entry, first, n, &bad));
    }
    if (bad >= 0) {
      return rgm_fail(RGM_ENUMERIC,
                      "%s of replica %lld (seed %lld) is not finite at step %llu; the last good "
                      "checkpoint stays: lower the learning rate, or look at the data",
                      entry->name, (long long)bad, (long long)rgm_run_seed(run, bad),
                      (unsigned long long)run->step);
    }
  }
  return RGM_OK;
}


rgm_status rgm_guard(rgm_run *run) {
  RGM_TRY(rgm_guard_replicas(run, 0, run->replicas));
  return rgm_arena_check(run->arena);
}
