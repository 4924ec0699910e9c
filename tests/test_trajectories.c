// SPDX-License-Identifier: Apache-2.0
// From trajectories to tabular problems: nearest centres against double on every instruction set
// and by CUDA run on the CPU; a small table by hand; planted states found again; plans judged by
// held-out patients against sums written out here; the file and its damage; absurd inputs.

#include "algorithms/dp.h"
#include "engine/regimen.h"
#include "engine/trajectories.h"
#include "tests/cuda_module.h"

#include <criterion/criterion.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

TestSuite(trajectories, .timeout = 240);

static char folder[] = "/tmp/regimen-trajectories-XXXXXX";


static const char *path_of(const char *name) {
  static char path[8][300];
  static int turn = 0;
  cr_assert(strstr(folder, "XXXXXX") == NULL || mkdtemp(folder) != NULL);
  turn = (turn + 1) % 8;
  snprintf(path[turn], sizeof path[0], "%s/%s", folder, name);
  return path[turn];
}


static const char *write_text(const char *name, const char *text) {
  const char *path = path_of(name);
  FILE *out = fopen(path, "w");
  cr_assert(out != NULL && fputs(text, out) >= 0 && fclose(out) == 0);
  return path;
}


// `regimen import trajectories` of a table by a map; what it says goes to `said` (NULL: nowhere)
static rgm_status import(const char *table, const char *map, const char *const *sets, int count,
                         const char *out, const char *csv, char *said, size_t size) {
  FILE *result = tmpfile();
  rgm_options options = {.path = "trajectories", .set = sets, .set_count = count};
  options.dir = table;
  options.rules = map;
  options.out = out;
  options.csv = csv;
  options.result = result;
  const rgm_status status = rgm_import(&options);
  if (said != NULL) {
    rewind(result);
    said[fread(said, 1, size - 1, result)] = '\0';
  }
  fclose(result);
  return status;
}


// ---- the kernels -------------------------------------------------------------------------------

enum { WAYS = 4 };

static rgm_stream *open_way(int way) {
  static const struct {
    const char *backend, *isa;
    int threads;
  } ways[WAYS] = {{"cpu", "auto", 1}, {"cpu", "avx2", 1}, {"cpu", "auto", 3}, {"cuda", "auto", 1}};
  const rgm_device_options options = {ways[way].threads, ways[way].isa, 0};
  rgm_stream *s = NULL;
  char note[512];
  setenv("RGM_CUDA_MODULE", cuda_module(), 1);
  cr_assert_eq(rgm_open(ways[way].backend, &options, &s, note, sizeof note), RGM_OK, "%s",
               rgm_last_error());
  return s;
}


// memory of the stream with a copy of `from` (NULL: zeros)
static rgm_tensor place(rgm_stream *s, rgm_tensor t, const void *from) {
  void *data = NULL;
  cr_assert_eq(s->backend->alloc(s, rgm_bytes(t), &data), RGM_OK);
  t.data = data;
  if (from != NULL) {
    rgm_copy(s, data, from, rgm_bytes(t));
  } else {
    rgm_fill(s, t, 0);
  }
  return t;
}


static void take(rgm_stream *s, rgm_tensor t, void *to) {
  rgm_copy(s, to, t.data, rgm_bytes(t));
  cr_assert_eq(rgm_sync(s), RGM_OK, "%s", rgm_last_error());
  s->backend->release(s, t.data);
}


static float noise(uint32_t i) {
  const uint32_t seed[2] = {7, 9};
  return rgm_unit(rgm_philox(rgm_stream_key(seed, 1), i, 0, 0, 0).w0) - 0.5f;
}


