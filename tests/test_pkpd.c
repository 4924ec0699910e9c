// SPDX-License-Identifier: Apache-2.0
// Tests of what propofol computes on the host in double: exact modes, gains, keys, metrics,
// predicted concentrations, the distribution of patients. The reference integrates the compartments
// by Taylor series; "spec" is shared/spec/propofol.md.

#include "engine/engine.h"
#include "envs/controllers.h"
#include "envs/propofol.h"

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


// ---- the reference model -----------------------------------------------------------------------

typedef struct body {
  double age, weight, height;
  int male;
  double ke0;
} body;

typedef struct volumes {
  double lean, v[3], cl[3]; // kg, L, L/min
} volumes;

static const body older = {53, 77, 177, 1, 0.456}, generic = {30, 70, 170, 1, 0.17};


// spec 1.1
static volumes schnider(const body *b) {
  const double q = b->weight / b->height;
  const double lean = b->male ? 1.1 * b->weight - 128 * q * q : 1.07 * b->weight - 148 * q * q;
  const double cl1 =
      1.89 + 0.0456 * (b->weight - 77) - 0.0681 * (lean - 59) + 0.0264 * (b->height - 177);
  return (volumes){
      lean, {4.27, 18.9 - 0.391 * (b->age - 53), 238}, {cl1, 1.29 - 0.024 * (b->age - 53), 0.836}};
}


// Moves x = C1, C2, C3, Ce by `minutes` of u mg/min: Taylor series of order 24 over quarters of a
// minute.
static void flow(const body *b, double x[4], double u, double minutes) {
  const volumes w = schnider(b);
  const int pieces = (int)ceil(4 * minutes);
  const double h = minutes / fmax(pieces, 1);
  for (int i = 0; i < pieces; i++) {
    double term[4], input = u;
    memcpy(term, x, sizeof term);
    for (int n = 1; n <= 24; n++) {
      const double to2 = w.cl[1] * (term[0] - term[1]), to3 = w.cl[2] * (term[0] - term[2]);
      const double d[4] = {(input - w.cl[0] * term[0] - to2 - to3) / w.v[0], to2 / w.v[1],
                           to3 / w.v[2], b->ke0 * (term[0] - term[3])};
      for (int k = 0; k < 4; k++) {
        term[k] = d[k] * h / n;
        x[k] += term[k];
      }
      input = 0.0;
    }
  }
}


// ---- exact modes -------------------------------------------------------------------------------

Test(pkpd, schnider_parameters) {
  // spec 3.1 (OpenPMX, PAS agrees): lean mass, V2, CL1, CL2, k10, k12, k21; 0 where none is printed
  static const struct {
    body b;
    double want[7];
  } rows[] = {
      {{53, 77, 177, 1, 0}, {60.476054, 18.9, 1.7894807, 1.29, 0.4190821, 0.3021077, 0.06825397}},
      {{40, 70, 170, 1, 0},
       {55.297578, 23.983, 1.6381349, 1.602, 0.3836382, 0.3751756, 0.06679731}},
      {{40, 60, 163, 0, 0},
       {44.146554, 23.983, 1.7567197, 1.602, 0.4114098, 0.3751756, 0.06679731}},
      {{30, 70, 170, 1, 0},
       {55.297578, 27.893, 1.6381349, 1.842, 0.3836382, 0.4313817, 0.06603807}},
      {{30, 70, 170, 0, 0}, {49.806574, 27.893, 2.0120723, 1.842, 0, 0.4313817, 0.06603807}},
  };
  for (int i = 0; i < COUNT(rows); i++) {
    const body *b = &rows[i].b;
    const pk_model m = pk_schnider(b->age, b->weight, b->height, b->male, 0.2);
    const volumes w = schnider(b);
    const double got[7] = {
        pk_lean_mass(b->weight, b->height, b->male), m.v2, m.cl1, m.cl2, m.k10, m.k12, m.k21};
    const double mine[7] = {w.lean,           w.v[1],           w.cl[0],         w.cl[1],
                            w.cl[0] / w.v[0], w.cl[1] / w.v[0], w.cl[1] / w.v[1]};
    for (int k = 0; k < 7; k++) {
      const double want = rows[i].want[k] != 0.0 ? rows[i].want[k] : mine[k];
      cr_expect(fabs(got[k] / want - 1) <= 2e-7, "row %d, column %d: %.9g", i, k, got[k]);
      cr_expect(fabs(mine[k] / want - 1) <= 2e-7, "reference, row %d, column %d", i, k);
    }
    cr_expect(m.v1 == 4.27 && m.v3 == 238.0 && m.cl3 == 0.836 && m.ke0 == 0.2);
    cr_expect(fabs(m.k13 / 0.1957845 - 1) <= 3e-7 && fabs(m.k31 / 0.003512605 - 1) <= 3e-7);
  }
}


