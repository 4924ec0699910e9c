// SPDX-License-Identifier: Apache-2.0
// Backward induction (Puterman 1994, 4.5) for thousands of patients at once, each with transition
// probabilities of their own that change from year to year: the shape of treatment planning for
// hypertension (Marrero et al. 2021: ten years, six states of health, 21 treatments). Problems come
// from a table, or are generated: by formulas of our own, to try plans and speed on, which say
// nothing of real patients. A step is a share of the patients; a batch of them is one launch.

#include "engine/csv.h"
#include "engine/engine.h"
#include "kernels/rng.h"
#include "kernels/tabular.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

typedef struct patients_keys {
  char path[RGM_STRING_SIZE];
  double gamma;
  int64_t patients, years, states, actions, batch, start;
} patients_keys;

#define KEY(member) offsetof(patients_keys, member)

static const rgm_field fields[] = {
    RGM_TEXT("path", KEY(path), "", RGM_SHAPE,
             "A table of columns patient, year, state, action, next, p, reward, all from 0 on; "
             "empty: patients are generated."),
    {"patients", RGM_INT, KEY(patients), "1", "10000", 1, 1e7, NULL, RGM_SHAPE, "Patients."},
    {"years", RGM_INT, KEY(years), "years", "10", 1, 1000, NULL, RGM_SHAPE,
     "Decisions of a patient."},
    {"states", RGM_INT, KEY(states), "1", "6", 2, 64, NULL, RGM_SHAPE,
     "States of health; of generated patients always 6."},
    {"actions", RGM_INT, KEY(actions), "1", "21", 1, RGM_BACKWARD_ACTIONS, NULL, RGM_SHAPE,
     "Treatments; of generated patients always 21."},
    {"gamma", RGM_FLOAT, KEY(gamma), "1", "0.97", 0, 1, NULL, 0, "Discount of a year."},
    {"start", RGM_INT, KEY(start), "1", "0", 0, 63, NULL, 0,
     "State that patients are in at first, in the report."},
    {"batch", RGM_INT, KEY(batch), "1", "256", 1, 65536, NULL, RGM_SHAPE | RGM_PROVENANCE,
     "Patients of a launch; changes memory, not bits."},
    {0},
};

enum { HEALTHY, HAD_HEART, HAD_STROKE, HEART, STROKE, DEAD, HEALTHS, TREATMENTS = 21, DRUGS = 5 };

// One row of a table: where a pair leads with probability p, and its share of the reward.
typedef struct arc {
  int32_t patient, year, state, action, next;
  double p, reward;
} arc;

typedef struct patients {
  rgm_tensor value;       // (P, H + 1, S) f64
  rgm_tensor action;      // (P, H, S) i32
  rgm_tensor p, reward;   // (G, H, S * S, A), (G, H, S, A) f64: a batch
  rgm_tensor gamma, live; // (G)
  double *host_p, *host_reward;
  arc *arcs;      // by patient
  int64_t *first; // (P + 1) arcs of a patient
} patients;


static const patients_keys *keys_of(const rgm_run *run) {
  return rgm_algorithm_keys(run, 0);
}


// ---- generated patients ------------------------------------------------------------------------

// Yearly chances of a heart attack or a stroke of a patient under a treatment, and of dying.
typedef struct risk {
  double heart, stroke, death;
} risk;


// logistic in age, pressure, sex and smoking; a drug lowers pressure, by less the more there are
static risk risk_of(const double *who, int64_t year, double drop) {
  const double age = who[0] + (double)year, pressure = who[1] - drop;
  const double shared = 0.75 * (age - 60.0) / 10.0 + 0.35 * who[2] + 0.55 * who[3];
  risk r;
  r.heart = rgm_sigmoid64(-4.5 + shared + 0.40 * (pressure - 140.0) / 20.0);
  r.stroke = rgm_sigmoid64(-5.2 + shared + 0.70 * (pressure - 140.0) / 20.0);
  r.death = rgm_sigmoid64(-5.0 + 0.95 * (age - 60.0) / 10.0 + 0.20 * who[3]);
  return r;
}


