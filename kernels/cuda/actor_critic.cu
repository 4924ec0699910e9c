// SPDX-License-Identifier: Apache-2.0
// Targets, losses and gradients of actors and critics, multipliers, actions of tanh-Gaussian
// policies. A thread takes a row of a batch; kernels/actor_critic.h has the arithmetic.

#include "kernels/cuda/cuda.cuh"
#include "kernels/actor_critic.h"

enum { THREADS = 128, BLOCKS = 1024, LEVELS = 20 };


static dim3 grid_of(int64_t replicas, int64_t rows) {
  return dim3(rgm_blocks(rows, THREADS, BLOCKS), rgm_replica_blocks(replicas));
}


// alpha of replica r; 0 where there is none
RGM_DEVICE float alpha_of(const rgm_tensor &log_alpha, int64_t r) {
  return log_alpha.data != nullptr ? rgm_exp(rgm_f32(log_alpha, r)[0]) : 0.0f;
}


RGM_DEVICE void clear(float *x, int64_t begin, int64_t end) {
  for (int64_t i = begin; i < end; i++) {
    x[i] = 0.0f;
  }
}


// ---- targets -----------------------------------------------------------------------------------

RGM_KERNEL(THREADS) soft_target_kernel(rgm_target t) {
  const int64_t rows = t.q.dims[2], columns = t.q.dims[3], apart = rows * columns;
  RGM_REPLICAS (r, t.q.dims[0]) {
    if (rgm_u32(t.active, r)[0] == 0) {
      continue;
    }
    const float alpha = alpha_of(t.log_alpha, r), gamma = rgm_f32(t.gamma, r)[0];
    RGM_ELEMENTS (b, rows) {
      const float *q = rgm_f32(t.q, r) + b * columns;
      float value;
      if (t.head.data != nullptr) {
        const float *z = rgm_f32(t.head, r) + b * t.head.dims[2];
        value = rgm_soft_value(q, t.q.dims[1], apart, z, t.actions, alpha);
      } else {
        int64_t which;
        const float least = rgm_least_critic(q, t.q.dims[1], apart, &which);
        value =
            t.log_alpha.data != nullptr ? rgm_fma(-alpha, rgm_f32(t.log_pi, r)[b], least) : least;
      }
      rgm_f32(t.y, r)[b] =
          rgm_backup(rgm_f32(t.reward, r)[b], rgm_f32(t.terminated, r)[b], gamma, value);
    }
  }
}


void rgm_cuda_soft_target(rgm_stream *s, const rgm_target *target) {
  RGM_LAUNCH(soft_target_kernel, grid_of(target->q.dims[0], target->q.dims[2]), THREADS, 0, s,
             *target);
}


// ---- critics -----------------------------------------------------------------------------------

RGM_DEVICE rgm_critic_rates rates_of(const rgm_critic &c, int64_t r) {
  const bool push = c.push != RGM_PUSH_NONE, soft = c.push >= RGM_PUSH_LOGSUMEXP_MODEL;
  const int64_t rows = c.q.dims[2];
  return rgm_critic_rates_of(
      c.push, rows, c.real.data != nullptr ? (int64_t)rgm_u32(c.real, r)[0] : rows,
      push ? rgm_f32(c.beta, r)[0] : 0.0f,
      c.log_multiplier.data != nullptr ? rgm_exp(rgm_f32(c.log_multiplier, r)[0]) : 1.0f,
      soft ? rgm_f32(c.temperature, r)[0] : 1.0f,
      c.delta.data != nullptr ? rgm_f32(c.delta, r)[0] : rgm_from_bits(0x7f800000u));
}


RGM_DEVICE void put_shares(const rgm_critic &c, int64_t r, int64_t row, rgm_critic_row own) {
  if (c.loss.data != nullptr) {
    rgm_f32(c.loss, r)[row] = own.loss;
  }
  if (c.gap.data != nullptr) {
    rgm_f32(c.gap, r)[row] = own.gap;
  }
}


