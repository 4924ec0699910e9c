// SPDX-License-Identifier: Apache-2.0
// Front doors of the kernel table: check shapes once, count work, dispatch; and the choice of a
// backend. A wrong shape is a bug of the caller, so it ends in RGM_ASSERT.

#include "kernels/door.h"
#include "kernels/module.h"
#include "kernels/policy.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

const rgm_backend *rgm_cpu_backend(const char *isa);


// ---- choice of a backend -----------------------------------------------------------------------

// opens a table's device and tells it in words
static rgm_status open_table(const rgm_backend *table, const rgm_device_options *options,
                             rgm_stream **out, char *device, size_t size) {
  RGM_ASSERT(table->abi_version == RGM_BACKEND_ABI && table->size == sizeof *table);
  RGM_TRY(table->open(options, out));
  (*out)->backend = table;
  rgm_describe(*out, device, size);
  return RGM_OK;
}


static rgm_status open_cpu(const rgm_device_options *options, rgm_stream **out, char *device,
                           size_t size) {
  const rgm_backend *table = rgm_cpu_backend(options->isa);
  if (table == NULL && rgm_cpu_isas()[0] == NULL) {
    return rgm_fail(RGM_EDEVICE,
                    "this processor has no AVX2 with FMA, the least that Regimen runs on");
  }
  if (table == NULL) {
    return rgm_fail(RGM_EUSAGE, "run.isa: this processor does not run %s; the best here is %s",
                    options->isa, rgm_cpu_isas()[0]);
  }
  return open_table(table, options, out, device, size);
}


// a module's device, and the CPU's threads beside it
static rgm_status open_beside(const rgm_backend *table, const rgm_device_options *options,
                              rgm_stream **out, char *device, size_t size) {
  char host[384];
  RGM_TRY(open_table(table, options, out, device, size));
  const rgm_status status = open_cpu(options, &(*out)->host, host, sizeof host);
  if (status != RGM_OK) {
    rgm_close(*out);
    return status;
  }
  (*out)->host->host = (*out)->host;
  return RGM_OK;
}


rgm_status rgm_open(const char *backend, const rgm_device_options *options, rgm_stream **out,
                    char *note, size_t note_size) {
  const bool cuda = strcmp(backend, "cuda") == 0, choose = strcmp(backend, "auto") == 0;
  if (!cuda && !choose && strcmp(backend, "cpu") != 0) {
    return rgm_fail(RGM_EUSAGE, "run.backend: there is no %s; use cpu, cuda or auto", backend);
  }
  char device[384], why[512] = "";
  if (cuda || choose) {
    const rgm_backend *table = rgm_module_backend(why, sizeof why);
    if (table == NULL && cuda) {
      return rgm_fail(RGM_EDEVICE, "run.backend is cuda, but %s; use cpu or auto", why);
    }
    if (table != NULL) {
      const rgm_status status = open_beside(table, options, out, device, sizeof device);
      if (status == RGM_OK) {
        snprintf(note, note_size, "%s", device);
      }
      if (status == RGM_OK || cuda || status == RGM_EUSAGE) {
        return status;
      }
      snprintf(why, sizeof why, "%.500s", rgm_last_error());
    }
  }
  RGM_TRY(open_cpu(options, out, device, sizeof device));
  (*out)->host = *out;
  snprintf(note, note_size, "%s%s%s", device, why[0] != '\0' ? "; no GPU: " : "", why);
  return RGM_OK;
}


void rgm_close(rgm_stream *s) {
  if (s != NULL && s->host != NULL && s->host != s) {
    s->host->backend->close(s->host);
  }
  if (s != NULL) {
    s->backend->close(s);
  }
}


void rgm_describe(const rgm_stream *s, char *text, size_t size) {
  s->backend->describe(s, text, size);
}


bool rgm_is_cpu(const rgm_stream *s) {
  return strcmp(s->backend->name, "cpu") == 0;
}


rgm_stream *rgm_host(const rgm_stream *s) {
  return s->host;
}


int64_t rgm_group(const rgm_stream *s, int64_t replicas) {
  const int64_t most = rgm_is_cpu(s) ? rgm_cpu_threads(s) : replicas;
  return replicas < most ? replicas : most;
}


// ---- checks and counts -------------------------------------------------------------------------

