// SPDX-License-Identifier: Apache-2.0
// Propofol on the host: keys, derived constants, the Ziegler-Nichols gains, evaluation metrics,
// and the prediction of measured concentrations. The patient itself is propofol.h.

#include "envs/propofol_keys.h"
#include "envs/controllers.h"

#include <complex.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#define KEY(member) offsetof(propofol_keys, member)

static const char *const sexes[] = {"male", "female", "random", NULL};
static const char *const models[] = {"schnider", "eleveld", NULL};
static const char *const cohorts[] = {"drawn", "individuals", "individual_pk", "nhanes", NULL};
static const char *const readings[] = {"variance", "sd", NULL};
static const char *const sites[] = {"arterial", "venous", NULL};

static const rgm_field fields[] = {
    {"age", RGM_LIST, KEY(age), "years", "[18, 90]", 1, 101, NULL, 0,
     "Uniform range of patients' age; Schnider's V2 vanishes at 101.3 years."},
    {"height", RGM_LIST, KEY(height), "cm", "[160, 190]", 50, 250, NULL, 0,
     "Uniform range of height."},
    {"weight", RGM_LIST, KEY(weight), "kg", "[50, 100]", 20, 250, NULL, 0,
     "Uniform range of weight."},
    {"sex", RGM_CHOICE, KEY(sex), "", "male", 0, 0, sexes, 0,
     "Sex of the patients; random draws each with probability one half."},
    {"ke0", RGM_LIST, KEY(ke0), "1/min", "[0.128, 0.213]", 0.01, 5, NULL, 0,
     "Uniform range of the effect site's rate constant."},
    {"c50", RGM_LIST, KEY(c50), "mg/L", "[2, 6]", 0.1, 50, NULL, 0,
     "Uniform range of the concentration of half effect."},
    {"gamma", RGM_LIST, KEY(gamma), "1", "[5, 9]", 0.1, 50, NULL, 0,
     "Uniform range of the Hill exponent."},
    {"noise_sd", RGM_FLOAT, KEY(noise_sd), "LoU", "0.01414213562", 0, 1, NULL, 0,
     "Standard deviation of the measurement noise."},
    {"max_rate", RGM_FLOAT, KEY(max_rate), "mg/min", "100.2", 0.01, 10000, NULL, 0,
     "Infusion rate at action 1."},
    {"steps", RGM_INT, KEY(steps), "5 s", "2000", 1, 1000000, NULL, RGM_SHAPE,
     "Length of an episode in steps of 5 s."},
    {"targets", RGM_INT, KEY(targets), "1", "4", 1, PROPOFOL_MAX_TARGETS, NULL, 0,
     "How many targets an episode goes through, each for an equal time."},
    {"target", RGM_LIST, KEY(target), "LoU", "[0.25, 0.75]", 0.01, 0.99, NULL, 0,
     "Uniform range of the targets."},
    {"generic_age", RGM_FLOAT, KEY(generic_age), "years", "30", 1, 101, NULL, 0,
     "Age of the generic patient: the agent's own model, and the one that PID is tuned on."},
    {"generic_height", RGM_FLOAT, KEY(generic_height), "cm", "170", 50, 250, NULL, 0,
     "Height of the generic patient."},
    {"generic_weight", RGM_FLOAT, KEY(generic_weight), "kg", "70", 20, 250, NULL, 0,
     "Weight of the generic patient."},
    {"generic_ke0", RGM_FLOAT, KEY(generic_ke0), "1/min", "0.17", 0.01, 5, NULL, 0,
     "Effect site rate constant of the generic patient."},
    {"generic_c50", RGM_FLOAT, KEY(generic_c50), "mg/L", "2.5", 0.1, 50, NULL, 0,
     "Concentration of half effect of the generic patient."},
    {"generic_gamma", RGM_FLOAT, KEY(generic_gamma), "1", "5", 0.1, 50, NULL, 0,
     "Hill exponent of the generic patient."},
    {"tuning_target", RGM_FLOAT, KEY(tuning_target), "LoU", "0.5", 0.01, 0.99, NULL, 0,
     "Level at which the generic patient is linearised for the Ziegler-Nichols rule."},
    {"model", RGM_CHOICE, KEY(model), "", "schnider", 0, 0, models, RGM_ADDED | RGM_SHAPE,
     "Patients' model: Schnider 1998 with ranges of ke0, c50 and gamma, or Eleveld 2018."},
    {"cohort", RGM_CHOICE, KEY(cohort), "", "drawn", 0, 0, cohorts, RGM_ADDED,
     "Test patients: drawn from the ranges, or (model eleveld) adults of the files below."},
    {"variability", RGM_FLOAT, KEY(variability), "1", "1", 0, 10, NULL, RGM_ADDED,
     "Eleveld: scale of the standard deviations between patients, 0 for typical ones."},
    {"eta", RGM_CHOICE, KEY(eta), "", "variance", 0, 0, readings, RGM_ADDED,
     "Eleveld: what the published figures of variability are, variances or standard deviations."},
    {"opiates", RGM_BOOL, KEY(opiates), "", "false", 0, 0, NULL, RGM_ADDED,
     "Eleveld: whether patients are given opiates besides; estimates of individuals have their "
     "own."},
    {"sampling", RGM_CHOICE, KEY(sampling), "", "arterial", 0, 0, sites, RGM_ADDED,
     "Eleveld: vessel whose concentration drives the effect; individuals have their own."},
    {"delay", RGM_BOOL, KEY(delay), "", "false", 0, 0, NULL, RGM_ADDED,
     "Eleveld: the monitor shows LoU late, by 15 s + exp(0.0517 age) s."},
    {"pk_path", RGM_STRING, KEY(pk_path), "", "", 0, 0, NULL, RGM_PROVENANCE,
     "CSV of individual PK estimates, for cohorts individuals and individual_pk."},
    {"pd_path", RGM_STRING, KEY(pd_path), "", "", 0, 0, NULL, RGM_PROVENANCE,
     "CSV of individual PD estimates, for cohort individuals."},
    {"covariates_path", RGM_STRING, KEY(covariates_path), "", "", 0, 0, NULL, RGM_PROVENANCE,
     "Table of age, wgt, hgt and m1f2 for cohort nhanes; may be gzipped."},
    {0},
};


