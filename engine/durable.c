// SPDX-License-Identifier: Apache-2.0
// The half of checkpoints that knows no HDF5: SHA-256, the 512-byte prefix, writes that survive
// crashes and full disks, reads that notice damage, and the struct in memory. newest.c finds the
// files of a folder.

#include "engine/checkpoint_private.h"

#include <errno.h>
#include <fcntl.h>
#include <openssl/evp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>


enum {
  VERSION_AT = 8,
  SCHEMA_AT = 12,
  LENGTH_AT = 16,
  DIGEST_AT = 24,
  DIGEST_SIZE = 32,
  LINE_AT = 56,
};

static const char magic[] = "REGIMEN\n";
static const char line[] = "Regimen checkpoint, an HDF5 file with a 512-byte prefix\n";
static const char dataset_line[] = "Regimen data set, an HDF5 file with a 512-byte prefix\n";


// ---- little-endian numbers and digests ---------------------------------------------------------

static void put_number(unsigned char *at, uint64_t value, int bytes) {
  for (int i = 0; i < bytes; i++) {
    at[i] = (unsigned char)(value >> (8 * i));
  }
}


static uint64_t get_number(const unsigned char *at, int bytes) {
  uint64_t value = 0;
  for (int i = 0; i < bytes; i++) {
    value |= (uint64_t)at[i] << (8 * i);
  }
  return value;
}


// SHA-256 of a whole file as if its digest field were zero; false where libcrypto had no memory.
static bool file_digest(const unsigned char *file, size_t size, unsigned char digest[DIGEST_SIZE]) {
  static const unsigned char zeros[DIGEST_SIZE];
  const size_t rest = DIGEST_AT + DIGEST_SIZE;
  EVP_MD_CTX *hash = EVP_MD_CTX_new();
  bool ok = hash != NULL && EVP_DigestInit_ex(hash, EVP_sha256(), NULL) == 1 &&
            EVP_DigestUpdate(hash, file, DIGEST_AT) == 1 &&
            EVP_DigestUpdate(hash, zeros, DIGEST_SIZE) == 1 &&
            EVP_DigestUpdate(hash, file + rest, size - rest) == 1 &&
            EVP_DigestFinal_ex(hash, digest, NULL) == 1;
  EVP_MD_CTX_free(hash);
  return ok;
}


// ---- SHA-256 in pieces -------------------------------------------------------------------------

// rgm_hash is libcrypto's context; one that failed is freed at its end like any other
rgm_hash *rgm_hash_new(void) {
  EVP_MD_CTX *hash = EVP_MD_CTX_new();
  if (hash != NULL && EVP_DigestInit_ex(hash, EVP_sha256(), NULL) != 1) {
    EVP_MD_CTX_free(hash);
    hash = NULL;
  }
  return (rgm_hash *)hash;
}


void rgm_hash_add(rgm_hash *hash, const void *data, size_t size) {
  if (hash != NULL) {
    EVP_DigestUpdate((EVP_MD_CTX *)hash, data, size);
  }
}


// raw bytes; frees
static bool hash_finish(rgm_hash *hash, unsigned char digest[DIGEST_SIZE]) {
  unsigned char longest[EVP_MAX_MD_SIZE];
  const bool ok = hash != NULL && EVP_DigestFinal_ex((EVP_MD_CTX *)hash, longest, NULL) == 1;
  EVP_MD_CTX_free((EVP_MD_CTX *)hash);
  if (ok) {
    memcpy(digest, longest, DIGEST_SIZE);
  }
  return ok;
}


bool rgm_hash_end(rgm_hash *hash, char hex[65]) {
  unsigned char digest[DIGEST_SIZE];
  hex[0] = '\0';
  const bool ok = hash_finish(hash, digest);
  for (size_t i = 0; ok && i < DIGEST_SIZE; i++) {
    snprintf(hex + 2 * i, 3, "%02x", digest[i]);
  }
  return ok;
}


