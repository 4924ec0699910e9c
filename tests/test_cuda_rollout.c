// SPDX-License-Identifier: Apache-2.0
// Tests of CUDA's whole episodes and policy gradient, run on the CPU (tests/cuda_host): every
// output of every environment, controller, form and shape has the bits of the CPU backend, and so
// has the checkpoint of a training run.

#include "engine/engine.h"
#include "envs/heparin.h"
#include "envs/propofol.h"
#include "tests/cuda_host/cuda_host.h"
#include "tests/cuda_module.h"

#include <criterion/criterion.h>
#include <dlfcn.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#define COUNT(array) ((int)(sizeof(array) / sizeof((array)[0])))

enum { OUTPUTS = 6, MOST = 8, WIDEST = 1024 };

static const uint32_t untouched = 0x7fedcba9u; // a NaN that no kernel makes

// The environments' loops; sizes are those of their headers.
enum { SCHNIDER, ELEVELD, HEPARIN, MODELS };
static const struct {
  const char *name, *env, *set;
  int words, obs, act, signals;
  size_t config;
} models[] = {
    {"schnider", "propofol", "env.model=schnider", PROPOFOL_WORDS, PROPOFOL_OBS, PROPOFOL_ACT,
     PROPOFOL_SIGNALS, sizeof(propofol_config)},
    {"eleveld", "propofol", "env.model=eleveld", PROPOFOL_WORDS, PROPOFOL_OBS, PROPOFOL_ACT,
     PROPOFOL_SIGNALS, sizeof(propofol_config)},
    {"heparin", "heparin", "env.kappa=8", HEPARIN_WORDS, HEPARIN_OBS, HEPARIN_ACT, HEPARIN_SIGNALS,
     sizeof(heparin_config)},
};
static const char *const forms[] = {"short", "long", "pair", ""};
static rgm_stream *cuda, *cpu;
static rgm_run *runs[MODELS]; // of each model, for its kernels
static union {
  propofol_config propofol;
  heparin_config heparin;
} configs[MODELS];
static int compared; // tensors


// ---- both devices ------------------------------------------------------------------------------

static rgm_run *plan_run(int model) {
  static const char text[] = "run: {threads: 1, backend: cpu}\nalgorithm: {name: pid}\n";
  char name[64];
  snprintf(name, sizeof name, "env.name=%s", models[model].env);
  const char *sets[] = {name, models[model].set, "env.sex=random"};
  rgm_config *config = NULL;
  rgm_run *run = NULL;
  cr_assert_eq(rgm_config_parse("test", text, sets, model == HEPARIN ? 2 : 3, &config), RGM_OK,
               "%s", rgm_last_error());
  cr_assert_eq(rgm_run_plan_only(config, &run), RGM_OK, "%s", rgm_last_error());
  return run;
}


static void open_both(void) {
  char note[512];
  const rgm_device_options options = {.threads = 1, .isa = "auto"};
  setenv("RGM_CUDA_MODULE", cuda_module(), 1);
  unsetenv("RGM_CUDA_LOOP");
  cr_assert_eq(rgm_open("cuda", &options, &cuda, note, sizeof note), RGM_OK, "%s",
               rgm_last_error());
  cr_assert_eq(rgm_open("cpu", &options, &cpu, note, sizeof note), RGM_OK);
  for (int m = 0; m < MODELS; m++) {
    runs[m] = plan_run(m);
    cr_assert_eq(runs[m]->env->config_size, models[m].config);
    cr_assert_eq(runs[m]->env->prepare(rgm_env_keys(runs[m], 0), runs[m]->config, &configs[m]),
                 RGM_OK);
  }
}


static void close_both(void) {
  for (int m = 0; m < MODELS; m++) {
    rgm_run_free(runs[m]);
  }
  rgm_close(cuda);
  rgm_close(cpu);
}


TestSuite(cuda_rollout, .init = open_both, .fini = close_both, .timeout = 120);


// ---- a rollout on one of them ------------------------------------------------------------------

// What to run. Bit k of `records`: output k + 2 is written. `batch` > 0: slots run episodes of a
// batch of so many again.
typedef struct plan {
  int model, hidden;
  int64_t r, p, k, t, first;
  rgm_control control;
  unsigned records;
  bool mask;
  int64_t batch;
} plan;

