// SPDX-License-Identifier: Apache-2.0
// Front door of the row of predictions: checks shapes, counts work, dispatches.

#include "kernels/door.h"


void rgm_predict_rows(rgm_stream *s, const rgm_predict *p) {
  const int64_t groups = p->x.dims[0], n = p->x.dims[1], columns = p->x.dims[2];
  RGM_ASSERT(p->x.dtype == RGM_F64 && p->beta.dtype == RGM_F64 && p->out.dtype == RGM_F64);
  RGM_ASSERT(p->x.data != NULL && p->beta.data != NULL && p->out.data != NULL);
  RGM_ASSERT(columns > 0 && columns <= RGM_FIT_COLUMNS);
  RGM_ASSERT(p->beta.dims[0] == groups && p->beta.dims[1] == columns);
  RGM_ASSERT(p->beta.dims[2] == RGM_FIT_LANES && p->out.dims[2] == RGM_FIT_LANES);
  RGM_ASSERT(p->out.dims[0] == groups && p->rows.dtype == RGM_U32);
  RGM_ASSERT(p->rows.dims[0] == groups && p->rows.dims[1] == n);
  const double values = (double)(groups * n * RGM_FIT_LANES);
  LAUNCH(s, predict, values * (2.0 * (double)columns + (p->logistic ? 30.0 : 0.0)),
         8.0 * values + size_of(p->beta) + size_of(p->x) / (double)groups, p);
}
