// SPDX-License-Identifier: Apache-2.0
// Which format a foreign HDF5 file has, and its arrays as columns of a table. Runs in the child
// (dataset_child.c). D4RL keeps all rows in one array each; Minari (main_data.hdf5) a group
// "episode_N" and d3rlpy 2 a suffix "_N" per episode.
//
// terminated and truncated stay two flags: D4RL's terminals and timeouts, Minari's terminations and
// truncations, d3rlpy's `terminated` of an episode, whose last row is truncated otherwise.

#include "engine/dataset_format.h"

#include <stdlib.h>
#include <string.h>

enum { CACHES = 128 << 20, BUFFER = RGM_CHILD_PIECE << 20, MOST_EPISODES = 1 << 24 };


// ---- the map from columns to arrays ------------------------------------------------------------

static rgm_status no_memory(const rgm_source *s) {
  return rgm_fail(RGM_EMEMORY, "%s: no memory to read it", s->in.path);
}


int rgm_source_array(rgm_source *s, const char *name, int shift) {
  rgm_source_part *more = realloc(s->part, ((size_t)s->parts + 1) * sizeof *more);
  if (more == NULL) {
    no_memory(s);
    return -1;
  }
  s->part = more;
  s->part[s->parts] = (rgm_source_part){.id = -1, .shift = shift};
  snprintf(s->part[s->parts].name, sizeof s->part->name, "%s", name);
  return s->parts++;
}


rgm_column *rgm_source_column(rgm_source *s, const char *name, rgm_role role, rgm_cell cell,
                              rgm_origin origin) {
  rgm_origin *more = realloc(s->origin, ((size_t)s->table->column_count + 1) * sizeof *s->origin);
  if (more == NULL) {
    no_memory(s);
    return NULL;
  }
  s->origin = more;
  rgm_column *c = rgm_dataset_shape(s->table, name, role, cell, "");
  if (c != NULL) {
    s->origin[s->table->column_count - 1] = origin;
  }
  return c;
}


// Columns NAME_0, NAME_1, ... of an array, or NAME alone.
static rgm_status add_columns(rgm_source *s, int part, const char *name, rgm_role role,
                              bool numbered) {
  char text[64], of[64];
  const rgm_array *a = &s->part[part].array;
  for (int64_t k = 0; k < a->width; k++) {
    snprintf(text, sizeof text, numbered ? "%s_%lld" : "%s", name, (long long)k);
    rgm_column *c = rgm_source_column(
        s, text, role, a->cell, (rgm_origin){.kind = RGM_FROM_ARRAY, .part = part, .element = k});
    if (c == NULL) {
      return RGM_EMEMORY;
    }
    if (role == RGM_ROLE_NEXT) {
      snprintf(of, sizeof of, "observation_%lld", (long long)k);
      memcpy(c->of, of, sizeof of);
    }
  }
  return RGM_OK;
}


// Where an array of an episode lies.
static void path_of(const rgm_source *s, const rgm_source_part *p, int64_t episode,
                    char path[256]) {
  if (s->format == RGM_FORMAT_MINARI) {
    snprintf(path, 256, "episode_%lld/%s", (long long)episode, p->name);
  } else if (s->format == RGM_FORMAT_D3RLPY) {
    snprintf(path, 256, "%s_%lld", p->name, (long long)episode);
  } else if (s->format == RGM_FORMAT_OWN) {
    snprintf(path, 256, "table/%s", p->name);
  } else {
    snprintf(path, 256, "%s", p->name);
  }
}


static rgm_status open_part(rgm_source *s, int part, int64_t episode, size_t cached,
                            rgm_array *array, hid_t *id) {
  char path[256];
  path_of(s, &s->part[part], episode, path);
  return rgm_array_open(&s->in, path, cached, array, id);
}


// Opens an array that all rows lie in, and keeps it open with a cache for one row of chunks as long
// as all caches together stay small.
rgm_status rgm_source_open_whole(rgm_source *s, int part) {
  rgm_source_part *p = &s->part[part];
  hid_t id;
  RGM_TRY(open_part(s, part, 0, 0, &p->array, &id));
  rgm_hdf5_drop(id);
  if (s->caches + p->array.band <= CACHES && s->kept < 4096) {
    RGM_TRY(open_part(s, part, 0, p->array.band, &p->array, &p->id));
    s->caches += p->array.band;
    s->kept++;
  }
  return RGM_OK;
}


