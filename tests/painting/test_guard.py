"""Foreign hosts and origins."""

import pytest

starlette = pytest.importorskip("starlette.datastructures", reason="the extra `app` is not installed")
guard = pytest.importorskip("weakseg_lightning.painting.guard")


def fault(**headers: str) -> str | None:
    return guard.find_fault(starlette.Headers({name.replace("_", "-"): value for name, value in headers.items()}))


@pytest.mark.parametrize("host", ["127.0.0.1:8123", "localhost:9", "LOCALHOST", "[::1]:80", "127.0.0.1"])
def test_this_machine_is_let_in(host):
    assert fault(host=host) is None
    assert fault(host=host, origin=f"http://{host}") is None


PREFIXED = ["127.0.0.1.evil.example", "localhost.evil.example:8123", "evil.example@127.0.0.1.nip.io"]


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:8123", *PREFIXED, "0.0.0.0:8123", "192.168.1.7", "", "[", "127.0.0.1:x"]
)
def test_other_hosts_are_not(host):
    assert "is not this machine" in fault(host=host)


def test_a_request_names_one_host():
    assert fault() is not None
    both = starlette.Headers(raw=[(b"host", b"127.0.0.1"), (b"host", b"evil.example")])
    assert guard.find_fault(both) is not None


@pytest.mark.parametrize("origin", ["http://evil.example", "null", "https://127.0.0.1:8123", "http://127.0.0.1:9999"])
def test_other_pages_are_not(origin):
    assert "another page" in fault(host="127.0.0.1:8123", origin=origin)


def test_tokens_are_compared_in_constant_time(monkeypatch):
    compared = []
    monkeypatch.setattr(guard.secrets, "compare_digest", lambda *both: bool(compared.append(both)))
    request = pytest.importorskip("starlette.requests").HTTPConnection(
        {"type": "http", "headers": [(b"host", b"127.0.0.1:1")], "query_string": b"token=right"}
    )
    assert "token is missing or wrong" in guard.Guard(None, "right")._find_fault(request)
    assert compared == [(b"right", b"right")]


def test_two_pages_on_two_ports_keep_their_own_cookies():
    jar = b"weakseg-paint-1=one; weakseg-paint-2=two"
    for port, token in (("1", "one"), ("2", "two")):
        headers = [(b"host", f"127.0.0.1:{port}".encode()), (b"cookie", jar)]
        request = pytest.importorskip("starlette.requests").HTTPConnection(
            {"type": "http", "headers": headers, "query_string": b""}
        )
        assert guard.Guard(None, token)._find_fault(request) is None
        assert guard.Guard(None, "other")._find_fault(request) is not None
