"""Resumable download of a file, from a local server that fails in known ways."""

import hashlib
import json
import os
from pathlib import Path

import pytest

from twotower.data.download import download_file
from twotower.errors import DownloadError, InputError

BODY = bytes(range(256)) * 8000  # 2 MB, several chunks


@pytest.fixture
def target(tmp_path) -> Path:
    return tmp_path / "made" / "file.bin"


@pytest.fixture
def fetch(server, target):
    """Fetch the server's one file, without pauses."""
    server.files["/file.bin"] = BODY

    def go(**options):
        options = {"backoff": 0, "timeout": 5, "retries": 3} | options
        return download_file(f"{server.url}/file.bin", target, **options)

    return go


def leftovers(target: Path) -> list[str]:
    return sorted(p.name for p in target.parent.iterdir() if p != target)


def test_a_good_server(fetch, server, target):
    calls = []
    fetched = fetch(progress=lambda *call: calls.append(call))
    assert target.read_bytes() == BODY
    assert leftovers(target) == []
    assert fetched.path == target
    assert fetched.url == f"{server.url}/file.bin"
    assert fetched.size == len(BODY)
    assert fetched.sha256 == hashlib.sha256(BODY).hexdigest()
    assert len(calls) > 3
    assert calls[-1] == ("file.bin", len(BODY), len(BODY))
    assert [call[1] for call in calls] == sorted(call[1] for call in calls)
    assert server.requests[0][1]["Accept-Encoding"] == "identity"


def test_a_cut_connection_is_resumed(fetch, server, target, misbehave):
    server.script = [misbehave.cut_after(700_000), misbehave.cut_after(300_001)]
    received = []
    fetch(progress=lambda name, done, total: received.append(done))
    assert target.read_bytes() == BODY
    assert server.asked_ranges() == [None, "bytes=700000-", "bytes=1000001-"]
    assert server.requests[1][1]["If-Range"] == '"v1"'
    assert received == sorted(received), "progress never goes back"


def test_the_next_call_resumes_too(fetch, server, target, misbehave):
    server.script = [misbehave.cut_after(700_000)]
    with pytest.raises(DownloadError, match=r"700,000 bytes are kept in .*part, run the same"):
        fetch(retries=0)
    assert not target.exists()
    assert leftovers(target) == ["file.bin.part", "file.bin.part.json"]
    assert json.loads((target.parent / "file.bin.part.json").read_text())["total"] == len(BODY)
    fetch()
    assert server.asked_ranges() == [None, "bytes=700000-"]
    assert target.read_bytes() == BODY
    assert leftovers(target) == []


def test_a_date_is_enough_to_resume(fetch, server, target, misbehave):
    server.etag, server.last_modified = 'W/"weak"', "Thu, 16 Jan 2025 21:47:51 GMT"
    server.script = [misbehave.cut_after(700_000)]
    fetch()
    assert server.requests[1][1]["If-Range"] == server.last_modified
    assert target.read_bytes() == BODY


def test_without_a_validator_it_starts_again(fetch, server, target, misbehave):
    server.etag = None
    server.script = [misbehave.cut_after(700_000)]
    fetch()
    assert server.asked_ranges() == [None, None]
    assert target.read_bytes() == BODY


def test_a_server_that_ignores_the_range(fetch, server, target, misbehave):
    server.ranges = False
    server.script = [misbehave.cut_after(700_000)]
    fetch()
    assert server.asked_ranges() == [None, "bytes=700000-"]
    assert target.read_bytes() == BODY


@pytest.mark.parametrize("honours_if_range", [True, False])
@pytest.mark.parametrize("shorter_by", [0, 1_900_000])
def test_a_file_that_changes_between_tries_is_not_spliced(
    fetch, server, target, misbehave, honours_if_range, shorter_by
):
    other = BODY[::-1][shorter_by:]

    def change(handler):
        handler.serve(cut_after=700_000)
        server.files["/file.bin"], server.etag = other, '"v2"'

    server.honours_if_range = honours_if_range
    server.script = [change]
    fetch()
    assert target.read_bytes() == other


