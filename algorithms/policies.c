// SPDX-License-Identifier: Apache-2.0
// Trained policies on the host. See policies.h.

#include "algorithms/policies.h"
#include "engine/load.h"
#include "engine/regimen.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

// rows and outputs of a net that are computed side by side
enum { TILE = 4, COLUMNS = 8 };
typedef float four __attribute__((vector_size(16), aligned(4), may_alias));


// ---- reading -----------------------------------------------------------------------------------

// a copy of replica r of a record; NULL where memory is short
static float *copy_of(const rgm_record *record, int64_t r, int64_t count) {
  float *copy = malloc((size_t)count * sizeof *copy);
  if (copy != NULL) {
    memcpy(copy, (const float *)record->data + r * count, (size_t)count * sizeof *copy);
  }
  return copy;
}


rgm_status rgm_host_take(const rgm_checkpoint *c, const char *path, const char *name, int64_t r,
                         int64_t count, float **out) {
  const rgm_record *record = rgm_checkpoint_record(c, name);
  int64_t each = 1;
  for (int d = 1; record != NULL && d < record->rank; d++) {
    each *= record->dims[d];
  }
  if (record == NULL || record->dtype != RGM_F32 || each != count) {
    return rgm_fail(RGM_EDATA,
                    "%s: tensor %s %s: it learned from other data, or is no run of this kind", path,
                    name, record == NULL ? "is missing" : "has another size");
  }
  if (r < 0 || r >= record->dims[0]) {
    return rgm_fail(RGM_EDATA, "%s: replica %lld of %lld", path, (long long)r,
                    (long long)record->dims[0]);
  }
  *out = copy_of(record, r, count);
  return *out != NULL ? RGM_OK : rgm_fail(RGM_EMEMORY, "%s: no memory for its nets", path);
}


static int64_t padded(int64_t outputs) {
  return (outputs + COLUMNS - 1) / COLUMNS * COLUMNS;
}


// rows of `width` numbers, then zeros up to whole columns
static rgm_status pad(const char *path, int64_t rows, int64_t width, float **x) {
  const int64_t wide = padded(width);
  float *copy = calloc((size_t)(rows * wide), sizeof *copy);
  if (copy == NULL) {
    return rgm_fail(RGM_EMEMORY, "%s: no memory for its nets", path);
  }
  for (int64_t i = 0; i < rows; i++) {
    memcpy(copy + i * wide, *x + i * width, (size_t)width * sizeof *copy);
  }
  free(*x);
  *x = copy;
  return RGM_OK;
}


rgm_status rgm_host_net_take(const rgm_checkpoint *c, const char *path, const char *net, int64_t r,
                             rgm_act act, rgm_host_net *out) {
  char name[64];
  out->act = act;
  for (out->layers = 0; out->layers < RGM_MAX_LAYERS; out->layers++) {
    const int l = out->layers;
    snprintf(name, sizeof name, "%s/%d/weight", net, l);
    const rgm_record *record = rgm_checkpoint_record(c, name);
    if (record == NULL || record->rank != 3) {
      break;
    }
    out->width[l] = record->dims[1];
    out->width[l + 1] = record->dims[2];
    RGM_TRY(rgm_host_take(c, path, name, r, out->width[l] * out->width[l + 1], &out->weight[l]));
    RGM_TRY(pad(path, out->width[l], out->width[l + 1], &out->weight[l]));
    snprintf(name, sizeof name, "%s/%d/bias", net, l);
    RGM_TRY(rgm_host_take(c, path, name, r, out->width[l + 1], &out->bias[l]));
    RGM_TRY(pad(path, 1, out->width[l + 1], &out->bias[l]));
  }
  return out->layers > 0 ? RGM_OK
                         : rgm_fail(RGM_EDATA,
                                    "%s: there is no net %s: it learned nothing of this "
                                    "kind from a data set",
                                    path, net);
}


void rgm_host_net_free(rgm_host_net *net) {
  for (int l = 0; l < RGM_MAX_LAYERS; l++) {
    free(net->weight[l]);
    free(net->bias[l]);
  }
  *net = (rgm_host_net){0};
}


int64_t rgm_host_net_work(const rgm_host_net *net) {
  int64_t widest = 1;
  for (int l = 0; l <= net->layers; l++) {
    widest = net->width[l] > widest ? net->width[l] : widest;
  }
  return 2 * TILE * padded(widest);
}


// a layer of so many rows that lie `apart`: y (rows, padded outputs) = b + sum x w in the order of
// the inputs. Inlined with a constant, so that sums stay in registers and a weight is read once
// for all rows.
static inline void ask_layer(const rgm_host_net *net, int l, const float *x, int64_t apart,
                             float *y, const int rows) {
  const int64_t in = net->width[l], wide = padded(net->width[l + 1]);
  for (int64_t o = 0; o < wide; o += COLUMNS) {
    const float *weight = net->weight[l] + o;
    const four *bias = (const four *)(net->bias[l] + o);
    four low[TILE], high[TILE];
    for (int r = 0; r < rows; r++) {
      low[r] = bias[0];
      high[r] = bias[1];
    }
    for (int64_t i = 0; i < in; i++) {
      const four *w = (const four *)(weight + i * wide), w0 = w[0], w1 = w[1];
      for (int r = 0; r < rows; r++) {
        low[r] += x[r * apart + i] * w0;
        high[r] += x[r * apart + i] * w1;
      }
    }
    for (int r = 0; r < rows; r++) {
      four *to = (four *)(y + r * wide + o);
      to[0] = low[r];
      to[1] = high[r];
    }
  }
}


