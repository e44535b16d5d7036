"""Methods whose pairwise terms look at a map of regions that the data bring."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from weakseg_lightning.data import FolderDataModule, ScenesDataModule
from weakseg_lightning.energies import GridPotts
from weakseg_lightning.losses import GridPottsLoss, potts_loss
from weakseg_lightning.modules import (
    ADMModule,
    ProposalModule,
    RegularizedLossModule,
    SoftLabelModule,
    TrustRegionModule,
)
from weakseg_lightning.modules.core.amortized import describe_solver
from weakseg_lightning.modules.core.guides import guide_of
from weakseg_lightning.networks import CoarseGrid
from weakseg_lightning.solvers import AlphaExpansion, GrabCut, SoftPotts

POTTS = GridPotts(50.0, 4, edges="regions", dilation=0)
HALVES = np.repeat(np.uint16([3, 40_000]), (20, 28))[None].repeat(40, 0)


class Looking(GridPotts):
    """Notes what it was shown."""

    shown: list[torch.Tensor] = []  # noqa: RUF012

    def edge_weights(self, image, valid=None):
        self.shown.append(image)
        return super().edge_weights(image, valid)


@pytest.fixture
def looking():
    Looking.shown.clear()
    return Looking(50.0, 4, edges="regions", dilation=0)


@pytest.fixture
def guided(make_folder):
    """A folder whose maps part the images at column 20."""
    root = make_folder()
    (root / "maps").mkdir()
    for name in ("a", "b", "c d é"):
        Image.fromarray(HALVES).save(root / "maps" / f"{name}.png")
    return FolderDataModule(root, guides="maps", crop_size=32, batch_size=3, num_workers=0, val_fraction=0)


METHODS = {
    "alpha_expansion": lambda net, potts: ADMModule(net, 3, AlphaExpansion(potts), pce_fraction=0.0),
    "regularizer": lambda net, potts: RegularizedLossModule(net, 3, regularizer=GridPottsLoss(potts)),
    "soft_potts": lambda net, potts: SoftLabelModule(net, 3, SoftPotts(potts), pce_fraction=0.0),
    "whole_images": lambda net, potts: TrustRegionModule(net, 3, AlphaExpansion(potts), pce_fraction=0.0),
}


@pytest.mark.parametrize("precision", ["32-true", "bf16-true"])
@pytest.mark.parametrize("method", METHODS)
def test_pairwise_terms_see_the_map_in_training(method, precision, looking, guided, tiny_network, make_trainer):
    module = METHODS[method](tiny_network, looking)
    make_trainer(max_epochs=2, limit_val_batches=0, precision=precision).fit(module, guided)
    assert len(looking.shown) >= 2
    for guide in looking.shown:
        assert guide.dtype == torch.float32, "bfloat16 would not hold such numbers"
        assert guide.shape[1] == 1
        assert set(guide.unique().tolist()) <= {0.0, 3.0, 40_000.0}
    if method == "whole_images":
        assert [tuple(guide.shape) for guide in looking.shown] == [(1, 1, 40, 48)] * 3


def batch_of_halves():
    return {"image": torch.rand(1, 3, 40, 48), "guide": torch.from_numpy(HALVES.astype(np.int32))[None, None]}


def test_a_solver_and_a_regularizer_stop_at_the_cut():
    batch = batch_of_halves()
    seeds = torch.full((1, 40, 48), 255)
    seeds[0, 0, 0], seeds[0, 39, 47] = 0, 1
    solver = AlphaExpansion(POTTS)
    found = solver.solve(torch.zeros(1, 2, 40, 48), guide_of(solver, batch), seeds=seeds).labels
    assert torch.equal(found[0].bool(), torch.from_numpy(HALVES > 3))
    one_hot = 60 * (torch.nn.functional.one_hot(found.long(), 2).permute(0, 3, 1, 2).float() - 0.5)
    assert GridPottsLoss(POTTS)(one_hot, guide_of(GridPottsLoss(POTTS), batch)) == 0
    assert potts_loss(one_hot, batch["image"], GridPotts(50.0, 4)) > 0


def test_what_looks_at_contrast_gets_the_image():
    batch = batch_of_halves()
    for part in (AlphaExpansion(), GridPottsLoss(), GrabCut(), None):
        assert guide_of(part, batch) is batch["image"]
    del batch["guide"]
    with pytest.raises(ValueError, match=r"the batch has no `guide`, which the `potts` of AlphaExpansion needs: give"):
        guide_of(AlphaExpansion(POTTS), batch)


def test_no_boundary_is_lost_on_a_coarse_map():
    boundary = torch.zeros(1, 1, 16, 16, dtype=torch.int32)
    boundary[..., 5] = 1
    assert CoarseGrid(8, 3.5).maxima_of(boundary)[0, 0].tolist() == [[1, 0], [1, 0]]


@pytest.mark.parametrize("method", METHODS)
def test_data_without_maps_are_named_before_training(method, tiny_network, make_trainer):
    scenes = ScenesDataModule(num_train=4, num_val=1, size=32, crop_size=32, batch_size=2, num_workers=0)
    module = METHODS[method](tiny_network, POTTS)
    part = "regularizer" if method == "regularizer" else "solver"
    with pytest.raises(ValueError, match=f"`{part}.potts.edges` needs a guide, which ScenesDataModule does not bring"):
        make_trainer(max_epochs=1).fit(module, scenes)


def test_labelings_by_contrast_are_those_of_stores_of_before_there_were_maps():
    described = describe_solver(AlphaExpansion(GridPotts(50.0, 4, dilation=1)))
    assert described["init_args"]["potts"] == {"weight": 50.0, "connectivity": 4, "normalize_edges": False}
    wide = describe_solver(AlphaExpansion(replace(POTTS, dilation=1)))
    assert wide != describe_solver(AlphaExpansion(POTTS))


def test_color_models_take_no_map(tiny_network):
    with pytest.raises(ValueError, match=r"`solver.potts.edges` must be contrast"):
        ProposalModule(tiny_network, 3, GrabCut(AlphaExpansion(POTTS)))


def test_maps_that_nothing_looks_at_are_said(guided, tiny_network, make_trainer):
    with pytest.warns(UserWarning, match="`data.guides` are read but nothing looks at them"):
        make_trainer(max_steps=1, limit_val_batches=0).fit(ADMModule(tiny_network, 3, pce_fraction=0.0), guided)


def test_a_cell_sees_the_boundary_in_its_own_pixels():
    """33 columns in cells of 8, the last of one pixel: an even division would put column 20 into the next cell."""
    boundary = torch.zeros(1, 1, 8, 33)
    boundary[..., 20] = 1
    assert CoarseGrid(8, 3.5).maxima_of(boundary).flatten().tolist() == [0, 0, 1, 0, 0]
