"""What a model knows of users and items beyond their ids. Everything is fitted on train only."""

from twotower.features.cache import cached_embeddings
from twotower.features.declared import ITEM_FEATURES, USER_FEATURES, Feature
from twotower.features.inputs import UserInputs, user_inputs
from twotower.features.item import ItemFeatures
from twotower.features.item_text import TextFields, item_texts
from twotower.features.text import HashingText, MiniLM, TextEncoder, text_encoder
from twotower.features.user import UserFeatures

__all__ = [
    "ITEM_FEATURES",
    "USER_FEATURES",
    "Feature",
    "HashingText",
    "ItemFeatures",
    "MiniLM",
    "TextEncoder",
    "TextFields",
    "UserFeatures",
    "UserInputs",
    "cached_embeddings",
    "item_texts",
    "text_encoder",
    "user_inputs",
]
