"""Results of one annotation of Label Studio: shapes, their labels, and what is said of the whole image."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from weakseg_lightning.data.folder.annotations import Annotation, LeftOut, Problem, Reading
from weakseg_lightning.data.folder.classes import normal
from weakseg_lightning.data.folder.names import ImageRef
from weakseg_lightning.data.folder.tools.label_studio_images import TaskImages, UnknownImageError
from weakseg_lightning.data.folder.tools.label_studio_shapes import SHAPES, geometry_of, read_shape, shape_of
from weakseg_lightning.data.folder.tools.shapes import ShapeError, Size, explaining, stated_size

Json = Mapping[str, Any]

SizeOf = Callable[[ImageRef], Size | None]
"""Width and height of an image; None if it is not there, or broken."""

_ABOUT_IMAGES = ("textarea", "rating", "number", "datetime", "taxonomy", "pairwise", "ranker", "relation", "chat")
_OTHER_MEDIA = ("hypertext", "paragraph", "timeseries", "timeline")


def _kind(result: Any) -> str:
    return str(result.get("type")) if isinstance(result, dict) else ""


def _value(result: Json) -> Json:
    value = result.get("value")
    return value if isinstance(value, dict) else {}


def is_shape(result: Any) -> bool:
    """Recognize a shape on an image, and the label of one."""
    return _kind(result).removesuffix("labels") in (*SHAPES, "") and _kind(result) != ""


@dataclass
class _Region:
    """A shape, with all that is said about it."""

    result: Json
    shape: dict[str, Any]
    kind: str = ""
    labels: list[str] = field(default_factory=list)
    size: Size | None = None

    def add(self, result: Json) -> None:
        """Take what a further result of the region says."""
        kind, value = _kind(result), _value(result)
        self.kind = self.kind or (kind.removesuffix("labels") if kind != "labels" else "")
        self.labels += [label for key in value if key.endswith("labels") for label in _labels(value[key])]
        self.size = stated_size(result.get("original_width"), result.get("original_height")) or self.size


class AnnotationReader:
    """Reads the results of one annotation.

    Args:
        images: the images of its task.
        file: path of the file, for messages.
        size_of: width and height of an image; for results that do not state them.
    """

    def __init__(self, images: TaskImages, file: str, size_of: SizeOf) -> None:
        self.images = images
        self.file = file
        self.size_of = size_of
        self.regions: list[_Region] = []
        self.by_id: dict[str, list[_Region]] = {}

    def read(self, results: Sequence[Any], objects: Sequence[Json]) -> Iterator[Reading]:
        """Read all results, the regions after what is said about the whole image."""
        if not results:
            yield from self._read_nothing(objects)
        for read in (self._add, self._read_other):
            for result in results:
                yield from explaining(partial(read, result), "Label Studio", partial(self._problem, result))
        for region in self.regions:
            problem = partial(self._problem, region.result)
            yield from explaining(partial(self._read_region, region), "Label Studio", problem)

    def _read_nothing(self, objects: Sequence[Json]) -> Iterator[Reading]:
        """The annotator saw the images of the task and found nothing."""
        try:
            for image, entry in self.images.every(objects):
                yield Annotation("nothing", image, "", self.file, entry, entry=entry)
        except UnknownImageError as error:
            yield LeftOut(
                self.file, "empty annotations of an image that cannot be known", f"{self.images.entry} {error}"
            )

    # ---- results ----------------------------------------------------------------------------------------------

    def _add(self, result: Any) -> Iterable[Reading]:
        """Put a shape to the region that has its id and its shape, or begin a region."""
        if not is_shape(result) or not (shape := geometry_of(_value(result))):
            return ()
        name = str(result.get("id") or "")
        same = [region for region in self.by_id.get(name, ()) if region.shape == shape]
        region = same[0] if same and name else _Region(result, shape)
        if not same or not name:
            self.regions.append(region)
            self.by_id.setdefault(name, []).append(region)
        region.add(result)
        return ()

    def _read_other(self, result: Json) -> Iterator[Reading]:
        """Read what has no shape of its own."""
        kind, value = str(result["type"]), _value(result)
        if kind in _ABOUT_IMAGES:
            yield LeftOut(self.file, _plural(kind), self._where(result))
        elif kind == "choices":
            yield from self._read_choices(result, value)
        elif kind.startswith("video"):
            raise ShapeError("is on a video, which is not read: label its frames as images")
        elif kind.removesuffix("labels") in _OTHER_MEDIA or (kind == "labels" and ("start" in value or "end" in value)):
            yield LeftOut(self.file, "labels of texts, sounds and videos", self._where(result))
        elif not is_shape(result):
            raise ShapeError("is of a type that is not read: draw it as a polygon or a brush")
        elif not geometry_of(value):
            self._join(result)

    def _join(self, result: Json) -> None:
        """Put labels without a shape to the one region that has their id."""
        regions = self._named(result)
        if len(regions) != 1 or not any(key.endswith("labels") for key in _value(result)):
            raise ValueError("it has no shape")
        regions[0].add(result)

    def _named(self, result: Json) -> list[_Region]:
        """The regions with the id of a result; more than one where a program wrote one id for all."""
        return self.by_id.get(str(result["id"]), []) if result.get("id") else []

    def _read_choices(self, result: Json, value: Json) -> Iterator[Reading]:
        if result.get("parentID") or geometry_of(value) or len(self._named(result)) == 1:
            yield LeftOut(self.file, "choices of regions", self._where(result))
        elif self.images.is_of_other_data(result):
            yield LeftOut(self.file, "choices about other data than images", self._where(result))
        else:
            try:
                image, entry = self.images.find(result)
            except UnknownImageError:
                yield LeftOut(self.file, "choices of tasks with several images", self._where(result))
                return
            tag = partial(
                Annotation, "tag", image, file=self.file, where=self._where(result), entry=entry, optional=True
            )
            for label in _labels(value["choices"]):
                yield tag(label=label)

    # ---- regions ----------------------------------------------------------------------------------------------

    def _read_region(self, region: _Region) -> Iterator[Reading]:
        result = region.result
        image, entry = self.images.find(result)
        label = _label(region)
        # Of an image that is not there, or broken, this is told: then the size does not matter.
        size = region.size or self.size_of(image) or (100, 100)
        annotation = partial(
            Annotation,
            image=image,
            label=label,
            file=self.file,
            where=self._where(result),
            stated=region.size,
            entry=entry,
        )
        yield from list(read_shape(region.kind or shape_of(region.shape), region.shape, size, annotation))

    def _where(self, result: Any) -> str:
        name = f" {result['id']}" if isinstance(result, dict) and result.get("id") else ""
        return f"{self.images.entry}, result{name} ({_kind(result) or 'of no type'})"

    def _problem(self, result: Any, fault: str) -> Problem:
        try:
            image = self.images.find(result)[0]
        except Exception:
            image = None
        return Problem(self.file, f"{self._where(result)} {fault}", about=image)


def _labels(given: Any) -> list[str]:
    """Labels of a result: a list, or one; those of nested choices are lists from the outermost to the chosen one."""
    labels = given if isinstance(given, list) else [] if given is None else [given]
    return [_text(label) for one in labels for label in (one if isinstance(one, list) else [one])]


def _text(label: object) -> str:
    """A label; numbers are names, what is neither text nor number is none."""
    return str(label) if isinstance(label, str | int | float) and not isinstance(label, bool) else ""


def _label(region: _Region) -> str:
    """The one label of a region.

    Raises:
        ShapeError: if there is none, or several, or if the image was turned, which shapes do not follow.
    """
    labels = {normal(label): label for label in region.labels if label.strip()}
    if not labels:
        raise ShapeError("has no label: give it one, or remove it")
    if len(labels) > 1:
        names = ", ".join(map(repr, labels.values()))
        raise ShapeError(f"has {len(labels)} labels ({names}), but a pixel has one class: leave it one of them")
    if float(region.result.get("image_rotation") or 0) % 360:
        raise ShapeError("is on an image that was turned in Label Studio: turn it back there")
    return next(filter(str.strip, region.labels))


def _plural(kind: str) -> str:
    return {"taxonomy": "taxonomies", "textarea": "texts", "chat": "chats", "datetime": "dates"}.get(kind, f"{kind}s")
