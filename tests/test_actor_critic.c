// SPDX-License-Identifier: Apache-2.0
// Tests of the rows of actors, critics, ensembles and experience beyond the kernel table's: every
// loss and mode against central differences, sums over all actions, values by hand, densities,
// bounds, the ring, and an update that is captured.

#include "kernels/actor_critic.h"
#include "tests/kernel_checks.h"

#include <criterion/criterion.h>

TestSuite(actor_critic, .init = open_streams, .fini = close_streams, .timeout = 60);

// f32 with these values in order, of which the last goes on
static rgm_tensor filled(int64_t d0, int64_t d1, int64_t d2, const float *values, int64_t count) {
  rgm_tensor t = fresh(d0, d1, d2);
  for (int64_t i = 0; i < rgm_elements(t); i++) {
    f32(t, 0)[i] = values[i < count ? i : count - 1];
  }
  return t;
}


static rgm_tensor number(float value) {
  return filled(1, 0, 0, &value, 1);
}


// words for one replica
static rgm_tensor words(uint32_t first, uint32_t second, int64_t count) {
  rgm_tensor t = count > 1 ? fresh(1, count, 0) : fresh(1, 0, 0);
  t.dtype = RGM_U32;
  u32(t, 0)[0] = first;
  if (count > 1) {
    u32(t, 0)[1] = second;
  }
  return t;
}


static rgm_tensor random_rows(int64_t d1, int64_t d2, uint64_t seed) {
  rgm_tensor t = fresh(1, d1, d2);
  for (int64_t i = 0; i < rgm_elements(t); i++) {
    f32(t, 0)[i] = fill_float(WIDE, &seed);
  }
  return t;
}


// (1, N, B, O)
static rgm_tensor nets_of(rgm_tensor t, int64_t nets, int64_t rows, int64_t columns) {
  return rgm_view(t.data, RGM_F32, 1, nets, rows, columns);
}


// ---- slopes ------------------------------------------------------------------------------------

static void check_case(const char *name, int64_t a, int64_t b, int64_t c, int64_t d, int64_t e,
                       int64_t f) {
  const int64_t n[NUMBERS] = {a, b, c, d, e, f};
  check_values(find_kernel(name), n);
  drop_all();
}


// TD by squares and Huber's loss, every push, with and without a multiplier, real and model rows
Test(actor_critic, critic_slopes_in_every_mode) {
  for (int64_t push = RGM_PUSH_NONE; push <= RGM_PUSH_LOGSUMEXP_MIX; push++) {
    for (int64_t bits = 0; bits < 8; bits++) {
      check_case("critic_loss", 7, 1 + bits % 3, 31, 6, push, bits);
      check_case("critic_loss", 1, 2, 259, 1 + bits, push, bits);
    }
  }
}


Test(actor_critic, critic_slopes_over_samples) {
  for (int64_t push = RGM_PUSH_NONE; push <= RGM_PUSH_LOGSUMEXP_MIX; push++) {
    for (int64_t samples = 1; samples <= 10 && push != RGM_PUSH_RHO_EXPECT; samples += 3) {
      check_case("critic_sampled", 7, 1 + samples % 3, 11, samples, 3, push);
    }
  }
}


Test(actor_critic, actor_policy_and_ensemble_slopes) {
  for (int64_t nets = 1; nets <= 5; nets += 2) {
    check_case("soft_target", 3, nets, 31, 5, nets % 2, 0);
    check_case("actor_loss", 3, nets, 31, 6, 0, 0);
    check_case("actor_loss", 3, nets, 259, 0, 0, 0);
    check_case("action_backward", 3, nets, 31, 7, 0, 0);
    check_case("gaussian_nll", 3, nets, 31, 5, nets % 3 == 0, 0);
  }
  for (int64_t form = RGM_DUAL_LINEAR; form <= RGM_DUAL_LAGRANGE; form++) {
    check_case("dual", 7, 2, 300, form, 0, 0);
  }
}


// the actor's loss of continuous actions through two linear critics q_n = w_n a: the slope by the
// policy's head is that of mean(alpha log pi - min q), whole, in double
typedef struct chain_about {
  action_about action;
  double w[2], alpha, rows;
} chain_about;

static double chain_loss(const double *x, const void *about) {
  const chain_about *c = about;
  double log_pi;
  const double a = double_action(x[0], x[1], &c->action, &log_pi);
  return (c->alpha * log_pi - fmin(c->w[0] * a, c->w[1] * a)) / c->rows;
}


