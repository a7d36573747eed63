"""Shared command options, and writers of command results."""

import inspect
import json
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from functools import cache, wraps
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal, TypeAlias, TypeVar

import typer

from twotower.errors import InputError

if TYPE_CHECKING:
    from rich.console import Console

    from twotower.data.settings import PrepareSettings
    from twotower.evaluation.results import Row
    from twotower.types import Mapper

P = TypeVar("P", Path | None, str | None)

STANDARD_OUTPUT: Final = Path("-")
"""Stands for standard output as the file to write; all else is then printed to stderr."""


@cache
def console() -> "Console":
    """Console for results, created on first use; brackets in names are not markup."""
    from rich.console import Console

    return Console(markup=False)


@cache
def notes() -> "Console":
    """Console for progress and notes; silent with ``--quiet``."""
    from rich.console import Console

    return Console(markup=False)


def print_result(text: str, *, style: str | None = None) -> None:
    """Print a line of the result; paths and figures are neither wrapped nor coloured."""
    console().print(text, style=style, highlight=False, soft_wrap=True)


def print_note(text: str, *, style: str | None = None) -> None:
    """Print a line about what was done, like `print_result`."""
    notes().print(text, style=style, highlight=False, soft_wrap=True)


def claimed(path: P) -> P:
    """Reserve standard output for the result if the path is ``-``."""
    if path in (STANDARD_OUTPUT, str(STANDARD_OUTPUT)):
        console().stderr = notes().stderr = True
    return path


def with_quiet(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the option ``--quiet``."""
    quiet = inspect.Parameter(
        "quiet",
        inspect.Parameter.KEYWORD_ONLY,
        default=False,
        annotation=Annotated[
            bool, typer.Option("--quiet", help="Print results, warnings and errors alone.")
        ],
    )

    @wraps(command)
    def run(*, quiet: bool, **options: Any) -> None:
        if quiet:
            notes().quiet = True
        command(**options)

    return with_parameters(run, [*inspect.signature(command).parameters.values(), quiet])


def with_parameters(
    run: Callable[..., None], parameters: Iterable[inspect.Parameter]
) -> Callable[..., None]:
    """Let typer read these parameters for a wrapped command, not those of the wrapper."""
    named = [found.replace(kind=inspect.Parameter.KEYWORD_ONLY) for found in parameters]
    run.__signature__ = inspect.Signature(named)  # type: ignore[attr-defined]
    run.__annotations__ = {found.name: found.annotation for found in named}
    del run.__wrapped__  # type: ignore[attr-defined]
    return run


DataFolder: TypeAlias = Annotated[
    Path, typer.Option("--data", help="A folder that 'prepare' wrote.")
]
JsonFile: TypeAlias = Annotated[
    Path | None,
    typer.Option(
        "--json", help="Also write the result as JSON; - for standard output.", callback=claimed
    ),
]
TextEncoderName: TypeAlias = Annotated[
    str, typer.Option("--text-encoder", help="minilm, minilm-int8 (extra 'text') or hashing.")
]
Track: TypeAlias = Annotated[
    bool, typer.Option("--track", help="Also write the models to MLflow (extra 'track').")
]
Protocols: TypeAlias = Annotated[
    list[str] | None,
    typer.Option(
        "--protocol",
        help="full, full-unmasked, sampled-100, by-activity, beyond-accuracy, cold-start, "
        "hold-outs …; may be repeated. Default: the first three.",
    ),
]
IndexKind: TypeAlias = Annotated[
    str,
    typer.Option(
        "--kind",
        help="Kind of index: auto (measures them and takes the fastest), exact, flat, hnsw, "
        "hnsw-float16, ivf, ivf-float16, ivf-int8, pq, or a kind of another package.",
    ),
]
Refit: TypeAlias = Annotated[
    bool,
    typer.Option(
        help="Bundle the model fitted anew on all interactions, with what validation chose; "
        "figures are of the evaluated model."
    ),
]
DeviceName: TypeAlias = Annotated[
    str | None,
    typer.Option("--device", help="Train on cpu, cuda, mps, or auto: a GPU if any. Default: cpu."),
]
PrecisionName: TypeAlias = Annotated[
    str | None,
    typer.Option("--precision", help="32, or bf16: matrix products in bfloat16. Default: 32."),
]
Epochs: TypeAlias = Annotated[
    int | None,
    typer.Option(
        "--epochs", min=1, help="Most epochs of a model. Default: until validation says so."
    ),
]
Minutes: TypeAlias = Annotated[
    float | None,
    typer.Option(
        "--minutes",
        min=0.01,
        help="Most minutes of training, the search for settings included; the best so far is "
        "kept. A refit takes up to as long again; texts are encoded before. Default: until "
        "validation says so.",
    ),
]
Engine: TypeAlias = Annotated[
    Literal["local", "ray"],
    typer.Option("--engine", help="local, or ray: the nodes of a Ray cluster (extra 'scale')."),
]
Workers: TypeAlias = Annotated[
    int | None,
    typer.Option("--workers", min=1, help="With --engine ray: processes. Default: one a node."),
]
KCore: TypeAlias = Annotated[
    int | None, typer.Option("--k-core", help="Least interactions of a user and an item.")
]


@contextmanager
def mapper_of(engine: str, workers: int | None) -> "Iterator[Mapper]":
    """The `map` selected by ``--engine`` and ``--workers``."""
    if engine == "ray":
        from twotower.cluster import ray_cluster

        with ray_cluster(workers) as mapper:
            yield mapper
    elif workers is not None:
        raise InputError("--workers is for a cluster", "pass --engine ray with it, or leave it out")
    else:
        yield map


def changed_settings(settings: "PrepareSettings", **changes: object) -> "PrepareSettings":
    """The settings with the user's options; None leaves a value unchanged.

    Values set by neither stay unset, so that a ``dataset.toml`` can set them.
    """
    given = {name: value for name, value in changes.items() if value is not None}
    said = settings.model_dump(exclude_unset=True)
    return type(settings)(**{**said, **given})


def write_json(path: Path | None, value: object) -> None:
    """Write a command's result if ``--json`` was given."""
    if path is None:
        return
    text = json.dumps(value, indent=2, default=str) + "\n"
    if path == STANDARD_OUTPUT:
        sys.stdout.write(text)
        return
    from twotower.data.atomic import atomic_file

    with atomic_file(path) as temporary:
        temporary.write_text(text)


def write_rows(path: Path | None, rows: Sequence["Row"], started: datetime) -> None:
    """Write a results file if ``--json`` was given."""
    if path is not None:
        from twotower.evaluation.provenance import collect_meta
        from twotower.evaluation.results import write_results

        write_results(path, collect_meta(started), rows)
