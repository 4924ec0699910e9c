// SPDX-License-Identifier: Apache-2.0
// Rows of guided reward learning (GCL, Finn, Levine & Abbeel 2016): a reward r(s, a) under which
// what experts did is likely, p(tau) ~ exp R(tau), R = sum_t r(s_t, a_t), from trajectories of
// experts and of a policy. Conventions as in kernels.h. N = M T rows are M trajectories of T steps,
// those of the n experts first, trajectory j in rows j T ... j T + T - 1.

#ifndef RGM_GUIDED_H
#define RGM_GUIDED_H

#include "kernels/kernels.h"

#ifdef __cplusplus
extern "C" {
#endif

enum { RGM_GUIDE_MOST = 65536 }; // trajectories of a call, rows that settle

// What trajectories are weighed by; x_j = R(tau_j) - log q(tau_j). A trajectory of one step (T = 1)
// is a row by itself: weights by step. Weights sum to 1 and have no slope.
typedef enum rgm_weighing {
  RGM_WEIGH_TRAJECTORY = 0, // softmax over j of x
  RGM_WEIGH_PREFIX = 1,     // of step t: softmax over j of x up to t (per decision)
  RGM_WEIGH_TRUNCATED = 2,  // softmax of min(x, log(c mean exp x))
  RGM_WEIGH_TEMPERED = 3,   // softmax of kappa x
} rgm_weighing;

// The density q of a trajectory, mixed as a whole and not by steps.
typedef enum rgm_proposal {
  RGM_PROPOSAL_ONE = 0,     // 1 for experts, the policy's for samples
  RGM_PROPOSAL_CLONE = 1,   // the clone's for experts, the policy's for samples
  RGM_PROPOSAL_MIXTURE = 2, // n / M of the clone's + (M - n) / M of the policy's, for both
} rgm_proposal;

// J windows of T rows, drawn with replacement: number i < count / per by Lemire's method on philox
// counter {clock, j, attempt / 4, member}; it stands for itself, or for list[i]; the window begins
// at (number / block) span + number mod block, and its rows are `stride` apart. Where there is
// nothing to draw from, items are 2^32 - 1, which is in no ring. Masked.
struct rgm_windows {
  rgm_tensor items;        // (R, J T) u32, written
  rgm_tensor list;         // (R, L) u32; data NULL: numbers stand for themselves
  rgm_tensor count;        // (R) u32
  rgm_tensor seeds, clock; // (R, 2), (R) u32
  rgm_tensor active;       // (R) u32
  uint32_t random, member;
  uint32_t per, block, span, stride; // all above 0
  int64_t steps;                     // T
};

// The slope of loss = -mean_{i < n} R(tau_i) + log mean_j exp x_j by r (tempered: the mean's part
// is log mean_j exp(kappa x_j) / kappa), with the weights above in place of the softmax: -1 / n for
// experts' rows, plus each row's weight. Of PREFIX and TRUNCATED it is the slope of sum w r, no
// longer that of the loss. Rows that are not alive are no part of their trajectory. Sums over j in
// row-block order, over t in order. Masked.
struct rgm_guide {
  rgm_tensor slope;  // (R, N, O), written: column 0, and 0 in padding
  rgm_tensor loss;   // (R), written
  rgm_tensor sample; // (R), written: effective sample size, 1 / sum w^2 / M; PREFIX: mean over t
  rgm_tensor total;  // (R, M), written: R(tau)
  rgm_tensor weight; // (R, U, M), written; U = T of PREFIX, else 1
  rgm_tensor reward; // (R, N, O): r in column 0
  rgm_tensor log_policy;  // (R, N) of the actions taken
  rgm_tensor log_clone;   // (R, N); data NULL: q is not made of it
  rgm_tensor alive;       // (R, N): 1 or 0
  rgm_tensor bend;        // (R): c or kappa; read by TRUNCATED and TEMPERED
  rgm_tensor active;      // (R) u32
  int64_t steps, experts; // T, n; 0 < n < M
  rgm_weighing weighing;
  rgm_proposal proposal;
};

void rgm_draw_windows(rgm_stream *s, const rgm_windows *windows);

void rgm_guide_reward(rgm_stream *s, const rgm_guide *guide);

// scale[R,2] = mean and standard deviation (n - 1, 1e-6 at least) of column 0 of x[R,N,O]'s first
// `rows`; or, where count[R] u32 is not 0, a step of size rate[R] towards them. count goes up by 1.
// Masked.
void rgm_settle(rgm_stream *s, rgm_tensor scale, rgm_tensor count, rgm_tensor x, rgm_tensor rate,
                rgm_tensor active, int64_t rows);

// y[R,B,1] = (column 0 of x[R,B,O] - mean) / sd, scale[R,2] = mean, sd; within +-limit[R], where
// that is above 0.
void rgm_worth(rgm_stream *s, rgm_tensor y, rgm_tensor x, rgm_tensor scale, rgm_tensor limit);

// y[R,B,1] = tanh((v - low) / 2) - tanh((v - high) / 2) - 1 of column `column` v of x[R,B,S]: 1
// within the band, -1 far from it; that is 2 / (1 + e^(low - v)) - 2 / (1 + e^(high - v)) - 1.
void rgm_band(rgm_stream *s, rgm_tensor y, rgm_tensor x, int64_t column, float low, float high);

#ifdef __cplusplus
}
#endif
#endif
