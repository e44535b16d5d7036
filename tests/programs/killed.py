"""Kills a run again and again, and resumes it: ``killed.py METHOD FOLDER KILLS``.

Forks a run that is killed at a random moment, in a solve, or half way through writing a file; resumes it from its last
checkpoint, again and again, then lets it end. A fork takes no time: everything is imported.
"""

import itertools
import os
import random
import signal
import sys
import time
import warnings
from pathlib import Path
from threading import Timer

import torch
from fsspec.implementations.local import LocalFileOpener
from lightning.pytorch import seed_everything
from small_runs import Tiny, quiet_trainer
from torch import nn

from weakseg_lightning.callbacks.checkpoints import LastCheckpoint
from weakseg_lightning.cli.checkpoints import find_checkpoint
from weakseg_lightning.data import ScenesDataModule
from weakseg_lightning.energies import GridPotts
from weakseg_lightning.modules import ADMModule, Optimizer, TrustRegionModule
from weakseg_lightning.modules.core.latent_store import LatentStore
from weakseg_lightning.solvers import AlphaExpansion

method, folder, kills = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])
chance = random.Random(5)
warnings.simplefilter("ignore")


class Random(Tiny):  # whose training depends on statistics and on a random state, as of any network
    def make_body(self):
        return nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.Dropout(0.2))


def make_module(classes, store):
    solver = AlphaExpansion(GridPotts(10), unary_weight=0.5)
    seed_everything(1, verbose=False)
    settings = {"pce_fraction": 0.3, "optimizer": Optimizer(lr=0.01)}
    if method == "adm":
        return ADMModule(Random(), classes, solver, latent_lag=1, **settings)
    return TrustRegionModule(Random(), classes, solver, store=store, epochs_per_cycle=2, **settings)


def die():
    os.kill(os.getpid(), signal.SIGKILL)


def die_in_solve(which):
    solve, count = AlphaExpansion.solve, itertools.count(1)

    def solve_and_die(*given, **named):
        if next(count) == which:
            Timer(1e-4, die).start()
        return solve(*given, **named)

    AlphaExpansion.solve = solve_and_die


def die_in_write(which, ending):
    count = itertools.count(1)

    def write_and_die(file, data):
        if ending in file.path and next(count) == which:
            file.f.write(data[: len(data) // 2])
            file.f.flush()
            die()
        return file.f.write(data)

    LocalFileOpener.write = write_and_die


def train(where, end, deadly=None):
    torch.set_num_threads(1)
    data = ScenesDataModule(num_train=8, num_val=1, size=64, crop_size=48, batch_size=2, num_workers=0)
    store = LatentStore(str(where / "latents") if method == "tr_folder" else None)
    module, last = make_module(data.num_classes, store), LastCheckpoint(str(where), every_n_minutes=0)
    trainer = quiet_trainer(where, max_epochs=4, callbacks=[last], enable_checkpointing=True)
    known = [where / name for name in ("last.ckpt", "previous.ckpt") if (where / name).exists()]
    resume = find_checkpoint("fit", str(where / "last.ckpt"), where) if known else None
    if deadly is not None:
        deadly()
    trainer.fit(module, data, ckpt_path=resume, weights_only=True)
    torch.save(module.net.state_dict(), end)


def status_of_fork(*arguments):
    child = os.fork()
    if child == 0:
        try:
            train(*arguments)
            os._exit(0)
        finally:
            os._exit(1)
    return os.waitpid(child, 0)[1]


began = time.monotonic()
(folder / "undisturbed").mkdir()
assert status_of_fork(folder / "undisturbed", folder / "undisturbed.pt") == 0
whole, killed = time.monotonic() - began, 0
folders = (folder / f"killed{number}" for number in itertools.count())
where = next(folders)
where.mkdir()


def at_any_moment():
    Timer(chance.uniform(0.2, 0.9) * whole, die).start()


deaths = [
    at_any_moment,
    lambda: die_in_write(chance.randint(2, 6), ".ckpt"),
    lambda: die_in_solve(chance.randint(2, 6)),
    (lambda: die_in_write(chance.randint(2, 6), ".labels")) if method == "tr_folder" else at_any_moment,
]
while killed < kills:
    chance.random()  # forks share its state: another draw for each
    status = status_of_fork(where, folder / "killed.pt", deaths[killed % len(deaths)])
    if os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL:
        killed += 1
        continue
    assert status == 0  # the run came to its end first: compare it, and begin the next one
    one, two = (torch.load(folder / name, weights_only=True) for name in ("undisturbed.pt", "killed.pt"))
    assert all(torch.equal(one[name], two[name]) for name in one)
    where = next(folders)
    where.mkdir()
assert status_of_fork(where, folder / "killed.pt") == 0
