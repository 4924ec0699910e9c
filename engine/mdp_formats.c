// SPDX-License-Identifier: Apache-2.0
// Tabular problems of other programs, there and back:
//
// .json: Gymnasium's table P[state][action] = [[p, next, reward, done], ...], lists or objects with
// numbers as keys; `done` makes the next state an end.
//
// .petsc: PETSc's binary AIJ matrix, big-endian (madupite's input), of states x actions rows; row s
// * actions + a. It has no rewards.
//
// .tra: PRISM's explicit transitions: "states choices transitions", then lines of s choice next p
// [label].

#include "engine/mdp_private.h"

#include <ctype.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>


// ---- Gymnasium's table -------------------------------------------------------------------------

// A text that is read from `at` on; depth 1 has states, 2 actions, 3 outcomes, 4 numbers.
typedef struct scan {
  const char *path, *at;
  int64_t line;
  uint8_t *done; // of states, grows
  int64_t room;
} scan;


static rgm_status broken(const scan *s, const char *what) {
  return rgm_fail(RGM_EDATA,
                  "%s: row %lld: %s; expected P[state][action] = [[p, next, reward, done]]",
                  s->path, (long long)s->line, what);
}


static char peek(scan *s) {
  while (isspace((unsigned char)*s->at)) {
    s->line += *s->at == '\n';
    s->at++;
  }
  return *s->at;
}


static bool accept(scan *s, char c) {
  if (peek(s) != c) {
    return false;
  }
  s->at++;
  return true;
}


// a number, true or false
static rgm_status number(scan *s, double *out) {
  char *end;
  (void)peek(s);
  if (strncmp(s->at, "true", 4) == 0 || strncmp(s->at, "false", 5) == 0) {
    *out = *s->at == 't';
    s->at += *s->at == 't' ? 4 : 5;
    return RGM_OK;
  }
  *out = strtod(s->at, &end);
  if (end == s->at) {
    return broken(s, "a number is missing");
  }
  s->at = end;
  return RGM_OK;
}


static rgm_status mark_done(scan *s, int64_t state) {
  if (state >= s->room) {
    const int64_t room = 2 * state + 64;
    uint8_t *more = realloc(s->done, (size_t)room);
    if (more == NULL) {
      return rgm_fail(RGM_EMEMORY, "%s: no memory to read it", s->path);
    }
    memset(more + s->room, 0, (size_t)(room - s->room));
    s->done = more;
    s->room = room;
  }
  s->done[state] = 1;
  return RGM_OK;
}


// [p, next, reward, done]
static rgm_status read_outcome(scan *s, int64_t state, int64_t action, rgm_mdp_builder *b) {
  double x[4] = {0};
  if (!accept(s, '[') && !accept(s, '(')) {
    return broken(s, "an outcome is no list");
  }
  for (int i = 0; i < 4; i++) {
    RGM_TRY(number(s, &x[i]));
    if (!accept(s, i < 3 ? ',' : ']') && !(i == 3 && accept(s, ')'))) {
      return broken(s, "an outcome has not four numbers");
    }
  }
  if (!(fabs(x[1]) < 2147483646.0) || floor(x[1]) != x[1]) {
    return broken(s, "a next state is no whole number");
  }
  RGM_TRY(rgm_mdp_add(b, s->line, state, action, (int64_t)x[1], x[0], x[2]));
  return x[3] != 0.0 ? mark_done(s, (int64_t)x[1]) : RGM_OK;
}


