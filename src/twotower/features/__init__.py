"""User, item and context features, fitted on the training part only."""

from typing import TYPE_CHECKING

from twotower.exports import on_first_use
from twotower.features.declared import ITEM_FEATURES, LAUNCH_FEATURES, USER_FEATURES, Feature
from twotower.features.item import ItemFeatures
from twotower.features.item_text import TextFields, item_texts
from twotower.features.release import RELEASE_WAVES, ReleaseOrder, releases
from twotower.features.user import UserFeatures, UserInputs, user_inputs

if TYPE_CHECKING:
    from twotower.features.cache import cached_embeddings
    from twotower.features.clip import CLIP
    from twotower.features.efficientnet import EfficientNetLite0
    from twotower.features.image import ImageEncoder, Thumbnail, image_encoder
    from twotower.features.image_cache import ImageEmbeddings, cached_image_embeddings
    from twotower.features.text import HashingText, MiniLM, TextEncoder, text_encoder
else:
    __getattr__ = on_first_use(
        __name__,
        {
            "cached_embeddings": "twotower.features.cache",
            "CLIP": "twotower.features.clip",
            "EfficientNetLite0": "twotower.features.efficientnet",
            "ImageEncoder": "twotower.features.image",
            "Thumbnail": "twotower.features.image",
            "image_encoder": "twotower.features.image",
            "ImageEmbeddings": "twotower.features.image_cache",
            "cached_image_embeddings": "twotower.features.image_cache",
            "HashingText": "twotower.features.text",
            "MiniLM": "twotower.features.text",
            "TextEncoder": "twotower.features.text",
            "text_encoder": "twotower.features.text",
        },
    )

__all__ = [
    "CLIP",
    "ITEM_FEATURES",
    "LAUNCH_FEATURES",
    "RELEASE_WAVES",
    "USER_FEATURES",
    "EfficientNetLite0",
    "Feature",
    "HashingText",
    "ImageEmbeddings",
    "ImageEncoder",
    "ItemFeatures",
    "MiniLM",
    "ReleaseOrder",
    "TextEncoder",
    "TextFields",
    "Thumbnail",
    "UserFeatures",
    "UserInputs",
    "cached_embeddings",
    "cached_image_embeddings",
    "image_encoder",
    "item_texts",
    "releases",
    "text_encoder",
    "user_inputs",
]
