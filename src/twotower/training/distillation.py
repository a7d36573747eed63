"""Distillation from a teacher model: terms added to the loss.

A teacher is any trained model or baseline. Besides the interactions, the student also learns from
the teacher's vectors or scores (Hinton et al., *Distilling the knowledge in a neural network*,
2015).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Annotated, Final, Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional as F

from twotower.config import Config
from twotower.data import Histories, Queries
from twotower.errors import InputError
from twotower.models.base import Embeddings, Scorer, VectorScorer
from twotower.types import Array, FloatArray

_LEAST_SPREAD: Final = 1e-6


class Teacher:
    """Vectors and scores of a trained model or baseline for the users of the training part."""

    def __init__(self, scorer: Scorer, train: Histories, name: str = "teacher") -> None:
        self.name = name
        self._scorer, self._train = scorer, train

    @cached_property
    def own_vectors(self) -> tuple[FloatArray, FloatArray]:
        """Vectors ``(num_users, d)``, from training histories, and ``(num_items, d)``.

        Raises
        ------
        InputError
            Where the teacher scores without vectors.
        """
        if not isinstance(self._scorer, VectorScorer):
            raise InputError(
                f"teacher {self.name!r} has no vectors to learn from",
                "use distillation 'listwise', which learns from scores, or a teacher that has some",
            )
        users = np.arange(len(self._train), dtype=np.int32)
        parts = [
            self._scorer.user_vectors(Queries(part, self._train.select(part)))
            for part in np.array_split(users, -(-len(users) // 4096))
        ]
        return np.concatenate(parts), self._scorer.item_vectors()

    @cached_property
    def _scaled_vectors(self) -> tuple[Tensor, Tensor]:
        user, item = (torch.from_numpy(_scaled(table)) for table in self.own_vectors)
        return user, item

    def vectors(self, users: Tensor, items: Tensor) -> tuple[Tensor, Tensor]:
        """``(B, d)`` of users and of items, each table scaled to a mean squared norm of 1."""
        user_table, item_table = self._scaled_vectors
        user, item = user_table[users.cpu()], item_table[items.cpu()]
        return user.to(users.device), item.to(items.device)

    def scores(self, users: Tensor, items: Array) -> Tensor:
        """``(B, C)`` float32 scores of ``(C,)`` items, for users with their training history."""
        rows = users.cpu().numpy()
        queries = Queries(rows.astype(np.int32), self._train.select(rows))
        scores = self._scorer.scores(queries)[:, items]
        return torch.from_numpy(scores).to(users.device)


class _FromVectors(Config):
    """A term that compares the vectors of the batch's users and positives with a teacher's."""

    teacher: str
    """Name of a model or baseline that has vectors, of as many dimensions as the student's."""
    weight: float = Field(gt=0)
    """What the term is multiplied by before it is added to the loss."""

    def _pairs(self, embeddings: Embeddings, teacher: Teacher) -> list[tuple[Tensor, Tensor]]:
        user, item = teacher.vectors(embeddings.users, embeddings.positive_ids)
        if user.shape[1] != embeddings.query.shape[1]:
            raise InputError(
                f"teacher {teacher.name!r} has vectors of {user.shape[1]} dimensions, "
                f"the student's have {embeddings.query.shape[1]}",
                "give both the same embedding_dim",
            )
        return [(embeddings.query, user), (embeddings.positive, item)]


class MSE(_FromVectors):
    """Mean squared distance to the teacher's vectors, a mean over users and items.

    Squares are summed over the dimensions, not averaged: an average would be negligible beside the
    loss, more so with more dimensions. Unlike in `Cosine`, the teacher's vectors keep their
    relative lengths, and longer ones weigh more.
    """

    kind: Literal["mse"] = "mse"

    def __call__(self, embeddings: Embeddings, teacher: Teacher) -> Tensor:
        """``mean_b ||s_b - t_b||^2``; 0 for the teacher itself."""
        distances = [
            (student - wanted).square().sum(-1).mean()
            for student, wanted in self._pairs(embeddings, teacher)
        ]
        return torch.stack(distances).mean()


class Cosine(_FromVectors):
    """One minus the cosine to the teacher's vectors, a mean over users and items."""

    kind: Literal["cosine"] = "cosine"

    def __call__(self, embeddings: Embeddings, teacher: Teacher) -> Tensor:
        """``mean_b (1 - cos(s_b, t_b))``; 0 for the teacher itself."""
        distances = [
            1 - F.cosine_similarity(student, wanted, dim=-1).mean()
            for student, wanted in self._pairs(embeddings, teacher)
        ]
        return torch.stack(distances).mean()


class Listwise(Config):
    """Kullback-Leibler divergence from the teacher's distribution over candidates (Tang & Wang,
    *Ranking distillation*, KDD 2018, with the batch as the list).

    The candidates of a user are the distinct positives of the batch and its shared negatives.
    """

    kind: Literal["listwise"] = "listwise"
    teacher: str
    """Name of any model or baseline."""
    weight: float = Field(gt=0)
    """What the term is multiplied by before it is added to the loss."""
    temperature: float = Field(0.2, gt=0)
    """What the student's scores are divided by."""
    teacher_temperature: float = Field(1.0, gt=0)
    """What the teacher's scores are divided by, after standardising them per user to mean 0 and
    standard deviation 1: every teacher has its own scale of scores."""

    def __call__(self, embeddings: Embeddings, teacher: Teacher) -> Tensor:
        """``mean_b sum_c t_bc log(t_bc / s_bc)``; 0 for the teacher's own distribution.

        The mean is over users for whom the teacher's scores of the candidates differ.
        """
        candidates = torch.cat([embeddings.positive_ids, embeddings.shared_ids])
        ids, first = np.unique(candidates.cpu().numpy(), return_index=True)
        vectors = torch.cat([embeddings.positive, embeddings.shared])[first]  # (C, d)
        student = (embeddings.query @ vectors.T / self.temperature).log_softmax(-1)  # (B, C)
        scores = teacher.scores(embeddings.users, ids)
        spread = scores.std(-1, correction=0, keepdim=True)  # (B, 1)
        standard = (scores - scores.mean(-1, keepdim=True)) / spread.clamp(min=_LEAST_SPREAD)
        wanted = (standard / self.teacher_temperature).log_softmax(-1)
        divergence = (wanted.exp() * (wanted - student)).sum(-1, keepdim=True)
        tells = spread > _LEAST_SPREAD
        return (divergence * tells).sum() / tells.sum().clamp(min=1)


Distillation = Annotated[MSE | Cosine | Listwise, Field(discriminator="kind")]
"""All distillation terms; to add one, write a class in this file and name it here."""


@dataclass(frozen=True)
class Distilled:
    """A loss with distillation terms added."""

    loss: Callable[[Embeddings], Tensor]
    terms: Sequence[tuple[Distillation, Teacher]]

    def __call__(self, embeddings: Embeddings) -> Tensor:
        """``loss + sum of weight * term``."""
        total = self.loss(embeddings)
        for term, teacher in self.terms:
            total = total + term.weight * term(embeddings, teacher)
        return total


def _scaled(table: FloatArray) -> FloatArray:
    """The table, rescaled so that its rows have a mean squared norm of 1."""
    norm = np.sqrt(np.square(table, dtype=np.float64).sum(axis=1).mean())
    scaled: FloatArray = (table / max(norm, np.finfo(np.float32).tiny)).astype(np.float32)
    return scaled
