// SPDX-License-Identifier: Apache-2.0
// `regimen simulate` of a tabular problem: stays of patients whose states are hidden behind noisy
// features, as a long table (CSV) that `regimen import trajectories` reads. The planted state
// stands in a column of its own, so that what an import finds can be compared with the truth.

#include "engine/csv.h"
#include "engine/mdp.h"
#include "engine/regimen.h"
#include "engine/simulate.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

typedef struct stay_keys {
  int64_t patients, seed, features, levels, longest;
  double noise, missing;
  char behaviour[RGM_STRING_SIZE], centres[RGM_STRING_SIZE];
} stay_keys;

#define KEY(member) offsetof(stay_keys, member)

static const rgm_field fields[] = {
    {"patients", RGM_INT, KEY(patients), "1", "1000", 1, 1e7, NULL, 0, "Patients, a stay each."},
    {"seed", RGM_INT, KEY(seed), "1", "1", 0, 9e15, NULL, 0, "Seed of stays and noise."},
    RGM_TEXT(
        "behaviour", KEY(behaviour), "", 0,
        "Who treats: a line of probabilities of all actions a state; empty: all actions alike."),
    RGM_TEXT("centres", KEY(centres), "", 0,
             "Features of each state: a line of numbers a state; empty: drawn from N(0, 1)."),
    {"features", RGM_INT, KEY(features), "1", "20", 1, 512, NULL, 0,
     "Features, where they are drawn."},
    {"noise", RGM_FLOAT, KEY(noise), "1", "0.25", 0, 1e6, NULL, 0,
     "Standard deviation of a feature about its state's."},
    {"missing", RGM_FLOAT, KEY(missing), "1", "0", 0, 0.99, NULL, 0,
     "Share of the values that are not measured."},
    {"levels", RGM_INT, KEY(levels), "1", "0", 0, 64, NULL, 0,
     "Action = levels x first + second drug: two columns of doses, level l above l - 1 up to l; 0: "
     "none."},
    {"longest", RGM_INT, KEY(longest), "steps", "500", 1, 1e6, NULL, 0,
     "Steps after which a stay is cut; its outcome is not known."},
    {0},
};

typedef struct writing {
  const stay_keys *k;
  const rgm_mdp *m;
  double *weight, *centre; // (rows), (states, features)
  int64_t features, rows, died, cut;
  FILE *out;
} writing;


// numbers of a file, a line a state, as many as the first has
static rgm_status read_centres(writing *w) {
  const char *path = w->k->centres;
  rgm_csv *csv;
  char *line;
  RGM_TRY(rgm_text_open(path, &csv));
  rgm_status status = RGM_OK;
  for (int64_t s = 0; s < w->m->states && status == RGM_OK; s++) {
    status = rgm_text_line(csv, &line);
    int64_t count = 0;
    double x[512];
    for (char *at = line, *end; status == RGM_OK && at != NULL && count < 512; at = end) {
      at += strspn(at, ",; \t");
      x[count] = strtod(at, &end);
      if (end == at) {
        break;
      }
      count++;
    }
    w->features = s == 0 ? count : w->features;
    if (status == RGM_OK && (count == 0 || count != w->features)) {
      status = rgm_fail(RGM_EDATA, "%s: row %lld: as many numbers as in the first row are expected",
                        path, (long long)s + 1);
    }
    if (status == RGM_OK && s == 0) {
      w->centre = calloc((size_t)(w->m->states * count), sizeof *w->centre);
      status = w->centre != NULL ? RGM_OK : rgm_fail(RGM_EMEMORY, "no memory for features");
    }
    if (status == RGM_OK) {
      memcpy(w->centre + s * count, x, (size_t)count * sizeof *x);
    }
  }
  rgm_csv_close(csv);
  return status;
}


static rgm_key key_of(const writing *w, uint32_t stream) {
  const uint64_t seed = (uint64_t)w->k->seed;
  const uint32_t words[2] = {(uint32_t)seed, (uint32_t)(seed >> 32)};
  return rgm_stream_key(words, stream);
}


static rgm_status draw_centres(writing *w) {
  const int64_t S = w->m->states, D = w->features = w->k->features;
  const rgm_key key = key_of(w, RGM_RANDOM_INIT);
  w->centre = calloc((size_t)(S * D), sizeof *w->centre);
  if (w->centre == NULL) {
    return rgm_fail(RGM_EMEMORY, "no memory for features");
  }
  for (int64_t i = 0; i < S * D; i++) {
    float n[2];
    const rgm_words words = rgm_philox(key, 0, (uint32_t)i, 0, 0);
    rgm_normals(words.w0, words.w1, &n[0], &n[1]);
    w->centre[i] = (double)n[0];
  }
  return RGM_OK;
}


