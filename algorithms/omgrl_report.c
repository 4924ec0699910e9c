// SPDX-License-Identifier: Apache-2.0
// How OMG-RL goes: the greedy policy in the elites from validation rows on, by the learned reward
// and by that of the aPTT; the loss of the reward, its scale, how many samples its weights are
// worth. A learned reward is what the policy was trained to have: no evidence that it does well.

#include "algorithms/omgrl.h"

#include <math.h>
#include <stdlib.h>

enum { SHARE = 5 }; // percent of samples below which weights are warned of


// ---- planning ----------------------------------------------------------------------------------

void rgm_omgrl_plan_watch(rgm_run *run) {
  rgm_omgrl *s = run->self;
  const rgm_omgrl_keys *k = rgm_algorithm_keys(run, 0);
  rgm_omgrl_watch *w = &s->watch;
  const int64_t G = rgm_group(run->stream, run->replicas);
  w->episodes = run->transitions->part[RGM_VALIDATION] > 0 ? k->watched : 0;
  if (w->episodes == 0) {
    return;
  }
  w->dream = rgm_plan_dream(run, &s->imagined, "watch", w->episodes);
  w->starts = rgm_plan_ring(run, "watch/starts", RGM_VALIDATION,
                            1u << RGM_RING_OBS | 1u << RGM_RING_ACTION);
  w->clock = rgm_plan(run->arena, "watch/clock", RGM_U32, RGM_BLOCK, "replica", "", run->replicas,
                      0, 0, 0);
  w->learned = rgm_plan(run->arena, "watch/learned", RGM_F32, RGM_SCRATCH, "in group, row, one",
                        "1", G, w->episodes, 1, 0);
  w->aptt = rgm_plan(run->arena, "watch/aptt", RGM_F32, RGM_SCRATCH, "in group, row, one", "1", G,
                     w->episodes, 1, 0);
}


rgm_status rgm_omgrl_init_watch(rgm_run *run) {
  const rgm_omgrl *s = run->self;
  return s->watch.episodes > 0 ? rgm_put_number(run, s->watch.dream.ones, 1.0f) : RGM_OK;
}


// ---- watching ----------------------------------------------------------------------------------

// Sums of rewards over h steps, of R replicas: mean over V trajectories and its standard error.
typedef struct watched {
  float *learned, *learned_error, *aptt, *aptt_error; // (R) each
} watched;

// what the greedy policy does in step h of n replicas from `first` on: rewards of a step
static void watch_step(const rgm_run *run, const rgm_dreamer *d, int64_t first, int64_t n,
                       uint32_t h) {
  const rgm_omgrl *s = run->self;
  const rgm_omgrl_keys *k = rgm_algorithm_keys(run, 0);
  const rgm_tensor aptt = rgm_slice(s->watch.aptt, 0, n);
  rgm_dream_step(run->stream, d, h);
  if (s->learns) {
    rgm_omgrl_value(run, run->stream, first, n, d->dream.state[h % 2], d->dream.act,
                    rgm_slice(s->watch.learned, 0, n));
  }
  if (s->aptt >= 0) {
    rgm_band(run->stream, aptt, d->dream.state[(h + 1) % 2], s->aptt, (float)k->band.value[0],
             (float)k->band.value[1]);
  } else {
    rgm_copy(run->stream, aptt.data, d->dream.reward.data, rgm_bytes(aptt));
  }
}


// mean and standard error of V sums
static void summarise(const double *sum, int64_t count, float *mean, float *error) {
  double centre = 0.0, squares = 0.0;
  for (int64_t i = 0; i < count; i++) {
    centre += sum[i] / (double)count;
  }
  for (int64_t i = 0; i < count; i++) {
    squares += (sum[i] - centre) * (sum[i] - centre);
  }
  *mean = (float)centre;
  *error = count > 1 ? (float)sqrt(squares / (double)(count - 1) / (double)count) : NAN;
}


