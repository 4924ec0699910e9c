// SPDX-License-Identifier: Apache-2.0
// Tests of kernels/scalar.h: the documented error bounds against the long double C library, the
// special values, and that vector loops give the bits of one call after the other.

// the flags of the kernels, whatever the build, so that the loops below vectorise
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC optimize("O3", "no-trapping-math", "no-signed-zeros")
#endif

#include "kernels/rng.h"

#include <criterion/criterion.h>
#include <float.h>
#include <math.h>

// ---- measuring

// a deterministic stream of 64-bit words (xorshift64*)
static uint64_t next_word(uint64_t *state) {
  *state ^= *state >> 12;
  *state ^= *state << 25;
  *state ^= *state >> 27;
  return *state * 0x2545f4914f6cdd1du;
}

// uniform in [0, 1)
static double next_uniform(uint64_t *state) {
  return (double)(next_word(state) >> 11) * 0x1p-53;
}

// |got - want| in ulps of want, in a format of `digits` binary digits and exponents from `low` to
// `high`; an infinity counts as 2^high, where rounding overflows; HUGE_VAL when the kinds differ
static double ulps(double got, long double want, int digits, int low, int high) {
  // NaN and zero must match in kind
  if (isnan(got) || isnan(want)) {
    return isnan(got) && isnan(want) ? 0.0 : HUGE_VAL;
  }
  if (got == 0.0 && want == 0.0L) {
    return signbit(got) == signbit(want) ? 0.0 : HUGE_VAL;
  }

  // overflow
  long double top = ldexpl(1.0L, high);
  long double g = isinf(got) ? copysignl(top, (long double)got) : (long double)got;
  long double w = fabsl(want) > top ? copysignl(top, want) : want;

  // the spacing of the format at w
  int exponent = low;
  if (w != 0.0L) {
    (void)frexpl(w, &exponent);
  }
  exponent = exponent > high ? high : exponent;
  exponent = exponent - digits < low ? low : exponent - digits;
  return (double)(fabsl(g - w) / ldexpl(1.0L, exponent));
}

static double ulps32(float got, long double want) {
  return ulps((double)got, want, FLT_MANT_DIG, -149, FLT_MAX_EXP);
}

static double ulps64(double got, long double want) {
  return ulps(got, want, DBL_MANT_DIG, -1074, DBL_MAX_EXP);
}

typedef float (*float_fn)(float x);
typedef double (*double_fn)(double x);
typedef long double (*reference_fn)(long double x);

// the largest error so far, and where
typedef struct worst {
  double error;
  double x;
} worst;

static void worst_add(worst *w, double error, double x) {
  if (error > w->error) {
    w->error = error;
    w->x = x;
  }
}

// where the functions change their form, and the ends of their ranges
static const float anchors[] = {
    0.0f,        0x1p-126f,   0x1p-26f,    0x1p-25f,  0x1p-24f,    1.0f / 3.0f, 0.34657359f,
    0.5f,        0.625f,      2.0f / 3.0f, 1.0f,      4.0f / 3.0f, 1.03972077f, 2.0f,
    9.01091385f, 10.0f,       16.635532f,  17.0f,     17.3286795f, 18.0f,       87.3365479f,
    88.3762589f, 88.7228394f, 89.0f,       103.0f,    103.27893f,  103.972084f, 104.0f,
    0x1p+23f,    0x1p+24f,    0x1p+126f,   0x1p+127f, 0x1.5p+127f, FLT_MAX,
};

// the largest error of f over every 4099th float and 512 neighbours of each anchor, of both signs
static worst worst_float(float_fn f, reference_fn reference) {
  worst w = {0.0, 0.0};
  for (uint64_t u = 0; u < ((uint64_t)1 << 32); u += 4099) {
    float x = rgm_from_bits((uint32_t)u);
    worst_add(&w, ulps32(f(x), reference((long double)x)), (double)x);
  }
  for (size_t a = 0; a < sizeof anchors / sizeof anchors[0]; ++a) {
    for (uint32_t i = 0; i < 1024; ++i) {
      uint32_t u = (rgm_bits(anchors[a]) + (i >> 1) - 256u) ^ ((i & 1u) << 31);
      float x = rgm_from_bits(u);
      worst_add(&w, ulps32(f(x), reference((long double)x)), (double)x);
    }
  }
  return w;
}

