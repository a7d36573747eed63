from pathlib import Path

from twotower.features import ITEM_FEATURES, USER_FEATURES

DOCS = Path(__file__).resolve().parents[2] / "docs" / "features.md"


def test_counts_and_unique_names() -> None:
    assert len({feature.name for feature in ITEM_FEATURES}) == len(ITEM_FEATURES) == 15
    assert len({feature.name for feature in USER_FEATURES}) == len(USER_FEATURES) == 8


def test_the_documentation_lists_every_feature() -> None:
    text = DOCS.read_text()
    for feature in (*ITEM_FEATURES, *USER_FEATURES):
        if not feature.name.startswith("category_") or feature in USER_FEATURES:
            assert f"| `{feature.name}` |" in text
    assert "| `category_1` … `category_7`, `category_other` |" in text
