// SPDX-License-Identifier: Apache-2.0
// The sepsis simulator of Oberst & Sontag 2019 (ICML, "Counterfactual off-policy evaluation with
// Gumbel-max structural causal models") as an exact tabular problem: 1,440 states = diabetes 2 x
// heart rate 3 x blood pressure 3 x oxygen 2 x glucose 5 x antibiotics, vasopressors, ventilation;
// 8 actions = 4 antibiotics + 2 ventilation + vasopressors. A step is a product of small moves:
// antibiotics, ventilation, vasopressors, then what fluctuates by itself.
//
// The published code lets glucose of people without diabetes rise by min(1, g + 1), so that high
// values fall to 1 and normal ones are never reached again from below; env.glucose_cap: 4 mends it.

#include "engine/mdp.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

typedef struct gumbel_keys {
  int64_t glucose_cap;
  double diabetic;
} gumbel_keys;

#define KEY(member) offsetof(gumbel_keys, member)

static const rgm_field fields[] = {
    {"glucose_cap", RGM_INT, KEY(glucose_cap), "1", "4", 1, 4, NULL, RGM_SHAPE,
     "Highest level to which glucose rises without diabetes; 1 is what was published, 4 the "
     "intent."},
    {"diabetic", RGM_FLOAT, KEY(diabetic), "1", "0.2", 0, 1, NULL, RGM_SHAPE,
     "Share of patients with diabetes."},
    {0},
};

// Vital signs as one number, and their levels.
enum { HR, SBP, OXY, GLU, SIGNS };
enum { VITALS = 90, STATES = 1440, ACTIONS = 8, NORMAL = 1 };
static const int levels[SIGNS] = {3, 3, 2, 5};
static const int strides[SIGNS] = {30, 10, 5, 1};


static int level(int vital, int sign) {
  return vital / strides[sign] % levels[sign];
}


// From every vital state where `sign` is at `from`: to `to` with probability p, else it stays.
static void move(double *dist, int sign, int from, int to, double p) {
  double next[VITALS];
  memcpy(next, dist, sizeof next);
  for (int v = 0; v < VITALS; v++) {
    if (level(v, sign) == from && to != from) {
      next[v] -= p * dist[v];
      next[v + (to - from) * strides[sign]] += p * dist[v];
    }
  }
  memcpy(dist, next, sizeof next);
}


// Two moves of one sign that exclude each other, as one step: from a to b or c.
static void fork_move(double *dist, int sign, int from, int to, double p, int other, double q) {
  double next[VITALS];
  memcpy(next, dist, sizeof next);
  for (int v = 0; v < VITALS; v++) {
    if (level(v, sign) == from) {
      next[v] -= (p + q) * dist[v];
      next[v + (to - from) * strides[sign]] += p * dist[v];
      next[v + (other - from) * strides[sign]] += q * dist[v];
    }
  }
  memcpy(dist, next, sizeof next);
}


// Every level goes down with probability p and up with p, at most to `cap`.
static void fluctuate(double *dist, int sign, double p, int cap) {
  double next[VITALS] = {0.0};
  for (int v = 0; v < VITALS; v++) {
    const int at = level(v, sign), down = at > 0 ? at - 1 : 0, up = at + 1 < cap ? at + 1 : cap;
    next[v] += (1.0 - 2.0 * p) * dist[v];
    next[v + (down - at) * strides[sign]] += p * dist[v];
    next[v + (up - at) * strides[sign]] += p * dist[v];
  }
  memcpy(dist, next, sizeof next);
}


static void vasopressors(double *dist, bool on, bool diabetic) {
  if (on && !diabetic) {
    move(dist, SBP, 1, 2, 0.7);
    move(dist, SBP, 0, 1, 0.7);
  } else if (on) {
    move(dist, SBP, 1, 2, 0.9);
    fork_move(dist, SBP, 0, 1, 0.5, 2, 0.4);
    for (int g = 3; g >= 0; g--) {
      move(dist, GLU, g, g + 1, 0.5);
    }
  } else {
    const double p = diabetic ? 0.05 : 0.1;
    move(dist, SBP, 1, 0, p);
    move(dist, SBP, 2, 1, p);
  }
}


// What becomes of one state under one action: a distribution over vital signs.
static void step_vitals(const gumbel_keys *k, int state, int action, double *dist) {
  const bool diabetic = state >= STATES / 2, abx = (state & 4) != 0, vaso = (state & 2) != 0;
  const bool vent = (state & 1) != 0, abx_on = (action & 4) != 0, vent_on = (action & 2) != 0;
  const bool vaso_on = (action & 1) != 0;
  memset(dist, 0, VITALS * sizeof *dist);
  dist[state % (STATES / 2) / 8] = 1.0;
  if (abx_on) {
    move(dist, HR, 2, 1, 0.5);
    move(dist, SBP, 2, 1, 0.5);
  } else if (abx) {
    move(dist, HR, 1, 2, 0.1);
    move(dist, SBP, 1, 2, 0.1);
  }
  if (vent_on) {
    move(dist, OXY, 0, 1, 0.7);
  } else if (vent) {
    move(dist, OXY, 1, 0, 0.1);
  }
  if (vaso_on || vaso) {
    vasopressors(dist, vaso_on, diabetic);
  }
  if (!abx_on && !abx) {
    fluctuate(dist, HR, 0.1, 2);
  }
  if (!abx_on && !abx && !vaso_on && !vaso) {
    fluctuate(dist, SBP, 0.1, 2);
  }
  if (!vent_on && !vent) {
    fluctuate(dist, OXY, 0.1, 1);
  }
  if (!vaso_on) {
    fluctuate(dist, GLU, diabetic ? 0.3 : 0.1, diabetic ? 4 : (int)k->glucose_cap);
  }
}


