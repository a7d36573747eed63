"""Error messages that name the original of a temporary file."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from twotower.errors import InputError


@contextmanager
def errors_naming(names: Mapping[str, str]) -> Iterator[None]:
    """Replace temporary paths by names in errors raised inside the block (path → name)."""
    try:
        yield
    except InputError as error:
        fix, cli_fix = (text and renamed(text, names) for text in (error.fix, error.cli_fix))
        raise InputError(renamed(error.what, names), fix, cli_fix=cli_fix) from error


def renamed(text: str, names: Mapping[str, str]) -> str:
    """The text with temporary paths replaced by names (path → name)."""
    for place, name in names.items():
        text = text.replace(place, name)
    return text
