"""Every protocol by name, as data; `by_name` finds them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal

from twotower.errors import InputError
from twotower.evaluation.tasks import Ask, CutHistory, Everyone, KnownUsers, NewItems, NewUsers

FULL: Final = "full"
"""Rank among the whole catalogue without the query's history."""
FULL_UNMASKED: Final = "full-unmasked"
"""Rank among the whole catalogue, what the query has seen included."""
SAMPLED: Final = "sampled-100"
"""Rank among 100 sampled negatives."""
PROTOCOLS: Final = (FULL, FULL_UNMASKED, SAMPLED)
"""What is reported unless asked for otherwise."""

HISTORY_SIZES: Final = (3, 5, 10, 20, None)
"""Newest items told in the cold-start tables; None for all."""
FEWEST: Final = 20
"""Users of the table of the same users have this many items, so that every size is defined."""
SEGMENTS: Final = ((0, 4), (5, 7), (8, 15), (16, 30), (31, None))
"""Shortest and longest history of each segment, both included."""


@dataclass(frozen=True)
class Protocol:
    """What is asked, what a target is ranked among, and what is reported of it.

    Attributes
    ----------
    ask
        Protocols that ask the same share one pass over the scores.
    among
        ``unseen`` and ``all`` as in `twotower.evaluation.ranking.Candidates`; ``sampled``
        for 100 negatives.
    whole
        Whether the ranks of all queries are reported, under the protocol's name.
    segments
        Reports the ranks by history length too, under this name and the segment's; None for no.
    lists
        Whether the lists themselves are described: `twotower.evaluation.beyond_accuracy`.
    """

    ask: Ask
    among: Literal["unseen", "all", "sampled"] = "unseen"
    whole: bool = True
    segments: str | None = None
    lists: bool = False


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
    FULL: Protocol(Everyone()),
    FULL_UNMASKED: Protocol(Everyone(), "all"),
    SAMPLED: Protocol(Everyone(), "sampled"),
    "by-activity": Protocol(Everyone(), whole=False, segments="activity"),
    "beyond-accuracy": Protocol(Everyone(), whole=False, lists=True),
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
"""Names that stand for several protocols, those of one table."""


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
