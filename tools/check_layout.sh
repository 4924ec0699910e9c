#!/bin/sh
# The rules of the tree that no compiler checks: who may include whom, sizes of files, functions and
# lines, banned calls. Prints every breach as file:line and ends with "layout ok" or a count.
set -u
cd "$(dirname "$0")/.."
bad=$(mktemp)
trap 'rm -f "$bad"' EXIT
sources=$(git ls-files -co --exclude-standard '*.c' '*.h' '*.cu' '*.cuh' '*.cpp')

# breach MESSAGE: reads file:line rows
breach() {
  awk -v why="$1" '{ print $0 "   <- " why }' >>"$bad"
}

# only the folders of the design, and their READMEs
for entry in $(git ls-files -co --exclude-standard | cut -d/ -f1 | sort -u); do
  case $entry in
  kernels | engine | envs | algorithms | configs | tests | tools | .ci) ;;
  CMakeLists.txt | CMakePresets.json | README.md | LICENSE | .clang-format | .gitignore) ;;
  *) echo "$entry" | breach "is not in the design's list of top-level entries" ;;
  esac
done
for folder in kernels engine envs algorithms configs tests tools; do
  [ -f $folder/README.md ] || echo "$folder/" | breach "has no README.md"
done

# include rules: kernels <- engine <- {envs, algorithms}; tools see engine/regimen.h
includes() { # folder pattern message
  grep -nE "^#include \"($2)" $(echo "$sources" | grep "^$1/") /dev/null | breach "$3"
}
includes kernels 'engine|envs|algorithms|tools|tests' "kernels know nothing of the layers above"
includes engine 'envs|algorithms|tools|tests' "the engine knows environments and algorithms by their tables"
includes envs 'algorithms|tools|tests' "environments never see algorithms"
includes algorithms 'envs|tools|tests' "algorithms never see environments"
grep -nE '^#include "' $(echo "$sources" | grep '^tools/') /dev/null |
  grep -vE '"engine/regimen.h"|"tools/(bench|sweep).h"|tools/bench[^:]*:[0-9]+:#include "engine/(engine|dataset|mdp).h"' |
  breach "tools use engine/regimen.h (bench also engine.h, dataset.h, mdp.h)"
grep -nE '^#include "\.\.?/|^#include "[^/"]+"' $sources /dev/null | breach "includes are written from the root"

# a foreign library belongs to one file
only() { # header allowed-files
  grep -nE "^#include <$1" $sources /dev/null | grep -vE "^($2|tests/[a-z_]*\.[ch]):" |
    breach "belongs to $2 alone"
}
only 'hdf5' 'engine/image\.h'
grep -nE '^#include "engine/(image|dataset_array|dataset_format)\.h"' $sources /dev/null |
  grep -vE '^engine/(image|checkpoint|dataset_[a-z]*)\.[ch]:' | breach "HDF5 belongs to checkpoints and data sets"
only 'yaml' 'engine/config\.c'
only 'csv' 'engine/dataset\.c'
only 'zlib' 'engine/dataset\.c|engine/csv\.c'
only 'mpi' 'engine/dist\.c'
only 'cuda|cublas|cudnn|nccl' 'kernels/cuda/[a-z_.]*|envs/rollout\.cu|tests/cuda_host/[a-z_.]*'

# CUDA: one header knows the two compilers; what launches, shares memory or names CUDA stays with it
cuda=$(echo "$sources" | grep -E '[.](cu|cuh)$')
grep -nE '<<<|__shared__|__global__|__syncthreads_|asm' $cuda /dev/null | grep -v '^kernels/cuda/cuda.cuh:' |
  breach "goes through the macros and wrappers of kernels/cuda/cuda.cuh"
grep -nE '^#include "kernels/cuda/[a-z_]*[.]cuh"' $(echo "$sources" | grep -vE '[.](cu|cuh)$') /dev/null |
  breach "CUDA headers are for CUDA files"
grep -nE '(^|[^a-z_])atomicAdd' $(echo "$cuda" | grep '^kernels/') /dev/null |
  grep -vE 'bins|count|mine' | breach "no floating-point atomics: their order is not fixed"
[ -f kernels/cuda/README.md ] || echo "kernels/cuda/" | breach "has no README.md"

# banned calls in the library
library=$(echo "$sources" | grep -E '^(kernels|engine|envs|algorithms)/')
grep -nE '(^|[^a-z_])(exit|rand|srand|strcpy|strcat|sprintf|gets) *\(' $library /dev/null |
  grep -vE '^[^:]*:[0-9]+: *//' | breach "is banned in the library"
grep -nE '(^|[^a-z_])_exit *\(' $library /dev/null |
  grep -vE '^(engine/dataset_child|algorithms/honesty).c:' |
  breach "_exit belongs to children: that which reads data sets, and honesty's"
grep -nE '(^|[^a-z_])abort *\(' $library /dev/null | grep -v '^kernels/base.c:' |
  breach "abort belongs to RGM_ASSERT"
grep -nE '(^|[^a-z_])time\((NULL|&)' $library /dev/null | grep -vE '^engine/(train|sweep).c:' |
  breach "dates belong to the log of a run"
grep -n 'include <assert.h>' $sources /dev/null | breach "use RGM_ASSERT"
grep -nE '[-]ffast-math|[-]Ofast|use_fast_math' CMakeLists.txt CMakePresets.json |
  breach "no fast-math anywhere"
grep -nwE 'TODO|FIXME|XXX' $sources /dev/null | breach "finish it or open an issue"

# sizes: files under 800 lines, lines within 100 columns, functions under 80 lines
for file in $sources; do
  awk -v file="$file" '
    length($0) > 100 { print file ":" NR ": " length($0) " columns" }
    /^[A-Za-z_].*\) *\{$/ || (/^[A-Za-z_ ].*\{$/ && /\)/) { start = NR }
    /^\}/ { if (start && NR - start > 80) print file ":" start ": a function of " NR - start " lines"
            start = 0 }
    END { if (NR >= 800) print file ":1: " NR " lines" }' "$file" | breach "too long"
  head -1 "$file" | grep -q 'SPDX-License-Identifier: Apache-2.0' ||
    echo "$file:1" | breach "starts with the SPDX line"
done

if [ -s "$bad" ]; then
  cat "$bad"
  echo "$(wc -l <"$bad") breaches of the layout"
  exit 1
fi
echo "layout ok"
