// SPDX-License-Identifier: Apache-2.0
// The arithmetic of actors, critics and ensembles, a row of a batch at a time: one source for the
// CPU and for CUDA, so that both give the same bits. kernels.h has the formulas.

#ifndef RGM_ACTOR_CRITIC_H
#define RGM_ACTOR_CRITIC_H

#include "kernels/kernels.h"
#include "kernels/rng.h"

#include <math.h>

// the most that a Lagrange multiplier may be
#define RGM_MULTIPLIER_MOST 1e6f


// ---- policies over discrete actions ------------------------------------------------------------

// log pi(a) = z_a - top - log_sum
typedef struct rgm_softmax {
  float top, log_sum;
} rgm_softmax;

RGM_FN float rgm_greatest(const float *x, int64_t count) {
  float top = x[0];
  for (int64_t i = 1; i < count; i++) {
    top = x[i] > top ? x[i] : top;
  }
  return top;
}

RGM_FN rgm_softmax rgm_softmax_of(const float *z, int actions) {
  rgm_softmax soft;
  soft.top = rgm_greatest(z, actions);
  float sum = 0.0f;
  for (int a = 0; a < actions; a++) {
    sum = sum + rgm_exp(z[a] - soft.top);
  }
  soft.log_sum = rgm_log(sum);
  return soft;
}


// The least of N critics, `apart` floats from each other; NaN where one is. *which is the first.
RGM_FN float rgm_least_critic(const float *q, int64_t nets, int64_t apart, int64_t *which) {
  float least = q[0];
  *which = 0;
  for (int64_t n = 1; n < nets; n++) {
    const float x = q[n * apart];
    const bool keep = least <= x || least != least;
    *which = keep ? *which : n;
    least = keep ? least : x;
  }
  return least;
}


// V(s) of discrete actions. An action that the policy never takes (logit -inf) counts nothing.
RGM_FN float rgm_soft_value(const float *q, int64_t nets, int64_t apart, const float *z,
                            int actions, float alpha) {
  const rgm_softmax soft = rgm_softmax_of(z, actions);
  float value = 0.0f;
  for (int a = 0; a < actions; a++) {
    int64_t which;
    const float log_pi = z[a] - soft.top - soft.log_sum, pi = rgm_exp(log_pi);
    const float least = rgm_least_critic(q + a, nets, apart, &which);
    value = pi != 0.0f ? rgm_fma(pi, rgm_fma(-alpha, log_pi, least), value) : value;
  }
  return value;
}


// reward + gamma (1 - terminated) value: what follows a terminated row does not count, NaN or not
RGM_FN float rgm_backup(float reward, float terminated, float gamma, float value) {
  return terminated == 1.0f ? reward : rgm_fma(gamma * (1.0f - terminated), value, reward);
}


// One row of the actor's loss over discrete actions; share is 1 / B.
RGM_FN void rgm_actor_row(float *dz, float *loss, float *entropy, const float *q, int64_t nets,
                          int64_t apart, const float *z, int actions, float alpha, float share) {
  const rgm_softmax soft = rgm_softmax_of(z, actions);
  float mean = 0.0f, spread = 0.0f;
  for (int a = 0; a < actions; a++) {
    int64_t which;
    const float log_pi = z[a] - soft.top - soft.log_sum, pi = rgm_exp(log_pi);
    const float g = rgm_fma(alpha, log_pi, -rgm_least_critic(q + a, nets, apart, &which));
    mean = pi != 0.0f ? rgm_fma(pi, g, mean) : mean;
    spread = pi != 0.0f ? rgm_fma(-pi, log_pi, spread) : spread;
  }
  for (int a = 0; a < actions; a++) {
    int64_t which;
    const float log_pi = z[a] - soft.top - soft.log_sum, pi = rgm_exp(log_pi);
    const float g = rgm_fma(alpha, log_pi, -rgm_least_critic(q + a, nets, apart, &which));
    dz[a] = pi != 0.0f ? share * pi * (g - mean) : 0.0f;
  }
  *loss = share * mean;
  *entropy = spread;
}


