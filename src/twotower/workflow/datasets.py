"""Known data sets by name, with their location and preparation settings."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from twotower.data.sample import sample_folder
from twotower.data.settings import PrepareSettings
from twotower.errors import InputError

DATA_VARIABLE: Final = "TWOTOWER_DATA"
"""Environment variable that names the folder with data sets."""


@dataclass(frozen=True)
class KnownDataset:
    """A data set with a name of its own."""

    folder: Callable[[], Path]
    """Returns its location."""
    settings: PrepareSettings
    """Preparation settings."""
    fetch: str | None = None
    """The command that downloads it, to be followed by the folder; None without one."""


def _in_data_folder(name: str) -> Path:
    root = os.environ.get(DATA_VARIABLE)
    if not root:
        raise InputError(
            f"data set {name!r} is looked for in the folder that {DATA_VARIABLE} names, "
            "which is not set",
            f"set {DATA_VARIABLE}, or pass the path of the data set itself",
        )
    return Path(root) / name


KNOWN: Final = {
    "sample": KnownDataset(sample_folder, PrepareSettings()),
    # The public training histories are filtered already, and lack each user's last two.
    "video-games": KnownDataset(
        lambda: _in_data_folder("video-games-2023"), PrepareSettings(k_core=0)
    ),
    # The published 5-core of the same category, of which the files say the three parts.
    "official": KnownDataset(
        lambda: _in_data_folder("video-games-official"),
        PrepareSettings(k_core=0),
        fetch="twotower download video-games --kind last_out --out",
    ),
    "ml-100k": KnownDataset(lambda: _in_data_folder("ml-100k"), PrepareSettings()),
    "gowalla": KnownDataset(lambda: _in_data_folder("gowalla"), PrepareSettings(k_core=0)),
}


def is_known(name: str) -> bool:
    """Whether this names a data set. A file or folder of that name in the working directory comes
    first where ``TWOTOWER_DATA`` is not set.
    """
    is_found_by_name = name == "sample" or os.environ.get(DATA_VARIABLE) or not Path(name).exists()
    return name in KNOWN and bool(is_found_by_name)


def find_dataset(name_or_path: str) -> tuple[Path, PrepareSettings]:
    """Folder or file of a data set, and the settings that suit it.

    Raises
    ------
    InputError
        If neither such a name nor such a path exists.
    """
    known = KNOWN[name_or_path] if is_known(name_or_path) else None
    path = known.folder() if known else Path(name_or_path)
    if not path.exists():
        names = ", ".join(KNOWN)
        fetched = known.fetch if known else None
        raise InputError(
            f"data set {name_or_path!r} not found: {path} does not exist",
            f"run {fetched} {path}" if fetched else f"pass a path, or one of {names}",
        )
    return path, known.settings if known else PrepareSettings()
