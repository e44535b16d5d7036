"""Imports run one way."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import weakseg_lightning

PACKAGE = Path(weakseg_lightning.__file__).parent
SOURCES = sorted(path.relative_to(PACKAGE).as_posix() for path in PACKAGE.rglob("*.py"))

# What each part may import of the package, besides itself.
SOLVING = {"energies", "lattice", "constraints"}
MODELLING = SOLVING | {"losses", "solvers", "metrics", "networks", "latents", "hyperparameters"}
ALLOWED = {
    "_native": set(),
    "hyperparameters": set(),
    "energies": {"_native"},
    "lattice": {"_native"},
    "constraints": set(),
    "networks": set(),
    "visualization": set(),
    "curves": set(),
    "latents": set(),
    "losses": SOLVING | {"_native", "lattice"},
    "solvers": SOLVING | {"_native"},
    "metrics": SOLVING,
    "modules": MODELLING,
    "data": {"visualization"},
    # A figure compares regularisers and solvers, whatever the module: they are what it is configured with.
    "callbacks": {"visualization", "curves", "metrics", "losses", "solvers"},
    "experiments": {"losses"},
    "painting": {"data", "solvers", "visualization"},
    "checkpoints": MODELLING | {"modules"},
    "prediction": {"checkpoints", "data", "modules", "networks", "solvers", "visualization"},
    "exporting": {"modules", "networks"},
    "reporting": set(),
    "cli": {"", "callbacks", "checkpoints", "curves", "data", "exporting", "modules", "painting", "prediction"}
    | {"reporting", "visualization"}
    | MODELLING,
    "__init__": {"callbacks", "checkpoints", "curves", "data", "modules", "prediction"}
    | MODELLING,  # for type checkers
    "__main__": {"cli"},
}


def part(path: str) -> str:
    """The part of the package that a file belongs to."""
    return path.split("/", 1)[0].removesuffix(".py")


def imported_parts(source: str) -> Iterator[str]:
    """Parts of the package that a source imports anywhere, "" for the package itself."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"line {node.lineno}: imports are absolute in this package"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        else:
            continue
        for name in names:
            root, _, rest = name.partition(".")
            if root == PACKAGE.name:
                first = rest.split(".", 1)[0]
                yield first if first in ALLOWED else ""


@pytest.mark.parametrize("path", SOURCES)
def test_a_part_imports_only_what_it_may(path):
    own = part(path)
    assert own in ALLOWED, f"say in this test what `{own}` may import"
    found = set(imported_parts((PACKAGE / path).read_text(encoding="utf-8")))
    assert found <= ALLOWED[own] | {own}, f"`{own}` must not import {sorted(found - ALLOWED[own] - {own})}"


def test_the_rules_have_no_cycles():
    done: set[str] = set()
    while rest := {name: needs for name, needs in ALLOWED.items() if name not in done}:
        free = {name for name, needs in rest.items() if needs <= done | {""}}
        assert free or set(rest) <= {"latents"}, f"{sorted(rest)} import each other"
        done |= free


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
    assert set(imported_parts(source)) == expected