// ---- critics -----------------------------------------------------------------------------------

// What the rows of one replica have in common.
typedef struct rgm_critic_rates {
  float share;         // 1 / B
  float down, up;      // 1 / rows pushed down, 1 / real rows; 0 where there is no push
  float beta;          // times the multiplier
  float cold, hot;     // 1 / T, T
  float delta;         // of Huber's loss
  int64_t real, first; // rows below `real` are real; rows from `first` on are pushed down
  bool sample;         // pushed down at their own action
} rgm_critic_rates;

RGM_FN rgm_critic_rates rgm_critic_rates_of(rgm_push push, int64_t rows, int64_t real, float beta,
                                            float multiplier, float temperature, float delta) {
  rgm_critic_rates k;
  k.real = real < rows ? real : rows;
  k.first = push == RGM_PUSH_NONE ? rows : push == RGM_PUSH_LOGSUMEXP_MIX ? 0 : k.real;
  k.share = 1.0f / (float)rows;
  k.down = k.first < rows ? 1.0f / (float)(rows - k.first) : 0.0f;
  k.up = push != RGM_PUSH_NONE && k.real > 0 ? 1.0f / (float)k.real : 0.0f;
  k.beta = push != RGM_PUSH_NONE ? beta * rgm_min(multiplier, RGM_MULTIPLIER_MOST) : 0.0f;
  k.hot = temperature;
  k.cold = 1.0f / temperature;
  k.delta = delta;
  k.sample = push == RGM_PUSH_RHO_SAMPLE;
  return k;
}


// A row's own action: td, push up, push down of rho_sample; `value` is what else is pushed down.
typedef struct rgm_critic_row {
  float loss, gap, slope;
} rgm_critic_row;

RGM_FN rgm_critic_row rgm_critic_own(float q, float y, float value, int64_t row,
                                     const rgm_critic_rates *k) {
  const float e = q - y, size = rgm_abs(e);
  const float huber = size <= k->delta ? 0.5f * e * e : k->delta * (size - 0.5f * k->delta);
  const float up = row < k->real ? k->up : 0.0f, down = row >= k->first ? k->down : 0.0f;
  const float own = (k->sample ? down : 0.0f) - up;
  rgm_critic_row out;
  out.gap = rgm_fma(own, q, k->sample ? 0.0f : down * value);
  out.loss = rgm_fma(k->beta, out.gap, k->share * huber);
  out.slope = rgm_fma(k->beta, own, k->share * rgm_clamp(e, -k->delta, k->delta));
  return out;
}


// The push down of a row over all discrete actions: its value; dq gets its gradient.
RGM_FN float rgm_push_actions(float *dq, const float *q, const float *z, int actions, int64_t row,
                              rgm_push push, const rgm_critic_rates *k) {
  const bool down = row >= k->first && push >= RGM_PUSH_RHO_EXPECT;
  float value = 0.0f;
  if (!down) {
    for (int a = 0; a < actions; a++) {
      dq[a] = 0.0f;
    }
  } else if (push == RGM_PUSH_RHO_EXPECT) {
    const rgm_softmax soft = rgm_softmax_of(z, actions);
    for (int a = 0; a < actions; a++) {
      const float pi = rgm_exp(z[a] - soft.top - soft.log_sum);
      value = rgm_fma(pi, q[a], value);
      dq[a] = k->beta * k->down * pi;
    }
  } else {
    const float top = rgm_greatest(q, actions);
    float sum = 0.0f;
    for (int a = 0; a < actions; a++) {
      dq[a] = rgm_exp((q[a] - top) * k->cold);
      sum = sum + dq[a];
    }
    const float scale = k->beta * k->down / sum;
    for (int a = 0; a < actions; a++) {
      dq[a] = scale * dq[a];
    }
    value = rgm_fma(k->hot, rgm_log(sum), top);
  }
  return value;
}