// Odd numbers of rows and features, holes, centres that are none, ties, a replica that is masked:
// the first nearest centre in double, distances to a few units of rounding, the same bits always.
Test(trajectories, nearest) {
  static const int shapes[][4] = {{1, 1, 1, 1}, {2, 7, 3, 5}, {3, 300, 20, 33}, {1, 13, 47, 150}};
  for (int i = 0; i < 4; i++) {
    const int R = shapes[i][0], N = shapes[i][1], D = shapes[i][2], C = shapes[i][3];
    const int K = (C + 15) / 16 * 16;
    float *x = malloc((size_t)(N * D) * 4), *c = malloc((size_t)(R * D * K) * 4);
    float *least = malloc((size_t)(R * N) * 4), *all = malloc((size_t)(R * N * K) * 4);
    float *first = malloc((size_t)(R * N * K) * 4);
    int32_t *index = malloc((size_t)(R * N) * 4), active[3] = {1, 1, 0};
    for (int k = 0; k < N * D; k++) {
      x[k] = k % 17 == 3 || k / D == 5 ? NAN : noise((uint32_t)k);
    }
    for (int k = 0; k < R * D * K; k++) {
      // centres 2 and 17 are centre 1 once more, in another lane and in the same
      const int at = k % K, own = at == 2 ? k - 1 : at == 17 ? k - 16 : k;
      c[k] = at >= C ? INFINITY : noise((uint32_t)(1000 + own));
    }
    for (int way = 0; way < WAYS; way++) {
      rgm_stream *s = open_way(way);
      rgm_nearest_centre a = {0};
      a.index = place(s, rgm_view(NULL, RGM_I32, R, N, 0, 0), NULL);
      a.least = place(s, rgm_view(NULL, RGM_F32, R, N, 0, 0), NULL);
      a.all = place(s, rgm_view(NULL, RGM_F32, R, N, K, 0), NULL);
      a.x = place(s, rgm_view(NULL, RGM_F32, 1, N, D, 0), x);
      a.centre = place(s, rgm_view(NULL, RGM_F32, R, D, K, 0), c);
      a.active = place(s, rgm_view(NULL, RGM_U32, R, 0, 0, 0), active);
      a.x.dims[0] = R;
      a.x.stride0 = 0;
      rgm_mdp_nearest(s, &a);
      take(s, a.index, index);
      take(s, a.least, least);
      take(s, a.all, way == 0 ? first : all);
      cr_expect(way == 0 || memcmp(first, all, (size_t)(R * N * K) * 4) == 0, "way %d", way);
      s->backend->release(s, a.x.data);
      s->backend->release(s, a.centre.data);
      s->backend->release(s, a.active.data);
      rgm_close(s);
      for (int row = 0; row < R * N; row++) {
        if (active[row / N] == 0) {
          cr_assert(index[row] == 0 && least[row] == 0.0f, "a masked replica was written");
          continue;
        }
        double best = INFINITY, chosen = 0.0;
        for (int k = 0; k < C; k++) {
          double sum = 0.0;
          for (int d = 0; d < D; d++) {
            const double own = (double)x[row % N * D + d];
            const double apart = own - (double)c[(row / N * D + d) * K + k];
            sum += isnan(own) ? 0.0 : apart * apart;
          }
          best = sum < best ? sum : best;
          chosen = k == index[row] ? sum : chosen;
        }
        cr_assert(chosen <= best * (1.0 + 1e-5) && index[row] < C, "row %d", row);
        cr_assert(index[row] != 2 && index[row] != 17, "row %d: not the first of equals", row);
        cr_assert_float_eq((double)least[row], chosen, 1e-6 * (1.0 + chosen));
      }
    }
    free(x), free(c), free(least), free(all), free(first), free(index);
  }
}


// The value of the best of all deterministic plans from (t, s) on, by trying each: exponential.
static double brute(const double *p, const double *reward, const double *last, int S, int A, int H,
                    int T, double gamma, int t, int s) {
  if (t == H) {
    return last[s];
  }
  const int at = T == 1 ? 0 : t;
  double best = -INFINITY;
  for (int a = 0; a < A; a++) {
    double q = reward[(at * S + s) * A + a];
    for (int n = 0; n < S && q > -1e300; n++) {
      q += gamma * p[((at * S + s) * S + n) * A + a] *
           brute(p, reward, last, S, A, H, T, gamma, t + 1, n);
    }
    best = q > best ? q : best;
  }
  return best > -1e300 ? best : brute(p, reward, last, S, A, H, T, gamma, t + 1, s);
}


