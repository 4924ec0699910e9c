// SPDX-License-Identifier: Apache-2.0
// `regimen info` and `regimen check` of a tabular problem's file: what is in it, and what a reader
// of its answers should know before. Of one counted from trajectories nothing is told of a patient.

#include "engine/checkpoint_private.h"
#include "engine/mdp_private.h"
#include "engine/trajectories.h"

#include <fcntl.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

// What is found in a walk through a problem.
typedef struct overview {
  int64_t ends, masked, starts, unreached, trapped, certain, rare, longest;
  int64_t rare_state, trapped_state, unreached_state; // the first of each
  double low, high;                                   // rewards of transitions
  double off;                                         // largest |sum - 1| of a row
} overview;

enum { RARE = 5 };


bool rgm_mdp_is_file(const char *path) {
  unsigned char prefix[RGM_PREFIX_SIZE];
  uint32_t schema = 0;
  const int fd = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
  const ssize_t n = fd < 0 ? -1 : pread(fd, prefix, sizeof prefix, 0);
  if (fd >= 0) {
    close(fd);
  }
  return n > 0 && rgm_prefix_is_ours(prefix, (size_t)n, &schema) && schema == RGM_MDP_SCHEMA;
}


// states that no policy comes to from the start distribution (from anywhere: none is unreached)
static rgm_status find_unreached(const rgm_mdp *m, overview *o) {
  uint8_t *seen = calloc((size_t)m->states + 1, 1);
  int64_t *queue = malloc(((size_t)m->states + 1) * sizeof *queue), head = 0, tail = 0;
  if (seen == NULL || queue == NULL) {
    free(seen);
    free(queue);
    return rgm_fail(RGM_EMEMORY, "no memory for %lld states", (long long)m->states);
  }
  for (int64_t s = 0; s < m->states; s++) {
    seen[s] = m->begin == NULL || m->begin[s] > 0.0;
    o->starts += m->begin != NULL && m->begin[s] > 0.0;
    if (seen[s]) {
      queue[tail++] = s;
    }
  }
  while (head < tail) {
    const int64_t s = queue[head++];
    for (int64_t n = m->first[s]; n < m->first[s + 1]; n++) {
      for (int64_t i = m->start[n]; i < m->start[n + 1] && m->allowed[n] != 0; i++) {
        if (m->p[i] > 0.0 && !seen[m->next[i]]) {
          seen[m->next[i]] = 1;
          queue[tail++] = m->next[i];
        }
      }
    }
  }
  o->unreached_state = -1;
  for (int64_t s = 0; s < m->states; s++) {
    o->unreached_state = !seen[s] && o->unreached_state < 0 ? s : o->unreached_state;
    o->unreached += !seen[s];
  }
  free(seen);
  free(queue);
  return RGM_OK;
}


static rgm_status find_traps(const rgm_mdp *m, overview *o) {
  uint8_t *trapped = calloc((size_t)m->states + 1, 1);
  o->trapped = trapped != NULL ? rgm_mdp_traps(m, NULL, trapped) : -1;
  o->trapped_state = -1;
  for (int64_t s = 0; s < m->states && o->trapped > 0 && o->trapped_state < 0; s++) {
    o->trapped_state = trapped[s] ? s : -1;
  }
  free(trapped);
  return o->trapped >= 0 ? RGM_OK
                         : rgm_fail(RGM_EMEMORY, "no memory for %lld states", (long long)m->states);
}


static void look_at_row(const rgm_mdp *m, int64_t s, int64_t n, overview *o) {
  double sum = 0.0;
  int64_t seen = 0;
  for (int64_t i = m->start[n]; i < m->start[n + 1]; i++) {
    sum += m->p[i];
    o->low = fmin(o->low, m->gain[i]);
    o->high = fmax(o->high, m->gain[i]);
    seen += m->count != NULL ? m->count[i] : 0;
  }
  const int64_t length = m->start[n + 1] - m->start[n];
  o->off = fmax(o->off, fabs(sum - 1.0));
  o->longest = length > o->longest ? length : o->longest;
  o->masked += m->allowed[n] == 0;
  const bool rare = m->count != NULL && m->allowed[n] != 0 && seen <= RARE;
  o->rare_state = rare && o->rare == 0 ? s : o->rare_state;
  o->rare += rare;
  o->certain += m->allowed[n] != 0 && length == 1;
}


