"""The service on a port of this machine, and clients that do not behave."""

import asyncio
import contextlib
import json
import logging
import shutil
import socket
import threading
import time
from collections.abc import Callable, Iterator

import httpx
import pytest
import uvicorn

from twotower.service.api.app import create_app
from twotower.service.api.connections import ConnectionLimits
from twotower.service.api.server import server_config
from twotower.service.settings import ServeSettings

PATH = "/v1/users/user-03/recommendations"
Start = Callable[..., contextlib.AbstractContextManager[int]]


@pytest.fixture
def listening(saved_bundle, keys, tmp_path) -> Start:
    """Start the service with other settings; the port that it listens on."""

    @contextlib.contextmanager
    def start(**changes) -> Iterator[int]:
        shutil.copytree(saved_bundle, tmp_path / "bundle")
        given = {"bundle": tmp_path / "bundle", "poll_s": 60, "port": 0, "drain_s": 1, **changes}
        settings = ServeSettings(**given)
        app = create_app(settings)
        server = uvicorn.Server(server_config(lambda: app, settings))
        thread = threading.Thread(target=server.run)
        thread.start()
        while not server.started:
            time.sleep(0.01)
            assert thread.is_alive()
        start.server = server
        try:
            yield server.servers[0].sockets[0].getsockname()[1]
        finally:
            server.should_exit = True
            thread.join()

    return start


def connect(port: int) -> socket.socket:
    connection = socket.create_connection(("127.0.0.1", port), timeout=5)
    connection.settimeout(5)
    return connection


def everything(connection: socket.socket) -> bytes:
    """All that comes until the other side closes."""
    parts = []
    with contextlib.suppress(ConnectionError):
        while part := connection.recv(65_536):
            parts.append(part)
    return b"".join(parts)


def problem(answer: bytes) -> tuple[int, str]:
    head, _, body = answer.partition(b"\r\n\r\n")
    assert b"application/problem+json" in head
    assert b"connection: close" in head.lower()
    return int(head.split()[1]), json.loads(body)["detail"]


def status(port: int, path: str = PATH, **more) -> int:
    return httpx.get(f"http://127.0.0.1:{port}{path}", timeout=30, **more).status_code


def send_without_end(connection: socket.socket, part: bytes, most: int = 4_000_000) -> int:
    """Send until the other side has enough; how many bytes went."""
    sent = 0
    with contextlib.suppress(ConnectionError, TimeoutError):
        while sent < most:
            connection.sendall(part)
            sent += len(part)
    return sent


CHUNKED = (
    b"POST /v1/recommendations HTTP/1.1\r\nHost: here\r\nContent-Type: application/json\r\n"
    b"Transfer-Encoding: chunked\r\n\r\n"
)


@pytest.mark.parametrize(
    ("begin", "part"),
    [
        (b"GET /health HTTP/1.1\r\nX-Long: ", b"a" * 10_000),
        (b"GET /health HTTP/1.1\r\n", b"X-Many: 1\r\n" * 1000),
        (b"GET /", b"a" * 10_000),
        (b"GET /health HTTP/1.1\r\nHost: here\r\n\r\nGET /", b"a" * 10_000),
    ],
    ids=["one header", "many headers", "the address", "a second request"],
)
def test_a_header_without_end_is_refused(listening, begin, part) -> None:
    with listening(max_header_bytes=20_000) as port, connect(port) as connection:
        connection.sendall(begin)
        assert send_without_end(connection, part) < 4_000_000
        assert status(port) == 200
        counted = httpx.get(f"http://127.0.0.1:{port}/metrics").text
        assert 'twotower_requests_total{route="none",status="431"} 1.0' in counted


def test_the_refusal_of_a_long_header_says_the_bound(listening) -> None:
    with listening(max_header_bytes=20_000) as port, connect(port) as connection:
        connection.sendall(b"GET /health HTTP/1.1\r\nX-Long: ".ljust(20_000, b"a"))
        assert problem(everything(connection)) == (431, "the headers are longer than 20,000 bytes")


@pytest.mark.parametrize(
    ("begin", "part"),
    [(CHUNKED + b"0\r\nX-Trailer: ", b"a" * 10_000), (CHUNKED + b"2;x=", b"a" * 10_000)],
    ids=["trailer", "chunk extension"],
)
def test_nothing_else_is_without_end_either(listening, begin, part) -> None:
    with listening(max_header_bytes=20_000) as port, connect(port) as connection:
        connection.sendall(begin)
        assert send_without_end(connection, part) < 4_000_000
        assert status(port) == 200


def test_bodies_and_headers_within_their_bounds_are_read(listening) -> None:
    history = ["item-03"] * 200
    body = json.dumps({"history": history, "text": None}).encode().ljust(900_000)
    with listening(max_header_bytes=20_000) as port:
        address = f"http://127.0.0.1:{port}"
        with httpx.Client(base_url=address) as client:  # one connection
            for _ in range(3):
                answer = client.post(
                    "/v1/recommendations", content=body,
                    headers={"Content-Type": "application/json", "X-Long": "a" * 19_000},
                )  # fmt: skip
                assert answer.status_code == 200
        with connect(port) as connection:
            connection.sendall(
                CHUNKED + b"".join(b"1\r\n \r\n" for _ in range(9_000)) + b"2\r\n{}\r\n0\r\n\r\n"
            )
            connection.shutdown(socket.SHUT_WR)
            assert b" 422 " in everything(connection)[:20]


