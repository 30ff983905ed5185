#!/usr/bin/env bash
# Fuzzes every parser from the kept corpus; one table; fails on any finding.
#   bash tests/fuzz/run.sh SECONDS [JOBS]   each target for SECONDS, JOBS processes at a time (2);
#                                           targets share what is left of more JOBS than targets
#   bash tests/fuzz/run.sh --pack DIR       copies the targets, their libraries (all but glibc's) and
#                                           the corpus to DIR, where run.sh runs on another machine
#   bash tests/fuzz/run.sh --minimise       adds what the last run found to the kept corpus, then keeps
#                                           the fewest inputs that reach the same code
# Needs `cmake --preset fuzz && cmake --build --preset fuzz`. What it finds is under build/fuzz/found.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
if [ -d "$here/bin" ]; then  # packed
  binaries=$here/bin found=$here/found
  export LD_LIBRARY_PATH=$here/lib
else
  binaries=$here/../../build/fuzz/tests/fuzz found=$here/../../build/fuzz/found
fi
# The files of one kind are nearly the same, so all together take a tenth.
seeds_of_results() { mkdir -p "$1" && tar xf "$here"/corpus/results.tar.* -C "$1"; }
targets=(config experiment index journal prompts results safetensors tokenizer)
declare -A max_len=([config]=4096 [experiment]=4096 [index]=4096 [journal]=16384 [prompts]=4096
                    [results]=262144 [safetensors]=4096 [tokenizer]=16384)
declare -A kept_len=([journal]=5000 [results]=262144 [tokenizer]=4096)  # of the kept corpus
export UBSAN_OPTIONS=print_stacktrace=1
# Freed memory that ASan holds back counts against the limit on memory, 256 MB of it by default.
export ASAN_OPTIONS=quarantine_size_mb=64

pack() {
  local to=$1 target library
  mkdir -p "$to/bin" "$to/lib"
  cp -r "$here/run.sh" "$here/corpus" "$here/dictionaries" "$to/"
  xz -dc "$here/corpus/results.tar.xz" | gzip -9 >"$to/corpus/results.tar.gz"  # xz may not be there
  rm "$to/corpus/results.tar.xz"
  for target in "${targets[@]}"; do
    strip -g -o "$to/bin/fuzz_$target" "$binaries/fuzz_$target"
    ldd "$binaries/fuzz_$target" | awk '$2 == "=>" {print $3}'
  done | sort -u | grep -vE '/(libc|libm|libdl|librt|libpthread|libresolv)\.so' |
    while read -r library; do cp -L "$library" "$to/lib/"; done
  du -sh "$to"
}

minimise() {
  local target kept
  for target in "${targets[@]}"; do
    kept=$here/corpus/$target
    [ "$target" != results ] || seeds_of_results "$kept"
    mkdir -p "$kept" "$found/$target/corpus" "$found/$target/merged"
    rm -f "$found/$target/merged"/*
    "$binaries/fuzz_$target" -set_cover_merge=1 -use_counters=0 -max_len="${kept_len[$target]:-2048}" "$found/$target/merged" "$kept" \
      "$found/$target/corpus" >"$found/$target/merge.log" 2>&1
    echo "$target: $(ls "$found/$target/merged" | wc -l) inputs, $(du -sb "$found/$target/merged" | cut -f1) bytes"
    rm -f "$kept"/*
    cp "$found/$target/merged"/* "$kept/"
    if [ "$target" = results ]; then
      tar cJf "$kept.tar.xz" --sort=name --owner=0 --group=0 --mtime=2026-01-01 -C "$kept" .
      rm -r "$kept"
    fi
  done
}

fuzz() {  # fuzz TARGET COPY SECONDS
  local out=$found/$1 seeds=$here/corpus/$1 megabytes=512 limit=10
  if [ "$1" = results ]; then
    seeds=$out/seeds
    limit=40     # HDF5 may loop on a crafted file, until its process has used up its time
    megabytes=0  # it looks itself: libFuzzer's thread could hold a lock while the target forks
  fi
  cd "$scratch"
  "$binaries/fuzz_$1" -max_total_time="$3" -max_len="${max_len[$1]}" -rss_limit_mb=$megabytes -timeout=$limit \
    -report_slow_units=2 -print_final_stats=1 -dict="$here/dictionaries/$1.dict" \
    -artifact_prefix="$out/" "$out/corpus" "$seeds" >"$out/log.$2" 2>&1 ||
    echo "$?" >"$out/failed.$2"
}

report() {
  local target out status=0 findings
  printf '%-12s %12s %8s %8s %9s %9s %6s %9s\n' target execs exec/s corpus coverage 'peak MB' slow findings
  for target in "${targets[@]}"; do
    out=$found/$target
    findings=$(find "$out" -maxdepth 1 -name 'crash-*' -o -maxdepth 1 -name 'leak-*' \
      -o -maxdepth 1 -name 'oom-*' -o -maxdepth 1 -name 'timeout-*' -o -maxdepth 1 -name 'failed.*' | wc -l)
    [ "$findings" -eq 0 ] || status=1
    awk -v target="$target" -v findings="$findings" -v slow="$(find "$out" -name 'slow-unit-*' | wc -l)" '
      / cov: / { for (i = 1; i < NF; ++i) {
                   if ($i == "cov:" && $(i+1) > cov) cov = $(i+1)
                   if ($i == "corp:") { split($(i+1), c, "/"); if (c[1] > corpus) corpus = c[1] } } }
      /stat::number_of_executed_units/ { execs += $2 }
      /stat::average_exec_per_sec/ { rate += $2 }
      /stat::peak_rss_mb/ { if ($2 > rss) rss = $2 }
      END { printf "%-12s %12d %8d %8d %9d %9d %6d %9d\n", target, execs, rate, corpus, cov, rss, slow, findings }
    ' "$out"/log.*
    if [ "$findings" -gt 0 ]; then tail -n 40 "$out"/log.* >&2; fi
  done
  return $status
}

case "${1:-}" in
  --pack) pack "$2"; exit ;;
  --minimise) minimise; exit ;;
  ''|*[!0-9]*) sed -n '2,10p' "$0" >&2; exit 64 ;;
esac
seconds=$1 jobs=${2:-2}
copies=$((jobs / ${#targets[@]}))
[ "$copies" -ge 1 ] || copies=1
scratch=$(mktemp -d "$([ -w /dev/shm ] && echo /dev/shm || echo /tmp)/chunkstate-fuzz.XXXXXX")
trap 'rm -rf "$scratch"' EXIT
export TMPDIR=$scratch  # targets that need files write them here
seeds_of_results "$found/results/seeds"
for target in "${targets[@]}"; do
  mkdir -p "$found/$target/corpus"
  rm -f "$found/$target"/{log,failed}.*
  # Earlier findings are tried again first: they are found again unless they have been repaired.
  find "$found/$target" -maxdepth 1 -type f -exec mv {} "$found/$target/corpus/" \;
done
for target in "${targets[@]}"; do
  for copy in $(seq "$copies"); do
    while [ "$(jobs -rp | wc -l)" -ge "$jobs" ]; do wait -n; done
    fuzz "$target" "$copy" "$seconds" &
  done
done
wait
report
