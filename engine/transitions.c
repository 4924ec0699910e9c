// SPDX-License-Identifier: Apache-2.0
// A data set as transitions (transitions.h). Values are never printed, rows and columns are.

#include "engine/transitions.h"

#include <math.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

// The read transitions of this process: one copy for each file and keys.
typedef struct shared {
  rgm_transitions t; // first: what callers hold
  rgm_data_keys keys;
  struct stat file; // when it was read
  bool listed;
  int owners;
  struct shared *next;
} shared;

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER; // of the list and of owners
static shared *list;

// A data set becoming transitions.
typedef struct builder {
  rgm_dataset *d;
  rgm_transitions *t;
  int64_t *start;         // (episodes + 1)
  int *seen, *next, *act; // columns of states, of what follows them, of actions
  int reward, terminated, truncated, split, patient;
  bool drawn; // the split is ours
} builder;


static void say(rgm_transitions *t, const char *format, ...) RGM_PRINTF(2, 3);


static void say(rgm_transitions *t, const char *format, ...) {
  const size_t used = strlen(t->notes);
  va_list args;
  va_start(args, format);
  vsnprintf(t->notes + used, sizeof t->notes - used, format, args);
  va_end(args);
}


// ---- columns -----------------------------------------------------------------------------------

static int *columns_of(const rgm_dataset *d, unsigned roles, int *count) {
  *count = rgm_dataset_width(d, roles);
  int *found = malloc(((size_t)*count + 1) * sizeof *found);
  for (int i = 0, k = 0; found != NULL && i < d->column_count; i++) {
    if (roles & 1u << d->column[i].role) {
      found[k++] = i;
    }
  }
  return found;
}


// for each state the column of role next that is about it: all of them or none
static rgm_status find_next(builder *b) {
  const rgm_dataset *d = b->d;
  rgm_transitions *t = b->t;
  const char *lacks = NULL;
  int found = 0;
  for (int k = 0; k < t->states; k++) {
    const char *name = d->column[b->seen[k]].name;
    b->next[k] = -1;
    for (int i = 0; i < d->column_count; i++) {
      if (d->column[i].role == RGM_ROLE_NEXT && strcmp(d->column[i].of, name) == 0) {
        b->next[k] = i;
      }
    }
    found += b->next[k] >= 0;
    lacks = b->next[k] < 0 && lacks == NULL ? name : lacks;
  }
  t->has_next = found > 0;
  if (found > 0 && lacks != NULL) {
    return rgm_fail(RGM_EDATA,
                    "%s: some states have a column of role next, %s has none: give it one, or "
                    "leave all of them out",
                    t->path, lacks);
  }
  return RGM_OK;
}


// what must be there; continuous actions may be many columns, classes are one
static rgm_status find_columns(builder *b) {
  const rgm_dataset *d = b->d;
  rgm_transitions *t = b->t;
  b->seen = columns_of(d, RGM_SEEN, &t->states);
  b->act = columns_of(d, 1u << RGM_ROLE_ACTION, &t->actions);
  b->next = b->seen != NULL ? calloc((size_t)t->states + 1, sizeof *b->next) : NULL;
  if (b->next == NULL || b->act == NULL) {
    return rgm_fail(RGM_EMEMORY, "%s: no memory for its columns", t->path);
  }
  b->reward = rgm_dataset_role(d, RGM_ROLE_REWARD);
  b->terminated = rgm_dataset_role(d, RGM_ROLE_TERMINATED);
  b->truncated = rgm_dataset_role(d, RGM_ROLE_TRUNCATED);
  b->patient = rgm_dataset_role(d, RGM_ROLE_PATIENT);
  t->has_reward = b->reward >= 0;
  const char *lacks = t->states == 0      ? "state"
                      : t->actions == 0   ? "action"
                      : b->terminated < 0 ? "terminated"
                                          : NULL;
  if (lacks != NULL) {
    return rgm_fail(RGM_EDATA,
                    "%s: no column of role %s: it cannot be learned from; `regimen info` shows "
                    "the roles, `regimen import` gives them",
                    t->path, lacks);
  }
  if (!t->has_reward) {
    say(t, "no column of role reward: nothing that needs rewards can be learned\n");
  }
  return find_next(b);
}


// ---- values ------------------------------------------------------------------------------------

