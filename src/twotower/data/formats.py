"""Registry of published data sets: their file names, columns and read options.

`register` adds your own. Formats whose files are not tables name a converter of
`twotower.data.reshape`.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, Final, NamedTuple

from twotower.config import Config
from twotower.data.readers.tables import table_suffix, uncompressed_name
from twotower.errors import InputError

_DEEPEST: Final = 3
"""Depth of the folder search; archives usually unpack into one or two levels."""
_MOST: Final = 20_000
"""Maximum number of files considered."""


class Format(Config):
    """One published data set, or a family with the same layout."""

    name: str
    """Name for ``--as``."""
    about: str
    """What it is and where it comes from."""
    log: tuple[str, ...]
    """Patterns of the log's file names: ``*`` matches anything, ``{x}`` anything that recurs in
    the names of other files, a slash is a folder separator. The files that match the first
    matching pattern are one log. Compression suffixes are ignored."""
    together: bool = False
    """Whether files that match any of the patterns form one log."""
    but: tuple[str, ...] = ()
    """Patterns of files that are not the log."""
    has: tuple[str, ...] = ()
    """Columns that distinguish the log from others with such a name; case is ignored."""
    lines: str | None = None
    """Regular expression for the first lines of a log without a header."""
    uneven: bool = False
    """Whether at least one log file must have lines with different numbers of words."""
    beside: tuple[str, ...] = ()
    """Further files, at least one of which must be present."""
    by_name_only: bool = False
    """Whether it is used only on request, because other data sets have such names and columns."""
    columns: Mapping[str, str] = {}
    """Column names, as for `ColumnMapping`."""
    read: Mapping[str, Any] = {}
    """How the log is read, as for `ReadOptions`."""
    shape: str | None = None
    """Converter for files that are not an interaction table: a key of `reshape.SHAPES`."""
    catalogue: tuple[str, ...] = ()
    """Patterns of the catalogue's file names."""
    read_catalogue: Mapping[str, Any] = {}
    """How the catalogue is read."""
    catalogue_shape: str | None = None
    """Converter for files that are not an item table."""
    items_in_log: Mapping[str, str] = {}
    """Canonical name → log column that describes items, if there is no catalogue."""
    users: tuple[str, ...] = ()
    """Patterns of the users file name."""
    read_users: Mapping[str, Any] = {}
    """How the users file is read."""
    user: str | None = None
    """Id column of the users file, if named differently from the log's."""
    split: str | None = None
    """The split to use, for logs without times."""


class FormatFiles(NamedTuple):
    """Files of a data set in a known format."""

    format: Format
    logs: tuple[Path, ...]
    catalogue: tuple[Path, ...]
    users: Path | None


_LATIN: Final = {"encoding": "latin-1"}
_RANDOM: Final = "random"
_REVIEWS: Final = {
    "user": "reviewerID", "item": "asin", "rating": "overall", "time": "unixReviewTime",
}  # fmt: skip
_REVIEWS_2023: Final = {"user": "user_id", "item": "parent_asin", "time": "timestamp"}
_BOOKS: Final = {
    "user": "User-ID", "item": "ISBN", "rating": "Book-Rating", "catalogue_item": "ISBN",
    "title": "Book-Title", "store": "Publisher", "released": "Year-Of-Publication",
    "image": "Image-URL-L",
}  # fmt: skip
_OLIST_JOIN: Final = {
    "olist_orders_dataset.csv": "order_id", "olist_customers_dataset.csv": "customer_id",
}  # fmt: skip
_STEAM_GAMES: Final = {
    "catalogue_item": "id", "title": "app_name", "category": "genres", "price": "price",
    "store": "developer", "released": "release_date",
}  # fmt: skip


def _names(*names: str, **read: str) -> dict[str, Any]:
    """Read options of a text table without a header."""
    return {"header": False, "names": names, **read}


