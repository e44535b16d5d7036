"""The library of the simulated device, built once for each state of its source and each PyTorch."""

import fcntl
import hashlib
import os
import subprocess
import tempfile
from pathlib import Path

import torch

SOURCES = Path(__file__).with_name("device")


def library() -> Path:
    """Build the library if no process did before, and return its path; processes wait for the one that builds.

    Raises:
        RuntimeError: if the compiler fails, with what it wrote.
    """
    folder = Path(tempfile.gettempdir()) / f"simulated-device-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    built = folder / f"{_digest()}.so"
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not built.exists():
            _compile(built)
    return built


def _digest() -> str:
    parts = [torch.__version__.encode(), *(path.read_bytes() for path in sorted(SOURCES.iterdir()))]
    return hashlib.sha256(b"\0".join(parts)).hexdigest()[:16]


def _compile(target: Path) -> None:
    from torch.utils import cpp_extension  # slow, and it looks for CUDA: only where something is built

    unfinished = target.with_suffix(".unfinished")
    libraries = Path(torch.__file__).parent / "lib"
    # Without optimization: the operators are PyTorch's own, and the build takes half the time.
    options = [
        "-std=c++20",
        "-O0",
        "-shared",
        "-fPIC",
        f"-D_GLIBCXX_USE_CXX11_ABI={int(torch.compiled_with_cxx11_abi())}",
    ]
    includes = [f"-isystem{path}" for path in cpp_extension.include_paths()]
    linked = [f"-L{libraries}", f"-Wl,-rpath,{libraries}", "-ltorch", "-ltorch_cpu", "-lc10"]
    compiler = cpp_extension.get_cxx_compiler()
    words = [compiler, *options, *includes, str(SOURCES / "device.cpp"), "-o", str(unfinished), *linked]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"the simulated device does not compile:\n{done.stderr[-4000:]}")
    unfinished.replace(target)
