"""NIfTI volumes: what their headers say, their voxels as slices, and labels written in their space."""

import gzip
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from weakseg_lightning.data.images.pixels import UnsuitableError
from weakseg_lightning.data.images.reading import reading
from weakseg_lightning.data.samples import BadSampleError
from weakseg_lightning.data.text import counted
from weakseg_lightning.files import replacing

__all__ = ["VOLUME_SUFFIXES", "VolumeHeader", "is_volume", "read_voxels", "require_same_space", "volume_name"]

VOLUME_SUFFIXES = (".nii", ".nii.gz")

_FLATTER = 1.2
"""An axis whose spacing exceeds that of the others by this factor is the one of the slices."""
_DENSEST = 1100  # times that gzip makes anything smaller, at most: headers that promise more are broken
_ALIKE = 0.01
"""Fraction by which two spacings of one header may differ."""
_SAME = 0.1  # voxels by which corners of two volumes in one place may differ
_MM = {"meter": 1000.0, "micron": 0.001}
_CHUNK = 2**20

Voxels = NDArray[Any]


@dataclass(frozen=True, eq=False)
class VolumeHeader:
    """Facts from the header of a volume.

    Attributes:
        path: its file.
        shape: number of voxels along the three axes of its array.
        spacing: distance of voxels along them, in mm, by the affine.
        affine: from indices of voxels to mm, ``(4, 4)``.
        orientation: where the three axes lead to, as ``LPS``: left, posterior, superior.
        axis: the one along which slices are counted.
        doubts: what the header says in two ways, in words that go on where the file's name ends.
    """

    path: Path
    shape: tuple[int, int, int]
    spacing: tuple[float, float, float]
    affine: NDArray[np.float64]
    orientation: str
    axis: int
    doubts: tuple[str, ...] = ()

    @classmethod
    def read(cls, path: Path, axis: int | None = None) -> "VolumeHeader":
        """Read the header of a volume.

        Args:
            path: NIfTI 1 or 2, also compressed.
            axis: the one of slices, 0 to 2; None for that of the largest spacing where it is a fifth larger than the
                others, or else the last.

        Raises:
            BadSampleError: if the file is missing, damaged, too short for what its header promises, not of three
                dimensions or not of numbers, or nibabel is not installed.
        """
        with reading(path) as file:
            image = _load(path)
            shape, stored = _shape(image), _stored_header(path, image)
            affine = np.array(image.affine, dtype=np.float64)
            affine[:3] *= _unit(image)
            if not np.isfinite(affine).all() or abs(np.linalg.det(affine[:3, :3])) < 1e-12:
                raise UnsuitableError("has a header without a usable place in space (affine): write its header again")
            _require_long_enough(file, path, image, shape)
            spacing = _spacing(image, stored, affine)
            codes, doubts = _codes(affine), _doubts(image, stored, spacing)
        return cls(path, shape, spacing, affine, codes, _slice_axis(spacing) if axis is None else axis, doubts)

    @property
    def order(self) -> tuple[int, int, int]:
        """The axes of slices, rows and columns: columns count along the first of the other two."""
        columns, rows = (axis for axis in range(3) if axis != self.axis)
        return self.axis, rows, columns

    @property
    def depth(self) -> int:
        """Number of slices."""
        return self.shape[self.axis]

    @property
    def size(self) -> tuple[int, int]:
        """Width and height of a slice in voxels."""
        _, rows, columns = self.order
        return self.shape[columns], self.shape[rows]

    @property
    def distances(self) -> tuple[float, float, float]:
        """Distance of neighboring slices, rows and columns, in mm."""
        slices, rows, columns = (self.spacing[axis] for axis in self.order)
        return slices, rows, columns

    def locate(self, point: Sequence[float] | NDArray[np.float64]) -> NDArray[np.float64]:
        """Find the place in space of a point within the slices.

        Args:
            point: column, row and slice; the first voxel spans 0 to 1.

        Returns:
            ``(3,)`` in mm, by the affine.
        """
        slices, rows, columns = self.order
        index = np.ones(4)
        index[[columns, rows, slices]] = np.asarray(point) - 0.5
        return np.asarray((self.affine @ index)[:3])

    def write_labels(self, path: Path, labels: Sequence[NDArray[np.uint8]]) -> None:
        """Write labels of its slices as a volume of uint8, in its shape, space and order of voxels.

        Args:
            path: ``.nii.gz``.
            labels: ``(H, W)`` by slice.

        Raises:
            OSError: if it cannot be written.
        """
        image = _load(self.path)
        header = image.header.copy()
        header.set_data_dtype(np.uint8)
        header.set_slope_inter(1, 0)
        header["cal_min"] = header["cal_max"] = 0  # brightness of the image in viewers
        values = np.stack(labels).transpose(np.argsort(self.order)).reshape(image.shape)
        with replacing(path) as target, gzip.GzipFile(target, "wb", mtime=0) as file:
            file.write(type(image)(values, image.affine, header).to_bytes())


