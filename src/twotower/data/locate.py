"""Data set discovery: log, catalogue and users files, with declaration and format."""

import re
import tempfile
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cache, partial
from pathlib import Path
from typing import Any, Final

import polars as pl

from twotower.data import columns
from twotower.data.beside import catalogue_by_ids
from twotower.data.dataset import Part
from twotower.data.declaration import DECLARATION_FILE, Declaration, declared, read_declaration
from twotower.data.folders import kind_of
from twotower.data.formats import (
    FORMATS,
    Format,
    FormatFiles,
    files_of,
    matches,
    named_format,
    tables_below,
)
from twotower.data.likely_join import LikelyJoin, likely_join
from twotower.data.readers.archive import archive_of, unpacked
from twotower.data.readers.discovery import FoundLog, with_kinds, with_parts
from twotower.data.readers.files import (
    find_catalogue,
    find_logs,
    log_tables,
    stem_of,
    unread_beside,
    users_beside,
)
from twotower.data.readers.joins import forget_joined
from twotower.data.readers.mapping import LOG_FIELDS, ColumnMapping, Columns
from twotower.data.readers.options import ReadOptions
from twotower.data.readers.source import Source, log_by_columns, source_of
from twotower.data.readers.tables import column_names, joined_columns, joined_files, read_table
from twotower.data.readers.text import head_lines, likely_encoding
from twotower.data.remote import fetched, is_url
from twotower.data.reshape import SHAPES, write_shape
from twotower.data.temporary import errors_naming, renamed
from twotower.errors import InputError

_LINES: Final = 100
"""Number of lines from which a format without a header is recognised."""
IN_LOG: Final = "log"
"""Value of ``catalogue``: columns of the log describe the items."""
NONE: Final = "none"
"""Value of ``catalogue`` or ``users``: read none, even if there is a file beside the log."""


@dataclass(frozen=True)
class Located:
    """The files of one data set."""

    logs: tuple[FoundLog, ...]
    """Files of one log."""
    declaration: Declaration
    """How they are read: format defaults, overridden by ``dataset.toml``, then by the caller."""
    catalogue: Path | None
    users: Path | None
    """Catalogue and users files, or None."""
    format: str | None
    """Name of the published format, or None."""
    beside: tuple[Path, ...]
    """Tables beside the log that are not read."""
    name: str
    """Name of the data set."""
    base: Path
    """The data folder; file names in a ``dataset.toml`` are relative to it."""
    item_columns: frozenset[str] = frozenset()
    """Log columns that are read as item descriptions."""
    likely_join: LikelyJoin | None = None
    """Two tables that likely form a log when joined, if no table is a log by itself."""
    converted: bool = False
    """Whether the log files are temporary: unpacked from an archive or converted."""

    @property
    def joined(self) -> list[Path]:
        """Tables that the log is joined with."""
        found = (joined_files(log.path, self.declaration.read) for log in self.logs)
        return list(dict.fromkeys(file for files in found for file in files))

    @property
    def summary(self) -> dict[str, Any]:
        """Entries of the data set summary: declaration, format, joined tables, tables not read."""
        values = self.declaration.model_dump(mode="json", by_alias=True, exclude_unset=True)
        found: dict[str, Any] = {"declaration": values}
        if self.format is not None:
            found["format"] = self.format
        if joined := self.joined:
            found["joined"] = [path.name for path in joined]
        if self.beside:
            found["not_read"] = [path.name for path in self.beside]
        return found

    def source(self) -> Source:
        """The source made of these files; `InputError` if a column cannot be determined."""
        if self.likely_join is not None:
            raise self.likely_join.error
        declaration, kinds = self.declaration, self.declaration.events
        return source_of(
            self.logs,
            declaration.columns,
            self.catalogue,
            declaration.read,
            declaration.catalogue_options,
            kinds=kinds is not None and not kinds.from_rating,
            context=declaration.declared.events,
        )


