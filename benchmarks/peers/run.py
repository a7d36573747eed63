"""Fit other libraries' models to the same split, and evaluate them with one evaluator.

    TWOTOWER_DATA=… python benchmarks/peers/run.py --dataset video-games

Every peer is fitted on the training part alone, in a process of its own, and for libraries whose
requirements conflict in an environment of its own, from the pinned releases in ``requirements/``.
What it gives back is a list of 100 items for each user, with scores and without seen items. All
lists are ranked by this project's evaluator, full ranking; a target outside its list is a miss,
which up to a cut-off of 50 is what it would be anyway. Test histories are train + validation.

Tuning is the same for all: at most 4 settings (see ``catalogue.py``), of which none is begun after
20 minutes, and training ends with the epoch in which 20 minutes are over. What trains epoch by
epoch keeps the best one, and stops after 10 that are no better; variants of this project train as
they do elsewhere. The setting with the best NDCG@10 on validation is evaluated on test.

A trial that is finished is kept in ``--out``, so that a run that was stopped goes on. ``--again``
forgets those of the peers that are named. A peer that fails is in the results with the reason.
Beside the results file there is a picture of quality against training time.
"""

import argparse
import json
import shutil
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from catalogue import MOST_SETTINGS, PEERS, in_words
from environments import InstallError, interpreter
from picture import write_picture
from trials import METRICS, Budget, TaskData, Trial, slug, try_setting

from twotower.data import Part
from twotower.data.atomic import atomic_file
from twotower.evaluation.figures import result_rows
from twotower.evaluation.provenance import collect_meta
from twotower.evaluation.results import Absent, Row, write_results
from twotower.workflow.datasets import find_dataset
from twotower.workflow.evaluation import split_name
from twotower.workflow.progress import Silent
from twotower.workflow.run import prepared_dataset

RESULTS: Final = Path(__file__).parents[1] / "results"
OUTCOME: Final = "outcome.json"


def main() -> None:
    given = parser().parse_args()
    started = datetime.now(UTC)
    out = given.out or Path("runs/peers") / Path(given.dataset).name
    source, settings = find_dataset(given.dataset)
    dataset = prepared_dataset(source, out / "dataset", settings, Silent())
    asked = TaskData(dataset, given.validation_users)
    asked.export(out / "data")
    budget = Budget(given.settings, 60 * given.minutes, 60 * given.limit, given.threads)
    environments = given.environments or Path("runs/peers/environments")
    for name in given.peer or PEERS:
        folder = out / name
        if given.again:
            shutil.rmtree(folder, ignore_errors=True)
        if (folder / OUTCOME).exists():
            print(f"{name}: found finished; --again forgets it", flush=True)
        else:
            outcome = outcome_of(name, folder, environments, asked, budget)
            folder.mkdir(parents=True, exist_ok=True)
            with atomic_file(folder / OUTCOME) as temporary:
                temporary.write_text(json.dumps(outcome, indent=2))
        results = given.json or RESULTS / f"peers-{dataset.name}.json"
        report(out, results, dataset.name, started, budget.threads)


def parser() -> argparse.ArgumentParser:
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--dataset", default="video-games", help="name or path")
    options.add_argument("--peer", action="append", choices=PEERS, help="again for more; all")
    options.add_argument("--out", type=Path, help="runs/peers/DATASET")
    options.add_argument("--environments", type=Path, help="runs/peers/environments")
    options.add_argument("--json", type=Path, help="benchmarks/results/peers-DATASET.json")
    options.add_argument("--again", action="store_true", help="forget what is finished")
    options.add_argument("--settings", type=int, default=MOST_SETTINGS, help="most to try")
    options.add_argument("--minutes", type=float, default=20, help="of training, and of tuning")
    options.add_argument("--limit", type=float, default=90, help="minutes of a process")
    options.add_argument("--threads", type=int, default=2, help="of a process")
    options.add_argument("--validation-users", type=int, default=20_000, help="to choose by")
    return options


