"""A folder of images with whatever annotations there are."""

import warnings
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import Any, get_args

from lightning.pytorch.utilities import rank_zero_info
from typing_extensions import override

from weakseg_lightning.channels import Channels
from weakseg_lightning.checks import at_least_and_below, one_of
from weakseg_lightning.data.folder.classes import CLASSES_FILE, Classes, read_classes
from weakseg_lightning.data.folder.contents import FolderContents, read_folder
from weakseg_lightning.data.folder.images.channels import FolderChannels
from weakseg_lightning.data.folder.images.guides import guides_folder
from weakseg_lightning.data.folder.images.remarks import remarks
from weakseg_lightning.data.folder.images.volumes import join_slices, require_volumes
from weakseg_lightning.data.folder.labels import DrawnLabels
from weakseg_lightning.data.folder.source import FolderSource
from weakseg_lightning.data.folder.split import choose_split
from weakseg_lightning.data.folder.tables.cases import CaseRule, cases_in_words
from weakseg_lightning.data.held_out import HeldOutDataModule
from weakseg_lightning.data.images.volumes import VolumeReader
from weakseg_lightning.data.samples import BadSampleError, SampleSource
from weakseg_lightning.data.weak_labels import Supervision
from weakseg_lightning.errors import MissingFileError, UserError, first_of
from weakseg_lightning.visualization.panels import Colors

_NAMED_PROBLEMS = 5


