import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from twotower.data import Histories
from twotower.errors import InputError
from twotower.models.base import Batch, Embeddings
from twotower.training.losses import BPR, InfoNCE, SampledSoftmax, is_negative
from twotower.training.negatives import AllItems


def embeddings(query: Any, positive: Any, negative: Any = None, **given: Any) -> Embeddings:
    """In a batch of its own, unless there are negatives; the items are 0, 1, 2 … by default."""
    query, positive = torch.tensor(query), torch.tensor(positive)
    size, dim = query.shape
    negative = torch.zeros(size, 0, dim) if negative is None else torch.tensor(negative)
    count = negative.shape[1]
    shared = torch.tensor(given.get("shared", [])).reshape(-1, dim)
    batch = Batch(
        torch.arange(size),
        torch.tensor(given.get("ids", list(range(size)))),
        torch.tensor(given.get("log_q", [0.0] * size)),
        torch.tensor(given.get("negative_ids", [[100] * count] * size)).reshape(size, count),
        torch.zeros(size, 0, dtype=torch.int64),
        torch.zeros(size, dtype=torch.int64),
        torch.zeros(size, 0),
        torch.tensor(given.get("negative_log_q", [[0.0] * count] * size)).reshape(size, count),
        torch.tensor(given.get("shared_ids", [200] * len(shared)), dtype=torch.int64),
        torch.tensor(given.get("shared_log_q", [0.0] * len(shared))),
        given.get("in_batch", count + len(shared) == 0),
    )
    squared_norm = torch.tensor(given.get("squared_norm", 0.0))
    return Embeddings.of(batch, query, positive, negative, shared, squared_norm)


def softplus(value: float) -> float:
    return math.log1p(math.exp(value))


def test_bpr_is_the_mean_softplus_of_the_differences() -> None:
    found = BPR(regularisation=0.5)(
        embeddings(
            [[1.0, 0.0], [0.0, 2.0]],
            [[3.0, 1.0], [1.0, 1.0]],
            [[[1.0, 5.0], [4.0, 0.0]], [[0.0, 0.0], [7.0, 3.0]]],
            squared_norm=0.6,
        )
    )
    # q.p = 3, 2; q.n = (1, 4), (0, 6).
    losses = [softplus(1 - 3), softplus(4 - 3), softplus(0 - 2), softplus(6 - 2)]
    assert found.item() == pytest.approx(sum(losses) / 4 + 0.5 * 0.6)


def test_bpr_survives_scores_far_apart() -> None:
    found = BPR(regularisation=0)(embeddings([[1e3]], [[-1e3]], [[[1e3]]]))
    assert found.item() == pytest.approx(2e6)


QUERY = [[1.0, 0.0], [0.6, 0.8], [0.0, 1.0]]
POSITIVE = [[0.8, 0.6], [0.0, 1.0], [1.0, 0.0]]
COSINES = [[0.8, 0.0, 1.0], [0.96, 0.8, 0.6], [0.6, 1.0, 0.0]]


def by_hand(logits: list[list[float]], keep: list[list[int]]) -> float:
    losses = [
        math.log(sum(math.exp(row[column]) for column in kept)) - row[index]
        for index, (row, kept) in enumerate(zip(logits, keep, strict=True))
    ]
    return sum(losses) / len(losses)


def test_info_nce_is_the_cross_entropy_of_the_diagonal() -> None:
    logits = [[cosine / 0.2 for cosine in row] for row in COSINES]
    found = InfoNCE(temperature=0.2)(embeddings(QUERY, POSITIVE))
    assert found.item() == pytest.approx(by_hand(logits, [[0, 1, 2]] * 3), rel=1e-5)


def test_info_nce_leaves_the_same_item_out() -> None:
    # Rows 0 and 2 have the same positive item: neither is the other's negative.
    logits = [[cosine / 0.5 for cosine in row] for row in COSINES]
    found = InfoNCE(temperature=0.5)(embeddings(QUERY, POSITIVE, ids=[7, 4, 7]))
    assert found.item() == pytest.approx(by_hand(logits, [[0, 1], [0, 1, 2], [1, 2]]), rel=1e-5)


