// SPDX-License-Identifier: Apache-2.0
// Claims by atomic file creation. A claim file is one record of fixed size,
//
//   held|left pid start host place note
//
// `place` names the kernel and process namespace that the pid belongs to, so that a pid is looked
// up only where it means something; `start` tells a process from a later one with its number.
// Generations only grow, and only one process can create each: no lock, nothing to clean up after
// a kill -9, and no clock but the file system's.

#include "engine/claim.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum { RECORD = 512 };


// ---- who we are --------------------------------------------------------------------------------

// the first word of a small file, "" where there is none
static void read_word(const char *path, char *out, size_t size) {
  out[0] = '\0';
  FILE *file = fopen(path, "r");
  if (file != NULL) {
    if (fgets(out, (int)size, file) == NULL) {
      out[0] = '\0';
    }
    out[strcspn(out, " \n")] = '\0';
    fclose(file);
  }
}


// the machine since its last start, and the process namespace in it
static void name_place(char out[96]) {
  char boot[48], space[48] = "-";
  read_word("/proc/sys/kernel/random/boot_id", boot, sizeof boot);
  const ssize_t n = readlink("/proc/self/ns/pid", space, sizeof space - 1);
  space[n > 0 ? n : 0] = '\0';
  snprintf(out, 96, "%s/%s", boot[0] != '\0' ? boot : "-", space[0] != '\0' ? space : "-");
}


// when a process began, in ticks since the machine did; 0 where there is no such process
static unsigned long long begun(long pid) {
  char path[64], text[1024];
  snprintf(path, sizeof path, "/proc/%ld/stat", pid);
  FILE *file = fopen(path, "r");
  if (file == NULL) {
    return 0;
  }
  const size_t n = fread(text, 1, sizeof text - 1, file);
  fclose(file);
  text[n] = '\0';
  // the name, in brackets, may hold anything; field 3 is the state, field 22 the start
  const char *at = strrchr(text, ')');
  char state = 'Z';
  unsigned long long start = 0;
  if (at == NULL || sscanf(at,
                           ") %c %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s "
                           "%*s %*s %*s %llu",
                           &state, &start) != 2) {
    return 0;
  }
  return state == 'Z' || state == 'X' ? 0 : start;
}


// ---- one claim file ----------------------------------------------------------------------------

static void claim_path(const char *folder, int64_t unit, int generation, char *path, size_t size) {
  snprintf(path, size, "%s/claim-%06lld.%d", folder, (long long)unit, generation);
}


// the newest generation of a unit, -1 for none
static rgm_status newest(const char *folder, int64_t unit, int *out) {
  char path[4200];
  // generations are few, and without gaps: the next one is created only after the one before
  for (*out = -1; *out < 1000000; ++*out) {
    claim_path(folder, unit, *out + 1, path, sizeof path);
    if (access(path, F_OK) != 0) {
      return errno == ENOENT ? RGM_OK
                             : rgm_fail(RGM_EIO, "%s: %s; check the folder", path, strerror(errno));
    }
  }
  return rgm_fail(RGM_EIO, "%s: claimed a million times; remove the folder", path);
}


static void write_record(int fd, bool held, const char *note) {
  char record[RECORD], host[64] = "", place[96], body[RECORD];
  name_place(place);
  (void)gethostname(host, sizeof host - 1);
  const int n = snprintf(body, sizeof body, "%s %ld %llu %s %s %.*s", held ? "held" : "left",
                         (long)getpid(), begun((long)getpid()), host[0] != '\0' ? host : "-", place,
                         RGM_CLAIM_NOTE - 1, note);
  memset(record, ' ', sizeof record);
  memcpy(record, body, (size_t)n < sizeof record ? (size_t)n : sizeof record - 1);
  record[sizeof record - 1] = '\n';
  // a record that cannot be written reads as dead once its lease is over: nothing is lost
  ssize_t result;
  do {
    result = pwrite(fd, record, sizeof record, 0);
  } while (result < 0 && errno == EINTR);
}


