"""Admission to the page: browsers that were given its token and opened it on this machine, no other page of theirs."""

import secrets
from collections.abc import MutableMapping
from urllib.parse import SplitResult, urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import HTTPConnection
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

__all__ = ["Guard", "find_fault"]

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
    if len(hosts) != 1 or (found := _split(hosts[0])) is None or found.hostname not in _LOCAL:
        return f"the host {', '.join(hosts)!r} is not this machine: open http://127.0.0.1:PORT"
    if any(origin != f"http://{hosts[0]}" for origin in headers.getlist("origin")):
        return "the request comes from another page"
    return None


def _split(host: str) -> SplitResult | None:
    try:
        split = urlsplit(f"//{host}")
        return split if split.port != 0 else None  # a port that is no number raises
    except ValueError:
        return None


class Guard:
    """Middleware that refuses whoever has no token, foreign hosts and origins, for pages and web sockets alike.

    The address that users open holds the token. The answer to it leaves a cookie, so that pictures, web sockets and
    the page when it is loaded again need no more than that. Browsers keep one jar for all ports of a host: the cookie
    is named by the port, and two pages at a time keep their own.

    Args:
        app: what answers the others.
        token: what a request must know, as `token` in its address or in the cookie.
    """

    def __init__(self, app: ASGIApp, token: str) -> None:
        self.app = app
        self.token = token

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        if scope["type"] not in ("http", "websocket"):
            await self.app(scope, receive, send)
        elif (fault := self._find_fault(request := HTTPConnection(scope))) is None:
            await self.app(scope, receive, self._answering(request, send))
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008})
        else:
            await PlainTextResponse(f"refused: {fault}\n", status_code=403)(scope, receive, send)

    def _find_fault(self, request: HTTPConnection) -> str | None:
        if (fault := find_fault(request.headers)) is not None:
            return fault
        if self._is_token(request.query_params.get("token")) or self._is_token(request.cookies.get(_cookie(request))):
            return None
        return "the token is missing or wrong: open the whole address that `weakseg paint` prints"

    def _is_token(self, given: str | None) -> bool:
        # Of equal duration whatever is given: its digits cannot be guessed one by one.
        return given is not None and secrets.compare_digest(given.encode(), self.token.encode())

    def _answering(self, request: HTTPConnection, send: Send) -> Send:
        async def sending(message: MutableMapping[str, object] | Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers.update(_ANSWER)
                if self._is_token(request.query_params.get("token")):
                    headers.append("Set-Cookie", f"{_cookie(request)}={self.token}; Path=/; HttpOnly; SameSite=Strict")
            await send(message)

        return sending


def _cookie(request: HTTPConnection) -> str:
    """Name of the cookie, by the port that the browser sees, which may be that of a tunnel."""
    split = _split(request.headers["host"])
    return f"weakseg-paint-{(split and split.port) or 80}"
