// SPDX-License-Identifier: Apache-2.0
// Behaviour cloning: planted policies are found again, up to the likelihood that they themselves
// have on held-out rows (computed here, in double); packs, sweeps, resuming, threads, instruction
// sets, CUDA on the CPU; who stops and with which weights; what is refused.

#include "engine/regimen.h"
#include "engine/transitions.h"
#include "tests/cuda_module.h"
#include "tests/dataset_files.h"

#include <sys/wait.h>

TestSuite(bc, .timeout = 240, .init = make_folder, .fini = remove_folder);


// ---- planted policies --------------------------------------------------------------------------

enum { STATES = 3, CLASSES = 4, DIMS = 2, PATIENTS = 60, ROWS = 40 };

// what the clinicians do: logits and means are linear in the state, whose columns have other units
static const double weight[CLASSES][STATES] = {
    {1.5, 0.0, -0.5}, {-1.0, 1.0, 0.0}, {0.0, -1.2, 0.8}, {0.3, 0.4, 1.0}};
static const double unit[STATES] = {100.0, 1.0, 0.02}, centre[STATES] = {250.0, 0.0, -3.0};
static const double low[DIMS] = {-2.0, 10.0}, high[DIMS] = {4.0, 11.0};
static const double spread = 0.3; // sd before tanh

static double uniform(uint64_t *state) {
  *state = *state * 6364136223846793005u + 1442695040888963407u;
  return (double)(*state >> 11) * 0x1p-53;
}


static double normal(uint64_t *state) {
  const double u = uniform(state) + 0x1p-60, v = uniform(state);
  return sqrt(-2.0 * log(u)) * cos(2.0 * M_PI * v);
}


static double linear(int k, const double *z) {
  return weight[k][0] * z[0] + weight[k][1] * z[1] + weight[k][2] * z[2];
}


static int draw_class(const double *z, uint64_t *state) {
  double sum = 0.0, share = uniform(state);
  for (int k = 0; k < CLASSES; k++) {
    sum += exp(linear(k, z));
  }
  for (int k = 0; k < CLASSES - 1; k++) {
    share -= exp(linear(k, z)) / sum;
    if (share < 0.0) {
      return k;
    }
  }
  return CLASSES - 1;
}


// FOLDER/name: patients of one episode each, under classes or tanh-Gaussian actions
static const char *plant(const char *name, bool classes, double sd) {
  static char path[256];
  static const char *const names[] = {"patient", "episode", "x0", "x1", "x2", "end", "a0", "a1"};
  rgm_dataset *d = rgm_dataset_new(PATIENTS * ROWS);
  rgm_column *c[8];
  uint64_t state = 99;
  for (int i = 0; i < (classes ? 7 : 8); i++) {
    const rgm_role role = i == 0   ? RGM_ROLE_PATIENT
                          : i == 1 ? RGM_ROLE_EPISODE
                          : i < 5  ? RGM_ROLE_STATE
                          : i == 5 ? RGM_ROLE_TERMINATED
                                   : RGM_ROLE_ACTION;
    const bool whole = i < 2 || i == 5 || (i == 6 && classes);
    cr_assert(rgm_dataset_add(d, names[i], role, whole ? RGM_CELL_I32 : RGM_CELL_F64, "1"));
  }
  for (int i = 0; i < (classes ? 7 : 8); i++) {
    c[i] = &d->column[i];
  }
  for (int64_t r = 0; r < d->rows; r++) {
    double z[STATES];
    rgm_cell_set(c[0], r, (double)(r / ROWS));
    rgm_cell_set(c[1], r, (double)(r / ROWS));
    rgm_cell_set(c[5], r, r % ROWS == ROWS - 1);
    for (int k = 0; k < STATES; k++) {
      z[k] = normal(&state);
      rgm_cell_set(c[2 + k], r, centre[k] + unit[k] * z[k]);
    }
    for (int k = 0; k < DIMS && !classes; k++) {
      const double u = 0.7 * linear(k, z) + sd * normal(&state);
      rgm_cell_set(c[6 + k], r, low[k] + 0.5 * (high[k] - low[k]) * (1.0 + tanh(u)));
    }
    if (classes) {
      rgm_cell_set(c[6], r, draw_class(z, &state));
    }
  }
  c[6]->choices = classes ? CLASSES : 0;
  for (int k = 0; k < DIMS && !classes; k++) {
    c[6 + k]->low = low[k];
    c[6 + k]->high = high[k];
  }
  snprintf(path, sizeof path, "%s", in_folder(name));
  cr_assert_eq(rgm_dataset_write(path, d), RGM_OK, "%s", rgm_last_error());
  rgm_dataset_free(d);
  return path;
}