// 100.2 mg/min for 0-1 min, pause, 10 mg/min for 10-60 min, by modes and by series
static void regimen_at(const body *b, double minute, double modal[4], double series[4]) {
  static const double begin[] = {0, 1, 10, 60, 1e9}, rate[] = {100.2, 0, 10, 0};
  const pk_model model = pk_schnider(b->age, b->weight, b->height, b->male, b->ke0);
  const pk_modes modes = pk_decompose(&model);
  double state[PK_MODES] = {0};
  memset(series, 0, 4 * sizeof *series);
  for (int i = 0; i < 4 && begin[i] < minute; i++) {
    const double time = fmin(begin[i + 1], minute) - begin[i];
    pk_advance(&modes, state, rate[i], time);
    flow(b, series, rate[i], time);
  }
  for (int k = 0; k < PK_OUTPUTS; k++) {
    modal[k] = pk_read(&modes, state, k);
  }
}


Test(pkpd, time_courses) {
  // spec 3.2 with the digits of "Checked independently": minute, C1, C2, C3, Ce, 0 where none is
  // printed
  static const struct {
    const body *b;
    double minute, want[4];
  } rows[] = {
      {&older, 1, {15.41433432, 0.58978421, 0.03105782, 3.45116416}},
      {&older, 2, {6.36724004, 1.22004722, 0.06668180, 5.79724600}},
      {&older, 5, {0.86911614, 1.43857562, 0.09196497, 2.94693216}},
      {&older, 10, {0.43172196, 1.17818579, 0.09989329, 0.74325665}},
      {&older, 30, {3.48218906, 2.69095428, 0.30246919, 3.43151398}},
      {&older, 60, {3.87928213, 3.63259165, 0.64380450, 3.86020544}},
      {&older, 120, {0.29455050, 0.46000185, 0.64845789, 0.30457495}},
      {&generic, 1, {14.83606508, 0, 0, 1.38069196}},
      {&generic, 5, {0.81695122, 0, 0, 2.36947467}},
      {&generic, 30, {3.45309080, 0, 0, 3.20894848}},
      {&generic, 60, {3.99575731, 0, 0, 3.91396936}},
      {&generic, 120, {0.40757073, 0, 0, 0.45682138}},
  };
  for (int i = 0; i < COUNT(rows); i++) {
    double modal[4], series[4];
    regimen_at(rows[i].b, rows[i].minute, modal, series);
    for (int k = 0; k < 4; k++) {
      const double want = rows[i].want[k];
      const bool spec = want == 0.0 || fabs(modal[k] - want) <= 2.5e-8;
      cr_expect(spec, "row %d, output %d: %.10f, not %.8f", i, k, modal[k], want);
      cr_expect(fabs(modal[k] / series[k] - 1) <= 1e-11, "row %d, output %d: series", i, k);
    }
  }
}


