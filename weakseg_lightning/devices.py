"""Devices that work beside the CPU, of whatever maker, with streams and random states of their own."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import torch


def works_aside(device: torch.device) -> bool:
    """Say if a device works beside the CPU, as CUDA does: every accelerator but Apple's, whose streams are not ours."""
    return device.type not in ("cpu", "meta", "mps")


def count_aside() -> int:
    """Count the devices of this machine that work beside the CPU."""
    there = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
    return torch.accelerator.device_count() if there is not None and works_aside(there) else 0


@contextmanager
def random_state_kept(devices: Iterable[torch.device], seed: int | None = None) -> Iterator[None]:
    """Draw inside, and go on with the random states of before, on the CPU and on devices of one kind.

    Args:
        devices: those that are drawn on besides the CPU; those that do not work beside it count as the CPU.
        seed: what all of them are seeded with inside; None = they draw on.
    """
    aside = {device.index: device.type for device in devices if works_aside(device)}
    kind = next(iter(aside.values()), "cuda")
    with torch.random.fork_rng(sorted(aside), device_type=kind):
        if seed is not None:
            torch.default_generator.manual_seed(seed)
            for index in aside:
                torch.get_device_module(kind).default_generators[index].manual_seed(seed)
        yield