Test(actor_critic, continuous_actor_slope_through_critics) {
  enum { ROWS = 5 };
  rgm_stream *s = streams[0];
  const float w[2] = {0.7f, -1.3f}, log_alpha = -0.4f;
  rgm_policy_draw draw = {.act = fresh(1, ROWS, 1),
                          .log_pi = fresh(1, ROWS, 0),
                          .head = random_rows(ROWS, 16, 3),
                          .scale = filled(1, 1, 0, (const float[]){1.5f}, 1),
                          .shift = filled(1, 1, 0, (const float[]){0.25f}, 1),
                          .low = number(-5.0f),
                          .high = number(2.0f),
                          .seeds = words(7, 8, 2),
                          .clock = words(9, 0, 1),
                          .active = words(1, 0, 1),
                          .random = RGM_RANDOM_ACTION,
                          .member = 3};
  for (int64_t i = 0; i < ROWS * 16; i++) {
    f32(draw.head, 0)[i] *= 0.15f;
  }
  rgm_action_draw(s, &draw);
  rgm_tensor q = fresh(2, ROWS, 16), dq = fresh(2, ROWS, 16), dx = fresh(2, ROWS, 3);
  for (int64_t i = 0; i < 2 * ROWS; i++) {
    f32(q, 0)[i * 16] = w[i / ROWS] * f32(draw.act, 0)[i % ROWS];
  }
  const rgm_actor actor = {.dq = nets_of(dq, 2, ROWS, 16),
                           .q = nets_of(q, 2, ROWS, 16),
                           .log_pi = draw.log_pi,
                           .log_alpha = number(log_alpha),
                           .active = draw.active,
                           .actions = 1};
  rgm_actor_loss(s, &actor);
  for (int64_t i = 0; i < 2 * ROWS; i++) {
    f32(dx, 0)[i * 3 + 2] = w[i / ROWS] * f32(dq, 0)[i * 16];
  }
  rgm_tensor dhead = fresh(1, ROWS, 16);
  rgm_action_backward(s, dhead, nets_of(dx, 2, ROWS, 3), actor.log_alpha, &draw, 2);
  const rgm_tensor t[10] = {draw.act, draw.log_pi, draw.head,  draw.scale, draw.shift,
                            draw.low, draw.high,   draw.seeds, draw.clock, draw.active};
  for (int64_t b = 0; b < ROWS; b++) {
    double size;
    const chain_about c = {action_row(t, 0, b, 0, RGM_DRAW_POLICY, &size),
                           {(double)w[0], (double)w[1]},
                           exp((double)log_alpha),
                           ROWS};
    const double x[2] = {(double)f32(draw.head, 0)[b * 16], (double)f32(draw.head, 0)[b * 16 + 1]};
    for (int i = 0; i < 2; i++) {
      const double got = (double)f32(dhead, 0)[b * 16 + i];
      cr_assert_float_eq(got, slope_of(chain_loss, x, 2, i, &c), 2e-6, "row %d, %d", (int)b, i);
    }
  }
}


// ---- the push down -----------------------------------------------------------------------------

// a discrete critic with q = y, so that TD has no slope; beta 1
static rgm_critic quiet_critic(int64_t nets, int64_t rows, int64_t actions, uint32_t real,
                               rgm_push push) {
  rgm_critic c = {.dq = nets_of(fresh(nets, rows, 16), nets, rows, 16),
                  .gap = fresh(1, nets, rows),
                  .loss = fresh(1, nets, rows),
                  .q = nets_of(random_rows(nets * rows, 16, 5), nets, rows, 16),
                  .action = fresh(1, rows, 0),
                  .y = fresh(1, rows, 0),
                  .head = random_rows(rows, 16, 6),
                  .beta = number(1.0f),
                  .temperature = number(1.0f),
                  .real = words(real, 0, 1),
                  .active = words(1, 0, 1),
                  .push = push,
                  .actions = (int)actions};
  for (int64_t b = 0; b < rows; b++) {
    f32(c.action, 0)[b] = (float)(b % actions);
    for (int64_t n = 0; n < nets; n++) {
      f32(c.q, 0)[(n * rows + b) * 16 + b % actions] = 0.5f;
    }
    f32(c.y, 0)[b] = 0.5f;
  }
  return c;
}


