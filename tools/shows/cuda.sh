# CUDA without a GPU: the same sources on the CPU, the ledger, how fast the program starts. Sourced by
# tools/show.

ci="$ci cuda"
more="$more startup gpu-dry-run"

show_cuda() {
  local line pair small="--quiet --set env.steps=101 --set algorithm.hidden=24 --set run.replicas=3"
  for pair in "test_cuda:kernel table on the host-run CUDA source" \
    "test_cuda_rollout:rollouts, all forms, and CEM digests" \
    "test_cuda_host:planted barrier, race, bound, stride caught"; do
    line=$(build/release/${pair%%:*} --verbose 2>&1 | grep -o 'Tested: .*' | tail -1)
    row "${pair#*:}" "Failing: 0" "$(echo "$line" | cut -d'|' -f1-2 | tr -s ' |' ' ')" \
      "$(echo "$line" | grep -c 'Failing: 0 | Crashing: 0' || true)"
  done

  # the whole program
  # shellcheck disable=SC2086
  $bin train configs/propofol_cem.yaml $small --set run.steps=5 --out "$work/cpu" >/dev/null
  # shellcheck disable=SC2086
  RGM_CUDA_MODULE=$PWD/build/release/libregimen_cuda_host.so $bin train configs/propofol_cem.yaml $small \
    --set run.steps=5 --set run.backend=cuda --out "$work/cuda" >/dev/null
  row "training with backend: cuda, host-run" "$(digest "$work/cpu" | cut -c1-16)" \
    "$(digest "$work/cuda" | cut -c1-16)" \
    "$([ "$(digest "$work/cpu")" = "$(digest "$work/cuda")" ] && echo 1 || echo 0)"
  line=$(tools/cuda_ledger.sh build/release 2>&1 | tail -1)
  row "ledger of registers and spills" "0 spills, no growth" "$line" \
    "$(echo "$line" | grep -cE 'no spills|SKIP' || true)"
  line=$(tools/cuda_mix.sh build/release 2>&1 | tail -1)
  row "ledger of instructions" "0 local, no growth" "$line" \
    "$(echo "$line" | grep -cE 'no local memory|SKIP.*no nvcc' || true)"
  line=$(tools/cuda_mix.sh --planted build/release 2>&1 | tail -1)
  row "planted local array, fp64, call, ..." "each found" "$line" \
    "$(echo "$line" | grep -cE 'each found|SKIP.*no nvcc' || true)"
}

# fastest COMMAND...: ms, the best of 30 starts
fastest() {
  local best=999999 i begun took
  for i in $(seq 30); do
    begun=$(date +%s%N)
    "$@" >/dev/null 2>&1 || true
    took=$((($(date +%s%N) - begun) / 1000))
    [ $took -lt $best ] && best=$took
  done
  awk "BEGIN { printf \"%.1f\", $best / 1000 }"
}

show_startup() {
  local ms
  ms=$(fastest $bin --version)
  row "regimen --version, no driver" "< 5 ms" "$ms ms" "$(holds "$ms < 5")"
  ms=$(RGM_CUDA_MODULE=$PWD/build/release/libregimen_cuda.so fastest $bin plan configs/propofol_cem.yaml)
  row "regimen plan, the CUDA module named, no driver" "< 5 ms" "$ms ms" "$(holds "$ms < 5")"
  ms=$(fastest $bin plan configs/propofol_cem.yaml)
  row "regimen plan, no driver" "< 5 ms" "$ms ms" "$(holds "$ms < 5")"
}

show_gpu-dry-run() {
  tools/gpu_check.sh --dry-run --out "$work/gpu" build table paper sweep sanitizer bench report || verdict=1
}
