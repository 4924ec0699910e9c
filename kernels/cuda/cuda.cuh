// SPDX-License-Identifier: Apache-2.0
// What the CUDA files share: launches, shared memory, the stream, reductions in the order that
// kernels.h promises. The same files compile with g++ against tests/cuda_host, so nothing here or
// in a kernel uses <<<>>>, __shared__ or an intrinsic without a plain form directly.
//
// A kernel is `RGM_KERNEL(threads) name(arguments by value)`; replicas are on blockIdx.y or .z,
// whose grids end at 65,535, so every kernel strides over them (RGM_REPLICAS).

#ifndef RGM_CUDA_CUH
#define RGM_CUDA_CUH

#include "kernels/kernels.h"
#include "kernels/optim.h"

#include <cuda_runtime.h>
#include <dlfcn.h>

// ---- the two compilers

#ifdef __CUDACC__

#define RGM_DEVICE static __forceinline__ __device__
#define RGM_DEVICE_MEMBER __forceinline__ __device__
#define RGM_KERNEL(threads) static __global__ void __launch_bounds__(threads)
// the same, with registers few enough that so many blocks share a processor
#define RGM_KERNEL_RESIDENT(threads, blocks) \
  static __global__ void __launch_bounds__(threads, blocks)

// static shared memory: RGM_SHARED(float, tile, [64][33]); dims may be empty
#define RGM_SHARED(type, name, dims) __shared__ __align__(16) type name dims

// the launch's own bytes of shared memory, as a pointer
#define RGM_DYNAMIC_SHARED(type, name)                                \
  extern __shared__ __align__(16) unsigned char rgm_dynamic_shared[]; \
  type *name = reinterpret_cast<type *>(rgm_dynamic_shared)

// the compiler forgets what it knows of memory, of a float or of a 32-bit word: what it could
// compute ahead of a loop and then keep in registers is computed where it is needed
#define RGM_FORGET_MEMORY() asm volatile("" ::: "memory")
#define RGM_FORGET_FLOAT(x) asm volatile("" : "+f"(x))
#define RGM_FORGET_WORD(x) asm volatile("" : "+r"(x))

#define RGM_START_(kernel, grid, block, shared, queue, ...) \
  (kernel)<<<grid, block, shared, queue>>>(__VA_ARGS__)

// a library of the maker's, by the name of its file, and a function of it; NULL: it is not here
#define RGM_LIBRARY_OPEN(file) dlopen(file, RTLD_NOW | RTLD_LOCAL)
#define RGM_LIBRARY_FIND(library, name) dlsym(library, name)

#else

#define RGM_DEVICE static inline
#define RGM_DEVICE_MEMBER inline
#define RGM_KERNEL(threads) static void
#define RGM_KERNEL_RESIDENT(threads, blocks) static void

// one object for all blocks, which run one after the other; the first thread of a block that comes
// by fills it with garbage
#define RGM_SHARED(type, name, dims)              \
  alignas(16) static type name dims;              \
  static uint64_t name##_block;                   \
  if (name##_block != cuda_host_block_number()) { \
    name##_block = cuda_host_block_number();      \
    cuda_host_poison((void *)&name, sizeof name); \
  }                                               \
  static_assert(sizeof name > 0, "shared memory")

#define RGM_FORGET_MEMORY()
#define RGM_FORGET_FLOAT(x)
#define RGM_FORGET_WORD(x)

#define RGM_DYNAMIC_SHARED(type, name) type *name = static_cast<type *>(cuda_host_dynamic())

