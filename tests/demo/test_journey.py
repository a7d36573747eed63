"""A visitor's way through the demo, in a real browser."""

import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

browsers = pytest.importorskip("playwright.sync_api", reason="needs the package playwright")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
PAGES = {
    "Known user": "Known user",
    "Item": "Item details",
    "Models": "How good is it?",
    "Serving": "Serving latency",
    "Operations": "Operations",
    "About the data": "Training data",
    "For you": "Pick a few things you like",
}
PATIENCE_S = 180
"""What the demo may take to start, and a page to be drawn, on a machine that is slow and busy."""
ADDRESSES = ("", "known-user", "item", "models", "serving", "operations", "data")

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium: apt-get install chromium")


@pytest.fixture(scope="module")
def address(bundle_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Of the demo, started as a user starts it."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    start = "import sys; from twotower.cli import main; main(sys.argv[1:])"
    command = ["demo", "--bundle", str(bundle_folder), "--port", str(port)]
    log = tmp_path_factory.mktemp("log") / "demo.txt"
    with log.open("w") as output:
        server = subprocess.Popen(
            [sys.executable, "-c", start, *command],
            stdout=output, stderr=subprocess.STDOUT, env=os.environ | {"NO_PROXY": "*"},
        )  # fmt: skip
        try:
            wait_for(f"http://127.0.0.1:{port}/_stcore/health", server, log)
            yield f"http://127.0.0.1:{port}"
        finally:
            server.terminate()
            assert server.wait(20) is not None
    assert "Traceback" not in log.read_text()


def wait_for(url: str, server: "subprocess.Popen[bytes]", log: Path) -> None:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    end = time.monotonic() + PATIENCE_S
    while time.monotonic() < end and server.poll() is None:
        try:
            with opener.open(url, timeout=2):
                return
        except OSError:
            time.sleep(0.1)
    pytest.fail(f"the demo did not start: {log.read_text()}")


class Visit:
    """A page of the browser, and what went wrong on it."""

    def __init__(self, page: Any) -> None:
        self.page = page
        self.wrong: list[str] = []
        page.on("pageerror", lambda error: self.wrong.append(f"error: {error}"))
        page.on(
            "console",
            lambda said: said.type == "error" and self.wrong.append(f"console: {said.text}"),
        )

    def expect(self, what: str) -> None:
        self.page.wait_for_function(what, timeout=60_000)

    def texts(self, selector: str) -> list[str]:
        return [text.strip() for text in self.page.locator(selector).all_inner_texts()]

    def pick(self, text: str, title: str) -> str:
        """Search, wait until the title comes first, and pick it."""
        before = self.page.get_by_role("button", name="Remove").count()
        box = self.page.get_by_label("Search titles")
        box.press_sequentially(text, delay=5)
        self.expect(f"document.querySelector('.tt-small .tt-title')?.innerText === {title!r}")
        self.page.get_by_role("button", name="Pick", exact=True).first.click()
        self.expect(f"document.body.innerText.includes('Your picks ({before + 1})')")
        self.settle()
        return title

    def choose(self, label: str, option: str) -> None:
        """Choose an option of a list, which may close by itself where the page is redrawn."""
        box = self.page.get_by_role("combobox", name=label)
        chosen = self.page.locator(f"[data-tag][aria-label='{option}']").last
        for _ in range(20):
            box.fill(option)
            box.press("Enter")
            with suppress(browsers.TimeoutError):
                chosen.wait_for(timeout=3_000)
                return
        pytest.fail(f"{option!r} could not be chosen from {label!r}")

    def settle(self) -> None:
        """Wait until the page is drawn, so that what is typed next is not overwritten."""
        self.expect(
            "document.querySelector('[data-testid=stApp]').dataset.testScriptState === 'notRunning'"
        )

    def recommended(self) -> list[str]:
        titles = self.texts(".st-key-recommendations .tt-title")
        return [title.partition(". ")[2] for title in titles]


@contextmanager
def browser_page(**options: Any) -> Iterator[Any]:
    with browsers.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser.new_page(**options)
        browser.close()


@pytest.fixture
def visit(address: str) -> Iterator[Visit]:
    with browser_page(viewport={"width": 1280, "height": 900}) as page:
        made = Visit(page)
        page.goto(address)
        page.locator(".tt-foot").wait_for(timeout=1000 * PATIENCE_S)
        made.settle()
        yield made


def test_from_three_picks_to_every_page(visit: Visit) -> None:
    page = visit.page
    picks = [
        visit.pick("dragon saga 1", "Dragon Saga 1"),
        visit.pick("rcaing saga 7", "Racing Saga 7"),
        visit.pick("bold sons", "<b>Bold</b><script>window.broken = true</script> & Sons"),
    ]
    visit.expect("document.querySelectorAll('.st-key-recommendations .tt-title').length === 10")
    shown = visit.recommended()
    assert len(set(shown)) == 10
    assert not set(picks) & set(shown)

    page.get_by_text("Filters and variety").click()
    visit.settle()
    visit.choose("Only these categories", "sport")
    visit.expect(
        "[...document.querySelectorAll('.st-key-recommendations .tt-meta')]"
        ".every(one => one.innerText.startsWith('sport'))"
    )
    page.keyboard.press("Escape")
    narrowed = visit.recommended()
    assert narrowed != shown

    page.get_by_role("button", name="Details").first.click()
    visit.expect("document.querySelector('h1')?.innerText === 'Item details'")
    assert narrowed[0] in visit.texts(".st-key-chosen-item .tt-title")
    page.locator(".js-plotly-plot").first.wait_for(timeout=60_000)

    for name, heading in PAGES.items():
        page.get_by_role("link", name=name, exact=True).click()
        visit.expect(f"document.querySelector('h1')?.innerText === {heading!r}")
        page.locator(".tt-foot").wait_for(timeout=1000 * PATIENCE_S)
        assert page.locator("[data-testid=stException]").count() == 0
    assert page.get_by_text("Your picks (3)").count() == 1
    assert page.evaluate("window.broken") is None
    assert visit.wrong == []


def test_a_phone_shows_everything_without_scrolling_sideways(visit: Visit) -> None:
    visit.page.set_viewport_size({"width": 390, "height": 844})
    visit.pick("dragon saga 1", "Dragon Saga 1")
    visit.expect("document.querySelectorAll('.st-key-recommendations .tt-title').length === 10")
    wide = visit.page.evaluate(
        "[...document.querySelectorAll('.stMainBlockContainer *')]"
        ".filter(one => one.getBoundingClientRect().right > 391).length"
    )
    assert wide == 0
    assert visit.wrong == []


def test_the_keyboard_is_enough(visit: Visit) -> None:
    page = visit.page
    page.get_by_label("Search titles").focus()
    page.keyboard.type("racing saga 7")
    # Popular items can be picked too: the button that is wanted comes with the result.
    visit.expect("document.querySelector('.tt-small .tt-title')?.innerText === 'Racing Saga 7'")
    visit.settle()
    reached = []
    for _ in range(8):
        page.keyboard.press("Tab")
        reached.append(page.evaluate("document.activeElement.innerText"))
        if "Pick" in reached[-1]:
            break
    assert "Pick" in reached[-1], reached
    page.keyboard.press("Enter")
    visit.expect("document.body.innerText.includes('Your picks (1)')")
    assert visit.wrong == []


@pytest.mark.parametrize(("theme", "width"), [("light", 1280), ("dark", 390)])
def test_axe_finds_nothing_serious_on_any_page(address: str, theme: str, width: int) -> None:
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="extra 'dev'")
    serious = []
    with browser_page(viewport={"width": width, "height": 900}, color_scheme=theme) as page:
        page.set_default_timeout(1000 * PATIENCE_S)
        for name in ADDRESSES:
            page.goto(f"{address}/{name}")
            page.locator(".tt-foot").wait_for(timeout=1000 * PATIENCE_S)
            Visit(page).settle()
            serious += [
                (name, found["id"], [node["html"] for node in found["nodes"]])
                for found in axe.Axe().run(page).response["violations"]
                if found["impact"] in ("serious", "critical")
            ]
    assert serious == []
