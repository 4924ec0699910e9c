// SPDX-License-Identifier: Apache-2.0
// How sure are values and actions of a problem that was counted? The bootstrap (Efron 1979) a row
// at a time: what was seen of a state and action is drawn again with replacement as often as it was
// seen, and each of the B problems that come out is solved by modified policy iteration. A step is
// a group of draws, one for each thread, all in its caches; the state goes on from any step.

#include "algorithms/dp.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

typedef struct bootstrap_keys {
  double gamma, tolerance, tie, level;
  int64_t draws, sweeps, count, group;
} bootstrap_keys;

#define KEY(member) offsetof(bootstrap_keys, member)

static const rgm_field fields[] = {
    {"gamma", RGM_FLOAT, KEY(gamma), "1", "0.99", 0, 0.999999999, NULL, 0, "Discount of a step."},
    {"draws", RGM_INT, KEY(draws), "1", "1000", 2, 1e6, NULL, RGM_SHAPE,
     "Problems that are drawn and solved, B."},
    {"tolerance", RGM_FLOAT, KEY(tolerance), "1", "1e-9", 1e-13, 1, NULL, 0,
     "How near the values of each are to its truth."},
    {"tie", RGM_FLOAT, KEY(tie), "1", "1e-12", 0, 1e9, NULL, 0,
     "An action is changed for a gain of more than this."},
    {"sweeps", RGM_INT, KEY(sweeps), "1", "20", 0, 1e6, NULL, RGM_SHAPE,
     "Sweeps of evaluation after an improvement."},
    {"level", RGM_FLOAT, KEY(level), "1", "0.95", 0.01, 0.9999, NULL, 0,
     "Of the intervals of values: quantiles over the draws."},
    {"count", RGM_INT, KEY(count), "1", "0", 0, 1e9, NULL, RGM_SHAPE,
     "How often each pair of state and action counts as seen, where the problem comes without "
     "counts."},
    {"group", RGM_INT, KEY(group), "1", "0", 0, 4096, NULL, RGM_SHAPE | RGM_PROVENANCE,
     "Draws solved side by side, 0: one for each thread; changes memory, not bits."},
    {0},
};

typedef struct bootstrap {
  dp_tensors t;
  rgm_tensor value;               // (B, S) f64
  rgm_tensor action;              // (B, S) i32
  rgm_tensor p, reward;           // (G, ...) f64: the problems being solved
  rgm_tensor bounds;              // (G, 2) f64
  rgm_tensor rounds;              // (B) u32
  rgm_tensor gamma, tie, stop;    // (1) f64, of all
  rgm_tensor draw;                // (B) u32: 0, 1, ...
  rgm_tensor live;                // (1) u32: 1
  rgm_tensor count, size;         // of rows, of lanes
  rgm_tensor gain, chance, alias; // of entries
} bootstrap;


static rgm_status bootstrap_check(const rgm_run *run) {
  if (run->replicas > 1) {
    return rgm_fail(RGM_ECONFIG, "%s: run.replicas: a bootstrap has draws, not replicas",
                    rgm_config_where(run->config, "run.replicas"));
  }
  return RGM_OK;
}


// a constant of all draws
static rgm_tensor plan_constant(rgm_run *run, const char *name, rgm_dtype dtype, int64_t size) {
  rgm_tensor t = rgm_plan(run->arena, name, dtype, RGM_BLOCK, "one, element", "1", 1, size, 0, 0);
  t.stride0 = 0;
  return t;
}


// what is known of each draw: in checkpoints of the one replica, to kernels an axis of its own
static rgm_tensor plan_draws(rgm_run *run, const char *name, rgm_dtype dtype, const char *unit,
                             int64_t draws, int64_t each) {
  const rgm_tensor t =
      rgm_plan(run->arena, name, dtype, RGM_STATE, "replica, draw, state", unit, 1, draws, each, 0);
  return rgm_view(t.data, dtype, draws, each, 0, 0);
}


