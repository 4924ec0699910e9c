// SPDX-License-Identifier: Apache-2.0
// Trained policies on the host. See policies.h.

#include "algorithms/policies.h"
#include "engine/load.h"
#include "engine/regimen.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>


// ---- reading -----------------------------------------------------------------------------------

// a copy of replica r of a record; NULL where memory is short
static float *copy_of(const rgm_record *record, int64_t r, int64_t count) {
  float *copy = malloc((size_t)count * sizeof *copy);
  if (copy != NULL) {
    memcpy(copy, (const float *)record->data + r * count, (size_t)count * sizeof *copy);
  }
  return copy;
}


// a record of so many numbers a replica
static rgm_status take(const rgm_checkpoint *c, const char *path, const char *name, int64_t r,
                       int64_t count, float **out) {
  const rgm_record *record = rgm_checkpoint_record(c, name);
  int64_t each = 1;
  for (int d = 1; record != NULL && d < record->rank; d++) {
    each *= record->dims[d];
  }
  if (record == NULL || record->dtype != RGM_F32 || each != count) {
    return rgm_fail(RGM_EDATA, "%s: %s tensor %s that a policy for these rows has", path,
                    record == NULL ? "there is no" : "of another size is", name);
  }
  if (r < 0 || r >= record->dims[0]) {
    return rgm_fail(RGM_EDATA, "%s: replica %lld of %lld", path, (long long)r,
                    (long long)record->dims[0]);
  }
  *out = copy_of(record, r, count);
  return *out != NULL ? RGM_OK : rgm_fail(RGM_EMEMORY, "%s: no memory for its policy", path);
}


// layers of the net whose tensors are NET/0/weight, ...
static rgm_status take_net(const rgm_checkpoint *c, const char *path, const char *net, int64_t r,
                           rgm_policy *p) {
  char name[64];
  for (p->layers = 0; p->layers < RGM_MAX_LAYERS; p->layers++) {
    snprintf(name, sizeof name, "%s/%d/weight", net, p->layers);
    const rgm_record *record = rgm_checkpoint_record(c, name);
    if (record == NULL || record->rank != 3) {
      break;
    }
    const int64_t in = record->dims[1], outputs = record->dims[2];
    p->width[p->layers] = in;
    p->width[p->layers + 1] = outputs;
    RGM_TRY(take(c, path, name, r, in * outputs, &p->weight[p->layers]));
    snprintf(name, sizeof name, "%s/%d/bias", net, p->layers);
    RGM_TRY(take(c, path, name, r, outputs, &p->bias[p->layers]));
  }
  const int64_t outputs = p->choices > 0 ? p->choices : 2 * p->dims;
  if (p->layers == 0) {
    return rgm_fail(RGM_EDATA, "%s: no net %s: it holds no policy that learned from a data set",
                    path, net);
  }
  return p->width[0] == p->states && p->width[p->layers] == outputs
             ? RGM_OK
             : rgm_fail(RGM_EDATA,
                        "%s: its policy sees %lld states and gives %lld numbers, the data set has "
                        "%d and needs %lld: it learned from other data",
                        path, (long long)p->width[0], (long long)p->width[p->layers], p->states,
                        (long long)outputs);
}


// bins of the same numbers may be other doses
static rgm_status check_doses(const rgm_checkpoint *c, const char *path, const rgm_transitions *t) {
  const rgm_record *record = rgm_checkpoint_record(c, "action/dose");
  for (int64_t a = 0; record != NULL && t->dose != NULL && a < t->choices; a++) {
    const double its = (double)((const float *)record->data)[a];
    if (isfinite(t->dose[a]) && !(fabs(its - t->dose[a]) <= 1e-5 * fabs(t->dose[a]) + 1e-30)) {
      return rgm_fail(RGM_EDATA,
                      "%s: bin %lld of its doses is not that of %s: it learned from other data, or "
                      "another split of them",
                      path, (long long)a, t->path);
    }
  }
  return RGM_OK;
}


static double number_of(const rgm_config *config, const char *key, double fallback) {
  const char *text = rgm_config_text(config, key);
  return text != NULL ? strtod(text, NULL) : fallback;
}


