// SPDX-License-Identifier: Apache-2.0
// Tests of values as a run: fitted critics on a small problem against its empirical fixed point in
// double, policies read from checkpoints against the algorithms that wrote them, bits, resuming,
// what is refused.

#include "algorithms/values.h"
#include "engine/regimen.h"
#include "tests/cuda_module.h"
#include "tests/dataset_files.h"

TestSuite(values_run, .timeout = 180, .init = make_folder, .fini = remove_folder);

// a chain of states shown one-hot; episodes of STEPS rows and one that has no next state
enum {
  PATIENTS = 60,
  STEPS = 4,
  EACH = STEPS + 1,
  ROWS = PATIENTS * EACH,
  STATES = 3,
  CLASSES = 2
};
#define DISCOUNT 0.8


// ---- a data set --------------------------------------------------------------------------------

static uint32_t word(int64_t row, uint32_t k) {
  uint64_t x = (uint64_t)row * 0x9E3779B97F4A7C15u + k * 0xD1B54A32D192ED03u + 12345;
  x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9u;
  x = (x ^ (x >> 27)) * 0x94D049BB133111EBu;
  return (uint32_t)(x >> 33);
}


static int action_at(int64_t row) {
  return word(row, 1) % 100 < 60 ? 0 : 1;
}


// action 1 moves up with probability 0.7, action 0 with 0.2; else down
static int state_at(int64_t row) {
  int s = (int)(word(row / EACH, 2) % STATES);
  for (int64_t r = row / EACH * EACH; r < row; r++) {
    const bool up = word(r, 3) % 100 < (action_at(r) == 1 ? 70u : 20u);
    s = up ? (s + 1) % STATES : (s + STATES - 1) % STATES;
  }
  return s;
}


static double reward_at(int64_t row) {
  return 2.0 * (state_at(row) == 2) - 0.5 * action_at(row) + 0.1 * (double)(word(row, 4) % 10);
}


static rgm_split part_of(int64_t row) {
  const int64_t patient = row / EACH;
  return patient % 6 == 5 ? RGM_VALIDATION : patient % 3 == 2 ? RGM_TEST : RGM_TRAIN;
}


static double cell(rgm_role role, int64_t row, int k, bool continuous) {
  switch (role) {
  case RGM_ROLE_PATIENT:
  case RGM_ROLE_EPISODE:
    return (double)(row / EACH);
  case RGM_ROLE_STATE:
    return (double)(state_at(row) == k);
  case RGM_ROLE_ACTION:
    return continuous ? 0.1 * (double)(word(row, 5) % 100) : (double)action_at(row);
  case RGM_ROLE_REWARD:
    return reward_at(row);
  case RGM_ROLE_TRUNCATED:
    return (double)(row % EACH == EACH - 1);
  case RGM_ROLE_SPLIT:
    return (double)part_of(row);
  default:
    return 0.0;
  }
}


// in_folder lends four paths; a test has more
static const char *path_of(const char *name) {
  static char path[16][256];
  static int next;
  next = (next + 1) % 16;
  snprintf(path[next], sizeof path[next], "%s/%s", folder, name);
  return path[next];
}


static const char *plant(const char *name, bool continuous, bool test) {
  static const struct {
    const char *name;
    rgm_role role;
  } columns[] = {{"patient", RGM_ROLE_PATIENT},
                 {"episode", RGM_ROLE_EPISODE},
                 {"s0", RGM_ROLE_STATE},
                 {"s1", RGM_ROLE_STATE},
                 {"s2", RGM_ROLE_STATE},
                 {"a", RGM_ROLE_ACTION},
                 {"r", RGM_ROLE_REWARD},
                 {"terminated", RGM_ROLE_TERMINATED},
                 {"truncated", RGM_ROLE_TRUNCATED},
                 {"split", RGM_ROLE_SPLIT}};
  const char *path = path_of(name);
  rgm_dataset *d = rgm_dataset_new(ROWS);
  for (size_t i = 0; i < sizeof columns / sizeof *columns; i++) {
    rgm_column *c = rgm_dataset_add(d, columns[i].name, columns[i].role, RGM_CELL_F64, "1");
    cr_assert(c != NULL);
    c->choices = columns[i].role == RGM_ROLE_ACTION && !continuous ? CLASSES : 0;
    for (int64_t r = 0; r < ROWS; r++) {
      const double value = cell(columns[i].role, r, (int)i - 2, continuous);
      rgm_cell_set(c, r, columns[i].role == RGM_ROLE_SPLIT && !test ? RGM_TRAIN : value);
    }
  }
  cr_assert_eq(rgm_dataset_write(path, d), RGM_OK, "%s", rgm_last_error());
  rgm_dataset_free(d);
  return path;
}


