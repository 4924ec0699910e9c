// SPDX-License-Identifier: Apache-2.0
// Advice for new patients from a plan of a problem that was counted from trajectories: a patient's
// state by what is measured (as importers assign it), the plan's action and those that lose next to
// nothing, with the doses they mean, what clinicians did there, and features that lie outside of
// what was seen in training.

#include "algorithms/dp_report.h"
#include "engine/trajectories.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

typedef struct advisor {
  const rgm_recommendation *r;
  const dp_keys *k;
  const rgm_mdp *m;
  const rgm_mdp_origin *o;
  const double *value;   // (S)
  const int32_t *choice; // (S) among the allowed
  int64_t *seen;         // (states, actions) visits of all stays
} advisor;


// ---- what is asked -----------------------------------------------------------------------------

// a tensor of the checkpoint, its first replica; NULL: it is not what the problem needs
static const void *tensor_of(const advisor *a, const char *name, rgm_dtype dtype, int64_t least) {
  const rgm_record *record = rgm_checkpoint_record(a->r->checkpoint, name);
  int64_t size = 1;
  for (int i = 1; record != NULL && i < record->rank; i++) {
    size *= record->dims[i];
  }
  return record != NULL && record->dtype == dtype && size >= least ? record->data : NULL;
}


static rgm_status read_plan(advisor *a) {
  if (a->o == NULL) {
    return rgm_fail(RGM_EUSAGE,
                    "new patients have no states in this problem; `regimen import trajectories` "
                    "makes problems in which they have");
  }
  if (a->k->method == DP_EVALUATE || a->k->method == DP_RELATIVE ||
      a->k->method == DP_FINITE_HORIZON) {
    return rgm_fail(RGM_EUSAGE,
                    "%s: this method makes no plan that is the same in every step; train with "
                    "algorithm.method: modified",
                    rgm_config_where(a->r->config, "algorithm.method"));
  }
  const uint32_t *active = tensor_of(a, "active", RGM_U32, 1);
  a->value = tensor_of(a, "value", RGM_F64, a->m->states);
  a->choice = tensor_of(a, "action", RGM_I32, a->m->states);
  if (active == NULL || a->value == NULL || a->choice == NULL) {
    return rgm_fail(RGM_EDATA, "the checkpoint has no plan of this problem; train again");
  }
  if (active[0] != 0 && a->k->tolerance > 0.0) {
    return rgm_fail(RGM_EDATA,
                    "the run is not done: its values are not known to algorithm.tolerance yet; go "
                    "on with --resume --set run.steps=%llu",
                    2 * (unsigned long long)a->r->checkpoint->step + 100);
  }
  return RGM_OK;
}


// what was done in each state
static rgm_status watch(advisor *a) {
  a->seen = calloc((size_t)(a->m->states * a->m->actions) + 1, sizeof *a->seen);
  if (a->seen == NULL) {
    return rgm_fail(RGM_EMEMORY, "no memory for %lld states", (long long)a->m->states);
  }
  for (int64_t v = 0; v < a->o->visits; v++) {
    if (a->o->state[v] >= 0) {
      a->seen[a->o->state[v] * a->m->actions + a->o->action[v]]++;
    }
  }
  return RGM_OK;
}


// ---- an answer ---------------------------------------------------------------------------------

static const char *name_of(const advisor *a, int64_t action, char text[24]) {
  if (action >= 0 && a->m->action_name != NULL) {
    return a->m->action_name[action];
  }
  snprintf(text, 24, action >= 0 ? "%lld" : "none", (long long)action);
  return text;
}