FORMATS: Final[list[Format]] = [
    Format(
        name="movielens-100k",
        about="MovieLens 100K (GroupLens): u.data, u.item, u.user",
        lines=r"\S+\t\S+\t[\d.]+\t\d+",
        log=("u.data",),
        read=_names("user_id", "item_id", "rating", "timestamp", separator="\t"),
        catalogue=("u.item",),
        catalogue_shape="flagged-movies",
        users=("u.user",),
        read_users=_names("user_id", "age", "gender", "occupation", "zip_code", separator="|"),
    ),
    Format(
        name="movielens-1m",
        about="MovieLens 1M (GroupLens): ratings.dat, movies.dat, users.dat",
        lines=r"\d+::\d+::[\d.]+::\d+",
        log=("ratings.dat",),
        beside=("users.dat",),
        read=_names("user_id", "movie_id", "rating", "timestamp", separator="::"),
        catalogue=("movies.dat",),
        read_catalogue=_names("movie_id", "title", "genres", separator="::", **_LATIN),
        users=("users.dat",),
        read_users=_names(
            "user_id", "gender", "age", "occupation", "zip_code", separator="::", **_LATIN,
        ),
    ),
    Format(
        name="movielens-10m",
        about="MovieLens 10M (GroupLens): ratings.dat, movies.dat",
        lines=r"\d+::\d+::[\d.]+::\d+",
        log=("ratings.dat",),
        beside=("movies.dat",),
        read=_names("user_id", "movie_id", "rating", "timestamp", separator="::"),
        catalogue=("movies.dat",),
        read_catalogue=_names("movie_id", "title", "genres", separator="::"),
    ),
    Format(
        name="movielens",
        about="MovieLens 20M, 25M, 32M and latest (GroupLens): ratings.csv, movies.csv",
        log=("ratings.csv",),
        has=("userId", "movieId", "rating", "timestamp"),
        columns={"user": "userId", "item": "movieId", "rating": "rating", "time": "timestamp"},
        catalogue=("movies.csv",),
    ),
    Format(
        name="amazon-2014",
        about="Amazon 2014 (McAuley): reviews_<Category>[_5].json, meta_<Category>.json",
        log=("reviews_{category}_5.json", "reviews_{category}.json"),
        has=("reviewerID", "asin"),
        columns=_REVIEWS,
        catalogue=("meta_{category}.json",),
        catalogue_shape="amazon-products",
    ),
    Format(
        name="amazon-2014-ratings",
        about="Amazon 2014, ratings alone (McAuley): ratings_<Category>.csv, meta_<Category>.json",
        lines=r"[^,]+,[^,]+,[\d.]+,\d+",
        log=("ratings_{category}.csv",),
        read=_names("user", "asin", "rating", "timestamp"),
        catalogue=("meta_{category}.json",),
        catalogue_shape="amazon-products",
    ),
    Format(
        name="amazon-2018",
        about="Amazon 2018 (Ni): <Category>[_5].json, meta_<Category>.json",
        log=("{category}_5.json", "{category}.json"),
        but=("meta_*",),
        has=("reviewerID", "asin"),
        columns=_REVIEWS,
        catalogue=("meta_{category}.json",),
        catalogue_shape="amazon-products",
    ),
    Format(
        name="amazon-2018-ratings",
        about="Amazon 2018, ratings alone (Ni): <Category>.csv, with the item first",
        lines=r"(B[0-9A-Z]{9}|\d{9}[\dX]),A[0-9A-Z]{8,},\d(\.\d)?,\d+",
        log=("{category}.csv",),
        but=("meta_*",),
        read=_names("asin", "user", "rating", "timestamp"),
        catalogue=("meta_{category}.json",),
        catalogue_shape="amazon-products",
    ),
    Format(
        name="amazon-2023",
        about="Amazon Reviews 2023, raw (McAuley Lab): <Category>.jsonl, meta_<Category>.jsonl",
        log=("review_categories/{category}.jsonl", "{category}.jsonl"),
        but=("meta*",),
        by_name_only=True,
        has=("user_id", "parent_asin", "rating", "timestamp"),
        columns=_REVIEWS_2023,
        catalogue=("meta_{category}.jsonl", "meta_categories/meta_{category}.jsonl"),
    ),
    Format(
        name="amazon-2023-huggingface",
        about="Amazon Reviews 2023 as Hugging Face writes it: raw_review_<Category>, "
        "raw_meta_<Category>",
        log=("raw_review_{category}/*.parquet", "raw_review_{category}*.parquet"),
        has=("user_id", "parent_asin"),
        columns=_REVIEWS_2023,
        catalogue=("raw_meta_{category}/*.parquet", "raw_meta_{category}*.parquet"),
    ),
    Format(
        name="amazon-2023-benchmark",
        about="Amazon Reviews 2023, benchmark (McAuley Lab): <Category>[.train|.valid|.test].csv",
        log=(
            "{category}.train.csv", "{category}.valid.csv", "{category}.test.csv",
            "{category}.csv",
        ),
        together=True,
        by_name_only=True,
        has=("user_id", "parent_asin", "rating", "timestamp"),
        columns=_REVIEWS_2023,
        catalogue=("meta_{category}.jsonl", "meta_categories/meta_{category}.jsonl"),
    ),
    Format(
        name="retailrocket",
        about="RetailRocket (Kaggle): events.csv, item_properties_part<n>.csv, category_tree.csv",
        log=("events.csv",),
        has=("visitorid", "itemid", "event"),
        columns={
            "user": "visitorid", "item": "itemid", "time": "timestamp",
            "catalogue_item": "itemid", "category": "category",
        },
        catalogue=("item_properties*.csv", "category_tree.csv"),
        catalogue_shape="item-properties",
    ),
    Format(
        name="hm",
        about="H&M (Kaggle): transactions_train.csv, articles.csv, customers.csv",
        log=("transactions_train.csv",),
        has=("customer_id", "article_id", "t_dat"),
        columns={
            "user": "customer_id", "item": "article_id", "time": "t_dat",
            "catalogue_item": "article_id", "title": "prod_name", "description": "detail_desc",
            "category": "product_type_name",
        },
        catalogue=("articles.csv",),
        users=("customers.csv",),
    ),
    Format(
        name="instacart",
        about="Instacart (Kaggle): orders.csv, order_products__prior.csv, products.csv …",
        log=("orders.csv", "order_products__prior.csv", "order_products__train.csv"),
        together=True,
        beside=("order_products__prior.csv", "order_products__train.csv"),
        columns={
            "user": "user_id", "item": "product_id", "order": "position",
            "catalogue_item": "product_id", "title": "product_name", "category": "aisle",
        },
        shape="ordered-products",
        catalogue=("products.csv", "aisles.csv", "departments.csv"),
        catalogue_shape="grocery-products",
    ),
    Format(
        name="olist",
        about="Olist, Brazilian shops (Kaggle): olist_order_items_dataset.csv, "
        "olist_orders_dataset.csv, olist_customers_dataset.csv …",
        log=("olist_order_items_dataset.csv",),
        has=("order_id", "product_id", "customer_id"),
        columns={
            "user": "customer_unique_id", "item": "product_id", "time": "order_purchase_timestamp",
            "catalogue_item": "product_id", "category": "product_category_name",
        },
        read={"join": _OLIST_JOIN},
        catalogue=("olist_products_dataset.csv",),
        users=("olist_customers_dataset.csv",),
    ),
    Format(
        name="rees46",
        about="REES46 eCommerce behaviour (Kaggle): 2019-Oct.csv, 2019-Nov.csv …",
        log=("20??-???.csv",),
        has=("event_time", "event_type", "product_id", "user_id"),
        columns={"user": "user_id", "item": "product_id", "time": "event_time"},
        items_in_log={"category": "category_code", "store": "brand", "price": "price"},
    ),
    Format(
        name="online-retail-2",
        about="Online Retail II (UCI): the sheets as CSV",
        log=("*.csv",),
        has=("Invoice", "StockCode", "Quantity", "InvoiceDate", "Customer ID"),
        columns={"user": "Customer ID", "item": "StockCode", "time": "InvoiceDate"},
        items_in_log={"title": "Description", "price": "Price"},
    ),
    Format(
        name="online-retail",
        about="Online Retail (UCI): the sheet as CSV, with dates as 12/1/2010 8:26",
        log=("*.csv",),
        has=("InvoiceNo", "StockCode", "Quantity", "InvoiceDate", "CustomerID"),
        columns={"user": "CustomerID", "item": "StockCode", "time": "InvoiceDate"},
        read={"time_format": "%m/%d/%Y %H:%M"},
        items_in_log={"title": "Description", "price": "UnitPrice"},
    ),
    Format(
        name="yelp",
        about="Yelp Open Dataset: yelp_academic_dataset_review.json, …_business.json, …_user.json",
        log=("yelp_academic_dataset_review.json",),
        columns={
            "user": "user_id", "item": "business_id", "rating": "stars", "time": "date",
            "catalogue_item": "business_id", "title": "name", "category": "categories",
            "average_rating": "stars", "rating_count": "review_count",
        },
        catalogue=("yelp_academic_dataset_business.json",),
        users=("yelp_academic_dataset_user.json",),
    ),
    Format(
        name="steam",
        about="Steam (Kang and McAuley): steam_reviews.json, steam_games.json, as Python dicts",
        has=("username", "product_id"),
        log=("steam_reviews.json",),
        columns={"user": "username", "item": "product_id", "time": "date", **_STEAM_GAMES},
        catalogue=("steam_games.json",),
    ),
    Format(
        name="steam-owned",
        about="Steam, Australian users (Pathak): australian_users_items.json, steam_games.json",
        log=("australian_users_items.json",),
        read={"explode": ("items",)},
        columns={"user": "user_id", "item": "item_id", **_STEAM_GAMES},
        catalogue=("steam_games.json",),
        split=_RANDOM,
    ),
    Format(
        name="steam-reviews",
        about="Steam, Australian users (Pathak): australian_user_reviews.json, steam_games.json",
        log=("australian_user_reviews.json",),
        columns={
            "user": "user_id", "item": "item_id", "rating": "recommend", "time": "posted",
            **_STEAM_GAMES,
        },
        read={"explode": ("reviews",), "time_format": "Posted %B %d, %Y."},
        catalogue=("steam_games.json",),
    ),
    Format(
        name="goodreads",
        about="Goodreads (UCSD): goodreads_interactions_<genre>.json, goodreads_books_<genre>.json",
        has=("user_id", "book_id"),
        log=(
            "goodreads_interactions_{genre}.json", "goodreads_interactions_dedup.json",
            "goodreads_reviews_{genre}.json", "goodreads_reviews_dedup.json",
        ),
        columns={
            "user": "user_id", "item": "book_id", "rating": "rating", "time": "date_added",
            "catalogue_item": "book_id", "title": "title", "description": "description",
            "image": "image_url", "average_rating": "average_rating",
            "rating_count": "ratings_count", "store": "publisher", "released": "publication_year",
        },
        read={"time_format": "%a %b %d %H:%M:%S %z %Y", "unrated": 0},
        catalogue=("goodreads_books_{genre}.json", "goodreads_books.json"),
    ),
    Format(
        name="goodreads-csv",
        about="Goodreads (UCSD): goodreads_interactions.csv, which has no times",
        log=("goodreads_interactions.csv",),
        has=("user_id", "book_id"),
        columns={"user": "user_id", "item": "book_id", "rating": "rating"},
        read={"unrated": 0},
        split=_RANDOM,
    ),
    Format(
        name="otto",
        about="OTTO (Kaggle): otto-recsys-train.jsonl or train.jsonl, a session a line",
        log=("otto-recsys-train.jsonl", "train.jsonl"),
        has=("session", "aid", "ts"),
        read={"explode": ("events",)},
        columns={"user": "session", "item": "aid", "time": "ts"},
    ),
    Format(
        name="diginetica",
        about="Diginetica (CIKM Cup 2016): train-item-views.csv, products.csv, "
        "product-categories.csv",
        log=("train-item-views.csv",),
        shape="viewed-items",
        columns={
            "user": "session", "item": "itemId", "time": "time", "catalogue_item": "itemId",
            "title": "name_tokens", "category": "category",
        },
        catalogue=("products.csv", "product-categories.csv"),
        catalogue_shape="priced-products",
    ),
    Format(
        name="yoochoose",
        about="YooChoose (RecSys Challenge 2015): yoochoose-clicks.dat",
        log=("yoochoose-clicks.dat",),
        read=_names("session", "timestamp", "item", "category", separator=","),
        columns={"user": "session", "item": "item", "time": "timestamp"},
    ),
    Format(
        name="yoochoose-events",
        about="YooChoose: yoochoose-clicks.dat and yoochoose-buys.dat as kinds of one log",
        log=("yoochoose-clicks.dat", "yoochoose-buys.dat"),
        together=True,
        by_name_only=True,
        shape="clicks-and-buys",
        columns={"user": "session", "item": "item", "time": "timestamp", "event": "event"},
    ),
    Format(
        name="mind",
        about="MIND (Microsoft News): behaviors.tsv, news.tsv",
        lines=r"[^\t]*\t[^\t]+\t\d+/\d+/\d{4} [^\t]*\t[^\t]*\t.*",
        log=("behaviors.tsv",),
        shape="clicked-news",
        columns={
            "user": "user", "item": "item", "order": "position", "catalogue_item": "news_id",
            "title": "title", "category": "subcategory", "description": "abstract",
        },
        catalogue=("news.tsv",),
        catalogue_shape="news",
    ),
    Format(
        name="lastfm-1k",
        about="Last.fm 1K: userid-timestamp-artid-artname-traid-traname.tsv; artists are the items",
        log=("userid-timestamp-artid-artname-traid-traname.tsv",),
        read=_names(
            "user_id", "timestamp", "artist_id", "artist", "track_id", "track", separator="\t",
            quote="none",
        ),
        columns={"user": "user_id", "item": "artist", "time": "timestamp"},
        items_in_log={"title": "artist"},
        users=("userid-profile.tsv",),
        user="#id",
        read_users={"separator": "\t"},
    ),
    Format(
        name="lastfm-360k",
        about="Last.fm 360K: usersha1-artmbid-artname-plays.tsv, which has no times; artists are "
        "the items",
        log=("usersha1-artmbid-artname-plays.tsv",),
        read=_names("user_id", "artist_id", "artist", "plays", separator="\t", quote="none"),
        columns={"user": "user_id", "item": "artist"},
        items_in_log={"title": "artist"},
        users=("usersha1-profile.tsv",),
        read_users=_names(
            "user_id", "gender", "age", "country", "signup", separator="\t", quote="none",
        ),
        split=_RANDOM,
    ),
    Format(
        name="gowalla",
        about="Gowalla and Brightkite (SNAP): loc-gowalla_totalCheckins.txt",
        log=("loc-*_totalCheckins.txt",),
        read=_names("user", "time", "latitude", "longitude", "location", separator="\t"),
        columns={"user": "user", "item": "location", "time": "time"},
    ),
    Format(
        name="foursquare",
        about="Foursquare NYC and Tokyo (Yang): dataset_TSMC2014_NYC.txt",
        log=("dataset_TSMC2014_{city}.txt",),
        read=_names(
            "user", "venue", "category_id", "category_name", "latitude", "longitude",
            "offset_minutes", "time", separator="\t", quote="none",
            time_format="%a %b %d %H:%M:%S %z %Y", **_LATIN,
        ),
        columns={"user": "user", "item": "venue", "time": "time"},
        items_in_log={"category": "category_name"},
    ),
    Format(
        name="book-crossing",
        about="Book-Crossing: BX-Book-Ratings.csv, BX-Books.csv, BX-Users.csv; it has no times",
        log=("BX-Book-Ratings.csv",),
        has=("User-ID", "ISBN"),
        read={"separator": ";", "unrated": 0, **_LATIN},
        columns=_BOOKS,
        catalogue=("BX-Books.csv",),
        read_catalogue={"separator": ";", "escape": "\\", **_LATIN},
        users=("BX-Users.csv",),
        read_users={"separator": ";", "escape": "\\", **_LATIN},
        split=_RANDOM,
    ),
    Format(
        name="book-crossing-csv",
        about="Book-Crossing as on Kaggle: Ratings.csv, Books.csv, Users.csv; it has no times",
        log=("Ratings.csv",),
        has=("User-ID", "ISBN"),
        read={"unrated": 0},
        columns=_BOOKS,
        catalogue=("Books.csv",),
        users=("Users.csv",),
        split=_RANDOM,
    ),
    Format(
        name="lastfm-2k",
        about="Last.fm 2K (HetRec 2011): user_artists.dat, artists.dat; it has no times",
        log=("user_artists.dat",),
        has=("userID", "artistID", "weight"),
        read={"separator": "\t"},
        columns={
            "user": "userID", "item": "artistID", "catalogue_item": "id", "title": "name",
        },
        catalogue=("artists.dat",),
        read_catalogue={"separator": "\t", "quote": "none"},
        split=_RANDOM,
    ),
    Format(
        name="million-songs",
        about="Million Song Dataset, Echo Nest taste profiles: train_triplets.txt, "
        "unique_tracks.txt; it has no times",
        lines=r"[0-9a-f]{40}\tSO\w+\t\d+",
        log=("train_triplets.txt", "kaggle_visible_evaluation_triplets.txt"),
        read=_names("user", "song", "plays", separator="\t"),
        columns={
            "user": "user", "item": "song", "catalogue_item": "song", "title": "title",
            "store": "artist",
        },
        catalogue=("unique_tracks.txt",),
        read_catalogue=_names("track", "song", "artist", "title", separator="<SEP>", quote="none"),
        split=_RANDOM,
    ),
    Format(
        name="netflix",
        about="Netflix Prize: combined_data_1.txt … (Kaggle) or training_set/mv_0000001.txt …",
        lines=r"\d+:|\d+,\d,\d{4}-\d\d-\d\d",
        log=("combined_data_?.txt", "mv_*.txt"),
        shape="rated-movies",
        columns={
            "user": "user", "item": "movie", "rating": "rating", "time": "date",
            "catalogue_item": "movie", "title": "title", "released": "year",
        },
        catalogue=("movie_titles.csv", "movie_titles.txt"),
        catalogue_shape="movie-titles",
    ),
    Format(
        name="steam-200k",
        about="Steam video games (Tamber): steam-200k.csv, purchases and hours of play; it has "
        "no times",
        lines=r"\d+,.+,(purchase|play),[\d.]+,0",
        log=("steam-200k.csv",),
        read=_names("user", "game", "behavior", "hours", "zero"),
        columns={"user": "user", "item": "game"},
        split=_RANDOM,
    ),
    Format(
        name="taobao",
        about="Taobao (Tianchi): UserBehavior.csv, with pv, cart, fav and buy",
        lines=r"\d+,\d+,\d+,(pv|cart|fav|buy),-?\d+",
        log=("UserBehavior.csv",),
        read=_names("user_id", "item_id", "category_id", "behavior", "timestamp"),
        items_in_log={"category": "category_id"},
    ),
    Format(
        name="tmall",
        about="Tmall repeat buyers (Tianchi): user_log_format1.csv; times are month and day",
        log=("user_log_format1.csv",),
        has=("user_id", "item_id", "time_stamp", "action_type"),
        columns={"user": "user_id", "item": "item_id", "order": "time_stamp"},
        items_in_log={"category": "cat_id"},
        users=("user_info_format1.csv",),
    ),
    Format(
        name="kuairec",
        about="KuaiRec: big_matrix.csv, kuairec_caption_category.csv, user_features.csv",
        log=("big_matrix.csv",),
        has=("user_id", "video_id", "watch_ratio"),
        columns={
            "user": "user_id", "item": "video_id", "time": "timestamp",
            "catalogue_item": "video_id", "title": "caption",
            "category": "first_level_category_name",
        },
        catalogue=("kuairec_caption_category.csv",),
        users=("user_features.csv",),
    ),
    Format(
        name="dunnhumby",
        about="Dunnhumby, The Complete Journey: transaction_data.csv, product.csv, "
        "hh_demographic.csv; times are numbers of days",
        log=("transaction_data.csv",),
        has=("household_key", "PRODUCT_ID", "DAY"),
        columns={
            "user": "household_key", "item": "PRODUCT_ID", "time": "DAY",
            "catalogue_item": "PRODUCT_ID", "title": "SUB_COMMODITY_DESC",
            "category": "COMMODITY_DESC", "store": "BRAND",
        },
        read={"time_unit": "d"},
        catalogue=("product.csv",),
        users=("hh_demographic.csv",),
    ),
    Format(
        name="ncf",
        about="NCF (He): <name>.train.rating, <name>.test.rating, with times",
        lines=r"\d+\t\d+\t[\d.]+\t\d+",
        log=("{name}.train.rating", "{name}.test.rating"),
        together=True,
        read=_names("user", "item", "rating", "timestamp", separator="\t"),
    ),
    Format(
        name="ncf-implicit",
        about="NCF (He): <name>.train.rating, <name>.test.rating, without times",
        lines=r"\d+\t\d+\t[\d.]+",
        log=("{name}.train.rating", "{name}.test.rating"),
        together=True,
        read=_names("user", "item", "rating", separator="\t"),
    ),
    Format(
        name="recbole",
        about="RecBole atomic files: <name>.inter, <name>.item, <name>.user",
        log=(
            "{name}.train.inter", "{name}.valid.inter", "{name}.test.inter", "{name}.inter",
        ),
        together=True,
        by_name_only=True,
        catalogue=("{name}.item",),
        users=("{name}.user",),
    ),
    Format(
        name="lightgcn",
        about="NGCF and LightGCN: train.txt and test.txt, 'user item item …' in no order",
        lines=r"\d+( \d+)* ?",
        uneven=True,
        log=("train.txt", "test.txt"),
        together=True,
        beside=("test.txt",),
        shape="sets",
        columns={"user": "user", "item": "item"},
    ),
    Format(
        name="sequences",
        about="SASRec and S3Rec: 'user item item …' or 'user item' a line, oldest first",
        log=("*.txt",),
        by_name_only=True,
        shape="sequences",
        columns={"user": "user", "item": "item", "order": "position"},
    ),
]  # fmt: skip
"""All known formats; the first match is used."""


