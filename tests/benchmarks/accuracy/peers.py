"""Agreement with PyMIC on the same tensors: its losses with their gradients, and its networks with the same weights.

PyMIC (Apache-2.0) asks for much that these parts of it do not need. From the project's root::

    pip install --no-deps PYMIC==0.6.2
    python tests/benchmarks peers
"""

import contextlib
import io
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from weakseg_lightning.losses import (
    GaussianKernel,
    dice_loss,
    entropy_loss,
    gated_crf_loss,
    mumford_shah_loss,
    partial_cross_entropy,
    total_variation_loss,
)
from weakseg_lightning.modules import DMPLSModule
from weakseg_lightning.networks import UNet2D, UNet2DDualBranch

CLASSES, VOID = 4, 255
GENERATOR = torch.Generator().manual_seed(0)
LOGITS, SECOND = 2 * torch.randn(2, 2, CLASSES, 24, 16, generator=GENERATOR)
GRAY = torch.rand(2, 1, 24, 16, generator=GENERATOR)
LABELS = torch.randint(0, CLASSES, (2, 24, 16), generator=GENERATOR)
SEEDS = torch.where(torch.rand(LABELS.shape, generator=GENERATOR) < 0.1, LABELS, VOID)
RGB = GRAY.expand(-1, 3, -1, -1)  # gray images have three equal channels here
WEIGHT, MIXTURE = 0.5, 0.3
FIVE = {"feature_chns": [16, 32, 64, 128, 256], "dropout": [0.0] * 5}

Loss = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Row:
    """How far one part is from PyMIC's.

    Args:
        theirs: the value of its loss, or the number of its network's parameters.
        ours: ours.
        difference: largest difference of values, or of outputs with the same weights.
        of_gradients: largest difference of gradients, relative to the largest gradient.
    """

    theirs: float
    ours: float
    difference: float
    of_gradients: float


# ---- losses: what PyMIC's are called with, and ours -------------------------------------------------------------


def one_hot(labels: Tensor) -> Tensor:
    """As PyMIC's `get_soft_label`."""
    return nn.functional.one_hot(labels, CLASSES).movedim(3, 1).float()


def their_cross_entropy(logits: Tensor) -> Tensor:
    from pymic.loss.seg.ce import CrossEntropyLoss

    labeled = SEEDS != VOID
    given = {"ground_truth": one_hot(SEEDS.where(labeled, 0)), "pixel_weight": labeled[:, None].float()}
    value: Tensor = CrossEntropyLoss()({"prediction": logits, **given})
    return value


def their_entropy(logits: Tensor) -> Tensor:
    """Of probabilities that its ``0.999 p + 0.0005`` turns into the softmax."""
    from pymic.loss.seg.ssl import EntropyLoss

    value: Tensor = EntropyLoss({"loss_acti_func": None})({"prediction": (logits.softmax(1) - 5e-4) / 0.999})
    return value


def their_contours(logits: Tensor) -> Tensor:
    """Of stacks of one slice, and without the factor of ``0.999 p + 0.0005``."""
    from pymic.loss.seg.ssl import TotalVariationLoss

    value: Tensor = TotalVariationLoss()({"prediction": logits[:, :, None]}) / 0.999
    return value


def their_mumford_shah(penalty: str) -> Loss:
    from pymic.loss.seg.mumford_shah import MumfordShahLoss

    loss = MumfordShahLoss({"MumfordShahLoss_penalty": penalty, "MumfordShahLoss_lambda": 0.7})
    return lambda logits: loss({"prediction": logits, "image": GRAY})  # type: ignore[no-any-return]


def their_gated_crf(logits: Tensor) -> Tensor:
    """With the two kernels of its examples, and all pixels as sources: else it counts those outside the image, too."""
    from pymic.loss.seg.gatedcrf import GatedCRFLoss

    kernels = [{"weight": 1.0, "xy": 5, "rgb": 0.1}, {"weight": 1.0, "xy": 3}]
    size = LOGITS.shape[2:]
    inside = torch.ones_like(GRAY)
    value: Tensor = GatedCRFLoss()(logits.softmax(1), kernels, 5, {"rgb": GRAY.clone()}, *size, inside)["loss"]
    return value


def our_gated_crf(logits: Tensor) -> Tensor:
    """Three equal channels are as far apart as one is at sigma / sqrt(3)."""
    kernels = [GaussianKernel(1.0, 5, 0.1 * math.sqrt(3)), GaussianKernel(1.0, 3, None)]
    return gated_crf_loss(logits, RGB, 1.0, kernels, radius=5, downscale=1)


def their_dice(logits: Tensor, labels: Tensor = LABELS) -> Tensor:
    from pymic.loss.seg.dice import DiceLoss

    value: Tensor = DiceLoss()({"prediction": logits, "ground_truth": one_hot(labels)})
    return value


def their_dmpls(logits: Tensor) -> Tensor:
    """The loss of its `WSLDMPLS` with its parts, at a fixed weight of the mixture."""
    mixture = MIXTURE * logits.softmax(1).detach() + (1 - MIXTURE) * SECOND.softmax(1)
    labels = mixture.argmax(1)
    supervised = (their_cross_entropy(logits) + their_cross_entropy(SECOND)) / 2
    return supervised + WEIGHT * (their_dice(logits, labels) + their_dice(SECOND, labels)) / 2