Test(pkpd, everybody) {
  // anybody whom Schnider's model admits, any ke0, any time
  double worst = 0.0, balance = 0.0, impulse = 0.0;
  uint64_t state = 17;
  for (int i = 0; i < 300; i++) {
    const double u[5] = {toss(&state), toss(&state), toss(&state), toss(&state), toss(&state)};
    const body b = {18 + 80 * u[0], 45 + 75 * u[1], 140 + 60 * u[2], i % 2, 0.05 + 2 * u[3]};
    double modal[4], series[4];
    regimen_at(&b, exp(7 * u[4] - 2), modal, series);
    for (int k = 0; k < 4; k++) {
      worsen(&worst, modal[k] / series[k] - 1);
    }

    // mass balance: all compartments tend to u / CL1 = u / (k10 V1)
    const pk_model m = pk_schnider(b.age, b.weight, b.height, b.male, b.ke0);
    const pk_modes modes = pk_decompose(&m);
    double z[PK_MODES] = {0};
    pk_advance(&modes, z, 7.0, 1e6);
    for (int k = 0; k < PK_OUTPUTS; k++) {
      double start = 0.0, scale = 0.0;
      for (int j = 0; j < PK_MODES; j++) {
        start += modes.weight[k][j];
        scale += fabs(modes.weight[k][j]);
      }
      worsen(&balance, pk_read(&modes, z, k) * schnider(&b).cl[0] / 7.0 - 1);
      worsen(&impulse, (start - (k == PK_C1 ? 1 / 4.27 : 0.0)) / scale);
    }
  }
  cr_expect(worst <= 1e-10, "relative error against the series: %.3g", worst);
  cr_expect(balance <= 1e-11, "relative error of the steady state: %.3g", balance);
  cr_expect(impulse <= 1e-12, "a bolus must start in the central compartment: %.3g", impulse);
}


Test(pkpd, equal_rates) {
  // ke0 on a rate of the compartments: the modes are singular there, the model is not
  const pk_model m = pk_schnider(53, 77, 177, 1, 0.456);
  const pk_modes modes = pk_decompose(&m);
  for (int i = 0; i < 9; i++) {
    body b = older;
    double modal[4], series[4];
    b.ke0 = modes.lambda[i / 3] * (1 + 3e-7 * (i % 3 - 1));
    regimen_at(&b, 25, modal, series);
    cr_expect(fabs(modal[PK_CE] / series[PK_CE] - 1) <= 2e-6, "case %d: %.9g, not %.9g", i,
              modal[PK_CE], series[PK_CE]);
  }
}


// ---- keys and gains ----------------------------------------------------------------------------

// Plans a run of the environment with these overrides; *run is to be freed whatever comes back.
static rgm_status plan_env(const char *const *overrides, int count, rgm_run **run) {
  static const char text[] = "run:\n  threads: 1\n  backend: cpu\n"
                             "algorithm:\n  name: pid\nenv:\n  name: propofol\n";
  rgm_config *config = NULL;
  *run = NULL;
  RGM_TRY(rgm_config_parse("test.yaml", text, overrides, count, &config));
  return rgm_run_plan_only(config, run);
}


static propofol_config configure(const char *const *overrides, int count) {
  rgm_run *run;
  propofol_config out;
  cr_assert(plan_env(overrides, count, &run) == RGM_OK, "%s", rgm_last_error());
  cr_assert(rgm_envs[0]->prepare(rgm_env_keys(run, 0), run->config, &out) == RGM_OK);
  rgm_run_free(run);
  return out;
}


Test(pkpd, hold_rows) {
  // spec 3.2: rows C1 and Ce of the 5-s matrices, last the response per mg/min
  static const double c1[] = {0.9265022818, 0.0241687123, 0.0157056507, 0, 0.0187894482};
  static const double ce[] = {0.0358902346, 0.0004596193, 0.0002984028, 0.9627129409, 0.0003569764};
  // spec 3.3: g, the change of Ce over 30 s without drug
  static const double g[] = {0.063817791, 0.007492199, 0.003437614, -0.081487716};
  for (int i = 0; i < 5; i++) {
    double x[4] = {i == 0, i == 1, i == 2, i == 3}, y[4] = {i == 0, i == 1, i == 2, i == 3};
    flow(&older, x, i == 4, PROPOFOL_STEP_MIN);
    flow(&generic, y, 0, 0.5);
    cr_expect(fabs(x[0] - c1[i]) <= 6e-11 && fabs(x[3] - ce[i]) <= 6e-11, "column %d", i);
    cr_expect(i == 4 || fabs(y[3] - (i == 3) - g[i]) <= 6e-10, "g[%d]", i);
  }
}


static void multiply(double c[4][4], double a[4][4], double b[4][4]) {
  double out[4][4] = {{0}};
  for (int i = 0; i < 64; i++) {
    out[i / 16][i % 4] += a[i / 16][i / 4 % 4] * b[i / 4 % 4][i % 4];
  }
  memcpy(c, out, sizeof out);
}


