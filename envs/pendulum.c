// SPDX-License-Identifier: Apache-2.0
// The pendulum on the host: keys, derived constants, metrics. Its dynamics, and where they come
// from: pendulum.h.

#include "envs/pendulum.h"
#include "engine/engine.h"

#include <math.h>
#include <string.h>

typedef struct pendulum_keys {
  int64_t steps;
  double g, mass, length, dt, max_speed, start_angle, start_speed;
} pendulum_keys;

#define KEY(member) offsetof(pendulum_keys, member)
#define NUMBER(name, member, unit, fallback, min, max, doc) \
  { name, RGM_FLOAT, KEY(member), unit, fallback, min, max, NULL, 0, doc }

// defaults: Pendulum-v1 of Gymnasium
static const rgm_field fields[] = {
    {"steps", RGM_INT, KEY(steps), "1", "200", 1, 1000000, NULL, RGM_SHAPE,
     "Length of an episode in steps of env.dt."},
    NUMBER("g", g, "m/s^2", "10", 0, 1000, "Acceleration of gravity."),
    NUMBER("mass", mass, "kg", "1", 0.001, 1000, "Mass of the rod."),
    NUMBER("length", length, "m", "1", 0.001, 1000, "Its length."),
    NUMBER("dt", dt, "s", "0.05", 0.0001, 1, "Time of a step."),
    NUMBER("max_speed", max_speed, "rad/s", "8", 0.01, 1000, "Largest speed, either way."),
    NUMBER("start_angle", start_angle, "rad", "3.141592653589793", 0, 3.141592653589793,
           "Starts are uniform, so far from upright either way."),
    NUMBER("start_speed", start_speed, "rad/s", "1", 0, 1000,
           "Speeds at the start are uniform, so much either way."),
    {0},
};


static rgm_status pendulum_prepare(const void *keys, const rgm_config *where, void *config) {
  const pendulum_keys *k = keys;
  (void)where;
  const pendulum_config c = {
      .start_angle = k->start_angle,
      .start_speed = k->start_speed,
      .pull = (float)(3.0 * k->g / (2.0 * k->length)),
      .push = (float)(3.0 / (k->mass * k->length * k->length)),
      .dt = (float)k->dt,
      .max_speed = (float)k->max_speed,
  };
  memcpy(config, &c, sizeof c);
  return RGM_OK;
}


static int64_t pendulum_steps(const void *keys) {
  return ((const pendulum_keys *)keys)->steps;
}


// ---- metrics -----------------------------------------------------------------------------------

enum { METRIC_ANGLE, METRIC_RETURN, METRIC_TORQUE, METRICS };

static const rgm_quantity metrics[] = {
    {"angle", "rad", "mean distance from upright"},
    {"return", "1", "sum of rewards"},
    {"torque", "N m", "mean size of the torque"},
};


static void pendulum_measure(const float *signals, int64_t steps, double *out) {
  double angle = 0.0, sum = 0.0, torque = 0.0;
  for (int64_t t = 0; t < steps; t++) {
    const float *s = signals + t * PENDULUM_SIGNALS;
    angle += fabs((double)s[PENDULUM_SIGNAL_ANGLE]);
    sum += (double)s[PENDULUM_SIGNAL_REWARD];
    torque += fabs((double)s[PENDULUM_SIGNAL_TORQUE]);
  }
  out[METRIC_ANGLE] = angle / (double)steps;
  out[METRIC_RETURN] = sum;
  out[METRIC_TORQUE] = torque / (double)steps;
}


// ---- the row -----------------------------------------------------------------------------------

static const rgm_quantity observations[] = {
    {"cos", "1", "cosine of the angle from upright"},
    {"sin", "1", "sine of the angle from upright"},
    {"speed", "rad/s", "angular speed"},
};
static const rgm_quantity actions[] = {
    {"torque", "N m", "torque"},
};
static const rgm_quantity signals_[] = {
    {"angle", "rad", "angle from upright at the start of the step"},
    {"speed", "rad/s", "angular speed at the start of the step"},
    {"torque", "N m", "torque"},
    {"reward", "1", "reward"},
};
static const float low[] = {-PENDULUM_TORQUE}, high[] = {PENDULUM_TORQUE};
static const rgm_baseline baselines[] = {{0}};
static const rgm_published published[] = {{0}};

#if defined(__x86_64__)
extern const rgm_env_kernels rgm_cpu_avx512_pendulum_kernels, rgm_cpu_avx2_pendulum_kernels;
static const rgm_env_kernels *const kernels[] = {&rgm_cpu_avx512_pendulum_kernels,
                                                 &rgm_cpu_avx2_pendulum_kernels};
#else
extern const rgm_env_kernels rgm_cpu_generic_pendulum_kernels;
static const rgm_env_kernels *const kernels[] = {&rgm_cpu_generic_pendulum_kernels};
#endif


static const rgm_env_kernels *pendulum_kernels(const rgm_backend *backend) {
  if (backend->env_kernels != NULL) {
    return backend->env_kernels("pendulum");
  }
  for (size_t i = 0; i < sizeof kernels / sizeof *kernels; i++) {
    if (strcmp(kernels[i]->isa, backend->isa) == 0) {
      return kernels[i];
    }
  }
  return NULL;
}


extern const rgm_env rgm_pendulum;
const rgm_env rgm_pendulum = {
    .name = "pendulum",
    .paper = "Towers et al. 2024 (Gymnasium, Pendulum-v1)",
    .doc = "A pendulum to be swung up and held by a torque that cannot lift it at once.",
    .fields = fields,
    .keys_size = sizeof(pendulum_keys),
    .config_size = sizeof(pendulum_config),
    .prepare = pendulum_prepare,
    .steps = pendulum_steps,
    .obs_dim = PENDULUM_OBS,
    .act_dim = PENDULUM_ACT,
    .signal_dim = PENDULUM_SIGNALS,
    .patient_words = PENDULUM_WORDS,
    .act_low = low,
    .act_high = high,
    .obs = observations,
    .act = actions,
    .signals = signals_,
    .step_min = 0.05 / 60.0,
    .plot_value = PENDULUM_SIGNAL_ANGLE,
    .plot_target = -1,
    .plot_action = PENDULUM_SIGNAL_TORQUE,
    .metric_count = METRICS,
    .metrics = metrics,
    .loss_metric = METRIC_ANGLE,
    .measure = pendulum_measure,
    .baselines = baselines,
    .published = published,
    .kernels = pendulum_kernels,
    .return_metric = METRIC_RETURN,
};
