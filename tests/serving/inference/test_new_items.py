from dataclasses import replace

import numpy as np
import pytest

from twotower.bundle import load_bundle, save_bundle
from twotower.bundle.new_items import TextModel
from twotower.errors import ArtefactError, InputError
from twotower.factors.exposure import ListBars
from twotower.features import HashingText, item_texts
from twotower.inference import Pipeline
from twotower.inference import text_encoder as serving_text
from twotower.inference.filters import Filters
from twotower.inference.item_encoder import ItemEncoder, catalogue_rows
from twotower.inference.item_table import Descriptions
from twotower.inference.smoke import check_answers
from twotower.inference.text_encoder import OnnxText, text_encoder_of

NEW = {"item_id": "n1", "title": "Game 7 Deluxe", "price": 12.0, "category": "genre-3"}


def added(pipeline: Pipeline, *items: dict) -> Pipeline:
    rows = catalogue_rows(items)
    described = Descriptions(
        rows["item_id"].to_list(), rows["title"].to_list(), rows["category"].to_list(),
        rows["price"].to_list(),
    )  # fmt: skip
    encoder = pipeline.item_encoder
    return pipeline.with_items(
        pipeline.items.with_items(described, encoder.encode(rows, encoder.texts(rows)))
    )


def test_smoke_requests_name_no_items_that_do_not_exist(open_contents, caplog) -> None:
    """A new item is in every list: real ones are bounded with a notice, made-up ones without."""
    assert open_contents.new_items is not None
    width = open_contents.item_vectors.shape[1]
    bars = ListBars(np.ones((9, width), np.float32), np.full(9, -1e9, np.float32), 1000, 0.05)
    always = replace(open_contents, new_items=replace(open_contents.new_items, bars=bars))
    pipeline = Pipeline(always)
    check_answers(pipeline)
    assert caplog.messages == []
    added(pipeline, NEW)
    assert [message.split(" in ")[0] for message in caplog.messages] == ["item 'n1' would be"]


def test_the_parts_come_back_from_a_bundle(open_folder, open_contents) -> None:
    found, given = load_bundle(open_folder).contents.new_items, open_contents.new_items
    assert found.tower == given.tower
    assert found.text_fields == "title"
    assert found.features.categories == given.features.categories
    np.testing.assert_array_equal(found.unknown_id, given.unknown_id)
    np.testing.assert_array_equal(found.history_projection, given.history_projection)
    np.testing.assert_allclose(found.text, given.text, atol=1e-3)  # kept with 16 bits
    assert len(found.features.values) == 0


def test_a_text_model_comes_back_from_a_bundle(open_contents, weights, tmp_path) -> None:
    model = TextModel("tiny-1", b"onnx", b"{}")
    new = replace(open_contents.new_items, text_model=model)
    save_bundle(tmp_path / "b", replace(open_contents, new_items=new), weights)
    assert load_bundle(tmp_path / "b").contents.new_items.text_model == model
    (tmp_path / "b" / "text_model.onnx").write_bytes(b"onxx")
    with pytest.raises(ArtefactError, match=r"text_model\.onnx does not match"):
        load_bundle(tmp_path / "b")


def test_a_broken_text_model_is_refused() -> None:
    with pytest.raises(ArtefactError, match="text encoder cannot be run"):
        OnnxText(TextModel("tiny-1", b"onnx", b"{}"))


def test_a_newer_bundle_shares_the_text_encoder_of_the_one_before(
    open_contents, monkeypatch
) -> None:
    opened = []
    monkeypatch.setattr(serving_text, "OnnxText", lambda model, _: opened.append(model) or object())
    serving_text._opened.cache_clear()

    def encoder(onnx: bytes) -> object:
        new = replace(open_contents.new_items, text_model=TextModel("tiny", onnx, b"{}"))
        return text_encoder_of(replace(open_contents, new_items=new))

    first = encoder(b"weights")
    assert encoder(bytes(bytearray(b"weights"))) is first
    assert encoder(b"others") is not first
    assert len(opened) == 2
    serving_text._opened.cache_clear()


def test_an_item_is_encoded_by_the_fitted_statistics(open_contents, item_weights) -> None:
    rows = catalogue_rows([NEW])
    encoder = ItemEncoder(open_contents, HashingText())
    new = open_contents.new_items
    text = HashingText().encode(item_texts(rows))
    encoded = encoder.encode(rows, encoder.texts(rows))
    expected = (
        new.unknown_id @ item_weights["item"]
        + text @ item_weights["text"]
        + new.features.transform_new(rows) @ item_weights["features"]
    )
    np.testing.assert_allclose(encoded.vectors, expected, atol=1e-5)
    np.testing.assert_allclose(encoded.history, text @ new.history_projection, atol=1e-6)
    np.testing.assert_array_equal(encoded.text, text)
    category = 4 + new.features.categories.index("genre-3")
    price = np.log1p(12.0)
    assert encoded.user_features[0, [0, 1, 2, 3, category]].tolist() == pytest.approx(
        [price, 1, 0, 0, 1]
    )


