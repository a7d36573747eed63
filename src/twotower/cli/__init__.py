"""Command-line entry point; commands are imported only if they may run."""

import atexit
import gc
import logging
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from importlib import import_module
from typing import Annotated, Any, Final

import typer

from twotower import __version__
from twotower.cli.options import console, notes, with_quiet
from twotower.errors import InputError, TwoTowerError
from twotower.machine import settle_threads

INTERRUPTED: Final = 130
"""Exit code of typer for a `KeyboardInterrupt`."""
_PLUGINS: Final = "PYDANTIC_DISABLE_PLUGINS"


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point; a user error is printed as one line, with exit code 2 and no traceback."""
    handler = logging.StreamHandler()
    handler.addFilter(_Once())
    logging.basicConfig(level=logging.WARNING, format="notice: %(message)s", handlers=[handler])
    given = sys.argv[1:] if arguments is None else list(arguments)
    console.cache_clear()
    notes.cache_clear()
    settle_threads()
    atexit.unregister(gc.freeze)
    atexit.register(gc.freeze)  # skips the final collection, which took a fifth of a request
    try:
        with _brief() if _is_brief(given) else nullcontext():
            app = _app(plain=given in ([], ["--help"]), only=given[0] if given else None)
            command = typer.main.get_command(app)
            command(args=_prepared(command, given), prog_name="twotower")
    except (TwoTowerError, OSError) as error:
        # Messages of other libraries may span several lines.
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


class _Once(logging.Filter):
    """Logs each message once, since fitting a model and its refit repeats every notice."""

    def __init__(self) -> None:
        super().__init__()
        self._seen: set[str] = set()

    def filter(self, record: logging.LogRecord) -> bool:
        message = record.getMessage()
        is_new = message not in self._seen
        self._seen.add(message)
        return is_new


def _is_brief(arguments: Sequence[str]) -> bool:
    """Whether a command takes only seconds."""
    named = arguments[:1] in (["recommend"], ["info"], ["inspect"]) or "--help" in arguments
    return named and "--batch" not in arguments


@contextmanager
def _brief() -> Iterator[None]:
    """Disable two things that each take a tenth of a short command's time.

    Garbage collection finds nothing during imports, whose objects stay alive, and pydantic reads
    the metadata of every installed package to look for plugins.
    """
    was_enabled, plugins = gc.isenabled(), os.environ.get(_PLUGINS)
    gc.disable()
    os.environ.setdefault(_PLUGINS, "__all__")
    try:
        yield
    finally:
        if plugins is None:
            os.environ.pop(_PLUGINS, None)
        if was_enabled:
            gc.enable()


def _prepared(command: Any, arguments: list[str]) -> list[str]:
    """Arguments for the parser: ids of a history may begin with a dash."""
    if arguments[:1] != ["recommend"]:
        return arguments
    from twotower.cli.recommend import with_history_options

    options = {
        name
        for parameter in command.commands["recommend"].params
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


_COMMANDS: Final = {
    "run": "run",
    "download": "data",
    "generate": "data",
    "inspect": "data",
    "prepare": "data",
    "hold-out": "data",
    "embed": "models",
    "train": "models",
    "evaluate": "models",
    "ablate": "study",
    "tune": "study",
    "report": "study",
    "index": "models",
    "recommend": "recommend",
    "info": "info",
    "serve": "serve",
    "key": "serve",
    "events": "serve",
    "forget": "state",
    "backup": "state",
    "restore": "state",
    "retrain": "retrain",
    "rollback": "retrain",
    "live": "state",
    "demo": "demo",
    "bench": "bench",
}
"""Command → module in this package, in help order."""


def _app(*, plain: bool = False, only: str | None = None) -> typer.Typer:
    """The commands.

    Parameters
    ----------
    plain
        Whether help is plain text, which needs no Rich; its import takes longer than all else.
    only
        The command that will run, to save the 0.1 s of importing and building the others. All
        commands are built if it is not one of them.
    """
    app = typer.Typer(
        name="twotower",
        no_args_is_help=True,
        rich_markup_mode=None if plain else "markdown",
        pretty_exceptions_enable=False,
    )
    app.callback(invoke_without_command=True)(version)
    for name in [only] if only in _COMMANDS else _COMMANDS:
        part = getattr(import_module(f"twotower.cli.{_COMMANDS[name]}"), name.replace("-", "_"))
        if isinstance(part, typer.Typer):
            app.add_typer(part, name=name)
        else:
            app.command(name)(with_quiet(part))
    return app
