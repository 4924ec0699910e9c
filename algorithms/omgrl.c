// SPDX-License-Identifier: Apache-2.0
// OMG-RL (Lim & Lee 2024, algorithm 2): COMBO whose reward is learned from what
// experts did, by guided cost learning (Finn, Levine & Abbeel 2016) on what the policy does in the
// learned model. First an ensemble learns how patients change, and a clone how clinicians act; then
// again and again trajectories are imagined, the reward r_psi takes K steps down
//   L = -mean_experts R(tau) + log mean exp(R(tau) - log q(tau)),   R = sum_t r_psi(s_t, a_t),
// and the agent some updates with rewards that r_psi gives when they are used. With `reward: aptt`
// it is COMBO with the reward of the next aPTT. OMGRL.md says what differs between presets, and
// how it does.

#include "algorithms/omgrl.h"

#include <math.h>

static const char *const presets[] = {"default", "paper", "authors-code", NULL};
static const char *const rewards[] = {"learned", "aptt", NULL};
static const char *const encodings[] = {"onehot", "scalar", "scaled", NULL};
static const char *const weights[] = {"step",      "prefix",   "trajectory",
                                      "truncated", "tempered", NULL};
static const char *const proposals[] = {"one", "bc", "mixture", NULL};
static const char *const pushes[] = {"none",          "rho_sample", "rho_expect", "logsumexp_model",
                                     "logsumexp_mix", NULL};

#define KEY(member) offsetof(rgm_omgrl_keys, member)

// clang-format off
static const rgm_field fields[] = {
    RGM_IMAGINED_FIELDS("0.5", "20"),
    RGM_PUSH_FIELDS(rgm_imagined_keys),
    {"push", RGM_CHOICE, RGM_IMAGINED_KEY(push_kind), "", "rho_expect", 0, 0, pushes, RGM_SHAPE,
     "Where the critics are pushed down."},
    {"preset", RGM_CHOICE, KEY(preset), "", "default", 0, 0, presets, RGM_SHAPE,
     "Whose choices keys have that the config does not set (OMGRL.md)."},
    {"reward", RGM_CHOICE, KEY(reward), "", "learned", 0, 0, rewards, RGM_SHAPE,
     "What is maximised: the learned reward, or that of the next aPTT, which is plain COMBO."},
    RGM_TEXT("aptt", KEY(aptt), "aptt", RGM_SHAPE, "State that the reward of the aPTT is about."),
    {"band", RGM_LIST, KEY(band), "s", "[60, 100]", -1e6, 1e6, NULL, RGM_SHAPE,
     "Between what it should lie."},
    {"reward_hidden", RGM_LIST, KEY(reward_hidden), "units", "[128, 64]", 1, 4096, NULL, RGM_SHAPE,
     "Widths of the reward net's hidden layers."},
    {"encoding", RGM_CHOICE, KEY(encoding), "", "onehot", 0, 0, encodings, RGM_SHAPE,
     "How it sees an action: a class as ones and zeros, the number as it is, scaled to [-1, 1]."},
    {"weights", RGM_CHOICE, KEY(weights), "", "step", 0, 0, weights, RGM_SHAPE,
     "What is weighed: rows, trajectories up to each step or whole, truncated or tempered."},
    {"cap", RGM_FLOAT, KEY(cap), "1", "10", 1, 1e6, NULL, 0,
     "truncated: the most that a trajectory weighs, in means."},
    {"kappa", RGM_FLOAT, KEY(kappa), "1", "0.1", 1e-4, 1, NULL, 0,
     "tempered: power of the weights."},
    {"proposal", RGM_CHOICE, KEY(proposal), "", "mixture", 0, 0, proposals, RGM_SHAPE,
     "Density of experts' actions: 1, the behaviour clone's, or for all that of the mixture."},
    {"experts", RGM_INT, KEY(experts), "episodes", "0", 0, 1e9, NULL, 0,
     "How many of the training episodes teach the reward, drawn by the seed; 0: all."},
    {"reward_steps", RGM_INT, KEY(reward_steps), "updates", "10", 1, 4096, NULL, RGM_SHAPE,
     "Updates of the reward after each rollout, K."},
    {"reward_experts", RGM_INT, KEY(reward_experts), "1", "100", 2, 32768, NULL, RGM_SHAPE,
     "Experts' rows of an update, or trajectories as long as the horizon where these are weighed."},
    {"reward_samples", RGM_INT, KEY(reward_samples), "1", "100", 1, 32768, NULL, RGM_SHAPE,
     "Imagined ones."},
    {"reward_retain", RGM_INT, KEY(reward_retain), "1", "1", 1, 10000, NULL, RGM_SHAPE,
     "From how many rollouts, the newest first; of 1 the policy's density is exact."},
    {"reward_lr", RGM_FLOAT, KEY(reward_lr), "1", "1e-3", 0, 1, NULL, 0,
     "Adam's rate of the reward net."},
    {"reward_decay", RGM_FLOAT, KEY(reward_decay), "1", "1e-5", 0, 1, NULL, 0,
     "Decay of its weights."},
    {"reward_norm", RGM_FLOAT, KEY(reward_norm), "1", "0", 0, 1e9, NULL, RGM_SHAPE,
     "Most norm of its gradient; 0: any."},
    {"standardise", RGM_BOOL, KEY(standardise), "", "true", 0, 0, NULL, RGM_SHAPE,
     "Whether the agent sees rewards with mean 0 and sd 1 over experts' rows."},
    {"settle", RGM_FLOAT, KEY(settle), "1", "0.1", 0, 1, NULL, 0,
     "Share of a batch of experts in that mean and sd."},
    {"reward_limit", RGM_FLOAT, KEY(reward_limit), "1", "0", 0, 1e6, NULL, 0,
     "Most size of a reward that the agent sees; 0: any."},
    {"clone_updates", RGM_INT, KEY(clone_updates), "steps", "1000", 1, 1e9, NULL, RGM_SHAPE,
     "Steps of the run, after the ensemble's, in which the clone learns; none with proposal: one."},
    {"clone_patience", RGM_INT, KEY(clone_patience), "looks", "0", 0, 1e9, NULL,
     RGM_SHAPE | RGM_ADDED,
     "A clone whose validation loss has not become less for so many looks stops, with the weights "
     "of the least; 0: it learns for all of clone_updates."},
    {"clone_look", RGM_INT, KEY(clone_look), "updates", "50", 1, 1e9, NULL, RGM_SHAPE | RGM_ADDED,
     "From one look at the validation rows to the next; the last one is after its last update."},
    {"clone_lr", RGM_FLOAT, KEY(clone_lr), "1", "1e-3", 0, 1, NULL, 0, "Adam's rate of the clone."},
    {"watched", RGM_INT, KEY(watched), "episodes", "1000", 0, 1e6, NULL, RGM_SHAPE | RGM_PROVENANCE,
     "Greedy trajectories in the elites, from validation rows, of a report; 0: none."},
    {0},
};

