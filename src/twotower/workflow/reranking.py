"""The second stage, fitted on validation, and both stages together as a model to evaluate."""

from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
from torch.nn import functional as F

from twotower.bundle.blend import SIGNALS, Blend
from twotower.data import Dataset, Histories, Part, Queries
from twotower.errors import InputError
from twotower.factors.item_knn import ItemKNN
from twotower.factors.scorer import trained_items
from twotower.index import top_k
from twotower.models.base import VectorScorer
from twotower.models.text_components import TextComponents
from twotower.training.fit import Trained
from twotower.types import Array, FloatArray
from twotower.workflow.models import text_vectors
from twotower.workflow.progress import Reporter, Silent

RECENCY: Final = 0.5
TEXT_RECENCY: Final = 0.9
"""What the titles of a history are about changes more slowly than what is bought next."""
TEXT_COMPONENTS: Final = 128
CANDIDATES: Final = 1000
FITTED_CANDIDATES: Final = 30
"""Candidates that weights are fitted on: an item further down is rarely one of the best ten, and
with a thousand the weights would mind how it is ordered there."""
MOST_QUERIES: Final = 20_000
"""Validation users that weights are fitted on; one in eight has the item among so few."""
RERANKED: Final = "+rerank"
"""What the name of a model gets behind it where the second stage has ordered its candidates."""
_BATCH: Final = 256


def unfitted_blend(train: Histories, text: FloatArray) -> Blend:
    """The signals of a training part, and weights of zero.

    Parameters
    ----------
    text
        ``(num_items, t)`` unit text vectors.
    """
    similarity = ItemKNN.fit(train, len(text)).similarity
    components = TextComponents.fit(text[trained_items(train, len(text))], TEXT_COMPONENTS)
    counts = np.bincount(train.items, minlength=len(text))
    return Blend(
        weights=np.zeros(len(SIGNALS), dtype=np.float32),
        recency=RECENCY,
        text_recency=TEXT_RECENCY,
        indptr=similarity.indptr.astype(np.int64),
        neighbours=similarity.indices.astype(np.int32),
        similarity=similarity.data.astype(np.float32),
        text=F.normalize(components(torch.from_numpy(text)), dim=-1).numpy(),
        popularity=np.log1p(counts).astype(np.float32),
    )


def fit_blend(
    scorer: VectorScorer,
    dataset: Dataset,
    text: FloatArray,
    *,
    candidates: int = FITTED_CANDIDATES,
    max_queries: int = MOST_QUERIES,
) -> Blend:
    """Fit the weights so that the validation items come first among the candidates.

    The loss is the softmax cross-entropy of the held-out item among the candidates of its query,
    over the queries whose candidates hold it; four weights, by L-BFGS.

    Raises
    ------
    InputError
        Where no candidate list holds its target.
    """
    blend = unfitted_blend(dataset.train, text)
    exclude_seen = not dataset.has_repeats
    queries, targets = dataset.held_out(Part.VALIDATION)
    chosen = np.random.default_rng(0).permutation(len(queries))[:max_queries]
    queries, targets = queries.select(np.sort(chosen)), targets.select(np.sort(chosen))
    # As many for every query, so that none has a place without an item.
    left = scorer.num_items - (int(queries.histories.lengths.max()) if exclude_seen else 0)
    candidates = max(1, min(candidates, left))
    examples, positives = [], []
    for start in range(0, len(queries), _BATCH):
        rows = np.arange(start, min(start + _BATCH, len(queries)))
        block = queries.select(rows)
        excluded = block.histories if exclude_seen else None
        scores, items = top_k(scorer.scores(block), candidates, excluded)
        for row, wanted in enumerate(targets.row(int(row))[0] for row in rows):
            place = np.flatnonzero(items[row] == wanted)
            if len(place):
                history = block.histories.row(row)
                examples.append(blend.signals(history, items[row], scores[row]))
                positives.append(int(place[0]))
    if not examples:
        raise InputError(
            "no held-out item is among its candidates", "train the model longer, or ask for more"
        )
    signals = np.stack(examples)
    weights = fitted_weights(signals, np.asarray(positives))
    return Blend(**{**vars(blend), "weights": weights})


def fitted_blend(trained: Trained, dataset: Dataset, reporter: Reporter | None = None) -> Blend:
    """A second stage for a trained two-tower, fitted on validation."""
    variant = trained.variant
    text = text_vectors(dataset, variant.text_encoder, variant.text_fields, reporter or Silent())
    return fit_blend(trained.module.scorer(), dataset, text)


def fitted_weights(signals: FloatArray, positives: Array) -> FloatArray:
    """``(queries, candidates, signals)`` and the place of each query's item to the weights."""
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
    return fitted


@dataclass(frozen=True)
class TwoStages:
    """Retrieval, then the blend over its candidates: what the served pipeline ranks by.

    Candidates stand before all other items, which keep the first stage's order.
    """

    retrieval: VectorScorer
    blend: Blend
    candidates: int = CANDIDATES
    exclude_seen: bool = True

    @property
    def num_items(self) -> int:
        """Size of the catalogue."""
        return self.retrieval.num_items

    def scores(self, queries: Queries) -> FloatArray:
        """``(queries, num_items)`` float32."""
        scores = self.retrieval.scores(queries)
        for start in range(0, len(queries), _BATCH):
            rows = np.arange(start, min(start + _BATCH, len(queries)))
            block = queries.select(rows)
            part = scores[rows]
            excluded = block.histories if self.exclude_seen else None
            found, items = top_k(part, min(self.candidates, self.num_items), excluded)
            again = self.blend.scores(block, items, np.where(items < 0, 0, found))
            # Both stages moved to where they cannot overlap.
            part -= part.max(axis=1, keepdims=True)
            again -= np.where(items < 0, np.inf, again).min(axis=1, keepdims=True) - 1
            row, column = np.nonzero(items >= 0)
            part[row, items[row, column]] = again[row, column]
            scores[rows] = part
        return scores
