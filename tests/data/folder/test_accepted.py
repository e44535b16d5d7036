"""Labels that were accepted in `weakseg paint`: seeds beneath what is drawn, and nothing else."""

import numpy as np
import pytest
import torch
from PIL import Image

from weakseg_lightning.data.folder.contact_sheet import contact_sheet
from weakseg_lightning.data.folder.contents import read_folder
from weakseg_lightning.data.folder.files import find_files
from weakseg_lightning.data.folder.inspection import inspect_image


def accept(root, name, label=1, rows=slice(0, 20)):
    """Accept a label in some rows of an image."""
    labels = np.full((40, 48), 255, np.uint8)
    labels[rows] = label
    (root / "accepted").mkdir(exist_ok=True)
    Image.fromarray(labels).save(root / "accepted" / f"{name}.png")
    return torch.from_numpy(labels)


def seeds_of(data) -> dict[str, torch.Tensor]:
    source = data.train_source()
    return {sample.id: sample.seeds for sample in (source[index] for index in range(len(source)))}


def test_accepted_labels_lie_beneath_strokes_and_clicks(make_data):
    data = make_data(val_fraction=0)
    before = seeds_of(data)
    accepted = accept(data.root, "a", label=2)
    after = seeds_of(make_data(root=data.root, val_fraction=0))
    drawn = before["a"] != 255
    assert torch.equal(after["a"], torch.where(drawn, before["a"], accepted))
    assert (after["a"][:20][drawn[:20]] != 2).any()  # clicks and strokes of other classes lie in the accepted area
    assert torch.equal(after["b"], before["b"])


def test_an_image_with_accepted_labels_alone_can_train(bare, make_data):
    accepted = accept(bare, "b", label=2)
    data = make_data(root=bare)
    seeds = seeds_of(data)
    assert list(seeds) == ["b"]
    assert torch.equal(seeds["b"], accepted)
    assert data.train_source()[0].tags.tolist() == [True, False, True]


@pytest.mark.parametrize("supervision", ["full", "box", "tags", "point"])
def test_every_other_supervision_leaves_them_aside(bare, make_data, supervision):
    (bare / "points.csv").write_text("image,x,y,class\na,3,3,cat\n")
    (bare / "boxes.csv").write_text("image,x1,y1,x2,y2,class\na,10,10,30,20,cat\n")
    Image.fromarray(np.full((40, 48), 1, np.uint8)).save(bare / "masks" / "b.png")

    def samples():
        return list(make_data(root=bare, supervision=supervision, val_fraction=0).train_source())

    before = samples()
    for name in ("a", "b", "c d é"):
        accept(bare, name, label=2)
    after = samples()
    assert [one.id for one in after] == [one.id for one in before]
    assert all(torch.equal(one.seeds, other.seeds) for one, other in zip(after, before, strict=True))
    assert not any(one.tags[2] for one in after)


def test_images_with_accepted_labels_alone_are_not_tagged(bare):
    accept(bare, "a")
    contents = read_folder(bare)
    assert contents.of("scribble") == ["a"]
    assert not any(contents.of(kind) for kind in ("point", "box", "tags", "full"))
    assert contents.has_any("a")
    assert not contents.has_any("b")


def test_they_never_validate(make_data):
    data = make_data()
    for name in ("a", "b", "c d é"):
        accept(data.root, name, label=2, rows=slice(0, 40))
    (held_out,) = data.val_source()
    assert (held_out.seeds == 255).all()
    assert (held_out.mask[:5] == 0).all()


def test_void_takes_accepted_labels_away(bare, make_data):
    accept(bare, "a")
    (bare / "classes.yaml").write_text("classes: [background, cat, dog]\nignore: [unsure]\n")
    (bare / "boxes.csv").write_text("image,x1,y1,x2,y2,class\na,0,0,10,10,unsure\n")
    seeds = seeds_of(make_data(root=bare))["a"]
    assert (seeds[:10, :10] == 255).all()
    assert (seeds[:10, 10:] == 1).all()


def test_they_are_counted_apart(make_folder):
    root = make_folder()
    before = inspect_image(read_folder(root), "a")
    accept(root, "a")
    found = inspect_image(read_folder(root), "a")
    assert before.accepted is None
    assert found.seeds.tolist() == before.seeds.tolist()
    assert (found.accepted[1], found.accepted[255]) == (20 * 48, 20 * 48)


def test_all_pixels_may_be_accepted(bare):
    accept(bare, "a", rows=slice(0, 40))
    assert not inspect_image(read_folder(bare), "a").problems


def test_the_classes_of_accepted_labels_are_compared_with_tags(bare):
    accept(bare, "a", label=2)
    (bare / "tags.csv").write_text("image,class\na,cat\n")
    (problem,) = inspect_image(read_folder(bare), "a").problems
    assert str(problem) == "tags.csv: tags 'a' without dog, which other annotations of it have: correct one of them"


def test_without_classes_yaml_they_tell_how_many_classes_there_are(bare):
    (bare / "classes.yaml").unlink()
    accept(bare, "a", label=3)
    assert len(read_folder(bare).classes.names) == 4


def test_the_contact_sheet_shows_them(bare):
    plain = np.asarray(contact_sheet(read_folder(bare), ["a"])).astype(int)
    accept(bare, "a")
    shown = np.asarray(contact_sheet(read_folder(bare), ["a"])).astype(int)
    changed = np.abs(shown[: plain.shape[0] - 60] - plain[: plain.shape[0] - 60]).sum(-1) > 0
    assert changed[20:80].mean() > 0.5  # the upper half of the tile
    assert not changed[130:180].any()


def test_a_folder_of_that_name_for_other_things_is_named(make_folder):
    root = make_folder()
    (root / "accepted").mkdir()
    (root / "accepted" / "paper.pdf").write_text("x")
    (problem,) = find_files(root).problems
    assert str(problem) == (
        "accepted/paper.pdf: is no PNG: save it as PNG, which keeps the values of pixels "
        "(accepted/ is for labels accepted in `weakseg paint`: move other files out of it)"
    )
