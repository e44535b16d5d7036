"""Broken tables and exports in a folder of one's own images: what breaks them, which file is named, what is said."""

import base64
import json

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

# By file and name: the line that is added, and what is said.
ROWS = {
    "points.csv": {
        "not a number": ("a,NaN,3,cat", "line 4 has 'NaN' in the column `x`, expected"),
        "infinite": ("a,3,inf,cat", "line 4 has 'inf' in the column `y`"),
        "word as number": ("a,left,3,cat", "line 4 has 'left' in the column `x`"),
        "point outside": ("a,480,3,cat", "line 4 reaches (480, 3), outside its image of 48"),
        "negative point": ("a,-1,3,cat", "line 4 reaches (-1, 3), outside its image"),
        "unknown class": ("a,1,3,cta", "line 4 names the class 'cta' (did you mean 'cat'?)"),
        "index of no class": ("a,1,3,3", "line 4 names the class '3': expected one of"),
        "unknown image": ("nobody.jpg,1,3,cat", "line 4 is about the image 'nobody.jpg'"),
        "no image name": (",1,3,cat", "line 4 names no image"),
        "no class name": ("a,1,3,", "line 4 names the class '': expected one of"),
        "too many values": ("a,1,3,cat,dog", "line 4 has 5 values, the first line 4"),
        "semicolons below commas": ("a;1;3;cat", "4 has 1 values, the first line 4 (parted"),
        "open quote": ('a,1,3,"cat', "cannot be read (unexpected end of data)"),
    },
    "boxes.csv": {
        "box inside out": ("a,30,5,10,9,cat", "line 4 has an empty box (30, 5, 10, 9): x1 < x2"),
        "box without height": ("a,3,5,10,5,cat", "line 4 has an empty box (3, 5, 10, 5)"),
        "box outside": ("a,3,5,90,9,cat", "line 4 reaches (90, 9), outside its image"),
        "box with a hole": ("a,3,,10,9,cat", "line 4 has '' in the column `y1`"),
    },
    "tags.csv": {
        "unknown tag": ("a,cat|cow", "line 6 names the class 'cow'"),
        "tags parted by commas": ('a,"cat, dog"', "line 6 has 'cat, dog', which is no class but several: write cat|d"),
        "some tags parted by commas": ('a,"cat, cow"', "line 6 names the class 'cat, cow'"),
        "tag of no image": ("q,cat", "line 6 is about the image 'q', which is not there"),
    },
    "sizes.csv": {
        "size above one": ("a,cat,150%", "line 6 has the size '150%', expected a fraction"),
        "negative size": ("a,cat,-0.1", "line 6 has the size '-0.1', expected a fraction"),
        "word as size": ("a,cat,huge", "line 6 has the size 'huge', expected a fraction"),
        "size of no class": ("a,bird,0.1", "line 6 names the class 'bird'"),
    },
}

# The same of what the whole file is replaced by.
FILES: dict[str, dict[str, tuple[str | bytes, str]]] = {
    "cases.csv": {
        "case of no image": (
            "image,case\na,p\nb,p\nzebra,p\n",
            "line 4 is about the image 'zebra', which is not there",
        ),
        "image of no case": ("image,case\na,p\n", "has no row for 1 of 2 images with masks, as 'b': add them"),
    },
    "points.csv": {
        "no column": ("image,x,class\na,1,cat\n", "has no column `y` in its first line"),
        "no header": ("a.jpg,3,4,cat\n", "has no column `image`, `x`, `y`, `class`"),
        "empty table": ("", "is empty, expected a first line `image,x,y,class`"),
        "header alone": ("image,x,y,class\n\n", "has no row below its header"),
        "utf-16": ("image,x,y,class\na,1,2,cat\n".encode("utf-16"), "is not UTF-8 text"),
        "latin-1": ("image,x,y,class\nc d é,1,2,cat\n".encode("latin-1"), "is not UTF-8"),
        "zero bytes": (b"image,x,y,class\na,1,\x00,cat\n", "holds zero bytes"),
        "column twice": ("image,x,x,y,class\na,1,1,2,cat\n", "has the column `x` twice"),
    },
    "boxes.csv": {"box of three numbers": ("image,x1,y1,x2,class\na,1,1,2,cat\n", "has no column `y2`")},
    "tags.csv": {
        "tags against scribbles": ("image,class\na,cat\n", "tags 'a' without dog, which other annotations of it have")
    },
    "classes.yaml": {
        "no yaml": ("classes: [a, b", "is not valid YAML ("),
        "no list": ("cat\n", "must hold a list `classes`, background first"),
        "one class": ("classes: [background]\n", "has 1 classes, expected 2 to 255"),
        "too many classes": (
            f"classes: {[f'c{number}' for number in range(256)]}\n",
            "has 256 classes, expected 2 to 255",
        ),
        "class twice": ("classes: [background, cat, dog, Cat]\n", "names the class 'Cat' twice"),
        "no color": ("classes: [bg, {name: cat, color: reddish}]\n", "has the color 'reddish'"),
        "color twice": (
            'classes: [bg, {name: cat, color: "#00ff00"}, {name: dog, color: [0, 255, 0]}]\n',
            "gives 'cat' and 'dog' the color #00ff00",
        ),
        "background without unlabelled": (
            "classes: [background, cat, dog]\nbackground: 3\n",
            "`background` is for scribbles in which 0 means no label: write `unlabelled: 0`, too",
        ),
        "background of a class": (
            "classes: [background, cat, dog]\nunlabelled: 0\nbackground: 2\n",
            "`background` must be a value of no other class, 3 to 254, got 2",
        ),
        "unlabelled too large": (
            "classes: [background, cat, dog]\nunlabelled: 300\n",
            "`unlabelled` must be 0 to 255, or a color, got 300",
        ),
        "unknown key": ("classes: [a, b, c]\nvoid: 0\n", "has the unknown keys void"),
    },
    "images/a.json": {"json cut off": ('{"shapes": [', "is no JSON that can be read")},
    "annotations/x.json": {"json too deep": ("[" * 100_000, "is no JSON that can be read")},
    "annotations/coco.json": {"foreign json": ('{"images": []}', "is JSON of neither LabelMe")},
    "annotations.xml": {
        "xml cut off": ("<annotations><image", "is not XML that can be read"),
        "xml that explodes": (LAUGHS, "is not XML that can be read (EntitiesForbidden"),
        "cvat video": ("<annotations><track/></annotations>", "as `CVAT for images"),
    },
    "export.json": {"label studio in brief": ('[{"image": "a.jpg"}]', "export it as JSON (not JSON-MIN)")},
}

