// SPDX-License-Identifier: Apache-2.0
// Learned models on the host. See worlds.h.

#include "algorithms/worlds.h"
#include "engine/load.h"
#include "engine/regimen.h"
#include "kernels/model.h"

#include <stdlib.h>
#include <string.h>


static rgm_status take_all(const rgm_checkpoint *c, const char *path, rgm_act act, rgm_world *w) {
  char name[64];
  for (w->elites = 0; w->elites < WORLD_ELITES; w->elites++) {
    snprintf(name, sizeof name, "dynamics/elite/%d/0/weight", w->elites);
    if (rgm_checkpoint_record(c, name) == NULL) {
      break;
    }
    rgm_host_net *net = &w->elite[w->elites];
    snprintf(name, sizeof name, "dynamics/elite/%d", w->elites);
    RGM_TRY(rgm_host_net_take(c, path, name, 0, act, net));
    if (net->width[0] != w->inputs || net->width[net->layers] != 2 * w->outputs) {
      return rgm_fail(
          RGM_EDATA,
          "%s: its model takes %lld numbers and gives %lld, the data set needs %lld and "
          "%lld: it learned from other data",
          path, (long long)net->width[0], (long long)net->width[net->layers], (long long)w->inputs,
          (long long)(2 * w->outputs));
    }
  }
  if (w->elites == 0) {
    return rgm_fail(RGM_EDATA, "%s: it holds no learned model (dynamics, mopo and combo do)", path);
  }
  const struct {
    const char *name;
    float **to;
    int64_t count;
  } parts[] = {{"dynamics/elite/bounds", &w->bounds, 2 * w->elites * w->outputs},
               {"dynamics/input/mean", &w->mean, w->inputs},
               {"dynamics/input/sd", &w->sd, w->inputs},
               {"dynamics/output/scale", &w->scale, 2 * w->outputs},
               {"dynamics/output/range", &w->range, 2 * w->outputs},
               {"dynamics/hold", &w->hold, w->states}};
  for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) {
    RGM_TRY(rgm_host_take(c, path, parts[i].name, 0, parts[i].count, parts[i].to));
  }
  const int64_t room = rgm_host_net_work(&w->elite[0]) + WORLD_ROWS * (w->inputs + 2 * w->outputs);
  w->work = malloc((size_t)room * sizeof *w->work);
  return w->work != NULL ? RGM_OK : rgm_fail(RGM_EMEMORY, "%s: no memory for its model", path);
}


rgm_status rgm_world_read(const char *path, const rgm_transitions *t, rgm_world *w) {
  const rgm_options options = {.path = path};
  rgm_config *config = NULL;
  rgm_checkpoint *c = NULL;
  *w = (rgm_world){
      .states = t->states,
      .dims = t->actions,
      .choices = t->choices,
      .inputs = t->states + (t->choices > 0 ? t->choices : t->actions),
      .outputs = t->states + 1,
  };
  RGM_TRY(rgm_load_config(&options, &config, &c));
  const char *act = rgm_config_text(config, "algorithm.dynamics_activation");
  const rgm_status status =
      c != NULL
          ? take_all(c, path, act != NULL && strcmp(act, "tanh") == 0 ? RGM_TANH : RGM_RELU, w)
          : rgm_fail(RGM_EUSAGE, "%s is a config, not a trained run", path);
  rgm_config_free(config);
  rgm_checkpoint_free(c);
  if (status != RGM_OK) {
    rgm_world_free(w);
  }
  return status;
}


void rgm_world_free(rgm_world *w) {
  for (int e = 0; e < WORLD_ELITES; e++) {
    rgm_host_net_free(&w->elite[e]);
  }
  free(w->bounds);
  free(w->mean);
  free(w->sd);
  free(w->scale);
  free(w->range);
  free(w->hold);
  free(w->work);
  *w = (rgm_world){0};
}


int64_t rgm_world_noise(const rgm_world *w) {
  return (w->outputs + 3) / 4 * 4;
}


// states beside actions, or the one-hot code of a class, standardised
static void fill_input(const rgm_world *w, const float *state, const float *act, float *x) {
  const int64_t coded = w->inputs - w->states;
  memcpy(x, state, (size_t)w->states * sizeof *x);
  for (int64_t d = 0; d < coded; d++) {
    x[w->states + d] = w->choices > 0 ? (act[0] == (float)d ? 1.0f : 0.0f) : act[d];
  }
  for (int64_t i = 0; i < w->inputs; i++) {
    x[i] = (x[i] - w->mean[i]) / w->sd[i];
  }
}


static void follow(const rgm_world *w, int elite, const float *head, const float *state,
                   const float *noise, float *next, float *reward) {
  const int64_t K = w->outputs;
  const float *max = w->bounds + 2 * elite * K, *min = max + K;
  for (int64_t k = 0; k < K; k++) {
    const float out = rgm_model_output(head[k], head[K + k], max[k], min[k], noise[k],
                                       w->scale[K + k], w->scale[k]);
    if (k == w->states) {
      *reward = rgm_within(out, w->range[k], w->range[K + k]);
    } else {
      const float to = state[k] + out;
      next[k] = w->hold[k] != 0.0f ? state[k] : rgm_within(to, w->range[k], w->range[K + k]);
    }
  }
}


void rgm_world_step(const rgm_world *w, int64_t rows, const int *elite, const float *state,
                    const float *act, const float *noise, float *next, float *reward) {
  const int64_t S = w->states, K = w->outputs, N = rgm_world_noise(w);
  float *x = w->work, *head = x + WORLD_ROWS * w->inputs, *rest = head + WORLD_ROWS * 2 * K;

  // rows of an elite side by side
  for (int e = 0; e < w->elites; e++) {
    for (int64_t row = 0; row < rows;) {
      int64_t of[WORLD_ROWS], count = 0;
      for (; row < rows && count < WORLD_ROWS; row++) {
        if (elite[row] == e) {
          fill_input(w, state + row * S, act + row * w->dims, x + count * w->inputs);
          of[count++] = row;
        }
      }
      rgm_host_net_ask(&w->elite[e], count, x, rest, head);
      for (int64_t i = 0; i < count; i++) {
        follow(w, e, head + i * 2 * K, state + of[i] * S, noise + of[i] * N, next + of[i] * S,
               reward + of[i]);
      }
    }
  }
}
