# What a run survives: signals, kills, resumption. Sourced by tools/show.

ci="$ci resume kills"
more="$more kills-long"

show_resume() {
  local base="configs/propofol_cem.yaml $small --set run.replicas=3 --set run.report_every=7"
  # shellcheck disable=SC2086
  $bin train $base --out "$work/whole" >/dev/null
  # shellcheck disable=SC2086
  $bin train $base --out "$work/parts" --set run.steps=23 --threads 1 >/dev/null
  # shellcheck disable=SC2086
  $bin train $base --out "$work/parts" --resume --set run.isa=avx2 >/dev/null
  row "stopped at 23, resumed (other threads, ISA)" "$(digest "$work/whole" | cut -c1-16)" \
    "$(digest "$work/parts" | cut -c1-16)" \
    "$([ "$(digest "$work/whole")" = "$(digest "$work/parts")" ] && echo 1 || echo 0)"

  # a signal at some moment, three times, then on to the end
  base="configs/propofol_cem.yaml --quiet --set run.steps=400 --set run.replicas=3"
  # shellcheck disable=SC2086
  $bin train $base --out "$work/whole2" >/dev/null
  for try in 1 2 3; do
    # shellcheck disable=SC2086
    $bin train $base --out "$work/killed" --resume >/dev/null 2>&1 &
    pid=$!
    sleep 0.3
    kill -TERM $pid 2>/dev/null || true
    code=0
    wait $pid || code=$?
    echo "  signal $try: exit code $code (75: stopped, state saved; 0: was done already)"
  done
  # shellcheck disable=SC2086
  $bin train $base --out "$work/killed" --resume >/dev/null
  row "stopped by SIGTERM, resumed" "$(digest "$work/whole2" | cut -c1-16)" \
    "$(digest "$work/killed" | cut -c1-16)" \
    "$([ "$(digest "$work/whole2")" = "$(digest "$work/killed")" ] && echo 1 || echo 0)"
  local same=differ
  if cmp -s "$work/whole2/metrics.jsonl" "$work/killed/metrics.jsonl" &&
    cmp -s "$work/whole2/metrics.csv" "$work/killed/metrics.csv"; then
    same=equal
  fi
  row "  metrics.jsonl and metrics.csv" "equal" "$same" "$([ $same = equal ] && echo 1 || echo 0)"
}

# kill_rounds N: kill -9 at random moments of a run that writes a checkpoint at every step, resumed each
# time; a round is a kill, and a run that comes to its end is followed by another
kill_rounds() {
  local rounds=$1 went=1 kills=0 window=0 runs=0 equal=0 damaged=0 pid code
  local base="configs/propofol_cem.yaml --quiet --set run.replicas=2 --set env.steps=201 --threads 1
    --set run.steps=150 --set run.checkpoint_every=1 --set run.report_every=3"
  # shellcheck disable=SC2086
  $bin train $base --out "$work/whole" >/dev/null
  RANDOM=20260101
  while { [ $kills -lt "$rounds" ] || [ $went = 1 ]; } && [ $runs -lt $((10 * rounds)) ]; do
    went=1
    # shellcheck disable=SC2086
    $bin train $base --out "$work/killed$runs" --resume >/dev/null 2>&1 &
    pid=$!
    if [ $kills -lt "$rounds" ]; then
      sleep "$(printf '0.%03d' $((40 + RANDOM % 260)))"
      kill -9 $pid 2>/dev/null || true
    fi
    code=0
    wait $pid 2>/dev/null || code=$?
    if [ $code = 137 ]; then
      kills=$((kills + 1))
      ls "$work/killed$runs"/*.tmp >/dev/null 2>&1 && window=$((window + 1))
      if ls "$work/killed$runs"/*.h5 >/dev/null 2>&1; then
        $bin verify "$work/killed$runs" >>"$work/verify" 2>&1 || damaged=$((damaged + 1))
      fi
      continue
    fi

    # this one came to its end
    went=0
    local folder=$work/killed$runs
    runs=$((runs + 1))
    if [ $code = 0 ] && cmp -s "$work/whole/metrics.jsonl" "$folder/metrics.jsonl" &&
      cmp -s "$work/whole/metrics.csv" "$folder/metrics.csv" &&
      [ "$(digest "$work/whole")" = "$(digest "$folder")" ] && ! ls "$folder"/*.tmp >/dev/null 2>&1; then
      equal=$((equal + 1))
    fi
  done
  row "kill -9 at random moments, resumed" "$rounds kills" "$kills kills in $runs runs" \
    "$(holds "$kills >= $rounds")"
  row "  while a .tmp file existed" "(some)" "$window of $kills" 1
  row "  folders with a damaged checkpoint" "0" "$damaged" "$(holds "$damaged == 0")"
  row "  end as of the unbroken run, no .tmp left" "$runs of $runs" "$equal of $runs" "$(holds "$equal == $runs")"
}

show_kills() {
  kill_rounds 12
}

show_kills-long() {
  kill_rounds 200
}
