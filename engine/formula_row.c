// SPDX-License-Identifier: Apache-2.0
// Formulas in use: the design of a row, levels and knots, names of columns. The natural cubic
// splines are those of Hastie, Tibshirani & Friedman 2009, equations 5.4 and 5.5.

#include "engine/formula.h"
#include "kernels/scalar.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_KNOTS = 9 };


// ---- evaluation --------------------------------------------------------------------------------

static double power(double a, double b) {
  if (b == (int)b && fabs(b) <= 16) {
    double product = 1.0;
    for (int i = 0; i < abs((int)b); i++) {
      product *= a;
    }
    return b < 0 ? 1.0 / product : product;
  }
  return rgm_exp64(b * rgm_log64(a));
}


static double binary(int code, double a, double b) {
  if (isnan(a) || isnan(b)) {
    return NAN;
  }
  switch (code) {
  case RGM_OP_ADD:
    return a + b;
  case RGM_OP_SUB:
    return a - b;
  case RGM_OP_MUL:
    return a * b;
  case RGM_OP_DIV:
    return a / b;
  case RGM_OP_POW:
    return power(a, b);
  case RGM_OP_MIN:
    return a < b ? a : b;
  case RGM_OP_MAX:
    return a > b ? a : b;
  case RGM_OP_LT:
    return a < b;
  case RGM_OP_LE:
    return a <= b;
  case RGM_OP_GT:
    return a > b;
  case RGM_OP_GE:
    return a >= b;
  case RGM_OP_EQ:
    return a == b;
  case RGM_OP_NE:
    return a != b;
  case RGM_OP_AND:
    return a != 0 && b != 0;
  default:
    return a != 0 || b != 0;
  }
}


static double unary(int code, double a) {
  switch (code) {
  case RGM_OP_NEG:
    return -a;
  case RGM_OP_ABS:
    return fabs(a);
  case RGM_OP_LOG:
    return rgm_log64(a);
  case RGM_OP_EXP:
    return rgm_exp64(a);
  case RGM_OP_SQRT:
    return rgm_sqrt64(a);
  default:
    return isnan(a) ? a : a == 0;
  }
}


static double evaluate(const rgm_op *op, int count, const double *values) {
  double stack[RGM_FORMULA_OPS];
  int top = 0;
  for (int i = 0; i < count; i++) {
    const int code = op[i].code;
    if (code == RGM_OP_NUMBER || code == RGM_OP_COLUMN) {
      stack[top++] = code == RGM_OP_NUMBER ? op[i].value : values[op[i].column];
    } else if (code == RGM_OP_NEG || code == RGM_OP_NOT ||
               (code >= RGM_OP_ABS && code <= RGM_OP_SQRT)) {
      stack[top - 1] = unary(code, stack[top - 1]);
    } else {
      top--;
      stack[top - 1] = binary(code, stack[top - 1], stack[top]);
    }
  }
  return stack[0];
}


double rgm_formula_value(const rgm_formula *formula, const double *values) {
  return evaluate(formula->op, formula->op_count, values);
}


static double cube(double x) {
  return x > 0 ? x * x * x : x == x ? 0.0 : x;
}


// the natural cubic splines of `count` knots: count - 1 columns
static void spline(const double *knot, int count, double x, double *out) {
  const double last = knot[count - 1], size = last - knot[0];
  double d[MAX_KNOTS];
  for (int k = 0; k < count - 1; k++) {
    d[k] = (cube(x - knot[k]) - cube(x - last)) / (last - knot[k]) / (size * size);
  }
  out[0] = x;
  for (int k = 0; k < count - 2; k++) {
    out[k + 1] = d[k] - d[count - 2];
  }
}


