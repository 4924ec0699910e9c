// SPDX-License-Identifier: Apache-2.0
// Tests of the fused policy gradient beyond the kernel table's: the order of its sums, finite
// differences of the loss, and the same gradient from the generic rows.

#include "tests/kernel_table.h"

#include <criterion/criterion.h>

TestSuite(policy, .init = open_streams, .fini = close_streams, .timeout = 30);

// output weights of which the differences are powers of two
static void power_outputs(call *c, const int64_t *n) {
  const int64_t padded = pad16(n[4]);
  float *w2 = f32(c->t[6], 0) + (n[3] + 1) * padded;
  for (int64_t h = 0; h < n[4]; h++) {
    w2[h * 16] = 0.0f;
    w2[h * 16 + 1] = ldexpf(h % 3 == 0 ? -1.0f : 1.0f, (int)(h % 5) - 3);
  }
  policy_think(c->t, n, 0);
  commit(c);
}


// the gradient of many groups is the tree over the gradients of each group that has a weight: to
// the bit where a sum is only scaled by output weights that are powers of two
Test(policy, sums_groups_in_a_tree) {
  enum { GROUPS_MOST = 9 };
  for (int64_t groups = 1; groups <= GROUPS_MOST; groups++) {
    const int64_t n[NUMBERS] = {1, groups, 100, 4, 24};
    call all = make_call(find_kernel("policy_xent"), n, 0, 0), one[GROUPS_MOST];
    const int64_t size = slice(all.t[0]);
    int count = 0;
    for (int64_t g = 0; g < groups; g++) {
      f32(all.t[5], 0)[g] = g % 4 == 2 ? 0.0f : 0.25f * (float)(g + 1);
    }
    power_outputs(&all, n);
    run_call(&all, streams[0]);
    for (int64_t g = 0; g < groups; g++) {
      if (g % 4 != 2) {
        one[count] = make_call(find_kernel("policy_xent"), n, 0, 0);
        memset(f32(one[count].t[5], 0), 0, (size_t)groups * sizeof(float));
        f32(one[count].t[5], 0)[g] = f32(all.t[5], 0)[g];
        power_outputs(&one[count], n);
        run_call(&one[count++], streams[0]);
      }
    }
    for (int64_t i = 0; i <= size; i++) {
      float part[GROUPS_MOST];
      for (int k = 0; k < count; k++) {
        part[k] = i < size ? f32(one[k].t[0], 0)[i] : f32(one[k].t[1], 0)[0];
      }
      const float got = i < size ? f32(all.t[0], 0)[i] : f32(all.t[1], 0)[0];
      const bool scaled = i < 5 * 32 || i >= 5 * 32 + 32 * 16;
      cr_assert(!scaled || same_number(tree(part, count), got), "%d groups, %d", (int)groups,
                (int)i);
    }
    drop_all();
  }
}


// loss of policy_xent, from policy_z alone
static double policy_loss(const double *p, const call *c, int64_t r) {
  const int64_t *n = c->n;
  double loss = 0.0, scale;
  for (int64_t row = 0; row < n[1] * n[2]; row++) {
    const double z = policy_z(p, f32(c->t[3], r) + row * n[3], n, &scale);
    const double label = (double)f32(c->t[4], r)[row];
    const double p1 = 1.0 / (1.0 + exp(-z)), p0 = 1.0 / (1.0 + exp(z));
    loss -= (double)f32(c->t[5], r)[row / n[2]] / (double)n[2] *
            (label * log(p1) + (1.0 - label) * log(p0));
  }
  return loss;
}


Test(policy, is_the_slope_of_the_loss) {
  static const int64_t shapes[][NUMBERS] = {{2, 3, 5, 3, 8}, {2, 4, 6, 4, 10}, {1, 1, 20, 1, 17}};
  const double step = 1e-6;
  for (size_t k = 0; k < sizeof shapes / sizeof *shapes; k++) {
    call c = make_call(find_kernel("policy_xent"), shapes[k], 0, 0);
    for (int64_t r = 0; r < shapes[k][0]; r++) {
      f32(c.t[5], r)[0] = 0.8f;
      for (int64_t h = 0; h < shapes[k][4]; h++) {
        float *bias = f32(c.t[6], r) + shapes[k][3] * pad16(shapes[k][4]) + h;
        *bias = fabsf(*bias) < 0.01f ? 0.1f : *bias; // no row on the edge of a ReLU
      }
    }
    for (int64_t r = 0; r < shapes[k][0]; r++) {
      policy_think(c.t, shapes[k], r);
    }
    commit(&c);
    run_call(&c, streams[0]);
    for (int64_t r = 0; r < shapes[k][0]; r++) {
      double *p = doubles(f32(c.t[6], r), slice(c.t[6]));
      cr_assert_float_eq(f32(c.t[1], r)[0], policy_loss(p, &c, r), 2e-6);
      for (int64_t i = 0; i < slice(c.t[6]); i++) {
        const double middle = p[i];
        p[i] = middle + step;
        const double above = policy_loss(p, &c, r);
        p[i] = middle - step;
        const double slope = (above - policy_loss(p, &c, r)) / (2.0 * step);
        p[i] = middle;
        cr_assert_float_eq(f32(c.t[0], r)[i], slope, 2e-6, "shape %d, parameter %d: %g, want %g",
                           (int)k, (int)i, (double)f32(c.t[0], r)[i], slope);
      }
    }
    drop_all();
  }
}


