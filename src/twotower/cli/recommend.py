"""`twotower recommend`: recommendations of a bundle, for one user or many."""

import re
from collections.abc import Collection, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final, Literal

import typer

from twotower.cli.options import (
    Engine,
    JsonFile,
    Workers,
    claimed,
    console,
    mapper_of,
    notes,
    print_note,
    print_result,
    write_json,
)
from twotower.errors import InputError

if TYPE_CHECKING:
    from twotower.inference import Pipeline, RecommendOptions, Request
    from twotower.inference.answers import Answer
    from twotower.types import Mapper


_NOTHING_LEFT: Final = "nothing is left that they have not had; pass --include-seen for all items"


def recommend(
    bundle: Annotated[str, typer.Option("--bundle", help="Folder of a bundle, by path or URL.")],
    user: Annotated[str | None, typer.Option("--user", help="Id of a known user.")] = None,
    history: Annotated[
        list[str] | None,
        typer.Option(
            "--history",
            help="Items just browsed, oldest first: --history ID ID ID. It takes all ids up to the "
            "next option; an id that is spelt as an option is given as --history=-k.",
        ),
    ] = None,
    more: Annotated[list[str] | None, typer.Argument(hidden=True)] = None,
    k: Annotated[int, typer.Option("-k", help="Items to recommend.")] = 10,
    rerank: Annotated[
        bool | None,
        typer.Option(
            "--rerank/--no-rerank",
            help="Re-rank the best candidates of the index. Default: where validation was better.",
        ),
    ] = None,
    text: Annotated[str | None, typer.Option("--text", help="A search text.")] = None,
    context: Annotated[
        list[str] | None,
        typer.Option(
            "--context",
            help="What is known of the request: --context device=phone --context hour=18. Of "
            "declared columns of the log; with --batch for all users alike.",
        ),
    ] = None,
    time: Annotated[
        str | None,
        typer.Option(
            "--time",
            help="When the request is made, such as 2025-01-31T18:30:00+01:00. Default: now.",
        ),
    ] = None,
    batch: Annotated[
        str | None,
        typer.Option(
            "--batch",
            help="File with a column user_id (.csv, .jsonl, .parquet), or a folder of such, by "
            "path or URL; or 'all' users.",
        ),
    ] = None,
    out: Annotated[
        str | None,
        typer.Option(
            "--out",
            help="With --batch: file to write (.csv, .jsonl, .parquet), by path or URL; - for "
            "standard output. With --engine ray: folder for Parquet files.",
            callback=claimed,
        ),
    ] = None,
    engine: Engine = "local",
    workers: Workers = None,
    unknown: Annotated[
        Literal["popular", "skip", "fail"],
        typer.Option("--unknown", help="With --batch: result for users that the bundle lacks."),
    ] = "popular",
    include_seen: Annotated[
        bool | None,
        typer.Option(
            "--include-seen/--exclude-seen",
            help="Whether items that the user had are recommended too. Default: where users come "
            "back to items in the log.",
            show_default=False,
        ),
    ] = None,
    strict: Annotated[
        bool,
        typer.Option(
            "--strict",
            help="Refuse unknown users and items. Default: popular items for such a user, and "
            "such items are passed over.",
        ),
    ] = False,
    rules: Annotated[
        Path | None,
        typer.Option("--rules", help="File of business rules (.toml, .json): pin, boost, …"),
    ] = None,
    json_file: JsonFile = None,
) -> None:
    """Recommend for a known user, or for a cold-start user with some items in the history.

    With `--batch` and `--out`, for many known users at once, searched exactly; with
    `--engine ray` on a cluster.

    Example: `twotower recommend --bundle bundle --history ID ID ID`
    """
    from twotower.inference import RecommendOptions, Request
    from twotower.inference.requests import time_of_text

    options = RecommendOptions(
        k,
        exclude_seen=None if include_seen is None else not include_seen,
        rerank=rerank,
        strict=strict,
    )
    if (batch is None) != (out is None):
        raise InputError(
            "--batch and --out go together", "name the file of users, and the file to write"
        )
    if batch is not None and out is not None:
        if user or history or more or text or time:
            raise InputError("--batch takes its users from the file", "leave out everything else")
        with mapper_of(engine, workers) as mapper:
            found = _recommend_batch(
                bundle,
                rules,
                batch,
                out,
                options,
                "fail" if strict else unknown,
                context,
                None if engine == "local" else mapper,
            )
        write_json(json_file, found)
        return

    if engine != "local" or workers is not None:
        raise InputError("--engine and --workers are of a batch", "give --batch and --out too")
    if more and not history:
        raise InputError(f"unexpected argument {more[0]!r}", "write --history before item ids")
    items = [*(history or []), *(more or [])]
    if user is None and not items and text is None:
        raise InputError(
            "no user to recommend for", "give --user ID, --history ID ID ID, or --text WORDS"
        )
    made = None if time is None else time_of_text(time)
    pipeline = _loaded(bundle, rules)
    known = pipeline.parsed_context(context) if context else None
    request = Request(user, items, text, context=known, time=made)
    shown = show_recommendations(pipeline, request, options)
    write_json(json_file, [asdict(item) | {"source": shown.source} for item in shown.items])


