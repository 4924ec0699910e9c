// SPDX-License-Identifier: Apache-2.0
// The kernel table. A kernel is one row of rgm_backend; kernels/cpu and kernels/cuda fill the same
// rows. Callers use the front doors below, which check shapes once, count flops and bytes and
// dispatch. A call only enqueues work on a stream; rgm_sync is the one place where it must be done.
//
// Shapes: R replicas lead every tensor; N, B rows; I inputs; O outputs (padded to a multiple of
// 16). Hyperparameters are f32 vectors (R) in device memory. `active` (R) u32 masks finished
// replicas: where it is 0, a kernel that says "masked" leaves its outputs untouched, bit for bit.
// A parameter of a front door is overwritten if it stands before the first input; nothing aliases
// unless said. Sums over rows: in order with fma within blocks of 256 rows, then a pairwise tree
// over the blocks (distance 1, 2, 4, ...), so that bits depend on neither threads nor vector
// width.

#ifndef RGM_KERNELS_H
#define RGM_KERNELS_H

#include "kernels/base.h"
#include "kernels/prediction.h"
#include "kernels/regression.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct rgm_stream rgm_stream;
typedef struct rgm_backend rgm_backend;
typedef struct rgm_env_kernels rgm_env_kernels;

// arguments of the rows of tabular problems: kernels/tabular.h
typedef struct rgm_bellman rgm_bellman;
typedef struct rgm_mdp_pick rgm_mdp_pick;
typedef struct rgm_mdp_solve rgm_mdp_solve;
typedef struct rgm_mdp_draw rgm_mdp_draw;
typedef struct rgm_mdp_learn rgm_mdp_learn;
typedef struct rgm_nearest_centre rgm_nearest_centre;
typedef struct rgm_induction rgm_induction;

enum { RGM_BACKEND_ABI = 8, RGM_ROW_BLOCK = 256 };

typedef enum rgm_act {
  RGM_LINEAR = 0,
  RGM_RELU = 1,
  RGM_TANH = 2,
  RGM_SIGMOID = 3,
} rgm_act;

// Streams of random numbers; see kernels/rng.h for what a counter means in each.
typedef enum rgm_random {
  RGM_RANDOM_INIT = 1,    // initial weights: item = element, member = tensor
  RGM_RANDOM_PATIENT = 2, // patients: step, item = patient, draw
  RGM_RANDOM_NOISE = 3,   // measurement noise and actions: step, item = episode, draw = time / 2;
                          // members 1, 2, ...: an environment's further noise, draw = time
  RGM_RANDOM_SEARCH = 4,  // candidates of a search: step, item = candidate, draw = dim / 4
  RGM_RANDOM_SWEEP = 5,   // points of a sweep: step = trial, item = dimension, draw
  RGM_RANDOM_SPLIT = 6,   // parts of a data set: step, item = words of the patient's number
  RGM_RANDOM_REPLAY = 7,  // rows of a batch: step, item = row, draw = attempt / 4, member
  RGM_RANDOM_ACTION = 8,  // actions of a policy: step, item = sample, draw = dim / 4, member
  RGM_RANDOM_MODEL = 9,   // a learned model: step, item = row, draw = output / 4, member (of the
                          // elites: item = group of rows, draw = attempt / 4, member + 2^31)
  RGM_RANDOM_BOOTSTRAP = 12, // a problem drawn again: step, item = row, draw = transition / 4,
                             // member
  RGM_RANDOM_LEARN = 13,     // tabular learning: step, item = stream of a replica, draw
  RGM_RANDOM_CLUSTER = 14,   // k-means++: step = restart, item = centre
  RGM_RANDOM_RESAMPLE = 20,  // bootstrap: step = imputation, item = resample, draw = row / 4
  RGM_RANDOM_IMPUTE = 21,    // chains: step = imputation and iteration, item = column, draw = cell
  RGM_RANDOM_FOREST = 22,    // trees: step = table, item = resample, draw = tree, member = model
  RGM_RANDOM_EVAL = 0x100, // added to the above for evaluation, so that test patients are disjoint
} rgm_random;

typedef struct rgm_device_options {
  int threads;     // 0: one for each processor that the process may run on
  const char *isa; // "auto", or one of rgm_cpu_isas
  int device;      // which GPU, counted from 0
} rgm_device_options;

// The rows of the table that compute and that every backend has; and with them those that move
// memory, a library's, and the three of environments.
// clang-format off
#define RGM_OWN_ROWS(X)                                                                            \
  X(linear) X(act_backward) X(linear_dx) X(linear_dw) X(linear_dw_adam)                            \
  X(softmax_xent) X(policy_xent)                                                                   \
  X(soft_target) X(critic_loss) X(actor_loss) X(dual) X(action_draw) X(action_backward)            \
  X(action_score) X(gaussian_nll) X(mse)                                                           \
  X(schedule) X(adam) X(sgd) X(ema) X(gaussian_draw) X(gaussian_refit) X(exponential)              \
  X(replay_append) X(replay_gather) X(normalise) X(concat) X(clip_norm)                            \
  X(sum) X(quantile) X(select) X(enlist) X(uniform) X(advance) X(retire) X(nonfinite)              \
  X(triad) X(burn)                                                                                 \
  X(route) X(model) X(appraise) X(decay_weights) X(adopt)                                          \
  X(windows) X(guide) X(settle) X(worth) X(band)                                                   \
  X(bellman) X(mdp_pick) X(mdp_solve) X(mdp_draw) X(mdp_learn) X(nearest) X(induct)                \
  X(products) X(gram) X(cholesky) X(irls) X(wls) X(pseudo) X(predict) X(resample) X(staged)
#define RGM_ROWS(X)                                                                                \
  X(copy) X(fill) RGM_OWN_ROWS(X) X(library_gemm) X(sample) X(rollout) X(step)
// clang-format on
#define RGM_ROW_INDEX(name) RGM_ROW_##name,
typedef enum rgm_row { RGM_ROWS(RGM_ROW_INDEX) RGM_ROW_COUNT } rgm_row;
extern const char *const rgm_row_names[RGM_ROW_COUNT];

