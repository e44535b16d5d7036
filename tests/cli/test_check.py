"""`weakseg check`: a sound folder passes, and everything broken has its line, here and before training."""

import base64
import json
import shutil
import struct
import unicodedata
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from weakseg_lightning.cli.check import check
from weakseg_lightning.data import FolderDataModule

Break = Callable[[Path], object]


def write(file: str, content: str | bytes) -> Break:
    def apply(root: Path) -> None:
        path = root / file
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())

    return apply


def cut(file: str, share: float) -> Break:
    def apply(root: Path) -> None:
        whole = (root / file).read_bytes()
        (root / file).write_bytes(whole[: int(share * len(whole))])

    return apply


def picture(file: str, *shape: int, value: int = 255, kind: type = np.uint8, **options: object) -> Break:
    """Replaces a file by a plain picture."""
    return lambda root: Image.fromarray(np.full(shape, value, dtype=kind)).save(root / file, **options)


def edited(file: str, change: Callable[[np.ndarray], object]) -> Break:
    """Changes the pixels of a label map."""

    def apply(root: Path) -> None:
        pixels = np.array(Image.open(root / file))
        change(pixels)
        Image.fromarray(pixels).save(root / file)

    return apply


def row(file: str, line: str) -> Break:
    return lambda root: (root / file).write_text((root / file).read_text("utf-8") + line + "\n", "utf-8")


def copied(source: str, target: str) -> Break:
    return lambda root: shutil.copy(root / source, root / target)


def bomb(root: Path) -> None:
    """A PNG of some bytes that claims 60,000 x 60,000 pixels."""
    head = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
    chunks = [(b"IHDR", head), (b"IDAT", zlib.compress(b"")), (b"IEND", b"")]
    packed = [
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in chunks
    ]
    (root / "images" / "b.png").write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(packed))


def turn_by_exif(root: Path) -> None:
    exif = Image.Exif()
    exif[274] = 6
    Image.open(root / "images" / "a.jpg").save(root / "images" / "a.jpg", exif=exif)


def no_numbers(root: Path) -> None:
    (root / "images" / "b.png").unlink()
    Image.fromarray(np.full((40, 48), np.nan, dtype=np.float32)).save(root / "images" / "b.tif")


def two_pages(root: Path) -> None:
    (root / "images" / "b.png").unlink()
    page = Image.new("RGB", (48, 40))
    page.save(root / "images" / "b.tif", save_all=True, append_images=[page])


def renumbered_in_part(root: Path) -> None:
    """Value 1 has the colour of dog (class 2), value 2 that of nothing."""
    image = Image.open(root / "scribbles" / "b.png")
    palette = image.getpalette()
    palette[3:9] = [0, 0, 255, 9, 9, 9]
    image.putpalette(palette)
    image.save(root / "scribbles" / "b.png")


def smooth(root: Path) -> None:
    path = root / "scribbles" / "c d é.png"
    image = Image.open(path).convert("RGB").resize((24, 20), Image.Resampling.BILINEAR)
    image.resize((48, 40), Image.Resampling.BILINEAR).save(path)


def labelme(*shapes: dict, **others: object) -> Break:
    content = {"imagePath": "a.jpg", "imageWidth": 48, "imageHeight": 40, "shapes": list(shapes), **others}
    return write("images/a.json", json.dumps(content))


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