#define ROW_NAME(name) #name,
const char *const rgm_row_names[RGM_ROW_COUNT] = {RGM_ROWS(ROW_NAME)};


double rgm_seconds(void) {
  struct timespec time;
  clock_gettime(CLOCK_MONOTONIC, &time);
  return (double)time.tv_sec + 1e-9 * (double)time.tv_nsec;
}


// ---- device ------------------------------------------------------------------------------------

void rgm_copy(rgm_stream *s, void *dst, const void *src, size_t bytes) {
  LAUNCH(s, copy, 0, 2.0 * (double)bytes, dst, src, bytes);
}


void rgm_fill(rgm_stream *s, rgm_tensor x, int byte) {
  const double begun = begin(s, RGM_ROW_fill, 0, size_of(x));
  const int64_t replicas = x.dims[0], slice = rgm_elements(x) / replicas;
  if (x.stride0 == slice) {
    s->backend->fill(s, x.data, byte, rgm_bytes(x));
  } else {
    const size_t stride = (size_t)x.stride0 * rgm_dtype_size(x.dtype);
    for (int64_t r = 0; r < replicas; r++) {
      s->backend->fill(s, (char *)x.data + (size_t)r * stride, byte,
                       (size_t)slice * rgm_dtype_size(x.dtype));
    }
  }
  end(s, RGM_ROW_fill, begun);
}


rgm_status rgm_sync(rgm_stream *s) {
  return s->backend->sync(s);
}


void rgm_graph(rgm_stream *s, int slot, void (*fn)(void *, rgm_stream *), void *arg) {
  s->backend->graph(s, slot, fn, arg);
}


// ---- MLP ---------------------------------------------------------------------------------------

// the rows R, B of x and w's R, I, O fit
static void check_linear(rgm_tensor y, rgm_tensor x, rgm_tensor w) {
  RGM_ASSERT(x.dtype == RGM_F32 && y.dtype == RGM_F32 && w.dtype == RGM_F32);
  RGM_ASSERT(x.dims[0] == w.dims[0] && y.dims[0] == w.dims[0]);
  RGM_ASSERT(x.dims[1] == y.dims[1] && x.dims[2] == w.dims[1] && y.dims[2] == w.dims[2]);
  RGM_ASSERT(w.dims[2] % 16 == 0 && x.dims[3] == 1 && y.dims[3] == 1 && w.dims[3] == 1);
}


static double linear_flops(rgm_tensor y, rgm_tensor w) {
  return 2.0 * (double)(y.dims[0] * y.dims[1]) * (double)(w.dims[1] * w.dims[2]);
}


void rgm_linear(rgm_stream *s, rgm_tensor y, rgm_tensor x, rgm_tensor w, rgm_tensor b,
                rgm_act act) {
  check_linear(y, x, w);
  RGM_ASSERT(is_vector(b, RGM_F32, w.dims[0] * w.dims[2]));
  LAUNCH(s, linear, linear_flops(y, w), size_of(y) + size_of(x) + size_of(w) + size_of(b), y, x, w,
         b, act);
}


void rgm_act_backward(rgm_stream *s, rgm_tensor dz, rgm_tensor y, rgm_act act) {
  RGM_ASSERT(same_shape(dz, y) && dz.dtype == RGM_F32);
  LAUNCH(s, act_backward, 3.0 * (double)rgm_elements(dz), 3.0 * size_of(dz), dz, y, act);
}


void rgm_linear_dx(rgm_stream *s, rgm_tensor dx, rgm_tensor dz, rgm_tensor w, rgm_tensor y,
                   rgm_act act) {
  check_linear(dz, dx, w);
  RGM_ASSERT(y.data == NULL || same_shape(y, dx));
  LAUNCH(s, linear_dx, linear_flops(dz, w), size_of(dx) + size_of(dz) + size_of(w), dx, dz, w, y,
         act);
}


void rgm_linear_dw(rgm_stream *s, rgm_tensor dw, rgm_tensor db, rgm_tensor x, rgm_tensor dz) {
  check_linear(dz, x, dw);
  RGM_ASSERT(is_vector(db, RGM_F32, dw.dims[0] * dw.dims[2]));
  LAUNCH(s, linear_dw, linear_flops(dz, dw), size_of(dw) + size_of(db) + size_of(x) + size_of(dz),
         dw, db, x, dz);
}