// ---- constants ---------------------------------------------------------------------------------

static rgm_status read_range(const rgm_config *where, const char *key, const rgm_list *list,
                             double range[2]) {
  if (list->count < 1 || list->count > 2 || list->value[list->count - 1] < list->value[0]) {
    return rgm_fail(RGM_ECONFIG, "%s: %s: expected [low, high] with low <= high",
                    rgm_config_where(where, key), key);
  }
  range[0] = list->value[0];
  range[1] = list->value[list->count - 1];
  return RGM_OK;
}


static pk_model generic_model(const propofol_keys *k) {
  return pk_schnider(k->generic_age, k->generic_weight, k->generic_height,
                     k->sex != PROPOFOL_FEMALE, k->generic_ke0);
}


// Everybody in the ranges must have positive clearance. CL1 has its minimum between the ends of
// weight and height, since lean mass bends, so a grid over both is tried; the rest is linear in
// age.
static rgm_status check_clearance(const propofol_config *c, const rgm_config *where) {
  enum { GRID = 16, POINTS = GRID + 1 };
  for (int i = 0; i < 4 * POINTS * POINTS; i++) {
    const int male = i & 1;
    if ((male && c->sex == PROPOFOL_FEMALE) || (!male && c->sex == PROPOFOL_MALE)) {
      continue;
    }
    const double u = (double)(i / 4 % POINTS) / GRID, v = (double)(i / 4 / POINTS) / GRID;
    const double age = c->age[i >> 1 & 1];
    const double weight = c->weight[0] + (c->weight[1] - c->weight[0]) * u;
    const double height = c->height[0] + (c->height[1] - c->height[0]) * v;
    const pk_model m = pk_schnider(age, weight, height, male, c->ke0[0]);
    if (m.cl1 <= 0 || m.cl2 <= 0 || m.v2 <= 0) {
      return rgm_fail(RGM_ECONFIG,
                      "%s: env: Schnider's model has no positive clearance for a %s of %g years, "
                      "%g kg, %g cm; narrow env.age, env.weight or env.height",
                      rgm_config_where(where, "env.weight"), male ? "man" : "woman", age, weight,
                      height);
    }
  }
  return RGM_OK;
}