// Work asked of one row of a stream since it was opened. `seconds` is measured only while
// `stream->timed` is set: every launch is then waited for.
typedef struct rgm_counts {
  uint64_t launches;
  double flops, bytes, seconds;
} rgm_counts;

// The first member of every backend's stream.
struct rgm_stream {
  const rgm_backend *backend;
  rgm_stream *host; // the CPU's threads: those beside a GPU, or the stream itself
  bool timed;
  rgm_counts counts[RGM_ROW_COUNT];
};

// A step of Adam on a layer, and of the moving average of its parameters: p, m, v, target are
// [R, I + 1, O], weights and below them the bias, as in a block of rgm_mlp. count (R) u32 is the
// number of steps before this one; target.data NULL: no average is kept. `decay` times the weights,
// not the bias, is added to their gradient (L2: decay |w|^2 / 2 in the loss); data NULL: nothing.
typedef struct rgm_adam_step {
  rgm_tensor p, m, v, target;
  rgm_tensor decay;                                      // (R)
  rgm_tensor count, lr, beta1, beta2, eps, rate, active; // (R)
} rgm_adam_step;

// ---- actors and critics
//
// N critics are an inner axis: q[R,N,B,O] has the values of A actions in columns 0 ... A - 1, of
// one where actions are continuous. Columns from A on are padding: not read, and 0 in gradients.
// A policy's head[R,B,O] has logits, or mu and log sigma of D dims. Gradients have the 1 / B of a
// mean over the batch in them, and so have the shares of a loss: their plain sum is the loss.

// y = reward + gamma (1 - terminated) V(s'), V = sum_a pi(a) (min_n q_n(a) - alpha log pi(a)) of
// discrete actions, min_n q_n - alpha log pi of a drawn one. Masked.
typedef struct rgm_target {
  rgm_tensor y;                  // (R, B), written
  rgm_tensor q;                  // (R, N, B, O) of the target critics at s'
  rgm_tensor head;               // (R, B, O) logits at s'; data NULL: actions are continuous
  rgm_tensor log_pi;             // (R, B) of the actions that q values; read without `head` only
  rgm_tensor reward, terminated; // (R, B); terminated is 1 or 0, whatever cut the episode short
  rgm_tensor gamma;              // (R)
  rgm_tensor log_alpha;          // (R); data NULL: no entropy in the target
  rgm_tensor active;             // (R) u32
  int actions;                   // A
} rgm_target;

// Where a critic is pushed down; it is pushed up at the actions of real rows, each side a mean over
// its own rows. CQL(H) is LOGSUMEXP_MIX of a batch without model rows.
typedef enum rgm_push {
  RGM_PUSH_NONE = 0,            // TD alone
  RGM_PUSH_RHO_SAMPLE = 1,      // q(s, a) of model rows
  RGM_PUSH_RHO_EXPECT = 2,      // sum_a pi(a) q(s, a) of model rows; pi is a constant
  RGM_PUSH_LOGSUMEXP_MODEL = 3, // T log sum_a exp(q(s, a) / T) of model rows
  RGM_PUSH_LOGSUMEXP_MIX = 4,   // the same of all rows
} rgm_push;

// L_n = mean huber(q_n(s, a) - y) + beta gap_n, gap_n = mean_down push - mean_real q_n(s, a), where
// huber(e) is e^2 / 2 up to |e| = delta. With a multiplier beta is clip(exp(.), 0, 1e6) beta.
// Continuous actions: push is T log sum_k exp(q_n(s, a_k) / T - log q(a_k)) over the G K sampled
// actions of a row, of which `sampled` has value (g B + b) K + k; log(G K) is left out. Masked.
typedef struct rgm_critic {
  rgm_tensor dq;             // (R, N, B, O), written
  rgm_tensor dsampled;       // (R, N, G B K, O), written with `sampled`
  rgm_tensor loss, gap;      // (R, N, B), written unless data NULL: shares of L_n, of gap_n
  rgm_tensor q;              // (R, N, B, O)
  rgm_tensor action;         // (R, B) numbers of actions as f32; data NULL: continuous
  rgm_tensor y;              // (R, B)
  rgm_tensor head;           // (R, B, O) logits at s, for RHO_EXPECT
  rgm_tensor sampled;        // (R, N, G B K, O), for LOGSUMEXP of continuous actions
  rgm_tensor log_q;          // (R, G B K), the log-density with which a_k was drawn
  rgm_tensor delta;          // (R); data NULL: 1/2 MSE, as with an infinite one
  rgm_tensor beta;           // (R), read with a push
  rgm_tensor temperature;    // (R): T, read with LOGSUMEXP
  rgm_tensor log_multiplier; // (R); data NULL: none
  rgm_tensor real;           // (R) u32: rows 0 ... real - 1 are real; data NULL: all
  rgm_tensor active;         // (R) u32
  rgm_push push;
  int actions; // A
  int samples; // K
} rgm_critic;

// Discrete: L = mean sum_a pi(a) (alpha log pi(a) - min_n q_n(a)); dz its exact gradient by the
// logits, none by q. Continuous: L = mean (alpha log pi - min_n q_n); dq its gradient by q, -1 / B
// at the least critic (the first of equals), for linear_dx and action_backward. Masked.
typedef struct rgm_actor {
  rgm_tensor dz;        // (R, B, O), written if discrete
  rgm_tensor dq;        // (R, N, B, O), written if continuous
  rgm_tensor loss;      // (R, B), written unless data NULL: shares
  rgm_tensor entropy;   // (R, B), written if discrete unless data NULL: of pi, not divided
  rgm_tensor q;         // (R, N, B, O)
  rgm_tensor head;      // (R, B, O) logits; data NULL: actions are continuous
  rgm_tensor log_pi;    // (R, B), read if continuous
  rgm_tensor log_alpha; // (R)
  rgm_tensor active;    // (R) u32
  int actions;          // A
} rgm_actor;