static rgm_status refuse(const builder *b, int64_t row, int column, const char *what) {
  return rgm_fail(RGM_EDATA, "%s: row %lld, column %s: %s", b->t->path,
                  (long long)(row + b->d->first_row), b->d->column[column].name, what);
}


// A cell as f32, a missing one as `fill`.
static rgm_status get(const builder *b, int64_t row, int column, double fill, float *out) {
  double value = rgm_cell_get(&b->d->column[column], row);
  if (isnan(value)) {
    value = fill;
  }
  if (isnan(value)) {
    return refuse(b, row, column,
                  "the value is missing and the column has no fill: fill it, or leave the row out");
  }
  *out = (float)value;
  return isfinite(*out) ? RGM_OK : refuse(b, row, column, "too large for a number of 32 bits");
}


static rgm_status get_flag(const builder *b, int64_t row, int column, bool *out) {
  const double value = column >= 0 ? rgm_cell_get(&b->d->column[column], row) : 0.0;
  *out = value == 1.0;
  return value == 0.0 || value == 1.0 ? RGM_OK
                                      : refuse(b, row, column, "a flag is neither 0 nor 1");
}


// state `k` of a row, or what follows it
static rgm_status get_state(const builder *b, int64_t row, int k, bool next, float *out) {
  const rgm_column *seen = &b->d->column[b->seen[k]];
  const int column = next ? b->next[k] : b->seen[k];
  const double own = b->d->column[column].fill;
  return get(b, row, column, isnan(own) ? seen->fill : own, out);
}


// Rows that become transitions, and what is known of their next state: of the data's columns, of
// the next row, or nothing.
typedef enum follows { FOLLOWS_COLUMN, FOLLOWS_ROW, FOLLOWS_END, FOLLOWS_NOTHING } follows;


static rgm_status what_follows(const builder *b, int64_t row, int64_t end, follows *out) {
  bool terminated, truncated;
  RGM_TRY(get_flag(b, row, b->terminated, &terminated));
  RGM_TRY(get_flag(b, row, b->truncated, &truncated));
  *out = b->t->has_next                ? FOLLOWS_COLUMN
         : terminated                  ? FOLLOWS_END
         : row + 1 == end || truncated ? FOLLOWS_NOTHING
                                       : FOLLOWS_ROW;
  return RGM_OK;
}


static rgm_status count_rows(builder *b) {
  rgm_transitions *t = b->t;
  for (int64_t e = 0; e < t->episodes; e++) {
    for (int64_t row = b->start[e]; row < b->start[e + 1]; row++) {
      follows kind;
      RGM_TRY(what_follows(b, row, b->start[e + 1], &kind));
      t->rows += kind != FOLLOWS_NOTHING;
      t->left_out += kind == FOLLOWS_NOTHING;
    }
  }
  if (t->left_out > 0) {
    say(t, "%lld last rows of episodes that did not terminate have no next state: left out\n",
        (long long)t->left_out);
  }
  if (t->rows > UINT32_MAX) {
    return rgm_fail(RGM_EDATA, "%s: %lld transitions; 2^32 - 1 are the most", t->path,
                    (long long)t->rows);
  }
  return t->rows > 0 ? RGM_OK
                     : rgm_fail(RGM_EDATA,
                                "%s: no row has a next state, so there is nothing left to train "
                                "on: episodes need two rows or more, or columns of role next",
                                t->path);
}


static bool allocate(rgm_transitions *t) {
  const size_t n = (size_t)t->rows, s = (size_t)t->states, d = (size_t)t->actions;
  t->obs = malloc(n * s * sizeof *t->obs);
  t->next = malloc(n * s * sizeof *t->next);
  t->action = malloc(n * d * sizeof *t->action);
  t->reward = malloc(n * sizeof *t->reward);
  t->terminated = malloc(n * sizeof *t->terminated);
  t->truncated = malloc(n);
  t->known = malloc(n);
  t->split = malloc(n);
  t->row = malloc(n * sizeof *t->row);
  t->episode = malloc(n * sizeof *t->episode);
  t->patient = malloc(n * sizeof *t->patient);
  t->state = calloc(s, sizeof *t->state);
  t->act = calloc(d, sizeof *t->act);
  t->mean = malloc(s * sizeof *t->mean);
  t->sd = malloc(s * sizeof *t->sd);
  t->act_low = calloc(d, sizeof *t->act_low);
  t->act_high = calloc(d, sizeof *t->act_high);
  return t->obs != NULL && t->next != NULL && t->action != NULL && t->reward != NULL &&
         t->terminated != NULL && t->truncated != NULL && t->known != NULL && t->split != NULL &&
         t->row != NULL && t->episode != NULL && t->patient != NULL && t->state != NULL &&
         t->act != NULL && t->mean != NULL && t->sd != NULL && t->act_low != NULL &&
         t->act_high != NULL;
}


