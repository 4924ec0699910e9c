// SPDX-License-Identifier: Apache-2.0
// Heparin on the host: keys, derived constants, nomograms, evaluation metrics, and the value of the
// best policy of a patient who is known. The patient, and where its numbers come from: heparin.h.

#include "envs/heparin.h"
#include "engine/engine.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

typedef struct heparin_keys {
  int64_t steps, lab_every, lab_turnaround;
  double volume, vmax, km, linear, base, slope;
  double sd_clearance, sd_volume, sd_slope, sd_base, correlation;
  double severity_hazard, severity_clearance;
  double lab_late, lab_sd, lab_max, max_rate, max_bolus;
  double bleed, bleed_10s, clot, clot_factor, death;
  double bleed_penalty, clot_penalty, death_penalty;
  double start_bolus, start_rate, hold, noise, kappa;
  rgm_list target, limits, boluses, up, down;
} heparin_keys;

#define KEY(member) offsetof(heparin_keys, member)
#define NUMBER(name, member, unit, fallback, min, max, doc) \
  { name, RGM_FLOAT, KEY(member), unit, fallback, min, max, NULL, 0, doc }
#define LIST(name, member, unit, fallback, min, max, doc) \
  { name, RGM_LIST, KEY(member), unit, fallback, min, max, NULL, 0, doc }

