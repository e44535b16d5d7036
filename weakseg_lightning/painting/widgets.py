"""Parts of the page."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from nicegui import ui
from nicegui.element import Element
from nicegui.events import ValueChangeEventArguments

from weakseg_lightning.painting.folder import Entry
from weakseg_lightning.painting.open_image import OpenImage

__all__ = ["ClassRow", "ImageList", "SaveMark", "shortcuts", "tool_buttons"]

_KEYS = [
    ("1 … 9", "class"),
    ("Shift 1 … 9", "tag"),
    ("S C E", "scribble, click, erase"),
    ("[ ]", "thinner, thicker pen"),
    ("← → or A D", "previous, next image"),
    ("N", "next image where it helps"),
    ("Enter", "accept the labeling"),
    ("Ctrl Z Y S", "undo, redo, save"),
    ("Space, H", "hide labeling, scribbles"),
    ("U", "uncertainty"),
    ("Wheel, F", "zoom, whole image"),
    ("Right drag", "move the image"),
]


class ImageList(Element, component="browser/image_list.js"):
    """The images, with what has become of them. After the first time only what has changed is sent.

    Args:
        entries: the images by name.
        on_pick: called with the name of the one that was clicked.
    """

    def __init__(self, entries: Mapping[str, Entry], on_pick: Callable[[str], Any]) -> None:
        self.summary = ui.label().classes("px-3 pt-2 text-sm text-slate-600 summary")
        self.sorting = ui.toggle({"name": "by name", "need": "where it helps"}, value="name")
        self.sorting.props("dense no-caps flat size=sm").classes("px-2 sorting")
        self.sorting.tooltip("images where a stroke helps most first; sorted again when you go to another image")
        super().__init__()
        self.classes("w-full").style("height: calc(100vh - 124px)")
        self.places = {name: place for place, name in enumerate(entries)}
        self.rows = [_row(name, entry) for name, entry in entries.items()]
        self.order = list(self.places.values())
        self._props.update(rows=list(self.rows), order=self.order, current="")
        self.on("pick", lambda event: on_pick(event.args))
        self.refresh(entries)

    def refresh(self, entries: Mapping[str, Entry]) -> None:
        """Show the present state of the images."""
        rows = [_row(name, entry) for name, entry in entries.items()]
        changed = [(place, row) for place, row in enumerate(rows) if row != self.rows[place]]
        self.rows = rows
        if changed:
            with self._props.suspend_updates():  # a browser has them; one that loads the page again gets all
                for place, row in changed:
                    self._props["rows"][place] = row
            self.run_method("patch", changed)
        annotated = sum(entry.annotated for entry in entries.values())
        accepted = sum(entry.accepted for entry in entries.values())
        broken = sum(entry.problem is not None for entry in entries.values())
        text = f"{annotated} of {len(entries)} annotated" + (f", {accepted} accepted" if accepted else "")
        self.summary.set_text(text + (f", {broken} unusable" if broken else ""))

    def go(self, name: str, needed: Sequence[str]) -> None:
        """Mark the image that is shown, after sorting the list as it is asked for.

        Args:
            name: of the image.
            needed: the images where a stroke helps, those where it helps most first.
        """
        first = [self.places[each] for each in needed if each in self.places] if self.sorting.value == "need" else []
        order = list(dict.fromkeys([*first, *self.places.values()]))
        if order != self.order:
            self.order = order
            self.run_method("arrange", order)
        with self._props.suspend_updates():
            self._props.update(order=order, current=name)
        self.run_method("mark", name)


def _row(name: str, entry: Entry) -> dict[str, str | None]:
    states = {(False, False): "nothing", (True, False): "drawn", (False, True): "accepted", (True, True): "both"}
    state = "broken" if entry.problem is not None else states[entry.annotated, entry.accepted]
    return {"name": name, "state": state, "problem": entry.problem}


class ClassRow:
    """A class: its key, color and name, whether it is drawn with, whether the image has it as a tag."""

    def __init__(self, index: int, name: str, color: str, on_choose: Callable[[int], None]) -> None:
        self.index = index
        with ui.row().classes("w-full items-center no-wrap gap-2 px-2 rounded cursor-pointer") as self.row:
            self.row.style("height: 30px").on("click", lambda: on_choose(index)).classes(f"class-{index}")
            ui.label(str(index + 1) if index < 9 else "").classes("text-xs text-slate-400 w-2")
            ui.element("div").style(
                f"width: 16px; height: 16px; border-radius: 4px; background: {color}; box-shadow: 0 0 0 1px #0004"
            )
            ui.label(name).classes("grow ellipsis text-sm")
            self.tag = ui.button(icon="sell").props("flat dense round size=sm").classes(f"tag-{index}")
            self.tag.tooltip("tag: the image shows this class" + (f" (Shift+{index + 1})" if index < 9 else ""))

    def show_chosen(self, chosen: bool) -> None:
        """Mark the class that is drawn with."""
        self.row.classes(add="bg-blue-100" if chosen else "", remove="" if chosen else "bg-blue-100")

    def show_tag(self, tagged: bool) -> None:
        """Mark a class of the image."""
        self.tag.props(f"color={'primary' if tagged else 'grey-4'}")


class SaveMark:
    """Says whether everything is on the disk."""

    def __init__(self) -> None:
        self.button = ui.button("saved").props("flat dense no-caps size=md").classes("px-2 saved")
        with self.button:
            self.tooltip = ui.tooltip("")

    def show(self, image: OpenImage) -> None:
        """Show the state of an image."""
        if not image.unsaved:
            text, color, why = "saved", "green-3", "everything of this image is on the disk"
        elif image.trouble:
            text, color, why = "NOT SAVED", "red-4", f"{image.trouble} (click to try again)"
        else:
            text, color, why = "unsaved …", "orange-3", "is saved in a moment (Ctrl+S)"
        self.button.set_text(text)
        self.button.props(f"color={color}")
        self.tooltip.set_text(why)


def tool_buttons(on_choose: Callable[[str], None]) -> ui.toggle:
    """Make the buttons that choose the tool."""

    def choose(event: ValueChangeEventArguments[Any]) -> None:
        on_choose(event.value)

    tools = ui.toggle({"scribble": "Scribble", "click": "Click", "erase": "Erase"}, value="scribble", on_change=choose)
    return tools.props("dense no-caps spread size=sm").classes("w-full")


def shortcuts() -> None:
    """List the keys."""
    opened = ui.expansion("Keys and mouse").classes("w-full text-sm").props("dense")
    with opened, ui.grid(columns="auto 1fr").classes("gap-x-3 gap-y-0 text-xs text-slate-600"):
        for keys, meaning in _KEYS:
            ui.label(keys).classes("font-mono whitespace-nowrap")
            ui.label(meaning)
