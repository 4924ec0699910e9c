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
} cartpole_keys;

#define KEY(member) offsetof(cartpole_keys, member)
#define NUMBER(name, member, unit, fallback, min, max, doc) \
  { name, RGM_FLOAT, KEY(member), unit, fallback, min, max, NULL, 0, doc }

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
    {0},
};


static rgm_status cartpole_prepare(const void *keys, const rgm_config *where, void *config) {
  const cartpole_keys *k = keys;
  const double total = k->mass_cart + k->mass_pole;
  (void)where;
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
static const rgm_baseline baselines[] = {{0}};
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
};
