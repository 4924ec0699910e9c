// SPDX-License-Identifier: Apache-2.0
// CUDA on the CPU: memory, streams, graphs, events. A stream does its work at once, except while it
// is captured: then the work is kept and every launch of the graph does it.

#include "tests/cuda_host/internal.h"

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <sys/mman.h>
#include <vector>

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#endif

namespace {

enum : size_t { ZONE = 256, PAGE = 4096, GARBAGE = 1 << 18, MEMORY = (size_t)1 << 30 };
enum : unsigned char { RED = 0xa5 };

// [base, base + whole) lies in the arena; data = base + ZONE, then `bytes`, then red to the end.
// Blocks are kept in the order of their addresses.
struct allocation {
  char *base;
  size_t bytes, whole;
};

std::vector<allocation> blocks;
char *arena; // 4 times the memory that there is, since blocks that are freed leave holes
size_t used;
int open_count; // device memory can be touched while it is above 0
bool use_sanitizer = true;
cudaError_t last_error = cudaSuccess;


void poison_zones(const allocation &a, bool on) {
#if defined(__SANITIZE_ADDRESS__)
  if (on && use_sanitizer) {
    __asan_poison_memory_region(a.base, ZONE);
    __asan_poison_memory_region(a.base + ZONE + a.bytes, a.whole - ZONE - a.bytes);
  } else {
    __asan_unpoison_memory_region(a.base, a.whole);
  }
#else
  (void)a, (void)on;
#endif
}


// while no kernel and no copy runs, the host cannot touch device memory
void protect(int how) {
  if (!blocks.empty()) {
    const size_t size = (size_t)(blocks.back().base - arena) + blocks.back().whole;
    mprotect(arena, (size + PAGE - 1) / PAGE * PAGE, how);
  }
}

struct opened {
  opened() {
    if (open_count++ == 0) {
      protect(PROT_READ | PROT_WRITE);
    }
  }
  ~opened() {
    if (--open_count == 0) {
      protect(PROT_NONE);
    }
  }
};


void check_zones(const allocation &a) {
  poison_zones(a, false);
  const unsigned char *base = (const unsigned char *)a.base;
  for (size_t i = 0; i < a.whole; i++) {
    const bool red = i < ZONE || i >= ZONE + a.bytes;
    if (red && base[i] != RED) {
      char text[256];
      std::snprintf(text, sizeof text,
                    "the red zone of a block of %zu bytes is damaged, %td bytes from its start",
                    a.bytes, (ptrdiff_t)i - (ptrdiff_t)ZONE);
      cuda_host_stop(text);
    }
    i = i + 1 == ZONE ? i + a.bytes : i;
  }
  poison_zones(a, true);
}


void check_all_zones() {
  const opened memory;
  for (const allocation &a : blocks) {
    check_zones(a);
  }
}


bool on_device(const void *p) {
  for (const allocation &a : blocks) {
    if ((const char *)p >= a.base && (const char *)p < a.base + a.whole) {
      return true;
    }
  }
  return false;
}


// whether this process has memory there
bool is_mapped(uint64_t address) {
  return msync((void *)(address / PAGE * PAGE), PAGE, MS_ASYNC) == 0;
}


cudaError_t fail(cudaError_t error) {
  last_error = error;
  return error;
}

} // namespace


struct cuda_host_graph {
  std::vector<std::function<void()>> work;
};

struct cuda_host_queue {
  cuda_host_graph *capture; // NULL: work is done at once
};

struct cuda_host_event {
  std::chrono::steady_clock::time_point time;
};


static void enqueue(cudaStream_t stream, std::function<void()> work) {
  if (stream->capture != nullptr) {
    stream->capture->work.push_back(std::move(work));
  } else {
    work();
  }
}


// words of an argument that are addresses must be of device memory; a stack or a heap lies at
// 0x55... or 0x7f..., which no pair of plausible 32-bit numbers looks like (padding beside a
// small number may, hence the lower bound of the low word)
void cuda_host_check_argument(const char *name, const void *argument, size_t bytes) {
  for (size_t at = 0; at + 8 <= bytes; at += 8) {
    uint64_t word;
    std::memcpy(&word, (const char *)argument + at, sizeof word);
    const bool address = word >> 32 >= 0x5500 && word >> 32 <= 0x7fff && (uint32_t)word >= 65536;
    if (address && !on_device((const void *)word) && is_mapped(word)) {
      char text[256];
      std::snprintf(text, sizeof text, "%s: a host pointer among its arguments", name);
      cuda_host_stop(text);
    }
  }
}


