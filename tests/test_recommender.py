from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

import twotower
from twotower import Filters, Recommender, prepare
from twotower.data import Dataset
from twotower.data.settings import PrepareSettings
from twotower.errors import ArtefactError, InputError

pytestmark = pytest.mark.usefixtures("small_models")


@pytest.fixture(scope="module", params=["v5", "v9", "v10"])
def fitted(
    request: Any, blocks: Dataset, small_variants: Any, tmp_path_factory: Any
) -> Recommender:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TWOTOWER_CACHE", str(tmp_path_factory.mktemp("cache")))
        return Recommender.fit(blocks, small_variants[request.param])


def test_six_lines_from_a_log_to_recommendations(shop: Path, tmp_path: Path) -> None:
    dataset = prepare(shop, settings=PrepareSettings(k_core=0))
    recommender = Recommender.fit(dataset, text_encoder="hashing")
    metrics = recommender.evaluate()
    known = recommender.recommend("u07")
    new = recommender.recommend(history=["i03", "i05"], k=3)
    folder = recommender.save(tmp_path / "bundle")

    assert set(metrics) == {"HR@5", "HR@10", "HR@20", "HR@50", "NDCG@10", "NDCG@20", "MRR"}
    assert all(0 <= value <= 1 for value in metrics.values())
    assert [item.rank for item in known] == list(range(1, 11))
    assert [item.score for item in known] == sorted((item.score for item in known), reverse=True)
    seen = {
        dataset.items.ids[item] for item in dataset.interactions.row(dataset.users.index("u07"))
    }
    assert not seen & {item.item_id for item in known}
    assert len(new) == 3
    assert not {"i03", "i05"} & {item.item_id for item in new}
    assert Recommender.load(folder).recommend("u07") == known


def test_loaded_it_answers_as_fitted(fitted: Recommender, blocks: Dataset, tmp_path: Path) -> None:
    loaded = Recommender.load(fitted.save(str(tmp_path / "bundle")))
    for user in blocks.users.ids[::7]:
        assert loaded.recommend(user, k=20) == fitted.recommend(user, k=20)
    history = ["i10", "i12", "i30"]
    assert loaded.recommend(history=history) == fitted.recommend(history=history)
    assert loaded.recommend("u01", history) == fitted.recommend("u01", history)
    assert loaded.similar_items("i04") == fitted.similar_items("i04")


def test_seen_items_come_back_only_where_asked_for(fitted: Recommender, blocks: Dataset) -> None:
    seen = {blocks.items.ids[item] for item in blocks.interactions.row(5)}  # held-out ones too
    hidden, shown = (
        {item.item_id for item in fitted.recommend("u05", k=40, exclude_seen=exclude)}
        for exclude in (True, False)
    )
    assert hidden == set(blocks.items.ids) - seen
    assert shown == set(blocks.items.ids)


def test_titles_come_from_the_catalogue(fitted: Recommender, blocks: Dataset) -> None:
    for item in fitted.recommend("u00"):
        assert item.title == blocks.catalogue["title"][blocks.items.index(item.item_id)]


def test_similar_items_leave_the_item_itself_out(fitted: Recommender) -> None:
    found = fitted.similar_items("i04", k=5)
    assert len(found) == 5
    assert "i04" not in {item.item_id for item in found}


def test_an_unknown_user_with_a_history_is_a_cold_start_user(fitted: Recommender) -> None:
    new = fitted.recommend("nobody", ["i02", "i04"])
    assert new == fitted.recommend(history=["i02", "i04"])


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"user_id": "nobody"}, r"^unknown user 'nobody'; pass history="),
        ({}, r"^a request needs a user id or a history, got neither; pass history="),
        (
            {"history": ["i02", "i99"]},
            r"^unknown item 'i99'; pass one of the 40 known, for example",
        ),
        ({"history": "i02"}, r"^history must be a list of item ids, got the text 'i02'; pass "),
        ({"user_id": "u00", "k": 0}, r"^k must be at least 1, got 0$"),
        ({"user_id": "u00", "k": 2.5}, r"^k must be a whole number, got 2\.5; pass k=10$"),
        ({"user_id": ["u00"], "k": 2.0}, r"^k must be a whole number, got 2\.0; pass k=10$"),
        ({"user_id": 2.5}, r"^user_id must be text or a whole number, got 2\.5$"),
        ({"history": [None]}, r"^every id of history must be text or a whole number, got None$"),
        ({"history": 5}, r"^history must be a list of ids, got 5; pass \[5\]$"),
        ({"history": None}, r"^history must be a list of ids, got None; leave it out$"),
        ({"user_id": ["u00"], "history": None}, r"^history must be a list of ids, got None; "),
        ({"user_id": "u00", "k": True}, r"^k must be a whole number, got True; pass k=10$"),
        ({"user_id": "u00", "unknown": "pop"}, r"^unknown must be 'popular', .*, got 'pop'$"),
        ({"user_id": ["nobody"], "unknown": "pop"}, r"^unknown must be 'popular', .*, got 'pop'$"),
        (
            {"user_id": "u00", "exclude_seen": "no"},
            r"^exclude_seen must be True or False, got 'no'$",
        ),
        ({"user_id": "u00", "rerank": 1}, r"^rerank must be True or False, got 1$"),
        ({"user_id": "u00", "candidates": "9"}, r"^candidates must be a whole number above 0, got"),
        (
            {"user_id": pd.DataFrame({"user_id": ["u00"]})},
            r"^user_id must be a list of ids, got a DataFrame; pass one column of the DataFrame$",
        ),
        ({"user_id": "u00", "n": 5}, r"^recommend has no option 'n'; besides .* filters, exclude"),
        ({"text": 5}, r"^text must be words, got 5; pass '5'$"),
        (
            {"user_id": "u00", "filters": {"categories": ["sport"]}},
            r"^filters must be Filters, got {'categories': \['sport'\]}; pass filters=Filters\(",
        ),
    ],
)
def test_a_request_that_cannot_be_answered_says_why(
    arguments: dict[str, Any], text: str, fitted: Recommender
) -> None:
    with pytest.raises(InputError, match=text):
        fitted.recommend(**arguments)


