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
