import csv
import doctest
import inspect
import logging
import sys
from pathlib import Path

import matplotlib as mpl
import pytest
import torch
import yaml
from PIL import Image

from weakseg_lightning.cli import main
from weakseg_lightning.cli.commands.experiment import label_noise as experiment
from weakseg_lightning.cli.commands.experiment.classification_sets import load_set
from weakseg_lightning.cli.commands.experiment.label_noise import corrupt_labels, label_noise
from weakseg_lightning.cli.recipes import recipes_folder
from weakseg_lightning.errors import UserError

RECIPE = recipes_folder() / "experiments" / "label_noise_digits.yaml"
SHORT = {"epochs": 1, "seeds": [0], "eps": [0.0, 0.5], "accelerator": "cpu"}


@pytest.fixture(autouse=True)
def _in_empty_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def rows(folder: Path) -> list[dict[str, str]]:
    with (folder / "label_noise.csv").open(newline="") as file:
        return list(csv.DictReader(file))


# ---- wrong labels -------------------------------------------------------------------------------------------


def test_labels_are_wrong_as_often_as_said_and_in_all_ways_alike():
    labels = torch.arange(100_000) % 5
    observed = corrupt_labels(labels, 5, 0.4, torch.Generator().manual_seed(0))
    shares = torch.bincount((observed - labels) % 5, minlength=5) / len(labels)
    torch.testing.assert_close(shares, torch.tensor([0.6, 0.1, 0.1, 0.1, 0.1]), rtol=0, atol=0.005)


def test_without_noise_labels_stay():
    labels = torch.arange(1000) % 5
    assert torch.equal(corrupt_labels(labels, 5, 0.0, torch.Generator()), labels)
    assert not (corrupt_labels(labels, 5, 1.0, torch.Generator()) == labels).any()


# ---- data ---------------------------------------------------------------------------------------------------


def test_digits_are_split_once_and_for_all():
    data, again = load_set("digits", Path()), load_set("digits", Path())
    assert data.train_images.shape == (1198, 1, 8, 8)
    assert data.test_images.shape == (599, 1, 8, 8)
    assert torch.equal(data.test_images, again.test_images)
    assert 0 <= data.train_images.min() < data.train_images.max() == 1
    for labels in (data.train_labels, data.test_labels):
        assert torch.bincount(labels, minlength=10).min() > 0.09 * len(labels)
    both = torch.cat([data.train_images, data.test_images]).flatten(1)
    assert len(both.unique(dim=0)) == 1797


def make_images(folder: Path, number: int, size: tuple[int, int] = (20, 10)) -> None:
    """Images of two classes: red and blue."""
    for name, color in {"blue": (0, 0, 255), "red": (255, 0, 0)}.items():
        (folder / name).mkdir(parents=True)
        for index in range(number):
            Image.new("RGB", size, color).save(folder / name / f"{index}.png")


def test_a_folder_of_classes_is_split():
    make_images(Path("images"), 6)
    data = load_set("folder", Path("images"), image_size=8)
    assert data.num_classes == 2
    assert data.train_images.shape == (8, 3, 8, 8)
    assert torch.bincount(data.test_labels).tolist() == [2, 2]
    assert torch.equal(data.train_images[:, 0, 0, 0], data.train_labels.float())  # class 1 is red


def test_a_folder_with_train_and_test_stays_as_it_is():
    make_images(Path("images/train"), 3)
    make_images(Path("images/test"), 2)
    data = load_set("folder", Path("images"), image_size=4)
    assert (len(data.train_labels), len(data.test_labels)) == (6, 4)
    (Path("images/test/red")).rename("images/test/rot")
    with pytest.raises(ValueError, match=r"`train` has the classes \['blue', 'red'\], `test` \['blue', 'rot'\]"):
        load_set("folder", Path("images"))


def test_fashion_mnist_is_read_from_its_files():
    raw = Path("data/FashionMNIST/raw")
    raw.mkdir(parents=True)
    for prefix, number in (("train", 3), ("t10k", 2)):
        size = [number, 28, 28]
        header = b"".join(value.to_bytes(4, "big") for value in size)
        pixels = bytes(range(number)) * 784
        (raw / f"{prefix}-images-idx3-ubyte").write_bytes(b"\0\0\x08\x03" + header + pixels)
        (raw / f"{prefix}-labels-idx1-ubyte").write_bytes(b"\0\0\x08\x01" + header[:4] + bytes(range(number)))
    data = load_set("fashion_mnist", Path("data"))
    assert data.train_images.shape == (3, 1, 28, 28)
    assert data.test_labels.tolist() == [0, 1]
    assert data.train_images.max() == pytest.approx(2 / 255)


@pytest.mark.parametrize(
    ("name", "error", "words"),
    [
        ("fashion_mnist", FileNotFoundError, "no Fashion-MNIST in nowhere/FashionMNIST/raw: .* --download true"),
        ("folder", FileNotFoundError, "no folder `nowhere`"),
        ("cifar", ValueError, "`dataset` must be one of"),
    ],
)
def test_data_that_is_not_there_is_named(name, error, words):
    with pytest.raises(error, match=words):
        load_set(name, Path("nowhere"))


def test_a_single_class_is_refused():
    make_images(Path("images"), 2)
    Path("images/red").rename("elsewhere")
    with pytest.raises(ValueError, match="has the class blue alone"):
        load_set("folder", Path("images"))


# ---- the experiment -----------------------------------------------------------------------------------------


