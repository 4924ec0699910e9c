// SPDX-License-Identifier: Apache-2.0
// Which reader or writer a tabular problem's file belongs to. See mdp.h.

#include "engine/mdp_private.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <unistd.h>

typedef struct format {
  const char *name, *ends[6]; // how names of such files end, without .gz
  rgm_status (*read)(const rgm_mdp_source *source, rgm_mdp **out);
  void (*print)(const rgm_mdp *m, FILE *out); // NULL: written otherwise, or not at all
} format;

static void print_text(const rgm_mdp *m, FILE *out);

static const format formats[] = {
    {"text", {".tsv", ".csv", ".txt", NULL}, rgm_mdp_read_text, print_text},
    {"icu-sepsis", {NULL}, rgm_mdp_read_icu_sepsis, NULL},
    {"mdp", {".h5", ".hdf5", NULL}, rgm_mdp_read_own, NULL},
    {"json", {".json", NULL}, rgm_mdp_read_json, rgm_mdp_print_json},
    {"petsc", {".petsc", NULL}, rgm_mdp_read_petsc, rgm_mdp_print_petsc},
    {"prism", {".tra", NULL}, rgm_mdp_read_prism, rgm_mdp_print_prism},
};

enum { FORMATS = sizeof formats / sizeof *formats };

const char *const rgm_mdp_kinds[] = {"auto", "text",  "icu-sepsis", "mdp",
                                     "json", "petsc", "prism",      NULL};


static bool ends_with(const char *path, const char *end) {
  size_t size = strlen(path);
  size -= size > 3 && strcasecmp(path + size - 3, ".gz") == 0 ? 3 : 0;
  const size_t length = strlen(end);
  return size >= length && strncasecmp(path + size - length, end, length) == 0;
}


static const format *find_format(const rgm_mdp_source *source) {
  struct stat info;
  const bool folder = stat(source->path, &info) == 0 && S_ISDIR(info.st_mode);
  const bool any = strcmp(source->kind, "auto") == 0;
  for (int i = 0; i < FORMATS; i++) {
    if (!any && strcmp(source->kind, formats[i].name) == 0) {
      return &formats[i];
    }
    if (any && folder && strcmp(formats[i].name, "icu-sepsis") == 0) {
      return &formats[i];
    }
    for (int k = 0; any && !folder && formats[i].ends[k] != NULL; k++) {
      if (ends_with(source->path, formats[i].ends[k])) {
        return &formats[i];
      }
    }
  }
  return NULL;
}


rgm_status rgm_mdp_read(const rgm_mdp_source *source, rgm_mdp **out) {
  *out = NULL;
  if (source->path[0] == '\0') {
    return rgm_fail(RGM_ECONFIG, "env.path: name the problem's file");
  }
  if (access(source->path, R_OK) != 0) {
    return rgm_fail(RGM_EIO, "%s: %s", source->path, strerror(errno));
  }
  const format *f = find_format(source);
  if (f == NULL) {
    const bool any = strcmp(source->kind, "auto") == 0;
    const char *nearest = any ? NULL : rgm_nearest(source->kind, rgm_mdp_kinds);
    return rgm_fail(RGM_ECONFIG,
                    "%s: %s%s%s%s; env.kind names one of those in `regimen explain mdp`",
                    source->path,
                    any ? "its name tells no format" : "no such format: ", any ? "" : source->kind,
                    nearest != NULL ? "; did you mean " : "", nearest != NULL ? nearest : "");
  }
  rgm_status status = f->read(source, out);
  if (status == RGM_OK && source->begin[0] != '\0') {
    status = rgm_mdp_read_begin(source->begin, *out);
  }
  if (status == RGM_OK && source->mask[0] != '\0') {
    status = rgm_mdp_read_mask(source->mask, *out);
  }
  if (status != RGM_OK) {
    rgm_mdp_free(*out);
    *out = NULL;
  }
  return status;
}


