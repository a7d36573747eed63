"""Log file discovery: paths, patterns and folders; split parts; Hive partitions."""

import glob
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import Final, TypeAlias

from twotower.data import columns
from twotower.data.dataset import Part
from twotower.errors import InputError

Resolve: TypeAlias = Callable[[Path, Mapping[str, str]], Mapping[str, str] | None]
"""Maps a table and its Hive keys to {canonical column: table column}; None if it is not a
log."""

_PARTS: Final = {
    "train": Part.TRAIN, "valid": Part.VALIDATION, "validation": Part.VALIDATION,
    "val": Part.VALIDATION, "test": Part.TEST,
}  # fmt: skip
PART: Final = re.compile(rf"(?:^|[._-])({'|'.join(_PARTS)})(?:[._-]\d.*)?$", re.IGNORECASE)
"""``x.train``, ``test``, ``train-00000-of-00002``."""
_HIVE: Final = re.compile(r"^([^=]+)=(.*)$")
_DEEPEST: Final = 6
_LIKELY: Final = ("interactions", "ratings", "events", "reviews", "transactions", "log", "clicks")
"""Common log names, likeliest first, for folders with several candidates."""


@dataclass(frozen=True)
class FoundLog:
    """One file of a log."""

    path: Path
    """The file."""
    part: Part | None = None
    """Split part, if file or folder names give it."""
    keys: Mapping[str, str] = field(default_factory=dict)
    """Constant columns: values in its folder names (``date=2020-09-10``), and the event kind if
    the caller gives one."""
    url: str | None = None
    """URL it was copied from; None if ``path`` is the original file."""


@dataclass(frozen=True)
class Found:
    """The files of one log, and the other tables of the folder."""

    logs: tuple[FoundLog, ...]
    beside: tuple[Path, ...] = ()


def part_of(stem: str) -> Part | None:
    """Split part in a file name without suffixes; `Part.TRAIN` is 0, so compare with ``is None``.

    >>> part_of("Video_Games.train"), part_of("test-00000-of-00002"), part_of("contest")
    (<Part.TRAIN: 0>, <Part.TEST: 2>, None)
    """
    found = PART.search(stem)
    return _PARTS[found.group(1).lower()] if found else None


def expand(paths: Sequence[str | Path]) -> list[Path]:
    """The paths, with glob patterns (``*``, ``?``, ``[…]``) replaced by their matches.

    Raises
    ------
    InputError
        If a pattern matches nothing.
    """
    found: list[Path] = []
    for given in paths:
        path = Path(given)
        if path.exists() or not glob.has_magic(str(given)):
            found.append(path)
            continue
        matched = sorted(Path(match) for match in glob.glob(str(given), recursive=True))
        if not matched:
            raise InputError(f"nothing matches {given}", "give the paths of files that exist")
        found += matched
    return found


def with_kinds(given: Sequence[str | Path], base: Path = Path()) -> list[tuple[str | None, Path]]:
    """Paths with glob patterns expanded, each with its event kind, or None if it names none.

    ``buy=orders.csv`` means that all events of ``orders.csv`` are of kind ``buy``. An existing
    path that contains ``=``, such as a Hive folder, is taken as a path.
    """
    found: list[tuple[str | None, Path]] = []
    for entry in given:
        kind, mark, path = str(entry).partition("=")
        is_said = mark and kind and "/" not in kind and not (base / entry).exists()
        found += [
            (kind if is_said else None, each)
            for each in expand([base / path if is_said else base / entry])
        ]
    return found


