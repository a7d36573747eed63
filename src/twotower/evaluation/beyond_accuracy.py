"""Beyond-accuracy metrics of recommendation lists: popularity, novelty, diversity and more.

Pure functions (also of calibration and coverage) from lists ``(queries, k)`` of item indices to
one value per query, or to one figure for all lists.
"""

from dataclasses import dataclass
from typing import Final, NamedTuple, Self

import numpy as np
import polars as pl

from twotower.data import Histories, columns
from twotower.types import Array, DoubleArray, FloatArray, IndexArray, OffsetArray

LIST_LENGTH: Final = 10
SMOOTHING: Final = 0.01
"""Share of the history's distribution mixed into the list's, which keeps the divergence of a
missing category finite (Steck, 2018)."""
_CHUNK_ROWS: Final = 4096


def mean_log_popularity(lists: IndexArray, events: OffsetArray) -> DoubleArray:
    """Mean of ``ln(1 + training events)`` over the list; high for lists of best-sellers.

    >>> mean_log_popularity(np.array([[0, 1]]), np.array([0, 99, 4])).round(3)
    array([2.303])
    """
    means: DoubleArray = np.log1p(events)[lists].mean(axis=1)
    return means


def popularity_percentile(lists: IndexArray, events: OffsetArray) -> DoubleArray:
    """Mean over the list of the share of other items that are less popular, ties half.

    0 for the least popular item of the catalogue, 1 for the most popular one; a random list has
    1/2 in expectation.

    >>> popularity_percentile(np.array([[1, 2]]), np.array([3, 9, 3]))
    array([0.625])
    """
    ordered = np.sort(events)
    below = np.searchsorted(ordered, events, "left")
    equal = np.searchsorted(ordered, events, "right") - below
    shares = (below + (equal - 1) / 2) / max(1, len(events) - 1)
    means: DoubleArray = shares[lists].mean(axis=1)
    return means


def novelty(lists: IndexArray, events: OffsetArray, users: int) -> DoubleArray:
    r"""Mean self-information of the list's items, in bits (Zhou et al., PNAS 2010).

    .. math:: -\log_2 \frac{n_i + 1}{U + 1}

    with ``n_i`` training events of item ``i`` and ``U`` training users. The ones keep it
    finite for an item without events.

    >>> novelty(np.array([[0, 1]]), np.array([0, 3]), users=7)
    array([2.])
    """
    bits = -np.log2((events + 1) / (users + 1))
    means: DoubleArray = bits[lists].mean(axis=1)
    return means


def vector_diversity(lists: IndexArray, vectors: FloatArray) -> DoubleArray:
    """1 - mean cosine of all pairs of the list (Ziegler et al., WWW 2005).

    ``vectors`` are ``(num_items, t)`` of unit length, or zero for an item without a title.

    >>> vector_diversity(np.array([[0, 1, 2]]), np.array([[1, 0], [1, 0], [0, 1]])).round(3)
    array([0.667])
    """
    k = lists.shape[1]
    found: DoubleArray = np.empty(len(lists))
    lengths = (vectors * vectors).sum(axis=1)
    for start in range(0, len(lists), _CHUNK_ROWS):
        chunk = lists[start : start + _CHUNK_ROWS]
        # The squared norm of the sum is the sum of all products, an item with itself included.
        total = vectors[chunk].sum(axis=1)
        pairs = (total * total).sum(axis=1) - lengths[chunk].sum(axis=1)
        found[start : start + len(chunk)] = 1 - pairs / max(1, k * (k - 1))
    return found


def category_diversity(lists: IndexArray, categories: IndexArray) -> DoubleArray:
    """Share of the list's item pairs with different categories.

    >>> category_diversity(np.array([[0, 1, 2]]), np.array([5, 5, 6])).round(3)
    array([0.667])
    """
    k = lists.shape[1]
    labels = np.sort(categories[lists], axis=1)
    # In sorted order, equal neighbours at every distance are the pairs of the same category.
    same: DoubleArray = np.zeros(len(lists))
    for distance in range(1, k):
        same += (labels[:, distance:] == labels[:, :-distance]).sum(axis=1)
    different: DoubleArray = 1 - same / max(1, k * (k - 1) / 2)
    return different


