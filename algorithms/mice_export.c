// SPDX-License-Identifier: Apache-2.0
// What imputation leaves for others: all completed tables as one CSV or HDF5 file in the long form
// of R's mice (complete(action = "long", include = TRUE)), the chains' traces, and whether they
// have met (Gelman & Rubin 1992).

#include "algorithms/mice_private.h"
#include "engine/dataset.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

// Files of completed tables that are being written; NULL: not wanted.
typedef struct files {
  const mice_plan *plan;
  FILE *csv;
  rgm_dataset_writer *hdf5;
  double *column; // (N) cells of a piece, one column at a time
} files;


// a file of patients: nobody else may read it
static rgm_status open_private(const char *path, FILE **out) {
  *out = fopen(path, "w");
  if (*out == NULL || fchmod(fileno(*out), 0600) != 0) {
    return rgm_fail(RGM_EIO, "%s: %s", path, strerror(errno));
  }
  return RGM_OK;
}


// ---- completed tables --------------------------------------------------------------------------

// the columns of the file, with the words of factors as notes
static rgm_status shape_of(const mice_plan *p, rgm_dataset **out) {
  const rgm_frame *f = &p->frame;
  rgm_dataset *d = *out = rgm_dataset_new(0);
  if (d == NULL || rgm_dataset_add(d, ".imp", RGM_ROLE_OTHER, RGM_CELL_I32, "1") == NULL ||
      rgm_dataset_add(d, ".id", RGM_ROLE_OTHER, RGM_CELL_I32, "1") == NULL) {
    return rgm_fail(RGM_EMEMORY, "no memory for the file of completed tables");
  }
  for (int c = 0; c < f->columns; c++) {
    char name[80], levels[RGM_LEVELS * (RGM_LEVEL_SIZE + 2)] = "";
    if (rgm_dataset_add(d, f->column[c].name, RGM_ROLE_OTHER, RGM_CELL_F64, "") == NULL) {
      return RGM_EMEMORY;
    }
    for (int l = 0; l < f->column[c].levels; l++) {
      const size_t used = strlen(levels);
      snprintf(levels + used, sizeof levels - used, "%s%s", l > 0 ? ", " : "",
               f->column[c].level[l]);
    }
    snprintf(name, sizeof name, "levels.%.60s", f->column[c].name);
    if (f->column[c].levels > 0) {
      RGM_TRY(rgm_dataset_note(d, name, levels));
    }
  }
  return rgm_dataset_note(d, "imputation",
                          ".imp 0 is the table as observed, .id the row of it from 1");
}


// the fewest digits that give the number back
static void write_number(FILE *csv, double x) {
  char text[40];
  snprintf(text, sizeof text, "%.15g", x);
  fprintf(csv, strtod(text, NULL) == x ? ",%.15g" : ",%.17g", x);
}


static void write_csv(const files *to, int64_t imputation, const double *values) {
  const rgm_frame *f = &to->plan->frame;
  for (int64_t row = 0; row < f->rows; row++) {
    fprintf(to->csv, "%lld,%lld", (long long)imputation, (long long)row + 1);
    for (int c = 0; c < f->columns; c++) {
      const double x = values[row * f->columns + c];
      if (isnan(x)) {
        fputc(',', to->csv);
      } else if (f->column[c].levels > 0) {
        fprintf(to->csv, ",\"%s\"", f->column[c].level[(int)x]);
      } else {
        write_number(to->csv, x);
      }
    }
    fputc('\n', to->csv);
  }
}


static rgm_status write_hdf5(const files *to, int64_t imputation, const double *values) {
  const rgm_frame *f = &to->plan->frame;
  const size_t n = (size_t)f->rows;
  const void **data = malloc((size_t)(f->columns + 2) * sizeof *data);
  int32_t *imp = malloc(2 * n * sizeof *imp), *id = imp != NULL ? imp + n : NULL;
  rgm_status status = data != NULL && imp != NULL
                          ? RGM_OK
                          : rgm_fail(RGM_EMEMORY, "no memory for a completed table");
  for (int64_t row = 0; row < f->rows && status == RGM_OK; row++) {
    imp[row] = (int32_t)imputation;
    id[row] = (int32_t)row + 1;
    for (int c = 0; c < f->columns; c++) {
      to->column[(int64_t)c * f->rows + row] = values[row * f->columns + c];
    }
  }
  if (status == RGM_OK) {
    data[0] = imp;
    data[1] = id;
    for (int c = 0; c < f->columns; c++) {
      data[c + 2] = to->column + (int64_t)c * f->rows;
    }
    status = rgm_dataset_append(to->hdf5, f->rows, data);
  }
  free(data);
  free(imp);
  return status;
}


static rgm_status write_table(const files *to, int64_t imputation, const double *values) {
  if (to->csv != NULL) {
    write_csv(to, imputation, values);
  }
  return to->hdf5 != NULL ? write_hdf5(to, imputation, values) : RGM_OK;
}


