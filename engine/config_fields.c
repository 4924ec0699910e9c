// SPDX-License-Identifier: Apache-2.0
// Configuration, second half: flat keys to the typed fields of tables, the resolved config as YAML,
// the table that `regimen explain` prints, and the nearest name to a misspelt one.

#include "engine/config_private.h"

#include <errno.h>
#include <float.h>
#include <locale.h>
#include <math.h>

enum { RANGE_SIZE = 96, EXPECTED_SIZE = 768, COLUMNS = 100 };


// ---- numbers, whatever the locale --------------------------------------------------------------

// Switches this thread to the "C" locale; `leave_c` switches back.
static locale_t enter_c(locale_t *old) {
  locale_t c = newlocale(LC_ALL_MASK, "C", (locale_t)0);
  *old = uselocale(c);
  return c;
}


static void leave_c(locale_t c, locale_t old) {
  uselocale(old);
  if (c != (locale_t)0) {
    freelocale(c);
  }
}


// The shortest of 15, 16 and 17 digits that reads back to the same number.
void rgm_config_write_number(double value, char out[CONFIG_NUMBER_SIZE]) {
  locale_t old, c = enter_c(&old);
  for (int digits = 15; digits <= 17; digits++) {
    snprintf(out, CONFIG_NUMBER_SIZE, "%.*g", digits, value);
    if (strtod(out, NULL) == value) {
      break;
    }
  }
  leave_c(c, old);
}


static const char *skip_digits(const char *text) {
  while (*text >= '0' && *text <= '9') {
    text++;
  }
  return text;
}


// Reads 12, -0.5, .5, 3e-4, inf and -inf. False for anything else, and for numbers that a double
// cannot hold.
static bool read_number(const char *text, double *out) {
  const char *start = text + (*text == '-' || *text == '+');
  if (strcmp(start, "inf") == 0 || strcmp(start, ".inf") == 0) {
    *out = *text == '-' ? -INFINITY : INFINITY;
    return true;
  }

  // digits with at most one point among them, then an exponent
  const char *point = skip_digits(start);
  const char *end = *point == '.' ? skip_digits(point + 1) : point;
  bool valid = end - start > (*point == '.' ? 1 : 0);
  if (*end == 'e' || *end == 'E') {
    const char *exponent = end + 1 + (end[1] == '-' || end[1] == '+');
    end = skip_digits(exponent);
    valid = valid && end > exponent;
  }
  if (!valid || *end != 0) {
    return false;
  }

  // no number that becomes infinite or zero; adding 0 turns -0 into 0
  locale_t old, c = enter_c(&old);
  errno = 0;
  *out = strtod(text, NULL) + 0.0;
  bool lost = errno == ERANGE && (*out == 0 || isinf(*out));
  leave_c(c, old);
  return !lost;
}


// Reads digits with an optional sign, or a float that is a whole number and exact.
static bool read_whole(const char *text, int64_t *out) {
  const char *start = text + (*text == '-' || *text == '+'), *end = skip_digits(start);
  if (end > start && *end == 0) {
    errno = 0;
    long long value = strtoll(text, NULL, 10);
    *out = value;
    return errno == 0;
  }
  double value = 0;
  if (!read_number(text, &value) || fabs(value) > 0x1p53 || floor(value) != value) {
    return false;
  }
  *out = (int64_t)value;
  return true;
}


// ---- what a field expects, in words ------------------------------------------------------------

// " in [0, 1]", " >= 0", " <= 1", or nothing.
static void write_range(const rgm_field *field, char out[RANGE_SIZE]) {
  char low[CONFIG_NUMBER_SIZE], high[CONFIG_NUMBER_SIZE];
  rgm_config_write_number(field->min, low);
  rgm_config_write_number(field->max, high);
  double limit = field->type == RGM_INT ? 0x1p63 : DBL_MAX;
  bool below = field->min > -limit, above = field->max < limit;
  if (below && above) {
    snprintf(out, RANGE_SIZE, " in [%s, %s]", low, high);
  } else if (below || above) {
    snprintf(out, RANGE_SIZE, " %s %s", below ? ">=" : "<=", below ? low : high);
  } else {
    out[0] = 0;
  }
}


