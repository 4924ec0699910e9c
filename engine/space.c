// SPDX-License-Identifier: Apache-2.0
// The search space of a sweep: reads the section's dimensions from the flat keys of the config and
// checks them against the tables of the run that they would change. Points are in points.c.

#include "engine/space.h"

#include "engine/config_private.h"
#include <math.h>

#define KEY(member) offsetof(rgm_sweep_keys, member)

static const char *const modes[] = {"auto", "max", "min", NULL};
static const char *const searches[] = {"auto", "grid", "random", NULL};
static const char *const schedulers[] = {"none", "halving", "asha", "pbt", NULL};

const rgm_field rgm_sweep_fields[] = {
    {"metric", RGM_STRING, KEY(metric), "", "auto", 0, 0, NULL, 0,
     "Reported metric that trials are compared by; auto: the algorithm's own."},
    {"mode", RGM_CHOICE, KEY(mode), "", "auto", 0, 0, modes, 0,
     "What is better: max, min, or auto (the algorithm's for its own metric, max for others)."},
    {"search", RGM_CHOICE, KEY(search), "", "auto", 0, 0, searches, 0,
     "grid: every combination; random: trials drawn; auto: grid if nothing has to be drawn."},
    {"trials", RGM_INT, KEY(trials), "1", "0", 0, 1e6, NULL, 0,
     "Trials of a random search; more of them leave the first ones as they are. 0: a grid."},
    {"seed", RGM_INT, KEY(seed), "1", "1", 0, 9e15, NULL, 0, "Seed of the drawn points."},
    {"seeds", RGM_INT, KEY(seeds), "1", "1", 1, 65536, NULL, 0,
     "Seeds of each trial, from run.seed on; a trial counts by their mean."},
    {"scheduler", RGM_CHOICE, KEY(scheduler), "", "none", 0, 0, schedulers, 0,
     "none; halving or asha (successive halving in brackets that wait for no other); pbt."},
    {"first", RGM_INT, KEY(first), "steps", "0", 0, 4e9, NULL, 0,
     "halving: steps before the first comparison, 0: run.steps / reduction^2. pbt: steps between "
     "two of them, 0: run.steps / 20."},
    {"reduction", RGM_FLOAT, KEY(reduction), "1", "4", 1.1, 1e6, NULL, 0,
     "halving: one of this many trials goes on, with this many times the steps."},
    {"bracket", RGM_INT, KEY(bracket), "trials", "64", 1, 65536, NULL, 0,
     "Trials that are compared with each other; a worker claims one bracket at a time."},
    {"quantile", RGM_FLOAT, KEY(quantile), "1", "0.25", 0.01, 0.5, NULL, 0,
     "pbt: the worst share of a bracket, which takes over from the best share."},
    {"factor", RGM_FLOAT, KEY(factor), "1", "1.25", 1.0001, 100, NULL, 0,
     "pbt: what is taken over is multiplied or divided by this."},
    {"keep", RGM_INT, KEY(keep), "1", "1", 1, 65536, NULL, RGM_PROVENANCE,
     "How many of the best trials leave a run folder; the best of all is DIR/best."},
    {"pack", RGM_STRING, KEY(pack), "", "auto", 0, 0, NULL, RGM_PROVENANCE,
     "Replicas side by side: auto (device and memory decide), a number, or one (a single pack: "
     "refused where a key changes shapes)."},
    {"memory", RGM_FLOAT, KEY(memory), "MiB", "0", 0, 1e9, NULL, RGM_PROVENANCE,
     "Memory of a pack's tensors, 0: a quarter of the machine's."},
    {"lease", RGM_FLOAT, KEY(lease), "s", "60", 0.1, 1e6, NULL, RGM_PROVENANCE,
     "A worker on another machine that gives no sign of life for this long has lost its trials."},
    {0},
};


// ---- messages ----------------------------------------------------------------------------------

