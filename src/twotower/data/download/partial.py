"""Partial downloads: bytes received so far, and the version of the file they belong to."""

import json
import re
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import BinaryIO, Self

import httpx

from twotower.data.atomic import atomic_file, publish_file


@dataclass(frozen=True, slots=True)
class Version:
    """Version of a file on a server."""

    url: str
    """Where it was asked for."""
    etag: str | None
    last_modified: str | None
    """The validators that the server sent, None where it sent none."""
    total: int | None
    """Size in bytes, None where the server does not send it."""

    @classmethod
    def of(cls, url: str, response: httpx.Response) -> Self:
        """The version that a response with status 200 or 206 delivers."""
        headers = response.headers
        if response.status_code == httpx.codes.PARTIAL_CONTENT:
            total = _content_range(response)[1]
        else:
            length = headers.get("Content-Length", "")
            total = int(length) if length.isdecimal() else None
        return cls(url, headers.get("ETag"), headers.get("Last-Modified"), total)

    @property
    def validator(self) -> str | None:
        """Value for ``If-Range``: a strong ETag, else the date (RFC 9110, 13.1.5)."""
        if self.etag and not self.etag.startswith("W/"):
            return self.etag
        return self.last_modified

    def continues(self, response: httpx.Response, offset: int) -> bool:
        """Whether a 206 response is this version from byte ``offset`` on.

        Some servers honour ``Range`` and ignore ``If-Range``, so the headers of the response are
        compared as well, those that it has.
        """
        other = Version.of(self.url, response)
        return (
            _content_range(response)[0] == offset
            and other.etag in (None, self.etag)
            and other.last_modified in (None, self.last_modified)
            and (None in (other.total, self.total) or other.total == self.total)
        )


def _content_range(response: httpx.Response) -> tuple[int | None, int | None]:
    """First byte and total of ``Content-Range: bytes 5-9/10``."""
    header = response.headers.get("Content-Range", "")
    found = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", header.strip())
    if found is None:
        return None, None
    first, total = found.groups()
    return int(first), None if total == "*" else int(total)


class Partial:
    """The file ``NAME.part`` and its description ``NAME.part.json``.

    The description is written after the file was emptied and before the first byte goes in:
    whenever the process dies, bytes without their own description are never continued.
    """

    def __init__(self, target: Path) -> None:
        self.path = target.with_name(target.name + ".part")
        self._description = target.with_name(target.name + ".part.json")

    @property
    def size(self) -> int:
        """Bytes received."""
        return self.path.stat().st_size if self.path.exists() else 0

    def version(self, url: str) -> Version | None:
        """The version of the received bytes; None where it cannot be continued safely."""
        try:
            version = Version(**json.loads(self._description.read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError):
            return None
        return version if version.url == url and version.validator and self.size else None

    def start(self, version: Version) -> None:
        """Drop the received bytes and begin with ``version``."""
        self.path.write_bytes(b"")
        with atomic_file(self._description) as temporary:
            temporary.write_text(json.dumps(asdict(version), indent=2), encoding="utf-8")

    def append(self) -> BinaryIO:
        """Open for writing at the end."""
        return self.path.open("ab")

    def discard(self) -> None:
        """Remove both files."""
        self.path.unlink(missing_ok=True)
        self._description.unlink(missing_ok=True)

    def finish(self, target: Path) -> None:
        """Give the file its name and drop the description."""
        publish_file(self.path, target)
        self._description.unlink(missing_ok=True)
