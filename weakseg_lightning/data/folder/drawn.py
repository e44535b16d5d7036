"""What people have drawn on the images of a folder, by the files of the images."""

from pathlib import Path

import torch
from torch import Tensor

from weakseg_lightning.data.folder.contents import FolderContents
from weakseg_lightning.data.folder.labels import read_seeds
from weakseg_lightning.data.samples import CaseSlice

__all__ = ["DrawnLabels"]


class DrawnLabels:
    """Finds scribbles, lines, clicks and accepted labels of image files that are those of a folder.

    Args:
        contents: the folder.
    """

    def __init__(self, contents: FolderContents) -> None:
        self._contents = contents
        self._names: dict[Path, list[str]] = {}
        for name, path in contents.images.items():
            self._names.setdefault(path.resolve(), []).append(name)

    def case(self, path: Path) -> CaseSlice | None:
        """The case that an image is a slice of; None where it is none, or is a volume itself."""
        names = self._names.get(path.resolve(), [])
        return self._contents.cases.get(names[0]) if len(names) == 1 and self._contents.volumes is None else None

    def seeds(self, path: Path, index: int = 0) -> Tensor | None:
        """Read what is drawn on an image, or on a slice of a volume.

        Args:
            path: the file of the image.
            index: the slice.

        Returns:
            uint8 ``(H, W)``, 255 where nothing is drawn; None if the image is none of the folder, or has no labels.

        Raises:
            BadSampleError: if they cannot be read.
        """
        names = self._names.get(path.resolve(), [])
        volumes = self._contents.volumes is not None
        found = [name for name in names if not volumes or self._contents.slices[name].number == index]
        if not found or not self._contents.can_train(found[0], "scribble"):
            return None
        drawn = read_seeds(self._contents, found[0], self._contents.size_of(found[0]), "scribble")
        return None if drawn is None else torch.from_numpy(drawn)