// Backward induction on many small problems at once against trying everything; the same bits.
Test(trajectories, induction) {
  enum { R = 19, S = 3, A = 3, H = 4 };
  for (int T = 1; T <= H; T += H - 1) {
    double p[R * H * S * S * A], reward[R * H * S * A], value[R * (H + 1) * S] = {0}, gamma[R];
    double out[R * (H + 1) * S], first[R * (H + 1) * S];
    int32_t action[R * H * S];
    uint32_t active[R];
    for (int i = 0; i < R * T * S * A; i++) {
      double sum = 0.0;
      reward[i] = i % 11 == 5 ? -INFINITY : (double)noise((uint32_t)i);
      for (int n = 0; n < S; n++) {
        double *own = &p[(i / A * S + n) * A + i % A];
        *own = 0.6 + (double)noise((uint32_t)(i * S + n + 5000));
        sum += *own;
      }
      for (int n = 0; n < S; n++) {
        p[(i / A * S + n) * A + i % A] /= sum;
      }
    }
    for (int r = 0; r < R; r++) {
      gamma[r] = 0.9 + 0.005 * r;
      active[r] = r != 4;
      for (int s = 0; s < S; s++) {
        value[(r * (H + 1) + H) * S + s] = (double)noise((uint32_t)(r * S + s + 9000));
        reward[(r * T * S + s) * A] = -INFINITY;                               // in the first step
        reward[(r * T * S) * A + 1] = reward[(r * T * S) * A + 2] = -INFINITY; // nothing at all
      }
    }
    for (int way = 0; way < WAYS; way++) {
      rgm_stream *s = open_way(way);
      rgm_induction a = {0};
      a.value = place(s, rgm_view(NULL, RGM_F64, R, H + 1, S, 0), value);
      a.action = place(s, rgm_view(NULL, RGM_I32, R, H, S, 0), NULL);
      a.p = place(s, rgm_view(NULL, RGM_F64, R, T, S * S, A), p);
      a.reward = place(s, rgm_view(NULL, RGM_F64, R, T, S, A), reward);
      a.gamma = place(s, rgm_view(NULL, RGM_F64, R, 0, 0, 0), gamma);
      a.active = place(s, rgm_view(NULL, RGM_U32, R, 0, 0, 0), active);
      rgm_mdp_backward(s, &a);
      take(s, a.action, action);
      take(s, a.value, way == 0 ? first : out);
      cr_expect(way == 0 || memcmp(first, out, sizeof first) == 0, "way %d", way);
      s->backend->release(s, a.p.data);
      s->backend->release(s, a.reward.data);
      s->backend->release(s, a.gamma.data);
      s->backend->release(s, a.active.data);
      rgm_close(s);
    }
    for (int r = 0; r < R; r++) {
      for (int s = 0; s < S; s++) {
        const double want = brute(p + r * T * S * S * A, reward + r * T * S * A,
                                  value + (r * (H + 1) + H) * S, S, A, H, T, gamma[r], 0, s);
        const double got = first[r * (H + 1) * S + s];
        cr_assert_float_eq(got, active[r] != 0 ? want : 0.0, 1e-12, "problem %d, state %d", r, s);
        cr_assert(active[r] == 0 || (action[r * H * S + s] == -1) == (s == 0));
      }
    }
  }
}


// ---- a table by hand ---------------------------------------------------------------------------

#define MAP                                                                             \
  "columns: {features: \"a | b\", skewed: b, doses: dose}\n"                            \
  "states: {count: 2, restarts: 4, share: 1}\nactions: {bins: 3}\ncounts: {least: 0}\n" \
  "split: {held_out: 0}\n"

// Two clusters: a near 0 and b near 1, a near 10 and b near 100. Rows are out of order, one has no
// a, one nothing at all, ids are words, stay C has no outcome.
#define TABLE               \
  "id,step,a,b,dose,died\n" \
  "B,2,0.2,1,0,1\n"         \
  "A,1,0,1,0,0\n"           \
  "A,2,10,100,1,\n"         \
  "A,3,,110,2,0\n"          \
  "B,1,10.2,90,4,\n"        \
  "C,1,0.1,1.25,0,\n"       \
  "C,2,,,8,\n"              \
  "D,1,9.9,100,2,0\n"

