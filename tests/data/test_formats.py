"""Published formats: a small generated sample of each is recognised and read."""
# ruff: noqa: E501

import gzip
import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import polars as pl
import pytest

from support import histories
from twotower.data import Dataset, formats
from twotower.data.formats import FORMATS, Format, named_format, register
from twotower.data.prepare import prepare
from twotower.data.settings import PrepareSettings
from twotower.errors import InputError

ALL = PrepareSettings(k_core=0)
KEPT = PrepareSettings(k_core=0, keep_repeats=True)


class Expected(NamedTuple):
    """What a sample holds: histories, and of some item its title, category or others."""

    histories: dict[str, list[str]]
    item: Mapping[str, Any] = MappingProxyType({})
    time: int | None = None
    users: Mapping[str, Any] = MappingProxyType({})


def write(folder: Path, files: dict[str, str | bytes]) -> None:
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        data = content.encode() if isinstance(content, str) else content
        path.write_bytes(gzip.compress(data) if name.endswith(".gz") else data)


def lines(*rows: object) -> str:
    return "".join(f"{row if isinstance(row, str) else json.dumps(row)}\n" for row in rows)


def python(*rows: object) -> str:
    return "".join(f"{row!r}\n" for row in rows)


FLAGS = "0|" * 18
SAMPLES: dict[str, tuple[dict[str, str | bytes], Expected]] = {
    "movielens-100k": (
        {
            "ml-100k/u.data": "196\t242\t3\t881250949\n196\t302\t5\t881250940\n",
            "ml-100k/u.item": (
                "242|Kolya (1996)|24-Jan-1997||http://x|0|0|0|0|0|1|" + "0|" * 12 + "0\n"
                "302|Am\xe9lie (1997)|01-Jan-1997||http://x|" + FLAGS + "1\n"
            ).encode("latin-1"),
            "ml-100k/u.user": "196|49|M|writer|55105\n",
            "ml-100k/u1.base": "196\t242\t3\t881250949\n",
            "ml-100k/u.genre": "unknown|0\n",
            "ml-100k/README": "read me",
        },
        Expected(
            {"196": ["302", "242"]},
            {"item_id": "302", "title": "Amélie (1997)", "category": "Western"},
            881250940000,
            {"age": "49", "occupation": "writer"},
        ),
    ),
    "movielens-1m": (
        {
            "ratings.dat": "1::1193::5::978300760\n1::661::3::978302109\n",
            "movies.dat": (
                "1193::Cit\xe9 des enfants (1995)::Drama|Sci-Fi\n661::James::Drama\n"
            ).encode("latin-1"),
            "users.dat": "1::F::1::10::48067\n",
        },
        Expected(
            {"1": ["1193", "661"]},
            {"item_id": "1193", "title": "Cité des enfants (1995)"},
            978300760000,
            {"gender": "F", "zip_code": "48067"},
        ),
    ),
    "movielens-10m": (
        {
            "ratings.dat": "1::122::5::838985046\n1::185::4.5::838983525\n",
            "movies.dat": "122::Boomerang (1992)::Comedy|Romance\n185::Cité (1995)::Action\n",
            "tags.dat": "15::4973::excellent!::1215184630\n",
        },
        Expected({"1": ["185", "122"]}, {"item_id": "185", "title": "Cité (1995)"}, 838983525000),
    ),
    "movielens": (
        {
            "ratings.csv": "userId,movieId,rating,timestamp\n1,1,4.0,964982703\n1,3,4.0,964981247\n",
            "movies.csv": 'movieId,title,genres\n1,Toy Story (1995),Adventure|Animation\n3,"a, b",X\n',
            "tags.csv": "userId,movieId,tag,timestamp\n2,60756,funny,1445714994\n",
            "links.csv": "movieId,imdbId,tmdbId\n1,0114709,862\n",
        },
        Expected({"1": ["3", "1"]}, {"item_id": "3", "title": "a, b"}, 964981247000),
    ),
    "amazon-2014": (
        {
            "reviews_Beauty_5.json.gz": lines(
                {"reviewerID": "A1", "asin": "B01", "helpful": [2, 3], "reviewText": "x",
                 "overall": 5.0, "unixReviewTime": 1252800000, "reviewTime": "09 13, 2009"},
                {"reviewerID": "A1", "asin": "B02", "overall": 4.0, "unixReviewTime": 1252800001},
            ),
            "meta_Beauty.json.gz": python(
                {"asin": "B01", "title": "Brush's", "price": 3.17, "imUrl": "http://i/1.jpg",
                 "salesRank": {"Beauty": 4}, "categories": [["Beauty", "Makeup", "Brushes"]],
                 "related": {"also_bought": ["B02"]}, "brand": "Eco"},
                {"asin": "B02", "description": "no title"},
            ),
        },
        Expected(
            {"A1": ["B01", "B02"]},
            {"item_id": "B01", "title": "Brush's", "category": "Makeup", "price": 3.17,
             "image": "http://i/1.jpg", "store": "Eco"},
            1252800000000,
        ),
    ),
    "amazon-2014-ratings": (
        {
            "ratings_Beauty.csv": "A39HTATAQ9V7YF,0205616461,5.0,1369699200\nA39HTATAQ9V7YF,B2,1.0,1\n",
            "meta_Beauty.json": python({"asin": "0205616461", "title": "T"}, {"asin": "B2"}),
        },
        Expected(
            {"A39HTATAQ9V7YF": ["B2", "0205616461"]},
            {"item_id": "0205616461", "title": "T"},
            1000,
        ),
    ),
    "amazon-2018": (
        {
            "Video_Games_5.json.gz": lines(
                {"overall": 5.0, "verified": True, "reviewTime": "10 17, 2015", "reviewerID": "A1",
                 "asin": "0700026657", "unixReviewTime": 1445040000, "summary": "x"},
                {"overall": 4.0, "reviewerID": "A1", "asin": "B02", "unixReviewTime": 1445040001},
            ),
            "meta_Video_Games.json.gz": lines(
                {"category": ["Video Games", "PC", "Games"], "description": ["a", "b"],
                 "title": "Anno", "brand": "Ubi", "feature": ["f1", "f2"], "asin": "0700026657",
                 "imageURLHighRes": ["http://i/h.jpg"], "price": "$37.98"},
                {"asin": "B02", "category": [], "title": "", "price": ""},
            ),
        },
        Expected(
            {"A1": ["0700026657", "B02"]},
            {"item_id": "0700026657", "title": "Anno", "category": "PC", "description": "a\nb",
             "features": "f1\nf2", "image": "http://i/h.jpg"},
            1445040000000,
        ),
    ),
    "amazon-2018-ratings": (
        {
            "Video_Games.csv": "0439381673,A21ROB4YDOZA5P,1.0,1402272000\n"
            "B00004Z5M1,A21ROB4YDOZA5P,5.0,3\n",
            "meta_Video_Games.json": lines(
                {"asin": "0439381673", "title": "T"}, {"asin": "B00004Z5M1"}
            ),
        },
        Expected(
            {"A21ROB4YDOZA5P": ["B00004Z5M1", "0439381673"]},
            {"item_id": "0439381673", "title": "T"},
            3000,
        ),
    ),
    "amazon-2023": (
        {
            "review_categories/All_Beauty.jsonl.gz": lines(
                {"rating": 5.0, "title": "x", "text": "y", "images": [], "asin": "B00YQ6X8EO",
                 "parent_asin": "B00YQ6X8EO", "user_id": "AGK", "timestamp": 1588687728923},
            ),
            "meta_categories/meta_All_Beauty.jsonl.gz": lines(
                {"main_category": "All Beauty", "title": "Spray", "price": 9.99,
                 "average_rating": 4.8, "rating_number": 10, "images": [], "categories": [],
                 "description": ["d"], "features": [], "parent_asin": "B00YQ6X8EO"},
            ),
        },
        Expected(
            {"AGK": ["B00YQ6X8EO"]}, {"item_id": "B00YQ6X8EO", "title": "Spray"}, 1588687728923
        ),
    ),
    "amazon-2023-benchmark": (
        {
            "Books.train.csv": "user_id,parent_asin,rating,timestamp\nA,B1,5.0,1588687728923\n",
            "Books.valid.csv": "user_id,parent_asin,rating,timestamp\nA,B2,5.0,1588687728924\n",
            "Books.test.csv": "user_id,parent_asin,rating,timestamp\nA,B3,5.0,1588687728925\n",
        },
        Expected({"A": ["B1", "B2", "B3"]}, {}, 1588687728923),
    ),
    "retailrocket": (
        {
            "events.csv": "timestamp,visitorid,event,itemid,transactionid\n"
            "1433221332117,257597,view,355908,\n1433224214164,257597,transaction,248676,234\n",
            "item_properties_part1.csv": "timestamp,itemid,property,value\n"
            "1435460400000,355908,categoryid,1338\n1441508400000,355908,888,1116713 n12.000\n",
            "item_properties_part2.csv": "timestamp,itemid,property,value\n"
            "1441508400000,355908,categoryid,1016\n1441508400000,248676,categoryid,7\n",
            "category_tree.csv": "categoryid,parentid\n1016,213\n7,\n",
        },
        Expected(
            {"257597": ["355908", "248676"]}, {"item_id": "355908", "category": "1016"},
            1433221332117,
        ),
    ),
    "hm": (
        {
            "transactions_train.csv": "t_dat,customer_id,article_id,price,sales_channel_id\n"
            "2018-09-20,000058a1,0663713001,0.050830508474576264,2\n"
            "2018-09-21,000058a1,0541518023,0.03,2\n",
            "articles.csv": "article_id,product_code,prod_name,product_type_name,detail_desc\n"
            '0663713001,0663713,Strap top,Vest top,"Jersey, with straps"\n0541518023,0541518,B,Bra,\n',
            "customers.csv": "customer_id,FN,Active,club_member_status,age,postal_code\n"
            "000058a1,,,ACTIVE,49.0,52043\n",
        },
        Expected(
            {"000058a1": ["0663713001", "0541518023"]},
            {"item_id": "0663713001", "title": "Strap top", "category": "Vest top",
             "description": "Jersey, with straps"},
            1537401600000,
            {"club_member_status": "ACTIVE"},
        ),
    ),
    "instacart": (
        {
            "orders.csv": "order_id,user_id,eval_set,order_number,order_dow,order_hour_of_day,"
            "days_since_prior_order\n2539329,1,prior,1,2,08,\n2398795,1,prior,2,3,07,15.0\n"
            "1187899,1,train,3,4,08,14.0\n",
            "order_products__prior.csv": "order_id,product_id,add_to_cart_order,reordered\n"
            "2398795,196,1,1\n2539329,14084,2,0\n2539329,196,1,0\n",
            "order_products__train.csv": "order_id,product_id,add_to_cart_order,reordered\n"
            "1187899,25133,1,1\n",
            "products.csv": "product_id,product_name,aisle_id,department_id\n"
            "196,Soda,77,7\n14084,Milk,91,16\n25133,Cheese,21,16\n",
            "aisles.csv": "aisle_id,aisle\n77,soft drinks\n91,soy\n21,packaged cheese\n",
            "departments.csv": "department_id,department\n7,beverages\n16,dairy eggs\n",
        },
        Expected(
            {"1": ["196", "14084", "196", "25133"]},
            {"item_id": "196", "title": "Soda", "category": "soft drinks"},
        ),
    ),
    "olist": (
        {
            "olist_order_items_dataset.csv": '"order_id","order_item_id","product_id","seller_id",'
            '"shipping_limit_date","price","freight_value"\n'
            '"00010242","1","4244733e","48436dad","2017-09-19 09:45:35",58.90,13.29\n'
            '"00018f77","1","e5f2d52b","dd7ddc04","2017-05-03 11:05:13",239.90,19.93\n',
            "olist_orders_dataset.csv": '"order_id","customer_id","order_status",'
            '"order_purchase_timestamp","order_approved_at"\n'
            '"00010242","3ce436f1","delivered","2017-09-13 08:59:02","2017-09-13 09:45:35"\n'
            '"00018f77","f6dd3ec0","delivered","2017-04-26 10:53:06","2017-04-26 11:05:13"\n',
            "olist_customers_dataset.csv": '"customer_id","customer_unique_id",'
            '"customer_zip_code_prefix","customer_city","customer_state"\n'
            '"3ce436f1","871766c5","28013","campos dos goytacazes","RJ"\n'
            '"f6dd3ec0","871766c5","28013","campos dos goytacazes","RJ"\n',
            "olist_products_dataset.csv": '"product_id","product_category_name",'
            '"product_name_lenght"\n"4244733e","cool_stuff",58\n"e5f2d52b","pet_shop",56\n',
            "olist_order_reviews_dataset.csv": '"review_id","order_id","review_score"\n'
            '"97ca439b","00010242",5\n',
        },
        Expected(
            {"871766c5": ["e5f2d52b", "4244733e"]},
            {"item_id": "4244733e", "category": "cool_stuff"},
            1493203986000,
            {"customer_state": "RJ"},
        ),
    ),
    "rees46": (
        {
            "2019-Oct.csv": "event_time,event_type,product_id,category_id,category_code,brand,price,"
            "user_id,user_session\n"
            "2019-10-01 00:00:00 UTC,view,44600062,2103807459595387724,,shiseido,35.79,541312140,72d7\n",
            "2019-Nov.csv": "event_time,event_type,product_id,category_id,category_code,brand,price,"
            "user_id,user_session\n2019-11-01 00:00:01 UTC,purchase,1003461,2053013555631882655,"
            "electronics.smartphone,xiaomi,489.07,541312140,4d3b\n",
        },
        Expected(
            {"541312140": ["44600062", "1003461"]},
            {"item_id": "1003461", "category": "electronics.smartphone", "store": "xiaomi"},
            1569888000000,
        ),
    ),
    "online-retail-2": (
        {
            "Year 2009-2010.csv": "Invoice,StockCode,Description,Quantity,InvoiceDate,Price,"
            "Customer ID,Country\n"
            "489434,85048,15CM GLASS BALL,12,2009-12-01 07:45:00,6.95,13085.0,United Kingdom\n"
            "489435,079323P,PINK LIGHTS,12,2009-12-02 07:45:00,6.75,13085.0,United Kingdom\n",
        },
        Expected(
            {"13085": ["85048", "079323P"]},
            {"item_id": "079323P", "title": "PINK LIGHTS", "price": 6.75},
            1259653500000,
        ),
    ),
    "online-retail": (
        {
            "data.csv": "InvoiceNo,StockCode,Description,Quantity,InvoiceDate,UnitPrice,CustomerID,"
            "Country\n536365,85123A,WHITE HOLDER,6,12/1/2010 8:26,2.55,17850,United Kingdom\n"
            "536366,71053,LANTERN,6,12/13/2010 8:26,3.39,17850,United Kingdom\n",
        },
        Expected(
            {"17850": ["85123A", "71053"]},
            {"item_id": "85123A", "title": "WHITE HOLDER"},
            1291191960000,
        ),
    ),
    "yelp": (
        {
            "yelp_academic_dataset_review.json": lines(
                {"review_id": "r1", "user_id": "-mh", "business_id": "-XQf", "stars": 3.0,
                 "useful": 0, "text": "ok", "date": "2018-07-07 22:09:11"},
                {"review_id": "r2", "user_id": "-mh", "business_id": "b2", "stars": 4.0,
                 "text": "ok", "date": "2018-07-06 22:09:11"},
            ),
            "yelp_academic_dataset_business.json": lines(
                {"business_id": "-XQf", "name": "Turning Point", "stars": 3.0, "review_count": 169,
                 "categories": "Restaurants, Breakfast", "attributes": {"x": "True"}},
                {"business_id": "b2", "name": "B", "stars": 4.0, "review_count": 1,
                 "categories": None, "attributes": None},
            ),
            "yelp_academic_dataset_user.json": lines({"user_id": "-mh", "name": "Ann", "fans": 3}),
            "yelp_academic_dataset_tip.json": lines({"user_id": "-mh", "business_id": "b2"}),
            "yelp_academic_dataset_checkin.json": lines({"business_id": "b2", "date": "x"}),
        },
        Expected(
            {"-mh": ["b2", "-XQf"]},
            {"item_id": "-XQf", "title": "Turning Point", "rating_count": 169},
            1530914951000,
            {"name": "Ann"},
        ),
    ),
    "steam": (
        {
            "steam_reviews.json.gz": python(
                {"username": "Chaos's", "hours": 0.1, "products": 41, "product_id": "725280",
                 "date": "2017-12-17", "early_access": False, "page": 1},
                {"username": "Chaos's", "product_id": "2", "date": "2017-12-16", "text": "ok"},
            ),
            "steam_games.json.gz": python(
                {"publisher": "K", "genres": ["Action", "Casual"], "app_name": "Lost", "price": 4.99,
                 "release_date": "2018-01-04", "id": "725280", "developer": "Dev"},
                {"app_name": "Two", "price": "Free To Play", "id": "2"},
            ),
        },
        Expected(
            {"Chaos's": ["2", "725280"]},
            {"item_id": "725280", "title": "Lost", "store": "Dev"},
            1513382400000,
        ),
    ),
    "steam-owned": (
        {
            "australian_users_items.json.gz": python(
                {"user_id": "js41", "items_count": 2, "steam_id": "765", "items": [
                    {"item_id": "10", "item_name": "CS", "playtime_forever": 6},
                    {"item_id": "20", "item_name": "TF", "playtime_forever": 0}]},
                {"user_id": "empty", "items_count": 0, "items": []},
            ),
        },
        Expected({"js41": ["10", "20"]}),
    ),
    "steam-reviews": (
        {
            "australian_user_reviews.json.gz": python(
                {"user_id": "765", "user_url": "x", "reviews": [
                    {"posted": "Posted November 5, 2011.", "item_id": "1250", "recommend": True,
                     "review": "ok"},
                    {"posted": "Posted July 15, 2011.", "item_id": "22200", "recommend": False}]},
            ),
        },
        Expected({"765": ["22200", "1250"]}, {}, 1310688000000),
    ),
    "goodreads": (
        {
            "goodreads_interactions_poetry.json.gz": lines(
                {"user_id": "8842", "book_id": "1384", "review_id": "1bad", "is_read": True,
                 "rating": 4, "date_added": "Wed May 09 09:33:44 -0700 2007"},
                {"user_id": "8842", "book_id": "1376", "is_read": False, "rating": 0,
                 "date_added": "Wed May 09 09:33:18 -0700 2007"},
            ),
            "goodreads_books_poetry.json.gz": lines(
                {"book_id": "1384", "title": "The Aeneid", "average_rating": "3.82",
                 "ratings_count": "36", "description": "d", "image_url": "http://i",
                 "publisher": "P", "publication_year": "1990", "popular_shelves": [{"count": "1"}]},
                {"book_id": "1376", "title": "", "average_rating": "", "ratings_count": "",
                 "publication_year": ""},
            ),
        },
        Expected(
            {"8842": ["1376", "1384"]},
            {"item_id": "1384", "title": "The Aeneid", "rating_count": 36, "released": 1990.0},
            1178728398000,
        ),
    ),
    "goodreads-csv": (
        {
            "goodreads_interactions.csv": "user_id,book_id,is_read,rating,is_reviewed\n"
            "0,948,1,5,0\n0,947,1,5,1\n",
            "book_id_map.csv": "book_id_csv,book_id\n0,34684622\n",
            "user_id_map.csv": "user_id_csv,user_id\n0,8842281e1d1347389f2ab93d60773d4d\n",
        },
        Expected({"0": ["948", "947"]}),
    ),
    "otto": (
        {
            "otto-recsys-train.jsonl": lines(
                {"session": 0, "events": [
                    {"aid": 1517085, "ts": 1659304800025, "type": "clicks"},
                    {"aid": 1563459, "ts": 1659304904511, "type": "orders"}]},
            ),
            "otto-recsys-test.jsonl": lines({"session": 9, "events": []}),
        },
        Expected({"0": ["1517085", "1563459"]}, {}, 1659304800025),
    ),
    "diginetica": (
        {
            "train-item-views.csv": "sessionId;userId;itemId;timeframe;eventdate\n"
            "1;NA;81766;526309;2016-05-09\n1;NA;31331;1031018;2016-05-09\n1;NA;5;243569;2016-05-09\n",
            "products.csv": "itemId;pricelog2;product.name.tokens\n81766;10;1,22,333\n31331;9;4\n5;1;\n",
            "product-categories.csv": "itemId;categoryId\n81766;22\n31331;22\n5;7\n",
            "train-purchases.csv": "sessionId;userId;timeframe;eventdate;ordernumber;itemId\n",
        },
        Expected(
            {"1": ["5", "81766", "31331"]},
            {"item_id": "81766", "title": "1 22 333", "category": "22"},
            1462752243569,
        ),
    ),
    "yoochoose": (
        {
            "yoochoose-clicks.dat": "1,2014-04-07T10:51:09.277Z,214536502,0\n"
            "1,2014-04-07T10:54:09.868Z,214536500,0\n",
            "yoochoose-buys.dat": "420374,2014-04-06T18:44:58.314Z,214537888,12462,1\n",
        },
        Expected({"1": ["214536502", "214536500"]}, {}, 1396867869277),
    ),
    "yoochoose-events": (
        {
            "yoochoose-clicks.dat": "1,2014-04-07T10:51:09.277Z,214536502,0\n"
            "1,2014-04-07T10:54:09.868Z,214536500,0\n",
            "yoochoose-buys.dat": "1,2014-04-07T10:58:00.306Z,214537888,12462,1\n",
        },
        Expected({"1": ["214536502", "214536500", "214537888"]}, {}, 1396867869277),
    ),
    "mind": (
        {
            "behaviors.tsv": "1\tU13\t11/11/2019 9:05:58 AM\tN551 N422\tN557-0 N499-1\n"
            "2\tU13\t11/11/2019 9:06:58 AM\tN551 N422\tN557-1 N499-0\n3\tU9\t11/11/2019 1:00:00 PM\t\tN557-1\n",
            "news.tsv": "".join(
                f'{news}\tsports\tgolf\tA "title" {news}\tabstract\thttp://x\t[]\t[]\n'
                for news in ("N551", "N422", "N557", "N499")
            ),
            "entity_embedding.vec": "Q41\t-0.063388\n",
        },
        Expected(
            {"U13": ["N551", "N422", "N499", "N557"], "U9": ["N557"]},
            {"item_id": "N551", "title": 'A "title" N551', "category": "golf"},
        ),
    ),
    "lastfm-1k": (
        {
            "userid-timestamp-artid-artname-traid-traname.tsv": "user_000001\t2009-05-04T23:08:57Z\t"
            'f1b1\tDeep "Dish\t\tDancing\nuser_000001\t2009-05-04T13:54:10Z\ta7f7\tBjörk\t\tX\n',
            "userid-profile.tsv": "#id\tgender\tage\tcountry\tregistered\n"
            "user_000001\tm\t\tJapan\tAug 13, 2006\n",
        },
        Expected(
            {"user_000001": ["Björk", 'Deep "Dish']},
            {"item_id": "Björk", "title": "Björk"},
            1241445250000,
            {"country": "Japan"},
        ),
    ),
    "lastfm-360k": (
        {
            "usersha1-artmbid-artname-plays.tsv": "00000c28\t3bd73256\tbetty blowtorch\t2137\n"
            "00000c28\t\tdie Ärzte\t1099\n",
            "usersha1-profile.tsv": "00000c28\tf\t\tGermany\tFeb 1, 2007\n",
        },
        Expected(
            {"00000c28": ["betty blowtorch", "die Ärzte"]}, {}, None, {"country": "Germany"}
        ),
    ),
    "gowalla": (
        {
            "loc-gowalla_totalCheckins.txt.gz": "0\t2010-10-19T23:55:27Z\t30.2359\t-97.7951\t22847\n"
            "0\t2010-10-18T22:17:43Z\t30.2691\t-97.7493\t420315\n",
        },
        Expected({"0": ["420315", "22847"]}, {}, 1287440263000),
    ),
    "foursquare": (
        {
            "dataset_TSMC2014_NYC.txt": (
                "470\t49bbd6c0\t4bf58dd8\tArts & Crafts Store\t40.7\t-74.0\t-240\t"
                "Tue Apr 03 18:00:09 +0000 2012\n"
                "470\t4a43c0ae\t4bf58dd9\tCaf\xe9\t40.6\t-74.2\t-240\tTue Apr 03 18:00:25 +0000 2012\n"
            ).encode("latin-1"),
        },
        Expected(
            {"470": ["49bbd6c0", "4a43c0ae"]},
            {"item_id": "4a43c0ae", "category": "Café"},
            1333476009000,
        ),
    ),
    "book-crossing": (
        {
            "BX-Book-Ratings.csv": '"User-ID";"ISBN";"Book-Rating"\n"276725";"034545104X";"0"\n'
            '"276725";"0155061224";"10"\n',
            "BX-Books.csv": (
                '"ISBN";"Book-Title";"Book-Author";"Year-Of-Publication";"Publisher";"Image-URL-S";'
                '"Image-URL-M";"Image-URL-L"\n'
                '"034545104X";"Fl\xe4sh \\"x\\"; y";"A";"2002";"B";"s";"m";"http://l"\n'
                '"0155061224";"Rites";"C";"0";"D";"s";"m";"http://l"\n'
            ).encode("latin-1"),
            "BX-Users.csv": '"User-ID";"Location";"Age"\n"276725";"tyler, texas, usa";NULL\n',
        },
        Expected(
            {"276725": ["034545104X", "0155061224"]},
            {"item_id": "034545104X", "title": 'Fläsh "x"; y', "released": 2002.0},
            None,
            {"Location": "tyler, texas, usa"},
        ),
    ),
    "book-crossing-csv": (
        {
            "Ratings.csv": "User-ID,ISBN,Book-Rating\n276725,034545104X,0\n276725,0155061224,5\n",
            "Books.csv": "ISBN,Book-Title,Book-Author,Year-Of-Publication,Publisher,Image-URL-S,"
            "Image-URL-M,Image-URL-L\n034545104X,Fläsh,A,2002,B,s,m,l\n0155061224,Rites,C,0,D,s,m,l\n",
            "Users.csv": 'User-ID,Location,Age\n276725,"tyler, texas, usa",\n',
        },
        Expected(
            {"276725": ["034545104X", "0155061224"]},
            {"item_id": "034545104X", "title": "Fläsh"},
            None,
            {"Location": "tyler, texas, usa"},
        ),
    ),
    "lastfm-2k": (
        {
            "user_artists.dat": "userID\tartistID\tweight\n2\t51\t13883\n2\t52\t11690\n",
            "artists.dat": "id\tname\turl\tpictureURL\n51\tDuran \"D\thttp://x\thttp://y\n52\tB\t\t\n",
            "user_taggedartists-timestamps.dat": "userID\tartistID\ttagID\ttimestamp\n"
            "2\t51\t13\t1238536800000\n",
        },
        Expected({"2": ["51", "52"]}, {"item_id": "51", "title": 'Duran "D'}),
    ),
    "million-songs": (
        {
            "train_triplets.txt": f"{'b8' * 20}\tSOAKIMP12A8C130995\t1\n{'b8' * 20}\tSOBBMDR12A8C13253B\t2\n",
            "unique_tracks.txt": "TRA<SEP>SOAKIMP12A8C130995<SEP>Jack Johnson<SEP>The Cove\n"
            "TRB<SEP>SOBBMDR12A8C13253B<SEP>Paco<SEP>Entre, dos\n",
        },
        Expected(
            {"b8" * 20: ["SOAKIMP12A8C130995", "SOBBMDR12A8C13253B"]},
            {"item_id": "SOAKIMP12A8C130995", "title": "The Cove", "store": "Jack Johnson"},
        ),
    ),
    "netflix": (
        {
            "combined_data_1.txt": "1:\n1488844,3,2005-09-06\n2:\n1488844,5,2005-05-13\n",
            "combined_data_2.txt": "3:\n1488844,4,2005-10-19\n",
            "movie_titles.csv": "1,2003,Dinosaur\n2,NULL,Isle of Man, TT\n3,1997,Caf\xe9\n".encode("latin-1"),
            "probe.txt": "1:\n1488844\n",
        },
        Expected(
            {"1488844": ["2", "1", "3"]},
            {"item_id": "2", "title": "Isle of Man, TT", "released": None},
            1115942400000,
        ),
    ),
    "steam-200k": (
        {
            "steam-200k.csv": '151603712,"The Elder, V",purchase,1.0,0\n'
            '151603712,"The Elder, V",play,273.0,0\n151603712,Fallout 4,purchase,1.0,0\n',
        },
        Expected({"151603712": ["The Elder, V", "The Elder, V", "Fallout 4"]}),
    ),
    "taobao": (
        {
            "UserBehavior.csv": "1,2268318,2520377,pv,1511544070\n1,2333346,2520771,buy,1511561733\n",
        },
        Expected(
            {"1": ["2268318", "2333346"]},
            {"item_id": "2333346", "category": "2520771"},
            1511544070000,
        ),
    ),
    "tmall": (
        {
            "user_log_format1.csv": "user_id,item_id,cat_id,seller_id,brand_id,time_stamp,action_type\n"
            "328862,323294,833,2882,2661,0829,0\n328862,844400,1271,2882,2661,0611,2\n",
            "user_info_format1.csv": "user_id,age_range,gender\n328862,6.0,1.0\n",
        },
        Expected(
            {"328862": ["844400", "323294"]},
            {"item_id": "323294", "category": "833"},
            None,
            {"age_range": "6.0"},
        ),
    ),
    "kuairec": (
        {
            "data/big_matrix.csv": "user_id,video_id,play_duration,video_duration,time,date,timestamp,"
            "watch_ratio\n0,3649,13838,10867,2020-07-05 00:08:23.438,20200705,1593878903.438,1.27\n",
            "data/small_matrix.csv": "user_id,video_id,play_duration,video_duration,time,date,timestamp,"
            "watch_ratio\n14,148,4381,6067,2020-07-05 05:27:48.378,20200705.0,1593898068.378,0.72\n",
            "data/kuairec_caption_category.csv": "video_id,manual_cover_text,caption,"
            "first_level_category_name\n3649,x,好,颜值\n",
            "data/user_features.csv": "user_id,user_active_degree\n0,high_active\n",
        },
        Expected(
            {"0": ["3649"]}, {"item_id": "3649", "category": "颜值"}, 1593878903438,
            {"user_active_degree": "high_active"},
        ),
    ),
    "dunnhumby": (
        {
            "transaction_data.csv": "household_key,BASKET_ID,DAY,PRODUCT_ID,QUANTITY,SALES_VALUE\n"
            "2375,26984851472,2,1004906,1,1.39\n2375,26984851472,1,1033142,1,0.82\n",
            "product.csv": "PRODUCT_ID,MANUFACTURER,BRAND,COMMODITY_DESC,SUB_COMMODITY_DESC\n"
            "1004906,69,Private,POTATOES,POTATOES RUSSET\n1033142,2,National,ONIONS,ONIONS SWEET\n",
            "hh_demographic.csv": "AGE_DESC,household_key\n65+,2375\n",
            "campaign_desc.csv": "DESCRIPTION,CAMPAIGN,START_DAY,END_DAY\nTypeB,24,659,719\n",
        },
        Expected(
            {"2375": ["1033142", "1004906"]},
            {"item_id": "1004906", "title": "POTATOES RUSSET", "category": "POTATOES"},
            86_400_000,
            {"AGE_DESC": "65+"},
        ),
    ),
    "ncf": (
        {
            "ml-1m.train.rating": "0\t32\t4\t978824330\n0\t34\t4\t978824331\n",
            "ml-1m.test.rating": "0\t25\t5\t978824351\n",
            "ml-1m.test.negative": "(0,25)\t1064\t174\n",
        },
        Expected({"0": ["32", "34", "25"]}, {}, 978824330000),
    ),
    "ncf-implicit": (
        {"p.train.rating": "0\t0\t1\n0\t1\t1\n", "p.test.rating": "0\t54\t1\n"},
        Expected({"0": ["0", "1", "54"]}),
    ),
    "recbole": (
        {
            "x.inter": "user_id:token\titem_id:token\trating:float\ttimestamp:float\n1\t9\t3\t881250949\n",
            "x.item": "item_id:token\tmovie_title:token_seq\n9\tToy Story\n",
            "x.user": "user_id:token\tage:token\n1\t24\n",
        },
        Expected({"1": ["9"]}, {"item_id": "9", "title": "Toy Story"}, 881250949000, {"age": "24"}),
    ),
    "lightgcn": (
        {"train.txt": "0 5 6 7\n1 5\n", "test.txt": "0 8\n1 \n", "item_list.txt": "org_id remap_id\n"},
        Expected({"0": ["5", "6", "7", "8"], "1": ["5"]}),
    ),
    "sequences": (
        {"Beauty.txt": "1 5 6 7\n2 7 5\n1 9\n"},
        Expected({"1": ["5", "6", "7", "9"], "2": ["7", "5"]}),
    ),
}  # fmt: skip