// [published], [derived], [assumed]: heparin.h says from what
static const rgm_field fields[] = {
    {"steps", RGM_INT, KEY(steps), "h", "72", 1, 10000, NULL, RGM_SHAPE,
     "Length of an episode that nothing ends before."},
    NUMBER("volume", volume, "mL/kg", "50", 10, 200, "Volume of distribution [derived]."),
    NUMBER("vmax", vmax, "U/mL/h", "1.22", 0, 20, "Largest saturable elimination [derived]."),
    NUMBER("km", km, "U/mL", "0.83", 0.05, 20, "Concentration of half of it [derived]."),
    NUMBER("linear", linear, "1/h", "0.09", 0, 5, "Rate of linear elimination [derived]."),
    NUMBER("base", base, "s", "33", 20, 80, "aPTT without heparin [derived]."),
    NUMBER("slope", slope, "mL/U", "1.8", 0.1, 6, "Slope of ln aPTT over concentration [derived]."),
    NUMBER("sd_clearance", sd_clearance, "1", "0.3", 0, 1,
           "Standard deviation of log clearance [assumed]."),
    NUMBER("sd_volume", sd_volume, "1", "0.15", 0, 1,
           "Standard deviation of log volume [assumed]."),
    NUMBER("sd_slope", sd_slope, "1", "0.25", 0, 1, "Standard deviation of log slope [derived]."),
    NUMBER("sd_base", sd_base, "1", "0.15", 0, 1, "Standard deviation of log base [derived]."),
    NUMBER("correlation", correlation, "1", "0.9", -1, 1,
           "Of log slope with log base [published]."),
    {"lab_every", RGM_INT, KEY(lab_every), "h", "6", 1, 1000, NULL, 0,
     "Hours from one aPTT to the next."},
    {"lab_turnaround", RGM_INT, KEY(lab_turnaround), "h", "1", 0, 999, NULL, 0,
     "Hours from a sample to its result, fewer than lab_every [published]."},
    NUMBER("lab_late", lab_late, "1", "0.2", 0, 0.99,
           "Probability that a due sample comes an hour late, and again [assumed]."),
    NUMBER("lab_sd", lab_sd, "1", "0.05", 0, 1,
           "Standard deviation of a measured log aPTT [assumed]."),
    NUMBER("lab_max", lab_max, "s", "150", 60, 1000,
           "Largest aPTT that the laboratory reports [MIMIC-III: \"150 is highest\"]."),
    NUMBER("max_rate", max_rate, "U/kg/h", "40", 1, 1000, "Infusion rate at action 1."),
    NUMBER("max_bolus", max_bolus, "U/kg", "100", 1, 1000, "Bolus at action 1."),
    LIST("target", target, "s", "[60, 100]", 20, 300, "Range of aPTT that reward is about."),
    NUMBER("bleed_hazard", bleed, "1/h", "1.7e-4", 0, 1, "Major bleeding at 80 s [derived]."),
    NUMBER("bleed_10s", bleed_10s, "1", "0.07", 0, 2,
           "Its relative increase with 10 s of aPTT [published]."),
    NUMBER("clot_hazard", clot, "1/h", "1.4e-4", 0, 1, "Thrombosis within the target [assumed]."),
    NUMBER("clot_factor", clot_factor, "1", "1.54", 1, 100,
           "Its relative risk below the target [published]."),
    NUMBER("death_hazard", death, "1/h", "4e-4", 0, 1, "Death of other causes [assumed]."),
    NUMBER("bleed_penalty", bleed_penalty, "1", "0", 0, 1e6, "Taken from the reward for a bleed."),
    NUMBER("clot_penalty", clot_penalty, "1", "0", 0, 1e6, "Taken for the first thrombosis."),
    NUMBER("death_penalty", death_penalty, "1", "0", 0, 1e6, "Taken for death."),
    NUMBER("severity_hazard", severity_hazard, "1", "0.5", -5, 5,
           "Log hazard ratio of a standard deviation of the hidden severity [assumed]."),
    NUMBER("severity_clearance", severity_clearance, "1", "0", -2, 2,
           "Log clearance for a standard deviation of it."),
    NUMBER("start_bolus", start_bolus, "U/kg", "80", 0, 500, "Nomogram: first bolus [published]."),
    NUMBER("start_rate", start_rate, "U/kg/h", "18", 0, 200, "Nomogram: first rate [published]."),
    LIST("limits", limits, "s", "[45, 60, 100, 120]", 10, 500,
         "Nomogram: four limits between five bands of aPTT [Raschke's, moved to the target]."),
    LIST("boluses", boluses, "U/kg", "[80, 40]", 0, 500,
         "Nomogram: boluses of the first and second band [published]."),
    LIST("up", up, "U/kg/h", "[4, 2]", 0, 100,
         "Nomogram: increases of the rate in these bands [published]."),
    LIST("down", down, "U/kg/h", "[2, 3]", 0, 100,
         "Nomogram: decreases in the fourth and fifth band [published]."),
    NUMBER("hold", hold, "h", "1", 0, 24,
           "Nomogram: hours without infusion in the fifth band [published]."),
    NUMBER("noise", noise, "1", "0.1", 0, 3,
           "Clinician: standard deviation of the logarithm of a rate that is set [assumed]."),
    NUMBER("kappa", kappa, "s", "0", -100, 100,
           "Clinician: unmeasured confounding, how much too low aPTT is read for a standard "
           "deviation of severity; 0 for none."),
    {0},
};


// ---- constants ---------------------------------------------------------------------------------

static rgm_status check_list(const rgm_config *where, const char *key, const rgm_list *list,
                             int count, bool rises) {
  bool good = list->count == count;
  for (int i = 1; i < count && good && rises; i++) {
    good = list->value[i] > list->value[i - 1];
  }
  return good ? RGM_OK
              : rgm_fail(RGM_ECONFIG, "%s: %s: expected %d numbers%s", rgm_config_where(where, key),
                         key, count, rises ? ", each above the one before" : "");
}


// the x that a standard normal stays below with probability p, by bisection
static double normal_quantile(double p) {
  double low = -40.0, high = 40.0;
  for (int i = 0; i < 200; i++) {
    const double x = 0.5 * (low + high);
    if (0.5 * erfc(-x / M_SQRT2) < p) {
      low = x;
    } else {
      high = x;
    }
  }
  return low;
}