// How a multiplier m follows h = weight * mean(x) - target.
typedef enum rgm_dual_form {
  RGM_DUAL_LINEAR = 0,   // log m * h, of the temperature: the slope is h, whatever m is
  RGM_DUAL_EXP = 1,      // m h, of the temperature: the slope is m h
  RGM_DUAL_LAGRANGE = 2, // -m h, m = clip(exp(log m), 0, 1e6): the slope is -m h, 0 beyond
} rgm_dual_form;

typedef enum rgm_draw {
  RGM_DRAW_POLICY = 0,  // u = mu + sigma eps
  RGM_DRAW_MEAN = 1,    // u = mu
  RGM_DRAW_UNIFORM = 2, // uniform in the box; reads no head
} rgm_draw;

// M = B K actions of a policy, K for each row of `head`: sample m is of row m / K.
// With choices > 0 an action is a class number, D = 1: by its softmax's inverse distribution, the
// first class whose cumulative probability exceeds a word of philox counter {clock, m, 0, member};
// MEAN takes the greatest logit (the first of equals), UNIFORM any with equal probability.
// Otherwise it is a tanh-Gaussian's: a = scale tanh(u) + shift, log sigma clamped to [low, high],
// log pi(a) = sum_d -eps^2 / 2 - log sigma - log(2 pi) / 2 - 2 (log 2 - u - softplus(-2 u)) - log
// scale. Philox counter {clock, m, d / 4, member}, its words as in gaussian_draw; a uniform dim
// takes a word.
typedef struct rgm_policy_draw {
  rgm_tensor act;          // (R, M, D), written
  rgm_tensor log_pi;       // (R, M), written
  rgm_tensor head;         // (R, B, O): mu in columns 0 ... D - 1, then log sigma; or logits
  rgm_tensor scale, shift; // (R, D), not of classes
  rgm_tensor low, high;    // (R), not of classes
  rgm_tensor seeds;        // (R, 2) u32
  rgm_tensor clock;        // (R) u32
  rgm_tensor active;       // (R) u32, masked
  uint32_t random, member;
  rgm_draw draw;
  int choices; // how many classes there are; 0: actions are continuous
} rgm_policy_draw;

// How a rate goes down after its warm-up.
typedef enum rgm_decay {
  RGM_DECAY_NONE = 0,   // not at all
  RGM_DECAY_LINEAR = 1, // to 0 in a line
  RGM_DECAY_COSINE = 2, // to 0 as half a wave of the cosine
} rgm_decay;

// L_n = mean_{b,k} ((mu - t)^2 exp(-v) + v) + penalty sum_k (max - min), with the log-variance v =
// min + softplus(w - min), w = max - softplus(max - raw), of each net of an ensemble. Masked.
typedef struct rgm_nll {
  rgm_tensor dhead;   // (R, N, B, O), written
  rgm_tensor dbounds; // (R, N, 2, K), written
  rgm_tensor loss;    // (R, N, B), written unless data NULL: shares, without the penalty
  rgm_tensor head;    // (R, N, B, O): mu in columns 0 ... K - 1, then raw log-variances
  rgm_tensor target;  // (R, N, B, K), or of rank 3, (R, B, K), for all nets
  rgm_tensor bounds;  // (R, N, 2, K): max, min
  rgm_tensor penalty; // (R)
  rgm_tensor active;  // (R) u32
} rgm_nll;


// ---- rows of experience

enum { RGM_RING_COLUMNS = 8 };

// A ring of C rows, of which each column is a tensor of its own; the oldest row is overwritten
// first. A data set is a ring that is full: one slice for all replicas (stride 0), head 0, count C.
typedef struct rgm_ring {
  rgm_tensor column[RGM_RING_COLUMNS]; // (R, C, W_k) f32
  rgm_tensor head, count;              // (R) u32: where the next row goes, rows that there are
  int columns;
} rgm_ring;

// B rows, each drawn with replacement, or given. Row b is of `from` if b < share, else of `other`.
// Row numbers count places in the ring, uniform without bias: Lemire's method on the words of
// philox counter {clock, b, attempt / 4, member}. Where a ring is empty, or a given row is not in
// it, the row is NaN. Masked.
typedef struct rgm_gather {
  rgm_tensor row[RGM_RING_COLUMNS]; // (R, B, W_k) f32, written
  rgm_tensor items;                 // (R, B) u32: row numbers, written unless data NULL, or read
  const rgm_ring *from, *other;     // `other` NULL: there is one
  rgm_tensor share;                 // (R) u32, read with `other`
  rgm_tensor seeds, clock, active;  // (R, 2), (R), (R) u32
  uint32_t random, member;
  bool given; // items are read
} rgm_gather;

// of learned models: kernels/dynamics.h
typedef struct rgm_routing rgm_routing;
typedef struct rgm_model_step rgm_model_step;
typedef struct rgm_appraisal rgm_appraisal;

// of guided reward learning: kernels/guided.h
typedef struct rgm_windows rgm_windows;
typedef struct rgm_guide rgm_guide;

struct rgm_backend {
  uint32_t abi_version, size;
  const char *name; // "cpu", "cuda"
  const char *isa;  // "avx2", "avx512", "generic", "sm_90", ...

  // ---- device
  rgm_status (*open)(const rgm_device_options *options, rgm_stream **out);
  void (*close)(rgm_stream *s);
  void (*describe)(const rgm_stream *s, char *text, size_t size);
  rgm_status (*alloc)(rgm_stream *s, size_t bytes,
                      void **out); // zeroed; arena.c is the only caller
  void (*release)(rgm_stream *s, void *memory);
  void (*copy)(rgm_stream *s, void *dst, const void *src, size_t bytes); // any side to any side
  void (*fill)(rgm_stream *s, void *dst, int byte, size_t bytes);
  rgm_status (*sync)(rgm_stream *s); // the only place where a device error can surface
  void (*graph)(rgm_stream *s, int slot, void (*fn)(void *, rgm_stream *), void *arg);

  // ---- MLP
  void (*linear)(rgm_stream *s, rgm_tensor y, rgm_tensor x, rgm_tensor w, rgm_tensor b,
                 rgm_act act);
  void (*act_backward)(rgm_stream *s, rgm_tensor dz, rgm_tensor y, rgm_act act);
  void (*linear_dx)(rgm_stream *s, rgm_tensor dx, rgm_tensor dz, rgm_tensor w, rgm_tensor y,
                    rgm_act act);
  void (*linear_dw)(rgm_stream *s, rgm_tensor dw, rgm_tensor db, rgm_tensor x, rgm_tensor dz);

