"""Declared columns of a bundle: schema, item values, encoders, encoded users, contexts."""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import numpy as np
import polars as pl

from twotower.bundle.arrays import save_arrays
from twotower.bundle.checked import TABLE, WHOLE, checked_arrays, reading
from twotower.bundle.manifest import SCHEMA_FILE, Manifest
from twotower.bundle.throttle import Pause, no_pause
from twotower.data.schema import DTYPES, Schema
from twotower.errors import InputError
from twotower.factors.attributes import AttributeRegression
from twotower.features.declared_columns import ColumnEncoders, Encoded
from twotower.types import IndexArray

ITEM_COLUMNS: Final = "item_columns.parquet"
USER_COLUMNS: Final = "user_columns.safetensors"
USER_VALUES: Final = "user_values.parquet"
CONTEXTS: Final = "contexts.parquet"


@dataclass(frozen=True)
class DeclaredColumns:
    """The declared columns of a data set, in the form that serving needs."""

    schema: Schema
    """The declaration."""
    items: pl.DataFrame
    """Row ``i`` holds the declared columns of item ``i``."""
    item_encoders: ColumnEncoders = field(default_factory=lambda: ColumnEncoders({}))
    user_encoders: ColumnEncoders = field(default_factory=lambda: ColumnEncoders({}))
    """Encoders of these columns for the towers; empty if the tower reads none."""
    users: Encoded | None = None
    """``(users + 1,)`` encoded rows, row 0 for a user with no known columns; None if the user
    tower reads no columns."""
    regression: AttributeRegression | None = None
    """Predicts the vector of a user without a history from their columns; None exactly where
    ``users`` is."""
    user_values: pl.DataFrame = field(default_factory=pl.DataFrame)
    """Row ``u`` holds the declared columns of user ``u``, for retraining."""
    context_encoders: ColumnEncoders = field(default_factory=lambda: ColumnEncoders({}))
    """Encoders of a request's context; empty if the user tower reads none."""
    contexts: pl.DataFrame = field(default_factory=pl.DataFrame)
    """The distinct rows of the log's declared columns, for retraining; `Histories.contexts` says
    which row an event has."""

    def __post_init__(self) -> None:
        for side, encoders in (
            ("items", self.item_encoders),
            ("users", self.user_encoders),
            ("events", self.context_encoders),
        ):
            undeclared = encoders.encoders.keys() - getattr(self.schema, side).keys()
            if undeclared:
                raise InputError(f"encoders of {side} must be of declared columns: {undeclared}")
        for side, table in (
            ("items", self.items),
            ("users", self.user_values),
            ("events", self.contexts),
        ):
            declared = getattr(self.schema, side)
            dtypes = {name: DTYPES[column.kind] for name, column in declared.items()}
            if dict(table.schema) != dtypes:
                raise InputError(f"{side} must have the declared columns {dtypes}")
        if len({bool(self.user_encoders), self.users is not None, self.regression is not None}) > 1:
            raise InputError("users and regression must be there exactly with encoders of users")

    def check(self, users: int, items: int, contexts: IndexArray | None) -> None:
        """`InputError` unless every user, item and event context has a row."""
        if self.schema.events:
            rows = self.contexts.height
            if (
                contexts is None
                or not 0 <= contexts.min(initial=0) <= contexts.max(initial=-1) < rows
            ):
                raise InputError(f"every event must name one of the {rows} contexts")
        if self.schema.items and self.items.height != items:
            raise InputError(f"item columns must have {items} rows, got {self.items.height}")
        if self.schema.users and self.user_values.height != users:
            raise InputError(f"user values must have {users} rows, got {self.user_values.height}")
        if self.users is not None and len(self.users.codes) != users + 1:
            raise InputError(
                f"user columns must have {users + 1} rows, got {len(self.users.codes)}"
            )


def save_declared(folder: Path, declared: DeclaredColumns) -> None:
    """Write the declared columns into a bundle's folder."""
    about = {
        "schema": declared.schema.model_dump(mode="json", exclude_unset=True),
        "items": json.loads(declared.item_encoders.to_json()),
        "users": json.loads(declared.user_encoders.to_json()),
    }
    if declared.schema.events:
        about["events"] = json.loads(declared.context_encoders.to_json())
        declared.contexts.write_parquet(folder / CONTEXTS)
    (folder / SCHEMA_FILE).write_text(json.dumps(about))
    if declared.schema.items:
        declared.items.write_parquet(folder / ITEM_COLUMNS)
    if declared.schema.users:
        declared.user_values.write_parquet(folder / USER_VALUES)
    if declared.users is not None:
        regression = vars(declared.regression)
        arrays = {f"regression_{name}": array for name, array in regression.items()}
        save_arrays(folder / USER_COLUMNS, declared.users._asdict() | arrays)


def load_declared(folder: Path, manifest: Manifest, pause: Pause = no_pause) -> DeclaredColumns:
    """Read what `save_declared` wrote."""
    with reading(folder / SCHEMA_FILE):
        about = json.loads((folder / SCHEMA_FILE).read_text())
        schema = Schema.model_validate(about["schema"])
        encoders = {
            side: ColumnEncoders.from_json(json.dumps(about.get(side, {})))
            for side in ("items", "users", "events")
        }
    tables = {ITEM_COLUMNS: pl.DataFrame(), USER_VALUES: pl.DataFrame(), CONTEXTS: pl.DataFrame()}
    declared = {ITEM_COLUMNS: schema.items, USER_VALUES: schema.users, CONTEXTS: schema.events}
    for name, columns in declared.items():
        if columns:
            with reading(folder / name):
                manifest.entry(folder, name)
                tables[name] = pl.read_parquet(folder / name)
    users = regression = None
    if encoders["users"]:
        with reading(folder / USER_COLUMNS):
            manifest.entry(folder, USER_COLUMNS)
            layout = {"codes": (WHOLE, (None, None)), "weights": TABLE, "dense": TABLE}
            layout |= {"regression_table": TABLE, "regression_dense": TABLE}
            arrays = checked_arrays(folder / USER_COLUMNS, layout, pause=pause)
            regression = AttributeRegression(
                arrays.pop("regression_table"), arrays.pop("regression_dense")
            )
            users = Encoded(**arrays)
            shape = (encoders["users"].rows, users.dense.shape[1] + 1)
            if (len(regression.table), len(regression.dense)) != shape:
                raise InputError(f"the regression must have rows for {shape}")
            if not 0 <= users.codes.min() <= users.codes.max() < encoders["users"].rows:
                raise InputError("codes lie outside of the table of values")
            if len({len(array) for array in users}) > 1:
                raise InputError("its arrays differ in length")
            users = users._replace(codes=users.codes.astype(np.int64))
    return DeclaredColumns(
        schema, tables[ITEM_COLUMNS], encoders["items"], encoders["users"], users,
        regression, tables[USER_VALUES], encoders["events"], tables[CONTEXTS],
    )  # fmt: skip
