"""The links of methods to their latent labels: collision cross-entropy in place of the usual ones."""

import pytest
import torch
from small_runs import CoarseNetwork

from weakseg_lightning.constraints import preset
from weakseg_lightning.data import ScenesDataModule
from weakseg_lightning.losses import collision_cross_entropy, kl_loss
from weakseg_lightning.modules import CCNNModule, ProposalModule
from weakseg_lightning.solvers import DistributionResult, SolverResult

CLASSES = 4


def constrained(**arguments):
    return CCNNModule(CoarseNetwork(), CLASSES, **{"constraints": preset("tags"), "map_stride": 4, **arguments})


def test_constrained_cnn_takes_either_link_over_the_cells_of_weak_images():
    torch.manual_seed(0)
    valid = torch.ones(3, 24, 32, dtype=torch.bool)
    valid[1, 16:] = False
    batch = {"valid": valid, "full": torch.tensor([False, False, False]), "seeds": torch.full((3, 24, 32), 255)}
    logits, soft = torch.randn(3, CLASSES, 6, 8), torch.randn(3, CLASSES, 6, 8).softmax(1)
    cells = valid[:, 2::4, 2::4]
    latent = DistributionResult(soft * cells[:, None], *[torch.zeros(3)] * 5, ("",) * 3)
    assert constrained().link == "kl"
    (collision,) = constrained(link="collision").latent_loss(logits, latent, batch).items()
    (divergence,) = constrained(link="kl").latent_loss(logits, latent, batch).items()
    assert (collision[0], divergence[0]) == ("collision", "kl")
    of_each = torch.stack(
        [collision_cross_entropy(logits[b : b + 1], soft[b : b + 1], cells[b : b + 1]) for b in range(3)]
    )
    torch.testing.assert_close(collision[1], of_each.mean())
    torch.testing.assert_close(divergence[1], kl_loss(logits, soft, cells))


def test_half_as_many_weak_images_weigh_half_with_either_link():
    torch.manual_seed(1)
    logits, soft = torch.randn(2, CLASSES, 6, 8), torch.randn(2, CLASSES, 6, 8).softmax(1)
    latent = DistributionResult(soft, *[torch.zeros(2)] * 5, ("",) * 2)
    seeds = torch.full((2, 24, 32), 255)
    seeds[1] = 0
    batch = {"valid": seeds >= 0, "full": torch.tensor([False, True]), "seeds": seeds}
    terms = constrained(link="collision").latent_loss(logits, latent, batch)
    assert terms.keys() == {"collision", "mask"}
    torch.testing.assert_close(terms["collision"], collision_cross_entropy(logits[:1], soft[:1]) / 2)


def test_constrained_cnn_trains_with_the_collision_link(make_trainer):
    scenes = {"num_train": 4, "num_val": 1, "size": 64, "crop_size": 64, "batch_size": 2, "num_workers": 0}
    data = ScenesDataModule(supervision="tags", **scenes)
    module = CCNNModule(CoarseNetwork(), data.num_classes, preset("tags"), map_stride=4, link="collision")
    before = [parameter.clone() for parameter in module.parameters()]
    trainer = make_trainer(max_epochs=1, limit_val_batches=0)
    trainer.fit(module, data)
    assert trainer.callback_metrics.keys() >= {"train_collision"}
    assert any(not torch.equal(old, new) for old, new in zip(before, module.parameters(), strict=True))


def test_unknown_link():
    with pytest.raises(ValueError, match="`link` must be one of 'kl', 'collision', got 'cross_entropy'"):
        constrained(link="cross_entropy")


# ---- proposals ----------------------------------------------------------------------------------------------


def proposals_of(labels):
    return SolverResult(labels.to(torch.uint8), *[torch.zeros(len(labels))] * 5, ("",) * len(labels))


@pytest.mark.parametrize("eps", [0.0, 0.3])
def test_proposals_that_may_be_wrong_are_softened_labels_under_collision(eps, tiny_network):
    torch.manual_seed(2)
    logits, labels = torch.randn(2, 3, 4, 5), torch.randint(0, 3, (2, 4, 5))
    seeds = torch.full((2, 4, 5), 255)
    seeds[:, 0, 1] = 1
    module = ProposalModule(tiny_network, 3, eps=eps)
    (loss,) = module.latent_loss(logits, proposals_of(labels), {"seeds": seeds}).values()
    labels[:, 0, 1] = 1
    softened = torch.full((2, 3, 4, 5), eps / 2).scatter(1, labels[:, None], 1 - eps)
    softened[:, :, 0, 1] = torch.tensor([0.0, 1.0, 0.0])  # seeds are certain
    torch.testing.assert_close(loss, collision_cross_entropy(logits, softened))


def test_proposals_are_never_all_wrong(tiny_network):
    with pytest.raises(ValueError, match=r"`eps` must be at least 0 and below \(K-1\)/K"):
        ProposalModule(tiny_network, 3, eps=0.9)
