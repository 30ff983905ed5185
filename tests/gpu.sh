#!/usr/bin/env bash
# On a machine with a GPU, without network: builds the kernels for CUDA, runs every test that needs a
# GPU and the benchmarks, and prints one table. About 3 minutes on 16 cores.
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
"$build/tests/kernels_cuda_bench" "$@" || status=$?
echo "done after $SECONDS s"
exit $status