static rgm_status look_over(const rgm_mdp *m, overview *o) {
  *o = (overview){.low = INFINITY, .high = -INFINITY, .rare_state = -1};
  for (int64_t s = 0; s < m->states; s++) {
    o->ends += rgm_mdp_is_end(m, s);
    for (int64_t n = m->first[s]; n < m->first[s + 1]; n++) {
      look_at_row(m, s, n, o);
    }
  }
  RGM_TRY(find_unreached(m, o));
  return find_traps(m, o);
}


// ---- info --------------------------------------------------------------------------------------

static void print_origin(const rgm_mdp_origin *o, FILE *out) {
  int64_t held = 0, held_visits = 0;
  for (int64_t i = 0; i < o->stays; i++) {
    held += o->held[i];
    held_visits += o->held[i] != 0 ? o->first[i + 1] - o->first[i] : 0;
  }
  fprintf(out, "counted from trajectories: %lld stays, %lld visits; held out %lld and %lld\n",
          (long long)o->stays, (long long)o->visits, (long long)held, (long long)held_visits);
  fprintf(out, "  states are %lld centres of %lld features:", (long long)o->centres,
          (long long)o->features);
  for (int64_t d = 0; d < o->features && d < 12; d++) {
    fprintf(out, " %s%s", o->feature[d], o->scaling[d] == RGM_SCALE_LOG ? " (log)" : "");
  }
  fprintf(out, "%s\n", o->features > 12 ? " ..." : "");
  for (int64_t d = 0; d < o->drugs; d++) {
    fprintf(out, "  doses of %s: none", o->drug[d]);
    for (int64_t b = 1; b + 1 < o->bins; b++) {
      fprintf(out, ", to %.5g", o->edge[d * o->bins + b]);
    }
    fprintf(out, ", more\n");
  }
}


static void print_info(const char *path, const rgm_mdp *m, const overview *o, const char *digest,
                       FILE *out) {
  fprintf(out, "%s: tabular problem, digest %.16s\n", path, digest);
  fprintf(out,
          "%lld states (%lld ends%s), %lld actions, %lld pairs (%lld masked), %lld non-zeros\n",
          (long long)m->states, (long long)o->ends, m->good != NULL ? ", survival known" : "",
          (long long)m->actions, (long long)m->rows, (long long)o->masked, (long long)m->entries);
  fprintf(out, "longest row %lld, rewards %.6g to %.6g, rows sum to 1 within %.2g\n",
          (long long)o->longest, o->low, o->high, o->off);
  if (m->begin != NULL) {
    fprintf(out, "begins in %lld states\n", (long long)o->starts);
  }
  fprintf(out, "%s, %s, %s\n", m->count != NULL ? "with counts" : "without counts",
          m->state_name != NULL ? "states have names" : "states are numbers",
          m->action_name != NULL ? "actions have names" : "actions are numbers");
  if (m->origin != NULL) {
    print_origin(m->origin, out);
  }
}


static void write_info(const char *path, const rgm_mdp *m, const overview *o, const char *digest,
                       FILE *out) {
  rgm_json json = {.out = out};
  const struct {
    const char *name;
    double value;
  } rows[] = {
      {"states", (double)m->states},
      {"ends", (double)o->ends},
      {"actions", (double)m->actions},
      {"pairs", (double)m->rows},
      {"masked", (double)o->masked},
      {"entries", (double)m->entries},
      {"longest", (double)o->longest},
      {"reward_low", o->low},
      {"reward_high", o->high},
      {"row_sums_off", o->off},
      {"starts", (double)o->starts},
      {"counts", m->count != NULL},
      {"stays", m->origin != NULL ? (double)m->origin->stays : 0.0},
      {"visits", m->origin != NULL ? (double)m->origin->visits : 0.0},
  };
  rgm_json_open(&json, NULL, '{');
  rgm_json_string(&json, "path", path);
  rgm_json_string(&json, "digest", digest);
  for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
    rgm_json_number(&json, rows[i].name, rows[i].value);
  }
  rgm_json_close(&json, '}');
}


