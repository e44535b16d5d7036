"""Tasks of Label Studio are about the image that they were drawn on, wherever that is stored."""

import base64
from pathlib import Path

import pytest
from exports import SIZE, annotations_of, boxes, faults, label_studio, notes, opened, problems, rectangle, task
from PIL import Image

BOX = rectangle(8, 10, 28, 20)
CAT, DOG = [("box", 1)], [("box", 2)]
UUID = "d05bb98d-5858-4dc0-ab0a-78d6a896879d"


def encoded(address: str, url_safe: bool = False) -> str:
    return (base64.urlsafe_b64encode if url_safe else base64.b64encode)(address.encode()).decode()


def images(root: Path, *names: str) -> Path:
    """Put these images into a folder in place of its own."""
    for path in (root / "images").iterdir():
        path.unlink()
    for name in names:
        (root / "images" / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", SIZE).save(root / "images" / name)
    return root


NAMES = [
    *("50%25.png", "a.jpg", "night/001.png", "001.png", "my cat (1).png", "\u00e9t\u00e9 n\u00b0 2.png", f"{UUID}.png"),
    "x+y.png",
]


@pytest.mark.parametrize(
    ("address", "name"),
    [
        *(("/data/upload/1/0a1b2c3d-a.jpg", "a"), ("/data/upload/0a1b2c3d-a.jpg", "a"), ("/data/upload/7/a.jpg", "a")),
        *(("upload/3/0a1b2c3d-a.jpg", "a"), ("https://ls.lab.org/data/upload/3/0a1b2c3d-a.jpg", "a")),
        ("/label-studio/data/upload/12/12-0a1b2c3d-a.jpg", "a"),
        ("/storage-data/uploaded/?filepath=upload/27/0a1b2c3d-a.jpg", "a"),
        *((f"/data/upload/1/{UUID}.png", UUID), (f"/data/upload/1/0a1b2c3d-{UUID}.png", UUID)),
        *((f"/data/local-files/?d=photos/{UUID}.png", UUID), (f"s3://bucket/{UUID}.png", UUID)),
        ("/data/upload/1/0a1b2c3d-my_cat_1.png", "my cat (1)"),
        ("/data/upload/1/0a1b2c3d-%C3%A9t%C3%A9_n_2.png", "\u00e9t\u00e9 n\u00b0 2"),
        *(("/data/local-files/?d=night/001.png", "night/001"), ("/data/local-files/?d=001.png", "001")),
        ("/data/local-files/?d=set%5Cimages%5Cnight%5C001.png", "night/001"),
        ("/data/local-files/?d=home\\me\\night\\001.png", "night/001"),
        *(("/data/local-files/?d=x+y.png", "x+y"), ("/data/local-files/?d=p%2Fx%2By.png", "x+y")),
        ("/data/local-files/?d=p/my+cat+(1).png", "my cat (1)"),
        *(("s3://bucket/images/001.png", "001"), ("/data/local-files/?d=p/images/001.png", "001")),
        *(("s3://bucket/data/night/001.png", "night/001"), ("gs://bucket/night/001.png", "night/001")),
        ("azure-blob://box/my cat (1).png", "my cat (1)"),
        *(("s3://bucket/50%25.png", "50%25"), ("s3://bucket/my%20cat%20(1).png", "my cat (1)")),
        ("https://b.s3.org/night/001.png?X-Amz-Signature=4f&response-content-type=image%2Fpng", "night/001"),
        ("https://firebase.org/v0/b/x/o/night%2F001.png?alt=media&token=7", "night/001"),
        ("https://host.org/show?id=7&file=night%2F001.png", "night/001"),
        *(("http://host.org/img/a.jpg#top", "a"), ("//host/share/a.jpg", "a"), ("C:\\photos\\a.jpg", "a")),
        (f"/tasks/7/resolve/?fileuri={encoded('s3://bucket/night/001.png')}", "night/001"),
        (f"/tasks/7/presign/?fileuri={encoded('gs://b/x?y~/a.jpg', True).rstrip('=')}", "a"),
        ("/projects/1/presign/?fileuri=s3%3A%2F%2Fbucket%2Fnight%2F001.png", "night/001"),
        *(("a.jpg", "a"), ("images/night/001.png", "night/001"), ("A.JPG", "a")),
    ],
)
def test_images_are_found_by_their_address(bare, address, name):
    images(bare, *NAMES)
    label_studio(bare, task(BOX, image=address))
    contents = opened(bare)
    assert {found for found, annotations in contents.annotations.items() if annotations} == {name}


@pytest.mark.parametrize(
    "address",
    [
        *("/data/upload/1/0a1b2c3d-b.jpg", "/data/upload/1/0a1b2c3d4-a.jpg", "s3://bucket/0a1b2c3d-a.jpg"),
        *("/data/local-files/?d=day/night/002.png", "/data/upload/1/0a1b2c3d-mycat_1.png", "s3://b/pictures/001.png"),
    ],
)
def test_never_an_image_of_another_name(bare, address):
    images(bare, *NAMES)
    label_studio(bare, task(BOX, image=address))
    assert f"is about the image {address!r}, which is not there" in problems(bare)


def test_namesakes_in_other_folders_are_other_images(bare):
    images(bare, "night/001.png", "day/002.png")
    label_studio(bare, task(BOX, image="s3://b/day/001.png"))
    assert "is about the image 's3://b/day/001.png', which is not there" in problems(bare)


def test_the_whole_name_comes_first(bare):
    images(bare, "a.png", "0a1b2c3d-a.png")
    label_studio(bare, task(BOX, image="/data/upload/1/0a1b2c3d-a.png"))
    assert (annotations_of(bare, "0a1b2c3d-a"), annotations_of(bare, "a")) == (CAT, [])


def test_names_that_the_upload_changed_are_told(bare):
    images(bare, "my cat (1).png")
    label_studio(bare, task(BOX, image="/data/upload/1/0a1b2c3d-my_cat_1.png"))
    (note,) = notes(bare)
    assert "0a1b2c3d-my_cat_1.png', is read as of my cat (1)" in note
    images(bare, "my cat (1).png", "my cat 1.png")  # either could have that name
    assert "which is not there" in problems(bare)


@pytest.mark.parametrize(
    ("data", "to_name"),
    [
        *(({"photo": "a.jpg"}, "image"), ({"photo": "a.jpg", "text": "b.txt", "id": 3}, "img")),
        *(({"$undefined$": "a.jpg"}, "i"), ({"img": "a.jpg", "image": "b.png"}, "img")),
        *(({"pages": ["a.jpg"]}, "image"), ({"ocr": "/a"}, "image")),
        *(({"pages": [{"url": "a.jpg", "n": "one"}]}, "page_0"), ({"x": "a.jpg", "caption": "a dog/cat"}, "image")),
    ],
)
def test_any_key_of_the_data_may_hold_the_image(bare, data, to_name):
    label_studio(bare, task({**BOX, "to_name": to_name}, data=data))
    assert boxes(bare) == [[8, 10, 28, 20, 1]]


SECOND = rectangle(1, 2, 3, 4, "dog")
PAIR = {"left": "a.jpg", "right": "b.png"}
PAGES = [{"page": "b.png"}, {"page": "a.jpg"}]


@pytest.mark.parametrize(
    ("given", "found"),
    [
        (task({**BOX, "source": "$left"}, data=PAIR), {"a": CAT}),  # of old results
        (task({**BOX, "to_name": "left"}, {**SECOND, "to_name": "right"}, data=PAIR), {"a": CAT, "b": DOG}),
        (task({**BOX, "item_index": 0}, data={"image": ["c d \u00e9.png"]}), {"c d \u00e9": CAT}),
        *(
            (task({**BOX, "item_index": 0}, {**SECOND, "item_index": 1}, data={"pages": pages}), {"b": CAT, "a": DOG})
            for pages in (["b.png", "a.jpg"], PAGES)
        ),
        # Repeaters number the names of their pages.
        (
            task({**BOX, "to_name": "page_1"}, {**SECOND, "to_name": "page_0"}, data={"pages": PAGES}),
            {"a": CAT, "b": DOG},
        ),
        # The uploaded file names the image where its address does not.
        (task(BOX, image="/image7", file_upload="0a1b2c3d-a.jpg"), {"a": CAT}),
        (task(BOX, image="https://h.org/7.png", storage_filename="photos/a.jpg"), {"a": CAT}),
        (task(BOX, image="https://h.org/b.png", file_upload="0a1b2c3d-a.jpg"), {"b": CAT}),
    ],
)
def test_results_belong_to_the_image_that_they_name(bare, given, found):
    label_studio(bare, given)
    read = {name: annotations_of(bare, name) for name in ("a", "b", "c d \u00e9")}
    assert {name: annotations for name, annotations in read.items() if annotations} == found


@pytest.mark.parametrize(
    ("data", "fault"),
    [
        ({"image": "data:image/png;base64,iVBORw0KGgo="}, "holds its image itself (data:image/png;b...)"),
        ({"left": "a.jpg", "right": "b.png"}, "could be about one of several images ('left', 'right')"),
        ({"pages": ["a.jpg", "b.png"]}, "does not say which of the 2 images of 'pages' it is about"),
        *(({"text": "hello"}, "has no image"), ({}, "has no image")),
    ],
)
def test_images_that_cannot_be_known_are_named(bare, data, fault):
    label_studio(bare, task(BOX, data=data))
    assert f"project.json: task 1, result {BOX['id']} (rectanglelabels) {fault}" in problems(bare)


def test_pages_that_are_not_there_are_named(bare):
    label_studio(bare, task({**BOX, "item_index": 2}, data={"pages": ["a.jpg", "b.png"]}))
    assert "does not say which of the 2 images" in problems(bare)


def test_two_tasks_of_one_image_are_both_named(bare):
    label_studio(bare, task(BOX), task(BOX, image="s3://b/val/a.jpg", id=2))
    assert "task 2 is about a, as project.json, task 1 is: each image has one source" in problems(bare)
    label_studio(bare, task(BOX), task(BOX))  # two files in one, with the same numbers
    assert "task 1 (number 2) is about a, as project.json, task 1 (number 1) is" in problems(bare)


def test_tasks_without_annotation_may_mean_the_image(bare):
    """The one of `train/` is annotated, that of `val/` is not, and one `a.jpg` is there."""
    others = {"id": 2, "annotations": []}
    label_studio(bare, task(BOX, image="s3://b/train/a.jpg"), task(image="s3://b/val/a.jpg", **others))
    assert "task 2 is about a, as project.json, task 1 is" in problems(bare)
    label_studio(bare, task(BOX, image="s3://b/train/a.jpg"), task(image="s3://b/train/a.jpg", **others))
    assert problems(bare) == ""


def test_damaged_regions_concern_their_image(bare):
    label_studio(bare, task(BOX, rectangle(1, 2, 3, 4, None)), task(BOX, image="b.png", id=2))
    assert "has no label" in faults(bare)
    assert faults(bare, "b") == ""
