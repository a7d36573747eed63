"""The bundle: one folder that holds all that serving needs. See ``docs/bundle.md``."""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import polars as pl
from polars.exceptions import PolarsError
from safetensors import SafetensorError
from safetensors.numpy import save

from twotower.bundle.arrays import read_arrays
from twotower.bundle.blend import Blend
from twotower.bundle.comparison_models import Peer, from_arrays, to_arrays
from twotower.bundle.contents import BundleContents
from twotower.bundle.manifest import Manifest, verify, write_manifest
from twotower.bundle.new_items import NewItems, TextModel
from twotower.bundle.reranker import RerankVectors
from twotower.data import Histories, IdMap, columns
from twotower.data.atomic import atomic_folder
from twotower.errors import ArtefactError, InputError
from twotower.factors.exposure import ListBars
from twotower.features import ItemFeatures, ReleaseOrder, UserFeatures
from twotower.index import load_choice, load_index, save_index
from twotower.types import Array

TOWERS: Final = "towers.safetensors"
USER_TOWER: Final = "user_tower.onnx"
USER_TABLES: Final = "user_tables.safetensors"
USER_FEATURES: Final = "user_features.safetensors"
ITEM_VECTORS: Final = "item_vectors.safetensors"
USERS: Final = "users.parquet"
CATALOGUE: Final = "catalogue.parquet"
HISTORIES: Final = "histories.safetensors"
INDEX: Final = "index.json"
RERANKER: Final = "reranker.safetensors"
BLEND: Final = "blend.safetensors"
ITEM_TOWER: Final = "item_tower.onnx"
ITEM_ENCODER: Final = "item_encoder.safetensors"
ITEM_TEXT: Final = "item_text.safetensors"
TEXT_MODEL: Final = "text_model.onnx"
TEXT_TOKENIZER: Final = "text_tokenizer.json"
PEERS: Final = "peers.safetensors"
REQUIRED: Final = (
    TOWERS, USER_TOWER, USER_TABLES, USER_FEATURES, ITEM_VECTORS, USERS, CATALOGUE, HISTORIES,
    INDEX,
)  # fmt: skip


@dataclass(frozen=True)
class Bundle:
    """A verified bundle.

    Attributes
    ----------
    folder
        Where it was read from.
    manifest
        What it is.
    contents
        What serving reads.
    """

    folder: Path
    manifest: Manifest
    contents: BundleContents

    def weights(self) -> dict[str, Array]:
        """Trained weights of both towers, read (and verified) only when asked for."""
        self.manifest.check(self.folder, TOWERS)
        return read_arrays(self.folder / TOWERS)

    def peers(self) -> dict[str, Peer]:
        """Other models by name, read (and verified) only when asked for; empty without any."""
        if PEERS not in self.manifest.files:
            return {}
        self.manifest.check(self.folder, PEERS)
        with _reading(self.folder / PEERS) as path:
            peers = from_arrays(read_arrays(path))
            for name, peer in peers.items():
                peer.check(name, len(self.contents.users), len(self.contents.items))
        return peers


def save_bundle(
    folder: Path,
    contents: BundleContents,
    weights: Mapping[str, Array],
    peers: Mapping[str, Peer] | None = None,
) -> Manifest:
    """Write a bundle to ``folder``, all or nothing; an older one there is replaced.

    Parameters
    ----------
    folder
        The bundle's folder.
    contents
        What serving reads.
    weights
        Trained weights of both towers, by name, for whoever trains on.
    peers
        Other models by name, for the demo to compare with; their rows are those of ``contents``.

    Returns
    -------
    Manifest
        What was written.
    """
    tables = {"user_table": contents.user_table}
    if contents.history_table is not None:
        tables["history_table"] = contents.history_table
    if contents.factors is not None:
        tables["factors"] = contents.factors
    for name, peer in (peers or {}).items():
        peer.check(name, len(contents.users), len(contents.items))
    log = contents.histories
    events: dict[str, Array | None] = {
        "indptr": log.indptr,
        "items": log.items,
        "ratings": log.ratings,
        "timestamps": log.timestamps,
    }
    with atomic_folder(folder) as temporary:
        _save(temporary / TOWERS, weights)
        (temporary / USER_TOWER).write_bytes(contents.user_tower)
        _save(temporary / USER_TABLES, tables)
        _save(temporary / USER_FEATURES, contents.user_features.to_arrays())
        _save(temporary / ITEM_VECTORS, {"item_vectors": contents.item_vectors})
        pl.DataFrame({columns.USER_ID: contents.users.ids}).write_parquet(temporary / USERS)
        contents.catalogue.write_parquet(temporary / CATALOGUE)
        _save(
            temporary / HISTORIES,
            {name: array for name, array in events.items() if array is not None},
        )
        save_index(contents.index, temporary, contents.index_choice)
        if isinstance(contents.reranker, Blend):
            _save(temporary / BLEND, contents.reranker.to_arrays())
        elif contents.reranker is not None:
            _save(temporary / RERANKER, vars(contents.reranker))
        if contents.new_items is not None:
            _save_new_items(temporary, contents.new_items)
        if peers:
            _save(temporary / PEERS, to_arrays(peers))
        return write_manifest(temporary, contents.info, contents.item_vectors.shape[1])


