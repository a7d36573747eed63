"""Results tables in Markdown files: generation, and a check that they are up to date.

A block in a document selects figures of a results file for its table::

    <!-- results: benchmarks/results/sample.json protocol=full metrics=HR@10,NDCG@10 -->
    | model | HR@10 | NDCG@10 |
    ...
    <!-- end -->

With ``protocols=NAME,NAME`` the columns are protocols, of one metric. With ``table=datasets`` the
file is a pattern of several, and the table has a line per data set and a column per model, with one
metric; ``published=FILE`` adds the best figure that others published on the same split,
``costs=MODEL`` that model's training time and peak memory. With ``table=study`` it is the table of
an ablation study, with the published figures of ``reference=FILE`` in brackets.

Run ``python -m twotower.reporting.markdown [--check] [FILES]`` in the folder that the paths of
results files start from. A marker counts at the start of a line only, so that an indented one
is an example.
"""

import argparse
import json
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from twotower.data.atomic import atomic_file
from twotower.errors import InputError, TwoTowerError
from twotower.evaluation.results import markdown_table, read_results
from twotower.reporting.product_names import product_name
from twotower.reporting.study_results import StudyFigures
from twotower.reporting.table import study_markdown

_BLOCK = re.compile(
    r"^<!-- results: (?P<what>[^\n]*?) -->\n(?P<table>.*?)^<!-- end -->$", re.MULTILINE | re.DOTALL
)
_START = re.compile(r"^<!-- results:", re.MULTILINE)
_SELECT = ("dataset", "split", "protocol")
_OPTIONS = (
    *_SELECT,
    "models",
    "metrics",
    "protocols",
    "intervals",
    "digits",
    "table",
    "reference",
    "published",
    "costs",
)
_INTERVALS = {"yes": True, "no": False}


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point: 0 done or up to date, 1 out of date, 2 a block cannot be rendered."""
    parser = argparse.ArgumentParser(
        prog="python -m twotower.reporting.markdown",
        description="Write tables of results into Markdown files.",
    )
    parser.add_argument(
        "files", nargs="*", type=Path, help="default: README.md, docs/*.md and benchmarks/*.md"
    )
    parser.add_argument("--check", action="store_true", help="change nothing, fail if out of date")
    given = parser.parse_args(arguments)
    documents = (
        path for name in ("docs", "benchmarks") for path in sorted(Path(name).glob("*.md"))
    )
    files = given.files or [Path("README.md"), *documents]
    stale = []
    for path in files:
        try:
            old = path.read_text(encoding="utf-8")
            new = render(old, Path())
        except (OSError, TwoTowerError) as error:
            print(f"{path}: {error}", file=sys.stderr)
            return 2
        if new == old:
            continue
        stale.append(path)
        if not given.check:
            with atomic_file(path) as temporary:
                temporary.write_text(new, encoding="utf-8")
    for path in stale:
        print(f"{path}: {'out of date' if given.check else 'rewritten'}")
    return 1 if stale and given.check else 0


def render(text: str, root: Path) -> str:
    """The document with every block's table regenerated; paths are relative to ``root``.

    Raises
    ------
    InputError
        A block without an end, an unknown option, or a selection that no figure fits.
    ArtefactError
        A results file that cannot be read.
    """
    blocks = _BLOCK.findall(text)
    if len(blocks) != len(_START.findall(text)) or any(_START.search(b[1]) for b in blocks):
        raise InputError("a results block has no end", "close it with a line <!-- end -->")
    return _BLOCK.sub(
        lambda block: (
            f"<!-- results: {block['what']} -->\n{_table(block['what'], root)}\n<!-- end -->"
        ),
        text,
    )


def _table(what: str, root: Path) -> str:
    file, *words = what.split()
    options = {}
    for word in words:
        name, equals, value = word.partition("=")
        if name not in _OPTIONS or not equals or not value:
            raise InputError(
                f"unknown option {word!r} of results block {what!r}",
                f"pass name=value with one of {', '.join(_OPTIONS)}",
            )
        options[name] = value
    if options.get("table") == "study":
        reference = root / options["reference"] if "reference" in options else None
        return study_markdown(StudyFigures.read([root / file], reference=reference))
    if options.get("table") == "datasets":
        published = []
        if "published" in options:
            published = json.loads((root / options["published"]).read_text())["rows"]
        return _datasets_table(what, sorted(root.glob(file)), options, published)
    if "metrics" not in options:
        raise InputError(f"results block {what!r} names no metrics", "add metrics=HR@10,NDCG@10")
    rows = [
        row
        for row in read_results(root / file).rows
        if all(getattr(row, name) == options[name] for name in _SELECT if name in options)
    ]
    if "models" in options:
        wanted = options["models"].split(",")
        missing = sorted(set(wanted) - {row.model for row in rows})
        if missing:
            raise InputError(f"results block {what!r}: no figures of {', '.join(missing)}")
        rows = sorted((r for r in rows if r.model in wanted), key=lambda r: wanted.index(r.model))
    metrics = options["metrics"].split(",")
    if "protocols" in options:
        columns = options["protocols"].split(",")
        rows = [
            row.model_copy(update={"metric": row.protocol})
            for row in rows
            if row.metric in metrics and row.protocol in columns
        ]
        metrics = columns
    intervals, digits = options.get("intervals", "no"), options.get("digits", "4")
    if intervals not in _INTERVALS or not digits.isdecimal():
        raise InputError(
            f"results block {what!r} needs intervals=yes or no, and a number of digits"
        )
    try:
        return markdown_table(
            rows,
            metrics,
            intervals=_INTERVALS[intervals],
            digits=int(digits),
        )
    except InputError as error:
        raise InputError(f"results block {what!r}: {error.what}", error.fix) from error


def _datasets_table(
    what: str,
    files: Sequence[Path],
    options: Mapping[str, str],
    published: Sequence[Mapping[str, Any]],
) -> str:
    """A line per data set, a column per model."""
    if not files or not {"models", "metrics", "protocol"} <= options.keys():
        raise InputError(
            f"results block {what!r} needs results files, and models, metrics and protocol",
            "add models=als,v10 metrics=NDCG@10 protocol=full",
        )
    models, metric, digits = options["models"].split(","), options["metrics"], 4
    heads = [product_name(name) for name in models]
    heads += ["best published"] if "published" in options else []
    heads += ["training, min", "memory, GB"] if "costs" in options else []
    lines = [["data set", "users", *heads], ["---", *["---:"] * (1 + len(heads))]]
    for file in files:
        rows, name = read_results(file).rows, file.stem.removeprefix("datasets-")
        found = {
            row.model: row
            for row in rows
            if (row.protocol, row.metric) == (options["protocol"], metric)
        }
        if not found:
            raise InputError(f"results block {what!r}: {file} has no {metric}")
        first = next(iter(found.values()))
        values = [f"{found[model].value:.{digits}f}" if model in found else "–" for model in models]
        if "published" in options:
            values.append(_best_published(published, name, metric, digits))
        if "costs" in options:
            costs = {row.metric: row.value for row in rows if row.model == options["costs"]}
            minutes = costs["training-seconds"] / 60
            values += [
                f"{minutes:.{0 if minutes >= 10 else 1}f}",
                f"{costs['peak-memory-mb'] / 1024:.1f}",
            ]
        lines.append([name, f"{first.users:,}", *values])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _best_published(
    rows: Sequence[Mapping[str, Any]], dataset: str, metric: str, digits: int
) -> str:
    """The greatest figure, with a link to who published it."""
    fitting = [row for row in rows if (row["dataset"], row["metric"]) == (dataset, metric)]
    if not fitting:
        return "–"
    best = max(fitting, key=lambda row: float(row["value"]))
    return f"{best['value']:.{digits}f} [{best['model']}]({best['source']})"


if __name__ == "__main__":
    sys.exit(main())
