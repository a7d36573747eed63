"""Text file reader: lines as UTF-8 bytes from any compression, encoding and line ending."""

import bz2
import gzip
import io
import lzma
import re
import zipfile
import zlib
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import IO, Any, Final, Self, cast

import pyarrow as pa

from twotower.data.readers.options import ReadOptions
from twotower.errors import InputError

HEAD: Final = 1 << 16
"""Number of leading bytes from which encoding and line ends are detected."""

_MAGIC_BYTES: Final = 32
_MAGIC: Final = {
    b"\x1f\x8b": "gzip",
    **{b"BZh%d" % level: "bz2" for level in range(1, 10)},
    b"\x28\xb5\x2f\xfd": "zstd",
    b"\xfd7zXZ\x00": "xz",
    b"PK\x03\x04": "zip",
    b"PK\x05\x06": "zip",
}
_OTHER: Final = {
    b"7z\xbc\xaf\x27\x1c": "a 7z archive; unpack it",
    b"Rar!": "a RAR archive; unpack it",
    b"\x04\x22\x4d\x18": "compressed with lz4; unpack it",
    b"\xff\x06\x00\x00sNaPpY": "compressed with snappy; unpack it",
    b"\x1f\x9d": "compressed with compress; unpack it",
    b"\xd0\xcf\x11\xe0": "an old Excel workbook; save the sheet as CSV",
    b"SQLite format 3\x00": "an SQLite database; export the table as CSV or Parquet",
    b"\x89HDF": "an HDF5 file; save the table as CSV or Parquet",
    b"ARROW1": "an Arrow (Feather) file; save it as Parquet",
    b"Obj\x01": "an Avro file; save it as Parquet",
    b"\x80\x04\x95": "a Python pickle; save the table as CSV or Parquet",
    b"%PDF": "a PDF; save the table as CSV",
    **dict.fromkeys(
        (b"<!DOCTYPE", b"<!doctype", b"<html"), "a web page, not the data; download the file itself"
    ),
    b"<?xml": "XML; save the table as CSV",
    **dict.fromkeys(
        (b"INSERT INTO", b"CREATE TABLE", b"-- MySQL", b"-- MariaDB", b"--\n-- PostgreSQL"),
        "an SQL dump; export the table as CSV",
    ),
    b"version https://git-lfs": "a pointer of Git LFS, not the data; run 'git lfs pull'",
}
_ZEROS: Final = 0.02
"""Share of zero bytes above which a file is not text."""
_BAD_LINES: Final = 100
"""Maximum number of undecodable lines used to guess an encoding."""
_UTF8_MARK: Final = b"\xef\xbb\xbf"
_MARKS: Final = {
    _UTF8_MARK: "utf-8",
    b"\xff\xfe\x00\x00": "utf-32",
    b"\x00\x00\xfe\xff": "utf-32",
    b"\xff\xfe": "utf-16",
    b"\xfe\xff": "utf-16",
}
_BROKEN: Final = (
    EOFError, OSError, zlib.error, lzma.LZMAError, zipfile.BadZipFile, pa.ArrowException,
    NotImplementedError, RuntimeError, UnicodeError,
)  # fmt: skip
"""Exceptions raised by decompressors and decoders."""


class LineFile:
    r"""An open text file: iterates over its lines and reports its progress.

    Compression is detected from the first bytes, not the name; the encoding from a byte order
    mark or zero bytes, else it is UTF-8. Lines end with ``\n``, ``\r\n``, or ``\r`` if the file
    has no ``\n``. A byte order mark is dropped. Undecodable bytes of an 8-bit encoding are passed
    on unchanged, which makes the line invalid UTF-8.
    """

    def __init__(self, path: Path, options: ReadOptions | None = None) -> None:
        options = options or ReadOptions()
        self.path = path
        try:
            self._raw = path.open("rb", buffering=0)
            self._size = max(path.stat().st_size, 1)
        except (OSError, ValueError) as error:
            why = getattr(error, "strerror", None) or error
            raise InputError(f"{path} cannot be read: {why}") from error
        try:
            self._open(options)
        except BaseException:
            self._raw.close()
            raise

    def _open(self, options: ReadOptions) -> None:
        if self.path.suffix.lower() in (".xlsx", ".xls", ".ods"):
            raise InputError(f"{self.path} is a workbook", "save the sheet as CSV")
        magic = self._raw.read(_MAGIC_BYTES)
        self._raw.seek(0)
        _refuse(self.path, magic)
        compression = options.compression or _compression(magic)
        self._compression = compression
        try:
            stream = _unpacked(self.path, self._raw, compression)
            self._stream = io.BufferedReader(cast(Any, stream), HEAD)
            head = self._stream.peek(HEAD)[:HEAD]
        except _BROKEN as error:
            raise self._broken(error) from error
        if compression != "none":
            _refuse(self.path, head[:_MAGIC_BYTES])
            if _compression(head) != "none":
                raise InputError(f"{self.path} is compressed twice", "unpack it once")
            if head.startswith(b"PAR1"):
                raise InputError(f"{self.path} is a compressed Parquet file", "unpack it")
        if head[257:262] == b"ustar":
            raise InputError(f"{self.path} is a tar archive", "give its path, or unpack it")
        mark = next((mark for mark in _MARKS if head.startswith(mark)), b"")
        self.encoding = options.encoding or _MARKS.get(mark) or _wide(head) or "utf-8"
        wide = self.encoding.startswith(("utf-16", "utf_16", "utf-32", "utf_32"))
        if not wide and head.count(0) > max(_ZEROS * len(head), 8):
            raise InputError(
                f"{self.path} is not text: {head.count(0):,} of its first {len(head):,} bytes "
                "are zero",
                "give a text table, JSON lines or a Parquet file",
            )
        carriage = _lone_returns(head, self.encoding)
        self._lines: Iterator[bytes] = iter(self._stream)
        if carriage or self.encoding not in ("utf-8", "utf-8-sig"):
            errors = "replace" if wide else "surrogateescape"
            # Kept as an attribute, because its finaliser closes the file.
            self._text = io.TextIOWrapper(
                self._stream, self.encoding, errors, newline=None if carriage else "\n"
            )
            self._lines = (line.encode("utf-8", "surrogateescape") for line in self._text)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._raw.close()

    @property
    def fraction(self) -> float:
        """Fraction of the file (of its bytes on disk) read so far, 0 to 1."""
        return min(self._raw.tell() / self._size, 1.0)

    def __iter__(self) -> Iterator[bytes]:
        """Yield each line with its line end.

        Raises
        ------
        InputError
            If a compressed file is truncated or damaged.
        """
        try:
            for first in self._lines:
                yield first.removeprefix(_UTF8_MARK)
                break
            yield from self._lines
        except _BROKEN as error:
            raise self._broken(error) from error

    def _broken(self, error: Exception) -> InputError:
        kind = f"a broken {self._compression} file" if self._compression != "none" else "unreadable"
        return InputError(f"{self.path} is {kind} ({error})", "download or copy it again")


