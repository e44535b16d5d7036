"""Seeds from scribbles, clicks and masks, and their faults."""

import numpy as np
import pytest
import torch
from PIL import Image

from weakseg_lightning.data import BadSampleError
from weakseg_lightning.data.voc.seeds import ClickSeeds, MaskSeeds, PNGScribbles, XMLScribbles

MASK = torch.zeros(10, 20, dtype=torch.uint8)
MASK[2:6, 3:9], MASK[6, 3:9] = 1, 255


def write_png(path, seeds: np.ndarray) -> None:
    Image.fromarray(seeds.astype(np.uint8)).save(path)


def write_xml(path, *points) -> None:
    written = "".join(f"<point><X>{x}</X><Y>{y}</Y></point>" for x, y in points)
    path.write_text(f"<annotation><polygon><tag>cat</tag>{written}</polygon></annotation>")


def test_png_scribbles_are_taken_as_they_are(tmp_path):
    seeds = np.random.default_rng(0).choice([0, 1, 255], (10, 20))
    write_png(tmp_path / "a.png", seeds)
    reader = PNGScribbles(tmp_path)
    assert reader.read("a", MASK).tolist() == seeds.tolist()
    assert reader.find_problem("a", (20, 10)) is None


def test_missing_png_and_other_sizes_are_found_early(tmp_path):
    write_png(tmp_path / "a.png", np.zeros((10, 20)))
    reader = PNGScribbles(tmp_path)
    assert reader.find_problem("b", (20, 10)).startswith(f"{tmp_path / 'b.png'} is missing")
    assert "a.png has 20 x 10 pixels, its image 10 x 20" in reader.find_problem("a", (10, 20))


def test_scribble_without_a_label_is_refused(tmp_path):
    write_png(tmp_path / "a.png", np.full((10, 20), 255))
    with pytest.raises(BadSampleError, match=r"a\.png has no labelled pixel"):
        PNGScribbles(tmp_path).read("a", MASK)
    (tmp_path / "a.xml").write_text("<annotation/>")
    with pytest.raises(BadSampleError, match=r"a\.xml has no labelled pixel"):
        XMLScribbles(tmp_path, ["background", "cat"]).read("a", MASK)


@pytest.mark.parametrize(("length", "expected"), [(1.0, (1, 19)), (0.5, (5, 15)), (0.0, (9, 12))])
def test_xml_scribbles_are_cut_to_length(tmp_path, length, expected):
    write_xml(tmp_path / "a.xml", (2, 5), (17, 5))
    seeds = XMLScribbles(tmp_path, ["background", "cat"], length).read("a", MASK)
    columns = (seeds == 1).any(0).nonzero().flatten()
    assert int(columns.min()) == pytest.approx(expected[0], abs=1)
    assert int(columns.max()) + 1 == pytest.approx(expected[1], abs=1)
    assert (seeds == 1).any(1).nonzero().flatten().tolist() == [4, 5, 6]


def test_missing_xml_is_found_early(tmp_path):
    write_xml(tmp_path / "a.xml", (2, 5), (17, 5))
    reader = XMLScribbles(tmp_path, ["background", "cat"])
    assert reader.find_problem("a", (20, 10)) is None
    assert reader.find_problem("b", (20, 10)).startswith(f"{tmp_path / 'b.xml'} is missing")


def test_clicks_are_drawn_and_their_lack_is_found_early():
    reader = ClickSeeds({"a": [(5.0, 3.0, 1), (15.0, 8.0, 0)], "b": []}, "clicks.json")
    seeds = reader.read("a", MASK)
    assert (seeds == 1).sum() == (seeds == 0).sum() == 9
    assert reader.find_problem("a", (20, 10)) is None
    for name in ("b", "c"):
        assert f"the entry '{name}' of clicks.json has no click" in reader.find_problem(name, (20, 10))
        with pytest.raises(BadSampleError, match="has no labelled pixel"):
            reader.read(name, MASK)


def test_seeds_from_masks():
    assert torch.equal(MaskSeeds("full").read("a", MASK), MASK)
    assert (MaskSeeds("tags").read("a", MASK) == 255).all()
    boxed = MaskSeeds("box").read("a", MASK)
    assert (boxed[2:6, 3:9] == 255).all()
    assert (boxed[6, 3:9] == 255).all()  # void is not known to be background
    assert int((boxed == 255).sum()) == 5 * 6
    assert MaskSeeds("full").find_problem("a", (20, 10)) is None
