"""Real hearts (ACDC) twice: as a folder of slices, and stacked to volumes."""

import shutil
from collections.abc import Sequence
from pathlib import Path

import nibabel
import numpy as np
from numpy.typing import NDArray
from PIL import Image

PATTERN = "(.+)_slice_[0-9]+"
SPACING = (10.0, 1.5, 1.25)
AFFINE = np.array([[-1.25, 0, 0, 90], [0, -1.5, 0, 70], [0, 0, 10, -40], [0, 0, 0, 1]])
"""Columns to the right and rows to the front, in steps of 1.25 and 1.5 mm: seen upright from below."""
KINDS = ("images", "scribbles", "masks")


def files_of(folder: Path, case: str) -> list[Path]:
    """The slices of a case in their order."""
    return sorted(folder.glob(f"{case}_slice_*.png"), key=lambda path: int(path.stem.rsplit("_", 1)[1]))


def stacked(folder: Path, case: str) -> NDArray[np.uint8]:
    """The slices of a case, ``(slices, rows, columns)``."""
    return np.stack([np.array(Image.open(path)) for path in files_of(folder, case)])


def write_volume(path: Path, slices: NDArray, affine: NDArray[np.float64] = AFFINE, header=None) -> None:
    """Write slices as a volume whose axes are columns, rows, slices."""
    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.save(nibabel.Nifti1Image(slices.transpose(2, 1, 0), affine, header), path)


def write_hearts(data: Path, root: Path, cases: Sequence[str]) -> tuple[Path, Path]:
    """Write the folders `slices` and `volumes` of some cases below a folder, of `acdc` in another."""
    slices, volumes = root / "slices/heart", root / "volumes/heart"
    for folder in (slices, volumes):
        folder.mkdir(parents=True)
        shutil.copy(data / "classes.yaml", folder)
    for case in cases:
        for kind in KINDS:
            (slices / kind).mkdir(exist_ok=True)
            for path in files_of(data / kind, case):
                shutil.copy(path, slices / kind)
            write_volume(volumes / kind / f"{case}.nii.gz", stacked(data / kind, case))
    return slices, volumes


def small_volume(depth: int = 4) -> NDArray[np.uint8]:
    """A mask of a disc that grows from slice to slice, ``(slices, 14, 12)``."""
    slices, rows, columns = np.mgrid[:depth, :14, :12]
    return (np.hypot(rows - 7, columns - 5) < 2 + slices).astype(np.uint8)


def write_small(root: Path, names: Sequence[str] = ("a", "b", "c")) -> Path:
    """Write a folder of small volumes of int16, with masks, and strokes in all slices but the first."""
    for number, name in enumerate(names):
        mask = small_volume()
        noise = np.random.default_rng(number).normal(0, 40, mask.shape)
        seeds = np.full_like(mask, 255)
        seeds[1:, 7] = mask[1:, 7]
        write_volume(root / f"images/{name}.nii.gz", (1000.0 * mask + noise - 400).astype(np.int16))
        write_volume(root / f"masks/{name}.nii.gz", mask)
        write_volume(root / f"scribbles/{name}.nii.gz", seeds)
    (root / "classes.yaml").write_text("classes: [background, heart]\n")
    return root
