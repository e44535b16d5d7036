"""The room of ACDC: a base and its overlays build, train on a folder of gray slices, and differ in the method alone."""

from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch
from building import CPU, FOLDER, command, written
from PIL import Image

from weakseg_lightning.hyperparameters import describe
from weakseg_lightning.losses import GatedCRFLoss, gated_crf_loss, mumford_shah_loss
from weakseg_lightning.modules import ADMModule, DMPLSModule, RegularizedLossModule, SoftLabelModule, TrustRegionModule

OF_MODULE = {
    "adm": ADMModule,
    "dmpls": DMPLSModule,
    "soft_labels": SoftLabelModule,
    "trust_region": TrustRegionModule,
}
REGULARIZED = ["entropy", "full", "gated_crf", "grid_gd", "mumford_shah", "total_variation"]
METHODS = sorted([*OF_MODULE, *REGULARIZED])
SMALL = [
    *("--model.network.widths=[4,6]", "--model.network.dropout=[0,0.1]", "--data.crop_size=32", "--data.batch_size=2"),
    *("--data.num_workers=0", "--trainer.max_steps=3", "--trainer.check_val_every_n_epoch=1"),
    *("--trainer.enable_progress_bar=false", "--trainer.enable_model_summary=false"),
    *("--trainer.num_sanity_val_steps=0", "--trainer.enable_checkpointing=false", *CPU),
]


def overlaid(name: str) -> list[str]:
    return ["acdc/unet"] if name == "unet" else ["acdc/unet", f"acdc/{name}"]


