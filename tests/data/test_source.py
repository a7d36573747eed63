import gzip
from pathlib import Path

import polars as pl
import pytest

from twotower.data import Part
from twotower.data.readers import ColumnMapping, Source, read_source
from twotower.errors import InputError

REVIEW = '{"user_id": "u", "parent_asin": "B1", "asin": "B0", "rating": 5.0, "timestamp": 1}\n'
META = '{"parent_asin": "B1", "title": "One"}\n'
BENCHMARK = "user_id,parent_asin,rating,timestamp\nu,B1,5.0,1600000000000\n"


def write(folder: Path, **files: str) -> Path:
    """``a__b`` stands for ``a.b``, ``a___b`` for ``a/b``."""
    for name, text in files.items():
        path = folder / name.replace("___", "/").replace("__", ".")
        path.parent.mkdir(parents=True, exist_ok=True)
        data = text.encode()
        path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    return folder


def names(source: Source) -> tuple[list[tuple[str, Part | None]], str | None]:
    catalogue = source.catalogue.path.name if source.catalogue else None
    return [(log.path.name, log.part) for log in source.logs], catalogue


@pytest.mark.parametrize(
    ("reviews", "meta", "point"),
    [
        ("reviews__jsonl", "meta__jsonl", "."),
        ("Video_Games__jsonl__gz", "meta_Video_Games__jsonl__gz", "."),
        (
            "review_categories___Video_Games__jsonl__gz",
            "meta_categories___meta_Video_Games__jsonl__gz",
            ".",
        ),
        ("reviews__jsonl", "meta__jsonl", "reviews.jsonl"),
        ("Video_Games__jsonl", "meta_Video_Games__jsonl", "Video_Games"),
    ],
)
def test_amazon_raw(tmp_path: Path, reviews: str, meta: str, point: str) -> None:
    source = read_source(write(tmp_path, **{reviews: REVIEW, meta: META}) / point)
    assert source.kind == "amazon-2023-raw"
    assert source.logs[0].columns["item_id"] == "parent_asin"
    assert source.catalogue is not None
    assert not source.has_parts


def test_amazon_benchmark_parts_of_one_category(tmp_path: Path) -> None:
    folder = write(
        tmp_path,
        **{
            f"{category}__{part}__csv__gz": BENCHMARK
            for category in ("Video_Games", "Books")
            for part in ("train", "valid", "test")
        },
    )
    source = read_source(folder / "Video_Games")
    assert source.kind == "amazon-2023-benchmark"
    assert names(source)[0] == [
        ("Video_Games.train.csv.gz", Part.TRAIN),
        ("Video_Games.valid.csv.gz", Part.VALIDATION),
        ("Video_Games.test.csv.gz", Part.TEST),
    ]
    with pytest.raises(InputError, match=r"more than one log: Books.test.csv.gz.*path of one"):
        read_source(folder)


@pytest.mark.parametrize("kind", ["rating_only", "last_out"])
def test_a_folder_as_the_download_leaves_it(tmp_path: Path, kind: str) -> None:
    parts = ["train__", "valid__", "test__"] if kind == "last_out" else [""]
    files = {f"{kind}___Video_Games__{part}csv__gz": BENCHMARK for part in parts}
    folder = write(tmp_path, **files, meta_categories___meta_Video_Games__jsonl__gz=META)
    source = read_source(folder)
    assert source.has_parts == (kind == "last_out")
    assert names(source)[1] == "meta_Video_Games.jsonl.gz"
    write(tmp_path, review_categories___Video_Games__jsonl__gz=REVIEW)
    message = rf"more than one kind of log: review_categories, {kind}; give the path of one"
    with pytest.raises(InputError, match=message):
        read_source(folder)


def test_histories_that_have_an_order_and_no_time(tmp_path: Path) -> None:
    log = pl.DataFrame({"user_id": ["u"], "parent_asin": ["B1"], "position": [0]})
    log.write_parquet(tmp_path / "interactions.parquet")
    pl.DataFrame({"parent_asin": ["B1"]}).write_parquet(tmp_path / "items.parquet")
    source = read_source(tmp_path)
    assert names(source) == ([("interactions.parquet", None)], "items.parquet")
    assert source.logs[0].columns["order"] == "position"


def test_recbole_atomic_files(tmp_path: Path) -> None:
    write(
        tmp_path,
        ml__inter="user_id:token\titem_id:token\ttimestamp:float\n1\t2\t3\n",
        ml__item="item_id:token\tmovie_title:token_seq\n2\tToy\n",
        ml__user="user_id:token\tage:token\n1\t24\n",
        README__md="hello",
    )
    source = read_source(tmp_path)
    assert source.kind == "recbole"
    assert names(source) == ([("ml.inter", None)], "ml.item")
    assert source.catalogue is not None
    assert source.catalogue.columns["title"] == "movie_title"


def test_train_and_test_need_no_order(tmp_path: Path) -> None:
    for part in ("train", "test"):
        pl.DataFrame({"user": [0], "item": [0]}).write_parquet(tmp_path / f"{part}.parquet")
    source = read_source(tmp_path)
    assert names(source) == ([("train.parquet", Part.TRAIN), ("test.parquet", Part.TEST)], None)


def test_a_catalogue_elsewhere(tmp_path: Path) -> None:
    write(tmp_path, log__csv="user,item,time\nu,i,1\n", elsewhere___things__csv="id,name\ni,I\n")
    source = read_source(tmp_path / "log.csv", catalogue=tmp_path / "elsewhere" / "things.csv")
    assert source.catalogue is not None
    assert source.catalogue.columns == {"item_id": "id", "title": "name"}
    with pytest.raises(InputError, match=r"catalogue .*none.csv does not exist"):
        read_source(tmp_path / "log.csv", catalogue=tmp_path / "none.csv")