// ---- D4RL --------------------------------------------------------------------------------------

// Where episodes begin, from the flags of all rows.
static rgm_status find_episodes(rgm_source *s, int terminals, int timeouts) {
  enum { BLOCK = 65536 };
  const int64_t rows = s->table->rows;
  int64_t room = 1024;
  double *flag = malloc(2 * BLOCK * sizeof *flag);
  s->start = malloc((size_t)room * sizeof *s->start);
  rgm_status status = flag == NULL || s->start == NULL ? no_memory(s) : RGM_OK;
  bool begins = true;
  for (int64_t r = 0; r < rows && status == RGM_OK; r += BLOCK) {
    const int64_t n = rows - r < BLOCK ? rows - r : BLOCK;

    memset(flag, 0, 2 * BLOCK * sizeof *flag);
    status = rgm_source_flags(s, terminals, r, n, flag);
    if (status == RGM_OK && timeouts >= 0) {
      status = rgm_source_flags(s, timeouts, r, n, flag);
    }
    for (int64_t i = 0; i < n && status == RGM_OK; i++) {
      if (begins && s->episodes + 2 > room) {
        room *= 2;
        int64_t *more = realloc(s->start, (size_t)room * sizeof *more);
        status = more == NULL ? no_memory(s) : RGM_OK;
        s->start = more == NULL ? s->start : more;
      }
      if (begins && status == RGM_OK) {
        s->start[s->episodes++] = r + i;
      }
      begins = flag[i] != 0.0;
    }
  }
  free(flag);
  if (status == RGM_OK) {
    s->start[s->episodes] = rows;
  }
  return status;
}


rgm_status rgm_source_flags(rgm_source *s, int part, int64_t first, int64_t rows, double *sum) {
  const rgm_source_part *p = &s->part[part];
  rgm_column c = {.cell = p->array.cell, .data = s->buffer};
  hid_t id = p->id;
  rgm_array array = p->array;
  if (id < 0) {
    RGM_TRY(open_part(s, part, 0, p->array.band, &array, &id));
  }
  const rgm_status status = rgm_array_read(&s->in, p->name, &array, id, first, rows, s->buffer);
  for (int64_t i = 0; i < rows && status == RGM_OK; i++) {
    sum[i] += rgm_cell_get(&c, i) != 0.0;
  }
  if (p->id < 0) {
    rgm_hdf5_drop(id);
  }
  return status;
}


// The columns that every foreign table gets before its own.
static rgm_status add_index_columns(rgm_source *s) {
  static const struct {
    const char *name, *doc;
    rgm_role role;
    rgm_from from;
  } index[] = {
      {"patient", "the episode: the file knows no patients", RGM_ROLE_PATIENT, RGM_FROM_EPISODE},
      {"episode", "number of the episode", RGM_ROLE_EPISODE, RGM_FROM_EPISODE},
      {"time", "step within the episode", RGM_ROLE_TIME, RGM_FROM_STEP}};
  for (int i = 0; i < 3; i++) {
    rgm_column *c = rgm_source_column(s, index[i].name, index[i].role, RGM_CELL_I32,
                                      (rgm_origin){.kind = index[i].from});
    if (c == NULL) {
      return RGM_EMEMORY;
    }
    snprintf(c->doc, sizeof c->doc, "%s", index[i].doc);
    snprintf(c->unit, sizeof c->unit, "%s", index[i].role == RGM_ROLE_TIME ? "step" : "");
  }
  return RGM_OK;
}


static rgm_status same_rows(const rgm_source *s, const char *name, int64_t rows, int64_t want,
                            const char *like) {
  if (rows == want) {
    return RGM_OK;
  }
  return rgm_fail(RGM_EDATA, "%s: %s has %lld rows where %s asks for %lld", s->in.path, name,
                  (long long)rows, like, (long long)want);
}


