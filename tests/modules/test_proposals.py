"""Training on labels that are made of the seeds once: what is solved for, what training follows, what is kept."""

from contextlib import nullcontext
from functools import partial

import numpy as np
import pytest
import torch
from torch import nn
from typing_extensions import override

from weakseg_lightning.constraints.boxes import labels_in_boxes
from weakseg_lightning.energies import GridPotts
from weakseg_lightning.losses import partial_cross_entropy
from weakseg_lightning.modules import ProposalModule
from weakseg_lightning.modules.core.latent_store import LatentStore
from weakseg_lightning.networks import Network, SMPNetwork
from weakseg_lightning.solvers import AlphaExpansion, GrabCut, SolverResult


class Recording(ProposalModule):
    """Notes which images were solved for in which epoch, and the losses."""

    @override
    def solve_latent(self, logits, batch):
        assert (logits == 0).all()
        assert logits.shape == (1, self.num_classes, *batch["image"].shape[2:])
        self.__dict__.setdefault("solves", []).append((self.current_epoch, batch["id"][0]))
        return super().solve_latent(logits, batch)


class WiderNetwork(Network):
    def build(self, num_classes):
        return SMPNetwork("unet", "timm-mobilenetv3_small_minimal_100", None).build(num_classes)


@pytest.fixture
def make_data(small_scenes):
    return partial(small_scenes, crop_size=32)


def make_module(network, num_classes, **arguments):
    return Recording(network, num_classes, GrabCut(AlphaExpansion(GridPotts(20.0)), max_rounds=2), **arguments)


def labelled(solver, data):
    """Labels of all whole training images, by hand."""
    found, source = {}, data.train_source()
    for index, name in enumerate(source.ids):
        sample = source[index]
        seeds = sample.seeds[None].long()
        allowed = torch.zeros(1, data.num_classes, dtype=torch.bool)
        allowed[0, [0, *seeds[seeds != 255].tolist()]] = True
        scores = torch.zeros(1, data.num_classes, *seeds.shape[1:])
        found[name] = solver.solve(scores, sample.image[None] / 255, seeds=seeds, label_set=allowed).labels[0]
    return found


def test_every_image_is_labelled_once_from_its_seeds(tiny_network, make_data, make_trainer):
    data = make_data()
    module = make_module(tiny_network, data.num_classes)
    trainer = make_trainer(max_epochs=4, limit_val_batches=0)
    trainer.fit(module, data)
    assert sorted(module.solves) == [(0, f"train_{index:05d}") for index in range(8)]
    assert trainer.callback_metrics.keys() >= {"train_proposals", "solved_images_per_second"}
    for name, labels in labelled(module.solver, data).items():
        assert np.array_equal(module.store.get(name), labels.numpy())


def test_loss_is_cross_entropy_on_all_labels_and_on_seeds_where_there_are_none(tiny_network):
    module = make_module(tiny_network, 3)
    scores = torch.randn(2, 3, 4, 5)
    seeds = torch.full((2, 4, 5), 255)
    seeds[:, 0, 0] = 2
    labels = torch.randint(0, 3, (2, 4, 5), dtype=torch.uint8)
    labels[0, 0, 0], labels[1] = 2, 255  # the second image was not solved
    result = SolverResult(labels, *[torch.zeros(2)] * 5, ("", "no seeds"))
    (loss,) = module.latent_loss(scores, result, {"seeds": seeds}).values()
    expected = labels.long()
    expected[1, 0, 0] = 2
    assert loss.item() == pytest.approx(partial_cross_entropy(scores, expected).item())


@pytest.mark.parametrize("labels", ["seeds", "tags"])
def test_labels_are_those_of_the_seeds_or_the_tags(labels, tiny_network):
    allowed = {"seed_labels": torch.tensor([[True, True, False]]), "tags": torch.tensor([[True, False, True]])}
    image = torch.full((1, 3, 6, 6), 0.9)
    image[..., :3] = 0.1
    seeds = torch.full((1, 6, 6), 255)
    seeds[0, 2, 1] = 0
    module = make_module(tiny_network, 3, labels=labels)
    found = ProposalModule.solve_latent(module, torch.zeros(1, 3, 6, 6), {"image": image, "seeds": seeds, **allowed})
    other = 1 if labels == "seeds" else 2
    assert found.labels[0].unique().tolist() == [0, other]


def test_runs_with_other_networks_share_a_store(tiny_network, make_data, make_trainer, tmp_path):
    data = make_data()
    first = make_module(tiny_network, data.num_classes, store=LatentStore(str(tmp_path / "s")))
    make_trainer(max_epochs=1, limit_val_batches=0).fit(first, data)
    second = make_module(WiderNetwork(), data.num_classes, store=LatentStore(str(tmp_path / "s")))
    make_trainer(max_epochs=1, limit_val_batches=0).fit(second, make_data())
    assert not second.__dict__.get("solves")
    third = Recording(tiny_network, data.num_classes, GrabCut(), store=LatentStore(str(tmp_path / "s")))
    with pytest.raises(ValueError, match=r"were solved with `solver.*` .*begin again with an empty `store.path`"):
        make_trainer(max_epochs=1).fit(third, make_data())


