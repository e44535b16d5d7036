"""Shapes of Label Studio cover the pixels that they cover there."""

from pathlib import Path

import numpy as np
import pytest
from exports import SIZE, boxes, faults, filled, label_studio, mask_of, opened, percent, png, rectangle, region, task
from PIL import Image
from skimage.draw import bezier_curve

from weakseg_lightning.data.folder.labels import read_seeds
from weakseg_lightning.data.folder.tools.label_studio_brush import decode_brush

TRIANGLE = [[8, 10], [40, 12], [20, 35]]


def written(bits: str) -> list[int]:
    bits += "0" * (-len(bits) % 8)
    return [int(bits[start : start + 8], 2) for start in range(0, len(bits), 8)]


def pack(values: np.ndarray, widths: tuple[int, ...] = (3, 5, 9, 16), word: int = 8) -> list[int]:
    """Write the run-length code: an encoder to hold the decoder against."""
    code = f"{len(values):032b}" + f"{word - 1:05b}" + "".join(f"{width - 1:04b}" for width in widths)
    starts = np.flatnonzero(np.concatenate([[True], values[1:] != values[:-1]]))
    lengths = np.diff(np.concatenate([starts, [len(values)]]))
    position = 0
    for value, length in zip(values[starts], lengths, strict=True):
        while length > 0:
            part = min(length, 2 ** widths[-1])
            choice = next(number for number, width in enumerate(widths) if part <= 2**width)
            size = f"{choice:02b}{part - 1:0{widths[choice]}b}"
            single = position % 3 == 0 and part < 20  # as a run of values that happen to be equal
            code += f"0{size}" + f"{value:0{word}b}" * part if single else f"1{size}{value:0{word}b}"
            length -= part
            position += 1
    return written(code)


def unpack(packed: list[int]) -> list[int]:
    """Read the code letter by letter: another decoder."""
    text = "".join(f"{byte:08b}" for byte in packed)
    letters = iter(text)

    def number(width: int) -> int:
        return int("".join(next(letters) for _ in range(width)), 2)

    count, word = number(32), number(5) + 1
    widths = [number(4) + 1 for _ in range(4)]
    values: list[int] = []
    while len(values) < count:
        repeated = number(1)
        length = number(widths[number(2)]) + 1
        values += [number(word)] * length if repeated else [number(word) for _ in range(length)]
    return values[:count]


def layer(opacity: np.ndarray) -> np.ndarray:
    return np.repeat(opacity.astype(np.uint8)[..., None], 4, axis=2).ravel()


def brush(opacity: np.ndarray, label: str = "cat", **others) -> dict:
    return region("brushlabels", {"format": "rle", "rle": pack(layer(opacity)), **others}, label)


def bitmask(opacity: np.ndarray, label: str = "cat", mode: str = "RGBA") -> dict:
    pixels = Image.fromarray(np.dstack([np.zeros((*opacity.shape, 3), np.uint8), opacity.astype(np.uint8)]))
    return region("bitmasklabels", {"imageDataURL": f"data:image/png;base64,{png(pixels.convert(mode))}"}, label)


def polygon(points: list = TRIANGLE, **others) -> dict:
    return region("polygonlabels", {"points": percent(points), **others})


def vector(points: list, closed: bool = True) -> dict:
    return region("vectorlabels", {"vertices": points, "closed": closed})


def blob(seed: int) -> np.ndarray:
    """Opacity as brushes leave it: faint at the edges."""
    opacity = np.random.default_rng(seed).integers(0, 256, (40, 48))
    return np.where(filled(TRIANGLE), np.maximum(opacity, 1), 0)


# ---- brushes and bitmasks -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("seed", "word"), [*((seed, 8) for seed in range(8)), (8, 5), (9, 12), (10, 1)])
def test_the_code_of_brushes_is_that_of_another_decoder(seed, word):
    random = np.random.default_rng(seed)
    values = random.integers(0, 2 ** min(word, 8), 300).repeat(random.integers(1, 40, 300))
    widths = tuple(sorted(random.integers(2, 13, 4).tolist()))
    packed = pack(values, widths, word)
    assert unpack(packed) == values.tolist()
    assert (decode_brush(packed) == values).all()


def test_the_code_of_brushes_by_hand():
    """4 values of 8 bits, widths 3 4 9 12; a run of 4 equal ones."""
    bits = f"{4:032b}" + "00111" + "0010" + "0011" + "1000" + "1011" + "1" + "00" + "011" + f"{255:08b}"
    assert decode_brush(written(bits)).tolist() == [255] * 4


