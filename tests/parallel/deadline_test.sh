#!/bin/sh
# deadline_test.sh MPIEXEC DEADLINE_RANKS: each mode with ranks that see each other's processes and with
# ranks that only have messages, as on different hosts.
set -u
failures=0
output=$(mktemp)
word=$(mktemp)
trap 'rm -f "$output" "$word"' EXIT

# expect CODE MODE PLACE [PATTERN]...: the job's exit code, and lines that its ranks must say. Who ends
# for want of a rank sets the word.
expect() {
  code=$1 mode=$2 place=$3
  shift 3
  printf '\0\0\0\0' >"$word"
  timeout -s KILL 30 "$mpiexec" --oversubscribe -n 3 "$ranks" "$word" $mode $place >"$output" 2>&1
  found=$?
  verdict=ok
  [ $found -eq "$code" ] || verdict="exit code $found, expected $code"
  for pattern in "$@"; do
    grep -Eq "$pattern" "$output" || verdict="$verdict; nobody said: $pattern"
  done
  is_set=$(od -An -tu4 "$word" | tr -d ' ')
  case $code-$is_set in
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
# The launcher wakes stopped ranks when the first one has ended, so some waits may still end well.
for place in "" apart; do
  stopped="gives no sign of life"
  [ -z "$place" ] && stopped="is stopped, no sign of life"
  expect 71 frozen "$place" "rank 0: .*barrier [0-9]+ of all ranks: rank 1 .*(is missing|$stopped)" \
    "rank 2: .*barrier [0-9]+ of all ranks: rank 1 .*(is missing|$stopped)" "$stopped for 1\.[0-9] s"
  expect 71 silent "$place" "rank 1 \(pid [0-9]+ on .*\) gives no sign of life for 1\.[0-9] s; exit code 71"
  expect 71 chain "$place" "rank 2: receive 1 from rank 1: rank 0 \(" "rank 1: .*: rank 0 \("
  expect 71 wrong "$place" "receive 1 from rank [012]: rank [012] .*(waits too|is missing)"
  expect 0 slow "$place"
  expect 0 busy "$place"
  expect 0 usual "$place"
done
# A signal's death is seen at once; the launcher's own exit code wins.
expect 137 killed "" "rank [02]: .*: rank 1 \(pid [0-9]+ on .*\) is (gone|missing)"
expect 137 killed apart "rank [02]: barrier"
exit $failures
