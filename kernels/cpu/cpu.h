// SPDX-License-Identifier: Apache-2.0
// What the files of the CPU backend share. All but device.c are compiled once per instruction set
// (RGM_ISA = avx2, avx512 or generic); RGM_CPU(name) is the name of a function in that set.

#ifndef RGM_CPU_H
#define RGM_CPU_H

#include "kernels/kernels.h"
#include "kernels/lanes.h"
#include "kernels/optim.h"

#define RGM_CPU_PASTE(isa, name) rgm_cpu_##isa##_##name
#define RGM_CPU_EXPAND(isa, name) RGM_CPU_PASTE(isa, name)
#define RGM_CPU(name) RGM_CPU_EXPAND(RGM_ISA, name)

#define RGM_QUOTE_(x) #x
#define RGM_QUOTE(x) RGM_QUOTE_(x)

// device.c
rgm_status rgm_cpu_open(const rgm_device_options *options, rgm_stream **out);
void rgm_cpu_close(rgm_stream *s);
void rgm_cpu_describe(const rgm_stream *s, char *text, size_t size);
rgm_status rgm_cpu_alloc(rgm_stream *s, size_t bytes, void **out);
void rgm_cpu_release(rgm_stream *s, void *memory);
void rgm_cpu_copy(rgm_stream *s, void *dst, const void *src, size_t bytes);
void rgm_cpu_fill(rgm_stream *s, void *dst, int byte, size_t bytes);
rgm_status rgm_cpu_sync(rgm_stream *s);
void rgm_cpu_graph(rgm_stream *s, int slot, void (*fn)(void *, rgm_stream *), void *arg);

// rows; kernels.h says what they do
void RGM_CPU(linear)(rgm_stream *s, rgm_tensor y, rgm_tensor x, rgm_tensor w, rgm_tensor b,
                     rgm_act act);
void RGM_CPU(act_backward)(rgm_stream *s, rgm_tensor dz, rgm_tensor y, rgm_act act);
void RGM_CPU(linear_dx)(rgm_stream *s, rgm_tensor dx, rgm_tensor dz, rgm_tensor w, rgm_tensor y,
                        rgm_act act);
void RGM_CPU(linear_dw)(rgm_stream *s, rgm_tensor dw, rgm_tensor db, rgm_tensor x, rgm_tensor dz);
void RGM_CPU(linear_dw_adam)(rgm_stream *s, const rgm_adam_step *step, rgm_tensor x, rgm_tensor dz);
void RGM_CPU(softmax_xent)(rgm_stream *s, rgm_tensor loss, rgm_tensor dz, rgm_tensor z,
                           rgm_tensor label, rgm_tensor weight, int classes);
void RGM_CPU(policy_xent)(rgm_stream *s, rgm_tensor grad, rgm_tensor loss, rgm_tensor work,
                          rgm_tensor x, rgm_tensor z, rgm_tensor label, rgm_tensor weight,
                          rgm_tensor params, rgm_tensor active, int hidden);
void RGM_CPU(soft_target)(rgm_stream *s, const rgm_target *target);
void RGM_CPU(critic_loss)(rgm_stream *s, const rgm_critic *critic);
void RGM_CPU(actor_loss)(rgm_stream *s, const rgm_actor *actor);
void RGM_CPU(dual)(rgm_stream *s, rgm_tensor grad, rgm_tensor mean, rgm_tensor x, rgm_tensor weight,
                   rgm_tensor target, rgm_tensor log_dual, rgm_tensor active, float scale,
                   rgm_dual_form form);
void RGM_CPU(action_draw)(rgm_stream *s, const rgm_policy_draw *draw);
void RGM_CPU(action_score)(rgm_stream *s, rgm_tensor dhead, const rgm_policy_draw *given);
void RGM_CPU(schedule)(rgm_stream *s, rgm_tensor y, rgm_tensor base, rgm_tensor clock,
                       rgm_tensor warmup, rgm_tensor total, rgm_decay decay);
