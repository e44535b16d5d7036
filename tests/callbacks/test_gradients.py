import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from lightning.pytorch import Callback
from PIL import Image
from torch import Tensor

sys.path.append(str(Path(__file__).parent))
from tiny_runs import losses_to, make_trainer

from weakseg_lightning.callbacks import GradientPanels
from weakseg_lightning.callbacks.gradients import descent_colors, draw_gradients
from weakseg_lightning.data import ScenesDataModule
from weakseg_lightning.energies import GridPotts
from weakseg_lightning.losses import GridPottsLoss
from weakseg_lightning.modules import ADMModule
from weakseg_lightning.networks import SMPNetwork
from weakseg_lightning.solvers import AlphaExpansion


def halves(size: int = 12) -> dict[str, Tensor]:
    """A dark and a bright half with a seed in each, a row of padding."""
    image = torch.full((1, 3, size, size), 0.2)
    image[..., size // 2 :] = 0.9
    seeds = torch.full((1, size, size), 255)
    seeds[0, 3, 1], seeds[0, 3, -2] = 0, 1
    valid = torch.ones_like(seeds, dtype=torch.bool)
    valid[:, -1] = False
    return {"image": image, "seeds": seeds, "valid": valid, "seed_labels": torch.tensor([[True, True, False]])}


def test_gradients_are_those_of_the_losses() -> None:
    batch, scores = halves(), torch.randn(1, 3, 12, 12)
    potts, solver = GridPotts(3.0), AlphaExpansion(GridPotts(5.0))
    found = GradientPanels({"GD": GridPottsLoss(potts)}, {"ADM": solver}).gradients(scores, batch)
    assert list(found) == ["GD", "ADM"]
    # of the relaxed energy: by finite differences in double precision, at some scores
    loss = GridPottsLoss(potts)
    for place in ((0, 0, 3, 3), (0, 1, 5, 6), (0, 2, 10, 11)):
        step = torch.zeros_like(scores)
        step[place] = 1e-2
        change = [loss(scores + sign * step, batch["image"], batch["valid"]).item() for sign in (1, -1)]
        assert found["GD"][place].item() == pytest.approx((change[0] - change[1]) / 2e-2, abs=2e-4)
    # of cross-entropy: (S - X) / number of pixels, none on seeds and padding
    latent = solver.solve(scores, **{k: batch[k] for k in ("image", "seeds", "valid")}, label_set=batch["seed_labels"])
    pixels = batch["valid"] & (batch["seeds"] == 255)
    one_hot = torch.nn.functional.one_hot(latent.labels.long() % 255, 3).permute(0, 3, 1, 2)
    expected = torch.where(pixels[:, None], scores.softmax(1) - one_hot, 0.0) / pixels.sum()
    torch.testing.assert_close(found["ADM"], expected)


def test_terms_see_the_chosen_channels_or_the_guide() -> None:
    """Of five channels three; and of a map of regions its edges, as in training."""
    batch, scores = halves(), torch.randn(1, 3, 12, 12)
    expected = GradientPanels({"GD": GridPottsLoss()}, {"ADM": AlphaExpansion()}).gradients(scores, batch)
    others = torch.rand(1, 5, 12, 12)
    others[:, [4, 0, 2]] = batch["image"]
    batch |= {"image": others, "colors": torch.tensor([[4, 0, 2]])}
    found = GradientPanels({"GD": GridPottsLoss()}, {"ADM": AlphaExpansion()}).gradients(scores, batch)
    for title, gradient in expected.items():
        assert torch.equal(found[title], gradient)

    regions = GridPotts(5.0, edges="regions", dilation=0)
    by_regions = GradientPanels({"GD": GridPottsLoss(regions)}, {"ADM": AlphaExpansion(regions)})
    with pytest.raises(ValueError, match="the batch has no `guide`"):
        by_regions.gradients(scores, batch)
    guide = torch.ones(1, 1, 12, 12, dtype=torch.int32)
    guide[..., 6:] = 2
    found = by_regions.gradients(scores, batch | {"guide": guide})
    latent = AlphaExpansion(regions).solve(
        scores, guide.float(), seeds=batch["seeds"], label_set=batch["seed_labels"], valid=batch["valid"]
    )
    raised = found["ADM"].argmin(1)[batch["valid"] & (batch["seeds"] == 255)]
    assert torch.equal(raised, latent.labels.long()[batch["valid"] & (batch["seeds"] == 255)])


def test_adm_pulls_where_gradient_descent_sees_nothing() -> None:
    """Figure 4: the prediction's border is far from the object's."""
    batch = halves()
    scores = torch.zeros(1, 3, 12, 12)
    scores[:, 2] = -9
    scores[:, 0], scores[:, 1, :, 10:] = 2.0, 4.0
    found = GradientPanels({"GD": GridPottsLoss(GridPotts(3.0))}, {"ADM": AlphaExpansion()}).gradients(scores, batch)
    there = (0, 1, slice(0, 11), slice(6, 9))  # in the bright half, not yet labeled so
    pull = {name: (-gradient[there] / gradient.abs().max()).min().item() for name, gradient in found.items()}
    assert pull["ADM"] > 0.5
    assert pull["GD"] < 0.1


def test_one_label_alone_is_not_insisted_on() -> None:
    batch = halves() | {"seed_labels": torch.tensor([[True, False, False]]), "seeds": torch.full((1, 12, 12), 255)}
    scores = torch.zeros(1, 3, 12, 12)
    scores[:, 1] = 5
    (gradient,) = GradientPanels({}, {"ADM": AlphaExpansion()}).gradients(scores, batch).values()
    assert (gradient[:, 1, :-1] < 0).all()


def test_colors_are_of_the_class_that_is_raised() -> None:
    gradient = torch.zeros(3, 10, 10)
    gradient[2, :5], gradient[0, :5] = -1.0, 1.0
    gradient[1, 5], gradient[0, 5] = -0.25, 0.1
    palette = [[0, 0, 0], [255, 0, 0], [0, 0, 200]]
    painted = descent_colors(gradient, palette)
    assert (painted[:5] == [0, 0, 200]).all()
    assert (painted[5] == [255, 191, 191]).all()
    assert (painted[6:] == 255).all()


def test_no_gradient_anywhere_is_white() -> None:
    assert (descent_colors(torch.zeros(2, 4, 4)) == 255).all()


def test_picture_has_a_column_per_term() -> None:
    batch, scores = halves(), torch.randn(1, 3, 12, 12)
    narrow = draw_gradients(batch, scores, {"a": scores})
    wide = draw_gradients(batch, scores, {"a": scores, "b": -scores}, ["x", "y", "z"], title="epoch 0")
    assert wide.width / narrow.width == pytest.approx(4 / 3, rel=0.01)
    assert np.asarray(wide).std() > 5


def test_names_of_classes_are_no_formulas_and_colors_may_be_fewer() -> None:
    batch, scores = halves(), torch.randn(1, 3, 12, 12)
    picture = draw_gradients(batch, scores, {"a": scores}, ["$x_$", "a$b$", "_c"], palette=[(0, 0, 0), (255, 0, 0)])
    assert picture.width > 100


def test_there_is_something_to_draw() -> None:
    with pytest.raises(ValueError, match="`regularizers` and `solvers` are both empty"):
        GradientPanels(regularizers={}, solvers={})


# ---- in a run -------------------------------------------------------------------------------------------------


def train(folder: Path, monkeypatch: pytest.MonkeyPatch, *callbacks: Callback) -> list[float]:
    monkeypatch.setenv("PL_GLOBAL_SEED", "3")
    torch.manual_seed(0)
    data = ScenesDataModule(num_train=8, num_val=1, size=40, crop_size=32, batch_size=4, num_workers=0)
    module = ADMModule(SMPNetwork("unet", "timm-mobilenetv3_small_minimal_100", None), data.num_classes)
    losses: list[float] = []
    make_trainer(folder, *callbacks, losses_to(losses), max_epochs=4, limit_val_batches=0).fit(module, data)
    return losses


def test_pictures_of_a_run_that_goes_on_as_if_nothing_had_been_drawn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn = train(tmp_path, monkeypatch, GradientPanels(every_n_epochs=2, num_images=2, time_fraction=1))
    names = sorted(path.name for path in (tmp_path / "gradients").iterdir())
    assert names == ["epoch_0000.png", "epoch_0002.png", "epoch_0003.png"]
    with Image.open(tmp_path / "gradients/epoch_0002.png") as picture:
        assert np.asarray(picture.convert("L")).std() > 5
    assert drawn == train(tmp_path / "plain", monkeypatch)
