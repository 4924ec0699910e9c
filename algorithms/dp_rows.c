// SPDX-License-Identifier: Apache-2.0
// A problem's rows as tensors of a run: planned, then copied from the host once.

#include "algorithms/dp.h"

#include <stdlib.h>


// a broadcast tensor like one of the layout's, with a name
static rgm_tensor plan_one(rgm_run *run, const char *name, rgm_tensor like) {
  rgm_tensor t = rgm_plan(run->arena, name, like.dtype, RGM_BLOCK, "one, element", "1",
                          like.dims[0], like.rank > 1 ? like.dims[1] : 0, 0, 0);
  t.stride0 = 0;
  return t;
}


// the same of a policy's rows, one for each of `copies`
static rgm_tensor plan_each(rgm_run *run, const char *name, rgm_tensor like, int64_t copies) {
  return rgm_plan(run->arena, name, like.dtype, RGM_SCRATCH, "copy, element", "1", copies,
                  like.dims[1] > 0 ? like.dims[1] : 1, 0, 0);
}


rgm_status dp_plan_rows(rgm_run *run, const rgm_mdp *m, bool compact, int64_t copies,
                        dp_tensors *t) {
  if (t->layout.memory == NULL && t->rows.first.data == NULL) {
    RGM_TRY(rgm_mdp_lay_out(m, compact, &t->layout));
  }
  const rgm_mdp_rows *from = &t->layout.rows, *own = &t->layout.chosen;
  rgm_mdp_rows *rows = &t->rows, *chosen = &t->chosen;
  rows->first = plan_one(run, "rows/first", from->first);
  rows->block = plan_one(run, "rows/block", from->block);
  rows->slice = plan_one(run, "rows/slice", from->slice);
  rows->start = plan_one(run, "rows/start", from->start);
  rows->length = plan_one(run, "rows/length", from->length);
  rows->lane = plan_one(run, "rows/lane", from->lane);
  rows->p = plan_one(run, "rows/p", from->p);
  rows->reward = plan_one(run, "rows/reward", from->reward);
  if (compact) {
    rows->home = plan_one(run, "rows/home", from->home);
  } else {
    rows->next = plan_one(run, "rows/next", from->next);
  }
  rows->scale = from->scale;
  if (copies > 0) {
    chosen->first = plan_one(run, "chosen/first", own->first);
    chosen->block = rows->block;
    chosen->slice = plan_one(run, "chosen/slice", own->slice);
    chosen->start = plan_one(run, "chosen/start", own->start);
    chosen->length = plan_each(run, "chosen/length", own->length, copies);
    chosen->lane = plan_each(run, "chosen/lane", own->lane, copies);
    chosen->p = plan_each(run, "chosen/p", own->p, copies);
    chosen->next = plan_each(run, "chosen/next", own->next, copies);
    chosen->reward = plan_each(run, "chosen/reward", own->reward, copies);
    chosen->scale = 1.0;
  }
  return RGM_OK;
}


rgm_status dp_upload(rgm_run *run, dp_tensors *t) {
  const rgm_mdp_rows *from = &t->layout.rows, *own = &t->layout.chosen;
  const struct {
    rgm_tensor to, from;
  } copy[] = {
      {t->rows.first, from->first},  {t->rows.block, from->block},   {t->rows.slice, from->slice},
      {t->rows.start, from->start},  {t->rows.length, from->length}, {t->rows.lane, from->lane},
      {t->rows.p, from->p},          {t->rows.reward, from->reward}, {t->rows.home, from->home},
      {t->rows.next, from->next},    {t->chosen.first, own->first},  {t->chosen.slice, own->slice},
      {t->chosen.start, own->start},
  };
  for (size_t i = 0; i < sizeof copy / sizeof *copy; i++) {
    if (copy[i].to.data != NULL) {
      rgm_copy(run->stream, copy[i].to.data, copy[i].from.data, rgm_bytes(copy[i].from));
    }
  }
  const rgm_status status = rgm_sync(run->stream);
  rgm_mdp_layout_free(&t->layout);
  return status;
}


void dp_release(dp_tensors *t) {
  rgm_mdp_layout_free(&t->layout);
}


rgm_status dp_fill(rgm_run *run, rgm_tensor t, double (*of)(const rgm_run *run, int64_t r)) {
  double *value = malloc((size_t)run->replicas * sizeof *value);
  if (value == NULL) {
    return rgm_fail(RGM_EMEMORY, "no memory for %lld replicas", (long long)run->replicas);
  }
  for (int64_t r = 0; r < run->replicas; r++) {
    value[r] = of(run, r);
  }
  rgm_copy(run->stream, t.data, value, (size_t)run->replicas * sizeof *value);
  const rgm_status status = rgm_sync(run->stream);
  free(value);
  return status;
}
