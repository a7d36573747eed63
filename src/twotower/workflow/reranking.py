"""Fitting of the re-ranking stage on validation, and evaluation of both stages as one model."""

import itertools
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Final, TypeAlias

import numpy as np
import torch
from scipy import sparse
from torch.nn import functional as F

from twotower.bundle.blend import (
    ALL_SIGNALS,
    AS_RETRIEVED,
    SIGNAL_OF,
    SIGNALS,
    Blend,
    ItemLinks,
)
from twotower.bundle.reranker import MOST_CANDIDATES, placed
from twotower.bundle.trend import Trend, half_lives
from twotower.data import Dataset, Histories, Part, Queries
from twotower.errors import InputError
from twotower.evaluation.metrics import ndcg_at_k
from twotower.evaluation.ranking import Ranks
from twotower.factors.ease import EASE
from twotower.factors.item_knn import ItemKNN
from twotower.factors.scorer import FactorScorer, trained_items
from twotower.factors.transitions import transition_links
from twotower.index import top_k
from twotower.models.base import VectorScorer
from twotower.models.projection import TextComponents
from twotower.training.fit import Trained
from twotower.types import Array, DoubleArray, FloatArray, IndexArray
from twotower.workflow.models import text_vectors
from twotower.workflow.progress import Reporter, Silent
from twotower.workflow.reranking_network import fitted_network

RECENCIES: Final[Mapping[str, tuple[float, ...]]] = {
    "recency": (0.5, 1.0, 0.9, 0.7, 0.3),
    "transition_recency": (0.6, 0.3, 0.9),
    "text_recency": (0.9, 1.0, 0.6),
    "repeat_recency": (0.7, 1.0, 0.9, 0.3),
}
"""Values tried for the recencies of a `Blend`; the first without a fit. The topic of a history's
titles changes more slowly than the next item."""
EASE_ITEMS: Final = 5_000
"""Most items in the training part for fitting EASE, which inverts a matrix with a row per item."""
EASE_LINKS: Final = 200
MOST_LINKS: Final = 20_000_000
"""Most item-kNN similarities in a bundle, 160 MB: 760 per item for 26 thousand items."""
LEAST_LINKS: Final = 50
"""Fewest similarities per item in a bundle, however many items there are."""
TEXT_COMPONENTS: Final = 128
ENOUGH: Final = (100, 200, 300, 500, MOST_CANDIDATES)
"""Numbers of candidates to re-rank that are tried."""
AS_GOOD: Final = 0.0005
"""Share of the best NDCG@10 that may be lost by re-ranking fewer candidates."""
FITTED_CANDIDATES: Final = 30
"""Candidates per query for fitting weights: lower-ranked items rarely reach the top ten, and with
a thousand the weights would be fitted to the order far down the list."""
MOST_QUERIES: Final = 20_000
"""Most validation users for fitting weights; one in eight has the held-out item among so few
candidates."""
NEAR: Final = 80
"""Top candidates per query for fitting a network, which has more to learn than seven weights."""
FAR: Final = 20
"""Further candidates per query, drawn at random from the rest, to train the network on candidates
like those it is served with."""
LEAST_FITTED: Final = 10 * len(SIGNALS)
"""Fewest held-out items among `FITTED_CANDIDATES` for serving the weights by default: ten per
weight, the usual rule for logistic regression (Peduzzi et al., *J. Clin. Epidemiol.* 1996)."""
LEAST_EXAMPLES: Final = 500
"""Fewest held-out items among `NEAR` candidates for fitting a network."""
FOLDS: Final = 4
"""Cross-validation folds of users for the network: with two folds, networks fitted on half of the
users were so much worse that they were rejected where a network fitted on all would have helped."""
CLEAR: Final = 3.0
"""Standard errors of a network's gain or loss from which the remaining folds are skipped."""
MOST_JUDGED: Final = 4_000
"""Most queries for comparing orders of candidates, over all folds."""
SHORT_QUERIES: Final = 5_000
"""Most validation users whose histories are truncated to represent short ones."""
_BATCH: Final = 256
_NEAR: Final = slice(FITTED_CANDIDATES)
_Example: TypeAlias = tuple[IndexArray, Array, FloatArray, FloatArray, int | None]
"""History, candidates, their scores, the towers' part of the scores, and the time of a query: see
`Blend.signals`."""


