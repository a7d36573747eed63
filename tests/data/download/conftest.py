"""Local HTTP server whose failures a test chooses."""

import re
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace

import pytest


@dataclass
class FlakyServer:
    """Files by path, and what to do with the next requests.

    ``script`` holds one function a request, called with the handler in place of the normal
    answer; when it is empty, answers are normal. ``requests`` holds path and headers of all.
    """

    files: dict[str, bytes] = field(default_factory=dict)
    etag: str | None = '"v1"'
    last_modified: str | None = None
    ranges: bool = True
    honours_if_range: bool = True
    script: list[Callable[["Handler"], None]] = field(default_factory=list)
    requests: list[tuple[str, dict[str, str]]] = field(default_factory=list)
    url: str = ""

    def asked_ranges(self) -> list[str | None]:
        return [headers.get("Range") for _, headers in self.requests]


class Handler(BaseHTTPRequestHandler):
    flaky: FlakyServer

    def do_GET(self):
        self.flaky.requests.append((self.path, dict(self.headers)))
        if self.flaky.script:
            self.flaky.script.pop(0)(self)
        else:
            self.serve()

    def serve(self, *, cut_after: int | None = None, with_length: bool = True):
        """Answer as a good server does; ``cut_after`` closes after that many bytes."""
        flaky = self.flaky
        if self.path not in flaky.files:
            return self.answer(404)
        body, start = flaky.files[self.path], self._start()
        if start is not None and start >= len(body):
            return self.answer(416)
        self.send_response(200 if start is None else 206)
        if start is not None:
            self.send_header("Content-Range", f"bytes {start}-{len(body) - 1}/{len(body)}")
        rest = body[start or 0 :]
        if with_length:
            self.send_header("Content-Length", str(len(rest)))
        if flaky.etag:
            self.send_header("ETag", flaky.etag)
        if flaky.last_modified:
            self.send_header("Last-Modified", flaky.last_modified)
        self.end_headers()
        self.wfile.write(rest[:cut_after])
        return None

    def answer(self, status: int):
        self.send_response(status)
        self.send_header("Content-Length", "5")
        self.end_headers()
        self.wfile.write(b"sorry")

    def _start(self) -> int | None:
        """First byte asked for, None where the whole file is to be sent."""
        asked = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        if asked is None or not self.flaky.ranges:
            return None
        condition = self.headers.get("If-Range")
        current = (self.flaky.etag, self.flaky.last_modified)
        if condition not in current and self.flaky.honours_if_range:
            return None
        return int(asked.group(1))

    def log_message(self, *_):
        """Keep the test's output clean."""


@pytest.fixture
def server(monkeypatch) -> Iterator[FlakyServer]:
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
    flaky = FlakyServer()
    handler = type("BoundHandler", (Handler,), {"flaky": flaky})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as http_server:
        flaky.url = f"http://127.0.0.1:{http_server.server_port}"
        thread = threading.Thread(target=http_server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield flaky
        http_server.shutdown()
        thread.join()


def cut_after(count: int) -> Callable[[Handler], None]:
    """Promise everything, send ``count`` bytes, close."""
    return lambda handler: handler.serve(cut_after=count)


def status(code: int) -> Callable[[Handler], None]:
    """Answer with an error."""
    return lambda handler: handler.answer(code)


@pytest.fixture
def misbehave() -> SimpleNamespace:
    """Makers of bad answers: ``misbehave.cut_after(n)``, ``misbehave.status(code)``."""
    return SimpleNamespace(cut_after=cut_after, status=status)
