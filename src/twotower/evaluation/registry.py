"""Registry of evaluation protocols by name."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal

from twotower.errors import InputError
from twotower.evaluation.tasks import AllUsers, CutHistory, KnownUsers, NewItems, NewUsers, Task

FULL: Final = "full"
"""Rank among the whole catalogue without the query's history."""
FULL_UNMASKED: Final = "full-unmasked"
"""Rank among the whole catalogue, including seen items."""
FULL_TIMED: Final = "full-timed"
"""Like `FULL`, but the model gets the time of the target, as a service knows the time."""
SAMPLED: Final = "sampled-100"
"""Rank among 100 sampled negatives."""
PROTOCOLS: Final = (FULL, FULL_UNMASKED, SAMPLED)
"""The default protocols."""

HISTORY_SIZES: Final = (3, 5, 10, 20, None)
"""Numbers of newest items given to the model in the cold-start tables; None for all."""
FEWEST: Final = 20
"""Minimum history length in the same-users table, so that every size is defined."""
SEGMENTS: Final = ((0, 4), (5, 7), (8, 15), (16, 30), (31, None))
"""Shortest and longest history of each segment, both included."""


@dataclass(frozen=True)
class Protocol:
    """A task, its candidates, and the reported metrics."""

    task: Task
    """Queries and targets; protocols of the same task share one pass over the scores."""
    among: Literal["unseen", "all", "sampled"] = "unseen"
    """``unseen`` and ``all`` as in `twotower.evaluation.ranking.Candidates`; ``sampled`` for 100
    negatives."""
    whole: bool = True
    """Whether the metrics over all queries are reported, under the protocol's name."""
    segments: str | None = None
    """Prefix of additional reports by history length (segment names follow); None for none."""
    lists: bool = False
    """Whether the metrics of `twotower.evaluation.beyond_accuracy` are reported."""


def segment_names(prefix: str) -> dict[str, tuple[int, int | None]]:
    """Name of each segment's rows → its shortest and longest history.

    >>> list(segment_names("activity"))
    ['activity-0-4', 'activity-5-7', 'activity-8-15', 'activity-16-30', 'activity-31+']
    """
    return {
        f"{prefix}-{low}+" if high is None else f"{prefix}-{low}-{high}": (low, high)
        for low, high in SEGMENTS
    }


def _cut(least: int, suffix: str = "") -> dict[str, Protocol]:
    return {
        f"history-{size or 'full'}{suffix}": Protocol(CutHistory(size, least))
        for size in HISTORY_SIZES
    }


_SAME_USERS: Final = _cut(FEWEST)
_ALL_USERS: Final = _cut(0, "-all")
_HELD_OUT: Final = {
    "new-users": Protocol(NewUsers(), segments="new-users"),
    "known-users": Protocol(KnownUsers(), segments="known-users"),
    "new-items": Protocol(NewItems()),
}

REGISTRY: Final[Mapping[str, Protocol]] = {
    FULL: Protocol(AllUsers()),
    FULL_UNMASKED: Protocol(AllUsers(), "all"),
    FULL_TIMED: Protocol(AllUsers(timed=True)),
    SAMPLED: Protocol(AllUsers(), "sampled"),
    "by-activity": Protocol(AllUsers(), whole=False, segments="activity"),
    "beyond-accuracy": Protocol(AllUsers(), whole=False, lists=True),
    **_SAME_USERS,
    **_ALL_USERS,
    **_HELD_OUT,
}
"""Name → protocol."""

GROUPS: Final[Mapping[str, tuple[str, ...]]] = {
    "cold-start": tuple(_SAME_USERS),
    "cold-start-all": tuple(_ALL_USERS),
    "hold-outs": tuple(_HELD_OUT),
}
"""Name of a table → its protocols."""


def by_name(names: Sequence[str]) -> dict[str, Protocol]:
    """The protocols of the given names and groups, each once, in the order given.

    >>> list(by_name(["hold-outs", "full", "new-items"]))
    ['new-users', 'known-users', 'new-items', 'full']

    Raises
    ------
    InputError
        No name, or one that is neither a protocol's nor a group's.
    """
    if not names:
        raise InputError("no protocol to evaluate", f"pass one of {', '.join(REGISTRY)}")
    found: dict[str, Protocol] = {}
    for name in names:
        for member in GROUPS.get(name, (name,)):
            if member not in REGISTRY:
                raise InputError(
                    f"unknown protocol {name!r}",
                    f"pass one of {', '.join(REGISTRY)}, or a group of them: {', '.join(GROUPS)}",
                )
            found[member] = REGISTRY[member]
    return found
