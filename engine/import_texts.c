// SPDX-License-Identifier: Apache-2.0
// Texts as numbers: ids of patients, names of variables. A hash table with open addressing, at most
// half full; the texts themselves lie one after another.

#include "engine/import.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

// FNV-1a
static uint64_t hash(const char *text, size_t size) {
  uint64_t h = 14695981039346656037u;
  for (size_t i = 0; i < size; i++) {
    h = (h ^ (unsigned char)text[i]) * 1099511628211u;
  }
  return h ^ h >> 32;
}


// where a text is, or the free slot where it would be
static int64_t probe(const import_texts *t, const char *text, size_t size) {
  int64_t i = (int64_t)(hash(text, size) & (uint64_t)(t->slot_room - 1));
  for (; t->slot[i] != 0; i = (i + 1) & (t->slot_room - 1)) {
    const int64_t n = t->slot[i] - 1;
    if (t->length[n] == size && memcmp(t->text + t->at[n], text, size) == 0) {
      break;
    }
  }
  return i;
}


int64_t rgm_import_text_find(const import_texts *t, const char *text, size_t size) {
  return t->slot_room == 0 ? -1 : t->slot[probe(t, text, size)] - 1;
}


// twice as many slots, all texts put into them again
static rgm_status grow_slots(import_texts *t) {
  const int64_t room = t->slot_room == 0 ? 256 : 2 * t->slot_room;
  int64_t *slot = calloc((size_t)room, sizeof *slot);
  if (slot == NULL) {
    return rgm_fail(RGM_EMEMORY, "no memory for %lld texts", (long long)room);
  }
  free(t->slot);
  t->slot = slot;
  t->slot_room = room;
  for (int64_t n = 0; n < t->count; n++) {
    t->slot[probe(t, t->text + t->at[n], t->length[n])] = n + 1;
  }
  return RGM_OK;
}


static rgm_status grow_texts(import_texts *t, size_t size) {
  if (t->count == t->room) {
    const int64_t room = t->room == 0 ? 256 : 2 * t->room;
    size_t *at = realloc(t->at, (size_t)room * sizeof *at);
    t->at = at != NULL ? at : t->at;
    size_t *length = realloc(t->length, (size_t)room * sizeof *length);
    t->length = length != NULL ? length : t->length;
    if (at == NULL || length == NULL) {
      return rgm_fail(RGM_EMEMORY, "no memory for %lld texts", (long long)room);
    }
    t->room = room;
  }
  if (t->size + size + 1 > t->text_room) {
    const size_t room = 2 * t->text_room + size + 4096;
    char *text = realloc(t->text, room);
    if (text == NULL) {
      return rgm_fail(RGM_EMEMORY, "no memory for %zu bytes of texts", room);
    }
    t->text = text;
    t->text_room = room;
  }
  return RGM_OK;
}


rgm_status rgm_import_text_add(import_texts *t, const char *text, size_t size, int64_t *number) {
  *number = rgm_import_text_find(t, text, size);
  if (*number >= 0) {
    return RGM_OK;
  }
  if (2 * (t->count + 1) > t->slot_room) {
    RGM_TRY(grow_slots(t));
  }
  RGM_TRY(grow_texts(t, size));
  memcpy(t->text + t->size, text, size);
  t->text[t->size + size] = '\0';
  t->at[t->count] = t->size;
  t->length[t->count] = size;
  t->size += size + 1;
  t->slot[probe(t, text, size)] = t->count + 1;
  *number = t->count++;
  return RGM_OK;
}


void rgm_import_texts_free(import_texts *t) {
  free(t->at);
  free(t->length);
  free(t->slot);
  free(t->text);
  *t = (import_texts){0};
}


int rgm_import_compare_ids(const char *a, const char *b) {
  char *a_end, *b_end;
  const double x = strtod(a, &a_end), y = strtod(b, &b_end);
  const bool a_number = *a != '\0' && *a_end == '\0' && !isnan(x);
  const bool b_number = *b != '\0' && *b_end == '\0' && !isnan(y);
  if (a_number && b_number && x != y) {
    return x < y ? -1 : 1;
  }
  if (a_number != b_number) {
    return a_number ? -1 : 1;
  }
  return strcmp(a, b);
}
