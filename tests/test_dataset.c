// SPDX-License-Identifier: Apache-2.0
// Data sets: our file round, whole and in pieces, as other programs see it; D4RL, Minari and d3rlpy
// files; splits, digests, info and check from the command line.

#include "engine/dataset.h"
#include "tests/dataset_files.h"

#include <math.h>
#include <sys/wait.h>

TestSuite(dataset, .timeout = 120, .init = make_folder, .fini = remove_folder);


static rgm_dataset *read_it(const char *path) {
  rgm_dataset *d = NULL;
  cr_assert_eq(rgm_dataset_read(path, &d), RGM_OK, "%s", rgm_last_error());
  return d;
}


static double cell(const rgm_dataset *d, const char *name, int64_t row) {
  const int c = rgm_dataset_find(d, name);
  cr_assert(c >= 0, "%s", name);
  return rgm_cell_get(&d->column[c], row);
}


static void expect_same(const rgm_dataset *a, const rgm_dataset *b) {
  cr_assert_eq(a->rows, b->rows);
  cr_assert_eq(a->column_count, b->column_count);
  for (int i = 0; i < a->column_count; i++) {
    const rgm_column *p = &a->column[i], *q = &b->column[i];
    cr_expect_str_eq(p->name, q->name);
    cr_expect_str_eq(p->unit, q->unit);
    cr_expect_str_eq(p->doc, q->doc);
    cr_expect_str_eq(p->of, q->of);
    cr_expect(p->role == q->role && p->cell == q->cell && p->choices == q->choices);
    cr_expect(memcmp(&p->low, &q->low, 3 * sizeof(double)) == 0, "range of %s", p->name);
    cr_expect(memcmp(p->data, q->data, (size_t)a->rows * rgm_cell_size(p->cell)) == 0, "%s",
              p->name);
  }
  cr_expect_eq(a->note_count, b->note_count);
  for (int i = 0; i < a->note_count; i++) {
    cr_expect_str_eq(rgm_dataset_note_text(b, a->note[i].name), a->note[i].text);
  }
}


Test(dataset, comes_back_as_it_was) {
  static const int64_t sizes[] = {1, 39, 200, 16384, 70001};
  for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
    rgm_dataset *d = small_table(sizes[i]);
    struct stat info;
    char digest[65];
    cr_assert_eq(rgm_dataset_write(in_folder("a.h5"), d), RGM_OK, "%s", rgm_last_error());
    cr_assert_eq(stat(in_folder("a.h5"), &info), 0);
    cr_expect_eq(info.st_mode & 0777, 0600);
    rgm_dataset *back = read_it(in_folder("a.h5"));
    expect_same(d, back);
    cr_expect_str_eq(d->digest, back->digest);
    cr_assert_eq(rgm_dataset_digest(back, digest), RGM_OK);
    cr_expect_str_eq(d->digest, digest);
    rgm_dataset_free(back);
    rgm_dataset_free(d);
  }
}


// pieces of `step` rows
static void write_pieces(const char *path, const rgm_dataset *d, int64_t step, char digest[65]) {
  rgm_dataset_writer *w;
  const void *data[16];
  cr_assert_eq(rgm_dataset_create(path, d, &w), RGM_OK, "%s", rgm_last_error());
  for (int64_t r = 0; r < d->rows; r += step) {
    for (int i = 0; i < d->column_count; i++) {
      data[i] = (char *)d->column[i].data + (size_t)r * rgm_cell_size(d->column[i].cell);
    }
    const int64_t n = d->rows - r < step ? d->rows - r : step;
    cr_assert_eq(rgm_dataset_append(w, n, data), RGM_OK, "%s", rgm_last_error());
  }
  cr_assert_eq(rgm_dataset_commit(w, digest), RGM_OK, "%s", rgm_last_error());
}


