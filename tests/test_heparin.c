// SPDX-License-Identifier: Apache-2.0
// Tests of heparin's patients: an hour against an integrator in double that does not use the
// header; kinetics, response and Raschke's trial against published figures; the nomogram's
// decisions; the loop's records recomputed; the same bits whatever the instruction set and the
// threads; hidden severity; the dynamic programming against a search of its own.

#include "engine/dataset.h"
#include "engine/engine.h"
#include "engine/trial.h"
#include "envs/heparin.h"

#include <criterion/criterion.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define COUNT(array) ((int)(sizeof(array) / sizeof((array)[0])))

static const rgm_env *env(void) {
  for (int i = 0; rgm_envs[i] != NULL; i++) {
    if (strcmp(rgm_envs[i]->name, "heparin") == 0) {
      return rgm_envs[i];
    }
  }
  cr_assert_fail("no heparin");
  return NULL;
}


static double toss(uint32_t *count) {
  const uint32_t seed[2] = {1993, 6};
  const rgm_words w = rgm_philox(rgm_stream_key(seed, 99), (*count)++, 0, 0, 0);
  return rgm_unit64(w.w0);
}


// ---- a world -----------------------------------------------------------------------------------

typedef struct world {
  rgm_run *run;
  rgm_stream *stream;
  const rgm_env_kernels *kernels;
  heparin_config config;
  uint32_t seeds[2], active, clock;
  int64_t n, steps;
  float *patients, *returns, *obs, *act, *signals;
  float params[2048];
} world;


static rgm_run *plan_run(const char *const *sets, int count) {
  static const char text[] = "run: {threads: 1, backend: cpu}\nalgorithm: {name: pid}\n"
                             "env: {name: heparin}\n";
  rgm_config *config = NULL;
  rgm_run *run = NULL;
  cr_assert_eq(rgm_config_parse("test", text, sets, count, &config), RGM_OK, "%s",
               rgm_last_error());
  cr_assert_eq(rgm_run_plan_only(config, &run), RGM_OK, "%s", rgm_last_error());
  return run;
}


static world world_open(const char *isa, int threads, const char *const *sets, int count, int64_t n,
                        int64_t steps) {
  world w = {.seeds = {81, 2}, .active = 1, .clock = 4, .n = n, .steps = steps};
  char note[256];
  const rgm_device_options options = {threads, isa, 0};
  w.run = plan_run(sets, count);
  cr_assert_eq(env()->config_size, sizeof w.config);
  cr_assert_eq(env()->prepare(rgm_env_keys(w.run, 0), w.run->config, &w.config), RGM_OK);
  cr_assert_eq(rgm_open("cpu", &options, &w.stream, note, sizeof note), RGM_OK);
  w.kernels = env()->kernels(w.stream->backend);
  w.patients = calloc((size_t)(n * HEPARIN_WORDS), sizeof(float));
  w.returns = calloc((size_t)n, sizeof(float));
  w.obs = calloc((size_t)(n * steps * HEPARIN_OBS), sizeof(float));
  w.act = calloc((size_t)(n * steps * HEPARIN_ACT), sizeof(float));
  w.signals = calloc((size_t)(n * steps * HEPARIN_SIGNALS), sizeof(float));
  cr_assert(w.patients && w.returns && w.obs && w.act && w.signals);
  return w;
}


static void world_close(world *w) {
  rgm_close(w->stream);
  rgm_run_free(w->run);
  free(w->patients);
  free(w->returns);
  free(w->obs);
  free(w->act);
  free(w->signals);
}


static const rgm_baseline *baseline(const char *name) {
  const rgm_baseline *b = env()->baselines;
  while (b->name != NULL && strcmp(b->name, name) != 0) {
    b++;
  }
  cr_assert(b->name != NULL);
  return b;
}


static void world_roll(world *w, rgm_control control, int hidden) {
  const rgm_tensor config = {.data = &w->config,
                             .dtype = RGM_U8,
                             .rank = 2,
                             .dims = {1, sizeof w->config},
                             .stride0 = sizeof w->config};
  const rgm_tensor patients = rgm_view(w->patients, RGM_F32, 1, w->n, HEPARIN_WORDS, 0);
  const rgm_cohort cohort = {
      .patients = patients,
      .config = config,
      .seeds = rgm_view(w->seeds, RGM_U32, 1, 2, 0, 0),
      .clock = rgm_view(&w->clock, RGM_U32, 1, 0, 0, 0),
      .active = rgm_view(&w->active, RGM_U32, 1, 0, 0, 0),
      .random = RGM_RANDOM_PATIENT,
      .first = 4,
  };
  const rgm_rollout rollout = {
      .returns = rgm_view(w->returns, RGM_F32, 1, w->n, 0, 0),
      .obs = rgm_view(w->obs, RGM_F32, 1, w->n, w->steps, HEPARIN_OBS),
      .act = rgm_view(w->act, RGM_F32, 1, w->n, w->steps, HEPARIN_ACT),
      .signals = rgm_view(w->signals, RGM_F32, 1, w->n, w->steps, HEPARIN_SIGNALS),
      .patients = patients,
      .config = config,
      .params = rgm_view(w->params, RGM_F32, 1, COUNT(w->params), 0, 0),
      .seeds = cohort.seeds,
      .clock = cohort.clock,
      .active = cohort.active,
      .control = control,
      .hidden = hidden,
      .random = RGM_RANDOM_NOISE,
      .first = 9,
      .steps = w->steps,
  };
  w->kernels->sample(w->stream, &cohort);
  w->kernels->rollout(w->stream, &rollout);
  cr_assert_eq(rgm_sync(w->stream), RGM_OK);
}


