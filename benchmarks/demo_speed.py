"""How long the demo takes to answer, from the click to what is seen, in a real browser.

    twotower run video-games --out runs/video-games
    python benchmarks/demo_speed.py --bundle runs/video-games/bundle

Starts ``twotower demo`` and opens it in the system's Chromium at 1280 px. *First page* is the time
from the request, the server being up and the browser's cache empty, until recommendations can be
picked. An *interaction* is the time from the browser's own event (a click, the last key) to the
frame that shows what it asked for: what the visitor waits. Each kind is repeated with other items;
values are medians, intervals the fastest and the slowest. Needs the extras ``demo`` and ``dev``.
"""

import argparse
import os
import shutil
import socket
import statistics
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np
from playwright.sync_api import Page, TimeoutError, sync_playwright

from twotower.bundle import Bundle, load_bundle
from twotower.evaluation.provenance import PACKAGES, collect_meta
from twotower.evaluation.results import Row, write_results

RESULTS: Final = Path(__file__).parent / "results" / "demo-speed.json"
LIMITS: Final = {"first-page": 3.0, "interaction": 0.3}
"""Seconds that the median may take."""
WATCH: Final = """
for (const kind of ['click', 'input', 'keydown'])
  addEventListener(kind, () => { window.acted = performance.now(); }, true);
window.await_change = (seen) => {
  window.changed = null;
  const look = () => seen() ? (window.changed = performance.now()) : requestAnimationFrame(look);
  requestAnimationFrame(look);
};
"""
IDLE: Final = (
    "document.querySelector('[data-testid=stApp]').dataset.testScriptState === 'notRunning'"
)
CARDS: Final = "[...document.querySelectorAll('.st-key-recommendations .tt-title')]"
TITLES: Final = f"{CARDS}.map(one => one.textContent).join()"
Act = Callable[[], None]


class Visit:
    """A page in the browser, and how long each thing done there took, in seconds."""

    def __init__(self, page: Page, address: str) -> None:
        self.page, self.address = page, address
        self.took: dict[str, list[float]] = {}

    def timed(self, kind: str, act: Act, seen: str) -> None:
        """Do something, and wait until a condition in JavaScript holds that did not before."""
        self.settle()
        if self.page.evaluate(f"!!({seen})"):
            sys.exit(f"{kind}: what is waited for is there before: {seen}")
        self.page.evaluate(f"await_change(() => {seen})")
        act()
        try:
            self.page.wait_for_function("window.changed !== null", timeout=60_000)
        except TimeoutError:
            sys.exit(f"{kind}: never seen: {seen}")
        spent = self.page.evaluate("changed - acted") / 1000
        self.took.setdefault(kind, []).append(spent)

    def settle(self) -> None:
        """Wait until the page is drawn, and the browser has nothing left to do."""
        self.page.wait_for_function(IDLE)
        self.page.wait_for_timeout(200)

    def changes(self, kind: str, act: Act) -> None:
        """Do what must change the recommendations, all ten there again."""
        self.settle()
        before = self.page.evaluate(TITLES)
        self.timed(kind, act, f"{TITLES} !== {before!r} && {CARDS}.length === 10")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--bundle", type=Path, default=Path("runs/video-games/bundle"))
    parser.add_argument("--starts", type=int, default=3, help="times that the server is started")
    parser.add_argument("--rounds", type=int, default=5, help="repeats of every interaction")
    parser.add_argument("--out", type=Path, default=RESULTS)
    given = parser.parse_args()
    started = datetime.now(UTC)
    bundle = load_bundle(given.bundle)
    searches = typed_titles(bundle, given.rounds)
    first: list[float] = []
    took: dict[str, list[float]] = {}
    with sync_playwright() as playwright:
        chromium = shutil.which("chromium") or shutil.which("chromium-browser")
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        for start in range(given.starts):
            with served(given.bundle) as address:
                page = browser.new_page(viewport={"width": 1280, "height": 900})
                page.set_default_timeout(120_000)
                page.add_init_script(WATCH)
                first.append(first_page(page, address))
                if start == given.starts - 1:
                    took = interactions(Visit(page, address), searches)
                page.close()
        browser.close()
    rows = list(result_rows(bundle, first, took))
    meta = collect_meta(started, packages=(*PACKAGES, "streamlit", "plotly", "playwright"))
    write_results(given.out, meta, rows)
    for row in rows:
        print(f"{row.protocol:12s} {row.metric:28s} {row.value:8.3f} [{row.low}, {row.high}]")
    slow = [row for row in rows if row.metric == "seconds" and row.value > LIMITS[row.protocol]]
    if slow:
        sys.exit(f"too slow: {', '.join(row.protocol for row in slow)}")


def typed_titles(bundle: Bundle, count: int) -> list[str]:
    """First words of often bought items, with a letter lost: what a visitor types."""
    contents = bundle.contents
    counts = np.bincount(contents.histories.items, minlength=len(contents.items))
    titles = contents.catalogue["title"].to_list()
    texts: dict[str, None] = {}
    for row in np.argsort(-counts, kind="stable").tolist():
        words = [word for word in (titles[row] or "").split()[:3] if word.isalpha()]
        if words and len(words[0]) > 5:
            texts.setdefault(" ".join([words[0][:3] + words[0][4:], *words[1:]]))
        if len(texts) == count:
            break
    return list(texts)


