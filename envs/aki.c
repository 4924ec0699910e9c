// SPDX-License-Identifier: Apache-2.0
// Cohorts of patients with acute kidney injury as tables, a row each, with the columns of the
// reference data. Who they are, and what the truth is: aki.h.

#include "envs/aki.h"
#include "engine/frame.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

typedef struct aki_keys {
  int population;
  bool bounded;
  double effect, deaths, starts, overlap, noise, margin, missing, clones;
  rgm_list psi;
} aki_keys;

#define KEY(member) offsetof(aki_keys, member)
#define NUMBER(name, member, unit, fallback, min, max, doc) \
  { name, RGM_FLOAT, KEY(member), unit, fallback, min, max, NULL, 0, doc }

static const char *const populations[] = {"development", "validation", NULL};

static const rgm_field fields[] = {
    {"population", RGM_CHOICE, KEY(population), "", "development", 0, 0, populations, 0,
     "Whose marginals: of the cohort that rules were learned from, or of the two trials."},
    {"psi", RGM_LIST, KEY(psi), "d", "[-22, 0.12, 1.2, 2, -2, 0.3, 0.08, -40, -6, 2, -10, 5]", -1e6,
     1e6, NULL, 0,
     "True blips: 1, age, creatinine, K; 1, SOFA, BUN, |change of pH|, urine; 1, urine, BUN "
     "ratio."},
    NUMBER("effect", effect, "1", "1", 0, 100, "Factor of all blips; 0: starting does nothing."),
    NUMBER("deaths", deaths, "1", "0", 0, 100,
           "Factor of the odds to die untreated between stages; 0: nobody does."),
    NUMBER("starts", starts, "1", "0", -10, 10, "Log odds of starting, beside the population's."),
    NUMBER("overlap", overlap, "1", "1", 0, 10,
           "Factor of what laboratories do to the odds of starting; 0: starts are by chance."),
    NUMBER("noise", noise, "d", "15", 0, 1000, "Standard deviation of the outcome given all else."),
    NUMBER("margin", margin, "d", "5", 0, 1000, "What the stringent rule asks of a blip."),
    {"bounded", RGM_BOOL, KEY(bounded), "", "false", 0, 0, NULL, 0,
     "Outcomes are days from 0 to 60, 0 for hospital deaths; blips are then not exact."},
    NUMBER("missing", missing, "1", "0", 0, 3,
           "Factor of the odds that a laboratory value is missing at random; 1: as often as in the "
           "publication."),
    NUMBER("clones", clones, "1", "0", 0, 1,
           "Share of patients who fit two arms of a trial and stand in two rows."),
    {0},
};

static const char *const stage_columns[] = {"creat_k", "bun_k", "pot_k", "ph_k", "uo_k"};
enum { LABS = 5, ROW = 6 + LABS * AKI_STAGES + 3 + 2 + 2 + 6 + 3 };


static rgm_status aki_prepare(const void *keys, const rgm_config *where, void *config) {
  static const aki_config development = {
      .male = 0.548,
      .age = 68.0,
      .age_sd = 16.0,
      .sofa = 9.0,
      .sofa_sd = 4.2,
      .creatinine = 0.336,
      .creatinine_sd = 0.727,
      .by_urine = 0.888,
      .urine = -0.2,
      .urine_sd = 0.6,
      .mean = 37.0,
      .died = -1.42,
      .dying = -3.3,
      .start = {-3.15, -3.4, -3.55},
  };
  static const aki_config validation = {
      .male = 0.678,
      .age = 66.5,
      .age_sd = 12.6,
      .sofa = 11.0,
      .sofa_sd = 3.0,
      .creatinine = 1.22,
      .creatinine_sd = 0.387,
      .by_urine = 1.0,
      .urine = -2.12,
      .urine_sd = 1.585,
      .anuric = 1.0,
      .mean = 15.0,
      .died = -1.6,
      .dying = -2.75,
      .start = {-1.45, -1.65, -1.85},
  };
  const aki_keys *k = keys;
  if (k->psi.count != AKI_PSI) {
    return rgm_fail(RGM_ECONFIG, "%s: env.psi: %d numbers are expected, not %d",
                    rgm_config_where(where, "env.psi"), AKI_PSI, k->psi.count);
  }
  aki_config c = k->population == 0 ? development : validation;
  c.effect = k->effect;
  c.deaths = k->deaths;
  c.starts = k->starts;
  c.overlap = k->overlap;
  c.noise = k->noise;
  c.margin = k->margin;
  c.bounded = k->bounded;
  memcpy(config, &c, sizeof c);
  return RGM_OK;
}


