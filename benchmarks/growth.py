"""Time and peak memory of each stage, as a log grows: prepare, train, refit, bundle.

    python benchmarks/growth.py --interactions 1000000 --items 50000 --users 100000
    python benchmarks/growth.py --curves

The first writes a synthetic log (`twotower.data.synthetic`), prepares it, trains the default model
and bundles it, each in a process of its own, and writes ``benchmarks/results/growth-<n>.json``;
``--stages`` does some of them alone, in the same folder. Parts of a stage are named ``train: …``.
Peak memory is the largest resident set within the stage or part (Linux resets it through
``/proc``). The second draws all of these files into ``benchmarks/results/growth.svg``.
"""

import argparse
import functools
import importlib
import json
import resource
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

from twotower.data import Dataset
from twotower.data.prepare import prepare
from twotower.data.settings import PrepareSettings
from twotower.data.synthetic import LogSize, generate_log
from twotower.evaluation.provenance import collect_meta
from twotower.evaluation.results import Row, read_results, write_results
from twotower.workflow.progress import Silent

RESULTS = Path(__file__).parent / "results"
STAGES = ("generate", "prepare", "train", "bundle")
PARTS = {
    "encode titles": ("twotower.workflow.models", "item_text"),
    "choose least squares": ("twotower.workflow.models", "chosen_record"),
    "least squares": ("twotower.models.sequence", "fit_both_factors"),
    "least squares: ALS": ("twotower.factors.als", "fit_factors"),
    "least squares: next items": ("twotower.factors.als", "fit_next_factors"),
    "towers": ("twotower.training.fit", "train"),
    "windows of an epoch": ("twotower.training.sequences", "SequenceExamples._planned"),
    "validation": ("twotower.workflow.models", "validation_ndcg"),
    "cold items": ("twotower.training.fit", "fit_cold_start"),
    "weights of parts": ("twotower.models.sequence", "SequenceTower.weigh_factors"),
    "second stage": ("twotower.workflow.bundling", "fitted_blend"),
    "refit": ("twotower.workflow.bundling", "refit_model"),
    "contents": ("twotower.workflow.bundling", "bundle_contents"),
    "write": ("twotower.workflow.bundling", "write_bundle"),
}
"""Part of a stage → the function that does it."""


class Found(NamedTuple):
    """What a stage or a part of it took."""

    seconds: float
    peak_memory_mb: float


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    options.add_argument("--interactions", type=int, default=1_000_000)
    options.add_argument("--items", type=int, default=50_000)
    options.add_argument("--users", type=int, default=100_000)
    options.add_argument("--epochs", type=int, help="most epochs; default: as validation says")
    options.add_argument("--minutes", type=float, help="of training; default: no limit")
    options.add_argument("--text-encoder", default="minilm")
    options.add_argument("--out", type=Path, help="folder; default: runs/growth-<interactions>")
    options.add_argument("--results", type=Path, help="default: benchmarks/results/growth-<n>.json")
    options.add_argument("--stages", nargs="+", choices=STAGES, default=STAGES)
    options.add_argument("--curves", action="store_true", help="only draw what was measured")
    options.add_argument("--measure", choices=STAGES, help=argparse.SUPPRESS)
    chosen = options.parse_args()
    if chosen.curves:
        draw(sorted(RESULTS.glob("growth-*.json")), RESULTS / "growth.svg")
        return
    name = f"growth-{chosen.interactions}"
    chosen.out = chosen.out or Path("runs") / name
    chosen.results = chosen.results or RESULTS / f"{name}.json"
    if chosen.measure is not None:
        print(json.dumps(measure(chosen.measure, chosen)))
        return
    started, facts = datetime.now(UTC), {"users": chosen.users}
    rows = read_results(chosen.results).rows if chosen.results.exists() else []
    rows = [row for row in rows if row.model.split(":")[0] not in chosen.stages]
    for stage in chosen.stages:
        command = [sys.executable, *sys.argv, "--measure", stage]
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
        report = json.loads(done.stdout.splitlines()[-1])
        facts.update(report["facts"])
        for part, found in report["found"].items():
            print(f"{part:40} {found[0]:9.1f} s {found[1]:9.0f} MB", flush=True)
            rows += result_rows(name, part, Found(*found), facts["users"])
        rows += [
            row(name, stage, metric, value, facts["users"])
            for metric, value in report["facts"].items()
        ]
        write_results(chosen.results, collect_meta(started, threads=report["threads"]), rows)