// discrete actions
RGM_KERNEL(THREADS) critic_discrete_kernel(rgm_critic c) {
  const int64_t rows = c.q.dims[2], columns = c.q.dims[3];
  RGM_REPLICAS (r, c.q.dims[0]) {
    if (rgm_u32(c.active, r)[0] == 0) {
      continue;
    }
    const rgm_critic_rates k = rates_of(c, r);
    RGM_ELEMENTS (row, c.q.dims[1] * rows) {
      const int64_t b = row % rows;
      const float *q = rgm_f32(c.q, r) + row * columns;
      const float *z = c.head.data != nullptr ? rgm_f32(c.head, r) + b * c.head.dims[2] : nullptr;
      float *dq = rgm_f32(c.dq, r) + row * columns;
      const int64_t action = (int64_t)rgm_f32(c.action, r)[b];
      const float value = rgm_push_actions(dq, q, z, c.actions, b, c.push, &k);
      const rgm_critic_row own = rgm_critic_own(q[action], rgm_f32(c.y, r)[b], value, b, &k);
      dq[action] = dq[action] + own.slope;
      clear(dq, c.actions, columns);
      put_shares(c, r, row, own);
    }
  }
}


// continuous actions, with sampled ones to push down or without
RGM_KERNEL_RESIDENT(THREADS, 8) critic_sampled_kernel(rgm_critic c) {
  const int64_t rows = c.q.dims[2], columns = c.q.dims[3], all = c.sampled.dims[2];
  RGM_REPLICAS (r, c.q.dims[0]) {
    if (rgm_u32(c.active, r)[0] == 0) {
      continue;
    }
    const rgm_critic_rates k = rates_of(c, r);
    RGM_ELEMENTS (row, c.q.dims[1] * rows) {
      const int64_t b = row % rows, net = row / rows * all * c.sampled.dims[3];
      float *dq = rgm_f32(c.dq, r) + row * columns, value = 0.0f;
      if (c.sampled.data != nullptr) {
        value = rgm_push_samples(rgm_f32(c.dsampled, r) + net, rgm_f32(c.sampled, r) + net,
                                 rgm_f32(c.log_q, r), all / (rows * c.samples), rows, c.samples,
                                 c.sampled.dims[3], b, &k);
      }
      const float q = rgm_f32(c.q, r)[row * columns];
      const rgm_critic_row own = rgm_critic_own(q, rgm_f32(c.y, r)[b], value, b, &k);
      dq[0] = own.slope;
      clear(dq, 1, columns);
      put_shares(c, r, row, own);
    }
  }
}


void rgm_cuda_critic_loss(rgm_stream *s, const rgm_critic *c) {
  const dim3 grid = grid_of(c->q.dims[0], c->q.dims[1] * c->q.dims[2]);
  if (c->action.data != nullptr) {
    RGM_LAUNCH(critic_discrete_kernel, grid, THREADS, 0, s, *c);
  } else {
    RGM_LAUNCH(critic_sampled_kernel, grid, THREADS, 0, s, *c);
  }
}


// ---- actors ------------------------------------------------------------------------------------

RGM_KERNEL(THREADS) actor_discrete_kernel(rgm_actor a) {
  const int64_t *d = a.q.dims, rows = d[2], columns = a.head.dims[2];
  const float share = 1.0f / (float)rows;
  RGM_REPLICAS (r, a.q.dims[0]) {
    if (rgm_u32(a.active, r)[0] == 0) {
      continue;
    }
    const float alpha = alpha_of(a.log_alpha, r);
    RGM_ELEMENTS (b, rows) {
      float *dz = rgm_f32(a.dz, r) + b * columns, loss, entropy;
      rgm_actor_row(dz, &loss, &entropy, rgm_f32(a.q, r) + b * d[3], d[1], rows * d[3],
                    rgm_f32(a.head, r) + b * columns, a.actions, alpha, share);
      clear(dz, a.actions, columns);
      if (a.loss.data != nullptr) {
        rgm_f32(a.loss, r)[b] = loss;
      }
      if (a.entropy.data != nullptr) {
        rgm_f32(a.entropy, r)[b] = entropy;
      }
    }
  }
}


