"""PNGs of every depth: label maps at the values that are stored, images stretched by one rule."""

import struct
from pathlib import Path

import numpy as np
import pytest
from by_hand import BANDS, GRAY, GRAY_ALPHA, PALETTE, RGB, RGB_ALPHA, chunk, images, stretched, turned, write_png
from PIL import Image, ImageOps

from weakseg_lightning.data import BadSampleError
from weakseg_lightning.data.folder.classes import Classes
from weakseg_lightning.data.folder.label_maps import map_values, read_map
from weakseg_lightning.data.images.reading import image_size, read_image, read_labels

RANDOM = np.random.default_rng(0)
MANY = Classes([f"class {index}" for index in range(255)])
RED_AND_BLUE = Classes(["background", "red", "blue"], {1: (255, 0, 0), 2: (0, 0, 255)})
ONE_BAND = [*((GRAY, depth) for depth in (1, 2, 4, 8, 16)), *((PALETTE, depth) for depth in (1, 2, 4, 8))]


@pytest.fixture
def path(tmp_path) -> Path:
    return tmp_path / "a.png"


def noise(kind: int, depth: int, most: int | None = None, size=(13, 19)):
    return RANDOM.integers(0, 2**depth if most is None else most + 1, (*size, BANDS[kind]))


def palette(colors) -> bytes:
    return chunk(b"PLTE", np.asarray(colors, dtype=np.uint8).tobytes())


def any_palette(kind: int, depth: int) -> bytes:
    return palette(RANDOM.integers(0, 256, (2**depth, 3))) if kind == PALETTE else b""


def transparent(*values: int) -> bytes:
    return chunk(b"tRNS", struct.pack(f">{len(values)}H", *values))


def on_white(colors, opacity) -> np.ndarray:
    return opacity * colors + (1 - opacity) * 255


# ---- label maps ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("interlaced", [False, True])
@pytest.mark.parametrize(("kind", "depth"), ONE_BAND)
def test_labels_are_the_values_that_are_stored(path, kind, depth, interlaced):
    values = noise(kind, depth, most=min(2**depth - 1, 254))
    write_png(path, values, depth, kind, any_palette(kind, depth), interlaced=interlaced)
    assert read_labels(path).tolist() == values[..., 0].tolist()
    assert read_map(path, MANY, scribbles=True).tolist() == values[..., 0].tolist()
    assert map_values(path) == np.unique(values).tolist()


@pytest.mark.parametrize("depth", [8, 16])
def test_of_gray_with_opacity_the_transparent_has_no_label(path, depth):
    values = noise(GRAY_ALPHA, depth)
    values[..., 0] %= 7
    values[::2, :, 1] = 0
    values[1::2, :, 1] |= 1
    write_png(path, values, depth, GRAY_ALPHA)
    expected = np.where(values[..., 1] > 0, values[..., 0], 255).tolist()
    assert read_labels(path).tolist() == expected
    assert read_map(path, MANY, scribbles=False).tolist() == expected
    assert map_values(path) == np.unique(values[1::2, :, 0]).tolist()


@pytest.mark.parametrize(("kind", "depth"), ONE_BAND)
def test_a_transparent_value_has_no_label(path, kind, depth):
    values, before = noise(kind, depth, most=min(2**depth - 1, 9)), any_palette(kind, depth)
    for gone in (0, 1):
        opacity = chunk(b"tRNS", bytes([255] * gone + [0])) if kind == PALETTE else transparent(gone)
        write_png(path, values, depth, kind, before + opacity)
        expected = np.where(values[..., 0] == gone, 255, values[..., 0])
        assert read_labels(path).tolist() == expected.tolist()
        assert read_map(path, MANY, scribbles=True).tolist() == expected.tolist()
        assert map_values(path) == [value for value in np.unique(values).tolist() if value != gone]


def test_several_indices_of_a_palette_can_be_transparent_and_half_is_not(path):
    write_png(path, [[0, 1, 2, 3]], 2, PALETTE, palette(np.eye(4, 3)) + chunk(b"tRNS", bytes([0, 128, 0])))
    assert read_map(path, MANY, scribbles=False).tolist() == [[255, 1, 255, 3]]


