// SPDX-License-Identifier: Apache-2.0
// The sepsis grid as a tabular problem: its keys and its rows. See sepsis.h.

#include "envs/sepsis.h"
#include "engine/mdp.h"

#include <ctype.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

typedef struct sepsis_keys {
  rgm_list kernel[SEPSIS_ACTIONS];
  rgm_list alive, died;
  int64_t rows, columns;
  char policy[RGM_STRING_SIZE];
} sepsis_keys;

#define KEY(member) offsetof(sepsis_keys, member)

static const char *const actions[SEPSIS_ACTIONS] = {"vaso", "fluid", "both", "none"};

static const rgm_field fields[] = {
    {"rows", RGM_INT, KEY(rows), "1", "4", 1, 1000, NULL, RGM_SHAPE,
     "Levels of mean arterial pressure, the highest first."},
    {"columns", RGM_INT, KEY(columns), "1", "4", 1, 1000, NULL, RGM_SHAPE,
     "Levels of lactate, the lowest first."},
    {"vaso", RGM_LIST, KEY(kernel[0]), "%", "[5, 26, 9, 5, 24, 13, 2, 8, 8]", 0, 100, NULL,
     RGM_SHAPE, "Moves under vasopressors: up, same, down by left, same, right."},
    {"fluid", RGM_LIST, KEY(kernel[1]), "%", "[5, 15, 5, 30, 12, 8, 10, 10, 5]", 0, 100, NULL,
     RGM_SHAPE, "Moves under fluid."},
    {"both", RGM_LIST, KEY(kernel[2]), "%", "[20, 32, 5, 13, 12, 3, 5, 7, 3]", 0, 100, NULL,
     RGM_SHAPE, "Moves under both."},
    {"none", RGM_LIST, KEY(kernel[3]), "%", "[2, 5, 8, 5, 30, 15, 5, 15, 15]", 0, 100, NULL,
     RGM_SHAPE, "Moves under neither."},
    {"alive", RGM_LIST, KEY(alive), "1", "[1, 1]", 1, 1000, NULL, RGM_SHAPE,
     "Row and column of the end that pays +1 each step."},
    {"died", RGM_LIST, KEY(died), "1", "[4, 4]", 1, 1000, NULL, RGM_SHAPE,
     "Row and column of the end that pays -1 each step."},
    {"policy", RGM_STRING, KEY(policy), "", "", 0, 0, NULL, RGM_SHAPE,
     "An action for each cell, row by row, to start from or to evaluate; / and | are ignored; "
     "empty: none."},
    {0},
};


static rgm_status check_kernel(const rgm_config *where, const char *key, const rgm_list *list,
                               double *kernel) {
  double sum = 0.0;
  for (int i = 0; i < list->count; i++) {
    sum += list->value[i];
  }
  if (list->count != SEPSIS_MOVES || !(fabs(sum - 100.0) <= 1e-9)) {
    return rgm_fail(RGM_ECONFIG,
                    "%s: %s: nine percentages that sum to 100 are expected, not %d "
                    "that sum to %.12g",
                    rgm_config_where(where, key), key, list->count, sum);
  }
  for (int i = 0; i < SEPSIS_MOVES; i++) {
    kernel[i] = list->value[i] / 100.0;
  }
  return RGM_OK;
}


static rgm_status check_cell(const rgm_config *where, const char *key, const rgm_list *list,
                             const sepsis_keys *k, int64_t *cell) {
  const bool two = list->count == 2;
  const double row = two ? list->value[0] : 0.0, column = two ? list->value[1] : 0.0;
  if (!two || row > (double)k->rows || column > (double)k->columns || floor(row) != row ||
      floor(column) != column) {
    return rgm_fail(RGM_ECONFIG,
                    "%s: %s: a row from 1 to %lld and a column from 1 to %lld are "
                    "expected",
                    rgm_config_where(where, key), key, (long long)k->rows, (long long)k->columns);
  }
  *cell = ((int64_t)row - 1) * k->columns + (int64_t)column - 1;
  return RGM_OK;
}


// words of env.policy into the problem's actions
static rgm_status read_policy(const sepsis_keys *k, const rgm_config *where, rgm_mdp *m) {
  char text[RGM_STRING_SIZE], *rest = NULL;
  int64_t count = 0;
  snprintf(text, sizeof text, "%s", k->policy);
  m->policy = calloc((size_t)m->states, sizeof *m->policy);
  if (m->policy == NULL) {
    return rgm_fail(RGM_EMEMORY, "no memory for a policy");
  }
  for (char *word = strtok_r(text, " ,|/\t\n", &rest); word != NULL;
       word = strtok_r(NULL, " ,|/\t\n", &rest)) {
    int a = 0;
    while (a < SEPSIS_ACTIONS && strcmp(word, actions[a]) != 0) {
      a++;
    }
    if (a == SEPSIS_ACTIONS) {
      return rgm_fail(RGM_ECONFIG,
                      "%s: env.policy: \"%s\" is no action; there are vaso, fluid, "
                      "both and none",
                      rgm_config_where(where, "env.policy"), word);
    }
    if (count < m->states) {
      m->policy[count] = a;
    }
    count++;
  }
  if (count != m->states) {
    return rgm_fail(RGM_ECONFIG, "%s: env.policy: %lld actions for %lld cells",
                    rgm_config_where(where, "env.policy"), (long long)count, (long long)m->states);
  }
  return RGM_OK;
}


