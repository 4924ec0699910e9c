// SPDX-License-Identifier: Apache-2.0
// `regimen import trajectories`: rules, table, states, actions, counts, the problem's file, report,
// in this order.

#include "engine/regimen.h"
#include "engine/trajectories.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#define KEY(member) offsetof(trajectory_keys, member)

static const char *const missing_doses[] = {"refuse", "zero", NULL};
static const char *const rares[] = {"merge", "remove", "frequent", NULL};

static const rgm_field column_fields[] = {
    RGM_TEXT("id", KEY(id), "id", 0, "Column of the stay; its rows are one trajectory."),
    RGM_TEXT("patient", KEY(patient), "", 0,
             "Column of the patient, by whom stays are split; none: a stay is a patient."),
    RGM_TEXT("step", KEY(step), "step", 0, "Column of the step; it orders the rows of a stay."),
    RGM_TEXT("features", KEY(features), "", 0,
             "Columns that make the state, by |, a star at the end: all that begin so; none: all "
             "columns that are nothing else."),
    RGM_TEXT("ignore", KEY(ignore), "", 0, "Columns that are no features, likewise."),
    RGM_TEXT("skewed", KEY(skewed), "", 0,
             "Features of which log(0.1 + x) is scaled, likewise; all others as they are."),
    RGM_TEXT("binary", KEY(binary), "", 0, "Features of 0 and 1, to which -0.5 is added."),
    RGM_TEXT("doses", KEY(doses), "", 0, "One or two columns of doses, by |."),
    RGM_TEXT("action", KEY(action), "", 0, "Or the column of the action's number, from 0 on."),
    RGM_TEXT("outcome", KEY(outcome), "died", 0,
             "Column that says how the stay ended, in any of its rows; empty in all: not known."),
    {0},
};

static const rgm_field state_fields[] = {
    {"count", RGM_INT, KEY(states), "1", "750", 1, 1e5, NULL, 0, "States, k of k-means++."},
    {"restarts", RGM_INT, KEY(restarts), "1", "32", 1, 1e4, NULL, 0,
     "Times that k-means++ begins anew; the one with the least distance stays."},
    {"iterations", RGM_INT, KEY(iterations), "1", "200", 1, 1e5, NULL, 0,
     "Iterations of a restart at most; it ends when nobody moves."},
    {"share", RGM_FLOAT, KEY(share), "1", "0.25", 1e-6, 1, NULL, 0,
     "Share of the training rows that k-means sees; all are counted."},
    {"seed", RGM_INT, KEY(seed), "1", "1", 0, 9e15, NULL, 0, "Seed of k-means++."},
    {0},
};

static const rgm_field action_fields[] = {
    {"bins", RGM_INT, KEY(bins), "1", "5", 2, RGM_BINS, NULL, 0,
     "Bins of a drug: none, and quantiles of the training doses above 0."},
    {"missing", RGM_CHOICE, KEY(missing_dose), "", "refuse", 0, 0, missing_doses, 0,
     "An empty dose: an error, or no drug."},
    {0},
};

static const rgm_field count_fields[] = {
    {"least", RGM_INT, KEY(least), "1", "20", 0, 1e9, NULL, 0,
     "Pairs of state and action seen at most so often in training are masked."},
    {"rare_states", RGM_CHOICE, KEY(rare), "", "merge", 0, 0, rares, 0,
     "States that lose all pairs: merge gives their rows to the nearest other state, remove drops "
     "transitions from and to them (ICU-Sepsis), frequent keeps their most frequent action."},
    {0},
};

static const rgm_field outcome_fields[] = {
    RGM_TEXT("died", KEY(died), "1 | died | dead | true", 0,
             "Texts of columns.outcome that mean death, by |; all others: survived."),
    {"survived_pays", RGM_FLOAT, KEY(survived_pays), "reward", "1", -1e6, 1e6, NULL, 0,
     "Reward of surviving."},
    {"died_pays", RGM_FLOAT, KEY(died_pays), "reward", "0", -1e6, 1e6, NULL, 0, "Reward of dying."},
    {0},
};

static const rgm_field split_fields[] = {
    {"held_out", RGM_FLOAT, KEY(held), "1", "0.2", 0, 0.9, NULL, 0,
     "Share of the patients that nothing is learned from, to judge plans."},
    {"seed", RGM_INT, KEY(split_seed), "1", "1", 0, 9e15, NULL, 0, "Seed of the split."},
    {0},
};

static const rgm_field run_fields[] = {
    {"threads", RGM_INT, KEY(threads), "1", "0", 0, 4096, NULL, RGM_PROVENANCE,
     "CPU threads, 0: as many as there are."},
    {"backend", RGM_CHOICE, KEY(backend), "", "auto", 0, 0, rgm_backend_names, RGM_PROVENANCE,
     "auto, cpu or cuda."},
    RGM_TEXT("isa", KEY(isa), "auto", RGM_PROVENANCE, "Instruction set of the CPU."),
    {0},
};

static const struct {
  const char *name;
  const rgm_field *fields;
} sections[] = {
    {"columns", column_fields}, {"states", state_fields},    {"actions", action_fields},
    {"counts", count_fields},   {"outcome", outcome_fields}, {"split", split_fields},
    {"run", run_fields},
};