void rgm_linear_dw_adam(rgm_stream *s, const rgm_adam_step *step, rgm_tensor x, rgm_tensor dz) {
  const rgm_tensor p = step->p;
  const int64_t replicas = p.dims[0];
  RGM_ASSERT(p.dtype == RGM_F32 && p.rank == 3 && p.dims[0] == x.dims[0] && p.dims[2] % 16 == 0);
  RGM_ASSERT(p.dims[1] == x.dims[2] + 1 && p.dims[2] == dz.dims[2] && x.dims[1] == dz.dims[1]);
  RGM_ASSERT(x.dtype == RGM_F32 && dz.dtype == RGM_F32 && dz.dims[0] == replicas);
  RGM_ASSERT(same_shape(p, step->m) && same_shape(p, step->v));
  RGM_ASSERT(step->target.data == NULL || same_shape(p, step->target));
  const rgm_tensor vectors[] = {step->lr, step->beta1, step->beta2, step->eps};
  for (int i = 0; i < 4; i++) {
    RGM_ASSERT(is_vector(vectors[i], RGM_F32, replicas));
  }
  RGM_ASSERT(step->target.data == NULL || is_vector(step->rate, RGM_F32, replicas));
  RGM_ASSERT(step->decay.data == NULL || is_vector(step->decay, RGM_F32, replicas));
  RGM_ASSERT(is_vector(step->count, RGM_U32, replicas));
  RGM_ASSERT(is_vector(step->active, RGM_U32, replicas));
  const double sizes = size_of(p), average = step->target.data != NULL ? 2.0 * sizes : 0.0;
  LAUNCH(s, linear_dw_adam, linear_flops(dz, p) + 15.0 * (double)rgm_elements(p),
         size_of(x) + size_of(dz) + 6.0 * sizes + average, step, x, dz);
}


// ---- losses ------------------------------------------------------------------------------------

void rgm_softmax_xent(rgm_stream *s, rgm_tensor loss, rgm_tensor dz, rgm_tensor z, rgm_tensor label,
                      rgm_tensor weight, int classes) {
  const int64_t rows = z.dims[0] * z.dims[1];
  RGM_ASSERT(z.dtype == RGM_F32 && same_shape(dz, z) && classes > 0 && classes <= z.dims[2]);
  RGM_ASSERT(is_vector(loss, RGM_F32, rows) && is_vector(label, RGM_F32, rows));
  RGM_ASSERT(is_vector(weight, RGM_F32, rows) && loss.dims[0] == z.dims[0] &&
             label.dims[0] == z.dims[0] && weight.dims[0] == z.dims[0]);
  LAUNCH(s, softmax_xent, 30.0 * (double)rows * classes, 2.0 * size_of(z) + 3.0 * size_of(loss),
         loss, dz, z, label, weight, classes);
}


int64_t rgm_policy_xent_work(int64_t groups, int64_t rows, int64_t inputs, int64_t hidden) {
  const int64_t blocks = (rows + RGM_ROW_BLOCK - 1) / RGM_ROW_BLOCK;
  const int64_t padded = (hidden + 15) / 16 * 16;
  return groups * blocks * (padded * (inputs + 1) + 16);
}


void rgm_policy_xent(rgm_stream *s, rgm_tensor grad, rgm_tensor loss, rgm_tensor work, rgm_tensor x,
                     rgm_tensor z, rgm_tensor label, rgm_tensor weight, rgm_tensor params,
                     rgm_tensor active, int hidden) {
  const int64_t replicas = x.dims[0], groups = x.dims[1], rows = x.dims[2], inputs = x.dims[3];
  RGM_ASSERT(hidden > 0 && hidden <= RGM_POLICY_MAX_HIDDEN && inputs <= RGM_POLICY_MAX_INPUTS);
  RGM_ASSERT(same_shape(grad, params) && params.dims[0] == replicas && x.dtype == RGM_F32);
  RGM_ASSERT(is_vector(label, RGM_F32, replicas * groups * rows));
  RGM_ASSERT(is_vector(z, RGM_F32, replicas * groups * rows) && z.dims[0] == replicas);
  RGM_ASSERT(is_vector(weight, RGM_F32, replicas * groups) && weight.dims[0] == replicas);
  RGM_ASSERT(is_vector(loss, RGM_F32, replicas) && is_vector(active, RGM_U32, replicas));
  RGM_ASSERT(work.dims[0] == replicas &&
             work.stride0 >= rgm_policy_xent_work(groups, rows, inputs, hidden));
  const double units = (double)(replicas * groups * rows) * hidden;
  // hidden units again, and their sums; as if every group had a weight
  LAUNCH(s, policy_xent, units * (double)(4 * inputs + 2),
         size_of(x) + 2.0 * size_of(label) + 2.0 * size_of(params), grad, loss, work, x, z, label,
         weight, params, active, hidden);
}