Test(trajectories, by_hand) {
  char said[4096];
  const char *out = path_of("hand.h5"), *csv = path_of("hand.csv");
  cr_assert_eq(import(write_text("t.csv", TABLE), write_text("m.yaml", MAP), NULL, 0, out, csv,
                      said, sizeof said),
               RGM_OK, "%s", rgm_last_error());
  rgm_mdp *m;
  cr_assert_eq(rgm_mdp_file_read(out, &m), RGM_OK, "%s", rgm_last_error());
  const rgm_mdp_origin *o = m->origin;
  cr_assert(o != NULL && o->features == 2 && o->centres == 2 && o->stays == 4 && o->visits == 8);

  // doses above 0 are 1 2 2 4 8: the median 2 ends bin 1; medians of bins 2 and 6
  cr_expect_float_eq(o->edge[1], 2.0, 0.0);
  cr_expect_float_eq(o->dose[1], 2.0, 0.0);
  cr_expect_float_eq(o->dose[2], 6.0, 0.0);
  cr_expect_eq(rgm_origin_bin(o, 0, 0.0) * 100 + rgm_origin_bin(o, 0, 2.0) * 10 +
                   rgm_origin_bin(o, 0, 2.1),
               12);

  // b by its logarithm: mean and sd of the seven log(0.1 + b)
  const double b[7] = {1, 100, 110, 1, 90, 1.25, 100};
  double mean = 0.0, square = 0.0;
  for (int i = 0; i < 7; i++) {
    mean += log(0.1 + b[i]) / 7.0;
  }
  for (int i = 0; i < 7; i++) {
    square += (log(0.1 + b[i]) - mean) * (log(0.1 + b[i]) - mean) / 6.0;
  }
  cr_expect_float_eq(o->mean[1], mean, 1e-12);
  cr_expect_float_eq(o->sd[1], sqrt(square), 1e-12);

  // stays in the order of ids; the state with low a; what is not measured, and not at all
  const int32_t low = o->state[0], high = 1 - low;
  const int32_t state[8] = {low, high, high, high, low, low, low, high};
  const int32_t action[8] = {0, 1, 1, 2, 0, 0, 2, 1};
  cr_expect_arr_eq(o->state, state, sizeof state);
  cr_expect_arr_eq(o->action, action, sizeof action);
  cr_expect_eq(o->end[0] * 1000 + o->end[1] * 100 + o->end[2] * 10 + o->end[3], 2102);
  cr_expect_float_eq(rgm_origin_centre(o, high, 0), (10.0 + 10.2 + 9.9) / 3.0, 1e-5);
  cr_expect_float_eq(rgm_origin_centre(o, low, 1), cbrt(1.1 * 1.1 * 1.35) - 0.1, 1e-5);

  // new patients: by what is there, or nobody knows
  float distance;
  int known;
  const double some[3][2] = {{NAN, 2.0}, {11.0, NAN}, {NAN, NAN}};
  const int32_t want[3] = {low, high, -1};
  for (int i = 0; i < 3; i++) {
    cr_expect_eq(rgm_origin_assign(o, some[i], &distance, &known), want[i]);
    cr_expect_eq(known, i < 2);
  }

  // low: none -> high, none -> died, none -> low (C's second step teaches nothing); high: 1 ->
  // high, 1 -> survived twice, 2 -> low
  const int64_t none = rgm_mdp_row(m, low, 0), one = rgm_mdp_row(m, high, 1);
  cr_assert(none >= 0 && one >= 0 && m->states == 4 && m->rows == 3);
  cr_expect_eq(m->start[none + 1] - m->start[none], 3);
  cr_expect_float_eq(m->reward[none], 0.0, 0.0);
  cr_expect_float_eq(m->reward[one], 2.0 / 3.0, 1e-15);
  cr_expect_float_eq(m->begin[low], 0.5, 1e-15);
  cr_expect_str_eq(m->action_name[2], "dose 2");
  cr_expect(strstr(said, "nobody is held out") != NULL && strstr(said, "1 stays without") != NULL,
            "%s", said);
  rgm_mdp_free(m);
}


// ---- planted states ----------------------------------------------------------------------------

static const char planted[] = "run: {seed: 3}\n"
                              "env: {name: sepsis_grid}\nalgorithm: {name: dp}\n"
                              "simulate: {patients: 900, features: 6, noise: 0.05, missing: 0.1, "
                              "levels: 2, longest: 60}\n";
static const char planted_map[] =
    "columns: {features: \"x*\", action: action}\n"
    "states: {count: 14, restarts: 32, share: 0.5}\ncounts: {least: 5}\nsplit: {held_out: 0.3}\n";


static void simulate(const char *text, const char *table) {
  FILE *result = tmpfile();
  rgm_options options = {.path = write_text("s.yaml", text), .out = table, .result = result};
  cr_assert_eq(rgm_simulate(&options), RGM_OK, "%s", rgm_last_error());
  fclose(result);
}


// The grid's 14 live states hidden behind noise are found again, each of them, by every number of
// threads and instruction set; the counted model is what the rows say, row by row.
Test(trajectories, planted) {
  const char *table = path_of("p.csv"), *csv = path_of("rows.csv"), *out = path_of("p.h5");
  const char *map = write_text("pm.yaml", planted_map);
  static const char *const sets[] = {"run.threads=1", "run.threads=3", "run.isa=avx2"};
  char want[65] = "", hex[65];
  simulate(planted, table);
  for (int i = 0; i < 3; i++) {
    rgm_mdp *m;
    cr_assert_eq(import(table, map, &sets[i], 1, out, csv, NULL, 0), RGM_OK, "%s",
                 rgm_last_error());
    cr_assert_eq(rgm_mdp_file_read(out, &m), RGM_OK, "%s", rgm_last_error());
    cr_assert_eq(rgm_mdp_digest(m, hex), RGM_OK);
    cr_expect(i == 0 || strcmp(hex, want) == 0, "%s", sets[i]);
    memcpy(want, hex, sizeof want);
    if (i == 0) {
      // states of the file beside the planted ones: one to one, but for who is hardly measured
      FILE *rows = fopen(csv, "r"), *truth = fopen(table, "r");
      static char line[1 << 12], own[256];
      int64_t same = 0, all = 0, count[16][16] = {{0}};
      cr_assert(fgets(line, sizeof line, truth) != NULL && fgets(own, sizeof own, rows) != NULL);
      while (fgets(own, sizeof own, rows) != NULL && fgets(line, sizeof line, truth) != NULL) {
        // both go by stay and step
        int state = -1;
        cr_assert_eq(sscanf(own, "%*d,%d", &state), 1);
        count[state][atoi(strrchr(line, ',') + 1)]++;
        all++;
      }
      for (int s = 0; s < 14; s++) {
        int64_t most = 0;
        for (int k = 0; k < 16; k++) {
          most = count[s][k] > most ? count[s][k] : most;
        }
        same += most;
      }
      cr_expect_gt((double)same / (double)all, 0.97, "%lld of %lld", (long long)same,
                   (long long)all);
      fclose(rows);
      fclose(truth);
    }
    rgm_mdp_free(m);
  }
}


