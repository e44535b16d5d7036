"""Admission to the page: browsers that opened it on this machine, no other page that they show."""

from collections.abc import MutableMapping
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

__all__ = ["LocalOnly", "find_fault"]

_LOCAL = {"127.0.0.1", "localhost", "::1"}
# Nothing is fetched from elsewhere, and no other page may show this one or its pictures.
_ANSWER = {
    "Content-Security-Policy": "default-src 'self' data: blob: 'unsafe-inline' 'unsafe-eval'; frame-ancestors 'none'",
    "Cross-Origin-Resource-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
}


def find_fault(headers: Headers) -> str | None:
    """Say why a request is refused; None if it is not.

    The name in ``Host`` must be that of this machine: another one that leads here (DNS rebinding) is a foreign page's.
    The port may be any, as of a tunnel. ``Origin``, which browsers add to what pages send, must be this page's own.
    """
    hosts = headers.getlist("host")
    if len(hosts) != 1 or _name(f"//{hosts[0]}") not in _LOCAL:
        return f"the host {', '.join(hosts)!r} is not this machine: open http://127.0.0.1:PORT"
    if any(origin != f"http://{hosts[0]}" for origin in headers.getlist("origin")):
        return "the request comes from another page"
    return None


def _name(address: str) -> str | None:
    try:
        return urlsplit(address).hostname
    except ValueError:
        return None


class LocalOnly:
    """Middleware that refuses foreign hosts and origins, for pages and web sockets alike.

    Args:
        app: what answers the others.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        if scope["type"] not in ("http", "websocket"):
            await self.app(scope, receive, send)
        elif (fault := find_fault(Headers(scope=scope))) is None:
            await self.app(scope, receive, _with_headers(send))
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008})
        else:
            await PlainTextResponse(f"refused: {fault}\n", status_code=403)(scope, receive, send)


def _with_headers(send: Send) -> Send:
    async def sending(message: MutableMapping[str, object] | Message) -> None:
        if message["type"] == "http.response.start":
            MutableHeaders(scope=message).update(_ANSWER)
        await send(message)

    return sending
