# Staged treatment rules: R's reference values, the whole job, policies' values. Sourced by
# tools/show.

ci="$ci dtr dtr-bits dtr-files dtr-treat"
more="$more dtr-whole dtr-peers"

# tests NAME: a test program's tally
dtr_tests() {
  local n
  n=$(build/release/"$1" --verbose 2>&1 | grep -o 'Tested: .*' | tail -1)
  row "$2" "Failing: 0" "$(echo "$n" | cut -d'|' -f1-2 | tr -s ' |' ' ')" \
    "$(echo "$n" | grep -c 'Failing: 0 | Crashing: 0' || true)"
}

# dtr_near NAME ASKED MEASURED RELATIVE
dtr_near() {
  row "$1" "$2" "$(printf '%.12g' "$3")" \
    "$(holds "($3) - ($2) <= $4 * (($2) < 0 ? -($2) : ($2)) && ($2) - ($3) <= $4 * (($2) < 0 ? -($2) : ($2))")"
}

show_dtr() {
  local file=$work/dtr.json published="--set algorithm.hierarchy=as_published"
  dtr_tests test_dwols "psi, 999 x 12 replicates, Rubin, DTRreg, bad inputs"
  dtr_tests test_ope "adr, wis in both modes, laws of imputations"
  $bin train configs/rrt_dwols_complete.yaml --out "$work/complete" --quiet $published \
    --set algorithm.resample=splitmix >/dev/null
  $bin eval "$work/complete" --quiet --json >"$file"
  dtr_near "psi of stage 1, constant" -22.4324124284279 "$(jq '.stages[0].psi[0]' "$file")" 1e-9
  dtr_near "its bootstrap standard error" 9.26353533767641 "$(jq '.stages[0].se[0]' "$file")" 1e-9
  dtr_near "psi of stage 3, urine output" -13.6571064586227 "$(jq '.stages[2].psi[1]' "$file")" 1e-9
  row "terms missing from the treatment-free model" "abs(ph_k2-ph_k1)" \
    "$(jq -r '.stages[1].missing_from_treatment_free' "$file")" \
    "$(jq -r '.stages[1].missing_from_treatment_free == "abs(ph_k2-ph_k1)"' "$file" | grep -c true || true)"
  $bin eval configs/rrt_evaluate.yaml --quiet --json --set algorithm.replicates=0 \
    --set algorithm.rows=published --set algorithm.observed=published --set algorithm.clip=0 \
    >"$file"
  dtr_near "ADR of the crude rule, as published" 3.04365599246861 "$(jq .policies.crude.value "$file")" 1e-9
  dtr_near "ADR of the observed starts, as published" -0.552978992905047 \
    "$(jq .policies.observed.value "$file")" 1e-9
  $bin eval configs/rrt_evaluate.yaml --quiet --json --set algorithm.replicates=0 >"$file"
  jq -r '.policies | to_entries[] | "  corrected, \(.key): \(.value.value * 1000 | round / 1000) days, cluster se \(.value.cluster_se * 1000 | round / 1000)"' "$file"
  $bin eval configs/rrt_wis.yaml --quiet --json --set algorithm.replicates=0 >"$file"
  dtr_near "WIS of mortality, crude, alive only" 0.224209033 "$(jq .policies.crude.hmor.wis "$file")" 1e-8
  ls "$work/complete"/psi.csv "$work/complete"/psi.tex "$work/complete"/figure*.csv >/dev/null
  row "tables in CSV and LaTeX, data of figures" "4 files" "there" 1
}