// transition i from a row of episode e
static rgm_status fill_row(builder *b, int64_t i, int64_t row, int64_t e, follows kind) {
  rgm_transitions *t = b->t;
  bool terminated, truncated;
  float *obs = t->obs + i * t->states, *next = t->next + i * t->states;
  for (int k = 0; k < t->states; k++) {
    RGM_TRY(get_state(b, row, k, false, &obs[k]));
    next[k] = obs[k];
    if (kind == FOLLOWS_COLUMN || kind == FOLLOWS_ROW) {
      RGM_TRY(get_state(b, row + (kind == FOLLOWS_ROW), k, kind == FOLLOWS_COLUMN, &next[k]));
    }
  }
  for (int k = 0; k < t->actions; k++) {
    RGM_TRY(get(b, row, b->act[k], NAN, &t->action[i * t->actions + k]));
  }
  t->reward[i] = NAN;
  if (t->has_reward) {
    RGM_TRY(get(b, row, b->reward, NAN, &t->reward[i]));
  }
  RGM_TRY(get_flag(b, row, b->terminated, &terminated));
  RGM_TRY(get_flag(b, row, b->truncated, &truncated));
  t->terminated[i] = terminated ? 1.0f : 0.0f;
  t->terminated_count += terminated;
  t->truncated[i] = truncated;
  t->known[i] = kind != FOLLOWS_END;
  t->row[i] = row;
  t->episode[i] = e;
  t->patient[i] = b->patient >= 0 ? (int64_t)rgm_cell_get(&b->d->column[b->patient], row) : e;
  const double part = rgm_cell_get(&b->d->column[b->split], row);
  if (!(part >= 0 && part < RGM_SPLITS && part == floor(part))) {
    return refuse(b, row, b->split, "no part: 0 is for training, 1 for validation, 2 for the test");
  }
  t->split[i] = (uint8_t)part;
  t->part[t->split[i]]++;
  return RGM_OK;
}


static rgm_status fill_rows(builder *b) {
  rgm_transitions *t = b->t;
  if (!allocate(t)) {
    return rgm_fail(RGM_EMEMORY, "%s: no memory for %lld transitions", t->path, (long long)t->rows);
  }
  int64_t i = 0;
  for (int64_t e = 0; e < t->episodes; e++) {
    for (int64_t row = b->start[e]; row < b->start[e + 1]; row++) {
      follows kind;
      RGM_TRY(what_follows(b, row, b->start[e + 1], &kind));
      if (kind != FOLLOWS_NOTHING) {
        RGM_TRY(fill_row(b, i++, row, e, kind));
      }
    }
  }
  if (t->part[RGM_TRAIN] == 0) {
    return rgm_fail(RGM_EDATA,
                    "%s: no transition is for training: nothing left to train on; look at the "
                    "split, or choose another data.seed",
                    t->path);
  }
  return RGM_OK;
}


// ---- actions -----------------------------------------------------------------------------------

// Classes, where the column says how many there are or, in files of other programs, has whole
// numbers as its type.
static rgm_status find_classes(builder *b) {
  rgm_transitions *t = b->t;
  const rgm_column *c = &b->d->column[b->act[0]];
  const bool whole = c->cell != RGM_CELL_F32 && c->cell != RGM_CELL_F64;
  bool any = false;
  for (int k = 0; k < t->actions; k++) {
    any = any || b->d->column[b->act[k]].choices > 0;
  }
  if (any && t->actions > 1) {
    return rgm_fail(RGM_EDATA,
                    "%s: %d columns of actions, classes among them: one column of classes is "
                    "learned at a time; give the others another role",
                    t->path, t->actions);
  }
  t->choices = any ? c->choices : 0;
  if (!any && whole && t->actions == 1) {
    float most = 0.0f;
    for (int64_t i = 0; i < t->rows; i++) {
      most = t->action[i] > most ? t->action[i] : most;
    }
    t->choices = (int64_t)most + 1;
    say(t, "actions are whole numbers: taken as %lld classes, as many as occur\n",
        (long long)t->choices);
  }
  if (t->choices > RGM_MAX_CLASSES) {
    return rgm_fail(RGM_EDATA, "%s: %lld classes of actions; %d are the most", t->path,
                    (long long)t->choices, RGM_MAX_CLASSES);
  }
  for (int64_t i = 0; t->choices > 0 && i < t->rows; i++) {
    const float a = t->action[i];
    if (!(a >= 0.0f && a < (float)t->choices && a == floorf(a))) {
      return refuse(b, t->row[i], b->act[0],
                    "the action is no class: classes are whole numbers from 0 up to choices - 1");
    }
  }
  return RGM_OK;
}


