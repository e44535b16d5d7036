"""Lightning's view of the simulated device."""

from typing import Any

import torch
from lightning.pytorch.accelerators import Accelerator
from typing_extensions import override


class SimAccelerator(Accelerator):
    """One simulated device."""

    @staticmethod
    @override
    def name() -> str:
        return "sim"

    @staticmethod
    @override
    def is_available() -> bool:
        return hasattr(torch, "sim")

    @staticmethod
    @override
    def auto_device_count() -> int:
        return 1

    @staticmethod
    @override
    def parse_devices(devices: Any) -> Any:
        return devices

    @staticmethod
    @override
    def get_parallel_devices(devices: Any) -> list[torch.device]:
        return [torch.device("sim", 0)]

    @override
    def setup_device(self, device: torch.device) -> None:
        """Do nothing: there is one device."""

    @override
    def get_device_stats(self, device: Any) -> dict[str, Any]:
        return {}

    @override
    def teardown(self) -> None:
        """Do nothing: nothing was set up."""
