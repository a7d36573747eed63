"""Fingerprint of a data set: it depends on values, not on their memory layout."""

import hashlib
import json
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from twotower.data import Dataset, Histories, IdMap
from twotower.errors import ArtefactError, InputError

# Of `tiny`, for good: models name it.
TINY = "fe3100616ebe4aacdfa72e8a561bfb22f4e44e847a58cc2641a89516eaa7564a"


@pytest.fixture
def tiny() -> Dataset:
    """Two users, three items; text beyond ASCII, nulls, an empty column, a list, -0.0."""
    catalogue = pl.DataFrame(
        {
            "item_id": ["a", "b", "ü"],
            "title": ["One", None, "Drei 🐉"],
            "price": pl.Series([1.5, None, -0.0], dtype=pl.Float32),
            "rating_count": [3, 0, None],
            "image": pl.Series([None, None, None], dtype=pl.String),
            "sold": [True, None, False],
            "since": [date(2020, 1, 2), None, date(1969, 12, 31)],
            "tags": [["x", None], [], None],
        }
    )
    log = Histories(
        np.array([0, 2, 3]),
        np.array([0, 2, 1], dtype=np.int32),
        np.array([5, 1, 3], dtype=np.float32),
        np.array([10, 20, 15]),
    )
    users, items = IdMap(["u", "v"], "user"), IdMap(["a", "b", "ü"], "item")
    return Dataset("tiny", users, items, catalogue, log, np.array([0, 1, 0], dtype=np.uint8))


def test_it_is_what_it_was(tiny: Dataset) -> None:
    assert tiny.fingerprint == TINY


def chunked(frame: pl.DataFrame) -> pl.DataFrame:
    return pl.concat([frame[row : row + 1] for row in range(frame.height)], rechunk=False)


def other_types(frame: pl.DataFrame) -> pl.DataFrame:
    return frame.with_columns(
        pl.col("title").cast(pl.Categorical),
        pl.col("price").cast(pl.Float64) + 0.0,
        pl.col("rating_count").cast(pl.Int32),
        pl.col("since").cast(pl.Datetime("ms")),
        image=pl.lit(None),
    )


@pytest.mark.parametrize("change", [chunked, other_types])
def test_chunks_and_widths_make_no_difference(tiny: Dataset, change: Any) -> None:
    other = replace(tiny, catalogue=change(tiny.catalogue))
    assert other.fingerprint == TINY


def test_row_groups_make_no_difference(tiny: Dataset, tmp_path: Path) -> None:
    folder = tiny.save(tmp_path / "tiny")
    for name in ("catalogue", "interactions", "users"):
        path = folder / f"{name}.parquet"
        pl.read_parquet(path).write_parquet(path, row_group_size=1, compression="uncompressed")
    assert Dataset.load(folder).fingerprint == TINY


def test_blocks_make_no_difference(tiny: Dataset) -> None:
    frame = pl.concat([tiny.catalogue] * 3)
    items = IdMap([f"i{row}" for row in range(frame.height)])
    whole = replace(tiny, items=items, catalogue=frame)
    again = replace(whole, catalogue=chunked(frame))
    assert whole.fingerprint == again.fingerprint


@pytest.mark.parametrize(
    ("column", "values"),
    [
        ("title", ["One", "", "Drei 🐉"]),  # not null
        ("title", ["OneD", None, "rei 🐉"]),
        ("price", [1.5, 0.0, 0.0]),
        ("price", [1.5, None, float("nan")]),
        ("rating_count", [3, None, 0]),
        ("image", [None, None, ""]),
        ("sold", [True, False, None]),
        ("tags", [["x"], [], None]),
        ("tags", [["x", None], None, []]),
    ],
)
def test_every_value_makes_a_difference(tiny: Dataset, column: str, values: list[Any]) -> None:
    kind = tiny.catalogue.schema[column]
    changed = tiny.catalogue.with_columns(pl.Series(column, values, dtype=kind))
    assert replace(tiny, catalogue=changed).fingerprint != TINY


def test_every_part_makes_a_difference(tiny: Dataset) -> None:
    log = tiny.interactions
    others = [
        replace(tiny, users=IdMap(["uv", "w"], "user")),
        replace(tiny, items=IdMap(["a", "b", "c"], "item")),
        replace(tiny, split=np.array([0, 1, 2], dtype=np.uint8)),
        replace(tiny, catalogue=tiny.catalogue.rename({"title": "name"})),
        *(
            replace(tiny, interactions=replace(log, **{name: values}))
            for name, values in (
                ("indptr", np.array([0, 1, 3])),
                ("items", np.array([0, 2, 0], dtype=np.int32)),
                ("ratings", None),
                ("timestamps", log.timestamps + 1),
            )
        ),
    ]
    found = [TINY, *(dataset.fingerprint for dataset in others)]
    assert len(set(found)) == len(found), found


def test_a_type_without_canonical_bytes_is_refused(tiny: Dataset) -> None:
    odd = tiny.catalogue.with_columns(pair=pl.struct("title", "price"))
    with pytest.raises(InputError, match=r"catalogue column 'pair' has the type Struct.*make it"):
        _ = replace(tiny, catalogue=odd).fingerprint


def first_release(dataset: Dataset, folder: Path) -> str:
    """Save as schema version 1 did; the fingerprint that it had."""
    dataset.save(folder)
    log, digest = dataset.interactions, hashlib.sha256()
    for ids in (dataset.users.ids, dataset.items.ids):
        digest.update("\0".join(ids).encode())
    for array in (log.indptr, log.items, log.ratings, log.timestamps, dataset.split):
        digest.update(b"none" if array is None else array.tobytes())
    digest.update(dataset.catalogue.write_json().encode())
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest |= {"schema_version": 1, "fingerprint": digest.hexdigest()}
    (folder / "manifest.json").write_text(json.dumps(manifest))
    return digest.hexdigest()


def test_what_an_earlier_release_saved_keeps_the_fingerprint_that_models_know(
    blocks: Dataset, tmp_path: Path
) -> None:
    known = first_release(blocks, tmp_path / "old")
    loaded = Dataset.load(tmp_path / "old")
    assert loaded.fingerprint == known != blocks.fingerprint
    loaded.save(tmp_path / "new")
    assert Dataset.load(tmp_path / "new").fingerprint == blocks.fingerprint


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"schema_version": 1, "fingerprint": "0"}, "or it was saved by a release with another"),
        ({"fingerprint": "0"}, "a file was changed or mixed with another data set"),
        ({"schema_version": 3}, "has schema version 3, this release reads 1 and 2"),
    ],
)
def test_what_cannot_be_trusted_names_the_command(
    tiny: Dataset, tmp_path: Path, changes: dict[str, Any], why: str
) -> None:
    tiny.save(tmp_path / "tiny")
    path = tmp_path / "tiny" / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    with pytest.raises(ArtefactError, match=rf"{why}.*; run 'twotower prepare' again$"):
        Dataset.load(tmp_path / "tiny")
