// SPDX-License-Identifier: Apache-2.0
// N nets of one shape, forwards and back. See nets.h. Nets are taken one after the other: their
// tensors lie N apart, which a stride of dim 0 says.

#include "algorithms/nets.h"
#include "kernels/dynamics.h"

#include <math.h>
#include <stdlib.h>


rgm_tensor rgm_of_net(rgm_tensor t, int n) {
  RGM_ASSERT(t.rank >= 3 && n < t.dims[1]);
  const int64_t size = t.dims[2] * t.dims[3];
  t.data = t.data != NULL ? (float *)t.data + n * size : NULL;
  t.rank--;
  t.dims[1] = t.dims[2];
  t.dims[2] = t.dims[3];
  t.dims[3] = 1;
  return t;
}


rgm_tensor rgm_rows(rgm_tensor t, int64_t first, int64_t count) {
  RGM_ASSERT(first + count <= t.dims[1] && t.dims[3] == 1);
  t.data = t.data != NULL
               ? (uint8_t *)t.data + (size_t)(first * t.dims[2]) * rgm_dtype_size(t.dtype)
               : NULL;
  t.dims[1] = count;
  return t;
}


rgm_tensor rgm_part_of_net(rgm_tensor t, int n, int64_t first, int64_t count) {
  const rgm_tensor rows = rgm_rows(rgm_of_net(t, n), first, count);
  rgm_tensor one = rgm_view(rows.data, RGM_F32, t.dims[0], 1, count, t.dims[3]);
  one.stride0 = t.stride0;
  return one;
}


rgm_tensor rgm_share_of_net(rgm_tensor t, int n) {
  const rgm_tensor row = rgm_of_net(t, n);
  rgm_tensor one = rgm_view(row.data, RGM_F32, t.dims[0], 1, t.dims[2], 0);
  one.stride0 = t.stride0;
  return one;
}


// ---- planning ----------------------------------------------------------------------------------

rgm_status rgm_check_hidden(const rgm_run *run, const char *key, const rgm_list *hidden) {
  return hidden->count < RGM_MAX_LAYERS
             ? RGM_OK
             : rgm_fail(RGM_ECONFIG, "%s: %s: %d layers at most",
                        rgm_config_where(run->config, key), key, RGM_MAX_LAYERS - 1);
}


rgm_nets rgm_plan_nets(rgm_arena *arena, const char *name, int64_t replicas, int count,
                       int64_t inputs, const rgm_list *hidden, int64_t outputs, rgm_act act,
                       unsigned flags, unsigned with) {
  RGM_ASSERT(count > 0 && count <= RGM_MAX_NETS && hidden->count < RGM_MAX_LAYERS);
  rgm_nets nets = {.count = count, .act = act};
  nets.has_target = (with & RGM_WITH_TARGET) != 0;
  nets.has_gradient = (with & RGM_WITH_GRADIENT) != 0;
  int64_t width[RGM_MAX_LAYERS + 1] = {inputs};
  const int layers = hidden->count + 1;
  for (int l = 0; l < hidden->count; l++) {
    width[l + 1] = (int64_t)hidden->value[l];
  }
  width[layers] = outputs;
  for (int n = 0; n < count; n++) {
    char part[64];
    snprintf(part, sizeof part, "%s/%d", name, n);
    nets.net[n] = rgm_plan_mlp(arena, part, replicas, layers, width, flags);
    const int64_t size = nets.net[n].block.dims[1];
    snprintf(part, sizeof part, "%s/%d/m", name, n);
    nets.m[n] =
        rgm_plan(arena, part, RGM_F32, RGM_STATE, "replica, parameter", "1", replicas, size, 0, 0);
    snprintf(part, sizeof part, "%s/%d/v", name, n);
    nets.v[n] =
        rgm_plan(arena, part, RGM_F32, RGM_STATE, "replica, parameter", "1", replicas, size, 0, 0);
    snprintf(part, sizeof part, "%s/%d/updates", name, n);
    nets.updates[n] =
        rgm_plan(arena, part, RGM_U32, RGM_STATE, "replica", "steps", replicas, 0, 0, 0);
    if (nets.has_target) {
      snprintf(part, sizeof part, "%s/%d/target", name, n);
      nets.target[n] = rgm_plan_mlp(arena, part, replicas, layers, width, RGM_STATE);
    }
  }
  if (nets.has_gradient) {
    char part[64];
    snprintf(part, sizeof part, "%s/gradient", name);
    nets.gradient = rgm_plan(arena, part, RGM_F32, RGM_SCRATCH, "replica, parameter", "1", replicas,
                             nets.net[0].block.dims[1], 0, 0);
    snprintf(part, sizeof part, "%s/norm", name);
    nets.norm = rgm_plan(arena, part, RGM_F32, RGM_SCRATCH, "replica", "1", replicas, 0, 0, 0);
  }
  return nets;
}


