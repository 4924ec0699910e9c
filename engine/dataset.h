// SPDX-License-Identifier: Apache-2.0
// Data sets of patients: a typed table of named columns, grouped by episode, its file, and readers
// of other programs' files. For the engine, algorithms and tests.
//
// A file is a prefix as of checkpoints (512 bytes, SHA-256 of all of it) and an HDF5 file:
//
//   /                 attributes kind "regimen dataset", schema, rows, digest
//   /table/NAME       (rows) one column; attributes index, role, unit, doc, of, low, high, choices,
//                     fill
//   /provenance/NAME  one text each
//   /observations     (rows, O) f32: columns of role state, age and missing, in their order
//   /actions          (rows, A) f32: columns of role action
//   /rewards          (rows) f32; /terminals, /timeouts (rows) u8
//   /next_observations (rows, O) f32, where there are columns of role next
//   /mdp              reserved for tabular problems
//
// The arrays outside /table repeat columns, so that programs made for D4RL files read ours.

#ifndef RGM_DATASET_H
#define RGM_DATASET_H

#include "engine/engine.h"


// ---- the table ---------------------------------------------------------------------------------

// What a column means. Of patient, episode, time, terminated, truncated, split and reward there is
// at most one.
typedef enum rgm_role {
  RGM_ROLE_OTHER,      // carried along, no part of the problem
  RGM_ROLE_PATIENT,    // 0..P-1, an index that says nothing about who it is
  RGM_ROLE_EPISODE,    // 0..E-1, ascending: the rows of an episode are neighbours
  RGM_ROLE_TIME,       // ascending within an episode
  RGM_ROLE_STATE,      // what the policy sees
  RGM_ROLE_AGE,        // time since column `of` was measured, seen too
  RGM_ROLE_MISSING,    // 1 where column `of` has no value (it is NaN there), else 0, seen too
  RGM_ROLE_ACTION,     // what was done; a bin 0..choices-1 where choices > 0
  RGM_ROLE_DOSE,       // what was given, in its unit; `of` names the action that stands for it
  RGM_ROLE_REWARD,     // of this row's action
  RGM_ROLE_OUTCOME,    // what became of the patient: nothing that a policy may see
  RGM_ROLE_NEXT,       // column `of` one step later, also after the last row
  RGM_ROLE_TERMINATED, // 1 where the episode ended by itself after this row, else 0
  RGM_ROLE_TRUNCATED,  // 1 where only the recording ended after this row, else 0
  RGM_ROLE_SPLIT,      // rgm_split, one for all rows of a patient
  RGM_ROLES,
} rgm_role;

typedef enum rgm_split { RGM_TRAIN, RGM_VALIDATION, RGM_TEST, RGM_SPLITS } rgm_split;

typedef enum rgm_cell {
  RGM_CELL_F32,
  RGM_CELL_F64,
  RGM_CELL_I32,
  RGM_CELL_I64,
  RGM_CELL_U8,
  RGM_CELLS
} rgm_cell;

enum {
  RGM_MAX_COLUMNS = 8192,
  RGM_MAX_NOTES = 1024,
  RGM_MAX_NOTE_BYTES = 1 << 20,
};

typedef struct rgm_column {
  char name[64]; // printable ASCII without '/'
  char unit[32]; // "s", "mg/h", "1" for a pure number, "" where it makes no sense
  char doc[256]; // one line
  char of[64];   // the column that an age, missing, next or dose column is about, or ""
  rgm_role role;
  rgm_cell cell;
  double low, high; // plausible values, inclusive; NaN: not known
  double fill;      // stands in /observations where the value is missing; NaN: NaN stands there
  int64_t choices;  // of an action that is a bin, else 0
  void *data;       // (rows) cells
} rgm_column;

// A line or a text about where the data come from: "source.LABEVENTS.sha256", "rules.sha256",
// "version", "commit", "licence".
typedef struct rgm_note {
  char name[64]; // printable ASCII without '/'
  char *text;
} rgm_note;

// A data set in memory. Owns its columns' data and its notes.
struct rgm_dataset {
  char format[16]; // "regimen", "d4rl", "minari", "d3rlpy", "csv"
  char digest[65]; // of the content; "" until written, read or asked for
  int64_t rows;
  int column_count;
  rgm_column *column;
  int note_count;
  rgm_note *note;
  int64_t first_row; // what check and messages call row 0: 0, in CSV files 2
};

const char *rgm_role_name(rgm_role role);    // "state"
const char *rgm_cell_name(rgm_cell cell);    // "f32"
const char *rgm_split_name(rgm_split split); // "train"
size_t rgm_cell_size(rgm_cell cell);

// An empty data set of so many rows; NULL where memory is short. Free with rgm_dataset_free.
rgm_dataset *rgm_dataset_new(int64_t rows);
void rgm_dataset_free(rgm_dataset *d);

// Adds a column of zeros and returns it, to be filled; NULL where memory is short or there are too
// many (rgm_last_error tells). The pointer holds until the next column is added, its data as long
// as the data set. Range, fill and choices are unknown at first, doc and of empty.
rgm_column *rgm_dataset_add(rgm_dataset *d, const char *name, rgm_role role, rgm_cell cell,
                            const char *unit);

// Adds a note; text is copied. A note of that name is replaced.
rgm_status rgm_dataset_note(rgm_dataset *d, const char *name, const char *text);
const char *rgm_dataset_note_text(const rgm_dataset *d, const char *name); // or NULL

// The index of a column by name, or of the first one of a role; -1 where there is none.
int rgm_dataset_find(const rgm_dataset *d, const char *name);
int rgm_dataset_role(const rgm_dataset *d, rgm_role role);