def measure(stage: str, chosen: argparse.Namespace) -> dict[str, Any]:
    """Do one stage in this process; what it and its parts took, and facts about its result."""
    import torch

    watch = Watch()
    prepared = chosen.out / "dataset"
    facts: dict[str, float] = {}
    if stage == "generate":
        size = LogSize(interactions=chosen.interactions, items=chosen.items, users=chosen.users)
        with watch.part("generate"):
            generate_log(chosen.out / "log", size)
    elif stage == "prepare":
        with watch.part("prepare"):
            dataset = prepare(
                chosen.out / "log",
                name=f"growth-{chosen.interactions}",
                settings=PrepareSettings(k_core=0),
                out=prepared,
            )
        facts = {
            "users": len(dataset.users),
            "items": len(dataset.items),
            "interactions": len(dataset.interactions.items),
        }
    else:
        from twotower.workflow.bundling import bundle_model
        from twotower.workflow.models import named_variant, trained_model

        for part, (module, attribute) in PARTS.items():
            watch.follow(f"{stage}: {part}", module, attribute)
        with watch.part(stage):
            with watch.part(f"{stage}: load"):
                dataset = Dataset.load(prepared)
            if stage == "train":
                variant = named_variant("two-tower", chosen.text_encoder)
                if chosen.epochs is not None:
                    variant = variant.with_epochs(chosen.epochs)
                if chosen.minutes is not None:
                    variant = variant.within(chosen.minutes)
                trained = trained_model(variant, dataset, chosen.out / "model", reporter=Notes())
                epochs = trained.state.epochs
                facts = {
                    "epochs": len(epochs),
                    "seconds/epoch": sum(epoch.seconds for epoch in epochs) / len(epochs),
                    "examples/s": epochs[-1].examples / epochs[-1].seconds,
                }
            else:
                shutil.rmtree(chosen.out / "bundle", ignore_errors=True)
                bundle_model(chosen.out / "model", dataset, chosen.out / "bundle", reporter=Notes())
                files = (chosen.out / "bundle").rglob("*")
                facts = {"bundle-mb": sum(file.stat().st_size for file in files) / 2**20}
    return {"found": watch.found, "facts": facts, "threads": torch.get_num_threads()}


class Notes(Silent):
    """Facts to standard error."""

    def note(self, text: str) -> None:
        """Print it."""
        print(text, file=sys.stderr, flush=True)

    def failure(self, text: str) -> None:
        """Print it."""
        self.note(text)


class Watch:
    """Seconds and peak memory of parts, which may hold one another."""

    def __init__(self) -> None:
        self.found: dict[str, Found] = {}
        self._peaks: list[float] = []

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        """Measure what is done within; a part that is done again adds to its seconds."""
        self._observe()
        self._peaks.append(0.0)
        before = self.found.get(name, Found(0.0, 0.0))
        self.found[name] = before  # parts come in the order in which they begin
        begin = time.perf_counter()
        try:
            yield
        finally:
            seconds = time.perf_counter() - begin
            self._observe()
            peak = max(self._peaks.pop(), before.peak_memory_mb)
            self.found[name] = Found(before.seconds + seconds, peak)
            print(f"{name}: {seconds:.1f} s, {peak:.0f} MB", file=sys.stderr, flush=True)

    def follow(self, name: str, module: str, attribute: str) -> None:
        """Measure every call of a function or method."""
        owner: Any = importlib.import_module(module)
        *path, last = attribute.split(".")
        for word in path:
            owner = getattr(owner, word)
        called: Callable[..., Any] = getattr(owner, last)

        @functools.wraps(called)
        def measured(*args: Any, **kwargs: Any) -> Any:
            with self.part(name):
                return called(*args, **kwargs)

        setattr(owner, last, measured)

    def _observe(self) -> None:
        """Count the peak since the last call to the parts that are open, and begin a new one."""
        peak = peak_memory_mb()
        self._peaks = [max(before, peak) for before in self._peaks]


def peak_memory_mb() -> float:
    """Largest resident set since the last call on Linux, of the whole process elsewhere."""
    status = Path("/proc/self/status")
    if not status.exists():
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
    Path("/proc/self/clear_refs").write_text("5")
    return int(line.split()[1]) / 2**10


def result_rows(dataset: str, part: str, found: Found, users: int) -> list[Row]:
    return [
        row(dataset, part, "seconds", found.seconds, users),
        row(dataset, part, "peak-memory-mb", found.peak_memory_mb, users),
    ]


def row(dataset: str, model: str, metric: str, value: float, users: int) -> Row:
    return Row(
        dataset=dataset, split="leave-last-two", model=model, protocol="growth", metric=metric,
        value=value, seeds=[0], users=users,
    )  # fmt: skip


def draw(files: list[Path], picture: Path) -> None:
    """Seconds and memory of each stage over the interactions, both on logarithmic axes."""
    import matplotlib

    matplotlib.use("svg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, 2, figsize=(10, 4))
    curves: dict[tuple[str, str], list[tuple[float, float]]] = {}
    for file in files:
        rows = read_results(file).rows
        count = next(row.value for row in rows if row.metric == "interactions")
        for found in rows:
            if found.model in STAGES and found.metric in ("seconds", "peak-memory-mb"):
                curves.setdefault((found.metric, found.model), []).append((count, found.value))
    for (metric, stage), points in curves.items():
        place = axes[0] if metric == "seconds" else axes[1]
        place.plot(*zip(*sorted(points), strict=True), marker="o", label=stage)
    for place, title in zip(axes, ("seconds", "peak memory, MB"), strict=True):
        place.set(xscale="log", yscale="log", xlabel="interactions", title=title)
        place.legend()
        place.grid(alpha=0.3)
    figure.tight_layout()
    figure.savefig(picture)


if __name__ == "__main__":
    main()
