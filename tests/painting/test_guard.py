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
    "host", ["evil.example", "evil.example:8123", *PREFIXED, "0.0.0.0:8123", "192.168.1.7", "", "["]
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
