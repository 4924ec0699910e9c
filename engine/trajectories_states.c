// SPDX-License-Identifier: Apache-2.0
// States from features: scaling by the training rows, k-means++ (Arthur & Vassilvitskii 2007) with
// restarts side by side, Lloyd's iterations over what was measured (k-POD, Chi, Chi & Baraniuk
// 2016: a missing feature adds nothing to a distance, and a mean is one of those that are there),
// the nearest centre for every row. All of it is the same for any number of threads.

#include "engine/trajectories.h"
#include "kernels/rng.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum {
  GROUP = 16,      // restarts side by side; centres come in such groups
  CHUNK = 1 << 15, // rows that are assigned at a time
};


// ---- scaling -----------------------------------------------------------------------------------

float rgm_origin_scale(const rgm_mdp_origin *o, int64_t d, double x) {
  const double own = o->scaling[d] == RGM_SCALE_LOG ? rgm_log64(0.1 + x) : x;
  return isnan(x) ? NAN : (float)((own - o->mean[d]) / o->sd[d]);
}


double rgm_origin_centre(const rgm_mdp_origin *o, int64_t centre, int64_t d) {
  const double x = fma((double)o->centre[centre * o->features + d], o->sd[d], o->mean[d]);
  return o->scaling[d] == RGM_SCALE_LOG ? rgm_exp64(x) - 0.1 : x;
}


static bool is_training(const trajectories *t, int64_t row) {
  return t->held[t->stay[row]] == 0;
}


// mean, sd and range of feature d over training rows, two passes in their order
static rgm_status measure(trajectories *t, int d) {
  rgm_mdp_origin *o = t->origin;
  const bool skewed = t->scaling[d] == RGM_SCALE_LOG;
  double sum = 0.0, square = 0.0, low = INFINITY, high = -INFINITY;
  int64_t n = 0;
  for (int64_t row = 0; row < t->rows; row++) {
    const double x = (double)t->x[row * t->features + d];
    t->count.feature_missing[d] += isnan(x);
    if (is_training(t, row) && !isnan(x)) {
      sum += skewed ? rgm_log64(0.1 + x) : x;
      low = fmin(low, x);
      high = fmax(high, x);
      n++;
    }
  }
  if (n == 0) {
    return rgm_fail(RGM_EDATA,
                    "%s: column %s is empty in all training rows; put it into columns.ignore",
                    t->path, t->name[d]);
  }
  const double mean = sum / (double)n;
  for (int64_t row = 0; row < t->rows; row++) {
    const double x = (double)t->x[row * t->features + d];
    if (is_training(t, row) && !isnan(x)) {
      const double apart = (skewed ? rgm_log64(0.1 + x) : x) - mean;
      square = fma(apart, apart, square);
    }
  }
  const double sd = n > 1 ? sqrt(square / (double)(n - 1)) : 0.0;
  if (!(sd > 1e-12 * fabs(mean))) {
    return rgm_fail(RGM_EDATA,
                    "%s: column %s is the same in all training rows and tells no states apart; "
                    "put it into columns.ignore",
                    t->path, t->name[d]);
  }
  o->mean[d] = t->scaling[d] == RGM_SCALE_BINARY ? 0.5 : mean;
  o->sd[d] = t->scaling[d] == RGM_SCALE_BINARY ? 1.0 : sd;
  o->scaling[d] = t->scaling[d];
  o->low[d] = low;
  o->high[d] = high;
  return RGM_OK;
}


static rgm_status scale(trajectories *t) {
  for (int d = 0; d < t->features; d++) {
    RGM_TRY(measure(t, d));
  }
  for (int64_t row = 0; row < t->rows; row++) {
    float *x = t->x + row * t->features;
    int known = 0;
    for (int d = 0; d < t->features; d++) {
      x[d] = rgm_origin_scale(t->origin, d, (double)x[d]);
      known += !isnan(x[d]);
    }
    t->count.empty_rows += known == 0;
    t->count.missing[t->held[t->stay[row]]] += (double)(t->features - known);
  }
  return RGM_OK;
}


// ---- k-means -----------------------------------------------------------------------------------