static rgm_status heparin_prepare(const void *keys_, const rgm_config *where, void *config_) {
  const heparin_keys *k = keys_;
  RGM_TRY(check_list(where, "env.target", &k->target, 2, true));
  RGM_TRY(check_list(where, "env.limits", &k->limits, 4, true));
  RGM_TRY(check_list(where, "env.boluses", &k->boluses, 2, false));
  RGM_TRY(check_list(where, "env.up", &k->up, 2, false));
  RGM_TRY(check_list(where, "env.down", &k->down, 2, false));
  if (k->lab_turnaround >= k->lab_every) {
    return rgm_fail(RGM_ECONFIG,
                    "%s: env.lab_turnaround: results must come before the next sample, in fewer "
                    "hours than env.lab_every (%lld)",
                    rgm_config_where(where, "env.lab_turnaround"), (long long)k->lab_every);
  }
  heparin_config c = {
      .volume = k->volume,
      .vmax = k->vmax,
      .km = k->km,
      .linear = k->linear,
      .base = k->base,
      .slope = k->slope,
      .sd_clearance = k->sd_clearance,
      .sd_volume = k->sd_volume,
      .sd_slope = k->sd_slope,
      .sd_base = k->sd_base,
      .corr = k->correlation,
      .severity_hazard = k->severity_hazard,
      .severity_clearance = k->severity_clearance,
      .max_rate = (float)k->max_rate,
      .max_bolus = (float)k->max_bolus,
      .lab_every = (float)k->lab_every,
      .lab_turnaround = (float)k->lab_turnaround,
      .lab_late = (float)normal_quantile(k->lab_late),
      .lab_sd = (float)k->lab_sd,
      .lab_max = (float)k->lab_max,
      .bleed = (float)k->bleed,
      .bleed_slope = (float)(log1p(k->bleed_10s) / 10.0),
      .clot = (float)k->clot,
      .clot_factor = (float)k->clot_factor,
      .death = (float)k->death,
      .bleed_penalty = (float)k->bleed_penalty,
      .clot_penalty = (float)k->clot_penalty,
      .death_penalty = (float)k->death_penalty,
      .low = (float)k->target.value[0],
      .high = (float)k->target.value[1],
  };
  memcpy(config_, &c, sizeof c);
  return RGM_OK;
}


static int64_t heparin_steps(const void *keys) {
  return ((const heparin_keys *)keys)->steps;
}


// ---- nomograms ---------------------------------------------------------------------------------

static rgm_status nomogram(const void *keys, float *params) {
  const heparin_keys *k = keys;
  const double all[NOMOGRAM_PARAMS] = {k->start_bolus,
                                       k->start_rate,
                                       k->limits.value[0],
                                       k->limits.value[1],
                                       k->limits.value[2],
                                       k->limits.value[3],
                                       k->boluses.value[0],
                                       k->boluses.value[1],
                                       k->up.value[0],
                                       k->up.value[1],
                                       k->down.value[0],
                                       k->down.value[1],
                                       k->hold,
                                       0.0,
                                       0.0,
                                       0.0};
  for (int i = 0; i < NOMOGRAM_PARAMS; i++) {
    params[i] = (float)all[i];
  }
  return RGM_OK;
}


static rgm_status clinician(const void *keys, float *params) {
  const heparin_keys *k = keys;
  RGM_TRY(nomogram(keys, params));
  params[NOMOGRAM_NOISE] = (float)k->noise;
  params[NOMOGRAM_KAPPA] = (float)k->kappa;
  return RGM_OK;
}


// Raschke et al. 1993, the weight-based nomogram as printed [published]
static rgm_status raschke(const void *keys, float *params) {
  static const float printed[NOMOGRAM_PARAMS] = {80, 18, 35, 46, 71, 91, 80, 40,
                                                 4,  2,  2,  3,  1,  0,  0,  0};
  (void)keys;
  memcpy(params, printed, sizeof printed);
  return RGM_OK;
}