// t (R, 1, ...) with so many rows of it
static rgm_tensor fewer_rows(rgm_tensor t, int64_t rows) {
  t.dims[2] = rows;
  return t;
}


// whether another pass has room for what these nets leave hidden, and for their slopes
static bool fits(const rgm_pass *room, const rgm_mlp *net, int64_t rows, int64_t widest, int back) {
  bool good = room != NULL && (back == RGM_NO_WAY_BACK || back == RGM_WAY_BACK_EACH);
  for (int l = 0; good && l < RGM_MAX_LAYERS; l++) {
    const int64_t *d = room->hidden[l].dims;
    const bool wanted = l<net->layers - 1, there = room->hidden[l].rank> 0;
    good = wanted == there &&
           (!wanted || (d[1] == 1 && d[2] >= rows && d[3] == rgm_padded(net->width[l + 1])));
  }
  return good &&
         (back == RGM_NO_WAY_BACK || widest == 0 || room->slope[0].dims[1] >= rows * widest);
}


rgm_pass rgm_plan_pass_in(rgm_arena *arena, const char *name, int64_t replicas,
                          const rgm_nets *nets, int64_t rows, int back, const rgm_pass *room) {
  const rgm_mlp *net = &nets->net[0];
  const int last = net->layers - 1;
  const int64_t kept = back == RGM_WAY_BACK || back == RGM_AT_ONCE ? nets->count : 1;
  const bool returns = back == RGM_WAY_BACK || back == RGM_WAY_BACK_EACH;
  rgm_pass pass = {0};
  char part[64];
  int64_t widest = 0;
  for (int l = 0; l < last; l++) {
    const int64_t outputs = rgm_padded(net->width[l + 1]);
    widest = outputs > widest ? outputs : widest;
  }
  const bool lent = fits(room, net, rows, widest, back);
  for (int l = 0; l < last; l++) {
    snprintf(part, sizeof part, "%s/hidden/%d", name, l);
    pass.hidden[l] = lent ? fewer_rows(room->hidden[l], rows)
                          : rgm_plan(arena, part, RGM_F32, RGM_SCRATCH, "in group, net, row, unit",
                                     "1", replicas, kept, rows, rgm_padded(net->width[l + 1]));
  }
  snprintf(part, sizeof part, "%s/out", name);
  pass.out = rgm_plan(arena, part, RGM_F32, RGM_SCRATCH, "in group, net, row, unit", "1", replicas,
                      nets->count, rows, rgm_padded(net->width[net->layers]));
  for (int k = 0; k < 2 && returns && widest > 0; k++) {
    snprintf(part, sizeof part, "%s/slope/%d", name, k);
    pass.slope[k] = lent ? room->slope[k]
                         : rgm_plan(arena, part, RGM_F32, RGM_SCRATCH, "in group, float", "1",
                                    replicas, rows * widest, 0, 0);
  }
  return pass;
}


rgm_pass rgm_plan_pass(rgm_arena *arena, const char *name, int64_t replicas, const rgm_nets *nets,
                       int64_t rows, int back) {
  return rgm_plan_pass_in(arena, name, replicas, nets, rows, back, NULL);
}


