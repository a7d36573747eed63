"""Errors of the state store; the database driver's own errors never leave it."""

from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from twotower.errors import TwoTowerError


class StateUnavailableError(TwoTowerError):
    """The database cannot be reached, or cannot be written; nothing was acknowledged."""


class StateReplacedError(StateUnavailableError):
    """The database was replaced by another one or by an older back-up."""


class StateConflictError(TwoTowerError):
    """An id is taken by something else."""

    def __init__(self, what: str, fix: str) -> None:
        self.what = what
        self.fix = fix
        super().__init__(f"{what}; {fix}")


@contextmanager
def translated(outcome: str = "nothing was written, try again when it is back") -> Iterator[None]:
    """Translate driver errors, whose statements and addresses must not reach a response.

    ``outcome`` tells what an error means for the operation.
    """
    try:
        yield
    except (DBAPIError, PoolTimeout) as error:
        cause = error.orig if isinstance(error, DBAPIError) else error
        full = "full" in str(cause)
        reason = "the disk is full" if full else type(cause).__name__
        if full:
            outcome = "nothing was written, try again when there is room"
        raise StateUnavailableError(
            f"the state database does not answer ({reason}); {outcome}"
        ) from error
    except SQLAlchemyError as error:
        raise StateUnavailableError(
            f"the state database cannot be used ({type(error).__name__})"
        ) from error