// ---- runs --------------------------------------------------------------------------------------

static rgm_status try_run(const char *text, rgm_run **out) {
  rgm_config *config = NULL;
  cr_assert_eq(rgm_config_parse("test.yaml", text, NULL, 0, &config), RGM_OK, "%s\n%s",
               rgm_last_error(), text);
  *out = NULL;
  return rgm_run_create(config, out);
}


static rgm_run *make(const char *text) {
  rgm_run *run = NULL;
  cr_assert_eq(try_run(text, &run), RGM_OK, "%s\n%s", rgm_last_error(), text);
  return run;
}


static void steps(rgm_run *run, int count) {
  for (int i = 0; i < count; i++) {
    cr_assert_eq(run->algorithm->step(run), RGM_OK, "%s", rgm_last_error());
    cr_assert_eq(rgm_sync(run->stream), RGM_OK);
    run->step++;
  }
}


static void digest_of(rgm_run *run, char digest[65]) {
  rgm_checkpoint *c = NULL;
  cr_assert_eq(rgm_run_snapshot(run, &c), RGM_OK, "%s", rgm_last_error());
  rgm_checkpoint_digest(c, digest);
  rgm_checkpoint_free(c);
}


// a trained run as a checkpoint in the folder
static const char *train(const char *name, const char *data, const char *algorithm) {
  char text[1024];
  const char *path = path_of(name);
  snprintf(text, sizeof text,
           "run: {name: a, seed: 5, threads: 2}\ndata: {path: %s}\n"
           "algorithm: {%s}\n",
           data, algorithm);
  rgm_run *run = make(text);
  rgm_checkpoint *c = NULL;
  steps(run, 3);
  cr_assert_eq(rgm_run_snapshot(run, &c), RGM_OK);
  cr_assert_eq(rgm_checkpoint_write(path, c), RGM_OK, "%s", rgm_last_error());
  rgm_checkpoint_free(c);
  rgm_run_free(run);
  return path;
}


static const char clone_keys[] = "name: bc, hidden: [16], updates: 50, lr: 0.01";
static const char cql_keys[] = "name: cql, actor_hidden: [17], critic_hidden: [16], batch: 32";


// ---- fitted critics ----------------------------------------------------------------------------

// Empirical values of a policy, pi1 = its probability of action 1, over the training rows: means of
// rewards and counts of what follows, by state, action and, where there is one, step.
static void solve(const double pi1[STATES], bool timed, double q[STEPS][STATES][CLASSES]) {
  static double reward[STEPS][STATES][CLASSES], count[STEPS][STATES][CLASSES];
  static double next[STEPS][STATES][CLASSES][STATES + 1];
  memset(reward, 0, sizeof reward);
  memset(count, 0, sizeof count);
  memset(next, 0, sizeof next);
  for (int64_t r = 0; r < ROWS; r++) {
    const int64_t t = timed ? r % EACH : 0;
    const int s = state_at(r), a = action_at(r);
    if (part_of(r) != RGM_TRAIN || r % EACH >= STEPS) {
      continue;
    }
    count[t][s][a] += 1.0;
    reward[t][s][a] += reward_at(r);
    next[t][s][a][r % EACH == STEPS - 1 ? STATES : state_at(r + 1)] += 1.0;
  }
  memset(q, 0, sizeof(double[STEPS][STATES][CLASSES]));
  for (int sweep = 0; sweep < 200; sweep++) {
    for (int t = 0; t < (timed ? STEPS : 1); t++) {
      for (int i = 0; i < STATES * CLASSES; i++) {
        const int s = i / CLASSES, a = i % CLASSES, later = timed ? t + 1 : 0;
        double value = reward[t][s][a];
        for (int k = 0; k < STATES && later < STEPS; k++) {
          const double v = (1.0 - pi1[k]) * q[later][k][0] + pi1[k] * q[later][k][1];
          value += DISCOUNT * next[t][s][a][k] * v;
        }
        q[t][s][a] = value / count[t][s][a];
      }
    }
  }
}


