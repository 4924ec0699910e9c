// SPDX-License-Identifier: Apache-2.0
// Metrics of a run: metrics.jsonl, one object per step and replica, and metrics.csv with the same
// rows. Only what the computation determines is written, no times, so that a resumed run leaves the
// same bytes as one that was never stopped.

#include "engine/engine.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct rgm_metrics {
  FILE *jsonl, *csv;
  bool header; // of the CSV file is written
  int count;
  int64_t replicas;
  char name[RGM_MAX_METRICS][48];
  float *values[RGM_MAX_METRICS]; // (R)
};


// the step of a row of either file, or -1
static long long step_of(const char *line) {
  long long step;
  if (sscanf(line, "{\"step\": %lld", &step) == 1 || sscanf(line, "%lld,", &step) == 1) {
    return step;
  }
  return -1;
}


// opens a file for appending after cutting the rows past `step` and what a crash left unfinished
static rgm_status open_cut(const char *path, uint64_t step, FILE **out, bool *any) {
  FILE *file = fopen(path, "a+");
  if (file == NULL) {
    return rgm_fail(RGM_EIO, "%s: %s", path, strerror(errno));
  }
  char line[8192];
  long end = 0;
  rewind(file);
  while (fgets(line, sizeof line, file) != NULL && strchr(line, '\n') != NULL) {
    const long long row = step_of(line);
    if (row > (long long)step || (row < 0 && end > 0)) {
      break;
    }
    end = ftell(file);
  }
  *any = end > 0;
  if (fflush(file) != 0 || ftruncate(fileno(file), end) != 0) {
    fclose(file);
    return rgm_fail(RGM_EIO, "%s: %s", path, strerror(errno));
  }
  fseek(file, 0, SEEK_END);
  *out = file;
  return RGM_OK;
}


rgm_status rgm_metrics_open(const char *folder, uint64_t step, rgm_metrics **out) {
  char path[4096];
  bool any;
  rgm_metrics *m = calloc(1, sizeof *m);
  if (m == NULL) {
    return rgm_fail(RGM_EMEMORY, "no memory for metrics");
  }
  snprintf(path, sizeof path, "%s/metrics.jsonl", folder);
  rgm_status status = open_cut(path, step, &m->jsonl, &any);
  if (status == RGM_OK) {
    snprintf(path, sizeof path, "%s/metrics.csv", folder);
    status = open_cut(path, step, &m->csv, &m->header);
  }
  if (status != RGM_OK) {
    rgm_metrics_close(m);
    return status;
  }
  *out = m;
  return RGM_OK;
}


rgm_status rgm_metrics_add(rgm_metrics *m, const char *name, const char *unit, const float *values,
                           int64_t replicas) {
  (void)unit;
  int index = 0;
  while (index < m->count && strcmp(m->name[index], name) != 0) {
    index++;
  }
  if (index == m->count) {
    RGM_ASSERT(m->count < RGM_MAX_METRICS);
    snprintf(m->name[index], sizeof m->name[index], "%s", name);
    m->values[index] = malloc((size_t)replicas * sizeof(float));
    if (m->values[index] == NULL) {
      return rgm_fail(RGM_EMEMORY, "no memory for metrics");
    }
    m->replicas = replicas;
    m->count++;
  }
  memcpy(m->values[index], values, (size_t)replicas * sizeof(float));
  return RGM_OK;
}


static void write_number(FILE *out, const char *missing, float value) {
  if (isfinite(value)) {
    fprintf(out, "%.9g", (double)value);
  } else {
    fputs(missing, out);
  }
}


rgm_status rgm_metrics_flush(rgm_metrics *m, uint64_t step) {
  if (!m->header) {
    fputs("step,replica", m->csv);
    for (int i = 0; i < m->count; i++) {
      fprintf(m->csv, ",%s", m->name[i]);
    }
    fputc('\n', m->csv);
    m->header = true;
  }
  for (int64_t r = 0; r < m->replicas; r++) {
    fprintf(m->jsonl, "{\"step\": %llu, \"replica\": %lld", (unsigned long long)step, (long long)r);
    fprintf(m->csv, "%llu,%lld", (unsigned long long)step, (long long)r);
    for (int i = 0; i < m->count; i++) {
      fprintf(m->jsonl, ", \"%s\": ", m->name[i]);
      write_number(m->jsonl, "null", m->values[i][r]);
      fputc(',', m->csv);
      write_number(m->csv, "", m->values[i][r]);
    }
    fputs("}\n", m->jsonl);
    fputc('\n', m->csv);
  }
  if (fflush(m->jsonl) != 0 || fflush(m->csv) != 0) {
    return rgm_fail(RGM_EIO, "metrics: %s", strerror(errno));
  }
  return RGM_OK;
}


// fflush and fdatasync, so that no checkpoint outlives the rows before it
rgm_status rgm_metrics_sync(rgm_metrics *m) {
  FILE *const files[] = {m->jsonl, m->csv};
  for (int i = 0; i < 2; i++) {
    int result = fflush(files[i]);
    while (result == 0 && (result = fdatasync(fileno(files[i]))) != 0 && errno == EINTR) {
      result = 0;
    }
    if (result != 0) {
      return rgm_fail(RGM_EIO, "metrics: cannot fsync: %s", strerror(errno));
    }
  }
  return RGM_OK;
}


static double mean_of(const rgm_metrics *m, int index) {
  double mean = 0.0;
  for (int64_t r = 0; r < m->replicas; r++) {
    mean += (double)m->values[index][r] / (double)m->replicas;
  }
  return mean;
}


double rgm_metrics_headline(const rgm_metrics *m, const char **name) {
  *name = m->count > 0 ? m->name[0] : NULL;
  return m->count > 0 ? mean_of(m, 0) : NAN;
}


static rgm_status find(const rgm_metrics *m, const char *name, int *out) {
  const char *names[RGM_MAX_METRICS + 1] = {NULL};
  char list[1024] = "";
  for (*out = 0; *out < m->count; ++*out) {
    const int i = *out;
    if (strcmp(m->name[i], name) == 0) {
      return RGM_OK;
    }
    names[i] = m->name[i];
    const size_t length = strlen(list);
    snprintf(list + length, sizeof list - length, "%s%s", i > 0 ? ", " : "", m->name[i]);
  }
  const char *nearest = rgm_nearest(name, names);
  return rgm_fail(RGM_ECONFIG, "no metric \"%s\"%s%s%s; there are: %s", name,
                  nearest != NULL ? "; did you mean " : "", nearest != NULL ? nearest : "",
                  nearest != NULL ? "?" : "", list);
}


rgm_status rgm_metrics_mean(const rgm_metrics *m, const char *name, double *mean) {
  int index;
  RGM_TRY(find(m, name, &index));
  *mean = mean_of(m, index);
  return RGM_OK;
}


rgm_status rgm_metrics_values(const rgm_metrics *m, const char *name, const float **values) {
  int index;
  RGM_TRY(find(m, name, &index));
  *values = m->values[index];
  return RGM_OK;
}


rgm_status rgm_metrics_memory(rgm_metrics **out) {
  *out = calloc(1, sizeof **out);
  return *out != NULL ? RGM_OK : rgm_fail(RGM_EMEMORY, "no memory for metrics");
}


void rgm_metrics_close(rgm_metrics *m) {
  if (m == NULL) {
    return;
  }
  if (m->jsonl != NULL) {
    fclose(m->jsonl);
  }
  if (m->csv != NULL) {
    fclose(m->csv);
  }
  for (int i = 0; i < m->count; i++) {
    free(m->values[i]);
  }
  free(m);
}
