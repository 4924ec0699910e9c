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


// ---- names -------------------------------------------------------------------------------------

// a text without blanks around it, in lower case; its length, or -1 where it is too long
static int lower(const char *text, size_t size, char out[IMPORT_NAME_SIZE]) {
  for (; size > 0 && *text == ' '; text++) {
    size--;
  }
  for (; size > 0 && text[size - 1] == ' ';) {
    size--;
  }
  if (size >= IMPORT_NAME_SIZE) {
    return -1;
  }
  for (size_t i = 0; i < size; i++) {
    out[i] = text[i] >= 'A' && text[i] <= 'Z' ? (char)(text[i] - 'A' + 'a') : text[i];
  }
  out[size] = '\0';
  return (int)size;
}


// enters the names "a | b | c" of a target, which the key `key` lists
rgm_status rgm_import_names_add(import_names *n, const char *list, int target, const char *key) {
  while (*list != '\0') {
    char name[IMPORT_NAME_SIZE];
    int64_t number;
    const size_t size = strcspn(list, "|");
    const int64_t before = n->texts.count;
    const int length = lower(list, size, name);
    if (length > 0) {
      RGM_TRY(rgm_import_text_add(&n->texts, name, (size_t)length, &number));
      if (n->texts.count == before || number == IMPORT_NAMES) {
        return rgm_fail(RGM_ECONFIG, "%s: %s", key,
                        number == IMPORT_NAMES ? "too many names in all variables"
                                               : "one of its names stands for something else too");
      }
      n->target[number] = target;
    }
    list += size + (list[size] == '|');
  }
  return RGM_OK;
}


int rgm_import_names_find(const import_names *n, const char *text, size_t size) {
  char name[IMPORT_NAME_SIZE];
  const int length = lower(text, size, name);
  const int64_t number = length < 0 ? -1 : rgm_import_text_find(&n->texts, name, (size_t)length);
  return number < 0 ? -1 : n->target[number];
}
