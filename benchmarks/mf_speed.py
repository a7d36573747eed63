"""Training examples a second of MF against implicit's BPR, on one core and the same data.

    TWOTOWER_DATA=… python benchmarks/mf_speed.py

``mf`` is this project's variant as it stands, four negatives to an example; ``mf-1-negative`` has
one, as implicit has. Both are timed in the training loop at batch 2048 and at larger batches.
implicit (extra ``bench``) takes a step of plain SGD for every example, in C++; MF takes a step of
Adam over the rows that a batch reads. What the time of a step of ``mf`` at batch 2048 goes
to is profiled too. The data are the training part of Amazon Video Games 2023.
"""

import argparse
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import numpy as np
import scipy.sparse as sp
import torch
from implicit.cpu.bpr import BayesianPersonalizedRanking
from threadpoolctl import threadpool_limits
from torch.profiler import ProfilerActivity, profile, record_function

from twotower.data import Dataset
from twotower.data.prepare import prepare
from twotower.evaluation.provenance import PACKAGES, collect_meta
from twotower.evaluation.results import Row, write_results
from twotower.models.base import Batch
from twotower.models.build import build_model
from twotower.training.examples import Examples
from twotower.training.trainer import train
from twotower.training.variant import Variant
from twotower.workflow.datasets import find_dataset
from twotower.workflow.variants import VARIANTS

RESULTS: Final = Path(__file__).parent / "results" / "mf-speed.json"
MF: Final = VARIANTS["mf"]
ONE_NEGATIVE: Final = MF.vary(negatives=MF.negatives.vary(count=1))
PEER: Final = "implicit-bpr"
PEER_EPOCHS: Final = 5
BATCHES: Final = (2048, 8192, 16384)
PROFILED: Final = 8


class FirstSteps(Examples):
    """An epoch that ends early."""

    limit = 1

    @property
    def steps(self) -> int:
        """Batches that are trained on, all of them whole."""
        return min(self.limit, self.size // self.batch_size)

    def batch(self, epoch: int, step: int) -> Batch:
        """The batch at a position; its drawing is named in a profile."""
        with record_function("draw-batch"):
            return super().batch(epoch, step)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--dataset", default="video-games", help="name or path")
    parser.add_argument("--steps", type=int, default=50, help="most steps timed in each repeat")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--out", type=Path, default=RESULTS)
    given = parser.parse_args()
    started = datetime.now(UTC)
    torch.set_num_threads(1)
    path, settings = find_dataset(given.dataset)
    dataset = prepare(path, settings=settings)
    variants = {
        f"{name}-batch-{size}": variant.vary(
            training=variant.training.vary(epochs=1, batch_size=size)
        )
        for name, variant in (("mf", MF), ("mf-1-negative", ONE_NEGATIVE))
        for size in BATCHES
    }
    rates: dict[str, list[float]] = {name: [] for name in (PEER, *variants)}
    with threadpool_limits(1):
        for repeat in range(given.repeats):
            rates[PEER].append(implicit_rate(dataset))
            for name, variant in variants.items():
                rates[name].append(our_rate(dataset, variant, given.steps))
            print(f"repeat {repeat + 1}: { ({n: round(r[-1]) for n, r in rates.items()}) }")
        shares = operator_shares(dataset, variants["mf-batch-2048"], given.steps)

    def row(model: str, protocol: str, metric: str, values: list[float]) -> Row:
        return Row.of_repeats(
            values, dataset=dataset.name, split=dataset.summary["settings"]["split"]["kind"],
            model=model, protocol=protocol, metric=metric, seeds=[0], users=len(dataset.users),
        )  # fmt: skip

    rows = [row(name, "timing", "examples/s", found) for name, found in rates.items()]
    for name in variants:
        ratios = [ours / peer for ours, peer in zip(rates[name], rates[PEER], strict=True)]
        rows.append(row(name, "timing", f"ratio-to-{PEER}", ratios))
    rows += [
        row("mf-batch-2048", "profile", f"share-of-{name}", [share])
        for name, share in shares.items()
    ]
    for each in rows:
        print(f"{each.model:26s} {each.metric:50s} {each.value:12.4g}")
    write_results(given.out, collect_meta(started, packages=(*PACKAGES, "implicit")), rows)


def implicit_rate(dataset: Dataset) -> float:
    """Examples a second of implicit's BPR, without what it does before the first epoch."""
    train_part = dataset.train
    pairs = sp.csr_matrix(
        (np.ones(len(train_part.items), np.float32), train_part.items, train_part.indptr),
        shape=(len(train_part), len(dataset.items)),
    )
    peer = BayesianPersonalizedRanking(
        factors=MF.model.embedding_dim, num_threads=1, iterations=PEER_EPOCHS, random_state=0
    )
    seconds = []
    peer.fit(pairs, show_progress=False, callback=lambda *epoch: seconds.append(epoch[1]))
    return pairs.nnz * len(seconds) / sum(seconds)


def our_rate(dataset: Dataset, variant: Variant, steps: int) -> float:
    """Examples a second in the training loop, the drawing of batches included."""
    examples = first_steps(dataset, variant, steps)
    module = build_model(variant.model, dataset)
    state = train(module, examples, variant.loss, variant.training, validate=lambda _: 0.0)
    return examples.steps * examples.batch_size / state.epochs[0].seconds


def first_steps(dataset: Dataset, variant: Variant, steps: int) -> FirstSteps:
    negatives = variant.negatives.fit(dataset.train, len(dataset.items))
    examples = FirstSteps(dataset.train, negatives, variant.training.batch_size, seed=0)
    examples.limit = steps
    return examples


def operator_shares(dataset: Dataset, variant: Variant, steps: int) -> dict[str, float]:
    """Each operator's own share of the loop's time, the largest first."""
    examples = first_steps(dataset, variant, steps)
    module = build_model(variant.model, dataset)
    with profile(activities=[ProfilerActivity.CPU]) as profiler:
        state = train(module, examples, variant.loss, variant.training, validate=lambda _: 0.0)
    total = state.epochs[0].seconds * 1e6
    events = sorted(profiler.key_averages(), key=lambda e: -e.self_cpu_time_total)
    return {event.key: event.self_cpu_time_total / total for event in events[:PROFILED]}


if __name__ == "__main__":
    main()
