// SPDX-License-Identifier: Apache-2.0
// Tabular problems from text: `s a s' p [r]` a line, the tables of ICU-Sepsis 2, PRISM's explicit
// files. Numbers stand between commas, semicolons, tabs or blanks; lines that begin with # and
// empty ones are passed over; a first line without numbers names the columns. Files may be gzip.

#include "engine/mdp_private.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>


// ---- lines of numbers --------------------------------------------------------------------------

static bool is_blank(char c) {
  return c == ',' || c == ';' || c == '\t' || c == ' ';
}


rgm_status rgm_numbers_next(rgm_csv *csv, double *value, int most, int *count, bool *done) {
  char *line;
  for (;;) {
    RGM_TRY(rgm_text_line(csv, &line));
    *done = line == NULL;
    *count = 0;
    if (line == NULL) {
      return RGM_OK;
    }
    line += strspn(line, " \t");
    if (*line == '\0' || *line == '#') {
      continue;
    }
    break;
  }
  while (*line != '\0') {
    char *end;
    const double x = strtod(line, &end);
    if (end == line || (*end != '\0' && !is_blank(*end))) {
      *count = -1; // text: a header, or an error of the caller's
      return RGM_OK;
    }
    if (*count == most) {
      return rgm_fail(RGM_EDATA, "%s: row %lld: more than %d numbers", rgm_csv_path(csv),
                      (long long)rgm_csv_row(csv), most);
    }
    value[(*count)++] = x;
    while (is_blank(*end)) {
      end++;
    }
    line = end;
  }
  return RGM_OK;
}


// a number that must be whole
static rgm_status whole(const rgm_csv *csv, double x, const char *what, int64_t *out) {
  if (!(fabs(x) < 4e9) || floor(x) != x) {
    return rgm_fail(RGM_EDATA, "%s: row %lld: %s is no whole number", rgm_csv_path(csv),
                    (long long)rgm_csv_row(csv), what);
  }
  *out = (int64_t)x;
  return RGM_OK;
}


static rgm_status not_numbers(const rgm_csv *csv, const char *expected) {
  return rgm_fail(RGM_EDATA, "%s: row %lld: text where numbers are expected (%s)",
                  rgm_csv_path(csv), (long long)rgm_csv_row(csv), expected);
}


// ---- s a s' p [r] ------------------------------------------------------------------------------

static rgm_status read_transitions(rgm_csv *csv, rgm_mdp_builder *b) {
  double x[8];
  int count, columns = 0;
  bool done, first = true;
  for (;;) {
    RGM_TRY(rgm_numbers_next(csv, x, 8, &count, &done));
    if (done) {
      return RGM_OK;
    }
    if (count < 0 && first) {
      first = false;
      continue; // names of columns
    }
    first = false;
    if (count < 0) {
      return not_numbers(csv, "s a s' p [r]");
    }
    if (count < 4 || count > 5 || (columns > 0 && count != columns)) {
      return rgm_fail(RGM_EDATA, "%s: row %lld: %d numbers; s a s' p or s a s' p r is expected%s",
                      rgm_csv_path(csv), (long long)rgm_csv_row(csv), count,
                      columns > 0 ? ", the same in all rows" : "");
    }
    columns = count;
    int64_t s = 0, a = 0, next = 0;
    RGM_TRY(whole(csv, x[0], "the state", &s));
    RGM_TRY(whole(csv, x[1], "the action", &a));
    RGM_TRY(whole(csv, x[2], "the next state", &next));
    RGM_TRY(rgm_mdp_add(b, rgm_csv_row(csv), s, a, next, x[3], count == 5 ? x[4] : 0.0));
  }
}


rgm_status rgm_mdp_read_text(const rgm_mdp_source *source, rgm_mdp **out) {
  rgm_csv *csv;
  rgm_mdp_builder *b;
  RGM_TRY(rgm_text_open(source->path, &csv));
  rgm_status status = rgm_mdp_builder_new(source->path, &b);
  if (status == RGM_OK) {
    status = read_transitions(csv, b);
  }
  rgm_csv_close(csv);
  if (status != RGM_OK) {
    rgm_mdp_builder_free(b);
    return status;
  }
  return rgm_mdp_finish(b, 0, 0, &source->checks, out);
}


