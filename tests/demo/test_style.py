import tomllib
from pathlib import Path

import pytest

import twotower.demo
from twotower.demo.style import COLOURS, INKS, colour_number

CONFIG = Path(twotower.demo.__file__).with_name(".streamlit") / "config.toml"


def luminance(colour: str) -> float:
    """WCAG 2.2's relative luminance."""
    digits = colour.lstrip("#")
    digits = "".join(2 * one for one in digits) if len(digits) == 3 else digits
    parts = [int(digits[at : at + 2], 16) / 255 for at in (0, 2, 4)]
    linear = [
        part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts
    ]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(first: str, second: str) -> float:
    low, high = sorted((luminance(first), luminance(second)))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize(("back", "ink"), list(zip(COLOURS, INKS, strict=True)))
def test_covers_can_be_read(back: str, ink: str) -> None:
    assert contrast(back, ink) >= 4.5


@pytest.mark.parametrize("mode", ["light", "dark"])
def test_both_themes_can_be_read(mode: str) -> None:
    theme = tomllib.loads(CONFIG.read_text())["theme"][mode]
    for back in ("backgroundColor", "secondaryBackgroundColor"):
        assert contrast(theme[back], theme["textColor"]) >= 7
        assert contrast(theme[back], theme["primaryColor"]) >= 4.5


def test_charts_have_the_same_colours_as_covers() -> None:
    assert tuple(tomllib.loads(CONFIG.read_text())["theme"]["chartCategoricalColors"]) == COLOURS


def test_only_the_most_frequent_categories_have_a_colour() -> None:
    names = [f"c{number}" for number in range(12)]
    assert colour_number("c1", names) == 1
    assert colour_number("c11", names) is None
    assert colour_number(None, names) is None