@pytest.mark.parametrize("seed", range(3))
def test_brushes_cover_what_is_not_transparent(bare, seed):
    label_studio(bare, task(brush(blob(seed))))
    assert (mask_of(bare) == filled(TRIANGLE)).all()


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_bitmasks_cover_what_is_not_transparent(bare, mode):
    label_studio(bare, task(bitmask(blob(0), "dog", mode)))
    assert (mask_of(bare) == 2 * filled(TRIANGLE)).all()


# ---- polygons, ellipses, rectangles -------------------------------------------------------------------------------


@pytest.mark.parametrize("degrees", [15, 90, 200, 345])
def test_rectangles_turn_about_their_first_corner(bare, degrees):
    label_studio(bare, task(rotated(degrees)))
    corners = 24 + 20j + np.array([0, 10, 10 + 4j, 4j]) * np.exp(1j * np.deg2rad(degrees))
    expected = [corners.real.min(), corners.imag.min(), corners.real.max(), corners.imag.max(), 1]
    assert np.allclose(boxes(bare), [expected], atol=1e-4)


def rotated(degrees: float, left: float = 24, top: float = 20) -> dict:
    turned = rectangle(left, top, left + 10, top + 4)
    turned["value"]["rotation"] = degrees
    return turned


def test_turned_rectangles_end_at_the_border(bare):
    label_studio(bare, task(rotated(45, 43, 36)))
    ((left, top, right, bottom, _),) = boxes(bare)
    assert (right, bottom) == (48, 40)
    assert left == pytest.approx(43 - 4 * np.sqrt(0.5))
    assert top == pytest.approx(36)


def test_upright_rectangles_and_points(bare):
    point = region("keypointlabels", {"x": 50, "y": 50, "width": 1}, "dog")
    label_studio(bare, task(rectangle(8, 10, 28, 20), point))
    assert np.allclose(boxes(bare), [[8, 10, 28, 20, 1]])
    assert np.argwhere(read_seeds(opened(bare), "a", SIZE, "point") == 2).mean(0).tolist() == [20, 24]


# ---- vectors ------------------------------------------------------------------------------------------------------


def vertices(points: object, **first: object) -> list[dict]:
    found = [
        {"id": f"p{number}", "prevPointId": f"p{number - 1}" if number else None, "x": x, "y": y, "isBezier": False}
        for number, (x, y) in enumerate(percent(points))
    ]
    return [{**found[0], **first}, *found[1:]]


def strokes_of(root: Path, name: str = "a") -> list:
    return [
        known.annotation.points.round(6).tolist()
        for known in opened(root).annotations[name]
        if known.annotation.kind == "stroke"
    ]


@pytest.mark.parametrize("form", [lambda points: points[::-1], lambda points: [[p["x"], p["y"]] for p in points]])
def test_closed_vectors_are_polygons_whatever_the_order_of_their_points(bare, form):
    points = form(vertices(TRIANGLE))
    label_studio(bare, task(vector(points)))
    assert (mask_of(bare) == filled(TRIANGLE)).all()


def test_the_first_point_of_a_ring_may_follow_the_last(bare):
    ring = vertices(TRIANGLE, prevPointId="p2")
    label_studio(bare, task(vector(ring)))
    assert (mask_of(bare) == filled(TRIANGLE)).all()


@pytest.mark.parametrize("key", ["vertices", "shape"])
def test_open_vectors_are_strokes(bare, key):
    label_studio(bare, task(region("vectorlabels", {key: vertices(TRIANGLE), "closed": False})))
    path = TRIANGLE[:2] + TRIANGLE[1:]
    assert strokes_of(bare) == [path]


def test_branches_of_vectors_are_strokes_of_their_own(bare):
    points = vertices([[5, 5], [10, 5], [15, 5]])
    branch = {**vertices([[10, 20]])[0], "id": "b", "prevPointId": "p1"}
    label_studio(bare, task(vector([*points, branch], closed=False)))
    assert strokes_of(bare) == [[[5, 5], [10, 5]], [[10, 5], [15, 5]], [[10, 5], [10, 20]]]


def test_curves_of_vectors_are_bezier_curves(bare):
    """Four quarters of a circle, and the one point in the middle of a curve that a formula gives."""
    pull = 10 * 0.5522847498
    ring = [(34, 20), (24, 30), (14, 20), (24, 10)]
    along = [(0, 1), (-1, 0), (0, -1), (1, 0)]
    points = []
    for vertex, (x, y), (dx, dy) in zip(vertices(ring), ring, along, strict=True):
        before, after = percent([[x - dx * pull, y - dy * pull], [x + dx * pull, y + dy * pull]])
        controls = {"controlPoint1": dict(zip("xy", before)), "controlPoint2": dict(zip("xy", after))}  # noqa: B905
        points.append({**vertex, "isBezier": True, **controls})
    label_studio(bare, task(vector(points)))
    rows, columns = np.mgrid[:40, :48] + 0.5
    circle = np.hypot(columns - 24, rows - 20)
    mask = mask_of(bare)
    assert mask[circle < 9.9].all()
    assert not mask[circle > 10.1].any()