// the largest error of f over random bit patterns and uniform numbers in [lo, hi] and [-2, 2]
static worst worst_double(double_fn f, reference_fn reference, double lo, double hi) {
  worst w = {0.0, 0.0};
  uint64_t state = 20240229u;
  for (int i = 0; i < 200000; ++i) {
    double x = rgm_from_bits64(next_word(&state));
    worst_add(&w, ulps64(f(x), reference((long double)x)), x);
    x = lo + (hi - lo) * next_uniform(&state);
    worst_add(&w, ulps64(f(x), reference((long double)x)), x);
    x = 4.0 * next_uniform(&state) - 2.0;
    worst_add(&w, ulps64(f(x), reference((long double)x)), x);
  }
  return w;
}

// asserts the bound that the comment of the function documents
static void expect_float(const char *name, float_fn f, reference_fn reference, double bound) {
  worst w = worst_float(f, reference);
  cr_expect(w.error <= bound, "%s: %.4f ulp at %a, documented %.2f", name, w.error, w.x, bound);
}

static void expect_double(const char *name, double_fn f, reference_fn reference, double lo,
                          double hi, double bound) {
  worst w = worst_double(f, reference, lo, hi);
  cr_expect(w.error <= bound, "%s: %.4f ulp at %a, documented %.2f", name, w.error, w.x, bound);
}

// ---- references that the C library lacks

static long double sigmoid_reference(long double x) {
  long double e = expl(-fabsl(x));
  return (x < 0.0L ? e : 1.0L) / (1.0L + e);
}

static long double softplus_reference(long double x) {
  return (x > 0.0L ? x : 0.0L) + log1pl(expl(-fabsl(x)));
}

// sin and cos of 2 pi u for u in [0, 1), the quadrant taken off exactly
static void sincos_reference(long double u, long double *s, long double *c) {
  const long double half_pi = 1.57079632679489661923132169163975144L;
  long n = lroundl(4.0L * u);
  long double t = (4.0L * u - (long double)n) * half_pi;
  const long double sines[4] = {sinl(t), cosl(t), -sinl(t), -cosl(t)};
  *s = sines[n & 3];
  *c = sines[(n + 1) & 3];
}

// ---- error bounds

Test(scalar, exponentials) {
  expect_float("exp", rgm_exp, expl, 0.90);
  expect_float("expm1", rgm_expm1, expm1l, 1.59);
}

Test(scalar, logarithms) {
  expect_float("log", rgm_log, logl, 0.90);
  expect_float("log1p", rgm_log1p, log1pl, 1.15);

  // rgm_log_normal is rgm_log, for every 17th positive normal number and the ends of their range
  for (uint32_t u = 0x00800000u; u < 0x7f800000u; u += u < 0x00800100u ? 1 : 17) {
    const float x = rgm_from_bits(u);
    cr_assert_eq(rgm_bits(rgm_log_normal(x)), rgm_bits(rgm_log(x)), "log at %a", (double)x);
  }
  cr_assert_eq(rgm_log_normal(FLT_MAX), rgm_log(FLT_MAX));
}

// every logistic variate: a symmetric table of logarithms of odds
Test(scalar, logistic_variates) {
  double most = 0.0, previous = -HUGE_VAL;
  for (uint32_t k = 0; k < 1u << 23; k++) {
    const double odds = (2.0 * k + 1.0) / (0x1p+24 - (2.0 * k + 1.0)),
                 x = (double)rgm_logistic(k << 9);
    const double error = fabs(x - log(odds));
    most = error > most ? error : most;
    cr_assert(x >= previous, "not in order at %u", k);
    previous = x;
  }
  cr_expect_lt(most, 1.2e-6, "error %g", most); // 0.6 ulp of 16.6, and the quotient's rounding
  cr_expect_eq(rgm_logistic(0xffffffffu), rgm_logistic(0xffffffffu - 511u)); // 9 low bits unused
  cr_expect_float_eq(rgm_logistic(0), -log(0x1p+24 - 1.0), 1.2e-6);
}

