"""The drawing surface in the browser, as an element of NiceGUI."""

from collections.abc import Callable, Mapping
from hashlib import blake2b
from math import isfinite
from pathlib import Path
from typing import Any
from urllib.parse import quote

from nicegui.element import Element
from nicegui.events import GenericEventArguments

from weakseg_lightning.energies.potts import VOID
from weakseg_lightning.painting.document import AddClick, Change, Clear, Click, Step, Stroke, Tag, Unaccept
from weakseg_lightning.painting.open_image import Key, OpenImage

__all__ = ["Canvas", "layer_address", "read_change", "read_key"]

_STEPS: dict[str, Change | Step] = {"undo": "undo", "redo": "redo", "clear": Clear(), "unaccept": Unaccept()}
_MAX_POINTS = 100_000
_MODULES: list[str | Path] = ["browser/canvas_changes.js", "browser/canvas_view.js"]  # imported by canvas.js


class Canvas(Element, component="browser/canvas.js", dependencies=_MODULES):
    """Shows an image with its annotation and the labeling, draws under the pen, and sends what was drawn.

    Args:
        on_drawn: called with what :func:`read_change` reads, the `name` of the image and the `id` of the change in it.
        on_command: called with the name of a command whose key was pressed.
        colors: CSS colors of the classes.
        root: folder of the images.
    """

    def __init__(
        self,
        on_drawn: Callable[[Mapping[str, Any]], Any],
        on_command: Callable[[str], Any],
        colors: list[str],
        root: Path,
    ) -> None:
        super().__init__()
        self._props.update(name="", folder=key_of(root), width=1, height=1, clicks=[], tags=[], applied={})
        self._props.update(colors=colors, opacity=0.6, drawn=True)

        def drawn(event: GenericEventArguments) -> Any:
            return on_drawn(event.args)

        self.on("drawn", drawn)

        def commanded(event: GenericEventArguments) -> Any:
            command = str(event.args["command"])
            # A key that was pressed before the browser showed this image is about the one before.
            late = event.args.get("name") != self._props["name"]
            return None if late and command == "accept" else on_command(command)

        self.on("command", commanded)

    def show(self, image: OpenImage, uncertainty: bool = False) -> None:
        """Show the present state of an image, and where it is uncertain if that is asked for."""
        current = image.document.current
        labeling = layer_address(image, "labeling", image.labelings) if image.labeling else ""
        if image.shows_accepted:
            labeling = layer_address(image, "accepted", image.document.version)
        self._props.update(
            name=image.name,
            height=image.size[0],
            width=image.size[1],
            image=layer_address(image, "image", 0),
            scribbles=layer_address(image, "scribbles", image.document.version),
            labeling=labeling,
            uncertainty=layer_address(image, "uncertainty", image.labelings) if uncertainty and image.scores else "",
            learned=image.scores.version if image.scores else None,
            applied=dict(image.seen),
            clicks=[[click.x, click.y, click.label] for click in current.clicks],
            tags=sorted(current.tags or ()),
        )
        self.update()

    def confirm(self, image: OpenImage) -> None:
        """Tell which changes of an image, shown or not, need not be sent again."""
        self.run_method("confirm", image.name, image.safe)

    def use(self, **options: Any) -> None:
        """Set `tool`, `label`, `pen`, `opacity` or `drawn`."""
        self._props.update(options)
        self.update()


def key_of(root: Path) -> str:
    """Name of a folder for the browser's storage, which pages of several folders may share."""
    return blake2b(str(root.resolve()).encode(), digest_size=6).hexdigest()


def layer_address(image: OpenImage, layer: str, version: int) -> str:
    """Address of a layer of an image."""
    return f"/layer/{layer}/{quote(image.name, safe='')}?version={version}-{id(image)}"


def read_key(sent: Mapping[str, Any]) -> Key:
    """Read who sent a change, and its number."""
    sender, _, number = str(sent["id"]).rpartition("-")
    return sender, int(number)


def read_change(sent: Mapping[str, Any], num_classes: int) -> Change | Step:
    """Read what the browser sent.

    Raises:
        ValueError: if it makes no sense.
    """
    try:
        if "step" in sent:
            return _STEPS[sent["step"]]
        label = int(sent["label"])
        if not (0 <= label < num_classes or (label == VOID and "points" in sent)):
            raise ValueError(f"there is no class {label}")
        if "tag" in sent:
            return Tag(label, bool(sent["tag"]))
        if "points" not in sent:
            # One decimal, as it is written: what is read again is then the same.
            x, y = (round(float(sent[name]), 1) for name in ("x", "y"))
            if not (isfinite(x) and isfinite(y)):
                raise ValueError("a click needs finite numbers")
            return AddClick(Click(x, y, label))
        points = tuple((float(x), float(y)) for x, y in sent["points"][:_MAX_POINTS])
        return Stroke(points, float(sent["width"]), label)
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"the browser sent something else than a stroke or a click ({error})") from error