static void world_follow(world *w, const char *name) {
  cr_assert_eq(baseline(name)->params(rgm_env_keys(w->run, 0), w->params), RGM_OK);
  world_roll(w, RGM_CONTROL_CLINICIAN, 0);
}


// the person whom the published curves are about: 65 years, male, creatinine 1, no deviations
static heparin_patient typical(void) {
  world w = world_open("auto", 1, NULL, 0, 1, 1);
  const double none[4] = {0};
  float words[HEPARIN_WORDS] = {0};
  heparin_patient p;
  heparin_describe(words, &w.config, 65.0, 1, 1.0, 0.0, none);
  memcpy(&p, words, sizeof p);
  world_close(&w);
  return p;
}


// ---- an hour -----------------------------------------------------------------------------------

// dC/dt = rate / V - C (kl + vmax / (km + C)) over some hours, by steps of 1/4096 h in double
static double flow(const heparin_patient *p, double conc, double rate, double hours) {
  const int steps = (int)(4096 * hours);
  const double h = hours / steps;
#define SLOPE(x) (rate * p->gain - (x) * (p->linear + p->vmax / ((double)p->km + (x))))
  for (int i = 0; i < steps; i++) {
    const double a = SLOPE(conc), b = SLOPE(conc + h / 2 * a), c = SLOPE(conc + h / 2 * b);
    conc += h / 6 * (a + 2 * b + 2 * c + SLOPE(conc + h * c));
  }
#undef SLOPE
  return conc;
}


Test(heparin, an_hour_against_small_steps) {
  // scales of clearance: the slowest and the fastest of a thousand, and beyond
  static const struct { double clearance, bound; } rows[] = {{0.4, 2e-6}, {1.0, 2e-5}, {2.5, 2e-3}};
  for (int i = 0; i < COUNT(rows); i++) {
    heparin_patient p = typical();
    p.vmax *= (float)rows[i].clearance;
    p.linear *= (float)rows[i].clearance;
    double exact = 0.0, worst = 0.0;
    float conc = 0.0f;
    uint32_t count = 0;
    for (int t = 0; t < 72; t++) {
      const double rate = 40 * toss(&count), bolus = t % 6 == 0 ? 100 * toss(&count) : 0.0;
      conc = heparin_hour(&p, conc, (float)rate, (float)bolus);
      exact = flow(&p, exact + (float)bolus * (double)p.gain, (float)rate, 1.0);
      worst = fmax(worst, fabs(conc / exact - 1));
    }
    cr_expect(worst <= rows[i].bound, "clearance %g: %.3g", rows[i].clearance, worst);
  }
}


// ---- published curves --------------------------------------------------------------------------

Test(heparin, published_half_lives) {
  // Hirsh et al. 2001 (25, 100, 400 U/kg); Hirsh et al. 1976 (70 U/kg, 63 +- 15 min in 20 patients)
  static const struct {
    double dose, minutes, factor;
  } rows[] = {{25, 30, 1.25}, {70, 63, 1.2}, {100, 60, 1.15}, {400, 150, 1.05}};
  const heparin_patient p = typical();
  double before = 0.0;
  for (int i = 0; i < COUNT(rows); i++) {
    const double start = rows[i].dose * p.gain;
    double low = 0.0, high = 6.0;
    for (int k = 0; k < 24; k++) {
      const double half = 0.5 * (low + high);
      if (flow(&p, start, 0.0, half) > 0.5 * start) {
        low = half;
      } else {
        high = half;
      }
    }
    const double minutes = 60 * low;
    cr_expect(minutes < rows[i].minutes * rows[i].factor &&
                  minutes > rows[i].minutes / rows[i].factor,
              "%g U/kg: %.1f min, published %g", rows[i].dose, minutes, rows[i].minutes);
    cr_expect(minutes > before, "it rises with the dose");
    before = minutes;
  }
}


