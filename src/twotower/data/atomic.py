"""Write a file or a folder whole or not at all: to a temporary name, then renamed."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from twotower.errors import InputError

MARKS: Final = frozenset({"manifest.json", "model.json", "state.json"})
"""One of these is in every folder that this package writes: of a data set or bundle, a model, or a
checkpoint."""


@contextmanager
def atomic_folder(target: Path) -> Iterator[Path]:
    """Yield a temporary folder beside ``target`` that takes its place on success.

    An existing ``target`` is replaced in two renames; a failure inside the block leaves it
    as it was and removes the temporary folder.

    Raises
    ------
    InputError
        Where ``target`` holds something that this package did not write: a slip such as
        ``--out ~/data`` must not delete a user's files.
    """
    target = Path(target)
    _check_is_ours(target)
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=target.parent))
    try:
        yield temporary
        temporary.chmod(0o755)  # mkdtemp makes it private
        if target.exists():
            retired = Path(tempfile.mkdtemp(prefix=f".{target.name}-old-", dir=target.parent))
            target.rename(retired / target.name)
            try:
                temporary.rename(target)
            except BaseException:
                (retired / target.name).rename(target)
                raise
            finally:
                shutil.rmtree(retired)
        else:
            temporary.rename(target)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _check_is_ours(target: Path) -> None:
    held = {path.name for path in target.iterdir()} if target.exists() else set()
    if held and not held & MARKS:
        raise InputError(
            f"{target} exists and was not written by twotower", "choose another folder"
        )


@contextmanager
def atomic_file(target: Path) -> Iterator[Path]:
    """Yield a temporary path beside ``target`` that is renamed to it on success."""
    target = Path(target)
    target.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f".{target.name}-", dir=target.parent)
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        temporary.chmod(0o644)  # mkstemp makes it private
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)
