// SPDX-License-Identifier: Apache-2.0
// Tests of values of policies from other policies' episodes: on a small problem whose values are
// known by a recursion in double, estimates that are unbiased by theory are so, over many data
// sets; those that are not come close; intervals hold the truth about as often as they say.

#include "algorithms/estimates.h"
#include "kernels/rng.h"

#include <criterion/criterion.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

TestSuite(values, .timeout = 120);

// states, actions, steps; a step ends the episode with probability END
enum { STATES = 4, ACTIONS = 3, STEPS = 5, EPISODES = 40, SETS = 2000 };
#define END 0.1
#define GAMMA 0.9

typedef struct problem {
  double move[STATES][ACTIONS][STATES], reward[STATES][ACTIONS];
  double target[STATES][ACTIONS], behaviour[STATES][ACTIONS];
  double q[STEPS + 1][STATES][ACTIONS], v[STEPS + 1][STATES];
} problem;


static double unit(uint64_t *state) {
  *state = *state * 6364136223846793005u + 1442695040888963407u;
  return (double)(*state >> 33) * 0x1p-31;
}


static void spread(double *p, int n, double least, uint64_t *state) {
  double sum = 0.0;
  for (int i = 0; i < n; i++) {
    p[i] = least + unit(state);
    sum += p[i];
  }
  for (int i = 0; i < n; i++) {
    p[i] /= sum;
  }
}


// a problem, and the values of its target policy backwards in time
static void make(problem *m, uint64_t seed) {
  memset(m, 0, sizeof *m);
  for (int s = 0; s < STATES; s++) {
    spread(m->target[s], ACTIONS, 0.02, &seed);
    spread(m->behaviour[s], ACTIONS, 0.3, &seed);
    for (int a = 0; a < ACTIONS; a++) {
      spread(m->move[s][a], STATES, 0.0, &seed);
      m->reward[s][a] = 4.0 * unit(&seed) - 1.0;
    }
  }
  for (int t = STEPS - 1; t >= 0; t--) {
    for (int s = 0; s < STATES; s++) {
      for (int a = 0; a < ACTIONS; a++) {
        double later = 0.0;
        for (int k = 0; k < STATES; k++) {
          later += m->move[s][a][k] * m->v[t + 1][k];
        }
        m->q[t][s][a] = m->reward[s][a] + GAMMA * (1.0 - END) * later;
        m->v[t][s] += m->target[s][a] * m->q[t][s][a];
      }
    }
  }
}


static double truth_of(const problem *m) {
  double value = 0.0;
  for (int s = 0; s < STATES; s++) {
    value += m->v[0][s] / STATES;
  }
  return value;
}


// Episodes of the behaviour policy, one a patient.
typedef struct drawn {
  rgm_courses c;
  int64_t start[EPISODES + 1], patient[EPISODES];
  double reward[EPISODES * STEPS], log_ratio[EPISODES * STEPS];
  double q[EPISODES * STEPS], v[EPISODES * STEPS];
} drawn;


static int pick(const double *p, int n, uint64_t *state) {
  double left = unit(state);
  int i = 0;
  while (i < n - 1 && left >= p[i]) {
    left -= p[i++];
  }
  return i;
}


// `error` is added to every value of the critic
static void draw(const problem *m, uint64_t *seed, double error, drawn *d) {
  static const double even[STATES] = {0.25, 0.25, 0.25, 0.25};
  int64_t row = 0;
  for (int e = 0; e < EPISODES; e++) {
    int s = pick(even, STATES, seed);
    d->start[e] = row;
    d->patient[e] = e;
    for (int t = 0; t < STEPS; t++) {
      const int a = pick(m->behaviour[s], ACTIONS, seed);
      d->reward[row] = m->reward[s][a];
      d->log_ratio[row] = log(m->target[s][a] / m->behaviour[s][a]);
      d->q[row] = m->q[t][s][a] + error * (1.0 + s - 2.0 * a);
      d->v[row] = m->v[t][s];
      for (int k = 0; k < ACTIONS; k++) {
        d->v[row] += error * m->target[s][k] * (1.0 + s - 2.0 * k);
      }
      row++;
      if (unit(seed) < END) {
        break;
      }
      s = pick(m->move[s][a], STATES, seed);
    }
  }
  d->start[EPISODES] = row;
  d->c = (rgm_courses){row, EPISODES, EPISODES, d->start, d->patient, d->reward, GAMMA};
}


// Means over data sets against the exact value, in Monte-Carlo standard errors. `bias` is what an
// estimate that is only consistent may be off by, in units of its standard deviation.
Test(values, estimates_against_exact_values) {
  static const struct {
    int method;
    double error, bias;
  } cases[] = {
      {RGM_ESTIMATE_IS, 0.0, 0.0},    {RGM_ESTIMATE_PDIS, 0.0, 0.0}, {RGM_ESTIMATE_DR, 0.0, 0.0},
      {RGM_ESTIMATE_DR, 2.0, 0.0},    {RGM_ESTIMATE_FQE, 0.0, 0.0},  {RGM_ESTIMATE_WIS, 0.0, 0.5},
      {RGM_ESTIMATE_PDWIS, 0.0, 0.5}, {RGM_ESTIMATE_WDR, 2.0, 0.5},
  };
  problem m;
  static drawn d;
  make(&m, 11);
  const double truth = truth_of(&m);
  for (size_t k = 0; k < sizeof cases / sizeof *cases; k++) {
    uint64_t seed = 3;
    double mean = 0.0, square = 0.0;
    for (int i = 0; i < SETS; i++) {
      rgm_estimates out;
      draw(&m, &seed, cases[k].error, &d);
      cr_assert_eq(rgm_estimate(&d.c, d.log_ratio, d.q, d.v, NULL, 0, 0.95, 1, &out), RGM_OK);
      const double x = out.of[cases[k].method].value;
      square += (x - mean) * (x - mean) * i / (i + 1.0);
      mean += (x - mean) / (i + 1.0);
    }
    const double sd = sqrt(square / (SETS - 1.0));
    cr_expect(fabs(mean - truth) < 4.0 * sd / sqrt(SETS) + cases[k].bias * sd,
              "%s: %.4f, exactly %.4f, sd %.3f", rgm_estimate_names[cases[k].method], mean, truth,
              sd);
  }
}


