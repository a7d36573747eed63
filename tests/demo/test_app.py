"""Every page as Streamlit draws it, without a browser."""

import json
import re
import shutil
import sys
from collections.abc import Callable, Iterator
from html import escape
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import streamlit as st
from streamlit.testing.v1 import AppTest

import twotower.demo
from twotower.bundle import load_bundle, save_bundle
from twotower.demo.loaded_bundle import LoadedBundle, open_once
from twotower.demo.views import operations
from twotower.demo.views.for_you import SHOWN, VARIETY
from twotower.evaluation.results import read_results, write_results

APP = Path(twotower.demo.__file__).with_name("app.py")
ALONE = """
import os, sys
from twotower.demo.app import draw
from twotower.demo.settings import DemoSettings
draw({!r}, DemoSettings.read(sys.argv[1:], os.environ))
"""
PAGES = ("for-you", "known-user", "item", "models", "serving", "operations", "data")
Start = Callable[..., AppTest]


@pytest.fixture
def start(bundle_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Start:
    """Open a page; further values go into the visitor's session."""

    def begin(
        page: str = "for-you",
        bundle: Path = bundle_folder,
        results: Path | None = None,
        **session: Any,
    ) -> AppTest:
        given = [] if results is None else ["--results", str(results)]
        monkeypatch.setattr(sys, "argv", ["app.py", "--bundle", str(bundle), *given])
        # AppTest does not stay on a page that is a function, so that one is drawn alone.
        test = AppTest.from_string(ALONE.format(page), default_timeout=120)
        if page == "for-you":
            test = AppTest.from_file(str(APP), default_timeout=120)
        for key, value in session.items():
            test.session_state[key] = value
        return test.run()

    st.cache_resource.clear()
    # What takes long and changes nothing here: a collection of all garbage, and Streamlit's look
    # through all installed packages for components, both at each start.
    monkeypatch.setattr("twotower.demo.loaded_bundle.trim_memory", lambda: None)
    scanner = "streamlit.components.v2.manifest_scanner.scan_component_manifests"
    monkeypatch.setattr(scanner, list)
    return begin


@pytest.fixture(scope="module", autouse=True)
def _opened_once() -> Iterator[None]:
    """A bundle is opened once for all tests here, and forgotten after them."""
    open_once.cache_clear()
    yield
    open_once.cache_clear()


def html(test: AppTest) -> str:
    return "\n".join(one.proto.body for one in test.main.get("html"))


def said(test: AppTest) -> str:
    """The error shown."""
    return plainly(test.error[0].value)


def plainly(text: str) -> str:
    """Without the marks that keep a text from being read as Markdown."""
    return text.replace("\\", "")


def recommended(test: AppTest) -> list[str]:
    return [
        one.key.removeprefix("more-") for one in test.button if str(one.key).startswith("more-")
    ]


def test_no_folder_beside_the_app_is_taken_for_pages_of_its_own() -> None:
    # Streamlit would show those, blank, to the first visitor if that one opens a page by address.
    assert not APP.with_name("pages").exists()


@pytest.mark.parametrize("page", PAGES)
def test_every_page_is_drawn_without_errors(start: Start, page: str) -> None:
    test = start(page)
    assert not test.exception
    assert not test.error
    assert "tt-hero" in html(test)
    assert "tt-foot" in html(test)
    for chart in test.get("plotly_chart"):
        assert len(chart.proto.alt) > 10  # a text alternative


@pytest.mark.parametrize("page", PAGES)
def test_no_page_claims_a_purchase_of_a_log_that_does_not_say_so(
    start: Start, study_file: Path, page: str
) -> None:
    test = start(page, results=study_file, picks=["i03", "i05"], parts=True, simpler=True)
    shown = " ".join(str(getattr(one, "proto", "")) for one in test.main)
    assert re.findall(r"\b(?:bought|buy|buys|buyers?|purchas\w*)\b", shown, re.IGNORECASE) == []


@pytest.mark.parametrize("page", PAGES)
def test_the_menu_leads_to_every_page(start: Start, page: str) -> None:
    shown = html(start(go=page))
    assert shown.count("<h1>") == 1
    assert "tt-foot" in shown


def test_without_picks_popular_items_and_scenarios_are_shown(
    start: Start, loaded: LoadedBundle
) -> None:
    test = start()
    assert recommended(test) == []
    popular = np.where(loaded.showcase, loaded.baselines.popularity, -1)
    assert escape(loaded.title(int(popular.argmax()))) in html(test)
    assert "&lt;script&gt;" not in html(test)  # an odd title is no showcase
    assert [one.label for one in test.button if "scenario" in str(one.key)]


def test_a_popular_item_can_be_picked(start: Start) -> None:
    test = start()
    first = next(one for one in test.button if str(one.key).startswith("popular-"))
    first.click().run()
    assert test.session_state["picks"] == [str(first.key).removeprefix("popular-")]
    assert len(recommended(test)) == SHOWN


def test_a_reason_that_most_items_share_is_given_once(start: Start) -> None:
    test = start(picks=["i02"])
    shared = [one.value for one in test.caption if "because you picked" in one.value]
    assert len(shared) == 1
    assert "tt-why" not in html(test)


def test_figures_of_another_data_set_are_named_and_on_request(
    start: Start, run_folder: Path, tmp_path: Path
) -> None:
    other = (run_folder / "results.json").read_text().replace('"blocks"', '"elsewhere"')
    (tmp_path / "other.json").write_text(other)
    test = start("models", results=tmp_path)
    assert "0.1234" not in html(test)
    test.toggle(key="others").set_value(True).run()
    assert "0.1234" in html(test)
    assert any("figures of elsewhere" in one.value for one in test.info)


def test_a_known_user_opens_on_a_case_that_was_found(start: Start, loaded: LoadedBundle) -> None:
    assert loaded.opening_user in loaded.found_users
    test = start("known-user")
    served = html(test).partition("<h3>Two-tower</h3>")[2].partition("</ol>")[0]
    assert "tt-found" in served


def test_a_scenario_fills_the_picks_and_recommends(start: Start) -> None:
    test = start()
    next(one for one in test.button if str(one.key).startswith("scenario-series")).click().run()
    picks = test.session_state["picks"]
    assert len(picks) == 3
    assert len(recommended(test)) == SHOWN
    assert not set(picks) & set(recommended(test))


def test_each_pick_changes_the_recommendations_and_can_be_removed(start: Start) -> None:
    test = start(picks=["i02"])
    first = recommended(test)
    test.button(key=f"more-{first[0]}").click().run()
    assert test.session_state["picks"] == ["i02", first[0]]
    assert recommended(test) != first
    test.button(key=f"remove-{first[0]}").click().run()
    assert recommended(test) == first


def test_search_finds_and_picks(start: Start) -> None:
    test = start()
    test.text_input(key="search").set_value("racng saga 7").run()
    test.button(key="pick-i15").click().run()
    assert test.session_state["picks"] == ["i15"]
    assert test.text_input(key="search").value == ""


@pytest.mark.parametrize(
    "text", ["zzzzqqqq", "x" * 10_000, "<script>", "🐉🐉", "%s{}\\", "*a* [b](c)"]
)
def test_any_search_is_safe(start: Start, text: str) -> None:
    test = start()
    test.text_input(key="search").set_value(text).run()
    assert not test.exception
    assert not test.error
    hits = [one for one in test.button if str(one.key).startswith("pick-")]
    assert hits or any("No title matches" in one.value for one in test.info)


def test_titles_are_escaped(start: Start) -> None:
    test = start(picks=["i04", "i06", "i08", "i10"])
    assert "<script>" not in html(test)
    assert "&lt;script&gt;" in html(test)
    assert "Item i08, without a title" in html(test)


def test_filters_and_variety_narrow_the_answer(start: Start, loaded: LoadedBundle) -> None:
    test = start(picks=["i02", "i04"])
    test.multiselect(key="categories").set_value(["sport"]).run()
    shown = [loaded.shown(one) for one in recommended(test)]
    assert {one.category for one in shown} == {"sport"}
    test.select_slider(key="variety").set_value("Balanced").run()
    assert len(recommended(test)) == VARIETY["Balanced"][0]  # one series is all of sport
    assert any("pass these filters" in one.value for one in test.caption)


def test_a_price_limit_holds(start: Start, loaded: LoadedBundle) -> None:
    test = start(picks=["i02"])
    test.selectbox(key="price").select_index(2).run()
    limit = loaded.prices[1]
    shown = [loaded.shown(one) for one in recommended(test)]
    assert shown
    assert all(one.price is not None and one.price <= limit for one in shown)


def test_a_description_is_enough(start: Start) -> None:
    test = start()
    test.text_input(key="wish").set_value("racing").run()
    assert len(recommended(test)) == SHOWN
    test.text_input(key="wish").set_value("ξψω").run()
    assert not test.exception
    assert not test.error


def test_simpler_models_are_compared(start: Start) -> None:
    test = start(picks=["i02", "i04"])
    test.toggle(key="compare").set_value(True).run()
    assert "Item-kNN" in html(test)
    assert "Popularity" in html(test)


def test_details_opens_the_item(start: Start, loaded: LoadedBundle) -> None:
    test = start(picks=["i02"])
    wanted = recommended(test)[0]
    test.button(key=f"open-{wanted}").click().run()
    assert "Similar items" in [one.value for one in test.header]
    assert loaded.shown(wanted).title in html(test)
    assert "By shared users" in html(test)


def test_an_item_that_is_gone_is_an_error_message(start: Start) -> None:
    test = start("item", item="no-such-item")
    assert "unknown item 'no-such-item'" in said(test)


def test_a_user_is_shown_with_the_hidden_item(start: Start) -> None:
    test = start("known-user", user="u03")
    assert "came next" in html(test).lower()
    heads = ["Two-tower", "Two-tower, re-ranked", "LightGCN", "Matrix factorisation"]
    assert re.findall("<h3>(.*?)</h3>", html(test)) == heads
    assert html(test).count("tt-found") >= 1
    assert "tt-badge" in html(test)
    test.toggle(key="parts").set_value(True).run()
    parts = ["Towers alone", "Implicit ALS alone", "Item-kNN", "Popularity"]
    assert re.findall("<h3>(.*?)</h3>", html(test)) == heads + parts
    test.toggle(key="hide").set_value(False).run()
    assert "Hidden item" not in html(test)


def test_comparison_models_rank_the_hidden_item(start: Start, loaded: LoadedBundle) -> None:
    row = loaded.pipeline.contents.users.index("u03")
    known = [loaded.item(one).item_id for one in loaded.pipeline.contents.histories.row(row)[:-1]]
    scores = loaded.comparison_models["mf"].scores(row, earlier=True)
    first = next(
        loaded.item(one)
        for one in np.argsort(-scores, kind="stable").tolist()
        if loaded.item(one).item_id not in known
    )
    shown = html(start("known-user", user="u03"))
    mf = shown.partition("<h3>Matrix factorisation</h3>")[2]
    assert mf.partition("</li>")[0].count(escape(first.title)) >= 1


def test_a_bundle_without_comparison_models_explains_how_to_add_them(
    start: Start, bundle_folder: Path, tmp_path: Path
) -> None:
    bundle = load_bundle(bundle_folder)
    save_bundle(tmp_path / "bundle", bundle.contents, bundle.weights())
    test = start("known-user", bundle=tmp_path / "bundle", user="u03")
    assert "<h3>LightGCN</h3>" not in html(test)
    assert any("carries no other models" in one.value for one in test.caption)


def test_users_with_a_hit_have_the_item_marked(start: Start, loaded: LoadedBundle) -> None:
    assert loaded.found_users
    assert set(loaded.found_users) <= set(loaded.example_users)
    test = start("known-user")
    next(one for one in test.button if one.label == "A user with a hit").click().run()
    assert test.session_state["user"] in loaded.found_users
    served = html(test).partition("<h3>Two-tower</h3>")[2].partition("</ol>")[0]
    assert "tt-found" in served


def test_an_unknown_user_id_suggests_an_existing_one(start: Start) -> None:
    test = start("known-user", user="unknown")
    assert "No user has this id" in test.info[0].value
    next(one for one in test.button if one.label == "Another user").click().run()
    assert not test.info


OF_THE_BUNDLE = ("How this bundle's model was trained", "What validation chose")
"""What Models shows of the bundle's own model, below the figures."""


def test_models_shows_the_figures_of_the_file(start: Start) -> None:
    test = start("models")
    shown = html(test)
    assert "0.1234" in shown
    assert "[0.1134, 0.1334]" in shown
    assert shown.index(">v9<") < shown.index(">popularity<")  # the best first
    assert [one.value for one in test.header] == ["Sampled against full ranking", *OF_THE_BUNDLE]
    assert "weights kept of epoch" in shown


def test_models_shows_a_whole_study(start: Start, study_file: Path) -> None:
    test = start("models", results=study_file)
    assert not test.error
    assert [one.value for one in test.header] == [
        "Cold start", "By activity", "New users, by history", "Users held out of training",
        "Ablation: what each part is worth", "Gate weights of the towers", "Training curves",
        "Training time", "Sampled against full ranking", *OF_THE_BUNDLE,
    ]  # fmt: skip
    assert [one.label for one in test.tabs] == [
        "Full ranking", "Among 100 sampled items", "New items", "New users", "Known users",
    ]  # fmt: skip
    assert "seed-sd" not in html(test)
    assert "[0.0500, 0.2000]" in html(test)
    assert any("v9 was not measured: no images" in plainly(one.value) for one in test.caption)


def test_models_draws_the_lines_that_are_chosen(start: Start, study_file: Path) -> None:
    test = start("models", results=study_file)
    chosen = test.multiselect(key="study-0-of")
    assert chosen.value == ["v8", "v7", "v6", "v5", "v4", "v1"]
    chosen.set_value(["v1", "v2"]).run()
    specs = [json.loads(one.proto.spec) for one in test.get("plotly_chart")]
    named = [[trace.get("name") for trace in spec["data"]] for spec in specs]
    assert named.count(["v2", "v1"]) == 4  # three scales and the epochs


def test_other_splits_of_the_data_set_are_shown_apart(
    start: Start, study_file: Path, tmp_path: Path
) -> None:
    (tmp_path / "one.json").write_text(study_file.read_text())
    other = study_file.read_text().replace("leave-last-two", "leave-last-two+hold-out")
    (tmp_path / "two.json").write_text(other)
    test = start("models", results=tmp_path)
    assert not test.error
    assert sum("hold" in plainly(one.value) for one in test.header) == 1


def test_models_without_results_explains_how_to_get_them(
    start: Start, bundle_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("twotower.demo.figures.places", lambda *_: [tmp_path])
    assert "No results were found" in start("models").info[0].value


def test_serving_measures_a_small_catalogue_at_once(start: Start, run_folder: Path) -> None:
    test = start("serving", results=run_folder / "results.json")
    assert not [one for one in test.button if str(one.key).startswith("measure-")]
    assert not test.exception
    assert not test.error
    assert "hnsw" in html(test)
    assert len(test.get("plotly_chart")) == 4


def test_serving_measures_a_large_catalogue_on_demand(
    start: Start, run_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("twotower.demo.views.serving._MEASURED_AT_ONCE", 0)
    test = start("serving", results=run_folder / "results.json")
    assert len(test.get("plotly_chart")) == 1
    for key in ("measure-stage-recall", "measure-indexes"):
        test.button(key=key).click().run()
    assert not test.exception
    assert not test.error
    assert "hnsw" in html(test)
    assert len(test.get("plotly_chart")) == 4


def test_serving_shows_larger_catalogues_that_were_measured(
    start: Start, run_folder: Path, tmp_path: Path
) -> None:
    results = read_results(run_folder / "results.json")
    like = results.rows[0].model_copy(update={"low": None, "high": None, "split": "all-users"})
    rows = [
        like.model_copy(
            update={"model": kind, "protocol": f"index-{size}x12", "metric": metric, "value": 7.25}
        )
        for kind in ("exact", "pq")
        for size in (1000, 2000000)
        for metric in ("us@10", "recall@10", "build-seconds", "memory-mb")
    ]
    other = [row.model_copy(update={"dataset": "others"}) for row in rows]
    write_results(tmp_path / "index-others.json", results.meta, other)
    test = start("serving", results=tmp_path)
    assert "7.25 MB" in html(test)
    assert any("vectors of others: up to 2,000,000" in one.value for one in test.markdown)
    write_results(tmp_path / "index-blocks.json", results.meta, rows)
    test = start("serving", results=tmp_path)  # of this bundle's data set, where there are some
    assert any("vectors of blocks: up to 2,000,000" in one.value for one in test.markdown)


def test_an_operator_looks_up_a_user_and_an_item(start: Start) -> None:
    test = start("operations")
    assert "catalogue coverage" in html(test)
    assert "<h3>Most events</h3>" in html(test)
    assert any("--api" in one.value for one in test.info)
    test.text_input(key="look-up").set_value("u03").run()
    assert "Recommended, and why" in html(test)
    assert "because you gave" in html(test)
    assert "had it" in html(test).partition("<h3>Nearest items</h3>")[2]
    next(one for one in test.button if one.label == "Another user").click().run()
    assert test.text_input(key="look-up").value != "u03"
    test.text_input(key="look-up").set_value("i05").run()
    assert "Most like it" in html(test)
    test.text_input(key="look-up").set_value("nobody").run()
    assert "unknown user" in plainly(test.info[-1].value)
    assert not test.exception


def test_an_operator_browses_items_and_users(start: Start) -> None:
    test = start("operations")
    assert "i05" in test.dataframe[0].value["id"].to_list()
    test.text_input(key="browse-words").set_value("I05").run()
    assert test.dataframe[0].value["id"].to_list() == ["i05"]
    test.text_input(key="browse-words").set_value("nothing like it").run()
    assert not len(test.dataframe)
    test.text_input(key="browse-words").set_value("").run()
    test.segmented_control(key="browse-side").set_value("Users").run()
    assert "u03" in test.dataframe[0].value["id"].to_list()
    assert not test.exception


def test_data_shows_rejected_rows(start: Start, tmp_path: Path, bundle_folder: Path) -> None:
    assert "rejected: a rating that is no number" in html(start("data"))
    shutil.copytree(bundle_folder, tmp_path / "bundle")
    alone = start("data", bundle=tmp_path / "bundle")
    assert "no prepared data set beside the bundle" in alone.info[0].value


def test_a_missing_bundle_is_an_error_message(start: Start, tmp_path: Path) -> None:
    test = start(bundle=tmp_path)
    assert "is not a bundle" in said(test)
    assert "make quickstart" in test.info[0].value


def test_a_bundle_without_items_is_an_error_message(
    start: Start, bundle_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle = load_bundle(bundle_folder)
    empty = SimpleNamespace(manifest=bundle.manifest, contents=SimpleNamespace(items=()))
    monkeypatch.setattr("twotower.demo.loaded_bundle.load_bundle", lambda _: empty)
    open_once.cache_clear()
    assert "holds no items" in said(start())


def test_filters_stay_while_another_page_is_open(start: Start) -> None:
    test = start(picks=["i02"])
    test.multiselect(key="categories").set_value(["sport"]).run()
    test.button(key=f"open-{recommended(test)[0]}").click().run()
    assert test.session_state["categories"] == ["sport"]


def test_a_filter_of_another_bundle_is_dropped(start: Start) -> None:
    test = start(picks=["i02"], categories=["no such"], price="Up to 7")
    assert not test.error
    assert len(recommended(test)) == SHOWN


def test_a_broken_bundle_names_the_file(start: Start, tmp_path: Path, bundle_folder: Path) -> None:
    broken = tmp_path / "bundle"
    shutil.copytree(bundle_folder, broken)
    (broken / "catalogue.parquet").write_bytes(b"cut")
    assert "catalogue.parquet" in said(start(bundle=broken))


def test_another_bundle_in_the_same_folder_is_read(
    start: Start, tmp_path: Path, bundle_folder: Path
) -> None:
    folder = tmp_path / "bundle"
    shutil.copytree(bundle_folder, folder)
    test = start(bundle=folder)
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["model_version"] = "v9-another"
    (folder / "manifest.json").write_text(json.dumps(manifest))
    assert "does not match its own sha256" in said(test.run())


def test_an_unexpected_error_shows_no_traceback(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise ZeroDivisionError("secret detail")

    monkeypatch.setattr("twotower.demo.views.item._near", fail)
    test = start("item")
    assert not test.exception
    assert "Something went wrong" in test.error[0].value
    assert "secret" not in test.error[0].value


def test_an_unreachable_service_is_an_error_message(
    start: Start, bundle_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    start()
    monkeypatch.setattr(
        sys, "argv", ["app.py", "--bundle", str(bundle_folder), "--api", "http://127.0.0.1:9"]
    )
    test = AppTest.from_file(str(APP), default_timeout=120).run()
    assert "http://127.0.0.1:9 does not answer" in said(test)


class FakeService:
    """A service of the fixture's bundle that was used a little; no request leaves the process."""

    changed: list[tuple[str, bool]]
    is_open = True

    def __init__(self, loaded: LoadedBundle) -> None:
        self.changed = []
        self.recommend = loaded.engine.recommend
        self.similar_items = loaded.engine.similar_items

    def __enter__(self) -> "FakeService":
        return self

    def __exit__(self, *_: object) -> None:
        self.is_open = False

    def model_version(self) -> str:
        return "v9-live"

    def model(self) -> dict[str, int]:
        return {"items_added": 3, "items_outside_index": 1}

    def metrics(self) -> str:
        assert self.is_open
        return (
            'twotower_requests_total{route="/v1/search",status="200"} 7.0\n'
            'twotower_request_seconds_bucket{route="/v1/search",le="0.001"} 7.0\n'
            'twotower_recommended_users_total{kind="new"} 1.0\n'
        )

    def activity(self, hours: int) -> dict[str, Any]:
        hour = {"hour": "2026-01-02T03:00:00+00:00", "kind": "view", "events": 12}
        note = {"at": "2026-01-02T03:04:05+00:00", "outcome": "swapped", "model_version": "v9-live"}
        return {"events": [hour], "reloads": [note]}

    def live(self, days: float) -> dict[str, Any]:
        rates = {"answers": 200, "events_per_answer": 0.25, "conversion": 0.04}
        models = [
            {"model_version": version, "arm": arm, **rates, "new_user_share": 0.5}
            for version, arm in (("v9-live", "a"), ("v9-next", "b"))
        ]
        split = {"bundle": "next", "better": None, "low": -0.02, "high": 0.03}
        return {"models": models, "split": split, "interleaving": None}

    def set_availability(self, item_id: str, available: bool) -> dict[str, Any]:
        self.changed.append((item_id, available))
        return {"item_id": item_id, "available": available}


@pytest.fixture
def service(
    start: Start, loaded: LoadedBundle, bundle_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> FakeService:
    """What the demo reaches in place of a service over HTTP."""
    fake = FakeService(loaded)

    def connect(*_: object, **__: object) -> FakeService:
        fake.is_open = True
        return fake

    monkeypatch.setattr("twotower.demo.loaded_bundle.OverHttp", connect)
    monkeypatch.setattr("twotower.demo.views.operations.Client", connect)
    start()
    monkeypatch.setattr(
        sys, "argv", ["app.py", "--bundle", str(bundle_folder), "--api", "http://service"]
    )
    return fake


def test_an_operator_sees_a_running_service_and_changes_it_with_a_key(
    service: FakeService,
) -> None:
    test = AppTest.from_string(ALONE.format("operations"), default_timeout=120).run()
    assert not test.exception
    assert not test.error
    assert "/v1/search" in html(test)
    assert "in service" in html(test)
    assert "2026-01-02T03:04:05" in html(test)
    assert any("12 × view" in one.value for one in test.caption)
    assert '<td class="">v9-next</td>' in html(test)
    assert "0.250" in html(test)
    assert "0.040" in html(test)
    assert "No difference is certain yet" in html(test)
    assert not [one for one in test.button if one.label == "Set"]  # read-only without a key
    test.text_input(key="admin-key").set_value("tt_secret").run()
    test.text_input(key="change-item").set_value("i05")
    next(one for one in test.button if one.label == "Set").click().run()
    assert service.changed == [("i05", False)]
    assert "Done" in test.success[0].value


def test_the_use_of_a_service_is_drawn_again_after_the_page(
    service: FakeService, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[tuple[Any, ...]] = []
    with monkeypatch.context() as patch:
        patch.setattr(operations, "_live", lambda *given: drawn.append(given))
        AppTest.from_string(ALONE.format("operations"), default_timeout=120).run()
    again = f"from twotower.demo.views import operations\noperations._live(*{drawn[0]!r})"
    test = AppTest.from_string(again).run()  # as Streamlit does half a minute later
    assert not test.exception
    assert "/v1/search" in html(test)