void rgm_sha256_hex(const void *data, size_t size, char hex[65]) {
  // an empty text, which equals no digest, where libcrypto has no memory
  unsigned char digest[EVP_MAX_MD_SIZE];
  hex[0] = '\0';
  if (EVP_Digest(data, size, digest, NULL, EVP_sha256(), NULL) == 1) {
    for (size_t i = 0; i < DIGEST_SIZE; i++) {
      snprintf(hex + 2 * i, 3, "%02x", digest[i]);
    }
  }
}


// ---- the prefix --------------------------------------------------------------------------------

static bool is_dataset(uint32_t schema) {
  return (schema & 0xffff0000u) == RGM_DATASET_MARK;
}


// all but the digest, which is zeros
static void fill_prefix(unsigned char *file, size_t size, uint32_t schema) {
  memset(file, 0, RGM_PREFIX_SIZE);
  memcpy(file, magic, VERSION_AT);
  put_number(file + VERSION_AT, RGM_PREFIX_VERSION, 4);
  put_number(file + SCHEMA_AT, schema, 4);
  put_number(file + LENGTH_AT, size - RGM_PREFIX_SIZE, 8);
  if (is_dataset(schema)) {
    memcpy(file + LINE_AT, dataset_line, sizeof dataset_line);
  } else {
    memcpy(file + LINE_AT, line, sizeof line);
  }
}


rgm_status rgm_prefix_fill(unsigned char *file, size_t size, uint32_t schema) {
  // the digest comes last, over all the rest
  unsigned char digest[DIGEST_SIZE];
  fill_prefix(file, size, schema);
  if (!file_digest(file, size, digest)) {
    return rgm_fail(RGM_EMEMORY, "no memory for the SHA-256 of a checkpoint");
  }
  memcpy(file + DIGEST_AT, digest, DIGEST_SIZE);
  return RGM_OK;
}


rgm_status rgm_schema_check(const char *path, uint32_t schema) {
  if (is_dataset(schema)) {
    return rgm_fail(RGM_EDATA,
                    "%s: a data set, not a checkpoint: `regimen info` and `regimen check` look at "
                    "it, data.path names it in a config",
                    path);
  }
  if (schema > RGM_CHECKPOINT_SCHEMA) {
    return rgm_fail(RGM_EDATA,
                    "%s: written by a newer Regimen (schema %u, this program reads up to %d): "
                    "use a newer Regimen or an older checkpoint",
                    path, (unsigned)schema, RGM_CHECKPOINT_SCHEMA);
  }
  if (schema < RGM_CHECKPOINT_OLDEST) {
    return rgm_fail(RGM_EDATA,
                    "%s: written by an older Regimen (schema %u, this program reads from %d on): "
                    "use the Regimen that wrote it or another checkpoint",
                    path, (unsigned)schema, RGM_CHECKPOINT_OLDEST);
  }
  return RGM_OK;
}


// What can be told from the prefix alone: is it ours, is it of this version, is the file whole?
static rgm_status check_prefix(const char *path, const unsigned char *prefix, size_t size) {
  static const unsigned char hdf5[] = {0x89, 'H', 'D', 'F', '\r', '\n', 0x1a, '\n'};
  if (size == 0) {
    return rgm_fail(RGM_EDATA, "%s: the file is empty: use an older checkpoint", path);
  }
  if (size >= sizeof hdf5 && memcmp(prefix, hdf5, sizeof hdf5) == 0) {
    return rgm_fail(RGM_EDATA, "%s: an HDF5 file, but not a Regimen checkpoint: check the path",
                    path);
  }
  if (size < RGM_PREFIX_SIZE || memcmp(prefix, magic, VERSION_AT) != 0) {
    return rgm_fail(RGM_EDATA,
                    "%s: not a Regimen checkpoint, or damaged at its start: check the path or use "
                    "an older checkpoint",
                    path);
  }

  // a newer prefix may be laid out in another way: stop here
  uint64_t version = get_number(prefix + VERSION_AT, 4);
  if (version != RGM_PREFIX_VERSION) {
    return rgm_fail(RGM_EDATA,
                    "%s: damaged, or written by a newer Regimen (file format %llu, this program "
                    "reads %d): use an older checkpoint or a newer Regimen",
                    path, (unsigned long long)version, RGM_PREFIX_VERSION);
  }
  uint64_t length = get_number(prefix + LENGTH_AT, 8);
  if (length != size - RGM_PREFIX_SIZE) {
    return rgm_fail(RGM_EDATA,
                    "%s: the file is damaged (%llu bytes follow its prefix, which says %llu): use "
                    "an older checkpoint",
                    path, (unsigned long long)(size - RGM_PREFIX_SIZE), (unsigned long long)length);
  }
  return RGM_OK;
}


