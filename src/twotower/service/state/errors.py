"""What the state store raises; the driver's own errors never leave it."""

from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from twotower.errors import TwoTowerError


class StateUnavailableError(TwoTowerError):
    """The database cannot be reached, or cannot be written; nothing was acknowledged."""


class StateConflictError(TwoTowerError):
    """An id is taken by something else."""

    def __init__(self, what: str, fix: str) -> None:
        self.what = what
        self.fix = fix
        super().__init__(f"{what}; {fix}")


@contextmanager
def translated() -> Iterator[None]:
    """The driver's errors hold statements and addresses, which must not reach an answer."""
    try:
        yield
    except (DBAPIError, PoolTimeout) as error:
        cause = error.orig if isinstance(error, DBAPIError) else error
        reason = "the disk is full" if "full" in str(cause) else type(cause).__name__
        raise StateUnavailableError(
            f"the state database does not answer ({reason}); nothing was written, "
            "try again when it is back"
        ) from error
    except SQLAlchemyError as error:
        raise StateUnavailableError(
            f"the state database cannot be used ({type(error).__name__})"
        ) from error