static rgm_status bootstrap_plan(rgm_run *run) {
  bootstrap *s = run->self;
  const bootstrap_keys *k = rgm_algorithm_keys(run, 0);
  rgm_arena *arena = run->arena;
  if (run->mdp->count == NULL && k->count == 0) {
    return rgm_fail(RGM_ECONFIG,
                    "%s: algorithm.count: the problem comes without counts; say how often each "
                    "pair was seen, or import it from trajectories",
                    rgm_config_where(run->config, "algorithm.count"));
  }
  const int64_t group = k->group > 0 ? k->group : rgm_group(run->stream, k->draws);
  const int64_t B = k->draws, S = run->mdp->states, G = group < B ? group : B;
  RGM_TRY(dp_plan_rows(run, run->mdp, false, G, &s->t));
  const int64_t E = s->t.rows.p.dims[1], N = s->t.rows.reward.dims[1], L = s->t.rows.lane.dims[1];
  s->value = plan_draws(run, "value", RGM_F64, "reward", B, S);
  s->action = plan_draws(run, "action", RGM_I32, "", B, S);
  s->rounds = plan_draws(run, "rounds", RGM_U32, "sweeps", B, 1);
  s->draw = rgm_plan(arena, "draw", RGM_U32, RGM_BLOCK, "draw", "", B, 0, 0, 0);
  s->p = rgm_plan(arena, "work/p", RGM_F64, RGM_SCRATCH, "in group, entry", "1", G, E, 0, 0);
  s->reward =
      rgm_plan(arena, "work/reward", RGM_F64, RGM_SCRATCH, "in group, row", "reward", G, N, 0, 0);
  s->bounds =
      rgm_plan(arena, "work/change", RGM_F64, RGM_SCRATCH, "in group, side", "reward", G, 2, 0, 0);
  s->gamma = rgm_plan(arena, "hyper/gamma", RGM_F64, RGM_BLOCK, "in group", "1", G, 0, 0, 0);
  s->tie = rgm_plan(arena, "hyper/tie", RGM_F64, RGM_BLOCK, "in group", "reward", G, 0, 0, 0);
  s->stop = rgm_plan(arena, "hyper/stop", RGM_F64, RGM_BLOCK, "in group", "reward", G, 0, 0, 0);
  s->live = rgm_plan(arena, "live", RGM_U32, RGM_BLOCK, "in group", "", G, 0, 0, 0);
  s->count = plan_constant(run, "counted/count", RGM_U32, N);
  s->size = plan_constant(run, "counted/size", RGM_U32, L);
  s->gain = plan_constant(run, "counted/gain", RGM_F64, E);
  s->chance = plan_constant(run, "counted/chance", RGM_U32, E);
  s->alias = plan_constant(run, "counted/alias", RGM_U32, E);
  return RGM_OK;
}


// ---- alias tables ------------------------------------------------------------------------------

// Host copies of the tables, in the order of the layout's entries.
typedef struct tables {
  uint32_t *count, *size, *chance, *alias;
  double *gain;
} tables;


// the tables of one lane: `row` of the problem, its first entry at `at`
static void tabulate_row(const rgm_mdp *m, int64_t row, size_t at, double *part, uint32_t *alias,
                         const tables *t) {
  const int64_t begin = m->start[row], size = m->start[row + 1] - begin;
  for (int64_t k = 0; k < size; k++) {
    part[k] = m->p[begin + k];
    t->gain[at + RGM_SLICE * (size_t)k] = m->gain[begin + k];
  }
  rgm_mdp_alias_table(part, size, part, alias);
  for (int64_t k = 0; k < size; k++) {
    t->chance[at + RGM_SLICE * (size_t)k] =
        part[k] >= 1.0 ? UINT32_MAX : (uint32_t)(part[k] * 0x1p32);
    t->alias[at + RGM_SLICE * (size_t)k] = alias[k];
  }
}


