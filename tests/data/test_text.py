import itertools
import random

import pytest
import yaml

from weakseg_lightning.data.text import load_yaml, read_text, read_yaml

TEXT = "classes: [Hintergrund, Bär]  # größer\n"


@pytest.fixture
def file(tmp_path):
    def write(content: bytes | str):
        path = tmp_path / "mine.yaml"
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return write


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
def test_utf8_is_read_with_and_without_a_mark(file, encoding):
    assert read_text(file(TEXT.encode(encoding))) == TEXT
    assert read_yaml(file(TEXT.encode(encoding))) == {"classes": ["Hintergrund", "Bär"]}


@pytest.mark.parametrize("text", [TEXT, "classes: [background, bear]\n"])
@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-32-le"])
def test_other_encodings_are_named(file, text, encoding):
    path = file(text.encode(encoding))
    with pytest.raises(ValueError, match=r"is not UTF-8 text .*: save it as UTF-8$") as raised:
        read_text(path)
    assert str(raised.value).startswith(f"{path} ")


@pytest.mark.parametrize("encoding", ["latin-1", "cp1252", "cp437", "mac-roman"])
def test_encodings_of_one_byte_are_named_with_the_line(file, encoding):
    path = file(f"# plain\r\n{TEXT}".encode(encoding))
    with pytest.raises(ValueError, match=r"is not UTF-8 text \(.* in line 2\): save it as UTF-8$"):
        read_text(path)


EQUAL = [
    ("a: 1\nb: 2\na: 3\n", "`a` stands in lines 1 and 3"),
    ("trainer:\n  max_steps: 1\ntrainer:\n  max_epochs: 2\n", "`trainer` stands in lines 1 and 3"),
    ("x:\n  y:\n    a: 1\n    b: 2\n    a: 1\n", "`a` stands in lines 3 and 5"),
    ("x:\n  - a: 1\n    b: 2\n    a: 1\n", "`a` stands in lines 2 and 4"),
    ("- - - {b: {c: 1,\n c: 2}}\n", "`c` stands in lines 1 and 2"),
    ("x: {a: 1, a: 2}\n", "`a` stands 2 times in line 1"),
    ("a: 1\na: 2\nb: 0\na: 3\n", "`a` stands in lines 1, 2 and 4"),
    ("\"a\": 1\na: 2\n'a': 3\n", "`a` stands in lines 1, 2 and 3"),
    ('{"a": 1, "b": {"c": 1,\n"c": 2}}', "`c` stands in lines 1 and 2"),
    ("? a\n: 1\n? a\n: 2\n", "`a` stands in lines 1 and 3"),
    ("yes: 1\ntrue: 2\n", "`yes` stands in lines 1 and 2"),
    ("1: a\n0x1: b\n", "`1` stands in lines 1 and 2"),
    ("a: 1\r\nb: 2\r\na: 3\r\n", "`a` stands in lines 1 and 3"),
    ("base: &b {a: 1}\nx:\n  <<: *b\n  a: 2\n  a: 3\n", "`a` stands in lines 4 and 5"),
    ("x: {<<: {a: 1, a: 2}}\n", "`a` stands 2 times in line 1"),
    ("2024-13-01: 1\n2024-13-01: 2\n", "`2024-13-01` stands in lines 1 and 2"),
]


@pytest.mark.parametrize(("text", "expected"), EQUAL)
def test_equal_keys_are_refused_with_their_lines(file, text, expected):
    path = file(text)
    with pytest.raises(ValueError, match=r"keep one of them$") as raised:
        read_yaml(path)
    assert str(raised.value) == f"{path}: the key {expected}: keep one of them"


def test_a_key_put_twice_into_any_mapping_is_found():
    rng = random.Random(0)
    for _ in range(50):
        lines = list(itertools.islice(_lines(rng, 0), 30))
        text = "\n".join(lines)
        assert load_yaml(text, "F") == yaml.safe_load(text)
        at = rng.choice([i for i, line in enumerate(lines) if line.rstrip()[-1] != ":"])
        doubled = "\n".join([*lines[: at + 1], lines[at], *lines[at + 1 :]])
        with pytest.raises(ValueError, match=rf"lines {at + 1} and {at + 2}: keep"):
            load_yaml(doubled, "F")


def _lines(rng, depth):
    """Nested mappings, each key with a name of its own."""
    for _ in range(rng.randint(2, 5)):
        name = f"k{rng.getrandbits(60)}"
        if depth < 4 and rng.random() < 0.4:
            yield f"{'  ' * depth}{name}:"
            yield from _lines(rng, depth + 1)
            yield f"{'  ' * (depth + 1)}last: 1"
        else:
            yield f"{'  ' * depth}{name}: {rng.randint(0, 9)}"


@pytest.mark.parametrize(
    "text",
    [
        "base: &b {x: 1, y: 1}\nc: &c\n  <<: *b\n  x: 2\nd:\n  <<: *c\n  y: 3\n",
        "a: &a {x: 1}\nb: &b {x: 2, y: 2}\nc:\n  <<: [*a, *b]\n  y: 3\n",
        "b: &b {x: 1}\ndeep: {deeper: {c: &c {<<: *b, x: 2}}}\nd: {<<: *c, x: 5}\n",
        "list: [&p {lr: 1}, {<<: *p, lr: 2}, *p]\n",
        'x: {a: 1}\ny: {a: 1}\nz: [{a: 1}, {a: 1}]\n"1": s\n1: i\n',
        "lr: 1e-3\nwhen: 2024-01-31\nnothing: ~\n",
        "# a comment alone\n",
        "",
    ],
)
def test_everything_else_reads_as_yaml_itself_does(text):
    assert load_yaml(text, "F") == yaml.safe_load(text)


def test_an_alias_within_itself_ends():
    found = load_yaml("x: &a {y: *a}", "F")
    assert found["x"]["y"] is found["x"]


BROKEN = [
    ("a:\n\tb: 1\n", "line 2: not YAML: indented with a tab, use spaces"),
    ("a:\n  b: 1\n\tc: 2\n", "line 3: not YAML: indented with a tab, use spaces"),
    ("a:\n- x\n\t- y\n", "line 3: not YAML: indented with a tab, use spaces"),
    ("a: 1\n---\nb: 2\n", "line 2: not YAML: expected a single document"),
    ('a: 1\nb: "x\nc: 1\n', "line 4: not YAML: while scanning a quoted scalar from line 2, "),
    ("a:\n  b: 1\n c: 2\n", "line 3: not YAML: "),
    ("a: 1\nb: \x01\n", "line 2: not YAML: "),
    ("a: *nothing\n", "line 1: not YAML: found undefined alias"),
    ("a: 1\nb: !mine 2\n", "line 2: not YAML: could not determine a constructor"),
    ("[1]: 2\n", "line 1: not YAML: while constructing a mapping, found unhashable key"),
]


@pytest.mark.parametrize(("text", "expected"), BROKEN)
def test_what_is_not_yaml_is_told_in_one_line(file, text, expected):
    path = file(text)
    with pytest.raises(ValueError, match="not YAML") as raised:
        read_yaml(path)
    assert str(raised.value).startswith(f"{path}, {expected}")
    assert "\n" not in str(raised.value)


def test_a_day_that_there_is_not_names_the_file():
    with pytest.raises(ValueError, match=r"^F: not YAML: "):
        load_yaml("a: 2024-13-01", "F")
