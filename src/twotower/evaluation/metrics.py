"""Ranking metrics: pure functions from `Ranks` to one value per query.

Every function returns ``(queries,)`` float64; the figure reported is the mean. A rank that is
fractional because of ties counts as it is: rank 10.5 is not within the first 10.
"""

from collections.abc import Callable, Sequence
from typing import Final

import numpy as np

from twotower.errors import InputError
from twotower.evaluation.ranking import Ranks
from twotower.registry import Registry
from twotower.types import DoubleArray


def hit_rate_at_k(ranks: Ranks, k: int) -> DoubleArray:
    """1 if at least one target is within the first ``k``, else 0.

    >>> ranks = Ranks.single([1, 3, 12])
    >>> hit_rate_at_k(ranks, 3)
    array([1., 1., 0.])
    >>> round(float(hit_rate_at_k(ranks, 3).mean()), 4)
    0.6667
    """
    return (_hits(ranks, k) > 0).astype(np.float64)


def recall_at_k(ranks: Ranks, k: int) -> DoubleArray:
    """Share of a query's targets that are within the first ``k``.

    With one target per query it equals `hit_rate_at_k`. The divisor is the number of
    targets, even if greater than ``k`` (He et al., LightGCN, SIGIR 2020).

    >>> two_queries = Ranks(np.array([1.0, 7.0, 4.0]), np.array([0, 2, 3]))
    >>> recall_at_k(two_queries, 5)
    array([0.5, 1. ])
    """
    return _hits(ranks, k) / np.diff(ranks.indptr)


def ndcg_at_k(ranks: Ranks, k: int) -> DoubleArray:
    r"""Normalised discounted cumulative gain with binary relevance.

    .. math:: \frac{\sum_{t: r_t \le k} 1 / \log_2(1 + r_t)}
                   {\sum_{i=1}^{\min(k, |T|)} 1 / \log_2(1 + i)}

    over the targets ``T`` of a query at ranks ``r`` (Järvelin and Kekäläinen, 2002). With
    one target the divisor is 1.

    >>> ndcg_at_k(Ranks.single([1, 3, 12]), 10)
    array([1. , 0.5, 0. ])

    Two targets at ranks 1 and 3: (1 + 1/2) / (1 + 1/log2(3)).

    >>> round(float(ndcg_at_k(Ranks(np.array([1.0, 3.0]), np.array([0, 2])), 10)[0]), 4)
    0.9197
    """
    _check(ranks, k)
    gains = np.where(ranks.ranks <= k, 1.0 / np.log2(1.0 + ranks.ranks), 0.0)
    targets = np.diff(ranks.indptr)
    ideal = np.cumsum(1.0 / np.log2(np.arange(2.0, min(k, int(targets.max())) + 2)))
    best: DoubleArray = ideal[np.minimum(targets, len(ideal)) - 1]
    return np.add.reduceat(gains, ranks.indptr[:-1]) / best


def mrr(ranks: Ranks) -> DoubleArray:
    """Reciprocal rank of the first target; the mean over queries is the MRR.

    >>> mrr(Ranks.single([1, 4, 2]))
    array([1.  , 0.25, 0.5 ])
    """
    _check(ranks, 1)
    return 1.0 / np.minimum.reduceat(ranks.ranks, ranks.indptr[:-1])


def precision_at_k(ranks: Ranks, k: int) -> DoubleArray:
    """Share of the first ``k`` places that hold a target: ``hits / k``.

    >>> precision_at_k(Ranks(np.array([1.0, 3.0, 9.0]), np.array([0, 2, 3])), 4)
    array([0.5, 0. ])
    """
    return _hits(ranks, k) / k