static void factor_columns(const rgm_formula *f, const rgm_factor *factor, const double *values,
                           double *out) {
  const double x = evaluate(f->op + factor->first, factor->ops, values);
  const double *number = f->number + factor->number;
  if (factor->kind == RGM_FACTOR_NUMBER) {
    out[0] = x;
  } else if (factor->kind == RGM_FACTOR_SPLINE) {
    spline(number + 1, (int)number[0], x, out);
  } else {
    bool known = factor->has_reference ? x == factor->reference : false;
    for (int k = 0; k < (int)number[0]; k++) {
      known = known || x == number[k + 1];
    }
    // number[0] levels, of which the reference is kept last, beyond the columns
    for (int k = 0; k < factor->columns; k++) {
      out[k] = known ? x == number[k + 1] : NAN;
    }
  }
}


void rgm_formula_row(const rgm_formula *formula, const double *values, double *out) {
  int at = 0;
  out[at++] = 1.0;
  for (int t = 0; t < formula->term_count; t++) {
    const rgm_term *term = &formula->term[t];
    double *to = out + at;
    int count = 1;
    to[0] = 1.0;
    for (int i = 0; i < term->factors; i++) {
      double column[RGM_FORMULA_COLUMNS];
      factor_columns(formula, &term->factor[i], values, column);
      // the first factor's columns change fastest
      for (int k = term->factor[i].columns - 1; k >= 0; k--) {
        for (int c = 0; c < count; c++) {
          to[k * count + c] = k > 0 || i > 0 ? to[c] * column[k] : column[k];
        }
      }
      count *= term->factor[i].columns;
    }
    at += count;
  }
}


void rgm_formula_uses(const rgm_formula *formula, uint8_t *used) {
  for (int i = 0; i < formula->op_count; i++) {
    if (formula->op[i].code == RGM_OP_COLUMN) {
      used[formula->op[i].column] = 1;
    }
  }
}


// ---- levels, knots, names ----------------------------------------------------------------------

static int by_value(const void *a, const void *b) {
  const double x = *(const double *)a, y = *(const double *)b;
  return (x > y) - (x < y);
}


// the values that a factor takes, the reference behind the others
static rgm_status learn_levels(const char *what, rgm_formula *f, rgm_factor *factor, double *x,
                               int64_t n) {
  double *number = f->number + f->number_count;
  int count = 0;
  for (int64_t i = 0; i < n; i++) {
    if (i == 0 || x[i] != x[i - 1]) {
      if (count == RGM_LEVELS || f->number_count + count + 2 > RGM_FORMULA_NUMBERS) {
        return rgm_fail(RGM_EDATA, "%s: %s has more than %d levels; is it a number?", what,
                        factor->name, count);
      }
      number[++count] = x[i];
    }
  }
  if (!factor->has_reference && count > 0) {
    factor->reference = number[1];
  }
  int at = 0;
  for (int k = 1; k <= count; k++) {
    at = number[k] == factor->reference ? k : at;
  }
  if (count < 2 || at == 0) {
    return rgm_fail(RGM_EDATA, "%s: %s: %s among the rows of this stage", what, factor->name,
                    count < 2 ? "fewer than two levels" : "the reference does not occur");
  }
  for (int k = at; k < count; k++) {
    number[k] = number[k + 1];
  }
  number[count] = factor->reference;
  number[0] = count;
  f->number_count += count + 1;
  return RGM_OK;
}


static rgm_status learn_knots(const char *what, rgm_formula *f, const rgm_factor *factor, double *x,
                              int64_t n) {
  const int count = factor->columns + 1;
  double *number = f->number + f->number_count;
  if (f->number_count + count + 1 > RGM_FORMULA_NUMBERS) {
    return rgm_fail(RGM_EDATA, "%s: %s: more knots than fit into a formula", what, factor->name);
  }
  number[0] = count;
  for (int k = 0; k < count; k++) {
    number[k + 1] = rgm_quantile_sorted(x, n, (double)k / (count - 1));
    if (k > 0 && !(number[k + 1] > number[k])) {
      return rgm_fail(RGM_EDATA, "%s: %s: two knots coincide; take fewer columns", what,
                      factor->name);
    }
  }
  f->number_count += count + 1;
  return RGM_OK;
}