# the same digest with any threads, after a kill, and from the given imputations the five limits
show_dtr-bits() {
  local small="--quiet --set algorithm.imputations=6 --set run.steps=6 --set algorithm.replicates=99
    --set run.checkpoint_every=1 --set run.keep=9" n m pid
  $bin train configs/rrt_dwols.yaml --out "$work/a" $small --threads 1 >/dev/null
  $bin train configs/rrt_dwols.yaml --out "$work/b" $small --threads 3 --set run.isa=avx2 >/dev/null
  n=$(digest "$work/a") m=$(digest "$work/b")
  row "threads 1 and 3, AVX-512 and AVX2" "${n:0:16}" "${m:0:16}" "$([ "$n" = "$m" ] && echo 1 || echo 0)"
  $bin train configs/rrt_dwols.yaml --out "$work/c" $small >/dev/null 2>&1 &
  pid=$!
  while [ ! -e "$work/c/checkpoint-2.h5" ] && kill -0 $pid 2>/dev/null; do sleep 0.05; done
  kill -9 $pid 2>/dev/null || true
  wait $pid 2>/dev/null || true
  $bin train configs/rrt_dwols.yaml --out "$work/c" $small --resume >/dev/null
  m=$(digest "$work/c")
  row "killed in the middle, resumed" "${n:0:16}" "${m:0:16}" "$([ "$n" = "$m" ] && echo 1 || echo 0)"
  $bin train configs/rrt_dwols.yaml --out "$work/r" --quiet --set algorithm.imputations=10 \
    --set run.steps=10 --set algorithm.replicates=199 --set algorithm.impute.given=true \
    --set algorithm.hierarchy=as_published --set algorithm.resample=splitmix >/dev/null
  $bin recommend "$work/r" --json --set age=70 --set creat_k1=2.5 --set bun_k1=55 --set pot_k1=5 \
    --set ph_k1=7.3 --set uo_k1=0.1 --set sofa=10 --set bun_k2=65 --set ph_k2=7.35 --set uo_k2=0 \
    --set bun_k3=68 --set uo_k3=0 >"$work/r.json"
  dtr_near "advice, stage 1: blip" -1.85912697263727 "$(jq '.[0].stages[0].blip' "$work/r.json")" 1e-9
  dtr_near "advice, stage 1: upper limit" 1.31285971258264 "$(jq '.[0].stages[0].high' "$work/r.json")" 1e-9
  dtr_near "advice, stage 2: lower limit" -4.57932567400243 "$(jq '.[0].stages[1].low' "$work/r.json")" 1e-9
  dtr_near "advice, stage 3: lower limit" 5.682724609904 "$(jq '.[0].stages[2].low' "$work/r.json")" 1e-9
  row "advice, stringent" "start at stage 3" "stage $(jq '.[0].start_stringent' "$work/r.json")" \
    "$(jq '.[0].start_stringent == 3' "$work/r.json" | grep -c true || true)"
}

# completed tables, traces, Table 1, resamples imputed one by one; the cohort from mimic-code's tables
show_dtr-files() {
  local small="--quiet --set algorithm.imputations=3 --set run.steps=3 --set algorithm.replicates=99"
  local file=$work/files.json n derived=${REGIMEN_DATA:-../shared/data}/mimic3-demo/derived
  dtr_tests test_dwols_export "tables, traces, R-hat, Table 1 recomputed"
  dtr_tests test_import_rrt "import mimic3-rrt: rows by hand, wrong tables"
  $bin train configs/rrt_dwols.yaml --out "$work/files" $small >/dev/null
  $bin eval "$work/files" --quiet --json --set algorithm.export=both --set algorithm.boot_first=6 \
    >"$file"
  n=$(wc -l <"$work/files/imputed.csv")
  row "rows of the completed tables, and a header" "$((4 * 3748 + 1))" "$n" "$(holds "$n == 4 * 3748 + 1")"
  n=$(cd "$work/files" && ls imputed.h5 traces.csv table1.csv table1.tex | wc -l)
  row "HDF5, traces, Table 1 in CSV and LaTeX" "4 files" "$n files" "$(holds "$n == 4")"
  n=$(jq '[.imputation_rhat[].mean] | max' "$file")
  row "R-hat of means, the largest (3 chains)" "told" "$(printf '%.2f' "$n")" "$(holds "$n > 0")"
  # of 67.2223 (14.8567) and 66.7076 (16.731) years, by awk over the cohort
  dtr_near "Table 1, age at stage 1, SMD" -0.0325283 "$(jq '.table1[0][0].smd' "$file")" 1e-5
  row "bootstrap, then imputation: standard errors" "12" \
    "$(jq '.bootstrap_then_imputation.se | length' "$file")" \
    "$(holds "$(jq '.bootstrap_then_imputation.se | length' "$file") == 12")"
  if [ -d "$derived" ]; then
    $bin import mimic3-rrt --dir "$derived" -o "$work/rrt.csv" --set deaths=keep --json >"$file"
    row "mimic3-rrt on the demo: patients, therapy, early deaths" "14, 2, 4" \
      "$(jq -r '"\(.patients), \(.rrt_after), \(.early_deaths)"' "$file")" \
      "$(jq '.patients == 14 and .rrt_after == 2 and .early_deaths == 4' "$file" | grep -c true || true)"
    row "what it says of them" "too few to learn from" "$(jq -r .warning "$file")" \
      "$(jq '.warning == "too few to learn from"' "$file" | grep -c true || true)"
  fi
}