// ---- optimisers --------------------------------------------------------------------------------

void rgm_schedule(rgm_stream *s, rgm_tensor y, rgm_tensor base, rgm_tensor clock, rgm_tensor warmup,
                  rgm_tensor total, rgm_decay decay) {
  const int64_t replicas = y.dims[0];
  RGM_ASSERT(is_vector(y, RGM_F32, replicas) && is_vector(base, RGM_F32, replicas));
  RGM_ASSERT(is_vector(clock, RGM_U32, replicas) && is_vector(warmup, RGM_F32, replicas));
  RGM_ASSERT(is_vector(total, RGM_F32, replicas));
  LAUNCH(s, schedule, 20.0 * (double)replicas, 20.0 * (double)replicas, y, base, clock, warmup,
         total, decay);
}


void rgm_adam(rgm_stream *s, rgm_tensor p, rgm_tensor m, rgm_tensor v, rgm_tensor steps,
              rgm_tensor g, rgm_tensor lr, rgm_tensor beta1, rgm_tensor beta2, rgm_tensor eps,
              rgm_tensor active) {
  const int64_t replicas = p.dims[0];
  RGM_ASSERT(same_shape(p, m) && same_shape(p, v) && same_shape(p, g) && p.dtype == RGM_F32);
  RGM_ASSERT(is_vector(steps, RGM_U32, replicas) && is_vector(active, RGM_U32, replicas));
  RGM_ASSERT(is_vector(lr, RGM_F32, replicas) && is_vector(beta1, RGM_F32, replicas));
  RGM_ASSERT(is_vector(beta2, RGM_F32, replicas) && is_vector(eps, RGM_F32, replicas));
  LAUNCH(s, adam, 12.0 * (double)rgm_elements(p), 7.0 * size_of(p), p, m, v, steps, g, lr, beta1,
         beta2, eps, active);
}


void rgm_sgd(rgm_stream *s, rgm_tensor p, rgm_tensor velocity, rgm_tensor g, rgm_tensor lr,
             rgm_tensor momentum, rgm_tensor active) {
  const int64_t replicas = p.dims[0];
  RGM_ASSERT(same_shape(p, velocity) && same_shape(p, g) && p.dtype == RGM_F32);
  RGM_ASSERT(is_vector(lr, RGM_F32, replicas) && is_vector(momentum, RGM_F32, replicas));
  RGM_ASSERT(is_vector(active, RGM_U32, replicas));
  LAUNCH(s, sgd, 4.0 * (double)rgm_elements(p), 5.0 * size_of(p), p, velocity, g, lr, momentum,
         active);
}


void rgm_ema(rgm_stream *s, rgm_tensor target, rgm_tensor p, rgm_tensor rate, rgm_tensor active) {
  RGM_ASSERT(same_shape(target, p) && p.dtype == RGM_F32);
  RGM_ASSERT(is_vector(rate, RGM_F32, p.dims[0]) && is_vector(active, RGM_U32, p.dims[0]));
  LAUNCH(s, ema, 3.0 * (double)rgm_elements(p), 3.0 * size_of(p), target, p, rate, active);
}


// ---- search ------------------------------------------------------------------------------------

// a Gaussian of R, D and the candidates R, M, D drawn from it
static void check_gaussian(rgm_tensor x, rgm_tensor mean, rgm_tensor log_sd, rgm_tensor active) {
  RGM_ASSERT(x.dtype == RGM_F32 && x.dims[3] == 1 && same_shape(mean, log_sd));
  RGM_ASSERT(mean.dtype == RGM_F32 && mean.dims[0] == x.dims[0] && mean.dims[1] == x.dims[2]);
  RGM_ASSERT(mean.dims[2] == 1 && mean.dims[3] == 1 && is_vector(active, RGM_U32, x.dims[0]));
}