def test_other_calls_refuse_what_they_do_not_take(fitted: Recommender, tmp_path: Path) -> None:
    wrong: Any = {"categories": ["sport"]}
    for call in (fitted.similar_items, fitted.search):
        with pytest.raises(InputError, match=r"^filters must be Filters, got {'categories'"):
            call("i02", filters=wrong)
    with pytest.raises(InputError, match=r"^text must be words, got None; pass words of titles$"):
        fitted.search(None)  # type: ignore[arg-type]
    with pytest.raises(
        InputError, match=r"^rules must be BusinessRules or a file of them, got a d"
    ):
        fitted.with_rules(wrong)
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match=r"file is a file, not a folder; choose another name$"):
        fitted.save(tmp_path / "file")


def test_an_id_may_be_bytes(fitted: Recommender) -> None:
    user: Any = b"u01"
    assert fitted.recommend(user) == fitted.recommend("u01")


def test_checkpoints_may_be_named_by_text(
    blocks: Dataset, small_variants: Any, tmp_path: Path
) -> None:
    Recommender.fit(blocks, small_variants["v10"], checkpoint=str(tmp_path / "ckpt"), refit=False)
    assert list((tmp_path / "ckpt").iterdir())


@pytest.mark.parametrize(
    "as_given",
    [list, tuple, np.array, pl.Series, pd.Series, pa.array, lambda ids: pa.chunked_array([ids])],
    ids=["list", "tuple", "numpy", "polars", "pandas", "arrow", "chunks"],
)
def test_ids_come_as_any_sequence(as_given: Any, fitted: Recommender) -> None:
    history, users = ["i02", "i04"], ["u00", "u01"]
    assert fitted.recommend(history=as_given(history)) == fitted.recommend(history=history)
    assert fitted.recommend("u01", as_given([])) == fitted.recommend("u01")
    found = fitted.recommend(as_given(users), k=3)
    assert found.equals(fitted.recommend(users, k=3))


def test_many_users_get_a_table(fitted: Recommender) -> None:
    found = fitted.recommend(["u00", "joined-today", "u01"], k=3)
    assert found.columns == ["user_id", "rank", "item_id", "title", "score", "source"]
    assert found["user_id"].to_list() == ["u00"] * 3 + ["joined-today"] * 3 + ["u01"] * 3
    assert found["source"].to_list() == ["model"] * 3 + ["popular"] * 3 + ["model"] * 3
    own = fitted.recommend("u01", k=3)
    assert found["item_id"].to_list()[-3:] == [item.item_id for item in own]
    assert found["title"].to_list()[-3:] == [item.title for item in own]
    assert found["score"].to_list()[-3:] == pytest.approx([item.score for item in own])
    known = fitted.recommend(["u00", "joined-today"], k=3, unknown="skip")
    assert set(known["user_id"]) == {"u00"}
    assert fitted.recommend([], k=3).columns == found.columns
    with pytest.raises(InputError, match=r"^unknown user 'joined-today'; pass unknown='popular'"):
        fitted.recommend(["u00", "joined-today"], unknown="fail")
    with pytest.raises(InputError, match=r"^many users take no history; recommend for each"):
        fitted.recommend(["u00"], ["i02"])


