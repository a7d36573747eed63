"""Downloads of public data sets over HTTP: resumable, and published only when complete."""

from twotower.data.download.amazon import (
    BASE_URL_VARIABLE,
    CATEGORIES,
    KINDS,
    download,
    find_category,
    slug,
)
from twotower.data.download.fetch import DownloadProgress, Fetched, download_file
from twotower.data.download.images import FetchedImage, fetch_images

__all__ = [
    "BASE_URL_VARIABLE",
    "CATEGORIES",
    "KINDS",
    "DownloadProgress",
    "Fetched",
    "FetchedImage",
    "download",
    "download_file",
    "fetch_images",
    "find_category",
    "slug",
]