// trajectories of n replicas from `first` on; an ended one earns nothing more
static rgm_status watch_group(rgm_run *run, int64_t first, int64_t n, double *sums, float *room,
                              watched *out) {
  const rgm_omgrl *s = run->self;
  const rgm_omgrl_keys *k = rgm_algorithm_keys(run, 0);
  const int64_t V = s->watch.episodes;
  rgm_dreamer d;
  rgm_dreamer_of(run, &s->watch.dream, first, n, &d);
  const rgm_ring starts = rgm_slice_ring(&s->watch.starts, first, n);
  double *learned = sums, *aptt = sums + n * V;
  float *keep = room + 2 * n * V;
  d.draw = RGM_DRAW_MEAN;
  d.agent.own.clock = rgm_slice(s->watch.clock, first, n);
  d.random = RGM_RANDOM_EVAL;
  rgm_dream_begin(run->stream, &d, &starts);
  for (int64_t i = 0; i < 2 * n * V; i++) {
    sums[i] = 0.0;
    room[i] = 0.0f;
  }
  for (uint32_t h = 0; h < (uint32_t)k->imagined.horizon; h++) {
    watch_step(run, &d, first, n, h);
    if (s->learns) {
      RGM_TRY(rgm_read_back(run, rgm_slice(s->watch.learned, 0, n), room));
    }
    RGM_TRY(rgm_read_back(run, rgm_slice(s->watch.aptt, 0, n), room + n * V));
    RGM_TRY(rgm_read_back(run, d.dream.keep, keep));
    for (int64_t i = 0; i < n * V; i++) {
      learned[i] += keep[i] != 0.0f ? (double)room[i] : 0.0;
      aptt[i] += keep[i] != 0.0f ? (double)room[n * V + i] : 0.0;
    }
  }
  for (int64_t r = 0; r < n; r++) {
    summarise(learned + r * V, V, out->learned + first + r, out->learned_error + first + r);
    summarise(aptt + r * V, V, out->aptt + first + r, out->aptt_error + first + r);
  }
  return RGM_OK;
}


static rgm_status watch(rgm_run *run, watched *out) {
  const rgm_omgrl *s = run->self;
  const int64_t R = run->replicas, G = s->watch.learned.dims[0], V = s->watch.episodes;
  double *sums = malloc(2 * (size_t)(G * V) * sizeof *sums);
  float *room = malloc(3 * (size_t)(G * V) * sizeof *room);
  rgm_status status =
      sums != NULL && room != NULL
          ? RGM_OK
          : rgm_fail(RGM_EMEMORY, "no memory to watch %lld trajectories", (long long)V);
  for (int64_t first = 0; first < R && status == RGM_OK; first += G) {
    status = watch_group(run, first, R - first < G ? R - first : G, sums, room, out);
  }
  free(sums);
  free(room);
  return status;
}


static rgm_status report_watched(rgm_run *run, const watched *w) {
  const rgm_omgrl *s = run->self;
  const bool known = s->aptt >= 0;
  RGM_TRY(rgm_report(run, known ? "imagined_aptt" : "imagined_reward", "1", w->aptt));
  RGM_TRY(rgm_report(run, known ? "imagined_aptt_se" : "imagined_reward_se", "1", w->aptt_error));
  if (s->learns) {
    RGM_TRY(rgm_report(run, "imagined_learned", "1", w->learned));
    RGM_TRY(rgm_report(run, "imagined_learned_se", "1", w->learned_error));
  }
  return RGM_OK;
}


// ---- reports -----------------------------------------------------------------------------------

// a share of samples that weights are worth, of any replica, and the first time that it is low
static rgm_status report_sample(rgm_run *run, rgm_omgrl *s) {
  const int64_t R = run->replicas;
  float *share = malloc((size_t)R * sizeof *share);
  if (share == NULL) {
    return rgm_fail(RGM_EMEMORY, "no memory for %lld replicas", (long long)R);
  }
  rgm_status status = rgm_read_back(run, s->sample, share);
  int64_t low = 0;
  for (int64_t r = 0; r < R && status == RGM_OK; r++) {
    share[r] *= 100.0f;
    low += share[r] < (float)SHARE;
  }
  status = status == RGM_OK ? rgm_report(run, "reward_ess", "%", share) : status;
  if (status == RGM_OK && low > 0 && !s->warned && run->step > rgm_imagined_before(run)) {
    s->warned = true;
    snprintf(run->warning, sizeof run->warning,
             "reward_ess is below %d %% in %lld of %lld replicas: a few trajectories teach the "
             "reward; weights: step or tempered, a shorter horizon or more samples share it out",
             SHARE, (long long)low, (long long)R);
  }
  free(share);
  return status;
}