// How many vital signs are not normal.
static int abnormal(int vital) {
  return (level(vital, HR) != NORMAL) + (level(vital, SBP) != NORMAL) +
         (level(vital, OXY) != NORMAL) + (level(vital, GLU) != 2);
}


// -1 died, +1 discharged, 0 goes on
static double outcome(int state) {
  const int bad = abnormal(state % (STATES / 2) / 8);
  return bad >= 3 ? -1.0 : bad == 0 && (state & 7) == 0 ? 1.0 : 0.0;
}


static rgm_status add_rows(const gumbel_keys *k, rgm_mdp_builder *b) {
  for (int s = 0; s < STATES; s++) {
    for (int a = 0; a < ACTIONS && outcome(s) == 0.0; a++) {
      // treatments of the next state are those of the action
      const int flags = (a & 4) | (a & 1) << 1 | (a & 2) >> 1;
      double dist[VITALS];
      step_vitals(k, s, a, dist);
      for (int v = 0; v < VITALS; v++) {
        const int next = s / (STATES / 2) * (STATES / 2) + 8 * v + flags;
        if (dist[v] > 1e-15) {
          RGM_TRY(rgm_mdp_add(b, s * ACTIONS + a, s, a, next, dist[v], outcome(next)));
        }
      }
    }
  }
  return RGM_OK;
}


// Where patients start: untreated, each sign by itself, who would have ended at once drawn again
// among those with, and without, diabetes.
static void start_in(const gumbel_keys *k, double *begin) {
  static const double middle[3] = {0.25, 0.5, 0.25}, oxygen[2] = {0.2, 0.8};
  static const double sugar[2][5] = {{0.05, 0.15, 0.6, 0.15, 0.05}, {0.01, 0.05, 0.15, 0.6, 0.19}};
  for (int d = 0; d < 2; d++) {
    double sum = 0.0;
    for (int pass = 0; pass < 2; pass++) {
      for (int v = 0; v < VITALS; v++) {
        const int s = d * (STATES / 2) + 8 * v;
        const double p = outcome(s) != 0.0 ? 0.0
                                           : middle[level(v, HR)] * middle[level(v, SBP)] *
                                                 oxygen[level(v, OXY)] * sugar[d][level(v, GLU)];
        sum += pass == 0 ? p : 0.0;
        begin[s] = pass == 1 ? p / sum * (d == 1 ? k->diabetic : 1.0 - k->diabetic) : 0.0;
      }
    }
  }
}


static rgm_status gumbel_tabulate(const void *keys, const rgm_config *where, rgm_mdp **out) {
  static const char *const names[ACTIONS] = {"none", "vaso",     "vent",     "vent+vaso",
                                             "abx",  "abx+vaso", "abx+vent", "abx+vent+vaso"};
  (void)where;
  const gumbel_keys *k = keys;
  rgm_mdp_builder *b;
  RGM_TRY(rgm_mdp_builder_new("sepsis simulator", &b));
  const rgm_status status = add_rows(k, b);
  if (status != RGM_OK) {
    rgm_mdp_builder_free(b);
    return status;
  }
  const rgm_mdp_checks checks = {.tolerance = 1e-12};
  RGM_TRY(rgm_mdp_finish(b, STATES, ACTIONS, &checks, out));
  (*out)->begin = calloc(STATES, sizeof(double));
  (*out)->good = calloc(STATES, 1);
  if ((*out)->begin == NULL || (*out)->good == NULL) {
    return rgm_fail(RGM_EMEMORY, "no memory for %d states", STATES);
  }
  start_in(k, (*out)->begin);
  for (int s = 0; s < STATES; s++) {
    (*out)->good[s] = outcome(s) > 0.0;
  }
  return rgm_mdp_name(&(*out)->action_name, names, ACTIONS);
}


static rgm_status gumbel_prepare(const void *keys, const rgm_config *where, void *config) {
  (void)keys, (void)where, (void)config;
  return RGM_OK;
}


extern const rgm_env rgm_sepsis_gumbel;
const rgm_env rgm_sepsis_gumbel = {
    .name = "sepsis_gumbel",
    .paper = "Oberst & Sontag 2019 (ICML)",
    .doc = "The Gumbel-max sepsis simulator as an exact tabular problem.",
    .fields = fields,
    .keys_size = sizeof(gumbel_keys),
    .config_size = 1,
    .prepare = gumbel_prepare,
    .tabulate = gumbel_tabulate,
};
