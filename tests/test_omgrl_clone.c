// SPDX-License-Identifier: Apache-2.0
// Test of OMG-RL's behaviour clone: when it stops, and with what weights.

#include "algorithms/omgrl.h"
#include "tests/omgrl_data.h"

TestSuite(omgrl_clone, .timeout = 300, .init = make_folder, .fini = remove_folder);


// -mean log pi of the validation rows under replica r's clone, in double
static double clone_loss(rgm_run *run, int64_t r) {
  const rgm_omgrl *s = run->self;
  const rgm_transitions *t = run->transitions;
  const rgm_mlp *mlp = &s->clone.net[0];
  const int64_t size = mlp->block.dims[1];
  float *block = read_tensor(run, "clone/0");
  double *net = malloc((size_t)size * sizeof *net), loss = 0.0;
  for (int64_t i = 0; i < size; i++) {
    net[i] = (double)block[r * size + i];
  }
  for (int64_t i = 0; i < t->rows; i++) {
    double x[64], out[64], sum = 0.0;
    for (int k = 0; k < t->states; k++) {
      x[k] = ((double)t->obs[i * t->states + k] - (double)t->mean[k]) / (double)t->sd[k];
    }
    if (t->split[i] != RGM_VALIDATION) {
      continue;
    }
    ask_net(net, mlp->layers, mlp->width, x, out);
    for (int64_t a = 0; a < t->choices; a++) {
      sum += exp(out[a]);
    }
    loss += (log(sum) - out[(int64_t)t->action[i]]) / (double)t->part[RGM_VALIDATION];
  }
  free(block);
  free(net);
  return loss;
}


// A clone whose loss on validation rows rises for `patience` looks stops, and goes on with the
// weights that it had when that loss was least: those of a clone that never stops, at that look.
Test(omgrl, clone_stops_by_validation_rows) {
  enum { LOOKS = 20, EACH = 10, PATIENCE = 2, REPLICAS = 2 };
  const char *data = write_world("world.h5", 12, 3), *keys = "clone_updates: 200, clone_lr: 0.03";
  char more[128];
  snprintf(more, sizeof more, "%s, clone_look: %d, clone_patience: %d", keys, EACH, PATIENCE);
  rgm_run *free_run = make_model(config_of(data, "replicas: 2", keys));
  rgm_run *run = make_model(config_of(data, "replicas: 2", more));
  const int64_t size = ((rgm_omgrl *)run->self)->clone.net[0].block.dims[1];
  float *kept = malloc((size_t)(REPLICAS * size) * sizeof *kept);
  double least[REPLICAS] = {INFINITY, INFINITY};
  int stale[REPLICAS] = {0}, best[REPLICAS] = {0};
  steps_of(free_run, 1);
  for (int look = 0; look < LOOKS; look++) {
    steps_of(free_run, EACH);
    float *now = read_tensor(free_run, "clone/0");
    for (int r = 0; r < REPLICAS; r++) {
      const double loss = clone_loss(free_run, r);
      if (stale[r] < PATIENCE) {
        stale[r] = loss < least[r] ? 0 : stale[r] + 1;
        if (loss < least[r]) {
          least[r] = loss;
          best[r] = look;
          memcpy(kept + r * size, now + r * size, (size_t)size * sizeof *kept);
        }
      }
    }
    free(now);
  }
  steps_of(run, 1 + LOOKS * EACH);
  float *clone = read_tensor(run, "clone/0"), *its = read_tensor(run, "clone/least");
  uint32_t *active = read_tensor(run, "clone/active");
  for (int r = 0; r < REPLICAS; r++) {
    cr_assert(stale[r] == PATIENCE && best[r] > 0, "this data set tests nothing");
    cr_expect_float_eq((double)its[r], least[r], 1e-5, "replica %d: %g", r, (double)its[r]);
    cr_expect_eq(active[r], 0, "replica %d", r);
    cr_expect_arr_eq(clone + r * size, kept + r * size, (size_t)size * sizeof *kept,
                     "replica %d has other weights than at look %d", r, best[r]);
  }
  free(kept);
  free(clone);
  free(its);
  free(active);
  rgm_run_free(free_run);
  rgm_run_free(run);
}
