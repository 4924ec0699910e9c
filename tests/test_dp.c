// SPDX-License-Identifier: Apache-2.0
// Dynamic programming: the sepsis grid against an exact rational solution, ICU-Sepsis and the
// Gumbel simulator against values of other solvers, the text's structure, ties, improper policies,
// the same bits on every instruction set and number of threads and by CUDA run on the CPU.

#include "algorithms/dp.h"
#include "tests/cuda_module.h"

#include <criterion/criterion.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

TestSuite(dp, .timeout = 240);

#define ICU "../shared/data/sepsis/icu_sepsis_admissible.tsv.gz"
#define BEGIN "../shared/data/sepsis/icu_sepsis_d0_expert.tsv.gz"
#define TABLES "../shared/data/icu-sepsis-mdp"

static const char grid[] =
    "run: {steps: 4000, threads: 1}\n"
    "env: {name: sepsis_grid, policy: none fluid vaso both fluid fluid vaso both vaso none fluid "
    "both none vaso fluid none}\n"
    "algorithm: {name: dp, tolerance: 1e-13}\n";
static const char icu[] = "run: {steps: 4000, threads: 1}\n"
                          "env: {name: mdp, path: " ICU ", kind: text, begin: " BEGIN ",\n"
                          "      survive: 714, survival_reward: 1, ends: [713, 714, 715]}\n"
                          "algorithm: {name: dp, tolerance: 1e-12}\n";

enum { STATES_MOST = 11520 };


static rgm_status make(const char *text, const char *const *sets, rgm_run **run) {
  rgm_config *config = NULL;
  int count = 0;
  while (sets[count] != NULL) {
    count++;
  }
  *run = NULL;
  rgm_status status = rgm_config_parse("test", text, sets, count, &config);
  return status == RGM_OK ? rgm_run_create(config, run) : status;
}