void rgm_gaussian_draw(rgm_stream *s, rgm_tensor x, rgm_tensor mean, rgm_tensor log_sd,
                       rgm_tensor seeds, rgm_tensor clock, uint32_t random, rgm_tensor active) {
  check_gaussian(x, mean, log_sd, active);
  RGM_ASSERT(is_vector(seeds, RGM_U32, 2 * x.dims[0]) && seeds.dims[1] == 2);
  RGM_ASSERT(is_vector(clock, RGM_U32, x.dims[0]));
  LAUNCH(s, gaussian_draw, 2.0 * (double)rgm_elements(x), size_of(x) + 2.0 * size_of(mean), x, mean,
         log_sd, seeds, clock, random, active);
}


void rgm_gaussian_refit(rgm_stream *s, rgm_tensor mean, rgm_tensor log_sd, rgm_tensor x,
                        rgm_tensor weight, rgm_tensor rate, rgm_tensor floor, rgm_tensor active) {
  check_gaussian(x, mean, log_sd, active);
  RGM_ASSERT(is_vector(weight, RGM_F32, x.dims[0] * x.dims[1]) && weight.dims[0] == x.dims[0]);
  RGM_ASSERT(is_vector(rate, RGM_F32, x.dims[0]) && is_vector(floor, RGM_F32, x.dims[0]));
  LAUNCH(s, gaussian_refit, 6.0 * (double)rgm_elements(x), 2.0 * size_of(x) + 4.0 * size_of(mean),
         mean, log_sd, x, weight, rate, floor, active);
}


void rgm_exponential(rgm_stream *s, rgm_tensor y, rgm_tensor x, rgm_tensor active) {
  RGM_ASSERT(same_shape(y, x) && x.dtype == RGM_F32 && is_vector(active, RGM_U32, x.dims[0]));
  LAUNCH(s, exponential, (double)rgm_elements(x), 2.0 * size_of(x), y, x, active);
}


// ---- data --------------------------------------------------------------------------------------

void rgm_sum(rgm_stream *s, rgm_tensor y, rgm_tensor x, float scale) {
  RGM_ASSERT(x.dtype == RGM_F32 && is_vector(y, RGM_F32, x.dims[0]));
  LAUNCH(s, sum, (double)rgm_elements(x), size_of(x), y, x, scale);
}


void rgm_quantile(rgm_stream *s, rgm_tensor y, rgm_tensor work, rgm_tensor x, rgm_tensor q) {
  RGM_ASSERT(x.dtype == RGM_F32 && same_shape(work, x) && x.dims[2] == 1 && x.dims[3] == 1);
  RGM_ASSERT(is_vector(y, RGM_F32, x.dims[0]) && is_vector(q, RGM_F32, x.dims[0]));
  LAUNCH(s, quantile, 0, 2.0 * size_of(x), y, work, x, q);
}


void rgm_select(rgm_stream *s, rgm_tensor weight, rgm_tensor x, rgm_tensor threshold) {
  RGM_ASSERT(same_shape(weight, x) && x.dtype == RGM_F32 && x.dims[2] == 1 && x.dims[3] == 1);
  RGM_ASSERT(is_vector(threshold, RGM_F32, x.dims[0]));
  LAUNCH(s, select, (double)rgm_elements(x), 3.0 * size_of(x), weight, x, threshold);
}


void rgm_enlist(rgm_stream *s, rgm_tensor items, rgm_tensor share, rgm_tensor count,
                rgm_tensor lost, rgm_tensor weight, rgm_tensor active) {
  const int64_t replicas = weight.dims[0];
  RGM_ASSERT(items.dtype == RGM_U32 && items.dims[0] == replicas && weight.dtype == RGM_F32);
  RGM_ASSERT(is_vector(share, RGM_F32, rgm_elements(items)) && share.dims[0] == replicas);
  RGM_ASSERT(items.dims[2] == 1 && items.dims[3] == 1 && weight.dims[2] == 1);
  RGM_ASSERT(weight.dims[3] == 1 && is_vector(count, RGM_U32, replicas));
  RGM_ASSERT(is_vector(lost, RGM_U32, replicas) && is_vector(active, RGM_U32, replicas));
  LAUNCH(s, enlist, 0, size_of(weight) + 2.0 * size_of(items), items, share, count, lost, weight,
         active);
}


