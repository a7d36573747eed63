"""Data set preview before preparation: columns, examples and guesses."""

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

from twotower.data import columns
from twotower.data.beside import users_by_ids
from twotower.data.columns import folded
from twotower.data.declaration import Declaration
from twotower.data.guesses import (
    counts_interactions,
    guessed_columns,
    guessed_ids,
    guessed_items,
    guessed_kinds,
    guessed_pair,
    guessed_time,
)
from twotower.data.locate import Located, located
from twotower.data.readers.files import users_beside
from twotower.data.readers.mapping import LOG_FIELDS, LOG_NAMES, items_in_log
from twotower.data.readers.options import ReadOptions
from twotower.data.readers.source import CatalogueFile, LogFile, columns_of_lists
from twotower.data.readers.tables import column_names, sampled_values
from twotower.data.readers.times import DAY
from twotower.data.rejects import first_reject
from twotower.data.schema import CONTEXT_KINDS
from twotower.data.users import users_column
from twotower.errors import InputError

_ROWS: Final = 3
_SHOWN: Final = 40
_NO_FEATURES: Final = (
    columns.ITEM_ID, columns.USER_ID, columns.TITLE, columns.DESCRIPTION, columns.IMAGE,
    columns.AVERAGE_RATING, columns.RATING_COUNT,
)  # fmt: skip
"""Catalogue columns never guessed as features: ids, text and images are read anyway, and the last
two would leak."""
_WHY: Final = {
    "log": "",
    "join": ": the key is unique in its first rows",
    "explode": ": each element of its lists becomes a row",
}
"""Explanation after a guess in ``dataset.toml`` that is not a column."""
_ID_FIELDS: Final = ("user", "item")
_NO_CONTEXT: Final = frozenset(
    folded(name)
    for column in (columns.USER_ID, columns.ITEM_ID, columns.EVENT)
    for name in LOG_NAMES[column]
)
"""Common names of ids and event kinds, which are not request context."""


@dataclass(frozen=True)
class Inspection:
    """Preview of a data set."""

    described: Mapping[str, Any]
    """The preview as plain values: files, format, columns with examples, problems."""
    toml: str
    """The same as a ``dataset.toml`` to edit."""


def inspect(paths: Sequence[str | Path], declaration: Declaration) -> Inspection:
    """Preview a data set as `prepare` would read it, from the beginnings of its files.

    Columns that cannot be determined are not an error here; they are left to fill in in the
    ``dataset.toml``.

    Raises
    ------
    InputError
        If there is no log, or a file cannot be read.
    """
    with located(paths, declaration) as found:
        likely = found.likely_join
        if likely is None:
            return _inspected(found)
        join, problem = [likely.option], likely.error.on_command_line
        # In a folder, the log must be named unless the caller already did.
        is_said = found.declaration.log is not None or likely.log in map(Path, paths)
        named = {} if is_said else {"log": likely.log.relative_to(found.base).as_posix()}
    guess = Declaration.model_validate({**named, "read": {"join": join}})
    with located(paths, declaration.overridden_by(guess)) as found:
        return _inspected(found, {**named, "join": join}, problem)


def _inspected(
    found: Located, guessed: Mapping[str, Any] = MappingProxyType({}), problem: str | None = None
) -> Inspection:
    """The preview of located files; ``guessed`` is the guessed log and join, if any."""
    described: dict[str, Any] = {"name": found.name, "format": found.format}
    if problem is not None:
        described["problem"] = problem
    log = found.logs[0]
    present = [*column_names(log.path, found.declaration.read), *log.keys]
    described["log"] = {
        "files": [file.path.name for file in found.logs],
        "columns": present,
        "read": {},
        "examples": {},
    }
    missing = [] if found.format else _missing(found, present)
    try:
        source = found.source()
    except InputError as error:
        described["problem"] = error.on_command_line
        described["log"]["read"] = _known(found, present, missing)
        if found.catalogue is not None:
            described["catalogue"] = {
                "file": found.catalogue.name,
                "columns": column_names(found.catalogue, found.declaration.catalogue_options),
            }
    else:
        described["log"] |= _described(source.logs[0], described)
        if source.catalogue is not None:
            described["catalogue"] = _described(source.catalogue, described) | {
                "file": source.catalogue.path.name
            }
    users = found.users
    if users is None and found.declaration.users is None and found.base is not None:
        users = users_beside(found.base)
        if users is None and not found.format:
            users = users_by_ids([file.path for file in found.logs], found.declaration)
    if users is not None:
        described["users"] = {
            "file": users.name,
            "columns": column_names(users, found.declaration.read_users or ReadOptions()),
        }
    described["not_read"] = [path.name for path in found.beside if path != users]
    if not found.format:
        described["guesses"] = {**guessed, **_guesses(found, described, missing)}
        if not found.declaration.declared:
            schema = _guessed_schema(found, described, users)
            counts = [
                (side, name)
                for side in ("items", "users")
                for name, guess in schema.get(side, {}).items()
                if counts_interactions(name, guess)
            ]
            for side, name in counts:
                del schema[side][name]
            described["counts"] = [name for _, name in counts]
            described["schema"] = {side: guesses for side, guesses in schema.items() if guesses}
    return Inspection(described, _toml(found, described, missing, users))


