"""Bundles beside each other: which folder a name means, and nothing more of it in an answer."""

import re
from pathlib import Path
from typing import Final

from twotower.errors import InputError

_NAME: Final = re.compile(r"[A-Za-z0-9][\w.-]{0,99}")


def bundle_folder(configured: Path, name: str | None) -> Path:
    """The folder of that name beside the configured one; that itself where there is no name.

    Raises
    ------
    InputError
        At a name that could be a path.
    """
    if name is None:
        return configured
    if not _NAME.fullmatch(name):
        raise InputError(
            f"bundle must be the name of a folder beside the served one, got {name[:100]!r}",
            "use letters, digits, '.', '_' and '-'",
        )
    return configured.parent / name


def without_path(message: str, folder: Path) -> str:
    """An error's text with the bundle's folder named by its last part alone."""
    return message.replace(str(folder), folder.name)
