"""The image and the class that each annotation of a folder is about."""

import re
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import replace

from weakseg_lightning.data.folder.annotations import Annotation, LabeledAnnotation, LeftOut, Problem, Reading
from weakseg_lightning.data.folder.classes import Classes
from weakseg_lightning.data.folder.files import hint_at
from weakseg_lightning.data.folder.names import ImageNames
from weakseg_lightning.data.folder.tables.annotations import SEVERAL
from weakseg_lightning.energies.potts import VOID

__all__ = ["Assignment"]

_SHOWN_CLASSES = 8
_NO_LABEL = "has no label: give it one, or remove it"


class Assignment:
    """Gives each annotation to its image and its class, and keeps what is wrong or worth knowing.

    Args:
        images: ids of the images.
        classes: the classes.
    """

    def __init__(self, images: Iterable[str], classes: Classes) -> None:
        self.names = ImageNames(images)
        self.classes = classes
        self.annotations: dict[str, list[LabeledAnnotation]] = {}
        self.problems: list[Problem] = []
        self._told: dict[str, Counter[str]] = {}
        self._spellings: dict[int, dict[str, None]] = {}
        self._tables: dict[str, dict[str, Annotation]] = {}
        self._entries: dict[str, dict[tuple[str, str], Annotation]] = {}
        self._empty: list[tuple[str, LeftOut]] = []

    def add(self, reading: Reading) -> None:
        """Take what a reader found."""
        if isinstance(reading, LeftOut):
            example = f"{reading.example} in {reading.file}" if reading.example else reading.file
            self._tell(f"left out: {reading.kind}", example)
            if reading.about is not None and (name := self.names.find(reading.about).name) is not None:
                self._empty.append((name, reading))
        elif isinstance(reading, Problem):
            known = None if reading.about is None else self.names.find(reading.about).name
            self.problems.append(reading if known is None else replace(reading, image=known))
        else:
            self._add_annotation(reading)

    def notes(self) -> Iterator[str]:
        """Say what is left out or read in a way that one should know, a line for each kind, with a count."""
        for kind, examples in self._told.items():
            yield f"{kind} ({examples.total()}), as {next(iter(examples))}"
        for label, spellings in self._spellings.items():
            if len(spellings) > 1 and label != VOID:
                yield f"read as one class: {', '.join(map(repr, spellings))}"

    def conflicts(self) -> Iterator[Problem]:
        """Find images that two sources are about, of which one must be about another."""
        for name, empty in self._empty:
            if others := [
                annotation for (file, _), annotation in self._entries.get(name, {}).items() if file == empty.file
            ]:
                text = f"is about {name}, as {_source(others[0])} is: two images need two files; rename one"
                yield Problem(empty.file, f"{empty.entry} {text}", name)
        for name, entries in self._entries.items():
            first, *others = entries.values()
            for other in others:
                text = f"is about {name}, as {_source(first)} is: each image has one source; rename or remove one"
                yield Problem(other.file, f"{other.entry} {text}".strip(), name)
        for name, rows in self._tables.items():
            first, *others = rows.values()
            for other in others:
                text = f"means {name} by {other.image.given!r}, {_source(first)} by {first.image.given!r}"
                yield other.problem(f"{text}: write one path below images/ for one image", name)

    # ---- inside ---------------------------------------------------------------------------------------------

    def _add_annotation(self, annotation: Annotation) -> None:
        found = self.names.find(annotation.image)
        if found.name is None:
            last = annotation.image.key.rsplit("/", 1)[-1]
            hint = "" if found.several else hint_at(last, dict.fromkeys(self.names.exact))
            self.problems.append(annotation.problem(f"{found.fault}{hint}"))
            return
        if found.note:
            self._told.setdefault("images of another name", Counter())[f"{_source(annotation)} {found.note}"] = 1
        if annotation.by_index:
            self._tables.setdefault(found.name, {}).setdefault(annotation.image.key, annotation)
        else:
            self._entries.setdefault(found.name, {}).setdefault((annotation.file, annotation.entry), annotation)
        self._label(annotation, found.name)

    def _label(self, annotation: Annotation, name: str) -> None:
        if annotation.kind == "nothing" or (annotation.kind == "tag" and not annotation.label and annotation.by_index):
            self.annotations.setdefault(name, []).append(LabeledAnnotation(annotation, None))
            return
        if not annotation.label.strip() and not annotation.by_index:
            self.problems.append(annotation.problem(_NO_LABEL, name))
            return
        if annotation.optional and not self.classes.is_tag(annotation.label):
            self._tell(
                "left out: flags, tags and choices that name no class", f"{annotation.label!r} in {annotation.file}"
            )
            return
        label = self._class_of(annotation)
        if label is None:
            text = self._several(annotation) or self._unknown(annotation.label)
            self.problems.append(annotation.problem(text, name))
        elif label == VOID and annotation.kind in ("tag", "size", "click"):
            self._tell("left out: tags, sizes and points that are void", f"{annotation.label!r} in {annotation.file}")
        else:
            self.annotations.setdefault(name, []).append(LabeledAnnotation(annotation, label))

    def _class_of(self, annotation: Annotation) -> int | None:
        if (label := self.classes.find_name(annotation.label)) is not None:
            self._spellings.setdefault(label, {}).setdefault(annotation.label.strip())
            return label
        if annotation.meaning is not None:
            return annotation.meaning
        if (label := self.classes.find(annotation.label)) is None or (
            self.classes.have_numerals and not annotation.by_index
        ):
            return None
        if not annotation.by_index or self.classes.have_numerals:
            example = f"{annotation.label!r} is {self.classes.names[label]}, in {annotation.file}"
            self._tell("labels that are no names, read as indices", example)
        return label

    def _several(self, annotation: Annotation) -> str | None:
        """The problem of a row of tags.csv whose one class is several, parted by another sign than theirs."""
        classes = [part.strip() for part in re.split(r"[,;/]", annotation.label)]
        if annotation.kind != "tag" or not annotation.by_index or len(classes) < 2:
            return None
        if any(self.classes.find(name) is None for name in classes):
            return None
        return (
            f"has {annotation.label!r}, which is no class but several: write {SEVERAL.join(classes)}, or a row for each"
        )

    def _unknown(self, label: str) -> str:
        known = self.classes.names
        shown = ", ".join(known[:_SHOWN_CLASSES]) + (" ..." if len(known) > _SHOWN_CLASSES else "")
        return f"names the class {label!r}{hint_at(label, dict.fromkeys(known))}: expected one of {shown}"

    def _tell(self, kind: str, example: str) -> None:
        self._told.setdefault(kind, Counter())[example] += 1


def _source(annotation: Annotation) -> str:
    """The file, and what of it is about the image."""
    part = annotation.where if annotation.by_index else annotation.entry
    return f"{annotation.file}, {part}" if part else annotation.file
