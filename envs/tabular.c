// SPDX-License-Identifier: Apache-2.0
// A tabular problem from a file, in any of the formats of engine/mdp.h.

#include "engine/mdp.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { MASK_NONE, MASK_TWINS, MASK_MEANS };

typedef struct tabular_keys {
  char path[RGM_STRING_SIZE], begin[RGM_STRING_SIZE], mask[RGM_STRING_SIZE];
  char kind[RGM_STRING_SIZE];
  double tolerance, survival_reward;
  bool normalise, restart;
  int duplicates, masks;
  rgm_list survive, ends;
} tabular_keys;

#define KEY(member) offsetof(tabular_keys, member)

static const char *const duplicates[] = {"merge", "refuse", NULL};
static const char *const masks[] = {"none", "twins", "means", NULL};

static const rgm_field fields[] = {
    {"path", RGM_STRING, KEY(path), "", NULL, 0, 0, NULL, RGM_SHAPE,
     "The problem's file, or its folder (ICU-Sepsis)."},
    {"kind", RGM_STRING, KEY(kind), "", "auto", 0, 0, NULL, RGM_SHAPE,
     "Its format: auto, text (s a s' p [r]), icu-sepsis (a folder), mdp (our own file), json "
     "(Gymnasium's), petsc, prism (.tra)."},
    {"begin", RGM_STRING, KEY(begin), "", "", 0, 0, NULL, RGM_SHAPE,
     "A file with the start distribution: lines of state and probability, or a number a state."},
    {"mask", RGM_STRING, KEY(mask), "", "", 0, 0, NULL, RGM_SHAPE,
     "A file of the states and actions that are allowed; all others are masked."},
    {"masks", RGM_CHOICE, KEY(masks), "", "none", 0, 0, masks, RGM_SHAPE,
     "Rows to mask: twins (equal rows of a state but the first), means (equal to the mean of the "
     "others, as ICU-Sepsis stores actions never taken)."},
    {"tolerance", RGM_FLOAT, KEY(tolerance), "1", "1e-8", 0, 1, NULL, RGM_SHAPE,
     "How far from 1 a row may sum to be taken for rounded."},
    {"normalise", RGM_BOOL, KEY(normalise), "", "false", 0, 0, NULL, RGM_SHAPE,
     "Scale every row to sum 1."},
    {"duplicates", RGM_CHOICE, KEY(duplicates), "", "merge", 0, 0, duplicates, RGM_SHAPE,
     "A transition that stands there twice: merge adds up, refuse is an error."},
    {"survive", RGM_LIST, KEY(survive), "1", "[]", 0, 2e9, NULL, RGM_SHAPE,
     "States in which a patient has survived, for P(survive)."},
    {"survival_reward", RGM_FLOAT, KEY(survival_reward), "reward", "0", -1e9, 1e9, NULL, RGM_SHAPE,
     "Paid on arrival in a state of env.survive, on top of the file's rewards."},
    {"ends", RGM_LIST, KEY(ends), "1", "[]", 0, 2e9, NULL, RGM_SHAPE,
     "States where an episode ends, whatever rows they have."},
    {"restart", RGM_BOOL, KEY(restart), "", "false", 0, 0, NULL, RGM_SHAPE,
     "Ends lead back to the start distribution, for average rewards."},
    {0},
};


static rgm_status mark_survivors(const tabular_keys *k, const rgm_config *where, rgm_mdp *m) {
  for (int i = 0; i < k->survive.count; i++) {
    const double s = k->survive.value[i];
    if (s >= (double)m->states || floor(s) != s) {
      return rgm_fail(RGM_ECONFIG, "%s: env.survive: %g is no state; there are %lld, from 0 on",
                      rgm_config_where(where, "env.survive"), s, (long long)m->states);
    }
    if (m->good == NULL) {
      m->good = calloc((size_t)m->states, 1);
    }
    if (m->good == NULL) {
      return rgm_fail(RGM_EMEMORY, "no memory for %lld states", (long long)m->states);
    }
    m->good[(int64_t)s] = 1;
  }
  return RGM_OK;
}


