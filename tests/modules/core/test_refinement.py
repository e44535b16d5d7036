"""Refinement in the modules, by one that leaves no doubt whether it ran."""

import pytest
import torch
from typing_extensions import override

from weakseg_lightning.modules import RegularizedLossModule
from weakseg_lightning.solvers import Refinement


class Fixed(Refinement):
    """Gives every pixel one class, and remembers what it was given."""

    def __init__(self, label=2):
        self.label = label
        self.given: list[tuple[torch.Size, torch.Size, bool]] = []

    def refine(self, logits, image, valid=None):
        self.given.append((logits.shape, image.shape, valid is not None))
        return super().refine(logits, image, valid)

    @override
    def _refine(self, scores, image, valid):
        return torch.nn.functional.one_hot(torch.full_like(scores[:, 0], self.label).long(), 3).permute(0, 3, 1, 2)


@pytest.fixture
def module(tiny_network):
    return RegularizedLossModule(tiny_network, 3)


def test_scores_and_predictions_are_of_the_refined_labels(module, tiny_data, make_trainer):
    trainer = make_trainer()
    plain = trainer.test(module, tiny_data, verbose=False)[0]
    module.refinement = Fixed()
    refined = trainer.test(module, tiny_data, verbose=False)[0]
    assert refined["test_iou_0"] == 0
    assert refined != plain
    assert refined["test_grid_energy"] == 0
    validated = trainer.validate(module, tiny_data, verbose=False)[0]
    assert validated["val_miou"] == refined["test_miou"]
    predictions = trainer.predict(module, tiny_data)
    assert all(one["labels"].dtype == torch.uint8 and (one["labels"] == 2).all() for one in predictions)
    assert set(module.refinement.given) == {((1, 3, 12, 12), (1, 3, 12, 12), True)}
    module.refinement = None
    assert trainer.test(module, tiny_data, verbose=False)[0] == plain


def test_it_is_no_part_of_what_is_trained(module, tiny_data, make_trainer, tmp_path):
    other = type(module)(module.network, 3)
    other.load_state_dict(module.state_dict())
    module.refinement = Fixed()
    for one in (module, other):
        trainer = make_trainer(max_epochs=1)
        trainer.fit(one, tiny_data)
    trainer.save_checkpoint(tmp_path / "refined.ckpt")
    assert all(
        torch.equal(a, b) for a, b in zip(module.state_dict().values(), other.state_dict().values(), strict=True)
    )
    assert "refinement" not in torch.load(tmp_path / "refined.ckpt", weights_only=True)["hyper_parameters"]


def test_the_log_says_what_refines(module, tiny_data, make_trainer, caplog):
    module.refinement = Fixed(1)
    with caplog.at_level("INFO"):
        make_trainer().test(module, tiny_data, verbose=False)
    assert "labels are refined by Fixed(label=1)" in caplog.text


def test_scores_that_are_not_finite_are_an_error_that_names_the_image(module, tiny_data, make_trainer):
    module.refinement = Fixed()
    torch.nn.init.constant_(module.net.head.bias, torch.nan)
    with pytest.raises(ValueError, match=r"the scores of the network for scene_0 are not finite"):
        make_trainer().test(module, tiny_data, verbose=False)
    module.refinement = None
    make_trainer().test(module, tiny_data, verbose=False)
