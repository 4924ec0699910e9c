// SPDX-License-Identifier: Apache-2.0
// Tests of agents that learn from what a model imagines: where trajectories begin, go on and end,
// the ring that they go to, static covariates, what MOPO takes off rewards, an ensemble of another
// run, the same bits whatever computes them, keys that do not fit.

#include "algorithms/imagined.h"
#include "tests/cuda_module.h"
#include "tests/model_data.h"

TestSuite(combo, .timeout = 300, .init = make_folder, .fini = remove_folder);

enum { STARTS = 6, HORIZON = 4, RETAIN = 5, CAPACITY = RETAIN * STARTS * HORIZON };


// two epochs of a small ensemble, then a rollout before every update
static const char *config_of(const char *algorithm, const char *data, const char *run,
                             const char *more) {
  static char text[2048];
  const bool steps = strstr(more, "dynamics_steps") == NULL;
  const bool rollouts = strstr(more, "rollouts") == NULL;
  snprintf(text, sizeof text,
           "run: {name: c, report_every: 1000%s%s}\n"
           "data: {path: %s, validation: 0.25}\n"
           "algorithm: {name: %s, dynamics_nets: 3, dynamics_elites: 2, dynamics_batch: 33,\n"
           "  dynamics_hidden: [17, 9], batch: 11, actor_hidden: [9], critic_hidden: [7],\n"
           "  horizon: %d, retain: %d, rollout_every: 1%s%s%s%s}\n",
           run[0] != '\0' ? ", " : "", run, data, algorithm, HORIZON, RETAIN,
           steps ? ", dynamics_steps: 2" : "", rollouts ? ", rollouts: 6" : "",
           more[0] != '\0' ? ", " : "", more);
  return text;
}


// a ring's columns in the test's own memory
typedef struct imagined_rows {
  float *obs, *act, *reward, *next, *terminated;
  uint32_t *head, *count;
} imagined_rows;

static imagined_rows rows_of(rgm_run *run) {
  return (imagined_rows){read_tensor(run, "model/obs"),        read_tensor(run, "model/act"),
                         read_tensor(run, "model/reward"),     read_tensor(run, "model/next"),
                         read_tensor(run, "model/terminated"), read_tensor(run, "model/head"),
                         read_tensor(run, "model/count")};
}


static void free_rows(imagined_rows *rows) {
  free(rows->obs);
  free(rows->act);
  free(rows->reward);
  free(rows->next);
  free(rows->terminated);
  free(rows->head);
  free(rows->count);
}


// ---- trajectories ------------------------------------------------------------------------------

// Without a box nothing ends: a trajectory's rows stand STARTS apart and go on from each other; it
// begins at a training row; reaching the horizon is no end. The static column stays, and
// predictions stay within the data.
Test(combo, trajectories_go_on_and_are_cut_without_an_end) {
  for (int choices = 0; choices <= 3; choices += 3) {
    const char *data = write_world("world.h5", 20, choices);
    rgm_run *run =
        make_model(config_of("combo", data, "replicas: 2", choices > 0 ? "" : "push: rho_sample"));
    const rgm_transitions *t = run->transitions;
    steps_of(run, 3);
    imagined_rows rows = rows_of(run);
    for (int r = 0; r < 2; r++) {
      cr_expect_eq(rows.count[r], STARTS * HORIZON);
      const float *obs = rows.obs + r * CAPACITY * 3, *next = rows.next + r * CAPACITY * 3;
      for (int i = 0; i < STARTS * HORIZON; i++) {
        cr_expect_eq(rows.terminated[r * CAPACITY + i], 0.0f);
        cr_expect_eq(obs[3 * i + 2], next[3 * i + 2], "the static column moved");
        for (int k = 0; k < 3; k++) {
          cr_expect(next[3 * i + k] >= (float)t->state[k].low - 1e-3f &&
                    next[3 * i + k] <= (float)t->state[k].high + 1e-3f);
          cr_expect(i < STARTS || obs[3 * i + k] == next[3 * (i - STARTS) + k], "a jump");
        }
      }
      for (int i = 0; i < STARTS; i++) {
        bool found = false;
        for (int64_t j = 0; j < t->rows; j++) {
          found = found || (t->split[j] == RGM_TRAIN &&
                            memcmp(t->obs + 3 * j, obs + 3 * i, 3 * sizeof *obs) == 0);
        }
        cr_expect(found, "start %d is no training row", i);
      }
    }
    free_rows(&rows);
    rgm_run_free(run);
  }
}