// the comparator of that trial: 5,000 U and 1,000 U/h for everybody [published]; its steps, 200 and
// 100 U/h, and its second boluses are [assumed]. Per 80 kg.
static rgm_status standard_care(const void *keys, float *params) {
  static const float units[NOMOGRAM_PARAMS] = {62.5f, 12.5f, 35,    46,   71, 91, 62.5f, 0,
                                               2.5f,  1.25f, 1.25f, 2.5f, 1,  1,  0,     0};
  (void)keys;
  memcpy(params, units, sizeof units);
  return RGM_OK;
}


// ---- metrics -----------------------------------------------------------------------------------

enum {
  METRIC_OUT,
  METRIC_RETURN,
  METRIC_REWARD,
  METRIC_BELOW,
  METRIC_ABOVE,
  METRIC_FIRST,
  METRIC_REACHED,
  METRIC_STABLE,
  METRIC_DOSE,
  METRIC_BLEED,
  METRIC_CLOT,
  METRIC_DEATH,
  METRIC_MEASURED,
  METRICS
};

static const rgm_quantity metrics[] = {
    {"out_of_range", "%", "hours that end with a true aPTT outside of 60-100 s"},
    {"return", "1", "sum of rewards"},
    {"reward", "1/h", "the same for each hour until the end"},
    {"below", "%", "hours that end below 60 s"},
    {"above", "%", "hours that end above 100 s"},
    {"hours_to_range", "h", "until an aPTT of 60-100 s is measured; those that never do have none"},
    {"threshold_24h", "%",
     "patients with a measured aPTT of 46 s or more (1.5 x control) within 24 h"},
    {"range_24h", "%", "patients with a measured aPTT in 60-100 s within 24 h"},
    {"dose", "U/kg/h", "mean dose, boluses included"},
    {"bleed", "%", "patients with a major bleed"},
    {"clot", "%", "patients with a thrombosis"},
    {"death", "%", "patients who died"},
    {"measured_in_range", "%",
     "aPTTs measured on treatment in 60-100 s; those who had none have no share"},
};


static void heparin_measure(const float *signals, int64_t steps, double *out) {
  double hours = 0.0, below = 0.0, above = 0.0, sum = 0.0, dose = 0.0, event[3] = {0.0};
  double first = NAN, threshold = 0.0, range = 0.0, samples = 0.0, good = 0.0;
  for (int64_t t = 0; t < steps; t++) {
    const float *s = signals + t * HEPARIN_SIGNALS;
    const double new = s[HEPARIN_SIGNAL_NEW];
    if (s[HEPARIN_SIGNAL_VALID] == 0.0f) {
      break;
    }
    hours += 1.0;
    below += s[HEPARIN_SIGNAL_NEXT] < 60.0f;
    above += s[HEPARIN_SIGNAL_NEXT] > 100.0f;
    sum += s[HEPARIN_SIGNAL_REWARD];
    dose += s[HEPARIN_SIGNAL_RATE] + s[HEPARIN_SIGNAL_BOLUS];
    for (int e = 0; e < 3; e++) {
      event[e] += 100.0 * s[HEPARIN_SIGNAL_BLEED + e];
    }
    // results on treatment: the one of hour 0 is from before
    if (t > 0 && new > 0.0) {
      const bool within = new >= 60.0 && new <= 100.0;
      threshold = t <= 24 && new >= 46.0 ? 100.0 : threshold;
      range = t <= 24 && within ? 100.0 : range;
      first = within && isnan(first) ? (double)t : first;
      samples += 1.0;
      good += within;
    }
  }
  out[METRIC_OUT] = 100.0 * (below + above) / hours;
  out[METRIC_RETURN] = sum;
  out[METRIC_REWARD] = sum / hours;
  out[METRIC_BELOW] = 100.0 * below / hours;
  out[METRIC_ABOVE] = 100.0 * above / hours;
  out[METRIC_FIRST] = first;
  out[METRIC_REACHED] = threshold;
  out[METRIC_STABLE] = range;
  out[METRIC_DOSE] = dose / hours;
  out[METRIC_BLEED] = event[0];
  out[METRIC_CLOT] = event[1];
  out[METRIC_DEATH] = event[2];
  out[METRIC_MEASURED] = 100.0 * good / samples;
}


