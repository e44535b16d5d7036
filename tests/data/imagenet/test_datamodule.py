from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from weakseg_lightning.data import ImageNetDogDataModule
from weakseg_lightning.data.imagenet.datamodule import square
from weakseg_lightning.data.imagenet.index import IMAGENET_DOGS


def write(path: Path, value: int = 100, size: tuple[int, int] = (30, 24)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, (value, 0, 0)).save(path)


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture
def folders(tmp_path):
    """Ten dogs and fifteen cats."""
    for kind, count in (("dog", 10), ("cat", 15)):
        for number in range(count):
            write(tmp_path / kind / f"{kind}_{number}.png", number)
    return {"root": None, "positive": [str(tmp_path / "dog")], "negative": [str(tmp_path / "cat")]}


def make(folders, **arguments):
    defaults = {"num_positive": None, "num_negative": None, "size": 16, "batch_size": 4, "num_workers": 0}
    return ImageNetDogDataModule(**(folders | defaults | arguments))


def test_two_folders_make_tagged_images(folders):
    data = make(folders)
    train, val = data.train_source(), data.val_source()
    assert (len(train), len(val)) == (8 + 12, 2 + 3)
    assert not set(train.ids) & set(val.ids)
    assert data.class_names == ["background", "dog"]
    for source in (train, val):
        for index, name in enumerate(source.ids):
            sample = source[index]
            assert sample.tags.tolist() == [True, name.startswith("dog/")]
            assert sample.image.shape == (3, 16, 16)
            assert sample.mask is None
            assert (sample.seeds == 255).all()


def test_the_split_is_seeded_and_knows_nothing_of_the_order_of_files(folders, monkeypatch):
    first = make(folders, num_positive=6, num_negative=10)
    ids = (list(first.train_source().ids), list(first.val_source().ids))
    assert (len(ids[0]), len(ids[1])) == (5 + 8, 1 + 2)
    monkeypatch.setattr(
        "weakseg_lightning.data.imagenet.datamodule.FolderIndex.list",
        lambda self, places: [path for place in places for path in sorted(place.iterdir(), reverse=True)],
    )
    again = make(folders, num_positive=6, num_negative=10, seed=7)
    assert (list(again.train_source().ids), list(again.val_source().ids)) == ids
    other = make(folders, num_positive=6, num_negative=10, split_seed=1)
    assert list(other.train_source().ids) != ids[0]


def test_a_new_file_leaves_most_of_the_split_as_it_was(folders, tmp_path):
    before = set(make(folders).val_source().ids)
    write(tmp_path / "cat" / "new.png")
    assert len(before ^ set(make(folders).val_source().ids)) <= 2


def test_batches_are_balanced(folders):
    data = make(folders)
    data.setup("fit")
    loader = data.train_dataloader()
    batches = list(loader)
    assert len(batches) == 6, "all twelve cats, each dog once or twice"
    assert all(batch["tags"][:, 1].sum() == 2 for batch in batches)
    assert {name for batch in batches for name in batch["id"]} == set(data.train_source().ids)
    assert batches[0]["image"].shape == (4, 3, 16, 16)


def test_imagenet_gives_dogs_and_others(tmp_path):
    for wnid in (*IMAGENET_DOGS, "n01440764", "n03445777"):
        for number in range(60 if wnid[1] == "0" and wnid in ("n01440764", "n03445777") else 1):
            write(tmp_path / wnid / f"{wnid}_{number}.JPEG")
    data = ImageNetDogDataModule(tmp_path, num_positive=100, num_negative=110, size=8)
    train, val = data.train_source(), data.val_source()
    assert (sum(train.positive), len(train)) == (80, 80 + 88)
    assert (sum(val.positive), len(val)) == (20, 20 + 22)
    dogs = {name.split("/")[0] for name, tag in zip(train.ids, train.positive, strict=True) if tag}
    assert dogs <= set(IMAGENET_DOGS)
    with pytest.raises(ValueError, match="`num_positive`: 118 positive images were found, 10000 are wanted"):
        ImageNetDogDataModule(tmp_path).train_source()


def test_masks_of_dogs_come_first_and_others_are_background(folders, make_voc):
    root = make_voc()  # one square of a person with a rim of void
    data = make(folders, masks_root=root, masks_class="person")
    data.setup("validate")
    batches = list(data.val_dataloader())
    assert [batch["id"][0] for batch in batches[:2]] == ["v_1", "v_2"]
    assert len(batches) == 2 + 5
    first = batches[0]
    assert sorted(first["mask"].unique().tolist()) == [0, 1, 255]
    assert int((first["mask"] == 1).sum()) == 200
    assert first["tags"].tolist() == [[True, True]]
    assert (batches[2]["mask"] == 255).all()
    dogless = make(folders, masks_root=root, masks_class="dog").val_source()[0]
    assert dogless.tags.tolist() == [True, False]
    assert int((dogless.mask == 1).sum()) == 0
    with pytest.raises(FileNotFoundError, match="`masks_root`: PASCAL VOC 2012 is not complete"):
        make(folders, masks_root=root / "nothing").val_source()


def test_what_is_known_is_read_without_images(folders, monkeypatch):
    data = make(folders)
    data.setup("fit")
    monkeypatch.setattr("weakseg_lightning.data.imagenet.datamodule.read_image", lambda path: pytest.fail("was read"))
    assert sum(bool(known["tags"][1]) for known in data.facts_of_training()) == 8


def test_squares_are_the_middle_of_the_resized_image():
    image = torch.zeros(3, 20, 60, dtype=torch.uint8)
    image[:, :, 20:40] = 200
    cut = square(image, 10)
    assert cut.shape == (3, 10, 10)
    assert (cut == 200).float().mean() > 0.75
    assert square(image.transpose(1, 2), 10).shape == (3, 10, 10)
    assert torch.equal(square(image[:, :, 20:40], 20), image[:, :, 20:40])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"batch_size": 3}, "`batch_size` must be even, half of it positive, got 3"),
        ({"val_fraction": 0}, "`val_fraction` must be above 0, got 0"),
        ({"masks_class": "wolf"}, "`masks_class` must be one of 'aeroplane', .*got 'wolf'"),
        ({"negative": None}, "`negative` must name folders of images where there is no `root`"),
    ],
)
def test_wrong_arguments_are_refused(folders, arguments, message):
    with pytest.raises(ValueError, match=message):
        make(folders, **arguments).train_source()


def test_real_photographs(shared: Path):
    data = ImageNetDogDataModule(
        shared / "data" / "imagenet",
        [str(shared / "data" / "dogs_vs_cats" / "dog")],
        [str(shared / "data" / "dogs_vs_cats" / "cat")],
        num_positive=None,
        num_negative=None,
        size=64,
        num_workers=0,
    )
    train = data.train_source()
    assert (sum(train.positive), len(train)) == (334, 334 + 480)
    assert len(set(train.ids)) == len(train)
    assert np.asarray(train[0].image).std() > 10
