// SPDX-License-Identifier: Apache-2.0
// Configuration, first half: YAML text (libyaml events) to a flat list of dotted keys, each with
// its text and its file:line:col; files that extend others; overrides of the command line.

#include "engine/config_private.h"

#include <errno.h>
#include <sys/stat.h>
#include <yaml.h>

// what a file may hold, so that a hostile one ends in a clear error
enum { MAX_BYTES = 1 << 20, MAX_DEPTH = 16, MAX_FILES = 9, MAX_KEYS = 1024, MAX_ITEMS = 4096 };

// characters of a source line that a message shows
enum { EXCERPT_WIDTH = 90 };

// One text being parsed. `event` is the current event; next_event releases it.
typedef struct loader {
  rgm_config *config;
  yaml_parser_t parser;
  yaml_event_t event;
  int source;
  int depth;
  int keys;
  bool nearest;  // an override: wins over what is there
  char *extends; // the parent that a file names, or NULL
  config_place extends_at;
} loader;


// ---- messages ----------------------------------------------------------------------------------

rgm_status rgm_config_no_memory(void) {
  return rgm_fail(RGM_EMEMORY, "no memory for the configuration; free some and try again");
}


// Appends a line of a source, or the part around the column, and a caret below it.
static void append_excerpt(const config_source *source, config_place at, char *out, size_t size) {
  char part[4 * EXCERPT_WIDTH + 1];
  size_t used = 0;
  bool cut = false;
  int line = 1, column = 1, shift = at.column > EXCERPT_WIDTH ? at.column - EXCERPT_WIDTH / 2 : 1;
  for (size_t i = 0; i < source->size && line <= at.line && !cut;) {
    uint32_t code = 0;
    size_t length = decode(source->text + i, source->size - i, &code);
    bool printable = length > 0 && is_printable(code) && code != '\t';
    length = length == 0 ? 1 : length;

    // copy the part of the line that is shown, tabs as one column each so that the caret fits
    if (line == at.line && column >= shift && !is_break(code)) {
      cut = column >= shift + EXCERPT_WIDTH;
      if (!cut && printable) {
        memcpy(part + used, source->text + i, length);
        used += length;
      } else if (!cut) {
        part[used++] = code == '\t' ? ' ' : '?';
      }
    }

    // to the next character
    i += length;
    column++;
    if (is_break(code) && !(code == '\r' && i < source->size && source->text[i] == '\n')) {
      line++;
      column = 1;
    }
  }
  part[used] = 0;
  if (used > 0) {
    append(out, size, "\n  %s%s%s\n  %*s^", shift > 1 ? "..." : "", part, cut ? "..." : "",
           at.column - shift + (shift > 1 ? 3 : 0), "");
  }
}


rgm_status rgm_config_fail(const rgm_config *config, rgm_status status, config_place at,
                           const char *key, const char *format, ...) {
  // the text itself
  char text[1024], spot[32] = "", excerpt[1024] = "";
  va_list args;
  va_start(args, format);
  vsnprintf(text, sizeof text, format, args);
  va_end(args);

  // the place
  const config_source *source = &config->sources[at.source];
  if (source->text != NULL) {
    snprintf(spot, sizeof spot, ":%d:%d", at.line, at.column);
    append_excerpt(source, at, excerpt, sizeof excerpt);
  }
  return rgm_fail(status, "%s%s: %s%s%s%s", source->name, spot, key == NULL ? "" : key,
                  key == NULL ? "" : ": ", text, excerpt);
}


// Refuses text that is too long, is not UTF-8, or holds characters that YAML does not allow.
static rgm_status check_text(const rgm_config *config, int source, const char *text, size_t size) {
  config_place at = {source, 1, 1};
  if (size > MAX_BYTES) {
    return rgm_config_fail(config, RGM_ECONFIG, at, NULL,
                           "larger than 1 MiB; this is not a configuration of Regimen");
  }
  for (size_t i = 0; i < size;) {
    uint32_t code = 0;
    size_t length = decode(text + i, size - i, &code);
    if (length == 0) {
      return rgm_config_fail(config, RGM_ECONFIG, at, NULL,
                             "byte 0x%02x is not UTF-8; save the file as UTF-8",
                             (unsigned char)text[i]);
    }
    if (!is_printable(code)) {
      return rgm_config_fail(config, RGM_ECONFIG, at, NULL,
                             "control character U+%04X; delete it, or escape it in double quotes",
                             (unsigned)code);
    }
    i += length;
    at.column++;
    if (is_break(code) && !(code == '\r' && i < size && text[i] == '\n')) {
      at.line++;
      at.column = 1;
    }
  }
  return RGM_OK;
}