// ---- doses of data sets ------------------------------------------------------------------------

// A dose of an hour [units/kg] as an action: infused, and what is beyond the largest rate at once.
static void heparin_give(const void *keys, double dose, float *act) {
  const heparin_keys *k = keys;
  const double infused = fmin(fmax(dose, 0.0), k->max_rate);
  act[0] = (float)(infused / k->max_rate);
  act[1] = (float)(fmin(fmax(dose - infused, 0.0), k->max_bolus) / k->max_bolus);
}


// ---- the best policy of a patient who is known -------------------------------------------------

// Dynamic programming over concentration, backwards in time. The state of a known patient is the
// concentration, whether a thrombosis has been, and the hour: hazards depend on the aPTT of the
// hour alone and events on nothing else, so survival is a factor. Nothing that such a policy could
// observe beside its state would help it, hence no policy of the environment has a greater
// expectation. Values lie on a uniform grid of concentrations and are interpolated linearly; the
// model of an hour is the loop's own. Halving the grid (of doses too) shows the error.
typedef struct outcome {
  double reward, alive, clot; // expected without thrombosis; chance to go on; chance of one
  double part;                // where between two points of the grid the hour ends
  int64_t cell;
} outcome;

typedef struct programme {
  int64_t grid, doses;
  double most;       // U/mL: the end of the grid, where the hazard of bleeding is at its cap
  outcome *outcomes; // (grid, doses)
  double *value[2];  // (grid): no thrombosis yet, after one
  double *later[2];  // of the hour after
} programme;


static outcome hour_of(const programme *g, const heparin_patient *p, const heparin_config *c,
                       float conc) {
  float bleed, clot, death;
  const float aptt = heparin_aptt(p, conc);
  heparin_hazards(p, c, aptt, &bleed, &clot, &death);
  const double x = fmin((double)conc / g->most, 1.0) * (double)(g->grid - 1);
  const int64_t cell = x < (double)(g->grid - 2) ? (int64_t)x : g->grid - 2;
  return (outcome){.reward = heparin_reward(c, aptt) + expm1(-(double)bleed) * c->bleed_penalty +
                             expm1(-(double)death) * c->death_penalty,
                   .alive = exp(-(double)bleed - (double)death),
                   .clot = -expm1(-(double)clot),
                   .part = x - (double)cell,
                   .cell = cell};
}


// every hour from every point: by boluses, with which all that rates reach can be reached, or rates
static void tabulate(programme *g, const heparin_patient *p, const heparin_config *c, bool bolus) {
  for (int64_t i = 0; i < g->grid; i++) {
    const float conc = (float)(g->most * (double)i / (double)(g->grid - 1));
    for (int64_t a = 0; a < g->doses; a++) {
      const float share = (float)a / (float)(g->doses - 1);
      const float end = bolus ? heparin_hour(p, conc, 0.0f, share * c->max_bolus)
                              : heparin_hour(p, conc, share * c->max_rate, 0.0f);
      g->outcomes[i * g->doses + a] = hour_of(g, p, c, end);
    }
  }
}


static double best_dose(const programme *g, double clot_penalty, int64_t i, int clotted) {
  const double *same = g->later[clotted], *after = g->later[1];
  double best = -INFINITY;
  for (int64_t a = 0; a < g->doses; a++) {
    const outcome *o = &g->outcomes[i * g->doses + a];
    double value = same[o->cell] + o->part * (same[o->cell + 1] - same[o->cell]);
    double reward = o->reward;
    if (!clotted && clot_penalty > 0.0) {
      const double then = after[o->cell] + o->part * (after[o->cell + 1] - after[o->cell]);
      value += o->clot * (then - value);
      reward -= o->clot * clot_penalty;
    }
    best = fmax(best, reward + o->alive * value);
  }
  return best;
}


