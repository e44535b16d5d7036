"""Polygons are those regions, also to the readers of others."""

import json

import numpy as np
import pytest
from scipy import ndimage

from weakseg_lightning.prediction.polygons import CocoPolygons
from weakseg_lightning.visualization import save_palette_png

pytest.importorskip("rasterio")

RING = np.zeros((9, 11), dtype=np.uint8)
RING[1:8, 2:9] = 1
RING[3:6, 4:7] = 0
RING[4, 5] = 2
RING[8, 10] = 255


def written(tmp_path, labels, names=("background", "cat", "dog")):
    save_palette_png(tmp_path / "labels.png", labels)
    polygons = CocoPolygons(names)
    polygons.add("a.jpg", tmp_path / "labels.png")
    polygons.write(tmp_path / "polygons.json")
    return json.loads((tmp_path / "polygons.json").read_text())


def test_a_ring_keeps_its_hole_and_what_is_in_it(tmp_path):
    found = written(tmp_path, RING)
    assert found["images"] == [{"id": 1, "file_name": "a.jpg", "width": 11, "height": 9}]
    assert found["categories"] == [{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}]
    by_class = {annotation["category_id"]: annotation for annotation in found["annotations"]}
    assert len(found["annotations"]) == 2, "neither background nor void is a region"
    assert by_class[1]["area"] == 49 - 9
    assert by_class[1]["bbox"] == [2, 1, 7, 7]
    assert by_class[2]["area"] == 1
    assert by_class[2]["bbox"] == [5, 4, 1, 1]
    assert {annotation["iscrowd"] for annotation in found["annotations"]} == {0}
    assert len({annotation["id"] for annotation in found["annotations"]}) == 2


def random_labels(seed: int) -> np.ndarray:
    noise = ndimage.gaussian_filter(np.random.default_rng(seed).normal(size=(3, 40, 50)), (0, 1.5, 1.5))
    return noise.argmax(0).astype(np.uint8)


@pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning")
@pytest.mark.parametrize("labels", [RING, *map(random_labels, range(4))])
def test_pycocotools_reads_the_label_map_back(tmp_path, labels):
    coco = pytest.importorskip("pycocotools.coco")
    written(tmp_path, labels)
    api = coco.COCO(tmp_path / "polygons.json")
    seen = np.zeros(labels.shape, dtype=np.uint8)
    for annotation in api.loadAnns(api.getAnnIds(imgIds=[1])):
        mask = api.annToMask(annotation)
        assert mask.sum() == annotation["area"]
        rows, columns = np.nonzero(mask)
        x, y, width, height = annotation["bbox"]
        assert (columns.min(), rows.min()) == (x, y)
        assert (columns.max() + 1 - x, rows.max() + 1 - y) == (width, height)
        assert not (seen.astype(bool) & mask.astype(bool)).any()
        seen[mask.astype(bool)] = annotation["category_id"]
    np.testing.assert_array_equal(seen, np.where(labels == 255, 0, labels))


def test_there_is_one_annotation_for_each_connected_part(tmp_path):
    labels = random_labels(9)
    found = written(tmp_path, labels)["annotations"]
    for k in (1, 2):
        assert sum(a["category_id"] == k for a in found) == ndimage.label(labels == k)[1]
