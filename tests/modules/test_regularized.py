import pytest
import torch
from torch import Tensor

from weakseg_lightning.energies import GridPotts
from weakseg_lightning.energies.lattice import Lattice
from weakseg_lightning.losses import (
    DenseCRFLoss,
    EntropyLoss,
    GatedCRFLoss,
    GridPottsLoss,
    MumfordShahLoss,
    TotalVariationLoss,
    partial_cross_entropy,
    potts_loss,
)
from weakseg_lightning.modules import RegularizedLossModule


def batch_and_logits():
    torch.manual_seed(0)
    batch = {
        "image": torch.rand(1, 3, 6, 6),
        "seeds": torch.full((1, 6, 6), 255).index_fill(1, torch.tensor([2]), 1),
        "mask": torch.randint(0, 3, (1, 6, 6)),
        "valid": torch.ones(1, 6, 6, dtype=torch.bool).index_fill(2, torch.tensor([5]), False),
    }
    return batch, torch.randn(1, 3, 6, 6)


@pytest.mark.parametrize("supervision", ["seeds", "mask"])
def test_terms_are_cross_entropy_and_potts(supervision, tiny_network):
    batch, logits = batch_and_logits()
    regularizer = GridPottsLoss(GridPotts(weight=3.5), "quadratic")
    module = RegularizedLossModule(tiny_network, 3, supervision=supervision, regularizer=regularizer)
    terms = module.loss_terms(logits, batch)
    assert float(terms["pce"]) == pytest.approx(float(partial_cross_entropy(logits, batch[supervision])))
    expected = potts_loss(logits, batch["image"], GridPotts(weight=3.5), batch["valid"], "quadratic")
    assert float(terms["potts"]) == pytest.approx(float(expected))
    assert set(RegularizedLossModule(tiny_network, 3).loss_terms(logits, batch)) == {"pce"}


REGULARIZERS = [GridPottsLoss(), DenseCRFLoss(), GatedCRFLoss(downscale=2), EntropyLoss(), TotalVariationLoss()]


@pytest.mark.parametrize("regularizer", [*REGULARIZERS, MumfordShahLoss()])
def test_any_regularizer_is_a_term_under_its_name(regularizer, tiny_network):
    batch, logits = batch_and_logits()
    terms = RegularizedLossModule(tiny_network, 3, regularizer=regularizer).loss_terms(logits, batch)
    assert list(terms) == ["pce", regularizer.term]
    assert torch.equal(terms[regularizer.term], regularizer(logits, batch["image"], batch["valid"]))


# ---- lattices from the workers ------------------------------------------------------------------------------


class Watched(DenseCRFLoss):
    """Compares each lattice that comes with a batch with one built in the step."""

    def forward(self, logits, image, valid=None, built=None):
        assert valid is not None
        self.seen = [*getattr(self, "seen", []), isinstance(built, Lattice)]
        self.padded = [*getattr(self, "padded", []), bool((~valid).any())]
        if built is not None:
            fresh = self.build(image, valid)
            tables = {name: table for name, table in vars(fresh).items() if isinstance(table, Tensor)}
            assert len(tables) >= 4
            assert all(torch.equal(vars(built)[name], table) for name, table in tables.items())
        return super().forward(logits, image, valid, built)


@pytest.fixture
def fit(tiny_network, make_trainer, small_scenes):
    def call(build_in, num_workers, pce_fraction=0.0, **arguments):
        # crops larger than many of the resized scenes, so that some are padded
        sizes = {"num_train": 12, "size": 48, "crop_size": 40, "batch_size": 3, "scale_range": (0.5, 1.5)}
        data = small_scenes(num_workers=num_workers, **sizes)
        loss = Watched(weight=1e-5, build_in=build_in)
        module = RegularizedLossModule(
            tiny_network, data.num_classes, regularizer=loss, pce_fraction=pce_fraction, **arguments
        )
        make_trainer(limit_val_batches=0).fit(module, data)
        assert data.batch_hook is None, "other modules are to find the data as they were"
        return module

    return call


@pytest.mark.parametrize("num_workers", [0, 2])
def test_lattices_of_the_workers_are_those_of_the_step_bit_for_bit(num_workers, fit, equal_weights):
    module = fit("workers", num_workers)
    assert module.regularizer.seen == [True] * 8
    assert any(module.regularizer.padded)
    step = fit("step", 0)
    assert step.regularizer.seen == [False] * 8
    assert equal_weights(module, step)


def test_the_first_phase_builds_no_lattice(fit, monkeypatch):
    built = []
    monkeypatch.setattr(Watched, "build", lambda self, image, valid: built.append(len(image)))
    fit("workers", 0, pce_fraction=1.0)
    assert not built


def test_lattices_come_with_the_epoch_in_which_the_second_phase_begins(fit):
    module = fit("workers", 0, pce_fraction=0.25)  # two of the eight iterations
    assert module.regularizer.seen == [True] * 6


def test_data_without_attachments_raise(tiny_network, tiny_data, make_trainer):
    module = RegularizedLossModule(tiny_network, 3, regularizer=DenseCRFLoss(build_in="workers"))
    with pytest.raises(TypeError, match=r"the data add .* needs the data as a SegmentationDataModule, got TinyData"):
        make_trainer().fit(module, tiny_data)
    make_trainer(max_epochs=1).fit(RegularizedLossModule(tiny_network, 3, regularizer=DenseCRFLoss()), tiny_data)