// mean and standard deviation of r over experts: the agent sees (r - mean) / sd
static rgm_status report_scale(rgm_run *run, const rgm_omgrl *s) {
  const int64_t R = run->replicas;
  float *scale = malloc(3 * (size_t)R * sizeof *scale), *one = scale + 2 * R;
  if (scale == NULL) {
    return rgm_fail(RGM_EMEMORY, "no memory for %lld replicas", (long long)R);
  }
  rgm_status status = rgm_read_back(run, s->scale, scale);
  for (int k = 0; k < 2 && status == RGM_OK; k++) {
    for (int64_t r = 0; r < R; r++) {
      one[r] = scale[2 * r + k];
    }
    status = rgm_report(run, k == 0 ? "reward_mean" : "reward_sd", "1", one);
  }
  free(scale);
  return status;
}


static rgm_status report_reward(rgm_run *run, rgm_omgrl *s) {
  RGM_TRY(rgm_report_vector(run, "reward_loss", "nat", s->loss));
  RGM_TRY(report_sample(run, s));
  RGM_TRY(report_scale(run, s));
  return s->clones ? rgm_report_vector(run, "clone_loss", "nat", s->clone_loss) : RGM_OK;
}


// room for the figures of R replicas: w->learned is to be freed
static rgm_status make_watched(const rgm_run *run, watched *w) {
  const int64_t R = run->replicas;
  w->learned = malloc(4 * (size_t)R * sizeof *w->learned);
  if (w->learned == NULL) {
    return rgm_fail(RGM_EMEMORY, "no memory for %lld replicas", (long long)R);
  }
  w->learned_error = w->learned + R;
  w->aptt = w->learned + 2 * R;
  w->aptt_error = w->learned + 3 * R;
  return RGM_OK;
}


// The first metric is the headline: the return where there is a simulator, else that of the aPTT.
rgm_status rgm_omgrl_report(rgm_run *run) {
  rgm_omgrl *s = run->self;
  const bool judged = s->imagined.judge.episodes > 0;
  if (judged) {
    RGM_TRY(rgm_imagined_report(run));
  }
  if (s->watch.episodes > 0) {
    watched w;
    RGM_TRY(make_watched(run, &w));
    rgm_status status = watch(run, &w);
    status = status == RGM_OK ? report_watched(run, &w) : status;
    free(w.learned);
    RGM_TRY(status);
  }
  if (s->learns) {
    RGM_TRY(report_reward(run, s));
  }
  return judged ? RGM_OK : rgm_imagined_report(run);
}


// ---- evaluation --------------------------------------------------------------------------------

// What clinicians did with validation patients: sums over as many steps as are imagined, from every
// row that has them on. Means over windows; r of the replica's own net.
typedef struct clinicians {
  int64_t windows;
  double aptt, *learned; // (R)
  double *agreement;     // (R) correlation of r with the data's own reward over these rows
} clinicians;


// r of all validation rows (V) of n replicas from `first` on
static rgm_status value_records(rgm_run *run, int64_t first, int64_t n, float *room, float *value) {
  const rgm_omgrl *s = run->self;
  const rgm_ring ring = rgm_slice_ring(&s->watch.starts, first, n);
  const int64_t V = run->transitions->part[RGM_VALIDATION], chunk = s->watch.episodes;
  for (int64_t at = 0; at < V; at += chunk) {
    const int64_t rows = V - at < chunk ? V - at : chunk;
    const rgm_tensor worth = rgm_slice(s->watch.learned, 0, n);
    const rgm_tensor part = rgm_rows(worth, 0, rows);
    rgm_omgrl_value(run, run->stream, first, n, rgm_rows(ring.column[0], at, rows),
                    rgm_rows(ring.column[1], at, rows), part);
    RGM_TRY(rgm_read_back(run, worth, room));
    for (int64_t i = 0; i < n * rows; i++) {
      value[i / rows * V + at + i % rows] = room[i / rows * chunk + i % rows];
    }
  }
  return RGM_OK;
}


