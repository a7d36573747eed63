"""Public data sets as they are published: what is read, and what a message tells to do."""

import json
from pathlib import Path

import polars as pl
import pytest

from twotower.data.declaration import Declaration
from twotower.data.inspection import inspect, inspection_lines
from twotower.data.prepare import prepare
from twotower.data.readers import ColumnMapping
from twotower.data.readers.dialect import find_dialect
from twotower.data.readers.options import ReadOptions
from twotower.data.settings import PrepareSettings
from twotower.data.summary import summary_lines
from twotower.errors import InputError

ALL = PrepareSettings(k_core=0)
RANDOM = PrepareSettings(k_core=0, split="random")
NEWS = "N1\tnews\tlocal\tOne\tText\thttps://a\t[]\t[]\n"


def behaviors(*clicks: str) -> str:
    return "".join(
        f"{number}\tU1\t11/1{number}/2019 9:05:58 AM\t\t{item}-1 N9-0\n"
        for number, item in enumerate(clicks, 1)
    )


def files(folder: Path, contents: dict[str, str]) -> Path:
    for name, text in contents.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return folder


def test_one_of_several_data_sets_is_not_chosen_in_silence(tmp_path: Path) -> None:
    files(
        tmp_path,
        {
            "MIND_train/behaviors.tsv": behaviors("N1", "N2"),
            "MIND_train/news.tsv": NEWS + NEWS.replace("N1", "N2"),
            "MIND_dev/behaviors.tsv": behaviors("N3"),
            "MIND_dev/news.tsv": NEWS + NEWS.replace("N1", "N3"),
        },
    )
    with pytest.raises(InputError, match=r"more than one data set of mind: MIND_dev/behaviors\.t"):
        prepare(tmp_path)
    # The message says that several paths may be one log; the articles of all are its catalogue.
    both = prepare([tmp_path / "MIND_train", tmp_path / "MIND_dev"], settings=ALL)
    assert both.summary["format"] == "mind"
    assert both.summary["read"] == 3
    assert both.summary["rejected"] == {}
    assert sorted(both.items.ids) == ["N1", "N2", "N3"]


def test_users_of_two_cities_are_not_merged(tmp_path: Path) -> None:
    row = "1\tv{}\tc\tBar\t40.7\t-74.0\t-240\tTue Apr 03 18:00:09 +0000 2012\n"
    files(
        tmp_path,
        {f"dataset_TSMC2014_{city}.txt": row.format(city) for city in ("NYC", "TKY")},
    )
    with pytest.raises(InputError, match="more than one data set of foursquare"):
        prepare(tmp_path)


def test_every_file_of_lists_is_read_where_one_has_lines_of_one_length(tmp_path: Path) -> None:
    files(tmp_path, {"train.txt": "0 5 6 7\n1 5\n", "test.txt": "0 8\n1 9\n"})
    found = prepare(tmp_path, settings=ALL)
    assert found.summary["files"] == ["train.txt.0.parquet", "test.txt.1.parquet"]


def test_the_files_that_a_format_does_not_read_are_named(tmp_path: Path) -> None:
    files(
        tmp_path,
        {
            "ratings.csv": "userId,movieId,rating,timestamp\n1,31,2.5,1260759144\n",
            "movies.csv": "movieId,title,genres\n31,A,Drama\n",
            "tags.csv": "userId,movieId,tag,timestamp\n1,31,funny,1260759144\n",
        },
    )
    assert prepare(tmp_path, settings=ALL).summary["not_read"] == ["tags.csv"]


