"""Maps of regions or boundaries beside the images: how they are read, checked and augmented."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from weakseg_lightning.data import BadSampleError, FolderDataModule, SegmentationDataset
from weakseg_lightning.data.folder.contents import read_folder
from weakseg_lightning.data.folder.images.guides import read_guide

SIZE = (48, 40)
NAMES = ("a", "b", "c d é")


@pytest.fixture
def guided(make_folder):
    """A folder whose maps have one region for each pixel of the image, in gray of 16 bits."""
    root = make_folder()
    (root / "maps/slic").mkdir(parents=True)
    numbers = np.arange(40 * 48, dtype=np.uint16).reshape(40, 48)
    for name in NAMES:
        Image.fromarray(numbers + 1).save(root / "maps/slic" / f"{name}.png")
    return root


def data_of(root, **options):
    given = {"guides": "maps/slic", "batch_size": 3, "num_workers": 0, "val_fraction": 0, "crop_size": 32}
    return FolderDataModule(root, **(given | options))


def test_every_kind_of_map_becomes_numbers(tmp_path):
    numbers = np.arange(12, dtype=np.uint8).reshape(3, 4)
    colors = np.zeros((3, 4, 3), dtype=np.uint8)
    colors[0, 1], colors[0, 2], colors[0, 3] = (1, 0, 0), (0, 1, 0), (255, 255, 255)
    indexed = Image.fromarray(numbers)
    indexed.putpalette(list(range(256)) * 3)
    pictures = {
        "gray": (Image.fromarray(numbers), numbers),
        "deep": (Image.fromarray(numbers.astype(np.uint16) * 5000), numbers.astype(np.int32) * 5000),
        "indexed": (indexed, numbers),
        "two": (Image.fromarray(numbers > 5), numbers > 5),
        "colors": (Image.fromarray(colors), np.pad([[0, 65536, 256, 2**24 - 1]], ((0, 2), (0, 0)))),
    }
    for name, (picture, expected) in pictures.items():
        picture.save(tmp_path / f"{name}.png")
        found = read_guide(tmp_path / f"{name}.png", (4, 3))
        assert found.dtype == np.int32
        assert np.array_equal(found, expected), name


def test_a_map_moves_with_its_image(guided):
    """The image shows the number of each pixel in its colors: what the map says must be what the image shows."""
    numbers = np.arange(1, 40 * 48 + 1).reshape(40, 48)
    image = np.stack([numbers % 256, numbers // 256, np.zeros_like(numbers)], 2).astype(np.uint8)
    for path in guided.glob("images/*"):
        path.unlink()
    for name in NAMES:
        Image.fromarray(image).save(guided / "images" / f"{name}.png")
    data = data_of(guided, scale_range=(1.0, 1.0))
    data.setup("fit")
    seen, loader = set(), data.train_dataloader()
    for epoch in range(4):
        loader.sampler.set_epoch(epoch)
        for batch in loader:
            guide, image = batch["guide"], batch["image"].int()
            assert guide.dtype == torch.int32
            assert guide.shape == (3, 1, 32, 32)
            assert torch.equal(guide[:, 0], image[:, 0] + 256 * image[:, 1])
            seen |= set(guide[:, 0, 0, 0].tolist())
    assert len(seen) > 4, "crops are drawn and mirrored"


def test_a_scaled_map_holds_numbers_of_the_place_and_padding_none(guided):
    data = data_of(guided, scale_range=(0.5, 0.5), flip=False)
    data.setup("fit")
    batch = next(iter(data.train_dataloader()))
    guide, valid = batch["guide"], batch["valid"]
    assert valid.sum((1, 2)).tolist() == [20 * 24] * 3
    assert not guide[:, 0][~valid].any()
    rows = (guide[0, 0, :20, :24] - 1) // 48
    assert ((rows - 2 * torch.arange(20)[:, None]) >= 0).all()
    assert ((rows - 2 * torch.arange(20)[:, None]) <= 1).all()


def test_only_training_images_need_a_map(guided):
    (guided / "maps/slic/a.png").unlink()
    names = guided.parent / "train.txt"
    names.write_text("b\nc d é\n", "utf-8")
    data = data_of(guided, train_list=names, val_fraction=0.5)
    data.setup("fit")
    data.setup("predict")
    assert data.has_guides
    assert list(data.val_source().ids) == ["a"]
    assert "guide" in next(iter(data.train_dataloader()))
    assert "guide" not in next(iter(data.val_dataloader()))
    assert "guide" not in next(iter(data.predict_dataloader()))


def test_what_is_wrong_stops_before_training(guided):
    (guided / "maps/slic/a.png").unlink()
    with pytest.raises(BadSampleError, match=r"images/a.* has no map of regions or boundaries among the `guides`"):
        data_of(guided).setup("fit")
    Image.new("L", (40, 48)).save(guided / "maps/slic/a.png")
    with pytest.raises(
        BadSampleError, match=r"maps/slic/a.png: has 40 x 48 pixels, its image 48 x 40 \(which stands upright"
    ):
        data_of(guided).setup("fit")
    Image.fromarray(np.zeros((40, 48), np.uint8)).save(guided / "maps/slic/a.png")
    Image.new("L", SIZE).save(guided / "maps/slic/d.png")
    with pytest.raises(BadSampleError, match=r"maps/slic/d.png: belongs to no image"):
        data_of(guided).setup("fit")
    with pytest.raises(FileNotFoundError, match=r"`guides`: there is no folder .*none; `weakseg superpixels"):
        data_of(guided, guides="none").setup("fit")


def test_a_map_in_use_is_read_and_others_are_not(guided):
    assert not any("not read" in note for note in read_folder(guided, guided / "maps/slic").notes)
    assert any("not read (1): maps" in note for note in read_folder(guided).notes)
    data = data_of(guided, guides=None)
    data.setup("fit")
    assert not data.has_guides
    assert "guide" not in next(iter(data.train_dataloader()))


def test_a_guide_that_does_not_fit_its_image_is_named(squares):
    source = squares(1)
    sample = source[0]
    for guide in (torch.zeros(1, 40, 47, dtype=torch.int32), torch.zeros(1, 40, 48)):
        source.broken[0] = replace(sample, guide=guide)
        with pytest.raises(
            BadSampleError, match=r"image of 'picture_0' has a guide that must be int32 and of its size"
        ):
            SegmentationDataset(source, 3)[0]


def test_a_folder_of_maps_that_is_gone_stops_training_alone(make_folder):
    data = FolderDataModule(make_folder(), guides="gone", num_workers=0, val_fraction=0.5)
    assert len(data.val_source()) == 1
    with pytest.raises(FileNotFoundError, match="`guides`: there is no folder"):
        data.train_source()
