"""Annotations of LabelMe, CVAT and Label Studio become marks at the right places."""

import base64
import io
import json

import numpy as np
import pytest
from PIL import Image

from weakseg_lightning.data import FolderDataModule
from weakseg_lightning.data.folder_contents import read_folder
from weakseg_lightning.data.folder_label_studio import decode_brush
from weakseg_lightning.data.folder_source import read_mask, read_seeds

SIZE = (48, 40)
SQUARE = np.zeros((40, 48), dtype=np.uint8)  # rows 10 to 19, columns 8 to 27
SQUARE[10:20, 8:28] = 1


@pytest.fixture
def bare(make_folder):
    """A folder of images with names of classes and no annotation."""
    root = make_folder()
    for path in (*root.glob("scribbles/*"), *root.glob("masks/*"), *root.glob("*.csv")):
        path.unlink()
    return root


def opened(root):
    contents = read_folder(root)
    assert contents.problems == []
    return contents


def boxes(root, name: str = "a") -> list:
    return FolderDataModule(root, supervision="box", val_share=0, num_workers=0).train_source()[0].boxes.tolist()


# ---- LabelMe ------------------------------------------------------------------------------------------------------


def labelme(root, *shapes: dict, **others) -> None:
    content = {"version": "5.4.1", "imagePath": "..\\images\\a.jpg", "imageWidth": 48, "imageHeight": 40, "flags": {}}
    written = [{"label": "cat", "group_id": None, "flags": {}, **shape} for shape in shapes]
    (root / "images" / "a.json").write_text(json.dumps({**content, "shapes": written, **others}))


def test_labelme_polygons_and_masks_are_the_mask(bare):
    picture = io.BytesIO()
    Image.fromarray(np.full((5, 6), True)).save(picture, "PNG")
    text = base64.b64encode(picture.getvalue()).decode()
    labelme(
        bare,
        {"shape_type": "polygon", "points": [[8, 10], [28, 10], [28, 20], [8, 20]]},
        {"shape_type": "mask", "label": "dog", "points": [[30, 25], [35, 29]], "mask": text},
    )
    expected = SQUARE.copy()
    expected[25:30, 30:36] = 2
    assert (read_mask(opened(bare), "a", SIZE) == expected).all()


def test_labelme_lines_points_rectangles_and_flags(bare):
    labelme(
        bare,
        {"shape_type": "linestrip", "points": [[8.5, 10.5], [27.5, 10.5]]},
        {"shape_type": "point", "label": "dog", "points": [[30.2, 30.7]]},
        {"shape_type": "rectangle", "points": [[28, 20], [8, 10]]},
        flags={"dog": True, "cat": False},
    )
    seeds = read_seeds(opened(bare), "a", SIZE, "scribble")
    assert np.argwhere(seeds == 1).min(0).tolist() == [9, 7]  # 3 pixels wide about row 10, columns 8 to 27
    assert np.argwhere(seeds == 1).max(0).tolist() == [11, 28]
    assert np.argwhere(seeds == 2).mean(0).tolist() == [30, 30]
    assert boxes(bare) == [[8, 10, 28, 20, 1]]
    assert {known.label for known in opened(bare).marks["a"] if known.mark.kind == "tag"} == {2}


def test_labelme_circles_are_round(bare):
    labelme(bare, {"shape_type": "circle", "points": [[24, 20], [24, 30]]})
    mask = read_mask(opened(bare), "a", SIZE)
    assert mask.sum() == pytest.approx(np.pi * 100, rel=0.02)
    assert np.argwhere(mask).mean(0) + 0.5 == pytest.approx([20, 24], abs=0.1)


# ---- CVAT ---------------------------------------------------------------------------------------------------------


def cvat(root, inside: str, folder: str = ".") -> None:
    (root / folder).mkdir(exist_ok=True)
    text = f'<image id="0" name="sub/a.jpg" subset="default" task_id="1" width="48" height="40">{inside}</image>'
    (root / folder / "annotations.xml").write_text(f"<annotations><version>1.1</version><meta/>{text}</annotations>")


def test_cvat_polygons_ellipses_and_masks_by_depth(bare):
    runs = "0,4,2,4,2,4,2"  # three rows of six: four inside, two outside
    cvat(
        bare,
        f'<mask label="dog" z_order="1" rle="{runs}" left="9" top="11" width="6" height="3"/>'
        '<polygon label="cat" z_order="0" points="8.00,10.00;28.00,10.00;28.00,20.00;8.00,20.00"/>',
    )
    expected = SQUARE.copy()
    expected[11:14, 9:13] = 2
    assert (read_mask(opened(bare), "a", SIZE) == expected).all()


