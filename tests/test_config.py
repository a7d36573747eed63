"""Settings: their schemas are built at first use, whichever thread is first."""

from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import pytest
from pydantic import Field

from twotower.config import Config


class Inner(Config):
    a: int = Field(1, ge=0)


@pytest.mark.parametrize("_round", range(20))
def test_threads_that_use_a_class_first_share_its_schema(_round: int) -> None:
    class Settings(Inner):
        b: float = Field(2.0, gt=0)
        inner: Inner = Inner()

    together = Barrier(8)

    def made(b: float) -> float:
        together.wait()
        return Settings(a=3, b=b).b

    values = [1.0 + place for place in range(8)]
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(made, values)) == values
