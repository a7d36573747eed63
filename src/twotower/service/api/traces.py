"""OpenTelemetry traces: a span for each request, by FastAPI, and one for each of its stages.

They are sent where ``OTEL_EXPORTER_OTLP_ENDPOINT`` names a collector; all other settings are
OpenTelemetry's own environment variables, too.
"""

import os
import time
from collections.abc import Mapping
from typing import Final

from fastapi.telemetry import TelemetryConfig
from opentelemetry import trace

from twotower.errors import InputError

_ENDPOINTS: Final = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")


def configure_tracing() -> None:
    """Send traces where the environment says; nothing where it does not.

    Raises
    ------
    InputError
        Where the packages for it are not installed.
    """
    endpoint = next((name for name in _ENDPOINTS if os.environ.get(name)), None)
    if endpoint is None:
        return
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    except ImportError:
        raise InputError(
            f"{endpoint} is set, and the package opentelemetry-exporter-otlp-proto-http is not "
            "installed",
            "pip install 'twotower[trace]', or unset the variable",
        ) from None
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    name = os.environ.get("OTEL_SERVICE_NAME", "twotower")
    provider = TracerProvider(resource=Resource.create({"service.name": name}))
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    trace.set_tracer_provider(provider)


def is_traced() -> bool:
    """Whether spans go anywhere."""
    return not isinstance(trace.get_tracer_provider(), trace.ProxyTracerProvider)


def telemetry() -> TelemetryConfig:
    """What FastAPI is to send; by default it would look for three receivers at every request."""
    return {"tracing": is_traced(), "metrics": False, "logs": False}


def trace_stages(seconds: Mapping[str, float]) -> None:
    """A span for each stage of the calls that have just ended, within that of the request.

    Stages follow each other; of several users at once a stage's span is the time of all of them.
    """
    if not trace.get_current_span().is_recording():
        return
    tracer = trace.get_tracer("twotower")
    at = time.time_ns() - int(1e9 * sum(seconds.values()))
    for stage, duration in seconds.items():
        span = tracer.start_span(stage, start_time=at)
        at += int(1e9 * duration)
        span.end(at)
