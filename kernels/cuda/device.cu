// SPDX-License-Identifier: Apache-2.0
// A GPU as a device: one stream of work, memory, graphs. Calls enqueue; the first error stays on
// the stream and comes out of rgm_sync.

#include "kernels/cuda/cuda.cuh"

#include <new>
#include <stdio.h>
#include <string.h>


static rgm_cuda_stream *of(rgm_stream *s) {
  return reinterpret_cast<rgm_cuda_stream *>(s);
}


void rgm_cuda_check(rgm_stream *stream, cudaError_t error, const char *where) {
  rgm_cuda_stream *s = of(stream);
  if (error != cudaSuccess && s->error == cudaSuccess) {
    s->error = error;
    snprintf(s->where, sizeof s->where, "%s", where);
  }
}


// ---- open and close ----------------------------------------------------------------------------

// the text of rgm_describe, and the isa that every stream of this module has
static char isa[16] = "sm";

const char *rgm_cuda_isa(void) {
  return isa;
}


static rgm_status describe_device(rgm_cuda_stream *s) {
  cudaDeviceProp prop;
  cudaError_t error = cudaGetDeviceProperties(&prop, s->device);
  if (error == cudaSuccess) {
    error = cudaSetDevice(s->device);
  }
  if (error != cudaSuccess) {
    return rgm_fail(RGM_EDEVICE, "cannot use GPU %d: %s", s->device, cudaGetErrorString(error));
  }
  s->processors = prop.multiProcessorCount;
  const int64_t share = static_cast<int64_t>(prop.totalGlobalMem / 2048 / sizeof(float));
  s->room = share < RGM_CUDA_SCRATCH ? share : static_cast<int64_t>(RGM_CUDA_SCRATCH);
  if (prop.major > 0) {
    snprintf(isa, sizeof isa, "sm_%d%d", prop.major, prop.minor);
  } else {
    snprintf(isa, sizeof isa, "sm_host");
  }
  snprintf(s->text, sizeof s->text, "%s, GPU %d, %s, %.1f GiB", prop.name, s->device, isa,
           (double)prop.totalGlobalMem / 0x1p30);
  return RGM_OK;
}


rgm_status rgm_cuda_open(const rgm_device_options *options, rgm_stream **out) {
  int count = 0;
  const cudaError_t error = cudaGetDeviceCount(&count);
  if (error != cudaSuccess || count == 0) {
    return rgm_fail(RGM_EDEVICE, "there is no GPU that this build can use (%s)",
                    error != cudaSuccess ? cudaGetErrorString(error) : "none found");
  }
  if (options->device < 0 || options->device >= count) {
    return rgm_fail(RGM_EUSAGE,
                    "run.device: there is no GPU %d; this machine has %d, counted from 0",
                    options->device, count);
  }
  rgm_cuda_stream *s = new (std::nothrow) rgm_cuda_stream();
  if (s == NULL) {
    return rgm_fail(RGM_EMEMORY, "no memory for the GPU's stream");
  }
  s->device = options->device;
  rgm_status status = describe_device(s);
  if (status == RGM_OK) {
    rgm_cuda_check(&s->base, cudaStreamCreateWithFlags(&s->queue, cudaStreamNonBlocking), "stream");
    void *memory = NULL;
    rgm_cuda_check(&s->base, cudaMalloc(&memory, s->room * sizeof(float)), "work memory");
    s->scratch = static_cast<float *>(memory);
    status = rgm_cuda_sync(&s->base);
  }
  if (status != RGM_OK) {
    rgm_cuda_close(&s->base);
    return status;
  }
  *out = &s->base;
  return RGM_OK;
}


void rgm_cuda_close(rgm_stream *stream) {
  rgm_cuda_stream *s = of(stream);
  for (int i = 0; i < RGM_CUDA_SLOTS; i++) {
    if (s->slots[i].graph != NULL) {
      (void)cudaGraphExecDestroy(s->slots[i].graph);
    }
  }
  rgm_cuda_library_close(stream);
  (void)cudaFree(s->scratch);
  if (s->queue != NULL) {
    (void)cudaStreamDestroy(s->queue);
  }
  delete s;
}


void rgm_cuda_describe(const rgm_stream *s, char *text, size_t size) {
  snprintf(text, size, "%s", reinterpret_cast<const rgm_cuda_stream *>(s)->text);
}


static void drop_graph(rgm_cuda_slot *slot) {
  if (slot->graph != NULL) {
    (void)cudaGraphExecDestroy(slot->graph);
    slot->graph = NULL;
  }
}


// ---- memory ------------------------------------------------------------------------------------

