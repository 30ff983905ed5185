#!/usr/bin/env bash
# Line coverage of the parsers by the kept corpus (and what the last fuzzing found):
#   bash tests/fuzz/coverage.sh [SOURCE]   with a source file: its lines that are never reached
set -euo pipefail
cd "$(dirname "$0")/../.."
build=build/fuzz-coverage
cmake --preset fuzz -B $build -DCHUNKSTATE_FUZZ_COVERAGE=ON "${@:2}" >/dev/null
cmake --build $build >/dev/null
llvm() { command -v "$1" || command -v "$1-14"; }
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
objects=()
for binary in $build/tests/fuzz/fuzz_*; do
  target=${binary##*fuzz_}
  inputs=(tests/fuzz/corpus/"$target")
  [ ! -d build/fuzz/found/"$target"/corpus ] || inputs+=(build/fuzz/found/"$target"/corpus)
  if [ "$target" = results ]; then
    inputs=("$scratch/seeds" "${inputs[@]:1}")
    mkdir "$scratch/seeds" && tar xJf tests/fuzz/corpus/results.tar.xz -C "$scratch/seeds"
  fi
  TMPDIR=$scratch LLVM_PROFILE_FILE=$scratch/$target.profraw "$binary" -runs=0 -rss_limit_mb=0 \
    -max_len=1000000 "${inputs[@]}" >"$scratch/log" 2>&1 || tail -n 20 "$scratch/log" >&2
  objects+=(-object "$binary")
done
"$(llvm llvm-profdata)" merge -sparse "$scratch"/*.profraw -o "$scratch/all"
parsers=(core/{byte_pair_merges,checkpoint,json_input,model_config,expected_tensors,safetensors,split_expression,tokenizer,tokenizer_file,utf8}.cpp
  experiments/spec/{byte_reader,exclude,key_table,key_value,override,parse_experiment,prompt_json,prompt_set,resolved_yaml,sweep,yaml_bytes,yaml_tree}.cpp
  experiments/record/{checksum,hdf5_read,isolated,journal_line,journal_reader,result_digest,results_verify}.cpp)
if [ -n "${1:-}" ]; then
  "$(llvm llvm-cov)" show "${objects[@]:1}" -instr-profile "$scratch/all" "$1" |
    awk -F'|' '$2 ~ /^ *0$/' 
else
  "$(llvm llvm-cov)" report "${objects[@]:1}" -instr-profile "$scratch/all" "${parsers[@]}" |
    awk 'NR > 2 && NF > 9 {printf "%-45s %6d lines %5d missed %8s\n", $1, $8, $9, $10}'
  # Files also hold what no parser calls: writers, synthetic prompts, digests of weights.
  "$(llvm llvm-cov)" report -show-functions "${objects[@]:1}" -instr-profile "$scratch/all" "${parsers[@]}" |
    awk '$1 != "TOTAL" && NF == 10 && $5 > 0 && $6 < $5 {lines += $5; missed += $6}
         END {printf "%-45s %6d lines %5d missed %7.2f%%\n", "functions that are reached", lines, missed, 100 - 100 * missed / lines}'
fi
