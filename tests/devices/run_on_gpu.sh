#!/usr/bin/env bash
# Builds the package beside a machine's own PyTorch, runs the tests for GPUs, and measures; ten minutes on one GPU.
#
#   OUT=results bash tests/devices/run_on_gpu.sh WHEELS
#
# WHEELS is the folder that wheels.sh filled; nothing is fetched. Needed are a C++ compiler and a Python 3.12 with
# PyTorch and pip: `python3`, or $PYTHON. Its packages are used where they are new enough, and never changed. Into OUT
# go the output of the tests, the tables, the trace, and the versions of all packages. The status is 0 if all went well.
#
# To try it without a GPU, on the simulated device and with tiny images: WEAKSEG_TEST_DEVICE=sim.
set -euo pipefail

wheels=$(realpath "${1:?"usage: OUT=results bash tests/devices/run_on_gpu.sh WHEELS"}")
out=$(realpath --canonicalize-missing "${OUT:?"set OUT to the folder for the results"}")
device=${WEAKSEG_TEST_DEVICE:-cuda}
cd "$(dirname "$0")/../.."
mkdir -p "$out"
work=$(mktemp --directory)
trap 'rm -rf "$work"' EXIT

# An environment that sees the machine's packages behind its own.
machine=${PYTHON:-python3}
"$machine" -m venv --without-pip "$work/venv"
python=$work/venv/bin/python
own=$("$python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
"$machine" -c 'import sys; print(*(path for path in sys.path if path.endswith("-packages")), sep="\n")' \
  > "$own/machine.pth"

install=("$python" -m pip install --quiet --no-index --find-links "$wheels" --no-build-isolation)
"${install[@]}" "scikit-build-core>=0.10" "nanobind>=3.1,<4" "pytest>=8"
"${install[@]}" --editable .
"$python" -m pip list > "$out/packages.txt"

quick=() limits=(300 270)
[[ $device == cuda ]] || { quick=(--quick --seconds 3600) limits=(3600 3600); } # however slow that machine is
failed=()
# Warnings of other versions than those that CI has are shown, and stop nothing. If a test ends the process, the last
# line of the output names it.
tests=(timeout "${limits[0]}" "$python" -u -X faulthandler -m pytest -v -W default -p no:cacheprovider -m gpu)
tests+=(--durations=10 tests/devices)
"${tests[@]}" 2>&1 | tee "$out/tests.txt" || failed+=("the tests (status ${PIPESTATUS[0]}): see tests.txt")
timeout "${limits[1]}" "$python" tests/benchmarks gpu --accelerator "$device" "${quick[@]}" --out "$out" ||
  failed+=("the measurements (status $?): see gpu.md")
((${#failed[@]} == 0)) || { printf 'failed: %s\n' "${failed[@]}" >&2 && exit 1; }