// A list, or an object whose keys count from 0; `depth` 1: of states, 2: of actions, 3: of
// outcomes.
static rgm_status read_level(scan *s, int depth, int64_t state, int64_t action,
                             rgm_mdp_builder *b) {
  const bool object = accept(s, '{');
  if (!object && !accept(s, '[')) {
    return broken(s, depth == 1 ? "is no table" : "a list is missing");
  }
  const char close = object ? '}' : ']';
  if (accept(s, close)) {
    return RGM_OK;
  }
  for (int64_t i = 0;; i++) {
    double key = (double)i;
    if (object) {
      const bool quoted = accept(s, '"');
      RGM_TRY(number(s, &key));
      if ((quoted && !accept(s, '"')) || !accept(s, ':') || floor(key) != key || key < 0.0 ||
          key > 2147483646.0) {
        return broken(s, "a key is no number of a state or action");
      }
    }
    if (depth == 3) {
      RGM_TRY(read_outcome(s, state, action, b));
    } else {
      const int64_t k = (int64_t)key;
      RGM_TRY(read_level(s, depth + 1, depth == 1 ? k : state, depth == 2 ? k : action, b));
    }
    if (accept(s, close)) {
      return RGM_OK;
    }
    if (!accept(s, ',')) {
      return broken(s, "a comma is missing");
    }
  }
}


// a whole file of text
static rgm_status read_whole(const char *path, size_t *size, char **out) {
  FILE *file = fopen(path, "rb");
  long bytes = -1;
  if (file != NULL && fseek(file, 0, SEEK_END) == 0) {
    bytes = ftell(file);
    rewind(file);
  }
  *out = bytes >= 0 ? malloc((size_t)bytes + 1) : NULL;
  const bool ok = *out != NULL && fread(*out, 1, (size_t)bytes, file) == (size_t)bytes;
  if (file != NULL) {
    fclose(file);
  }
  if (!ok) {
    free(*out);
    *out = NULL;
    return rgm_fail(RGM_EIO, "%s: cannot be read", path);
  }
  (*out)[bytes] = '\0';
  *size = (size_t)bytes;
  return RGM_OK;
}


rgm_status rgm_mdp_read_json(const rgm_mdp_source *source, rgm_mdp **out) {
  char *text;
  size_t size;
  rgm_mdp_builder *b = NULL;
  RGM_TRY(read_whole(source->path, &size, &text));
  scan s = {.path = source->path, .at = text, .line = 1};
  rgm_status status = rgm_mdp_builder_new(source->path, &b);
  status = status == RGM_OK ? read_level(&s, 1, 0, 0, b) : status;
  if (status == RGM_OK && peek(&s) != '\0') {
    status = broken(&s, "text follows the table");
  }
  free(text);
  if (status != RGM_OK) {
    rgm_mdp_builder_free(b);
    free(s.done);
    return status;
  }
  status = rgm_mdp_finish(b, 0, 0, &source->checks, out);
  for (int64_t i = 0; status == RGM_OK && i < (*out)->states && i < s.room; i++) {
    const double end = (double)i;
    status = s.done[i] != 0 ? rgm_mdp_end_states(*out, &end, 1) : RGM_OK;
  }
  free(s.done);
  return status;
}


void rgm_mdp_print_json(const rgm_mdp *m, FILE *out) {
  fputs("[", out);
  for (int64_t s = 0; s < m->states; s++) {
    fprintf(out, "%s\n {", s > 0 ? "," : "");
    bool first = true;
    for (int64_t n = m->first[s]; n < m->first[s + 1]; n++) {
      if (m->allowed[n] == 0) {
        continue;
      }
      fprintf(out, "%s\"%d\": [", first ? "" : ", ", m->action[n]);
      first = false;
      for (int64_t i = m->start[n]; i < m->start[n + 1]; i++) {
        fprintf(out, "%s[%.17g, %d, %.17g, %s]", i > m->start[n] ? ", " : "", m->p[i], m->next[i],
                m->gain[i], m->first[m->next[i] + 1] == m->first[m->next[i]] ? "true" : "false");
      }
      fputs("]", out);
    }
    fputs("}", out);
  }
  fputs("\n]\n", out);
}


// ---- PETSc's matrix ----------------------------------------------------------------------------

enum { PETSC_MATRIX = 1211216 };


