"""Operator's page: state and use of a service, look-ups and, with an admin key, changes."""

from collections.abc import Mapping
from datetime import datetime
from functools import partial
from typing import Any, Final

import httpx
import numpy as np
import polars as pl
import streamlit as st

from twotower.demo import cards, charts, operations
from twotower.demo.loaded_bundle import LoadedBundle
from twotower.demo.settings import DemoSettings
from twotower.errors import TwoTowerError
from twotower.inference.options import RecommendOptions
from twotower.inference.requests import Request
from twotower.reporting.product_names import product_name
from twotower.service.client import Client

_USERS: Final = 100
"""Users whose lists tell coverage and exposure."""
_NEWEST: Final = 8
_LOOK_UP: Final = "look-up"
_LISTED: Final = 1000
"""Most rows of a list: browsers draw as many without delay."""
_OUTCOMES: Final = {
    "swapped": "in service",
    "followed": "in service, after another process",
    "refused": "refused: the one before went on",
}
_ARMS: Final = {"": "all", "a": "in service", "b": "compared with it", "i": "both, interleaved"}
_DAYS: Final = 7


def show(loaded: LoadedBundle, settings: DemoSettings) -> None:
    """Draw the page."""
    st.html(
        cards.hero(
            "Operations",
            "What is in service and how it is used. Nothing is changed without an admin key.",
        )
    )
    _in_service(loaded)
    if settings.api is None:
        st.info(
            "Events, latency, errors and reloads are those of a running service: start the demo "
            "with `--api http://HOST:8000` to see them.",
            icon=":material/lan:",
        )
    else:
        _live(settings.api, settings.api_key)
    _spread(loaded)
    _popular_and_new(loaded)
    _look_up(loaded)
    if settings.api is not None:
        _change(settings.api)


def _in_service(loaded: LoadedBundle) -> None:
    info, contents = loaded.manifest.info, loaded.pipeline.contents
    facts = {
        "model": product_name(info.model),
        "version in service": loaded.served,
        "data set": info.dataset,
        "bundle made": f"{loaded.manifest.created:%Y-%m-%d %H:%M} UTC",
        "trained on": "all interactions" if info.fitted_on == "all" else "the training part",
        "users": f"{len(contents.users):,}",
        "items": f"{len(contents.items):,}",
    }
    st.html(cards.facts(facts))


@st.fragment(run_every="30s")
def _live(api: str, api_key: str | None) -> None:
    st.header("Use of the service")
    try:
        with Client(api, api_key) as client:
            activity, counted = client.activity(24), operations.counted(client.metrics())
            model, rates = client.model(), client.live(_DAYS)
    except (TwoTowerError, httpx.HTTPError) as error:
        st.error(f"The service does not tell: {cards.plain(str(error))}", icon=":material/error:")
        return
    requests = sum(route.requests for route in counted.routes.values())
    failed = sum(route.failed for route in counted.routes.values())
    cold = counted.cold_share
    facts = {
        "requests since the start": f"{requests:,}",
        "failed (5xx)": f"{failed:,}",
        "users recommended for": f"{counted.known + counted.new:,}",
        "of them cold-start": "–" if cold is None else f"{cold:.0%}",
        "items added since the bundle": f"{model['items_added']:,}",
        "items beside the index": f"{model['items_outside_index']:,}",
    }
    st.html(cards.facts(facts))
    _events(activity["events"])
    _rates(rates)
    rows = [
        [name, f"{route.requests:,}", f"{route.failed:,}", _up_to(route.median_ms),
         _up_to(route.p99_ms)]
        for name, route in counted.routes.items()
    ]  # fmt: skip
    st.header("Requests by route")
    st.html(cards.table(["route", "requests", "failed", "half within", "99% within"], rows))
    st.header("Last reloads")
    reloads = [
        [note["at"], _OUTCOMES.get(note["outcome"], note["outcome"]), note["model_version"]]
        for note in activity["reloads"]
    ]
    if reloads:
        st.html(cards.table(["when (UTC)", "outcome", "in service afterwards"], reloads))
    else:
        st.caption("None since the process that answers has started.")


