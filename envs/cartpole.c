// SPDX-License-Identifier: Apache-2.0
// The pole on a cart on the host: keys, derived constants, metrics. Its dynamics, and where they
// come from: cartpole.h.

#include "envs/cartpole.h"
#include "engine/engine.h"

#include <math.h>
#include <string.h>

typedef struct cartpole_keys {
  int64_t steps;
  double g, mass_cart, mass_pole, length, force, dt, limit_x, limit_angle, start;
  double gain_x, gain_speed, gain_angle, gain_rate, random_low, random_high;
} cartpole_keys;

#define KEY(member) offsetof(cartpole_keys, member)
#define NUMBER(name, member, unit, fallback, min, max, doc) \
  { name, RGM_FLOAT, KEY(member), unit, fallback, min, max, NULL, 0, doc }
#define CLINICIAN(name, member, unit, fallback, min, max, doc) \
  { name, RGM_FLOAT, KEY(member), unit, fallback, min, max, NULL, RGM_ADDED, doc }

// defaults: CartPole-v1 of Gymnasium
static const rgm_field fields[] = {
    {"steps", RGM_INT, KEY(steps), "1", "500", 1, 1000000, NULL, RGM_SHAPE,
     "Length of an episode that nothing ends before, in steps of env.dt."},
    NUMBER("g", g, "m/s^2", "9.8", 0, 1000, "Acceleration of gravity."),
    NUMBER("mass_cart", mass_cart, "kg", "1", 0.001, 1000, "Mass of the cart."),
    NUMBER("mass_pole", mass_pole, "kg", "0.1", 0.001, 1000, "Mass of the pole."),
    NUMBER("length", length, "m", "0.5", 0.001, 1000, "Half the length of the pole."),
    NUMBER("force", force, "N", "10", 0, 10000, "Force of a push."),
    NUMBER("dt", dt, "s", "0.02", 0.0001, 1, "Time of a step."),
    NUMBER("limit_x", limit_x, "m", "2.4", 0, 1000,
           "How far the cart may go from the middle before the episode ends."),
    NUMBER("limit_angle", limit_angle, "deg", "12", 0, 90,
           "How far the pole may lean before the episode ends."),
    NUMBER("start", start, "1", "0.05", 0, 1,
           "Place [m], speed [m/s], angle [rad] and rate [rad/s] at the start are uniform, so much "
           "either way."),
    CLINICIAN("gain_x", gain_x, "1/m", "0.05", -1000, 1000,
              "Clinician: pushes right where the sum of gains times what is seen is above 0."),
    CLINICIAN("gain_speed", gain_speed, "s/m", "0.1", -1000, 1000, "Likewise, of the speed."),
    CLINICIAN("gain_angle", gain_angle, "1/rad", "1", -1000, 1000, "Likewise, of the angle."),
    CLINICIAN("gain_rate", gain_rate, "s/rad", "0.25", -1000, 1000, "Likewise, of its rate."),
    CLINICIAN("random_low", random_low, "1", "0", 0, 1,
              "Clinician: the share of random pushes of an episode is uniform from here ..."),
    CLINICIAN("random_high", random_high, "1", "1", 0, 1, "... to here."),
    {0},
};


static rgm_status cartpole_prepare(const void *keys, const rgm_config *where, void *config) {
  const cartpole_keys *k = keys;
  const double total = k->mass_cart + k->mass_pole;
  if (k->random_low > k->random_high) {
    return rgm_fail(RGM_ECONFIG, "%s: env.random_low: %g is above random_high, %g",
                    rgm_config_where(where, "env.random_low"), k->random_low, k->random_high);
  }
  const cartpole_config c = {
      .start = k->start,
      .g = (float)k->g,
      .force = (float)k->force,
      .dt = (float)k->dt,
      .arm = (float)(k->mass_pole * k->length / total),
      .pole = (float)(k->mass_pole / total),
      .total = (float)total,
      .length = (float)k->length,
      .limit_x = (float)k->limit_x,
      .limit_angle = (float)(k->limit_angle * M_PI / 180.0),
  };
  memcpy(config, &c, sizeof c);
  return RGM_OK;
}


static int64_t cartpole_steps(const void *keys) {
  return ((const cartpole_keys *)keys)->steps;
}


// ---- metrics -----------------------------------------------------------------------------------

enum { METRIC_FELL, METRIC_RETURN, METRIC_ANGLE, METRIC_PLACE, METRICS };

static const rgm_quantity metrics[] = {
    {"ended_early", "%", "episodes that a fall or the end of the track ended before their time"},
    {"return", "1", "sum of rewards: steps until the end"},
    {"angle", "deg", "mean angle of the pole from upright, until the end"},
    {"place", "m", "mean distance of the cart from the middle, until the end"},
};


static void cartpole_measure(const float *signals, int64_t steps, double *out) {
  double sum = 0.0, angle = 0.0, place = 0.0;
  for (int64_t t = 0; t < steps; t++) {
    const float *s = signals + t * CARTPOLE_SIGNALS;
    const double live = (double)s[CARTPOLE_SIGNAL_REWARD];
    sum += live;
    angle += live * fabs((double)s[CARTPOLE_SIGNAL_ANGLE]);
    place += live * fabs((double)s[CARTPOLE_SIGNAL_X]);
  }
  // the step that ends an episode is rewarded: one that does so in the last step counts as whole
  out[METRIC_FELL] = sum < (double)steps ? 100.0 : 0.0;
  out[METRIC_RETURN] = sum;
  out[METRIC_ANGLE] = angle / sum * 180.0 / M_PI;
  out[METRIC_PLACE] = place / sum;
}


