// SPDX-License-Identifier: Apache-2.0
// What config.c (text to flat keys) and config_fields.c (flat keys to typed values) share.

#ifndef RGM_CONFIG_PRIVATE_H
#define RGM_CONFIG_PRIVATE_H

#include "engine/engine.h"

#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>

// bytes of a full key, and of a value as messages quote it, both with the final NUL
enum { CONFIG_KEY_SIZE = 256, CONFIG_QUOTE_SIZE = 64, CONFIG_NUMBER_SIZE = 40 };

// A file, or one override: then `name` is "--set a.b=3" and `text` is NULL.
typedef struct config_source {
  char *name;
  char *text; // valid UTF-8 without a byte order mark
  size_t size;
  dev_t device;
  ino_t inode; // 0 where there is no file
} config_source;

// Where something stands. Line and column (in characters) count from 1, in files only.
typedef struct config_place {
  int source;
  int line;
  int column;
} config_place;

typedef enum config_kind { CONFIG_SCALAR, CONFIG_LIST, CONFIG_MAP } config_kind;

// A key as given. Of all entries that are not dropped, at most one has a given key; dropped ones
// stay, so that texts handed out remain valid. Maps have entries of their own, beside their keys'.
typedef struct config_entry {
  char *key; // "env.noise_sd"
  config_kind kind;
  bool dropped;
  config_place key_at;
  config_place value_at;
  char *where;  // key_at as text
  char *text;   // a scalar's text, or a list in flow form
  char **items; // of a list
  int count;
} config_entry;

// A key that a table claimed, with its value as YAML text. Tables must outlive the config.
typedef struct config_slot {
  char *key;
  int section;
  const rgm_field *field;
  char *text;
} config_slot;

// Whether digests leave a key out.
static inline bool rgm_config_silent(const config_slot *slot) {
  const unsigned flags = slot->field->flags;
  return (flags & RGM_PROVENANCE) != 0 ||
         ((flags & RGM_ADDED) != 0 && strcmp(slot->text, slot->field->fallback) == 0);
}

struct rgm_config {
  config_source *sources;
  int source_count;
  config_entry *entries;
  int entry_count;
  config_slot *slots; // in the order of their tables
  int slot_count;
  char **sections; // in the order read
  int section_count;
};

// The slot of a key that a table claimed, NULL where none did.
static inline const config_slot *rgm_config_slot(const rgm_config *config, const char *key) {
  for (int i = 0; i < config->slot_count; i++) {
    if (strcmp(config->slots[i].key, key) == 0) {
      return &config->slots[i];
    }
  }
  return NULL;
}

// Fails with "place: key: text" and, for files, the source line with a caret. `key` may be NULL.
rgm_status rgm_config_fail(const rgm_config *config, rgm_status status, config_place at,
                           const char *key, const char *format, ...) RGM_PRINTF(5, 6);
rgm_status rgm_config_no_memory(void);

// The entry of a key, NULL where it is not set.
const config_entry *rgm_config_find(const rgm_config *config, const char *key);

// Frees what a config holds, but not the struct itself.
void rgm_config_clear(rgm_config *config);

// Writes a number in the fewest digits (15 to 17) that read back to it.
void rgm_config_write_number(double value, char out[CONFIG_NUMBER_SIZE]);

// Writes a scalar as YAML, in double quotes where it could be read as anything but this text.
void rgm_config_write_scalar(FILE *out, const char *text);

// Closes a stream of open_memstream; false, with *text freed and NULL, where it ran out of memory.
bool rgm_config_close(FILE *out, char **text);


// ---- text ---------------------------------------------------------------------------------------

// Makes room for one more element: arrays grow when `count` is a power of two. NULL: no memory, and
// the old array is still valid.
static inline void *grow(void *array, int count, size_t size) {
  if ((count & (count - 1)) != 0) {
    return array;
  }
  return realloc(array, (count == 0 ? 1 : 2 * (size_t)count) * size);
}


