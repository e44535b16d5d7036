"""Text files of users: UTF-8, and YAML in which every key stands once."""

from collections.abc import Hashable
from pathlib import Path
from typing import Any

import yaml

__all__ = ["load_yaml", "read_text", "read_yaml"]


def read_text(path: Path) -> str:
    """Read a text file in UTF-8, with or without a byte order mark.

    Raises:
        ValueError: if it is in another encoding; names the file.
    """
    try:
        return path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not UTF-8 text ({error.reason}): save it as UTF-8") from error


def read_yaml(path: Path) -> Any:
    """Read a YAML file in UTF-8.

    Raises:
        ValueError: if it is not valid, or has a key twice; names the file and the lines.
    """
    return load_yaml(read_text(path), str(path))


def load_yaml(text: str, source: str) -> Any:
    """Read YAML.

    Args:
        text: the YAML.
        source: where it comes from, for messages.

    Raises:
        ValueError: if it is not valid, or has a key twice; names the source and the lines.
    """
    try:
        return yaml.load(text, _UniqueKeys)  # a safe loader
    except yaml.MarkedYAMLError as error:
        line = f", line {error.problem_mark.line + 1}" if error.problem_mark else ""
        raise ValueError(f"{source}{line}: not YAML: {error.problem}") from error
    except yaml.YAMLError as error:
        raise ValueError(f"{source}: not YAML: {' '.join(str(error).split())}") from error


class _UniqueKeys(yaml.SafeLoader):
    """A safe loader that refuses equal keys; of YAML's own loaders, the last one wins."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        lines: dict[Any, int] = {}
        for key_node, _ in node.value:
            if key_node.tag == "tag:yaml.org,2002:merge":
                continue
            key = self.construct_object(key_node, deep=True)
            line = key_node.start_mark.line + 1
            if isinstance(key, Hashable) and lines.setdefault(key, line) != line:
                raise yaml.MarkedYAMLError(
                    problem=f"the key `{key}` stands in lines {lines[key]} and {line}: remove one of them",
                    problem_mark=key_node.start_mark,
                )
        return super().construct_mapping(node, deep)