static rgm_status open_d4rl(rgm_source *s) {
  static const struct {
    const char *array, *column;
    rgm_role role;
    bool needed, numbered;
  } arrays[] = {{"rewards", "reward", RGM_ROLE_REWARD, true, false},
                {"observations", "observation", RGM_ROLE_STATE, true, true},
                {"actions", "action", RGM_ROLE_ACTION, true, true},
                {"next_observations", "next_observation", RGM_ROLE_NEXT, false, true},
                {"terminals", "terminated", RGM_ROLE_TERMINATED, true, false},
                {"timeouts", "truncated", RGM_ROLE_TRUNCATED, false, false}};
  enum { COUNT = sizeof arrays / sizeof *arrays };
  int flag[2] = {-1, -1};
  RGM_TRY(add_index_columns(s));
  for (int i = 0; i < COUNT; i++) {
    bool has;
    RGM_TRY(rgm_input_has(&s->in, arrays[i].array, &has));
    if (!has && !arrays[i].needed) {
      continue;
    }
    const int part = rgm_source_array(s, arrays[i].array, 0);
    if (part < 0) {
      return RGM_EMEMORY;
    }
    RGM_TRY(rgm_source_open_whole(s, part));
    const rgm_array *a = &s->part[part].array;
    s->table->rows = i == 0 ? a->rows : s->table->rows;
    RGM_TRY(same_rows(s, arrays[i].array, a->rows, s->table->rows, "rewards"));
    if (!arrays[i].numbered && a->width != 1) {
      return rgm_input_refuse(&s->in, arrays[i].array, "more than one number a row");
    }
    if (arrays[i].role == RGM_ROLE_NEXT && a->width != s->part[1].array.width) {
      return rgm_input_refuse(&s->in, arrays[i].array, "has another width than observations");
    }
    RGM_TRY(add_columns(s, part, arrays[i].column, arrays[i].role, arrays[i].numbered));
    if (i >= COUNT - 2) {
      flag[i - (COUNT - 2)] = part;
    }
  }
  if (flag[1] < 0 && rgm_source_column(s, "truncated", RGM_ROLE_TRUNCATED, RGM_CELL_U8,
                                       (rgm_origin){.kind = RGM_FROM_NOTHING}) == NULL) {
    return RGM_EMEMORY;
  }
  return find_episodes(s, flag[0], flag[1]);
}


// ---- Minari and d3rlpy: an array per episode ---------------------------------------------------

// An episode's array must be as that of the first episode, but for its rows.
static rgm_status look_at_episode(rgm_source *s, int part, int64_t episode, int64_t *rows) {
  rgm_source_part *p = &s->part[part];
  rgm_array array;
  hid_t id;
  RGM_TRY(open_part(s, part, episode, 0, &array, &id));
  rgm_hdf5_drop(id);
  if (episode == 0) {
    p->array = array;
  } else if (array.width != p->array.width || array.cell != p->array.cell) {
    char path[256];
    path_of(s, p, episode, path);
    return rgm_input_refuse(&s->in, path, "has another width or type than in episode 0");
  }
  *rows = array.rows;
  return RGM_OK;
}


// Episodes are 0..E-1 without a gap; `head` begins the name of each.
typedef struct counter {
  const char *head;
  int64_t count;
} counter;


static herr_t count_link(hid_t group, const char *name, const H5L_info_t *info, void *data) {
  (void)group, (void)info;
  counter *c = data;
  const size_t length = strlen(c->head);
  const bool fits = strncmp(name, c->head, length) == 0 && name[length] != '\0' &&
                    strspn(name + length, "0123456789") == strlen(name + length);
  c->count += fits;
  return c->count > MOST_EPISODES ? -1 : 0;
}


static rgm_status count_episodes(rgm_source *s, const char *head) {
  counter c = {.head = head};
  if (H5Literate(s->in.file, H5_INDEX_NAME, H5_ITER_NATIVE, NULL, count_link, &c) < 0) {
    return rgm_input_refuse(&s->in, "/", "cannot be listed, or holds too many episodes");
  }
  s->episodes = c.count;
  s->start = calloc((size_t)c.count + 1, sizeof *s->start);
  return s->start == NULL ? no_memory(s) : RGM_OK;
}


