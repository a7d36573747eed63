"""Take the screenshots in this folder: ``python docs/images/take.py --bundle runs/sample/bundle``.

Starts the demo, opens its pages in the system's Chromium at two widths, light and dark, and writes
small PNG files beside this script. Needs the extras ``demo`` and ``dev``.
"""

import argparse
import io
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from typing import Any

from PIL import Image
from playwright.sync_api import sync_playwright

HERE = Path(__file__).resolve().parent
MOST_BYTES = 300_000
WIDTHS = {"wide": 1280, "phone": 390}
LONGEST = {"wide": 1800, "phone": 1500}
PAGES = ("for-you", "known-user", "item", "models", "serving", "operations", "data")
ON_PHONES = ("for-you", "item")


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--bundle", default="runs/sample/bundle")
    parser.add_argument("--out", type=Path, default=HERE)
    parser.add_argument("--all", action="store_true", help="every page on phones too")
    parser.add_argument("--page", choices=PAGES, action="append", help="these alone")
    given = parser.parse_args()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    start = "import sys; from twotower.cli import main; main(sys.argv[1:])"
    command = [sys.executable, "-c", start, "demo", "--bundle", given.bundle, "--port", str(port)]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    try:
        address = f"http://127.0.0.1:{port}"
        _wait(address)
        with sync_playwright() as playwright:
            chromium = shutil.which("chromium") or shutil.which("chromium-browser")
            browser = playwright.chromium.launch(
                executable_path=chromium, args=["--no-sandbox", "--force-prefers-reduced-motion"]
            )
            for theme in ("light", "dark"):
                for size, width in WIDTHS.items():
                    page = browser.new_page(
                        viewport={"width": width, "height": 900}, color_scheme=theme
                    )
                    page.set_default_timeout(120_000)
                    _visit(page, address, size, theme, given)
            browser.close()
    finally:
        server.terminate()
        server.wait()


def _wait(address: str) -> None:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    for _ in range(3000):
        try:
            opener.open(f"{address}/_stcore/health", timeout=2).close()
            return
        except OSError:
            time.sleep(0.1)
    sys.exit("the demo did not start")


def _visit(page: Any, address: str, size: str, theme: str, given: argparse.Namespace) -> None:
    """Pick by the first scenario, then take every page in turn with the picks kept."""
    page.goto(address)
    page.locator(".tt-foot").wait_for()
    if given.all:
        page.locator("[class*=st-key-scenario]").get_by_role("button").first.wait_for()
        _settle(page)
        _take(page, given.out / f"start-{size}-{theme}.png", size)
    page.locator("[class*=st-key-scenario]").get_by_role("button").first.click()
    page.locator(".st-key-recommendations").wait_for()
    names = PAGES if size == "wide" or given.all else ON_PHONES
    for name in (name for name in names if name in (given.page or PAGES)):
        if name == "item":
            _go(page, address, "for-you")
            page.get_by_role("button", name="Details").first.click()
            page.locator(".st-key-chosen-item").wait_for()
        elif name != "for-you":
            _go(page, address, name)
        _settle(page)
        _take(page, given.out / f"{name}-{size}-{theme}.png", size)


def _go(page: Any, address: str, name: str) -> None:
    """By the menu: another address would begin a new session."""
    wanted = f"{address}/{'' if name == 'for-you' else name}"
    if page.url != wanted:
        link = page.locator(f"a[href='{wanted}']").first
        if (link.bounding_box() or {"x": -1})["x"] < 0:  # on a phone the menu is folded
            page.locator("[data-testid=stExpandSidebarButton]").first.click()
            page.wait_for_timeout(800)
        link.click()
        page.wait_for_url(wanted)
        _settle(page)


def _settle(page: Any) -> None:
    page.wait_for_timeout(500)
    page.wait_for_function(
        "document.querySelector('[data-testid=stApp]').dataset.testScriptState === 'notRunning'",
        timeout=120_000,
    )
    page.locator(".tt-foot").wait_for()
    page.wait_for_timeout(1500)


def _take(page: Any, path: Path, size: str) -> None:
    """The page from its top."""
    width = WIDTHS[size]
    whole = page.evaluate("document.querySelector('[data-testid=stMain]').scrollHeight")
    page.set_viewport_size({"width": width, "height": min(int(whole), LONGEST[size])})
    page.evaluate("document.querySelector('[data-testid=stMain]').scrollTo(0, 0)")
    page.wait_for_timeout(1200)
    image = Image.open(io.BytesIO(page.screenshot())).convert("RGB")
    page.set_viewport_size({"width": width, "height": 900})
    image.save(path, optimize=True)
    if os.path.getsize(path) > MOST_BYTES:
        image.quantize(256, dither=Image.Dither.NONE).save(path, optimize=True)
    print(path.name, f"{os.path.getsize(path):,} bytes")


if __name__ == "__main__":
    main()
