"""Building an index from its configuration, saving and loading."""

import json
from pathlib import Path
from typing import Annotated, Final, TypeAlias

from pydantic import BeforeValidator, SerializeAsAny, TypeAdapter

from twotower.config import Config
from twotower.errors import ArtefactError, InputError
from twotower.index.base import IndexSettings, ItemIndex, check_vectors
from twotower.index.exact import ExactConfig, FlatConfig
from twotower.index.hnsw import HnswConfig
from twotower.index.ivf import IvfConfig
from twotower.index.pq import PqConfig
from twotower.registry import ConfigRegistry
from twotower.types import FloatArray

INDEXES: Final = ConfigRegistry(
    "twotower.indexes",
    "index",
    IndexSettings,
    {
        "exact": "twotower.index.exact:ExactConfig",
        "flat": "twotower.index.exact:FlatConfig",
        "hnsw": "twotower.index.hnsw:HnswConfig",
        "ivf": "twotower.index.ivf:IvfConfig",
        "milvus": "twotower.index.milvus:MilvusConfig",
        "pgvector": "twotower.index.pgvector:PgvectorConfig",
        "pq": "twotower.index.pq:PqConfig",
        "qdrant": "twotower.index.qdrant:QdrantConfig",
    },
)
"""All indexes; other packages register theirs by entry points."""

IndexConfig: TypeAlias = Annotated[IndexSettings, BeforeValidator(INDEXES.parse), SerializeAsAny()]
"""Settings of any index, discriminated by ``kind``."""

NAMED: Final[dict[str, IndexConfig]] = {
    "exact": ExactConfig(),
    "flat": FlatConfig(),
    "hnsw": HnswConfig(),
    "hnsw-float16": HnswConfig(numbers="float16"),
    "ivf": IvfConfig(),
    "ivf-float16": IvfConfig(numbers="float16"),
    "ivf-int8": IvfConfig(numbers="int8"),
    "pq": PqConfig(),
}
"""Name → configuration."""

CONFIG_FILE: Final = "index.json"
_ADAPTER: Final[TypeAdapter[IndexConfig]] = TypeAdapter(IndexConfig)


def named_index(name: str) -> IndexConfig:
    """One of `NAMED`, or the default settings of any other registered index.

    `InputError` if there is none of that name.
    """
    if name in NAMED:
        return NAMED[name]
    if name in INDEXES:
        return INDEXES.find(name).model_validate({})
    known = dict.fromkeys((*NAMED, *INDEXES))
    raise InputError(f"unknown kind of index {name!r}", f"choose from {', '.join(known)}")


def build_index(vectors: FloatArray, config: IndexConfig) -> ItemIndex:
    """Index item vectors by inner product.

    Parameters
    ----------
    vectors
        ``(items, dim)`` float32, row ``i`` for item index ``i``.
    config
        Kind of index and its parameters.

    Raises
    ------
    InputError
        If there are no vectors, they are not two-dimensional, or contain NaN or infinity.
    """
    return config.build(check_vectors(vectors))


def save_index(index: ItemIndex, folder: Path, choice: Config | None = None) -> None:
    """Write ``index.json`` (configuration, size) and the index's own file into ``folder``.

    Not atomic by itself: a bundle writes the whole folder under a temporary name. ``choice`` holds
    the measurements behind this index (`twotower.index.choice.IndexChoice`).
    """
    folder.mkdir(parents=True, exist_ok=True)
    index.save(folder)
    about = {"config": index.config.model_dump(), "dim": index.dim, "size": index.size}
    if choice is not None:
        about["choice"] = choice.model_dump(mode="json")
    (folder / CONFIG_FILE).write_text(json.dumps(about, indent=2))


def load_index(folder: Path) -> ItemIndex:
    """Read what `save_index` wrote; `ArtefactError` at a missing, broken or inconsistent file."""
    path, named = folder / CONFIG_FILE, CONFIG_FILE
    try:
        about = json.loads(path.read_text())
        expected = (about["size"], about["dim"])
        config = _ADAPTER.validate_python(about["config"])
        beside = {path.name for path in folder.glob("index.*")} - {CONFIG_FILE}
        named = ", ".join(sorted(beside)) or CONFIG_FILE
        index = config.read(folder)
    except Exception as error:  # from JSON, NumPy and FAISS: nesting, memory, shapes
        what = " ".join(str(error).split())[:300] or type(error).__name__
        raise ArtefactError(
            f"{folder} holds no readable index ({named}: {what}); build it again"
        ) from error
    if (index.size, index.dim) != expected:
        raise ArtefactError(
            f"{path} names {expected[0]} items of {expected[1]} dimensions, the index has "
            f"{index.size} of {index.dim}; build it again"
        )
    return index
