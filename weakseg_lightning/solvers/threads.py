"""The number of threads of a solver where users give none."""

import os

import torch

from weakseg_lightning.checks import at_least
from weakseg_lightning.devices import count_aside

__all__ = ["check_num_threads", "cores_of_rank", "default_num_threads", "leave_cores"]

_left_to_loaders = 0


def default_num_threads() -> int:
    """Return the cores of this rank less those that :func:`leave_cores` gave away, but at least half of them."""
    cores = cores_of_rank()
    return max(cores - _left_to_loaders, (cores + 1) // 2)


def check_num_threads(num_threads: int | None) -> None:
    """Raise `ValueError` if a number of threads is given and less than 1."""
    if num_threads is not None:
        at_least("num_threads", num_threads, 1, "or None to choose")


def cores_of_rank() -> int:
    """Return the number of CPU cores of this process divided by the ranks on this machine, at least 1."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, cores // _local_ranks())


def leave_cores(number: int) -> None:
    """Leave cores to the processes that load the data of this rank, until told otherwise.

    Args:
        number: how many processes; 0 takes all cores back.
    """
    global _left_to_loaders
    _left_to_loaders = number


def _local_ranks() -> int:
    declared = os.environ.get("LOCAL_WORLD_SIZE", "")
    if declared.isdigit() and int(declared) > 0:
        return int(declared)
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        # Not every launcher says how many ranks share a machine; with GPUs there is one rank for each at most.
        ranks = torch.distributed.get_world_size()
        return min(ranks, count_aside() or ranks)
    return 1
