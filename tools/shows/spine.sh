# The spine: propofol against the paper, packs, files, the README. Sourced by tools/show.

ci="$ci pid pid_tuned schnider vectors packed files readme cem"
more="$more quickstart"

# the run of the README, trained if it is not there yet
reference_run() {
  $bin train configs/propofol_cem.yaml --resume --quiet >/dev/null
  $bin eval runs/propofol_cem --json --quiet >"$work/eval.json"
}

show_quickstart() {
  git clone -q . "$work/clone"
  start=$(date +%s)
  (cd "$work/clone" && sh tools/quickstart) >"$work/log" 2>&1
  took=$(($(date +%s) - start))
  row "tools/quickstart in a fresh clone" "< 180 s" "$took s" "$(holds "$took < 180")"
  row "  leaves runs/propofol_cem" "a checkpoint" \
    "$(ls "$work"/clone/runs/propofol_cem/*.h5 | wc -l) files" 1
  tail -60 "$work/log"
}

show_cem() {
  reference_run
  local c='.controllers.cem_continuous.replicas'
  local n mape oob
  n=$(jq "[$c[] | select(.mape_median <= 1.7 and .oob_abs <= 6.0)] | length" "$work/eval.json")
  mape=$(jq -r "[$c[].mape_median] | \"\(min*1000|round/1000) to \(max*1000|round/1000) %\"" "$work/eval.json")
  oob=$(jq -r "[$c[].oob_abs] | \"\(min*1000|round/1000) to \(max*1000|round/1000) %\"" "$work/eval.json")
  row "CEM continuous, MAPE median of each seed" "<= 1.7 %" "$mape" "$(holds "$n == 10")"
  row "CEM continuous, out of bounds 0.05" "<= 6.0 %" "$oob" "$(holds "$n == 10")"
  row "  seeds that hold both" "10 of 10" "$n of 10" "$(holds "$n == 10")"
}

show_pid() {
  $bin eval configs/propofol_pid.yaml --json --quiet >"$work/pid.json"
  local mape oob kp ki kd
  mape=$(jq .controllers.pid_zn.mape_median "$work/pid.json")
  oob=$(jq .controllers.pid_zn.oob_abs "$work/pid.json")
  read -r kp ki kd <<<"$(jq -r '.parameters.pid_zn | "\(.[0]) \(.[1]) \(.[2])"' "$work/pid.json")"
  row "PID-ZN, MAPE median (consistency check)" "3.4 +- 0.3 %" "$mape" \
    "$(holds "$mape >= 3.1 && $mape <= 3.7")"
  row "PID-ZN, out of bounds 0.05" "(paper 12.4 %)" "$oob" 1
  row "Ziegler-Nichols kp" "8.67 +- 1 %" "$kp" "$(holds "($kp/8.67-1)^2 < 1e-4")"
  row "Ziegler-Nichols ki [1/s]" "0.2435 +- 1 %" "$ki" "$(holds "($ki/0.2435-1)^2 < 1e-4")"
  row "Ziegler-Nichols kd [s]" "77.2 +- 1 %" "$kd" "$(holds "($kd/77.2-1)^2 < 1e-4")"
}

show_pid_tuned() {
  $bin train configs/propofol_pid_tuned.yaml --out "$work/tuned" --quiet >/dev/null
  $bin eval "$work/tuned" --json --quiet --set eval.patients=1000 >"$work/tuned.json"
  local mape
  mape=$(jq .controllers.pid_tuned.mape_median "$work/tuned.json")
  row "population-tuned PID, MAPE median" "<= 0.95 %" "$mape" "$(holds "$mape <= 0.95")"
}

show_schnider() {
  local file=$data/propofol-schnider1998/schnider1998.csv
  if [ ! -f "$file" ]; then
    echo "SKIP: no $file"
    return
  fi
  $bin eval configs/propofol_schnider1998.yaml --json --quiet --set "data.path=$file" >"$work/s.json"
  local mdape
  mdape=$(jq .mdape "$work/s.json")
  row "24 volunteers, MDAPE" "15.3 +- 0.3 %" "$mdape" "$(holds "$mdape >= 15.0 && $mdape <= 15.6")"
  row "24 volunteers, MDPE" "about -0.9 %" "$(jq .mdpe "$work/s.json")" 1
  row "  concentrations" "1006" "$(jq .samples "$work/s.json")" "$(holds "$(jq .samples "$work/s.json") == 1006")"
}

show_vectors() {
  local line
  for program in test_pkpd test_propofol test_scalar test_kernels; do
    line=$(build/release/$program --verbose 2>&1 | grep -o 'Tested: .*' | tail -1)
    row "$program, against double" "Failing: 0" "$(echo "$line" | cut -d'|' -f1-2 | tr -s ' |' ' ')" \
      "$(echo "$line" | grep -c 'Failing: 0 | Crashing: 0' || true)"
  done
}

show_packed() {
  # shellcheck disable=SC2086
  $bin train configs/propofol_cem.yaml $small --set run.replicas=5 --set run.seed=7 \
    --out "$work/pack" >/dev/null
  local equal=0
  for r in 0 1 2 3 4; do
    # shellcheck disable=SC2086
    $bin train configs/propofol_cem.yaml $small --set run.replicas=1 --set run.seed=$((7 + r)) \
      --out "$work/alone$r" >/dev/null
    equal=$((equal + $(/usr/bin/python3 - "$work/pack/checkpoint-60.h5" "$work/alone$r/checkpoint-60.h5" "$r" <<'PY'
import sys, h5py
pack, alone, r = h5py.File(sys.argv[1]), h5py.File(sys.argv[2]), int(sys.argv[3])
same, count = True, 0
def compare(name, item):
    global same, count
    if isinstance(item, h5py.Dataset) and name != "clock":
        count += 1
        same = same and item[()][r].tobytes() == alone["tensors/" + name][()][0].tobytes()
pack["tensors"].visititems(compare)
print(1 if same and count >= 9 else 0)
PY
    )))
  done
  row "replicas of a pack equal to the run alone" "5 of 5, bit for bit" "$equal of 5" "$(holds "$equal == 5")"
}

show_files() {
  # shellcheck disable=SC2086
  $bin train configs/propofol_cem.yaml $small --set run.steps=3 --out "$work/run" >/dev/null
  local file=$work/run/checkpoint-3.h5 names
  names=$(h5dump -H "$file" | grep -c 'ATTRIBUTE "unit"' || true)
  row "h5dump opens a checkpoint" "names, axes, units" "$names datasets with units" "$(holds "$names >= 10")"
  names=$(/usr/bin/python3 -c "
import h5py
f = h5py.File('$file')
w = f['tensors/policy/0/weight']
print(w.shape == (10, 4, 128) and w.attrs['axes'] in ('replica, in, out', b'replica, in, out') and 'unit' in w.attrs)")
  row "h5py reads policy/0/weight" "(10, 4, 128), axes, unit" "$names" "$([ "$names" = True ] && echo 1 || echo 0)"
  $bin info "$file" | sed -n '1,10p'
}

show_readme() {
  local lines
  lines=$(wc -l <README.md)
  row "README length" "at most three screens" "$lines lines" "$(holds "$lines <= 150")"
}