// Critics without time learn a table: linear in one-hot states. Against the fixed point of all
// baselines; and with time, by a net, a little less exactly.
Test(values_run, critics_reach_the_fixed_point) {
  const char *data = plant("a.h5", false, true), *clone = train("clone.h5", data, clone_keys);
  for (int timed = 0; timed < 2; timed++) {
    char text[1024];
    snprintf(text, sizeof text,
             "run: {name: v, threads: 2}\ndata: {path: %s}\nalgorithm: {name: values, clone: %s, "
             "baselines: \"random, constant, clone\", gamma: %g, time: %s, hidden: [%d], "
             "activation: tanh, lr: %s, tau: 0.1, updates: 250, batch: 128, constant: 1}\n",
             data, clone, DISCOUNT, timed ? "true" : "false", timed ? 32 : 16,
             timed ? "3e-3" : "2e-3");
    rgm_run *run = make(text);
    const rgm_values *s = run->self;
    steps(run, timed ? 24 : 10);
    double pi[3][STATES] = {{0.5, 0.5, 0.5}, {1.0, 1.0, 1.0}}, worst = 0.0;
    const int64_t rows = s->held.rows;
    double *value = malloc((size_t)(3 * rows * CLASSES) * sizeof *value);
    double *log_pi = malloc((size_t)(rows * CLASSES) * sizeof *log_pi);
    cr_assert_eq(rgm_values_look(run, s->held.x, NULL, rows, value), RGM_OK);
    cr_assert_eq(rgm_values_log_pi(run, 2, s->held.of, rows, false, log_pi), RGM_OK);
    for (int64_t i = 0; i < rows; i++) {
      pi[2][state_at(run->transitions->row[s->held.of[i]])] = exp(log_pi[i * CLASSES + 1]);
    }
    for (int n = 0; n < 3; n++) {
      double q[STEPS][STATES][CLASSES];
      solve(pi[n], timed, q);
      for (int64_t i = 0; i < rows; i++) {
        const int64_t row = run->transitions->row[s->held.of[i]];
        for (int a = 0; a < CLASSES; a++) {
          const double exact = q[timed ? row % EACH : 0][state_at(row)][a];
          const double gap = fabs(value[(n * rows + i) * CLASSES + a] - exact);
          worst = gap > worst ? gap : worst;
        }
      }
    }
    cr_expect_lt(worst, timed ? 0.3 : 0.2, "%s: %.3f of values to 6", timed ? "time" : "table",
                 worst);
    free(value);
    free(log_pi);
    rgm_run_free(run);
  }
}


// ---- policies ----------------------------------------------------------------------------------

