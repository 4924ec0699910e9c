# Shared by the scripts of this folder: packages, builds, messages. Sourced, never run.

build_packages="gcc g++ cmake ninja-build git ca-certificates libyaml-dev libhdf5-dev libaec-dev \
zlib1g-dev libcsv-dev libssl-dev"
test_packages="libcriterion-dev hdf5-tools python3-h5py jq strace clang-format-14"

say() {
  printf '\n== %s\n' "$*"
}

# need PACKAGE...: installs the Debian packages that are missing
need() {
  missing=""
  for package in "$@"; do
    if ! dpkg-query -W -f='${Status}' "$package" 2>/dev/null | grep -q "ok installed"; then
      missing="$missing $package"
    fi
  done
  [ -z "$missing" ] && return 0
  say "installing$missing"
  as_root=""
  if [ "$(id -u)" != 0 ]; then
    if ! command -v sudo >/dev/null; then
      echo "not root and no sudo: ask an administrator for: apt-get install$missing" >&2
      return 1
    fi
    as_root="sudo"
  fi
  $as_root env DEBIAN_FRONTEND=noninteractive apt-get update -qq
  # shellcheck disable=SC2086
  $as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends \
    $missing >/dev/null
}

# build PRESET [CMAKE OPTION...]
build() {
  preset=$1
  shift
  cmake --preset "$preset" "$@" >"build-$preset.log" 2>&1 &&
    cmake --build --preset "$preset" >>"build-$preset.log" 2>&1 || {
    tail -40 "build-$preset.log" >&2
    return 1
  }
  mkdir -p "build/$preset" && mv "build-$preset.log" "build/$preset/build.log"
}

# nvdisasm and cuobjdump as Python packages, for toolkits that come without them
cuda_tools_version=13.5.37
cuda_tools=build/tools/nvdisasm-$cuda_tools_version

# the nvcc that made a build
cuda_nvcc() {
  sed -n 's/^RGM_NVCC:[A-Z]*=//p' "$1/CMakeCache.txt"
}

# cuda_tool NAME BUILD: where it is: on the PATH, beside the build's nvcc, or in build/tools
cuda_tool() {
  for place in "$(command -v "$1")" "$(dirname "$(cuda_nvcc "$2")")/$1" \
    "$cuda_tools"/nvidia/*/bin/"$1"; do
    if [ -x "$place" ] && [ -f "$place" ]; then
      (cd "$(dirname "$place")" && echo "$PWD/$1")
      return 0
    fi
  done
  return 1
}

cuda_version() {
  "$1" --version | sed -n 's/.*release \([0-9.]*\),.*/\1/p'
}

# need_cuda_tools BUILD: puts both into build/tools where a build has CUDA and the toolkit lacks
# them; where they cannot be had, tools/cuda_mix.sh says so
need_cuda_tools() {
  [ -f "$1/cuda/nvcc.txt" ] || return 0
  cuda_tool nvdisasm "$1" >/dev/null && cuda_tool cuobjdump "$1" >/dev/null && return 0
  python3 -m pip --version >/dev/null 2>&1 || need python3-pip || return 0
  say "fetching nvdisasm $cuda_tools_version"
  python3 -m pip install -q --disable-pip-version-check --no-deps --root-user-action=ignore \
    --upgrade --target "$cuda_tools" "nvidia-cuda-nvdisasm==$cuda_tools_version" \
    "nvidia-cuda-cuobjdump==$cuda_tools_version" || return 0
  chmod +x "$cuda_tools"/nvidia/*/bin/*
}
