"""Rounds of preparing: few labelings in memory, failures as in training, everything on the device of the network."""

import weakref
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from weakseg_lightning.modules import ADMModule, SoftLabelModule
from weakseg_lightning.modules.core.latent import OnUnsolved
from weakseg_lightning.modules.core.preparing import prepare_net
from weakseg_lightning.networks import FrozenFeatures, FrozenNet
from weakseg_lightning.solvers import SolverResult
from weakseg_lightning.solvers.threads import cores_of_rank

FAILURE = "the scores are not finite"


class Net(nn.Module):
    """Hands on what it is given to prepare with, one image at a time."""

    latent_rounds = 2
    is_prepared = False

    def __init__(self, device: str = "cpu") -> None:
        super().__init__()
        self.mean = torch.zeros(1, device=device)
        self.seen: list[list[int]] = []

    def prepare(self, samples: Iterator[tuple[Tensor, Sequence[Tensor]]], seed: int) -> None:
        self.seen.append([len(labelings) for _, labelings in samples])


class Method:
    """Labels images, but for the one that fails, and counts the labelings that are alive."""

    num_classes = 2
    solves_with_network = True

    def __init__(self, net: Net, failing: str = "") -> None:
        self.net, self.failing = net, failing
        self.alive: weakref.WeakSet[Tensor] = weakref.WeakSet()
        self.most = 0
        self.reported: list[tuple[str, str]] = []
        self.devices: set[str] = set()

    def score(self, images: Tensor) -> Tensor:
        self.devices.add(images.device.type)
        return torch.zeros(1, 2, *images.shape[-2:], device=images.device)

    def solve_latent(self, logits: Tensor, batch: dict[str, Any]) -> SolverResult:
        self.devices |= {value.device.type for value in batch.values() if isinstance(value, Tensor)}
        labels = torch.zeros(1, *logits.shape[-2:], dtype=torch.uint8)
        self.alive.add(labels)
        self.most = max(self.most, len(self.alive))
        failed = batch["id"] == [self.failing]
        return replace(SolverResult.from_labels(labels), message=(FAILURE if failed else "",))

    def report_unsolved(self, messages: Sequence[str], names: Sequence[str]) -> None:
        self.reported += [pair for pair in zip(names, messages, strict=True) if pair[1]]


def items(count: int) -> list[dict[str, Any]]:
    flags = torch.ones(2, dtype=torch.bool)
    image, seeds = torch.zeros(3, 4, 6, dtype=torch.uint8), torch.zeros(4, 6, dtype=torch.uint8)
    return [
        {"image": image, "seeds": seeds, "tags": flags, "seed_labels": flags, "id": f"im{number}"}
        for number in range(count)
    ]


def test_labelings_that_need_no_network_are_made_once_of_scores_of_zero() -> None:
    method = Method(Net())
    method.solves_with_network = False
    method.score = lambda images: pytest.fail("the network was asked")  # type: ignore[method-assign]
    prepare_net(method.net, items(3), "seeds", method, 0)  # type: ignore[arg-type]
    assert method.net.seen == [[1] * 3, [2] * 3]


def test_no_more_labelings_are_in_memory_than_are_solved_for() -> None:
    method = Method(Net())
    prepare_net(method.net, items(50), "seeds", method, 0)  # type: ignore[arg-type]
    assert method.net.seen == [[1] * 50, [2] * 50, [2] * 50]
    assert method.most <= cores_of_rank() + 2


def test_an_image_without_a_labeling_counts_with_its_seeds_alone() -> None:
    method = Method(Net(), failing="im1")
    prepare_net(method.net, items(3), "seeds", method, 0)  # type: ignore[arg-type]
    assert method.net.seen == [[1, 1, 1], [2, 1, 2], [2, 1, 2]]
    assert method.reported == [("im1", FAILURE)] * 2


def test_distributions_are_handed_on_as_they_are(small_scenes, make_trainer, monkeypatch) -> None:
    seen: list[tuple[int, ...]] = []

    def prepare(net: nn.Module, samples: Iterator[tuple[Tensor, Sequence[Tensor]]], seed: int) -> None:
        seen.extend(tuple(labels.ndim for labels in labelings) for _, labelings in samples)

    monkeypatch.setattr(FrozenNet, "prepare", prepare)
    network = FrozenFeatures("test_efficientnet", None, latent_rounds=1)
    module = SoftLabelModule(network, 6, pce_fraction=0.0, latent_grid="map")
    data = small_scenes(crop_size=40, scale_range=(1.0, 1.0))
    make_trainer(max_steps=1).fit(module, data)
    assert seen == [(2,)] * (len(seen) // 2) + [(2, 3)] * (len(seen) // 2) != []


def test_what_is_scored_and_solved_is_on_the_device_of_the_network() -> None:
    method = Method(Net("meta"))
    prepare_net(method.net, items(2), "seeds", method, 0)  # type: ignore[arg-type]
    assert method.devices == {"meta"}


def test_a_network_that_is_prepared_stays_as_it_is() -> None:
    method = Method(Net())
    method.net.is_prepared = True
    prepare_net(method.net, items(2), "seeds", method, 0)  # type: ignore[arg-type]
    assert method.net.seen == []


@pytest.mark.parametrize("on_unsolved", ["skip", "stop"])
def test_failures_are_reported_as_in_training(small_scenes, make_trainer, on_unsolved: OnUnsolved) -> None:
    network = FrozenFeatures("test_efficientnet", None, latent_rounds=1)
    module = ADMModule(network, 6, on_unsolved=on_unsolved, pce_fraction=0.0, latent_grid="map")
    data, solve = small_scenes(crop_size=40, scale_range=(1.0, 1.0)), module.solve_latent

    def fail(logits: Tensor, batch: dict[str, Any]) -> SolverResult:
        found = solve(logits, batch)
        return replace(found, message=tuple(FAILURE if name == "train_00003" else "" for name in batch["id"]))

    module.solve_latent = fail  # type: ignore[method-assign]
    trainer = make_trainer(max_epochs=1, limit_train_batches=0)
    if on_unsolved == "skip":
        with pytest.warns(UserWarning, match=f"image 'train_00003': {FAILURE}"):
            trainer.fit(module, data)
    else:
        with pytest.raises(ValueError, match=f"image 'train_00003' has no latent labeling: {FAILURE}"):
            trainer.fit(module, data)