def inspection_lines(found: Inspection) -> Iterator[str]:
    """The preview as lines of text."""
    described = found.described
    shown_format = f", format {described['format']}" if described["format"] else ""
    yield f"{described['name']}{shown_format}"
    log = described["log"]
    files = ", ".join(log["files"][:5]) + (
        f" and {len(log['files']) - 5} more" if len(log["files"]) > 5 else ""
    )
    yield f"log: {files}"
    yield from _column_lines(log)
    if "catalogue" in described:
        yield f"catalogue: {described['catalogue']['file']}"
        yield from _column_lines(described["catalogue"])
    else:
        yield "catalogue: none; pass --catalogue FILE"
    if "users" in described:
        users = described["users"]
        yield f"users: {users['file']}, with {', '.join(users['columns'])}"
    if described["not_read"]:
        yield f"not read: {', '.join(described['not_read'])}"
    guesses = described.get("guesses", {})
    if guesses:
        likely = ", ".join(
            f"{field}={column if isinstance(column, str) else ','.join(column)}"
            for field, column in guesses.items()
            if field != "kinds"
        )
        kinds = ", ".join(guesses.get("kinds", ()))
        yield f"guesses: {likely or 'none'}" + (f"; kinds of events: {kinds}" if kinds else "")
    for side, declared in described.get("schema", {}).items():
        kinds = ", ".join(f"{name} {column['kind']}" for name, column in declared.items())
        if side == "events":
            yield f"context of a request, where it is known by then: {kinds}"
        else:
            yield f"likely features of {side}: {kinds}"
    if "problem" in described:
        yield f"problem: {described['problem']}"
    yield ""
    yield from found.toml.splitlines()


def _column_lines(table: Mapping[str, Any]) -> Iterator[str]:
    for name, column in table.get("read", {}).items():
        examples = table["examples"].get(column)
        shown = "" if examples is None else ", without a value in the first rows"
        if examples:
            shown = f", such as {', '.join(examples)}"
        yield f"  {name}: {column}{shown}"
    ignored = table.get("ignored", [])
    if ignored:
        yield f"  ignored: {', '.join(ignored[:20])}"


def _described(file: LogFile | CatalogueFile, described: dict[str, Any]) -> dict[str, Any]:
    """Columns of a file with examples; a reading error is recorded as ``described["problem"]``."""
    chunk = None
    try:
        with closing(file.chunks()) as chunks:
            chunk = next(chunks, None)
    except InputError as error:
        described["problem"] = error.on_command_line
    raw: dict[str, list[str]] = {}
    with_hours = False
    if chunk is not None and 2 * len(chunk.rejects) > chunk.height:
        described.setdefault(
            "problem",
            f"{len(chunk.rejects):,} of the first {chunk.height:,} rows of {file.path} cannot be "
            f"used; the first is {first_reject(file.path, chunk.rejects, file.options)}",
        )
    if chunk is not None:
        if columns.TIMESTAMP in chunk.rows.columns:
            with_hours = bool((chunk.rows[columns.TIMESTAMP].drop_nulls() % DAY != 0).any())
        for name, column in file.found.read.items():
            if name in chunk.rows.columns:
                values = (_short(name, value) for value in chunk.rows[name].drop_nulls())
                raw[column] = [*islice(filter(None, values), _ROWS)]
    return {
        "read": file.found.read,
        "columns": list(file.found.present),
        "ignored": file.found.ignored,
        "examples": raw,
        **({"hours": True} if with_hours else {}),
    }


def _short(name: str, value: Any) -> str:
    if name == columns.TIMESTAMP:
        with suppress(ValueError, OverflowError, OSError):
            return f"{datetime.fromtimestamp(float(value) / 1000, UTC):%Y-%m-%d %H:%M:%S}"
        return str(value)
    return " ".join(str(value).split())[:_SHOWN]


def _missing(found: Located, present: Sequence[str]) -> list[str]:
    """Required mapping fields (user, item, time) that were not recognised."""
    missing = []
    for field in _ID_FIELDS:
        try:
            _canonical(found, present, [other for other in _ID_FIELDS if other != field])
        except InputError:
            missing.append(field)
    known = _canonical(found, present, _ID_FIELDS)
    if not {columns.TIMESTAMP, columns.ORDER} & set(known) and found.logs[0].part is None:
        missing.append("time")
    return missing