// The rows of every episode: from its rewards; the other arrays must fit, observations of Minari
// having one more.
static rgm_status look_at_episodes(rgm_source *s) {
  for (int64_t e = 0; e < s->episodes; e++) {
    int64_t want = 0;
    for (int i = 0; i < s->parts; i++) {
      const rgm_source_part *p = &s->part[i];
      int64_t rows = 0;
      char path[256];
      path_of(s, p, e, path);
      RGM_TRY(look_at_episode(s, i, e, &rows));
      want = i == 0 ? rows : want;
      const bool scalar = s->format == RGM_FORMAT_D3RLPY && strcmp(p->name, "terminated") == 0;
      const bool longer = s->format == RGM_FORMAT_MINARI && strcmp(p->name, "observations") == 0;
      RGM_TRY(same_rows(s, path, rows, scalar ? 1 : want + longer,
                        scalar ? "one flag" : "the array of rewards"));
    }
    s->start[e + 1] = s->start[e] + want;
  }
  s->table->rows = s->start[s->episodes];
  return RGM_OK;
}


static rgm_status open_minari(rgm_source *s) {
  static const char *const names[] = {"rewards", "observations", "observations",
                                      "actions", "terminations", "truncations"};
  RGM_TRY(count_episodes(s, "episode_"));
  for (int i = 0; i < 6; i++) {
    if (rgm_source_array(s, names[i], i == 2) < 0) {
      return RGM_EMEMORY;
    }
  }
  RGM_TRY(look_at_episodes(s));
  RGM_TRY(add_index_columns(s));
  RGM_TRY(add_columns(s, 1, "observation", RGM_ROLE_STATE, true));
  RGM_TRY(add_columns(s, 3, "action", RGM_ROLE_ACTION, true));
  RGM_TRY(add_columns(s, 0, "reward", RGM_ROLE_REWARD, s->part[0].array.width > 1));
  RGM_TRY(add_columns(s, 2, "next_observation", RGM_ROLE_NEXT, true));
  RGM_TRY(add_columns(s, 4, "terminated", RGM_ROLE_TERMINATED, s->part[4].array.width > 1));
  return add_columns(s, 5, "truncated", RGM_ROLE_TRUNCATED, s->part[5].array.width > 1);
}


static rgm_status read_scalar(rgm_source *s, const char *name, double *value) {
  rgm_array array;
  hid_t id;
  RGM_TRY(rgm_array_open(&s->in, name, 0, &array, &id));
  rgm_column c = {.cell = array.cell, .data = s->buffer};
  rgm_status status = array.rows != 1 || array.width != 1
                          ? rgm_input_refuse(&s->in, name, "is not one number")
                          : rgm_array_read(&s->in, name, &array, id, 0, 1, s->buffer);
  rgm_hdf5_drop(id);
  *value = status == RGM_OK ? rgm_cell_get(&c, 0) : 0.0;
  return status;
}


static rgm_status open_d3rlpy(rgm_source *s) {
  static const char *const names[] = {"rewards", "observations", "actions", "terminated"};
  double told;
  RGM_TRY(read_scalar(s, "num_episodes", &told));
  RGM_TRY(count_episodes(s, "observations_"));
  if (told != (double)s->episodes) {
    return rgm_input_refuse(&s->in, "num_episodes", "is not the number of episodes in the file");
  }
  for (int i = 0; i < 4; i++) {
    if (rgm_source_array(s, names[i], 0) < 0) {
      return RGM_EMEMORY;
    }
  }
  RGM_TRY(look_at_episodes(s));

  // what becomes of each episode is one flag
  s->flag = calloc((size_t)s->episodes + 1, 1);
  if (s->flag == NULL) {
    return no_memory(s);
  }
  for (int64_t e = 0; e < s->episodes; e++) {
    char path[256];
    double flag;
    path_of(s, &s->part[3], e, path);
    RGM_TRY(read_scalar(s, path, &flag));
    s->flag[e] = flag != 0.0;
  }
  RGM_TRY(add_index_columns(s));
  RGM_TRY(add_columns(s, 1, "observation", RGM_ROLE_STATE, true));
  RGM_TRY(add_columns(s, 2, "action", RGM_ROLE_ACTION, true));
  RGM_TRY(add_columns(s, 0, "reward", RGM_ROLE_REWARD, s->part[0].array.width > 1));
  const bool ok = rgm_source_column(s, "terminated", RGM_ROLE_TERMINATED, RGM_CELL_U8,
                                    (rgm_origin){.kind = RGM_FROM_ENDED}) != NULL &&
                  rgm_source_column(s, "truncated", RGM_ROLE_TRUNCATED, RGM_CELL_U8,
                                    (rgm_origin){.kind = RGM_FROM_CUT}) != NULL;
  return ok ? RGM_OK : RGM_EMEMORY;
}