// the time of the file system, by a file of our own
static double now_there(const char *folder) {
  char path[4200];
  struct stat info;
  double now = 0;
  snprintf(path, sizeof path, "%s/now-%ld-%lx", folder, (long)getpid(), (long)pthread_self());
  const int fd = open(path, O_CREAT | O_WRONLY | O_TRUNC | O_CLOEXEC, 0644);
  if (fd >= 0) {
    if (futimens(fd, NULL) == 0 && fstat(fd, &info) == 0) {
      now = (double)info.st_mtim.tv_sec + 1e-9 * (double)info.st_mtim.tv_nsec;
    }
    close(fd);
    unlink(path);
  }
  return now;
}


// whether the owner of a record is gone, as far as this machine can tell at once
static bool is_dead(const char *word, long pid, unsigned long long start, const char *place) {
  char ours[96];
  name_place(ours);
  if (strcmp(word, "left") == 0) {
    return true;
  }
  return strcmp(place, ours) == 0 && begun(pid) != start;
}


rgm_status rgm_claim_look(const char *folder, double lease, int64_t unit, rgm_claim_view *v) {
  char path[4200], text[RECORD + 1] = "", word[8] = "", place[96] = "";
  unsigned long long start = 0;
  struct stat info;
  int used = 0;
  *v = (rgm_claim_view){.state = RGM_CLAIM_FREE};
  RGM_TRY(newest(folder, unit, &v->generation));
  if (v->generation < 0) {
    return RGM_OK;
  }
  claim_path(folder, unit, v->generation, path, sizeof path);
  const int fd = open(path, O_RDONLY | O_CLOEXEC);
  if (fd < 0) {
    return errno == ENOENT ? RGM_OK // the sweep ended meanwhile
                           : rgm_fail(RGM_EIO, "%s: %s", path, strerror(errno));
  }
  const ssize_t n = pread(fd, text, RECORD, 0);
  const bool timed = fstat(fd, &info) == 0;
  close(fd);
  const bool whole = n == RECORD && sscanf(text, "%7s %ld %llu %63s %95s %n", word, &v->pid, &start,
                                           v->host, place, &used) == 5;
  if (whole) {
    snprintf(v->note, sizeof v->note, "%s", text + used);
    for (size_t end = strlen(v->note); end > 0 && strchr(" \n", v->note[end - 1]) != NULL; end--) {
      v->note[end - 1] = '\0';
    }
  }
  const double now = now_there(folder);
  if (timed && now > 0) {
    v->age = now - ((double)info.st_mtim.tv_sec + 1e-9 * (double)info.st_mtim.tv_nsec);
  }
  // a record that is not whole is being written, or its owner died over it
  const bool dead = (whole && is_dead(word, v->pid, start, place)) || v->age > lease;
  v->state = dead ? RGM_CLAIM_DEAD : RGM_CLAIM_ALIVE;
  return RGM_OK;
}


// ---- our claims --------------------------------------------------------------------------------

// touches what is held, four times in a lease
static void *beat(void *arg) {
  rgm_claims *c = arg;
  pthread_mutex_lock(&c->lock);
  while (!c->ending) {
    for (int i = 0; i < c->count; i++) {
      (void)futimens(c->held[i].fd, NULL);
    }
    struct timespec until;
    clock_gettime(CLOCK_REALTIME, &until);
    const double pause = c->lease / 4.0;
    until.tv_sec += (time_t)pause;
    until.tv_nsec += (long)(1e9 * (pause - (double)(time_t)pause));
    if (until.tv_nsec >= 1000000000L) {
      until.tv_nsec -= 1000000000L;
      until.tv_sec++;
    }
    pthread_cond_timedwait(&c->wake, &c->lock, &until);
  }
  pthread_mutex_unlock(&c->lock);
  return NULL;
}


rgm_status rgm_claims_open(rgm_claims *c, const char *folder, double lease) {
  *c = (rgm_claims){.folder = folder, .lease = lease};
  pthread_mutex_init(&c->lock, NULL);
  pthread_cond_init(&c->wake, NULL);
  const int error = pthread_create(&c->pulse, NULL, beat, c);
  if (error != 0) {
    return rgm_fail(RGM_EMEMORY, "no thread for the claims of a sweep: %s", strerror(error));
  }
  c->beating = true;
  return RGM_OK;
}


