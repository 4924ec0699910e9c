// SPDX-License-Identifier: Apache-2.0
// How OMG-RL's reward is learned: experts' windows, the trajectories of rollouts, the reward net.
// See omgrl.c for what it goes down, kernels/guided.h for weights and slope.

#include "algorithms/omgrl.h"

#include "kernels/rng.h"

#include <stdlib.h>
#include <string.h>

enum {
  SLOT_GUIDE = RGM_IMAGINED_SLOTS,
  DRAW_NETS = 0x3000,    // members of the draws of first weights
  DRAW_WINDOWS = 0x6000, // of experts' and imagined windows, by turns
  DRAW_EXPERTS = 0x7fff, // of the episodes that teach
};

static const rgm_tensor none;


// ---- experts -----------------------------------------------------------------------------------

// Calls `each` for every training episode: its first row among the training rows, and how many.
static void for_episodes(const rgm_transitions *t, void *arg,
                         void (*each)(void *arg, int64_t begin, int64_t rows)) {
  int64_t begin = 0, rows = 0, episode = -1;
  for (int64_t i = 0; i < t->rows; i++) {
    if (t->split[i] != RGM_TRAIN) {
      continue;
    }
    if (rows > 0 && t->episode[i] != episode) {
      each(arg, begin, rows);
      begin += rows;
      rows = 0;
    }
    episode = t->episode[i];
    rows++;
  }
  if (rows > 0) {
    each(arg, begin, rows);
  }
}


typedef struct tally {
  rgm_omgrl_experts found;
  int64_t steps, longest;
  uint32_t *first, *count; // of each episode that has a window, room for all; or NULL
} tally;

static void add_episode(void *tally_, int64_t begin, int64_t rows) {
  tally *y = tally_;
  y->longest = rows > y->longest ? rows : y->longest;
  if (rows < y->steps) {
    y->found.short_ones++;
    return;
  }
  if (y->first != NULL) {
    y->first[y->found.episodes] = (uint32_t)begin;
    y->count[y->found.episodes] = (uint32_t)(rows - y->steps + 1);
  }
  y->found.episodes++;
  y->found.windows += rows - y->steps + 1;
}


rgm_omgrl_experts rgm_omgrl_count(const rgm_run *run, int64_t steps, int64_t *longest) {
  tally y = {.steps = steps};
  for_episodes(run->transitions, &y, add_episode);
  *longest = y.longest;
  return y.found;
}


int rgm_omgrl_column(const rgm_run *run) {
  const rgm_omgrl_keys *k = rgm_algorithm_keys(run, 0);
  const rgm_transitions *t = run->transitions;
  for (int i = 0; i < t->states; i++) {
    if (strcmp(t->state[i].name, k->aptt) == 0) {
      return i;
    }
  }
  return -1;
}


// The windows of replica r: of all its episodes, or of as many as it asks for, drawn by its seed
// (the first ones of a shuffle). Returns how many windows.
static uint32_t list_windows(const rgm_run *run, const tally *y, int64_t r, uint32_t *order,
                             uint32_t *list) {
  const rgm_omgrl_keys *k = rgm_algorithm_keys(run, r);
  const uint32_t episodes = (uint32_t)y->found.episodes;
  const uint32_t wanted = k->experts > 0 ? (uint32_t)k->experts : episodes;
  const uint64_t seed = (uint64_t)rgm_run_seed(run, r);
  const uint32_t words[2] = {(uint32_t)seed, (uint32_t)(seed >> 32)};
  const rgm_key key = rgm_stream_key(words, RGM_RANDOM_REPLAY);
  uint32_t count = 0;
  for (uint32_t i = 0; i < episodes; i++) {
    order[i] = i;
  }
  for (uint32_t i = 0; i < wanted; i++) {
    const uint32_t other =
        k->experts > 0 ? i + rgm_below(key, 0, i, DRAW_EXPERTS, episodes - i) : i;
    const uint32_t e = order[other];
    order[other] = order[i];
    order[i] = e;
    for (uint32_t w = 0; w < y->count[e]; w++) {
      list[count++] = y->first[e] + w;
    }
  }
  return count;
}