// A chain of three states, 0 -> 1 -> 2, of which the last lies outside the box: a trajectory from 0
// has two rows, one from 1 has one, and only the row that leaves says terminated.
Test(combo, a_chain_ends_where_it_leaves_the_box) {
  static const double chain[6][3] = {{0, 0, 0}, {0, 1, 0}, {0, 2, 0},
                                     {1, 0, 0}, {1, 1, 0}, {1, 2, 0}};
  const int64_t n = 600;
  rgm_dataset *d = rgm_dataset_new(n);
  static const struct {
    const char *name;
    rgm_role role;
  } columns[] = {{"episode", RGM_ROLE_EPISODE},
                 {"s", RGM_ROLE_STATE},
                 {"a", RGM_ROLE_ACTION},
                 {"r", RGM_ROLE_REWARD},
                 {"terminated", RGM_ROLE_TERMINATED}};
  for (int k = 0; k < 5; k++) {
    rgm_column *c = rgm_dataset_add(d, columns[k].name, columns[k].role, RGM_CELL_F64, "1");
    c->choices = columns[k].role == RGM_ROLE_ACTION ? 2 : 0;
    for (int64_t i = 0; i < n; i++) {
      const double values[] = {(double)(i / 3), chain[i % 6][1], (double)(i % 2), chain[i % 6][1],
                               0.0};
      rgm_cell_set(c, i, values[k]);
    }
  }
  const char *path = in_folder("chain.h5");
  cr_assert_eq(rgm_dataset_write(path, d), RGM_OK, "%s", rgm_last_error());
  rgm_dataset_free(d);
  rgm_run *run = make_model(
      config_of("combo", path, "",
                "dynamics_steps: 30, dynamics_epoch: 40, dynamics_lr: 0.003, termination: box, "
                "box_low: [-0.5], box_high: [1.5]"));
  steps_of(run, 31);
  imagined_rows rows = rows_of(run);
  int ends = 0, from_zero = 0, from_one = 0, last = 0;
  for (uint32_t i = 0; i < rows.count[0]; i++) {
    const bool one = rows.obs[i] > 0.5f;
    cr_expect(rows.obs[i] < 1.5f, "row %d goes on from outside", (int)i);
    ends += rows.terminated[i] == 1.0f ? 1 : 0;
    cr_expect_eq(rows.terminated[i] == 1.0f, one, "row %d from %g", (int)i, (double)rows.obs[i]);
    from_zero += one ? 0 : 1;
    from_one += one && i < STARTS ? 1 : 0;
    last = (int)i;
  }
  cr_expect_eq(ends, STARTS, "every trajectory ends once: %d", ends);
  cr_expect_eq(from_zero + from_one, STARTS, "and begins once: %d", from_zero + from_one);
  cr_expect_eq(last + 1, STARTS + from_zero);
  free_rows(&rows);
  rgm_run_free(run);
}


// What a trained model imagines is the world it learned from: steps miss its linear changes by its
// noise, and no more on average.
Test(combo, imagined_steps_follow_the_world) {
  for (int choices = 0; choices <= 3; choices += 3) {
    rgm_run *run = make_model(config_of("combo", write_world("world.h5", 150, choices), "",
                                        "dynamics_steps: 8, dynamics_epoch: 150, dynamics_lr: "
                                        "0.003, push: rho_sample, rollouts: 400"));
    steps_of(run, 9);
    imagined_rows rows = rows_of(run);
    double sum = 0.0, squares = 0.0, reward = 0.0;
    const int n = 400 * HORIZON;
    for (int i = 0; i < n; i++) {
      const double x = (double)rows.obs[3 * i], w = (double)rows.obs[3 * i + 2];
      const double u = choices > 0 ? (double)rows.act[i] - 1.0 : (double)rows.act[i];
      const double miss = (double)rows.next[3 * i] - (x - 0.2 * (x - 100.0) + 15.0 * u);
      const double worth = (double)rows.reward[i] - ((x - 100.0) / 50.0 - 0.5 * u + 0.1 * w);
      sum += miss / n;
      squares += miss * miss / n;
      reward += worth * worth / n;
    }
    cr_expect(fabs(sum) < 1.0, "%d classes: %g mmHg off", choices, sum);
    cr_expect(sqrt(squares) > 4.4 && sqrt(squares) < 6.5, "%d classes: misses by %g, noise 5",
              choices, sqrt(squares));
    cr_expect(sqrt(reward) > 0.17 && sqrt(reward) < 0.32, "%d classes: reward by %g, noise 0.2",
              choices, sqrt(reward));
    free_rows(&rows);
    rgm_run_free(run);
  }
}


// ---- the ring ----------------------------------------------------------------------------------

