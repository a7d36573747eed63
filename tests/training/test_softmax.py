"""The one-pass partition function against PyTorch's own."""

import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional as F

from twotower.training.softmax import log_partition, same_item


def drawn(rows: int, seed: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return F.normalize(torch.randn(rows, 5, generator=generator, dtype=torch.float64), dim=-1)


def test_value_and_gradients_are_those_of_logsumexp() -> None:
    query, candidates = drawn(4, 0).requires_grad_(), drawn(7, 1).requires_grad_()
    offsets = torch.linspace(-2, 2, 7, dtype=torch.float64)
    excluded = torch.tensor([[0, 3], [2, 6], [2, 0]])
    found = log_partition(query, candidates, offsets, 0.1, excluded)
    logits = query @ candidates.T / 0.1 + offsets
    mask = torch.zeros(4, 7, dtype=torch.bool)
    mask[excluded[:, 0], excluded[:, 1]] = True
    expected = logits.masked_fill(mask, float("-inf")).logsumexp(1)
    torch.testing.assert_close(found, expected)
    weights = torch.tensor([1.0, -2.0, 0.5, 3.0], dtype=torch.float64)
    own = torch.autograd.grad((found * weights).sum(), (query, candidates))
    theirs = torch.autograd.grad((expected * weights).sum(), (query, candidates))
    for one, other in zip(own, theirs, strict=True):
        torch.testing.assert_close(one, other)


def test_gradients_pass_the_numerical_check() -> None:
    query, candidates = drawn(3, 2).requires_grad_(), drawn(4, 3).requires_grad_()
    nothing, offsets = torch.empty(0, 2, dtype=torch.int64), torch.zeros(4, dtype=torch.float64)
    assert torch.autograd.gradcheck(
        lambda q, c: log_partition(q, c, offsets, 0.3, nothing), (query, candidates)
    )


@given(st.lists(st.integers(0, 6), max_size=9), st.lists(st.integers(0, 6), max_size=9))
def test_the_same_items_are_found_as_by_comparing_all(rows: list[int], columns: list[int]) -> None:
    found = same_item(torch.tensor(rows).long(), torch.tensor(columns).long())
    expected = [
        [row, column]
        for row, one in enumerate(rows)
        for column, other in enumerate(columns)
        if one == other
    ]
    assert sorted(found.tolist()) == expected
