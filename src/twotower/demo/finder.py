"""Find titles while somebody types, typing errors included."""

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
"""Of what is typed, so many characters are read."""
_MOST_WORDS: Final = 8
_MOST_ALIKE: Final = 40
"""Words that one typed word may stand for."""
_BEGUN: Final = np.float32(0.8)
_MISTYPED: Final = np.float32(0.7)
"""For each edit."""
_WEIGHTY: Final = 0.2
"""What the weightiest title gains."""
_LENGTHY: Final = 0.02
"""What a title loses for each of its words: few words around those that were meant."""
_WORD: Final = re.compile(r"\w+")


class TitleFinder:
    """Titles by their words.

    A word finds the titles that hold it; the last one also those with a longer word that begins
    like it; and a word that no title holds those with a word at one or two edits (optimal string
    alignment: a letter added, lost, changed, or two swapped). Case and accents do not count. A
    title's score is the sum over the typed words of their rarity, ``log(1 + titles / titles
    found)``, less where the word was completed or corrected. Weighty titles get a little more,
    long ones a little less.

    Parameters
    ----------
    titles
        By row; None for no title.
    weights
        ``(titles,)`` at least 0, such as how often each was bought.
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
        self._favour = ((1 + _WEIGHTY * weight) / (1 + _LENGTHY * lengths)).astype(np.float32)
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
            What was typed. Only its first `MOST_CHARACTERS` characters are read.
        """
        folded = pl.select(_folded(pl.lit(text[:MOST_CHARACTERS]))).item()
        typed = list(dict.fromkeys(_WORD.findall(folded)))[:_MOST_WORDS]
        scores = np.zeros(self._size, dtype=np.float32)
        for place, word in enumerate(typed):
            self._add(scores, self._stands_for(word, last=place == len(typed) - 1))
        found = np.flatnonzero(scores)
        ranks = scores[found] * self._favour[found]
        best: OffsetArray = found[top_k_of(ranks, k)]
        return best

    def _stands_for(self, word: str, *, last: bool) -> list[tuple[int, np.float32]]:
        """Positions of the words that a typed one may mean, and how well they fit it."""
        first = bisect_left(self._words, word)
        exact = first < len(self._words) and self._words[first] == word
        found = [(first, np.float32(1))] if exact else []
        if last:
            end = bisect_left(self._words, word + "\U0010ffff", lo=first)
            begun = np.arange(first + exact, end)
            if len(begun) > _MOST_ALIKE:
                begun = begun[top_k_of(self._counts(begun), _MOST_ALIKE)]
            found += [(one, _BEGUN) for one in begun.tolist()]
        if found or len(word) < 3 or word.isdigit():
            return found
        edits = 1 if len(word) < 6 else 2
        return [
            (bisect_left(self._words, alike), _MISTYPED ** np.float32(distance))
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
        """Add the best that any of these words gives to each title."""
        if not words:
            return
        parts = [self._rows[self._starts[one] : self._starts[one + 1]] for one, _ in words]
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
    """In lower case, without accents."""
    return texts.str.to_lowercase().str.normalize("NFKD").str.replace_all(r"\p{M}", "")
