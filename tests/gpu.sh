#!/usr/bin/env bash
# On a machine with a GPU, without network: builds the kernels for CUDA, runs every test that needs a
# GPU, compute-sanitizer's memcheck and racecheck on the scan's small shapes, and the benchmarks, and
# prints one table. About 5 minutes on 16 cores.
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
cmake -S . -B "$build" "${generator[@]}" -DCMAKE_BUILD_TYPE=Release -DCHUNKSTATE_CUDA=ON \
  -DCHUNKSTATE_KERNELS_ONLY=ON -DCMAKE_CUDA_ARCHITECTURES=$architecture > "$build/configure.log" 2>&1 ||
  { cat "$build/configure.log"; exit 1; }
cmake --build "$build" -j "$(nproc)" --target kernels_cuda_test kernels_cuda_bench \
  > "$build/build.log" 2>&1 || { tail -50 "$build/build.log"; exit 1; }
echo "built in $SECONDS s"

status=0
"$build/tests/kernels_cuda_test" || status=$?
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
echo "done after $SECONDS s"
exit $status
