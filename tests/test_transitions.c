// SPDX-License-Identifier: Apache-2.0
// Data sets as transitions: what follows what, where episodes end, who is in which part, what is
// refused; by hand-made chains that go through files.

#include "engine/transitions.h"
#include "tests/dataset_files.h"

TestSuite(transitions, .timeout = 120, .init = make_folder, .fini = remove_folder);


static rgm_data_keys keys_of(const char *path) {
  rgm_data_keys keys = {.seed = 1, .validation = 0.0, .test = 0.0};
  snprintf(keys.path, sizeof keys.path, "%s", path);
  return keys;
}


static const rgm_transitions *read_it(const char *path) {
  const rgm_data_keys keys = keys_of(path);
  const rgm_transitions *t = NULL;
  cr_assert_eq(rgm_transitions_read(&keys, &t), RGM_OK, "%s", rgm_last_error());
  return t;
}


// ---- the three-state chain ---------------------------------------------------------------------

// Rows of a chain 0 -> 1 -> 2: episode, state, what follows as a column, terminated, truncated.
static const double chain[][5] = {
    {0, 0, 1, 0, 0}, {0, 1, 2, 0, 0}, {0, 2, 7, 1, 0}, // terminated in the last state
    {1, 0, 1, 0, 0}, {1, 1, 2, 0, 0}, {1, 2, 8, 0, 1}, // the recording was cut there
    {2, 0, 9, 0, 1}, {2, 1, 2, 1, 0},                  // cut in the middle, then terminated
    {3, 2, 6, 0, 0},                                   // ends without a word
    {4, 1, 5, 1, 1},                                   // terminated counts, whatever cut it
};
enum { CHAIN = sizeof chain / sizeof *chain };

static rgm_dataset *make_chain(bool with_next) {
  static const struct {
    const char *name, *of;
    rgm_role role;
    int from;
  } columns[] = {{"episode", "", RGM_ROLE_EPISODE, 0},
                 {"s", "", RGM_ROLE_STATE, 1},
                 {"terminated", "", RGM_ROLE_TERMINATED, 3},
                 {"truncated", "", RGM_ROLE_TRUNCATED, 4},
                 {"a", "", RGM_ROLE_ACTION, 1},
                 {"r", "", RGM_ROLE_REWARD, 2},
                 {"s2", "s", RGM_ROLE_NEXT, 2}};
  rgm_dataset *d = rgm_dataset_new(CHAIN);
  for (int i = 0; i < (with_next ? 7 : 6); i++) {
    rgm_column *c = rgm_dataset_add(d, columns[i].name, columns[i].role, RGM_CELL_F64, "1");
    snprintf(c->of, sizeof c->of, "%s", columns[i].of);
    for (int64_t r = 0; r < CHAIN; r++) {
      rgm_cell_set(c, r, chain[r][columns[i].from]);
    }
  }
  return d;
}


