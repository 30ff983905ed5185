#!/bin/sh
# deadline_test.sh MPIEXEC DEADLINE_RANKS: each mode with ranks that see each other's processes and with
# ranks that only have messages, as on different hosts.
set -u
failures=0
output=$(mktemp)
word=$(mktemp)
trap 'rm -f "$output" "$word"' EXIT

# expect CODES MODE PLACE NEVER [PATTERN]...: the job's exit code, a line that no rank may say, and lines that some
# rank must. Who ends for want of a rank sets the word.
expect() {
  codes=$1 mode=$2 place=$3 never=$4
  shift 4
  printf '\0\0\0\0' >"$word"
  timeout -s KILL 30 "$mpiexec" --oversubscribe -n 3 "$ranks" "$word" $mode $place >"$output" 2>&1
  found=$?
  verdict=ok
  case " $codes " in
    *" $found "*) ;;
    *) verdict="exit code $found, expected $codes" ;;
  esac
  for pattern in "$@"; do
    grep -Eq "$pattern" "$output" || verdict="$verdict; nobody said: $pattern"
  done
  grep -Eq "$never" "$output" && verdict="$verdict; somebody said: $never"
  is_set=$(od -An -tu4 "$word" | tr -d ' ')
  case $found-$is_set in
    71-0 | 0-1) verdict="$verdict; the word is $is_set" ;;
  esac
  echo "$mode $place: $verdict"
  if [ "$verdict" != ok ]; then
    failures=$((failures + 1))
    cat "$output"
  fi
}

mpiexec=$1
ranks=$2
# One rank that names the right one is what can be asked for: from the first end on, Open MPI's launcher may leave
# the others a second or nothing (each further end cuts its sleep between SIGTERM and SIGKILL short), and it wakes
# stopped ranks, so that some waits still end well. A busy machine lets a rank look late: 1 s may be 4.
names="chunkstate: rank [012]: .*: rank"
for place in "" apart; do
  stopped="gives no sign of life"
  [ -z "$place" ] && stopped="is stopped, no sign of life"
  expect 71 frozen "$place" "$names [02] \(" "rank [02]: barrier [0-9]+ of all ranks: rank 1 .*$stopped for [1-9]\.[0-9] s"
  expect 71 silent "$place" "$names [02] \(" \
    "rank [02]: .*: rank 1 \(pid [0-9]+ on .*\) gives no sign of life for [1-9]\.[0-9] s; exit code 71"
  # Rank 1, for whom rank 2 waits, is not to blame.
  expect 71 chain "$place" "$names [12] \(" "rank (1: receive 1 from rank 0|2: receive 1 from rank 1): rank 0 \("
  expect 71 wrong "$place" "no sign of life" "receive 1 from rank [012]: rank [012] .*(waits too|is missing)"
  expect 0 slow "$place" "$names"
  expect 0 busy "$place" "$names"
  expect 0 usual "$place" "$names"
done
# A signal's death is seen at once. The job's exit code is the launcher's, or ours if it hears of ours first.
expect "137 71" killed "" "$names [02] \(" "rank [02]: .*: rank 1 \(pid [0-9]+ on .*\) is (gone|missing)"
expect "137 71" killed apart "$names [02] \(" "rank [02]: barrier"
exit $failures