static void write_expected(const rgm_field *field, char out[EXPECTED_SIZE]) {
  char range[RANGE_SIZE];
  write_range(field, range);
  out[0] = 0;
  switch (field->type) {
  case RGM_BOOL:
    append(out, EXPECTED_SIZE, "true or false");
    return;
  case RGM_CHOICE:
    for (int i = 0; field->choices[i] != NULL; i++) {
      append(out, EXPECTED_SIZE, "%s%s", i == 0 ? "one of " : ", ", field->choices[i]);
    }
    return;
  case RGM_STRING:
    append(out, EXPECTED_SIZE, "text of at most %d bytes", RGM_STRING_SIZE - 1);
    return;
  case RGM_INT:
    append(out, EXPECTED_SIZE, "a whole number%s", range);
    break;
  case RGM_FLOAT:
    append(out, EXPECTED_SIZE, "a number%s", range);
    break;
  case RGM_LIST:
    append(out, EXPECTED_SIZE, "a list of at most %d numbers%s", RGM_LIST_SIZE, range);
    break;
  }
  if (field->unit != NULL && field->unit[0] != 0) {
    append(out, EXPECTED_SIZE, " (unit %s)", field->unit);
  }
}


// ---- one value ---------------------------------------------------------------------------------

// Fails because of the value of a key. `text` is the wrong part of it, NULL for the whole.
static rgm_status mismatch(const rgm_config *config, const config_entry *entry,
                           const rgm_field *field, const char *text, const char *hint) {
  char expected[EXPECTED_SIZE], quoted[CONFIG_QUOTE_SIZE];
  const char *got = text != NULL ? text : entry->text;
  write_expected(field, expected);
  quote(got == NULL ? "" : got, quoted);
  if (entry->kind == CONFIG_MAP) {
    return rgm_config_fail(config, RGM_ECONFIG, entry->value_at, entry->key,
                           "expected %s, got a map of keys", expected);
  }
  bool list = text == NULL && entry->kind == CONFIG_LIST;
  return rgm_config_fail(config, RGM_ECONFIG, entry->value_at, entry->key,
                         "expected %s, got %s%s%s%s", expected, list ? "a list " : "\"", quoted,
                         list ? "" : "\"", hint);
}


static char lower(char c) {
  return (char)(c >= 'A' && c <= 'Z' ? c + 'a' - 'A' : c);
}


// Whether a text is one of some lower-case words, case aside.
static bool is_word(const char *text, const char *const *words) {
  for (int i = 0; words[i] != NULL; i++) {
    const char *word = words[i];
    int k = 0;
    while (word[k] != 0 && lower(text[k]) == word[k]) {
      k++;
    }
    if (word[k] == 0 && text[k] == 0) {
      return true;
    }
  }
  return false;
}


static rgm_status read_bool(const rgm_config *config, const config_entry *entry,
                            const rgm_field *field, void *value, FILE *out) {
  static const char *const yes[] = {"yes", "y", "on", "true", "1", NULL};
  static const char *const no[] = {"no", "n", "off", "false", "0", NULL};
  bool truth = strcmp(entry->text, "true") == 0;
  if (truth || strcmp(entry->text, "false") == 0) {
    memcpy(value, &truth, sizeof truth);
    fputs(entry->text, out);
    return RGM_OK;
  }

  // the other spellings of YAML 1.1 are not taken, since its readers disagree about them
  const char *hint = is_word(entry->text, yes)  ? "; a boolean is true or false here, write true"
                     : is_word(entry->text, no) ? "; a boolean is true or false here, write false"
                                                : "";
  return mismatch(config, entry, field, NULL, hint);
}


static rgm_status read_int(const rgm_config *config, const config_entry *entry,
                           const rgm_field *field, void *value, FILE *out) {
  // long double holds every int64_t
  int64_t number = 0;
  if (!read_whole(entry->text, &number) || (long double)number < (long double)field->min ||
      (long double)number > (long double)field->max) {
    return mismatch(config, entry, field, NULL, "");
  }
  memcpy(value, &number, sizeof number);
  fprintf(out, "%lld", (long long)number);
  return RGM_OK;
}