// probabilities of the allowed rows of state s from a line
static rgm_status read_weights(const char *path, const rgm_mdp *m, int64_t s, const char *line,
                               double *weight) {
  for (int64_t a = 0; a < m->actions; a++) {
    char *end = NULL;
    const double p = line != NULL ? strtod(line, &end) : 0.0;
    if (line == NULL || end == line || !(p >= 0.0 && p <= 1.0)) {
      return rgm_fail(RGM_EDATA, "%s: row %lld: %lld probabilities of actions are expected", path,
                      (long long)s + 1, (long long)m->actions);
    }
    line = end + strspn(end, ",; \t");
    const int64_t row = rgm_mdp_row(m, s, a);
    if (row >= 0) {
      weight[row] = m->allowed[row] != 0 ? p : 0.0;
    }
  }
  return RGM_OK;
}


// scales the weights of state s to sum 1; all actions alike where they are 0
static void scale_weights(const rgm_mdp *m, int64_t s, double *weight) {
  double sum = 0.0;
  int64_t allowed = 0;
  for (int64_t n = m->first[s]; n < m->first[s + 1]; n++) {
    sum += weight[n];
    allowed += m->allowed[n] != 0;
  }
  for (int64_t n = m->first[s]; n < m->first[s + 1]; n++) {
    const double even = m->allowed[n] != 0 ? 1.0 / (double)allowed : 0.0;
    weight[n] = sum > 0.0 ? weight[n] / sum : even;
  }
}


rgm_status rgm_mdp_read_policy(const char *path, const rgm_mdp *m, double *weight) {
  rgm_csv *csv = NULL;
  rgm_status status = path[0] != '\0' ? rgm_text_open(path, &csv) : RGM_OK;
  memset(weight, 0, (size_t)m->rows * sizeof *weight);
  for (int64_t s = 0; s < m->states && status == RGM_OK; s++) {
    char *line = NULL;
    if (csv != NULL) {
      status = rgm_text_line(csv, &line);
      status = status == RGM_OK ? read_weights(path, m, s, line, weight) : status;
    }
    scale_weights(m, s, weight);
  }
  rgm_csv_close(csv);
  return status;
}


static void print_text(const rgm_mdp *m, FILE *out) {
  fprintf(out, "s\ta\ts_next\tp\tr\n");
  for (int64_t s = 0; s < m->states; s++) {
    for (int64_t n = m->first[s]; n < m->first[s + 1]; n++) {
      for (int64_t i = m->start[n]; i < m->start[n + 1] && m->allowed[n] != 0; i++) {
        fprintf(out, "%lld\t%d\t%d\t%.17g\t%.17g\n", (long long)s, m->action[n], m->next[i],
                m->p[i], m->gain[i]);
      }
    }
  }
}


rgm_status rgm_mdp_write(const char *path, const rgm_mdp *m) {
  if (ends_with(path, ".h5") || ends_with(path, ".hdf5")) {
    return rgm_mdp_file_write(path, m);
  }
  const format *to = NULL;
  for (int i = 0; i < FORMATS; i++) {
    for (int k = 0; formats[i].ends[k] != NULL && formats[i].print != NULL; k++) {
      to = to == NULL && ends_with(path, formats[i].ends[k]) ? &formats[i] : to;
    }
  }
  if (to == NULL) {
    return rgm_fail(RGM_EUSAGE, "%s: a problem is written as .h5, .tsv, .json, .petsc or .tra",
                    path);
  }
  char temporary[4096];
  snprintf(temporary, sizeof temporary, "%s.tmp", path);
  FILE *out = fopen(temporary, "w");
  if (out == NULL) {
    return rgm_fail(RGM_EIO, "%s: %s", temporary, strerror(errno));
  }
  to->print(m, out);
  const bool ok = fflush(out) == 0 && fsync(fileno(out)) == 0;
  if (fclose(out) != 0 || !ok || rename(temporary, path) != 0) {
    const int reason = errno;
    unlink(temporary);
    return rgm_fail(RGM_EIO, "%s: %s", path, strerror(reason));
  }
  return RGM_OK;
}