static int32_t big32(const unsigned char *x) {
  return (int32_t)((uint32_t)x[0] << 24 | (uint32_t)x[1] << 16 | (uint32_t)x[2] << 8 | x[3]);
}


static double big64(const unsigned char *x) {
  return rgm_from_bits64((uint64_t)(uint32_t)big32(x) << 32 | (uint32_t)big32(x + 4));
}


static rgm_status read_matrix(const char *path, const unsigned char *x, size_t size,
                              rgm_mdp_builder *b) {
  if (size < 16 || big32(x) != PETSC_MATRIX) {
    return rgm_fail(RGM_EDATA, "%s: begins with no PETSc matrix (class %d)", path, PETSC_MATRIX);
  }
  const int64_t rows = big32(x + 4), columns = big32(x + 8), entries = big32(x + 12);
  if (rows <= 0 || columns <= 0 || entries < 0 || rows % columns != 0) {
    return rgm_fail(RGM_EDATA,
                    "%s: %lld rows and %lld columns; rows are states x actions, columns states",
                    path, (long long)rows, (long long)columns);
  }
  if (size != 16 + 4 * (size_t)rows + 12 * (size_t)entries) {
    return rgm_fail(RGM_EDATA, "%s: %zu bytes, where %lld rows and %lld non-zeros have %zu", path,
                    size, (long long)rows, (long long)entries,
                    16 + 4 * (size_t)rows + 12 * (size_t)entries);
  }
  const int64_t actions = rows / columns;
  const unsigned char *count = x + 16, *next = count + 4 * rows, *p = next + 4 * entries;
  int64_t at = 0;
  for (int64_t r = 0; r < rows; r++) {
    const int64_t n = big32(count + 4 * r);
    if (n < 0 || n > entries - at) {
      return rgm_fail(RGM_EDATA, "%s: row %lld has %lld non-zeros", path, (long long)r,
                      (long long)n);
    }
    for (int64_t k = 0; k < n; k++, at++) {
      RGM_TRY(rgm_mdp_add(b, r, r / actions, r % actions, big32(next + 4 * at), big64(p + 8 * at),
                          0.0));
    }
  }
  return RGM_OK;
}


rgm_status rgm_mdp_read_petsc(const rgm_mdp_source *source, rgm_mdp **out) {
  char *text;
  size_t size;
  rgm_mdp_builder *b = NULL;
  RGM_TRY(read_whole(source->path, &size, &text));
  rgm_status status = rgm_mdp_builder_new(source->path, &b);
  status =
      status == RGM_OK ? read_matrix(source->path, (const unsigned char *)text, size, b) : status;
  const int64_t states = status == RGM_OK ? big32((const unsigned char *)text + 8) : 0;
  free(text);
  if (status != RGM_OK) {
    rgm_mdp_builder_free(b);
    return status;
  }
  return rgm_mdp_finish(b, states, 0, &source->checks, out);
}


static void put32(FILE *out, int64_t x) {
  const unsigned char bytes[4] = {(unsigned char)(x >> 24), (unsigned char)(x >> 16),
                                  (unsigned char)(x >> 8), (unsigned char)x};
  fwrite(bytes, 1, sizeof bytes, out);
}


void rgm_mdp_print_petsc(const rgm_mdp *m, FILE *out) {
  int64_t entries = 0;
  for (int64_t n = 0; n < m->rows; n++) {
    entries += m->allowed[n] != 0 ? m->start[n + 1] - m->start[n] : 0;
  }
  put32(out, PETSC_MATRIX);
  put32(out, m->states * m->actions);
  put32(out, m->states);
  put32(out, entries);
  for (int part = 0; part < 3; part++) {
    for (int64_t s = 0; s < m->states; s++) {
      for (int64_t a = 0; a < m->actions; a++) {
        const int64_t row = rgm_mdp_row(m, s, a);
        const bool there = row >= 0 && m->allowed[row] != 0;
        if (part == 0) {
          put32(out, there ? m->start[row + 1] - m->start[row] : 0);
        }
        for (int64_t i = there ? m->start[row] : 0; part > 0 && there && i < m->start[row + 1];
             i++) {
          if (part == 1) {
            put32(out, m->next[i]);
          } else {
            const uint64_t bits = rgm_bits64(m->p[i]);
            put32(out, (int64_t)(bits >> 32));
            put32(out, (int64_t)(bits & 0xFFFFFFFFu));
          }
        }
      }
    }
  }
}