@contextmanager
def located(paths: Sequence[str | Path], declaration: Declaration) -> Iterator[Located]:
    """Find the files of a data set; converted files and downloads exist only inside the block.

    ``paths`` are a folder, a ``dataset.toml``, or files of one log, as paths, glob patterns or
    URLs; ``declaration`` is the caller's and overrides a ``dataset.toml``.

    Raises
    ------
    InputError
        If there is no log, or its files cannot be determined.
    """
    if any(map(is_url, (*paths, declaration.catalogue or "", declaration.users or ""))):
        with _copied(paths, declaration) as found:
            yield found
        return
    said = with_kinds(paths)
    with (
        _without_archives([path for _, path in said]) as given,
        tempfile.TemporaryDirectory(prefix="twotower-shapes-") as folder,
    ):
        unpacked_any = given != [path for _, path in said]
        kinds = {path: kind for path, (kind, _) in zip(given, said, strict=True)}
        base, given, declaration = _with_declaration(given, declaration, kinds)
        name = declaration.name or _name(base if declaration.log else given[0])
        entry = _format(given, declaration)
        if entry is not None:
            found = _of_format(entry, base, declaration, name, Path(folder))
            if given[0].is_dir() and len(given) == 1:
                read = {*entry.logs, *entry.catalogue, *found.joined, found.catalogue, found.users}
                found = replace(found, beside=_unread(entry.logs[0].parent, read))
        else:
            found = _of_tables(given, base, declaration, name)
        if any(kinds.values()):
            options = found.declaration.read
            logs = tuple(_of_kind(log, kinds, options) for log in found.logs)
            found = replace(found, logs=logs)
        if found.declaration.catalogue == IN_LOG:
            wanted = _item_columns(found)
            items = items_in_log(found, wanted, Path(folder))
            found = replace(found, catalogue=items, item_columns=frozenset(wanted.values()))
        try:
            yield replace(found, converted=found.converted or unpacked_any)
        finally:
            forget_joined()


@contextmanager
def _without_archives(given: list[Path]) -> Iterator[list[Path]]:
    """The paths, with archives unpacked inside the block; error messages name the archives."""
    archives = {path: archive for path in given if (archive := archive_of(path)) is not None}
    if not archives:
        yield given
        return
    with tempfile.TemporaryDirectory(prefix="twotower-archive-") as folder:
        into = {
            archive: Path(folder) / str(number) / archive.name
            for number, archive in enumerate(dict.fromkeys(archives.values()))
        }
        with errors_naming({str(place): str(archive) for archive, place in into.items()}):
            yield [
                unpacked(path, archives[path], into[archives[path]]) if path in archives else path
                for path in given
            ]


def _of_kind(log: FoundLog, kinds: Mapping[Path, str | None], options: ReadOptions) -> FoundLog:
    """The file with the event kind given for it or its folder, as a constant column."""
    kind = next((kinds[path] for path in (log.path, *log.path.parents) if path in kinds), None)
    if kind is None:
        raise InputError(
            f"{log.path} has no kind of events, and other files have", "write KIND=PATH for each"
        )
    if columns.EVENT in column_names(log.path, options):
        raise InputError(
            f"{log.path} has a column {columns.EVENT!r} of its own, and is said to be {kind!r}",
            f"leave out {kind}=, or rename the column",
        )
    return replace(log, keys={**log.keys, columns.EVENT: kind})