// log-sum-exp by plain sums of exponentials over all actions, and over exactly 3 K samples
Test(actor_critic, pushes_down_over_all_actions) {
  rgm_critic c = quiet_critic(2, 9, 6, 9, RGM_PUSH_LOGSUMEXP_MIX);
  f32(c.temperature, 0)[0] = 0.7f;
  rgm_critic_loss(streams[0], &c);
  for (int64_t row = 0; row < 18; row++) {
    double sum = 0.0;
    for (int a = 0; a < 6; a++) {
      sum += exp((double)f32(c.q, 0)[row * 16 + a] / (double)0.7f);
    }
    const double want = ((double)0.7f * log(sum) - 0.5) / 9.0;
    cr_assert_float_eq((double)f32(c.gap, 0)[row], want, 1e-6, "row %d", (int)row);
  }

  enum { ROWS = 5, K = 4, ALL = 3 * K * ROWS };
  c = quiet_critic(1, ROWS, 1, ROWS, RGM_PUSH_LOGSUMEXP_MIX);
  c.action.data = NULL;
  c.samples = K;
  c.sampled = nets_of(random_rows(ALL, 16, 8), 1, ALL, 16);
  c.dsampled = nets_of(fresh(1, ALL, 16), 1, ALL, 16);
  c.log_q = filled(1, ALL, 0, (const float[]){-0.3f}, 1);
  f32(c.temperature, 0)[0] = 2.0f;
  rgm_critic_loss(streams[0], &c);
  for (int64_t b = 0; b < ROWS; b++) {
    double sum = 0.0, slopes = 0.0;
    int count = 0;
    for (int64_t at = 0; at < ALL; at++) {
      if (at / K % ROWS == b) { // of groups of rows of K samples
        sum += exp((double)f32(c.sampled, 0)[at * 16] / 2.0 + (double)0.3f);
        slopes += (double)f32(c.dsampled, 0)[at * 16];
        count += f32(c.dsampled, 0)[at * 16] > 0.0f;
      }
    }
    cr_assert_eq(count, 3 * K);
    cr_assert_float_eq(slopes, 1.0 / ROWS, 1e-7);
    cr_assert_float_eq((double)f32(c.gap, 0)[b], (2.0 * log(sum) - 0.5) / ROWS, 2e-6);
  }
}


// what is pushed down and up sums to beta on each side, over its own rows; nothing else has a slope
Test(actor_critic, both_sides_of_a_push_have_a_slope) {
  for (int push = RGM_PUSH_NONE; push <= RGM_PUSH_LOGSUMEXP_MIX; push++) {
    rgm_critic c = quiet_critic(2, 10, 6, 4, (rgm_push)push);
    f32(c.beta, 0)[0] = 0.5f;
    c.log_multiplier = number(rgm_log(3.0f));
    rgm_critic_loss(streams[0], &c);
    for (int64_t n = 0; n < 2; n++) {
      double sum[2] = {0.0, 0.0};
      for (int64_t i = 0; i < 10 * 16; i++) {
        sum[i / 16 >= 4] += (double)f32(c.dq, 0)[n * 160 + i];
      }
      const double beta = push == RGM_PUSH_NONE ? 0.0 : 1.5;
      const double down = push == RGM_PUSH_LOGSUMEXP_MIX ? 0.6 * beta : beta;
      cr_assert_float_eq(sum[0], beta - down - beta, 1e-6, "push %d, real: %g", push, sum[0]);
      cr_assert_float_eq(sum[1], down, 1e-6, "push %d, model: %g", push, sum[1]);
    }
  }
}


