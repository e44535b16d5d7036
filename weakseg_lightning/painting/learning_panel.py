"""The panel of what has been learned: its progress, where it helps to draw, accepting labelings, training."""

import time
from collections.abc import Callable, Sequence
from copy import deepcopy
from typing import Any

from nicegui import ui
from nicegui.events import ValueChangeEventArguments

from weakseg_lightning.data.text import counted
from weakseg_lightning.errors import UserError
from weakseg_lightning.painting.learning.client import LearningState
from weakseg_lightning.painting.open_image import OpenImage
from weakseg_lightning.painting.session import Session

__all__ = ["LearningPanel", "describe_labeling"]

_HELD_OUT = (
    "Every fifth stroke is held out of a second model, which then labels it: the fraction of its pixels that it labels "
    "correctly, averaged over classes. It is a validation without masks, of strokes: borders count little in it."
)
_MOST_POINTS = 200
_CURVE = {
    "animation": False,
    "grid": {"left": 38, "right": 8, "top": 8, "bottom": 20},
    "xAxis": {"type": "value", "max": "dataMax"},
    "yAxis": {"type": "value", "scale": True},
    "series": [{"type": "line", "showSymbol": False, "data": []}],
}


class LearningPanel:
    """What has been learned from the whole folder, and what can be done with it.

    Args:
        session: the images, the learner and the training.
        on_command: called with "views" where what is shown depends on a control that has changed.
    """

    def __init__(self, session: Session, on_command: Callable[[str], Any]) -> None:
        self.session = session
        self._drawn_at = 0.0
        self._build_learned(on_command)
        self._build_accept(on_command)
        if session.training is not None:
            self._build_training()
        self.show_states()

    def _build_learned(self, on_command: Callable[[str], Any]) -> None:
        _title("Learned from the whole folder")
        self.progress = ui.linear_progress(0, size="4px", show_value=False).props("instant-feedback")
        self.status = ui.label().classes("text-sm text-slate-500 learning")
        self.held_out = ui.label().classes("text-sm text-slate-500 held-out").tooltip(_HELD_OUT)
        self.source = ui.toggle({"head": "strokes", "network": "trained network"}, on_change=self._choose_source)
        self.source.props("dense no-caps spread size=sm").classes("w-full source")
        self.source.tooltip("what labels the images: the head that learns as you draw, or the network trained last")
        with ui.row().classes("w-full items-center justify-between no-wrap"):
            self.need = ui.button("Next", icon="trending_flat").classes("need")
            self.need.props("dense no-caps outline size=md").tooltip("to the image where a stroke helps most (N)")
            self.uncertainty = ui.switch("uncertainty", on_change=lambda: on_command("views")).classes("uncertainty")
            self.uncertainty.props("dense").tooltip("where it does not know (U)")

    def _build_accept(self, on_command: Callable[[str], Any]) -> None:
        _title("Accept the labeling")
        with ui.row().classes("w-full items-center no-wrap gap-2"):
            self.threshold = ui.slider(min=0.5, max=0.99, step=0.01, value=0.9, on_change=lambda: on_command("views"))
            self.threshold.classes("threshold").tooltip("least probability of a pixel's label")
            self.accept = ui.button("Accept").classes("accept")
            self.accept.props("dense no-caps size=md").tooltip("make it the image's labels (Enter)")
            self.unaccept = ui.button(icon="delete_outline")
            self.unaccept.props("flat dense round size=sm").classes("unaccept").tooltip("remove the accepted labels")
        self.accepted = ui.label().classes("text-sm text-slate-500 accepted")

    def _build_training(self) -> None:
        _title("Network")
        with ui.row().classes("w-full items-center no-wrap gap-2"):
            self.train = ui.button("Train", on_click=self._train_or_stop).props("dense no-caps size=md")
            self.train.classes("train").tooltip("train a network on all that is drawn and accepted: `weakseg fit`")
            self.training = ui.label().classes("text-sm text-slate-500 break-words min-w-0 training")
            with self.training:
                self.recipe = ui.tooltip("")
        self.place_of_curve = ui.column().classes("w-full")
        self.curve: ui.echart | None = None

    # ---- what it shows -----------------------------------------------------------------------------------

    def show_states(self) -> None:
        """Show the state of the learner and of the training."""
        state = self.session.learning_state
        self.status.set_text(_describe_learning(state))
        self.progress.set_value(state.cached / max(state.total, 1))
        self.progress.set_visibility(state.phase != "off" and not state.full and state.cached < state.total)
        if state.held_out is not None:
            strokes = counted(state.held_out_strokes, "held-out stroke")
            self.held_out.set_text(f"{state.held_out:.0%} correct on {strokes}")
        self.held_out.set_visibility(state.held_out is not None)
        self.source.set_visibility(self.session.has_network)
        self.source.set_value(state.source)
        if self.session.training is not None:
            self._show_training()

    def show(self, image: OpenImage) -> None:
        """Show what can be accepted of an image, and what has been."""
        confidence = None if image.labeling is None else image.labeling.confidence
        self.accept.set_enabled(confidence is not None)
        self.unaccept.set_enabled(image.document.current.accepted is not None)
        if confidence is None:
            self.accepted.set_text("possible once something is learned")
        else:
            covered = float((confidence >= 255 * self.threshold.value).mean())
            self.accepted.set_text(f"{covered:.0%} of the pixels at probability {self.threshold.value:.2f}")

    def _show_training(self) -> None:
        assert self.session.training is not None
        state = self.session.training.state
        busy = state.phase in ("running", "stopping")
        self.train.set_text("Stop" if busy else "Train")
        self.train.set_enabled(state.phase != "stopping")
        loss = f", loss {state.curve[-1][1]:.3f}" if state.curve else ""
        steps = f"{state.phase}: {state.step} of {state.steps}{loss}" if state.steps else f"{state.phase} …"
        self.training.set_text({"idle": "", "failed": state.text}.get(state.phase, steps))
        self.recipe.set_text(state.text)
        if len(state.curve) > 1 and (not busy or time.monotonic() - self._drawn_at > 1):
            self._drawn_at = time.monotonic()
            self._draw(state.curve)

    def _draw(self, curve: Sequence[tuple[int, float]]) -> None:
        if self.curve is None:
            with self.place_of_curve:  # not before: its library is a megabyte
                self.curve = ui.echart(deepcopy(_CURVE)).classes("w-full curve").style("height: 120px")
        step = -(-len(curve) // _MOST_POINTS)
        self.curve.options["series"][0]["data"] = [list(point) for point in curve[::step]]
        self.curve.update()

    # ---- what it is asked --------------------------------------------------------------------------------

    def _choose_source(self, event: ValueChangeEventArguments[Any]) -> None:
        if event.value != self.session.learning_state.source:
            self.session.use_network(event.value == "network")

    async def _train_or_stop(self) -> None:
        training = self.session.training
        assert training is not None
        if training.state.phase == "running":
            await training.stop()
        elif training.state.phase != "stopping":
            try:
                await self.session.train()
            except UserError as error:
                ui.notify(str(error), type="negative", multi_line=True)


def describe_labeling(image: OpenImage, learned: int) -> str:
    """Say where the labeling that is shown comes from, and how long it took.

    Args:
        image: the image.
        learned: how many images have been learned from.
    """
    if image.shows_accepted:
        return "accepted labels, until you draw"
    if image.labeling is None:
        return "appears when two classes are drawn"
    source = "from this image alone"
    if image.scores is not None:
        by_head = f"learned from {learned} image{'' if learned == 1 else 's'}"
        source = by_head if image.scores.source == "head" else "by the trained network"
    return f"{source}, found in {1000 * image.labeling.seconds:.0f} ms"


def _describe_learning(state: LearningState) -> str:
    if state.text or state.phase == "off":
        return state.text or "learning is off"
    if state.phase == "starting":
        return "starting …"
    learned = f"learned from {state.learned} of {state.total} images"
    if state.cached < state.total:
        part = f"features of {state.cached} of {state.total} images"
        return f"{learned}, {part}: no memory for more, the others follow when opened" if state.full else part
    return learned


def _title(text: str) -> None:
    ui.label(text).classes("text-sm font-medium mt-1")