@contextmanager
def _copied(paths: Sequence[str | Path], declaration: Declaration) -> Iterator[Located]:
    """`located` on downloaded copies of URLs; errors inside the block name the URLs."""
    parents: dict[str, str] = {}

    def copies(given: str | Path) -> list[Any]:
        if not is_url(given):
            return [given]
        url, place = str(given).rstrip("/"), Path(root, str(len(parents)))
        parents[f"{place}/"] = url.rpartition("/")[0] + "/"
        return fetched(url, place)

    with tempfile.TemporaryDirectory(prefix="twotower-copies-") as root:
        local = [copy for path in paths for copy in copies(path)]
        urls = {
            role: url
            for role in ("catalogue", "users")
            if is_url(url := getattr(declaration, role) or "")
        }
        files = {role: str(copies(url)[0]) for role, url in urls.items()}
        with (
            errors_naming(parents),
            located(local, declaration.model_copy(update=files)) as found,
        ):
            logs = [
                log if (url := renamed(str(log.path), parents)) == str(log.path)
                else replace(log, url=url)
                for log in found.logs
            ]  # fmt: skip
            stated = found.declaration.model_copy(update=urls)
            yield replace(found, logs=tuple(logs), declaration=stated)


def _with_declaration(
    given: list[Path], declaration: Declaration, kinds: dict[Path, str | None]
) -> tuple[Path, list[Path], Declaration]:
    """Base folder of relative names, paths to read, and the merged declaration.

    Event kinds that the declaration gives for its files are added to ``kinds``.
    """
    first = given[0]
    file = None
    if len(given) == 1 and first.suffix == ".toml":
        file, given = first, [first.parent]
    elif len(given) == 1 and first.is_dir():
        file = first / DECLARATION_FILE
    elif first.is_file():
        file = first.parent / DECLARATION_FILE
    base = given[0] if given[0].is_dir() else given[0].parent
    if file is not None and file.is_file():
        from_file = _from_folder(read_declaration(file), base)
        if first.is_file() and first != file and from_file.log is not None:
            listed = [path.resolve() for _, path in with_kinds(from_file.log, base)]
            if first.resolve() not in listed:
                return base, given, declaration  # it declares another log of the folder
            from_file = from_file.model_copy(update={"log": None})
        declaration = from_file.overridden_by(declaration)
    if declaration.log is not None:
        kinds |= {path: kind for kind, path in with_kinds(declaration.log, base)}
        given = [path for _, path in with_kinds(declaration.log, base)]
    for path in given:
        if not path.exists() and not log_tables(path):
            raise InputError(f"{path} does not exist", "give the path of a file or a folder")
    if len(given) == 1 and kind_of(given[0]) is not None:
        raise InputError(
            f"{given[0]} is a {kind_of(given[0])}, not a log",
            "give it to --data as it is, or prepare the log that it was made of",
        )
    return base, given, declaration


def _from_folder(declaration: Declaration, base: Path) -> Declaration:
    """The declaration with the catalogue and users files resolved in the data folder."""
    files = {
        role: str(base / file)
        for role in ("catalogue", "users")
        if (file := getattr(declaration, role)) is not None and (base / file).is_file()
    }
    return declaration.model_copy(update=files)


def _format(given: Sequence[Path], declaration: Declaration) -> FormatFiles | None:
    """The declared format, else the first that is recognised; None if there is none."""
    tables = cache(tables_below)  # folders may be large, and there are many formats
    if declaration.format is not None:
        entry = named_format(declaration.format)
        return _together([_of_named(entry, path, tables(_folder(path))) for path in given])
    if declaration.read.names is not None or not all(path.exists() for path in given):
        return None
    for entry in FORMATS:
        if (
            entry.shape is not None
            and not _named(declaration) <= SHAPES[entry.shape].columns.keys()
        ):
            continue  # the caller names columns of the original files
        if entry.by_name_only or not all(map(partial(_may_be, entry), given)):
            continue
        found = [_recognised(entry, path, tables(_folder(path))) for path in given]
        known = [files for files in found if files is not None]
        if len(known) == len(given):
            return _together(known)
    return None


def _folder(path: Path) -> Path:
    return path.parent if path.is_file() else path