// mean log-density of the planted policy on validation rows, or its squared error in units of half
// the box; all in double
static double truth(const rgm_transitions *t, bool mse, double sd) {
  double sum = 0.0;
  int64_t rows = 0;
  for (int64_t i = 0; i < t->rows; i++) {
    double z[STATES];
    if (t->split[i] != RGM_VALIDATION) {
      continue;
    }
    rows++;
    for (int k = 0; k < STATES; k++) {
      z[k] = ((double)t->obs[i * STATES + k] - centre[k]) / unit[k];
    }
    if (t->choices > 0) {
      double all = 0.0;
      for (int k = 0; k < CLASSES; k++) {
        all += exp(linear(k, z));
      }
      sum += linear((int)t->action[i], z) - log(all);
    }
    for (int k = 0; k < DIMS && t->choices == 0; k++) {
      const double half = 0.5 * (high[k] - low[k]);
      const double y = ((double)t->action[i * DIMS + k] - low[k]) / half - 1.0;
      const double eps = (atanh(y) - 0.7 * linear(k, z)) / sd;
      const double gap = y - tanh(0.7 * linear(k, z));
      sum +=
          mse ? gap * gap / DIMS
              : -0.5 * eps * eps - log(sd) - 0.5 * log(2.0 * M_PI) - log(1.0 - y * y) - log(half);
    }
  }
  return sum / (double)rows;
}


// ---- runs --------------------------------------------------------------------------------------

static const char small[] =
    "run: {steps: 12, seed: 5, threads: 1}\n"
    "data: {path: PATH, validation: 0.25, test: 0.1}\n"
    "algorithm: {name: bc, hidden: [33], batch: 67, updates: 3, patience: 2, lr: 0.02}\n";


static rgm_status try_run(const char *path, int count, const char *const *sets, rgm_run **run) {
  char set[300];
  const char *all[16] = {set};
  rgm_config *config = NULL;
  snprintf(set, sizeof set, "data.path=%s", path);
  for (int i = 0; i < count; i++) {
    all[i + 1] = sets[i];
  }
  *run = NULL;
  RGM_TRY(rgm_config_parse("test", small, all, count + 1, &config));
  return rgm_run_create(config, run);
}


static rgm_run *make_run(const char *path, int count, const char *const *sets) {
  rgm_run *run = NULL;
  cr_assert_eq(try_run(path, count, sets, &run), RGM_OK, "%s", rgm_last_error());
  return run;
}


static void steps(rgm_run *run, int count) {
  for (int i = 0; i < count; i++) {
    cr_assert_eq(run->algorithm->step(run), RGM_OK, "%s", rgm_last_error());
    run->step++;
  }
  cr_assert_eq(rgm_guard(run), RGM_OK, "%s", rgm_last_error());
}


static rgm_checkpoint *snapshot(rgm_run *run) {
  rgm_checkpoint *c = NULL;
  cr_assert_eq(rgm_run_snapshot(run, &c), RGM_OK, "%s", rgm_last_error());
  return c;
}


static void digest_of(rgm_run *run, char hex[65]) {
  rgm_checkpoint *c = snapshot(run);
  rgm_checkpoint_digest(c, hex);
  rgm_checkpoint_free(c);
}


static const void *values(const rgm_run *run, const char *name) {
  for (int i = 0; i < rgm_arena_count(run->arena); i++) {
    const rgm_entry *e = rgm_arena_entry(run->arena, i);
    if (strcmp(e->name, name) == 0) {
      return e->tensor.data;
    }
  }
  cr_assert_fail("no tensor %s", name);
  return NULL;
}