Test(dataset, written_in_pieces_it_is_the_same) {
  rgm_dataset *d = small_table(20000);
  char digest[65];
  struct stat info;
  cr_assert_eq(rgm_dataset_write(in_folder("whole.h5"), d), RGM_OK);
  for (int64_t step = 777; step < 100000; step *= 11) {
    write_pieces(in_folder("pieces.h5"), d, step, digest);
    cr_expect_str_eq(d->digest, digest);
    rgm_dataset *back = read_it(in_folder("pieces.h5"));
    expect_same(d, back);
    rgm_dataset_free(back);
  }
  cr_assert_eq(stat(in_folder("pieces.h5"), &info), 0);
  cr_expect_eq(info.st_mode & 0777, 0600);
  cr_expect_neq(access(in_folder("pieces.h5.tmp"), F_OK), 0);

  // one that is dropped leaves nothing
  rgm_dataset_writer *w;
  cr_assert_eq(rgm_dataset_create(in_folder("none.h5"), d, &w), RGM_OK);
  rgm_dataset_drop(w);
  cr_expect_neq(access(in_folder("none.h5"), F_OK), 0);
  cr_expect_neq(access(in_folder("none.h5.tmp"), F_OK), 0);
  rgm_dataset_free(d);
}


Test(dataset, streams_any_columns_in_any_pieces) {
  rgm_dataset *d = small_table(50000);
  static const int selects[][3] = {{0, 1, 2}, {6, 3, 5}, {8, 0, 4}};
  static const int64_t steps[] = {1000, 7777, 65536};
  cr_assert_eq(rgm_dataset_write(in_folder("a.h5"), d), RGM_OK);
  rgm_dataset_stream *s;
  cr_assert_eq(rgm_dataset_open(in_folder("a.h5"), &s), RGM_OK, "%s", rgm_last_error());
  cr_expect_eq(rgm_dataset_table(s)->rows, 50000);
  for (int k = 0; k < 3; k++) {
    int64_t first, rows, at = 0;
    const void *const *data;
    cr_assert_eq(rgm_dataset_select(s, selects[k], 3, steps[k]), RGM_OK);
    do {
      cr_assert_eq(rgm_dataset_next(s, &first, &rows, &data), RGM_OK, "%s", rgm_last_error());
      cr_assert(first == at && rows <= steps[k]);
      for (int i = 0; i < 3; i++) {
        const rgm_column *c = &d->column[selects[k][i]];
        const size_t size = rgm_cell_size(c->cell);
        cr_assert(memcmp(data[i], (char *)c->data + (size_t)at * size, (size_t)rows * size) == 0);
      }
      at += rows;
    } while (rows > 0);
    cr_expect_eq(at, 50000);
  }
  rgm_dataset_close(s);
  rgm_dataset_free(d);
}


Test(dataset, h5py_reads_it) {
  if (system("/usr/bin/python3 -c 'import h5py' 2>/dev/null") != 0) {
    cr_skip_test("no h5py");
  }
  rgm_dataset *d = small_table(200);
  cr_assert_eq(rgm_dataset_write(in_folder("a.h5"), d), RGM_OK);
  char command[2048];
  snprintf(command, sizeof command,
           "/usr/bin/python3 -c \""
           "import h5py, numpy as np\n"
           "f = h5py.File('%s')\n"
           "t = f['table']\n"
           "assert f.attrs['kind'] == b'regimen dataset' and f.attrs['rows'] == 200\n"
           "assert sorted(f) == ['actions', 'observations', 'provenance', 'rewards', 'table',"
           " 'terminals', 'timeouts'], list(f)\n"
           "x = t['aptt'][:]\n"
           "assert x.dtype == 'f4' and t['aptt'].attrs['unit'] == b's'\n"
           "assert t['aptt'].attrs['role'] == b'state' and np.isnan(x[3]) and x[4] == 451.25\n"
           "o = f['observations'][:]\n"
           "assert o.shape == (200, 2) and o[3, 0] == 31.5 and o[3, 1] == 1 and o[4, 0] == x[4]\n"
           "assert f['actions'].shape == (200, 1) and f['rewards'].shape == (200,)\n"
           "assert (f['actions'][:, 0] == t['action'][:]).all()\n"
           "e = f['terminals'][:].astype(bool) | f['timeouts'][:].astype(bool)\n"
           "assert list(np.nonzero(e)[0]) == [39, 79, 119, 159, 199]\n"
           "assert f['provenance/licence'][()].startswith(b'Some Licence')\n\"",
           in_folder("a.h5"));
  cr_expect_eq(system(command), 0);
  rgm_dataset_free(d);
}


// ---- other programs' files ---------------------------------------------------------------------

