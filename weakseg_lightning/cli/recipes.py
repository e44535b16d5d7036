"""The search for recipes: in the working directory, else among those that come with the package."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

from weakseg_lightning.errors import MissingFileError, closest

if TYPE_CHECKING:
    from yaml import Node

_CONFIG_OPTIONS = ("--config", "-c")
YAML_SUFFIXES = (".yaml", ".yml")
METHODS = ("adm", "baselines", "ccnn", "decompose", "soft_labels", "trust_region")
"""Folders of recipes; the others hold overlays, and `acdc/` a run with its own."""


def recipes_folder() -> Path:
    """Folder of the recipes that come with the package."""
    package = Path(__file__).resolve().parents[1]
    installed = package / "recipes"
    return installed if installed.is_dir() else package.parent / "recipes"  # the latter in a checkout


def known_recipes() -> list[str]:
    """Names of the recipes that come with the package, overlays last: `adm/adm_grid`, ..., `data/scenes`.

    Those below `experiments/` are not among them: they hold the options of other commands than `fit`.
    """
    folder = recipes_folder()
    names = [path.relative_to(folder).with_suffix("").as_posix() for path in folder.rglob("*.yaml")]
    names = [name for name in names if not name.startswith("experiments/")]
    return sorted(names, key=lambda name: (not is_method(name), name))


def is_method(name: str) -> bool:
    """Whether a recipe is in the folder of a method: `adm/adm_grid` is, `data/scenes` and `acdc/unet` are not."""
    return name.partition("/")[0] in METHODS


def find_recipe(name: str) -> str:
    """Find a recipe: the file of that name, else the shipped recipe of that name.

    Args:
        name: path of a file, also without `.yaml`, or a shipped recipe as `recipes/adm/adm_grid.yaml` or `adm_grid`.

    Returns:
        The path of an existing file, or `name` itself if that is the text of a configuration.

    Raises:
        MissingFileError: if there is neither.

    Example:
        >>> Path(find_recipe("adm_grid")).name
        'adm_grid.yaml'
    """
    if _is_text(name) or "://" in name or Path(name).is_file():
        return name
    if Path(f"{name}.yaml").is_file():
        return f"{name}.yaml"
    short = Path(name).as_posix().removeprefix("recipes/").removesuffix(".yaml")
    known = known_recipes()
    by_file = {each.rpartition("/")[2]: each for each in known if is_method(each)}
    found = by_file.get(short, short)
    if found in known:
        return str(recipes_folder() / f"{found}.yaml")
    beside = {path.stem: path for path in Path(name).parent.glob("*.yaml")}
    if (close := closest(Path(name).stem, beside)) is not None:
        hint = f"; did you mean `{beside[close]}`?"
    elif (close := closest(short, [*by_file, *known])) is not None:
        hint = f"; did you mean `recipes/{by_file.get(close, close)}.yaml`?"
    else:
        hint = f"\nThe package has: {', '.join(known)}"
    raise MissingFileError(f"no recipe `{name}` in {Path.cwd()} nor in the package{hint}")


def _is_text(name: str) -> bool:
    """Tell if this is not the name of a file, but a configuration itself, which may stand on the command line."""
    return "\n" in name or ": " in name or name.lstrip().startswith("{")


def place_configs(args: list[str], find: Callable[[str], str] = find_recipe) -> list[str]:
    """Put the recipes first, so that options on the command line override them wherever they stand.

    Args:
        args: arguments of the command, the subcommand first.
        find: turns the name of a recipe into the path of a file, see :func:`find_recipe`.

    Returns:
        The arguments in the order: subcommand, recipes (found), other options.

    Raises:
        MissingFileError: if a recipe is not found.
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


def check_configs(args: list[str], *, parts: bool = True) -> None:
    """Read all YAML among the arguments before the parser does, which lets the last of equal keys win.

    Args:
        args: arguments that :func:`place_configs` has put in order.
        parts: see :func:`yaml_files`.

    Raises:
        ValueError: if a recipe is not YAML in UTF-8, or a key stands twice anywhere; names the file and the lines.
    """
    from weakseg_lightning.data.text import compose_yaml, read_text

    recipes = set(given_configs(args))
    for path in yaml_files(args, parts=parts):
        with _equal_keys_alone(path not in recipes):
            _check_dotted(compose_yaml(read_text(path), str(path)), str(path))
    for option, value in given_options(args):
        with _equal_keys_alone(option not in _CONFIG_OPTIONS or not _is_text(value)):
            _check_dotted(compose_yaml(value, f"`{option}`"), f"`{option}`")


def yaml_files(args: list[str], *, parts: bool = True) -> Iterator[Path]:
    """Find the recipes among the arguments, and the YAML files that may be parts of a configuration.

    Args:
        args: arguments that :func:`place_configs` has put in order.
        parts: whether values may name such files, as in ``--model.network network.yaml``, also in these files.
    """
    waiting = list(given_configs(args))
    if parts:
        waiting += [Path(value) for _, value in given_options(args) if value.endswith(YAML_SUFFIXES)]
    seen: set[Path] = set()
    for path in waiting:  # grows on the way
        if path in seen or not path.is_file():
            continue
        seen.add(path)
        yield path
        waiting += _named_in(path) if parts else []


def _named_in(path: Path) -> list[Path]:
    """Values of a YAML file that may be names of others."""
    from weakseg_lightning.data.text import compose_yaml, read_text, walk_yaml

    try:
        root = compose_yaml(read_text(path), str(path))
    except ValueError:
        return []
    values = [node.value for node in walk_yaml(root) if isinstance(node.value, str)]
    return [path.parent / value for value in values if value.endswith(YAML_SUFFIXES)]


def given_options(args: list[str]) -> Iterator[tuple[str, str]]:
    """Names and values, of `--name=value` and of `--name value`."""
    for word, following in pairwise([*args, ""]):
        name, equals, value = word.partition("=")
        if word.startswith("-"):
            yield name, value if equals else following


@contextmanager
def _equal_keys_alone(yes: bool) -> Iterator[None]:
    """Let other errors pass where something need not be YAML, as in `--checkpoint.filename {epoch}-{step}`."""
    from weakseg_lightning.data.text import EqualKeysError

    try:
        yield
    except ValueError as error:
        if not yes or isinstance(error, EqualKeysError):
            raise


def _check_dotted(root: "Node | None", source: str) -> None:
    """Raise for an option that a configuration has nested as well as with dots, `trainer.max_steps: 7`."""
    from weakseg_lightning.data.text import EqualKeysError

    lines: dict[str, int] = {}
    for name, line in _leaves(root):
        if lines.setdefault(name, line) != line:
            raise EqualKeysError(f"{source}: `{name}` stands in lines {lines[name]} and {line}: keep one of them")


def _leaves(node: "Node | None", prefix: str = "", around: tuple[int, ...] = ()) -> Iterator[tuple[str, int]]:
    """Names of the options that are given in a mapping, and their lines."""
    from yaml import MappingNode

    if not isinstance(node, MappingNode) or id(node) in around:
        return
    for key, value in node.value:
        if isinstance(value, MappingNode):
            yield from _leaves(value, f"{prefix}{key.value}.", (*around, id(node)))
        else:
            yield f"{prefix}{key.value}", key.start_mark.line + 1