def register(entry: Format) -> None:
    """Add a format with precedence over the existing ones; one of the same name is replaced."""
    FORMATS[:] = [entry, *(known for known in FORMATS if known.name != entry.name)]


def named_format(name: str) -> Format:
    """A format by name; `InputError` if there is none."""
    found = next((entry for entry in FORMATS if entry.name == name), None)
    if found is None:
        raise InputError(
            f"unknown format {name!r}",
            f"it is one of {', '.join(entry.name for entry in FORMATS)}",
        )
    return found


def files_of(
    entry: Format, path: Path, names: Mapping[str, Path], is_log: Callable[[Path], bool]
) -> FormatFiles | None:
    """The files of a format in a folder or beside a given log; None if a required file is missing.

    ``names`` is `tables_below` of the folder; ``is_log`` checks a log by more than its name.

    Raises
    ------
    InputError
        If the folder holds several data sets of the format.
    """
    folder = path.parent if path.is_file() else path
    values: dict[str, str] = {}
    if not path.is_file():
        logs = [names[name] for name in _logs(entry, folder, names, values, is_log)]
    else:
        _match(entry.log, [_relative_name(path, folder)], values)
        logs = [path]
        if entry.shape is not None and entry.together:  # for example, orders and their products
            logs = [names[name] for name in _logs(entry, folder, names, values, is_log)] or logs
    if not logs or (entry.beside and not _match(entry.beside, names, {})):
        return None
    catalogue, users = _match(entry.catalogue, names, values), _match(entry.users, names, values)
    if not catalogue and path.is_file() and entry.catalogue:  # review_categories/X, meta_categories
        near = tables_below(folder.parent, deepest=1)
        names = {**names, **{f"/{name}": file for name, file in near.items()}}
        catalogue = _match(entry.catalogue, names, values)
    return FormatFiles(
        entry,
        tuple(logs),
        tuple(names[name] for name in catalogue),
        names[users[0]] if users else None,
    )


