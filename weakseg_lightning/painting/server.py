"""The server of the page: on this machine alone, for one folder."""

import asyncio
import os
import secrets
import socket
import warnings
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, closing, suppress
from pathlib import Path
from types import FrameType

import uvicorn
from fastapi import FastAPI
from fastapi.responses import Response
from nicegui import ui

from weakseg_lightning.painting.guard import Guard
from weakseg_lightning.painting.layout import is_private, write_private
from weakseg_lightning.painting.page import PaintPage
from weakseg_lightning.painting.session import Session
from weakseg_lightning.visualization.panels import full_palette

__all__ = ["serve"]

HOST = "127.0.0.1"
_TOKEN = ".weakseg-paint.token"  # readable by its owner alone


def serve(session: Session, port: int, on_ready: Callable[[str], None]) -> list[str]:
    """Serve the page until it is interrupted.

    Args:
        session: its images and annotations.
        port: where to listen; 0 = any free port.
        on_ready: called with the address of the page, the token in it, when it can be opened.

    Returns:
        What could not be saved, and why.

    Raises:
        OSError: if the port is taken.
    """
    listening = _listen(port)
    unsaved: list[str] = []
    token = _token(session.folder.root)
    address = f"http://{HOST}:{listening.getsockname()[1]}/?token={token}"
    app = make_app(session, lambda: on_ready(address), unsaved, lambda: server.repeated)
    # Tabs keep their connections open: they are not waited for.
    config = uvicorn.Config(Guard(app, token), log_level="warning", proxy_headers=False, timeout_graceful_shutdown=1)
    server = _Server(config)
    with closing(listening), suppress(KeyboardInterrupt), warnings.catch_warnings():  # uvicorn passes the interrupt on
        # NiceGUI looks for the server among all objects, deprecated ones of torch included.
        warnings.filterwarnings("ignore", ".*reduce_op", FutureWarning)
        server.run(sockets=[listening])
    if not unsaved:  # no tab has anything to bring: the next page has a token of its own
        with suppress(OSError):
            (session.folder.root / _TOKEN).unlink()
    return unsaved


class _Server(uvicorn.Server):
    """A server that is not ended before everything is saved, however often it is interrupted."""

    repeated = 0  # interrupts after the first

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        if self.should_exit:
            self.repeated += 1
        else:
            super().handle_exit(sig, frame)


def make_app(
    session: Session, on_start: Callable[[], None], unsaved: list[str], repeated: Callable[[], int]
) -> FastAPI:
    """Make the application.

    Args:
        session: its images and annotations.
        on_start: called when it begins to answer.
        unsaved: gets what could not be saved at the end.
        repeated: counts the interrupts after the first; once users were told that a training writes its checkpoint,
            another one ends it without.
    """
    palette = full_palette(session.folder.classes.palette)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        asyncio.get_running_loop().call_soon(on_start)
        learning = asyncio.create_task(session.learn())
        yield
        try:
            unsaved.extend(await session.save_all())
        finally:
            learning.cancel()
            await _close(session, repeated)

    app = FastAPI(lifespan=lifespan, docs_url=None, redoc_url=None, openapi_url=None)

    @app.get("/layer/{layer}/{name:path}")
    async def layer(layer: str, name: str) -> Response:
        """One of the pictures of an open image; a name is looked up, never used as a path."""
        image = session.images.get(name)
        picture = None if image is None else await asyncio.to_thread(image.layer, layer, palette)
        if picture is None:
            return Response(status_code=404)
        kind = "jpeg" if layer == "image" else "png"
        return Response(picture, media_type=f"image/{kind}", headers={"Cache-Control": "no-store"})

    async def page(image: str = "") -> None:
        shown = PaintPage(session)
        shown.build()
        await ui.context.client.connected()
        await shown.start(image)

    ui.page("/")(page)
    ui.run_with(
        app, title=f"{session.folder.root.name} - weakseg paint", show_welcome_message=False, reconnect_timeout=10
    )
    return app


async def _close(session: Session, repeated: Callable[[], int]) -> None:
    """End the learner and the training."""
    closing = asyncio.create_task(session.close())
    if session.is_training:
        print("Waiting for the training to write its checkpoint: Ctrl-C again ends it without", flush=True)
    before = repeated()  # pressed twice at once, or passed on by a launcher: nobody had read what it does
    while not (await asyncio.wait([closing], timeout=0.2))[0]:
        if repeated() > before and session.training is not None:
            session.training.hurry()
    await closing


def _token(root: Path) -> str:
    """The token, that of a page before which did not end by itself: its tabs go on, with what they had not saved."""
    path = root / _TOKEN
    with suppress(OSError):
        if is_private(path) and (kept := path.read_text().strip()):
            return kept
    token = secrets.token_urlsafe()
    if os.name == "posix":
        write_private(path, token)  # where it cannot be kept there is one for each start
    return token


def _listen(port: int) -> socket.socket:
    listening = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        # The port of a server that has just ended is free again; on Windows the option would share it with another.
        if os.name == "posix":
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind((HOST, port))
        listening.listen()  # from now on a browser waits where it would be refused
    except OSError as error:
        listening.close()
        raise OSError(f"`port`: {port} cannot be used ({error.strerror}): choose another, or 0 for any") from error
    return listening