// what a policy read from a checkpoint says of rows, and what the run that wrote it does there
Test(values_run, policies_are_those_of_their_runs) {
  static const char *const keys[] = {clone_keys, cql_keys, "name: bc, hidden: [16], loss: mse",
                                     cql_keys};
  for (int k = 0; k < 4; k++) {
    const bool continuous = k >= 2;
    const char *data = plant(continuous ? "c.h5" : "a.h5", continuous, true);
    char name[32], text[512];
    snprintf(name, sizeof name, "policy%d.h5", k);
    const char *path = train(name, data, keys[k]);
    rgm_checkpoint *c = NULL;
    rgm_policy p;
    cr_assert_eq(rgm_checkpoint_read(path, &c), RGM_OK);
    snprintf(text, sizeof text, "run: {name: a}\ndata: {path: %s}\nalgorithm: {%s}\n", data,
             keys[k]);
    rgm_run *run = make(text);
    cr_assert_eq(rgm_run_restore(run, c, false), RGM_OK);
    cr_assert_eq(rgm_policy_of(c, path, run->transitions, 0, &p), RGM_OK, "%s", rgm_last_error());

    // a net's forward pass by hand, in double, from the records themselves
    const char *net = k == 0 || k == 2 ? "best" : "actor/0";
    float state[STATES] = {0.0f, 1.0f, 0.0f}, head[2 * CLASSES];
    cr_assert_eq(rgm_policy_ask(&p, state, 1, head), RGM_OK);
    for (int64_t o = 0; o < rgm_policy_width(&p); o++) {
      char record[64];
      snprintf(record, sizeof record, "%s/0/weight", net);
      const rgm_record *w0 = rgm_checkpoint_record(c, record);
      snprintf(record, sizeof record, "%s/0/bias", net);
      const float *b0 = rgm_checkpoint_record(c, record)->data;
      snprintf(record, sizeof record, "%s/1/weight", net);
      const rgm_record *w1 = rgm_checkpoint_record(c, record);
      snprintf(record, sizeof record, "%s/1/bias", net);
      double out = (double)((const float *)rgm_checkpoint_record(c, record)->data)[o];
      const int64_t hidden = w0->dims[2];
      for (int64_t h = 0; h < hidden; h++) {
        double x = (double)b0[h];
        for (int i = 0; i < STATES; i++) {
          const double z = ((double)state[i] - (double)run->transitions->mean[i]) /
                           (double)run->transitions->sd[i];
          x += z * (double)((const float *)w0->data)[i * hidden + h];
        }
        out += fmax(x, 0.0) * (double)((const float *)w1->data)[h * w1->dims[2] + o];
      }
      cr_expect_float_eq((double)head[o], out, 1e-4, "%s, output %d", keys[k], (int)o);
    }
    if (continuous) {
      // a density integrates to one over the box
      double sum = 0.0;
      const double low = (double)(p.shift[0] - p.scale[0]), wide = 2.0 * (double)p.scale[0];
      for (int i = 0; i < 20000; i++) {
        const float act = (float)(low + wide * (i + 0.5) / 20000.0);
        sum += exp(rgm_policy_density(&p, head, &act)) * wide / 20000.0;
      }
      cr_expect_float_eq(sum, 1.0, 2e-3, "%s: %g", keys[k], sum);
    } else {
      double log_pi[CLASSES];
      rgm_policy_log_pi(&p, head, false, log_pi);
      cr_expect_float_eq(exp(log_pi[0]) + exp(log_pi[1]), 1.0, 1e-12);
      rgm_policy_log_pi(&p, head, true, log_pi);
      cr_expect_eq(log_pi[head[1] > head[0]], 0.0);
    }
    rgm_policy_free(&p);
    rgm_checkpoint_free(c);
    rgm_run_free(run);
  }
}


