// SPDX-License-Identifier: Apache-2.0
// What is told of an import of trajectories: who is in it, what was dropped and why, how much of
// what was done the problem still knows. No patient, no value.

#include "engine/trajectories.h"

#include <math.h>

static double share(int64_t part, int64_t all) {
  return all > 0 ? 100.0 * (double)part / (double)all : 0.0;
}


static void write_json(const trajectories *t, const char *out, rgm_json *json) {
  const trajectory_counts *c = &t->count;
  const rgm_mdp *m = t->mdp;
  const struct {
    const char *name;
    double value;
  } rows[] = {
      {"rows", (double)c->rows},
      {"stays", (double)c->stays},
      {"patients", (double)c->patients},
      {"held_out_patients", (double)c->held_patients},
      {"held_out_stays", (double)c->held_stays},
      {"stays_without_outcome", (double)c->cut},
      {"died", (double)c->died},
      {"held_out_died", (double)c->held_died},
      {"gaps", (double)c->gaps},
      {"rows_not_measured", (double)c->empty_rows},
      {"features", (double)t->features},
      {"fitted_rows", (double)c->fitted},
      {"restarts", (double)c->restarts_done},
      {"inertia", c->inertia},
      {"worst_inertia", c->worst_inertia},
      {"distance", c->distance[0]},
      {"held_out_distance", c->distance[1]},
      {"missing", c->missing[0]},
      {"held_out_missing", c->missing[1]},
      {"states", (double)(m->states - 2)},
      {"states_removed", (double)c->removed},
      {"actions", (double)m->actions},
      {"pairs", (double)c->pairs},
      {"pairs_kept", (double)c->kept},
      {"transitions", (double)c->transitions},
      {"transitions_kept", (double)c->kept_transitions},
      {"visits_lost", (double)c->lost_visits},
      {"held_out_visits", (double)c->held_visits},
      {"held_out_visits_kept", (double)c->held_kept},
  };
  rgm_json_open(json, NULL, '{');
  rgm_json_string(json, "path", out);
  rgm_json_string(json, "sha256", t->digest);
  for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
    rgm_json_number(json, rows[i].name, rows[i].value);
  }
  rgm_json_open(json, "feature_missing", '{');
  for (int d = 0; d < t->features; d++) {
    rgm_json_number(json, t->name[d], share(c->feature_missing[d], c->rows) / 100.0);
  }
  rgm_json_close(json, '}');
  rgm_json_close(json, '}');
}


static void print_bins(const trajectories *t, FILE *text) {
  const rgm_mdp_origin *o = t->mdp->origin;
  for (int64_t d = 0; d < o->drugs; d++) {
    fprintf(text, "  %-20s none", o->drug[d]);
    for (int64_t b = 1; b < o->bins; b++) {
      if (b + 1 < o->bins) {
        fprintf(text, " | to %.5g", o->edge[d * o->bins + b]);
      } else {
        fprintf(text, " | more");
      }
    }
    fputc('\n', text);
  }
}


// features that are missing most, at most five
static void print_missing(const trajectories *t, FILE *text) {
  bool told[RGM_FEATURES] = {false};
  for (int turn = 0; turn < 5; turn++) {
    int most = -1;
    for (int d = 0; d < t->features; d++) {
      if (!told[d] && t->count.feature_missing[d] > 0 &&
          (most < 0 || t->count.feature_missing[d] > t->count.feature_missing[most])) {
        most = d;
      }
    }
    if (most < 0) {
      break;
    }
    told[most] = true;
    fprintf(text, "%s %s %.1f %%", turn == 0 ? "  most missing:" : ",", t->name[most],
            share(t->count.feature_missing[most], t->count.rows));
  }
  fprintf(text, "%s", t->count.missing[0] + t->count.missing[1] > 0.0 ? "\n" : "");
}


static void print_all(const trajectories *t, const char *out, FILE *text) {
  const trajectory_counts *c = &t->count;
  const rgm_mdp *m = t->mdp;
  const int64_t visits = c->held_visits, training = c->stays - c->held_stays;
  fprintf(text, "%s: %lld rows, %lld stays of %lld patients%s\n", t->path, (long long)c->rows,
          (long long)c->stays, (long long)c->patients,
          t->key.patient[0] == '\0' ? " (no columns.patient: a stay is a patient)" : "");
  fprintf(text, "  training: %lld stays, %.1f %% died; held out: %lld stays, %.1f %% died\n",
          (long long)training, share(c->died - c->held_died, training), (long long)c->held_stays,
          share(c->held_died, c->held_stays));
  if (c->held_stays == 0) {
    fprintf(text, "  WARNING: nobody is held out; a plan from this problem can be judged in sample "
                  "only\n");
  }
  fprintf(text,
          "  %lld stays without outcome (their last step teaches nothing), %lld gaps between steps "
          "(taken for one step), %lld rows without any value (state as before)\n",
          (long long)c->cut, (long long)c->gaps, (long long)c->empty_rows);
  fprintf(text, "states: %d features, %.2f %% missing (held out %.2f %%); ", t->features,
          100.0 * c->missing[0], 100.0 * c->missing[1]);
  fprintf(text, "%lld rows fitted, %d restarts, %.4g to %.4g squared sd from the centre\n",
          (long long)c->fitted, c->restarts_done, c->inertia, c->worst_inertia);
  print_missing(t, text);
  fprintf(text, "  distance to the own centre: training %.4g, held out %.4g\n", c->distance[0],
          c->distance[1]);
  fprintf(text, "  %lld states asked for, %lld kept; %lld visits are in none\n",
          (long long)t->key.states, (long long)(m->states - 2), (long long)c->lost_visits);
  fprintf(text, "actions: %lld\n", (long long)m->actions);
  print_bins(t, text);
  fprintf(text,
          "pairs seen in training: %lld, of them %lld more than %lld times, which may be taken: "
          "%.1f %% of %lld transitions\n",
          (long long)c->pairs, (long long)c->kept, (long long)t->key.least,
          share(c->kept_transitions, c->transitions), (long long)c->transitions);
  if (visits > 0) {
    fprintf(text, "  of %lld held-out visits %.1f %% were treated in such a way\n",
            (long long)visits, share(c->held_kept, visits));
  }
  fprintf(text,
          "%s: %lld states, %lld actions, %lld pairs, %lld non-zeros, with the visits of all "
          "stays (no ids)\n",
          out, (long long)m->states, (long long)m->actions, (long long)m->rows,
          (long long)m->entries);
}


void rgm_trajectories_report(const trajectories *t, const char *out, FILE *text, rgm_json *json) {
  write_json(t, out, json);
  if (text != NULL) {
    print_all(t, out, text);
  }
}
