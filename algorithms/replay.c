// SPDX-License-Identifier: Apache-2.0
// Replay of recorded doses: an environment's pharmacokinetic model predicts each measured
// concentration of a data set from the doses that were really given, and the errors are summarised
// as in Varvel et al. 1992 (J Pharmacokinet Biopharm 20:63): PE = 100 (measured - predicted) /
// predicted, MDPE and MDAPE are medians within a subject, and the median of those over subjects is
// reported.
//
// The table has NONMEM columns: ID, TIME [min], DV [mg/L], AMT [mg], RATE [mg/min, 0 for a bolus],
// EVID (0 sample, 1 dose, 3 reset, 4 reset and dose), AGE [years], WT [kg], HT [cm], M1F2.

#include "engine/engine.h"
#include "engine/load.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

typedef struct replay_keys {
  int64_t subjects;
} replay_keys;

static const rgm_field fields[] = {
    {"subjects", RGM_INT, offsetof(replay_keys, subjects), "1", "0", 0, 1e9, NULL, 0,
     "Use only the first so many subjects of the file, 0 for all."},
    {0},
};

enum { ID, TIME, DV, AMT, RATE, EVID, AGE, WT, HT, M1F2, COLUMNS };
static const char *const column_names[] = {"ID",   "TIME", "DV", "AMT", "RATE",
                                           "EVID", "AGE",  "WT", "HT",  "M1F2"};

// A file's rows being cut into sessions (from reset to reset) and subjects.
typedef struct replay {
  const rgm_run *run;
  rgm_table table;
  int column[COLUMNS];
  double *dose_time, *dose_amount, *dose_rate, *sample_time, *measured, *predicted; // of a session
  double *error; // PE of the subject so far, then its own medians' work
  int doses, samples;
  int64_t errors;
  double *mdpe, *mdape; // (subjects)
  int64_t subjects, samples_all;
} replay;


static double at(const replay *p, int64_t row, int column) {
  return p->table.value[row * p->table.columns + p->column[column]];
}


static rgm_status find_columns(replay *p) {
  for (int i = 0; i < COLUMNS; i++) {
    p->column[i] = rgm_table_column(&p->table, column_names[i]);
    if (p->column[i] < 0) {
      return rgm_fail(RGM_EDATA,
                      "%s: no column %s; replay needs ID, TIME, DV, AMT, RATE, EVID, AGE, "
                      "WT, HT and M1F2",
                      p->run->data.path, column_names[i]);
    }
  }
  return RGM_OK;
}


static rgm_status check_row(const replay *p, int64_t row) {
  const char *path = p->run->data.path;
  const long long line = (long long)row + 2;
  const int event = (int)at(p, row, EVID);
  static const int needed[] = {ID, TIME, EVID, AGE, WT, HT, M1F2};
  for (size_t i = 0; i < sizeof needed / sizeof *needed; i++) {
    if (!isfinite(at(p, row, needed[i]))) {
      return rgm_fail(RGM_EDATA, "%s:%lld: column %s is empty", path, line,
                      column_names[needed[i]]);
    }
  }
  if (event != 0 && event != 1 && event != 3 && event != 4) {
    return rgm_fail(RGM_EDATA, "%s:%lld: EVID must be 0, 1, 3 or 4", path, line);
  }
  if (event == 0 && !(at(p, row, DV) >= 0.0)) {
    return rgm_fail(RGM_EDATA, "%s:%lld: a sample needs DV >= 0", path, line);
  }
  if ((event == 1 || event == 4) && !(at(p, row, AMT) >= 0.0 && at(p, row, RATE) >= 0.0)) {
    return rgm_fail(RGM_EDATA, "%s:%lld: a dose needs AMT >= 0 and RATE >= 0", path, line);
  }
  const bool same = row > 0 && at(p, row, ID) == at(p, row - 1, ID) && event != 4 && event != 3;
  if (same && at(p, row, TIME) < at(p, row - 1, TIME)) {
    return rgm_fail(RGM_EDATA,
                    "%s:%lld: TIME runs backwards; sort the rows or mark a reset (EVID 4)", path,
                    line);
  }
  if (at(p, row, M1F2) != 1.0 && at(p, row, M1F2) != 2.0) {
    return rgm_fail(RGM_EDATA, "%s:%lld: M1F2 must be 1 (man) or 2 (woman)", path, line);
  }
  return RGM_OK;
}


// predicts the session whose last row is before `row` and appends its errors
static rgm_status end_session(replay *p, int64_t row) {
  const rgm_subject subject = {
      .age = at(p, row - 1, AGE),
      .height = at(p, row - 1, HT),
      .weight = at(p, row - 1, WT),
      .male = at(p, row - 1, M1F2) == 1.0,
      .dose_count = p->doses,
      .dose_time = p->dose_time,
      .dose_amount = p->dose_amount,
      .dose_rate = p->dose_rate,
      .sample_count = p->samples,
      .sample_time = p->sample_time,
  };
  RGM_TRY(p->run->env->predict(p->run->env_keys, &subject, p->predicted));
  for (int i = 0; i < p->samples; i++) {
    // before the first dose there is nothing to compare with
    if (p->predicted[i] > 0.0) {
      p->error[p->errors++] = 100.0 * (p->measured[i] - p->predicted[i]) / p->predicted[i];
    }
  }
  p->doses = p->samples = 0;
  return RGM_OK;
}