static rgm_status fill_tables(const rgm_mdp *m, const rgm_mdp_layout *l, int64_t each,
                              const tables *t) {
  int64_t longest = 1;
  for (int64_t n = 0; n < m->rows; n++) {
    const int64_t size = m->start[n + 1] - m->start[n];
    longest = size > longest ? size : longest;
  }
  double *part = malloc((size_t)longest * sizeof *part);
  uint32_t *alias = malloc((size_t)longest * sizeof *alias);
  const rgm_mdp_rows *rows = &l->rows;
  bool ok = part != NULL && alias != NULL;
  for (int64_t b = 0; b < rows->block.dims[0] - 1 && ok; b++) {
    const int64_t first = rgm_at_u32(rows->first, 0, rgm_at_u32(rows->block, 0, b));
    for (int64_t n = rgm_at_u32(rows->slice, 0, b); n < rgm_at_u32(rows->slice, 0, b + 1); n++) {
      for (int i = 0; i < RGM_SLICE; i++) {
        const int32_t lane = rgm_at_i32(rows->lane, 0, RGM_SLICE * n + i);
        if (lane == RGM_MDP_LANE) {
          continue;
        }
        const int64_t row = l->row[first + lane];
        uint64_t seen = (uint64_t)each;
        for (int64_t e = m->start[row]; e < m->start[row + 1] && m->count != NULL; e++) {
          seen = (e == m->start[row] ? 0 : seen) + m->count[e];
        }
        t->count[first + lane] = seen < UINT32_MAX ? (uint32_t)seen : UINT32_MAX;
        t->size[RGM_SLICE * n + i] = (uint32_t)(m->start[row + 1] - m->start[row]);
        tabulate_row(m, row, RGM_SLICE * (size_t)rgm_at_u32(rows->start, 0, n) + (size_t)i, part,
                     alias, t);
      }
    }
  }
  free(part);
  free(alias);
  return ok ? RGM_OK
            : rgm_fail(RGM_EMEMORY, "no memory for tables of %lld rows", (long long)m->rows);
}


static rgm_status upload_tables(rgm_run *run, bootstrap *s, int64_t each) {
  const size_t E = (size_t)s->gain.dims[1], N = (size_t)s->count.dims[1];
  const size_t L = (size_t)s->size.dims[1];
  const tables t = {calloc(N, 4), calloc(L, 4), calloc(E, 4), calloc(E, 4), calloc(E, 8)};
  rgm_status status =
      t.count != NULL && t.size != NULL && t.chance != NULL && t.alias != NULL && t.gain != NULL
          ? fill_tables(run->mdp, &s->t.layout, each, &t)
          : rgm_fail(RGM_EMEMORY, "no memory for tables of %lld entries", (long long)E);
  if (status == RGM_OK) {
    rgm_copy(run->stream, s->count.data, t.count, N * 4);
    rgm_copy(run->stream, s->size.data, t.size, L * 4);
    rgm_copy(run->stream, s->chance.data, t.chance, E * 4);
    rgm_copy(run->stream, s->alias.data, t.alias, E * 4);
    rgm_copy(run->stream, s->gain.data, t.gain, E * 8);
    status = rgm_sync(run->stream);
  }
  free(t.count);
  free(t.size);
  free(t.chance);
  free(t.alias);
  free(t.gain);
  return status;
}


// every draw starts from the solution of the problem itself, which is near
static rgm_status start_near(rgm_run *run, const bootstrap *s, const bootstrap_keys *k) {
  const size_t S = (size_t)run->mdp->states;
  double *value = calloc(S, sizeof *value);
  int32_t *action = malloc(S * sizeof *action);
  rgm_status status = value != NULL && action != NULL
                          ? RGM_OK
                          : rgm_fail(RGM_EMEMORY, "no memory for %zu states", S);
  if (status == RGM_OK) {
    memset(action, 0xFF, S * sizeof *action);
    const double stop = k->tolerance * (1.0 - k->gamma);
    while (dp_gauss_seidel(run->mdp, k->gamma, k->tie, value, action) > stop) {
    }
  }
  for (int64_t b = 0; b < k->draws && status == RGM_OK; b++) {
    rgm_copy(run->stream, (double *)s->value.data + b * (int64_t)S, value, S * sizeof *value);
    rgm_copy(run->stream, (int32_t *)s->action.data + b * (int64_t)S, action, S * sizeof *action);
  }
  const rgm_status sync = rgm_sync(run->stream);
  free(value);
  free(action);
  return status == RGM_OK ? sync : status;
}


