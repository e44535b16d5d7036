"""A run of sharded weights, ended in its last validation, and the run that goes on: ``sharded_end.py FOLDER``."""

import sys
from pathlib import Path

import torch
from ended_runs import Ending, run
from on_cpus import CPUShards

folder = Path(sys.argv[1])
_, entries = run(folder / "whole", "steps", strategy=CPUShards())
_, before = run(folder / "ended", "steps", Ending("on_validation_batch_start", 7, 2), strategy=CPUShards())
_, after = run(folder / "resumed", "steps", resumed=folder / "ended" / "last.ckpt", strategy=CPUShards())
assert before + after == entries, (before, after, entries)
whole, resumed = (torch.load(folder / name / "last.ckpt", weights_only=True) for name in ("whole", "resumed"))
assert all(torch.equal(whole["state_dict"][name], resumed["state_dict"][name]) for name in whole["state_dict"])
