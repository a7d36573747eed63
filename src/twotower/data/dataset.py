"""`Dataset`: the frozen result of `prepare`, as Parquet files plus a manifest."""

import hashlib
import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import IntEnum
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Self

import numpy as np
import polars as pl

from twotower.data import columns
from twotower.data.atomic import atomic_folder
from twotower.data.events import EventRules
from twotower.data.fingerprint import value_fingerprint
from twotower.data.folders import kind_of, why_not
from twotower.data.histories import Histories, Queries
from twotower.data.ids import IdMap
from twotower.data.schema import Schema
from twotower.errors import ArtefactError, InputError
from twotower.types import Array, IndexArray

if TYPE_CHECKING:
    from twotower.data.readers import ColumnMapping, ReadOptions
    from twotower.data.settings import PrepareSettings

RETURNED: Final = "returned.parquet"
"""File of `Dataset.returned`."""
SCHEMA_VERSION = 2
"""2: the fingerprint is over values. Version 1, still readable, used polars' JSON."""

_ITEM_TABLE: Final = "items.parquet"
_CONTEXT_TABLE: Final = "contexts.parquet"
_ARRAYS: Final = {
    columns.RATING: "ratings", columns.TIMESTAMP: "timestamps", columns.WEIGHT: "weights",
    columns.KIND: "kinds", columns.CONTEXT: "contexts",
}  # fmt: skip
"""Column of ``interactions.parquet`` → the field of `Histories`, which may be None."""

_IN_ORDER: Final = 0.9
"""Minimum share of users with held-out events in time order for a split to count as by time."""


class Part(IntEnum):
    """Split part of an interaction."""

    TRAIN = 0
    VALIDATION = 1
    TEST = 2


