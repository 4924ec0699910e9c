// SPDX-License-Identifier: Apache-2.0
// The cross-entropy method over parallel patients: Schamberg et al. 2020 (AIME), section 2.4, with
// the classic recipe of Rubinstein & Kroese. A step is one batch: one random patient and one set of
// targets, K episodes of the stochastic policy, the episodes at or above a percentile of the
// returns are the elite, and one optimiser step lowers the mean cross-entropy of the elite's
// actions. Either all episodes of a batch are recorded, or the elite is run again from its random
// numbers, which need no memory (records).

#include "engine/engine.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { OPTIMIZER_ADAM, OPTIMIZER_SGD };
enum { RECORDS_ALL, RECORDS_ELITES };
enum { MOST_INPUTS = 16 }; // of rgm_policy_xent

typedef struct cem_keys {
  int64_t episodes, patients, hidden, elites;
  double percentile, lr, beta1, beta2, eps, momentum, ema, stop_return, smooth;
  int optimizer, evaluate, records;
} cem_keys;

#define KEY(member) offsetof(cem_keys, member)

static const char *const optimizers[] = {"adam", "sgd", NULL};
static const char *const weights[] = {"last", "ema", NULL};
static const char *const records[] = {"all", "elites", NULL};

static const rgm_field fields[] = {
    {"episodes", RGM_INT, KEY(episodes), "1", "16", 2, 1e6, NULL, RGM_SHAPE,
     "Episodes of a batch, K."},
    {"patients", RGM_INT, KEY(patients), "1", "1", 1, 1e6, NULL, RGM_SHAPE,
     "Patients of a batch; 1 (all episodes share one patient) is what works."},
    {"percentile", RGM_FLOAT, KEY(percentile), "1", "0.7", 0, 1, NULL, 0,
     "Episodes with a return at or above this quantile of the batch are the elite."},
    {"hidden", RGM_INT, KEY(hidden), "units", "128", 1, 1024, NULL, RGM_SHAPE,
     "Hidden units (ReLU) of the policy."},
    {"optimizer", RGM_CHOICE, KEY(optimizer), "", "adam", 0, 0, optimizers, RGM_SHAPE,
     "adam, or sgd as the paper prints (which learns little at its rates)."},
    {"lr", RGM_FLOAT, KEY(lr), "1", "0.01", 0, 100, NULL, 0, "Learning rate."},
    {"beta1", RGM_FLOAT, KEY(beta1), "1", "0.9", 0, 0.999999, NULL, 0,
     "Adam: decay of the first moment."},
    {"beta2", RGM_FLOAT, KEY(beta2), "1", "0.999", 0, 0.999999, NULL, 0,
     "Adam: decay of the second moment."},
    {"eps", RGM_FLOAT, KEY(eps), "1", "1e-8", 1e-30, 1, NULL, 0,
     "Adam: added to the root of the second moment."},
    {"momentum", RGM_FLOAT, KEY(momentum), "1", "0", 0, 0.999999, NULL, 0, "SGD: momentum."},
    {"ema", RGM_FLOAT, KEY(ema), "1", "0.003", 0, 1, NULL, 0,
     "Rate of the moving average of the weights."},
    {"evaluate", RGM_CHOICE, KEY(evaluate), "", "ema", 0, 0, weights, 0,
     "Weights that evaluation uses: the last ones or their moving average."},
    {"smooth", RGM_FLOAT, KEY(smooth), "1", "0.02", 0, 1, NULL, 0,
     "Rate of the moving average of the batch return that is reported and compared."},
    {"stop_return", RGM_FLOAT, KEY(stop_return), "1", "1e30", -1e30, 1e30, NULL, 0,
     "A replica stops when its smoothed return reaches this."},
    {"records", RGM_CHOICE, KEY(records), "", "all", 0, 0, records, RGM_SHAPE | RGM_PROVENANCE,
     "Episodes kept for the gradient: all, or only the elites, run twice; changes memory, not "
     "bits."},
    {"elites", RGM_INT, KEY(elites), "1", "0", 0, 1e6, NULL, RGM_SHAPE | RGM_PROVENANCE,
     "Places for elites that are run again; 0: what the percentile takes and room for ties."},
    {0},
};