static void end_subject(replay *p) {
  if (p->errors > 0) {
    p->mdpe[p->subjects] = rgm_median(p->error, p->errors);
    for (int64_t i = 0; i < p->errors; i++) {
      p->error[i] = fabs(p->error[i]);
    }
    p->mdape[p->subjects++] = rgm_median(p->error, p->errors);
    p->samples_all += p->errors;
  }
  p->errors = 0;
}


static rgm_status read_rows(replay *p, int64_t most) {
  const int64_t rows = p->table.rows;
  for (int64_t row = 0; row < rows; row++) {
    RGM_TRY(check_row(p, row));
    const int event = (int)at(p, row, EVID);
    const bool next = row > 0 && at(p, row, ID) != at(p, row - 1, ID);
    if (row > 0 && (next || event == 3 || event == 4)) {
      RGM_TRY(end_session(p, row));
    }
    if (next) {
      end_subject(p);
      if (most > 0 && p->subjects == most) {
        return RGM_OK;
      }
    }
    if (event == 0) {
      p->sample_time[p->samples] = at(p, row, TIME);
      p->measured[p->samples++] = at(p, row, DV);
    } else if (event != 3) {
      p->dose_time[p->doses] = at(p, row, TIME);
      p->dose_amount[p->doses] = at(p, row, AMT);
      p->dose_rate[p->doses++] = at(p, row, RATE);
    }
  }
  RGM_TRY(end_session(p, rows));
  end_subject(p);
  return RGM_OK;
}


static rgm_status run_replay(replay *p, double **memory) {
  enum { ARRAYS = 9 };
  const replay_keys *keys = rgm_algorithm_keys(p->run, 0);
  RGM_TRY(find_columns(p));
  const size_t n = (size_t)p->table.rows;
  double *block = *memory = malloc(ARRAYS * n * sizeof *block);
  if (block == NULL) {
    return rgm_fail(RGM_EMEMORY, "no memory for %zu rows", n);
  }
  double **const arrays[ARRAYS] = {&p->dose_time,   &p->dose_amount, &p->dose_rate,
                                   &p->sample_time, &p->measured,    &p->predicted,
                                   &p->error,       &p->mdpe,        &p->mdape};
  for (int i = 0; i < ARRAYS; i++) {
    *arrays[i] = block + (size_t)i * n;
  }
  RGM_TRY(read_rows(p, keys->subjects));
  if (p->subjects == 0) {
    return rgm_fail(RGM_EDATA, "%s: no sample follows a dose", p->run->data.path);
  }
  return RGM_OK;
}


static rgm_status replay_evaluate(rgm_run *run, rgm_json *json, FILE *text) {
  replay p = {.run = run};
  double *memory = NULL;
  RGM_TRY(rgm_load_table(run, &p.table));
  const rgm_status status = run_replay(&p, &memory);
  if (status == RGM_OK) {
    const rgm_summary bias = rgm_summarise(p.mdpe, p.subjects);
    const rgm_summary error = rgm_summarise(p.mdape, p.subjects);
    rgm_json_open(json, NULL, '{');
    rgm_json_number(json, "n", (double)p.subjects);
    rgm_json_number(json, "samples", (double)p.samples_all);
    rgm_json_number(json, "mdpe", bias.median);
    rgm_json_number(json, "mdpe_min", bias.min);
    rgm_json_number(json, "mdpe_max", bias.max);
    rgm_json_number(json, "mdape", error.median);
    rgm_json_number(json, "mdape_p95", error.p95);
    rgm_json_number(json, "mdape_max", error.max);
    rgm_json_string(json, "data_digest", run->data_digest);
    rgm_json_close(json, '}');
    if (text != NULL) {
      fprintf(text,
              "%lld subjects, %lld measured concentrations\n"
              "MDPE   median of subjects %7.2f %%  (%.1f to %.1f)\n"
              "MDAPE  median of subjects %7.2f %%  (p95 %.1f, worst %.1f)\n",
              (long long)p.subjects, (long long)p.samples_all, bias.median, bias.min, bias.max,
              error.median, error.p95, error.max);
    }
  }
  free(memory);
  rgm_table_free(&p.table);
  return status;
}


const rgm_algorithm rgm_replay = {
    .name = "replay",
    .paper = "Varvel et al. 1992; Schnider et al. 1998",
    .doc = "Predicts measured concentrations from recorded doses; trains nothing.",
    .fields = fields,
    .keys_size = sizeof(replay_keys),
    .needs = RGM_NEEDS_ENV | RGM_NEEDS_TABLE | RGM_TRAINS_NOT,
    .evaluate = replay_evaluate,
};