def test_a_curve_that_begins_at_a_corner_leaves_along_its_side(bare):
    start, end = vertices([[8, 10], [38, 10]])
    bent = {**end, "isBezier": True, "controlPoint1": dict(zip("xy", percent([[30, 30]])[0]))}  # noqa: B905
    label_studio(bare, task(vector([start, bent], closed=False)))
    (path,) = strokes_of(bare)
    assert path[8] == pytest.approx([0.125 * 8 + 0.375 * 17 + 0.375 * 30 + 0.125 * 38, 0.625 * 10 + 0.375 * 30])
    assert len(bezier_curve(10, 8, 30, 24, 10, 38, 1)[0]) > 20  # so bent a curve is no straight line


# ---- sizes and faults ---------------------------------------------------------------------------------------------


def unsized(result: dict) -> dict:
    return {key: value for key, value in result.items() if not key.startswith("original_")}


@pytest.mark.parametrize(
    "result",
    [
        polygon(),
        region("ellipselabels", {"x": 50, "y": 50, "radiusX": 30, "radiusY": 10, "rotation": 30}),
        brush(blob(1)),
        bitmask(blob(2)),
        vector(vertices(TRIANGLE)),
    ],
    ids=lambda result: result["type"],
)
def test_where_no_size_is_stated_it_is_that_of_the_image(bare, result):
    label_studio(bare, task(result))
    expected = mask_of(bare)
    label_studio(bare, task(unsized(result)))
    assert expected.any()
    assert (mask_of(bare) == expected).all()


def test_turned_rectangles_without_a_size(bare):
    label_studio(bare, task(rotated(30)))
    expected = boxes(bare)
    label_studio(bare, task(unsized(rotated(30))))
    assert boxes(bare) == expected


HALF = np.full((40, 24), 255)


@pytest.mark.parametrize(
    ("result", "fault"),
    [
        (region("brushlabels", {"format": "rle", "rle": pack(layer(blob(0)))[:-9]}), "its code ends too early"),
        (region("brushlabels", {"format": "rle", "rle": [199501, 1, 996]}), "its code is no list of bytes"),
        (region("brushlabels", {"format": "rle", "rle": "eJw="}), "its code is no list of bytes"),
        (brush(HALF), "it has 960 pixels, expected 1920"),
        (brush(np.zeros((40, 48))), "it covers no pixel"),
        (brush(blob(0), format="base64"), "its format 'base64' is not read"),
        (brush(blob(0), touches=[{"type": "add", "points": [1, 2]}]), "it holds strokes that were not saved"),
        (region("brushlabels", {"format": "rle", "rle": None}), "it has no shape"),
        (bitmask(HALF), "it has 24 x 40 pixels, expected 48 x 40"),
        (bitmask(blob(0), mode="RGB"), "its PNG has no transparency"),
        (region("bitmasklabels", {"imageDataURL": "data:image/png;base64,AAAA"}), "is a mask that cannot be read"),
        (polygon(closed=False), "it was not closed"),
        (polygon(holes=[percent([[9, 9]])]), "it has holes"),
        (region("polygonlabels", {"points": "1 1 2 2"}), "it has no points of x and y"),
        (region("ellipselabels", {"x": 5, "y": 5, "radiusX": 0, "radiusY": 5}), "its radii [0.0, 2.0] are not pos"),
        (region("ellipselabels", {"x": 5, "y": 5, "radiusX": 2}), "KeyError('radiusY')"),
        (region("keypointlabels", {"x": float("nan"), "y": 5}), "it has coordinates that are no numbers"),
        (region("polygonlabels", {"points": [[1, 1], [float("inf"), 1], [1, 50]]}), "coordinates that are no numbers"),
        (rotated(float("nan")), "coordinates that are no numbers"),
        (rotated(10, 100, 100), "has an empty box"),
        (region("rectanglelabels", {"x": 1, "y": 1, "width": "wide", "height": 3}), "it has no points of x and y"),
        (vector(vertices(TRIANGLE[:2])), "is no ring of three points"),
        (region("vectorlabels", {"vertices": vertices([[1, 1]], prevPointId="gone")}), "KeyError('gone')"),
        ({**rectangle(8, 10, 28, 20), "image_rotation": 90}, "is on an image that was turned in Label Studio"),
    ],
)
def test_damaged_shapes_are_named(bare, result, fault):
    label_studio(bare, task(result))
    found = faults(bare)
    assert fault in found
    assert f"result {result['id']} ({result['type']})" in found