  void (*linear_dw_adam)(rgm_stream *s, const rgm_adam_step *step, rgm_tensor x, rgm_tensor dz);

  // ---- losses
  void (*softmax_xent)(rgm_stream *s, rgm_tensor loss, rgm_tensor dz, rgm_tensor z,
                       rgm_tensor label, rgm_tensor weight, int classes);
  void (*policy_xent)(rgm_stream *s, rgm_tensor grad, rgm_tensor loss, rgm_tensor work,
                      rgm_tensor x, rgm_tensor z, rgm_tensor label, rgm_tensor weight,
                      rgm_tensor params, rgm_tensor active, int hidden);

  // ---- actors and critics
  void (*soft_target)(rgm_stream *s, const rgm_target *target);
  void (*critic_loss)(rgm_stream *s, const rgm_critic *critic);
  void (*actor_loss)(rgm_stream *s, const rgm_actor *actor);
  void (*dual)(rgm_stream *s, rgm_tensor grad, rgm_tensor mean, rgm_tensor x, rgm_tensor weight,
               rgm_tensor target, rgm_tensor log_dual, rgm_tensor active, float scale,
               rgm_dual_form form);
  void (*action_draw)(rgm_stream *s, const rgm_policy_draw *draw);
  void (*action_backward)(rgm_stream *s, rgm_tensor dhead, rgm_tensor dx, rgm_tensor log_alpha,
                          const rgm_policy_draw *draw, int64_t column);
  void (*action_score)(rgm_stream *s, rgm_tensor dhead, const rgm_policy_draw *given);
  void (*gaussian_nll)(rgm_stream *s, const rgm_nll *nll);
  void (*mse)(rgm_stream *s, rgm_tensor y, rgm_tensor head, rgm_tensor target);

  // ---- optimisers
  void (*schedule)(rgm_stream *s, rgm_tensor y, rgm_tensor base, rgm_tensor clock,
                   rgm_tensor warmup, rgm_tensor total, rgm_decay decay);
  void (*adam)(rgm_stream *s, rgm_tensor p, rgm_tensor m, rgm_tensor v, rgm_tensor count,
               rgm_tensor g, rgm_tensor lr, rgm_tensor beta1, rgm_tensor beta2, rgm_tensor eps,
               rgm_tensor active);
  void (*sgd)(rgm_stream *s, rgm_tensor p, rgm_tensor velocity, rgm_tensor g, rgm_tensor lr,
              rgm_tensor momentum, rgm_tensor active);
  void (*ema)(rgm_stream *s, rgm_tensor target, rgm_tensor p, rgm_tensor rate, rgm_tensor active);

  // ---- search without gradients
  void (*gaussian_draw)(rgm_stream *s, rgm_tensor x, rgm_tensor mean, rgm_tensor log_sd,
                        rgm_tensor seeds, rgm_tensor clock, uint32_t random, rgm_tensor active);
  void (*gaussian_refit)(rgm_stream *s, rgm_tensor mean, rgm_tensor log_sd, rgm_tensor x,
                         rgm_tensor weight, rgm_tensor rate, rgm_tensor floor, rgm_tensor active);
  void (*exponential)(rgm_stream *s, rgm_tensor y, rgm_tensor x, rgm_tensor active);

  // ---- rows of experience
  void (*replay_append)(rgm_stream *s, const rgm_ring *to, const rgm_tensor *rows, rgm_tensor keep,
                        rgm_tensor active);
  void (*replay_gather)(rgm_stream *s, const rgm_gather *gather);
  void (*normalise)(rgm_stream *s, rgm_tensor y, rgm_tensor x, rgm_tensor mean, rgm_tensor sd,
                    bool inverse);
  void (*concat)(rgm_stream *s, rgm_tensor x, rgm_tensor state, rgm_tensor action, int classes);
  void (*clip_norm)(rgm_stream *s, rgm_tensor g, rgm_tensor norm, rgm_tensor limit,
                    rgm_tensor active);

  // ---- data: reductions, selection, random fills, counters
  void (*sum)(rgm_stream *s, rgm_tensor y, rgm_tensor x, float scale);
  void (*quantile)(rgm_stream *s, rgm_tensor y, rgm_tensor work, rgm_tensor x, rgm_tensor q);
  void (*select)(rgm_stream *s, rgm_tensor weight, rgm_tensor x, rgm_tensor threshold);
  void (*enlist)(rgm_stream *s, rgm_tensor items, rgm_tensor share, rgm_tensor count,
                 rgm_tensor lost, rgm_tensor weight, rgm_tensor active);
  void (*uniform)(rgm_stream *s, rgm_tensor x, rgm_tensor seeds, uint32_t random, uint32_t member,
                  float low, float high, int64_t last_dim);
  void (*advance)(rgm_stream *s, rgm_tensor count, rgm_tensor active);
  void (*retire)(rgm_stream *s, rgm_tensor active, rgm_tensor x, rgm_tensor bound);
  void (*nonfinite)(rgm_stream *s, rgm_tensor count, rgm_tensor x);

  // ---- yardsticks
  void (*triad)(rgm_stream *s, rgm_tensor y, rgm_tensor x, rgm_tensor z, float scale);
  double (*burn)(rgm_stream *s, int64_t rounds);
  rgm_status (*library)(rgm_stream *s, char *text, size_t size); // NULL, both: there is none
  void (*library_gemm)(rgm_stream *s, rgm_tensor c, rgm_tensor a, rgm_tensor b, bool transpose_a,
                       bool transpose_b);

  // ---- learned models (kernels/dynamics.h)
  void (*route)(rgm_stream *s, rgm_tensor x, rgm_tensor from, const rgm_routing *routing);
  void (*model)(rgm_stream *s, const rgm_model_step *step);
  void (*appraise)(rgm_stream *s, const rgm_appraisal *appraisal);
  void (*decay_weights)(rgm_stream *s, rgm_tensor g, rgm_tensor p, rgm_tensor rate,
                        rgm_tensor active);
  void (*adopt)(rgm_stream *s, rgm_tensor to, rgm_tensor from, rgm_tensor chosen, uint32_t number);