// The box of a continuous action: the column's range, or else that of the training rows with a
// tenth of it on each side, since others go a little further and a density needs room at the edge.
static void find_box(builder *b, int k) {
  rgm_transitions *t = b->t;
  const rgm_column *c = &b->d->column[b->act[k]];
  const rgm_feature *f = &t->act[k];
  const bool told = isfinite(c->low) && isfinite(c->high) && c->low < c->high;
  const double room = 0.1 * (f->max - f->min);
  t->act_low[k] = (float)(told ? c->low : f->min - room);
  t->act_high[k] = (float)(told ? c->high : f->max + room);
  if (!(t->act_low[k] < t->act_high[k])) {
    t->act_low[k] -= 1.0f;
    t->act_high[k] += 1.0f;
  }
}


static void tell_boxes(builder *b) {
  rgm_transitions *t = b->t;
  int guessed = 0, constant = 0;
  int64_t outside = 0;
  for (int k = 0; k < t->actions; k++) {
    const rgm_column *c = &b->d->column[b->act[k]];
    const bool told = isfinite(c->low) && isfinite(c->high) && c->low < c->high;
    find_box(b, k);
    guessed += !told;
    constant += !told && t->act[k].min == t->act[k].max;
    for (int64_t i = 0; i < t->rows; i++) {
      const float a = t->action[i * t->actions + k];
      outside += a < t->act_low[k] || a > t->act_high[k];
    }
  }
  if (guessed > 0) {
    say(t, "%d of %d actions have no range: that of training rows, a tenth wider on each side\n",
        guessed, t->actions);
  }
  if (constant > 0) {
    say(t, "%d of %d actions are constant: their box is 1 below to 1 above\n", constant,
        t->actions);
  }
  if (outside > 0) {
    say(t, "%lld values of actions lie outside of their range: they count as at its edge\n",
        (long long)outside);
  }
}


// ---- doses -------------------------------------------------------------------------------------

// numbers of a note, NaN where it has another count of them
static void read_edges(const rgm_dataset *d, double *edge, int64_t count) {
  const char *text = rgm_dataset_note_text(d, "actions.edges");
  int64_t n = 0;
  for (char *end; text != NULL && n <= count; text = end) {
    const double value = strtod(text, &end);
    if (end == text) {
      break;
    }
    if (n < count) {
      edge[n] = value;
    }
    n++;
  }
  for (int64_t k = 0; k < count && n != count; k++) {
    edge[k] = NAN;
  }
}


// the doses that classes stand for, where a column of role dose is about them
static rgm_status describe_doses(builder *b) {
  const rgm_dataset *d = b->d;
  rgm_transitions *t = b->t;
  const rgm_column *dose = NULL;
  for (int i = 0; i < d->column_count && t->choices > 0; i++) {
    const rgm_column *c = &d->column[i];
    if (c->role == RGM_ROLE_DOSE && strcmp(c->of, d->column[b->act[0]].name) == 0) {
      dose = c;
    }
  }
  if (dose == NULL) {
    return RGM_OK;
  }
  t->dose = malloc((size_t)t->choices * sizeof *t->dose);
  t->edge = malloc((size_t)t->choices * sizeof *t->edge);
  double *work = malloc((size_t)t->rows * sizeof *work);
  if (t->dose == NULL || t->edge == NULL || work == NULL) {
    free(work);
    return rgm_fail(RGM_EMEMORY, "%s: no memory for its doses", t->path);
  }
  memcpy(t->dose_unit, dose->unit, sizeof t->dose_unit);
  for (int64_t a = 0; a < t->choices; a++) {
    int64_t n = 0;
    for (int64_t i = 0; i < t->rows; i++) {
      const double given = rgm_cell_get(dose, t->row[i]);
      if (t->split[i] == RGM_TRAIN && t->action[i] == (float)a && isfinite(given)) {
        work[n++] = given;
      }
    }
    t->dose[a] = n > 0 ? rgm_median(work, n) : NAN;
  }
  free(work);
  read_edges(d, t->edge, t->choices - 1);
  return RGM_OK;
}