// ---- plans judged ------------------------------------------------------------------------------

// What dp_records says of the plan: importance sampling and the judges' model, written out again
// from the visits in the file.
Test(trajectories, judged) {
  const char *table = path_of("j.csv"), *out = path_of("j.h5");
  simulate(planted, table);
  cr_assert_eq(import(table, write_text("jm.yaml", planted_map), NULL, 0, out, NULL, NULL, 0),
               RGM_OK, "%s", rgm_last_error());
  rgm_mdp *m;
  cr_assert_eq(rgm_mdp_file_read(out, &m), RGM_OK, "%s", rgm_last_error());
  const rgm_mdp_origin *o = m->origin;
  const int64_t S = m->states, A = m->actions;
  double value[32] = {0}, seen[32][8] = {{0}}, target[32][8] = {{0}};
  for (int sweep = 0; sweep < 20000; sweep++) {
    for (int64_t s = 0; s < S; s++) {
      double best = -INFINITY;
      int64_t at = -1, allowed = 0;
      for (int64_t n = m->first[s]; n < m->first[s + 1]; n++) {
        double q = m->reward[n];
        for (int64_t e = m->start[n]; e < m->start[n + 1]; e++) {
          q += 0.95 * m->p[e] * value[m->next[e]];
        }
        allowed += m->allowed[n];
        at = m->allowed[n] != 0 && q > best ? m->action[n] : at;
        best = m->allowed[n] != 0 && q > best ? q : best;
      }
      for (int64_t n = m->first[s]; n < m->first[s + 1]; n++) {
        target[s][m->action[n]] =
            m->allowed[n] == 0 ? 0.0 : 0.3 / (double)allowed + (m->action[n] == at ? 0.7 : 0.0);
      }
      value[s] = at >= 0 ? best : value[s];
    }
  }
  for (int64_t v = 0; v < o->visits; v++) {
    seen[o->state[v]][o->action[v]] += 1.0;
  }
  double sum = 0.0, square = 0.0, total = 0.0, model = 0.0;
  int64_t judges = 0;
  for (int64_t i = 0; i < o->stays; i++) {
    double ratio = 1.0;
    if (o->held[i] == 0 || o->end[i] == RGM_STAY_CUT) {
      continue;
    }
    for (int64_t v = o->first[i]; v < o->first[i + 1]; v++) {
      double all = 0.0;
      for (int64_t a = 0; a < A; a++) {
        all += seen[o->state[v]][a];
      }
      ratio *= target[o->state[v]][o->action[v]] / (seen[o->state[v]][o->action[v]] / all);
    }
    const double back = o->end[i] == RGM_STAY_SURVIVED
                            ? pow(0.95, (double)(o->first[i + 1] - o->first[i] - 1))
                            : 0.0;
    sum += ratio;
    square += ratio * ratio;
    total += ratio * back;
    judges++;
  }
  for (int64_t s = 0; s < S; s++) {
    model += m->begin[s] * value[s];
  }
  char text[512], said[4096];
  snprintf(text, sizeof text,
           "env: {name: mdp, path: %s}\n"
           "algorithm: {name: dp_records, gamma: 0.95, soften: 0.3}\n",
           out);
  FILE *result = tmpfile();
  rgm_options options = {.path = write_text("e.yaml", text), .result = result, .json = true};
  options.out = path_of("plan");
  cr_assert_eq(rgm_evaluate(&options), RGM_OK, "%s", rgm_last_error());
  rewind(result);
  said[fread(said, 1, sizeof said - 1, result)] = '\0';
  fclose(result);
  const struct {
    const char *name;
    double want;
  } rows[] = {{"\"model\":", model},
              {"\"wis\":", total / sum},
              {"\"ess\":", sum * sum / square},
              {"\"stays\":", (double)judges}};
  for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
    const char *at = strstr(said, rows[i].name);
    cr_assert(at != NULL, "%s in %s", rows[i].name, said);
    cr_expect_float_eq(strtod(at + strlen(rows[i].name), NULL), rows[i].want,
                       1e-9 * (1.0 + rows[i].want), "%s %s", rows[i].name, said);
  }
  char policy[300];
  snprintf(policy, sizeof policy, "%s/policy.csv", options.out);
  cr_expect_eq(access(policy, R_OK), 0);
  rgm_mdp_free(m);
}


