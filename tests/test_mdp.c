// SPDX-License-Identifier: Apache-2.0
// Tabular problems as files and as kernels see them: absurd inputs, each with its own message;
// round trips and damage of the store; alias tables, layouts and masks; bootstrap draws and
// learning against exact answers, on every instruction set, by CUDA run on the CPU, stopped and
// resumed.

#include "algorithms/dp.h"
#include "tests/cuda_module.h"

#include <criterion/criterion.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

TestSuite(mdp, .timeout = 240);

static char folder[] = "/tmp/regimen-mdp-XXXXXX";


static void make_folder(void) {
  cr_assert(strstr(folder, "XXXXXX") == NULL || mkdtemp(folder) != NULL);
}


static void write_text(const char *name, const char *text, char path[256]) {
  make_folder();
  snprintf(path, 256, "%s/%s", folder, name);
  FILE *out = fopen(path, "w");
  cr_assert(out != NULL && fputs(text, out) >= 0 && fclose(out) == 0);
}


static rgm_status make(const char *text, const char *const *sets, rgm_run **run) {
  rgm_config *config = NULL;
  int count = 0;
  while (sets[count] != NULL) {
    count++;
  }
  *run = NULL;
  const rgm_status status = rgm_config_parse("test", text, sets, count, &config);
  return status == RGM_OK ? rgm_run_create(config, run) : status;
}


static void steps(rgm_run *run, int count) {
  for (int i = 0; i < count; i++) {
    cr_assert_eq(run->algorithm->step(run), RGM_OK, "%s", rgm_last_error());
    run->step++;
  }
}


static void digest_of(rgm_run *run, char hex[65]) {
  rgm_checkpoint *c = NULL;
  cr_assert_eq(rgm_run_snapshot(run, &c), RGM_OK, "%s", rgm_last_error());
  rgm_checkpoint_digest(c, hex);
  rgm_checkpoint_free(c);
}


static rgm_tensor tensor(const rgm_run *run, const char *name) {
  for (int i = 0; i < rgm_arena_count(run->arena); i++) {
    if (strcmp(rgm_arena_entry(run->arena, i)->name, name) == 0) {
      return rgm_arena_entry(run->arena, i)->tensor;
    }
  }
  cr_assert(false, "no tensor %s", name);
  return (rgm_tensor){0};
}


// ---- absurd inputs -----------------------------------------------------------------------------

// Three states: 0 may stay or go, 1 dies, 2 is the end.
#define GOOD "s a next p r\n0 0 0 0.5 0\n0 0 1 0.5 0\n0 1 2 1 1\n1 0 2 1 0\n"

// Each kind of file has its own ways to be wrong.
Test(mdp, absurd_formats) {
  static const struct {
    const char *name, *text, *message;
  } cases[] = {
      {"a.json", "12", "is no table"},
      {"a.json", "[[[[1, 0, 0, false]]]] x", "text follows"},
      {"a.json", "[[[[1, 0, 0]]]]", "not four numbers"},
      {"a.json", "[[[1, 0, 0, false]]]", "an outcome is no list"},
      {"a.json", "[[[[1, 0.5, 0, false]]]]", "no whole number"},
      {"a.json", "{\"zero\": []}", "number is missing"},
      {"a.json", "{\"0\": [[[1, 0, 0, false]] [[1, 0, 0, false]]]}", "comma is missing"},
      {"a.json", "[[[[1, 0, 0, false]]]", "comma is missing"},
      {"a.petsc", "nothing of the kind", "no PETSc matrix"},
      {"a.tra", "2 2\n", "states, choices and transitions"},
      {"a.tra", "2 2 2\n0 0 1 1\n", "1 transitions where its first row says 2"},
      {"a.tra", "2 2 1\n0 0 1\n", "row 2: state, choice"},
      {"a.tra", "2 2 1\n0 0 5 1\n", "there are 2 states"},
      {"a.xyz", "0 0 0 1\n", "tells no format"},
  };
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
    char path[256];
    write_text(cases[i].name, cases[i].text, path);
    const rgm_mdp_source source = {.path = path, .kind = "auto", .begin = "", .mask = ""};
    rgm_mdp *m;
    cr_expect_neq(rgm_mdp_read(&source, &m), RGM_OK, "case %d", (int)i);
    cr_expect(strstr(rgm_last_error(), cases[i].message) != NULL, "case %d: %s", (int)i,
              rgm_last_error());
  }
}