// an action with its doses in their own units, how often it was taken here, what it loses
static void write_action(const advisor *a, const char *key, int64_t state, int64_t action,
                         double loses) {
  char text[24];
  rgm_json *j = a->r->json;
  FILE *out = a->r->text;
  const char *name = name_of(a, action, text);
  const int64_t taken = a->seen[state * a->m->actions + action];
  rgm_json_open(j, key, '{');
  rgm_json_number(j, "action", (double)action);
  rgm_json_string(j, "name", name);
  rgm_json_number(j, "taken", (double)taken);
  if (out != NULL) {
    fprintf(out, "  %-12s %-24s", key != NULL ? key : "near-optimal", name);
  }
  rgm_json_open(j, "doses", '{');
  for (int64_t d = 0; d < a->o->drugs; d++) {
    const double dose = rgm_origin_dose(a->o, d, action);
    rgm_json_number(j, a->o->drug[d], dose);
    if (out != NULL) {
      fprintf(out, "  %s %.6g", a->o->drug[d], dose);
    }
  }
  rgm_json_close(j, '}');
  if (isfinite(loses)) {
    rgm_json_number(j, "loses", loses);
  }
  rgm_json_close(j, '}');
  if (out != NULL) {
    fprintf(out, isfinite(loses) ? "  loses %.6g, taken %lld times\n" : "", loses,
            (long long)taken);
    fprintf(out, isfinite(loses) ? "" : "  taken %lld times\n", (long long)taken);
  }
}


// the plan's action of a state, all that lose at most algorithm.near, and the usual one
static void write_state(const advisor *a, int64_t s) {
  const rgm_mdp *m = a->m;
  const int64_t best = dp_action_of(m, s, a->choice[s]);
  int64_t usual = 0;
  double top = -INFINITY;
  for (int64_t n = m->first[s]; n < m->first[s + 1]; n++) {
    top = m->allowed[n] != 0 ? fmax(top, dp_row(m, n, a->k->gamma, a->value)) : top;
  }
  for (int64_t k = 0; k < m->actions; k++) {
    usual = a->seen[s * m->actions + k] > a->seen[s * m->actions + usual] ? k : usual;
  }
  rgm_json_number(a->r->json, "value", a->value[s]);
  write_action(a, "advice", s, best, NAN);
  rgm_json_open(a->r->json, "near_optimal", '[');
  for (int64_t n = m->first[s]; n < m->first[s + 1]; n++) {
    const double loses = top - dp_row(m, n, a->k->gamma, a->value);
    if (m->allowed[n] != 0 && m->action[n] != best && loses <= a->k->near) {
      write_action(a, NULL, s, m->action[n], loses);
    }
  }
  rgm_json_close(a->r->json, ']');
  if (a->seen[s * m->actions + usual] > 0) {
    write_action(a, "usual", s, usual, NAN);
  }
}


// features that no patient of the training had
static void write_flags(const advisor *a, const double *x) {
  rgm_json_open(a->r->json, "outside_training", '[');
  for (int64_t d = 0; d < a->o->features && a->o->low != NULL; d++) {
    if (!isnan(x[d]) && !(x[d] >= a->o->low[d] && x[d] <= a->o->high[d])) {
      rgm_json_string(a->r->json, NULL, a->o->feature[d]);
      if (a->r->text != NULL) {
        fprintf(a->r->text, "  %s lies outside of what was seen in training, %g to %g\n",
                a->o->feature[d], a->o->low[d], a->o->high[d]);
      }
    }
  }
  rgm_json_close(a->r->json, ']');
}


static void write_patient(const advisor *a, int64_t row, const double *x) {
  float distance;
  int known;
  const int32_t s = rgm_origin_assign(a->o, x, &distance, &known);
  rgm_json *j = a->r->json;
  FILE *out = a->r->text;
  rgm_json_open(j, NULL, '{');
  rgm_json_number(j, "row", (double)row);
  rgm_json_number(j, "measured", (double)known);
  rgm_json_number(j, "state", s >= 0 ? (double)s : NAN);
  if (out != NULL && row > 0) {
    fprintf(out, "row %lld\n", (long long)row);
  }
  if (s >= 0) {
    rgm_json_number(j, "distance", sqrt((double)distance));
    if (out != NULL) {
      fprintf(out, "  state %d, value %.6g, by %d of %lld features, %.3g from its centre\n", s,
              a->value[s], known, (long long)a->o->features, sqrt((double)distance));
    }
    write_state(a, s);
  } else if (out != NULL) {
    fprintf(out, "  no state: nothing is measured, so there is no advice\n");
  }
  write_flags(a, x);
  rgm_json_close(j, '}');
}