def our_dmpls(logits: Tensor) -> Tensor:
    module: Any = DMPLSModule(UNet2DDualBranch(widths=(4, 8), dropout=(0.0, 0.0)), CLASSES, pseudo_weight=WEIGHT)
    module.net.branches = lambda images: (logits, SECOND)
    module._mixing_weight = lambda: MIXTURE
    batch = {"image": RGB, "seeds": SEEDS, "valid": torch.ones_like(SEEDS, dtype=torch.bool)}
    return sum(module.loss_terms(module.training_logits(batch), batch).values(), torch.zeros(()))


LOSSES: dict[str, tuple[Loss, Loss]] = {
    "partial cross-entropy": (their_cross_entropy, lambda f: partial_cross_entropy(f, SEEDS)),
    "entropy": (their_entropy, entropy_loss),
    "contours (total variation)": (their_contours, total_variation_loss),
    "Mumford-Shah, l1": (lambda f: their_mumford_shah("l1")(f), lambda f: mumford_shah_loss(f, RGB, 0.7)),
    "Mumford-Shah, l2": (lambda f: their_mumford_shah("l2")(f), lambda f: mumford_shah_loss(f, RGB, 0.7, "quadratic")),
    "gated CRF": (their_gated_crf, our_gated_crf),
    "Dice": (their_dice, lambda f: dice_loss(f, LABELS)),
    "DMPLS": (their_dmpls, our_dmpls),
}


def compare_losses(name: str) -> Row:
    """Values and gradients by the scores of one of `LOSSES`."""
    values, gradients = [], []
    for loss in LOSSES[name]:
        logits = LOGITS.clone().requires_grad_()
        value = loss(logits)
        values.append(value.item())
        gradients.append(torch.autograd.grad(value, logits)[0])
    scale = gradients[0].abs().max().item()
    return Row(*values, abs(values[0] - values[1]), (gradients[0] - gradients[1]).abs().max().item() / scale)


# ---- networks ---------------------------------------------------------------------------------------------------


def their_unet(channels: int) -> nn.Module:
    from pymic.net.net2d.unet2d import UNet2D

    net: nn.Module = UNet2D({"in_chns": channels, "class_num": CLASSES, **FIVE})
    return net


def their_dual_branch(channels: int) -> nn.Module:
    from pymic.net.net2d.unet2d_dual_branch import UNet2D_DualBranch

    net: nn.Module = UNet2D_DualBranch({"in_chns": channels, "class_num": CLASSES, **FIVE})
    return net


NETWORKS: dict[str, tuple[Callable[[int], nn.Module], type[UNet2D], int]] = {
    "U-Net, gray": (their_unet, UNet2D, 1),
    "U-Net, color": (their_unet, UNet2D, 3),
    "U-Net, two decoders": (their_dual_branch, UNet2DDualBranch, 1),
}


def compare_networks(name: str) -> Row:
    """Numbers of parameters, and outputs and gradients by the image in training, with the same weights."""
    build, describe, channels = NETWORKS[name]
    undisturbed: dict[str, Any] = {"perturbation": 0.0} if describe is UNet2DDualBranch else {}
    with torch.random.fork_rng(), contextlib.redirect_stdout(io.StringIO()):  # it prints its settings
        torch.manual_seed(0)
        # double precision: where two pixels are equal but for rounding, max-pooling may choose either
        theirs = build(channels).double()
    ours: Any = describe(channels, dropout=(0.0,) * 5, **undisturbed).build(CLASSES).double()
    # both list the layers in the order of their computation
    ours.load_state_dict(dict(zip(ours.state_dict(), theirs.state_dict().values(), strict=True)))
    image = torch.rand(2, channels, 48, 32, generator=torch.Generator().manual_seed(1)).double().requires_grad_()
    color, wanted = image.expand(-1, 3, -1, -1), theirs(image)
    found = ours.branches(color) if undisturbed else ours(color)
    wanted, found = (torch.cat(each) if undisturbed else each for each in (wanted, found))
    gradients = [torch.autograd.grad(output.square().mean(), image)[0] for output in (wanted, found)]
    numbers = [float(sum(p.numel() for p in net.parameters())) for net in (theirs, ours)]
    of_gradients = (gradients[0] - gradients[1]).abs().max().item() / gradients[0].abs().max().item()
    return Row(*numbers, (wanted - found).abs().max().item(), of_gradients)


def main() -> None:
    """Print the table."""
    print("| part | PyMIC | ours | largest difference | of gradients, relative |")
    print("|---|---|---|---|---|")
    rows = {name: compare_losses(name) for name in LOSSES} | {name: compare_networks(name) for name in NETWORKS}
    for name, row in rows.items():
        values = [f"{value:,.0f}" if name in NETWORKS else f"{value:.6f}" for value in (row.theirs, row.ours)]
        print(f"| {name} | {' | '.join(values)} | {row.difference:.1e} | {row.of_gradients:.1e} |")


if __name__ == "__main__":
    main()