// Restarts side by side over the rows that are fitted, n of D features; arrays on the device and
// copies of what comes back on the host.
typedef struct means {
  trajectories *t;
  rgm_stream *stream;
  rgm_arena *arena;
  int64_t n, D, K, padded, restarts, first; // `first`: number of the first of this group
  rgm_tensor x, centre, index, least, all, fresh, active, one, nearest, number;
  float *rows, *host, *centres, *distance, *newest; // (n, D), (n, 16), (R, D, padded), (R, n), ...
  int32_t *member, *before;                         // (R, n)
  float *reach;                                     // (n, 16): squared distance to the nearest
  double *block;                                    // (blocks, 16): sums of it
  double *sum, *inertia;                            // (R, D + 1, padded) of the means; (R)
  int64_t *seen;                                    // (R, D, padded)
  uint32_t live[GROUP];
  int64_t moved[GROUP];
} means;


static void plan(means *m) {
  rgm_arena *a = m->arena;
  const int64_t R = m->restarts;
  m->x = rgm_plan(a, "x", RGM_F32, RGM_SCRATCH, "one, row, feature", "1", 1, m->n, m->D, 0);
  m->x.stride0 = 0;
  m->centre = rgm_plan(a, "centre", RGM_F32, RGM_SCRATCH, "restart, feature, centre", "1", R, m->D,
                       m->padded, 0);
  m->index = rgm_plan(a, "index", RGM_I32, RGM_SCRATCH, "restart, row", "", R, m->n, 0, 0);
  m->least = rgm_plan(a, "least", RGM_F32, RGM_SCRATCH, "restart, row", "1", R, m->n, 0, 0);
  m->all = rgm_plan(a, "all", RGM_F32, RGM_SCRATCH, "one, row, restart", "1", 1, m->n, GROUP, 0);
  m->fresh =
      rgm_plan(a, "fresh", RGM_F32, RGM_SCRATCH, "one, feature, restart", "1", 1, m->D, GROUP, 0);
  m->active = rgm_plan(a, "active", RGM_U32, RGM_SCRATCH, "restart", "", R, 0, 0, 0);
  m->one = rgm_plan(a, "one", RGM_U32, RGM_SCRATCH, "one", "", 1, 0, 0, 0);
}


static rgm_status take_memory(means *m) {
  const size_t R = (size_t)m->restarts, n = (size_t)m->n, D = (size_t)m->D, P = (size_t)m->padded;
  const size_t blocks = (n + RGM_ROW_BLOCK - 1) / RGM_ROW_BLOCK;
  RGM_TRY(rgm_arena_create(m->stream, &m->arena));
  plan(m);
  RGM_TRY(rgm_arena_bind(m->arena));
  plan(m);
  RGM_TRY(rgm_arena_seal(m->arena));
  m->rows = malloc(n * D * sizeof *m->rows);
  m->host = malloc(n * GROUP * sizeof *m->host);
  m->centres = malloc(R * D * P * sizeof *m->centres);
  m->distance = malloc(R * n * sizeof *m->distance);
  m->newest = malloc(D * GROUP * sizeof *m->newest);
  m->member = malloc(R * n * sizeof *m->member);
  m->before = malloc(R * n * sizeof *m->before);
  m->reach = malloc(n * GROUP * sizeof *m->reach);
  m->block = malloc(blocks * GROUP * sizeof *m->block);
  m->sum = malloc(R * D * P * sizeof *m->sum);
  m->inertia = malloc(R * sizeof *m->inertia);
  m->seen = malloc(R * D * P * sizeof *m->seen);
  return m->rows != NULL && m->host != NULL && m->centres != NULL && m->distance != NULL &&
                 m->newest != NULL && m->member != NULL && m->before != NULL && m->reach != NULL &&
                 m->block != NULL && m->sum != NULL && m->inertia != NULL && m->seen != NULL
             ? RGM_OK
             : rgm_fail(RGM_EMEMORY,
                        "no memory for %lld restarts of k-means over %lld rows; lower "
                        "states.restarts or states.share",
                        (long long)m->restarts, (long long)m->n);
}


static void give_memory(means *m) {
  void *const parts[] = {m->rows,   m->host,  m->centres, m->distance, m->newest,  m->member,
                         m->before, m->reach, m->block,   m->sum,      m->inertia, m->seen};
  for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) {
    free(parts[i]);
  }
  rgm_arena_free(m->arena);
}