Test(transitions, end_where_the_chain_says) {
  static const struct {
    bool with_next;
    int rows, left_out;
    double of[CHAIN][4]; // row of the file, next state, terminated, known
  } cases[] = {
      {false,
       7,
       3,
       {{0, 1, 0, 1},
        {1, 2, 0, 1},
        {2, 2, 1, 0},
        {3, 1, 0, 1},
        {4, 2, 0, 1},
        {7, 1, 1, 0},
        {9, 1, 1, 0}}},
      {true,
       10,
       0,
       {{0, 1, 0, 1},
        {1, 2, 0, 1},
        {2, 7, 1, 1},
        {3, 1, 0, 1},
        {4, 2, 0, 1},
        {5, 8, 0, 1},
        {6, 9, 0, 1},
        {7, 2, 1, 1},
        {8, 6, 0, 1},
        {9, 5, 1, 1}}},
  };
  for (int k = 0; k < 2; k++) {
    rgm_dataset *d = make_chain(cases[k].with_next);
    cr_assert_eq(rgm_dataset_write(in_folder("chain.h5"), d), RGM_OK, "%s", rgm_last_error());
    const rgm_transitions *t = read_it(in_folder("chain.h5"));
    cr_assert_eq(t->rows, cases[k].rows);
    cr_expect_eq(t->left_out, cases[k].left_out);
    cr_expect_eq(t->has_next, cases[k].with_next);
    cr_expect_str_eq(t->digest, d->digest);
    cr_expect_eq(strstr(t->notes, "3 last rows of episodes") != NULL, !cases[k].with_next);
    for (int64_t i = 0; i < t->rows; i++) {
      const double *want = cases[k].of[i];
      const int64_t row = (int64_t)want[0];
      cr_expect_eq(t->row[i], row, "case %d, transition %d", k, (int)i);
      cr_expect_eq((double)t->obs[i], chain[row][1]);
      cr_expect_eq((double)t->next[i], want[1], "case %d, transition %d", k, (int)i);
      cr_expect_eq((double)t->terminated[i], want[2], "case %d, transition %d", k, (int)i);
      cr_expect_eq((double)t->known[i], want[3], "case %d, transition %d", k, (int)i);
      cr_expect_eq((double)t->truncated[i], chain[row][4]);
      cr_expect_eq((double)t->reward[i], chain[row][2]);
      cr_expect_eq(t->episode[i], (int64_t)chain[row][0]);
    }
    rgm_transitions_free(t);
    rgm_dataset_free(d);
  }
}


// ---- files of every kind -----------------------------------------------------------------------

Test(transitions, come_from_every_kind_of_file) {
  static const struct {
    const char *format;
    int64_t rows, left_out, terminated, choices;
    int states, actions;
    bool has_next;
  } cases[] = {
      {"d4rl", 28, 2, 1, 0, 3, 2, false},
      {"minari", 15, 0, 1, -1, 2, 1, true},
      {"d3rlpy", 13, 2, 1, 0, 2, 1, false},
  };
  H5Fclose(create_d4rl(in_folder("d4rl.h5"), ""));
  H5Fclose(create_minari(in_folder("minari.h5")));
  H5Fclose(create_d3rlpy(in_folder("d3rlpy.h5"), 3));
  for (size_t k = 0; k < sizeof cases / sizeof *cases; k++) {
    char name[32];
    snprintf(name, sizeof name, "%s.h5", cases[k].format);
    const rgm_transitions *t = read_it(in_folder(name));
    cr_expect_str_eq(t->format, cases[k].format);
    cr_expect_eq(t->rows, cases[k].rows, "%s: %d", name, (int)t->rows);
    cr_expect_eq(t->left_out, cases[k].left_out);
    cr_expect_eq(t->terminated_count, cases[k].terminated);
    cr_expect_eq(t->states, cases[k].states);
    cr_expect_eq(t->actions, cases[k].actions);
    cr_expect_eq(t->choices > 0, cases[k].choices != 0);
    cr_expect_eq(t->has_next, cases[k].has_next);
    cr_expect_eq(strlen(t->digest), 64);

    // numbers of their places: create_d4rl, create_minari, create_d3rlpy
    const int64_t apart = k == 0 ? 10 : 100;
    for (int64_t i = 0; i < t->rows; i++) {
      const int64_t first = i > 0 && t->episode[i] == t->episode[i - 1] ? -1 : t->row[i];
      static int64_t begun;
      begun = first >= 0 ? first : begun;
      const int64_t at = apart * t->episode[i] + t->row[i] - begun;
      for (int s = 0; s < t->states; s++) {
        const float want = (float)value_at(at, s), then = (float)value_at(at + 1, s);
        cr_expect_eq(t->obs[i * t->states + s], want, "%s, transition %d", name, (int)i);
        cr_expect_eq(t->next[i * t->states + s], t->known[i] ? then : want, "%s, transition %d",
                     name, (int)i);
      }
    }
    rgm_transitions_free(t);
  }
}


// ---- figures and parts -------------------------------------------------------------------------

// three patients of two episodes each, of 20 rows: `drift` rises, `sex` is the patient's, `flat`
// never changes; a value of `lab` is missing now and then
enum { ROWS = 120 };

