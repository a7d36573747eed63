"""From nothing to the first recommendation, by the README's commands, each timed.

    python benchmarks/first_minutes.py

From a clone, and from a wheel as pip would fetch it; to recommendations on the bundled sample, and
on a shop's own files (``--shop``). Each way begins with an empty folder, without a virtual
environment and without pip's cache: downloads count. Processor seconds are those of all processes
that a command starts; ``busy-cores-beside`` is how many cores other processes of the machine
kept busy meanwhile. ``--way`` takes one of the two, and keeps what was measured of the other.
"""

import argparse
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

import psutil

from twotower.evaluation.provenance import collect_meta
from twotower.evaluation.results import Row, read_results, write_results

ROOT: Final = Path(__file__).resolve().parents[1]
RESULTS: Final = ROOT / "benchmarks" / "results" / "first-minutes.json"
NAMED_FOR_ITS_PLACE: Final = ("VIRTUAL_ENV", "PYTHONPATH")
"""Variables of this environment that a new one must not have."""


@dataclass(frozen=True)
class Way:
    """Commands that install the package, and those for each data set, in an empty folder."""

    install: tuple[str, ...]
    recommend: Mapping[str, tuple[str, ...]]


WAYS: Final = {
    "clone": Way(
        # `make quickstart` installs by itself; apart, both times are seen.
        ("git clone --quiet {source} twotower", "make --directory twotower install-runtime"),
        {
            "sample": ("make --directory twotower quickstart",),
            "shop": (
                "twotower/.venv/bin/twotower inspect shop --write shop",
                "twotower/.venv/bin/twotower run shop --out runs/shop",
            ),
        },
    ),
    "wheel": Way(
        (
            "{python} -m venv env",
            "env/bin/pip install --quiet -c {source}/constraints.txt --upgrade pip",
            "env/bin/pip install --quiet -c {source}/constraints.txt {wheel}[train,text]",
        ),
        {
            "sample": ("env/bin/twotower run sample --out runs/sample",),
            "shop": (
                "env/bin/twotower inspect shop --write shop",
                "env/bin/twotower run shop --out runs/shop",
            ),
        },
    ),
}


@dataclass(frozen=True)
class Spent:
    """Of one command or several, in seconds."""

    wall: float = 0.0
    processor: float = 0.0
    beside: float = 0.0
    """Processor seconds of all other processes of the machine meanwhile."""

    def __add__(self, other: "Spent") -> "Spent":
        return Spent(
            self.wall + other.wall, self.processor + other.processor, self.beside + other.beside
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--shop", type=Path, default=ROOT.parent / "shared" / "data" / "shop")
    parser.add_argument("--way", choices=[*WAYS])
    parser.add_argument("--out", type=Path, default=RESULTS)
    given = parser.parse_args()
    started = datetime.now(UTC)
    ways = [given.way] if given.way else [*WAYS]
    rows = []
    if given.way and given.out.exists():
        rows = [row for row in read_results(given.out).rows if row.model not in ways]
    for way in ways:
        with TemporaryDirectory() as folder:
            for more in timed(way, Path(folder), given.shop.resolve()):
                rows += more
                write_results(given.out, collect_meta(started), rows)
    for row in rows:
        print(f"{row.dataset:8s} {row.model:8s} {row.metric:20s} {row.value:8.1f}")


def timed(name: str, folder: Path, shop: Path) -> Iterator[list[Row]]:
    """Figures of one way, for each data set from the first command to its recommendations."""
    names = {"source": ROOT, "python": sys.executable}
    (folder / "shop").mkdir()  # a copy, since a declaration is written into it
    for file in shop.iterdir():
        shutil.copyfile(file, folder / "shop" / file.name)
    way = WAYS[name]
    if name == "wheel":
        names["wheel"] = _wheel(folder / "dist")
    environment = {**os.environ, "XDG_CACHE_HOME": str(folder / "cache")}
    environment |= {"TWOTOWER_CACHE": str(folder / "cache"), "PIP_CACHE_DIR": str(folder / "pip")}
    for variable in NAMED_FOR_ITS_PLACE:
        environment.pop(variable, None)

    def run(command: str) -> Spent:
        words = [word.format(**names) for word in command.split()]
        print("$", command, flush=True)
        ours, all_of_machine, began = _ours(), _machine(), time.perf_counter()
        subprocess.run(words, cwd=folder, env=environment, check=True)
        processor = _ours() - ours
        beside = max(0.0, _machine() - all_of_machine - processor)
        return Spent(time.perf_counter() - began, processor, beside)

    installed = sum(map(run, way.install), Spent())
    for dataset, commands in way.recommend.items():
        recommended = sum(map(run, commands), Spent())
        whole = installed + recommended
        figures = {
            "seconds": whole.wall,
            "install-seconds": installed.wall,
            "run-seconds": recommended.wall,
            "processor-seconds": whole.processor,
            "busy-cores-beside": whole.beside / whole.wall,
        }
        yield [
            Row(
                dataset=dataset, split="none", model=name, protocol="first-minutes",
                metric=metric, value=value, users=0,
            )
            for metric, value in figures.items()
        ]  # fmt: skip


def _wheel(folder: Path) -> Path:
    """What `pip install twotower` would fetch; making it is not timed."""
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", folder]
    subprocess.run([*command, ROOT], check=True)
    return next(folder.glob("*.whl"))


def _ours() -> float:
    """Processor seconds of all commands that have ended."""
    spent = os.times()
    return spent.children_user + spent.children_system


def _machine() -> float:
    """Processor seconds of all processes since the machine was started."""
    spent = psutil.cpu_times()
    return float(spent.user + spent.system + getattr(spent, "nice", 0.0))


if __name__ == "__main__":
    main()
