"""A page that a browser shows, whatever the texts are."""

import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path

import pytest
from matplotlib.figure import Figure
from PIL import Image

from weakseg_lightning.reporting import Page, Picture, Table

NASTY = """<script>document.title="broken"</script> & "quotes" 'more' $x_1$ </pre></style>"""
LONG = "a_very_long_name_without_any_place_to_break" * 4


def example() -> Page:
    page = Page(f"run {NASTY}")
    page.facts([(NASTY, "61.4 %"), ("iterations", "100")])
    page.section(NASTY)
    page.text(NASTY)
    page.table(
        Table(NASTY, ["class", *[f"column {k}" for k in range(12)]], [[LONG, *["1.0"] * 12], [NASTY, *["2"] * 12]])
    )
    figure = Figure(figsize=(9, 3))
    figure.add_subplot().plot([1, 2, 3])
    page.section("Curves")
    page.figure(figure, f"a drawing {NASTY}")
    page.picture(Picture(Image.new("RGB", (950, 300), "red"), NASTY, f"a red picture {NASTY}"))
    page.folded("config.yaml", f"{NASTY}\n{LONG}")
    return page


class Outline(HTMLParser):
    """Elements in order; complains about those that are not closed as they were opened."""

    EMPTY = frozenset({"meta", "link", "img", "br"})

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[tuple[str, dict]] = []
        self.open: list[str] = []
        self.texts: list[str] = []

    def handle_starttag(self, tag, attrs):
        self.seen.append((tag, dict(attrs)))
        if tag not in self.EMPTY:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.seen.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.texts.append(data)


def outline(page: Page) -> Outline:
    parsed = Outline()
    parsed.feed(page.html())
    parsed.close()
    assert parsed.open == []
    return parsed


def test_texts_are_texts():
    parsed = outline(example())
    assert "script" not in {tag for tag, _ in parsed.seen}
    assert sum(NASTY in text for text in parsed.texts) >= 8, "shown as written"


def test_what_is_seen_has_a_text_and_what_is_wide_can_be_scrolled():
    parsed = outline(example())
    by_tag = {tag: [attributes for name, attributes in parsed.seen if name == tag] for tag, _ in parsed.seen}
    assert by_tag["html"] == [{"lang": "en"}]
    assert all(image["alt"].startswith("a red picture") for image in by_tag["img"])
    assert all(svg["role"] == "img" and svg["aria-label"].startswith("a drawing") for svg in by_tag["svg"])
    assert {attributes["scope"] for attributes in by_tag["th"]} == {"col", "row"}
    assert {"class": "wide", "tabindex": "0", "role": "region", "aria-label": NASTY} in by_tag["div"]
    headings = [int(tag[1]) for tag, _ in parsed.seen if re.fullmatch(r"h\d", tag)]
    assert headings[0] == 1
    assert set(headings[1:]) == {2}


def test_nothing_comes_from_outside():
    html = example().html()
    sources = re.findall(r'\b(?:src|href|xlink:href)="([^"]*)"', html)
    assert sources
    assert all(source.startswith(("data:", "#")) for source in sources)
    assert "default-src 'none'" in html
    assert "@import" not in html
    assert not re.search(r"url\((?!#)", html)


def test_the_same_is_the_same_page():
    assert example().html() == example().html()


# ---- in a browser -------------------------------------------------------------------------------------------------

PROBE = """<script>
addEventListener("load", () => {
  const wide = document.querySelector(".wide");
  document.documentElement.dataset.found = [
    document.documentElement.scrollWidth <= innerWidth, innerWidth, performance.getEntriesByType("resource").length,
    wide.scrollWidth > wide.clientWidth, document.querySelector("img").naturalWidth,
    document.querySelector("svg").getBoundingClientRect().width <= innerWidth].join(" ");
});
</script>"""


def browse(path: Path, *options: str) -> str:
    browser = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "chrome"))), None)
    if browser is None:
        pytest.skip("no Chromium or Chrome on this machine to open the page with")
    general = [
        "--headless=new",
        "--no-sandbox",
        "--disable-gpu",
        "--hide-scrollbars",
        "--disable-extensions",
        "--disable-background-networking",
        "--no-first-run",
        f"--user-data-dir={path.parent}/b",
    ]
    command = [browser, *general, *options, path.as_uri()]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=300).stdout


def test_a_browser_shows_it_on_a_phone_without_scrolling_sideways(tmp_path):
    path = tmp_path / "page.html"
    # The page allows no scripts, so the one that measures comes with another policy, in a frame as wide as a phone.
    html = re.sub(r'<meta http-equiv="Content-Security-Policy"[^>]*>', "", example().html())
    path.write_text(html.replace("</body>", f"{PROBE}</body>"), encoding="utf-8")
    shown = browse(path, "--window-size=500,900", "--dump-dom")
    found = re.search(r'data-found="([^"]*)"', shown)
    assert found, shown[:500]
    fits, width, resources, scrolls, pixels, drawn = found[1].split()
    assert int(width) <= 500
    assert (fits, scrolls, drawn) == ("true", "true", "true")
    assert (resources, pixels) == ("0", "950")


def test_a_browser_runs_no_script_of_a_text(tmp_path):
    path = tmp_path / "page.html"
    path.write_text(example().html().replace("</body>", f"{PROBE}</body>"), encoding="utf-8")
    shown = browse(path, "--dump-dom")
    assert "data-found" not in shown, "the page's policy forbids scripts"
    assert "<h2>&lt;script&gt;" in shown
