"""`twotower serve`, `key` and `events`: commands of the HTTP service."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from twotower.cli.options import JsonFile, print_note, print_result, write_json
from twotower.errors import InputError

if TYPE_CHECKING:
    from twotower.service.settings import ServeSettings

StateUrl = Annotated[
    str | None,
    typer.Option("--state", help="postgresql://… or sqlite:///file. Default: beside the bundle."),
]
Bundle = Annotated[Path | None, typer.Option("--bundle", help="Folder of a bundle.")]


def serve(
    bundle: Bundle = None,
    host: Annotated[str | None, typer.Option("--host", help="Address to listen on.")] = None,
    port: Annotated[int | None, typer.Option("--port", help="Port; 0 takes a free port.")] = None,
    state: StateUrl = None,
    keys: Annotated[
        Path | None, typer.Option("--keys", help="File of API keys, see 'twotower key'.")
    ] = None,
    rerank: Annotated[
        bool | None,
        typer.Option(
            "--rerank/--no-rerank",
            help="Re-rank requests that do not say. Default: where validation was better.",
        ),
    ] = None,
    processes: Annotated[
        int | None, typer.Option("--processes", help="Worker processes. Default: 1.")
    ] = None,
    rules: Annotated[
        Path | None,
        typer.Option("--rules", help="File of business rules; a reload reads it again."),
    ] = None,
) -> None:
    """Answer requests over HTTP, until SIGTERM. Needs the extra 'serve'.

    Other settings are read from the environment: TWOTOWER_BUNDLE, TWOTOWER_HOST,
    TWOTOWER_STATE_URL and so on; docs/serving.md lists them.

    Example: `twotower serve --bundle bundle --keys keys`
    """
    settings = settings_of(
        bundle=bundle, host=host, port=port, state_url=state, keys_file=keys, rerank=rerank,
        processes=processes, rules=rules,
    )  # fmt: skip
    from twotower.service.api.server import serve as run

    run(settings)


def key(
    name: Annotated[str, typer.Argument(help="Owner of the key, for the log.")],
    scope: Annotated[
        Literal["read", "write", "admin"], typer.Option("--scope", help="What the key allows.")
    ] = "read",
    keys: Annotated[
        Path | None, typer.Option("--keys", help="Also append its hash to this file.")
    ] = None,
) -> None:
    """Make an API key. It is shown once; only its hash is kept.

    Example: `twotower key shop --scope write --keys keys`
    """
    from twotower.service.api.auth import Scope, new_key

    made, line = new_key(name, Scope[scope.upper()])
    if keys is not None:
        before = keys.read_bytes() if keys.exists() else b""
        line_end = "" if before.endswith(b"\n") or not before else "\n"
        with keys.open("a", encoding="utf-8") as file:
            keys.chmod(0o600)
            file.write(f"{line_end}{line}\n")
    print_result(f"key:  {made}")
    print_result(f"line: {line}")


def events(
    bundle: Annotated[Path, typer.Option("--bundle", help="The bundle that was served.")],
    out: Annotated[Path, typer.Option("--out", help="Folder that 'prepare' reads.")],
    state: StateUrl = None,
    kinds: Annotated[
        list[str] | None,
        typer.Option(
            "--kind",
            help="A kind of event to take; may be repeated. Default: those that the bundle "
            "declares, else buy and rating.",
        ),
    ] = None,
    keep_days: Annotated[
        float | None,
        typer.Option("--keep-days", min=0, help="Leave out interactions that are older."),
    ] = None,
    anonymise_after_days: Annotated[
        float | None,
        typer.Option("--anonymise-after-days", min=0, help="Random user ids for older ones."),
    ] = None,
    json_file: JsonFile = None,
) -> None:
    """Join the interactions of the bundle and the recorded events, for the next training.

    Example: `twotower events --bundle bundle --out data/shop-new`
    """
    from twotower.bundle.storage import load_bundle
    from twotower.service.api.rules import USUAL_KINDS
    from twotower.service.retrain import write_source
    from twotower.service.state import StateStore

    contents = load_bundle(bundle).contents
    rules = contents.info.events
    known = USUAL_KINDS if rules is None else rules.kinds
    unknown = set(kinds or ()) - set(known)
    if unknown:
        raise InputError(f"unknown kind {min(unknown)!r}", f"pass some of {', '.join(known)}")
    settings = settings_of(
        bundle=bundle,
        state_url=state,
        events_keep_days=keep_days,
        anonymise_after_days=anonymise_after_days,
    )
    store = StateStore(settings.database)
    try:
        counts = write_source(
            contents, store, out, kinds or None,
            keep_days=settings.events_keep_days,
            anonymise_after_days=settings.anonymise_after_days,
        )  # fmt: skip
    finally:
        store.close()
    print_note(
        f"{counts['interactions']:,} interactions ({counts['interactions_new']:,} new) of "
        f"{counts['items']:,} items ({counts['items_new']:,} new) written to {out}"
    )
    write_json(json_file, counts)


def settings_of(**given: Any) -> "ServeSettings":
    """Settings of the service: those given, the others from the environment."""
    try:
        from twotower.service.settings import ServeSettings
    except ModuleNotFoundError as error:
        raise InputError(
            f"serving needs the package {error.name}, which is not installed",
            "run pip install 'twotower[serve]'",
        ) from error
    return ServeSettings(**{name: value for name, value in given.items() if value is not None})
