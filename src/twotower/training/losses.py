"""Losses: BPR, InfoNCE and sampled softmax. They see embeddings, not models.

A loss takes `Embeddings` and returns a scalar. The embeddings determine the negatives, so every
loss works with every source of negatives.
"""

import math
from typing import Annotated, Final, Literal, NamedTuple

import torch
from pydantic import BeforeValidator, Field, SerializeAsAny
from torch import Tensor
from torch.nn import functional as F

from twotower.config import Config
from twotower.models.base import Embeddings
from twotower.registry import ConfigRegistry
from twotower.training.softmax import log_partition, same_item


class LossConfig(Config):
    """Settings of a loss; call it with the embeddings of a batch."""

    kind: str

    def __call__(self, embeddings: Embeddings) -> Tensor:
        """A scalar to minimise."""
        raise NotImplementedError


class BPR(LossConfig):
    """Bayesian personalised ranking (Rendle et al., UAI 2009)."""

    kind: Literal["bpr"] = "bpr"
    regularisation: float = Field(1e-4, ge=0)
    """Weight of half the squared norm of the looked-up rows, a mean over the batch."""
    temperature: float = Field(1.0, gt=0)
    """Divisor of score differences. Cosines need a small one: otherwise a difference is at most 2,
    where the logistic function is still almost linear."""

    def __call__(self, embeddings: Embeddings) -> Tensor:
        """``mean softplus((q.n - q.p) / temperature) + regularisation * squared_norm``.

        The mean runs over all pairs of a positive and a negative.
        """
        query, positive = embeddings.query, embeddings.positive
        positive_scores = (query * positive).sum(-1, keepdim=True)  # (B, 1)
        totals, pairs = [], 0.0
        for block in negative_blocks(embeddings):
            losses = F.softplus((block.scores - positive_scores) / self.temperature)
            usable = block.usable
            if len(embeddings.weights):
                usable = usable * embeddings.weights[:, None]
            totals.append((torch.where(block.usable, losses, 0) * usable).sum())
            pairs += float(usable.sum())
        loss = torch.stack(totals).sum() / (pairs or 1)
        return loss + self.regularisation * embeddings.squared_norm


class InfoNCE(LossConfig):
    """Softmax over the positive and its negatives (van den Oord et al., 2018).

    With unit vectors, the ``temperature`` and the batch as negatives, this is the in-batch
    sampled softmax of two-tower retrieval models.
    """

    kind: Literal["info_nce"] = "info_nce"
    temperature: float = Field(0.2, gt=0)
    """What cosines are divided by; smaller means a sharper softmax."""
    log_q: bool = False
    """Whether to apply the log-q correction for the sampling frequency of candidates (Bengio &
    Senécal, 2008). A softmax over candidates sampled in proportion to ``q`` learns
    ``log p(i | u) - log q(i)``, which penalises popular items; corrected, ``log p(i | u)``."""

    def __call__(self, embeddings: Embeddings) -> Tensor:
        """Cross-entropy of each query's positive among all its candidates."""
        query, positive = embeddings.query, embeddings.positive
        own = (query * positive).sum(-1, keepdim=True)  # (B, 1)
        always = torch.ones_like(own, dtype=torch.bool)
        everything = [Block(own, embeddings.log_q[:, None], always), *negative_blocks(embeddings)]
        blocks = []
        for block in everything:
            logits = block.scores / self.temperature
            if self.log_q:
                logits = logits - block.log_q
            blocks.append(logits.masked_fill(~block.usable, float("-inf")))
        logits = torch.cat(blocks, dim=1)  # (B, 1 + C)
        wanted = torch.zeros_like(embeddings.positive_ids)
        return example_mean(F.cross_entropy(logits, wanted, reduction="none"), embeddings)


