"""SHA-256 of a file."""

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Final

_BLOCK_BYTES: Final = 1 << 18


def file_sha256(path: Path, pause: Callable[[], None] | None = None) -> str:
    """SHA-256 of a file's bytes in hexadecimal; ``pause`` is called after each block of 256 KiB.

    Raises
    ------
    OSError
        Where it cannot be read.
    """
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(_BLOCK_BYTES):
            digest.update(block)
            if pause is not None:
                pause()
    return digest.hexdigest()