// returns, patients, obs, act, logits, signals, in host memory
typedef struct result {
  uint32_t *data[OUTPUTS];
  int64_t count[OUTPUTS];
} result;

static uint64_t state; // of a linear congruential generator
static float toss(void) {
  state = state * 6364136223846793005u + 1442695040888963407u;
  return (float)(int32_t)(state >> 40) * 0x1p-23f - 1.0f;
}


// memory of the stream with these bytes
static void *upload(rgm_stream *s, const void *from, size_t bytes) {
  void *memory = NULL;
  cr_assert_eq(s->backend->alloc(s, bytes, &memory), RGM_OK, "%s", rgm_last_error());
  rgm_copy(s, memory, from, bytes);
  return memory;
}


// weights that steer: more drug below the target
static float *make_params(const plan *q, int64_t *words) {
  const int64_t padded = (q->hidden + 15) / 16 * 16,
                size = padded * (models[q->model].obs + 17) + 16;
  float *params = calloc((size_t)(q->r * size), sizeof *params);
  state = 17;
  for (int64_t r = 0; r < q->r; r++) {
    float *p = params + r * size;
    for (int64_t i = 0; i < size; i++) {
      p[i] = 0.5f * toss();
    }
    for (int64_t h = q->hidden; h < padded; h++) {
      p[h] = NAN; // padding is not read
    }
    if (q->model == HEPARIN) {
      // observations are in their own units: a patient in four or so gets another action
      for (int64_t i = 0; i < models[HEPARIN].obs * padded; i++) {
        p[i] *= 0.02f;
      }
      if (q->control == RGM_CONTROL_CLINICIAN) {
        const rgm_run *run = runs[q->model];
        cr_assert_eq(run->env->baselines[1].params(rgm_env_keys(run, 0), p), RGM_OK);
      }
      continue;
    }
    p[0] = 20.0f;
    p[1 * padded] = p[2 * padded] = p[3 * padded] = p[4 * padded] = 0.0f;
    p[5 * padded] = -2.0f;
    p[5 * padded + 1] = 3.0f;
    if (q->control == RGM_CONTROL_PID) {
      p[0] = 2.0f + toss();
      p[1] = 0.01f;
      p[2] = 5.0f;
    }
  }
  *words = size;
  return params;
}


// the constants of every replica, each a little different; events come within short episodes
static uint8_t *make_configs(const plan *q) {
  const size_t size = models[q->model].config;
  cr_assert(q->r > 0 && q->r <= 64);
  uint8_t *all = calloc((size_t)q->r, size);
  for (int64_t r = 0; r < q->r; r++) {
    if (q->model == HEPARIN) {
      heparin_config c = configs[q->model].heparin;
      c.lab_sd *= 1.0f + 0.25f * (float)r;
      c.lab_every = 2.0f + (float)r;
      c.lab_turnaround = (float)(r % 2);
      c.bleed = c.clot = c.death = 0.01f;
      c.clot_penalty = 1.5f;
      memcpy(all + (size_t)r * size, &c, size);
    } else {
      propofol_config c = configs[q->model].propofol;
      c.noise_sd *= 1.0f + 0.25f * (float)r;
      c.phase_steps = 6 + (int32_t)r;
      c.targets = 3;
      memcpy(all + (size_t)r * size, &c, size);
    }
  }
  return all;
}


// the kernels of a model for a backend
static const rgm_env_kernels *kernels_of(int model, const rgm_backend *backend) {
  const rgm_env *env = runs[model]->env;
  return env->kernels_of != NULL ? env->kernels_of(rgm_env_keys(runs[model], 0), backend)
                                 : env->kernels(backend);
}


// the episode that slot k of replica r runs again, and how many slots have one: all, none, some
static uint32_t again_item(const plan *q, int64_t r, int64_t k) {
  return (uint32_t)((7 * k + 3 * r + 2) % q->batch);
}
static uint32_t again_count(const plan *q, int64_t r) {
  return (uint32_t)(r % 4 == 0 ? q->k : r % 4 == 1 ? q->k + 3 : r % 4 == 2 ? 0 : q->k / 2);
}