def test_info_nce_corrects_for_popularity_where_asked() -> None:
    log_q = [math.log(0.5), math.log(0.3), math.log(0.2)]
    logits = [
        [cosine / 0.5 - share for cosine, share in zip(row, log_q, strict=True)] for row in COSINES
    ]
    given = embeddings(QUERY, POSITIVE, log_q=log_q)
    corrected = InfoNCE(temperature=0.5, log_q=True)(given)
    assert corrected.item() == pytest.approx(by_hand(logits, [[0, 1, 2]] * 3), rel=1e-5)
    plain = InfoNCE(temperature=0.5)(given)
    assert plain.item() != pytest.approx(corrected.item(), rel=1e-3)


def test_a_batch_of_one_item_has_nothing_to_tell_apart() -> None:
    same = [[1.0, 0.0]] * 3
    found = InfoNCE()(embeddings(same, same, ids=[2, 2, 2]))
    assert found.item() == pytest.approx(0.0, abs=1e-6)


def test_a_negative_is_an_item_and_not_the_positive() -> None:
    ids = torch.tensor([5, 9, 5, 5])
    found = is_negative(ids, ids)
    assert found.int().tolist() == [[0, 1, 0, 0], [1, 0, 1, 1], [0, 1, 0, 0], [0, 1, 0, 0]]
    found = is_negative(torch.tensor([1, 2]), torch.tensor([1, 2, -1, 3]))
    assert found.int().tolist() == [[0, 1, 0, 1], [1, 0, 0, 1]]
    found = is_negative(torch.tensor([1, 2]), torch.tensor([[1, 4], [1, -1]]))
    assert found.int().tolist() == [[0, 1], [1, 0]]


NEGATIVE = [[[0.0, 1.0]], [[1.0, 0.0]], [[0.6, 0.8]]]  # q.n = 0, 0.6, 0.8
SHARED = [[1.0, 0.0], [0.0, 1.0]]  # q.s = (1, 0), (0.6, 0.8), (0, 1)


def test_info_nce_takes_negatives_beside_the_batch() -> None:
    found = InfoNCE(temperature=0.5)(
        embeddings(QUERY, POSITIVE, NEGATIVE, shared=SHARED, in_batch=True)
    )
    extra = [[0.0, 1.0, 0.0], [0.6, 0.6, 0.8], [0.8, 0.0, 1.0]]
    logits = [[c / 0.5 for c in (*row, *more)] for row, more in zip(COSINES, extra, strict=True)]
    assert found.item() == pytest.approx(by_hand(logits, [list(range(6))] * 3), rel=1e-5)


def test_info_nce_takes_negatives_instead_of_the_batch() -> None:
    found = InfoNCE(temperature=0.5, log_q=True)(
        embeddings(
            QUERY,
            POSITIVE,
            NEGATIVE,
            log_q=[-1.0, -2.0, -3.0],
            negative_log_q=[[-4.0], [-5.0], [-6.0]],
        )
    )
    losses = [
        softplus((negative / 0.5 - negative_log_q) - (positive / 0.5 - log_q))
        for positive, negative, log_q, negative_log_q in zip(
            (0.8, 0.8, 0.0), (0.0, 0.6, 0.8), (-1, -2, -3), (-4, -5, -6), strict=True
        )
    ]
    assert found.item() == pytest.approx(sum(losses) / 3, rel=1e-5)


@pytest.mark.parametrize("loss", [BPR(), InfoNCE(log_q=True)], ids=lambda one: one.kind)
def test_what_is_no_negative_weighs_nothing(loss: Any) -> None:
    plain = embeddings(QUERY, POSITIVE, [[[0.5, 0.5]], [[0.1, 0.2]], [[0.3, 0.4]]])
    padded = embeddings(
        QUERY,
        POSITIVE,
        [[[0.5, 0.5], [9.0, 9.0]], [[9.0, 9.0], [0.1, 0.2]], [[0.3, 0.4], [9.0, 9.0]]],
        negative_ids=[[7, -1], [1, 8], [9, 2]],  # none; the positives of rows 1 and 2
        shared=[[9.0, 9.0]],
        shared_ids=[-1],
    )
    assert loss(padded).item() == pytest.approx(loss(plain).item(), rel=1e-6)


def test_an_example_without_negatives_weighs_nothing_in_bpr() -> None:
    given = embeddings([[1.0]], [[0.5]], [[[3.0]]], negative_ids=[[-1]])
    assert BPR()(given).item() == 0


def test_bpr_divides_differences_by_its_temperature() -> None:
    given = embeddings([[1.0, 0.0]], [[0.5, 0.0]], [[[0.9, 0.0]]])
    assert BPR(temperature=0.1)(given).item() == pytest.approx(softplus(0.4 / 0.1), rel=1e-5)


