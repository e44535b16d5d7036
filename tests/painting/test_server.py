"""What the server answers, and to whom."""

import http.client
import socket
import sys

import pytest

WEBSOCKET = {
    "Connection": "Upgrade",
    "Upgrade": "websocket",
    "Sec-WebSocket-Version": "13",
    "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
}
SOCKET = "/_nicegui_ws/socket.io/?EIO=4&transport=websocket"


def ask(started, path, **headers):
    """Status, headers and body of an answer."""
    connection = http.client.HTTPConnection("127.0.0.1", started.port, timeout=60)
    try:
        connection.request("GET", path, headers=headers)
        answer = connection.getresponse()
        body = b"" if answer.status == 101 else answer.read()
        return answer.status, answer.headers, body
    finally:
        connection.close()


def test_the_page_takes_nothing_from_elsewhere(painting):
    status, headers, body = ask(painting[0], "/")
    assert status == 200
    assert b"weakseg paint" in body
    assert "default-src 'self'" in headers["Content-Security-Policy"]
    assert "frame-ancestors 'none'" in headers["Content-Security-Policy"]
    assert headers["Cross-Origin-Resource-Policy"] == "same-origin"


@pytest.mark.parametrize("path", ["/", "/layer/image/draw", SOCKET])
def test_foreign_hosts_and_origins_are_refused(painting, path):
    upgrade = WEBSOCKET if path == SOCKET else {}
    port = painting[0].port
    assert ask(painting[0], path, Host="evil.example", **upgrade)[0] == 403
    assert (
        ask(painting[0], path, Host=f"evil.example:{port}", Origin=f"http://evil.example:{port}", **upgrade)[0] == 403
    )
    assert ask(painting[0], path, Origin="http://evil.example", **upgrade)[0] == 403
    assert ask(painting[0], path, Origin=f"http://127.0.0.1:{port}", **upgrade)[0] != 403


def test_the_socket_works_for_the_page_itself(painting):
    origin = f"http://127.0.0.1:{painting[0].port}"
    assert ask(painting[0], SOCKET, Origin=origin, **WEBSOCKET)[0] == 101


@pytest.mark.parametrize("layer", ["image", "scribbles", "labeling"])
@pytest.mark.parametrize(
    "name",
    [
        "..%2f..%2fclasses.yaml",
        "../../classes.yaml",
        "%2fetc%2fpasswd",
        "/etc/passwd",
        "..%5cclasses.yaml",
        "draw%00",
        "",
    ],
)
def test_nothing_but_open_images_is_served(painting, layer, name):
    status, _, body = ask(painting[0], f"/layer/{layer}/{name}")
    assert status in (404, 405)
    assert b"background" not in body
    assert b"root:" not in body


@pytest.mark.skipif(sys.platform != "linux", reason="127.0.0.2 is a local address on Linux alone")
def test_no_other_address_listens(painting):
    with socket.socket() as other:
        assert other.connect_ex(("127.0.0.2", painting[0].port)) != 0


def test_a_port_that_is_taken_is_named(painting):
    from weakseg_lightning.painting.server import serve

    with pytest.raises(OSError, match=f"`port`: {painting[0].port} cannot be used"):
        serve(None, painting[0].port, print)
