"""`twotower serve`, `key` and `events`: commands of the HTTP service."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from twotower.cli.options import JsonFile, console, notes, validated, write_json
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
        bool | None, typer.Option("--rerank/--no-rerank", help="Re-rank by default.")
    ] = None,
    processes: Annotated[
        int | None, typer.Option("--processes", help="Worker processes. Default: 1.")
    ] = None,
) -> None:
    """Answer requests over HTTP, until SIGTERM. Needs the extra 'serve'.

    Other settings are read from the environment: TWOTOWER_BUNDLE, TWOTOWER_HOST,
    TWOTOWER_STATE_URL and so on; docs/serving.md lists them.

    Example: `twotower serve --bundle bundle --keys keys`
    """
    settings = _settings(
        bundle=bundle, host=host, port=port, state_url=state, keys_file=keys, rerank=rerank,
        processes=processes,
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
    console().print(f"key:  {made}", highlight=False, soft_wrap=True)
    console().print(f"line: {line}", highlight=False, soft_wrap=True)


def events(
    bundle: Annotated[Path, typer.Option("--bundle", help="The bundle that was served.")],
    out: Annotated[Path, typer.Option("--out", help="Folder that 'prepare' reads.")],
    state: StateUrl = None,
    kinds: Annotated[
        list[str] | None,
        typer.Option("--kind", help="view, cart, buy, rating; repeatable. Default: buy, rating."),
    ] = None,
    json_file: JsonFile = None,
) -> None:
    """Join the interactions of the bundle and the recorded events, for the next training.

    Example: `twotower events --bundle bundle --out data/shop-new`
    """
    from twotower.bundle.storage import load_bundle
    from twotower.service.retrain import LEARNED, write_source
    from twotower.service.state import EventKind, StateStore

    all_kinds: tuple[EventKind, ...] = ("view", "cart", "buy", "rating")
    chosen = tuple(kind for kind in all_kinds if kind in (kinds or LEARNED))
    unknown = set(kinds or ()) - set(all_kinds)
    if unknown:
        raise InputError(f"unknown kind {min(unknown)!r}", f"pass some of {', '.join(all_kinds)}")
    contents = load_bundle(bundle).contents
    store = StateStore(_settings(bundle=bundle, state_url=state).database)
    try:
        counts = write_source(contents, store, out, chosen)
    finally:
        store.close()
    notes().print(
        f"{counts['interactions']:,} interactions ({counts['interactions_new']:,} new) of "
        f"{counts['items']:,} items ({counts['items_new']:,} new) written to {out}",
        highlight=False,
    )
    write_json(json_file, counts)


def _settings(**given: Any) -> "ServeSettings":
    try:
        from twotower.service.settings import ServeSettings
    except ModuleNotFoundError as error:
        raise InputError(
            f"serving needs the package {error.name}, which is not installed",
            "run pip install 'twotower[serve]'",
        ) from error
    settings: ServeSettings = validated(
        ServeSettings, {name: value for name, value in given.items() if value is not None}
    )
    return settings
