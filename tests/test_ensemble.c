// SPDX-License-Identifier: Apache-2.0
// Tests of the dynamics ensemble: a planted linear-Gaussian world, early stopping and the nets that
// are remembered, resamples, rows routed to elites, the same bits whatever computes them, data and
// keys that do not fit.

#include "tests/model_data.h"
#include "tests/cuda_module.h"

TestSuite(ensemble, .timeout = 300, .init = make_folder, .fini = remove_folder);


// a config with N nets; `run` and `more` are further keys
static const char *config_of(const char *data, const char *run, const char *more) {
  static char text[2048];
  snprintf(text, sizeof text,
           "run: {name: e, report_every: 1000%s%s}\n"
           "data: {path: %s, validation: 0.25}\n"
           "algorithm: {name: dynamics, dynamics_nets: 4, dynamics_elites: 3, dynamics_batch: 33,\n"
           "  dynamics_hidden: [17, 9]%s%s}\n",
           run[0] != '\0' ? ", " : "", run, data, more[0] != '\0' ? ", " : "", more);
  return text;
}


// ---- the planted world -------------------------------------------------------------------------

// one step ahead the elite's error is the noise's, and its likelihood nearly the best there is
Test(ensemble, error_on_held_out_patients_is_the_noise) {
  for (int choices = 0; choices <= 3; choices += 3) {
    const char *data = write_world("world.h5", 200, choices);
    rgm_run *run = make_model(config_of(
        data, "", "dynamics_lr: 0.003, dynamics_epoch: 150, dynamics_bootstrap: patient"));
    steps_of(run, 12);
    double mse[4], nll[4];
    int64_t rows;
    rgm_ensemble *e = run->self; // the first member
    cr_assert_eq(rgm_ensemble_errors(run, e, false, mse, nll, &rows), RGM_OK);
    cr_expect_gt(rows, 500);
    for (int k = 0; k < 4; k++) {
      const double noise = world_noise[k], least = 0.5 * log(2.0 * acos(-1.0) * exp(1.0));
      if (noise > 0.0) {
        cr_expect(sqrt(mse[k]) > 0.92 * noise && sqrt(mse[k]) < 1.15 * noise,
                  "%d classes, output %d: rmse %g, noise %g", choices, k, sqrt(mse[k]), noise);
        cr_expect(nll[k] < least + log(noise) + 0.12, "%d classes, output %d: nll %g, least %g",
                  choices, k, nll[k], least + log(noise));
      }
    }
    rgm_run_free(run);
  }
}


// ---- stopping and remembering ------------------------------------------------------------------

static bool same_words(const uint32_t *a, const uint32_t *b, int64_t count) {
  return memcmp(a, b, (size_t)count * sizeof *a) == 0;
}


// A replica stops after `patience` epochs without a better net and keeps its bits while the others
// go on; the elite are the nets remembered with the least losses, and have those losses still.
Test(ensemble, stops_early_and_remembers_the_best) {
  const char *data = write_world("world.h5", 30, 3);
  rgm_run *run = make_model(config_of(
      data, "replicas: 3", "dynamics_patience: 2, dynamics_margin: 0.3, dynamics_lr: 0.004"));
  rgm_ensemble *e = run->self; // the first member
  uint32_t *training = NULL, *nets = NULL, *before = NULL;
  int stopped_at[3] = {0}, different = 0;
  for (int epoch = 1; epoch <= 25; epoch++) {
    steps_of(run, 1);
    free(training);
    free(before);
    training = read_tensor(run, "dynamics/training");
    before = nets;
    nets = read_tensor(run, "dynamics/net/2");
    const int64_t size = tensor_of(run, "dynamics/net/2").dims[1];
    for (int64_t r = 0; r < 3; r++) {
      const bool kept = before != NULL && same_words(nets + r * size, before + r * size, size);
      cr_assert_eq(kept, stopped_at[r] > 0, "epoch %d, replica %d", epoch, (int)r);
      stopped_at[r] = training[r] == 0 && stopped_at[r] == 0 ? epoch : stopped_at[r];
    }
  }
  different = stopped_at[0] != stopped_at[1] || stopped_at[1] != stopped_at[2];
  cr_expect(stopped_at[0] > 2 && stopped_at[1] > 2 && stopped_at[2] > 2 && different,
            "stopped at %d, %d, %d", stopped_at[0], stopped_at[1], stopped_at[2]);

  // the elite's loss, in standardised units
  double mse[12], nll[12];
  int64_t rows;
  float *loss = read_tensor(run, "dynamics/best/loss"),
        *scale = read_tensor(run, "dynamics/output/scale");
  uint32_t *elites = read_tensor(run, "dynamics/elites");
  cr_assert_eq(rgm_ensemble_errors(run, e, false, mse, nll, &rows), RGM_OK);
  for (int r = 0; r < 3; r++) {
    double want = 0.0, got = 0.0, worst = 0.0;
    for (int i = 0; i < 3; i++) {
      want += (double)loss[4 * r + (int)elites[3 * r + i]] / 3.0;
      worst = fmax(worst, (double)loss[4 * r + (int)elites[3 * r + i]]);
    }
    for (int k = 0; k < 4; k++) {
      const double sd = (double)scale[8 * r + 4 + k];
      got += mse[4 * r + k] / (sd * sd) / 4.0;
      cr_expect((double)loss[4 * r + k] >= worst || (int)elites[3 * r] == k ||
                (int)elites[3 * r + 1] == k || (int)elites[3 * r + 2] == k);
    }
    cr_expect_float_eq(got, want, 1e-5 * want, "replica %d", r);
  }
  free(loss);
  free(scale);
  free(elites);
  free(training);
  free(nets);
  free(before);
  rgm_run_free(run);
}


