// SPDX-License-Identifier: Apache-2.0
// Controllers that run inside the fused episode loop, one source for every backend. The policy is
// in kernels/policy.h; this file turns its logit into actions and holds the PID controller.
//
// An environment that PID controls observes the error in obs[0] and the change of the measurement
// over the last 30 s in obs[2].

#ifndef RGM_CONTROLLERS_H
#define RGM_CONTROLLERS_H

#include "kernels/scalar.h"

enum { PID_KP, PID_KI, PID_KD, PID_PARAMS };
#define PID_STEP_S 5.0f
#define PID_LAG_S 30.0f


// Action of the stochastic policy: 1 with probability sigmoid(z), for a standard logistic variate.
RGM_FN float policy_stochastic(float z, float logistic) {
  return z > logistic ? 1.0f : 0.0f;
}


RGM_FN float policy_deterministic(float z) {
  return z > 0.0f ? 1.0f : 0.0f;
}


RGM_FN float policy_continuous(float z) {
  return rgm_sigmoid(z);
}


// u = clip(kp e + ki sum(e dt) + kd de/dt, 0, 1), derivative on the measurement over its 30 s lag
// (no kick when the target moves). Anti-windup by clamping: while the output is saturated in the
// direction of the error, the integral rests.
RGM_FN float pid_act(float *integral, const float *params, float error, float change) {
  const float next = rgm_fma(error, PID_STEP_S, *integral);
  const float rest = rgm_fma(params[PID_KP], error, -(params[PID_KD] / PID_LAG_S) * change);
  const float raw = rgm_fma(params[PID_KI], next, rest);
  const int high = (raw > 1.0f) & (error > 0.0f), low = (raw < 0.0f) & (error < 0.0f);
  *integral = (high | low) ? *integral : next;
  return rgm_clamp(rgm_fma(params[PID_KI], *integral, rest), 0.0f, 1.0f);
}

#endif
