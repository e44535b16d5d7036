import pytest
import torch

from weakseg_lightning.energies import GridPotts
from weakseg_lightning.losses import partial_cross_entropy, potts_loss
from weakseg_lightning.modules import RegularizedLossModule
from weakseg_lightning.networks import Network


@pytest.mark.parametrize("supervision", ["seeds", "mask"])
def test_terms_are_cross_entropy_and_potts(supervision: str, tiny_network: Network) -> None:
    torch.manual_seed(0)
    logits = torch.randn(1, 3, 6, 6)
    batch = {
        "image": torch.rand(1, 3, 6, 6),
        "seeds": torch.full((1, 6, 6), 255).index_fill(1, torch.tensor([2]), 1),
        "mask": torch.randint(0, 3, (1, 6, 6)),
        "valid": torch.ones(1, 6, 6, dtype=torch.bool),
    }
    potts = GridPotts(weight=3.5)
    module = RegularizedLossModule(tiny_network, 3, supervision=supervision, potts=potts, relaxation="squared")  # type: ignore[arg-type]
    terms = module.loss_terms(logits, batch)
    assert float(terms["pce"]) == pytest.approx(float(partial_cross_entropy(logits, batch[supervision])))
    assert float(terms["potts"]) == pytest.approx(float(potts_loss(logits, batch["image"], potts, None, "squared")))
    assert set(RegularizedLossModule(tiny_network, 3).loss_terms(logits, batch)) == {"pce"}
