// SPDX-License-Identifier: Apache-2.0
// A faulty file system: a program that includes this defines open, write, fsync, ... itself, passes
// them on, and lets the n-th of them fail or end the process.

#ifndef RGM_FAULTY_IO_H
#define RGM_FAULTY_IO_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>


// Which call fails: the n-th one of the measured region, with an errno; SHORT writes half instead.
// KILL ends the process by SIGKILL in place of the call.
enum { SHORT = -1, KILL = -2 };

static struct {
  bool on;
  int left;          // calls until the failing one; 0: it has come
  int code;          // errno, SHORT or KILL
  const char *which; // the call that failed, NULL while none has
  // told of calls that are made, where not NULL
  void (*synced)(int fd);
  void (*renamed)(const char *to);
} fault;


// true where this call is the one that fails
static bool fails(const char *which) {
  const bool counts = fault.code != SHORT || strcmp(which, "write") == 0;
  if (!fault.on || !counts || fault.left == 0 || --fault.left > 0) {
    return false;
  }
  fault.which = which;
  if (fault.code == KILL) {
    raise(SIGKILL);
  }
  if (fault.code == SHORT) {
    return false;
  }
  errno = fault.code;
  return true;
}


// true where this call, which fails() let pass, is to do half its work
static bool is_short(void) {
  return fault.on && fault.which != NULL && fault.left == 0 && fault.code == SHORT;
}


// the function that a name stands for without this program
static void resolve(void *pointer, const char *name) {
  void *symbol = dlsym(RTLD_NEXT, name);
  memcpy(pointer, &symbol, sizeof symbol);
}


int open(const char *path, int flags, ...) {
  static int (*next)(const char *, int, ...);
  if (next == NULL) {
    resolve(&next, "open");
  }
  va_list args;
  va_start(args, flags);
  const mode_t mode = (flags & O_CREAT) != 0 ? va_arg(args, mode_t) : 0;
  va_end(args);
  return fails("open") ? -1 : next(path, flags, mode);
}


ssize_t read(int fd, void *data, size_t size) {
  static ssize_t (*next)(int, void *, size_t);
  if (next == NULL) {
    resolve(&next, "read");
  }
  return fails("read") ? -1 : next(fd, data, size);
}


ssize_t write(int fd, const void *data, size_t size) {
  static ssize_t (*next)(int, const void *, size_t);
  if (next == NULL) {
    resolve(&next, "write");
  }
  const bool before = fault.which != NULL;
  if (fails("write")) {
    return -1;
  }
  return next(fd, data, !before && is_short() && size > 1 ? size / 2 : size);
}


int fsync(int fd) {
  static int (*next)(int);
  if (next == NULL) {
    resolve(&next, "fsync");
  }
  return fails("fsync") ? -1 : next(fd);
}


int fdatasync(int fd) {
  static int (*next)(int);
  if (next == NULL) {
    resolve(&next, "fdatasync");
  }
  if (fails("fdatasync")) {
    return -1;
  }
  if (fault.synced != NULL) {
    fault.synced(fd);
  }
  return next(fd);
}


int unlink(const char *path) {
  static int (*next)(const char *);
  if (next == NULL) {
    resolve(&next, "unlink");
  }
  return fails("unlink") ? -1 : next(path);
}


int flock(int fd, int operation) {
  static int (*next)(int, int);
  if (next == NULL) {
    resolve(&next, "flock");
  }
  return fails("flock") ? -1 : next(fd, operation);
}


ssize_t pwrite(int fd, const void *data, size_t size, off_t at) {
  static ssize_t (*next)(int, const void *, size_t, off_t);
  if (next == NULL) {
    resolve(&next, "pwrite");
  }
  return fails("pwrite") ? -1 : next(fd, data, size, at);
}


int rename(const char *from, const char *to) {
  static int (*next)(const char *, const char *);
  if (next == NULL) {
    resolve(&next, "rename");
  }
  if (fails("rename")) {
    return -1;
  }
  if (fault.renamed != NULL) {
    fault.renamed(to);
  }
  return next(from, to);
}


// Linux closes the descriptor whatever it says
int close(int fd) {
  static int (*next)(int);
  if (next == NULL) {
    resolve(&next, "close");
  }
  const bool bad = fails("close");
  const int result = next(fd);
  errno = bad ? fault.code : errno;
  return bad ? -1 : result;
}


int ftruncate(int fd, off_t size) {
  static int (*next)(int, off_t);
  if (next == NULL) {
    resolve(&next, "ftruncate");
  }
  return fails("ftruncate") ? -1 : next(fd, size);
}


// ---- the same for stdio, whose own calls pass by the functions above; not for memory streams ----

FILE *fopen(const char *path, const char *mode) {
  static FILE *(*next)(const char *, const char *);
  if (next == NULL) {
    resolve(&next, "fopen");
  }
  return fails("fopen") ? NULL : next(path, mode);
}


int fflush(FILE *file) {
  static int (*next)(FILE *);
  if (next == NULL) {
    resolve(&next, "fflush");
  }
  return file != NULL && fileno(file) >= 0 && fails("fflush") ? EOF : next(file);
}


int fclose(FILE *file) {
  static int (*next)(FILE *);
  if (next == NULL) {
    resolve(&next, "fclose");
  }
  const bool bad = fileno(file) >= 0 && fails("fclose");
  const int result = next(file);
  errno = bad ? fault.code : errno;
  return bad ? EOF : result;
}


// true for a failure that is tried again; stdio's calls are restarted by SA_RESTART instead
static bool is_retried(void) {
  static const char *const names[] = {"open",   "read",  "write",    "fsync",
                                      "rename", "close", "fdatasync"};
  bool durable = false;
  for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
    durable = durable || strcmp(names[i], fault.which) == 0;
  }
  return fault.code == SHORT || (fault.code == EINTR && durable);
}

#endif