// ---- what is learned ---------------------------------------------------------------------------

// Planted policies come back: the least validation loss of each seed is within `margin` of what the
// planted policy has on these rows. Margins are in nats (of the squared error: a share of it), for
// 1,500 rows of training and a net of 64 units; a policy that ignores the state is further off by
// `blind`.
Test(bc, finds_a_planted_policy) {
  static const struct {
    const char *name, *loss;
    bool classes;
    double sd, margin, blind;
  } cases[] = {
      {"classes.h5", "algorithm.loss=likelihood", true, 0.0, 0.05, 0.3},
      {"gauss.h5", "algorithm.loss=likelihood", false, 0.3, 0.12, 1.0},
      {"mean.h5", "algorithm.loss=mse", false, 0.1, 0.004, 0.1},
  };
  for (size_t k = 0; k < sizeof cases / sizeof *cases; k++) {
    const char *sets[] = {cases[k].loss,
                          "run.replicas=2",
                          "algorithm.hidden=[64]",
                          "algorithm.batch=128",
                          "algorithm.updates=50",
                          "algorithm.lr=3e-3",
                          "algorithm.patience=8",
                          "algorithm.clip=10",
                          "algorithm.decay=cosine",
                          "algorithm.decay_steps=1500"};
    rgm_run *run = make_run(plant(cases[k].name, cases[k].classes, cases[k].sd), 10, sets);
    const bool mse = strstr(cases[k].loss, "mse") != NULL;
    const double best = truth(run->transitions, mse, cases[k].sd) * (mse ? 1.0 : -1.0);
    const float first = ((const float *)values(run, "validation/least"))[0];
    steps(run, 30);
    const float *least = values(run, "validation/least");
    for (int r = 0; r < 2; r++) {
      cr_expect(least[r] < first);
      cr_expect((double)least[r] < best + cases[k].margin, "%s: %g, the planted policy has %g",
                cases[k].name, (double)least[r], best);
      cr_expect((double)least[r] > best - cases[k].margin, "%s: %g is too good: it has %g",
                cases[k].name, (double)least[r], best);
      cr_expect(cases[k].blind > 2.0 * cases[k].margin);
    }
    rgm_run_free(run);
  }
}


// The validation loss is the loss of the policy that the weights are, by other means: its head and
// density again in double.
Test(bc, losses_are_those_of_the_weights) {
  static const char *const loss[] = {"algorithm.loss=likelihood", "algorithm.loss=mse"};
  for (int k = 0; k < 3; k++) {
    const char *sets[] = {loss[k == 2], "run.replicas=1"};
    rgm_run *run = make_run(plant("a.h5", k == 0, spread), 2, sets);
    const rgm_transitions *t = run->transitions;
    steps(run, 2);
    const float *w1 = values(run, "actor/0/0/weight"), *b1 = values(run, "actor/0/0/bias");
    const float *w2 = values(run, "actor/0/1/weight"), *b2 = values(run, "actor/0/1/bias");
    const float *mean = values(run, "observation/mean"), *sd = values(run, "observation/sd");
    double sum = 0.0;
    int64_t rows = 0;
    for (int64_t i = 0; i < t->rows; i++) {
      double head[4] = {0}, all = 0.0;
      if (t->split[i] != RGM_VALIDATION) {
        continue;
      }
      rows++;
      for (int o = 0; o < 4; o++) {
        head[o] = (double)b2[o];
      }
      for (int h = 0; h < 33; h++) {
        double y = (double)b1[h];
        for (int s = 0; s < STATES; s++) {
          y += (double)w1[s * 48 + h] * (double)((t->obs[i * STATES + s] - mean[s]) / sd[s]);
        }
        for (int o = 0; o < 4 && y > 0.0; o++) {
          head[o] += y * (double)w2[h * 16 + o];
        }
      }
      for (int o = 0; o < 4; o++) {
        all += exp(head[o]);
      }
      sum -= k == 0 ? head[(int)t->action[i]] - log(all) : 0.0;
      for (int d = 0; d < DIMS && k > 0; d++) {
        const double half = 0.5 * (high[d] - low[d]);
        const double y = ((double)t->action[i * DIMS + d] - low[d]) / half - 1.0;
        const double gap = y - tanh(head[d]), log_sd = fmax(-5.0, fmin(2.0, head[DIMS + d]));
        const double eps = (atanh(y) - head[d]) / exp(log_sd);
        sum += k == 2 ? gap * gap / DIMS
                      : 0.5 * eps * eps + log_sd + 0.5 * log(2.0 * M_PI) + log(1.0 - y * y) +
                            log(half);
      }
    }
    cr_expect_float_eq(((const float *)values(run, "validation/loss"))[0], sum / (double)rows,
                       k == 1 ? 2e-4 : 2e-6, "case %d: %.9g, in double %.9g", k,
                       (double)((const float *)values(run, "validation/loss"))[0],
                       sum / (double)rows);
    rgm_run_free(run);
  }
}