// Reads one number of a float or a list field.
static bool read_float_text(const char *text, const rgm_field *field, double *number, FILE *out) {
  char written[CONFIG_NUMBER_SIZE];
  if (!read_number(text, number) || !(*number >= field->min && *number <= field->max)) {
    return false;
  }
  rgm_config_write_number(*number, written);
  fputs(written, out);
  return true;
}


static rgm_status read_float(const rgm_config *config, const config_entry *entry,
                             const rgm_field *field, void *value, FILE *out) {
  double number = 0;
  if (!read_float_text(entry->text, field, &number, out)) {
    return mismatch(config, entry, field, NULL, "");
  }
  memcpy(value, &number, sizeof number);
  return RGM_OK;
}


static rgm_status read_choice(const rgm_config *config, const config_entry *entry,
                              const rgm_field *field, void *value, FILE *out) {
  for (int i = 0; field->choices[i] != NULL; i++) {
    if (strcmp(entry->text, field->choices[i]) == 0) {
      memcpy(value, &i, sizeof i);
      rgm_config_write_scalar(out, entry->text);
      return RGM_OK;
    }
  }

  // the name that may be meant
  char hint[CONFIG_QUOTE_SIZE + 32] = "";
  const char *nearest = rgm_nearest(entry->text, field->choices);
  if (nearest != NULL) {
    snprintf(hint, sizeof hint, "; did you mean %.*s?", CONFIG_QUOTE_SIZE, nearest);
  }
  return mismatch(config, entry, field, NULL, hint);
}


static rgm_status read_string(const rgm_config *config, const config_entry *entry,
                              const rgm_field *field, void *value, FILE *out) {
  char hint[48];
  size_t size = strlen(entry->text);
  if (size >= RGM_STRING_SIZE) {
    snprintf(hint, sizeof hint, " (%zu bytes)", size);
    return mismatch(config, entry, field, NULL, hint);
  }
  memset(value, 0, RGM_STRING_SIZE);
  memcpy(value, entry->text, size);
  rgm_config_write_scalar(out, entry->text);
  return RGM_OK;
}


static rgm_status read_list(const rgm_config *config, const config_entry *entry,
                            const rgm_field *field, void *value, FILE *out) {
  // a bare number is a list of one
  bool bare = entry->kind == CONFIG_SCALAR;
  rgm_list list = {.count = bare ? 1 : entry->count};
  char hint[32] = "";
  if (list.count > RGM_LIST_SIZE) {
    snprintf(hint, sizeof hint, " (%d values)", list.count);
    return mismatch(config, entry, field, NULL, hint);
  }

  // each element
  fputs("[", out);
  for (int i = 0; i < list.count; i++) {
    const char *text = bare ? entry->text : entry->items[i];
    fputs(i > 0 ? ", " : "", out);
    if (!read_float_text(text, field, &list.value[i], out)) {
      snprintf(hint, sizeof hint, " as element %d", i + 1);
      return mismatch(config, entry, field, text, bare ? "" : hint);
    }
  }
  fputs("]", out);
  memcpy(value, &list, sizeof list);
  return RGM_OK;
}


// Reads an entry into its field's place and writes its text, as emit will show it, to `out`.
static rgm_status read_entry(const rgm_config *config, const config_entry *entry,
                             const rgm_field *field, void *value, FILE *out) {
  if (entry->kind == CONFIG_MAP || (entry->kind == CONFIG_LIST && field->type != RGM_LIST)) {
    return mismatch(config, entry, field, NULL, "");
  }
  switch (field->type) {
  case RGM_BOOL:
    return read_bool(config, entry, field, value, out);
  case RGM_INT:
    return read_int(config, entry, field, value, out);
  case RGM_FLOAT:
    return read_float(config, entry, field, value, out);
  case RGM_CHOICE:
    return read_choice(config, entry, field, value, out);
  case RGM_STRING:
    return read_string(config, entry, field, value, out);
  case RGM_LIST:
    return read_list(config, entry, field, value, out);
  }
  return rgm_fail(RGM_EINTERNAL, "%s: its field has no type", entry->key);
}