// Proportional control of gain k, linearised at a level: the spectral radius over a step of 5 s, as
// the growth of the loop's 2^40th power, and the angle of the dominant pair of eigenvalues.
static double loop_radius(const body *b, double level, double k, double *angle) {
  const double ce = 2.5 * pow(level / (1 - level), 1.0 / 5), slope = 5 * level * (1 - level) / ce;
  double m[4][4], power[4][4], input[4] = {0}, growth = 0.0;
  flow(b, input, 100.2, PROPOFOL_STEP_MIN);
  for (int column = 0; column < 4; column++) {
    double x[4] = {column == 0, column == 1, column == 2, column == 3};
    flow(b, x, 0.0, PROPOFOL_STEP_MIN);
    for (int row = 0; row < 4; row++) {
      m[row][column] = x[row] - (column == 3 ? input[row] * k * slope : 0.0);
    }
  }
  memcpy(power, m, sizeof m);
  for (int i = 0; i < 40; i++) {
    double size = 0.0;
    for (int j = 0; j < 16; j++) {
      size = fmax(size, fabs(power[j / 4][j % 4]));
    }
    for (int j = 0; j < 16; j++) {
      power[j / 4][j % 4] /= size;
    }
    growth += ldexp(log(size), -i);
    multiply(power, power, power);
  }
  // only that pair is left: x'' - 2 r cos(angle) x' + r^2 x = 0 from step to step
  double next[4][4], after[4][4];
  multiply(next, m, power);
  multiply(after, m, next);
  const double r = exp(growth);
  *angle = acos((after[3][3] + r * r * power[3][3]) / (2 * r * next[3][3]));
  return r;
}


Test(pkpd, ziegler_nichols) {
  // spec 1.5: kp, ki [1/s], kd [s]; half a unit of the last digit that it prints
  static const struct {
    int male;
    double level, want[3], half[3];
  } rows[] = {
      {1, 0.5, {8.66838, 0.243470, 77.1562}, {3e-5, 3e-6, 8e-4}}, // from Ku 14.4473, Tu 71.207 s
      {1, 0.5, {8.67, 0.2435, 77.2}, {5e-3, 5e-5, 5e-2}},
      {0, 0.5, {9.32, 0.2712, 80.1}, {5e-3, 5e-5, 5e-2}},
      {1, 0.25, {9.28, 0.2606, 82.6}, {5e-3, 5e-5, 5e-2}},
      {1, 0.75, {14.40, 0.4044, 128.2}, {5e-3, 5e-5, 5e-2}},
  };
  const rgm_baseline *zn = &rgm_envs[0]->baselines[0];
  cr_assert(strcmp(zn->name, "pid_zn") == 0 && zn->control == RGM_CONTROL_PID);
  cr_assert(zn->param_count == PID_PARAMS);
  for (int i = 0; i < COUNT(rows); i++) {
    char level[40];
    snprintf(level, sizeof level, "env.tuning_target=%g", rows[i].level);
    const char *const overrides[] = {level, rows[i].male ? "env.sex=male" : "env.sex=female"};
    rgm_run *run;
    float got[PID_PARAMS];
    cr_assert(plan_env(overrides, 2, &run) == RGM_OK, "%s", rgm_last_error());
    cr_assert(zn->params(rgm_env_keys(run, 0), got) == RGM_OK);
    rgm_run_free(run);

    // the gain where the reference's loop begins to ring, by bisection, and its period
    body b = generic;
    b.male = rows[i].male;
    double low = 1.0, high = 60.0, angle = 0.0;
    for (int k = 0; k < 52; k++) {
      const double middle = 0.5 * (low + high);
      *(loop_radius(&b, rows[i].level, middle, &angle) < 1.0 ? &low : &high) = middle;
    }
    const double radius = loop_radius(&b, rows[i].level, low, &angle);
    const double period = 2 * M_PI / angle * 5;
    const double mine[3] = {0.6 * low, 1.2 * low / period, 0.075 * low * period};
    cr_expect(fabs(radius - 1) <= 1e-9, "row %d: spectral radius 1 %+.3g", i, radius - 1);
    for (int k = 0; k < PID_PARAMS; k++) {
      cr_expect(fabs(got[k] - rows[i].want[k]) <= rows[i].half[k], "row %d, gain %d: %.7g, not %g",
                i, k, got[k], rows[i].want[k]);
      cr_expect(fabs(got[k] / mine[k] - 1) <= 2e-7, "row %d, gain %d: %.9g, reference %.9g", i, k,
                got[k], mine[k]);
    }
  }
}