// rho_expect is the mean of rho_sample over the policy's own actions: by enumeration, value and
// slope, and over draws
Test(actor_critic, rho_expect_is_the_mean_of_rho_sample) {
  enum { ROWS = 7, ACTIONS = 6, DRAWS = 20000 };
  rgm_critic expect = quiet_critic(1, ROWS, ACTIONS, 0, RGM_PUSH_RHO_EXPECT);
  expect.delta = number(0.0f); // TD apart: it depends on the action
  rgm_critic_loss(streams[0], &expect);
  double pi[ROWS][ACTIONS], mean[ROWS] = {0.0}, slope[ROWS][ACTIONS] = {{0.0}}, drawn = 0.0;
  for (int b = 0; b < ROWS; b++) {
    double z[ACTIONS];
    row_of(f32(expect.head, 0) + b * 16, ACTIONS, z);
    for (int a = 0; a < ACTIONS; a++) {
      pi[b][a] = exp(double_log_pi(z, ACTIONS, a));
    }
  }
  rgm_critic sample = expect;
  sample.push = RGM_PUSH_RHO_SAMPLE;
  for (int a = 0; a < ACTIONS; a++) {
    for (int b = 0; b < ROWS; b++) {
      f32(sample.action, 0)[b] = (float)a;
    }
    sample.dq = nets_of(fresh(1, ROWS, 16), 1, ROWS, 16);
    sample.gap = fresh(1, 1, ROWS);
    rgm_critic_loss(streams[0], &sample);
    for (int b = 0; b < ROWS; b++) {
      mean[b] += pi[b][a] * (double)f32(sample.gap, 0)[b];
      for (int i = 0; i < ACTIONS; i++) {
        slope[b][i] += pi[b][a] * (double)f32(sample.dq, 0)[b * 16 + i];
      }
    }
  }
  double total = 0.0, spread = 0.0;
  for (int b = 0; b < ROWS; b++) {
    total += (double)f32(expect.gap, 0)[b];
    cr_assert_float_eq((double)f32(expect.gap, 0)[b], mean[b], 1e-6, "row %d", b);
    for (int a = 0; a < ACTIONS; a++) {
      const double q = (double)f32(expect.q, 0)[b * 16 + a] / ROWS;
      spread += pi[b][a] * (q - mean[b]) * (q - mean[b]);
      cr_assert_float_eq((double)f32(expect.dq, 0)[b * 16 + a], slope[b][a], 1e-7);
    }
  }
  uint64_t state = 99;
  for (int k = 0; k < DRAWS; k++) {
    for (int b = 0; b < ROWS; b++) {
      double u = (double)next(&state) * 0x1p-32;
      int a = 0;
      while (a < ACTIONS - 1 && u >= pi[b][a]) {
        u -= pi[b][a++];
      }
      f32(sample.action, 0)[b] = (float)a;
    }
    rgm_critic_loss(streams[0], &sample);
    for (int b = 0; b < ROWS; b++) {
      drawn += (double)f32(sample.gap, 0)[b] / DRAWS;
    }
  }
  cr_assert_float_eq(drawn, total, 5.0 * sqrt(spread / DRAWS), "%g, want %g", drawn, total);
}


// ---- targets -----------------------------------------------------------------------------------

// three states in a row, reward 1 for each step, gamma 0.9. The last step terminates: 2.71, 1.9, 1.
// It is cut short and stays where it is: 10 everywhere. Values by iteration of the row itself
Test(actor_critic, terminated_and_truncated_chains) {
  static const double want[2][3] = {{2.71, 1.9, 1.0}, {10.0, 10.0, 10.0}};
  for (int truncated = 0; truncated < 2; truncated++) {
    rgm_tensor value = fresh(1, 3, 0), q = fresh(2, 3, 16);
    const float last[] = {0.0f, 0.0f, truncated ? 0.0f : 1.0f};
    const rgm_target target = {.y = value,
                               .q = nets_of(q, 2, 3, 16),
                               .head = fresh(1, 3, 16),
                               .reward = filled(1, 3, 0, (const float[]){1.0f}, 1),
                               .terminated = filled(1, 3, 0, last, 3),
                               .gamma = number(0.9f),
                               .active = words(1, 0, 1),
                               .actions = 2};
    for (int sweep = 0; sweep < 400; sweep++) {
      rgm_soft_target(streams[0], &target);
      for (int i = 0; i < 12; i++) {
        const int net = i / 6, state = i / 2 % 3, after = state < 2 ? state + 1 : 2;
        // the second critic is higher, so that the first counts; both actions lead on
        f32(q, 0)[(net * 3 + state) * 16 + i % 2] = f32(value, 0)[after] + (float)net;
      }
    }
    for (int state = 0; state < 3; state++) {
      cr_assert_float_eq((double)f32(value, 0)[state], want[truncated][state], 2e-5);
    }
  }
}


