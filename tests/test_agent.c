// SPDX-License-Identifier: Apache-2.0
// Tests of an agent's whole update: targets and gradients of critics and actor against central
// differences of the losses in double, through the nets; the same bits for any threads, vector
// width, pack; stopped and resumed; keys that do not fit.

#include "algorithms/agent.h"
#include "engine/regimen.h"
#include "engine/transitions.h"
#include "kernels/rng.h"
#include "tests/cuda_module.h"
#include "tests/dataset_files.h"

TestSuite(agent, .timeout = 300, .init = make_folder, .fini = remove_folder);

enum { STATES = 4, ROWS = 200, BATCH = 5, MOST = 4096 };


// ---- a data set --------------------------------------------------------------------------------

static double draw(uint64_t *state) {
  *state = *state * 6364136223846793005u + 1442695040888963407u;
  return (double)(*state >> 40) * 0x1p-23 - 1.0;
}


static void add(rgm_dataset *d, const char *name, rgm_role role, int period, uint64_t seed,
                int choices) {
  rgm_column *c = rgm_dataset_add(d, name, role, RGM_CELL_F64, "1");
  cr_assert(c != NULL);
  c->choices = choices;
  for (int64_t r = 0; r < ROWS; r++) {
    const double x = draw(&seed);
    rgm_cell_set(c, r,
                 choices > 0              ? floor(0.499 * (x + 1.0) * choices)
                 : period < 0             ? (double)(r / -period)
                 : period > 0             ? (double)(r % period == period - 1)
                 : role == RGM_ROLE_STATE ? 3.0 * x + 1.0
                                          : x);
  }
}


// episodes of 20 rows, each second one terminated; classes or two actions
static const char *write_data(int choices) {
  static char path[256];
  snprintf(path, sizeof path, "%s/data%d.h5", folder, choices);
  rgm_dataset *d = rgm_dataset_new(ROWS);
  add(d, "episode", RGM_ROLE_EPISODE, -20, 1, 0);
  for (int k = 0; k < STATES; k++) {
    char name[16];
    snprintf(name, sizeof name, "s%d", k);
    add(d, name, RGM_ROLE_STATE, 0, 10 + (uint64_t)k, 0);
  }
  add(d, "a0", RGM_ROLE_ACTION, 0, 20, choices);
  if (choices == 0) {
    add(d, "a1", RGM_ROLE_ACTION, 0, 21, 0);
  }
  add(d, "r", RGM_ROLE_REWARD, 0, 30, 0);
  add(d, "terminated", RGM_ROLE_TERMINATED, 40, 0, 0);
  cr_assert_eq(rgm_dataset_write(path, d), RGM_OK, "%s", rgm_last_error());
  rgm_dataset_free(d);
  return path;
}


static rgm_status try_run(const char *algorithm, int choices, const char *more, rgm_run **out) {
  char text[2048];
  snprintf(text, sizeof text,
           "run: {name: a, replicas: 3, threads: 1, backend: cpu, report_every: 1000}\n"
           "data: {path: %s}\n"
           "algorithm: {name: %s, batch: %d, actor_hidden: [9, 7], critic_hidden: [8],\n"
           "  gamma: 0.9, alpha: 0.4, holdout: 0%s%s}\n",
           write_data(choices), algorithm, BATCH, more[0] != '\0' ? ", " : "", more);
  rgm_config *config = NULL;
  cr_assert_eq(rgm_config_parse("test.yaml", text, NULL, 0, &config), RGM_OK, "%s",
               rgm_last_error());
  return rgm_run_create(config, out);
}


static rgm_run *make_run(const char *algorithm, int choices, const char *more) {
  rgm_run *run = NULL;
  cr_assert_eq(try_run(algorithm, choices, more, &run), RGM_OK, "%s", rgm_last_error());
  return run;
}


static void step(rgm_run *run, int count) {
  for (int i = 0; i < count; i++) {
    cr_assert_eq(run->algorithm->step(run), RGM_OK, "%s", rgm_last_error());
    run->step++;
  }
  cr_assert_eq(rgm_sync(run->stream), RGM_OK, "%s", rgm_last_error());
}


// ---- what tensors hold -------------------------------------------------------------------------

