"""Parts of the page."""

from collections.abc import Callable, Mapping
from typing import Any

from nicegui import ui
from nicegui.events import ValueChangeEventArguments

from weakseg_lightning.painting.folder import Entry
from weakseg_lightning.painting.session import OpenImage

__all__ = ["ClassRow", "ImageList", "SaveMark", "shortcuts", "tool_buttons"]

_ROW = """
<q-tr :props="props" class="cursor-pointer" :class="props.row.current ? 'bg-blue-2' : ''" :data-name="props.row.name"
      @click="() => $parent.$emit('pick', props.row.name)">
  <q-td class="ellipsis" style="max-width: 205px">
    <q-icon size="16px" class="q-mr-xs" :name="props.row.icon" :color="props.row.color"></q-icon>{{ props.row.name }}
    <q-tooltip v-if="props.row.problem" max-width="400px">{{ props.row.problem }}</q-tooltip>
  </q-td>
</q-tr>
"""

_KEYS = [
    ("1 … 9", "class"),
    ("Shift 1 … 9", "tag"),
    ("S C E", "scribble, click, erase"),
    ("[ ]", "thinner, thicker pen"),
    ("← → or A D", "previous, next image"),
    ("Ctrl Z Y S", "undo, redo, save"),
    ("Space, H", "hide labeling, scribbles"),
    ("Wheel, F", "zoom, whole image"),
    ("Right drag", "move the image"),
]


class ImageList:
    """The images, with what has become of them.

    Args:
        entries: the images by name.
        on_pick: called with the name of the one that was clicked.
    """

    def __init__(self, entries: Mapping[str, Entry], on_pick: Callable[[str], Any]) -> None:
        self.summary = ui.label().classes("px-3 py-2 text-sm text-slate-600 summary")
        columns = [{"name": "name", "label": "image", "field": "name", "align": "left"}]
        self.table = ui.table(rows=[], columns=columns, row_key="name", pagination=0)
        self.table.props("virtual-scroll flat dense hide-header hide-bottom").classes("w-full bg-transparent")
        self.table.style("height: calc(100vh - 96px)")
        self.table.add_slot("body", _ROW)
        self.table.on("pick", lambda event: on_pick(event.args))
        self.refresh(entries, "")

    def refresh(self, entries: Mapping[str, Entry], current: str, scroll: bool = False) -> None:
        """Show the present state of the images, sending it only if it has changed."""
        rows = [_row(name, entry, name == current) for name, entry in entries.items()]
        if rows != self.table.rows:
            self.table.rows = rows
        annotated = sum(entry.annotated for entry in entries.values())
        broken = sum(entry.problem is not None for entry in entries.values())
        self.summary.set_text(f"{annotated} of {len(entries)} annotated" + (f", {broken} unusable" if broken else ""))
        if scroll and current in entries:
            self.table.run_method("scrollTo", list(entries).index(current), "center")


def _row(name: str, entry: Entry, current: bool) -> dict[str, Any]:
    if entry.problem is not None:
        icon, color = "warning", "orange"
    else:
        icon, color = ("check_circle", "green") if entry.annotated else ("radio_button_unchecked", "grey-5")
    return {"name": name, "current": current, "icon": icon, "color": color, "problem": entry.problem}


class ClassRow:
    """A class: its key, color and name, whether it is drawn with, whether the image has it as a tag."""

    def __init__(
        self, index: int, name: str, color: str, on_choose: Callable[[int], None], on_tag: Callable[[int], None]
    ) -> None:
        self.index = index
        with ui.row().classes("w-full items-center no-wrap gap-2 px-2 rounded cursor-pointer") as self.row:
            self.row.style("height: 30px").on("click", lambda: on_choose(index)).classes(f"class-{index}")
            ui.label(str(index + 1) if index < 9 else "").classes("text-xs text-slate-400 w-2")
            ui.element("div").style(
                f"width: 16px; height: 16px; border-radius: 4px; background: {color}; box-shadow: 0 0 0 1px #0004"
            )
            ui.label(name).classes("grow ellipsis text-sm")
            self.tag = ui.button(icon="sell").props("flat dense round size=sm").classes(f"tag-{index}")
            self.tag.on("click.stop", lambda: on_tag(index))
            self.tag.tooltip("tag: the image shows this class" + (f" (Shift+{index + 1})" if index < 9 else ""))

    def show_chosen(self, chosen: bool) -> None:
        """Mark the class that is drawn with."""
        self.row.classes(add="bg-blue-100" if chosen else "", remove="" if chosen else "bg-blue-100")

    def show_tag(self, tagged: bool) -> None:
        """Mark a class of the image."""
        self.tag.props(f"color={'primary' if tagged else 'grey-4'}")


class SaveMark:
    """Says whether everything is on the disk; a click saves."""

    def __init__(self, on_click: Callable[[], Any]) -> None:
        self.button = ui.button("saved", on_click=on_click).props("flat dense no-caps size=md").classes("px-2 saved")
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
    opened = ui.expansion("Keys and mouse", value=True).classes("w-full text-sm").props("dense")
    with opened, ui.grid(columns="auto 1fr").classes("gap-x-3 gap-y-0 text-xs text-slate-600"):
        for keys, meaning in _KEYS:
            ui.label(keys).classes("font-mono whitespace-nowrap")
            ui.label(meaning)
