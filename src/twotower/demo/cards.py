"""HTML of item cards, lists and tables; text from data is escaped here."""

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from itertools import islice
from typing import Final

from twotower.demo.loaded_bundle import Item
from twotower.demo.style import COLOURS, INKS, OTHER, colour_number
from twotower.inference.filters import categories_of

_MARKS: Final = re.compile(r"([\\`*_{}\[\]()<>#+.!|~$:-])")


def plain(text: str) -> str:
    r"""Text escaped for Streamlit's Markdown, as in labels and messages.

    Examples
    --------
    >>> print(plain("*Rock* :star: [a](b)"))
    \*Rock\* \:star\: \[a\]\(b\)
    """
    return _MARKS.sub(r"\\\1", " ".join(text.split()))


def hero(title: str, text: str) -> str:
    """The head of a page."""
    return f'<div class="tt-hero"><h1>{escape(title)}</h1><p>{escape(text)}</p></div>'


def step(number: int, text: str) -> str:
    """The head of a step, with its number."""
    return f'<div class="tt-step" role="heading" aria-level="2"><b>{number}</b>{escape(text)}</div>'


def tile(
    item: Item, categories: Sequence[str], *, rank: int | None = None, why: str | None = None,
    note: str | None = None, small: bool = False,
) -> str:  # fmt: skip
    """An item: a cover in its category's colour, title, category, price, and why it is here."""
    kinds = categories_of(item.category) if item.category else ()
    number = colour_number(kinds[0] if kinds else None, categories)
    back, ink = (OTHER, "#fff") if number is None else (COLOURS[number], INKS[number])
    place = "" if rank is None else f'<span class="tt-rank">{rank}.</span> '
    facts = [", ".join(kinds), price(item.price, item.currency), note]
    meta = " · ".join(escape(fact) for fact in facts if fact)
    because = f'<div class="tt-why">{escape(why)}</div>' if why else ""
    # Over the letters, which stay where the image does not load.
    image = f'<img src="{escape(item.image)}" alt="" loading="lazy">' if item.image else ""
    return (
        f'<div class="tt-item{" tt-small" * small}">'
        f'<div class="tt-cover" aria-hidden="true" style="background-color:{back};color:{ink}">'
        f"{escape(initials(item.title))}{image}</div>"
        f'<div class="tt-text"><div class="tt-title" title="{escape(item.title)}">{place}'
        f'{escape(cut(item.title))}</div><div class="tt-meta">{meta}</div>{because}</div></div>'
    )


def price(value: float | None, currency: str | None = None) -> str | None:
    """A price, with its currency where that is known.

    Examples
    --------
    >>> price(1234.5, "EUR"), price(3.0), price(None)
    ('1,234.50 EUR', '3.00', None)
    """
    if value is None:
        return None
    return f"{value:,.2f}" + (f" {currency}" if currency else "")


def initials(title: str) -> str:
    """Two letters for a cover.

    Examples
    --------
    >>> initials("Dragon saga 3"), initials("2048"), initials("<b>"), initials("")
    ('DS', '20', 'B', '?')
    """
    words = ["".join(filter(str.isalnum, word)) for word in title[:80].split()]
    words = [word for word in words if word]
    if not words:
        return "?"
    letters = words[0][:2] if words[0].isdigit() else "".join(islice((w[0] for w in words), 2))
    return letters.upper()


def ranked_list(
    name: str,
    note: str,
    items: Sequence[Item],
    shared: Mapping[str, int],
    found: str | None = None,
    marks: Mapping[str, str] | None = None,
) -> str:
    """A list of titles.

    Parameters
    ----------
    shared
        Item id → in how many of the lists side by side it is. Items in two or more are shaded and
        show the number.
    found
        Id of the hidden item.
    marks
        Item id → further note.
    """
    rows = []
    for rank, item in enumerate(items, start=1):
        is_found, lists = item.item_id == found, shared.get(item.item_id, 1)
        kind = "tt-found" if is_found else "tt-shared" if lists > 1 else ""
        notes = ["came next"] * is_found + [(marks or {}).get(item.item_id, "")]
        more = "".join(f"<small>{escape(text)}</small>" for text in notes if text)
        badge = f'<b class="tt-badge" title="In {lists} of these lists">×{lists}</b>'
        rows.append(
            f'<li class="{kind}"><span class="tt-rank">{rank}</span>'
            f'<span class="tt-name"><span title="{escape(item.title)}">'
            f"{escape(cut(item.title, 64))}</span>"
            f"{more}</span>{badge * (lists > 1)}</li>"
        )
    body = "".join(rows) or "<li>No recommendations.</li>"
    return (
        f'<div class="tt-list"><h3>{escape(name)}</h3>'
        f'<div class="tt-meta">{escape(note)}</div><ol>{body}</ol></div>'
    )


def in_how_many(lists: Iterable[Sequence[str]]) -> dict[str, int]:
    """Item id → how many of the lists hold it.

    Examples
    --------
    >>> in_how_many([["a", "b"], ["b", "b"]])
    {'a': 1, 'b': 2}
    """
    return dict(Counter(item_id for ids in lists for item_id in dict.fromkeys(ids)))


def lists(parts: Sequence[str]) -> str:
    """Lists side by side, below each other where there is no room."""
    return f'<div class="tt-lists">{"".join(parts)}</div>'


def facts(values: Mapping[str, str]) -> str:
    """Figures with their names."""
    pairs = (f"<div><dt>{escape(k)}</dt><dd>{escape(v)}</dd></div>" for k, v in values.items())
    return f'<dl class="tt-facts">{"".join(pairs)}</dl>'


def table(
    head: Sequence[str],
    rows: Sequence[Sequence[str]],
    best: frozenset[tuple[int, int]] = frozenset(),
) -> str:
    """A table of texts; ``best`` are the cells, by row and column, that stand out."""
    top = "".join(f'<th scope="col">{escape(title)}</th>' for title in head)
    body = "".join(
        "<tr>"
        + "".join(_cell(text, (at, column) in best) for column, text in enumerate(row))
        + "</tr>"
        for at, row in enumerate(rows)
    )
    return (
        f'<div class="tt-scroll" tabindex="0"><table class="tt-table"><thead><tr>{top}</tr></thead>'
        f"<tbody>{body}</tbody></table></div>"
    )


def _cell(text: str, stands_out: bool) -> str:
    value, _, interval = text.partition(" [")
    more = f" <small>[{escape(interval)}</small>" if interval else ""
    return f'<td class="{"tt-best" if stands_out else ""}">{escape(value)}{more}</td>'


def lead(text: str) -> str:
    """A sentence that stands out."""
    return f'<p class="tt-lead">{escape(text)}</p>'


def cut(title: str, most: int = 84) -> str:
    """A title of at most so many characters, cut in its middle: editions differ at the end.

    Examples
    --------
    >>> cut("Dragon Saga: The Return of the King - Kestrel 2", 30)
    'Dragon Saga: The R…- Kestrel 2'
    """
    if len(title) <= most:
        return title
    tail = (most - 1) * 2 // 5
    return f"{title[: most - 1 - tail].rstrip()}…{title[-tail:].lstrip()}"


def short(title: str, most: int = 60) -> str:
    """A title cut and escaped for a chart, which interprets some HTML."""
    return escape(cut(title, most))