// fn(m, i) for i below count
static void each(means *m, int64_t count, void (*fn)(void *arg, int64_t i)) {
  rgm_cpu_parallel(rgm_host(m->stream), count, fn, m);
}


// row `row` becomes centre k of restart r; what it lacks is at the mean, 0
static void place_centre(means *m, int64_t r, int64_t k, int64_t row) {
  for (int64_t d = 0; d < m->D; d++) {
    const float x = m->rows[row * m->D + d];
    const float own = isnan(x) ? 0.0f : x;
    m->centres[(r * m->D + d) * m->padded + k] = own;
    m->newest[d * GROUP + r] = own;
  }
}


// block i: distances to the nearest centre so far, and their sums
static void reach_task(void *arg, int64_t i) {
  means *m = arg;
  const int64_t end = (i + 1) * RGM_ROW_BLOCK < m->n ? (i + 1) * RGM_ROW_BLOCK : m->n;
  double sum[GROUP] = {0.0};
  for (int64_t row = i * RGM_ROW_BLOCK; row < end; row++) {
    for (int r = 0; r < GROUP; r++) {
      const float fresh = m->host[row * GROUP + r], old = m->reach[row * GROUP + r];
      const float own = fresh < old ? fresh : old;
      m->reach[row * GROUP + r] = own;
      sum[r] += (double)own;
    }
  }
  memcpy(m->block + i * GROUP, sum, sizeof sum);
}


// a row with chance in proportion to its reach; -1 where all are 0
static int64_t draw_row(const means *m, int64_t r, double u) {
  const int64_t blocks = (m->n + RGM_ROW_BLOCK - 1) / RGM_ROW_BLOCK;
  double total = 0.0, sum = 0.0;
  for (int64_t i = 0; i < blocks; i++) {
    total += m->block[i * GROUP + r];
  }
  int64_t i = 0;
  for (; i + 1 < blocks && sum + m->block[i * GROUP + r] <= u * total; i++) {
    sum += m->block[i * GROUP + r];
  }
  int64_t last = -1;
  for (int64_t row = i * RGM_ROW_BLOCK; row < m->n; row++) {
    const double own = (double)m->reach[row * GROUP + r];
    sum += own;
    last = own > 0.0 ? row : last;
    if (last == row && sum > u * total) {
      return row;
    }
  }
  for (int64_t row = m->n - 1; row >= 0 && last < 0; row--) {
    last = m->reach[row * GROUP + r] > 0.0f ? row : -1; // rounding at the end of the sums
  }
  return last;
}


// k-means++: each centre is a row, with chance in proportion to its squared distance to those
// before
static rgm_status start(means *m) {
  const uint64_t seed = (uint64_t)m->t->key.seed;
  const uint32_t words[2] = {(uint32_t)seed, (uint32_t)(seed >> 32)}, one = 1;
  const rgm_key key = rgm_stream_key(words, RGM_RANDOM_CLUSTER);
  const int64_t blocks = (m->n + RGM_ROW_BLOCK - 1) / RGM_ROW_BLOCK;
  for (int64_t i = 0; i < m->restarts * m->D * m->padded; i++) {
    m->centres[i] = INFINITY;
  }
  for (int64_t i = 0; i < m->D * GROUP; i++) {
    m->newest[i] = INFINITY;
  }
  for (int64_t i = 0; i < m->n * GROUP; i++) {
    m->reach[i] = INFINITY;
  }
  rgm_copy(m->stream, m->one.data, &one, sizeof one);
  for (int64_t k = 0; k < m->K; k++) {
    for (int64_t r = 0; r < m->restarts; r++) {
      const uint32_t restart = (uint32_t)(m->first + r);
      const rgm_words w = rgm_philox(key, restart, (uint32_t)k, 0, 0);
      const int64_t row = k == 0 ? (int64_t)rgm_below(key, restart, 0, 1, (uint32_t)m->n)
                                 : draw_row(m, r, rgm_unit64(w.w0));
      if (row < 0) {
        return rgm_fail(RGM_EDATA,
                        "%s: the training rows hold %lld different patients' states at most, for "
                        "%lld states; lower states.count",
                        m->t->path, (long long)k, (long long)m->K);
      }
      place_centre(m, r, k, row);
    }
    const rgm_nearest_centre nearest = {
        .index = rgm_view(m->index.data, RGM_I32, 1, m->n, 0, 0),
        .least = rgm_view(m->least.data, RGM_F32, 1, m->n, 0, 0),
        .all = m->all,
        .x = m->x,
        .centre = m->fresh,
        .active = m->one,
    };
    rgm_copy(m->stream, m->fresh.data, m->newest, rgm_bytes(m->fresh));
    rgm_mdp_nearest(m->stream, &nearest);
    rgm_copy(m->stream, m->host, m->all.data, rgm_bytes(m->all));
    RGM_TRY(rgm_sync(m->stream));
    each(m, blocks, reach_task);
  }
  return RGM_OK;
}


