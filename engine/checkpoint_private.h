// SPDX-License-Identifier: Apache-2.0
// Between checkpoint.c (what is in a file: HDF5) and durable.c (how its bytes reach the disk and
// come back unharmed); for others of the engine that write files that must not be half written.

#ifndef RGM_CHECKPOINT_PRIVATE_H
#define RGM_CHECKPOINT_PRIVATE_H

#include "engine/engine.h"

#include <sys/types.h>

// A checkpoint file is a prefix of 512 bytes, which HDF5 calls the user block, and an HDF5 file.
// Numbers are little-endian:
//
//   offset  size
//        0     8  magic "REGIMEN\n"
//        8     4  format version of this prefix
//       12     4  schema of what follows
//       16     8  length: bytes that follow the prefix
//       24    32  SHA-256 of the whole file with these 32 bytes zero
//       56   456  a line for people, then zeros
//
// The digest covers every byte, so that any damage shows before HDF5 sees the file. It is no
// signature: whoever can write the folder can write a good digest.
enum { RGM_PREFIX_SIZE = 512, RGM_PREFIX_VERSION = 1 };

// The schema of a data set, apart from all those of checkpoints.
enum { RGM_DATASET_MARK = 0x44530000, RGM_DATASET_SCHEMA = 1 };

// Bounds of what is written; a reader takes no memory for more.
enum { RGM_DTYPES = 5, RGM_MAX_ATTRIBUTES = 4096, RGM_MAX_RECORDS = 10000 };

// Fills the prefix of a whole file in memory; `size` counts the prefix. RGM_EMEMORY.
rgm_status rgm_prefix_fill(unsigned char *file, size_t size, uint32_t schema);

// Puts a whole file at `path`: temporary file `path`.tmp, fsync, read back and compare, rename,
// fsync of the folder. After an error the temporary file is gone and `path` is what it was before
// (unless only the last fsync failed: then it is new but may not survive a power cut). `mode` is
// that of the new file, less the umask. RGM_EIO, RGM_EMEMORY.
rgm_status rgm_durable_write(const char *path, const unsigned char *file, size_t size, mode_t mode);

// Reads a file and verifies prefix, length and digest. The caller frees *file. RGM_EDATA for a
// damaged or foreign file, RGM_EIO, RGM_EMEMORY.
rgm_status rgm_durable_read(const char *path, unsigned char **file, size_t *size, uint32_t *schema);

// The same for a file that lies at `temporary` already, RGM_PREFIX_SIZE bytes free at its start:
// prefix, fsync, read back (the digest is taken of what the disk returns), rename, fsync of the
// folder. After an error the temporary file is gone.
rgm_status rgm_durable_seal(const char *temporary, const char *path, uint32_t schema);

// Verifies prefix, length and digest of an open file, in a small memory: `text` says what
// is wrong with it; `ours`: it has our magic at least. RGM_EIO, RGM_EMEMORY.
typedef struct rgm_fault {
  bool ours;
  uint32_t schema;
  char text[128]; // "" where all is well
} rgm_fault;
rgm_status rgm_durable_verify(const char *path, int fd, rgm_fault *out);

// The prefix alone: whether a file has our magic, and its schema.
bool rgm_prefix_is_ours(const unsigned char *prefix, size_t size, uint32_t *schema);

// SHA-256 in pieces; every function takes NULL, which is what memory that was short leaves. end
// frees, and gives false then.
typedef struct rgm_hash rgm_hash;
rgm_hash *rgm_hash_new(void);
void rgm_hash_add(rgm_hash *hash, const void *data, size_t size);
bool rgm_hash_end(rgm_hash *hash, char hex[65]);

// Refuses by name what this program does not read: RGM_EDATA.
rgm_status rgm_schema_check(const char *path, uint32_t schema);

// "PATH: cannot read: ..." from errno: RGM_EIO.
rgm_status rgm_cannot_read(const char *path);

// True for HEAD ("checkpoint-"), 1 to 20 digits that fit 64 bits, ".h5".
bool rgm_parse_step(const char *name, const char *head, uint64_t *step);

// Elements of a tensor, or -1 where the dims are absurd. Dims beside a zero must make sense too.
int64_t rgm_count_elements(int rank, const int64_t *dims);

// What a caller hands over is our own doing: RGM_EINTERNAL names what is wrong with it.
rgm_status rgm_checkpoint_check(const rgm_checkpoint *c);

#endif
