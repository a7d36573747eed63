"""Fast partition function of a softmax over candidates shared by all queries."""

from typing import Any

import torch
from torch import Tensor


def log_partition(
    query: Tensor, candidates: Tensor, offsets: Tensor, temperature: float, excluded: Tensor
) -> Tensor:
    r"""``(B,)`` :math:`\log \sum_c \exp(q \cdot c / \tau + o_c)`, for unit vectors.

    PyTorch's cross-entropy passes over the ``(B, C)`` logits half a dozen times, forward and
    backward, which dominates training time with thousands of candidates. Scores of unit vectors
    are bounded, so the maximum need not be subtracted before the exponential, and one buffer holds
    the logits, their exponentials and finally their gradients.

    Parameters
    ----------
    query, candidates
        ``(B, d)`` and ``(C, d)`` unit vectors.
    offsets
        ``(C,)`` added to each candidate's logit; it gets no gradient.
    temperature
        What cosines are divided by; below 0.02 the exponentials leave float32's range.
    excluded
        ``(n, 2)`` int64 pairs of a row and a column to mask.
    """
    value: Tensor = _LogPartition.apply(  # type: ignore[no-untyped-call]
        query, candidates, offsets, temperature, excluded
    )
    return value


class _LogPartition(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        query: Tensor,
        candidates: Tensor,
        offsets: Tensor,
        temperature: float,
        excluded: Tensor,
    ) -> Tensor:
        terms = torch.addmm(offsets[None], query, candidates.T, alpha=1 / temperature).exp_()
        terms[excluded[:, 0], excluded[:, 1]] = 0
        total = terms.sum(1)
        ctx.save_for_backward(query, candidates, terms, total)
        ctx.temperature = temperature
        return total.log()

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        query, candidates, terms, total = ctx.saved_tensors
        # Out of place: the backward pass may run twice.
        shares = terms * (grads[0] / total / ctx.temperature)[:, None]
        return shares @ candidates, shares.T @ query, None, None, None


def same_item(positive_ids: Tensor, candidate_ids: Tensor) -> Tensor:
    """``(n, 2)`` pairs of a row and a column that hold the same item: accidental hits.

    Takes ``(B,)`` and ``(C,)`` item ids; found by sorting, as few of millions of pairs match.
    """
    ordered, order = candidate_ids.sort(stable=True)
    first = torch.searchsorted(ordered, positive_ids)
    count = torch.searchsorted(ordered, positive_ids, right=True) - first
    rows = torch.repeat_interleave(count)
    within = torch.arange(len(rows), device=rows.device) - (count.cumsum(0) - count)[rows]
    return torch.stack([rows, order[first[rows] + within]], dim=1)
