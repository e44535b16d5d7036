"""Broken tables and exports in a folder of one's own images: what breaks them, which file is named, what is said."""

import base64
import json
import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parent))
from broken_pictures import Break, write


def row(file: str, line: str) -> Break:
    return lambda root: (root / file).write_text((root / file).read_text("utf-8") + line + "\n", "utf-8")


def labelme(*shapes: dict, file: str = "images/a.json", **others: object) -> Break:
    content = {"imagePath": "a.jpg", "imageWidth": 48, "imageHeight": 40, "shapes": list(shapes), **others}
    return write(file, json.dumps(content))


def shape(
    kind: str = "polygon", label: str = "cat", points: object = ((1, 1), (9, 1), (9, 9)), **others: object
) -> dict:
    return {"shape_type": kind, "label": label, "points": points, **others}


def cvat(inside: str, name: str = "a.jpg") -> Break:
    image = f'<image id="0" name="{name}" width="48" height="40">{inside}</image>'
    return write("annotations.xml", f"<annotations><version>1.1</version>{image}</annotations>")


def label_studio(kind: str, value: dict, **others: object) -> Break:
    result = {"type": kind, "value": value, "original_width": 48, "original_height": 40, "to_name": "image", "id": "r"}
    task = {"id": 7, "data": {"image": "/data/upload/1/0a1b2c3d-a.jpg"}, "annotations": [{"result": [result | others]}]}
    return write("annotations/export.json", json.dumps([task]))


LAUGHS = '<!DOCTYPE x [<!ENTITY a "ha"><!ENTITY b "&a;&a;">]><annotations><image name="&b;"/></annotations>'
NOISE = base64.b64encode(b"no picture").decode()