# dtr_cohort SEED PATIENTS: three levels a, then a dose d, whose blips are known; y loses what either
# misses. Both depend on x, f(x) = 2 exp(x) is not linear.
dtr_cohort() {
  awk -v seed="$1" -v n="$2" '
    function u() { seed = (48271 * seed) % 2147483647; return seed / 2147483647 }
    function normal() { return sqrt(-2 * log(u())) * cos(6.283185307179586 * u()) }
    BEGIN {
      print "x,a,d,y,z"
      for (i = 0; i < n; i++) {
        x = 3.4 * u() - 1.7; e1 = exp(0.2 + x); e2 = exp(-0.3 - 0.8 * x)
        v = u() * (1 + e1 + e2); a = (v > 1) + (v > 1 + e1); d = 3 + 0.7 * x + normal()
        y = 2 * exp(x) + (a == 1) * (1 + 1.5 * x) + (a == 2) * (0.5 - x) + normal()
        z = 2 * exp(x) + d * (1 + 0.5 * x) - 0.15 * d * d + normal()
        printf "%.9g,%d,%.9g,%.9g,%.9g\n", x, a, d, y, z
      }
    }'
}

# dtr_errors FILE TRUTH...: the largest error of psi of stage 1, in standard errors
dtr_errors() {
  local file=$1
  shift
  jq --args '.stages[0] as $s | [range($s.psi | length) as $i | ($s.psi[$i] - ($ARGS.positional[$i] | tonumber)) / $s.se[$i] | fabs] | max' "$@" <"$file"
}

# several levels and doses: DTRreg's estimates, blips that are known with one model wrong, and with
# both, bits, the configs
show_dtr-treat() {
  local keys table=$work/cohort.csv file=$work/treat.json n m truth kind
  dtr_tests test_dwols_treat "levels, doses: DTRreg, truth, resamples by rows, bad inputs"
  dtr_cohort 7 8000 >"$table"
  for kind in levels dose; do
    keys="--quiet --set data.path=$table --set algorithm.replicates=40 --set algorithm.stage1.blip=x
      --set algorithm.stage1.free=x"
    if [ $kind = levels ]; then
      truth="1 1.5 0.5 -1" keys="$keys --set algorithm.stage1.treatment=a --set algorithm.outcome=y"
    else
      truth="1 0.5 -0.15" keys="$keys --set algorithm.stage1.treatment=d --set algorithm.outcome=z
        --set algorithm.stage1.range=0,8"
    fi
    $bin train configs/dtr_$kind.yaml --out "$work/$kind" $keys --set algorithm.stage1.propensity=x >/dev/null
    $bin eval "$work/$kind" --quiet --json >"$file"
    n=$(dtr_errors "$file" $truth)
    row "$kind: outcome wrong, largest error of psi" "< 4 errors" "$(printf %.2f "$n")" "$(holds "$n < 4")"
    $bin train configs/dtr_$kind.yaml --out "$work/$kind-free" $keys --set algorithm.stage1.propensity='""' \
      --set 'algorithm.stage1.free=x + exp(x)' >/dev/null
    $bin eval "$work/$kind-free" --quiet --json >"$file"
    n=$(dtr_errors "$file" $truth)
    row "$kind: propensity wrong, largest error" "< 4 errors" "$(printf %.2f "$n")" "$(holds "$n < 4")"
    $bin train configs/dtr_$kind.yaml --out "$work/$kind-both" $keys --set algorithm.stage1.propensity='""' >/dev/null
    $bin eval "$work/$kind-both" --quiet --json >"$file"
    n=$(dtr_errors "$file" $truth)
    row "$kind: both wrong, largest error" "> 10 errors" "$(printf %.1f "$n")" "$(holds "$n > 10")"
    $bin train configs/dtr_$kind.yaml --out "$work/$kind-bits" --threads 3 --set run.isa=avx2 $keys \
      --set algorithm.stage1.propensity=x >/dev/null
    n=$(digest "$work/$kind") m=$(digest "$work/$kind-bits")
    row "$kind: threads, AVX2" "${n:0:16}" "${m:0:16}" "$([ "$n" = "$m" ] && echo 1 || echo 0)"
    $bin train configs/dtr_$kind.yaml --out "$work/own-$kind" --quiet >/dev/null
    n=$($bin recommend "$work/own-$kind" --json --set X1=-1 | jq '.[0].stages[0].treatments | length')
    m=$([ $kind = levels ] && echo 4 || echo 11)
    row "$kind: treatments that advice compares" "$m" "$n" "$(holds "$n == $m")"
  done
}

# R's own loops and mice beside ours
show_dtr-peers() {
  tools/bench_peers_dtr
}

# 100 imputations x 999 resamples x 3 stages in one call
show_dtr-whole() {
  local n
  n=$($bin train configs/rrt_dwols.yaml --out "$work/whole" --quiet --json | jq .seconds)
  row "100 x 999 x 3, imputation and all, double" "<= 12 s, two idle cores" "$n s" "$(holds "$n <= 12")"
  n=$($bin train configs/rrt_dwols.yaml --out "$work/single" --quiet --json \
    --set algorithm.single=true | jq .seconds)
  row "with standard errors in single precision" "<= 5 s" "$n s" "$(holds "$n <= 5")"
  $bin eval "$work/whole" --quiet
}
