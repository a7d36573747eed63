"""Post-reload watch: detects a rise in errors or latency from a service's own metrics."""

import time
from collections.abc import Callable
from typing import Final, NamedTuple, Self

import httpx
from prometheus_client.parser import text_string_to_metric_families
from pydantic import Field

from twotower.config import Config
from twotower.service.client import Client, ServiceError

_LATENT: Final = "/recommendations"
"""Part of the path of routes whose latency is compared."""
_SILENT_LOOKS: Final = 3
"""Consecutive polls without an answer that count as a failure."""


class WatchSettings(Config):
    """How long a new bundle is watched, and when it is rolled back."""

    seconds: float = Field(600.0, gt=0)
    every_s: float = Field(10.0, gt=0)
    """Seconds between polls of the metrics."""
    least_answers: int = Field(100, ge=1)
    """Minimum number of answers before anything is judged."""
    most_errors: float = Field(0.01, ge=0, le=1)
    """Maximum increase of the share of 5xx answers over the old bundle's."""
    most_latency: float = Field(2.0, gt=0)
    """Maximum mean time of a recommendation, as a multiple of the old bundle's."""


class Traffic(NamedTuple):
    """Counts of a service's answers, from its metrics."""

    answers: float = 0.0
    errors: float = 0.0
    """Answers with status 5xx."""
    timed: float = 0.0
    """Answers with recommendations."""
    seconds: float = 0.0
    """Total time of these."""

    @classmethod
    def of(cls, metrics: str) -> Self:
        """Parse Prometheus' text format; counts since the service started."""
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
        """Difference from an earlier poll; everything if the service was restarted since."""
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
    """Why the new bundle is worse than the old one, by the traffic of each; None if it is not.

    Latency is only judged once both have enough answers.
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
        Client of the service. Its key may have any scope.
    limits
        Thresholds.
    sleep
        Function that waits for a number of seconds.

    Raises
    ------
    ServiceError, httpx.TransportError
        If the metrics cannot be read; nothing has changed by then.
    """

    def __init__(
        self, client: Client, limits: WatchSettings, sleep: Callable[[float], None] = time.sleep
    ) -> None:
        self._client, self._limits, self._sleep = client, limits, sleep
        self._old = self._start = Traffic.of(client.metrics())

    def begin(self) -> None:
        """Call just before the reload: answers up to now are the old bundle's."""
        self._start = Traffic.of(self._client.metrics())
        meanwhile = self._start.since(self._old)
        enough = meanwhile.answers >= self._limits.least_answers
        self._old = meanwhile if enough else self._start  # else since the service started

    def complaint(self) -> str | None:
        """Watch the new bundle: returns a complaint as soon as there is one, or None at the end."""
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