def is_volume(path: Path) -> bool:
    """Recognize volumes by the suffix of their file."""
    return path.name.lower().endswith(VOLUME_SUFFIXES)


def volume_name(path: Path) -> str:
    """The name of a volume's file without its suffix."""
    suffix = next((suffix for suffix in reversed(VOLUME_SUFFIXES) if path.name.lower().endswith(suffix)), "")
    return path.name[: len(path.name) - len(suffix)]


def read_voxels(header: VolumeHeader) -> Voxels:
    """Read all voxels, each once.

    Returns:
        ``(slices, H, W)``: numbers as they are stored, or float32 where the header scales them.

    Raises:
        BadSampleError: if the data are damaged or end too early, or hold what is no number.
    """
    with reading(header.path):
        image = _load(header.path)
        proxy = image.dataobj
        values = np.frombuffer(_data(header.path, proxy), proxy.dtype).reshape(header.shape, order="F")
        values = values.transpose(header.order)
        values = values.astype(values.dtype.newbyteorder("="), copy=False)
        if (proxy.slope, proxy.inter) != (1, 0):
            values = np.stack([(one * float(proxy.slope) + float(proxy.inter)).astype(np.float32) for one in values])
        if values.dtype.kind == "f" and (wrong := sum(one.size - int(np.isfinite(one).sum()) for one in values)):
            raise UnsuitableError(f"holds {counted(wrong, 'voxel')} that are no numbers (NaN): fill them in")
    return values


def require_same_space(header: VolumeHeader, image: VolumeHeader) -> None:
    """Raise ``BadSampleError`` if labels or a channel are not of the shape of their image, or elsewhere in space."""
    if header.shape != image.shape:
        here, there = (" x ".join(map(str, one.shape)) for one in (header, image))
        raise BadSampleError(f"{header.path} has {here} voxels, its image {there}: bring it to the voxels of the image")
    corners = np.array(np.meshgrid(*[(0, length - 1) for length in image.shape], [1])).reshape(4, -1)
    moved = np.linalg.norm(((header.affine - image.affine) @ corners)[:3], axis=0).max()
    if moved > _SAME * min(image.spacing):
        raise BadSampleError(
            f"{header.path} lies elsewhere in space than its image, by up to {moved:.3g} mm (affine): bring it to the "
            "voxels of the image, or save it with the header of the image"
        )


def _nibabel() -> ModuleType:
    try:
        import nibabel
    except ImportError as error:
        raise UnsuitableError("is a volume, which nibabel reads: pip install '.[volumes]' in the checkout") from error
    nibabel.imageglobals.logger.setLevel("ERROR")  # its warnings name no file: headers are examined here
    module: ModuleType = nibabel
    return module


def _load(path: Path) -> Any:
    """Open a volume; its voxels are not read."""
    nibabel = _nibabel()
    try:
        image = nibabel.load(path)
    except nibabel.filebasedimages.ImageFileError as error:
        if _is_packed(path):
            with gzip.open(path) as file:
                file.read(_CHUNK)  # says what is wrong with the compression, if that is it
        raise UnsuitableError("is empty or no NIfTI: export it again") from error
    if not isinstance(image, nibabel.Nifti1Image | nibabel.Nifti2Image):
        raise UnsuitableError(f"is {type(image).__name__} of nibabel, expected NIfTI: convert it")
    return image


