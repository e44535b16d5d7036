"""Imports run one way: rooms import those below them, no file is imported in a circle, and the map names each room."""

import ast
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import weakseg_lightning

PACKAGE = Path(weakseg_lightning.__file__).parent
SOURCES = sorted(path.relative_to(PACKAGE).as_posix() for path in PACKAGE.rglob("*.py"))
ROOMS = sorted({Path(path).parent.as_posix() for path in SOURCES} - {"."})

# What each room at the top may import of the others.
SOLVING = {"_native", "energies", "constraints"}
MODELING = SOLVING | {"losses", "solvers", "metrics", "networks"}
SUPPORT = {"channels", "checks", "devices", "errors", "files", "hyperparameters"}  # of every room
ALLOWED = {
    "_native": set(),
    "channels": set(),
    "checks": set(),
    "devices": set(),
    "errors": set(),
    "files": set(),
    "hyperparameters": set(),
    "constraints": set(),
    "networks": {"energies"},
    "visualization": {"energies"},
    "energies": {"_native"},
    "losses": SOLVING,
    "solvers": SOLVING | {"losses"},
    "metrics": SOLVING,
    "modules": MODELING,
    "data": {"energies", "visualization"},
    # A figure compares regularizers and solvers, whatever the module: they are what it is configured with.
    "callbacks": {"energies", "visualization", "metrics", "networks", "losses", "solvers", "modules"},
    "prediction": {"data", "energies", "modules", "networks", "solvers", "visualization"},
    "painting": {"data", "energies", "networks", "prediction", "solvers", "visualization"},
    "reporting": set(),
    "cli": {"", "callbacks", "data", "modules", "painting", "prediction", "reporting", "visualization"} | MODELING,
    "__init__": set(),  # the public names are in its stub
    "__main__": {"cli"},
}
# Within a room: what all of it stands on imports none of what stands on it.
LOWER = {
    "modules/core": ["modules"],
    "solvers/base.py": ["solvers/potts", "solvers/dense_crf", "solvers/constrained"],
    "data/images": ["data/folder", "data/voc", "data/imagenet", "data/scenes"],
    "data/folder/tools": ["data/voc", "data/imagenet", "data/scenes"],
    "cli/errors": ["cli/commands"],
}


def room(path: str) -> str:
    """The room at the top that a file belongs to."""
    return path.split("/", 1)[0].removesuffix(".py")


def file_of(name: str) -> str | None:
    """The source of a dotted name of the package, or of what it is imported from."""
    parts = name.split(".")[1:]
    for count in range(len(parts), -1, -1):
        for path in ("/".join([*parts[:count], "__init__.py"]), "/".join(parts[:count]) + ".py"):
            if path in SOURCES:
                return path
    return None


def imported_names(source: str) -> Iterator[str]:
    """Dotted names of the package that a source imports anywhere."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"line {node.lineno}: imports are absolute in this package"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        else:
            continue
        yield from (name for name in names if name.partition(".")[0] == PACKAGE.name)


def imported_rooms(source: str) -> set[str]:
    """Rooms at the top that a source imports, "" for the package itself."""
    firsts = [name.split(".")[1] for name in imported_names(source) if "." in name]
    return {first if first in ALLOWED else "" for first in firsts}


def read(path: str) -> str:
    return (PACKAGE / path).read_text(encoding="utf-8")


@pytest.mark.parametrize("path", SOURCES)
def test_a_room_imports_only_what_it_may(path):
    own = room(path)
    assert own in ALLOWED, f"say in this test what `{own}` may import"
    found = imported_rooms(read(path)) - SUPPORT
    assert found <= ALLOWED[own] | {own}, f"`{own}` must not import {sorted(found - ALLOWED[own] - {own})}"


def test_the_rules_have_no_circles():
    order = {name: needs - {""} for name, needs in ALLOWED.items()}
    assert list(TopologicalSorter(order).static_order())


@pytest.mark.parametrize("lower", LOWER)
def test_what_others_stand_on_imports_none_of_them(lower):
    for path in SOURCES:
        if path == lower or path.startswith(f"{lower}/"):
            for name in imported_names(read(path)):
                found = Path(file_of(name) or "").as_posix()
                above = [r for r in LOWER[lower] if found.startswith(f"{r}/") and not found.startswith(f"{lower}/")]
                assert not above, f"{path} imports {found}"


def test_no_file_is_imported_in_a_circle():
    graph: dict[str, set[str]] = {}
    for path in SOURCES:
        if path.endswith("__init__.py"):
            continue  # they gather the public names of what is below them
        tree = ast.parse(read(path))
        top = "\n".join(ast.unparse(node) for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom))
        found = {file_of(name) for name in imported_names(top)} - {None, path}
        graph[path] = {name for name in found if not str(name).endswith("__init__.py")}  # type: ignore[misc]
    assert len(list(TopologicalSorter(graph).static_order())) >= len(graph)


def test_the_map_names_every_room():
    drawn = read_map()
    missing = [name for name in ROOMS if f"`{name}/`" not in drawn and f"`{Path(name).name}/`" not in drawn]
    assert not missing, f"weakseg_lightning/README.md does not name {missing}"
    assert len(drawn.splitlines()) <= 60


def read_map() -> str:
    return (PACKAGE / "README.md").read_text(encoding="utf-8")


FOLDERS = sorted({path.parent for kind in ("*.py", "*.hpp", "*.js") for path in PACKAGE.rglob(kind)})


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda path: path.name)
def test_no_room_is_crowded(folder):
    files = [path for path in folder.iterdir() if path.is_file() and path.suffix != ".so"]
    assert len(files) <= 16, f"{folder.name} has {len(files)} files: it wants rooms"


FILES = [*PACKAGE.rglob("*.py"), *Path(__file__).parent.rglob("*.py")]


@pytest.mark.parametrize("path", FILES, ids=lambda path: "/".join(path.parts[-3:]))
def test_no_file_has_two_subjects(path):
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 350


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("import weakseg_lightning.data.voc", {"data"}),
        ("from weakseg_lightning import networks, solvers", {"networks", "solvers"}),
        ("def f():\n    from weakseg_lightning.cli import main", {"cli"}),
        ("from weakseg_lightning import __version__", {""}),
        ("import torch.nn", set()),
    ],
)
def test_imports_are_found(source, expected):
    assert imported_rooms(source) == expected