static const char *const forms[] = {"a.h5 classes", "b.h5 likelihood", "c.h5 mse"};

static const char *form_file(int k) {
  char name[8];
  snprintf(name, sizeof name, "%.4s", forms[k]);
  return plant(name, k == 0, spread);
}


static const char *form_loss(int k) {
  return k == 2 ? "algorithm.loss=mse" : "algorithm.loss=likelihood";
}


// the loss of one row by its head, in double
static double row_loss(int k, const double *head, const float *act) {
  double all = 0.0, loss = 0.0;
  for (int o = 0; o < 4; o++) {
    all += exp(head[o]);
  }
  for (int d = 0; d < DIMS && k > 0; d++) {
    const double half = 0.5 * (high[d] - low[d]);
    const double y = ((double)act[d] - low[d]) / half - 1.0, gap = y - tanh(head[d]);
    const double eps = (atanh(y) - head[d]) / exp(head[DIMS + d]);
    loss += k == 2 ? gap * gap / DIMS : 0.5 * eps * eps + head[DIMS + d];
  }
  return k == 0 ? log(all) - head[(int)act[0]] : loss;
}


// The slope by the head that an update goes down, against differences of the loss in double; and
// no two updates of a step see the same batch.
Test(bc, slopes_are_those_of_the_losses) {
  enum { B = 67, O = 16 };
  for (int k = 0; k < 3; k++) {
    const char *sets[] = {form_loss(k), "algorithm.updates=1", "algorithm.lr=0"};
    rgm_run *run = make_run(form_file(k), 3, sets);
    const float *head = values(run, "pass/train/out"), *dhead = values(run, "batch/dhead");
    const float *act = values(run, "batch/act"), *obs = values(run, "batch/obs");
    const int dims = k == 0 ? 1 : DIMS;
    float before[B * STATES];
    double worst = 0.0;
    steps(run, 1);
    for (int b = 0; b < B; b++) {
      for (int o = 0; o < O; o++) {
        double up[O], down[O];
        for (int i = 0; i < O; i++) {
          up[i] = (double)head[b * O + i] + (i == o ? 1e-5 : 0.0);
          down[i] = (double)head[b * O + i] - (i == o ? 1e-5 : 0.0);
        }
        const double slope =
            (row_loss(k, up, act + b * dims) - row_loss(k, down, act + b * dims)) / 2e-5 / B;
        worst = fmax(worst, fabs(slope - (double)dhead[b * O + o]) / (1e-2 + fabs(slope)));
      }
    }
    cr_expect(worst < 2e-4, "%s: %g", forms[k], worst);
    memcpy(before, obs, sizeof before);
    rgm_run_free(run);
    sets[1] = "algorithm.updates=2";
    run = make_run(form_file(k), 3, sets);
    steps(run, 1);
    obs = values(run, "batch/obs");
    cr_expect(memcmp(before, obs, sizeof before) != 0, "%s: the same batch again", forms[k]);
    rgm_run_free(run);
  }
}


// ---- the same, however it is run ---------------------------------------------------------------

