"""A simulated accelerator: the PyTorch device ``sim``, with `torch.sim` beside it as `torch.cuda` is beside CUDA.

Its operators are the CPU's own, so its numbers are the CPU's bit for bit; the rest is as strict as an accelerator can
be. CPU tensors do not mix with its own, nothing on the CPU can read its memory, and with :func:`run_later` its work
waits until something waits for it, so that a missing synchronization gives old numbers every time. It counts copies
between host and device, and the times that the host waits.
"""

import sys

import torch
from torch import Tensor

from simulated.library import library

Device = int | str | torch.device | None


# ---- what PyTorch and Lightning call of `torch.sim` --------------------------------------------------------------


def is_available() -> bool:
    return True


def is_initialized() -> bool:
    return True


def init() -> None:
    """Do nothing: loading the library did all."""


def device_count() -> int:
    return 1


def current_device() -> int:
    return 0


def set_device(device: Device) -> None:
    """Do nothing: there is one device."""


def synchronize(device: Device = None) -> None:
    torch.ops.sim.synchronize()


def current_stream(device: Device = None) -> torch.Stream:
    return torch.accelerator.current_stream()


def manual_seed(seed: int) -> None:
    torch.ops.sim.seed(seed % 2**63)


manual_seed_all = manual_seed


class _DefaultGenerator:
    """The generator that is drawn from where none is given."""

    def manual_seed(self, seed: int) -> None:
        manual_seed(seed)


default_generators = (_DefaultGenerator(),)


def get_rng_state(device: Device = "sim") -> Tensor:
    return torch.ops.sim.rng_state()


def set_rng_state(new_state: Tensor, device: Device = "sim") -> None:
    torch.ops.sim.set_rng_state(new_state)


def _is_in_bad_fork() -> bool:
    return False


def get_amp_supported_dtype() -> list[torch.dtype]:
    return [torch.bfloat16, torch.float16, torch.float32]


def load() -> None:
    """Make the device known to PyTorch; once per process, and before its first backward pass."""
    if hasattr(torch, "sim"):
        return
    torch.ops.load_library(library())
    torch.utils.rename_privateuse1_backend("sim")
    torch._register_device_module("sim", sys.modules[__name__])
    torch.utils.generate_methods_for_privateuse1_backend()