Test(mdp, absurd_inputs) {
  static const struct {
    const char *text, *set, *message;
  } cases[] = {
      // what stands in the file
      {"", "run.seed=1", "holds no transitions"},
      {"# nothing\n\n", "run.seed=1", "holds no transitions"},
      {"0 0 0 0.5\n0 0 one 0.5\n", "run.seed=1", "row 2: text where numbers"},
      {"0 0 0\n", "run.seed=1", "row 1: 3 numbers"},
      {"0 0 0 1\n0 1 0 1 2\n", "run.seed=1", "the same in all rows"},
      {"-1 0 0 1\n", "run.seed=1", "state -1 is negative"},
      {"0 -1 0 1\n", "run.seed=1", "action -1 is negative"},
      {"0 0 -2 1\n", "run.seed=1", "next state -2 is negative"},
      {"3000000000 0 0 1\n", "run.seed=1", "more than 2147483646"},
      {"0.5 0 0 1\n", "run.seed=1", "the state is no whole number"},
      {"0 0.5 0 1\n", "run.seed=1", "the action is no whole number"},
      {"0 0 0.5 1\n", "run.seed=1", "the next state is no whole number"},
      {"0 0 0 nan\n", "run.seed=1", "probability is no number"},
      {"0 0 0 -0.25\n0 0 1 1.25\n", "run.seed=1", "negative probability"},
      {"0 0 0 inf\n", "run.seed=1", "infinite probability"},
      {"0 0 0 1 nan\n", "run.seed=1", "reward is no number"},
      {"0 0 0 1 inf\n", "run.seed=1", "reward is infinite"},
      {"0 0 0 0.5\n0 0 1 0.4\n", "run.seed=1", "sum to 0.9"},
      {"0 0 0 1 2 3 4 5 6 7\n", "run.seed=1", "more than 8 numbers"},
      {"0 0 1 0.5\n0 0 1 0.5\n", "env.duplicates=refuse", "stands in row 1 too"},
      {"0 0 0 1 0\n", "env.kind=mdp", "Regimen"},
      // what the keys ask of a good one
      {GOOD, "env.kind=texts", "did you mean text"},
      {GOOD, "env.path=/nowhere/at.tsv", "No such file"},
      {GOOD, "env.path=\"\"", "name the problem's file"},
      {GOOD, "env.begin=/nowhere/begin.tsv", "No such file"},
      {GOOD, "env.mask=/nowhere/mask.tsv", "No such file"},
      {GOOD, "env.survive=9", "9 is no state"},
      {GOOD, "env.ends=9", "9 is no state"},
      {GOOD, "env.ends=[0, 1, 2]", "all states are ends"},
      {GOOD, "env.restart=true", "no start distribution"},
      {GOOD, "env.tolerance=2", "tolerance"},
      {GOOD, "algorithm.gamma=-1", "gamma"},
      {GOOD, "algorithm.method=magic", "method"},
      {GOOD, "algorithm.start=given", "has no policy"},
      {"0 0 0 1 0\n0 1 1 1 1\n1 0 0 1 0\n", "algorithm.gamma=1", "from every end"},
      {GOOD, "algorithm.name=tabular_q", "set env.begin"},
      {GOOD, "algorithm.name=dp_bootstrap", "comes without counts"},
      {GOOD, "algorithm.name=dp_audit", "set env.begin"},
      {"0 0 0 1\n40000 0 0 1\n", "algorithm.layout=compact", "32767 away"},
  };
  static const char config[] = "run: {steps: 5}\nenv: {name: mdp, kind: text}\n"
                               "algorithm: {name: dp}\n";
  char path[256], set[300];
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
    write_text("absurd.tsv", cases[i].text, path);
    snprintf(set, sizeof set, "env.path=%s", path);
    const char *const sets[] = {set, cases[i].set,
                                strstr(cases[i].set, "compact") != NULL
                                    ? "algorithm.method=value_iteration"
                                    : "run.steps=6",
                                NULL};
    rgm_run *run;
    cr_expect_neq(make(config, sets, &run), RGM_OK, "case %d", (int)i);
    cr_expect(strstr(rgm_last_error(), cases[i].message) != NULL, "case %d (%s): %s", (int)i,
              cases[i].message, rgm_last_error());
    rgm_run_free(run);
  }
  cr_expect_geq(sizeof cases / sizeof *cases, 25);
  unlink(path);
  rmdir(folder);
}


