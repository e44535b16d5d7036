"""Which image a file is about: the one whose path it gives, never another of the same name."""

import pytest

from weakseg_lightning.data.folder.names import ImageNames, address_ref, file_ref, row_ref, task_ref

FLAT = ["a", "b", "1"]
NIGHT = ["001", "002", "night/001", "night/003", "day/004"]


def found(images, ref) -> str | None:
    return ImageNames(images).find(ref).name


# ---- rows of tables and lists ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "name"),
    [
        ("001.png", "001"),
        ("night/001.png", "night/001"),
        ("night\\001.PNG", "night/001"),
        ("./night/001", "night/001"),
        ("images/night/001.jpg", "night/001"),
        ("data/photos/images/night/001.jpg", "night/001"),
        ("NIGHT/001.png", "night/001"),
        ("night/../001.png", "001"),
        ("004.png", "day/004"),  # one image alone has the name
        ("C:\\Users\\me\\photos\\002.jpg", "002"),
        ("/home/me/night/003.jpg", "night/003"),
        # never a namesake
        ("day/001.png", None),
        ("day/002.png", None),
        ("evening/002.png", None),
        ("night/002.png", None),
        ("/home/me/day/002.jpg", None),
        ("003.jpeg", "night/003"),
        ("", None),
        ("night", None),
    ],
)
def test_rows_name_a_path_below_images(given, name):
    assert found(NIGHT, row_ref(given)) == name


def test_a_name_that_is_completed_is_noted():
    names = ImageNames(NIGHT)
    assert names.find(row_ref("004.png")).note == "names '004.png', is read as of day/004"
    assert names.find(row_ref("day/004.png")).note == ""
    assert names.find(row_ref("001.png")).note == ""


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("a.jpg", "a", True),
        ("images/a.png", "A.JPG", True),
        ("x/images/a.png", "a", True),
        ("night/001", "001", False),
        ("night\\001.png", "images/night/001", True),
    ],
)
def test_spellings_of_one_path_have_one_key(one, other, same):
    assert (row_ref(one).key == row_ref(other).key) == same


# ---- files of one image ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("file", "given", "name"),
    [
        ("images/night/001.json", "001.png", "night/001"),
        ("images/001.json", "001.png", "001"),
        ("images/001.json", "..\\images\\001.png", "001"),
        ("images/001.json", "C:\\photos\\night\\001.png", "001"),
        ("images/002.json", "001.png", "002"),  # the image was renamed together with its file
        ("images/002.json", "", "002"),
        ("images/other.json", "002.png", "002"),
        ("images/other.json", "night/001.png", "night/001"),
        ("annotations/night/001.json", "001.png", "night/001"),
        ("annotations/night/001.json", "../../images/night/001.png", "night/001"),
        ("annotations/night/001.json", "../../images/001.png", "001"),
        ("annotations/001.json", "/home/me/001.png", "001"),
        ("annotations/001.json", "/home/me/night/005.png", "001"),
        ("annotations/new.json", "002.png", "002"),
        ("annotations/002.json", "gone.png", "002"),
        ("002.json", "images/002.png", "002"),
        ("002.json", "002.png", "002"),
        # the path as seen from the file, where it leads into another folder: LabelMe's --output
        ("images/001.json", "night/001.png", "night/001"),
        ("images/night/001.json", "../001.png", "001"),
        ("images/001.json", "/home/me/night/001.png", "001"),
        # the folders of the path and the place of the file name two images
        ("annotations/001.json", "/home/me/night/001.png", None),
        ("annotations/001.json", "/home/me/images/night/001.png", None),
        ("annotations/001.json", "night/001.png", None),
        ("annotations/001.json", "..\\..\\photos\\night\\001.png", None),
        # never a namesake
        ("images/night/002.json", "002.png", None),
        ("annotations/night/002.json", "002.png", None),
        ("annotations/day/001.json", "001.png", None),
        ("images/day/001.json", "001.png", None),
    ],
)
def test_files_of_one_image_are_about_the_one_beside_them_or_in_their_path(file, given, name):
    assert found(NIGHT, file_ref(file, given)) == name


def test_a_renamed_image_is_noted_and_two_candidates_are_a_fault():
    names = ImageNames(["new", "old"])
    assert names.find(file_ref("images/new.json", "old.png")).note == "names 'old.png', is read as of new"
    assert names.find(file_ref("images/old.json", "old.png")).note == ""
    both = names.find(file_ref("annotations/new.json", "old.png"))
    fault = "could be about old or new: 'old.png' and its own place and name differ; put it beside its image"
    assert (both.name, both.fault) == (None, fault)


def test_folders_that_lead_to_another_image_are_noted():
    note = ImageNames(NIGHT).find(file_ref("images/001.json", "/home/me/night/001.png")).note
    assert note == "names '/home/me/night/001.png', is read as of 001"


def test_a_name_that_ends_like_an_image_is_whole():
    names = ImageNames(["scan", "slide.tif"])  # scan.png, slide.tif.png
    assert names.find(file_ref("images/slide.tif.json", "slide.tif.png")).name == "slide.tif"
    assert names.find(file_ref("images/scan.png.json", "scan.png")).name == "scan"
    twice = ImageNames(["scan", "scan.tif"]).find(file_ref("images/scan.tif.json", "scan.tif"))
    assert (twice.name, twice.fault[:35]) == (None, "could be about scan.tif or scan: 's")


# ---- tasks and addresses -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "subset", "name"),
    [
        ("a.png", "", "a"),
        ("sub/a.png", "", "a"),  # the folder of the upload
        ("night/001.png", "", None),
        ("1.png", "train", "1"),
        ("x/y/1.png", "val", "1"),
    ],
)
def test_tasks_of_flat_folders(given, subset, name):
    assert found(FLAT, task_ref(given, subset)) == name


@pytest.mark.parametrize(
    ("given", "subset", "name"),
    [
        ("001.png", "night", "night/001"),
        ("night/001.png", "", "night/001"),
        ("night/001.png", "train", "night/001"),
        ("002.png", "night", None),
        ("evening/001.png", "", None),  # two images are called so
        ("001.png", "evening", "001"),
    ],
)
def test_tasks_of_folders_in_folders(given, subset, name):
    assert found(NIGHT, task_ref(given, subset)) == name


def test_subsets_are_part_of_the_name():
    assert task_ref("1.png", "train").key != task_ref("1.png", "val").key


def test_the_whole_name_of_an_address_comes_first():
    uuid = "d05bb98d-5858-4dc0-ab0a-78d6a896879d"
    paths = (f"photos/{uuid}.png", f"photos/{uuid[9:]}.png")
    assert found([uuid], address_ref("x", *paths)) == uuid
    assert found([uuid[9:]], address_ref("x", *paths)) == uuid[9:]
    assert found([uuid, uuid[9:]], address_ref("x", *paths)) == uuid
    assert found(["other"], address_ref("x", *paths)) is None
