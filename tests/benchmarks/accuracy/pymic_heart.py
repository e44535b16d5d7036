"""PyMIC trains its U-Net on the scribbles of ACDC, as a check of the setting in which the recipes of ``acdc/`` compare.

Its own agents, losses, transforms and data set, for as many iterations as the recipes had, on the CPU (its commands ask
for CUDA); the volumes are scored as ours are. PyMIC (Apache-2.0) and what it imports, from the project's root::

    pip install --no-deps PYMIC==0.6.2
    pip install pandas tensorboardX SimpleITK h5py
    python tests/benchmarks pymic_heart --data acdc --methods pce gated_crf
"""

import csv
import os
import sys
import tempfile
from pathlib import Path
from statistics import mean
from types import ModuleType
from typing import Any

import numpy as np
import torch
from measuring import Clock, command_line, markdown, resolved
from PIL import Image
from torch import Tensor

from weakseg_lightning.metrics import CaseScores, mean_over_cases

CLASSES, VOID, NAMES = 4, 255, ("RV", "Myo", "LV")
_VALIDATE = 100  # iterations between steps of the learning rate
_SCALE = 16  # the U-Net halves its input four times


def main() -> None:
    """Train with each method and print the table."""
    parser = command_line(__doc__)
    parser.add_argument("--data", type=resolved, required=True, help="the folder with images, masks, scribbles")
    parser.add_argument("--methods", nargs="+", choices=["pce", "gated_crf"], default=["pce", "gated_crf"])
    parser.add_argument("--iterations", type=int, default=3200)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--crop", type=int, default=128)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    rows = []
    for method in options.methods:
        with tempfile.TemporaryDirectory() as folder, Clock() as clock:
            net = train(method, Path(folder), options)
            dice = score(net, options.data)
        each = [f"{100 * value:.1f}" for value in (*dice, mean(dice))]
        rows.append([method, *each, f"{clock.wall:.0f}"])
        print(" ".join(rows[-1]), flush=True)
    print(markdown(["PyMIC", "RV", "Myo", "LV", "mean Dice", "seconds"], rows))


def train(method: str, folder: Path, options: Any) -> torch.nn.Module:
    """Train as PyMIC does, by its agent of the method."""
    _without_other_networks()
    from pymic import TaskType
    from pymic.net_run.agent_seg import SegmentationAgent
    from pymic.net_run.weak_sup.wsl_gatedcrf import WSLGatedCRF

    last, size = options.iterations, [options.crop, options.crop]
    transforms = ["NormalizeWithMeanStd", "Pad", "RandomCrop", "RandomFlip", "PartialLabelToProbability"]
    config: dict[str, Any] = {
        "dataset": {
            "tensor_type": "float",
            "task_type": TaskType.SEGMENTATION,
            "train_dir": str(folder),
            "train_csv": str(_listed(options.data, folder)),
            "train_batch_size": options.batch,
            "num_worker": 0,
            "train_transform": transforms,
            "pad_output_size": size,
            "randomcrop_output_size": size,
            "randomflip_flip_depth": False,
            "randomflip_flip_height": True,
            "randomflip_flip_width": True,
            "partiallabeltoprobability_class_num": CLASSES,
        },
        "network": {
            "net_type": "UNet2D",
            "class_num": CLASSES,
            "in_chns": 1,
            "feature_chns": [16, 32, 64, 128, 256],
            "dropout": [0.0, 0.0, 0.0, 0.5, 0.5],
        },
        "training": {
            "gpus": [0],
            "loss_type": "CrossEntropyLoss",
            "optimizer": "Adam",
            "learning_rate": 1e-3,
            "momentum": 0.9,
            "weight_decay": 1e-5,
            "lr_scheduler": "PolynomialLR",
            "lr_power": 0.9,
            "iter_max": last,
            "iter_valid": _VALIDATE,
            "random_seed": options.seed,
        },
        # as its example for ACDC, of 20,000 iterations
        "weakly_supervised_learning": {
            "regularize_w": 0.1,
            "rampup_start": last // 10,
            "rampup_end": last * 3 // 4,
            "gatedcrfloss_radius": 5,
        },
    }
    agent: Any = {"pce": SegmentationAgent, "gated_crf": WSLGatedCRF}[method](config, "train")
    agent.create_dataset()
    agent.create_network()
    agent.device = torch.device("cpu")
    agent.create_optimizer(agent.get_parameters_to_update())
    agent.create_loss_calculator()
    agent.trainIter = iter(agent.train_loader)
    for done in range(0, options.iterations, _VALIDATE):
        agent.glob_it = done
        found = agent.training()
        agent.scheduler.step()
        print(f"{done + _VALIDATE} iterations, loss {found['loss']:.4f}", flush=True)
    net: torch.nn.Module = agent.net
    return net


def score(net: torch.nn.Module, data: Path) -> list[float]:
    """Mean Dice of each class over the volumes of ``val.txt``, of their largest components as in the recipes."""
    net.eval()
    scores = CaseScores(CLASSES, largest_component=True)
    for name in (data / "val.txt").read_text().split():
        image = np.asarray(Image.open(data / "images" / f"{name}.png"), dtype=np.float32)
        labels = _label(net, torch.from_numpy((image - image.mean()) / (image.std() + 1e-5)))
        mask = torch.from_numpy(np.array(Image.open(data / "masks" / f"{name}.png"))).long()
        case, _, number = name.rpartition("_slice_")
        scores.update(labels[None], mask[None], [name], [(case, int(number), (1.0, 1.0, 1.0))])
    found = mean_over_cases(scores.compute(), NAMES)
    return [found[f"dice_{name}"] for name in NAMES]


def _label(net: torch.nn.Module, image: Tensor) -> Tensor:
    height, width = image.shape
    padded = torch.zeros(1, 1, -(-height // _SCALE) * _SCALE, -(-width // _SCALE) * _SCALE)
    padded[0, 0, :height, :width] = image
    with torch.no_grad():
        labels: Tensor = net(padded).argmax(1)[0, :height, :width]
    return labels


def _listed(data: Path, folder: Path) -> Path:
    """Write the scribbles as PyMIC has them, the class after the last one where there is none, and their list."""
    with (folder / "train.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["image", "label"])
        for name in (data / "train.txt").read_text().split():
            labels = np.array(Image.open(data / "scribbles" / f"{name}.png"))
            Image.fromarray(np.where(labels == VOID, CLASSES, labels).astype(np.uint8)).save(folder / f"{name}.png")
            writer.writerow([os.path.relpath(data / "images" / f"{name}.png", folder), f"{name}.png"])
    return folder / "train.csv"


def _without_other_networks() -> None:
    """Let PyMIC know its U-Net alone: its lists of networks and transforms import packages that this does not need."""
    from pymic.net.net2d.unet2d import UNet2D

    lists = {"pymic.net.net_dict_seg": {"SegNetDict": {"UNet2D": UNet2D}}, "imops": {"crop_to_box": None}}
    for name, found in lists.items():
        sys.modules[name] = ModuleType(name)
        vars(sys.modules[name]).update(found)


if __name__ == "__main__":
    main()