typedef struct cem {
  rgm_mlp policy;                          // obs -> hidden -> 2
  rgm_tensor average;                      // (R, W) moving average of the policy
  rgm_tensor m, v;                         // (R, W) moments; SGD uses m as its velocity
  rgm_tensor updates;                      // (R) u32
  rgm_tensor smoothed;                     // (R) moving average of the batch return
  rgm_tensor patients;                     // (R, P, words)
  rgm_tensor obs;                          // (G, E, T, O), E = K where all are recorded
  rgm_tensor act;                          // (G, E, T, 1)
  rgm_tensor logits;                       // (G, E, T)
  rgm_tensor returns;                      // (R, K)
  rgm_tensor sorted;                       // (R, K)
  rgm_tensor elite;                        // (R, K) 1 / count for the elite, else 0
  rgm_tensor threshold, mean_return, loss; // (R)
  rgm_tensor items, share, again;          // (G, E) episodes run again, their weights, returns
  rgm_tensor count, lost;                  // (G), (R) u32: elites, and those without a place
  rgm_tensor grad;                         // (R, W)
  rgm_tensor work;                         // (G, ...) of policy_xent
  rgm_tensor percentile, lr, beta1, beta2, eps, momentum, ema, smooth, stop_return; // (R)
} cem;


static rgm_status cem_check(const rgm_run *run) {
  const cem_keys *k = rgm_algorithm_keys(run, 0);
  if (run->env->obs_dim > MOST_INPUTS) {
    return rgm_fail(RGM_ECONFIG,
                    "%s: algorithm.name: cem's policy has %d inputs at most, and %s %d",
                    rgm_config_where(run->config, "algorithm.name"), MOST_INPUTS, run->env->name,
                    run->env->obs_dim);
  }
  if (run->env->choices > 2 || (run->env->choices == 0 && run->env->act_low != NULL)) {
    return rgm_fail(RGM_ECONFIG,
                    "%s: algorithm.name: cem's policy chooses between two actions or a share from "
                    "0 to 1, and %s takes %s",
                    rgm_config_where(run->config, "algorithm.name"), run->env->name,
                    run->env->choices > 2 ? "one of more" : "actions of another range");
  }
  if (k->episodes % k->patients != 0) {
    return rgm_fail(RGM_ECONFIG, "%s: algorithm.patients: %lld does not divide the %lld episodes",
                    rgm_config_where(run->config, "algorithm.patients"), (long long)k->patients,
                    (long long)k->episodes);
  }
  return RGM_OK;
}


// Places for elites: those at or above the least percentile of the pack's replicas, one more that
// rounding of the threshold may let in, and one in 64 episodes, but at least two, for ties.
static int64_t elite_places(const rgm_run *run) {
  const cem_keys *k = rgm_algorithm_keys(run, 0);
  const int64_t K = k->episodes;
  int64_t most = k->elites;
  for (int64_t r = 0; r < run->replicas && k->elites == 0; r++) {
    const cem_keys *own = rgm_algorithm_keys(run, r);
    const int64_t below = (int64_t)floor((double)(float)own->percentile * (double)(K - 1));
    const int64_t places = K - below + (K / 64 > 2 ? K / 64 : 2);
    most = places > most ? places : most;
  }
  return most < K ? most : K;
}


static void plan_hypers(rgm_run *run, cem *s) {
  s->percentile = rgm_plan_hyper(run, "percentile", KEY(percentile));
  s->lr = rgm_plan_hyper(run, "lr", KEY(lr));
  s->beta1 = rgm_plan_hyper(run, "beta1", KEY(beta1));
  s->beta2 = rgm_plan_hyper(run, "beta2", KEY(beta2));
  s->eps = rgm_plan_hyper(run, "eps", KEY(eps));
  s->momentum = rgm_plan_hyper(run, "momentum", KEY(momentum));
  s->ema = rgm_plan_hyper(run, "ema", KEY(ema));
  s->smooth = rgm_plan_hyper(run, "smooth", KEY(smooth));
  s->stop_return = rgm_plan_hyper(run, "stop_return", KEY(stop_return));
}


// the list of episodes that are run again
static void plan_replay(rgm_run *run, cem *s, int64_t G, int64_t E) {
  rgm_arena *arena = run->arena;
  s->items =
      rgm_plan(arena, "elite/items", RGM_U32, RGM_SCRATCH, "in group, elite", "", G, E, 0, 0);
  s->share =
      rgm_plan(arena, "elite/share", RGM_F32, RGM_SCRATCH, "in group, elite", "1", G, E, 0, 0);
  s->again =
      rgm_plan(arena, "elite/returns", RGM_F32, RGM_SCRATCH, "in group, elite", "1", G, E, 0, 0);
  s->count = rgm_plan(arena, "elite/count", RGM_U32, RGM_SCRATCH, "in group", "", G, 0, 0, 0);
  s->lost =
      rgm_plan(arena, "elite/lost", RGM_U32, RGM_BLOCK, "replica", "", run->replicas, 0, 0, 0);
}


