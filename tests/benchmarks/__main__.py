"""Runs a measurement by its name: ``python tests/benchmarks few_images --help``. Without a name, lists all of them."""

import ast
import runpy
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOMS = sorted(path for path in HERE.iterdir() if path.is_dir() and path.name != "__pycache__")


def scripts() -> dict[str, Path]:
    """Measurements by name: files that begin with a command of theirs."""
    files = (path for room in ROOMS for path in sorted(room.glob("*.py")))
    return {path.stem: path for path in files if f"python tests/benchmarks {path.stem}" in path.read_text("utf-8")}


def listing() -> str:
    """Each measurement's name and the first line of its docstring, by rooms."""
    lines = []
    for name, path in scripts().items():
        title = f"{path.parent.name}:"
        lines += [] if title in lines else [title]
        text = ast.get_docstring(ast.parse(path.read_text("utf-8"))) or ""
        lines.append(f"  {name:<17} {text.splitlines()[0]}")
    return "\n".join(lines)


def main() -> None:
    """Run the measurement that the first word names with the words after it."""
    name = sys.argv[1] if len(sys.argv) > 1 else "--help"
    if name in ("-h", "--help"):
        print(f"{__doc__}\n\n{listing()}")
        return
    if name not in scripts():
        sys.exit(f"no measurement {name!r}; there are {', '.join(scripts())}")
    sys.path[:1] = map(str, [HERE, *ROOMS])
    sys.argv = [str(scripts()[name]), *sys.argv[2:]]
    runpy.run_path(sys.argv[0], run_name="__main__")


if __name__ == "__main__":
    main()