// ---- entries -----------------------------------------------------------------------------------

static void clear_entry(config_entry *entry) {
  for (int i = 0; i < entry->count; i++) {
    free(entry->items[i]);
  }
  free(entry->items);
  free(entry->key);
  free(entry->where);
  free(entry->text);
}


void rgm_config_clear(rgm_config *config) {
  for (int i = 0; i < config->source_count; i++) {
    free(config->sources[i].name);
    free(config->sources[i].text);
  }
  for (int i = 0; i < config->entry_count; i++) {
    clear_entry(&config->entries[i]);
  }
  for (int i = 0; i < config->slot_count; i++) {
    free(config->slots[i].key);
    free(config->slots[i].text);
  }
  for (int i = 0; i < config->section_count; i++) {
    free(config->sections[i]);
  }
  free(config->sources);
  free(config->entries);
  free(config->slots);
  free(config->sections);
}


const config_entry *rgm_config_find(const rgm_config *config, const char *key) {
  for (int i = 0; i < config->entry_count; i++) {
    const config_entry *entry = &config->entries[i];
    if (!entry->dropped && strcmp(entry->key, key) == 0) {
      return entry;
    }
  }
  return NULL;
}


// Appends a source and hands it over: the caller's strings belong to the config afterwards, also
// where this fails.
static rgm_status add_source(rgm_config *config, config_source source) {
  config_source *grown = grow(config->sources, config->source_count, sizeof *config->sources);
  if (grown != NULL) {
    config->sources = grown;
  }
  if (grown == NULL || source.name == NULL) {
    free(source.name);
    free(source.text);
    return rgm_config_no_memory();
  }
  config->sources[config->source_count++] = source;
  return RGM_OK;
}


// Fills in the key and the places of an entry that has its value.
static rgm_status begin_entry(const loader *l, const char *key, config_place key_at,
                              config_entry *entry) {
  const config_source *source = &l->config->sources[l->source];
  entry->key_at = key_at;
  entry->key = copy_text(key, strlen(key));
  entry->where = source->text == NULL
                     ? copy_text(source->name, strlen(source->name))
                     : format_text("%s:%d:%d", source->name, key_at.line, key_at.column);
  return entry->key == NULL || entry->where == NULL ? rgm_config_no_memory() : RGM_OK;
}


// Whether an entry may be added: an error if its text sets the key twice; hidden if a nearer text
// sets it, or sets a map above it to a plain value.
static rgm_status check_entry(const loader *l, const config_entry *entry, bool *hidden) {
  const rgm_config *config = l->config;
  if (l->keys > MAX_KEYS) {
    return rgm_config_fail(config, RGM_ECONFIG, entry->key_at, NULL,
                           "more than %d keys; this is not a configuration of Regimen", MAX_KEYS);
  }
  for (int i = 0; i < config->entry_count; i++) {
    const config_entry *other = &config->entries[i];
    if (other->dropped) {
      continue;
    }
    bool same = strcmp(other->key, entry->key) == 0, ours = other->key_at.source == l->source;
    if (same && ours) {
      return rgm_config_fail(config, RGM_ECONFIG, entry->key_at, entry->key,
                             "set twice, first at %s; delete one of them", other->where);
    }
    bool covered = same || (other->kind != CONFIG_MAP && is_below(entry->key, other->key));
    *hidden = *hidden || (covered && !ours && !l->nearest);
  }
  return RGM_OK;
}


// Adds an entry and takes it over, also where this fails.
static rgm_status add_entry(loader *l, const char *key, config_place key_at, config_entry *entry) {
  rgm_config *config = l->config;
  bool hidden = false;
  l->keys++;
  rgm_status status = begin_entry(l, key, key_at, entry);
  if (status == RGM_OK) {
    status = check_entry(l, entry, &hidden);
  }
  if (status == RGM_OK && !hidden) {
    config_entry *grown = grow(config->entries, config->entry_count, sizeof *config->entries);
    if (grown != NULL) {
      config->entries = grown;
      config->entries[config->entry_count++] = *entry;
      return RGM_OK;
    }
    status = rgm_config_no_memory();
  }
  clear_entry(entry);
  return status;
}


