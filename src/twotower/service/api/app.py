"""FastAPI app: routes, middleware, start-up and shutdown."""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Final

import anyio
from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException

from twotower import __version__
from twotower.errors import TwoTowerError
from twotower.service.api import items, live, operations, recommend, users
from twotower.service.api.auth import KeysFile
from twotower.service.api.connections import CONNECTION_LIMITS, ConnectionLimits
from twotower.service.api.context import Context
from twotower.service.api.docs import add_docs
from twotower.service.api.limits import Admission, BodyLimit
from twotower.service.api.metrics import Metrics
from twotower.service.api.middleware import Envelope
from twotower.service.api.problems import (
    RefusedError,
    on_http_error,
    on_our_error,
    on_refused,
    on_validation_error,
)
from twotower.service.api.read_your_writes import ReadYourWrites, sync
from twotower.service.api.traces import telemetry
from twotower.service.service import Service
from twotower.service.settings import ServeSettings
from twotower.service.state import StateUnavailableError

logger = logging.getLogger(__name__)

_LAST_S: Final = 1.0
"""Seconds at shutdown for a database read to end, and then for connections to close."""


def create_app(
    settings: ServeSettings, service: Service | None = None, metrics_folder: Path | None = None
) -> FastAPI:
    """The service over HTTP; `InputError` if the keys file is invalid.

    Parameters
    ----------
    service
        The service; by default it is loaded when the app starts. The app closes it on shutdown.
    metrics_folder
        With several processes, the folder of their shared metrics: see `Metrics`.
    """
    shared = Context(settings, Metrics(metrics_folder), service)
    keys = KeysFile(settings.keys_file)
    app = FastAPI(
        title="twotower",
        version=__version__,
        summary="Recommendations from a two-tower model.",
        lifespan=_lifespan,
        separate_input_output_schemas=False,
        docs_url=None,
        redoc_url=None,
        telemetry=telemetry(),
    )
    app.state.context = shared
    app.state.keys = keys
    for routes in (recommend, items, users, live, operations):
        app.router.routes += routes.router.routes  # as `include_router`, which looks twice for each
    for kind, handler in (
        (RequestValidationError, on_validation_error),
        (HTTPException, on_http_error),
        (TwoTowerError, on_our_error),
        (RefusedError, on_refused),
    ):
        app.add_exception_handler(kind, handler)
    app.add_middleware(BodyLimit, most=settings.max_body_bytes)
    if metrics_folder is not None:
        app.add_middleware(ReadYourWrites, context=shared)
    app.add_middleware(Admission, turns=shared.turns)
    app.add_middleware(Envelope, context=shared, keys=keys)
    add_docs(app)
    return app


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[dict[str, object]]:
    shared: Context = app.state.context
    shared.workers = ThreadPoolExecutor(shared.settings.workers, "twotower-worker")
    shared.batches = ThreadPoolExecutor(shared.settings.workers, "twotower-batch")
    shared.writers = ThreadPoolExecutor(shared.settings.workers, "twotower-writer")
    if shared.service is None:
        shared.service = await anyio.to_thread.run_sync(Service, shared.settings)
    shared.service.on_follow = partial(shared.metrics.followed, shared.service)
    app.state.keys.log_warnings()
    logger.info("serving %s", shared.service.manifest.model_version)
    shared.metrics.note(shared.service)
    refused = partial(shared.metrics.answered, "none", seconds=0.0)
    limits = ConnectionLimits.of(shared.settings, refused)
    sweeping = asyncio.create_task(limits.sweep())
    stopping = asyncio.Event()
    following = asyncio.create_task(_follow(shared, shared.service, stopping))
    try:
        yield {CONNECTION_LIMITS: limits}
    finally:
        sweeping.cancel()
        stopping.set()
        await asyncio.wait([following], timeout=_LAST_S)
        for threads in (shared.workers, shared.batches, shared.writers):
            threads.shutdown(wait=False, cancel_futures=True)
        shared.metrics.note(shared.service)  # what was shown last
        following.cancel()  # a thread of it may be waiting for the database: it is not waited for
        with anyio.move_on_after(_LAST_S):
            await anyio.to_thread.run_sync(shared.service.close, abandon_on_cancel=True)
        shared.service = None
        logger.info("stopped")


async def _follow(shared: Context, service: Service, stopping: asyncio.Event) -> None:
    """Poll the database for other services' writes."""
    maintenance: asyncio.Task[None] | None = None  # beside this: it may take minutes
    while True:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(stopping.wait(), shared.settings.poll_s)
        if stopping.is_set():
            if maintenance is not None:
                maintenance.cancel()
            return
        try:
            await sync(service)
            if service.state == "down":
                with contextlib.suppress(StateUnavailableError):
                    await anyio.to_thread.run_sync(service.probe, abandon_on_cancel=True)
            else:
                await _beside(service.confirm)
                if maintenance is None or maintenance.done():
                    maintenance = asyncio.create_task(_beside(service.maintain))
            shared.metrics.note(service)  # whichever process is asked for the metrics
        except Exception as error:  # such as a full disk under the metrics: the next look may work
            logger.error("could not look after the service", exc_info=error)


async def _beside(work: Callable[[], None]) -> None:
    """Run work in a thread; failures are logged."""
    try:
        await anyio.to_thread.run_sync(work, abandon_on_cancel=True)
    except StateUnavailableError as error:
        logger.warning("maintenance waits for the database: %s", error)
    except Exception as error:
        logger.error("maintenance failed", exc_info=error)