Test(scalar, activations) {
  expect_float("tanh", rgm_tanh, tanhl, 1.37);
  expect_float("sigmoid", rgm_sigmoid, sigmoid_reference, 1.65);
  expect_float("softplus", rgm_softplus, softplus_reference, 1.68);
}

Test(scalar, powers) {
  worst w = {0.0, 0.0};
  uint64_t state = 7;
  for (int i = 0; i < 1000000; ++i) {
    // any two floats; x in [0, 4) and y in [-16, 16); x near 1 and a large y
    uint64_t word = next_word(&state);
    float x = rgm_from_bits((uint32_t)(word >> 33));
    float y = rgm_from_bits((uint32_t)word);
    if (i % 3 == 1) {
      x = (float)(4.0 * next_uniform(&state));
      y = (float)(32.0 * next_uniform(&state) - 16.0);
    } else if (i % 3 == 2) {
      x = (float)(0.5 + next_uniform(&state));
      y = (float)(256.0 * next_uniform(&state) - 128.0);
    }
    worst_add(&w, ulps32(rgm_pow(x, y), powl((long double)x, (long double)y)), (double)x);
  }
  cr_expect(w.error <= 0.500001, "pow: %.8f ulp at x = %a", w.error, w.x);

  // every exact square and the roots of exact squares
  for (int i = 0; i <= 4096; ++i) {
    float x = (float)i;
    cr_expect(rgm_pow(x, 2.0f) == x * x && rgm_pow(x * x, 0.5f) == x, "pow at %d", i);
  }
}

Test(scalar, circle) {
  // relative error everywhere: the zeros are met exactly
  worst w = {0.0, 0.0};
  for (uint32_t u = 0; u < 0x3f800000u; u += 1021) {
    // a walk over the bit patterns, and an even walk over [0, 1)
    for (int k = 0; k < 2; ++k) {
      float x = k == 0 ? rgm_from_bits(u) : (float)(u >> 6) * 0x1p-24f;
      float s, c;
      long double sine, cosine;
      rgm_sincos2pi(x, &s, &c);
      sincos_reference((long double)x, &sine, &cosine);
      worst_add(&w, ulps32(s, sine), (double)x);
      worst_add(&w, ulps32(c, cosine), (double)x);
    }
  }
  cr_expect(w.error <= 0.99, "sincos2pi: %.4f ulp at %a", w.error, w.x);

  // the quarters
  static const float want[5][2] = {{0, 1}, {1, 0}, {0, -1}, {-1, 0}, {0, 1}};
  for (int i = 0; i < 4; ++i) {
    float s, c;
    rgm_sincos2pi((float)i / 4.0f, &s, &c);
    cr_expect(s == want[i][0] && c == want[i][1], "quarter %d: %a %a", i, (double)s, (double)c);
  }
}

Test(scalar, doubles) {
#if LDBL_MANT_DIG >= 64
  expect_double("exp64", rgm_exp64, expl, -750.0, 711.0, 0.94);
  expect_double("log64", rgm_log64, logl, 0.0, 3.0, 0.85);
  expect_double("log1p64", rgm_log1p64, log1pl, -1.0, 3.0, 0.87);
  expect_double("expm164", rgm_expm164, expm1l, -45.0, 711.0, 1.62);
  expect_double("sigmoid64", rgm_sigmoid64, sigmoid_reference, -750.0, 50.0, 1.68);
#endif
}

// ---- special values

