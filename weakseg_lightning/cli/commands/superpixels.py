"""`weakseg superpixels`: maps of regions for the edges of pairwise terms, without any model."""

import sys
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from rich.console import Console

from weakseg_lightning.checks import above, at_least
from weakseg_lightning.cli.commands.channels import find_channels
from weakseg_lightning.cli.commands.evaluation import followed
from weakseg_lightning.cli.commands.places import existing_folder, shown
from weakseg_lightning.data.folder.files import Files, find_files
from weakseg_lightning.data.images.channels import ChannelFiles
from weakseg_lightning.data.images.statistics import picture, places_of
from weakseg_lightning.data.maps.contents import holds_maps
from weakseg_lightning.data.samples import BadSampleError
from weakseg_lightning.data.text import counted
from weakseg_lightning.errors import FileError, UserError
from weakseg_lightning.files import replacing

__all__ = ["superpixels"]

_MOST = 65536  # numbers that gray of 16 bits holds


def superpixels(
    data: Path,
    output: Path = Path("superpixels"),
    side: int = 16,
    compactness: float = 10.0,
    overwrite: bool = False,
    channels: dict[str, int | str] | list[str] | None = None,
    guide: list[str] | None = None,
) -> int:
    """Divide your own images into superpixels (SLIC): maps of regions, for pairwise terms with edges from maps.

    Train with --data.guides superpixels, and `edges: regions`, `dilation: 0` of the method's `potts`. A network or a
    person that knows objects makes better maps: any PNGs of the images' names and sizes will do.

    Args:
        data: the folder, which holds `images`.
        output: folder for the maps, seen from the folder of the data.
        side: side of a superpixel in pixels, about.
        compactness: how much places count against colors: higher makes squarer superpixels.
        overwrite: replace maps that are there.
        channels: names of the channels of images that are not gray or RGB, as `weakseg check` takes them; TIFFs of
            other bands, `.npy` and files such as NAME_nir.tif beside NAME.tif are found without.
        guide: three of the channels, or one, whose colors count; by default red, green and blue, or the first three.

    Returns:
        The exit status: 1 if images had to be skipped.
    """
    at_least("side", side, 2)
    above("compactness", compactness, 0)
    folder = existing_folder(data)
    if holds_maps(folder):
        raise UserError(
            f"{data} holds maps, superpixels are for folders of images: train on the maps without `guides`, or cut the "
            "rasters into images of a folder first"
        )
    found = find_channels(folder, channels, guide)
    named = None if found is None else ChannelFiles(found.given)
    colors = None if named is None else places_of(named.names, guide)
    files = find_files(folder, channels=named)
    images = files.images
    paths = {name: folder / output.expanduser() / f"{name}.png" for name in images}
    if (present := [path for path in paths.values() if path.exists()]) and not overwrite:
        raise FileError(
            f"{folder / output} has maps of {len(present)} of the {len(images)} images already, as {present[0].name}: "
            "choose another `output`, or replace them with --overwrite"
        )
    skipped, whole = 0, list[str]()
    for name in followed(images, "Superpixels", len(images)):
        try:
            numbers = _numbered(images[name], _pixels(files, name, colors), side, compactness)
            _write(paths[name], numbers)
            whole += [] if numbers.any() else [name]
        except BadSampleError as error:
            skipped += 1
            text = f"weakseg: skipped: {error}"
            Console(stderr=True).print(text, markup=False, highlight=False, soft_wrap=True)
    if skipped < len(images):
        print(
            f"Wrote {counted(len(images) - skipped, 'map')} to {shown(folder / output)}. To train with them: "
            f"--data.guides {output} --model.solver.potts.edges regions --model.solver.potts.dilation 0 (or of "
            "`model.regularizer`)"
        )
    if whole:
        text = "lower `side` or `compactness`, or take another `guide`"
        print(f"note: one superpixel covers the whole of {counted(len(whole), 'image')}, as {whole[0]}: {text}")
    if skipped:
        print(f"weakseg: {skipped} of {len(images)} images were skipped, see above", file=sys.stderr)
    return 1 if skipped else 0


def _pixels(files: Files, name: str, colors: tuple[int, int, int] | None) -> NDArray[np.uint8]:
    """An image, ``(H, W, 3)``, its channels of these numbers shown as red, green and blue; None for gray and RGB."""
    if colors is None:
        pixels: NDArray[np.uint8] = files.read_image(name).permute(1, 2, 0).numpy()
        return pixels
    return picture(files.read_planes(name, neighbors=0), colors)


def _numbered(path: Path, image: NDArray[np.uint8], side: int, compactness: float) -> NDArray[np.uint16]:
    """The superpixel of each pixel of an image, ``(H, W)``."""
    from skimage.segmentation import slic

    count = max(1, round(image.shape[0] * image.shape[1] / side**2))
    numbers = slic(image, n_segments=count, compactness=compactness, start_label=0, channel_axis=-1)
    if numbers.max() >= _MOST:
        raise BadSampleError(f"{path} has more than {_MOST} superpixels: raise `side`")
    found: NDArray[np.uint16] = numbers.astype(np.uint16)
    return found


def _write(path: Path, numbers: NDArray[np.uint16]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as unfinished:
        Image.fromarray(numbers).save(unfinished, format="PNG")