static rgm_status bootstrap_init(rgm_run *run) {
  bootstrap *s = run->self;
  const bootstrap_keys *k = rgm_algorithm_keys(run, 0);
  const size_t B = (size_t)k->draws, G = (size_t)s->gamma.dims[0];
  RGM_TRY(upload_tables(run, s, k->count));
  RGM_TRY(start_near(run, s, k));
  RGM_TRY(dp_upload(run, &s->t));
  uint32_t *word = malloc(B * sizeof *word);
  double *number = malloc(3 * G * sizeof *number);
  rgm_status status = word != NULL && number != NULL
                          ? RGM_OK
                          : rgm_fail(RGM_EMEMORY, "no memory for %lld draws", (long long)B);
  for (size_t i = 0; i < B && status == RGM_OK; i++) {
    word[i] = (uint32_t)i;
  }
  for (size_t g = 0; g < G && status == RGM_OK; g++) {
    number[g] = k->gamma;
    number[G + g] = k->tie;
    number[2 * G + g] = k->gamma > 0.0 ? k->tolerance * (1.0 - k->gamma) / k->gamma : 1.0;
  }
  if (status == RGM_OK) {
    rgm_copy(run->stream, s->draw.data, word, B * sizeof *word);
    rgm_copy(run->stream, s->gamma.data, number, G * sizeof *number);
    rgm_copy(run->stream, s->tie.data, number + G, G * sizeof *number);
    rgm_copy(run->stream, s->stop.data, number + 2 * G, G * sizeof *number);
    status = rgm_sync(run->stream);
    for (size_t g = 0; g < G; g++) {
      word[g % B] = 1;
    }
    rgm_copy(run->stream, s->live.data, word, G * sizeof *word);
    const rgm_status sync = rgm_sync(run->stream);
    status = status == RGM_OK ? sync : status;
  }
  free(word);
  free(number);
  return status;
}


// ---- steps -------------------------------------------------------------------------------------

static rgm_tensor broadcast(rgm_tensor t, int64_t count) {
  t.dims[0] = count;
  t.stride0 = 0;
  return t;
}


// Draws `first` ... of a group: drawn, then solved from where they are.
static void enqueue(rgm_run *run, int64_t first, int64_t n) {
  const bootstrap *s = run->self;
  const bootstrap_keys *k = rgm_algorithm_keys(run, 0);
  rgm_mdp_rows rows = s->t.rows, chosen = s->t.chosen;
  const rgm_mdp_draw draw = {
      .p = rgm_slice(s->p, 0, n),
      .reward = rgm_slice(s->reward, 0, n),
      .count = rgm_view(s->count.data, RGM_U32, s->count.dims[1], 0, 0, 0),
      .gain = s->gain,
      .chance = s->chance,
      .alias = s->alias,
      .size = s->size,
      .seeds = broadcast(run->seeds, n),
      .clock = rgm_slice(s->draw, first, n),
      .active = rgm_slice(s->live, 0, n),
      .rows = rows,
  };
  rgm_mdp_bootstrap(run->stream, &draw);
  rows.p = draw.p;
  rows.reward = draw.reward;
  chosen.length = rgm_slice(chosen.length, 0, n);
  chosen.lane = rgm_slice(chosen.lane, 0, n);
  chosen.p = rgm_slice(chosen.p, 0, n);
  chosen.next = rgm_slice(chosen.next, 0, n);
  chosen.reward = rgm_slice(chosen.reward, 0, n);
  const rgm_mdp_solve solve = {
      .value = rgm_slice(s->value, first, n),
      .action = rgm_slice(s->action, first, n),
      .bounds = rgm_slice(s->bounds, 0, n),
      .rounds = rgm_slice(s->rounds, first, n),
      .gamma = rgm_slice(s->gamma, 0, n),
      .tie = rgm_slice(s->tie, 0, n),
      .stop = rgm_slice(s->stop, 0, n),
      .active = draw.active,
      .rows = rows,
      .chosen = chosen,
      .sweeps = (uint32_t)k->sweeps,
      .most = 100000,
  };
  rgm_mdp_solve_small(run->stream, &solve);
}


