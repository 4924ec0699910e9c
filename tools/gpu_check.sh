#!/bin/bash
# tools/gpu_check.sh [--prefix DIR] [--out DIR] [--dry-run] PART...
# What to run on a host with an NVIDIA GPU, nvcc, CMake and ninja, and the packages of tools/common.sh either
# installed or unpacked under --prefix. Every part takes less than 8 minutes; run them in this order:
#   build      the program, the tests and the CUDA module for the card that is here
#   table      the kernel table and the rollouts on the card: bits against the CPU
#   paper      trainings and evaluations with run.backend=cuda: digests against the CPU, the paper's figures
#   sweep      the 256-trial sweep on both: tables and times
#   sanitizer  compute-sanitizer memcheck and racecheck over the kernel table
#   bench      regimen bench on the card, beside its own peaks
#   report     rows for kernels/cuda/GPU_RESULTS.md from what the parts above left in --out
# --dry-run takes the host-run form of the same sources in the card's place and small sizes, so that every
# part can be tried without a GPU. Exits with 1 if a part fails.
set -u
cd "$(dirname "$0")/.."
prefix="" out=build/gpu/results dry=0 parts="" bad=0
while [ $# -gt 0 ]; do
  case $1 in
  --prefix) prefix=$2 && shift ;;
  --out) out=$2 && shift ;;
  --dry-run) dry=1 ;;
  build | table | paper | sweep | sanitizer | bench | report) parts="$parts $1" ;;
  *) echo "gpu_check: no part \"$1\"; there are: build table paper sweep sanitizer bench report" >&2; exit 64 ;;
  esac
  shift
done
[ -n "$parts" ] || parts="build table paper sweep sanitizer bench report"
mkdir -p "$out"
tree=build/gpu
small=""
if [ $dry = 1 ]; then
  tree=build/release
  export RGM_CUDA_MODULE=$PWD/$tree/libregimen_cuda_host.so
  small="--set env.steps=33 --set run.replicas=2 --set run.steps=3"
else
  export RGM_CUDA_MODULE=$PWD/$tree/libregimen_cuda.so
fi
export RGM_TEST_CUDA=$RGM_CUDA_MODULE
bin=$tree/regimen

# check WHAT COMMAND...: runs it, its output goes to a file of --out
check() {
  local name=$1 begun
  shift
  begun=$(date +%s)
  if "$@" >"$out/$name.log" 2>&1; then
    printf 'ok    %-28s %4d s\n' "$name" $(($(date +%s) - begun))
  else
    printf 'FAIL  %-28s %4d s, %s\n' "$name" $(($(date +%s) - begun)) "$out/$name.log"
    tail -15 "$out/$name.log"
    bad=1
  fi
}

part_build() {
  if [ $dry = 1 ]; then
    check build sh -c 'cmake --preset release -DRGM_TESTS=ON && cmake --build --preset release'
    return
  fi
  local capability flags=""
  capability=$(nvidia-smi --query-gpu=compute_cap --format=csv,noheader | head -1 | tr -d '. ')
  [ -n "$capability" ] || { echo "FAIL  nvidia-smi sees no GPU"; bad=1; return; }
  if [ -n "$prefix" ]; then
    flags="-Wl,-rpath,$prefix/usr/lib/x86_64-linux-gnu -Wl,--disable-new-dtags"
  fi
  check build sh -c "cmake -S . -B $tree -G Ninja -DCMAKE_BUILD_TYPE=Release -DRGM_TESTS=ON \
    -DRGM_CUDA_ARCHITECTURES=$capability -DCMAKE_PREFIX_PATH='$prefix/usr' \
    -DCMAKE_EXE_LINKER_FLAGS='$flags' && ninja -C $tree"
  nvidia-smi --query-gpu=name,driver_version,memory.total --format=csv,noheader >"$out/device.txt"
}

part_table() {
  local test
  for test in test_cuda test_cuda_rollout; do
    [ ! -x $tree/$test ] || check "table-$test" $tree/$test --verbose -j1
  done
}