@pytest.mark.parametrize(
    ("lines", "names"),
    [
        # Steam-200k: a number of nine digits is no time.
        ("151603712,A,purchase,1.0\n151603712,B,play,2.5\n151603713,C,purchase,1.0\n", "user,item"),
        # Ciao: of two columns that could be ratings the last one.
        ("1,13,2,77,5,2008-02-02\n1,14,3,78,4,2008-02-03\n2,13,2,79,1,2008-02-04\n",
         "user,item,x3,x4,rating,time"),
        # Taobao.
        ("".join(f"{n},22{n},25{n},{kind},151154407{n}\n" for n, kind in
                 enumerate(["pv", "pv", "cart", "buy", "pv", "buy"])), "user,item,x3,event,time"),
        # Million songs: one number alone, below which there are only numbers.
        ("b80344d\tSOAKIMP\t1\nb80344d\tSOBBMDR\t2\n85c1f87\tSOAKIMP\t1\n85c1f87\tSOX\t9\n",
         "user,item,rating"),
    ],
)  # fmt: skip
def test_the_columns_that_a_message_suggests_are_those_of_the_values(
    tmp_path: Path, lines: str, names: str
) -> None:
    (tmp_path / "log.txt").write_text(lines)
    with pytest.raises(InputError, match="no header") as caught:
        prepare(tmp_path / "log.txt")
    assert f"--columns {names}" in caught.value.on_command_line


def test_a_header_is_not_taken_for_data() -> None:
    lines = ["user\tkind\tprice\n", *(f"u{n}\tkinds\t{n}\n" for n in range(5))]
    found = find_dialect(Path("x.tsv"), lines, ReadOptions())
    assert found.header == ["user", "kind", "price"]


def test_lines_of_lists_name_the_formats_that_read_them(tmp_path: Path) -> None:
    (tmp_path / "Beauty.txt").write_text("1 5 6 7\n2 7 5\n3 9 1 4\n4 1\n")
    with pytest.raises(InputError, match="no header") as caught:
        prepare(tmp_path / "Beauty.txt")
    assert "--as sequences (oldest first)" in caught.value.on_command_line
    assert prepare(tmp_path, format="sequences", settings=ALL).summary["read"] == 9


def test_a_matrix_says_how_to_make_rows_of_it(tmp_path: Path) -> None:
    row = ",".join(str(n % 7 - 3.5) for n in range(101))
    (tmp_path / "jester-data-1.csv").write_text(f"{row}\n" * 5)
    with pytest.raises(InputError, match=r"of 101 columns; .*melt\('user'"):
        prepare(tmp_path / "jester-data-1.csv")


def test_the_rating_that_means_none(tmp_path: Path) -> None:
    (tmp_path / "rating.csv").write_text("user_id,anime_id,rating\n1,20,-1\n1,24,8\n2,20,10\n")
    before = prepare(tmp_path, settings=RANDOM)
    assert "ratings begin at -1; if that means none, pass --unrated -1" in summary_lines(
        before.summary, cli=True
    )
    after = prepare(tmp_path, settings=RANDOM, options=ReadOptions(unrated=-1))
    assert after.summary["read"] == 3
    assert after.summary["without_rating"] == 1
    assert after.summary["ratings"] == [8, 10]


ORDERS = [
    {"id": 700, "date_created": "2017-03-22T16:28:02", "customer_id": 26, "line_items": [
        {"id": 315, "product_id": 93, "quantity": 2}, {"id": 316, "product_id": 22}]},
    {"id": 701, "date_created": "2017-03-23T16:28:02", "customer_id": 26, "line_items": []},
]  # fmt: skip


def test_items_within_orders_are_rows(tmp_path: Path) -> None:
    path = tmp_path / "orders.json"
    path.write_text(json.dumps(ORDERS))
    with pytest.raises(InputError, match="in lists at 'line_items'") as caught:
        prepare(path)
    assert "pass --explode line_items" in caught.value.on_command_line
    options = ReadOptions(explode=("line_items",))
    found = prepare(path, settings=ALL, options=options)
    assert sorted(found.items.ids) == ["22", "93"]
    assert found.summary["rejected"] == {"item_id: missing": 1}  # an order of nothing
    path.write_text(json.dumps({"orders": ORDERS}))
    with pytest.raises(InputError, match="one object with a list at 'orders'"):
        prepare(path)
    options = ReadOptions(explode=("orders", "line_items"))
    assert sorted(prepare(path, settings=ALL, options=options).items.ids) == ["22", "93"]


