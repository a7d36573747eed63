"""Watch after a reload: rise of errors or latency, by a service's own metrics."""

import time
from collections.abc import Callable
from typing import Final, NamedTuple, Self

import httpx
from prometheus_client.parser import text_string_to_metric_families
from pydantic import Field

from twotower.config import Config
from twotower.service.client import Client, ServiceError

_LATENT: Final = "/recommendations"
"""Routes whose latency is compared have this in their path."""
_SILENT_LOOKS: Final = 3
"""So many looks in a row without an answer are a failure."""


class WatchSettings(Config):
    """How long a new bundle is watched, and what has it rolled back."""

    seconds: float = Field(600.0, gt=0)
    every_s: float = Field(10.0, gt=0)
    """Between two looks at the metrics."""
    least_answers: int = Field(100, ge=1)
    """Before so many answers nothing is judged."""
    most_errors: float = Field(0.01, ge=0, le=1)
    """Share of answers with status 5xx, beyond that of the old bundle."""
    most_latency: float = Field(2.0, gt=0)
    """Mean time of a recommendation, in times that with the old bundle."""


class Traffic(NamedTuple):
    """What a service answered, as counted by its metrics."""

    answers: float = 0.0
    errors: float = 0.0
    """Answers with status 5xx."""
    timed: float = 0.0
    """Answers with recommendations."""
    seconds: float = 0.0
    """What these took together."""

    @classmethod
    def of(cls, metrics: str) -> Self:
        """Of Prometheus' text format, since the service started."""
        answers = errors = timed = seconds = 0.0
        for family in text_string_to_metric_families(metrics):
            for sample in family.samples:
                route = sample.labels.get("route", "")
                if sample.name == "twotower_requests_total":
                    answers += sample.value
                    errors += sample.value * sample.labels["status"].startswith("5")
                elif sample.name == "twotower_request_seconds_count" and _LATENT in route:
                    timed += sample.value
                elif sample.name == "twotower_request_seconds_sum" and _LATENT in route:
                    seconds += sample.value
        return cls(answers, errors, timed, seconds)

    def since(self, earlier: "Traffic") -> "Traffic":
        """What came after an earlier look; all of it where the service was restarted since."""
        if self.answers < earlier.answers:
            return self
        return Traffic(*(now - then for now, then in zip(self, earlier, strict=True)))

    @property
    def error_share(self) -> float:
        """Share of the answers with status 5xx."""
        return self.errors / max(1.0, self.answers)

    @property
    def latency(self) -> float:
        """Mean seconds of a recommendation."""
        return self.seconds / max(1.0, self.timed)


def complaint(old: Traffic, new: Traffic, limits: WatchSettings) -> str | None:
    """Why the new bundle is worse than the old one, by the traffic of each; None where it is not.

    Latency is judged where both have answered often enough.
    """
    if new.answers < limits.least_answers:
        return None
    if new.error_share > old.error_share + limits.most_errors:
        return (
            f"{new.error_share:.1%} of {new.answers:,.0f} answers failed, {old.error_share:.1%} "
            f"with the bundle before; most_errors is {limits.most_errors:g} beyond that"
        )
    timed = min(old.timed, new.timed) >= limits.least_answers
    if timed and new.latency > limits.most_latency * old.latency:
        return (
            f"a recommendation takes {1000 * new.latency:.3g} ms, {1000 * old.latency:.3g} ms with "
            f"the bundle before; most_latency is {limits.most_latency:g} times that"
        )
    return None


class Watch:
    """Compares a service before and after a reload.

    Parameters
    ----------
    client
        Of the service. Its key may be one of any scope.
    limits
        What is borne.
    sleep
        Waits so many seconds.

    Raises
    ------
    ServiceError, httpx.TransportError
        Where the metrics cannot be read: nothing has happened yet.
    """

    def __init__(
        self, client: Client, limits: WatchSettings, sleep: Callable[[float], None] = time.sleep
    ) -> None:
        self._client, self._limits, self._sleep = client, limits, sleep
        self._old = self._start = Traffic.of(client.metrics())

    def begin(self) -> None:
        """The reload is next: what was answered up to now is the old bundle's."""
        self._start = Traffic.of(self._client.metrics())
        meanwhile = self._start.since(self._old)
        enough = meanwhile.answers >= self._limits.least_answers
        self._old = meanwhile if enough else self._start  # else since the service started

    def complaint(self) -> str | None:
        """Watch; at once why the new bundle is worse, or None when the time is over."""
        left, silent = self._limits.seconds, 0
        while left > 0:
            step = min(left, self._limits.every_s)
            self._sleep(step)
            left -= step
            try:
                new = Traffic.of(self._client.metrics()).since(self._start)
            except (ServiceError, httpx.TransportError) as error:
                silent += 1
                if silent >= _SILENT_LOOKS:
                    return f"the service does not give its metrics any more ({error})"
                continue
            silent = 0
            if found := complaint(self._old, new, self._limits):
                return found
        return None