def test_a_range_that_starts_elsewhere_is_not_spliced(fetch, server, target, misbehave):
    def shifted(handler):
        handler.send_response(206)
        handler.send_header("Content-Range", f"bytes 0-{len(BODY) - 1}/{len(BODY)}")
        handler.send_header("Content-Length", str(len(BODY)))
        handler.send_header("ETag", '"v1"')
        handler.end_headers()
        handler.wfile.write(BODY)

    server.script = [misbehave.cut_after(700_000), shifted]
    fetch()
    assert target.read_bytes() == BODY
    assert server.asked_ranges() == [None, "bytes=700000-", None]


def test_more_bytes_than_announced_are_thrown_away(fetch, server, target, misbehave):
    def too_much(handler):
        handler.send_response(206)
        handler.send_header("Content-Range", f"bytes 700000-{len(BODY) - 1}/{len(BODY)}")
        handler.send_header("Content-Length", str(len(BODY)))
        handler.end_headers()
        handler.wfile.write(BODY)

    server.script = [misbehave.cut_after(700_000), too_much]
    fetch()
    assert target.read_bytes() == BODY


def test_a_body_without_length(fetch, server, target):
    server.script = [lambda handler: handler.serve(with_length=False)]
    calls = []
    fetch(progress=lambda *call: calls.append(call))
    assert target.read_bytes() == BODY
    assert calls[-1] == ("file.bin", len(BODY), None)


def test_progress_starts_the_count_of_tries_again(fetch, server, target, misbehave):
    server.script = [misbehave.cut_after(100_000) for _ in range(10)]
    fetch(retries=1)
    assert target.read_bytes() == BODY
    assert len(server.requests) == 11


def test_a_server_that_always_cuts_at_the_same_place_is_given_up(fetch, server, target, misbehave):
    server.ranges = False
    server.script = [misbehave.cut_after(100_000) for _ in range(10)]
    with pytest.raises(DownloadError, match="4 tries in a row failed, the last one: peer closed"):
        fetch(retries=3)
    assert len(server.requests) == 4
    assert not target.exists()


def test_404_is_final(fetch, server, target, misbehave):
    server.script = [misbehave.status(404)]
    with pytest.raises(DownloadError, match=r"file.bin answered 404 Not Found; check that it"):
        fetch()
    assert len(server.requests) == 1
    assert leftovers(target) == []


@pytest.mark.parametrize("code", [500, 503, 429])
def test_what_may_pass_is_retried(fetch, server, target, misbehave, code):
    server.script = [misbehave.status(code)] * 2
    fetch()
    assert target.read_bytes() == BODY
    server.script = [misbehave.status(code)] * 9
    server.requests.clear()
    with pytest.raises(DownloadError, match=f"4 tries in a row failed.*the server answered {code}"):
        fetch()
    assert len(server.requests) == 4
    assert target.read_bytes() == BODY, "the earlier file stays"


def test_an_error_page_does_not_spoil_what_was_received(fetch, server, target, misbehave):
    server.script = [misbehave.cut_after(700_000), misbehave.status(503)]
    fetch()
    assert server.asked_ranges() == [None, "bytes=700000-", "bytes=700000-"]
    assert target.read_bytes() == BODY


def test_a_complete_part_is_only_renamed(fetch, server, target):
    """The process died between the last byte and the renaming."""
    fetch()
    target.rename(target.with_name("file.bin.part"))
    description = {
        "url": f"{server.url}/file.bin", "etag": '"v1"', "last_modified": None, "total": len(BODY),
    }  # fmt: skip
    (target.parent / "file.bin.part.json").write_text(json.dumps(description))
    server.requests.clear()
    fetch()
    assert server.requests == []
    assert target.read_bytes() == BODY


