// SPDX-License-Identifier: Apache-2.0
// Reading data sets, in the program itself: the prefix of our own files, then what the child
// (dataset_child.c) tells of table and rows, none of which is believed without a look.

#include "engine/dataset_private.h"

#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

struct rgm_dataset_stream {
  char *path;
  rgm_child child;
  rgm_dataset *table;
  int32_t *select; // (count)
  int count;
  int64_t most, at; // rows of a piece, next row
  unsigned char **data;
  unsigned char *answer; // one answer of the child
};


// ---- which file it is --------------------------------------------------------------------------

static bool is_hdf5(int fd) {
  static const unsigned char magic[] = {0x89, 'H', 'D', 'F', '\r', '\n', 0x1a, '\n'};
  unsigned char bytes[sizeof magic];
  // at the start or after a user block of 512, 1024, ... bytes
  for (off_t at = 0; at < (off_t)1 << 30; at = at == 0 ? 512 : 2 * at) {
    if (pread(fd, bytes, sizeof bytes, at) != (ssize_t)sizeof bytes) {
      return false;
    }
    if (memcmp(bytes, magic, sizeof magic) == 0) {
      return true;
    }
  }
  return false;
}


bool rgm_dataset_is_file(const char *path) {
  unsigned char prefix[RGM_PREFIX_SIZE];
  uint32_t schema = 0;
  const int fd = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
  const ssize_t n = fd < 0 ? -1 : pread(fd, prefix, sizeof prefix, 0);
  bool is = false;
  if (n > 0 && rgm_prefix_is_ours(prefix, (size_t)n, &schema)) {
    is = (schema & 0xffff0000u) == RGM_DATASET_MARK;
  } else if (n > 0) {
    is = is_hdf5(fd);
  }
  if (fd >= 0) {
    close(fd);
  }
  return is;
}


// Looks at an open file before any HDF5: *ours is told.
static rgm_status look(const char *path, int fd, bool *ours) {
  struct stat info;
  rgm_fault fault;
  if (fstat(fd, &info) != 0) {
    return rgm_cannot_read(path);
  }
  if (!S_ISREG(info.st_mode)) {
    return rgm_fail(RGM_EIO, "%s: not a regular file: check the path", path);
  }
  if (info.st_size == 0) {
    return rgm_fail(RGM_EDATA, "%s: the file is empty: import or copy it again", path);
  }
  RGM_TRY(rgm_durable_verify(path, fd, &fault));
  *ours = fault.ours;
  if (fault.text[0] != '\0') {
    return rgm_fail(RGM_EDATA, "%s: the file is damaged (%s): import or copy it again", path,
                    fault.text);
  }
  if (fault.ours && (fault.schema & 0xffff0000u) != RGM_DATASET_MARK) {
    return rgm_fail(RGM_EDATA, "%s: a checkpoint, not a data set: check the path", path);
  }
  if (fault.ours && (fault.schema & 0xffffu) != RGM_DATASET_SCHEMA) {
    return rgm_fail(RGM_EDATA,
                    "%s: a data set of another Regimen (schema %u, this program reads %d): import "
                    "the data again",
                    path, (unsigned)(fault.schema & 0xffffu), RGM_DATASET_SCHEMA);
  }
  if (!fault.ours && !is_hdf5(fd)) {
    return rgm_fail(RGM_EDATA,
                    "%s: not HDF5, so no data set (D4RL, Minari, d3rlpy and our own are): check "
                    "the path; tables come in through `regimen import`",
                    path);
  }
  return RGM_OK;
}


// ---- the table, as told ------------------------------------------------------------------------

static bool is_sound(const rgm_column *c) {
  return memchr(c->name, '\0', sizeof c->name) != NULL &&
         memchr(c->unit, '\0', sizeof c->unit) != NULL &&
         memchr(c->doc, '\0', sizeof c->doc) != NULL && memchr(c->of, '\0', sizeof c->of) != NULL &&
         (unsigned)c->role < RGM_ROLES && (unsigned)c->cell < RGM_CELLS;
}


static rgm_status nonsense(const rgm_dataset_stream *s) {
  return rgm_fail(RGM_EDATA,
                  "%s: the process that read it answered nonsense: the file is made to do harm; "
                  "nothing of it was used",
                  s->path);
}


// An error of the child becomes ours.
static rgm_status receive_error(rgm_dataset_stream *s, const rgm_answer *answer) {
  char text[2048] = "";
  const bool known = answer->status == RGM_EDATA || answer->status == RGM_EMEMORY ||
                     answer->status == RGM_EIO || answer->status == RGM_EINTERNAL;
  if (answer->bytes >= sizeof text) {
    return nonsense(s);
  }
  RGM_TRY(rgm_child_receive(&s->child, text, answer->bytes));
  return rgm_fail(known ? (rgm_status)answer->status : RGM_EDATA, "%s", text);
}


