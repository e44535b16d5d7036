"""Colors of the page are called as Quasar calls them, which shows nothing for other names."""

import re
from pathlib import Path

import pytest

import weakseg_lightning.painting

nicegui = pytest.importorskip("nicegui", reason="nicegui is not installed (extra `app`)")


def test_colors_are_those_of_quasar():
    style = (Path(nicegui.__file__).parent / "static" / "quasar.important.css").read_text(encoding="utf-8")
    sources = (
        path for path in Path(weakseg_lightning.painting.__file__).parent.rglob("*.*") if path.suffix in (".py", ".js")
    )
    named = {
        name for path in sources for name in re.findall(r"\b[a-z]+-[0-9]{1,2}\b", path.read_text(encoding="utf-8"))
    }
    colors = {name for name in named if re.match(r"gr[ae]y|red|green|blue|orange|amber|teal|pink|purple", name)}
    assert "grey-4" in colors
    assert [name for name in sorted(colors) if f".text-{name} " not in style] == []
