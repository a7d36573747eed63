import pytest

from twotower.index import ExactConfig, FlatConfig, HnswConfig, IvfConfig, PqConfig
from twotower.testing import clustered
from twotower.types import FloatArray

CONFIGS = (
    ExactConfig(),
    FlatConfig(),
    HnswConfig(links=16),
    HnswConfig(links=16, numbers="float16"),
    IvfConfig(probes=12),
    IvfConfig(probes=12, numbers="float16"),
    IvfConfig(probes=12, numbers="int8"),
    PqConfig(),
)


@pytest.fixture(scope="session")
def vectors() -> FloatArray:
    return clustered(2000, seed=1)


@pytest.fixture(scope="session")
def queries() -> FloatArray:
    return clustered(50, seed=2)


@pytest.fixture(
    params=CONFIGS,
    ids=lambda config: f"{config.kind}-{getattr(config, 'numbers', '')}".rstrip("-"),
    scope="session",
)
def config(request):
    return request.param
