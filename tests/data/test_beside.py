"""Catalogue and users beside a log, found by the ids that they list."""

from pathlib import Path

import pytest

from twotower.data.declaration import Declaration
from twotower.data.inspection import inspect
from twotower.data.prepare import prepare
from twotower.data.readers import ReadOptions
from twotower.data.settings import PrepareSettings

ALL = PrepareSettings(k_core=0, split="random")


def made(folder: Path, item: str = "recipe_id", items: int = 30) -> Path:
    """A log of some items, and its folder."""
    rows = (f"u{n % 7},{n % items + 500},{1_600_000_000 + n}\n" for n in range(120))
    (folder / "views.csv").write_text(f"user_id,{item},time\n" + "".join(rows))
    return folder


def table(path: Path, header: str, ids: range, rest: str = "Soup {0},{0}") -> None:
    path.write_text(header + "\n" + "".join(f"{n},{rest.format(n)}\n" for n in ids))


def test_a_table_with_the_items_of_the_log_is_its_catalogue(tmp_path: Path) -> None:
    table(made(tmp_path) / "RAW_recipes.csv", "id,name,minutes", range(490, 540))
    table(tmp_path / "other_recipes.csv", "id,name,minutes", range(510))  # of another log
    found = prepare(tmp_path, settings=ALL)
    assert found.summary["catalogue"]["file"] == "RAW_recipes.csv"
    assert found.catalogue["title"][10] == "Soup 500"
    assert found.summary["not_read"] == ["other_recipes.csv"]
    none = prepare(tmp_path, settings=ALL, catalogue="none")
    assert "catalogue" not in none.summary


@pytest.mark.parametrize(
    ("name", "header", "ids"),
    [
        ("chefs.csv", "id,name,minutes", range(490, 540)),  # ids of something else
        ("recipes.csv", "id,name,minutes", range(520, 600)),  # a third of the items
        ("steps.csv", "recipe_id,name,minutes", [*range(500, 530)] * 2),  # several rows of each
    ],
)
def test_other_tables_are_not(tmp_path: Path, name: str, header: str, ids: range) -> None:
    table(made(tmp_path) / name, header, ids)
    found = prepare(tmp_path, settings=ALL)
    assert "catalogue" not in found.summary
    assert found.summary["not_read"] == [name]


def test_ids_alone_describe_nothing(tmp_path: Path) -> None:
    (made(tmp_path) / "candidates.csv").write_text(
        "recipe_id\n" + "".join(f"{n}\n" for n in range(500, 530))
    )
    assert "catalogue" not in prepare(tmp_path, settings=ALL).summary


def test_of_several_tables_the_one_with_titles_is_taken(tmp_path: Path) -> None:
    header = "recipe_id,description,tags,price"
    table(made(tmp_path) / "a.csv", header, range(500, 530), "long,soup,1")
    table(tmp_path / "b.csv", "recipe_id,name,x", range(500, 530))
    assert prepare(tmp_path, settings=ALL).catalogue["title"][0] == "Soup 500"


def test_items_of_all_files_of_a_log_count(tmp_path: Path) -> None:
    for month in range(12):
        ids = range(500 + 10 * month, 510 + 10 * month)
        rows = "".join(f"u{n % 3},{n},{1_600_000_000 + n}\n" for n in ids)
        (tmp_path / f"{month}.csv").write_text("user_id,game_id,time\n" + rows)
    table(tmp_path / "first.csv", "game_id,name,x", range(500, 520))
    assert "catalogue" not in prepare(tmp_path, settings=ALL).summary


def test_a_preview_proposes_the_table_of_users(tmp_path: Path) -> None:
    made(tmp_path)
    (tmp_path / "user_features.csv").write_text(
        "user_id,age\n" + "".join(f"u{n},{20 + n}\n" for n in range(9))
    )
    found = inspect([tmp_path], Declaration())
    assert found.described["users"]["file"] == "user_features.csv"
    assert 'users = "user_features.csv"' in found.toml


def test_unusual_names_that_end_in_usual_ones_are_proposed(tmp_path: Path) -> None:
    path = tmp_path / "clicks.csv"
    path.write_text(
        "user_id,session_id,click_article_id,click_timestamp\n"
        "7,1506825423271737,31,1506826800026\n8,1506825423271738,32,1506826800027\n"
    )
    found = inspect([path], Declaration()).described
    assert found["guesses"] == {"time": "click_timestamp", "item": "click_article_id"}
    assert "--column item=click_article_id --column time=click_timestamp" in found["problem"]


def test_rows_in_a_list_of_an_object_beside_others(tmp_path: Path) -> None:
    """Spotify's million playlists: an object with a list of playlists, each with its tracks."""
    tracks = [{"pos": n, "track_uri": f"spotify:{n}"} for n in range(3)]
    lists = [{"pid": pid, "tracks": tracks} for pid in (1, 2)]
    file = tmp_path / "mpd.slice.0-999.json"
    file.write_text(str({"info": {"slice": "0-999"}, "playlists": lists}).replace("'", '"'))
    with pytest.raises(Exception, match="is one object with a list at 'playlists'"):
        prepare(file, settings=ALL)
    options = ReadOptions(explode=("playlists", "tracks"))
    declaration = Declaration(columns={"user": "pid", "order": "pos"}, prepare=ALL, read=options)
    assert len(prepare(file, declaration=declaration).interactions.items) == 6


def test_counts_of_interactions_are_no_proposed_features(tmp_path: Path) -> None:
    header, rest = "recipe_id,name,minutes,vote_count,price", "Soup {0},{0},{0},9"
    table(made(tmp_path) / "recipes.csv", header, range(500, 530), rest)
    found = inspect([tmp_path], Declaration())
    assert list(found.described["schema"]["items"]) == ["minutes", "price"]
    assert "# Not proposed as features: vote_count." in found.toml