// The push down of row b over sampled actions of one net: groups of `samples`, rows of `columns`.
RGM_FN float rgm_push_samples(float *dq, const float *q, const float *log_q, int64_t groups,
                              int64_t rows, int64_t samples, int64_t columns, int64_t row,
                              const rgm_critic_rates *k) {
  const int64_t count = groups * samples;
  const bool down = row >= k->first;
  float top = 0.0f, sum = 0.0f;
  for (int64_t j = 0; j < count && down; j++) {
    const int64_t at = (j / samples * rows + row) * samples + j % samples;
    const float x = rgm_fma(q[at * columns], k->cold, -log_q[at]);
    top = j == 0 || x > top ? x : top;
  }
  for (int64_t j = 0; j < count; j++) {
    const int64_t at = (j / samples * rows + row) * samples + j % samples;
    const float e = down ? rgm_exp(rgm_fma(q[at * columns], k->cold, -log_q[at]) - top) : 0.0f;
    sum = sum + e;
    dq[at * columns] = e;
    for (int64_t c = 1; c < columns; c++) {
      dq[at * columns + c] = 0.0f;
    }
  }
  const float scale = down ? k->beta * k->down / sum : 0.0f;
  for (int64_t j = 0; j < count; j++) {
    const int64_t at = (j / samples * rows + row) * samples + j % samples;
    dq[at * columns] = scale * dq[at * columns];
  }
  return down ? k->hot * (top + rgm_log(sum)) : 0.0f;
}


// ---- multipliers -------------------------------------------------------------------------------

RGM_FN float rgm_dual_slope(rgm_dual_form form, float mean, float weight, float target,
                            float log_dual) {
  const float h = rgm_fma(weight, mean, -target);
  if (form == RGM_DUAL_LINEAR) {
    return h;
  }
  const float m = rgm_exp(log_dual);
  if (form == RGM_DUAL_EXP) {
    return m * h;
  }
  return m <= RGM_MULTIPLIER_MOST ? -m * h : 0.0f;
}


// ---- tanh-Gaussian policies --------------------------------------------------------------------

// What four dims of a sample draw: normals, zeros, or uniform in [-1, 1).
RGM_FN void rgm_action_noise(rgm_key key, uint32_t step, uint32_t item, uint32_t draw,
                             uint32_t member, rgm_draw kind, float *noise) {
  const rgm_words w = rgm_philox(key, step, item, draw, member);
  if (kind == RGM_DRAW_UNIFORM) {
    noise[0] = rgm_fma(2.0f, rgm_unit(w.w0), -1.0f);
    noise[1] = rgm_fma(2.0f, rgm_unit(w.w1), -1.0f);
    noise[2] = rgm_fma(2.0f, rgm_unit(w.w2), -1.0f);
    noise[3] = rgm_fma(2.0f, rgm_unit(w.w3), -1.0f);
    return;
  }
  rgm_normals(w.w0, w.w1, &noise[0], &noise[1]);
  rgm_normals(w.w2, w.w3, &noise[2], &noise[3]);
  for (int i = 0; i < 4; i++) {
    noise[i] = kind == RGM_DRAW_POLICY ? noise[i] : 0.0f;
  }
}


// One dim of a sample: its action; its log-density is added to *log_pi.
RGM_FN float rgm_action_of(float mu, float log_sd, float noise, float scale, float shift,
                           float *log_pi) {
  const float u = rgm_fma(rgm_exp(log_sd), noise, mu);
  const float squash = 0x1.62e43p-1f - u - rgm_softplus(-2.0f * u);             // log 2
  const float normal = rgm_fma(-0.5f * noise, noise, -log_sd) - 0x1.d67f1cp-1f; // log(2 pi) / 2
  *log_pi = *log_pi + (rgm_fma(-2.0f, squash, normal) - rgm_log(scale));
  return rgm_fma(scale, rgm_tanh(u), shift);
}


// Its gradients by mu and log sigma, given the slope by the action; share is alpha / B. 1 - tanh^2
// comes from sigmoids, since the difference of near ones has no digits.
RGM_FN void rgm_action_slopes(float mu, float raw, float low, float high, float noise, float scale,
                              float da, float share, float *dmu, float *draw) {
  const float sd = rgm_exp(rgm_clamp(raw, low, high)), u = rgm_fma(sd, noise, mu);
  const float flat = 4.0f * rgm_sigmoid(2.0f * u) * rgm_sigmoid(-2.0f * u);
  const float du = rgm_fma(da * scale, flat, 2.0f * share * rgm_tanh(u));
  *dmu = du;
  *draw = raw >= low && raw <= high ? rgm_fma(du * sd, noise, -share) : 0.0f;
}