void RGM_CPU(action_backward)(rgm_stream *s, rgm_tensor dhead, rgm_tensor dx, rgm_tensor log_alpha,
                              const rgm_policy_draw *draw, int64_t column);
void RGM_CPU(gaussian_nll)(rgm_stream *s, const rgm_nll *nll);
void RGM_CPU(mse)(rgm_stream *s, rgm_tensor y, rgm_tensor head, rgm_tensor target);
void RGM_CPU(replay_append)(rgm_stream *s, const rgm_ring *to, const rgm_tensor *rows,
                            rgm_tensor keep, rgm_tensor active);
void RGM_CPU(replay_gather)(rgm_stream *s, const rgm_gather *gather);
void RGM_CPU(normalise)(rgm_stream *s, rgm_tensor y, rgm_tensor x, rgm_tensor mean, rgm_tensor sd,
                        bool inverse);
void RGM_CPU(concat)(rgm_stream *s, rgm_tensor x, rgm_tensor state, rgm_tensor action, int classes);
void RGM_CPU(clip_norm)(rgm_stream *s, rgm_tensor g, rgm_tensor norm, rgm_tensor limit,
                        rgm_tensor active);
void RGM_CPU(adam)(rgm_stream *s, rgm_tensor p, rgm_tensor m, rgm_tensor v, rgm_tensor count,
                   rgm_tensor g, rgm_tensor lr, rgm_tensor beta1, rgm_tensor beta2, rgm_tensor eps,
                   rgm_tensor active);
void RGM_CPU(sgd)(rgm_stream *s, rgm_tensor p, rgm_tensor velocity, rgm_tensor g, rgm_tensor lr,
                  rgm_tensor momentum, rgm_tensor active);
void RGM_CPU(ema)(rgm_stream *s, rgm_tensor target, rgm_tensor p, rgm_tensor rate,
                  rgm_tensor active);
void RGM_CPU(gaussian_draw)(rgm_stream *s, rgm_tensor x, rgm_tensor mean, rgm_tensor log_sd,
                            rgm_tensor seeds, rgm_tensor clock, uint32_t random, rgm_tensor active);
void RGM_CPU(gaussian_refit)(rgm_stream *s, rgm_tensor mean, rgm_tensor log_sd, rgm_tensor x,
                             rgm_tensor weight, rgm_tensor rate, rgm_tensor floor,
                             rgm_tensor active);
void RGM_CPU(exponential)(rgm_stream *s, rgm_tensor y, rgm_tensor x, rgm_tensor active);
void RGM_CPU(sum)(rgm_stream *s, rgm_tensor y, rgm_tensor x, float scale);
void RGM_CPU(quantile)(rgm_stream *s, rgm_tensor y, rgm_tensor work, rgm_tensor x, rgm_tensor q);
void RGM_CPU(select)(rgm_stream *s, rgm_tensor weight, rgm_tensor x, rgm_tensor threshold);
void RGM_CPU(enlist)(rgm_stream *s, rgm_tensor items, rgm_tensor share, rgm_tensor count,
                     rgm_tensor lost, rgm_tensor weight, rgm_tensor active);
void RGM_CPU(uniform)(rgm_stream *s, rgm_tensor x, rgm_tensor seeds, uint32_t random,
                      uint32_t member, float low, float high, int64_t last_dim);
void RGM_CPU(advance)(rgm_stream *s, rgm_tensor count, rgm_tensor active);
void RGM_CPU(retire)(rgm_stream *s, rgm_tensor active, rgm_tensor x, rgm_tensor bound);
void RGM_CPU(nonfinite)(rgm_stream *s, rgm_tensor count, rgm_tensor x);
void RGM_CPU(triad)(rgm_stream *s, rgm_tensor y, rgm_tensor x, rgm_tensor z, float scale);
double RGM_CPU(burn)(rgm_stream *s, int64_t rounds);
void RGM_CPU(route)(rgm_stream *s, rgm_tensor x, rgm_tensor from, const rgm_routing *routing);
void RGM_CPU(model)(rgm_stream *s, const rgm_model_step *step);
void RGM_CPU(appraise)(rgm_stream *s, const rgm_appraisal *appraisal);
void RGM_CPU(decay_weights)(rgm_stream *s, rgm_tensor g, rgm_tensor p, rgm_tensor rate,
                            rgm_tensor active);