// restart r: the means of its members; a centre without any goes to the row that is furthest off
static void mean_task(void *arg, int64_t r) {
  means *m = arg;
  const int64_t n = m->n, D = m->D, P = m->padded;
  double *sum = m->sum + r * D * P;
  int64_t *seen = m->seen + r * D * P;
  float *far = m->distance + r * n;
  if (m->live[r] == 0) {
    return;
  }
  memset(sum, 0, (size_t)(D * P) * sizeof *sum);
  memset(seen, 0, (size_t)(D * P) * sizeof *seen);
  m->moved[r] = 0;
  m->inertia[r] = 0.0;
  for (int64_t i = 0; i < n; i++) {
    const int64_t k = m->member[r * n + i];
    const float *x = m->rows + i * D;
    m->moved[r] += k != m->before[r * n + i];
    m->inertia[r] += (double)far[i];
    for (int64_t d = 0; d < D; d++) {
      sum[k * D + d] += isnan(x[d]) ? 0.0 : (double)x[d];
      seen[k * D + d] += !isnan(x[d]);
    }
  }
  memcpy(m->before + r * n, m->member + r * n, (size_t)n * sizeof *m->before);
  if (m->moved[r] == 0) {
    return;
  }
  for (int64_t k = 0; k < m->K; k++) {
    int64_t any = 0;
    for (int64_t d = 0; d < D; d++) {
      any += seen[k * D + d];
      if (seen[k * D + d] > 0) {
        m->centres[(r * D + d) * P + k] = (float)(sum[k * D + d] / (double)seen[k * D + d]);
      }
    }
    if (any == 0) {
      int64_t most = 0;
      for (int64_t i = 1; i < n; i++) {
        most = far[i] > far[most] ? i : most;
      }
      far[most] = -1.0f;
      for (int64_t d = 0; d < D; d++) {
        const float x = m->rows[most * D + d];
        m->centres[(r * D + d) * P + k] = isnan(x) ? 0.0f : x;
      }
    }
  }
}


// Lloyd's iterations until nobody moves
static rgm_status iterate(means *m) {
  const size_t rows = (size_t)(m->restarts * m->n);
  memset(m->before, 0xFF, rows * sizeof *m->before);
  memset(m->live, 0, sizeof m->live);
  for (int64_t r = 0; r < m->restarts; r++) {
    m->live[r] = 1;
  }
  const rgm_nearest_centre nearest = {
      .index = m->index,
      .least = m->least,
      .x = m->nearest,
      .centre = m->centre,
      .active = m->active,
  };
  bool any = true;
  for (int64_t i = 0; i <= m->t->key.iterations && any; i++) {
    rgm_copy(m->stream, m->centre.data, m->centres, rgm_bytes(m->centre));
    rgm_copy(m->stream, m->active.data, m->live, rgm_bytes(m->active));
    rgm_mdp_nearest(m->stream, &nearest);
    rgm_copy(m->stream, m->member, m->index.data, rows * sizeof *m->member);
    rgm_copy(m->stream, m->distance, m->least.data, rows * sizeof *m->distance);
    RGM_TRY(rgm_sync(m->stream));
    if (i == m->t->key.iterations) {
      break; // the last centres' own distances
    }
    each(m, m->restarts, mean_task);
    any = false;
    for (int64_t r = 0; r < m->restarts; r++) {
      m->t->count.sweeps += m->live[r] != 0;
      m->live[r] = m->live[r] != 0 && m->moved[r] > 0;
      any = any || m->live[r] != 0;
    }
  }
  for (int64_t r = 0; r < m->restarts; r++) {
    m->inertia[r] = 0.0;
    for (int64_t i = 0; i < m->n; i++) {
      m->inertia[r] += (double)m->distance[r * m->n + i];
    }
  }
  return RGM_OK;
}


