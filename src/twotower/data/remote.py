"""Files and folders by URL (``s3://``, ``gs://``, ``hdfs://`` …), through fsspec."""

import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from glob import has_magic
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

from twotower.errors import InputError

_URL: Final = re.compile(r"^[a-zA-Z][a-zA-Z0-9+.-]*://")


def is_url(path: str | Path) -> bool:
    """Whether a path is a URL.

    >>> is_url("s3://bucket/log.parquet"), is_url("data/log.parquet")
    (True, False)
    """
    return isinstance(path, str) and _URL.match(path) is not None


def fetched(url: str, folder: Path) -> list[Path]:
    """Copy the file or folder of a URL, or all matches of its pattern, to ``folder``.

    Raises
    ------
    InputError
        If nothing exists there, or the file system cannot be reached.
    """
    with _reaching(url) as (files, path):
        found = files.glob(path) if has_magic(path) else [path] if files.exists(path) else []
        if not found:
            raise InputError(f"{url} does not exist", "give the URL of a file or a folder")
        copies = []
        for address in sorted(found):
            copy = folder / address.rstrip("/").rpartition("/")[2]
            inner = files.find(address) if files.isdir(address) else [address]
            for file in inner:
                target = copy / file[len(address) :].lstrip("/") if file != address else copy
                target.parent.mkdir(parents=True, exist_ok=True)
                files.get_file(file, str(target))
            copies.append(copy)
        return copies


@contextmanager
def local_input(path: str | Path) -> Iterator[Path]:
    """Yield a local path unchanged, or for a URL a temporary copy of its file or folder.

    For a pattern with several matches, the copy is a folder of all of them.

    Raises
    ------
    InputError
        As `fetched`.
    """
    if not is_url(path):
        yield Path(path)
        return
    with tempfile.TemporaryDirectory(prefix="twotower-") as folder:
        copies = fetched(str(path), Path(folder))
        yield copies[0] if len(copies) == 1 else Path(folder)


@contextmanager
def local_output(path: str | Path) -> Iterator[Path]:
    """Yield a local path unchanged, or for a URL a temporary path that is uploaded on success.

    Object stores show an object only once it is complete.

    Raises
    ------
    InputError
        If the file system of the URL cannot be reached.
    """
    if not is_url(path):
        yield Path(path)
        return
    url = str(path)
    with tempfile.TemporaryDirectory(prefix="twotower-") as folder:
        local = Path(folder) / url.rpartition("/")[2]
        yield local
        with _reaching(url) as (files, target):
            files.makedirs(target.rpartition("/")[0], exist_ok=True)
            files.put_file(str(local), target)


def is_empty(folder: str | Path) -> bool:
    """Whether a folder, by path or URL, is empty or does not exist yet."""
    if not is_url(folder):
        return not Path(folder).exists() or not any(Path(folder).iterdir())
    with _reaching(str(folder)) as (files, path):
        return not files.exists(path) or not files.find(path)


@contextmanager
def _reaching(url: str) -> Iterator[tuple[Any, str]]:
    """The file system of a URL and the path in it; failures inside the block are `InputError`."""
    if find_spec("fsspec") is None:
        raise InputError(
            f"{url} needs the package fsspec, which is not installed",
            "run pip install 'twotower[scale]'",
        )
    from fsspec.core import url_to_fs

    try:
        files, path = url_to_fs(url)
    except (ImportError, ValueError, OSError) as error:  # no such protocol, or its package
        raise InputError(f"{url} cannot be reached ({error})") from error
    try:
        yield files, path
    except InputError:
        raise
    except Exception as error:  # each file system has errors of its own
        raise InputError(f"{url} cannot be read or written ({error})") from error