// ---- advice ------------------------------------------------------------------------------------

// `regimen recommend` of a run for a table or for one patient; what it says goes to `said`
static rgm_status recommend(const char *run, const char *csv, const char *set, char *said,
                            size_t size) {
  FILE *result = tmpfile();
  const char *const sets[] = {set};
  const rgm_options options = {.path = run,
                               .csv = csv,
                               .set = sets,
                               .set_count = set != NULL && set[0] != '\0',
                               .json = true,
                               .result = result};
  const rgm_status status = rgm_recommend(&options);
  rewind(result);
  said[fread(said, 1, size - 1, result)] = '\0';
  fclose(result);
  // without indentation
  char *to = said;
  for (const char *from = said; *from != '\0'; from++) {
    if (*from == '\n') {
      from += strspn(from + 1, " ");
    } else {
      *to++ = *from;
      from += *from == ':' && from[1] == ' ';
    }
  }
  *to = '\0';
  return status;
}


static void train(const char *problem, int steps, const char *sets, const char *run) {
  char text[600];
  snprintf(text, sizeof text,
           "run: {steps: %d, threads: 1, backend: cpu}\nenv: {name: mdp, path: %s}\n"
           "algorithm: {name: dp, gamma: 0.9, near: 1%s}\n",
           steps, problem, sets);
  FILE *result = tmpfile();
  const rgm_options options = {.path = write_text("dp.yaml", text), .out = run, .result = result};
  cr_assert_eq(rgm_train(&options), RGM_OK, "%s", rgm_last_error());
  fclose(result);
}