def head_lines(path: Path, options: ReadOptions, most: int) -> list[bytes]:
    """The first lines of a file, as UTF-8."""
    with LineFile(path, options) as lines:
        return list(islice(lines, most))


_WINDOWS: Final = {0x80, 0x84, 0x85, *range(0x91, 0x98), 0x99, *range(0xA0, 0xC0)}
"""Punctuation of cp1252: marks that Latin-1 lacks, and those of both."""


def likely_encoding(path: Path, options: ReadOptions) -> str:
    """Likely encoding of a non-UTF-8 file, guessed from the lines that fail to decode."""
    bad = []
    with LineFile(path, options) as lines:
        for line in lines:
            try:
                line.decode()
            except UnicodeDecodeError:
                bad.append(line)
                if len(bad) == _BAD_LINES:
                    break
    text = b"".join(bad)
    runs = re.findall(rb"[\x80-\xff]+", text)
    if all(len(run) < 3 and min(run) >= 0xA0 for run in runs):
        return "latin-1"  # isolated accented letters; short texts allow no better guess
    letters = sum(byte >= 0xC0 for byte in text)
    marks = [byte for byte in text if 0x80 <= byte < 0xC0]
    if all(len(run) < 3 for run in runs) and letters >= len(marks) and _WINDOWS.issuperset(marks):
        return "cp1252"  # the same with a Euro sign, dashes or typographic quotes
    from charset_normalizer import from_bytes  # rarely needed

    best = from_bytes(text).best()
    if best is None:
        return "latin-1"
    alike = {best.encoding, *best.could_be_from_charset}
    return "cp1252" if "cp1252" in alike else best.encoding.replace("_", "-")


def _compression(magic: bytes) -> str:
    return next((kind for start, kind in _MAGIC.items() if magic.startswith(start)), "none")


def _refuse(path: Path, magic: bytes) -> None:
    for start, what in _OTHER.items():
        if magic.startswith(start):
            kind, _, fix = what.partition("; ")
            raise InputError(f"{path} is {kind}", fix)


def _unpacked(path: Path, raw: IO[bytes], compression: str) -> Any:
    if compression == "none":
        return raw
    raw = cast(IO[bytes], io.BufferedReader(cast(Any, raw), HEAD))
    if compression == "gzip":
        return gzip.GzipFile(fileobj=raw)
    if compression == "bz2":
        return bz2.BZ2File(raw)
    if compression == "xz":
        return lzma.LZMAFile(raw)
    if compression == "zstd":
        return pa.CompressedInputStream(pa.PythonFile(raw, mode="r"), "zstd")
    archive = zipfile.ZipFile(raw)
    members = [
        member for member in archive.infolist() if not member.is_dir() and is_data(member.filename)
    ]
    if any(member.filename.startswith("xl/") for member in members):
        raise InputError(f"{path} is an Excel workbook", "save the sheet as CSV")
    if {member.filename for member in members} >= {"mimetype", "content.xml"}:
        raise InputError(f"{path} is a workbook", "save the sheet as CSV")
    if len(members) != 1:
        named = ", ".join(member.filename for member in members[:10]) or "no files"
        raise InputError(
            f"{path} is a zip of {len(members)} files: {named}",
            "give its path, or that of a file in it: "
            f"{path}/{members[0].filename if members else 'FILE'}",
        )
    return archive.open(members[0])


def is_data(name: str) -> bool:
    """Whether an archive member is data by its name, rather than added by an operating system."""
    return not name.startswith("__MACOSX/") and not name.rsplit("/", 1)[-1].startswith(".")


def _wide(head: bytes) -> str | None:
    """UTF-16 without a byte order mark: every second byte of the head is zero."""
    half = min(len(head), 2000) // 2
    if half < 2:
        return None
    zeros = (head[: 2 * half : 2].count(0), head[1 : 2 * half : 2].count(0))
    if zeros[1] > 0.4 * half and not zeros[0]:
        return "utf-16-le"
    return "utf-16-be" if zeros[0] > 0.4 * half and not zeros[1] else None


def _lone_returns(head: bytes, encoding: str) -> bool:
    if b"\r" not in head:
        return False
    text = head.decode(encoding, errors="replace")
    return "\r" in text[:-1] and "\n" not in text
