// SPDX-License-Identifier: Apache-2.0
// `regimen bench io`: checkpoints to the disk and back, each with its digests, beside the digest
// alone and the memory's own speed.

#include "tools/bench.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

typedef struct io_job {
  rgm_run *run;
  rgm_checkpoint *checkpoint;
  char path[4096];
  rgm_status status; // the first failure
} io_job;


static void snapshot(void *job_) {
  io_job *j = job_;
  rgm_checkpoint *copy = NULL;
  const rgm_status status = rgm_run_snapshot(j->run, &copy);
  j->status = j->status == RGM_OK ? status : j->status;
  rgm_checkpoint_free(copy);
}


static void write_file(void *job_) {
  io_job *j = job_;
  const rgm_status status = rgm_checkpoint_write(j->path, j->checkpoint);
  j->status = j->status == RGM_OK ? status : j->status;
}


static void read_file(void *job_) {
  io_job *j = job_;
  rgm_checkpoint *copy = NULL;
  const rgm_status status = rgm_checkpoint_read(j->path, &copy);
  j->status = j->status == RGM_OK ? status : j->status;
  rgm_checkpoint_free(copy);
}


static void digest(void *job_) {
  const io_job *j = job_;
  char hex[65];
  rgm_checkpoint_digest(j->checkpoint, hex);
}


static rgm_status run_cases(bench *b, io_job *j, int64_t replicas) {
  static const struct {
    const char *name;
    void (*fn)(void *);
    double passes; // over the file's bytes, at least
  } cases[] = {
      {"checkpoint_snapshot", snapshot, 3},
      {"checkpoint_write", write_file, 4},
      {"checkpoint_read", read_file, 2},
      {"digest_sha256", digest, 1},
  };
  bench_stream s = {.stream = j->run->stream, .threads = b->threads, .seconds = 0.1 * b->seconds};
  RGM_TRY(rgm_run_snapshot(j->run, &j->checkpoint));
  RGM_TRY(rgm_checkpoint_write(j->path, j->checkpoint));
  struct stat info;
  if (stat(j->path, &info) != 0) {
    return rgm_fail(RGM_EIO, "%s: %s", j->path, strerror(errno));
  }
  for (size_t i = 0; i < sizeof cases / sizeof *cases && j->status == RGM_OK; i++) {
    bench_peaks(&s);
    const bench_time time = bench_measure(b->seconds, cases[i].fn, j);
    const bench_case c = {
        .suite = "io",
        .name = cases[i].name,
        .threads = 1,
        .replicas = replicas,
        .work = (double)info.st_size,
        .unit = "B/s",
        .bytes = cases[i].passes * (double)info.st_size,
    };
    bench_report(b, &c, time, &s);
  }
  return j->status;
}


rgm_status bench_io(bench *b) {
  static const int64_t packs[] = {1, 64, 512}; // 40 kB, 2 MB, 17 MB
  char folder[] = "/tmp/regimen-bench-XXXXXX";
  if (mkdtemp(folder) == NULL) {
    return rgm_fail(RGM_EIO, "%s: %s; bench io writes there", folder, strerror(errno));
  }
  rgm_status status = RGM_OK;
  for (int i = 0; i < 3 && status == RGM_OK; i++) {
    char packed[64];
    io_job j = {0};
    snprintf(j.path, sizeof j.path, "%s/checkpoint-0.h5", folder);
    snprintf(packed, sizeof packed, "run.replicas=%lld", (long long)packs[i]);
    const char *const overrides[] = {"algorithm.name=cem",
                                     "env.name=propofol",
                                     "algorithm.episodes=2",
                                     "env.steps=16",
                                     packed,
                                     NULL};
    status = bench_open(b, overrides, b->threads, &j.run);
    if (status == RGM_OK) {
      status = run_cases(b, &j, packs[i]);
    }
    rgm_checkpoint_free(j.checkpoint);
    rgm_run_free(j.run);
    unlink(j.path);
  }
  rmdir(folder);
  return status;
}