static rgm_status read_keys(const rgm_config *config, rgm_policy *p, const char **net) {
  const char *act = rgm_config_text(config, "algorithm.activation");
  const char *name = rgm_config_text(config, "algorithm.name");
  const char *weights = rgm_config_text(config, "algorithm.evaluate");
  const bool clone = name != NULL && strcmp(name, "bc") == 0;
  *net = clone && (weights == NULL || strcmp(weights, "best") == 0) ? "best" : "actor/0";
  p->act = act != NULL && strcmp(act, "tanh") == 0 ? RGM_TANH : RGM_RELU;
  p->log_sd_low = number_of(config, "algorithm.log_sd_low", -5.0);
  p->log_sd_high = number_of(config, "algorithm.log_sd_high", 2.0);
  return RGM_OK;
}


static void name_after(const char *path, char name[64]) {
  size_t end = strlen(path);
  while (end > 1 && path[end - 1] == '/') {
    end--;
  }
  end -= end > 3 && strncmp(path + end - 3, ".h5", 3) == 0 ? 3 : 0;
  size_t start = end;
  while (start > 0 && path[start - 1] != '/') {
    start--;
  }
  snprintf(name, 64, "%.*s", (int)(end - start), path + start);
}


rgm_status rgm_policy_of(const rgm_checkpoint *c, const char *path, const rgm_transitions *t,
                         int64_t replica, rgm_policy *p) {
  rgm_config *config = NULL;
  const char *net = NULL;
  *p = (rgm_policy){
      .kind = RGM_POLICY_NET, .states = t->states, .dims = t->actions, .choices = t->choices};
  name_after(path, p->name);
  rgm_checkpoint_digest(c, p->digest);
  RGM_TRY(rgm_config_parse(path, c->config, NULL, 0, &config));
  rgm_status status = read_keys(config, p, &net);
  rgm_config_free(config);
  status = status == RGM_OK ? check_doses(c, path, t) : status;
  status = status == RGM_OK ? take_net(c, path, net, replica, p) : status;
  const struct {
    const char *name;
    float **to;
    int count;
  } parts[] = {{"observation/mean", &p->mean, t->states},
               {"observation/sd", &p->sd, t->states},
               {"action/scale", &p->scale, t->choices > 0 ? 0 : t->actions},
               {"action/shift", &p->shift, t->choices > 0 ? 0 : t->actions}};
  for (size_t i = 0; i < sizeof parts / sizeof *parts && status == RGM_OK; i++) {
    if (parts[i].count > 0) {
      status = take(c, path, parts[i].name, replica, parts[i].count, parts[i].to);
    }
  }
  if (status != RGM_OK) {
    rgm_policy_free(p);
  }
  return status;
}


rgm_status rgm_policy_read(const char *path, const rgm_transitions *t, int64_t replica,
                           rgm_policy *out) {
  const rgm_options options = {.path = path};
  rgm_config *config = NULL;
  rgm_checkpoint *checkpoint = NULL;
  RGM_TRY(rgm_load_config(&options, &config, &checkpoint));
  const rgm_status status = checkpoint != NULL
                                ? rgm_policy_of(checkpoint, path, t, replica, out)
                                : rgm_fail(RGM_EUSAGE, "%s is a config, not a trained run", path);
  rgm_config_free(config);
  rgm_checkpoint_free(checkpoint);
  return status;
}


void rgm_policy_free(rgm_policy *p) {
  for (int l = 0; l < RGM_MAX_LAYERS; l++) {
    free(p->weight[l]);
    free(p->bias[l]);
  }
  free(p->mean);
  free(p->sd);
  free(p->scale);
  free(p->shift);
  *p = (rgm_policy){.kind = RGM_POLICY_EVEN};
}


// ---- asking ------------------------------------------------------------------------------------

int64_t rgm_policy_width(const rgm_policy *p) {
  return p->choices > 0 ? p->choices : 2 * (int64_t)p->dims;
}