// ---- figures of columns ------------------------------------------------------------------------

// quantile of type 7 of x, which is reordered
static double quantile(double *x, int64_t n, double q) {
  const double at = q * (double)(n - 1);
  const int64_t k = (int64_t)floor(at);
  const double low = rgm_order_statistic(x, n, k);
  const double high = rgm_order_statistic(x, n, k + 1 < n ? k + 1 : k);
  return low + (at - (double)k) * (high - low);
}


// x (N, width), column k: what training rows say; work (N)
static void describe(const rgm_transitions *t, const float *x, int width, int k, rgm_feature *f,
                     double *work) {
  int64_t n = 0;
  double sum = 0.0, square = 0.0;
  for (int64_t i = 0; i < t->rows; i++) {
    if (t->split[i] == RGM_TRAIN) {
      work[n++] = (double)x[i * width + k];
      sum += work[n - 1];
    }
  }
  f->mean = sum / (double)n;
  f->min = f->max = work[0];
  for (int64_t i = 0; i < n; i++) {
    square += (work[i] - f->mean) * (work[i] - f->mean);
    f->min = work[i] < f->min ? work[i] : f->min;
    f->max = work[i] > f->max ? work[i] : f->max;
  }
  // the mean of equal numbers may be off by a rounding
  f->mean = f->min == f->max ? f->min : f->mean;
  f->sd = f->min == f->max ? 1.0 : sqrt(square / (double)n);
  f->low = quantile(work, n, 0.001);
  f->high = quantile(work, n, 0.999);
}


static bool is_fixed(const rgm_transitions *t, int k) {
  for (int64_t i = 0; i < t->rows; i++) {
    const float *obs = t->obs + i * t->states, *next = t->next + i * t->states;
    const bool new = i == 0 || t->episode[i] != t->episode[i - 1];
    if (next[k] != obs[k] || (!new &&obs[k - t->states] != obs[k])) {
      return false;
    }
  }
  return true;
}


static rgm_status describe_all(builder *b) {
  rgm_transitions *t = b->t;
  double *work = malloc((size_t)t->rows * sizeof *work);
  if (work == NULL) {
    return rgm_fail(RGM_EMEMORY, "%s: no memory for its figures", t->path);
  }
  int constant = 0;
  for (int k = 0; k < t->states; k++) {
    const rgm_column *c = &b->d->column[b->seen[k]];
    rgm_feature *f = &t->state[k];
    memcpy(f->name, c->name, sizeof f->name);
    memcpy(f->unit, c->unit, sizeof f->unit);
    describe(t, t->obs, t->states, k, f, work);
    f->fixed = is_fixed(t, k);
    t->mean[k] = (float)f->mean;
    t->sd[k] = (float)f->sd;
    constant += f->min == f->max;
  }
  for (int k = 0; k < t->actions; k++) {
    const rgm_column *c = &b->d->column[b->act[k]];
    memcpy(t->act[k].name, c->name, sizeof t->act[k].name);
    memcpy(t->act[k].unit, c->unit, sizeof t->act[k].unit);
    describe(t, t->action, t->actions, k, &t->act[k], work);
  }
  free(work);
  if (constant > 0) {
    say(t, "%d of %d states are constant in training rows: they are centred and not scaled\n",
        constant, t->states);
  }
  if (t->choices == 0) {
    tell_boxes(b);
  }
  return RGM_OK;
}


// ---- parts -------------------------------------------------------------------------------------

// A number that is one: splits and checks go by it.
static rgm_status check_patients(const builder *b) {
  for (int64_t row = 0; b->patient >= 0 && row < b->d->rows; row++) {
    const double who = rgm_cell_get(&b->d->column[b->patient], row);
    if (!(fabs(who) < 0x1p53 && who == floor(who))) {
      return refuse(b, row, b->patient, "the patient's number is missing or not whole");
    }
  }
  return RGM_OK;
}


