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
"""What an answer says of an item that a rule moved: of several rules the last one, pins first."""

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
"""Words by the kind of an event, spelt without case and marks."""
_RATED: Final = "because you gave {} a rating of {:g}"
_STORED: Final = "because of {} in your history"
"""Where a log has no kinds, or kinds of other names."""
NEWEST: Final = 200
"""Items of a history among which a reason is looked for."""


# Neither frozen nor with slots: to make the twenty objects of an answer would take six times as
# long, to write them as JSON four times.
@dataclass
class Reason:
    """The item of the history that a recommended item is most like.

    Attributes
    ----------
    kind
        How that item got into the history: the kind of the event, ``stored`` where the bundle's log
        has no kinds, ``given`` (by the request) or ``described`` (by its words).
    item_id, title
        That item.
    text
        The reason in words.
    similarity
        Mean cosine of the parts of the two items' vectors: see `part_scales`.
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
        The catalogue's title, where it has one.
    score
        What ranked it: of the last stage, comparable only within one answer.
    rank
        From 1.
    retrieval_score
        The first stage's score, the inner product of user and item vector; None where the
        item was found otherwise.
    rerank_score
        The second stage's score, or None where there was none.
    reason
        Why, or None where nothing in the user's history is like it, or reasons were not asked for.
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
        ``model``, or ``popular`` where nothing is known of the user that the model could read:
        then the items are those with the most events in the training log, which is their score.
    unknown_items
        Items of the request's history that are not known, which it was answered without.
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
    """A ranked list of the table's rows as it is shown."""
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
    """For each item the item of the history whose vector is most similar, if any is similar at all.

    Parameters
    ----------
    items, history
        Rows of the table.
    causes
        How each item of the history got there.
    least
        An item that was rated lower is no reason.

    Returns
    -------
    list or None
        None for an item that points away from the whole history, and where there is no history.
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
    """The words of a reason for a kind of event, if its name is a usual one."""
    return _PHRASES.get(folded(kind))


def _cause(item_id: str, title: str | None, cause: Cause) -> tuple[str, str, str | None, str]:
    """What a reason says of an item of the history: kind, id, title and text."""
    shown = title or item_id
    words = _phrase(cause.kind)
    if cause.rating is not None and words in (None, _PHRASES["rating"]):
        return cause.kind, item_id, title, _RATED.format(shown, cause.rating)
    return cause.kind, item_id, title, (words or _STORED).format(shown)