rgm_status rgm_cuda_alloc(rgm_stream *stream, size_t bytes, void **out) {
  rgm_cuda_stream *s = of(stream);
  const cudaError_t error = cudaMalloc(out, bytes > 0 ? bytes : 1);
  if (error != cudaSuccess) {
    size_t left = 0, all = 0;
    (void)cudaGetLastError();
    (void)cudaMemGetInfo(&left, &all);
    return rgm_fail(RGM_EMEMORY,
                    "no memory for %.1f MiB on GPU %d, which has %.1f MiB left (%s); lower "
                    "run.replicas or the batch (see `regimen plan`)",
                    (double)bytes / 0x1p20, s->device, (double)left / 0x1p20,
                    cudaGetErrorString(error));
  }
  rgm_cuda_fill(stream, *out, 0, bytes);
  return RGM_OK;
}


// a graph may name the memory, and what is allocated next may have the same address and meaning
void rgm_cuda_release(rgm_stream *stream, void *memory) {
  rgm_cuda_check(stream, cudaStreamSynchronize(of(stream)->queue), "release");
  for (int i = 0; i < RGM_CUDA_SLOTS; i++) {
    drop_graph(&of(stream)->slots[i]);
  }
  rgm_cuda_check(stream, cudaFree(memory), "release");
}


void rgm_cuda_copy(rgm_stream *stream, void *dst, const void *src, size_t bytes) {
  rgm_cuda_check(stream, cudaMemcpyAsync(dst, src, bytes, cudaMemcpyDefault, of(stream)->queue),
                 "copy");
}


void rgm_cuda_fill(rgm_stream *stream, void *dst, int byte, size_t bytes) {
  rgm_cuda_check(stream, cudaMemsetAsync(dst, byte, bytes, of(stream)->queue), "fill");
}


rgm_status rgm_cuda_sync(rgm_stream *stream) {
  rgm_cuda_stream *s = of(stream);
  if (s->queue != NULL) {
    rgm_cuda_check(stream, cudaStreamSynchronize(s->queue), "kernels");
  }
  if (s->error == cudaSuccess) {
    return RGM_OK;
  }
  const cudaError_t error = s->error;
  s->error = cudaSuccess;
  return rgm_fail(RGM_EDEVICE, "GPU %d failed in %s: %s", s->device, s->where,
                  cudaGetErrorString(error));
}


// ---- graphs ------------------------------------------------------------------------------------

// what fn enqueues becomes the slot's graph; what the front doors counted meanwhile is taken back,
// since every launch of the graph adds it
static bool capture(rgm_cuda_stream *s, rgm_cuda_slot *slot) {
  rgm_counts before[RGM_ROW_COUNT];
  memcpy(before, s->base.counts, sizeof before);
  cudaError_t error = cudaStreamBeginCapture(s->queue, cudaStreamCaptureModeThreadLocal);
  if (error != cudaSuccess) {
    rgm_cuda_check(&s->base, error, "capture of a graph");
    return false;
  }
  slot->fn(slot->arg, &s->base);
  cudaGraph_t graph = NULL;
  error = cudaStreamEndCapture(s->queue, &graph);
  if (error == cudaSuccess) {
    error = cudaGraphInstantiate(&slot->graph, graph, 0);
  }
  if (graph != NULL) {
    (void)cudaGraphDestroy(graph);
  }
  rgm_cuda_check(&s->base, error, "capture of a graph");
  for (int i = 0; i < RGM_ROW_COUNT; i++) {
    slot->counts[i].launches = s->base.counts[i].launches - before[i].launches;
    slot->counts[i].flops = s->base.counts[i].flops - before[i].flops;
    slot->counts[i].bytes = s->base.counts[i].bytes - before[i].bytes;
  }
  memcpy(s->base.counts, before, sizeof before);
  return error == cudaSuccess && s->error == cudaSuccess;
}


// Captured once for each fn and arg; a stream that is timed waits after every row, which no graph
// can, and calls fn as it is.
void rgm_cuda_graph(rgm_stream *stream, int index, void (*fn)(void *, rgm_stream *), void *arg) {
  rgm_cuda_stream *s = of(stream);
  RGM_ASSERT(index >= 0 && index < RGM_CUDA_SLOTS);
  if (stream->timed) {
    fn(arg, stream);
    return;
  }
  rgm_cuda_slot *slot = &s->slots[index];
  if (slot->graph != NULL && (slot->fn != fn || slot->arg != arg)) {
    // the old graph may still run
    rgm_cuda_check(stream, cudaStreamSynchronize(s->queue), "kernels");
    drop_graph(slot);
  }
  if (slot->graph == NULL) {
    slot->fn = fn;
    slot->arg = arg;
    if (!capture(s, slot)) {
      drop_graph(slot);
      return;
    }
  }
  rgm_cuda_check(stream, cudaGraphLaunch(slot->graph, s->queue), "launch of a graph");
  for (int i = 0; i < RGM_ROW_COUNT; i++) {
    stream->counts[i].launches += slot->counts[i].launches;
    stream->counts[i].flops += slot->counts[i].flops;
    stream->counts[i].bytes += slot->counts[i].bytes;
  }
}
