import doctest
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from PIL import Image

from weakseg_lightning.visualization import (
    PanelRow,
    colorize,
    draw_panels,
    overlay,
    panels,
    save_palette_png,
    trimap,
    voc_palette,
)

# Colors as the development kit of PASCAL VOC lists them.
KNOWN = {0: (0, 0, 0), 1: (128, 0, 0), 2: (0, 128, 0), 3: (128, 128, 0), 4: (0, 0, 128), 7: (128, 128, 128)}
KNOWN |= {8: (64, 0, 0), 12: (64, 0, 128), 15: (192, 128, 128), 20: (0, 64, 128), 255: (224, 224, 192)}


def pixels(picture: Image.Image) -> np.ndarray:
    return np.asarray(picture).astype(int)


def scene(size: tuple[int, int] = (60, 80)) -> PanelRow:
    """Two halves, a vertical stroke of one pixel in each, a strip of void."""
    truth = torch.zeros(size, dtype=torch.long)
    truth[:, size[1] // 2 :] = 1
    seeds = torch.full(size, 255)
    seeds[10:50, 15], seeds[10:50, 60] = 0, 1
    marked = truth.clone()
    marked[:8] = 255
    return PanelRow(torch.rand(3, *size), seeds, truth.to(torch.uint8), truth, marked)


@pytest.mark.parametrize(("module", "least"), [(panels, 5), (trimap, 3)])
def test_docstring_examples(module: ModuleType, least: int) -> None:
    results = doctest.testmod(module)
    assert results.attempted >= least
    assert results.failed == 0


def test_palette_is_that_of_voc(shared: Path) -> None:
    mask = next((shared / "data/VOCdevkit/VOC2012/SegmentationClass").glob("*.png"))
    with Image.open(mask) as official:
        assert voc_palette()[:21].flatten().tolist() == (official.getpalette() or [])[:63]


def test_palette_known_colors_and_no_repeats() -> None:
    palette = voc_palette()
    assert {k: tuple(palette[k].tolist()) for k in KNOWN} == KNOWN
    assert palette.dtype == np.uint8
    assert len(np.unique(palette, axis=0)) == 256
    assert np.array_equal(voc_palette(21), palette[:21])


@pytest.mark.parametrize("count", [0, 257])
def test_palette_size_out_of_range(count: int) -> None:
    with pytest.raises(ValueError, match=f"`num_colors` must be between 1 and 256, got {count}"):
        voc_palette(count)


@pytest.mark.parametrize("convert", [torch.from_numpy, np.asarray, lambda a: torch.from_numpy(a.astype(np.uint8))])
def test_colorize(convert: Callable) -> None:
    labels = np.array([[0, 1, 2], [255, 20, 1]])
    assert np.array_equal(pixels(colorize(convert(labels))), voc_palette()[labels])


def test_colorize_with_own_colors_keeps_void() -> None:
    picture = colorize(np.array([[0, 1, 2, 255]]), [(1, 2, 3), (4, 5, 6)])
    assert pixels(picture)[0].tolist() == [[1, 2, 3], [4, 5, 6], [0, 128, 0], [224, 224, 192]]


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (np.zeros((2, 2, 2), dtype=int), r"integers \(H, W\), got int64 \(2, 2, 2\)"),
        (np.zeros((2, 2)), r"integers \(H, W\), got float64"),
        (np.array([[0, 256]]), r"0 to 255 \(255 = void\), got 0 to 256"),
        (np.array([[-1, 0]]), r"0 to 255 \(255 = void\), got -1 to 0"),
    ],
)
def test_wrong_labels(labels: np.ndarray, message: str, tmp_path: Path) -> None:
    for use in (colorize, lambda bad: save_palette_png(tmp_path / "x.png", bad)):
        with pytest.raises(ValueError, match=f"`labels` must be {message}"):
            use(labels)


def test_wrong_palette_and_image() -> None:
    with pytest.raises(ValueError, match=r"`palette` must be at most 256 colors \(N, 3\), got shape \(2, 4\)"):
        colorize(np.zeros((1, 1), dtype=int), [(0, 0, 0, 0), (1, 1, 1, 1)])
    for image in (np.zeros((4, 4, 3)), np.zeros((3, 4, 4), dtype=np.uint8), np.zeros((4, 4))):
        with pytest.raises(ValueError, match=r"`image` must be floats \(3, H, W\) in 0..1 or uint8 \(H, W, 3\)"):
            overlay(image, np.zeros((4, 4), dtype=int))


def test_overlay_mixes_color_and_image() -> None:
    image, labels = torch.full((3, 4, 4), 0.2), torch.full((4, 4), 2)
    mixed = pixels(overlay(image, labels, alpha=0.5))
    assert np.abs(mixed - [25.5, 0.5 * 51 + 64, 25.5]).max() <= 0.5
    background = pixels(overlay(image, torch.zeros(4, 4, dtype=torch.long), alpha=0.5))
    assert np.abs(background - 0.75 * 51).max() <= 0.5  # half the opacity: most of a picture is background
    assert np.array_equal(pixels(overlay(image, labels, alpha=0.0)), np.full((4, 4, 3), 51))


def test_overlay_takes_bytes_and_floats_alike() -> None:
    image = np.random.default_rng(0).integers(0, 256, (6, 5, 3), dtype=np.uint8)
    labels = np.random.default_rng(1).integers(0, 3, (6, 5))
    floats = torch.from_numpy(image).permute(2, 0, 1) / 255
    assert np.array_equal(pixels(overlay(image, labels)), pixels(overlay(floats, labels)))
    assert overlay(floats.to(torch.bfloat16), labels).size == (5, 6)