def _events(events: list[dict[str, Any]]) -> None:
    st.header("Events of the last 24 hours")
    if not events:
        st.caption("No events were recorded.")
        return
    kinds: dict[str, dict[str, int]] = {}
    for row in events:
        hour = f"{datetime.fromisoformat(row['hour']):%d %b %H:00}"
        kinds.setdefault(row["kind"], {})[hour] = row["events"]
    total = {kind: sum(hours.values()) for kind, hours in kinds.items()}
    charts.draw(
        charts.stacked(kinds, axis="hour (UTC)", count="events"), "events-by-hour",
        what="Events by hour and kind",
        reading=", ".join(f"{count:,} × {kind}" for kind, count in total.items()) + ".",
    )  # fmt: skip


def _rates(found: Mapping[str, Any]) -> None:
    st.header(f"What came of the answers, {_DAYS} days")
    if not found["models"]:
        st.caption("Nothing was recommended in this time.")
        return
    rows = [
        [row["model_version"], _ARMS.get(row["arm"], row["arm"]), f"{row['answers']:,}",
         f"{row['events_per_answer']:.3f}", f"{row['conversion']:.3f}",
         f"{row['new_user_share']:.0%}"]
        for row in found["models"]
    ]  # fmt: skip
    head = ["version", "users", "answers", "events an answer", "purchases an answer", "cold-start"]
    st.html(cards.table(head, rows))
    st.caption(
        "Of events that name the answer they follow: those of any kind are the click-through rate "
        "where views are sent, purchases are the conversion."
    )
    compared = found["split"] or found["interleaving"]
    if compared is not None:
        better = {None: "No difference is certain yet", "a": "The one in service is better",
                  "b": f"{compared['bundle']} is better"}[compared["better"]]  # fmt: skip
        low, high = compared["low"], compared["high"]
        st.html(
            cards.lead(f"{better}: the interval of the difference is {low:+.4f} to {high:+.4f}.")
        )


@st.fragment
def _spread(loaded: LoadedBundle) -> None:
    st.header("Use of the catalogue")
    users = loaded.pipeline.contents.users
    if not len(users):
        st.caption("This bundle has no users.")
        return
    with st.spinner(f"Recommending for {_USERS} users …"):
        found = _measured(loaded, loaded.served)
    facts = {
        "users sampled": f"{found.users:,}",
        "catalogue coverage": f"{found.coverage:.1%}",
        "items without events": f"{found.new_items:.1%}",
        "their share of the lists": f"{found.new_places:.1%}",
    }
    st.html(cards.facts(facts))
    st.caption(
        f"Lists of ten for {found.users:,} users, evenly spaced. Items that were added to the "
        "service after the bundle was made count as items without events."
    )


@st.cache_resource(max_entries=2, ttl=600, show_spinner=False)
def _measured(_loaded: LoadedBundle, served: str) -> operations.Spread:
    del served  # part of the cache key
    contents = _loaded.pipeline.contents
    rows = np.linspace(0, len(contents.users) - 1, min(_USERS, len(contents.users)))
    users = [contents.users.ids[row] for row in rows.astype(int).tolist()]
    counts = _loaded.counts[: _loaded.items.bundled]
    return operations.spread(_loaded.engine, users, counts == 0, contents.items.ids)


def _popular_and_new(loaded: LoadedBundle) -> None:
    st.header("Popular and new items")
    most = np.argsort(-loaded.counts, kind="stable")[:_NEWEST].tolist()
    popular = [loaded.item(row) for row in most]
    marks = {
        item.item_id: f"{loaded.counts[row]:,} events"
        for item, row in zip(popular, most, strict=True)
    }
    lists = [cards.ranked_list("Most events", "In the bundle's log.", popular, {}, None, marks)]
    bundled = loaded.items.bundled
    found = operations.newest_first(loaded.pipeline.contents.histories, bundled, _NEWEST)
    if found:
        newest = [loaded.item(row) for row, _ in found]
        marks = {
            item.item_id: f"since {first:%d %b %Y}"
            for item, (_, first) in zip(newest, found, strict=True)
        }
        note = "By the first event in the bundle's log."
        lists.append(cards.ranked_list("Newest", note, newest, {}, None, marks))
    st.html(cards.lists(lists))