void cuda_host_enqueue(const cuda_host_launch_shape &shape, std::function<void()> thread) {
  const dim3 g = shape.grid, t = shape.block;
  const bool fits = t.x * t.y * t.z > 0 && t.x * t.y * t.z <= 1024 && t.z <= 64 && g.x > 0 &&
                    g.x <= 0x7fffffffu && g.y > 0 && g.y <= 65535 && g.z > 0 && g.z <= 65535;
  if (!fits || shape.shared > 232448) {
    last_error = cudaErrorInvalidConfiguration;
    return;
  }
  cuda_host_do(shape.stream, [shape, thread = std::move(thread)] { cuda_host_run(shape, thread); });
}


void cuda_host_do(cudaStream_t stream, std::function<void()> work) {
  enqueue(stream, [work = std::move(work)] {
    const opened memory;
    work();
  });
}


// ---- device and memory -------------------------------------------------------------------------

cudaError_t cudaGetDeviceCount(int *count) {
  *count = 2; // alike, so that a choice among them can be tested
  return cudaSuccess;
}


cudaError_t cudaGetDeviceProperties(cudaDeviceProp *out, int device) {
  std::memset(out, 0, sizeof *out);
  std::snprintf(out->name, sizeof out->name, "CUDA on the CPU %d", device);
  out->multiProcessorCount = 2;
  out->totalGlobalMem = MEMORY;
  out->sharedMemPerBlockOptin = 232448;
  return cudaSuccess;
}


cudaError_t cudaSetDevice(int device) {
  return device == 0 || device == 1 ? cudaSuccess : fail(cudaErrorInvalidDevice);
}


cudaError_t cudaGetLastError() {
  const cudaError_t error = last_error;
  last_error = cudaSuccess;
  return error;
}


const char *cudaGetErrorString(cudaError_t error) {
  switch (error) {
  case cudaSuccess:
    return "no error";
  case cudaErrorMemoryAllocation:
    return "out of memory";
  case cudaErrorInvalidConfiguration:
    return "invalid configuration argument";
  case cudaErrorStreamCaptureUnsupported:
    return "operation not permitted when stream is capturing";
  default:
    return "another error";
  }
}