static rgm_status fill_experts(rgm_run *run, const rgm_omgrl *s) {
  const int64_t R = run->replicas, L = s->windows;
  tally y = {.steps = s->steps};
  uint32_t *room = malloc((size_t)(3 * s->episodes + R * L + R) * sizeof *room);
  if (room == NULL) {
    return rgm_fail(RGM_EMEMORY, "no memory for %lld windows of experts", (long long)L);
  }
  uint32_t *order = room + 2 * s->episodes, *list = order + s->episodes, *count = list + R * L;
  y.first = room;
  y.count = room + s->episodes;
  for_episodes(run->transitions, &y, add_episode);
  memset(list, 0, (size_t)(R * L) * sizeof *list);
  for (int64_t r = 0; r < R; r++) {
    count[r] = list_windows(run, &y, r, order, list + r * L);
  }
  rgm_copy(run->stream, s->list.data, list, rgm_bytes(s->list));
  rgm_copy(run->stream, s->list_count.data, count, rgm_bytes(s->list_count));
  const rgm_status status = rgm_sync(run->stream);
  free(room);
  return status;
}


// ---- planning ----------------------------------------------------------------------------------

static rgm_tensor plan_own(rgm_run *run, const char *name, rgm_dtype dtype, unsigned flags,
                           int64_t d1) {
  return rgm_plan(run->arena, name, dtype, flags, d1 > 0 ? "replica, ..." : "replica", "1",
                  run->replicas, d1, 0, 0);
}


// obs, act, log pi, alive, and log of the clone where there is one: time by time within a rollout
static void plan_trajectories(rgm_run *run, rgm_omgrl *s, int64_t rows) {
  static const char *const names[] = {"trajectory/obs", "trajectory/act", "trajectory/log_pi",
                                      "trajectory/alive", "trajectory/log_clone"};
  const int64_t S = s->imagined.agent.problem.obs, D = s->imagined.agent.problem.dims;
  const int64_t width[] = {S, D, 1, 1, 1};
  const unsigned flags = RGM_STATE | RGM_PRIVATE;
  rgm_ring *ring = &s->trajectories;
  ring->columns = s->clones ? 5 : 4;
  for (int k = 0; k < ring->columns; k++) {
    ring->column[k] = rgm_plan(run->arena, names[k], RGM_F32, flags, "replica, row, ...", "1",
                               run->replicas, rows, width[k], 0);
  }
  ring->head = plan_own(run, "trajectory/head", RGM_U32, flags, 0);
  ring->count = plan_own(run, "trajectory/count", RGM_U32, flags, 0);
}


static void plan_owned(rgm_run *run, rgm_omgrl *s, int64_t inputs) {
  const rgm_omgrl_keys *k = rgm_algorithm_keys(run, 0);
  const bool tempered = k->weights == RGM_OMGRL_TEMPERED;
  s->list = rgm_plan(run->arena, "reward/experts", RGM_U32, RGM_BLOCK, "replica, window", "row",
                     run->replicas, s->windows, 0, 0);
  s->list_count = plan_own(run, "reward/experts/count", RGM_U32, RGM_BLOCK, 0);
  s->scale = plan_own(run, "reward/scale", RGM_F32, RGM_STATE | RGM_EXPORTED, 2);
  s->settled = plan_own(run, "reward/settled", RGM_U32, RGM_STATE, 0);
  s->input_mean = plan_own(run, "reward/input/mean", RGM_F32, RGM_STATE | RGM_EXPORTED, inputs);
  s->input_sd = plan_own(run, "reward/input/sd", RGM_F32, RGM_STATE | RGM_EXPORTED, inputs);
  s->decay = plan_own(run, "reward/decay", RGM_F32, RGM_BLOCK, s->reward.net[0].layers);
  s->loss = plan_own(run, "reward/loss", RGM_F32, RGM_BLOCK, 0);
  s->sample = plan_own(run, "reward/sample", RGM_F32, RGM_BLOCK, 0);
  s->clone_loss = plan_own(run, "clone/loss", RGM_F32, RGM_BLOCK, 0);
  s->lr = rgm_plan_hyper(run, "reward_lr", offsetof(rgm_omgrl_keys, reward_lr));
  s->norm = rgm_plan_hyper(run, "reward_norm", offsetof(rgm_omgrl_keys, reward_norm));
  s->limit = rgm_plan_hyper(run, "reward_limit", offsetof(rgm_omgrl_keys, reward_limit));
  s->settle = rgm_plan_hyper(run, "settle", offsetof(rgm_omgrl_keys, settle));
  s->bend = rgm_plan_hyper(
      run, "bend", tempered ? offsetof(rgm_omgrl_keys, kappa) : offsetof(rgm_omgrl_keys, cap));
  s->clone_lr = rgm_plan_hyper(run, "clone_lr", offsetof(rgm_omgrl_keys, clone_lr));
}