// ---- YAML events -------------------------------------------------------------------------------

static config_place place_of(const loader *l, yaml_mark_t mark) {
  return (config_place){l->source, (int)mark.line + 1, (int)mark.column + 1};
}


static config_place here(const loader *l) {
  return place_of(l, l->event.start_mark);
}


static rgm_status next_event(loader *l) {
  yaml_event_delete(&l->event);
  const yaml_parser_t *p = &l->parser;
  if (yaml_parser_parse(&l->parser, &l->event)) {
    return RGM_OK;
  }
  if (p->error == YAML_MEMORY_ERROR) {
    return rgm_config_no_memory();
  }

  // libyaml's text, where the construct began, and help with the commonest slip
  char context[128] = "";
  const char *problem = p->problem == NULL ? "not valid YAML" : p->problem;
  if (p->context != NULL) {
    snprintf(context, sizeof context, " (%s at %zu:%zu)", p->context, p->context_mark.line + 1,
             p->context_mark.column + 1);
  }
  bool tab = strstr(problem, "cannot start any token") != NULL && p->buffer.pointer != NULL &&
             *p->buffer.pointer == '\t';
  return rgm_config_fail(l->config, RGM_ECONFIG, place_of(l, p->problem_mark), NULL, "%s%s%s",
                         problem, context, tab ? "; indent with spaces, not tabs" : "");
}


// Refuses what the current event has beyond plain maps, lists and scalars.
static rgm_status check_event(const loader *l, const char *key) {
  const yaml_event_t *e = &l->event;
  const yaml_char_t *anchor = NULL, *tag = NULL;
  if (e->type == YAML_ALIAS_EVENT) {
    return rgm_config_fail(l->config, RGM_ECONFIG, here(l), key,
                           "aliases (*%.32s) are not supported; write the value out or quote it",
                           (const char *)e->data.alias.anchor);
  }

  // anchors and tags, of whichever kind of node
  if (e->type == YAML_SCALAR_EVENT) {
    anchor = e->data.scalar.anchor;
    tag = e->data.scalar.tag;
  } else if (e->type == YAML_SEQUENCE_START_EVENT) {
    anchor = e->data.sequence_start.anchor;
    tag = e->data.sequence_start.tag;
  } else if (e->type == YAML_MAPPING_START_EVENT) {
    anchor = e->data.mapping_start.anchor;
    tag = e->data.mapping_start.tag;
  }
  if (anchor != NULL) {
    return rgm_config_fail(l->config, RGM_ECONFIG, here(l), key,
                           "anchors (&%.32s) are not supported; delete it, or use `extends:`",
                           (const char *)anchor);
  }
  if (tag != NULL) {
    return rgm_config_fail(l->config, RGM_ECONFIG, here(l), key,
                           "tags (%.32s) are not supported; delete it, the key decides the type",
                           (const char *)tag);
  }
  return RGM_OK;
}


// Copies the current scalar, refusing "no value" and NUL characters.
static rgm_status copy_scalar(const loader *l, const char *key, char **out) {
  const char *text = (const char *)l->event.data.scalar.value;
  size_t size = l->event.data.scalar.length;
  if (l->event.data.scalar.style == YAML_PLAIN_SCALAR_STYLE && is_null(text)) {
    return rgm_config_fail(l->config, RGM_ECONFIG, here(l), key,
                           "no value; give a value or delete the line");
  }
  if (strlen(text) != size) {
    return rgm_config_fail(l->config, RGM_ECONFIG, here(l), key,
                           "text with a NUL character; delete the \\0");
  }
  *out = copy_text(text, size);
  return *out == NULL ? rgm_config_no_memory() : RGM_OK;
}


