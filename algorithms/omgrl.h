// SPDX-License-Identifier: Apache-2.0
// Between the files of OMG-RL: omgrl.c has keys, presets and the loop, omgrl_reward.c learns the
// reward, omgrl_clone.c clones clinicians, omgrl_report.c says how it goes.

#ifndef RGM_OMGRL_H
#define RGM_OMGRL_H

#include "algorithms/imagined.h"
#include "kernels/guided.h"

enum { RGM_OMGRL_LEARNED, RGM_OMGRL_APTT };
enum { RGM_OMGRL_ONEHOT, RGM_OMGRL_SCALAR, RGM_OMGRL_SCALED };
enum {
  RGM_OMGRL_STEP,
  RGM_OMGRL_PREFIX,
  RGM_OMGRL_TRAJECTORY,
  RGM_OMGRL_TRUNCATED,
  RGM_OMGRL_TEMPERED
};

typedef struct rgm_omgrl_keys {
  rgm_imagined_keys imagined;
  rgm_list reward_hidden, band;
  char aptt[RGM_STRING_SIZE];
  int64_t reward_steps, reward_experts, reward_samples, reward_retain, clone_updates, watched;
  int64_t experts, clone_patience, clone_look;
  int preset, reward, encoding, weights, proposal;
  bool standardise;
  double cap, kappa, reward_lr, reward_decay, reward_norm, reward_limit, settle, clone_lr;
} rgm_omgrl_keys;

// The greedy policy in the elites, from validation rows on, always the same ones.
typedef struct rgm_omgrl_watch {
  int64_t episodes;         // V; 0: nothing is watched
  rgm_dream dream;          // of V
  rgm_ring starts;          // states of validation rows
  rgm_tensor clock;         // (R) u32 zeros
  rgm_tensor learned, aptt; // (G, V, 1) rewards of a step
} rgm_omgrl_watch;

// M trajectories of T steps in a reward step, n of experts: N = M T rows, W inputs.
typedef struct rgm_omgrl {
  rgm_imagined imagined;
  int64_t steps, experts, samples; // T, n, M - n
  int64_t windows, episodes;       // L rows where an expert's window may begin; episodes with one
  int64_t short_ones;              // training episodes without
  int aptt;                        // column of the states, -1: there is none
  bool learns, clones, stops;      // stops: the clone does by validation rows
  rgm_nets reward, clone;          // one net each
  rgm_ring trajectories;           // obs, act, log pi, alive, log of the clone
  rgm_tensor list, list_count;     // (R, L), (R) u32: experts' windows
  rgm_tensor scale, settled;       // (R, 2) mean and sd of experts' r, (R) u32
  rgm_tensor input_mean, input_sd; // (R, W)
  rgm_tensor lr, norm, limit, settle, bend;      // (R)
  rgm_tensor decay, clone_lr;                    // (R, layers), (R)
  rgm_tensor loss, sample, clone_loss;           // (R) of the last step
  rgm_tensor items;                              // (G, N) u32
  rgm_tensor obs, seen, act;                     // (G, N, S), (G, n T, S), (G, N, D)
  rgm_tensor log_policy, log_clone, alive;       // (G, N)
  rgm_tensor x, slope, total, weight;            // (G, N, W), (G, 1, N, O), (G, M), (G, U, M)
  rgm_tensor use_x, dream_clone;                 // (G, most rows, W), (G, b)
  rgm_tensor train_obs, train_act;               // (G, B, S), (G, B, D) of the clone
  rgm_tensor train_log, train_slope;             // (G, B), (G, 1, B, O)
  rgm_pass reward_pass, use_pass;                // (G, N), (G, most rows)
  rgm_pass policy_pass, expert_pass, dream_pass; // (G, n T) twice, (G, b)
  rgm_pass train_pass;                           // (G, B)
  rgm_mlp clone_best;                            // the clone's weights of its least loss
  rgm_tensor clone_least, clone_valid;           // (R) that loss, and the last one
  rgm_tensor clone_stale, clone_active; // (R) u32 looks since then; whether it still learns
  rgm_ring clone_held;                  // validation rows: obs, action
  rgm_tensor look_obs, look_log;        // (G, C, S), (G, V)
  rgm_pass look_pass;                   // (G, C)
  rgm_omgrl_watch watch;
  bool warned;
} rgm_omgrl;

// Training episodes that have `steps` rows in a row, and those that have not; rows where so many
// begin.
typedef struct rgm_omgrl_experts {
  int64_t episodes, short_ones, windows;
} rgm_omgrl_experts;

rgm_omgrl_experts rgm_omgrl_count(const rgm_run *run, int64_t steps, int64_t *longest);

// The column of the states that algorithm.aptt names, or -1.
int rgm_omgrl_column(const rgm_run *run);

// What the hooks of imagined.h do: a step of the behaviour clone; what is kept of a step of a
// rollout; K reward steps after it; rewards at use.
void rgm_omgrl_plan_reward(rgm_run *run);
void rgm_omgrl_plan_clone(rgm_run *run);
rgm_status rgm_omgrl_init_clone(rgm_run *run);
rgm_status rgm_omgrl_init_reward(rgm_run *run);
rgm_status rgm_omgrl_prepare(rgm_run *run);
void rgm_omgrl_dreamt(const rgm_run *run, rgm_stream *s, const rgm_dreamer *d, int64_t first,
                      uint32_t h);
void rgm_omgrl_rolled(rgm_run *run);
void rgm_omgrl_relabel(const rgm_run *run, rgm_stream *s, int64_t first, int64_t n,
                       const rgm_batch *batch);

// The density of actions at a head of replicas `first` on, of which `agent` has the scales.
rgm_policy_draw rgm_omgrl_density(const rgm_agent *agent, rgm_tensor head, rgm_tensor act,
                                  rgm_tensor log_pi);

// K reward steps, on what trajectories there are: rolled's graph, for tests too.
void rgm_omgrl_guide(void *run, rgm_stream *s);

// reward (n, B, 1) = r(s, a) of replicas `first` on as the agent sees it, at states and actions in
// their units; B is at most that of a batch, or of what is watched.
void rgm_omgrl_value(const rgm_run *run, rgm_stream *s, int64_t first, int64_t n, rgm_tensor obs,
                     rgm_tensor act, rgm_tensor reward);

void rgm_omgrl_plan_watch(rgm_run *run);
rgm_status rgm_omgrl_init_watch(rgm_run *run);
rgm_status rgm_omgrl_report(rgm_run *run);
rgm_status rgm_omgrl_evaluate(rgm_run *run, rgm_json *json, FILE *text);

#endif
