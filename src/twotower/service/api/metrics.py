"""Prometheus metrics of the service."""

from collections import deque
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from functools import cache, partial
from pathlib import Path
from typing import Final

import numpy as np
from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    Summary,
    generate_latest,
)
from prometheus_client.multiprocess import MultiProcessCollector

from twotower.service.service import Service
from twotower.service.shadow import Alike, Listed
from twotower.service.state.live import Shown, ShownKey

_SECONDS: Final = (
    0.0005, 0.001, 0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0,
)  # fmt: skip
_STAGE_SECONDS: Final = (
    0.00005, 0.0001, 0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.05, 0.25, 1.0,
)  # fmt: skip
_RELOADS: Final = 20
"""Number of recent reloads kept."""


class Metrics:
    """The metrics of one app, in their own registry.

    Several processes of one service share a folder, which ``PROMETHEUS_MULTIPROC_DIR`` must name
    when prometheus_client is imported. Counters and histograms are summed over all processes,
    including ended ones.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self._folder = folder
        self._version: str | None = None
        self.recent_reloads: deque[dict[str, str]] = deque(maxlen=_RELOADS)
        self.registry = CollectorRegistry()
        counter = partial(Counter, registry=self.registry)
        gauge = partial(Gauge, registry=self.registry)
        histogram = partial(Histogram, registry=self.registry)
        requests = counter("twotower_requests", "Requests answered.", ["route", "status"])
        seconds = histogram(
            "twotower_request_seconds", "Time to answer a request.", ["route"], buckets=_SECONDS
        )
        stage_seconds = histogram(
            "twotower_stage_seconds", "Time of one stage of a call.", ["stage"],
            buckets=_STAGE_SECONDS,
        )  # fmt: skip
        self._users = counter(
            "twotower_recommended_users",
            "Users recommended for: known to the bundle, or new (cold start).", ["kind"],
        )  # fmt: skip
        self._items_returned = histogram(
            "twotower_items_returned", "Items of an answer.",
            buckets=(0, 1, 5, 9, 10, 20, 50, 100, 1000),
        )  # fmt: skip
        self._candidates = histogram(
            "twotower_candidates", "Items open to a recommendation.",
            buckets=(1, 10, 100, 1_000, 10_000, 100_000, 1_000_000),
        )  # fmt: skip
        self.errors = counter("twotower_errors", "Requests that failed unexpectedly.", ["kind"])
        self.events = counter(
            "twotower_events", "Events received: new, or sent before.", ["recorded"]
        )
        self._reloads = counter("twotower_reloads", "Bundles swapped in, or refused.", ["outcome"])
        self.items = gauge("twotower_items", "Items listed.", multiprocess_mode="livemostrecent")
        self.outside_index = gauge(
            "twotower_items_outside_index", "Items that the index does not hold yet.",
            multiprocess_mode="livemax",
        )  # fmt: skip
        self.state_up = gauge(
            "twotower_state_up", "1 while the database answers, and takes writes.",
            multiprocess_mode="livemin",
        )  # fmt: skip
        self.model = gauge(
            "twotower_model", "Processes that serve a model version.", ["version"],
            multiprocess_mode="livesum",
        )  # fmt: skip
        self._shown = counter(
            "twotower_live_answers", "Answers, by who answered and whether the user was known.",
            ["version", "arm", "user"],
        )  # fmt: skip
        self._places = counter(
            "twotower_live_places",
            "Items of answers: trained, or new to the bundle that answered.",
            ["version", "arm", "item"],
        )
        self.attributed = counter(
            "twotower_live_events", "Events that name a recommendation.",
            ["version", "arm", "kind", "position"],
        )  # fmt: skip
        self.coverage = gauge(
            "twotower_live_coverage",
            "Share of the items listed that a process recommended since it serves the bundle.",
            multiprocess_mode="livemax",
        )
        self.psi = gauge(
            "twotower_drift_psi",
            "Population stability index of the items of events, against the training log.",
            multiprocess_mode="livemax",
        )
        self.shadow_requests = counter(
            "twotower_shadow_requests",
            "Requests that a shadow was to answer too: shadowed, dropped or failed.",
            ["version", "outcome"],
        )
        self._shadow_overlap = Summary(
            "twotower_shadow_overlap", "Share of the items that a shadow's list has in common.",
            ["version"], registry=self.registry,
        )  # fmt: skip
        self._shadow_same_first = counter(
            "twotower_shadow_same_first", "Lists of a shadow with the first item that was shown.",
            ["version"],
        )  # fmt: skip
        self._shadow_places = counter(
            "twotower_shadow_places",
            "Items of both lists: with events in the bundle's training log, or without.",
            ["version", "arm", "item"],
        )
        self._shadow_seconds = histogram(
            "twotower_shadow_seconds", "Time to make a list, of both bundles.",
            ["version", "arm"], buckets=_SECONDS,
        )  # fmt: skip
        for kind in ("known", "new"):
            self._users.labels(kind)  # shown from the start, so that shares can be told
        # Found by their labels once: that takes longer than to count.
        self._requests, self._seconds = cache(requests.labels), cache(seconds.labels)
        self._stage_seconds = cache(stage_seconds.labels)

    def answered(self, route: str, status: int, seconds: float) -> None:
        """Count a request."""
        self._requests(route, status).inc()
        self._seconds(route).observe(seconds)

    def recommended(
        self, stages: Mapping[str, float], lengths: Iterable[int], candidates: int
    ) -> None:
        """Record a call: seconds by stage, items of each answer, and eligible items.

        Shown recommendations are counted by `note`.
        """
        for stage, seconds in stages.items():
            self._stage_seconds(stage).observe(seconds)
        for length in lengths:
            self._items_returned.observe(length)
        self._candidates.observe(candidates)

    def _showed(self, key: ShownKey, shown: Shown) -> None:
        """Count answers, their items, and the items new to the bundle."""
        version, arm, kind = key.model_version, key.arm, "known" if key.known_user else "new"
        self._users.labels(kind).inc(shown.answers)
        self._shown.labels(version, arm, kind).inc(shown.answers)
        self._places.labels(version, arm, "trained").inc(shown.places - shown.new_places)
        if shown.new_places:
            self._places.labels(version, arm, "new").inc(shown.new_places)

    def shadowed(self, shown: Listed, unseen: Listed, alike: Alike) -> None:
        """Count a request that a shadow also answered."""
        version = unseen.model_version
        self.shadow_requests.labels(version, "shadowed").inc()
        self._shadow_overlap.labels(version).observe(alike.overlap)
        self._shadow_same_first.labels(version).inc(alike.same_first)
        for arm, listed in (("a", shown), ("b", unseen)):
            labels, untrained = (listed.model_version, arm), alike.untrained[arm]
            self._shadow_seconds.labels(*labels).observe(listed.seconds)
            self._shadow_places.labels(*labels, "untrained").inc(untrained)
            self._shadow_places.labels(*labels, "trained").inc(len(listed.item_ids) - untrained)

    def followed(self, service: Service, swapped: bool) -> None:
        """Count another process's or service's reload that this one followed or failed to."""
        self.reloaded(service, "followed" if swapped else "refused")

    def reloaded(self, service: Service, outcome: str) -> None:
        """Count a reload, and keep the newest ones of this process for `Activity`."""
        self._reloads.labels(outcome).inc()
        at = datetime.now(UTC).isoformat(timespec="seconds")
        version = service.manifest.model_version
        self.recent_reloads.appendleft({"at": at, "outcome": outcome, "model_version": version})
        self.note(service)

    def note(self, service: Service) -> None:
        """Set the gauges, and add the answers shown since the last call."""
        for key, shown in service.shown.news().items():
            self._showed(key, shown)
        pipeline, version = service.pipeline, service.manifest.model_version
        listed = int(np.count_nonzero(pipeline.items.listed))
        if self._version not in (None, version):
            service.shown.items.clear()
        self.items.set(listed)
        self.coverage.set(len(service.shown.items) / max(1, listed))
        self.psi.set(service.drift.psi)
        self.outside_index.set(pipeline.outside_index)
        self.state_up.set(service.state == "up")
        if self._folder is None:
            self.model.clear()
        elif self._version not in (None, version):  # the files of several processes forget nothing
            self.model.labels(self._version).set(0)
        self.model.labels(version).set(1)
        self._version = version

    def text(self) -> bytes:
        """Everything in Prometheus' text format."""
        if self._folder is None:
            return generate_latest(self.registry)
        merged = CollectorRegistry()
        MultiProcessCollector(merged, path=str(self._folder))  # type: ignore[no-untyped-call]
        return generate_latest(merged)