def matches(entry: Format, file: Path) -> bool:
    """Whether a file is named like a log of the format."""
    named = [_relative_name(file, file.parent)]
    return bool(_match(entry.log, named, {})) and not _match(entry.but, named, {})


def _logs(
    entry: Format,
    folder: Path,
    names: Mapping[str, Path],
    values: dict[str, str],
    is_log: Callable[[Path], bool],
) -> list[str]:
    """Names of the log's files, all with the same values of ``{x}``."""
    left = [
        name
        for name, path in names.items()
        if _match(entry.log, [name], {}) and not _match(entry.but, [name], {}) and is_log(path)
    ]
    choices = [entry.log] if entry.together else [(pattern,) for pattern in entry.log]
    for patterns in choices:
        found = _match(patterns, left, values)
        if found:
            others = set(left).difference(found)
            if not values:
                others = {name for name in others if name.count("/") == found[0].count("/")}
            more = _match(patterns, others, {})
            if more:
                raise InputError(
                    f"{folder} holds more than one data set of {entry.name}: "
                    f"{', '.join([found[0], *more][:10])}",
                    "give the path of one, or of several whose users and items have the same ids",
                )
            return found
    return []


def tables_below(folder: Path, deepest: int = _DEEPEST) -> dict[str, Path]:
    """Relative path without compression suffix → table below a folder; the nearest one wins."""
    found = sorted(_files(folder, deepest), key=lambda path: (len(path.parts), str(path)))
    return {_relative_name(path, folder): path for path in reversed(found[:_MOST])}


