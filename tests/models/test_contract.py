"""What every trainable model must do, whatever its family."""

from typing import Any

import pytest

from twotower.data import Dataset
from twotower.testing import ModelContract
from twotower.training.variant import Variant

NAMES = [
    "mf",
    "lightgcn",
    "v1",
    "v2",
    "v3",
    "v4",
    "v4-bpr",
    "v5",
    "v5c",
    "v6",
    "v7",
    "v8",
    "v9",
    "v10",
]


class TestFamilies(ModelContract):
    @pytest.fixture(scope="class", params=NAMES)
    @classmethod
    def variant(cls, request: Any, small_variants: dict[str, Variant]) -> Variant:
        return small_variants[request.param]

    @pytest.fixture(scope="class")
    @classmethod
    def dataset(cls, blocks: Dataset) -> Dataset:
        return blocks

    @pytest.fixture(scope="class")
    @classmethod
    def inputs(cls, block_text: Any, block_image: Any) -> dict[str, Any]:
        return {"text": block_text, "image": block_image}

    @pytest.fixture(scope="class")
    @classmethod
    def teachers(cls, block_teachers: Any) -> Any:
        return block_teachers