void rgm_uniform(rgm_stream *s, rgm_tensor x, rgm_tensor seeds, uint32_t random, uint32_t member,
                 float low, float high, int64_t last_dim) {
  RGM_ASSERT(x.dtype == RGM_F32 && x.rank >= 2 && seeds.dtype == RGM_U32);
  RGM_ASSERT(seeds.dims[0] == x.dims[0] && seeds.dims[1] == 2);
  RGM_ASSERT(last_dim > 0 && last_dim <= x.dims[x.rank - 1]);
  LAUNCH(s, uniform, 0, size_of(x), x, seeds, random, member, low, high, last_dim);
}


void rgm_advance(rgm_stream *s, rgm_tensor steps, rgm_tensor active) {
  RGM_ASSERT(steps.dtype == RGM_U32 && rgm_elements(steps) == steps.dims[0]);
  RGM_ASSERT(is_vector(active, RGM_U32, steps.dims[0]));
  LAUNCH(s, advance, 0, 2.0 * size_of(steps), steps, active);
}


void rgm_retire(rgm_stream *s, rgm_tensor active, rgm_tensor x, rgm_tensor bound) {
  RGM_ASSERT(active.dtype == RGM_U32 && is_vector(x, RGM_F32, active.dims[0]));
  RGM_ASSERT(is_vector(bound, RGM_F32, active.dims[0]));
  LAUNCH(s, retire, 0, 3.0 * size_of(x), active, x, bound);
}


void rgm_nonfinite(rgm_stream *s, rgm_tensor found, rgm_tensor x) {
  RGM_ASSERT(x.dtype == RGM_F32 && is_vector(found, RGM_U32, x.dims[0]));
  LAUNCH(s, nonfinite, 0, size_of(x), found, x);
}


// ---- yardsticks --------------------------------------------------------------------------------

void rgm_triad(rgm_stream *s, rgm_tensor y, rgm_tensor x, rgm_tensor z, float scale) {
  RGM_ASSERT(same_shape(y, x) && same_shape(z, x) && x.dtype == RGM_F32);
  LAUNCH(s, triad, 2.0 * (double)rgm_elements(x), 3.0 * size_of(x), y, x, z, scale);
}


double rgm_burn(rgm_stream *s, int64_t rounds) {
  const double begun = begin(s, RGM_ROW_burn, 0, 0);
  const double flops = s->backend->burn(s, rounds);
  s->counts[RGM_ROW_burn].flops += flops;
  end(s, RGM_ROW_burn, begun);
  return flops;
}


rgm_status rgm_library(rgm_stream *s, char *text, size_t size) {
  if (s->backend->library == NULL) {
    return rgm_fail(RGM_EDEVICE, "the backend %s brings no library of matrix products",
                    s->backend->name);
  }
  return s->backend->library(s, text, size);
}


void rgm_library_gemm(rgm_stream *s, rgm_tensor c, rgm_tensor a, rgm_tensor b, bool transpose_a,
                      bool transpose_b) {
  const int64_t sum = a.dims[transpose_a ? 1 : 2];
  RGM_ASSERT(s->backend->library_gemm != NULL);
  RGM_ASSERT(c.dtype == RGM_F32 && a.dtype == RGM_F32 && b.dtype == RGM_F32);
  RGM_ASSERT(c.dims[3] == 1 && a.dims[3] == 1 && b.dims[3] == 1);
  RGM_ASSERT(a.dims[0] == c.dims[0] && b.dims[0] == c.dims[0]);
  RGM_ASSERT(a.dims[transpose_a ? 2 : 1] == c.dims[1]);
  RGM_ASSERT(b.dims[transpose_b ? 2 : 1] == sum && b.dims[transpose_b ? 1 : 2] == c.dims[2]);
  LAUNCH(s, library_gemm, 2.0 * (double)rgm_elements(c) * (double)sum,
         size_of(c) + size_of(a) + size_of(b), c, a, b, transpose_a, transpose_b);
}