// probabilities of one state under one treatment, p (S)
static void fate(const risk *r, int state, double *p) {
  const double worse = state == HEALTHY ? 1.0 : 2.0; // who had an event has the next one sooner
  const double heart = fmin(worse * r->heart, 0.4), stroke = fmin(worse * r->stroke, 0.4);
  const double lethal = state == HEART || state == STROKE ? 0.20 : 0.0; // within the year
  const double death = fmin(r->death * (state == HEALTHY ? 1.0 : 1.5) + lethal, 0.95);
  const int rest = state == HEART ? HAD_HEART : state == STROKE ? HAD_STROKE : state;
  for (int n = 0; n < HEALTHS; n++) {
    p[n] = 0.0;
  }
  if (state == DEAD) {
    p[DEAD] = 1.0;
    return;
  }
  p[DEAD] = death;
  p[HEART] = (1.0 - death) * heart;
  p[STROKE] = (1.0 - death) * (1.0 - heart) * stroke;
  p[rest] += (1.0 - death) * (1.0 - heart) * (1.0 - stroke);
}


// Treatment a: how many drugs at half and at full dose, (0, 0), (0, 1), ... (5, 0).
static void drugs_of(int64_t a, int *half, int *full) {
  for (*half = 0; *half <= DRUGS; ++*half) {
    const int64_t many = DRUGS + 1 - *half;
    if (a < many) {
      *full = (int)a;
      return;
    }
    a -= many;
  }
}


static void generate(const rgm_run *run, int64_t patient, double *p, double *reward) {
  static const double quality[HEALTHS] = {1.0, 0.88, 0.75, 0.70, 0.55, 0.0};
  const uint32_t *seed = run->seeds.data;
  rgm_rng rng = {rgm_stream_key(seed, RGM_RANDOM_PATIENT), 0, (uint32_t)patient, 0};
  double who[4];
  who[0] = rgm_rng_range(&rng, 40.0, 70.0);   // years
  who[1] = rgm_rng_range(&rng, 125.0, 185.0); // mmHg
  who[2] = rgm_rng_range(&rng, 0.0, 1.0) < 0.5 ? 1.0 : 0.0;
  who[3] = rgm_rng_range(&rng, 0.0, 1.0) < 0.25 ? 1.0 : 0.0;
  const double respond = rgm_rng_range(&rng, 0.5, 1.5), burden = rgm_rng_range(&rng, 0.5, 2.0);
  for (int64_t year = 0; year < keys_of(run)->years; year++) {
    for (int64_t a = 0; a < TREATMENTS; a++) {
      int half = 0, full = 0;
      drugs_of(a, &half, &full);
      const double doses = (double)full + 0.5 * (double)half;
      const double drop = respond * 30.0 * (1.0 - rgm_exp64(-0.35 * doses - 0.05 * half));
      const risk r = risk_of(who, year, drop);
      for (int s = 0; s < HEALTHS; s++) {
        double to[HEALTHS];
        fate(&r, s, to);
        for (int n = 0; n < HEALTHS; n++) {
          p[((year * HEALTHS + s) * HEALTHS + n) * TREATMENTS + a] = to[n];
        }
        const double cost = burden * (0.003 * (double)full + 0.002 * (double)half);
        reward[(year * HEALTHS + s) * TREATMENTS + a] = s == DEAD ? 0.0 : quality[s] - cost;
      }
    }
  }
}


// ---- patients of a table -----------------------------------------------------------------------

static int by_patient(const void *x, const void *y) {
  const arc *a = x, *b = y;
  return a->patient != b->patient ? (a->patient > b->patient) - (a->patient < b->patient)
         : a->year != b->year     ? (a->year > b->year) - (a->year < b->year)
         : a->state != b->state   ? (a->state > b->state) - (a->state < b->state)
         : a->action != b->action ? (a->action > b->action) - (a->action < b->action)
                                  : (a->next > b->next) - (a->next < b->next);
}