static rgm_tensor find(const rgm_run *run, const char *name) {
  for (int i = 0; i < rgm_arena_count(run->arena); i++) {
    const rgm_entry *e = rgm_arena_entry(run->arena, i);
    if (strcmp(e->name, name) == 0) {
      return e->tensor;
    }
  }
  cr_assert_fail("no tensor %s", name);
  return (rgm_tensor){0};
}


// the last slice of a tensor: of the last replica, or of the group, which had it last
static const float *last_of(const rgm_run *run, const char *name) {
  const rgm_tensor t = find(run, name);
  return (const float *)t.data + (t.dims[0] - 1) * t.stride0;
}


// a copy of it in double
static void load(const rgm_run *run, const char *name, double *out, int64_t *count) {
  const rgm_tensor t = find(run, name);
  *count = rgm_elements(t) / t.dims[0];
  cr_assert_leq(*count, MOST);
  for (int64_t i = 0; i < *count; i++) {
    out[i] = (double)last_of(run, name)[i];
  }
}


// ---- the same in double ------------------------------------------------------------------------

typedef struct shape {
  int layers;
  int64_t width[4];
} shape;

static int64_t pad(int64_t n) {
  return (n + 15) / 16 * 16;
}


// outputs of a ReLU net whose parameters lie as in rgm_mlp
static void evaluate(const shape *s, const double *p, const double *x, double *out) {
  double a[64] = {0}, b[64];
  memcpy(a, x, (size_t)s->width[0] * sizeof *a);
  for (int l = 0; l < s->layers; l++) {
    const int64_t in = l == 0 ? s->width[0] : pad(s->width[l]), width = pad(s->width[l + 1]);
    for (int64_t o = 0; o < s->width[l + 1]; o++) {
      double z = p[in * width + o];
      for (int64_t i = 0; i < s->width[l]; i++) {
        z += a[i] * p[i * width + o];
      }
      b[o] = l < s->layers - 1 ? fmax(z, 0.0) : z;
    }
    memcpy(a, b, (size_t)s->width[l + 1] * sizeof *a);
    p += (in + 1) * width;
  }
  memcpy(out, a, (size_t)s->width[s->layers] * sizeof *a);
}


static double log_sum_exp(const double *x, int count) {
  double top = x[0], sum = 0.0;
  for (int i = 1; i < count; i++) {
    top = fmax(top, x[i]);
  }
  for (int i = 0; i < count; i++) {
    sum += exp(x[i] - top);
  }
  return top + log(sum);
}


// Everything that an update of the last replica saw, in double.
typedef struct seen {
  int choices, dims, samples; // K
  bool conservative;
  shape actor, critic;
  double actor_p[MOST], critic_p[2][MOST], target_p[2][MOST]; // at the time that matters
  double obs[BATCH * STATES], next[BATCH * STATES], act[BATCH * 2], reward[BATCH], end[BATCH];
  double y[BATCH], scale[2], shift[2], eps[BATCH * 2], next_eps[BATCH * 2];
  double drawn[3 * BATCH * 4 * 2], log_q[3 * BATCH * 4];
  double gamma, alpha, beta, temperature, huber, low, high;
} seen;


// action and its log-density from a head and eps
static double sample(const seen *s, const double *head, const double *eps, double *act) {
  double log_pi = 0.0;
  for (int d = 0; d < s->dims; d++) {
    const double log_sd = fmin(fmax(head[s->dims + d], s->low), s->high);
    const double u = head[d] + exp(log_sd) * eps[d];
    act[d] = s->scale[d] * tanh(u) + s->shift[d];
    log_pi += -0.5 * eps[d] * eps[d] - log_sd - 0.5 * log(2.0 * acos(-1.0)) -
              log(1.0 - tanh(u) * tanh(u)) - log(s->scale[d]);
  }
  return log_pi;
}


static void value_of(const seen *s, const double *p, const double *obs, const double *act,
                     double *q) {
  double x[STATES + 2];
  memcpy(x, obs, STATES * sizeof *x);
  for (int d = 0; d < s->dims && s->choices == 0; d++) {
    x[STATES + d] = act[d];
  }
  evaluate(&s->critic, p, x, q);
}