// Reads a field's default, by the rules of a value on the command line. A bad one is our bug.
static rgm_status read_default(const char *key, const rgm_field *field, void *value, FILE *out) {
  rgm_config scratch = {0};
  const char *text = field->fallback;
  if (text[0] == 0) {
    text = field->type == RGM_STRING ? "\"\"" : field->type == RGM_LIST ? "[]" : "";
  }
  rgm_status status = rgm_config_set(&scratch, key, text);
  if (status == RGM_OK) {
    status = read_entry(&scratch, rgm_config_find(&scratch, key), field, value, out);
  }
  rgm_config_clear(&scratch);
  if (status != RGM_OK && status != RGM_EMEMORY) {
    return rgm_fail(RGM_EINTERNAL, "bad default: %s", rgm_last_error());
  }
  return status;
}


// ---- sections ----------------------------------------------------------------------------------

// The index of a section, new or not, in the order in which they are first read.
static rgm_status claim_section(rgm_config *config, const char *section, int *out) {
  for (*out = 0; *out < config->section_count; ++*out) {
    if (strcmp(config->sections[*out], section) == 0) {
      return RGM_OK;
    }
  }
  char **grown = grow(config->sections, config->section_count, sizeof *config->sections);
  if (grown == NULL) {
    return rgm_config_no_memory();
  }
  config->sections = grown;
  char *copy = format_text("%s", section);
  if (copy == NULL) {
    return rgm_config_no_memory();
  }
  config->sections[config->section_count++] = copy;
  return RGM_OK;
}


// The slot of a key, new or not.
static rgm_status claim_slot(rgm_config *config, int section, const char *key,
                             const rgm_field *field, config_slot **out) {
  for (int i = 0; i < config->slot_count; i++) {
    *out = &config->slots[i];
    if (strcmp((*out)->key, key) == 0) {
      (*out)->field = field;
      return RGM_OK;
    }
  }
  config_slot *grown = grow(config->slots, config->slot_count, sizeof *config->slots);
  if (grown == NULL) {
    return rgm_config_no_memory();
  }
  config->slots = grown;
  config_slot slot = {format_text("%s", key), section, field, NULL};
  if (slot.key == NULL) {
    return rgm_config_no_memory();
  }
  *out = &config->slots[config->slot_count++];
  **out = slot;
  return RGM_OK;
}


static void join(const char *section, const char *name, char key[CONFIG_KEY_SIZE]) {
  int size = snprintf(key, CONFIG_KEY_SIZE, "%s%s%s", section, section[0] == 0 ? "" : ".", name);
  RGM_ASSERT(size < CONFIG_KEY_SIZE);
}


static rgm_status missing(const rgm_config *config, const char *section, const char *key,
                          const rgm_field *field) {
  char expected[EXPECTED_SIZE];
  write_expected(field, expected);
  return rgm_fail(RGM_ECONFIG, "%s: %s: missing; set %s in section %s: %s. %s",
                  config->source_count > 0 ? config->sources[0].name : "command line", key,
                  field->key, section, expected, field->doc == NULL ? "" : field->doc);
}


// Reads one field into its place; its slot keeps the text.
static rgm_status read_field(rgm_config *config, const char *section, int section_index,
                             const rgm_field *field, void *values) {
  char key[CONFIG_KEY_SIZE];
  config_slot *slot = NULL;
  join(section, field->key, key);
  const config_entry *entry = rgm_config_find(config, key);
  RGM_TRY(claim_slot(config, section_index, key, field, &slot));
  if (entry == NULL && field->fallback == NULL) {
    return missing(config, section, key, field);
  }

  // the value, and its text through a stream in memory
  char *text = NULL, *value = (char *)values + field->offset;
  size_t size = 0;
  FILE *out = open_memstream(&text, &size);
  if (out == NULL) {
    return rgm_config_no_memory();
  }
  rgm_status status = entry != NULL ? read_entry(config, entry, field, value, out)
                                    : read_default(key, field, value, out);
  if (!rgm_config_close(out, &text)) {
    status = rgm_config_no_memory();
  }
  if (status != RGM_OK) {
    free(text);
    return status;
  }
  free(slot->text);
  slot->text = text;
  return RGM_OK;
}