static void upload_items(rgm_stream *s, const plan *q, void *memory[2], rgm_rollout *rollout) {
  uint32_t *items = calloc((size_t)(q->r * q->k), sizeof *items), count[MOST];
  memory[0] = memory[1] = NULL;
  for (int64_t i = 0; i < q->r * q->k && q->batch > 0; i++) {
    const int64_t r = i / q->k, k = i % q->k;
    count[r] = again_count(q, r);
    items[i] = k < count[r] ? again_item(q, r, k) : UINT32_MAX; // not read
  }
  if (q->batch > 0) {
    memory[0] = upload(s, items, (size_t)(q->r * q->k) * sizeof *items);
    memory[1] = upload(s, count, (size_t)q->r * sizeof *count);
    rollout->episodes = q->batch;
    rollout->items = rgm_view(memory[0], RGM_U32, q->r, q->k, 0, 0);
    rollout->count = rgm_view(memory[1], RGM_U32, q->r, 0, 0, 0);
  }
  free(items);
}


static void run_plan(rgm_stream *s, const plan *q, result *out) {
  const rgm_env_kernels *kernels = kernels_of(q->model, s->backend);
  const int64_t W = models[q->model].words, O = models[q->model].obs, A = models[q->model].act;
  const int64_t S = models[q->model].signals, C = (int64_t)models[q->model].config;
  cr_assert(kernels != NULL && kernels->obs == O);
  const int64_t R = q->r, K = q->k, T = q->t;
  const int64_t counts[OUTPUTS] = {R * K,         R * q->p * W, R * K * T * O,
                                   R * K * T * A, R * K * T,    R * K * T * S};
  void *device[OUTPUTS], *memory[MOST];
  for (int i = 0; i < OUTPUTS; i++) {
    out->count[i] = counts[i];
    out->data[i] = malloc((size_t)counts[i] * sizeof(uint32_t));
    for (int64_t j = 0; j < counts[i]; j++) {
      const float action = (float)(j % 5) * 0.25f;
      out->data[i][j] = untouched;
      if (i == 3 && q->control == RGM_CONTROL_OPEN_LOOP) {
        memcpy(&out->data[i][j], &action, sizeof action);
      }
    }
    device[i] = upload(s, out->data[i], (size_t)counts[i] * sizeof(uint32_t));
  }
  int64_t words;
  float *params = make_params(q, &words);
  uint8_t *config = make_configs(q);
  uint32_t seeds[2 * MOST], active[MOST], clock[MOST];
  for (int r = 0; r < R; r++) {
    seeds[2 * r] = 1000u + 7u * (uint32_t)r;
    seeds[2 * r + 1] = 3;
    clock[r] = 12 + 5 * (uint32_t)r;
    active[r] = q->mask ? (uint32_t)(r % 3 != 1) : 1;
  }
  memory[0] = upload(s, params, (size_t)(R * words) * sizeof *params);
  memory[1] = upload(s, config, (size_t)(R * C));
  memory[2] = upload(s, seeds, (size_t)R * 2 * sizeof *seeds);
  memory[3] = upload(s, active, (size_t)R * sizeof *active);
  memory[4] = upload(s, clock, (size_t)R * sizeof *clock);
  const rgm_cohort cohort = {
      .patients = rgm_view(device[1], RGM_F32, R, q->p, W, 0),
      .config = rgm_view(memory[1], RGM_U8, R, C, 0, 0),
      .seeds = rgm_view(memory[2], RGM_U32, R, 2, 0, 0),
      .clock = rgm_view(memory[4], RGM_U32, R, 0, 0, 0),
      .active = rgm_view(memory[3], RGM_U32, R, 0, 0, 0),
      .random = RGM_RANDOM_PATIENT + RGM_RANDOM_EVAL,
      .first = q->first,
  };
#define RECORD(k) (q->records >> ((k)-2) & 1u ? device[k] : NULL)
  rgm_rollout rollout = {
      .returns = rgm_view(device[0], RGM_F32, R, K, 0, 0),
      .obs = rgm_view(RECORD(2), RGM_F32, R, K, T, O),
      .act = rgm_view(q->control == RGM_CONTROL_OPEN_LOOP ? device[3] : RECORD(3), RGM_F32, R, K, T,
                      A),
      .logits = rgm_view(RECORD(4), RGM_F32, R, K, T, 0),
      .signals = rgm_view(RECORD(5), RGM_F32, R, K, T, S),
      .patients = cohort.patients,
      .config = cohort.config,
      .params = rgm_view(memory[0], RGM_F32, R, words, 0, 0),
      .seeds = cohort.seeds,
      .clock = cohort.clock,
      .active = cohort.active,
      .control = q->control,
      .hidden = q->hidden,
      .random = RGM_RANDOM_NOISE,
      .first = q->first * 10,
      .steps = T,
  };
  upload_items(s, q, memory + 5, &rollout);
  // inactive replicas have patients too, which nothing may touch
  rgm_env_sample(kernels, s, &cohort);
  rgm_env_rollout(kernels, s, &rollout);
  cr_assert_eq(rgm_sync(s), RGM_OK, "%s", rgm_last_error());
  for (int i = 0; i < OUTPUTS; i++) {
    rgm_copy(s, out->data[i], device[i], (size_t)counts[i] * sizeof(uint32_t));
  }
  cr_assert_eq(rgm_sync(s), RGM_OK, "%s", rgm_last_error());
  for (int i = 0; i < OUTPUTS; i++) {
    s->backend->release(s, device[i]);
  }
  for (int i = 0; i < (q->batch > 0 ? 7 : 5); i++) {
    s->backend->release(s, memory[i]);
  }
  free(params);
  free(config);
}