def _of_named(entry: Format, path: Path, tables: Mapping[str, Path]) -> FormatFiles:
    """The files of a format named by the caller."""
    found = files_of(entry, path, tables, partial(_has_columns, entry))
    if found is None:
        raise InputError(
            f"{path} holds no data set of format {entry.name!r}, "
            f"which has {', '.join((*entry.log, *entry.beside))}",
            f"{entry.name} is {entry.about}",
        )
    return found


def _may_be(entry: Format, path: Path) -> bool:
    """Whether a path is a folder, or a file whose name, columns and lines fit a format's log."""
    return not path.is_file() or (matches(entry, path) and _has(entry, path))


def _recognised(entry: Format, path: Path, tables: Mapping[str, Path]) -> FormatFiles | None:
    """The files of a format in a folder or beside a file; None if they are not of the format."""
    found = files_of(entry, path, tables, partial(_has, entry))
    if found is None or (entry.uneven and not any(_is_uneven(log, entry) for log in found.logs)):
        return None
    return found


def _together(found: Sequence[FormatFiles]) -> FormatFiles:
    """Merge the files of several paths into one log. Only a converted catalogue keeps all files."""
    first = found[0]
    logs = dict.fromkeys(log for files in found for log in files.logs)
    catalogues = found if first.format.catalogue_shape is not None else found[:1]
    items = dict.fromkeys(file for files in catalogues for file in files.catalogue)
    return first._replace(logs=tuple(logs), catalogue=tuple(items))


def _named(declaration: Declaration) -> set[str]:
    """Log columns named by the caller."""
    named = declaration.columns.model_dump(include=set(LOG_FIELDS.values()), exclude_none=True)
    several = (name if isinstance(name, tuple) else (name,) for name in named.values())
    return {column for names in several for column in names}


def _has(entry: Format, log: Path) -> bool:
    """Whether the columns and lines of a file fit a format's log."""
    return _has_columns(entry, log) and _has_lines(entry, log)


def _has_columns(entry: Format, log: Path) -> bool:
    if not entry.has:
        return True
    try:
        present = {name.strip().lower() for name in column_names(log, ReadOptions(**entry.read))}
    except InputError:
        return False
    return {name.lower() for name in entry.has} <= present


def _has_lines(entry: Format, log: Path) -> bool:
    if entry.lines is None:
        return True
    lines = _first_lines(entry, log)
    return bool(lines) and all(re.fullmatch(entry.lines, line) for line in lines)


def _is_uneven(log: Path, entry: Format) -> bool:
    return len({len(line.split()) for line in _first_lines(entry, log)}) > 1


def _first_lines(entry: Format, log: Path) -> list[str]:
    try:
        raw = head_lines(log, ReadOptions(**entry.read), _LINES)
    except InputError:
        return []
    return [line.decode(errors="replace").rstrip("\r\n") for line in raw if line.strip()]


def _of_format(
    found: FormatFiles, base: Path, declaration: Declaration, name: str, folder: Path
) -> Located:
    """The data set in a published format, with files converted if they are not tables."""
    entry = found.format
    logs = with_parts([FoundLog(path) for path in found.logs], stem_of)
    if entry.shape is not None:
        logs = _shaped(entry.shape, logs, folder)
    read = {} if entry.shape else dict(entry.read)
    words: dict[str, Any] = {"columns": dict(entry.columns), "read": read}
    catalogue = _file_named(base, declaration, "catalogue")
    if catalogue is None and declaration.catalogue is None and found.catalogue:
        if entry.catalogue_shape is not None:
            shaped_items = folder / f"{found.catalogue[0].name}.parquet"
            if write_shape(entry.catalogue_shape, found.catalogue, shaped_items):
                catalogue = shaped_items
        else:
            catalogue = found.catalogue[0]
            words["read_catalogue"] = dict(entry.read_catalogue)
    if catalogue is None and declaration.catalogue is None and entry.items_in_log:
        words["catalogue"] = IN_LOG
    elif catalogue is None and declaration.catalogue is None:
        catalogue = find_catalogue(found.logs[0])
    if entry.users:
        words["read_users"] = dict(entry.read_users)
    if entry.split is not None:
        words["prepare"] = {"split": entry.split}
    merged = declared(words, f"format {entry.name}").overridden_by(declaration)
    users = _file_named(base, declaration, "users") or (
        None if declaration.users == NONE else found.users
    )
    merged = merged.model_copy(
        update={"columns": _present(merged, declaration, logs[0], catalogue, entry)}
    )
    return Located(
        tuple(logs), merged, catalogue, users, entry.name, (), name, base,
        converted=entry.shape is not None,
    )  # fmt: skip