// Reads the items of a list up to its end. The caller owns the entry, also where this fails.
static rgm_status parse_items(loader *l, const char *key, config_entry *entry) {
  for (;;) {
    RGM_TRY(next_event(l));
    if (l->event.type == YAML_SEQUENCE_END_EVENT) {
      return RGM_OK;
    }

    // plain values only, and not too many
    RGM_TRY(check_event(l, key));
    if (l->event.type != YAML_SCALAR_EVENT) {
      return rgm_config_fail(l->config, RGM_ECONFIG, here(l), key,
                             "a %s inside a list; lists hold plain values only",
                             l->event.type == YAML_MAPPING_START_EVENT ? "map" : "list");
    }
    if (entry->count >= MAX_ITEMS) {
      return rgm_config_fail(l->config, RGM_ECONFIG, here(l), key, "more than %d values in a list",
                             MAX_ITEMS);
    }

    // append
    char **grown = grow(entry->items, entry->count, sizeof *entry->items);
    if (grown == NULL) {
      return rgm_config_no_memory();
    }
    entry->items = grown;
    RGM_TRY(copy_scalar(l, key, &entry->items[entry->count]));
    entry->count++;
  }
}


// A list's text: its items in flow form, numbers as given.
static rgm_status write_list(config_entry *entry) {
  size_t size = 0;
  FILE *out = open_memstream(&entry->text, &size);
  if (out == NULL) {
    return rgm_config_no_memory();
  }
  fputs("[", out);
  for (int i = 0; i < entry->count; i++) {
    const char *item = entry->items[i];
    bool number = strpbrk(item, "0123456789") != NULL && item[strspn(item, "0123456789.+-eE")] == 0;
    fputs(i > 0 ? ", " : "", out);
    if (number) {
      fputs(item, out);
    } else {
      rgm_config_write_scalar(out, item);
    }
  }
  fputs("]", out);
  return rgm_config_close(out, &entry->text) ? RGM_OK : rgm_config_no_memory();
}


static rgm_status parse_map(loader *l, const char *prefix);


// Reads the value that begins with the current event.
static rgm_status parse_value(loader *l, const char *key, config_place key_at) {
  RGM_TRY(check_event(l, key));
  config_entry entry = {.kind = CONFIG_MAP, .value_at = here(l)};

  // a map has an entry of its own, then its keys
  if (l->event.type == YAML_MAPPING_START_EVENT) {
    RGM_TRY(add_entry(l, key, key_at, &entry));
    return parse_map(l, key);
  }

  // a scalar, or a list of them
  rgm_status status = RGM_OK;
  if (l->event.type == YAML_SCALAR_EVENT) {
    entry.kind = CONFIG_SCALAR;
    status = copy_scalar(l, key, &entry.text);
  } else {
    entry.kind = CONFIG_LIST;
    status = parse_items(l, key, &entry);
    if (status == RGM_OK) {
      status = write_list(&entry);
    }
  }
  if (status != RGM_OK) {
    clear_entry(&entry);
    return status;
  }
  return add_entry(l, key, key_at, &entry);
}


// Joins a map's key and a name in it; names are words joined by dots.
static rgm_status join_key(const loader *l, config_place at, const char *prefix, const char *name,
                           size_t size, char key[CONFIG_KEY_SIZE]) {
  char quoted[CONFIG_QUOTE_SIZE];
  bool valid = size > 0 && strlen(name) == size;
  for (size_t i = 0; i < size && valid; i++) {
    bool word = (name[i] >= 'a' && name[i] <= 'z') || (name[i] >= 'A' && name[i] <= 'Z') ||
                (name[i] >= '0' && name[i] <= '9') || name[i] == '_' || name[i] == '-';
    valid = word || (name[i] == '.' && i > 0 && name[i - 1] != '.' && i + 1 < size);
  }
  quote(name, quoted);
  if (!valid) {
    return rgm_config_fail(l->config, RGM_ECONFIG, at, NULL,
                           "\"%s\" is not a key; keys are letters, digits, _ and -, joined by dots",
                           quoted);
  }
  if (strlen(prefix) + size + 2 > CONFIG_KEY_SIZE) {
    return rgm_config_fail(l->config, RGM_ECONFIG, at, NULL,
                           "\"%s\" is too long; a full key has at most %d characters", quoted,
                           CONFIG_KEY_SIZE - 1);
  }
  snprintf(key, CONFIG_KEY_SIZE, "%s%s%s", prefix, prefix[0] == 0 ? "" : ".", name);
  return RGM_OK;
}


