"""Broken pictures in a folder of one's own images: what breaks them, which file is named, and what is said."""

import shutil
import struct
import unicodedata
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

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


def copied(source: str, target: str) -> Break:
    return lambda root: shutil.copy(root / source, root / target)


def accepted(name: str, *shape: int, value: int) -> Break:
    def apply(root: Path) -> None:
        (root / "accepted").mkdir()
        picture(f"accepted/{name}", *shape, value=value)(root)

    return apply


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
    """Value 1 has the color of dog (class 2), value 2 that of nothing."""
    image = Image.open(root / "scribbles" / "b.png")
    palette = image.getpalette()
    palette[3:9] = [0, 0, 255, 9, 9, 9]
    image.putpalette(palette)
    image.save(root / "scribbles" / "b.png")


def smooth(root: Path) -> None:
    path = root / "scribbles" / "c d é.png"
    image = Image.open(path).convert("RGB").resize((24, 20), Image.Resampling.BILINEAR)
    image.resize((48, 40), Image.Resampling.BILINEAR).save(path)


BROKEN_PICTURES: dict[str, tuple[Break, str, str]] = {
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
    "bomb": (bomb, "images/b.png", "claims to be larger than any image"),
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
    "tiff of pages": (two_pages, "images/b.tif", "has 2 pages, expected one image: name their bands as `channels`"),
    "turned by exif": (turn_by_exif, "scribbles/a.png", "has 48 x 40 pixels, its image 40 x 48 (which stands upright"),
    # ---- scribbles
    "scribble of another size": (picture("scribbles/a.png", 20, 24), "scribbles/a.png", "has 24 x 20 pixels, its im"),
    "empty scribble": (picture("scribbles/a.png", 40, 48), "scribbles/a.png", "has no labelled pixel: draw a stroke"),
    "transparent scribble": (picture("scribbles/a.png", 40, 48, 4, value=0), "scribbles/a.png", "has no labelled pix"),
    "scribble everywhere": (picture("scribbles/a.png", 40, 48, value=0), "scribbles/a.png", "labels every pixel: if 0"),
    "scribble of no class": (
        edited("scribbles/a.png", lambda pixels: np.put(pixels, [0, 1], [7, 9])),
        "scribbles/a.png",
        "holds the values 7, 9, expected 0 to 2, or 255",
    ),
    "color of no class": (
        edited("scribbles/c d é.png", lambda pixels: pixels.__setitem__((0, 0), (0, 255, 0, 255))),
        "scribbles/c d é.png",
        "has colors of no class, #00ff00 (1 pixel): name them in classes.yaml",
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
        "has pixels of type CMYK, expected indexed, gray or RGB",
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
    # ---- accepted labels
    "accepted of another size": (accepted("b.png", 20, 24, value=1), "accepted/b.png", "has 24 x 20 pixels, its image"),
    "accepted of no class": (accepted("b.png", 40, 48, value=7), "accepted/b.png", "holds the values 7, expected 0 to"),
    "accepted as jpeg": (accepted("b.jpg", 40, 48, value=1), "accepted/b.jpg", "is no PNG: save it as PNG, which"),
    "accepted of no image": (accepted("zebra.png", 40, 48, value=1), "accepted/zebra.png", "belongs to no image"),
    "accepted nothing": (accepted("b.png", 40, 48, value=255), "accepted/b.png", "has no labelled pixel: accept"),
    "accepted cut off": (write("accepted/b.png", b"\x89PNG\r\n"), "accepted/b.png", "is not an image that can be read"),
    # ---- masks
    "mask of another size": (
        picture("masks/a.png", 40, 47, value=0),
        "masks/a.png",
        "has 47 x 40 pixels, its image 48",
    ),
    "mask turned sideways": (
        picture("masks/a.png", 48, 40, value=0),
        "masks/a.png",
        "(which stands upright, as EXIF data or the axes of its volume have it)",
    ),
    "mask of no class": (picture("masks/b.png", 40, 48, value=3), "masks/b.png", "holds the values 3, expected 0 to 2"),
    "mask in foreign colors": (
        lambda root: Image.new("RGB", (48, 40), (0, 200, 0)).save(root / "masks" / "b.png"),
        "masks/b.png",
        "has colors of no class, #00c800 (1920 pixels)",
    ),
    "mask cut off": (cut("masks/a.png", 0.7), "masks/a.png", "cannot be read ("),
    "mask of no image": (copied("masks/a.png", "masks/zebra.png"), "masks/zebra.png", "belongs to no image"),
    "mask as tiff": (picture("masks/a.tif", 40, 48, value=0), "masks/a.tif", "is no PNG: save it as PNG"),
}
