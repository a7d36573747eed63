"""`twotower forget`, `backup` and `restore`: commands on the database of a service."""

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from twotower.cli.options import JsonFile, console, print_note, print_result, write_json
from twotower.cli.serve import Bundle, StateUrl, settings_of
from twotower.errors import InputError

if TYPE_CHECKING:
    from twotower.service.state import StateStore


def forget(
    users: Annotated[list[str] | None, typer.Argument(help="Ids of users.")] = None,
    file: Annotated[
        Path | None, typer.Option("--file", help="A text file with more ids, one a line.")
    ] = None,
    bundle: Bundle = None,
    state: StateUrl = None,
    save_list: Annotated[
        Path | None,
        typer.Option("--save-list", help="Write who is forgotten, as hashes, for back-ups."),
    ] = None,
    from_list: Annotated[
        Path | None,
        typer.Option("--from-list", help="Forget whom such a list names, after a restoration."),
    ] = None,
    json_file: JsonFile = None,
) -> None:
    """Forget users: in the database, in every answer, in the next training.

    Services over the database obey before this ends. Back-ups that are restored obey too.

    Example: `twotower forget U0047 U0051 --bundle bundle`
    """
    from twotower.service.state.backup import obey, read_tombstones, write_tombstones

    wanted = list(users or [])
    if file is not None:
        lines = file.read_text(encoding="utf-8").splitlines()
        wanted += [line.strip() for line in lines if line.strip()]
    if not wanted and save_list is None and from_list is None:
        raise InputError("no user is named", "pass ids, or --file FILE")
    report: dict[str, int] = {}
    with closing(_store(bundle, state)) as store:
        if from_list is not None:
            report |= obey(store, read_tombstones(from_list))
            print_note(f"{report['tombstones']:,} users of {from_list} forgotten again")
        if wanted:
            outcome = store.forget(wanted)
            behind = store.wait_for_followers(outcome.revision, seconds=10)
            report |= {"users": len(outcome.tombstones), "rows_deleted": outcome.rows}
            report |= {"unconfirmed": behind}
            print_note(
                f"{report['users']:,} users forgotten, {outcome.rows:,} rows deleted"
                + (f"; {behind} processes have not confirmed it yet" if behind else "")
            )
        if save_list is not None:
            report["listed"] = write_tombstones(store, save_list)
            print_note(f"{report['listed']:,} forgotten users written to {save_list}")
    write_json(json_file, report)


def backup(
    out: Annotated[Path, typer.Option("--out", help="File to write.")],
    bundle: Bundle = None,
    state: StateUrl = None,
    json_file: JsonFile = None,
) -> None:
    """Copy a SQLite state database while services write to it. PostgreSQL has pg_dump.

    Example: `twotower backup --bundle bundle --out state-backup.sqlite3`
    """
    from twotower.service.state.backup import back_up

    rows = back_up(_url(bundle, state), out)
    print_note(f"{rows['events']:,} events, {rows['items']:,} items copied to {out}")
    write_json(json_file, rows)


def restore(
    backup_file: Annotated[Path, typer.Argument(metavar="BACKUP", help="What 'backup' wrote.")],
    bundle: Bundle = None,
    state: StateUrl = None,
    lists: Annotated[
        list[Path] | None,
        typer.Option("--list", help="A list of forgotten users to obey; may be given again."),
    ] = None,
    json_file: JsonFile = None,
) -> None:
    """Put a back-up in the place of a SQLite state database. Running services read it anew.

    Users who were forgotten since the back-up stay forgotten.

    Example: `twotower restore state-backup.sqlite3 --bundle bundle`
    """
    from twotower.service.state.backup import restore as put_back

    done = put_back(_url(bundle, state), backup_file, lists or [])
    print_note(
        f"{backup_file} restored; {done['tombstones']:,} users forgotten since it was made, "
        f"{done['rows']:,} rows deleted"
    )
    write_json(json_file, done)


def _url(bundle: Path | None, state: str | None) -> str:
    """The database's; a bundle is not needed where it is named itself."""
    if bundle is None and state is not None:
        return state
    return settings_of(bundle=bundle, state_url=state).database


def _store(bundle: Path | None, state: str | None) -> "StateStore":
    from twotower.service.state import StateStore

    return StateStore(_url(bundle, state))


def live(
    bundle: Bundle = None,
    state: StateUrl = None,
    days: Annotated[float, typer.Option("--days", min=0, help="How far to look back.")] = 7.0,
    json_file: JsonFile = None,
) -> None:
    """Report what was shown and what came of it: rates by model, positions, two bundles.

    Example: `twotower live --bundle bundle --days 7`
    """
    from twotower.console import table_of_figures
    from twotower.service.live import live_report
    from twotower.service.state.personal import now_ms

    settings = settings_of(bundle=bundle, state_url=state)
    configured = settings.bundle.absolute().name
    with closing(_store(bundle, state)) as store:
        found = live_report(store, configured, now_ms() - int(86_400_000 * days))
    table = table_of_figures(f"the last {days:g} days")
    shown = (
        "model_version", "arm", "answers", "events_per_answer", "conversion", "new_user_share",
        "new_item_share",
    )  # fmt: skip
    for name in shown:
        table.add_column(name.replace("_", " "))
    for row in found["models"]:
        cells = (row[name] for name in shown)
        table.add_row(*(f"{cell:.4f}" if isinstance(cell, float) else str(cell) for cell in cells))
    console().print(table)
    for line in _comparisons(found):
        print_result(line)
    write_json(json_file, found)


def _comparisons(found: dict[str, Any]) -> Iterator[str]:
    """What a report says of two bundles, in words."""
    if (split := found["split"]) is not None:
        yield (
            f"split: {split['a']['rate']:.4f} of {split['a']['units']:,} units, with "
            f"{split['bundle']} {split['b']['rate']:.4f} of {split['b']['units']:,}; difference "
            f"{split['difference']:+.4f} {_verdict(split)}"
        )
    if (mixed := found["interleaving"]) is not None:
        yield (
            f"interleaving: of {mixed['units']:,} units with an event the bundle in service won "
            f"{mixed['a']:,}, {mixed['bundle']} {mixed['b']:,}; preference "
            f"{mixed['preference']:+.4f} {_verdict(mixed)}"
        )
        if mixed["unplaced"]:
            yield f"{mixed['unplaced']:,} events count for neither: send the position with them"
    if (shadow := found["shadow"]) is not None:
        yield (
            f"shadow: {shadow['bundle']} answered {shadow['shadowed']:,} requests unseen, failed "
            f"at {shadow['failed']:,}, had no time for {shadow['dropped']:,}"
        )
        if shadow["shadowed"]:
            yield (
                f"its lists have {shadow['overlap']:.1%} of the items in common with those shown, "
                f"and {shadow['same_first']:.1%} of them the first item"
            )
            for arm, name in (("a", "the bundle in service"), ("b", shadow["bundle"])):
                lists = shadow[arm]
                yield (
                    f"{name}: {lists['mean_ms']:.2f} ms a list, 99% within {lists['p99_ms']:.2f} "
                    f"ms; {lists['items']:,} different items, {lists['untrained_share']:.1%} of "
                    "places without events in training"
                )


def _verdict(found: dict[str, Any]) -> str:
    """The interval of a comparison, and which bundle is the better one."""
    better = {None: "no difference is certain yet", "a": "the bundle in service is better",
              "b": f"{found['bundle']} is better"}[found["better"]]  # fmt: skip
    return f"[{found['low']:+.4f}, {found['high']:+.4f}]: {better}"
