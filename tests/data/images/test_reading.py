"""Reading images and label maps, and what is said where that fails."""

import numpy as np
import pytest
import torch
from PIL import Image

from weakseg_lightning.data import BadSampleError
from weakseg_lightning.data.images.bands import read_bands
from weakseg_lightning.data.images.reading import (
    IMAGE_SUFFIXES,
    files_below,
    image_files,
    image_size,
    read_image,
    read_labels,
)


@pytest.mark.parametrize("mode", ["RGB", "L", "P", "RGBA", "CMYK"])
def test_every_photograph_becomes_rgb(tmp_path, mode):
    picture = Image.new("RGB", (7, 5), (204, 204, 204)).convert(mode, dither=Image.Dither.NONE)
    path = tmp_path / "picture.tif"
    picture.save(path)
    image = read_image(path)
    assert image.dtype == torch.uint8
    assert image.shape == (3, 5, 7)
    assert (image.int() - 204).abs().max() <= 1
    assert image_size(path) == (7, 5)


@pytest.mark.parametrize("mode", ["L", "P"])
def test_label_is_the_value_not_the_color(tmp_path, mode):
    labels = np.array([[0, 20], [255, 7]], dtype=np.uint8)
    picture = Image.fromarray(labels)
    if mode == "P":
        picture.putpalette(np.random.default_rng(0).integers(0, 255, 768, dtype=np.uint8).tobytes())
    picture.save(tmp_path / "labels.png")
    assert read_labels(tmp_path / "labels.png").tolist() == labels.tolist()


def test_label_map_in_colors_is_refused(tmp_path):
    Image.new("RGB", (4, 4)).save(tmp_path / "labels.png")
    with pytest.raises(BadSampleError, match=r"labels\.png has pixels of type RGB.*convert the colors"):
        read_labels(tmp_path / "labels.png")


@pytest.mark.parametrize("read", [read_image, read_labels, image_size])
def test_missing_and_unreadable_files_are_named(tmp_path, read):
    with pytest.raises(BadSampleError, match=r"absent\.png is missing: restore"):
        read(tmp_path / "absent.png")
    (tmp_path / "text.png").write_text("no image")
    with pytest.raises(BadSampleError, match=r"text\.png is not an image that can be read: restore"):
        read(tmp_path / "text.png")