// The file's own split, or one drawn by patient, or where it knows no patients, by episode.
static rgm_status choose_split(builder *b, const rgm_data_keys *keys) {
  rgm_dataset *d = b->d;
  rgm_transitions *t = b->t;
  b->split = rgm_dataset_role(d, RGM_ROLE_SPLIT);
  if (b->split >= 0) {
    say(t, "the file says which rows are for training: data.seed, validation and test mean "
           "nothing\n");
    return RGM_OK;
  }
  if (b->patient < 0) {
    rgm_column *c = rgm_dataset_add(d, "patient-of-episode", RGM_ROLE_PATIENT, RGM_CELL_I64, "");
    if (c == NULL) {
      return RGM_EMEMORY;
    }
    for (int64_t e = 0; e < t->episodes; e++) {
      for (int64_t row = b->start[e]; row < b->start[e + 1]; row++) {
        rgm_cell_set(c, row, (double)e);
      }
    }
    b->patient = d->column_count - 1;
    say(t, "no column of role patient: the split is by episode\n");
  }
  b->drawn = true;
  RGM_TRY(rgm_dataset_split(d, (uint64_t)keys->seed, keys->validation, keys->test));
  b->split = rgm_dataset_role(d, RGM_ROLE_SPLIT);
  return RGM_OK;
}


// Transition i of its patient, for sorting.
typedef struct member {
  int64_t patient, i;
} member;


static int by_patient(const void *a, const void *b) {
  const member *x = a, *y = b;
  const int64_t p = x->patient, q = y->patient;
  return p != q ? (p > q) - (p < q) : (x->i > y->i) - (x->i < y->i);
}


// nobody is in two parts
static rgm_status check_parts(const builder *b) {
  const rgm_transitions *t = b->t;
  for (int64_t i = 1; i < t->rows; i++) {
    if (t->episode[i] == t->episode[i - 1] && t->split[i] != t->split[i - 1]) {
      return refuse(b, t->row[i], b->split,
                    "an episode is in two parts: what is learned from would be tested on; split "
                    "by patient");
    }
  }
  member *m = malloc((size_t)t->rows * sizeof *m);
  if (m == NULL) {
    return rgm_fail(RGM_EMEMORY, "%s: no memory to check its split", t->path);
  }
  for (int64_t i = 0; i < t->rows; i++) {
    m[i] = (member){t->patient[i], i};
  }
  qsort(m, (size_t)t->rows, sizeof *m, by_patient);
  int64_t bad = -1;
  for (int64_t k = 1; k < t->rows && bad < 0; k++) {
    const bool same = m[k].patient == m[k - 1].patient;
    bad = same && t->split[m[k].i] != t->split[m[k - 1].i] ? m[k].i : -1;
  }
  free(m);
  return bad < 0 ? RGM_OK
                 : refuse(b, t->row[bad], b->split,
                          "a patient is in two parts: what is learned from would be tested on; "
                          "split by patient");
}


static void tell_parts(builder *b, const rgm_data_keys *keys) {
  rgm_transitions *t = b->t;
  if (b->drawn && keys->validation > 0.0 && t->part[RGM_VALIDATION] == 0) {
    say(t, "by chance nobody is for validation: choose another data.seed\n");
  }
  if (b->drawn && keys->test > 0.0 && t->part[RGM_TEST] == 0) {
    say(t, "by chance nobody is for the test: choose another data.seed\n");
  }
}


// ---- building ----------------------------------------------------------------------------------

static void release(rgm_transitions *t) {
  void *const memory[] = {t->obs,       t->next,     t->action, t->reward, t->terminated,
                          t->truncated, t->known,    t->split,  t->row,    t->episode,
                          t->patient,   t->state,    t->act,    t->mean,   t->sd,
                          t->act_low,   t->act_high, t->dose,   t->edge};
  for (size_t i = 0; i < sizeof memory / sizeof *memory; i++) {
    free(memory[i]);
  }
}


static rgm_status build(builder *b, const rgm_data_keys *keys) {
  rgm_dataset *d = b->d;
  rgm_transitions *t = b->t;
  if (d->digest[0] == '\0') {
    RGM_TRY(rgm_dataset_digest(d, t->digest));
  }
  memcpy(t->digest, d->digest, sizeof t->digest);
  memcpy(t->format, d->format, sizeof t->format);
  memcpy(t->path, keys->path, sizeof t->path);
  t->file_rows = d->rows;
  b->start = rgm_dataset_episodes(d, &t->episodes);
  if (b->start == NULL) {
    return RGM_EMEMORY;
  }
  RGM_TRY(find_columns(b));
  RGM_TRY(check_patients(b));
  RGM_TRY(choose_split(b, keys));
  RGM_TRY(count_rows(b));
  RGM_TRY(fill_rows(b));
  RGM_TRY(check_parts(b));
  RGM_TRY(find_classes(b));
  RGM_TRY(describe_doses(b));
  RGM_TRY(describe_all(b));
  tell_parts(b, keys);
  return RGM_OK;
}


