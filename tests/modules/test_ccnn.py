import itertools
from contextlib import nullcontext

import pytest
import torch
from small_runs import CoarseNetwork
from torch.nn import functional as F

from weakseg_lightning import load_module
from weakseg_lightning.constraints import AreaBounds, BoundingBoxes, SizeBuckets, Suppression, preset
from weakseg_lightning.data import ScenesDataModule
from weakseg_lightning.modules import CCNNModule, Optimizer
from weakseg_lightning.networks import SMPNetwork
from weakseg_lightning.solvers import AdaptiveBias, ConstrainedLatent

CLASSES = 4


def ccnn(**arguments):
    return CCNNModule(CoarseNetwork(), CLASSES, **{"constraints": preset("tags"), "map_stride": 4, **arguments})


@pytest.fixture
def batch():
    torch.manual_seed(0)
    valid = torch.ones(3, 24, 32, dtype=torch.bool)
    valid[1, 16:] = False
    seeds = torch.full((3, 24, 32), 255)
    seeds[2] = 0
    seeds[2, :8, :8] = 3
    return {
        "image": torch.rand(3, 3, 24, 32),
        "seeds": seeds,
        "valid": valid,
        "tags": torch.tensor([[1, 1, 0, 0], [1, 1, 1, 0], [1, 0, 0, 1]]).bool(),
        "sizes": torch.tensor([[1, 1, -1, -1], [1, 0, 1, -1], [1, -1, -1, 0]], dtype=torch.int8),
        "boxes": [torch.tensor([[4.0, 4.0, 16.0, 12.0, 1.0]]), torch.zeros(0, 5), torch.tensor([[0.0, 0, 8, 8, 3]])],
        "full": torch.tensor([False, False, True]),
        "id": ["a", "b", "c"],
    }


def scenes(**arguments):
    small = {"num_train": 6, "num_val": 2, "size": 64, "crop_size": 64, "batch_size": 2, "supervision": "tags"}
    return ScenesDataModule(**{**small, **arguments})


# ---- the latent distribution ----------------------------------------------------------------------------------


def test_tags_give_every_class_its_share(batch):
    module = ccnn()
    logits = 3 * torch.randn(3, CLASSES, 6, 8)
    logits[:, 2] += 9
    latent = module.solve_latent(logits, batch)
    assert latent.converged.all()
    cells = batch["valid"][:, 2::4, 2::4].float()
    fractions = (latent.probabilities * cells[:, None]).sum((2, 3)) / cells.sum((1, 2))[:, None]
    assert (fractions[~batch["tags"]] == 0).all()
    assert (fractions[:, 0] >= 0.3 - 1e-4).all()
    assert (fractions[:, 0] <= 0.7 + 1e-4).all()
    assert (latent.probabilities[1][:, 4:] == 0).all(), "padding has no label"
    torch.testing.assert_close(fractions.sum(1), torch.ones(3))


def test_boxes_hold_their_class(batch):
    latent = ccnn(constraints=[Suppression(), BoundingBoxes(0.75, slack=None)]).solve_latent(
        torch.zeros(3, CLASSES, 6, 8), batch
    )
    box = latent.probabilities[0, 1, 1:3, 1:4]
    torch.testing.assert_close(box.mean(), torch.tensor(0.75))
    torch.testing.assert_close(latent.probabilities[0, 1].sum(), box.sum())
    assert (latent.probabilities[1, 0, :4] == 1).all(), "an image without a box is background"


def test_regions_are_masks_of_the_batch(batch):
    batch["left"] = torch.zeros_like(batch["valid"])
    batch["left"][:, :, :16] = True
    module = ccnn(constraints=[AreaBounds(1, lower=0.9, region="left")])
    latent = module.solve_latent(torch.zeros(3, CLASSES, 6, 8), batch)
    torch.testing.assert_close(latent.probabilities[0, 1, :, :4].mean(), torch.tensor(0.9))
    torch.testing.assert_close(latent.probabilities[0, 1, :, 4:].mean(), torch.tensor(0.25))


def test_labels_of_the_latent_have_the_size_of_the_images(batch):
    module = ccnn()
    assert module.latent_labels is None
    module.latent, module._image_size = module.solve_latent(torch.randn(3, CLASSES, 6, 8), batch), (24, 32)
    labels = module.latent_labels
    assert labels is not None
    assert (labels.shape, labels.dtype) == ((3, 24, 32), torch.uint8)
    assert torch.equal(labels == 255, ~batch["valid"])


