"""Recommendation engines of the demo: the bundle in process, or a service over HTTP."""

from collections.abc import Callable
from typing import Any, TypeAlias, TypeVar

import httpx

from twotower.errors import InputError
from twotower.inference.answers import Reason, Recommendation
from twotower.inference.options import RecommendOptions
from twotower.inference.pipeline import Pipeline
from twotower.inference.requests import Request
from twotower.service.client import Client

Answer = TypeVar("Answer")


class InProcess:
    """Answers from the bundle in this process."""

    def __init__(self, pipeline: Pipeline) -> None:
        self._pipeline = pipeline

    def recommend(self, request: Request, options: RecommendOptions) -> list[Recommendation]:
        """Items for a request, best first."""
        (answer,) = self._pipeline.recommend_batch([request], options)
        return answer

    def similar_items(self, item_id: str, k: int) -> list[Recommendation]:
        """See `Pipeline.similar_items`."""
        return self._pipeline.similar_items(item_id, k)


class OverHttp:
    """Answers from a running service.

    Parameters
    ----------
    address
        Such as ``http://127.0.0.1:8000``.
    key
        An API key, or None.
    transport
        httpx transport, for tests.
    """

    def __init__(
        self, address: str, key: str | None = None, transport: httpx.BaseTransport | None = None
    ) -> None:
        self._address = address
        self._client = Client(address, key, transport=transport)

    def model_version(self) -> str:
        """Model version of the service."""
        return str(self._call(self._client.model)["model_version"])

    def recommend(self, request: Request, options: RecommendOptions) -> list[Recommendation]:
        """As `InProcess.recommend`; the service sets how many candidates are re-ranked."""
        found = self._call(
            lambda: self._client.recommend(
                request.user_id,
                request.history,
                request.text,
                k=options.k,
                filters=options.filters.model_dump(mode="json"),
                exclude_seen=options.exclude_seen,
                rerank=options.rerank,
                reasons=options.reasons,
                strict=options.strict,
            )
        )
        return [_recommendation(fields) for fields in found]

    def similar_items(self, item_id: str, k: int) -> list[Recommendation]:
        """As `InProcess.similar_items`."""
        found = self._call(lambda: self._client.similar_items(item_id, k))
        return [_recommendation(fields) for fields in found]

    def _call(self, call: Callable[[], Answer]) -> Answer:
        try:
            return call()
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise InputError(
                f"the service at {self._address} does not answer ({error})",
                "start it with 'twotower serve', or leave out --api",
            ) from error


Engine: TypeAlias = InProcess | OverHttp
"""Answers the requests of the demo."""


def _recommendation(fields: dict[str, Any]) -> Recommendation:
    reason = fields.get("reason")
    return Recommendation(**{**fields, "reason": None if reason is None else Reason(**reason)})
