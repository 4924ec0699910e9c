// SPDX-License-Identifier: Apache-2.0
// The language of design matrices: `age + sofa + abs(ph_k2 - ph_k1) + log(bun) : uo`, as in R
// (Wilkinson & Rogers 1973). A formula is a sum of terms, and always begins with the constant 1. A
// term is a product by `:` of factors; `a * b` stands for a + b + a:b. A factor is a column,
// I(...), abs(...), log(...), exp(...) or sqrt(...) of an expression, factor(column, ref = value):
// an indicator for each level but the reference, or ns(column, df = k): natural cubic splines with
// k columns, knots at quantiles.
//
// Expressions have numbers, "levels", columns, + - * / ^, comparisons, & | !, min(a, b), max(a, b)
// and the functions above: outcomes, treatments and eligibility are expressions. A missing value
// makes the whole missing, also in a comparison.

#ifndef RGM_FORMULA_H
#define RGM_FORMULA_H

#include "engine/frame.h"

enum {
  RGM_FORMULA_OPS = 192,
  RGM_FORMULA_TERMS = 32,
  RGM_FORMULA_FACTORS = 4,
  RGM_FORMULA_COLUMNS = 32, // columns of a design, the constant among them
  RGM_FORMULA_NUMBERS = 64, // levels and knots
  RGM_FORMULA_NAME = 64,
};

typedef enum rgm_op_code {
  RGM_OP_NUMBER,
  RGM_OP_COLUMN,
  RGM_OP_ADD,
  RGM_OP_SUB,
  RGM_OP_MUL,
  RGM_OP_DIV,
  RGM_OP_POW,
  RGM_OP_NEG,
  RGM_OP_ABS,
  RGM_OP_LOG,
  RGM_OP_EXP,
  RGM_OP_SQRT,
  RGM_OP_MIN,
  RGM_OP_MAX,
  RGM_OP_LT,
  RGM_OP_LE,
  RGM_OP_GT,
  RGM_OP_GE,
  RGM_OP_EQ,
  RGM_OP_NE,
  RGM_OP_AND,
  RGM_OP_OR,
  RGM_OP_NOT,
} rgm_op_code;

// An operation on the stack: pushes a number or a column's value, or replaces its top.
typedef struct rgm_op {
  int code, column; // of the frame
  double value;
} rgm_op;

typedef enum rgm_factor_kind {
  RGM_FACTOR_NUMBER,
  RGM_FACTOR_LEVELS,
  RGM_FACTOR_SPLINE
} rgm_factor_kind;

// A factor of a term. `numbers` of a formula hold its levels, the reference left out, or its knots.
typedef struct rgm_factor {
  rgm_factor_kind kind;
  int first, ops;     // of the expression
  int columns;        // how many columns it gives
  int number;         // where its levels or knots are
  bool has_reference; // factor(): the reference was named
  double reference;   // its value
  char name[RGM_FORMULA_NAME];
} rgm_factor;

typedef struct rgm_term {
  int factors;
  rgm_factor factor[RGM_FORMULA_FACTORS];
} rgm_term;

typedef struct rgm_formula {
  int op_count, term_count, number_count, columns;
  rgm_op op[RGM_FORMULA_OPS];
  rgm_term term[RGM_FORMULA_TERMS];
  double number[RGM_FORMULA_NUMBERS];
  char name[RGM_FORMULA_COLUMNS][RGM_FORMULA_NAME]; // of the columns; "1" first
} rgm_formula;

// Reads a formula over a frame's columns, or (`expression`) one expression, which makes one column
// and no constant. `what` begins messages ("config.yaml:12:3: algorithm.stage2.blip"). Errors:
// RGM_ECONFIG with the place in the text and the nearest column, RGM_EDATA for a column that is
// not there.
rgm_status rgm_formula_parse(const char *what, const char *text, const rgm_frame *frame,
                             bool expression, rgm_formula *out);

// Finds levels and knots in the rows for which keep[row] is set (NULL: all), and names the columns.
// Errors: RGM_EDATA: one level only, more columns than fit, knots that coincide.
rgm_status rgm_formula_learn(const char *what, rgm_formula *formula, const rgm_frame *frame,
                             const uint8_t *keep);

// Names the columns once levels and knots are known, as they are after learning or from a file.
rgm_status rgm_formula_name_columns(const char *what, rgm_formula *formula, const rgm_frame *frame);

// The design of a row: `columns` numbers; NaN where a value is missing or a level unknown.
void rgm_formula_row(const rgm_formula *formula, const double *values, double *out);

// The value of an expression in a row.
double rgm_formula_value(const rgm_formula *formula, const double *values);

// Which of a frame's columns it reads: used[column] is set, the others stay.
void rgm_formula_uses(const rgm_formula *formula, uint8_t *used);

// Adds to `names`, of which there are `count`, the columns that a text reads, in their order.
rgm_status rgm_formula_inputs(const char *what, const char *text, char (*names)[64], int *count,
                              int most);

#endif
