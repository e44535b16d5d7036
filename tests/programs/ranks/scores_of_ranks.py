"""Metrics whose updates two ranks share: ``scores_of_ranks.py FOLDER``, one file of results for each rank."""

import sys
from pathlib import Path

import torch
from torch.distributed import destroy_process_group, get_rank, init_process_group

folder = Path(sys.argv[1])
torch.set_num_threads(1)
init_process_group("gloo")
found = []
for metric, updates in torch.load(folder / "updates.pt", weights_only=False):
    for arguments in updates[get_rank()]:
        metric.update(*arguments)
    found.append(metric.compute())
torch.save(found, folder / f"rank{get_rank()}.pt")
destroy_process_group()