def test_a_coarser_map_is_an_average_of_cells(batch):
    module = ccnn(map_stride=8)
    scores = module.score(batch["image"])
    torch.testing.assert_close(scores, F.avg_pool2d(ccnn().score(batch["image"]), 2))
    assert module.solve_latent(scores.detach(), batch).probabilities.shape == (3, CLASSES, 3, 4)


def test_constraints_that_cannot_be_met_are_told_once(batch):
    rules = [AreaBounds("background", upper=0.2), AreaBounds("present", upper=0.1), Suppression()]
    module = ccnn(constraints=rules)
    latent = module.solve_latent(torch.randn(3, CLASSES, 6, 8), batch)
    with pytest.warns(UserWarning, match=r"image 'a'.*not repeated"):
        module.report_unsolved(latent.message, batch["id"])
    assert not latent.converged[0]
    assert torch.isfinite(latent.probabilities).all()
    module.report_unsolved(latent.message, batch["id"])  # warnings are errors here


# ---- the loss -------------------------------------------------------------------------------------------------


def test_loss_and_gradient_equal_the_closed_form(batch):
    batch["full"][:] = False
    module = ccnn()
    logits = torch.randn(3, CLASSES, 6, 8, requires_grad=True)
    latent = module.solve_latent(logits.detach(), batch)
    terms = module.latent_loss(logits, latent, batch)
    assert set(terms) == {"kl"}
    cells = batch["valid"][:, 2::4, 2::4]
    p, q = latent.probabilities, logits.softmax(1)
    each = torch.where(p > 0, p * (p.clamp(min=1e-30).log() - q.log()), 0.0).sum((1, 2, 3)) / cells.sum((1, 2))
    assert each.min() > 0
    torch.testing.assert_close(terms["kl"], each.mean())
    terms["kl"].backward()
    expected = (q - p) * cells[:, None] / cells.sum((1, 2))[:, None, None, None] / 3
    torch.testing.assert_close(logits.grad, expected.detach())


def test_an_image_with_its_full_mask_learns_from_that(batch):
    module = ccnn(mask_weight=0.5)
    logits = torch.randn(3, CLASSES, 6, 8)
    latent = module.solve_latent(logits, batch)
    terms = module.latent_loss(logits, latent, batch)
    upsampled = F.interpolate(logits, scale_factor=4, mode="bilinear")
    torch.testing.assert_close(terms["mask"], 0.5 * F.cross_entropy(upsampled[2:], batch["seeds"][2:]) / 3)
    alone = {**batch, "full": torch.tensor([False, False, False])}
    weak = module.latent_loss(logits[:2], module.solve_latent(logits[:2], _first_two(alone)), _first_two(alone))
    torch.testing.assert_close(terms["kl"], weak["kl"] * 2 / 3)


def _first_two(batch):
    return {name: value[:2] for name, value in batch.items()}


def test_images_with_full_masks_alone_have_a_finite_loss(batch):
    batch["full"][:] = True
    batch["seeds"][:] = 0
    module = ccnn()
    logits = torch.randn(3, CLASSES, 6, 8)
    terms = module.latent_loss(logits, module.solve_latent(logits, batch), batch)
    assert float(terms["kl"]) == 0
    assert float(terms["mask"]) > 0


# ---- before training ------------------------------------------------------------------------------------------


def test_contradictions_stop_before_training(make_trainer):
    rules = [Suppression(), AreaBounds("background", upper=0.2), AreaBounds("foreground", upper=0.1)]
    module = CCNNModule(CoarseNetwork(), 6, constraints=rules, map_stride=4)
    with pytest.raises(ValueError, match=r"background <= 0.2 contradicts .* <= 0.1 for image train_00000.*and 1 more"):
        make_trainer(max_epochs=1).fit(module, datamodule=scenes())
    assert module.trainer.global_step == 0


class SkyScenes(ScenesDataModule):
    """Scenes whose batches have the mask of a region."""

    def on_after_batch_transfer(self, batch, dataloader_idx):
        sky = torch.zeros_like(batch["valid"])
        sky[:, :32] = True
        return {**super().on_after_batch_transfer(batch, dataloader_idx), "sky": sky}