// Reads one key, which is the current event, and its value.
static rgm_status parse_pair(loader *l, const char *prefix) {
  char key[CONFIG_KEY_SIZE];
  config_place at = here(l);
  RGM_TRY(check_event(l, NULL));
  if (l->event.type != YAML_SCALAR_EVENT) {
    return rgm_config_fail(l->config, RGM_ECONFIG, at, NULL,
                           "a list or map as a key; keys are plain words");
  }
  RGM_TRY(join_key(l, at, prefix, (const char *)l->event.data.scalar.value,
                   l->event.data.scalar.length, key));
  RGM_TRY(next_event(l));
  if (strcmp(key, "extends") != 0) {
    return parse_value(l, key, at);
  }

  // the file that this one extends
  RGM_TRY(check_event(l, key));
  if (l->extends != NULL) {
    return rgm_config_fail(l->config, RGM_ECONFIG, at, key,
                           "set twice, first at line %d; a file extends one other",
                           l->extends_at.line);
  }
  if (l->event.type != YAML_SCALAR_EVENT || l->event.data.scalar.length == 0) {
    return rgm_config_fail(l->config, RGM_ECONFIG, here(l), key,
                           "expected the path of one file, relative to this file's folder");
  }
  l->extends_at = here(l);
  return copy_scalar(l, key, &l->extends);
}


// Reads the pairs of a map up to its end.
static rgm_status parse_map(loader *l, const char *prefix) {
  if (++l->depth > MAX_DEPTH) {
    return rgm_config_fail(l->config, RGM_ECONFIG, here(l), NULL,
                           "more than %d maps inside each other", MAX_DEPTH);
  }
  RGM_TRY(next_event(l));
  while (l->event.type != YAML_MAPPING_END_EVENT) {
    RGM_TRY(parse_pair(l, prefix));
    RGM_TRY(next_event(l));
  }
  l->depth--;
  return RGM_OK;
}


// Reads the one document of a text; with a key, the document is that key's value.
static rgm_status parse_document(loader *l, const char *key) {
  RGM_TRY(next_event(l));
  RGM_TRY(next_event(l));
  if (l->event.type == YAML_STREAM_END_EVENT) {
    return RGM_OK;
  }
  const yaml_event_t *e = &l->event;
  if (e->data.document_start.version_directive != NULL ||
      e->data.document_start.tag_directives.start != e->data.document_start.tag_directives.end) {
    return rgm_config_fail(l->config, RGM_ECONFIG, here(l), NULL,
                           "%% directives are not supported; delete the line");
  }

  // the top level of a file: keys, or nothing at all
  RGM_TRY(next_event(l));
  config_place at = here(l);
  if (key != NULL) {
    RGM_TRY(parse_value(l, key, at));
  } else {
    RGM_TRY(check_event(l, NULL));
    if (e->type == YAML_MAPPING_START_EVENT) {
      RGM_TRY(parse_map(l, ""));
    } else if (e->type != YAML_SCALAR_EVENT || e->data.scalar.length > 0) {
      return rgm_config_fail(l->config, RGM_ECONFIG, at, NULL,
                             "expected `key: value` lines at the top level");
    }
  }

  // its end, then the end of the text
  RGM_TRY(next_event(l));
  RGM_TRY(next_event(l));
  if (e->type != YAML_STREAM_END_EVENT) {
    return rgm_config_fail(l->config, RGM_ECONFIG, here(l), NULL,
                           "a second document; keep one in a file, without `---` between");
  }
  return RGM_OK;
}


// Parses a text into entries of its source. What it extends is left in the loader.
static rgm_status parse_text(loader *l, const char *key, const char *text, size_t size) {
  if (!yaml_parser_initialize(&l->parser)) {
    return rgm_config_no_memory();
  }
  yaml_parser_set_encoding(&l->parser, YAML_UTF8_ENCODING);
  yaml_parser_set_input_string(&l->parser, (const unsigned char *)text, size);
  rgm_status status = parse_document(l, key);
  yaml_event_delete(&l->event);
  yaml_parser_delete(&l->parser);
  return status;
}


// ---- files and overrides -----------------------------------------------------------------------