static rgm_status heparin_optimum(const void *keys, const void *config, const float *words,
                                  int64_t grid, bool whole, double *value) {
  heparin_config c;
  heparin_patient p;
  memcpy(&c, config, sizeof c);
  memcpy(&p, words, sizeof p);
  const size_t n = (size_t)grid;
  programme g = {.grid = grid,
                 .doses = grid / 2 + 1,
                 .most = log(HEPARIN_MOST_RISK / (double)p.base) / (double)p.slope};
  g.outcomes = malloc(n * (size_t)g.doses * sizeof *g.outcomes);
  double *memory = calloc(4 * n, sizeof *memory);
  if (g.outcomes == NULL || memory == NULL) {
    free(g.outcomes);
    free(memory);
    return rgm_fail(RGM_EMEMORY, "no memory for a grid of %lld", (long long)grid);
  }
  tabulate(&g, &p, &c, whole);
  for (int k = 0; k < 2; k++) {
    g.value[k] = memory + (size_t)k * n;
    g.later[k] = memory + (2 + (size_t)k) * n;
  }
  // where a thrombosis costs nothing, it changes nothing
  const int layers = c.clot_penalty > 0.0f ? 2 : 1;
  for (int64_t t = heparin_steps(keys); t > 0; t--) {
    memcpy(memory + 2 * n, memory, 2 * n * sizeof *memory);
    for (int k = 0; k < layers; k++) {
      for (int64_t i = 0; i < (t == 1 ? 1 : grid); i++) {
        g.value[k][i] = best_dose(&g, c.clot_penalty, i, k);
      }
    }
  }
  *value = g.value[0][0];
  free(g.outcomes);
  free(memory);
  return RGM_OK;
}


// ---- the row -----------------------------------------------------------------------------------

static const rgm_quantity observations[] = {
    {"hour", "h", "hours since the start of heparin"},
    {"male", "1", "1 male, 0 female"},
    {"weight", "kg", "weight"},
    {"gcs", "1", "Glasgow coma scale"},
    {"sbp", "mmHg", "systolic blood pressure"},
    {"dbp", "mmHg", "diastolic blood pressure"},
    {"rr", "1/min", "respiratory rate"},
    {"tempc", "degC", "temperature"},
    {"hgb", "g/dL", "haemoglobin"},
    {"wbc", "K/uL", "white cells"},
    {"platelet", "K/uL", "platelets"},
    {"creatinine", "mg/dL", "creatinine"},
    {"bilirubin", "mg/dL", "bilirubin"},
    {"inr", "1", "international normalised ratio"},
    {"pt", "s", "prothrombin time"},
    {"pco2", "mmHg", "carbon dioxide"},
    {"aptt", "s", "last known aPTT"},
    {"aptt_age", "h", "time since it was drawn"},
    {"heparin_before", "units/kg", "given in the hour before"},
    {"age", "a", "age"},
};
static const rgm_quantity actions[] = {
    {"rate", "1", "share of the largest infusion rate"},
    {"bolus", "1", "share of the largest bolus"},
};
static const rgm_quantity signals_[] = {
    {"conc", "U/mL", "heparin concentration at the start of the hour"},
    {"aptt", "s", "true aPTT at the start"},
    {"aptt_next", "s", "true aPTT at the end"},
    {"reward", "1", "reward"},
    {"rate", "U/kg/h", "infusion rate"},
    {"bolus", "U/kg", "bolus"},
    {"aptt_new", "s", "aPTT of the sample of this hour, known later; 0 if none"},
    {"bleed", "1", "1 in the hour of a major bleed"},
    {"clot", "1", "1 in the hour of the first thrombosis"},
    {"death", "1", "1 in the hour of death"},
    {"valid", "1", "1 while the episode runs"},
    {"severity", "1", "hidden severity"},
};
static const rgm_quantity parameters[] = {
    {"start_bolus", "U/kg", ""}, {"start_rate", "U/kg/h", ""}, {"limit_1", "s", ""},
    {"limit_2", "s", ""},        {"limit_3", "s", ""},         {"limit_4", "s", ""},
    {"bolus_1", "U/kg", ""},     {"bolus_2", "U/kg", ""},      {"up_1", "U/kg/h", ""},
    {"up_2", "U/kg/h", ""},      {"down_1", "U/kg/h", ""},     {"down_2", "U/kg/h", ""},
    {"hold", "h", ""},           {"fixed", "1", ""},           {"noise", "1", ""},
    {"kappa", "s", ""},
};

