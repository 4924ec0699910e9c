# What a run survives: signals, kills, resumption. Sourced by tools/show.

ci="$ci resume signals kills soak network patients"
more="$more signals-long kills-long soak-long"

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

# same_end A B: 1 if B ended as A did: digest, best checkpoint and metrics byte for byte, nothing half
# written left behind
same_end() {
  local file
  for file in metrics.jsonl metrics.csv checkpoint-best.h5; do
    cmp -s "$1/$file" "$2/$file" || { echo 0; return; }
  done
  [ "$(digest "$1")" = "$(digest "$2")" ] && ! compgen -G "$2/*.tmp" >/dev/null && echo 1 || echo 0
}

# signal_rounds N: each of four signals at N random moments of a run, then resumed to its end; and two
# in a row, which end it at once
signal_rounds() {
  local base="configs/propofol_cem.yaml --quiet --set run.replicas=2 --set env.steps=401 --threads 1
    --set run.steps=600 --set run.checkpoint_every=50 --set run.report_every=7"
  local signal round pid code saved equal tried twice=0 twice_equal=0 folder
  # shellcheck disable=SC2086
  $bin train $base --out "$work/whole" >/dev/null
  RANDOM=20261121
  for signal in TERM INT USR1 USR2; do
    saved=0 equal=0 tried=0
    # a moment before the start or past the end of the run is no moment of it
    while [ $saved -lt "$1" ] && [ $tried -lt $((5 * $1)) ]; do
      tried=$((tried + 1))
      folder=$work/$signal$tried
      # shellcheck disable=SC2086
      env --default-signal=INT $bin train $base --out "$folder" >/dev/null 2>&1 &
      pid=$!
      sleep "$(printf '0.%03d' $((30 + RANDOM % 500)))"
      kill -$signal $pid 2>/dev/null || true
      code=0
      wait $pid 2>/dev/null || code=$?
      [ $code = 75 ] || { rm -rf "$folder"; continue; }
      saved=$((saved + 1))
      # shellcheck disable=SC2086
      $bin train $base --out "$folder" --resume >/dev/null 2>&1 || true
      equal=$((equal + $(same_end "$work/whole" "$folder")))
      rm -rf "$folder"
    done
    row "SIG$signal at random moments: exit 75" "$1" "$saved of $tried tries" "$(holds "$saved == $1")"
    row "  resumed to the end of the unbroken run" "$1 of $1" "$equal of $saved" "$(holds "$equal == $1")"
  done

  # the second one ends the program at once (143 = 128 + 15), and the last good checkpoint serves
  for ((round = 0; round < $1; round++)); do
    # shellcheck disable=SC2086
    $bin train $base --out "$work/twice$round" >/dev/null 2>&1 &
    pid=$!
    sleep "$(printf '0.%03d' $((50 + RANDOM % 300)))"
    kill -TERM $pid 2>/dev/null && kill -TERM $pid 2>/dev/null || true
    code=0
    wait $pid 2>/dev/null || code=$?
    case $code in 143 | 75) twice=$((twice + 1)) ;; esac
    # shellcheck disable=SC2086
    $bin train $base --out "$work/twice$round" --resume >/dev/null 2>&1 || true
    twice_equal=$((twice_equal + $(same_end "$work/whole" "$work/twice$round")))
    rm -rf "$work/twice$round"
  done
  row "SIGTERM twice in a row: exit 143 (or 75)" "$1" "$twice" "$(holds "$twice == $1")"
  row "  resumed from the last good checkpoint" "$1 of $1" "$twice_equal of $1" "$(holds "$twice_equal == $1")"
}

show_signals() {
  signal_rounds 3
}

show_signals-long() {
  signal_rounds 20
}

