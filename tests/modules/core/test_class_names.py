"""Weights that are moved about in Python: they keep the names of their classes and refuse others."""

import subprocess
import sys
import unicodedata
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lightning.pytorch import LightningDataModule, LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint

from weakseg_lightning import Segmenter, load_module
from weakseg_lightning.cli.commands.predict import ImageOptions, predict_images
from weakseg_lightning.data import ScenesDataModule, VOCDataModule
from weakseg_lightning.modules import ProposalModule, RegularizedLossModule
from weakseg_lightning.modules.core.class_names import require_same_classes
from weakseg_lightning.modules.core.latent_store import LatentStore
from weakseg_lightning.networks import SMPNetwork

NAMES = ["background", "cat", "dog", "horse", "cow", "sheep"]
EXCHANGED = ["background", "dog", "cat", "horse", "cow", "sheep"]
NETWORK = SMPNetwork("unet", "timm-mobilenetv3_small_minimal_100", None)
REFUSAL = rf"was trained on the classes {', '.join(NAMES)}; the data here have {', '.join(EXCHANGED)}\. Give the data"
MakeTrainer = Callable[..., Trainer]


class Named(ScenesDataModule):
    """Scenes of classes with any names."""

    names: Sequence[str] = NAMES

    @property
    def class_names(self) -> list[str]:
        return list(self.names)


def data_of(names: Sequence[str]) -> Named:
    data = Named(num_train=2, num_val=1, size=32, crop_size=32, batch_size=2, num_workers=0)
    data.names = names
    return data


