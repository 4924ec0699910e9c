// SPDX-License-Identifier: Apache-2.0
// CUDA on the CPU, for tests: the part of the runtime that kernels/cuda uses, so that the same .cu
// files compile with g++ and run without a GPU (found before the toolkit's header of this name).
//
// Blocks run one after the other in random order. A thread is a fibre; between barriers threads run
// in random order, each until it waits. A thread that never waits costs a function call. Shared
// memory holds garbage when a block starts. Device memory lies between red zones, holds garbage
// when it is new, and the host cannot touch it while no kernel runs. What cannot go on (threads at
// different barriers, a barrier that some have left, a host pointer as an argument) aborts with
// file and line.
// Not modelled: interleaving within a run between barriers, weak memory order, blocks at the same
// time, tensor cores, asynchronous copies.

#ifndef RGM_CUDA_HOST_RUNTIME_H
#define RGM_CUDA_HOST_RUNTIME_H

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <functional>
#include <tuple>
#include <type_traits>
#include <utility>

#define __global__
#define __device__
#define __host__
#define __constant__ static const
#define __forceinline__ inline __attribute__((always_inline))
#define __noinline__ __attribute__((noinline))
#define __launch_bounds__(...)
#define __align__(n) alignas(n)
#define __grid_constant__

// ---- vector types

struct uint3 {
  unsigned x, y, z;
};
struct dim3 {
  unsigned x, y, z;
  constexpr dim3(unsigned a = 1, unsigned b = 1, unsigned c = 1) : x(a), y(b), z(c) {
  }
};
struct alignas(8) float2 {
  float x, y;
};
struct alignas(16) float4 {
  float x, y, z, w;
};
struct alignas(16) uint4 {
  unsigned x, y, z, w;
};
static inline float2 make_float2(float x, float y) {
  return float2{x, y};
}
static inline float4 make_float4(float x, float y, float z, float w) {
  return float4{x, y, z, w};
}
static inline uint4 make_uint4(unsigned x, unsigned y, unsigned z, unsigned w) {
  return uint4{x, y, z, w};
}

// ---- where a thread stands

extern uint3 threadIdx, blockIdx;
extern dim3 blockDim, gridDim;
static const int warpSize = 32;

// ---- barriers, votes and shuffles: what a lane gives and gets goes through a slot of its own

void cuda_host_barrier(const char *file, int line);
void cuda_host_warp(unsigned mask, const char *file, int line);
int cuda_host_lane();
uint64_t &cuda_host_slot(int lane); // of this thread's warp
unsigned cuda_host_vote(unsigned mask, bool yes, const char *file, int line);

// where a call stands
#define CUDA_HOST_HERE const char *file = __builtin_FILE(), int line = __builtin_LINE()

static inline void __syncthreads(CUDA_HOST_HERE) {
  cuda_host_barrier(file, line);
}
static inline void __syncwarp(unsigned mask = 0xffffffffu, CUDA_HOST_HERE) {
  cuda_host_warp(mask, file, line);
}

template <class T>
static inline T cuda_host_shuffle(unsigned mask, T value, int from, const char *file, int line) {
  static_assert(sizeof(T) <= 8, "a shuffle moves 4 or 8 bytes");
  uint64_t word = 0;
  std::memcpy(&word, &value, sizeof value);
  cuda_host_slot(cuda_host_lane()) = word;
  cuda_host_warp(mask, file, line);
  word = cuda_host_slot(from & 31);
  cuda_host_warp(mask, file, line);
  std::memcpy(&value, &word, sizeof value);
  return value;
}
// the lane that a shuffle reads: itself where the source lies outside its part of the warp
static inline int cuda_host_down(int delta, int width) {
  const int lane = cuda_host_lane();
  return lane % width + delta < width ? lane + delta : lane;
}
static inline int cuda_host_up(int delta, int width) {
  const int lane = cuda_host_lane();
  return lane % width >= delta ? lane - delta : lane;
}
static inline int cuda_host_part(int from, int width) {
  const int lane = cuda_host_lane();
  return lane / width * width + (from & (width - 1));
}