def _look_up(loaded: LoadedBundle) -> None:
    st.header("Look up a user or an item")
    contents = loaded.pipeline.contents
    with st.container(horizontal=True, vertical_alignment="bottom", gap="small"):
        wanted = st.text_input(
            "Id", key=_LOOK_UP, icon=":material/search:", width=280,
            placeholder=loaded.opening_user if len(contents.users) else contents.items.ids[0],
        ).strip()  # fmt: skip
        if loaded.example_users:
            st.button("Another user", key="look-up-another", icon=":material/shuffle:",
                      on_click=_next_user, args=(loaded,))  # fmt: skip
    with st.expander("Browse", icon=":material/list:"):
        _browse(loaded)
    if not wanted:
        st.caption("Of a user: events, recommendations and why. Of an item: facts and neighbours.")
        return
    if (row := loaded.items.find(wanted)) is not None:
        _item(loaded, wanted, row)
    else:
        _user(loaded, wanted)


def _browse(loaded: LoadedBundle) -> None:
    """Lists of items and users; a selected row is looked up."""
    with st.container(horizontal=True, vertical_alignment="bottom", gap="small"):
        side = st.segmented_control(
            "List", [*_LISTS], default=next(iter(_LISTS)), key="browse-side", required=True
        )
        words = st.text_input(
            "Filter", key="browse-words", icon=":material/filter_list:", width=280,
            placeholder="Words or an id",
        )  # fmt: skip
    table = _LISTS[side](loaded, loaded.served)
    found = operations.matching(table, words, _LISTED)
    if not len(found):
        st.caption("None has all these words.")
        return
    key = f"browse-{side}-{words}"
    st.dataframe(
        found, key=key, hide_index=True, height=320, selection_mode="single-row",
        on_select=partial(_choose, key, found["id"]),
    )  # fmt: skip
    st.caption(
        f"{len(found):,} of {len(table):,}, those with most events first. "
        "A row that is chosen is looked up."
    )


def _choose(key: str, ids: pl.Series) -> None:
    rows = st.session_state[key].selection.rows
    if rows:
        st.session_state[_LOOK_UP] = ids[rows[0]]


@st.cache_resource(max_entries=2, show_spinner=False)
def _items(_loaded: LoadedBundle, served: str) -> pl.DataFrame:
    del served  # part of the cache key
    table, contents = _loaded.items, _loaded.pipeline.contents
    names = [*table.names, None]  # the last for the code -1
    return operations.item_listing(
        contents.items.ids,
        table.titles.rows[: table.bundled].tolist(),
        [names[code] for code in table.categories.rows[: table.bundled].tolist()],
        _loaded.counts[: table.bundled],
        contents.histories,
    )


@st.cache_resource(max_entries=2, show_spinner=False)
def _users(_loaded: LoadedBundle, served: str) -> pl.DataFrame:
    del served  # part of the cache key
    contents = _loaded.pipeline.contents
    return operations.user_listing(contents.users.ids, contents.histories)


_LISTS: Final = {"Items": _items, "Users": _users}


def _next_user(loaded: LoadedBundle) -> None:
    users, now = loaded.example_users, st.session_state.get(_LOOK_UP, "")
    st.session_state[_LOOK_UP] = users[(users.index(now) + 1) % len(users) if now in users else 0]


