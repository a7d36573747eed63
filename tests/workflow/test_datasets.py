from pathlib import Path

import pytest

from twotower.data import Part
from twotower.errors import InputError
from twotower.workflow.datasets import find_dataset
from twotower.workflow.progress import Silent
from twotower.workflow.run import prepared_dataset


def test_a_path_is_taken_with_the_usual_settings(tmp_path: Path) -> None:
    path, settings = find_dataset(str(tmp_path))
    assert path == tmp_path
    assert settings.k_core == 5


def test_a_name_is_looked_for_in_the_data_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TWOTOWER_DATA", str(tmp_path))
    (tmp_path / "video-games-2023").mkdir()
    path, settings = find_dataset("video-games")
    assert path == tmp_path / "video-games-2023"
    assert settings.k_core == 0  # the public histories are filtered already


def test_the_sample_needs_no_data_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TWOTOWER_DATA", raising=False)
    path, _ = find_dataset("sample")
    assert (path / "interactions.parquet").exists()


def test_the_official_split_is_taken_as_its_files_say(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TWOTOWER_DATA", str(tmp_path))
    with pytest.raises(
        InputError, match=r"; run twotower download video-games --kind last_out --out .*official$"
    ):
        find_dataset("official")
    folder = tmp_path / "video-games-official"
    folder.mkdir()
    for time, part in enumerate(("train", "valid", "test"), start=1):
        rows = [f"U{user},I{(user + time) % 4},5.0,{time}000" for user in range(4)]
        text = "\n".join(["user_id,parent_asin,rating,timestamp", *rows])
        (folder / f"Video_Games.{part}.csv").write_text(text)
    source, settings = find_dataset("official")
    dataset = prepared_dataset(source, tmp_path / "out", settings, Silent())
    assert [len(dataset.part(part).items) for part in Part] == [4, 4, 4]


def test_what_is_not_there_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(
        InputError,
        match=r"^data set 'nowhere' not found: nowhere does not exist; "
        r"pass a path, or one of sample, video-games, official, ml-100k, gowalla$",
    ):
        find_dataset("nowhere")
    monkeypatch.setenv("TWOTOWER_DATA", str(tmp_path))
    with pytest.raises(
        InputError, match=r"^data set 'gowalla' not found: .*gowalla does not exist"
    ):
        find_dataset("gowalla")
    monkeypatch.delenv("TWOTOWER_DATA")
    with pytest.raises(
        InputError,
        match=r"^data set 'gowalla' is looked for in the folder that TWOTOWER_DATA names, "
        r"which is not set; set TWOTOWER_DATA, or pass the path of the data set itself$",
    ):
        find_dataset("gowalla")


def test_a_folder_of_a_known_name_is_taken_where_no_other_can_be(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("TWOTOWER_DATA", raising=False)
    for name in ("gowalla", "sample"):
        (tmp_path / name).mkdir()
    assert find_dataset("gowalla")[0] == Path("gowalla")
    assert find_dataset("sample")[0] != Path("sample")
    (tmp_path / "data" / "gowalla").mkdir(parents=True)
    monkeypatch.setenv("TWOTOWER_DATA", str(tmp_path / "data"))
    assert find_dataset("gowalla")[0] == tmp_path / "data" / "gowalla"