def test_items_within_properties_stand_where_those_of_single_events_do(tmp_path: Path) -> None:
    event = {"userId": "u", "timestamp": "2020-01-01T00:00:00Z"}
    rows = [
        event | {"event": "Product Viewed", "properties": {"product_id": "a"}},
        event | {"event": "Order Completed", "properties": {
            "order_id": "5", "products": [{"product_id": "b"}, {"product_id": "c"}]}},
    ]  # fmt: skip
    path = tmp_path / "events.json"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    found = prepare(
        path,
        settings=ALL,
        mapping=ColumnMapping(item="properties.product_id"),
        options=ReadOptions(explode=("properties.products",)),
    )
    assert sorted(found.items.ids) == ["a", "b", "c"]


def test_large_numbers_within_lists_keep_their_digits(tmp_path: Path) -> None:
    first, second = 2**63 + 1, 2**63 + 3
    path = tmp_path / "log.jsonl"
    items = json.dumps([{"sku": first}, {"sku": second}, {"sku": 10**20 + 7}])
    path.write_text(f'{{"user": 1, "time": 1, "items": {items}}}\n' * 2)
    found = prepare(path, settings=ALL, options=ReadOptions(explode=("items",)))
    assert sorted(found.items.ids) == sorted(map(str, (first, second, 10**20 + 7)))


@pytest.mark.parametrize("mark", [";", "|", ",", " ", "; "])
def test_items_in_one_cell_are_rows(tmp_path: Path, mark: str) -> None:
    path = tmp_path / "orders.csv"
    baskets = [("u1", "A B C"), ("u2", "B A"), ("u1", "D"), ("u2", "C D E")]
    rows = [
        f'{user},2020-01-0{day},"{mark.join(items.split())}"\n'
        for day, (user, items) in enumerate(baskets, 1)
    ]
    path.write_text("customer,date,basket\n" + "".join(rows))
    found = prepare(path, settings=ALL, options=ReadOptions(explode=("basket",)))
    assert found.items.ids == tuple("ABCDE")
    assert [found.items.ids[item] for item in found.interactions.row(0)] == list("ABCD")
    if mark != " ":  # texts have blanks too
        with pytest.raises(InputError, match="are in lists at 'basket'") as caught:
            prepare(path, settings=ALL)
        assert "pass --explode basket" in caught.value.on_command_line
        inspected = inspect([path], Declaration())
        assert 'explode = ["basket"]  # a guess' in inspected.toml
        assert 'item = "basket"  # a guess' in inspected.toml


def test_ids_that_look_like_lists_are_reported(tmp_path: Path) -> None:
    path = tmp_path / "orders.csv"
    path.write_text("user,time,sku\n1,1,A;B\n2,2,B;A;C\n1,3,C\n")
    with pytest.raises(InputError, match="of 'sku' look like lists of items, such as 'B;A;C'"):
        prepare(path)  # of which no 5-core is left
    found = prepare(path, settings=ALL)
    assert any("--explode sku" in line for line in summary_lines(found.summary, cli=True))
    path.write_text("user,time,sku\n1,1,x;1\n2,2,x;2\n1,3,y;1\n")  # ids of two parts
    assert "lists" not in prepare(path, settings=ALL).summary


def test_lists_of_a_row_go_side_by_side(tmp_path: Path) -> None:
    path = tmp_path / "orders.csv"
    path.write_text("user,time,sku,qty\n1,1,A;B,2;-1\n2,2,C;D,1\n2,3,[],[]\n")
    found = prepare(path, settings=ALL, options=ReadOptions(explode=("sku", "qty")))
    assert found.items.ids == ("A",)  # B was returned
    assert found.summary["rejected"] == {
        "quantity: not as many as of item_id": 1, "item_id: missing": 1,
    }  # fmt: skip
    with pytest.raises(InputError, match="has no column 'items' of lists; it has 'user'"):
        prepare(path, options=ReadOptions(explode=("items",)))