// ---- patients ----------------------------------------------------------------------------------

// "age=70" into its place
static rgm_status read_values(const advisor *a, double *x) {
  const char *names[RGM_FEATURES + 1] = {NULL};
  for (int64_t d = 0; d < a->o->features; d++) {
    names[d] = a->o->feature[d];
    x[d] = NAN;
  }
  if (a->r->set_count == 0) {
    return rgm_fail(RGM_EUSAGE,
                    "who is it for? --csv FILE has patients, --set %s=... describes one", names[0]);
  }
  for (int i = 0; i < a->r->set_count; i++) {
    const char *set = a->r->set[i], *equals = strchr(set, '=');
    const size_t size = equals != NULL ? (size_t)(equals - set) : strlen(set);
    char name[64] = "", *end = NULL;
    int64_t at = -1;
    snprintf(name, sizeof name, "%.*s", size < 64 ? (int)size : 0, set);
    for (int64_t d = 0; d < a->o->features; d++) {
      at = strcmp(names[d], name) == 0 ? d : at;
    }
    if (at < 0) {
      const char *nearest = rgm_nearest(name, names);
      return rgm_fail(RGM_EUSAGE, "--set %s: the problem has no feature \"%s\"%s%s%s", set, name,
                      nearest != NULL ? "; did you mean " : "", nearest != NULL ? nearest : "",
                      nearest != NULL ? "?" : "");
    }
    const double own = equals != NULL ? strtod(equals + 1, &end) : NAN;
    if (equals == NULL || end == equals + 1 || *end != '\0' || !(fabs(own) < 1e30)) {
      return rgm_fail(RGM_EUSAGE, "--set %s: expected a number", name);
    }
    const char *why = rgm_origin_refuses((rgm_scaling)a->o->scaling[at], own);
    if (why != NULL) {
      return rgm_fail(RGM_EUSAGE, "--set %s: %s", name, why);
    }
    x[at] = (double)(float)own;
  }
  return RGM_OK;
}


static rgm_status advise_table(const advisor *a) {
  rgm_newcomers p;
  RGM_TRY(rgm_newcomers_read(a->o, a->r->csv, &p));
  if (p.absent > 0 && a->r->text != NULL) {
    fprintf(a->r->text, "%d of %lld features are no columns of %s: not measured in any row\n",
            p.absent, (long long)a->o->features, a->r->csv);
  }
  for (int64_t i = 0; i < p.rows; i++) {
    write_patient(a, p.place[i], p.x + i * a->o->features);
  }
  rgm_newcomers_free(&p);
  return RGM_OK;
}


static rgm_status advise(const advisor *a) {
  double x[RGM_FEATURES];
  if (a->r->csv != NULL) {
    return advise_table(a);
  }
  RGM_TRY(read_values(a, x));
  write_patient(a, 0, x);
  return RGM_OK;
}


rgm_status dp_recommend(const rgm_recommendation *r) {
  advisor a = {.r = r, .k = r->keys, .m = r->mdp, .o = r->mdp->origin};
  rgm_status status = read_plan(&a);
  status = status == RGM_OK ? watch(&a) : status;
  if (status == RGM_OK) {
    rgm_json_open(r->json, NULL, '[');
    status = advise(&a);
    rgm_json_close(r->json, ']');
  }
  if (status == RGM_OK && r->text != NULL) {
    fprintf(r->text,
            "Actions that lose at most %g of the value are near-optimal; a dose is the median of "
            "its bin in training. For research; not a medical device.\n",
            a.k->near);
  }
  free(a.seen);
  return status;
}