// V(s) of two critics and the policy's head
static double soft_value(const seen *s, const double *p0, const double *p1, const double *actor,
                         const double *obs, const double *eps) {
  double head[16], q[2][16], act[2], value = 0.0;
  evaluate(&s->actor, actor, obs, head);
  if (s->choices == 0) {
    const double log_pi = sample(s, head, eps, act);
    value_of(s, p0, obs, act, q[0]);
    value_of(s, p1, obs, act, q[1]);
    return fmin(q[0][0], q[1][0]) - s->alpha * log_pi;
  }
  value_of(s, p0, obs, NULL, q[0]);
  value_of(s, p1, obs, NULL, q[1]);
  for (int a = 0; a < s->choices; a++) {
    const double log_pi = head[a] - log_sum_exp(head, s->choices);
    value += exp(log_pi) * (fmin(q[0][a], q[1][a]) - s->alpha * log_pi);
  }
  return value;
}


static double actor_loss(const seen *s, const double *p) {
  double loss = 0.0;
  for (int b = 0; b < BATCH; b++) {
    loss -= soft_value(s, s->critic_p[0], s->critic_p[1], p, s->obs + b * STATES, s->eps + b * 2) /
            BATCH;
  }
  return loss;
}


static double critic_loss(const seen *s, const double *p) {
  double loss = 0.0;
  for (int b = 0; b < BATCH; b++) {
    const double *obs = s->obs + b * STATES;
    double q[16], pushed[16];
    value_of(s, p, obs, s->act + b * s->dims, q);
    const double own = q[s->choices > 0 ? (int)s->act[b] : 0], e = own - s->y[b];
    loss += s->huber > 0 && fabs(e) > s->huber ? s->huber * (fabs(e) - 0.5 * s->huber) / BATCH
                                               : 0.5 * e * e / BATCH;
    for (int a = 0; a < s->choices; a++) {
      pushed[a] = q[a] / s->temperature;
    }
    for (int k = 0; k < 3 * s->samples && s->choices == 0; k++) {
      const int at = (k / s->samples * BATCH + b) * s->samples + k % s->samples;
      double there[16];
      value_of(s, p, obs, s->drawn + at * s->dims, there);
      pushed[k] = there[0] / s->temperature - s->log_q[at];
    }
    const int count = s->choices > 0 ? s->choices : 3 * s->samples;
    if (s->conservative) {
      loss += s->beta * (s->temperature * log_sum_exp(pushed, count) - own) / BATCH;
    }
  }
  return loss;
}


static void expect_slope(const seen *s, double (*loss)(const seen *, const double *),
                         const double *at, int64_t size, const float *got, const char *what) {
  double p[MOST], most = 0.0, worst = 0.0;
  int moved = 0;
  for (int64_t i = 0; i < size; i++) {
    most = fmax(most, fabs((double)got[i]));
  }
  for (int64_t i = 0; i < size; i += 3) {
    memcpy(p, at, (size_t)size * sizeof *p);
    p[i] = at[i] + 1e-6;
    const double above = loss(s, p);
    p[i] = at[i] - 1e-6;
    const double want = (above - loss(s, p)) / 2e-6;
    worst = fmax(worst, fabs(want - (double)got[i]));
    moved += fabs(want) > 1e-3 * most;
  }
  cr_expect_gt(moved, 12, "%s: only %d slopes are not 0", what, moved);
  cr_expect_lt(worst, 2e-5 * (1.0 + most), "%s: off by %g of %g", what, worst, most);
}


// eps of the last replica's draws of this step
static void load_eps(const rgm_run *run, uint32_t member, double *eps) {
  const rgm_tensor seeds = find(run, "seeds");
  const uint32_t *seed = (const uint32_t *)seeds.data + (seeds.dims[0] - 1) * seeds.stride0;
  const rgm_key key = rgm_stream_key(seed, RGM_RANDOM_ACTION);
  for (uint32_t b = 0; b < BATCH; b++) {
    const rgm_words w = rgm_philox(key, 0, b, 0, member);
    float n0, n1;
    rgm_normals(w.w0, w.w1, &n0, &n1);
    eps[2 * b] = (double)n0;
    eps[2 * b + 1] = (double)n1;
  }
}


