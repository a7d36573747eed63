"""HTTP server: runs the app in this process, or in several workers, until a signal stops it."""

import importlib.util
import logging
import math
import os
import shutil
import socket
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Final

import uvicorn
from fastapi import FastAPI
from filelock import FileLock, Timeout
from threadpoolctl import threadpool_limits

from twotower.errors import TwoTowerError
from twotower.index.faiss_index import load_faiss
from twotower.service.api.app import create_app
from twotower.service.api.connections import BoundedHttpProtocol
from twotower.service.api.limits import share_of_one
from twotower.service.api.logs import WithFields, configure_logging
from twotower.service.api.traces import configure_tracing
from twotower.service.api.workers import end_with_supervisor, report_failure, run_workers
from twotower.service.service import Service
from twotower.service.settings import ServeSettings
from twotower.service.trim_memory import trim_memory

logger = logging.getLogger(__name__)

_SWITCH_S: Final = 0.0002
"""Thread switch interval; Python's default is 25 times as long. A request releases the GIL several
times, for the tower, the search and the socket, and would wait that long each time while another
thread loads a bundle or stores an item."""


def serve(settings: ServeSettings) -> None:
    """Load the bundle, listen, and answer until SIGTERM or SIGINT.

    After the signal, no connections are accepted, and requests in progress get
    `ServeSettings.drain_s` to finish. With several `ServeSettings.processes`, workers do this and
    this process supervises them.

    Raises
    ------
    TwoTowerError
        If the bundle, the database or the keys are invalid, before listening.
    """
    if settings.processes > 1:
        with metrics_folder() as folder:
            make = partial(_worker_app, share_of_one(settings), folder)
            run_workers(server_config(make, settings), settings, folder)
        return
    app = _loaded_app(settings)
    configure_logging()
    _Server(server_config(lambda: app, settings)).run()


def _worker_app(settings: ServeSettings, folder: Path) -> FastAPI:
    """The loaded app of one worker; on failure, the worker tells its supervisor and exits.

    ``settings`` are the worker's share of the service's, ``folder`` holds all workers' metrics.
    """
    configure_logging(WithFields(process=os.getpid()))
    end_with_supervisor()
    try:
        return _loaded_app(settings, folder)
    except (TwoTowerError, OSError) as error:
        report_failure(folder, error)
        raise SystemExit(2) from None


def server_config(app: Callable[[], FastAPI], settings: ServeSettings) -> uvicorn.Config:
    """Configuration of uvicorn for the app that ``app`` creates."""
    return uvicorn.Config(
        app,
        factory=True,
        host=settings.host,
        port=settings.port,
        workers=settings.processes,
        http=BoundedHttpProtocol,
        proxy_headers=settings.forwarded_allow_ips is not None,
        forwarded_allow_ips=settings.forwarded_allow_ips,
        log_config=None,
        access_log=False,
        server_header=False,
        lifespan="on",
        ws="none",
        loop="uvloop" if importlib.util.find_spec("uvloop") else "asyncio",
        timeout_graceful_shutdown=math.ceil(settings.drain_s),
        timeout_worker_healthcheck=math.ceil(settings.reload_timeout_s),  # of a restart by SIGHUP
    )


def _loaded_app(settings: ServeSettings, folder: Path | None = None) -> FastAPI:
    sys.setswitchinterval(_SWITCH_S)
    configure_tracing()
    app = create_app(settings, Service(settings), folder)
    # A request is too small to share out: threads that wait for each other would take the cores
    # from other requests. The limit holds for libraries that are loaded.
    load_faiss()
    threadpool_limits(settings.threads)
    trim_memory()
    return app


class _Server(uvicorn.Server):
    """Says where it listens, also where it was asked for any free port."""

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begin to listen."""
        await super().startup(sockets)
        for server in getattr(self, "servers", ()):
            for listening in server.sockets:
                host, port = listening.getsockname()[:2]
                logger.info("listening", extra={"fields": {"host": host, "port": port}})


_PREFIX: Final = "twotower-metrics-"
_LOCK: Final = "held"


@contextmanager
def metrics_folder() -> Iterator[Path]:
    """A new folder for the time of the block.

    A process that is killed cannot remove its own: the system releases its lock, and the next
    process that makes a folder removes those whose lock is free.
    """
    _remove_abandoned(Path(tempfile.gettempdir()))
    with tempfile.TemporaryDirectory(prefix=_PREFIX) as name:
        folder = Path(name)
        with FileLock(folder / "new"):
            (folder / "new").rename(folder / _LOCK)  # never there without being held
            yield folder


def _remove_abandoned(parent: Path) -> None:
    for path in parent.glob(f"{_PREFIX}*/{_LOCK}"):
        # Held, of another user, or gone by now.
        with suppress(Timeout, OSError, NotImplementedError), FileLock(path, timeout=0):
            shutil.rmtree(path.parent, ignore_errors=True)