// ---- the file system ---------------------------------------------------------------------------

// What the user can do about an errno.
static const char *advice(int code, bool writing) {
  switch (code) {
  case ENOSPC:
  case EDQUOT:
    return "free space or choose another --out";
  case EFBIG:
    return "raise the file size limit (ulimit -f) or choose another --out";
  case EACCES:
  case EPERM:
  case EROFS:
    return writing ? "make it writable or choose another --out" : "make it readable";
  case ENOENT:
  case ENOTDIR:
  case EISDIR:
  case ENAMETOOLONG:
    return writing ? "check the path or choose another --out" : "check the path";
  default:
    return writing ? "check the disk or choose another --out" : "check the disk";
  }
}


static rgm_status cannot_write(const char *path, const char *verb) {
  int code = errno;
  return rgm_fail(RGM_EIO, "%s: cannot %s: %s: %s", path, verb, strerror(code), advice(code, true));
}


rgm_status rgm_cannot_read(const char *path) {
  int code = errno;
  return rgm_fail(RGM_EIO, "%s: cannot read: %s: %s", path, strerror(code), advice(code, false));
}


static int open_file(const char *path, int flags, mode_t mode) {
  int fd;
  do {
    fd = open(path, flags | O_CLOEXEC, mode);
  } while (fd < 0 && errno == EINTR);
  return fd;
}


static int sync_file(int fd) {
  int result;
  do {
    result = fsync(fd);
  } while (result != 0 && errno == EINTR);
  return result;
}


static int rename_file(const char *from, const char *to) {
  int result;
  do {
    result = rename(from, to);
  } while (result != 0 && errno == EINTR);
  return result;
}


// Linux has closed the descriptor even where it says EINTR.
static int close_file(int fd) {
  return close(fd) != 0 && errno != EINTR ? -1 : 0;
}


static bool write_all(int fd, const unsigned char *data, size_t size) {
  while (size > 0) {
    ssize_t n = write(fd, data, size);
    if (n < 0 && errno == EINTR) {
      continue;
    }
    if (n <= 0) {
      errno = n == 0 ? EIO : errno;
      return false;
    }
    data += n;
    size -= (size_t)n;
  }
  return true;
}


// Fills `data` as far as the file goes: bytes read, or -1.
static ssize_t read_all(int fd, unsigned char *data, size_t size) {
  size_t done = 0;
  while (done < size) {
    ssize_t n = read(fd, data + done, size - done);
    if (n < 0 && errno == EINTR) {
      continue;
    }
    if (n < 0) {
      return -1;
    }
    if (n == 0) {
      break;
    }
    done += (size_t)n;
  }
  return (ssize_t)done;
}


// Makes the temporary file, or leaves none.
static rgm_status write_temporary(const char *path, const unsigned char *data, size_t size,
                                  mode_t mode) {
  // a stale one is what a killed run leaves behind
  if (unlink(path) != 0 && errno != ENOENT) {
    return cannot_write(path, "remove the stale file");
  }
  int fd = open_file(path, O_WRONLY | O_CREAT | O_EXCL, mode);
  if (fd < 0) {
    return cannot_write(path, "create");
  }

  // all bytes onto the disk, and out of the page cache, so that reading back asks the disk
  rgm_status status = RGM_OK;
  if (!write_all(fd, data, size)) {
    status = cannot_write(path, "write");
  } else if (sync_file(fd) != 0) {
    status = cannot_write(path, "fsync");
  } else {
    (void)posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
  }
  if (close_file(fd) != 0 && status == RGM_OK) {
    status = cannot_write(path, "close");
  }
  if (status != RGM_OK) {
    unlink(path);
  }
  return status;
}