@pytest.mark.parametrize(("data", "raises"), [(SkyScenes, None), (ScenesDataModule, "got 'sky': the data has none")])
def test_masks_of_regions_come_with_the_batches_of_a_data_module(make_trainer, data, raises):
    module = CCNNModule(CoarseNetwork(), 6, constraints=[AreaBounds(1, 0.9, region="sky")], map_stride=4)
    expected = nullcontext() if raises is None else pytest.raises(ValueError, match=raises)
    with expected:
        make_trainer(max_steps=1, limit_val_batches=0).fit(
            module, datamodule=data(num_train=2, num_val=1, size=64, crop_size=64, batch_size=2, supervision="tags")
        )
    assert module.trainer.global_step == (raises is None)


def test_unknown_classes_stop_before_training(make_trainer):
    module = CCNNModule(CoarseNetwork(), 6, constraints=[AreaBounds("unicorn", lower=0.1)], map_stride=4)
    with pytest.raises(ValueError, match="unicorn"):
        make_trainer(max_epochs=1).fit(module, datamodule=scenes())


@pytest.mark.parametrize("weight", [-1.0, float("inf")])
def test_weights_that_cannot_train_raise(weight):
    with pytest.raises(ValueError, match=f"`mask_weight` must be finite and at least 0, got {weight}"):
        ccnn(mask_weight=weight)


def test_strides_that_the_network_cannot_do_raise():
    with pytest.raises(ValueError, match="`stride` must be a multiple of 4"):
        ccnn(map_stride=6)


# ---- training -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("constraints", ["tags", "tags_size", "tags_size_released", "boxes", "random_crops"])
def test_presets_train(constraints, make_trainer):
    data = scenes(supervision="box" if constraints == "boxes" else "tags", full_fraction=0.2)
    module = CCNNModule(CoarseNetwork(), 6, constraints=preset(constraints), map_stride=4)
    before = module.net.head.weight.clone()
    trainer = make_trainer(max_epochs=1)
    trainer.fit(module, datamodule=data)
    assert torch.isfinite(trainer.callback_metrics["train_loss"])
    assert {"train_kl", "hook_solve_ms", "val_miou"} <= set(trainer.callback_metrics)
    assert not torch.equal(module.net.head.weight, before)


def test_adaptive_bias_trains(make_trainer):
    module = CCNNModule(CoarseNetwork(), 6, constraints=[Suppression()], solver=AdaptiveBias(), map_stride=4)
    trainer = make_trainer(max_epochs=1)
    trainer.fit(module, datamodule=scenes())
    assert torch.isfinite(trainer.callback_metrics["train_kl"])


def test_alternation_lowers_the_energy_of_a_linear_model(batch):
    """Problem (11): each exact P and each small step of a linear model lower KL(P || Q) under the constraints."""
    module = ccnn(constraints=[*preset("tags")[:1], AreaBounds("background", 0.3, 0.7)])
    batch["full"][:] = False
    energies = []
    for _ in range(40):
        logits = module.score(batch["image"])
        latent = module.solve_latent(logits.detach(), batch)
        loss = module.latent_loss(logits, latent, batch)["kl"]
        energies.append(loss.detach().item())
        gradients = torch.autograd.grad(loss, list(module.net.parameters()))
        with torch.no_grad():
            for parameter, gradient in zip(module.net.parameters(), gradients, strict=True):
                parameter -= 0.1 * gradient
    assert all(later < earlier for earlier, later in itertools.pairwise(energies))
    assert energies[-1] < 0.9 * energies[0]


def test_checkpoint_rebuilds_constraints_and_solver(make_trainer, tmp_path):
    rules = [Suppression(), SizeBuckets([(0.0, 0.01), (0.1, 1.0)], slack=2.0), AreaBounds([1, 2], lower=0.1)]
    module = CCNNModule(
        SMPNetwork("fpn", "tu-test_resnet", None),
        6,
        constraints=rules,
        solver=ConstrainedLatent(hardness=10.0),
        map_stride=None,
        optimizer=Optimizer(lr=1e-3),
    )
    trainer = make_trainer(max_steps=1)
    trainer.fit(module, datamodule=scenes())
    trainer.save_checkpoint(tmp_path / "a.ckpt")
    loaded = load_module(tmp_path / "a.ckpt")
    assert isinstance(loaded, CCNNModule)
    assert [type(rule) for rule in loaded.constraints] == [type(rule) for rule in rules]
    assert loaded.constraints[1].bounds in ([(0.0, 0.01), (0.1, 1.0)], [[0.0, 0.01], [0.1, 1.0]])
    assert loaded.solver.hardness == 10.0