def test_a_new_item_is_found_at_once(open_contents) -> None:
    pipeline = Pipeline(open_contents)
    grown = added(pipeline, {**NEW, "title": "Game 7"})
    assert grown.outside_index == 1
    assert grown.similar_items("n1", k=60)[0].item_id != "n1"
    assert "n1" in [one.item_id for one in grown.similar_items("item-07", k=60)]
    assert {one.item_id for one in grown.search("game 7", k=2)} == {"item-07", "n1"}
    everything = grown.recommend(history=["item-00"], k=61)
    assert "n1" in [one.item_id for one in everything]
    assert len(everything) == 60
    assert len(pipeline.recommend(history=["item-00"], k=61)) == 59  # the older one did not change


def test_a_new_item_counts_in_a_history(open_contents) -> None:
    grown = added(Pipeline(open_contents), NEW)
    found = grown.recommend("user-03", ["n1"], k=60)
    assert "n1" not in [one.item_id for one in found]
    plain = grown.recommend("user-03", k=60)
    assert [one.score for one in found[:5]] != [one.score for one in plain[:5]]
    assert "because of Game 7 Deluxe" in {
        one.reason.text for one in found if one.reason is not None
    }


def test_an_extended_index_answers_the_same(open_contents) -> None:
    items = [{**NEW, "item_id": f"n{number}", "title": f"Game {number}"} for number in range(9)]
    grown = added(added(Pipeline(open_contents), *items), NEW)
    whole = grown.with_index(grown.whole_index())
    assert grown.outside_index == 10
    assert whole.outside_index == 0
    for user in ("user-00", "user-07"):
        one, two = (pipeline.recommend(user, k=60) for pipeline in (grown, whole))
        assert [item.item_id for item in one] == [item.item_id for item in two]
    later = added(whole, {**NEW, "item_id": "later"})
    assert later.outside_index == 1
    assert "later" in [one.item_id for one in later.recommend("user-00", k=80)]


def test_a_reranker_that_does_not_know_an_item_leaves_it_its_place(open_contents) -> None:
    grown = added(Pipeline(open_contents), NEW)
    found = grown.recommend("user-03", k=60, rerank=True)
    place = next(one.rank for one in found if one.item_id == "n1")
    first = [one.item_id for one in grown.recommend("user-03", k=60)].index("n1") + 1
    assert abs(place - first) <= 2
    assert [one.score for one in found] == sorted((one.score for one in found), reverse=True)
    assert grown.recommend(history=["n1"], k=5, rerank=True)


def test_filters_see_new_items(open_contents) -> None:
    grown = added(Pipeline(open_contents), {**NEW, "category": "brand new"})
    only = grown.recommend("user-03", filters=Filters(categories=("brand new",)))
    assert [one.item_id for one in only] == ["n1"]
    assert (
        grown.recommend("user-03", filters=Filters(categories=("brand new",), block=("n1",))) == []
    )


def test_a_bundle_without_an_item_tower_is_refused(contents) -> None:
    with pytest.raises(InputError, match="bundle of v5 holds no item tower; bundle the model"):
        _ = Pipeline(contents).item_encoder


def test_a_bundle_without_the_encoder_that_its_tower_needs_is_refused(open_contents) -> None:
    other = replace(open_contents, info=open_contents.info.vary(text_encoder="minilm"))
    with pytest.raises(InputError, match="lacks the text encoder that its item tower needs"):
        ItemEncoder(other, text_encoder_of(other))


def test_items_added_to_an_older_pipeline_are_its_own(open_contents) -> None:
    pipeline = Pipeline(open_contents, room=True)
    first = added(pipeline, {**NEW, "title": "Zebra"})
    second = added(pipeline, {**NEW, "item_id": "n2", "title": "Quokka"})
    third = added(first, {**NEW, "item_id": "n3", "title": "Okapi"})

    def found(of: Pipeline, title: str) -> list[str]:
        items = of.search(title, k=70)
        return [item.item_id for item in items if item.title == title]

    assert (found(first, "Zebra"), found(first, "Quokka")) == (["n1"], [])
    assert (found(second, "Zebra"), found(second, "Quokka")) == ([], ["n2"])
    assert (found(third, "Zebra"), found(third, "Okapi")) == (["n1"], ["n3"])
    assert found(second, "Okapi") == []
