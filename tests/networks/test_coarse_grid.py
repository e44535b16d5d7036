import math

import pytest
import torch
from small_nets import smp_net
from torch import Tensor, nn
from torch.nn import functional

from weakseg_lightning.networks import CoarseGrid, LargeFOV, SegmentationNet, SMPNetwork


@pytest.fixture(scope="module")
def large_fov() -> SegmentationNet:
    torch.manual_seed(0)
    return LargeFOV(encoder_weights=None).build(4).eval()


class OwnNet(SegmentationNet):
    """A network of a user who knows of logits alone: here the image itself, four times smaller and back."""

    def __init__(self, **arguments: object) -> None:
        super().__init__((0.0, 0.0, 0.0), (1.0, 1.0, 1.0), stride=4, **arguments)

    def compute_logits(self, x: Tensor) -> Tensor:
        return functional.interpolate(functional.avg_pool2d(x, 4), scale_factor=4.0)

    def head_parameters(self) -> list[nn.Parameter]:
        return []


# ---------------------------------------------------------------- the map of a network


@pytest.mark.parametrize(
    ("architecture", "encoder", "arguments", "stride"),
    [
        ("deeplabv3plus", "resnet18", {}, 4),
        ("deeplabv3", "mobilenet_v2", {"output_stride": 8}, 8),
        ("deeplabv3", "mobilenet_v2", {"output_stride": 16}, 16),
        ("unet", "resnet18", {}, 1),
        ("unetplusplus", "resnet18", {}, 1),
        ("manet", "resnet18", {}, 1),
        ("linknet", "resnet18", {}, 1),
        ("fpn", "mobilenet_v2", {}, 4),
        ("pspnet", "mobilenet_v2", {}, 8),
        ("pan", "resnet18", {}, 4),
        ("upernet", "tu-convnext_atto", {}, 4),
        ("segformer", "mit_b0", {}, 4),
        ("dpt", "tu-vit_tiny_patch16_224", {}, 2),
    ],
)
def test_logits_are_the_upsampled_map(architecture: str, encoder: str, arguments: dict, stride: int) -> None:
    net = smp_net(architecture, encoder, **arguments).eval()
    assert net.map_stride == stride
    size = (net.padded_size(64), net.padded_size(80))
    images = torch.rand(2, 3, *size)
    with torch.no_grad():
        coarse = net.coarse_logits(images)
        assert coarse.shape == (2, 4, size[0] // stride, size[1] // stride)
        upsampled = functional.interpolate(coarse, size=size, mode="bilinear", align_corners=True)
        torch.testing.assert_close(upsampled, net(images), rtol=1e-4, atol=1e-5)


def test_large_fov_logits_are_the_upsampled_map(large_fov: SegmentationNet) -> None:
    images = torch.rand(1, 3, 41, 65)
    with torch.no_grad():
        coarse, logits = large_fov.coarse_logits(images), large_fov(images)
    assert large_fov.map_stride == 8
    assert coarse.shape == (1, 4, 6, 9)
    # every cell's logits stand unchanged at the pixel that the grid names
    grid = large_fov.coarse_grid()
    rows, columns = grid.pixels(41), grid.pixels(65)
    assert rows.tolist() == [0, 8, 16, 24, 32, 40]
    torch.testing.assert_close(logits[..., rows[:, None], columns], coarse)


@pytest.mark.parametrize("size", [(1, 1), (8, 9), (33, 50), (40, 47)])
def test_cells_are_those_in_the_image(large_fov: SegmentationNet, size: tuple[int, int]) -> None:
    for net in (large_fov, smp_net("deeplabv3plus", "mobilenet_v2").eval()):
        expected = tuple(math.ceil(length / net.map_stride) for length in size)
        with torch.no_grad():
            coarse = net.coarse_logits(torch.rand(1, 3, *size))
        assert coarse.shape == (1, 4, *expected)
        assert net.coarse_grid().size(*size) == expected
        assert net.coarse_grid().cells_of(torch.ones(1, *size, dtype=torch.bool)).shape == (1, *expected)


def test_cells_of_aligned_corners_land_on_pixels_that_they_stand_for() -> None:
    # smp spreads n cells of stride m over n m pixels, first on first, last on last
    for stride, cells in ((4, 1), (4, 2), (4, 80), (8, 33), (16, 21)):
        spread = [index * (stride * cells - 1) / max(cells - 1, 1) for index in range(cells)]
        assert [int(pixel) // stride for pixel in spread] == list(range(cells))
        centers = CoarseGrid(stride, (stride - 1) / 2).pixels(stride * cells)
        assert all(abs(center - pixel) <= stride / 2 for center, pixel in zip(centers.tolist(), spread, strict=True))


def test_coarser_maps_are_averages_over_the_cells_that_there_are(large_fov: SegmentationNet) -> None:
    images = torch.rand(1, 3, 41, 60)
    with torch.no_grad():
        fine, coarse = large_fov.coarse_logits(images), large_fov.coarse_logits(images, stride=24)
    assert fine.shape[-2:] == (6, 8)
    assert coarse.shape[-2:] == large_fov.coarse_grid(24).size(41, 60) == (2, 3)
    for i in range(2):
        for j in range(3):
            expected = fine[..., 3 * i : 3 * i + 3, 3 * j : 3 * j + 3].mean((2, 3))
            torch.testing.assert_close(coarse[..., i, j], expected)
    # the middle of cells centered at 0, 8 and 16
    assert large_fov.coarse_grid(24).pixels(41).tolist() == [8, 32]


def test_a_coarser_map_of_unet_is_the_average_of_its_logits() -> None:
    net = smp_net("unet", "mobilenet_v2").eval()
    images = torch.rand(1, 3, 32, 64)
    with torch.no_grad():
        torch.testing.assert_close(net.coarse_logits(images, stride=8), functional.avg_pool2d(net(images), 8))


@pytest.mark.parametrize("stride", [0, -8, 4, 12])
def test_strides_that_the_map_does_not_divide_are_refused(large_fov: SegmentationNet, stride: int) -> None:
    with pytest.raises(ValueError, match=rf"`stride` must be a multiple of 8, .* got {stride}; take"):
        large_fov.coarse_logits(torch.rand(1, 3, 16, 16), stride=stride)


def test_a_network_that_knows_of_logits_alone_has_a_map_of_stride_1() -> None:
    net, images = OwnNet(), torch.rand(1, 3, 10, 13)
    assert net.map_stride == 1
    assert torch.equal(net.coarse_logits(images), net(images))
    assert net.coarse_logits(images, stride=4).shape == (1, 3, 3, 4)


def test_heads_of_other_kinds_fall_back_to_the_logits() -> None:
    from weakseg_lightning.networks import SMPNet

    model = smp_net("fpn", "mobilenet_v2").eval().model
    head = model.segmentation_head
    model.segmentation_head = nn.Sequential(head[0], nn.Identity(), nn.UpsamplingBilinear2d(scale_factor=4), head[2])
    net = SMPNet(model, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5)).eval()
    images = torch.rand(1, 3, 32, 32)
    with torch.no_grad():
        assert net.map_stride == 1
        assert torch.equal(net.coarse_logits(images), net(images))


def test_maps_are_float32_and_carry_gradients(large_fov: SegmentationNet) -> None:
    with torch.autocast("cpu", dtype=torch.bfloat16):
        coarse = large_fov.coarse_logits(torch.rand(1, 3, 17, 17))
    assert coarse.dtype == torch.float32
    coarse.sum().backward()
    assert large_fov.features[0].weight.grad is not None
    large_fov.zero_grad()


# ---------------------------------------------------------------- pixels and cells


def center_by_hand(cell: int, grid: CoarseGrid, length: int) -> float:
    """Place of the center of a cell between 0 and `length`, pixel j spanning j to j + 1."""
    small = max(1, round(grid.scale * length))
    return (grid.stride * cell + grid.offset + 0.5) * length / small


GRIDS = [
    CoarseGrid(8, 0.0),
    CoarseGrid(8, 3.5),
    CoarseGrid(16, 4.0),
    CoarseGrid(1, 0.0),
    CoarseGrid(4, 1.5, 0.5),
    CoarseGrid(8, 0.0, 0.37),
]


@pytest.mark.parametrize("grid", GRIDS)
@pytest.mark.parametrize("size", [(1, 1), (7, 40), (37, 64)])
def test_a_cell_is_what_the_pixel_at_its_centre_is(grid: CoarseGrid, size: tuple[int, int]) -> None:
    torch.manual_seed(0)
    mask = torch.rand(2, *size) < 0.5
    cells = grid.cells_of(mask)
    assert cells.shape == (2, *grid.size(*size))
    for i in range(cells.shape[1]):
        for j in range(cells.shape[2]):
            y = min(math.floor(center_by_hand(i, grid, size[0])), size[0] - 1)
            x = min(math.floor(center_by_hand(j, grid, size[1])), size[1] - 1)
            assert cells[:, i, j].tolist() == mask[:, y, x].tolist()


@pytest.mark.parametrize("grid", GRIDS)
@pytest.mark.parametrize("size", [(1, 1), (7, 40), (37, 64)])
def test_a_cell_has_the_label_that_most_of_its_labeled_pixels_have(grid: CoarseGrid, size: tuple[int, int]) -> None:
    torch.manual_seed(1)
    labels = torch.where(torch.rand(2, *size) < 0.3, torch.randint(0, 3, (2, *size)), 255)
    height, width = grid.size(*size)
    counts = torch.zeros(2, height, width, 3)
    for image, y, x in (labels != 255).nonzero().tolist():
        rows, columns = (
            [abs(center_by_hand(cell, grid, length) - place - 0.5) for cell in range(count)]
            for place, length, count in ((y, size[0], height), (x, size[1], width))
        )
        nearest = [len(far) - 1 - far[::-1].index(min(far)) for far in (rows, columns)]
        counts[image, nearest[0], nearest[1], labels[image, y, x]] += 1
    expected = torch.where(counts.sum(-1) > 0, counts.argmax(-1), 255)
    assert torch.equal(grid.labels_of(labels, 3), expected)


@pytest.mark.parametrize("grid", GRIDS)
def test_boxes_and_masks_agree(grid: CoarseGrid) -> None:
    generator = torch.Generator().manual_seed(1)
    height, width = 70, 91
    checked = 0
    for _ in range(50):
        x1, x2 = torch.randint(0, width + 1, (2,), generator=generator).sort().values.tolist()
        y1, y2 = torch.randint(0, height + 1, (2,), generator=generator).sort().values.tolist()
        mask = torch.zeros(height, width, dtype=torch.bool)
        mask[y1:y2, x1:x2] = True
        cells = grid.cells_of(mask)
        box = grid.boxes_of(torch.tensor([[x1, y1, x2, y2, 3.0]], dtype=torch.float64), height, width)[0]
        rows = torch.arange(cells.shape[0]) + 0.5
        columns = torch.arange(cells.shape[1]) + 0.5
        inside = ((box[1] <= rows) & (rows < box[3]))[:, None] & (box[0] <= columns) & (columns < box[2])
        assert box[4] == 3
        assert inside.any()
        # a center beyond the last pixel counts for its mask alone
        if cells.any() and x2 < width and y2 < height:
            checked += 1
            assert torch.equal(inside, cells)
    assert checked > 20


def test_a_box_smaller_than_a_cell_gets_the_nearest_one() -> None:
    grid = CoarseGrid(32, 15.5)
    boxes = torch.tensor([[40.0, 3.0, 45.0, 9.0, 7.0], [70.0, 70.0, 71.0, 71.0, 1.0]])
    assert grid.boxes_of(boxes, 71, 71).tolist() == [[1, 0, 2, 1, 7], [2, 2, 3, 3, 1]]


@pytest.mark.parametrize(
    "box",
    [
        (-9.0, 2.0, 0.0, 9.0),
        (40.0, 2.0, 44.0, 9.0),
        (2.0, -9.0, 9.0, -1.0),
        (2.0, 30.0, 9.0, 90.0),
        (9.0, 2.0, 2.0, 9.0),
    ],
)
def test_boxes_beside_the_image_hold_no_cell(box: tuple[float, ...]) -> None:
    for grid in GRIDS:
        x1, y1, x2, y2 = grid.boxes_of(torch.tensor([box]), 30, 40)[0].tolist()
        height, width = grid.size(30, 40)
        rows, columns = (y1 <= y + 0.5 < y2 for y in range(height)), (x1 <= x + 0.5 < x2 for x in range(width))
        assert not (any(rows) and any(columns))
        assert 0 <= min(x1, x2) <= max(x1, x2) <= width
        assert 0 <= min(y1, y2) <= max(y1, y2) <= height


def test_boxes_that_reach_beyond_the_image_are_cut() -> None:
    boxes = torch.tensor([[-20.0, 5.0, 12.0, 90.0], [38.0, -5.0, 60.0, 1.0]])
    assert CoarseGrid(8, 3.5).boxes_of(boxes, 30, 40).tolist() == [[0, 0.625, 1.5, 4], [4, 0, 5, 1]]


def test_no_boxes_stay_no_boxes() -> None:
    assert CoarseGrid(8, 0.0).boxes_of(torch.zeros(0, 5), 20, 20).shape == (0, 5)


# ---------------------------------------------------------------- input scale


def test_a_scaled_network_computes_on_the_resized_image() -> None:
    scaled, plain = (smp_net("fpn", "mobilenet_v2", input_scale=scale).eval() for scale in (0.5, 1.0))
    images = torch.rand(2, 3, 65, 90)
    small = functional.interpolate(images, size=(32, 45), mode="bilinear", antialias=True)
    with torch.no_grad():
        expected = functional.interpolate(plain(small), size=(65, 90), mode="bilinear")
        torch.testing.assert_close(scaled(images), expected)
        torch.testing.assert_close(scaled.coarse_logits(images, 8), plain.coarse_logits(small, 8))
    assert scaled.coarse_grid(8).size(65, 90) == (4, 6)


def test_large_fov_takes_an_input_scale() -> None:
    torch.manual_seed(0)
    scaled = LargeFOV(None, input_scale=0.5).build(2).eval()
    with torch.no_grad():
        assert scaled(torch.rand(1, 3, 66, 1)).shape == (1, 2, 66, 1)
        assert scaled.coarse_logits(torch.rand(1, 3, 66, 1)).shape == (1, 2, 5, 1)
    assert scaled.coarse_grid().pixels(66).tolist() == [1, 17, 33, 49, 65]


def test_scale_1_leaves_the_images_alone() -> None:
    net, images = OwnNet(input_scale=1.0), torch.rand(1, 3, 9, 9)
    assert net._resize(images) is images


@pytest.mark.parametrize("scale", [0.0, -1.0, 8.5, float("nan")])
def test_other_scales_are_refused(scale: float) -> None:
    for make in (SMPNetwork, LargeFOV, OwnNet):
        with pytest.raises(ValueError, match="`input_scale` must be above 0 and at most 8, got"):
            make(input_scale=scale)
