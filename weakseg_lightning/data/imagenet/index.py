"""Images in folders, listed once and remembered."""

import hashlib
import json
import os
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from weakseg_lightning.data.images.reading import IMAGE_SUFFIXES, files_in, folders_below, is_image
from weakseg_lightning.errors import MissingFileError, first_of
from weakseg_lightning.files import replacing

__all__ = ["IMAGENET_DOGS", "FolderIndex", "find_imagenet"]

_DOG_NUMBERS = """
02085620 02085782 02085936 02086079 02086240 02086646 02086910 02087046 02087394 02088094 02088238 02088364 02088466
02088632 02089078 02089867 02089973 02090379 02090622 02090721 02091032 02091134 02091244 02091467 02091635 02091831
02092002 02092339 02093256 02093428 02093647 02093754 02093859 02093991 02094114 02094258 02094433 02095314 02095570
02095889 02096051 02096177 02096294 02096437 02096585 02097047 02097130 02097209 02097298 02097474 02097658 02098105
02098286 02098413 02099267 02099429 02099601 02099712 02099849 02100236 02100583 02100735 02100877 02101006 02101388
02101556 02102040 02102177 02102318 02102480 02102973 02104029 02104365 02105056 02105162 02105251 02105412 02105505
02105641 02105855 02106030 02106166 02106382 02106550 02106662 02107142 02107312 02107574 02107683 02107908 02108000
02108089 02108422 02108551 02108915 02109047 02109525 02109961 02110063 02110185 02110341 02110627 02110806 02110958
02111129 02111277 02111500 02111889 02112018 02112137 02112350 02112706 02113023 02113186 02113624 02113712 02113799
02113978
"""
IMAGENET_DOGS = tuple(f"n{number}" for number in _DOG_NUMBERS.split())
"""The 118 classes of ImageNet-1k that are dogs, n02085620 (Chihuahua) to n02113978 (Mexican hairless)."""

_NAMED = 5


def find_imagenet(root: str | Path) -> tuple[list[Path], list[Path]]:
    """Find the class folders of ImageNet: dogs and others.

    Args:
        root: folder of a folder for each wnid, or one that holds it as ``train``.

    Returns:
        The folders of the 118 classes of dogs, and all other folders named by a wnid, sorted.

    Raises:
        FileNotFoundError: if there is no such folder, or wnids of dogs are missing; names them and the ways out.
    """
    given = Path(root).expanduser().absolute()
    folder = given / "train" if (given / "train").is_dir() else given
    if not folder.is_dir():
        raise MissingFileError(
            f"`root`: no folder {folder}: it must hold a folder of images for each class of ImageNet, named by its "
            "wnid (n02085620, ...); or leave it out and give `positive` and `negative`"
        )
    missing = [wnid for wnid in IMAGENET_DOGS if not (folder / wnid).is_dir()]
    if missing:
        raise MissingFileError(
            f"`root`: {folder} lacks {len(missing)} of the {len(IMAGENET_DOGS)} classes of dogs: "
            f"{first_of(missing, _NAMED, ', ')}. Unpack ImageNet-1k there, or give the folders that you have as "
            "`positive` and `negative`"
        )
    dogs = set(IMAGENET_DOGS)
    others = [path for path in sorted(folder.iterdir()) if _is_wnid(path) and path.name not in dogs]
    return [folder / wnid for wnid in IMAGENET_DOGS], others


def _is_wnid(path: Path) -> bool:
    return path.name[:1] == "n" and path.name[1:].isdigit() and path.is_dir()


class FolderIndex:
    """Lists the images below folders, and keeps the lists in a file: ImageNet has a million names.

    A folder is listed again when its time of change differs from what the file says: when something was added to it,
    taken out or renamed; and when other suffixes count as images than when the file was written.

    Args:
        path: the file; None takes one for each set of folders in the user's cache (``XDG_CACHE_HOME`` or
            ``~/.cache``). A cache that cannot be read or written is done without.
    """

    def __init__(self, path: str | Path | None = None) -> None:
        self.path = path

    def list(self, folders: Sequence[Path]) -> list[Path]:
        """All images in these folders and below, sorted, as :func:`~weakseg_lightning.data.images.reading.files_below`.

        Args:
            folders: the folders.

        Raises:
            FileNotFoundError: if one is missing.
        """
        path = self._file(folders)
        known = _read(path)
        listed: dict[str, list[object]] = {}
        for folder in folders:
            if not folder.is_dir():
                raise MissingFileError(f"no folder {folder} of images (working directory: {Path.cwd()})")
            for inner in folders_below(folder):
                stamp = f"{inner.stat().st_mtime_ns} {' '.join(IMAGE_SUFFIXES)}"
                before = known.get(str(inner), [None])
                listed[str(inner)] = before if before[0] == stamp else [stamp, *_images(inner)]
        if listed != known:
            _write(path, listed)
        return sorted(Path(folder) / str(name) for folder, (_, *names) in listed.items() for name in names)

    def _file(self, folders: Sequence[Path]) -> Path:
        if self.path is not None:
            return Path(self.path).expanduser()
        base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
        digest = hashlib.blake2b("\n".join(map(str, folders)).encode(), digest_size=8).hexdigest()
        return base / "weakseg_lightning" / f"images-{digest}.json"


def _images(folder: Path) -> list[str]:
    return sorted(path.name for path in files_in(folder) if is_image(path))


def _read(path: Path) -> dict[str, list[object]]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    good = isinstance(content, dict) and all(isinstance(value, list) and value for value in content.values())
    return content if good else {}


def _write(path: Path, content: dict[str, list[object]]) -> None:
    with suppress(OSError):  # a home that cannot be written to costs time alone
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as unfinished:
            unfinished.write_text(json.dumps(content), encoding="utf-8")