// what a group of replicas works with
static void plan_group(rgm_run *run, rgm_omgrl *s, int64_t inputs) {
  const rgm_omgrl_keys *k = rgm_algorithm_keys(run, 0);
  const int64_t G = rgm_group(run->stream, run->replicas), T = s->steps,
                S = s->imagined.agent.problem.obs;
  const int64_t D = s->imagined.agent.problem.dims, M = s->experts + s->samples, N = M * T;
  const int64_t B = k->imagined.agent.batch, b = k->imagined.rollouts, E = s->experts * T;
  const int64_t U = k->weights == RGM_OMGRL_PREFIX ? T : 1, most = B > k->watched ? B : k->watched;
  const int64_t H = s->clones ? s->clone.net[0].width[s->clone.net[0].layers] : 1;
  const struct {
    rgm_tensor *tensor;
    const char *name;
    int64_t d1, d2, d3;
    bool clone;
  } work[] = {
      {&s->obs, "guide/obs", N, S, 0, false},
      {&s->act, "guide/act", N, D, 0, false},
      {&s->log_policy, "guide/log_policy", N, 0, 0, false},
      {&s->x, "guide/x", N, inputs, 0, false},
      {&s->slope, "guide/slope", 1, N, rgm_padded(1), false},
      {&s->total, "guide/total", M, 0, 0, false},
      {&s->weight, "guide/weight", U, M, 0, false},
      {&s->use_x, "use/x", most, inputs, 0, false},
      {&s->seen, "guide/seen", E, S, 0, true},
      {&s->log_clone, "guide/log_clone", N, 0, 0, true},
      {&s->dream_clone, "rollout/log_clone", b, 0, 0, true},
      {&s->train_obs, "clone/obs", B, S, 0, true},
      {&s->train_act, "clone/act", B, D, 0, true},
      {&s->train_log, "clone/log_pi", B, 0, 0, true},
      {&s->train_slope, "clone/slope", 1, B, rgm_padded(H), true},
  };
  for (size_t i = 0; i < sizeof work / sizeof *work; i++) {
    if (!work[i].clone || s->clones) {
      *work[i].tensor = rgm_plan(run->arena, work[i].name, RGM_F32, RGM_SCRATCH,
                                 "in group, row, ...", "1", G, work[i].d1, work[i].d2, work[i].d3);
    }
  }
  s->alive =
      rgm_plan(run->arena, "guide/alive", RGM_F32, RGM_BLOCK, "in group, row", "1", G, N, 0, 0);
  s->items =
      rgm_plan(run->arena, "guide/items", RGM_U32, RGM_SCRATCH, "in group, row", "", G, N, 0, 0);
  s->reward_pass = rgm_plan_pass(run->arena, "pass/reward", G, &s->reward, N, RGM_WAY_BACK);
  s->use_pass = rgm_plan_pass(run->arena, "pass/use", G, &s->reward, most, RGM_NO_WAY_BACK);
  if (s->clones) {
    const rgm_nets *actor = &s->imagined.agent.actor;
    s->policy_pass = rgm_plan_pass(run->arena, "pass/policy", G, actor, E, RGM_NO_WAY_BACK);
    s->expert_pass = rgm_plan_pass(run->arena, "pass/clone", G, &s->clone, E, RGM_NO_WAY_BACK);
    s->dream_pass = rgm_plan_pass(run->arena, "pass/dream", G, &s->clone, b, RGM_NO_WAY_BACK);
    s->train_pass = rgm_plan_pass(run->arena, "pass/train", G, &s->clone, B, RGM_WAY_BACK);
  }
}