// ---- resamples ---------------------------------------------------------------------------------

// each net has as many rows as there are, its own; by patient a patient's rows stay together
Test(ensemble, resamples_are_fixed_and_by_patient) {
  const char *data = write_world("world.h5", 30, 3);
  for (int kind = 1; kind <= 2; kind++) {
    rgm_run *run = make_model(
        config_of(data, "", kind == 1 ? "dynamics_bootstrap: row" : "dynamics_bootstrap: patient"));
    const rgm_tensor t = tensor_of(run, "dynamics/resample");
    const int64_t rows = t.dims[2];
    uint32_t *all = read_tensor(run, "dynamics/resample");
    int neighbours = 0;
    for (int64_t i = 0; i < 4 * rows; i++) {
      cr_assert_lt(all[i], (uint32_t)rows);
      neighbours += i % rows > 0 && all[i] == all[i - 1] + 1 ? 1 : 0;
    }
    cr_expect(!same_words(all, all + rows, rows));
    // 19 rows of each of 20 or so patients
    cr_expect_eq(neighbours > (int)(4 * rows * 17 / 19), kind == 2, "%d of %d", neighbours,
                 (int)(4 * rows));
    free(all);
    rgm_run_free(run);
  }
}


// ---- rows routed to elites ---------------------------------------------------------------------

// Only the drawn elite is computed: the same bits as all elites for all rows, of which the drawn
// one is taken.
Test(ensemble, routed_is_all_and_then_selected) {
  const char *data = write_world("world.h5", 30, 0);
  rgm_run *run = make_model(config_of(data, "replicas: 3", ""));
  const rgm_ensemble *e = run->self; // the first member
  steps_of(run, 2);
  enum { B = 23, E = 3, S = 3, I = 4, C = (B + E - 1) / E };
  static float state[3][B][S], x[3][B][I], routed[3][E][C][I], next[2][3][B][S], reward[2][3][B],
      ended[3][B], alive[3][B], keep[3][B], weight[3];
  uint64_t seed = 5;
  for (int i = 0; i < 3 * B * I; i++) {
    (&x[0][0][0])[i] = (float)world_normal(&seed);
    (&state[0][0][0])[i % (3 * B * S)] = (float)world_normal(&seed);
  }
  for (int all = 0; all < 2; all++) {
    static float hidden[2][3 * E * B * 32], out[3 * E * B * 16];
    const int64_t rows = all ? B : C;
    rgm_pass pass = {.hidden = {rgm_view(hidden[0], RGM_F32, 3, E, rows, 32),
                                rgm_view(hidden[1], RGM_F32, 3, E, rows, 16)},
                     .out = rgm_view(out, RGM_F32, 3, E, rows, 16)};
    const rgm_model_step step = {
        .next = rgm_view(next[all], RGM_F32, 3, B, S, 0),
        .reward = rgm_view(reward[all], RGM_F32, 3, B, 1, 0),
        .terminated = rgm_view(ended, RGM_F32, 3, B, 1, 0),
        .alive = rgm_view(alive, RGM_F32, 3, B, 0, 0),
        .keep = rgm_view(keep, RGM_F32, 3, B, 0, 0),
        .head = pass.out,
        .bounds = e->elite_bounds,
        .state = rgm_view(state, RGM_F32, 3, B, S, 0),
        .scale = e->scale,
        .range = e->range,
        .hold = e->hold,
        .weight = rgm_view(weight, RGM_F32, 3, 0, 0, 0),
        .active = run->active,
        .routing = {run->seeds, run->clock, RGM_RANDOM_MODEL, 7},
        .kind = all ? RGM_DOUBT_SD : RGM_DOUBT_NONE,
    };
    const rgm_tensor in = rgm_view(x, RGM_F32, 3, B, I, 0);
    const rgm_tensor places = rgm_view(routed, RGM_F32, 3, E, C, I);
    rgm_route(run->stream, places, in, &step.routing);
    rgm_forward(run->stream, &e->elite, false, all ? in : places, &pass);
    rgm_model(run->stream, &step);
    cr_assert_eq(rgm_sync(run->stream), RGM_OK);
  }
  cr_expect_eq(memcmp(next[0], next[1], sizeof next[0]), 0);
  cr_expect_eq(memcmp(reward[0], reward[1], sizeof reward[0]), 0);
  cr_expect_neq(memcmp(next[0], state, sizeof next[0]), 0);
  rgm_run_free(run);
}


