// SPDX-License-Identifier: Apache-2.0
// An agent that learns from transitions: soft actor-critic (Haarnoja et al. 2018) over classes
// (Christodoulou 2019) or tanh-Gaussian actions, with the conservative terms of CQL (Kumar et al.
// 2020) and COMBO (Yu et al. 2021). sac.c, cql.c and combo.c say where the transitions come from.
//
// With N critics Q_n, their moving averages Q'_n, policy pi and temperature alpha, one update is
//   y      = r + gamma (1 - terminated) V(s'),  V = E_pi [min_n Q'_n - alpha log pi]
//   L_n    = 1/2 mean (Q_n(s, a) - y)^2 + beta (push down - push up)      (kernels.h: rgm_critic)
//   L_pi   = mean E_pi [alpha log pi - min_n Q_n],   L_alpha = log alpha (mean H(pi) - H_target)
// critics first, then the actor, then temperature and multiplier.

#ifndef RGM_AGENT_H
#define RGM_AGENT_H

#include "algorithms/nets.h"

// Keys that agents share. The keys of an algorithm with an agent begin with them.
typedef struct rgm_agent_keys {
  rgm_list actor_hidden, critic_hidden;
  char target_entropy[RGM_STRING_SIZE];
  int64_t batch, critics;
  int temperature, alpha_loss, decay, activation;
  bool backup_entropy, share_forward;
  double actor_lr, critic_lr, alpha_lr, beta1, beta2, eps;
  double gamma, tau, alpha, log_sd_low, log_sd_high, huber, clip, warmup, decay_steps;
} rgm_agent_keys;

// Keys of a conservative term.
typedef struct rgm_push_keys {
  double beta, temperature, threshold, multiplier_lr;
  int64_t samples;
  bool lagrange;
} rgm_push_keys;

extern const char *const rgm_agent_temperatures[]; // "fixed", "auto", NULL
extern const char *const rgm_agent_alpha_losses[]; // "linear", "exp", NULL
extern const char *const rgm_agent_decays[];       // "none", "linear", "cosine", NULL
extern const char *const rgm_agent_activations[];  // "relu", "tanh", NULL

