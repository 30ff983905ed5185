#!/usr/bin/env bash
# The parallel tests, one experiment and one Slurm array per launcher with MPICH in place of Open MPI. Only
# parallel/ sees mpi.h: with ccache, and after tests/run.sh, the build is little more than the links.
set -euo pipefail
cd "$(dirname "$0")/.."

bash cmake/install_packages.sh mpich
cmake --preset mpich -DCMAKE_CXX_COMPILER_LAUNCHER=ccache \
  -DCHUNKSTATE_PYTHON="$PWD/build/venv/bin/python" >/dev/null
cmake --build --preset mpich --target chunkstate parallel_mpi_test
ctest --preset mpich -R '^(parallel_mpi.*|slurm_array_test)$'

out=$(mktemp -d)
trap 'rm -rf "$out"' EXIT
chunkstate=build/mpich/chunkstate
$chunkstate run experiments/configs/quickstart.yaml --quiet --out "$out/alone"
mpiexec.mpich -n 3 $chunkstate run experiments/configs/quickstart.yaml --out "$out/ranks"
digests=$(for run in alone ranks; do
  $chunkstate verify "$out/$run/results.h5" | sed -n 's/^digest //p'
done | sort -u)
[ "$(wc -l <<<"$digests")" -eq 1 ] || { echo "digests differ: $digests" >&2; exit 1; }
