"""Memory estimates for training, and detection of killed and concurrent runs."""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from twotower.data import Dataset
from twotower.data.atomic import atomic_file
from twotower.errors import InputError
from twotower.locks import locked
from twotower.machine import GB, LIMIT, available_memory, number_after
from twotower.models.sequence_towers import SequenceConfig
from twotower.training.variant import Variant

MARKER: Final = "running.json"
"""File beside the checkpoints while a training runs."""
LOCK: Final = "running.lock"
"""Lock file of the training, beside it."""
_BASE: Final = 700_000_000
"""Bytes of Python, PyTorch, Polars and a step of training."""
_PER_INTERACTION: Final = 250
"""Bytes: the log and its parts, both orders of the interactions, the plan of an epoch."""
_PER_NAME: Final = 500
"""Bytes of an id, and of an item's text."""
_STATES: Final = 7
"""Copies of what is trained: weights, gradient, two moments, average, best, and its successor."""
_TABLES: Final = 6
"""Copies of item tables that are not trained: in use, best, its successor, while they are made."""
_TEXT_COPIES: Final = 2
_NOTED: Final = 2 * GB
"""Bytes from which a training states its memory."""


def estimated_peak(variant: Variant, dataset: Dataset) -> int:
    """Bytes that training a variant, with its sizes fixed, is expected to take at its peak.

    Counted from the numbers of interactions, users and items and the widths of the tables, for the
    largest stage: least squares, which holds a factor of every user, or the towers. The arithmetic
    is in ``docs/scale.md``.
    """
    events, users = len(dataset.interactions.items), len(dataset.users)
    items, model = len(dataset.items), variant.model
    steady = _BASE + _PER_INTERACTION * events + _PER_NAME * (users + items)
    text = 4 * 384 * items * _TEXT_COPIES if "text" in model.inputs_needed else 0
    width = model.embedding_dim
    if not isinstance(model, SequenceConfig):
        return steady + text + 4 * width * (users + items) * _STATES
    factors = 0 if model.factors is None else model.factors.embedding_dim
    least_squares = 4 * factors * (users + 3 * items)
    towers = 4 * items * (width * _STATES + 2 * factors * _TABLES + 2 * model.text_components)
    return steady + text + max(least_squares + 4 * items * width, towers)


def check_memory(variant: Variant, dataset: Dataset) -> str | None:
    """One line about the expected memory of training; `InputError` if less is available.

    None for a training that needs little.
    """
    needed, left = estimated_peak(variant, dataset), available_memory()
    if needed < _NOTED and (left is None or needed <= left):
        return None
    line = (
        f"training on {len(dataset.interactions.items):,} interactions of "
        f"{len(dataset.users):,} users with {len(dataset.items):,} items takes about "
        f"{needed / GB:.1f} GB of memory"
    )
    if left is None:
        return line
    if needed > left:
        raise InputError(
            f"{line}, and {left / GB:.1f} GB are available",
            "prepare with a larger k-core, pass --settings with a smaller embedding_dim of the "
            f"model or of its factors, or, to try all the same, set {LIMIT}={needed / GB:.0f}",
        )
    return f"{line}, {left / GB:.1f} GB are available"


@contextmanager
def marked_run(folder: Path) -> Iterator[str | None]:
    """Context with a marker file in ``folder``, which a killed training leaves behind.

    Yields
    ------
    A line about the previous run if it was killed, else None.

    Raises
    ------
    InputError
        Where another process trains there: both would write the same checkpoints.
    """
    marker, lock = folder / MARKER, folder / LOCK
    folder.mkdir(parents=True, exist_ok=True)
    refusal = InputError(
        f"another process trains this model, with its checkpoints in {folder}",
        "wait until it ends, or choose another output folder",
    )
    try:
        with locked(lock, refusal):
            line = _killed(marker)
            with atomic_file(marker) as temporary:
                temporary.write_text(json.dumps({"pid": os.getpid(), "kills": _memory_kills()}))
            try:
                yield line
            finally:
                marker.unlink(missing_ok=True)
                lock.unlink(missing_ok=True)
    finally:
        with suppress(OSError):  # it holds checkpoints
            folder.rmdir()


def _killed(marker: Path) -> str | None:
    """What to say of the run that left a marker."""
    try:
        left = json.loads(marker.read_text())
        pid, kills = int(left["pid"]), left["kills"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    if pid != os.getpid() and _runs(pid):
        return None
    now = _memory_kills()
    why = "killed"
    if kills is not None and now is not None and now > kills:
        why = "killed, for lack of memory as it seems"
    return f"the last run of this training was {why}; it goes on from its last checkpoint"


def _runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _memory_kills() -> int | None:
    """Processes that this machine has killed for lack of memory since it started."""
    return number_after(Path("/proc/vmstat"), "oom_kill")
