"""Settings of `weakseg predict` for IMAGES."""

from dataclasses import dataclass

from weakseg_lightning.checks import at_least_and_below
from weakseg_lightning.errors import UserError
from weakseg_lightning.prediction.cut import GraphCut

__all__ = ["ImageOptions"]

_WEIGHT, _BETWEEN = 10.0, 1.0  # chosen on hearts, see tests/benchmarks/README.md
_MOST = 1e9  # of either: products of both stay finite in single precision


@dataclass(frozen=True)
class ImageOptions:
    """Settings of `weakseg predict` for the IMAGES that stand on the command line.

    An image larger than a tile is predicted in tiles that overlap; probabilities are blended there. Labels of images
    that lie on a map, as GeoTIFFs and virtual rasters (VRT) do, are GeoTIFFs at the same place, which need the package
    rasterio; where the image has no data, they have none. Volumes (NIfTI) are labeled by slices; their labels are
    volumes in their space.

    Args:
        tile: side of the tiles in pixels; images up to this size are predicted whole.
        overlap: what neighboring tiles share, in pixels, up to half of `tile`; a little less with `flip`.
        flip: average with the prediction for the mirror image.
        scales: average over the image resized by these factors, as [0.75, 1, 1.25].
        probabilities: write probabilities, too, as NumPy files of float16 (K, H, W); of volumes (K, slices, H, W).
        polygons: write the regions of all images as polygons, too, in one JSON file in COCO's format.
        objects: write a table of the connected objects of all images, too, in one CSV file: class, area, box, center,
            mean color or means of the channels; of images that lie on a map, also center and area in its units (where
            these are degrees, the area is in square meters, by the size of the pixel at the center). Those of volumes
            are connected in 3-D: also slices, volume in mm3, center in space, means of the files' values.
        geojson: write the regions of each image as polygons, too, in longitude and latitude (WGS 84), as GeoJSON; for
            images with a coordinate system alone. They are cut at the antimeridian.
        window: the part of each image that is predicted, [column, row, width, height] in pixels; what is written begins
            there.
        bounds: the same in the coordinates of images that lie on a map, [left, bottom, right, top].
        cut: take the labels from a graph cut on the network's probabilities (after `--refine`), so that borders follow
            the contrast of the image. Slices of a NIfTI file are cut together, and so are slices of one case in the
            data's folder, with its spacing. Scribbles, clicks and accepted labels of that folder are kept; boxes and
            masks are not used. Contrast is that of the 8-bit picture that overlays show, to which files of 16 bits are
            stretched one by one. What would take more than 16 GB (200 + 14 x classes bytes per pixel of an image or of
            all slices together) is left out.
        cut_weight: Potts weight of the edges to the 8 neighbors within a slice, in units of -log probability: the
            larger, the smoother; 10 by default.
        cut_between: factor of the edges between slices, whose weight is cut_weight x contrast x (pixel spacing / slice
            spacing); 1 by default, 0 cuts every slice alone.
    """

    tile: int = 1024
    overlap: int = 256
    flip: bool = False
    scales: tuple[float, ...] = (1.0,)
    probabilities: bool = False
    polygons: bool = False
    objects: bool = False
    geojson: bool = False
    window: tuple[int, int, int, int] | None = None
    bounds: tuple[float, float, float, float] | None = None
    cut: bool = False
    cut_weight: float | None = None
    cut_between: float | None = None

    def __post_init__(self) -> None:
        """Check what goes together."""
        given = [name for name in ("cut_weight", "cut_between") if getattr(self, name) is not None]
        for name in given:
            at_least_and_below(name, getattr(self, name), 0, _MOST)
        if given and not self.cut:
            raise UserError(
                f"`images.{given[0]}` does nothing without the cut: add `--images.cut true`, or leave it out"
            )
        if self.cut and (self.window is not None or self.bounds is not None):
            raise UserError("`images.cut` labels images as wholes: leave out `images.window` and `images.bounds`")

    def graph_cut(self) -> GraphCut | None:
        """Make the graph cut that finds the labels; None to take the most probable ones."""
        if not self.cut:
            return None
        weight = _WEIGHT if self.cut_weight is None else self.cut_weight
        return GraphCut(weight, _BETWEEN if self.cut_between is None else self.cut_between)