def outcome_of(
    name: str, folder: Path, environments: Path, asked: TaskData, budget: Budget
) -> dict[str, Any]:
    """Tune a peer and evaluate what was chosen: its rows and words, or why there are none."""
    peer = PEERS[name]
    try:
        python = interpreter(peer.environment, environments)
    except InstallError as error:
        print(f"{name}: {error}", flush=True)
        return {"absent": str(error)}
    trials: list[Trial] = []
    for settings in peer.grid[: budget.settings]:
        if sum(trial.seconds for trial in trials) > budget.seconds:
            break
        trial = try_setting(peer, settings, folder / slug(settings), python, asked, budget)
        trials.append(trial)
        said = trial.failed or f"validation NDCG@10 {trial.ndcg:.4f}, {trial.seconds:.0f} s"
        print(f"{name} {in_words(settings)}: {said}", flush=True)
    usable = [trial for trial in trials if trial.failed is None]
    reasons = [trial.failed for trial in trials if trial.failed is not None]
    if not usable:
        return {"absent": reasons[0]}
    best = max(usable, key=lambda trial: trial.ndcg)
    words = f"{peer.what}: {in_words(best.settings)}; best of {len(usable)}"
    if reasons:
        words += f", {len(reasons)} failed: {reasons[0]}"
    rows = figures(name, best, trials, asked)
    shown = {row.metric: row.value for row in rows[: len(METRICS)]}
    print(f"{name}: test HR@10 {shown['HR@10']:.4f}, NDCG@10 {shown['NDCG@10']:.4f}", flush=True)
    return {
        "rows": [row.model_dump() for row in rows],
        "words": words,
        "packages": best.fitted["packages"],
    }


def figures(name: str, best: Trial, trials: Sequence[Trial], asked: TaskData) -> list[Row]:
    """Rows of a peer: quality on test, what it cost, and every trial on validation."""
    dataset = asked.dataset
    seeds = [0] if PEERS[name].random else []
    rows = result_rows(
        {0: asked.evaluate("test", best.folder)},
        dataset=dataset.name,
        split=split_name(dataset),
        model=name,
    )
    rows = [row.model_copy(update={"seeds": seeds}) for row in rows]
    costs = {
        "training-seconds": best.seconds,
        "tuning-seconds": sum(trial.seconds for trial in trials),
        "answer-seconds": best.fitted["test_seconds"],
        "peak-memory-mb": best.fitted["peak_memory_mb"],
    }
    if best.fitted["best_epoch"]:
        costs["best-epoch"] = best.fitted["best_epoch"]
    of = rows[0].model_copy(update={"low": None, "high": None})
    rows += [
        of.model_copy(update={"protocol": "timing", "metric": metric, "value": value})
        for metric, value in costs.items()
    ]
    tried = {
        "split": split_name(dataset, Part.VALIDATION),
        "metric": "NDCG@10",
        "users": len(asked.parts["validation"][0]),
    }
    rows += [
        of.model_copy(
            update={**tried, "model": f"{name} {in_words(one.settings)}", "value": one.ndcg}
        )
        for one in trials
        if one.failed is None
    ]
    return rows


def report(out: Path, path: Path, dataset: str, started: datetime, threads: int) -> None:
    """Write and draw what all finished peers of a folder found, in the order of the catalogue."""
    outcomes = {
        name: json.loads((out / name / OUTCOME).read_text())
        for name in PEERS
        if (out / name / OUTCOME).exists()
    }
    found = {name: one for name, one in outcomes.items() if "rows" in one}
    versions: dict[str, str] = {}
    for one in found.values():
        versions |= one["packages"]
    rows = [Row.model_validate(row) for one in found.values() for row in one["rows"]]
    meta = collect_meta(started, threads=threads)
    write_results(
        path,
        meta.model_copy(update={"packages": versions | meta.packages}),
        rows,
        absent=[
            Absent(dataset=dataset, model=name, reason=one["absent"])
            for name, one in outcomes.items()
            if "absent" in one
        ],
        models={name: one["words"] for name, one in found.items()},
    )
    write_picture(path.with_suffix(".svg"), rows, dataset)


if __name__ == "__main__":
    main()