// ---- whole episodes ----------------------------------------------------------------------------

void rgm_env_sample(const rgm_env_kernels *env, rgm_stream *s, const rgm_cohort *cohort) {
  RGM_ASSERT(cohort->patients.dtype == RGM_F32 && cohort->config.dtype == RGM_U8);
  const int64_t replicas = cohort->patients.dims[0];
  RGM_ASSERT(is_vector(cohort->active, RGM_U32, replicas));
  RGM_ASSERT(is_vector(cohort->clock, RGM_U32, replicas));
  const double begun = begin(s, RGM_ROW_sample, 0, size_of(cohort->patients));
  env->sample(s, cohort);
  end(s, RGM_ROW_sample, begun);
}


void rgm_env_rollout(const rgm_env_kernels *env, rgm_stream *s, const rgm_rollout *o) {
  const int64_t replicas = o->returns.dims[0], episodes = o->returns.dims[1];
  RGM_ASSERT(o->returns.dtype == RGM_F32 && o->patients.dtype == RGM_F32 && o->steps > 0);
  RGM_ASSERT(is_vector(o->active, RGM_U32, replicas) && is_vector(o->clock, RGM_U32, replicas));
  RGM_ASSERT(o->hidden >= 0 && o->hidden <= RGM_POLICY_MAX_HIDDEN);
  const bool again = o->items.data != NULL;
  RGM_ASSERT((again ? o->episodes : episodes) % o->patients.dims[1] == 0);
  RGM_ASSERT(!again || (is_vector(o->items, RGM_U32, replicas * episodes) &&
                        o->items.dims[0] == replicas && is_vector(o->count, RGM_U32, replicas)));

  // useful operations: the policy's, inputs and output unit by unit; the environment's own are few
  const bool policy = o->control <= RGM_CONTROL_CONTINUOUS;
  const double steps = (double)(replicas * episodes * o->steps);
  const double flops = policy ? 2.0 * o->hidden * (env->obs + 1) : 0.0;
  const double begun = begin(s, RGM_ROW_rollout, steps * flops,
                             size_of(o->patients) + size_if(o->obs) + size_if(o->act) +
                                 size_if(o->logits) + size_if(o->signals) + size_of(o->returns));
  env->rollout(s, o);
  end(s, RGM_ROW_rollout, begun);
}


// (R, E) or (R, E, words) of f32; data NULL passes where it may
static bool is_record(rgm_tensor t, const rgm_stepping *o, int64_t words, bool optional) {
  const int64_t replicas = o->state.dims[0], episodes = o->state.dims[1];
  return (optional && t.data == NULL) ||
         (t.dtype == RGM_F32 && t.dims[0] == replicas && t.dims[1] == episodes &&
          rgm_elements(t) == replicas * episodes * words && t.stride0 >= episodes * words);
}


void rgm_env_step(const rgm_env_kernels *env, rgm_stream *s, const rgm_stepping *o) {
  const int64_t replicas = o->state.dims[0];
  RGM_ASSERT(is_record(o->state, o, env->words, false) && o->steps > 0);
  RGM_ASSERT(is_record(o->obs, o, env->obs, false) && is_record(o->next, o, env->obs, true));
  RGM_ASSERT(is_record(o->reward, o, 1, o->begin) && is_record(o->terminated, o, 1, o->begin) &&
             is_record(o->truncated, o, 1, o->begin) && is_record(o->finished, o, 1, true));
  RGM_ASSERT(is_record(o->act, o, o->act.dims[2], o->begin));
  RGM_ASSERT(o->config.dtype == RGM_U8 && o->config.dims[0] == replicas);
  RGM_ASSERT(is_vector(o->active, RGM_U32, replicas) && is_vector(o->clock, RGM_U32, replicas));
  RGM_ASSERT(is_vector(o->seeds, RGM_U32, 2 * replicas));
  const double begun =
      begin(s, RGM_ROW_step, 0,
            2.0 * size_of(o->state) + size_of(o->obs) + size_if(o->next) + size_if(o->reward) +
                size_if(o->terminated) + size_if(o->truncated) + size_if(o->finished) +
                size_if(o->signals) + size_if(o->act));
  env->step(s, o);
  end(s, RGM_ROW_step, begun);
}