// what follows a terminated row may be NaN; an action that is never taken may have any value
Test(actor_critic, what_cannot_happen_does_not_count) {
  rgm_tensor q = fresh(2, 2, 16), head = fresh(1, 2, 16), y = fresh(1, 2, 0);
  const rgm_target target = {.y = y,
                             .q = nets_of(q, 2, 2, 16),
                             .head = head,
                             .reward = filled(1, 2, 0, (const float[]){3.0f}, 1),
                             .terminated = filled(1, 2, 0, (const float[]){1.0f, 0.0f}, 2),
                             .gamma = number(0.5f),
                             .log_alpha = number(0.0f),
                             .active = words(1, 0, 1),
                             .actions = 3};
  f32(q, 0)[0] = NAN;
  f32(head, 0)[16] = -INFINITY;
  f32(q, 0)[16] = 1e30f;
  rgm_soft_target(streams[0], &target);
  cr_assert_eq(f32(y, 0)[0], 3.0f);
  cr_assert_float_eq((double)f32(y, 0)[1], 3.0 + 0.5 * log(2.0), 1e-6); // two of three actions

  rgm_tensor dz = fresh(1, 2, 16), entropy = fresh(1, 2, 0);
  const rgm_actor actor = {.dz = dz,
                           .entropy = entropy,
                           .q = target.q,
                           .head = head,
                           .log_alpha = target.log_alpha,
                           .active = target.active,
                           .actions = 3};
  rgm_actor_loss(streams[0], &actor);
  cr_assert_float_eq((double)f32(entropy, 0)[1], log(2.0), 1e-6);
  cr_assert(f32(dz, 0)[16] == 0.0f && isfinite(f32(dz, 0)[17]) && isnan(f32(dz, 0)[0]));

  // a NaN of either critic reaches the target
  for (int net = 0; net < 2; net++) {
    memset(f32(q, 0), 0, 64 * sizeof(float));
    f32(q, 0)[net * 32 + 17] = NAN;
    rgm_soft_target(streams[0], &target);
    cr_assert(isnan(f32(y, 0)[1]), "critic %d", net);
  }
}


// ---- multipliers -------------------------------------------------------------------------------

Test(actor_critic, multipliers_move_the_right_way) {
  const float entropies[] = {0.2f, 0.4f};
  rgm_tensor grad = number(0.0f), mean = number(0.0f), x = filled(1, 2, 0, entropies, 2);
  const rgm_tensor none = {0};
  rgm_tensor on = words(1, 0, 1);

  // entropy 0.3 under a target of 0.5: descent raises the temperature, whatever it is
  rgm_dual(streams[0], grad, mean, x, number(1.0f), number(0.5f), none, on, 0.5f, RGM_DUAL_LINEAR);
  cr_assert_float_eq(f32(mean, 0)[0], 0.3f, 1e-6f);
  cr_assert_float_eq(f32(grad, 0)[0], -0.2f, 1e-6f);
  rgm_dual(streams[0], grad, none, x, number(1.0f), number(0.5f), number(rgm_log(5.0f)), on, 0.5f,
           RGM_DUAL_EXP);
  cr_assert_float_eq(f32(grad, 0)[0], -1.0f, 1e-5f);

  // a gap above its threshold: descent raises the multiplier, which ends at 1e6
  rgm_dual(streams[0], grad, mean, x, number(2.0f), number(0.1f), number(rgm_log(5.0f)), on, 0.5f,
           RGM_DUAL_LAGRANGE);
  cr_assert_float_eq(f32(grad, 0)[0], -2.5f, 1e-5f);
  rgm_dual(streams[0], grad, mean, x, number(2.0f), number(0.1f), number(14.0f), on, 0.5f,
           RGM_DUAL_LAGRANGE);
  cr_assert_eq(f32(grad, 0)[0], 0.0f);

  // and a critic's weight with it
  rgm_critic c = quiet_critic(1, 4, 3, 0, RGM_PUSH_RHO_EXPECT);
  c.log_multiplier = number(80.0f);
  rgm_critic_loss(streams[0], &c);
  double sum = 0.0;
  for (int i = 0; i < 64; i++) {
    sum += (double)f32(c.dq, 0)[i];
  }
  cr_assert_float_eq(sum, 1e6, 1.0);

  cr_assert_eq(rgm_entropy_check("k", 0.98 * log(6.0), 6), RGM_OK);
  cr_assert_eq(rgm_entropy_check("k", 0.0, 1), RGM_OK);
  cr_assert_eq(rgm_entropy_check("algorithm.target_entropy", -6.0, 6), RGM_ECONFIG);
  cr_assert(strstr(rgm_last_error(), "algorithm.target_entropy: the entropy of 6 actions lies "
                                     "between 0 and log 6 = 1.792 nats") != NULL,
            "%s", rgm_last_error());
  cr_assert_eq(rgm_entropy_check("k", 1.8, 6), RGM_ECONFIG);
  cr_assert_eq(rgm_entropy_check("k", (double)NAN, 6), RGM_ECONFIG);
}


