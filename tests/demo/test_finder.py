import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from twotower.demo.finder import TitleFinder

TITLES = [
    "Dragon Saga", "Dragon Saga 2", "Racing Masters", None, "The Legend of Zelda", "<b>Bold</b>",
    "🐉 Émoji", "Drago",
]  # fmt: skip


@pytest.fixture(scope="module")
def finder() -> TitleFinder:
    return TitleFinder(TITLES, np.asarray([5, 9, 1, 0, 3, 2, 2, 0]))


def found(finder: TitleFinder, text: str, k: int = 8) -> list[str | None]:
    return [TITLES[row] for row in finder.find(text, k)]


@pytest.mark.parametrize(
    ("text", "first"),
    [
        ("racing", "Racing Masters"),
        ("zel", "The Legend of Zelda"),
        ("zleda", "The Legend of Zelda"),
        ("rcaing mastres", "Racing Masters"),
        ("DRAGON SAGA 2", "Dragon Saga 2"),
        ("bold", "<b>Bold</b>"),
        ("émoji", "🐉 Émoji"),
    ],
)
def test_finds_mistyped_titles(finder: TitleFinder, text: str, first: str) -> None:
    assert found(finder, text)[0] == first


def test_among_equal_matches_the_most_bought_comes_first(finder: TitleFinder) -> None:
    assert found(finder, "dragon saga")[:2] == ["Dragon Saga 2", "Dragon Saga"]


def test_an_exact_word_beats_a_longer_one(finder: TitleFinder) -> None:
    assert found(finder, "drago")[0] == "Drago"


@pytest.mark.parametrize("text", ["", "   ", "?!", "qqqqqqq", "🐉", "0" * 10_000])
def test_no_match_gives_no_rows(finder: TitleFinder, text: str) -> None:
    assert found(finder, text) == []


def test_no_more_than_k_are_found(finder: TitleFinder) -> None:
    assert len(found(finder, "d", k=1)) == 1


def test_an_empty_catalogue_and_one_without_titles() -> None:
    assert TitleFinder([], np.zeros(0)).find("dragon").tolist() == []
    assert TitleFinder([None, None], np.zeros(2)).find("dragon").tolist() == []


@given(st.text(max_size=60))
@settings(deadline=None, max_examples=60)
def test_any_text_is_safe(text: str) -> None:
    rows = TitleFinder(TITLES, np.ones(len(TITLES))).find(text).tolist()
    assert len(rows) == len(set(rows)) <= 8


@pytest.mark.timeout(120)
def test_a_million_titles_are_searched_as_you_type() -> None:
    rng = np.random.default_rng(0)
    letters = np.frombuffer(b"abcdefghijklmnopqrstuvwxyz", dtype="S1")
    words = [b"".join(row).decode() for row in rng.choice(letters, (20_000, 7))]
    drawn = rng.zipf(1.3, (1_000_000, 3)) % len(words)
    titles = [f"{words[a]} {words[b]} {words[c]}" for a, b, c in drawn.tolist()]
    finder = TitleFinder(titles, np.arange(len(titles)))
    texts = [titles[7], words[0][:1], words[3][:5] + "x", words[1] + "x " + words[2], "e" * 10_000]
    times = []
    for text in texts:
        began = time.perf_counter()
        finder.find(text)
        times.append(time.perf_counter() - began)
    assert max(times) < 0.3, times
