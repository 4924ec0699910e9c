// SPDX-License-Identifier: Apache-2.0
// `regimen import`: rules, front end, grid, data set, report, in this order.

#include "engine/import.h"
#include "engine/import_rrt.h"
#include "engine/mdp.h"
#include "engine/trajectories.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

extern const import_kind rgm_import_mimic3_heparin, rgm_import_eicu_heparin, rgm_import_long;

static const import_kind *const kinds[] = {&rgm_import_mimic3_heparin, &rgm_import_eicu_heparin,
                                           &rgm_import_long, NULL};


const import_kind *rgm_import_find_kind(const char *name) {
  for (int i = 0; kinds[i] != NULL; i++) {
    if (strcmp(kinds[i]->name, name) == 0) {
      return kinds[i];
    }
  }
  return NULL;
}


rgm_status rgm_import_run(const import_kind *kind, const char *folder, const char *rules,
                          const char *const *set, int set_count, FILE *progress, import **out) {
  import *m = calloc(1, sizeof *m);
  *out = m;
  if (m == NULL) {
    return rgm_fail(RGM_EMEMORY, "no memory for an import");
  }
  m->folder = folder;
  m->progress = progress;
  RGM_TRY(rgm_import_rules_load(kind, rules, set, set_count, &m->rules));
  RGM_TRY(kind->read(m));
  if (kind->hourly || m->rules.key.steps == STEPS_HOURS) {
    RGM_TRY(rgm_import_grid(m));
  }
  RGM_TRY(rgm_import_dataset(m));
  RGM_TRY(rgm_import_notes(m));
  char digest[65];
  return rgm_dataset_digest(m->data, digest);
}


void rgm_import_free(import *m) {
  if (m == NULL) {
    return;
  }
  import_panel *p = &m->panel;
  void *const parts[] = {m->dose,    m->stay,    m->by_patient, m->event,     m->edges,
                         m->typical, p->episode, p->patient,    p->time,      p->value,
                         p->age,     p->dose,    p->bolus,      p->fresh,     p->next,
                         p->reward,  p->action,  p->terminated, p->truncated, p->end,
                         p->outcome, m->constant};
  for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) {
    free(parts[i]);
  }
  rgm_dataset_free(m->data);
  rgm_import_rules_free(&m->rules);
  free(m);
}


// the rules that come with the program: beside the working directory, or where it is installed
static const char *find_rules(const char *name, char path[512]) {
  if (access(name, R_OK) == 0) {
    return name;
  }
  snprintf(path, 512, "%s/regimen/%s", RGM_DATADIR, name);
  return access(path, R_OK) == 0 ? path : name;
}


// A tabular problem from one format into another; --dir is its file or folder.
static rgm_status import_mdp(const rgm_options *options) {
  if (options->dir == NULL || options->out == NULL) {
    return rgm_fail(RGM_EUSAGE, "import mdp: %s",
                    options->dir == NULL ? "--dir names the problem's file or folder"
                                         : "-o names the file to write, .h5 or .tsv");
  }
  const rgm_mdp_source source = {.path = options->dir, .kind = "auto", .begin = "", .mask = ""};
  rgm_mdp *m;
  RGM_TRY(rgm_mdp_read(&source, &m));
  const rgm_status status = rgm_mdp_write(options->out, m);
  if (status == RGM_OK) {
    fprintf(options->result,
            "%s: %lld states, %lld actions, %lld pairs, %lld non-zeros; %lld transitions were "
            "given twice, rows sum to 1 within %.2g\n",
            options->out, (long long)m->states, (long long)m->actions, (long long)m->rows,
            (long long)m->entries, (long long)m->merged, m->off);
  }
  rgm_mdp_free(m);
  return status;
}


rgm_status rgm_import(const rgm_options *options) {
  if (options->path != NULL && strcmp(options->path, "mdp") == 0) {
    return import_mdp(options);
  }
  if (options->path != NULL && strcmp(options->path, "trajectories") == 0) {
    return rgm_import_trajectories(options);
  }
  if (options->path != NULL && strcmp(options->path, "mimic3-rrt") == 0) {
    return rgm_import_rrt(options);
  }
  const import_kind *kind = options->path == NULL ? NULL : rgm_import_find_kind(options->path);
  if (kind == NULL) {
    const char *names[8] = {NULL};
    for (int i = 0; kinds[i] != NULL; i++) {
      names[i] = kinds[i]->name;
    }
    const char *nearest = options->path == NULL ? NULL : rgm_nearest(options->path, names);
    return rgm_fail(RGM_EUSAGE,
                    "import: %s%s%s%s%s; there are mimic3-heparin, mimic3-rrt, eicu-heparin, csv, "
                    "mdp and trajectories",
                    options->path == NULL ? "name what to import" : "no import \"",
                    options->path == NULL ? "" : options->path, options->path == NULL ? "" : "\"",
                    nearest != NULL ? "; did you mean " : "", nearest != NULL ? nearest : "");
  }
  if (options->dir == NULL || options->out == NULL) {
    return rgm_fail(RGM_EUSAGE, "import: %s",
                    options->dir == NULL ? "--dir names the folder with the tables"
                                         : "-o names the data set to write, heparin.h5 say");
  }
  if (kind->rules == NULL && options->rules == NULL) {
    return rgm_fail(RGM_EUSAGE, "import: --rules names the column map; see configs/import/");
  }
  char path[512];
  const char *rules = options->rules != NULL ? options->rules : find_rules(kind->rules, path);
  import *m;
  rgm_status status = rgm_import_run(kind, options->dir, rules, options->set, options->set_count,
                                     options->progress, &m);
  if (status == RGM_OK && options->csv != NULL) {
    status = rgm_import_write_csv(m, options->csv);
  }
  if (status == RGM_OK) {
    status = rgm_dataset_write(options->out, m->data);
  }
  if (status == RGM_OK && options->json) {
    rgm_import_report_json(m, options->result);
  } else if (status == RGM_OK) {
    rgm_import_report(m, options->result);
    fprintf(options->result, "\n%s: digest %s\n", options->out, m->data->digest);
  }
  rgm_import_free(m);
  return status;
}