BROKEN: dict[str, tuple[Break, str, str]] = {
    # ---- images
    "jpeg cut off": (cut("images/a.jpg", 0.5), "images/a.jpg", "cannot be read (image file is truncated"),
    "png cut off": (cut("images/b.png", 0.5), "images/b.png", "cannot be read ("),
    "empty image": (write("images/a.jpg", b""), "images/a.jpg", "is not an image that can be read"),
    "web page as image": (write("images/b.png", "<html>404</html>"), "images/b.png", "is not an image that can be"),
    "damaged png": (
        lambda root: write("images/b.png", (root / "images/b.png").read_bytes().replace(b"IDAT", b"IDAX"))(root),
        "images/b.png",
        "is not an image that can be read",
    ),
    "bomb": (bomb, "images/b.png", "claims to be larger than any photograph"),
    "gif": (picture("images/e.gif", 40, 48), "images/e.gif", "is no image that is read (.jpg"),
    "heic": (write("images/IMG_1.heic", b"ftypheic"), "images/IMG_1.heic", "is no image that is read (.jpg"),
    "note among the images": (write("images/read me.txt", "hi"), "images/read me.txt", "convert or remove it"),
    "two images of a name": (copied("images/a.jpg", "images/a.png"), "images/a.png", "has the name of images/a.jpg"),
    "names differ in case": (copied("images/a.jpg", "images/A.jpg"), "images/a.jpg", "has the name of images/A.jpg"),
    "one name in two spellings": (
        copied("images/a.jpg", unicodedata.normalize("NFD", "images/c d é.jpg")),
        "images/c d é.png",
        "has the name of images/c d",
    ),
    "pixels that are no numbers": (no_numbers, "images/b.tif", "it holds pixels that are no numbers"),
    "tiff of pages": (two_pages, "images/b.tif", "it has 2 pages, expected one image"),
    "turned by exif": (turn_by_exif, "scribbles/a.png", "has 48 x 40 pixels, its image 40 x 48 (upright: its EXIF"),
    # ---- scribbles
    "scribble of another size": (picture("scribbles/a.png", 20, 24), "scribbles/a.png", "has 24 x 20 pixels, its im"),
    "empty scribble": (picture("scribbles/a.png", 40, 48), "scribbles/a.png", "has no labelled pixel: draw a stroke"),
    "transparent scribble": (picture("scribbles/a.png", 40, 48, 4, value=0), "scribbles/a.png", "has no labelled pix"),
    "scribble everywhere": (picture("scribbles/a.png", 40, 48, value=0), "scribbles/a.png", "labels every pixel: if"),
    "scribble of no class": (
        edited("scribbles/a.png", lambda pixels: np.put(pixels, [0, 1], [7, 9])),
        "scribbles/a.png",
        "holds the values 7, 9, expected 0 to 2, or 255",
    ),
    "colour of no class": (
        edited("scribbles/c d é.png", lambda pixels: pixels.__setitem__((0, 0), (0, 255, 0, 255))),
        "scribbles/c d é.png",
        "has colours of no class, #00ff00 (1 pixels): name them in classes.yaml",
    ),
    "smoothed edges": (smooth, "scribbles/c d é.png", "more: switch off the smoothing of edges when drawing"),
    "scribble as jpeg": (picture("scribbles/e.jpg", 40, 48), "scribbles/e.jpg", "is no PNG: save it as PNG, which"),
    "scribble of no image": (
        copied("scribbles/a.png", "scribbles/aa.png"),
        "scribbles/aa.png",
        "belongs to no image: there is no images/aa.* (did you mean 'a'?)",
    ),
    "scribble cut off": (cut("scribbles/b.png", 0.6), "scribbles/b.png", "cannot be read ("),
    "scribble in cmyk": (
        lambda root: Image.new("CMYK", (48, 40)).save(root / "scribbles" / "a.png", format="TIFF"),
        "scribbles/a.png",
        "has pixels of type CMYK, expected indexed, grey or RGB",
    ),
    "scribble of 16 bits": (
        picture("scribbles/a.png", 40, 48, value=1000, kind=np.uint16),
        "scribbles/a.png",
        "holds the value 1000, expected 0 to 2, or 255",
    ),
    "palette renumbered": (renumbered_in_part, "scribbles/b.png", "its palette was renumbered, value 1 has the col"),
    "palette index of no class": (
        lambda root: edited("scribbles/b.png", lambda pixels: np.put(pixels, 0, 5))(root),
        "scribbles/b.png",
        "holds the values 5, expected 0 to 2",
    ),
    "text as scribble": (write("scribbles/a.png", "hello"), "scribbles/a.png", "is not an image that can be read"),
    "no bytes as scribble": (write("scribbles/b.png", b""), "scribbles/b.png", "is not an image that can be read"),
    # ---- masks
    "mask of another size": (
        picture("masks/a.png", 40, 47, value=0),
        "masks/a.png",
        "has 47 x 40 pixels, its image 48",
    ),
    "mask turned sideways": (
        picture("masks/a.png", 48, 40, value=0),
        "masks/a.png",
        "(upright: its EXIF data turn it)",
    ),
    "mask of no class": (picture("masks/b.png", 40, 48, value=3), "masks/b.png", "holds the values 3, expected 0 to 2"),
    "mask in foreign colours": (picture("masks/b.png", 40, 48, 3, value=0, kind=np.uint8), "masks/b.png", ""),
    "mask cut off": (cut("masks/a.png", 0.7), "masks/a.png", "cannot be read ("),
    "mask of no image": (copied("masks/a.png", "masks/zebra.png"), "masks/zebra.png", "belongs to no image"),
    "mask as tiff": (picture("masks/a.tif", 40, 48, value=0), "masks/a.tif", "is no PNG: save it as PNG"),
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
    "size above one": (row("sizes.csv", "a,cat,150%"), "sizes.csv", "line 6 has the size '150%', expected a share"),
    "negative size": (row("sizes.csv", "a,cat,-0.1"), "sizes.csv", "line 6 has the size '-0.1', expected a share"),
    "word as size": (row("sizes.csv", "a,cat,huge"), "sizes.csv", "line 6 has the size 'huge', expected a share"),
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
    "no colour": (
        write("classes.yaml", "classes: [bg, {name: cat, color: reddish}]\n"),
        "classes.yaml",
        "has the colour 'reddish'",
    ),
    "colour twice": (
        write("classes.yaml", 'classes: [bg, {name: cat, color: "#00ff00"}, {name: dog, color: [0, 255, 0]}]\n'),
        "classes.yaml",
        "gives 'cat' and 'dog' the colour #00ff00",
    ),
    "unlabelled too large": (
        write("classes.yaml", "classes: [background, cat, dog]\nunlabelled: 300\n"),
        "classes.yaml",
        "`unlabelled` must be 0 to 255, or a colour, got 300",
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
    "labelme of no image": (labelme(shape(), imagePath="z.jpg"), "images/a.json", "shape 1 is about the image 'z.jpg'"),
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
# A picture of three equal channels is read as a grey one: this entry shows that other colours are not.
BROKEN["mask in foreign colours"] = (
    lambda root: Image.new("RGB", (48, 40), (0, 200, 0)).save(root / "masks" / "b.png"),
    "masks/b.png",
    "has colours of no class, #00c800 (1920 pixels)",
)


def lines(text: str) -> list[str]:
    """Lines with single spaces, accents in one piece."""
    return [" ".join(line.split()) for line in unicodedata.normalize("NFC", text).splitlines()]


def test_a_sound_folder_passes(make_folder, capsys):
    root = make_folder()
    assert check(root) == 0
    out = lines(capsys.readouterr().out)
    assert out[0] == f"{root}: 3 images, 48 x 40 pixels; 3 classes (classes.yaml)"
    assert {"scribbles/ 3", "masks/ 2", "clicks 2 2", "boxes 2 2", "tags 3 6", "sizes 2 4"} <= set(out)
    assert out[-2:] == ["All is well. Next:", f"weakseg init {root}"]
    with Image.open(root / "contact_sheet.jpg") as sheet:
        assert sheet.width > 3 * 200


def test_class_balance_is_counted(make_folder, capsys):
    root = make_folder()
    (root / "points.csv").unlink()
    check(root)
    out = lines(capsys.readouterr().out)
    # By hand: strokes of 3 x 35 background, 3 x 12 cat, 3 x 12 dog; masks of 40 x 48 with 10 x 20 of either.
    assert "0 background 3 0 59.3% 79.2%" in out
    assert "1 cat 3 6 20.3% 10.4%" in out
    assert f"scribbles and clicks label {177 / 1920:.2%} of the pixels of 3 images" in out


def test_the_corpus_is_as_large_as_promised():
    assert len(BROKEN) >= 60


@pytest.mark.parametrize("name", BROKEN)
def test_everything_broken_has_its_line_and_stops_training_before_it_starts(make_folder, capsys, name):
    breaking, file, text = BROKEN[name]
    root = make_folder()
    breaking(root)
    assert check(root) == 1
    printed = capsys.readouterr()
    found = [line for line in lines(printed.out) if line.startswith(f"{file} ") and text in line]
    assert len(found) == 1, printed.out
    assert printed.err == ""
    assert lines(printed.out)[-2:] == ["Mend these, then again:", f"weakseg check {root}"]
    with pytest.raises((ValueError, OSError)) as stopped:
        FolderDataModule(root, num_workers=0).setup("fit")
    assert text in unicodedata.normalize("NFC", str(stopped.value))


def test_each_fault_has_its_own_line(make_folder, capsys):
    root = make_folder()
    for name in ("jpeg cut off", "palette renumbered", "mask of no image", "box inside out", "word as size"):
        BROKEN[name][0](root)
    assert check(root) == 1
    out = lines(capsys.readouterr().out)
    start = out.index("5 problems:")
    assert sorted(line.split()[0] for line in out[start + 1 : start + 6]) == [
        "boxes.csv",
        "images/a.jpg",
        "masks/zebra.png",
        "scribbles/b.png",
        "sizes.csv",
    ]


def test_what_is_no_fault_is_a_note(make_folder, capsys):
    root = make_folder()
    for path in [*(root / "masks").iterdir(), *root.glob("*.csv"), root / "scribbles" / "b.png"]:
        path.unlink()
    (root / "classes.yaml").write_text("classes: [background, cat, dog, bird]\n")
    (root / "scribbles" / "c d é.png").unlink()
    assert check(root) == 0
    notes = [line for line in lines(capsys.readouterr().out) if line.startswith("note: ")]
    assert notes == [
        "note: 2 images have no annotation, as b: they can be labelled after training",
        "note: no annotation has the class bird: nothing can be learnt about it",
        "note: no image has a mask: training works, but there will be no validation",
    ]


def test_a_folder_that_is_not_there_or_empty_is_one_line(run):
    assert run("check", "nowhere")[::2] == (
        2,
        f"weakseg: error: `data`: there is no folder nowhere (working directory: {Path.cwd()})\n",
    )
    Path("empty").mkdir()
    status, _, err = run("check", "empty")
    assert (status, err.count("\n")) == (2, 1)
    assert "no folder `images` in" in err


def test_the_command_takes_the_folder_as_a_word_or_an_option(run, make_folder):
    make_folder("2024")  # a number as far as YAML is concerned
    assert run("check", "2024", "--sheet", "sheet.png")[0] == 0
    assert Path("sheet.png").is_file()
    assert run("check", "--data", "2024")[0] == 0
    status, out, err = run("fit", "--model", "RegularizedLossModule", "--data", "FolderDataModule", "--data.root", "no")
    assert status == 2
    assert "Traceback" not in out + err