template <class T>
static inline T __shfl_sync(unsigned mask, T value, int from, int width = 32, CUDA_HOST_HERE) {
  return cuda_host_shuffle(mask, value, cuda_host_part(from, width), file, line);
}
template <class T>
static inline T __shfl_down_sync(unsigned mask, T value, int by, int width = 32, CUDA_HOST_HERE) {
  return cuda_host_shuffle(mask, value, cuda_host_down(by, width), file, line);
}
template <class T>
static inline T __shfl_up_sync(unsigned mask, T value, int by, int width = 32, CUDA_HOST_HERE) {
  return cuda_host_shuffle(mask, value, cuda_host_up(by, width), file, line);
}
template <class T>
static inline T __shfl_xor_sync(unsigned mask, T value, int bits, CUDA_HOST_HERE) {
  return cuda_host_shuffle(mask, value, cuda_host_lane() ^ bits, file, line);
}
static inline unsigned __ballot_sync(unsigned mask, int yes, CUDA_HOST_HERE) {
  return cuda_host_vote(mask, yes != 0, file, line);
}
static inline int __any_sync(unsigned mask, int yes, CUDA_HOST_HERE) {
  return cuda_host_vote(mask, yes != 0, file, line) != 0 ? 1 : 0;
}
static inline int __all_sync(unsigned mask, int yes, CUDA_HOST_HERE) {
  return cuda_host_vote(mask, yes == 0, file, line) == 0 ? 1 : 0;
}

// ---- shared memory; kernels/cuda/cuda.cuh has the words for it

void *cuda_host_dynamic();
uint64_t cuda_host_block_number(); // of all blocks that ever ran, this one's
void cuda_host_poison(void *memory, size_t bytes);

// ---- atomics: threads never run at the same time

template <class T> static inline T atomicAdd(T *at, std::common_type_t<T> value) {
  const T old = *at;
  *at = old + value;
  return old;
}
template <class T> static inline T atomicMax(T *at, std::common_type_t<T> value) {
  const T old = *at;
  *at = old < value ? value : old;
  return old;
}
template <class T> static inline T atomicMin(T *at, std::common_type_t<T> value) {
  const T old = *at;
  *at = value < old ? value : old;
  return old;
}
template <class T> static inline T atomicOr(T *at, std::common_type_t<T> value) {
  const T old = *at;
  *at = old | value;
  return old;
}
template <class T> static inline T atomicExch(T *at, std::common_type_t<T> value) {
  const T old = *at;
  *at = value;
  return old;
}
template <class T>
static inline T atomicCAS(T *at, std::common_type_t<T> compare, std::common_type_t<T> value) {
  const T old = *at;
  *at = old == compare ? value : old;
  return old;
}
static inline void __threadfence() {
}
static inline void __threadfence_block() {
}

// ---- arithmetic

static inline int __popc(unsigned x) {
  return __builtin_popcount(x);
}
static inline int __clz(int x) {
  return x == 0 ? 32 : __builtin_clz((unsigned)x);
}
static inline int __ffs(int x) {
  return __builtin_ffs(x);
}
static inline unsigned __umulhi(unsigned a, unsigned b) {
  return (unsigned)((uint64_t)a * b >> 32);
}
template <class T> static inline T __ldg(const T *at) {
  return *at;
}
template <class T> static inline T min(T a, T b) {
  return b < a ? b : a;
}
template <class T> static inline T max(T a, T b) {
  return a < b ? b : a;
}

// ---- the runtime

enum cudaError_t {
  cudaSuccess = 0,
  cudaErrorInvalidValue = 1,
  cudaErrorMemoryAllocation = 2,
  cudaErrorInvalidConfiguration = 9,
  cudaErrorNoDevice = 100,
  cudaErrorInvalidDevice = 101,
  cudaErrorLaunchFailure = 719,
  cudaErrorStreamCaptureUnsupported = 900,
};
enum cudaMemcpyKind { cudaMemcpyDefault = 4 };
enum cudaStreamCaptureMode { cudaStreamCaptureModeThreadLocal = 1 };
enum cudaFuncAttribute { cudaFuncAttributeMaxDynamicSharedMemorySize = 8 };
enum { cudaStreamNonBlocking = 1, cudaEventDisableTiming = 2 };

