"""Commands that use what was made: recommend and info."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape

from twotower.cli.options import JsonFile, console, write_json
from twotower.errors import ArtefactError, InputError

if TYPE_CHECKING:
    from twotower.inference import Pipeline, Recommendation


def recommend(
    bundle: Annotated[Path, typer.Option("--bundle", help="Folder of a bundle.")],
    user: Annotated[str | None, typer.Option("--user", help="Id of a known user.")] = None,
    history: Annotated[
        list[str] | None,
        typer.Option("--history", help="A history, oldest item first: --history ID ID ID."),
    ] = None,
    more: Annotated[list[str] | None, typer.Argument(hidden=True)] = None,
    k: Annotated[int, typer.Option("-k", help="Items to recommend.")] = 10,
    rerank: Annotated[bool, typer.Option("--rerank", help="Re-rank 1,000 candidates.")] = False,
    text: Annotated[str | None, typer.Option("--text", help="What is wanted, in words.")] = None,
    batch: Annotated[
        Path | None,
        typer.Option("--batch", help="Parquet file with a column user_id, or 'all' users."),
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", help="Parquet file to write, with --batch.")
    ] = None,
    json_file: JsonFile = None,
) -> None:
    """Recommend for a known user, or for a new user with some items in the history.

    With `--batch` and `--out`, for many known users at once, searched exactly.

    Example: `twotower recommend --bundle bundle --history ID ID ID`
    """
    from twotower.inference import Pipeline

    if (batch is None) != (out is None):
        raise InputError(
            "--batch and --out go together", "name the file of users, and one to write"
        )
    if batch is not None and out is not None:
        if user or history or more or text:
            raise InputError("--batch takes its users from the file", "leave out everything else")
        write_json(json_file, _recommend_batch(bundle, batch, out, k, rerank=rerank))
        return

    if more and not history:
        raise InputError(f"unexpected argument {more[0]!r}", "write --history before item ids")
    items = [*(history or []), *(more or [])]
    found = show_recommendations(Pipeline.load(bundle), user, items, k, rerank=rerank, text=text)
    write_json(json_file, [asdict(item) for item in found])


def info(
    folder: Annotated[Path, typer.Argument(help="A data set, trained model or bundle.")],
    json_file: JsonFile = None,
) -> None:
    """Say what a folder holds.

    Example: `twotower info bundle`
    """
    for name in ("manifest.json", "model.json"):
        file = folder / name
        if file.exists():
            try:
                described = json.loads(file.read_text())
            except ValueError as error:
                raise ArtefactError(f"{file} cannot be read ({error})") from error
            console.print_json(data=_shortened(described))
            write_json(json_file, described)
            return
    raise InputError(
        f"{folder} holds neither manifest.json nor model.json",
        "pass a folder that prepare, train or index wrote",
    )


def show_recommendations(
    pipeline: "Pipeline",
    user: str | None,
    history: Sequence[str],
    k: int = 10,
    *,
    rerank: bool = False,
    text: str | None = None,
) -> list["Recommendation"]:
    """Recommend and print the table, under a line that says for whom."""
    from twotower.console import recommendations_table

    found = pipeline.recommend(user, history, k, rerank=rerank, text=text)
    browsed = ", ".join(pipeline.title(item) or item for item in history)
    who = "somebody new" if user is None else f"user {user}"
    if history:
        who += f" with {browsed} in the history"
    if text is not None:
        who += f" who wants {text}"
    console.print(f"\n[bold]For {escape(who)}[/]", highlight=False)
    console.print(recommendations_table(found))
    return found


def _recommend_batch(
    bundle: Path, users: Path, out: Path, k: int, *, rerank: bool
) -> dict[str, object]:
    from twotower.console import reporting
    from twotower.inference import Pipeline
    from twotower.inference.batch import read_users, recommend_to_file

    pipeline = Pipeline.load(bundle)
    known = pipeline.contents.users.ids
    wanted = known if str(users) == "all" else read_users(users)
    with reporting(console) as reporter:
        advance = reporter.counting("recommend", len(wanted))
        recommend_to_file(pipeline, wanted, out, k, rerank=rerank, progress=advance)
    console.print(f"{k} items for {len(wanted):,} users written to {out}", highlight=False)
    return {"users": len(wanted), "k": k, "out": str(out)}


def _shortened(value: Any, longest: int = 8) -> Any:
    """The same with long lists cut, for reading."""
    if isinstance(value, dict):
        return {name: _shortened(inner) for name, inner in value.items()}
    if isinstance(value, list) and len(value) > longest:
        return [*(_shortened(inner) for inner in value[:longest]), f"… {len(value)} in all"]
    return value
