"""`download_file`: one file over HTTP, resumed after a broken connection.

`Record`: what was fetched, ``downloads.json`` in its folder.
"""

import json
import logging
import random
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, Protocol

import httpx

from twotower import __version__
from twotower.data.atomic import atomic_file
from twotower.data.digest import file_sha256
from twotower.data.download.partial import Partial, Version
from twotower.errors import DownloadError, InputError

REPORT_EVERY: Final = 1 << 18
"""Bytes between two calls of the progress callback."""
LONGEST_PAUSE: Final = 60.0
"""Seconds between two tries, at most."""
RETRIED: Final = frozenset({408, 416, 425, 429})
"""Client errors that are retried; every other client error is final."""

_log = logging.getLogger(__name__)


class DownloadProgress(Protocol):
    """Callback of downloads: called as bytes arrive, and once for a file that is already there."""

    def __call__(self, file: str, received: int, total: int | None, /) -> None:
        """``file`` is the name, ``total`` None where the server does not send the size."""
        ...


@dataclass(frozen=True, slots=True)
class Fetched:
    """A complete file. ``size`` is in bytes, ``sha256`` in hexadecimal digits."""

    path: Path
    url: str
    size: int
    sha256: str


class InterruptedTransferError(Exception):
    """A transient failure: the transfer is retried."""


def download_file(
    url: str,
    target: Path,
    *,
    expected_sha256: str | None = None,
    retries: int = 5,
    backoff: float = 1.0,
    timeout: float = 30.0,
    progress: DownloadProgress | None = None,
) -> Fetched:
    """Fetch ``url`` to ``target``, replacing it only when everything is there.

    Received bytes are kept in ``target.part``, so that the next try, or the next call, requests
    only the rest (HTTP ``Range``). A file that changed meanwhile, or a server that cannot
    continue, starts again from the first byte; two versions are never mixed.

    Parameters
    ----------
    url
        ``http://`` or ``https://``; redirects are followed.
    target
        Path of the file; its folder is made.
    expected_sha256
        Checksum that the file must have.
    retries
        Further tries without progress before giving up. A try that received new bytes resets
        the count.
    backoff
        Seconds before the second try, doubled for each further one up to 60, and shortened
        by a random part of up to a half, so that many clients do not return at once.
    timeout
        Seconds to wait for a connection, or for more bytes.
    progress
        Called with name, bytes received and total.

    Raises
    ------
    DownloadError
        Where the server refuses (at once), where it fails or the connection is cut too often,
        where the checksum differs, or where the disk cannot be written.
    InputError
        Where an argument is out of range.
    """
    if not url.startswith(("http://", "https://")):
        raise InputError(f"url must begin with http:// or https://, got {url!r}")
    if retries < 0 or backoff < 0 or timeout <= 0:
        raise InputError(
            "retries and backoff must be at least 0 and timeout above 0, "
            f"got {retries}, {backoff} and {timeout}"
        )
    target = Path(target)
    partial = Partial(target)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with open_client(timeout) as client:
            _receive_all(client, url, target.name, partial, retries, backoff, progress)
        fetched = Fetched(target, url, partial.size, file_sha256(partial.path))
        if expected_sha256 is not None and fetched.sha256 != expected_sha256.lower():
            partial.discard()
            raise DownloadError(
                f"{url} has sha256 {fetched.sha256}, expected {expected_sha256.lower()}; "
                "it was not kept: try again, and compare with the publisher's checksum"
            )
        partial.finish(target)
    except OSError as error:
        raise DownloadError(
            f"cannot write {error.filename or partial.path}: {error.strerror or error}; "
            "free some space, or choose a folder that can be written"
        ) from error
    return fetched


def pause_after(failures: int, backoff: float) -> float:
    """Seconds to wait after so many failures in a row, at least one: doubled, and jittered."""
    longest = min(LONGEST_PAUSE, backoff * 2.0 ** min(failures - 1, 10))
    return longest * random.uniform(0.5, 1)


def open_client(timeout: float) -> httpx.Client:
    """An HTTP client that follows redirects and requests files without content encoding."""
    return httpx.Client(
        timeout=timeout,
        follow_redirects=True,
        # A compressed transfer has other lengths and ranges.
        headers={"Accept-Encoding": "identity", "User-Agent": f"twotower/{__version__}"},
    )