  // ---- guided reward learning (kernels/guided.h)
  void (*windows)(rgm_stream *s, const rgm_windows *windows);
  void (*guide)(rgm_stream *s, const rgm_guide *guide);
  void (*settle)(rgm_stream *s, rgm_tensor scale, rgm_tensor count, rgm_tensor x, rgm_tensor rate,
                 rgm_tensor active, int64_t rows);
  void (*worth)(rgm_stream *s, rgm_tensor y, rgm_tensor x, rgm_tensor scale, rgm_tensor limit);
  void (*band)(rgm_stream *s, rgm_tensor y, rgm_tensor x, int64_t column, float low, float high);

  // The rows of an environment's loop ("propofol", "eleveld") that came with this backend, NULL if
  // it has none of this name. The CPU's are part of the program, by instruction set: NULL there.
  const rgm_env_kernels *(*env_kernels)(const char *name);

  // ---- tabular Markov decision problems
  void (*bellman)(rgm_stream *s, const rgm_bellman *bellman);
  void (*mdp_pick)(rgm_stream *s, const rgm_mdp_pick *pick);
  void (*mdp_solve)(rgm_stream *s, const rgm_mdp_solve *solve);
  void (*mdp_draw)(rgm_stream *s, const rgm_mdp_draw *draw);
  void (*mdp_learn)(rgm_stream *s, const rgm_mdp_learn *learn);
  void (*nearest)(rgm_stream *s, const rgm_nearest_centre *nearest);
  void (*induct)(rgm_stream *s, const rgm_induction *induct);
  // ---- regressions (kernels/regression.h)
  void (*products)(rgm_stream *s, rgm_tensor out, rgm_tensor z);
  void (*gram)(rgm_stream *s, rgm_tensor gram, rgm_tensor products, rgm_tensor weight);
  void (*cholesky)(rgm_stream *s, rgm_tensor gram, rgm_tensor right, rgm_tensor status);
  void (*irls)(rgm_stream *s, const rgm_irls *fit);
  void (*wls)(rgm_stream *s, const rgm_wls *fit);
  void (*pseudo)(rgm_stream *s, const rgm_pseudo *pseudo);
  void (*predict)(rgm_stream *s, const rgm_predict *predict);
  void (*resample)(rgm_stream *s, const rgm_resample *resample);
  void (*staged)(rgm_stream *s, const rgm_stages *staged);
};


// ---- whole episodes ----------------------------------------------------------------------------
// The table of a backend ends here; environments bring three more rows each, compiled from one
// header for every backend (kernels/env_loop.h). R replicas, P patients, K episodes (P divides K:
// episode e has patient e / (K / P)), T steps.

typedef enum rgm_control {
  RGM_CONTROL_STOCHASTIC = 0,    // policy: action 1 with probability p, else 0
  RGM_CONTROL_DETERMINISTIC = 1, // policy: action 1 where p > 1/2
  RGM_CONTROL_CONTINUOUS = 2,    // policy: action p
  RGM_CONTROL_PID = 3,           // params: kp, ki [1/s], kd [s]
  RGM_CONTROL_OPEN_LOOP = 4,     // the actions are read from `act`
  RGM_CONTROL_CLINICIAN = 5,     // the environment's own rule, where it has one; its params
} rgm_control;

// Draws patients for every replica. Masked.
typedef struct rgm_cohort {
  rgm_tensor patients; // (R, P, words) f32, written
  rgm_tensor config;   // (R, bytes) u8: the environment's constants of each replica
  rgm_tensor seeds;    // (R, 2) u32
  rgm_tensor clock;    // (R) u32: counter word `step`
  rgm_tensor active;   // (R) u32
  uint32_t random;     // RGM_RANDOM_PATIENT, plus RGM_RANDOM_EVAL for test patients
  int64_t first;       // counter word `item` of patient 0
} rgm_cohort;

// Runs whole episodes, environment and controller fused. Outputs with data NULL are not
// written, but `returns` always is. Where `items` is given, slot k < count[r] runs episode
// items[r,k] of a batch of `episodes` again, with its patient and its random numbers: the same
// bits. The other slots return 0, and nothing else of them is written; K counts slots then, and
// RGM_CONTROL_OPEN_LOOP reads the actions of slots.
typedef struct rgm_rollout {
  rgm_tensor returns;  // (R, K) f32, written: sum of rewards, in blocks of 16 steps
  rgm_tensor obs;      // (R, K, T, O) f32, written
  rgm_tensor act;      // (R, K, T, A) f32, written; read by RGM_CONTROL_OPEN_LOOP
  rgm_tensor logits;   // (R, K, T) f32, written by policies: of action 1 against 0
  rgm_tensor signals;  // (R, K, T, S) f32, written: what evaluation looks at
  rgm_tensor patients; // (R, P, words) f32
  rgm_tensor config;   // (R, bytes) u8
  rgm_tensor params;   // (R, W) f32 of the controller
  rgm_tensor seeds;    // (R, 2) u32
  rgm_tensor clock;    // (R) u32: counter word `step`
  rgm_tensor active;   // (R) u32, masked
  rgm_tensor items;    // (R, K) u32 below `episodes`; data NULL: slot k runs episode k
  rgm_tensor count;    // (R) u32, read with `items`; more than K is K
  rgm_control control;
  int hidden;       // of the policy
  uint32_t random;  // RGM_RANDOM_NOISE, plus RGM_RANDOM_EVAL
  int64_t first;    // counter word `item` of episode 0
  int64_t steps;    // T
  int64_t episodes; // of the batch that `items` points into; read with `items`
} rgm_rollout;

