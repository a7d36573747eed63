"""Run the app until it is told to stop."""

import asyncio
import importlib.util
import logging
import math
import socket
import sys
from functools import partial
from typing import Final, cast

import uvicorn
from fastapi import FastAPI
from threadpoolctl import threadpool_limits

from twotower.errors import TwoTowerError
from twotower.service.api.app import create_app
from twotower.service.api.connections import BoundedHttpProtocol, BoundedServer, ConnectionLimits
from twotower.service.api.logs import configure_logging
from twotower.service.api.supervisor import supervise
from twotower.service.api.worker import Numbered, Place, Sibling
from twotower.service.service import Service
from twotower.service.settings import ServeSettings
from twotower.service.trim_memory import settle

logger = logging.getLogger(__name__)

_SWITCH_S: Final = 0.0002
"""Python lets a thread run for 25 times as long before another may go on. A request lets go of it
several times, for the tower, the search and the socket, and would wait so long each time while
another thread loads a bundle or stores an item."""


def serve(settings: ServeSettings) -> None:
    """Load the bundle, listen, and answer until SIGTERM or SIGINT.

    Then no connection is accepted any more, and requests in progress get
    `ServeSettings.drain_s` to end. With `ServeSettings.processes` there are as many processes that
    do so, and this one looks after them.

    Raises
    ------
    TwoTowerError
        Where the bundle, the database or the keys cannot be used: before anything listens.
    """
    if settings.processes > 1:
        supervise(settings, _answer_as_one_of_several)
    else:
        _answer(settings)


def _answer_as_one_of_several(settings: ServeSettings, place: Place) -> None:
    """What each process does. It says to the supervisor alone why it cannot start."""
    configure_logging()
    for handler in logging.getLogger().handlers:
        handler.addFilter(Numbered(place.number))
    sibling = Sibling(place)
    try:
        _answer(settings, sibling)
    except (TwoTowerError, OSError) as error:
        sibling.say("failed", str(error))
        raise SystemExit(2) from None


def _answer(settings: ServeSettings, sibling: Sibling | None = None) -> None:
    sys.setswitchinterval(_SWITCH_S)
    if sibling is None:
        app = create_app(settings, Service(settings))
    else:
        app = create_app(settings, Service(settings, sibling.writes, sibling.bundle), sibling)
    settle()
    if sibling is None:
        configure_logging()
    config = server_config(app, settings)
    # A request is too small to share out: threads that wait for each other would take the cores
    # from other requests.
    with threadpool_limits(settings.threads):
        if sibling is None:
            _Announced(config).run()
        else:
            _Reported(config, sibling).run(sibling.sockets())


def server_config(app: FastAPI, settings: ServeSettings) -> uvicorn.Config:
    """How uvicorn runs the app."""
    metrics = app.state.context.metrics
    limits = ConnectionLimits.of(settings, lambda status: metrics.answered("none", status, 0.0))
    return uvicorn.Config(
        app,
        host=settings.host,
        port=settings.port,
        http=cast(type[asyncio.Protocol], partial(BoundedHttpProtocol, limits=limits)),
        proxy_headers=settings.forwarded_allow_ips is not None,
        forwarded_allow_ips=settings.forwarded_allow_ips,
        log_config=None,
        access_log=False,
        server_header=False,
        lifespan="on",
        ws="none",
        loop="uvloop" if importlib.util.find_spec("uvloop") else "asyncio",
        timeout_graceful_shutdown=math.ceil(settings.drain_s),
    )


class _Announced(BoundedServer):
    """Says where it listens, also where it was asked for any free port."""

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begin to listen."""
        await super().startup(sockets)
        for server in getattr(self, "servers", ()):
            for one in server.sockets:
                host, port = one.getsockname()[:2]
                fields = {"host": host, "port": port}
                logger.info("listening", extra={"fields": fields})


class _Reported(BoundedServer):
    """Tells the supervisor when it listens."""

    def __init__(self, config: uvicorn.Config, sibling: Sibling) -> None:
        super().__init__(config)
        self._sibling = sibling

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begin to listen."""
        await super().startup(sockets)
        self._sibling.say("ready")