// ---- the row -----------------------------------------------------------------------------------

static const rgm_quantity observations[] = {
    {"x", "m", "place of the cart"},
    {"speed", "m/s", "its speed"},
    {"angle", "rad", "angle of the pole from upright"},
    {"rate", "rad/s", "its rate"},
};
static const rgm_quantity actions[] = {
    {"push", "1", "0 to the left, 1 to the right"},
};
static const rgm_quantity signals_[] = {
    {"x", "m", "place of the cart at the start of the step"},
    {"angle", "rad", "angle of the pole at the start of the step"},
    {"force", "N", "force of the push, 0 after the end"},
    {"reward", "1", "reward: 1 while the episode runs"},
};
static const rgm_quantity parameters[] = {
    {"gain_x", "1/m", ""},      {"gain_speed", "s/m", ""}, {"gain_angle", "1/rad", ""},
    {"gain_rate", "s/rad", ""}, {"random_low", "1", ""},   {"random_high", "1", ""},
};


static rgm_status clinician(const void *keys, float *params) {
  const cartpole_keys *k = keys;
  params[CLINICIAN_X] = (float)k->gain_x;
  params[CLINICIAN_SPEED] = (float)k->gain_speed;
  params[CLINICIAN_ANGLE] = (float)k->gain_angle;
  params[CLINICIAN_RATE] = (float)k->gain_rate;
  params[CLINICIAN_LOW] = (float)k->random_low;
  params[CLINICIAN_HIGH] = (float)k->random_high;
  return RGM_OK;
}


static rgm_status expert(const void *keys, float *params) {
  RGM_TRY(clinician(keys, params));
  params[CLINICIAN_LOW] = params[CLINICIAN_HIGH] = 0.0f;
  return RGM_OK;
}


static rgm_status at_random(const void *keys, float *params) {
  RGM_TRY(clinician(keys, params));
  params[CLINICIAN_LOW] = params[CLINICIAN_HIGH] = 1.0f;
  return RGM_OK;
}


static const rgm_baseline baselines[] = {
    {"expert", "the linear rule of env.gain_*", RGM_CONTROL_CLINICIAN, CLINICIAN_PARAMS, expert,
     parameters},
    {"clinician", "the same with a share of random pushes: who writes the data sets",
     RGM_CONTROL_CLINICIAN, CLINICIAN_PARAMS, clinician, parameters},
    {"random", "random pushes alone", RGM_CONTROL_CLINICIAN, CLINICIAN_PARAMS, at_random,
     parameters},
    {0},
};
static const rgm_published published[] = {{0}};

#if defined(__x86_64__)
extern const rgm_env_kernels rgm_cpu_avx512_cartpole_kernels, rgm_cpu_avx2_cartpole_kernels;
static const rgm_env_kernels *const kernels[] = {&rgm_cpu_avx512_cartpole_kernels,
                                                 &rgm_cpu_avx2_cartpole_kernels};
#else
extern const rgm_env_kernels rgm_cpu_generic_cartpole_kernels;
static const rgm_env_kernels *const kernels[] = {&rgm_cpu_generic_cartpole_kernels};
#endif


static const rgm_env_kernels *cartpole_kernels(const rgm_backend *backend) {
  if (backend->env_kernels != NULL) {
    return backend->env_kernels("cartpole");
  }
  for (size_t i = 0; i < sizeof kernels / sizeof *kernels; i++) {
    if (strcmp(kernels[i]->isa, backend->isa) == 0) {
      return kernels[i];
    }
  }
  return NULL;
}


// the rows of episodes: cartpole_data.c
rgm_status cartpole_fill(const cartpole_config *c, const rgm_episodes *e, rgm_dataset **out);


static rgm_status cartpole_record(const void *keys, const rgm_episodes *episodes,
                                  rgm_dataset **out) {
  cartpole_config config;
  RGM_TRY(cartpole_prepare(keys, NULL, &config));
  return cartpole_fill(&config, episodes, out);
}


extern const rgm_env rgm_cartpole;
const rgm_env rgm_cartpole = {
    .name = "cartpole",
    .paper = "Barto, Sutton & Anderson 1983; Towers et al. 2024 (Gymnasium, CartPole-v1)",
    .doc = "A pole on a cart that is pushed left or right to keep it upright.",
    .fields = fields,
    .keys_size = sizeof(cartpole_keys),
    .config_size = sizeof(cartpole_config),
    .prepare = cartpole_prepare,
    .steps = cartpole_steps,
    .obs_dim = CARTPOLE_OBS,
    .act_dim = CARTPOLE_ACT,
    .signal_dim = CARTPOLE_SIGNALS,
    .patient_words = CARTPOLE_WORDS,
    .choices = CARTPOLE_CHOICES,
    .obs = observations,
    .act = actions,
    .signals = signals_,
    .step_min = 0.02 / 60.0,
    .plot_value = CARTPOLE_SIGNAL_ANGLE,
    .plot_target = -1,
    .plot_action = CARTPOLE_SIGNAL_FORCE,
    .metric_count = METRICS,
    .metrics = metrics,
    .loss_metric = METRIC_FELL,
    .measure = cartpole_measure,
    .baselines = baselines,
    .published = published,
    .kernels = cartpole_kernels,
    .return_metric = METRIC_RETURN,
    .record = cartpole_record,
};
