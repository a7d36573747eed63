"""Atomic publication of files and folders: written beside the target, synced, then renamed.

Readers always find the complete old or new artefact, even if the writer is killed:

1. The new artefact is written into a temporary folder beside the target,
   ``.<name>.<n>.twotower``, on which the writer holds a lock.
2. Its files and folders are synced to disk.
3. It takes the target's name. A file is renamed over the old one; a folder is exchanged with the
   old one in one step (Linux: ``renameat2`` with ``RENAME_EXCHANGE``). If the file system cannot
   do that, the old folder is first renamed to ``.<name>.old.twotower``; a writer killed right
   after that leaves the target missing, and the next writer moves the old folder back first.
4. The parent folder is synced, and the old one deleted.

Leftovers of a killed writer are removed by the next writer of the same target.
"""

import ctypes
import errno
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from twotower.errors import InputError

MARKS: Final = frozenset({"manifest.json", "model.json", "state.json"})
"""Manifest names: every folder that this package writes holds one of them."""
_SLOTS: Final = 4
"""Number of temporary folders checked for leftovers; more concurrent writers are allowed."""
_AT_FDCWD: Final = -100
_RENAME_EXCHANGE: Final = 2
_CANNOT_LOCK: Final = frozenset({errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP})
_CANNOT_EXCHANGE: Final = frozenset({errno.EINVAL, errno.ENOSYS, errno.EXDEV, errno.EOPNOTSUPP})


@contextmanager
def atomic_folder(target: Path) -> Iterator[Path]:
    """Yield a temporary folder beside ``target`` that takes its place on success.

    A failure inside the block leaves an existing ``target`` unchanged. If ``target`` is a
    symbolic link, the folder it points to is replaced.

    Raises
    ------
    InputError
        If ``target`` holds something that this package did not write: a slip such as
        ``--out ~/data`` must not delete a user's files.
    """
    target = Path(target).resolve()
    _restore(target)
    _refuse_foreign(target)
    target.parent.mkdir(parents=True, exist_ok=True)
    with _temporary(target) as temporary:
        yield temporary
        _sync_tree(temporary)
        _publish(temporary, target)


@contextmanager
def atomic_file(target: Path, *, durable: bool = True) -> Iterator[Path]:
    """Yield a temporary path that is renamed to ``target`` on success; its folder is created.

    ``durable`` syncs the file to disk; a cache of many small files can do without.
    """
    target = Path(target)
    target.parent.mkdir(parents=True, exist_ok=True)
    with _temporary(target) as folder:
        temporary = folder / target.name
        yield temporary
        temporary.chmod(0o644)  # some writers make private files
        publish_file(temporary, target, durable=durable)


def publish_file(temporary: Path, target: Path, *, durable: bool = True) -> None:
    """Rename a finished file to ``target``, synced first if ``durable``."""
    if durable:
        _sync(temporary)
    temporary.replace(target)
    if durable:
        _sync(target.parent)


def _refuse_foreign(target: Path) -> None:
    if target.is_file():  # one look: another writer may be renaming it
        raise InputError(f"{target} is a file, not a folder", "choose another name")
    lock = _locked(target, wait=True)  # wait while another writer deletes the replaced folder
    if lock is None:
        return
    present = {path.name for path in target.iterdir()}
    _unlock(lock)
    if present and not present & MARKS:
        raise InputError(
            f"{target} exists and was not written by twotower", "choose another folder"
        )


@contextmanager
def _temporary(target: Path) -> Iterator[Path]:
    """An empty, locked folder beside ``target``; leftovers of killed writers are removed."""
    taken: tuple[Path, int] | None = None
    slot = 0
    while taken is None or slot < _SLOTS:
        path = target.with_name(f".{target.name}.{slot}.twotower")
        if taken is None:
            with suppress(FileExistsError):
                path.mkdir()
        lock = _locked(path, wait=False)
        if lock is not None:
            _empty(path)
            if taken is None:
                taken = (path, lock)
            else:
                path.rmdir()
                os.close(lock)
        slot += 1
    path, lock = taken
    try:
        yield path
    finally:
        # After a folder was published, another writer may have this name.
        if _is_at(lock, path):
            shutil.rmtree(path, ignore_errors=True)
        os.close(lock)


def _publish(temporary: Path, target: Path) -> None:
    """Rename ``temporary`` to ``target``, and delete the artefact it replaces."""
    publishing = _locked(target.parent, wait=True)
    lock = old = None
    try:
        # Locked so that no writer mistakes the old folder for a leftover before it is deleted.
        lock = _locked(target, wait=True)
        if lock is None:
            temporary.rename(target)
        else:
            old = _replace_folder(temporary, target)
        _sync(target.parent)
        _unlock(publishing)
        publishing = None
        if old is not None:
            shutil.rmtree(old)
    finally:
        _unlock(publishing)
        _unlock(lock)


def _replace_folder(temporary: Path, target: Path) -> Path:
    """Replace the folder ``target`` by ``temporary``; return the path of the old folder."""
    if _exchange_in_one_step(temporary, target):
        return temporary
    aside = _aside(target)
    left = _locked(aside, wait=True)
    if left is not None:
        shutil.rmtree(aside)
        _unlock(left)
    target.rename(aside)
    try:
        temporary.rename(target)
    except BaseException:
        aside.rename(target)
        raise
    return aside


def _exchange_in_one_step(first: Path, second: Path) -> bool:
    """Exchange two paths in one step; False if the system or file system cannot."""
    rename = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if rename is None:
        return False
    paths = (_AT_FDCWD, os.fsencode(first), _AT_FDCWD, os.fsencode(second))
    if rename(*paths, _RENAME_EXCHANGE) == 0:
        return True
    code = ctypes.get_errno()
    if code in _CANNOT_EXCHANGE:
        return False
    raise OSError(code, os.strerror(code), str(second))


def _aside(target: Path) -> Path:
    return target.with_name(f".{target.name}.old.twotower")


def _restore(target: Path) -> None:
    """Move back the old folder of a writer that was killed between two renames."""
    aside = _aside(target)
    if not aside.exists():
        return
    publishing = _locked(target.parent, wait=True)
    lock = _locked(aside, wait=False)
    try:
        if lock is not None and target.exists():
            shutil.rmtree(aside)
        elif lock is not None:
            aside.rename(target)
    finally:
        _unlock(lock)
        _unlock(publishing)


def _locked(path: Path, *, wait: bool) -> int | None:
    """A locked descriptor of the folder; None if it is missing or locked by another process."""
    import fcntl

    while True:
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
        except FileNotFoundError:
            return None
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            os.close(descriptor)
            return None
        except OSError as error:
            if error.errno not in _CANNOT_LOCK:  # then two writers at once are not kept apart
                os.close(descriptor)
                raise
        if _is_at(descriptor, path):
            return descriptor
        os.close(descriptor)  # it was renamed or deleted meanwhile


def _unlock(descriptor: int | None) -> None:
    if descriptor is not None:
        os.close(descriptor)


def _is_at(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), os.stat(path))
    except FileNotFoundError:
        return False


def _empty(folder: Path) -> None:
    for path in folder.iterdir():
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()


def _sync_tree(folder: Path) -> None:
    for path in folder.iterdir():
        if path.is_dir():
            _sync_tree(path)
        else:
            _sync(path)
    _sync(folder)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
