"""Services over one database, and a second bundle beside that which they serve."""

from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest

from twotower.bundle.storage import save_bundle
from twotower.service.service import Service
from twotower.service.settings import ServeSettings


@pytest.fixture
def start(open_contents, weights, tmp_path) -> Iterator[Callable[..., Service]]:
    save_bundle(tmp_path / "bundle", open_contents, weights)
    other = replace(open_contents, info=open_contents.info.vary(dataset="later"))
    save_bundle(tmp_path / "other", other, weights)
    started: list[Service] = []

    def begin(**changes) -> Service:
        url = f"sqlite:///{tmp_path / 'state.sqlite3'}"
        given = {"bundle": tmp_path / "bundle", "state_url": url, **changes}
        started.append(Service(ServeSettings(**given)))
        return started[-1]

    yield begin
    for service in started:
        service.close()
