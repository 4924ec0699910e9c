// SPDX-License-Identifier: Apache-2.0
// `regimen bench dtr`: staged treatment rules over the reference cohorts. A case is a whole job,
// run once, since it takes seconds: its time is what counts. Cases whose data are not there are
// left out, and told.

#include "tools/bench.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

typedef struct dtr_case {
  const char *name, *config, *data;
  const char *set[8];
  double times; // the work of the case over that of one run
} dtr_case;

static const dtr_case cases[] = {
    // 100 imputations x 999 resamples x 3 stages, the imputation itself included
    {"dwols_full_f64", "configs/rrt_dwols.yaml", "rrt/imputed_cells_m10.csv", {NULL}, 1},
    {"dwols_full_f32",
     "configs/rrt_dwols.yaml",
     "rrt/imputed_cells_m10.csv",
     {"algorithm.single=true"},
     1},
    // growth with resamples
    {"dwols_b99_f64",
     "configs/rrt_dwols.yaml",
     "rrt/imputed_cells_m10.csv",
     {"algorithm.replicates=99"},
     1},
    // one table whose treatments are levels, fitted on the host: a hundredth of the whole
    {"dwols_levels_f64",
     "configs/rrt_dwols_complete.yaml",
     "rrt/dev_complete.csv",
     {"algorithm.stage1.kind=multinomial", "algorithm.stage2.kind=multinomial",
      "algorithm.stage3.kind=multinomial"},
     1},
    // 100 imputations, each with one fit of the sample
    {"mice_m100",
     "configs/rrt_dwols.yaml",
     "rrt/imputed_cells_m10.csv",
     {"algorithm.replicates=0"},
     1},
    // 20 tables x 999 resamples: the time of one table, twenty times
    {"adr_linear",
     "configs/rrt_evaluate.yaml",
     "rrt/val_cohort.csv",
     {"algorithm.replicates=999"},
     20},
    // one table once, as a share of 96
    {"adr_forest",
     "configs/rrt_evaluate.yaml",
     "rrt/val_cohort.csv",
     {"algorithm.replicates=95", "algorithm.nuisance=forest"},
     1.0 / 96},
};


static rgm_status work(rgm_run *run, double *seconds) {
  rgm_status status = RGM_OK;
  const double begun = rgm_seconds();
  if (run->algorithm->step == NULL) {
    rgm_json nowhere = {.out = NULL};
    status = run->algorithm->evaluate(run, &nowhere, NULL);
  }
  while (status == RGM_OK && run->algorithm->step != NULL &&
         run->step < (uint64_t)run->keys.steps) {
    status = run->algorithm->step(run);
    run->step++;
  }
  *seconds = rgm_seconds() - begun;
  return status;
}


static rgm_status run_case(bench *b, const dtr_case *c) {
  const char *sets[16] = {NULL};
  char threads[64];
  int count = 0;
  rgm_config *config = NULL;
  rgm_run *run = NULL;
  for (; c->set[count] != NULL; count++) {
    sets[count] = c->set[count];
  }
  snprintf(threads, sizeof threads, "run.threads=%d", b->threads);
  sets[count++] = threads;
  sets[count++] = "run.backend=cpu";
  RGM_TRY(rgm_config_load(c->config, sets, count, &config));
  rgm_status status = rgm_run_create(config, &run);
  double seconds = 0.0, flops = 0.0, bytes = 0.0;
  bench_stream s = {.threads = b->threads, .seconds = 0.1};
  if (status == RGM_OK) {
    s.stream = run->stream;
    bench_peaks(&s);
    status = work(run, &seconds);
  }
  for (int i = 0; status == RGM_OK && i < RGM_ROW_COUNT; i++) {
    const bool ours = i >= RGM_ROW_products && i <= RGM_ROW_staged;
    flops += ours ? run->stream->counts[i].flops : 0.0;
    bytes += ours ? run->stream->counts[i].bytes : 0.0;
  }
  if (status == RGM_OK) {
    const bench_time time = {c->times * seconds, c->times * seconds, c->times * seconds};
    const bench_case row = {.suite = "dtr",
                            .name = c->name,
                            .threads = b->threads,
                            .unit = "s",
                            .seconds = true,
                            .flops = flops,
                            .bytes = bytes};
    bench_report(b, &row, time, flops > 0 ? &s : NULL);
  }
  rgm_run_free(run);
  return status;
}


rgm_status bench_dtr(bench *b) {
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
    char path[512];
    snprintf(path, sizeof path, "../shared/data/%s", cases[i].data);
    if (access(path, R_OK) != 0 || access(cases[i].config, R_OK) != 0) {
      if (b->options->progress != NULL) {
        fprintf(b->options->progress, "dtr %s: left out, no %s or %s here\n", cases[i].name, path,
                cases[i].config);
      }
      continue;
    }
    RGM_TRY(run_case(b, &cases[i]));
  }
  return RGM_OK;
}