static void activate(rgm_act act, int64_t count, float *y) {
  for (int64_t i = 0; i < count; i++) {
    y[i] = act == RGM_TANH ? tanhf(y[i]) : y[i] > 0.0f ? y[i] : 0.0f;
  }
}


void rgm_host_net_ask(const rgm_host_net *net, int64_t rows, const float *x, float *work,
                      float *out) {
  const int64_t half = rgm_host_net_work(net) / 2, outputs = net->width[net->layers];
  for (int64_t row = 0, count; row < rows; row += count) {
    count = rows - row < TILE ? 1 : TILE;
    const float *from = x + row * net->width[0];
    int64_t apart = net->width[0];
    for (int l = 0; l < net->layers; l++) {
      float *y = work + l % 2 * half;
      if (count == TILE) {
        ask_layer(net, l, from, apart, y, TILE);
      } else {
        ask_layer(net, l, from, apart, y, 1);
      }
      apart = padded(net->width[l + 1]);
      if (l < net->layers - 1) {
        activate(net->act, count * apart, y);
      }
      from = y;
    }
    for (int64_t r = 0; r < count; r++) {
      memcpy(out + (row + r) * outputs, from + r * apart, (size_t)outputs * sizeof *out);
    }
  }
}


// a policy's net, of the data's states and actions
static rgm_status take_net(const rgm_checkpoint *c, const char *path, const char *net, int64_t r,
                           rgm_act act, rgm_policy *p) {
  RGM_TRY(rgm_host_net_take(c, path, net, r, act, &p->net));
  const int64_t outputs = rgm_policy_width(p), given = p->net.width[p->net.layers];
  return p->net.width[0] == p->states && given == outputs
             ? RGM_OK
             : rgm_fail(RGM_EDATA,
                        "%s: its policy sees %lld states and gives %lld numbers, the data set has "
                        "%d and needs %lld: it learned from other data",
                        path, (long long)p->net.width[0], (long long)given, p->states,
                        (long long)outputs);
}


// actions of the same kind; bins of the same numbers may be other doses
static rgm_status check_actions(const rgm_checkpoint *c, const char *path,
                                const rgm_transitions *t) {
  const bool continuous = rgm_checkpoint_record(c, "action/scale") != NULL;
  if (continuous != (t->choices == 0)) {
    return rgm_fail(RGM_EDATA, "%s: its actions are %s, those of %s are %s", path,
                    continuous ? "continuous" : "classes", t->path,
                    continuous ? "classes" : "continuous");
  }
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


static void read_keys(const rgm_config *config, rgm_policy *p, rgm_act *act_of, const char **net) {
  const char *act = rgm_config_text(config, "algorithm.activation");
  const char *name = rgm_config_text(config, "algorithm.name");
  const char *weights = rgm_config_text(config, "algorithm.evaluate");
  const bool clone = name != NULL && strcmp(name, "bc") == 0;
  *net = clone && (weights == NULL || strcmp(weights, "best") == 0) ? "best" : "actor/0";
  *act_of = act != NULL && strcmp(act, "tanh") == 0 ? RGM_TANH : RGM_RELU;
  p->log_sd_low = number_of(config, "algorithm.log_sd_low", -5.0);
  p->log_sd_high = number_of(config, "algorithm.log_sd_high", 2.0);
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
  rgm_act act = RGM_RELU;
  read_keys(config, p, &act, &net);
  rgm_config_free(config);
  rgm_status status = check_actions(c, path, t);
  status = status == RGM_OK ? take_net(c, path, net, replica, act, p) : status;
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
      status = rgm_host_take(c, path, parts[i].name, replica, parts[i].count, parts[i].to);
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
  rgm_host_net_free(&p->net);
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


rgm_status rgm_policy_ask(const rgm_policy *p, const float *state, int64_t rows, float *head) {
  const int64_t outputs = rgm_policy_width(p);
  if (p->kind != RGM_POLICY_NET) {
    for (int64_t i = 0; i < rows * outputs; i++) {
      head[i] = p->kind == RGM_POLICY_EVEN || i % outputs == p->always ? 0.0f : -1e4f;
    }
    return RGM_OK;
  }
  const int64_t room = rgm_host_net_work(&p->net), S = p->states;
  float *work = malloc((size_t)(room + rows * S) * sizeof *work), *x = work + room;
  if (work == NULL) {
    return rgm_fail(RGM_EMEMORY, "no memory for policy %s", p->name);
  }
  for (int64_t i = 0; i < rows; i++) {
    for (int64_t k = 0; k < S; k++) {
      x[i * S + k] = (state[i * S + k] - p->mean[k]) / p->sd[k];
    }
  }
  rgm_host_net_ask(&p->net, rows, x, work, head);
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