static const rgm_baseline baselines[] = {
    {"nomogram", "the weight-based nomogram of the keys, followed to the letter",
     RGM_CONTROL_CLINICIAN, NOMOGRAM_PARAMS, nomogram, parameters},
    {"clinician", "the same with env.noise and env.kappa: who writes the data sets",
     RGM_CONTROL_CLINICIAN, NOMOGRAM_PARAMS, clinician, parameters},
    {"raschke", "Raschke's weight-based nomogram of 1993, whose target is 46-70 s",
     RGM_CONTROL_CLINICIAN, NOMOGRAM_PARAMS, raschke, parameters},
    {"standard_care", "5,000 U, then 1,000 U/h for everybody, the comparator of that trial",
     RGM_CONTROL_CLINICIAN, NOMOGRAM_PARAMS, standard_care, parameters},
    {0},
};

// Raschke et al. 1993: abstract
static const rgm_published published[] = {
    {"raschke", "threshold_24h", "97 (60 of 62)"},
    {"standard_care", "threshold_24h", "77 (37 of 48)"},
    {0},
};

#if defined(__x86_64__)
extern const rgm_env_kernels rgm_cpu_avx512_heparin_kernels, rgm_cpu_avx2_heparin_kernels;
static const rgm_env_kernels *const kernels[] = {&rgm_cpu_avx512_heparin_kernels,
                                                 &rgm_cpu_avx2_heparin_kernels};
#else
extern const rgm_env_kernels rgm_cpu_generic_heparin_kernels;
static const rgm_env_kernels *const kernels[] = {&rgm_cpu_generic_heparin_kernels};
#endif


static const rgm_env_kernels *heparin_kernels(const rgm_backend *backend) {
  if (backend->env_kernels != NULL) {
    return backend->env_kernels("heparin");
  }
  for (size_t i = 0; i < sizeof kernels / sizeof *kernels; i++) {
    if (strcmp(kernels[i]->isa, backend->isa) == 0) {
      return kernels[i];
    }
  }
  return NULL;
}


// envs/heparin_data.c
rgm_status heparin_record(const void *keys, const rgm_episodes *episodes, rgm_dataset **out);

extern const rgm_env rgm_heparin;
const rgm_env rgm_heparin = {
    .name = "heparin",
    .paper = "de Swart et al. 1982; Whitfield & Levy 1980; Raschke et al. 1993; Anand et al. 2003",
    .doc = "Titration of intravenous heparin by sparse aPTT, one rate and bolus an hour.",
    .fields = fields,
    .keys_size = sizeof(heparin_keys),
    .config_size = sizeof(heparin_config),
    .prepare = heparin_prepare,
    .steps = heparin_steps,
    .obs_dim = HEPARIN_OBS,
    .act_dim = HEPARIN_ACT,
    .signal_dim = HEPARIN_SIGNALS,
    .patient_words = HEPARIN_WORDS,
    .obs = observations,
    .act = actions,
    .signals = signals_,
    .step_min = 60.0,
    .plot_value = HEPARIN_SIGNAL_APTT,
    .plot_target = HEPARIN_SIGNAL_NEW,
    .plot_action = HEPARIN_SIGNAL_RATE,
    .metric_count = METRICS,
    .metrics = metrics,
    .loss_metric = METRIC_OUT,
    .measure = heparin_measure,
    .baselines = baselines,
    .published = published,
    .kernels = heparin_kernels,
    .return_metric = METRIC_RETURN,
    .optimum = heparin_optimum,
    .dose_unit = "units/kg/h",
    .give_dose = heparin_give,
    .record = heparin_record,
};