@pytest.fixture(scope="session")
def slices(tmp_path_factory) -> Path:
    """A folder `acdc` of four patients with a disc in a ring each, of sizes that differ, and strokes on both."""
    root, generator = tmp_path_factory.mktemp("slices") / "acdc", np.random.default_rng(0)
    for kind in ("images", "masks", "scribbles"):
        (root / kind).mkdir(parents=True)
    names = [f"patient00{patient}_frame01_slice_{number}" for patient in range(1, 5) for number in (0, 1)]
    for index, name in enumerate(names):
        rows, columns = np.indices((36 + 4 * (index // 2), 40))
        radius = np.hypot(rows - 20, columns - 18)
        mask = np.select([radius < 6, radius < 11, radius < 14], [3, 2, 1], 0).astype(np.uint8)
        seeds = np.where(rows % 10 == 0, mask, 255).astype(np.uint8)
        image = 60 * mask + generator.integers(0, 40, mask.shape)
        for kind, content in (("images", image), ("masks", mask), ("scribbles", seeds)):
            Image.fromarray(content.astype(np.uint8)).save(root / kind / f"{name}.png")
    (root / "classes.yaml").write_text("classes: [background, RV, Myo, LV]\n")
    (root / "train.txt").write_text("\n".join(names[:4]))
    (root / "val.txt").write_text("\n".join(names[4:]))
    return root


@pytest.fixture
def in_place(slices, monkeypatch) -> None:
    """The working directory is where the folder is, as the recipes have it."""
    monkeypatch.chdir(slices.parent)
    monkeypatch.setenv("PL_GLOBAL_SEED", "0")


@pytest.fixture
def built(build, slices):
    """Builds the base with an overlay, by name."""
    here = [f"--data.root={slices}", *(f"--data.{name}_list={slices}/{name}.txt" for name in ("train", "val"))]
    return lambda name: build(*overlaid(name), *here, *CPU)


def test_every_file_of_the_room_is_tried():
    assert {path.stem for path in (FOLDER / "acdc").glob("*.yaml")} == {"unet", "encoder", *METHODS}


@pytest.mark.parametrize("name", ["unet", *METHODS])
def test_a_method_trains_on_slices_and_scores_their_volumes(name, in_place):
    cases = [] if find_spec("monai") else ["--data.cases=null"]
    cli = command(*overlaid(name), *SMALL, *cases)
    scores = cli.trainer.callback_metrics
    assert cli.trainer.global_step == 3
    assert torch.isfinite(scores["train_loss"])
    assert 0 <= scores["val_miou"] <= 1
    assert cases or 0 <= scores["val_dice_mean"] <= 1
    assert type(cli.model) is OF_MODULE.get(name, RegularizedLossModule)
    term = getattr(getattr(cli.model, "regularizer", None), "term", None)
    assert term is None or f"train_{term}" in scores, "the second phase has been reached"


@pytest.mark.parametrize("method", ["adm", "full"])
def test_a_pretrained_encoder_takes_the_place_of_the_unet(method, in_place):
    tiny = ["--model.network.encoder=tu-test_efficientnet", "--model.network.encoder_weights=null"]
    options = [option for option in SMALL if not option.startswith("--model.network")]
    cli = command("acdc/unet", "acdc/encoder", f"acdc/{method}", *options, *tiny, "--data.cases=null")
    assert cli.trainer.global_step == 3
    assert describe(cli.model.network)["init_args"]["architecture"] == "unet"
    ours = written("acdc/unet")["model"]["init_args"]
    for phase in ("pce_optimizer", "optimizer"):
        settings = getattr(cli.model, phase)
        assert settings.lr * settings.head_lr_factor == pytest.approx(float(ours[phase]["lr"]))
        assert settings.schedule == ours[phase]["schedule"]


# ---- one setting for all ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", METHODS)
def test_methods_differ_in_the_method_alone(built, name):
    base, method = built("unet"), built(name)
    for setting in ("root", "train_list", "val_list", "cases", "crop_size", "batch_size", "scale_range", "flip"):
        assert getattr(method.datamodule, setting) == getattr(base.datamodule, setting)
    assert method.datamodule.supervision == ("full" if name == "full" else "scribble")
    assert method.trainer.max_steps == base.trainer.max_steps == 20_000
    assert method.model.optimizer == base.model.optimizer
    if name != "dmpls":
        assert method.model.network == base.model.network
        assert (method.model.pce_optimizer, method.model.pce_fraction) == (base.model.pce_optimizer, 0.25)
    assert method.model.largest_component


def test_the_network_is_that_of_the_peers_and_dmpls_adds_a_decoder(built):
    base, dmpls = built("unet").model, built("dmpls").model
    assert sum(parameter.numel() for parameter in base.net.parameters()) == 1_813_252
    shared = {key: value for key, value in vars(dmpls.network).items() if key != "perturbation"}
    assert shared == vars(base.network)
    assert (dmpls.network.perturbation, dmpls.pseudo_weight, dmpls.pseudo_loss) == (0.5, 0.5, "dice")


# ---- numbers that were made for other ranges of gray ------------------------------------------------------------


def test_the_gated_crf_is_as_sensitive_to_three_equal_channels_as_the_peers_are_to_one(built):
    loss = built("gated_crf").model.regularizer
    assert isinstance(loss, GatedCRFLoss)
    logits, gray = torch.randn(1, 4, 8, 8), torch.rand(1, 1, 8, 8)
    alone = torch.cat([gray, torch.zeros(1, 2, 8, 8)], 1)  # a distance of one channel
    one = [type(loss.kernels[0])(1.0, 6, 0.1)]
    expected = gated_crf_loss(logits, alone, 0.1, one, radius=5, downscale=1)
    torch.testing.assert_close(loss(logits, gray.expand(1, 3, 8, 8)), expected, rtol=1e-3, atol=0)


def test_mumford_shah_is_as_strong_as_on_slices_of_unit_variance(built):
    loss = built("mumford_shah").model.regularizer
    logits, slices = torch.randn(1, 4, 16, 16), torch.randn(1, 1, 16, 16).expand(1, 3, 16, 16)
    found = loss(logits, 0.23 + 0.057**0.5 * slices)
    torch.testing.assert_close(found, 0.05 * mumford_shah_loss(logits, slices), rtol=0.01, atol=0)