// one row, its numbers in range
static rgm_status read_arc(const patients_keys *k, const rgm_table *t, int64_t row, const int *at,
                           arc *out) {
  static const char *const names[] = {"patient", "year", "state", "action", "next"};
  const int64_t most[] = {k->patients, k->years, k->states, k->actions, k->states};
  int32_t *const to[] = {&out->patient, &out->year, &out->state, &out->action, &out->next};
  const double *x = t->value + row * t->columns;
  for (int i = 0; i < 5; i++) {
    if (!(x[at[i]] >= 0.0 && x[at[i]] < (double)most[i]) || floor(x[at[i]]) != x[at[i]]) {
      return rgm_fail(RGM_EDATA, "%s: row %lld: column %s: whole numbers from 0 to %lld", k->path,
                      (long long)row + 2, names[i], (long long)most[i] - 1);
    }
    *to[i] = (int32_t)x[at[i]];
  }
  out->p = x[at[5]];
  out->reward = x[at[6]];
  return out->p >= 0.0 && out->p <= 1.0 && isfinite(out->reward)
             ? RGM_OK
             : rgm_fail(RGM_EDATA, "%s: row %lld: %s", k->path, (long long)row + 2,
                        isfinite(out->reward) ? "a probability lies outside 0 to 1"
                                              : "the reward is no number");
}


// rows of one pair sum to 1
static rgm_status check_sums(const patients_keys *k, const arc *arcs, int64_t count) {
  double sum = 0.0;
  for (int64_t i = 0; i < count; i++) {
    arc next = i + 1 < count ? arcs[i + 1] : (arc){.patient = -1};
    sum += arcs[i].p;
    const bool same = next.patient == arcs[i].patient && next.year == arcs[i].year &&
                      next.state == arcs[i].state && next.action == arcs[i].action;
    if (same && next.next == arcs[i].next) {
      return rgm_fail(RGM_EDATA,
                      "%s: patient %d, year %d, state %d, action %d: next state %d twice", k->path,
                      arcs[i].patient, arcs[i].year, arcs[i].state, arcs[i].action, arcs[i].next);
    }
    if (!same && fabs(sum - 1.0) > 1e-8) {
      return rgm_fail(RGM_EDATA,
                      "%s: patient %d, year %d, state %d, action %d: probabilities sum to %.9g",
                      k->path, arcs[i].patient, arcs[i].year, arcs[i].state, arcs[i].action, sum);
    }
    sum = same ? sum : 0.0;
  }
  return RGM_OK;
}


static rgm_status read_arcs(rgm_run *run, patients *s) {
  static const char *const names[] = {"patient", "year", "state", "action", "next", "p", "reward"};
  const patients_keys *k = keys_of(run);
  rgm_table t = {0};
  int at[7];
  RGM_TRY(rgm_table_read_csv(k->path, &t));
  rgm_status status = RGM_OK;
  for (int i = 0; i < 7 && status == RGM_OK; i++) {
    at[i] = rgm_table_column(&t, names[i]);
    status = at[i] >= 0 ? RGM_OK : rgm_fail(RGM_EDATA, "%s: no column %s", k->path, names[i]);
  }
  s->arcs = calloc((size_t)t.rows + 1, sizeof *s->arcs);
  s->first = calloc((size_t)k->patients + 1, sizeof *s->first);
  if (status == RGM_OK && (s->arcs == NULL || s->first == NULL)) {
    status = rgm_fail(RGM_EMEMORY, "no memory for %lld rows", (long long)t.rows);
  }
  for (int64_t row = 0; row < t.rows && status == RGM_OK; row++) {
    status = read_arc(k, &t, row, at, &s->arcs[row]);
  }
  if (status == RGM_OK) {
    qsort(s->arcs, (size_t)t.rows, sizeof *s->arcs, by_patient);
    status = check_sums(k, s->arcs, t.rows);
    for (int64_t row = 0; row < t.rows; row++) {
      s->first[s->arcs[row].patient + 1] = row + 1;
    }
    for (int64_t i = 0; i < k->patients; i++) {
      s->first[i + 1] = s->first[i + 1] > s->first[i] ? s->first[i + 1] : s->first[i];
    }
    memcpy(run->data_digest, t.digest, sizeof run->data_digest);
  }
  rgm_table_free(&t);
  return status;
}


