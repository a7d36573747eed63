"""Messages about temporary files, in the words of what they stand for."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from twotower.errors import InputError


@contextmanager
def errors_naming(names: Mapping[str, str]) -> Iterator[None]:
    """Errors inside the block name what temporary places stand for: place → name."""
    try:
        yield
    except InputError as error:
        fix, cli_fix = (text and renamed(text, names) for text in (error.fix, error.cli_fix))
        raise InputError(renamed(error.what, names), fix, cli_fix=cli_fix) from error


def renamed(text: str, names: Mapping[str, str]) -> str:
    """A text with temporary places called by what they stand for."""
    for place, name in names.items():
        text = text.replace(place, name)
    return text