// ---- start distribution and masks --------------------------------------------------------------

// One number a state, in one line or a line each; or lines of state and probability, other columns
// behind them passed over (`s d0 ...`).
rgm_status rgm_mdp_read_begin(const char *path, rgm_mdp *m) {
  rgm_csv *csv;
  enum { MOST = RGM_CSV_COLUMNS };
  double *x = malloc(MOST * sizeof *x);
  double *begin = calloc((size_t)m->states, sizeof *begin);
  if (x == NULL || begin == NULL) {
    free(x);
    free(begin);
    return rgm_fail(RGM_EMEMORY, "%s: no memory to read it", path);
  }
  rgm_status status = rgm_text_open(path, &csv);
  int64_t at = 0;
  bool done = false, first = true;
  while (status == RGM_OK && !done) {
    int count;
    status = rgm_numbers_next(csv, x, MOST, &count, &done);
    if (status != RGM_OK || done || (count < 0 && first)) {
      first = false;
      continue;
    }
    first = false;
    if (count < 0) {
      status = not_numbers(csv, "probabilities of states");
    } else if (count == m->states) {
      memcpy(begin, x, (size_t)count * sizeof *x);
      at = m->states;
    } else {
      const double s = count > 1 ? x[0] : (double)at;
      if (!(s >= 0.0 && s < (double)m->states) || floor(s) != s) {
        status = rgm_fail(RGM_EDATA, "%s: row %lld: a start in state %.17g of %lld states", path,
                          (long long)rgm_csv_row(csv), s, (long long)m->states);
      } else {
        begin[(int64_t)s] = count > 1 ? x[1] : x[0];
        at++;
      }
    }
  }
  if (csv != NULL) {
    rgm_csv_close(csv);
  }
  free(x);
  if (status != RGM_OK) {
    free(begin);
    return status;
  }
  free(m->begin);
  m->begin = begin;
  return rgm_mdp_check(m, path);
}


// Lines of state and action that are allowed; all others are masked.
rgm_status rgm_mdp_read_mask(const char *path, rgm_mdp *m) {
  rgm_csv *csv;
  RGM_TRY(rgm_text_open(path, &csv));
  memset(m->allowed, 0, (size_t)m->rows);
  rgm_status status = RGM_OK;
  bool done = false, first = true;
  while (status == RGM_OK) {
    double x[8];
    int count;
    int64_t s = 0, a = 0;
    status = rgm_numbers_next(csv, x, 8, &count, &done);
    if (status != RGM_OK || done) {
      break;
    }
    if (count < 0 && first) {
      first = false;
      continue;
    }
    first = false;
    status = count < 2 ? not_numbers(csv, "state and action") : whole(csv, x[0], "the state", &s);
    status = status == RGM_OK ? whole(csv, x[1], "the action", &a) : status;
    const int64_t row = status == RGM_OK && s >= 0 && s < m->states ? rgm_mdp_row(m, s, a) : -1;
    if (status == RGM_OK && row < 0) {
      status =
          rgm_fail(RGM_EDATA, "%s: row %lld: state %lld has no action %lld that could be allowed",
                   path, (long long)rgm_csv_row(csv), (long long)s, (long long)a);
    } else if (status == RGM_OK) {
      m->allowed[row] = 1;
    }
  }
  rgm_csv_close(csv);
  return status == RGM_OK ? rgm_mdp_check(m, path) : status;
}


// ---- ICU-Sepsis 2 ------------------------------------------------------------------------------

// The first of `names` that is in the folder.
static bool find_file(const char *folder, const char *const *names, char path[1024]) {
  for (int i = 0; names[i] != NULL; i++) {
    struct stat info;
    snprintf(path, 1024, "%s/%s", folder, names[i]);
    if (stat(path, &info) == 0) {
      return true;
    }
  }
  snprintf(path, 1024, "%s/%s", folder, names[0]);
  return false;
}


