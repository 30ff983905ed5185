#!/usr/bin/env bash
# Installs what Chunkstate needs on Debian 12 or Ubuntu 24.04 and is not there yet.
#   bash cmake/install_packages.sh build   to build and run
#   bash cmake/install_packages.sh test    also what the tests need
#   bash cmake/install_packages.sh mpich   to build with MPICH beside Open MPI (tests/mpich.sh)
# Does nothing (and needs no network and no root) if everything is installed.
set -euo pipefail

build_packages=(
  ccache cmake g++ git make ninja-build pkg-config
  libcli11-dev libfmt-dev libhdf5-dev libopenmpi-dev libpcre2-dev libsimdjson-dev
  libxxhash-dev libyaml-cpp-dev
  nlohmann-json3-dev openmpi-bin
)
test_packages=(catch2 clang hdf5-tools librsvg2-bin llvm netcdf-bin python3-dev python3-venv xz-utils)
# Ubuntu has Chromium as a snap only, which containers cannot run; browser_test is skipped there.
grep -qs '^ID=debian' /etc/os-release && test_packages+=(chromium)

wanted=("${build_packages[@]}")
case ${1:-build} in
  test) wanted+=("${test_packages[@]}") ;;
  mpich) wanted+=(libmpich-dev mpich) ;;
esac

# cuDNN's frontend, headers alone, into the project's venv: attention on a GPU. Without it our own kernel
# serves, so that nothing stops here.
install_cudnn_frontend() {
  local venv
  venv=$(cd "$(dirname "$0")/.." && pwd)/build/venv
  command -v nvcc >/dev/null || [ -x /usr/local/cuda/bin/nvcc ] || return 0
  compgen -G "$venv/lib/python*/site-packages/include/cudnn_frontend.h" >/dev/null && return 0
  { [ -x "$venv/bin/python" ] || python3 -m venv "$venv" || { rm -rf "$venv"; false; }; } >/dev/null 2>&1 &&
    "$venv/bin/python" -m pip install --quiet --disable-pip-version-check --retries 1 --no-deps \
      'nvidia-cudnn-frontend>=1.14' 2>/dev/null ||
    echo "install_packages.sh: no nvidia-cudnn-frontend: attention will not go through cuDNN" >&2
}
trap install_cudnn_frontend EXIT

if ! command -v dpkg-query >/dev/null; then
  echo "install_packages.sh: not a Debian or Ubuntu system; install by hand: ${wanted[*]}" >&2
  exit 0
fi

missing=()
for package in "${wanted[@]}"; do
  state=$(dpkg-query -W -f='${db:Status-Status}' "$package" 2>/dev/null || true)
  [ "$state" = installed ] || missing+=("$package")
done
[ ${#missing[@]} -eq 0 ] && exit 0

echo "installing: ${missing[*]}"
as_root=()
if [ "$(id -u)" -ne 0 ]; then
  command -v sudo >/dev/null || {
    echo "install_packages.sh: not root and no sudo; ask an administrator for: ${missing[*]}" >&2
    exit 1
  }
  as_root=(sudo)
fi
export DEBIAN_FRONTEND=noninteractive
log=$(mktemp)
trap 'rm -f "$log"; install_cudnn_frontend' EXIT
if ! { "${as_root[@]}" apt-get update -q &&
       "${as_root[@]}" apt-get install -q -y --no-install-recommends "${missing[@]}"; } >"$log" 2>&1; then
  tail -n 20 "$log" >&2
  exit 1
fi