rgm_status rgm_transitions_of(rgm_dataset *d, const rgm_data_keys *keys,
                              const rgm_transitions **out) {
  *out = NULL;
  shared *s = calloc(1, sizeof *s);
  if (s == NULL) {
    return rgm_fail(RGM_EMEMORY, "%s: no memory for its transitions", keys->path);
  }
  builder b = {.d = d, .t = &s->t};
  const rgm_status status = build(&b, keys);
  free(b.start);
  free(b.seen);
  free(b.next);
  free(b.act);
  if (status != RGM_OK) {
    release(&s->t);
    free(s);
    return status;
  }
  s->keys = *keys;
  s->owners = 1;
  *out = &s->t;
  return RGM_OK;
}


// ---- one copy for all --------------------------------------------------------------------------

static bool is_same(const shared *s, const rgm_data_keys *keys, const struct stat *file) {
  return strcmp(s->keys.path, keys->path) == 0 && s->keys.seed == keys->seed &&
         s->keys.validation == keys->validation && s->keys.test == keys->test &&
         s->file.st_dev == file->st_dev && s->file.st_ino == file->st_ino &&
         s->file.st_size == file->st_size && s->file.st_mtim.tv_sec == file->st_mtim.tv_sec &&
         s->file.st_mtim.tv_nsec == file->st_mtim.tv_nsec;
}


static rgm_status read_new(const rgm_data_keys *keys, const struct stat *file,
                           const rgm_transitions **out) {
  rgm_dataset *d = NULL;
  RGM_TRY(rgm_dataset_read(keys->path, &d));
  const rgm_status status = rgm_transitions_of(d, keys, out);
  rgm_dataset_free(d);
  RGM_TRY(status);
  shared *s = (shared *)(uintptr_t)*out;
  s->file = *file;
  s->listed = true;
  s->next = list;
  list = s;
  return RGM_OK;
}


rgm_status rgm_transitions_read(const rgm_data_keys *keys, const rgm_transitions **out) {
  struct stat file = {0};
  const bool there = stat(keys->path, &file) == 0;
  *out = NULL;
  pthread_mutex_lock(&lock);
  for (shared *s = list; s != NULL && there && *out == NULL; s = s->next) {
    if (is_same(s, keys, &file)) {
      s->owners++;
      *out = &s->t;
    }
  }
  // what is wrong with the file is for its reader to say
  const rgm_status status = *out != NULL ? RGM_OK : read_new(keys, &file, out);
  pthread_mutex_unlock(&lock);
  return status;
}


void rgm_transitions_free(const rgm_transitions *t) {
  if (t == NULL) {
    return;
  }
  shared *s = (shared *)(uintptr_t)t;
  pthread_mutex_lock(&lock);
  const bool last = --s->owners == 0;
  for (shared **at = &list; last && s->listed && *at != NULL; at = &(*at)->next) {
    if (*at == s) {
      *at = s->next;
      break;
    }
  }
  pthread_mutex_unlock(&lock);
  if (last) {
    release(&s->t);
    free(s);
  }
}


void rgm_transitions_print(const rgm_transitions *t, FILE *out) {
  fprintf(out, "data         %s (%s): %lld rows, %lld episodes, SHA-256 %.16s\n", t->path,
          t->format, (long long)t->file_rows, (long long)t->episodes, t->digest);
  fprintf(out, "             %lld transitions (%lld terminated) of %d states, ", (long long)t->rows,
          (long long)t->terminated_count, t->states);
  if (t->choices > 0) {
    fprintf(out, "%lld classes of actions; ", (long long)t->choices);
  } else {
    fprintf(out, "%d continuous actions; ", t->actions);
  }
  fprintf(out, "%lld to train, %lld to validate, %lld to test\n", (long long)t->part[RGM_TRAIN],
          (long long)t->part[RGM_VALIDATION], (long long)t->part[RGM_TEST]);
  for (const char *line = t->notes; *line != '\0';) {
    const size_t length = strcspn(line, "\n");
    fprintf(out, "             %.*s\n", (int)length, line);
    line += length + (line[length] == '\n');
  }
}