static void load_nets(const rgm_run *run, seen *s, bool critics, bool actor) {
  int64_t n;
  for (int k = 0; k < 2; k++) {
    char name[32];
    snprintf(name, sizeof name, "critic/%d", k);
    if (critics) {
      load(run, name, s->critic_p[k], &n);
    }
    snprintf(name, sizeof name, "critic/%d/target", k);
    if (actor) {
      load(run, name, s->target_p[k], &n);
    }
  }
  if (actor) {
    load(run, "actor/0", s->actor_p, &n);
  }
}


static const struct update_case {
  const char *algorithm;
  int choices;
  const char *keys;
  bool stale; // the actor learns from the critics of before
} cases[] = {
    {"sac_offline", 3, "", true},
    {"sac_offline", 0, "huber: 0.3", false},
    {"cql", 3, "beta: 0.7, push_temperature: 0.6", true},
    {"cql", 3, "beta: 2, share_forward: false, backup_entropy: false", false},
    {"cql", 0, "beta: 0.7, push_temperature: 1.7, samples: 4", false},
    {"cql", 0, "beta: 1.5, samples: 3, lagrange: true, log_sd_high: 0.01", false},
};


// what the update of a case saw: the batch, the draws, the hyperparameters
static void load_seen(const rgm_run *run, const struct update_case *c, seen *s) {
  int64_t n;
  load(run, "batch/obs", s->obs, &n);
  load(run, "batch/next", s->next, &n);
  load(run, "batch/act", s->act, &n);
  load(run, "batch/reward", s->reward, &n);
  load(run, "batch/terminated", s->end, &n);
  load(run, "work/y", s->y, &n);
  load_eps(run, 1, s->next_eps);
  load_eps(run, 5, s->eps);
  if (c->choices == 0) {
    load(run, "action/scale", s->scale, &n);
    load(run, "action/shift", s->shift, &n);
  }
  if (s->samples > 0) {
    load(run, "work/sampled_act", s->drawn, &n);
    load(run, "work/log_q", s->log_q, &n);
  }
}


static void check_update(const struct update_case *c) {
  char keys[256];
  snprintf(keys, sizeof keys, "clip: 1e9%s%s", c->keys[0] != '\0' ? ", " : "", c->keys);
  rgm_run *run = make_run(c->algorithm, c->choices, keys);
  static seen s;
  const rgm_agent_keys *k = rgm_algorithm_keys(run, 0);
  const rgm_push_keys *push = (const void *)(k + 1);
  s = (seen){.choices = c->choices, .dims = c->choices > 0 ? 1 : 2};
  s.conservative = strcmp(c->algorithm, "cql") == 0;
  s.samples = s.conservative && c->choices == 0 ? (int)push->samples : 0;
  s.beta = push->beta;
  s.temperature = s.conservative ? push->temperature : 1.0;
  s.gamma = k->gamma;
  s.huber = k->huber;
  s.low = k->log_sd_low;
  s.high = k->log_sd_high;
  s.actor = (shape){3, {STATES, 9, 7, c->choices > 0 ? c->choices : 4}};
  s.critic = (shape){2, {c->choices > 0 ? STATES : STATES + 2, 8, c->choices > 0 ? c->choices : 1}};

  // targets, by the nets of before
  load_nets(run, &s, true, true);
  step(run, 1);
  load_seen(run, c, &s);
  s.alpha = k->backup_entropy ? k->alpha : 0.0;
  for (int b = 0; b < BATCH; b++) {
    const double v = soft_value(&s, s.target_p[0], s.target_p[1], s.actor_p, s.next + b * STATES,
                                s.next_eps + b * 2);
    const double want = s.reward[b] + s.gamma * (1.0 - s.end[b]) * v;
    cr_expect_float_eq(s.y[b], want, 2e-5 * (1.0 + fabs(want)), "%s %d %s: y %d", c->algorithm,
                       c->choices, c->keys, b);
  }

  // the second critic's slope, whose gradient is kept; then the actor's
  char what[300];
  s.alpha = k->alpha;
  snprintf(what, sizeof what, "%s of %d classes, %s: critic", c->algorithm, c->choices, c->keys);
  expect_slope(&s, critic_loss, s.critic_p[1], find(run, "critic/gradient").dims[1],
               last_of(run, "critic/gradient"), what);
  if (!c->stale) {
    load_nets(run, &s, true, false);
  }
  snprintf(what, sizeof what, "%s of %d classes, %s: actor", c->algorithm, c->choices, c->keys);
  expect_slope(&s, actor_loss, s.actor_p, find(run, "actor/gradient").dims[1],
               last_of(run, "actor/gradient"), what);
  rgm_run_free(run);
}