// The dense table: row s * actions + a has a column a state.
static rgm_status read_dense(rgm_csv *csv, int64_t actions, rgm_mdp_builder *b) {
  double *x = malloc(RGM_CSV_COLUMNS * sizeof *x);
  rgm_status status = x != NULL ? RGM_OK : rgm_fail(RGM_EMEMORY, "no memory for a row");
  int64_t row = 0;
  int columns = 0;
  while (status == RGM_OK) {
    int count;
    bool done;
    status = rgm_numbers_next(csv, x, RGM_CSV_COLUMNS, &count, &done);
    if (status != RGM_OK || done) {
      break;
    }
    columns = columns == 0 ? count : columns;
    if (count < 0 || count != columns) {
      status = rgm_fail(RGM_EDATA, "%s: row %lld: %d numbers where the first row has %d",
                        rgm_csv_path(csv), (long long)rgm_csv_row(csv), count, columns);
    }
    for (int k = 0; k < count && status == RGM_OK; k++) {
      if (x[k] != 0.0) {
        status = rgm_mdp_add(b, rgm_csv_row(csv), row / actions, row % actions, k, x[k], 0.0);
      }
    }
    row++;
  }
  if (status == RGM_OK && (columns == 0 || row != columns * actions)) {
    status = rgm_fail(RGM_EDATA, "%s: %lld rows; %d states with %lld actions have %lld",
                      rgm_csv_path(csv), (long long)row, columns, (long long)actions,
                      (long long)(columns * actions));
  }
  free(x);
  return status;
}


// rewards by the state that is reached
static rgm_status read_arrival_rewards(const char *path, rgm_mdp *m) {
  rgm_csv *csv;
  double *x = malloc(RGM_CSV_COLUMNS * sizeof *x);
  if (x == NULL) {
    return rgm_fail(RGM_EMEMORY, "%s: no memory to read it", path);
  }
  rgm_status status = rgm_text_open(path, &csv);
  int count = 0;
  bool done;
  if (status == RGM_OK) {
    status = rgm_numbers_next(csv, x, RGM_CSV_COLUMNS, &count, &done);
    rgm_csv_close(csv);
  }
  if (status == RGM_OK && count != m->states) {
    status =
        rgm_fail(RGM_EDATA, "%s: %d rewards for %lld states", path, count, (long long)m->states);
  }
  for (int64_t n = 0; n < m->rows && status == RGM_OK; n++) {
    double reward = 0.0;
    for (int64_t i = m->start[n]; i < m->start[n + 1]; i++) {
      m->gain[i] = x[m->next[i]];
      reward = fma(m->p[i], m->gain[i], reward);
    }
    m->reward[n] = reward;
  }
  free(x);
  return status;
}


rgm_status rgm_mdp_read_icu_sepsis(const rgm_mdp_source *source, rgm_mdp **out) {
  static const char *const sparse[] = {"transitions_sparse.csv.gz", "transitions_sparse.csv", NULL};
  static const char *const dense[] = {"transitionFunction.csv.gz", "transitionFunction.csv", NULL};
  static const char *const rewards[] = {"rewardFunction.csv.gz", "rewardFunction.csv", NULL};
  static const char *const begins[] = {"initialStateDistribution.csv.gz",
                                       "initialStateDistribution.csv", NULL};
  enum { ACTIONS = 25 }; // five levels of fluid times five of vasopressor
  char path[1024];
  rgm_mdp_builder *b;
  rgm_csv *csv;
  const bool is_sparse = find_file(source->path, sparse, path);
  if (!is_sparse && !find_file(source->path, dense, path)) {
    return rgm_fail(RGM_EIO, "%s: no transitionFunction.csv or transitions_sparse.csv[.gz] in it",
                    source->path);
  }
  RGM_TRY(rgm_text_open(path, &csv));
  rgm_status status = rgm_mdp_builder_new(path, &b);
  if (status == RGM_OK) {
    status = is_sparse ? read_transitions(csv, b) : read_dense(csv, ACTIONS, b);
  }
  rgm_csv_close(csv);
  if (status != RGM_OK) {
    rgm_mdp_builder_free(b);
    return status;
  }
  RGM_TRY(rgm_mdp_finish(b, 0, ACTIONS, &source->checks, out));
  (void)find_file(source->path, rewards, path);
  status = read_arrival_rewards(path, *out);
  if (status == RGM_OK) {
    (void)find_file(source->path, begins, path);
    status = rgm_mdp_read_begin(path, *out);
  }
  return status;
}