// a wanted NaN stands for any NaN; the last two columns, -1 and 1, allow the documented error
Test(scalar, special_values) {
  const float inf = HUGE_VALF;
  const float nan_ = nanf("");
  static const float_fn functions[] = {rgm_exp,  rgm_expm1,   rgm_log,      rgm_log1p,
                                       rgm_tanh, rgm_sigmoid, rgm_softplus, rgm_sqrt};
  static const char *const names[] = {"exp",  "expm1",   "log",      "log1p",
                                      "tanh", "sigmoid", "softplus", "sqrt"};
  const float ln2 = 0.693147182f;
  const float arguments[] = {0.0f, -0.0f, inf, -inf, nan_, -1.0f, 1.0f};
  const float want[8][7] = {
      {1.0f, 1.0f, inf, 0.0f, nan_, 0.36787944f, 2.71828182f},
      {0.0f, -0.0f, inf, -1.0f, nan_, -0.63212056f, 1.71828182f},
      {-inf, -inf, inf, nan_, nan_, nan_, 0.0f},
      {0.0f, -0.0f, inf, nan_, nan_, -inf, ln2},
      {0.0f, -0.0f, 1.0f, -1.0f, nan_, -0.76159416f, 0.76159416f},
      {0.5f, 0.5f, 1.0f, 0.0f, nan_, 0.26894142f, 0.73105858f},
      {ln2, ln2, inf, 0.0f, nan_, 0.31326169f, 1.31326169f},
      {0.0f, -0.0f, inf, nan_, nan_, nan_, 1.0f},
  };
  for (int f = 0; f < 8; ++f) {
    for (int i = 0; i < 7; ++i) {
      float got = functions[f](arguments[i]);
      bool same = isnan(want[f][i]) ? isnan(got) : rgm_bits(got) == rgm_bits(want[f][i]);
      same = same || (i >= 5 && fabsf(got - want[f][i]) <= 2.0f * FLT_EPSILON * fabsf(got));
      cr_expect(same, "%s(%g) = %a, not %a", names[f], (double)arguments[i], (double)got,
                (double)want[f][i]);
    }
  }

  // the ends of the ranges: the last finite value, overflow, the last denormal, zero
  cr_expect(rgm_exp(0x1.62e42ep+6f) < inf && rgm_exp(0x1.62e43p+6f) == inf);
  cr_expect(rgm_exp(-0x1.9fe368p+6f) == 0x1p-149f && rgm_exp(-0x1.9fe36ap+6f) == 0.0f);
  cr_expect(rgm_sigmoid(-100.0f) == rgm_exp(-100.0f) && rgm_sigmoid(-100.0f) > 0.0f);
  cr_expect(rgm_softplus(-50.0f) == rgm_exp(-50.0f) && rgm_softplus(-104.0f) == 0.0f);
  cr_expect(rgm_tanh(9.02f) == 1.0f && rgm_tanh(-FLT_MAX) == -1.0f);
  cr_expect(rgm_exp64(-745.13) == 0x1p-1074 && rgm_exp64(-746.0) == 0.0);

  // pow follows C for x >= 0
  const float bases[] = {0.0f, -0.0f, 0.5f, 1.0f, 3.0f, inf, nan_, FLT_MIN, FLT_MAX};
  const float powers[] = {0.0f, -0.0f, 1.0f, 2.0f, 0.5f, -0.5f, inf, -inf, nan_, 1e-30f};
  for (int i = 0; i < 9; ++i) {
    for (int j = 0; j < 10; ++j) {
      float got = rgm_pow(bases[i], powers[j]);
      double c = pow(fabs((double)bases[i]), (double)powers[j]);
      cr_expect(isnan(c) ? isnan(got) : got == (float)c, "pow(%g, %g) = %g", (double)bases[i],
                (double)powers[j], (double)got);
    }
  }
  cr_expect(isnan(rgm_pow(-2.0f, 2.0f)));

  // the doubles: 0, -0, inf, -inf, NaN, -1
  static const double_fn doubles[] = {rgm_exp64, rgm_expm164, rgm_log64, rgm_log1p64};
  const double want64[4][5] = {
      {1.0, 1.0, HUGE_VAL, 0.0, (double)nan_},
      {0.0, -0.0, HUGE_VAL, -1.0, (double)nan_},
      {-HUGE_VAL, -HUGE_VAL, HUGE_VAL, (double)nan_, (double)nan_},
      {0.0, -0.0, HUGE_VAL, (double)nan_, (double)nan_},
  };
  for (int f = 0; f < 4; ++f) {
    for (int i = 0; i < 5; ++i) {
      double got = doubles[f]((double)arguments[i]);
      bool nan_wanted = isnan(want64[f][i]);
      cr_expect(nan_wanted ? isnan(got) : rgm_bits64(got) == rgm_bits64(want64[f][i]),
                "double function %d at %g: %a", f, (double)arguments[i], got);
    }
  }
  cr_expect(rgm_log1p64(-1.0) == -HUGE_VAL && isnan(rgm_log64(-1.0)));
  cr_expect(rgm_sigmoid64(-HUGE_VAL) == 0.0 && rgm_sigmoid64(HUGE_VAL) == 1.0);
}