// what a patient's rows say; a pair without any cannot be taken
static void spread(const patients_keys *k, const patients *s, int64_t patient, double *p,
                   double *reward) {
  const int64_t S = k->states, A = k->actions;
  memset(p, 0, (size_t)(k->years * S * S * A) * sizeof *p);
  for (int64_t i = 0; i < k->years * S * A; i++) {
    reward[i] = -INFINITY;
  }
  for (int64_t i = s->first[patient]; i < s->first[patient + 1]; i++) {
    const arc *x = &s->arcs[i];
    double *own = &reward[(x->year * S + x->state) * A + x->action];
    *own = fma(x->p, x->reward, *own > -1e300 ? *own : 0.0);
    p[((x->year * S + x->state) * S + x->next) * A + x->action] = x->p;
  }
}


// ---- planning and steps ------------------------------------------------------------------------

static rgm_status patients_check(const rgm_run *run) {
  const patients_keys *k = keys_of(run);
  if (run->replicas > 1) {
    return rgm_fail(RGM_ECONFIG, "%s: run.replicas: patients stand side by side, not replicas",
                    rgm_config_where(run->config, "run.replicas"));
  }
  if (k->path[0] == '\0' && (k->states != HEALTHS || k->actions != TREATMENTS)) {
    return rgm_fail(RGM_ECONFIG, "%s: generated patients have 6 states and 21 treatments",
                    rgm_config_where(run->config, k->states != HEALTHS ? "algorithm.states"
                                                                       : "algorithm.actions"));
  }
  return k->start < k->states
             ? RGM_OK
             : rgm_fail(RGM_ECONFIG, "%s: algorithm.start: there are %lld states, from 0 on",
                        rgm_config_where(run->config, "algorithm.start"), (long long)k->states);
}


static rgm_status patients_plan(rgm_run *run) {
  patients *s = run->self;
  const patients_keys *k = keys_of(run);
  rgm_arena *arena = run->arena;
  const int64_t P = k->patients, H = k->years, S = k->states, A = k->actions;
  const int64_t G = k->batch < P ? k->batch : P;
  if (k->path[0] != '\0' && s->arcs == NULL) {
    RGM_TRY(read_arcs(run, s));
  }
  const rgm_tensor value = rgm_plan(arena, "value", RGM_F64, RGM_STATE | RGM_EXPORTED,
                                    "replica, patient, year, state", "reward", 1, P, H + 1, S);
  const rgm_tensor action = rgm_plan(arena, "action", RGM_I32, RGM_STATE | RGM_EXPORTED,
                                     "replica, patient, year, state", "", 1, P, H, S);
  s->value = rgm_view(value.data, RGM_F64, P, H + 1, S, 0);
  s->action = rgm_view(action.data, RGM_I32, P, H, S, 0);
  s->p = rgm_plan(arena, "batch/p", RGM_F64, RGM_SCRATCH, "patient, year, state and next, action",
                  "1", G, H, S * S, A);
  s->reward = rgm_plan(arena, "batch/reward", RGM_F64, RGM_SCRATCH, "patient, year, state, action",
                       "reward", G, H, S, A);
  s->gamma = rgm_plan(arena, "hyper/gamma", RGM_F64, RGM_BLOCK, "patient", "1", G, 0, 0, 0);
  s->live = rgm_plan(arena, "live", RGM_U32, RGM_BLOCK, "patient", "", G, 0, 0, 0);
  return RGM_OK;
}


