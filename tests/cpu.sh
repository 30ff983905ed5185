#!/usr/bin/env bash
# Tests and times the CPU engine: builds, runs the tests of kernels/ with every instruction level that
# this machine has (CHUNKSTATE_ISA), and the benchmarks on two cores. Without the libraries of the rest it
# builds the kernels alone. About 4 minutes, of which 1 to build on 16 cores.
#
#   bash tests/cpu.sh [full]        full: also other ways to cut the products
set -euo pipefail
cd "$(dirname "$0")/.."
build=build/cpu-bench
mkdir -p "$build"
generator=()
command -v ninja > /dev/null && generator=(-G Ninja)
configure() {
  cmake -S . -B "$build" "${generator[@]}" -DCMAKE_BUILD_TYPE=Release -DCHUNKSTATE_CUDA=OFF "$@" \
    > "$build/configure.log" 2>&1
}
targets=(kernels_test cpu_bench)
if configure -DCHUNKSTATE_KERNELS_ONLY=OFF; then
  targets+=(chunkstate)
else
  echo "kernels alone: $(grep -m 1 -A 1 'CMake Error' "$build/configure.log" | tr '\n' ' ')"
  configure -DCHUNKSTATE_KERNELS_ONLY=ON || { cat "$build/configure.log"; exit 1; }
fi
cmake --build "$build" -j "$(nproc)" --target "${targets[@]}" > "$build/build.log" 2>&1 ||
  { tail -50 "$build/build.log"; exit 1; }
echo "built in $SECONDS s on $(grep -m 1 'model name' /proc/cpuinfo | sed 's/.*: //')"

status=0
levels=(amx avx512bf16 avx512 avx2 baseline)
for level in "${levels[@]}"; do
  CHUNKSTATE_ISA=$level "$build/tests/kernels/kernels_test" > "$build/test-$level.log" 2>&1 &
done
wait
for level in "${levels[@]}"; do
  line=$(grep -E 'passed|failed' "$build/test-$level.log" | tail -1)
  echo "$level and below: $line"
  [[ $line == *"All tests passed"* ]] || { status=1; tail -40 "$build/test-$level.log"; }
done
echo "tested after $SECONDS s (exit $status)"

# Two cores, not the two threads of one, which a virtual machine need not tell: the pair of the processors
# 0 and 1, or half of all apart, that reaches more together.
half=$(($(nproc) / 2))
ceiling() { taskset -c "$1" "$build/tests/kernels/cpu_bench" 2 ceiling | tr -dc '0-9. ' | cut -d ' ' -f 1; }
pair=0,1
neighbours=$(ceiling 0,1)
if ((half > 1)); then
  apart=$(ceiling "0,$half")
  ((apart > neighbours)) && pair=0,$half
fi
echo "processors $pair: ceilings of 0,1 $neighbours GFLOP/s, of 0,$half ${apart:--}"
two=(taskset -c "$pair")
"${two[@]}" "$build/tests/kernels/cpu_bench" 2 "$@" || status=$?
CHUNKSTATE_ISA=avx512bf16 "${two[@]}" "$build/tests/kernels/cpu_bench" 2 brief || status=$?
if [[ ${#targets[@]} == 3 ]]; then
  bench() { "${two[@]}" "$build/chunkstate" bench "$@" --backend cpu | grep -v '^-*$' || status=$?; }
  tiny=experiments/models/bamba-tiny
  for dtype in bf16 fp32; do
    bench prefill --model $tiny --dtype $dtype --tokens 256,1024,4096 --repeats 15
    bench decode --model $tiny --dtype $dtype --batch 1,4,16 --repeats 300
  done
  wide="--model synthetic:bamba-9b --layers 4"  # read as words on purpose
  bench prefill $wide --dtype bf16 --tokens 256,1024,4096 --repeats 2
  bench decode $wide --dtype bf16 --batch 1,4,16 --repeats 20
  bench prefill $wide --dtype fp32 --tokens 1024 --repeats 1
  bench decode $wide --dtype fp32 --repeats 10
  "${two[@]}" "$build/chunkstate" bench ssd --backend cpu --variant default_optimized --dtype bf16 ||
    status=$?
fi
echo "done after $SECONDS s"
exit $status
