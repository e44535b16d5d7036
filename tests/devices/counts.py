"""Copies between host and device in a training step of each method, and the times that the host waits for the device.

Print the table, on the simulated device, as Markdown (``--places``: with the lines of the package behind it)::

    python tests/devices/counts.py
"""

import sys
from pathlib import Path
from tempfile import TemporaryDirectory

if __name__ == "__main__":
    sys.path += [str(Path(__file__).parent), str(Path(__file__).parents[1] / "programs")]

import torch
from every_method import METHODS
from lightning.pytorch.callbacks import LambdaCallback
from lightning.pytorch.strategies import SingleDeviceStrategy
from simulated import Counts, SimAccelerator, counting, load
from small_runs import quiet_trainer

FIRST, LAST = 4, 8  # the steps between which is counted, all in the second phase


def count_steps(name: str) -> Counts:
    """Count what some steps of a method copy and wait for; the steps are LAST - FIRST."""
    method, watch = METHODS[name], counting()
    found: list[Counts] = []

    def after_batch(trainer: object, *_: object) -> None:
        step = trainer.global_step  # type: ignore[attr-defined]
        if step == FIRST:
            found.append(watch.__enter__())
        elif step == LAST:
            watch.__exit__(None, None, None)

    with TemporaryDirectory() as folder:
        trainer = quiet_trainer(
            folder,
            max_steps=LAST,
            max_epochs=-1,
            accelerator=SimAccelerator(),
            strategy=SingleDeviceStrategy(torch.device("sim", 0)),
            callbacks=[LambdaCallback(on_train_batch_end=after_batch)],
            log_every_n_steps=1000,
        )
        trainer.fit(method.module(), method.scenes(num_train=20))
    return found[0]


def per_step(number: int) -> str:
    """A number of some steps, of one."""
    return f"{number / (LAST - FIRST):.3g}"


def main() -> None:
    """Print one row for each method."""
    load()
    print("| method | copies to the device, the batch's | others | copies to the host | waits |")
    print("| --- | ---: | ---: | ---: | ---: |")
    for name in METHODS:
        counts = count_steps(name)
        row = (counts.of_batch, counts.to_device - counts.of_batch, counts.to_host, counts.waits)
        print(f"| `{name}` | {' | '.join(map(per_step, row))} |")
        if "--places" in sys.argv:
            print("\n".join(f"    {per_step(number)} {place}" for place, number in sorted(counts.places.items())))


if __name__ == "__main__":
    main()