// ---- tanh-Gaussian policies --------------------------------------------------------------------

// the density over actions has the integral 1: trapezoids over a grid of noise
Test(actor_critic, density_of_actions_integrates_to_one) {
  static const float cases[][3] = {{0.0f, 0.0f, 1.0f}, {0.7f, -1.0f, 2.5f}, {-1.5f, 0.3f, 0.1f}};
  for (int k = 0; k < 3; k++) {
    double sum = 0.0, before = 0.0, density = 0.0;
    for (int i = -80000; i <= 80000; i++) {
      float log_pi = 0.0f;
      const float a =
          rgm_action_of(cases[k][0], cases[k][1], (float)i * 1e-4f, cases[k][2], 0.5f, &log_pi);
      const double here = exp((double)log_pi);
      sum += i > -80000 ? 0.5 * (here + density) * ((double)a - before) : 0.0;
      before = (double)a;
      density = here;
    }
    cr_assert_float_eq(sum, 1.0, 2e-4, "case %d: %.7g", k, sum);
  }

  // far out, where 1 - tanh^2 is 0 in float, in double still 4 exp(-2 |u|)
  for (float u = -40.0f; u <= 40.0f; u += 2.5f) {
    float log_pi = 0.0f;
    rgm_action_of(u, 0.0f, 0.0f, 1.0f, 0.0f, &log_pi);
    const double flat = log(4.0) - 2.0 * fabs((double)u) - 2.0 * log1p(exp(-2.0 * fabs((double)u)));
    cr_assert_float_eq((double)log_pi, -0.5 * log(2.0 * acos(-1.0)) - flat, 2e-5, "u = %g",
                       (double)u);
  }
}


// actions of many samples: moments of the normal numbers behind them, the box of uniform ones
Test(actor_critic, draws_follow_their_law) {
  enum { M = 20000, D = 5 };
  const float scale[] = {1.0f, 2.0f, 0.5f, 1.0f, 3.0f};
  rgm_policy_draw draw = {.act = fresh(1, M, D),
                          .log_pi = fresh(1, M, 0),
                          .head = fresh(1, 1, 16),
                          .scale = filled(1, D, 0, scale, D),
                          .shift = fresh(1, D, 0),
                          .low = number(-5.0f),
                          .high = number(2.0f),
                          .seeds = words(3, 4, 2),
                          .clock = words(5, 0, 1),
                          .active = words(1, 0, 1),
                          .random = RGM_RANDOM_ACTION};
  for (int i = 0; i < D; i++) {
    f32(draw.head, 0)[i] = 0.2f;
    f32(draw.head, 0)[D + i] = -1.0f;
  }
  rgm_action_draw(streams[0], &draw);
  const double sd = exp(-1.0);
  for (int d = 0; d < D; d++) {
    double first = 0.0, second = 0.0;
    for (int m = 0; m < M; m++) {
      const double u = atanh((double)f32(draw.act, 0)[m * D + d] / (double)scale[d]);
      first += u / M;
      second += (u - 0.2) * (u - 0.2) / M;
    }
    cr_assert_float_eq(first, 0.2, 5.0 * sd / sqrt(M), "dim %d", d);
    cr_assert_float_eq(second, sd * sd, 5.0 * sd * sd * sqrt(2.0 / M), "dim %d", d);
  }
  draw.draw = RGM_DRAW_UNIFORM;
  rgm_action_draw(streams[0], &draw);
  for (int d = 0; d < D; d++) {
    double first = 0.0, second = 0.0;
    for (int m = 0; m < M; m++) {
      const double a = (double)f32(draw.act, 0)[m * D + d] / (double)scale[d];
      cr_assert(a >= -1.0 && a < 1.0);
      first += a / M;
      second += a * a / M;
    }
    cr_assert_float_eq(first, 0.0, 5.0 / sqrt(3.0 * M), "dim %d", d);
    cr_assert_float_eq(second, 1.0 / 3.0, 5.0 * sqrt(4.0 / 45.0 / M), "dim %d", d);
  }
  cr_assert_float_eq((double)f32(draw.log_pi, 0)[7], -log(2.0 * 4.0 * 1.0 * 2.0 * 6.0), 1e-5);
}


