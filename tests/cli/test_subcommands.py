"""Commands that are functions."""

import inspect
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

from weakseg_lightning.cli import main
from weakseg_lightning.cli.subcommands import SUBCOMMANDS, Subcommand

SOURCE = '''
from pathlib import Path
from typing import Literal


def copy(source: Path, lengths: list[float], names: list[str] | None = None, kind: Literal["png", "xml"] = "png",
         overwrite: bool = False, jobs: int = 1) -> int:
    """Copy files.

    More about it.

    Args:
        source: where the files are.
        lengths: how long they become.
        names: which of them.
        kind: what they are.
        overwrite: replace what is there.
        jobs: processes.
    """
    print(source, lengths, names, kind, overwrite, jobs)
    if jobs == 0:
        raise ValueError("`jobs` must be at least 1, got 0")
    return 1 if jobs == 7 else 0


def read() -> None:
    """Read files."""


def stop() -> None:
    """Be interrupted."""
    raise KeyboardInterrupt


def fail() -> None:
    """Break."""
    raise KeyError("broken")


def missing() -> None:
    """Open what is not there."""
    Path("nothing.txt").read_text()
'''


@pytest.fixture
def helper(run, monkeypatch):
    """Runs the command in a folder whose `made_up.py` has helpers."""
    Path("made_up.py").write_text(SOURCE)
    monkeypatch.delitem(sys.modules, "made_up", raising=False)
    for name, function in (("files copy", "copy"), ("files read", "read"), ("stop", "stop"), ("fail", "fail")):
        monkeypatch.setitem(SUBCOMMANDS, name, Subcommand(f"made_up.{function}", f"do {function}"))
    monkeypatch.setitem(SUBCOMMANDS, "missing", Subcommand("made_up.missing", "do missing"))
    yield run
    sys.modules.pop("made_up", None)


@pytest.mark.parametrize(
    ("words", "printed"),
    [
        (["--source", "a", "--lengths", "0.5", "0.3"], "a [0.5, 0.3] None png False 1"),
        (["--lengths=[0.5]", "--source=a", "--overwrite"], "a [0.5] None png True 1"),
        (["--lengths", "[0.5, 1]", "--source=a", "--overwrite=false"], "a [0.5, 1.0] None png False 1"),
        (["--overwrite", "--lengths", "1", "--source", "a b", "--jobs", "2"], "a b [1.0] None png True 2"),
        (["--overwrite", "true", "--lengths", "0", "--source", "a", "--kind", "xml"], "a [0.0] None xml True 1"),
        (["--source", "a", "--lengths", "1", "--names", "[x, y]"], "a [1.0] ['x', 'y'] png False 1"),
    ],
)
def test_arguments_are_options(helper, words, printed):
    assert helper("files", "copy", *words) == (0, f"{printed}\n", "")


def test_a_list_of_texts_needs_no_brackets(helper):
    status, out, _ = helper("files", "copy", "--source=a", "--lengths=[1]", "--names", "x", "a, b", "3.5", "--jobs=2")
    assert (status, out) == (0, "a [1.0] ['x', 'a, b', '3.5'] png False 2\n")


def test_a_file_of_options_stands_below_the_command_line(helper):
    Path("mine.yaml").write_text("source: a\nlengths: [0.5]\njobs: 3\n")
    assert helper("files", "copy", "--jobs", "4", "--config", "mine.yaml")[1] == "a [0.5] None png False 4\n"


def test_the_status_is_what_the_function_returns(helper):
    assert helper("files", "copy", "--source=a", "--lengths=1", "--jobs=7")[0] == 2  # a number is no list
    assert helper("files", "copy", "--source=a", "--lengths", "1", "--jobs=7")[0] == 1
    assert helper("files", "read")[0] == 0


WRONG = [
    (["files", "copy", "--sorce", "a"], "`--sorce` is not an option; did you mean `--source`?"),
    (["files", "copy", "--lengths", "1"], "`source` must be given"),
    (["files", "copy"], "`source` and `lengths` must be given"),
    (["files", "copy", "--source=a", "--lengths", "long"], "`lengths` must be a list (each a number), got 'long'"),
    (["files", "copy", "--source=a", "--lengths", "1", "--kind=jpg"], "`kind` must be png or xml, got 'jpg'"),
    (["files", "copy", "--source=a", "--lengths", "1", "--jobs=0"], "`jobs` must be at least 1, got 0"),
    (["files", "copy", "a"], "cannot use `a`: a file of options is given as `--config a`"),
    (["files", "copy", "--config", "no.yaml"], "no file `no.yaml` (working directory: "),
    (["files", "cpoy"], "`files cpoy` is not a command; did you mean `files copy`?"),
    (["files", "--source", "a"], "`weakseg files` needs to know what to do: one of files copy, files read"),
    (["filse"], "`filse` is not a command; did you mean `files`?"),
    (["stpo"], "`stpo` is not a command; did you mean `stop`?"),
    (["missing"], "[Errno 2] No such file or directory: 'nothing.txt' (WEAKSEG_TRACEBACK=1 shows where)"),
]