def check(dataset: Dataset, expected: Expected) -> None:
    assert histories(dataset) == expected.histories
    if expected.item:
        row = dataset.catalogue.row(dataset.items.index(expected.item["item_id"]), named=True)
        known = {name: row[name] for name in expected.item}
        assert [
            pytest.approx(value) if isinstance(value, float) else value
            for value in expected.item.values()
        ] == [*known.values()]
    if expected.time is not None:
        assert dataset.interactions.timestamps is not None
        assert int(dataset.interactions.timestamps.min()) == expected.time
    else:
        assert dataset.interactions.timestamps is None
    if expected.users:
        assert dataset.user_table is not None
        row = dataset.user_table.row(0, named=True)
        assert {name: row[name] for name in expected.users} == dict(expected.users)


def test_every_format_has_a_sample() -> None:
    made_of_parquet = {"amazon-2023-huggingface"}
    assert set(SAMPLES) | made_of_parquet == {entry.name for entry in FORMATS}


@pytest.mark.parametrize("name", SAMPLES)
def test_a_format_is_read_by_its_name(name: str, tmp_path: Path) -> None:
    files, expected = SAMPLES[name]
    write(tmp_path, files)
    source: Path = tmp_path / "Beauty.txt" if name == "sequences" else tmp_path
    dataset = prepare(source, format=name, settings=KEPT)
    check(dataset, expected)
    assert dataset.summary["format"] == name


