#!/usr/bin/env bash
# On a machine with a GPU, without network: builds for CUDA (the kernels alone where the libraries of
# the rest are missing), runs every test that needs a GPU, compute-sanitizer's memcheck and racecheck on
# the scan's small shapes, and the benchmarks, and prints their tables. About 6 minutes on 16 cores.
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

# The scan hands shared memory from warp to warp; memory errors and races elsewhere show the same way.
# racecheck takes tens of times as long as the program, hence the few small shapes of one test case.
if command -v compute-sanitizer > /dev/null; then
  for tool in memcheck racecheck; do
    log="$build/$tool.log"
    if CHUNKSTATE_TEST_SEEDS=4 timeout 100 compute-sanitizer --tool "$tool" --error-exitcode 1 \
      "$build/tests/kernels_cuda_test" "SSD variants on the device match their definition at Bamba's head shape" \
      > "$log" 2>&1; then
      echo "$tool: $(grep SUMMARY "$log" | tail -1 | sed 's/=* *//')"
    else
      status=1
      echo "$tool failed (exit $?):"
      tail -30 "$log"
    fi
  done
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