def _unread(folder: Path, read: Collection[Path | None]) -> tuple[Path, ...]:
    """Tables of a folder that are not read, and other files that may hold data."""
    near = users_beside(folder)
    found = {*log_tables(folder), *unread_beside(folder), *([near] if near else [])}
    return tuple(sorted(found - {*read}))


def _shaped(shape: str, logs: Sequence[FoundLog], folder: Path) -> list[FoundLog]:
    """Convert the files of a log to one table per split part."""
    groups: dict[Part | None, list[Path]] = {}
    for log in logs:
        groups.setdefault(log.part, []).append(log.path)
    shaped = []
    for number, (part, files) in enumerate(groups.items()):
        path = folder / f"{files[0].name}.{number}.parquet"
        write_shape(shape, files, path)
        shaped.append(FoundLog(path, part))
    return shaped


def _present(
    merged: Declaration,
    declaration: Declaration,
    log: FoundLog,
    catalogue: Path | None,
    entry: Format,
) -> ColumnMapping:
    """Column mapping: the format's columns that exist in the files, and all the caller names."""
    options = merged.catalogue_options
    of_log = set(column_names(log.path, merged.read)) | set(log.keys)
    of_items = set() if catalogue is None else set(column_names(catalogue, options))
    kept = dict(declaration.columns.model_dump(exclude_unset=True))
    in_log = set(LOG_FIELDS.values())
    for field, column in entry.columns.items():
        if field not in kept and column in (of_log if field in in_log else of_items):
            kept[field] = column
    return ColumnMapping(**kept)


def _of_tables(given: Sequence[Path], base: Path, declaration: Declaration, name: str) -> Located:
    """The data set in plain tables, in no published format."""
    first = given[0]
    beside: tuple[Path, ...] = ()
    if len(given) > 1 or first.is_file():
        tables = [FoundLog(path) for path in _files(given)]
        logs = tuple(with_parts(tables, stem_of)) if len(tables) > 1 else tuple(tables)
    else:
        of_folder = find_logs(first, log_by_columns(declaration.columns, declaration.read))
        logs, beside = of_folder.logs, of_folder.beside
    if lists := declaration.read.explode:
        present = column_names(logs[0].path, declaration.read)
        mapping = declaration.columns.with_lists(present, lists)
        declaration = declaration.overridden_by(Declaration(columns=mapping))
    catalogue = _file_named(base, declaration, "catalogue")
    paths = [log.path for log in logs]
    if catalogue is None and declaration.catalogue is None:
        catalogue = find_catalogue(logs[0].path) or catalogue_by_ids(paths, declaration)
    users = _file_named(base, declaration, "users")
    read = {catalogue, users, *paths}
    if first.is_dir() and len(given) == 1:
        near = users_beside(first) if declaration.users is None else None
        beside = tuple(sorted({*beside, *unread_beside(first), *([near] if near else [])}))
    found = Located(
        logs, declaration, catalogue, users, None, (), name, base,
        likely_join=_likely_join(logs, declaration, whole=first.is_dir() and len(given) == 1),
    )  # fmt: skip
    return replace(found, beside=tuple(sorted({*beside} - {*read, *found.joined})))