void RGM_CPU(adopt)(rgm_stream *s, rgm_tensor to, rgm_tensor from, rgm_tensor chosen,
                    uint32_t number);
void RGM_CPU(windows)(rgm_stream *s, const rgm_windows *windows);
void RGM_CPU(guide)(rgm_stream *s, const rgm_guide *guide);
void RGM_CPU(settle)(rgm_stream *s, rgm_tensor scale, rgm_tensor count, rgm_tensor x,
                     rgm_tensor rate, rgm_tensor active, int64_t rows);
void RGM_CPU(worth)(rgm_stream *s, rgm_tensor y, rgm_tensor x, rgm_tensor scale, rgm_tensor limit);
void RGM_CPU(band)(rgm_stream *s, rgm_tensor y, rgm_tensor x, int64_t column, float low,
                   float high);
void RGM_CPU(bellman)(rgm_stream *s, const rgm_bellman *bellman);
void RGM_CPU(mdp_pick)(rgm_stream *s, const rgm_mdp_pick *pick);
void RGM_CPU(mdp_solve)(rgm_stream *s, const rgm_mdp_solve *solve);
void RGM_CPU(mdp_draw)(rgm_stream *s, const rgm_mdp_draw *draw);
void RGM_CPU(mdp_learn)(rgm_stream *s, const rgm_mdp_learn *learn);
void RGM_CPU(nearest)(rgm_stream *s, const rgm_nearest_centre *nearest);
void RGM_CPU(induct)(rgm_stream *s, const rgm_induction *induct);
void RGM_CPU(products)(rgm_stream *s, rgm_tensor out, rgm_tensor z);
void RGM_CPU(gram)(rgm_stream *s, rgm_tensor gram, rgm_tensor products, rgm_tensor weight);
void RGM_CPU(cholesky)(rgm_stream *s, rgm_tensor gram, rgm_tensor right, rgm_tensor status);
void RGM_CPU(irls)(rgm_stream *s, const rgm_irls *fit);
void RGM_CPU(wls)(rgm_stream *s, const rgm_wls *fit);
void RGM_CPU(pseudo)(rgm_stream *s, const rgm_pseudo *pseudo);
void RGM_CPU(predict)(rgm_stream *s, const rgm_predict *predict);
void RGM_CPU(resample)(rgm_stream *s, const rgm_resample *resample);
void RGM_CPU(staged)(rgm_stream *s, const rgm_stages *staged);
extern const rgm_backend RGM_CPU(backend);

// The start of replica r.
static inline float *rgm_f32(rgm_tensor t, int64_t r) {
  return (float *)t.data + r * t.stride0;
}
static inline uint32_t *rgm_u32(rgm_tensor t, int64_t r) {
  return (uint32_t *)t.data + r * t.stride0;
}

// The step on n parameters.
static inline void rgm_adam_apply(float *p, float *m, float *v, const float *g, int64_t n,
                                  rgm_adam_rates a) {
  _Pragma("GCC ivdep") for (int64_t i = 0; i < n; i++) {
    rgm_adam_one(&p[i], &m[i], &v[i], g[i], a);
  }
}

// target += rate * (p - target) for n parameters.
static inline void rgm_ema_apply(float *target, const float *p, int64_t n, float rate) {
  _Pragma("GCC ivdep") for (int64_t i = 0; i < n; i++) {
    target[i] = rgm_ema_one(target[i], p[i], rate);
  }
}