// ---- bits --------------------------------------------------------------------------------------

static void digest_after(const char *text, int count, char hex[65]) {
  rgm_run *run = make_model(text);
  steps_of(run, count);
  state_digest(run, hex);
  rgm_run_free(run);
}


Test(ensemble, bits_are_the_same_however_computed) {
  // auto would be the module, once it can be found
  static const char *const ways[] = {"backend: cpu, threads: 1", "backend: cpu, threads: 3",
                                     "backend: cpu, isa: avx2", "backend: cuda"};
  const char *more = "dynamics_patience: 1, dynamics_epoch: 3, dynamics_bootstrap: patient";
  const char *data = write_world("world.h5", 20, 3);
  char first[65], hex[65];
  setenv("RGM_CUDA_MODULE", cuda_module(), 1);
  for (int i = 0; i < 4; i++) {
    char run[64];
    snprintf(run, sizeof run, "replicas: 3, %s", ways[i]);
    digest_after(config_of(data, run, more), 4, i == 0 ? first : hex);
    if (i > 0) {
      cr_expect_str_eq(hex, first, "%s", ways[i]);
    }
  }
}


Test(ensemble, replica_of_a_pack_is_the_run_alone) {
  const char *data = write_world("world.h5", 20, 0);
  const char *more = "dynamics_patience: 1, dynamics_margin: 0.2, dynamics_epoch: 5";
  rgm_run *pack = make_model(config_of(data, "replicas: 3, seed: 4", more));
  steps_of(pack, 8);
  for (int64_t r = 0; r < 3; r++) {
    char run[32];
    snprintf(run, sizeof run, "seed: %d", (int)(4 + r));
    rgm_run *alone = make_model(config_of(data, run, more));
    steps_of(alone, 8);
    expect_replica(pack, alone, r);
    rgm_run_free(alone);
  }
  rgm_run_free(pack);
}


Test(ensemble, resumed_is_never_stopped) {
  const char *data = write_world("world.h5", 20, 3);
  char text[2048], straight[65], resumed[65];
  snprintf(text, sizeof text, "%s",
           config_of(data, "replicas: 3", "dynamics_patience: 3, dynamics_margin: 0.5"));
  digest_after(text, 7, straight);
  rgm_run *a = make_model(text), *b = make_model(text);
  rgm_checkpoint *c = NULL;
  steps_of(a, 3);
  cr_assert_eq(rgm_run_snapshot(a, &c), RGM_OK);
  cr_assert_eq(rgm_run_restore(b, c, true), RGM_OK, "%s", rgm_last_error());
  b->step = c->step;
  steps_of(b, 4);
  state_digest(b, resumed);
  cr_expect_str_eq(straight, resumed);
  rgm_checkpoint_free(c);
  rgm_run_free(a);
  rgm_run_free(b);
}


// ---- what does not fit -------------------------------------------------------------------------

Test(ensemble, refuses_what_it_cannot_learn) {
  static const struct {
    const char *more, *validation, *says;
    rgm_status status;
  } cases[] = {
      {"dynamics_elites: 5", "0.25", "5 of 4 nets cannot be elite", RGM_ECONFIG},
      {"dynamics_hidden: [9, 9, 9, 9, 9, 9, 9, 9]", "0.25", "7 layers at most", RGM_ECONFIG},
      {"dynamics_lr: 0.1", "0", "no validation rows", RGM_EDATA},
  };
  const char *data = write_world("world.h5", 20, 3);
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
    char text[2048];
    rgm_run *run = NULL;
    snprintf(text, sizeof text,
             "run: {threads: 1, backend: cpu}\ndata: {path: %s, validation: %s}\n"
             "algorithm: {name: dynamics, dynamics_nets: 4, %s%s}\n",
             data, cases[i].validation, i == 0 ? "" : "dynamics_elites: 3, ", cases[i].more);
    cr_expect_eq(try_model(text, &run), cases[i].status, "%s", cases[i].more);
    cr_expect(strstr(rgm_last_error(), cases[i].says) != NULL, "%s", rgm_last_error());
    rgm_run_free(run);
  }
}