// ---- decisions ---------------------------------------------------------------------------------

enum { CLINICIAN, NEVER, TREAT_ALL, CRUDE, STRINGENT };
static const char *const policies[] = {"clinician", "never",     "treat_all",
                                       "crude",     "stringent", NULL};

// What became of a patient: a_k, death before stage k, what two rules say of stage k alone.
typedef struct course {
  double a[AKI_STAGES], dead[AKI_STAGES], crude[AKI_STAGES], stringent[AKI_STAGES];
  double outcome;
  int died;
} course;


static bool starts(const aki_config *c, const aki_patient *p, const course *o, int k, int policy) {
  switch (policy) {
  case CLINICIAN:
    return p->uniform[k] < rgm_sigmoid64(aki_start_logit(c, p, k));
  case TREAT_ALL:
    return true;
  case CRUDE:
    return o->crude[k] > 0.0;
  case STRINGENT:
    return o->stringent[k] > 0.0;
  default:
    return false;
  }
}


static void follow(const aki_config *c, const double *psi, const aki_patient *p, int policy,
                   course *o) {
  int start = AKI_STAGES;
  bool dead = false;
  *o = (course){.died = 0};
  for (int k = 0; k < AKI_STAGES; k++) {
    const double blip = aki_blip(c, psi, p, k);
    o->crude[k] = blip > 0.0;
    o->stringent[k] = blip > c->margin;
    dead = dead || (k > 0 && start > k && aki_dies(c, p, k - 1));
    o->dead[k] = dead;
    if (!dead && start == AKI_STAGES && starts(c, p, o, k, policy)) {
      start = k;
    }
    o->a[k] = start <= k;
  }
  o->outcome = aki_outcome(c, psi, p, start, &o->died);
  o->outcome = dead ? 0.0 : o->outcome;
  o->died = dead ? 1 : o->died;
}


// ---- tables ------------------------------------------------------------------------------------

// Shares of laboratory values that are missing at a stage; pH as published, 25 to 44 %.
static const double missing_share[AKI_STAGES][LABS] = {
    {0.02, 0.02, 0.03, 0.25, 0.01}, {0.03, 0.03, 0.03, 0.35, 0.02}, {0.05, 0.05, 0.05, 0.44, 0.03}};

// at random: by age and SOFA, which are always known
static bool is_missing(const aki_keys *keys, const aki_config *c, const aki_patient *p, int k,
                       int lab, double u) {
  const double share = missing_share[k][lab];
  const double odds = keys->missing * share / (1.0 - share) *
                      rgm_exp64(0.02 * (p->age - 66.0) - 0.1 * (p->sofa - c->sofa));
  return u < odds / (1.0 + odds);
}


static void fill_row(const aki_keys *keys, const aki_config *c, const aki_patient *p,
                     const course *o, rgm_key noise, uint32_t cohort, uint32_t number,
                     double *row) {
  const double *labs[LABS] = {p->creat, p->bun, p->pot, p->ph, p->uo};
  const double first[] = {p->age, p->male, p->weight, p->sofa, p->immuno, p->eth};
  int at = 6;
  memcpy(row, first, sizeof first);
  for (int k = 0; k < AKI_STAGES; k++) {
    const rgm_words w0 = rgm_philox(noise, cohort, number, (uint32_t)(2 * k), 0);
    const rgm_words w1 = rgm_philox(noise, cohort, number, (uint32_t)(2 * k + 1), 0);
    const uint32_t word[LABS] = {w0.w0, w0.w1, w0.w2, w0.w3, w1.w0};
    for (int lab = 0; lab < LABS; lab++) {
      const bool gone =
          o->dead[k] > 0.0 || is_missing(keys, c, p, k, lab, ((double)word[lab] + 0.5) * 0x1p-32);
      row[at++] = gone ? NAN : labs[lab][k];
    }
  }
  for (int k = 0; k < AKI_STAGES; k++) {
    // tables put the dead back to untreated
    row[at++] = o->dead[k] > 0.0 ? 0.0 : o->a[k];
  }
  row[at++] = o->dead[1];
  row[at++] = o->dead[2];
  row[at++] = o->died;
  row[at++] = o->outcome;
  // rules persist, also after what was done; the dead need none
  double crude = 0.0, stringent = 0.0;
  for (int k = 0; k < AKI_STAGES; k++) {
    const double before = k > 0 ? o->a[k - 1] : 0.0;
    crude = fmax(crude, fmax(before, o->crude[k]));
    stringent = fmax(stringent, fmax(before, o->stringent[k]));
    row[at++] = o->dead[k] > 0.0 ? 0.0 : crude;
    row[at++] = o->dead[k] > 0.0 ? 0.0 : stringent;
  }
}


