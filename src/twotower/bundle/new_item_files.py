"""Saving and loading of a bundle's item tower and text encoder."""

import json
import math
from pathlib import Path
from typing import Final, get_args

import numpy as np

from twotower.bundle.arrays import save_arrays
from twotower.bundle.checked import FRACTIONS, TABLE, Layout, checked_arrays, reading
from twotower.bundle.manifest import Manifest
from twotower.bundle.new_items import NewItems, TextModel
from twotower.bundle.throttle import Pause, no_pause
from twotower.errors import InputError
from twotower.factors.exposure import ListBars
from twotower.features import ITEM_FEATURES, ItemFeatures, ReleaseOrder, TextFields
from twotower.types import Array

ITEM_TOWER: Final = "item_tower.onnx"
ITEM_ENCODER: Final = "item_encoder.safetensors"
ITEM_TEXT: Final = "item_text.safetensors"
TEXT_MODEL: Final = "text_model.onnx"
TEXT_TOKENIZER: Final = "text_tokenizer.json"
_ITEM_ENCODER: Final[dict[str, Layout]] = {
    "unknown_id": (FRACTIONS, (None,)),
    "releases": (FRACTIONS, (None,)),
    "values": ("float32", (None, len(ITEM_FEATURES))),
    "mean": ("float64", (len(ITEM_FEATURES),)),
    "weight": ("float64", (len(ITEM_FEATURES),)),
    "categories": ("uint8", (None,)),
    "ratings_in_log": ("bool", (1,)),
    "text": ("uint8", (None,)),
}


def save_new_items(folder: Path, new: NewItems) -> None:
    """Write the item tower, its inputs and the text encoder into a bundle's folder."""
    (folder / ITEM_TOWER).write_bytes(new.tower)
    arrays: dict[str, Array] = {
        "unknown_id": new.unknown_id,
        "releases": new.releases.known,
        **new.features.to_arrays(),
    }
    if new.history_projection is not None:
        arrays["history_projection"] = new.history_projection
    if new.vector_projection is not None:
        arrays["vector_projection"] = new.vector_projection
    text: dict[str, str | bool | int | float] = {
        "fields": new.text_fields,
        "history_is_vector": new.history_is_vector,
        "vector_scale": new.vector_scale,
    }
    if new.bars is not None:
        arrays |= {"bar_users": new.bars.users, "bars": new.bars.bars}
        text |= {"bar_items": new.bars.items, "exposure": new.bars.share}
    if new.text is not None:
        save_arrays(folder / ITEM_TEXT, {"text": new.text.astype(np.float16)})
    if new.text_model is not None:
        (folder / TEXT_MODEL).write_bytes(new.text_model.onnx)
        (folder / TEXT_TOKENIZER).write_bytes(new.text_model.tokenizer)
        text["model"] = new.text_model.name
    arrays["text"] = np.frombuffer(json.dumps(text).encode(), dtype=np.uint8)
    save_arrays(folder / ITEM_ENCODER, arrays)


def load_new_items(folder: Path, manifest: Manifest, pause: Pause = no_pause) -> NewItems | None:
    """Read what `save_new_items` wrote; None if the bundle holds no item tower.

    Expects the files that the manifest lists to be verified already.
    """
    if ITEM_TOWER not in manifest.files:
        return None
    with reading(folder / ITEM_ENCODER):
        manifest.entry(folder, ITEM_ENCODER)
        arrays = checked_arrays(
            folder / ITEM_ENCODER,
            _ITEM_ENCODER,
            history_projection=TABLE,
            vector_projection=TABLE,
            bar_users=TABLE,
            bars=(FRACTIONS, (None,)),
            pause=pause,
        )
        about = json.loads(arrays["text"].tobytes())
        fields, is_vector, name = about["fields"], about["history_is_vector"], about.get("model")
        if fields not in get_args(TextFields) or not isinstance(is_vector, bool):
            raise InputError(f"text holds a setting that this release does not know: {about}")
        features = ItemFeatures.from_arrays(arrays)
        releases = ReleaseOrder(arrays["releases"])
        if (np.diff(releases.known) < 0).any():
            raise InputError("releases must be in rising order")
        bars = None
        if "bars" in arrays:
            count, share = int(about["bar_items"]), float(about["exposure"])
            bars = ListBars(arrays["bar_users"], arrays["bars"], count, share)
        scale = float(about.get("vector_scale", 1.0))
        if not math.isfinite(scale):
            raise InputError(f"vector_scale must be finite, got {scale}")
    text = None
    if ITEM_TEXT in manifest.files:
        with reading(folder / ITEM_TEXT):
            found = checked_arrays(folder / ITEM_TEXT, {"text": TABLE}, np.float32, pause=pause)
            text = found["text"]
    model = None
    if name is not None:
        for file in (TEXT_MODEL, TEXT_TOKENIZER):
            manifest.entry(folder, file)
        onnx, tokenizer = ((folder / file).read_bytes() for file in (TEXT_MODEL, TEXT_TOKENIZER))
        model = TextModel(str(name), onnx, tokenizer)
    return NewItems(
        tower=(folder / ITEM_TOWER).read_bytes(),
        unknown_id=arrays["unknown_id"],
        features=features,
        releases=releases,
        text_fields=fields,
        history_projection=arrays.get("history_projection"),
        history_is_vector=is_vector,
        vector_projection=arrays.get("vector_projection"),
        text=text,
        text_model=model,
        vector_scale=scale,
        bars=bars,
    )
