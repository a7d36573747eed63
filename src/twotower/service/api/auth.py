"""API keys: scopes, the keys file, and the check of a key. Only hashes are stored."""

import hashlib
import hmac
import logging
import re
import secrets
import stat
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path
from typing import Final

from twotower.errors import InputError

logger = logging.getLogger(__name__)

_LINE: Final = re.compile(r"([\w.-]{1,64})\s+(read|write|admin)\s+sha256:([0-9a-f]{64})")
_MAKE_ONE: Final = "make one with: twotower key NAME --scope read --keys FILE"
PREFIX: Final = "tt_"
"""Prefix of every key, so that leaked keys are recognised."""


class Scope(IntEnum):
    """Scope of a key; each includes the lower ones."""

    NONE = 0
    READ = 1
    WRITE = 2
    ADMIN = 3


@dataclass(frozen=True, slots=True)
class ApiKey:
    """A stored key, with a name for the log and the metrics.

    ``digest`` is its sha256. Keys are 256 random bits, so a slow hash would add no security.
    """

    name: str
    scope: Scope
    digest: bytes


def new_key(name: str, scope: Scope) -> tuple[str, str]:
    """A new key, to be shown once, and its line for the keys file."""
    key = PREFIX + secrets.token_urlsafe(32)
    line = f"{name} {scope.name.lower()} sha256:{_digest(key).hex()}"
    if scope is Scope.NONE or not _LINE.fullmatch(line):
        raise InputError(
            f"name must be up to 64 letters, digits, '.', '_' or '-', got {name[:100]!r}"
        )
    return key, line


def read_keys(file: Path) -> list[ApiKey]:
    """Keys of a file: one per line, ``name scope sha256:hash``; ``#`` begins a comment.

    Raises
    ------
    InputError
        If the file cannot be read or is not text, and at an invalid line. Only the line number is
        named, since the line may hold a key by mistake.
    """
    try:
        if file.exists() and not file.is_file():
            raise InputError(f"the keys file {file} is not a file", _MAKE_ONE)
        text = file.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise InputError(
            f"the keys file {file} cannot be read ({error.strerror})", _MAKE_ONE
        ) from None
    except UnicodeDecodeError:
        raise InputError(
            f"the keys file {file} is not text in UTF-8", "save it as UTF-8, one key a line"
        ) from None
    keys = []
    for number, line in enumerate(text.splitlines(), start=1):
        entry = line.split("#")[0].strip()
        if not entry:
            continue
        found = _LINE.fullmatch(entry)
        if not found:
            raise InputError(
                f"line {number} of the keys file is not 'name scope sha256:hash'", _MAKE_ONE
            )
        name, scope, digest = found.groups()
        keys.append(ApiKey(name, Scope[scope.upper()], bytes.fromhex(digest)))
    return keys


class KeysFile:
    """The keys of a file, reread when the file changes; no keys without a file.

    Raises as `read_keys`.
    """

    def __init__(self, file: Path | None) -> None:
        self._file = file
        self._state = _state(file)  # before reading, so that a concurrent change is noticed later
        self._keys: Sequence[ApiKey] = [] if file is None else read_keys(file)

    def find(self, given: str) -> ApiKey | None:
        """Find a given key in the current file, or None.

        If the file becomes invalid, the previous keys stay in use, and that is logged once.
        """
        state = _state(self._file)
        if state != self._state:
            self._state = state
            self._read_again()
        return find_key(self._keys, given)

    def _read_again(self) -> None:
        assert self._file is not None
        try:
            keys = read_keys(self._file)
        except InputError as error:
            logger.error("the keys before go on: %s", error)
            return
        self._keys = keys
        logger.info("keys read again", extra={"fields": {"keys": len(keys)}})
        self.log_warnings()

    def log_warnings(self) -> None:
        """Log likely mistakes: duplicate names, a file that others may write."""
        for name, count in Counter(key.name for key in self._keys).items():
            if count > 1:
                logger.warning(
                    "%d keys are named %r: they share one rate, and the log cannot tell them "
                    "apart; give each a name of its own", count, name,
                )  # fmt: skip
        if self._file is None:
            return
        with suppress(OSError):
            if self._file.stat().st_mode & (stat.S_IWGRP | stat.S_IWOTH):
                logger.warning("others may write the keys file: chmod 600 %s", self._file)


def _state(file: Path | None) -> tuple[int, ...] | None:
    """A value that changes whenever the file does; None without a file."""
    if file is None:
        return None
    try:
        found = file.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_ctime_ns, found.st_ino, found.st_dev, found.st_size


def find_key(keys: Sequence[ApiKey], given: str) -> ApiKey | None:
    """Find a given key, or None. Takes the same time for any key, known or not."""
    digest = _digest(given)
    found = None
    for key in keys:
        if hmac.compare_digest(key.digest, digest):
            found = key
    return found


def _digest(key: str) -> bytes:
    return hashlib.sha256(key.encode("utf-8", "surrogateescape")).digest()