def test_a_slow_header_and_a_silent_client_are_closed(listening) -> None:
    with listening(header_timeout_s=0.5) as port, connect(port) as slow, connect(port) as silent:
        began = time.monotonic()
        slow.sendall(b"GET /health HTTP/1.1\r\nX-Slow: ")
        with contextlib.suppress(ConnectionError):
            while time.monotonic() < began + 30:  # a byte now and then does not help
                slow.sendall(b"a")
                slow.settimeout(0.1)
                with contextlib.suppress(TimeoutError):
                    answer = slow.recv(1000)
                    break
        assert problem(answer) == (408, "no headers within 0.5 s")
        assert everything(silent) == b""
        assert time.monotonic() < began + 8  # not the default of 10 s


def test_a_body_that_does_not_come_is_the_clients_fault(listening) -> None:
    with listening(timeout_s=0.3) as port, connect(port) as connection:
        connection.sendall(CHUNKED + b"1\r\n{\r\n")
        assert problem(everything(connection)) == (408, "no whole body within 0.3 s")
        assert "twotower_errors_total{" not in httpx.get(f"http://127.0.0.1:{port}/metrics").text


@pytest.mark.parametrize("kind", ["application/json", "application/json; charset=utf-8"])
def test_a_client_that_hangs_up_in_its_body_is_no_failure(listening, caplog, kind) -> None:
    caplog.set_level(logging.INFO)
    with listening() as port:
        with connect(port) as connection:
            connection.sendall(
                b"POST /v1/recommendations HTTP/1.1\r\nHost: here\r\nContent-Length: 100\r\n"
                b"Content-Type: " + kind.encode() + b"\r\n\r\n{"
            )
        deadline = time.monotonic() + 30
        while '",status="499"} 1.0' not in (
            counted := httpx.get(f"http://127.0.0.1:{port}/metrics").text
        ):
            assert time.monotonic() < deadline, counted
            time.sleep(0.02)
        assert 'status="500"' not in counted
        assert "twotower_errors_total{" not in counted
    assert [one for one in caplog.records if one.levelno >= logging.WARNING] == []


def test_idle_connections_make_room_for_others(listening, caplog) -> None:
    with listening(max_connections=8) as port, contextlib.ExitStack() as stack:
        kept = stack.enter_context(httpx.Client(base_url=f"http://127.0.0.1:{port}"))
        assert kept.get(PATH).status_code == 200
        idle = [stack.enter_context(connect(port)) for _ in range(30)]
        assert [status(port) for _ in range(10)] == [200] * 10
        pooled = kept._transport._pool.connections
        assert len(pooled) == 1
        assert kept.get(PATH).status_code == 200
        assert kept._transport._pool.connections == pooled  # it had asked before, and stays
        assert everything(idle[0]) == b""
    said = [one for one in caplog.records if "idle connections were closed" in one.message]
    assert len(said) == 1  # in ten seconds


def test_where_all_connections_are_busy_another_is_refused(listening, monkeypatch) -> None:
    from twotower.inference import Pipeline

    released = threading.Event()
    monkeypatch.setattr(Pipeline, "search", lambda *_: released.wait(10) and [])
    with listening(max_connections=2) as port, connect(port) as one, connect(port) as two:
        for connection in (one, two):
            connection.sendall(b"GET /v1/search?q=game HTTP/1.1\r\nHost: here\r\n\r\n")
        while len(listening.server.server_state.tasks) < 2:
            time.sleep(0.01)
        with connect(port) as third:
            refused = problem(everything(third))
        assert refused == (503, "more than 2 connections are open")
        released.set()
        assert one.recv(15) == two.recv(15) == b"HTTP/1.1 200 OK"


def test_an_answer_that_is_not_read_is_given_up(listening) -> None:
    with listening(header_timeout_s=0.3) as port, socket.socket() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.connect(("127.0.0.1", port))
        connection.settimeout(0.3)
        with contextlib.suppress(TimeoutError, ConnectionError):
            for _ in range(1000):
                connection.sendall(b"GET /openapi.json HTTP/1.1\r\nHost: here\r\n\r\n")
        deadline = time.monotonic() + 30
        while listening.server.server_state.connections:  # though this side reads nothing
            assert time.monotonic() < deadline
            time.sleep(0.02)
        assert status(port) == 200


@pytest.mark.parametrize(
    ("trusted", "expected"),
    [(None, [200, 200, 429]), ("127.0.0.1", [200, 200, 200]), ("192.0.2.0/24", [200, 200, 429])],
)
def test_a_forwarded_address_is_believed_where_it_is_said(listening, trusted, expected) -> None:
    with listening(rate_limit=0.001, rate_burst=2, forwarded_allow_ips=trusted) as port:
        statuses = [
            status(port, headers={"X-Forwarded-For": f"203.0.113.{number}"}) for number in range(3)
        ]
    assert statuses == expected


def test_a_connection_that_fails_the_sweep_does_not_end_it(caplog) -> None:
    class Connection:
        looks = 0

        def sweep(self, _now: float) -> None:
            self.looks += 1
            if self is broken:
                raise RuntimeError("broken")

    broken, sound = Connection(), Connection()
    limits = ConnectionLimits(1024, 1.0, 10, open={broken, sound})

    async def sweep() -> None:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(limits.sweep(), 2.5)

    asyncio.run(sweep())
    assert (broken.looks, sound.looks) == (1, 2)
    assert "a connection cannot be looked after" in caplog.text