// ---- opening -----------------------------------------------------------------------------------

static rgm_status recognise(rgm_source *s, bool ours) {
  static const struct {
    const char *name, *format;
    rgm_format id;
    rgm_status (*open)(rgm_source *s);
  } formats[] = {{"episode_0", "minari", RGM_FORMAT_MINARI, open_minari},
                 {"observations_0", "d3rlpy", RGM_FORMAT_D3RLPY, open_d3rlpy},
                 {"observations", "d4rl", RGM_FORMAT_D4RL, open_d4rl}};
  RGM_TRY(rgm_input_attributes(&s->in, "/"));
  if (ours) {
    s->format = RGM_FORMAT_OWN;
    return rgm_source_open_own(s);
  }
  for (int i = 0; i < 3; i++) {
    bool has;
    RGM_TRY(rgm_input_has(&s->in, formats[i].name, &has));
    if (has) {
      snprintf(s->table->format, sizeof s->table->format, "%s", formats[i].format);
      s->format = formats[i].id;
      return formats[i].open(s);
    }
  }
  return rgm_fail(RGM_EDATA,
                  "%s: HDF5, but no data set that is known: neither observations (D4RL), nor "
                  "episode_0 (Minari), nor observations_0 (d3rlpy 2) is in it",
                  s->in.path);
}


rgm_status rgm_source_open(const char *path, int fd, bool ours, rgm_source **out) {
  // the very file that was looked at, whatever its name stands for by now
  char name[64];
  snprintf(name, sizeof name, "/proc/self/fd/%d", fd);
  rgm_source *s = calloc(1, sizeof *s);
  if (s == NULL) {
    return rgm_fail(RGM_EMEMORY, "%s: no memory to read it", path);
  }
  *out = s; // the process ends when it is done: nothing is freed
  s->in.path = path;
  s->in.size = (uint64_t)lseek(fd, 0, SEEK_END);
  s->buffer = malloc(BUFFER);
  s->table = rgm_dataset_new(0);
  if (s->buffer == NULL || s->table == NULL) {
    return no_memory(s);
  }
  rgm_hdf5_begin(&s->in.why);
  hid_t access = H5Pcreate(H5P_FILE_ACCESS);
  H5Pset_file_locking(access, false, true);
  s->in.file = H5Fopen(name, H5F_ACC_RDONLY, access);
  if (s->in.file < 0) {
    return rgm_input_refuse(&s->in, "the file", "HDF5 cannot open it: it is damaged or cut off");
  }
  return recognise(s, ours);
}


const rgm_dataset *rgm_source_table(const rgm_source *s) {
  return s->table;
}


// ---- rows --------------------------------------------------------------------------------------

static int64_t episode_of(const rgm_source *s, int64_t row) {
  int64_t low = 0, high = s->episodes;
  while (high - low > 1) {
    const int64_t middle = low + (high - low) / 2;
    *(s->start[middle] <= row ? &low : &high) = middle;
  }
  return low;
}


// A column that no array holds.
static void fill_column(const rgm_source *s, rgm_from from, int64_t first, int64_t rows,
                        rgm_column *c) {
  int64_t e = episode_of(s, first);
  for (int64_t i = 0; i < rows; i++) {
    const int64_t row = first + i;
    while (row >= s->start[e + 1]) {
      e++;
    }
    const bool last = row == s->start[e + 1] - 1;
    const double value = from == RGM_FROM_EPISODE ? (double)e
                         : from == RGM_FROM_STEP  ? (double)(row - s->start[e])
                         : from == RGM_FROM_ENDED ? last && s->flag[e]
                         : from == RGM_FROM_CUT   ? last && !s->flag[e]
                                                  : 0.0;
    rgm_cell_set(c, i, value);
  }
}


