#!/usr/bin/env bash
# From nothing to a result: installs what is missing, builds, runs the default experiment on two ranks,
# prints the result table and names the HDF5 file. Options are passed on to `chunkstate run`.
set -euo pipefail
cd "$(dirname "$0")/.."

bash cmake/install_packages.sh build
# CUDA takes minutes to compile on two cores: only where a GPU is there to use it.
cuda=OFF
[ -e /dev/nvidia0 ] && cuda=AUTO
launcher=()
command -v ccache >/dev/null && launcher=(-DCMAKE_CXX_COMPILER_LAUNCHER=ccache)
cmake -S . -B build/quickstart -G Ninja -DCMAKE_BUILD_TYPE=Release -DCHUNKSTATE_TESTS=OFF \
  -DCHUNKSTATE_CUDA=$cuda \
  "${launcher[@]}" >build-quickstart.log 2>&1 || { cat build-quickstart.log; exit 1; }
rm build-quickstart.log
cmake --build build/quickstart --target chunkstate

# mpirun refuses to start as root without these, and more ranks than cores without --oversubscribe.
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
mpirun -n 2 --oversubscribe --bind-to none build/quickstart/chunkstate run \
  experiments/configs/quickstart.yaml "$@"