// It keeps the rows of the last five rollouts: after seven none of the first two is left, the
// others are as they were.
Test(combo, ring_keeps_the_last_rollouts) {
  const char *data = write_world("world.h5", 20, 3);
  rgm_run *run = make_model(config_of("combo", data, "", ""));
  const int size = STARTS * HORIZON * 3;
  steps_of(run, 2 + RETAIN);
  imagined_rows before = rows_of(run);
  cr_expect_eq(before.count[0], CAPACITY);
  cr_expect_eq(before.head[0], 0);
  steps_of(run, 2);
  imagined_rows after = rows_of(run);
  cr_expect_eq(after.count[0], CAPACITY);
  cr_expect_eq(after.head[0], 2 * STARTS * HORIZON);
  for (int i = 0; i < CAPACITY * 3; i += 3) {
    const bool same = memcmp(before.next + i, after.next + i, 3 * sizeof(float)) == 0;
    cr_expect_eq(same, i >= 2 * size, "row %d", i / 3);
  }
  free_rows(&before);
  free_rows(&after);
  rgm_run_free(run);
}


// ---- MOPO --------------------------------------------------------------------------------------

// The same seed imagines the same first rollout whatever the weight; rewards are lower by weight u.
Test(combo, doubt_is_taken_off_rewards) {
  static const char *const weights[] = {"doubt: none", "doubt_weight: 0", "doubt_weight: 0.5",
                                        "doubt_weight: 1, doubt: spread"};
  const char *data = write_world("world.h5", 20, 3);
  imagined_rows rows[4];
  for (int i = 0; i < 4; i++) {
    rgm_run *run = make_model(config_of("mopo", data, "", weights[i]));
    steps_of(run, 3);
    rows[i] = rows_of(run);
    rgm_run_free(run);
  }
  for (int i = 0; i < STARTS * HORIZON; i++) {
    cr_expect_eq(rows[0].reward[i], rows[1].reward[i]);
    cr_expect_lt(rows[2].reward[i], rows[0].reward[i]);
    cr_expect_lt(rows[3].reward[i], rows[0].reward[i]);
    cr_expect_eq(rows[2].next[3 * i], rows[0].next[3 * i]);
  }
  for (int i = 0; i < 4; i++) {
    free_rows(&rows[i]);
  }
}


// ---- an ensemble of another run ----------------------------------------------------------------

static void save(rgm_run *run, const char *path) {
  rgm_checkpoint *c = NULL;
  cr_assert_eq(rgm_run_snapshot(run, &c), RGM_OK, "%s", rgm_last_error());
  cr_assert_eq(rgm_checkpoint_write(path, c), RGM_OK, "%s", rgm_last_error());
  rgm_checkpoint_free(c);
}


// its elite is taken to the bit and training begins at once; other data are refused
Test(combo, takes_the_ensemble_of_another_run) {
  const char *data = write_world("world.h5", 20, 3), *path = in_folder("checkpoint-2.h5");
  rgm_run *from = make_model(config_of("combo", data, "seed: 9", ""));
  steps_of(from, 2);
  save(from, path);
  char more[400];
  snprintf(more, sizeof more, "dynamics: %s", path);
  rgm_run *to = make_model(config_of("mopo", data, "replicas: 2", more));
  steps_of(to, 1);
  static const char *const names[] = {"dynamics/elite/0", "dynamics/elite/1",
                                      "dynamics/elite/bounds"};
  for (int i = 0; i < 3; i++) {
    const size_t bytes = rgm_bytes(tensor_of(from, names[i]));
    uint8_t *want = read_tensor(from, names[i]), *got = read_tensor(to, names[i]);
    for (size_t r = 0; r < 2; r++) {
      cr_expect_eq(memcmp(want, got + r * bytes, bytes), 0, "%s of replica %d", names[i], (int)r);
    }
    free(want);
    free(got);
  }
  imagined_rows rows = rows_of(to);
  cr_expect_eq(rows.count[1], STARTS * HORIZON);
  free_rows(&rows);
  rgm_run_free(to);

  const struct {
    const char *data, *more, *says;
  } cases[] = {{write_world("other.h5", 25, 3), more, "learned from other rows"},
               {data, "dynamics: /nowhere/run", "/nowhere/run"}};
  for (int i = 0; i < 2; i++) {
    rgm_run *run = make_model(config_of("combo", cases[i].data, "", cases[i].more));
    cr_expect_neq(run->algorithm->step(run), RGM_OK);
    cr_expect(strstr(rgm_last_error(), cases[i].says) != NULL, "%s", rgm_last_error());
    rgm_run_free(run);
  }
  rgm_run_free(from);
}


// ---- bits --------------------------------------------------------------------------------------

static const char *const kinds[][2] = {
    {"combo", "push: rho_expect"},
    {"combo", "push: logsumexp_mix, real: 0.3"},
    {"mopo", "doubt: sd, dynamics_bootstrap: patient"},
};
enum { KINDS = sizeof kinds / sizeof *kinds };