// the best restart so far stays in the origin
static void keep_best(means *m) {
  trajectory_counts *c = &m->t->count;
  rgm_mdp_origin *o = m->t->origin;
  for (int64_t r = 0; r < m->restarts; r++) {
    const double own = m->inertia[r] / (double)m->n;
    if (c->restarts_done == 0 || own < c->inertia) {
      for (int64_t k = 0; k < m->K; k++) {
        for (int64_t d = 0; d < m->D; d++) {
          o->centre[k * m->D + d] = m->centres[(r * m->D + d) * m->padded + k];
        }
      }
      c->inertia = own;
    }
    c->worst_inertia = c->restarts_done == 0 || own > c->worst_inertia ? own : c->worst_inertia;
    c->restarts_done++;
  }
}


// training rows with something measured, a share of them; their number
static int64_t choose_rows(const trajectories *t, float *out) {
  const uint64_t seed = (uint64_t)t->key.seed;
  const uint32_t words[2] = {(uint32_t)seed, (uint32_t)(seed >> 32)};
  const rgm_key key = rgm_stream_key(words, RGM_RANDOM_CLUSTER);
  const size_t bytes = (size_t)t->features * sizeof(float);
  int64_t n = 0;
  for (int64_t row = 0; row < t->rows; row++) {
    const float *x = t->x + row * t->features;
    bool any = false;
    for (int d = 0; d < t->features; d++) {
      any = any || !isnan(x[d]);
    }
    const rgm_words w = rgm_philox(key, UINT32_MAX, (uint32_t)row, (uint32_t)(row >> 32), 0);
    if (any && is_training(t, row) && rgm_unit64(w.w0) < t->key.share) {
      if (out != NULL) {
        memcpy(out + n * t->features, x, bytes);
      }
      n++;
    }
  }
  return n;
}


static rgm_status fit(trajectories *t, rgm_stream *stream, int64_t first, int64_t restarts) {
  means m = {.t = t, .stream = stream, .D = t->features, .K = t->key.states, .first = first};
  m.restarts = restarts;
  m.n = t->count.fitted;
  m.padded = (m.K + GROUP - 1) / GROUP * GROUP;
  rgm_status status = take_memory(&m);
  if (status == RGM_OK) {
    (void)choose_rows(t, m.rows);
    rgm_copy(stream, m.x.data, m.rows, rgm_bytes(m.x));
    // the rows are one for all restarts
    m.nearest = m.x;
    m.nearest.dims[0] = restarts;
    status = start(&m);
  }
  status = status == RGM_OK ? iterate(&m) : status;
  if (status == RGM_OK) {
    keep_best(&m);
  }
  give_memory(&m);
  return status;
}


rgm_status rgm_trajectories_states(trajectories *t, rgm_stream *stream) {
  rgm_mdp_origin *o = t->origin;
  RGM_TRY(scale(t));
  t->count.fitted = choose_rows(t, NULL);
  if (t->count.fitted < t->key.states) {
    return rgm_fail(RGM_EDATA, "%s: %lld rows to fit %lld states to; lower states.count%s", t->path,
                    (long long)t->count.fitted, (long long)t->key.states,
                    t->key.share < 1.0 ? " or raise states.share" : "");
  }
  if (t->count.fitted > INT32_MAX) {
    return rgm_fail(RGM_EDATA, "%s: more than 2^31 rows to fit states to; lower states.share",
                    t->path);
  }
  o->centres = t->key.states;
  o->centre = calloc((size_t)(o->centres * o->features), sizeof *o->centre);
  t->state = calloc((size_t)t->rows, sizeof *t->state);
  t->distance = calloc((size_t)t->rows, sizeof *t->distance);
  if (o->centre == NULL || t->state == NULL || t->distance == NULL) {
    return rgm_fail(RGM_EMEMORY, "no memory for %lld states", (long long)o->centres);
  }
  for (int64_t r = 0; r < t->key.restarts; r += GROUP) {
    const int64_t left = t->key.restarts - r;
    RGM_TRY(fit(t, stream, r, left < GROUP ? left : GROUP));
  }
  return RGM_OK;
}


