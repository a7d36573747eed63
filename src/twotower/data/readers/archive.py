"""Multi-file archives (zip, tar), unpacked while a data set is read."""

import shutil
import tarfile
import zipfile
from pathlib import Path
from typing import Final

from twotower.data.readers.text import is_data
from twotower.errors import InputError

_TAR: Final = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz")
_BROKEN: Final = (zipfile.BadZipFile, tarfile.TarError, EOFError, OSError, RuntimeError)
"""Standard library errors for archives that cannot be unpacked, including encrypted ones."""


def archive_of(path: Path) -> Path | None:
    """The multi-file archive that a path names or points into (``ml-1m.zip/ratings.dat``)."""
    for place in (path, *path.parents):
        if place.is_file():
            name = place.name.lower()
            if name.endswith(_TAR) or (
                name.endswith(".zip") and (place != path or _several(place))
            ):
                return place
            return None
    return None


def unpacked(path: Path, archive: Path, into: Path) -> Path:
    """Unpack an archive and return the folder or file in it that the path names.

    If the archive holds a single folder, that folder is its root.

    Raises
    ------
    InputError
        If the archive cannot be read or holds no such file; the message lists its files.
    """
    try:
        if archive.name.lower().endswith(".zip"):
            with zipfile.ZipFile(archive) as file:
                file.extractall(into)
        else:
            with tarfile.open(archive) as tar:
                tar.extractall(into, filter="data")
    except _BROKEN as error:
        raise InputError(f"{archive} cannot be unpacked ({error})", "unpack it yourself") from error
    shutil.rmtree(into / "__MACOSX", ignore_errors=True)
    within = path.relative_to(archive)
    inner = [place for place in into.iterdir() if is_data(place.name)]
    root = inner[0] if len(inner) == 1 and inner[0].is_dir() else into
    for folder in (into, root):
        if within.parts and (folder / within).exists():
            return folder / within
    if within.parts:
        files = sorted(place.relative_to(into).as_posix() for place in into.rglob("*.*"))
        raise InputError(
            f"{archive} has no {within}", f"it has {', '.join(files[:10]) or 'no files'}"
        )
    return root


def _several(path: Path) -> bool:
    try:
        with zipfile.ZipFile(path) as file:
            return sum(not info.is_dir() and is_data(info.filename) for info in file.infolist()) > 1
    except _BROKEN:
        return False  # the error is reported when it is read
