"""Text search over items, by title words (TF-IDF) and text vectors."""

import math
import re
from collections import defaultdict
from collections.abc import Sequence
from itertools import zip_longest
from typing import Final, Self

import numpy as np

from twotower.bundle.throttle import Pause, no_pause
from twotower.errors import InputError
from twotower.features import TextEncoder
from twotower.index.top_k import top_k_of
from twotower.inference.filters import categories_of
from twotower.inference.item_table import ItemTable
from twotower.types import FloatArray, IndexArray, OffsetArray

_WORD: Final = re.compile(r"\w+")
_PAUSE_ROWS: Final = 256
_DESCRIBED: Final = 5
"""Number of items that stand for a request's text in its history."""
_LEAST_COSINE: Final = 0.5
_LEAST_MARGIN: Final = 0.1
"""See `categories_meant`."""
_MOST_WORDS: Final = 12
"""Number of words of a text that are compared with categories."""
_MOST_CATEGORIES: Final = 500
"""With more categories than this they are not encoded: a word must equal a category's name."""


class TitleWords:
    """Inverted index from words to titles by row. Titles may be added during searches."""

    def __init__(self, titles: Sequence[str | None], pause: Pause = no_pause) -> None:
        self._rows: defaultdict[str, list[int]] = defaultdict(list)
        self._titles: list[str | None] = []
        self._retired: set[int] = set()
        for row, title in enumerate(titles):
            self.put(row, title)
            if row % _PAUSE_ROWS == 0:
                pause()

    def put(self, row: int, title: str | None) -> None:
        """Set or replace a row's title; a new row must be the next one."""
        if row == len(self._titles):
            self._titles.append(None)
        self._retired.discard(row)
        before, now = words(self._titles[row] or ""), words(title or "")
        self._titles[row] = title
        for word in before.keys() - now.keys():
            self._rows[word].remove(row)
        for word in now.keys() - before.keys():
            self._rows[word].append(row)

    def retire(self, row: int) -> None:
        """Remove a row whose item has moved to another row."""
        self.put(row, None)
        self._retired.add(row)

    def scores(self, text: str, rows: int) -> FloatArray:
        """``(rows,)`` weighted share of the words of ``text`` in each title, from 0 to 1.

        A word's weight is ``log(1 + titles / titles with the word)`` (inverse document frequency,
        Spärck Jones, 1972).
        """
        scores = np.zeros(rows, dtype=np.float32)
        size, total = len(self._titles) - len(self._retired), 0.0
        for word in words(text):
            found = np.asarray(self._rows.get(word, ()), dtype=np.int64)
            weight = math.log1p(size / max(len(found), 1))
            scores[found[found < rows]] += weight
            total += weight
        return scores / np.float32(total) if total else scores


def words(text: str) -> dict[str, None]:
    """The distinct words of a text, case-folded, in order."""
    return dict.fromkeys(_WORD.findall(text.casefold()))