Test(agent, update_goes_down_the_losses) {
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
    check_update(&cases[i]);
  }
}


// the fused update and the one that keeps gradients, which clips nothing, give the same bits
Test(agent, gradients_kept_or_not_are_the_same) {
  for (int choices = 0; choices <= 3; choices += 3) {
    char digest[2][65];
    for (int k = 0; k < 2; k++) {
      rgm_run *run = make_run("cql", choices, k == 0 ? "samples: 3" : "samples: 3, clip: 1e9");
      step(run, 3);
      rgm_checkpoint *c = NULL;
      cr_assert_eq(rgm_run_snapshot(run, &c), RGM_OK);
      rgm_checkpoint_digest(c, digest[k]);
      rgm_checkpoint_free(c);
      rgm_run_free(run);
    }
    cr_expect_str_eq(digest[0], digest[1], "%d classes", choices);
  }
}


// ---- bits --------------------------------------------------------------------------------------

// runs that learn by themselves and from data; updates begin after a few steps
static const struct learner {
  const char *name, *text;
  int choices; // of the data set; -1: there is none
} learners[] = {
    {"sac, pendulum",
     "env: {name: pendulum, steps: 7}\nalgorithm: {name: sac, environments: 3, "
     "start: 2, replay: 19, updates: 2, judged: 3, ",
     -1},
    {"sac, cartpole",
     "env: {name: cartpole, steps: 5}\nalgorithm: {name: sac, start: 3, "
     "replay: 11, judged: 2, clip: 0.5, ",
     -1},
    {"cql, classes", "algorithm: {name: cql, lagrange: true, ", 3},
    {"cql, continuous", "algorithm: {name: cql, samples: 3, decay: cosine, decay_steps: 9, ", 0},
};
enum { LEARNERS = sizeof learners / sizeof *learners, STEPS = 8 };

static rgm_run *make_learner(const struct learner *l, const char *how) {
  char text[2048], data[512] = "";
  if (l->choices >= 0) {
    snprintf(data, sizeof data, "data: {path: %s}\n", write_data(l->choices));
  }
  snprintf(text, sizeof text,
           "run: {name: a, steps: %d, report_every: 3, %s}\n%s%sbatch: 37, actor_hidden: [33], "
           "critic_hidden: [17, 16]}\n",
           STEPS, how, data, l->text);
  rgm_config *config = NULL;
  rgm_run *run = NULL;
  cr_assert_eq(rgm_config_parse("test.yaml", text, NULL, 0, &config), RGM_OK, "%s\n%s",
               rgm_last_error(), text);
  cr_assert_eq(rgm_run_create(config, &run), RGM_OK, "%s: %s", l->name, rgm_last_error());
  return run;
}


static void report(rgm_run *run) {
  if (run->metrics == NULL) {
    cr_assert_eq(rgm_metrics_memory(&run->metrics), RGM_OK);
  }
  cr_assert_eq(run->algorithm->report(run), RGM_OK, "%s", rgm_last_error());
}


// the digest after so many steps, reports among them
static void learn(rgm_run *run, int count, char digest[65]) {
  for (int i = 0; i < count; i++) {
    step(run, 1);
    if (run->step % 3 == 0) {
      report(run);
    }
  }
  rgm_checkpoint *c = NULL, *state = NULL;
  cr_assert_eq(rgm_run_snapshot_pair(run, false, &c, &state), RGM_OK, "%s", rgm_last_error());
  rgm_checkpoint_digest(c, digest);
  rgm_checkpoint_free(c);
  rgm_checkpoint_free(state);
}