def test_columns_by_mapping(tmp_path: Path) -> None:
    write(tmp_path, log__csv="wer;was;wann;nr\nu;i;1;2\n")
    mapping = ColumnMapping(user="wer", item="was", order="nr")
    source = read_source(tmp_path / "log.csv", mapping)
    assert source.logs[0].columns == {"user_id": "wer", "item_id": "was", "order": "nr"}


def test_a_named_order_goes_before_a_usual_time(tmp_path: Path) -> None:
    write(tmp_path, log__csv="user,item,time,nr\nu,i,1,2\n")
    assert "timestamp" in read_source(tmp_path).columns
    assert "order" in read_source(tmp_path, ColumnMapping(order="nr")).columns


def test_time_and_order_exclude_each_other() -> None:
    with pytest.raises(ValueError, match="time and order are both given \\('t' and 'o'\\)"):
        ColumnMapping(time="t", order="o")


@pytest.mark.parametrize(
    ("header", "mapping", "message"),
    [
        (
            "wer,item,time",
            ColumnMapping(),
            r"cannot determine the user column of .*log.csv, it has 'wer', 'item', 'time'; "
            r"name it: ColumnMapping\(user='…'\)",
        ),
        (
            "Session_Id,item,time",
            ColumnMapping(),
            r"name it: ColumnMapping\(user='Session_Id'\)",
        ),
        ("user,was,time", ColumnMapping(), r"cannot determine the item column .*\(item='…'\)"),
        (
            "user,item,time",
            ColumnMapping(rating="stars"),
            r"log.csv has no column 'stars'; it has 'user', 'item', 'time'; name one of them",
        ),
    ],
)
def test_a_column_that_is_not_recognised(
    tmp_path: Path, header: str, mapping: ColumnMapping, message: str
) -> None:
    write(tmp_path, log__csv=f"{header}\nu,i,1\n")
    with pytest.raises(InputError, match=message):
        read_source(tmp_path, mapping)


def test_a_catalogue_without_an_item_column(tmp_path: Path) -> None:
    write(tmp_path, log__csv="user,item,time\nu,i,1\n", items__csv="code,name\ni,I\n")
    with pytest.raises(InputError, match=r"catalogue item column of .*items.csv, it has 'code'"):
        read_source(tmp_path)


def test_nothing_recognised(tmp_path: Path) -> None:
    write(tmp_path, notes__docx="x", a__txt="y")
    with pytest.raises(InputError, match=r"no interaction log .* it holds a.txt, notes.docx; give"):
        read_source(tmp_path)
    with pytest.raises(InputError, match=r"user, item and time columns of .*a\.txt, it has 'y'"):
        read_source(tmp_path / "a.txt")
    with pytest.raises(InputError, match="absent does not exist"):
        read_source(tmp_path / "absent")


def test_two_logs_are_one_too_many(tmp_path: Path) -> None:
    write(tmp_path, a__csv="user,item,time\n", b__csv="buyer_id,item,time\n")
    with pytest.raises(InputError, match=r"more than one log: a.csv, b.csv; give the path of one"):
        read_source(tmp_path)


def test_tables_of_the_same_columns_are_one_log(tmp_path: Path) -> None:
    write(tmp_path, a__csv="user,item,time\n", b__csv="time,user,item\n", c__csv="item,tag\n")
    assert names(read_source(tmp_path))[0] == [("a.csv", None), ("b.csv", None)]


def test_parts_with_different_columns(tmp_path: Path) -> None:
    write(tmp_path, train__csv="user,item,time\nu,i,1\n", test__csv="user,item\nu,i\n")
    with pytest.raises(InputError, match=r"test.csv has .*; give every part the same columns"):
        read_source(tmp_path)


def test_a_file_that_is_no_parquet(tmp_path: Path) -> None:
    write(tmp_path, log__parquet="user,item\n")
    with pytest.raises(InputError, match=r"log.parquet is not a readable Parquet file"):
        read_source(tmp_path)


def test_a_log_named_like_a_catalogue_is_not_its_own(tmp_path: Path) -> None:
    write(tmp_path, products__csv="user,item,time\nu,i,1\n")
    assert read_source(tmp_path / "products.csv").catalogue is None


def test_an_item_of_any_name_is_the_column_that_log_and_catalogue_share(tmp_path: Path) -> None:
    log = "listener,piece,played_at\nu,B1,1600000000\n"
    found = read_source(write(tmp_path, log__csv=log, items__csv="piece,track_name\nB1,One\n"))
    assert found.logs[0].columns["item_id"] == "piece"
    assert found.catalogue is not None
    assert found.catalogue.columns == {"item_id": "piece", "title": "track_name"}


@pytest.mark.parametrize(
    ("log", "items"),
    [
        ("listener,piece,medium\nu,B1,cd\n", "piece,medium\nB1,cd\n"),  # it may be either
        ("listener,price,played_at\nu,3,1600000000\n", "price,track_name\n3,One\n"),
    ],
)
def test_what_may_be_something_else_is_no_item(tmp_path: Path, log: str, items: str) -> None:
    with pytest.raises(InputError, match="cannot determine the item"):
        read_source(write(tmp_path, log__csv=log, items__csv=items))


def test_a_catalogue_has_its_id_before_names_of_products(tmp_path: Path) -> None:
    log = "user,product_id\nu,1\n"
    items = "id,product_name,brand_name,publication_year\n1,One,Acme,1999\n"
    found = read_source(write(tmp_path, log__csv=log, items__csv=items)).catalogue
    assert found is not None
    assert found.columns == {
        "item_id": "id", "title": "product_name", "store": "brand_name",
        "released": "publication_year",
    }  # fmt: skip
