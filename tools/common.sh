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
