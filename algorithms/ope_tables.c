// SPDX-License-Identifier: Apache-2.0
// The tables that off-policy evaluation reads: rows that are left out, patients who stand for two
// arms of a trial (cloned; Hernan 2018), and imputed sets, told apart by a column.

#include "algorithms/ope.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

// A row of the file that is kept: of which set, and whether it is the clone.
typedef struct kept {
  double set;
  int64_t row;
  bool clone;
} kept;


// an expression in every row of the file, `otherwise` where there is none
static rgm_status evaluate(const rgm_run *run, const rgm_frame *frame, const char *key,
                           const char *text, double otherwise, double *out) {
  char what[512], name[64];
  rgm_formula f;
  snprintf(name, sizeof name, "algorithm.%s", key);
  snprintf(what, sizeof what, "%s: %s", rgm_config_where(run->config, name), name);
  if (text[0] != '\0') {
    RGM_TRY(rgm_formula_parse(what, text, frame, true, &f));
  }
  for (int64_t i = 0; i < frame->rows; i++) {
    out[i] = text[0] == '\0' ? otherwise : rgm_formula_value(&f, frame->value + i * frame->columns);
    if (isnan(out[i])) {
      return rgm_fail(RGM_EDATA, "%s:%lld: %s: %s is missing", run->data.path, (long long)i + 2,
                      key, text);
    }
  }
  return RGM_OK;
}


static rgm_status evaluate_flag(const rgm_run *run, const rgm_frame *frame, const char *key,
                                const char *text, double *out) {
  RGM_TRY(evaluate(run, frame, key, text, 0.0, out));
  for (int64_t i = 0; i < frame->rows; i++) {
    if (out[i] != 0 && out[i] != 1) {
      return rgm_fail(RGM_EDATA, "%s:%lld: %s: %s is neither 0 nor 1", run->data.path,
                      (long long)i + 2, key, text);
    }
  }
  return RGM_OK;
}


static int by_set(const void *a, const void *b) {
  const kept *x = a, *y = b;
  return x->set != y->set       ? (x->set > y->set) - (x->set < y->set)
         : x->clone != y->clone ? x->clone - y->clone
                                : (x->row > y->row) - (x->row < y->row);
}


// all sets have the same patients in the same order
static rgm_status compare_sets(const rgm_run *run, const ope_tables *t, const kept *all,
                               const double *id, int64_t count) {
  for (int64_t i = 0; i < count; i++) {
    const int64_t first = i % t->rows;
    const bool begins = i == 0 || all[i].set != all[i - 1].set;
    if (begins != (first == 0)) {
      return rgm_fail(RGM_EDATA, "%s:%lld: imputation %g has more or fewer rows than imputation %g",
                      run->data.path, (long long)all[i].row + 2, all[i].set, all[0].set);
    }
    if (id[all[i].row] != id[all[first].row] || all[i].clone != all[first].clone) {
      return rgm_fail(RGM_EDATA,
                      "%s:%lld: the patient is another one than at line %lld: imputed sets are to "
                      "have the same rows in the same order",
                      run->data.path, (long long)all[i].row + 2, (long long)all[first].row + 2);
    }
  }
  return RGM_OK;
}


static rgm_status part(const rgm_run *run, ope_tables *t, double *x, kept *all) {
  const ope_keys *keys = rgm_algorithm_keys(run, 0);
  const int64_t N = t->frame.rows;
  double *set = x, *drop = x + N, *clone = x + 2 * N, *id = x + 3 * N;
  RGM_TRY(evaluate(run, &t->frame, "imputation", keys->imputation, 1.0, set));
  RGM_TRY(evaluate(run, &t->frame, "id", keys->imputation[0] != '\0' ? keys->id : "", 0.0, id));
  RGM_TRY(evaluate_flag(run, &t->frame, "drop", keys->drop, drop));
  RGM_TRY(evaluate_flag(run, &t->frame, "clone", keys->clone, clone));
  int64_t count = 0;
  for (int64_t i = 0; i < N; i++) {
    for (int copy = 0; drop[i] == 0 && copy <= (clone[i] != 0); copy++) {
      all[count++] = (kept){set[i], i, copy == 1};
    }
  }
  if (count == 0) {
    return rgm_fail(RGM_EDATA, "%s: drop: %s leaves no rows", run->data.path, keys->drop);
  }
  qsort(all, (size_t)count, sizeof *all, by_set);
  while (t->rows < count && all[t->rows].set == all[0].set) {
    t->rows++;
  }
  RGM_TRY(compare_sets(run, t, all, id, count));
  t->count = count / t->rows;
  if (t->count * t->rows != count) {
    return rgm_fail(RGM_EDATA, "%s: imputation %g has fewer rows than imputation %g",
                    run->data.path, all[count - 1].set, all[0].set);
  }
  t->row = malloc((size_t)count * sizeof *t->row);
  for (int64_t i = 0; i < count && t->row != NULL; i++) {
    t->row[i] = all[i].row;
  }
  return t->row != NULL ? RGM_OK : rgm_fail(RGM_EMEMORY, "no memory for the rows of a table");
}


rgm_status ope_open(rgm_run *run, ope_tables *t) {
  *t = (ope_tables){0};
  RGM_TRY(rgm_frame_read(run->data.path, &t->frame));
  memcpy(run->data_digest, t->frame.digest, sizeof run->data_digest);
  double *x = malloc((size_t)(4 * t->frame.rows) * sizeof *x);
  kept *all = malloc((size_t)(2 * t->frame.rows) * sizeof *all);
  const rgm_status status = x != NULL && all != NULL
                                ? part(run, t, x, all)
                                : rgm_fail(RGM_EMEMORY, "no memory for the rows of a table");
  free(x);
  free(all);
  return status;
}


void ope_close(ope_tables *t) {
  rgm_frame_free(&t->frame);
  free(t->row);
  *t = (ope_tables){0};
}