static rgm_status patients_init(rgm_run *run) {
  patients *s = run->self;
  const patients_keys *k = keys_of(run);
  const size_t G = (size_t)s->gamma.dims[0];
  s->host_p = malloc(rgm_bytes(s->p));
  s->host_reward = malloc(rgm_bytes(s->reward));
  double *gamma = malloc(G * sizeof *gamma);
  uint32_t *one = malloc(G * sizeof *one);
  rgm_status status =
      s->host_p != NULL && s->host_reward != NULL && gamma != NULL && one != NULL
          ? RGM_OK
          : rgm_fail(RGM_EMEMORY, "no memory for %zu patients; lower algorithm.batch", G);
  for (size_t g = 0; g < G && status == RGM_OK; g++) {
    gamma[g] = k->gamma;
    one[g] = 1;
  }
  if (status == RGM_OK) {
    rgm_copy(run->stream, s->gamma.data, gamma, G * sizeof *gamma);
    rgm_copy(run->stream, s->live.data, one, G * sizeof *one);
    status = rgm_sync(run->stream);
  }
  free(gamma);
  free(one);
  return status;
}


// What fills a batch: patient `first` + i.
typedef struct filling {
  rgm_run *run;
  int64_t first;
} filling;


static void fill_task(void *arg, int64_t i) {
  const filling *f = arg;
  const patients *s = f->run->self;
  const patients_keys *k = keys_of(f->run);
  double *p = s->host_p + i * k->years * k->states * k->states * k->actions;
  double *reward = s->host_reward + i * k->years * k->states * k->actions;
  if (s->arcs != NULL) {
    spread(k, s, f->first + i, p, reward);
  } else {
    generate(f->run, f->first + i, p, reward);
  }
}


// n patients from `first` on in one launch
static rgm_status solve(rgm_run *run, int64_t first, int64_t n) {
  const patients *s = run->self;
  filling f = {run, first};
  rgm_cpu_parallel(rgm_host(run->stream), n, fill_task, &f);
  const rgm_induction induction = {
      .value = rgm_slice(s->value, first, n),
      .action = rgm_slice(s->action, first, n),
      .p = rgm_slice(s->p, 0, n),
      .reward = rgm_slice(s->reward, 0, n),
      .gamma = rgm_slice(s->gamma, 0, n),
      .active = rgm_slice(s->live, 0, n),
  };
  rgm_copy(run->stream, s->p.data, s->host_p, rgm_bytes(induction.p));
  rgm_copy(run->stream, s->reward.data, s->host_reward, rgm_bytes(induction.reward));
  rgm_mdp_backward(run->stream, &induction);
  return rgm_sync(run->stream); // the host's copies are filled anew
}


static rgm_status patients_step(rgm_run *run) {
  const patients *s = run->self;
  const int64_t P = keys_of(run)->patients, G = s->p.dims[0];
  const int64_t steps = run->keys.steps > 0 ? run->keys.steps : 1;
  const int64_t first = P * (int64_t)run->step / steps, last = P * ((int64_t)run->step + 1) / steps;
  for (int64_t at = first; at < last; at += G) {
    RGM_TRY(solve(run, at, last - at < G ? last - at : G));
  }
  rgm_advance(run->stream, run->clock, run->active);
  return RGM_OK;
}


// ---- what came out -----------------------------------------------------------------------------

// Values at first of the patients that are done, `x` (P), and how many take each action at first,
// `taken` (A + 1; the last: none).
static rgm_status look(rgm_run *run, double *x, int64_t *taken, int64_t *done) {
  const patients *s = run->self;
  const patients_keys *k = keys_of(run);
  const int64_t steps = run->keys.steps > 0 ? run->keys.steps : 1;
  *done = k->patients * (int64_t)run->step / steps;
  double *value = malloc(rgm_bytes(s->value));
  int32_t *action = malloc(rgm_bytes(s->action));
  rgm_status status = value != NULL && action != NULL
                          ? rgm_read_back(run, s->value, value)
                          : rgm_fail(RGM_EMEMORY, "no memory for the answers");
  status = status == RGM_OK ? rgm_read_back(run, s->action, action) : status;
  for (int64_t i = 0; i < *done && status == RGM_OK; i++) {
    const int32_t a = action[i * k->years * k->states + k->start];
    x[i] = value[i * (k->years + 1) * k->states + k->start];
    taken[a >= 0 ? a : k->actions]++;
  }
  free(value);
  free(action);
  return status;
}