rgm_status rgm_config_read(rgm_config *config, const char *section, const rgm_field *fields,
                           void *values) {
  const config_entry *entry = rgm_config_find(config, section);
  if (entry != NULL && entry->kind != CONFIG_MAP) {
    char quoted[CONFIG_QUOTE_SIZE];
    quote(entry->text, quoted);
    return rgm_config_fail(config, RGM_ECONFIG, entry->value_at, section,
                           "expected a map of keys, got \"%s\"", quoted);
  }
  int index = 0;
  RGM_TRY(claim_section(config, section, &index));
  for (const rgm_field *field = fields; field->key != NULL; field++) {
    RGM_TRY(read_field(config, section, index, field, values));
  }
  return RGM_OK;
}


// Whether a table has an entry's key or, for a map, whether it is a section or has keys in it that
// will be looked at on their own.
static bool is_known(const rgm_config *config, const config_entry *entry) {
  bool known = false, map = entry->kind == CONFIG_MAP;
  for (int i = 0; i < config->slot_count && !known; i++) {
    const char *key = config->slots[i].key;
    known = strcmp(key, entry->key) == 0 || (map && is_below(key, entry->key));
  }
  for (int i = 0; i < config->section_count && map && !known; i++) {
    known = strcmp(config->sections[i], entry->key) == 0;
  }
  for (int i = 0; i < config->entry_count && map && !known; i++) {
    known = !config->entries[i].dropped && is_below(config->entries[i].key, entry->key);
  }
  return known;
}


rgm_status rgm_config_finish(const rgm_config *config) {
  // the first key that no table knows
  const config_entry *unknown = NULL;
  for (int i = 0; i < config->entry_count && unknown == NULL; i++) {
    const config_entry *entry = &config->entries[i];
    unknown = entry->dropped || is_known(config, entry) ? NULL : entry;
  }
  if (unknown == NULL) {
    return RGM_OK;
  }

  // all keys, or all sections where an empty one is unknown
  bool map = unknown->kind == CONFIG_MAP;
  int count = map ? config->section_count : config->slot_count;
  const char **names = calloc((size_t)count + 1, sizeof *names);
  if (names == NULL) {
    return rgm_config_no_memory();
  }
  for (int i = 0; i < count; i++) {
    names[i] = map ? config->sections[i] : config->slots[i].key;
  }
  const char *nearest = rgm_nearest(unknown->key, names);
  free(names);
  return rgm_config_fail(config, RGM_ECONFIG, unknown->key_at, unknown->key, "unknown %s; %s%s%s",
                         map ? "section" : "key", nearest == NULL ? "" : "did you mean ",
                         nearest == NULL ? "`regimen explain` lists all" : nearest,
                         nearest == NULL ? "" : "?");
}


const char *rgm_config_text(const rgm_config *config, const char *key) {
  const config_entry *entry = rgm_config_find(config, key);
  return entry == NULL ? NULL : entry->text;
}


const char *rgm_config_where(const rgm_config *config, const char *key) {
  const config_entry *entry = rgm_config_find(config, key);
  return entry == NULL ? "default" : entry->where;
}


// ---- writing -----------------------------------------------------------------------------------

// Whether a text may stand without quotes, for readers of YAML 1.1 too: it begins with a letter, _
// or /, holds only what a path or a name does, and is no word with a meaning.
static bool is_plain(const char *text) {
  static const char *const words[] = {"null", "true", "false", "yes", "no",  "on",
                                      "off",  "y",    "n",     "inf", "nan", NULL};
  static const char *const letters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ_/";
  static const char *const others = "0123456789.+-";
  for (const char *c = text; *c != 0; c++) {
    if (strchr(letters, *c) == NULL && (c == text || strchr(others, *c) == NULL)) {
      return false;
    }
  }
  return text[0] != 0 && !is_word(text, words);
}


void rgm_config_write_scalar(FILE *out, const char *text) {
  if (is_plain(text)) {
    fputs(text, out);
    return;
  }

  // in double quotes; escapes for what YAML would refuse, or fold as a line break
  size_t size = strlen(text);
  fputc('"', out);
  for (size_t i = 0; i < size;) {
    uint32_t code = 0;
    size_t length = decode(text + i, size - i, &code);
    if (code == '"' || code == '\\') {
      fprintf(out, "\\%c", (int)code);
    } else if (code < 0x20 || (code >= 0x7f && code < 0xa0)) {
      fprintf(out, "\\x%02x", (unsigned)code);
    } else if (code == 0x2028 || code == 0x2029 || code == 0xfeff || code == 0xfffe ||
               code == 0xffff) {
      fprintf(out, "\\u%04x", (unsigned)code);
    } else {
      fwrite(text + i, 1, length, out);
    }
    i += length == 0 ? 1 : length;
  }
  fputc('"', out);
}