static rgm_status add_rows(rgm_mdp_builder *b, const sepsis_keys *k,
                           double kernel[SEPSIS_ACTIONS][SEPSIS_MOVES], int64_t alive,
                           int64_t died) {
  const int64_t cells = k->rows * k->columns;
  for (int64_t s = 0; s < cells; s++) {
    const bool end = s == alive || s == died;
    const double reward = s == alive ? 1.0 : s == died ? -1.0 : 0.0;
    for (int a = 0; a < SEPSIS_ACTIONS; a++) {
      sepsis_moves moves;
      sepsis_move(end ? NULL : kernel[a], (int)k->rows, (int)k->columns, (int)(s / k->columns),
                  (int)(s % k->columns), &moves);
      for (int i = 0; i < moves.count; i++) {
        RGM_TRY(rgm_mdp_add(b, s * SEPSIS_ACTIONS + a, s, a, moves.to[i], moves.p[i], reward));
      }
    }
  }
  return RGM_OK;
}


// names of the cells, and the start distribution: anywhere but in an end
static rgm_status describe(const sepsis_keys *k, int64_t alive, int64_t died, rgm_mdp *m) {
  m->grid_rows = (int)k->rows;
  m->grid_columns = (int)k->columns;
  m->begin = calloc((size_t)m->states, sizeof *m->begin);
  m->good = calloc((size_t)m->states, 1);
  m->state_name = calloc((size_t)m->states + 1, sizeof *m->state_name);
  if (m->begin == NULL || m->good == NULL || m->state_name == NULL) {
    return rgm_fail(RGM_EMEMORY, "no memory for %lld cells", (long long)m->states);
  }
  m->good[alive] = 1;
  for (int64_t s = 0; s < m->states; s++) {
    char name[64];
    snprintf(name, sizeof name, "(%lld,%lld)%s", (long long)(s / k->columns + 1),
             (long long)(s % k->columns + 1),
             s == alive  ? " alive"
             : s == died ? " died"
                         : "");
    m->state_name[s] = strdup(name);
    if (m->state_name[s] == NULL) {
      return rgm_fail(RGM_EMEMORY, "no memory for %lld cells", (long long)m->states);
    }
    m->begin[s] = s == alive || s == died ? 0.0 : 1.0 / (double)(m->states - 2);
  }
  return rgm_mdp_name(&m->action_name, actions, SEPSIS_ACTIONS);
}


static rgm_status sepsis_tabulate(const void *keys, const rgm_config *where, rgm_mdp **out) {
  static const char *const names[] = {"env.vaso", "env.fluid", "env.both", "env.none"};
  const sepsis_keys *k = keys;
  double kernel[SEPSIS_ACTIONS][SEPSIS_MOVES];
  int64_t alive, died;
  for (int a = 0; a < SEPSIS_ACTIONS; a++) {
    RGM_TRY(check_kernel(where, names[a], &k->kernel[a], kernel[a]));
  }
  RGM_TRY(check_cell(where, "env.alive", &k->alive, k, &alive));
  RGM_TRY(check_cell(where, "env.died", &k->died, k, &died));
  if (alive == died || k->rows * k->columns < 3) {
    return rgm_fail(RGM_ECONFIG, "%s: env.died: alive and died are two cells, and there is a third",
                    rgm_config_where(where, "env.died"));
  }
  rgm_mdp_builder *b;
  RGM_TRY(rgm_mdp_builder_new("sepsis grid", &b));
  rgm_status status = add_rows(b, k, kernel, alive, died);
  if (status != RGM_OK) {
    rgm_mdp_builder_free(b);
    return status;
  }
  const rgm_mdp_checks checks = {.tolerance = 1e-9};
  RGM_TRY(rgm_mdp_finish(b, k->rows * k->columns, SEPSIS_ACTIONS, &checks, out));
  RGM_TRY(describe(k, alive, died, *out));
  return k->policy[0] != '\0' ? read_policy(k, where, *out) : RGM_OK;
}


static rgm_status sepsis_prepare(const void *keys, const rgm_config *where, void *config) {
  (void)keys, (void)where, (void)config;
  return RGM_OK;
}


extern const rgm_env rgm_sepsis_grid;
const rgm_env rgm_sepsis_grid = {
    .name = "sepsis_grid",
    .paper = "Zhang et al. 2021",
    .doc = "A septic patient on a grid of pressure and lactate, as a tabular problem.",
    .fields = fields,
    .keys_size = sizeof(sepsis_keys),
    .config_size = 1,
    .prepare = sepsis_prepare,
    .tabulate = sepsis_tabulate,
};