def with_history_options(arguments: Sequence[str], options: Collection[str]) -> list[str]:
    """``--history ID ID`` as ``--history=ID --history=ID``, so that an id may begin with a dash.

    Parameters
    ----------
    arguments
        Of ``recommend``.
    options
        Option names of ``recommend``, which end a history.

    Examples
    --------
    >>> with_history_options(["--history", "_-4", "-u36", "-k", "2"], {"--history", "-k"})
    ['--history=_-4', '--history=-u36', '-k', '2']
    """
    found: list[str] = []
    taking = waiting = False
    for argument in arguments:
        name = argument.partition("=")[0]
        if name == "--history":
            taking, waiting = True, name == argument
            if not waiting:
                found.append(argument)
        elif taking and name not in options and not re.fullmatch(r"-k\d+", argument):
            found.append(f"--history={argument}")
            waiting = False
        else:
            if waiting:  # no id follows: an error of the parser
                found.append("--history")
            taking = waiting = False
            found.append(argument)
    return [*found, "--history"] if waiting else found


def show_recommendations(
    pipeline: "Pipeline", request: "Request", options: "RecommendOptions | None" = None
) -> "Answer":
    """Recommend and print the table, with the user as its title."""
    from twotower.console import one_line, recommendations_table
    from twotower.inference import RecommendOptions

    (answer,) = pipeline.answers([request], options or RecommendOptions())
    known = [item for item in request.history if item not in answer.unknown_items]
    browsed = ", ".join(one_line(pipeline.title(item)) or item for item in known)
    who = "a cold-start user" if request.user_id is None else f"user {request.user_id}"
    if known:
        who += f" with {browsed} in the history"
    if request.text is not None:
        who += f" who wants {request.text}"
    print_result(f"\nFor {who}", style="bold")
    for remark in _remarks(pipeline, request, answer):
        print_result(remark, style="yellow")
    if answer.items:
        console().print(recommendations_table(answer.items))
    else:
        print_result(f"no items: {_NOTHING_LEFT}")
    if options is not None and 0 < len(answer.items) < options.k:
        print_result(f"{len(answer.items):,} of {options.k:,}: no more items can be recommended")
    return answer


def _remarks(pipeline: "Pipeline", request: "Request", answer: "Answer") -> Iterator[str]:
    """Remarks on ignored parts of a request, and on why the items are just popular ones."""
    if request.user_id is not None and request.user_id not in pipeline.contents.users:
        yield f"user {request.user_id} is not in the bundle"
    if answer.unknown_items:
        yield f"not in the bundle, and passed over: {', '.join(answer.unknown_items)}"
    for item_id in answer.unknown_items:
        parts = item_id.split(",")
        if len(parts) > 1 and all(pipeline.items.find(part) is not None for part in parts):
            yield f"ids are separated by spaces: --history {' '.join(parts)}"
    if answer.source == "popular":
        yield "popular items: nothing is known of this user that the model could read"


def _loaded(bundle: str, rules: Path | None) -> "Pipeline":
    """Load a bundle, with the business rules of a file if given."""
    from twotower.data.remote import local_input
    from twotower.inference import Pipeline

    with local_input(bundle) as folder:
        pipeline = Pipeline.load(folder)
    if rules is None:
        return pipeline
    from twotower.inference.business_rules import read_rules

    pipeline = pipeline.with_rules(read_rules(rules))
    if pipeline.rules is not None and pipeline.rules.unknown:
        unknown = ", ".join(pipeline.rules.unknown)
        text = f"rules for items that the bundle lacks: {unknown}"
        print_note(text, style="yellow")
    return pipeline


def _recommend_batch(
    bundle: str,
    rules: Path | None,
    users: str,
    out: str,
    options: "RecommendOptions",
    unknown: Literal["popular", "skip", "fail"],
    context: Sequence[str] | None,
    mapper: "Mapper | None",
) -> dict[str, object]:
    """Recommend for many users: to a file, or with a mapper to a folder."""
    from twotower.console import reporting
    from twotower.data.remote import local_input, local_output
    from twotower.inference.batch import read_users, recommend_to_file, recommend_to_folder

    pipeline = _loaded(bundle, rules)
    if users == "all":
        chosen: Sequence[str] = pipeline.contents.users.ids
    else:
        with local_input(users) as local:
            chosen = read_users(local)
    moment = pipeline.parsed_context(context) if context else None
    with reporting(notes()) as reporter:
        progress = reporter.counting("recommend", len(chosen))
        if mapper is None:
            with local_output(out) as path:
                counts = recommend_to_file(
                    pipeline, chosen, path, options,
                    unknown=unknown, context=moment, progress=progress,
                )  # fmt: skip
        else:
            counts = recommend_to_folder(
                pipeline, bundle, chosen, out, options,
                unknown=unknown, context=moment, progress=progress, mapper=mapper,
            )  # fmt: skip
    print_note(f"{counts.rows:,} items for {counts.users:,} users written to {out}")
    if counts.empty:
        print_result(f"{counts.empty:,} of them get none: {_NOTHING_LEFT}", style="yellow")
    if counts.unknown:
        got = "get popular items, with source 'popular'" if unknown == "popular" else "are left out"
        print_result(f"{counts.unknown:,} of them are not in the bundle and {got}", style="yellow")
    return {**asdict(counts), "k": options.k, "out": out}