def new() -> RegularizedLossModule:
    return RegularizedLossModule(NETWORK, len(NAMES), pce_fraction=0.0)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint of one step."""
    torch.manual_seed(0)  # the scores of an untrained network may overflow, those of this one do not
    folder = tmp_path_factory.mktemp("trained")
    trainer = Trainer(
        max_steps=1, accelerator="cpu", logger=False, enable_progress_bar=False, enable_model_summary=False,
        enable_checkpointing=False, limit_val_batches=0, default_root_dir=folder,
    )  # fmt: skip
    trainer.fit(new(), data_of(NAMES))
    trainer.save_checkpoint(folder / "a.ckpt")
    return folder / "a.ckpt"


@pytest.fixture
def old(trained: Path, tmp_path: Path) -> Path:
    """The same as an earlier version wrote it."""
    content = torch.load(trained, weights_only=True)
    del content["class_names"]
    torch.save(content, tmp_path / "old.ckpt")
    return tmp_path / "old.ckpt"


# ---- what is equal ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "here",
    [
        ["Background", "CAT", "dog", "horse", "cow", "Sheep"],
        ["background", " cat ", "dog\t", "horse", "cow", "sheep"],
    ],
)
def test_case_and_blanks_do_not_count(here: list[str]) -> None:
    require_same_classes(NAMES, here, "it", allowed=False)
    with pytest.raises(ValueError, match="was trained on"):
        require_same_classes(NAMES, here[::-1], "it", allowed=False)


def test_how_an_accent_is_encoded_does_not_count_but_the_accent_does() -> None:
    decomposed = unicodedata.normalize("NFD", "bébé")
    assert decomposed != "bébé"
    require_same_classes(["fond", "bébé"], ["fond", decomposed], "it", allowed=False)
    with pytest.raises(ValueError, match="it was trained on the classes fond, bébé; the data here have fond, bebe"):
        require_same_classes(["fond", "bébé"], ["fond", "bebe"], "it", allowed=False)


def test_the_option_is_offered_where_it_can_help() -> None:
    with pytest.raises(ValueError, match="--allow_other_classes true"):
        require_same_classes(NAMES, EXCHANGED, "it", allowed=False)
    with pytest.raises(ValueError, match=r"Use the data whose classes it was trained on, or train on these$"):
        require_same_classes(NAMES, [*NAMES, "goat"], "it", allowed=False)


def test_classes_of_voc_in_the_order_of_the_alphabet_without_background_first_are_others(tmp_path: Path) -> None:
    voc = VOCDataModule(str(tmp_path)).class_names
    require_same_classes(voc, list(voc), "it", allowed=False)
    with pytest.raises(ValueError, match="aeroplane, background, bicycle"):
        require_same_classes(voc, sorted(voc), "it", allowed=False)


# ---- modules ------------------------------------------------------------------------------------------------


def use(trainer: Trainer, command: str, module: LightningModule, data: LightningDataModule, **more: Any) -> None:
    {"fit": trainer.fit, "validate": trainer.validate, "test": trainer.test}[command](module, datamodule=data, **more)


def from_checkpoint(path: Path) -> dict[str, tuple[LightningModule, dict[str, Any]]]:
    """All ways to weights from a file."""
    starting = RegularizedLossModule(NETWORK, len(NAMES), pce_fraction=0.0, start_from=str(path))
    return {
        "load_module": (load_module(path).train(), {}),
        "load_from_checkpoint": (RegularizedLossModule.load_from_checkpoint(path), {}),
        "ckpt_path": (new(), {"ckpt_path": path, "weights_only": True}),
        "start_from": (starting, {}),
    }


WAYS = [
    *((way, command) for way in ("load_module", "load_from_checkpoint") for command in ("fit", "test")),
    *(("ckpt_path", command) for command in ("fit", "validate")),
    ("start_from", "fit"),
]


@pytest.mark.parametrize(("way", "command"), WAYS)
def test_weights_refuse_data_with_other_names(make_trainer: MakeTrainer, trained: Path, way: str, command: str) -> None:
    module, more = from_checkpoint(trained)[way]
    with pytest.raises(ValueError, match=REFUSAL) as refusal:
        use(make_trainer(max_epochs=2), command, module, data_of(EXCHANGED), **more)
    assert str(trained) in str(refusal.value)
    assert "module.allow_other_classes = True" in str(refusal.value)
    module, more = from_checkpoint(trained)[way]
    module.allow_other_classes = True
    with pytest.warns(UserWarning, match=rf"was trained on .*{', '.join(EXCHANGED)}: going on") as warned:
        use(make_trainer(max_epochs=2), command, module, data_of(EXCHANGED), **more)
    assert sum("was trained on" in str(warning.message) for warning in warned) == 1
    assert module.class_names == EXCHANGED


@pytest.mark.parametrize(("way", "command"), WAYS)
def test_weights_of_before_names_were_kept_warn_once(
    make_trainer: MakeTrainer, old: Path, way: str, command: str
) -> None:
    module, more = from_checkpoint(old)[way]
    with pytest.warns(UserWarning, match=r"old.ckpt does not say the names .* taken for background, dog") as warned:
        use(make_trainer(max_epochs=2), command, module, data_of(EXCHANGED), **more)
    assert sum("does not say" in str(warning.message) for warning in warned) == 1


def test_a_module_that_was_trained_refuses_other_data_and_one_that_was_only_validated_does_not(
    make_trainer: MakeTrainer,
) -> None:
    module = new()
    make_trainer(inference_mode=False).validate(module, data_of(EXCHANGED), verbose=False)
    make_trainer(max_steps=1).fit(module, data_of(NAMES))
    make_trainer().validate(module, data_of(NAMES), verbose=False)
    with pytest.raises(ValueError, match="the module " + REFUSAL):
        make_trainer().test(module, data_of(EXCHANGED), verbose=False)


def test_names_stay_with_weights_that_go_on_with_data_that_have_none(
    make_trainer: MakeTrainer, tiny_network: Any, tiny_data: LightningDataModule, tmp_path: Path
) -> None:
    tiny_data.class_names = NAMES[:3]  # type: ignore[attr-defined]
    for epochs in (1, 2):
        trainer, path = make_trainer(max_epochs=epochs), tmp_path / "1.ckpt" if epochs == 2 else None
        trainer.fit(RegularizedLossModule(tiny_network, 3), tiny_data, ckpt_path=path, weights_only=True)
        trainer.save_checkpoint(tmp_path / f"{epochs}.ckpt")
        vars(tiny_data).pop("class_names", None)
    assert torch.load(tmp_path / "2.ckpt", weights_only=True)["class_names"] == NAMES[:3]


def test_data_of_ones_own_without_names_store_none(
    make_trainer: MakeTrainer, tiny_network: Any, tiny_data: LightningDataModule, tmp_path: Path
) -> None:
    module, trainer = RegularizedLossModule(tiny_network, 3), make_trainer(max_epochs=1)
    trainer.fit(module, tiny_data)
    trainer.save_checkpoint(tmp_path / "a.ckpt")
    assert torch.load(tmp_path / "a.ckpt", weights_only=True)["class_names"] is None
    make_trainer().test(module, tiny_data, ckpt_path=tmp_path / "a.ckpt", weights_only=True, verbose=False)


def test_all_checkpoints_of_a_trainer_have_the_names(make_trainer: MakeTrainer, tmp_path: Path) -> None:
    kept = ModelCheckpoint(tmp_path / "kept", save_top_k=-1, save_last=True)
    make_trainer(enable_checkpointing=True, callbacks=[kept]).fit(new(), data_of(NAMES))
    written = sorted((tmp_path / "kept").glob("*.ckpt"))
    assert len(written) == 3
    assert all(torch.load(path, weights_only=True)["class_names"] == NAMES for path in written)


def test_polygons_have_the_names_of_the_weights(trained: Path, tmp_path: Path) -> None:
    pytest.importorskip("rasterio")
    from PIL import Image

    noise = np.random.default_rng(0).integers(0, 255, (32, 32, 3), dtype=np.uint8)
    Image.fromarray(noise).save(tmp_path / "a.png")
    images = {"a": tmp_path / "a.png"}
    assert predict_images(images, load_module(trained), tmp_path / "out", ImageOptions(polygons=True)) == 0
    assert '"name": "horse"' in (tmp_path / "out/polygons.json").read_text()
    assert Segmenter(trained, device="cpu").class_names == NAMES


# ---- labelings ---------------------------------------------------------------------------------------------


def test_stored_labelings_of_classes_in_another_order_are_refused(make_trainer: MakeTrainer, tmp_path: Path) -> None:
    """Proposals do not depend on weights: a second run would take the first one's."""

    def fit(names: Sequence[str], allowed: bool = False) -> None:
        module = ProposalModule(NETWORK, len(NAMES), store=LatentStore(str(tmp_path / "store")))
        module.allow_other_classes = allowed
        make_trainer(max_steps=1).fit(module, data_of(names))

    fit(NAMES)
    fit([name.title() for name in NAMES])
    with pytest.raises(ValueError, match=r"labelings that were solved with `class_names` \['background', 'cat'"):
        fit(EXCHANGED)
    fit(EXCHANGED, allowed=True)


# ---- ranks --------------------------------------------------------------------------------------------------

SCRIPT = """
import sys
sys.path.insert(0, sys.argv[1])
from lightning.pytorch import Trainer
from test_class_names import EXCHANGED, data_of, new

quiet = dict.fromkeys(("logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary"), False)
trainer = Trainer(accelerator="cpu", strategy="ddp", devices=2, max_epochs=2, **quiet)
try:
    trainer.fit(new(), data_of(EXCHANGED), ckpt_path=sys.argv[2], weights_only=True)
except ValueError as error:
    sys.stdout.write(f"rank {trainer.global_rank} {error}\\n")  # at once: both write to one pipe
"""


def test_both_of_two_ranks_refuse(trained: Path, tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    command = [sys.executable, script, Path(__file__).parent, trained]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)  # and does not hang
    for rank in ("rank 0 the checkpoint", "rank 1 the checkpoint"):
        assert rank in ended.stdout, ended.stderr[-3000:]