rgm_status rgm_formula_learn(const char *what, rgm_formula *formula, const rgm_frame *frame,
                             const uint8_t *keep) {
  double *x = malloc((size_t)(frame->rows + 1) * sizeof *x);
  rgm_status status = x != NULL ? RGM_OK : rgm_fail(RGM_EMEMORY, "no memory for a column");
  formula->number_count = 0;
  for (int t = 0; t < formula->term_count && status == RGM_OK; t++) {
    for (int i = 0; i < formula->term[t].factors && status == RGM_OK; i++) {
      rgm_factor *factor = &formula->term[t].factor[i];
      if (factor->kind == RGM_FACTOR_NUMBER) {
        continue;
      }
      int64_t n = 0;
      for (int64_t row = 0; row < frame->rows; row++) {
        const double *values = frame->value + row * frame->columns;
        const double value = evaluate(formula->op + factor->first, factor->ops, values);
        if ((keep == NULL || keep[row]) && !isnan(value)) {
          x[n++] = value;
        }
      }
      qsort(x, (size_t)n, sizeof *x, by_value);
      if (n == 0) {
        status = rgm_fail(RGM_EDATA, "%s: %s: no value among the rows of this stage", what,
                          factor->name);
      } else {
        status = factor->kind == RGM_FACTOR_LEVELS ? learn_levels(what, formula, factor, x, n)
                                                   : learn_knots(what, formula, factor, x, n);
      }
    }
  }
  free(x);
  RGM_TRY(status);
  return rgm_formula_name_columns(what, formula, frame);
}


static void level_name(const rgm_formula *f, const rgm_factor *factor, const rgm_frame *frame,
                       int k, char name[RGM_FORMULA_NAME]) {
  const double value = f->number[factor->number + 1 + k];
  const rgm_variable *column = &frame->column[f->op[factor->first].column];
  if (factor->kind == RGM_FACTOR_NUMBER) {
    snprintf(name, RGM_FORMULA_NAME, "%s", factor->name);
  } else if (factor->kind == RGM_FACTOR_SPLINE) {
    snprintf(name, RGM_FORMULA_NAME, "%.50s%d", factor->name, k + 1);
  } else if (column->levels > 0) {
    snprintf(name, RGM_FORMULA_NAME, "%.30s=%.30s", column->name, column->level[(int)value]);
  } else {
    snprintf(name, RGM_FORMULA_NAME, "%.40s=%.10g", column->name, value);
  }
}


rgm_status rgm_formula_name_columns(const char *what, rgm_formula *formula,
                                    const rgm_frame *frame) {
  int number = 0;
  formula->columns = 1;
  snprintf(formula->name[0], sizeof formula->name[0], "1");
  for (int t = 0; t < formula->term_count; t++) {
    rgm_term *term = &formula->term[t];
    char(*to)[RGM_FORMULA_NAME] = formula->name + formula->columns;
    int count = 1;
    for (int i = 0; i < term->factors; i++) {
      rgm_factor *factor = &term->factor[i];
      if (factor->kind != RGM_FACTOR_NUMBER) {
        factor->number = number;
        factor->columns = (int)formula->number[number] - 1;
        if (factor->kind == RGM_FACTOR_LEVELS) {
          factor->reference = formula->number[number + (int)formula->number[number]];
        }
        number += 1 + (int)formula->number[number];
      }
      if (formula->columns + count * factor->columns > RGM_FORMULA_COLUMNS) {
        return rgm_fail(RGM_EDATA, "%s: more than %d columns", what, RGM_FORMULA_COLUMNS);
      }
      for (int k = factor->columns - 1; k >= 0; k--) {
        char name[RGM_FORMULA_NAME];
        level_name(formula, factor, frame, k, name);
        for (int c = 0; c < count; c++) {
          char before[RGM_FORMULA_NAME];
          memcpy(before, to[c], sizeof before);
          snprintf(to[k * count + c], RGM_FORMULA_NAME, "%.30s%s%.31s", i > 0 ? before : "",
                   i > 0 ? ":" : "", i > 0 ? name : "");
          if (i == 0) {
            memcpy(to[k * count + c], name, sizeof name);
          }
        }
      }
      count *= factor->columns;
    }
    formula->columns += count;
  }
  return RGM_OK;
}
