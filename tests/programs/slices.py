"""A folder of small slices of a few volumes, with strokes and masks of all."""

from pathlib import Path

import numpy as np
from PIL import Image

CASES = {"p1_ed": 11, "p1_es": 3, "p2_ed": 4}
PATTERN = "(.+)_slice_[0-9]+"


def write_slices(root: Path, cases: dict[str, int] = CASES) -> Path:
    """Write discs of two classes that grow from slice to slice; 18 x 16 pixels, ``p1_ed_slice_0.png`` and so on."""
    for folder in ("images", "scribbles", "masks"):
        (root / folder).mkdir(parents=True)
    for case, count in cases.items():
        for number in range(count):
            mask = mask_of(number)
            seeds = np.full_like(mask, 255)
            seeds[8, ::2] = mask[8, ::2]
            name = f"{case}_slice_{number}.png"
            Image.fromarray(np.uint8(60) * mask + np.uint8(20)).save(root / "images" / name)
            Image.fromarray(seeds).save(root / "scribbles" / name)
            Image.fromarray(mask).save(root / "masks" / name)
    (root / "classes.yaml").write_text("classes: [background, ring, core]\n")
    return root


def mask_of(number: int) -> np.ndarray:
    """Mask of the slice with this number, uint8 ``(16, 18)``."""
    rows, columns = np.mgrid[:16, :18]
    distance = np.hypot(rows - 8, columns - 9)
    return np.where(distance < 2 + 0.2 * number, 2, np.where(distance < 4 + 0.2 * number, 1, 0)).astype(np.uint8)
