// SPDX-License-Identifier: Apache-2.0
// `soak MINUTES FOLDER`: trains, is stopped, resumes, evaluates, verifies, fails on purpose, over
// and over in one process through the public API, and watches memory and descriptors. Prints one
// line of figures; exits with 1 if memory grew by 1 MB or more after the warm-up, or a descriptor
// leaked.

#include "engine/regimen.h"

#include <dirent.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static volatile sig_atomic_t stop;
static FILE *nowhere;


static double seconds(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}


// VmRSS, KiB
static long resident(void) {
  char line[256];
  long size = -1;
  FILE *file = fopen("/proc/self/status", "r");
  while (file != NULL && fgets(line, sizeof line, file) != NULL) {
    if (sscanf(line, "VmRSS: %ld kB", &size) == 1) {
      break;
    }
  }
  if (file != NULL) {
    fclose(file);
  }
  return size;
}


static int descriptors(void) {
  int count = 0;
  DIR *handle = opendir("/proc/self/fd");
  while (handle != NULL && readdir(handle) != NULL) {
    count++;
  }
  if (handle != NULL) {
    closedir(handle);
  }
  return count;
}


// removes what is in a folder, and the folder
static void clear(const char *folder) {
  char path[4096];
  DIR *handle = opendir(folder);
  const struct dirent *entry;
  while (handle != NULL && (entry = readdir(handle)) != NULL) {
    snprintf(path, sizeof path, "%s/%s", folder, entry->d_name);
    unlink(path);
  }
  if (handle != NULL) {
    closedir(handle);
  }
  rmdir(folder);
}


static void expect(const char *what, rgm_status status, rgm_status want) {
  if (status != want) {
    fprintf(stderr, "%s: status %d: %s\n", what, (int)status, rgm_last_error());
    exit(1);
  }
}


// One round: every state that a run goes through. The number decides shapes and where it stops.
static void live(const char *folder, int round) {
  char steps[64], hidden[64];
  snprintf(hidden, sizeof hidden, "algorithm.hidden=%d", 8 + round % 3 * 20);
  snprintf(steps, sizeof steps, "run.steps=%d", 6 + round % 5);
  const char *const sets[] = {
      "run.threads=1",   "run.replicas=2", "env.steps=101",          "run.report_every=1",
      "run.keep=2",      hidden,           "run.checkpoint_every=1", "algorithm.episodes=5",
      "eval.patients=6", "run.steps=3",    "no.such_key=1"};
  const char *const more[] = {sets[0], sets[1], sets[2], sets[3], sets[4],
                              sets[5], sets[6], sets[7], sets[8], steps};
  rgm_options options = {.path = "configs/propofol_cem.yaml",
                         .set = sets,
                         .set_count = 10,
                         .out = folder,
                         .result = nowhere,
                         .resume = true,
                         .stop = &stop};
  stop = 0;
  expect("train", rgm_train(&options), RGM_OK);
  options.set = more;
  stop = 1;
  expect("stop", rgm_train(&options), RGM_ESTOPPED);
  stop = 0;
  expect("resume", rgm_train(&options), RGM_OK);
  const rgm_options look = {.path = folder, .result = nowhere, .json = round % 2 == 0};
  expect("eval", rgm_evaluate(&look), RGM_OK);
  expect("info", rgm_info(&look), RGM_OK);
  expect("verify", rgm_verify(&look), RGM_OK);

  // and what goes wrong
  options.set = sets;
  options.set_count = 11;
  expect("a wrong key", rgm_train(&options), RGM_ECONFIG);
  options.set_count = 10;
  options.resume = false;
  expect("a folder that is taken", rgm_train(&options), RGM_EUSAGE);
  options.path = "none.yaml";
  expect("no config", rgm_train(&options), RGM_EIO);
  clear(folder);
}


int main(int argc, char **argv) {
  if (argc != 3) {
    fprintf(stderr, "Usage: soak MINUTES FOLDER\n");
    return 64;
  }
  const double length = 60.0 * atof(argv[1]), begun = seconds();
  nowhere = fopen("/dev/null", "w");
  long base = 0, most = 0;
  int open_base = 0, open_most = 0, round = 0;
  double told = begun;

  // a tenth of the time, and thirty rounds, to warm up
  for (double now = begun; now - begun < length || open_base == 0; now = seconds()) {
    live(argv[2], round++);
    const long size = resident();
    const int open = descriptors();
    if (open_base == 0 && round >= 30 && now - begun > 0.1 * length) {
      base = most = size;
      open_base = open_most = open;
    }
    most = size > most ? size : most;
    open_most = open > open_most ? open : open_most;
    if (now - told > 60.0) {
      told = now;
      fprintf(stderr, "%.0f s, %d rounds, %ld KiB, %d descriptors\n", now - begun, round, size,
              open);
    }
  }
  const long growth = most - base;
  const int leaked = open_most - open_base;
  printf("minutes %.2f rounds %d base_kib %ld growth_kib %ld descriptors %d leaked %d\n",
         (seconds() - begun) / 60.0, round, base, growth, open_base, leaked);
  fclose(nowhere);
  return growth < 1024 && leaked == 0 ? 0 : 1;
}