static rgm_status cem_plan(rgm_run *run) {
  cem *s = run->self;
  const cem_keys *k = rgm_algorithm_keys(run, 0);
  const int64_t R = run->replicas, K = k->episodes, T = run->env->steps(run->env_keys);
  const int64_t O = run->env->obs_dim, G = rgm_group(run->stream, R);
  const bool replays = k->records == RECORDS_ELITES;
  const int64_t E = replays ? elite_places(run) : K;
  const int64_t width[] = {O, k->hidden, 2};
  rgm_arena *arena = run->arena;

  // what training is: weights, moments, counters
  s->policy = rgm_plan_mlp(arena, "policy", R, 2, width, RGM_STATE | RGM_EXPORTED);
  const int64_t W = s->policy.block.stride0;
  s->average = rgm_plan(arena, "average", RGM_F32, RGM_STATE | RGM_EXPORTED, "replica, parameter",
                        "1", R, W, 0, 0);
  s->m = rgm_plan(arena, "optimizer/m", RGM_F32, RGM_STATE, "replica, parameter", "1", R, W, 0, 0);
  s->v = rgm_plan(arena, "optimizer/v", RGM_F32, RGM_STATE, "replica, parameter", "1", R, W, 0, 0);
  s->updates =
      rgm_plan(arena, "optimizer/updates", RGM_U32, RGM_STATE, "replica", "steps", R, 0, 0, 0);
  s->smoothed = rgm_plan(arena, "smoothed_return", RGM_F32, RGM_STATE, "replica", "1", R, 0, 0, 0);

  // what a batch needs; episodes are recorded for a group of replicas at a time
  s->patients = rgm_plan(arena, "batch/patients", RGM_F32, RGM_SCRATCH, "replica, patient, word",
                         "1", R, k->patients, run->env->patient_words, 0);
  s->obs = rgm_plan(arena, "batch/obs", RGM_F32, RGM_SCRATCH, "in group, episode, step, obs", "1",
                    G, E, T, O);
  s->act = rgm_plan(arena, "batch/act", RGM_F32, RGM_SCRATCH, "in group, episode, step, act", "1",
                    G, E, T, run->env->act_dim);
  s->logits = rgm_plan(arena, "batch/logits", RGM_F32, RGM_SCRATCH, "in group, episode, step", "1",
                       G, E, T, 0);
  s->returns =
      rgm_plan(arena, "batch/returns", RGM_F32, RGM_SCRATCH, "replica, episode", "1", R, K, 0, 0);
  s->sorted =
      rgm_plan(arena, "batch/sorted", RGM_F32, RGM_SCRATCH, "replica, episode", "1", R, K, 0, 0);
  s->elite =
      rgm_plan(arena, "batch/elite", RGM_F32, RGM_SCRATCH, "replica, episode", "1", R, K, 0, 0);
  s->threshold =
      rgm_plan(arena, "batch/threshold", RGM_F32, RGM_SCRATCH, "replica", "1", R, 0, 0, 0);
  s->mean_return =
      rgm_plan(arena, "batch/mean_return", RGM_F32, RGM_SCRATCH, "replica", "1", R, 0, 0, 0);
  s->loss = rgm_plan(arena, "batch/loss", RGM_F32, RGM_SCRATCH, "replica", "nat", R, 0, 0, 0);
  s->grad =
      rgm_plan(arena, "batch/grad", RGM_F32, RGM_SCRATCH, "replica, parameter", "1", R, W, 0, 0);
  s->work = rgm_plan(arena, "batch/work", RGM_F32, RGM_SCRATCH, "in group, float", "1", G,
                     rgm_policy_xent_work(E, T, O, k->hidden), 0, 0);
  if (replays) {
    plan_replay(run, s, G, E);
  }
  plan_hypers(run, s);
  return RGM_OK;
}


