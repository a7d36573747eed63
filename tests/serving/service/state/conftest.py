from collections.abc import Iterator

import pytest

from twotower.service.state import StateStore


@pytest.fixture
def store(state_url: str) -> Iterator[StateStore]:
    store = StateStore(state_url)
    yield store
    store.close()
