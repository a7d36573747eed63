"""A bundle that was not trained, and its database with events that a model can learn from."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from twotower.service.state import Event, StateStore


@pytest.fixture
def bundle(blocks: Any, small_variants: Any, tmp_path: Path) -> Path:
    """A bundle of a model that was not trained, in a folder of its own."""
    import torch

    from twotower.models.build import build_model
    from twotower.training.fit import Trained
    from twotower.training.progress import TrainingState
    from twotower.workflow.bundling import bundle_contents, write_bundle

    small = small_variants["v1"]
    variant = small.vary(training=small.training.vary(epochs=15))
    torch.manual_seed(0)
    trained = Trained(variant, 0, build_model(variant.model, blocks), TrainingState(""))
    folder = tmp_path / "bundles" / "current"
    write_bundle(folder, bundle_contents("v1", trained, blocks), trained)
    return folder


@pytest.fixture
def store(blocks: Any, tmp_path: Path) -> Iterator[StateStore]:
    """Four new items of their own block for every user, at times after the bundle's."""
    store = StateStore(f"sqlite:///{tmp_path / 'bundles' / 'state.sqlite3'}")
    rng = np.random.default_rng(0)
    log = blocks.interactions
    last = int(log.timestamps.max())
    events = []
    for user in range(len(blocks.users)):
        had = set(log.row(user).tolist())
        free = [item for item in range(user % 2, len(blocks.items), 2) if item not in had]
        for place, item in enumerate(rng.permutation(free)[:4]):
            name = f"{user}-{place}"
            at = last + 1000 * (60 * place + user) + 1
            events.append(
                Event(
                    event_id=name, user_id=blocks.users.ids[user], item_id=blocks.items.ids[item],
                    kind="buy", occurred_at=at,
                )
            )  # fmt: skip
    store.add_events(events)
    yield store
    store.close()
