"""Bundle source of the demo: a folder, or a URL that is downloaded once."""

import hashlib
import json
import shutil
import tarfile
import zipfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import IO, Final
from urllib.parse import urljoin, urlsplit

from twotower.bundle.manifest import MANIFEST_FILE, verify
from twotower.bundle.storage import REQUIRED
from twotower.data.atomic import atomic_folder
from twotower.data.download.fetch import DownloadProgress, download_file
from twotower.data.folders import why_not
from twotower.errors import ArtefactError, InputError
from twotower.features.cache import cache_folder

_ARCHIVES: Final = (".zip", ".tar", ".tar.gz", ".tgz")
MOST_BYTES: Final = 64 << 30
"""Greatest size of an unpacked archive."""


def find_bundle(
    where: str, cache: Path | None = None, progress: DownloadProgress | None = None
) -> Path:
    """The folder of a bundle, downloaded where needed.

    A URL leads to ``manifest.json``, beside which the other files lie, or to an archive
    (.zip, .tar, .tar.gz, .tgz) of a bundle's folder. The bundle is fetched once, verified,
    and kept in the cache.

    Parameters
    ----------
    where
        A folder, or a URL that begins with ``http://`` or ``https://``.
    cache
        Folder of downloaded bundles; by default ``demo`` in twotower's cache.
    progress
        Called as bytes arrive.

    Raises
    ------
    InputError
        Where a URL leads to neither.
    DownloadError
        Where the download fails.
    ArtefactError
        Where the folder is no bundle, or the download is incomplete.
    """
    if not where.startswith(("http://", "https://")):
        return Path(where)
    cache = cache_folder() / "demo" if cache is None else cache
    folder = cache / hashlib.sha256(where.encode()).hexdigest()[:16]
    if (folder / MANIFEST_FILE).is_file():
        return folder  # verified before it was renamed, and again when it is loaded
    path = urlsplit(where).path
    if path.endswith("/" + MANIFEST_FILE):
        _fetch_files(where, folder, progress)
    elif path.endswith(_ARCHIVES):
        _fetch_archive(where, folder, progress)
    else:
        raise InputError(
            f"{where} leads to neither a manifest nor an archive",
            f"give the address of {MANIFEST_FILE} or of one of {', '.join(_ARCHIVES)}",
        )
    return folder


def version_of(folder: Path) -> str:
    """The version that a bundle's manifest names; `ArtefactError` where there is none."""
    try:
        return str(json.loads((folder / MANIFEST_FILE).read_bytes())["model_version"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ArtefactError(why_not(folder, "bundle", error)) from error


def _fetch_files(address: str, folder: Path, progress: DownloadProgress | None) -> None:
    # Parts stay beside the folder, so that another try resumes the download.
    parts = folder.with_name(folder.name + ".parts")
    manifest = download_file(address, parts / MANIFEST_FILE, progress=progress).path
    try:
        files = dict(json.loads(manifest.read_bytes())["files"])
        plain = all(PurePosixPath(name).name == name for name in files)
        digests = {name: str(entry["sha256"]) for name, entry in files.items()}
    except (ValueError, KeyError, TypeError) as error:
        raise ArtefactError(f"{address} is not a bundle's manifest") from error
    if not plain:
        raise ArtefactError(f"{address} names files outside its folder")
    for name, digest in digests.items():
        if not (parts / name).is_file():
            download_file(
                urljoin(address, name), parts / name, expected_sha256=digest, progress=progress
            )
    with atomic_folder(folder) as temporary:
        for name in (MANIFEST_FILE, *digests):
            shutil.copyfile(parts / name, temporary / name)
        verify(temporary, REQUIRED)
    shutil.rmtree(parts)


def _fetch_archive(address: str, folder: Path, progress: DownloadProgress | None) -> None:
    name = PurePosixPath(urlsplit(address).path).name
    archive = folder.with_name(f"{folder.name}-{name}")
    if not archive.is_file():
        download_file(address, archive, progress=progress)
    try:
        with atomic_folder(folder) as temporary:
            left = MOST_BYTES
            for file, stream, size in _members(archive):
                left -= size
                if left < 0:
                    raise ArtefactError(f"{address} unpacks to more than {MOST_BYTES:,} bytes")
                with (temporary / file).open("wb") as target:
                    shutil.copyfileobj(stream, target)
            verify(temporary, REQUIRED)
    except (tarfile.TarError, zipfile.BadZipFile, EOFError) as error:
        raise ArtefactError(f"{address} is not an archive that can be read ({error})") from error
    finally:
        archive.unlink()


def _members(archive: Path) -> Iterator[tuple[str, IO[bytes], int]]:
    """Plain files of an archive by their last names, which is all that a bundle has."""
    if archive.name.endswith(".zip"):
        with zipfile.ZipFile(archive) as zipped:
            for info in zipped.infolist():
                if not info.is_dir():
                    with zipped.open(info) as file:
                        yield PurePosixPath(info.filename).name, file, info.file_size
        return
    with tarfile.open(archive) as tarred:
        for member in tarred:
            stream = tarred.extractfile(member) if member.isfile() else None
            if stream is not None:
                yield PurePosixPath(member.name).name, stream, member.size