class SampledSoftmax(LossConfig):
    r"""The softmax over the whole catalogue, estimated from candidates shared by all queries.

    .. math:: -\log \frac{e^{s_+}}{e^{s_+} + \sum_{c \ne +} e^{s_c} / E[n_c]}

    with ``s`` cosines over the temperature and ``E[n_c]`` the expected number of times that an
    item is a candidate, so that the sum is an unbiased estimate of that over all other items
    (Bengio and Senécal, *Adaptive importance sampling to accelerate training of a neural
    probabilistic language model*, 2008). The positive is always included and needs no correction.
    """

    kind: Literal["sampled_softmax"] = "sampled_softmax"
    temperature: float = Field(0.05, ge=0.02)
    """What cosines are divided by; smaller means a sharper softmax."""

    def __call__(self, embeddings: Embeddings) -> Tensor:
        """Cross-entropy of each query's positive, in one pass over the candidates."""
        query, size = embeddings.query, len(embeddings.query)
        own = torch.linalg.vecdot(query, embeddings.positive) / self.temperature  # (B,)
        others = log_partition(
            query,
            embeddings.shared,
            -(embeddings.shared_log_q + math.log(size)),
            self.temperature,
            same_item(embeddings.positive_ids, embeddings.shared_ids),
        )
        return example_mean(torch.logaddexp(own, others) - own, embeddings)


LOSSES: Final = ConfigRegistry(
    "twotower.losses",
    "loss",
    LossConfig,
    {
        "bpr": "twotower.training.losses:BPR",
        "info_nce": "twotower.training.losses:InfoNCE",
        "sampled_softmax": "twotower.training.losses:SampledSoftmax",
    },
)
"""All losses; other packages add theirs through entry points."""

Loss = Annotated[LossConfig, BeforeValidator(LOSSES.parse), SerializeAsAny()]
"""Settings of any loss, discriminated by ``kind``."""


def example_mean(values: Tensor, embeddings: Embeddings) -> Tensor:
    """The mean of ``(B,)`` values over the examples, weighted if they have weights."""
    weights = embeddings.weights
    return (values * weights).sum() / weights.sum() if len(weights) else values.mean()


class Block(NamedTuple):
    """Negatives from one source, scored against every query of a batch."""

    scores: Tensor
    """``(B, C)`` dot products."""
    log_q: Tensor
    """``(C,)`` or ``(B, C)``."""
    usable: Tensor
    """``(B, C)`` bool: see `is_negative`."""


def negative_blocks(embeddings: Embeddings) -> list[Block]:
    """All negatives: in-batch, per example, and shared, as far as there are any."""
    query, positive_ids = embeddings.query, embeddings.positive_ids
    blocks = []
    if embeddings.in_batch:
        scores = query @ embeddings.positive.T  # (B, B)
        usable = is_negative(positive_ids, positive_ids)
        blocks.append(Block(scores, embeddings.log_q, usable))
    if embeddings.negative_ids.shape[1]:
        # Not a batched matrix product, whose backward pass takes about twice as long.
        scores = torch.linalg.vecdot(embeddings.negative, query[:, None])  # (B, M)
        usable = is_negative(positive_ids, embeddings.negative_ids)
        blocks.append(Block(scores, embeddings.negative_log_q, usable))
    if len(embeddings.shared_ids):
        scores = query @ embeddings.shared.T  # (B, S)
        usable = is_negative(positive_ids, embeddings.shared_ids)
        blocks.append(Block(scores, embeddings.shared_log_q, usable))
    return blocks


def is_negative(positive_ids: Tensor, candidate_ids: Tensor) -> Tensor:
    """``(B, C)`` bool: whether a candidate is an item other than the query's positive.

    A candidate that happens to be the positive is an accidental hit, not a negative.

    Parameters
    ----------
    positive_ids
        ``(B,)`` item of each row's positive.
    candidate_ids
        ``(C,)`` item of each column or ``(B, C)`` of each place, -1 for no item.
    """
    return (candidate_ids != positive_ids[:, None]) & (candidate_ids >= 0)