static rgm_status open_files(files *to, const char *csv, const char *hdf5) {
  const rgm_frame *f = &to->plan->frame;
  to->column = malloc((size_t)(f->rows * f->columns) * sizeof *to->column);
  if (to->column == NULL) {
    return rgm_fail(RGM_EMEMORY, "no memory for a completed table");
  }
  if (csv != NULL) {
    RGM_TRY(open_private(csv, &to->csv));
    fprintf(to->csv, ".imp,.id");
    for (int c = 0; c < f->columns; c++) {
      fprintf(to->csv, ",\"%s\"", f->column[c].name);
    }
    fputc('\n', to->csv);
  }
  if (hdf5 != NULL) {
    rgm_dataset *shape = NULL;
    rgm_status status = shape_of(to->plan, &shape);
    if (status == RGM_OK) {
      shape->rows = f->rows * (to->plan->imputations + 1);
      status = rgm_dataset_create(hdf5, shape, &to->hdf5);
      shape->rows = 0;
    }
    rgm_dataset_free(shape);
    return status;
  }
  return RGM_OK;
}


rgm_status mice_export(mice_plan *plan, rgm_stream *stream, const char *csv, const char *hdf5) {
  files to = {.plan = plan};
  char digest[65];
  rgm_status status = open_files(&to, csv, hdf5);
  status = status == RGM_OK ? write_table(&to, 0, plan->frame.value) : status;
  for (int64_t i = 0; i < plan->imputations && status == RGM_OK; i++) {
    const double *values;
    status = mice_values(plan, stream, i, &values, NULL);
    status = status == RGM_OK ? write_table(&to, i + 1, values) : status;
  }
  if (to.csv != NULL && fclose(to.csv) != 0 && status == RGM_OK) {
    status = rgm_fail(RGM_EIO, "%s: %s", csv, strerror(errno));
  }
  if (to.hdf5 != NULL && status == RGM_OK) {
    status = rgm_dataset_commit(to.hdf5, digest);
  } else if (to.hdf5 != NULL) {
    rgm_dataset_drop(to.hdf5);
  }
  free(to.column);
  return status;
}


// ---- traces ------------------------------------------------------------------------------------

// a trace: mean (0) or standard deviation (1) of a column in a chain after an iteration
static double trace_at(const mice_plan *p, int64_t chain, int64_t iteration, int column, int what) {
  const int64_t at = (chain * p->keys->iterations + iteration) * p->frame.columns + column;
  return p->traces[2 * at + what];
}


// Gelman & Rubin 1992, section 3: T iterations of m chains
double mice_rhat(const mice_plan *p, int64_t chains, int column, int what) {
  const double m = (double)chains, T = (double)p->keys->iterations;
  double grand = 0.0, within = 0.0, between = 0.0;
  for (int64_t i = 0; i < chains; i++) {
    for (int64_t t = 0; t < p->keys->iterations; t++) {
      grand += trace_at(p, i, t, column, what) / (m * T);
    }
  }
  for (int64_t i = 0; i < chains; i++) {
    double mean = 0.0;
    for (int64_t t = 0; t < p->keys->iterations; t++) {
      mean += trace_at(p, i, t, column, what) / T;
    }
    for (int64_t t = 0; t < p->keys->iterations; t++) {
      const double d = trace_at(p, i, t, column, what) - mean;
      within += d * d / (m * (T - 1.0));
    }
    between += (mean - grand) * (mean - grand) / (m - 1.0);
  }
  return sqrt(((T - 1.0) / T * within + between) / within);
}


bool mice_has_traces(const mice_plan *plan) {
  return plan != NULL && plan->traces != NULL;
}


rgm_status mice_write_traces(const mice_plan *p, int64_t chains, const char *path) {
  FILE *file = fopen(path, "w");
  if (file == NULL) {
    return rgm_fail(RGM_EIO, "%s: %s", path, strerror(errno));
  }
  fprintf(file, "chain,iteration,column,mean,sd\n");
  for (int64_t i = 0; i < chains; i++) {
    for (int64_t t = 0; t < p->keys->iterations; t++) {
      for (int k = 0; k < p->target_count; k++) {
        const int c = p->target[k].column;
        fprintf(file, "%lld,%lld,\"%s\",%.12g,%.12g\n", (long long)i + 1, (long long)t + 1,
                p->frame.column[c].name, trace_at(p, i, t, c, 0), trace_at(p, i, t, c, 1));
      }
    }
  }
  return fclose(file) == 0 ? RGM_OK : rgm_fail(RGM_EIO, "%s: %s", path, strerror(errno));
}


int mice_targets(const mice_plan *plan) {
  return plan->target_count;
}


const char *mice_target_name(const mice_plan *plan, int target, int *column) {
  *column = plan->target[target].column;
  return plan->frame.column[*column].name;
}
