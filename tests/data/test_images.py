from collections.abc import Sequence
from pathlib import Path

import polars as pl
import pytest

from twotower.data.download import FetchedImage
from twotower.data.images import locate_images


def no_fetching(urls: Sequence[str]) -> dict[str, FetchedImage]:
    pytest.fail(f"asked for {urls}")


def catalogue(*images: str | None) -> pl.DataFrame:
    return pl.DataFrame({"image": images}, schema={"image": pl.String})


def test_paths_are_looked_up_and_addresses_fetched(tmp_path: Path) -> None:
    (tmp_path / "covers").mkdir()
    (tmp_path / "covers" / "a.png").touch()
    good, bad = "https://shop.test/b.png", "http://shop.test/c.png"

    def fetch(urls: Sequence[str]) -> dict[str, FetchedImage]:
        assert urls == [good, bad, good]
        return {
            good: FetchedImage(good, tmp_path / "b"),
            bad: FetchedImage(bad, None, "the server answered 404 Not Found"),
        }

    found = locate_images(catalogue("covers/a.png", None, good, bad, good), tmp_path, fetch)
    cover = (tmp_path / "covers" / "a.png").resolve()
    assert found.paths == [cover, None, tmp_path / "b", None, tmp_path / "b"]
    assert found.rejects == {3: "the server answered 404 Not Found"}
    assert found.names[1] is None


def test_a_path_never_leads_out_of_the_folder(tmp_path: Path) -> None:
    folder = tmp_path / "images"
    folder.mkdir()
    (tmp_path / "secret.png").touch()
    (folder / "link.png").symlink_to(tmp_path / "secret.png")
    (folder / "fine.png").touch()
    names = ("../secret.png", str(tmp_path / "secret.png"), "link.png", str(folder / "fine.png"))
    found = locate_images(catalogue(*names), folder, no_fetching)
    assert found.paths == [None, None, None, (folder / "fine.png").resolve()]
    assert set(found.rejects.values()) == {"leads out of the folder of images"}


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("absent.png", "no such file"),
        (".", "no such file"),
        ("a\0b", "not a path"),
        ("x" * 5000, "not a path"),
        ("ftp://shop.test/a.png", "no such file"),
    ],
)
def test_what_is_no_file_says_why(tmp_path: Path, name: str, reason: str) -> None:
    assert locate_images(catalogue(name), tmp_path, no_fetching).rejects == {0: reason}


def test_a_path_needs_a_folder() -> None:
    found = locate_images(catalogue("a.png"), None, no_fetching)
    assert found.rejects == {0: "a path, and no folder of images is known"}