// a critic that is exact leaves the doubly robust estimate less noise than its absence
Test(values, a_good_critic_helps) {
  problem m;
  static drawn d;
  double square[2] = {0.0, 0.0};
  make(&m, 11);
  uint64_t seed = 5;
  for (int i = 0; i < 500; i++) {
    rgm_estimates out;
    draw(&m, &seed, 0.0, &d);
    cr_assert_eq(rgm_estimate(&d.c, d.log_ratio, d.q, d.v, NULL, 0, 0.95, 1, &out), RGM_OK);
    square[0] += pow(out.of[RGM_ESTIMATE_DR].value - truth_of(&m), 2);
    square[1] += pow(out.of[RGM_ESTIMATE_PDIS].value - truth_of(&m), 2);
  }
  cr_expect_lt(square[0], 0.25 * square[1], "%g of %g", square[0], square[1]);
}


// Intervals of 90 %: by patients, of whom each has two episodes that are the same one.
Test(values, intervals_hold_what_they_say) {
  problem m;
  static drawn d;
  int held[2] = {0, 0};
  enum { TRIES = 400 };
  make(&m, 17);
  uint64_t seed = 7;
  for (int i = 0; i < TRIES; i++) {
    rgm_estimates out;
    draw(&m, &seed, 0.5, &d);
    // by patient, then as if episodes were patients
    for (int by = 0; by < 2; by++) {
      static double reward[2 * EPISODES * STEPS], ratio[2 * EPISODES * STEPS];
      static int64_t start[2 * EPISODES + 1], patient[2 * EPISODES];
      int64_t row = 0;
      for (int e = 0; e < 2 * EPISODES; e++) {
        const int64_t first = d.start[e / 2], n = d.start[e / 2 + 1] - first;
        start[e] = row;
        patient[e] = by == 0 ? e / 2 : e;
        memcpy(reward + row, d.reward + first, (size_t)n * sizeof *reward);
        memcpy(ratio + row, d.log_ratio + first, (size_t)n * sizeof *ratio);
        row += n;
      }
      start[2 * EPISODES] = row;
      const rgm_courses c = {
          row, 2 * EPISODES, by == 0 ? EPISODES : 2 * EPISODES, start, patient, reward, GAMMA};
      cr_assert_eq(rgm_estimate(&c, ratio, NULL, NULL, NULL, 200, 0.9, (uint64_t)i, &out), RGM_OK);
      cr_expect(isnan(out.of[RGM_ESTIMATE_DR].value) && isnan(out.of[RGM_ESTIMATE_FQE].value));
      const rgm_interval *x = &out.of[RGM_ESTIMATE_PDIS];
      held[by] += x->low <= truth_of(&m) && truth_of(&m) <= x->high;
    }
  }
  cr_expect(held[0] > 0.82 * TRIES && held[0] < 0.95 * TRIES, "%d of %d", held[0], TRIES);
  cr_expect_lt(held[1], 0.80 * TRIES, "%d of %d", held[1], TRIES);
}


// effective numbers by hand, no episode of any weight, weights beyond the range of doubles
Test(values, weights_at_the_edges) {
  double reward[4] = {1.0, 2.0, 3.0, 4.0}, ratio[4] = {log(3.0), 0.0, log(1.0), 0.0};
  int64_t start[3] = {0, 2, 4}, patient[2] = {0, 1};
  const rgm_courses c = {4, 2, 2, start, patient, reward, 1.0};
  rgm_estimates out;
  cr_assert_eq(rgm_estimate(&c, ratio, NULL, NULL, NULL, 50, 0.95, 1, &out), RGM_OK);
  cr_expect_float_eq(out.ess, 16.0 / 10.0, 1e-12);
  cr_expect_float_eq(out.of[RGM_ESTIMATE_IS].value, 0.5 * (3.0 * 3.0 + 7.0), 1e-12);
  cr_expect_float_eq(out.of[RGM_ESTIMATE_WIS].value, (3.0 * 3.0 + 7.0) / 4.0, 1e-12);
  cr_expect_float_eq(out.of[RGM_ESTIMATE_PDWIS].value, 6.0 / 4.0 + 10.0 / 4.0, 1e-12);

  ratio[0] = ratio[3] = -INFINITY;
  cr_assert_eq(rgm_estimate(&c, ratio, NULL, NULL, NULL, 50, 0.95, 1, &out), RGM_OK);
  cr_expect(out.ess == 0.0 && out.zero == 1.0 && isnan(out.of[RGM_ESTIMATE_WIS].value));
  cr_expect_eq(out.of[RGM_ESTIMATE_IS].value, 0.0);

  ratio[0] = 500.0;
  ratio[1] = 500.0;
  ratio[3] = 999.0;
  cr_assert_eq(rgm_estimate(&c, ratio, NULL, NULL, NULL, 50, 0.95, 1, &out), RGM_OK);
  const double share = 1.0 / (1.0 + exp(-1.0));
  cr_expect_float_eq(out.of[RGM_ESTIMATE_WIS].value, 3.0 * share + 7.0 * (1.0 - share), 1e-9);
}
