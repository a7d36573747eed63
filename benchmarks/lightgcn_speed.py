"""An epoch of LightGCN training against a plain PyTorch loop, on the same batches.

    TWOTOWER_DATA=… python benchmarks/lightgcn_speed.py

The plain loop is the usual one: a COO adjacency, ``torch.sparse.mm``, a stack of the layers and
its mean, autograd through all of it, ``torch.optim.Adam`` as it comes. Both train at batch 2048
with 3 layers, 64 dimensions and one uniform negative, and both pay for drawing their batches. It
is first asserted that both reach the same embeddings from the same start; then some steps of each
are timed in turn, and an epoch takes as many times longer as it has more steps. One product with
the adjacency is timed too, in the three ways to store it.

The graph is the training part of Amazon Video Games 2023 where ``TWOTOWER_DATA`` has it,
otherwise a random one of its shape, and the rows say which.
"""

import argparse
import sys
import time
import warnings
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from twotower.data import Histories
from twotower.data.prepare import prepare
from twotower.errors import InputError
from twotower.evaluation.provenance import collect_meta
from twotower.evaluation.results import Row, write_results
from twotower.models.base import Batch
from twotower.models.lightgcn import LightGCN, LightGCNConfig
from twotower.training.examples import Examples
from twotower.training.losses import BPR
from twotower.training.negatives import Uniform
from twotower.training.trainer import TrainingConfig, train
from twotower.workflow.datasets import find_dataset

RESULTS: Final = Path(__file__).parent / "results" / "lightgcn-speed.json"
USERS, ITEMS, INTERACTIONS = 98_906, 26_354, 445_742
CONFIG: Final = LightGCNConfig(embedding_dim=64, layers=3, init_std=0.1)
LOSS: Final = BPR(regularisation=1e-4)
TRAINING: Final = TrainingConfig(epochs=1, batch_size=2048, learning_rate=1e-3)
CHECKED_STEPS: Final = 3
LEAST_RATIO: Final = 2.0


class FirstSteps(Examples):
    """An epoch that ends early."""

    limit = CHECKED_STEPS

    @property
    def steps(self) -> int:
        """Batches that are trained on."""
        return min(self.limit, super().steps)


