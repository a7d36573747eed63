"""Parallel image downloads, from a local server that fails in known ways."""

import json
import threading
from pathlib import Path

import pytest

from twotower.data.download import fetch_images
from twotower.errors import DownloadError, InputError

PNG = b"\x89PNG\r\n\x1a\n" + bytes(range(200))
STARTS = {
    "jpeg": b"\xff\xd8\xff\xe0" + bytes(100),
    "png": PNG,
    "gif": b"GIF89a" + bytes(100),
    "webp": b"RIFF\x00\x00\x00\x00WEBP" + bytes(100),
}


@pytest.fixture
def fetch(server, tmp_path):
    """Fetch paths of the server, without pauses."""

    def go(*paths, **options):
        urls = [path if "://" in path else f"{server.url}{path}" for path in paths]
        options = {"backoff": 0, "timeout": 5, "retries": 2} | options
        return list(fetch_images(urls, tmp_path / "images", **options).values())

    return go


def asked(server) -> list[str]:
    return sorted(path for path, _ in server.requests)


@pytest.mark.parametrize("kind", STARTS)
def test_an_image_is_kept_as_it_came(fetch, server, kind):
    server.files["/a"] = STARTS[kind]
    (image,) = fetch("/a")
    assert image.path.read_bytes() == STARTS[kind]
    assert (image.url, image.reason) == (f"{server.url}/a", None)


def test_what_lies_there_is_not_asked_for_again(fetch, server):
    server.files |= {"/a": PNG, "/b": PNG}
    calls = []
    first = fetch("/a", "/b", "/a", progress=lambda *done: calls.append(done))
    assert len(first) == 2
    assert calls == [(1, 2), (2, 2)]
    assert asked(server) == ["/a", "/b"]
    server.files.clear()
    assert fetch("/b", "/a") == first[::-1]
    assert asked(server) == ["/a", "/b"]


def test_they_are_fetched_in_parallel(fetch, server):
    """Each of four answers only when all four were asked for."""
    together = threading.Barrier(4)

    def answer(handler):
        together.wait(timeout=5)
        handler.serve()

    server.files = {f"/{n}": PNG for n in range(4)}
    server.script = [answer] * 4
    assert all(image.path for image in fetch(*server.files, concurrency=4))


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"<html>Sorry, no such picture</html>", "not a JPEG, PNG, WEBP or GIF file"),
        (b"", "not a JPEG, PNG, WEBP or GIF file"),
        (b"RIFF\x00\x00\x00\x00WAVE", "not a JPEG, PNG, WEBP or GIF file"),
        (PNG + bytes(1000), "more than 1,000 bytes"),
    ],
)
def test_what_is_no_image_or_too_large_is_refused_for_good(fetch, server, tmp_path, body, reason):
    server.files["/a"] = body
    for _ in range(2):
        (image,) = fetch("/a", max_bytes=1000)
        assert (image.path, image.reason) == (None, reason)
    assert len(server.requests) == 1
    (kept,) = (tmp_path / "images").iterdir()
    assert json.loads(kept.read_text()) == {"url": f"{server.url}/a", "reason": reason}


def test_the_size_is_watched_where_it_is_not_announced(fetch, server):
    server.files["/a"] = PNG + bytes(1000)
    server.script = [lambda handler: handler.serve(with_length=False)]
    (image,) = fetch("/a", max_bytes=1000)
    assert image.reason == "more than 1,000 bytes"


def test_404_is_final_and_others_go_on(fetch, server):
    server.files["/b"] = PNG
    for _ in range(2):
        lost, found = fetch("/a", "/b")
        assert lost.reason == "the server answered 404 Not Found"
        assert found.path
    assert asked(server) == ["/a", "/b"]


@pytest.mark.parametrize("code", [500, 503, 429])
def test_what_may_pass_is_tried_again_now_and_the_next_time(fetch, server, misbehave, code):
    server.files["/a"] = PNG
    server.script = [misbehave.status(code)] * 3
    (image,) = fetch("/a", retries=2)
    assert image.path is None
    assert image.reason.startswith(f"the server answered {code}")
    assert image.reason.endswith(", 3 tries")
    server.script = [misbehave.status(code)] * 2
    (image,) = fetch("/a", retries=2)
    assert image.path.read_bytes() == PNG


def test_a_cut_connection_is_tried_again(fetch, server, misbehave, tmp_path):
    server.files["/a"] = PNG
    server.script = [misbehave.cut_after(50)]
    (image,) = fetch("/a")
    assert image.path.read_bytes() == PNG
    assert len(list((tmp_path / "images").iterdir())) == 1


def test_pauses_grow(fetch, server, misbehave, monkeypatch):
    pauses = []
    monkeypatch.setattr("twotower.data.download.images.time.sleep", pauses.append)
    server.script = [misbehave.status(503)] * 4
    fetch("/a", retries=3, backoff=2.0)
    for pause, longest in zip(pauses, [2, 4, 8], strict=True):
        assert longest / 2 <= pause <= longest


@pytest.mark.parametrize("url", ["ftp://127.0.0.1/a", "file:///etc/passwd", "http://[", "http://"])
def test_an_address_that_cannot_be_asked_is_refused(fetch, url):
    (image,) = fetch(url)
    assert image.path is None
    assert image.reason


def test_a_server_that_is_not_there_is_a_reason(fetch):
    (image,) = fetch("http://127.0.0.1:9/a", retries=1, timeout=2)
    assert "refused" in image.reason
    assert image.reason.endswith(", 2 tries")


def test_a_folder_that_cannot_be_written_is_an_error(fetch, server, tmp_path):
    server.files["/a"] = PNG
    (tmp_path / "images").write_text("a file where the folder should be")
    with pytest.raises(DownloadError, match=r"^cannot write .*; free some space, or choose"):
        fetch("/a")


def test_limits_must_make_sense(tmp_path: Path):
    with pytest.raises(
        InputError, match=r"^concurrency and max_bytes must be at least 1, got 0 and 5$"
    ):
        fetch_images(["http://127.0.0.1/a"], tmp_path, concurrency=0, max_bytes=5)


def test_no_address_asks_nothing(tmp_path: Path):
    assert fetch_images([], tmp_path / "images") == {}
    assert not (tmp_path / "images").exists()