// One step of E episodes side by side, each with a patient of its own; or (`begin`) their
// beginning, without a step. Random numbers have the counters of a rollout whose `clock` is the
// episode's: the clock of its first step, that is `clock` at `begin`, and one more than now where
// an episode begins within a step. So the caller advances the clock with every step; an episode has
// the bits that RGM_CONTROL_OPEN_LOOP gives its actions at its clock. Masked.
typedef struct rgm_stepping {
  rgm_tensor state;      // (R, E, words) f32, read and written: all that an episode is, its bits
                         // meaning something to this row alone
  rgm_tensor obs;        // (R, E, O) f32, written: what is seen now, of the new episode where one
                         // ended
  rgm_tensor next;       // (R, E, O) f32, written unless data NULL or `begin`: what is seen after
                         // the action, in the episode that was acted in
  rgm_tensor reward;     // (R, E) f32, written unless `begin`
  rgm_tensor terminated; // (R, E) f32, 1 where the environment ended the episode; as above
  rgm_tensor truncated;  // (R, E) f32, 1 where it reached `steps` and did not terminate; as above
  rgm_tensor finished;   // (R, E) f32, written unless data NULL or `begin`: the return of an
                         // episode that ended in this step, NaN elsewhere
  rgm_tensor signals;    // (R, E, S) f32, written unless data NULL or `begin`
  rgm_tensor act;        // (R, E, A) f32, read unless `begin`
  rgm_tensor patients;   // (R, E, patient words) f32, read at `begin`; data NULL: they are drawn
  rgm_tensor config;     // (R, bytes) u8
  rgm_tensor seeds;      // (R, 2) u32
  rgm_tensor clock;      // (R) u32
  rgm_tensor active;     // (R) u32
  uint32_t patient;      // RGM_RANDOM_PATIENT, plus RGM_RANDOM_EVAL: of patients drawn
  uint32_t noise;        // RGM_RANDOM_NOISE, plus RGM_RANDOM_EVAL
  int64_t first;         // counter word `item` of episode 0
  int64_t steps;         // T, of an episode
  bool begin;            // all episodes begin anew, and no step is taken
  bool hold;             // an episode that ended does not begin anew: the environment says what
                         // follows, and its flags stay 1
} rgm_stepping;

// An environment's rows on one backend.
struct rgm_env_kernels {
  const char *isa; // of the backend that they belong to
  int obs;         // O
  int64_t words;   // of an episode's state in rgm_stepping
  void (*sample)(rgm_stream *s, const rgm_cohort *cohort);
  void (*rollout)(rgm_stream *s, const rgm_rollout *rollout);
  void (*step)(rgm_stream *s, const rgm_stepping *stepping);
};


// ---- backends ----------------------------------------------------------------------------------

// Opens "cpu", "cuda" or "auto"; `note` gets one line that says what was chosen and why. CUDA is a
// module, libregimen_cuda.so, that is opened where there are a driver and a device: beside the
// program, in the library folder of the installation, or where RGM_CUDA_MODULE says.
// Errors: RGM_EDEVICE (no such device, CPU without AVX2 and FMA), RGM_EUSAGE, RGM_EMEMORY.
rgm_status rgm_open(const char *backend, const rgm_device_options *options, rgm_stream **out,
                    char *note, size_t note_size);
void rgm_close(rgm_stream *s);
void rgm_describe(const rgm_stream *s, char *text, size_t size);

// Instruction sets that this build carries and this processor runs, best first, ended by NULL.
const char *const *rgm_cpu_isas(void);

// Runs fn(arg, index) for index 0..count-1 on the CPU stream's threads: thread t takes a fixed,
// contiguous share. Only for CPU streams.
void rgm_cpu_parallel(rgm_stream *s, int64_t count, void (*fn)(void *arg, int64_t index),
                      void *arg);
int rgm_cpu_threads(const rgm_stream *s);

// Whether tensors of the stream lie in the host's memory and rgm_cpu_parallel may be called.
bool rgm_is_cpu(const rgm_stream *s);

// The CPU's threads for what a GPU does not do: a CPU stream that lives with s, or s itself.
rgm_stream *rgm_host(const rgm_stream *s);

// How many of a pack's replicas a step had best take at a time (rgm_slice): one for each thread of
// a CPU, whose caches then hold what the step's rows hand to each other; all on a GPU.
int64_t rgm_group(const rgm_stream *s, int64_t replicas);


// Seconds of a clock that only rises, for measuring.
double rgm_seconds(void);


// ---- front doors -------------------------------------------------------------------------------

void rgm_copy(rgm_stream *s, void *dst, const void *src, size_t bytes);
void rgm_fill(rgm_stream *s, rgm_tensor x, int byte);
rgm_status rgm_sync(rgm_stream *s);
void rgm_graph(rgm_stream *s, int slot, void (*fn)(void *, rgm_stream *), void *arg);

// y[R,B,O] = act(x[R,B,I] @ w[R,I,O] + b[R,O]); the sum starts at b and runs over i in order.
void rgm_linear(rgm_stream *s, rgm_tensor y, rgm_tensor x, rgm_tensor w, rgm_tensor b, rgm_act act);

// dz[R,B,O] *= act'(z), in place, from the layer's output y = act(z).
void rgm_act_backward(rgm_stream *s, rgm_tensor dz, rgm_tensor y, rgm_act act);

// dx[R,B,I] = (dz[R,B,O] @ w[R,I,O]^T) * act'(z); the sum runs over o in order. y[R,B,I] = act(z)
// is what the layer before put out; with y.data NULL the factor is left out.
void rgm_linear_dx(rgm_stream *s, rgm_tensor dx, rgm_tensor dz, rgm_tensor w, rgm_tensor y,
                   rgm_act act);

// dw[R,I,O] = x[R,B,I]^T @ dz[R,B,O] and db[R,O] = sum over rows of dz (row-block order).
void rgm_linear_dw(rgm_stream *s, rgm_tensor dw, rgm_tensor db, rgm_tensor x, rgm_tensor dz);

// linear_dw, decay_weights, adam and ema in one pass that keeps no gradient: the same bits as those
// rows one after the other on each of its parameters. Reads step->count and leaves it; rgm_advance
// once per update. Masked.
void rgm_linear_dw_adam(rgm_stream *s, const rgm_adam_step *step, rgm_tensor x, rgm_tensor dz);

