# The CUDA module, libregimen_cuda.so: kernels/cuda and envs by nvcc, for every architecture that it
# knows of those we support. Needs no driver and no GPU; without nvcc there is no module.
# nvcc is called as it is, so that what ptxas says of every kernel is kept (build/*/cuda/*.ptxas), and
# so that nothing depends on what CMake finds of the toolkit.
if(DEFINED ENV{CUDACXX})
  set(RGM_NVCC "$ENV{CUDACXX}" CACHE FILEPATH "the CUDA compiler")
endif()
find_program(RGM_NVCC nvcc HINTS ENV CUDA_HOME ENV CUDA_PATH PATHS /usr/local/cuda /opt/cuda
  /usr/lib/cuda PATH_SUFFIXES bin DOC "the CUDA compiler")
if(NOT RGM_NVCC)
  message(STATUS "no nvcc: the program is built without its CUDA module")
  return()
endif()
execute_process(COMMAND ${RGM_NVCC} --version OUTPUT_VARIABLE nvcc_says RESULT_VARIABLE nvcc_failed)
string(REGEX MATCH "release ([0-9]+)[.]([0-9]+)" nvcc_release "${nvcc_says}")
if(nvcc_failed OR NOT nvcc_release)
  message(STATUS "${RGM_NVCC} does not run: the program is built without its CUDA module")
  return()
endif()
set(nvcc_version ${CMAKE_MATCH_1}.${CMAKE_MATCH_2})
if(nvcc_version VERSION_LESS 12.0)
  message(STATUS "nvcc ${nvcc_version} is older than 12.0: the program is built without its CUDA module")
  return()
endif()

# machine code for each, and PTX of the last for what comes after
set(architectures ${RGM_CUDA_ARCHITECTURES})
if(NOT architectures)
  set(architectures 80 90)
  if(nvcc_version VERSION_GREATER_EQUAL 12.8)
    list(APPEND architectures 100 120)
  endif()
endif()
set(generate "")
foreach(arch ${architectures})
  list(APPEND generate -gencode=arch=compute_${arch},code=sm_${arch})
endforeach()
list(GET architectures -1 newest)
list(APPEND generate -gencode=arch=compute_${newest},code=compute_${newest})
list(JOIN architectures " " shown)
message(STATUS "CUDA module: nvcc ${nvcc_version}, sm ${shown}")

set(nvcc_flags -std=c++17 -O3 -fmad=false -Werror all-warnings
  -Xcompiler=-O2,-fPIC,-fvisibility=hidden,-Wall,-Wextra,-Wshadow,-Werror
  -Xcompiler=-ffp-contract=off,-fno-threadsafe-statics -Xptxas=-v)
set(module_objects "")
set(ptxas_logs "")
file(MAKE_DIRECTORY ${CMAKE_CURRENT_BINARY_DIR}/cuda)
foreach(source ${cuda_sources})
  get_filename_component(stem ${source} NAME_WE)
  set(out ${CMAKE_CURRENT_BINARY_DIR}/cuda/${stem})
  list(JOIN nvcc_flags " " flags)
  list(JOIN generate " " codes)
  add_custom_command(OUTPUT ${out}.o BYPRODUCTS ${out}.ptxas DEPFILE ${out}.d DEPENDS ${source}
    COMMAND sh -c "${RGM_NVCC} ${flags} ${codes} -I${CMAKE_CURRENT_SOURCE_DIR} -MD -MF ${out}.d \
-c ${source} -o ${out}.o >${out}.ptxas 2>&1 || { grep -v ptxas ${out}.ptxas; rm -f ${out}.o; exit 1; }"
    COMMENT "nvcc ${stem}.cu" VERBATIM)
  list(APPEND module_objects ${out}.o)
endforeach()
file(WRITE ${CMAKE_CURRENT_BINARY_DIR}/cuda/nvcc.txt "${nvcc_version} ${shown}\n")

# the module carries its own copy of base.c and of the C++ and CUDA runtimes; it needs the driver only
add_library(rgm_cuda_base OBJECT kernels/base.c)
target_link_libraries(rgm_cuda_base PRIVATE rgm_flags)
target_compile_options(rgm_cuda_base PRIVATE -fPIC -fvisibility=hidden)
set(module ${CMAKE_CURRENT_BINARY_DIR}/libregimen_cuda.so)
add_custom_command(OUTPUT ${module} DEPENDS ${module_objects} $<TARGET_OBJECTS:rgm_cuda_base>
  COMMAND ${RGM_NVCC} -shared -cudart static -Xcompiler=-static-libstdc++,-static-libgcc
    -Xlinker=--exclude-libs=ALL,-z,defs -o ${module} ${module_objects}
    $<TARGET_OBJECTS:rgm_cuda_base>
  COMMENT "Linking libregimen_cuda.so" VERBATIM COMMAND_EXPAND_LISTS)
add_custom_target(regimen_cuda ALL DEPENDS ${module})
install(FILES ${module} DESTINATION ${CMAKE_INSTALL_LIBDIR})