def load_bundle(folder: Path) -> Bundle:
    """Read a bundle, after every file's size and sha256 were found right.

    Raises
    ------
    ArtefactError
        Naming the file that is missing, truncated, corrupt, from another bundle, of another
        schema version, or does not fit the others.
    """
    folder = Path(folder)
    manifest = verify(folder, REQUIRED)
    with _reading(folder / USER_TABLES) as path:
        tables = read_arrays(path)
        user_table = tables["user_table"]
    with _reading(folder / USER_FEATURES) as path:
        user_features = UserFeatures.from_arrays(read_arrays(path))
    with _reading(folder / ITEM_VECTORS) as path:
        item_vectors = read_arrays(path)["item_vectors"]
    with _reading(folder / USERS) as path:
        users = IdMap(pl.read_parquet(path)[columns.USER_ID].to_list(), "user")
    with _reading(folder / CATALOGUE) as path:
        catalogue = pl.read_parquet(path)
    with _reading(folder / HISTORIES) as path:
        histories = Histories(**read_arrays(path))
    reranker: RerankVectors | Blend | None = None
    if RERANKER in manifest.files:
        with _reading(folder / RERANKER) as path:
            reranker = RerankVectors(**read_arrays(path))
    elif BLEND in manifest.files:
        with _reading(folder / BLEND) as path:
            reranker = Blend.from_arrays(read_arrays(path))
    try:
        contents = BundleContents(
            info=manifest.info,
            user_tower=(folder / USER_TOWER).read_bytes(),
            user_table=user_table,
            history_table=tables.get("history_table"),
            factors=tables.get("factors"),
            user_features=user_features,
            item_vectors=item_vectors,
            users=users,
            catalogue=catalogue,
            histories=histories,
            index=load_index(folder),
            index_choice=load_choice(folder),
            reranker=reranker,
            new_items=_load_new_items(folder, manifest),
        )
    except InputError as error:
        raise ArtefactError(f"{folder} does not fit together: {error}") from error
    return Bundle(folder, manifest, contents)


def _save_new_items(folder: Path, new: NewItems) -> None:
    (folder / ITEM_TOWER).write_bytes(new.tower)
    arrays: dict[str, Array] = {
        "unknown_id": new.unknown_id,
        "releases": new.releases.known,
        **new.features.to_arrays(),
    }
    if new.history_projection is not None:
        arrays["history_projection"] = new.history_projection
    if new.vector_projection is not None:
        arrays["vector_projection"] = new.vector_projection
    text: dict[str, str | bool | int | float] = {
        "fields": new.text_fields,
        "history_is_vector": new.history_is_vector,
        "vector_scale": new.vector_scale,
    }
    if new.bars is not None:
        arrays |= {"bar_users": new.bars.users, "bars": new.bars.bars}
        text |= {"bar_items": new.bars.items, "exposure": new.bars.share}
    if new.text is not None:
        _save(folder / ITEM_TEXT, {"text": new.text.astype(np.float16)})
    if new.text_model is not None:
        (folder / TEXT_MODEL).write_bytes(new.text_model.onnx)
        (folder / TEXT_TOKENIZER).write_bytes(new.text_model.tokenizer)
        text["model"] = new.text_model.name
    arrays["text"] = np.frombuffer(json.dumps(text).encode(), dtype=np.uint8)
    _save(folder / ITEM_ENCODER, arrays)


def _load_new_items(folder: Path, manifest: Manifest) -> NewItems | None:
    if ITEM_TOWER not in manifest.files:
        return None
    with _reading(folder / ITEM_ENCODER) as path:
        arrays = read_arrays(path)
        about = json.loads(arrays["text"].tobytes())
        features = ItemFeatures.from_arrays(arrays)
        unknown_id = arrays["unknown_id"]
        releases = ReleaseOrder(arrays["releases"])
        bars = None
        if "bars" in arrays:
            bars = ListBars(
                arrays["bar_users"], arrays["bars"], about["bar_items"], about["exposure"]
            )
    text = None
    if ITEM_TEXT in manifest.files:
        with _reading(folder / ITEM_TEXT) as path:
            text = read_arrays(path, np.float32)["text"]
    model = None
    if "model" in about:
        with _reading(folder / TEXT_MODEL) as path:
            model = TextModel(
                about["model"], path.read_bytes(), (folder / TEXT_TOKENIZER).read_bytes()
            )
    return NewItems(
        tower=(folder / ITEM_TOWER).read_bytes(),
        unknown_id=unknown_id,
        features=features,
        releases=releases,
        text_fields=about["fields"],
        history_projection=arrays.get("history_projection"),
        history_is_vector=about["history_is_vector"],
        vector_projection=arrays.get("vector_projection"),
        text=text,
        text_model=model,
        vector_scale=about.get("vector_scale", 1.0),
        bars=bars,
    )


def _save(path: Path, arrays: Mapping[str, Array]) -> None:
    # Not `save_file`, which makes files that only their owner may read.
    path.write_bytes(save({name: np.ascontiguousarray(array) for name, array in arrays.items()}))


@contextmanager
def _reading(path: Path) -> Iterator[Path]:
    """A file that matches its sha256 and still cannot be read was written wrong."""
    try:
        yield path
    except (OSError, SafetensorError, PolarsError, KeyError, TypeError, ValueError) as error:
        raise ArtefactError(f"{path} cannot be read ({error}); save the bundle again") from error