rgm_status rgm_space_fail(const rgm_space *space, const rgm_dimension *dim, const char *key,
                          const char *text) {
  const rgm_config *config = space->config;
  char full[CONFIG_KEY_SIZE];
  snprintf(full, sizeof full, "sweep.%.240s", dim != NULL ? dim->key : key);
  if (dim != NULL) {
    return rgm_config_fail(config, RGM_ECONFIG, config->entries[dim->entry].value_at, full, "%s",
                           text);
  }
  // a key of the section, whose entry was dropped; or the section itself where it is not set
  const config_entry *found = NULL;
  for (int i = 0; i < config->entry_count; i++) {
    const config_entry *entry = &config->entries[i];
    if (strcmp(entry->key, full) == 0 || (found == NULL && strcmp(entry->key, "sweep") == 0)) {
      found = entry;
    }
  }
  return found != NULL ? rgm_config_fail(config, RGM_ECONFIG, found->value_at, full, "%s", text)
                       : rgm_fail(RGM_ECONFIG, "%s: %s", full, text);
}


// the text of the newest error, which names an override that nobody typed, without that
static void inner_error(char *out, size_t size) {
  const char *text = rgm_last_error();
  if (strncmp(text, "--set ", 6) == 0) {
    const char *colon = strstr(text, ": ");
    text = colon != NULL ? colon + 2 : text;
  }
  snprintf(out, size, "%s", text);
}


// ---- reading the section -----------------------------------------------------------------------

bool rgm_config_has_sweep(const rgm_config *config) {
  for (int i = 0; i < config->entry_count; i++) {
    const config_entry *entry = &config->entries[i];
    if (!entry->dropped && (strcmp(entry->key, "sweep") == 0 || is_below(entry->key, "sweep"))) {
      return true;
    }
  }
  return false;
}


static bool is_part(const char *name) {
  static const char *const parts[] = {"min", "max", "log", "count", "values", NULL};
  for (int i = 0; parts[i] != NULL; i++) {
    if (strcmp(parts[i], name) == 0) {
      return true;
    }
  }
  return false;
}


// Splits the key of an entry below `sweep` into dimension and part ("" for the dimension itself);
// a condition's part is "when.KEY".
static void split_key(const char *key, char dimension[256], char part[256]) {
  const char *path = key + strlen("sweep."), *when = strstr(path, ".when.");
  const char *dot = when != NULL ? when : strrchr(path, '.');
  part[0] = '\0';
  snprintf(dimension, 256, "%s", path);
  if (when != NULL || (dot != NULL && is_part(dot + 1) && strchr(path, '.') != dot)) {
    dimension[dot - path] = '\0';
    snprintf(part, 256, "%s", dot + 1);
  }
}


static rgm_status add_dimension(rgm_space *space, const char *key, int entry, rgm_dimension **out) {
  for (int d = 0; d < space->dim_count; d++) {
    if (strcmp(space->dims[d].key, key) == 0) {
      *out = &space->dims[d];
      return RGM_OK;
    }
  }
  rgm_dimension dim = {.min = NAN, .max = NAN, .entry = entry};
  snprintf(dim.key, sizeof dim.key, "%s", key);
  space->dims[space->dim_count] = dim;
  *out = &space->dims[space->dim_count];
  if (space->dim_count + 1 >= RGM_MAX_DIMENSIONS) {
    return rgm_space_fail(space, *out, NULL, "more than 31 swept keys");
  }
  space->dim_count++;
  return RGM_OK;
}


static void free_texts(char **texts, int count) {
  for (int i = 0; texts != NULL && i < count; i++) {
    free(texts[i]);
  }
  free(texts);
}


// the items of a list, or a scalar as a list of one
static rgm_status copy_items(const config_entry *entry, char ***out, int *count) {
  const int n = entry->kind == CONFIG_LIST ? entry->count : 1;
  char **items = calloc((size_t)n + 1, sizeof *items);
  bool good = items != NULL;
  for (int i = 0; i < n && good; i++) {
    const char *text = entry->kind == CONFIG_LIST ? entry->items[i] : entry->text;
    items[i] = copy_text(text, strlen(text));
    good = items[i] != NULL;
  }
  *out = items;
  *count = items != NULL ? n : 0;
  return good ? RGM_OK : rgm_config_no_memory();
}