@pytest.mark.parametrize("description", ["", "{", "[]", '{"url": "http://other"}'])
def test_a_part_without_its_description_is_not_trusted(fetch, server, target, description):
    target.parent.mkdir()
    (target.parent / "file.bin.part").write_bytes(b"something else")
    (target.parent / "file.bin.part.json").write_text(description)
    fetch()
    assert server.asked_ranges() == [None]
    assert target.read_bytes() == BODY


def test_a_part_of_another_address_is_not_trusted(fetch, server, target, misbehave):
    server.files["/other.bin"] = BODY[::-1]
    server.script = [misbehave.cut_after(700_000)]
    with pytest.raises(DownloadError):
        download_file(f"{server.url}/other.bin", target, retries=0)
    fetch()
    assert server.asked_ranges() == [None, None]
    assert target.read_bytes() == BODY


def test_the_expected_checksum(fetch, server, target):
    good = hashlib.sha256(BODY).hexdigest()
    with pytest.raises(DownloadError, match=f"has sha256 {good}, expected {'0' * 64}; it was not"):
        fetch(expected_sha256="0" * 64)
    assert not target.exists()
    assert leftovers(target) == []
    assert fetch(expected_sha256=good.upper()).sha256 == good


def test_redirects_are_followed(fetch, server, target):
    def elsewhere(handler):
        handler.send_response(302)
        handler.send_header("Location", "/moved.bin")
        handler.send_header("Content-Length", "0")
        handler.end_headers()

    server.files["/moved.bin"] = BODY[:1000]
    server.script = [elsewhere]
    fetch()
    assert target.read_bytes() == BODY[:1000]
    server.files["/file.bin"] = b""
    server.script = [elsewhere] * 30
    with pytest.raises(DownloadError, match=r"cannot be fetched: .*redirects; check the address"):
        fetch()


def test_a_server_that_is_not_there(server, target):
    with pytest.raises(DownloadError, match=r"2 tries in a row failed, the last one: .*refused"):
        download_file("http://127.0.0.1:9/x", target, retries=1, backoff=0, timeout=2)
    assert leftovers(target) == []


def test_a_server_that_falls_silent(fetch, server, target):
    def silent(handler):
        handler.send_response(200)
        handler.send_header("Content-Length", "10")
        handler.end_headers()
        handler.wfile.flush()
        handler.rfile.read(1)  # until the client goes away

    server.script = [silent]
    fetch(timeout=0.2)
    assert target.read_bytes() == BODY


def test_pauses_grow_and_are_jittered(fetch, server, monkeypatch, misbehave):
    pauses = []
    monkeypatch.setattr("twotower.data.download.fetch.time.sleep", pauses.append)
    server.script = [misbehave.status(500)] * 8
    fetch(retries=8, backoff=2.0)
    for pause, longest in zip(pauses, [2, 4, 8, 16, 32, 60, 60, 60], strict=True):
        assert longest / 2 <= pause <= longest


def test_a_folder_that_cannot_be_made(fetch, target):
    target.parent.write_text("a file where the folder should be")
    with pytest.raises(DownloadError, match=r"cannot write .*made.*; free some space, or choose"):
        fetch()


def test_a_target_that_is_a_folder(fetch, target):
    target.mkdir(parents=True)
    with pytest.raises(DownloadError, match=r"cannot write .*file.bin"):
        fetch()


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full to be out of space")
def test_a_full_disk(fetch, target):
    target.parent.mkdir()
    (target.parent / "file.bin.part").symlink_to("/dev/full")
    with pytest.raises(DownloadError, match=r"cannot write .*: No space left on device; free some"):
        fetch()


def test_arguments_are_checked(target):
    with pytest.raises(InputError, match="url must begin with http:// or https://, got 'ftp://a'"):
        download_file("ftp://a", target)
    with pytest.raises(InputError, match=r"got -1, 1.0 and 30.0"):
        download_file("http://a", target, retries=-1)
    with pytest.raises(DownloadError, match=r"cannot be fetched: .*; check the address"):
        download_file("http://a:b", target)
