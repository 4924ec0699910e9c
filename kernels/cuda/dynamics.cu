// SPDX-License-Identifier: Apache-2.0
// Learned models of the world: rows to the elites that are drawn for them and back, a step of the
// model, appraisal on held-out rows, decay of weights.

#include "kernels/cuda/cuda.cuh"
#include "kernels/model.h"

enum { THREADS = 256, ROWS = 128, BLOCKS = 1024 };


RGM_DEVICE uint32_t shift_of(const rgm_routing &t, int64_t r, int64_t group, int64_t elites) {
  const rgm_key key = rgm_stream_key(rgm_u32(t.seeds, r), t.random);
  return rgm_elite_shift(key, rgm_u32(t.clock, r)[0], (uint32_t)group, t.member, (uint32_t)elites);
}


// ---- rows to elites ----------------------------------------------------------------------------

// a warp for a place of all elites: its lanes draw the same number
RGM_KERNEL(THREADS) route_kernel(rgm_tensor x, rgm_tensor from, rgm_routing routing) {
  const int64_t elites = x.dims[1], places = x.dims[2], width = x.dims[3], rows = from.dims[1];
  const int lane = (int)threadIdx.x % 32, warp = (int)threadIdx.x / 32;
  RGM_REPLICAS (r, x.dims[0]) {
    for (int64_t group = (int64_t)blockIdx.x * (THREADS / 32) + warp; group < places;
         group += (int64_t)gridDim.x * (THREADS / 32)) {
      const uint32_t shift = shift_of(routing, r, group, elites);
      for (int64_t e = 0; e < elites; e++) {
        const int64_t b = rgm_row_of(e, group, shift, elites);
        float *to = rgm_f32(x, r) + (e * places + group) * width;
        for (int64_t i = lane; i < width; i += 32) {
          to[i] = b < rows ? rgm_f32(from, r)[b * width + i] : 0.0f;
        }
      }
    }
  }
}


void rgm_cuda_route(rgm_stream *s, rgm_tensor x, rgm_tensor from, const rgm_routing *routing) {
  const dim3 grid(rgm_blocks(x.dims[2], THREADS / 32, BLOCKS), rgm_replica_blocks(x.dims[0]));
  RGM_LAUNCH(route_kernel, grid, THREADS, 0, s, x, from, *routing);
}


// ---- a step of the model -----------------------------------------------------------------------

// what output k of row b does; returns whether the state left the box
RGM_DEVICE bool model_move(const rgm_model_step &a, int64_t r, int64_t b, int64_t k, float out) {
  const int64_t states = a.state.dims[2], outputs = states + 1;
  const float low = rgm_f32(a.range, r)[k], high = rgm_f32(a.range, r)[outputs + k];
  if (k == states) {
    rgm_f32(a.reward, r)[b] = rgm_within(out, low, high);
    return false;
  }
  const float state = rgm_f32(a.state, r)[b * states + k];
  const bool held = rgm_f32(a.hold, r)[k] != 0.0f;
  const float to = held ? state : state + out;
  bool left = false;
  if (a.box.data != nullptr) {
    left = to < rgm_f32(a.box, r)[k] || to > rgm_f32(a.box, r)[states + k];
  }
  rgm_f32(a.next, r)[b * states + k] = held ? to : rgm_within(to, low, high);
  return left;
}


// a row a thread, its outputs in order
RGM_KERNEL(ROWS) model_kernel(rgm_model_step a) {
  const int64_t elites = a.head.dims[1], places = a.head.dims[2], columns = a.head.dims[3];
  const int64_t outputs = a.bounds.dims[3], rows = a.state.dims[1];
  const bool all = a.kind != RGM_DOUBT_NONE;
  RGM_REPLICAS (r, a.state.dims[0]) {
    if (rgm_u32(a.active, r)[0] == 0) {
      continue;
    }
    const rgm_key key = rgm_stream_key(rgm_u32(a.routing.seeds, r), a.routing.random);
    const uint32_t clock = rgm_u32(a.routing.clock, r)[0];
    RGM_ELEMENTS (b, rows) {
      const int64_t e = rgm_elite_of(b, shift_of(a.routing, r, b / elites, elites), elites);
      const float *heads = rgm_f32(a.head, r), *bounds = rgm_f32(a.bounds, r);
      const float *head = heads + (e * places + (all ? b : b / elites)) * columns;
      const float *max = bounds + 2 * e * outputs, *min = max + outputs;
      const float *mean = rgm_f32(a.scale, r), *sd = mean + outputs;
      bool left = false;
      for (int64_t first = 0; first < outputs; first += 4) {
        float noise[4] = {0.0f, 0.0f, 0.0f, 0.0f};
        if (!a.quiet) {
          rgm_model_noise(key, clock, (uint32_t)b, (uint32_t)(first / 4), a.routing.member, noise);
        }
#pragma unroll
        for (int i = 0; i < 4; i++) {
          const int64_t k = first + i;
          if (k < outputs) {
            const float out = rgm_model_output(head[k], head[outputs + k], max[k], min[k], noise[i],
                                               sd[k], mean[k]);
            left = model_move(a, r, b, k, out) || left;
          }
        }
      }
      float *alive = rgm_f32(a.alive, r) + b, doubt = 0.0f;
      rgm_f32(a.keep, r)[b] = *alive;
      rgm_f32(a.terminated, r)[b] = left ? 1.0f : 0.0f;
      *alive = left ? 0.0f : *alive;
      if (all) {
        doubt = rgm_doubt_of(heads + b * columns, places * columns, bounds, rgm_f32(a.hold, r),
                             (int)elites, (int)outputs, a.kind);
        float *reward = rgm_f32(a.reward, r) + b;
        *reward = rgm_fma(-rgm_f32(a.weight, r)[0], doubt, *reward);
      }
      if (a.doubt.data != nullptr) {
        rgm_f32(a.doubt, r)[b] = doubt;
      }
    }
  }
}


