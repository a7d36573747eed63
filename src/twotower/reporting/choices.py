"""Text descriptions of settings selected on validation."""

from collections.abc import Mapping
from typing import Any


def columns_in_words(record: Mapping[str, Any]) -> tuple[str, str] | None:
    """Which sides' declared columns are read, and the metric of each choice; None without a choice.

    >>> columns_in_words({"read": ["events"], "tried": {"none": 0.1, "items": 0.05, "events": 0.2}})
    ('events read', 'none 0.1000, items 0.0500, events 0.2000')
    """
    read, tried = record.get("read"), record.get("tried")
    if "with" in record:  # of a release that chose between all and none
        read = ["all"] if read == "all" else []
        tried = {"none": record["without"], "all": record["with"]}
    if tried is None:
        return None
    what = f"{' and '.join(read or ())} read" if read else "none read"
    return what, ", ".join(f"{name} {metric:.4f}" for name, metric in tried.items())