RGM_KERNEL(THREADS) actor_continuous_kernel(rgm_actor a) {
  const int64_t *d = a.q.dims, rows = d[2], apart = rows * d[3];
  const float share = 1.0f / (float)rows;
  RGM_REPLICAS (r, a.q.dims[0]) {
    if (rgm_u32(a.active, r)[0] == 0) {
      continue;
    }
    const float alpha = alpha_of(a.log_alpha, r);
    RGM_ELEMENTS (b, rows) {
      int64_t which;
      const float least = rgm_least_critic(rgm_f32(a.q, r) + b * d[3], d[1], apart, &which);
      for (int64_t n = 0; n < d[1]; n++) {
        float *dq = rgm_f32(a.dq, r) + n * apart + b * d[3];
        dq[0] = n == which ? -share : 0.0f;
        clear(dq, 1, d[3]);
      }
      if (a.loss.data != nullptr) {
        rgm_f32(a.loss, r)[b] = share * rgm_fma(alpha, rgm_f32(a.log_pi, r)[b], -least);
      }
    }
  }
}


void rgm_cuda_actor_loss(rgm_stream *s, const rgm_actor *a) {
  const dim3 grid = grid_of(a->q.dims[0], a->q.dims[2]);
  if (a->head.data != nullptr) {
    RGM_LAUNCH(actor_discrete_kernel, grid, THREADS, 0, s, *a);
  } else {
    RGM_LAUNCH(actor_continuous_kernel, grid, THREADS, 0, s, *a);
  }
}


// ---- multipliers -------------------------------------------------------------------------------

typedef struct dual_args {
  rgm_tensor grad, mean, x, weight, target, log_dual, active;
  float scale;
  rgm_dual_form form;
} dual_args;


// a block for a replica
RGM_KERNEL(RGM_SUM_THREADS) dual_kernel(dual_args a) {
  RGM_SHARED(float, stage, [RGM_SUM_THREADS][RGM_SUM_COLUMNS + 1]);
  RGM_SHARED(float, part, [32]);
  const int64_t n = rgm_per_replica(a.x);
  RGM_REPLICAS (r, a.x.dims[0]) {
    if (rgm_u32(a.active, r)[0] == 0) {
      continue;
    }
    rgm_counter_tree<LEVELS> tree = {};
    for (int64_t first = 0; first < n; first += RGM_SUM_TILE) {
      rgm_tree_push(&tree, rgm_block_sum<false>(rgm_f32(a.x, r) + first, n - first, stage, part));
      __syncthreads();
    }
    if (threadIdx.x == 0) {
      const float mean = a.scale * rgm_tree_total(&tree);
      const float log_dual = a.log_dual.data != nullptr ? rgm_f32(a.log_dual, r)[0] : 0.0f;
      rgm_f32(a.grad, r)[0] =
          rgm_dual_slope(a.form, mean, rgm_f32(a.weight, r)[0], rgm_f32(a.target, r)[0], log_dual);
      if (a.mean.data != nullptr) {
        rgm_f32(a.mean, r)[0] = mean;
      }
    }
  }
}


void rgm_cuda_dual(rgm_stream *s, rgm_tensor grad, rgm_tensor mean, rgm_tensor x, rgm_tensor weight,
                   rgm_tensor target, rgm_tensor log_dual, rgm_tensor active, float scale,
                   rgm_dual_form form) {
  const dual_args a = {grad, mean, x, weight, target, log_dual, active, scale, form};
  RGM_LAUNCH(dual_kernel, dim3(1, rgm_replica_blocks(x.dims[0])), RGM_SUM_THREADS, 0, s, a);
}


// ---- tanh-Gaussian policies --------------------------------------------------------------------

