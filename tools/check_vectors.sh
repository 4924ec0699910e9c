#!/bin/sh
# Are the lane loops of the environments vector code? Compiles envs/rollout*.c once more for each
# instruction set, with the flags of build/release, and reads the compiler's report: every LOOP_LANES
# loop must be vectorised at the full width, in every environment. Ends with "vectors ok" or 1.
set -u
cd "$(dirname "$0")/.."
commands=build/release/compile_commands.json
[ -f $commands ] || { echo "build first: cmake --preset release" >&2; exit 64; }
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# what the loops do: each of these calls stands in at least one of them
calls='rgm_normals rgm_logistic ENV_(derive) ENV_(observe) ENV_(step) policy_stochastic
  policy_deterministic policy_continuous pid_act ENV_(clinician)'

# FILE:LINE NEEDS FIRST-CALL... of every lane loop, by the text from its line to the closing brace;
# NEEDS: what an environment must define to have it (ENV_CLINICIAN), or -
awk -v calls="$(echo $calls)" '
  FNR == 1 { inside = 0; needs = "-" }
  /^#if(def)? ENV_/ { needs = $2 }
  /^#endif/ { needs = "-" }
  /LOOP_LANES/ && !/#define/ { inside = 1; depth = 0; place = FILENAME ":" FNR; names = "" }
  inside {
    n = split(calls, call, " ")
    for (i = 1; i <= n; i++) if (index($0, call[i] "(")) names = names " " call[i]
    depth += gsub(/\{/, "{") - gsub(/\}/, "}")
    if (depth <= 0) { print place, needs names; inside = 0 }
  }' $(git ls-files -co --exclude-standard 'kernels/*.h' 'envs/*.h' 'envs/*.c') >"$work/loops"
bad=0
for call in $calls; do
  grep -qF " $call" "$work/loops" || {
    echo "no LOOP_LANES loop calls $call: if it was renamed, change the list in tools/check_vectors.sh"
    bad=$((bad + 1))
  }
done

sets=0
environments=0
for source in envs/rollout*.c; do
  environments=$((environments + 1))
  for pair in avx2:32 avx512:64; do
    isa=${pair%:*} width=${pair#*:}
    line=$(jq -r --arg isa "RGM_ISA=$isa" --arg source "/$source" '.[] |
      select((.file | endswith($source)) and (.command | contains($isa + " "))) | .command' $commands)
    [ -n "$line" ] || continue
    sets=$((sets + 1))
    # the same command, into nothing, with a report
    line=$(echo "$line" | sed -E 's# -o [^ ]+# -o /dev/null#; s# -M[DTF]( [^ -][^ ]*)?##g')
    $line -fopt-info-vec-optimized="$work/$isa" || exit 1
    while read -r place needs names; do
      [ "$needs" = - ] || grep -q "^#define $needs" "$source" || continue
      if ! grep -qE "(^|/)$place:[0-9]+: optimized: loop vectorized using $width byte" "$work/$isa"; then
        echo "$place: $source, $isa: not vectorised with $width bytes: ${names:-a lane loop}"
        bad=$((bad + 1))
      fi
    done <"$work/loops"
  done
done
[ $sets -gt 0 ] || echo "SKIP no instruction set of x86-64 in this build"
[ $bad = 0 ] || exit 1
echo "vectors ok: $(wc -l <"$work/loops") lane loops, $environments environments, $sets reports"
