import itertools
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from twotower.data import Dataset, Histories, Queries
from twotower.errors import InputError
from twotower.factors.item_knn import ItemKNN
from twotower.factors.scorer import FactorScorer
from twotower.models.base import Batch, Embeddings
from twotower.models.two_tower import TwoTower
from twotower.training.distillation import MSE, Cosine, Distilled, Listwise, Teacher
from twotower.training.fit import fit
from twotower.training.losses import InfoNCE

USERS, ITEMS, DIM = 30, 20, 6
RNG = np.random.default_rng(0)
USER_TABLE = RNG.normal(size=(USERS, DIM)).astype(np.float32)
ITEM_TABLE = RNG.normal(size=(ITEMS, DIM)).astype(np.float32)
TRAIN = Histories.from_lists([sorted({u % ITEMS, (u * 7 + 3) % ITEMS}) for u in range(USERS)])


def factor_teacher(scale: float = 1.0) -> Teacher:
    users = USER_TABLE * np.float32(scale)
    return Teacher(FactorScorer(ITEM_TABLE, lambda q: users[q.users]), TRAIN, "lightgcn")


def as_the_student(query: Any, positive: Any, shared: Any = None, shared_ids: Any = ()) -> Any:
    """Embeddings of users 0, 1, 2 … with items 3, 4, 5, 5, 5 … as positives."""
    size = len(query)
    shared = torch.zeros(0, query.shape[1]) if shared is None else shared
    ids = torch.arange(3, 3 + size).clamp(max=5)
    none = torch.zeros(size, 0)
    batch = Batch(
        torch.arange(size),
        ids,
        torch.zeros(size),
        none.long(),
        none.long(),
        torch.zeros(size),
        none,
        shared=torch.tensor(shared_ids, dtype=torch.int64),
        shared_log_q=torch.zeros(len(shared_ids)),
        in_batch=True,
    )
    return Embeddings.of(
        batch, query, positive[ids], torch.zeros(size, 0, query.shape[1]), shared, torch.zeros(())
    )