def test_lists_in_a_frame_are_rows() -> None:
    rows = pl.DataFrame({"user": [1, 2], "time": [1, 2], "item": [[7, 8], [8]]})
    with pytest.raises(InputError, match="it is a list: ReadOptions"):
        prepare(rows, settings=ALL)
    found = prepare(rows, settings=ALL, options=ReadOptions(explode=("item",)))
    assert found.items.ids == ("7", "8")
    assert len(found.interactions.items) == 3


def test_a_table_named_after_what_it_lists_is_the_catalogue(tmp_path: Path) -> None:
    files(
        tmp_path,
        {
            "ratings.csv": "user_id,book_id,rating,timestamp\n1,31,2.5,1260759144\n",
            "books.csv": "book_id,title\n31,Emma\n",
            "games.csv": "game,title\n31,Chess\n",
        },
    )
    found = prepare(tmp_path, settings=ALL)
    assert found.catalogue["title"].to_list() == ["Emma"]
    assert found.summary["not_read"] == ["games.csv"]


def test_the_table_that_is_most_like_a_log_is_the_one_that_is_shown(tmp_path: Path) -> None:
    files(
        tmp_path,
        {
            "campaigns.csv": "DESCRIPTION,CAMPAIGN,START\nTypeB,24,659\n",
            "visits.csv": "guest,product_id,when\n1,2,3\n",
        },
    )
    with pytest.raises(InputError, match=r"visits\.csv, it has 'guest'"):
        prepare(tmp_path)


def test_titles_of_another_encoding_are_not_lost_in_silence(tmp_path: Path) -> None:
    row = "536365,85123A,Mug \xa35,6,12/13/2010 8:26,2.55,17850,UK\n"
    (tmp_path / "OnlineRetail.csv").write_bytes(
        ("InvoiceNo,StockCode,Description,Quantity,InvoiceDate,UnitPrice,CustomerID,Country\n"
         + row * 3).encode("latin-1")
    )  # fmt: skip
    with pytest.raises(InputError, match=r"OnlineRetail\.csv:2: bad UTF-8") as caught:
        prepare(tmp_path)
    assert "pass --encoding latin-1" in caught.value.on_command_line
    found = prepare(tmp_path, settings=ALL, options=ReadOptions(encoding="latin-1"))
    assert found.catalogue["title"].to_list() == ["Mug £5"]


@pytest.mark.parametrize("prices", [["1,99", "2,1", "1,5", "5,1"], ["1,99", "12", "3,12"]])
def test_prices_with_decimal_commas_are_no_lists(tmp_path: Path, prices: list[str]) -> None:
    path = tmp_path / "tickets.csv"
    rows = (f"{n % 3};a{n % 4};{1600000000 + n};{prices[n % len(prices)]}\n" for n in range(40))
    path.write_text("wer;was;wann;unit_price\n" + "".join(rows))
    found = inspect([path], Declaration()).described
    assert "explode" not in found["guesses"]
    assert "cannot determine the user, item and time columns" in found["problem"]


def test_a_preview_shows_values_on_one_line_and_says_where_there_are_none(tmp_path: Path) -> None:
    files(
        tmp_path,
        {
            "log.csv": "user,item,time\n" + "".join(f"u,i{n},{10**9 + n}\n" for n in range(9)),
            "items.csv": "item,title,brand\n" + "".join(f'i{n},"T {n}\nx",\n' for n in range(9)),
        },
    )
    shown = [*inspection_lines(inspect([tmp_path], Declaration()))]
    assert "  title: title, such as T 0 x, T 1 x, T 2 x" in shown
    assert "  store: brand, without a value in the first rows" in shown


def test_a_preview_says_what_keeps_the_first_rows_from_being_read(tmp_path: Path) -> None:
    path = tmp_path / "log.csv"
    path.write_bytes(("user,item,time\n" + "Müller,Größe,1600000000\n" * 9).encode("latin-1"))
    problem = inspect([path], Declaration()).described["problem"]
    assert problem.startswith(f"9 of the first 9 rows of {path} cannot be used; the first is ")
    assert f"{path}:2: bad UTF-8, got 'M" in problem
    assert problem.endswith("save the file as UTF-8, or name its encoding: --encoding latin-1")