def _likely_join(
    logs: Sequence[FoundLog], declaration: Declaration, *, whole: bool
) -> LikelyJoin | None:
    """The likely join for a log without a user or item column; any log of a ``whole`` folder."""
    options, log = declaration.read, logs[0]
    if len(logs) > 1 or options.join or options.explode:
        return None
    if log_by_columns(declaration.columns, options)(log.path, log.keys) is not None:
        return None
    return likely_join(log.path.parent, declaration.columns, options, None if whole else log.path)


def _files(given: Sequence[Path]) -> list[Path]:
    """The given files, with folders replaced by the tables in them."""
    found: list[Path] = []
    for path in given:
        found += sorted(log_tables(path)) if path.is_dir() else [path]
    return found


def _file_named(base: Path, declaration: Declaration, role: str) -> Path | None:
    """The declared catalogue or users file, relative to the working directory or data folder."""
    name = getattr(declaration, role)
    if name in (None, NONE) or (role == "catalogue" and name == IN_LOG):
        return None
    for path in (Path(name), base / name):
        if path.is_file():
            return path
    raise InputError(f"{role} {name} does not exist", "give the path of a file")


def _item_columns(found: Located) -> dict[str, str]:
    """Canonical catalogue column → log column, for item descriptions in the log."""
    entry = None if found.format is None else named_format(found.format)
    present = column_names(found.logs[0].path, found.declaration.read)
    of_log = found.declaration.columns.log_columns(found.logs[0].path, present).canonical
    item = of_log[columns.ITEM_ID]
    if entry is not None and entry.items_in_log:
        wanted = {name: column for name, column in entry.items_in_log.items() if column in present}
    else:
        others = [name for name in present if name not in of_log.values()]
        wanted = dict(
            found.declaration.columns.catalogue_columns(
                found.logs[0].path,
                [*others, item],
                ignore=joined_columns(found.logs[0].path, found.declaration.read),
                log_item=item,
            ).canonical
        )
    return {**wanted, columns.ITEM_ID: item}


def items_in_log(found: Located, wanted: Mapping[str, str], folder: Path) -> Path:
    """Write a catalogue from item columns of a log: the first value per item and column.

    ``wanted`` maps canonical catalogue columns, including the item id, to log columns.

    Raises
    ------
    InputError
        If a line cannot be decoded, since its item could silently lose its title.
    """
    order = [columns.ITEM_ID, *(name for name in wanted if name != columns.ITEM_ID)]
    tables = []
    for log in found.logs:
        present = column_names(log.path, found.declaration.read)
        cut = Columns({name: wanted[name] for name in order}, present)
        for chunk in read_table(log.path, cut, found.declaration.read):
            bad = [reject for reject in chunk.rejects if reject.reason.startswith("bad ")]
            if bad:
                likely = likely_encoding(log.path, found.declaration.read)
                raise InputError(
                    f"{log.path}:{bad[0].line}: {bad[0].reason}, got {bad[0].value[:80]!r}",
                    f"pass ReadOptions(encoding={likely!r}), or catalogue='none' to read no titles",
                    cli_fix=f"pass --encoding {likely}, or --catalogue none to read no titles",
                )
            tables.append(_first_values(chunk.rows.select(order)))
    path = folder / "items-in-log.parquet"
    _first_values(pl.concat(tables, how="vertical_relaxed")).write_parquet(path)
    return path


def _first_values(rows: pl.DataFrame) -> pl.DataFrame:
    """One row per item, in order of appearance: the first non-missing value of every column."""
    texts = [name for name in rows.columns[1:] if rows.schema[name] == pl.String]
    rows = rows.with_columns(pl.col(name).replace("", None) for name in texts)
    items = rows.filter(pl.col(columns.ITEM_ID).is_not_null())
    return items.group_by(columns.ITEM_ID, maintain_order=True).agg(pl.all().drop_nulls().first())


def _name(path: Path) -> str:
    return path.name.split(".")[0] or path.resolve().name
