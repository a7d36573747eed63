"""Colours, symbols and CSS of the demo, beside the theme in ``.streamlit/config.toml``.

Other colours are mixed from the text colour, so that they fit light and dark mode.
"""

from collections.abc import Sequence
from typing import Final

COLOURS: Final = (
    "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#8C6D31", "#6B4C9A",
)  # fmt: skip
"""Okabe and Ito's colour-blind-safe palette without yellow and black, and two more."""
SYMBOLS: Final = ("circle", "square", "diamond", "triangle-up", "x", "star", "cross", "hexagon")
INKS: Final = ("#fff", "#000", "#000", "#000", "#000", "#000", "#fff", "#fff")
"""Text colour on each of the colours, with a contrast of at least 4.5."""
OTHER: Final = "#6E7B88"
HIDDEN: Final = "#D55E00"
NEAR: Final = "#D0207A"
MARKED: Final = "#F0E442"
"""Okabe and Ito's yellow, which no category has; a black edge shows it on any background."""

CSS: Final = """
.stMainBlockContainer { max-width: 1180px; padding-top: 4.5rem; padding-bottom: 4rem; }
[data-testid="stCaptionContainer"] { opacity: 1; color: inherit; }
[data-testid="stCaptionContainer"] p { opacity: 1;
  color: color-mix(in srgb, currentColor 82%, transparent); }
.tt-hero { margin: 0 0 .4rem; }
.tt-hero h1 { font-size: clamp(1.7rem, 4vw, 2.4rem); line-height: 1.15; letter-spacing: -.02em;
  margin: 0 0 .35rem; padding: 0; }
.tt-hero p, .tt-lead { margin: 0; max-width: 75ch; font-size: 1.02rem; line-height: 1.5;
  color: color-mix(in srgb, currentColor 78%, transparent); }
.stMainBlockContainer h2 { font-size: 1.6rem; }
.tt-step { display: flex; align-items: center; gap: .55rem; margin: .1rem 0 .3rem;
  font-size: 1.15rem; font-weight: 650; letter-spacing: -.01em; }
.tt-step b { display: grid; place-items: center; width: 1.65rem; height: 1.65rem; flex: none;
  border-radius: 50%; background: #0B5C92; color: #fff; font-size: .9rem; }
.tt-item { display: flex; gap: .8rem; align-items: flex-start; min-width: 0; }
.tt-cover { flex: none; display: grid; place-items: center; width: 3.2rem; height: 4rem;
  border-radius: .55rem; font-weight: 700; font-size: 1rem; letter-spacing: .03em;
  background-image: linear-gradient(155deg, rgb(255 255 255 / .16), transparent 55%);
  overflow: hidden; position: relative; }
.tt-cover img { position: absolute; inset: 0; width: 100%; height: 100%; object-fit: cover; }
.tt-small .tt-cover { width: 2rem; height: 2.5rem; font-size: .72rem; border-radius: .4rem; }
[class*="st-key-tt-rows-"] { display: grid; grid-template-columns: minmax(0, 1fr) auto;
  align-items: center; gap: .6rem .5rem; }
.st-key-recommendations, .st-key-popular { display: grid;
  grid-template-columns: repeat(2, minmax(0, 1fr)); gap: 1rem; }
.st-key-recommendations > div, .st-key-popular > div { display: flex; align-self: stretch;
  height: auto; }
.st-key-recommendations > div > div, .st-key-popular > div > div { flex: 1 1 auto; height: auto;
  align-content: flex-start; }
.st-key-recommendations .stElementContainer:has(.tt-item),
.st-key-popular .stElementContainer:has(.tt-item) { flex: 1 1 100%; }
.tt-text { min-width: 0; flex: 1; }
.tt-title { font-weight: 620; line-height: 1.3; overflow-wrap: anywhere; display: -webkit-box;
  -webkit-line-clamp: 4; -webkit-box-orient: vertical; overflow: hidden; }
.tt-small .tt-title { font-size: .92rem; }
.tt-meta { font-size: .84rem; line-height: 1.4;
  color: color-mix(in srgb, currentColor 72%, transparent); overflow-wrap: anywhere; }
.tt-why { font-size: .86rem; line-height: 1.4; margin-top: .25rem; padding-left: .55rem;
  border-left: 3px solid #56B4E9; overflow-wrap: anywhere; display: -webkit-box;
  -webkit-line-clamp: 4; -webkit-box-orient: vertical; overflow: hidden; }
.tt-rank { flex: none; white-space: nowrap; font-variant-numeric: tabular-nums; font-weight: 700; }
.tt-lists { display: grid; grid-template-columns: repeat(auto-fit, minmax(215px, 1fr));
  gap: .8rem; }
.tt-list { border: 1px solid color-mix(in srgb, currentColor 18%, transparent);
  border-radius: .75rem; padding: .8rem .9rem; min-width: 0; }
.tt-list h3 { font-size: 1rem; margin: 0; padding: 0; letter-spacing: 0; }
.tt-list ol { list-style: none; margin: .5rem 0 0; padding: 0; }
.tt-list .tt-rank { min-width: 1.15rem; text-align: right; }
.tt-list li { margin: 0; padding: .32rem .4rem; border-radius: .4rem; font-size: .88rem;
  line-height: 1.35; overflow-wrap: anywhere; display: flex; gap: .45rem; }
.tt-list li.tt-shared { background: color-mix(in srgb, #56B4E9 20%, transparent); }
.tt-list li.tt-found { outline: 2px solid #D55E00; outline-offset: -2px;
  background: color-mix(in srgb, #D55E00 16%, transparent); font-weight: 650; }
.tt-name { flex: 1; min-width: 0; }
.tt-name > span { display: -webkit-box; -webkit-line-clamp: 4; -webkit-box-orient: vertical;
  overflow: hidden; }
.tt-name small { display: block; font-weight: 500; font-size: .78rem;
  color: color-mix(in srgb, currentColor 78%, transparent); }
.tt-badge { flex: none; align-self: center; font-size: .74rem; font-weight: 650;
  font-variant-numeric: tabular-nums; padding: .05rem .35rem; border-radius: 1rem;
  background: color-mix(in srgb, #56B4E9 32%, transparent); }
.tt-facts { padding: 0 !important; display: flex; flex-wrap: wrap; gap: .7rem;
  margin: .2rem 0 .4rem !important; }
.tt-facts div { flex: 0 1 auto; min-width: 8.2rem;
  border: 1px solid color-mix(in srgb, currentColor 16%, transparent);
  border-radius: .75rem; padding: .65rem .9rem; }
.tt-facts dt { font-size: .82rem; color: color-mix(in srgb, currentColor 72%, transparent); }
.tt-facts dl, .tt-facts dt, .tt-facts div { margin: 0; }
.tt-facts dd { margin: 0; font-size: 1.2rem; line-height: 1.3;
  font-weight: 680; letter-spacing: -.01em;
  font-variant-numeric: tabular-nums; overflow-wrap: anywhere; }
.tt-scroll { overflow-x: auto; }
.tt-table { border-collapse: collapse; width: 100%; font-size: .9rem;
  font-variant-numeric: tabular-nums; }
.tt-table th, .tt-table td { padding: .45rem .6rem; text-align: right; white-space: nowrap;
  border-bottom: 1px solid color-mix(in srgb, currentColor 16%, transparent); }
.tt-table th:first-child, .tt-table td:first-child { text-align: left; white-space: normal;
  min-width: 6.5rem; }
.tt-table th { font-weight: 600; color: color-mix(in srgb, currentColor 75%, transparent); }
.tt-table td.tt-best { font-weight: 750; }
.tt-table small { display: block; font-size: .74rem;
  color: color-mix(in srgb, currentColor 68%, transparent); }
.tt-foot { margin-top: 2rem; font-size: .82rem;
  color: color-mix(in srgb, currentColor 68%, transparent); overflow-wrap: anywhere; }
@media (max-width: 640px) {
  .st-key-recommendations, .st-key-popular { grid-template-columns: minmax(0, 1fr); }
  .tt-hero p, .tt-small .tt-meta { display: none; }
  .tt-hero { margin: 0; }
  .tt-hero h1 { font-size: 1.3rem; }
  .tt-facts { display: grid; grid-template-columns: repeat(2, minmax(0, 1fr)); }
  .tt-small .tt-title { -webkit-line-clamp: 2; font-size: .86rem; line-height: 1.2; }
  .tt-small .tt-cover { height: 2.2rem; }
  .stMainBlockContainer h2 { font-size: 1.2rem; padding: .4rem 0 1rem; }
  .stMainBlockContainer { padding-top: 3.6rem; }
  .stMainBlockContainer .stVerticalBlock { gap: .6rem; }
  .stMainBlockContainer { padding-left: 1rem; padding-right: 1rem; }
}
"""


def colour_number(name: str | None, names: Sequence[str]) -> int | None:
    """Which colour a category has: the most frequent have one each, the rest none."""
    if name is None or name not in names[: len(COLOURS)]:
        return None
    return names.index(name)