#define RGM_START_(kernel, grid, block, shared, queue, ...) \
  cuda_host_launch(cuda_host_launch_shape{#kernel, grid, block, shared, queue}, kernel, __VA_ARGS__)

#define RGM_LIBRARY_OPEN(file) cuda_host_library_open(file)
#define RGM_LIBRARY_FIND(library, name) cuda_host_library_find(library, name)

#endif

// The one way to launch: RGM_LAUNCH(kernel, grid, block, shared_bytes, rgm_stream, arguments...).
// An error stays on the stream until rgm_sync. A kernel whose name has a comma stands in
// parentheses.
#define RGM_LAUNCH(kernel, grid, block, shared, s, ...)                      \
  do {                                                                       \
    RGM_START_(kernel, grid, block, shared, rgm_cuda_queue(s), __VA_ARGS__); \
    rgm_cuda_check(s, cudaGetLastError(), #kernel);                          \
  } while (0)

// ---- the stream

enum {
  RGM_CUDA_SLOTS = 16,        // graphs of a stream
  RGM_CUDA_SCRATCH = 8 << 20, // floats of work memory of a stream, at most
  RGM_CUDA_MOST = 65535,      // blocks on the grid's second and third axes
};

// A captured graph, and the work that the front doors counted while it was captured.
typedef struct rgm_cuda_slot {
  cudaGraphExec_t graph; // NULL: none yet
  void (*fn)(void *, rgm_stream *);
  void *arg;
  rgm_counts counts[RGM_ROW_COUNT];
} rgm_cuda_slot;

// Invariants: `error` is the first one since the last rgm_sync, and `where` says what failed.
typedef struct rgm_cuda_stream {
  rgm_stream base;
  int device, processors;
  char text[320]; // the device's name, capability and memory
  cudaStream_t queue;
  float *scratch; // partial sums between launches
  int64_t room;   // floats of it: a 2,048th of the device's memory, or RGM_CUDA_SCRATCH
  cudaError_t error;
  char where[96];
  void *library; // handle of the library of matrix products; NULL until a bench asks for it
  rgm_cuda_slot slots[RGM_CUDA_SLOTS];
} rgm_cuda_stream;

static inline cudaStream_t rgm_cuda_queue(rgm_stream *s) {
  return reinterpret_cast<rgm_cuda_stream *>(s)->queue;
}
static inline float *rgm_cuda_scratch(rgm_stream *s) {
  return reinterpret_cast<rgm_cuda_stream *>(s)->scratch;
}
static inline int64_t rgm_cuda_room(rgm_stream *s) {
  return reinterpret_cast<rgm_cuda_stream *>(s)->room;
}
static inline int rgm_cuda_processors(rgm_stream *s) {
  return reinterpret_cast<rgm_cuda_stream *>(s)->processors;
}

// Notes an error on the stream, unless there is one already.
void rgm_cuda_check(rgm_stream *s, cudaError_t error, const char *where);

// ---- rows; kernels.h says what they do

rgm_status rgm_cuda_open(const rgm_device_options *options, rgm_stream **out);
void rgm_cuda_close(rgm_stream *s);
void rgm_cuda_describe(const rgm_stream *s, char *text, size_t size);
rgm_status rgm_cuda_alloc(rgm_stream *s, size_t bytes, void **out);
void rgm_cuda_release(rgm_stream *s, void *memory);
void rgm_cuda_copy(rgm_stream *s, void *dst, const void *src, size_t bytes);
void rgm_cuda_fill(rgm_stream *s, void *dst, int byte, size_t bytes);
rgm_status rgm_cuda_sync(rgm_stream *s);
void rgm_cuda_graph(rgm_stream *s, int slot, void (*fn)(void *, rgm_stream *), void *arg);

void rgm_cuda_linear(rgm_stream *s, rgm_tensor y, rgm_tensor x, rgm_tensor w, rgm_tensor b,
                     rgm_act act);
void rgm_cuda_act_backward(rgm_stream *s, rgm_tensor dz, rgm_tensor y, rgm_act act);
void rgm_cuda_linear_dx(rgm_stream *s, rgm_tensor dx, rgm_tensor dz, rgm_tensor w, rgm_tensor y,
                        rgm_act act);
void rgm_cuda_linear_dw(rgm_stream *s, rgm_tensor dw, rgm_tensor db, rgm_tensor x, rgm_tensor dz);
void rgm_cuda_linear_dw_adam(rgm_stream *s, const rgm_adam_step *step, rgm_tensor x, rgm_tensor dz);
void rgm_cuda_softmax_xent(rgm_stream *s, rgm_tensor loss, rgm_tensor dz, rgm_tensor z,
                           rgm_tensor label, rgm_tensor weight, int classes);
void rgm_cuda_policy_xent(rgm_stream *s, rgm_tensor grad, rgm_tensor loss, rgm_tensor work,
                          rgm_tensor x, rgm_tensor z, rgm_tensor label, rgm_tensor weight,
                          rgm_tensor params, rgm_tensor active, int hidden);
void rgm_cuda_soft_target(rgm_stream *s, const rgm_target *target);
void rgm_cuda_critic_loss(rgm_stream *s, const rgm_critic *critic);
void rgm_cuda_actor_loss(rgm_stream *s, const rgm_actor *actor);
void rgm_cuda_dual(rgm_stream *s, rgm_tensor grad, rgm_tensor mean, rgm_tensor x, rgm_tensor weight,
                   rgm_tensor target, rgm_tensor log_dual, rgm_tensor active, float scale,
                   rgm_dual_form form);
void rgm_cuda_action_draw(rgm_stream *s, const rgm_policy_draw *draw);
void rgm_cuda_action_score(rgm_stream *s, rgm_tensor dhead, const rgm_policy_draw *given);
void rgm_cuda_schedule(rgm_stream *s, rgm_tensor y, rgm_tensor base, rgm_tensor clock,
                       rgm_tensor warmup, rgm_tensor total, rgm_decay decay);
void rgm_cuda_action_backward(rgm_stream *s, rgm_tensor dhead, rgm_tensor dx, rgm_tensor log_alpha,
                              const rgm_policy_draw *draw, int64_t column);
void rgm_cuda_gaussian_nll(rgm_stream *s, const rgm_nll *nll);
void rgm_cuda_mse(rgm_stream *s, rgm_tensor y, rgm_tensor head, rgm_tensor target);
void rgm_cuda_replay_append(rgm_stream *s, const rgm_ring *to, const rgm_tensor *rows,
                            rgm_tensor keep, rgm_tensor active);
void rgm_cuda_replay_gather(rgm_stream *s, const rgm_gather *gather);
void rgm_cuda_normalise(rgm_stream *s, rgm_tensor y, rgm_tensor x, rgm_tensor mean, rgm_tensor sd,
                        bool inverse);
void rgm_cuda_concat(rgm_stream *s, rgm_tensor x, rgm_tensor state, rgm_tensor action, int classes);
void rgm_cuda_clip_norm(rgm_stream *s, rgm_tensor g, rgm_tensor norm, rgm_tensor limit,
                        rgm_tensor active);
void rgm_cuda_adam(rgm_stream *s, rgm_tensor p, rgm_tensor m, rgm_tensor v, rgm_tensor count,
                   rgm_tensor g, rgm_tensor lr, rgm_tensor beta1, rgm_tensor beta2, rgm_tensor eps,
                   rgm_tensor active);
void rgm_cuda_sgd(rgm_stream *s, rgm_tensor p, rgm_tensor velocity, rgm_tensor g, rgm_tensor lr,
                  rgm_tensor momentum, rgm_tensor active);
void rgm_cuda_ema(rgm_stream *s, rgm_tensor target, rgm_tensor p, rgm_tensor rate,
                  rgm_tensor active);
void rgm_cuda_gaussian_draw(rgm_stream *s, rgm_tensor x, rgm_tensor mean, rgm_tensor log_sd,
                            rgm_tensor seeds, rgm_tensor clock, uint32_t random, rgm_tensor active);
void rgm_cuda_gaussian_refit(rgm_stream *s, rgm_tensor mean, rgm_tensor log_sd, rgm_tensor x,
                             rgm_tensor weight, rgm_tensor rate, rgm_tensor floor,
                             rgm_tensor active);
void rgm_cuda_exponential(rgm_stream *s, rgm_tensor y, rgm_tensor x, rgm_tensor active);
void rgm_cuda_products(rgm_stream *s, rgm_tensor out, rgm_tensor z);
void rgm_cuda_gram(rgm_stream *s, rgm_tensor gram, rgm_tensor products, rgm_tensor weight);
void rgm_cuda_cholesky(rgm_stream *s, rgm_tensor gram, rgm_tensor right, rgm_tensor status);
void rgm_cuda_irls(rgm_stream *s, const rgm_irls *fit);
void rgm_cuda_wls(rgm_stream *s, const rgm_wls *fit);
void rgm_cuda_pseudo(rgm_stream *s, const rgm_pseudo *pseudo);
void rgm_cuda_predict(rgm_stream *s, const rgm_predict *predict);
void rgm_cuda_resample(rgm_stream *s, const rgm_resample *resample);
void rgm_cuda_staged(rgm_stream *s, const rgm_stages *staged);
void rgm_cuda_sum(rgm_stream *s, rgm_tensor y, rgm_tensor x, float scale);
void rgm_cuda_quantile(rgm_stream *s, rgm_tensor y, rgm_tensor work, rgm_tensor x, rgm_tensor q);
void rgm_cuda_select(rgm_stream *s, rgm_tensor weight, rgm_tensor x, rgm_tensor threshold);
void rgm_cuda_enlist(rgm_stream *s, rgm_tensor items, rgm_tensor share, rgm_tensor count,
                     rgm_tensor lost, rgm_tensor weight, rgm_tensor active);
void rgm_cuda_uniform(rgm_stream *s, rgm_tensor x, rgm_tensor seeds, uint32_t random,
                      uint32_t member, float low, float high, int64_t last_dim);
void rgm_cuda_advance(rgm_stream *s, rgm_tensor count, rgm_tensor active);
void rgm_cuda_retire(rgm_stream *s, rgm_tensor active, rgm_tensor x, rgm_tensor bound);
void rgm_cuda_nonfinite(rgm_stream *s, rgm_tensor count, rgm_tensor x);
void rgm_cuda_triad(rgm_stream *s, rgm_tensor y, rgm_tensor x, rgm_tensor z, float scale);
double rgm_cuda_burn(rgm_stream *s, int64_t rounds);
void rgm_cuda_route(rgm_stream *s, rgm_tensor x, rgm_tensor from, const rgm_routing *routing);
void rgm_cuda_model(rgm_stream *s, const rgm_model_step *step);
void rgm_cuda_appraise(rgm_stream *s, const rgm_appraisal *appraisal);
void rgm_cuda_decay_weights(rgm_stream *s, rgm_tensor g, rgm_tensor p, rgm_tensor rate,
                            rgm_tensor active);
void rgm_cuda_adopt(rgm_stream *s, rgm_tensor to, rgm_tensor from, rgm_tensor chosen,
                    uint32_t number);
void rgm_cuda_windows(rgm_stream *s, const rgm_windows *windows);
void rgm_cuda_guide(rgm_stream *s, const rgm_guide *guide);
void rgm_cuda_settle(rgm_stream *s, rgm_tensor scale, rgm_tensor count, rgm_tensor x,
                     rgm_tensor rate, rgm_tensor active, int64_t rows);
void rgm_cuda_worth(rgm_stream *s, rgm_tensor y, rgm_tensor x, rgm_tensor scale, rgm_tensor limit);
void rgm_cuda_band(rgm_stream *s, rgm_tensor y, rgm_tensor x, int64_t column, float low,
                   float high);
void rgm_cuda_bellman(rgm_stream *s, const rgm_bellman *bellman);
void rgm_cuda_mdp_pick(rgm_stream *s, const rgm_mdp_pick *pick);
void rgm_cuda_mdp_solve(rgm_stream *s, const rgm_mdp_solve *solve);
void rgm_cuda_mdp_draw(rgm_stream *s, const rgm_mdp_draw *draw);
void rgm_cuda_mdp_learn(rgm_stream *s, const rgm_mdp_learn *learn);
void rgm_cuda_nearest(rgm_stream *s, const rgm_nearest_centre *nearest);
void rgm_cuda_induct(rgm_stream *s, const rgm_induction *induct);
rgm_status rgm_cuda_library(rgm_stream *s, char *text, size_t size);
void rgm_cuda_library_gemm(rgm_stream *s, rgm_tensor c, rgm_tensor a, rgm_tensor b,
                           bool transpose_a, bool transpose_b);
void rgm_cuda_library_close(rgm_stream *s);

// The rows of an environment (envs/rollout.cu) by the name of its loop; NULL: there is none.
extern "C" const rgm_env_kernels *rgm_cuda_env_kernels(const char *name);

// ---- views

// The start of replica r.
RGM_FN float *rgm_f32(rgm_tensor t, int64_t r) {
  return static_cast<float *>(t.data) + r * t.stride0;
}
RGM_FN uint32_t *rgm_u32(rgm_tensor t, int64_t r) {
  return static_cast<uint32_t *>(t.data) + r * t.stride0;
}

// Whether every replica begins at a multiple of 16 bytes.
static inline bool rgm_is_wide(rgm_tensor t) {
  return reinterpret_cast<uintptr_t>(t.data) % 16 == 0 && t.stride0 % 4 == 0;
}

// Elements of a replica.
RGM_FN int64_t rgm_per_replica(rgm_tensor t) {
  return t.dims[1] * t.dims[2] * t.dims[3];
}

// ---- grids

// Blocks of `threads` for n elements, at most `most`: kernels stride over what is left.
static inline unsigned rgm_blocks(int64_t n, int threads, int64_t most) {
  const int64_t blocks = (n + threads - 1) / threads;
  return static_cast<unsigned>(blocks < 1 ? 1 : blocks < most ? blocks : most);
}
static inline unsigned rgm_replica_blocks(int64_t replicas) {
  return rgm_blocks(replicas, 1, RGM_CUDA_MOST);
}

// for the elements i < n that are this thread's, over the blocks on the grid's x axis
#define RGM_ELEMENTS(i, n)                                         \
  for (int64_t i = (int64_t)blockIdx.x * blockDim.x + threadIdx.x, \
               rgm_step_##i = (int64_t)gridDim.x * blockDim.x;     \
       i < (n); i += rgm_step_##i)

// for the replicas r that are this block's, over the blocks on the grid's y axis
#define RGM_REPLICAS(r, n) for (int64_t r = blockIdx.y; r < (n); r += gridDim.y)

// ---- reductions

// The pairwise tree (distance 1, 2, 4, ...) over the first `count` lanes of a warp; lane 0 has it.
RGM_DEVICE float rgm_warp_tree(float x, int count) {
  const int lane = (int)(threadIdx.x & 31u);
  for (int distance = 1; distance < 32; distance *= 2) {
    const float other = __shfl_down_sync(0xffffffffu, x, distance);
    x = lane + distance < count ? x + other : x;
  }
  return x;
}

// The same over the first `count` threads of a block on the x axis, whose size is a multiple of 32;
// thread 0 has it. part[32] is shared memory; ends without a barrier.
RGM_DEVICE float rgm_block_tree(float x, int count, float *part) {
  const int warp = (int)(threadIdx.x / 32u), left = count - warp * 32;
  x = rgm_warp_tree(x, left < 32 ? left : 32);
  if (threadIdx.x % 32u == 0) {
    part[warp] = x;
  }
  __syncthreads();
  if (warp == 0) {
    x = (int)threadIdx.x < (count + 31) / 32 ? part[threadIdx.x] : 0.0f;
    x = rgm_warp_tree(x, (count + 31) / 32);
  }
  return x;
}

// The sum of at most RGM_SUM_TILE elements, or of their squares, in row-block order, by a block of
// RGM_SUM_THREADS: a thread sums a row block, staged so that loads are coalesced; then the tree.
// Tiles are aligned to powers of two, so that a tree over their sums continues it. Thread 0 has it;
// ends without a barrier. stage and part[32] are shared memory.
enum {
  RGM_SUM_THREADS = 256,
  RGM_SUM_COLUMNS = 32, // elements of a row block that are staged at a time
  RGM_SUM_TILE = RGM_SUM_THREADS * RGM_ROW_BLOCK,
};

template <bool SQUARES>
RGM_DEVICE float rgm_block_sum(const float *data, int64_t left, float (*stage)[RGM_SUM_COLUMNS + 1],
                               float *part) {
  const int64_t row = (int64_t)threadIdx.x * RGM_ROW_BLOCK;
  const int64_t rows = (left + RGM_ROW_BLOCK - 1) / RGM_ROW_BLOCK;
  float sum = 0.0f;
  for (int column = 0; column < RGM_ROW_BLOCK; column += RGM_SUM_COLUMNS) {
    for (int i = (int)threadIdx.x; i < RGM_SUM_THREADS * RGM_SUM_COLUMNS; i += RGM_SUM_THREADS) {
      const int64_t at =
          (int64_t)(i / RGM_SUM_COLUMNS) * RGM_ROW_BLOCK + column + i % RGM_SUM_COLUMNS;
      stage[i / RGM_SUM_COLUMNS][i % RGM_SUM_COLUMNS] = at < left ? data[at] : 0.0f;
    }
    __syncthreads();
    for (int i = 0; i < RGM_SUM_COLUMNS; i++) {
      const float x = stage[threadIdx.x][i], next = SQUARES ? rgm_fma(x, x, sum) : sum + x;
      sum = row + column + i < left ? next : sum;
    }
    __syncthreads();
  }
  return rgm_block_tree(sum, rows < RGM_SUM_THREADS ? (int)rows : (int)RGM_SUM_THREADS, part);
}

// The same over values that one thread meets in order: a binary counter of partial sums, which stay
// in registers since every index is a constant. Holds 2^LEVELS - 1 values.
template <int LEVELS> struct rgm_counter_tree {
  float level[LEVELS];
  uint32_t count;
};

template <int LEVELS> RGM_DEVICE void rgm_tree_push(rgm_counter_tree<LEVELS> *tree, float x) {
  const uint32_t count = tree->count++;
  bool carry = true;
#pragma unroll
  for (int k = 0; k < LEVELS; k++) {
    const bool full = (count >> k & 1u) != 0;
    const float sum = tree->level[k] + x;
    tree->level[k] = carry && !full ? x : tree->level[k];
    x = carry && full ? sum : x;
    carry = carry && full;
  }
}

// what is left adds from the smallest level up; 0 where nothing came
template <int LEVELS> RGM_DEVICE float rgm_tree_total(const rgm_counter_tree<LEVELS> *tree) {
  float total = 0.0f;
  bool any = false;
#pragma unroll
  for (int k = 0; k < LEVELS; k++) {
    const bool full = (tree->count >> k & 1u) != 0;
    const float sum = any ? tree->level[k] + total : tree->level[k];
    total = full ? sum : total;
    any = any || full;
  }
  return total;
}

#endif