// Start distributions and masks that are wrong, and rows that only look wrong.
Test(mdp, begin_mask_rounding) {
  static const struct {
    const char *begin, *mask, *message; // message "": it is fine
  } cases[] = {
      {"0 1\n", "", ""},
      {"1\n0\n0\n", "", ""},
      {"0.5 0.5 0\n", "", ""},
      {"0 0.5\n", "", "sums to 0.5"},
      {"0 -1\n1 2\n", "", "negative"},
      {"7 1\n", "", "of 3 states"},
      {"", "0 1\n1 0\n", ""},
      {"", "0 1\n", "every action of state 1"},
      {"", "0 5\n", "no action 5"},
  };
  char text[256], begin[256], mask[256];
  // thirds: off by rounding, as published tables are; duplicates are added up
  write_text("good.tsv",
             "0\t0\t0\t0.33333333333333331\n0\t0\t1\t0.33333333333333331\n"
             "0,0,1,0.16666666666666666\n0 0 2 0.16666666666666666\n"
             "0 1 2 1\n1 0 2 1.0000000000000022\n",
             text);
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
    write_text("begin.tsv", cases[i].begin, begin);
    write_text("mask.tsv", cases[i].mask, mask);
    const rgm_mdp_source source = {.path = text,
                                   .kind = "auto",
                                   .begin = cases[i].begin[0] != '\0' ? begin : "",
                                   .mask = cases[i].mask[0] != '\0' ? mask : ""};
    rgm_mdp *m;
    const rgm_status status = rgm_mdp_read(&source, &m);
    cr_expect_eq(status == RGM_OK, cases[i].message[0] == '\0', "case %d: %s", (int)i,
                 rgm_last_error());
    cr_expect(status == RGM_OK || strstr(rgm_last_error(), cases[i].message) != NULL, "%s",
              rgm_last_error());
    if (status == RGM_OK) {
      cr_expect_eq(m->entries, 5);
      cr_expect_eq(m->merged, 1);
      cr_expect_float_eq(m->p[1], 0.5, 1e-15);
    }
    rgm_mdp_free(m);
  }
}


// ---- the store ---------------------------------------------------------------------------------

static rgm_mdp *simulator(const char *text) {
  static const char *const none[] = {NULL};
  rgm_run *run;
  cr_assert_eq(make(text, none, &run), RGM_OK, "%s", rgm_last_error());
  rgm_mdp *m = run->mdp;
  run->mdp = NULL;
  rgm_run_free(run);
  return m;
}