Test(heparin, steady_state_of_the_first_rate) {
  // 18 U/kg/h after 80 U/kg: 0.3-0.7 U/mL, Raschke's 46-70 s, and there long before 24 h
  const heparin_patient p = typical();
  float conc = heparin_hour(&p, 0.0f, 18.0f, 80.0f), day = 0.0f;
  for (int t = 1; t < 72; t++) {
    conc = heparin_hour(&p, conc, 18.0f, 0.0f);
    day = t == 23 ? conc : day;
  }
  cr_expect(conc > 0.3f && conc < 0.7f, "%g U/mL", (double)conc);
  cr_expect(fabs(flow(&p, conc, 18.0, 1.0) / conc - 1) < 1e-4);
  cr_expect(fabsf(day / conc - 1.0f) < 0.01f);
  const double aptt = heparin_aptt(&p, conc);
  cr_expect(aptt > 46 && aptt < 70, "%g s", aptt);
}


Test(heparin, response) {
  // log-linear (Whitfield & Levy 1980), and the hospitals' 60-100 s within 0.3-0.7 U/mL
  const heparin_patient p = typical();
  for (double conc = 0.0; conc < 1.2; conc += 0.05) {
    const double want = 33 * exp(1.8 * conc);
    cr_expect(fabs(heparin_aptt(&p, (float)conc) / want - 1) < 1e-6);
  }
  cr_expect(heparin_aptt(&p, 0.3f) < 60.0f && heparin_aptt(&p, 0.7f) > 100.0f);
  cr_expect(heparin_aptt(&p, 9.0f) == HEPARIN_MOST_APTT);
}


Test(heparin, variability) {
  world w = world_open("auto", 2, NULL, 0, 20000, 1);
  world_follow(&w, "nomogram");
  double n = 0, s = 0, b = 0, ss = 0, bb = 0, sb = 0;
  int outside[2] = {0, 0};
  for (int64_t i = 0; i < w.n; i++) {
    const float *p = w.patients + i * HEPARIN_WORDS;
    const double man = p[HEPARIN_WORD_male] > 0 ? 1.0 : 1.1;
    const double x = log(p[HEPARIN_WORD_slope] / man / 1.8), y = log(p[HEPARIN_WORD_base] / 33.0);
    n += 1, s += x, b += y, ss += x * x, bb += y * y, sb += x * y;
    outside[0] += p[HEPARIN_WORD_slope] < 0.8 || p[HEPARIN_WORD_slope] > 4.5;
    outside[1] += p[HEPARIN_WORD_base] < 20 || p[HEPARIN_WORD_base] > 59.7;
  }
  cr_expect(fabs(s / n) < 0.01 && fabs(b / n) < 0.01);
  cr_expect(fabs(sqrt(ss / n) - 0.25) < 0.01 && fabs(sqrt(bb / n) - 0.15) < 0.01);
  cr_expect(fabs(sb / sqrt(ss * bb) - 0.905) < 0.02, "Bjornsson & Wolfram's correlation");
  cr_expect(outside[0] < 0.01 * n && outside[1] < 0.01 * n);
  world_close(&w);
}


// share of patients (%) with this metric, under a baseline; 46 s is 1.5 times control
static double trial(const char *name, int metric) {
  world w = world_open("auto", 2, NULL, 0, 4000, 72);
  double sum = 0.0, out[RGM_TRIAL_METRICS];
  world_follow(&w, name);
  for (int64_t i = 0; i < w.n; i++) {
    env()->measure(w.signals + i * w.steps * HEPARIN_SIGNALS, w.steps, out);
    sum += out[metric] / (double)w.n;
  }
  world_close(&w);
  return sum;
}


Test(heparin, raschkes_trial) {
  // published: 97 % (60 of 62) against 77 % (37 of 48) above the threshold within 24 h; 95 % limits
  // of these counts (Clopper-Pearson) are 88.8-99.6 and 62.7-88.0 %. The simulated patients come
  // out at 89 and 72 %: at the first one's lower edge, within the second, with the trial's
  // difference.
  int metric = 0;
  while (strcmp(env()->metrics[metric].name, "threshold_24h") != 0) {
    metric++;
  }
  const double weight = trial("raschke", metric), standard = trial("standard_care", metric);
  cr_expect(weight > 87.0 && weight < 99.6, "%g %%", weight);
  cr_expect(standard > 62.7 && standard < 88.0, "%g %%", standard);
  cr_expect(weight - standard > 10.0 && weight - standard < 30.0, "%g points", weight - standard);
}


// ---- the nomogram ------------------------------------------------------------------------------

