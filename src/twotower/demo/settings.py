"""Settings of the demo from arguments and the environment."""

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

BUNDLE: Final = "TWOTOWER_BUNDLE"
API_KEY: Final = "TWOTOWER_API_KEY"
DEFAULT_BUNDLE: Final = "runs/sample/bundle"
"""What ``make quickstart`` writes."""


@dataclass(frozen=True)
class DemoSettings:
    """Bundle, engine and results files of the demo."""

    bundle: str
    """A folder, or the address of an archive or a manifest."""
    api: str | None = None
    """Address of a running service that answers instead of the bundle, or None."""
    api_key: str | None = None
    """API key, or None; from the environment only, since other users see arguments."""
    results: tuple[Path, ...] = ()
    """Files, and folders of them."""

    @classmethod
    def read(cls, arguments: Sequence[str], environment: Mapping[str, str]) -> Self:
        """From ``--bundle B --api URL --results PATH``; other arguments are ignored."""
        parser = argparse.ArgumentParser(add_help=False, exit_on_error=False)
        parser.add_argument("--bundle", default=environment.get(BUNDLE, DEFAULT_BUNDLE))
        parser.add_argument("--api")
        parser.add_argument("--results", action="append", type=Path, default=[])
        given, _ = parser.parse_known_args(arguments)
        return cls(given.bundle, given.api, environment.get(API_KEY), tuple(given.results))
