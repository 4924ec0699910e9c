// SPDX-License-Identifier: Apache-2.0
// Tests of summaries, quantiles, selection, Student's t and the JSON writer.

#include "engine/engine.h"

#include <criterion/criterion.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define COUNT(array) ((int)(sizeof(array) / sizeof((array)[0])))


// keeps the largest error; a NaN counts as infinite
static void worsen(double *worst, double error) {
  if (!(fabs(error) <= *worst)) {
    *worst = isnan(error) ? HUGE_VAL : fabs(error);
  }
}


// uniform in [0, 1), xorshift64*
static double toss(uint64_t *state) {
  *state ^= *state >> 12;
  *state ^= *state << 25;
  *state ^= *state >> 27;
  return (double)((*state * 0x2545f4914f6cdd1du) >> 11) * 0x1p-53;
}


static int ascending(const void *a_, const void *b_) {
  const double a = *(const double *)a_, b = *(const double *)b_;
  return (a > b) - (a < b);
}


// ---- statistics --------------------------------------------------------------------------------

// type 7 of a sorted array, from its definition: 1 + q (n - 1) is the rank
static double quantile(const double *sorted, int n, double q) {
  const double below = floor(q * (n - 1)), share = q * (n - 1) - below;
  const double low = sorted[(int)below];
  return share > 0.0 ? (1.0 - share) * low + share * sorted[(int)below + 1] : low;
}


Test(stats, summaries) {
  enum { MOST = 300 };
  double x[MOST], sorted[MOST];
  uint64_t state = 3;
  for (int n = 1; n <= MOST; n++) {
    long double sum = 0.0L, squares = 0.0L;
    for (int i = 0; i < n; i++) {
      // every third array has ties
      x[i] = n % 3 == 0 ? floor(9 * toss(&state)) : 100 * toss(&state) - 20;
      sorted[i] = x[i];
      sum += x[i];
    }
    for (int i = 0; i < n; i++) {
      squares += (x[i] - sum / n) * (x[i] - sum / n);
    }
    qsort(sorted, (size_t)n, sizeof *sorted, ascending);
    const rgm_summary s = rgm_summarise(x, n);
    const double got[] = {s.mean, s.median, s.q25, s.q75, s.p95, s.min, s.max};
    const double want[] = {(double)(sum / n),
                           quantile(sorted, n, 0.5),
                           quantile(sorted, n, 0.25),
                           quantile(sorted, n, 0.75),
                           quantile(sorted, n, 0.95),
                           sorted[0],
                           sorted[n - 1]};
    for (int i = 0; i < COUNT(got); i++) {
      cr_assert(fabs(got[i] - want[i]) <= 1e-12, "n %d, number %d: %g, not %g", n, i, got[i],
                want[i]);
    }
    const double sd = n > 1 ? (double)sqrtl(squares / (n - 1)) : NAN;
    cr_assert(n == 1 ? isnan(s.sd) : fabs(s.sd - sd) <= 1e-12, "n %d: sd %g, not %g", n, s.sd, sd);
    cr_assert(memcmp(x, sorted, (size_t)n * sizeof *x) == 0, "n %d: must come back sorted", n);
  }

  // numpy.quantile([1, 2, 4, 8], [0.1, 0.5, 0.95]) = 1.3, 3, 7.4
  const double four[] = {1, 2, 4, 8};
  cr_expect(fabs(rgm_quantile_sorted(four, 4, 0.1) - 1.3) < 1e-12);
  cr_expect(fabs(rgm_quantile_sorted(four, 4, 0.5) - 3.0) < 1e-12);
  cr_expect(fabs(rgm_quantile_sorted(four, 4, 0.95) - 7.4) < 1e-12);
}


Test(stats, order_statistics) {
  // random, tied, sorted, reversed and organ-pipe arrays, with infinities
  enum { MOST = 130 };
  double x[MOST], sorted[MOST];
  uint64_t state = 11;
  for (int round = 0; round < 3000; round++) {
    const int n = 1 + round % MOST, kind = round % 7;
    for (int i = 0; i < n; i++) {
      const double values[7] = {toss(&state), floor(3 * toss(&state)), i, -i, abs(n / 2 - i), 5, 0};
      x[i] = values[kind];
      if (kind == 6) {
        x[i] = toss(&state) < 0.3 ? HUGE_VAL : toss(&state) < 0.3 ? -HUGE_VAL : toss(&state);
      }
    }
    memcpy(sorted, x, (size_t)n * sizeof *x);
    qsort(sorted, (size_t)n, sizeof *sorted, ascending);
    const int k = (int)(toss(&state) * n);
    const double got = rgm_order_statistic(x, n, k);
    cr_assert(got == sorted[k], "round %d: number %d of %d", round, k, n);

    // it may reorder, not change
    const double middle = n % 2 == 1 ? sorted[n / 2] : 0.5 * (sorted[n / 2 - 1] + sorted[n / 2]);
    const double median = rgm_median(x, n);
    cr_assert(median == middle || (isnan(median) && isnan(middle)), "round %d: median of %d", round,
              n);
    qsort(x, (size_t)n, sizeof *x, ascending);
    cr_assert(memcmp(x, sorted, (size_t)n * sizeof *x) == 0, "round %d: numbers lost", round);
  }
}


