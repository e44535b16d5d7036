"""A page of HTML without scripts and without anything from outside: text, tables, figures and pictures."""

import base64
import io
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from html import escape

from matplotlib import rc_context
from matplotlib.figure import Figure
from PIL import Image

# Nothing may be loaded, whatever a name or a configuration says.
_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
_STYLE = """
:root { color-scheme: light; --ink: #1d1d1f; --faint: #5b5b60; --line: #d8d8dc; --paper: #fff; --shade: #f5f5f7 }
* { box-sizing: border-box }
body { margin: 0 auto; padding: 1rem; max-width: 60rem; background: var(--paper); color: var(--ink);
  font: 1rem/1.5 system-ui, sans-serif; overflow-wrap: anywhere }
h1 { font-size: 1.5rem; line-height: 1.2; margin: .5rem 0 }
h2 { font-size: 1.2rem; margin: 2rem 0 .5rem; padding-top: .5rem; border-top: 1px solid var(--line) }
p, figcaption, caption { margin: .5rem 0; color: var(--faint) }
dl { display: grid; grid-template-columns: repeat(auto-fit, minmax(9rem, 1fr)); gap: .5rem; margin: 1rem 0 }
dl div { background: var(--shade); border-radius: .4rem; padding: .5rem .75rem }
dt { color: var(--faint); font-size: .875rem }
dd { margin: 0; font-size: 1.25rem; font-variant-numeric: tabular-nums }
figure { margin: 1rem 0 }
figure svg, figure img { display: block; max-width: 100%; height: auto }
.wide { overflow-x: auto }
.wide:focus-visible, summary:focus-visible { outline: 2px solid #0058b0 }
table { border-collapse: collapse; font-variant-numeric: tabular-nums }
caption { text-align: left }
th, td { padding: .25rem .75rem; border-bottom: 1px solid var(--line); text-align: right }
th:first-child, td:first-child { text-align: left; padding-left: 0 }
th { font-weight: 600 }
summary { cursor: pointer; padding: .5rem 0 }
pre { margin: 0; padding: .75rem; background: var(--shade); border-radius: .4rem; font-size: .8125rem;
  overflow-x: auto; overflow-wrap: normal }
"""


@dataclass(frozen=True)
class Table:
    """A table whose first column names the rows.

    Args:
        title: what it shows.
        head: names of the columns.
        rows: texts.
    """

    title: str
    head: Sequence[str]
    rows: Sequence[Sequence[str]]


@dataclass(frozen=True)
class Picture:
    """A picture.

    Args:
        image: RGB.
        caption: text below it.
        text: what it shows, for those who do not see it.
    """

    image: Image.Image
    caption: str
    text: str


@dataclass
class Page:
    """Gathers the parts of a page; every text is escaped.

    Args:
        title: its title.

    Example:
        >>> page = Page("cats & dogs")
        >>> page.section("Results")
        >>> page.text("a < b")
        >>> "<h1>cats &amp; dogs</h1>" in page.html() and "<p>a &lt; b</p>" in page.html()
        True
    """

    title: str
    _parts: list[str] = field(default_factory=list)
    _open: bool = False

    def section(self, title: str) -> None:
        """Begin a section."""
        self._parts.append(f"{self._end()}<section>\n<h2>{escape(title)}</h2>")
        self._open = True

    def text(self, text: str) -> None:
        """Add a paragraph."""
        self._parts.append(f"<p>{escape(text)}</p>")

    def facts(self, facts: Sequence[tuple[str, str]]) -> None:
        """Add names with values, as large figures."""
        found = "".join(f"<div><dt>{escape(name)}</dt><dd>{escape(value)}</dd></div>" for name, value in facts)
        self._parts.append(f"<dl>{found}</dl>")

    def table(self, table: Table) -> None:
        """Add a table; a wide one is scrolled, not the page."""
        head = "".join(f'<th scope="col">{escape(name)}</th>' for name in table.head)
        rows = "".join(
            f'<tr><th scope="row">{escape(first)}</th>{"".join(f"<td>{escape(cell)}</td>" for cell in rest)}</tr>\n'
            for first, *rest in table.rows
        )
        title = escape(table.title)
        self._parts.append(
            f'<div class="wide" tabindex="0" role="region" aria-label="{title}">\n<table><caption>{title}</caption>\n'
            f"<thead><tr>{head}</tr></thead>\n<tbody>{rows}</tbody></table></div>"
        )

    def figure(self, figure: Figure, caption: str) -> None:
        """Add a drawing of matplotlib, as vectors."""
        label = escape(caption)
        drawn = _svg(figure).replace("<svg ", f'<svg role="img" aria-label="{label}" ', 1)
        self._parts.append(f"<figure>{drawn}<figcaption>{label}</figcaption></figure>")

    def picture(self, picture: Picture) -> None:
        """Add a picture, as JPEG."""
        written = io.BytesIO()
        picture.image.save(written, format="JPEG", quality=88)
        data = base64.b64encode(written.getvalue()).decode()
        width, height = picture.image.size
        self._parts.append(
            f'<figure><img src="data:image/jpeg;base64,{data}" width="{width}" height="{height}" '
            f'alt="{escape(picture.text)}"><figcaption>{escape(picture.caption)}</figcaption></figure>'
        )

    def folded(self, title: str, text: str) -> None:
        """Add a long text that opens when it is clicked."""
        self._parts.append(f"<details><summary>{escape(title)}</summary>\n<pre>{escape(text)}</pre></details>")

    def html(self) -> str:
        """The whole page."""
        title = escape(self.title)
        return (
            f'<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
            f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">\n'
            f'<meta name="viewport" content="width=device-width, initial-scale=1">\n'
            f'<link rel="icon" href="data:,">\n<title>{title}</title>\n<style>{_STYLE}</style>\n</head>\n'
            f"<body>\n<main>\n<h1>{title}</h1>\n{chr(10).join(self._parts)}{self._end()}\n</main>\n</body>\n</html>\n"
        )

    def _end(self) -> str:
        return "\n</section>\n" if self._open else ""


def _svg(figure: Figure) -> str:
    """A figure as an SVG element, the same for the same figure."""
    written = io.StringIO()
    with rc_context({"svg.fonttype": "none", "svg.hashsalt": "weakseg", "font.family": "sans-serif"}):
        figure.savefig(written, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    text = written.getvalue()
    return re.sub(r"<metadata>.*?</metadata>\s*", "", text[text.index("<svg") :], flags=re.DOTALL)