Test(pkpd, prepare) {
  // what must be refused, and a word that the message needs
  static const struct {
    const char *overrides[3], *words[2];
  } rows[] = {
      {{"env.age=[90, 18]"}, {"env.age", "low <= high"}},
      {{"env.height=[160, 170, 180]"}, {"env.height", "[low, high]"}},
      {{"env.target=[0.6, 0.5]"}, {"env.target", "low <= high"}},
      {{"env.age=[18, 102]"}, {"env.age", "101"}},
      {{"env.noise_sd=-0.1"}, {"env.noise_sd", "0"}},
      {{"env.targets=17"}, {"env.targets", "16"}},
      {{"env.steps=0"}, {"env.steps", "1"}},
      {{"env.sex=other"}, {"env.sex", "female"}},
      // no positive clearance: at the ends of the ranges, and only between them
      {{"env.sex=female", "env.weight=[20, 30]", "env.height=[67, 80]"}, {"woman", "env.weight"}},
      {{"env.sex=random", "env.weight=[20, 30]", "env.height=[67, 80]"}, {"woman", "narrow"}},
      {{"env.sex=female", "env.weight=[20, 20]", "env.height=[50, 250]"}, {"woman", "narrow"}},
      {{"env.sex=female", "env.generic_weight=20", "env.generic_height=67"}, {"generic", "clear"}},
  };
  for (int i = 0; i < COUNT(rows); i++) {
    rgm_run *run;
    int count = 0;
    while (count < 3 && rows[i].overrides[count] != NULL) {
      count++;
    }
    const rgm_status status = plan_env(rows[i].overrides, count, &run);
    cr_expect(status == RGM_ECONFIG, "row %d: status %d", i, (int)status);
    for (int k = 0; k < 2 && status != RGM_OK; k++) {
      cr_expect(strstr(rgm_last_error(), rows[i].words[k]) != NULL, "row %d lacks \"%s\": %s", i,
                rows[i].words[k], rgm_last_error());
    }
    rgm_run_free(run);
  }

  // a bare number is a range of one; steps that targets do not divide are rounded up
  const char *const fine[] = {"env.age=40", "env.sex=female", "env.steps=2002"};
  const propofol_config c = configure(fine, COUNT(fine));
  cr_expect(c.age[0] == 40 && c.age[1] == 40 && c.sex == PROPOFOL_FEMALE && c.max_rate == 100.2);
  cr_expect(c.targets == 4 && c.phase_steps == 501 && c.noise_sd == (float)0.01414213562);
}


// ---- metrics -----------------------------------------------------------------------------------

// in the order of the environment's table
enum { MAPE, MPE, OOB_ABS, OOB_REL, RETURN, TOTAL, INDUCTION, MAINTENANCE, WOBBLE, DIVERGENCE };


static double median(const double *x, int n) {
  double sorted[200];
  memcpy(sorted, x, (size_t)n * sizeof *x);
  qsort(sorted, (size_t)n, sizeof *sorted, ascending);
  return 0.5 * (sorted[(n - 1) / 2] + sorted[n / 2]);
}