# same NAME CONFIG OPTION...: a training on both backends ends with one digest
same() {
  local name=$1 config=$2 backend
  shift 2
  for backend in cpu cuda; do
    rm -rf "$out/$name-$backend"
    # shellcheck disable=SC2086
    check "$name-$backend" $bin train "$config" --out "$out/$name-$backend" --set run.backend=$backend \
      --json --quiet "$@" $small
  done
  local cpu cuda
  cpu=$(grep -o '"digest": "[0-9a-f]*"' "$out/$name-cpu.log")
  cuda=$(grep -o '"digest": "[0-9a-f]*"' "$out/$name-cuda.log")
  if [ -n "$cpu" ] && [ "$cpu" = "$cuda" ]; then
    echo "ok    $name: the CPU's digest"
  else
    echo "FAIL  $name: digests differ, or there is none"
    bad=1
  fi
}

part_paper() {
  same cem configs/propofol_cem.yaml
  same pid_tuned configs/propofol_pid_tuned.yaml
  local patients=5000
  [ $dry = 0 ] || patients=20
  check cem-eval $bin eval "$out/cem-cuda" --set run.backend=cuda --set eval.patients=$patients --quiet
  check pid-eval $bin eval configs/propofol_pid.yaml --set run.backend=cuda \
    --set eval.patients=$patients --quiet
}

# the table of a sweep, packs and all, is the CPU's; the time of both is in the log
part_sweep() {
  local backend less=""
  [ $dry = 0 ] || less="--set sweep.trials=8 --set sweep.bracket=8 --set run.steps=40 --set sweep.first=10
    --set env.steps=33"
  for backend in cpu cuda; do
    rm -rf "$out/sweep-$backend"
    # shellcheck disable=SC2086
    check "sweep-$backend" $bin sweep configs/sweeps/propofol.yaml --out "$out/sweep-$backend" \
      --set run.backend=$backend --quiet $less
  done
  if cmp -s "$out/sweep-cpu/results.csv" "$out/sweep-cuda/results.csv"; then
    echo "ok    sweep: the CPU's table"
  else
    echo "FAIL  sweep: tables differ, or there is none"
    bad=1
  fi
}

part_sanitizer() {
  local tool
  if [ $dry = 1 ]; then
    echo "SKIP  the host-run form has guards of its own, and the tests' sanitizer build"
    return
  fi
  command -v compute-sanitizer >/dev/null || { echo "FAIL  no compute-sanitizer"; bad=1; return; }
  for tool in memcheck racecheck; do
    check sanitizer-$tool compute-sanitizer --tool $tool --error-exitcode 1 --target-processes all \
      $tree/test_cuda -j1
  done
}

part_bench() {
  local suite
  if [ $dry = 1 ]; then
    echo "SKIP  bench: its shapes take hours on the host-run form"
    return
  fi
  for suite in rollout mlp cem io; do
    # what it has no rows for (a library that is not installed) stands in the log
    check bench-$suite sh -c "$bin bench $suite --set run.backend=cuda --json \
      >'$out/bench-$suite.json'"
  done
}

part_report() {
  command -v jq >/dev/null || { echo "SKIP  report: no jq here; run it where the files of $out are taken to"; return; }
  {
    echo "## $(cat "$out/device.txt" 2>/dev/null || echo 'host-run form, no device'), $(date +%F)," \
      "commit $(git rev-parse --short=12 HEAD 2>/dev/null || echo unknown)"
    echo
    echo "| suite | case | replicas | episodes | value | unit | of peak | times ours |"
    echo "|---|---|---|---|---|---|---|---|"
    for file in "$out"/bench-*.json; do
      [ -s "$file" ] || continue
      jq -r '.[] | "| \(.suite) | \(.case) | \(.replicas // "") | \(.patients // "") | \(.value) | \(.unit) | \(.fraction_of_peak * 1000 | round / 10) % | \(if .times_ours then "\(.times_ours * 100 | round / 100), \(.library // .case)" else "" end) |"' "$file"
    done
    echo
    for file in "$out"/table-*.log "$out"/sanitizer-*.log; do
      [ -s "$file" ] && echo "- $(basename "$file" .log): $(grep -aE 'Tested:|ERROR SUMMARY' "$file" | tail -1)"
    done
    echo
  } >"$out/rows.md"
  cat "$out/rows.md"
}

for part in $parts; do
  "part_$part"
done
exit $bad