// a part of every replica's parameter block
static rgm_tensor part(rgm_tensor block, int64_t *offset, int64_t d1, int64_t d2) {
  rgm_tensor t = rgm_view(f32(block, 0) + *offset, RGM_F32, block.dims[0], d1, d2, 0);
  t.stride0 = block.stride0;
  *offset += slice(t);
  return t;
}


// the gradient of policy_xent from the generic rows, as a trainer would write it
static void unfused(rgm_stream *s, const call *c, rgm_tensor grad, rgm_tensor loss) {
  const int64_t *n = c->n, R = n[0], B = n[1] * n[2], inputs = n[3], padded = pad16(n[4]);
  const rgm_tensor x = rgm_view(c->t[3].data, RGM_F32, R, B, inputs, 0),
                   hidden = fresh(R, B, padded);
  const rgm_tensor label = rgm_view(c->t[4].data, RGM_F32, R, B, 0, 0), weight = fresh(R, B, 0);
  const rgm_tensor z = fresh(R, B, 16), dz = fresh(R, B, 16), dhidden = fresh(R, B, padded);
  const rgm_tensor losses = fresh(R, B, 0);
  for (int64_t k = 0; k < R * B; k++) {
    f32(weight, 0)[k] = f32(c->t[5], k / B)[k % B / n[2]] / (float)n[2];
  }
  int64_t at = 0, to = 0;
  const rgm_tensor w1 = part(c->t[6], &at, inputs, padded), b1 = part(c->t[6], &at, padded, 0);
  const rgm_tensor w2 = part(c->t[6], &at, padded, 16), b2 = part(c->t[6], &at, 16, 0);
  const rgm_tensor dw1 = part(grad, &to, inputs, padded), db1 = part(grad, &to, padded, 0);
  const rgm_tensor dw2 = part(grad, &to, padded, 16), db2 = part(grad, &to, 16, 0);
  rgm_linear(s, hidden, x, w1, b1, RGM_RELU);
  rgm_linear(s, z, hidden, w2, b2, RGM_LINEAR);
  rgm_softmax_xent(s, losses, dz, z, label, weight, 2);
  rgm_linear_dw(s, dw2, db2, hidden, dz);
  rgm_linear_dx(s, dhidden, dz, w2, hidden, RGM_RELU);
  rgm_linear_dw(s, dw1, db1, x, dhidden);
  rgm_sum(s, loss, losses, 1.0f);
}


Test(policy, equals_the_generic_rows) {
  static const int64_t shapes[][NUMBERS] = {{2, 3, 50, 4, 8}, {3, 5, 257, 7, 100}, {1, 1, 9, 1, 1}};
  for (size_t k = 0; k < sizeof shapes / sizeof *shapes; k++) {
    const int64_t *n = shapes[k], R = n[0];
    call c = make_call(find_kernel("policy_xent"), n, 0, 0);
    for (int64_t i = 0; i < R * n[1] * n[2]; i++) {
      f32(c.t[4], 0)[i] = rintf(f32(c.t[4], 0)[i]); // softmax_xent knows classes only
    }
    commit(&c);
    run_call(&c, streams[0]);
    const rgm_tensor grad = fresh(R, slice(c.t[0]), 0), loss = fresh(R, 0, 0);
    unfused(streams[stream_count - 1], &c, grad, loss);
    double most = 0.0;
    for (int64_t i = 0; i < rgm_elements(grad); i++) {
      most = fmax(most, fabs((double)f32(grad, 0)[i]));
    }
    for (int64_t i = 0; i < rgm_elements(grad); i++) {
      cr_assert_float_eq(f32(grad, 0)[i], f32(c.t[0], 0)[i], 2e-6 * most, "shape %d, element %d",
                         (int)k, (int)i);
    }
    for (int64_t r = 0; r < R; r++) {
      cr_assert_float_eq(f32(loss, r)[0], f32(c.t[1], r)[0], 2e-6 * fabs(f32(loss, r)[0]) + 1e-12);
    }
    drop_all();
  }
}
