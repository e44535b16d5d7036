"""What the server answers, and to whom."""

import asyncio
import contextlib
import http.client
import signal
import socket
import sys
from dataclasses import replace
from types import SimpleNamespace

import pytest

uvicorn = pytest.importorskip("uvicorn", reason="the extra `app` is not installed")

WEBSOCKET = {
    "Connection": "Upgrade",
    "Upgrade": "websocket",
    "Sec-WebSocket-Version": "13",
    "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
}
SOCKET = "/_nicegui_ws/socket.io/?EIO=4&transport=websocket"


OUTSIDE = ["..%2f..%2fclasses.yaml", "../../classes.yaml", "..%5cclasses.yaml", "%2fetc%2fpasswd", "/etc/passwd"]


@pytest.fixture
def port(painting):
    return painting[0].port


@pytest.fixture
def cookie(painting):
    """What a browser that has been let in sends."""
    return {"Cookie": f"weakseg-paint-{painting[0].port}={painting[0].token}"}


def ask(port, path, **headers):
    """Status, headers and body of an answer."""
    with contextlib.closing(http.client.HTTPConnection("127.0.0.1", port, timeout=60)) as connection:
        connection.request("GET", path, headers=headers)
        answer = connection.getresponse()
        return answer.status, answer.headers, b"" if answer.status == 101 else answer.read()


def test_the_page_takes_nothing_from_elsewhere(port, cookie):
    status, headers, body = ask(port, "/", **cookie)
    assert status == 200
    assert b"weakseg paint" in body
    assert "default-src 'self'" in headers["Content-Security-Policy"]
    assert "frame-ancestors 'none'" in headers["Content-Security-Policy"]
    assert headers["Cross-Origin-Resource-Policy"] == "same-origin"


@pytest.mark.parametrize("path", ["/", "/layer/image/draw", SOCKET])
def test_foreign_hosts_and_origins_are_refused(port, cookie, path):
    upgrade = cookie | (WEBSOCKET if path == SOCKET else {})
    foreign = f"evil.example:{port}"
    for headers in (
        {"Host": "evil.example"},
        {"Host": foreign, "Origin": f"http://{foreign}"},
        {"Origin": "http://evil.example"},
    ):
        assert ask(port, path, **headers, **upgrade)[0] == 403
    assert ask(port, path, Origin=f"http://127.0.0.1:{port}", **upgrade)[0] != 403


def test_the_socket_works_for_the_page_itself(port, cookie):
    assert ask(port, SOCKET, Origin=f"http://127.0.0.1:{port}", **WEBSOCKET, **cookie)[0] == 101


@pytest.mark.parametrize("path", ["/", "/layer/image/draw", SOCKET, "/_nicegui/nothing"])
def test_who_has_no_token_is_refused(port, cookie, path):
    upgrade = WEBSOCKET if path == SOCKET else {}
    ((_, known),) = (sent.split("=") for sent in cookie.values())
    wrong = [f"weakseg-paint-{port}={known[:-1]}", f"weakseg-paint-{port}=", f"weakseg-paint-{port + 1}={known}"]
    for headers in ({}, *({"Cookie": sent} for sent in wrong)):
        status, _, body = ask(port, path, **headers, **upgrade)
        assert status == 403
        assert path == SOCKET or body == (
            b"refused: the token is missing or wrong: open the whole address that `weakseg paint` prints\n"
        )
    assert ask(port, path, **cookie, **upgrade)[0] != 403


def test_the_address_with_the_token_leaves_a_cookie_that_scripts_and_other_pages_do_not_get(painting):
    started = painting[0]
    _, headers, _ = ask(started.port, f"/?token={started.token}")
    kept, *rest = headers["Set-Cookie"].split("; ")
    assert kept == f"weakseg-paint-{started.port}={started.token}"
    assert {"HttpOnly", "SameSite=Strict", "Path=/"} == set(rest)
    for path in (f"/?token={started.token}x", "/?token=", "/?token=%ff"):
        status, headers, _ = ask(started.port, path)
        assert status == 403
        assert "Set-Cookie" not in headers
    assert "Set-Cookie" not in ask(started.port, "/", Cookie=kept)[1]


@pytest.mark.parametrize("layer", ["image", "scribbles", "labeling"])
@pytest.mark.parametrize("name", [*OUTSIDE, "draw%00", ""])
def test_nothing_but_open_images_is_served(port, cookie, layer, name):
    status, _, body = ask(port, f"/layer/{layer}/{name}", **cookie)
    assert status in (404, 405)
    assert b"background" not in body
    assert b"root:" not in body


@pytest.mark.skipif(sys.platform != "linux", reason="127.0.0.2 is a local address on Linux alone")
def test_no_other_address_listens(port):
    with socket.socket() as other:
        assert other.connect_ex(("127.0.0.2", port)) != 0


def test_a_port_that_is_taken_is_named(port):
    from weakseg_lightning.painting.server import serve

    with pytest.raises(OSError, match=f"`port`: {port} cannot be used"):
        serve(None, port, print)


def test_who_waits_no_longer_for_a_training_presses_ctrl_c_again(capsys):
    from weakseg_lightning.painting.server import _close, _Server

    class Session:
        is_training, hurried = True, asyncio.Event()

        @property
        def training(self):
            return SimpleNamespace(hurry=self.hurried.set)

        async def close(self):
            await self.hurried.wait()

    server = _Server(uvicorn.Config(None))
    for _ in range(2):  # before it is said what that does
        server.handle_exit(signal.SIGINT, None)
    assert not server.force_exit  # the end, which saves, is not left out

    async def ended():
        closing = asyncio.create_task(_close(Session(), lambda: server.repeated))
        await asyncio.sleep(0.5)
        assert not Session.hurried.is_set()
        server.handle_exit(signal.SIGINT, None)
        await asyncio.wait_for(closing, 20)

    asyncio.run(ended())
    assert "Waiting for the training to write its checkpoint: Ctrl-C again ends it without\n" in capsys.readouterr().out


def test_a_memory_that_is_full_is_said():
    from weakseg_lightning.painting.learning.client import LearningState
    from weakseg_lightning.painting.learning_panel import _describe_learning

    state = LearningState(phase="ready", cached=20, total=50, learned=3)
    assert _describe_learning(state) == "features of 20 of 50 images"
    full = _describe_learning(replace(state, full=True))
    assert full.startswith("learned from 3 of 50 images, features of 20 of 50 images: no memory for more")
