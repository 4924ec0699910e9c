// SPDX-License-Identifier: Apache-2.0
// CUDA on the CPU: threads as fibres. A worker fibre runs threads that have not begun, one after
// the other, until one of them waits; then it is that thread's own, and another worker takes over.

#include "tests/cuda_host/internal.h"

#include <csetjmp>
#include <cstdio>
#include <cstdlib>
#include <sys/mman.h>
#include <vector>

#if !defined(__x86_64__)
#include <ucontext.h>
#endif
#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/common_interface_defs.h>
#endif

uint3 threadIdx, blockIdx;
dim3 blockDim, gridDim;


// ---- switching stacks --------------------------------------------------------------------------

namespace {

enum { STACK = 256 << 10, PAGE = 4096 };

struct context {
  context *next; // of all
  char *stack;   // its lowest byte; NULL for the scheduler's
#if defined(__x86_64__)
  void *top;
#else
  ucontext_t registers;
#endif
  void *fake; // the sanitizer's
};

context scheduler;
context *contexts; // all fibres, for the life of the process
#if defined(__SANITIZE_ADDRESS__)
const void *scheduler_bottom; // of its stack
size_t scheduler_size;
#endif

#if defined(__x86_64__)
extern "C" void cuda_host_switch(void **save, void *to);
asm(".text\n"
    ".type cuda_host_switch,@function\n"
    "cuda_host_switch:\n"
    "  pushq %rbp\n  pushq %rbx\n  pushq %r12\n  pushq %r13\n  pushq %r14\n  pushq %r15\n"
    "  movq %rsp, (%rdi)\n"
    "  movq %rsi, %rsp\n"
    "  popq %r15\n  popq %r14\n  popq %r13\n  popq %r12\n  popq %rbx\n  popq %rbp\n"
    "  ret\n"
    ".size cuda_host_switch,.-cuda_host_switch\n");
#endif


void switch_to(context *from, context *to) {
#if defined(__SANITIZE_ADDRESS__)
  const bool own = to->stack != nullptr;
  const void *bottom = own ? to->stack : scheduler_bottom;
  __sanitizer_start_switch_fiber(&from->fake, bottom, own ? (size_t)STACK : scheduler_size);
#endif
#if defined(__x86_64__)
  cuda_host_switch(&from->top, to->top);
#else
  swapcontext(&from->registers, &to->registers);
#endif
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_finish_switch_fiber(from->fake, nullptr, nullptr);
#endif
}


void make_context(context *c, void (*entry)()) {
  c->stack = (char *)mmap(nullptr, STACK + PAGE, PROT_READ | PROT_WRITE,
                          MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (c->stack == MAP_FAILED) {
    cuda_host_stop("no memory for the stack of a thread");
  }
  mprotect(c->stack, PAGE, PROT_NONE); // a stack that grows too long ends here
  c->stack += PAGE;
  c->fake = nullptr;
#if defined(__x86_64__)
  // as if switched away just before `entry`: six registers, then the address to return to
  void **top = (void **)(c->stack + STACK) - 8;
  std::memset(top, 0, 8 * sizeof *top);
  top[6] = (void *)entry;
  c->top = top;
#else
  getcontext(&c->registers);
  c->registers.uc_stack.ss_sp = c->stack;
  c->registers.uc_stack.ss_size = STACK;
  makecontext(&c->registers, entry, 0);
#endif
}


// ---- a block -----------------------------------------------------------------------------------

enum state { NEW, READY, AT_BARRIER, AT_WARP, DONE };

struct thread {
  state is;
  context *fibre;
  const char *file;
  int line;
  unsigned mask;
  uint64_t slot;
};

struct {
  std::vector<thread> threads;
  std::vector<int> ready; // threads that are NEW or READY
  std::vector<context *> idle;
  const std::function<void()> *kernel;
  const char *name;
  int current;
  int waiting; // at the block's barrier
  context *running;
  uint64_t number; // of blocks so far
  char *dynamic;
  uint64_t random, waits;
} b;


uint64_t next_random() {
  b.random ^= b.random << 13;
  b.random ^= b.random >> 7;
  b.random ^= b.random << 17;
  return b.random;
}


// takes a thread at random
int take_ready() {
  const size_t at = (size_t)(next_random() % b.ready.size());
  const int t = b.ready[at];
  b.ready[at] = b.ready.back();
  b.ready.pop_back();
  return t;
}


void enter(int t) {
  b.current = t;
  const unsigned x = blockDim.x, y = blockDim.y, u = (unsigned)t;
  threadIdx = uint3{u % x, u / x % y, u / x / y};
}


// a worker: runs new threads as long as chance picks one
void work() {
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_finish_switch_fiber(nullptr, &scheduler_bottom, &scheduler_size);
#endif
  for (;;) {
    context *self = b.running;
    for (bool more = true; more;) {
      b.threads[(size_t)b.current].fibre = self;
      (*b.kernel)();
      b.threads[(size_t)b.current].is = DONE;
      more = false;
      if (!b.ready.empty()) {
        const int t = take_ready();
        more = b.threads[(size_t)t].is == NEW;
        if (more) {
          enter(t);
        } else {
          b.ready.push_back(t);
        }
      }
    }
    b.idle.push_back(self);
    switch_to(self, &scheduler);
  }
}


void resume(int t) {
  thread &q = b.threads[(size_t)t];
  enter(t);
  if (q.is == NEW) {
    if (b.idle.empty()) {
      context *fibre = new context;
      make_context(fibre, work);
      fibre->next = contexts;
      contexts = fibre;
      b.idle.push_back(fibre);
    }
    b.running = b.idle.back();
    b.idle.pop_back();
  } else {
    b.running = q.fibre;
  }
  switch_to(&scheduler, b.running);
}


void wait_at(state is, const char *file, int line) {
  thread &q = b.threads[(size_t)b.current];
  q.is = is;
  q.file = file;
  q.line = line;
  b.waits++;
  switch_to(q.fibre, &scheduler);
}


const char *base_name(const char *file) {
  const char *slash = std::strrchr(file, '/');
  return slash != nullptr ? slash + 1 : file;
}


[[noreturn]] void stuck(const char *what, const thread &a, const thread *other) {
  char text[512], more[128] = "";
  if (other != nullptr && other->is == DONE) {
    std::snprintf(more, sizeof more, ", while others have left the kernel");
  } else if (other != nullptr) {
    std::snprintf(more, sizeof more, ", others at %s:%d", base_name(other->file), other->line);
  }
  std::snprintf(text, sizeof text, "%s: %s at %s:%d%s", b.name, what, base_name(a.file), a.line,
                more);
  cuda_host_stop(text);
}


// all threads wait at one barrier: they go on
bool release_block() {
  const thread &first = b.threads[0];
  for (const thread &q : b.threads) {
    if (q.is == AT_BARRIER && (first.is != AT_BARRIER || q.line != first.line)) {
      stuck("some threads wait for all", q,
            first.is == AT_BARRIER || first.is == DONE ? &first : nullptr);
    }
  }
  for (const thread &q : b.threads) {
    if (q.is != AT_BARRIER) {
      stuck("some threads wait for all", first, q.is == NEW ? nullptr : &q);
    }
  }
  for (size_t t = 0; t < b.threads.size(); t++) {
    b.threads[t].is = READY;
    b.ready.push_back((int)t);
  }
  return true;
}


// lanes of a warp that wait for each other go on when all that are named wait
bool release_warps() {
  bool any = false;
  for (size_t t = 0; t < b.threads.size(); t++) {
    const thread q = b.threads[t];
    if (q.is != AT_WARP) {
      continue;
    }
    const size_t warp = t / 32 * 32;
    for (size_t lane = 0; lane < 32 && warp + lane < b.threads.size(); lane++) {
      const thread &other = b.threads[warp + lane];
      if ((q.mask >> lane & 1u) == 0) {
        continue;
      }
      if (other.is != AT_WARP || other.line != q.line || other.mask != q.mask) {
        stuck("lanes of a warp wait for each other", q, &other);
      }
    }
    for (size_t lane = 0; lane < 32 && warp + lane < b.threads.size(); lane++) {
      if ((q.mask >> lane & 1u) != 0) {
        b.threads[warp + lane].is = READY;
        b.ready.push_back((int)(warp + lane));
      }
    }
    any = true;
  }
  return any;
}


void run_block(unsigned index, size_t shared) {
  b.number++;
  blockIdx = uint3{index % gridDim.x, index / gridDim.x % gridDim.y, index / gridDim.x / gridDim.y};
  if (shared > 0) {
    std::memset(b.dynamic, 0xff, shared);
  }
  b.ready.clear();
  for (size_t t = 0; t < b.threads.size(); t++) {
    b.threads[t].is = NEW;
    b.ready.push_back((int)t);
  }
  for (;;) {
    while (!b.ready.empty()) {
      resume(take_ready());
    }
    bool waiting = false, done = true;
    for (const thread &q : b.threads) {
      waiting = waiting || q.is == AT_BARRIER;
      done = done && q.is == DONE;
    }
    if (done) {
      return;
    }
    if (!release_warps() && waiting) {
      release_block();
    }
  }
}

} // namespace


void cuda_host_stop(const char *what) {
  std::fprintf(stderr, "CUDA on the CPU: %s\n", what);
  std::abort();
}


void cuda_host_run(const cuda_host_launch_shape &shape, const std::function<void()> &kernel) {
  gridDim = shape.grid;
  blockDim = shape.block;
  b.kernel = &kernel;
  b.name = shape.name;
  b.threads.assign(blockDim.x * blockDim.y * blockDim.z, thread());
  if (b.random == 0) {
    const char *seed = std::getenv("CUDA_HOST_SEED");
    cuda_host_seed(seed != nullptr ? std::strtoull(seed, nullptr, 10) : 1);
  }

  // its end stands right before a red zone
  enum { ZONE = 256 };
  const size_t shared = (shape.shared + 15) / 16 * 16;
  b.dynamic = (char *)std::aligned_alloc(16, shared + ZONE);
  std::memset(b.dynamic, 0xa5, shared + ZONE);

  const uint64_t blocks = (uint64_t)gridDim.x * gridDim.y * gridDim.z;
  std::vector<unsigned> order(blocks);
  for (uint64_t i = 0; i < blocks; i++) {
    order[i] = (unsigned)i;
  }
  for (uint64_t i = blocks; i > 1; i--) {
    std::swap(order[i - 1], order[next_random() % i]);
  }
  for (uint64_t i = 0; i < blocks; i++) {
    run_block(order[i], shape.shared);
    for (size_t k = shape.shared; k < shared + ZONE; k++) {
      if ((unsigned char)b.dynamic[k] != 0xa5) {
        char text[256];
        std::snprintf(text, sizeof text, "%s: wrote past its %zu bytes of shared memory (byte %zu)",
                      shape.name, shape.shared, k);
        cuda_host_stop(text);
      }
    }
  }
  std::free(b.dynamic);
  b.dynamic = nullptr;
}


void cuda_host_barrier(const char *file, int line) {
  wait_at(AT_BARRIER, file, line);
}


void cuda_host_warp(unsigned mask, const char *file, int line) {
  if ((mask >> (b.current % 32) & 1u) == 0) {
    stuck("a lane is not in its own mask", b.threads[(size_t)b.current], nullptr);
  }
  b.threads[(size_t)b.current].mask = mask;
  wait_at(AT_WARP, file, line);
}


int cuda_host_lane() {
  return b.current % 32;
}


uint64_t &cuda_host_slot(int lane) {
  // a lane that the block does not have gives what it finds: its own
  const size_t at = (size_t)(b.current / 32 * 32 + lane);
  return b.threads[at < b.threads.size() ? at : (size_t)b.current].slot;
}


unsigned cuda_host_vote(unsigned mask, bool yes, const char *file, int line) {
  cuda_host_slot(cuda_host_lane()) = yes ? 1 : 0;
  cuda_host_warp(mask, file, line);
  unsigned votes = 0;
  const size_t warp = (size_t)(b.current / 32 * 32);
  for (size_t lane = 0; lane < 32 && warp + lane < b.threads.size(); lane++) {
    const bool voted = (mask >> lane & 1u) != 0 && b.threads[warp + lane].slot != 0;
    votes |= voted ? 1u << lane : 0u;
  }
  cuda_host_warp(mask, file, line);
  return votes;
}


void *cuda_host_dynamic() {
  return b.dynamic;
}


uint64_t cuda_host_block_number() {
  return b.number;
}


void cuda_host_poison(void *memory, size_t bytes) {
  std::memset(memory, 0xff, bytes);
}


extern "C" void cuda_host_seed(uint64_t seed) {
  b.random = seed * 0x9e3779b97f4a7c15u + 0x2545f4914f6cdd1du;
}


extern "C" uint64_t cuda_host_waits() {
  return b.waits;
}
