// SPDX-License-Identifier: Apache-2.0
// Nets that learn: N MLPs of one shape with Adam, and a pass of a batch through them, forwards and
// back. An actor is one net, critics are two or more, an ensemble has seven. For algorithms.

#ifndef RGM_NETS_H
#define RGM_NETS_H

#include "engine/engine.h"

enum { RGM_MAX_NETS = 16 };

// N nets. Each has its parameters, and two moments of them, per replica; `target` holds moving
// averages (has_target), `gradient` what is clipped before Adam sees it (has_gradient).
typedef struct rgm_nets {
  int count; // N
  rgm_act act;
  bool has_target, has_gradient;
  rgm_mlp net[RGM_MAX_NETS], target[RGM_MAX_NETS];
  rgm_tensor m[RGM_MAX_NETS], v[RGM_MAX_NETS]; // (R, W)
  rgm_tensor updates[RGM_MAX_NETS];            // (R) u32, steps of Adam
  rgm_tensor gradient, norm;                   // (R, W) of the net at work, (R)
} rgm_nets;

// What a batch of B rows leaves behind in N nets, and room for the way back.
typedef struct rgm_pass {
  rgm_tensor hidden[RGM_MAX_LAYERS]; // (R, N, B, H_l) after each hidden layer, or of one net
  rgm_tensor out;                    // (R, N, B, O), O padded
  rgm_tensor slope[2];               // (R, B H) of two layers at work; data NULL: no way back
} rgm_pass;

// How a way back ends: a step of Adam, and of the targets at `rate`.
typedef struct rgm_descent {
  rgm_tensor lr, beta1, beta2, eps; // (R)
  rgm_tensor rate;                  // (R), read where there are targets
  rgm_tensor clip;                  // (R) most norm of a net's gradient; data NULL: as it is
  rgm_tensor decay;                 // (R, L) of the weights of each layer; data NULL: none
  rgm_tensor active;                // (R) u32
} rgm_descent;

enum { RGM_WITH_TARGET = 1, RGM_WITH_GRADIENT = 2 };

// A view of net n: t (R, N, B, O) as (R, B, O), or (R, N, B) as (R, B).
rgm_tensor rgm_of_net(rgm_tensor t, int n);

// Rows first ... first + count - 1 of t (R, B, O), or of (R, B).
rgm_tensor rgm_rows(rgm_tensor t, int64_t first, int64_t count);

// Rows first ... first + count - 1 of net n in t (R, N, B, O), as one net: (R, 1, count, O); and
// its shares in t (R, N, B), as (R, 1, B).
rgm_tensor rgm_part_of_net(rgm_tensor t, int n, int64_t first, int64_t count);
rgm_tensor rgm_share_of_net(rgm_tensor t, int n);

// Replicas first ... first + count - 1 of a tensor; one that is left out (data NULL) stays so.
rgm_tensor rgm_slice_optional(rgm_tensor t, int64_t first, int64_t count);

// Fills t (R, ...): each replica with the same values, which are as large as one; or with a number.
// Waits until it is done.
rgm_status rgm_put_rows(rgm_run *run, rgm_tensor t, const void *values);
rgm_status rgm_put_number(rgm_run *run, rgm_tensor t, float number);

// Whether a list of widths, the value of `key`, has as many layers as nets may have. RGM_ECONFIG.
rgm_status rgm_check_hidden(const rgm_run *run, const char *key, const rgm_list *hidden);

// Plans "NAME/n" for n = 0 ... count - 1: inputs, hidden widths, outputs; `flags` go to the
// parameters (RGM_STATE, RGM_EXPORTED).
rgm_nets rgm_plan_nets(rgm_arena *arena, const char *name, int64_t replicas, int count,
                       int64_t inputs, const rgm_list *hidden, int64_t outputs, rgm_act act,
                       unsigned flags, unsigned with);

// Room for B rows, and what way back there is: none, so that the next net may overwrite what the
// one before left hidden; of all nets after all; of each net before the next one goes forwards; or
// none, but room for all nets to go forwards at once, which saves time where rows are few.
enum { RGM_NO_WAY_BACK, RGM_WAY_BACK, RGM_WAY_BACK_EACH, RGM_AT_ONCE };
rgm_pass rgm_plan_pass(rgm_arena *arena, const char *name, int64_t replicas, const rgm_nets *nets,
                       int64_t rows, int back);

// The same in the room of another pass where that is of one net's size at a time and of these
// widths: what a pass has left there is gone when the other one begins. Only `out` is its own.
rgm_pass rgm_plan_pass_in(rgm_arena *arena, const char *name, int64_t replicas,
                          const rgm_nets *nets, int64_t rows, int back, const rgm_pass *room);

// Weights and biases uniform in +-1 / sqrt(inputs), PyTorch's default; of the last layer in +-last
// where that is > 0. Targets start equal. *member counts the tensors of a run, so that each draws
// numbers of its own.
void rgm_nets_init(rgm_run *run, const rgm_nets *nets, float last, uint32_t *member);

// Replicas first ... first + count - 1.
void rgm_slice_nets(const rgm_nets *whole, int64_t first, int64_t count, rgm_nets *out);
rgm_pass rgm_slice_pass(rgm_pass pass, int64_t first, int64_t count);

// The same room for a batch of fewer rows.
rgm_pass rgm_pass_rows(rgm_pass pass, int64_t rows);

// pass->out = nets(x), x (R, B, I) for all nets or (R, N, B, I); of the targets where asked.
void rgm_forward(rgm_stream *s, const rgm_nets *nets, bool target, rgm_tensor x,
                 const rgm_pass *pass);

// The same of net n alone.
void rgm_forward_net(rgm_stream *s, const rgm_nets *nets, int n, bool target, rgm_tensor x,
                     const rgm_pass *pass);

// The way back from dout (R, N, B, O), the slope of a loss by pass->out. dx (R, N, B, I) gets the
// slope by x unless its data is NULL; `step` NULL leaves the nets as they are. That the pass saw
// other rows than x, or parameters that have changed since, is the caller's bug.
void rgm_backward(rgm_stream *s, const rgm_nets *nets, rgm_tensor x, const rgm_pass *pass,
                  rgm_tensor dout, rgm_tensor dx, const rgm_descent *step);

// The same of net n alone.
void rgm_backward_net(rgm_stream *s, const rgm_nets *nets, int n, rgm_tensor x,
                      const rgm_pass *pass, rgm_tensor dout, rgm_tensor dx,
                      const rgm_descent *step);

#endif
