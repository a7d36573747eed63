import gc
import weakref

from twotower.service.trim_memory import trim_memory


class Node:
    """Refers to itself, so that only the collector can free it."""

    def __init__(self) -> None:
        self.itself = self


def test_what_was_frozen_and_is_not_needed_any_more_is_freed() -> None:
    node = Node()
    freed = weakref.ref(node)
    trim_memory()
    assert gc.get_freeze_count() > 0
    del node
    gc.collect()
    assert freed() is not None  # frozen: the collector does not look
    trim_memory()
    assert freed() is None
    gc.unfreeze()