Test(heparin, decisions) {
  // Raschke's table: aPTT, then bolus U/kg, change of the rate U/kg/h, hold h
  static const struct {
    float aptt, bolus, change, hold;
  } rows[] = {
      {20, 80, 4, 0},   {34.9f, 80, 4, 0}, {35, 40, 2, 0},    {45.9f, 40, 2, 0}, {46, 0, 0, 0},
      {70.9f, 0, 0, 0}, {71, 0, -2, 0},    {90.9f, 0, -2, 0}, {91, 0, -3, 1},    {150, 0, -3, 1},
  };
  const heparin_config c = {.max_rate = 40, .max_bolus = 100};
  heparin_patient p = typical();
  float params[NOMOGRAM_PARAMS], act[HEPARIN_ACT];
  cr_assert_eq(baseline("raschke")->params(NULL, params), RGM_OK);
  p.weight = 100.0f;
  for (int i = 0; i < COUNT(rows); i++) {
    heparin_state s = {.last = 33.0f};
    heparin_clinician(&s, &p, &c, params, 0, act);
    cr_expect(fabsf(act[0] * 40 - 18) < 1e-4f && fabsf(act[1] * 100 - 80) < 1e-4f, "start");
    s.lab_age = 3.0f;
    heparin_clinician(&s, &p, &c, params, 3, act);
    cr_expect(fabsf(act[0] * 40 - 18) < 1e-4f && act[1] == 0.0f, "no result, no change");
    s.lab_age = 0.0f, s.last = rows[i].aptt;
    heparin_clinician(&s, &p, &c, params, 6, act);
    const float rate = 18 + rows[i].change;
    cr_expect(fabsf(act[1] * 100 - rows[i].bolus) < 1e-4f, "row %d: bolus %g", i, act[1] * 100.0);
    cr_expect(fabsf(act[0] * 40 - (rows[i].hold > 0 ? 0 : rate)) < 1e-4f, "row %d: rate", i);
    s.lab_age = 1.0f;
    heparin_clinician(&s, &p, &c, params, 7, act);
    cr_expect(fabsf(act[0] * 40 - rate) < 1e-4f && act[1] == 0.0f, "row %d: the hour after", i);
  }
  // units, not units per kg; a severe patient's aPTT is read 10 s lower; a rate never falls below 0
  heparin_state s = {.last = 33.0f};
  params[NOMOGRAM_FIXED] = 1.0f;
  heparin_clinician(&s, &p, &c, params, 0, act);
  cr_expect(fabsf(act[0] * 40 - 18 * 0.8f) < 1e-4f && fabsf(act[1] * 100 - 64) < 1e-4f);
  params[NOMOGRAM_FIXED] = 0.0f, params[NOMOGRAM_KAPPA] = 10.0f;
  p.severity = 1.0f, s.last = 75.0f;
  heparin_clinician(&s, &p, &c, params, 6, act);
  cr_expect(fabsf(act[0] * 40 - 18) < 1e-4f);
  s.rate = 1.0f, s.last = 90.0f;
  heparin_clinician(&s, &p, &c, params, 12, act);
  cr_expect(act[0] == 0.0f);
}


// ---- the loop ----------------------------------------------------------------------------------

