"""The annotation of one image as it came about: changes, undo and redo, and what other programs wrote meanwhile."""

from dataclasses import dataclass, field

import numpy as np

from weakseg_lightning.painting.document import Accept, Change, ImageAnnotation

__all__ = ["Document"]

_MAX_CHANGES = 500
"""Older changes can no longer be undone."""
_MAX_WHOLE = 20
"""The same for changes that hold label maps of the whole image: memory stays bounded."""
_STATE_EVERY, _MAX_STATES = 10, 4
"""So many changes apart states are kept, the last few, so that an undo makes few changes again."""


@dataclass(frozen=True, eq=False)
class _Theirs:
    """The difference that another program has made, between two states of the files."""

    known: ImageAnnotation
    now: ImageAnnotation

    def applied_to(self, before: ImageAnnotation) -> ImageAnnotation:
        """Make it, and leave the rest as it is."""
        known, now = self.known, self.now
        removed, added = set(known.clicks) - set(now.clicks), set(now.clicks) - set(known.clicks)
        kept = tuple(click for click in before.clicks if click not in removed | added)
        merged = ImageAnnotation(
            np.where(now.labels != known.labels, now.labels, before.labels),
            (*kept, *(click for click in now.clicks if click in added)),
            self._tags(before.tags),
        )
        accepted = now.accepted_map != known.accepted_map
        return merged.accepting(np.where(accepted, now.accepted_map, before.accepted_map))

    def _tags(self, ours: frozenset[int] | None) -> frozenset[int] | None:
        known, now = self.known.tags, self.now.tags
        if now == known or ours == known:
            return ours if now == known else now
        known, now, ours = (tags or frozenset() for tags in (known, now, ours))
        return (ours - (known - now)) | (now - known) or None


@dataclass
class Document:
    """The annotation of one image and how it came about.

    Args:
        base: what there was at the beginning.
    """

    base: ImageAnnotation
    done: list[Change | _Theirs] = field(default_factory=list)
    undone: list[Change] = field(default_factory=list)
    version: int = 0
    _states: dict[int, ImageAnnotation] = field(default_factory=dict)  # after so many changes, forgotten ones included
    _forgotten: int = 0

    def __post_init__(self) -> None:
        self.current = self.base

    def apply(self, change: Change) -> None:
        """Make a change."""
        self._make(change)
        self.undone.clear()
        self._forget()

    def undo(self) -> bool:
        """Take the last change back; False if there is none. What other programs wrote stays."""
        own = [place for place, change in enumerate(self.done) if not isinstance(change, _Theirs)]
        if own:
            change = self.done.pop(own[-1])
            assert not isinstance(change, _Theirs)
            self.undone.append(change)
            self._go_back_to(own[-1])
        return bool(own)

    def redo(self) -> bool:
        """Make the change again that was taken back last; False if there is none."""
        if not self.undone:
            return False
        self._make(self.undone.pop())
        return True

    def rebase(self, now: ImageAnnotation, known: ImageAnnotation) -> None:
        """Take over what another program has changed in the files; own changes are kept, and can be undone.

        Args:
            now: what the files say.
            known: what they said when they were last read or written.

        Raises:
            ValueError: if they have another size.
        """
        if now.labels.shape != self.base.labels.shape:
            raise ValueError(f"the scribbles have become {now.labels.shape}, they were {self.base.labels.shape}")
        self._make(_Theirs(known, now))
        self._forget()

    def _make(self, change: Change | _Theirs) -> None:
        self.current = change.applied_to(self.current)
        self.done.append(change)
        self.version += 1
        self._keep_state(self._forgotten + len(self.done), self.current)

    def _go_back_to(self, unchanged: int) -> None:
        """Make the changes again behind the first so many, of which the last state that is kept is the beginning."""
        last = self._forgotten + unchanged
        self._states = {count: state for count, state in self._states.items() if self._forgotten < count <= last}
        start = max(self._states, default=self._forgotten)
        self.current = self._states.get(start, self.base)
        for count, change in enumerate(self.done[start - self._forgotten :], start + 1):
            self.current = change.applied_to(self.current)
            self._keep_state(count, self.current)
        self.version += 1

    def _keep_state(self, count: int, state: ImageAnnotation) -> None:
        if count % _STATE_EVERY == 0:
            self._states[count] = state
            for oldest in sorted(self._states)[:-_MAX_STATES]:
                del self._states[oldest]

    def _forget(self) -> None:
        """Make the oldest changes part of the beginning, so that their number stays bounded."""
        whole = sum(isinstance(change, Accept | _Theirs) for change in self.done)
        while len(self.done) > _MAX_CHANGES or whole > _MAX_WHOLE:
            oldest = self.done.pop(0)
            self.base = oldest.applied_to(self.base)
            self._forgotten += 1
            whole -= isinstance(oldest, Accept | _Theirs)
