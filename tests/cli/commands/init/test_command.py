"""`weakseg init`: a recipe that runs as it stands."""

import errno
import shlex
import shutil
from pathlib import Path

import numpy as np
import pytest
import yaml
from init_folders import QUICK, TINY_COMPUTER, TINY_ENCODERS, keep, printed_command, say_all_sizes
from PIL import Image

from weakseg_lightning import ADMModule, FrozenFeatures, Segmenter
from weakseg_lightning.cli.commands.init import command, settings
from weakseg_lightning.cli.errors.signatures import imported, options_of
from weakseg_lightning.data.scenes.datamodule import Scenes


@pytest.fixture
def photographs(tmp_path) -> Path:
    """Twelve pictures with scribbles, four with masks, as a new user has them: no classes.yaml."""
    root = tmp_path / "my photos"
    for folder in ("images", "scribbles", "masks"):
        (root / folder).mkdir(parents=True)
    scenes = Scenes("train", 12, size=64)
    for number in range(12):
        scene = scenes[number]
        name = f"holiday {number}"
        Image.fromarray(scene.image.permute(1, 2, 0).numpy()).save(root / "images" / f"{name}.jpg", quality=95)
        Image.fromarray(scene.seeds.numpy()).save(root / "scribbles" / f"{name}.png")
        if number < 4:
            Image.fromarray(scene.mask.numpy()).save(root / "masks" / f"{name}.png")
    return root


# ---- the whole way ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("masks", "learns"), [(True, "head"), (False, "head"), (True, "network")])
def test_from_a_folder_to_a_checkpoint_by_the_printed_commands(run, photographs, masks, learns):
    if not masks:
        shutil.rmtree(photographs / "masks")
    status, out, err = run("check", "my photos")
    assert (status, err) == (0, "")
    assert printed_command(out) == ["init", "my photos"]
    status, out, err = run(*printed_command(out), "--encoder_weights", "null", "--learns", learns)
    assert (status, err) == (0, "")
    assert "Wrote my photos/classes.yaml: background, class_1, " in out
    assert printed_command(out) == ["fit", "--config", "my_photos.yaml"]
    status, out, err = run(*printed_command(out), *QUICK, TINY_ENCODERS[learns])
    assert status == 0, err
    checkpoints = {path.name for path in Path("runs/my_photos/version_0/checkpoints").iterdir()}
    assert "last.ckpt" in checkpoints
    assert len(checkpoints - {"last.ckpt", "previous.ckpt"}) == masks, "the best, where there is a validation"
    assert ("  weakseg test --config" in out) == masks
    words = printed_command(out)
    assert words[0] == "predict"
    status, out, err = run(*words, "--trainer.accelerator=cpu", "--trainer.enable_progress_bar=false")
    assert status == 0, err
    assert printed_command(out) == ["report", "runs/my_photos/version_0"]
    found = list(Path("runs/my_photos/version_0").glob("predict*/labels/*.png"))
    assert len(found) == 12
    assert np.array(Image.open(found[0])).shape == (64, 64)


def test_two_folders_train_a_classifier_and_then_the_decomposition_as_printed(run, tmp_path):
    scenes = Scenes("train", 8, size=64)
    for folder, numbers in (("positive", range(4)), ("negative", range(4, 8))):
        (tmp_path / "pets" / folder).mkdir(parents=True)
        for number in numbers:
            picture = Image.fromarray(scenes[number].image.permute(1, 2, 0).numpy())
            picture.save(tmp_path / "pets" / folder / f"{number}.png")
    status, out, err = run("init", "pets", "--encoder_weights", "null")
    assert (status, err) == (0, "")
    first, second = [shlex.split(line)[1:] for line in out.splitlines() if line.startswith("  weakseg ")]
    quick = ["--trainer.max_steps=2", "--trainer.val_check_interval=2", "--trainer.accelerator=cpu", "--data.size=64"]
    for words in (first, second):
        status, out, err = run(*words, *quick, "--trainer.enable_progress_bar=false", "--data.num_workers=0")
        assert status == 0, err
        assert "without masks to validate by" in out
        assert printed_command(out)[0] == "predict"
        assert printed_command(out)[-1].endswith("last.ckpt")
    assert run("init", "pets")[0] == 2, "nothing is replaced unless told"