// ---- assignment --------------------------------------------------------------------------------

// Tensors for a chunk of rows.
typedef struct assignment {
  rgm_tensor x, centre, index, least, active;
} assignment;


static void plan_assignment(const trajectories *t, rgm_arena *a, int64_t padded, assignment *s) {
  const int64_t D = t->features;
  s->x = rgm_plan(a, "x", RGM_F32, RGM_SCRATCH, "one, row, feature", "1", 1, CHUNK, D, 0);
  s->centre =
      rgm_plan(a, "centre", RGM_F32, RGM_SCRATCH, "one, feature, centre", "1", 1, D, padded, 0);
  s->index = rgm_plan(a, "index", RGM_I32, RGM_SCRATCH, "one, row", "", 1, CHUNK, 0, 0);
  s->least = rgm_plan(a, "least", RGM_F32, RGM_SCRATCH, "one, row", "1", 1, CHUNK, 0, 0);
  s->active = rgm_plan(a, "active", RGM_U32, RGM_SCRATCH, "one", "", 1, 0, 0, 0);
}


// who is not measured at all stays where they were; -1 where that is not known either
static void carry_on(trajectories *t) {
  for (int64_t row = 0; row < t->rows && t->count.empty_rows > 0; row++) {
    bool any = false;
    for (int d = 0; d < t->features; d++) {
      any = any || !isnan(t->x[row * t->features + d]);
    }
    if (!any) {
      const bool first = row == 0 || t->stay[row - 1] != t->stay[row];
      t->state[row] = first ? -1 : t->state[row - 1];
    }
  }
}


static rgm_status assign_rows(trajectories *t, rgm_stream *stream, assignment *s) {
  for (int64_t row = 0; row < t->rows; row += CHUNK) {
    const int64_t n = t->rows - row < CHUNK ? t->rows - row : CHUNK;
    s->x.dims[1] = s->index.dims[1] = s->least.dims[1] = n;
    rgm_copy(stream, s->x.data, t->x + row * t->features, rgm_bytes(s->x));
    const rgm_nearest_centre nearest = {
        .index = s->index, .least = s->least, .x = s->x, .centre = s->centre, .active = s->active};
    rgm_mdp_nearest(stream, &nearest);
    rgm_copy(stream, t->state + row, s->index.data, rgm_bytes(s->index));
    rgm_copy(stream, t->distance + row, s->least.data, rgm_bytes(s->least));
    RGM_TRY(rgm_sync(stream));
  }
  carry_on(t);
  return RGM_OK;
}


rgm_status rgm_trajectories_assign(trajectories *t, rgm_stream *stream, const uint8_t *alive) {
  const rgm_mdp_origin *o = t->origin;
  const int64_t K = o->centres, D = o->features, padded = (K + GROUP - 1) / GROUP * GROUP;
  assignment s;
  rgm_arena *arena = NULL;
  RGM_TRY(rgm_arena_create(stream, &arena));
  plan_assignment(t, arena, padded, &s);
  rgm_status status = rgm_arena_bind(arena);
  float *centre = malloc((size_t)(D * padded) * sizeof *centre);
  if (status == RGM_OK && centre == NULL) {
    status = rgm_fail(RGM_EMEMORY, "no memory for %lld states", (long long)K);
  }
  if (status == RGM_OK) {
    plan_assignment(t, arena, padded, &s);
    status = rgm_arena_seal(arena);
  }
  if (status == RGM_OK) {
    const uint32_t one = 1;
    for (int64_t i = 0; i < D * padded; i++) {
      const int64_t k = i % padded;
      centre[i] = k < K && alive[k] != 0 ? o->centre[k * D + i / padded] : INFINITY;
    }
    rgm_copy(stream, s.centre.data, centre, rgm_bytes(s.centre));
    rgm_copy(stream, s.active.data, &one, sizeof one);
    status = assign_rows(t, stream, &s);
  }
  free(centre);
  rgm_arena_free(arena);
  return status;
}
