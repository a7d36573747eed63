"""The signals that end a service, for a process that looks after others."""

import contextlib
import signal
import socket
from collections.abc import Iterator
from multiprocessing import resource_tracker
from typing import Final

SIGNALS: Final = (signal.SIGTERM, signal.SIGINT)
"""Either asks for an orderly end."""


@contextlib.contextmanager
def signals() -> Iterator[socket.socket]:
    """A socket that can be read when SIGTERM or SIGINT came."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.setblocking(False)
        theirs.setblocking(False)
        handlers = {one: signal.signal(one, lambda *_: None) for one in SIGNALS}
        descriptor = signal.set_wakeup_fd(theirs.fileno(), warn_on_full_buffer=False)
        try:
            yield ours
        finally:
            signal.set_wakeup_fd(descriptor)
            for one, handler in handlers.items():
                signal.signal(one, handler)


@contextlib.contextmanager
def spared_from_interrupts() -> Iterator[None]:
    """Processes started here never see Ctrl-C, which a terminal sends to all of them.

    They end by the SIGTERM that this process sends them, with their requests answered.
    """
    resource_tracker.ensure_running()  # else starting it ends the mask
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