typedef struct cuda_host_queue *cudaStream_t;
typedef struct cuda_host_event *cudaEvent_t;
typedef struct cuda_host_graph *cudaGraph_t;
typedef struct cuda_host_graph *cudaGraphExec_t;

struct cudaDeviceProp {
  char name[256];
  int major, minor, multiProcessorCount;
  size_t totalGlobalMem, sharedMemPerBlockOptin;
};

cudaError_t cudaGetDeviceCount(int *count);
cudaError_t cudaGetDeviceProperties(cudaDeviceProp *out, int device);
cudaError_t cudaSetDevice(int device);
cudaError_t cudaGetLastError();
const char *cudaGetErrorString(cudaError_t error);
cudaError_t cudaMalloc(void **out, size_t bytes);
cudaError_t cudaFree(void *memory);
cudaError_t cudaMemGetInfo(size_t *left, size_t *all);
cudaError_t cudaMemcpyAsync(void *dst, const void *src, size_t bytes, cudaMemcpyKind kind,
                            cudaStream_t stream);
cudaError_t cudaMemsetAsync(void *dst, int byte, size_t bytes, cudaStream_t stream);
cudaError_t cudaStreamCreateWithFlags(cudaStream_t *out, unsigned flags);
cudaError_t cudaStreamDestroy(cudaStream_t stream);
cudaError_t cudaStreamSynchronize(cudaStream_t stream);
cudaError_t cudaStreamBeginCapture(cudaStream_t stream, cudaStreamCaptureMode mode);
cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t *out);
cudaError_t cudaGraphInstantiate(cudaGraphExec_t *out, cudaGraph_t graph, unsigned long long flags);
cudaError_t cudaGraphLaunch(cudaGraphExec_t graph, cudaStream_t stream);
cudaError_t cudaGraphDestroy(cudaGraph_t graph);
cudaError_t cudaGraphExecDestroy(cudaGraphExec_t graph);
cudaError_t cudaEventCreateWithFlags(cudaEvent_t *out, unsigned flags);
cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream);
cudaError_t cudaEventSynchronize(cudaEvent_t event);
cudaError_t cudaEventElapsedTime(float *ms, cudaEvent_t begin, cudaEvent_t end);
cudaError_t cudaEventDestroy(cudaEvent_t event);
template <class F>
static inline cudaError_t cudaFuncSetAttribute(F *, cudaFuncAttribute, int bytes) {
  return bytes <= 232448 ? cudaSuccess : cudaErrorInvalidValue;
}

// ---- libraries of the toolkit, by the name of their file: cublas.cpp

void *cuda_host_library_open(const char *file);
void *cuda_host_library_find(void *library, const char *name);

// ---- launches

struct cuda_host_launch_shape {
  const char *name;
  dim3 grid, block;
  size_t shared;
  cudaStream_t stream;
};

void cuda_host_enqueue(const cuda_host_launch_shape &shape, std::function<void()> thread);

// Aborts if an argument is, or holds, an address that is not of the device.
void cuda_host_check_argument(const char *name, const void *argument, size_t bytes);

template <class P> static inline void cuda_host_check(const char *name, const P &argument) {
  if (std::is_pointer<P>::value || std::is_class<P>::value) {
    cuda_host_check_argument(name, &argument, sizeof argument);
  }
}

template <class... P, class... A>
static inline void cuda_host_launch(cuda_host_launch_shape shape, void (*kernel)(P...), A... args) {
  const std::tuple<P...> values(args...);
  (cuda_host_check<P>(shape.name, args), ...);
  cuda_host_enqueue(shape, [kernel, values] { std::apply(kernel, values); });
}

#endif
