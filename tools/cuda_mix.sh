#!/bin/sh
# The instructions of the CUDA kernels: the machine code of each on each architecture, counted by
# class (tools/cuda_mix.awk), against the rules of kernels/cuda/mix_rules.txt and the counts of
# kernels/cuda/mix.txt. Fails where a kernel touches local memory, calls a function or breaks a
# rule, where one, or its hot loop, has grown by more than a tenth, and where one is new or gone.
#   tools/cuda_mix.sh [--update] [BUILD]    BUILD: build/release, built with nvcc
#   tools/cuda_mix.sh --planted [BUILD]     shows that kernels with planted faults are found
# All counts are left in BUILD/cuda/mix.txt. Counts depend on the compiler: with another nvcc or
# nvdisasm than the ledger's only the rules are looked at.
# Calls: IEEE division and square root end in a function of the compiler's (__cuda_sm*) behind a
# test that hardly ever holds, and so do 64-bit and fp64 division: legal outside of `tight` loops.
set -u
cd "$(dirname "$0")/.."
. tools/common.sh
mode=check
case ${1:-} in
--update | --planted)
  mode=${1#--}
  shift
  ;;
esac
build=${1:-build/release}
folder=${MIX_FOLDER:-kernels/cuda} # of rules and ledger
ledger=$folder/mix.txt
rules=$folder/mix_rules.txt
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
if [ ! -f "$build/cuda/nvcc.txt" ]; then
  echo "SKIP: $build has no CUDA module (no nvcc)"
  exit 0
fi
nvdisasm=$(cuda_tool nvdisasm "$build")
cuobjdump=$(cuda_tool cuobjdump "$build")
if [ -z "$nvdisasm" ] || [ -z "$cuobjdump" ]; then
  echo "SKIP: neither the toolkit nor build/tools has nvdisasm and cuobjdump (no nvdisasm)"
  exit 0
fi

# a build of tests/cuda_mix, whose kernels must each be found
if [ "$mode" = planted ]; then
  mkdir -p "$work/cuda"
  "$(cuda_nvcc "$build")" -std=c++17 -O3 -fmad=false -gencode=arch=compute_90,code=sm_90 -I. \
    -c tests/cuda_mix/planted.cu -o "$work/cuda/planted.o" || exit 1
  cp "$build/cuda/nvcc.txt" "$work/cuda/"
  cp "$build/CMakeCache.txt" "$work/"
  {
    echo "# nvcc $(cut -d' ' -f1 "$build/cuda/nvcc.txt"), nvdisasm $(cuda_version "$nvdisasm")"
    cat tests/cuda_mix/mix.txt
  } >"$work/mix.txt"
  cp tests/cuda_mix/mix_rules.txt "$work/"
  MIX_FOLDER=$work tools/cuda_mix.sh "$work" >"$work/said" && {
    echo "FAIL: planted faults, none found"
    exit 1
  }
  lost=0
  while read -r kernel fault; do
    if ! grep -F "FAIL: $fault" "$work/said" | grep "$kernel"; then
      echo "FAIL: not found: $fault: $kernel"
      lost=1
    fi
  done <tests/cuda_mix/faults.txt
  extra=$(grep -c '^FAIL' "$work/said")
  asked=$(wc -l <tests/cuda_mix/faults.txt)
  if [ "$extra" != "$asked" ] || [ $lost = 1 ]; then
    cat "$work/said"
    echo "FAIL: $extra faults found, $asked planted"
    exit 1
  fi
  echo "$asked planted faults: each found, and no other"
  exit 0
fi

# cubins, and the counts of each, kept by checksum: nvdisasm takes half a second to start
for object in "$build"/cuda/*.o; do
  stem=$(basename "$object" .o)
  mkdir -p "$work/$stem"
  object=$(cd "$(dirname "$object")" && pwd)/$stem.o
  (cd "$work/$stem" && "$cuobjdump" -xelf all "$object" >/dev/null) || exit 1
done
version=$(cuda_version "$nvdisasm")
kept=$build/cuda/mix
mkdir -p "$kept" "$work/counts"
for cubin in "$work"/*/*.cubin; do
  grep -qF .text. "$cubin" || continue # no kernels
  stem=$(basename "$(dirname "$cubin")")
  arch=$(echo "$cubin" | grep -o 'sm_[0-9a-z]*' | tail -1)
  key=$({
    echo "$version"
    cat tools/cuda_mix.awk "$cubin"
  } | sha256sum | cut -c1-24)
  if [ -f "$kept/$key" ]; then
    cp "$kept/$key" "$work/counts/$key"
  else
    echo "$cubin $stem $arch $key"
  fi
done >"$work/todo"
# shellcheck disable=SC2016
PATH=$(dirname "$nvdisasm"):$PATH xargs -r -P "$(nproc)" -L 1 sh -c '
  nvdisasm -c -ndf "$2" >"$2.sass" 2>"$2.said" &&
    awk -v file="$3" -v arch="$4" -f tools/cuda_mix.awk "$2.sass" >"$1/counts/$5"' \
  - "$work" <"$work/todo" || {
  cat "$work"/*/*.said
  echo "FAIL: nvdisasm $version cannot read what nvcc made: $(cat "$build/cuda/nvcc.txt")"
  exit 1
}
rm -rf "$kept" && cp -r "$work/counts" "$kept"

now=$build/cuda/mix.txt
{
  echo "# nvcc $(cut -d' ' -f1 "$build/cuda/nvcc.txt"), nvdisasm $version"
  awk -v header=1 -f tools/cuda_mix.awk
  cat "$work"/counts/* | c++filt |
    sed -E 's/ void / /; s/\([a-z_]*_form\)//g; s/\([^()]*\)$//; s/, /,/g' |
    awk '{ print $1, $2, $NF "\t" $0 }' | LC_ALL=C sort | cut -f2-
} >"$now"

# the ledger: columns whose change says something
shown="total fp32 fp64 mufu int ldg ldg128 stg lds lds128 sts atom bar shfl mma async slow call"
shown="$shown loop loop_fp32 loop_lds kernel"
awk -v shown="file arch $shown" '
  NR == 1 { print $0 "; tools/cuda_mix.sh --update writes this file"; next }
  NR == 2 {
    wanted = split(shown, name, " ")
    for (i = 1; i <= NF; i++) at[$i] = i
  }
  { for (i = 1; i <= wanted; i++)
      printf "%s%s%s", NR == 2 && i == 1 ? "# " : "", $at[name[i]], i < wanted ? " " : "\n" }
' "$now" >"$work/ledger"

# the rules
awk '
  FNR == 1 { table++ }
  /^#/ { next }
  table == 1 { rule[++rules] = $1; names[rules] = $2; next }
  FNR == 2 { for (i = 1; i <= NF; i++) at[$i] = i; next }
  function of(column) { return $at[column] + 0 }
  function fail(what) { print "FAIL: " what ": " $1 " " $2 " " $NF }
  {
    split("", has)
    for (i = 1; i <= rules; i++) if ($NF ~ names[i]) { has[rule[i]] = 1; met[i] = 1 }
    if (of("local") && !("local" in has)) fail("local memory, " of("local") " accesses")
    if (of("foreign")) fail("calls a function")
    if (of("fp64") && !("double" in has) && !("double-once" in has)) fail("fp64 in a float kernel")
    if (of("loop_fp64") && "double-once" in has) fail("fp64 in the hot loop")
    if ("wide" in has && !of("ldg128")) fail("no 128-bit loads of global memory")
    if ("shared-wide" in has && (!of("loop_lds") || of("loop_lds") != of("loop_lds128")))
      fail("shared memory is not read 128 bits at a time")
    if ("tight" in has && !of("loop_fp32")) fail("no hot loop of fp32 arithmetic")
    if ("tight" in has && of("loop_slow") + of("loop_call")) fail("a call in the hot loop")
    if ("tight" in has && of("loop_ldg") + of("loop_fp64"))
      fail("global memory or fp64 in the hot loop")
    if ("matrix" in has && !of("mma")) fail("no matrix instructions")
  }
  END { for (i = 1; i <= rules; i++) if (!met[i])
          print "FAIL: a rule names no kernel: " rule[i] " " names[i] }
' "$rules" "$now" >"$work/bad"

if [ "$mode" = update ]; then
  cp "$work/ledger" "$ledger"
elif [ "$(head -1 "$work/ledger" | cut -d';' -f1)" != "$(head -1 "$ledger" | cut -d';' -f1)" ]; then
  echo "another nvcc or nvdisasm than the ledger's: counts are not compared"
else
  awk '
    FNR == 1 { table++ }
    $1 == "#" && $2 == "file" { for (i = 2; i <= NF; i++) at[$i] = i - 1 }
    /^#/ { next }
    { key = $1 " " $2 " " $NF; all = $at["total"]; hot = $at["loop"] }
    table == 1 { total[key] = all; loop[key] = hot; next }
    !(key in total) { print "FAIL: not in the ledger: " key; next }
    all > 1.1 * total[key] { print "FAIL: grew from " total[key] " to " all " instructions: " key }
    hot > 1.1 * loop[key] { print "FAIL: hot loop grew from " loop[key] " to " hot ": " key }
    { delete total[key] }
    END { for (key in total) print "FAIL: in the ledger, not in the build: " key }
  ' "$ledger" "$work/ledger" >>"$work/bad"
fi
if [ -s "$work/bad" ]; then
  cat "$work/bad"
  exit 1
fi
awk -v archs="$(cut -d' ' -f2- "$build/cuda/nvcc.txt")" '
  NR > 2 { kernels++; total += $3 }
  END { print kernels " kernels on " archs ": " total " instructions, no local memory, no functions, " \
          "fp64 and widths as ruled" }' "$now"