# kill_rounds N: kill -9 of a run that writes a checkpoint at every step, resumed each time; a round is
# a kill, and a run that comes to its end is followed by another. Every other kill is at a random
# moment, the others wait for a .tmp file from a random moment on: goes on until N have died, half of
# them while one was there.
kill_rounds() {
  local rounds=$1 went=1 kills=0 window=0 tries=0 runs=0 equal=0 damaged=0 pid code folder
  local base="configs/propofol_cem.yaml --quiet --set run.replicas=2 --set env.steps=201 --threads 1
    --set run.steps=150 --set run.checkpoint_every=1 --set run.report_every=3"
  # shellcheck disable=SC2086
  $bin train $base --out "$work/whole" >/dev/null
  RANDOM=20260101
  local enough="kills >= rounds && 2 * window >= rounds"
  while { ! ((enough)) || [ $went = 1 ]; } && [ $runs -lt $((10 * rounds)) ]; do
    went=1
    folder=$work/killed$runs
    # shellcheck disable=SC2086
    $bin train $base --out "$folder" --resume >/dev/null 2>&1 &
    pid=$!
    if ! ((enough)); then
      sleep "$(printf '0.%03d' $((40 + RANDOM % 260)))"
      tries=$((tries + 1))
      while ((tries % 2 == 0)) && kill -0 $pid 2>/dev/null && ! compgen -G "$folder/*.tmp" >/dev/null; do :; done
      kill -9 $pid 2>/dev/null || true
    fi
    code=0
    wait $pid 2>/dev/null || code=$?
    if [ $code = 137 ]; then
      kills=$((kills + 1))
      compgen -G "$folder/*.tmp" >/dev/null && window=$((window + 1))
      if ls "$folder"/*.h5 >/dev/null 2>&1; then
        $bin verify "$folder" >>"$work/verify" 2>&1 || damaged=$((damaged + 1))
      fi
      continue
    fi

    # this one came to its end
    went=0
    runs=$((runs + 1))
    [ $code != 0 ] || equal=$((equal + $(same_end "$work/whole" "$folder")))
    rm -rf "$folder"
  done
  row "kill -9, resumed" "$rounds kills" "$kills kills in $runs runs" "$(holds "$kills >= $rounds")"
  row "  while a .tmp file existed" "$((rounds / 2)) of them" "$window of $kills" \
    "$(holds "2 * $window >= $rounds")"
  row "  folders with a damaged checkpoint" "0" "$damaged" "$(holds "$damaged == 0")"
  row "  end as of the unbroken run, no .tmp left" "$runs of $runs" "$equal of $runs" \
    "$(holds "$equal == $runs && $runs > 0")"
}

show_kills() {
  kill_rounds 12
}

show_kills-long() {
  kill_rounds 200
}

# soak_minutes N: train, stop, resume, evaluate, verify and fail in one process for N minutes
soak_minutes() {
  local soak figures growth leaked rounds base
  soak=$(dirname "$bin")/soak
  [ -x "$soak" ] || { echo "build the tests first (-DRGM_TESTS=ON)" >&2; exit 64; }
  figures=$(nice -n 19 "$soak" "$1" "$work/soak" || true)
  rounds=$(echo "$figures" | sed -n 's/.*rounds \([0-9]*\).*/\1/p')
  base=$(echo "$figures" | sed -n 's/.*base_kib \([0-9]*\).*/\1/p')
  growth=$(echo "$figures" | sed -n 's/.*growth_kib \([0-9]*\).*/\1/p')
  leaked=$(echo "$figures" | sed -n 's/.*leaked \(-*[0-9]*\).*/\1/p')
  row "soak of $1 minutes, one process" "to its end" "${rounds:-no} rounds" "$(holds "${rounds:-0} > 0")"
  row "  memory after the warm-up" "+ < 1024 KiB" "+ ${growth:-?} of ${base:-?} KiB" \
    "$(holds "${growth:-9999} < 1024")"
  row "  descriptors leaked" "0" "${leaked:-?}" "$(holds "${leaked:-1} == 0")"
}

show_soak() {
  soak_minutes 0.33
}

show_soak-long() {
  soak_minutes "${SOAK_MINUTES:-30}"
}

# the commands of a user without a network: none is there, and none is asked for
show_network() {
  local alone="unshare -rn" sockets=0 failed=0 command
  if ! $alone true 2>/dev/null; then
    alone="unshare -n"
    $alone true 2>/dev/null || { alone=""; echo "SKIP no network namespace may be made here"; }
  fi
  local watch="strace -f -qq -e trace=network -o $work/calls"
  command -v strace >/dev/null || { watch=""; echo "SKIP no strace: calls are not watched"; }
  # shellcheck disable=SC2086
  for command in "train configs/propofol_cem.yaml --out $work/run $small --json" \
    "eval $work/run --quiet --set eval.patients=20" "info $work/run" "verify $work/run"; do
    $alone $watch $bin $command >/dev/null 2>"$work/message" || { failed=$((failed + 1)); cat "$work/message"; }
    if [ -n "$watch" ]; then
      sockets=$((sockets + $(grep -cE '^[0-9]+ +(socket|connect|sendto|sendmsg)\(' "$work/calls" || true)))
    fi
  done
  row "train, eval, info, verify${alone:+ without a network}" "4 of 4" "$((4 - failed)) of 4" \
    "$(holds "$failed == 0")"
  [ -z "$watch" ] || row "  socket and connect calls" "0" "$sockets" "$(holds "$sockets == 0")"
}