// The chosen columns of one array into their places in `out`.
static rgm_status read_part(rgm_source *s, int part, int64_t episode, const int32_t *select,
                            int count, int64_t first, int64_t rows, unsigned char *out) {
  rgm_source_part *p = &s->part[part];
  rgm_array array = p->array;
  hid_t id = p->id;
  const bool per_episode = s->format == RGM_FORMAT_MINARI || s->format == RGM_FORMAT_D3RLPY;
  const int64_t at = per_episode ? first - s->start[episode] + p->shift : first;
  if (id < 0) {
    RGM_TRY(open_part(s, part, episode, 0, &array, &id));
  }
  const rgm_status status = rgm_array_read(&s->in, p->name, &array, id, at, rows, s->buffer);
  if (p->id < 0) {
    rgm_hdf5_drop(id);
  }
  RGM_TRY(status);
  const size_t size = rgm_cell_size(array.cell);
  for (int k = 0; k < count; k++) {
    const rgm_origin *o = &s->origin[select[k]];
    if (o->kind == RGM_FROM_ARRAY && o->part == part) {
      const unsigned char *from = s->buffer + (size_t)o->element * size;
      for (int64_t i = 0; i < rows; i++) {
        memcpy(out + (size_t)i * size, from + (size_t)(i * array.width) * size, size);
      }
    }
    out += (size_t)rows * rgm_cell_size(s->table->column[select[k]].cell);
  }
  return RGM_OK;
}


// How many of the rows one answer can hold; not across episodes where each has arrays of its own.
static int64_t fit(const rgm_source *s, const int32_t *select, int count, int64_t episode,
                   int64_t first, int64_t rows) {
  size_t bytes = 1;
  int64_t chunk = 0;
  for (int k = 0; k < count; k++) {
    const rgm_origin *o = &s->origin[select[k]];
    bytes += rgm_cell_size(s->table->column[select[k]].cell);
    if (o->kind == RGM_FROM_ARRAY) {
      const rgm_array *a = &s->part[o->part].array;
      const size_t row = (size_t)a->width * rgm_cell_size(a->cell);
      rows = rows > (int64_t)(BUFFER / row) ? (int64_t)(BUFFER / row) : rows;
      chunk = s->part[o->part].id < 0 && a->chunk_rows > chunk ? a->chunk_rows : chunk;
    }
  }
  rows = rows > (int64_t)(BUFFER / bytes) ? (int64_t)(BUFFER / bytes) : rows;
  if (s->format == RGM_FORMAT_MINARI || s->format == RGM_FORMAT_D3RLPY) {
    const int64_t left = s->start[episode + 1] - first;
    return rows < left ? rows : left;
  }
  // chunks that no cache keeps are read as a whole
  const int64_t tail = chunk > 0 ? (first + rows) % chunk : 0;
  return tail > 0 && tail < rows ? rows - tail : rows;
}


rgm_status rgm_source_read(rgm_source *s, const int32_t *select, int count, int64_t first,
                           int64_t *rows, unsigned char *out) {
  const bool foreign = s->format != RGM_FORMAT_OWN;
  const int64_t episode = foreign && s->episodes > 0 ? episode_of(s, first) : 0;
  *rows = fit(s, select, count, episode, first, *rows);
  for (int part = 0; part < s->parts; part++) {
    bool wanted = false;
    for (int k = 0; k < count; k++) {
      const rgm_origin *o = &s->origin[select[k]];
      wanted = wanted || (o->kind == RGM_FROM_ARRAY && o->part == part);
    }
    if (wanted) {
      RGM_TRY(read_part(s, part, episode, select, count, first, *rows, out));
    }
  }
  for (int k = 0; k < count; k++) {
    rgm_column c = s->table->column[select[k]];
    const rgm_origin *o = &s->origin[select[k]];
    c.data = out;
    if (o->kind != RGM_FROM_ARRAY) {
      fill_column(s, o->kind, first, *rows, &c);
    }
    out += (size_t)*rows * rgm_cell_size(c.cell);
  }
  return RGM_OK;
}
