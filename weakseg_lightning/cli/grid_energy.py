"""`weakseg grid-energy`: the grid CRF's energy of trained networks, on training and validation images, and over a run."""

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import torch
from matplotlib.figure import Figure
from torch import Tensor
from torch.utils.data import DataLoader, Subset

from weakseg_lightning.checkpoints import load_module
from weakseg_lightning.cli.evaluation import choose, find_device, load_data, read_config, shown
from weakseg_lightning.data import SegmentationDataModule, collate
from weakseg_lightning.metrics import MeanGridEnergy
from weakseg_lightning.modules import WeakSegModule

__all__ = ["grid_energy"]

Splits = tuple[Literal["train"], Literal["val"]]
_SPLITS: Splits = ("train", "val")


def grid_energy(
    runs: list[Path],
    names: list[str] = [],  # noqa: B006 - never changed, and the default has to show in --help
    images: int = 1000,
    seed: int = 0,
    root: str | None = None,
    output: Path = Path("grid_energy"),
    device: Literal["auto", "cpu", "cuda"] = "auto",
) -> None:
    """Compare runs by the grid CRF's energy of what their networks predict, on training and validation images.

    Table 1 of Marin et al. (CVPR 2019), and the plot of its figure 3. Each run's last.ckpt predicts the same training
    and validation images, whole, in evaluation mode; the table has the means over the images of the grid Potts energy
    of the labels, an edge, at weight 80, and the mIoU (that of training images against their full masks, where there
    are some). The plot has `val_grid_energy` of every validation of the runs against the iteration; for several points,
    validate often (`--trainer.val_check_interval`). A run that begins with another's weights begins at iteration 0.

    Results are printed as Markdown, and are in OUTPUT/table.csv and OUTPUT/energy.png.

    Args:
        runs: folders of the runs, as runs/adm_grid/version_0, each with config.yaml, metrics.csv and checkpoints.
        names: what to call them; the names of their folders by default.
        images: how many training and how many validation images are predicted; all if there are fewer.
        seed: which images are used.
        root: folder of the data set, if it is not where the runs had it.
        output: folder for the results.
        device: what the networks run on; a GPU by default, if there is one.
    """
    titles = names or [_name(run) for run in runs]
    if len(titles) != len(runs) or len(set(titles)) != len(titles):
        raise ValueError(f"`names` must be {len(runs)} different ones, one a run, got {', '.join(titles)}")
    if images < 1:
        raise ValueError(f"`images` must be at least 1, got {images}")
    curves = {title: read_curve(run / "metrics.csv") for title, run in zip(titles, runs, strict=True)}
    where = find_device(device)
    table = {title: _measured(run, images, seed, root, where) for title, run in zip(titles, runs, strict=True)}
    output.mkdir(parents=True, exist_ok=True)
    _write_csv(output / "table.csv", table)
    energy_figure(curves).savefig(output / "energy.png", dpi=130)
    print(markdown(table))
    print(f"\nResults are in {shown(output)}.")


# ---- measuring --------------------------------------------------------------------------------------------------


def _measured(run: Path, images: int, seed: int, root: str | None, device: str) -> dict[str, float]:
    module = load_module(run / "checkpoints" / "last.ckpt").to(device)
    data = load_data(read_config(run, "runs"), root, "fit")
    if module.num_classes != data.num_classes:
        raise ValueError(f"`runs`: {run} has a network of {module.num_classes} classes, data of {data.num_classes}")
    found: dict[str, float] = {}
    for split in _SPLITS:
        found |= {f"{split}_{name}": value for name, value in _scores(module, data, split, images, seed).items()}
    return found


@torch.no_grad()
def _scores(
    module: WeakSegModule, data: SegmentationDataModule, split: Literal["train", "val"], images: int, seed: int
) -> dict[str, float]:
    """Mean energy of the predictions for some images of a split, whole, and their mIoU."""
    source = data.whole_images(split)
    metrics = module.make_scores()
    chosen = choose(len(source), images, seed)  # type: ignore[arg-type]
    for batch in DataLoader(Subset(source, chosen), collate_fn=collate):
        image: Tensor = batch["image"].to(module.device)
        labels = module(image).argmax(1).cpu()
        energy.update(labels, batch["image"], batch["valid"])
        segmentation.update(labels, batch["mask"])
    return {"images": len(chosen), "grid_energy": float(energy.compute())}