Test(bc, bits_do_not_depend_on_threads_or_isa_or_cuda) {
  setenv("RGM_CUDA_MODULE", cuda_module(), 1);
  for (int k = 0; k < 3; k++) {
    const char *path = form_file(k);
    char first[65] = "", hex[65];
    for (const char *const *isa = rgm_cpu_isas(); *isa != NULL; isa++) {
      for (int threads = 1; threads <= 5; threads += threads == 1 ? 1 : 3) {
        char a[64], b[64];
        snprintf(a, sizeof a, "run.isa=%s", *isa);
        snprintf(b, sizeof b, "run.threads=%d", threads);
        const char *const sets[] = {form_loss(k),     a, b, "run.replicas=3", "algorithm.clip=0.5",
                                    "run.backend=cpu"};
        rgm_run *run = make_run(path, 6, sets);
        steps(run, 3);
        digest_of(run, hex);
        rgm_run_free(run);
        memcpy(first, first[0] == '\0' ? hex : first, sizeof hex);
        cr_expect_str_eq(hex, first, "%s: %s with %d threads", forms[k], *isa, threads);
      }
    }
    const char *const sets[] = {form_loss(k), "run.backend=cuda", "run.replicas=3",
                                "algorithm.clip=0.5"};
    rgm_run *run = make_run(path, 4, sets);
    steps(run, 3);
    digest_of(run, hex);
    rgm_run_free(run);
    cr_expect_str_eq(hex, first, "%s: CUDA", forms[k]);
  }
}


// Replica r of five, in groups of two, is the run alone with its seed, also once it has been
// retired; its weights in a run and as a member of a pack are the same.
Test(bc, replica_of_a_pack_equals_the_run_alone) {
  static const char *const names[] = {"actor/0", "best", "validation/least", "loss", "clock"};
  for (int k = 0; k < 3; k++) {
    const char *path = form_file(k);
    const char *const wide[] = {form_loss(k), "run.replicas=5", "run.threads=2"};
    rgm_run *pack = make_run(path, 3, wide);
    steps(pack, 12);
    uint32_t retired = 0;
    for (int r = 0; r < 5; r++) {
      char seed[32];
      snprintf(seed, sizeof seed, "run.seed=%d", 5 + r);
      const char *const sets[] = {form_loss(k), seed};
      rgm_run *alone = make_run(path, 2, sets);
      cr_assert_eq(alone->transitions, pack->transitions, "the data set was read twice");
      steps(alone, 12);
      for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        for (int e = 0; e < rgm_arena_count(alone->arena); e++) {
          const rgm_tensor t = rgm_arena_entry(alone->arena, e)->tensor;
          const rgm_tensor p = rgm_arena_entry(pack->arena, e)->tensor;
          if (strcmp(rgm_arena_entry(alone->arena, e)->name, names[i]) == 0) {
            cr_expect(memcmp((float *)p.data + r * p.stride0, t.data, rgm_bytes(t)) == 0,
                      "%s: %s of replica %d", forms[k], names[i], r);
          }
        }
      }
      retired += ((const uint32_t *)alone->active.data)[0] == 0;
      rgm_run_free(alone);
    }
    cr_expect(retired > 0, "%s: nobody was retired", forms[k]);
    rgm_run_free(pack);
  }
}


// members of a pack with learning rates of their own: one data set, each as by itself
Test(bc, members_of_a_pack_share_one_data_set) {
  const char *path = form_file(1);
  rgm_run *members[3], *pack = NULL;
  rgm_stream *stream = NULL;
  char set[300], lr[48], hex[65], want[65];
  snprintf(set, sizeof set, "data.path=%s", path);
  for (int m = 0; m < 3; m++) {
    snprintf(lr, sizeof lr, "algorithm.lr=%g", 0.01 * (m + 1));
    const char *const sets[] = {set, lr, "run.replicas=1"};
    rgm_config *config = NULL;
    cr_assert_eq(rgm_config_parse("test", small, sets, 3, &config), RGM_OK);
    cr_assert_eq(rgm_run_read(config, true, &members[m]), RGM_OK, "%s", rgm_last_error());
    cr_expect_eq(members[m]->transitions, members[0]->transitions);
  }
  cr_assert_eq(rgm_run_open_stream(members[0], &stream), RGM_OK);
  cr_assert_eq(rgm_run_pack(members, 3, stream, true, &pack), RGM_OK, "%s", rgm_last_error());
  cr_expect_eq(rgm_arena_bytes(pack->arena) > 0, true);
  for (int i = 0; i < 4; i++) {
    cr_assert_eq(pack->algorithm->step(pack), RGM_OK);
  }
  for (int m = 0; m < 3; m++) {
    rgm_checkpoint *c = NULL;
    snprintf(lr, sizeof lr, "algorithm.lr=%g", 0.01 * (m + 1));
    const char *const sets[] = {lr};
    rgm_run *alone = make_run(path, 1, sets);
    steps(alone, 4);
    digest_of(alone, want);
    cr_assert_eq(rgm_run_snapshot_member(pack, m, 4, &c), RGM_OK, "%s", rgm_last_error());
    rgm_checkpoint_digest(c, hex);
    cr_expect_str_eq(hex, want, "member %d", m);
    rgm_checkpoint_free(c);
    rgm_run_free(alone);
  }
  rgm_run_free(pack);
  for (int m = 0; m < 3; m++) {
    rgm_run_free(members[m]);
  }
  rgm_close(stream);
}