Test(mdp, store_and_damage) {
  rgm_mdp *m = simulator("env: {name: sepsis_grid}\nalgorithm: {name: dp}\n"), *again;
  char path[300], want[65], hex[65];
  make_folder();
  snprintf(path, sizeof path, "%s/grid.h5", folder);
  cr_assert_eq(rgm_mdp_write(path, m), RGM_OK, "%s", rgm_last_error());
  cr_assert_eq(rgm_mdp_file_read(path, &again), RGM_OK, "%s", rgm_last_error());
  cr_assert_eq(rgm_mdp_digest(m, want), RGM_OK);
  cr_assert_eq(rgm_mdp_digest(again, hex), RGM_OK);
  cr_expect_str_eq(hex, want);
  cr_expect_str_eq(again->action_name[2], "both");
  cr_expect_str_eq(again->state_name[0], "(1,1) alive");
  cr_expect_eq(again->grid_rows, 4);
  rgm_mdp_free(again);

  // text and back: the same rows to the bit
  snprintf(path, sizeof path, "%s/grid.tsv", folder);
  cr_assert_eq(rgm_mdp_write(path, m), RGM_OK, "%s", rgm_last_error());
  const rgm_mdp_source source = {.path = path, .kind = "auto", .begin = "", .mask = ""};
  cr_assert_eq(rgm_mdp_read(&source, &again), RGM_OK, "%s", rgm_last_error());
  cr_expect_arr_eq(again->p, m->p, (size_t)m->entries * sizeof *m->p);
  cr_expect_arr_eq(again->reward, m->reward, (size_t)m->rows * sizeof *m->reward);
  rgm_mdp_free(again);

  // other programs' formats: the same rows, without rewards where they have none
  static const char *const ends[] = {"json", "petsc", "tra"};
  for (int k = 0; k < 3; k++) {
    snprintf(path, sizeof path, "%s/grid.%s", folder, ends[k]);
    const rgm_mdp_source other = {.path = path, .kind = "auto", .begin = "", .mask = ""};
    cr_assert_eq(rgm_mdp_write(path, m), RGM_OK, "%s", rgm_last_error());
    cr_assert_eq(rgm_mdp_read(&other, &again), RGM_OK, "%s", rgm_last_error());
    cr_assert_eq(again->entries, m->entries);
    cr_expect_arr_eq(again->p, m->p, (size_t)m->entries * sizeof *m->p, "%s", ends[k]);
    cr_expect_arr_eq(again->next, m->next, (size_t)m->entries * sizeof *m->next, "%s", ends[k]);
    cr_expect_float_eq(again->reward[0], k == 0 ? 1.0 : 0.0, 1e-15);
    rgm_mdp_free(again);
  }

  // any byte changed, or the end cut off: refused
  snprintf(path, sizeof path, "%s/grid.h5", folder);
  FILE *file = fopen(path, "rb");
  unsigned char *bytes = malloc(1 << 20);
  const size_t size = fread(bytes, 1, 1 << 20, file);
  fclose(file);
  for (size_t at = 0; at < size; at += size / 40) {
    for (int cut = 0; cut < 2; cut++) {
      bytes[at] ^= 0x20;
      file = fopen(path, "wb");
      fwrite(bytes, 1, cut ? at : size, file);
      fclose(file);
      bytes[at] ^= 0x20;
      cr_expect_neq(rgm_mdp_file_read(path, &again), RGM_OK, "byte %zu", at);
      cr_expect(again == NULL);
    }
  }
  free(bytes);
  rgm_mdp_free(m);
}


// ---- kernels -----------------------------------------------------------------------------------

// A column's own share and what aliases point at it add up to the weight.
Test(mdp, alias_tables) {
  for (int64_t n = 1; n < 200; n = n * 2 + 1) {
    double weight[400], share[400], sum = 0.0, back[400] = {0.0};
    uint32_t alias[400];
    for (int64_t k = 0; k < n; k++) {
      weight[k] = pow((double)((k * 7919 + 13) % 101) / 101.0, 3.0);
      sum += weight[k];
    }
    rgm_mdp_alias_table(weight, n, share, alias);
    for (int64_t k = 0; k < n; k++) {
      back[k] += share[k];
      back[alias[k]] += alias[k] != (uint32_t)k ? 1.0 - share[k] : 0.0;
    }
    for (int64_t k = 0; k < n; k++) {
      cr_expect_float_eq(back[k] / (double)n, weight[k] / sum, 1e-14, "%d of %d", (int)k, (int)n);
    }
  }
}