Test(dataset, d4rl_files_are_read_as_they_are) {
  H5Fclose(create_d4rl(in_folder("d4rl.h5"), ""));
  rgm_dataset *d = read_it(in_folder("d4rl.h5"));
  cr_expect_str_eq(d->format, "d4rl");
  cr_expect_eq(d->rows, 30);
  cr_expect_eq(rgm_dataset_width(d, RGM_SEEN), 3);
  cr_expect_eq(rgm_dataset_width(d, 1u << RGM_ROLE_ACTION), 2);
  for (int64_t r = 0; r < 30; r++) {
    cr_expect_eq(cell(d, "observation_2", r), value_at(r, 2));
    cr_expect_eq(cell(d, "action_1", r), value_at(50 + r, 1));
    cr_expect_eq(cell(d, "reward", r), value_at(90 + r, 0));
    cr_expect_eq(cell(d, "episode", r), (double)(r / 10));
    cr_expect_eq(cell(d, "time", r), (double)(r % 10));
    cr_expect_eq(cell(d, "terminated", r), r == 9);
    cr_expect_eq(cell(d, "truncated", r), r % 10 == 9);
  }
  rgm_dataset_free(d);

  // without time-outs and with next observations
  hid_t file = create_d4rl(in_folder("next.h5"), "timeouts");
  put_values(file, "next_observations", H5T_IEEE_F32LE, 1, 30, 3);
  H5Fclose(file);
  d = read_it(in_folder("next.h5"));
  int64_t episodes;
  int64_t *start = rgm_dataset_episodes(d, &episodes);
  cr_expect(episodes == 2 && start[1] == 10 && start[2] == 30);
  cr_expect_eq(cell(d, "next_observation_1", 29), value_at(30, 1));
  cr_expect_str_eq(d->column[rgm_dataset_find(d, "next_observation_1")].of, "observation_1");
  free(start);
  rgm_dataset_free(d);
}


Test(dataset, minari_files_are_read_as_they_are) {
  H5Fclose(create_minari(in_folder("main_data.hdf5")));
  rgm_dataset *d = read_it(in_folder("main_data.hdf5"));
  cr_expect_str_eq(d->format, "minari");
  cr_assert_eq(d->rows, 15);
  int64_t row = 0;
  for (int64_t e = 0; e < 3; e++) {
    for (int64_t i = 0; i < 4 + e; i++, row++) {
      const bool last = i == 3 + e;
      cr_expect_eq(cell(d, "observation_1", row), value_at(100 * e + i, 1));
      cr_expect_eq(cell(d, "next_observation_0", row), value_at(100 * e + i + 1, 0));
      cr_expect_eq(cell(d, "action_0", row), floor(value_at(100 * e + 30 + i, 0)));
      cr_expect_eq(cell(d, "reward", row), value_at(100 * e + 60 + i, 0));
      cr_expect_eq(cell(d, "terminated", row), last && e == 1);
      cr_expect_eq(cell(d, "truncated", row), last && e != 1);
      cr_expect_eq(cell(d, "episode", row), (double)e);
    }
  }
  rgm_dataset_free(d);
}


Test(dataset, d3rlpy_files_are_read_as_they_are) {
  H5Fclose(create_d3rlpy(in_folder("d3.h5"), 3));
  rgm_dataset *d = read_it(in_folder("d3.h5"));
  cr_expect_str_eq(d->format, "d3rlpy");
  cr_assert_eq(d->rows, 15);
  int64_t row = 0;
  for (int64_t e = 0; e < 3; e++) {
    for (int64_t i = 0; i < 4 + e; i++, row++) {
      const bool last = i == 3 + e;
      cr_expect_eq(cell(d, "observation_1", row), value_at(100 * e + i, 1));
      cr_expect_eq(cell(d, "action_0", row), value_at(100 * e + 30 + i, 0));
      cr_expect_eq(cell(d, "reward", row), value_at(100 * e + 60 + i, 0));
      cr_expect_eq(cell(d, "terminated", row), last && e == 1);
      cr_expect_eq(cell(d, "truncated", row), last && e != 1);
    }
  }
  rgm_dataset_free(d);
}