def test_bpr_takes_the_batch() -> None:
    found = BPR()(embeddings(QUERY, POSITIVE, ids=[7, 4, 7]))
    # Rows 0 and 2 have the same positive: neither is the other's negative.
    differences = [0.0 - 0.8, 0.96 - 0.8, 0.6 - 0.8, 1.0 - 0.0]
    assert found.item() == pytest.approx(sum(map(softplus, differences)) / 4, rel=1e-5)


@pytest.mark.parametrize("in_batch", [True, False])
@pytest.mark.parametrize("loss", [BPR(), InfoNCE(), InfoNCE(log_q=True)], ids=str)
def test_gradients_reach_what_the_loss_reads(loss: Any, in_batch: bool) -> None:
    torch.manual_seed(0)
    parts: list[Tensor] = [
        F.normalize(torch.randn(*shape), dim=-1).requires_grad_()
        for shape in ((5, 3), (5, 3), (5, 2, 3), (4, 3))
    ]
    template = embeddings(
        [[0.0] * 3] * 5,
        [[0.0] * 3] * 5,
        [[[0.0] * 3] * 2] * 5,
        shared=[[0.0] * 3] * 4,
        in_batch=in_batch,
    )
    names = ("query", "positive", "negative", "shared")
    loss(template._replace(**dict(zip(names, parts, strict=True)))).backward()
    assert all(part.grad is not None and part.grad.abs().sum() > 0 for part in parts)


@pytest.mark.parametrize(
    "make",
    [lambda: InfoNCE(temperature=0), lambda: BPR(regularisation=-1), lambda: BPR(temperature=0)],
)
def test_impossible_settings_are_refused(make: Any) -> None:
    with pytest.raises(InputError, match=r"greater than"):
        make()


def test_sampled_softmax_over_the_whole_catalogue_is_cross_entropy() -> None:
    """Known answer: where every item is a candidate once, nothing is estimated."""
    items = F.normalize(torch.randn(5, 3, generator=torch.Generator().manual_seed(0)), dim=-1)
    query = F.normalize(torch.randn(2, 3, generator=torch.Generator().manual_seed(1)), dim=-1)
    given = embeddings(
        query.tolist(),
        items[[3, 1]].tolist(),
        ids=[3, 1],
        shared=items.tolist(),
        shared_ids=list(range(5)),
        shared_log_q=[-math.log(2)] * 5,  # once for the batch of two
        in_batch=False,
    )
    expected = F.cross_entropy(query @ items.T / 0.1, torch.tensor([3, 1]))
    torch.testing.assert_close(SampledSoftmax(temperature=0.1)(given), expected)


def test_sampled_softmax_estimates_the_full_one() -> None:
    """A candidate that is drawn half of the time counts twice when it is."""
    given = embeddings(
        [[1.0, 0.0]],
        [[1.0, 0.0]],
        shared=[[0.0, 1.0]],
        shared_ids=[7],
        shared_log_q=[math.log(0.5)],
        in_batch=False,
    )
    expected = math.log(math.exp(1 / 0.5) + 2 * math.exp(0.0)) - 1 / 0.5
    assert SampledSoftmax(temperature=0.5)(given).item() == pytest.approx(expected)


def test_a_softmax_over_all_items_is_the_full_one() -> None:
    """Known answer: PyTorch's cross-entropy over the catalogue."""
    torch.manual_seed(0)
    items = torch.nn.functional.normalize(torch.randn(11, 4), dim=-1)
    query = torch.nn.functional.normalize(torch.randn(5, 4), dim=-1)
    positives = np.array([3, 3, 0, 10, 7])
    train = Histories.from_lists([[0, 1], [3]])
    drawn = (
        AllItems()
        .fit(train, 11)
        .sample(np.zeros(5, dtype=np.int64), positives, np.random.default_rng(0), 0)
    )
    none = torch.empty(5, 0)
    embeddings = Embeddings(
        query, items[positives], torch.empty(5, 0, 4), items, torch.zeros(5, dtype=torch.int64),
        torch.from_numpy(positives), none.long(), torch.from_numpy(drawn.shared),
        torch.from_numpy(drawn.log_q), none, torch.from_numpy(drawn.shared_log_q), False,
        torch.zeros(()),
    )  # fmt: skip
    found = SampledSoftmax(temperature=0.1)(embeddings)
    expected = torch.nn.functional.cross_entropy(query @ items.T / 0.1, torch.tensor(positives))
    torch.testing.assert_close(found, expected)
