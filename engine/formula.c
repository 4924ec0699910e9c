// SPDX-License-Identifier: Apache-2.0
// Formulas of design matrices: a recursive descent into a list of operations on a stack.

#include "engine/formula.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

enum { DEEPEST = 32, MAX_DF = 8 };

typedef struct parser {
  const char *what, *text, *at;
  const rgm_frame *frame;
  rgm_formula *f;
  int depth;
} parser;

static const struct {
  const char *name;
  int code, arguments;
} functions[] = {
    {"abs", RGM_OP_ABS, 1}, {"log", RGM_OP_LOG, 1},
    {"exp", RGM_OP_EXP, 1}, {"sqrt", RGM_OP_SQRT, 1},
    {"min", RGM_OP_MIN, 2}, {"max", RGM_OP_MAX, 2},
    {"I", -1, 1},
};


// ---- words -------------------------------------------------------------------------------------

static void skip(parser *p) {
  while (*p->at == ' ' || *p->at == '\t' || *p->at == '\n') {
    p->at++;
  }
}


static rgm_status wrong(const parser *p, const char *expected) {
  return rgm_fail(RGM_ECONFIG, "%s: \"%s\": character %d: expected %s", p->what, p->text,
                  (int)(p->at - p->text) + 1, expected);
}


static bool accept(parser *p, const char *word) {
  skip(p);
  const size_t size = strlen(word);
  if (strncmp(p->at, word, size) != 0) {
    return false;
  }
  p->at += size;
  return true;
}


static rgm_status expect(parser *p, const char *word, const char *expected) {
  return accept(p, word) ? RGM_OK : wrong(p, expected);
}


static bool starts_name(char c) {
  return isalpha((unsigned char)c) || c == '_';
}


// a name at the cursor, "" where there is none
static void read_name(parser *p, char name[64]) {
  int size = 0;
  skip(p);
  if (starts_name(*p->at)) {
    while (isalnum((unsigned char)*p->at) || *p->at == '_' || *p->at == '.') {
      if (size < 63) {
        name[size++] = *p->at;
      }
      p->at++;
    }
  }
  name[size] = '\0';
}


static rgm_status emit(parser *p, int code, int column, double value) {
  if (p->f->op_count == RGM_FORMULA_OPS) {
    return rgm_fail(RGM_ECONFIG, "%s: \"%s\": longer than %d operations; split it into columns",
                    p->what, p->text, RGM_FORMULA_OPS);
  }
  p->f->op[p->f->op_count++] = (rgm_op){code, column, value};
  return RGM_OK;
}


static rgm_status find_column(const parser *p, const char *name, int *out) {
  *out = rgm_frame_find(p->frame, name);
  if (*out >= 0) {
    return RGM_OK;
  }
  const char *nearest = rgm_frame_nearest(p->frame, name);
  return rgm_fail(RGM_EDATA, "%s: \"%s\": the data have no column %s%s%s%s", p->what, p->text, name,
                  nearest != NULL ? "; did you mean " : "", nearest != NULL ? nearest : "",
                  nearest != NULL ? "?" : "");
}


// ---- expressions -------------------------------------------------------------------------------

static rgm_status parse_or(parser *p);

// a level in quotes stands for its place in the factor that was read just before
static rgm_status parse_level(parser *p) {
  char level[RGM_LEVEL_SIZE] = "";
  const char *end = strchr(++p->at, '"');
  if (end == NULL || end - p->at >= RGM_LEVEL_SIZE) {
    return wrong(p, "a level that ends with a quote, of at most 31 characters");
  }
  memcpy(level, p->at, (size_t)(end - p->at));
  p->at = end + 1;
  const rgm_op *last = p->f->op_count > 0 ? &p->f->op[p->f->op_count - 1] : NULL;
  if (last == NULL || last->code != RGM_OP_COLUMN || p->frame->column[last->column].levels == 0) {
    return wrong(p, "a level after a column of words, as in sex == \"f\"");
  }
  const int place = rgm_frame_level(&p->frame->column[last->column], level);
  if (place < 0) {
    return rgm_fail(RGM_EDATA, "%s: \"%s\": column %s has no level \"%s\"", p->what, p->text,
                    p->frame->column[last->column].name, level);
  }
  return emit(p, RGM_OP_NUMBER, 0, place);
}


