import copy

import pytest
import torch
from torch import Tensor, nn

from twotower.training.row_adam import RowAdam


class Model(nn.Module):
    """Two tables, of which a step reads few rows, and a layer on top."""

    def __init__(self, sparse: bool) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.users = nn.Embedding(60, 5, sparse=sparse)
        self.items = nn.Embedding(40, 5, sparse=sparse)
        self.layer = nn.Linear(5, 5)

    def forward(self, users: Tensor, items: Tensor) -> Tensor:
        product = self.layer(self.users(users)) * self.items(items)
        return (product.sum(1) - 1).square().mean() + 0.1 * self.items(users % 40).square().mean()


def train(
    module: Model, optimiser: torch.optim.Optimizer, steps: range, lr: float | None = None
) -> None:
    for step in steps:
        torch.manual_seed(1 + step)
        if lr is not None:
            optimiser.param_groups[0]["lr"] = lr / (1 + step / 50)
        loss = module(torch.randint(0, 50, (4,)), torch.randint(0, 40, (4,)))
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()


@pytest.mark.parametrize("steps", [1, 30, 700])
@pytest.mark.parametrize("lr", [None, 0.02])
def test_it_ends_where_adam_ends(steps: int, lr: float | None) -> None:
    dense, rows = Model(sparse=False), Model(sparse=True)
    start = copy.deepcopy(dense.state_dict())
    train(dense, torch.optim.Adam(dense.parameters(), lr=0.01), range(steps), lr)
    adam = RowAdam(rows, lr=0.01)
    train(rows, adam, range(steps), lr)
    adam.settle()
    moved = 0.0
    for name, value in dense.state_dict().items():
        torch.testing.assert_close(rows.state_dict()[name], value, rtol=1e-3, atol=2e-4)
        moved = max(moved, float((value - start[name]).abs().max()))
    assert moved > 9e-3  # by far more than the tolerance
    assert torch.equal(rows.users.weight[50:], start["users.weight"][50:])  # never read


def test_a_row_is_up_to_date_when_it_is_read() -> None:
    rows, other = Model(sparse=True), Model(sparse=True)
    adam, settled = RowAdam(rows, lr=0.01), RowAdam(other, lr=0.01)
    train(rows, adam, range(20))
    train(other, settled, range(20))
    settled.settle()
    late = torch.arange(50)
    assert not torch.equal(rows.users.weight[late], other.users.weight[late])
    with torch.no_grad():
        assert torch.equal(rows.users(late), other.users(late))


def test_state_comes_back_whole() -> None:
    whole, first = Model(sparse=True), Model(sparse=True)
    one = RowAdam(whole, lr=0.01)
    train(whole, one, range(300))
    begun = RowAdam(first, lr=0.01)
    train(first, begun, range(270))
    second = Model(sparse=True)
    second.load_state_dict(first.state_dict())
    again = RowAdam(second, lr=0.01)
    again.load_state_dict(begun.state_dict())
    train(second, again, range(270, 300))
    for optimiser in (one, again):
        optimiser.release()
    for name, value in whole.state_dict().items():
        assert torch.equal(second.state_dict()[name], value), name


def test_released_tables_are_plain_again() -> None:
    module = Model(sparse=True)
    adam = RowAdam(module, lr=0.01)
    train(module, adam, range(3))
    adam.release()
    assert not module.users._forward_pre_hooks
    before = module.users.weight.clone()
    module.users(torch.arange(60))
    assert torch.equal(module.users.weight, before)


def test_a_closure_gives_its_loss() -> None:
    module = Model(sparse=True)
    adam = RowAdam(module, lr=0.01)

    def closure() -> Tensor:
        adam.zero_grad()
        loss = module(torch.tensor([1]), torch.tensor([2]))
        loss.backward()
        return loss

    assert float(adam.step(closure).detach()) > 0
