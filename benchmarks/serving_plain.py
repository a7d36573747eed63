"""The pipeline of `serving_latency.py`, written plainly: PyTorch, FAISS Flat, loops."""

from collections.abc import Sequence

import faiss
import numpy as np
import torch
from scipy import sparse

from twotower.bundle.blend import LONG_RECENCY, Blend, ItemLinks
from twotower.bundle.network import Network
from twotower.bundle.reranker import placed
from twotower.bundle.storage import Bundle
from twotower.errors import InputError
from twotower.models.sequence_towers import SequenceConfig, SequenceUserTower
from twotower.types import FloatArray


class PlainPipeline:
    """Answers histories with item ids. It shares the bundle's numbers and none of its code.

    Parameters
    ----------
    bundle
        Of a model with a sequence tower, such as v9.
    candidates
        Items that are filtered, and re-ranked.
    """

    def __init__(self, bundle: Bundle, candidates: int) -> None:
        contents = bundle.contents
        config = contents.info.config["model"]
        if config["kind"] != "sequence" or contents.history_table is None:
            raise InputError(
                f"the plain pipeline knows sequence towers, got {config['kind']}", "bundle a v9"
            )
        torch.set_num_threads(1)
        self.tower = SequenceUserTower(SequenceConfig.model_validate(config))
        weights = bundle.weights()
        prefix = "user_tower."
        self.tower.load_state_dict(
            {
                name.removeprefix(prefix): torch.from_numpy(value)
                for name, value in weights.items()
                if name.startswith(prefix)
            }
        )
        projection = weights.get("user_map")
        projected = projection is not None and projection.any()
        self.projection = torch.from_numpy(projection) if projected else None
        self.tower.eval()
        self.length = contents.info.history_length
        self.history_table = torch.from_numpy(contents.history_table)
        self.fold_in = contents.info.fold_in
        self.factors = contents.factors
        if self.factors is not None:
            self.gram = self.factors.T @ self.factors
        self.index = faiss.IndexFlatIP(contents.item_vectors.shape[1])
        self.index.add(contents.item_vectors)
        self.item_vectors, self.tower_dim = contents.item_vectors, contents.tower_dim
        self.candidates = candidates
        self.row_of = {item_id: row for row, item_id in enumerate(contents.items.ids)}
        self.catalogue = contents.catalogue.select("item_id", "title").to_dicts()
        self.available = [True] * len(self.catalogue)
        blend = contents.reranker
        if isinstance(blend, Blend):
            self.blend = blend
            self.similarity = matrix(blend.neighbours)
            self.transitions = matrix(blend.transitions)

    def recommend(self, history: Sequence[str], k: int, *, rerank: bool) -> list[str]:
        """The best ``k`` items that are not in the history."""
        rows = [self.row_of[item_id] for item_id in history]
        user = self.encode(rows)
        scores, items = self.index.search(user, self.candidates + len(rows))
        seen = set(rows)
        kept = []
        for score, item in zip(scores[0], items[0], strict=True):
            if item < 0 or item in seen or not self.available[item]:
                continue
            kept.append((float(score), int(item)))
            if len(kept) == self.candidates:
                break
        if rerank:
            kept = self.rerank(rows, user[0], kept)
        return [self.catalogue[item]["item_id"] for _, item in kept[:k]]

    def encode(self, rows: list[int]) -> FloatArray:
        """``(1, d)`` the user's vector: the tower's, and the fold-in behind it."""
        newest = torch.tensor(rows[-self.length :]) + 1
        with torch.no_grad():
            vector = self.tower(self.history_table[newest][None], torch.tensor([len(newest)]))
            if self.projection is not None:
                vector = vector @ self.projection
        if self.fold_in is None or self.factors is None:
            return vector.numpy()
        own = self.factors[rows]
        age = np.arange(len(rows))[::-1]
        weight = self.fold_in.confidence * self.fold_in.recency**age
        penalty = self.fold_in.regularisation * np.eye(len(self.gram))
        matrix = self.gram + penalty + (own.T * weight) @ own
        folded = np.linalg.solve(matrix, own.T @ (1 + weight))
        whole = np.concatenate([vector.numpy()[0], self.fold_in.weight * folded])
        return whole[None].astype(np.float32)

    def rerank(
        self, rows: list[int], user: FloatArray, kept: list[tuple[float, int]]
    ) -> list[tuple[float, int]]:
        """The candidates by the blend's formula or its network, best first."""
        blend = self.blend
        age = np.arange(len(rows))[::-1]
        near = np.asarray(blend.recency**age @ self.similarity[rows]).ravel()
        after = np.asarray(blend.transition_recency**age @ self.transitions[rows]).ravel()
        wanted = blend.text_recency**age @ blend.text[rows]
        wanted = wanted / max(np.linalg.norm(wanted), 1e-6)
        items = [item for _, item in kept]
        signals = [[score for score, _ in kept], near[items], after[items]]
        signals += [blend.text[items] @ wanted, blend.popularity[items], blend.trend[items]]
        had = np.bincount(rows, blend.repeat_recency**age, minlength=blend.num_items)
        signals.append(had[items])
        of_length = [
            weights
            for end, weights in zip(blend.short_lengths, blend.short_weights, strict=True)
            if len(rows) < end
        ]
        if of_length and of_length[0].any():
            scores = np.transpose(signals) @ of_length[0]
        elif blend.network is not None:
            width = self.tower_dim
            long = np.asarray(LONG_RECENCY**age @ self.similarity[rows]).ravel()
            signals += [long[items], blend.text[items] @ blend.text[rows[-1]]]
            signals.append(self.item_vectors[items, :width] @ user[:width])
            scores = through(blend.network, np.transpose(signals), len(rows))
        else:
            scores = np.transpose(signals) @ blend.weights
        scores = placed(np.where(blend.popularity[items] > 0, scores, np.nan))
        return sorted(zip(scores.tolist(), items, strict=True), reverse=True)


def through(network: Network, signals: FloatArray, length: int) -> FloatArray:
    """``(candidates,)`` scores of ``(candidates, k)`` signals, in PyTorch."""
    linear, relu = torch.nn.functional.linear, torch.relu
    lengths = np.full((len(signals), 1), np.log1p(length))
    inputs = np.hstack([signals, lengths]).clip(network.low, network.high)
    inputs = torch.tensor((inputs - network.center) / network.spread, dtype=torch.float32)
    first, second = torch.tensor(network.first.T), torch.tensor(network.second.T)
    hidden = relu(linear(inputs, first, torch.tensor(network.first_bias)))
    hidden = relu(linear(hidden, second, torch.tensor(network.second_bias)))
    scores = inputs @ torch.tensor(network.direct) + hidden @ torch.tensor(network.last)
    return scores.numpy()


def matrix(links: ItemLinks) -> sparse.csr_matrix:
    """``(items, items)`` of compressed rows."""
    size = len(links.indptr) - 1
    return sparse.csr_matrix((links.weights, links.items, links.indptr), shape=(size, size))
