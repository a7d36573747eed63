"""Bundle storage: saving, loading, checks and folder names. See ``docs/bundle.md``."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import polars as pl

from twotower.bundle.arrays import read_arrays, save_arrays
from twotower.bundle.blend import SIGNALS, Blend, with_all_signals
from twotower.bundle.checked import (
    FRACTIONS,
    TABLE,
    WHOLE,
    Layout,
    check_catalogue,
    check_ids,
    check_layout,
    check_places,
    check_rows,
    checked_arrays,
    reading,
)
from twotower.bundle.comparison_models import ComparisonModel, from_arrays, to_arrays
from twotower.bundle.contents import BundleContents
from twotower.bundle.manifest import SCHEMA_FILE, Manifest, verify, write_manifest
from twotower.bundle.new_item_files import load_new_items, save_new_items
from twotower.bundle.reranker import RerankVectors
from twotower.bundle.throttle import Pause, no_pause
from twotower.data import Histories, IdMap, columns
from twotower.data.atomic import atomic_folder
from twotower.errors import ArtefactError, InputError
from twotower.features import USER_FEATURES as USER_FEATURE_NAMES
from twotower.features import UserFeatures
from twotower.features.declared import NUM_CATEGORIES
from twotower.index import load_choice, load_index, save_index
from twotower.types import Array

if TYPE_CHECKING:
    from twotower.bundle.declared import DeclaredColumns

TOWERS: Final = "towers.safetensors"
USER_TOWER: Final = "user_tower.onnx"
USERTABLES: Final = "user_tables.safetensors"
USER_FEATURES: Final = "user_features.safetensors"
ITEM_VECTORS: Final = "item_vectors.safetensors"
USERS: Final = "users.parquet"
CATALOGUE: Final = "catalogue.parquet"
HISTORIES: Final = "histories.safetensors"
INDEX: Final = "index.json"
RERANKER: Final = "reranker.safetensors"
BLEND: Final = "blend.safetensors"
COMPARISON_MODELS: Final = "peers.safetensors"
REQUIRED: Final = (
    TOWERS, USER_TOWER, USERTABLES, USER_FEATURES, ITEM_VECTORS, USERS, CATALOGUE, HISTORIES,
    INDEX,
)  # fmt: skip

_EVENTS: Final = ("indptr", "items", "ratings", "timestamps", "weights", "kinds", "contexts")
"""Arrays of `Histories`, by their names in the file."""
_NAME: Final = re.compile(r"[A-Za-z0-9][\w.-]{0,99}")
_BOUNDS: Final[Layout] = (WHOLE, (None,))
_NUMBER: Final = f"{WHOLE} or {FRACTIONS}"
_USER_FEATURES: Final[dict[str, Layout]] = {
    "item_table": ("float32", (None, 4 + NUM_CATEGORIES)),
    "mean": ("float64", (len(USER_FEATURE_NAMES),)),
    "weight": ("float64", (len(USER_FEATURE_NAMES),)),
    "end": ("int64", (1,)),
}


@dataclass(frozen=True)
class Bundle:
    """A verified bundle: its folder, its manifest and the contents that serving reads."""

    folder: Path
    manifest: Manifest
    contents: BundleContents

    def weights(self) -> dict[str, Array]:
        """Trained weights of both towers, read (and verified) on each call."""
        self.manifest.check(self.folder, TOWERS)
        with reading(self.folder / TOWERS):
            return read_arrays(self.folder / TOWERS)

    def comparison_models(self) -> dict[str, ComparisonModel]:
        """Comparison models by name, read (and verified) on each call; may be empty."""
        if COMPARISON_MODELS not in self.manifest.files:
            return {}
        self.manifest.check(self.folder, COMPARISON_MODELS)
        with reading(self.folder / COMPARISON_MODELS):
            models = from_arrays(read_arrays(self.folder / COMPARISON_MODELS, finite=True))
            for name, model in models.items():
                model.check(name, len(self.contents.users), len(self.contents.items))
        return models


def save_bundle(
    folder: Path,
    contents: BundleContents,
    weights: Mapping[str, Array],
    comparison_models: Mapping[str, ComparisonModel] | None = None,
) -> Manifest:
    """Write a bundle to ``folder`` atomically, replacing an older one there.

    Parameters
    ----------
    weights
        Trained weights of both towers, by name, for further training.
    comparison_models
        Other models by name, for comparison in the demo; with the same rows as ``contents``.
    """
    tables = {"user_table": contents.user_table}
    if contents.history_table is not None:
        tables["history_table"] = contents.history_table
    if contents.factors is not None:
        tables["factors"] = contents.factors
    for name, model in (comparison_models or {}).items():
        model.check(name, len(contents.users), len(contents.items))
    log = contents.histories
    events = {name: array for name in _EVENTS if (array := getattr(log, name)) is not None}
    if contents.returned is not None:
        events["returned_indptr"] = contents.returned.indptr
        events["returned_items"] = contents.returned.items
    with atomic_folder(folder) as temporary:
        save_arrays(temporary / TOWERS, weights)
        (temporary / USER_TOWER).write_bytes(contents.user_tower)
        save_arrays(temporary / USERTABLES, tables)
        save_arrays(temporary / USER_FEATURES, contents.user_features.to_arrays())
        save_arrays(temporary / ITEM_VECTORS, {"item_vectors": contents.item_vectors})
        pl.DataFrame({columns.USER_ID: contents.users.ids}).write_parquet(temporary / USERS)
        contents.catalogue.write_parquet(temporary / CATALOGUE)
        save_arrays(temporary / HISTORIES, events)
        save_index(contents.index, temporary, contents.index_choice)
        if isinstance(contents.reranker, Blend):
            save_arrays(temporary / BLEND, contents.reranker.to_arrays())
        elif contents.reranker is not None:
            save_arrays(temporary / RERANKER, vars(contents.reranker))
        if contents.new_items is not None:
            save_new_items(temporary, contents.new_items)
        if contents.declared is not None:
            from twotower.bundle.declared import save_declared

            save_declared(temporary, contents.declared)
        if comparison_models:
            save_arrays(temporary / COMPARISON_MODELS, to_arrays(comparison_models))
        return write_manifest(temporary, contents.info, contents.item_vectors.shape[1])


def load_bundle(folder: Path, pause: Pause = no_pause) -> Bundle:
    """Read a bundle after verifying the size and sha256 of every file.

    ``pause`` is called every few milliseconds; pass a `Throttle` to load while serving requests.

    Raises
    ------
    ArtefactError
        Names the file that is missing, truncated, corrupt, from another bundle, of another
        schema version, or inconsistent with the others.
    """
    folder = Path(folder)
    manifest = verify(folder, REQUIRED, pause)
    with reading(folder / USERTABLES):
        tables = checked_arrays(
            folder / USERTABLES,
            {"user_table": TABLE},
            history_table=TABLE,
            factors=TABLE,
            pause=pause,
        )
    with reading(folder / USER_FEATURES):
        arrays = checked_arrays(folder / USER_FEATURES, _USER_FEATURES, pause=pause)
        user_features = UserFeatures.from_arrays(arrays)
    with reading(folder / ITEM_VECTORS):
        layout: dict[str, Layout] = {"item_vectors": ("float32", (None, manifest.embedding_dim))}
        item_vectors = checked_arrays(folder / ITEM_VECTORS, layout, pause=pause)["item_vectors"]
    with reading(folder / USERS):
        ids = pl.read_parquet(folder / USERS)[columns.USER_ID]
        check_ids(ids)
        users = IdMap(ids.to_list(), "user")
    with reading(folder / CATALOGUE):
        catalogue = pl.read_parquet(folder / CATALOGUE)
        check_catalogue(catalogue)
    with reading(folder / HISTORIES):
        arrays = read_arrays(folder / HISTORIES, finite=True, with_nan=("ratings",), pause=pause)
        events = arrays["items"].size
        check_layout(
            arrays,
            {"indptr": _BOUNDS, "items": (WHOLE, (events,))},
            ratings=(_NUMBER, (events,)),
            timestamps=(_NUMBER, (events,)),
            weights=(FRACTIONS, (events,)),
            kinds=("uint8", (events,)),
            contexts=(WHOLE, (events,)),
            returned_indptr=_BOUNDS,
            returned_items=(WHOLE, (None,)),
        )
        check_rows(arrays["indptr"], events)
        check_places(arrays["items"], catalogue.height, "items")
        found: dict[str, Any] = {name: arrays.get(name) for name in _EVENTS}
        histories = Histories(**found, rules=manifest.info.events)
        returned = _returned(arrays, catalogue.height)
    try:
        contents = BundleContents(
            info=manifest.info,
            user_tower=(folder / USER_TOWER).read_bytes(),
            user_table=tables["user_table"],
            history_table=tables.get("history_table"),
            factors=tables.get("factors"),
            user_features=user_features,
            item_vectors=item_vectors,
            users=users,
            catalogue=catalogue,
            histories=histories,
            index=load_index(folder),
            index_choice=load_choice(folder),
            reranker=_load_reranker(folder, manifest, catalogue.height, pause),
            new_items=load_new_items(folder, manifest, pause),
            declared=_load_declared(folder, manifest, pause),
            returned=returned,
        )
    except InputError as error:
        raise ArtefactError(f"{folder} does not fit together: {error}") from error
    return Bundle(folder, manifest, contents)


def _returned(arrays: Mapping[str, Array], items: int) -> Histories | None:
    """Items that users returned; None if the histories file has none."""
    if "returned_indptr" not in arrays or "returned_items" not in arrays:
        return None
    returned = arrays["returned_items"]
    check_rows(arrays["returned_indptr"], returned.size)
    check_places(returned, items, "returned_items")
    return Histories(arrays["returned_indptr"], returned)


def _load_declared(folder: Path, manifest: Manifest, pause: Pause) -> "DeclaredColumns | None":
    if SCHEMA_FILE not in manifest.files:
        return None
    from twotower.bundle.declared import load_declared  # 25 ms that few bundles need

    return load_declared(folder, manifest, pause)


def _load_reranker(
    folder: Path, manifest: Manifest, items: int, pause: Pause
) -> RerankVectors | Blend | None:
    if RERANKER in manifest.files:
        with reading(folder / RERANKER):
            layout = {"user_vectors": TABLE, "item_vectors": TABLE}
            return RerankVectors(**checked_arrays(folder / RERANKER, layout, pause=pause))
    if BLEND in manifest.files:
        with reading(folder / BLEND):
            arrays = with_all_signals(read_arrays(folder / BLEND, finite=True, pause=pause))
            near, after = arrays["neighbours"].size, arrays["transition_items"].size
            bands = arrays["short_lengths"].size
            check_layout(
                arrays,
                {
                    "weights": (FRACTIONS, (len(SIGNALS),)),
                    "short_lengths": (WHOLE, (bands,)),
                    "short_weights": (FRACTIONS, (bands, len(SIGNALS))),
                    "indptr": _BOUNDS,
                    "neighbours": (WHOLE, (near,)),
                    "similarity": (FRACTIONS, (near,)),
                    "transition_indptr": _BOUNDS,
                    "transition_items": (WHOLE, (after,)),
                    "transition_weights": (FRACTIONS, (after,)),
                    "text": TABLE,
                    "popularity": (FRACTIONS, (items,)),
                    "trend": (FRACTIONS, (items,)),
                },
            )
            check_rows(arrays["indptr"], near)
            check_rows(arrays["transition_indptr"], after)
            check_places(arrays["neighbours"], items, "neighbours")
            check_places(arrays["transition_items"], items, "transition_items")
            return Blend.from_arrays(arrays)
    return None


def bundle_folder(configured: Path, name: str | None) -> Path:
    """The folder ``name`` beside the configured one; the configured one if ``name`` is None.

    Raises
    ------
    InputError
        If the name could be a path.
    """
    if name is None:
        return configured
    if not _NAME.fullmatch(name):
        raise InputError(
            f"bundle must be the name of a folder beside the served one, got {name[:100]!r}",
            "use letters, digits, '.', '_' and '-'",
        )
    return configured.parent / name


def without_path(message: str, folder: Path) -> str:
    """An error message with the bundle's path shortened to the folder's name."""
    return message.replace(str(folder), folder.name)