// A step of a learned model read from a checkpoint, by hand in double from the records: an elite's
// mean and spread in standardised units, changes of states, what is held, the range.
Test(values_run, a_world_is_that_of_its_run) {
  const char *data = plant("a.h5", false, true);
  const char *path = train("world.h5", data,
                           "name: dynamics, dynamics_hidden: [12], dynamics_nets: 3, "
                           "dynamics_elites: 2");
  char text[512];
  snprintf(text, sizeof text, "run: {name: a}\ndata: {path: %s}\nalgorithm: {%s}\n", data,
           clone_keys);
  rgm_run *run = make(text);
  rgm_checkpoint *c = NULL;
  rgm_world w;
  cr_assert_eq(rgm_checkpoint_read(path, &c), RGM_OK);
  cr_assert_eq(rgm_world_read(path, run->transitions, &w), RGM_OK, "%s", rgm_last_error());
  cr_expect(w.elites == 2 && w.inputs == STATES + CLASSES && w.outputs == STATES + 1);
  static const char *const names[] = {
      "dynamics/elite/1/0/weight", "dynamics/elite/1/0/bias", "dynamics/elite/1/1/weight",
      "dynamics/elite/1/1/bias",   "dynamics/elite/bounds",   "dynamics/input/mean",
      "dynamics/input/sd",         "dynamics/output/scale",   "dynamics/output/range"};
  enum { W0, B0, W1, B1, BOUNDS, MEAN, SD, SCALE, RANGE, RECORDS, HIDDEN = 12, K = STATES + 1 };
  const float *of[RECORDS];
  for (int i = 0; i < RECORDS; i++) {
    const rgm_record *record = rgm_checkpoint_record(c, names[i]);
    cr_assert(record != NULL, "%s", names[i]);
    of[i] = record->data;
  }
  // many rows of two elites, all the same: the last of the second elite is looked at
  enum { MANY = 77 };
  const float state[STATES] = {0.0f, 1.0f, 0.0f}, noise[K] = {0.3f, -1.2f, 0.7f, 2.0f};
  float states[MANY][STATES], act[MANY], noises[MANY][K], nexts[MANY][STATES], rewards[MANY];
  int elite[MANY];
  cr_assert_eq(rgm_world_noise(&w), K);
  for (int i = 0; i < MANY; i++) {
    memcpy(states[i], state, sizeof state);
    memcpy(noises[i], noise, sizeof noise);
    act[i] = 1.0f;
    elite[i] = i % 2;
  }
  rgm_world_step(&w, MANY, elite, states[0], act, noises[0], nexts[0], rewards);
  for (int i = 3; i < MANY; i += 2) {
    cr_expect_arr_eq(nexts[i], nexts[1], sizeof nexts[1], "row %d", i);
    cr_expect_eq(rewards[i], rewards[1], "row %d", i);
  }
  const float *next = nexts[1], reward = rewards[1];
  double hidden[HIDDEN];
  for (int h = 0; h < HIDDEN; h++) {
    hidden[h] = (double)of[B0][h];
    for (int i = 0; i < STATES + CLASSES; i++) {
      const double x = i < STATES ? (double)state[i] : (double)(i - STATES == 1);
      hidden[h] += (x - (double)of[MEAN][i]) / (double)of[SD][i] * (double)of[W0][i * HIDDEN + h];
    }
    hidden[h] = fmax(hidden[h], 0.0);
  }
  for (int k = 0; k < K; k++) {
    double mu = (double)of[B1][k], raw = (double)of[B1][K + k];
    for (int h = 0; h < HIDDEN; h++) {
      mu += hidden[h] * (double)of[W1][h * 2 * K + k];
      raw += hidden[h] * (double)of[W1][h * 2 * K + K + k];
    }
    // elite 1's bounds: the greatest log-variances, then the least
    const double max = (double)of[BOUNDS][2 * K + k], min = (double)of[BOUNDS][3 * K + k];
    raw = max - log1p(exp(max - raw));
    raw = min + log1p(exp(raw - min));
    const double out =
        (mu + exp(0.5 * raw) * (double)noise[k]) * (double)of[SCALE][K + k] + (double)of[SCALE][k];
    const double to = k < STATES ? (double)state[k] + out : out;
    const double kept = fmin(fmax(to, (double)of[RANGE][k]), (double)of[RANGE][K + k]);
    cr_expect_float_eq((double)(k < STATES ? next[k] : reward), kept, 2e-5, "output %d", k);
  }
  rgm_world_free(&w);
  cr_expect_eq(rgm_world_read(train("one.h5", data, clone_keys), run->transitions, &w), RGM_EDATA);
  cr_expect(strstr(rgm_last_error(), "no learned model") != NULL, "%s", rgm_last_error());
  rgm_checkpoint_free(c);
  rgm_run_free(run);
}


// ---- bits --------------------------------------------------------------------------------------

static void values_text(char text[1024], const char *data, const char *clone, const char *policy,
                        const char *how, const char *more) {
  snprintf(text, 1024,
           "run: {name: v, steps: 3, %s}\ndata: {path: %s}\nalgorithm: {name: values, clone: %s, "
           "runs: \"%s\", hidden: [17], batch: 17, updates: 2%s}\n",
           how, data, clone, policy, more);
}


Test(values_run, bits_are_the_same_however_it_runs) {
  static const char *const how[] = {"backend: cpu, threads: 2, replicas: 2",
                                    "backend: cpu, threads: 1, isa: avx2, replicas: 2",
                                    "backend: cuda, replicas: 2"};
  setenv("RGM_CUDA_MODULE", cuda_module(), 1);
  for (int continuous = 0; continuous < 2; continuous++) {
    const char *data = plant("a.h5", continuous, true);
    const char *clone = train("clone.h5", data, clone_keys), *cql = train("cql.h5", data, cql_keys);
    const char *more = continuous ? ", acts: draws, baselines: \"clinician, clone\"" : "";
    char first[65], digest[65], text[1024];
    rgm_worth a[VALUES_POLICIES], b[VALUES_POLICIES];
    int64_t patients;
    for (int i = 0; i < 3; i++) {
      values_text(text, data, clone, cql, how[i], more);
      rgm_run *run = make(text);
      steps(run, 3);
      digest_of(run, i == 0 ? first : digest);
      cr_assert_eq(rgm_values_worth(run, i == 0 ? a : b, &patients), RGM_OK, "%s",
                   rgm_last_error());
      cr_expect_eq(patients, PATIENTS / 6);
      const int count = ((const rgm_values *)run->self)->count;
      cr_expect(i == 0 || strcmp(first, digest) == 0, "%s", how[i]);
      for (int n = 0; n < count && i > 0; n++) {
        cr_expect(memcmp(a[n].estimates.of, b[n].estimates.of, sizeof a[n].estimates.of) == 0,
                  "%s: policy %d", how[i], n);
      }
      rgm_run_free(run);
    }

    // stopped after a step, and gone on with by another
    values_text(text, data, clone, cql, how[0], more);
    rgm_run *run = make(text), *again = make(text);
    rgm_checkpoint *c = NULL;
    steps(run, 1);
    cr_assert_eq(rgm_run_snapshot(run, &c), RGM_OK);
    cr_assert_eq(rgm_run_restore(again, c, true), RGM_OK, "%s", rgm_last_error());
    steps(again, 2);
    digest_of(again, digest);
    cr_expect_str_eq(first, digest);
    rgm_checkpoint_free(c);
    rgm_run_free(run);
    rgm_run_free(again);
  }
}