RGM_KERNEL_RESIDENT(THREADS, 8) action_draw_kernel(rgm_policy_draw a) {
  const int64_t samples = a.act.dims[1], dims = a.act.dims[2];
  const bool uniform = a.draw == RGM_DRAW_UNIFORM;
  const int64_t each = uniform ? 1 : samples / a.head.dims[1];
  RGM_REPLICAS (r, a.act.dims[0]) {
    if (rgm_u32(a.active, r)[0] == 0) {
      continue;
    }
    const rgm_key key = rgm_stream_key(rgm_u32(a.seeds, r), a.random);
    const uint32_t step = rgm_u32(a.clock, r)[0];
    const float low = uniform ? 0.0f : rgm_f32(a.low, r)[0];
    const float high = uniform ? 0.0f : rgm_f32(a.high, r)[0];
    const float *scale = rgm_f32(a.scale, r), *shift = rgm_f32(a.shift, r);
    RGM_ELEMENTS (m, samples) {
      const float *head = uniform ? nullptr : rgm_f32(a.head, r) + m / each * a.head.dims[2];
      float *act = rgm_f32(a.act, r) + m * dims, log_pi = 0.0f;
      for (int64_t k = 0; k < dims; k += 4) {
        float noise[4];
        rgm_action_noise(key, step, (uint32_t)m, (uint32_t)(k / 4), a.member, a.draw, noise);
#pragma unroll
        for (int i = 0; i < 4; i++) {
          if (k + i < dims && uniform) {
            act[k + i] = rgm_fma(scale[k + i], noise[i], shift[k + i]);
            log_pi = log_pi - rgm_log(2.0f * scale[k + i]);
          } else if (k + i < dims) {
            act[k + i] = rgm_action_of(head[k + i], rgm_clamp(head[dims + k + i], low, high),
                                       noise[i], scale[k + i], shift[k + i], &log_pi);
          }
        }
      }
      rgm_f32(a.log_pi, r)[m] = log_pi;
    }
  }
}


RGM_KERNEL(THREADS) class_draw_kernel(rgm_policy_draw a) {
  const int64_t samples = a.act.dims[1];
  const bool uniform = a.draw == RGM_DRAW_UNIFORM;
  const int64_t each = uniform ? 1 : samples / a.head.dims[1];
  RGM_REPLICAS (r, a.act.dims[0]) {
    if (rgm_u32(a.active, r)[0] == 0) {
      continue;
    }
    const rgm_key key = rgm_stream_key(rgm_u32(a.seeds, r), a.random);
    const uint32_t step = rgm_u32(a.clock, r)[0];
    RGM_ELEMENTS (m, samples) {
      const float u = rgm_unit(rgm_philox(key, step, (uint32_t)m, 0, a.member).w0);
      float *log_pi = rgm_f32(a.log_pi, r) + m;
      const int which = uniform ? rgm_class_uniform(a.choices, u, log_pi)
                                : rgm_class_of(rgm_f32(a.head, r) + m / each * a.head.dims[2],
                                               a.choices, a.draw, u, log_pi);
      rgm_f32(a.act, r)[m] = (float)which;
    }
  }
}


void rgm_cuda_action_draw(rgm_stream *s, const rgm_policy_draw *draw) {
  if (draw->choices > 0) {
    RGM_LAUNCH(class_draw_kernel, grid_of(draw->act.dims[0], draw->act.dims[1]), THREADS, 0, s,
               *draw);
    return;
  }
  RGM_LAUNCH(action_draw_kernel, grid_of(draw->act.dims[0], draw->act.dims[1]), THREADS, 0, s,
             *draw);
}


typedef struct slopes_args {
  rgm_tensor dhead, dx, log_alpha;
  rgm_policy_draw draw;
  int64_t column;
} slopes_args;


RGM_KERNEL_RESIDENT(THREADS, 8) action_backward_kernel(slopes_args a) {
  const int64_t rows = a.dhead.dims[1], columns = a.dhead.dims[2], dims = a.draw.scale.dims[1];
  const int64_t inputs = a.dx.dims[3], nets = a.dx.data != nullptr ? a.dx.dims[1] : 0;
  RGM_REPLICAS (r, a.dhead.dims[0]) {
    if (rgm_u32(a.draw.active, r)[0] == 0) {
      continue;
    }
    const rgm_key key = rgm_stream_key(rgm_u32(a.draw.seeds, r), a.draw.random);
    const uint32_t step = rgm_u32(a.draw.clock, r)[0];
    const float low = rgm_f32(a.draw.low, r)[0], high = rgm_f32(a.draw.high, r)[0];
    const float share = alpha_of(a.log_alpha, r) / (float)rows;
    RGM_ELEMENTS (b, rows) {
      const float *head = rgm_f32(a.draw.head, r) + b * columns;
      float *dhead = rgm_f32(a.dhead, r) + b * columns;
      for (int64_t k = 0; k < dims; k += 4) {
        float noise[4];
        rgm_action_noise(key, step, (uint32_t)b, (uint32_t)(k / 4), a.draw.member, a.draw.draw,
                         noise);
#pragma unroll
        for (int i = 0; i < 4; i++) {
          if (k + i < dims) {
            float da = 0.0f;
            for (int64_t n = 0; n < nets; n++) {
              da = da + rgm_f32(a.dx, r)[(n * rows + b) * inputs + a.column + k + i];
            }
            rgm_action_slopes(head[k + i], head[dims + k + i], low, high, noise[i],
                              rgm_f32(a.draw.scale, r)[k + i], da, share, &dhead[k + i],
                              &dhead[dims + k + i]);
          }
        }
      }
      clear(dhead, 2 * dims, columns);
    }
  }
}