// ---- PRISM's transitions -----------------------------------------------------------------------

rgm_status rgm_mdp_read_prism(const rgm_mdp_source *source, rgm_mdp **out) {
  rgm_csv *csv;
  rgm_mdp_builder *b = NULL;
  char *line;
  long long states = 0, choices = 0, transitions = 0, seen = 0;
  RGM_TRY(rgm_text_open(source->path, &csv));
  rgm_status status = rgm_text_line(csv, &line);
  if (status == RGM_OK &&
      (line == NULL || sscanf(line, "%lld %lld %lld", &states, &choices, &transitions) != 3 ||
       states <= 0 || states > INT32_MAX)) {
    status = rgm_fail(RGM_EDATA, "%s: row 1: states, choices and transitions are expected",
                      source->path);
  }
  status = status == RGM_OK ? rgm_mdp_builder_new(source->path, &b) : status;
  while (status == RGM_OK) {
    long long s, a, next;
    double p;
    status = rgm_text_line(csv, &line);
    if (status != RGM_OK || line == NULL) {
      break;
    }
    if (line[strspn(line, " \t")] == '\0') {
      continue;
    }
    if (sscanf(line, "%lld %lld %lld %lf", &s, &a, &next, &p) != 4) {
      status = rgm_fail(RGM_EDATA,
                        "%s: row %lld: state, choice, next state and probability are "
                        "expected",
                        source->path, (long long)rgm_csv_row(csv));
    } else {
      status = rgm_mdp_add(b, rgm_csv_row(csv), s, a, next, p, 0.0);
      seen++;
    }
  }
  if (status == RGM_OK && seen != transitions) {
    status = rgm_fail(RGM_EDATA, "%s: %lld transitions where its first row says %lld", source->path,
                      seen, transitions);
  }
  rgm_csv_close(csv);
  if (status != RGM_OK) {
    rgm_mdp_builder_free(b);
    return status;
  }
  return rgm_mdp_finish(b, states, 0, &source->checks, out);
}


void rgm_mdp_print_prism(const rgm_mdp *m, FILE *out) {
  int64_t choices = 0, entries = 0;
  for (int64_t s = 0; s < m->states; s++) {
    const int64_t before = choices;
    for (int64_t n = m->first[s]; n < m->first[s + 1]; n++) {
      choices += m->allowed[n] != 0;
      entries += m->allowed[n] != 0 ? m->start[n + 1] - m->start[n] : 0;
    }
    // PRISM has no state without a choice: an end stays where it is
    entries += choices == before;
    choices += choices == before;
  }
  fprintf(out, "%lld %lld %lld\n", (long long)m->states, (long long)choices, (long long)entries);
  for (int64_t s = 0; s < m->states; s++) {
    int choice = 0;
    for (int64_t n = m->first[s]; n < m->first[s + 1]; n++) {
      for (int64_t i = m->start[n]; i < m->start[n + 1] && m->allowed[n] != 0; i++) {
        fprintf(out, "%lld %d %d %.17g", (long long)s, choice, m->next[i], m->p[i]);
        fprintf(out, m->action_name != NULL ? " %s\n" : "\n",
                m->action_name != NULL ? m->action_name[m->action[n]] : "");
      }
      choice += m->allowed[n] != 0;
    }
    if (choice == 0) {
      fprintf(out, "%lld 0 %lld 1\n", (long long)s, (long long)s);
    }
  }
}
