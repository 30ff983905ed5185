#!/usr/bin/env bash
# On a machine with a GPU, without network: builds for CUDA (the kernels alone where the libraries of
# the rest are missing), runs every test that needs a GPU, compute-sanitizer's memcheck, racecheck and
# synccheck on small shapes, and the benchmarks, and prints their tables. About 6 minutes on 16 cores.
#
#   bash tests/gpu.sh [part of an operator's name to time]
set -euo pipefail
cd "$(dirname "$0")/.."
build=build/gpu
mkdir -p "$build"

# wgmma and its like exist for sm_90a alone.
architecture=native
[[ $(nvidia-smi --query-gpu=compute_cap --format=csv,noheader | head -1) == 9.0 ]] && architecture=90a-real
generator=()
command -v ninja > /dev/null && generator=(-G Ninja)
configure() {
  cmake -S . -B "$build" "${generator[@]}" -DCMAKE_BUILD_TYPE=Release -DCHUNKSTATE_CUDA=ON \
    -DCMAKE_CUDA_ARCHITECTURES=$architecture "$@" > "$build/configure.log" 2>&1
}
targets=(kernels_cuda_test kernels_cuda_bench)
if configure -DCHUNKSTATE_KERNELS_ONLY=OFF; then
  targets+=(core_cuda_test chunkstate)
else
  echo "kernels alone: $(grep -m 1 -A 1 'CMake Error' "$build/configure.log" | tr '\n' ' ')"
  configure -DCHUNKSTATE_KERNELS_ONLY=ON || { cat "$build/configure.log"; exit 1; }
fi
cmake --build "$build" -j "$(nproc)" --target "${targets[@]}" > "$build/build.log" 2>&1 ||
  { tail -50 "$build/build.log"; exit 1; }
echo "built in $SECONDS s"

status=0
"$build/tests/kernels_cuda_test" || status=$?
[[ ${#targets[@]} == 2 ]] || "$build/tests/core_cuda_test" || status=$?
echo "tested after $SECONDS s (exit $status)"

# Two shapes of every test case: the tools take tens of times as long as the program. Not for racecheck:
# the libraries' products and attention, whose own kernels it reports.
sanitize() { # TOOL CASES...
  local log="$build/$1.log"
  if CHUNKSTATE_TEST_SEEDS=2 timeout 200 compute-sanitizer --tool "$1" --error-exitcode 9 \
    "$build/tests/kernels_cuda_test" "${@:2}" > "$log" 2>&1; then
    echo "$1: $(grep SUMMARY "$log" | tail -1 | sed 's/=* *//')"
  else
    echo "$1 failed (exit $?):"
    tail -30 "$log"
    return 1
  fi
}
if command -v compute-sanitizer > /dev/null; then
  sanitize memcheck &
  memcheck=$!
  sanitize racecheck "SSD variants on*,*selective scan*,linear_step*,A token's linear_step*,ssd_gated_step*,\
ssd_step*,attention_step*,attention_append_step*,attention on*,greedy_step*,linear on*,rms_norm*,\
gated_rms_norm*,gated_squares*,conv1d*,rope*,embedding*,silu_mul*,Parts normed*" &
  racecheck=$!
  sanitize synccheck || status=1
  wait $memcheck || status=1
  wait $racecheck || status=1
  echo "sanitized after $SECONDS s"
else
  echo "compute-sanitizer is not installed: not run"
fi

"$build/tests/kernels_cuda_bench" "$@" || status=$?
if [[ ${#targets[@]} != 2 && selective_scan == *"${1:-}"* ]]; then
  for dtype in fp32 bf16; do
    "$build/chunkstate" bench selective_scan --backend cuda --dtype $dtype --batch 1,16 --tokens 512,4096 || status=$?
  done
fi
if [[ ${#targets[@]} != 2 && $# == 0 ]]; then
  for state in bf16 fp32; do
    "$build/chunkstate" bench decode --model synthetic:bamba-9b --backend cuda --dtype bf16 \
      --state-dtype $state --tokens 256 --batch 1,2,4,8,64 --repeats 60 || status=$?
  done
  for mode in "eager off" "graph off" "eager on"; do
    read -r how fused <<< "$mode"
    "$build/chunkstate" bench decode --model synthetic:bamba-9b --backend cuda --dtype bf16 \
      --tokens 256 --batch 1,8 --repeats 60 --mode "$how" --fusion "$fused" || status=$?
  done
fi
echo "done after $SECONDS s"
exit $status