Test(dataset, door_human) {
  const char *path = "../shared/data/door-human-hdf5/door-human.hdf5";
  if (access(path, R_OK) != 0) {
    cr_skip_test("../shared/data is not here");
  }
  rgm_dataset *d = read_it(path);
  int64_t episodes, cut = 0;
  free(rgm_dataset_episodes(d, &episodes));
  double rewards = 0;
  for (int64_t r = 0; r < d->rows; r++) {
    rewards += cell(d, "reward", r);
    cut += cell(d, "truncated", r) != 0;
  }
  cr_expect_eq(d->rows, 6729);
  cr_expect_eq(episodes, 25);
  cr_expect_eq(cut, 25);
  cr_expect_eq(rgm_dataset_width(d, RGM_SEEN), 39);
  cr_expect_eq(rgm_dataset_width(d, 1u << RGM_ROLE_ACTION), 28);
  cr_expect_float_eq(rewards, 19852.5, 0.05); // README of the data

  // ours is the same table, with arrays that its readers find where they were
  rgm_dataset *back;
  cr_assert_eq(rgm_dataset_write(in_folder("door.h5"), d), RGM_OK, "%s", rgm_last_error());
  back = read_it(in_folder("door.h5"));
  cr_expect_str_eq(back->digest, d->digest);
  rgm_dataset_free(back);
  rgm_dataset_free(d);
}


// ---- the table ---------------------------------------------------------------------------------

Test(dataset, a_wrong_table_is_refused_by_name) {
  static const struct {
    const char *what, *message;
  } cases[] = {{"blank", "printable"},     {"slash", "printable"}, {"twice", "this name"},
               {"roles", "this role"},     {"of", "about (of)"},   {"line", "single lines"},
               {"columns", "0 columns"},   {"note", "note"},       {"rows", "-1 rows"},
               {"choices", "no such role"}};
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
    rgm_dataset *d = small_table(10);
    rgm_column *c = d->column;
    const char *what = cases[i].what;
    const int columns = d->column_count;
    snprintf(c[3].name, 64, "%s",
             strcmp(what, "blank") == 0   ? "a b"
             : strcmp(what, "slash") == 0 ? "a/b"
             : strcmp(what, "twice") == 0 ? "time"
                                          : "aptt");
    c[3].role = strcmp(what, "roles") == 0 ? RGM_ROLE_TIME : c[3].role;
    snprintf(c[4].of, 64, "%s", strcmp(what, "of") == 0 ? "x" : c[3].name);
    c[3].doc[2] = strcmp(what, "line") == 0 ? '\n' : c[3].doc[2];
    c[5].choices = strcmp(what, "choices") == 0 ? -1 : 6;
    d->column_count = strcmp(what, "columns") == 0 ? 0 : columns;
    d->rows = strcmp(what, "rows") == 0 ? -1 : 10;
    d->note[0].name[0] = strcmp(what, "note") == 0 ? '/' : 'l';
    cr_expect_eq(rgm_dataset_write(in_folder("a.h5"), d), RGM_EINTERNAL, "%s", what);
    cr_expect(strstr(rgm_last_error(), cases[i].message) != NULL, "%s: %s", what, rgm_last_error());
    d->column_count = columns;
    rgm_dataset_free(d);
  }
}


Test(dataset, the_digest_is_of_names_types_units_and_values) {
  rgm_dataset *d = small_table(50);
  char first[65], other[65];
  cr_assert_eq(rgm_dataset_digest(d, first), RGM_OK);
  for (int k = 0; k < 7; k++) {
    rgm_dataset *e = small_table(k == 0 ? 49 : 50);
    rgm_column *c = &e->column[3];
    c->name[0] = k == 1 ? 'A' : c->name[0];
    c->unit[0] = k == 2 ? 'h' : c->unit[0];
    c->role = k == 3 ? RGM_ROLE_OTHER : c->role;
    if (k == 4) {
      rgm_cell_set(c, 20, 1.0);
    }
    c->doc[0] = k == 5 ? 'A' : c->doc[0]; // no part of it
    if (k == 6) {
      ((uint32_t *)c->data)[3] = 0xffc00001u; // another NaN is none
    }
    cr_assert_eq(rgm_dataset_digest(e, other), RGM_OK);
    cr_expect_eq(strcmp(first, other) == 0, k >= 5, "change %d", k);
    rgm_dataset_free(e);
  }
  rgm_dataset_free(d);
}


