"""Command-line entry point; heavy imports happen inside the commands."""

import logging
import sys
from collections.abc import Callable, Sequence
from typing import Annotated, Final

import typer

from twotower import __version__
from twotower.cli.bench import bench
from twotower.cli.data import download, generate, hold_out, inspect, prepare
from twotower.cli.demo import demo
from twotower.cli.info import info
from twotower.cli.models import evaluate, index, train
from twotower.cli.options import console, notes, with_quiet
from twotower.cli.recommend import recommend, with_history_options
from twotower.cli.retrain import retrain, rollback
from twotower.cli.run import run
from twotower.cli.serve import events, key, serve
from twotower.cli.state import backup, forget, live, restore
from twotower.cli.study import ablate, report, tune
from twotower.errors import InputError, TwoTowerError

INTERRUPTED: Final = 130
"""Exit code that typer makes of a `KeyboardInterrupt`."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point; a user error is printed as one line, with exit code 2 and no traceback."""
    logging.basicConfig(level=logging.WARNING, format="notice: %(message)s")
    given = sys.argv[1:] if arguments is None else list(arguments)
    console.cache_clear()
    notes.cache_clear()
    try:
        app = _app(plain=given in ([], ["--help"]), only=given[0] if given else None)
        app(args=_prepared(app, given), prog_name="twotower")
    except (TwoTowerError, OSError) as error:
        # Messages of other libraries may have several lines.
        message = error.on_command_line if isinstance(error, InputError) else str(error)
        print("twotower:", " ".join(message.split()), file=sys.stderr)
        raise SystemExit(2) from None
    except ModuleNotFoundError as error:
        if error.name is None or error.name.startswith("twotower"):
            raise
        fix = "pip install 'twotower[train,text]' to train, 'twotower[serve]' to serve"
        print(f"twotower: the package {error.name} is not installed; run {fix}", file=sys.stderr)
        raise SystemExit(2) from None
    except SystemExit as stopped:
        if stopped.code == INTERRUPTED:
            print("twotower: interrupted; run the same command to go on", file=sys.stderr)
        raise


def _prepared(app: typer.Typer, arguments: list[str]) -> list[str]:
    """Arguments for the parser: ids of a history may begin with a dash."""
    if arguments[:1] != ["recommend"]:
        return arguments
    command = typer.main.get_command(app).commands["recommend"]  # type: ignore[attr-defined]
    options = {
        name
        for parameter in command.params
        for name in (*parameter.opts, *parameter.secondary_opts)
    }
    return with_history_options(arguments, {*options, "--help"})


def version(
    show: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
) -> None:
    """From an interaction log and a catalogue to a served recommender."""
    if show:
        print(__version__)
        raise typer.Exit


_COMMANDS: Final[tuple[Callable[..., None], ...]] = (
    run, download, generate, inspect, prepare, hold_out, train, evaluate, ablate, tune, report,
    index, recommend, info, serve, key, events, forget, backup, restore, retrain, rollback, live,
    demo,
)  # fmt: skip


def _app(*, plain: bool = False, only: str | None = None) -> typer.Typer:
    """The commands.

    Parameters
    ----------
    plain
        Whether help is plain text: that needs no Rich, whose import takes longer than all else.
    only
        The command that will run. Typer takes 0.1 s to build all others; they are there where it
        is none of them.
    """
    app = typer.Typer(
        name="twotower",
        no_args_is_help=True,
        rich_markup_mode=None if plain else "markdown",
        pretty_exceptions_enable=False,
    )
    app.callback(invoke_without_command=True)(version)
    named = {command.__name__.replace("_", "-"): command for command in _COMMANDS}
    chosen = [named[only]] if only in named else [] if only == "bench" else [*_COMMANDS]
    for command in chosen:
        app.command()(with_quiet(command))
    if len(chosen) != 1:
        app.add_typer(bench, name="bench")
    return app