void rgm_nets_init(rgm_run *run, const rgm_nets *nets, float last, uint32_t *member) {
  for (int n = 0; n < nets->count; n++) {
    const rgm_mlp *net = &nets->net[n];
    for (int l = 0; l < net->layers; l++) {
      const bool end = l == net->layers - 1 && last > 0.0f;
      const float bound = end ? last : (float)(1.0 / sqrt((double)net->width[l]));
      rgm_tensor weight = net->weight[l];
      weight.dims[1] = net->width[l]; // rows of padding stay 0
      rgm_uniform(run->stream, weight, run->seeds, RGM_RANDOM_INIT, (*member)++, -bound, bound,
                  net->width[l + 1]);
      rgm_uniform(run->stream, net->bias[l], run->seeds, RGM_RANDOM_INIT, (*member)++, -bound,
                  bound, net->width[l + 1]);
    }
    if (nets->has_target) {
      rgm_copy(run->stream, nets->target[n].block.data, net->block.data, rgm_bytes(net->block));
    }
  }
}


rgm_status rgm_put_rows(rgm_run *run, rgm_tensor t, const void *values) {
  const size_t element = rgm_dtype_size(t.dtype), bytes = rgm_bytes(t) / (size_t)t.dims[0];
  for (int64_t r = 0; r < t.dims[0]; r++) {
    rgm_copy(run->stream, (uint8_t *)t.data + (size_t)(r * t.stride0) * element, values, bytes);
  }
  return rgm_sync(run->stream);
}


rgm_status rgm_put_number(rgm_run *run, rgm_tensor t, float number) {
  const int64_t width = rgm_elements(t) / t.dims[0];
  float *row = malloc((size_t)width * sizeof *row);
  if (row == NULL) {
    return rgm_fail(RGM_EMEMORY, "no memory for %lld numbers", (long long)width);
  }
  for (int64_t i = 0; i < width; i++) {
    row[i] = number;
  }
  const rgm_status status = rgm_put_rows(run, t, row);
  free(row);
  return status;
}


// ---- slices ------------------------------------------------------------------------------------

rgm_tensor rgm_slice_optional(rgm_tensor t, int64_t first, int64_t count) {
  return t.data != NULL ? rgm_slice(t, first, count) : t;
}


static void slice_mlp(const rgm_mlp *whole, int64_t first, int64_t count, rgm_mlp *out) {
  *out = *whole;
  out->block = rgm_slice_optional(whole->block, first, count);
  for (int l = 0; l < whole->layers; l++) {
    out->weight[l] = rgm_slice_optional(whole->weight[l], first, count);
    out->bias[l] = rgm_slice_optional(whole->bias[l], first, count);
  }
}


void rgm_slice_nets(const rgm_nets *whole, int64_t first, int64_t count, rgm_nets *out) {
  out->count = whole->count;
  out->act = whole->act;
  out->has_target = whole->has_target;
  out->has_gradient = whole->has_gradient;
  for (int n = 0; n < whole->count; n++) {
    slice_mlp(&whole->net[n], first, count, &out->net[n]);
    slice_mlp(&whole->target[n], first, count, &out->target[n]);
    out->m[n] = rgm_slice_optional(whole->m[n], first, count);
    out->v[n] = rgm_slice_optional(whole->v[n], first, count);
    out->updates[n] = rgm_slice_optional(whole->updates[n], first, count);
  }
  out->gradient = rgm_slice_optional(whole->gradient, first, count);
  out->norm = rgm_slice_optional(whole->norm, first, count);
}


rgm_pass rgm_slice_pass(rgm_pass pass, int64_t first, int64_t count) {
  for (int l = 0; l < RGM_MAX_LAYERS; l++) {
    pass.hidden[l] = rgm_slice_optional(pass.hidden[l], first, count);
  }
  pass.out = rgm_slice_optional(pass.out, first, count);
  pass.slope[0] = rgm_slice_optional(pass.slope[0], first, count);
  pass.slope[1] = rgm_slice_optional(pass.slope[1], first, count);
  return pass;
}


rgm_pass rgm_pass_rows(rgm_pass pass, int64_t rows) {
  RGM_ASSERT(rows <= pass.out.dims[2]);
  for (int l = 0; l < RGM_MAX_LAYERS; l++) {
    pass.hidden[l].dims[2] = pass.hidden[l].data != NULL ? rows : pass.hidden[l].dims[2];
  }
  pass.out.dims[2] = rows;
  return pass;
}


// ---- forwards and back -------------------------------------------------------------------------

// what net n leaves after hidden layer l
static rgm_tensor hidden_of(const rgm_pass *pass, int n, int l) {
  return rgm_of_net(pass->hidden[l], pass->hidden[l].dims[1] > 1 ? n : 0);
}