Test(dataset, splits_are_by_patient_and_depend_on_the_seed_alone) {
  rgm_dataset *d = rgm_dataset_new(40000);
  rgm_column *c = rgm_dataset_add(d, "patient", RGM_ROLE_PATIENT, RGM_CELL_I32, "");
  for (int64_t r = 0; r < d->rows; r++) {
    rgm_cell_set(c, r, (double)(r / 4));
  }
  int64_t count[RGM_SPLITS] = {0}, changed = 0;
  double *first = calloc((size_t)d->rows, sizeof *first);
  cr_assert_eq(rgm_dataset_split(d, 5, 0.1, 0.2), RGM_OK);
  for (int64_t r = 0; r < d->rows; r++) {
    first[r] = cell(d, "split", r);
    count[(int)first[r]]++;
    cr_assert_eq(first[r], first[r / 4 * 4]);
  }
  // 10,000 patients: within four standard deviations
  cr_expect_float_eq((double)count[RGM_TEST] / 40000, 0.2, 0.016);
  cr_expect_float_eq((double)count[RGM_VALIDATION] / 40000, 0.1, 0.012);
  cr_assert_eq(rgm_dataset_split(d, 6, 0.1, 0.2), RGM_OK);
  for (int64_t r = 0; r < d->rows; r++) {
    changed += cell(d, "split", r) != first[r];
  }
  cr_expect_gt(changed, 10000);

  // a test patient stays one where more go to validation
  cr_assert_eq(rgm_dataset_split(d, 5, 0.3, 0.2), RGM_OK);
  for (int64_t r = 0; r < d->rows; r++) {
    cr_assert_eq(cell(d, "split", r) == RGM_TEST, first[r] == RGM_TEST);
  }
  free(first);
  rgm_dataset_free(d);
}


// ---- the command line --------------------------------------------------------------------------

static int run(const char *arguments, char *text, size_t size) {
  char command[1024];
  snprintf(command, sizeof command, "%s %s 2>&1", RGM_PROGRAM, arguments);
  FILE *pipe = popen(command, "r");
  cr_assert(pipe != NULL);
  text[fread(text, 1, size - 1, pipe)] = '\0';
  return WEXITSTATUS(pclose(pipe));
}


Test(dataset, info_and_check_from_the_command_line) {
  static char text[65536];
  char arguments[400];
  rgm_dataset *d = small_table(200);
  cr_assert_eq(rgm_dataset_write(in_folder("good.h5"), d), RGM_OK);
  rgm_cell_set(&d->column[2], 39, 12345.6789);
  rgm_cell_set(&d->column[6], 57, NAN);
  rgm_cell_set(&d->column[3], 58, -7654.25);
  cr_assert_eq(rgm_dataset_write(in_folder("bad.h5"), d), RGM_OK);

  snprintf(arguments, sizeof arguments, "info %s", in_folder("good.h5"));
  cr_expect_eq(run(arguments, text, sizeof text), 0);
  cr_expect(strstr(text, "regimen, 200 rows, 9 columns, 5 episodes (3 terminated, 2 truncated), 3 "
                         "patients") != NULL,
            "%s", text);
  cr_expect(strstr(text, "Some Licence 1.0 ...") != NULL && strstr(text, "thromboplastin") != NULL);
  snprintf(arguments, sizeof arguments, "info %s --json | jq -r '.columns[3].missing'",
           in_folder("good.h5"));
  cr_expect_eq(run(arguments, text, sizeof text), 0);
  cr_expect_str_eq(text, "29\n");

  snprintf(arguments, sizeof arguments, "check %s", in_folder("bad.h5"));
  cr_expect_eq(run(arguments, text, sizeof text), 65);
  cr_expect(strstr(text, "row 57, column reward: the reward is missing") != NULL, "%s", text);
  cr_expect(strstr(text, "row 58, column aptt: outside") != NULL, "%s", text);
  cr_expect(strstr(text, "12345") == NULL && strstr(text, "7654") == NULL, "%s", text);
  snprintf(arguments, sizeof arguments, "check --show-values %s", in_folder("bad.h5"));
  cr_expect_eq(run(arguments, text, sizeof text), 65);
  cr_expect(strstr(text, "column aptt = -7654.25: outside") != NULL, "%s", text);
  snprintf(arguments, sizeof arguments, "check %s", in_folder("good.h5"));
  cr_expect_eq(run(arguments, text, sizeof text), 0);
  cr_expect(strstr(text, d->digest) == NULL && strstr(text, "0 errors") != NULL, "%s", text);
  rgm_dataset_free(d);
}
