"""Image, labels and boxes stay together under augmentation."""

import pytest
import torch
from torchvision import tv_tensors
from torchvision.transforms.v2 import functional as F

from weakseg_lightning.data.transforms import PadTo, RandomScaleCrop, training_transform
from weakseg_lightning.energies.potts import VOID


def make_ramp(height: int, width: int) -> dict[str, torch.Tensor]:
    """Red is the column, green the row; the two label planes are column and row in steps of 4."""
    columns, rows = torch.meshgrid(torch.arange(width), torch.arange(height), indexing="xy")
    image = torch.stack([columns, rows, torch.zeros_like(rows)]).to(torch.uint8)
    labels = torch.stack([columns // 4, rows // 4]).to(torch.uint8)
    return {"image": tv_tensors.Image(image), "labels": tv_tensors.Mask(labels)}


@pytest.mark.parametrize("scale", [0.55, 0.7, 1.0, 1.31, 2.0])
def test_image_and_labels_show_the_same_place(scale):
    item = make_ramp(100, 120)
    transform = training_transform(64, (scale, scale), flip=True)
    errors = []
    for seed in range(20):
        torch.manual_seed(seed)
        moved = transform(item)
        inside = moved["labels"][0] != VOID
        for channel in (0, 1):
            place = moved["image"][channel][inside].float()
            # The middle of the step that a label stands for: 4 k + 1.5 in the coordinates of pixel centers.
            errors.append(place - (moved["labels"][channel][inside].float() * 4 + 1.5))
    error = torch.cat(errors)
    # A label stands for 4 pixels: at most 1.5 from their middle, half a source pixel of rounding by the nearest
    # neighbor, one of the window, one of the values.
    assert error.abs().max() <= 1.5 + 0.5 / scale + 1
    # A shift of half a pixel between the two would show here.
    assert abs(float(error.mean())) < 0.15


def test_colored_square_agrees_with_its_mask_and_box():
    image = torch.zeros(3, 90, 110, dtype=torch.uint8)
    labels = torch.zeros(1, 90, 110, dtype=torch.uint8)
    image[:, 30:60, 40:80], labels[:, 30:60, 40:80] = 200, 7
    boxes = tv_tensors.BoundingBoxes([[40.0, 30.0, 80.0, 60.0]], format="XYXY", canvas_size=(90, 110))
    item = {"image": tv_tensors.Image(image), "labels": tv_tensors.Mask(labels), "boxes": boxes}
    transform, seen = training_transform(72), 0
    for seed in range(40):
        torch.manual_seed(seed)
        moved = transform(item)
        square = moved["labels"][0] == 7
        bright = moved["image"][0] > 100
        assert (square != bright).sum() <= 2 * (square.sum(0).max() + square.sum(1).max() + 2)  # the outline at most
        if square.any():
            seen += 1
            rows, columns = square.any(1).nonzero(), square.any(0).nonzero()
            expected = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
            found = F.clamp_bounding_boxes(moved["boxes"])[0]
            assert torch.allclose(found.float(), torch.tensor(expected).float(), atol=1.01)
    assert seen > 20


def test_whole_image_is_resized_as_by_torchvision():
    item = make_ramp(40, 50)
    small = RandomScaleCrop(100, (0.5, 0.5))(item)
    assert torch.equal(small["image"], F.resize(item["image"], [20, 25], antialias=True))


def test_window_has_the_drawn_scale():
    item = make_ramp(200, 200)
    torch.manual_seed(0)
    moved = RandomScaleCrop(50, (2.0, 2.0))(item)
    columns = moved["image"][0, 0].float()
    assert columns.numel() == 50
    assert float(columns[-1] - columns[0]) == pytest.approx(24.5, abs=1)


@pytest.mark.parametrize("size", [(1, 1), (1, 200), (200, 1), (3, 5), (37, 300), (64, 64)])
@pytest.mark.parametrize("crop_size", [2, 3, 64, 65])
def test_any_size_becomes_the_crop(size, crop_size):
    transform = training_transform(crop_size, (0.1, 3.0))
    for seed in range(5):
        torch.manual_seed(seed)
        moved = transform(make_ramp(*size))
        assert moved["image"].shape == (3, crop_size, crop_size)
        assert moved["labels"].shape == (2, crop_size, crop_size)
        assert (moved["labels"] != VOID).any()


def test_padding_is_black_void_and_right_or_below():
    item = make_ramp(10, 20)
    item["image"] = tv_tensors.Image(item["image"] + 50)
    moved = training_transform(32, (1.0, 1.0), flip=False, color_jitter=1.0)(item)
    inside = torch.zeros(32, 32, dtype=torch.bool)
    inside[:10, :20] = True
    assert torch.equal(moved["labels"][0] != VOID, inside)
    assert torch.equal(moved["labels"][:, :10, :20], item["labels"])
    assert not moved["image"][:, ~inside].any()  # also after a change of contrast


def test_pad_to_leaves_full_images_alone():
    item = make_ramp(16, 16)
    assert torch.equal(PadTo(16)(item)["image"], item["image"])


def test_flip_mirrors_half_of_the_images():
    item = make_ramp(8, 8)
    transform = training_transform(8, (1.0, 1.0), flip=True)
    torch.manual_seed(0)
    results = [transform(item) for _ in range(200)]
    flipped = [bool(moved["image"][0, 0, 0]) for moved in results]
    assert 70 < sum(flipped) < 130
    assert all(torch.equal(m["labels"][0, 0, 0] != 0, m["image"][0, 0, 0] != 0) for m in results)


def test_color_jitter_changes_colors_and_no_label():
    item = make_ramp(32, 32)
    torch.manual_seed(0)
    moved = training_transform(32, (1.0, 1.0), flip=False, color_jitter=0.5)(item)
    assert not torch.equal(moved["image"], item["image"])
    assert torch.equal(moved["labels"], item["labels"])


def test_crops_reach_every_corner():
    item = make_ramp(40, 40)
    torch.manual_seed(0)
    corners = [RandomScaleCrop(20, (1.0, 1.0))(item)["image"][:2, 0, 0].tolist() for _ in range(800)]
    columns, rows = ({corner[axis] for corner in corners} for axis in (0, 1))
    assert columns == rows == set(range(21))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"crop_size": 1}, "`crop_size` must be at least 2"),
        ({"crop_size": 8, "scale_range": (0.0, 1.0)}, "`scale_range` must be"),
        ({"crop_size": 8, "scale_range": (2.0, 1.0)}, "`scale_range` must be"),
        ({"crop_size": 8, "color_jitter": 1.5}, "`color_jitter` must be between"),
    ],
)
def test_errors(arguments, message):
    with pytest.raises(ValueError, match=message):
        training_transform(**arguments)


def test_transform_needs_a_tv_tensor():
    with pytest.raises(ValueError, match="tv_tensors"):
        PadTo(4)(torch.zeros(3, 2, 2))
