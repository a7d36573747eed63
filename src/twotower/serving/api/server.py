"""Run the app until it is told to stop."""

import gc
import importlib.util
import logging
import math
import socket

import uvicorn
from threadpoolctl import threadpool_limits

from twotower.serving.api.app import create_app
from twotower.serving.api.logs import configure_logging
from twotower.serving.service import Service
from twotower.serving.settings import ServeSettings

logger = logging.getLogger(__name__)


def serve(settings: ServeSettings) -> None:
    """Load the bundle, listen, and answer until SIGTERM or SIGINT.

    Then no connection is accepted any more, and requests in progress get
    `ServeSettings.drain_s` to end.

    Raises
    ------
    TwoTowerError
        Where the bundle, the database or the keys cannot be used: before anything listens.
    """
    app = create_app(settings, Service(settings))
    gc.collect()
    gc.freeze()  # what was loaded stays: to walk through it again would hold up a request
    configure_logging()
    config = uvicorn.Config(
        app,
        host=settings.host,
        port=settings.port,
        log_config=None,
        access_log=False,
        server_header=False,
        lifespan="on",
        ws="none",
        loop="uvloop" if importlib.util.find_spec("uvloop") else "asyncio",
        timeout_graceful_shutdown=math.ceil(settings.drain_s),
    )
    # A request is too small to share out: threads that wait for each other would take the cores
    # from other requests.
    with threadpool_limits(settings.threads):
        _Announced(config).run()


class _Announced(uvicorn.Server):
    """Says where it listens, also where it was asked for any free port."""

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begin to listen."""
        await super().startup(sockets)
        for server in getattr(self, "servers", ()):
            for one in server.sockets:
                host, port = one.getsockname()[:2]
                fields = {"host": host, "port": port}
                logger.info("listening", extra={"fields": fields})