// records of one episode against the model in double
static void check_episode(const world *w, int64_t i, double turnaround, double worst[3]) {
  heparin_patient p;
  memcpy(&p, w->patients + i * HEPARIN_WORDS, sizeof p);
  const heparin_config *c = &w->config;
  double conc = 0.0, drawn = 0.0, age = 0.0, hazard[3] = {0}, sum = 0.0;
  float sample = 0.0f, shown = 0.0f;
  bool over = false, clotted = false;
  for (int64_t t = 0; t < w->steps; t++) {
    const float *s = w->signals + (i * w->steps + t) * HEPARIN_SIGNALS;
    const float *o = w->obs + (i * w->steps + t) * HEPARIN_OBS;
    const bool fresh = s[HEPARIN_SIGNAL_NEW] > 0.0f;
    worst[0] = fmax(worst[0], fabs(s[HEPARIN_SIGNAL_CONC] - conc));
    cr_assert_eq(s[HEPARIN_SIGNAL_VALID], over ? 0.0f : 1.0f);
    // a sample's result is known `turnaround` hours later, the first one's at once
    drawn = fresh ? 0.0 : drawn + 1.0;
    sample = fresh ? s[HEPARIN_SIGNAL_NEW] : sample;
    const bool known = t == 0 || (drawn == turnaround && t > turnaround);
    shown = known ? sample : shown;
    age = known ? turnaround : age + 1.0;
    cr_assert(o[HEPARIN_SEE_APTT_AGE] == (float)age && (fresh || drawn < 20) && (t > 0 || fresh));
    cr_assert(o[HEPARIN_SEE_APTT] == shown, "hour %d", (int)t);
    cr_assert(known || s[HEPARIN_SIGNAL_RATE] == (s - HEPARIN_SIGNALS)[HEPARIN_SIGNAL_RATE],
              "a clinician without news changes nothing, hour %d", (int)t);
    cr_assert(o[HEPARIN_SEE_APTT] <= 150.0f && o[HEPARIN_SEE_HOUR] == (float)t);
    if (fresh && s[HEPARIN_SIGNAL_APTT] < 110.0f) {
      worst[1] = fmax(worst[1], fabs(log(s[HEPARIN_SIGNAL_NEW] / s[HEPARIN_SIGNAL_APTT])));
    }
    conc = flow(&p, conc + s[HEPARIN_SIGNAL_BOLUS] * (double)p.gain, s[HEPARIN_SIGNAL_RATE], 1.0);
    // reward and events from the record's own aPTT: tanh is steep
    const double x = s[HEPARIN_SIGNAL_NEXT];
    const double model = fmin(p.base * exp(p.slope * conc), 400.0);
    worst[2] = fmax(worst[2], fabs(x / model - 1));
    const double reward = tanh((x - 60) / 2) - tanh((x - 100) / 2) - 1;
    hazard[0] += over ? 0 : c->bleed * p.risk * pow(1.07, (fmin(x, 200) - 80) / 10);
    hazard[1] += over ? 0 : c->clot * p.risk * (x < 60 ? 1.54 : 1.0);
    hazard[2] += over ? 0 : c->death * p.risk;
    const bool bleed = !over && hazard[0] > p.limit_bleed;
    const bool clot = !over && !clotted && hazard[1] > p.limit_clot;
    const bool death = !over && hazard[2] > p.limit_death;
    cr_assert(bleed == (s[HEPARIN_SIGNAL_BLEED] > 0) && clot == (s[HEPARIN_SIGNAL_CLOT] > 0));
    cr_assert(death == (s[HEPARIN_SIGNAL_DEATH] > 0));
    const double want = over ? 0.0 : reward - 5.0 * bleed - 3.0 * clot - 20.0 * death;
    cr_assert(fabs(s[HEPARIN_SIGNAL_REWARD] - want) < 1e-5, "hour %d", (int)t);
    sum += s[HEPARIN_SIGNAL_REWARD];
    clotted = clotted || clot;
    over = over || bleed || death;
  }
  cr_assert(fabs(w->returns[i] - sum) < 1e-4);
}


Test(heparin, records_recomputed) {
  static const int turnarounds[] = {1, 0, 5};
  for (int k = 0; k < COUNT(turnarounds); k++) {
    char turnaround[64];
    snprintf(turnaround, sizeof turnaround, "env.lab_turnaround=%d", turnarounds[k]);
    const char *sets[] = {"env.bleed_hazard=0.004",
                          "env.clot_hazard=0.003",
                          "env.death_hazard=0.002",
                          "env.bleed_penalty=5",
                          "env.clot_penalty=3",
                          "env.death_penalty=20",
                          "env.hold=0",
                          turnaround};
    world w = world_open("auto", 1, sets, COUNT(sets), 200, 72);
    double worst[3] = {0};
    world_follow(&w, "clinician");
    for (int64_t i = 0; i < w.n; i++) {
      check_episode(&w, i, turnarounds[k], worst);
    }
    cr_expect(worst[0] < 2e-3, "concentration: %.3g U/mL", worst[0]);
    cr_expect(worst[1] > 0.1 && worst[1] < 0.3, "noise of 5 %%: %.3g", worst[1]);
    cr_expect(worst[2] < 4e-3, "aPTT: %.3g", worst[2]);
    world_close(&w);
  }
}


Test(heparin, results_come_before_the_next_sample) {
  const char *sets[] = {"env.lab_every=4", "env.lab_turnaround=4"};
  rgm_run *run = NULL;
  rgm_config *config = NULL;
  cr_assert_eq(
      rgm_config_parse("test", "algorithm: {name: pid}\nenv: {name: heparin}\n", sets, 2, &config),
      RGM_OK);
  const rgm_status status = rgm_run_plan_only(config, &run);
  heparin_config c;
  cr_assert(status == RGM_ECONFIG ||
            env()->prepare(rgm_env_keys(run, 0), run->config, &c) == RGM_ECONFIG);
  cr_assert_not_null(strstr(rgm_last_error(), "env.lab_turnaround: results must come"), "%s",
                     rgm_last_error());
  rgm_run_free(run);
}