void rgm_cuda_action_backward(rgm_stream *s, rgm_tensor dhead, rgm_tensor dx, rgm_tensor log_alpha,
                              const rgm_policy_draw *draw, int64_t column) {
  const slopes_args a = {dhead, dx, log_alpha, *draw, column};
  RGM_LAUNCH(action_backward_kernel, grid_of(dhead.dims[0], dhead.dims[1]), THREADS, 0, s, a);
}


typedef struct score_args {
  rgm_tensor dhead;
  rgm_policy_draw given;
} score_args;


RGM_KERNEL(THREADS) class_score_kernel(score_args a) {
  const int64_t rows = a.given.act.dims[1], columns = a.given.head.dims[2];
  const float share = 1.0f / (float)rows;
  RGM_REPLICAS (r, a.given.act.dims[0]) {
    if (rgm_u32(a.given.active, r)[0] == 0) {
      continue;
    }
    RGM_ELEMENTS (b, rows) {
      float *dhead = a.dhead.data != nullptr ? rgm_f32(a.dhead, r) + b * columns : nullptr;
      rgm_f32(a.given.log_pi, r)[b] =
          rgm_class_score(dhead, rgm_f32(a.given.head, r) + b * columns, a.given.choices,
                          (int)rgm_f32(a.given.act, r)[b], share);
      if (dhead != nullptr) {
        clear(dhead, a.given.choices, columns);
      }
    }
  }
}


RGM_KERNEL(THREADS) action_score_kernel(score_args a) {
  const int64_t rows = a.given.act.dims[1], dims = a.given.act.dims[2];
  const int64_t columns = a.given.head.dims[2];
  const float share = 1.0f / (float)rows;
  RGM_REPLICAS (r, a.given.act.dims[0]) {
    if (rgm_u32(a.given.active, r)[0] == 0) {
      continue;
    }
    const float low = rgm_f32(a.given.low, r)[0], high = rgm_f32(a.given.high, r)[0];
    RGM_ELEMENTS (b, rows) {
      const float *head = rgm_f32(a.given.head, r) + b * columns;
      const float *act = rgm_f32(a.given.act, r) + b * dims;
      float *dhead = a.dhead.data != nullptr ? rgm_f32(a.dhead, r) + b * columns : nullptr;
      float log_pi = 0.0f;
      for (int64_t k = 0; k < dims; k++) {
        float dmu, draw;
        rgm_action_density(head[k], head[dims + k], low, high, act[k], rgm_f32(a.given.scale, r)[k],
                           rgm_f32(a.given.shift, r)[k], share, &log_pi, &dmu, &draw);
        if (dhead != nullptr) {
          dhead[k] = dmu;
          dhead[dims + k] = draw;
        }
      }
      if (dhead != nullptr) {
        clear(dhead, 2 * dims, columns);
      }
      rgm_f32(a.given.log_pi, r)[b] = log_pi;
    }
  }
}


void rgm_cuda_action_score(rgm_stream *s, rgm_tensor dhead, const rgm_policy_draw *given) {
  const score_args a = {dhead, *given};
  const dim3 grid = grid_of(given->act.dims[0], given->act.dims[1]);
  if (given->choices > 0) {
    RGM_LAUNCH(class_score_kernel, grid, THREADS, 0, s, a);
  } else {
    RGM_LAUNCH(action_score_kernel, grid, THREADS, 0, s, a);
  }
}
