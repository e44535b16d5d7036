import pytest

from weakseg_lightning.files import replacing


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