// ---- ensembles ---------------------------------------------------------------------------------

// log-variances stay between their bounds however large the raw ones are; beyond them the slope is
// that of a bound
Test(actor_critic, log_variances_keep_their_bounds) {
  const float raw[] = {-1e4f, -60.0f, 0.0f, 60.0f, 1e4f};
  const float bounds[] = {0.5f, -10.0f};
  for (int i = 0; i < 5; i++) {
    rgm_tensor head = fresh(1, 1, 16), dhead = fresh(1, 1, 16), dbounds = fresh(1, 2, 0);
    f32(head, 0)[1] = raw[i];
    rgm_nll nll = {.dhead = nets_of(dhead, 1, 1, 16),
                   .dbounds = nets_of(dbounds, 1, 2, 1),
                   .loss = fresh(1, 1, 1),
                   .head = nets_of(head, 1, 1, 16),
                   .target = fresh(1, 1, 1),
                   .bounds = nets_of(filled(1, 2, 0, bounds, 2), 1, 2, 1),
                   .penalty = number(0.01f),
                   .active = words(1, 0, 1)};
    rgm_gaussian_nll(streams[0], &nll);
    // without an error the loss is the log-variance
    const float v = f32(nll.loss, 0)[0], *db = f32(dbounds, 0);
    cr_assert(v >= -10.0f && v <= 0.5001f, "raw %g: %g", (double)raw[i], (double)v);
    const float slope = f32(dhead, 0)[1];
    cr_assert(slope >= 0.0f && slope <= 1.0f && (i == 2 || slope < 1e-4f));
    cr_assert_float_eq(db[0] - 0.01f, i >= 3 ? 1.0f : i == 2 ? 1.0f - slope : 0.0f, 1e-3f);
    cr_assert_float_eq(db[1] + 0.01f, i <= 1 ? 1.0f : 0.0f, 1e-3f);
  }
}


// ---- experience --------------------------------------------------------------------------------

// 7 inserts of 4 rows, of which some are left out, into a ring of 11: what remains is the newest 11
// in order, and no row of the beginning
Test(actor_critic, ring_keeps_the_newest_rows_in_order) {
  enum { PLACES = 11, ROWS = 4 };
  rgm_ring ring = {.column = {fresh(1, PLACES, 1), fresh(1, PLACES, 2)},
                   .head = words(0, 0, 1),
                   .count = words(0, 0, 1),
                   .columns = 2};
  float kept[64], serial = 0.0f;
  int count = 0;
  for (int insert = 0; insert < 7; insert++) {
    rgm_tensor rows[2] = {fresh(1, ROWS, 1), fresh(1, ROWS, 2)}, keep = fresh(1, ROWS, 0);
    for (int m = 0; m < ROWS; m++) {
      f32(rows[0], 0)[m] = serial += 1.0f;
      f32(rows[1], 0)[2 * m] = -serial;
      f32(rows[1], 0)[2 * m + 1] = 0.5f * serial;
      f32(keep, 0)[m] = (insert + m) % 4 == 1 ? 0.0f : 1.0f;
      kept[count] = serial;
      count += (insert + m) % 4 != 1;
    }
    rgm_replay_append(streams[0], &ring, rows, keep, words(1, 0, 1));
    const uint32_t head = u32(ring.head, 0)[0], filled_rows = u32(ring.count, 0)[0];
    cr_assert_eq(filled_rows, (uint32_t)(count < PLACES ? count : PLACES));
    cr_assert_eq(head, (uint32_t)(count % PLACES));
    for (uint32_t i = 0; i < filled_rows; i++) {
      const uint32_t place = (head + PLACES - 1 - i) % PLACES;
      cr_assert_eq(f32(ring.column[0], 0)[place], kept[count - 1 - (int)i]);
      cr_assert_eq(f32(ring.column[1], 0)[2 * place], -kept[count - 1 - (int)i]);
      cr_assert_eq(f32(ring.column[1], 0)[2 * place + 1], 0.5f * kept[count - 1 - (int)i]);
    }
  }
  cr_assert_eq(count, 21);
}


