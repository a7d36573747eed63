"""Fixtures that every test sees: the real data where there is some, and no network."""

import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[1]

# Before NumPy, torch or FAISS are imported, and for the processes that tests start: one
# thread each, so that parallel test workers do not compete and sums keep their order.
os.environ.setdefault("OMP_NUM_THREADS", "1")


@pytest.fixture(scope="session")
def real_data() -> Path:
    """Folder of the public data sets: ``TWOTOWER_DATA``, or one kept beside the checkout."""
    given = os.environ.get("TWOTOWER_DATA")
    folder = Path(given) if given else ROOT.parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip(
            "real data not found: set TWOTOWER_DATA to the folder with video-games-2023, "
            "gowalla and ml-100k"
        )
    return folder


def _is_local(family: int, address: Any) -> bool:
    if family not in (socket.AF_INET, socket.AF_INET6):
        return True
    host = address[0]
    return host in ("localhost", "::1") or host.startswith("127.")


@pytest.fixture(scope="session", autouse=True)
def _no_network() -> Iterator[None]:
    """Fail a test that connects to anything but this machine.

    Session scope, because Hypothesis refuses function-scoped fixtures; `pytest.fail`, because
    an `OSError` would be taken for a flaky network and retried.
    """

    def guarded(name: str) -> Any:
        original = getattr(socket.socket, name)

        def connect(self: socket.socket, address: Any) -> Any:
            if not _is_local(self.family, address):
                pytest.fail(f"a test must not use the network, it tried to reach {address}")
            return original(self, address)

        return connect

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket.socket, "connect", guarded("connect"))
        patch.setattr(socket.socket, "connect_ex", guarded("connect_ex"))
        yield
