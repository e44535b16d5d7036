"""The page: list of images, drawing surface, tools."""

from collections.abc import Coroutine, Mapping
from typing import Any
from urllib.parse import quote

from nicegui import ui

from weakseg_lightning.painting.canvas import Canvas, read_change, read_key
from weakseg_lightning.painting.learning_panel import LearningPanel, describe_labeling
from weakseg_lightning.painting.open_image import OpenImage
from weakseg_lightning.painting.session import Session
from weakseg_lightning.painting.widgets import ClassRow, ImageList, SaveMark, shortcuts, tool_buttons

__all__ = ["PaintPage"]


class PaintPage:
    """The page as one tab shows it.

    Args:
        session: the images, shared with other tabs.
    """

    def __init__(self, session: Session) -> None:
        self.session = session
        self.classes = session.folder.classes
        self.image: OpenImage | None = None
        self.label = min(1, len(self.classes.names) - 1)  # the background comes second
        self.widest = 12  # pen, in pixels
        self.drawn = True
        self._opening: set[str] = set()  # images that are opened for changes of them

    def build(self) -> None:
        """Make the elements."""
        ui.add_css("body { overflow: hidden; } .q-table__card { box-shadow: none; } .nicegui-content { padding: 0; }")
        ui.colors(primary="#2563eb")
        with ui.header().classes("items-center bg-slate-800 text-white py-0 px-3 gap-2 no-wrap").style("height: 44px"):
            self._build_header()
        with ui.left_drawer(value=True, bordered=True).props("width=230").classes("p-0 bg-slate-50"):
            self.list = ImageList(self.session.folder.entries, self.go)
        with ui.right_drawer(value=True, bordered=True).props("width=290").classes("p-3 bg-slate-50 gap-1"):
            self._build_tools()
        with ui.element("div").classes("w-full bg-slate-200").style("height: calc(100vh - 44px)"):
            colors = list(map(self._color, range(len(self.classes.names))))
            self.canvas = Canvas(self._drawn, self.command, colors, self.session.folder.root)
            self.canvas.classes("w-full h-full")
        self._send_by_canvas()
        self._use_label(self.label)
        self._use_tool("scribble")
        self.session.watchers.append(self._show_states)
        self.session.receipts.append(self.canvas.confirm)
        ui.context.client.on_delete(self._close)

    def _send_by_canvas(self) -> None:
        """Let the canvas, which sends strokes, send what comes behind those that were drawn before."""
        steps = {"undo": self.undo, "redo": self.redo, "clear": self.clear, "unaccept": self.panel.unaccept}
        commands = {"previous": self.previous, "next": self.next, "save": self.mark.button}
        commands |= {"need": self.panel.need, "accept": self.panel.accept}
        calls = [(button, f"step('{step}')") for step, button in steps.items()]
        calls += [(button, f"command('{command}')") for command, button in commands.items()]
        calls += [(row.tag, f"toggle_tag({row.index})") for row in self.rows]
        for button, call in calls:
            button.on("click.stop", js_handler=f"() => getElement({self.canvas.id}).{call}")

    def _build_header(self) -> None:
        ui.label("weakseg paint").classes("font-bold")
        ui.label(str(self.session.folder.root.name)).classes("opacity-70").tooltip(str(self.session.folder.root))
        ui.space()
        self.previous = _button("chevron_left", "previous image (A, ←)")
        self.title = ui.label().classes("min-w-48 text-center ellipsis title")
        self.next = _button("chevron_right", "next image (D, →)")
        ui.space()
        self.mark = SaveMark()
        self.undo = _button("undo", "undo (Ctrl+Z)").classes("undo")
        self.redo = _button("redo", "redo (Ctrl+Y)").classes("redo")
        self.clear = _button("delete_sweep", "remove all scribbles and clicks of this image").classes("clear")

    def _build_tools(self) -> None:
        self.tools = tool_buttons(self._use_tool)
        with ui.row().classes("w-full items-center no-wrap gap-2"):
            self.pen_text = ui.label().classes("text-sm w-24")
            self.pen = ui.slider(min=1, max=self.widest, value=5, on_change=self._use_pen).classes("pen")
        ui.label("Class, and tag of the image").classes("text-sm font-medium mt-1")
        classes = ui.column().classes(
            "w-full border border-slate-300 rounded bg-white p-1 gap-0 no-wrap overflow-y-auto"
        )
        with classes.style("max-height: 30vh"):
            self.rows = [
                ClassRow(index, name, self._color(index), self._use_label)
                for index, name in enumerate(self.classes.names)
            ]
        ui.label("Graph cut's labeling").classes("text-sm font-medium mt-1")
        with ui.row().classes("w-full items-center no-wrap gap-2"):
            self.labeling = ui.switch(value=True, on_change=self._use_views).tooltip("show or hide (Space)")
            self.opacity = ui.slider(min=0.1, max=1, step=0.05, value=0.6, on_change=self._use_views)
        self.latency = ui.label().classes("text-sm text-slate-500 latency")
        self.panel = LearningPanel(self.session, self.command)
        shortcuts()

    def _color(self, index: int) -> str:
        return "rgb({}, {}, {})".format(*self.classes.palette[index].tolist())

    # ---- images ------------------------------------------------------------------------------------------

    async def start(self, wanted: str | None) -> None:
        """Show the first image: the one that is asked for, or one that has no annotation yet."""
        entries = self.session.folder.entries
        usable = [name for name, entry in entries.items() if entry.problem is None]
        bare = [name for name in usable if not entries[name].annotated]
        first = wanted if wanted in usable else next(iter(bare or usable), None)
        if first is None or not await self.go(first, *self._others(1, first)):
            ui.notify("No image of the folder can be read.", type="negative")

    async def go(self, *names: str) -> bool:
        """Show the first of these images that can be opened; say so, once, if some cannot."""
        entries = self.session.folder.entries
        known = {entries[name].problem for name in names} if len(names) > 1 else set()  # by the list
        troubles = []
        for name in names:
            try:
                image = await self.session.open(name)
            except ValueError as error:
                troubles.append(str(error))
            else:
                self._show(image)
                break
        if new := [trouble for trouble in troubles if trouble not in known]:
            more = f" (and {len(new) - 1} more)" if len(new) > 1 else ""
            ui.notify(new[0] + more, type="warning", multi_line=True, timeout=8000)
        if troubles:
            self.list.refresh(entries)
        return len(troubles) < len(names)

    def _others(self, step: int, name: str) -> list[str]:
        """The other images in their order, forwards (1) or backwards (-1), those, too, that could not be opened yet."""
        names = list(self.session.folder.entries)
        start = names.index(name)
        return [names[(start + step * offset) % len(names)] for offset in range(1, len(names))]

    def _show(self, image: OpenImage) -> None:
        self._leave()
        before = self.image
        self.image = image
        self.session.watch(image, self.refresh)
        if before is None or before is not image:
            self.widest = max(round(max(image.size) / 25), 12)
            self.pen.props(f"max={self.widest}")
            self.pen.set_value(max(round(max(image.size) / 120), 3))
            self._use_pen()
        names = list(self.session.folder.entries)
        self.title.set_text(f"{image.name} · {names.index(image.name) + 1} of {len(names)}")
        ui.navigate.history.replace(f"/?image={quote(image.name)}")
        self.refresh()
        self.list.go(image.name, self.session.needed())

    def _leave(self) -> None:
        if self.image is not None:
            self.session.leave(self.image, self.refresh)

    def _close(self) -> None:
        self._leave()
        self.session.watchers.remove(self._show_states)
        self.session.receipts.remove(self.canvas.confirm)

    def refresh(self) -> None:
        """Show the present state of the image."""
        if (image := self.image) is None:
            return
        self.canvas.show(image, self.panel.uncertainty.value)
        self.panel.show(image)
        self.mark.show(image)
        self.undo.set_enabled(bool(image.document.done))
        self.redo.set_enabled(bool(image.document.undone))
        tags = image.document.current.tags or frozenset()
        for row in self.rows:
            row.show_tag(row.index in tags)
        self._show_source()
        self.list.refresh(self.session.folder.entries)

    def _show_states(self) -> None:
        self.panel.show_states()
        self._show_source()

    def _show_source(self) -> None:
        if self.image is not None:
            self.latency.set_text(describe_labeling(self.image, self.session.learning_state.learned))

    # ---- changes -----------------------------------------------------------------------------------------

    def _drawn(self, sent: Mapping[str, Any]) -> Coroutine[Any, Any, None] | None:
        """Take what was drawn, on whatever image: it may have been left, or have been open before the server died."""
        name = str(sent["name"])
        if name not in self.session.folder.entries:
            return None
        change = None
        try:
            change = read_change(sent, len(self.classes.names))
        except ValueError as error:
            ui.notify(str(error), type="warning")
        made = self.session.receive(name, change, read_key(sent))
        return None if made or name in self._opening else self._open_for_changes(name)

    async def _open_for_changes(self, name: str) -> None:
        self._opening.add(name)
        try:
            await self.session.open(name)
        except ValueError as error:  # they wait for the next one: taken after it, the browser would forget them
            ui.notify(str(error), type="warning")
        finally:
            self._opening.discard(name)

    # ---- commands ----------------------------------------------------------------------------------------

    def command(self, command: str) -> Coroutine[Any, Any, None] | None:
        """Do what a key or a button stands for: at once, or when what is returned is awaited where that takes time."""
        kind, _, digit = command.partition(" ")
        if kind == "class":
            self._use_label(int(digit) - 1)
        elif kind in ("scribble", "click", "erase"):
            self._use_tool(kind)
        elif kind in ("thinner", "thicker"):
            wider = self.pen.value + (1 if kind == "thicker" else -1)
            self.pen.set_value(min(max(wider, 1), self.widest))
        elif kind == "views":
            self.refresh()
        elif kind == "uncertainty":
            self.panel.uncertainty.set_value(not self.panel.uncertainty.value)
        elif kind == "labeling":
            self.labeling.set_value(not self.labeling.value)
        elif kind == "hide":
            self.drawn = not self.drawn
            self._use_views()
        elif self.image is not None:
            return self._accept(self.image) if kind == "accept" else self._save_and_go(kind, self.image)
        return None

    async def _save_and_go(self, kind: str, image: OpenImage) -> None:
        await self.session.save(image)
        if kind in ("next", "previous"):
            await self.go(*self._others(1 if kind == "next" else -1, image.name))
        elif kind == "need":
            await self._to_need(image)

    async def _to_need(self, image: OpenImage) -> None:
        """Show the image where a stroke helps most; before anything is learned, the next one without annotation."""
        if not await self.go(*(name for name in self.session.needed() if name != image.name)):
            ui.notify("Something is known about every image.", type="positive")

    async def _accept(self, image: OpenImage) -> None:
        if image.shows_accepted:  # the labeling is hidden, and may have changed
            ui.notify("These labels are accepted: draw, or remove them, to see the labeling.", type="info")
            return
        try:
            await self.session.accept(image, self.panel.threshold.value)
        except ValueError as error:
            ui.notify(str(error), type="warning")

    def _use_label(self, label: int) -> None:
        if not label < len(self.rows):
            return
        self.label = label
        for row in self.rows:
            row.show_chosen(row.index == label)
        self.canvas.use(label=label)
        if self.tools.value == "erase":
            self._use_tool("scribble")

    def _use_tool(self, tool: str) -> None:
        self.tools.set_value(tool)
        self.canvas.use(tool=tool)

    def _use_pen(self) -> None:
        self.pen_text.set_text(f"Pen {self.pen.value} px")
        self.canvas.use(pen=self.pen.value)

    def _use_views(self) -> None:
        self.canvas.use(drawn=self.drawn, opacity=self.opacity.value if self.labeling.value else 0)


def _button(icon: str, hint: str) -> ui.button:
    return ui.button(icon=icon).props("flat dense round color=white").tooltip(hint)