// whether row i of the data and the `steps` - 1 after it are one episode's
static bool is_window(const rgm_transitions *t, int64_t i, int64_t steps) {
  const int64_t last = i + steps - 1;
  return t->split[i] == RGM_VALIDATION && last < t->rows && t->episode[last] == t->episode[i];
}


// sums over windows; `value` (n, V) of replicas `first` on, NULL: of the aPTT
static double sum_windows(const rgm_run *run, const float *value, int64_t *windows) {
  const rgm_omgrl *s = run->self;
  const rgm_omgrl_keys *k = rgm_algorithm_keys(run, 0);
  const rgm_transitions *t = run->transitions;
  const int64_t steps = k->imagined.horizon;
  const double low = k->band.value[0], high = k->band.value[1];
  double sum = 0.0;
  *windows = 0;
  for (int64_t i = 0, at = 0; i < t->rows; at += t->split[i] == RGM_VALIDATION, i++) {
    for (int64_t j = 0; j < steps && is_window(t, i, steps); j++) {
      if (value != NULL) {
        sum += (double)value[at + j];
      } else if (s->aptt >= 0) {
        const double v = (double)t->next[(i + j) * t->states + s->aptt];
        sum += tanh((v - low) / 2.0) - tanh((v - high) / 2.0) - 1.0;
      }
    }
    *windows += is_window(t, i, steps);
  }
  return *windows > 0 ? sum / (double)*windows : NAN;
}


// Pearson's correlation of r with the rewards that the data have, over validation rows; NaN where
// they have none or always the same
static double correlate(const rgm_transitions *t, const float *value) {
  double n = 0.0, x = 0.0, y = 0.0, xx = 0.0, yy = 0.0, xy = 0.0;
  for (int64_t i = 0, at = 0; i < t->rows; at += t->split[i] == RGM_VALIDATION, i++) {
    if (t->split[i] == RGM_VALIDATION) {
      const double dx = (double)value[at] - x, dy = (double)t->reward[i] - y;
      n += 1.0;
      x += dx / n;
      y += dy / n;
      xx += dx * ((double)value[at] - x);
      yy += dy * ((double)t->reward[i] - y);
      xy += dx * ((double)t->reward[i] - y);
    }
  }
  return xy / sqrt(xx * yy);
}


static rgm_status look_at_records(rgm_run *run, clinicians *c) {
  const rgm_omgrl *s = run->self;
  const int64_t R = run->replicas, G = rgm_group(run->stream, R);
  const int64_t V = run->transitions->part[RGM_VALIDATION];
  float *value = malloc((size_t)(G * (V + s->watch.episodes)) * sizeof *value);
  rgm_status status =
      value != NULL ? RGM_OK : rgm_fail(RGM_EMEMORY, "no memory for %lld rewards", (long long)V);
  c->aptt = sum_windows(run, NULL, &c->windows);
  for (int64_t first = 0; first < R && status == RGM_OK && s->learns; first += G) {
    const int64_t n = R - first < G ? R - first : G;
    status = value_records(run, first, n, value + G * V, value);
    for (int64_t r = 0; r < n && status == RGM_OK; r++) {
      c->learned[first + r] = sum_windows(run, value + r * V, &c->windows);
      c->agreement[first + r] = correlate(run->transitions, value + r * V);
    }
  }
  free(value);
  return status;
}


// one figure of the policy beside the clinicians': mean over replicas, and the policy's spread
static void write_figure(const char *name, const float *policy, const float *error,
                         const double *clinician, int64_t replicas, rgm_json *json, FILE *text) {
  double mean = 0.0, squares = 0.0, within = 0.0, other = 0.0;
  for (int64_t r = 0; r < replicas; r++) {
    mean += (double)policy[r] / (double)replicas;
    within += (double)error[r] / (double)replicas;
    other += clinician[r] / (double)replicas;
  }
  for (int64_t r = 0; r < replicas; r++) {
    squares += ((double)policy[r] - mean) * ((double)policy[r] - mean);
  }
  const double between =
      replicas > 1 ? sqrt(squares / (double)(replicas - 1) / (double)replicas) : within;
  rgm_json_open(json, name, '{');
  rgm_json_number(json, "policy", mean);
  rgm_json_number(json, "standard_error", between);
  rgm_json_number(json, "clinicians", other);
  rgm_json_close(json, '}');
  if (text != NULL) {
    fprintf(text, "  %-20s %10.3f +- %-8.3f %12.3f\n", name, mean, between, other);
  }
}