static rgm_status propofol_prepare(const void *keys_, const rgm_config *where, void *config_) {
  const propofol_keys *k = keys_;
  propofol_config *c = config_;
  *c = (propofol_config){0};
  RGM_TRY(read_range(where, "env.age", &k->age, c->age));
  RGM_TRY(read_range(where, "env.height", &k->height, c->height));
  RGM_TRY(read_range(where, "env.weight", &k->weight, c->weight));
  RGM_TRY(read_range(where, "env.ke0", &k->ke0, c->ke0));
  RGM_TRY(read_range(where, "env.c50", &k->c50, c->c50));
  RGM_TRY(read_range(where, "env.gamma", &k->gamma, c->gamma));
  RGM_TRY(read_range(where, "env.target", &k->target, c->target));
  c->max_rate = k->max_rate;
  c->noise_sd = (float)k->noise_sd;
  c->sex = k->sex;
  c->targets = (int32_t)k->targets;
  c->phase_steps = (int32_t)((k->steps + k->targets - 1) / k->targets);
  c->model = k->model;
  c->opiates = k->opiates;
  c->venous = k->sampling;
  c->delay = k->delay;
  c->variability = k->variability;
  c->eta_sd = k->eta;
  RGM_TRY(eleveld_check(k, where));
  if (k->model == PROPOFOL_SCHNIDER) {
    RGM_TRY(check_clearance(c, where));
  }

  // the agent's model: the same modes as a patient's, with the generic covariates
  const pk_model model = generic_model(k);
  if (model.cl1 <= 0 || model.cl2 <= 0 || model.v2 <= 0) {
    return rgm_fail(RGM_ECONFIG,
                    "%s: env.generic_weight: the generic patient has no positive "
                    "clearance",
                    rgm_config_where(where, "env.generic_weight"));
  }
  const pk_modes modes = pk_decompose_apart(&model, PROPOFOL_GAP);
  float *const fall[] = {&c->fall1, &c->fall2, &c->fall3, &c->fall4};
  float *const gain[] = {&c->gain1, &c->gain2, &c->gain3, &c->gain4};
  float *const ahead[] = {&c->ahead1, &c->ahead2, &c->ahead3, &c->ahead4};
  for (int i = 0; i < PK_MODES; i++) {
    *fall[i] = (float)pk_fall(modes.lambda[i], PROPOFOL_STEP_MIN);
    *gain[i] =
        (float)(modes.weight[PK_CE][i] * pk_gain(modes.lambda[i], PROPOFOL_STEP_MIN) * k->max_rate);
    *ahead[i] = (float)rgm_expm164(-modes.lambda[i] * PROPOFOL_LAG * PROPOFOL_STEP_MIN);
  }
  return RGM_OK;
}


static int64_t propofol_steps(const void *keys) {
  return ((const propofol_keys *)keys)->steps;
}


// ---- Ziegler-Nichols ---------------------------------------------------------------------------

// The loop's plant at frequency w [rad/step]: from action to LoU, linearised at the tuning target.
static double complex plant(const pk_modes *modes, double slope, double max_rate, double w) {
  const double complex z = cexp(I * w);
  double complex sum = 0.0;
  for (int i = 0; i < PK_MODES; i++) {
    sum += modes->weight[PK_CE][i] * pk_gain(modes->lambda[i], PROPOFOL_STEP_MIN) /
           (z - pk_decay(modes->lambda[i], PROPOFOL_STEP_MIN));
  }
  return slope * max_rate * sum;
}


