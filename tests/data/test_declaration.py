import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from support import histories
from twotower.data import Dataset, Part
from twotower.data.declaration import Declaration, declared, read_declaration
from twotower.data.inspection import inspect, inspection_lines
from twotower.data.locate import located
from twotower.data.prepare import prepare
from twotower.data.readers import ColumnMapping
from twotower.data.settings import PrepareSettings
from twotower.errors import InputError

ALL = PrepareSettings(k_core=0)
HEADER = "user,item,time\n"


def write(folder: Path, **files: str) -> Path:
    for name, text in files.items():
        path = folder / name.replace("___", "/").replace("__", ".")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder


def test_a_declaration_beside_the_log_is_read(tmp_path: Path) -> None:
    write(
        tmp_path,
        log__csv="who;what;at\nu;b;02.01.2020\nu;a;01.01.2020\n",
        things__csv="sku;name\na;A\nb;B\n",
        people__csv="who;age\nu;7\n",
        dataset__toml="""
name = "mine"
log = "log.csv"
catalogue = "things.csv"
users = "people.csv"
[columns]
user = "who"
item = "what"
time = "at"
catalogue_item = "sku"
[read]
separator = ";"
time_format = "%d.%m.%Y"
[read_catalogue]
separator = ";"
[prepare]
k_core = 0
""",
    )
    for source in (tmp_path, tmp_path / "dataset.toml", tmp_path / "log.csv"):
        dataset = prepare(source)
        assert dataset.name == "mine"
        assert histories(dataset) == {"u": ["a", "b"]}
        assert dataset.catalogue["title"].to_list() == ["A", "B"]
        assert dataset.user_table is not None
        assert dataset.user_table.columns == ["user_id", "age"]
    named = prepare(tmp_path, name="other", mapping=ColumnMapping(item="what"))
    assert named.name == "other"  # the caller overrides the file


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            'nam = "x"',
            "dataset.toml: nam: unknown key, got 'x'; did you mean name? it is one of name, as, ",
        ),
        ('[columns]\nwho = "x"', "columns.who: unknown key, got 'x'; it is one of user, item"),
        ('[read]\nsep = ";"', "read.sep: unknown key, got ';'; it is one of format, "),
        ("[prepare]\nk_core = -1", "prepare.k_core: Input should be greater than or equal to 0"),
        ('[read]\nencoding = "x"', "read.encoding: no such encoding"),
        ("name = ", "dataset.toml cannot be read (Invalid value"),
        ('log = "no*.csv"', "nothing matches"),
        ('catalogue = "no.csv"', "catalogue no.csv does not exist"),
        ('users = "no.csv"', "users no.csv does not exist"),
        ('as = "ml"', "unknown format 'ml'; it is one of movielens-100k"),
    ],
)
def test_a_declaration_that_does_not_fit_is_one_line(
    tmp_path: Path, text: str, message: str
) -> None:
    write(tmp_path, log__csv=HEADER + "u,i,1\n", dataset__toml=text)
    with pytest.raises(InputError) as refused:
        prepare(tmp_path)
    assert message in " ".join(str(refused.value).split())


def test_a_declaration_is_written_as_it_is_read(tmp_path: Path) -> None:
    values: dict[str, Any] = {
        "name": 'a "b" \\ c', "as": "movielens", "log": ["a*.csv", "b.csv"],
        "columns": {"user": "u ser"},
        "read": {"separator": "\t", "header": False, "rating_scale": [1, 10], "min_rating": 2.5},
        "prepare": {"split": {"kind": "random", "seed": 3}, "k_core": 0},
    }  # fmt: skip
    declaration = declared(values, "x")
    (tmp_path / "dataset.toml").write_text(declaration.to_toml())
    assert read_declaration(tmp_path / "dataset.toml") == declaration