@pytest.mark.parametrize(("name", "read"), [("cut.jpg", read_image), ("cut.png", read_image), ("cut.png", read_labels)])
def test_truncated_files_are_named(tmp_path, name, read):
    noise = np.random.default_rng(0).integers(0, 255, (64, 64), dtype=np.uint8)
    path = tmp_path / name
    Image.fromarray(noise).save(path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(BadSampleError, match=r"cut\..* cannot be read .*truncated"):
        read(path)


# ---- photographs of all kinds -------------------------------------------------------------------------------------


@pytest.mark.parametrize(("orientation", "turn"), [(1, 0), (3, 2), (6, 3), (8, 1)])
def test_photographs_stand_upright(tmp_path, orientation, turn):
    pixels = np.zeros((20, 30, 3), dtype=np.uint8)
    pixels[:10, :15] = 200
    exif = Image.Exif()
    exif[274] = orientation
    Image.fromarray(pixels).save(tmp_path / "a.png", exif=exif)
    upright = np.rot90(pixels, turn)  # anticlockwise
    assert image_size(tmp_path / "a.png") == upright.shape[1::-1]
    assert (read_image(tmp_path / "a.png").permute(1, 2, 0).numpy() == upright).all()


@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_deep_gray_is_stretched(tmp_path, suffix):
    ramp = np.linspace(1000, 3000, 100 * 100).astype(np.uint16).reshape(100, 100)
    Image.fromarray(ramp).save(tmp_path / f"a.{suffix}")
    found = read_image(tmp_path / f"a.{suffix}").numpy()
    assert (found[0] == found[1]).all()
    assert np.abs(found[0] - np.linspace(0, 255, 100 * 100).reshape(100, 100)).max() < 2


def test_a_flat_deep_image_is_no_error(tmp_path):
    Image.fromarray(np.full((5, 5), 700, dtype=np.uint16)).save(tmp_path / "a.png")
    assert read_image(tmp_path / "a.png").unique().numel() == 1


@pytest.mark.parametrize("mode", ["L", "P", "RGB", "RGBA"])
@pytest.mark.parametrize("read", [read_image, read_bands])
def test_pixels_that_are_damaged_are_named(tmp_path, mode, read):
    """Pillow looks for EXIF data behind the pixels, and fails there."""
    bands = len(Image.new(mode, (1, 1)).getbands())
    pixels = np.random.default_rng(0).integers(0, 256, (60, 50, bands), np.uint8)
    Image.fromarray(pixels if bands > 1 else pixels[..., 0], mode).save(tmp_path / "a.png")
    whole = (tmp_path / "a.png").read_bytes()
    places = [whole.index(b"IDAT") + 4, len(whole) // 2]
    for place in places:
        (tmp_path / "a.png").write_bytes(whole[:place] + bytes([whole[place] ^ 255]) + whole[place + 1 :])
        with pytest.raises(BadSampleError, match=r"a\.png (cannot be read|has a palette)"):
            read(tmp_path / "a.png")


def test_what_is_transparent_is_white(tmp_path):
    pixels = np.zeros((4, 4, 4), dtype=np.uint8)
    pixels[:2, :, 3] = 255
    Image.fromarray(pixels).save(tmp_path / "a.png")
    assert read_image(tmp_path / "a.png")[0].tolist() == [[0] * 4] * 2 + [[255] * 4] * 2


# ---- which files --------------------------------------------------------------------------------------------------


def touch(folder, *names) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()


def below(folder) -> list[str]:
    return [path.relative_to(folder).as_posix() for path in files_below(folder)]


def test_files_are_sorted_without_hidden_ones_and_leavings(tmp_path):
    touch(tmp_path, "b/2.png", "b/10.png", "a.txt", "c/d/e.JPG")
    leavings = (
        "Thumbs.db",
        "c/desktop.ini",
        "@eaDir/a.jpg/b.jpg",
        ".thumbnails/1.png",
        "c/__MACOSX/1.png",
        ".DS_Store",
    )
    touch(
        tmp_path, *leavings, "#recycle/1.png", "@Recycle/1.png", "lost+found/1.png", "$RECYCLE.BIN/1.png", "b/._2.png"
    )
    assert below(tmp_path) == ["a.txt", "b/10.png", "b/2.png", "c/d/e.JPG"]
    assert [path.name for path in image_files(tmp_path)] == ["10.png", "2.png", "e.JPG"]
    # It is the folder that was asked for which may be hidden.
    touch(tmp_path, ".hidden/1.png")
    assert below(tmp_path / ".hidden") == ["1.png"]


def test_links_are_followed_but_not_in_circles(tmp_path):
    touch(tmp_path, "far/1.png", "far/deep/2.png", "here/3.png")
    here = tmp_path / "here"
    (here / "folder").symlink_to(tmp_path / "far", target_is_directory=True)
    (here / "twice").symlink_to(tmp_path / "far", target_is_directory=True)
    (here / "file.png").symlink_to(tmp_path / "far" / "1.png")
    (tmp_path / "far" / "deep" / "up").symlink_to(here, target_is_directory=True)
    (here / "itself").symlink_to(here / "itself")
    inside = ["1.png", "deep/2.png"]
    expected = ["3.png", "file.png", *(f"{name}/{path}" for name in ("folder", "twice") for path in inside), "itself"]
    assert below(here) == sorted(expected)


def test_a_link_to_nothing_is_listed_and_then_named(tmp_path):
    (tmp_path / "a.png").symlink_to(tmp_path / "gone.png")
    assert below(tmp_path) == ["a.png"]
    with pytest.raises(BadSampleError, match=r"a\.png is missing: restore"):
        read_image(tmp_path / "a.png")


def test_every_suffix_is_read(tmp_path):
    for suffix in IMAGE_SUFFIXES:
        Image.new("RGB", (7, 5), (204, 204, 204)).save(tmp_path / f"a{suffix.upper()}")
    assert len(image_files(tmp_path)) == len(IMAGE_SUFFIXES)
    for path in image_files(tmp_path):
        assert (read_image(path).int() - 204).abs().max() <= 1
