"""What would be read of a log and its catalogue, with guesses: before anything is prepared."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Final

from twotower.data import columns
from twotower.data.declaration import Declaration
from twotower.data.locate import Located, located
from twotower.data.readers.mapping import ColumnMapping
from twotower.data.readers.options import ReadOptions
from twotower.data.readers.source import CatalogueFile, LogFile, source_of
from twotower.data.readers.tables import column_names
from twotower.errors import InputError

_ROWS: Final = 3
_SHOWN: Final = 40
_FIELDS: Final = {
    columns.USER_ID: "user", columns.ITEM_ID: "item", columns.RATING: "rating",
    columns.TIMESTAMP: "time", columns.ORDER: "order", columns.EVENT: "event",
}  # fmt: skip


@dataclass(frozen=True)
class Inspection:
    """What was found.

    Attributes
    ----------
    described
        Everything as plain values: files, format, columns with examples, what is missing.
    toml
        A ``dataset.toml`` that says it, to edit.
    """

    described: Mapping[str, Any]
    toml: str


def inspect(paths: Sequence[str | Path], said: Declaration) -> Inspection:
    """Look at a data set as `prepare` would read it; only the beginnings of files are read.

    Columns that cannot be told are no error here: they are left to name in the file.

    Raises
    ------
    InputError
        Where there is no log, or a file cannot be read.
    """
    with located(paths, said) as found:
        described: dict[str, Any] = {"name": found.name, "format": found.format}
        first = found.logs[0]
        described["log"] = {"files": [one.path.name for one in found.logs]}
        described["not_read"] = [path.name for path in found.beside]
        missing: list[str] = []
        try:
            source = source_of(
                found.logs, found.said.columns, found.catalogue, found.said.read,
                found.catalogue_options,
            )  # fmt: skip
        except InputError as error:
            described["log"] |= _bare(first.path, found.said.read)
            described["problem"] = error.on_command_line
            missing = _missing(found)
        else:
            described["log"] |= _described(source.logs[0])
            if source.catalogue is not None:
                described["catalogue"] = _described(source.catalogue) | {
                    "file": source.catalogue.path.name
                }
        if found.users is not None:
            described["users"] = {"file": found.users.name} | _bare(
                found.users, found.said.read_users or ReadOptions()
            )
        return Inspection(described, _toml(found, described, missing))


def inspection_lines(found: Inspection) -> Iterator[str]:
    """The same as lines of text."""
    told = found.described
    known = f", format {told['format']}" if told["format"] else ""
    yield f"{told['name']}{known}"
    log = told["log"]
    files = ", ".join(log["files"][:5]) + (
        f" and {len(log['files']) - 5} more" if len(log["files"]) > 5 else ""
    )
    yield f"log: {files}"
    yield from _column_lines(log)
    if "catalogue" in told:
        yield f"catalogue: {told['catalogue']['file']}"
        yield from _column_lines(told["catalogue"])
    else:
        yield "catalogue: none; pass --catalogue FILE"
    if "users" in told:
        yield f"users: {told['users']['file']}, with {', '.join(told['users']['columns'])}"
    if told["not_read"]:
        yield f"not read: {', '.join(told['not_read'])}"
    if "problem" in told:
        yield f"to settle: {told['problem']}"
    yield ""
    yield from found.toml.splitlines()


def _column_lines(table: Mapping[str, Any]) -> Iterator[str]:
    for name, column in table.get("read", {}).items():
        examples = ", ".join(table["examples"].get(column, []))
        yield f"  {name}: {column}" + (f", such as {examples}" if examples else "")
    ignored = table.get("ignored", [])
    if ignored:
        yield f"  ignored: {', '.join(ignored[:20])}"


def _described(file: LogFile | CatalogueFile) -> dict[str, Any]:
    chunk = next(iter(file.chunks()), None)
    raw: dict[str, list[str]] = {}
    if chunk is not None:
        for name, column in file.columns.items():
            if name in chunk.rows.columns:
                values = islice(chunk.rows[name].drop_nulls(), _ROWS)
                raw[column] = [_short(name, value) for value in values]
    return {
        "read": dict(file.columns),
        "columns": list(file.found.present),
        "ignored": file.found.ignored,
        "examples": raw,
    }


def _short(name: str, value: Any) -> str:
    if name == columns.TIMESTAMP:
        from datetime import UTC, datetime

        try:
            moment = datetime.fromtimestamp(float(value) / 1000, UTC)
            return moment.strftime("%Y-%m-%d %H:%M:%S")
        except (ValueError, OverflowError, OSError):
            return str(value)
    return str(value)[:_SHOWN]


def _bare(path: Path, options: ReadOptions) -> dict[str, Any]:
    return {"columns": column_names(path, options)}


def _missing(found: Located) -> list[str]:
    """Fields of the mapping for the log that cannot be told."""
    present = [*column_names(found.logs[0].path, found.said.read), *found.logs[0].keys]
    missing = []
    for column, field in _FIELDS.items():
        if field in ("user", "item"):
            try:
                others = {"user": "item", "item": "user"}[field]
                probe = found.said.columns.model_copy(update={others: present[0]})
                probe.log_columns(found.logs[0].path, present)
            except InputError:
                missing.append(field)
        del column
    return missing


def _toml(found: Located, described: Mapping[str, Any], missing: Sequence[str]) -> str:
    """What was said and what was found, with lines to fill in where a column is missing."""
    said = found.said
    named: dict[str, Any] = (
        {}
        if found.format
        else {
            _FIELDS[name]: column
            for name, column in described["log"].get("read", {}).items()
            if name in _FIELDS
        }
    )
    kept = said.columns.model_dump(exclude_unset=True)
    values: dict[str, Any] = {"name": found.name}
    if found.format:
        values["as"] = found.format
    whole = said.model_copy(
        update={"columns": ColumnMapping(**{**named, **kept} if not found.format else {})}
    )
    words = whole.model_dump(mode="json", by_alias=True, exclude_unset=True)
    if found.format:
        for word in ("columns", "read", "read_catalogue", "read_users", "catalogue"):
            words.pop(word, None)
        if words.get("prepare", {}).get("split") == {"kind": "random"}:
            words.pop("prepare")
    elif named or kept:
        words["columns"] = {**named, **kept}
    text = Declaration.model_validate({**words, **values}).to_toml()
    lines = [text.rstrip()]
    if not found.format and found.catalogue is None:
        lines.insert(0, '# catalogue = "items.csv"')
    if missing:
        table = "" if "[columns]" in text else "\n[columns]"
        lines.append(table + "".join(f'\n# {field} = "…"' for field in missing))
    columns_of_log = ", ".join(described["log"]["columns"])
    return f"# Columns of the log: {columns_of_log}\n" + "\n".join(lines) + "\n"
