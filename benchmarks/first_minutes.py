"""From nothing to the first recommendation, by the README's commands, each timed.

    python benchmarks/first_minutes.py --shop ../shared/data/shop

``sample`` begins with a clone, ``shop`` with a wheel and a shop's own files, both with an empty
folder and without a virtual environment. Downloads count; of processor seconds those of all
processes that a command starts. ``--way`` takes one of the two, ``--keep`` what was measured of
the other.
"""

import argparse
import os
import resource
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from twotower.evaluation.provenance import collect_meta
from twotower.evaluation.results import Row, read_results, write_results

ROOT: Final = Path(__file__).resolve().parents[1]
RESULTS: Final = ROOT / "benchmarks" / "results" / "first-minutes.json"
WAYS: Final = {
    "sample": ("git clone --quiet {source} twotower", "make --directory twotower quickstart"),
    "shop": (
        "{python} -m venv env",
        "env/bin/pip install --quiet --upgrade pip",
        "env/bin/pip install --quiet -c {source}/constraints.txt {wheel}[train,text]",
        "env/bin/twotower run --dataset {shop} --out runs/shop",
    ),
}
"""Way → commands, the last of which ends with recommendations."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--shop", type=Path, default=ROOT.parent / "shared" / "data" / "shop")
    parser.add_argument("--way", choices=[*WAYS], action="append")
    parser.add_argument("--keep", action="store_true")
    parser.add_argument("--out", type=Path, default=RESULTS)
    given = parser.parse_args()
    started = datetime.now(UTC)
    ways = given.way or [*WAYS]
    rows = [
        row
        for row in (read_results(given.out).rows if given.keep and given.out.exists() else ())
        if row.model not in ways
    ]
    for way in ways:
        with TemporaryDirectory() as folder:
            rows += _timed(way, Path(folder), given.shop.resolve())
    for row in rows:
        print(f"{row.model:8s} {row.metric:20s} {row.value:8.1f}")
    write_results(given.out, collect_meta(started), rows)


def _timed(way: str, folder: Path, shop: Path) -> list[Row]:
    environment = {**os.environ, "TWOTOWER_CACHE": str(folder / "cache")}
    for name in ("VIRTUAL_ENV", "PYTHONPATH"):
        environment.pop(name, None)
    names = {"source": ROOT, "python": sys.executable, "shop": shop, "wheel": ""}
    if way == "shop":
        names["wheel"] = _wheel(folder / "dist")
    figures = {"commands": float(len(WAYS[way])), "seconds": 0.0, "processor-seconds": 0.0}
    for number, command in enumerate(WAYS[way], start=1):
        words = [word.format(**names) for word in command.split()]
        before, began = _processor_seconds(), time.perf_counter()
        subprocess.run(words, cwd=folder, env=environment, check=True)
        figures[f"seconds-{number}"] = time.perf_counter() - began
        figures[f"processor-seconds-{number}"] = _processor_seconds() - before
        figures["seconds"] += figures[f"seconds-{number}"]
        figures["processor-seconds"] += figures[f"processor-seconds-{number}"]
    return [
        Row(
            dataset="sample" if way == "sample" else shop.name, split="none", model=way,
            protocol="first-minutes", metric=metric, value=value, users=0,
        )
        for metric, value in figures.items()
    ]  # fmt: skip


def _wheel(folder: Path) -> Path:
    """What `pip install twotower` would fetch; making it is not timed."""
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", folder]
    subprocess.run([*command, ROOT], check=True)
    return next(folder.glob("*.whl"))


def _processor_seconds() -> float:
    spent = resource.getrusage(resource.RUSAGE_CHILDREN)
    return spent.ru_utime + spent.ru_stime


if __name__ == "__main__":
    main()
