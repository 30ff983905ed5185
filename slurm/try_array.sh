#!/usr/bin/env bash
# The whole way of a Slurm array on this machine alone: builds, starts a Slurm of four virtual nodes, submits the
# default experiment as an array of four tasks of two ranks, waits, shows the results, stops. Options are passed on
# to `chunkstate submit`.
set -euo pipefail
cd "$(dirname "$0")/.."

bash cmake/install_packages.sh build
cmake -S . -B build/quickstart -G Ninja -DCMAKE_BUILD_TYPE=Release -DCHUNKSTATE_TESTS=OFF -DCHUNKSTATE_CUDA=OFF \
  -DCMAKE_CXX_COMPILER_LAUNCHER=ccache >/dev/null
cmake --build build/quickstart --target chunkstate
chunkstate=build/quickstart/chunkstate
out=results/try_array

rm -rf $out
bash slurm/one_machine_slurm.sh up build/one_machine_slurm
trap 'bash slurm/one_machine_slurm.sh down build/one_machine_slurm' EXIT
. build/one_machine_slurm/environment.sh
$chunkstate submit experiments/configs/quickstart.yaml --out $out --site slurm/one_machine_site.yaml \
  -s slurm.array=4 "$@"
while [ -n "$(squeue -h)" ]; do
  squeue -r -o '%.8i %.18j %.10T %.6M %R'
  sleep 2
done
$chunkstate status $out
cat "$(ls -t $out/slurm/merge_*.log | head -n 1)"
$chunkstate verify $out/results.h5