@contextmanager
def served(bundle: Path) -> Iterator[str]:
    """The address of a demo of its own."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    start = "import sys; from twotower.cli import main; main(sys.argv[1:])"
    command = [sys.executable, "-c", start, "demo", "--bundle", str(bundle), "--port", str(port)]
    server = subprocess.Popen(
        command, stdout=subprocess.DEVNULL, env=os.environ | {"NO_PROXY": "*"}
    )
    address = f"http://127.0.0.1:{port}"
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        for _ in range(6000):
            if server.poll() is not None:
                sys.exit("the demo did not start")
            try:
                opener.open(f"{address}/_stcore/health", timeout=2).close()
                break
            except OSError:
                time.sleep(0.02)
        yield address
    finally:
        server.terminate()
        server.wait()


def first_page(page: Page, address: str) -> float:
    """Seconds from the request to a page that can be used."""
    began = time.perf_counter()
    page.goto(address, wait_until="commit")
    page.get_by_label("Search titles").wait_for()
    page.locator("[class*=st-key-scenario]").first.wait_for()
    page.locator(".tt-foot").wait_for()
    return time.perf_counter() - began


def interactions(visit: Visit, searches: list[str]) -> dict[str, list[float]]:
    """Do everything once for each search, in the order in which a visitor might."""
    page = visit.page
    button = page.get_by_role("button")
    for number, text in enumerate(searches):
        scenarios = page.locator("[class*=st-key-scenario]")
        scenario = scenarios.nth(number % scenarios.count()).get_by_role("button").first
        visit.changes("scenario", scenario.click)
        box = page.get_by_label("Search titles")
        visit.timed(
            "search",
            partial(box.fill, text),
            "document.querySelectorAll('[class*=st-key-pick-]').length > 0",
        )
        page.wait_for_timeout(1000)
        visit.changes("pick", page.locator("[class*=st-key-pick-] button").first.click)
        more = page.locator("[class*=st-key-more-] button")
        visit.changes("like-it-too", more.first.click)
        visit.changes("remove", page.locator("[class*=st-key-remove-] button").first.click)
        slider = page.get_by_role("slider")
        slider.focus()
        visit.changes("variety", partial(slider.press, "End"))
        visit.timed(
            "simpler-models",
            page.get_by_text("Compare with simpler models").click,
            "document.querySelectorAll('.tt-list').length > 0",
        )
        visit.settle()
        page.get_by_text("Compare with simpler models").click()
        category(visit)
        slider.press("Home")
        visit.settle()
        visit.timed(
            "open-item",
            page.locator("[class*=st-key-open-] button").nth(number).click,
            "document.querySelector('.st-key-chosen-item') "
            "&& document.querySelectorAll('.tt-list').length > 1",
        )
        to_page(visit, "known-user", "document.querySelectorAll('.tt-list').length > 1")
        before = page.evaluate("document.querySelector('.tt-lists').textContent")
        visit.timed(
            "another-user",
            button.get_by_text("Another user").click,
            f"(document.querySelector('.tt-lists')?.textContent ?? {before!r}) !== {before!r}",
        )
        to_page(visit, "models", "document.querySelector('.js-plotly-plot, .stAlert')")
        to_page(visit, "data", "document.querySelector('.js-plotly-plot .main-svg')")
        to_page(visit, "", f"{CARDS}.length > 0")
        visit.settle()
        button.get_by_text("Start over").click()
        page.locator("[class*=st-key-scenario]").first.wait_for()
    return visit.took


def category(visit: Visit) -> None:
    """Choose a category that not all that is shown has, and take it back."""
    page = visit.page
    page.wait_for_timeout(1000)  # until what was done before has begun to be drawn
    visit.settle()
    box = page.get_by_label("Only these categories")
    box.focus()
    box.press("ArrowDown")  # a click upon a box that has the focus already closes it
    option = page.get_by_role("option").nth(1)
    option.wait_for()
    name = option.inner_text()
    visit.timed(
        "category",
        option.click,
        "[...document.querySelectorAll('.st-key-recommendations .tt-meta')]"
        f".every(one => one.textContent.startsWith({name!r}))",
    )
    page.keyboard.press("Escape")
    visit.settle()
    page.get_by_role("button", name="Clear all").click()
    visit.settle()


def to_page(visit: Visit, name: str, seen: str) -> None:
    """Open a page by the menu."""
    link = visit.page.locator(f"a[href='{visit.address}/{name}']").first
    heading = visit.page.evaluate("document.querySelector('h1').textContent")
    visit.timed(
        f"page-{name or 'for-you'}",
        link.click,
        f"document.querySelector('h1')?.textContent !== {heading!r} && !!({seen})",
    )


def result_rows(bundle: Bundle, first: list[float], took: dict[str, list[float]]) -> Iterator[Row]:
    """A row for the first page, one for all interactions, and one for each kind."""

    def row(protocol: str, metric: str, values: list[float]) -> Row:
        info = bundle.manifest.info
        return Row.of_repeats(
            values, dataset=info.dataset, split="everything", model=info.model,
            protocol=protocol, metric=metric, users=len(values),
        )  # fmt: skip

    everything = [spent for values in took.values() for spent in values]
    yield row("first-page", "seconds", first)
    yield row("interaction", "seconds", everything)
    share: Any = [float(spent < LIMITS["interaction"]) for spent in everything]
    yield row("interaction", "share-under-300-ms", [statistics.mean(share)])
    for kind, values in took.items():
        yield row("interaction", f"seconds-to-{kind}", values)


if __name__ == "__main__":
    main()
