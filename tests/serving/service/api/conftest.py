"""The app over a toy bundle, with a key of each scope."""

import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from twotower.bundle import save_bundle
from twotower.service.api.app import create_app
from twotower.service.api.auth import Scope, new_key
from twotower.service.settings import ServeSettings

SCOPES = {"reader": Scope.READ, "writer": Scope.WRITE, "boss": Scope.ADMIN}


@pytest.fixture(scope="session")
def saved_bundle(open_contents, weights, tmp_path_factory) -> Path:
    """A bundle that nobody changes."""
    folder = tmp_path_factory.mktemp("served") / "bundle"
    save_bundle(folder, open_contents, weights)
    return folder


@pytest.fixture(scope="session")
def keys(tmp_path_factory) -> tuple[Path, dict[str, str]]:
    """A keys file, and the header for each key."""
    made = {name: new_key(name, scope) for name, scope in SCOPES.items()}
    file = tmp_path_factory.mktemp("keys") / "keys"
    file.write_text("# ours\n" + "\n".join(line for _, line in made.values()) + "\n")
    return file, {name: {"Authorization": f"Bearer {key}"} for name, (key, _) in made.items()}


@pytest.fixture
def served(saved_bundle, keys, tmp_path) -> Callable[..., TestClient]:
    """Start the app with other settings; a client of it, which may do everything."""

    @contextmanager
    def start(**changes) -> Iterator[TestClient]:
        if not (tmp_path / "bundle").exists():
            shutil.copytree(saved_bundle, tmp_path / "bundle")
        given = {"bundle": tmp_path / "bundle", "keys_file": keys[0], "poll_s": 60, **changes}
        app = create_app(ServeSettings(**given))
        with TestClient(app, headers=keys[1]["boss"], raise_server_exceptions=False) as client:
            yield client

    return start


@pytest.fixture
def client(served) -> Iterator[TestClient]:
    with served() as client:
        yield client


class Inside:
    """Counts the threads that are within it at once; ``most`` is the greatest number so far."""

    def __init__(self) -> None:
        self.most = 0
        self._now = 0
        self._lock = threading.Lock()

    def __enter__(self) -> None:
        with self._lock:
            self._now += 1
            self.most = max(self.most, self._now)

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._now -= 1


@pytest.fixture
def inside() -> Inside:
    """A count of threads."""
    return Inside()
