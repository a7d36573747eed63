"""A new bundle is rolled back where errors or latency rise after the reload."""

from collections.abc import Callable, Iterator

import httpx
import pytest

from twotower.retraining import RetrainSettings, Shelf, Thresholds, Watch, WatchSettings, retrain
from twotower.retraining.watch import Traffic, complaint
from twotower.service.api.metrics import Metrics
from twotower.service.client import Client, ServiceError

ROUTE = "/v1/recommendations"
LIMITS = WatchSettings(seconds=30, every_s=10)
PASSES = RetrainSettings(
    thresholds=Thresholds(
        least_users=1, most_loss=1, least_coverage=0, most_new_item_share=1, most_latency=1000
    )
)
GOOD = Traffic(answers=1000, errors=1, timed=900, seconds=9)


class Service:
    """Counts answers, and gives its metrics over HTTP."""

    def __init__(self) -> None:
        self.metrics = Metrics()
        self.answers: Callable[[], httpx.Response] = lambda: httpx.Response(
            200, content=self.metrics.text()
        )
        transport = httpx.MockTransport(lambda _: self.answers())
        self.client = Client("http://service", transport=transport)

    def answer(self, count: int, status: int = 200, seconds: float = 0.01) -> None:
        for _ in range(count):
            self.metrics.answered(ROUTE, status, seconds)


@pytest.fixture
def service() -> Iterator[Service]:
    made = Service()
    made.answer(300)
    yield made
    made.client.close()


def test_traffic_is_read_from_the_metrics_of_a_service(service: Service) -> None:
    service.answer(20, 503, 0.5)
    service.metrics.answered("/health", 200, 9.0)
    found = Traffic.of(service.metrics.text().decode())
    assert found == Traffic(321, 20, 320, pytest.approx(13))
    assert Traffic(5, 0, 5, 1).since(found) == Traffic(5, 0, 5, 1)  # it was restarted


@pytest.mark.parametrize(
    ("new", "expected"),
    [
        (GOOD, None),
        (Traffic(99, 99, 99, 99), None),  # too few to tell
        (Traffic(1000, 11, 900, 9), None),
        (Traffic(1000, 12, 900, 9), r"1\.2% of 1,000 answers failed, 0\.1% with the bundle before"),
        (Traffic(1000, 1, 900, 17), None),
        (Traffic(1000, 1, 900, 19), r"takes 21\.1 ms, 10 ms with the bundle before; most_latency"),
        (Traffic(1000, 1, 99, 19), None),
    ],
)
def test_what_is_borne(new: Traffic, expected: str | None) -> None:
    found = complaint(GOOD, new, LIMITS)
    if expected is None:
        assert found is None
    else:
        with pytest.raises(ValueError, match=expected):
            raise ValueError(found)


def test_a_watch_ends_at_the_first_complaint_or_when_its_time_is_over(service: Service) -> None:
    waited = []
    watch = Watch(service.client, LIMITS, waited.append)
    watch.begin()
    assert watch.complaint() is None
    assert waited == [10, 10, 10]

    def worse(seconds: float) -> None:
        waited.append(seconds)
        service.answer(60, 500)

    watch = Watch(service.client, LIMITS, worse)
    watch.begin()
    assert "100.0% of 120 answers failed" in (watch.complaint() or "")
    assert len(waited) == 5


def test_a_service_that_is_silent_three_times_in_a_row_is_a_complaint(service: Service) -> None:
    watch = Watch(service.client, LIMITS, lambda _: None)
    watch.begin()
    service.answers = lambda: httpx.Response(503)
    assert "does not give its metrics any more" in (watch.complaint() or "")


def test_nothing_begins_where_the_metrics_cannot_be_read(service: Service) -> None:
    service.answers = lambda: httpx.Response(401)
    with pytest.raises(ServiceError):
        Watch(service.client, LIMITS)


def test_a_bundle_that_fails_in_service_is_rolled_back(bundle, store, service: Service) -> None:
    watch = Watch(service.client, LIMITS, lambda _: service.answer(200, 500))
    outcome = retrain(bundle, store, bundle.parent, PASSES, watch=watch)
    assert outcome.result == "rolled-back"
    assert "100.0% of 200 answers failed" in (outcome.complaint or "")
    assert outcome.name is None
    assert store.bundle("current").name is None
    assert [one.outcome for one in Shelf(bundle.parent).entries] == ["served", "rolled-back"]


def test_one_that_does_well_stays(bundle, store, service: Service) -> None:
    watch = Watch(service.client, LIMITS, lambda _: service.answer(200))
    outcome = retrain(bundle, store, bundle.parent, PASSES, watch=watch)
    assert outcome.result == "served"
    assert store.bundle("current").name == outcome.name