void rgm_omgrl_plan_reward(rgm_run *run) {
  rgm_omgrl *s = run->self;
  const rgm_omgrl_keys *k = rgm_algorithm_keys(run, 0);
  const rgm_problem *p = &s->imagined.agent.problem;
  const bool onehot = k->encoding == RGM_OMGRL_ONEHOT;
  const int64_t inputs = p->obs + (onehot ? p->choices : p->dims);
  const unsigned flags = RGM_STATE | RGM_EXPORTED;
  int64_t longest;
  const rgm_omgrl_experts found = rgm_omgrl_count(run, s->steps, &longest);
  s->windows = found.windows;
  s->episodes = found.episodes;
  s->short_ones = found.short_ones;
  s->reward = rgm_plan_nets(run->arena, "reward", run->replicas, 1, inputs, &k->reward_hidden, 1,
                            RGM_RELU, flags, k->reward_norm > 0 ? RGM_WITH_GRADIENT : 0);
  if (s->clones) {
    s->clone = rgm_plan_nets(
        run->arena, "clone", run->replicas, 1, p->obs, &k->imagined.agent.actor_hidden,
        p->choices > 0 ? p->choices : 2 * p->dims, s->imagined.agent.actor.act, flags, 0);
    rgm_omgrl_plan_clone(run);
  }
  plan_owned(run, s, inputs);
  plan_trajectories(run, s, k->reward_retain * k->imagined.rollouts * k->imagined.horizon);
  plan_group(run, s, inputs);
}


// ---- filling -----------------------------------------------------------------------------------

// states standardised as the agent sees them; actions as `encoding` says
static rgm_status fill_inputs(rgm_run *run, const rgm_omgrl *s) {
  const rgm_omgrl_keys *k = rgm_algorithm_keys(run, 0);
  const rgm_problem *p = &s->imagined.agent.problem;
  const int64_t W = s->input_mean.dims[1];
  float *mean = calloc(2 * (size_t)W, sizeof *mean);
  if (mean == NULL) {
    return rgm_fail(RGM_EMEMORY, "no memory for %lld inputs", (long long)W);
  }
  float *sd = mean + W;
  for (int64_t i = 0; i < W; i++) {
    const bool state = i < p->obs;
    float middle = 0.0f, half = 1.0f;
    if (!state && k->encoding == RGM_OMGRL_SCALED) {
      const float low = p->choices > 0 ? 0.0f : p->act_low[i - p->obs];
      const float high = p->choices > 0 ? (float)(p->choices - 1) : p->act_high[i - p->obs];
      middle = 0.5f * (low + high);
      half = high > low ? 0.5f * (high - low) : 1.0f;
    }
    mean[i] = state ? p->mean[i] : middle;
    sd[i] = state ? p->sd[i] : half;
  }
  rgm_status status = rgm_put_rows(run, s->input_mean, mean);
  status = status == RGM_OK ? rgm_put_rows(run, s->input_sd, sd) : status;
  free(mean);
  return status;
}


// each replica's decay of all layers
static rgm_status fill_decay(rgm_run *run, const rgm_omgrl *s) {
  const int64_t R = run->replicas, layers = s->decay.dims[1];
  float *decay = malloc((size_t)(R * layers) * sizeof *decay);
  if (decay == NULL) {
    return rgm_fail(RGM_EMEMORY, "no memory for %lld replicas", (long long)R);
  }
  for (int64_t i = 0; i < R * layers; i++) {
    const rgm_omgrl_keys *k = rgm_algorithm_keys(run, i / layers);
    decay[i] = (float)k->reward_decay;
  }
  rgm_copy(run->stream, s->decay.data, decay, rgm_bytes(s->decay));
  const rgm_status status = rgm_sync(run->stream);
  free(decay);
  return status;
}


rgm_status rgm_omgrl_init_reward(rgm_run *run) {
  const rgm_omgrl *s = run->self;
  static const float unit[] = {0.0f, 1.0f};
  uint32_t member = DRAW_NETS;
  rgm_nets_init(run, &s->reward, 0.0f, &member);
  if (s->clones) {
    rgm_nets_init(run, &s->clone, 0.0f, &member);
    RGM_TRY(rgm_omgrl_init_clone(run));
  }
  RGM_TRY(rgm_put_rows(run, s->scale, unit));
  RGM_TRY(rgm_put_number(run, s->alive, 1.0f));
  RGM_TRY(fill_inputs(run, s));
  RGM_TRY(fill_decay(run, s));
  return fill_experts(run, s);
}