static rgm_status parse_call(parser *p, const char *name) {
  for (size_t i = 0; i < sizeof functions / sizeof *functions; i++) {
    if (strcmp(name, functions[i].name) == 0) {
      RGM_TRY(parse_or(p));
      if (functions[i].arguments == 2) {
        RGM_TRY(expect(p, ",", "a comma and a second argument"));
        RGM_TRY(parse_or(p));
      }
      RGM_TRY(expect(p, ")", "a closing bracket"));
      return functions[i].code >= 0 ? emit(p, functions[i].code, 0, 0) : RGM_OK;
    }
  }
  return rgm_fail(
      RGM_ECONFIG,
      "%s: \"%s\": there is no function %s here; there are I, abs, log, exp, sqrt, min, "
      "max, and in formulas factor, ns",
      p->what, p->text, name);
}


static rgm_status parse_primary(parser *p) {
  char name[64];
  skip(p);
  if (isdigit((unsigned char)*p->at) || *p->at == '.') {
    char *end;
    const double value = strtod(p->at, &end);
    if (end == p->at || starts_name(*end)) {
      return wrong(p, "a number");
    }
    p->at = end;
    return emit(p, RGM_OP_NUMBER, 0, value);
  }
  if (*p->at == '"') {
    return parse_level(p);
  }
  if (accept(p, "(")) {
    RGM_TRY(parse_or(p));
    return expect(p, ")", "a closing bracket");
  }
  read_name(p, name);
  if (name[0] == '\0') {
    return wrong(p, "a column, a number, a function or a bracket");
  }
  if (accept(p, "(")) {
    return parse_call(p, name);
  }
  int column;
  RGM_TRY(find_column(p, name, &column));
  return emit(p, RGM_OP_COLUMN, column, 0);
}


// signs, powers (which bind tighter, and from the right), negation
static rgm_status parse_unary(parser *p) {
  if (++p->depth > DEEPEST) {
    return wrong(p, "fewer nested brackets");
  }
  rgm_status status;
  if (accept(p, "-")) {
    status = parse_unary(p);
    status = status == RGM_OK ? emit(p, RGM_OP_NEG, 0, 0) : status;
  } else if (p->at[0] == '!' && p->at[1] != '=') {
    p->at++;
    status = parse_unary(p);
    status = status == RGM_OK ? emit(p, RGM_OP_NOT, 0, 0) : status;
  } else {
    status = parse_primary(p);
    if (status == RGM_OK && accept(p, "^")) {
      status = parse_unary(p);
      status = status == RGM_OK ? emit(p, RGM_OP_POW, 0, 0) : status;
    }
  }
  p->depth--;
  return status;
}


static rgm_status parse_product(parser *p) {
  RGM_TRY(parse_unary(p));
  for (;;) {
    const int code = accept(p, "*") ? RGM_OP_MUL : accept(p, "/") ? RGM_OP_DIV : -1;
    if (code < 0) {
      return RGM_OK;
    }
    RGM_TRY(parse_unary(p));
    RGM_TRY(emit(p, code, 0, 0));
  }
}


static rgm_status parse_sum(parser *p) {
  RGM_TRY(parse_product(p));
  for (;;) {
    const int code = accept(p, "+") ? RGM_OP_ADD : accept(p, "-") ? RGM_OP_SUB : -1;
    if (code < 0) {
      return RGM_OK;
    }
    RGM_TRY(parse_product(p));
    RGM_TRY(emit(p, code, 0, 0));
  }
}


static rgm_status parse_comparison(parser *p) {
  static const struct {
    const char *text;
    int code;
  } signs[] = {{"<=", RGM_OP_LE}, {">=", RGM_OP_GE}, {"==", RGM_OP_EQ},
               {"!=", RGM_OP_NE}, {"<", RGM_OP_LT},  {">", RGM_OP_GT}};
  RGM_TRY(parse_sum(p));
  for (size_t i = 0; i < sizeof signs / sizeof *signs; i++) {
    if (accept(p, signs[i].text)) {
      RGM_TRY(parse_sum(p));
      return emit(p, signs[i].code, 0, 0);
    }
  }
  return RGM_OK;
}


