import math
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor
from torch.nn import functional as F

from twotower.models.base import Embeddings
from twotower.training.losses import BPR, InfoNCE, mask_accidental_hits, subtract_log_q


def embeddings(query: Any, positive: Any, negative: Any = None, **given: Any) -> Embeddings:
    query, positive = torch.tensor(query), torch.tensor(positive)
    return Embeddings(
        query,
        positive,
        torch.zeros(len(query), 0, query.shape[1]) if negative is None else torch.tensor(negative),
        torch.tensor(given.get("ids", list(range(len(query))))),
        torch.tensor(given.get("log_q", [0.0] * len(query))),
        torch.tensor(given.get("squared_norm", 0.0)),
    )


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


def test_masking_keeps_the_diagonal_and_everything_that_differs() -> None:
    logits = torch.arange(16.0).reshape(4, 4)
    ids = torch.tensor([5, 9, 5, 5])
    masked = mask_accidental_hits(logits, ids, ids)
    hidden = torch.isinf(masked)
    assert hidden.int().tolist() == [[0, 0, 1, 1], [0, 0, 0, 0], [1, 0, 0, 1], [1, 0, 1, 0]]
    assert torch.equal(masked[~hidden], logits[~hidden])
    assert torch.equal(logits, torch.arange(16.0).reshape(4, 4))


def test_masking_takes_candidates_beyond_the_batch() -> None:
    masked = mask_accidental_hits(
        torch.zeros(2, 4), torch.tensor([1, 2]), torch.tensor([1, 2, 2, 3])
    )
    assert torch.isinf(masked).int().tolist() == [[0, 0, 0, 0], [0, 0, 1, 0]]


def test_the_log_q_correction_recovers_the_full_softmax_over_samples() -> None:
    """Closed form: sampled in proportion to q and corrected, the normaliser is unbiased."""
    generator = torch.Generator().manual_seed(0)
    scores = torch.randn(1, 6, generator=generator)
    q = torch.tensor([0.4, 0.25, 0.15, 0.1, 0.07, 0.03])
    corrected = subtract_log_q(scores, q.log())
    assert torch.equal(corrected, scores - q.log()[None, :])
    expected = (q * corrected.exp()).sum()  # E_q[exp(s - log q)]
    torch.testing.assert_close(expected, scores.exp().sum())
    drawn = torch.multinomial(q, 200_000, replacement=True, generator=generator)
    torch.testing.assert_close(
        corrected[0, drawn].exp().mean(), scores.exp().sum(), rtol=0.02, atol=0
    )


@pytest.mark.parametrize("loss", [BPR(), InfoNCE(), InfoNCE(log_q=True)], ids=str)
def test_gradients_reach_what_the_loss_reads(loss: Any) -> None:
    torch.manual_seed(0)
    parts: list[Tensor] = [
        F.normalize(torch.randn(*shape), dim=-1).requires_grad_()
        for shape in ((5, 3), (5, 3), (5, 2, 3))
    ]
    loss(Embeddings(*parts, torch.arange(5), torch.zeros(5), torch.zeros(()))).backward()
    assert all(part.grad is not None and part.grad.abs().sum() > 0 for part in parts[:2])
    assert (parts[2].grad is None) == isinstance(loss, InfoNCE)


@pytest.mark.parametrize("make", [lambda: InfoNCE(temperature=0), lambda: BPR(regularisation=-1)])
def test_impossible_settings_are_refused(make: Any) -> None:
    with pytest.raises(ValidationError, match=r"greater than"):
        make()
