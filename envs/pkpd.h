// SPDX-License-Identifier: Apache-2.0
// Three-compartment pharmacokinetics with an effect site, in double, by exact modes.
//
// In concentrations (mg/L): C1' = -(k10+k12+k13) C1 + k12 C2 + k13 C3 + u/V1, C2' = k21 (C1 - C2),
// C3' = k31 (C1 - C3), Ce' = ke0 (C1 - Ce); u in mg/min, rates in 1/min, volumes in L.
// Each concentration is a sum over four modes with m_i' = -lambda_i m_i + u: C_k = sum_i
// weight[k][i] m_i, so a constant u over dt is one exact step. Schnider et al. 1998
// (Anesthesiology 88:1170).

#ifndef RGM_PKPD_H
#define RGM_PKPD_H

#include "kernels/scalar.h"

typedef struct pk_model {
  double v1, v2, v3;              // L
  double cl1, cl2, cl3;           // L/min
  double k10, k12, k13, k21, k31; // 1/min
  double ke0;                     // 1/min
} pk_model;

enum { PK_C1, PK_C2, PK_C3, PK_CE, PK_OUTPUTS, PK_MODES = 4 };

typedef struct pk_modes {
  double lambda[PK_MODES];             // 1/min; three of the compartments, then ke0
  double weight[PK_OUTPUTS][PK_MODES]; // 1/L
} pk_modes;


// Lean body mass (James), kg; weight in kg, height in cm. Turns over at BMI 43.0 (men), 36.1
// (women).
RGM_FN double pk_lean_mass(double weight, double height, int male) {
  const double ratio = weight / height;
  return male ? 1.1 * weight - 128.0 * (ratio * ratio) : 1.07 * weight - 148.0 * (ratio * ratio);
}


// Schnider's propofol model; age in years (< 101.3, where V2 vanishes), kg, cm, ke0 in 1/min.
RGM_FN pk_model pk_schnider(double age, double weight, double height, int male, double ke0) {
  pk_model m;
  const double lean = pk_lean_mass(weight, height, male);
  m.v1 = 4.27;
  m.v2 = 18.9 - 0.391 * (age - 53.0);
  m.v3 = 238.0;
  m.cl1 = 1.89 + 0.0456 * (weight - 77.0) - 0.0681 * (lean - 59.0) + 0.0264 * (height - 177.0);
  m.cl2 = 1.29 - 0.024 * (age - 53.0);
  m.cl3 = 0.836;
  m.k10 = m.cl1 / m.v1;
  m.k12 = m.cl2 / m.v1;
  m.k13 = m.cl3 / m.v1;
  m.k21 = m.cl2 / m.v2;
  m.k31 = m.cl3 / m.v3;
  m.ke0 = ke0;
  return m;
}


// Modes of a model. The characteristic cubic has three real roots that k21 and k31 separate;
// Newton's method started outside them approaches the outer two monotonically, and their product
// with the middle one is known. Where ke0 comes within `gap` of a rate of the compartments,
// relatively, it is moved to that distance: the modes of equal rates would cancel.
RGM_FN pk_modes pk_decompose_apart(const pk_model *m, double gap) {
  pk_modes out;
  const double a = m->k10 + m->k12 + m->k13 + m->k21 + m->k31;
  const double b =
      m->k10 * m->k21 + m->k10 * m->k31 + m->k21 * m->k31 + m->k12 * m->k31 + m->k13 * m->k21;
  const double c = m->k10 * m->k21 * m->k31;
  double high = a, low = 0.0;
  for (int i = 0; i < 40; i++) {
    high = high - (((high - a) * high + b) * high - c) / ((3.0 * high - 2.0 * a) * high + b);
    low = low - (((low - a) * low + b) * low - c) / ((3.0 * low - 2.0 * a) * low + b);
  }
  out.lambda[0] = high;
  out.lambda[1] = c / (high * low);
  out.lambda[2] = low;

  double ke0 = m->ke0;
  for (int i = 0; i < 3; i++) {
    const double distance = ke0 - out.lambda[i];
    if ((distance < 0.0 ? -distance : distance) < gap * ke0) {
      ke0 = out.lambda[i] * (1.0 + gap);
    }
  }
  out.lambda[3] = ke0;

  // residues of the transfer functions at s = -lambda_i
  double effect = 1.0;
  for (int i = 0; i < 3; i++) {
    const double l = out.lambda[i];
    const double p = out.lambda[(i + 1) % 3] - l, q = out.lambda[(i + 2) % 3] - l;
    const double scale = 1.0 / (m->v1 * p * q);
    out.weight[PK_C1][i] = (m->k21 - l) * (m->k31 - l) * scale;
    out.weight[PK_C2][i] = m->k21 * (m->k31 - l) * scale;
    out.weight[PK_C3][i] = m->k31 * (m->k21 - l) * scale;
    out.weight[PK_CE][i] = out.weight[PK_C1][i] * (ke0 / (ke0 - l));
    effect = effect * (l - ke0);
  }
  out.weight[PK_C1][3] = 0.0;
  out.weight[PK_C2][3] = 0.0;
  out.weight[PK_C3][3] = 0.0;
  out.weight[PK_CE][3] = ke0 * (m->k21 - ke0) * (m->k31 - ke0) / (m->v1 * effect);
  return out;
}


// The same in full double precision.
RGM_FN pk_modes pk_decompose(const pk_model *m) {
  return pk_decompose_apart(m, 1e-6);
}


// A mode over dt minutes of constant input: m <- decay m + gain u = m + fall m + gain u, exactly.
RGM_FN double pk_decay(double lambda, double dt) {
  return rgm_exp64(-lambda * dt);
}
RGM_FN double pk_fall(double lambda, double dt) {
  return rgm_expm164(-lambda * dt);
}
RGM_FN double pk_gain(double lambda, double dt) {
  return -rgm_expm164(-lambda * dt) / lambda;
}


// Advances modes by dt minutes of u mg/min.
RGM_FN void pk_advance(const pk_modes *modes, double *state, double u, double dt) {
  for (int i = 0; i < PK_MODES; i++) {
    const double decay = pk_decay(modes->lambda[i], dt);
    state[i] = rgm_fma64(pk_gain(modes->lambda[i], dt), u, decay * state[i]);
  }
}


// Concentration of output k (PK_C1 ... PK_CE), mg/L.
RGM_FN double pk_read(const pk_modes *modes, const double *state, int k) {
  double sum = 0.0;
  for (int i = 0; i < PK_MODES; i++) {
    sum = rgm_fma64(modes->weight[k][i], state[i], sum);
  }
  return sum;
}

#endif
