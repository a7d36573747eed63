"""Team-draft interleaving: one answer from two bundles' lists, whose items compete for events.

Radlinski, Kurup and Joachims, "How does clickthrough data reflect retrieval quality?", CIKM 2008.
The same user judges both lists in the same answer, which takes far fewer users than an A/B test.
"""

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Final

from twotower.inference.answers import Recommendation

NEITHER: Final = "-"
"""Team of a position that counts for neither list."""


def team_draft(
    a: Sequence[Recommendation],
    b: Sequence[Recommendation],
    k: int,
    toss: Callable[[], bool] = lambda: random.random() < 0.5,
) -> tuple[list[Recommendation], str]:
    """Merge two lists: each in turn adds its best item that is not in the answer yet.

    A coin toss decides who starts each round. Items pinned by a business rule keep their positions
    in ``a`` and count for neither list, as do all items after one list is exhausted.

    Parameters
    ----------
    a, b
        Lists, best first.
    toss
        Whether ``a`` starts a round.

    Returns
    -------
    items, teams
        Up to ``k`` items, ranked from 1 on, and for each position ``a``, ``b`` or ``-``.

    Examples
    --------
    >>> def listed(ids):
    ...     return [Recommendation(name, None, 0.0, rank) for rank, name in enumerate(ids, 1)]
    >>> items, teams = team_draft(listed("xyz"), listed("yxw"), 4, toss=lambda: True)
    >>> "".join(item.item_id for item in items), teams
    ('xyzw', 'abab')
    """
    pinned = {item.rank: item for item in a if item.rule == "pinned"}
    taken = {item.item_id for item in pinned.values()}
    left = {"a": _drafted(a, taken), "b": _drafted(b, taken)}
    counts = {"a": 0, "b": 0}
    items: list[Recommendation] = []
    teams = ""
    while len(items) < k and left:
        item = pinned.pop(len(items) + 1, None)
        team = NEITHER
        if item is None:
            behind = counts["a"] - counts["b"]
            turn = "a" if behind < 0 or (behind == 0 and toss()) else "b"
            picks = turn if turn in left else next(iter(left))
            item = next(left[picks], None)
            if item is None:
                del left[picks]
                continue
            taken.add(item.item_id)
            if len(left) == 2:
                team = turn
                counts[turn] += 1
        items.append(item)
        teams += team
    rest = [pinned[rank] for rank in sorted(pinned)][: k - len(items)]
    ranked = [replace(item, rank=rank) for rank, item in enumerate([*items, *rest], 1)]
    return ranked, teams + NEITHER * len(rest)


def _drafted(items: Sequence[Recommendation], taken: set[str]) -> Iterator[Recommendation]:
    """The items of a list, skipping those already taken by then."""
    return (item for item in items if item.rule != "pinned" and item.item_id not in taken)