// PyTorch's default of a linear layer: weights and biases uniform in +-1/sqrt(inputs)
static rgm_status cem_init(rgm_run *run) {
  cem *s = run->self;
  for (int l = 0; l < s->policy.layers; l++) {
    rgm_tensor weight = s->policy.weight[l];
    weight.dims[1] = s->policy.width[l];
    const float bound = (float)(1.0 / sqrt((double)s->policy.width[l]));
    rgm_uniform(run->stream, weight, run->seeds, RGM_RANDOM_INIT, (uint32_t)(2 * l), -bound, bound,
                s->policy.width[l + 1]);
    rgm_uniform(run->stream, s->policy.bias[l], run->seeds, RGM_RANDOM_INIT, (uint32_t)(2 * l + 1),
                -bound, bound, s->policy.width[l + 1]);
  }
  rgm_copy(run->stream, s->average.data, s->policy.block.data, rgm_bytes(s->average));
  float *start = malloc((size_t)run->replicas * sizeof *start);
  if (start == NULL) {
    return rgm_fail(RGM_EMEMORY, "no memory for %lld replicas", (long long)run->replicas);
  }
  // the smoothed return starts from doing nothing at all
  for (int64_t r = 0; r < run->replicas; r++) {
    start[r] = -0.5f * (float)run->env->steps(run->env_keys);
  }
  rgm_copy(run->stream, s->smoothed.data, start, rgm_bytes(s->smoothed));
  free(start);
  return rgm_sync(run->stream);
}


// the elite of n replicas from `first` on: it is listed and run again, now with records
static void replay_elites(const rgm_run *run, rgm_stream *stream, rgm_rollout rollout,
                          rgm_tensor elite, int64_t first) {
  const cem *s = run->self;
  const int64_t n = elite.dims[0];
  rollout.items = rgm_slice(s->items, 0, n);
  rollout.count = rgm_slice(s->count, 0, n);
  rollout.episodes = elite.dims[1];
  rollout.returns = rgm_slice(s->again, 0, n);
  rgm_enlist(stream, rollout.items, rgm_slice(s->share, 0, n), rollout.count,
             rgm_slice(s->lost, first, n), elite, rollout.active);
  rgm_env_rollout(run->env_kernels, stream, &rollout);
}


// episodes of n replicas from `first` on, their elite, and the gradient of its cross-entropy
static void enqueue_group(const rgm_run *run, rgm_stream *stream, int64_t first, int64_t n) {
  const cem *s = run->self;
  const cem_keys *k = rgm_algorithm_keys(run, 0);
  const bool replays = k->records == RECORDS_ELITES;
  const rgm_tensor elite = rgm_slice(s->elite, first, n);
  const rgm_tensor threshold = rgm_slice(s->threshold, first, n);
  const rgm_cohort cohort = {
      .patients = rgm_slice(s->patients, first, n),
      .config = rgm_slice(run->env_config, first, n),
      .seeds = rgm_slice(run->seeds, first, n),
      .clock = rgm_slice(run->clock, first, n),
      .active = rgm_slice(run->active, first, n),
      .random = RGM_RANDOM_PATIENT,
  };
  const rgm_rollout recorded = {
      .returns = rgm_slice(s->returns, first, n),
      .obs = rgm_slice(s->obs, 0, n),
      .act = rgm_slice(s->act, 0, n),
      .logits = rgm_slice(s->logits, 0, n),
      .patients = cohort.patients,
      .config = cohort.config,
      .params = rgm_slice(s->policy.block, first, n),
      .seeds = cohort.seeds,
      .clock = cohort.clock,
      .active = cohort.active,
      .control = RGM_CONTROL_STOCHASTIC,
      .hidden = (int)k->hidden,
      .random = RGM_RANDOM_NOISE,
      .steps = s->obs.dims[2],
  };
  rgm_rollout rollout = recorded;
  if (replays) {
    rollout.obs.data = rollout.act.data = rollout.logits.data = NULL;
  }
  rgm_env_sample(run->env_kernels, stream, &cohort);
  rgm_env_rollout(run->env_kernels, stream, &rollout);

  // elite: return >= percentile
  rgm_quantile(stream, threshold, rgm_slice(s->sorted, first, n), rollout.returns,
               rgm_slice(s->percentile, first, n));
  rgm_select(stream, elite, rollout.returns, threshold);
  if (replays) {
    replay_elites(run, stream, recorded, elite, first);
  }
  rgm_policy_xent(stream, rgm_slice(s->grad, first, n), rgm_slice(s->loss, first, n),
                  rgm_slice(s->work, 0, n), recorded.obs, recorded.logits, recorded.act,
                  replays ? rgm_slice(s->share, 0, n) : elite, recorded.params, recorded.active,
                  (int)k->hidden);
}


