import pytest
import torch
from torch.nn import functional

from weakseg_lightning.data.batches import HostCopy
from weakseg_lightning.modules import ADMModule
from weakseg_lightning.modules.core.batch_latent import allowed_labels
from weakseg_lightning.networks import CoarseGrid
from weakseg_lightning.solvers import AlphaExpansion


class Spy(AlphaExpansion):
    """Keeps what it is asked to solve."""

    def solve(self, logits, image, **given):
        self.given = given
        return super().solve(logits, image, **given)


@pytest.fixture
def batch():
    torch.manual_seed(0)
    seeds = torch.full((2, 6, 6), 255)
    seeds[0, 0, 0], seeds[0, 5, 5], seeds[1, 2, 2] = 0, 2, 0
    sets = torch.tensor([[True, False, True, False], [True, False, False, False]])
    valid = torch.ones(2, 6, 6, dtype=torch.bool)
    valid[1, 4:] = False
    return {
        "image": torch.rand(2, 3, 6, 6),
        "seeds": seeds,
        "valid": valid,
        "seed_labels": sets,
        "tags": torch.tensor([[True, True, True, False], [True, True, False, False]]),
    }


def test_label_set_with_background_alone_becomes_all_labels(batch):
    allowed = allowed_labels(batch, "seeds")
    assert allowed is not None
    assert allowed.tolist() == [[True, False, True, False], [True] * 4]
    assert allowed_labels(batch, "tags").tolist() == batch["tags"].tolist()
    assert allowed_labels(batch, "all") is None


def test_the_cpus_copy_of_label_sets_is_that_of_the_batch_as_it_was_moved(batch):
    copies = {name: batch[name].clone() for name in ("seed_labels", "tags")}
    batch["on_host"] = {name: HostCopy(batch[name], copy) for name, copy in copies.items()}
    copies["tags"][1, 3] = True  # so that one sees which is taken
    assert allowed_labels(batch, "tags").tolist() == batch["tags"].tolist()
    assert allowed_labels(batch, "tags", on_host=True).tolist() == copies["tags"].tolist()
    batch["tags"][0, 2] = False  # a hook that changes the set
    assert allowed_labels(batch, "tags", on_host=True).tolist() == batch["tags"].tolist()
    batch["seed_labels"] = torch.ones_like(batch["tags"])  # or brings another
    assert allowed_labels(batch, "seeds", on_host=True).all()


def test_papers_setting_keeps_seeds_and_labels_of_the_image(batch, tiny_network):
    module = ADMModule(tiny_network, 4)
    labels = module.solve_latent(torch.randn(2, 4, 6, 6), batch).labels
    seeded = batch["seeds"] != 255
    assert torch.equal(labels[seeded].long(), batch["seeds"][seeded])
    assert set(labels[0].unique().tolist()) <= {0, 2}
    assert (labels[1, 4:] == 255).all(), "padding carries no label"


def test_released_setting_ignores_seeds_in_the_cut(batch, tiny_network):
    solver = Spy(start="zeros")
    module = ADMModule(tiny_network, 4, solver=solver, labels="all", hard_seeds=False, latent_pixels="all")
    logits = torch.zeros(2, 4, 6, 6)
    logits[:, 3] = 9.0
    labels = module.solve_latent(logits, batch).labels
    assert solver.given["seeds"] is None
    assert solver.given["label_set"] is None
    assert (labels[0] == 3).all()


@pytest.mark.parametrize("latent_pixels", ["unlabelled", "all"])
def test_loss_terms_equal_a_count_by_hand(latent_pixels, batch, tiny_network):
    module = ADMModule(tiny_network, 4, gamma=1.5, latent_pixels=latent_pixels)
    logits = torch.randn(2, 4, 6, 6)
    latent = module.solve_latent(logits, batch)
    terms = module.latent_loss(logits, latent, batch)
    seeded = batch["seeds"] != 255
    follows = batch["valid"] & ~seeded if latent_pixels == "unlabelled" else batch["valid"]
    minus_log = -logits.log_softmax(1)
    pce = minus_log.gather(1, batch["seeds"].where(seeded, 0)[:, None])[:, 0][seeded].mean()
    towards = functional.one_hot(latent.labels.long().where(batch["valid"], 0), 4).permute(0, 3, 1, 2)
    expected = 1.5 * (minus_log * towards).sum(1)[follows].mean()
    torch.testing.assert_close(terms["pce"], pce)
    torch.testing.assert_close(terms["latent"], expected)


@pytest.mark.parametrize("gamma", [-1.0, float("inf")])
def test_gamma_that_cannot_train_raises(tiny_network, gamma):
    with pytest.raises(ValueError, match=f"`gamma` must be finite and at least 0, got {gamma}"):
        ADMModule(tiny_network, 4, gamma=gamma)


def test_on_the_map_cells_are_labeled_and_compared(batch, tiny_network):
    module = ADMModule(tiny_network, 4, latent_grid="map")
    module.net.coarse_grid = lambda: CoarseGrid(2, 0.5)
    logits = torch.randn(2, 4, 3, 3, requires_grad=True)
    latent = module.solve_latent(logits.detach(), batch)
    assert latent.labels.shape == (2, 3, 3)
    assert (int(latent.labels[0, 0, 0]), int(latent.labels[0, 2, 2])) == (0, 2), "seeds of the cells' pixels"
    assert (latent.labels[1, 2] == 255).all(), "padding"
    terms = module.latent_loss(logits, latent, batch)
    log_q = logits.detach().log_softmax(1)
    terms = {name: term.detach() for name, term in terms.items()}
    assert float(terms["pce"]) == pytest.approx(-float(log_q[0, 0, 0, 0] + log_q[0, 2, 2, 2] + log_q[1, 0, 1, 1]) / 3)
    free = [(b, i, j) for b in range(2) for i in range(3) for j in range(3) if (b, i) != (1, 2)]
    free = [cell for cell in free if cell not in {(0, 0, 0), (0, 2, 2), (1, 1, 1)}]
    by_hand = sum(-float(log_q[b, int(latent.labels[b, i, j]), i, j]) for b, i, j in free) / len(free)
    assert float(terms["latent"]) == pytest.approx(1.5 * by_hand)
    module.latent, module._image_size = latent, torch.Size((6, 6))
    assert torch.equal(module.latent_labels, latent.labels.repeat_interleave(2, 1).repeat_interleave(2, 2))
