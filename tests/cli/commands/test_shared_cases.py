"""Inputs that real people had: what `weakseg check` says of them, and what training sees."""

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from weakseg_lightning.cli.commands.check import check
from weakseg_lightning.data.folder.contents import FolderContents, read_folder
from weakseg_lightning.data.folder.labels import boxes_of, read_mask
from weakseg_lightning.data.images.reading import image_size, read_image


def mask(contents: FolderContents, name: str) -> np.ndarray:
    found = read_mask(contents, name, image_size(contents.images[name]))
    assert found is not None
    return found


def counts(contents: FolderContents, name: str) -> dict[int, int]:
    """Pixels of each class of a mask."""
    return {int(label): int(n) for label, n in zip(*np.unique(mask(contents, name), return_counts=True), strict=True)}


def boxes(contents: FolderContents, name: str = "a") -> list:
    return boxes_of(contents, name, None).tolist()


def labelme_ignore(c: FolderContents) -> Iterator[bool]:
    yield list(c.classes.names) == ["background", "cat"]
    for name in "ab":
        found = mask(c, name)
        yield (found[5:25, 30:50] == 255).all()
        yield (found[8:14, 8:14] == 0).all()
        yield found[16, 16] == 1


def subfolder(c: FolderContents) -> Iterator[bool]:
    yield set(c.annotations) == {"002", "night/001"}
    yield counts(c, "night/001").keys() == {0, 2}


def renamed(c: FolderContents) -> Iterator[bool]:
    yield mask(c, "new")[10, 10] == 1
    yield mask(c, "old")[25, 35] == 2
    yield any("images/new.json" in note and "'old.png'" in note for note in c.notes)


def only_cats(c: FolderContents) -> Iterator[bool]:
    yield list(c.classes.names) == ["background", "cat"]
    yield all(one.label == 1 for annotations in c.annotations.values() for one in annotations)
    yield any(note.startswith("left out: ") for note in c.notes)


def negative(c: FolderContents) -> Iterator[bool]:
    yield set(counts(c, "a")) == {0, 1}
    yield set(counts(c, "b")) == {0}


def stored_values(c: FolderContents) -> Iterator[bool]:
    yield len(c.classes.names) == 4
    yield all(set(counts(c, name)) <= {0, 1, 2, 3} for name in c.masks)
    yield {0, 3} <= set().union(*(counts(c, name) for name in c.masks))


def deep(c: FolderContents) -> Iterator[bool]:
    for path in c.images.values():
        pixels = read_image(path)
        yield int(pixels.max()) == 255
        yield int(pixels.min()) == 0
        yield pixels.float().std() > 30


CASES: dict[str, tuple[int, Callable[[FolderContents], Iterator[bool]] | None, tuple[str, ...]]] = {
    "labelme_ignore": (0, labelme_ignore, ()),
    "labelme_subfolder_and_root": (0, subfolder, ()),
    "labelme_renamed": (0, renamed, ()),
    "labelme_null_label": (1, None, ("images/a.json", "shape 1", "has no label")),
    "labelme_flags": (0, only_cats, ("'blurry'",)),
    "cvat_tags_and_polygons": (0, only_cats, ("'daytime'",)),
    "ls_choices_and_polygon": (0, only_cats, ("'Good'",)),
    "ls_per_region": (0, only_cats, ()),
    "cvat_subsets_flat": (1, None, ("train/1.png", "val/1.png")),
    "ls_relation": (0, lambda c: iter([len(boxes(c)) == 2]), ()),
    "ls_uuid": (0, lambda c: iter([len(boxes(c, "d05bb98d-5858-4dc0-ab0a-78d6a896879d")) == 1]), ()),
    "xanylabeling_rectangle": (0, lambda c: iter([boxes(c) == [[5, 5, 25, 25, 1]]]), ()),
    "ls_completions": (0, lambda c: iter([len(boxes(c)) == 1]), ()),
    "ls_empty_annotation": (0, negative, ()),
    "rgb16_png": (0, deep, ()),
    "mask_2bit_3_2": (0, stored_values, ()),
    "mask_2bit_3_4_noclasses": (0, stored_values, ()),
    "digit_labels": (0, lambda c: iter([list(c.classes.names) == ["background", "0", "7"]]), ()),
    "symlink_silent": (0, lambda c: iter([set(c.images) == {"a", "more/x", "more/y"}]), ()),
    "all_void": (1, None, ("all are void (255)",)),
}


@pytest.mark.parametrize("case", CASES)
def test_what_went_wrong_once_is_right_or_told(shared, tmp_path: Path, capsys, case):
    status, look, told = CASES[case]
    root = shared / "cases" / case
    if not root.is_dir() or (case == "symlink_silent" and not (root / "images" / "more").is_dir()):
        pytest.skip(f"{root} is not there, or its links are not")
    assert check(root, tmp_path / "sheet.jpg") == status
    printed = " ".join(capsys.readouterr().out.split())
    for text in told:
        assert text in printed
    if look is not None:
        assert all(look(read_folder(root)))