# ---- the recipe ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kept", "sized", "learns"),
    [
        *[(kept, False, learns) for kept in ("points.csv", "masks") for learns in ("head", "network")],
        *[("boxes.csv", False, "network"), ("tags.csv", False, "network"), ("tags.csv", True, "network")],
        *[("boxes.csv", False, "head"), ("tags.csv", True, "head"), ("points.csv", False, "encoder")],
    ],
)
def test_every_recipe_is_complete_and_trains(run, make_folder, monkeypatch, kept, sized, learns):
    monkeypatch.setattr(command, "find_hardware", lambda: TINY_COMPUTER)
    root = make_folder()
    shutil.copy(root / "masks" / "a.png", root / "masks" / "c d é.png")  # two to train on: one is held out
    keep(root, kept)
    if sized:
        say_all_sizes(root)
    assert run("init", "photos", "--encoder_weights", "null", "--learns", learns)[0] == 0
    text = Path("photos.yaml").read_text()
    recipe = yaml.safe_load(text)
    for part in ("model", "data"):
        given = set(recipe[part]["init_args"])
        assert given <= set(options_of(imported(f"weakseg_lightning.{recipe[part]['class_path']}")))
    assert set(options_of(imported(f"weakseg_lightning.{recipe['model']['class_path']}"))) - set(
        recipe["model"]["init_args"]
    ) == {"num_classes", "largest_component"}, "the latter is for cases alone"
    assert "VOC" not in text
    if learns == "encoder":
        assert recipe["speed"] == {"channels_last": True}
    status, _, err = run("fit", "--config", "photos.yaml", *QUICK, TINY_ENCODERS[learns])
    assert status == 0, err


def test_settings_follow_the_images(run, make_folder, monkeypatch):
    root = make_folder()
    for name in ("a.jpg", "b.png", "c d é.png"):
        Image.new("RGB", (2000, 1500)).save(root / "images" / name)
    keep(root, "tags.csv")
    run("init", "photos", "--output", "whole.yaml", "--learns", "network")
    whole = yaml.safe_load(Path("whole.yaml").read_text())
    assert whole["data"]["init_args"]["crop_size"] == 2000
    assert whole["model"]["init_args"]["network"]["init_args"]["input_scale"] == 0.125
    (root / "points.csv").write_text("image,x,y,class\na,5,5,cat\nb,900,900,dog\n")
    run("init", "photos", "--output", "head.yaml")
    head = yaml.safe_load(Path("head.yaml").read_text())
    assert head["model"]["init_args"]["network"]["init_args"]["input_scale"] == 0.1875
    assert (head["data"]["init_args"]["crop_size"], head["data"]["init_args"]["batch_size"]) == (2000, 1)
    run("init", "photos", "--output", "crops.yaml", "--learns", "network")
    crops = yaml.safe_load(Path("crops.yaml").read_text())
    assert crops["model"]["init_args"]["network"]["init_args"]["input_scale"] == 0.25
    assert crops["data"]["init_args"]["crop_size"] == 4 * 192


@pytest.mark.parametrize(("masks", "interval"), [(0, 120), (10, 120), (30, 240)])
def test_the_head_is_validated_the_less_often_the_more_images_are_held_out(run, tmp_path, masks, interval):
    for folder in ("images", "scribbles", "masks"):
        (tmp_path / "few" / folder).mkdir(parents=True)
    seeds = Image.fromarray(np.tile(np.array([0, 1, 255, 255], dtype=np.uint8), (4, 1)))
    for number in range(30):
        Image.new("RGB", (4, 4)).save(tmp_path / "few" / "images" / f"{number}.png")
        for folder in ("scribbles", "masks") if number < masks else ("scribbles",):
            seeds.save(tmp_path / "few" / folder / f"{number}.png")
    assert run("init", "few", "--learns", "head")[0] == 0
    text = Path("few.yaml").read_text()
    assert f"held out for validation: {masks // 5}\n" in text
    assert yaml.safe_load(text)["trainer"]["val_check_interval"] == interval