Test(heparin, same_bits_for_every_instruction_set_and_any_threads) {
  static const rgm_control controls[] = {RGM_CONTROL_CLINICIAN, RGM_CONTROL_STOCHASTIC,
                                         RGM_CONTROL_CONTINUOUS};
  const char *const *isas = rgm_cpu_isas();
  for (int k = 0; k < COUNT(controls); k++) {
    world one = world_open(isas[0], 1, NULL, 0, 333, 72);
    for (int i = 0; isas[i] != NULL; i++) {
      for (int threads = 1; threads <= 3; threads += 2) {
        world w = world_open(isas[i], threads, NULL, 0, 333, 72);
        world *both[] = {&one, &w};
        for (int j = 0; j < 2; j++) {
          uint32_t count = 7;
          for (int m = 0; m < COUNT(w.params); m++) {
            both[j]->params[m] = (float)(0.02 * toss(&count) - 0.01);
          }
          if (controls[k] == RGM_CONTROL_CLINICIAN) {
            world_follow(both[j], "clinician");
          } else {
            world_roll(both[j], controls[k], 20);
          }
        }
        const size_t rows = (size_t)(w.n * w.steps) * sizeof(float);
        cr_expect(memcmp(one.returns, w.returns, (size_t)w.n * sizeof(float)) == 0);
        cr_expect(memcmp(one.patients, w.patients, HEPARIN_WORDS * (size_t)w.n * 4) == 0);
        cr_expect(memcmp(one.obs, w.obs, HEPARIN_OBS * rows) == 0, "%s", isas[i]);
        cr_expect(memcmp(one.act, w.act, HEPARIN_ACT * rows) == 0);
        cr_expect(memcmp(one.signals, w.signals, HEPARIN_SIGNALS * rows) == 0);
        world_close(&w);
      }
    }
    world_close(&one);
  }
}


Test(heparin, reward) {
  // omgrl.md 2.2
  static const double rows[][2] = {{40, -1},  {60, 0},  {62, 0.76159},
                                   {80, 1.0}, {100, 0}, {150, -1}};
  const heparin_config c = {.low = 60, .high = 100};
  for (int i = 0; i < COUNT(rows); i++) {
    cr_expect(fabs(heparin_reward(&c, (float)rows[i][0]) - rows[i][1]) < 1e-5);
  }
}


// ---- events and what is hidden -----------------------------------------------------------------

Test(heparin, hazards) {
  // + 7 % per 10 s and 1.54 below 60 s (Anand 2003); deaths come at their rate
  static const char *sets[] = {"env.death_hazard=0.01", "env.bleed_hazard=0", "env.clot_hazard=0",
                               "env.severity_hazard=0"};
  world w = world_open("auto", 2, NULL, 0, 1, 1);
  heparin_patient p = typical();
  float low[3], high[3];
  heparin_hazards(&p, &w.config, 80.0f, &low[0], &low[1], &low[2]);
  cr_expect(fabs(low[0] / 1.7e-4 - 1) < 1e-6 && fabs(low[1] / 1.4e-4 - 1) < 1e-6);
  heparin_hazards(&p, &w.config, 90.0f, &high[0], &high[1], &high[2]);
  cr_expect(fabs(high[0] / low[0] - 1.07) < 1e-5 && high[1] == low[1] && high[2] == low[2]);
  heparin_hazards(&p, &w.config, 59.0f, &high[0], &high[1], &high[2]);
  cr_expect(fabs(high[1] / low[1] - 1.54) < 1e-5);
  world_close(&w);
  w = world_open("auto", 2, sets, COUNT(sets), 20000, 72);
  double deaths = 0.0;
  world_follow(&w, "nomogram");
  for (int64_t i = 0; i < w.n * w.steps; i++) {
    deaths += w.signals[i * HEPARIN_SIGNALS + HEPARIN_SIGNAL_DEATH];
  }
  const double share = deaths / (double)w.n, want = 1 - exp(-0.72);
  cr_expect(fabs(share - want) < 4 * sqrt(want * (1 - want) / (double)w.n), "%g, not %g", share,
            want);
  world_close(&w);
}


// correlation over patients of severity with the mean dose from hour 6 on, where `column` < 0, or
// with that of an observation; *z in standard errors of no correlation
static double correlation(const world *w, int column) {
  double n = (double)w->n, x = 0, y = 0, xx = 0, yy = 0, xy = 0;
  for (int64_t i = 0; i < w->n; i++) {
    const double a = w->patients[i * HEPARIN_WORDS + HEPARIN_WORD_severity];
    double b = 0.0;
    for (int64_t t = 6; t < w->steps; t++) {
      b += column < 0 ? w->signals[(i * w->steps + t) * HEPARIN_SIGNALS + HEPARIN_SIGNAL_RATE]
                      : w->obs[(i * w->steps + t) * HEPARIN_OBS + column];
    }
    x += a, y += b, xx += a * a, yy += b * b, xy += a * b;
  }
  return (n * xy - x * y) / sqrt((n * xx - x * x) * (n * yy - y * y));
}


