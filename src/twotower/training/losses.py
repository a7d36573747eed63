"""Losses see embeddings, not models.

A loss takes `Embeddings` and returns a scalar. Logit corrections are small functions with one
argument order: ``(logits, query_or_positive_information, candidate_information)``.
"""

from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional as F

from twotower.config import Config
from twotower.models.base import Embeddings


class BPR(Config):
    """Bayesian personalised ranking (Rendle et al., UAI 2009)."""

    kind: Literal["bpr"] = "bpr"
    regularisation: float = Field(1e-4, ge=0)
    """Weight of half the squared norm of the looked-up rows, a mean over the batch."""

    def __call__(self, embeddings: Embeddings) -> Tensor:
        """``mean softplus(q.n - q.p) + regularisation * squared_norm``.

        The mean runs over examples and, where there are several, over their negatives.
        """
        query, positive, negative = embeddings.query, embeddings.positive, embeddings.negative
        positive_scores = (query * positive).sum(-1, keepdim=True)  # (B, 1)
        negative_scores = (negative @ query[:, :, None]).squeeze(-1)  # (B, M)
        loss = F.softplus(negative_scores - positive_scores).mean()
        return loss + self.regularisation * embeddings.squared_norm


class InfoNCE(Config):
    """Softmax over the positives of the batch (van den Oord et al., 2018).

    With unit vectors and the ``temperature``, this is the in-batch sampled softmax of
    two-tower retrieval models.
    """

    kind: Literal["info_nce"] = "info_nce"
    temperature: float = Field(0.2, gt=0)
    """What cosines are divided by; smaller means a sharper softmax."""
    log_q: bool = False
    """Whether logits are corrected for popular items being in a batch more often."""

    def __call__(self, embeddings: Embeddings) -> Tensor:
        """Cross-entropy of each query's positive among all positives of the batch."""
        query, positive = embeddings.query, embeddings.positive
        ids = embeddings.positive_ids
        logits = query @ positive.T / self.temperature  # (B, B)
        if self.log_q:
            logits = subtract_log_q(logits, embeddings.log_q)
        logits = mask_accidental_hits(logits, ids, ids)
        return F.cross_entropy(logits, torch.arange(len(query), device=query.device))


Loss = Annotated[BPR | InfoNCE, Field(discriminator="kind")]
"""Every loss there is; a new one is a class in this file and a name here."""


def subtract_log_q(logits: Tensor, log_q: Tensor) -> Tensor:
    """Correct for candidates that are sampled in proportion to ``q`` (Bengio & Senécal, 2008).

    Without it a softmax over sampled candidates learns ``log p(i | u) - log q(i)``, which
    holds the popular items back; with it, ``log p(i | u)``.

    Parameters
    ----------
    logits
        ``(B, C)``.
    log_q
        ``(C,)`` log chance of each candidate to be drawn.
    """
    return logits - log_q[None, :]


def mask_accidental_hits(logits: Tensor, positive_ids: Tensor, candidate_ids: Tensor) -> Tensor:
    """Set a candidate that is the same item as the query's positive to ``-inf``.

    Parameters
    ----------
    logits
        ``(B, C)``, the positive of row ``b`` in column ``b``, which stays.
    positive_ids
        ``(B,)`` item of each row's positive.
    candidate_ids
        ``(C,)`` item of each column.
    """
    same = positive_ids[:, None] == candidate_ids[None, :]
    same.fill_diagonal_(False)
    return logits.masked_fill(same, float("-inf"))