// what layer l of net n sees
static rgm_tensor input_of(rgm_tensor x, const rgm_pass *pass, int n, int l) {
  return l > 0 ? hidden_of(pass, n, l - 1) : x.rank == 4 ? rgm_of_net(x, n) : x;
}


void rgm_forward_net(rgm_stream *s, const rgm_nets *nets, int n, bool target, rgm_tensor x,
                     const rgm_pass *pass) {
  RGM_ASSERT(!target || nets->has_target);
  const rgm_mlp *net = target ? &nets->target[n] : &nets->net[n];
  for (int l = 0; l < net->layers; l++) {
    const bool last = l == net->layers - 1;
    rgm_linear(s, last ? rgm_of_net(pass->out, n) : hidden_of(pass, n, l), input_of(x, pass, n, l),
               net->weight[l], net->bias[l], last ? RGM_LINEAR : nets->act);
  }
}


// How many floats lie between the parameters of one net and the next, where they lie apart evenly
// and in the order of the nets; 0 where they do not, or there is one.
static int64_t apart(const rgm_nets *nets, bool target) {
  const rgm_mlp *net = target ? nets->target : nets->net;
  int64_t distance = 0;
  for (int n = 1; n < nets->count; n++) {
    const int64_t next = (float *)net[n].block.data - (float *)net[n - 1].block.data;
    if (next <= 0 || (n > 1 && next != distance)) {
      return 0;
    }
    distance = next;
  }
  return distance;
}


// t (1, ...) of the first net as (N, ...) of all, `distance` apart
static rgm_tensor of_all(rgm_tensor t, int64_t count, int64_t distance) {
  t.dims[0] = count;
  t.stride0 = distance;
  return t;
}


// t (1, N, B, O) as (N, B, O)
static rgm_tensor nets_first(rgm_tensor t) {
  return rgm_view(t.data, RGM_F32, t.dims[1], t.dims[2], t.dims[3], 0);
}


// all nets of one replica, as if they were replicas of one net: a launch a layer
static void forward_at_once(rgm_stream *s, const rgm_nets *nets, bool target, rgm_tensor x,
                            const rgm_pass *pass, int64_t distance) {
  const rgm_mlp *net = target ? &nets->target[0] : &nets->net[0];
  for (int l = 0; l < net->layers; l++) {
    const bool last = l == net->layers - 1;
    rgm_linear(s, nets_first(last ? pass->out : pass->hidden[l]),
               nets_first(l == 0 ? x : pass->hidden[l - 1]),
               of_all(net->weight[l], nets->count, distance),
               of_all(net->bias[l], nets->count, distance), last ? RGM_LINEAR : nets->act);
  }
}


void rgm_forward(rgm_stream *s, const rgm_nets *nets, bool target, rgm_tensor x,
                 const rgm_pass *pass) {
  const bool kept = pass->hidden[0].rank > 0 && pass->hidden[0].dims[1] == nets->count;
  const int64_t distance = kept && x.rank == 4 && x.dims[0] == 1 ? apart(nets, target) : 0;
  if (distance > 0) {
    forward_at_once(s, nets, target, x, pass, distance);
    return;
  }
  for (int n = 0; n < nets->count; n++) {
    rgm_forward_net(s, nets, n, target, x, pass);
  }
}


// parameters `offset` ... of a block as those of a layer, weights and below them the bias
static rgm_tensor layer_of(rgm_tensor block, int64_t offset, rgm_tensor weight) {
  rgm_tensor t = rgm_view((float *)block.data + offset, RGM_F32, block.dims[0], weight.dims[1] + 1,
                          weight.dims[2], 0);
  t.stride0 = block.stride0;
  return t;
}


// the decay of layer l's weights
static rgm_tensor decay_of(const rgm_descent *d, int l) {
  rgm_tensor t = d->decay;
  if (t.data != NULL) {
    t = rgm_view((float *)t.data + l, RGM_F32, t.dims[0], 0, 0, 0);
    t.stride0 = d->decay.stride0;
  }
  return t;
}