Test(heparin, confounding_is_what_it_is_set_to) {
  static const char *none[] = {"env.kappa=0"}, *some[] = {"env.kappa=10"};
  static const char *much[] = {"env.kappa=30"};
  world w = world_open("auto", 2, none, 1, 8000, 72);
  const double error = 1 / sqrt(8000.0);
  world_follow(&w, "clinician");
  cr_expect(fabs(correlation(&w, -1)) < 3.5 * error, "%g without", correlation(&w, -1));
  for (int k = 1; k < HEPARIN_OBS; k++) {
    cr_expect(fabs(correlation(&w, k)) < 4 * error, "severity shows in observation %d: %g", k,
              correlation(&w, k));
  }
  world_close(&w);
  w = world_open("auto", 2, some, 1, 8000, 72);
  world_follow(&w, "clinician");
  const double mild = correlation(&w, -1);
  world_close(&w);
  w = world_open("auto", 2, much, 1, 8000, 72);
  world_follow(&w, "clinician");
  const double strong = correlation(&w, -1);
  world_close(&w);
  cr_expect(mild > 5 * error && strong > mild, "kappa 10: %g, 30: %g", mild, strong);
  // and it shifts the outcome: twice as many deaths above two standard deviations as in the middle
  w = world_open("auto", 2, none, 1, 20000, 72);
  double died[2] = {0}, all[2] = {0};
  world_follow(&w, "nomogram");
  for (int64_t i = 0; i < w.n; i++) {
    const int severe = w.patients[i * HEPARIN_WORDS + HEPARIN_WORD_severity] > 1.0f;
    all[severe] += 1;
    for (int64_t t = 0; t < w.steps; t++) {
      died[severe] += w.signals[(i * w.steps + t) * HEPARIN_SIGNALS + HEPARIN_SIGNAL_DEATH];
    }
  }
  cr_expect(died[1] / all[1] > 1.5 * died[0] / all[0]);
  world_close(&w);
}


// ---- the optimum -------------------------------------------------------------------------------

Test(heparin, optimum_of_two_hours_against_a_search) {
  // all pairs of rates, from the loop's own hour
  static const char *sets[] = {"env.steps=2", "env.clot_penalty=2", "env.bleed_penalty=3",
                               "env.clot_hazard=0.05", "env.bleed_hazard=0.02"};
  enum { RATES = 400 };
  world w = world_open("auto", 1, sets, COUNT(sets), 1, 2);
  heparin_patient p = typical();
  float words[HEPARIN_WORDS];
  memcpy(words, &p, sizeof words);
  const heparin_config *c = &w.config;
  double best = -INFINITY, value;
  for (int a = 0; a <= RATES; a++) {
    const float one = heparin_hour(&p, 0.0f, c->max_rate * (float)a / RATES, 0.0f);
    double after = -INFINITY, clotted = -INFINITY;
    float h[3], g[3];
    heparin_hazards(&p, c, heparin_aptt(&p, one), &h[0], &h[1], &h[2]);
    for (int b = 0; b <= RATES; b++) {
      const float x = heparin_aptt(&p, heparin_hour(&p, one, c->max_rate * (float)b / RATES, 0.0f));
      heparin_hazards(&p, c, x, &g[0], &g[1], &g[2]);
      const double r = heparin_reward(c, x) - 3 * (1 - exp(-(double)g[0]));
      after = fmax(after, r - 2 * (1 - exp(-(double)g[1])));
      clotted = fmax(clotted, r);
    }
    const double clot = 1 - exp(-(double)h[1]), alive = exp(-(double)h[0] - (double)h[2]);
    const double r = heparin_reward(c, heparin_aptt(&p, one)) - 3 * (1 - exp(-(double)h[0]));
    best = fmax(best, r - 2 * clot + alive * (clot * clotted + (1 - clot) * after));
  }
  cr_assert_eq(env()->optimum(rgm_env_keys(w.run, 0), c, words, 800, false, &value), RGM_OK);
  cr_expect(fabs(value - best) < 2e-3, "%.6f, not %.6f", value, best);
  world_close(&w);
}


Test(heparin, optimum_converges_and_bounds_the_controllers) {
  static const char *const names[] = {"nomogram", "clinician", "raschke", "standard_care"};
  world w = world_open("auto", 2, NULL, 0, 40, 72);
  double fine[2] = {0}, coarse[2] = {0};
  world_follow(&w, "nomogram");
  for (int64_t i = 0; i < w.n; i++) {
    for (int k = 0; k < 2; k++) {
      double value;
      const float *words = w.patients + i * HEPARIN_WORDS;
      const void *keys = rgm_env_keys(w.run, 0);
      cr_assert_eq(env()->optimum(keys, &w.config, words, 160, k == 0, &value), RGM_OK);
      fine[k] += value;
      cr_assert_eq(env()->optimum(keys, &w.config, words, 80, k == 0, &value), RGM_OK);
      coarse[k] += value;
    }
  }
  for (int k = 0; k < 2; k++) {
    cr_expect(fabs(coarse[k] / fine[k] - 1) < 1e-3, "half the grid: %g", coarse[k] / fine[k] - 1);
  }
  cr_expect(fine[0] >= fine[1] && fine[0] <= 72.0 * (double)w.n);
  for (int b = 0; b < COUNT(names); b++) {
    double sum = 0.0;
    world_follow(&w, names[b]);
    for (int64_t i = 0; i < w.n; i++) {
      sum += w.returns[i];
    }
    cr_expect(sum < fine[0], "%s", names[b]);
  }
  world_close(&w);
}


