"""Gradient training on two processes against one, a thread each, in turns.

    python benchmarks/two_processes.py --data runs/beauty/dataset --out runs/two-processes

The default model's towers beside least squares of fixed settings, whose search one process does
alone, are trained for ``--epochs`` epochs by ``twotower train`` and by ``torchrun --nproc-per-node
2 -m twotower train``. Rows are medians over ``--rounds`` of the seconds that the steps took,
validations left out, the ratio within each round, and validation NDCG@10 of the towers alone. Run
it on a machine that does nothing else: each process wants a core.
"""

import argparse
import json
import os
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

from twotower.data import Dataset
from twotower.evaluation.provenance import collect_meta
from twotower.evaluation.results import Row, write_results
from twotower.reporting.product_names import DEFAULT_MODEL
from twotower.workflow.models import named_variant

RESULTS: Final = Path(__file__).parent / "results" / "two-processes.json"
NAMES: Final = {1: "1 process", 2: "2 processes"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="a prepared data set")
    parser.add_argument("--out", type=Path, required=True, help="folder for the models")
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--text-encoder", default="minilm")
    parser.add_argument("--results", type=Path, default=RESULTS)
    given = parser.parse_args()
    started = datetime.now(UTC)
    dataset = Dataset.load(given.data)
    given.out.mkdir(parents=True, exist_ok=True)
    settings = given.out / "settings.json"
    variant = named_variant(DEFAULT_MODEL, given.text_encoder).with_epochs(given.epochs)
    variant = variant.vary(model=variant.model.vary(choose_factors=False, columns="none"))
    settings.write_text(variant.model_dump_json())

    seconds: dict[int, list[float]] = {count: [] for count in NAMES}
    quality: dict[int, float] = {}
    for number in range(given.rounds):
        for count in NAMES:
            # A new folder each time: a training that was killed goes on in its own.
            with TemporaryDirectory(dir=given.out) as folder:
                state = trained(count, given.data, settings, Path(folder) / "model")
            seconds[count].append(sum(epoch["seconds"] for epoch in state["epochs"]))
            quality[count] = state["best_metric"]
        print(f"round {number + 1}: { {n: round(s[-1], 1) for n, s in seconds.items()} }")
    ratios = [one / two for one, two in zip(seconds[1], seconds[2], strict=True)]

    def row(model: str, metric: str, values: list[float]) -> Row:
        return Row.of_repeats(
            values, dataset=dataset.name, split=dataset.summary["settings"]["split"]["kind"],
            model=model, protocol="timing", metric=metric, seeds=[0], users=len(dataset.users),
        )  # fmt: skip

    rows = [row(NAMES[count], "seconds", values) for count, values in seconds.items()]
    rows += [row(NAMES[count], "validation-NDCG@10", [value]) for count, value in quality.items()]
    rows.append(row(NAMES[2], "times-as-fast", ratios))
    for each in rows:
        print(f"{each.model:12s} {each.metric:20s} {each.value:.4g}")
    write_results(given.results, collect_meta(started), rows)


def trained(processes: int, data: Path, settings: Path, out: Path) -> dict[str, Any]:
    """The training state of a model trained from nothing by so many processes."""
    state = out.with_suffix(".json")
    start = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
    start = [] if processes == 1 else start
    options = ["--data", data, "--out", out, "--settings", settings, "--json", state]
    subprocess.run(
        [sys.executable, *start, "-m", "twotower", "train", *map(str, options)],
        check=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    found: dict[str, Any] = json.loads(state.read_text())
    return found


if __name__ == "__main__":
    main()