static rgm_status read_part(rgm_space *space, rgm_dimension *dim, const char *part,
                            const config_entry *entry) {
  char *end = NULL, text[160];
  if (strncmp(part, "when.", 5) == 0) {
    if (dim->when_key != NULL) {
      return rgm_space_fail(space, dim, NULL, "one condition is enough: `when` has two keys");
    }
    dim->when_key = copy_text(part + 5, strlen(part + 5));
    RGM_TRY(dim->when_key != NULL ? RGM_OK : rgm_config_no_memory());
    return copy_items(entry, &dim->when, &dim->when_count);
  }
  if (part[0] == '\0' || strcmp(part, "values") == 0) {
    if (entry->kind == CONFIG_LIST && entry->count == 0) {
      return rgm_space_fail(space, dim, NULL, "an empty list; give values");
    }
    free_texts(dim->values, dim->count);
    return copy_items(entry, &dim->values, &dim->count);
  }
  if (strcmp(part, "log") == 0 && entry->kind == CONFIG_SCALAR) {
    dim->log = strcmp(entry->text, "true") == 0;
    return dim->log || strcmp(entry->text, "false") == 0
               ? RGM_OK
               : rgm_space_fail(space, dim, NULL, "log is true or false");
  }
  const double number = entry->kind == CONFIG_SCALAR ? strtod(entry->text, &end) : NAN;
  if (end == NULL || *end != '\0' || end == entry->text || !isfinite(number)) {
    snprintf(text, sizeof text, "%.16s is a number", part);
    return rgm_space_fail(space, dim, NULL, text);
  }
  if (strcmp(part, "count") == 0) {
    const int count = number >= 1 && number <= 65536 ? (int)number : 0;
    dim->counted = true;
    dim->count = dim->values == NULL ? count : dim->count;
    return count > 0 && count == number
               ? RGM_OK
               : rgm_space_fail(space, dim, NULL, "count is a whole number from 1 to 65536");
  }
  *(strcmp(part, "min") == 0 ? &dim->min : &dim->max) = number;
  return RGM_OK;
}


// dimensions in the order of the file; what an override gives comes last
static rgm_status read_dimensions(rgm_space *space) {
  rgm_config *config = space->config;
  space->dims = calloc(RGM_MAX_DIMENSIONS, sizeof *space->dims);
  if (space->dims == NULL) {
    return rgm_config_no_memory();
  }
  for (int i = 0; i < config->entry_count; i++) {
    const config_entry *entry = &config->entries[i];
    char key[256], part[256];
    if (entry->dropped || !is_below(entry->key, "sweep")) {
      continue;
    }
    split_key(entry->key, key, part);
    if (strchr(key, '.') == NULL) {
      continue; // the section's own key, or a map that holds dimensions
    }
    // a map is a dimension where min, max or values is in it; deeper maps speak for themselves
    const bool map = entry->kind == CONFIG_MAP;
    if (map && strcmp(part, "") != 0) {
      continue;
    }
    if (map && strlen(key) > 5 && strcmp(key + strlen(key) - 5, ".when") == 0) {
      continue;
    }
    rgm_dimension *dim;
    RGM_TRY(add_dimension(space, key, i, &dim));
    if (!map) {
      RGM_TRY(read_part(space, dim, part, entry));
    }
  }
  const bool any = space->dim_count > 0 || space->keys.seeds > 1;
  return any ? RGM_OK
             : rgm_space_fail(space, NULL, "seeds",
                              "nothing is swept: give algorithm.lr: [0.01, 0.03], say, or seeds");
}