def test_cvat_lines_points_boxes_and_tags(bare):
    cvat(
        bare,
        '<polyline label="cat" points="8.5,10.5;27.5,10.5"/><points label="dog" points="30.2,30.7;40.5,5.5"/>'
        '<box label="cat" xtl="8" ytl="10" xbr="28" ybr="20" rotation="0.0"/><tag label="dog"/>',
        folder="annotations",
    )
    seeds = read_seeds(opened(bare), "a", SIZE, "scribble")
    assert int((seeds == 1).sum()) == 3 * 22
    assert int((seeds == 2).sum()) == 2 * 9
    assert boxes(bare) == [[8, 10, 28, 20, 1]]


def test_cvat_boxes_that_are_turned_are_enclosed(bare):
    cvat(bare, '<box label="cat" xtl="14" ytl="18" xbr="34" ybr="22" rotation="90"/>')
    assert np.allclose(boxes(bare), [[22, 10, 26, 30, 1]], atol=1e-4)


# ---- Label Studio -------------------------------------------------------------------------------------------------


def pack(values: np.ndarray) -> list[int]:
    """Write the run-length code with one width of runs: an encoder to hold the decoder against."""
    bits = f"{len(values):032b}" + f"{8 - 1:05b}" + f"{16 - 1:04b}" * 4
    position = 0
    while position < len(values):
        end = position + 1
        while end < len(values) and values[end] == values[position] and end - position < 60_000:
            end += 1
        if end - position > 2:
            bits += f"1{0:02b}{end - position - 1:016b}{values[position]:08b}"
        else:  # a run of different values
            end = min(position + 3, len(values))
            bits += f"0{1:02b}{end - position - 1:016b}" + "".join(f"{value:08b}" for value in values[position:end])
        position = end
    bits += "0" * (-len(bits) % 8)
    return [int(bits[start : start + 8], 2) for start in range(0, len(bits), 8)]


def label_studio(root, *results: dict, file: str = "project.json", **task) -> None:
    written = [{"original_width": 48, "original_height": 40, "to_name": "image", "id": "r", **one} for one in results]
    whole = {"id": 1, "data": {"image": "/data/upload/1/0a1b2c3d-a.jpg"}, "annotations": [{"result": written}], **task}
    (root / file).write_text(json.dumps([whole]))


def test_brush_code_is_unpacked():
    values = np.random.default_rng(0).integers(0, 3, 500).repeat(np.random.default_rng(1).integers(1, 9, 500))
    assert (decode_brush(pack(values)) == values).all()


def test_brush_code_of_label_studio_itself():
    """The first bits by hand: 4 values of 8 bits, widths 3 4 9 12; a run of 4 equal ones."""
    bits = f"{4:032b}" + "00111" + "0010" + "0011" + "1000" + "1011" + "1" + "00" + "011" + f"{255:08b}"
    bits += "0" * (-len(bits) % 8)
    packed = [int(bits[start : start + 8], 2) for start in range(0, len(bits), 8)]
    assert decode_brush(packed).tolist() == [255] * 4


def test_label_studio_brushes_and_polygons_are_the_mask(bare):
    layer = np.zeros((40, 48, 4), dtype=np.uint8)
    layer[30:35, 5:15] = 255
    corners = [[100 * 8 / 48, 25], [100 * 28 / 48, 25], [100 * 28 / 48, 50], [100 * 8 / 48, 50]]
    label_studio(
        bare,
        {"type": "polygonlabels", "value": {"points": corners, "polygonlabels": ["cat"]}},
        {"type": "brushlabels", "value": {"format": "rle", "rle": pack(layer.ravel()), "brushlabels": ["dog"]}},
    )
    expected = SQUARE.copy()
    expected[30:35, 5:15] = 2
    assert (read_mask(opened(bare), "a", SIZE) == expected).all()


def test_label_studio_points_rectangles_and_choices(bare):
    label_studio(
        bare,
        {"type": "keypointlabels", "value": {"x": 50, "y": 50, "width": 1, "keypointlabels": ["dog"]}},
        {"type": "rectanglelabels", "value": {"x": 50, "y": 50, "width": 25, "height": 10, "rectanglelabels": ["cat"]}},
        {"type": "choices", "value": {"choices": ["cat", "dog"]}},
        {"type": "textarea", "value": {"text": ["nice"]}},
        data={"image": "/data/local-files/?d=photos%2Fa.jpg"},
    )
    contents = opened(bare)
    assert np.argwhere(read_seeds(contents, "a", SIZE, "point") == 2).mean(0).tolist() == [20, 24]
    assert boxes(bare) == [[24, 20, 36, 24, 1]]
    assert sum(known.mark.kind == "tag" for known in contents.marks["a"]) == 2


def test_label_studio_takes_the_last_annotation_that_counts(bare):
    def clicked(label, cancelled=False):
        value = {"x": 50, "y": 50, "keypointlabels": [label]}
        result = {"type": "keypointlabels", "value": value, "original_width": 48, "original_height": 40}
        return {"result": [result], "was_cancelled": cancelled}

    label_studio(bare, annotations=[clicked("cat"), clicked("dog"), clicked("cat", cancelled=True)])
    assert [known.label for known in opened(bare).marks["a"]] == [2]
