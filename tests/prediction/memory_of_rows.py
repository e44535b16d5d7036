"""A program that labels images by rows and prints by how many MB it grew: ``memory_of_rows.py [IMAGE LABELS] ...``."""

import resource
import sys
from pathlib import Path

import torch

from weakseg_lightning.prediction.maps import GeoTiff
from weakseg_lightning.prediction.outputs import LabelRows, PalettePng
from weakseg_lightning.prediction.rasters import MapRows, open_rows
from weakseg_lightning.prediction.segmenter import _TileScores
from weakseg_lightning.prediction.tiling import Blend, spans
from weakseg_lightning.visualization import voc_palette


def bright(pixels: torch.Tensor, valid: torch.Tensor | None) -> torch.Tensor:
    dark = (pixels.float().mean(0) < 128).float()
    return torch.stack([dark, 1 - dark, torch.zeros_like(dark)])


def label(source: str, target: str) -> None:
    with open_rows(Path(source)) as image:
        rows, columns = (spans(length, 1024, 128, 32) for length in (image.height, image.width))
        gathered = LabelRows(image.width)
        where = Path(target), image.width, image.height, voc_palette()
        with GeoTiff(*where, image.place, []) if isinstance(image, MapRows) else PalettePng(*where) as file:
            for block in Blend(rows, columns, _TileScores(image, bright)):
                if (done := gathered.add(block)) is not None:
                    file.write(done)


before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
for source, target in zip(sys.argv[1::2], sys.argv[2::2], strict=True):
    label(source, target)
    print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)