def test_the_color_of_a_transparent_index_is_that_of_no_class(path):
    """Index 0 is outside all strokes, in a color of no class; the others are renumbered."""
    colors = palette([(9, 9, 9), (0, 0, 255), (0, 0, 0), (255, 0, 0)])
    write_png(path, [[0, 1, 2, 3]], 2, PALETTE, colors + chunk(b"tRNS", b"\0"))
    assert read_map(path, RED_AND_BLUE, scribbles=True).tolist() == [[255, 2, 0, 1]]


@pytest.mark.parametrize("depth", [8, 16])
def test_a_transparent_color_has_no_label(path, depth):
    white, scale = 2**depth - 1, 257 if depth == 16 else 1
    pixels = [[(255 * scale, 0, 0), (white, white, white), (0, 0, 255 * scale), (0, 0, 0)]]
    write_png(path, pixels, depth, RGB, transparent(white, white, white))
    assert read_map(path, RED_AND_BLUE, scribbles=True).tolist() == [[1, 255, 2, 0]]
    assert map_values(path) is None


@pytest.mark.parametrize("kind", [RGB, RGB_ALPHA])
def test_colors_of_16_bits_are_those_of_8(path, kind):
    pixels = np.array([[(65535, 0, 0, 9), (0, 0, 65535, 65535), (0, 0, 0, 1), (65535, 0, 0, 0)]])[..., : BANDS[kind]]
    write_png(path, pixels, 16, kind)
    expected = [[1, 2, 0, 255 if kind == RGB_ALPHA else 1]]
    assert read_map(path, RED_AND_BLUE, scribbles=False).tolist() == expected
    assert map_values(path) is None


OF_16_BITS = [(65535, 1, 0), (255, 0, 0), (65280, 0, 0), (300, 300, 300)]


@pytest.mark.parametrize(
    ("first", "depth", "kind", "text"),
    [
        *((color, 16, RGB, "has 16-bit colors that are none of 8 bits, as .*8 bits per ch") for color in OF_16_BITS),
        *((3, depth, GRAY, "holds the values 3, expected 0 to 2") for depth in (2, 4)),
        (256, 16, GRAY, "holds the value 256, expected 0 to 2, or 255: write class indic"),
    ],
)
def test_what_is_no_class_is_named(path, first, depth, kind, text):
    write_png(path, [[first, (0, 0, 0) if kind == RGB else 0]], depth, kind)
    with pytest.raises(BadSampleError, match=rf"a\.png {text}"):
        read_map(path, RED_AND_BLUE, scribbles=False)


def test_gray_in_colors_of_16_bits_is_the_class(path):
    write_png(path, np.repeat([[[0], [2], [255], [1]]], 3, axis=-1), 16, RGB)
    assert read_map(path, RED_AND_BLUE, scribbles=False).tolist() == [[0, 2, 255, 1]]
    assert map_values(path) == [0, 1, 2, 255]


def test_values_above_255_are_named(path):
    write_png(path, [[0, 1, 256]], 16, GRAY)
    with pytest.raises(BadSampleError, match=r"a\.png holds the value 256, expected 0 to 255"):
        read_labels(path)
    assert map_values(path) == [0, 1, 256]


@pytest.mark.parametrize("depth", [2, 4, 8])
def test_a_palette_may_be_shorter_than_the_indices(path, depth):
    write_png(path, [[0, 1, 2, 3]], depth, PALETTE, palette([(0, 0, 0), (255, 0, 0)]))
    four = Classes(["background", "red", "b", "c"], {1: (255, 0, 0)})
    assert read_map(path, four, scribbles=False).tolist() == [[0, 1, 2, 3]]
    assert images(path)[0].tolist() == [[0, 0, 0], [255, 0, 0], [0, 0, 0], [0, 0, 0]]