// ---- densities ---------------------------------------------------------------------------------

// the density of actions at a head of n replicas from `first` on
rgm_policy_draw rgm_omgrl_density(const rgm_agent *agent, rgm_tensor head, rgm_tensor act,
                                  rgm_tensor log_pi) {
  return (rgm_policy_draw){
      .act = act,
      .log_pi = log_pi,
      .head = head,
      .scale = agent->own.scale,
      .shift = agent->own.shift,
      .low = agent->own.low,
      .high = agent->own.high,
      .active = agent->own.active,
      .draw = RGM_DRAW_MEAN,
      .choices = agent->problem.choices,
  };
}


// ---- what a rollout leaves ---------------------------------------------------------------------

void rgm_omgrl_dreamt(const rgm_run *run, rgm_stream *stream, const rgm_dreamer *d, int64_t first,
                      uint32_t h) {
  const rgm_omgrl *s = run->self;
  const int64_t n = d->dream.act.dims[0];
  const rgm_ring ring = rgm_slice_ring(&s->trajectories, first, n);
  rgm_tensor rows[] = {d->dream.state[h % 2], d->dream.act, d->dream.log_pi, d->dream.keep, none};
  if (s->clones) {
    rgm_nets clone;
    rgm_slice_nets(&s->clone, first, n, &clone);
    const rgm_pass pass = rgm_slice_pass(s->dream_pass, 0, n);
    rows[4] = rgm_slice(s->dream_clone, 0, n);
    rgm_forward(stream, &clone, false, d->dream.seen, &pass);
    const rgm_policy_draw given =
        rgm_omgrl_density(&d->agent, rgm_of_net(pass.out, 0), d->dream.act, rows[4]);
    rgm_action_score(stream, none, &given);
  }
  rgm_replay_append(stream, &ring, rows, none, d->agent.own.active);
}


// ---- reward steps ------------------------------------------------------------------------------

// r(s, a) of rows in their units: pass->out
static void value_rows(const rgm_run *run, rgm_stream *stream, const rgm_nets *reward,
                       int64_t first, rgm_tensor obs, rgm_tensor act, rgm_tensor x,
                       const rgm_pass *pass) {
  const rgm_omgrl *s = run->self;
  const rgm_omgrl_keys *k = rgm_algorithm_keys(run, 0);
  const int64_t n = x.dims[0];
  rgm_concat(stream, x, obs, act,
             k->encoding == RGM_OMGRL_ONEHOT ? s->imagined.agent.problem.choices : 0);
  rgm_normalise(stream, x, x, rgm_slice(s->input_mean, first, n), rgm_slice(s->input_sd, first, n),
                false);
  rgm_forward(stream, reward, false, x, pass);
}