// loss[R,B] = weight * (log sum_c exp z_c - z_label), dz[R,B,O] = weight * (softmax(z) - onehot);
// label[R,B] holds class numbers as f32, columns from `classes` on are padding and get dz = 0.
void rgm_softmax_xent(rgm_stream *s, rgm_tensor loss, rgm_tensor dz, rgm_tensor z, rgm_tensor label,
                      rgm_tensor weight, int classes);

// Fused gradient of the mean cross-entropy of a policy I -> hidden (ReLU) -> 2 (softmax), over G
// groups (episodes) of T rows: x[R,G,T,I], z[R,G,T] the logits (of 1 against 0) that `params` gives
// there, as a rollout writes them, label[R,G,T] in {0, 1} (or a probability), weight[R,G].
// loss[R] = sum_g weight_g / T sum_t xent, grad[R,W] its gradient in the layout of `params`
// (rgm_mlp). Groups of weight 0 cost nothing; fastest where the last input changes seldom. Masked.
// work: rgm_policy_xent_work floats per replica.
void rgm_policy_xent(rgm_stream *s, rgm_tensor grad, rgm_tensor loss, rgm_tensor work, rgm_tensor x,
                     rgm_tensor z, rgm_tensor label, rgm_tensor weight, rgm_tensor params,
                     rgm_tensor active, int hidden);
int64_t rgm_policy_xent_work(int64_t groups, int64_t rows, int64_t inputs, int64_t hidden);

// Rows of actors and critics; their structs say what they do. An update of a critic is soft_target,
// critic_loss, linear_dx and linear_dw_adam; every launch of it can be captured.
void rgm_soft_target(rgm_stream *s, const rgm_target *target);
void rgm_critic_loss(rgm_stream *s, const rgm_critic *critic);
void rgm_actor_loss(rgm_stream *s, const rgm_actor *actor);

// mean[R] = scale * sum of x[R,...] (row-block order over the flattened elements), grad[R] = the
// slope by log_dual[R] of the multiplier's loss at h = weight[R] mean - target[R]. Temperature: x
// is the entropy and scale 1 / B, or log pi and weight -1. Lagrange: x is the gap of critic_loss
// and scale 1 / N. log_dual.data may be NULL if the form is linear, mean.data always. Masked.
void rgm_dual(rgm_stream *s, rgm_tensor grad, rgm_tensor mean, rgm_tensor x, rgm_tensor weight,
              rgm_tensor target, rgm_tensor log_dual, rgm_tensor active, float scale,
              rgm_dual_form form);

// Whether a target entropy [nats] can be held by a policy over so many actions: it lies between 0
// and log(actions). RGM_ECONFIG with a text otherwise; `key` is the name to blame.
rgm_status rgm_entropy_check(const char *key, double target, int actions);

void rgm_action_draw(rgm_stream *s, const rgm_policy_draw *draw);

// dhead[R,B,O] = gradient of mean(alpha log pi) + (what dx says) by mu and log sigma, K = 1. The
// slope by the action is the sum over n, in order, of columns `column` ... `column` + D - 1 of
// dx[R,N,B,I], the critics' gradients by their inputs; dx.data NULL: there is none. eps comes from
// the same counters again. Where log sigma was clamped its gradient is 0. log_alpha.data NULL:
// alpha is 0. draw->act and ->log_pi are not touched. Masked.
void rgm_action_backward(rgm_stream *s, rgm_tensor dhead, rgm_tensor dx, rgm_tensor log_alpha,
                         const rgm_policy_draw *draw, int64_t column);

// Log-densities of given actions: log_pi[R,B] of act[R,B,D] (K = 1), of a class its log-softmax, of
// a tanh-Gaussian at u = atanh((a - shift) / scale), clipped to +-(1 - 2^-17) before; and, unless
// its data is NULL, dhead[R,B,O] = the gradient of -mean(log pi), which behaviour cloning goes
// down. No random number is read. Masked.
void rgm_action_score(rgm_stream *s, rgm_tensor dhead, const rgm_policy_draw *given);

// dbounds is the sum over rows in row-block order, of max and min.
void rgm_gaussian_nll(rgm_stream *s, const rgm_nll *nll);

// y[R,N,K] = mean over b of (head - target)^2, column by column (row-block order): the holdout
// error of each net and feature. head[R,N,B,O], target[R,N,B,K], or of
// rank 3, [R,B,K], for all nets.
void rgm_mse(rgm_stream *s, rgm_tensor y, rgm_tensor head, rgm_tensor target);

// rows[k][R,M,W_k], M <= C, go to the ring in order where keep[R,M] is not 0 (data NULL: all);
// head and count go on. Masked.
void rgm_replay_append(rgm_stream *s, const rgm_ring *to, const rgm_tensor *rows, rgm_tensor keep,
                       rgm_tensor active);

void rgm_replay_gather(rgm_stream *s, const rgm_gather *gather);

// y[R,B,W] = (x - mean[R,W]) / sd[R,W], or back: x * sd + mean. y may be x.
void rgm_normalise(rgm_stream *s, rgm_tensor y, rgm_tensor x, rgm_tensor mean, rgm_tensor sd,
                   bool inverse);

// x[R,M,S+D] = state[R,B,S] beside action[R,M,D], or beside the one-hot code of action[R,M], class
// numbers as f32, in D = `classes` > 0 columns. Row m has the state of row m / (M / B).
void rgm_concat(rgm_stream *s, rgm_tensor x, rgm_tensor state, rgm_tensor action, int classes);

// norm[R] = the root of the sum of squares of g[R,...] (row-block order with fma over the flattened
// elements); g *= limit / norm where norm > limit[R]. Masked.
void rgm_clip_norm(rgm_stream *s, rgm_tensor g, rgm_tensor norm, rgm_tensor limit,
                   rgm_tensor active);

// y[R] = base[R] min(1, (t + 1) / warmup[R]) decay(p), p = (t - warmup) / (total[R] - warmup)
// clipped to [0, 1], t = clock[R] u32: a rate for the update after t of them.
void rgm_schedule(rgm_stream *s, rgm_tensor y, rgm_tensor base, rgm_tensor clock, rgm_tensor warmup,
                  rgm_tensor total, rgm_decay decay);