// a step: the next group; after the last one there is nothing left to do
static rgm_status bootstrap_step(rgm_run *run) {
  const bootstrap_keys *k = rgm_algorithm_keys(run, 0);
  const bootstrap *s = run->self;
  const int64_t steps = run->keys.steps > 0 ? run->keys.steps : 1;
  const int64_t first = k->draws * (int64_t)run->step / steps;
  const int64_t last = k->draws * ((int64_t)run->step + 1) / steps;
  for (int64_t at = first; at < last; at += s->p.dims[0]) {
    enqueue(run, at, last - at < s->p.dims[0] ? last - at : s->p.dims[0]);
  }
  rgm_advance(run->stream, run->clock, run->active);
  return RGM_OK;
}


// ---- what came out -----------------------------------------------------------------------------

static double start_value(const rgm_mdp *m, const double *value) {
  double sum = 0.0;
  for (int64_t s = 0; s < m->states; s++) {
    sum = fma(m->begin != NULL ? m->begin[s] : 1.0 / (double)m->states, value[s], sum);
  }
  return sum;
}


static rgm_status bootstrap_report(rgm_run *run) {
  const bootstrap *s = run->self;
  const bootstrap_keys *k = rgm_algorithm_keys(run, 0);
  const int64_t S = run->mdp->states;
  const int64_t done = k->draws * (int64_t)run->step / (run->keys.steps > 0 ? run->keys.steps : 1);
  double *value = malloc((size_t)(k->draws * S) * sizeof *value), sum = 0.0;
  if (value == NULL) {
    return rgm_fail(RGM_EMEMORY, "no memory for %lld draws", (long long)k->draws);
  }
  const rgm_status status = rgm_read_back(run, s->value, value);
  for (int64_t b = 0; b < done; b++) {
    sum += start_value(run->mdp, value + b * S);
  }
  free(value);
  RGM_TRY(status);
  const float mean = done > 0 ? (float)(sum / (double)done) : NAN, count = (float)done;
  RGM_TRY(rgm_report(run, "value_mean", "reward", &mean));
  return rgm_report(run, "draws", "1", &count);
}


// how often the most frequent action of a state is the best one, and which one it is
static double commonest(const bootstrap_keys *k, const int32_t *action, int64_t S, int64_t s,
                        int32_t *which, int64_t *seen, int64_t most) {
  memset(seen, 0, (size_t)most * sizeof *seen);
  for (int64_t b = 0; b < k->draws; b++) {
    const int32_t a = action[b * S + s];
    seen[a > 0 ? a : 0]++;
  }
  *which = 0;
  for (int32_t a = 1; a < most; a++) {
    *which = seen[a] > seen[*which] ? a : *which;
  }
  return (double)seen[*which] / (double)k->draws;
}


enum { LISTED = 16 };

static void print_state(const rgm_mdp *m, int64_t s, double share, int32_t which, rgm_summary v,
                        const double *side, rgm_json *json, FILE *text) {
  int64_t action = -1;
  for (int64_t n = m->first[s], left = which; n < m->first[s + 1] && action < 0; n++) {
    action = m->allowed[n] != 0 && left-- == 0 ? m->action[n] : -1;
  }
  rgm_json_open(json, NULL, '{');
  rgm_json_number(json, "mean", v.mean);
  rgm_json_number(json, "low", side[0]);
  rgm_json_number(json, "high", side[1]);
  rgm_json_number(json, "action", (double)action);
  rgm_json_number(json, "share", share);
  rgm_json_close(json, '}');
  if (text != NULL && s < LISTED) {
    fprintf(text, "  %-6lld %9.6f (%9.6f to %9.6f)   action %4lld in %5.1f %% of the draws\n",
            (long long)s, v.mean, side[0], side[1], (long long)action, 100.0 * share);
  }
}


