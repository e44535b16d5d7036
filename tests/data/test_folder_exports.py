"""Annotations of Label Studio become marks at the right places."""

import json

import numpy as np

from weakseg_lightning.data import FolderDataModule
from weakseg_lightning.data.folder_contents import read_folder
from weakseg_lightning.data.label_studio_brush import decode_brush
from weakseg_lightning.data.folder_source import read_mask, read_seeds

SIZE = (48, 40)
SQUARE = np.zeros((40, 48), dtype=np.uint8)  # rows 10 to 19, columns 8 to 27
SQUARE[10:20, 8:28] = 1


def opened(root):
    contents = read_folder(root)
    assert contents.problems == []
    return contents


def boxes(root, name: str = "a") -> list:
    return FolderDataModule(root, supervision="box", val_share=0, num_workers=0).train_source()[0].boxes.tolist()


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