def unfitted_blend(
    train: Histories,
    text: FloatArray,
    *,
    by_ease: bool = False,
    half_life: float | None = None,
) -> Blend:
    """A blend with the signals of a training part and zero weights.

    Parameters
    ----------
    text
        ``(num_items, t)`` unit text vectors.
    by_ease
        Whether item similarities are EASE's; else item-kNN's.
    half_life
        Half-life of the trend, in seconds; None for the first of `half_lives`.
    """
    count = len(text)
    if half_life is None:
        half_life = next(iter(half_lives(train)), 0.0)
    trend = Trend.fit(train, half_life)
    components = TextComponents.fit(text[trained_items(train, count)], TEXT_COMPONENTS)
    recencies: dict[str, Any] = {name: values[0] for name, values in RECENCIES.items()}
    return Blend(
        weights=np.zeros(len(SIGNALS), dtype=np.float32),
        **recencies,
        neighbours=_neighbours(train, count, by_ease=by_ease),
        transitions=_links(transition_links(train, count)),
        text=F.normalize(components(torch.from_numpy(text)), dim=-1).numpy(),
        popularity=np.log1p(np.bincount(train.items, minlength=count)).astype(np.float32),
        trend=trend.at_end(count),
        earlier=trend,
        by_ease=by_ease,
    )


