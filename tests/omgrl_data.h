// SPDX-License-Identifier: Apache-2.0
// Small runs of OMG-RL on the planted world of model_data.h, and its nets in double.

#ifndef RGM_OMGRL_DATA_H
#define RGM_OMGRL_DATA_H

#include "tests/model_data.h"

enum { STARTS = 6, HORIZON = 4 };


// an epoch of a small ensemble, three steps of a clone, then a rollout before every other update
static const char *config_of(const char *data, const char *run, const char *more) {
  static char text[2048];
  const bool clones = strstr(more, "clone_updates") != NULL;
  snprintf(text, sizeof text,
           "run: {name: o, report_every: 1000%s%s}\n"
           "data: {path: %s, validation: 0.25}\n"
           "algorithm: {name: omgrl, dynamics_nets: 3, dynamics_elites: 2, dynamics_batch: 33,\n"
           "  dynamics_epoch: 2, dynamics_hidden: [9], batch: 11, actor_hidden: [9], "
           "critic_hidden: [7],\n"
           "  reward_hidden: [13, 5], dynamics_steps: 1%s, rollouts: %d,\n"
           "  horizon: %d, rollout_every: 2, reward_experts: 7, reward_samples: 9,\n"
           "  watched: 8, aptt: x, reward_decay: 0.01%s%s%s}\n",
           run[0] != '\0' ? ", " : "", run, data, clones ? "" : ", clone_updates: 3", STARTS,
           HORIZON, strstr(more, "reward_steps") == NULL ? ", reward_steps: 2" : "",
           more[0] != '\0' ? ", " : "", more);
  return text;
}


// outputs of one row: an MLP with ReLU, weights [padded in][padded out] above its bias
static void ask_net(const double *p, int layers, const int64_t *width, const double *x,
                    double *out) {
  double in[64];
  memcpy(in, x, (size_t)width[0] * sizeof *in);
  for (int l = 0; l < layers; l++) {
    const int64_t padded = rgm_padded(width[l + 1]);
    const int64_t above = l == 0 ? width[0] : rgm_padded(width[l]);
    for (int64_t o = 0; o < width[l + 1]; o++) {
      out[o] = p[above * padded + o];
      for (int64_t i = 0; i < width[l]; i++) {
        out[o] += in[i] * p[i * padded + o];
      }
    }
    for (int64_t o = 0; o < width[l + 1]; o++) {
      in[o] = fmax(out[o], 0.0);
    }
    p += (above + 1) * padded;
  }
}

#endif