cudaError_t cudaMalloc(void **out, size_t bytes) {
  *out = nullptr;
  if (bytes > MEMORY - used) {
    return fail(cudaErrorMemoryAllocation);
  }
  if (arena == nullptr) {
    void *memory =
        mmap(nullptr, 4 * MEMORY, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (memory == MAP_FAILED) {
      return fail(cudaErrorMemoryAllocation);
    }
    arena = (char *)memory;
  }
  allocation a;
  a.bytes = bytes;
  a.whole = (ZONE + bytes + 2 * ZONE - 1) / ZONE * ZONE;
  a.base = blocks.empty() ? arena : blocks.back().base + blocks.back().whole;
  if (a.base + a.whole > arena + 4 * MEMORY) {
    return fail(cudaErrorMemoryAllocation);
  }
  blocks.push_back(a);
  used += bytes;
  const opened memory;

  // garbage: NaN as floats; of a large block only the start, since pages that were touched make
  // every change of protection slow
  std::memset(a.base, RED, ZONE);
  std::memset(a.base + ZONE, 0xff, bytes < GARBAGE ? bytes : (size_t)GARBAGE);
  std::memset(a.base + ZONE + bytes, RED, a.whole - ZONE - bytes);
  poison_zones(a, true);
  *out = a.base + ZONE;
  return cudaSuccess;
}


cudaError_t cudaFree(void *memory) {
  if (memory == nullptr) {
    return cudaSuccess;
  }
  for (size_t i = 0; i < blocks.size(); i++) {
    if (blocks[i].base + ZONE == memory) {
      const allocation a = blocks[i];
      const opened all;
      check_zones(a);
      poison_zones(a, false);
      std::memset(a.base, 0xff, a.whole < GARBAGE ? a.whole : (size_t)GARBAGE);
      used -= a.bytes;
      protect(PROT_NONE); // the last block may be the one that goes
      blocks.erase(blocks.begin() + (ptrdiff_t)i);
      protect(PROT_READ | PROT_WRITE);
      return cudaSuccess;
    }
  }
  cuda_host_stop("cudaFree of what cudaMalloc did not give");
}


cudaError_t cudaMemGetInfo(size_t *left, size_t *all) {
  *left = MEMORY - used;
  *all = MEMORY;
  return cudaSuccess;
}


cudaError_t cudaMemcpyAsync(void *dst, const void *src, size_t bytes, cudaMemcpyKind,
                            cudaStream_t stream) {
  enqueue(stream, [dst, src, bytes] {
    const opened memory;
    std::memmove(dst, src, bytes);
  });
  return cudaSuccess;
}


cudaError_t cudaMemsetAsync(void *dst, int byte, size_t bytes, cudaStream_t stream) {
  if (!on_device(dst)) {
    return fail(cudaErrorInvalidValue);
  }
  enqueue(stream, [dst, byte, bytes] {
    const opened memory;
    std::memset(dst, byte, bytes);
  });
  return cudaSuccess;
}


// ---- streams, graphs, events -------------------------------------------------------------------

cudaError_t cudaStreamCreateWithFlags(cudaStream_t *out, unsigned) {
  *out = new cuda_host_queue();
  return cudaSuccess;
}


cudaError_t cudaStreamDestroy(cudaStream_t stream) {
  delete stream;
  return cudaSuccess;
}


cudaError_t cudaStreamSynchronize(cudaStream_t stream) {
  if (stream->capture != nullptr) {
    return fail(cudaErrorStreamCaptureUnsupported);
  }
  check_all_zones();
  return cudaSuccess;
}


cudaError_t cudaStreamBeginCapture(cudaStream_t stream, cudaStreamCaptureMode) {
  if (stream->capture != nullptr) {
    return fail(cudaErrorStreamCaptureUnsupported);
  }
  stream->capture = new cuda_host_graph();
  return cudaSuccess;
}


cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t *out) {
  *out = stream->capture;
  stream->capture = nullptr;
  return *out != nullptr ? cudaSuccess : fail(cudaErrorStreamCaptureUnsupported);
}


cudaError_t cudaGraphInstantiate(cudaGraphExec_t *out, cudaGraph_t graph, unsigned long long) {
  *out = new cuda_host_graph(*graph);
  return cudaSuccess;
}


cudaError_t cudaGraphLaunch(cudaGraphExec_t graph, cudaStream_t stream) {
  for (const std::function<void()> &work : graph->work) {
    enqueue(stream, work);
  }
  return cudaSuccess;
}


cudaError_t cudaGraphDestroy(cudaGraph_t graph) {
  delete graph;
  return cudaSuccess;
}


cudaError_t cudaGraphExecDestroy(cudaGraphExec_t graph) {
  delete graph;
  return cudaSuccess;
}


cudaError_t cudaEventCreateWithFlags(cudaEvent_t *out, unsigned) {
  *out = new cuda_host_event();
  return cudaSuccess;
}


cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t) {
  event->time = std::chrono::steady_clock::now();
  return cudaSuccess;
}


cudaError_t cudaEventSynchronize(cudaEvent_t) {
  return cudaSuccess;
}


cudaError_t cudaEventElapsedTime(float *ms, cudaEvent_t begin, cudaEvent_t end) {
  *ms = std::chrono::duration<float, std::milli>(end->time - begin->time).count();
  return cudaSuccess;
}


cudaError_t cudaEventDestroy(cudaEvent_t event) {
  delete event;
  return cudaSuccess;
}


// ---- knobs -------------------------------------------------------------------------------------

extern "C" void cuda_host_use_sanitizer(bool use) {
  for (const allocation &a : blocks) {
    poison_zones(a, false);
  }
  use_sanitizer = use;
}


extern "C" size_t cuda_host_allocations() {
  return blocks.size();
}
