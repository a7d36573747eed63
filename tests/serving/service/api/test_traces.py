"""Spans of requests and their stages."""

import sys

import pytest

from twotower.errors import InputError
from twotower.service.api.traces import configure_tracing, trace_stages

trace = pytest.importorskip("opentelemetry.sdk.trace", reason="needs opentelemetry-sdk")


@pytest.fixture
def spans(monkeypatch: pytest.MonkeyPatch):
    """Those that have ended, with a tracer of the test's own in place of the process's."""
    from opentelemetry import trace as api
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

    exporter = InMemorySpanExporter()
    provider = trace.TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    monkeypatch.setattr(api, "_TRACER_PROVIDER", provider)
    return exporter.get_finished_spans


def test_each_stage_is_a_span_of_the_request(served, spans) -> None:
    with served() as client:
        answer = client.post("/v1/recommendations", json={"user_id": "user-03", "k": 3})
    assert answer.status_code == 200
    found = {span.name: span for span in spans()}
    request = next(span for span in found.values() if span.parent is None)
    assert "/v1/recommendations" in request.name
    stages = [found[name] for name in ("encode", "search", "present")]
    assert all(stage.parent.span_id == request.context.span_id for stage in stages)
    assert [stage.start_time for stage in stages[1:]] == [stage.end_time for stage in stages[:-1]]
    assert request.start_time <= stages[0].start_time
    assert stages[-1].end_time <= request.end_time


def test_without_a_request_there_is_no_span(spans) -> None:
    trace_stages({"encode": 0.1})
    assert not spans()


def test_an_endpoint_without_the_packages_is_one_error(monkeypatch: pytest.MonkeyPatch) -> None:
    configure_tracing()
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:4318")
    monkeypatch.setitem(sys.modules, "opentelemetry.exporter.otlp.proto.http.trace_exporter", None)
    with pytest.raises(InputError, match=r"OTEL_EXPORTER_OTLP_ENDPOINT is set.*twotower\[trace\]"):
        configure_tracing()
