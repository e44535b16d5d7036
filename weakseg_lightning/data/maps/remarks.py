"""Remarks on a folder of maps: what nobody reads, and what is read in a way that users should know."""

import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from weakseg_lightning.data.folder.annotations import relative
from weakseg_lightning.data.folder.files import hint_at

__all__ = ["Remark", "notes_of", "uneven", "unread"]

_BESIDE = re.compile(
    r".*(\.(aux\.xml|shp\.xml|ovr|msk|prj|dbf|shx|cpg|sb[nx]|qix|qpj|qm[dl]|sld|\w{1,4}w|rpb|imd|met)|_rpc\.txt)",
    re.IGNORECASE,
)
"""Files that GIS programs keep beside others: overviews, masks, world files, parts of Shapefiles, styles."""
_VECTORS = (".gpkg", ".shp", ".kml", ".gml", ".fgb", ".dxf", ".gpx")
_PICTURES = (".png", ".jpg", ".jpeg", ".bmp", ".webp", ".img", ".vrt", ".jp2", ".asc")
_SHOWN = 5
_APART = 2.02  # times as large pixels; scales of projections make 10 m and 20 m a little more than twice


class Remark(NamedTuple):
    """A remark on a file; ``text`` goes on where the file's name ends."""

    path: Path
    text: str


def notes_of(remarks: Iterable[Remark], root: Path) -> Iterator[str]:
    """One line for each text, which names the first file that it is about and counts the others."""
    alike: dict[str, list[Path]] = {}
    for path, text in remarks:
        alike.setdefault(text, []).append(path)
    for text, paths in alike.items():
        more = f" (and {len(paths) - 1} more)" if len(paths) > 1 else ""
        yield f"{relative(paths[0], root)}{more} {text}"


def uneven(root: Path, sides: Mapping[Path, float]) -> Iterator[str]:
    """A note on rasters whose resolutions differ by more than a factor of two.

    Args:
        root: the folder.
        sides: of their pixels in meters, by their files.
    """
    if not sides:
        return
    finest, coarsest = min(sides, key=sides.__getitem__), max(sides, key=sides.__getitem__)
    if sides[coarsest] > _APART * sides[finest]:
        yield (
            f"{relative(finest, root)} has pixels of {sides[finest]:.3g} m, {relative(coarsest, root)} of "
            f"{sides[coarsest]:.3g} m: a network sees sizes in pixels, bring them to one "
            "resolution, as by `gdalwarp -tr`, if that is not meant"
        )


def unread(root: Path, files: Iterable[Path], known: Iterable[str]) -> Iterator[str]:
    """Notes on files that are not read, and how they would be.

    Args:
        root: the folder.
        files: those that are not read, in the folders of rasters and labels.
        known: names in the folder that are read; others are told, too.
    """
    names = dict.fromkeys(known)
    above = [path for path in sorted(root.iterdir()) if path.name not in names and not path.name.startswith(".")]
    others = [path for path in [*above, *files] if not _BESIDE.fullmatch(path.name)]
    yield from notes_of((Remark(path, text) for path in others if (text := _conversion(path, root))), root)
    if rest := [path for path in others if not _conversion(path, root)]:
        shown = ", ".join(f"{relative(path, root)}{hint_at(path.name, names)}" for path in rest[:_SHOWN])
        yield f"not read ({len(rest)}): {shown}{', ...' if len(rest) > _SHOWN else ''}"


def _conversion(path: Path, root: Path) -> str | None:
    """How a file can be made one that is read."""
    if path.parent == root:
        return None
    if (suffix := path.suffix.lower()) in _VECTORS:
        return f"is not read: convert it by `ogr2ogr -f GeoJSON NAME.geojson NAME{suffix}`"
    return f"is not read: convert it by `gdal_translate NAME{suffix} NAME.tif`" if suffix in _PICTURES else None
