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

status=0
# Warnings of other versions than those that CI has are shown, and stop nothing.
tests=(timeout 300 "$python" -m pytest -q -W default -p no:cacheprovider -m gpu --durations=10 tests/devices)
"${tests[@]}" 2>&1 | tee "$out/tests.txt" || status=1
quick=()
[[ $device == cuda ]] || quick=(--quick)
"$python" tests/benchmarks gpu --accelerator "$device" "${quick[@]}" --out "$out" || status=1
exit $status