// y = act(x w + b) of one row
static void layer(const rgm_policy *p, int l, const float *x, float *y) {
  const int64_t in = p->width[l], outputs = p->width[l + 1];
  memcpy(y, p->bias[l], (size_t)outputs * sizeof *y);
  for (int64_t i = 0; i < in; i++) {
    const float *w = p->weight[l] + i * outputs, value = x[i];
    for (int64_t o = 0; o < outputs; o++) {
      y[o] += value * w[o];
    }
  }
  for (int64_t o = 0; o < outputs && l < p->layers - 1; o++) {
    y[o] = p->act == RGM_TANH ? tanhf(y[o]) : y[o] > 0.0f ? y[o] : 0.0f;
  }
}


rgm_status rgm_policy_ask(const rgm_policy *p, const float *state, int64_t rows, float *head) {
  const int64_t outputs = rgm_policy_width(p);
  if (p->kind != RGM_POLICY_NET) {
    for (int64_t i = 0; i < rows * outputs; i++) {
      head[i] = p->kind == RGM_POLICY_EVEN || i % outputs == p->always ? 0.0f : -1e4f;
    }
    return RGM_OK;
  }
  int64_t widest = p->states;
  for (int l = 0; l < p->layers; l++) {
    widest = p->width[l + 1] > widest ? p->width[l + 1] : widest;
  }
  float *work = malloc((size_t)(2 * widest) * sizeof *work);
  if (work == NULL) {
    return rgm_fail(RGM_EMEMORY, "no memory for policy %s", p->name);
  }
  for (int64_t row = 0; row < rows; row++) {
    float *x = work, *y = work + widest;
    for (int k = 0; k < p->states; k++) {
      x[k] = (state[row * p->states + k] - p->mean[k]) / p->sd[k];
    }
    for (int l = 0; l < p->layers; l++) {
      float *const swap = x;
      layer(p, l, x, l == p->layers - 1 ? head + row * outputs : y);
      x = y;
      y = swap;
    }
  }
  free(work);
  return RGM_OK;
}


void rgm_policy_log_pi(const rgm_policy *p, const float *head, bool likeliest, double *log_pi) {
  double most = -INFINITY, sum = 0.0;
  int64_t best = 0;
  for (int64_t a = 0; a < p->choices; a++) {
    best = (double)head[a] > most ? a : best;
    most = fmax(most, (double)head[a]);
  }
  for (int64_t a = 0; a < p->choices; a++) {
    sum += exp((double)head[a] - most);
  }
  for (int64_t a = 0; a < p->choices; a++) {
    const bool rule = likeliest && p->kind != RGM_POLICY_EVEN;
    log_pi[a] = rule ? (a == best ? 0.0 : -INFINITY) : (double)head[a] - most - log(sum);
  }
}


static double log_sd_of(const rgm_policy *p, const float *head, int d) {
  return fmin(fmax((double)head[p->dims + d], p->log_sd_low), p->log_sd_high);
}


double rgm_policy_density(const rgm_policy *p, const float *head, const float *act) {
  const double most = 1.0 - 0x1p-17;
  double sum = 0.0;
  for (int d = 0; d < p->dims; d++) {
    const double log_sd = log_sd_of(p, head, d), scale = (double)p->scale[d];
    const double x = ((double)act[d] - (double)p->shift[d]) / scale;
    const double u = atanh(fmin(fmax(x, -most), most));
    const double eps = (u - (double)head[d]) / exp(log_sd);
    const double squash = 2.0 * (M_LN2 - u - log1p(exp(-2.0 * u)));
    sum += -0.5 * eps * eps - log_sd - 0.5 * log(2.0 * M_PI) - squash - log(scale);
  }
  return sum;
}


void rgm_policy_act(const rgm_policy *p, const float *head, const float *eps, float *act) {
  for (int d = 0; d < p->dims; d++) {
    const double noise = eps != NULL ? exp(log_sd_of(p, head, d)) * (double)eps[d] : 0.0;
    act[d] = (float)((double)p->scale[d] * tanh((double)head[d] + noise) + (double)p->shift[d]);
  }
}
