"""Amazon Reviews 2023 (McAuley Lab): file names and download of a category.

Hou et al., "Bridging Language and Items for Retrieval and Recommendation", 2024;
https://amazon-reviews-2023.github.io.
"""

import difflib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from twotower.data.download.fetch import DownloadProgress, Record, download_file
from twotower.errors import DownloadError, InputError

BASE_URL: Final = "https://mcauleylab.ucsd.edu/public_datasets/data/amazon_2023/"
BASE_URL_VARIABLE: Final = "TWOTOWER_AMAZON_URL"
"""Environment variable with the address of a mirror."""

CATEGORIES: Final = (
    "All_Beauty", "Amazon_Fashion", "Appliances", "Arts_Crafts_and_Sewing", "Automotive",
    "Baby_Products", "Beauty_and_Personal_Care", "Books", "CDs_and_Vinyl",
    "Cell_Phones_and_Accessories", "Clothing_Shoes_and_Jewelry", "Digital_Music", "Electronics",
    "Gift_Cards", "Grocery_and_Gourmet_Food", "Handmade_Products", "Health_and_Household",
    "Health_and_Personal_Care", "Home_and_Kitchen", "Industrial_and_Scientific", "Kindle_Store",
    "Magazine_Subscriptions", "Movies_and_TV", "Musical_Instruments", "Office_Products",
    "Patio_Lawn_and_Garden", "Pet_Supplies", "Software", "Sports_and_Outdoors",
    "Subscription_Boxes", "Tools_and_Home_Improvement", "Toys_and_Games", "Video_Games",
    "Unknown",
)  # fmt: skip

_PARTS: Final = ("train", "valid", "test")
KINDS: Final[Mapping[str, tuple[str, ...]]] = {
    "raw": ("raw/review_categories/{}.jsonl.gz",),
    "rating_only": ("benchmark/5core/rating_only/{}.csv.gz",),
    "last_out": tuple(f"benchmark/5core/last_out/{{}}.{part}.csv.gz" for part in _PARTS),
    "last_out_w_his": tuple(
        f"benchmark/5core/last_out_w_his/{{}}.{part}.csv.gz" for part in _PARTS
    ),
}
"""Files of each kind of log: all reviews, the 5-core, the 5-core in three parts (with the
user's history as a column). Braces stand for the category."""
CATALOGUE_FILE: Final = "raw/meta_categories/meta_{}.jsonl.gz"


def slug(category: str) -> str:
    """The name as the command line writes it.

    >>> slug("Video_Games")
    'video-games'
    """
    return category.strip().lower().replace("_", "-").replace(" ", "-")


def find_category(name: str) -> str:
    """The category that a slug or name means; `InputError` with the nearest where none.

    >>> find_category("video-games")
    'Video_Games'
    """
    by_slug = {slug(category): category for category in CATEGORIES}
    if slug(name) in by_slug:
        return by_slug[slug(name)]
    near = difflib.get_close_matches(slug(name), by_slug, n=3) or sorted(by_slug)
    raise InputError(
        f"unknown category {name!r} of Amazon Reviews 2023", f"pass one of {', '.join(near)}"
    )


def download(
    category: str,
    kind: str,
    folder: Path,
    *,
    catalogue: bool = True,
    base_url: str | None = None,
    retries: int = 5,
    backoff: float = 1.0,
    timeout: float = 30.0,
    progress: DownloadProgress | None = None,
) -> list[Path]:
    """Fetch the files of one category, except those that are already there.

    Folders are as on the server, one for each kind: ``review_categories/``,
    ``meta_categories/``, ``rating_only/``, ``last_out/``, ``last_out_w_his/``. The file
    ``downloads.json`` records the source, size and sha256 of each; a file that matches its entry
    is not fetched again.

    ``category`` is a slug or name, ``kind`` one of `KINDS`, ``catalogue`` whether to fetch the
    products' metadata too. ``base_url`` is the address of a mirror; else it is that of the
    environment variable ``TWOTOWER_AMAZON_URL``, else the publisher's. The others are as in
    `download_file`.

    Returns
    -------
    list of Path
        The log's files, then the catalogue.
    """
    name = find_category(category)
    if kind not in KINDS:
        raise InputError(f"unknown kind {kind!r}", f"pass one of {', '.join(KINDS)}")
    base = (base_url or os.environ.get(BASE_URL_VARIABLE) or BASE_URL).rstrip("/")
    record = Record(Path(folder))
    paths = []
    for template in (*KINDS[kind], *([CATALOGUE_FILE] if catalogue else [])):
        remote = template.format(name)
        target = Path(folder, *remote.split("/")[-2:])
        if record.matches(target):
            if progress:
                progress(target.name, target.stat().st_size, target.stat().st_size)
        else:
            fetched = download_file(
                f"{base}/{remote}",
                target,
                retries=retries,
                backoff=backoff,
                timeout=timeout,
                progress=progress,
            )
            try:
                record.add(fetched)
            except OSError as error:
                raise DownloadError(f"cannot write {record.path}: {error.strerror}") from error
        paths.append(target)
    return paths