def test_the_results_are_written_and_repeat():
    level = logging.getLogger("lightning.pytorch").level
    first = label_noise(**SHORT)
    torch.manual_seed(12345)  # the user's own random state plays no part, and is left alone
    state = torch.get_rng_state()
    second = label_noise(**SHORT)
    assert (first, second) == (Path("runs/label_noise/version_0"), Path("runs/label_noise/version_1"))
    assert rows(first) == rows(second)
    assert [(row["eps"], row["seed"]) for row in rows(first)] == [("0.0", "0"), ("0.5", "0")]
    assert all(0 < float(row["accuracy"]) < 100 for row in rows(first))
    with Image.open(first / "label_noise.png") as plot:
        assert plot.width > 500
    assert torch.equal(torch.get_rng_state(), state)
    assert logging.getLogger("lightning.pytorch").level == level


def test_results_of_another_experiment_stay(capsys):
    label_noise(**SHORT, out=Path("kept"))
    before = {path.name: path.read_bytes() for path in Path("kept").iterdir()}
    with pytest.raises(UserError, match=r"kept has the label_noise\.csv of another experiment"):
        label_noise(**{**SHORT, "seeds": [3]}, out=Path("kept"))
    assert {path.name: path.read_bytes() for path in Path("kept").iterdir()} == before


def test_accuracies_that_are_known_are_kept_where_it_is_interrupted(monkeypatch):
    trained = iter([0.5])  # and no second one
    monkeypatch.setattr(experiment, "_accuracy_after_training", lambda *given: next(trained))
    with pytest.raises(StopIteration):
        label_noise(**SHORT)
    assert [row["accuracy"] for row in rows(Path("runs/label_noise/version_0"))] == ["0.5000"]


def test_the_written_configuration_repeats_the_run(capsys):
    folder = label_noise(**SHORT)
    assert main(["experiment", "label-noise", "--config", str(folder / "config.yaml")]) == 0
    assert rows(Path("runs/label_noise/version_1")) == rows(folder)
    printed = capsys.readouterr()
    assert "1198 training images, 50% with a wrong label" in printed.out
    assert printed.err == ""


def test_the_right_level_beats_the_cross_entropy_where_labels_are_memorised():
    """Half the labels of a few digits are wrong; trained until the cross-entropy has learned them by heart."""
    out = label_noise(eps=[0.0, 0.5], seeds=[0], epochs=60, batch_size=128, lr=0.1, accelerator="cpu")
    plain, robust = (float(row["accuracy"]) for row in rows(out))
    assert robust > plain + 5


def test_any_set_can_be_used():
    make_images(Path("images"), 9)
    options = {"noise": 0.0, "epochs": 20, "lr": 0.01, "batch_size": 4, "image_size": 8, "accelerator": "cpu"}
    out = label_noise("folder", Path("images"), eps=[0.2], out=Path("here"), seeds=[0, 1], **options)
    assert out == Path("here")
    assert [float(row["accuracy"]) for row in rows(out)] == [100.0, 100.0]


def test_the_plot_marks_the_true_level(monkeypatch):
    drawn = []
    monkeypatch.setattr(mpl.figure.Figure, "savefig", lambda figure, *args, **options: drawn.append(figure))
    accuracies = {0.5: [80.0, 90.0], 0.0: [60.0, 60.0]}
    experiment._write_plot(Path("plot.png"), accuracies, 0.45, "digits")
    (axes,) = drawn[0].axes
    curve, *_, line = axes.lines
    assert curve.get_xydata().tolist() == [[0, 60], [0.5, 85]]
    assert list(line.get_xdata()) == [0.45, 0.45]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"noise": 1.5}, "`noise` must be between 0 and 1, got 1.5"),
        ({"eps": []}, "`eps` must hold at least one value"),
        ({"seeds": [1, 1]}, "`seeds` must hold .* none twice"),
        ({"epochs": 0}, "`epochs` must be at least 1, got 0"),
        ({"batch_size": 0}, "`batch_size` must be at least 1"),
        ({"eps": [0.9]}, "`eps` must be at least 0 and below .* = 0.9 for 10 classes"),
    ],
)
def test_wrong_arguments_are_refused_before_a_folder_is_made(options, words):
    with pytest.raises(ValueError, match=words):
        label_noise(**options)
    assert not Path("runs").exists()


# ---- the command --------------------------------------------------------------------------------------------


def test_the_shipped_recipe_is_found_from_anywhere_and_has_the_defaults(capsys):
    assert (
        main(["experiment", "label-noise", "--config", "recipes/experiments/label_noise_digits.yaml", "--epochs", "0"])
        != 0
    )
    assert "`epochs` must be at least 1, got 0" in capsys.readouterr().err
    defaults = {name: parameter.default for name, parameter in inspect.signature(label_noise).parameters.items()}
    recipe = yaml.safe_load(RECIPE.read_text(encoding="utf-8"))
    assert {"noise", "eps", "seeds", "epochs", "batch_size", "lr"} < set(recipe)
    assert recipe == {name: defaults[name] for name in recipe}


def test_recipes_of_experiments_say_how_they_are_used():
    for path in RECIPE.parent.glob("*.yaml"):
        assert f"--config recipes/experiments/{path.name}" in path.read_text(encoding="utf-8")


def test_examples():
    results = doctest.testmod(experiment)
    assert results.attempted > 0
    assert results.failed == 0


def test_digits_without_scikit_learn_say_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    with pytest.raises(ImportError, match=r"needs scikit-learn, not installed here: pip install '\.\[experiments\]'"):
        load_set("digits", Path())
