"""File discovery by name: log, split parts, catalogue and users table of a folder."""

from itertools import islice
from pathlib import Path
from typing import Final

from twotower.data.columns import folded
from twotower.data.readers.discovery import PART, Found, FoundLog, Resolve, nested_logs, one_log
from twotower.data.readers.mapping import LOG_NAMES
from twotower.data.readers.tables import column_names, table_suffix, uncompressed_name
from twotower.errors import InputError

_CATALOGUES: Final = ("meta", "item", "items", "catalogue", "catalog", "products", "movies")
_USERS: Final = ("user", "users", "customers", "members")
"""Names of users tables."""
_BESIDE: Final = (*_USERS, "readme", "license", "licence", "manifest", "rejects")
"""Files beside a log that are not logs: users tables and documentation."""
_UNREAD: Final = (
    ".xlsx", ".xls", ".xlsm", ".ods", ".zip", ".tar", ".tgz", ".gz", ".7z", ".rar", ".sql",
    ".sqlite", ".db", ".feather", ".arrow", ".avro", ".orc", ".pkl", ".h5", ".xml",
)  # fmt: skip
"""Suffixes of data files that are not picked up from a folder."""
_LOOKED_INTO: Final = 200
"""Maximum number of files opened to explain that there is no log."""
_GENERAL: Final = (".json", ".txt", ".dat", ".data")
"""Suffixes that logs share with other files."""
_PUBLISHED: Final = ("review_categories", "rating_only", "last_out", "last_out_w_his")
"""Folders of Amazon Reviews 2023, as published and as downloaded."""


def find_logs(path: Path, resolve: Resolve) -> Found:
    """The files of a log, each with the split part in its name.

    ``path`` is a file, a folder, or a common prefix of file names. A single log has no part,
    whatever its name. In a folder, the log is the tables that ``resolve`` recognises by their
    columns, if these have the same columns; a folder without tables is searched for subfolders
    that are Hive partitions or named after split parts.

    Raises
    ------
    InputError
        If there is no log, or several that are not parts of one log.
    """
    if path.is_file():
        return Found((FoundLog(path),))
    tables = log_tables(path)
    if path.is_dir() and not tables:
        tables = _published(path)
    found = [FoundLog(file) for file in tables]
    if path.is_dir() and not found:
        found = list(nested_logs(path, lambda file: table_suffix(file) is not None))
    if not found:
        raise _nothing_found(path, resolve)
    logs = one_log(path, found, stem_of, resolve)
    if logs.logs:
        return logs
    # No file has the columns of a log: reading the likeliest one reports what is missing.
    likeliest = max(found, key=lambda log: _recognised(log.path))
    others = tuple(log.path for log in found if log is not likeliest)
    return Found((likeliest,), others)


def _recognised(file: Path) -> tuple[int, int]:
    """Number of log columns recognised by name, and file size in bytes; (0, 0) if unreadable."""
    try:
        present = {folded(name) for name in column_names(file)}
    except InputError:
        return 0, 0
    known = sum(any(folded(name) in present for name in names) for names in LOG_NAMES.values())
    return known, file.stat().st_size


def log_tables(path: Path) -> list[Path]:
    """Tables of a folder, or with a common name prefix, whose names allow them to be a log."""
    if path.is_dir():
        return _logs(path)
    return [file for file in _logs(path.parent) if _base(file) == path.name]


def find_catalogue(log: Path) -> Path | None:
    """The catalogue beside a log: a file of the same name, else one with a generic name."""
    candidates = [file for file in _tables(log.parent) if _is_catalogue(file) and file != log]
    candidates += _tables(log.parent.parent / "meta_categories")
    base = _base(log)
    same_name = [file for file in candidates if _base(file) in (base, f"meta_{base}")]
    general = [file for file in candidates if _base(file) in _CATALOGUES]
    return next(iter(same_name or general), None)


def users_beside(folder: Path) -> Path | None:
    """The users table of a folder, found by its name."""
    files = sorted(folder.iterdir()) if folder.is_dir() else []
    tables = [file for file in files if file.is_file() and table_suffix(file)]
    return next((file for file in tables if _base(file).lower() in _USERS), None)


def tables_beside(log: Path) -> list[Path]:
    """Other tables in the log's folder."""
    return [file for file in _tables(log.parent) if file != log]


def unread_beside(folder: Path) -> list[Path]:
    """Files of a folder that may hold data but whose formats are not picked up from folders."""
    files = folder.iterdir() if folder.is_dir() else ()
    return sorted(file for file in files if file.suffix.lower() in _UNREAD and file.is_file())


def _nothing_found(path: Path, resolve: Resolve) -> InputError:
    """The error for a folder without a log: what it holds and the likeliest fix."""
    if not path.is_dir():
        return InputError(f"{path} does not exist", "give the path of a file or a folder")
    files = sorted(path.iterdir())
    more = f" and {len(files) - 10} more" if len(files) > 10 else ""
    problem = (
        f"no interaction log recognised in {path}, "
        f"it holds {', '.join(file.name for file in files[:10]) or 'nothing'}{more}"
    )
    for file in [file for file in files if file.is_file()][:_LOOKED_INTO]:
        if table_suffix(file) is None and file.suffix.lower() not in _UNREAD:
            continue
        if _is_catalogue(file) or _base(file).lower() in _BESIDE:
            continue
        try:
            names = column_names(file)
        except InputError as error:
            return InputError(f"{problem}: {error.what}", error.fix, cli_fix=error.cli_fix)
        if len(names) > 1:
            return InputError(problem, f"give the path of the file: {file}")
    below = (file for depth in ("*/*", "*/*/*") for file in sorted(path.glob(depth)))
    for file in islice(below, _LOOKED_INTO):
        if table_suffix(file) and file.is_file() and resolve(file, {}) is not None:
            return InputError(problem, f"give the folder of the log: {file.parent}")
    return InputError(
        problem,
        "give a folder with a log (CSV, JSON lines or Parquet, such as interactions.parquet "
        "beside items.parquet), with train and test files or a RecBole .inter file; or give "
        "the path of one file, with the names of its columns where they are unusual",
    )


def _logs(folder: Path) -> list[Path]:
    """Logs of a folder; files of a general suffix only where there is nothing else."""
    logs = [file for file in _tables(folder) if not _is_catalogue(file)]
    special = [file for file in logs if table_suffix(file) not in _GENERAL]
    return special or [file for file in logs if _has_columns(file)]


def _has_columns(file: Path) -> bool:
    try:
        return len(column_names(file)) > 1
    except InputError:
        return True


def _published(folder: Path) -> list[Path]:
    found = {kind: logs for kind in _PUBLISHED if (logs := _logs(folder / kind))}
    if len(found) > 1:
        raise InputError(
            f"{folder} holds more than one kind of log: {', '.join(found)}", "give the path of one"
        )
    return next(iter(found.values()), [])


def _tables(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    return sorted(
        file
        for file in folder.iterdir()
        if table_suffix(file)
        and file.is_file()
        and not file.name.startswith((".", "_"))
        and _base(file).lower() not in _BESIDE
    )


def _is_catalogue(file: Path) -> bool:
    stem = stem_of(file)
    return table_suffix(file) == ".item" or stem in _CATALOGUES or stem.startswith("meta_")


def _base(file: Path) -> str:
    """Name without suffixes and split part: ``Video_Games.train.csv.gz`` → ``Video_Games``."""
    return PART.sub("", stem_of(file))


def stem_of(file: Path) -> str:
    """A file's name without its suffixes."""
    name = file.name[: len(uncompressed_name(file))]
    return name[: len(name) - len(table_suffix(file) or "")]
