"""`weakseg paint` before the page is there."""

from pathlib import Path
from urllib.parse import urlsplit

import pytest
from PIL import Image

from weakseg_lightning.cli.commands import paint

ADDRESS = "http://127.0.0.1:8123/?token=TOKEN"


@pytest.fixture
def folder(run):
    Path("DATA/images").mkdir(parents=True)
    Image.new("RGB", (30, 20)).save("DATA/images/a.jpg")
    return run


@pytest.fixture
def served(monkeypatch):
    """Stands for the server, which is tested with a browser: the arguments that it was called with."""
    server = pytest.importorskip("weakseg_lightning.painting.server", reason="the extra `app` is not installed")
    calls = []

    def serve(session, port, on_ready):
        calls.append((session.folder.root, port))
        on_ready(ADDRESS)
        return problems

    problems: list[str] = []
    monkeypatch.setattr(server, "serve", serve)
    opened = []

    def open_browser(address):
        door = Path(urlsplit(address).path)
        opened.append((address, door.stat().st_mode & 0o777, door.read_text()))

    monkeypatch.setattr(paint.webbrowser, "open", open_browser)
    return calls, opened, problems


def test_address_and_next_command_are_printed(folder, served):
    calls, _, _ = served
    status, out, err = folder("paint", "DATA", "--classes", "background", "cat")
    assert (status, err) == (0, "")
    assert out.splitlines() == [
        f"Painting in DATA: open {ADDRESS} (Ctrl-C ends)",
        "0 of 1 images are annotated. Next:",
        "  weakseg check DATA",
    ]
    assert calls == [(Path("DATA").resolve(), 8123)]
    assert "name: cat" in Path("DATA/classes.yaml").read_text()


def test_the_browser_is_led_to_the_page_by_a_file_that_no_other_user_can_read(folder, served):
    assert folder("paint", "DATA", "--classes", "a", "b")[0] == 0
    ((address, mode, text),) = served[1]
    assert address.startswith("file://")
    assert "TOKEN" not in address
    assert mode == 0o600
    assert f"url={ADDRESS}" in text
    assert not list(Path("DATA").glob(".weakseg-paint.html"))


def test_where_no_file_can_be_private_the_browser_stays_closed_and_one_line_says_so(folder, served, monkeypatch):
    monkeypatch.setattr("weakseg_lightning.painting.layout.is_private", lambda _: False)
    status, out, _ = folder("paint", "DATA", "--classes", "a", "b")
    assert (status, served[1]) == (0, [])
    assert "No browser is opened: DATA cannot hold a file that only you can read; open the address yourself\n" in out
    assert not list(Path("DATA").glob(".weakseg-paint.html"))


@pytest.mark.parametrize("option", ["--no-browser", "--no_browser", "--no_browser=true"])
def test_the_browser_can_be_left_alone(folder, served, option):
    assert folder("paint", "DATA", "--classes", "a", "b", option, "--port", "0")[0] == 0
    assert served[1] == []
    assert served[0][0][1] == 0


def test_what_was_not_saved_is_told(folder, served):
    served[2].append("a: no space left")
    status, _, err = folder("paint", "DATA", "--classes", "a", "b")
    assert (status, err) == (1, "weakseg: not saved: a: no space left\n")


def test_broken_images_are_told(folder, served):
    Path("DATA/images/b.jpg").write_bytes(b"nothing")
    _, _, err = folder("paint", "DATA", "--classes", "a", "b")
    assert err.startswith("weakseg: skipped: ")
    assert "b.jpg is not an image" in err


def test_a_folder_is_painted_in_once_at_a_time(folder, served):
    filelock = pytest.importorskip("filelock")
    with filelock.FileLock("DATA/.weakseg-paint.lock"):
        status, _, err = folder("paint", "DATA", "--classes", "a", "b")
    assert status == 2
    assert "DATA is open in another `weakseg paint`: end that one first" in err


def test_without_the_extra_one_line_says_what_to_install(folder, monkeypatch):
    find = paint.find_spec
    monkeypatch.setattr(paint, "find_spec", lambda name: None if name == "nicegui" else find(name))
    status, out, err = folder("paint", "DATA", "--classes", "a", "b")
    assert (status, out) == (2, "")
    assert err == (
        'weakseg: error: `weakseg paint` needs nicegui, not installed here: pip install ".[app]" in the checkout\n'
    )


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["NONE", "--classes", "a", "b"], "`data`: there is no folder NONE"),
        (["DATA"], "name the classes, as `--classes background cat dog`"),
        (["DATA", "--classes", "a"], "`classes` has 1 classes, expected 2 to 255"),
        (["DATA", "--classes", "a", "b", "--port", "70000"], "`port` must be between 0 and 65535, got 70000"),
        ([], "`data` must be given"),
    ],
)
def test_a_mistake_is_told_in_one_line(folder, words, message, refused):
    assert message in refused("paint", *words)