bool rgm_config_close(FILE *out, char **text) {
  bool failed = ferror(out) != 0;
  failed = fclose(out) != 0 || failed;
  if (failed) {
    free(*text);
    *text = NULL;
  }
  return *text != NULL;
}


char *rgm_config_emit(const rgm_config *config, bool digest_only) {
  char *text = NULL;
  size_t size = 0;
  FILE *out = open_memstream(&text, &size);
  if (out == NULL) {
    rgm_config_no_memory();
    return NULL;
  }

  // keys of the section "" come first, where no map can swallow them; the rest in the order read
  for (int pass = 0; pass < 2; pass++) {
    for (int s = 0; s < config->section_count; s++) {
      bool top = config->sections[s][0] == 0, header = top;
      for (int i = 0; i < config->slot_count && top == (pass == 0); i++) {
        const config_slot *slot = &config->slots[i];
        if (slot->section != s || slot->text == NULL || (digest_only && rgm_config_silent(slot))) {
          continue;
        }
        if (!header) {
          fprintf(out, "%s:\n", config->sections[s]);
          header = true;
        }
        fprintf(out, "%s%s: %s\n", top ? "" : "  ", slot->field->key, slot->text);
      }
    }
  }

  if (!rgm_config_close(out, &text)) {
    rgm_config_no_memory();
  }
  return text;
}


// ---- explain -----------------------------------------------------------------------------------

// Characters of a UTF-8 text.
static int width_of(const char *text) {
  int width = 0;
  for (; *text != 0; text++) {
    width += ((unsigned char)*text & 0xc0) != 0x80;
  }
  return width;
}


// Prints a text that starts at column `indent`, broken between words, and so do its further lines.
static void print_wrapped(FILE *out, const char *text, int indent) {
  int column = indent;
  for (bool first = true; *text != 0; first = false) {
    char word[256];
    int size = (int)strcspn(text, " ");
    size = size > 200 ? 200 : size;
    snprintf(word, sizeof word, "%.*s", size, text);
    if (!first && column + 1 + width_of(word) > COLUMNS) {
      fprintf(out, "\n%*s%s", indent, "", word);
      column = indent + width_of(word);
    } else {
      fprintf(out, "%s%s", first ? "" : " ", word);
      column += !first + width_of(word);
    }
    text += size + (int)strspn(text + size, " ");
  }
  fputs("\n", out);
}


// The values that a field takes, for the table.
static void write_allowed(const rgm_field *field, char out[EXPECTED_SIZE]) {
  char range[RANGE_SIZE];
  write_range(field, range);
  const char *bare = strncmp(range, " in ", 4) == 0 ? range + 4 : range + (range[0] == ' ');
  out[0] = 0;
  if (field->type == RGM_CHOICE) {
    for (int i = 0; field->choices[i] != NULL; i++) {
      append(out, EXPECTED_SIZE, "%s%s", i == 0 ? "" : " | ", field->choices[i]);
    }
  } else if (field->type == RGM_BOOL) {
    append(out, EXPECTED_SIZE, "true | false");
  } else if (field->type == RGM_STRING) {
    append(out, EXPECTED_SIZE, "at most %d bytes", RGM_STRING_SIZE - 1);
  } else {
    append(out, EXPECTED_SIZE, "%s%s%s", bare[0] == 0 ? "any" : bare,
           field->type == RGM_LIST ? ", at most " : "", field->type == RGM_LIST ? "32 values" : "");
  }
}