// ---- what is refused ---------------------------------------------------------------------------

Test(values_run, refuses_what_cannot_be_valued) {
  static const struct {
    const char *more, *text;
    rgm_status status;
    bool continuous, untested;
  } cases[] = {
      {", baselines: nobody", "no baseline \"nobody\"", RGM_ECONFIG, false, false},
      {", baselines: \"clinician, rondom\"", "did you mean random", RGM_ECONFIG, false, false},
      {", baselines: random", "is about classes", RGM_ECONFIG, true, false},
      {", constant: 2", "class 2 of 2", RGM_ECONFIG, false, false},
      {"", "has no test rows", RGM_ECONFIG, false, true},
      {", baselines: \"clone, , random\"", "between commas", RGM_ECONFIG, false, false},
      {", baselines: \"clone, clone\"", "two policies are called clone", RGM_ECONFIG, false, false},
  };
  for (size_t k = 0; k < sizeof cases / sizeof *cases; k++) {
    const char *data = plant("a.h5", cases[k].continuous, !cases[k].untested);
    const char *clone = train("one.h5", data, clone_keys);
    char text[1024];
    rgm_run *run = NULL;
    values_text(text, data, clone, clone, "threads: 1", cases[k].more);
    cr_expect_eq(try_run(text, &run), cases[k].status, "%s: %s", cases[k].more, rgm_last_error());
    cr_expect(strstr(rgm_last_error(), cases[k].text) != NULL, "%s: %s", cases[k].more,
              rgm_last_error());
    rgm_run_free(run);
  }

  // policies of other data, none at all, and one that was trained again
  const char *data = plant("a.h5", false, true), *other = plant("c.h5", true, true);
  const char *clone = train("one.h5", data, clone_keys);
  char text[1024];
  rgm_run *run = NULL;
  values_text(text, data, train("other.h5", other, clone_keys), clone, "threads: 1", "");
  cr_expect_neq(try_run(text, &run), RGM_OK);
  cr_expect(strstr(rgm_last_error(), "its actions are continuous") != NULL, "%s", rgm_last_error());
  rgm_run_free(run);
  values_text(text, data, "/nowhere", clone, "threads: 1", "");
  cr_expect_eq(try_run(text, &run), RGM_ECONFIG);
  cr_expect(strstr(rgm_last_error(), "algorithm.clone: /nowhere") != NULL, "%s", rgm_last_error());
  rgm_run_free(run);
  values_text(text, data, clone, "LICENSE", "threads: 1", "");
  cr_expect_neq(try_run(text, &run), RGM_OK);
  rgm_run_free(run);

  rgm_checkpoint *c = NULL;
  const char *cql = train("cql.h5", data, cql_keys);
  values_text(text, data, clone, cql, "threads: 1", "");
  run = make(text);
  cr_assert_eq(rgm_run_snapshot(run, &c), RGM_OK);
  rgm_run_free(run);
  train("cql.h5", data, "name: cql, actor_hidden: [17], critic_hidden: [16], batch: 31");
  run = make(text);
  cr_assert_eq(rgm_run_restore(run, c, false), RGM_OK);
  rgm_json json = {.out = NULL};
  cr_expect_eq(rgm_values_evaluate(run, &json, NULL), RGM_EDATA);
  cr_expect(strstr(rgm_last_error(), "cql is another policy") != NULL, "%s", rgm_last_error());
  rgm_checkpoint_free(c);
  rgm_run_free(run);
}