static int create(const char *path) {
  int fd;
  do {
    fd = open(path, O_CREAT | O_EXCL | O_RDWR | O_CLOEXEC, 0644);
  } while (fd < 0 && errno == EINTR);
  return fd;
}


// A claim file with its record in it from the first moment, by a link: whoever dies in between has
// claimed nothing. On file systems without links the record comes second, and an owner that dies
// between the two is known by its silence.
static int create_claim(const rgm_claims *c, const char *path) {
  char draft[4200];
  snprintf(draft, sizeof draft, "%s/draft-%ld-%lx", c->folder, (long)getpid(),
           (long)pthread_self());
  unlink(draft);
  int fd = create(draft);
  if (fd < 0) {
    return fd;
  }
  write_record(fd, true, "");
  const int result = link(draft, path), error = errno;
  unlink(draft);
  if (result == 0) {
    return fd;
  }
  close(fd);
  errno = error;
  if (error == EPERM || error == EOPNOTSUPP || error == ENOSYS) {
    fd = create(path);
    if (fd >= 0) {
      write_record(fd, true, "");
    }
    return fd;
  }
  return -1;
}


rgm_status rgm_claim_take(rgm_claims *c, int64_t unit, int *generation) {
  rgm_claim_view view;
  char path[4200];
  *generation = -1;
  RGM_TRY(rgm_claim_look(c->folder, c->lease, unit, &view));
  if (view.state == RGM_CLAIM_ALIVE) {
    return RGM_OK;
  }
  claim_path(c->folder, unit, view.generation + 1, path, sizeof path);
  const int fd = create_claim(c, path);
  if (fd < 0) {
    // somebody was faster, or the sweep has ended and its folder is gone
    return errno == EEXIST || errno == ENOENT
               ? RGM_OK
               : rgm_fail(RGM_EIO, "%s: %s; free space or check the folder", path, strerror(errno));
  }
  pthread_mutex_lock(&c->lock);
  rgm_claim *grown = realloc(c->held, (size_t)(c->count + 1) * sizeof *grown);
  if (grown != NULL) {
    c->held = grown;
    c->held[c->count++] = (rgm_claim){unit, view.generation + 1, fd};
  }
  pthread_mutex_unlock(&c->lock);
  if (grown == NULL) {
    close(fd);
    unlink(path);
    return rgm_fail(RGM_EMEMORY, "no memory for a claim");
  }
  *generation = view.generation + 1;
  return RGM_OK;
}


bool rgm_claim_held(const rgm_claims *c, int64_t unit, int generation) {
  char path[4200];
  claim_path(c->folder, unit, generation + 1, path, sizeof path);
  if (access(path, F_OK) == 0) {
    return false;
  }
  claim_path(c->folder, unit, generation, path, sizeof path);
  return access(path, F_OK) == 0;
}


void rgm_claim_note(rgm_claims *c, int64_t unit, const char *note) {
  pthread_mutex_lock(&c->lock);
  for (int i = 0; i < c->count; i++) {
    if (c->held[i].unit == unit) {
      write_record(c->held[i].fd, true, note);
    }
  }
  pthread_mutex_unlock(&c->lock);
}


void rgm_claim_release(rgm_claims *c, int64_t unit) {
  pthread_mutex_lock(&c->lock);
  for (int i = 0; i < c->count; i++) {
    if (c->held[i].unit == unit) {
      write_record(c->held[i].fd, false, "");
      close(c->held[i].fd);
      c->held[i] = c->held[--c->count];
      break;
    }
  }
  pthread_mutex_unlock(&c->lock);
}


void rgm_claims_close(rgm_claims *c) {
  if (!c->beating) {
    return;
  }
  while (c->count > 0) {
    rgm_claim_release(c, c->held[0].unit);
  }
  pthread_mutex_lock(&c->lock);
  c->ending = true;
  pthread_cond_signal(&c->wake);
  pthread_mutex_unlock(&c->lock);
  pthread_join(c->pulse, NULL);
  pthread_mutex_destroy(&c->lock);
  pthread_cond_destroy(&c->wake);
  free(c->held);
  *c = (rgm_claims){0};
}
