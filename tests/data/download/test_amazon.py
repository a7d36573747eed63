"""Download of Amazon Reviews 2023: which files are fetched, and which are skipped."""

import hashlib
import json

import pytest

from twotower.data.download import (
    BASE_URL_VARIABLE,
    CATEGORIES,
    KINDS,
    download,
    find_category,
    slug,
)
from twotower.errors import DownloadError, InputError

REVIEWS = "raw/review_categories/Video_Games.jsonl.gz"
META = "raw/meta_categories/meta_Video_Games.jsonl.gz"


@pytest.fixture
def mirror(server):
    """A mirror with every file of Video Games, each with its own content."""
    paths = [REVIEWS, META, "benchmark/5core/rating_only/Video_Games.csv.gz"]
    for kind in ("last_out", "last_out_w_his"):
        paths += [
            f"benchmark/5core/{kind}/Video_Games.{p}.csv.gz" for p in ("train", "valid", "test")
        ]
    server.files = {f"/amazon/{path}": path.encode() for path in paths}
    return server


@pytest.fixture
def get(mirror, tmp_path):
    def go(kind="raw", category="video-games", **options):
        options = {"base_url": f"{mirror.url}/amazon/", "backoff": 0, "retries": 1} | options
        return download(category, kind, tmp_path, **options)

    return go


@pytest.mark.parametrize(
    ("kind", "log"),
    [
        ("raw", ["review_categories/Video_Games.jsonl.gz"]),
        ("rating_only", ["rating_only/Video_Games.csv.gz"]),
        ("last_out", [f"last_out/Video_Games.{p}.csv.gz" for p in ("train", "valid", "test")]),
        (
            "last_out_w_his",
            [f"last_out_w_his/Video_Games.{p}.csv.gz" for p in ("train", "valid", "test")],
        ),
    ],
)
def test_each_kind(get, mirror, tmp_path, kind, log):
    paths = get(kind)
    expected = [*log, "meta_categories/meta_Video_Games.jsonl.gz"]
    assert [path.relative_to(tmp_path).as_posix() for path in paths] == expected
    for path in paths:
        assert f"/amazon/{path.read_text()}" in mirror.files
        assert path.read_text().endswith(path.relative_to(tmp_path).as_posix())


def test_without_the_catalogue(get, mirror):
    assert len(get("rating_only", catalogue=False)) == 1
    assert len(mirror.requests) == 1


def test_size_and_checksum_are_recorded(get, mirror, tmp_path):
    get()
    record = json.loads((tmp_path / "downloads.json").read_text())
    entry = record["files"]["review_categories/Video_Games.jsonl.gz"]
    assert entry.pop("fetched").startswith("20")
    assert entry == {
        "url": f"{mirror.url}/amazon/{REVIEWS}",
        "size": len(REVIEWS),
        "sha256": hashlib.sha256(REVIEWS.encode()).hexdigest(),
    }
    assert set(record["files"]) == {
        "review_categories/Video_Games.jsonl.gz",
        "meta_categories/meta_Video_Games.jsonl.gz",
    }


def test_what_is_there_is_not_fetched_again(get, mirror):
    first = get()
    mirror.requests.clear()
    calls = []
    assert get(progress=lambda *call: calls.append(call)) == first
    assert mirror.requests == []
    assert calls[0] == ("Video_Games.jsonl.gz", len(REVIEWS), len(REVIEWS))
    get("rating_only")
    assert len(mirror.requests) == 1, "the catalogue serves every kind"


@pytest.mark.parametrize("damage", ["changed", "cut", "gone"])
def test_what_does_not_match_its_record_is_fetched_again(get, mirror, damage):
    path = get()[0]
    if damage == "gone":
        path.unlink()
    else:
        path.write_text(REVIEWS.upper() if damage == "changed" else REVIEWS[:-1])
    mirror.requests.clear()
    get()
    assert [request[0] for request in mirror.requests] == [f"/amazon/{REVIEWS}"]
    assert path.read_text() == REVIEWS


@pytest.mark.parametrize("text", ["", "[]", '{"files": 3}', '{"files": {"a": null}}'])
def test_a_broken_record_is_made_anew(get, mirror, tmp_path, text, caplog):
    get()
    (tmp_path / "downloads.json").write_text(text)
    mirror.requests.clear()
    get()
    assert "cannot be read" in caplog.text
    assert len(mirror.requests) == 2
    assert len(json.loads((tmp_path / "downloads.json").read_text())["files"]) == 2


def test_what_came_before_an_error_is_kept(get, mirror):
    del mirror.files[f"/amazon/{META}"]
    with pytest.raises(DownloadError, match=r"meta_Video_Games.jsonl.gz answered 404 Not Found"):
        get()
    mirror.files[f"/amazon/{META}"] = b"meta"
    mirror.requests.clear()
    get()
    assert [request[0] for request in mirror.requests] == [f"/amazon/{META}"]


def test_a_mirror_by_environment(get, mirror, monkeypatch):
    monkeypatch.setenv(BASE_URL_VARIABLE, f"{mirror.url}/amazon")
    assert get(base_url=None)[0].read_text() == REVIEWS


def test_the_default_is_the_publisher(tmp_path, monkeypatch):
    monkeypatch.delenv(BASE_URL_VARIABLE, raising=False)
    asked = []

    def refuse(url, *_, **__):
        asked.append(url)
        raise DownloadError("no")

    monkeypatch.setattr("twotower.data.download.amazon.download_file", refuse)
    with pytest.raises(DownloadError):
        download("Video_Games", "raw", tmp_path)
    base = "https://mcauleylab.ucsd.edu/public_datasets/data/amazon_2023"
    assert asked == [f"{base}/{REVIEWS}"]


def test_categories():
    assert len(CATEGORIES) == len(set(CATEGORIES)) == 34
    assert slug("CDs_and_Vinyl") == "cds-and-vinyl"
    for category in CATEGORIES:
        assert find_category(slug(category)) == find_category(category) == category
    assert find_category(" Video Games ") == "Video_Games"


def test_unknown_names(get):
    with pytest.raises(
        InputError, match=r"unknown category 'video-gmaes' of Amazon .*; pass one of video-games"
    ):
        get(category="video-gmaes")
    with pytest.raises(InputError, match=r"unknown category 'zzz'.*all-beauty, amazon-fashion"):
        get(category="zzz")
    with pytest.raises(InputError, match="unknown kind '5core'; pass one of raw, rating_only"):
        get("5core")
    assert list(KINDS) == ["raw", "rating_only", "last_out", "last_out_w_his"]
