// SPDX-License-Identifier: Apache-2.0
// Parameters of MLPs: one contiguous block per replica, [layer][in][out] then [out], with every
// width but the input padded to 16. Named parts show the meant sizes; padding stays zero.

#include "engine/engine.h"


int64_t rgm_padded(int64_t n) {
  return (n + RGM_PAD - 1) / RGM_PAD * RGM_PAD;
}


// inputs of layer l as stored
static int64_t stored_inputs(const int64_t *width, int layer) {
  return layer == 0 ? width[0] : rgm_padded(width[layer]);
}


int64_t rgm_mlp_size(int layers, const int64_t *width) {
  int64_t size = 0;
  for (int l = 0; l < layers; l++) {
    size += (stored_inputs(width, l) + 1) * rgm_padded(width[l + 1]);
  }
  return size;
}


rgm_mlp rgm_plan_mlp(rgm_arena *arena, const char *name, int64_t replicas, int layers,
                     const int64_t *width, unsigned flags) {
  RGM_ASSERT(layers > 0 && layers <= RGM_MAX_LAYERS);
  rgm_mlp net = {.layers = layers};
  net.block = rgm_plan(arena, name, RGM_F32, RGM_SCRATCH | RGM_BLOCK, "replica, parameter", "1",
                       replicas, rgm_mlp_size(layers, width), 0, 0);
  int64_t offset = 0;
  for (int l = 0; l < layers; l++) {
    char part[64];
    const int64_t inputs = stored_inputs(width, l), outputs = rgm_padded(width[l + 1]);
    net.width[l] = width[l];
    net.width[l + 1] = width[l + 1];

    // the named part leaves out padded input rows; the kernels' view has them
    snprintf(part, sizeof part, "%s/%d/weight", name, l);
    net.weight[l] = rgm_plan_part(arena, net.block, offset, part, flags, "replica, in, out",
                                  width[l], outputs, width[l + 1]);
    net.weight[l].dims[1] = inputs;
    offset += inputs * outputs;
    snprintf(part, sizeof part, "%s/%d/bias", name, l);
    net.bias[l] = rgm_plan_part(arena, net.block, offset, part, flags, "replica, out", outputs, 0,
                                width[l + 1]);
    offset += outputs;
  }
  return net;
}