// A sweep over the layout is the plain sum over the rows, whatever their lengths; and compact rows
// are those of the same problem to 2 / 65535 with sums of exactly 1.
Test(mdp, layouts) {
  rgm_mdp *m = simulator("env: {name: sepsis_gumbel}\nalgorithm: {name: dp}\n");
  for (int64_t n = 0; n < m->rows; n += 5) {
    m->allowed[n] = m->action[n] == 0; // a mask with holes
  }
  for (int compact = 0; compact < 2; compact++) {
    rgm_mdp_layout l;
    cr_assert_eq(rgm_mdp_lay_out(m, compact == 1, &l), RGM_OK, "%s", rgm_last_error());
    const rgm_mdp_rows *r = &l.rows;
    int64_t seen = 0;
    for (int64_t b = 0; b < r->block.dims[0] - 1; b++) {
      const int64_t first = rgm_at_u32(r->first, 0, rgm_at_u32(r->block, 0, b));
      for (int64_t n = rgm_at_u32(r->slice, 0, b); n < rgm_at_u32(r->slice, 0, b + 1); n++) {
        for (int i = 0; i < RGM_SLICE; i++) {
          const int32_t lane = rgm_at_i32(r->lane, 0, RGM_SLICE * n + i);
          if (lane == RGM_MDP_LANE) {
            continue;
          }
          const int64_t row = l.row[first + lane], size = m->start[row + 1] - m->start[row];
          uint64_t sum = 0;
          for (uint32_t k = 0; k < rgm_at_u32(r->length, 0, n); k++) {
            const int64_t at = RGM_SLICE * ((int64_t)rgm_at_u32(r->start, 0, n) + k) + i;
            const bool real = (int64_t)k < size;
            const double p = real ? m->p[m->start[row] + k] : 0.0;
            if (compact == 1) {
              const uint32_t e = ((uint32_t *)r->p.data)[at];
              const int32_t next =
                  ((int32_t *)r->home.data)[RGM_SLICE * n + i] + ((int32_t)e >> 16);
              cr_assert(!real || next == m->next[m->start[row] + k]);
              cr_assert_float_eq((double)(e & 0xFFFF) / 65535.0, p, 2.0 / 65535.0);
              sum += e & 0xFFFF;
            } else {
              cr_assert_eq(((double *)r->p.data)[at], p);
              cr_assert(!real || ((int32_t *)r->next.data)[at] == m->next[m->start[row] + k]);
            }
          }
          cr_assert(compact == 0 || sum == RGM_MDP_UNIT);
          seen++;
        }
      }
    }
    cr_expect_eq(seen, r->reward.dims[1]);
    rgm_mdp_layout_free(&l);
  }
  rgm_mdp_free(m);
}


// ---- bootstrap and learning --------------------------------------------------------------------

static const char draws[] =
    "run: {steps: 2, threads: 1, backend: cpu}\n"
    "env: {name: sepsis_grid, alive: [1, 2], died: [5, 3], rows: 5, columns: 3}\n"
    "algorithm: {name: dp_bootstrap, gamma: 0.9, draws: 60, count: 400}\n";
// 2,011 updates stop within an episode of 40
static const char learners[] =
    "run: {steps: 4, replicas: 3, threads: 1, backend: cpu}\nenv: {name: sepsis_grid}\n"
    "algorithm: {name: tabular_q, gamma: 0.9, updates: 2011, longest: 40}\n";


// Draws scatter about the problem's own values: their mean to a few standard errors and the bias of
// a maximum, their spread as resampling of 400 makes it; each is the solution of a real problem.
Test(mdp, bootstrap_scatters) {
  static const char *const none[] = {NULL};
  rgm_run *run;
  cr_assert_eq(make(draws, none, &run), RGM_OK, "%s", rgm_last_error());
  steps(run, 2);
  const rgm_mdp *m = run->mdp;
  double exact[15] = {0};
  int32_t choice[15];
  memset(choice, 0xFF, sizeof choice);
  while (dp_gauss_seidel(m, 0.9, 1e-13, exact, choice) > 1e-14) {
  }
  const double *v = tensor(run, "value").data;
  for (int s = 0; s < 15; s++) {
    double mean = 0.0, square = 0.0;
    for (int b = 0; b < 60; b++) {
      mean += v[b * 15 + s] / 60.0;
    }
    for (int b = 0; b < 60; b++) {
      square += (v[b * 15 + s] - mean) * (v[b * 15 + s] - mean) / 59.0;
    }
    const double sd = sqrt(square);
    cr_expect_leq(fabs(mean - exact[s]), 0.8 * sd + 1e-8, "state %d: %g, %g +- %g", s, exact[s],
                  mean, sd);
    cr_expect(rgm_mdp_is_absorbing(m, s) ? sd < 1e-6 : sd > 0.01 && sd < 1.0, "state %d: sd %g", s,
              sd);
  }
  rgm_run_free(run);
}