static rgm_status bootstrap_print(rgm_run *run, rgm_json *json, FILE *text) {
  const bootstrap *s = run->self;
  const bootstrap_keys *k = rgm_algorithm_keys(run, 0);
  const rgm_mdp *m = run->mdp;
  const int64_t B = k->draws, S = m->states;
  const double tail = 0.5 * (1.0 - k->level);
  double *value = malloc((size_t)(B * S) * sizeof *value), *x = malloc((size_t)B * sizeof *x);
  int32_t *action = malloc((size_t)(B * S) * sizeof *action);
  int64_t *seen = malloc(RGM_BLOCK_ROWS * sizeof *seen);
  rgm_status status = value != NULL && x != NULL && action != NULL && seen != NULL
                          ? rgm_read_back(run, s->value, value)
                          : rgm_fail(RGM_EMEMORY, "no memory for %lld draws", (long long)B);
  status = status == RGM_OK ? rgm_read_back(run, s->action, action) : status;
  if (status == RGM_OK) {
    for (int64_t b = 0; b < B; b++) {
      x[b] = start_value(m, value + b * S);
    }
    const rgm_summary all = rgm_summarise(x, B);
    const double side[2] = {rgm_quantile_sorted(x, B, tail), rgm_quantile_sorted(x, B, 1 - tail)};
    rgm_json_open(json, NULL, '{');
    rgm_json_number(json, "draws", (double)B);
    rgm_json_number(json, "mean", all.mean);
    rgm_json_number(json, "sd", all.sd);
    rgm_json_number(json, "low", side[0]);
    rgm_json_number(json, "high", side[1]);
    rgm_json_open(json, "states", '[');
    if (text != NULL) {
      fprintf(text, "%lld draws of %lld states: value %.6f, %g %% between %.6f and %.6f\n",
              (long long)B, (long long)S, all.mean, 100.0 * k->level, side[0], side[1]);
      fprintf(text, "The draws know as little of actions never seen as the problem itself.\n");
    }
    int64_t sure = 0;
    for (int64_t i = 0; i < S; i++) {
      int32_t which;
      int64_t most = 0;
      for (int64_t n = m->first[i]; n < m->first[i + 1]; n++) {
        most += m->allowed[n] != 0;
      }
      const double share = commonest(k, action, S, i, &which, seen, most > 0 ? most : 1);
      for (int64_t b = 0; b < B; b++) {
        x[b] = value[b * S + i];
      }
      const rgm_summary v = rgm_summarise(x, B);
      const double own[2] = {rgm_quantile_sorted(x, B, tail), rgm_quantile_sorted(x, B, 1 - tail)};
      sure += share >= k->level;
      print_state(m, i, share, which, v, own, json, text);
    }
    rgm_json_close(json, ']');
    rgm_json_number(json, "sure_actions", (double)sure);
    rgm_json_close(json, '}');
    if (text != NULL) {
      fprintf(text, "one action is best in %g %% of the draws or more: %lld of %lld states\n",
              100.0 * k->level, (long long)sure, (long long)S);
    }
  }
  free(value);
  free(x);
  free(action);
  free(seen);
  return status;
}


static void bootstrap_release(rgm_run *run) {
  bootstrap *s = run->self;
  dp_release(&s->t);
}


const rgm_algorithm rgm_dp_bootstrap = {
    .name = "dp_bootstrap",
    .paper = "Efron 1979; Puterman & Shin 1978",
    .doc = "Intervals of values and actions: a counted problem drawn again and solved, many times.",
    .fields = fields,
    .keys_size = sizeof(bootstrap_keys),
    .self_size = sizeof(bootstrap),
    .needs = RGM_NEEDS_ENV | RGM_NEEDS_MDP,
    .check = bootstrap_check,
    .plan = bootstrap_plan,
    .init = bootstrap_init,
    .step = bootstrap_step,
    .report = bootstrap_report,
    .evaluate = bootstrap_print,
    .release = bootstrap_release,
};