class FolderDataModule(HeldOutDataModule):
    """Your own images: a folder with ``images/`` and any of the annotations below, of some or all images.

    `weakseg check FOLDER` reads everything and names what is wrong, `weakseg init FOLDER` writes ``classes.yaml`` and a
    recipe. Images are JPEG, PNG, TIFF, BMP, WebP or JPEG 2000, in color or gray (more than 8 bits are stretched to 8),
    turned upright as their EXIF data say; annotations are of the upright image. The name of an image is its path below
    ``images/``, in the files with or without suffix; two images must not share one. x and y count pixels from the left
    and the top; the first pixel spans 0 to 1. A class is named, or given by its index.

    ==================  =========================================================================================
    file                what it holds
    ==================  =========================================================================================
    ``classes.yaml``    ``classes``: a list of names, background first, or of ``{name: cat, color: "#ff8800"}`` (also
                        ``[255, 136, 0]``), 2 to 255 classes; ``unlabelled``: the value, or the color, of pixels
                        without a label in ``scribbles/`` (255, which is without a label in any case); write 0 where
                        programs do where nothing is drawn, as ITK-SNAP, and ``background: 4``, if 4 is the value that
                        background is drawn as; ``ignore``: labels of tools and tables that mean no class,
                        ``[unsure]``; ``tags``: which of the flags, tags and choices of tools are tags of the image (by
                        default those that name a class; ``[]``: none)
    ``scribbles/``      PNGs of the names and sizes of the images: indexed or gray of 1 to 16 bits, stored value =
                        class; or in the colors of ``classes.yaml``; transparent = no label
    ``accepted/``       the same: labels of `weakseg paint` that were accepted there
    ``masks/``          the same with a class for every pixel, 255 = void
    ``points.csv``      ``image,x,y,class``: one click per row
    ``boxes.csv``       ``image,x1,y1,x2,y2,class``: one box per row, left, top, right, bottom
    ``tags.csv``        ``image,class``: one class of the image per row, or several with ``|`` between them; an empty
                        class for an image of background alone
    ``sizes.csv``       ``image,class,size``: the fraction of the image that a class covers (``0.15`` or ``15%``), or
                        ``small`` or ``large``: of the first or the last of the ``size_thresholds``' buckets
    ``cases.csv``       ``image,case``: the images that are slices of one case, such as a patient's volume, in the order
                        of their names, or of a column ``slice``; columns ``spacing_z``, ``spacing_y``, ``spacing_x``:
                        distances of slices, rows and columns in mm
    LabelMe             its JSON files next to the images or in ``annotations/``
    CVAT                ``annotations.xml`` ("CVAT for images 1.1"), here or in ``annotations/``
    Label Studio        its JSON export, here or in ``annotations/``
    ==================  =========================================================================================

    Of annotation tools, lines are scribbles, points clicks, rectangles boxes, image labels tags; polygons, ellipses and
    brushes together are the mask of an image: what they leave is background, unless a line, point, box or tag says that
    it shows more; then they make no mask, but boxes of their own beside those that are drawn. Boxes are not trained
    from where a line, point or tag says that they leave more than background. Labels are names, in any case; a label
    that ``ignore`` lists takes away what lies below it. Flags, tags and choices that name no class are attributes and
    left out. Tags are all classes that anything says are in the image. CSV files may have semicolons or tabs in place
    of commas.

    Accepted labels are a prediction that somebody agreed with, not an annotation. They are seeds of ``supervision:
    scribble`` beneath scribbles, lines and clicks, which cover them; every other supervision leaves them aside, and
    validation never sees them.

    A file is about the image whose path it gives, as seen from ``images/`` or from the file itself, never about another
    of the same name; a file of LabelMe beside an image is about that one, unless its path leads into another folder.
    The folders of another computer or of a server are left out where only one image has the name. Two sources for one
    image are an error, as are two images that one source could mean.

    Images with a mask can be held out for validation: a seeded fraction of them, which depends on their names alone,
    and first those that have no other annotation to train from. Without any mask there is no validation.

    Images may be volumes, ``images/NAME.nii.gz`` or ``.nii`` (NIfTI, `pip install ".[volumes]"`), in a folder that has
    no others; so are their ``scribbles/`` and ``masks/``, of the same names, shapes and affines, with class indices.
    Slices are the images, ``NAME_slice_0`` and so on, with the rows and columns of the array (columns run along the
    first of the other two axes), and train as images do: those that have annotations, which may also be PNGs and tables
    by these names. A volume is a case, with the spacing of its header. Volumes of other types than uint8 are stretched
    to 8 bits between their percentiles 0.1 and 99.9; ``channels: [ct]`` keeps their values, on one scale for all, and
    ``{t1: NAME_t1.nii.gz, t2: NAME_t2.nii.gz}`` reads several of one patient. Each volume is decoded once, into the
    folder of temporary files (``TMPDIR``), from which slices are read. Lists of images may name volumes. `weakseg
    predict` writes labels as volumes in the space of the images.

    Where cases are known, every image with a mask is in one. They are held out as wholes, and validation and test score
    them in 3-D, see :class:`weakseg_lightning.metrics.CaseScores`. To hold out patients of several cases each, list
    their images for validation.

    Args:
        root: the folder.
        supervision: labels of the training images, which are those that have them: ``scribble``: scribbles, clicks and
            accepted labels; ``point``: clicks alone; ``box``: boxes, background outside; ``tags``: no pixel, only which
            classes there are; ``full``: masks.
        val_fraction: fraction of the images with masks that is held out for validation, 0 to 1, one image at least; 0
            for no validation.
        split_seed: draws them; apart from ``seed``, so that runs with other seeds stay comparable.
        train_list: text file with the names of the training images, one name per line; by default all that are not held
            out.
        val_list: the same for validation, in place of ``val_fraction``.
        guides: folder, seen from ``root``, of a map of regions or boundaries for each training image, for methods whose
            :class:`weakseg_lightning.GridPotts` has ``edges: regions`` or ``boundaries``: PNGs of the names and sizes
            of the images, gray of 1 to 16 bits (the value is the number of the region), or in colors (a color is a
            region); 0 or black is no boundary. `weakseg superpixels FOLDER` makes such maps. They are augmented with
            their images, by the nearest pixel: draw boundaries two pixels wide where ``scale_range`` halves images.
        cases: how names tell cases, in place of ``cases.csv``: a regular expression that the whole name of an image
            matches, with the case in its first parentheses: ``(.+)_slice_[0-9]+``, or ``(.+)/.+`` for a folder per
            case. The slices are in the order of their names, 10 after 9.
        spacing: distances of neighboring slices, rows and columns in mm, where ``cases.csv`` does not say them.
        channels: names the channels of images that are more than gray or RGB of 8 bits: a list of the names of all
            bands of their files, or, by name, the number of a band, from 1, or the pattern of another file beside the
            image's, as ``{red: 1, nir: NAME_nir.tif}``. Bands, planes and pages of TIFF and ``.npy`` are read at their
            depth, and brought to 0..1 between the percentiles 1 and 99 of the training images, without cutting off
            what lies beyond; networks take off their mean.
        guide: the channels that Potts weights, lattices, GrabCut and pictures see in place of red, green and blue:
            three, or one; by default these or else the first three. What exceeds 0..1 is cut off for them.
        slice_axis: the axis of the volumes' arrays along which slices are counted, 0, 1 or 2; by default in each volume
            that of the largest spacing, where it is a fifth larger than the others, or else the last.
        neighbors: slices of a volume before and after each one that are channels of its image, too, in the order of the
            volume; at its ends the last one stands for those beyond. Pairwise terms see the slice itself alone.
        base: those of :class:`SegmentationDataModule`.

    Raises:
        ValueError: if an argument is out of range.
    """

    _held_out_unit = "image"

    def __init__(
        self,
        root: str | Path,
        supervision: Supervision = "scribble",
        val_fraction: float = 0.2,
        split_seed: int = 0,
        train_list: str | Path | None = None,
        val_list: str | Path | None = None,
        guides: str | Path | None = None,
        cases: str | None = None,
        spacing: tuple[float, float, float] = (1.0, 1.0, 1.0),
        channels: dict[str, int | str] | list[str] | None = None,
        guide: list[str] | None = None,
        slice_axis: int | None = None,
        neighbors: int = 0,
        **base: Any,
    ) -> None:
        super().__init__(**base)
        at_least_and_below("val_fraction", val_fraction, 0, 1)
        one_of("supervision", supervision, get_args(Supervision))
        self.root = root
        self.supervision = supervision
        self.val_fraction = val_fraction
        self.split_seed = split_seed
        self.train_list = train_list
        self.val_list = val_list
        self.guides = guides
        self.cases = cases
        self.spacing = spacing
        self.guide = guide
        self.slice_axis = slice_axis
        self.neighbors = neighbors
        self._rule = CaseRule(cases, spacing)
        self._named = FolderChannels.of(channels, neighbors, guide)
        self.volumes = VolumeReader(slice_axis, neighbors, None if self._named is None else self._named.files)
        self._statistics: Channels | None = None
        if self._named is not None:
            self._rgb = self._named.rgb(self.color_jitter)

    @property
    @override
    def class_names(self) -> list[str]:
        """Names of the classes in ``classes.yaml``, background first."""
        return list(self._classes.names)

    @property
    @override
    def palette(self) -> Colors:
        """Colors of ``classes.yaml``, or those of PASCAL VOC."""
        return self._classes.palette

    @property
    @override
    def has_cases(self) -> bool:
        return any(name in self._contents.cases for name in self._split[1])

    @property
    @override
    def has_guides(self) -> bool:
        return self.guides is not None

    @property
    @override
    def has_channels(self) -> bool:
        return self._named is not None

    @property
    @override
    def channels(self) -> Channels | None:
        """The channels and their statistics: those of a checkpoint that were set, or else of the training images."""
        if self._statistics is None and self._named is not None:
            self._statistics = self._named.measure(self._contents, self._split[0])
        return self._statistics

    @channels.setter
    def channels(self, channels: Channels) -> None:
        if self._named is None or self._named.names != channels.names:
            here = "RGB" if self._named is None else ", ".join(self._named.names)
            raise UserError(
                f"the weights were trained on the channels {', '.join(channels.names)}, the data here have {here}: set "
                "`channels` of the data to these"
            )
        if channels != self._statistics:
            self._statistics = channels
            self._sources.clear()

    @override
    def train_source(self) -> FolderSource:
        """Find the training images."""
        guides_folder(self._folder, self.guides)  # raises where there is none: training alone needs it
        names, _ = self._split
        rank_zero_info(f"{self.root}: {len(names)} training images, supervision: {self.supervision}")
        for note in (*self._contents.notes, *remarks(self._contents)):
            rank_zero_info(f"{self.root}: {note}")
        if self.tags_from == "crop" and (bare := [name for name in names if not self._contents.has_mask(name)]):
            raise UserError(f"`tags_from: crop` needs a mask of every training image, {bare[0]!r} has none")
        return FolderSource(self._contents, names, self.supervision, self.channels)

    @override
    def val_source(self) -> FolderSource:
        """Find the images that are held out; they have masks and no seeds."""
        _, names = self._split
        if not names:
            rank_zero_info(f"{self.root}: no image with a mask is held out, so that there is no validation")
        if slices := [self._contents.cases[name] for name in names if name in self._contents.cases]:
            rank_zero_info(f"{self.root}: validation scores {cases_in_words(slices)}")
        return FolderSource(self._contents, names, None, self.channels)

    @override
    def predict_source(self) -> SampleSource:
        """Find all images, with or without annotations."""
        return FolderSource(self._contents, list(self._contents.images), None, self.channels)

    def drawn(self) -> DrawnLabels:
        """Labels drawn on the images, by their files."""
        return DrawnLabels(self._contents)

    def join_predictions(self, folder: Path, stem: Callable[[str], str]) -> None:
        """Join label maps of the slices of volumes, which `weakseg predict` has written, see :func:`join_slices`."""
        join_slices(self._contents, folder, stem)

    # ---- inside ---------------------------------------------------------------------------------------------

    @cached_property
    def _folder(self) -> Path:
        folder = Path(self.root).expanduser().absolute()
        if not folder.is_dir():
            raise MissingFileError(f"`root`: there is no folder {self.root} (working directory: {Path.cwd()})")
        return folder

    @cached_property
    def _classes(self) -> Classes:
        path = self._folder / CLASSES_FILE
        if not path.is_file():
            raise MissingFileError(f"no {CLASSES_FILE} in {self.root}: `weakseg init {self.root}` writes one")
        return read_classes(path)

    @cached_property
    def _contents(self) -> FolderContents:
        _ = self._classes  # raises at what is missing or wrong
        guides = None if self.guides is None else self._folder / Path(self.guides).expanduser()
        used = guides if guides is not None and guides.is_dir() else None
        contents = read_folder(self._folder, used, self._rule, self.volumes.channels, self.volumes)
        require_volumes(contents, self.neighbors, self.slice_axis)
        # When bad files are skipped, problems of images are told, and left out, with their images.
        skipping = self.on_bad_sample == "skip"
        found = [str(problem) for problem in contents.problems if problem.image is None or not skipping]
        if found:
            report = f"{self.root}: {first_of(found, _NAMED_PROBLEMS)}"
            if not skipping:
                raise BadSampleError(f"{report} (`weakseg check {self.root}` names all)")
            warnings.warn(f"skipping in {report}", stacklevel=2)
        return contents

    @cached_property
    def _split(self) -> tuple[list[str], list[str]]:
        """Ids of the training and of the validation images."""
        lists = self.train_list, self.val_list
        return choose_split(self._contents, self.root, self.supervision, self.val_fraction, self.split_seed, *lists)