// Advice from the table by hand: state, value, doses and what is near-optimal by pencil; features
// outside of training; the training rows themselves, in the states that the importer gave them;
// every slip with its own message.
Test(trajectories, advised) {
  static char said[1 << 16];
  char out[300], run[300], other[300], rows[300];
  snprintf(out, sizeof out, "%s", path_of("hand.h5"));
  snprintf(run, sizeof run, "%s", path_of("plan"));
  snprintf(other, sizeof other, "%s", path_of("values"));
  snprintf(rows, sizeof rows, "%s", write_text("t.csv", TABLE));
  cr_assert_eq(import(rows, write_text("m.yaml", MAP), NULL, 0, out, NULL, NULL, 0), RGM_OK, "%s",
               rgm_last_error());
  train(out, 2000, "", run);
  train(out, 2000, ", method: evaluate", other);
  rgm_mdp *m;
  cr_assert_eq(rgm_mdp_file_read(out, &m), RGM_OK, "%s", rgm_last_error());
  const int low = m->origin->state[0];

  // high: H = 2/3 + 0.9 H / 3, so H = 20/21, by bin 1, whose median is 2; bin 2 (6) leads to low;
  // low: L = 0.9 (H + L) / 3, so L = 20/49. 0.9 L is 0.585034 less than H
  char want[4][700];
  static const char none[] = "{\"row\":4,\"measured\":0,\"state\":null,\"outside_training\":[]}";
  cr_assert_eq(recommend(run, write_text("new.csv", "who,b,a\nanna,2,NA\n\"b, c\",,11\nclara,,\n"),
                         NULL, said, sizeof said),
               RGM_OK, "%s", rgm_last_error());
  snprintf(want[0], sizeof want[0], "{\"row\":2,\"measured\":1,\"state\":%d,", low);
  snprintf(want[1], sizeof want[1], "{\"row\":3,\"measured\":1,\"state\":%d,", 1 - low);
  snprintf(want[2], sizeof want[2],
           "\"advice\":{\"action\":1,\"name\":\"dose 1\",\"taken\":3,\"doses\":{\"dose\":2}},"
           "\"near_optimal\":[{\"action\":2,\"name\":\"dose 2\",\"taken\":1,\"doses\":{\"dose\":6},"
           "\"loses\":0.585034013605");
  snprintf(want[3], sizeof want[3],
           "\"advice\":{\"action\":0,\"name\":\"dose 0\",\"taken\":3,\"doses\":{\"dose\":0}},"
           "\"near_optimal\":[],");
  for (int i = 0; i < 4; i++) {
    cr_expect(strstr(said, want[i]) != NULL, "%s not in %s", want[i], said);
  }
  cr_expect(strstr(said, "\"outside_training\":[\"a\"]") != NULL && strstr(said, none) != NULL,
            "%s", said);
  const double value[2] = {20.0 / 49.0, 20.0 / 21.0};
  const char *at = said;
  for (int i = 0; i < 2; i++) {
    at = strstr(at, "\"value\":") + 8;
    cr_expect_float_eq(strtod(at, NULL), value[i], 1e-11, "%s", said);
  }

  // a = 11 alone, from the centre of high
  const rgm_mdp_origin *o = m->origin;
  const double apart = (11.0 - o->mean[0]) / o->sd[0] - (double)o->centre[(1 - low) * 2];
  at = strstr(strstr(said, want[1]), "\"distance\":") + 11;
  cr_expect_float_eq(strtod(at, NULL), fabs(apart), 1e-6, "%s", said);

  // the rows of the import, in the order of the file; C's second has no state of its own
  const int high = 1 - low, state[8] = {low, low, high, high, high, low, -1, high};
  cr_assert_eq(recommend(run, rows, NULL, said, sizeof said), RGM_OK, "%s", rgm_last_error());
  at = said;
  for (int i = 0; i < 8; i++) {
    at = strstr(at, "\"state\":") + 8;
    cr_expect_eq(strncmp(at, "null", 4) == 0 ? -1 : atoi(at), state[i], "row %d: %.10s", i, at);
  }
  rgm_mdp_free(m);

  static const struct {
    const char *csv, *set, *message;
  } cases[] = {
      {NULL, NULL, "--csv FILE has patients, --set a="},
      {NULL, "c=1", "no feature \"c\""},
      {NULL, "a", "--set a: expected a number"},
      {NULL, "a=x", "--set a: expected a number"},
      {NULL, "a=nan", "--set a: expected a number"},
      {NULL, "b=-0.1", "--set b: -0.1 or less"},
      {"a,b\n1,x\n", NULL, "row 2: column b: no number"},
      {"a,b\n1,1\n1,-0.2\n", NULL, "row 3: column b: -0.1 or less"},
      {"a,b\n1,inf\n", NULL, "row 2: column b: no number"},
      {"a,b\n1\n", NULL, "row 2"},
      {"a,b\n", NULL, "no rows under a header"},
      {"who,when\n1,2\n", NULL, "none of the columns is one of the problem's 2 features, a"},
      {"a,bb\n1,2\n", NULL, "there is no column b, but bb"},
  };
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
    const char *csv = cases[i].csv != NULL ? write_text("bad.csv", cases[i].csv) : NULL;
    cr_expect(recommend(run, csv, cases[i].set, said, sizeof said) != RGM_OK &&
                  strstr(rgm_last_error(), cases[i].message) != NULL,
              "case %d (%s): %s", (int)i, cases[i].message, rgm_last_error());
  }
  cr_expect(recommend(other, NULL, "a=1", said, sizeof said) == RGM_EUSAGE &&
                strstr(rgm_last_error(), "algorithm.method: modified") != NULL,
            "%s", rgm_last_error());
  train(out, 1, "", path_of("begun"));
  cr_expect(recommend(path_of("begun"), NULL, "a=1", said, sizeof said) == RGM_EDATA &&
                strstr(rgm_last_error(), "the run is not done") != NULL,
            "%s", rgm_last_error());
  // another problem under the old name
  static const char *const sets[] = {"counts.least=1"};
  cr_assert_eq(import(rows, write_text("m.yaml", MAP), sets, 1, out, NULL, NULL, 0), RGM_OK, "%s",
               rgm_last_error());
  cr_expect(recommend(run, NULL, "a=1", said, sizeof said) == RGM_EDATA &&
                strstr(rgm_last_error(), "not what the run was trained on") != NULL,
            "%s", rgm_last_error());
}


// ---- damage and absurd inputs ------------------------------------------------------------------

Test(trajectories, damage) {
  const char *out = path_of("d.h5");
  cr_assert_eq(
      import(write_text("t.csv", TABLE), write_text("m.yaml", MAP), NULL, 0, out, NULL, NULL, 0),
      RGM_OK, "%s", rgm_last_error());
  // what info and check say of it
  static char said[4096];
  FILE *result = tmpfile();
  const rgm_options options = {.path = out, .result = result};
  cr_assert_eq(rgm_info(&options), RGM_OK, "%s", rgm_last_error());
  cr_assert_eq(rgm_check(&options), RGM_OK, "%s", rgm_last_error());
  rewind(result);
  said[fread(said, 1, sizeof said - 1, result)] = '\0';
  fclose(result);
  cr_expect(strstr(said, "4 stays, 8 visits") != NULL && strstr(said, "b (log)") != NULL &&
                strstr(said, "nobody_held_out") != NULL,
            "%s", said);

  FILE *file = fopen(out, "rb");
  unsigned char *bytes = malloc(1 << 20);
  const size_t size = fread(bytes, 1, 1 << 20, file);
  fclose(file);
  for (size_t at = 0; at < size; at += size / 30) {
    rgm_mdp *m;
    bytes[at] ^= 0x10;
    file = fopen(out, "wb");
    cr_assert_eq(fwrite(bytes, 1, size, file), size);
    fclose(file);
    bytes[at] ^= 0x10;
    cr_expect(rgm_mdp_file_read(out, &m) != RGM_OK && m == NULL, "byte %zu", at);
  }
  free(bytes);
}


