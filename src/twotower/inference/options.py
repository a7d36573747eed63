"""Recommendation options: number of items, filters, re-ranking, seen items, reasons."""

from dataclasses import dataclass
from numbers import Integral
from typing import TypedDict

import numpy as np

from twotower.bundle.contents import BundleContents
from twotower.errors import InputError
from twotower.inference.filters import ANY, Filters


@dataclass(frozen=True, slots=True)
class RecommendOptions:
    """Settings of a request other than user and history; shared by a whole batch.

    Attributes
    ----------
    k
        Items to return; fewer only if fewer exist.
    filters
        Which items may be recommended.
    exclude_seen
        Leave out items of the history, stored or given. None: yes, unless users return to items in
        the bundle's log (`ModelInfo.repeats`).
    rerank
        Order the candidates by the bundle's re-ranker. None: only if re-ranking improved
        validation, according to the bundle.
    candidates
        Candidates that the index passes to the re-ranker, at least ``k``; ignored without
        re-ranking. None: as many as were enough on validation.
    reasons
        Whether each item comes with its reason.
    strict
        Refuse unknown items and users. Otherwise unknown items of a history are ignored, and users
        without any input for the model get popular items: see `Pipeline.answers`.

    Raises
    ------
    InputError
        If ``k`` is not a whole number above 0, there are fewer candidates than ``k``, or another
        option has the wrong type.
    """

    k: int = 10
    filters: Filters = ANY
    exclude_seen: bool | None = None
    rerank: bool | None = None
    candidates: int | None = None
    reasons: bool = True
    strict: bool = True

    def __post_init__(self) -> None:
        check_k(self.k)
        check_filters(self.filters)
        for name in ("exclude_seen", "rerank", "reasons"):
            value = getattr(self, name)
            if not isinstance(value, bool | np.bool_ | None):  # "no" would mean yes
                raise InputError(f"{name} must be True or False, got {value!r}")
        if self.candidates is None:
            return
        if not isinstance(self.candidates, Integral) or self.candidates < 1:
            raise InputError(f"candidates must be a whole number above 0, got {self.candidates!r}")
        if self.rerank and self.candidates < self.k:
            raise InputError(f"candidates must be at least k {self.k}, got {self.candidates}")

    def excludes_seen(self, contents: BundleContents) -> bool:
        """Whether items of the history are left out; defaults to the bundle's setting."""
        return not contents.info.repeats if self.exclude_seen is None else self.exclude_seen

    def reranks(self, contents: BundleContents) -> bool:
        """Whether the request is re-ranked; defaults to the bundle's setting."""
        return contents.reranks if self.rerank is None else self.rerank


class OptionFields(TypedDict, total=False):
    """Keyword arguments of methods that build `RecommendOptions`, besides ``k``."""

    filters: Filters
    exclude_seen: bool | None
    rerank: bool | None
    candidates: int | None
    reasons: bool


def check_filters(filters: Filters) -> None:
    """`InputError` unless they are `Filters`."""
    if not isinstance(filters, Filters):
        raise InputError(
            f"filters must be Filters, got {filters!r}",
            "pass filters=Filters(categories=['…'], max_price=…), from twotower import Filters",
        )


def check_k(k: int) -> None:
    """`InputError` unless ``k`` is a whole number above 0."""
    if not isinstance(k, Integral) or isinstance(k, bool):
        raise InputError(f"k must be a whole number, got {k!r}", "pass k=10")
    if k < 1:
        raise InputError(f"k must be at least 1, got {k}")


DEFAULTS = RecommendOptions()