Test(agent, bits_are_the_same_for_all_threads_and_vectors) {
  static const char *const how[] = {
      "backend: cpu, replicas: 3, threads: 1", "backend: cpu, replicas: 3, threads: 2",
      "backend: cpu, replicas: 3, threads: 5", "backend: cpu, replicas: 3, threads: 2, isa: avx2",
      "backend: cuda, replicas: 3"};
  setenv("RGM_CUDA_MODULE", cuda_module(), 1);
  for (int l = 0; l < LEARNERS; l++) {
    char first[65] = "", digest[65];
    for (size_t i = 0; i < sizeof how / sizeof *how; i++) {
      rgm_run *run = make_learner(&learners[l], how[i]);
      learn(run, STEPS, i == 0 ? first : digest);
      cr_expect(i == 0 || strcmp(first, digest) == 0, "%s: %s", learners[l].name, how[i]);
      rgm_run_free(run);
    }
  }
}


Test(agent, a_replica_of_a_pack_is_the_run_alone) {
  for (int l = 0; l < LEARNERS; l++) {
    char digest[65];
    rgm_run *pack = make_learner(&learners[l], "backend: cpu, threads: 2, replicas: 5, seed: 3");
    learn(pack, STEPS, digest);
    for (int64_t r = 0; r < 5; r += 2) {
      char how[64];
      snprintf(how, sizeof how, "backend: cpu, threads: 1, seed: %d", (int)(3 + r));
      rgm_run *alone = make_learner(&learners[l], how);
      learn(alone, STEPS, digest);
      for (int i = 0; i < rgm_arena_count(alone->arena); i++) {
        const rgm_entry *a = rgm_arena_entry(alone->arena, i);
        const rgm_entry *p = rgm_arena_entry(pack->arena, i);
        if (a->flags & RGM_STATE) {
          const rgm_tensor one = rgm_slice(p->tensor, r, 1);
          cr_expect_eq(memcmp(a->tensor.data, one.data, rgm_bytes(one)), 0, "%s: %s of replica %d",
                       learners[l].name, a->name, (int)r);
        }
      }
      rgm_run_free(alone);
    }
    rgm_run_free(pack);
  }
}


Test(agent, stopped_and_resumed_is_never_stopped) {
  static const char how[] = "backend: cpu, threads: 2, replicas: 3";
  for (int l = 0; l < LEARNERS; l++) {
    for (int stop = 1; stop < STEPS; stop += 3) {
      char straight[65], digest[65];
      rgm_run *run = make_learner(&learners[l], how);
      learn(run, STEPS, straight);
      rgm_run_free(run);
      run = make_learner(&learners[l], how);
      learn(run, stop, digest);
      rgm_checkpoint *c = NULL, *state = NULL;
      cr_assert_eq(rgm_run_snapshot_pair(run, false, &c, &state), RGM_OK, "%s", rgm_last_error());
      rgm_run_free(run);
      run = make_learner(&learners[l], how);
      cr_assert_eq(rgm_run_restore(run, c, true), RGM_OK, "%s", rgm_last_error());
      if (state != NULL) {
        cr_assert_eq(rgm_run_restore_state(run, state), RGM_OK, "%s", rgm_last_error());
      }
      rgm_checkpoint_free(c);
      rgm_checkpoint_free(state);
      learn(run, STEPS - stop, digest);
      cr_expect_str_eq(straight, digest, "%s stopped at %d", learners[l].name, stop);
      rgm_run_free(run);
    }
  }
}


// ---- keys that do not fit ----------------------------------------------------------------------

Test(agent, wrong_keys_are_refused) {
  static const struct {
    int choices;
    const char *keys, *message;
  } wrong[] = {
      {3, "target_entropy: -3", "the entropy of 3 actions lies between 0 and log 3"},
      {3, "target_entropy: 1.2", "so a policy cannot hold 1.2"},
      {3, "target_entropy: much", "\"much\" is neither auto nor a number of nats"},
      {0, "log_sd_low: 3", "3 is not below log_sd_high, 2"},
      {0, "decay: linear, warmup: 500, decay_steps: 500", "500 updates leave none of 500"},
      {0, "critics: 0", "critics"},
      {0, "tau: 1.5", "tau"},
  };
  for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
    rgm_run *run = NULL;
    cr_expect_eq(try_run("cql", wrong[i].choices, wrong[i].keys, &run), RGM_ECONFIG, "%s",
                 wrong[i].keys);
    cr_expect(strstr(rgm_last_error(), wrong[i].message) != NULL &&
                  strstr(rgm_last_error(), "test.yaml:") != NULL,
              "%s: %s", wrong[i].keys, rgm_last_error());
    rgm_run_free(run);
  }
}