def _item(loaded: LoadedBundle, item_id: str, row: int) -> None:
    st.html(cards.tile(loaded.item(row), loaded.categories, note=f"{loaded.counts[row]:,} events"))
    catalogue = loaded.pipeline.contents.catalogue
    if row < catalogue.height:
        values = catalogue.row(row, named=True)
        rows = [[name, cards.cut(str(value), 160)] for name, value in values.items()
                if value is not None]  # fmt: skip
        with st.expander("What the catalogue says", icon=":material/table:"):
            st.html(cards.table(["column", "value"], rows))
    similar = loaded.engine.similar_items(item_id, _NEWEST)
    found = [loaded.shown(item.item_id, item.title) for item in similar]
    note = "Users who have this item are likely to get these."
    st.html(cards.lists([cards.ranked_list("Most like it", note, found, {})]))


def _user(loaded: LoadedBundle, user: str) -> None:
    contents = loaded.pipeline.contents
    known: list[int] = []
    notes: list[str] = []
    if user in contents.users:
        known = loaded.history(user)
        notes = operations.event_notes(contents.histories, contents.users.index(user))
    newest = [loaded.item(row) for row in known[::-1][:_NEWEST]]
    when = dict(zip((item.item_id for item in newest), notes[::-1], strict=False))
    nearest = RecommendOptions(_NEWEST, exclude_seen=False, rerank=False, reasons=False)
    try:
        answer = loaded.engine.recommend(Request(user), RecommendOptions(_NEWEST))
        near = loaded.engine.recommend(Request(user), nearest)
    except TwoTowerError as error:
        st.info(cards.plain(str(error)), icon=":material/person_off:")
        return
    why = {item.item_id: item.reason.text for item in answer if item.reason is not None}
    shown = [loaded.shown(item.item_id, item.title) for item in answer]
    had = {contents.items.ids[row]: "had it" for row in known}
    closest = [loaded.shown(item.item_id, item.title) for item in near]
    what = f"The newest of {len(known):,} events in the bundle." if known else "None in the bundle."
    what_near = "By the user's vector alone: no second stage, items they had included."
    st.html(
        cards.lists(
            [
                cards.ranked_list("History", what, newest, {}, None, when),
                cards.ranked_list("Recommended, and why", "As served now.", shown, {}, None, why),
                cards.ranked_list("Nearest items", what_near, closest, {}, None, had),
            ]
        )
    )


def _change(api: str) -> None:
    st.header("Change")
    key = st.text_input(
        "Admin key", key="admin-key", type="password", icon=":material/key:",
        help="Kept in this browser tab's session only.",
    ).strip()  # fmt: skip
    if not key:
        st.caption("With a key of scope admin: stock, blocked items, and the bundle in service.")
        return
    first, second = st.columns(2)
    with first, st.form("availability"):
        item_id = st.text_input("Item id", key="change-item").strip()
        what = st.radio("Recommend it?", ["No: sold out or blocked", "Yes"], key="change-to")
        if st.form_submit_button("Set") and item_id:
            _call(api, key, lambda client: client.set_availability(item_id, what == "Yes"))
    with second, st.form("reload"):
        name = st.text_input(
            "Bundle", key="change-bundle", placeholder="the configured one",
            help="Name of a folder beside the configured bundle.",
        ).strip()  # fmt: skip
        if st.form_submit_button("Reload"):
            _call(api, key, lambda client: client.reload(name or None))


def _call(api: str, key: str, change: Any) -> None:
    try:
        with Client(api, key, timeout=120) as client:
            answer: Mapping[str, Any] = change(client)
    except (TwoTowerError, httpx.HTTPError) as error:
        st.error(cards.plain(str(error)), icon=":material/error:")
        return
    shown = {name: str(answer[name]) for name in ("item_id", "available", "model_version")
             if name in answer}  # fmt: skip
    st.success("Done. " + cards.plain(", ".join(f"{k}: {v}" for k, v in shown.items())))


def _up_to(milliseconds: float) -> str:
    return "–" if np.isnan(milliseconds) else f"{milliseconds:,.1f} ms"
