import numpy as np
import pytest

from twotower.errors import InputError
from twotower.inference import Pipeline
from twotower.inference.filters import Filters
from twotower.inference.search import TitleWords, positive


def test_rare_words_weigh_more() -> None:
    titles = TitleWords(["Dark Saga", "Dark Kart", "Dark Souls", None])
    scores = titles.scores("the DARK saga", 4)
    assert scores[0] > scores[1] == scores[2] > scores[3] == 0
    assert titles.scores("dark", 4).tolist() == [1, 1, 1, 0]
    assert titles.scores("?!", 4).tolist() == [0, 0, 0, 0]


def test_titles_added_later_are_found_by_searches_over_their_rows() -> None:
    titles = TitleWords(["Dark Saga"])
    titles.put(1, "Bright Saga")
    titles.put(2, "Saga")
    assert titles.scores("saga", 3).tolist() == [1, 1, 1]
    assert titles.scores("saga", 1).tolist() == [1]


def test_the_best_rows_come_first() -> None:
    scores = np.array([0.5, -1, 0.9, 0, 0.5, 0.2])
    assert positive(scores, 10).tolist() == [2, 0, 4, 5]
    assert positive(scores, 2).tolist() == [2, 0]
    assert positive(scores, 3).tolist() == [2, 0, 4]


def test_search_by_title_words(contents) -> None:
    pipeline = Pipeline(contents)
    found = pipeline.search("game 17", k=3)
    assert found[0].item_id == "item-17"
    assert found[0].score == pytest.approx(1)
    assert found[0].score > found[1].score
    assert pipeline.search("nothing like it") == []
    assert "item-17" not in [
        one.item_id for one in pipeline.search("game 17", filters=Filters(block=("item-17",)))
    ]
    capped = pipeline.search("game", k=60, filters=Filters(max_per_category=2))
    assert len(capped) == 8


def test_text_vectors_count_where_there_are_some(open_contents) -> None:
    pipeline = Pipeline(open_contents)
    assert pipeline.search("gamme 17", k=1)[0].item_id == "item-17"  # misspelt, near by trigrams


def test_words_alone_are_enough_for_a_recommendation(contents) -> None:
    pipeline = Pipeline(contents)
    found = pipeline.recommend(text="game 17", k=5)
    assert len(found) == 5
    reasons = [one.reason for one in found if one.reason is not None]
    assert {one.kind for one in reasons} == {"described"}
    assert all(one.text.startswith("because your words fit Game ") for one in reasons)
    both = pipeline.recommend(history=["item-02"], text="game 17", k=59)
    assert "item-02" not in [one.item_id for one in both]
    assert "item-17" in [one.item_id for one in both]  # described, but not seen


def test_words_that_describe_nothing_are_said(contents) -> None:
    with pytest.raises(InputError, match="no item is described by the words 'xyzzy'; use words"):
        Pipeline(contents).recommend(text="xyzzy")


def test_words_of_categories_count_in_turn(contents) -> None:
    pipeline = Pipeline(contents)
    table = pipeline.items
    wanted = table.names[:2]
    rows = pipeline._text.described(" and ".join(wanted), table)
    found = {table.names[code] for code in table.categories.rows[rows].tolist()}
    assert set(wanted) <= found