static rgm_dataset *make_table(void) {
  static const struct {
    const char *name;
    rgm_role role;
    rgm_cell cell;
  } columns[] = {{"patient", RGM_ROLE_PATIENT, RGM_CELL_I32},
                 {"episode", RGM_ROLE_EPISODE, RGM_CELL_I32},
                 {"drift", RGM_ROLE_STATE, RGM_CELL_F64},
                 {"sex", RGM_ROLE_STATE, RGM_CELL_U8},
                 {"flat", RGM_ROLE_STATE, RGM_CELL_F32},
                 {"lab", RGM_ROLE_STATE, RGM_CELL_F32},
                 {"lab_missing", RGM_ROLE_MISSING, RGM_CELL_U8},
                 {"action", RGM_ROLE_ACTION, RGM_CELL_I32},
                 {"reward", RGM_ROLE_REWARD, RGM_CELL_F64},
                 {"terminated", RGM_ROLE_TERMINATED, RGM_CELL_U8},
                 {"truncated", RGM_ROLE_TRUNCATED, RGM_CELL_U8},
                 {"split", RGM_ROLE_SPLIT, RGM_CELL_U8}};
  rgm_dataset *d = rgm_dataset_new(ROWS);
  for (size_t k = 0; k < sizeof columns / sizeof *columns; k++) {
    rgm_column *c = rgm_dataset_add(d, columns[k].name, columns[k].role, columns[k].cell, "1");
    for (int64_t r = 0; r < ROWS; r++) {
      const int64_t patient = r / 40, step = r % 20;
      rgm_cell_set(c, r,
                   k == 0    ? (double)patient
                   : k == 1  ? (double)(r / 20)
                   : k == 2  ? (double)(r * r)
                   : k == 3  ? (double)(patient % 2)
                   : k == 4  ? 7.25
                   : k == 5  ? (r % 7 == 3 ? NAN : (double)(r % 11))
                   : k == 6  ? r % 7 == 3
                   : k == 7  ? (double)(r % 3)
                   : k == 8  ? (double)r
                   : k == 9  ? step == 19
                   : k == 10 ? 0.0
                             : (double)(patient == 2 ? RGM_VALIDATION : RGM_TRAIN));
    }
  }
  d->column[5].fill = 4.5;
  snprintf(d->column[6].of, sizeof d->column[6].of, "lab");
  d->column[7].choices = 3;
  return d;
}


static int ascending(const void *a, const void *b) {
  const double x = *(const double *)a, y = *(const double *)b;
  return (x > y) - (x < y);
}


// against plain sums over the training rows
Test(transitions, figures_are_of_training_rows) {
  rgm_dataset *d = make_table();
  const rgm_data_keys keys = keys_of("table");
  const rgm_transitions *t = NULL;
  static const bool fixed[] = {false, true, true, false, false};
  cr_assert_eq(rgm_transitions_of(d, &keys, &t), RGM_OK, "%s", rgm_last_error());
  cr_assert(t->rows == ROWS && t->states == 5 && t->choices == 3);
  cr_expect(t->part[RGM_TRAIN] == 80 && t->part[RGM_VALIDATION] == 40 && t->part[RGM_TEST] == 0);
  for (int k = 0; k < 5; k++) {
    double x[80], sum = 0.0, square = 0.0;
    for (int64_t r = 0; r < 80; r++) {
      const double value = rgm_cell_get(&d->column[2 + k], r);
      x[r] = isnan(value) ? 4.5 : value;
      sum += x[r] / 80.0;
    }
    for (int64_t r = 0; r < 80; r++) {
      square += (x[r] - sum) * (x[r] - sum) / 80.0;
    }
    qsort(x, 80, sizeof *x, ascending);
    const rgm_feature *f = &t->state[k];
    cr_expect_float_eq(f->mean, sum, 1e-9 * (1.0 + fabs(sum)), "%s", f->name);
    cr_expect_float_eq(f->sd, k == 2 ? 1.0 : sqrt(square), 1e-9 * (1.0 + square), "%s", f->name);
    cr_expect(f->min == x[0] && f->max == x[79], "%s", f->name);
    cr_expect_float_eq(f->low, rgm_quantile_sorted(x, 80, 0.001), 1e-9);
    cr_expect_float_eq(f->high, rgm_quantile_sorted(x, 80, 0.999), 1e-9);
    cr_expect_eq(f->fixed, fixed[k], "%s", f->name);
    cr_expect(t->mean[k] == (float)f->mean && t->sd[k] == (float)f->sd);
  }
  cr_expect(strstr(t->notes, "1 of 5 states are constant") != NULL, "%s", t->notes);
  cr_expect(strstr(t->notes, "the file says which rows") != NULL, "%s", t->notes);
  rgm_transitions_free(t);
  rgm_dataset_free(d);
}