// Adam (Kingma & Ba 2015, algorithm 1) on p, m, v [R,W]; count[R] u32 is raised by one. Masked.
void rgm_adam(rgm_stream *s, rgm_tensor p, rgm_tensor m, rgm_tensor v, rgm_tensor count,
              rgm_tensor g, rgm_tensor lr, rgm_tensor beta1, rgm_tensor beta2, rgm_tensor eps,
              rgm_tensor active);

// velocity = momentum * velocity + g; p -= lr * velocity (as PyTorch's SGD). Masked.
void rgm_sgd(rgm_stream *s, rgm_tensor p, rgm_tensor velocity, rgm_tensor g, rgm_tensor lr,
             rgm_tensor momentum, rgm_tensor active);

// target += rate * (p - target), the exponential moving average (Polyak). Masked.
void rgm_ema(rgm_stream *s, rgm_tensor target, rgm_tensor p, rgm_tensor rate, rgm_tensor active);

// x[R,M,D] = mean[R,D] + exp(log_sd[R,D]) * normal, independent for every candidate m: philox
// counter {clock[R], m, d / 4, 0}, whose words w0, w1 give the normals of the first two dims of
// each four and w2, w3 those of the others, so that neither M nor D changes a number. Masked.
void rgm_gaussian_draw(rgm_stream *s, rgm_tensor x, rgm_tensor mean, rgm_tensor log_sd,
                       rgm_tensor seeds, rgm_tensor clock, uint32_t random, rgm_tensor active);

// A step of mean, log_sd [R,D] towards the weighted candidates x[R,M,D], weight[R,M] summing to 1
// (rgm_select): mean += rate * (centre - mean), sd = max(floor, sd + rate * (spread - sd)), where
// centre = sum_m weight x and spread^2 = sum_m weight (x - centre)^2, both in order over m with
// fma; rate[R] in [0, 1], floor[R] > 0. Where all weights are 0 nothing changes. Masked.
void rgm_gaussian_refit(rgm_stream *s, rgm_tensor mean, rgm_tensor log_sd, rgm_tensor x,
                        rgm_tensor weight, rgm_tensor rate, rgm_tensor floor, rgm_tensor active);

// y[R,...] = exp(x[R,...]). Masked.
void rgm_exponential(rgm_stream *s, rgm_tensor y, rgm_tensor x, rgm_tensor active);

// y[R] = scale * sum over all other dims of x (row-block order over the flattened elements).
void rgm_sum(rgm_stream *s, rgm_tensor y, rgm_tensor x, float scale);

// y[R] = quantile q[R] in [0, 1] of x[R,N], linear between order statistics (numpy's default,
// Hyndman & Fan type 7). work[R,N]. NaN sorts last.
void rgm_quantile(rgm_stream *s, rgm_tensor y, rgm_tensor work, rgm_tensor x, rgm_tensor q);

// weight[R,N] = 1/count where x >= threshold[R], else 0; count = how many pass (all 0 if none).
void rgm_select(rgm_stream *s, rgm_tensor weight, rgm_tensor x, rgm_tensor threshold);

// items[R,E] u32 = where weight[R,N] is not 0, in order, share[R,E] = the weights there and 0
// behind them, count[R] u32 = how many there are. Where they are more than E, no share is a number
// (NaN), so that no result rests on a part of them, and lost[R] u32 goes up by how many found no
// place. Items from count on are not written. Masked.
void rgm_enlist(rgm_stream *s, rgm_tensor items, rgm_tensor share, rgm_tensor count,
                rgm_tensor lost, rgm_tensor weight, rgm_tensor active);

// x[R,...,O] = uniform in [low, high), philox counter {0, element, 0, member} counted over the
// first `last_dim` columns, so that padding changes no number; padded columns get 0.
void rgm_uniform(rgm_stream *s, rgm_tensor x, rgm_tensor seeds, uint32_t random, uint32_t member,
                 float low, float high, int64_t last_dim);

// count[R] u32 += 1: the steps that a replica or an optimiser has done. Masked.
void rgm_advance(rgm_stream *s, rgm_tensor count, rgm_tensor active);

// active[R] = 0 where x[R] >= bound[R].
void rgm_retire(rgm_stream *s, rgm_tensor active, rgm_tensor x, rgm_tensor bound);

// count[R] u32 = how many elements of x[R,...] are NaN or infinite.
void rgm_nonfinite(rgm_stream *s, rgm_tensor count, rgm_tensor x);

// y = x + scale * z, elementwise with fma: the memory yardstick (McCalpin's STREAM triad), 12 bytes
// an element.
void rgm_triad(rgm_stream *s, rgm_tensor y, rgm_tensor x, rgm_tensor z, float scale);

// The arithmetic yardstick: `rounds` of independent fused multiply-adds on every processing unit of
// the stream; returns how many floating-point operations that were.
double rgm_burn(rgm_stream *s, int64_t rounds);

// The library of matrix products that the device's maker gives, the yardstick of linear, linear_dx
// and linear_dw: opens it, where it is installed, and tells its name and version. Training does
// not use it, since its order of sums is its own. RGM_EDEVICE: there is none, with the reason.
rgm_status rgm_library(rgm_stream *s, char *text, size_t size);

// c[R,M,N] = A @ B by that library, in fp32, once rgm_library has opened it: a[R,M,K] is A, or
// a[R,K,M] if transposed; b[R,K,N] is B, or b[R,N,K]. Bits may depend on anything.
void rgm_library_gemm(rgm_stream *s, rgm_tensor c, rgm_tensor a, rgm_tensor b, bool transpose_a,
                      bool transpose_b);

// Draws patients, runs episodes, takes one step of them: the rows of an environment.
void rgm_env_sample(const rgm_env_kernels *env, rgm_stream *s, const rgm_cohort *cohort);
void rgm_env_rollout(const rgm_env_kernels *env, rgm_stream *s, const rgm_rollout *rollout);
void rgm_env_step(const rgm_env_kernels *env, rgm_stream *s, const rgm_stepping *stepping);

#ifdef __cplusplus
}
#endif
#endif
