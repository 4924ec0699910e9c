// SPDX-License-Identifier: Apache-2.0
// The process in which HDF5 reads data sets: its limits, and the pipe to it. See
// dataset_private.h.

#define _GNU_SOURCE // pipe2
#include "engine/dataset_private.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

// sanitizers map terabytes and write reports: they get no such limits
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
enum { LIMITED = 0 };
#else
enum { LIMITED = 1 };
#endif


// ---- in the child ------------------------------------------------------------------------------

static bool write_all(int fd, const void *data, size_t size) {
  const char *at = data;
  while (size > 0) {
    const ssize_t n = write(fd, at, size);
    if (n < 0 && errno == EINTR) {
      continue;
    }
    if (n <= 0) {
      return false;
    }
    at += n;
    size -= (size_t)n;
  }
  return true;
}


static bool read_all(int fd, void *data, size_t size) {
  char *at = data;
  while (size > 0) {
    const ssize_t n = read(fd, at, size);
    if (n < 0 && errno == EINTR) {
      continue;
    }
    if (n <= 0) {
      return false;
    }
    at += n;
    size -= (size_t)n;
  }
  return true;
}


static void limit(int which, rlim_t value) {
  struct rlimit now;
  if (getrlimit(which, &now) == 0) {
    now.rlim_cur = value < now.rlim_max ? value : now.rlim_max;
    now.rlim_max = now.rlim_cur;
    setrlimit(which, &now);
  }
}


// bytes of address space in use; 0: not known
static size_t mapped(void) {
  char text[64] = "";
  FILE *file = fopen("/proc/self/statm", "r");
  const bool ok = file != NULL && fgets(text, sizeof text, file) != NULL;
  if (file != NULL) {
    fclose(file);
  }
  return ok ? strtoull(text, NULL, 10) * (size_t)sysconf(_SC_PAGESIZE) : 0;
}


// processor time for one answer, from now on
static void limit_time(void) {
  struct rusage used;
  struct rlimit now;
  if (getrusage(RUSAGE_SELF, &used) == 0 && getrlimit(RLIMIT_CPU, &now) == 0) {
    const rlim_t most =
        (rlim_t)used.ru_utime.tv_sec + (rlim_t)used.ru_stime.tv_sec + RGM_CHILD_SECONDS;
    now.rlim_cur = most < now.rlim_max ? most : now.rlim_max;
    setrlimit(RLIMIT_CPU, &now);
  }
}


static void limit_all(void) {
  static const int quiet[] = {SIGINT, SIGTERM, SIGUSR1, SIGUSR2, SIGHUP, SIGPIPE, SIGSEGV, SIGBUS};
  // the parent tells of signals, and its death ends the child
  for (size_t i = 0; LIMITED && i < sizeof quiet / sizeof *quiet; i++) {
    signal(quiet[i], SIG_DFL);
  }
  signal(SIGINT, SIG_IGN);
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  prctl(PR_SET_DUMPABLE, 0);
  limit(RLIMIT_CORE, 0);
  limit_time();
  const size_t base = mapped();
  if (LIMITED && base > 0) {
    limit(RLIMIT_AS, base + ((rlim_t)RGM_CHILD_MEMORY << 20));
    limit(RLIMIT_FSIZE, 0);
  }
}


static bool send_error(int out, rgm_status status) {
  const char *text = rgm_last_error();
  const rgm_answer answer = {.status = status, .bytes = strlen(text)};
  return write_all(out, &answer, sizeof answer) && write_all(out, text, answer.bytes);
}


// Columns as they are (this is the same program), then each note: name, length, text.
static bool send_table(int out, const rgm_dataset *d) {
  rgm_answer answer = {.columns = d->column_count, .notes = d->note_count, .rows = d->rows};
  answer.bytes = sizeof *d + (size_t)d->column_count * sizeof *d->column;
  for (int i = 0; i < d->note_count; i++) {
    answer.bytes += sizeof d->note[i].name + sizeof(uint64_t) + strlen(d->note[i].text);
  }
  bool ok = write_all(out, &answer, sizeof answer) && write_all(out, d, sizeof *d) &&
            write_all(out, d->column, (size_t)d->column_count * sizeof *d->column);
  for (int i = 0; i < d->note_count && ok; i++) {
    const uint64_t length = strlen(d->note[i].text);
    ok = write_all(out, d->note[i].name, sizeof d->note[i].name) &&
         write_all(out, &length, sizeof length) && write_all(out, d->note[i].text, length);
  }
  return ok;
}


// Answers until the parent has gone.
static void serve(int in, int out, rgm_source *source) {
  const rgm_dataset *d = rgm_source_table(source);
  unsigned char *piece = malloc((size_t)RGM_CHILD_PIECE << 20);
  int32_t *select = calloc((size_t)d->column_count, sizeof *select);
  size_t row_bytes = 0;
  int count = 0;
  rgm_request request;
  bool ok = piece != NULL && select != NULL && send_table(out, d);
  while (ok && read_all(in, &request, sizeof request)) {
    limit_time();
    if (request.rows < 0) {
      count = (int)request.first;
      ok = count <= d->column_count && read_all(in, select, (size_t)count * sizeof *select);
      row_bytes = 0;
      for (int i = 0; ok && i < count; i++) {
        row_bytes += rgm_cell_size(d->column[select[i]].cell);
      }
      continue;
    }
    rgm_answer answer = {.rows = request.rows};
    const rgm_status status =
        rgm_source_read(source, select, count, request.first, &answer.rows, piece);
    answer.bytes = (uint64_t)answer.rows * row_bytes;
    ok = status != RGM_OK
             ? send_error(out, status)
             : write_all(out, &answer, sizeof answer) && write_all(out, piece, answer.bytes);
  }
  free(select);
  free(piece);
}


