"""Build the fuzz target of the native alpha-expansion and run it.

Run from anywhere, with a C++17 compiler at hand::

    python tests/fuzz/run.py                        # a million inputs, address and undefined-behavior sanitizers
    python tests/fuzz/run.py --only 4711            # one input again
    python tests/fuzz/run.py --threads 4 --sanitize thread --count 50000  # batches on a thread pool

Every input is a problem derived from one number, ``--seed`` and those after it: grids from 1 x 1 to 40 x 40, 4- and
8-connected, and volumes of up to 5 slices, 1 to 255 labels, weights and scores of all magnitudes, ties, seeds, padding,
values that are not finite.
Each answer is checked against plain maximum flows, against every subset of the pixels where there are few, and
against a second run in used memory; `checks.hpp` has the list. Ends at the first failure, status 1.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
NATIVE = HERE.parents[1] / "weakseg_lightning" / "_native"
SANITIZERS = {"memory": "address,undefined", "thread": "thread", "none": ""}


def main() -> int:
    """Build into a temporary folder and run there."""
    options = parse(sys.argv[1:])
    compiler = find_compiler()
    if compiler is None:
        print("no C++ compiler found: install g++ or clang++, or name yours in the variable CXX", file=sys.stderr)
        return 2
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "alpha_expansion"
        subprocess.run(build_command(compiler, options.sanitize, target), check=True)
        arguments = ["--seed", options.seed, "--count", options.count, "--threads", options.threads]
        return subprocess.run([target, *map(str, arguments)], check=False).returncode


def parse(argv: list[str]) -> argparse.Namespace:
    """Read the command line; `--only` is a seed with a count of one."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=1_000_000, help="inputs to run (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="the first input (default: %(default)s)")
    parser.add_argument("--only", type=int, metavar="SEED", help="run this input alone")
    parser.add_argument("--threads", type=int, default=0, help="solve batches on so many threads; 0: single problems")
    parser.add_argument("--sanitize", choices=SANITIZERS, default="memory", help="(default: %(default)s)")
    options = parser.parse_args(argv)
    if options.only is not None:
        options.seed, options.count = options.only, 1
    return options


def find_compiler() -> str | None:
    """Return the compiler named by CXX, or the first of the usual names that exists."""
    names = [os.environ.get("CXX", ""), "g++", "clang++", "c++"]
    return next((path for name in names if name and (path := shutil.which(name))), None)


def build_command(compiler: str, sanitize: str, target: Path, source: Path = HERE / "alpha_expansion.cpp") -> list[str]:
    """Return the command line that compiles a program with the headers of the native core."""
    flags = ["-std=c++17", "-O1", "-g", "-Wall", "-Wextra", "-pthread", f"-I{NATIVE}"]
    if sanitize != "none":
        flags += [f"-fsanitize={SANITIZERS[sanitize]}", "-fno-sanitize-recover=all", "-fno-omit-frame-pointer"]
        flags += ["-DWEAKSEG_SANITIZED"]
    return [compiler, *flags, "-o", str(target), str(source)]


if __name__ == "__main__":
    sys.exit(main())