def test_another_format_under_the_name_of_a_png_is_named(path):
    Image.new("L", (8, 8)).save(path, format="JPEG")
    with pytest.raises(BadSampleError, match=r"a\.png is a JPEG file, which does not keep .*: save it as PNG"):
        read_labels(path)
    for name in ("TIFF", "BMP", "GIF"):
        Image.fromarray(np.array([[0, 2, 1]], dtype=np.uint8)).save(path, format=name)
        assert read_labels(path).tolist() == [[0, 2, 1]]
    for pixels in (np.array([[True, False]]), np.array([[1, 0]], dtype=np.uint16)):
        Image.fromarray(pixels).save(path, format="TIFF")
        assert read_labels(path).tolist() == [[1, 0]]
    Image.fromarray(np.array([[1, -1]], dtype=np.int32)).save(path, format="TIFF")
    with pytest.raises(BadSampleError, match=r"a\.png has pixels of type I, expected indexed, gray or RGB: save it so"):
        read_labels(path)


@pytest.mark.parametrize(("case", "classes"), [("mask_2bit_3_2", 4), ("mask_2bit_3_4_noclasses", 4)])
def test_masks_of_two_bits_that_were_scaled_once(shared, case, classes):
    paths = sorted((shared / "cases" / case / "masks").glob("*.png"))
    found = [read_labels(path) for path in paths]
    assert len(found) == 2
    for path, labels in zip(paths, found, strict=True):
        with Image.open(path) as image:  # Pillow spreads 0 to 3 over 0 to 255
            assert (labels.numpy() * 85 == np.array(image)).all()
        assert set(map_values(path)) <= set(range(classes))
    assert max(int(labels.max()) for labels in found) == 3


# ---- images -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("interlaced", [False, True])
@pytest.mark.parametrize("kind", [GRAY, RGB, GRAY_ALPHA, RGB_ALPHA])
@pytest.mark.parametrize("most", [4095, 65535])
def test_images_of_16_bits_are_stretched_alike(path, kind, most, interlaced):
    values = noise(kind, 16, most, size=(40, 31))
    if kind in (GRAY_ALPHA, RGB_ALPHA):
        values[..., -1] = RANDOM.integers(0, 65536, (40, 31))
    write_png(path, values, 16, kind, interlaced=interlaced)
    colors = 3 if kind in (RGB, RGB_ALPHA) else 1
    expected = stretched(values[..., :colors])
    if kind in (GRAY_ALPHA, RGB_ALPHA):
        expected = on_white(expected, values[..., -1:] / 65535)
        assert np.abs(images(path) - expected).max() <= 1
    else:
        assert (images(path) == expected).all()


def test_hues_of_a_deep_image_are_kept(path):
    """All colors have the same limits: what has twice the red of the green has it still."""
    ramp = np.linspace(0, 1, 60 * 50).reshape(60, 50, 1)
    write_png(path, (ramp * (4000, 2000, 1000)).astype(int), 16, RGB)
    found = images(path).reshape(-1, 3).astype(int)
    middle = found[1000:1500]
    assert np.abs(middle[:, 0] - 2 * middle[:, 1]).max() <= 2
    assert np.abs(middle[:, 0] - 4 * middle[:, 2]).max() <= 4


@pytest.mark.parametrize("kind", [GRAY, RGB])
def test_a_transparent_value_of_16_bits_is_white(path, kind):
    values = noise(kind, 16, 4095)
    values[3, 3] = values[5, 6] = 4001
    write_png(path, values, 16, kind, transparent(*[4001] * BANDS[kind]))
    clear = (values == 4001).all(-1)
    expected = np.where(clear[..., None], 255, stretched(values))
    assert (images(path) == expected).all()