// Reads a whole file. `problem` gets errno's text.
static rgm_status read_file(const char *path, config_source *source, char *problem, size_t size) {
  FILE *file = fopen(path, "rb");
  struct stat info;
  if (file == NULL || fstat(fileno(file), &info) != 0) {
    snprintf(problem, size, "cannot be read: %s; check the path", strerror(errno));
    if (file != NULL) {
      fclose(file);
    }
    return RGM_EIO;
  }

  // one byte more than allowed, for check_text to see
  char *text = malloc(MAX_BYTES + 1);
  size_t count = text == NULL ? 0 : fread(text, 1, MAX_BYTES + 1, file);
  rgm_status status = RGM_OK;
  if (text == NULL) {
    status = rgm_config_no_memory();
  } else if (ferror(file)) {
    snprintf(problem, size, "cannot be read: %s; check the path", strerror(errno));
    status = RGM_EIO;
  }
  fclose(file);

  // no more memory than the text needs
  if (status == RGM_OK) {
    source->text = copy_text(text, count);
    status = source->text == NULL ? rgm_config_no_memory() : RGM_OK;
  }
  source->size = count;
  source->device = info.st_dev;
  source->inode = info.st_ino;
  free(text);
  return status;
}


// Adds a file to the chain of those that extend each other. `from` is where the one before names
// it; its source is -1 for the first.
static rgm_status add_file(rgm_config *config, char *path, config_place from) {
  char problem[256] = "", chain[768] = "";
  config_source source = {.name = path};
  if (path == NULL) {
    return rgm_config_no_memory();
  }
  rgm_status status = read_file(path, &source, problem, sizeof problem);
  if (problem[0] != 0) {
    status = from.source < 0
                 ? rgm_fail(status, "%s: %s", path, problem)
                 : rgm_config_fail(config, status, from, "extends", "%s %s", path, problem);
  }

  // a file that is in the chain already, or one too many
  bool cycle = false;
  for (int i = 0; i < config->source_count; i++) {
    const config_source *other = &config->sources[i];
    cycle = cycle ||
            (other->inode != 0 && other->inode == source.inode && other->device == source.device);
    append(chain, sizeof chain, "%s -> ", other->name);
  }
  if (status == RGM_OK && (cycle || config->source_count >= MAX_FILES)) {
    status = rgm_config_fail(config, RGM_ECONFIG, from, "extends", "%s: %s%s",
                             cycle ? "files extend each other in a circle"
                                   : "more than 8 files extend each other",
                             chain, path);
  }
  if (status != RGM_OK) {
    free(source.name);
    free(source.text);
    return status;
  }
  return add_source(config, source);
}


// Parses the newest source and, one after the other, the files that it extends.
static rgm_status load_chain(rgm_config *config) {
  for (int i = 0; i < config->source_count; i++) {
    // a byte order mark is no part of the text
    const char *name = config->sources[i].name, *text = config->sources[i].text;
    size_t size = config->sources[i].size;
    if (size >= 3 && memcmp(text, "\xef\xbb\xbf", 3) == 0) {
      size = config->sources[i].size -= 3;
      memmove(config->sources[i].text, text + 3, size + 1);
    }
    RGM_TRY(check_text(config, i, text, size));
    loader l = {.config = config, .source = i};
    rgm_status status = parse_text(&l, NULL, text, size);

    // the parent, relative to this file's folder
    if (status == RGM_OK && l.extends != NULL) {
      const char *slash = strrchr(name, '/');
      int folder = slash == NULL || l.extends[0] == '/' ? 0 : (int)(slash - name) + 1;
      status = add_file(config, format_text("%.*s%s", folder, name, l.extends), l.extends_at);
    }
    free(l.extends);
    RGM_TRY(status);
  }
  return RGM_OK;
}


// Drops what the entries of the newest source replace or, where it failed, these entries.
static void settle(rgm_config *config, int first, bool failed) {
  for (int i = first; i < config->entry_count; i++) {
    const config_entry *entry = &config->entries[i];
    for (int k = 0; k < first && !failed; k++) {
      config_entry *old = &config->entries[k];
      bool same = strcmp(old->key, entry->key) == 0;
      old->dropped =
          old->dropped || same || (entry->kind != CONFIG_MAP && is_below(old->key, entry->key));
    }
    config->entries[i].dropped = failed;
  }
}