def _shape(image: Any) -> tuple[int, int, int]:
    """The lengths of three axes; later ones of length 1 do not count, and missing ones are of length 1."""
    dtype, shape = image.get_data_dtype(), tuple(map(int, image.shape))
    if dtype.kind not in "iuf":
        kind = "colors" if dtype.names else f"{dtype}"
        raise UnsuitableError(f"holds {kind}, expected one number per voxel: save one channel")
    written = " x ".join(map(str, shape))
    if any(length > 1 for length in shape[3:]):
        text = f"has {len(shape)} dimensions ({written}), expected 3"
        raise UnsuitableError(f"{text}: save each time or channel as a volume of its own")
    if not shape or min(shape) < 1:
        raise UnsuitableError(f"has no voxels ({written}): export it again")
    columns, rows, slices = (*shape, 1, 1)[:3]
    return columns, rows, slices


def _stored_header(path: Path, image: Any) -> Any:
    """The header as it is in the file: nibabel replaces zero spacings by 1."""
    with gzip.open(path) if _is_packed(path) else path.open("rb") as file:
        return type(image.header).from_fileobj(file, check=False)


def _said_spacing(image: Any, stored: Any) -> list[float]:
    """The spacing in mm beside the affine, of the axes that the array has."""
    return [_unit(image) * abs(float(side)) for side in stored["pixdim"][1 : 1 + min(3, len(image.shape))]]


def _spacing(image: Any, stored: Any, affine: NDArray[np.float64]) -> tuple[float, float, float]:
    said = _said_spacing(image, stored)
    least = 0.0 if stored["sform_code"] > 0 else 1e-12  # an sform needs no spacing beside it
    if not all(least <= side < float("inf") for side in said):
        shown = " x ".join(f"{side:g}" for side in said)
        raise UnsuitableError(f"has the spacing {shown}, expected lengths above 0: write its header again")
    x, y, z = np.linalg.norm(affine[:3, :3], axis=0).tolist()
    return x, y, z


def _codes(affine: NDArray[np.float64]) -> str:
    return "".join(_nibabel().aff2axcodes(affine))


def _doubts(image: Any, stored: Any, spacing: Sequence[float]) -> tuple[str, ...]:
    """What the header contradicts itself in."""
    doubts, said = [], _said_spacing(image, stored)
    if not np.allclose(said, spacing[: len(said)], rtol=_ALIKE, atol=0):
        one, other = (" x ".join(f"{side:.4g}" for side in sides) for sides in (said, spacing))
        doubts.append(f"says a spacing of {one} mm (pixdim), and its affine one of {other} mm, which is used")
    if stored["sform_code"] > 0 and stored["qform_code"] > 0:
        with suppress(ValueError, np.linalg.LinAlgError):  # a broken qform says nothing
            sform, qform = _codes(stored.get_sform()), _codes(stored.get_qform())
            if sform != qform:
                doubts.append(f"is {sform} by its sform, which is used, and {qform} by its qform: viewers differ")
    return tuple(doubts)


def _unit(image: Any) -> float:
    """Millimeters of the unit that the header counts in."""
    return _MM.get(image.header.get_xyzt_units()[0], 1.0)


def _slice_axis(spacing: tuple[float, float, float]) -> int:
    thickest = int(np.argmax(spacing))
    others = max(side for axis, side in enumerate(spacing) if axis != thickest)
    return thickest if spacing[thickest] > _FLATTER * others else 2


def _require_long_enough(file: BinaryIO, path: Path, image: Any, shape: tuple[int, int, int]) -> None:
    """Find files that cannot hold what their headers promise before memory is taken for it."""
    needed = int(np.prod(shape, dtype=object)) * image.get_data_dtype().itemsize + image.dataobj.offset
    stored = file.seek(0, 2)
    if needed > stored * (_DENSEST if _is_packed(path) else 1):
        raise UnsuitableError(f"is too short: its header promises {needed} bytes, the file has {stored}; copy it again")


def _is_packed(path: Path) -> bool:
    return path.suffix.lower() == ".gz"


def _data(path: Path, proxy: Any) -> bytes:
    """The voxels as they are stored; the rest of a compressed file is read as well, since its check sum is there."""
    with gzip.open(path) if _is_packed(path) else path.open("rb") as file:
        file.seek(proxy.offset)
        count = int(np.prod(proxy.shape, dtype=object)) * proxy.dtype.itemsize
        data: bytes = file.read(count)
        if len(data) < count:
            raise EOFError(f"it ends after {len(data)} of {count} bytes of voxels")
        while file.read(_CHUNK):
            pass
    return data