// spec 1.6 and Varvel 1992, naively
static void naive(const float *signals, int steps, double *out) {
  double pe[200], ape[200], apart[200], inside = -1.0, dose = 0.0;
  memset(out, 0, 10 * sizeof *out);
  for (int t = 0; t < steps; t++, signals += PROPOFOL_SIGNALS) {
    const double target = signals[PROPOFOL_SIGNAL_TARGET], lou = signals[PROPOFOL_SIGNAL_LOU];
    pe[t] = 100 * (lou - target) / target;
    ape[t] = fabs(pe[t]);
    out[OOB_ABS] += (fabs(lou - target) > 0.05) * 100.0 / steps;
    out[OOB_REL] += (ape[t] > 5) * 100.0 / steps;
    out[RETURN] -= fabs(lou - target);
    inside = inside < 0 && lou - target >= -0.05 ? t : inside;
    dose = signals[PROPOFOL_SIGNAL_RATE] * 5.0 / 60;
    out[TOTAL] += dose;
    out[INDUCTION] += inside < 0 ? dose : 0;
  }
  out[MAINTENANCE] = (out[TOTAL] - out[INDUCTION]) / ((steps - inside) * 5 / 60);
  out[MAPE] = median(ape, steps);
  out[MPE] = median(pe, steps);
  double n = steps, st = 0, stt = 0, sy = 0, sty = 0;
  for (int t = 0; t < steps; t++) {
    const double hour = t * 5.0 / 3600;
    apart[t] = fabs(pe[t] - out[MPE]);
    st += hour;
    stt += hour * hour;
    sy += ape[t];
    sty += hour * ape[t];
  }
  out[WOBBLE] = median(apart, steps);
  out[DIVERGENCE] = (n * sty - st * sy) / (n * stt - st * st);
}


Test(pkpd, metrics) {
  const rgm_env *env = rgm_envs[0];
  static const char *const names[] = {
      "mape",   "mpe",           "oob_abs",           "oob_rel",
      "return", "dose_total_mg", "dose_induction_mg", "dose_maintenance",
      "wobble", "divergence"};
  cr_assert(env->metric_count == COUNT(names) && env->signal_dim == PROPOFOL_SIGNALS);
  for (int i = 0; i < COUNT(names); i++) {
    cr_assert(strcmp(env->metrics[i].name, names[i]) == 0, "metric %d", i);
  }

  // by hand: PE -100, -50, 0, 8, 20 %; doses 232 mg/min * 5 s, 200 of them before step 2; slope of
  // |PE| -20.2 a step, which is 1/720 h
  static const float hand[5][PROPOFOL_SIGNALS] = {{0.0f, 0.5f, 0, 100},
                                                  {0.25f, 0.5f, 0, 100},
                                                  {0.5f, 0.5f, 0, 10},
                                                  {0.54f, 0.5f, 0, 10},
                                                  {0.6f, 0.5f, 0, 12}};
  static const double want[] = {20,         0,          60,         80, -0.89,
                                232.0 / 12, 200.0 / 12, 32.0 / 3.0, 20, -14544};
  double got[10], mine[10];
  env->measure(hand[0], 5, got);
  for (int i = 0; i < 10; i++) {
    cr_expect(fabs(got[i] - want[i]) <= 1e-5 * fmax(1, fabs(want[i])), "%s by hand: %.9g, not %.9g",
              names[i], got[i], want[i]);
  }

  // odd and even lengths against the naive code
  float signals[200 * PROPOFOL_SIGNALS];
  uint64_t state = 23;
  for (int steps = 2; steps <= 200; steps += 11) {
    for (int t = 0; t < steps; t++) {
      float *s = signals + t * PROPOFOL_SIGNALS;
      s[PROPOFOL_SIGNAL_LOU] = (float)(t < 3 ? 0.1 : 0.3 + 0.3 * toss(&state));
      s[PROPOFOL_SIGNAL_TARGET] = t < steps / 2 ? 0.4f : 0.55f;
      s[PROPOFOL_SIGNAL_CE] = 0.0f;
      s[PROPOFOL_SIGNAL_RATE] = (float)(100 * toss(&state));
    }
    env->measure(signals, steps, got);
    naive(signals, steps, mine);
    for (int i = 0; i < 10; i++) {
      const bool never = steps < 4 && (i == MAINTENANCE);
      cr_expect(never ? isnan(got[i]) : fabs(got[i] - mine[i]) <= 1e-9 * fmax(1, fabs(mine[i])),
                "%s of %d steps: %.12g, not %.12g", names[i], steps, got[i], mine[i]);
    }
  }
}


// ---- measured concentrations -------------------------------------------------------------------

enum { MOST = 100 };

// what a subject was given and what was measured, from one start to the next
typedef struct record {
  body b;
  int id, doses, samples;
  double time[MOST], amount[MOST], rate[MOST], when[MOST], measured[MOST];
} record;


