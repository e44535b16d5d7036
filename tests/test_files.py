import errno
import os

import pytest

from weakseg_lightning.errors import FileError
from weakseg_lightning.files import replacing, reserve


def test_readers_meet_the_old_file_until_the_new_one_is_complete(tmp_path):
    path = tmp_path / "labels.png"
    path.write_text("old")
    with replacing(path) as unfinished:
        unfinished.write_text("half")
        assert path.read_text() == "old"
    assert path.read_text() == "half"
    assert list(tmp_path.iterdir()) == [path]


def test_an_error_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "labels.png"
    path.write_text("old")
    with pytest.raises(KeyError), replacing(path) as unfinished:
        {}[unfinished.write_text("half")]
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_links_stay_links(tmp_path):
    (tmp_path / "disk").mkdir()
    link = tmp_path / "labels.png"
    link.symlink_to(tmp_path / "disk" / "file.png")
    with replacing(link, durable=True) as unfinished:
        unfinished.write_text("new")
    assert link.is_symlink()
    assert (tmp_path / "disk" / "file.png").read_text() == "new"


def test_the_file_that_cannot_be_written_is_named_and_no_other(tmp_path):
    with (
        pytest.raises(OSError, match=r"^cannot write .*absent.*file: No such"),
        replacing(tmp_path / "absent/file") as new,
    ):
        new.write_text("text")
    with pytest.raises(FileNotFoundError, match="source"), replacing(tmp_path / "file"):
        (tmp_path / "source").read_text()


def test_what_says_all_is_told_as_it_is(tmp_path):
    with (
        pytest.raises(FileError, match=r"^no room$"),
        replacing(tmp_path / "a"),
        replacing(tmp_path / "b"),
    ):
        raise FileError("no room")
    with (
        pytest.raises(FileError, match=r"^cannot write .*b: No space left on device$"),
        replacing(tmp_path / "a"),
        replacing(tmp_path / "b"),
    ):
        raise OSError(errno.ENOSPC, "No space left on device")


def test_reserved_files_have_their_room_on_the_disk(tmp_path):
    with (tmp_path / "a").open("wb+") as file:
        file.truncate(2**20)
        reserve(file)
        assert os.fstat(file.fileno()).st_blocks * 512 >= 2**20
        file.seek(0)
        assert not any(file.read())


@pytest.mark.parametrize("code", [errno.EINVAL, errno.EOPNOTSUPP, None])
def test_a_file_system_that_cannot_reserve_is_used_all_the_same(tmp_path, monkeypatch, code):
    def fail(*_):
        raise OSError(code, "not supported")

    if code is None:
        monkeypatch.delattr("os.posix_fallocate")
    else:
        monkeypatch.setattr("os.posix_fallocate", fail)
    with (tmp_path / "a").open("wb") as file:
        reserve(file)