// Compares a file with what it should hold.
static rgm_status read_back(const char *path, const unsigned char *data, size_t size) {
  int fd = open_file(path, O_RDONLY, 0);
  if (fd < 0) {
    return cannot_write(path, "read back");
  }

  // up to the first difference, then one byte more, which must not exist
  unsigned char block[16384];
  rgm_status status = RGM_OK;
  size_t done = 0;
  ssize_t n = 0;
  while ((n = read_all(fd, block, sizeof block)) > 0) {
    if ((size_t)n > size - done || memcmp(block, data + done, (size_t)n) != 0) {
      break;
    }
    done += (size_t)n;
  }
  if (n < 0) {
    status = cannot_write(path, "read back");
  } else if (n > 0 || done != size) {
    status = rgm_fail(RGM_EIO,
                      "%s: the disk returned other bytes than were written: check the disk or "
                      "choose another --out",
                      path);
  }
  close_file(fd);
  return status;
}


// Opens the folder that a path lies in; `name`, as long as the path and two more, gets its name.
static int open_folder(const char *path, char *name) {
  const char *slash = strrchr(path, '/');
  size_t length = slash == NULL || slash == path ? 1 : (size_t)(slash - path);
  memcpy(name, slash == NULL ? "." : path, length);
  name[length] = '\0';
  return open_file(name, O_RDONLY | O_DIRECTORY, 0);
}


// The steps after the folder was opened; `temporary` is the name of the temporary file.
static rgm_status replace(const char *path, const char *temporary, int folder,
                          const unsigned char *file, size_t size, mode_t mode) {
  // the old file gives way only to a new one that has been read back
  RGM_TRY(write_temporary(temporary, file, size, mode));
  rgm_status status = read_back(temporary, file, size);
  if (status == RGM_OK && rename_file(temporary, path) != 0) {
    status = cannot_write(path, "rename the new file to this");
  }
  if (status != RGM_OK) {
    unlink(temporary);
    return status;
  }

  // a few file systems cannot do this for folders, and say EINVAL
  if (sync_file(folder) != 0 && errno != EINVAL) {
    return cannot_write(path, "fsync the folder of this");
  }
  return RGM_OK;
}


rgm_status rgm_durable_write(const char *path, const unsigned char *file, size_t size,
                             mode_t mode) {
  size_t length = strlen(path) + sizeof ".tmp";
  char *name = malloc(length);
  if (name == NULL) {
    return rgm_fail(RGM_EMEMORY, "%s: no memory for its name", path);
  }

  // the folder comes first, so that after the rename only its fsync can fail
  rgm_status status;
  int folder = open_folder(path, name);
  if (folder < 0) {
    status = cannot_write(name, "open the folder");
  } else {
    snprintf(name, length, "%s.tmp", path);
    status = replace(path, name, folder, file, size, mode);
    close_file(folder);
  }
  free(name);
  return status;
}


// SHA-256 of an open file from its start on, its digest field taken as zeros; -1 from a failed
// read, 0 for want of memory.
static int stream_digest(int fd, size_t size, unsigned char digest[DIGEST_SIZE]) {
  enum { BLOCK = 1 << 16 };
  unsigned char *block = malloc(BLOCK);
  rgm_hash *hash = rgm_hash_new();
  bool ok = block != NULL && hash != NULL;
  ssize_t n = ok && lseek(fd, 0, SEEK_SET) != 0 ? -1 : 0;
  for (size_t done = 0; ok && n >= 0 && done < size; done += (size_t)n) {
    n = read_all(fd, block, size - done < BLOCK ? size - done : BLOCK);
    if (n == 0) {
      break; // shorter by now: what is missing is in no digest
    }
    if (n > 0 && done == 0) {
      memset(block + DIGEST_AT, 0, DIGEST_SIZE);
    }
    rgm_hash_add(hash, block, n > 0 ? (size_t)n : 0);
  }
  ok = hash_finish(hash, digest) && ok;
  free(block);
  return n < 0 ? -1 : ok;
}