// Ultimate gain and period: the lowest frequency where the plant's phase is -180 degrees, which is
// where a proportional loop's spectral radius reaches one. ku in action per LoU, tu in s.
static void ultimate(const propofol_keys *k, double *ku, double *tu) {
  const pk_model model = generic_model(k);
  const pk_modes modes = pk_decompose(&model);
  const double level = k->tuning_target;
  const double ce = k->generic_c50 * pow(level / (1.0 - level), 1.0 / k->generic_gamma);
  const double slope = k->generic_gamma * level * (1.0 - level) / ce;

  // scan for the sign change of the imaginary part on the negative axis, then bisect
  double low = 1e-4, high = low;
  while (high < M_PI) {
    high = low * 1.01;
    const double complex g = plant(&modes, slope, k->max_rate, high);
    if (cimag(g) >= 0.0 && creal(g) < 0.0) {
      break;
    }
    low = high;
  }
  for (int i = 0; i < 100; i++) {
    const double middle = 0.5 * (low + high);
    if (cimag(plant(&modes, slope, k->max_rate, middle)) < 0.0) {
      low = middle;
    } else {
      high = middle;
    }
  }
  *ku = -1.0 / creal(plant(&modes, slope, k->max_rate, low));
  *tu = 2.0 * M_PI / low * (60.0 * PROPOFOL_STEP_MIN);
}


// The classic rule (Ziegler & Nichols 1942): kp = 0.6 ku, ti = tu / 2, td = tu / 8.
static rgm_status ziegler_nichols(const void *keys, float *params) {
  double ku, tu;
  ultimate(keys, &ku, &tu);
  if (!(ku > 0.0) || !isfinite(tu)) {
    return rgm_fail(RGM_ENUMERIC, "the generic patient has no ultimate gain at env.tuning_target");
  }
  params[PID_KP] = (float)(0.6 * ku);
  params[PID_KI] = (float)(1.2 * ku / tu);
  params[PID_KD] = (float)(0.075 * ku * tu);
  return RGM_OK;
}


// ---- metrics -----------------------------------------------------------------------------------

enum {
  MAPE,
  MPE,
  OOB_ABS,
  OOB_REL,
  RETURN,
  DOSE_TOTAL,
  DOSE_INDUCTION,
  DOSE_MAINTENANCE,
  WOBBLE,
  DIVERGENCE,
  METRICS
};

static const rgm_quantity metrics[] = {
    {"mape", "%",
     "median |PE| of the episode, PE = 100 (LoU - target) / target, induction included"},
    {"mpe", "%", "median PE of the episode"},
    {"oob_abs", "%", "share of time with |LoU - target| > 0.05"},
    {"oob_rel", "%", "share of time with |PE| > 5 %"},
    {"return", "1", "sum over steps of -|target - LoU|"},
    {"dose_total_mg", "mg", "propofol given"},
    {"dose_induction_mg", "mg", "given until LoU first comes within 0.05 of the target"},
    {"dose_maintenance", "mg/min", "mean rate after that"},
    {"wobble", "%", "median |PE - MPE| (Varvel 1992)"},
    {"divergence", "%/h", "slope of |PE| over time (Varvel 1992)"},
};


static void propofol_measure(const float *signals, int64_t steps, double *out) {
  double *work = malloc((size_t)steps * sizeof *work), *pe = malloc((size_t)steps * sizeof *pe);
  RGM_ASSERT(work != NULL && pe != NULL);
  double total = 0.0, induction = 0.0, absolute = 0.0, relative = 0.0, sum = 0.0;
  double cross = 0.0, square = 0.0, mean_ape = 0.0;
  int64_t induced = -1;
  for (int64_t t = 0; t < steps; t++) {
    const float *s = signals + t * PROPOFOL_SIGNALS;
    const double target = s[PROPOFOL_SIGNAL_TARGET], error = s[PROPOFOL_SIGNAL_LOU] - target;
    if (induced < 0 && error >= -0.05) {
      induced = t;
      induction = total;
    }
    pe[t] = 100.0 * error / target;
    absolute += fabs(error) > 0.05;
    relative += fabs(pe[t]) > 5.0;
    sum -= fabs(error);
    total += s[PROPOFOL_SIGNAL_RATE] * PROPOFOL_STEP_MIN;
    mean_ape += fabs(pe[t]) / (double)steps;
  }
  const double centre = 0.5 * (double)(steps - 1);
  for (int64_t t = 0; t < steps; t++) {
    cross += ((double)t - centre) * (fabs(pe[t]) - mean_ape);
    square += ((double)t - centre) * ((double)t - centre);
  }
  for (int64_t t = 0; t < steps; t++) {
    work[t] = fabs(pe[t]);
  }
  out[MAPE] = rgm_median(work, steps);
  memcpy(work, pe, (size_t)steps * sizeof *work);
  out[MPE] = rgm_median(work, steps);
  for (int64_t t = 0; t < steps; t++) {
    work[t] = fabs(pe[t] - out[MPE]);
  }
  out[WOBBLE] = rgm_median(work, steps);
  out[DIVERGENCE] = square > 0.0 ? cross / square / PROPOFOL_STEP_MIN * 60.0 : 0.0;
  out[OOB_ABS] = 100.0 * absolute / (double)steps;
  out[OOB_REL] = 100.0 * relative / (double)steps;
  out[RETURN] = sum;
  out[DOSE_TOTAL] = total;
  out[DOSE_INDUCTION] = induced >= 0 ? induction : total;
  out[DOSE_MAINTENANCE] =
      induced >= 0 && induced < steps
          ? (total - induction) / ((double)(steps - induced) * PROPOFOL_STEP_MIN)
          : NAN;
  free(work);
  free(pe);
}


