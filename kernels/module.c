// SPDX-License-Identifier: Apache-2.0
// Finds a GPU and the module with its kernels, both at run time: the program links nothing of CUDA.
// The driver is asked first, which costs nothing where there is none; the module and the libraries
// that it brings are opened only where a device exists.

#define _GNU_SOURCE
#include "kernels/module.h"
#include "kernels/cuda/module.h"

#include <dlfcn.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#ifndef RGM_LIBDIR
#define RGM_LIBDIR "/usr/local/lib"
#endif
#define MODULE "libregimen_cuda.so"


// Whether the driver is here and has a device; `why` says what is missing.
static bool has_device(char *why, size_t size) {
  void *driver = dlopen("libcuda.so.1", RTLD_LAZY | RTLD_LOCAL);
  if (driver == NULL) {
    snprintf(why, size, "no NVIDIA driver (libcuda.so.1 is not here)");
    return false;
  }
  int (*init)(unsigned), (*count_devices)(int *), count = 0;
  *(void **)&init = dlsym(driver, "cuInit");
  *(void **)&count_devices = dlsym(driver, "cuDeviceGetCount");
  const int error = init == NULL || count_devices == NULL ? -1 : init(0);
  const bool found = error == 0 && count_devices(&count) == 0 && count > 0;
  if (!found) {
    snprintf(why, size, "the NVIDIA driver finds no device (error %d)", error);
  }
  dlclose(driver);
  return found;
}


// Tries one path; a file that is not there is no error.
static void *open_at(const char *folder, char *why, size_t size) {
  char path[PATH_MAX + sizeof MODULE + 1];
  snprintf(path, sizeof path, "%s/%s", folder, MODULE);
  if (access(path, F_OK) != 0) {
    return NULL;
  }
  void *module = dlopen(path, RTLD_NOW | RTLD_LOCAL);
  if (module == NULL) {
    snprintf(why, size, "%s", dlerror());
  }
  return module;
}


// RGM_CUDA_MODULE names the module and stands for the probe of the driver too: its own device need
// not be a GPU.
static void *open_module(char *why, size_t size) {
  const char *named = getenv("RGM_CUDA_MODULE");
  if (named != NULL && named[0] != '\0') {
    void *module = dlopen(named, RTLD_NOW | RTLD_LOCAL);
    if (module == NULL) {
      snprintf(why, size, "RGM_CUDA_MODULE: %s", dlerror());
    }
    return module;
  }
  if (!has_device(why, size)) {
    return NULL;
  }
  snprintf(why, size, "the module " MODULE " is neither beside the program nor in " RGM_LIBDIR);
  char program[PATH_MAX];
  const ssize_t length = readlink("/proc/self/exe", program, sizeof program - 1);
  if (length > 0) {
    program[length] = '\0';
    *strrchr(program, '/') = '\0';
    void *module = open_at(program, why, size);
    if (module != NULL) {
      return module;
    }
  }
  return open_at(RGM_LIBDIR, why, size);
}


const rgm_backend *rgm_module_backend(char *why, size_t size) {
  // opened once for the life of the process: a module cannot be unloaded under its streams
  static const rgm_backend *table;
  if (table != NULL) {
    return table;
  }
  void *module = open_module(why, size);
  if (module == NULL) {
    return NULL;
  }
  rgm_cuda_backend_fn entry;
  *(void **)&entry = dlsym(module, RGM_CUDA_ENTRY);
  const rgm_backend *found = entry != NULL ? entry(rgm_fail) : NULL;
  if (found == NULL || found->abi_version != RGM_BACKEND_ABI || found->size != sizeof *found) {
    snprintf(why, size, "the module " MODULE " is of another version of Regimen");
    dlclose(module);
    return NULL;
  }
  table = found;
  return table;
}