// trajectories of experts, then of rollouts, for reward step `turn`
static void draw_trajectories(const rgm_run *run, rgm_stream *stream, const rgm_agent *agent,
                              int64_t first, int64_t n, uint32_t turn) {
  const rgm_omgrl *s = run->self;
  const rgm_imagined_keys *k = rgm_algorithm_keys(run, 0);
  const int64_t T = s->steps, E = s->experts * T, N = E + s->samples * T;
  const uint32_t b = (uint32_t)k->rollouts, h = (uint32_t)k->horizon;
  const rgm_tensor items = rgm_slice(s->items, 0, n), obs = rgm_slice(s->obs, 0, n);
  const rgm_tensor act = rgm_slice(s->act, 0, n);
  rgm_ring data = rgm_slice_ring(&s->imagined.data, first, n);
  const rgm_ring dreams = rgm_slice_ring(&s->trajectories, first, n);
  data.columns = 2;
  rgm_windows windows = {
      .items = rgm_rows(items, 0, E),
      .list = rgm_slice(s->list, first, n),
      .count = rgm_slice(s->list_count, first, n),
      .seeds = agent->own.seeds,
      .clock = agent->own.clock,
      .active = agent->own.active,
      .random = RGM_RANDOM_REPLAY,
      .member = DRAW_WINDOWS + 2 * turn,
      .per = 1,
      .block = 1,
      .span = 1,
      .stride = 1,
      .steps = T,
  };
  rgm_gather gather = {
      .row = {rgm_rows(obs, 0, E), rgm_rows(act, 0, E)},
      .items = windows.items,
      .from = &data,
      .active = agent->own.active,
      .given = true,
  };
  rgm_draw_windows(stream, &windows);
  rgm_replay_gather(stream, &gather);

  // b trajectories stand side by side, step after step
  windows.items = gather.items = rgm_rows(items, E, N - E);
  windows.list = none;
  windows.count = dreams.count;
  windows.member++;
  if (T > 1) {
    windows.per = h;
    windows.block = windows.stride = b;
    windows.span = b * h;
  }
  gather.from = &dreams;
  gather.row[0] = rgm_rows(obs, E, N - E);
  gather.row[1] = rgm_rows(act, E, N - E);
  gather.row[2] = rgm_rows(rgm_slice(s->log_policy, 0, n), E, N - E);
  gather.row[3] = rgm_rows(rgm_slice(s->alive, 0, n), E, N - E);
  if (s->clones) {
    gather.row[4] = rgm_rows(rgm_slice(s->log_clone, 0, n), E, N - E);
  }
  rgm_draw_windows(stream, &windows);
  rgm_replay_gather(stream, &gather);
}


// the densities that policy and clone give experts' actions
static void score_experts(const rgm_run *run, rgm_stream *stream, const rgm_agent *agent,
                          const rgm_nets *clone) {
  const rgm_omgrl *s = run->self;
  const int64_t E = s->experts * s->steps, n = agent->own.active.dims[0];
  const rgm_pass policy_pass = rgm_slice_pass(s->policy_pass, 0, n);
  const rgm_pass clone_pass = rgm_slice_pass(s->expert_pass, 0, n);
  const rgm_tensor obs = rgm_rows(rgm_slice(s->obs, 0, n), 0, E);
  const rgm_tensor act = rgm_rows(rgm_slice(s->act, 0, n), 0, E);
  const rgm_tensor seen = rgm_slice(s->seen, 0, n);
  rgm_normalise(stream, seen, obs, agent->own.mean, agent->own.sd, false);
  rgm_forward(stream, &agent->actor, false, seen, &policy_pass);
  const rgm_policy_draw policy = rgm_omgrl_density(agent, rgm_of_net(policy_pass.out, 0), act,
                                                   rgm_rows(rgm_slice(s->log_policy, 0, n), 0, E));
  rgm_action_score(stream, none, &policy);
  rgm_forward(stream, clone, false, seen, &clone_pass);
  const rgm_policy_draw cloned = rgm_omgrl_density(agent, rgm_of_net(clone_pass.out, 0), act,
                                                   rgm_rows(rgm_slice(s->log_clone, 0, n), 0, E));
  rgm_action_score(stream, none, &cloned);
}