// steps until the replica retires; returns how many there were
static int solve(rgm_run *run, int most) {
  uint32_t active = 1;
  int count = 0;
  cr_assert_eq(rgm_metrics_memory(&run->metrics), RGM_OK);
  for (; count < most && active != 0; count++) {
    cr_assert_eq(run->algorithm->step(run), RGM_OK, "%s", rgm_last_error());
    run->step++;
    cr_assert_eq(run->algorithm->report(run), RGM_OK, "%s", rgm_last_error());
    rgm_copy(run->stream, &active, run->active.data, sizeof active);
  }
  return count;
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


static double start_value(const rgm_run *run) {
  const double *v = tensor(run, "value").data;
  double sum = 0.0;
  for (int64_t s = 0; s < run->mdp->states; s++) {
    sum += run->mdp->begin[s] * v[s];
  }
  return sum;
}


// ---- the grid ----------------------------------------------------------------------------------

// Exact rational solution of the reconstruction, 15 digits: the specification's reference vectors.
static const double v_star[2][16] = {
    {10.0, 6.628338865225339, 4.7533234725753575, 3.643250836297986, 6.895076020896456,
     6.152775185280319, 4.545691656088122, 3.4586485924512753, 4.992326655850776, 4.939816786546024,
     3.707169984974349, 2.209290393814616, 3.842886543795382, 3.9868880691215285,
     2.9758466962480496, -10.0},
    {100.0, 94.62023606602222, 90.37253147951452, 87.22232320468721, 95.43232017361431,
     93.50168143887612, 88.86612004493276, 84.93823721720094, 91.77776258409342, 90.65390964965765,
     80.73306503950398, 66.9358010016912, 89.11554900156915, 88.15990506189306, 75.3585519942629,
     -100.0}};
static const double v_given[2][16] = {
    {10.0, 5.137239274768667, 1.0602296299392837, 0.5988815325501252, 4.006752040501715,
     2.7985917884060574, 0.8382470736305002, 0.5217224295638413, 1.777284809203951,
     0.1924052170256354, -0.31872672845236616, -0.5289767135522698, 0.2491416993567458,
     -0.045430473084807625, -1.1850675463533225, -10.0},
    {100.0, 73.31477564850212, 40.99667825987419, 36.726997705346555, 64.58141749187172,
     53.70999092102066, 36.39973691711939, 34.33105973569293, 43.13365058738505, 22.928879141650473,
     17.352194744258586, 17.57348462182842, 23.704518373408415, 19.238079089216292,
     3.748425777673732, -100.0}};
static const double v_uniform[2][16] = {
    {10.0, 3.544577114262513, 1.392608008577256, 0.6666969741447639, 4.225497958002855,
     2.6549016512195616, 0.9617675262289088, 0.2833504655918367, 1.9670187712594516,
     1.237305576843754, -0.49775586602607824, -1.5060415327713779, 1.1028850085719653,
     0.5384061023956868, -1.4677891074522584, -10.0},
    {100.0, 61.46580859935789, 42.41687595120719, 34.57748820051928, 66.8872115878008,
     52.51952726224647, 35.256883379812905, 27.309307658056326, 48.89351903853121,
     38.303957883108346, 14.711057000747674, 0.2073169209813634, 40.80613885940677,
     30.59117785195001, 0.42962112836139255, -100.0}};
// read literally, with died at (1,1), at gamma 0.9
static const double v_literal[16] = {-10.0,
                                     0.9786244339349376,
                                     2.06349585332513,
                                     1.9999912811746137,
                                     1.0097002544874571,
                                     2.2103583082317586,
                                     3.0361089994753505,
                                     2.9955723810607857,
                                     2.1423769126882384,
                                     3.1107655127680243,
                                     4.6613350545699275,
                                     5.101885691902499,
                                     2.111714299412828,
                                     3.132898928911459,
                                     5.118241152538475,
                                     10.0};
// vaso 0, fluid 1, both 2; ends are not looked at
static const int best[16] = {-1, 1, 1, 1, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, -1};


Test(dp, grid_vectors) {
  static const char *const methods[] = {"modified", "value_iteration", "policy_iteration",
                                        "gauss_seidel", "prioritised"};
  for (int g = 0; g < 2; g++) {
    char gamma[40], method[60];
    snprintf(gamma, sizeof gamma, "algorithm.gamma=%s", g == 0 ? "0.9" : "0.99");
    for (int k = 0; k < 9; k++) {
      // five solvers; two policies by sweeps; two from the given policy on
      const bool own = k == 5 || k == 6;
      snprintf(method, sizeof method, "algorithm.method=%s",
               own ? "evaluate" : methods[k < 5 ? k : k - 7]);
      const char *const sets[] = {
          gamma, method, k < 7 ? "algorithm.start=uniform" : "algorithm.start=given",
          k == 5 ? "algorithm.policy=given" : "algorithm.policy=uniform", NULL};
      rgm_run *run;
      cr_assert_eq(make(grid, sets, &run), RGM_OK, "%s", rgm_last_error());
      solve(run, 4000);
      const double *v = tensor(run, "value").data;
      const double *want = k == 5 ? v_given[g] : k == 6 ? v_uniform[g] : v_star[g];
      const int32_t *action = tensor(run, "action").data;
      for (int s = 0; s < 16; s++) {
        cr_expect(fabs(v[s] - want[s]) <= 1e-12 * fmax(1.0, fabs(want[s])),
                  "%s %s: v[%d] off by %g", gamma, method, s, v[s] - want[s]);
        cr_expect(own || best[s] < 0 || action[s] == best[s], "%s %s: action of %d is %d", gamma,
                  method, s, action[s]);
      }
      rgm_run_free(run);
    }
  }
}


Test(dp, grid_literal_and_direct) {
  // ends swapped: another optimum, and the negative value of any fixed policy, exactly
  static const char *const swapped[] = {"env.alive=[4, 4]", "env.died=[1, 1]",
                                        "algorithm.gamma=0.9", NULL};
  static const char *const plain[] = {"algorithm.gamma=0.9", NULL};
  rgm_run *run[2];
  cr_assert_eq(make(grid, swapped, &run[0]), RGM_OK, "%s", rgm_last_error());
  cr_assert_eq(make(grid, plain, &run[1]), RGM_OK, "%s", rgm_last_error());
  solve(run[0], 4000);
  const double *v = tensor(run[0], "value").data;
  double x[2][16], weight[64];
  for (int s = 0; s < 16; s++) {
    cr_expect_float_eq(v[s], v_literal[s], 1e-12 * fmax(1.0, fabs(v_literal[s])));
  }
  for (int k = 0; k < 2; k++) {
    rgm_mdp *chain;
    dp_weights_uniform(run[k]->mdp, weight);
    cr_assert_eq(dp_chain(run[k]->mdp, weight, &chain), RGM_OK);
    cr_assert_eq(dp_direct(chain, 0.9, DP_VALUE, x[k]), RGM_OK, "%s", rgm_last_error());
    if (k == 1) {
      // P(alive) from (2,2), as a clinician would read it; specification, 4 digits
      double p[16];
      cr_assert_eq(dp_direct(chain, 1.0, DP_SURVIVE, p), RGM_OK);
      cr_expect_float_eq(p[5], 0.8039, 5e-5);
      cr_expect_float_eq(p[11], 0.5390, 5e-5);
    }
    rgm_mdp_free(chain);
  }
  for (int s = 0; s < 16; s++) {
    cr_expect_eq(x[0][s], -x[1][s], "state %d", s);
    cr_expect_float_eq(x[1][s], v_uniform[0][s], 1e-12 * fmax(1.0, fabs(x[1][s])));
  }
  // q of the first policy at (2,2): specification, 9 digits
  static const double q[4] = {2.643763144, 2.798591788, 4.204399541, 1.599523693};
  for (int a = 0; a < 4; a++) {
    const double own = dp_row(run[1]->mdp, rgm_mdp_row(run[1]->mdp, 5, a), 0.9, v_given[0]);
    cr_expect_float_eq(own, q[a], 1e-9);
  }
  rgm_run_free(run[0]);
  rgm_run_free(run[1]);
}


// What the article's text says of its grid, and three sweeps from zero.
Test(dp, grid_structure) {
  static const char *const sets[] = {"algorithm.method=evaluate", "algorithm.gamma=0.9", NULL};
  rgm_run *run;
  cr_assert_eq(make(grid, sets, &run), RGM_OK, "%s", rgm_last_error());
  const rgm_mdp *m = run->mdp;
  const int64_t fluid = rgm_mdp_row(m, 5, 1), stay = rgm_mdp_row(m, 4, 1);
  double left = 0, same = 0, corner = 0, cancelled = 0;
  for (int64_t i = m->start[fluid]; i < m->start[fluid + 1]; i++) {
    left += m->next[i] == 4 ? m->p[i] : 0;
    same += m->next[i] == 5 ? m->p[i] : 0;
    corner += m->next[i] == 0 ? m->p[i] : 0;
  }
  for (int64_t i = m->start[stay]; i < m->start[stay + 1]; i++) {
    cancelled += m->next[i] == 4 ? m->p[i] : 0;
  }
  cr_expect_float_eq(left, 0.30, 1e-15);
  cr_expect_float_eq(same, 0.12, 1e-15);
  cr_expect_float_eq(corner, 0.05, 1e-15);
  // (2,1): left and its two diagonals are cancelled whole
  cr_expect_float_eq(cancelled, 0.12 + 0.05 + 0.30 + 0.10, 1e-15);
  cr_expect_eq(m->reward[rgm_mdp_row(m, 5, 1)], 0.0);
  cr_expect_float_eq(m->reward[rgm_mdp_row(m, 0, 3)], 1.0, 1e-15);
  cr_expect_float_eq(m->reward[rgm_mdp_row(m, 15, 0)], -1.0, 1e-15);
  solve(run, 3);
  const double *v = tensor(run, "value").data;
  cr_expect_float_eq(v[0], 2.71, 1e-14);
  cr_expect_float_eq(v[1], 0.2994294375, 1e-14);
  cr_expect_float_eq(v[14], -0.2181954375, 1e-14);
  rgm_run_free(run);
}


// ---- real problems -----------------------------------------------------------------------------

// Exact linear solves of the specification, 12 digits, reproduced there by LP and five solvers.
static const struct {
  const char *gamma;
  double value;
} icu_optimal[] = {{"algorithm.gamma=1", 0.875141699610},
                   {"algorithm.gamma=0.99", 0.801334390296},
                   {"algorithm.gamma=0.95", 0.633672117599},
                   {"algorithm.gamma=0.9", 0.513726983262}};


// the admissible rows have no rewards in their file: arrival in 714 pays 1
static void pay_survival(rgm_mdp *m) {
  for (int64_t n = 0; n < m->rows; n++) {
    m->reward[n] = 0.0;
    for (int64_t i = m->start[n]; i < m->start[n + 1]; i++) {
      m->gain[i] = m->next[i] == 714 ? 1.0 : 0.0;
      m->reward[n] += m->p[i] * m->gain[i];
    }
  }
}


Test(dp, icu_sepsis) {
  static const char *const methods[] = {
      "algorithm.method=modified", "algorithm.method=policy_iteration",
      "algorithm.method=gauss_seidel", "algorithm.method=value_iteration",
      "algorithm.method=prioritised"};
  if (access(ICU, R_OK) != 0) {
    cr_skip_test("../shared/data is not here");
  }
  for (int g = 0; g < 4; g++) {
    for (int k = 0; k < 5; k++) {
      const char *const sets[] = {icu_optimal[g].gamma, methods[k], NULL};
      if (k == 4 && g != 3) {
        continue; // slow
      }
      rgm_run *run;
      cr_assert_eq(make(icu, sets, &run), RGM_OK, "%s", rgm_last_error());
      solve(run, 900);
      cr_expect_float_eq(start_value(run), icu_optimal[g].value, 1e-11, "%s %s: %.15f", sets[0],
                         sets[1], start_value(run));
      rgm_run_free(run);
    }
  }
}


// The authors' own tables, in which rows that nobody took are the mean of the others: masked.
Test(dp, icu_sepsis_tables) {
  if (access(TABLES, R_OK) != 0) {
    cr_skip_test("../shared/data is not here");
  }
  const char *const sets[] = {"env.path=" TABLES,      "env.kind=icu-sepsis", "env.begin=\"\"",
                              "env.survival_reward=0", "env.masks=means",     NULL};
  rgm_run *run;
  cr_assert_eq(make(icu, sets, &run), RGM_OK, "%s", rgm_last_error());
  solve(run, 900);
  cr_expect_float_eq(start_value(run), 0.801334390296, 1e-11);
  int64_t allowed = 0, distinct = 0;
  for (int64_t n = 0; n < run->mdp->rows; n++) {
    allowed += run->mdp->allowed[n];
  }
  // of 2,238 admissible pairs; a state with a single one has 25 equal rows
  cr_expect_eq(allowed, 2238 - 237 + 237 * 25);
  rgm_mdp_mask_twins(run->mdp);
  for (int64_t n = 0; n < run->mdp->rows; n++) {
    distinct += run->mdp->allowed[n];
  }
  cr_expect_eq(distinct, 2238);
  rgm_run_free(run);
}


// The optimal policy is unique among the admissible actions; values of each state to 12 digits.
Test(dp, icu_sepsis_policy) {
  if (access(ICU, R_OK) != 0) {
    cr_skip_test("../shared/data is not here");
  }
  for (int g = 0; g < 2; g++) {
    const rgm_mdp_source source = {.path = ICU, .kind = "text", .begin = "", .mask = ""};
    rgm_mdp *m;
    cr_assert_eq(rgm_mdp_read(&source, &m), RGM_OK, "%s", rgm_last_error());
    cr_assert_eq(m->entries, 94973);
    pay_survival(m);
    const double gamma = g == 0 ? 1.0 : 0.99;
    double *v = calloc((size_t)m->states, sizeof *v);
    int32_t *choice = malloc((size_t)m->states * sizeof *choice);
    memset(choice, 0xFF, (size_t)m->states * sizeof *choice);
    while (dp_gauss_seidel(m, gamma, 1e-13, v, choice) > 1e-15) {
    }
    FILE *file = fopen("../shared/data/sepsis/icu_sepsis_optimal.tsv", "r");
    char line[512];
    int states = 0, differ = 0;
    cr_assert(file != NULL && fgets(line, sizeof line, file) != NULL);
    while (fgets(line, sizeof line, file) != NULL) {
      int s, a[2];
      double want[2];
      if (sscanf(line, "%d %lf %d %lf %d", &s, &want[0], &a[0], &want[1], &a[1]) != 5) {
        continue; // ends, whose actions are all alike
      }
      int64_t own = -1;
      int32_t k = choice[s];
      for (int64_t n = m->first[s]; n < m->first[s + 1] && own < 0; n++) {
        own = k-- == 0 ? m->action[n] : -1;
      }
      cr_expect_float_eq(v[s], want[g], 1e-11, "state %d", s);
      cr_expect(s > 712 || own == a[g], "state %d: action %d, not %d", s, (int)own, a[g]);
      differ += s <= 712 && a[0] != a[1];
      states++;
    }
    cr_expect_eq(states, 713);
    cr_expect_eq(differ, 105);
    fclose(file);
    free(v);
    free(choice);
    rgm_mdp_free(m);
  }
}


// The simulator's kernel: published values of other solvers, and with the glucose rule mended,
// which nobody has printed: the same solver must be certain to its bound.
Test(dp, gumbel) {
  static const char text[] = "run: {steps: 400}\nenv: {name: sepsis_gumbel, glucose_cap: 1}\n"
                             "algorithm: {name: dp, gamma: 0.99, tolerance: 1e-12}\n";
  static const char *const none[] = {NULL};
  rgm_run *run;
  cr_assert_eq(make(text, none, &run), RGM_OK, "%s", rgm_last_error());
  solve(run, 400);
  cr_expect_float_eq(start_value(run), 0.477097542, 5e-10);
  double weight[STATES_MOST];
  rgm_mdp *chain;
  double *x = malloc((size_t)run->mdp->states * sizeof *x), sum = 0.0;
  cr_assert_leq(run->mdp->rows, STATES_MOST);
  dp_weights_uniform(run->mdp, weight);
  cr_assert_eq(dp_chain(run->mdp, weight, &chain), RGM_OK);
  cr_assert_eq(dp_direct(chain, 0.99, DP_VALUE, x), RGM_OK, "%s", rgm_last_error());
  for (int64_t s = 0; s < run->mdp->states; s++) {
    sum += run->mdp->begin[s] * x[s];
  }
  cr_expect_float_eq(sum, -0.810471736, 5e-10);
  rgm_mdp_free(chain);
  free(x);

  // the published kernel itself, entry by entry
  if (access("../shared/data/sepsis/gumbel_sepsis_exact_published.tsv.gz", R_OK) == 0) {
    const rgm_mdp_source source = {.path =
                                       "../shared/data/sepsis/gumbel_sepsis_exact_published.tsv.gz",
                                   .kind = "text",
                                   .begin = "",
                                   .mask = ""};
    rgm_mdp *m;
    cr_assert_eq(rgm_mdp_read(&source, &m), RGM_OK, "%s", rgm_last_error());
    int64_t compared = 0;
    for (int64_t s = 0; s < m->states; s++) {
      for (int64_t n = run->mdp->first[s]; n < run->mdp->first[s + 1]; n++) {
        const int64_t row = rgm_mdp_row(m, s, run->mdp->action[n]);
        const int64_t from = run->mdp->start[n], size = run->mdp->start[n + 1] - from;
        cr_assert_eq(m->start[row + 1] - m->start[row], size, "state %d", (int)s);
        for (int64_t i = 0; i < size; i++, compared++) {
          cr_assert_eq(m->next[m->start[row] + i], run->mdp->next[from + i]);
          cr_assert_float_eq(m->p[m->start[row] + i], run->mdp->p[from + i], 1e-14);
        }
      }
    }
    cr_expect_gt(compared, 40000);
    rgm_mdp_free(m);
  }
  rgm_run_free(run);
}


// ---- bounds ------------------------------------------------------------------------------------

// Two states with two actions each, and an end: p[s][a] of going to 0, 1 and the end, and rewards.
typedef struct small {
  double p[2][2][3], reward[2][2];
} small;


// each row ends with at least 1 in 20, so that every policy is proper
static small draw_small(uint64_t *seed) {
  small m;
  double u[16];
  for (int i = 0; i < 16; i++) {
    *seed = *seed * 6364136223846793005u + 1442695040888963407u;
    u[i] = (double)(*seed >> 33) * 0x1p-31;
  }
  for (int i = 0; i < 4; i++) {
    double *p = m.p[i / 2][i % 2];
    p[2] = 0.05 + 0.3 * u[i];
    p[0] = (1.0 - p[2]) * u[4 + i];
    p[1] = 1.0 - p[2] - p[0];
    m.reward[i / 2][i % 2] = 2.0 * u[8 + i] - 1.0;
  }
  return m;
}


// the value of the policy (a, b) by Cramer's rule; with rewards of 1 its expected way to the end
static void solve_small(const small *m, int a, int b, double gamma, bool length, double v[2]) {
  const double *p = m->p[0][a], *q = m->p[1][b];
  const double x = length ? 1.0 : m->reward[0][a], y = length ? 1.0 : m->reward[1][b];
  const double a00 = 1.0 - gamma * p[0], a01 = -gamma * p[1];
  const double a10 = -gamma * q[0], a11 = 1.0 - gamma * q[1];
  const double det = a00 * a11 - a01 * a10;
  v[0] = (x * a11 - a01 * y) / det;
  v[1] = (a00 * y - a10 * x) / det;
}


// the largest over the four policies, one of which is best everywhere
static void best_small(const small *m, double gamma, bool length, double v[2]) {
  v[0] = v[1] = -INFINITY;
  for (int k = 0; k < 4; k++) {
    double own[2];
    solve_small(m, k / 2, k % 2, gamma, length, own);
    v[0] = fmax(v[0], own[0]);
    v[1] = fmax(v[1], own[1]);
  }
}


static void write_small(const small *m, const char *path) {
  FILE *out = fopen(path, "w");
  cr_assert(out != NULL && fputs("s a next p r\n", out) >= 0);
  for (int i = 0; i < 12; i++) {
    fprintf(out, "%d %d %d %.17g %.17g\n", i / 6, i / 3 % 2, i % 3, m->p[i / 6][i / 3 % 2][i % 3],
            m->reward[i / 6][i / 3 % 2]);
  }
  cr_assert_eq(fclose(out), 0);
}


// Steps until the replica retires: the bound that is told is never less than the error against the
// exact values, and of value iteration at gamma 1 never more than `loose` times it. The first step
// may tell a bound that no sweep stands behind.
static void check_bounds(const char *path, const char *method, const char *gamma,
                         const double want[2], double loose) {
  char file[80], how[60];
  snprintf(file, sizeof file, "env.path=%s", path);
  snprintf(how, sizeof how, "algorithm.method=%s", method);
  const char *const sets[] = {file, how, gamma, NULL};
  rgm_run *run;
  cr_assert_eq(make("run: {steps: 4000, threads: 1}\nenv: {name: mdp, kind: text}\n"
                    "algorithm: {name: dp, tolerance: 1e-6, sweeps: 2}\n",
                    sets, &run),
               RGM_OK, "%s", rgm_last_error());
  uint32_t active = 1;
  double error = INFINITY;
  cr_assert_eq(rgm_metrics_memory(&run->metrics), RGM_OK);
  for (int step = 0; step < 4000 && active != 0; step++) {
    const float *bound;
    cr_assert_eq(run->algorithm->step(run), RGM_OK, "%s", rgm_last_error());
    run->step++;
    cr_assert_eq(run->algorithm->report(run), RGM_OK, "%s", rgm_last_error());
    cr_assert_eq(rgm_metrics_values(run->metrics, "bound", &bound), RGM_OK);
    const double *v = tensor(run, "value").data;
    error = fmax(fabs(v[0] - want[0]), fabs(v[1] - want[1]));
    cr_expect(error <= (double)bound[0] * (1.0 + 1e-6) + 1e-14,
              "%s, %s, step %d: off by %g, not %g", method, gamma, step, error, (double)bound[0]);
    cr_expect(!(loose > 0.0) || step == 0 || (double)bound[0] <= loose * error + 1e-14,
              "%s, %s, step %d: off by %g, bound %g", method, gamma, step, error, (double)bound[0]);
    rgm_copy(run->stream, &active, run->active.data, sizeof active);
  }
  cr_expect(active == 0 && error <= 1e-6, "%s, %s: off by %g", method, gamma, error);
  rgm_run_free(run);
}


// The certified bound against exact values of all four policies, at gamma 1 (proper policies) and
// below; the longest way to the end against its largest expectation.
Test(dp, bounds) {
  static const char *const methods[] = {"modified", "value_iteration", "policy_iteration",
                                        "gauss_seidel", "prioritised"};
  char path[] = "/tmp/regimen-dp-XXXXXX";
  const int file = mkstemp(path);
  cr_assert_geq(file, 0);
  close(file);
  uint64_t seed = 20261122;
  for (int i = 0; i < 60; i++) {
    const small m = draw_small(&seed);
    write_small(&m, path);
    double longest[2], most;
    best_small(&m, 1.0, true, longest);
    const rgm_mdp_source source = {.path = path, .kind = "text", .begin = "", .mask = ""};
    rgm_mdp *mdp;
    cr_assert_eq(rgm_mdp_read(&source, &mdp), RGM_OK, "%s", rgm_last_error());
    cr_assert_eq(dp_longest(mdp, &most), RGM_OK, "%s", rgm_last_error());
    const double exact = fmax(longest[0], longest[1]);
    cr_expect(most >= exact && most <= exact * (1.0 + 1e-4), "%.12g, exactly %.12g", most, exact);
    rgm_mdp_free(mdp);
    for (int g = 0; g < 2; g++) {
      double want[2];
      best_small(&m, g == 0 ? 1.0 : 0.7, false, want);
      for (int k = 0; k < 5; k++) {
        check_bounds(path, methods[k], g == 0 ? "algorithm.gamma=1" : "algorithm.gamma=0.7", want,
                     0.0);
      }
    }
  }
  // one way to the end, 10 steps long, 1 a step: of values (10, 10) sweep n lacks 10 0.9^n after a
  // change of 0.9^(n - 1), so the bound is 10 / 9 of the error, whatever is cheaper and shorter
  const small slow = {.p = {{{0.9, 0.0, 0.1}, {0.5, 0.0, 0.5}}, {{0.0, 0.9, 0.1}, {0.0, 0.5, 0.5}}},
                      .reward = {{1.0, 1.0}, {1.0, 1.0}}};
  write_small(&slow, path);
  check_bounds(path, "value_iteration", "algorithm.gamma=1", (const double[]){10.0, 10.0},
               10.0 / 9.0 * (1.0 + 1e-4));

  // state 0 may follow 1, which gains 1 a step, or, for a penny, 2, which loses 1: sweeps of the
  // first policy lead away from the optimum by more than the largest change says
  FILE *out = fopen(path, "w");
  cr_assert(out != NULL);
  fputs("s a next p r\n0 0 1 1 0\n0 1 2 1 0.01\n1 0 1 1 1\n2 0 2 1 -1\n", out);
  fclose(out);
  for (int k = 0; k < 5; k++) {
    check_bounds(path, methods[k], "algorithm.gamma=0.7", (const double[]){7.0 / 3.0, 10.0 / 3.0},
                 0.0);
  }
  // without its better action, which the host's sweeps must not take either
  const rgm_mdp_source source = {.path = path, .kind = "text", .begin = "", .mask = ""};
  rgm_mdp *masked;
  double v[2][3] = {{0.0}}, residual = 1.0;
  int32_t choice[2][3] = {{-1, -1, -1}, {-1, -1, -1}};
  cr_assert_eq(rgm_mdp_read(&source, &masked), RGM_OK, "%s", rgm_last_error());
  masked->allowed[0] = 0;
  while (dp_gauss_seidel(masked, 0.7, 1e-13, v[0], choice[0]) > 1e-14) {
  }
  cr_assert_eq(dp_prioritised(masked, 0.7, 1e-13, 1e-14, 1000, v[1], choice[1], &residual), RGM_OK);
  for (int k = 0; k < 2; k++) {
    cr_expect_float_eq(v[k][0], 0.01 - 0.7 * 10.0 / 3.0, 1e-12, "way %d: %.15g", k, v[k][0]);
  }
  rgm_mdp_free(masked);
  unlink(path);
}


// ---- bits --------------------------------------------------------------------------------------

static void digest_of(const char *text, const char *const *sets, char hex[65]) {
  rgm_run *run;
  rgm_checkpoint *c = NULL;
  cr_assert_eq(make(text, sets, &run), RGM_OK, "%s", rgm_last_error());
  solve(run, 12); // after two steps values are so round that no product needs rounding
  cr_assert_eq(rgm_run_snapshot(run, &c), RGM_OK, "%s", rgm_last_error());
  rgm_checkpoint_digest(c, hex);
  rgm_checkpoint_free(c);
  rgm_run_free(run);
}


// Instruction sets, threads, CUDA, both layouts by themselves: the same bits. With the module
// there, a backend that is not named is CUDA in every way.
Test(dp, bits) {
  static const char text[] = "run: {steps: 400, replicas: 2, backend: cpu}\n"
                             "env: {name: sepsis_grid, rows: 17, columns: 13}\n"
                             "algorithm: {name: dp, gamma: 0.97, sweeps: 3}\n";
  static const char *const forms[] = {"algorithm.method=modified", "algorithm.method=relative",
                                      "algorithm.method=finite_horizon",
                                      "algorithm.layout=compact"};
  setenv("RGM_CUDA_MODULE", cuda_module(), 1);
  for (int k = 0; k < 4; k++) {
    static const char *const ways[] = {"run.threads=1", "run.isa=avx2", "run.threads=3",
                                       "run.backend=cuda"};
    char want[65];
    for (int w = 0; w < 4; w++) {
      const char *const sets[] = {forms[k], ways[w],
                                  k == 3 ? "algorithm.method=value_iteration" : "run.seed=1", NULL};
      char hex[65];
      digest_of(text, sets, hex);
      if (w == 0) {
        memcpy(want, hex, sizeof want);
      }
      cr_expect_str_eq(hex, want, "%s, %s", forms[k], ways[w]);
    }
  }
}


// ---- what must be refused or detected ----------------------------------------------------------

Test(dp, refusals) {
  static const struct {
    const char *text, *set, *message;
  } cases[] = {
      {grid, "algorithm.gamma=1", "improper"},
      {grid, "algorithm.gamma=1.5", "gamma"},
      {grid, "env.fluid=[5, 15, 5, 30, 12, 8, 10, 10, 6]", "sum to 100"},
      {grid, "env.alive=[4, 4]", "two cells"},
      {grid, "env.died=[5, 1]", "row from 1 to 4"},
      {grid, "env.policy=none none", "2 actions for 16 cells"},
      {grid, "env.policy=none drink", "no action"},
      {"env: {name: sepsis_grid}\nalgorithm: {name: cem}\n", "run.seed=1", "simulated patients"},
      {"env: {name: heparin}\nalgorithm: {name: dp}\n", "run.seed=1", "tabular problems"},
  };
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
    rgm_run *run;
    const char *const sets[] = {cases[i].set, NULL};
    cr_expect_neq(make(cases[i].text, sets, &run), RGM_OK, "%s", cases[i].set);
    cr_expect(strstr(rgm_last_error(), cases[i].message) != NULL, "%s: %s", cases[i].set,
              rgm_last_error());
    rgm_run_free(run);
  }
}
