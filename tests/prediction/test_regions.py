"""Parts of images in pixels and in coordinates."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from weakseg_lightning.data import BadSampleError
from weakseg_lightning.errors import UserError
from weakseg_lightning.prediction.maps import Place
from weakseg_lightning.prediction.rasters import open_rows
from weakseg_lightning.prediction.regions import Region
from weakseg_lightning.prediction.tiling import Span

Affine = pytest.importorskip("rasterio").Affine
HERE = Path("a.tif")
NORTH_UP = Affine(10, 0, 1000, 0, -10, 5000)


def found(region, transform=NORTH_UP, size=(100, 80)):
    rows, columns = region.find(HERE, *size, None if transform is None else Place(None, transform))
    return rows.start, rows.stop, columns.start, columns.stop


def test_nothing_named_is_the_whole_image():
    assert found(Region(), None) == (0, 80, 0, 100)


def test_pixels_are_cut_at_the_border():
    assert found(Region(window=(5, 6, 10, 20)), None) == (6, 26, 5, 15)
    assert found(Region(window=(95, 0, 10, 500))) == (0, 80, 95, 100)


@pytest.mark.parametrize(
    ("bounds", "expected"),
    [
        ((1200, 4800, 1300, 4900), (10, 20, 20, 30)),
        ((1201, 4801, 1299, 4899), (10, 20, 20, 30)),
        ((1199, 4799, 1301, 4901), (9, 21, 19, 31)),
        ((1200.0001, 4799.9999, 1299.9999, 4900.0001), (10, 20, 20, 30)),
        ((0, 4990, 1010, 9000), (0, 1, 0, 1)),
    ],
)
def test_bounds_are_the_pixels_that_they_touch(bounds, expected):
    assert found(Region(bounds=bounds)) == expected


def test_bounds_of_rotated_and_of_south_up_images():
    assert found(Region(bounds=(1200, 5100, 1300, 5200)), Affine(10, 0, 1000, 0, 10, 5000)) == (10, 20, 20, 30)
    turned = Affine(0, 10, 1000, 10, 0, 5000)  # columns run north, rows east
    assert found(Region(bounds=(1200, 5100, 1300, 5300)), turned) == (20, 30, 10, 30)
    side = 10 * 0.5**0.5
    tilted = Affine(side, side, 1000, side, -side, 5000)  # columns run north-east, rows south-east
    rows_start, rows_stop, columns_start, columns_stop = found(Region(bounds=(1300, 4900, 1400, 5000)), tilted)
    assert rows_stop - rows_start == columns_stop - columns_start in (15, 16), "the diagonal of ten pixels"


OUTSIDE = [Region(window=(100, 0, 5, 5)), Region(window=(0, 80, 5, 5)), Region(bounds=(0, 4800, 900, 4900))]
_SAID = (
    r"^a\.tif spans \[1000, 4200, 2000, 5000\], and the `bounds` \[.*\] lie outside: name a part of it",
    r"^a\.tif has 100 x 80 pixels, and its columns .* are asked for: name",
)


@pytest.mark.parametrize("region", OUTSIDE)
def test_what_lies_outside_is_named(region):
    with pytest.raises(BadSampleError, match=_SAID[region.bounds is None]):
        found(region)


def test_bounds_need_a_map():
    with pytest.raises(BadSampleError, match=r"^a\.tif lies on no map, .*: name a `window` in pixels$"):
        found(Region(bounds=(0, 0, 1, 1)), None)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"window": (0, 0, 5, 5), "bounds": (0, 0, 1, 1)}, "`window` and `bounds` both .*: give one of them"),
        ({"window": (-1, 0, 5, 5)}, r"`window: column` must be at least 0, got -1; it is \[column, row, width, height"),
        ({"window": (0, 0, 5, 0)}, "`window: height` must be at least 1, got 0"),
        ({"bounds": (5, 0, 1, 1)}, r"`bounds` must be \[left, bottom, right, top\], got \[5, 0, 1, 1\]"),
        ({"bounds": (0, 2, 1, float("nan"))}, "`bounds` must be"),
    ],
)
def test_parts_that_are_none(arguments, message):
    with pytest.raises(UserError, match=message):
        Region(**arguments)


@pytest.mark.parametrize("in_memory", [0, 10**6])
@pytest.mark.parametrize("orientation", [1, 6])
def test_photographs_have_parts_too(tmp_path, in_memory, orientation):
    pixels = np.random.default_rng(0).integers(0, 256, (90, 70, 3), dtype=np.uint8)
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(pixels).save(tmp_path / "a.png", exif=exif)
    upright = pixels if orientation == 1 else np.rot90(pixels, 3)
    with open_rows(tmp_path / "a.png", in_memory, Region(window=(12, 30, 25, 20))) as image:
        assert (image.height, image.width) == (20, 25)
        np.testing.assert_array_equal(image.read(Span(0, 12)), upright[30:42, 12:37])
        np.testing.assert_array_equal(image.read(Span(8, 20)), upright[38:50, 12:37])
