// SPDX-License-Identifier: Apache-2.0
// The words that every layer shares: status codes, the error text, assertions, dtypes and the
// tensor view. Depends on nothing but the C library; compiles as C11, C++17 and CUDA.

#ifndef RGM_BASE_H
#define RGM_BASE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

// ---- functions that both devices compile

#ifdef __CUDACC__
#define RGM_FN static inline __host__ __device__
#else
#define RGM_FN static inline
#endif

// a function whose constant arguments must reach its loops
#if defined(__CUDACC__)
#define RGM_INLINE static __forceinline__ __host__ __device__
#elif defined(__GNUC__)
#define RGM_INLINE static inline __attribute__((always_inline))
#else
#define RGM_INLINE static inline
#endif

// ---- status: zero is success, negative is the user's or the world's fault, with a text

typedef enum rgm_status {
  RGM_OK = 0,
  RGM_EUSAGE = -1,    // command line                      -> exit 64
  RGM_ECONFIG = -2,   // configuration file                -> exit 64
  RGM_EDATA = -3,     // a data set or a checkpoint is bad -> exit 65
  RGM_ENUMERIC = -4,  // NaN, Inf or a singular system     -> exit 65
  RGM_EIO = -5,       // the file system                   -> exit 74
  RGM_EMEMORY = -6,   // no memory                         -> exit 74
  RGM_EDEVICE = -7,   // no such device, or it failed      -> exit 74
  RGM_ESTOPPED = -8,  // stopped by a signal, state saved  -> exit 75
  RGM_EINTERNAL = -9, // our bug, caught in time           -> exit 70
} rgm_status;

#if defined(__GNUC__)
#define RGM_PRINTF(fmt, args) __attribute__((format(printf, fmt, args)))
#else
#define RGM_PRINTF(fmt, args)
#endif

// Records the text of an error for this thread and returns `status`, so that callers write
// `return rgm_fail(RGM_EDATA, "%s:%zu: ...", path, row, ...)`. The text says what to do next.
rgm_status rgm_fail(rgm_status status, const char *format, ...) RGM_PRINTF(2, 3);

// rgm_fail's type. A module that is opened at run time carries its own copy of these functions; its
// errors go to those of the program when it has been told them.
typedef rgm_status (*rgm_fail_fn)(rgm_status status, const char *format, ...);
void rgm_fail_to(rgm_fail_fn fail);

// The text of this thread's newest error ("" when there was none); valid until the next failure.
const char *rgm_last_error(void);

// The exit code of the program for a status: 0, 64, 65, 70, 74 or 75 (sysexits).
int rgm_exit_code(rgm_status status);

// Returns early with the callee's status.
#define RGM_TRY(call)                \
  do {                               \
    rgm_status try_status_ = (call); \
    if (try_status_ != RGM_OK) {     \
      return try_status_;            \
    }                                \
  } while (0)

// Our own bugs only; always on; the condition must have no side effect.
#define RGM_ASSERT(condition)                            \
  do {                                                   \
    if (!(condition)) {                                  \
      rgm_assert_failed(#condition, __FILE__, __LINE__); \
    }                                                    \
  } while (0)

#if defined(__GNUC__)
__attribute__((noreturn))
#endif
void rgm_assert_failed(const char *condition, const char *file, int line);

// ---- tensors

typedef enum rgm_dtype {
  RGM_F32 = 0,
  RGM_F64 = 1,
  RGM_I32 = 2,
  RGM_U32 = 3,
  RGM_U8 = 4,
} rgm_dtype;

enum { RGM_MAX_RANK = 4 };

// A by-value view: it never owns its memory. Rows are contiguous; only dim 0, the replica axis, has
// a stride of its own (in elements), and a stride of 0 broadcasts one slice to every replica.
typedef struct rgm_tensor {
  void *data; // device memory of the stream that it was planned for
  rgm_dtype dtype;
  int rank;
  int64_t dims[RGM_MAX_RANK]; // unused dims are 1
  int64_t stride0;            // elements between replicas
} rgm_tensor;

// Bytes of one element, and the name that checkpoints and messages use ("f32", ...).
size_t rgm_dtype_size(rgm_dtype dtype);
const char *rgm_dtype_name(rgm_dtype dtype);

// A contiguous view; rank is the number of leading dims given that are > 0.
rgm_tensor rgm_view(void *data, rgm_dtype dtype, int64_t d0, int64_t d1, int64_t d2, int64_t d3);

// Replicas first ... first + count - 1 of a tensor. A pack that is larger than the caches runs
// faster in groups: all rows of a step for some replicas, then for the next.
rgm_tensor rgm_slice(rgm_tensor t, int64_t first, int64_t count);

// Elements and bytes of a contiguous tensor of these dims.
int64_t rgm_elements(rgm_tensor t);
size_t rgm_bytes(rgm_tensor t);

#ifdef __cplusplus
}
#endif
#endif
