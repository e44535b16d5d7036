"""Weights that are moved about in Python: they keep the names of their classes and raise with others."""

import unicodedata

import numpy as np
import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from small_runs import quiet_trainer
from two_ranks_class_names import EXCHANGED, NAMES, NETWORK, data_of, new

from weakseg_lightning import Segmenter, load_module
from weakseg_lightning.cli.commands.predict.images import predict_images
from weakseg_lightning.cli.commands.predict.options import ImageOptions
from weakseg_lightning.data import VOCDataModule
from weakseg_lightning.modules import ProposalModule, RegularizedLossModule
from weakseg_lightning.modules.core.class_names import require_same_classes
from weakseg_lightning.modules.core.latent_store import LatentStore

OTHER_CLASSES = (
    rf"was trained on the classes {', '.join(NAMES)}; the data here have {', '.join(EXCHANGED)}\. Give the data"
)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A checkpoint of one step."""
    torch.manual_seed(0)  # the scores of an untrained network may overflow, those of this one do not
    folder = tmp_path_factory.mktemp("trained")
    trainer = quiet_trainer(str(folder), max_steps=1)
    trainer.fit(new(), data_of(NAMES))
    trainer.save_checkpoint(folder / "a.ckpt")
    return folder / "a.ckpt"


@pytest.fixture
def old(trained, tmp_path):
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
def test_case_and_blanks_do_not_count(here):
    require_same_classes(NAMES, here, "it", allowed=False)
    with pytest.raises(ValueError, match="was trained on"):
        require_same_classes(NAMES, here[::-1], "it", allowed=False)


def test_how_an_accent_is_encoded_does_not_count_but_the_accent_does():
    decomposed = unicodedata.normalize("NFD", "bébé")
    assert decomposed != "bébé"
    require_same_classes(["fond", "bébé"], ["fond", decomposed], "it", allowed=False)
    with pytest.raises(ValueError, match="it was trained on the classes fond, bébé; the data here have fond, bebe"):
        require_same_classes(["fond", "bébé"], ["fond", "bebe"], "it", allowed=False)


def test_the_option_is_offered_where_it_can_help():
    with pytest.raises(ValueError, match="--allow_other_classes true"):
        require_same_classes(NAMES, EXCHANGED, "it", allowed=False)
    with pytest.raises(ValueError, match=r"Use the data whose classes it was trained on, or train on these$"):
        require_same_classes(NAMES, [*NAMES, "goat"], "it", allowed=False)


def test_classes_of_voc_in_the_order_of_the_alphabet_without_background_first_are_others(tmp_path):
    voc = VOCDataModule(str(tmp_path)).class_names
    require_same_classes(voc, list(voc), "it", allowed=False)
    with pytest.raises(ValueError, match="aeroplane, background, bicycle"):
        require_same_classes(voc, sorted(voc), "it", allowed=False)


# ---- modules ------------------------------------------------------------------------------------------------


def use(trainer, command, module, data, **more):
    {"fit": trainer.fit, "validate": trainer.validate, "test": trainer.test}[command](module, datamodule=data, **more)


def from_checkpoint(path):
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
def test_weights_raise_with_data_of_other_names(make_trainer, trained, way, command):
    module, more = from_checkpoint(trained)[way]
    with pytest.raises(ValueError, match=OTHER_CLASSES) as raised:
        use(make_trainer(max_epochs=2), command, module, data_of(EXCHANGED), **more)
    assert str(trained) in str(raised.value)
    assert "module.allow_other_classes = True" in str(raised.value)
    module, more = from_checkpoint(trained)[way]
    module.allow_other_classes = True
    with pytest.warns(UserWarning, match=rf"was trained on .*{', '.join(EXCHANGED)}: going on") as warned:
        use(make_trainer(max_epochs=2), command, module, data_of(EXCHANGED), **more)
    assert sum("was trained on" in str(warning.message) for warning in warned) == 1
    assert module.class_names == EXCHANGED


@pytest.mark.parametrize(("way", "command"), WAYS)
def test_weights_of_before_names_were_kept_warn_once(make_trainer, old, way, command):
    module, more = from_checkpoint(old)[way]
    with pytest.warns(UserWarning, match=r"old.ckpt does not say the names .* taken for background, dog") as warned:
        use(make_trainer(max_epochs=2), command, module, data_of(EXCHANGED), **more)
    assert sum("does not say" in str(warning.message) for warning in warned) == 1


def test_a_module_that_was_trained_raises_with_other_data_and_one_that_was_only_validated_does_not(make_trainer):
    module = new()
    make_trainer(inference_mode=False).validate(module, data_of(EXCHANGED), verbose=False)
    make_trainer(max_steps=1).fit(module, data_of(NAMES))
    make_trainer().validate(module, data_of(NAMES), verbose=False)
    with pytest.raises(ValueError, match="the module " + OTHER_CLASSES):
        make_trainer().test(module, data_of(EXCHANGED), verbose=False)


def test_names_stay_with_weights_that_go_on_with_data_that_have_none(make_trainer, tiny_network, tiny_data, tmp_path):
    tiny_data.class_names = NAMES[:3]
    for epochs in (1, 2):
        trainer, path = make_trainer(max_epochs=epochs), tmp_path / "1.ckpt" if epochs == 2 else None
        trainer.fit(RegularizedLossModule(tiny_network, 3), tiny_data, ckpt_path=path, weights_only=True)
        trainer.save_checkpoint(tmp_path / f"{epochs}.ckpt")
        vars(tiny_data).pop("class_names", None)
    assert torch.load(tmp_path / "2.ckpt", weights_only=True)["class_names"] == NAMES[:3]


def test_data_of_ones_own_without_names_store_none(make_trainer, tiny_network, tiny_data, tmp_path):
    module, trainer = RegularizedLossModule(tiny_network, 3), make_trainer(max_epochs=1)
    trainer.fit(module, tiny_data)
    trainer.save_checkpoint(tmp_path / "a.ckpt")
    assert torch.load(tmp_path / "a.ckpt", weights_only=True)["class_names"] is None
    make_trainer().test(module, tiny_data, ckpt_path=tmp_path / "a.ckpt", weights_only=True, verbose=False)


def test_all_checkpoints_of_a_trainer_have_the_names(make_trainer, tmp_path):
    kept = ModelCheckpoint(tmp_path / "kept", save_top_k=-1, save_last=True)
    make_trainer(enable_checkpointing=True, callbacks=[kept]).fit(new(), data_of(NAMES))
    written = sorted((tmp_path / "kept").glob("*.ckpt"))
    assert len(written) == 3
    assert all(torch.load(path, weights_only=True)["class_names"] == NAMES for path in written)


def test_polygons_have_the_names_of_the_weights(trained, tmp_path):
    pytest.importorskip("rasterio")
    from PIL import Image

    noise = np.random.default_rng(0).integers(0, 255, (32, 32, 3), dtype=np.uint8)
    Image.fromarray(noise).save(tmp_path / "a.png")
    images = {"a": tmp_path / "a.png"}
    assert predict_images(images, load_module(trained), tmp_path / "out", ImageOptions(polygons=True)) == 0
    assert '"name": "horse"' in (tmp_path / "out/polygons.json").read_text()
    assert Segmenter(trained, device="cpu").class_names == NAMES


# ---- labelings ---------------------------------------------------------------------------------------------


def test_stored_labelings_of_classes_in_another_order_raise(make_trainer, tmp_path):
    """Proposals do not depend on weights: a second run would take the first one's."""

    def fit(names, allowed=False):
        module = ProposalModule(NETWORK, len(NAMES), store=LatentStore(str(tmp_path / "store")))
        module.allow_other_classes = allowed
        make_trainer(max_steps=1).fit(module, data_of(names))

    fit(NAMES)
    fit([name.title() for name in NAMES])
    with pytest.raises(ValueError, match=r"labelings that were solved with `class_names` \['background', 'cat'"):
        fit(EXCHANGED)
    fit(EXCHANGED, allowed=True)


# ---- ranks --------------------------------------------------------------------------------------------------


def test_both_of_two_ranks_raise(trained, run_program):
    ended = run_program("ranks/two_ranks_class_names.py", trained, ranks=2, timeout=300)  # and does not hang
    for rank in ("rank 0 the checkpoint", "rank 1 the checkpoint"):
        assert rank in ended.stdout, ended.stderr[-3000:]