// Copies text; the caller frees it. NULL without memory.
static inline char *copy_text(const char *text, size_t size) {
  char *copy = malloc(size + 1);
  if (copy != NULL) {
    memcpy(copy, text, size);
    copy[size] = 0;
  }
  return copy;
}


// printf into memory that the caller frees; NULL without memory.
RGM_PRINTF(1, 2)
static inline char *format_text(const char *format, ...) {
  // measure
  va_list args;
  va_start(args, format);
  int size = vsnprintf(NULL, 0, format, args);
  va_end(args);
  char *text = size < 0 ? NULL : malloc((size_t)size + 1);

  // write
  if (text != NULL) {
    va_start(args, format);
    vsnprintf(text, (size_t)size + 1, format, args);
    va_end(args);
  }
  return text;
}


// printf onto the end of a fixed buffer, cut where it is full.
RGM_PRINTF(3, 4)
static inline void append(char *text, size_t size, const char *format, ...) {
  size_t used = strlen(text);
  va_list args;
  va_start(args, format);
  vsnprintf(text + used, size - used, format, args);
  va_end(args);
}


// Whether `key` lies below `map`, as "env.noise_sd" does below "env".
static inline bool is_below(const char *key, const char *map) {
  size_t size = strlen(map);
  return strncmp(key, map, size) == 0 && key[size] == '.';
}


// Whether a plain (unquoted) scalar is one of YAML's spellings of "no value".
static inline bool is_null(const char *text) {
  return text[0] == 0 || strcmp(text, "~") == 0 || strcmp(text, "null") == 0 ||
         strcmp(text, "Null") == 0 || strcmp(text, "NULL") == 0;
}


// Decodes one UTF-8 character and returns its length in bytes, 0 where it is not valid.
static inline size_t decode(const char *text, size_t size, uint32_t *code) {
  static const uint32_t smallest[] = {0, 0, 0x80, 0x800, 0x10000};

  // the first byte gives the length
  unsigned char first = (unsigned char)text[0];
  size_t length = first < 0x80                    ? 1
                  : first >= 0xc2 && first < 0xe0 ? 2
                  : first >= 0xe0 && first < 0xf0 ? 3
                  : first >= 0xf0 && first < 0xf5 ? 4
                                                  : 0;
  if (length == 0 || length > size) {
    return 0;
  }

  // six bits from each further byte
  *code = length == 1 ? first : first & (0xffU >> (length + 1));
  for (size_t i = 1; i < length; i++) {
    unsigned char next = (unsigned char)text[i];
    if ((next & 0xc0) != 0x80) {
      return 0;
    }
    *code = *code << 6 | (next & 0x3f);
  }

  // no overlong forms, surrogates or numbers beyond Unicode
  bool valid = *code >= smallest[length] && *code <= 0x10ffff && (*code < 0xd800 || *code > 0xdfff);
  return valid ? length : 0;
}


// Whether YAML allows a character unescaped.
static inline bool is_printable(uint32_t code) {
  return code == '\t' || code == '\n' || code == '\r' || (code >= 0x20 && code <= 0x7e) ||
         code == 0x85 || (code >= 0xa0 && code <= 0xfffd) || code >= 0x10000;
}


// Whether a character ends a line, as libyaml counts lines.
static inline bool is_break(uint32_t code) {
  return code == '\n' || code == '\r' || code == 0x85 || code == 0x2028 || code == 0x2029;
}


// Copies a value for a message: cut to a fixed size, without control characters.
static inline void quote(const char *text, char out[CONFIG_QUOTE_SIZE]) {
  size_t size = strlen(text), used = 0, i = 0;
  while (i < size && used + 8 < CONFIG_QUOTE_SIZE) {
    uint32_t code = 0;
    size_t length = decode(text + i, size - i, &code);
    if (length == 0 || !is_printable(code) || is_break(code) || code == '\t') {
      out[used++] = '?';
      i += length == 0 ? 1 : length;
      continue;
    }
    memcpy(out + used, text + i, length);
    used += length;
    i += length;
  }
  memcpy(out + used, i < size ? "..." : "", i < size ? 4 : 1);
}

#endif