def one_log(
    folder: Path, tables: Sequence[FoundLog], stem: Callable[[Path], str], resolve: Resolve
) -> Found:
    """The tables of a folder that form the log: those with the same, log-like columns.

    ``tables`` excludes files named like a catalogue or a users table, ``stem`` returns a file's
    name without suffixes, and ``resolve`` is called only if there are several tables.

    Raises
    ------
    InputError
        If tables with different columns could each be the log.
    """
    if len(tables) == 1:
        return Found((tables[0],))
    # Files named after split parts belong together, whatever their columns.
    parted: list[FoundLog] = []
    others: list[FoundLog] = []
    for table in tables:
        (others if _part(table, stem) is None else parted).append(table)
    if len({PART.sub("", stem(table.path)) for table in parted if table.part is None}) > 1:
        raise _several(folder, parted)
    ordered = with_parts(parted, stem) if len(parted) > 1 else []
    is_split = bool(ordered) and ordered[0].part is not None
    if is_split and all(resolve(table.path, table.keys) is None for table in others):
        return Found(tuple(ordered), tuple(sorted(table.path for table in others)))
    groups: dict[frozenset[str], list[FoundLog]] = {}
    known: dict[frozenset[str], frozenset[str]] = {}
    beside: list[Path] = []
    for table in tables:
        found = resolve(table.path, table.keys)
        if found is None:
            beside.append(table.path)
            continue
        names = frozenset(found.values())
        groups.setdefault(names, []).append(table)
        known[names] = frozenset(found)
    if not groups:
        return Found(())
    chosen = _likeliest(groups, known, stem)
    if chosen is None:
        raise _several(folder, [table for group in groups.values() for table in group[:5]])
    for names, group in groups.items():
        if names != chosen:
            beside += [table.path for table in group]
    return Found(tuple(with_parts(groups[chosen], stem)), tuple(sorted(beside)))


def with_parts(tables: Sequence[FoundLog], stem: Callable[[Path], str]) -> list[FoundLog]:
    """Files of one log with the split parts from their names, train first.

    Names are ignored unless every file has a part, train is among them and they differ.
    """
    parts = [_part(table, stem) for table in tables]
    if None in parts or Part.TRAIN not in parts or len(set(parts)) == 1:
        return [replace(table, part=None) for table in tables]
    logs = [replace(table, part=part) for table, part in zip(tables, parts, strict=True)]
    return sorted(logs, key=lambda log: (log.part or Part.TRAIN, str(log.path)))


def _several(folder: Path, logs: Sequence[FoundLog]) -> InputError:
    return InputError(
        f"{folder} holds more than one log: {', '.join(log.path.name for log in logs[:10])}",
        "give the path of one log, several paths or a pattern of those that belong together, or "
        "the common beginning of the names of its parts",
    )


def _part(table: FoundLog, stem: Callable[[Path], str]) -> Part | None:
    return part_of(stem(table.path)) if table.part is None else table.part


def _likeliest(
    groups: Mapping[frozenset[str], Sequence[FoundLog]],
    known: Mapping[frozenset[str], frozenset[str]],
    stem: Callable[[Path], str],
) -> frozenset[str] | None:
    """The only group with times, else the only one with ratings, else one with a common name."""
    left = list(groups)
    for preferred in ({columns.TIMESTAMP, columns.ORDER}, {columns.RATING}):
        having = [names for names in left if known[names] & preferred]
        left = having or left
        if len(left) == 1:
            return left[0]
    for name in _LIKELY:
        named = [
            names for names in left if any(name in stem(log.path).lower() for log in groups[names])
        ]
        if len(named) == 1:
            return named[0]
    return None


def nested_logs(
    folder: Path,
    is_table: Callable[[Path], bool],
    part: Part | None = None,
    keys: Mapping[str, str] = MappingProxyType({}),
    depth: int = 0,
) -> Iterator[FoundLog]:
    """Tables in subfolders that are Hive partitions (``date=2020-09-10``) or named after parts.

    ``part``, ``keys`` and ``depth`` describe ``folder`` itself.
    """
    if depth == _DEEPEST:
        return
    for inner in sorted(folder.iterdir()):
        if inner.is_dir():
            hive, named = _HIVE.match(inner.name), _PARTS.get(inner.name.lower())
            if hive is not None:
                more = {**keys, hive.group(1): hive.group(2)}
                yield from nested_logs(inner, is_table, part, more, depth + 1)
            elif named is not None and part is None:
                yield from nested_logs(inner, is_table, named, keys, depth + 1)
        elif depth and is_table(inner):
            yield FoundLog(inner, part, keys)
