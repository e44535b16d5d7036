from pathlib import Path
from typing import Any

import pytest
import torch
from step_clock import waited_for_solver
from throughput import Run, command, middles, numbers, parse, parts, profile_table, runs_of, table

# Two ranks of 4 images; four steps, of which the profiler saw 10 ms of waiting each.
FOUND: dict[str, Any] = {
    "images": 8,
    "steps_ms": [100.0, 100.0, 100.0, 180.0],
    "hooks_ms": [30.0] * 4,
    "epochs": [0] * 4,
    "solves_ms": [20.0, 20.0, 20.0, 36.0],
    "profile_ms": {
        "[_TrainingEpochLoop].train_dataloader_next": 12.0,
        "[LightningModule]ADMModule.on_train_batch_start": 40.0,
        "[Callback]PanelWriter{}.on_train_batch_start": 1.0,
        "[Strategy]DDPStrategy.batch_to_device": 2.0,
        "[Strategy]DDPStrategy.training_step": 10.0,
        "[Strategy]DDPStrategy.backward": 35.0,
        "[LightningModule]ADMModule.optimizer_step": 51.0,
    },
    "epochs_per_cycle": None,
    "loader": 200.0,
}


def test_images_a_second_are_those_of_all_ranks_over_the_mean_step() -> None:
    found = numbers(FOUND)
    assert found == {
        "images_per_second": pytest.approx(8 / 0.120),
        "step_ms": 100.0,
        "solver": pytest.approx(24 / 120),
        "waiting": pytest.approx(0.1),
        "loader": 200.0,
    }
    assert numbers(FOUND | {"solves_ms": []})["solver"] is None


def test_stage_a_is_spread_over_the_epochs_of_its_cycle() -> None:
    """Two steps of 50 ms with a stage A of 30 and 50 ms, then one of 60 without: 40 / 5 + 160 / 3 ms on average."""
    found = FOUND | {
        "steps_ms": [80.0, 100.0, 60.0],
        "hooks_ms": [30.0, 50.0, 0.0],
        "epochs": [0, 0, 1],
        "solves_ms": [],
        "epochs_per_cycle": 5,
    }
    average = 160 / 3 + 8
    assert numbers(found)["images_per_second"] == pytest.approx(8000 / average)
    assert numbers(found)["step_ms"] == pytest.approx(50 + 8)
    assert numbers(found)["solver"] == pytest.approx(8 / average)
    with pytest.raises(ValueError, match="no step was in an epoch that begins a cycle of 5 epochs"):
        numbers(found | {"epochs": [1, 2, 3]})


def test_the_parts_of_a_step_add_up() -> None:
    found = parts(FOUND)
    assert list(found.values()) == pytest.approx([12, 2, 24, 16, 10, 35, 6, 15])
    lines = profile_table("adm_grid", found).splitlines()
    assert lines[2] == "| waiting for data | 12.0 | 10.0 % |"
    assert lines[-1] == "| all | 120.0 | |"


def test_with_a_lag_the_solver_costs_what_is_waited_for() -> None:
    logged = {"hook_solve_ms": 5.0, "hook_transfer_ms": 1.0, "train_loss": torch.tensor(1.0)}
    assert waited_for_solver(logged) == 6.0
    assert waited_for_solver(logged | {"hook_wait_ms": 2.0}) == 2.0
    assert waited_for_solver({}) is None


def test_table_compares_with_pce_on_as_many_ranks() -> None:
    row = {"images_per_second": 50.0, "step_ms": 160.0, "solver": None, "waiting": 0.0125, "loader": 400.0}
    slower = row | {"images_per_second": 40.0, "step_ms": 200.0, "solver": 0.2}
    runs = {Run("pce", None, 1): row, Run("adm_grid", 0, 1): slower, Run("adm_grid", 0, 2): slower}
    header, rule, *rows = table(runs).splitlines()
    assert rule.count("---") == header.count("|") - 1
    assert rows == [
        "| pce | - | 1 | 50.0 | 100.0 % | 160.0 | - | 1.2 % |",
        "| adm_grid | 0 | 1 | 40.0 | 80.0 % | 200.0 | 20.0 % | 1.2 % |",
        "| adm_grid | 0 | 2 | 40.0 | - | 200.0 | 20.0 % | 1.2 % |",
    ]
    assert table(runs, loader=True).splitlines()[2].endswith("| 1.2 % | 400.0 |")


def test_medians_are_taken_over_the_repeats() -> None:
    assert middles([{"a": 1.0, "b": None}, {"a": 9.0, "b": None}, {"a": 2.0, "b": None}]) == {"a": 2.0, "b": None}


def test_a_sweep_has_a_lag_where_the_method_has_one() -> None:
    options, extra = parse(
        ["--recipes", "pce", "adm_grid", "--ranks", "1", "2", "--lag", "0", "1", "--threads", "1", "--", "--x", "y"]
    )
    runs = runs_of(options)
    one = [Run("pce", None, 1), Run("adm_grid", 0, 1), Run("adm_grid", 1, 1)]
    assert runs == [*one, *(run._replace(ranks=2) for run in one)]
    line = command(runs[-1], options, extra, Path("found.json"))
    assert line[2:7] == ["fit", "--config", "adm_grid", "--x", "y"]
    assert {"--model.latent_lag=1", "--trainer.devices=2", "--trainer.strategy=ddp"} <= set(line)
    assert not [part for part in command(runs[0], options, extra, Path("found.json")) if "latent_lag" in part]