def unit_size(table: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(table / np.sqrt(np.square(table).sum(axis=1).mean()))


@pytest.mark.parametrize(
    "term",
    [MSE(teacher="t", weight=1), Cosine(teacher="t", weight=1)],
    ids=lambda term: term.kind,
)
@pytest.mark.parametrize("scale", [1.0, 30.0])
def test_the_teacher_itself_has_nothing_to_learn(term: Any, scale: float) -> None:
    found = as_the_student(unit_size(USER_TABLE)[:5], unit_size(ITEM_TABLE))
    assert term(found, factor_teacher(scale)).item() == pytest.approx(0, abs=1e-6)
    other = as_the_student(unit_size(USER_TABLE)[5:10], unit_size(ITEM_TABLE))
    assert term(other, factor_teacher(scale)).item() > 0.1


def test_terms_are_their_formulas() -> None:
    query = F.normalize(torch.randn(5, DIM, generator=torch.Generator().manual_seed(1)), dim=-1)
    found = as_the_student(query, F.normalize(torch.from_numpy(ITEM_TABLE[::-1].copy()), dim=-1))
    users, items = unit_size(USER_TABLE)[:5], unit_size(ITEM_TABLE)[found.positive_ids]
    squared = ((query - users) ** 2).sum(1).mean() + ((found.positive - items) ** 2).sum(1).mean()
    term = MSE(teacher="t", weight=1)
    torch.testing.assert_close(term(found, factor_teacher()), squared / 2)
    users, items = F.normalize(users, dim=1), F.normalize(items, dim=1)
    cosines = (query * users).sum(1).mean() + (found.positive * items).sum(1).mean()
    torch.testing.assert_close(
        Cosine(teacher="t", weight=1)(found, factor_teacher()), 1 - cosines / 2
    )


@dataclass
class Fixed:
    """Scores that are given."""

    table: np.ndarray
    num_items: int = ITEMS

    def scores(self, queries: Queries) -> Any:
        return self.table[queries.users]


def test_listwise_is_zero_for_the_teachers_own_distribution() -> None:
    """The student scores the candidates 3, 4, 5 and 9 just as the teacher does."""
    candidates = [3, 4, 5, 9]
    table = np.random.default_rng(2).normal(size=(USERS, ITEMS)).astype(np.float32)
    scores = torch.from_numpy(table[:4, candidates])
    standard = (scores - scores.mean(1, keepdim=True)) / scores.std(1, correction=0, keepdim=True)
    basis = torch.zeros(ITEMS, 4)
    basis[candidates] = torch.eye(4)  # so that a query is its scores of the candidates
    found = as_the_student(standard * 0.2, basis, basis[[9]], [9])
    teacher = Teacher(Fixed(100 * table - 7), TRAIN)  # the scale of its scores does not matter
    term = Listwise(teacher="t", weight=1, temperature=0.2)
    assert term(found, teacher).item() == pytest.approx(0, abs=1e-6)
    warmer = Listwise(teacher="t", weight=1, temperature=0.2, teacher_temperature=2)
    expected = (
        F.kl_div(standard.log_softmax(1), (standard / 2).softmax(1), reduction="none").sum(1).mean()
    )
    assert warmer(found, teacher).item() == pytest.approx(expected.item(), rel=1e-4)


def test_users_of_whom_the_teacher_knows_nothing_teach_nothing() -> None:
    table = np.zeros((USERS, ITEMS), np.float32)
    found = as_the_student(torch.randn(4, DIM), torch.randn(ITEMS, DIM))
    term = Listwise(teacher="t", weight=1)
    assert term(found, Teacher(Fixed(table), TRAIN)).item() == 0
    table[2] = np.arange(ITEMS)
    one = as_the_student(found.query[[0, 1, 2]], torch.randn(ITEMS, DIM))
    assert term(one, Teacher(Fixed(table), TRAIN)).item() > 0


@pytest.mark.parametrize("name", ["factors", "item-knn"])
def test_any_scorer_teaches_by_its_scores(name: str) -> None:
    scorer = factor_teacher()._scorer if name == "factors" else ItemKNN.fit(TRAIN, ITEMS)
    query = torch.randn(6, DIM, requires_grad=True)
    term = Listwise(teacher="t", weight=1)
    term(as_the_student(query, torch.randn(ITEMS, DIM)), Teacher(scorer, TRAIN)).backward()
    assert query.grad is not None
    assert query.grad.abs().sum() > 0


def test_terms_add_to_the_loss() -> None:
    query = F.normalize(torch.randn(5, DIM), dim=-1)
    found = as_the_student(query, F.normalize(torch.randn(ITEMS, DIM), dim=-1))
    mse, cosine = MSE(teacher="t", weight=0.5), Cosine(teacher="t", weight=0.9)
    teacher = factor_teacher()
    total = Distilled(InfoNCE(), [(mse, teacher), (cosine, teacher)])(found)
    expected = InfoNCE()(found) + 0.5 * mse(found, teacher) + 0.9 * cosine(found, teacher)
    torch.testing.assert_close(total, expected)


def test_a_teacher_that_does_not_fit_is_refused() -> None:
    found = as_the_student(torch.randn(5, DIM + 2), torch.randn(ITEMS, DIM + 2))
    with pytest.raises(
        InputError,
        match=r"^teacher 'lightgcn' has vectors of 6 dimensions, the student's have 8; "
        r"give both the same embedding_dim$",
    ):
        MSE(teacher="t", weight=1)(found, factor_teacher())
    with pytest.raises(
        InputError, match=r"^teacher 'item-knn' has no vectors to learn from; use distillation"
    ):
        Cosine(teacher="t", weight=1)(found, Teacher(ItemKNN.fit(TRAIN, ITEMS), TRAIN, "item-knn"))


def test_distillation_brings_the_student_near(blocks: Dataset, small_variants: Any) -> None:
    rng = np.random.default_rng(4)
    users, items = (
        F.normalize(torch.from_numpy(rng.normal(size=(n, 8)).astype(np.float32)), dim=1).numpy()
        for n in (60, 40)
    )
    teacher = FactorScorer(items, lambda queries: users[queries.users])
    cosines, metrics = [], itertools.count()  # every epoch is better than the one before
    for name in ("v1", "v3"):
        variant = small_variants[name].vary(
            training=small_variants[name].training.vary(epochs=20, patience=20)
        )
        trained = fit(
            variant, blocks, validate=lambda _: next(metrics), teachers={"lightgcn": teacher}
        )
        cosines.append((trained.module.scorer().item_vectors() * items).sum(1).mean())
    assert cosines[1] > cosines[0]


def test_a_missing_teacher_is_named(blocks: Dataset, small_variants: Any) -> None:
    for name in ("v2", "v3"):
        with pytest.raises(
            InputError, match=r"^this variant learns from 'lightgcn', which was not given; pass"
        ):
            fit(small_variants[name], blocks, validate=lambda _: 1.0)


def test_id_tables_start_from_a_teacher(
    blocks: Dataset, block_text: Any, small_variants: Any
) -> None:
    rng = np.random.default_rng(1)
    users, items = (rng.normal(size=(n, 8)).astype(np.float32) for n in (60, 40))
    still = small_variants["v5c"].vary(
        training=small_variants["v5c"].training.vary(epochs=1, learning_rate=1e-12)
    )

    def start(scorer: Any) -> TwoTower:
        teachers = {"lightgcn": scorer}
        module = fit(
            still, blocks, validate=lambda _: 1.0, text=block_text, teachers=teachers
        ).module
        assert isinstance(module, TwoTower)
        return module

    module = start(FactorScorer(items, lambda queries: users[queries.users]))
    for table, expected in ((module.user_embedding, users), (module.item_embedding, items)):
        weight = table.weight.detach().numpy()
        np.testing.assert_allclose(weight[1:], expected, atol=1e-6)
        np.testing.assert_allclose(weight[0], expected.mean(axis=0), atol=1e-6)
    with pytest.raises(
        InputError,
        match=r"^init_from 'lightgcn' has vectors of 5 dimensions, user_tower\.id_dim is 8; "
        r"give both the same number$",
    ):
        start(FactorScorer(items[:, :5], lambda queries: users[queries.users, :5]))