def _known(found: Located, present: Sequence[str], missing: Sequence[str]) -> dict[str, str]:
    """Recognised log columns although others are missing."""
    try:
        return _canonical(found, present, [field for field in _ID_FIELDS if field in missing])
    except InputError:
        return {}


def _canonical(found: Located, present: Sequence[str], fields: Iterable[str]) -> dict[str, str]:
    """Recognised log columns, assuming those of ``fields`` exist; `InputError` if others do not."""
    probe = {field: present[0] for field in fields if present}
    mapping = found.declaration.columns.model_copy(update=probe)
    known = mapping.log_columns(found.logs[0].path, present).canonical
    return {name: column for name, column in known.items() if LOG_FIELDS.get(name) not in probe}


def _guesses(
    found: Located, described: Mapping[str, Any], missing: Sequence[str]
) -> dict[str, Any]:
    """Likely columns among the unread ones, by mapping field."""
    guesses: dict[str, Any] = {}
    log, read = found.logs[0], described["log"]["read"]
    file_columns = [name for name in described["log"]["columns"] if name not in log.keys]
    ignored = set(described["log"].get("ignored", file_columns))
    others = [name for name in file_columns if name in ignored and name not in read.values()]
    values = sampled_values(log.path, others, file_columns, found.declaration.read)
    time = read.get(columns.TIMESTAMP)
    dated = values
    if time in file_columns:
        dated = values | sampled_values(log.path, [time], file_columns, found.declaration.read)
    if pair := guessed_pair(dated, time):
        guesses["time"] = list(pair)
        values = {name: texts for name, texts in values.items() if name not in pair}
    elif "time" in missing and (time := guessed_time(values)):
        guesses["time"] = time
        del values[time]
    said = dict.fromkeys(file.keys.get(columns.EVENT) for file in found.logs)  # KIND=PATH
    if None not in said:
        guesses["event"], guesses["kinds"] = columns.EVENT, list(said)
    elif columns.EVENT not in read and (kinds := guessed_kinds(values)):
        guesses["event"], guesses["kinds"] = kinds
        del values[kinds[0]]
    elif columns.EVENT in read:
        column = read[columns.EVENT]
        known = sampled_values(log.path, [column], file_columns, found.declaration.read)
        if kinds := guessed_kinds({columns.EVENT: known.get(column, [])}):
            guesses["kinds"] = kinds[1]
    if columns.ITEM_ID in read:
        candidates = [read[columns.ITEM_ID]]
    else:
        candidates = [name for name in values if "item" in missing]
    lists = columns_of_lists(log.path, candidates, file_columns, found.declaration.read)
    if lists:
        guesses["explode"] = lists[0]
        if "item" in missing:
            guesses["item"] = guesses["explode"]
            missing = [field for field in missing if field != "item"]
            del values[guesses["item"]]
    guesses |= guessed_ids(values, missing)
    items = described.get("catalogue", {})
    if found.catalogue is not None and "read" in items:
        unread = sampled_values(
            found.catalogue, items["ignored"], items["columns"], found.declaration.catalogue_options
        )
        guesses |= guessed_items(unread, items["read"])
    return guesses


def _guessed_schema(
    found: Located, described: Mapping[str, Any], users: Path | None
) -> dict[str, dict[str, Any]]:
    """Likely ``[schema]`` columns of items, users and the log (events), by side."""
    schema: dict[str, dict[str, Any]] = {}
    items = described.get("catalogue", {})
    if found.catalogue is not None and "read" in items:
        left_out = {items["read"].get(name) for name in _NO_FEATURES}
        names = [name for name in items["columns"] if name not in left_out]
        values = sampled_values(
            found.catalogue, names, items["columns"], found.declaration.catalogue_options
        )
        schema["items"] = guessed_columns(values)
    if users is not None:
        options = found.declaration.read_users or ReadOptions()
        present = described["users"]["columns"]
        log_user = described["log"]["read"].get(columns.USER_ID, columns.USER_ID)
        try:
            key = users_column(users, options, log_user)
        except InputError:
            key = present[0]
        names = [name for name in present if name != key]
        schema["users"] = guessed_columns(sampled_values(users, names, present, options))
    schema["events"] = _guessed_context(found, described)
    return schema