def _receive_all(
    client: httpx.Client,
    url: str,
    name: str,
    partial: Partial,
    retries: int,
    backoff: float,
    progress: DownloadProgress | None,
) -> None:
    """Try until the file is complete, or until ``retries`` tries in a row brought nothing."""
    failures, furthest = 0, partial.size
    while True:
        try:
            return _receive(client, url, name, partial, progress)
        except InterruptedTransferError as reason:
            if partial.size > furthest:
                failures, furthest = 0, partial.size
            failures += 1
            if failures > retries:
                kept = f"{partial.size:,} bytes are kept in {partial.path}, "
                raise DownloadError(
                    f"{url} could not be fetched, {failures} tries in a row failed, the last one: "
                    f"{reason}; {kept if partial.size else ''}run the same command again to go on"
                ) from reason
            pause = pause_after(failures, backoff)
            _log.warning("%s: %s; trying again in %.1f s", url, reason, pause)
            time.sleep(pause)


def _receive(
    client: httpx.Client, url: str, name: str, partial: Partial, progress: DownloadProgress | None
) -> None:
    """One try: receive the rest of the file, or all of it; return when it is complete."""
    version = partial.version(url)
    received = partial.size if version else 0
    if version and version.total == received:
        if progress:
            progress(name, received, received)
        return  # the process had ended between the last byte and the renaming
    headers = {}
    if version and version.validator:
        headers = {"Range": f"bytes={received}-", "If-Range": version.validator}
    try:
        with client.stream("GET", url, headers=headers) as response:
            _check_status(url, response, partial)
            if response.status_code == httpx.codes.PARTIAL_CONTENT and version:
                if not version.continues(response, received):
                    partial.discard()
                    raise InterruptedTransferError("the file has changed on the server")
            else:
                version, received = Version.of(url, response), 0
                partial.start(version)
            reported = received
            with partial.append() as file:
                for piece in response.iter_raw():  # as it comes: buffered pieces would be lost
                    file.write(piece)
                    received += len(piece)
                    if progress and received - reported >= REPORT_EVERY:
                        reported = received
                        progress(name, received, version.total)
    except (httpx.UnsupportedProtocol, httpx.InvalidURL, httpx.TooManyRedirects) as error:
        reason = str(error).rstrip(".")
        raise DownloadError(f"{url} cannot be fetched: {reason}; check the address") from error
    except httpx.TransportError as error:
        raise InterruptedTransferError(str(error) or type(error).__name__) from error
    if version.total is not None and received != version.total:
        if received > version.total:
            partial.discard()
        raise InterruptedTransferError(f"got {received:,} of {version.total:,} bytes")
    if progress:
        progress(name, received, version.total)


def _check_status(url: str, response: httpx.Response, partial: Partial) -> None:
    """Accept 200, and 206 where a range was requested; classify errors as transient or final."""
    status = response.status_code
    ranged = "Range" in response.request.headers
    if status == httpx.codes.OK or (status == httpx.codes.PARTIAL_CONTENT and ranged):
        return
    answer = f"{status} {response.reason_phrase}".strip()
    if status == httpx.codes.REQUESTED_RANGE_NOT_SATISFIABLE:
        partial.discard()  # it is shorter than what is here: another file
    if status >= 500 or status in RETRIED:
        raise InterruptedTransferError(f"the server answered {answer}")
    raise DownloadError(
        f"{url} answered {answer}; check that it exists there, or name another server"
    )


class Record:
    """The record of one folder, read when made and written whenever a file is added."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.path = folder / "downloads.json"
        self._files = self._read()

    def _read(self) -> dict[str, Any]:
        try:
            files = json.loads(self.path.read_text(encoding="utf-8"))["files"]
            return {str(name): dict(entry) for name, entry in files.items()}
        except FileNotFoundError:
            return {}
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            _log.warning("%s cannot be read (%s); its files are fetched again", self.path, error)
            return {}

    def matches(self, file: Path) -> bool:
        """Whether the file is there with the size and the checksum that were recorded."""
        entry = self._files.get(self._name(file))
        return (
            entry is not None
            and file.is_file()
            and file.stat().st_size == entry.get("size")
            and file_sha256(file) == entry.get("sha256")
        )

    def add(self, fetched: Fetched) -> None:
        """Note a file, replacing its earlier entry."""
        self._files[self._name(fetched.path)] = {
            "url": fetched.url,
            "size": fetched.size,
            "sha256": fetched.sha256,
            "fetched": datetime.now(UTC).isoformat(timespec="seconds"),
        }
        with atomic_file(self.path) as temporary:
            temporary.write_text(
                json.dumps({"schema_version": 1, "files": self._files}, indent=2), encoding="utf-8"
            )

    def _name(self, file: Path) -> str:
        return file.relative_to(self.folder).as_posix()