// The density of a given action: its share of log pi is added; slopes are those of -log pi, times
// `share`, by mu and raw log sigma.
RGM_FN void rgm_action_density(float mu, float raw, float low, float high, float a, float scale,
                               float shift, float share, float *log_pi, float *dmu, float *draw) {
  const float most = 1.0f - 0x1p-17f, log_sd = rgm_clamp(raw, low, high);
  const float y = rgm_clamp((a - shift) / scale, -most, most);
  const float u = 0.5f * (rgm_log1p(y) - rgm_log1p(-y));
  const float noise = (u - mu) * rgm_exp(-log_sd);
  const float squash = 0x1.62e43p-1f - u - rgm_softplus(-2.0f * u);
  const float normal = rgm_fma(-0.5f * noise, noise, -log_sd) - 0x1.d67f1cp-1f;
  *log_pi = *log_pi + (rgm_fma(-2.0f, squash, normal) - rgm_log(scale));
  *dmu = -share * noise * rgm_exp(-log_sd);
  *draw = raw >= low && raw <= high ? share * rgm_fma(-noise, noise, 1.0f) : 0.0f;
}


// ---- classes -----------------------------------------------------------------------------------

// A class of a softmax policy, u uniform in [0, 1): the first whose cumulative probability exceeds
// it, or else the last that has any.
RGM_FN int rgm_class_of(const float *z, int actions, rgm_draw kind, float u, float *log_pi) {
  const rgm_softmax soft = rgm_softmax_of(z, actions);
  int which = 0;
  float sum = 0.0f;
  bool found = false;
  for (int a = 0; a < actions; a++) {
    const float pi = rgm_exp(z[a] - soft.top - soft.log_sum);
    sum = sum + pi;
    const bool take = kind == RGM_DRAW_MEAN ? z[a] > z[which] : !found && pi > 0.0f;
    which = take ? a : which;
    found = found || sum > u;
  }
  *log_pi = z[which] - soft.top - soft.log_sum;
  return which;
}


RGM_FN int rgm_class_uniform(int actions, float u, float *log_pi) {
  const int which = (int)(u * (float)actions);
  *log_pi = -rgm_log((float)actions);
  return which < actions ? which : actions - 1;
}


// dz gets share (softmax - onehot), the slope of -share log pi; returns log pi.
RGM_FN float rgm_class_score(float *dz, const float *z, int actions, int which, float share) {
  const rgm_softmax soft = rgm_softmax_of(z, actions);
  for (int a = 0; a < actions && dz != NULL; a++) {
    const float pi = rgm_exp(z[a] - soft.top - soft.log_sum);
    dz[a] = share * (a == which ? pi - 1.0f : pi);
  }
  return z[which] - soft.top - soft.log_sum;
}


// ---- Gaussian heads with bounded log-variances -------------------------------------------------

// One output of one row; share is 1 / (B K).
typedef struct rgm_nll_term {
  float loss, dmean, draw, dmax, dmin;
} rgm_nll_term;

RGM_INLINE rgm_nll_term rgm_nll_of(float mean, float raw, float target, float max, float min,
                                   float share) {
  const float w = max - rgm_softplus(max - raw), v = min + rgm_softplus(w - min);
  const float e = mean - target, precision = rgm_exp(-v);
  const float misfit = e * e * precision, dv = share * (1.0f - misfit);
  const float dw = dv * rgm_sigmoid(w - min);
  rgm_nll_term out;
  out.loss = share * (misfit + v);
  out.dmean = 2.0f * share * e * precision;
  out.draw = dw * rgm_sigmoid(max - raw);
  out.dmax = dw * rgm_sigmoid(raw - max);
  out.dmin = dv * rgm_sigmoid(min - w);
  return out;
}

#endif