// stopped after 1, 4 and 9 steps and resumed: the weights, the counts, the best so far
Test(bc, resumed_run_goes_on_as_if_never_stopped) {
  static const char *const sets[] = {"run.replicas=3", "algorithm.loss=mse"};
  static const int stops[] = {1, 4, 9};
  const char *path = form_file(2);
  char straight[65], resumed[65];
  rgm_run *run = make_run(path, 2, sets);
  steps(run, 12);
  digest_of(run, straight);
  rgm_run_free(run);
  for (int k = 0; k < 3; k++) {
    run = make_run(path, 2, sets);
    steps(run, stops[k]);
    rgm_checkpoint *c = snapshot(run);
    rgm_run_free(run);
    run = make_run(path, 2, sets);
    cr_assert_eq(rgm_run_restore(run, c, true), RGM_OK, "%s", rgm_last_error());
    steps(run, 12 - stops[k]);
    digest_of(run, resumed);
    cr_expect_str_eq(straight, resumed, "stopped after %d", stops[k]);
    rgm_checkpoint_free(c);
    rgm_run_free(run);
  }
}


// Patience, against a second account of it: `least` is the least loss that was seen, "best" the
// weights of that step, `stale` the steps since, and who has waited too long changes no more.
Test(bc, stops_where_patience_ends) {
  enum { R = 4, PATIENCE = 3, STEPS = 40 };
  static const char *const sets[] = {"run.replicas=4", "algorithm.patience=3", "algorithm.lr=0.05"};
  rgm_run *run = make_run(form_file(0), 3, sets);
  const float *valid = values(run, "validation/loss"), *least = values(run, "validation/least");
  const float *net = values(run, "actor/0"), *best = values(run, "best");
  const uint32_t *stale = values(run, "validation/stale"), *active = values(run, "active");
  const int64_t size = rgm_mlp_size(2, (const int64_t[]){STATES, 33, CLASSES});
  float *kept = malloc((size_t)(R * size) * sizeof *kept), seen[R];
  uint32_t waited[R] = {0}, alive[R] = {1, 1, 1, 1}, retired = 0;
  for (int r = 0; r < R; r++) {
    seen[r] = INFINITY;
  }
  for (int i = 0; i < STEPS; i++) {
    steps(run, 1);
    for (int r = 0; r < R; r++) {
      if (alive[r] && valid[r] < seen[r]) {
        seen[r] = valid[r];
        waited[r] = 0;
        memcpy(kept + r * size, net + r * size, (size_t)size * sizeof *kept);
      } else if (alive[r]) {
        waited[r]++;
        alive[r] = waited[r] < PATIENCE;
      }
      cr_expect(least[r] == seen[r] && stale[r] == waited[r] && active[r] == alive[r],
                "step %d, replica %d", i, r);
      cr_expect(memcmp(kept + r * size, best + r * size, (size_t)size * sizeof *kept) == 0,
                "step %d, replica %d: best", i, r);
    }
  }
  for (int r = 0; r < R; r++) {
    retired += alive[r] == 0;
    cr_expect(alive[r] || ((const uint32_t *)run->clock.data)[r] < STEPS);
  }
  cr_expect(retired > 0);
  free(kept);
  rgm_run_free(run);
}