// one row of the table
static void write_row(writing *w, int64_t patient, int64_t step, int64_t s, int32_t action,
                      const char *outcome) {
  const rgm_key key = key_of(w, RGM_RANDOM_NOISE);
  fprintf(w->out, "%lld,%lld", (long long)patient, (long long)step);
  for (int64_t d = 0; d < w->features; d++) {
    const rgm_words words = rgm_philox(key, (uint32_t)patient, (uint32_t)step, (uint32_t)d, 0);
    float n[2];
    rgm_normals(words.w0, words.w1, &n[0], &n[1]);
    if (rgm_unit64(words.w2) < w->k->missing) {
      fputc(',', w->out);
    } else {
      fprintf(w->out, ",%.9g", fma(w->k->noise, (double)n[0], w->centre[s * w->features + d]));
    }
  }
  if (w->k->levels > 0) {
    const rgm_words words = rgm_philox(key, (uint32_t)patient, (uint32_t)step, 0, 1);
    const double level[2] = {(double)(action / w->k->levels), (double)(action % w->k->levels)};
    for (int i = 0; i < 2; i++) {
      const double u = rgm_unit64(i == 0 ? words.w0 : words.w1);
      fprintf(w->out, ",%.6g", level[i] > 0.0 ? level[i] - u * 0.999 : 0.0);
    }
  }
  fprintf(w->out, ",%d,%s,%lld\n", action, outcome, (long long)s);
  w->rows++;
}


static void write_stay(writing *w, int64_t patient) {
  const rgm_mdp *m = w->m;
  rgm_rng rng = {key_of(w, RGM_RANDOM_PATIENT), 0, (uint32_t)patient, 0};
  int64_t s = rgm_mdp_choose(m->begin, m->states, rgm_unit64(rgm_rng_next(&rng)));
  for (int64_t t = 0; t < w->k->longest && !rgm_mdp_is_absorbing(m, s); t++) {
    const int64_t first = m->first[s];
    const int64_t row = first + rgm_mdp_choose(w->weight + first, m->first[s + 1] - first,
                                               rgm_unit64(rgm_rng_next(&rng)));
    const int64_t at =
        m->start[row] + rgm_mdp_choose(m->p + m->start[row], m->start[row + 1] - m->start[row],
                                       rgm_unit64(rgm_rng_next(&rng)));
    const int64_t next = m->next[at];
    const bool ends = rgm_mdp_is_absorbing(m, next);
    const char *outcome = !ends ? "" : m->good != NULL && m->good[next] != 0 ? "0" : "1";
    write_row(w, patient, t, s, m->action[row], outcome);
    w->died += ends && outcome[0] == '1';
    w->cut += !ends && t + 1 == w->k->longest;
    s = next;
  }
}


static void write_head(const writing *w) {
  fprintf(w->out, "id,step");
  for (int64_t d = 0; d < w->features; d++) {
    fprintf(w->out, ",x%lld", (long long)d + 1);
  }
  fprintf(w->out, "%s,action,died,planted_state\n", w->k->levels > 0 ? ",dose_1,dose_2" : "");
}


static rgm_status write_all(writing *w, const char *path) {
  char temporary[4096];
  snprintf(temporary, sizeof temporary, "%s.tmp", path);
  w->out = fopen(temporary, "w");
  if (w->out == NULL) {
    return rgm_fail(RGM_EIO, "%s: %s", temporary, strerror(errno));
  }
  write_head(w);
  for (int64_t i = 0; i < w->k->patients; i++) {
    write_stay(w, i);
  }
  const bool ok = fflush(w->out) == 0 && ferror(w->out) == 0;
  if (fclose(w->out) != 0 || !ok || rename(temporary, path) != 0) {
    const int reason = errno;
    remove(temporary);
    return rgm_fail(RGM_EIO, "%s: %s", path, strerror(reason));
  }
  return RGM_OK;
}


static rgm_status simulate(const rgm_run *run, const stay_keys *k, const rgm_options *options) {
  const rgm_mdp *m = run->mdp;
  writing w = {.k = k, .m = m};
  if (m->begin == NULL || m->good == NULL) {
    return rgm_fail(RGM_ECONFIG, "env.%s: needed to simulate stays",
                    m->begin == NULL ? "begin" : "survive");
  }
  w.weight = calloc((size_t)m->rows + 1, sizeof *w.weight);
  rgm_status status = w.weight != NULL ? rgm_mdp_read_policy(k->behaviour, m, w.weight)
                                       : rgm_fail(RGM_EMEMORY, "no memory for a policy");
  if (status == RGM_OK) {
    status = k->centres[0] != '\0' ? read_centres(&w) : draw_centres(&w);
  }
  status = status == RGM_OK ? write_all(&w, options->out) : status;
  if (status == RGM_OK) {
    fprintf(options->result, "%s: %lld patients, %lld rows, %.1f %% died, %lld cut\n", options->out,
            (long long)k->patients, (long long)w.rows, 100.0 * (double)w.died / (double)k->patients,
            (long long)w.cut);
  }
  free(w.weight);
  free(w.centre);
  return status;
}


rgm_status rgm_simulate_stays(rgm_config *config, const rgm_options *options) {
  rgm_run *run = NULL;
  stay_keys keys;
  rgm_status status = rgm_config_read(config, "simulate", fields, &keys);
  if (status != RGM_OK) {
    rgm_config_free(config);
    return status;
  }
  status = rgm_run_create(config, &run); // the run's from here on
  status = status == RGM_OK ? simulate(run, &keys, options) : status;
  rgm_run_free(run);
  return status;
}