// ---- data sets ---------------------------------------------------------------------------------

Test(heparin, episodes_become_a_data_set) {
  static const char *sets[] = {"env.noise=0.15", "env.death_hazard=0.004"};
  world w = world_open("auto", 1, sets, COUNT(sets), 300, 72);
  world_follow(&w, "clinician");
  rgm_episodes e = {300, 72, w.obs, w.act, w.signals, 6, 5, 0.2, 0.0, false};
  rgm_dataset *d = NULL;
  rgm_finding *found = NULL;
  int count = 0;
  cr_assert_eq(env()->record(rgm_env_keys(w.run, 0), &e, &d), RGM_OK, "%s", rgm_last_error());
  cr_assert_eq(rgm_dataset_check(d, &found, &count), RGM_OK);
  for (int i = 0; i < count; i++) {
    cr_expect(found[i].severity != RGM_ERROR, "%s: %s", found[i].kind, found[i].text);
  }
  free(found);
  // seventeen variables and the age of the last aPTT, six bins, each row an hour that was lived
  cr_expect_eq(rgm_dataset_width(d, RGM_SEEN), 18);
  const rgm_column *action = &d->column[rgm_dataset_role(d, RGM_ROLE_ACTION)];
  const rgm_column *dose = &d->column[rgm_dataset_role(d, RGM_ROLE_DOSE)];
  const rgm_column *ended = &d->column[rgm_dataset_role(d, RGM_ROLE_TERMINATED)];
  const rgm_column *cut = &d->column[rgm_dataset_role(d, RGM_ROLE_TRUNCATED)];
  double rows = 0.0, most[6] = {0}, least[6], ends = 0.0, cuts = 0.0;
  int64_t bin[6] = {0};
  for (int k = 0; k < 6; k++) {
    least[k] = INFINITY;
  }
  for (int64_t i = 0; i < w.n * w.steps; i++) {
    rows += w.signals[i * HEPARIN_SIGNALS + HEPARIN_SIGNAL_VALID];
  }
  cr_assert_eq(d->rows, (int64_t)rows);
  for (int64_t i = 0; i < d->rows; i++) {
    const int k = (int)rgm_cell_get(action, i);
    const double given = rgm_cell_get(dose, i);
    cr_assert(k >= 0 && k < 6);
    most[k] = fmax(most[k], given), least[k] = fmin(least[k], given), bin[k]++;
    ends += rgm_cell_get(ended, i), cuts += rgm_cell_get(cut, i);
  }
  for (int k = 0; k < 6; k++) {
    cr_expect(fabs(6.0 * (double)bin[k] / rows - 1) < 0.1, "bin %d: %d rows", k, (int)bin[k]);
    cr_expect(k == 0 || least[k] > most[k - 1]);
  }
  cr_expect(ends > 0.0 && ends + cuts == 300.0);
  rgm_dataset_free(d);

  // with what was given before as one more state
  e.history = true;
  cr_assert_eq(env()->record(rgm_env_keys(w.run, 0), &e, &d), RGM_OK);
  cr_expect_eq(rgm_dataset_width(d, RGM_SEEN), 19);
  const rgm_column *before = &d->column[rgm_dataset_find(d, "heparin_before")];
  cr_expect_eq(before->role, RGM_ROLE_STATE);
  dose = &d->column[rgm_dataset_role(d, RGM_ROLE_DOSE)];
  cr_expect_float_eq(rgm_cell_get(before, 1), rgm_cell_get(dose, 0), 1e-4);
  rgm_dataset_free(d);
  world_close(&w);
}


Test(heparin, config_is_checked) {
  static const char *const rows[] = {"env.target=[100, 60]",
                                     "env.limits=[45, 60, 100]",
                                     "env.limits=[45, 60, 60, 120]",
                                     "env.boluses=[80]",
                                     "env.up=4",
                                     "env.down=[1, 2, 3]"};
  for (int i = 0; i < COUNT(rows); i++) {
    rgm_run *run = plan_run(NULL, 0);
    rgm_run_free(run);
    static const char text[] = "run: {threads: 1, backend: cpu}\nalgorithm: {name: pid}\n"
                               "env: {name: heparin}\n";
    rgm_config *config = NULL;
    cr_assert_eq(rgm_config_parse("test", text, &rows[i], 1, &config), RGM_OK);
    cr_expect_eq(rgm_run_create(config, &run), RGM_ECONFIG, "%s", rows[i]);
    rgm_run_free(run);
  }
}