bool rgm_prefix_is_ours(const unsigned char *prefix, size_t size, uint32_t *schema) {
  *schema = size >= RGM_PREFIX_SIZE ? (uint32_t)get_number(prefix + SCHEMA_AT, 4) : 0;
  return size >= VERSION_AT && memcmp(prefix, magic, VERSION_AT) == 0;
}


rgm_status rgm_durable_verify(const char *path, int fd, rgm_fault *out) {
  unsigned char prefix[RGM_PREFIX_SIZE], digest[DIGEST_SIZE];
  struct stat info;
  *out = (rgm_fault){.text = ""};
  ssize_t n = lseek(fd, 0, SEEK_SET) == 0 ? read_all(fd, prefix, sizeof prefix) : -1;
  if (n < 0 || fstat(fd, &info) != 0) {
    return rgm_cannot_read(path);
  }
  const size_t size = (size_t)info.st_size;
  out->ours = rgm_prefix_is_ours(prefix, (size_t)n, &out->schema);
  if (!out->ours) {
    return RGM_OK;
  }
  if ((size_t)n < sizeof prefix || get_number(prefix + VERSION_AT, 4) != RGM_PREFIX_VERSION) {
    snprintf(out->text, sizeof out->text, "its prefix is cut off or of a newer Regimen");
  } else if (get_number(prefix + LENGTH_AT, 8) != size - sizeof prefix) {
    snprintf(out->text, sizeof out->text, "%zu bytes follow its prefix, which says %llu",
             size - sizeof prefix, (unsigned long long)get_number(prefix + LENGTH_AT, 8));
  } else {
    const int read = stream_digest(fd, size, digest);
    if (read < 0) {
      return rgm_cannot_read(path);
    }
    if (read == 0) {
      return rgm_fail(RGM_EMEMORY, "%s: no memory for its SHA-256", path);
    }
    if (memcmp(digest, prefix + DIGEST_AT, DIGEST_SIZE) != 0) {
      snprintf(out->text, sizeof out->text, "its SHA-256 does not match");
    }
  }
  return RGM_OK;
}


// Prefix and digest into a file that is whole but for them; then onto the disk, and read back.
static rgm_status seal(const char *path, int fd, uint32_t schema) {
  unsigned char prefix[RGM_PREFIX_SIZE], digest[DIGEST_SIZE];
  struct stat info;
  if (fstat(fd, &info) != 0) {
    return cannot_write(path, "look at");
  }
  fill_prefix(prefix, (size_t)info.st_size, schema);
  if (lseek(fd, 0, SEEK_SET) != 0 || !write_all(fd, prefix, sizeof prefix)) {
    return cannot_write(path, "write");
  }
  const int read = stream_digest(fd, (size_t)info.st_size, digest);
  if (read == 0) {
    return rgm_fail(RGM_EMEMORY, "%s: no memory for its SHA-256", path);
  }
  if (read < 0 || lseek(fd, DIGEST_AT, SEEK_SET) < 0 || !write_all(fd, digest, sizeof digest)) {
    return cannot_write(path, read < 0 ? "read back" : "write");
  }
  if (sync_file(fd) != 0) {
    return cannot_write(path, "fsync");
  }
  (void)posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
  rgm_fault fault;
  RGM_TRY(rgm_durable_verify(path, fd, &fault));
  if (fault.text[0] != '\0') {
    return rgm_fail(RGM_EIO,
                    "%s: the disk returned other bytes than were written: check the disk or choose "
                    "another --out",
                    path);
  }
  return RGM_OK;
}


