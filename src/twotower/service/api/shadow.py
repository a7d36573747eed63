"""Shadow requests: answered by another bundle too, after the response is sent."""

import asyncio
from collections.abc import Callable
from typing import NamedTuple

from twotower.service.api.context import Context
from twotower.service.shadow import Listed, Shadow


class Unseen(NamedTuple):
    """An answered request that another bundle is to answer as well."""

    shared: Context
    shadow: Shadow
    shown: Listed
    """What the bundle in service answered."""
    version: str
    """Version of the other bundle."""
    answer: Callable[[], Listed]
    """Has that one answer."""

    async def after(self) -> None:
        """Called when the response was sent.

        It is answered again when the event loop has looked for other requests, and only if none of
        them waits.
        """
        asyncio.get_running_loop().call_soon(self._offer)

    def _offer(self) -> None:
        if self.shared.turns.are_taken or not self.shadow.thread.offer(self._compare):
            self.shadow.drop()
            self.shared.metrics.shadow_requests.labels(self.version, "dropped").inc()

    def _compare(self) -> None:
        """Runs in the shadow's thread; errors do not leave it."""
        try:
            unseen = self.answer()
            alike = self.shadow.compare(self.shown, unseen)
            self.shared.metrics.shadowed(self.shown, unseen, alike)
        except Exception as error:
            self.shadow.fail(error)
            self.shared.metrics.shadow_requests.labels(self.version, "failed").inc()
