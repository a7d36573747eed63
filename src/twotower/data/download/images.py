"""Image downloads: many small files in parallel, each kept or refused with a reason."""

import hashlib
import json
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

import httpx

from twotower.data.atomic import atomic_file
from twotower.data.download.fetch import RETRIED, InterruptedTransferError, open_client, pause_after
from twotower.errors import DownloadError, InputError

MAX_BYTES: Final = 20_000_000
"""Larger files are refused; a product photograph has a hundredth of it."""
_BEGINNINGS: Final = (b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"GIF87a", b"GIF89a")


@dataclass(frozen=True, slots=True)
class FetchedImage:
    """Result of one address: the file, or the reason why there is none."""

    url: str
    path: Path | None
    reason: str | None = None


class _RefusedError(Exception):
    """A final failure: it is recorded and not retried."""


def fetch_images(
    urls: Sequence[str],
    folder: Path,
    *,
    concurrency: int = 8,
    retries: int = 3,
    backoff: float = 0.5,
    timeout: float = 20.0,
    max_bytes: int = MAX_BYTES,
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, FetchedImage]:
    """Fetch each address once, to a file in ``folder`` that its sha256 names.

    Existing files are not requested again, nor is an address that was refused for good:
    unknown to the server, or with content that is no image or too large. Failures of a server or
    the network are tried again at the next call.

    Addresses begin with ``http://`` or ``https://``, others are refused. ``concurrency`` images are
    fetched at a time, ``retries``, ``backoff`` and ``timeout`` are for each as in
    `twotower.data.download.download_file`, and larger ones than ``max_bytes`` are refused.
    ``progress`` is called with the number of addresses done and of all.

    Raises
    ------
    DownloadError
        Where the folder cannot be written. A failing address does not raise.
    """
    if concurrency < 1 or max_bytes < 1:
        raise InputError(
            f"concurrency and max_bytes must be at least 1, got {concurrency} and {max_bytes}"
        )
    distinct = list(dict.fromkeys(urls))
    done: dict[str, FetchedImage] = {}
    with open_client(timeout) as client, ThreadPoolExecutor(concurrency) as pool:
        fetch = partial(_fetch, client, folder, retries, backoff, max_bytes)
        tasks = [pool.submit(fetch, url) for url in distinct]
        try:
            for task in as_completed(tasks):
                image = task.result()
                done[image.url] = image
                if progress is not None:
                    progress(len(done), len(distinct))
        except OSError as error:
            raise DownloadError(
                f"cannot write {error.filename or folder}: {error.strerror or error}; "
                "free some space, or choose a folder that can be written"
            ) from error
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
    return {url: done[url] for url in distinct}


def _fetch(
    client: httpx.Client, folder: Path, retries: int, backoff: float, max_bytes: int, url: str
) -> FetchedImage:
    name = hashlib.sha256(url.encode()).hexdigest()
    target, refusal = folder / name, folder / f"{name}.refused.json"
    if target.exists():
        return FetchedImage(url, target)
    if refusal.exists():
        reason = json.loads(refusal.read_text(encoding="utf-8"))["reason"]
        return FetchedImage(url, None, reason)
    failures = 0
    while True:
        try:
            body = _receive(client, url, max_bytes)
        except _RefusedError as error:
            with atomic_file(refusal, durable=False) as temporary:
                temporary.write_text(
                    json.dumps({"url": url, "reason": str(error)}), encoding="utf-8"
                )
            return FetchedImage(url, None, str(error))
        except InterruptedTransferError as error:
            failures += 1
            if failures > retries:
                return FetchedImage(url, None, f"{error}, {failures} tries")
            time.sleep(pause_after(failures, backoff))
            continue
        with atomic_file(target, durable=False) as temporary:
            temporary.write_bytes(body)
        return FetchedImage(url, target)


def _receive(client: httpx.Client, url: str, max_bytes: int) -> bytes:
    """The whole body, checked as it arrives so that little of a refused file is read."""
    if not url.startswith(("http://", "https://")):
        raise _RefusedError("the address does not begin with http:// or https://")
    body = bytearray()
    try:
        with client.stream("GET", url) as response:
            status = response.status_code
            if status != httpx.codes.OK:
                answer = f"the server answered {status} {response.reason_phrase}".strip()
                is_transient = status >= 500 or status in RETRIED
                raise (InterruptedTransferError if is_transient else _RefusedError)(answer)
            length = response.headers.get("Content-Length", "")
            if length.isdecimal() and int(length) > max_bytes:
                raise _RefusedError(f"more than {max_bytes:,} bytes")
            for piece in response.iter_raw():
                body += piece
                if len(body) > max_bytes:
                    raise _RefusedError(f"more than {max_bytes:,} bytes")
                if len(body) >= 12 and not _is_image(body):
                    break
    except (httpx.UnsupportedProtocol, httpx.InvalidURL, httpx.TooManyRedirects) as error:
        raise _RefusedError(f"cannot be fetched: {str(error).rstrip('.')}") from error
    except httpx.TransportError as error:
        raise InterruptedTransferError(str(error) or type(error).__name__) from error
    if not _is_image(body):
        raise _RefusedError("not a JPEG, PNG, WEBP or GIF file")
    return bytes(body)


def _is_image(body: bytearray) -> bool:
    """Whether the first bytes are of an image: content types and status 200 are unreliable."""
    return body.startswith(_BEGINNINGS) or (body[:4] == b"RIFF" and body[8:12] == b"WEBP")
