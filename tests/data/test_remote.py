"""Files by URL, on fsspec's file system in memory."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from twotower.data.prepare import prepare
from twotower.data.remote import fetched, is_empty, is_url, local_input, local_output
from twotower.errors import InputError

fsspec = pytest.importorskip("fsspec", reason="fsspec is of the extra 'scale'")


@pytest.fixture
def memory() -> Iterator[Any]:
    """The file system behind ``memory://``, empty before and after."""
    files = fsspec.filesystem("memory")
    files.store.clear()
    files.pseudo_dirs[:] = [""]
    yield files
    files.store.clear()
    files.pseudo_dirs[:] = [""]


@pytest.fixture
def stored(memory: Any, shop: Path) -> str:
    """``shop`` as a folder of a bucket: the log in two files, the catalogue beside them."""
    log = pl.read_csv(shop / "interactions.csv")
    for part, rows in enumerate((log[:300], log[300:])):
        memory.pipe(f"/bucket/shop/log-{part}.csv", rows.write_csv().encode())
    memory.put_file(str(shop / "items.csv"), "/bucket/shop/items.csv")
    return "memory://bucket/shop"


SETTINGS: Any = {"k_core": 0}


def local_copy(memory: Any, folder: Path) -> Path:
    for file in memory.find("/bucket/shop"):
        memory.get_file(file, str(folder / file.rpartition("/")[2]))
    return folder


def test_a_path_is_no_url() -> None:
    assert is_url("hdfs://name:9000/log")
    assert is_url("memory://x")
    assert not any(
        map(is_url, ("data/log.csv", "C:/log.csv", "a://b/c".lstrip("a"), Path("s3:/b")))
    )


def test_a_path_is_used_as_it_is(tmp_path: Path) -> None:
    with local_input(str(tmp_path)) as same, local_output(tmp_path / "out.csv") as out:
        assert (same, out) == (tmp_path, tmp_path / "out.csv")


def test_a_folder_is_copied_with_what_is_in_it(memory: Any) -> None:
    memory.pipe("/bucket/model/manifest.json", b"{}")
    memory.pipe("/bucket/model/index/vectors.npy", b"123")
    with local_input("memory://bucket/model/") as copy:
        assert copy.name == "model"
        assert (copy / "index" / "vectors.npy").read_bytes() == b"123"
        assert (copy / "manifest.json").read_bytes() == b"{}"
    assert not copy.exists()


def test_all_matches_of_a_pattern_are_copied(stored: str, tmp_path: Path) -> None:
    names = [copy.name for copy in fetched(f"{stored}/log-*.csv", tmp_path)]
    assert names == ["log-0.csv", "log-1.csv"]
    with local_input(f"{stored}/log-*.csv") as folder:
        assert sorted(copy.name for copy in folder.iterdir()) == names


def test_an_output_is_uploaded_when_it_is_whole(memory: Any) -> None:
    url = "memory://bucket/new/rows.csv"

    def fail() -> None:
        with local_output(url) as path:
            path.write_text("half")
            raise RuntimeError("on the way")

    with pytest.raises(RuntimeError, match="on the way"):
        fail()
    assert not memory.exists("/bucket/new/rows.csv")
    with local_output(url) as path:
        path.write_text("whole")
        assert path.name == "rows.csv"
    assert memory.cat("/bucket/new/rows.csv") == b"whole"


def test_whether_a_folder_has_files(stored: str, tmp_path: Path) -> None:
    assert not is_empty(stored)
    assert is_empty(f"{stored}/missing")
    assert is_empty(tmp_path)
    assert is_empty(tmp_path / "missing")
    (tmp_path / "file").touch()
    assert not is_empty(tmp_path)


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("memory://bucket/none.csv", "^memory://bucket/none.csv does not exist; give the URL of"),
        ("memory://bucket/none-*.csv", r"^memory://bucket/none-\*.csv does not exist"),
        ("nosuch://bucket/log.csv", "^nosuch://bucket/log.csv cannot be reached"),
    ],
)
def test_an_url_that_leads_nowhere(memory: Any, url: str, message: str) -> None:
    with pytest.raises(InputError, match=message), local_input(url):
        pass


def test_without_fsspec_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("twotower.data.remote.find_spec", lambda _: None)
    with (
        pytest.raises(
            InputError, match=r"needs the package fsspec.*pip install 'twotower\[scale\]'"
        ),
        local_input("s3://bucket/log.csv"),
    ):
        pass


def test_a_folder_by_url_makes_the_data_set_of_its_copy(
    memory: Any, stored: str, tmp_path: Path
) -> None:
    there = prepare(stored, settings=SETTINGS)
    folder = tmp_path / "shop"
    folder.mkdir()
    here = prepare(local_copy(memory, folder), settings=SETTINGS)
    assert there.fingerprint == here.fingerprint
    assert there.name == here.name == "shop"
    assert there.summary == here.summary


def test_files_by_url_with_a_catalogue_of_their_own(stored: str) -> None:
    given = prepare(f"{stored}/log-*.csv", catalogue=f"{stored}/items.csv", settings=SETTINGS)
    assert given.fingerprint == prepare(stored, settings=SETTINGS).fingerprint
    assert given.summary["declaration"]["catalogue"] == f"{stored}/items.csv"


def test_errors_name_the_url(memory: Any) -> None:
    memory.pipe("/bucket/strange.csv", b"wer,was\n1,2\n")
    with pytest.raises(InputError, match=r"memory://bucket/strange\.csv") as refused:
        prepare("memory://bucket/strange.csv")
    assert "twotower-copies" not in str(refused.value)


def test_what_is_unpacked_here_is_not_read_elsewhere(shop: Path, tmp_path: Path) -> None:
    archive = shutil.make_archive(str(tmp_path / "shop"), "zip", shop)
    with pytest.raises(InputError, match="shop is unpacked or converted first, which is done on"):
        prepare(archive, mapper=lambda function, work: map(function, work))
