"""Artefact folders: recognise data set, model and bundle; messages for the wrong kind."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Final, Literal, TypeAlias

Kind: TypeAlias = Literal["prepared data set", "trained model", "bundle"]

_MARK: Final[dict[Kind, str]] = {
    "prepared data set": "manifest.json",
    "trained model": "model.json",
    "bundle": "manifest.json",
}
_WRITTEN_BY: Final[dict[Kind, str]] = {
    "prepared data set": "twotower prepare",
    "trained model": "twotower train",
    "bundle": "twotower index",
}
_INSTEAD: Final[dict[tuple[Kind, Kind], str]] = {
    ("prepared data set", "bundle"): "train a model on it with 'twotower train', and make a "
    "bundle of the model with 'twotower index'",
    ("trained model", "bundle"): "make a bundle of it with 'twotower index'",
}
"""(Given kind, wanted kind) → how to make the wanted artefact."""
_LOOKED_INTO: Final = ("*", "*/*", "*/*/*")
_MOST: Final = 1_000
"""Folders that are looked into, so that a slip such as ``/`` does not search a disk."""


def kind_of(folder: Path) -> Kind | None:
    """Kind of artefact in a folder, by its manifest; None if this package did not write it."""
    if (folder / "model.json").is_file():
        return "trained model"
    try:
        manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None
    if not isinstance(manifest, dict):
        return None
    if "model_version" in manifest:
        return "bundle"
    return "prepared data set" if "fingerprint" in manifest else None


def why_not(folder: Path, wanted: Kind, error: object, again: str | None = None) -> str:
    """Message: why a folder is not an artefact of the wanted kind, and what to give instead.

    ``error`` is what went wrong, where it is of the wanted kind and damaged, and ``again`` the fix
    for that; by default to run the command that writes it.
    """
    command = _WRITTEN_BY[wanted]
    if not folder.is_dir():
        what = "a file" if folder.exists() else "not there"
        return (
            f"{folder} is not a readable {wanted}: it is {what}; "
            f"give the folder that '{command}' wrote"
        )
    found = kind_of(folder)
    if found is not None and found != wanted:
        inner = _inner(folder, wanted)
        fix = f"give {inner}" if inner else _INSTEAD.get((found, wanted))
        return (
            f"{folder} is a {found}, not a {wanted}; "
            f"{fix or f'give the folder that {command!r} wrote'}"
        )
    if found is None and (inner := _inner(folder, wanted)):
        return f"{folder} is not a {wanted}, but holds {inner.relative_to(folder)}; give {inner}"
    if not (folder / _MARK[wanted]).is_file():
        fix = f"give the folder that '{command}' wrote"
        if wanted == "bundle":
            fix += f", or {again}"
        if wanted == "prepared data set":
            fix = (
                f"prepare it first with 'twotower prepare {folder} --out …', and give what it wrote"
            )
        return f"{folder} is not a {wanted}: {folder / _MARK[wanted]} is missing; {fix}"
    return f"{folder} is not a readable {wanted} ({error}); {again or f'run {command!r} again'}"


def _inner(folder: Path, wanted: Kind) -> Path | None:
    """The first folder of the wanted kind below this one."""
    return next((inner for inner in _below(folder) if kind_of(inner) == wanted), None)


def _below(folder: Path) -> Iterator[Path]:
    left = _MOST
    for pattern in _LOOKED_INTO:
        for inner in sorted(folder.glob(pattern)):
            if left and inner.is_dir() and not inner.name.startswith("."):
                left -= 1
                yield inner