def test_images_whose_scribbles_have_changed_are_labeled_again(tiny_network, make_data, make_trainer, tmp_path):
    """Three runs with one store: whole scribbles, clicks, clicks."""
    solved, labels = [], []
    for length, warns in ((1.0, False), (0.0, True), (0.0, False)):
        data = make_data(scribble_length=length)
        module = make_module(tiny_network, data.num_classes, store=LatentStore(str(tmp_path / "s")))
        with pytest.warns(UserWarning, match="have changed since") if warns else nullcontext():
            make_trainer(max_epochs=1, limit_val_batches=0).fit(module, data)
        solved.append(len(module.__dict__.get("solves", [])))
        labels.append(module.store.get("train_00000"))
        for name, expected in labelled(module.solver, data).items():
            assert np.array_equal(module.store.get(name), expected.numpy())
    assert solved == [8, 8, 0]
    assert not np.array_equal(labels[0], labels[1])


def test_tags_of_crops_are_refused_where_whole_images_are_labeled(tiny_network, make_data, make_trainer):
    data = make_data(tags_from="crop")
    module = make_module(tiny_network, data.num_classes, labels="tags")
    with pytest.raises(ValueError, match=r"`labels: tags` labels whole images: set `data\.tags_from` to `image`"):
        make_trainer(max_epochs=1).fit(module, data)


def test_a_stopped_run_goes_on_without_labeling_again(
    tiny_network, make_data, make_trainer, save_at, tmp_path, equal_weights
):
    whole, resumed = (make_module(tiny_network, make_data().num_classes) for _ in range(2))
    path = tmp_path / "first.ckpt"
    make_trainer(max_epochs=3, limit_val_batches=0, callbacks=[save_at(path, epoch=0)]).fit(whole, make_data())
    saved = torch.load(path, weights_only=True)["amortized"]
    assert saved.keys() == {"cycle", "first_epoch", "store"}, "no second copy of the network"
    make_trainer(max_epochs=3, limit_val_batches=0).fit(resumed, make_data(), ckpt_path=path, weights_only=True)
    assert not resumed.__dict__.get("solves")
    assert equal_weights(whole, resumed)


def test_two_ranks_have_the_labels_of_one(tmp_path, make_data, run_program):
    run_program("ranks/two_ranks_proposals.py", tmp_path, ranks=2)
    ranks = [torch.load(tmp_path / name, weights_only=True) for name in ("0", "1")]
    for name, labels in labelled(GrabCut(), make_data()).items():
        assert torch.equal(ranks[0][name], labels)
        assert torch.equal(ranks[1][name], labels)


def test_the_network_is_not_copied(tiny_network, make_data, make_trainer):
    module = make_module(tiny_network, make_data().num_classes)
    make_trainer(max_epochs=1, limit_val_batches=0).fit(module, make_data())
    assert not [part for part in vars(module._cycle).values() if isinstance(part, nn.Module)]


def test_of_boxes_a_pixel_has_the_background_or_the_class_of_a_box_around_it(tiny_network):
    """Two boxes of equal colors in an image: only their places tell the classes apart."""
    image = torch.full((1, 3, 8, 16), 0.1)
    image[:, :, 2:6, 3:6] = image[:, :, 2:6, 10:13] = 0.9
    boxes = [torch.tensor([[2.0, 1.0, 7.0, 7.0, 1.0], [9.0, 1.0, 14.0, 7.0, 2.0]])]
    seeds = torch.zeros(1, 8, 16, dtype=torch.long)
    seeds[:, 1:7, 2:7] = seeds[:, 1:7, 9:14] = 255
    batch = {"image": image, "seeds": seeds, "tags": torch.ones(1, 3, dtype=torch.bool), "boxes": boxes}
    module = make_module(tiny_network, 3, labels="boxes")
    found = ProposalModule.solve_latent(module, torch.zeros(1, 3, 8, 16), batch).labels
    expected = torch.zeros(1, 8, 16, dtype=torch.uint8)
    expected[:, 2:6, 3:6], expected[:, 2:6, 10:13] = 1, 2
    assert torch.equal(found, expected)


def test_labels_of_boxes_need_boxes(tiny_network):
    module = ProposalModule(tiny_network, 2, GrabCut(), labels="boxes")
    with pytest.raises(ValueError, match=r"`labels: boxes` needs bounding boxes.*: choose `supervision: box`"):
        module.solve_latent(torch.zeros(1, 2, 4, 4), {"seeds": torch.zeros(1, 4, 4), "image": torch.zeros(1, 3, 4, 4)})


def test_training_labels_images_within_their_boxes(tiny_network, make_data, make_trainer):
    data = make_data(supervision="box")
    module = make_module(tiny_network, data.num_classes, labels="boxes")
    make_trainer(max_epochs=1, limit_val_batches=0).fit(module, data)
    source = data.train_source()
    for sample in map(source.__getitem__, range(len(source.ids))):
        labels = torch.from_numpy(module.store.get(sample.id).astype(int))
        possible = labels_in_boxes([sample.boxes], data.num_classes, *labels.shape)
        assert possible[0].gather(0, labels[None]).all()
        assert labels.any()
