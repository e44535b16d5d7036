"""Devices that work beside the CPU, of whatever maker, with streams and random states of their own."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor


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


def in_unit_range(image: Tensor) -> Tensor:
    """Images as a step sees them: float in 0..1, made of bytes; others as they are."""
    if image.dtype != torch.uint8:
        return image
    # A GPU divides by a number by way of its reciprocal; by a tensor it gives the same bits as the CPU.
    return image.to(torch.float32).div_(torch.full((), 255.0, device=image.device))


def to_host(*tensors: Tensor) -> list[Tensor]:
    """Copy tensors of a device to the CPU in one piece: the CPU waits for the device once, not for each of them.

    Args:
        tensors: of any types and shapes; those on the CPU are returned as they are.
    """
    found = {i: tensor.cpu() for i, tensor in enumerate(tensors) if not works_aside(tensor.device)}
    # The largest types first: each then begins where its type may.
    order = sorted(set(range(len(tensors))) - set(found), key=lambda i: -tensors[i].itemsize)
    if not order:
        return list(found.values())
    packed = torch.cat([tensors[i].reshape(-1).view(torch.uint8) for i in order])
    copied = packed.to("cpu", non_blocking=True)  # to pinned memory, from which nothing has to be copied again
    torch.accelerator.current_stream(packed.device).synchronize()
    parts = torch.split(copied, [tensors[i].nbytes for i in order])
    found |= {i: part.view(tensors[i].dtype).view(tensors[i].shape) for i, part in zip(order, parts, strict=True)}
    return [found[i] for i in range(len(tensors))]


def to_device(tensor: Tensor, device: torch.device) -> Tensor:
    """Copy a tensor to a device, which may still be at work: the CPU does not wait for it."""
    if works_aside(device) and tensor.device.type == "cpu":
        return tensor.contiguous().pin_memory().to(device, non_blocking=True)
    return tensor.to(device)