static rgm_status patients_report(rgm_run *run) {
  const patients_keys *k = keys_of(run);
  double *x = malloc((size_t)k->patients * sizeof *x);
  int64_t *taken = calloc((size_t)k->actions + 1, sizeof *taken), done;
  rgm_status status = x != NULL && taken != NULL ? look(run, x, taken, &done)
                                                 : rgm_fail(RGM_EMEMORY, "no memory to report");
  if (status == RGM_OK) {
    const float mean = (float)rgm_summarise(x, done).mean;
    status = rgm_report(run, "value", "reward", &mean);
  }
  free(x);
  free(taken);
  return status;
}


static void print_all(const rgm_run *run, const rgm_summary *v, const int64_t *taken, int64_t done,
                      FILE *text) {
  const patients_keys *k = keys_of(run);
  fprintf(text, "%lld patients%s, %lld years, %lld states, %lld treatments, gamma %.10g\n",
          (long long)done, k->path[0] == '\0' ? " (generated, of nobody)" : "", (long long)k->years,
          (long long)k->states, (long long)k->actions, k->gamma);
  fprintf(text,
          "value from state %lld: mean %.6f, sd %.6f, least %.6f, median %.6f, largest %.6f\n",
          (long long)k->start, v->mean, v->sd, v->min, v->median, v->max);
  fprintf(text, "first treatment\n");
  for (int64_t a = 0; a <= k->actions; a++) {
    int half = 0, full = 0;
    if (taken[a] == 0) {
      continue;
    }
    drugs_of(a, &half, &full);
    fprintf(text, "  %5lld patients: ", (long long)taken[a]);
    if (a == k->actions) {
      fprintf(text, "none can be taken\n");
    } else if (k->path[0] == '\0') {
      fprintf(text, "%d drugs at half, %d at full dose\n", half, full);
    } else {
      fprintf(text, "action %lld\n", (long long)a);
    }
  }
}


static rgm_status patients_print(rgm_run *run, rgm_json *json, FILE *text) {
  const patients_keys *k = keys_of(run);
  double *x = malloc((size_t)k->patients * sizeof *x);
  int64_t *taken = calloc((size_t)k->actions + 1, sizeof *taken), done;
  rgm_status status = x != NULL && taken != NULL ? look(run, x, taken, &done)
                                                 : rgm_fail(RGM_EMEMORY, "no memory to report");
  if (status == RGM_OK) {
    const rgm_summary v = rgm_summarise(x, done);
    rgm_json_open(json, NULL, '{');
    rgm_json_number(json, "patients", (double)done);
    rgm_json_number(json, "mean", v.mean);
    rgm_json_number(json, "sd", v.sd);
    rgm_json_open(json, "first_treatment", '[');
    for (int64_t a = 0; a < k->actions; a++) {
      rgm_json_number(json, NULL, (double)taken[a]);
    }
    rgm_json_close(json, ']');
    rgm_json_close(json, '}');
    if (text != NULL) {
      print_all(run, &v, taken, done, text);
    }
  }
  free(x);
  free(taken);
  return status;
}


static double patients_work(const rgm_run *run) {
  const int64_t steps = run->keys.steps > 0 ? run->keys.steps : 1;
  return (double)keys_of(run)->patients / (double)steps;
}


static void patients_release(rgm_run *run) {
  patients *s = run->self;
  free(s->host_p);
  free(s->host_reward);
  free(s->arcs);
  free(s->first);
}


const rgm_algorithm rgm_dp_patients = {
    .name = "dp_patients",
    .paper = "Puterman 1994, 4.5; Marrero et al. 2021 (shape)",
    .doc = "Backward induction for thousands of patients with problems of their own.",
    .fields = fields,
    .keys_size = sizeof(patients_keys),
    .self_size = sizeof(patients),
    .work_unit = "patients",
    .work = patients_work,
    .check = patients_check,
    .plan = patients_plan,
    .init = patients_init,
    .step = patients_step,
    .report = patients_report,
    .evaluate = patients_print,
    .release = patients_release,
};