def test_options_reach_the_stages(fitted: Recommender) -> None:
    every = fitted.recommend(history=["i02"], k=40, exclude_seen=False)
    blocked = Filters(block=(every[0].item_id,))
    assert every[0].item_id not in {
        item.item_id for item in fitted.recommend(history=["i02"], k=40, filters=blocked)
    }
    table = fitted.recommend(["u00", "u01"], k=40, filters=blocked)
    assert every[0].item_id not in set(table["item_id"])
    assert len({item.item_id for item in every}) == 40
    one = fitted.recommend("u00", k=5, rerank=True, candidates=20, reasons=False)
    assert all(item.rerank_score is not None and item.reason is None for item in one)
    both = fitted.recommend(["u00", "u01"], k=5, rerank=True, candidates=20)
    assert both["item_id"].to_list()[:5] == [item.item_id for item in one]
    with pytest.raises(InputError, match=r"^candidates must be at least k 5, got 4$"):
        fitted.recommend("u00", k=5, rerank=True, candidates=4)


def test_words_are_a_request(fitted: Recommender) -> None:
    title = fitted.recommend("u00", k=1)[0].title
    assert title is not None
    found = fitted.search(title, k=1)[0]
    assert fitted.recommend(text=title, k=3)
    assert found.item_id in {item.item_id for item in fitted.recommend(text=title, k=40)}
    with pytest.raises(InputError, match=r"^many users take no text; recommend for each"):
        fitted.recommend(["u00"], text=title)


def test_one_unknown_user_may_get_popular_items(fitted: Recommender) -> None:
    found = fitted.recommend("joined-today", k=3, unknown="popular")
    table = fitted.recommend(["joined-today"], k=3)
    assert [item.item_id for item in found] == table["item_id"].to_list()
    assert fitted.recommend("u00", k=3, unknown="popular") == fitted.recommend("u00", k=3)
    with pytest.raises(InputError, match=r"^unknown='skip' is for many users; pass a list"):
        fitted.recommend("joined-today", unknown="skip")  # type: ignore[call-overload]


def test_the_public_names_are_listed() -> None:
    assert {"Dataset", "Filters", "Recommender", "prepare", "__version__"} <= set(dir(twotower))
    assert twotower.Dataset is Dataset


def test_models_that_cannot_be_fitted_are_refused(blocks: Dataset, small_variants: Any) -> None:
    with pytest.raises(
        InputError, match=r"^unknown model 'v99'; pass one of two-tower, mf, lightgcn, v1"
    ):
        Recommender.fit(blocks, "v99")
    text = "^model {!r} has no towers to serve; take one that has, such as two-tower$"
    for name in ("mf", "lightgcn"):
        with pytest.raises(InputError, match=text.format(name)):
            Recommender.fit(blocks, name)
    with pytest.raises(InputError, match=text.format("custom")):
        Recommender.fit(blocks, small_variants["mf"])
    for table in (pd.DataFrame({"user": ["a"]}), "shop.csv"):
        with pytest.raises(InputError, match=r"^fit takes a Dataset, got a .*; make one: Dataset"):
            Recommender.fit(table)
    with pytest.raises(InputError, match=r"^minutes must be a number above 0, got '5'; pass"):
        Recommender.fit(blocks, "v5", minutes="5")
    with pytest.raises(InputError, match=r"^minutes must be a number above 0, got inf; pass"):
        Recommender.fit(blocks, "v5", minutes=float("inf"))
    for seed in (-1, "0", None, 2**64):
        with pytest.raises(InputError, match=r"^seed must be a whole number from 0 to .*, got "):
            Recommender.fit(blocks, "v5", seed=seed)  # type: ignore[arg-type]
    with pytest.raises(InputError, match=r"^model must be the name of a model or a Variant, got 5"):
        Recommender.fit(blocks, 5)  # type: ignore[arg-type]
    with pytest.raises(InputError, match=r"^text_encoder must be the name of one, got None; pass"):
        Recommender.fit(blocks, "v5", text_encoder=None)  # type: ignore[arg-type]
    for epochs in ("5", 0, 1.5, True):
        with pytest.raises(InputError, match=r"^epochs must be a whole number from 1 on, got"):
            Recommender.fit(blocks, "v5", epochs=epochs)
    with pytest.raises(InputError, match=r"^unknown text encoder 'word2vec'; pass one of"):
        Recommender.fit(blocks, "v5", text_encoder="word2vec")


def test_a_loaded_recommender_cannot_evaluate_or_save(fitted: Recommender, tmp_path: Path) -> None:
    loaded = Recommender.load(fitted.save(tmp_path / "bundle"))
    with pytest.raises(
        InputError,
        match=r"^a loaded bundle holds no test part; evaluate the recommender that was fitted$",
    ):
        loaded.evaluate()
    with pytest.raises(
        InputError, match=r"^this recommender was loaded from a bundle; copy that folder$"
    ):
        loaded.save(tmp_path / "copy")


def test_what_is_no_bundle_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ArtefactError, match=str(tmp_path)):
        Recommender.load(tmp_path)


def test_one_seed_gives_one_recommender(blocks: Dataset) -> None:
    first, again, other = (
        Recommender.fit(blocks, "v5", seed=seed, text_encoder="hashing").recommend("u00")
        for seed in (0, 0, 1)
    )
    assert first == again
    assert first != other
