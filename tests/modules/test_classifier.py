from math import inf, log

import pytest
import torch
from discs import CLASSES, DiscData, TinyTags

from weakseg_lightning.hyperparameters import describe
from weakseg_lightning.modules import Optimizer, TagClassifierModule, classifier
from weakseg_lightning.modules.classifier import random_masks


def make(**arguments):
    return TagClassifierModule(TinyTags("tiny", None), CLASSES, **arguments)


@pytest.fixture
def batch():
    torch.manual_seed(0)
    return {
        "image": torch.rand(2, 3, 8, 8),
        "valid": torch.ones(2, 8, 8, dtype=torch.bool),
        "tags": torch.tensor([[True, True, False], [True, False, False]]),
    }


def test_the_loss_is_that_of_the_report(batch):
    logits = torch.tensor([[0.0, log(3)], [-log(4), 0.0]])  # 1/2 and 3/4; 1/5 and 1/2
    (value,) = make().loss_terms(logits, batch).values()
    assert value.item() == pytest.approx(-(log(0.5) + log(0.25) + log(0.8) + log(0.5)) / 2)


def test_the_loss_on_parts_by_hand(batch, monkeypatch):
    module = make(parts_weight=2.0).eval()
    mask = torch.zeros(2, 1, 8, 8)
    mask[..., :4] = 1
    monkeypatch.setattr(classifier, "random_masks", lambda images: mask)
    one, other = (module.net.tag_logits(share * batch["image"]).sigmoid() for share in (mask, 1 - mask))
    neither = (1 - one) * (1 - other)
    expected = -((1 - neither[0, 0]).log() + neither[0, 1].log() + neither[1].log().sum()) / 2
    terms = module.loss_terms(module.training_logits(batch), batch)
    torch.testing.assert_close(terms["parts"], 2 * expected)


def test_a_class_that_is_surely_missed_is_learned_all_the_same(batch, monkeypatch):
    module = make(parts_weight=1.0)
    logits = torch.full((4, 2), -30.0, requires_grad=True)  # 1 - p is 1 in single precision
    monkeypatch.setattr(module.net, "tag_logits", lambda images, valid=None: logits)
    loss = module.loss_terms(torch.zeros(2, 2), batch)["parts"]
    assert loss.item() == pytest.approx((30 - log(2)) / 2)
    loss.backward()
    expected = torch.zeros(4, 2)
    expected[[0, 2], 0] = -0.25
    torch.testing.assert_close(logits.grad, expected)


def test_masks_divide_images_in_two():
    torch.manual_seed(0)
    masks = random_masks(torch.zeros(50, 3, 24, 32))
    assert masks.shape == (50, 1, 24, 32)
    assert ((masks < 0.1) | (masks > 0.9)).float().mean() > 0.6
    fractions = masks.mean((1, 2, 3))
    assert fractions.std() > 0.15, "some parts are small and some are large"


def test_it_learns_tags_and_says_so(make_trainer):
    module = make(parts_weight=0.5, optimizer=Optimizer("adamw", 1e-2, 0.9, 0.0, 1.0, "constant"))
    trainer = make_trainer(max_epochs=12)
    trainer.fit(module, DiscData())
    scores = trainer.callback_metrics
    assert scores["val_tag_accuracy"] > 0.9
    assert scores["val_miou"] > 0.45, "more than background everywhere, which has 0.3"
    assert {"val_false_area_disc", "val_false_area_square", "train_tags", "train_parts"} <= scores.keys()


def test_masks_are_those_of_the_activation_maps(monkeypatch):
    module = make(cam_threshold=0.5).eval()
    maps = torch.tensor([[[[1.0, 0.6], [0.4, 0.0]], [[0.0, 1.0], [1.0, 0.0]]]])
    monkeypatch.setattr(module.net, "activation_maps", lambda images: maps)
    monkeypatch.setattr(module.net, "tag_logits", lambda images, valid=None: torch.tensor([[3.0, 3.0]]))
    assert module(torch.rand(1, 3, 2, 2)).argmax(1).tolist() == [[[1, 2], [2, 0]]]
    monkeypatch.setattr(module.net, "tag_logits", lambda images, valid=None: torch.tensor([[3.0, -3.0]]))
    assert module(torch.rand(1, 3, 2, 2)).argmax(1).tolist() == [[[1, 1], [0, 0]]], "a class that is not seen"


def test_it_can_be_written_down_and_nonsense_raises():
    described = describe(make(parts_weight=0.5))["init_args"]
    assert (described["parts_weight"], described["cam_threshold"]) == (0.5, 0.4)
    for weight in (-1, inf):
        with pytest.raises(ValueError, match=f"`parts_weight` must be finite and at least 0, got {weight}"):
            make(parts_weight=weight)
    with pytest.raises(ValueError, match="`cam_threshold` must be at least 0 and below 1, got 1"):
        make(cam_threshold=1)
