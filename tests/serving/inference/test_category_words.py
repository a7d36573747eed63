"""Which categories words mean, by the encoder that bundles carry: seldom wrong, often found."""

import pytest

from twotower.features.text import MiniLM
from twotower.inference.search import categories_meant

pytest.importorskip("sentence_transformers", reason="needs the extra 'text'")

GAMES = (
    "Accessories Fighting Horror Platformer Puzzle Racing Role-Playing Shooter Simulation Sports "
    "Strategy"
)
FILMS = (
    "Action Adventure Animation Children's Comedy Crime Documentary Drama Fantasy Film-Noir Horror "
    "Musical Mystery Romance Sci-Fi Thriller War Western"
)
NOTHING = "good with new the best long dark of two for fun something my hard about great old watch"
WORDS = {
    GAMES: {
        "Horror": "scary spooky frightening zombies",
        "Puzzle": "puzzles riddles",
        "Racing": "racing cars drive",
        "Sports": "soccer football athletics",
        "Shooter": "shooting guns",
        "Strategy": "tactics strategic",
        "Fighting": "fighting boxing",
        "Simulation": "simulator",
        "": f"{NOTHING} game games cheap kids story survival",
    },
    FILMS: {
        "Horror": "scary frightening monsters",
        "Comedy": "funny humor hilarious",
        "Romance": "love romantic",
        "Animation": "animated cartoon",
        "Children's": "kids children",
        "War": "soldiers military",
        "Musical": "singing songs",
        "Crime": "murder gangster",
        "Thriller": "suspense",
        "Sci-Fi": "spaceships",
        "Adventure": "adventures",
        "Drama": "dramatic",
        "": f"{NOTHING} movie film tom actor director",
    },
}


@pytest.mark.parametrize(("categories", "words"), WORDS.items(), ids=["games", "films"])
def test_most_words_are_read_and_hardly_any_misread(categories: str, words: dict[str, str]) -> None:
    names = categories.split()
    wanted = {word: name for name, group in words.items() for word in group.split()}
    encoder = MiniLM()
    folded = [name.casefold() for name in names]
    found = categories_meant(encoder.encode(list(wanted)) @ encoder.encode(folded).T)
    read = {word: names[at] for word, at in zip(wanted, found.tolist(), strict=True) if at >= 0}
    misread = {word: name for word, name in read.items() if name != wanted[word]}
    assert len(misread) <= 1, misread
    assert len(read) - len(misread) >= 0.6 * sum(name != "" for name in wanted.values())
    assert read["scary"] == "Horror"