def test_a_later_declaration_overrides_an_earlier_one() -> None:
    under = declared({"columns": {"user": "a", "item": "b"}, "prepare": {"k_core": 3}}, "x")
    over = declared({"columns": {"item": "c"}, "read": {"separator": ";"}}, "y")
    both = under.overridden_by(over)
    assert both.columns == ColumnMapping(user="a", item="c")
    assert both.prepare.k_core == 3
    assert both.read.separator == ";"
    assert under.overridden_by(Declaration()) == under


def test_files_with_the_same_columns_are_one_log(tmp_path: Path) -> None:
    write(
        tmp_path,
        m___a__csv=HEADER + "u,x,1\n",
        m___b__csv="time,user,item\n2,u,y\n",
        m___tags__csv="item,tag\nx,fun\n",
        n___c__csv=HEADER + "v,z,3\n",
    )
    expected = {"u": ["x", "y"]}
    folder = prepare(tmp_path / "m", settings=ALL)
    assert histories(folder) == expected
    assert folder.summary["not_read"] == ["tags.csv"]
    paths = [tmp_path / "m" / "a.csv", tmp_path / "m" / "b.csv"]
    assert histories(prepare(paths, settings=ALL)) == expected
    assert histories(prepare(str(tmp_path / "m" / "[ab].csv"), settings=ALL)) == expected
    both = prepare([*paths, tmp_path / "n"], settings=ALL)
    assert histories(both) == {**expected, "v": ["z"]}
    with pytest.raises(InputError, match=r"^nothing matches .*q\*\.csv; give the paths of files"):
        prepare(str(tmp_path / "q*.csv"))


def test_hive_folders_are_one_log_and_their_keys_columns(tmp_path: Path) -> None:
    for day, user in (("2020-01-02", "u"), ("2020-01-01", "u"), ("2020-01-03", "v")):
        folder = tmp_path / f"date={day}" / "country=DE"
        folder.mkdir(parents=True)
        rows = pl.DataFrame({"user": [user], "item": [f"i{day[-1]}"]})
        rows.write_parquet(folder / "part-0.parquet")
        (folder / "_SUCCESS").touch()
    dataset = prepare(tmp_path, settings=ALL)
    assert histories(dataset) == {"u": ["i1", "i2"], "v": ["i3"]}
    assert dataset.summary["columns"]["ignored"] == ["country"]
    by_country = prepare(tmp_path, settings=ALL, mapping=ColumnMapping(item="country"))
    assert by_country.items.ids == ("DE",)


@pytest.mark.parametrize(
    "names",
    [
        ("train.csv", "valid.csv", "test.csv"),
        ("train-00000-of-00001.csv", "validation-00000-of-00001.csv", "test-00000-of-00001.csv"),
        ("train/part-0.csv", "valid/part-0.csv", "test/part-0.csv"),
    ],
)
def test_parts_in_many_files_are_the_split(tmp_path: Path, names: tuple[str, ...]) -> None:
    for number, name in enumerate(names):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(f"{HEADER}u,i{number},{number}\n")
    dataset = prepare(tmp_path, settings=ALL)
    assert dataset.split.tolist() == [Part.TRAIN, Part.VALIDATION, Part.TEST]


def test_items_described_in_the_log_are_a_catalogue(tmp_path: Path) -> None:
    log = "user,item,time,title,price\nu,a,1,,3\nu,b,2,B,\nv,a,3,A,4\n"
    write(tmp_path, log__csv=log)
    with located([tmp_path], declared({"catalogue": "log"}, "x")) as found:
        assert found.catalogue is not None
    dataset = prepare(
        tmp_path, declaration=declared({"catalogue": "log", "prepare": {"k_core": 0}}, "x")
    )
    assert dataset.catalogue.select("item_id", "title", "price").rows() == [
        ("a", "A", 3.0),
        ("b", "B", None),
    ]
    none = declared({"catalogue": "none", "prepare": {"k_core": 0}}, "x")
    write(tmp_path, items__csv="item,title\na,Other\n")
    assert prepare(tmp_path, declaration=none).items.ids == ("a", "b")