rgm_status rgm_durable_seal(const char *temporary, const char *path, uint32_t schema) {
  char *name = malloc(strlen(path) + 3);
  if (name == NULL) {
    unlink(temporary);
    return rgm_fail(RGM_EMEMORY, "%s: no memory for its name", path);
  }
  const int folder = open_folder(path, name);
  const int fd = folder < 0 ? -1 : open_file(temporary, O_RDWR, 0);
  rgm_status status = folder < 0 ? cannot_write(name, "open the folder")
                      : fd < 0   ? cannot_write(temporary, "open")
                                 : seal(temporary, fd, schema);
  if (fd >= 0 && close_file(fd) != 0 && status == RGM_OK) {
    status = cannot_write(temporary, "close");
  }
  if (status == RGM_OK && rename_file(temporary, path) != 0) {
    status = cannot_write(path, "rename the new file to this");
  }
  if (status != RGM_OK) {
    unlink(temporary);
  } else if (sync_file(folder) != 0 && errno != EINVAL) {
    status = cannot_write(path, "fsync the folder of this");
  }
  if (folder >= 0) {
    close_file(folder);
  }
  free(name);
  return status;
}


// Reads an open file whose size is known, prefix first, so that a foreign one costs no memory.
static rgm_status read_verified(const char *path, int fd, size_t size, unsigned char **out) {
  unsigned char prefix[RGM_PREFIX_SIZE];
  ssize_t got = read_all(fd, prefix, sizeof prefix < size ? sizeof prefix : size);
  if (got < 0) {
    return rgm_cannot_read(path);
  }
  RGM_TRY(check_prefix(path, prefix, (size_t)got < sizeof prefix ? (size_t)got : size));

  // then the rest: a file that shrinks meanwhile leaves zeros, which the digest does not forgive
  unsigned char digest[DIGEST_SIZE];
  unsigned char *file = calloc(1, size);
  if (file == NULL) {
    return rgm_fail(RGM_EMEMORY, "%s: no memory to read its %zu bytes", path, size);
  }
  memcpy(file, prefix, sizeof prefix);
  rgm_status status = RGM_OK;
  if (read_all(fd, file + sizeof prefix, size - sizeof prefix) < 0) {
    status = rgm_cannot_read(path);
  } else if (!file_digest(file, size, digest)) {
    status = rgm_fail(RGM_EMEMORY, "%s: no memory for its SHA-256", path);
  } else if (memcmp(digest, file + DIGEST_AT, DIGEST_SIZE) != 0) {
    status = rgm_fail(RGM_EDATA,
                      "%s: the file is damaged (its SHA-256 does not match): use an older "
                      "checkpoint",
                      path);
  }
  if (status != RGM_OK) {
    free(file);
    return status;
  }
  *out = file;
  return RGM_OK;
}


rgm_status rgm_durable_read(const char *path, unsigned char **file, size_t *size,
                            uint32_t *schema) {
  // O_NONBLOCK: a pipe of this name must not hang the program
  int fd = open_file(path, O_RDONLY | O_NONBLOCK, 0);
  if (fd < 0) {
    return rgm_cannot_read(path);
  }
  struct stat info;
  rgm_status status;
  if (fstat(fd, &info) != 0) {
    status = rgm_cannot_read(path);
  } else if (!S_ISREG(info.st_mode)) {
    status = rgm_fail(RGM_EIO, "%s: not a regular file: check the path", path);
  } else {
    status = read_verified(path, fd, (size_t)info.st_size, file);
  }
  close_file(fd);
  if (status == RGM_OK) {
    *size = (size_t)info.st_size;
    *schema = (uint32_t)get_number(*file + SCHEMA_AT, 4);
  }
  return status;
}


// ---- content ----------------------------------------------------------------------------------

int64_t rgm_count_elements(int rank, const int64_t *dims) {
  const int64_t limit = (int64_t)1 << 48;
  int64_t product = 1;
  bool empty = false;
  for (int i = 0; i < rank; i++) {
    if (dims[i] < 0 || dims[i] > limit / product) {
      return -1;
    }
    empty = empty || dims[i] == 0;
    product *= dims[i] > 0 ? dims[i] : 1;
  }
  return empty ? 0 : product;
}


// Names end within their field and are not empty.
static bool is_text(const char *text, size_t size, bool may_be_empty) {
  return memchr(text, '\0', size) != NULL && (may_be_empty || text[0] != '\0');
}