static const rgm_preset choices[] = {
    {"paper",
     {{"actor_hidden", "[256, 256, 256]"},
      {"critic_hidden", "[256, 256, 256]"},
      {"actor_lr", "5e-4"},
      {"critic_lr", "5e-4"},
      {"temperature", "fixed"},
      {"alpha", "1"},
      {"beta", "0.5"},
      {"push", "rho_sample"},
      {"dynamics_hidden", "[128, 128, 128, 128]"},
      {"dynamics_lr", "5e-4"},
      {"rollouts", "10"},
      {"rollout_every", "2"},
      {"retain", "500"},
      {"weights", "trajectory"},
      {"reward_experts", "10"},
      {"reward_samples", "10"},
      {"reward_lr", "5e-4"},
      {"standardise", "false"}}},
    {"authors-code",
     {{"actor_hidden", "[256, 256]"},
      {"critic_hidden", "[256, 256]"},
      {"batch", "64"},
      {"actor_lr", "1e-4"},
      {"critic_lr", "1e-4"},
      {"clip", "1"},
      {"tau", "0.01"},
      {"temperature", "fixed"},
      {"alpha", "1"},
      {"beta", "0.5"},
      {"push", "rho_sample"},
      {"share_forward", "false"},
      {"dynamics_hidden", "[128, 128, 64]"},
      {"dynamics_bootstrap", "none"},
      {"dynamics_decay", "[0]"},
      {"dynamics_lr", "1e-4"},
      {"rollouts", "10"},
      {"rollout_every", "2"},
      {"retain", "500"},
      {"encoding", "scalar"},
      {"weights", "step"},
      {"proposal", "one"},
      {"reward_retain", "500"},
      {"standardise", "false"}}},
    {0},
};
// clang-format on


// ---- keys --------------------------------------------------------------------------------------