Test(trajectories, absurd) {
  static const char head[] = "id,step,a,b,dose,died\n";
  static const struct {
    const char *rows, *set, *message;
  } cases[] = {
      {"", "", "no rows under a header"},
      {",1,0,1,0,1\n", "", "row 2: column id: no id"},
      {"A,,0,1,0,1\n", "", "row 2: column step: no step"},
      {"A,1,x,1,0,1\n", "", "row 2: column a: no number"},
      {"A,1,inf,1,0,1\n", "", "row 2: column a: no number"},
      {"A,1,0,-0.2,0,1\n", "", "row 2: column b: -0.1 or less"},
      {"A,1,0,1,,1\n", "", "row 2: column dose: no dose"},
      {"A,1,0,1,-1,1\n", "", "row 2: column dose: a negative dose"},
      {"A,1,0,1,0,1\nA,1,1,2,1,1\n", "", "rows 2 and 3 are the same step"},
      {"A,1,0,1,0,1\nA,2,1,2,1,0\n", "", "row 3: the outcome contradicts"},
      {"A,1,0,1,0,\nB,2,1,2,1,\n", "", "says of no stay how it ended"},
      {"A,1,0,1,0,1\nB,1,1,2,0,1\n", "", "no training row has a dose above 0"},
      {"A,1,0,1,2,1\nB,1,1,2,2,1\n", "", "quantiles are one dose"},
      {"A,1,0,1,2,1\nB,1,0,2,1,1\n", "", "column a is the same in all training rows"},
      {"A,1,,1,2,1\nB,1,,2,1,1\n", "", "column a is empty in all training rows"},
      {"A,1,0,1,2,1\nA,2,0,1,1,1\n", "", "is the same"},
      {"A,1,0,1,2,1\nB,1,1,2,1,1\n", "states.count=3", "2 rows to fit 3 states"},
      {"A,1,0,1,2,1\nB,1,1,2,1,1\nC,1,1,2,1,1\n", "states.count=3", "lower states.count"},
      {"A,1,0,1,2,1\nB,1,1,2,1,1\n", "counts.least=9", "seen more than 9 times"},
      {"A,1,0,1,2,1\nB,1,1,2,1,1\n", "columns.features=c", "no column c"},
      {"A,1,0,1,2,1\nB,1,1,2,1,1\n", "columns.skewed=bb", "did you mean b"},
      {"A,1,0,1,2,1\nB,1,1,2,1,1\n", "columns.binary=b", "both skewed and binary"},
      {"A,1,0,1,2,1\nB,1,2,2,1,1\n", "columns.binary=a", "row 3: column a: neither 0 nor 1"},
      {"A,1,0,1,2,1\n", "columns.doses=dos", "dos"},
      {"A,1,0,1,2,1\n", "columns.doses=a | b | dose", "one or two drugs"},
      {"A,1,0,1,2,1\n", "columns.action=dose", "either columns.doses"},
      {"A,1,0,1,2,1\n", "columns.patient=who", "who"},
      {"A,1,0,1,2,1\n", "columns.outcome=end", "end"},
      {"A,1,0,1,2,1\n", "state.count=2", "did you mean"},
      {"A,1,0,1,2,1\n", "split.held_out=1", "held_out"},
      {"A,1,0,1,2,1\nA,2,0,1\n", "", "row 3"},
  };
  char text[1024];
  char map[300];
  snprintf(map, sizeof map, "%s", write_text("am.yaml", MAP));
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
    snprintf(text, sizeof text, "%s%s", head, cases[i].rows);
    const char *const set[] = {cases[i].set};
    const rgm_status status = import(write_text("a.csv", text), map, set, cases[i].set[0] != '\0',
                                     path_of("a.h5"), NULL, NULL, 0);
    cr_expect(status != RGM_OK && strstr(rgm_last_error(), cases[i].message) != NULL,
              "case %d (%s): %s", (int)i, cases[i].message, rgm_last_error());
    cr_expect(access(path_of("a.h5"), F_OK) != 0, "case %d left a file", (int)i);
  }
}
