// SPDX-License-Identifier: Apache-2.0
// Rows of learned models of the world: an ensemble of N Gaussian nets, E of them the elite, that
// predicts how a state changes and what reward comes (PETS, Chua et al. 2018; MOPO, Yu et al.
// 2020). Conventions as in kernels.h. A row of a batch is predicted by one elite that is drawn for
// it, and no other net is computed: rows come in groups of E, and within group g elite e takes row
// (e - shift) mod E, shift uniform by philox counter {clock, g, attempt / 4, member + 2^31}. So
// each elite has ceil(B / E) places at most, every row any elite with equal chance, and where a row
// goes depends on its number alone.

#ifndef RGM_DYNAMICS_H
#define RGM_DYNAMICS_H

#include "kernels/kernels.h"

#ifdef __cplusplus
extern "C" {
#endif

// What elites are drawn with.
struct rgm_routing {
  rgm_tensor seeds;        // (R, 2) u32
  rgm_tensor clock;        // (R) u32
  uint32_t random, member; // RGM_RANDOM_MODEL; the step of a rollout, below 2^31
};

// What is taken off a reward for what the elites do not know, from normalised outputs that are not
// held: u = max_e |sd_e| (MOPO), or max_e |mu_e - mean_e mu_e|.
typedef enum rgm_doubt {
  RGM_DOUBT_NONE = 0,
  RGM_DOUBT_SD = 1,
  RGM_DOUBT_SPREAD = 2,
} rgm_doubt;

// A step of the model for B rows, K = S + 1 outputs: S changes of state and the reward. With the
// row's elite, z_k = mu_k + exp(v_k / 2) n_k (v as in rgm_nll; n_k as in rgm_gaussian_draw, philox
// counter {clock, b, k / 4, member}) and d_k = z_k sd_k + mean_k:
//   next = state + d, terminated = 1 where that is outside the box, then clipped to the range;
//   reward = d_S clipped - weight u.
// Held columns keep the state's value. A row that is alive is kept; one that terminated is alive no
// more: its last transition counts, and what is computed of it later does not. Masked.
struct rgm_model_step {
  rgm_tensor next;       // (R, B, S), written
  rgm_tensor reward;     // (R, B, 1), written
  rgm_tensor terminated; // (R, B, 1), written: 1 or 0
  rgm_tensor doubt;      // (R, B), written unless data NULL: u, or 0
  rgm_tensor alive;      // (R, B), changed: 1 or 0
  rgm_tensor keep;       // (R, B), written: what alive was
  rgm_tensor head;       // (R, E, C, O): mu in columns 0 ... K - 1, then raw log-variances; C =
                         // ceil(B / E) places of rgm_route, or all B rows with a doubt
  rgm_tensor bounds;     // (R, E, 2, K): max, min of log-variances
  rgm_tensor state;      // (R, B, S)
  rgm_tensor scale;      // (R, 2, K): mean, sd of outputs
  rgm_tensor range;      // (R, 2, K): low, high of next, and of the reward
  rgm_tensor hold;       // (R, S): not 0: covariates that stay as they are
  rgm_tensor box;        // (R, 2, S): low, high; data NULL: nothing terminates
  rgm_tensor weight;     // (R), read with a doubt
  rgm_tensor active;     // (R) u32
  rgm_routing routing;   // of elites and noise
  rgm_doubt kind;
  bool quiet; // n = 0: the mean
};

// How an ensemble does on held-out rows: L_n is the mean over rows and outputs of `error`, which
// has the mean squares of P chunks of `chunk` rows, the last of what is left of `rows`. A net
// improved where L_n < best_n (1 - margin), and best_n is then L_n. Elites are the E nets of the
// least best_n, the least first and the first of equals. Masked.
struct rgm_appraisal {
  rgm_tensor loss;     // (R, N), written: L_n
  rgm_tensor best;     // (R, N), changed
  rgm_tensor improved; // (R, N) u32, written: 1 or 0
  rgm_tensor idle;     // (R), changed: appraisals since any net improved
  rgm_tensor elites;   // (R, E) u32, written
  rgm_tensor error;    // (R, P, N, K)
  rgm_tensor margin;   // (R)
  rgm_tensor active;   // (R) u32
  int64_t rows, chunk;
};

// x[R,E,C,W] = from[R,B,W], each row to its elite's place, C = ceil(B / E) <= B; places that no row
// has get 0.
void rgm_route(rgm_stream *s, rgm_tensor x, rgm_tensor from, const rgm_routing *routing);

void rgm_model(rgm_stream *s, const rgm_model_step *step);

void rgm_appraise(rgm_stream *s, const rgm_appraisal *appraisal);

// g[R,I,O] += rate[R] p[R,I,O] with fma: the gradient of rate |p|^2 / 2, decay of weights. Masked.
void rgm_decay_weights(rgm_stream *s, rgm_tensor g, rgm_tensor p, rgm_tensor rate,
                       rgm_tensor active);

// to[R,...] = from[R,...] where chosen[R] u32 is `number`; elsewhere nothing changes.
void rgm_adopt(rgm_stream *s, rgm_tensor to, rgm_tensor from, rgm_tensor chosen, uint32_t number);

#ifdef __cplusplus
}
#endif
#endif
