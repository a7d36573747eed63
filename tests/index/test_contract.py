"""What every index must do; a new one joins by its configuration in conftest.py."""

import pytest

from twotower.index import ItemIndex
from twotower.index.base import IndexSettings
from twotower.testing import IndexContract


class TestIndexes(IndexContract):
    @pytest.fixture(scope="class")
    @classmethod
    def config(cls, config: IndexSettings) -> IndexSettings:
        return config

    def test_knows_whether_it_is_exact(self, index: ItemIndex, config: IndexSettings) -> None:
        assert index.is_exact == (config.kind in {"exact", "flat"})