Test(scalar, single_operations) {
  const float nan_ = nanf("");

  // min and max give b when either is NaN; clamp keeps a NaN
  cr_expect(rgm_min(nan_, 2.0f) == 2.0f && isnan(rgm_min(2.0f, nan_)));
  cr_expect(rgm_max(nan_, 2.0f) == 2.0f && isnan(rgm_max(2.0f, nan_)));
  cr_expect(rgm_min(1.0f, 2.0f) == 1.0f && rgm_max(1.0f, 2.0f) == 2.0f);
  cr_expect(isnan(rgm_clamp(nan_, -1.0f, 1.0f)));
  cr_expect(rgm_clamp(-3.0f, -1.0f, 1.0f) == -1.0f && rgm_clamp(3.0f, -1.0f, 1.0f) == 1.0f);
  cr_expect(rgm_clamp(0.25f, -1.0f, 1.0f) == 0.25f);
  cr_expect(rgm_bits(rgm_abs(-0.0f)) == 0u && rgm_abs64(-2.5) == 2.5);

  // one rounding: (1 + 2^-12)^2 - 1 - 2^-11 = 2^-24
  cr_expect(rgm_fma(0x1.001p+0f, 0x1.001p+0f, -0x1.002p+0f) == 0x1p-24f);
  cr_expect(rgm_fma64(1.0 + 0x1p-30, 1.0 + 0x1p-30, -1.0 - 0x1p-29) == 0x1p-60);
  cr_expect(rgm_sqrt(2.0f) == 0x1.6a09e6p+0f && rgm_sqrt64(2.0) == 0x1.6a09e667f3bcdp+0);
}

// ---- vector loops against single calls

static float pow_of(float x) {
  return rgm_pow(rgm_abs(x), 0.37f * x);
}

static float sin_of(float x) {
  float s, c;
  rgm_sincos2pi((float)(int32_t)(rgm_bits(x) >> 8) * 0x1p-24f, &s, &c);
  return s;
}

static float cos_of(float x) {
  float s, c;
  rgm_sincos2pi((float)(int32_t)(rgm_bits(x) >> 8) * 0x1p-24f, &s, &c);
  return c;
}

#define FLOAT_FUNCTIONS(X) \
  X(rgm_exp)               \
  X(rgm_expm1)             \
  X(rgm_log)               \
  X(rgm_log1p)             \
  X(rgm_tanh)              \
  X(rgm_sigmoid)           \
  X(rgm_softplus)          \
  X(rgm_sqrt)              \
  X(pow_of)                \
  X(sin_of)                \
  X(cos_of)

#define DOUBLE_FUNCTIONS(X) \
  X(rgm_exp64)              \
  X(rgm_expm164)            \
  X(rgm_log64)              \
  X(rgm_log1p64)            \
  X(rgm_sigmoid64)          \
  X(rgm_sqrt64)

enum { LENGTH = 1027, ISAS = 3 };

// one loop for each function, type and instruction set
#define LOOP(type, f, isa)                                                  \
  __attribute__((noinline)) static void f##_##isa(const type *x, type *y) { \
    for (int i = 0; i < LENGTH; ++i) {                                      \
      y[i] = f(x[i]);                                                       \
    }                                                                       \
  }
#define PLAIN_FLOAT(f) LOOP(float, f, plain)
#define PLAIN_DOUBLE(f) LOOP(double, f, plain)
FLOAT_FUNCTIONS(PLAIN_FLOAT)
DOUBLE_FUNCTIONS(PLAIN_DOUBLE)