// the section leaves the config, so that what stays is the config of a trial
static void drop_section(rgm_config *config) {
  for (int i = 0; i < config->entry_count; i++) {
    config_entry *entry = &config->entries[i];
    entry->dropped =
        entry->dropped || strcmp(entry->key, "sweep") == 0 || is_below(entry->key, "sweep");
  }
  for (int i = 0; i < config->slot_count; i++) {
    free(config->slots[i].key);
    free(config->slots[i].text);
  }
  for (int i = 0; i < config->section_count; i++) {
    free(config->sections[i]);
  }
  config->slot_count = config->section_count = 0;
}


// a single word below `sweep` that is no key of the section
static rgm_status check_words(const rgm_space *space) {
  const char *names[32] = {NULL};
  int count = 0;
  for (const rgm_field *f = rgm_sweep_fields; f->key != NULL; f++) {
    names[count++] = f->key;
  }
  for (int i = 0; i < space->config->entry_count; i++) {
    const config_entry *entry = &space->config->entries[i];
    if (entry->dropped || !is_below(entry->key, "sweep")) {
      continue;
    }
    const char *word = entry->key + strlen("sweep.");
    bool known = strchr(word, '.') != NULL || entry->kind == CONFIG_MAP;
    for (int k = 0; k < count && !known; k++) {
      known = strcmp(names[k], word) == 0;
    }
    if (!known) {
      const char *nearest = rgm_nearest(word, names);
      return rgm_config_fail(space->config, RGM_ECONFIG, entry->key_at, entry->key,
                             "unknown key; %s%s%s", nearest != NULL ? "did you mean sweep." : "",
                             nearest != NULL ? nearest
                                             : "a swept key has its section: algorithm.lr, "
                                               "env.noise_sd",
                             nearest != NULL ? "?" : "");
    }
  }
  return RGM_OK;
}


// ---- checking dimensions -----------------------------------------------------------------------

static rgm_status unknown_key(const rgm_space *space, const rgm_dimension *dim, const char *key) {
  const rgm_config *config = space->config;
  const char **names = calloc((size_t)config->slot_count + 1, sizeof *names);
  char text[640];
  if (names == NULL) {
    return rgm_config_no_memory();
  }
  for (int i = 0; i < config->slot_count; i++) {
    names[i] = config->slots[i].key;
  }
  const char *nearest = rgm_nearest(key, names);
  snprintf(text, sizeof text, "unknown key%s%s%s%s%s", key != dim->key ? " " : "",
           key != dim->key ? key : "", nearest != NULL ? "; did you mean " : "",
           nearest != NULL ? nearest : "; `regimen explain` lists all", nearest != NULL ? "?" : "");
  free(names);
  return rgm_space_fail(space, dim, NULL, text);
}


static rgm_status check_range(const rgm_space *space, rgm_dimension *dim, const rgm_field *field) {
  const char *text = NULL;
  if (isnan(dim->min) || isnan(dim->max)) {
    text = "a range needs min and max; a list is [a, b, c]";
  } else if (field->type != RGM_INT && field->type != RGM_FLOAT) {
    text = "a range is for numbers; give a list of values";
  } else if (!(dim->min < dim->max)) {
    text = "an empty range: min is not below max";
  } else if (dim->log && !(dim->min > 0)) {
    text = "log needs a min above 0";
  } else if (field->type == RGM_INT &&
             (floor(dim->min) != dim->min || floor(dim->max) != dim->max)) {
    text = "the key is a whole number, so min and max are";
  }
  dim->whole = field->type == RGM_INT;
  return text == NULL ? RGM_OK : rgm_space_fail(space, dim, NULL, text);
}


// the values of a dimension one by one, all others as in the base
static rgm_status check_values(const rgm_space *space, int d) {
  const rgm_dimension *dim = &space->dims[d];
  const bool list = dim->values != NULL;
  char *values[RGM_MAX_DIMENSIONS] = {NULL}, number[CONFIG_NUMBER_SIZE], text[1024];
  for (int i = 0; i < (list ? dim->count : 2); i++) {
    rgm_config_write_number(i == 0 ? dim->min : dim->max, number);
    values[d] = list ? dim->values[i] : number;
    char *set = format_text("%s=%s", dim->key, values[d]);
    const char *sets[] = {set};
    rgm_config *config = NULL;
    rgm_run *run = NULL;
    rgm_status status = set == NULL ? rgm_config_no_memory()
                                    : rgm_config_parse("base", space->base, sets, 1, &config);
    if (status == RGM_OK) {
      status = rgm_run_read(config, false, &run);
    }
    rgm_run_free(run);
    free(set);
    if (status != RGM_OK) {
      inner_error(text, sizeof text);
      return rgm_space_fail(space, dim, NULL, text);
    }
  }
  return RGM_OK;
}


