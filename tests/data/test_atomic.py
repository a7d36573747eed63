"""Atomic publication: a reader finds the old artefact or the new, never a part."""

import os
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from twotower.data import atomic
from twotower.data.atomic import atomic_file, atomic_folder
from twotower.errors import InputError

SCRIPT = Path(__file__).with_name("killed_publication.py")


def write(target: Path, content: str) -> None:
    with atomic_folder(target) as temporary:
        (temporary / "manifest.json").write_text(content)
        (temporary / "inner").mkdir()
        (temporary / "inner" / "file").write_text(content)


@pytest.fixture(params=["exchange", "two-renames"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Both ways to replace a folder."""
    if request.param == "two-renames":
        monkeypatch.setattr(atomic, "_exchange_in_one_step", lambda *_: False)
    return str(request.param)


def killed_at_each_step(folder: Path, way: str) -> list[list[str]]:
    done = subprocess.run(
        [sys.executable, SCRIPT, folder, way], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    return [line.split() for line in done.stdout.splitlines()]


def test_killed_at_any_step_the_folder_is_the_old_or_the_new_one(tmp_path: Path) -> None:
    steps = killed_at_each_step(tmp_path, "exchange")
    assert len(steps) > 10
    found = [step[1] for step in steps]
    assert set(found) == {"old", "new"}
    assert found == sorted(found, reverse=True)  # once new, it stays new
    assert {tuple(step[2:]) for step in steps} == {("old", "bundle")}  # nothing is left


def test_where_nothing_can_be_exchanged_the_next_run_finds_the_old_one(tmp_path: Path) -> None:
    steps = killed_at_each_step(tmp_path, "two-renames")
    found = [step[1] for step in steps]
    assert found.count("FileNotFoundError") == 1  # between the two renames, as documented
    assert set(found) == {"old", "new", "FileNotFoundError"}
    assert {tuple(step[2:]) for step in steps} == {("old", "bundle")}


def test_the_folder_moved_aside_is_moved_back_before_anything_else(tmp_path: Path) -> None:
    write(tmp_path / "bundle", "old")
    (tmp_path / "bundle").rename(tmp_path / ".bundle.old.twotower")
    with pytest.raises(RuntimeError), atomic_folder(tmp_path / "bundle"):
        raise RuntimeError
    assert (tmp_path / "bundle" / "manifest.json").read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["bundle"]


def test_all_is_synced_before_it_is_published(
    tmp_path: Path, way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "bundle"
    write(target, "old")
    steps: list[tuple[str, str]] = []

    def watched(name: str, original: Callable[..., object]) -> Callable[..., object]:
        def call(first: object, *rest: object) -> object:
            inode = os.fstat(first).st_ino if isinstance(first, int) else 0
            steps.append((name, str(inode)))
            return original(first, *rest)

        return call

    monkeypatch.setattr(os, "fsync", watched("sync", os.fsync))
    published = "_exchange_in_one_step" if way == "exchange" else "_replace_folder"
    monkeypatch.setattr(atomic, published, watched("publish", getattr(atomic, published)))
    write(target, "new")
    monkeypatch.undo()
    when = [name for name, _ in steps].index("publish")
    before = {inode for _, inode in steps[:when]}
    after = {inode for _, inode in steps[when + 1 :]}
    assert {str(path.stat().st_ino) for path in (target, *target.rglob("*"))} <= before
    assert str(tmp_path.stat().st_ino) in after


def test_a_file_is_synced_unless_it_need_not_be(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[int] = []
    monkeypatch.setattr(os, "fsync", synced.append)
    for durable, times in ((True, 2), (False, 0)):
        synced.clear()
        with atomic_file(tmp_path / "file", durable=durable) as temporary:
            temporary.write_text("x")
        assert len(synced) == times


def test_a_failure_leaves_what_there_was(tmp_path: Path, way: str) -> None:
    write(tmp_path / "bundle", "old")
    for publish in (atomic_folder, atomic_file):
        with pytest.raises(FileNotFoundError), publish(tmp_path / "bundle") as temporary:
            (temporary / "no folder" / "manifest.json").write_text("new")
    assert (tmp_path / "bundle" / "manifest.json").read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["bundle"]


def test_what_a_killed_writer_left_is_removed(tmp_path: Path) -> None:
    for slot in (0, 2):
        left = tmp_path / f".result.json.{slot}.twotower"
        left.mkdir()
        (left / "result.json").write_text("half")
    others = tmp_path / ".results.0.twotower"
    others.mkdir()
    with atomic_file(tmp_path / "result.json") as temporary:
        temporary.write_text("whole")
    assert (tmp_path / "result.json").read_text() == "whole"
    assert sorted(path.name for path in tmp_path.iterdir()) == [others.name, "result.json"]


def test_writers_at_once_keep_apart(tmp_path: Path, way: str) -> None:
    target = tmp_path / "bundle"
    failed: list[BaseException] = []

    def writer(number: int) -> None:
        try:
            for _ in range(20):
                write(target, str(number))
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=writer, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []
    found = {path.read_text() for path in target.rglob("*") if path.is_file()}
    assert len(found) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["bundle"]


def test_a_link_stays_a_link(tmp_path: Path) -> None:
    write(tmp_path / "first", "old")
    (tmp_path / "current").symlink_to("first")
    write(tmp_path / "current", "new")
    assert (tmp_path / "current").is_symlink()
    assert (tmp_path / "first" / "manifest.json").read_text() == "new"


def test_a_strangers_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(InputError, match="was not written by twotower; choose another folder"):
        write(tmp_path, "new")
    assert (tmp_path / "notes.txt").read_text() == "mine"