def test_overlay_shows_borders_and_void() -> None:
    image, labels = torch.zeros(3, 20, 20), torch.ones(20, 20, dtype=torch.long)
    labels[:, 10:] = 255
    drawn = pixels(overlay(image, labels))
    assert (drawn[:, 9] == 255).all()
    void = np.unique(drawn[:, 11:].reshape(-1, 3), axis=0)
    assert len(void) == 2  # stripes of two tones, that no class has
    assert len(np.unique(drawn[:, :9].reshape(-1, 3), axis=0)) == 1


def test_wrong_overlay() -> None:
    with pytest.raises(ValueError, match=r"`alpha` must be between 0 and 1, got 1\.5"):
        overlay(np.zeros((3, 2, 2)), np.zeros((2, 2), dtype=int), alpha=1.5)
    with pytest.raises(ValueError, match=r"same height and width, got \(2, 2\) and \(2, 3\)"):
        overlay(np.zeros((3, 2, 2)), np.zeros((2, 3), dtype=int))


@pytest.mark.parametrize("values", [2, 256])
def test_palette_png_keeps_every_value(values: int, tmp_path: Path) -> None:
    labels = np.arange(17 * 31).reshape(17, 31) % values
    save_palette_png(tmp_path / "mask.png", torch.from_numpy(labels))
    with Image.open(tmp_path / "mask.png") as read:
        assert read.mode == "P"
        assert read.size == (31, 17)
        assert np.array_equal(np.asarray(read), labels)
        assert read.getpalette() == voc_palette().flatten().tolist()


def test_palette_png_like_the_official_masks(shared: Path, tmp_path: Path) -> None:
    mask = next((shared / "data/VOCdevkit/VOC2012/SegmentationClass").glob("*.png"))
    with Image.open(mask) as official:
        save_palette_png(tmp_path / "again.png", np.asarray(official))
        with Image.open(tmp_path / "again.png") as again:
            assert np.array_equal(np.asarray(again), np.asarray(official))
            assert np.array_equal(pixels(again.convert("RGB")), pixels(official.convert("RGB")))


def test_panels_have_a_column_per_map_and_a_row_per_image() -> None:
    full, row = draw_panels([scene(), scene()], tile=100), scene()
    without = draw_panels([replace(row, latent=None)], tile=100)
    one_less = draw_panels([row, PanelRow(row.image, prediction=row.prediction)], tile=100)  # a cell, but no column
    assert (full.width, without.width, one_less.width) == (5 * 110 + 10, 4 * 110 + 10, 5 * 110 + 10)
    assert full.height - without.height == 75 + 10
    assert draw_panels([scene((60, 80)), scene((100, 62))], tile=100).height > 75 + 100


def test_panels_thicken_seeds_and_fade_the_rest() -> None:
    row = PanelRow(torch.zeros(3, 200, 200), seeds=torch.full((200, 200), 255))
    row.seeds[50:150, 100] = 2  # one pixel wide: less than a drawn pixel at this size
    picture = pixels(draw_panels([row], tile=100))
    column = picture[:, 120:220]
    width = (np.abs(column - [0, 128, 0]).max(-1) < 40).sum(1)
    assert 3 <= width.max() <= 6
    assert (width > 1).sum() >= 50
    assert (column == [115, 115, 115]).all(-1).sum() > 5000


def test_panels_name_the_classes_that_occur() -> None:
    names = ["background", "dog", "cat"]
    row = scene()
    legend = row_of_swatches(draw_panels([row], names, tile=100))
    assert legend == {(0, 0, 0), (128, 0, 0), (224, 224, 192)}
    seeds_alone = PanelRow(row.image, seeds=row.seeds)
    assert row_of_swatches(draw_panels([seeds_alone], names, tile=100)) == {(0, 0, 0), (128, 0, 0)}


def row_of_swatches(picture: Image.Image) -> set[tuple[int, ...]]:
    """Palette colors in the strip below the images."""
    below = pixels(picture)[-30:].reshape(-1, 3)
    colors, counts = np.unique(below, axis=0, return_counts=True)
    known = {tuple(color) for color in voc_palette().tolist()}
    return known & {tuple(color) for color in colors[counts > 90].tolist()}


def test_panels_wrap_a_long_legend_and_survive_missing_names() -> None:
    labels = torch.arange(40).repeat(40, 1)
    row = PanelRow(torch.zeros(3, 40, 40), prediction=labels)
    short, long = draw_panels([row], tile=100), draw_panels([row], ["a rather long class name"] * 40, tile=100)
    assert long.height > short.height
    assert draw_panels([row], ["only one"], tile=100).width == 230


def test_panels_with_a_title_are_taller() -> None:
    assert draw_panels([scene()], title="epoch 3").height > draw_panels([scene()]).height


def test_panels_without_seeds_or_rows() -> None:
    empty = PanelRow(torch.zeros(3, 9, 9), seeds=torch.full((9, 9), 255))
    assert draw_panels([empty], tile=50).width == 130
    with pytest.raises(ValueError, match="`rows` must hold at least one row"):
        draw_panels([])


def test_panels_are_deterministic_and_leave_their_input_alone() -> None:
    row = scene()
    before = row.seeds.clone()
    assert np.array_equal(pixels(draw_panels([row])), pixels(draw_panels([row])))
    assert torch.equal(row.seeds, before)
