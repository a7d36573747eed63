"""`twotower retrain` and `rollback`: the next bundle of a service, and the one before it."""

import os
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from twotower.cli.options import JsonFile, notes, print_note, write_json
from twotower.cli.serve import StateUrl, settings_of
from twotower.errors import InputError

if TYPE_CHECKING:
    from twotower.retraining import RetrainSettings

ServedBundle = Annotated[
    Path, typer.Option("--bundle", help="The folder that the service is configured with.")
]
BundlesFolder = Annotated[
    Path | None,
    typer.Option("--out", help="Folder of the bundles. Default: the one that holds --bundle."),
]


def retrain(
    bundle: ServedBundle,
    out: BundlesFolder = None,
    state: StateUrl = None,
    config: Annotated[
        Path | None,
        typer.Option("--config", help="TOML file of settings and [thresholds] of the gate."),
    ] = None,
    address: Annotated[
        str | None,
        typer.Option(
            "--address",
            help="Reload through this service, with the key in TWOTOWER_KEY, and watch it after "
            "that: the old bundle comes back where errors or latency rise. Default: through "
            "the database, which every service follows, without a watch.",
        ),
    ] = None,
    json_file: JsonFile = None,
) -> None:
    """Train the bundle in service on what was recorded since; serve the new one if it is good.

    Run again, it resumes. A new bundle that the gate refuses, or that is rolled back, ends with
    exit code 3, and the old one stays.

    Example: `twotower retrain --bundle bundles/current`
    """
    from twotower.console import reporting
    from twotower.retraining import Watch
    from twotower.retraining import retrain as whole_loop
    from twotower.service.client import Client
    from twotower.service.state import StateStore

    settings = settings_of(bundle=bundle, state_url=state)
    wanted = _wanted(
        config,
        keep_days=settings.events_keep_days,
        anonymise_after_days=settings.anonymise_after_days,
    )

    with (
        closing(StateStore(settings.database)) as store,
        reporting(notes()) as reporter,
        Client(
            address or "", os.environ.get("TWOTOWER_KEY"), timeout=settings.reload_timeout_s
        ) as client,
    ):
        outcome = whole_loop(
            bundle,
            store,
            out or bundle.absolute().parent,
            wanted,
            swap=None if address is None else client.reload,
            watch=None if address is None else Watch(client, wanted.watch),
            reporter=reporter,
        )
    named = f" {outcome.name}" if outcome.name else ""
    print_note(f"{outcome.result}{named}: {outcome.new_events:,} new events")
    write_json(json_file, outcome.model_dump(mode="json"))
    if outcome.result in ("refused", "rolled-back"):
        raise typer.Exit(3)


def rollback(
    bundle: ServedBundle,
    out: BundlesFolder = None,
    state: StateUrl = None,
    json_file: JsonFile = None,
) -> None:
    """Serve the bundle again that was served before the one in service.

    Example: `twotower rollback --bundle bundles/current`
    """
    from twotower.retraining import roll_back
    from twotower.service.state import StateStore

    settings = settings_of(bundle=bundle, state_url=state)
    with closing(StateStore(settings.database)) as store:
        entry = roll_back(bundle, store, out or bundle.absolute().parent)
    print_note(f"{entry.model_version} is served again")
    write_json(json_file, entry.model_dump(mode="json"))


def _wanted(config: Path | None, **given: Any) -> "RetrainSettings":
    import tomllib

    from twotower.retraining import RetrainSettings

    values: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
    if config is not None:
        try:
            values |= tomllib.loads(config.read_text(encoding="utf-8"))
        except tomllib.TOMLDecodeError as error:
            raise InputError(f"{config} is no TOML: {error}") from None
    return RetrainSettings(**values)