static rgm_status receive_notes(rgm_dataset_stream *s, int count) {
  for (int i = 0; i < count; i++) {
    char name[sizeof s->table->note->name];
    uint64_t length;
    RGM_TRY(rgm_child_receive(&s->child, name, sizeof name));
    RGM_TRY(rgm_child_receive(&s->child, &length, sizeof length));
    if (memchr(name, '\0', sizeof name) == NULL || length > RGM_MAX_NOTE_BYTES) {
      return nonsense(s);
    }
    char *text = calloc(1, length + 1);
    rgm_status status = text == NULL ? rgm_fail(RGM_EMEMORY, "%s: no memory to read it", s->path)
                                     : rgm_child_receive(&s->child, text, length);
    if (status == RGM_OK) {
      status = rgm_dataset_note(s->table, name, text);
    }
    free(text);
    RGM_TRY(status);
  }
  return RGM_OK;
}


static rgm_status receive_table(rgm_dataset_stream *s) {
  rgm_answer answer;
  rgm_dataset told;
  RGM_TRY(rgm_child_receive(&s->child, &answer, sizeof answer));
  if (answer.status != RGM_OK) {
    return receive_error(s, &answer);
  }
  if (answer.columns < 1 || answer.columns > RGM_MAX_COLUMNS || answer.notes < 0 ||
      answer.notes > RGM_MAX_NOTES || answer.rows < 0 || answer.rows > (int64_t)1 << 44) {
    return nonsense(s);
  }
  s->table = rgm_dataset_new(answer.rows);
  RGM_TRY(s->table == NULL ? RGM_EMEMORY : rgm_child_receive(&s->child, &told, sizeof told));
  told.format[sizeof told.format - 1] = '\0';
  told.digest[sizeof told.digest - 1] = '\0';
  snprintf(s->table->format, sizeof s->table->format, "%s", told.format);
  snprintf(s->table->digest, sizeof s->table->digest, "%s", told.digest);
  for (int i = 0; i < answer.columns; i++) {
    rgm_column *c = rgm_dataset_shape(s->table, "", RGM_ROLE_OTHER, RGM_CELL_U8, "");
    RGM_TRY(c == NULL ? RGM_EMEMORY : rgm_child_receive(&s->child, c, sizeof *c));
    c->data = NULL;
    if (!is_sound(c)) {
      return nonsense(s);
    }
  }
  return receive_notes(s, answer.notes);
}


// ---- streams -----------------------------------------------------------------------------------

rgm_status rgm_dataset_open(const char *path, rgm_dataset_stream **out) {
  *out = NULL;
  bool ours = false;
  const int fd = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
  if (fd < 0) {
    return rgm_cannot_read(path);
  }
  rgm_dataset_stream *s = calloc(1, sizeof *s);
  rgm_status status = s == NULL || (s->path = strdup(path)) == NULL
                          ? rgm_fail(RGM_EMEMORY, "%s: no memory to read it", path)
                          : look(path, fd, &ours);
  if (s != NULL) {
    s->child = (rgm_child){.pid = -1, .to = -1, .from = -1};
  }
  if (status == RGM_OK) {
    status = rgm_child_start(s->path, fd, ours, &s->child);
  }
  close(fd);
  if (status == RGM_OK) {
    status = receive_table(s);
  }
  if (status == RGM_OK) {
    status = rgm_dataset_select(s, NULL, 0, 65536);
  }
  if (status != RGM_OK) {
    rgm_dataset_close(s);
    return status;
  }
  *out = s;
  return RGM_OK;
}


const rgm_dataset *rgm_dataset_table(const rgm_dataset_stream *s) {
  return s->table;
}


static void free_pieces(rgm_dataset_stream *s) {
  for (int i = 0; s->data != NULL && i < s->count; i++) {
    free(s->data[i]);
  }
  free(s->data);
  free(s->select);
  free(s->answer);
  s->data = NULL;
  s->select = NULL;
  s->answer = NULL;
  s->count = 0;
}


rgm_status rgm_dataset_select(rgm_dataset_stream *s, const int *select, int count, int64_t most) {
  const int all = s->table->column_count;
  free_pieces(s);
  count = select == NULL ? all : count;
  if (count < 0 || count > all || most < 1) {
    return rgm_fail(RGM_EINTERNAL, "%s: %d of %d columns, %lld rows", s->path, count, all,
                    (long long)most);
  }
  s->select = calloc((size_t)count + 1, sizeof *s->select);
  s->data = calloc((size_t)count + 1, sizeof *s->data);
  s->answer = malloc((size_t)RGM_CHILD_PIECE << 20);
  s->at = 0;
  s->most = most < s->table->rows ? most : s->table->rows;
  bool ok = s->select != NULL && s->data != NULL && s->answer != NULL;
  for (int i = 0; ok && i < count; i++) {
    const int c = select == NULL ? i : select[i];
    if (c < 0 || c >= all) {
      return rgm_fail(RGM_EINTERNAL, "%s: no column %d", s->path, c);
    }
    s->select[i] = c;
    s->count = i + 1;
    s->data[i] = malloc((size_t)(s->most + 1) * rgm_cell_size(s->table->column[c].cell));
    ok = s->data[i] != NULL;
  }
  if (!ok) {
    return rgm_fail(RGM_EMEMORY, "%s: no memory for %lld rows of %d columns: take smaller pieces",
                    s->path, (long long)s->most, count);
  }
  const rgm_request request = {.first = count, .rows = -1};
  RGM_TRY(rgm_child_send(&s->child, &request, sizeof request));
  return rgm_child_send(&s->child, s->select, (size_t)count * sizeof *s->select);
}


