"""Typo-tolerant title search as you type."""

import math
import re
from bisect import bisect_left
from collections.abc import Sequence
from typing import Final

import numpy as np
import polars as pl
from rapidfuzz import process
from rapidfuzz.distance import OSA

from twotower.index import top_k_of
from twotower.types import Array, FloatArray, OffsetArray

MOST_CHARACTERS: Final = 200
"""Characters of the search text that are read."""
_MOST_WORDS: Final = 8
_MOST_ALIKE: Final = 40
"""Most words that match one typed word."""
_PREFIX: Final = np.float32(0.8)
_EDITED: Final = np.float32(0.7)
"""Factor for each edit."""
_POPULAR: Final = 0.2
"""Bonus of the title with the greatest weight."""
_LONG: Final = 0.02
"""Penalty for each word of a title."""
_WORD: Final = re.compile(r"\w+")


class TitleFinder:
    """Titles by their words.

    A word matches the titles that contain it; the last word also those with a longer word that
    starts with it; and a word in no title those with a word at one or two edits (optimal string
    alignment: a letter added, lost, changed, or two swapped). Case and accents are ignored. A
    title's score is the sum over the typed words of their rarity, ``log(1 + titles / titles
    found)``, reduced where the word was completed or corrected. Titles with a great weight get a
    bonus, long ones a penalty.

    Parameters
    ----------
    titles
        By row; None for no title.
    weights
        ``(titles,)`` at least 0, such as the interactions of each.
    """

    def __init__(self, titles: Sequence[str | None], weights: Array) -> None:
        self._size = len(titles)
        words = (
            pl.DataFrame({"title": pl.Series(titles, dtype=pl.String)})
            .with_row_index("row")
            .select("row", _folded(pl.col("title")).str.extract_all(r"\w+").alias("word"))
            .explode("word")
            .drop_nulls()
            .unique()
            .sort("word", "row")
        )
        counted = words.group_by("word", maintain_order=True).len()
        self._words: list[str] = counted["word"].to_list()
        self._rows = words["row"].to_numpy()
        self._starts = np.concatenate([[0], counted["len"].to_numpy().cumsum()]).astype(np.int64)
        lengths = np.bincount(self._rows, minlength=self._size)
        weight = np.log1p(weights) / max(float(np.log1p(weights).max(initial=0)), 1.0)
        self._factor = ((1 + _POPULAR * weight) / (1 + _LONG * lengths)).astype(np.float32)
        by_length: dict[int, list[str]] = {}
        for word in self._words:
            if not word.isdigit():
                by_length.setdefault(len(word), []).append(word)
        self._by_length = by_length

    def find(self, text: str, k: int = 8) -> OffsetArray:
        """Rows of at most ``k`` titles, best first; none where no word is known.

        Parameters
        ----------
        text
            Search text; only its first `MOST_CHARACTERS` characters are read.
        """
        folded = pl.select(_folded(pl.lit(text[:MOST_CHARACTERS]))).item()
        typed = list(dict.fromkeys(_WORD.findall(folded)))[:_MOST_WORDS]
        scores = np.zeros(self._size, dtype=np.float32)
        for place, word in enumerate(typed):
            self._add(scores, self._matches(word, last=place == len(typed) - 1))
        found = np.flatnonzero(scores)
        ranks = scores[found] * self._factor[found]
        best: OffsetArray = found[top_k_of(ranks, k)]
        return best

    def _matches(self, word: str, *, last: bool) -> list[tuple[int, np.float32]]:
        """Positions of the words that match a typed one, and the quality of each match."""
        first = bisect_left(self._words, word)
        exact = first < len(self._words) and self._words[first] == word
        found = [(first, np.float32(1))] if exact else []
        if last:
            end = bisect_left(self._words, word + "\U0010ffff", lo=first)
            longer = np.arange(first + exact, end)
            if len(longer) > _MOST_ALIKE:
                longer = longer[top_k_of(self._counts(longer), _MOST_ALIKE)]
            found += [(position, _PREFIX) for position in longer.tolist()]
        if found or len(word) < 3 or word.isdigit():
            return found
        edits = 1 if len(word) < 6 else 2
        return [
            (bisect_left(self._words, alike), _EDITED ** np.float32(distance))
            for length in range(len(word) - edits, len(word) + edits + 1)
            for alike, distance, _ in process.extract(
                word,
                self._by_length.get(length, ()),
                scorer=OSA.distance,
                score_cutoff=edits,
                limit=_MOST_ALIKE,
            )
        ]

    def _counts(self, words: OffsetArray) -> OffsetArray:
        counts: OffsetArray = self._starts[words + 1] - self._starts[words]
        return counts

    def _add(self, scores: FloatArray, words: Sequence[tuple[int, np.float32]]) -> None:
        """Add to each title the greatest score that any of these words gives it."""
        if not words:
            return
        parts = [self._rows[self._starts[word] : self._starts[word + 1]] for word, _ in words]
        total = sum(map(len, parts))
        rarity = np.float32(math.log1p(self._size / total))
        gains = [fit * rarity for _, fit in words]
        if len(parts) == 1:
            scores[parts[0]] += gains[0]
            return
        best: dict[str, Array] = {
            "row": np.concatenate(parts),
            "gain": np.repeat(np.asarray(gains), list(map(len, parts))),
        }
        order = np.lexsort((best["gain"], best["row"]))
        rows, gain = best["row"][order], best["gain"][order]
        last = np.append(rows[1:] != rows[:-1], True)
        scores[rows[last]] += gain[last]


def _folded(texts: pl.Expr) -> pl.Expr:
    """Texts in lower case, without accents."""
    return texts.str.to_lowercase().str.normalize("NFKD").str.replace_all(r"\p{M}", "")
