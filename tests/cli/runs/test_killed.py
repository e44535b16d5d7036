"""Runs that are killed again and again, at any moment, and go on from what is on the disk."""

import pytest
import torch


@pytest.mark.parametrize("method", ["adm", "tr", "tr_folder"])
def test_killed_eight_times_in_solves_and_writes_and_at_any_moment_it_ends_with_the_weights_of_the_undisturbed_run(
    method, tmp_path, run_program
):
    run_program("killed.py", method, tmp_path, 8)
    undisturbed, killed = (torch.load(tmp_path / f"{name}.pt", weights_only=True) for name in ("undisturbed", "killed"))
    assert undisturbed.keys() == killed.keys()
    assert all(torch.equal(undisturbed[name], killed[name]) for name in killed)
