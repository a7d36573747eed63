"""Errors that a user can act on. Each says what is wrong, the value seen, and the fix."""


class TwoTowerError(Exception):
    """Base of every error that this package raises on purpose."""


class InputError(TwoTowerError, ValueError):
    """The caller's input cannot be used.

    Parameters
    ----------
    what
        What is wrong, with the value seen: ``k must be at least 1, got 0``.
    fix
        What to do about it: ``pass k=10 or more``. Optional where ``what`` says it all.
    cli_fix
        The same for the command line, where options have other names than in Python.
    """

    def __init__(self, what: str, fix: str | None = None, *, cli_fix: str | None = None) -> None:
        self.what = what
        self.fix = fix
        self.cli_fix = cli_fix
        super().__init__(what if fix is None else f"{what}; {fix}")

    @property
    def on_command_line(self) -> str:
        """The message with the fix in terms of the command line."""
        return str(self) if self.cli_fix is None else f"{self.what}; {self.cli_fix}"


class ArtefactError(TwoTowerError):
    """A file that this package wrote (data set, checkpoint, bundle) is missing or broken."""


class DownloadError(TwoTowerError):
    """A file could not be fetched; what was received so far is kept for the next try."""
