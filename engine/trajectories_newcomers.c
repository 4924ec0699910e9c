// SPDX-License-Identifier: Apache-2.0
// New patients for a problem that was counted from trajectories: a CSV table with a row for each,
// whose columns are found by the features' names. What is empty, or no column of the table, was not
// measured.

#include "engine/import.h"
#include "engine/trajectories.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>


const char *rgm_origin_refuses(rgm_scaling scaling, double x) {
  if (scaling == RGM_SCALE_LOG && x <= -0.1) {
    return "-0.1 or less, of which log(0.1 + x) is none";
  }
  return scaling == RGM_SCALE_BINARY && !isnan(x) && x != 0.0 && x != 1.0 ? "neither 0 nor 1"
                                                                          : NULL;
}


void rgm_newcomers_free(rgm_newcomers *p) {
  free(p->x);
  free(p->place);
  *p = (rgm_newcomers){0};
}


// the column of each feature, -1: there is none; a column that is nearly called like one is a slip
static rgm_status find_features(const rgm_mdp_origin *o, const rgm_csv *csv, int *column,
                                rgm_newcomers *p) {
  const char *absent[RGM_FEATURES + 1] = {NULL};
  for (int64_t d = 0; d < o->features; d++) {
    column[d] = rgm_csv_find(csv, o->feature[d]);
    if (column[d] < 0) {
      absent[p->absent++] = o->feature[d];
    }
  }
  for (int c = 0; c < rgm_csv_columns(csv); c++) {
    bool is_feature = false;
    for (int64_t d = 0; d < o->features; d++) {
      is_feature = is_feature || column[d] == c;
    }
    const char *nearest = is_feature ? NULL : rgm_nearest(rgm_csv_name(csv, c), absent);
    if (nearest != NULL) {
      return rgm_fail(RGM_EDATA,
                      "%s: there is no column %s, but %s; rename it, or drop it if it is something "
                      "else",
                      rgm_csv_path(csv), nearest, rgm_csv_name(csv, c));
    }
  }
  return p->absent < o->features
             ? RGM_OK
             : rgm_fail(RGM_EDATA,
                        "%s: none of the columns is one of the problem's %lld features, %s and so "
                        "on",
                        rgm_csv_path(csv), (long long)o->features, o->feature[0]);
}


static rgm_status read_patient(const rgm_mdp_origin *o, const rgm_csv *csv,
                               const rgm_csv_field *fields, const int *column, double *x) {
  for (int64_t d = 0; d < o->features; d++) {
    x[d] = NAN;
    if (column[d] >= 0) {
      RGM_TRY(rgm_trajectories_number(csv, fields, column[d], &x[d]));
      const char *why = rgm_origin_refuses((rgm_scaling)o->scaling[d], x[d]);
      if (why != NULL) {
        return rgm_import_bad(csv, column[d], why);
      }
      // as importers keep it
      x[d] = (double)(float)x[d];
    }
  }
  return RGM_OK;
}


static rgm_status read_all(const rgm_mdp_origin *o, rgm_csv *csv, rgm_newcomers *p) {
  int column[RGM_FEATURES];
  int64_t room = 0;
  rgm_csv_field *fields = NULL;
  RGM_TRY(find_features(o, csv, column, p));
  RGM_TRY(rgm_csv_next(csv, &fields));
  for (; fields != NULL; p->rows++) {
    if (p->rows == room) {
      room = room > 0 ? 2 * room : 256;
      double *x = realloc(p->x, (size_t)(room * o->features) * sizeof *x);
      p->x = x != NULL ? x : p->x;
      int64_t *place = realloc(p->place, (size_t)room * sizeof *place);
      p->place = place != NULL ? place : p->place;
      if (x == NULL || place == NULL) {
        return rgm_fail(RGM_EMEMORY, "%s: no memory for %lld rows", rgm_csv_path(csv),
                        (long long)room);
      }
    }
    p->place[p->rows] = rgm_csv_row(csv);
    RGM_TRY(read_patient(o, csv, fields, column, p->x + p->rows * o->features));
    RGM_TRY(rgm_csv_next(csv, &fields));
  }
  return p->rows > 0 ? RGM_OK
                     : rgm_fail(RGM_EDATA, "%s: no rows under a header line", rgm_csv_path(csv));
}


rgm_status rgm_newcomers_read(const rgm_mdp_origin *o, const char *path, rgm_newcomers *out) {
  rgm_csv *csv;
  *out = (rgm_newcomers){0};
  RGM_TRY(rgm_csv_open(path, false, &csv));
  const rgm_status status = read_all(o, csv, out);
  rgm_csv_close(csv);
  if (status != RGM_OK) {
    rgm_newcomers_free(out);
  }
  return status;
}