// what the learned reward has to do with the one on record: mean over replicas and its error
static void write_agreement(const double *agreement, int64_t replicas, rgm_json *json, FILE *text) {
  double mean = 0.0, squares = 0.0;
  for (int64_t r = 0; r < replicas; r++) {
    mean += agreement[r] / (double)replicas;
  }
  for (int64_t r = 0; r < replicas; r++) {
    squares += (agreement[r] - mean) * (agreement[r] - mean);
  }
  const double error =
      replicas > 1 ? sqrt(squares / (double)(replicas - 1) / (double)replicas) : NAN;
  rgm_json_open(json, "correlation", '{');
  rgm_json_number(json, "mean", mean);
  rgm_json_number(json, "standard_error", error);
  rgm_json_close(json, '}');
  if (text != NULL) {
    fprintf(text, "  correlation of the learned reward with that of the data: %.3f (s.e. %.3f)\n",
            mean, error);
  }
}


static rgm_status write_imagined(rgm_run *run, rgm_json *json, FILE *text) {
  const rgm_omgrl *s = run->self;
  const rgm_omgrl_keys *k = rgm_algorithm_keys(run, 0);
  const int64_t R = run->replicas;
  watched w;
  RGM_TRY(make_watched(run, &w));
  clinicians c = {.learned = malloc(3 * (size_t)R * sizeof *c.learned)};
  c.agreement = c.learned + 2 * R;
  rgm_status status =
      c.learned != NULL ? watch(run, &w) : rgm_fail(RGM_EMEMORY, "no memory for the figures");
  status = status == RGM_OK ? look_at_records(run, &c) : status;
  if (status == RGM_OK) {
    double *aptt = c.learned + R;
    for (int64_t r = 0; r < R; r++) {
      aptt[r] = c.aptt;
    }
    if (text != NULL) {
      fprintf(text,
              "\n%lld steps, sums of rewards: the policy in the elites (%lld trajectories from "
              "validation rows;\nan elite may flatter), clinicians on record (%lld windows)\n"
              "  %-20s %10s    %-8s %12s\n",
              (long long)k->imagined.horizon, (long long)s->watch.episodes, (long long)c.windows,
              "", "policy", "s.e.", "clinicians");
    }
    rgm_json_open(json, "imagined", '{');
    rgm_json_number(json, "steps", (double)k->imagined.horizon);
    rgm_json_number(json, "trajectories", (double)s->watch.episodes);
    rgm_json_number(json, "windows", (double)c.windows);
    if (s->learns) {
      write_figure("learned", w.learned, w.learned_error, c.learned, R, json, text);
    }
    if (s->aptt >= 0) {
      write_figure("aptt", w.aptt, w.aptt_error, aptt, R, json, text);
    }
    if (s->learns) {
      write_agreement(c.agreement, R, json, text);
    }
    rgm_json_close(json, '}');
  }
  free(c.learned);
  free(w.learned);
  return status;
}


rgm_status rgm_omgrl_evaluate(rgm_run *run, rgm_json *json, FILE *text) {
  rgm_omgrl *s = run->self;
  rgm_json_open(json, NULL, '{');
  rgm_json_number(json, "step", (double)run->step);
  rgm_json_number(json, "replicas", (double)run->replicas);
  rgm_json_open(json, "dynamics", '{');
  rgm_status status = rgm_ensemble_write(run, &s->imagined.ensemble, json, text);
  rgm_json_close(json, '}');
  if (status == RGM_OK && s->watch.episodes > 0) {
    status = write_imagined(run, json, text);
  }
  rgm_json_close(json, '}');
  return status;
}
