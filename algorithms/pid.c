// SPDX-License-Identifier: Apache-2.0
// PID control alone: nothing is trained; evaluation runs the environment's own baselines (their
// gains come from the program itself) and, where the keys give gains, a controller with those.

#include "engine/engine.h"

typedef struct pid_keys {
  double kp, ki, kd;
} pid_keys;

#define KEY(member) offsetof(pid_keys, member)

static const rgm_field fields[] = {
    {"kp", RGM_FLOAT, KEY(kp), "1/LoU", "0", 0, 1e6, NULL, 0,
     "Proportional gain of an extra controller, 0 for none."},
    {"ki", RGM_FLOAT, KEY(ki), "1/(LoU s)", "0", 0, 1e6, NULL, 0, "Its integral gain."},
    {"kd", RGM_FLOAT, KEY(kd), "s/LoU", "0", 0, 1e6, NULL, 0, "Its derivative gain."},
    {0},
};

typedef struct pid {
  rgm_tensor gains; // (R, 3) kp, ki, kd
} pid;


static rgm_status pid_check(const rgm_run *run) {
  const pid_keys *k = rgm_algorithm_keys(run, 0);
  bool fits = k->kp == 0.0;
  for (const rgm_baseline *b = run->env->baselines; b->name != NULL; b++) {
    fits = fits || b->control == RGM_CONTROL_PID;
  }
  return fits ? RGM_OK
              : rgm_fail(RGM_ECONFIG, "%s: algorithm.kp: %s is not for PID control",
                         rgm_config_where(run->config, "algorithm.kp"), run->env->name);
}


static rgm_status pid_plan(rgm_run *run) {
  pid *s = run->self;
  s->gains = rgm_plan(run->arena, "gains", RGM_F32, RGM_STATE, "replica, gain", "1", run->replicas,
                      3, 0, 0);
  return RGM_OK;
}


static rgm_status pid_init(rgm_run *run) {
  const pid *s = run->self;
  for (int64_t r = 0; r < run->replicas; r++) {
    const pid_keys *k = rgm_algorithm_keys(run, r);
    const float gains[] = {(float)k->kp, (float)k->ki, (float)k->kd};
    rgm_copy(run->stream, (float *)s->gains.data + 3 * r, gains, sizeof gains);
  }
  return rgm_sync(run->stream);
}


static int pid_contenders(rgm_run *run, rgm_contender *out, int max) {
  const pid *s = run->self;
  const pid_keys *k = rgm_algorithm_keys(run, 0);
  if (k->kp == 0.0 || max < 1) {
    return 0;
  }
  out[0] = (rgm_contender){.name = "pid", .control = RGM_CONTROL_PID, .params = s->gains};
  return 1;
}


const rgm_algorithm rgm_pid = {
    .name = "pid",
    .paper = "Ziegler & Nichols 1942",
    .doc = "PID control with given gains, beside the environment's own baselines.",
    .fields = fields,
    .keys_size = sizeof(pid_keys),
    .self_size = sizeof(pid),
    .needs = RGM_NEEDS_ENV | RGM_TRAINS_NOT,
    .check = pid_check,
    .plan = pid_plan,
    .init = pid_init,
    .contenders = pid_contenders,
};