// Parts that nobody told follow from seed and patient; without patients, from the episode. All rows
// of one are in one part, and another seed makes other parts.
Test(transitions, parts_are_of_patients_or_episodes) {
  for (int by_episode = 0; by_episode < 2; by_episode++) {
    uint8_t first[ROWS];
    int changed = 0;
    for (int seed = 1; seed <= 8; seed++) {
      rgm_dataset *d = make_table();
      const rgm_transitions *t = NULL;
      rgm_data_keys keys = {.seed = seed, .validation = 0.3, .test = 0.2};
      d->column[11].role = RGM_ROLE_OTHER;
      d->column[0].role = by_episode ? RGM_ROLE_OTHER : RGM_ROLE_PATIENT;
      if (rgm_transitions_of(d, &keys, &t) != RGM_OK) {
        cr_expect(strstr(rgm_last_error(), "no transition is for training") != NULL, "%s",
                  rgm_last_error());
        rgm_dataset_free(d);
        continue;
      }
      for (int64_t i = 0; i < t->rows; i++) {
        const int64_t head = i - i % (by_episode ? 20 : 40);
        cr_expect_eq(t->split[i], t->split[head]);
      }
      cr_expect_eq(strstr(t->notes, "the split is by episode") != NULL, by_episode);
      changed += seed > 1 && memcmp(first, t->split, ROWS) != 0;
      memcpy(first, t->split, ROWS);
      rgm_transitions_free(t);
      rgm_dataset_free(d);
    }
    cr_expect(changed > 2);
  }
}


// ---- what is refused ---------------------------------------------------------------------------

static void spoil(rgm_dataset *d, const char *what) {
  rgm_column *c = d->column;
  if (strcmp(what, "no action") == 0) {
    c[7].role = RGM_ROLE_OTHER;
  } else if (strcmp(what, "no state") == 0) {
    for (int k = 2; k < 7; k++) {
      c[k].role = RGM_ROLE_OTHER;
    }
  } else if (strcmp(what, "no end") == 0) {
    c[9].role = RGM_ROLE_OTHER;
  } else if (strcmp(what, "half a class") == 0) {
    c[7].cell = RGM_CELL_F32;
    rgm_cell_set(&c[7], 33, 1.5);
  } else if (strcmp(what, "class too large") == 0) {
    rgm_cell_set(&c[7], 34, 3);
  } else if (strcmp(what, "class below 0") == 0) {
    rgm_cell_set(&c[7], 35, -1);
  } else if (strcmp(what, "no fill") == 0) {
    c[5].fill = NAN;
  } else if (strcmp(what, "no reward") == 0) {
    rgm_cell_set(&c[8], 36, NAN);
  } else if (strcmp(what, "huge") == 0) {
    rgm_cell_set(&c[2], 37, 1e300);
  } else if (strcmp(what, "flag") == 0) {
    rgm_cell_set(&c[9], 38, 2);
  } else if (strcmp(what, "part") == 0) {
    rgm_cell_set(&c[11], 39, 3);
  } else if (strcmp(what, "episode in two") == 0) {
    rgm_cell_set(&c[11], 70, RGM_TEST);
  } else if (strcmp(what, "patient in two") == 0) {
    for (int64_t r = 60; r < 80; r++) {
      rgm_cell_set(&c[11], r, RGM_TEST);
    }
  } else if (strcmp(what, "no training") == 0) {
    for (int64_t r = 0; r < ROWS; r++) {
      rgm_cell_set(&c[11], r, RGM_TEST);
    }
  } else if (strcmp(what, "single rows") == 0) {
    for (int64_t r = 0; r < ROWS; r++) {
      rgm_cell_set(&c[1], r, (double)r);
      rgm_cell_set(&c[9], r, 0.0);
    }
  } else if (strcmp(what, "two classes") == 0) {
    cr_assert(rgm_dataset_add(d, "other", RGM_ROLE_ACTION, RGM_CELL_I32, "") != NULL);
  } else if (strcmp(what, "some next") == 0) {
    rgm_column *next = rgm_dataset_add(d, "drift_next", RGM_ROLE_NEXT, RGM_CELL_F32, "");
    snprintf(next->of, sizeof next->of, "drift");
  }
}