def average_precision_at_k(ranks: Ranks, k: int) -> DoubleArray:
    r"""Average precision; the mean over queries is MAP@k.

    .. math:: \frac{1}{|T|} \sum_{j: r_j \le k} j / r_j

    over the targets ``T`` of a query at ascending ranks ``r``: the precision at each target that
    is found. The divisor is the number of targets, as in `recall_at_k`.

    Targets at ranks 1 and 4 of three: (1/1 + 2/4) / 3.

    >>> average_precision_at_k(Ranks(np.array([4.0, 1.0, 20.0]), np.array([0, 3])), 10)
    array([0.5])
    """
    _check(ranks, k)
    targets = np.diff(ranks.indptr)
    rows = np.repeat(np.arange(len(ranks)), targets)
    ordered = ranks.ranks[np.lexsort((ranks.ranks, rows))]
    place = np.arange(len(ordered)) - ranks.indptr[rows] + 1
    found = np.where(ordered <= k, place / ordered, 0.0)
    return np.add.reduceat(found, ranks.indptr[:-1]) / targets


def revenue_at_k(ranks: Ranks, k: int) -> DoubleArray:
    r"""Hits weighted by the target's price; the mean over queries is the share of revenue found.

    .. math:: \frac{\sum_{t: r_t \le k} p_t}{\frac{1}{Q} \sum_{q} \sum_{t \in T_q} p_t}

    for prices ``p`` and ``Q`` queries. Targets without a price count 0. The divisor is the same for
    all queries, so intervals are intervals of the revenue found.

    Raises
    ------
    InputError
        If the ranks have no prices, or all prices are 0.

    Examples
    --------
    >>> revenue_at_k(Ranks(np.array([1.0, 30.0]), np.array([0, 1, 2]), np.array([30.0, 10.0])), 10)
    array([1.5, 0. ])
    """
    _check(ranks, k)
    if ranks.worth is None or not ranks.worth.sum() > 0:
        raise InputError("revenue needs prices of the items", "choose another metric")
    found = np.where(ranks.ranks <= k, ranks.worth, 0.0)
    values: DoubleArray = np.add.reduceat(found, ranks.indptr[:-1])
    return values * (len(ranks) / float(ranks.worth.sum()))


RANK_METRICS: Final[Registry[Callable[..., DoubleArray]]] = Registry(
    "twotower.metrics",
    "metric",
    {
        "HR": "twotower.evaluation.metrics:hit_rate_at_k",
        "NDCG": "twotower.evaluation.metrics:ndcg_at_k",
        "Recall": "twotower.evaluation.metrics:recall_at_k",
        "Precision": "twotower.evaluation.metrics:precision_at_k",
        "MAP": "twotower.evaluation.metrics:average_precision_at_k",
        "Revenue": "twotower.evaluation.metrics:revenue_at_k",
        "MRR": "twotower.evaluation.metrics:mrr",
    },
)
"""Name → function of `Ranks` and, where the name has one, a cut-off: ``NDCG@10`` is
``ndcg_at_k(ranks, 10)``, ``MRR`` is ``mrr(ranks)``."""
_AT_K: Final = ("HR", "NDCG", "Recall", "Precision", "MAP", "Revenue")


def metric_values(ranks: Ranks, names: Sequence[str]) -> DoubleArray:
    """``(queries, metrics)`` values of metrics by their name in results files.

    >>> metric_values(Ranks.single([2, 30]), ["HR@5", "MRR"]).round(3)
    array([[1.   , 0.5  ],
           [0.   , 0.033]])
    """
    return np.stack([_metric(ranks, name) for name in names], axis=1)


def _metric(ranks: Ranks, name: str) -> DoubleArray:
    kind, at, k = name.partition("@")
    wrong = k.isdecimal() if kind == "MRR" else kind in _AT_K and not k.isdecimal()
    if kind not in RANK_METRICS or wrong or (at and not k.isdecimal()):
        cut = ", ".join(metric for metric in RANK_METRICS if metric != "MRR")
        raise InputError(
            f"unknown metric {name!r}", f"pass MRR or one of {cut} with a cut-off, such as NDCG@10"
        )
    metric = RANK_METRICS.find(kind)
    return metric(ranks, int(k)) if at else metric(ranks)


def _hits(ranks: Ranks, k: int) -> DoubleArray:
    _check(ranks, k)
    return np.add.reduceat((ranks.ranks <= k).astype(np.float64), ranks.indptr[:-1])


def _check(ranks: Ranks, k: int) -> None:
    if k < 1:
        raise InputError(f"k must be at least 1, got {k}")
    if len(ranks) == 0:
        raise InputError("no queries to average over", "evaluate at least one query")