// clang-format off
#define RGM_AGENT_KEY(member) offsetof(rgm_agent_keys, member)
#define RGM_AGENT_FIELDS                                                                           \
  {"actor_hidden", RGM_LIST, RGM_AGENT_KEY(actor_hidden), "units", "[256, 256]", 1, 4096, NULL,    \
   RGM_SHAPE, "Widths of the actor's hidden layers."},                                             \
  {"critic_hidden", RGM_LIST, RGM_AGENT_KEY(critic_hidden), "units", "[256, 256]", 1, 4096, NULL,  \
   RGM_SHAPE, "Widths of each critic's hidden layers."},                                           \
  {"activation", RGM_CHOICE, RGM_AGENT_KEY(activation), "", "relu", 0, 0, rgm_agent_activations,   \
   RGM_SHAPE, "Activation of hidden layers."},                                                     \
  {"critics", RGM_INT, RGM_AGENT_KEY(critics), "1", "2", 1, 16, NULL, RGM_SHAPE,                   \
   "How many critics there are; targets and actor take the least."},                               \
  {"batch", RGM_INT, RGM_AGENT_KEY(batch), "rows", "256", 1, 65536, NULL, RGM_SHAPE,               \
   "Transitions of an update."},                                                                   \
  {"actor_lr", RGM_FLOAT, RGM_AGENT_KEY(actor_lr), "1", "3e-4", 0, 1, NULL, 0,                     \
   "Adam's rate of the actor."},                                                                   \
  {"critic_lr", RGM_FLOAT, RGM_AGENT_KEY(critic_lr), "1", "3e-4", 0, 1, NULL, 0,                   \
   "Adam's rate of the critics."},                                                                 \
  {"alpha_lr", RGM_FLOAT, RGM_AGENT_KEY(alpha_lr), "1", "3e-4", 0, 1, NULL, 0,                     \
   "Adam's rate of the temperature."},                                                             \
  {"beta1", RGM_FLOAT, RGM_AGENT_KEY(beta1), "1", "0.9", 0, 0.999999, NULL, 0,                     \
   "Adam's decay of first moments."},                                                              \
  {"beta2", RGM_FLOAT, RGM_AGENT_KEY(beta2), "1", "0.999", 0, 0.9999999, NULL, 0,                  \
   "Adam's decay of second moments."},                                                             \
  {"eps", RGM_FLOAT, RGM_AGENT_KEY(eps), "1", "1e-8", 1e-16, 1, NULL, 0,                           \
   "Adam's guard against division by zero."},                                                      \
  {"warmup", RGM_FLOAT, RGM_AGENT_KEY(warmup), "updates", "0", 0, 1e9, NULL, 0,                    \
   "Updates over which the rates of actor and critics rise from 0."},                              \
  {"decay", RGM_CHOICE, RGM_AGENT_KEY(decay), "", "none", 0, 0, rgm_agent_decays, RGM_SHAPE,       \
   "How these rates fall to 0 at decay_steps."},                                                   \
  {"decay_steps", RGM_FLOAT, RGM_AGENT_KEY(decay_steps), "updates", "1e6", 1, 1e9, NULL, 0,        \
   "Updates at whose end decaying rates are 0."},                                                  \
  {"clip", RGM_FLOAT, RGM_AGENT_KEY(clip), "1", "0", 0, 1e9, NULL, RGM_SHAPE,                      \
   "Most norm of a net's gradient; 0: any."},                                                      \
  {"huber", RGM_FLOAT, RGM_AGENT_KEY(huber), "1", "0", 0, 1e9, NULL, RGM_SHAPE,                    \
   "Error from which on the critics' loss is linear; 0: squares throughout."},                     \
  {"gamma", RGM_FLOAT, RGM_AGENT_KEY(gamma), "1", "0.99", 0, 1, NULL, 0, "Discount of a step."},   \
  {"tau", RGM_FLOAT, RGM_AGENT_KEY(tau), "1", "0.005", 0, 1, NULL, 0,                              \
   "Share of the critics that goes into their targets at each update."},                           \
  {"temperature", RGM_CHOICE, RGM_AGENT_KEY(temperature), "", "auto", 0, 0,                        \
   rgm_agent_temperatures, RGM_SHAPE, "fixed: alpha stays; auto: it holds the target entropy."},   \
  {"alpha", RGM_FLOAT, RGM_AGENT_KEY(alpha), "1", "1", 1e-6, 1e3, NULL, 0,                         \
   "Temperature at the start."},                                                                   \
  {"alpha_loss", RGM_CHOICE, RGM_AGENT_KEY(alpha_loss), "", "linear", 0, 0,                        \
   rgm_agent_alpha_losses, RGM_SHAPE,                                                              \
   "Its loss: linear in log alpha, or exp (the slope grows with alpha, as in d3rlpy)."},           \
  {"target_entropy", RGM_STRING, RGM_AGENT_KEY(target_entropy), "nat", "auto", 0, 0, NULL, 0,      \
   "Entropy to hold; auto: 0.98 log A of A classes; of D actions -D, as if the box of each "       \
   "were [-1, 1]."},                                                                               \
  {"backup_entropy", RGM_BOOL, RGM_AGENT_KEY(backup_entropy), "", "true", 0, 0, NULL, RGM_SHAPE,   \
   "Whether targets count entropy."},                                                              \
  {"share_forward", RGM_BOOL, RGM_AGENT_KEY(share_forward), "", "true", 0, 0, NULL, RGM_SHAPE,     \
   "Classes: the actor learns from the critics of before their update, which saves a pass."},      \
  {"log_sd_low", RGM_FLOAT, RGM_AGENT_KEY(log_sd_low), "1", "-5", -30, 10, NULL, 0,                \
   "Least log standard deviation of a continuous action before tanh."},                            \
  {"log_sd_high", RGM_FLOAT, RGM_AGENT_KEY(log_sd_high), "1", "2", -30, 10, NULL, 0,               \
   "Greatest one."}

// KEYS is the algorithm's struct, whose member `push` is an rgm_push_keys
#define RGM_PUSH_FIELDS(KEYS)                                                                      \
  {"beta", RGM_FLOAT, offsetof(KEYS, push.beta), "1", "1", 0, 1e6, NULL, 0,                        \
   "Weight of the conservative term beside half the squared error."},                              \
  {"push_temperature", RGM_FLOAT, offsetof(KEYS, push.temperature), "1", "1", 1e-3, 1e3, NULL, 0,  \
   "Temperature of its log-sum-exp."},                                                             \
  {"samples", RGM_INT, offsetof(KEYS, push.samples), "1", "10", 1, 1000, NULL, RGM_SHAPE,          \
   "Continuous: actions drawn from each of the box, the policy and the policy one step later."},   \
  {"lagrange", RGM_BOOL, offsetof(KEYS, push.lagrange), "", "false", 0, 0, NULL, RGM_SHAPE,        \
   "Whether a multiplier of beta holds the gap of values at the threshold."},                      \
  {"threshold", RGM_FLOAT, offsetof(KEYS, push.threshold), "1", "5", -1e6, 1e6, NULL, 0,           \
   "What beta times the gap is held at."},                                                         \
  {"multiplier_lr", RGM_FLOAT, offsetof(KEYS, push.multiplier_lr), "1", "1e-4", 0, 1, NULL, 0,     \
   "Adam's rate of the multiplier."}
// clang-format on

// What an agent acts in.
typedef struct rgm_problem {
  int64_t obs, dims;               // S; D, 1 for classes
  int choices;                     // classes; 0: actions are continuous
  const float *mean, *sd;          // (S) of observations; NULL: they are taken as they are
  const float *act_low, *act_high; // (D) the box of continuous actions; NULL: [0, 1] each
} rgm_problem;

// Transitions of one update. Rows from `real` on come from a model.
typedef struct rgm_batch {
  rgm_tensor obs, next;          // (R, B, S)
  rgm_tensor act;                // (R, B, D)
  rgm_tensor reward, terminated; // (R, B, 1)
} rgm_batch;