# The same of other ways to break a file.
OTHERS: dict[str, dict[str, tuple[Break, str]]] = {
    "images/a.json": {
        "labelme of another size": (labelme(shape(), imageWidth=96), "shape 1 was drawn on an image of 96 x 40"),
        "labelme unknown label": (labelme(shape(label="cow")), "shape 1 names the class 'cow'"),
        "labelme of two points": (labelme(shape(points=((1, 1), (2, 2)))), "shape 1 is a region of 2 points"),
        "labelme not a number": (
            labelme(shape(points=((1, 1), (2, 2), (float("nan"), 3)))),
            "shape 1 has a region with coordinates that are no numbers",
        ),
        "labelme unknown shape": (labelme(shape("cube")), "shape 1 is of the type 'cube', which is not read"),
        "labelme bad mask": (labelme(shape("mask", mask=NOISE)), "shape 1 is a mask that cannot be read"),
        "labelme without label": (labelme({"points": [[1, 1]]}), "shape 1 is not as LabelMe writes it"),
    },
    "images/z.json": {
        "labelme of no image": (
            labelme(shape(), imagePath="z.jpg", file="images/z.json"),
            "shape 1 is about the image 'z.jpg'",
        )
    },
    "annotations.xml": {
        "cvat of no image": (cvat('<tag label="cat"/>', "z.jpg"), "is about the image 'z.jpg'"),
        "cvat box inside out": (
            cvat('<box label="cat" xtl="9" ytl="1" xbr="3" ybr="4"/>'),
            "image 'a.jpg', box 1 has an empty box (9, 1, 3, 4)",
        ),
        "cvat mask of wrong length": (
            cvat('<mask label="cat" rle="1,2" left="0" top="0" width="4" height="4"/>'),
            "is a mask that cannot be read (its runs cover 3 pixels, expected 16)",
        ),
        "cvat mask outside": (
            cvat('<mask label="cat" rle="8,8" left="46" top="0" width="4" height="4"/>'),
            "is a mask that reaches outside its image of 48 x 40 pixels",
        ),
        "cvat cuboid": (cvat('<cuboid label="cat"/>'), "image 'a.jpg', cuboid 1 is of a type that is not read"),
        "cvat points of words": (cvat('<points label="cat" points="x,y"/>'), "is not as CVAT writes it"),
    },
    "annotations/export.json": {
        "label studio brush cut off": (
            label_studio("brushlabels", {"format": "rle", "rle": [0, 0, 1], "brushlabels": ["cat"]}),
            "task 7, result r (brushlabels) is a mask that cannot be read (its code ends too early)",
        ),
        "label studio turned": (
            label_studio("polygonlabels", {"polygonlabels": ["cat"], "points": [[1, 1]]}, image_rotation=90),
            "is on an image that was turned in Label Studio",
        ),
        "label studio unknown label": (
            label_studio("keypointlabels", {"x": 5, "y": 5, "keypointlabels": ["cow"]}),
            "task 7, result r (keypointlabels) names the class 'cow'",
        ),
        "label studio outside": (
            label_studio("keypointlabels", {"x": 500, "y": 5, "keypointlabels": ["cat"]}),
            "reaches (240, 2), outside its image of 48 x 40 pixels",
        ),
    },
}

BROKEN_TABLES: dict[str, tuple[Break, str, str]] = {
    **{name: (row(file, line), file, text) for file, all in ROWS.items() for name, (line, text) in all.items()},
    **{name: (write(file, full), file, text) for file, all in FILES.items() for name, (full, text) in all.items()},
    **{name: (apply, file, text) for file, all in OTHERS.items() for name, (apply, text) in all.items()},
}