def _guessed_context(found: Located, described: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Likely context columns: log columns not read otherwise, of kinds a context can have."""
    log, keys = described["log"], found.logs[0].keys
    guessed = {
        name
        for guess in described["guesses"].values()
        for name in ([guess] if isinstance(guess, str) else guess)
    }
    ignored = log.get("ignored", [])
    left_out = guessed | {*items_in_log(ignored), *found.item_columns, *keys}
    names = [name for name in ignored if name not in left_out and folded(name) not in _NO_CONTEXT]
    present = [name for name in log["columns"] if name not in keys]
    values = sampled_values(found.logs[0].path, names, present, found.declaration.read)
    varying = {name: texts for name, texts in values.items() if len(set(texts)) > 1}
    context = {
        name: {"kind": guess["kind"]}
        for name, guess in guessed_columns(varying).items()
        if guess["kind"] in CONTEXT_KINDS
    }
    of_time = ("hour", "weekday") if log.get("hours") else ()
    return context | {name: {"kind": name} for name in of_time if name not in log["columns"]}


def _toml(
    found: Located, described: Mapping[str, Any], missing: Sequence[str], users: Path | None
) -> str:
    """A ``dataset.toml`` of declared and detected values, guesses, and lines to fill in."""
    declaration, guesses = found.declaration, described.get("guesses", {})
    lines = [f"# Columns of the log: {', '.join(described['log']['columns'])}"]
    if "catalogue" in described:
        lines.append(f"# Columns of the catalogue: {', '.join(described['catalogue']['columns'])}")
    values = declaration.model_dump(mode="json", by_alias=True, exclude_unset=True)
    values["name"] = found.name
    for field, path in (("catalogue", found.catalogue), ("users", users)):
        if path is not None and found.base is not None and path.is_relative_to(found.base):
            values[field] = path.relative_to(found.base).as_posix()
    if found.format:
        values["as"] = found.format
        for field in ("columns", "read", "read_catalogue", "read_users", "catalogue", "users"):
            values.pop(field, None)
        if values.get("prepare", {}).get("split", {}).get("kind") == "random":
            values.pop("prepare")
        return "\n".join(lines) + "\n" + Declaration.model_validate(values).to_toml()
    named = {
        LOG_FIELDS[name]: column
        for name, column in described["log"]["read"].items()
        if name in LOG_FIELDS
    }
    values["columns"] = {**named, **declaration.columns.model_dump(exclude_unset=True)}
    fields = {
        field: guess
        for field, guess in guesses.items()
        if field not in ("kinds", *_WHY)
        and (field not in values["columns"] or isinstance(guess, list))
    }
    values["columns"] |= fields
    if "explode" in guesses:
        exploded = [*(declaration.read.explode or ()), guesses["explode"]]
        values["read"] = {**values.get("read", {}), "explode": exploded}
    schema = dict(described.get("schema", {}))
    context = schema.pop("events", {})
    if schema:
        values["schema"] = schema
    text = Declaration.model_validate(values).to_toml().rstrip()
    for field, guess in fields.items():
        line = f"{field} = {json.dumps(guess, ensure_ascii=False)}"
        kinds = f": {', '.join(guesses['kinds'])}" if field == "event" else ""
        text = text.replace(line, f"{line}  # a guess{kinds}")
    for field, why in _WHY.items():
        if field in guesses:
            text = re.sub(rf"^({field} = .*)$", rf"\1  # a guess{why}", text, flags=re.MULTILINE)
    for field in missing:
        if field not in fields:
            if "[columns]" not in text:
                text += "\n\n[columns]"
            text = text.replace("[columns]", f'[columns]\n# {field} = "…"')
    if "kinds" in guesses and "events" not in values.get("read", {}):
        kept = ", ".join(f'"{kind}"' for kind in guesses["kinds"])
        read = "" if "[read]" in text else "\n\n[read]"
        text += f"{read}\n# events = [{kept}]  # all are kept unless some are named"
        if declaration.events is None:
            text += _kinds_to_edit(guesses["kinds"])
    text += _counts_to_edit(described.get("counts", ())) + _context_to_edit(context)
    return "\n".join([*lines, text]) + "\n"


def _counts_to_edit(counts: Sequence[str]) -> str:
    """Comment lines that name columns not proposed as features; empty without any."""
    if not counts:
        return ""
    return (
        f"\n\n# Not proposed as features: {', '.join(counts)}. Such numbers often count the"
        "\n# interactions to predict; declare those that were known before."
    )


def _context_to_edit(context: Mapping[str, Any]) -> str:
    """Commented-out context columns, since data cannot tell which are known at request time."""
    if not context:
        return ""
    declared = Declaration.model_validate({"schema": {"events": context}}).to_toml()
    return (
        "\n\n# Uncomment what is known when a request is made; what an event ends in is not.\n"
        + "\n".join(f"# {line}" for line in declared.splitlines())
    )


def _kinds_to_edit(kinds: Sequence[str]) -> str:
    """Commented declaration of the event kinds; the rarest is likely the target."""
    names = [json.dumps(kind, ensure_ascii=False) for kind in kinds]
    weights = ", ".join(f"{name} = 1" for name in names)
    return (
        "\n\n# [events]"
        f"\n# weights = {{ {weights} }}  # what each kind is worth; a negative one takes away"
        f"\n# target = {names[-1]}  # the kind to predict"
    )