static rgm_status check_dimension(rgm_space *space, int d) {
  rgm_dimension *dim = &space->dims[d];
  const config_slot *slot = rgm_config_slot(space->config, dim->key);
  const bool ours = is_below(dim->key, "algorithm") || is_below(dim->key, "env");
  if (slot == NULL) {
    return unknown_key(space, dim, dim->key);
  }
  if (!ours || strcmp(slot->field->key, "name") == 0) {
    return rgm_space_fail(space, dim, NULL,
                          strcmp(dim->key, "run.seed") == 0
                              ? "seeds are not swept over: `seeds: N` runs every trial with N"
                              : "cannot be swept: keys of algorithm.* and env.* can, but for name");
  }
  if (dim->when_key != NULL && rgm_config_slot(space->config, dim->when_key) == NULL) {
    return unknown_key(space, dim, dim->when_key);
  }
  for (int k = d; k < space->dim_count && dim->when_key != NULL; k++) {
    if (strcmp(space->dims[k].key, dim->when_key) == 0) {
      return rgm_space_fail(space, dim, NULL, "its condition is about a key that stands below it");
    }
  }
  const bool single = strcmp(space->keys.pack, "one") == 0;
  if ((slot->field->flags & RGM_SHAPE) && (single || space->keys.scheduler == RGM_SCHEDULE_PBT)) {
    return rgm_space_fail(space, dim, NULL,
                          single ? "changes tensor shapes, so its trials cannot be one pack; use "
                                   "pack: auto, which makes groups"
                                 : "changes tensor shapes, so pbt cannot hand weights on; use "
                                   "another scheduler");
  }
  if (dim->values == NULL) {
    RGM_TRY(check_range(space, dim, slot->field));
  } else if (!isnan(dim->min) || !isnan(dim->max) || dim->log || dim->counted) {
    return rgm_space_fail(space, dim, NULL,
                          "a list of values and parts of a range (min, max, log, count); give one");
  }
  return check_values(space, d);
}


// ---- the whole ---------------------------------------------------------------------------------

static void write_texts(FILE *out, char *const *texts, int count) {
  fputc('[', out);
  for (int i = 0; i < count; i++) {
    fputs(i > 0 ? ", " : "", out);
    rgm_config_write_scalar(out, texts[i]);
  }
  fputc(']', out);
}


// the dimensions as lines of YAML
static void write_dimensions(const rgm_space *space, FILE *out) {
  for (int d = 0; d < space->dim_count; d++) {
    const rgm_dimension *dim = &space->dims[d];
    char low[CONFIG_NUMBER_SIZE], high[CONFIG_NUMBER_SIZE];
    fprintf(out, "  %s: {", dim->key);
    if (dim->values != NULL) {
      fputs("values: ", out);
      write_texts(out, dim->values, dim->count);
    } else {
      rgm_config_write_number(dim->min, low);
      rgm_config_write_number(dim->max, high);
      fprintf(out, "min: %s, max: %s, log: %s", low, high, dim->log ? "true" : "false");
      if (dim->count > 0) {
        fprintf(out, ", count: %d", dim->count);
      }
    }
    if (dim->when_key != NULL) {
      fprintf(out, ", when: {%s: ", dim->when_key);
      write_texts(out, dim->when, dim->when_count);
      fputc('}', out);
    }
    fputs("}\n", out);
  }
}