@pytest.mark.parametrize("side", [30, 384, 500, 513, 640, 777, 1024, 1600, 4000, 6000])
@pytest.mark.parametrize("seen", [200, 384, 500, 640])
@pytest.mark.parametrize("most", [1.0, 4.0])
def test_scales_are_those_that_tiles_can_be_aligned_to(seen, side, most):
    scale = settings._scale(seen, side, most)
    assert 1 / 16 <= scale <= most
    assert abs(scale - seen / side) <= 1 / 32 or scale == most < seen / side or scale == 1 / 16
    net = FrozenFeatures("test_efficientnet", None, input_scale=scale)
    Segmenter(ADMModule(net, 2), "cpu", tile=1024, overlap=256)


def test_nothing_is_replaced_unless_told(run, make_folder):
    make_folder()
    Path("photos.yaml").write_text("mine")
    status, _, err = run("init", "photos")
    assert status == 2
    assert "photos.yaml is there already: choose another `output`, or replace it with --overwrite" in err
    assert run("init", "photos", "--overwrite")[0] == 0
    assert (Path("photos") / "classes.yaml").read_text().startswith("classes: [background, {name: cat")


@pytest.mark.parametrize("failing", ["pets.yaml", "pets_classifier.yaml", "classes.yaml"])
def test_a_full_disk_leaves_what_was_there(run, make_folder, tmp_path, monkeypatch, failing):
    if failing == "classes.yaml":
        root = make_folder("pets")
        (root / "classes.yaml").unlink()
    else:
        for folder in ("positive", "negative"):
            (tmp_path / "pets" / folder).mkdir(parents=True)
            Image.new("RGB", (8, 8)).save(tmp_path / "pets" / folder / "a.png")
        Path(failing).write_text("before")
    write = Path.write_text

    def write_half(path, text, **options):
        if failing not in path.name:
            return write(path, text, **options)
        write(path, text[: len(text) // 2], **options)
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_text", write_half)
    status, _, err = run("init", "pets", "--overwrite", "--encoder_weights", "null")
    assert status == 2
    assert f"{failing}: No space left on device" in err
    if failing == "classes.yaml":
        assert not (root / "classes.yaml").exists()
    else:
        assert Path(failing).read_text() == "before"


def test_problems_send_back_to_check(run, make_folder):
    root = make_folder()
    (root / "points.csv").write_text("image,x,class\n")
    status, out, _ = run("init", "photos")
    assert status == 1
    assert "1 problem would stop training, as points.csv: has no column `y`" in out
    assert printed_command(out) == ["check", "photos"]


def test_weights_that_are_not_there_are_named_before_a_recipe_is_written(make_folder, refused):
    make_folder()
    assert "`encoder_weights`: there is no file nowhere.safetensors" in refused(
        "init", "photos", "--encoder_weights", "nowhere.safetensors"
    )
    assert not Path("photos.yaml").exists()


def test_masks_that_only_validate_are_told(run, make_folder):
    root = make_folder()
    (root / "masks").mkdir(exist_ok=True)
    Image.new("RGB", (48, 40)).save(root / "images" / "masked.png")
    Image.fromarray(np.eye(40, 48, dtype=np.uint8)).save(root / "masks" / "masked.png")
    status, out, _ = run("init", "photos")
    assert status == 0
    assert "1 image with a mask and nothing else: for validation alone" in out


def test_an_error_at_fit_is_one_line_and_leaves_no_run(run, make_folder, refused):
    root = make_folder()
    assert run("init", "photos", "--encoder_weights", "null")[0] == 0
    (root / "images" / "a.jpg").write_bytes(b"")
    told = refused("fit", "--config", "photos.yaml", *QUICK)
    assert "images/a.jpg: is not an image that can be read" in told
    assert not Path("runs").exists()


@pytest.mark.parametrize("text", ["classes: [soil, {name: wheat, color: '#00ff00']\n", "clases: [soil, wheat]\n"])
def test_a_broken_classes_yaml_is_named_and_stays(run, make_folder, text):
    (make_folder("photos") / "classes.yaml").write_text(text)
    status, out, _ = run("init", "photos")
    assert status == 1
    assert "as classes.yaml: " in out
    assert Path("photos/classes.yaml").read_text() == text
