"""The learner: a head on features of a folder's images, fitted to the strokes as they come."""

import copy
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from zlib import crc32

import numpy as np
import torch
from torch import Tensor

from weakseg_lightning.energies.potts import VOID
from weakseg_lightning.networks.frozen.features import FrozenFeatures
from weakseg_lightning.networks.frozen.head import MapHead
from weakseg_lightning.painting.learning.features import ImageFeatures
from weakseg_lightning.painting.learning.held_out import fraction_right
from weakseg_lightning.painting.learning.messages import Annotated, LearningSettings, Scores
from weakseg_lightning.painting.learning.ordering import by_need, uncertainty_of
from weakseg_lightning.painting.learning.pixels import Pixels, choose_pixels, gathered, split_held_out

__all__ = ["Learner"]

PIXELS_PER_IMAGE = 600
MAX_PIXELS = 100_000
"""Pixels whose features are kept to learn from, of all images together: 100 MB with EfficientNet-Lite0."""

_FIRST_STEPS, _QUICK_STEPS = 24, 6
_POOL, _OLD, _FRESH = 3000, 384, 128  # pixels that quick steps may take; those of one step, old and new
_STEPS_AT_ONCE = 4


class Learner:
    """Learns from strokes. No process, no clock: the same calls in the same order give the same scores.

    Args:
        settings: encoder and memory.
        images: files of all images, by name.
        num_classes: classes K.
        seed: of whatever is drawn.

    Attributes:
        features: of the images.
        learned: versions of the annotations that the head has learned from, by image.
        head_version: grows with each change of the head.
        held_out: see :class:`~weakseg_lightning.painting.learning.messages.Learned`.
        held_out_strokes: how many strokes were held out for it.

    Raises:
        ValueError: The encoder is unknown, or the weights do not fit.
        FileNotFoundError: The file of the weights is missing.
        ConnectionError: The weights could not be downloaded.
    """

    def __init__(self, settings: LearningSettings, images: Mapping[str, Path], num_classes: int, seed: int = 0) -> None:
        self._seed = seed
        self._generator = torch.Generator().manual_seed(seed)
        network, channels = FrozenFeatures(settings.encoder, settings.encoder_weights), settings.reader.measure(images)
        with self._drawing():
            described = network if channels is None else network.for_channels(*channels.normalization)
            net = described.build(num_classes).eval()
        self.features = ImageFeatures(net, images, settings.memory, channels)
        self.learned: dict[str, int] = {}
        self.head_version = 0
        self.held_out: float | None = None
        self.held_out_strokes = 0
        self.num_classes = num_classes
        self._blank = net.head
        self._head: MapHead | None = None
        self._annotations: dict[str, Annotated] = {}
        self._pixels: dict[str, Pixels] = {}
        self._fresh: tuple[Tensor, Tensor] = torch.empty(0, 0), torch.empty(0, dtype=torch.long)
        self._changed: dict[str, Annotated] = {}  # by image, the annotation before
        self._fitting: Iterator[None] = iter(())
        self._validating: Iterator[None] = iter(())
        self._uncertainties: dict[str, tuple[int, float]] = {}

    # ---- what is annotated -------------------------------------------------------------------------------

    @property
    def annotated(self) -> list[str]:
        """Images with strokes or clicks."""
        return [name for name, annotation in self._annotations.items() if len(annotation.cells)]

    @property
    def pending(self) -> list[str]:
        """Images whose present annotation the head has not learned from, the latest first."""
        return [name for name in reversed(self._changed) if name not in self.features.broken]

    @property
    def num_known(self) -> int:
        """Number of images of which all is known that ever will be: their features, or that they cannot be read."""
        return len(self.features.broken | self.features.sizes.keys())

    @property
    def num_learned(self) -> int:
        """Number of images that the head has learned from."""
        return 0 if self._head is None else len(self._pixels)

    def annotate(self, annotation: Annotated) -> None:
        """Take the present annotation of an image in place of the one before."""
        name = annotation.name
        nothing = Annotated(name, -1, annotation.size, annotation.cells[:0], annotation.labels[:0])
        before = self._annotations.get(name, nothing)
        self._annotations[name] = annotation
        self._changed[name] = self._changed.pop(name, before)  # the latest last

    # ---- learning ----------------------------------------------------------------------------------------

    def take(self, name: str) -> None:
        """Take the pixels of an image's present annotation among those to learn from.

        Raises:
            BadSampleError: if the image cannot be read.
        """
        annotation = self._annotations[name]
        self._fresh = self._choose(annotation, self._changed[name])
        del self._changed[name]
        self.learned[name] = annotation.version
        self._fitting, self._validating = self._seeded(self._fit()), self._seeded(self._validate())
        if not self._can_learn():
            self._fitting = self._validating = iter(())
            self._head = None
            self.held_out, self.held_out_strokes = None, 0

    def adapt(self) -> None:
        """Take a few steps, with those pixels in each of them that were new in the annotation taken last."""
        if not self._can_learn():
            return
        with self._drawing():
            steps = _QUICK_STEPS
            if self._head is None:
                self._begin()
                steps = _FIRST_STEPS
            self._step(self._fresh, steps)
        self.head_version += 1

    def settle(self) -> bool:
        """Take some steps towards the head that all pixels give; False once it is reached.

        That head depends on the present annotations alone, not on how they came about: a stroke that was erased leaves
        no trace, and a learner that is told all at once comes to the same.
        """
        return next(self._fitting, self) is None

    def validate(self) -> bool:
        """Take some steps towards the number of the held-out strokes; False once it is known."""
        return next(self._validating, self) is None

    def _choose(self, annotation: Annotated, before: Annotated) -> tuple[Tensor, Tensor]:
        """Choose pixels of an annotation; return features and classes of those that are new in it."""
        name = annotation.name
        self._pixels.pop(name, None)
        limit = PIXELS_PER_IMAGE
        while limit * (len(self._pixels) + 1) > MAX_PIXELS:
            limit //= 2  # so that the other images lose pixels rarely
        chosen = choose_pixels(annotation, np.random.default_rng([self._seed, crc32(name.encode())]))
        known = np.full(annotation.size, VOID, dtype=np.uint8).reshape(-1)
        known[before.cells] = before.labels
        new = np.flatnonzero(known[chosen.cells] != chosen.labels)[:_FRESH]
        wanted = np.concatenate([np.arange(min(limit, len(chosen.cells))), new])
        features = self.features.at_cells(name, chosen.cells[wanted], annotation.size)
        kept = len(wanted) - len(new)
        if kept:
            self._pixels[name] = Pixels(chosen.some(np.arange(kept)), features[:kept].clone())
            self._pixels = {name: pixels.beginning(limit) for name, pixels in self._pixels.items()}
        return features[kept:], torch.from_numpy(chosen.labels[new])

    def _can_learn(self) -> bool:
        """True where pixels of two classes are known."""
        return len({label for pixels in self._pixels.values() for label in pixels.chosen.classes.tolist()}) > 1

    def _begin(self) -> None:
        self._head = copy.deepcopy(self._blank)
        self._head.standardize(gathered(self._pixels)[0])
        self._optimizer = self._head.optimizer()

    def _step(self, fresh: tuple[Tensor, Tensor], steps: int) -> None:
        """Learn from new pixels, and from some of all others so that these are not forgotten."""
        assert self._head is not None
        each = _POOL // len(self._pixels) + 1
        pool = gathered({name: pixels.sample(each) for name, pixels in self._pixels.items()})
        for _ in range(steps):
            picks = [(pool, torch.randint(len(pool[1]), (_OLD,)))]
            if len(fresh[1]):
                picks.append((fresh, torch.randint(len(fresh[1]), (_FRESH,))))
            features, labels = (torch.cat([source[part][some] for source, some in picks]) for part in (0, 1))
            self._head.learn(self._optimizer, features, labels)

    def _fit(self) -> Iterator[None]:
        """Fit another head from the beginning, and take it in place of the one before."""
        features, labels = gathered(self._pixels)
        head = copy.deepcopy(self._blank)
        head.standardize(features)
        yield from head.fitting(features, labels)
        self._head, self._optimizer = head, head.optimizer()
        self.head_version += 1

    def _validate(self) -> Iterator[None]:
        """Fit a second head that never sees the strokes that are held out, and try it on them."""
        learned, counted, self.held_out_strokes = split_held_out(self._pixels)
        features, labels = gathered(self._pixels, counted)
        self.held_out = None
        if len(labels):
            head = copy.deepcopy(self._blank)
            known = gathered(self._pixels, learned)
            head.standardize(known[0])
            yield from head.fitting(*known)
            with torch.inference_mode():
                predicted = head.at_pixels(features.float()).argmax(1)
            self.held_out = fraction_right(labels.numpy(), predicted.numpy())

    # ---- what has been learned ---------------------------------------------------------------------------

    @torch.inference_mode()
    def scores(self, name: str) -> Scores | None:
        """Score an image; None while too little is annotated to learn from.

        Raises:
            BadSampleError: if the image cannot be read.
        """
        if self._head is None:
            return None
        maps = self.features.maps(name)
        height, width = (length // self.features.net.map_stride for length in self.features.sizes[name])
        logits = self._head([features.float() for features in maps])[0, :, :height, :width]
        values = logits.log_softmax(0).half().numpy()
        self._uncertainties[name] = self.head_version, uncertainty_of(values)
        return Scores(name, self.learned.get(name, -1), values)

    def is_weighed(self, name: str) -> bool:
        """True if the uncertainty of an image is that of the present head."""
        return self._head is None or self._uncertainties.get(name, (-1,))[0] == self.head_version

    def order(self) -> tuple[str, ...]:
        """Images without annotation, the one where a stroke helps most first; those without features come last."""
        known = list(self.features.descriptors)
        annotated = set(self.annotated)
        found: list[str] = []
        if known:
            uncertainties = [self._uncertainties.get(name, (0, 1.0))[1] for name in known]
            descriptors = np.stack(list(self.features.descriptors.values()))
            is_annotated = np.array([name in annotated for name in known])
            found = [known[i] for i in by_need(descriptors, np.array(uncertainties, dtype=np.float32), is_annotated)]
        left = [name for name in self.features.images if name not in self.features.descriptors]
        return (*found, *(name for name in left if name not in annotated and name not in self.features.broken))

    # ---- what is drawn at random -------------------------------------------------------------------------

    @contextmanager
    def _drawing(self) -> Iterator[None]:
        """Draw from this learner's numbers, and leave those of the process alone."""
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(int(torch.randint(2**31, (), generator=self._generator)))
            yield

    def _seeded(self, work: Iterator[None]) -> Iterator[None]:
        """Do a few steps of some work at a time, with numbers of their own: the same for each work."""
        state = torch.Generator().manual_seed(self._seed).get_state()
        taken = _STEPS_AT_ONCE
        while taken == _STEPS_AT_ONCE:
            with torch.random.fork_rng(devices=[]):
                torch.default_generator.set_state(state)
                taken = sum(1 for _ in islice(work, _STEPS_AT_ONCE))
                state = torch.default_generator.get_state()
            yield