// Pairwise sum of blocks that arrive in order, as the tree over distances 1, 2, 4, ...: a binary
// counter of partial sums, each `size` floats. 32 levels hold 2^32 blocks.
typedef struct rgm_tree {
  int64_t size, count;
  float *level; // (32, size), the caller's memory
} rgm_tree;

enum { RGM_TREE_LEVELS = 32, RGM_SUM_SIDE = 16 };

static inline void rgm_tree_add(rgm_tree *tree, const float *block) {
  // carry: while a level is full, add it to the newcomer, which sits in the level above the last
  int level = 0;
  float *top = tree->level;
  for (int64_t full = tree->count; full & 1; full >>= 1) {
    level++;
  }
  float *dst = top + level * tree->size;
  for (int64_t i = 0; i < tree->size; i++) {
    dst[i] = block[i];
  }
  for (int k = 0; k < level; k++) {
    const float *src = top + k * tree->size;
    for (int64_t i = 0; i < tree->size; i++) {
      dst[i] = src[i] + dst[i];
    }
  }
  tree->count++;
}

// What is left adds from the smallest level up; the sum goes to `out` (zeros where no block came).
static inline void rgm_tree_sum(const rgm_tree *tree, float *out) {
  for (int64_t i = 0; i < tree->size; i++) {
    float sum = 0.0f;
    bool any = false;
    for (int k = 0; k < RGM_TREE_LEVELS; k++) {
      if (tree->count >> k & 1) {
        const float x = tree->level[k * tree->size + i];
        sum = any ? x + sum : x;
        any = true;
      }
    }
    out[i] = sum;
  }
}

// The sums of 16 blocks side by side, since within a block each addition waits for the last.
static inline void rgm_cpu_sum_blocks(float *sums, const float *x, bool squares) {
  enum { SIDE = RGM_SUM_SIDE, COUNT = SIDE / RGM_LANE_WIDTH };
  float tile[SIDE * SIDE];
  rgm_lanes acc[COUNT];
  for (int v = 0; v < COUNT; v++) {
    acc[v] = rgm_lanes_set(0.0f);
  }
  for (int64_t at = 0; at < RGM_ROW_BLOCK; at += SIDE) {
    rgm_transpose16(x + at, RGM_ROW_BLOCK, tile, SIDE);
    for (int i = 0; i < SIDE; i++) {
      for (int v = 0; v < COUNT; v++) {
        const rgm_lanes y = rgm_lanes_load(tile + i * SIDE + v * RGM_LANE_WIDTH);
        acc[v] = squares ? rgm_lanes_fma(y, y, acc[v]) : rgm_lanes_add(acc[v], y);
      }
    }
  }
  for (int v = 0; v < COUNT; v++) {
    rgm_lanes_store(sums + v * RGM_LANE_WIDTH, acc[v]);
  }
}

// The sum of n elements, or of their squares, in row-block order.
static inline float rgm_cpu_sum(const float *x, int64_t n, bool squares) {
  float level[RGM_TREE_LEVELS], total;
  rgm_tree tree = {.size = 1, .level = level};
  int64_t begin = 0;
  for (; begin + RGM_SUM_SIDE * RGM_ROW_BLOCK <= n; begin += RGM_SUM_SIDE * RGM_ROW_BLOCK) {
    float sums[RGM_SUM_SIDE];
    rgm_cpu_sum_blocks(sums, x + begin, squares);
    for (int k = 0; k < RGM_SUM_SIDE; k++) {
      rgm_tree_add(&tree, sums + k);
    }
  }
  for (; begin < n; begin += RGM_ROW_BLOCK) {
    const int64_t end = begin + RGM_ROW_BLOCK < n ? begin + RGM_ROW_BLOCK : n;
    float block = 0.0f;
    for (int64_t i = begin; i < end; i++) {
      block = squares ? rgm_fma(x[i], x[i], block) : block + x[i];
    }
    rgm_tree_add(&tree, &block);
  }
  rgm_tree_sum(&tree, &total);
  return total;
}

#endif
