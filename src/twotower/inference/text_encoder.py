"""Text encoder for serving, in onnxruntime without torch."""

from collections.abc import Sequence
from functools import lru_cache
from typing import Final

import numpy as np

from twotower.bundle.checked import reading
from twotower.bundle.contents import BundleContents
from twotower.bundle.new_items import TextModel
from twotower.errors import InputError
from twotower.features import HashingText, TextEncoder
from twotower.inference.user_tower import open_session
from twotower.types import FloatArray

MAX_PIECES: Final = 256
"""Texts are truncated to this many word pieces, as in training."""
_BATCH: Final = 16
_FILE: Final = "the bundle's text"
_FAILURE: Final = "of the text encoder cannot be run"


class OnnxText:
    """A sentence encoder in onnxruntime; see `twotower.features.text.TextEncoder`.

    `ArtefactError` if it cannot be run.

    Parameters
    ----------
    threads
        Threads that one run may use.
    batch_size
        Texts per run. Quantised activations share a scale, so a text's vector depends slightly on
        the others in its run; with 1 it does not.
    """

    def __init__(self, model: TextModel, threads: int = 1, batch_size: int = _BATCH) -> None:
        from tokenizers import Tokenizer

        self.name, self._batch_size = model.name, batch_size
        with reading(f"{_FILE}_tokenizer.json", _FAILURE):
            self._tokenizer = Tokenizer.from_buffer(model.tokenizer)
            self._tokenizer.enable_truncation(MAX_PIECES)
            self._tokenizer.enable_padding()
        with reading(f"{_FILE}_model.onnx", _FAILURE):
            self._session = open_session(model.onnx, threads)
        self.dim = int(self._run(["a"]).shape[1])

    def encode(self, texts: Sequence[str]) -> FloatArray:
        """``(texts, dim)`` float32, L2-normalised; a blank text is the zero vector."""
        vectors = np.zeros((len(texts), self.dim), dtype=np.float32)
        filled = [row for row, text in enumerate(texts) if text.strip()]
        filled.sort(key=lambda row: len(texts[row]))  # keeps padding in a batch low
        for start in range(0, len(filled), self._batch_size):
            rows = filled[start : start + self._batch_size]
            vectors[rows] = self._run([texts[row] for row in rows])
        return vectors

    def _run(self, texts: Sequence[str]) -> FloatArray:
        with reading(f"{_FILE}_tokenizer.json", _FAILURE):
            pieces = self._tokenizer.encode_batch(list(texts))
            feed = {
                "ids": np.asarray([encoding.ids for encoding in pieces], dtype=np.int64),
                "mask": np.asarray(
                    [encoding.attention_mask for encoding in pieces], dtype=np.int64
                ),
            }
        with reading(f"{_FILE}_model.onnx", _FAILURE):
            vectors: FloatArray = self._session.run(["vector"], feed)[0]
            if vectors.ndim != 2 or len(vectors) != len(texts):
                raise InputError(f"it gives {vectors.shape} for {len(texts)} texts")
        return vectors


def text_encoder_of(contents: BundleContents, threads: int = 1) -> TextEncoder | None:
    """The encoder of a bundle's item texts, or None if the bundle does not hold it.

    `ArtefactError` if it cannot be run.
    """
    new = contents.new_items
    if new is None or new.text is None:
        return None
    if new.text_model is not None:
        return _opened(new.text_model, threads)
    return HashingText() if contents.info.text_encoder == "hashing" else None


@lru_cache(maxsize=1)
def _opened(model: TextModel, threads: int) -> OnnxText:
    """Caches the last encoder: a new bundle loaded during serving usually has the same one."""
    return OnnxText(model, threads)
