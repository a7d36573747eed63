"""API keys: what each allows, and how they are told apart. Only their hashes are kept."""

import hashlib
import hmac
import re
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path
from typing import Final

from twotower.errors import InputError

_LINE: Final = re.compile(r"([\w.-]{1,64})\s+(read|write|admin)\s+sha256:([0-9a-f]{64})")
PREFIX: Final = "tt_"
"""Begins every key, so that one that leaked is recognised."""


class Scope(IntEnum):
    """What a key allows; each allows what those below it do."""

    NONE = 0
    READ = 1
    WRITE = 2
    ADMIN = 3


@dataclass(frozen=True, slots=True)
class ApiKey:
    """A key as it is kept.

    Attributes
    ----------
    name
        For the log and the metrics.
    scope
        What it allows.
    digest
        sha256 of the key. Keys are 256 random bits, so that a slow hash would add nothing.
    """

    name: str
    scope: Scope
    digest: bytes


def new_key(name: str, scope: Scope) -> tuple[str, str]:
    """A new key, which is shown once, and the line of the keys file for it."""
    key = PREFIX + secrets.token_urlsafe(32)
    line = f"{name} {scope.name.lower()} sha256:{_digest(key).hex()}"
    if scope is Scope.NONE or not _LINE.fullmatch(line):
        raise InputError(
            f"name must be up to 64 letters, digits, '.', '_' or '-', got {name[:100]!r}"
        )
    return key, line


def read_keys(file: Path) -> list[ApiKey]:
    """Keys of a file: one a line, ``name scope sha256:hash``; ``#`` begins a comment.

    Raises
    ------
    InputError
        At a line that is none, by its number alone: a key may have been put there by mistake.
    """
    keys = []
    for number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), start=1):
        text = line.split("#")[0].strip()
        if not text:
            continue
        found = _LINE.fullmatch(text)
        if not found:
            raise InputError(
                f"line {number} of the keys file is not 'name scope sha256:hash'",
                "make one with: twotower key NAME --scope read",
            )
        name, scope, digest = found.groups()
        keys.append(ApiKey(name, Scope[scope.upper()], bytes.fromhex(digest)))
    return keys


def find_key(keys: Sequence[ApiKey], given: str) -> ApiKey | None:
    """The key that was given, or None. Takes as long whichever it is, and whether there is one."""
    digest = _digest(given)
    found = None
    for key in keys:
        if hmac.compare_digest(key.digest, digest):
            found = key
    return found


def _digest(key: str) -> bytes:
    return hashlib.sha256(key.encode("utf-8", "surrogateescape")).digest()
