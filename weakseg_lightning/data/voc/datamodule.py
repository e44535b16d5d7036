"""PASCAL VOC 2012 with SBD, and its weak annotations: scribbles, clicks, boxes, tags."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, get_args

import torch
from lightning.pytorch.utilities import rank_zero_info
from typing_extensions import override

from weakseg_lightning.checks import between, one_of
from weakseg_lightning.data.base import SegmentationDataModule
from weakseg_lightning.data.images.reading import image_size, read_image
from weakseg_lightning.data.samples import BadSampleError, Sample, SampleSource, present_labels
from weakseg_lightning.data.voc.files import VOCFiles, download_sbd, download_voc, read_mask
from weakseg_lightning.data.voc.seeds import (
    ClickSeeds,
    MaskSeeds,
    PNGScribbles,
    SeedReader,
    XMLScribbles,
    find_size_problem,
)
from weakseg_lightning.data.weak_labels import Supervision, boxes_from_mask, read_clicks
from weakseg_lightning.energies.potts import VOID
from weakseg_lightning.errors import MissingFileError

__all__ = ["VOC_CLASSES", "VOCDataModule", "VOCSource", "scribble_folder_name"]

VOC_CLASSES = (
    *("background", "aeroplane", "bicycle", "bird", "boat", "bottle", "bus"),
    *("car", "cat", "chair", "cow", "diningtable", "dog", "horse"),
    *("motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor"),
)
"""Names of the 21 classes, in the order of their indices."""

TrainSplit = Literal["train", "train_aug"]
ScribbleFormat = Literal["png", "xml"]

_WHOLE_SCRIBBLES = "pascal_2012_scribble"
_CLICK_FILES = ("voc_whats_the_point.json", "voc_whats_the_point_bg_from_scribbles.json")
_CLICK_ORIGIN = "https://github.com/abearman/whats-the-point1"
_SCRIBBLE_ORIGIN = "https://jifengdai.org/downloads/scribble_sup"


def scribble_folder_name(length: float) -> str:
    """Name of the folder in ``VOC2012`` that holds scribbles of a length as PNG, as their authors call it.

    Example:
        >>> scribble_folder_name(1.0), scribble_folder_name(0.5), scribble_folder_name(0)
        ('pascal_2012_scribble', 'pascal_2012_scribble0.5', 'pascal_2012_scribble0')
    """
    return _WHOLE_SCRIBBLES if length == 1 else f"{_WHOLE_SCRIBBLES}{length:g}"


@dataclass(frozen=True)
class VOCSource(SampleSource):
    """Images of VOC with their masks and seeds.

    Args:
        files: the files of the data set.
        names: names of the images.
        seeds: reads the seeds.
        with_boxes: derive boxes from the masks.
        need_masks: whether an image without a mask is an error; otherwise it has neither mask nor seeds, and its tags
            say background alone.
    """

    files: VOCFiles
    names: Sequence[str]
    seeds: SeedReader
    with_boxes: bool = False
    need_masks: bool = True

    @property
    @override
    def ids(self) -> Sequence[str]:
        return self.names

    @override
    def __getitem__(self, index: int) -> Sample:
        image = read_image(self.files.image(name := self.names[index]))
        if self._lacks_mask(name):
            nothing = torch.full(image.shape[1:], VOID, dtype=torch.uint8)
            return Sample(name, image, nothing, None, present_labels(nothing, len(VOC_CLASSES)))
        return replace(self.labels(index), image=image)

    @override
    def labels(self, index: int) -> Sample:
        name = self.names[index]
        mask = read_mask(self.files.mask(name))
        return Sample(
            id=name,
            image=torch.empty(3, *mask.shape, dtype=torch.uint8, device="meta"),
            seeds=self.seeds.read(name, mask),
            mask=mask,
            tags=present_labels(mask, len(VOC_CLASSES)),
            boxes=boxes_from_mask(mask) if self.with_boxes else None,
        )

    @override
    def origin(self, index: int, what: Literal["image", "seeds", "mask"]) -> str:
        name = self.names[index]
        if what == "seeds":
            return self.seeds.origin(name)
        return str(self.files.image(name) if what == "image" else self.files.mask(name))

    @override
    def find_problems(self) -> dict[int, str]:
        found = {index: self._find_problem(name) for index, name in enumerate(self.names)}
        return {index: problem for index, problem in found.items() if problem is not None}

    def _find_problem(self, name: str) -> str | None:
        try:
            size = image_size(self.files.image(name))
        except BadSampleError as error:
            return str(error)
        if self._lacks_mask(name):
            return None
        mask = self.files.mask(name)
        # The size of a MAT file's mask is known only after unpacking it: that waits until it is read.
        problem = None if mask.suffix == ".mat" else find_size_problem(mask, size)
        return problem or self.seeds.find_problem(name, size)

    def _lacks_mask(self, name: str) -> bool:
        return not self.need_masks and not self.files.mask(name).is_file()


class VOCDataModule(SegmentationDataModule):
    """PASCAL VOC 2012: 21 classes, 1,464 training images or 10,582 with those of SBD, 1,449 validation images.

    Tags and boxes are derived from the masks (a box for every connected part of an object). Validation images have no
    seeds.

    Args:
        root: folder that holds ``VOCdevkit/VOC2012`` (or ``VOC2012``, or the folder ``VOC2012`` itself).
        train_split: ``train``, or ``train_aug``: ``ImageSets/SegmentationAug/train.txt`` if it is there, otherwise VOC
            train and all of SBD without VOC val; masks from ``SegmentationClass``, ``SegmentationClassAug``, or SBD's
            ``benchmark_RELEASE/dataset/cls``.
        val_split: list in ``ImageSets/Segmentation`` of the images for validation and test.
        predict_split: list there of the images for prediction, ``test`` for those of VOC's evaluation server (fetched
            by hand from its site); masks may be missing. None takes ``val_split``.
        supervision: labels of the training images: the ``full`` masks; ``scribble``; ``point``: clicks;
            ``box``: background outside all boxes; ``tags``: no pixel, only which classes there are.
        scribble_length: relative length of the scribbles, 0 (a click) to 1.
        scribble_format: ``png``: label maps, a folder for each length, or the folder of length 1, whose strokes are
            then shortened when an image is read; ``xml``: the polylines of ScribbleSup, which are cut to any length.
        scribble_dir: folder of the scribbles, by default ``pascal_2012_scribble``, followed by the length if that is
            not 1, in ``VOC2012`` (PNG), or ``scribble_annotation/pascal_2012`` in ``root`` or ``VOC2012`` (XML). PNGs
            in a folder that is given here are taken as they are, whatever the length.
        points_files: JSON files of clicks, by default those of What's the Point and its background points, in
            ``root``, ``root/points`` or ``VOC2012``.
        download: fetch VOC, and SBD for ``train_aug``, where they are missing (2 and 1.4 GB). Scribbles and clicks
            have to be fetched by hand.
        base: those of :class:`SegmentationDataModule`.

    References:
        Everingham et al., The PASCAL Visual Object Classes Challenge, IJCV 2010. Hariharan et al., Semantic Contours
        from Inverse Detectors, ICCV 2011 (SBD). Lin et al., ScribbleSup, CVPR 2016. Bearman et al., What's the Point,
        ECCV 2016.
    """

    def __init__(
        self,
        root: str | Path = "datasets",
        train_split: TrainSplit = "train_aug",
        val_split: str = "val",
        predict_split: str | None = None,
        supervision: Supervision = "scribble",
        scribble_length: float = 1.0,
        scribble_format: ScribbleFormat = "png",
        scribble_dir: str | Path | None = None,
        points_files: list[str] | None = None,
        download: bool = False,
        **base: Any,
    ) -> None:
        super().__init__(**base)
        between("scribble_length", scribble_length, 0, 1)
        one_of("supervision", supervision, get_args(Supervision))
        one_of("train_split", train_split, get_args(TrainSplit))
        one_of("scribble_format", scribble_format, get_args(ScribbleFormat))
        self.root = root
        self.train_split = train_split
        self.val_split = val_split
        self.predict_split = predict_split
        self.supervision = supervision
        self.scribble_length = scribble_length
        self.scribble_format = scribble_format
        self.scribble_dir = scribble_dir
        self.points_files = points_files
        self.download = download

    @property
    @override
    def class_names(self) -> list[str]:
        """Names of the 21 classes, background first."""
        return list(VOC_CLASSES)

    @property
    def files(self) -> VOCFiles:
        """The files of the data set."""
        return VOCFiles(Path(self.root).absolute())

    @override
    def prepare_data(self) -> None:
        """Fetch what is missing, if ``download`` is set."""
        if not self.download:
            return
        root = Path(self.root).absolute()
        if self.files.lacks_voc():
            download_voc(root)
        if self.train_split == "train_aug" and self.files.missing("train_aug"):
            download_sbd(root)

    @override
    def train_source(self) -> VOCSource:
        """Find the training images and their annotations."""
        # One message for all that is missing, also for validation: it has to be fetched before anything runs.
        missing = self.files.missing(self.train_split, self.val_split)
        _require_complete(missing + self._missing_annotations(), self.files)
        names = self.files.names(self.train_split)
        rank_zero_info(f"VOC 2012 {self.train_split}: {len(names)} images, supervision: {self.supervision}")
        return VOCSource(self.files, names, self._seed_reader(), with_boxes=self.supervision == "box")

    @override
    def val_source(self) -> VOCSource:
        """Find the validation images; they have no seeds."""
        _require_complete(self.files.missing(self.val_split), self.files)
        return VOCSource(self.files, self.files.names(self.val_split), MaskSeeds("tags"))

    @override
    def predict_source(self) -> SampleSource:
        """Find the images to predict, with or without masks."""
        if self.predict_split is None:
            return self.test_source()
        names = self.files.image_names(self.predict_split)
        return VOCSource(self.files, names, MaskSeeds("tags"), need_masks=False)

    # ---- annotations ----------------------------------------------------------------------------------------

    def _seed_reader(self) -> SeedReader:
        if self.supervision == "scribble":
            if self.scribble_format == "png":
                return self._png_scribbles()
            return XMLScribbles(self._scribble_folder(), VOC_CLASSES, self.scribble_length)
        if self.supervision == "point":
            paths = self._click_files()
            return ClickSeeds(read_clicks(paths), " and ".join(map(str, paths)))
        return MaskSeeds(self.supervision)

    def _png_scribbles(self) -> PNGScribbles:
        folder = self._scribble_folder()
        if folder != (whole := self.files.folder / _WHOLE_SCRIBBLES) or self.scribble_dir is not None:
            return PNGScribbles(folder)
        if self.scribble_length < 1:
            shown = self.files.shown(whole)
            rank_zero_info(f"no ready scribbles of length {self.scribble_length:g}: those in {shown} are shortened")
        return PNGScribbles(folder, self.scribble_length)

    def _missing_annotations(self) -> list[str]:
        shown = self.files.shown
        if self.supervision == "scribble" and not (folder := self._scribble_folder()).is_dir():
            archive = "pascal_2012_scribble.zip" if self.scribble_format == "png" else "scribble_annotation.zip"
            return [f"scribbles (no {shown(folder)}{self._other_lengths(folder)}; {archive}, see {_SCRIBBLE_ORIGIN})"]
        if self.supervision == "point" and (absent := [p for p in self._click_files() if not p.is_file()]):
            return [f"clicks (no {', '.join(map(shown, absent))}; see {_CLICK_ORIGIN})"]
        return []

    def _scribble_folder(self) -> Path:
        if self.scribble_dir is not None:
            return Path(self.scribble_dir).absolute()
        folder = self.files.folder
        if self.scribble_format == "png":
            ready, whole = folder / scribble_folder_name(self.scribble_length), folder / _WHOLE_SCRIBBLES
            return ready if ready.is_dir() or not whole.is_dir() else whole
        places = [base / "scribble_annotation" / "pascal_2012" for base in (self.files.root, folder)]
        return next((place for place in places if place.is_dir()), places[0])

    def _other_lengths(self, folder: Path) -> str:
        if self.scribble_format == "xml" or self.scribble_dir is not None:
            return ""
        found = [path.name for path in sorted(folder.parent.glob("pascal_2012_scribble*")) if path.is_dir()]
        return f", found {', '.join(found)}" if found else ""

    def _click_files(self) -> list[Path]:
        if self.points_files is not None:
            return [Path(path).absolute() for path in self.points_files]
        places = [self.files.root / "points", self.files.root, self.files.folder]
        place = next((place for place in places if (place / _CLICK_FILES[0]).is_file()), places[0])
        return [place / name for name in _CLICK_FILES]


def _require_complete(missing: list[str], files: VOCFiles) -> None:
    """Stop if anything is missing, with one message that shows the ways out."""
    if missing:
        raise MissingFileError(
            f"PASCAL VOC 2012 is not complete in {files.root} (`data.root`); missing: {'; '.join(missing)}. "
            "`--data.download true` fetches VOC and SBD, scribbles and clicks are to be put there by hand. "
            "Without a download, on generated scenes: add `--config recipes/data/scenes.yaml`."
        )
