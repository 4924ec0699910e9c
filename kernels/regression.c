// SPDX-License-Identifier: Apache-2.0
// Front doors of the rows of regressions: check shapes once, count work, dispatch. A wrong shape is
// a bug of the caller: RGM_ASSERT.

#include "kernels/door.h"


static bool has_dims(rgm_tensor t, rgm_dtype dtype, int64_t d0, int64_t d1, int64_t d2) {
  return t.data != NULL && t.dtype == dtype && t.dims[0] == d0 && t.dims[1] == d1 &&
         t.dims[2] == d2 && t.dims[3] == 1;
}


static bool is_real(rgm_dtype dtype) {
  return dtype == RGM_F64 || dtype == RGM_F32;
}


static int64_t triangle(int64_t columns) {
  return columns * (columns + 1) / 2;
}


void rgm_products(rgm_stream *s, rgm_tensor out, rgm_tensor z) {
  const int64_t *d = z.dims;
  RGM_ASSERT(is_real(z.dtype) && d[2] > 0 && d[2] <= RGM_FIT_COLUMNS);
  RGM_ASSERT(has_dims(out, z.dtype, d[0], d[1], triangle(d[2])));
  LAUNCH(s, products, (double)rgm_elements(out), size_of(out) + size_of(z), out, z);
}


void rgm_gram(rgm_stream *s, rgm_tensor gram, rgm_tensor products, rgm_tensor weight) {
  const int64_t *d = products.dims;
  RGM_ASSERT(d[2] > 0 && d[2] <= RGM_FIT_TRIANGLE);
  RGM_ASSERT(d[1] <= (int64_t)RGM_ROW_BLOCK << RGM_FIT_LEVELS);
  RGM_ASSERT(has_dims(products, RGM_F64, d[0], d[1], d[2]));
  RGM_ASSERT(has_dims(weight, RGM_F64, d[0], d[1], RGM_FIT_LANES));
  RGM_ASSERT(has_dims(gram, RGM_F64, d[0], d[2], RGM_FIT_LANES));
  LAUNCH(s, gram, 2.0 * RGM_FIT_LANES * (double)rgm_elements(products),
         size_of(products) + size_of(weight) + size_of(gram), gram, products, weight);
}


void rgm_cholesky(rgm_stream *s, rgm_tensor gram, rgm_tensor right, rgm_tensor status) {
  const int64_t groups = right.dims[0], columns = right.dims[1];
  RGM_ASSERT(columns > 0 && columns <= RGM_FIT_COLUMNS);
  RGM_ASSERT(has_dims(right, RGM_F64, groups, columns, RGM_FIT_LANES));
  RGM_ASSERT(has_dims(gram, RGM_F64, groups, triangle(columns), RGM_FIT_LANES));
  RGM_ASSERT(has_dims(status, RGM_U32, groups, RGM_FIT_LANES, 1));
  const double p = (double)columns;
  LAUNCH(s, cholesky, (double)groups * RGM_FIT_LANES * (p * p * p / 3.0 + 2.0 * p * p),
         2.0 * (size_of(gram) + size_of(right)), gram, right, status);
}


// rows of a design that point into counts of the same groups
static bool is_sample(rgm_tensor counts, rgm_tensor rows, int64_t groups, int64_t n) {
  return has_dims(counts, RGM_U8, groups, counts.dims[1], RGM_FIT_LANES) &&
         has_dims(rows, RGM_U32, groups, n, 1) && n <= (int64_t)RGM_ROW_BLOCK << RGM_FIT_LEVELS;
}


// What a row costs.
typedef struct cost {
  double flops, bytes;
} cost;


static cost look_at_irls(const rgm_irls *f) {
  const int64_t groups = f->x.dims[0], columns = f->x.dims[1], n = f->x.dims[2];
  RGM_ASSERT(is_real(f->x.dtype) && columns > 0 && columns <= RGM_FIT_COLUMNS);
  RGM_ASSERT(has_dims(f->x, f->x.dtype, groups, columns, n));
  RGM_ASSERT(f->near.data == NULL ||
             (f->x.dtype == RGM_F64 && has_dims(f->near, RGM_F32, groups, columns, n)));
  RGM_ASSERT(has_dims(f->beta, RGM_F64, groups, columns, RGM_FIT_LANES));
  RGM_ASSERT(has_dims(f->status, RGM_U32, groups, RGM_FIT_LANES, 1));
  RGM_ASSERT(has_dims(f->steps, RGM_U32, groups, RGM_FIT_LANES, 1));
  RGM_ASSERT(has_dims(f->label, RGM_F64, groups, n, 1));
  RGM_ASSERT(has_dims(f->start, RGM_F64, groups, columns, 1));
  RGM_ASSERT(is_sample(f->counts, f->rows, groups, n));
  // four steps, of which the first has no exp: what a bootstrap takes
  const double p = (double)columns, values = (double)(groups * n * RGM_FIT_LANES);
  return (cost){4.0 * values * (p * p + 5.0 * p) + 3.0 * values * 36.0,
                size_of(f->counts) + size_of(f->x) / (double)groups};
}