static void drop(result *r) {
  for (int i = 0; i < OUTPUTS; i++) {
    free(r->data[i]);
  }
}


// ---- the two compared --------------------------------------------------------------------------

static void expect_equal(const plan *q, const result *want, const result *got, const char *form) {
  static const char *const names[OUTPUTS] = {"returns", "patients", "obs",
                                             "act",     "logits",   "signals"};
  for (int i = 0; i < OUTPUTS; i++) {
    for (int64_t j = 0; j < want->count[i]; j++) {
      const uint32_t a = want->data[i][j], b = got->data[i][j];
      cr_assert(a == b,
                "%s, control %d, form \"%s\", R %d P %d K %d T %d, hidden %d: %s[%d] is %08x, "
                "want %08x",
                models[q->model].name, (int)q->control, form, (int)q->r, (int)q->p, (int)q->k,
                (int)q->t, q->hidden, names[i], (int)j, b, a);
    }
    compared++;
  }
}


static bool is_policy(rgm_control control) {
  return control <= RGM_CONTROL_CONTINUOUS;
}


// runs the plan on the CPU, and in every form on CUDA
static void check(const plan *q) {
  result want, got;
  run_plan(cpu, q, &want);
  for (int f = 0; f < (is_policy(q->control) ? COUNT(forms) : 1); f++) {
    setenv("RGM_CUDA_LOOP", forms[f], 1);
    run_plan(cuda, q, &got);
    expect_equal(q, &want, &got, forms[f]);
    drop(&got);
  }
  drop(&want);
}


// all shapes for one model and controller; what else may vary goes round
static void check_shapes(int model, rgm_control control) {
  static const int64_t replicas[] = {1, 7}, episodes[] = {1, 13, 16, 33};
  static const int64_t steps[] = {1, 15, 16, 17, 50};
  static const int hidden[] = {20, 8, 33, 24};
  unsigned round = (unsigned)control;
  for (int r = 0; r < COUNT(replicas); r++) {
    for (int k = 0; k < COUNT(episodes); k++) {
      for (int t = 0; t < COUNT(steps); t++) {
        const int64_t K = episodes[k];
        const plan q = {
            .model = model,
            .hidden = hidden[round % COUNT(hidden)],
            .r = replicas[r],
            .p = round % 3 == 0              ? K
                 : round % 3 == 1 && K == 16 ? 4
                                             : 1,
            .k = K,
            .t = steps[t],
            .first = round % 2 == 0 ? 0 : 5,
            .control = control,
            .records = round % 5 == 4   ? 0
                       : round % 5 == 3 ? round % 16
                                        : 15,
            .mask = replicas[r] > 1,
        };
        check(&q);
        round++;
      }
    }
  }
  cr_assert_eq(compared, 40 * OUTPUTS * (is_policy(control) ? COUNT(forms) : 1));
}