Test(combo, bits_are_the_same_however_computed) {
  // auto would be the module, once it can be found
  static const char *const ways[] = {"backend: cpu, threads: 1", "backend: cpu, threads: 3",
                                     "backend: cpu, isa: avx2", "backend: cuda"};
  const char *data = write_world("world.h5", 12, 3);
  setenv("RGM_CUDA_MODULE", cuda_module(), 1);
  for (int kind = 0; kind < KINDS; kind++) {
    char first[65], hex[65];
    for (int i = 0; i < 4; i++) {
      char run[64];
      snprintf(run, sizeof run, "replicas: 3, %s", ways[i]);
      rgm_run *made = make_model(config_of(kinds[kind][0], data, run, kinds[kind][1]));
      steps_of(made, 4);
      state_digest(made, i == 0 ? first : hex);
      rgm_run_free(made);
      if (i > 0) {
        cr_expect_str_eq(hex, first, "%s, %s: %s", kinds[kind][0], kinds[kind][1], ways[i]);
      }
    }
  }
}


Test(combo, replica_of_a_pack_is_the_run_alone) {
  const char *data = write_world("world.h5", 12, 3);
  for (int kind = 0; kind < KINDS; kind++) {
    rgm_run *pack =
        make_model(config_of(kinds[kind][0], data, "replicas: 3, seed: 4", kinds[kind][1]));
    steps_of(pack, 5);
    for (int64_t r = 0; r < 3; r++) {
      char run[32];
      snprintf(run, sizeof run, "seed: %d", (int)(4 + r));
      rgm_run *alone = make_model(config_of(kinds[kind][0], data, run, kinds[kind][1]));
      steps_of(alone, 5);
      expect_replica(pack, alone, r);
      rgm_run_free(alone);
    }
    rgm_run_free(pack);
  }
}


// stopped while the ensemble trains, and while the agent does; the ring is in the private state
Test(combo, resumed_is_never_stopped) {
  const char *data = write_world("world.h5", 12, 3);
  for (int at = 1; at <= 4; at += 3) {
    char digest[2][65];
    rgm_run *straight = make_model(config_of("combo", data, "replicas: 3", ""));
    rgm_run *resumed = make_model(config_of("combo", data, "replicas: 3", ""));
    rgm_checkpoint *c = NULL, *state = NULL;
    steps_of(straight, at);
    cr_assert_eq(rgm_run_snapshot_pair(straight, false, &c, &state), RGM_OK);
    cr_assert_eq(rgm_run_restore(resumed, c, true), RGM_OK, "%s", rgm_last_error());
    cr_assert_eq(rgm_run_restore_state(resumed, state), RGM_OK, "%s", rgm_last_error());
    resumed->step = c->step;
    steps_of(straight, 7 - at);
    steps_of(resumed, 7 - at);
    state_digest(straight, digest[0]);
    state_digest(resumed, digest[1]);
    cr_expect_str_eq(digest[0], digest[1], "stopped after %d steps", at);

    // a damaged state is refused before a number of it is used
    const char *path = in_folder("state-1.h5");
    cr_assert_eq(rgm_checkpoint_write(path, state), RGM_OK);
    FILE *f = fopen(path, "r+b");
    cr_assert(f != NULL && fseek(f, 5000, SEEK_SET) == 0);
    const int byte = fgetc(f);
    cr_assert(fseek(f, 5000, SEEK_SET) == 0 && fputc(byte ^ 16, f) != EOF && fclose(f) == 0);
    rgm_checkpoint *damaged = NULL;
    cr_expect_eq(rgm_checkpoint_read(path, &damaged), RGM_EDATA);
    rgm_checkpoint_free(damaged);
    rgm_checkpoint_free(c);
    rgm_checkpoint_free(state);
    rgm_run_free(straight);
    rgm_run_free(resumed);
  }
}


// ---- what does not fit -------------------------------------------------------------------------

Test(combo, refuses_keys_that_do_not_fit) {
  static const struct {
    int choices;
    const char *more, *says;
  } cases[] = {
      {0, "push: rho_expect", "rho_expect sums over classes of actions"},
      {3, "termination: box", "algorithm.box_low: 1 values for 3 states"},
      {3, "termination: box, box_low: [0, 0, 0], box_high: [1, 0, 1]", "value 2, 0, is not below"},
      {3, "dynamics_elites: 4", "4 of 3 nets cannot be elite"},
      {3, "target_entropy: -1", "target_entropy"},
  };
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
    const char *data = write_world("world.h5", 12, cases[i].choices);
    rgm_run *run = NULL;
    char text[2048];
    snprintf(text, sizeof text,
             "run: {backend: cpu}\ndata: {path: %s}\n"
             "algorithm: {name: combo, dynamics_nets: 3%s, %s}\n",
             data, i == 3 ? "" : ", dynamics_elites: 3", cases[i].more);
    cr_expect_eq(try_model(text, &run), RGM_ECONFIG, "%s", cases[i].more);
    cr_expect(strstr(rgm_last_error(), cases[i].says) != NULL, "%s", rgm_last_error());
    rgm_run_free(run);
  }
}
