"""Split selection: splits that a log allows, and reasons for an empty part."""

from collections.abc import Sequence
from typing import Final

import numpy as np
from pydantic import TypeAdapter

from twotower.data import columns
from twotower.data.dataset import Dataset, Part
from twotower.data.guesses import likely_time, parts_of_date
from twotower.data.readers import Source
from twotower.data.splits import (
    HELD_OUT,
    FileOrder,
    Given,
    GlobalTime,
    LeaveLastTwo,
    PartArray,
    Random,
    Split,
    global_time,
)
from twotower.errors import InputError
from twotower.types import IndexArray, OffsetArray

MANY_TIED: Final = 0.1
"""A note is made if more than this share of test interactions are last only by file order."""
LEAST_TESTED: Final = 20
"""Minimum number of test interactions for a note about their items."""
MANY_UNSEEN: Final = 0.5
"""A note is made if more than this share of test interactions have items unseen in training."""
_SPLIT: Final[TypeAdapter[Split]] = TypeAdapter(Split)


def choose_split(split: Split | None, source: Source) -> Split:
    """The requested split, or the default for the log: `Given` by its files, else `LeaveLastTwo`.

    Raises
    ------
    InputError
        If the log lacks what the split needs; the message lists the splits it allows.
    """
    log, parts = source.logs[0], source.has_parts
    times = columns.TIMESTAMP in source.columns
    ordered = times or columns.ORDER in source.columns
    if split is None:
        if parts:
            return Given()
        if ordered:
            return LeaveLastTwo()
        present = log.found.present
        listed = ", ".join(map(repr, present[:20])) or "no columns"
        random, file_order = "drawn from a seed", "rows as in the file, a user's last held out"
        dates = parts_of_date(present) or (likely_time(log) or "…",)
        time = repr(dates if len(dates) > 1 else dates[0])
        cli = f"time={','.join(dates)}"
        raise InputError(
            f"cannot determine the time column of {log.path}, it has {listed}",
            f"name it: ColumnMapping(time={time}), in from_frames columns={{'time': {time}}} "
            "(or order, where it has places and no times); or "
            f"choose the split 'random' ({random}) or 'file-order' ({file_order})",
            cli_fix=f"name it: --column {cli} (or order, where it has places and no times); or "
            f"pass --split random ({random}) or --split file-order ({file_order})",
        )
    usable = {"leave-last-two": ordered, "global-time": times, "rolling": times, "given": parts}
    names = [kind for kind, can in usable.items() if can] + ["random", "file-order"]
    if usable.get(split.kind, True):
        return split
    lacks = {
        "given": "is no training file with a test file beside it",
        "global-time": "has no times",
        "rolling": "has no times",
        "leave-last-two": "has neither times nor an order",
    }
    raise InputError(
        f"split is {split.kind!r}, but {log.path} {lacks[split.kind]}",
        f"choose the split {_either([repr(name) for name in names])}",
        cli_fix=f"pass --split {_either(names)}",
    )


def _either(names: Sequence[str]) -> str:
    return f"{', '.join(names[:-1])} or {names[-1]}"


def split_notes(
    split: Split,
    parts: PartArray,
    given: PartArray | None,
    lengths: OffsetArray,
    times: OffsetArray | None,
) -> list[str]:
    """Warnings about the parts of a split, one sentence each; usually none.

    Examples
    --------
    >>> import numpy as np
    >>> nothing = np.zeros(4, np.uint8)
    >>> split_notes(LeaveLastTwo(), nothing, None, np.array([2, 2]), np.arange(4))
    ["no user has three interactions, so leave-last-two holds none out; choose the split \
'global-time' or 'random'"]
    """
    held_out = {part for part in (Part.VALIDATION, Part.TEST) if (parts == part).any()}
    if isinstance(split, Given) and given is not None and Part.VALIDATION in held_out:
        drawn = int((parts == Part.VALIDATION).sum())
        if not (given == Part.VALIDATION).any():
            return [f"no validation file: {drawn:,} training interactions are held out for it"]
    if len(held_out) < 2:
        return [f"{_nothing_held_out(split, lengths)}; {_way_out(split, lengths, times)}"]
    if isinstance(split, LeaveLastTwo) and times is not None:
        last = np.flatnonzero(parts == Part.TEST)
        tied = int((times[last] == times[last - 1]).sum())  # something comes before each
        if tied > MANY_TIED * len(last):
            return [
                f"{tied:,} of {len(last):,} test interactions have the time of the one before: "
                "the order of the file makes them the last; where it says nothing, choose the "
                "split 'random'"
            ]
    return []


def unseen_note(parts: PartArray, items: IndexArray) -> list[str]:
    """Warning if most test interactions have items unseen in training; usually none.

    Examples
    --------
    >>> import numpy as np
    >>> parts = np.repeat(np.array([Part.TRAIN, Part.TEST], np.uint8), 20)
    >>> unseen_note(parts, np.arange(40) % 20)
    []
    >>> unseen_note(parts, np.arange(40) % 35)
    ['15 of 20 test interactions are with items that have none in training: only models that read \
titles and attributes can find these']
    """
    tested = items[parts == Part.TEST]
    unseen = int((~np.isin(tested, items[parts == Part.TRAIN])).sum())
    if len(tested) < LEAST_TESTED or unseen <= MANY_UNSEEN * len(tested):
        return []
    return [
        f"{unseen:,} of {len(tested):,} test interactions are with items that have none in "
        "training: only models that read titles and attributes can find these"
    ]


def empty_parts(dataset: Dataset) -> tuple[str, str]:
    """Why a part of a prepared data set is empty, and a split that would fill it."""
    recorded = dataset.summary.get("settings", {}).get("split") or {"kind": "leave-last-two"}
    split = _SPLIT.validate_python(recorded)
    lengths, times = dataset.interactions.lengths, dataset.interactions.timestamps
    return _nothing_held_out(split, lengths), _way_out(split, lengths, times)


def _can_cut(times: OffsetArray | None) -> bool:
    """Whether two cut-off times can divide the log into three parts."""
    if times is None:
        return False
    try:
        return len(np.unique(global_time(times, GlobalTime()))) == len(Part)
    except InputError:  # all of one moment
        return False


def _nothing_held_out(split: Split, lengths: OffsetArray) -> str:
    """Why a part that the split usually fills is empty."""
    longest = int(lengths.max(initial=0))
    if isinstance(split, LeaveLastTwo | FileOrder) and longest <= HELD_OUT:
        return f"no user has three interactions, so {split.kind} holds none out"
    if isinstance(split, Random) and longest < 2:
        return "no user has two interactions, so random holds none out"
    if isinstance(split, Given):
        return "its files give no validation or no test part"
    return f"{split.kind} leaves validation or test empty"


def _way_out(split: Split, lengths: OffsetArray, times: OffsetArray | None) -> str:
    """Instruction: a split that would fill the parts that this split leaves empty."""
    longest = int(lengths.max(initial=0))
    if isinstance(split, Given) and not split.validation and longest > 1:
        return "let validation be a share of the training file, such as 0.1"
    usable = ["global-time"] if split.kind != "global-time" and _can_cut(times) else []
    if longest > 1 and not isinstance(split, Random):
        usable.append("random")
    if not usable:
        return "give a log in which users have more interactions"
    return f"choose the split {' or '.join(map(repr, usable))}"
