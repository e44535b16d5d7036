"""Processes that start at once: forks of a server that has imported torch, Lightning and the package.

A process is as much one of its own as any: it has its environment, folder, standard output, and may be killed.
"""

import multiprocessing
import multiprocessing.connection
import os
import runpy
import socket
import sys
import time
from collections.abc import Mapping, Sequence
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from unittest import mock

IMPORTED = [
    *(
        "lightning.pytorch",
        "torch.distributed.fsdp",
        "torch._dynamo",
        "segmentation_models_pytorch",
        "matplotlib.figure",
    ),
    *("weakseg_lightning.cli.command", "weakseg_lightning.callbacks", "weakseg_lightning.modules"),
    *("attrs", "fsspec.implementations.chained", "s3fs"),  # which Lightning imports to write its first checkpoint
]
_CONTEXT = multiprocessing.get_context("forkserver")


def start(
    program: str | Path, *arguments: object, out: Path, err: Path | None = None, folder: Path | None = None, **more: str
) -> ForkServerProcess:
    """Start a program.

    Args:
        program: a file of Python, or the name of a module.
        arguments: those of its command line.
        out: file that its standard output is appended to.
        err: the same of its errors; that of the output by default.
        folder: its working directory; the one of this process by default.
        more: variables of its environment beside those of this process.
    """
    given = (str(program), *map(str, arguments)), (out.absolute(), (err or out).absolute()), (folder or Path.cwd())
    process = _CONTEXT.Process(target=_run, args=(*given, {**os.environ, **more}))
    with mock.patch.dict(os.environ, OMP_NUM_THREADS="1"):  # read but once: when the server imports torch
        process.start()
    return process


def variables_of_ranks(ranks: int) -> list[dict[str, str]]:
    """The environments of ranks on this machine, as torchrun makes them."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    common = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    common |= dict.fromkeys(("WORLD_SIZE", "LOCAL_WORLD_SIZE"), str(ranks))
    return [common | dict.fromkeys(("RANK", "LOCAL_RANK"), str(rank)) for rank in range(ranks)]


def wait_for(processes: Sequence[ForkServerProcess], seconds: float) -> list[int]:
    """The statuses of processes, all of which end by then, or soon after one fails; those that do not then are killed.

    Raises:
        TimeoutError: if one does not; all are killed.
    """
    end = time.monotonic() + seconds
    while any(process.exitcode is None for process in processes) and time.monotonic() < end:
        multiprocessing.connection.wait([process.sentinel for process in processes if process.exitcode is None], 1.0)
        if any(process.exitcode for process in processes):  # the others may wait for it for ever
            end = min(end, time.monotonic() + 20)
            for process in processes:
                process.join(max(0.0, end - time.monotonic()))
            kill([process for process in processes if process.exitcode is None])
    codes = [process.exitcode for process in processes]
    if None in codes:
        kill(processes)
        raise TimeoutError(f"after {seconds} s the processes have ended with {codes}")
    return [code for code in codes if code is not None]


def wait_for_text(path: Path, text: str, processes: Sequence[ForkServerProcess], seconds: float = 300) -> None:
    """Wait until a file that running processes write has a text in it."""
    end = time.monotonic() + seconds
    while not path.exists() or text not in path.read_text():
        assert time.monotonic() < end, f"{path} did not come"
        assert all(process.exitcode is None for process in processes), f"a process ended before {path} came"
        time.sleep(0.02)


def kill(processes: Sequence[ForkServerProcess]) -> None:
    """End processes at once, by SIGKILL."""
    for process in processes:
        process.kill()
        process.join()


def _run(command: tuple[str, ...], files: tuple[Path, Path], folder: Path, environment: Mapping[str, str]) -> None:
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    for number, path in enumerate(files, start=1):
        with path.open("ab") as file:
            os.dup2(file.fileno(), number)
    multiprocessing.set_start_method(None, force=True)  # its own processes start as anywhere, not by this server
    _read_rank()
    sys.argv = list(command)
    if command[0].endswith(".py"):
        runpy.run_path(command[0], run_name="__main__")
    else:
        runpy.run_module(command[0], run_name="__main__", alter_sys=True)


def _read_rank() -> None:
    """Read the rank as Lightning does when it is imported; it has been by the server, which has none."""
    from lightning.fabric.utilities.rank_zero import _get_rank, rank_zero_only

    rank_zero_only.rank = _get_rank() or 0