// arrivals in surviving states pay more
static void pay_survivors(double reward, rgm_mdp *m) {
  for (int64_t n = 0; n < m->rows && m->good != NULL && reward != 0.0; n++) {
    m->reward[n] = 0.0;
    for (int64_t i = m->start[n]; i < m->start[n + 1]; i++) {
      m->gain[i] += m->good[m->next[i]] != 0 ? reward : 0.0;
      m->reward[n] = fma(m->p[i], m->gain[i], m->reward[n]);
    }
  }
}


// the same problem in which every end leads to the start distribution
static rgm_status restart(const tabular_keys *k, const rgm_config *where, rgm_mdp **problem) {
  rgm_mdp *m = *problem;
  if (m->begin == NULL) {
    return rgm_fail(RGM_ECONFIG, "%s: env.restart: %s has no start distribution; set env.begin",
                    rgm_config_where(where, "env.restart"), k->path);
  }
  rgm_mdp_builder *b;
  RGM_TRY(rgm_mdp_builder_new(k->path, &b));
  rgm_status status = RGM_OK;
  for (int64_t s = 0; s < m->states && status == RGM_OK; s++) {
    const bool end = rgm_mdp_is_end(m, s);
    for (int64_t t = 0; t < m->states && end && status == RGM_OK; t++) {
      status = m->begin[t] > 0.0 ? rgm_mdp_add(b, s, s, 0, t, m->begin[t], 0.0) : RGM_OK;
    }
    for (int64_t n = m->first[s]; n < m->first[s + 1] && !end; n++) {
      for (int64_t i = m->start[n]; i < m->start[n + 1] && status == RGM_OK; i++) {
        if (m->allowed[n] != 0) {
          status = rgm_mdp_add(b, n, s, m->action[n], m->next[i], m->p[i], m->gain[i]);
        }
      }
    }
  }
  if (status != RGM_OK) {
    rgm_mdp_builder_free(b);
    return status;
  }
  rgm_mdp *again;
  const rgm_mdp_checks checks = {.tolerance = 1e-6};
  RGM_TRY(rgm_mdp_finish(b, m->states, m->actions, &checks, &again));
  again->begin = m->begin;
  again->good = m->good;
  m->begin = NULL;
  m->good = NULL;
  rgm_mdp_free(m);
  *problem = again;
  return RGM_OK;
}


static rgm_status tabular_tabulate(const void *keys, const rgm_config *where, rgm_mdp **out) {
  const tabular_keys *k = keys;
  const rgm_mdp_source source = {
      .path = k->path,
      .kind = k->kind,
      .begin = k->begin,
      .mask = k->mask,
      .checks = {.tolerance = k->tolerance,
                 .normalise = k->normalise,
                 .strict = k->duplicates == 1},
  };
  *out = NULL;
  RGM_TRY(rgm_mdp_read(&source, out));
  const int64_t masked = k->masks == MASK_TWINS   ? rgm_mdp_mask_twins(*out)
                         : k->masks == MASK_MEANS ? rgm_mdp_mask_means(*out)
                                                  : 0;
  if (masked < 0) {
    return rgm_fail(RGM_EMEMORY, "no memory for the masks");
  }
  RGM_TRY(mark_survivors(k, where, *out));
  pay_survivors(k->survival_reward, *out);
  RGM_TRY(rgm_mdp_end_states(*out, k->ends.value, k->ends.count));
  return k->restart ? restart(k, where, out) : RGM_OK;
}


static rgm_status tabular_prepare(const void *keys, const rgm_config *where, void *config) {
  (void)keys, (void)where, (void)config;
  return RGM_OK;
}


extern const rgm_env rgm_tabular;
const rgm_env rgm_tabular = {
    .name = "mdp",
    .paper = "Puterman 1994",
    .doc = "A tabular problem from a file.",
    .fields = fields,
    .keys_size = sizeof(tabular_keys),
    .config_size = 1,
    .prepare = tabular_prepare,
    .tabulate = tabular_tabulate,
};