// ---- what is refused ---------------------------------------------------------------------------

Test(bc, refuses_what_cannot_be_done) {
  static const struct {
    const char *set, *text;
    rgm_status status;
    bool classes;
  } cases[] = {
      {"algorithm.loss=mse", "are classes: likelihood", RGM_ECONFIG, true},
      {"algorithm.log_sd_low=3", "is not below log_sd_high", RGM_ECONFIG, false},
      {"data.validation=0", "no validation rows to stop by", RGM_ECONFIG, false},
      {"data.validation=0.9", "leave no patient to train on", RGM_ECONFIG, false},
      {"env.name=cartpole", "4 observations where", RGM_ECONFIG, true},
      {"env.name=pendulum", "it is not what the data are of", RGM_ECONFIG, true},
      {"data.seeds=3", "did you mean data.seed", RGM_ECONFIG, false},
      {"data.path=/nowhere.h5", "/nowhere.h5", RGM_EIO, false},
      {"data.path=LICENSE", "not HDF5", RGM_EDATA, false},
  };
  for (size_t k = 0; k < sizeof cases / sizeof *cases; k++) {
    const char *sets[] = {cases[k].set};
    rgm_run *run = NULL;
    const char *path = plant("a.h5", cases[k].classes, spread);
    cr_expect_eq(try_run(path, 1, sets, &run), cases[k].status, "%s: %s", cases[k].set,
                 rgm_last_error());
    cr_expect(strstr(rgm_last_error(), cases[k].text) != NULL, "%s: %s", cases[k].set,
              rgm_last_error());
    rgm_run_free(run);
  }
}


// ---- the program -------------------------------------------------------------------------------

static int run_program(const char *arguments, char *text, size_t size) {
  char command[1200];
  snprintf(command, sizeof command, "%s %s 2>&1", RGM_PROGRAM, arguments);
  FILE *pipe = popen(command, "r");
  cr_assert(pipe != NULL);
  const size_t n = fread(text, 1, size - 1, pipe);
  text[n] = '\0';
  return WEXITSTATUS(pclose(pipe));
}


// Trains, refuses to go on with other data, evaluates; no state of a patient is in the checkpoint.
Test(bc, trains_resumes_and_is_evaluated) {
  static char text[65536];
  char path[256], arguments[1000], common[700];
  snprintf(path, sizeof path, "%s", plant("a.h5", true, 0.0));
  FILE *config = fopen(in_folder("bc.yaml"), "w");
  cr_assert(config != NULL && fputs(small, config) >= 0 && fclose(config) == 0);
  snprintf(common, sizeof common, "%s --quiet --set data.path=%s --out %s", in_folder("bc.yaml"),
           path, in_folder("run"));
  snprintf(arguments, sizeof arguments, "train %s --set run.steps=6", common);
  cr_assert_eq(run_program(arguments, text, sizeof text), 0, "%s", text);
  snprintf(arguments, sizeof arguments, "verify %s", in_folder("run"));
  cr_expect_eq(run_program(arguments, text, sizeof text), 0, "%s", text);
  snprintf(arguments, sizeof arguments, "eval %s --json --quiet", in_folder("run"));
  cr_expect_eq(run_program(arguments, text, sizeof text), 0, "%s", text);
  cr_expect(strstr(text, "\"accuracy\"") != NULL && strstr(text, "\"test\"") != NULL &&
                strstr(text, "\"one_for_all\"") != NULL,
            "%s", text);

  // the same file with one more row
  rgm_dataset *d = NULL;
  cr_assert_eq(rgm_dataset_read(path, &d), RGM_OK);
  rgm_cell_set(&d->column[2], 5, 251.0);
  cr_assert_eq(rgm_dataset_write(path, d), RGM_OK);
  rgm_dataset_free(d);
  snprintf(arguments, sizeof arguments, "train %s --resume", common);
  cr_expect_eq(run_program(arguments, text, sizeof text), 65, "%s", text);
  cr_expect(strstr(text, "was trained on other data") != NULL, "%s", text);
}