// ---- measured concentrations -------------------------------------------------------------------

// one piece of an infusion: rate in mg/min over [begin, end) min; a bolus has begin == end
static double dose_end(const rgm_subject *s, int i) {
  return s->dose_rate[i] > 0.0 ? s->dose_time[i] + s->dose_amount[i] / s->dose_rate[i]
                               : s->dose_time[i];
}


// the typical model of a subject's covariates
static pk_model model_of(const propofol_keys *k, const rgm_subject *s) {
  if (k->model == PROPOFOL_SCHNIDER) {
    return pk_schnider(s->age, s->weight, s->height, s->male, 0.456);
  }
  const double typical[ELEVELD_ETAS] = {0.0};
  const eleveld_body b = {s->age,  eleveld_pma(s->age), s->weight,  s->height,
                          s->male, k->opiates,          k->sampling};
  const eleveld_person p = eleveld_of(&b, typical);
  return eleveld_model(&p);
}


// by superposition, exactly: every dose's share of every sample's modes
static rgm_status propofol_predict(const void *keys, const rgm_subject *s, double *concentration) {
  const pk_model model = model_of(keys, s);
  if (model.cl1 <= 0 || model.cl2 <= 0 || model.v2 <= 0) {
    return rgm_fail(RGM_EDATA, "a subject's covariates lie outside the model");
  }
  const pk_modes modes = pk_decompose(&model);
  for (int k = 0; k < s->sample_count; k++) {
    double state[PK_MODES] = {0.0};
    const double now = s->sample_time[k];
    for (int i = 0; i < s->dose_count; i++) {
      const double begin = s->dose_time[i], end = fmin(dose_end(s, i), now);
      if (begin >= now) {
        continue;
      }
      for (int m = 0; m < PK_MODES; m++) {
        const double decay = pk_decay(modes.lambda[m], now - end);
        state[m] += s->dose_rate[i] > 0.0
                        ? s->dose_rate[i] * pk_gain(modes.lambda[m], end - begin) * decay
                        : s->dose_amount[i] * decay;
      }
    }
    concentration[k] = pk_read(&modes, state, PK_C1);
  }
  return RGM_OK;
}


// ---- the row -----------------------------------------------------------------------------------

static const rgm_quantity observations[] = {
    {"error", "LoU", "target minus measured level"},
    {"trend", "mg/L", "predicted change of Ce over 30 s without drug, generic model"},
    {"change", "LoU", "change of the measured level over the last 30 s"},
    {"target", "LoU", "target"},
};
static const rgm_quantity actions[] = {{"infusion", "1", "share of the largest rate"}};
static const rgm_quantity signals_[] = {
    {"lou", "LoU", "true level of unconsciousness"},
    {"target", "LoU", "target in force"},
    {"ce", "mg/L", "effect site concentration"},
    {"rate", "mg/min", "infusion rate"},
};