static rgm_status check_reward(const rgm_run *run, const rgm_omgrl_keys *k) {
  const rgm_transitions *t = run->transitions;
  if (k->band.count != 2 || !(k->band.value[0] < k->band.value[1])) {
    return rgm_fail(RGM_ECONFIG, "%s: algorithm.band: two ascending values, as [60, 100]",
                    rgm_config_where(run->config, "algorithm.band"));
  }
  if (k->reward == RGM_OMGRL_APTT && rgm_omgrl_column(run) < 0) {
    return rgm_fail(RGM_ECONFIG,
                    "%s: algorithm.reward: aptt is a reward of the state %s, which %s has not; "
                    "algorithm.aptt names another one",
                    rgm_config_where(run->config, "algorithm.reward"), k->aptt, t->path);
  }
  if (k->reward == RGM_OMGRL_LEARNED && k->encoding == RGM_OMGRL_ONEHOT && t->choices == 0) {
    return rgm_fail(RGM_ECONFIG,
                    "%s: algorithm.encoding: onehot is for classes of actions, and those of %s are "
                    "continuous; use scalar or scaled",
                    rgm_config_where(run->config, "algorithm.encoding"), t->path);
  }
  return RGM_OK;
}


// every replica has experts, and windows of them as long as it weighs
static rgm_status check_experts(const rgm_run *run, const rgm_omgrl_keys *k) {
  int64_t longest = 0;
  const int64_t steps = k->weights == RGM_OMGRL_STEP ? 1 : k->imagined.horizon;
  const rgm_omgrl_experts found = rgm_omgrl_count(run, steps, &longest);
  if (found.episodes == 0) {
    return rgm_fail(RGM_EDATA,
                    "%s: no training episode has %lld steps in a row (the longest has %lld), as "
                    "many as the horizon, which weights: %s compares; a smaller "
                    "algorithm.horizon, or weights: step",
                    run->transitions->path, (long long)steps, (long long)longest,
                    weights[k->weights]);
  }
  for (int64_t r = 0; r < run->replicas; r++) {
    const rgm_omgrl_keys *own = rgm_algorithm_keys(run, r);
    if (own->experts > found.episodes) {
      return rgm_fail(RGM_ECONFIG,
                      "%s: algorithm.experts: %lld, and %lld training episodes are long enough; 0 "
                      "takes all",
                      rgm_config_where(run->config, "algorithm.experts"), (long long)own->experts,
                      (long long)found.episodes);
    }
  }
  return RGM_OK;
}


static rgm_status omgrl_check(const rgm_run *run) {
  const rgm_omgrl_keys *k = rgm_algorithm_keys(run, 0);
  RGM_TRY(rgm_imagined_check(run));
  RGM_TRY(check_reward(run, k));
  return k->reward == RGM_OMGRL_LEARNED ? check_experts(run, k) : RGM_OK;
}


// ---- the run -----------------------------------------------------------------------------------

static rgm_status omgrl_plan(rgm_run *run) {
  rgm_omgrl *s = run->self;
  const rgm_omgrl_keys *k = rgm_algorithm_keys(run, 0);
  s->learns = k->reward == RGM_OMGRL_LEARNED;
  s->clones = s->learns && k->proposal != 0;
  s->aptt = rgm_omgrl_column(run);
  s->steps = k->weights == RGM_OMGRL_STEP ? 1 : k->imagined.horizon;
  s->experts = k->reward_experts;
  s->samples = k->reward_samples;
  s->imagined.between = s->clones ? (uint64_t)k->clone_updates : 0;
  s->imagined.prepare = rgm_omgrl_prepare;
  s->imagined.dreamt = s->learns ? rgm_omgrl_dreamt : NULL;
  s->imagined.rolled = s->learns ? rgm_omgrl_rolled : NULL;
  s->imagined.relabel = rgm_omgrl_relabel;
  RGM_TRY(rgm_imagined_plan(run, (rgm_push)k->imagined.push_kind, RGM_DOUBT_NONE));
  if (s->learns) {
    rgm_omgrl_plan_reward(run);
  }
  rgm_omgrl_plan_watch(run);
  return RGM_OK;
}


static rgm_status omgrl_init(rgm_run *run) {
  const rgm_omgrl *s = run->self;
  RGM_TRY(rgm_imagined_init(run));
  if (s->learns) {
    RGM_TRY(rgm_omgrl_init_reward(run));
  }
  return rgm_omgrl_init_watch(run);
}


const rgm_algorithm rgm_omg_rl = {
    .name = "omgrl",
    .paper = "Lim & Lee 2024",
    .doc = "COMBO whose reward is learned from what clinicians did, by guided cost learning.",
    .fields = fields,
    .keys_size = sizeof(rgm_omgrl_keys),
    .self_size = sizeof(rgm_omgrl),
    .needs = RGM_NEEDS_DATASET | RGM_TAKES_ENV | RGM_EVALUATES_ENV,
    .work_unit = "updates",
    .work = rgm_imagined_work,
    .check = omgrl_check,
    .plan = omgrl_plan,
    .init = omgrl_init,
    .step = rgm_imagined_step,
    .report = rgm_omgrl_report,
    .contenders = rgm_imagined_contenders,
    .evaluate = rgm_omgrl_evaluate,
    .presets = choices,
};