static cost look_at_wls(const rgm_wls *f) {
  const int64_t groups = f->z.dims[0], columns = f->z.dims[1], n = f->z.dims[2];
  const bool weighted = f->weighting != RGM_WEIGHT_NONE;
  RGM_ASSERT(is_real(f->z.dtype) && columns > 0 && columns <= RGM_FIT_COLUMNS);
  RGM_ASSERT(has_dims(f->z, f->z.dtype, groups, columns, n));
  RGM_ASSERT(has_dims(f->coef, RGM_F64, groups, columns, RGM_FIT_LANES));
  RGM_ASSERT(has_dims(f->status, RGM_U32, groups, RGM_FIT_LANES, 1));
  RGM_ASSERT(f->weight.data == NULL || has_dims(f->weight, RGM_F64, groups, RGM_FIT_LANES, 1));
  RGM_ASSERT(is_sample(f->counts, f->rows, groups, n) && f->y.dims[1] == f->counts.dims[1]);
  RGM_ASSERT(f->y.dims[2] == 1 || f->y.dims[2] == RGM_FIT_LANES);
  RGM_ASSERT(f->given.data == NULL || has_dims(f->given, RGM_F64, groups, n, 1));
  RGM_ASSERT(!weighted || has_dims(f->x, f->z.dtype, groups, f->x.dims[1], n));
  RGM_ASSERT(!weighted || has_dims(f->beta, RGM_F64, groups, f->x.dims[1], RGM_FIT_LANES));
  RGM_ASSERT(f->first > 0 && f->first <= columns);
  RGM_ASSERT((!weighted && f->first == columns) || has_dims(f->label, RGM_F64, groups, n, 1));
  RGM_ASSERT(!weighted || f->x.dims[1] <= RGM_FIT_COLUMNS);
  // of the sums that all rows take part in
  const double q = (double)f->first, values = (double)(groups * n * RGM_FIT_LANES);
  return (cost){values *
                    (q * q + 3.0 * q + 2.0 + (weighted ? 2.0 * (double)f->x.dims[1] + 31.0 : 0.0)),
                size_of(f->counts) + size_of(f->z) / (double)groups + size_of(f->y)};
}


static cost look_at_pseudo(const rgm_pseudo *p) {
  const int64_t groups = p->h.dims[0], columns = p->h.dims[1], n = p->h.dims[2];
  RGM_ASSERT(p->from.dims[2] == 1 || p->from.dims[2] == RGM_FIT_LANES);
  RGM_ASSERT(has_dims(p->h, RGM_F64, groups, columns, n) &&
             has_dims(p->label, RGM_F64, groups, n, 1));
  RGM_ASSERT(has_dims(p->coef, RGM_F64, groups, p->coef.dims[1], RGM_FIT_LANES));
  RGM_ASSERT(p->first >= 0 && p->first + columns <= p->coef.dims[1]);
  RGM_ASSERT(has_dims(p->rows, RGM_U32, groups, n, 1));
  return (cost){(double)(groups * n * RGM_FIT_LANES) * (2.0 * (double)columns + 4.0),
                2.0 * size_of(p->y) + size_of(p->h)};
}


void rgm_irls_fit(rgm_stream *s, const rgm_irls *f) {
  const cost c = look_at_irls(f);
  LAUNCH(s, irls, c.flops, c.bytes, f);
}


void rgm_wls_fit(rgm_stream *s, const rgm_wls *f) {
  const cost c = look_at_wls(f);
  RGM_ASSERT(has_dims(f->y, RGM_F64, f->z.dims[0], f->y.dims[1], f->y.dims[2]));
  LAUNCH(s, wls, c.flops, c.bytes, f);
}


void rgm_pseudo_outcome(rgm_stream *s, const rgm_pseudo *p) {
  const cost c = look_at_pseudo(p);
  const int64_t groups = p->h.dims[0], all = p->y.dims[1];
  RGM_ASSERT(has_dims(p->y, RGM_F64, groups, all, RGM_FIT_LANES));
  RGM_ASSERT(has_dims(p->from, RGM_F64, groups, all, p->from.dims[2]));
  LAUNCH(s, pseudo, c.flops, c.bytes, p);
}


void rgm_resample_counts(rgm_stream *s, const rgm_resample *r) {
  const int64_t groups = r->counts.dims[0], all = r->counts.dims[1];
  RGM_ASSERT(has_dims(r->counts, RGM_U8, groups, all, RGM_FIT_LANES));
  RGM_ASSERT(r->units > 0 && r->units <= UINT32_MAX && r->draws >= 0 && r->replicates >= 0);
  RGM_ASSERT(r->first.data != NULL || r->units == all);
  RGM_ASSERT(r->first.data == NULL || (has_dims(r->first, RGM_U32, 1, r->units + 1, 1) &&
                                       has_dims(r->members, RGM_U32, 1, all, 1)));
  LAUNCH(s, resample, 0.0, size_of(r->counts), r);
}


void rgm_staged_fit(rgm_stream *s, const rgm_stages *f) {
  cost all = {0};
  RGM_ASSERT(f->stages > 0 && f->y.dims[0] > 0);
  RGM_ASSERT(has_dims(f->y, RGM_F64, f->y.dims[0], f->irls[0].counts.dims[1], RGM_FIT_LANES));
  for (int k = 0; k < f->stages; k++) {
    const cost parts[] = {look_at_irls(&f->irls[k]), look_at_wls(&f->wls[k]),
                          k > 0 ? look_at_pseudo(&f->pseudo[k]) : (cost){0}};
    RGM_ASSERT(f->wls[k].z.dims[0] == f->irls[0].x.dims[0]);
    RGM_ASSERT(f->irls[k].x.dims[0] == f->irls[0].x.dims[0]);
    for (int i = 0; i < 3; i++) {
      all.flops += parts[i].flops;
      all.bytes += parts[i].bytes;
    }
  }
  LAUNCH(s, staged, all.flops, all.bytes, f);
}
