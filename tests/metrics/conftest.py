import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torchmetrics import Metric


@pytest.fixture
def on_two_ranks(
    run_program: Callable[..., subprocess.CompletedProcess[str]], tmp_path: Path
) -> Callable[[Sequence[tuple[Metric, Any]]], list[list[Any]]]:
    """Results of each of two ranks for metrics, given with the updates of the first and of the second rank."""

    def run(metrics: Sequence[tuple[Metric, Any]]) -> list[list[Any]]:
        torch.save(metrics, tmp_path / "updates.pt")
        run_program("ranks/scores_of_ranks.py", tmp_path, ranks=2)
        return [torch.load(tmp_path / f"rank{rank}.pt", weights_only=False) for rank in range(2)]

    return run