static rgm_status parse_and(parser *p) {
  RGM_TRY(parse_comparison(p));
  while (accept(p, "&")) {
    (void)accept(p, "&");
    RGM_TRY(parse_comparison(p));
    RGM_TRY(emit(p, RGM_OP_AND, 0, 0));
  }
  return RGM_OK;
}


static rgm_status parse_or(parser *p) {
  if (++p->depth > DEEPEST) {
    return wrong(p, "fewer nested brackets");
  }
  RGM_TRY(parse_and(p));
  while (accept(p, "|")) {
    (void)accept(p, "|");
    RGM_TRY(parse_and(p));
    RGM_TRY(emit(p, RGM_OP_OR, 0, 0));
  }
  p->depth--;
  return RGM_OK;
}


// ---- formulas ----------------------------------------------------------------------------------

// the source between two places without blanks
static void copy_source(const char *from, const char *to, char name[RGM_FORMULA_NAME]) {
  int size = 0;
  for (; from < to; from++) {
    if (*from != ' ' && *from != '\t' && *from != '\n' && size < RGM_FORMULA_NAME - 1) {
      name[size++] = *from;
    }
  }
  name[size] = '\0';
}


// factor(column, ref = value) and ns(column, df = k), after their bracket
static rgm_status parse_special(parser *p, rgm_factor *factor) {
  char name[64];
  const bool levels = factor->kind == RGM_FACTOR_LEVELS;
  read_name(p, name);
  int column;
  RGM_TRY(find_column(p, name, &column));
  RGM_TRY(emit(p, RGM_OP_COLUMN, column, 0));
  factor->columns = levels ? 0 : 3;
  if (accept(p, ",")) {
    read_name(p, name);
    if (strcmp(name, levels ? "ref" : "df") != 0 || !accept(p, "=")) {
      return wrong(p, levels ? "ref = the reference level" : "df = the number of columns");
    }
    skip(p);
    if (levels && *p->at == '"') {
      RGM_TRY(parse_level(p));
      factor->reference = p->f->op[--p->f->op_count].value;
    } else {
      char *end;
      factor->reference = strtod(p->at, &end);
      if (end == p->at) {
        return wrong(p, "a number or a level in quotes");
      }
      p->at = end;
    }
    factor->has_reference = levels;
    factor->columns = levels ? 0 : (int)factor->reference;
    if (!levels &&
        (factor->reference != factor->columns || factor->columns < 1 || factor->columns > MAX_DF)) {
      return wrong(p, "df from 1 to 8");
    }
  }
  return expect(p, ")", "a closing bracket");
}


static rgm_status parse_factor(parser *p, rgm_factor *factor) {
  char name[64];
  skip(p);
  const char *begin = p->at;
  *factor = (rgm_factor){.kind = RGM_FACTOR_NUMBER, .first = p->f->op_count, .columns = 1};
  read_name(p, name);
  if (name[0] == '\0') {
    return wrong(p, "a column or a function");
  }
  if (!accept(p, "(")) {
    int column;
    RGM_TRY(find_column(p, name, &column));
    if (p->frame->column[column].levels > 0) {
      factor->kind = RGM_FACTOR_LEVELS;
      factor->columns = 0;
    }
    RGM_TRY(emit(p, RGM_OP_COLUMN, column, 0));
  } else if (strcmp(name, "factor") == 0 || strcmp(name, "ns") == 0) {
    factor->kind = name[0] == 'f' ? RGM_FACTOR_LEVELS : RGM_FACTOR_SPLINE;
    RGM_TRY(parse_special(p, factor));
  } else {
    RGM_TRY(parse_call(p, name));
  }
  factor->ops = p->f->op_count - factor->first;
  copy_source(begin, p->at, factor->name);
  return RGM_OK;
}


static bool same_factors(const rgm_term *a, const rgm_term *b) {
  bool same = a->factors == b->factors;
  for (int i = 0; i < a->factors && same; i++) {
    bool found = false;
    for (int k = 0; k < b->factors; k++) {
      found = found || strcmp(a->factor[i].name, b->factor[k].name) == 0;
    }
    same = found;
  }
  return same;
}


// a term that is there already is not there twice
static rgm_status add_term(const parser *p, const rgm_term *term) {
  for (int i = 0; i < p->f->term_count; i++) {
    if (same_factors(term, &p->f->term[i])) {
      return RGM_OK;
    }
  }
  if (p->f->term_count == RGM_FORMULA_TERMS) {
    return rgm_fail(RGM_ECONFIG, "%s: \"%s\": more than %d terms", p->what, p->text,
                    RGM_FORMULA_TERMS);
  }
  p->f->term[p->f->term_count++] = *term;
  return RGM_OK;
}