def miscalibration(
    lists: IndexArray, histories: Histories, categories: IndexArray, *, smoothing: float = SMOOTHING
) -> DoubleArray:
    r"""Divergence of the list's categories from the history's (Steck, RecSys 2018).

    .. math:: \mathrm{KL}(p \,\|\, \tilde q) = \sum_c p_c \ln \frac{p_c}{\tilde q_c},
              \qquad \tilde q = (1 - \alpha) q + \alpha p

    with ``p`` the shares of the history, ``q`` those of the list and ``alpha`` the
    ``smoothing``. 0 if they agree or the history is empty; at most ``ln(1 / alpha)``, if they have
    no category in common.

    >>> history = Histories.from_lists([[0, 1], [0, 0]])
    >>> miscalibration(np.array([[0, 1], [1, 1]]), history, np.array([0, 1])).round(3)
    array([0.   , 4.605])
    """
    size = int(categories.max(initial=0)) + 1
    keys, had = np.unique(histories.rows * size + categories[histories.items], return_counts=True)
    rows = keys // size
    p = had / histories.lengths[rows]
    own = np.arange(len(lists))[:, None] * size + categories[lists]
    listed, got = np.unique(own, return_counts=True)
    place = np.minimum(np.searchsorted(listed, keys), len(listed) - 1)
    q = np.where(listed[place] == keys, got[place], 0) / lists.shape[1]
    terms = p * np.log(p / ((1 - smoothing) * q + smoothing * p))
    divergences: DoubleArray = np.zeros(len(lists))
    np.add.at(divergences, rows, terms)
    return divergences


def coverage(lists: IndexArray, num_items: int) -> float:
    """Share of the catalogue that is in at least one list.

    >>> coverage(np.array([[0, 1], [1, 2]]), 4)
    0.75
    """
    return len(np.unique(lists)) / num_items


def gini(lists: IndexArray, num_items: int) -> float:
    r"""Gini index of item exposure: 0 if all items are listed equally often, near 1 if only a few.

    .. math:: \frac{\sum_i (2 i - n - 1) x_i}{n \sum_i x_i}

    over the numbers ``x_1 ... x_n`` of lists that contain each catalogue item, ascending.

    >>> gini(np.array([[0, 1], [2, 3]]), 4), gini(np.array([[0], [0]]), 4)
    (0.0, 0.75)
    """
    counts = np.sort(np.bincount(lists.ravel(), minlength=num_items)).astype(np.float64)
    ranks = np.arange(1, num_items + 1)
    return float(((2 * ranks - num_items - 1) * counts).sum() / (num_items * counts.sum()))


class ListFigures(NamedTuple):
    """Beyond-accuracy figures of the lists of one model."""

    metrics: tuple[str, ...]
    """Names of the columns."""
    values: DoubleArray
    """``(queries, metrics)``"""
    totals: dict[str, float]
    """Figures for all lists together, without per-query values or intervals."""


@dataclass(frozen=True, slots=True)
class ListFacts:
    """Item data for beyond-accuracy metrics; popularity is counted on training data."""

    events: OffsetArray
    """``(num_items,)`` int64 training events."""
    users: int
    """Users with a training event."""
    categories: IndexArray | None
    """``(num_items,)`` category codes; items without a category share a code. None if the
    catalogue has no categories."""
    titles: FloatArray | None
    """``(num_items, t)`` unit title vectors, or None if there are none."""

    @classmethod
    def fit(cls, train: Histories, catalogue: pl.DataFrame, titles: FloatArray | None) -> Self:
        """Count training events and encode categories."""
        events = np.bincount(train.items, minlength=catalogue.height)
        users = int(np.count_nonzero(train.lengths))
        return cls(events, users, _category_codes(catalogue), titles)

    def describe(self, lists: IndexArray, histories: Histories) -> ListFigures:
        """Every metric that the catalogue's columns allow."""
        values: dict[str, Array] = {
            "log-popularity": mean_log_popularity(lists, self.events),
            "popularity-percentile": popularity_percentile(lists, self.events),
            "novelty": novelty(lists, self.events, self.users),
        }
        if self.titles is not None:
            values["title-diversity"] = vector_diversity(lists, self.titles)
        if self.categories is not None:
            values["category-diversity"] = category_diversity(lists, self.categories)
            values["miscalibration"] = miscalibration(lists, histories, self.categories)
        size = len(self.events)
        totals = {"coverage": coverage(lists, size), "gini": gini(lists, size)}
        k = lists.shape[1]
        return ListFigures(
            tuple(f"{name}@{k}" for name in values),
            np.stack(list(values.values()), axis=1),
            {f"{name}@{k}": value for name, value in totals.items()},
        )


def _category_codes(catalogue: pl.DataFrame) -> IndexArray | None:
    if columns.CATEGORY not in catalogue.columns or catalogue[columns.CATEGORY].is_null().all():
        return None
    named = catalogue[columns.CATEGORY].cast(pl.String).fill_null("")
    return named.rank("dense").to_numpy().astype(np.int32) - 1