@pytest.mark.parametrize(("words", "expected"), WRONG)
def test_a_mistake_is_told_in_one_line(helper, words, expected):
    status, _, err = helper(*words)
    assert status == 2
    assert err.startswith(f"weakseg: error: {expected}"), err
    assert err.count("\n") == 1


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("source: a\nlenghts: [1]\n", "`lenghts` is not an option; did you mean `lengths`? (mine.yaml, line 2)"),
        ("source: a\nlengths: [1]\njobs: many\n", "`jobs` must be an integer, got 'many' (mine.yaml, line 3)"),
        ("- source\n", "mine.yaml: expected `source:`, `lengths:`"),
    ],
)
def test_a_mistake_in_a_file_is_told_with_its_line(helper, text, expected, refused):
    Path("mine.yaml").write_text(text)
    assert refused("files", "copy", "--config", "mine.yaml").startswith(expected)


def test_interruption_is_no_traceback(helper):
    assert helper("stop") == (130, "", "weakseg: interrupted\n")


def test_an_internal_error_keeps_its_traceback(helper, monkeypatch):
    with pytest.raises(KeyError, match="broken"):
        helper("fail")
    monkeypatch.setenv("WEAKSEG_TRACEBACK", "1")
    with pytest.raises(ValueError, match="`jobs` must be at least 1"):
        helper("files", "copy", "--source=a", "--lengths", "1", "--jobs=0")


def test_help_comes_from_the_docstring(helper, capsys):
    with pytest.raises(SystemExit) as ended:
        helper("files", "copy", "--help")
    assert ended.value.code == 0
    printed = capsys.readouterr().out
    for words in ("usage: weakseg files copy", "Copy files.", "More about it.", "where the files are", "--overwrite"):
        assert words in printed


def test_help_lists_the_helpers(helper):
    listed = [line.split() for line in helper("--help")[1].splitlines()]
    assert ["files", "copy", "do", "copy"] in listed
    assert ["stop", "do", "stop"] in listed


@pytest.mark.parametrize("words", [["files"], ["files", "--help"], ["files", "-h"]])
def test_a_group_lists_its_own(helper, words):
    status, out, _ = helper(*words)
    assert status == 0
    assert out.startswith("usage: weakseg files {copy,read} ")
    assert "do copy" in out
    assert "do stop" not in out


# ---- those that the package has -----------------------------------------------------------------------------

LISTED = """
import sys
from weakseg_lightning.cli import main
status = main(sys.argv[1:])
heavy = {"torch", "lightning", "numpy", "jsonargparse"} & set(sys.modules)
assert not heavy, heavy
sys.exit(status)
"""


GROUPS = sorted({name.split()[0] for name in SUBCOMMANDS if " " in name})


@pytest.mark.parametrize("args", [["--help"], *([group] for group in GROUPS)])
def test_listing_imports_nothing_heavy(args, tmp_path):
    command = [sys.executable, "-c", LISTED, *args]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, check=False)
    assert done.returncode == 0, done.stderr


def test_tables_of_papers_are_under_one_name(run):
    status, out, _ = run("experiment")
    assert status == 0
    assert out.startswith("usage: weakseg experiment {ccnn-bounds,grid-energy,label-noise,sample-grid} ")
    status, _, err = run("experiment", "grid-enrgy")
    assert (status, err.count("\n")) == (2, 1)
    assert "did you mean `experiment grid-energy`?" in err
    assert run("grid-energy")[0] == 2, "nowhere else"


@pytest.mark.parametrize("name", sorted(SUBCOMMANDS))
def test_every_helper_has_help(name, capsys):
    with pytest.raises(SystemExit) as ended:
        main([*name.split(), "--help"])
    assert ended.value.code == 0
    assert f"usage: weakseg {name}" in capsys.readouterr().out


@pytest.mark.parametrize("helper", SUBCOMMANDS.values(), ids=SUBCOMMANDS)
def test_no_helper_has_an_argument_that_the_parser_takes_for_itself(helper):
    module, _, name = helper.path.rpartition(".")
    assert "config" not in inspect.signature(getattr(import_module(module), name)).parameters