enum { RGM_BATCH_COLUMNS = 5 }; // as an rgm_ring has them: obs, act, reward, next, terminated

// Room for B rows of G replicas, "NAME/obs", ...; and that of the first `count` of them.
rgm_batch rgm_plan_batch(rgm_run *run, const char *name, int64_t group, int64_t rows,
                         const rgm_problem *problem);
rgm_batch rgm_slice_batch(const rgm_batch *batch, int64_t count);

// Whether a report follows the step that is about to be done.
bool rgm_reports_next(const rgm_run *run);

// One number per replica, and more that is a replica's own.
typedef struct rgm_agent_own {
  rgm_tensor log_alpha, alpha_m, alpha_v, alpha_updates;                     // (R)
  rgm_tensor log_multiplier, multiplier_m, multiplier_v, multiplier_updates; // (R)
  rgm_tensor mean, sd;                                                       // (R, S)
  rgm_tensor scale, shift;                                                   // (R, D)
  rgm_tensor actor_lr, critic_lr, alpha_lr, multiplier_lr, beta1, beta2, eps;
  rgm_tensor gamma, tau, low, high, huber, clip, warmup, decay_steps;
  rgm_tensor beta, temperature, threshold, target_entropy, plus, minus; // plus 1, minus -1
  rgm_tensor actor_rate, critic_rate;                                   // of this update
  rgm_tensor seeds, clock, active;
  // of the last update that was looked at
  rgm_tensor critic_loss, gap, value, actor_loss, entropy, alpha, multiplier;
} rgm_agent_own;

// What an update computes for a group of replicas.
typedef struct rgm_agent_work {
  rgm_tensor y, entropy, log_pi, next_log_pi; // (G, B)
  rgm_tensor pi_act, next_act;                // (G, B, D)
  rgm_tensor sampled_act, log_q;              // (G, 3 B K, D), (G, 3 B K)
  rgm_tensor x, next_x, pi_x;                 // (G, B + 3 B K, S + D), (G, B, S + D)
  rgm_tensor dx;                              // (G, N, B, S + D)
  rgm_tensor dq, dpi;                         // (G, N, B + 3 B K, O), (G, N, B, O)
  rgm_tensor dhead;                           // (G, 1, B, O)
  rgm_tensor critic_loss, gap, actor_loss;    // (G, N, B), (G, N, B), (G, B)
  rgm_tensor alpha_grad, multiplier_grad;     // (G)
} rgm_agent_work;

typedef struct rgm_agent {
  rgm_problem problem;
  rgm_agent_keys keys; // of replica 0: what shapes there are
  rgm_push push;
  int64_t samples; // K of the conservative term, 0 where none are drawn
  bool lagrange, normalises;
  bool actor_late; // its pass begins when the critics are done, in their memory
  rgm_agent_own own;
  rgm_agent_work work;
  rgm_pass actor_pass, next_pass;             // (G, B)
  rgm_pass critic_pass, target_pass, pi_pass; // (G, B + 3 B K), (G, B), (G, B)
  rgm_nets actor, critic;                     // large and mostly room: slices copy what precedes
} rgm_agent;

// Checks keys with each other and with the problem: RGM_ECONFIG with file and line.
rgm_status rgm_agent_check(const rgm_run *run, const rgm_problem *problem);

// Names its tensors: `push` and `push_offset` (of rgm_push_keys in the algorithm's keys) say what
// is conservative about it; RGM_PUSH_NONE: nothing.
void rgm_agent_plan(rgm_run *run, rgm_agent *agent, const rgm_problem *problem, rgm_push push,
                    size_t push_offset);
rgm_status rgm_agent_init(rgm_run *run, rgm_agent *agent);

// Replicas first ... first + count - 1 of it; work and passes are the group's.
void rgm_slice_agent(const rgm_agent *whole, int64_t first, int64_t count, rgm_agent *out);

// What an update does: it learns; it computes what rgm_agent_report reads, of the nets as they
// were before.
enum { RGM_LEARN = 1, RGM_LOOK = 2 };

// One update of a sliced agent, whose batch is normalised in place. `real` (R) u32 is as in
// rgm_critic, data NULL: all rows. `turn` says which update of the step it is.
void rgm_agent_update(rgm_stream *s, const rgm_agent *agent, const rgm_batch *batch,
                      rgm_tensor real, uint32_t turn, unsigned what);

// Actions (R, M, D) at obs (R, M, S) of whole or sliced agents, and their log-densities (R, M);
// `member` tells draws of one step apart. `seen` is room for obs, as large. UNIFORM needs no pass.
void rgm_agent_act(rgm_stream *s, const rgm_agent *agent, const rgm_pass *pass, rgm_tensor seen,
                   rgm_tensor obs, rgm_tensor act, rgm_tensor log_pi, rgm_draw draw,
                   uint32_t member);

// Rows of metrics: losses, values, entropy, temperature.
rgm_status rgm_agent_report(rgm_run *run, const rgm_agent *agent);

#endif
