import numpy as np
import pytest

from twotower.index import ExactConfig, FlatConfig, HnswConfig, IvfConfig, PqConfig
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


def clustered(rows: int, seed: int, dim: int = 24) -> FloatArray:
    """Unit vectors around 30 centres that do not depend on the seed."""
    centres = np.random.default_rng(0).normal(size=(30, dim))
    rng = np.random.default_rng(seed)
    points = centres[rng.integers(30, size=rows)] + 0.5 * rng.normal(size=(rows, dim))
    return (points / np.linalg.norm(points, axis=1, keepdims=True)).astype(np.float32)


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
