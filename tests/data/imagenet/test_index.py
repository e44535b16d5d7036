import json
import os
from pathlib import Path

import pytest

from weakseg_lightning.data.imagenet import index as image_folders
from weakseg_lightning.data.imagenet.index import IMAGENET_DOGS, FolderIndex, find_imagenet


@pytest.fixture
def folder(tmp_path):
    for name in ("b/2.jpg", "b/1.JPEG", "a/deep/3.png", "a/notes.txt"):
        path = tmp_path / "images" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return tmp_path / "images"


def names(paths):
    return [path.name for path in paths]


def test_dogs_are_the_118_between_chihuahua_and_mexican_hairless():
    assert len(set(IMAGENET_DOGS)) == 118
    assert (min(IMAGENET_DOGS), max(IMAGENET_DOGS)) == ("n02085620", "n02113978")
    assert list(IMAGENET_DOGS) == sorted(IMAGENET_DOGS)


def test_images_are_listed_in_order_whatever_their_depth(folder, tmp_path):
    index = FolderIndex(tmp_path / "index.json")
    assert names(index.list([folder])) == ["3.png", "1.JPEG", "2.jpg"]
    assert names(index.list([folder / "b", folder / "a"])) == ["3.png", "1.JPEG", "2.jpg"]


def test_folders_are_not_listed_again_until_they_change(folder, tmp_path, monkeypatch):
    index, listed = FolderIndex(tmp_path / "cache" / "index.json"), []
    read = image_folders._images
    monkeypatch.setattr(image_folders, "_images", lambda path: listed.append(path.name) or read(path))
    index.list([folder])
    assert sorted(listed) == ["a", "b", "deep", "images"]
    listed.clear()
    assert len(index.list([folder])) == 3
    assert listed == []
    (folder / "b" / "4.jpg").touch()
    os.utime(folder / "b", ns=(1, 1))  # the clock of a file system may be coarse
    assert names(index.list([folder])) == ["3.png", "1.JPEG", "2.jpg", "4.jpg"]
    assert listed == ["b"]


def test_folders_are_listed_again_when_other_suffixes_are_images(folder, tmp_path, monkeypatch):
    (folder / "b" / "5.tif").touch()
    index = FolderIndex(tmp_path / "index.json")
    with monkeypatch.context() as before:
        before.setattr(image_folders, "IMAGE_SUFFIXES", (".jpg",))
        before.setattr(image_folders, "is_image", lambda path: path.suffix == ".jpg")
        assert names(index.list([folder])) == ["2.jpg"]
    assert names(index.list([folder])) == ["3.png", "1.JPEG", "2.jpg", "5.tif"]


def test_links_are_followed_and_remembered(folder, tmp_path):
    (tmp_path / "elsewhere" / "deep").mkdir(parents=True)
    (tmp_path / "elsewhere" / "deep" / "7.tiff").touch()
    (folder / "c").symlink_to(tmp_path / "elsewhere", target_is_directory=True)
    (tmp_path / "elsewhere" / "back").symlink_to(folder, target_is_directory=True)
    index = FolderIndex(tmp_path / "index.json")
    for _ in range(2):
        assert index.list([folder])[3:] == [folder / "c" / "deep" / "7.tiff"]
    (tmp_path / "elsewhere" / "deep" / "8.tiff").touch()
    os.utime(tmp_path / "elsewhere" / "deep", ns=(1, 1))
    assert names(index.list([folder])[3:]) == ["7.tiff", "8.tiff"]


@pytest.mark.parametrize("content", ["", "{", "[1]", json.dumps({"x": []})])
def test_a_damaged_index_is_made_again(folder, tmp_path, content):
    path = tmp_path / "index.json"
    path.write_text(content)
    assert len(FolderIndex(path).list([folder])) == 3
    assert len(json.loads(path.read_text())) == 4


def test_a_cache_that_cannot_be_written_is_done_without(folder, tmp_path):
    (tmp_path / "file").touch()
    assert len(FolderIndex(tmp_path / "file" / "index.json").list([folder])) == 3


def test_the_cache_is_in_the_users_cache(folder, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    FolderIndex().list([folder])
    FolderIndex().list([folder / "b"])
    assert len(list((tmp_path / "cache" / "weakseg_lightning").glob("images-*.json"))) == 2


def test_a_missing_folder_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no folder .*nothing of images"):
        FolderIndex(tmp_path / "index.json").list([tmp_path / "nothing"])


def test_imagenet_is_told_apart(tmp_path):
    for wnid in (*IMAGENET_DOGS, "n01440764", "n03445777", "notes"):
        (tmp_path / "train" / wnid).mkdir(parents=True)
    dogs, others = find_imagenet(tmp_path)
    assert names(dogs) == list(IMAGENET_DOGS)
    assert names(others) == ["n01440764", "n03445777"]
    assert find_imagenet(tmp_path / "train") == (dogs, others)


def test_missing_wnids_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"`root`: no folder .*none: it must hold a folder of images for each"):
        find_imagenet(tmp_path / "none")
    for wnid in IMAGENET_DOGS[2:]:
        (tmp_path / wnid).mkdir()
    with pytest.raises(FileNotFoundError, match=r"lacks 2 of the 118 classes of dogs: n02085620, n02085782. Unpack"):
        find_imagenet(tmp_path)
    for wnid in IMAGENET_DOGS[2:]:
        (tmp_path / wnid).rmdir()
    with pytest.raises(FileNotFoundError, match=r"lacks 118 of .*: (n\d+, ){4}n\d+, and 113 more"):
        find_imagenet(tmp_path)


def test_real_imagenet_folders_are_dogs_and_others(shared: Path):
    dogs, others = find_imagenet(shared / "data" / "imagenet")
    assert (len(dogs), len(others)) == (118, 300)