void rgm_mdp_origin_free(rgm_mdp_origin *o) {
  if (o == NULL) {
    return;
  }
  for (int64_t d = 0; o->feature != NULL && d < o->features; d++) {
    free(o->feature[d]);
  }
  for (int64_t d = 0; o->drug != NULL && d < o->drugs; d++) {
    free(o->drug[d]);
  }
  void *const parts[] = {o->low,    o->high,  o->mean,   o->sd,      o->scaling,
                         o->centre, o->edge,  o->dose,   o->first,   o->held,
                         o->end,    o->state, o->action, o->feature, o->drug};
  for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) {
    free(parts[i]);
  }
  free(o);
}


int32_t rgm_origin_assign(const rgm_mdp_origin *o, const double *x, float *distance, int *known) {
  int32_t best = -1;
  *known = 0;
  *distance = INFINITY;
  for (int64_t d = 0; d < o->features; d++) {
    *known += !isnan(x[d]);
  }
  for (int64_t k = 0; k<o->centres && * known> 0; k++) {
    float sum = 0.0f;
    for (int64_t d = 0; d < o->features; d++) {
      const float own = rgm_origin_scale(o, d, x[d]);
      if (!isnan(own)) {
        const float apart = o->centre[k * o->features + d] - own;
        sum = rgm_fma(apart, apart, sum);
      }
    }
    best = sum < *distance ? (int32_t)k : best;
    *distance = sum < *distance ? sum : *distance;
  }
  return best;
}


void rgm_trajectories_free(trajectories *t) {
  void *const parts[] = {t->name, t->x,     t->dose,    t->action,  t->step,
                         t->stay, t->place, t->outcome, t->patient, t->first,
                         t->held, t->end,   t->who,     t->state,   t->distance};
  for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) {
    free(parts[i]);
  }
  rgm_mdp_origin_free(t->origin);
  rgm_mdp_free(t->mdp);
}


static rgm_status read_rules(const rgm_options *options, trajectory_keys *out) {
  rgm_config *config;
  RGM_TRY(rgm_config_load(options->rules, options->set, options->set_count, &config));
  rgm_status status = RGM_OK;
  for (size_t i = 0; i < sizeof sections / sizeof *sections && status == RGM_OK; i++) {
    status = rgm_config_read(config, sections[i].name, sections[i].fields, out);
  }
  status = status == RGM_OK ? rgm_config_finish(config) : status;
  rgm_config_free(config);
  return status;
}


static rgm_status prepare(trajectories *t) {
  rgm_mdp_origin *o = t->origin = calloc(1, sizeof *o);
  if (o == NULL) {
    return rgm_fail(RGM_EMEMORY, "no memory for an import");
  }
  const size_t D = (size_t)t->features;
  o->features = t->features;
  o->mean = calloc(D, sizeof *o->mean);
  o->sd = calloc(D, sizeof *o->sd);
  o->low = calloc(D, sizeof *o->low);
  o->high = calloc(D, sizeof *o->high);
  o->scaling = calloc(D, 1);
  return o->mean != NULL && o->sd != NULL && o->scaling != NULL && o->low != NULL && o->high != NULL
             ? RGM_OK
             : rgm_fail(RGM_EMEMORY, "no memory for %d features", t->features);
}


// the state and action of every row of the file, by its number there
static rgm_status write_states(const trajectories *t, const char *path) {
  const rgm_mdp_origin *o = t->mdp->origin;
  FILE *out = fopen(path, "w");
  if (out == NULL) {
    return rgm_fail(RGM_EIO, "%s: %s", path, strerror(errno));
  }
  fprintf(out, "row,state,action,held_out\n");
  for (int64_t i = 0; i < o->visits; i++) {
    fprintf(out, "%lld,%d,%d,%d\n", (long long)t->place[i], o->state[i], o->action[i],
            t->held[t->stay[i]]);
  }
  const bool ok = ferror(out) == 0;
  return fclose(out) == 0 && ok ? RGM_OK : rgm_fail(RGM_EIO, "%s: %s", path, strerror(errno));
}


static rgm_status import(trajectories *t, const rgm_options *options) {
  rgm_stream *stream = NULL;
  char device[512];
  RGM_TRY(read_rules(options, &t->key));
  RGM_TRY(rgm_trajectories_read(t));
  RGM_TRY(prepare(t));
  RGM_TRY(rgm_trajectories_actions(t));
  const rgm_device_options how = {(int)t->key.threads, t->key.isa, 0};
  RGM_TRY(rgm_open(rgm_backend_names[t->key.backend], &how, &stream, device, sizeof device));
  rgm_status status = rgm_trajectories_states(t, stream);
  status = status == RGM_OK ? rgm_trajectories_count(t, stream) : status;
  rgm_close(stream);
  if (status == RGM_OK && options->csv != NULL) {
    status = write_states(t, options->csv);
  }
  return status == RGM_OK ? rgm_mdp_write(options->out, t->mdp) : status;
}


rgm_status rgm_import_trajectories(const rgm_options *options) {
  if (options->dir == NULL || options->out == NULL || options->rules == NULL) {
    return rgm_fail(RGM_EUSAGE, "import trajectories: %s",
                    options->dir == NULL   ? "--dir names the table, a CSV file"
                    : options->out == NULL ? "-o names the problem to write, sepsis.h5 say"
                                           : "--rules names the column map; see "
                                             "configs/import/trajectories.yaml");
  }
  trajectories t = {.path = options->dir};
  const rgm_status status = import(&t, options);
  if (status == RGM_OK) {
    rgm_json json = {.out = options->json ? options->result : NULL};
    rgm_trajectories_report(&t, options->out, options->json ? NULL : options->result, &json);
  }
  rgm_trajectories_free(&t);
  return status;
}