// gradient, Adam and moving average of a layer in one
static void step_layer(rgm_stream *s, const rgm_nets *nets, int n, int l, rgm_tensor x,
                       rgm_tensor dz, const rgm_descent *d) {
  const rgm_mlp *net = &nets->net[n];
  const rgm_tensor weight = net->weight[l];
  const int64_t offset = (float *)weight.data - (float *)net->block.data;
  const rgm_adam_step step = {
      .p = layer_of(net->block, offset, weight),
      .m = layer_of(nets->m[n], offset, weight),
      .v = layer_of(nets->v[n], offset, weight),
      .target =
          nets->has_target ? layer_of(nets->target[n].block, offset, weight) : (rgm_tensor){0},
      .decay = decay_of(d, l),
      .count = nets->updates[n],
      .lr = d->lr,
      .beta1 = d->beta1,
      .beta2 = d->beta2,
      .eps = d->eps,
      .rate = d->rate,
      .active = d->active,
  };
  rgm_linear_dw_adam(s, &step, x, dz);
}


// the gradient of a layer, kept until the net's is whole
static void keep_layer(rgm_stream *s, const rgm_nets *nets, int n, int l, rgm_tensor x,
                       rgm_tensor dz, const rgm_descent *d) {
  const rgm_mlp *net = &nets->net[n];
  rgm_tensor dw = net->weight[l], db = net->bias[l];
  dw.data = (float *)nets->gradient.data + ((float *)dw.data - (float *)net->block.data);
  db.data = (float *)nets->gradient.data + ((float *)db.data - (float *)net->block.data);
  rgm_linear_dw(s, dw, db, x, dz);
  if (d->decay.data != NULL) {
    rgm_decay_weights(s, dw, net->weight[l], decay_of(d, l), d->active);
  }
}


// a step with the gradient that was kept
static void step_net(rgm_stream *s, const rgm_nets *nets, int n, const rgm_descent *d) {
  rgm_clip_norm(s, nets->gradient, nets->norm, d->clip, d->active);
  rgm_adam(s, nets->net[n].block, nets->m[n], nets->v[n], nets->updates[n], nets->gradient, d->lr,
           d->beta1, d->beta2, d->eps, d->active);
  if (nets->has_target) {
    rgm_ema(s, nets->target[n].block, nets->net[n].block, d->rate, d->active);
  }
}


void rgm_backward_net(rgm_stream *s, const rgm_nets *nets, int n, rgm_tensor x,
                      const rgm_pass *pass, rgm_tensor dout, rgm_tensor dx,
                      const rgm_descent *step) {
  const rgm_tensor none = {0};
  const bool keeps = step != NULL && step->clip.data != NULL;
  RGM_ASSERT(!keeps || nets->has_gradient);
  const rgm_mlp *net = &nets->net[n];
  rgm_tensor dz = rgm_of_net(dout, n);
  for (int l = net->layers - 1; l >= 0; l--) {
    const rgm_tensor in = input_of(x, pass, n, l);
    rgm_tensor back = none;

    // the slope by what the layer saw, with the weights that it saw it with
    if (l > 0) {
      back = in;
      back.data = pass->slope[l % 2].data;
      back.stride0 = pass->slope[l % 2].stride0;
      rgm_linear_dx(s, back, dz, net->weight[l], in, nets->act);
    } else if (dx.data != NULL) {
      rgm_linear_dx(s, rgm_of_net(dx, n), dz, net->weight[0], none, RGM_LINEAR);
    }
    if (keeps) {
      keep_layer(s, nets, n, l, in, dz, step);
    } else if (step != NULL) {
      step_layer(s, nets, n, l, in, dz, step);
    }
    dz = back;
  }
  if (keeps) {
    step_net(s, nets, n, step);
  } else if (step != NULL) {
    rgm_advance(s, nets->updates[n], step->active);
  }
}


void rgm_backward(rgm_stream *s, const rgm_nets *nets, rgm_tensor x, const rgm_pass *pass,
                  rgm_tensor dout, rgm_tensor dx, const rgm_descent *step) {
  for (int n = 0; n < nets->count; n++) {
    RGM_ASSERT(nets->count == 1 || pass->hidden[0].rank == 0 || pass->hidden[0].dims[1] > 1);
    rgm_backward_net(s, nets, n, x, pass, dout, dx, step);
  }
}