#if defined(__x86_64__)
#define AVX2_FLOAT(f) __attribute__((target("avx2,fma"))) LOOP(float, f, avx2)
#define AVX2_DOUBLE(f) __attribute__((target("avx2,fma"))) LOOP(double, f, avx2)
#define AVX512 "avx512f,avx512bw,avx512dq,avx512vl,fma"
#define AVX512_FLOAT(f) __attribute__((target(AVX512))) LOOP(float, f, avx512)
#define AVX512_DOUBLE(f) __attribute__((target(AVX512))) LOOP(double, f, avx512)
FLOAT_FUNCTIONS(AVX2_FLOAT)
DOUBLE_FUNCTIONS(AVX2_DOUBLE)
FLOAT_FUNCTIONS(AVX512_FLOAT)
DOUBLE_FUNCTIONS(AVX512_DOUBLE)
#define ROW(f) {#f, f, {f##_plain, f##_avx2, f##_avx512}},
#else
#define ROW(f) {#f, f, {f##_plain, f##_plain, f##_plain}},
#endif

static const struct {
  const char *name;
  float_fn one;
  void (*loops[ISAS])(const float *x, float *y);
} float_rows[] = {FLOAT_FUNCTIONS(ROW)};

static const struct {
  const char *name;
  double_fn one;
  void (*loops[ISAS])(const double *x, double *y);
} double_rows[] = {DOUBLE_FUNCTIONS(ROW)};

// whether this CPU runs the loops of an instruction set
static bool runs(int isa) {
#if defined(__x86_64__)
  bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
  bool avx512 = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
  return isa == 0 || (isa == 1 && avx2) || (isa == 2 && avx2 && avx512);
#else
  return isa == 0;
#endif
}

Test(scalar, vector_loops) {
  static float x[LENGTH], y[LENGTH];
  static double x64[LENGTH], y64[LENGTH];
  uint64_t state = 99;
  for (int round = 0; round < 16; ++round) {
    // even rounds: any bits; odd ones: the common range
    for (int i = 0; i < LENGTH; ++i) {
      uint64_t word = next_word(&state);
      double u = 40.0 * next_uniform(&state) - 20.0;
      x[i] = round % 2 ? (float)u : rgm_from_bits((uint32_t)(word >> 32));
      x64[i] = round % 2 ? u : rgm_from_bits64(word);
    }

    // the floats
    for (size_t f = 0; f < sizeof float_rows / sizeof float_rows[0]; ++f) {
      for (int isa = 0; isa < ISAS && runs(isa); ++isa) {
        float_rows[f].loops[isa](x, y);
        for (volatile int i = 0; i < LENGTH; ++i) {
          float one = float_rows[f].one(x[i]);
          cr_assert(rgm_bits(one) == rgm_bits(y[i]) || (isnan(one) && isnan(y[i])),
                    "%s, set %d, at %a", float_rows[f].name, isa, (double)x[i]);
        }
      }
    }

    // the doubles
    for (size_t f = 0; f < sizeof double_rows / sizeof double_rows[0]; ++f) {
      for (int isa = 0; isa < ISAS && runs(isa); ++isa) {
        double_rows[f].loops[isa](x64, y64);
        for (volatile int i = 0; i < LENGTH; ++i) {
          double one = double_rows[f].one(x64[i]);
          cr_assert(rgm_bits64(one) == rgm_bits64(y64[i]) || (isnan(one) && isnan(y64[i])),
                    "%s, set %d, at %a", double_rows[f].name, isa, x64[i]);
        }
      }
    }
  }
}

// the bits of a fixed sample, so that another compiler, CPU or device can be compared with this one
Test(scalar, golden_bits) {
  uint64_t hash = 0xcbf29ce484222325u;
  uint64_t state = 4;
  for (int i = 0; i < 20000; ++i) {
    float x = (float)(40.0 * next_uniform(&state) - 20.0);
    for (size_t f = 0; f < sizeof float_rows / sizeof float_rows[0]; ++f) {
      float got = float_rows[f].one(x);
      hash = (hash ^ (isnan(got) ? 0x7fc00000u : rgm_bits(got))) * 0x100000001b3u;
    }
    for (size_t f = 0; f < sizeof double_rows / sizeof double_rows[0]; ++f) {
      double got = double_rows[f].one((double)x);
      hash = (hash ^ (isnan(got) ? 0x7ff8u : rgm_bits64(got))) * 0x100000001b3u;
    }
  }
  cr_expect(hash == 0x2402b1071ef9fee0u, "0x%016llx", (unsigned long long)hash);
}