// plasma concentration just before what is given at `now`: from event to event by series
static double plasma(const record *r, double now) {
  double x[4] = {0}, at = 0.0;
  while (at < now) {
    double next = now, u = 0.0;
    for (int i = 0; i < r->doses; i++) {
      const double begin = r->time[i];
      const double end = r->rate[i] > 0 ? begin + r->amount[i] / r->rate[i] : begin;
      x[0] += r->rate[i] == 0 && begin == at ? r->amount[i] / 4.27 : 0.0;
      u += begin <= at && at < end ? r->rate[i] : 0.0;
      next = begin > at ? fmin(next, begin) : next;
      next = end > at ? fmin(next, end) : next;
    }
    flow(&r->b, x, u, next - at);
    at = next;
  }
  return x[0];
}


static void predict(const record *r, double *out) {
  const rgm_subject subject = {r->b.age, r->b.height, r->b.weight, r->b.male,  r->doses,
                               r->time,  r->amount,   r->rate,     r->samples, r->when};
  rgm_run *run;
  cr_assert(plan_env(NULL, 0, &run) == RGM_OK, "%s", rgm_last_error());
  cr_assert(rgm_envs[0]->predict(rgm_env_keys(run, 0), &subject, out) == RGM_OK);
  rgm_run_free(run);
}


Test(pkpd, predictions) {
  // a bolus; an infusion; two that overlap, and a bolus on top; samples before, at and after each
  // end
  static const record rows[] = {
      {older, 0, 1, 6, {0}, {140}, {0}, {0, 0.5, 1, 10, 100, 600}, {0}},
      {generic, 0, 1, 8, {0}, {100.2}, {100.2}, {0, 0.5, 1, 1.5, 5, 30, 120, 1000}, {0}},
      {{40, 60, 163, 0, 1},
       0,
       4,
       12,
       {2, 5, 7, 40},
       {300, 200, 50, 100},
       {50, 20, 0, 10},
       {1, 2, 3, 5, 6, 7, 7.01, 8, 9.5, 15, 45, 90},
       {0}},
  };
  for (int i = 0; i < COUNT(rows); i++) {
    double got[MOST];
    predict(&rows[i], got);
    for (int k = 0; k < rows[i].samples; k++) {
      const double want = plasma(&rows[i], rows[i].when[k]);
      cr_expect(fabs(got[k] - want) <= 1e-10 * want, "row %d, minute %g: %.12g, not %.12g", i,
                rows[i].when[k], got[k], want);
    }
  }
}


// the next record of a NONMEM table, which a dose with reset (EVID 4) starts; false at the end
static bool next_record(FILE *file, record *r) {
  char line[256];
  *r = (record){.id = -1};
  for (long at = ftell(file); fgets(line, sizeof line, file) != NULL; at = ftell(file)) {
    double time, measured, amount, rate, age, weight, height;
    int id, event, sex;
    if (sscanf(line, "%d,%lf,%lf,%lf,%lf,%d,%lf,%lf,%lf,%d", &id, &time, &measured, &amount, &rate,
               &event, &age, &weight, &height, &sex) != 10) {
      continue; // the header
    }
    if (r->id >= 0 && event == 4) {
      fseek(file, at, SEEK_SET);
      return true;
    }
    r->id = id;
    r->b = (body){age, weight, height, sex == 1, 1.0};
    if (event == 0) {
      r->when[r->samples] = time;
      r->measured[r->samples++] = measured;
    } else {
      r->time[r->doses] = time;
      r->amount[r->doses] = amount;
      r->rate[r->doses++] = rate;
    }
  }
  return r->id >= 0;
}