# Values of patients that nothing may write or print, planted in a table: every file that is left
# behind and all that is printed is searched for them, as text and as binary numbers.
show_patients() {
  local out=$work/printed config=configs/propofol_schnider1998.yaml code wrong=0 found planted
  mkdir -p "$work/files"
  # five doses and samples of two people; no value is round, so that none turns up by chance
  cat >"$work/good.csv" <<'END'
ID,TIME,DV,AMT,RATE,EVID,AGE,WT,HT,M1F2,A1V2
735197,0,0,97.53124,342.9637,1,43.71937,71.39157,168.31793,2,1
735197,2.1173,3.61937,0,0,0,43.71937,71.39157,168.31793,2,1
735197,9.3371,1.91573,0,0,0,43.71937,71.39157,168.31793,2,1
864291,0,0,83.17391,0,1,61.37919,58.91733,181.73915,1,1
864291,3.7719,2.73915,0,0,0,61.37919,58.91733,181.73915,1,1
END
  sed '3s/3.61937/3.61937mg/' "$work/good.csv" >"$work/text.csv"
  sed '4s/,1.91573,/,"1.91573,/' "$work/good.csv" >"$work/quote.csv"
  sed '3s/,71.39157,/,,/' "$work/good.csv" >"$work/gap.csv"
  sed '5s/83.17391/-83.17391/; 3s/2.1173/-2.1173/; 4s/2,1$/9,1/' "$work/good.csv" >"$work/range.csv"
  sed '3s/$/,97.53124/' "$work/good.csv" >"$work/wide.csv"
  sed '1s/WT/WEIGHT/' "$work/good.csv" >"$work/column.csv"

  # what a user does, with data that are good and bad; all of it from the folder that is searched
  local name
  for name in good text quote gap range wide column; do
    for form in "" --json; do
      code=0
      # shellcheck disable=SC2086
      $bin eval $config --set data.path="$work/$name.csv" --out "$work/files/$name" $form \
        >>"$out" 2>&1 || code=$?
      case $name:$code in good:0 | range:0 | *:65) ;; *) wrong=$((wrong + 1)); echo "  $name: exit $code" ;; esac
    done
    $bin check $config --set data.path="$work/$name.csv" >>"$out" 2>&1 || true
  done
  # shellcheck disable=SC2086
  $bin train configs/propofol_cem.yaml --out "$work/files/run" $small --set run.steps=9 >>"$out" 2>&1
  # shellcheck disable=SC2086
  $bin train configs/propofol_cem.yaml --out "$work/files/run" $small --resume --json >>"$out" 2>&1
  for command in "eval --set eval.patients=5" "eval --json --set eval.patients=5" info "info --json" verify; do
    # shellcheck disable=SC2086
    $bin $command "$work/files/run" >>"$out" 2>&1
  done
  row "commands on good and damaged patient data" "exit 0 or 65" "$wrong others" "$(holds "$wrong == 0")"

  planted=$(/usr/bin/python3 tools/shows/find_values.py "$work/good.csv" "$work/good.csv" | wc -l)
  found=$(/usr/bin/python3 tools/shows/find_values.py "$work/good.csv" "$out" "$work/files" | tee /dev/stderr | wc -l)
  row "  planted values, found where they are" "17" "$planted" "$(holds "$planted == 17")"
  row "  found in $(wc -c <"$out") bytes of output, $(find "$work/files" -type f | wc -l) files" "0" "$found" \
    "$(holds "$found == 0")"
}

ci="$ci threads"
more="$more damage"

# same_digests WHAT OPTION...: the digests of a run with 1 to 4 threads on both instruction sets
same_digests() {
  local what=$1 threads isa count=0 all="" sets
  shift
  sets="avx2"
  grep -q avx512f /proc/cpuinfo && sets="avx2 avx512"
  for isa in $sets; do
    for threads in 1 2 3 4; do
      count=$((count + 1))
      $bin train configs/propofol_cem.yaml --quiet --out "$work/$what-$isa-$threads" --threads $threads \
        --set run.isa=$isa "$@" >/dev/null
      all="$all $(digest "$work/$what-$isa-$threads")"
    done
  done
  row "$what: 1 to 4 threads, $sets" "1 digest of $count runs" \
    "$(echo "$all" | tr ' ' '\n' | grep . | sort -u | wc -l) digest" \
    "$(holds "$(echo "$all" | tr ' ' '\n' | grep . | sort -u | wc -l) == 1")"
}

show_threads() {
  same_digests config-shapes --set run.steps=15 --set run.replicas=3
  same_digests odd-shapes --set run.steps=15 --set run.replicas=7 --set env.steps=401 \
    --set algorithm.episodes=19 --set algorithm.hidden=100
  same_digests many-episodes --set run.steps=5 --set run.replicas=1 --set env.steps=333 \
    --set algorithm.episodes=165
}

show_damage() {
  local line
  for pair in "test_checkpoint:10,000 mutants, 10,000 bit flips: 0 accepted" \
    "test_faults:every n-th I/O call fails, old file intact" \
    "test_state:the same for pairs of files" "test_mutants:5,000 mutated configs"; do
    line=$(build/release/${pair%%:*} --verbose 2>&1 | grep -o 'Tested: .*' | tail -1)
    row "${pair#*:}" "Failing: 0" "$(echo "$line" | cut -d'|' -f1-2 | tr -s ' |' ' ')" \
      "$(echo "$line" | grep -c 'Failing: 0 | Crashing: 0' || true)"
  done
}