@dataclass(frozen=True)
class Dataset:
    """Interactions, catalogue, id maps and split. Row ``i`` of the catalogue is item ``i``.

    Attributes
    ----------
    name
        Short name, as used in results files.
    users, items
        Id maps; every catalogue item has an index, with or without interactions.
    catalogue
        One row per item, columns `twotower.data.columns.CATALOGUE`, and those of
        `CATALOGUE_EXTRA` that the source has.
    interactions
        Every kept interaction, one row per user, oldest first.
    split
        ``(events,)`` uint8, a `Part` for each interaction.
    summary
        Preparation record: counts read, rejected (by reason), filtered, kept; the settings.
    user_table
        Users table, row ``u`` for user ``u``, with ``user_id`` and then the columns of its file;
        None if there was no such file. Declared columns have the types of their kinds.
    schema
        Declared columns of items, users and events.
    item_table
        Declared item columns, row ``i`` for item ``i``; None without any.
    context_table
        Distinct combinations of the declared log columns; `Histories.contexts` gives the row of
        each event. None without any.
    returned
        One row per user: items whose newest event is negative, such as a return; they are never
        recommended to that user. None if the log has no such events.
    """

    name: str
    users: IdMap
    items: IdMap
    catalogue: pl.DataFrame
    interactions: Histories
    split: Array
    summary: Mapping[str, Any] = field(default_factory=dict)
    user_table: pl.DataFrame | None = None
    schema: Schema = field(default_factory=Schema)
    item_table: pl.DataFrame | None = None
    returned: Histories | None = None
    context_table: pl.DataFrame | None = None

    def __post_init__(self) -> None:
        expected = (len(self.users), len(self.items), len(self.interactions.items))
        got = (len(self.interactions), self.catalogue.height, len(self.split))
        if self.user_table is not None and self.user_table.height != len(self.users):
            raise InputError(
                f"user_table must have a row for each of {len(self.users):,} users, "
                f"got {self.user_table.height:,}"
            )
        for side, table in (("items", self.item_table), ("users", self.user_table)):
            declared, count = getattr(self.schema, side), len(getattr(self, side))
            if declared and (table is None or table.height != count):
                raise InputError(
                    f"the schema declares columns of {side}, whose table must have "
                    f"{count:,} rows, got {'none' if table is None else f'{table.height:,}'}"
                )
        if self.schema.events:
            contexts, table = self.interactions.contexts, self.context_table
            rows = 0 if table is None else table.height
            if (
                contexts is None
                or not 0 <= contexts.min(initial=0) <= contexts.max(initial=0) < rows
            ):
                raise InputError(
                    "the schema declares columns of events, so that every interaction must name a "
                    f"row of context_table, which has {rows:,} rows"
                )
        if expected != got:
            raise InputError(
                f"users, items and interactions must agree: id maps and log have {expected}, "
                f"histories, catalogue and split have {got}"
            )

    @cached_property
    def in_order(self) -> bool:
        """Whether held-out interactions come after the training ones for 9 in 10 users.

        False for a random split, such as of a log without times: the task is then to find any
        item, not the next one.
        """
        log, parts = self.interactions, self.split.astype(np.int64)
        back = np.flatnonzero((np.diff(parts) < 0) & (log.rows[1:] == log.rows[:-1]))
        asked = len(np.unique(log.rows[parts > Part.TRAIN]))
        return len(np.unique(log.rows[back])) <= (1 - _IN_ORDER) * asked

    @cached_property
    def has_repeats(self) -> bool:
        """Whether any user has seen an item more than once, which happens if repeats were kept.

        Targets may then be in the history, so evaluation and re-ranking do not mask the history.
        """
        log = self.interactions.seen
        pairs = np.sort(log.rows * max(len(self.items), 1) + log.items)
        return bool((pairs[1:] == pairs[:-1]).any())

    @classmethod
    def from_frames(
        cls,
        interactions: Any,
        items: Any = None,
        users: Any = None,
        columns: "ColumnMapping | Mapping[str, str] | Sequence[str] | None" = None,
        *,
        name: str | None = None,
        schema: "Schema | Mapping[str, Any] | None" = None,
        settings: "PrepareSettings | Mapping[str, Any] | None" = None,
        options: "ReadOptions | Mapping[str, Any] | None" = None,
        events: "EventRules | Mapping[str, Any] | None" = None,
    ) -> "Dataset":
        """Prepare in-memory tables like files.

        Parameters
        ----------
        interactions
            The log: a polars, pandas or Arrow table or any other that narwhals supports, a NumPy
            array, a dict of columns, or a list of rows.
        items
            The catalogue, in any of these forms, or None.
        users
            The users table, or None.
        columns
            Column names, as ``{"user": "customer", "time": "at"}``; columns left out are
            recognised by common names. A list names, in order, the columns of an array, of rows or
            of a DataFrame whose columns are only numbered.
        name
            Name of the data set.
        schema
            Declared columns of items, users and the log, and their kinds: ``{"items": {"brand":
            "category"}, "users": {"age": "number"}, "events": {"device": "category"}}``.
        settings
            What to keep and how to split: ``{"k_core": 0, "split": "random"}``.
        options
            How values are read: ``{"rating_scale": (1, 10), "time_unit": "s"}``.
        events
            Weights of event kinds: ``{"weights": {"view": 0.2, "buy": 1}, "target": "buy"}``.

        Raises
        ------
        InputError
            If it is not a table, a column cannot be determined, or nothing usable is left.

        Examples
        --------
        >>> log = {"user": list("aaab"), "item": list("xyzx"), "time": [1, 2, 3, 1]}
        >>> dataset = Dataset.from_frames(log, settings={"k_core": 0})
        >>> len(dataset.users), len(dataset.items)
        (2, 3)
        """
        from twotower.data.declaration import declared
        from twotower.data.frames import as_frame
        from twotower.data.prepare import prepare

        values: dict[str, Any] = {"prepare": settings, "read": options}
        values |= {"schema": schema, "events": events}
        if isinstance(columns, Sequence) and not isinstance(columns, str):
            interactions = as_frame(interactions, "interactions", columns)
        elif isinstance(columns, Mapping):  # numbered columns have their numbers as names
            values["columns"] = {
                key: str(name) if isinstance(name, int) else name for key, name in columns.items()
            }
        else:
            values["columns"] = columns
        given = {key: value for key, value in values.items() if value is not None}
        return prepare(
            interactions,
            name=name,
            catalogue=items,
            users=users,
            declaration=declared(given, "from_frames"),
        )

    def has(self, part: Part) -> bool:
        """Whether any interaction is of the part."""
        return bool((self.split == part).any())

    def part(self, *parts: Part) -> Histories:
        """Histories of the given parts only; one row per user, possibly empty."""
        return self.interactions.keep(np.isin(self.split, [int(part) for part in parts]))

    @property
    def train(self) -> Histories:
        """The training part: the only one on which models, features and graphs may be fitted."""
        return self.part(Part.TRAIN)

    def with_all_in_train(self) -> "Dataset":
        """The data set with every interaction in the training part, for refitting a model.

        Nothing is held out, so it cannot be used for evaluation.
        """
        return replace(self, split=np.full_like(self.split, Part.TRAIN))

    @cached_property
    def request_contexts(self) -> pl.DataFrame | None:
        """The table that `Queries.contexts` index, without a tower's row 0 for unknown context.

        The rows of `context_table`; if columns derive from the time, followed by the same rows
        without these columns, for requests without a time.
        """
        table, derived = self.context_table, self.schema.time_columns
        if table is None or not derived:
            return table
        without = [pl.lit(None, table.schema[name]).alias(name) for name in derived]
        return pl.concat([table, table.with_columns(without)])

    def contexts_of(self, targets: Histories, *, timed: bool) -> IndexArray | None:
        """``(rows,)`` rows of `request_contexts`: the context of the first target of each row.

        ``timed`` says whether the request time, and so the columns derived from it, are given.
        None without declared context columns.
        """
        contexts = targets.first_contexts
        if contexts is None or timed or not self.schema.time_columns:
            return contexts
        assert self.context_table is not None
        return contexts + np.int32(self.context_table.height)

    def held_out(self, part: Part, timed: bool = False) -> tuple[Queries, Histories]:
        """Queries and targets of an evaluation part.

        Parameters
        ----------
        timed
            Whether queries carry the time of the first target, like service requests, whose time
            is known; without it, columns derived from the time are missing in their context. Most
            published results do not use it. Logs without timestamps have none.

        Returns
        -------
        queries
            One per user with a held-out item. Histories hold every earlier part: train for
            validation, train + validation for test. With declared context columns, the context is
            that of the first target, which is known at request time.
        targets
            One row per query: the held-out items; with target kinds, only events of those kinds.
        """
        if part is Part.TRAIN:
            raise InputError("part must be VALIDATION or TEST, got TRAIN")
        targets = self.part(part)
        to_find = targets.to_find
        if to_find is not None:
            targets = targets.keep(to_find)
        users = np.flatnonzero(targets.lengths)
        earlier = self.part(*(p for p in Part if p < part))
        times = None
        if timed and targets.timestamps is not None:
            times = targets.timestamps[targets.indptr[:-1][users]]
        wanted = targets.select(users)
        contexts = self.contexts_of(wanted, timed=timed)
        queries = Queries(users.astype(np.int32), earlier.select(users), times, contexts)
        return queries, wanted

    @cached_property
    def fingerprint(self) -> str:
        """sha256 over ids, interactions, split and catalogue: equal data, equal fingerprint.

        A data set saved by an earlier release keeps the fingerprint recorded by its models.
        """
        return value_fingerprint(self)

    def save(self, folder: Path, extra: Sequence[Path] = ()) -> Path:
        """Write Parquet files and `manifest.json` to ``folder``, all or nothing.

        An existing folder is replaced. ``extra`` are files to copy into it, such as the rejects.
        """
        log = self.interactions
        table = _of_users(log, part=np.asarray(self.split, dtype=np.uint8))
        for name, field_name in _ARRAYS.items():
            values = getattr(log, field_name)
            if values is not None:
                table = table.with_columns(pl.Series(name, values, nan_to_null=True))
        users = self.user_table
        if users is None:
            users = pl.DataFrame({columns.USER_ID: self.users.ids})
        tables = {
            "interactions.parquet": table,
            "catalogue.parquet": self.catalogue,
            "users.parquet": users,
            _ITEM_TABLE: self.item_table,
            _CONTEXT_TABLE: self.context_table,
            RETURNED: None if self.returned is None else _of_users(self.returned),
        }
        manifest = {
            "schema_version": SCHEMA_VERSION,
            "name": self.name,
            "fingerprint": value_fingerprint(self),
            "users": len(self.users),
            "items": len(self.items),
            "interactions": len(log.items),
            "schema": self.schema.model_dump(mode="json", exclude_unset=True),
            "summary": dict(self.summary),
        }
        if log.rules is not None:
            manifest["events"] = log.rules.model_dump(mode="json")
        with atomic_folder(folder) as temporary:
            for name, content in tables.items():
                if content is not None:
                    content.write_parquet(temporary / name)
            (temporary / "manifest.json").write_text(json.dumps(manifest, indent=2))
            for path in extra:
                shutil.copyfile(path, temporary / path.name)
        return folder

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read what `save` wrote.

        Raises
        ------
        ArtefactError
            If a file is missing, broken, of another schema, or does not match the fingerprint.
        """
        folder = Path(folder)
        if kind_of(folder) not in (None, "prepared data set"):
            raise ArtefactError(why_not(folder, "prepared data set", ""))
        try:
            manifest = json.loads((folder / "manifest.json").read_text())
            version = manifest["schema_version"]
            if version not in (1, SCHEMA_VERSION):
                raise ArtefactError(
                    f"{folder / 'manifest.json'} has schema version {version}, this release "
                    f"reads 1 and {SCHEMA_VERSION}; run 'twotower prepare' again"
                )
            table = pl.read_parquet(folder / "interactions.parquet")
            catalogue = pl.read_parquet(folder / "catalogue.parquet")
            user_table = pl.read_parquet(folder / "users.parquet")
            users = user_table[columns.USER_ID]
            schema = Schema.model_validate(manifest.get("schema", {}))
            item_table = pl.read_parquet(folder / _ITEM_TABLE) if schema.items else None
            contexts = pl.read_parquet(folder / _CONTEXT_TABLE) if schema.events else None
            back = folder / RETURNED
            taken = pl.read_parquet(back) if back.exists() else None
            declared = manifest.get("events")
            rules = None if declared is None else EventRules.model_validate(declared)
        except (OSError, KeyError, ValueError, pl.exceptions.PolarsError) as error:
            raise ArtefactError(why_not(folder, "prepared data set", error)) from error
        items = table["item_index"].to_numpy()
        arrays = {
            field_name: table[name].to_numpy()
            for name, field_name in _ARRAYS.items()
            if name in table.columns
        }
        rows = table["user_index"].to_numpy()
        log = replace(Histories.of_users(rows, items, len(users)), rules=rules, **arrays)
        returned = None
        if taken is not None:
            rows, items = taken["user_index"].to_numpy(), taken["item_index"].to_numpy()
            returned = Histories.of_users(rows, items, len(users))
        dataset = cls(
            manifest["name"],
            IdMap(users.to_list(), "user"),
            IdMap(catalogue[columns.ITEM_ID].to_list(), "item"),
            catalogue,
            log,
            table["part"].to_numpy(),
            manifest["summary"],
            user_table if user_table.width > 1 else None,
            schema,
            item_table,
            returned,
            contexts,
        )
        if version == 1:
            # Trained models record it, so it stays the fingerprint of this data set.
            dataset.__dict__["fingerprint"] = _first_fingerprint(dataset)
        if dataset.fingerprint != manifest["fingerprint"]:
            raise ArtefactError(
                f"{folder} does not match its fingerprint: a file was changed or mixed with "
                "another data set"
                + (", or it was saved by a release with another polars" if version == 1 else "")
                + "; run 'twotower prepare' again"
            )
        if log.timestamps is None or log.timestamps.dtype.kind != "f":
            return dataset
        # Earlier releases kept times as float64, over which the fingerprint was taken.
        whole = replace(
            dataset, interactions=replace(log, timestamps=log.timestamps.astype(np.int64))
        )
        whole.__dict__["fingerprint"] = dataset.fingerprint
        return whole


def _of_users(histories: Histories, **more: Array) -> pl.DataFrame:
    """A table with the user and item of each event, and ``more`` columns."""
    users = histories.rows.astype(np.int32)
    return pl.DataFrame({"user_index": users, "item_index": histories.items, **more})


def _first_fingerprint(dataset: Dataset) -> str:
    """The fingerprint of schema version 1."""
    digest = hashlib.sha256()
    for ids in (dataset.users.ids, dataset.items.ids):
        digest.update("\0".join(ids).encode())
    log = dataset.interactions
    for array in (log.indptr, log.items, log.ratings, log.timestamps, dataset.split):
        digest.update(b"none" if array is None else np.ascontiguousarray(array).tobytes())
    digest.update(dataset.catalogue.write_json().encode())
    return digest.hexdigest()