Test(pkpd, schnider_volunteers) {
  const char *root = getenv("REGIMEN_DATA");
  char path[512];
  snprintf(path, sizeof path, "%s/propofol-schnider1998/schnider1998.csv",
           root != NULL ? root : "../shared/data");
  FILE *file = fopen(path, "r");
  if (file == NULL) {
    cr_skip("no data: %s; set REGIMEN_DATA", path);
  }
  static double pe[MOST][MOST], ape[MOST][MOST], bias[MOST], error[MOST], got[MOST];
  static int count[MOST];
  static record r;
  double worst = 0.0;
  int subjects = 0, samples = 0;
  while (next_record(file, &r)) {
    predict(&r, got);
    for (int k = 0; k < r.samples; k++) {
      const double want = plasma(&r, r.when[k]);
      worsen(&worst, got[k] / want - 1);
      pe[r.id][count[r.id]] = 100 * (r.measured[k] - want) / want;
      ape[r.id][count[r.id]] = fabs(pe[r.id][count[r.id]]);
      count[r.id]++;
    }
    samples += r.samples;
  }
  fclose(file);
  for (int id = 0; id < MOST; id++) {
    if (count[id] > 0) {
      bias[subjects] = median(pe[id], count[id]);
      error[subjects++] = median(ape[id], count[id]);
    }
  }

  // spec 3.4: 24 volunteers, 1006 samples, MDPE -0.9 %, MDAPE 15.3 %
  cr_expect(subjects == 24 && samples == 1006, "%d subjects, %d samples", subjects, samples);
  cr_expect(worst <= 1e-10, "predictions against the series: %.3g", worst);
  cr_expect(fabs(median(bias, subjects) + 0.9) <= 0.3, "MDPE %g", median(bias, subjects));
  cr_expect(fabs(median(error, subjects) - 15.3) <= 0.3, "MDAPE %g", median(error, subjects));
}


// ---- drawn patients ----------------------------------------------------------------------------

// mean, variance and Kolmogorov-Smirnov distance of numbers that should be uniform in [0, 1]
static void expect_uniform(double *x, int n, int word) {
  double mean = 0.0, variance = 0.0, distance = 0.0;
  qsort(x, (size_t)n, sizeof *x, ascending);
  for (int i = 0; i < n; i++) {
    mean += x[i] / n;
    variance += (x[i] - 0.5) * (x[i] - 0.5) / n;
    distance = fmax(distance, fmax(x[i] - (double)i / n, (i + 1.0) / n - x[i]));
  }
  // four standard errors; 1.95 / sqrt(n) has p = 0.001
  cr_expect(x[0] >= -1e-6 && x[n - 1] <= 1 + 1e-6, "word %d outside its range", word);
  cr_expect(fabs(mean - 0.5) <= 4 * sqrt(1.0 / 12 / n), "word %d: mean %g", word, mean);
  cr_expect(fabs(variance - 1.0 / 12) <= 4 * sqrt(1.0 / 180 / n), "word %d: %g", word, variance);
  cr_expect(distance <= 1.95 / sqrt(n), "word %d: distance %g", word, distance);
}


Test(pkpd, uniform_patients) {
  // spec 1.2
  static const struct {
    int word;
    double low, high;
  } rows[] = {{PROPOFOL_AGE, 18, 90},
              {PROPOFOL_HEIGHT, 160, 190},
              {PROPOFOL_WEIGHT, 50, 100},
              {PROPOFOL_KE0, 0.128, 0.213},
              {PROPOFOL_C50, 2, 6},
              {8, 5, 9}, // gamma
              {PROPOFOL_SEX, 0, 1},
              {PROPOFOL_TARGETS, 0.25, 0.75},
              {PROPOFOL_TARGETS + 3, 0.25, 0.75}};
  enum { PEOPLE = 20000 };
  static double x[COUNT(rows)][PEOPLE];
  const char *const any[] = {"env.sex=random"};
  const propofol_config config = configure(any, 1);
  for (int i = 0; i < PEOPLE; i++) {
    const rgm_rng rng = {.key = {77, 5}, .step = 4, .item = (uint32_t)i};
    float words[PROPOFOL_WORDS];
    propofol_sample(words, &config, rng);
    for (int k = 0; k < COUNT(rows); k++) {
      x[k][i] = (words[rows[k].word] - rows[k].low) / (rows[k].high - rows[k].low);
    }
  }
  for (int k = 0; k < COUNT(rows); k++) {
    if (rows[k].word != PROPOFOL_SEX) {
      expect_uniform(x[k], PEOPLE, rows[k].word);
    }
  }
  double men = 0.0;
  for (int i = 0; i < PEOPLE; i++) {
    men += x[6][i] / PEOPLE;
  }
  cr_expect(fabs(men - 0.5) <= 4 * sqrt(0.25 / PEOPLE), "share of men: %g", men);
}