def _neighbours(train: Histories, count: int, *, by_ease: bool) -> ItemLinks:
    """Similarities of ``count`` items, by EASE or by item-kNN."""
    if by_ease:
        return _links(EASE.fit(train, count, links=EASE_LINKS).similarity)
    most = max(LEAST_LINKS, MOST_LINKS // count)
    return _links(ItemKNN.fit(train, count, neighbours=most).similarity)


def _links(matrix: sparse.csr_array) -> ItemLinks:
    return ItemLinks(
        matrix.indptr.astype(np.int64),
        matrix.indices.astype(np.int32),
        matrix.data.astype(np.float32),
    )


def fit_blend(
    scorer: VectorScorer,
    dataset: Dataset,
    text: FloatArray,
    *,
    candidates: int = FITTED_CANDIDATES,
    reporter: Reporter | None = None,
) -> Blend:
    """Fit the re-ranking weights to put held-out validation items first among the candidates.

    Seven weights are fitted by L-BFGS. The loss is the softmax cross-entropy of a held-out item
    among the candidates of its query, over the held-out items that are candidates. The recencies,
    the half-life of the trend, and the similarity (item-kNN or EASE) are those with the lowest
    loss. Queries do not give the target's time: the trend is taken at the user's last event or, if
    all targets come after the training part, at its end, since the trend at the last event would
    then be out of date. A network is also fitted and kept if it is better, see `with_network`;
    short histories get weights of their own, see `with_short_weights`.

    Raises
    ------
    InputError
        Where no candidate list holds its target.
    """
    advance = (reporter or Silent()).counting("fit the second stage", FOLDS + 4, uneven=True)
    queries, targets = dataset.held_out(Part.VALIDATION)
    chosen = np.random.default_rng(0).permutation(len(queries))[:MOST_QUERIES]
    queries, targets = queries.select(np.sort(chosen)), targets.select(np.sort(chosen))
    train = dataset.train
    first = unfitted_blend(train, text)
    after = _come_after(targets, train)
    first = replace(first, earlier=replace(first.earlier, after_log=after))
    seen = None if dataset.has_repeats else queries.histories.seen
    found = _candidates(scorer, queries, targets, first.earlier, seen)
    advance(1)
    near = found.among(candidates)
    if not len(near):
        raise InputError(
            "no held-out item is among its candidates", "train the model longer, or ask for more"
        )
    blends = [first]
    if len(np.unique(train.items)) <= EASE_ITEMS:
        links = _neighbours(train, len(text), by_ease=True)
        blends.append(replace(first, neighbours=links, by_ease=True))
    others = (Trend.fit(train, half_life) for half_life in half_lives(train)[1:])
    trends = [first.earlier, *(replace(other, after_log=after) for other in others)]
    kept = near.drawn(MOST_QUERIES)
    examples = [kept.example(place, slice(candidates)) for place in range(len(kept))]
    blend, signals = _chosen(blends, {**RECENCIES, "earlier": trends}, examples, kept.positives)
    blend = replace(blend, helps=_helps(blend, kept, signals, found))
    advance(1)
    blend = with_network(blend, found.among(NEAR).drawn(MOST_QUERIES), advance)
    blend = with_short_weights(blend, scorer, queries, targets, seen)
    blend = replace(blend, candidates=_enough(blend, found.drawn(MOST_JUDGED)))
    advance(1)
    return blend


def _come_after(targets: Histories, train: Histories) -> bool:
    """Whether all targets come after the whole training part, as in a split by time."""
    if targets.timestamps is None or train.timestamps is None:
        return False
    return bool(targets.timestamps.min() >= train.timestamps.max())


@dataclass(frozen=True)
class _Candidates:
    """Candidates of queries, best first; one row per held-out item found among them."""

    queries: Queries
    items: Array
    """``(queries, candidates)`` int64."""
    scores: FloatArray
    """``(queries, candidates)``."""
    towers: FloatArray
    """``(queries, candidates)`` the towers' part of the scores."""
    moments: Sequence[int | None]
    owners: Array
    """``(rows,)`` the query of each held-out item."""
    positives: Array
    """``(rows,)`` its place among the candidates."""

    def __len__(self) -> int:
        return len(self.owners)

    def kept(self, rows: Array) -> "_Candidates":
        return replace(self, owners=self.owners[rows], positives=self.positives[rows])

    def among(self, best: int) -> "_Candidates":
        """Rows whose held-out item is among the ``best`` first candidates."""
        return self.kept(np.flatnonzero(self.positives < best))

    def drawn(self, most: int) -> "_Candidates":
        """At most so many of them, drawn at random."""
        return self.kept(np.sort(np.random.default_rng(0).permutation(len(self))[:most]))

    def example(self, row: int, places: Array | slice) -> _Example:
        """The example of a row, with the candidates at these places of the list."""
        query = int(self.owners[row])
        history = self.queries.histories.row(query)
        items, scores, towers = (
            each[query, places] for each in (self.items, self.scores, self.towers)
        )
        return history, items, scores, towers, self.moments[query]

    @property
    def lengths(self) -> Array:
        """``(rows,)`` items in the history."""
        return self.queries.histories.lengths[self.owners]


def _candidates(
    scorer: VectorScorer,
    queries: Queries,
    targets: Histories,
    trend: Trend,
    seen: Histories | None,
) -> _Candidates:
    """The best `MOST_CANDIDATES` unseen items of each query, or as many as every query has."""
    left = scorer.num_items - (0 if seen is None else int(seen.lengths.max()))
    count = max(1, min(MOST_CANDIDATES, left))
    items = np.empty((len(queries), count), dtype=np.int32)
    scores = np.empty((len(queries), count), dtype=np.float32)
    towers = np.empty((len(queries), count), dtype=np.float32)
    vectors = scorer.item_vectors()
    owners, positives = [], []
    for start in range(0, len(queries), _BATCH):
        rows = np.arange(start, min(start + _BATCH, len(queries)))
        block = queries.select(rows)
        excluded = None if seen is None else seen.select(rows)
        users = scorer.user_vectors(block)
        scores[rows], items[rows] = top_k(users @ vectors.T, count, excluded)
        towers[rows] = _tower_scores(scorer, users, vectors, items[rows])
        for query in rows.tolist():
            places = np.flatnonzero(np.isin(items[query], targets.row(query)))
            owners += [query] * len(places)
            positives += places.tolist()
    return _Candidates(
        queries,
        items,
        scores,
        towers,
        trend.moments(queries),
        np.asarray(owners),
        np.asarray(positives),
    )


def _tower_scores(
    scorer: VectorScorer, users: FloatArray, vectors: FloatArray, items: Array
) -> FloatArray:
    """``(queries, candidates)`` the towers' part of the scores of ``items``."""
    width = scorer.tower_dim if isinstance(scorer, FactorScorer) else None
    found = [vectors[row, :width] @ user[:width] for row, user in zip(items, users, strict=True)]
    return np.stack(found)


def with_network(
    blend: Blend, found: _Candidates, advance: Callable[[int], None] = lambda _: None
) -> Blend:
    """The blend, with a network if that is better in cross-validation over validation users.

    ``found`` are held-out items among the best `NEAR` candidates. In each of `FOLDS` folds a
    network fitted on the other users ranks all candidates of the fold's users; folds are skipped
    once the result is `CLEAR`. If NDCG@10 gains more than a standard error over the weighted sum,
    a network fitted on all users is kept. ``advance`` receives the progress, in `FOLDS` + 1 steps.
    """
    count = found.items.shape[1]
    if len(found) < LEAST_EXAMPLES or count <= NEAR:
        advance(FOLDS + 1)
        return blend
    rng = np.random.default_rng(0)
    signals = np.empty((len(found), NEAR + min(FAR, count - NEAR), len(ALL_SIGNALS)), np.float32)
    for row in range(len(found)):
        far = NEAR + rng.choice(count - NEAR, signals.shape[1] - NEAR, replace=False)
        signals[row] = blend.signals(*found.example(row, np.append(np.arange(NEAR), far)))
    lengths, fold = found.lengths, found.owners % FOLDS
    owners, over_sum, over_first = [], [], []
    for part in range(FOLDS):
        others = np.flatnonzero(fold != part)
        network = fitted_network(
            signals[others], lengths[others], found.positives[others], blend.weights
        )
        judged = found.kept(np.flatnonzero(fold == part)).drawn(MOST_JUDGED // FOLDS)
        by_first, by_network, by_sum = _judged(blend, judged, network.scores, blend.combined)
        owners += judged.owners.tolist()
        over_sum += (by_network - by_sum).tolist()
        over_first += (by_network - by_first).tolist()
        clear = abs(_gain(over_sum, owners)) > CLEAR
        advance(FOLDS - part if clear else 1)
        if clear:
            break
    if not _gains(over_sum, owners):
        advance(1)
        return blend
    network = fitted_network(signals, lengths, found.positives, blend.weights)
    advance(1)
    return replace(blend, network=network, helps=blend.helps or _gains(over_first, owners))


def with_short_weights(
    blend: Blend,
    scorer: VectorScorer,
    queries: Queries,
    targets: Histories,
    seen: Histories | None,
) -> Blend:
    """The blend, with separate weights for histories shorter than most in validation.

    Length bands are 1 item, 2 to 3, 4 to 7, and so on up to the median length. Each is evaluated on
    validation histories of its length, and on longer ones truncated to it if these are too few.
    The weights of the next longer band compete with the first stage's order by NDCG@10; weights
    fitted for the band replace the winner if they gain more than a standard error for users that
    they were not fitted on.
    """
    lengths = queries.histories.lengths
    median = int(np.median(lengths)) if len(lengths) else 0
    ends = [2**power for power in range(1, median.bit_length())]
    rng = np.random.default_rng(0)
    for end in reversed(ends):
        rows = rng.permutation(np.flatnonzero(lengths >= end // 2))
        rows = rows[np.argsort(lengths[rows] >= end, kind="stable")]  # those of the band first
        rows = np.sort(rows[: SHORT_QUERIES // len(ends)])
        whole = queries.select(rows)
        counts = np.where(
            lengths[rows] < end, lengths[rows], rng.integers(end // 2, end, len(rows))
        )
        cut = Queries.anonymous(whole.histories.last(counts), whole.contexts)
        had = None if seen is None else seen.select(rows)
        found = _candidates(scorer, cut, targets.select(rows), blend.earlier, had)
        weights = _best_weights(blend, found)
        blend = replace(
            blend,
            short_lengths=np.append(np.int32(end), blend.short_lengths),
            short_weights=np.concatenate([weights[None], blend.short_weights]),
        )
    return blend


def _best_weights(blend: Blend, found: _Candidates) -> FloatArray:
    """``(7,)`` the weights that rank truncated histories best.

    Zeros mean the weights or network of full histories. ``blend`` has the weights of longer bands.
    """
    longer = blend.short_weights[0] if len(blend.short_weights) else np.zeros_like(blend.weights)
    near = found.among(FITTED_CANDIDATES)
    half = near.owners % 2
    if not half.any() or half.all():
        return AS_RETRIEVED
    signals = _stacked(blend, [near.example(row, _NEAR) for row in range(len(near))])
    by_first, by_longer, by_own = np.zeros((3, len(found)))
    for part in (0, 1):
        own, _ = fitted_weights(signals[half != part], near.positives[half != part])
        rows = np.flatnonzero(found.owners % 2 == part)
        by_first[rows], by_longer[rows], by_own[rows] = _judged(
            blend, found.kept(rows), blend.combined, partial(_weighted, own)
        )
    best, weights = (
        (by_longer, longer) if by_longer.mean() > by_first.mean() else (by_first, AS_RETRIEVED)
    )
    if _gains(by_own - best, found.owners):
        weights, _ = fitted_weights(signals, near.positives)
    return weights


def _chosen(
    blends: Sequence[Blend],
    fields: Mapping[str, Sequence[Any]],
    examples: Sequence[_Example],
    positives: Array,
) -> tuple[Blend, FloatArray]:
    """The blend with the lowest loss over the values of some of its fields, with fitted weights,
    and the signals that these were fitted to.

    Each of these fields changes only one signal: its values are tried with the best values of the
    fields before it. The given blends have the first values.
    """
    least = np.inf
    tried = [(one, _stacked(one, examples)) for one in blends]
    best, found = tried[0]
    for name, values in fields.items():
        signal = SIGNAL_OF[name]
        place = SIGNALS.index(signal)
        if least < np.inf and not found[..., place].any():
            continue  # not informative on this log, whatever the value
        others = values if least == np.inf else values[1:]  # the first has been tried
        for (start, before), value in itertools.product(tried, others):
            changed: dict[str, Any] = {name: value}
            blend, signals = replace(start, **changed), before.copy()
            for row, (history, items, *_, moment) in enumerate(examples):
                signals[row, :, place] = blend.signal(signal, history, items, moment)
            weights, loss = fitted_weights(signals, positives)
            if loss < least:
                best, least, found = replace(blend, weights=weights), loss, signals
        tried = [(best, found)]
    trend = best.earlier.at_end(best.num_items)
    return replace(best, trend=trend), found


def _stacked(blend: Blend, examples: Sequence[_Example]) -> FloatArray:
    """``(examples, candidates, 7)`` signals for fitting weights."""
    return np.stack([blend.signals(*each)[:, : len(SIGNALS)] for each in examples])


def _helps(blend: Blend, near: _Candidates, signals: FloatArray, found: _Candidates) -> bool:
    """Whether weights fitted on other users raise NDCG@10 by more than a standard error.

    Weights are fitted on ``near``, whose first candidates have these ``signals``, but re-rank all
    candidates, as in serving: weights that raise an item among the best thirty may raise hundreds
    of lower ones above it. With fewer than `LEAST_FITTED` examples, weights would fit noise.
    """
    if len(near) < LEAST_FITTED:
        return False
    gains: list[float] = []
    owners: list[int] = []
    for part in (0, 1):
        others = near.owners % 2 != part
        if not others.any() or others.all():
            return False
        weights, _ = fitted_weights(signals[others], near.positives[others])
        judged = found.kept(np.flatnonzero(found.owners % 2 == part)).drawn(MOST_JUDGED // 2)
        before, again = _judged(blend, judged, partial(_weighted, weights))
        gains += (again - before).tolist()
        owners += judged.owners.tolist()
    return _gains(gains, owners)


def _enough(blend: Blend, found: _Candidates) -> int:
    """The smallest of `ENOUGH` whose NDCG@10 is within `AS_GOOD` of the best."""
    ranks = np.full((len(found), len(ENOUGH)), MOST_CANDIDATES + 1)
    for row, place in enumerate(found.positives.tolist()):
        history, items, *_ = example = found.example(row, slice(None))
        scores = blend.combined(blend.signals(*example, blend.used), len(history))
        scores[blend.popularity[items] == 0] = np.nan
        for number, most in enumerate(ENOUGH):
            if place < most:
                ordered = placed(scores[:most])
                ranks[row, number] = 1 + np.count_nonzero(ordered > ordered[place])
    figures = _ndcg(ranks.ravel()).reshape(ranks.shape).sum(axis=0)
    if not figures.any():
        return MOST_CANDIDATES
    return ENOUGH[int(np.argmax(figures >= (1 - AS_GOOD) * figures.max()))]


def _judged(
    blend: Blend, found: _Candidates, *orders: Callable[[FloatArray, int], FloatArray]
) -> DoubleArray:
    """``(1 + orders, rows)`` NDCG@10 of held-out items among all their candidates.

    First in the first stage's order, then by each given score, a function of `Blend.signals` and
    of the history's length.
    """
    ranks = np.empty((1 + len(orders), len(found)), dtype=np.int64)
    ranks[0] = 1 + found.positives
    for row, place in enumerate(found.positives.tolist()):
        example = found.example(row, slice(None))
        signals = blend.signals(*example)
        for number, order in enumerate(orders, 1):
            scores = order(signals, len(example[0]))
            ranks[number, row] = 1 + np.count_nonzero(scores > scores[place])
    return _ndcg(ranks.ravel()).reshape(ranks.shape)


def _weighted(weights: FloatArray, signals: FloatArray, _: int) -> FloatArray:
    """Scores of `Blend.signals` by a weighted sum, whatever the length of the history."""
    return signals[:, : len(SIGNALS)] @ weights


def _gains(gains: Array | Sequence[float], owners: Array | Sequence[int]) -> bool:
    """Whether the mean gain per user, averaged over users, exceeds its standard error."""
    return _gain(gains, owners) > 1


def _gain(gains: Array | Sequence[float], owners: Array | Sequence[int]) -> float:
    """The mean gain per user, averaged over users, in standard errors."""
    _, user, targets = np.unique(owners, return_inverse=True, return_counts=True)
    of_users = np.bincount(user, gains) / targets
    error = max(float(of_users.std() / np.sqrt(len(of_users))), sys.float_info.min)
    return float(of_users.mean()) / error


def fitted_blend(
    trained: Trained, dataset: Dataset, reporter: Reporter | None = None
) -> Blend | None:
    """A re-ranking stage for a trained two-tower, fitted on validation; None without validation."""
    if not dataset.has(Part.VALIDATION):
        return None
    variant = trained.variant
    text = text_vectors(dataset, variant.text_encoder, variant.text_fields, reporter or Silent())
    return fit_blend(trained.module.scorer(), dataset, text, reporter=reporter)


SecondStage: TypeAlias = Callable[[Trained], Blend | None]
"""Returns the re-ranking stage of a trained model."""


def fitted_once(dataset: Dataset, reporter: Reporter) -> SecondStage:
    """`fitted_blend` with a cache, for the seeds of one model."""
    fitted: dict[int, Blend | None] = {}

    def second_stage(trained: Trained) -> Blend | None:
        if trained.seed not in fitted:
            fitted[trained.seed] = fitted_blend(trained, dataset, reporter)
        return fitted[trained.seed]

    return second_stage


def fitted_weights(signals: FloatArray, positives: Array) -> tuple[FloatArray, float]:
    """Weights and loss, fitted to signals ``(queries, candidates, signals)`` and each target's
    place among its candidates.
    """
    spread = np.maximum(signals.std(axis=(0, 1)), 1e-6)
    inputs, wanted = torch.from_numpy(signals / spread), torch.from_numpy(positives)
    weights = torch.zeros(signals.shape[-1], requires_grad=True)
    optimiser = torch.optim.LBFGS([weights], max_iter=50, line_search_fn="strong_wolfe")

    def closure() -> float:
        loss = F.cross_entropy(inputs @ weights, wanted) + 1e-4 * weights.square().sum()
        (weights.grad,) = torch.autograd.grad(loss, weights)
        return float(loss.detach())

    optimiser.step(closure)  # type: ignore[no-untyped-call]
    fitted: FloatArray = (weights.detach().numpy() / spread).astype(np.float32)
    return fitted, closure()


def _ndcg(ranks: Array) -> DoubleArray:
    """NDCG@10 of queries whose single target has these ranks, from 1."""
    return ndcg_at_k(Ranks.single(ranks), 10)


@dataclass(frozen=True)
class TwoStages:
    """Retrieval and re-ranking as one model: the ranking of the served pipeline.

    Candidates and seen items rank before all other items, which keep the first stage's order. Seen
    items are thus ranked by the blend where they are not masked.
    """

    retrieval: VectorScorer
    blend: Blend
    candidates: int | None = None
    exclude_seen: bool = True

    @property
    def num_items(self) -> int:
        """Size of the catalogue."""
        return self.retrieval.num_items

    @property
    def reads_context(self) -> tuple[str, ...]:
        """Declared columns of the log that the first stage reads."""
        return getattr(self.retrieval, "reads_context", ())

    @property
    def time_context(self) -> tuple[str, ...]:
        """Those of them that derive from the time of the request."""
        return getattr(self.retrieval, "time_context", ())

    def scores(self, queries: Queries) -> FloatArray:
        """``(queries, num_items)`` float32."""
        wanted = self.blend.candidates if self.candidates is None else self.candidates
        users, vectors = self.retrieval.user_vectors(queries), self.retrieval.item_vectors()
        scores: FloatArray = users @ vectors.T
        for start in range(0, len(queries), _BATCH):
            rows = np.arange(start, min(start + _BATCH, len(queries)))
            block = queries.select(rows)
            part = scores[rows]
            excluded = block.histories.seen if self.exclude_seen else None
            found, items = top_k(part, min(wanted, self.num_items), excluded)
            count = items.shape[1]
            if self.exclude_seen:  # seen items are ranked too, for protocols that do not mask them
                padded, _ = block.histories.padded(int(block.histories.lengths.max(initial=1)))
                seen = padded.astype(np.int64) - 1
                had = np.take_along_axis(part, np.maximum(seen, 0), axis=1)
                found, items = np.hstack([found, had]), np.hstack([items, seen])
            towers = _tower_scores(self.retrieval, users[rows], vectors, items)
            again = self.blend.scores(block, items, np.where(items < 0, 0, found), towers)
            again[:, :count] = [placed(scores) for scores in again[:, :count]]
            lowest = np.where(np.isfinite(again), again, np.inf).min(axis=1, keepdims=True)
            again = np.where(np.isnan(again), lowest, again)  # seen, and not in training
            # Shift both stages' scores into disjoint ranges.
            part -= part.max(axis=1, keepdims=True)
            again -= lowest - 1
            row, column = np.nonzero(items >= 0)
            part[row, items[row, column]] = again[row, column]
            scores[rows] = part
        return scores


def both_stages(scorer: VectorScorer, blend: Blend, dataset: Dataset) -> TwoStages:
    """A model with its re-ranking stage; in a log with repeats, seen items are candidates too."""
    return TwoStages(scorer, blend, exclude_seen=not dataset.has_repeats)
