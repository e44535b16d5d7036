"""The split of a folder into training and validation, by lot or by lists."""

import shutil

import pytest

from weakseg_lightning.data.folder.contents import read_folder
from weakseg_lightning.data.folder.split import split_names


def add_images(root, count, masks=True, scribbles=True):
    """Copies the first image and its labels under more names."""
    for number in range(count):
        name = f"n{number:02d}"
        shutil.copy(root / "images" / "a.jpg", root / "images" / f"{name}.jpg")
        for folder, wanted in (("masks", masks), ("scribbles", scribbles)):
            if wanted:
                shutil.copy(root / folder / "a.png", root / folder / f"{name}.png")


def test_the_split_depends_on_names_and_seed_alone(make_folder):
    root = make_folder()
    add_images(root, 20)
    contents = read_folder(root)
    train, val = split_names(contents, "scribble", 0.2, 0)
    assert len(val) == round(0.2 * 22)
    assert sorted(train + val) == sorted(contents.images)
    contents.images = dict(reversed(contents.images.items()))
    assert split_names(contents, "scribble", 0.2, 0) == (train, val)
    assert any(split_names(contents, "scribble", 0.2, seed)[1] != val for seed in (1, 2, 3))
    smaller = split_names(contents, "scribble", 0.1, 0)[1]
    assert set(smaller) < set(val)


def test_images_that_cannot_train_are_held_out_first(make_folder):
    root = make_folder()
    add_images(root, 4, scribbles=False)
    train, val = split_names(read_folder(root), "scribble", 0.2, 0)
    assert val == ["n00", "n01", "n02", "n03"]
    assert train == ["a", "b", "c d é"]


@pytest.mark.parametrize(("supervision", "sizes"), [("full", (1, 1)), ("scribble", (2, 1))])
def test_one_image_is_held_out_and_one_remains(make_folder, supervision, sizes):
    parts = split_names(read_folder(make_folder()), supervision, 0.01, 0)
    assert tuple(map(len, parts)) == sizes
    remaining, _ = split_names(read_folder(make_folder("more")), supervision, 0.99, 0)
    assert remaining


def test_lists_are_followed(make_data, tmp_path):
    (tmp_path / "train.txt").write_text("images/c d é.png\nb\n", "utf-8")
    (tmp_path / "val.txt").write_text("a.jpg\n")
    data = make_data(train_list=tmp_path / "train.txt", val_list=tmp_path / "val.txt")
    data.setup("fit")
    assert list(data.train_source().ids) == ["b", "c d é"]
    assert list(data.val_source().ids) == ["a"]


@pytest.mark.parametrize(
    ("train", "val", "message"),
    [
        ("a\nq\n", None, "`train_list`: .* names 'q', which is not in"),
        ("a\nb\n", "b\n", "`train_list` and `val_list` both name 'b'"),
        (None, "c d é\n", "`val_list`: 1 of 1 images have no masks"),
        ("\n", None, "names no image: write one name per line"),
    ],
)
def test_wrong_lists_are_refused(make_data, tmp_path, train, val, message):
    given = {}
    for name, text in (("train_list", train), ("val_list", val)):
        if text is not None:
            (tmp_path / f"{name}.txt").write_text(text, "utf-8")
            given[name] = tmp_path / f"{name}.txt"
    with pytest.raises(ValueError, match=message):
        make_data(**given).setup("fit")


@pytest.mark.parametrize("encoding", ["latin-1", "utf-16"])
def test_lists_in_other_encodings_are_named(make_data, tmp_path, encoding):
    path = tmp_path / "train.txt"
    path.write_bytes("a\nv\u00e9lo\n".encode(encoding))
    with pytest.raises(ValueError, match=f"{path} is not UTF-8 text .*: save it as UTF-8"):
        make_data(train_list=path).train_source()


@pytest.mark.parametrize("share", [-0.1, 1.0])
def test_val_fraction_is_checked(make_data, share):
    with pytest.raises(ValueError, match="`val_fraction` must be at least 0 and below 1"):
        make_data(val_fraction=share)