// One cell as a double, and back (rounded for integers).
double rgm_cell_get(const rgm_column *c, int64_t row);
void rgm_cell_set(rgm_column *c, int64_t row, double value);

// How many columns have one of `roles` (bits 1 << role); their values row by row into out (rows,
// n), in the order of the columns. Missing values become the column's `fill`.
enum { RGM_SEEN = 1 << RGM_ROLE_STATE | 1 << RGM_ROLE_AGE | 1 << RGM_ROLE_MISSING };
int rgm_dataset_width(const rgm_dataset *d, unsigned roles);
void rgm_dataset_matrix(const rgm_dataset *d, unsigned roles, float *out);

// The first row of every episode and, at the end, the number of rows: (episodes + 1), to be freed.
// NULL where memory is short. An episode is a run of rows with one episode number; without such a
// column, all rows are one.
int64_t *rgm_dataset_episodes(const rgm_dataset *d, int64_t *episodes);

// Sets the split column (made where there is none) by patient: each patient's part follows from
// seed and patient number alone. `validation` and `test` are shares of 1. RGM_EDATA without a
// patient column.
rgm_status rgm_dataset_split(rgm_dataset *d, uint64_t seed, double validation, double test);

// Hex SHA-256 over rows and, column by column, name, role, unit, type and values (little-endian,
// every NaN as one). Doc, range and notes lie outside. Sets d->digest too; RGM_EMEMORY.
rgm_status rgm_dataset_digest(rgm_dataset *d, char hex[65]);


// ---- writing -----------------------------------------------------------------------------------

// Writes a data set from memory: mode 0600, so that a reader sees the old file or the whole new one
// (see rgm_checkpoint_write). Sets d->digest. Errors: RGM_EINTERNAL names what is wrong with the
// table (names, roles that are there twice, `of` without its column), RGM_EIO, RGM_EMEMORY.
rgm_status rgm_dataset_write(const char *path, rgm_dataset *d);

// The same piece by piece, for more than fits into memory: `shape` gives columns (data unused) and
// notes, and is not kept. Every piece has all columns: data[c] points at `rows` cells of column c.
// commit puts the file in its place, and gives the digest; drop leaves no file. Both end the
// writer; after an error of append, drop it.
typedef struct rgm_dataset_writer rgm_dataset_writer;
rgm_status rgm_dataset_create(const char *path, const rgm_dataset *shape, rgm_dataset_writer **out);
rgm_status rgm_dataset_append(rgm_dataset_writer *w, int64_t rows, const void *const *data);
rgm_status rgm_dataset_commit(rgm_dataset_writer *w, char digest[65]);
void rgm_dataset_drop(rgm_dataset_writer *w);


// ---- reading -----------------------------------------------------------------------------------

// Reads a data set as a whole: our own file, or one of D4RL, Minari (main_data.hdf5) or d3rlpy 2.
// HDF5 runs in a child process with limits on memory, time and files, which refuses what a data set
// does not need (links out of the file, virtual or external storage, unknown filters, shapes larger
// than the file, ...), each by name. Errors: RGM_EDATA, RGM_EIO, RGM_EMEMORY.
rgm_status rgm_dataset_read(const char *path, rgm_dataset **out);

// The same piece by piece. `table` has columns (data NULL), notes, rows; it stays the stream's.
// `select` chooses columns by index, in any order; NULL: all. Each call of next gives up to `most`
// rows: *rows of them from row *first on, data[k] the cells of the k-th chosen column, valid until
// the next call; *rows is 0 after the last. Memory: most x cells of the chosen columns, twice.
typedef struct rgm_dataset_stream rgm_dataset_stream;
rgm_status rgm_dataset_open(const char *path, rgm_dataset_stream **out);
const rgm_dataset *rgm_dataset_table(const rgm_dataset_stream *s);
rgm_status rgm_dataset_select(rgm_dataset_stream *s, const int *select, int count, int64_t most);
rgm_status rgm_dataset_next(rgm_dataset_stream *s, int64_t *first, int64_t *rows,
                            const void *const **data);
void rgm_dataset_close(rgm_dataset_stream *s);

// True where a file begins as an HDF5 file or as a data set of ours (not a checkpoint).
bool rgm_dataset_is_file(const char *path);


// ---- checking ----------------------------------------------------------------------------------

typedef enum rgm_severity { RGM_HINT, RGM_WARNING, RGM_ERROR } rgm_severity;

// One defect: where it was seen first and in how many rows. Kind and text are constant.
typedef struct rgm_finding {
  const char *kind; // "time_unsorted"
  const char *text; // "time goes back within an episode; sort the rows of each episode by time"
  rgm_severity severity;
  int64_t row; // first one, -1 where no row is meant
  int column;  // -1 where no column is meant
  int64_t count;
} rgm_finding;

// Looks for every kind of defect. *out (to be freed) gets what was found, in the order of the table
// of checks. RGM_EMEMORY.
rgm_status rgm_dataset_check(const rgm_dataset *d, rgm_finding **out, int *count);

// The kinds of defects that there are, ended by NULL.
const char *const *rgm_dataset_kinds(void);

// A CSV table of numbers as columns of role other, format "csv"; and whether a path names one.
rgm_status rgm_dataset_from_csv(const char *path, rgm_dataset **out);
bool rgm_dataset_is_table(const char *path);

// `regimen info` and `check` of a data set; check also of a CSV table. check gives RGM_EDATA
// where it found errors.
rgm_status rgm_dataset_info(const char *path, bool json, FILE *out);
rgm_status rgm_dataset_report(const char *path, bool json, bool show_values, FILE *out);

#endif