// A row's cells: key, type, unit, default, allowed values. Without a field, the header.
static void write_cells(const char *section, const rgm_field *field, char cell[5][EXPECTED_SIZE]) {
  static const char *const names[] = {"key", "type", "unit", "default", "range"};
  static const char *const types[] = {"bool", "int", "float", "choice", "string", "list"};
  for (int k = 0; k < 5; k++) {
    snprintf(cell[k], EXPECTED_SIZE, "%s", names[k]);
  }
  if (field != NULL) {
    const char *fallback = field->fallback == NULL ? "required" : field->fallback;
    join(section, field->key, cell[0]);
    snprintf(cell[1], EXPECTED_SIZE, "%s", types[field->type]);
    snprintf(cell[2], EXPECTED_SIZE, "%s", field->unit == NULL ? "" : field->unit);
    snprintf(cell[3], EXPECTED_SIZE, "%s", fallback[0] == 0 ? "\"\"" : fallback);
    write_allowed(field, cell[4]);
  }
}


void rgm_config_explain(FILE *out, const char *section, const rgm_field *fields) {
  // rows, counting the header as row 0, and column widths
  char cell[5][EXPECTED_SIZE];
  int rows = 1, width[4] = {0}, start = 0;
  while (fields[rows - 1].key != NULL) {
    rows++;
  }
  for (int row = 0; row < rows; row++) {
    write_cells(section, row == 0 ? NULL : &fields[row - 1], cell);
    for (int k = 0; k < 4; k++) {
      width[k] = width_of(cell[k]) > width[k] ? width_of(cell[k]) : width[k];
    }
  }
  for (int k = 0; k < 4; k++) {
    start += width[k] + 2;
  }

  // each row; where the columns leave little room, the allowed values get a line of their own
  for (int row = 0; row < rows; row++) {
    const rgm_field *field = row == 0 ? NULL : &fields[row - 1];
    write_cells(section, field, cell);
    for (int k = 0; k < 4; k++) {
      fprintf(out, "%s", cell[k]);
      fprintf(out, "%*s", k == 3 && start > 75 ? 0 : width[k] - width_of(cell[k]) + 2, "");
    }
    fputs(start > 75 ? "\n    " : "", out);
    print_wrapped(out, cell[4], start > 75 ? 4 : start);
    if (field != NULL && field->doc != NULL) {
      fputs("    ", out);
      print_wrapped(out, field->doc, 4);
    }
  }
}


// ---- nearest -----------------------------------------------------------------------------------

static int smaller(int a, int b) {
  return a < b ? a : b;
}


// Edit distance with swaps of neighbours (restricted Damerau-Levenshtein), case aside; a large
// number for texts longer than any key.
static int distance(const char *a, const char *b) {
  int na = (int)strlen(a), nb = (int)strlen(b);
  int row[3][CONFIG_KEY_SIZE];
  if (na >= CONFIG_KEY_SIZE || nb >= CONFIG_KEY_SIZE) {
    return 1 << 20;
  }
  for (int j = 0; j <= nb; j++) {
    row[0][j] = j;
  }

  // row i of the table holds distances from the first i characters of a
  for (int i = 1; i <= na; i++) {
    int *now = row[i % 3], *before = row[(i + 2) % 3], *older = row[(i + 1) % 3];
    now[0] = i;
    for (int j = 1; j <= nb; j++) {
      char x = lower(a[i - 1]), y = lower(b[j - 1]);
      now[j] = smaller(smaller(before[j], now[j - 1]) + 1, before[j - 1] + (x != y));
      if (i > 1 && j > 1 && x == lower(b[j - 2]) && lower(a[i - 2]) == y) {
        now[j] = smaller(now[j], older[j - 2] + 1);
      }
    }
  }
  return row[na % 3][nb];
}


static const char *last_part(const char *key) {
  const char *dot = strrchr(key, '.');
  return dot == NULL ? key : dot + 1;
}


// The distance of two names if they are close: at most 2 or a third of the word, and not all of it.
static int close_distance(const char *word, const char *name) {
  int size = (int)strlen(word), found = distance(word, name);
  int limit = size / 3 > 2 ? size / 3 : 2;
  return found <= limit && found < size ? found : 1 << 20;
}


const char *rgm_nearest(const char *word, const char *const *names) {
  // the whole names, and their last parts for a key in a wrong section
  const char *nearest = NULL;
  int best = 1 << 20;
  for (int i = 0; names[i] != NULL; i++) {
    int whole = close_distance(word, names[i]);
    int last = close_distance(last_part(word), last_part(names[i])) + 1;
    if (smaller(whole, last) < best) {
      best = smaller(whole, last);
      nearest = names[i];
    }
  }
  return nearest;
}