@pytest.mark.parametrize("name", [name for name in SAMPLES if not named_format(name).by_name_only])
def test_a_format_is_recognised(name: str, tmp_path: Path) -> None:
    files, expected = SAMPLES[name]
    write(tmp_path, files)
    dataset = prepare(tmp_path, settings=KEPT)
    assert dataset.summary["format"] == name
    check(dataset, expected)


def test_amazon_2023_as_hugging_face_writes_it(tmp_path: Path) -> None:
    reviews, products = tmp_path / "raw_review_All_Beauty", tmp_path / "raw_meta_All_Beauty"
    for folder in (reviews, products):
        folder.mkdir()
    pl.DataFrame(
        {"user_id": ["A", "A"], "parent_asin": ["B1", "B2"], "rating": [5.0, 4.0],
         "timestamp": [1588687728923, 1588687728900], "asin": ["B1", "B2"]}
    ).write_parquet(reviews / "full-00000-of-00001.parquet")  # fmt: skip
    pl.DataFrame(
        {"parent_asin": ["B1", "B2"], "title": ["One", "Two"], "price": ["9.99", "None"],
         "main_category": ["All Beauty"] * 2,
         "images": [{"hi_res": [None], "large": ["http://l"], "thumb": ["t"], "variant": ["MAIN"]}] * 2}
    ).write_parquet(products / "full-00000-of-00001.parquet")  # fmt: skip
    dataset = prepare(tmp_path, settings=ALL)
    assert dataset.summary["format"] == "amazon-2023-huggingface"
    check(
        dataset,
        Expected({"A": ["B2", "B1"]}, {"item_id": "B1", "title": "One"}, 1588687728900),
    )


