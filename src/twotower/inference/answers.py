"""Answers: recommended items, their scores and the reasons for them."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import repeat
from math import inf
from typing import Final, Literal, TypeAlias

import numpy as np

from twotower.data.columns import folded
from twotower.inference.item_table import ItemTable, scale_parts
from twotower.inference.ranking import RankedItems
from twotower.inference.requests import Cause
from twotower.types import Array, IndexArray

RuleName: TypeAlias = Literal["pinned", "boosted", "buried"]
"""How a business rule moved an item. If several did, the last one counts; pins come first."""

_PHRASES: Final = {
    "given": "because of {}",
    "described": "because your words fit {}",
    **dict.fromkeys(("buy", "purchase", "order", "transaction"), "because you bought {}"),
    **dict.fromkeys(("cart", "addtocart", "basket"), "because you put {} in the cart"),
    **dict.fromkeys(("view", "click", "pageview", "detail"), "because you viewed {}"),
    **dict.fromkeys(("play", "listen"), "because you played {}"),
    **dict.fromkeys(("like", "favourite", "favorite"), "because you liked {}"),
    "rating": "because you rated {}",
}
"""Reason texts by event kind, its name without case and punctuation."""
_RATED: Final = "because you gave {} a rating of {:g}"
_STORED: Final = "because of {} in your history"
"""Reason text if the log has no event kinds, or kinds with other names."""
NEWEST: Final = 200
"""Newest items of a history that are considered as reasons."""


# Neither frozen nor slotted: creating an answer's twenty objects would take six times as long, and
# writing them as JSON four times as long.
@dataclass
class Reason:
    """The reason for a recommendation: the most similar item of the history.

    Attributes
    ----------
    kind
        Where the history item came from: the event kind, ``stored`` if the bundle's log has no
        kinds, ``given`` (in the request's history) or ``described`` (by its text).
    item_id, title
        The history item.
    text
        The reason in words.
    similarity
        Mean cosine over the parts of the two items' vectors: see `part_scales`.
    """

    kind: str
    item_id: str
    title: str | None
    text: str
    similarity: float

    def __str__(self) -> str:
        """The reason in words."""
        return self.text


@dataclass
class Recommendation:
    """One recommended item.

    Attributes
    ----------
    item_id
        External id.
    title
        Title in the catalogue, if any.
    score
        The score of the last stage, which ranked it; comparable only within one answer.
    rank
        From 1.
    retrieval_score
        The first stage's score, the inner product of user and item vectors; None if the item was
        not found by retrieval.
    rerank_score
        The second stage's score; None without re-ranking.
    reason
        Why it is recommended; None if no item of the history is similar, or reasons are off.
    rule
        ``pinned``, ``boosted`` or ``buried`` by a business rule, or None.
    """

    item_id: str
    title: str | None
    score: float
    rank: int
    retrieval_score: float | None = None
    rerank_score: float | None = None
    reason: Reason | None = None
    rule: RuleName | None = None


@dataclass
class Answer:
    """The answer to one request.

    Attributes
    ----------
    items
        Best first.
    source
        ``model``, or ``popular`` if the model has no input for the user: the items are then those
        with the most events in the training log, and the score is that number.
    unknown_items
        Unknown items of the request's history, which were ignored.
    """

    items: list[Recommendation]
    source: Literal["model", "popular"] = "model"
    unknown_items: Sequence[str] = ()


def recommendations(
    table: ItemTable,
    ranked: RankedItems,
    reasons: Sequence[Reason | None] | None = None,
    rules: Sequence[RuleName | None] | None = None,
) -> list[Recommendation]:
    """Ranked rows of the item table as recommendations."""
    columns = (
        table.ids.rows[ranked.items].tolist(),
        table.titles.rows[ranked.items].tolist(),
        ranked.scores.tolist(),
        range(1, len(ranked.items) + 1),
        repeat(None) if ranked.retrieval is None else ranked.retrieval.tolist(),
        repeat(None) if ranked.rerank is None else ranked.rerank.tolist(),
        repeat(None) if reasons is None else reasons,
        repeat(None) if rules is None else rules,
    )
    return [Recommendation(*row) for row in zip(*columns, strict=False)]


def reasons_for(
    table: ItemTable,
    items: Array,
    history: IndexArray,
    causes: Sequence[Cause],
    least: float = -inf,
) -> list[Reason | None] | None:
    """For each item, the history item with the most similar vector.

    Parameters
    ----------
    items, history
        Rows of the table.
    causes
        How each item of the history got there.
    least
        Lowest rating of a reason: history items rated lower are skipped.

    Returns
    -------
    list or None
        One entry per item, None if no history item has a positive similarity; None instead of a
        list if there is no history.
    """
    history, causes = history[-NEWEST:], causes[-NEWEST:]
    low = {cause for cause in set(causes) if cause.rating is not None and cause.rating < least}
    if low:
        praised = [place for place, cause in enumerate(causes) if cause not in low]
        history, causes = history[praised], [causes[place] for place in praised]
    if not len(history) or not len(items):
        return None
    rows = np.concatenate([items, history])
    units = table.vectors.rows.take(rows, axis=0)
    scale_parts(units, table.scales.rows.take(rows, axis=0), table.contents.tower_dim)
    similarity = units[: len(items)] @ units[len(items) :].T  # (items, history)
    nearest, values = similarity.argmax(axis=1).tolist(), similarity.max(axis=1).tolist()
    ids, titles = table.ids.rows, table.titles.rows
    found = {
        place: _cause(ids[row := history[place]], titles[row], causes[place])
        for place in set(nearest)
    }
    return [
        Reason(*found[place], value) if value > 0 else None
        for place, value in zip(nearest, values, strict=True)
    ]


@lru_cache(256)
def _phrase(kind: str) -> str | None:
    """The reason text for an event kind, if its name is a common one."""
    return _PHRASES.get(folded(kind))


def _cause(item_id: str, title: str | None, cause: Cause) -> tuple[str, str, str | None, str]:
    """A reason's kind, item id, title and text for an item of the history."""
    shown = title or item_id
    words = _phrase(cause.kind)
    if cause.rating is not None and words in (None, _PHRASES["rating"]):
        return cause.kind, item_id, title, _RATED.format(shown, cause.rating)
    return cause.kind, item_id, title, (words or _STORED).format(shown)
