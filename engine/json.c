// SPDX-License-Identifier: Apache-2.0
// A small JSON writer: nesting, escapes, shortest numbers that read back to the same double.

#include "engine/engine.h"

#include <math.h>
#include <stdlib.h>


// comma, line break and key before a value
static void lead(rgm_json *j, const char *key) {
  if (j->depth > 0) {
    fputs(j->first[j->depth] ? "\n" : ",\n", j->out);
    j->first[j->depth] = false;
    for (int i = 0; i < j->depth; i++) {
      fputs("  ", j->out);
    }
  }
  if (key != NULL) {
    fprintf(j->out, "\"%s\": ", key);
  }
}


void rgm_json_open(rgm_json *j, const char *key, char bracket) {
  if (j->out == NULL) {
    return;
  }
  lead(j, key);
  fputc(bracket, j->out);
  j->depth++;
  RGM_ASSERT(j->depth < (int)(sizeof j->first / sizeof j->first[0]));
  j->first[j->depth] = true;
}


void rgm_json_close(rgm_json *j, char bracket) {
  if (j->out == NULL) {
    return;
  }
  const bool empty = j->first[j->depth];
  j->depth--;
  if (!empty) {
    fputc('\n', j->out);
    for (int i = 0; i < j->depth; i++) {
      fputs("  ", j->out);
    }
  }
  fputc(bracket, j->out);
  if (j->depth == 0) {
    fputc('\n', j->out);
  }
}


void rgm_json_number(rgm_json *j, const char *key, double value) {
  if (j->out == NULL) {
    return;
  }
  lead(j, key);
  if (!isfinite(value)) {
    fputs("null", j->out);
    return;
  }
  char text[40];
  for (int digits = 6; digits <= 17; digits++) {
    snprintf(text, sizeof text, "%.*g", digits, value);
    if (strtod(text, NULL) == value) {
      break;
    }
  }
  fputs(text, j->out);
}


void rgm_json_string(rgm_json *j, const char *key, const char *value) {
  if (j->out == NULL) {
    return;
  }
  lead(j, key);
  fputc('"', j->out);
  for (const char *c = value; *c != '\0'; c++) {
    if (*c == '"' || *c == '\\') {
      fprintf(j->out, "\\%c", *c);
    } else if ((unsigned char)*c < 0x20) {
      fprintf(j->out, "\\u%04x", (unsigned)*c);
    } else {
      fputc(*c, j->out);
    }
  }
  fputc('"', j->out);
}
