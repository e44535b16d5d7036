"""Two processes (gloo on the CPU) learn what one learns on the same images: losses in each step, weights at the end.

With synchronised batch norm; the methods without a solver with sharded weights, too.
"""

from typing import Any

import pytest
import torch

COUNTED_IN_PIXELS = ["pce", "adm", "adm_apart", "adm_accumulated", "soft_labels", "trust_region", "trust_region_seeds"]
UNSHARDED = ["ccnn", "ccnn_collision", "ccnn_semi", "frozen"]
WITHOUT_SOLVER = ["mil", "grid", "dense", "gated", "activated", "g", "decomposition"]
WITHOUT_SOLVER += ["entropy", "tv", "mumford_shah", "dmpls"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory, run_program):
    folder = tmp_path_factory.mktemp("equal")
    run_program("ranks/equal_ranks.py", folder)
    for kind in ([], ["own_pixels"], ["sharded"]):
        run_program("ranks/equal_ranks.py", folder, *kind, ranks=2)
    return folder


def read(folder, name):
    """Losses of the steps; weights and statistics of batch norm at the end."""
    found: dict[str, Any] = torch.load(folder / f"{name}.ckpt", weights_only=True)
    state = [value.flatten().float() for _, value in sorted(found["state_dict"].items())]
    return torch.tensor(found["losses"]), torch.cat(state)


@pytest.mark.parametrize(
    ("method", "ranks"),
    [(method, "2") for method in COUNTED_IN_PIXELS + UNSHARDED + WITHOUT_SOLVER]
    + [(method, "2-sharded") for method in ["pce", *WITHOUT_SOLVER]],
)
def test_two_ranks_learn_what_one_learns_on_the_same_images(folder, method, ranks):
    (losses, weights), (losses_of_two, weights_of_two) = (read(folder, f"{method}-{ranks}") for ranks in ("1", ranks))
    assert len(losses) == 4
    assert losses.std() > 1e-4, "it has learned something"
    torch.testing.assert_close(losses_of_two, losses, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(weights_of_two, weights, rtol=0, atol=1e-5)


def test_ranks_that_count_their_own_pixels_would_learn_something_else(folder):
    for method in [*COUNTED_IN_PIXELS, "dmpls"]:
        (_, weights), (_, weights_of_two) = read(folder, f"{method}-1"), read(folder, f"{method}-2-own_pixels")
        assert (weights - weights_of_two).abs().max() > 1e-4, method


def test_panels_of_sharded_weights_are_drawn_and_disturb_nothing(folder):
    assert sorted(path.name for path in (folder / "panels").iterdir()) == ["epoch_0000.png", "epoch_0001.png"]


def test_a_resumed_run_with_sharded_weights_ends_as_the_undisturbed_one(folder):
    (losses, weights), (losses_after, same) = read(folder, "pce-2-sharded"), read(folder, "pce_resumed-2-sharded")
    assert torch.equal(losses_after, losses[2:])
    assert torch.equal(same, weights)