class PlainLightGCN(nn.Module):
    """LightGCN as it is usually written; its ``forward`` is the loss."""

    def __init__(self, nodes: Tensor, adjacency: Tensor, num_users: int) -> None:
        super().__init__()
        self.users = nn.Embedding.from_pretrained(nodes[:num_users].clone(), freeze=False)
        self.items = nn.Embedding.from_pretrained(nodes[num_users:].clone(), freeze=False)
        self.adjacency = adjacency

    def forward(self, batch: Batch) -> Tensor:
        """BPR with the penalty on the batch's own rows."""
        layers = [torch.cat([self.users.weight, self.items.weight])]
        for _ in range(CONFIG.layers):
            layers.append(torch.sparse.mm(self.adjacency, layers[-1]))
        nodes = torch.stack(layers, dim=1).mean(dim=1)
        users, items = torch.split(nodes, [self.users.num_embeddings, self.items.num_embeddings])
        negatives = batch.negatives[:, 0]
        query, positive, negative = users[batch.users], items[batch.positives], items[negatives]
        margin = (query * positive).sum(1) - (query * negative).sum(1)
        rows = (self.users(batch.users), self.items(batch.positives), self.items(negatives))
        penalty = sum(row.square().sum() for row in rows) / (2 * len(query))
        return F.softplus(-margin).mean() + LOSS.regularisation * penalty


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--dataset", default="video-games", help="name or path, or 'synthetic'")
    parser.add_argument("--steps", type=int, default=20, help="timed in each repeat")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--out", type=Path, default=RESULTS)
    given = parser.parse_args()
    started = datetime.now(UTC)
    name, split, train_part, num_items = load_graph(given.dataset)
    examples = FirstSteps(
        train_part, Uniform(count=1).fit(train_part, num_items), TRAINING.batch_size, seed=0
    )
    epoch_steps = -(-examples.size // examples.batch_size)
    print(f"{name}: {len(train_part):,} users, {num_items:,} items, {examples.size:,} interactions")

    torch.manual_seed(0)
    ours = LightGCN(CONFIG, train_part, num_items)
    plain = PlainLightGCN(ours.node_embedding.weight.detach(), coo(ours), len(train_part))
    assert_equal_training(ours, plain, examples)

    examples.limit = given.steps
    seconds: dict[str, list[float]] = {"lightgcn": [], "lightgcn-plain-pytorch": []}
    for repeat in range(given.repeats):
        seconds["lightgcn"].append(train_ours(ours, examples) / examples.steps)
        seconds["lightgcn-plain-pytorch"].append(train_plain(plain, examples) / examples.steps)
        print(f"repeat {repeat + 1}: { ({n: round(s[-1], 3) for n, s in seconds.items()}) } s/step")

    def row(model: str, metric: str, values: np.ndarray) -> Row:
        return Row.of_repeats(
            values, dataset=name, split=split, model=model, protocol="timing", metric=metric,
            seeds=[0], users=len(train_part),
        )  # fmt: skip

    rows = [row(model, "seconds/epoch", np.array(s) * epoch_steps) for model, s in seconds.items()]
    ratio = np.array(seconds["lightgcn-plain-pytorch"]) / np.array(seconds["lightgcn"])
    rows.append(row("lightgcn-plain-pytorch", "ratio-to-lightgcn", ratio))
    rows += [
        row(f"adjacency-{how}", "seconds/product", np.array(values))
        for how, values in time_products(ours, given.repeats).items()
    ]
    for each in rows:
        print(f"{each.model:24s} {each.metric:26s} {each.value:8.3f} [{each.low}, {each.high}]")
    write_results(given.out, collect_meta(started), rows)
    if given.dataset == "video-games" and np.median(ratio) < LEAST_RATIO:
        sys.exit(f"LightGCN is only {np.median(ratio):.2f} times as fast as the plain loop")


def load_graph(name: str) -> tuple[str, str, Histories, int]:
    """Name, split, training part and number of items of a data set, or of a random stand-in."""
    if name != "synthetic":
        try:
            path, settings = find_dataset(name)
        except InputError as missing:
            if name != "video-games":
                raise
            print(f"{missing}; a random graph of its shape is timed instead")
        else:
            dataset = prepare(path, settings=settings)
            split = dataset.summary["settings"]["split"]["kind"]
            return dataset.name, split, dataset.train, len(dataset.items)
    rng = np.random.default_rng(0)
    users = np.sort((USERS * rng.random(INTERACTIONS) ** 1.5).astype(np.int64))
    items = (ITEMS * rng.random(INTERACTIONS) ** 3).astype(np.int32)  # few are bought much
    indptr = np.searchsorted(users, np.arange(USERS + 1)).astype(np.int64)
    return f"random-{USERS}x{ITEMS}x{INTERACTIONS}", "random", Histories(indptr, items), ITEMS


def coo(model: LightGCN) -> Tensor:
    return csr(model).to_sparse_coo().coalesce()


def csr(model: LightGCN) -> Tensor:
    graph, nodes = model.graph, len(model.node_embedding.weight)
    with warnings.catch_warnings(action="ignore"):  # that the format is in beta
        return torch.sparse_csr_tensor(
            graph.indptr, graph.indices, graph.weights, (nodes, nodes), check_invariants=True
        )


def train_ours(module: LightGCN, examples: Examples) -> float:
    """Seconds of this project's loop, validation and checkpoints aside."""
    state = train(module, examples, LOSS, TRAINING, validate=lambda _: 0.0)
    return state.epochs[0].seconds


def train_plain(module: PlainLightGCN, examples: Examples) -> float:
    """Seconds of the plain loop."""
    optimiser = torch.optim.Adam(module.parameters(), lr=TRAINING.learning_rate)
    begun = time.perf_counter()
    for step in range(examples.steps):
        loss = module(examples.batch(0, step))
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        loss.item()
    return time.perf_counter() - begun


def assert_equal_training(ours: LightGCN, plain: PlainLightGCN, examples: Examples) -> None:
    """Both have moved the same way, to within a hundredth of one of Adam's steps.

    Adam divides by the size of the gradient, so that where one is next to nothing its rounding
    error decides; of those entries, one in a thousand may differ.
    """
    before = ours.node_embedding.weight.detach().clone()
    train_ours(ours, examples)
    train_plain(plain, examples)
    found = ours.node_embedding.weight.detach()
    expected = torch.cat([plain.users.weight, plain.items.weight]).detach()
    gap = (found - expected).abs() / TRAINING.learning_rate
    far = (gap > 0.01).float().mean().item()
    moved = (found - before).abs().max().item() / TRAINING.learning_rate
    print(
        f"after {examples.steps} steps: largest move {moved:.2f} learning rates, "
        f"largest gap {gap.max().item():.1e}, {far:.1e} of the entries above 0.01"
    )
    assert moved > 1, "nothing was trained"
    assert far < 1e-3, "the two loops train different models"


def time_products(model: LightGCN, repeats: int) -> dict[str, list[float]]:
    nodes = model.node_embedding.weight.detach()
    as_coo, as_csr = coo(model), csr(model)
    ways: dict[str, Callable[[], Tensor]] = {
        "embedding-bag": lambda: model.graph.multiply(nodes),
        "csr": lambda: as_csr @ nodes,
        "coo": lambda: torch.sparse.mm(as_coo, nodes),
    }
    expected = ways["coo"]()
    seconds: dict[str, list[float]] = {how: [] for how in ways}
    for _ in range(repeats):
        for how, product in ways.items():
            begun = time.perf_counter()
            found = product()
            seconds[how].append(time.perf_counter() - begun)
            assert torch.allclose(found, expected, atol=1e-5), f"{how} differs from coo"
    return seconds


if __name__ == "__main__":
    main()