// with 3 * 2^30 items a remainder would favour the first third, a product without refusals every
// third item; in a small ring every row comes as often, real rows and model rows apart
Test(actor_critic, rows_are_drawn_without_bias) {
  enum { N = 60000, PLACES = 7, ROWS = 35000 };
  const rgm_key key = {123, 456};
  int third = 0, residue[3] = {0};
  for (uint32_t i = 0; i < N; i++) {
    const uint32_t item = rgm_below(key, 1, i, 0, 3u << 30);
    cr_assert(item < 3u << 30);
    third += item < 1u << 30;
    residue[item % 3]++;
  }
  const double error = 5.0 * sqrt(2.0 / 9.0 / N);
  cr_assert_float_eq((double)third / N, 1.0 / 3.0, error);
  for (int i = 0; i < 3; i++) {
    cr_assert_float_eq((double)residue[i] / N, 1.0 / 3.0, error, "residue %d", i);
  }
  cr_assert_eq(rgm_below(key, 1, 2, 3, 1), 0u);

  // of 2^31 + 1 items almost every second word is refused: word after word, four to a counter
  uint32_t most = 0;
  for (uint32_t i = 0; i < 2000; i++) {
    const uint64_t count = (1u << 31) + 1;
    uint64_t product = 0;
    uint32_t attempt = 0;
    do {
      const rgm_words w = rgm_philox(key, 1, i, attempt / 4, 9);
      const uint32_t word[4] = {w.w0, w.w1, w.w2, w.w3};
      product = word[attempt++ % 4] * count;
    } while (product % 0x100000000u < 0x100000000u % count);
    most = attempt > most ? attempt : most;
    cr_assert_eq(rgm_below(key, 1, i, 9, (uint32_t)count), (uint32_t)(product >> 32));
  }
  cr_assert_gt(most, 8u);

  static const float real[] = {0, 1, 2, 3, 4, 5, 6}, model[] = {10, 11, 12, 13, 14, 15, 16};
  rgm_ring rings[2] = {{.column = {filled(1, PLACES, 1, real, PLACES)}, .columns = 1},
                       {.column = {filled(1, PLACES, 1, model, PLACES)}, .columns = 1}};
  rings[0].head = rings[1].head = words(0, 0, 1);
  rings[0].count = words(PLACES, 0, 1);
  rings[1].count = words(5, 0, 1);
  const rgm_gather gather = {.row = {fresh(1, ROWS, 1)},
                             .from = &rings[0],
                             .other = &rings[1],
                             .share = words(ROWS / 2, 0, 1),
                             .seeds = words(1, 2, 2),
                             .clock = words(3, 0, 1),
                             .active = words(1, 0, 1),
                             .random = RGM_RANDOM_REPLAY};
  rgm_replay_gather(streams[0], &gather);
  double times[17] = {0.0};
  for (int b = 0; b < ROWS; b++) {
    const float row = f32(gather.row[0], 0)[b];
    cr_assert(b < ROWS / 2 ? row <= 6.0f : row >= 10.0f && row <= 14.0f);
    times[(int)row] += 2.0 / ROWS;
  }
  for (int i = 0; i < 15; i++) {
    const double want = i < 7 ? 1.0 / 7.0 : i < 10 ? 0.0 : 0.2;
    cr_assert_float_eq(times[i], want, 5.0 * sqrt(2.0 * want / ROWS) + 1e-9, "row %d", i);
  }
}


Test(actor_critic, gradients_are_clipped_by_their_norm) {
  const float g[] = {3.0f, 0.0f, -4.0f, 0.0f};
  static const float cases[][2] = {{5.0f, 3.0f}, {2.5f, 1.5f}, {1e9f, 3.0f}};
  for (int k = 0; k < 3; k++) {
    rgm_tensor t = filled(1, 4, 0, g, 4), norm = number(0.0f);
    rgm_clip_norm(streams[0], t, norm, number(cases[k][0]), words(1, 0, 1));
    cr_assert_eq(f32(norm, 0)[0], 5.0f);
    cr_assert(f32(t, 0)[0] == cases[k][1] && f32(t, 0)[2] == -4.0f / 3.0f * cases[k][1]);
  }
  rgm_tensor zero = fresh(1, 4, 0), norm = number(1.0f);
  rgm_clip_norm(streams[0], zero, norm, number(1.0f), words(1, 0, 1));
  cr_assert(f32(norm, 0)[0] == 0.0f && f32(zero, 0)[3] == 0.0f);
}