static void guide_once(const rgm_run *run, rgm_stream *stream, const rgm_agent *agent,
                       const rgm_nets *reward, const rgm_nets *clone, int64_t first,
                       uint32_t turn) {
  static const rgm_weighing weighings[] = {RGM_WEIGH_TRAJECTORY, RGM_WEIGH_PREFIX,
                                           RGM_WEIGH_TRAJECTORY, RGM_WEIGH_TRUNCATED,
                                           RGM_WEIGH_TEMPERED};
  const rgm_omgrl *s = run->self;
  const rgm_omgrl_keys *k = rgm_algorithm_keys(run, 0);
  const int64_t n = agent->own.active.dims[0];
  const rgm_pass pass = rgm_slice_pass(s->reward_pass, 0, n);
  const rgm_tensor x = rgm_slice(s->x, 0, n), slope = rgm_slice(s->slope, 0, n);
  draw_trajectories(run, stream, agent, first, n, turn);
  if (s->clones) {
    score_experts(run, stream, agent, clone);
  }
  value_rows(run, stream, reward, first, rgm_slice(s->obs, 0, n), rgm_slice(s->act, 0, n), x,
             &pass);
  if (k->standardise) {
    const int64_t rows = s->experts * s->steps;
    rgm_settle(stream, rgm_slice(s->scale, first, n), rgm_slice(s->settled, first, n),
               rgm_of_net(pass.out, 0), rgm_slice(s->settle, first, n), agent->own.active,
               rows < RGM_GUIDE_MOST ? rows : RGM_GUIDE_MOST);
  }
  const rgm_guide guide = {
      .slope = rgm_of_net(slope, 0),
      .loss = rgm_slice(s->loss, first, n),
      .sample = rgm_slice(s->sample, first, n),
      .total = rgm_slice(s->total, 0, n),
      .weight = rgm_slice(s->weight, 0, n),
      .reward = rgm_of_net(pass.out, 0),
      .log_policy = rgm_slice(s->log_policy, 0, n),
      .log_clone = rgm_slice_optional(s->log_clone, 0, n),
      .alive = rgm_slice(s->alive, 0, n),
      .bend = rgm_slice(s->bend, first, n),
      .active = agent->own.active,
      .steps = s->steps,
      .experts = s->experts,
      .weighing = weighings[k->weights],
      .proposal = (rgm_proposal)k->proposal,
  };
  rgm_guide_reward(stream, &guide);
  const rgm_descent step = {
      .lr = rgm_slice(s->lr, first, n),
      .beta1 = agent->own.beta1,
      .beta2 = agent->own.beta2,
      .eps = agent->own.eps,
      .decay = rgm_slice(s->decay, first, n),
      .clip = k->reward_norm > 0 ? rgm_slice(s->norm, first, n) : none,
      .active = agent->own.active,
  };
  rgm_backward(stream, reward, x, &pass, slope, none, &step);
}


void rgm_omgrl_guide(void *run_, rgm_stream *stream) {
  const rgm_run *run = run_;
  const rgm_omgrl *s = run->self;
  const rgm_omgrl_keys *k = rgm_algorithm_keys(run, 0);
  const int64_t R = run->replicas, G = s->x.dims[0];
  for (int64_t first = 0; first < R; first += G) {
    const int64_t n = R - first < G ? R - first : G;
    rgm_agent agent;
    rgm_slice_agent(&s->imagined.agent, first, n, &agent);
    rgm_nets reward;
    rgm_slice_nets(&s->reward, first, n, &reward);
    rgm_nets clone;
    rgm_slice_nets(&s->clone, first, n, &clone);
    for (int64_t turn = 0; turn < k->reward_steps; turn++) {
      guide_once(run, stream, &agent, &reward, &clone, first, (uint32_t)turn);
    }
  }
}


void rgm_omgrl_rolled(rgm_run *run) {
  rgm_graph(run->stream, SLOT_GUIDE, rgm_omgrl_guide, run);
}


// ---- rewards at use ----------------------------------------------------------------------------

void rgm_omgrl_value(const rgm_run *run, rgm_stream *stream, int64_t first, int64_t n,
                     rgm_tensor obs, rgm_tensor act, rgm_tensor reward) {
  const rgm_omgrl *s = run->self;
  const int64_t rows = obs.dims[1];
  const rgm_pass pass = rgm_pass_rows(rgm_slice_pass(s->use_pass, 0, n), rows);
  rgm_nets net;
  rgm_slice_nets(&s->reward, first, n, &net);
  value_rows(run, stream, &net, first, obs, act, rgm_rows(rgm_slice(s->use_x, 0, n), 0, rows),
             &pass);
  rgm_worth(stream, reward, rgm_of_net(pass.out, 0), rgm_slice(s->scale, first, n),
            rgm_slice(s->limit, first, n));
}


void rgm_omgrl_relabel(const rgm_run *run, rgm_stream *stream, int64_t first, int64_t n,
                       const rgm_batch *batch) {
  const rgm_omgrl *s = run->self;
  const rgm_omgrl_keys *k = rgm_algorithm_keys(run, 0);
  if (s->learns) {
    rgm_omgrl_value(run, stream, first, n, batch->obs, batch->act, batch->reward);
  } else {
    rgm_band(stream, batch->reward, batch->next, s->aptt, (float)k->band.value[0],
             (float)k->band.value[1]);
  }
}