rgm_status rgm_config_set(rgm_config *config, const char *key, const char *value) {
  // the value without blanks around it
  value += strspn(value, " ");
  size_t size = strlen(value);
  while (size > 0 && value[size - 1] == ' ') {
    size--;
  }

  // a source of its own
  char short_key[CONFIG_QUOTE_SIZE], short_value[CONFIG_QUOTE_SIZE], full_key[CONFIG_KEY_SIZE];
  quote(key, short_key);
  quote(value, short_value);
  config_source source = {.name = format_text("--set %s=%s", short_key, short_value)};
  loader l = {.config = config, .source = config->source_count, .nearest = true};
  config_place at = {config->source_count, 1, 1};
  RGM_TRY(add_source(config, source));
  RGM_TRY(join_key(&l, at, "", key, strlen(key), full_key));
  RGM_TRY(check_text(config, at.source, value, size));
  if (strcmp(key, "extends") == 0) {
    return rgm_config_fail(config, RGM_ECONFIG, at, key,
                           "belongs in a file; give that file instead");
  }

  // lists, maps and quotes are YAML; anything else is taken as it stands, also ": " and " #"
  int first = config->entry_count;
  rgm_status status = RGM_OK;
  if (size > 0 && strchr("[{\"'&*!", value[0]) != NULL) {
    status = parse_text(&l, key, value, size);
  } else {
    config_entry entry = {.kind = CONFIG_SCALAR, .value_at = at, .text = copy_text(value, size)};
    if (entry.text == NULL) {
      return rgm_config_no_memory();
    }
    if (is_null(entry.text)) {
      free(entry.text);
      return rgm_config_fail(config, RGM_ECONFIG, at, key,
                             "no value; give a value (\"\" in quotes for an empty text)");
    }
    status = add_entry(&l, key, at, &entry);
  }
  settle(config, first, status != RGM_OK);
  return status;
}


// Applies one override of the command line, "key=value".
static rgm_status apply_override(rgm_config *config, const char *override) {
  const char *equals = strchr(override, '=');
  if (equals == NULL || equals == override) {
    char quoted[CONFIG_QUOTE_SIZE];
    quote(override, quoted);
    return rgm_fail(RGM_EUSAGE, "--set %s: expected KEY=VALUE, as in --set run.seed=3", quoted);
  }
  char *key = copy_text(override, (size_t)(equals - override));
  if (key == NULL) {
    return rgm_config_no_memory();
  }
  rgm_status status = rgm_config_set(config, key, equals + 1);
  free(key);
  return status;
}


// Loads from a file, from text, or from overrides alone.
static rgm_status load(const char *name, const char *text, const char *const *overrides,
                       int override_count, rgm_config **out) {
  *out = NULL;
  rgm_config *config = calloc(1, sizeof *config);
  if (config == NULL) {
    return rgm_config_no_memory();
  }

  // the first source
  rgm_status status = RGM_OK;
  char *copy = name == NULL ? NULL : copy_text(name, strlen(name));
  if (text != NULL) {
    config_source source = {.name = copy, .text = copy_text(text, strlen(text))};
    source.size = strlen(text);
    if (source.text == NULL) {
      free(source.name);
      status = rgm_config_no_memory();
    } else {
      status = add_source(config, source);
    }
  } else if (name != NULL) {
    status = add_file(config, copy, (config_place){-1, 0, 0});
  }

  // what it extends, then the overrides
  if (status == RGM_OK) {
    status = load_chain(config);
  }
  for (int i = 0; i < override_count && status == RGM_OK; i++) {
    status = apply_override(config, overrides[i]);
  }
  if (status != RGM_OK) {
    rgm_config_free(config);
    return status;
  }
  *out = config;
  return RGM_OK;
}


rgm_status rgm_config_load(const char *path, const char *const *overrides, int override_count,
                           rgm_config **out) {
  return load(path, NULL, overrides, override_count, out);
}


rgm_status rgm_config_parse(const char *name, const char *text, const char *const *overrides,
                            int override_count, rgm_config **out) {
  return load(name, text, overrides, override_count, out);
}


void rgm_config_free(rgm_config *config) {
  if (config != NULL) {
    rgm_config_clear(config);
    free(config);
  }
}