// True for "a/b/c" with no part empty, "." or "..", which HDF5 or a reader would misread.
static bool is_path(const char *name) {
  while (true) {
    size_t length = strcspn(name, "/");
    if (length == 0 || (length <= 2 && strspn(name, ".") >= length)) {
      return false;
    }
    if (name[length] == '\0') {
      return true;
    }
    name += length + 1;
  }
}


// True where a and b cannot both be datasets: they are equal, or one is a folder of the other.
static bool clash(const char *a, const char *b) {
  while (*a != '\0' && *a == *b) {
    a++;
    b++;
  }
  return (*a == '\0' && (*b == '\0' || *b == '/')) || (*b == '\0' && *a == '/');
}


rgm_status rgm_checkpoint_check(const rgm_checkpoint *c) {
  if (c->schema < RGM_CHECKPOINT_OLDEST) {
    return rgm_fail(RGM_EINTERNAL, "checkpoint: schema %d was never set", c->schema);
  }
  if (c->attribute_count > RGM_MAX_ATTRIBUTES || c->record_count > RGM_MAX_RECORDS) {
    return rgm_fail(RGM_EINTERNAL, "checkpoint: %d attributes or %d records are too many",
                    c->attribute_count, c->record_count);
  }
  for (int i = 0; i < c->attribute_count; i++) {
    const rgm_attribute *a = &c->attributes[i];
    if (!is_text(a->name, sizeof a->name, false) || !is_text(a->value, sizeof a->value, true)) {
      return rgm_fail(RGM_EINTERNAL, "checkpoint: attribute %d has no proper name or value", i);
    }
    for (int k = 0; k < i; k++) {
      if (strcmp(a->name, c->attributes[k].name) == 0) {
        return rgm_fail(RGM_EINTERNAL, "checkpoint: two attributes are called '%s'", a->name);
      }
    }
  }
  for (int i = 0; i < c->record_count; i++) {
    const rgm_record *r = &c->records[i];
    if (!is_text(r->name, sizeof r->name, false) || !is_text(r->axes, sizeof r->axes, true) ||
        !is_text(r->unit, sizeof r->unit, true) || !is_path(r->name)) {
      return rgm_fail(RGM_EINTERNAL, "checkpoint: record %d has no proper name, axes or unit", i);
    }
    int64_t count =
        r->rank < 0 || r->rank > RGM_MAX_RANK ? -1 : rgm_count_elements(r->rank, r->dims);
    if (count < 0 || (unsigned)r->dtype >= RGM_DTYPES || (count > 0 && r->data == NULL)) {
      return rgm_fail(RGM_EINTERNAL, "checkpoint: record '%s' has no proper dims, type or data",
                      r->name);
    }
    for (int k = 0; k < i; k++) {
      if (clash(r->name, c->records[k].name)) {
        return rgm_fail(RGM_EINTERNAL, "checkpoint: records '%s' and '%s' clash",
                        c->records[k].name, r->name);
      }
    }
  }
  return RGM_OK;
}


void rgm_checkpoint_free(rgm_checkpoint *checkpoint) {
  if (checkpoint == NULL) {
    return;
  }
  for (int i = 0; i < checkpoint->record_count; i++) {
    free(checkpoint->records[i].data);
  }
  free(checkpoint->records);
  free(checkpoint->attributes);
  free(checkpoint->config);
  free(checkpoint);
}


const rgm_record *rgm_checkpoint_record(const rgm_checkpoint *checkpoint, const char *name) {
  for (int i = 0; i < checkpoint->record_count; i++) {
    if (strcmp(checkpoint->records[i].name, name) == 0) {
      return &checkpoint->records[i];
    }
  }
  return NULL;
}


const char *rgm_checkpoint_attribute(const rgm_checkpoint *checkpoint, const char *name) {
  for (int i = 0; i < checkpoint->attribute_count; i++) {
    if (strcmp(checkpoint->attributes[i].name, name) == 0) {
      return checkpoint->attributes[i].value;
    }
  }
  return NULL;
}