@pytest.mark.parametrize("depth", [1, 2, 4, 8])
def test_gray_of_few_bits_spans_black_to_white(path, depth):
    values = np.arange(2**depth).reshape(1, -1)
    write_png(path, values, depth, GRAY)
    assert images(path)[0, :, 0].tolist() == (values[0] * 255 // (2**depth - 1)).tolist()
    write_png(path, values, depth, GRAY, transparent(1))
    assert images(path)[0, :2].tolist() == [[0, 0, 0], [255, 255, 255]]
    assert (images(path)[0, 2:-1] < 255).all()


@pytest.mark.parametrize("kind", [GRAY, RGB, GRAY_ALPHA, RGB_ALPHA])
def test_one_value_everywhere_is_no_error(path, kind):
    values = np.full((6, 5, BANDS[kind]), 65535)
    values[..., : 3 if kind in (RGB, RGB_ALPHA) else 1] = 700
    write_png(path, values, 16, kind)
    assert np.unique(images(path)).size == 1


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize(
    ("kind", "depth"), [(RGB, 8), (RGB, 16), (GRAY, 16), (GRAY_ALPHA, 16), (GRAY, 2), (PALETTE, 4)]
)
@pytest.mark.parametrize("orientation", range(1, 9))
def test_images_stand_upright_wherever_exif_data_stand(path, kind, depth, orientation, after):
    values, before = noise(kind, depth), any_palette(kind, depth)
    write_png(path, values, depth, kind, before)
    lying, exif = Image.fromarray(images(path)), turned(orientation)
    write_png(path, values, depth, kind, before + (b"" if after else exif), exif if after else b"")
    lying.getexif()[274] = orientation
    upright = np.array(ImageOps.exif_transpose(lying))
    assert (images(path) == upright).all()
    assert image_size(path) == upright.shape[1::-1]


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize(("kind", "depth"), [(GRAY, 8), (GRAY, 16), (GRAY, 2), (GRAY_ALPHA, 8), (PALETTE, 8)])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_label_maps_stand_upright_as_images_do(path, kind, depth, orientation, after):
    """A label map that a program saved with its photograph's EXIF data lies as the photograph does."""
    rng = np.random.default_rng(0)
    values = rng.integers(0, 4, (7, 5, BANDS[kind]))
    if kind == GRAY_ALPHA:
        values[..., 1] *= 80  # 0 is transparent
    before, exif = any_palette(kind, depth), turned(orientation)
    write_png(path, values, depth, kind, before + (b"" if after else exif), exif if after else b"")
    labels = np.where(values[..., -1] == 0, 255, values[..., 0]) if kind == GRAY_ALPHA else values[..., 0]
    lying = Image.fromarray(labels.astype(np.uint8))
    lying.getexif()[274] = orientation
    assert (read_labels(path).numpy() == np.array(ImageOps.exif_transpose(lying))).all()


@pytest.mark.parametrize(("kind", "depth"), [(RGB, 8), (GRAY, 8), (GRAY, 16)])
def test_damaged_exif_data_turn_nothing(path, kind, depth):
    values = noise(kind, depth)
    write_png(path, values, depth, kind)
    expected, size = images(path), image_size(path)
    write_png(path, values, depth, kind, chunk(b"eXIf", b"garbage, no head of a TIFF"))
    assert (images(path) == expected).all()
    assert image_size(path) == size


@pytest.mark.parametrize("kind", [GRAY, RGB, GRAY_ALPHA, RGB_ALPHA])
@pytest.mark.parametrize("read", [read_image, read_labels])
def test_damage_is_named(path, kind, read):
    write_png(path, noise(kind, 16, size=(60, 60)), 16, kind)
    path.write_bytes(path.read_bytes()[:3000])
    with pytest.raises(BadSampleError, match=r"a\.png cannot be read \(.*restore the file"):
        read(path)


def test_an_image_of_12_bits_that_was_black_once(shared):
    for path in sorted((shared / "cases" / "rgb16_png" / "images").glob("*.png")):
        with Image.open(path) as image:
            upper = np.array(image).astype(int)  # of 16 bits, Pillow gives the upper 8
        found = images(path).astype(int)
        assert found.min() == 0
        assert found.max() == 255
        scale = 255 / (upper.max() + 1)
        assert np.abs(found - scale * (upper + 0.5)).max() < scale + 2