void rgm_cuda_model(rgm_stream *s, const rgm_model_step *step) {
  const dim3 grid(rgm_blocks(step->state.dims[1], ROWS, BLOCKS),
                  rgm_replica_blocks(step->state.dims[0]));
  RGM_LAUNCH(model_kernel, grid, ROWS, 0, s, *step);
}


// ---- appraisal ---------------------------------------------------------------------------------

// a net a thread, then a replica's first thread sees whether any improved; nets are few
RGM_KERNEL(ROWS) appraise_kernel(rgm_appraisal a) {
  const int64_t chunks = a.error.dims[1], nets = a.error.dims[2], outputs = a.error.dims[3];
  RGM_REPLICAS (r, a.error.dims[0]) {
    if (rgm_u32(a.active, r)[0] == 0) {
      continue;
    }
    float *best = rgm_f32(a.best, r), *loss = rgm_f32(a.loss, r);
    uint32_t *improved = rgm_u32(a.improved, r), *elites = rgm_u32(a.elites, r);
    for (int64_t n = threadIdx.x; n < nets; n += ROWS) {
      loss[n] = rgm_holdout_of(rgm_f32(a.error, r) + n * outputs, chunks, nets * outputs, outputs,
                               a.rows, a.chunk);
      const bool better = rgm_improved(loss[n], best[n], rgm_f32(a.margin, r)[0]);
      improved[n] = better ? 1u : 0u;
      best[n] = better ? loss[n] : best[n];
    }
    __syncthreads();
    for (int64_t n = threadIdx.x; n < nets; n += ROWS) {
      const uint32_t place = rgm_place_of(best, nets, n);
      if (place < (uint32_t)a.elites.dims[1]) {
        elites[place] = (uint32_t)n;
      }
    }
    if (threadIdx.x == 0) {
      uint32_t any = 0;
      for (int64_t n = 0; n < nets; n++) {
        any |= improved[n];
      }
      float *idle = rgm_f32(a.idle, r);
      *idle = any != 0 ? 0.0f : *idle + 1.0f;
    }
    __syncthreads();
  }
}


void rgm_cuda_appraise(rgm_stream *s, const rgm_appraisal *appraisal) {
  RGM_LAUNCH(appraise_kernel, dim3(1, rgm_replica_blocks(appraisal->error.dims[0])), ROWS, 0, s,
             *appraisal);
}


// ---- parameters --------------------------------------------------------------------------------

RGM_KERNEL(THREADS) decay_kernel(rgm_tensor g, rgm_tensor p, rgm_tensor rate, rgm_tensor active) {
  RGM_REPLICAS (r, g.dims[0]) {
    if (rgm_u32(active, r)[0] == 0) {
      continue;
    }
    const float share = rgm_f32(rate, r)[0];
    RGM_ELEMENTS (i, rgm_per_replica(g)) {
      rgm_f32(g, r)[i] = rgm_fma(share, rgm_f32(p, r)[i], rgm_f32(g, r)[i]);
    }
  }
}


void rgm_cuda_decay_weights(rgm_stream *s, rgm_tensor g, rgm_tensor p, rgm_tensor rate,
                            rgm_tensor active) {
  const dim3 grid(rgm_blocks(rgm_per_replica(g), THREADS, BLOCKS), rgm_replica_blocks(g.dims[0]));
  RGM_LAUNCH(decay_kernel, grid, THREADS, 0, s, g, p, rate, active);
}


RGM_KERNEL(THREADS)
adopt_kernel(rgm_tensor to, rgm_tensor from, rgm_tensor chosen, uint32_t number) {
  RGM_REPLICAS (r, to.dims[0]) {
    if (rgm_u32(chosen, r)[0] != number) {
      continue;
    }
    RGM_ELEMENTS (i, rgm_per_replica(to)) {
      rgm_f32(to, r)[i] = rgm_f32(from, r)[i];
    }
  }
}


void rgm_cuda_adopt(rgm_stream *s, rgm_tensor to, rgm_tensor from, rgm_tensor chosen,
                    uint32_t number) {
  const dim3 grid(rgm_blocks(rgm_per_replica(to), THREADS, BLOCKS), rgm_replica_blocks(to.dims[0]));
  RGM_LAUNCH(adopt_kernel, grid, THREADS, 0, s, to, from, chosen, number);
}
