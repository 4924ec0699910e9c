#!/bin/sh
# The ledger of the CUDA kernels: what ptxas says of each on each architecture, against
# kernels/cuda/ledger.txt. Fails where a kernel spills or keeps anything in local memory, unless
# kernels/cuda/mix_rules.txt has it under `local` (they are counted aloud), where one
# needs more registers or shared memory than the ledger says, and where one is new or gone.
#   tools/cuda_ledger.sh [--update] [BUILD]     BUILD: build/release, built with nvcc
# Registers depend on the compiler: with another nvcc than the ledger's only spills are looked at.
set -u
cd "$(dirname "$0")/.."
update=no
[ "${1:-}" = --update ] && update=yes && shift
build=${1:-build/release}
ledger=kernels/cuda/ledger.txt
now=$(mktemp)
trap 'rm -f "$now" "$now.old"' EXIT
if [ ! -f "$build/cuda/nvcc.txt" ]; then
  echo "SKIP: $build has no CUDA module (no nvcc)"
  exit 0
fi

# file, architecture, kernel, registers, bytes of shared memory, stack frame, spilled bytes
for log in "$build"/cuda/*.ptxas; do
  awk -v file="$(basename "$log" .ptxas)" '
    /Compiling entry function/ { split($0, q, "\047"); kernel = q[2]; arch = q[4] }
    /bytes stack frame/ { stack = $1; spill = $5 + $9 }
    /Used [0-9]+ registers/ {
      regs = $5; shared = 0
      for (i = 1; i < NF; i++) if ($(i + 2) ~ /^smem/) shared = $i
      print file, arch, regs, shared, stack, spill, kernel
    }' "$log"
done | c++filt | sed -E 's/ void / /; s/\(dw_form\)//g; s/\([^()]*\)$//; s/, /,/g' | LC_ALL=C sort >"$now.old"
{
  echo "# nvcc $(cut -d' ' -f1 "$build/cuda/nvcc.txt"); tools/cuda_ledger.sh --update writes this file"
  echo "# file arch registers shared stack spilled kernel"
  cat "$now.old"
} >"$now"

bad=$(awk '
  NR == FNR { if ($1 == "local") rule[++rules] = $2; next }
  !/^#/ && ($5 > 0 || $6 > 0) {
    for (i = 1; i <= rules; i++) if ($7 ~ rule[i]) next
    print "FAIL: local memory or spills: " $0
  }' kernels/cuda/mix_rules.txt "$now")
ruled=$(awk '!/^#/ && ($5 > 0 || $6 > 0)' "$now" | wc -l)
if [ "$update" = yes ]; then
  cp "$now" "$ledger"
elif [ "$(head -1 "$now")" != "$(head -1 "$ledger")" ]; then
  echo "another nvcc than the ledger's: registers are not compared"
else
  bad="$bad$(awk '
    /^#/ { next }
    { key = $1 " " $2 " " $7 $8 $9 }
    NR == FNR { regs[key] = $3; shared[key] = $4; next }
    !(key in regs) { print "\nFAIL: not in the ledger: " $0; next }
    $3 > regs[key] || $4 > shared[key] {
      print "\nFAIL: grew from " regs[key] " registers, " shared[key] " bytes shared: " $0 }
    { delete regs[key] }
    END { for (key in regs) print "\nFAIL: in the ledger, not in the build: " key }' "$ledger" "$now")"
fi
if [ -n "$bad" ]; then
  printf '%s\n' "$bad" | grep .
  exit 1
fi
count=$(grep -vc '^#' "$now")
echo "$count kernels on $(cut -d' ' -f2- "$build/cuda/nvcc.txt"): no spills, no local memory, but for $ruled as ruled; at most" \
  "$(awk '!/^#/ && $3 > most { most = $3 } END { print most }' "$now") registers"