// Q-learning and its kin come near the optimum of the grid, TD(0) near the value of the uniform
// policy.
Test(mdp, learning_converges) {
  static const char *const rules[] = {"q", "sarsa", "expected_sarsa", "double_q", "td0"};
  for (int k = 0; k < 5; k++) {
    char rule[64];
    snprintf(rule, sizeof rule, "algorithm.rule=%s", rules[k]);
    const char *const sets[] = {rule,
                                "algorithm.updates=200000",
                                "algorithm.span=600000",
                                "algorithm.lr_last=0.001",
                                "algorithm.explore_last=0.02",
                                NULL};
    rgm_run *run;
    cr_assert_eq(make(learners, sets, &run), RGM_OK, "%s", rgm_last_error());
    steps(run, 4);
    cr_assert_eq(rgm_metrics_memory(&run->metrics), RGM_OK);
    cr_assert_eq(run->algorithm->report(run), RGM_OK, "%s", rgm_last_error());
    const float *value;
    cr_assert_eq(rgm_metrics_values(run->metrics, "value", &value), RGM_OK);
    for (int r = 0; r < 3; r++) {
      // specification: optimum 4.4808, uniform 1.0788 from the cells that are no ends
      const double want = k == 4 ? 1.078816332203 : 4.480809268512;
      cr_expect_float_eq((double)value[r], want, k == 4 ? 0.15 : 0.12, "%s: %g", rules[k],
                         (double)value[r]);
    }
    rgm_run_free(run);
  }
}


// The same bits on every instruction set, number of threads and by CUDA; a replica alone; resumed.
Test(mdp, bits) {
  static const char *const ways[] = {"run.threads=1", "run.isa=avx2", "run.threads=3",
                                     "run.backend=cuda"};
  static const struct {
    const char *text, *set;
  } cases[] = {{draws, "algorithm.draws=7"},
               {learners, "algorithm.rule=q"},
               {learners, "algorithm.rule=double_q"},
               {learners, "algorithm.rule=sarsa"},
               {learners, "algorithm.rule=td0"}};
  setenv("RGM_CUDA_MODULE", cuda_module(), 1);
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
    char want[65], hex[65];
    for (int w = 0; w < 4; w++) {
      const char *const sets[] = {cases[i].set, ways[w], NULL};
      rgm_run *run;
      cr_assert_eq(make(cases[i].text, sets, &run), RGM_OK, "%s", rgm_last_error());
      steps(run, 2);
      digest_of(run, hex);
      if (w == 0) {
        memcpy(want, hex, sizeof want);
      }
      cr_expect_str_eq(hex, want, "%s, %s", cases[i].set, ways[w]);
      rgm_run_free(run);
    }

    // stopped after one step and gone on with
    const char *const sets[] = {cases[i].set, NULL};
    rgm_run *run, *again;
    rgm_checkpoint *c = NULL;
    cr_assert_eq(make(cases[i].text, sets, &run), RGM_OK, "%s", rgm_last_error());
    cr_assert_eq(make(cases[i].text, sets, &again), RGM_OK, "%s", rgm_last_error());
    steps(run, 1);
    cr_assert_eq(rgm_run_snapshot(run, &c), RGM_OK, "%s", rgm_last_error());
    cr_assert_eq(rgm_run_restore(again, c, true), RGM_OK, "%s", rgm_last_error());
    steps(again, 1);
    digest_of(again, hex);
    cr_expect_str_eq(hex, want, "%s: resumed", cases[i].set);

    // not with a problem that has changed meanwhile
    again->data_digest[0] ^= 1;
    cr_expect_eq(rgm_run_restore(again, c, true), RGM_EDATA, "%s", cases[i].set);
    cr_expect(strstr(rgm_last_error(), "trained on other data") != NULL, "%s", rgm_last_error());
    rgm_checkpoint_free(c);
    rgm_run_free(run);
    rgm_run_free(again);
  }
}