Test(cuda_rollout, stochastic_policy) {
  check_shapes(0, RGM_CONTROL_STOCHASTIC);
}
Test(cuda_rollout, deterministic_policy) {
  check_shapes(0, RGM_CONTROL_DETERMINISTIC);
}
Test(cuda_rollout, continuous_policy) {
  check_shapes(0, RGM_CONTROL_CONTINUOUS);
}
Test(cuda_rollout, pid_and_open_loop) {
  check_shapes(0, RGM_CONTROL_PID);
  compared = 0;
  check_shapes(0, RGM_CONTROL_OPEN_LOOP);
}
Test(cuda_rollout, eleveld_stochastic_policy) {
  check_shapes(1, RGM_CONTROL_STOCHASTIC);
}
Test(cuda_rollout, eleveld_deterministic_policy) {
  check_shapes(1, RGM_CONTROL_DETERMINISTIC);
}
Test(cuda_rollout, eleveld_continuous_policy) {
  check_shapes(1, RGM_CONTROL_CONTINUOUS);
}
Test(cuda_rollout, eleveld_pid_and_open_loop) {
  check_shapes(1, RGM_CONTROL_PID);
  compared = 0;
  check_shapes(1, RGM_CONTROL_OPEN_LOOP);
}
Test(cuda_rollout, heparin_stochastic_policy) {
  check_shapes(HEPARIN, RGM_CONTROL_STOCHASTIC);
}
Test(cuda_rollout, heparin_continuous_policy) {
  check_shapes(HEPARIN, RGM_CONTROL_CONTINUOUS);
}
Test(cuda_rollout, heparin_clinician_and_open_loop) {
  check_shapes(HEPARIN, RGM_CONTROL_CLINICIAN);
  compared = 0;
  check_shapes(HEPARIN, RGM_CONTROL_OPEN_LOOP);
}


// more episodes than a block has, in which a group of blocks shares a target and others do not; a
// policy as wide as there can be, which leaves less room for records
Test(cuda_rollout, several_blocks_and_the_widest_policy) {
  for (int model = 0; model < MODELS; model++) {
    const plan large = {.model = model,
                        .hidden = 20,
                        .r = 2,
                        .p = 3,
                        .k = 603,
                        .t = 9,
                        .records = 15,
                        .control = RGM_CONTROL_STOCHASTIC};
    const plan wide = {.model = model,
                       .hidden = model == HEPARIN ? WIDEST / 2 : WIDEST, // 20 inputs
                       .r = 1,
                       .p = 2,
                       .k = 300,
                       .t = 3,
                       .records = 15,
                       .control = RGM_CONTROL_CONTINUOUS};
    check(&large);
    check(&wide);
  }
}


// slots that run episodes again have their bits, the others return 0 and leave their records
static void check_again(const plan *batch, const plan *q) {
  result whole, some;
  run_plan(cpu, batch, &whole);
  run_plan(cpu, q, &some);
  for (int i = 0; i < OUTPUTS; i++) {
    const int64_t words = i == 1 ? 1 : some.count[i] / q->r / q->k;
    for (int64_t j = 0; j < q->r * q->k && i != 1; j++) {
      const int64_t r = j / q->k, k = j % q->k;
      const bool full = !(q->mask && r % 3 == 1) && k < again_count(q, r);
      const int64_t from = r * q->batch + (full ? again_item(q, r, k) : 0);
      for (int64_t w = 0; w < words; w++) {
        const uint32_t got = some.data[i][j * words + w];
        const uint32_t blank = i == 0 && !(q->mask && r % 3 == 1) ? 0 : untouched;
        const uint32_t want = full ? whole.data[i][from * words + w] : blank;
        cr_assert(got == want, "output %d of slot %d of replica %d: %08x, want %08x", i, (int)k,
                  (int)r, got, want);
      }
    }
  }
  drop(&whole);
  drop(&some);
  check(q);
}