static void run(const char *path, int fd, bool ours, int in, int out) {
  limit_all();
  rgm_source *source = NULL;
  const rgm_status status = rgm_source_open(path, fd, ours, &source);
  if (LIMITED) {
    limit(RLIMIT_NOFILE, 0); // what is open stays so, nothing else can be opened
  }
  if (status != RGM_OK) {
    send_error(out, status);
  } else {
    serve(in, out, source);
  }
  _exit(0);
}


// ---- in the parent -----------------------------------------------------------------------------

// Ends the child if it lives, and says what became of it.
static rgm_status bury(rgm_child *child, bool late) {
  int status = 0;
  const pid_t pid = child->pid;
  child->pid = -1;
  if (late) {
    kill(pid, SIGKILL);
  }
  while (pid > 0 && waitpid(pid, &status, 0) < 0 && errno == EINTR) {
  }
  if (late) {
    return rgm_fail(RGM_EDATA,
                    "%s: reading it took longer than %d s and was stopped: the file is damaged or "
                    "made to do harm, or the disk is too slow",
                    child->path, RGM_CHILD_SECONDS);
  }
  if (pid > 0 && WIFSIGNALED(status)) {
    return rgm_fail(RGM_EDATA,
                    "%s: the process that read it was ended by signal %d%s: the file is damaged or "
                    "made to do harm; nothing of it was used",
                    child->path, WTERMSIG(status),
                    WTERMSIG(status) == SIGXCPU ? " (processor time)" : "");
  }
  return rgm_fail(RGM_EDATA,
                  "%s: the process that read it ended without an answer (exit code %d): the file "
                  "is damaged or made to do harm; nothing of it was used",
                  child->path, pid > 0 ? WEXITSTATUS(status) : -1);
}


rgm_status rgm_child_start(const char *path, int fd, bool ours, rgm_child *out) {
  int to[2], from[2];
  *out = (rgm_child){.path = path, .pid = -1, .to = -1, .from = -1};
  if (pipe2(to, O_CLOEXEC) != 0) {
    return rgm_fail(RGM_EIO, "%s: no pipe to read it through: %s", path, strerror(errno));
  }
  if (pipe2(from, O_CLOEXEC) != 0) {
    close(to[0]);
    close(to[1]);
    return rgm_fail(RGM_EIO, "%s: no pipe to read it through: %s", path, strerror(errno));
  }
  fflush(NULL);
  out->pid = fork();
  if (out->pid == 0) {
    close(to[1]);
    close(from[0]);
    run(path, fd, ours, to[0], from[1]);
  }
  close(to[0]);
  close(from[1]);
  out->to = to[1];
  out->from = from[0];
  if (out->pid < 0) {
    const rgm_status status = rgm_fail(RGM_EIO,
                                       "%s: no process to read it in: %s; try again "
                                       "when the machine has room",
                                       path, strerror(errno));
    rgm_child_end(out);
    return status;
  }
  return RGM_OK;
}


void rgm_child_end(rgm_child *child) {
  if (child->to >= 0) {
    close(child->to);
    close(child->from);
  }
  child->to = child->from = -1;
  if (child->pid > 0) {
    // it has nothing that must be saved
    kill(child->pid, SIGKILL);
    while (waitpid(child->pid, NULL, 0) < 0 && errno == EINTR) {
    }
  }
  child->pid = -1;
}


rgm_status rgm_child_send(rgm_child *child, const void *data, size_t size) {
  // a child that died must not end the program by SIGPIPE
  struct sigaction old, ignore = {.sa_handler = SIG_IGN};
  sigemptyset(&ignore.sa_mask);
  sigaction(SIGPIPE, &ignore, &old);
  const bool ok = child->pid > 0 && write_all(child->to, data, size);
  sigaction(SIGPIPE, &old, NULL);
  return ok ? RGM_OK : bury(child, false);
}


rgm_status rgm_child_receive(rgm_child *child, void *data, size_t size) {
  char *at = data;
  struct pollfd wait = {.fd = child->from, .events = POLLIN};
  while (size > 0) {
    const int ready = child->pid > 0 ? poll(&wait, 1, RGM_CHILD_SECONDS * 1000) : -1;
    if (ready < 0 && child->pid > 0 && errno == EINTR) {
      continue;
    }
    if (ready == 0) {
      return bury(child, true);
    }
    const ssize_t n = ready > 0 ? read(child->from, at, size) : 0;
    if (n < 0 && errno == EINTR) {
      continue;
    }
    if (n <= 0) {
      return bury(child, false);
    }
    at += n;
    size -= (size_t)n;
  }
  return RGM_OK;
}