BROKEN_TABLES: dict[str, tuple[Break, str, str]] = {
    # ---- points.csv
    "no column": (write("points.csv", "image,x,class\na,1,cat\n"), "points.csv", "has no column `y` in its first line"),
    "no header": (write("points.csv", "a.jpg,3,4,cat\n"), "points.csv", "has no column `image`, `x`, `y`, `class`"),
    "not a number": (row("points.csv", "a,NaN,3,cat"), "points.csv", "line 4 has 'NaN' in the column `x`, expected"),
    "infinite": (row("points.csv", "a,3,inf,cat"), "points.csv", "line 4 has 'inf' in the column `y`"),
    "word as number": (row("points.csv", "a,left,3,cat"), "points.csv", "line 4 has 'left' in the column `x`"),
    "point outside": (
        row("points.csv", "a,480,3,cat"),
        "points.csv",
        "line 4 reaches (480, 3), outside its image of 48",
    ),
    "negative point": (row("points.csv", "a,-1,3,cat"), "points.csv", "line 4 reaches (-1, 3), outside its image"),
    "unknown class": (
        row("points.csv", "a,1,3,cta"),
        "points.csv",
        "line 4 names the class 'cta' (did you mean 'cat'?)",
    ),
    "index of no class": (row("points.csv", "a,1,3,3"), "points.csv", "line 4 names the class '3': expected one of"),
    "unknown image": (row("points.csv", "nobody.jpg,1,3,cat"), "points.csv", "line 4 is about the image 'nobody.jpg'"),
    "no image name": (row("points.csv", ",1,3,cat"), "points.csv", "line 4 names no image"),
    "no class name": (row("points.csv", "a,1,3,"), "points.csv", "line 4 names the class '': expected one of"),
    "too many values": (row("points.csv", "a,1,3,cat,dog"), "points.csv", "line 4 has 5 values, the first line 4"),
    "semicolons below commas": (
        row("points.csv", "a;1;3;cat"),
        "points.csv",
        "4 has 1 values, the first line 4 (parted",
    ),
    "empty table": (write("points.csv", ""), "points.csv", "is empty, expected a first line `image,x,y,class`"),
    "header alone": (write("points.csv", "image,x,y,class\n\n"), "points.csv", "has no row below its header"),
    "utf-16": (write("points.csv", "image,x,y,class\na,1,2,cat\n".encode("utf-16")), "points.csv", "is not UTF-8 text"),
    "latin-1": (
        write("points.csv", "image,x,y,class\nc d é,1,2,cat\n".encode("latin-1")),
        "points.csv",
        "is not UTF-8",
    ),
    "open quote": (row("points.csv", 'a,1,3,"cat'), "points.csv", "cannot be read (unexpected end of data)"),
    "zero bytes": (write("points.csv", b"image,x,y,class\na,1,\x00,cat\n"), "points.csv", "holds zero bytes"),
    "column twice": (write("points.csv", "image,x,x,y,class\na,1,1,2,cat\n"), "points.csv", "has the column `x` twice"),
    # ---- boxes.csv, tags.csv, sizes.csv
    "box inside out": (
        row("boxes.csv", "a,30,5,10,9,cat"),
        "boxes.csv",
        "line 4 has an empty box (30, 5, 10, 9): x1 < x2",
    ),
    "box without height": (row("boxes.csv", "a,3,5,10,5,cat"), "boxes.csv", "line 4 has an empty box (3, 5, 10, 5)"),
    "box outside": (row("boxes.csv", "a,3,5,90,9,cat"), "boxes.csv", "line 4 reaches (90, 9), outside its image"),
    "box with a hole": (row("boxes.csv", "a,3,,10,9,cat"), "boxes.csv", "line 4 has '' in the column `y1`"),
    "box of three numbers": (
        write("boxes.csv", "image,x1,y1,x2,class\na,1,1,2,cat\n"),
        "boxes.csv",
        "has no column `y2`",
    ),
    "unknown tag": (row("tags.csv", "a,cat|cow"), "tags.csv", "line 6 names the class 'cow'"),
    "tag of no image": (row("tags.csv", "q,cat"), "tags.csv", "line 6 is about the image 'q', which is not there"),
    "tags against scribbles": (
        write("tags.csv", "image,class\na,cat\n"),
        "tags.csv",
        "tags 'a' without dog, which other annotations of it have",
    ),
    "size above one": (row("sizes.csv", "a,cat,150%"), "sizes.csv", "line 6 has the size '150%', expected a fraction"),
    "negative size": (row("sizes.csv", "a,cat,-0.1"), "sizes.csv", "line 6 has the size '-0.1', expected a fraction"),
    "word as size": (row("sizes.csv", "a,cat,huge"), "sizes.csv", "line 6 has the size 'huge', expected a fraction"),
    "size of no class": (row("sizes.csv", "a,bird,0.1"), "sizes.csv", "line 6 names the class 'bird'"),
    # ---- classes.yaml
    "no yaml": (write("classes.yaml", "classes: [a, b"), "classes.yaml", "is not valid YAML ("),
    "no list": (write("classes.yaml", "cat\n"), "classes.yaml", "must hold a list `classes`, background first"),
    "one class": (write("classes.yaml", "classes: [background]\n"), "classes.yaml", "has 1 classes, expected 2 to 255"),
    "too many classes": (
        write("classes.yaml", f"classes: {[f'c{number}' for number in range(256)]}\n"),
        "classes.yaml",
        "has 256 classes, expected 2 to 255",
    ),
    "class twice": (
        write("classes.yaml", "classes: [background, cat, dog, Cat]\n"),
        "classes.yaml",
        "names the class 'Cat' twice",
    ),
    "no color": (
        write("classes.yaml", "classes: [bg, {name: cat, color: reddish}]\n"),
        "classes.yaml",
        "has the color 'reddish'",
    ),
    "color twice": (
        write("classes.yaml", 'classes: [bg, {name: cat, color: "#00ff00"}, {name: dog, color: [0, 255, 0]}]\n'),
        "classes.yaml",
        "gives 'cat' and 'dog' the color #00ff00",
    ),
    "unlabelled too large": (
        write("classes.yaml", "classes: [background, cat, dog]\nunlabelled: 300\n"),
        "classes.yaml",
        "`unlabelled` must be 0 to 255, or a color, got 300",
    ),
    "unknown key": (
        write("classes.yaml", "classes: [a, b, c]\nvoid: 0\n"),
        "classes.yaml",
        "has the unknown keys void",
    ),
    # ---- annotation tools
    "json cut off": (write("images/a.json", '{"shapes": ['), "images/a.json", "is no JSON that can be read"),
    "json too deep": (write("annotations/x.json", "[" * 100_000), "annotations/x.json", "is no JSON that can be read"),
    "foreign json": (
        write("annotations/coco.json", '{"images": []}'),
        "annotations/coco.json",
        "is JSON of neither LabelMe",
    ),
    "labelme of another size": (
        labelme(shape(), imageWidth=96),
        "images/a.json",
        "shape 1 was drawn on an image of 96 x 40",
    ),
    "labelme unknown label": (labelme(shape(label="cow")), "images/a.json", "shape 1 names the class 'cow'"),
    "labelme of two points": (
        labelme(shape(points=((1, 1), (2, 2)))),
        "images/a.json",
        "shape 1 is a region of 2 points",
    ),
    "labelme not a number": (
        labelme(shape(points=((1, 1), (2, 2), (float("nan"), 3)))),
        "images/a.json",
        "shape 1 has a region with coordinates that are no numbers",
    ),
    "labelme unknown shape": (
        labelme(shape("cube")),
        "images/a.json",
        "shape 1 is of the type 'cube', which is not read",
    ),
    "labelme bad mask": (labelme(shape("mask", mask=NOISE)), "images/a.json", "shape 1 is a mask that cannot be read"),
    "labelme without label": (labelme({"points": [[1, 1]]}), "images/a.json", "shape 1 is not as LabelMe writes it"),
    "labelme of no image": (
        labelme(shape(), imagePath="z.jpg", file="images/z.json"),
        "images/z.json",
        "shape 1 is about the image 'z.jpg'",
    ),
    "xml cut off": (write("annotations.xml", "<annotations><image"), "annotations.xml", "is not XML that can be read"),
    "xml that explodes": (
        write("annotations.xml", LAUGHS),
        "annotations.xml",
        "is not XML that can be read (EntitiesForbidden",
    ),
    "cvat video": (
        write("annotations.xml", "<annotations><track/></annotations>"),
        "annotations.xml",
        "as `CVAT for images",
    ),
    "cvat of no image": (cvat('<tag label="cat"/>', "z.jpg"), "annotations.xml", "is about the image 'z.jpg'"),
    "cvat box inside out": (
        cvat('<box label="cat" xtl="9" ytl="1" xbr="3" ybr="4"/>'),
        "annotations.xml",
        "image 'a.jpg', box 1 has an empty box (9, 1, 3, 4)",
    ),
    "cvat mask of wrong length": (
        cvat('<mask label="cat" rle="1,2" left="0" top="0" width="4" height="4"/>'),
        "annotations.xml",
        "is a mask that cannot be read (its runs cover 3 pixels, expected 16)",
    ),
    "cvat mask outside": (
        cvat('<mask label="cat" rle="8,8" left="46" top="0" width="4" height="4"/>'),
        "annotations.xml",
        "is a mask that reaches outside its image of 48 x 40 pixels",
    ),
    "cvat cuboid": (
        cvat('<cuboid label="cat"/>'),
        "annotations.xml",
        "image 'a.jpg', cuboid 1 is of a type that is not read",
    ),
    "cvat points of words": (cvat('<points label="cat" points="x,y"/>'), "annotations.xml", "is not as CVAT writes it"),
    "label studio in brief": (
        write("export.json", '[{"image": "a.jpg"}]'),
        "export.json",
        "export it as JSON (not JSON-MIN)",
    ),
    "label studio brush cut off": (
        label_studio("brushlabels", {"format": "rle", "rle": [0, 0, 1], "brushlabels": ["cat"]}),
        "annotations/export.json",
        "task 7, result r (brushlabels) is a mask that cannot be read (its code ends too early)",
    ),
    "label studio turned": (
        label_studio("polygonlabels", {"polygonlabels": ["cat"], "points": [[1, 1]]}, image_rotation=90),
        "annotations/export.json",
        "is on an image that was turned in Label Studio",
    ),
    "label studio unknown label": (
        label_studio("keypointlabels", {"x": 5, "y": 5, "keypointlabels": ["cow"]}),
        "annotations/export.json",
        "task 7, result r (keypointlabels) names the class 'cow'",
    ),
    "label studio outside": (
        label_studio("keypointlabels", {"x": 500, "y": 5, "keypointlabels": ["cat"]}),
        "annotations/export.json",
        "reaches (240, 2), outside its image of 48 x 40 pixels",
    ),
}