Test(transitions, what_cannot_be_learned_from_is_refused) {
  static const struct {
    const char *what, *text;
  } cases[] = {
      {"no action", "no column of role action"},
      {"no state", "no column of role state"},
      {"no end", "no column of role terminated"},
      {"half a class", "row 33, column action: the action is no class"},
      {"class too large", "row 34, column action: the action is no class"},
      {"class below 0", "row 35, column action: the action is no class"},
      {"no fill", "row 3, column lab: the value is missing and the column has no fill"},
      {"no reward", "row 36, column reward: the value is missing"},
      {"huge", "row 37, column drift: too large"},
      {"flag", "row 38, column terminated: a flag is neither 0 nor 1"},
      {"part", "row 39, column split: no part"},
      {"episode in two", "row 70, column split: an episode is in two parts"},
      {"patient in two", "row 60, column split: a patient is in two parts"},
      {"no training", "nothing left to train on"},
      {"single rows", "no row has a next state"},
      {"two classes", "2 columns of actions, classes among them"},
      {"some next", "sex has none"},
  };
  for (size_t k = 0; k < sizeof cases / sizeof *cases; k++) {
    rgm_dataset *d = make_table();
    const rgm_data_keys keys = keys_of("table.h5");
    const rgm_transitions *t = NULL;
    if (strcmp(cases[k].what, "half a class") == 0) { // a column of another type
      free(d->column[7].data);
      d->column[7].data = calloc(ROWS, sizeof(float));
    }
    spoil(d, cases[k].what);
    cr_expect_eq(rgm_transitions_of(d, &keys, &t), RGM_EDATA, "%s", cases[k].what);
    cr_expect(strstr(rgm_last_error(), cases[k].text) != NULL, "%s: %s", cases[k].what,
              rgm_last_error());
    cr_expect(strncmp(rgm_last_error(), "table.h5: ", 10) == 0 && t == NULL);
    rgm_dataset_free(d);
  }
}


// ---- one copy ----------------------------------------------------------------------------------

Test(transitions, one_copy_serves_who_reads_the_same) {
  rgm_dataset *d = make_table();
  cr_assert_eq(rgm_dataset_write(in_folder("a.h5"), d), RGM_OK, "%s", rgm_last_error());
  const rgm_transitions *a = read_it(in_folder("a.h5")), *b = read_it(in_folder("a.h5"));
  const rgm_transitions *c = NULL;
  rgm_data_keys keys = keys_of(in_folder("a.h5"));
  keys.seed = 2;
  cr_assert_eq(rgm_transitions_read(&keys, &c), RGM_OK);
  cr_expect(a == b && a != c);
  rgm_transitions_free(b);
  rgm_transitions_free(c);

  // a file that has changed is another one
  rgm_cell_set(&d->column[2], 0, 0.5);
  cr_assert_eq(rgm_dataset_write(in_folder("a.h5"), d), RGM_OK);
  c = read_it(in_folder("a.h5"));
  cr_expect(c != a && strcmp(c->digest, a->digest) != 0 && c->obs[0] == 0.5f && a->obs[0] == 0.0f);
  rgm_transitions_free(a);
  rgm_transitions_free(c);
  rgm_dataset_free(d);
}