Test(cuda_rollout, episodes_run_again_have_their_bits) {
  static const struct {
    int64_t r, p, batch, k;
  } shapes[] = {{1, 1, 40, 1}, {7, 3, 39, 13}, {4, 35, 35, 50}, {7, 1, 16, 16}, {4, 5, 605, 140}};
  for (int i = 0; i < 2 * COUNT(shapes); i++) {
    const int s = i / 2;
    plan batch = {.model = i % 2,
                  .hidden = 20,
                  .r = shapes[s].r,
                  .p = shapes[s].p,
                  .k = shapes[s].batch,
                  .t = s == 4 ? 9 : 37,
                  .first = 5,
                  .control = i % 3 == 2 ? RGM_CONTROL_PID : (rgm_control)(i % 3),
                  .records = i % 4 == 3 ? 0 : 15,
                  .mask = shapes[s].r > 4};
    plan again = batch;
    again.k = shapes[s].k;
    again.batch = batch.k;
    check_again(&batch, &again);
  }
}


// the forms are not the same program: in the short one threads wait for each other at every step
Test(cuda_rollout, takes_the_form_that_is_asked_for) {
  uint64_t (*waits)(void);
  *(void **)&waits = knob("cuda_host_waits");
  const plan few = {
      .hidden = 20, .r = 1, .p = 1, .k = 64, .t = 50, .control = RGM_CONTROL_STOCHASTIC};
  const plan many = {
      .hidden = 20, .r = 7, .p = 1, .k = 4000, .t = 2, .control = RGM_CONTROL_STOCHASTIC};
  uint64_t count[4], start;
  for (int f = 0; f < 4; f++) {
    result out;
    setenv("RGM_CUDA_LOOP", forms[f], 1);
    start = waits();
    run_plan(cuda, &few, &out);
    count[f] = waits() - start;
    drop(&out);
  }
  cr_assert_gt(count[0], 20 * count[1]);
  cr_assert_lt(count[2], count[1]); // half as many threads
  cr_assert_eq(count[3], count[0]); // few episodes: short
  result out;
  start = waits();
  run_plan(cuda, &many, &out);
  drop(&out);
  cr_assert_lt(waits() - start, 7 * 4000 * 4); // many: pairs, five waits for two episodes
}


// ---- training ----------------------------------------------------------------------------------

static void train(const char *backend, const char *model, const char *records, char hex[65]) {
  static const char text[] = "run: {steps: 5, seed: 11, threads: 1, replicas: 3}\n"
                             "env: {name: propofol, steps: 101}\n"
                             "algorithm: {name: cem, episodes: 21, patients: 7, hidden: 24}\n";
  char set[3][64];
  snprintf(set[0], sizeof set[0], "run.backend=%s", backend);
  snprintf(set[1], sizeof set[1], "env.model=%s", model);
  snprintf(set[2], sizeof set[2], "algorithm.records=%s", records);
  const char *sets[] = {set[0], set[1], set[2]};
  rgm_config *config = NULL;
  rgm_run *run = NULL;
  rgm_checkpoint *c = NULL;
  cr_assert_eq(rgm_config_parse("test", text, sets, 3, &config), RGM_OK, "%s", rgm_last_error());
  cr_assert_eq(rgm_run_create(config, &run), RGM_OK, "%s", rgm_last_error());
  cr_assert_eq(run->replicas, 3);
  cr_assert_str_eq(run->stream->backend->name, backend);
  for (int i = 0; i < 5; i++) {
    cr_assert_eq(run->algorithm->step(run), RGM_OK, "%s", rgm_last_error());
    run->step++;
  }
  cr_assert_eq(rgm_sync(run->stream), RGM_OK, "%s", rgm_last_error());
  cr_assert_eq(rgm_run_snapshot(run, &c), RGM_OK, "%s", rgm_last_error());
  rgm_checkpoint_digest(c, hex);
  rgm_checkpoint_free(c);
  rgm_run_free(run);
}


Test(cuda_rollout, cem_trains_to_the_same_digest) {
  for (int model = 0; model < 2; model++) {
    char host[65], device[65];
    train("cpu", models[model].name, "all", host);
    for (int f = 0; f < 2 * COUNT(forms); f++) {
      const char *form = forms[f / 2], *records = f % 2 == 0 ? "all" : "elites";
      setenv("RGM_CUDA_LOOP", form, 1);
      train("cuda", models[model].name, records, device);
      cr_assert_str_eq(device, host, "%s, form \"%s\", records %s", models[model].name, form,
                       records);
    }
  }
}