// one batch: everything is enqueued, nothing is read back
static void enqueue_batch(void *run_, rgm_stream *stream) {
  const rgm_run *run = run_;
  const cem *s = run->self;
  const cem_keys *k = rgm_algorithm_keys(run, 0);
  const int64_t R = run->replicas, group = s->obs.dims[0];
  for (int64_t first = 0; first < R; first += group) {
    enqueue_group(run, stream, first, R - first < group ? R - first : group);
  }

  // one step down the cross-entropy of the elite's actions
  if (k->optimizer == OPTIMIZER_ADAM) {
    rgm_adam(stream, s->policy.block, s->m, s->v, s->updates, s->grad, s->lr, s->beta1, s->beta2,
             s->eps, run->active);
  } else {
    rgm_sgd(stream, s->policy.block, s->m, s->grad, s->lr, s->momentum, run->active);
  }
  rgm_ema(stream, s->average, s->policy.block, s->ema, run->active);

  // a replica whose smoothed return is good enough is done after this step
  rgm_sum(stream, s->mean_return, s->returns, 1.0f / (float)s->returns.dims[1]);
  rgm_ema(stream, s->smoothed, s->mean_return, s->smooth, run->active);
  rgm_advance(stream, run->clock, run->active);
  rgm_retire(stream, run->active, s->smoothed, s->stop_return);
}


static rgm_status cem_step(rgm_run *run) {
  rgm_graph(run->stream, 0, enqueue_batch, run);
  return RGM_OK;
}


// whether all elites that were to be run again since the start had a place
static rgm_status check_places(rgm_run *run) {
  const cem *s = run->self;
  if (s->lost.data == NULL) {
    return RGM_OK;
  }
  uint32_t *lost = malloc(rgm_bytes(s->lost));
  if (lost == NULL) {
    return rgm_fail(RGM_EMEMORY, "no memory for the report");
  }
  rgm_status status = rgm_read_back(run, s->lost, lost);
  for (int64_t r = 0; r < run->replicas && status == RGM_OK; r++) {
    if (lost[r] > 0) {
      status = rgm_fail(RGM_ENUMERIC,
                        "elite/lost of replica %lld (seed %lld): %u elites (ties) found no place "
                        "among %lld by step %llu; the last good checkpoint stays: set "
                        "algorithm.elites higher, or algorithm.records to all",
                        (long long)r, (long long)(run->keys.seed + r), lost[r],
                        (long long)s->items.dims[1], (unsigned long long)run->step);
    }
  }
  free(lost);
  return status;
}


static rgm_status cem_report(rgm_run *run) {
  const cem *s = run->self;
  RGM_TRY(check_places(run));
  RGM_TRY(rgm_report_vector(run, "return_smoothed", "1", s->smoothed));
  RGM_TRY(rgm_report_vector(run, "return_mean", "1", s->mean_return));
  RGM_TRY(rgm_report_vector(run, "return_elite", "1", s->threshold));
  return rgm_report_vector(run, "cross_entropy", "nat", s->loss);
}


static double cem_work(const rgm_run *run) {
  const cem_keys *k = rgm_algorithm_keys(run, 0);
  return (double)run->replicas * (double)k->episodes * (double)run->env->steps(run->env_keys);
}


static int cem_contenders(rgm_run *run, rgm_contender *out, int max) {
  const cem *s = run->self;
  const cem_keys *k = rgm_algorithm_keys(run, 0);
  static const struct {
    const char *name;
    rgm_control control;
  } modes[] = {
      {"cem_continuous", RGM_CONTROL_CONTINUOUS},
      {"cem_stochastic", RGM_CONTROL_STOCHASTIC},
      {"cem_deterministic", RGM_CONTROL_DETERMINISTIC},
  };
  int count = 0;
  RGM_ASSERT((int)(sizeof modes / sizeof *modes) <= max);
  for (size_t i = 0; i < sizeof modes / sizeof *modes; i++) {
    if (modes[i].control == RGM_CONTROL_CONTINUOUS && run->env->choices > 0) {
      continue; // there is nothing between the two
    }
    out[count++] = (rgm_contender){
        .name = modes[i].name,
        .control = modes[i].control,
        .hidden = (int)k->hidden,
        .params = k->evaluate == 1 ? s->average : s->policy.block,
    };
  }
  return count;
}


const rgm_algorithm rgm_cem = {
    .name = "cem",
    .paper = "Schamberg et al. 2020 (AIME)",
    .doc = "Cross-entropy method over parallel patients, two-output softmax policy.",
    .fields = fields,
    .keys_size = sizeof(cem_keys),
    .self_size = sizeof(cem),
    .needs = RGM_NEEDS_ENV | RGM_TIMELESS,
    .work_unit = "env-steps",
    .work = cem_work,
    .check = cem_check,
    .plan = cem_plan,
    .init = cem_init,
    .step = cem_step,
    .report = cem_report,
    .contenders = cem_contenders,
    .best_metric = "return_smoothed",
};
