"""Lines of a text file, plain or gzipped, as bytes."""

import gzip
import zlib
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import IO, Self, cast

from twotower.errors import InputError

_GZIP_MAGIC = b"\x1f\x8b"
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"


class LineFile:
    """An open text file: iterates over its lines and knows how far it has come.

    gzip is told by the first bytes, not by the name. A byte order mark is dropped. A file
    that cannot be opened is an `InputError`.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self._raw = path.open("rb")
        except OSError as error:
            raise InputError(f"{path} cannot be read: {error.strerror}") from error
        self._size = max(path.stat().st_size, 1)
        magic = self._raw.read(len(_GZIP_MAGIC))
        self._raw.seek(0)
        lines = gzip.GzipFile(fileobj=self._raw) if magic == _GZIP_MAGIC else self._raw
        self._lines = cast(IO[bytes], lines)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._lines.close()
        self._raw.close()

    @property
    def fraction(self) -> float:
        """How much of the file, as it lies on disk, has been read: 0 to 1."""
        return min(self._raw.tell() / self._size, 1.0)

    def __iter__(self) -> Iterator[bytes]:
        """Yield each line with its line end.

        Raises
        ------
        InputError
            Where a gzipped file is cut short or damaged.
        """
        first = True
        try:
            for line in self._lines:
                yield line.removeprefix(_BYTE_ORDER_MARK) if first else line
                first = False
        except (EOFError, gzip.BadGzipFile, zlib.error) as error:
            raise InputError(
                f"{self.path} is a broken gzip file ({error})", "download or copy it again"
            ) from error