def _files(folder: Path, deepest: int) -> Iterator[Path]:
    for inner in folder.iterdir():
        if inner.name.startswith("."):
            continue
        if inner.is_dir():
            if deepest:
                yield from _files(inner, deepest - 1)
        elif table_suffix(inner) or uncompressed_name(inner).endswith(".user"):
            yield inner


def _relative_name(path: Path, folder: Path) -> str:
    within = path.relative_to(folder)
    return (within.parent / path.name[: len(uncompressed_name(path))]).as_posix()


def _match(patterns: Sequence[str], names: Iterable[str], values: dict[str, str]) -> list[str]:
    """Matching names, in pattern order.

    The first match fixes the folder and the values of ``{x}``.
    """
    found: dict[str, None] = {}
    folder: str | None = None
    for pattern in patterns:
        matching = ((name, match) for name in names if (match := _compiled(pattern).search(name)))
        for name, match in sorted(matching, key=lambda pair: (pair[0].count("/"), pair[0])):
            if name in found or folder not in (None, match["folder"]):
                continue
            bound = {key: value for key, value in match.groupdict().items() if key != "folder"}
            if all(values.get(key, value) == value for key, value in bound.items()):
                folder = match["folder"]
                values.update(bound)
                found[name] = None
    return list(found)


@cache
def _compiled(pattern: str) -> re.Pattern[str]:
    text = ""
    for piece in re.split(r"(\*|\?|\{\w+\})", pattern):
        if piece == "*":
            text += "[^/]*"
        elif piece == "?":
            text += "[^/]"
        elif piece.startswith("{"):
            text += f"(?P<{piece[1:-1]}>[^/]+?)"
        else:
            text += re.escape(piece)
    return re.compile(rf"^(?P<folder>(?:.*/)?){text}$", re.IGNORECASE)