rgm_status rgm_mdp_info(const char *path, bool json, FILE *out) {
  rgm_mdp *m;
  overview o;
  char digest[65];
  RGM_TRY(rgm_mdp_file_read(path, &m));
  rgm_status status = look_over(m, &o);
  status = status == RGM_OK ? rgm_mdp_digest(m, digest) : status;
  if (status == RGM_OK && json) {
    write_info(path, m, &o, digest, out);
  } else if (status == RGM_OK) {
    print_info(path, m, &o, digest, out);
  }
  rgm_mdp_free(m);
  return status;
}


// ---- check -------------------------------------------------------------------------------------

// One thing to know; `count` 0: nothing is wrong.
typedef struct remark {
  const char *kind, *text;
  int64_t count, state; // the first state of it, -1: none is meant
} remark;

enum { REMARKS = 8 };

static void list_remarks(const rgm_mdp *m, const overview *o, remark out[REMARKS]) {
  const bool held = m->origin != NULL && memchr(m->origin->held, 1, (size_t)m->origin->stays);
  const remark all[REMARKS] = {
      {"no_start", "no start distribution: answers are averages over all states", m->begin == NULL,
       -1},
      {"unreached", "states that no policy comes to from the start distribution", o->unreached,
       o->unreached_state},
      {"endless",
       "states that some policy never leaves and that are no ends: gamma below 1 is "
       "needed",
       o->trapped, o->trapped_state},
      {"no_end", "no state is an end", o->ends == 0, -1},
      {"no_survival", "nobody says which states are survived: no P(survive)", m->good == NULL, -1},
      {"rare", "allowed pairs seen at most 5 times: their best looks better than it is", o->rare,
       o->rare_state},
      {"certain", "allowed pairs that were seen to lead to one state only, or do",
       m->count != NULL ? o->certain : 0, -1},
      {"nobody_held_out", "no stay is held out: a plan can be judged in sample only",
       m->origin != NULL && !held, -1},
  };
  memcpy(out, all, sizeof all);
}


rgm_status rgm_mdp_report(const char *path, bool json, FILE *out) {
  rgm_mdp *m;
  overview o;
  RGM_TRY(rgm_mdp_file_read(path, &m));
  const rgm_status status = look_over(m, &o);
  if (status == RGM_OK) {
    remark all[REMARKS];
    rgm_json doc = {.out = json ? out : NULL};
    int found = 0;
    list_remarks(m, &o, all);
    rgm_json_open(&doc, NULL, '{');
    rgm_json_string(&doc, "path", path);
    rgm_json_open(&doc, "remarks", '[');
    for (int i = 0; i < REMARKS; i++) {
      if (all[i].count == 0) {
        continue;
      }
      found++;
      rgm_json_open(&doc, NULL, '{');
      rgm_json_string(&doc, "kind", all[i].kind);
      rgm_json_number(&doc, "count", (double)all[i].count);
      rgm_json_number(&doc, "state", (double)all[i].state);
      rgm_json_close(&doc, '}');
      if (!json) {
        fprintf(out, "%-16s %8lld  %s", all[i].kind, (long long)all[i].count, all[i].text);
        fprintf(out, all[i].state >= 0 ? " (the first: %lld)\n" : "\n", (long long)all[i].state);
      }
    }
    rgm_json_close(&doc, ']');
    rgm_json_close(&doc, '}');
    if (!json) {
      fprintf(out, "%s: whole, offsets, indices and sums of rows are right; %d remark%s\n", path,
              found, found == 1 ? "" : "s");
    }
  }
  rgm_mdp_free(m);
  return status;
}