static rgm_status name_columns(rgm_frame *out) {
  static const char *const first[] = {"age", "male", "weight", "sofa", "immuno", "eth"};
  static const char *const last[] = {"a1",    "a2",  "a3",       "phi_2", "phi_3", "hmor",
                                     "hfd",   "r_1", "r_s_1",    "r_2",   "r_s_2", "r_3",
                                     "r_s_3", "id",  "standard", "clone"};
  char names[ROW][64];
  int at = 0;
  for (int i = 0; i < 6; i++) {
    snprintf(names[at++], 64, "%s", first[i]);
  }
  for (int k = 0; k < AKI_STAGES; k++) {
    for (int lab = 0; lab < LABS; lab++) {
      snprintf(names[at++], 64, "%s%d", stage_columns[lab], k + 1);
    }
  }
  for (size_t i = 0; i < sizeof last / sizeof *last; i++) {
    snprintf(names[at++], 64, "%s", last[i]);
  }
  RGM_ASSERT(at == ROW);
  return rgm_frame_names((const char(*)[64])names, ROW, out);
}


static rgm_status aki_cohort(const void *keys, const rgm_config *where, const rgm_cohort_of *r,
                             rgm_frame *out) {
  const aki_keys *k = keys;
  const uint32_t seed[2] = {(uint32_t)r->seed, (uint32_t)(r->seed >> 32)};
  const rgm_key key = rgm_stream_key(seed, RGM_RANDOM_PATIENT);
  const rgm_key noise = rgm_stream_key(seed, RGM_RANDOM_NOISE);
  aki_config c;
  int policy = 0;
  *out = (rgm_frame){0};
  RGM_TRY(aki_prepare(keys, where, &c));
  while (policies[policy] != NULL && strcmp(policies[policy], r->policy) != 0) {
    policy++;
  }
  if (policies[policy] == NULL) {
    return rgm_fail(RGM_ECONFIG,
                    "aki has no policy \"%s\": there are clinician, never, treat_all, "
                    "crude and stringent",
                    r->policy);
  }
  RGM_TRY(name_columns(out));
  const int64_t cloned = (int64_t)(k->clones * (double)r->patients + 0.5);
  double *value = realloc(out->value, (size_t)((r->patients + cloned) * ROW) * sizeof *value);
  if (value == NULL) {
    rgm_frame_free(out);
    return rgm_fail(RGM_EMEMORY, "no memory for %lld patients", (long long)r->patients);
  }
  out->value = value;
  out->rows = r->patients + cloned;
  for (int64_t i = 0; i < r->patients; i++) {
    aki_patient p;
    course o;
    double *row = value + i * ROW;
    aki_sample(&c, key, r->number, (uint32_t)i, &p);
    follow(&c, k->psi.value, &p, policy, &o);
    fill_row(k, &c, &p, &o, noise, r->number, (uint32_t)i, row);
    row[ROW - 3] = (double)i + 1.0;
    row[ROW - 2] = i < cloned;
    row[ROW - 1] = 0.0;
    if (i < cloned) {
      double *copy = value + (r->patients + i) * ROW;
      memcpy(copy, row, ROW * sizeof *row);
      copy[ROW - 1] = 1.0;
    }
  }
  return RGM_OK;
}


static int aki_known(const void *keys, double *psi, int most) {
  const aki_keys *k = keys;
  for (int i = 0; i < AKI_PSI && i < most; i++) {
    psi[i] = k->effect * k->psi.value[i];
  }
  return AKI_PSI;
}


const rgm_env rgm_aki = {
    .name = "aki",
    .paper = "Grolleau et al. 2024 (marginals)",
    .doc =
        "Acute kidney injury: tables of patients with three decisions to start renal replacement.",
    .fields = fields,
    .keys_size = sizeof(aki_keys),
    .config_size = sizeof(aki_config),
    .prepare = aki_prepare,
    .cohort = aki_cohort,
    .known = aki_known,
};
