"""Pictures of an invented tide pool: a pure function from (seed, index) to an image and its labels.

Only additions, multiplications, divisions and square roots of float64 and PCG64's uniform numbers are used. IEEE
arithmetic rounds these alike everywhere, so that a scene has the same bytes on every platform; ``np.sin`` or
``Generator.normal`` do not.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["CLASS_NAMES", "Scene", "draw_scene"]

Array = NDArray[np.float64]
Bytes = NDArray[np.uint8]

CLASS_NAMES = ("background", "star", "fish", "jelly", "leaf", "shell")

# (cosine, sine) of 0, 72, ..., 288 degrees: literals, because math.cos may differ in the last bit between platforms.
_FIVE_DIRECTIONS = (
    (1.0, 0.0),
    (0.30901699437494745, 0.9510565162951535),
    (-0.8090169943749475, 0.5877852522924731),
    (-0.8090169943749475, -0.5877852522924731),
    (0.30901699437494745, -0.9510565162951535),
)


@dataclass(frozen=True)
class Scene:
    """One picture with its truth.

    Attributes:
        image: RGB, uint8 (H, W, 3).
        mask: classes, uint8 (H, W); 0 is the background.
        instances: objects, uint8 (H, W); 0 is the background, objects count from 1 in the order of drawing.
    """

    image: Bytes
    mask: Bytes
    instances: Bytes


def draw_scene(seed: int, index: int, size: int = 128, split: int = 0) -> Scene:
    """Draw scene number ``index`` of a split.

    Args:
        seed: names the collection of scenes.
        index: number of the scene, 0 upwards.
        size: height and width in pixels.
        split: 0 for training, 1 for validation, ...: splits of one seed share no scene.

    Returns:
        The scene, the same bytes for the same arguments on every platform.

    Example:
        >>> draw_scene(seed=0, index=3, size=64).image.shape
        (64, 64, 3)
    """
    rng = np.random.Generator(np.random.PCG64(np.random.SeedSequence([seed, split, index])))
    canvas, backdrop = _backdrop(rng, size)
    mask, instances = np.zeros((size, size), np.uint8), np.zeros((size, size), np.uint8)
    light = rng.random(2) * 2 - 1
    order = 1 + np.argsort(rng.random(len(CLASS_NAMES) - 1))
    count = 2 + int(rng.random() * 3)
    for label in order[:count]:
        _place(rng, int(label), canvas, mask, instances, backdrop, light)
    canvas *= (1 + 0.42 * _smooth_noise(rng, size, 2))[..., None]
    canvas += 0.06 * (rng.random((size, size, 1)) - 0.5) + 0.06 * (rng.random((size, size, 3)) - 0.5)
    return Scene(_to_bytes(canvas), mask, instances)


def _to_bytes(canvas: Array) -> Bytes:
    return np.floor(np.minimum(np.maximum(canvas, 0.0), 1.0) * 255 + 0.5).astype(np.uint8)


def _wave(turns: Array) -> Array:
    """A sine drawn as parabolas, of period 1 and amplitude 1."""
    g = turns - np.floor(turns) - 0.5
    wave: Array = -8 * g * (1 - 2 * np.abs(g))
    return wave


def _smooth_noise(rng: np.random.Generator, size: int, cells: int) -> Array:
    """Value noise in -1..1 (size, size) on a random lattice with ``cells`` cells a side."""
    lattice = rng.random((cells + 2, cells + 2)) * 2 - 1
    at = (np.arange(size) + 0.5) * (cells / size) + rng.random()
    low = np.floor(at).astype(np.int64)
    part = at - low
    part = part * part * (3 - 2 * part)
    rows = lattice[low] + (lattice[low + 1] - lattice[low]) * part[:, None]
    left = rows[:, low]
    noise: Array = left + (rows[:, low + 1] - left) * part
    return noise


def _color(hue: float, saturation: float, value: float) -> Array:
    """RGB of a hue, in turns of the color circle."""
    ramps = [abs((hue + shift) % 1.0 * 6 - 3) - 1 for shift in (0.0, 2 / 3, 1 / 3)]
    return np.array([value * (1 - saturation + saturation * min(max(ramp, 0.0), 1.0)) for ramp in ramps])


# hue, saturation and value of sand, water, rock and weed; each scene strays from them.
_BACKDROPS = ((0.11, 0.38, 0.72), (0.54, 0.45, 0.50), (0.62, 0.08, 0.46), (0.27, 0.35, 0.36))


def _backdrop(rng: np.random.Generator, size: int) -> tuple[Array, Array]:
    """Paint the ground: two tones, ripples or blotches, pebbles. Return the canvas (H, W, 3) and its mean tone (3,)."""
    hue, saturation, value = _BACKDROPS[int(rng.random() * len(_BACKDROPS))]
    stray = rng.random(6) - 0.5
    first = _color(hue + 0.10 * stray[0], saturation + 0.2 * stray[1] * saturation, value + 0.2 * stray[2])
    second = _color(hue + 0.20 * stray[3], saturation * (1 + stray[4]), value + 0.25 * stray[5])
    blend = 0.5 + 0.5 * _smooth_noise(rng, size, 4)
    y, x = np.arange(size)[:, None], np.arange(size)[None, :]
    c, s = _direction(rng)
    ripples = _wave((c * x + s * y) / (7 + 9 * rng.random()) + 0.8 * _smooth_noise(rng, size, 5))
    strength = rng.random()
    texture = 0.05 * strength * ripples + 0.07 * (1 - strength) * _smooth_noise(rng, size, max(size // 5, 1))
    texture += 0.05 * _smooth_noise(rng, size, max(size // 12, 1))
    canvas = first + (second - first) * blend[..., None] + texture[..., None]
    return canvas, (first + second) / 2


def _direction(rng: np.random.Generator) -> tuple[float, float]:
    """A random unit vector, from the rational parametrisation of the circle."""
    t = rng.random() * 2 - 1
    c, s = (1 - t * t) / (1 + t * t), 2 * t / (1 + t * t)
    return (c, s) if rng.random() < 0.5 else (-c, s)


# ---- objects: insideness (positive inside, in units of the radius) and pattern (-1..1) over coordinates u, v ----


def _arm(u: Array, v: Array, direction: tuple[float, float], root: float, tip: float) -> Array:
    """A tapering arm of length 1 from the origin, ``root`` and ``tip`` its half widths."""
    along, across = u * direction[0] + v * direction[1], np.abs(v * direction[0] - u * direction[1])
    return np.minimum(root + (tip - root) * along - across, np.minimum(1 - along, along + root))


def _ellipse(u: Array, v: Array, a: float, b: float) -> Array:
    return (1 - np.sqrt(u * u / (a * a) + v * v / (b * b))) * min(a, b)


def _star(u: Array, v: Array) -> Array:
    inside = _arm(u, v, _FIVE_DIRECTIONS[0], 0.36, 0.09)
    for direction in _FIVE_DIRECTIONS[1:]:
        inside = np.maximum(inside, _arm(u, v, direction, 0.36, 0.09))
    return inside


def _fish(u: Array, v: Array) -> Array:
    across = np.abs(v)
    body = _ellipse(u + 0.22, v, 0.74, 0.42)
    tail = np.minimum(0.04 + 0.75 * (u - 0.38) - across, np.minimum(0.78 + 0.45 * across - u, u - 0.35))
    fin = np.minimum(0.62 - across, np.minimum(0.30 - u - 0.3 * across, u + 0.45 - 0.75 * across))
    return np.maximum(np.maximum(body, tail), fin)


def _jelly(u: Array, v: Array) -> Array:
    bell = np.minimum(_ellipse(u, v + 0.15, 0.80, 0.75), 0.12 - v)
    for start in (-0.52, 0.0, 0.52):
        bend = u - start - 0.09 * _wave(v * 0.9 + start * 2)
        bell = np.maximum(bell, np.minimum(0.14 - np.abs(bend), np.minimum(1.05 - 0.35 * start * start - v, v + 0.1)))
    return bell


def _leaf(u: Array, v: Array) -> Array:
    across = np.abs(v)
    lobes = 0.10 * np.abs(_wave(u * 1.5 + 0.1))
    blade = 1.05 - np.sqrt(u * u * 0.92 + (across + 0.53 + lobes) * (across + 0.53 + lobes))
    stalk = np.minimum(0.075 - across, np.minimum(1.15 - u, u - 0.5))
    return np.maximum(blade, stalk)


def _shell(u: Array, v: Array) -> Array:
    outer = 0.92 - np.sqrt(u * u + v * v)
    hollow = np.sqrt((u - 0.50) * (u - 0.50) + v * v) - 0.50
    return np.minimum(outer, hollow)


def _dots(x: Array, y: Array) -> Array:
    return 2 * np.maximum(_wave(x / 7) * _wave(y / 7), 0.0) - 0.4


def _stripes(x: Array, y: Array) -> Array:
    return np.minimum(np.maximum(2.0 * _wave(x / 8), -1.0), 1.0)


def _sheen(x: Array, y: Array) -> Array:
    return 0.5 * _wave(y / 23 + 0.2) + 0.5 * _wave(x / 4.5)


def _veins(x: Array, y: Array) -> Array:
    rib = np.maximum(_wave((x + np.abs(y)) / 7.5), 1 - np.abs(y))
    veins: Array = 0.4 - 1.4 * np.maximum(rib, 0.0) * np.maximum(rib, 0.0)
    return veins


def _rings(x: Array, y: Array) -> Array:
    return _wave(np.sqrt((x - 12) * (x - 12) + y * y) / 6)


@dataclass(frozen=True)
class _Kind:
    inside: Callable[[Array, Array], Array]
    pattern: Callable[[Array, Array], Array]
    reach: float  # radius of a common area, relative to the picture
    hue: float


_KINDS = (
    _Kind(_star, _dots, 0.28, 0.03),
    _Kind(_fish, _stripes, 0.27, 0.14),
    _Kind(_jelly, _sheen, 0.23, 0.64),
    _Kind(_leaf, _veins, 0.28, 0.36),
    _Kind(_shell, _rings, 0.24, 0.86),
)


def _place(
    rng: np.random.Generator,
    label: int,
    canvas: Array,
    mask: Bytes,
    instances: Bytes,
    backdrop: Array,
    light: Array,
) -> None:
    """Put one object of class ``label`` where it hides little of the others; leave it out after eight tries."""
    size, kind, number = mask.shape[0], _KINDS[label - 1], int(instances.max()) + 1
    base, accent = _coat(rng, kind.hue, backdrop)
    for _ in range(8):
        radius = size * kind.reach * (0.85 + 0.4 * rng.random())
        center = size * (0.12 + 0.76 * rng.random(2))
        u, v, window = _frame(rng, center, radius, size)
        coverage = np.minimum(np.maximum(kind.inside(u, v) * radius + 0.5, 0.0), 1.0)
        solid = coverage > 0.5
        if solid.sum() < 0.012 * size * size or _hides_too_much(solid, instances, instances[window]):
            continue
        touched = coverage > 0
        u, v, opacity = u[touched], v[touched], coverage[touched][:, None]
        signal = 0.5 + 0.5 * kind.pattern(u * radius, v * radius)
        shade = 1 + 0.22 * (u * light[0] + v * light[1])
        paint = (base + (accent - base) * signal[:, None]) * shade[:, None]
        canvas[window][touched] += (paint - canvas[window][touched]) * opacity
        mask[window][solid] = label
        instances[window][solid] = number
        return


def _hides_too_much(solid: NDArray[np.bool_], instances: Bytes, under: Bytes) -> bool:
    """Tell if an earlier object would lose more than 40 % of what is left of it."""
    hidden = np.bincount(under[solid], minlength=256)
    whole = np.bincount(instances.ravel(), minlength=256)
    return bool((hidden[1:] > 0.4 * whole[1:]).any())


def _frame(
    rng: np.random.Generator, center: Array, radius: float, size: int
) -> tuple[Array, Array, tuple[slice, slice]]:
    """Turned, slightly warped coordinates in units of the radius, and the window of the picture that they cover."""
    low = [max(int(c - 1.35 * radius), 0) for c in center]
    high = [min(int(c + 1.35 * radius) + 1, size) for c in center]
    window = (slice(low[0], high[0]), slice(low[1], high[1]))
    y = (np.arange(low[0], high[0])[:, None] - center[0]) / radius
    x = (np.arange(low[1], high[1])[None, :] - center[1]) / radius
    c, s = _direction(rng)
    bend = 0.12 * _smooth_noise(rng, max(y.size, x.size), 2)[: y.size, : x.size]
    return c * x + s * y + bend, c * y - s * x + bend, window


def _coat(rng: np.random.Generator, hue: float, backdrop: Array) -> tuple[Array, Array]:
    """Two colors for an object, near the class's hue more often than not, that stand out against the backdrop."""
    best, base, accent = -1.0, backdrop, backdrop
    for _ in range(4):
        stray = rng.random(6)
        tone = stray[5] if stray[0] < 0.06 else hue + 0.15 * (stray[5] - 0.5)
        value = 0.40 + 0.55 * stray[2]
        first = _color(tone, 0.35 + 0.5 * stray[1], value)
        second = _color(
            tone + 0.16 * (stray[3] - 0.5), 0.25 + 0.5 * stray[4], value + (0.20 if value < 0.65 else -0.20)
        )
        gap = float(min(_distance(first, backdrop), _distance(second, backdrop)))
        if gap > best:
            best, base, accent = gap, first, second
        if best > 0.30:
            break
    return base, accent


def _distance(a: Array, b: Array) -> float:
    d = a - b
    return float(np.sqrt(d[0] * d[0] + d[1] * d[1] + d[2] * d[2]))