class TextSearch:
    """Scores every item for a text by title words and, with the text encoder, by meaning."""

    def __init__(
        self, items: ItemTable, encoder: TextEncoder | None, pause: Pause = no_pause
    ) -> None:
        self._items = items
        self._titles = TitleWords(items.titles.rows.tolist(), pause)
        self._encoder = encoder
        self._categories: tuple[list[str], FloatArray] | None = None  # names, and their vectors

    def following(self, before: ItemTable, now: ItemTable) -> Self:
        """The search over a changed table: this object, or a new one if it is not at ``before``.

        This object is updated in place with the changed titles and stays shared: searches over the
        earlier table score fewer rows and never find the later ones.
        """
        if self._items is not before:
            return type(self)(now, self._encoder)
        self._items = now
        for row in now.changed_since(before.changes).tolist():
            self._titles.put(row, now.titles.rows[row])
            if (other := now.spare.get(now.ids.rows[row])) is not None:
                self._titles.retire(other)
        if now.titles.buffer is not before.titles.buffer:
            old, same = before.titles.rows, now.titles.rows[: len(before)]
            for row in np.flatnonzero((old != same) & now.listed[: len(before)]).tolist():
                self._titles.put(row, same[row])
        return self

    def scores(self, text: str, items: ItemTable) -> FloatArray:
        """``(items,)`` higher is better; at most 0 for no match at all."""
        scores = self._titles.scores(text, len(items))
        if self._encoder is not None and items.text is not None:
            scores = (scores + items.text.rows @ self._encoder.encode([text])[0]) / 2
        return scores

    def described(self, text: str, items: ItemTable) -> IndexArray:
        """Rows of the few items that a text describes best, best last.

        If words of the text mean categories, the best items of each are taken in turn: "scary with
        puzzles" is read as horror and puzzle games. `InputError` if no item matches.
        """
        scores = np.where(items.eligible, self.scores(text, items), 0)
        meant = [np.isin(items.categories.rows, codes) for codes in self._meant(text, items)]
        if meant and self._titles.scores(text, len(items)).max(initial=0) > 0:
            meant.append(np.ones(len(items), dtype=np.bool_))  # words of titles count as well
        groups = [
            positive(np.where(mask, scores, 0), _DESCRIBED).tolist()
            for mask in meant or [np.ones(len(items), dtype=np.bool_)]
        ]
        turns = [row for turn in zip_longest(*groups) for row in turn if row is not None]
        found = np.asarray([*dict.fromkeys(turns)][:_DESCRIBED], dtype=np.int64)
        if not len(found):
            raise InputError(
                f"no item is described by the words {text[:100]!r}",
                "use words of titles, or pass history=[item ids]",
                cli_fix="use words of titles, or pass --history ID ID",
            )
        return found[::-1].astype(np.int32)

    def _meant(self, text: str, items: ItemTable) -> list[list[int]]:
        """For each category that a word of the text means, the codes of the fields with it."""
        fields: defaultdict[str, list[int]] = defaultdict(list)
        for code, name in enumerate(items.names):
            for part in categories_of(name):
                fields[part.casefold()].append(code)
        given = list(words(text))[:_MOST_WORDS]
        if self._encoder is None or not 2 <= len(fields) <= _MOST_CATEGORIES:
            return [fields[word] for word in given if word in fields]
        if not given:
            return []
        if self._categories is None or self._categories[0] != list(fields):
            self._categories = list(fields), self._encoder.encode(list(fields))
        names, vectors = self._categories
        meant = categories_meant(self._encoder.encode(given) @ vectors.T)
        return [fields[names[at]] for at in dict.fromkeys(meant[meant >= 0].tolist())]


def categories_meant(cosines: FloatArray) -> OffsetArray:
    """``(words,)`` the category that each word means, -1 for none.

    It is the nearest category if its cosine is at least 0.5, and 0.1 above the second nearest: with
    MiniLM, "scary" means Horror and "game" nothing. The thresholds favour precision, since a word
    without a category still counts in titles and texts, while a wrong category fills the list: of
    128 words about four catalogues, 44 of the 66 that mean a category are recognised, and 3 are
    misread. ``cosines`` are ``(words, categories)`` of text vectors; at least two categories.

    Examples
    --------
    >>> categories_meant(np.asarray([[0.75, 0.35], [0.53, 0.52], [0.4, 0.1]])).tolist()
    [0, -1, -1]
    """
    first, second = -np.partition(-cosines, 1, axis=1)[:, :2].T
    is_clear = (first >= _LEAST_COSINE) & (first - second >= _LEAST_MARGIN)
    meant: OffsetArray = np.where(is_clear, cosines.argmax(axis=1), -1)
    return meant


def positive(scores: FloatArray, k: int) -> OffsetArray:
    """Rows of the ``k`` largest scores above 0, best first; ties by row."""
    return top_k_of(scores, k, scores > 0)