static rgm_status join_terms(const parser *p, const rgm_term *a, const rgm_term *b, rgm_term *out) {
  *out = *a;
  for (int i = 0; i < b->factors; i++) {
    if (out->factors == RGM_FORMULA_FACTORS) {
      return wrong(p, "at most four factors in a term");
    }
    out->factor[out->factors++] = b->factor[i];
  }
  return RGM_OK;
}


static rgm_status parse_interaction(parser *p, rgm_term *out) {
  rgm_term term = {.factors = 1}, other = {.factors = 1};
  RGM_TRY(parse_factor(p, &term.factor[0]));
  while (accept(p, ":")) {
    RGM_TRY(parse_factor(p, &other.factor[0]));
    RGM_TRY(join_terms(p, &term, &other, &term));
  }
  *out = term;
  return RGM_OK;
}


// a, a:b, or a * b * ... with every product of some of them
static rgm_status parse_term(parser *p) {
  rgm_term all[1 << RGM_FORMULA_FACTORS];
  int count = 1;
  RGM_TRY(parse_interaction(p, &all[0]));
  RGM_TRY(add_term(p, &all[0]));
  while (accept(p, "*")) {
    if (2 * count + 1 > 1 << RGM_FORMULA_FACTORS) {
      return wrong(p, "at most four factors in a term");
    }
    const int before = count;
    RGM_TRY(parse_interaction(p, &all[count]));
    RGM_TRY(add_term(p, &all[count++]));
    for (int i = 0; i < before; i++) {
      RGM_TRY(join_terms(p, &all[i], &all[before], &all[count]));
      RGM_TRY(add_term(p, &all[count++]));
    }
  }
  return RGM_OK;
}


static rgm_status parse_terms(parser *p) {
  skip(p);
  if (*p->at == '\0') {
    return RGM_OK;
  }
  do {
    skip(p);
    if (*p->at == '1' && !isalnum((unsigned char)p->at[1]) && p->at[1] != '.') {
      p->at++;
    } else {
      RGM_TRY(parse_term(p));
    }
  } while (accept(p, "+"));
  return *p->at == '\0' ? RGM_OK : wrong(p, "+ and another term, or the end");
}


rgm_status rgm_formula_parse(const char *what, const char *text, const rgm_frame *frame,
                             bool expression, rgm_formula *out) {
  parser p = {.what = what, .text = text, .at = text, .frame = frame, .f = out};
  *out = (rgm_formula){0};
  if (!expression) {
    return parse_terms(&p);
  }
  rgm_factor *factor = &out->term[0].factor[0];
  RGM_TRY(parse_or(&p));
  skip(&p);
  if (*p.at != '\0') {
    return wrong(&p, "an operator, or the end");
  }
  out->term_count = out->term[0].factors = out->columns = factor->columns = 1;
  factor->ops = out->op_count;
  return RGM_OK;
}


rgm_status rgm_formula_inputs(const char *what, const char *text, char (*names)[64], int *count,
                              int most) {
  parser p = {.what = what, .text = text, .at = text};
  while (*p.at != '\0') {
    char name[64];
    read_name(&p, name);
    if (name[0] == '\0') {
      const char *quote = *p.at == '"' ? strchr(p.at + 1, '"') : NULL;
      p.at = quote != NULL ? quote + 1 : *p.at != '\0' ? p.at + 1 : p.at;
      // digits of 1e5 are no name
      while (p.at > text && isdigit((unsigned char)p.at[-1]) && isalnum((unsigned char)*p.at)) {
        p.at++;
      }
      continue;
    }
    skip(&p);
    bool known = *p.at == '(' || (*p.at == '=' && p.at[1] != '=');
    for (int i = 0; i < *count; i++) {
      known = known || strcmp(names[i], name) == 0;
    }
    if (!known && *count == most) {
      return rgm_fail(RGM_ECONFIG, "%s: the formulas read more than %d columns", what, most);
    }
    if (!known) {
      memcpy(names[(*count)++], name, sizeof name);
    }
  }
  return RGM_OK;
}