def test_users_are_kept_in_the_order_of_the_data_set(tmp_path: Path) -> None:
    write(
        tmp_path,
        log__csv=HEADER + "1,a,1\n2,a,2\n3,a,3\n",
        people__csv="id,age,city\n3,30,X\n1,10,\n1,11,again\n,99,none\n9,90,Z\n",
    )
    dataset = prepare(tmp_path / "log.csv", users=tmp_path / "people.csv", settings=ALL)
    assert dataset.user_table is not None
    assert dataset.user_table.select("user_id", "age").rows() == [
        ("1", "10"), ("2", None), ("3", "30"),
    ]  # fmt: skip
    counts = dataset.summary["user_table"]
    assert (counts["read"], counts["without_id"], counts["repeated"], counts["missing"]) == (
        5,
        1,
        1,
        1,
    )
    again = Dataset.load(dataset.save(tmp_path / "out"))
    assert again.user_table is not None
    assert again.user_table.equals(dataset.user_table)
    without = prepare(tmp_path / "log.csv", settings=ALL)
    assert without.fingerprint != dataset.fingerprint
    write(tmp_path, people__csv="who\n1\n")
    with pytest.raises(InputError, match="cannot determine the id column of"):
        prepare(tmp_path / "log.csv", users=tmp_path / "people.csv")


def test_inspect_guesses_what_names_do_not_tell(tmp_path: Path) -> None:
    rows = "".join(
        f"c{n % 5},s{n % 7},2020-01-{n % 28 + 1:02} 10:00,{('view', 'buy')[n % 2]}\n"
        for n in range(60)
    )
    write(
        tmp_path,
        log__csv="kaeufer,sku,wann,art\n" + rows,
        items__csv="sku,name,merkmale,seit\n"
        + "".join(f's{n},N{n},"[""a""]",2020-01-01\n' for n in range(7)),
        users__csv="kaeufer,age\nc1,5\n",
    )
    found = inspect([tmp_path], Declaration())
    assert found.described["guesses"] == {
        "time": "wann", "event": "art", "kinds": ["view", "buy"], "user": "kaeufer",
    }  # fmt: skip
    assert any("problem: cannot determine the user" in line for line in inspection_lines(found))
    (tmp_path / "dataset.toml").write_text(found.toml)
    again = inspect([tmp_path], Declaration())
    assert again.described["guesses"] == {
        "kinds": ["view", "buy"], "category": "merkmale", "released": "seit",
    }  # fmt: skip
    assert again.described["catalogue"]["file"] == "items.csv"
    (tmp_path / "dataset.toml").write_text(again.toml)
    dataset = prepare(tmp_path, settings=ALL)
    assert len(dataset.users) == 5
    assert dataset.user_table is not None
    assert dataset.catalogue["released"].null_count() == 0
    json.dumps(again.described)


def test_inspect_names_the_format(tmp_path: Path) -> None:
    write(
        tmp_path,
        ratings__csv="userId,movieId,rating,timestamp\n1,2,4.0,964982703\n",
        movies__csv="movieId,title,genres\n2,T,Drama\n",
        tags__csv="userId,movieId,tag,timestamp\n1,2,fun,964982703\n",
    )
    found = inspect([tmp_path], Declaration())
    assert found.described["format"] == "movielens"
    assert 'as = "movielens"' in found.toml
    (tmp_path / "dataset.toml").write_text(found.toml)
    assert prepare(tmp_path, settings=ALL).summary["format"] == "movielens"


def test_a_prepared_data_set_is_no_log(tmp_path: Path) -> None:
    write(tmp_path, log__csv=HEADER + "u,a,1\n")
    prepare(tmp_path / "log.csv", settings=ALL, out=tmp_path / "out")
    with pytest.raises(InputError, match=r"out is a prepared data set, not a log; give it to --da"):
        prepare(tmp_path / "out")