// One answer: up to `rows` rows, which go into the pieces from row `at` of them on.
static rgm_status receive_rows(rgm_dataset_stream *s, int64_t first, int64_t at, int64_t *rows) {
  const rgm_request request = {.first = first, .rows = *rows};
  rgm_answer answer;
  RGM_TRY(rgm_child_send(&s->child, &request, sizeof request));
  RGM_TRY(rgm_child_receive(&s->child, &answer, sizeof answer));
  if (answer.status != RGM_OK) {
    return receive_error(s, &answer);
  }
  size_t row = 0;
  for (int i = 0; i < s->count; i++) {
    row += rgm_cell_size(s->table->column[s->select[i]].cell);
  }
  if (answer.rows < 1 || answer.rows > *rows || answer.bytes != (uint64_t)answer.rows * row ||
      answer.bytes > (uint64_t)RGM_CHILD_PIECE << 20) {
    return nonsense(s);
  }
  RGM_TRY(rgm_child_receive(&s->child, s->answer, answer.bytes));
  const unsigned char *from = s->answer;
  for (int i = 0; i < s->count; i++) {
    const size_t size = rgm_cell_size(s->table->column[s->select[i]].cell);
    memcpy(s->data[i] + (size_t)at * size, from, (size_t)answer.rows * size);
    from += (size_t)answer.rows * size;
  }
  *rows = answer.rows;
  return RGM_OK;
}


rgm_status rgm_dataset_next(rgm_dataset_stream *s, int64_t *first, int64_t *rows,
                            const void *const **data) {
  const int64_t left = s->table->rows - s->at, want = left < s->most ? left : s->most;
  *first = s->at;
  *rows = 0;
  *data = (const void *const *)s->data;
  while (*rows < want) {
    int64_t n = want - *rows;
    RGM_TRY(receive_rows(s, s->at, *rows, &n));
    *rows += n;
    s->at += n;
  }
  return RGM_OK;
}


void rgm_dataset_close(rgm_dataset_stream *s) {
  if (s == NULL) {
    return;
  }
  rgm_child_end(&s->child);
  free_pieces(s);
  rgm_dataset_free(s->table);
  free(s->path);
  free(s);
}


// ---- as a whole --------------------------------------------------------------------------------

// A file of a few bytes can hold a table of many: that there is room is asked before it is taken.
static rgm_status check_room(const rgm_dataset_stream *s) {
  double bytes = 0;
  for (int i = 0; i < s->table->column_count; i++) {
    bytes += (double)s->table->rows * (double)rgm_cell_size(s->table->column[i].cell);
  }
  const double machine = (double)sysconf(_SC_PHYS_PAGES) * (double)sysconf(_SC_PAGESIZE);
  if (bytes > 0.9 * machine) {
    return rgm_fail(RGM_EMEMORY,
                    "%s: a table of %.1f GiB does not fit into the machine's %.1f GiB: choose "
                    "fewer columns or another machine",
                    s->path, bytes / 0x1p30, machine / 0x1p30);
  }
  return RGM_OK;
}


static rgm_status read_rows(rgm_dataset_stream *s) {
  RGM_TRY(check_room(s));
  for (int i = 0; i < s->table->column_count; i++) {
    if (!rgm_column_allocate(&s->table->column[i], s->table->rows)) {
      return RGM_EMEMORY;
    }
  }
  const void *const *data;
  int64_t first, rows;
  do {
    RGM_TRY(rgm_dataset_next(s, &first, &rows, &data));
    for (int i = 0; i < s->table->column_count; i++) {
      rgm_column *c = &s->table->column[i];
      const size_t size = rgm_cell_size(c->cell);
      memcpy((char *)c->data + (size_t)first * size, data[i], (size_t)rows * size);
    }
  } while (rows > 0);
  return RGM_OK;
}


rgm_status rgm_dataset_read(const char *path, rgm_dataset **out) {
  rgm_dataset_stream *s;
  char told[65], digest[65];
  *out = NULL;
  RGM_TRY(rgm_dataset_open(path, &s));
  snprintf(told, sizeof told, "%s", s->table->digest);
  rgm_status status = read_rows(s);
  if (status == RGM_OK) {
    status = rgm_dataset_digest(s->table, digest);
  }
  if (status == RGM_OK && told[0] != '\0' && strcmp(told, digest) != 0) {
    status = rgm_fail(RGM_EDATA,
                      "%s: its values do not have the digest that it tells: not written "
                      "by Regimen; import the data again",
                      path);
  }
  if (status == RGM_OK) {
    *out = s->table;
    s->table = NULL;
  }
  // the pieces are sized by the table, which has gone
  if (s->table == NULL) {
    rgm_child_end(&s->child);
  }
  rgm_dataset_close(s);
  return status;
}