def test_a_user_adds_a_format(tmp_path: Path) -> None:
    before = [*FORMATS]
    mine = Format(
        name="mine", about="Ours", log=("visits-*.log.csv",),
        columns={"user": "who", "item": "what", "time": "at"}, read={"separator": "|"},
    )  # fmt: skip
    write(tmp_path, {"visits-1.log.csv": "who|what|at\nu|a|1600000000\n"})
    try:
        register(mine)
        assert histories(prepare(tmp_path, settings=ALL)) == {"u": ["a"]}
    finally:
        FORMATS[:] = before


def test_an_unknown_format_says_which_there_are(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"^unknown format 'ml'; it is one of movielens-100k, "):
        prepare(tmp_path, format="ml")
    with pytest.raises(InputError, match=r"holds no data set of format 'hm', which has transac"):
        prepare(tmp_path, format="hm")


def test_the_callers_words_go_before_the_formats(tmp_path: Path) -> None:
    from twotower.data.readers import ColumnMapping

    files, _ = SAMPLES["lastfm-1k"]
    write(tmp_path, files)
    dataset = prepare(tmp_path, mapping=ColumnMapping(item="track"), settings=KEPT)
    assert histories(dataset) == {"user_000001": ["X", "Dancing"]}


BROKEN: dict[str, tuple[str, Callable[[str], str], str]] = {
    "mind": ("behaviors.tsv", lambda text: text.replace("11/11/2019", "soon"), ":1 is not a time"),
    "netflix": ("combined_data_1.txt", lambda text: text + "7,5\n", ":5 is not 'movie:', or"),
    "instacart": ("orders.csv", lambda text: text.replace("user_id", "who"), "no column 'user_id'"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_file_of_another_shape_is_one_line(name: str, tmp_path: Path) -> None:
    files, _ = SAMPLES[name]
    file, change, message = BROKEN[name]
    write(tmp_path, {**files, file: change(str(files[file]))})
    with pytest.raises(InputError, match=message):
        prepare(tmp_path, format=name)


def test_the_documents_list_every_format() -> None:
    root = Path(__file__).resolve().parents[2]
    text = (root / "docs" / "data.md").read_text()
    assert f"[{len(FORMATS)} published formats]" in (root / "README.md").read_text()
    assert [entry.name for entry in FORMATS if f"| `{entry.name}` |" not in text] == []


def test_files_of_a_formats_names_with_another_content_are_tables(tmp_path: Path) -> None:
    """A name alone must not decide: their columns would be read as other ones."""
    write(
        tmp_path / "a",
        {"train.txt": "user item time\n1 5 1\n", "test.txt": "user item time\n1 6 2\n"},
    )
    write(tmp_path / "b", {"train.txt": "1 5 3\n2 6 4\n", "test.txt": "1 7 5\n"})
    write(
        tmp_path / "c",
        {"ratings_small.csv": "userId,movieId,rating,timestamp\n1,31,2.5,1260759144\n"},
    )
    assert histories(prepare(tmp_path / "a", settings=ALL)) == {"1": ["5", "6"]}
    with pytest.raises(InputError, match="has no header"):
        prepare(tmp_path / "b", settings=ALL)
    small = prepare(tmp_path / "c", settings=ALL)
    assert "format" not in small.summary
    assert small.summary["read"] == 1


def test_a_folder_is_listed_once_for_all_formats(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for movie in range(3):
        (tmp_path / f"mv_{movie}.txt").write_text(f"{movie}:\n1,3,2004-01-01\n2,4,2004-01-02\n")
    listed: list[Path] = []
    list_files = formats._files

    def listing(folder: Path, deepest: int) -> Iterator[Path]:
        listed.append(folder)
        return list_files(folder, deepest)

    monkeypatch.setattr(formats, "_files", listing)
    dataset = prepare(tmp_path, settings=PrepareSettings(k_core=0))
    assert len(dataset.interactions.items) == 6
    assert listed == [tmp_path]
