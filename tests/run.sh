#!/usr/bin/env bash
# Installs what is missing, builds and runs all tests, then fuzzes each parser for a minute.
# Options are passed on to ctest (`-R journal`); with options nothing is fuzzed.
set -euo pipefail
cd "$(dirname "$0")/.."

bash cmake/install_packages.sh test
if [ ! -x build/venv/bin/python ]; then
  python3 -m venv build/venv
fi
build/venv/bin/python -m pip install --quiet --disable-pip-version-check -r tests/requirements.txt

launcher=()
command -v ccache >/dev/null && launcher=(-DCMAKE_CXX_COMPILER_LAUNCHER=ccache)
cmake --preset cpu -DCHUNKSTATE_PYTHON="$PWD/build/venv/bin/python" "${launcher[@]}"
cmake --build --preset cpu
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
ctest --preset cpu "$@"

if [ $# -eq 0 ]; then
  cmake --preset fuzz "${launcher[@]}"
  cmake --build --preset fuzz
  bash tests/fuzz/run.sh 60 2
fi
