"""Fixtures shared by all tests."""

import os
import socket
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def shared() -> Path:
    """Folder of the real photographs, masks and weights; tests that need it are skipped where it is absent."""
    folder = Path(os.environ.get("WEAKSEG_SHARED", ROOT.parent / "shared"))
    if not (folder / "data").is_dir():
        pytest.skip(f"real data not found in {folder} (set WEAKSEG_SHARED to its folder)")
    return folder


@pytest.fixture(autouse=True)
def _no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let sockets reach this machine alone, so that a hidden download is a failed test."""
    connect = socket.socket.connect

    def guarded(self: socket.socket, address: object) -> None:
        host = address[0] if isinstance(address, tuple) else "localhost"
        if host not in {"localhost", "127.0.0.1", "::1"} and self.family != socket.AF_UNIX:
            raise RuntimeError(f"a test tried to reach {host!r}: tests must not use the network")
        connect(self, address)

    monkeypatch.setattr(socket.socket, "connect", guarded)