static const rgm_baseline baselines[] = {
    {"pid_zn", "PID with Ziegler-Nichols gains of the linearised generic patient", RGM_CONTROL_PID,
     PID_PARAMS, ziegler_nichols, NULL},
    {0},
};

// Schamberg et al. 2020, results section
static const rgm_published published[] = {
    {"cem_continuous", "mape", "1.7 +- 0.6"},
    {"cem_continuous", "mpe", "near zero"},
    {"cem_continuous", "oob_abs", "6.0"},
    {"cem_continuous", "dose_total_mg", "2430 +- 763"},
    {"pid_zn", "mape", "3.4 +- 1.2 (noise fitted to it)"},
    {"pid_zn", "oob_abs", "12.4"},
    {"pid_zn", "dose_total_mg", "2457 +- 760"},
    {0},
};


// by instruction set: Schnider's patients, Eleveld's
#if defined(__x86_64__)
extern const rgm_env_kernels rgm_cpu_avx512_propofol_kernels, rgm_cpu_avx2_propofol_kernels;
extern const rgm_env_kernels rgm_cpu_avx512_eleveld_kernels, rgm_cpu_avx2_eleveld_kernels;
static const rgm_env_kernels *const kernels[][2] = {
    {&rgm_cpu_avx512_propofol_kernels, &rgm_cpu_avx512_eleveld_kernels},
    {&rgm_cpu_avx2_propofol_kernels, &rgm_cpu_avx2_eleveld_kernels},
};
#else
extern const rgm_env_kernels rgm_cpu_generic_propofol_kernels, rgm_cpu_generic_eleveld_kernels;
static const rgm_env_kernels *const kernels[][2] = {
    {&rgm_cpu_generic_propofol_kernels, &rgm_cpu_generic_eleveld_kernels},
};
#endif

// another backend than the CPU's brings its own, by name
static const rgm_env_kernels *kernels_for(int model, const rgm_backend *backend) {
  if (backend->env_kernels != NULL) {
    return backend->env_kernels(model == PROPOFOL_SCHNIDER ? "propofol" : "eleveld");
  }
  for (size_t i = 0; i < sizeof kernels / sizeof *kernels; i++) {
    if (strcmp(kernels[i][model]->isa, backend->isa) == 0) {
      return kernels[i][model];
    }
  }
  return NULL;
}


static const rgm_env_kernels *propofol_kernels(const rgm_backend *backend) {
  return kernels_for(PROPOFOL_SCHNIDER, backend);
}


static const rgm_env_kernels *propofol_kernels_of(const void *keys, const rgm_backend *backend) {
  return kernels_for(((const propofol_keys *)keys)->model, backend);
}


extern const rgm_env rgm_propofol;
const rgm_env rgm_propofol = {
    .name = "propofol",
    .paper = "Schamberg et al. 2020 (AIME); Schnider et al. 1998; Eleveld et al. 2018",
    .doc = "Titration of propofol to a level of unconsciousness, one infusion rate every 5 s.",
    .fields = fields,
    .keys_size = sizeof(propofol_keys),
    .config_size = sizeof(propofol_config),
    .prepare = propofol_prepare,
    .steps = propofol_steps,
    .obs_dim = PROPOFOL_OBS,
    .act_dim = PROPOFOL_ACT,
    .signal_dim = PROPOFOL_SIGNALS,
    .patient_words = PROPOFOL_WORDS,
    .obs = observations,
    .act = actions,
    .signals = signals_,
    .step_min = PROPOFOL_STEP_MIN,
    .plot_value = PROPOFOL_SIGNAL_LOU,
    .plot_target = PROPOFOL_SIGNAL_TARGET,
    .plot_action = PROPOFOL_SIGNAL_RATE,
    .metric_count = METRICS,
    .metrics = metrics,
    .loss_metric = MAPE,
    .measure = propofol_measure,
    .baselines = baselines,
    .published = published,
    .predict = propofol_predict,
    .kernels = propofol_kernels,
    .kernels_of = propofol_kernels_of,
    .scenarios = eleveld_scenarios,
    .patients = eleveld_patients,
    .reachable = eleveld_reachable,
};