char *rgm_space_emit(const rgm_space *space) {
  char *text = NULL;
  size_t size = 0;
  FILE *out = open_memstream(&text, &size);
  if (out == NULL) {
    return NULL;
  }
  fprintf(out, "%s%s", space->base, space->section);
  write_dimensions(space, out);
  return rgm_config_close(out, &text) ? text : NULL;
}


// what decides the results: keys, dimensions, and the base with its seed and steps
static rgm_status digest(rgm_space *space, const char *section) {
  char *text = NULL, *base = rgm_config_emit(space->config, true);
  size_t size = 0;
  FILE *out = open_memstream(&text, &size);
  if (out == NULL || base == NULL) {
    free(base);
    return rgm_config_no_memory();
  }
  fprintf(out, "%s%sseed: %lld\nsteps: %lld\n", base, section, (long long)space->run->keys.seed,
          (long long)space->run->keys.steps);
  write_dimensions(space, out);
  free(base);
  if (!rgm_config_close(out, &text)) {
    return rgm_config_no_memory();
  }
  rgm_sha256_hex(text, size, space->digest);
  free(text);
  return RGM_OK;
}


static rgm_status check_points(rgm_space *space) {
  enum { CHECKED = 4096 };
  for (int64_t i = 0; i < space->points && i < CHECKED; i++) {
    char *values[RGM_MAX_DIMENSIONS] = {NULL}, text[1024];
    rgm_run *run = NULL;
    rgm_status status = rgm_space_point(space, i, values);
    if (status == RGM_OK) {
      status = rgm_space_member(space, i, values, &run);
    }
    rgm_run_free(run);
    for (int d = 0; d < space->dim_count; d++) {
      free(values[d]);
    }
    if (status != RGM_OK) {
      inner_error(text, sizeof text);
      return rgm_fail(status, "trial %lld of the sweep: %s", (long long)i, text);
    }
  }
  return RGM_OK;
}


rgm_status rgm_space_create(rgm_config *config, rgm_space **out) {
  rgm_space *space = *out = calloc(1, sizeof *space);
  if (space == NULL) {
    rgm_config_free(config);
    return rgm_config_no_memory();
  }
  space->config = config;
  if (!rgm_config_has_sweep(config)) {
    return rgm_fail(RGM_ECONFIG, "%s: no sweep section; `regimen train` runs it as it is",
                    config->source_count > 0 ? config->sources[0].name : "the command line");
  }
  RGM_TRY(check_words(space));
  RGM_TRY(rgm_config_read(config, "sweep", rgm_sweep_fields, &space->keys));
  char *section = rgm_config_emit(config, true);
  space->section = rgm_config_emit(config, false);
  rgm_status status =
      section != NULL && space->section != NULL ? read_dimensions(space) : rgm_config_no_memory();
  drop_section(config);

  // what is left is a run's config
  if (status == RGM_OK) {
    status = rgm_run_read(config, true, &space->run);
    space->config = space->run != NULL ? config : NULL;
  }
  if (status == RGM_OK) {
    space->base = rgm_config_emit(config, false);
    status = space->base != NULL ? RGM_OK : rgm_config_no_memory();
  }
  for (int d = 0; d < space->dim_count && status == RGM_OK; d++) {
    status = check_dimension(space, d);
  }
  if (status == RGM_OK) {
    status = rgm_space_count(space);
  }
  if (status == RGM_OK) {
    status = digest(space, section);
  }
  free(section);
  return status == RGM_OK ? check_points(space) : status;
}


void rgm_space_free(rgm_space *space) {
  if (space == NULL) {
    return;
  }
  for (int d = 0; d < space->dim_count; d++) {
    rgm_dimension *dim = &space->dims[d];
    free_texts(dim->values, dim->count);
    free_texts(dim->when, dim->when_count);
    free(dim->when_key);
  }
  if (space->run != NULL) {
    rgm_run_free(space->run); // with the config
  } else {
    rgm_config_free(space->config);
  }
  free(space->dims);
  free(space->places);
  free(space->base);
  free(space->section);
  free(space);
}
