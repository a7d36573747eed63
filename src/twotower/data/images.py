"""Item image files: download addresses, resolve paths below a folder, report the missing."""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import polars as pl

from twotower.data import columns
from twotower.data.atomic import atomic_file

if TYPE_CHECKING:
    from twotower.data.download.images import FetchedImage

WEB: Final = ("http://", "https://")
"""URL prefixes; anything else is a path."""


@dataclass(frozen=True, slots=True)
class ImageReject:
    """An image of an item that cannot be used."""

    item: str
    image: str
    reason: str


@dataclass(frozen=True)
class LocatedImages:
    """The images of a catalogue."""

    names: Sequence[str | None]
    """Value of each item's ``image``, None where it is null."""
    paths: Sequence[Path | None]
    """The file of each item, None where there is none."""
    rejects: dict[int, str]
    """Item → why its image is not available."""


def locate_images(
    catalogue: pl.DataFrame,
    folder: Path | None,
    fetch: "Callable[[Sequence[str]], Mapping[str, FetchedImage]]",
) -> LocatedImages:
    """Find the image of every item: addresses by ``fetch``, paths below ``folder``.

    A path that leads out of the folder is refused, because a catalogue is untrusted input.
    ``fetch`` does as `twotower.data.download.images.fetch_images`; it is called where there are
    addresses.
    """
    names: list[str | None] = catalogue[columns.IMAGE].to_list()
    urls = [name for name in names if name is not None and name.startswith(WEB)]
    fetched = fetch(urls) if urls else {}
    paths: list[Path | None] = []
    rejects: dict[int, str] = {}
    for row, name in enumerate(names):
        path: Path | None = None
        reason: str | None = None
        if name is not None and name in fetched:
            path, reason = fetched[name].path, fetched[name].reason
        elif name is not None:
            path, reason = _below(folder, name)
        if reason is not None:
            rejects[row] = reason
        paths.append(path)
    return LocatedImages(names, paths, rejects)


def write_image_rejects(path: Path, rejects: Iterable[ImageReject]) -> None:
    """JSON lines with ``item``, ``image`` and ``reason``, whole or not at all."""
    with atomic_file(path) as temporary, temporary.open("w", encoding="utf-8") as file:
        for reject in rejects:
            file.write(json.dumps(asdict(reject), ensure_ascii=False) + "\n")


def _below(folder: Path | None, name: str) -> tuple[Path | None, str | None]:
    """The file of a path, or the reason why there is none."""
    if folder is None:
        return None, "a path, and no folder of images is known"
    try:
        path = (folder / name).resolve()
        if not path.is_relative_to(folder.resolve()):
            return None, "leads out of the folder of images"
        return (path, None) if path.is_file() else (None, "no such file")
    except (OSError, ValueError):  # too long, or with a null byte
        return None, "not a path"
