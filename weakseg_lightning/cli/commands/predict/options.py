"""Settings of `weakseg predict` for IMAGES."""

from dataclasses import dataclass

from weakseg_lightning.checks import finite_at_least
from weakseg_lightning.errors import UserError

__all__ = ["ImageOptions"]


@dataclass(frozen=True)
class ImageOptions:
    """Settings of `weakseg predict` for the IMAGES that stand on the command line.

    An image larger than a tile is predicted in tiles that overlap; probabilities are blended there. Labels of images
    that lie on a map, as GeoTIFFs and virtual rasters (VRT) do, are GeoTIFFs at the same place, which need the package
    rasterio; where the image has no data, they have none. Volumes (NIfTI) are labeled by slices; their labels are
    volumes in their space.

    Args:
        tile: side of the tiles in pixels; images up to this size are predicted whole.
        overlap: what neighboring tiles share, in pixels, up to half of `tile`.
        flip: average with the prediction for the mirror image.
        scales: average over the image resized by these factors, as [0.75, 1, 1.25].
        probabilities: write probabilities, too, as NumPy files of float16 (K, H, W); of volumes (K, slices, H, W).
        polygons: write the regions of all images as polygons, too, in one JSON file in COCO's format.
        objects: write a table of the connected objects of all images, too, in one CSV file: class, area, box, center,
            mean color or means of the channels; of images that lie on a map, also center and area in its units (the
            area in square meters where these are degrees). Those of volumes are connected in 3-D: also slices, volume
            in mm3, center in space, means of the files' values.
        geojson: write the regions of each image as polygons, too, in longitude and latitude (WGS 84), as GeoJSON; for
            images with a coordinate system alone. They are not cut at the antimeridian.
        window: the part of each image that is predicted, [column, row, width, height] in pixels; what is written begins
            there.
        bounds: the same in the coordinates of images that lie on a map, [left, bottom, right, top].
        cut: find the labels by a graph cut from the probabilities, so that they follow the contrast of the image: of a
            volume as a whole, also one whose slices are images of the data's folder. What is drawn on images of that
            folder, scribbles, clicks and accepted labels, is kept as it is. An image must fit into memory.
        cut_weight: Potts weight of the cut's edges within an image or slice, of 8 neighbors.
        cut_between: factor of its edges between slices; these are the weaker, the further slices are apart.
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
    cut_weight: float = 10.0
    cut_between: float = 1.0

    def __post_init__(self) -> None:
        """Check what goes together."""
        finite_at_least("cut_weight", self.cut_weight, 0)
        finite_at_least("cut_between", self.cut_between, 0)
        if self.cut and (self.window is not None or self.bounds is not None):
            raise UserError("`images.cut` labels images as wholes: leave out `images.window` and `images.bounds`")
