"""Smoke test of a loaded bundle: one request to every part of it."""

from collections.abc import Sequence
from typing import Final

import numpy as np

from twotower.bundle.checked import reading
from twotower.data import columns
from twotower.errors import ArtefactError, InputError
from twotower.inference.item_encoder import catalogue_rows
from twotower.inference.options import RecommendOptions
from twotower.inference.pipeline import Pipeline
from twotower.inference.requests import Request
from twotower.types import FloatArray

_TEXTS: Final = ("a", "Zażółć gęślą jaźń 🐉 " * 200, "")
"""A short text, one long enough to be truncated, and an empty one."""
_K: Final = 10


def check_answers(pipeline: Pipeline) -> None:
    """Exercise every part of a bundle once before it replaces the one being served.

    Covers known users, a cold-start user, the longest history that the tower reads, the second
    stage, and the text encoder and item tower if the bundle has them. `ArtefactError` if one fails
    or returns the wrong shape or non-finite numbers.
    """
    with reading("the bundle", "does not answer a request"):
        _check_users(pipeline)
        _check_texts(pipeline)
        _check_new_items(pipeline)


def _check_users(pipeline: Pipeline) -> None:
    contents = pipeline.contents
    if not len(contents.items):
        raise InputError("it holds no items")
    lengths, ids = contents.histories.lengths, contents.users.ids
    known = {0, int(lengths.argmin()), int(lengths.argmax())} if len(ids) else set()
    items = contents.items.ids
    longest = contents.info.history_length
    requests = [
        *(Request(ids[user]) for user in sorted(known)),
        Request(history=items[:1]),
        Request(history=[items[place % len(items)] for place in range(max(longest, 1))]),
    ]
    for rerank in (False, True)[: 1 if contents.reranker is None else 2]:
        options = RecommendOptions(_K, exclude_seen=False, rerank=rerank)
        expected = min(_K, len(items))
        for answer in pipeline.recommend_batch(requests, options):
            _check_finite([item.score for item in answer], "the score of an item")
            if len(answer) != expected:
                raise InputError(f"{len(answer)} items where {expected} exist")


def _check_texts(pipeline: Pipeline) -> None:
    contents = pipeline.contents
    encoder = pipeline.text_encoder
    if encoder is None:
        return
    vectors = encoder.encode(_TEXTS)
    _check_finite(vectors, "the vector of a text")
    new = contents.new_items
    if new is not None and new.text is not None and vectors.shape[1] != new.text.shape[1]:
        raise InputError(
            f"text vectors have {vectors.shape[1]} dimensions, those of items {new.text.shape[1]}"
        )
    pipeline.search("a")


def _check_new_items(pipeline: Pipeline) -> None:
    contents = pipeline.contents
    if contents.new_items is None:
        return
    try:
        encoder = pipeline.item_encoder
    except InputError:  # a bundle need not take new items
        return
    rows = catalogue_rows([{columns.ITEM_ID: str(n), columns.TITLE: "a"} for n in range(2)])
    encoded = encoder.unbounded(rows, encoder.texts(rows))  # fake items: log no exposure warning
    history = contents.history_table
    widths = {
        "vectors": (encoded.vectors, contents.item_vectors.shape[1]),
        "user_features": (encoded.user_features, contents.user_features.item_table.shape[1]),
        "history": (encoded.history, None if history is None else history.shape[1]),
    }
    for name, (array, width) in widths.items():
        if (array is None) != (width is None):
            raise InputError(f"{name} of a new item are {'missing' if array is None else 'extra'}")
        if array is None:
            continue
        if array.shape != (rows.height, width):
            raise InputError(
                f"{name} of {rows.height} new items must have {width} columns, got {array.shape}"
            )
        _check_finite(array, f"{name} of a new item")


def _check_finite(numbers: FloatArray | Sequence[float], what: str) -> None:
    if not np.isfinite(numbers).all():
        raise ArtefactError(
            f"the bundle does not answer a request ({what} is not finite); save the bundle again"
        )