def test_a_catalogue_of_another_encoding_names_the_likely_one(tmp_path: Path) -> None:
    titles = ["Клавиатура", "беспроводная", "мышь", "монитор", "наушники", "для", "работы"]
    rows = "".join(f"i{n},{title}\n" for n, title in enumerate(titles))
    (tmp_path / "log.csv").write_text("user,item,time\nu,i1,1600000000\n")
    (tmp_path / "items.csv").write_bytes(f"item,title\n{rows}".encode("cp1251"))
    with pytest.raises(InputError, match="no usable item") as caught:
        prepare(tmp_path, settings=ALL)
    assert "--encoding cp1251" in caught.value.on_command_line


def test_guesses_are_no_dates_of_words_and_no_ids(tmp_path: Path) -> None:
    rows = "".join(
        f"u{n % 3},B0{n % 7},A0{n % 5},{n % 4 + 1},{1600000000 + n}\n" for n in range(60)
    )
    items = "".join(f"B0{n},All Beauty {'xyz'[n % 3]},13 Sep 2020\n" for n in range(7))
    files(
        tmp_path,
        {
            "log.csv": "user_id,parent_asin,asin,behavior_type,timestamp\n" + rows,
            "items.csv": "parent_asin,group,came\n" + items,
        },
    )
    found = inspect([tmp_path], Declaration()).described
    assert found["schema"]["items"]["group"]["kind"] == "category"
    assert found["schema"]["items"]["came"]["kind"] == "date"
    assert set(found["schema"]["events"]) <= {"hour", "weekday"}
    assert sorted(found["guesses"]["kinds"]) == ["1", "2", "3", "4"]


@pytest.mark.parametrize(
    ("log", "catalogue"),
    [
        ("Kundennummer;Artikelnummer;Bestelldatum", "Artikelnummer;Bezeichnung;Preis"),
        ("id_client;id_produit;date_commande", "id_produit;Libellé;Prix"),
        ("cliente_id;producto_id;fecha", "producto_id;Título;precio"),
        ("id_cliente;id_produto;data_compra", "id_produto;título;preço"),
        ("klant_id;productnummer;tijdstip", "productnummer;naam;prijs"),
    ],
)
def test_usual_names_of_other_languages(tmp_path: Path, log: str, catalogue: str) -> None:
    rows = {"log.csv": f"{log}\nk;7;2020-01-02\n", "stock.csv": f"{catalogue}\n7;Schuh;9.5\n"}
    found = prepare(files(tmp_path, rows), settings=ALL)
    assert found.catalogue.select("title", "price").row(0) == ("Schuh", 9.5)


def test_ids_within_objects_are_found_by_their_own_names(tmp_path: Path) -> None:
    rows = [{"userId": "u", "timestamp": 1, "properties": {"product_id": n}} for n in (7, 8)]
    path = tmp_path / "segment.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert prepare(path, settings=ALL).items.ids == ("7", "8")


def test_reviews_of_which_each_value_has_a_line(tmp_path: Path) -> None:
    """BeerAdvocate, RateBeer, Fine Foods and others, as SNAP published them."""
    block = (
        "beer/name: Red\nbeer/beerId: 7\nreview/overall: 13/20\nreview/time: 1157587200\n"
        "review/profileName: {}\nreview/text: Dark: very.\n Caf{} too.\n\n"
    )
    path = tmp_path / "ratebeer.txt"
    path.write_bytes((block.format("ann", "é") + "\n" + block.format("bob", "e")).encode())
    found = prepare(path, settings=ALL, catalogue="log")
    assert found.users.ids == ("ann", "bob")
    assert found.interactions.ratings is not None
    assert found.interactions.ratings.tolist() == [13, 13]
    assert found.catalogue["title"].to_list() == ["Red"]
    path.write_bytes(path.read_bytes().replace("é".encode(), b"\xe9"))
    again = prepare(path, settings=ALL)
    assert again.summary["rejected"] == {"bad UTF-8": 1}
    assert again.summary["examples"]["bad UTF-8"].startswith("ratebeer.txt:1:")
