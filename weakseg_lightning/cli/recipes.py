"""Where recipes are found: in the working directory, else among those that come with the package."""

from collections.abc import Callable, Iterator
from difflib import get_close_matches
from itertools import pairwise
from pathlib import Path

_CONFIG_OPTIONS = ("--config", "-c")


def recipes_folder() -> Path:
    """Folder of the recipes that come with the package."""
    package = Path(__file__).resolve().parents[1]
    installed = package / "recipes"
    return installed if installed.is_dir() else package.parent / "recipes"  # the latter in a checkout


def known_recipes() -> list[str]:
    """Names of the recipes that come with the package, overlays last: `adm_grid`, ..., `data/scenes`.

    Those below `experiments/` are not among them: they hold the options of other commands than `fit`.
    """
    folder = recipes_folder()
    names = [path.relative_to(folder).with_suffix("").as_posix() for path in folder.rglob("*.yaml")]
    names = [name for name in names if not name.startswith("experiments/")]
    return sorted(names, key=lambda name: (name.count("/"), name))


def find_recipe(name: str) -> str:
    """Find a recipe: the file of that name, else the shipped recipe of that name.

    Args:
        name: path of a file, or a shipped recipe as `recipes/adm_grid.yaml` or `adm_grid`.

    Returns:
        The path of an existing file, or `name` itself if that is the text of a configuration.

    Raises:
        FileNotFoundError: if there is neither.

    Example:
        >>> Path(find_recipe("recipes/adm_grid.yaml")).name
        'adm_grid.yaml'
    """
    if _is_text(name) or "://" in name or Path(name).is_file():
        return name
    short = Path(name).as_posix().removeprefix("recipes/").removesuffix(".yaml")
    shipped = recipes_folder() / f"{short}.yaml"
    if shipped.is_file():
        return str(shipped)
    known = known_recipes()
    close = get_close_matches(short, known, 1)
    hint = f"; did you mean `recipes/{close[0]}.yaml`?" if close else ""
    raise FileNotFoundError(
        f"no recipe `{name}` in {Path.cwd()} nor in the package{hint}\nThe package has: {', '.join(known)}"
    )


def _is_text(name: str) -> bool:
    """Whether this is not the name of a file, but a configuration itself, which may stand on the command line."""
    return "\n" in name or ": " in name or name.lstrip().startswith("{")


def place_configs(args: list[str], find: Callable[[str], str] = find_recipe) -> list[str]:
    """Put the recipes first, so that options on the command line override them wherever they stand.

    Args:
        args: arguments of the command, the subcommand first.
        find: turns the name of a recipe into the path of a file, see :func:`find_recipe`.

    Returns:
        The arguments in the order: subcommand, recipes (found), other options.

    Raises:
        FileNotFoundError: if a recipe is not found.
    """
    command, rest = args[:1], args[1:]
    if command and command[0].startswith("-"):
        return args
    configs: list[str] = []
    others: list[str] = []
    remaining = iter(rest)
    for arg in remaining:
        name, equals, value = arg.partition("=")
        if name not in _CONFIG_OPTIONS:
            others.append(arg)
        else:
            given = value if equals else next(remaining, None)
            configs += [name] if given is None else ["--config", find(given)]
    return [*command, *configs, *others]


def given_configs(args: list[str]) -> Iterator[Path]:
    """Configuration files among the arguments that :func:`place_configs` has put in order."""
    for option, value in pairwise(args):
        if option == "--config" and not _is_text(value) and Path(value).is_file():
            yield Path(value)