// Two-sided p by the finite series of Abramowitz & Stegun 26.7.3 and 26.7.4.
static double t_series(double t, int df) {
  const double theta = atan(t / sqrt(df)), c = cos(theta), s = sin(theta);
  double sum = 0.0, term = df % 2 == 1 ? c : 1.0;
  for (int i = df % 2 == 1 ? 3 : 2; i <= df; i += 2) {
    sum += term;
    term *= c * c * (i - 1) / i;
  }
  return 1.0 - (df % 2 == 1 ? (theta + s * sum) * 2.0 / M_PI : s * sum);
}


Test(stats, t_test) {
  // Abramowitz & Stegun, table 26.10: t of two-sided p = 0.05, 0.01, 0.001
  static const struct {
    double df, t[3];
  } rows[] = {
      {1, {12.706, 63.657, 636.619}}, {2, {4.303, 9.925, 31.598}},
      {5, {2.571, 4.032, 6.869}},     {10, {2.228, 3.169, 4.587}},
      {20, {2.086, 2.845, 3.850}},    {30, {2.042, 2.750, 3.646}},
      {120, {1.980, 2.617, 3.373}},   {1e6, {1.95997, 2.57583, 3.29053}},
  };
  static const double level[] = {0.05, 0.01, 0.001};
  for (int i = 0; i < COUNT(rows); i++) {
    for (int k = 0; k < 3; k++) {
      const double p = rgm_t_test(rows[i].t[k], rows[i].df);
      cr_expect(fabs(p / level[k] - 1) <= 2.5e-3, "df %g, t %g: %g", rows[i].df, rows[i].t[k], p);
    }
  }

  // the series, both signs
  double worst = 0.0;
  for (int df = 1; df <= 200; df++) {
    for (double t = 0.0; t <= 8.0; t += 0.37) {
      worsen(&worst, rgm_t_test(t, df) - t_series(t, df));
      worsen(&worst, rgm_t_test(-t, df) - t_series(t, df));
    }
  }
  cr_expect(worst <= 1e-12, "against the series: %.3g", worst);

  // many degrees of freedom: normal with its first correction (A&S 26.7.8), relative
  double far = 0.0;
  for (double t = 0.5; t <= 9.0; t += 0.25) {
    const double df = 1e6, z = t * (1 - 1 / (4 * df)) / sqrt(1 + t * t / (2 * df));
    worsen(&far, rgm_t_test(t, df) / erfc(z / sqrt(2.0)) - 1);
  }
  cr_expect(far <= 1e-7, "against the normal: %.3g", far);
  cr_expect(rgm_t_test(HUGE_VAL, 3) == 0.0 && isnan(rgm_t_test(NAN, 3)));
  cr_expect(rgm_t_test(0.0, 7) == 1.0);
}


// writes with `write`, returns the text without white space outside strings; to be freed
static char *json_of(void (*write)(rgm_json *)) {
  char *text = NULL;
  size_t size = 0;
  rgm_json json = {.out = open_memstream(&text, &size)};
  write(&json);
  fclose(json.out);
  char *to = text;
  bool inside = false;
  for (const char *from = text; *from != '\0'; from++) {
    inside = inside != (*from == '"' && (from == text || from[-1] != '\\'));
    if (inside || strchr(" \n", *from) == NULL) {
      *to++ = *from;
    }
  }
  *to = '\0';
  return text;
}


static void write_document(rgm_json *j) {
  rgm_json_open(j, NULL, '{');
  rgm_json_string(j, "text", "a \"b\" \\c\nd\te\x01 \xc3\xa9");
  rgm_json_number(j, "tenth", 0.1);
  rgm_json_open(j, "list", '[');
  rgm_json_number(j, NULL, NAN);
  rgm_json_number(j, NULL, -HUGE_VAL);
  rgm_json_number(j, NULL, 3);
  rgm_json_open(j, NULL, '{');
  rgm_json_close(j, '}');
  rgm_json_open(j, NULL, '[');
  rgm_json_close(j, ']');
  rgm_json_close(j, ']');
  rgm_json_string(j, "last", "");
  rgm_json_close(j, '}');
}


// what write_numbers writes: the edges and numbers of all sizes
static double numbers[2007] = {0.0, 1.0 / 3, 1e-323, 1.7976931348623157e308, 5e-324, -0.0, 1e22};

static void write_numbers(rgm_json *j) {
  rgm_json_open(j, NULL, '[');
  for (int i = 0; i < COUNT(numbers); i++) {
    rgm_json_number(j, NULL, numbers[i]);
  }
  rgm_json_close(j, ']');
}


Test(stats, json) {
  char *text = json_of(write_document);
  const char *want =
      "{\"text\":\"a \\\"b\\\" \\\\c\\u000ad\\u0009e\\u0001 \xc3\xa9\",\"tenth\":0.1,"
      "\"list\":[null,null,3,{},[]],\"last\":\"\"}";
  cr_expect(strcmp(text, want) == 0, "%s", text);
  free(text);

  // numbers read back to the same bits
  uint64_t state = 5;
  for (int i = 7; i < COUNT(numbers); i++) {
    numbers[i] = exp(600 * (toss(&state) - 0.5));
    numbers[i] *= toss(&state) - 0.5;
  }
  text = json_of(write_numbers);
  char *at = text;
  for (int i = 0; i < COUNT(numbers); i++) {
    const double read = strtod(at + 1, &at);
    cr_assert(memcmp(&read, &numbers[i], sizeof read) == 0, "%.17g became %.17g", numbers[i], read);
  }
  cr_expect(strcmp(at, "]") == 0, "%s", at);
  free(text);

  // without a file everything is dropped
  rgm_json nowhere = {0};
  write_document(&nowhere);
  cr_expect(nowhere.depth == 0);
}
